//! A desk whose servers are only numbers: what `benches/counts` counts of the pool.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::account::Limits;
use super::answer::Slot;
use super::desk::{Desk, Grant, Granted};
use super::effects::Effects;
use super::error::CheckoutError;
use super::lock::Mutex;
use super::number::Number;
use super::sched::{Lent, Sched};
use crate::config::Config;
use crate::net::Connector;
use crate::server::{Class, Endpoint, Keychain, Known, Life, Target};
use crate::tenant::SessionState;

/// As many as its configuration says.
const SERVERS: usize = 10;

/// What a session has: its place, its state, where it is answered.
type Client = (usize, Arc<Target>, Arc<Slot<Grant<Number>>>);

/// A cluster in which each tenant has one client.
pub struct CountedPool {
    desk: Desk<Number>,
    clients: Vec<Client>,
    next: usize,
    lent: VecDeque<(usize, Lent<Number>)>,
}

impl CountedPool {
    /// So many tenants, and ten servers that rest.
    #[must_use]
    pub fn new(tenants: usize) -> Self {
        let text = "[clusters.main]\nuser = \"app\"\ndatabase = \"app\"\nmax_server_connections = 10\n\
                    [users.app]\npassword = \"app\"\ntenants = [\"*\"]\n[tenancy]\ntenant_from = [\"user:.\"]\n\
                    unknown = \"template\"\n[tenants.\"*\"]\nquery_wait_timeout = \"1h\"\n";
        let config = Config::parse(text, PathBuf::new()).expect("it is right");
        let cluster = &config.clusters["main"];
        let tls = Connector::new(&cluster.tls).expect("there is none");
        let endpoint =
            Endpoint::new(cluster, tls, "app", "app", None, &Arc::new(Keychain::default()));
        let mut sched = Sched::new(Arc::clone(cluster));
        let pool = sched.pool(&endpoint);
        let clients = (0..tenants).map(|number| {
            let id = config.tenancy.name_pattern.parse(&format!("t{number}")).expect("a name");
            let tenant = config.tenant(&id).expect("there is a template");
            let place = sched.turns.enter(&id, Limits::of(&tenant), pool).expect("there is room");
            let class = Arc::new(Class::new());
            (place, Arc::new(Target::new(id, SessionState::default(), class)), Slot::new())
        });
        let clients: Vec<_> = clients.collect();
        let now = Instant::now();
        for _ in 0..SERVERS {
            let mut effects = Effects::default();
            sched.open(pool, false, now, &mut effects);
            let life = Life::new(now, Duration::from_hours(1));
            sched.dialled(pool, Number { known: Known::Neutral, life }, now, &mut effects);
        }
        Self { desk: Desk(Mutex::new(sched)), clients, next: 0, lent: VecDeque::new() }
    }

    /// The next client; what a session has of its own.
    fn ask(&mut self) -> (usize, Arc<Target>, Result<Granted<Number>, CheckoutError>) {
        self.next = (self.next + 1) % self.clients.len();
        let (place, target, slot) = &self.clients[self.next];
        (*place, Arc::clone(target), self.desk.ask(*place, slot, None, target))
    }

    /// A server is lent to the next tenant, and comes back.
    pub fn transaction(&mut self) {
        let (place, target, granted) = self.ask();
        if let Ok(Granted::Now(mut lent)) = granted {
            lent.server.known = Known::Exactly(target);
            self.give_back(place, lent);
        }
    }

    /// From now on all servers are lent.
    pub fn exhaust(&mut self) {
        for _ in 0..SERVERS {
            let (place, target, Ok(Granted::Now(mut lent))) = self.ask() else { return };
            lent.server.known = Known::Exactly(target);
            self.lent.push_back((place, lent));
        }
    }

    /// The next tenant waits, a server comes back, and goes to him.
    pub fn turn(&mut self) {
        let (place, target, Ok(Granted::Later(mut waiting, _))) = self.ask() else { return };
        if let Some((by, lent)) = self.lent.pop_front() {
            self.give_back(by, lent);
        }
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(Ok(mut lent)) = waiting.poll(&mut cx) {
            lent.server.known = Known::Exactly(target);
            self.lent.push_back((place, lent));
        }
    }

    fn give_back(&self, place: usize, lent: Lent<Number>) {
        drop(self.desk.0.lock().put_idle(place, lent, false));
    }
}
