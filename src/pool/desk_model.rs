//! The desk under a model checker: real tickets, turns and grants, with threads interleaved in many ways.
//!
//! Clients of two tenants in two pools ask, wait, give up, return servers and lose them, while logins succeed
//! and fail and the operator pauses, moves and resumes a tenant, changes the budget and stops the cluster. At
//! every moment: a server is with one client at most; no more exist than may; no tenant has more than it may.
//! In the end: everybody was answered, and no server is left. Nobody answered would be a deadlock, which the
//! checker finds.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Poll;
use std::time::{Duration, Instant};

use shuttle::Runner;
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::Mutex as Shared;
use shuttle::sync::atomic::{AtomicBool, AtomicUsize};
use shuttle::thread;

use super::account::Limits;
use super::answer::Slot;
use super::debt::CREDIT_MAX;
use super::desk::{Desk, Grant, Granted};
use super::effects::Effects;
use super::error::CheckoutError;
use super::lock::Mutex;
use super::rack::Pooled;
use super::sched::{Lent, Loss, Sched};
use crate::config::{Cluster, Config, Tenant};
use crate::engine::tick;
use crate::net::Connector;
use crate::server::switch::Fit;
use crate::server::{Class, Endpoint, Keychain, Life, LoginError, Target};
use crate::tenant::SessionState;

const CLIENTS: usize = 3;
const ROUNDS: usize = 2;

/// Servers that exist, and how many there may be.
struct Counts {
    open: AtomicUsize,
    max: AtomicUsize,
    held: [AtomicUsize; 2],
}

struct Fake {
    life: Life,
    lent: AtomicBool,
    world: Arc<Counts>,
}

impl Fake {
    fn open(world: &Arc<Counts>, generation: u64) -> Self {
        let mut life = Life::new(Instant::now(), Duration::from_hours(1));
        // It has stayed for long: it may make room at once.
        life.opened -= Duration::from_secs(1);
        life.generation = generation;
        Self { life, lent: AtomicBool::new(false), world: Arc::clone(world) }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.world.open.fetch_sub(1, SeqCst);
    }
}

impl Pooled for Fake {
    fn fit(&self, _target: &Arc<Target>) -> Fit {
        if thread_rng().gen_bool(0.5) { Fit::SameState } else { Fit::OtherTenant }
    }

    fn has_served(&self, _target: &Target) -> bool {
        false
    }

    fn is_here(&self) -> bool {
        true
    }

    fn served(&self) -> usize {
        0
    }

    fn close(self) {}

    fn life(&self) -> &Life {
        &self.life
    }

    fn life_mut(&mut self) -> &mut Life {
        &mut self.life
    }
}

/// Logins that were asked for.
type Dials = Shared<Vec<(usize, u64)>>;

struct Model {
    desk: Desk<Fake>,
    dials: Dials,
    world: Arc<Counts>,
    tenants: [Tenant; 2],
    endpoints: [Endpoint; 2],
    /// The first tenant, paused.
    paused: Tenant,
    /// The cluster, reached in another way.
    elsewhere: Arc<Cluster>,
    over: AtomicBool,
}

/// The number of clients and servers of each tenant in the configuration: one of `b`, two of `a`.
const TOML: &str = r#"
[clusters.main]
user = "saas"
database = "saas"
max_server_connections = 2
[users.app]
password = "pw"
tenants = ["*"]
[tenancy]
tenant_from = ["user:."]
[tenants.a]
max_server_connections = 2
guaranteed_server_connections = 1
[tenants.b]
database = "other"
max_server_connections = 1
"#;

impl Model {
    fn new() -> Arc<Self> {
        let parse = |text: &str| Config::parse(text, PathBuf::new()).unwrap();
        let tenant = |config: &Config, name: &str| {
            let id = config.tenancy.name_pattern.parse(name).unwrap();
            config.tenant(&id).unwrap()
        };
        let config = parse(TOML);
        let changed = TOML.replace("[tenants.a]", "[tenants.a]\nstate = \"paused\"");
        let changed = parse(&changed.replace("[clusters.main]", "[clusters.main]\nport = 6000"));
        let (paused, elsewhere) = (tenant(&changed, "a"), Arc::clone(&changed.clusters["main"]));
        let cluster = Arc::clone(&config.clusters["main"]);
        let tenants = ["a", "b"].map(|name| tenant(&config, name));
        let (keychain, tls) =
            (Arc::new(Keychain::default()), Connector::new(&cluster.tls).unwrap());
        let endpoints = ["saas", "other"]
            .map(|name| Endpoint::new(&cluster, tls.clone(), name, "saas", None, &keychain));
        let world = Arc::new(Counts {
            open: AtomicUsize::new(0),
            max: AtomicUsize::new(cluster.max_server_connections),
            held: [AtomicUsize::new(0), AtomicUsize::new(0)],
        });
        let desk = Desk(Mutex::new(Sched::new(cluster)));
        let (dials, over) = (Shared::new(Vec::new()), AtomicBool::new(false));
        Arc::new(Self { desk, dials, world, tenants, endpoints, paused, elsewhere, over })
    }

    fn carry_out(&self, effects: Effects<Fake>) {
        let Some(todo) = effects.into_todo() else { return };
        let dials = todo.dials.iter().map(|(pool, generation, _)| (*pool, *generation));
        self.dials.lock().unwrap().extend(dials);
    }

    fn with(&self, change: impl FnOnce(&mut Sched<Fake>, &mut Effects<Fake>)) {
        let mut effects = Effects::default();
        change(&mut self.desk.0.lock(), &mut effects);
        self.carry_out(effects);
    }

    /// One client of the tenant: asks again and again.
    fn client(&self, tenant: usize) {
        let (of, endpoint) = (&self.tenants[tenant], &self.endpoints[tenant]);
        let place = {
            let mut sched = self.desk.0.lock();
            let pool = sched.pool(endpoint);
            sched.turns.enter(&of.id, Limits::of(of), pool).unwrap()
        };
        let state = SessionState::default();
        let target = Arc::new(Target::new(of.id.clone(), state, Arc::new(Class::new())));
        let slot = Slot::new();
        for _ in 0..ROUNDS {
            while let Some(lent) = self.ask(place, &slot, &target) {
                let moved = match lent {
                    Ok(lent) => {
                        self.use_it(tenant, place, lent);
                        false
                    }
                    Err(CheckoutError::Moved) => true,
                    Err(_) => false,
                };
                if !moved {
                    break;
                }
            }
        }
        self.with(|sched, effects| sched.leave(place, effects));
    }

    /// `None`: it lost patience.
    fn ask(
        &self,
        place: usize,
        slot: &Arc<Slot<Grant<Fake>>>,
        target: &Arc<Target>,
    ) -> Option<Grant<Fake>> {
        let mut queued = match self.desk.ask(place, slot, None, target) {
            Ok(Granted::Now(lent)) => return Some(Ok(lent)),
            Err(error) => return Some(Err(error)),
            Ok(Granted::Later(queued, effects)) => {
                self.carry_out(effects);
                queued
            }
        };
        let mut looks = thread_rng().gen_range(0..4);
        let answer = block_on(std::future::poll_fn(|cx| match queued.poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if looks == 1 => Poll::Ready(None),
            Poll::Pending => {
                if looks > 1 {
                    looks -= 1;
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }));
        if answer.is_none()
            && let Some(lent) = queued.withdraw(&self.desk)
        {
            self.give_back(place, lent, false);
        }
        answer
    }

    fn use_it(&self, tenant: usize, place: usize, lent: Lent<Fake>) {
        assert!(!lent.server.lent.swap(true, SeqCst), "a server is with one client");
        let held = self.world.held[tenant].fetch_add(1, SeqCst) + 1;
        assert!(held <= self.tenants[tenant].quotas.max_server_connections, "a tenant's limit");
        thread::yield_now();
        self.world.held[tenant].fetch_sub(1, SeqCst);
        assert!(lent.server.lent.swap(false, SeqCst));
        // As a session does that keeps its server while its tenant is paused.
        let at_rest = thread_rng().gen_bool(0.3);
        if at_rest {
            self.desk.0.lock().rests_with_server(place);
        }
        if thread_rng().gen_bool(0.2) {
            let pool = lent.pool;
            drop(lent);
            self.lose((place, pool), at_rest);
        } else {
            self.give_back(place, lent, at_rest);
        }
    }

    /// Loses a server; perhaps it is one too many, and its tenant waits for a while.
    fn lose(&self, of: (usize, usize), at_rest: bool) {
        let losses = [Loss::Nobodys, Loss::Clients, Loss::Ended];
        let loss = losses[thread_rng().gen_range(0..losses.len())].clone();
        self.with(|sched, effects| {
            for _ in 0..if loss == Loss::Nobodys { 0 } else { CREDIT_MAX } {
                sched.turns.charge(of.0, tick());
            }
            sched.lost(of, at_rest, loss, effects);
        });
        thread::yield_now();
        self.with(|sched, effects| {
            sched.tick(Instant::now() + Duration::from_secs(5), effects);
        });
    }

    fn give_back(&self, place: usize, lent: Lent<Fake>, at_rest: bool) {
        let effects = self.desk.0.lock().put_idle(place, lent, at_rest);
        if let Some(effects) = effects {
            self.carry_out(effects);
        }
    }

    /// Logs in until all is over.
    fn dialler(&self) {
        loop {
            // Looked at first: what comes before that is seen.
            let over = self.over.load(SeqCst);
            let next = self.dials.lock().unwrap().pop();
            let Some((pool, generation)) = next else {
                if over {
                    return;
                }
                thread::yield_now();
                continue;
            };
            let now = Instant::now();
            if thread_rng().gen_bool(0.1) {
                let error = LoginError::TimedOut { after: Duration::ZERO };
                self.with(|sched, effects| {
                    sched.dial_failed(pool, error, now, effects);
                    // The clock goes on.
                    sched.tick(now + Duration::from_secs(5), effects);
                });
                continue;
            }
            let open = self.world.open.fetch_add(1, SeqCst) + 1;
            assert!(open <= self.world.max.load(SeqCst), "the budget");
            let server = Fake::open(&self.world, generation);
            self.with(|sched, effects| {
                sched.dialled(pool, server, now, effects);
            });
        }
    }

    /// Pauses the first tenant, moves it, lets it go on; then the cluster is reached otherwise.
    fn operator(&self) {
        let tenant = &self.tenants[0];
        self.with(|sched, effects| sched.amend(&self.paused, None, effects));
        self.desk.0.lock().turns.hold(&tenant.id, tick());
        self.with(|sched, effects| sched.amend(tenant, Some(&self.endpoints[1]), effects));
        self.with(|sched, effects| sched.renew(Arc::clone(&self.elsewhere), effects));
        self.desk.0.lock().dismiss(&self.tenants[1].id);
    }
}

fn scenario(stops_early: bool) {
    let model = Model::new();
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let model = Arc::clone(&model);
        clients.push(thread::spawn(move || model.client(number % 2)));
    }
    let dialler = thread::spawn({
        let model = Arc::clone(&model);
        move || model.dialler()
    });
    let operator = thread::spawn({
        let model = Arc::clone(&model);
        move || model.operator()
    });
    operator.join().unwrap();
    if stops_early {
        model.with(Sched::stop);
    }
    for client in clients {
        client.join().unwrap();
    }
    model.over.store(true, SeqCst);
    dialler.join().unwrap();
    assert!(model.desk.0.lock().turns.nobody_waits());
    assert_eq!(model.desk.0.lock().turns.tenants().count(), 0);
    model.with(Sched::stop);
    assert_eq!(model.desk.0.lock().turns.budget().0, 0, "the books know of no server");
    assert_eq!(model.world.open.load(SeqCst), 0, "and there is none");
}

fn check(scheduler: impl Scheduler + 'static, stops_early: bool) {
    let mut config = shuttle::Config::new();
    // A configuration is read in it.
    config.stack_size = 512 * 1024;
    Runner::new(scheduler, config).run(move || scenario(stops_early));
}

#[test]
fn everybody_is_answered_and_no_server_is_lost_or_lent_twice() {
    check(RandomScheduler::new(4000), false);
}

#[test]
fn nor_when_the_cluster_stops_in_the_middle() {
    check(RandomScheduler::new(2000), true);
}

#[test]
fn nor_in_interleavings_with_few_and_late_changes() {
    check(PctScheduler::new(4, 2000), false);
}
