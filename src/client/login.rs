//! From a start-up packet to a [`Session`]: who, which tenant, which state, within which limits.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use super::by_path::ByPath;
use super::hello::Hello;
use super::own_state::{own_state, with_tenants_name};
use super::proof::{Who, negotiate, prove, slow_down};
use super::refusal::Refusal;
use super::session::{Parts, Session};
use super::welcome::APPLICATION_NAME;
use super::{Access, Shared, refusal::Severity};
use crate::auth::{Authenticated, Door};
use crate::config::{Availability, Guard, Policy, PoolMode, Tenant};
use crate::net::{Buffer, Conversation};
use crate::pool::{CheckoutError, ClientFacts, Seat, SeatError, TooManyClients};
use crate::tenant::{Claim, Claimant, SessionState, Source, TenantId, claim};
use crate::wire::backend::TransactionStatus;
use crate::wire::build;

/// What most clients are told at their login is no longer.
const WELCOME_LEN: usize = 1024;

/// How long a login may go on once the pooler drains. A login takes milliseconds.
pub const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// Logs a client in.
///
/// # Errors
/// The [`Refusal`]; it was sent to the client, which is to be closed.
pub async fn login(
    mut talk: Conversation,
    hello: Hello,
    listener_tenant: Option<&str>,
    access: &Access,
    shared: &Arc<Shared>,
) -> Result<Box<Session>, Refusal> {
    let admitted = tokio::select! {
        admitted = admit(&mut talk, &hello, listener_tenant, access, shared) => admitted,
        () = shared.shutdown.drained_for(DRAIN_GRACE) => Err(Refusal::ShuttingDown),
    };
    match admitted {
        Ok(admitted) => Ok(begin(talk, &hello, admitted, shared).await),
        Err(refusal) => {
            shared.count_refused_login(&refusal);
            let mut out = BytesMut::new();
            refusal.write(Severity::Fatal, &mut out);
            // A client that is gone cannot be told.
            let _ = talk.send_last(&out).await;
            Err(refusal)
        }
    }
}

struct Admitted {
    permit: OwnedSemaphorePermit,
    entered: Entered,
    mode: PoolMode,
    user: String,
    version: u64,
}

async fn admit(
    talk: &mut Conversation,
    hello: &Hello,
    listener_tenant: Option<&str>,
    access: &Access,
    shared: &Arc<Shared>,
) -> Result<Admitted, Refusal> {
    if !shared.is_open() {
        return Err(Refusal::ShuttingDown);
    }
    let limit = shared.general.max_client_conn;
    let permit = Arc::clone(&shared.room).try_acquire_owned();
    let permit = permit.map_err(|_| Refusal::TooManyClients { limit })?;
    let tenancy = &access.config.tenancy;
    let who = Claimant {
        user: &hello.user,
        database: hello.database.as_deref(),
        settings: &hello.settings,
        sni: talk.stream.sni(),
        fixed: listener_tenant,
        shared_databases: &tenancy.shared_databases,
    };
    let claim = match claim(&tenancy.tenant_from, &tenancy.name_pattern, who) {
        Ok(claim) => claim,
        Err(error) => {
            slow_down(talk, None, shared).await;
            return Err(Refusal::Claim(error));
        }
    };
    let admitted = admit_as(talk, hello, &claim, permit, access, shared).await;
    if admitted.as_ref().is_err_and(Refusal::is_of_request) {
        slow_down(talk, Some(&claim), shared).await;
    }
    admitted
}

async fn admit_as(
    talk: &mut Conversation,
    hello: &Hello,
    claim: &Claim,
    permit: OwnedSemaphorePermit,
    access: &Access,
    shared: &Arc<Shared>,
) -> Result<Admitted, Refusal> {
    negotiate(talk, hello).await;
    let (user, given) = (&claim.user, &hello.user);
    let tenant_named = claim.tenant.as_ref().map(TenantId::as_str);
    let who = Who { user, given, tenant: tenant_named, door: Door::Pool };
    let proof = prove(talk, &who, access, shared).await?;
    let first = tenant(&proof, claim, access)?;
    shared.take_turn_to_connect(&first)?;
    learn_keys(&proof, &first, access);
    let mut access = shared.access();
    loop {
        match enter(talk, hello, (&proof, claim), &access, shared).await {
            // It was looked at too early; a reload has changed it since.
            Err(refusal) if refusal.is_outdated() => access = shared.access(),
            Err(refusal) => return Err(refusal),
            Ok(entered) => {
                let user_mode =
                    access.config.users.get(proof.user()).and_then(|user| user.pool_mode());
                let mode = hello.pool_mode.or(user_mode).unwrap_or(shared.general.pool_mode);
                let (user, version) = (proof.user().to_owned(), access.number);
                return Ok(Admitted { permit, entered, mode, user, version });
            }
        }
    }
}

/// What a client gets that may be its tenant: a place there, a state, and what is told of it.
struct Entered {
    tenant: Arc<Tenant>,
    seat: Arc<Seat>,
    welcome: super::welcome::Welcome,
    policy: Arc<Policy>,
    by_path: Option<Box<ByPath>>,
}

async fn enter(
    talk: &mut Conversation,
    hello: &Hello,
    (proof, claim): (&Authenticated, &Claim),
    access: &Access,
    shared: &Shared,
) -> Result<Entered, Refusal> {
    let tenancy = &access.config.tenancy;
    let tenant = tenant(proof, claim, access)?;
    let by_search_path = tenancy.tenant_from.iter().any(|s| matches!(s, Source::SearchPath));
    let by_path = by_search_path && claim.tenant.is_none();
    let policy = access.policy(&tenant, by_path);
    let guarded = policy.guard == Guard::Reject;
    let mut own = own_state(hello, &tenant, &tenancy.tenant_from, guarded)?;
    if shared.general.application_name_add_tenant {
        own = with_tenants_name(own, &tenant.id);
    }
    let state = tenant.baseline.overlay(&own);
    let seat = take_seat(&tenant, access, shared)?;
    // It may have to wait for a server: nobody should, for a client that is gone.
    let welcome = tokio::select! {
        welcome = shared.welcomes.get(&tenant, &state, &own, &seat, &shared.targets) => {
            welcome.map_err(|refusal| refusal.with_oldest(&shared.cancels))?
        }
        () = talk.closed() => {
            let problem = "unexpected end of the client's connection during login".to_owned();
            return Err(Refusal::Protocol { problem });
        }
    };
    let by_path = by_path.then(|| {
        // The first statement looks at the path: it may come from the start-up packet.
        let seen = shared.targets.get(&tenant.id, SessionState::default());
        Box::new(ByPath { startup: own, seen })
    });
    Ok(Entered { tenant, seat, welcome, policy, by_path })
}

/// A client's place among those of its tenant, where the tenant lives.
pub(super) fn take_seat(
    tenant: &Tenant,
    access: &Access,
    shared: &Shared,
) -> Result<Arc<Seat>, Refusal> {
    let (pools, endpoint) = access.home(tenant);
    let seat = Seat::take(pools, &endpoint, tenant, access.number);
    if seat.as_ref().is_ok_and(|seat| seat.is_beyond_limit()) {
        shared.is_audited(tenant, "max_client_connections");
    }
    let tenant = tenant.id.to_string();
    seat.map_err(|error| match error {
        SeatError::TooManyClients(TooManyClients { limit }) => {
            Refusal::TooManyTenantClients { tenant, limit }
        }
        SeatError::Outdated => Refusal::Checkout { tenant, error: CheckoutError::Moved },
    })
}

/// Servers may be logged in to as the user, if no password is configured for that.
fn learn_keys(proof: &Authenticated, tenant: &Tenant, access: &Access) {
    if tenant.password.is_none()
        && tenant.user == proof.user()
        && let Some(keys) = proof.keys()
        && access.keychain.learn(proof.user(), keys)
    {
        let (pools, endpoint) = access.home(tenant);
        pools.forget_failure(&endpoint);
    }
}

/// The tenant, if the user may be it. What does not exist is told only to who was let in.
fn tenant(proof: &Authenticated, claim: &Claim, access: &Access) -> Result<Arc<Tenant>, Refusal> {
    let tenancy = &access.config.tenancy;
    let id: TenantId = match (&claim.tenant, &tenancy.default_tenant) {
        (Some(id), _) => id.clone(),
        (None, Some(default)) => tenancy
            .name_pattern
            .parse(default)
            .map_err(|_| Refusal::UnknownTenant { tenant: default.clone() })?,
        (None, None) => {
            return Err(Refusal::NoTenant { accepted: tenancy.tenant_from_text.clone() });
        }
    };
    let tenant = may_enter(proof.user(), &id, access)?;
    not_disabled(&tenant, access)?;
    match &claim.database {
        Some(database)
            if *database != tenant.database && !tenancy.shared_databases.contains(database) =>
        {
            Err(Refusal::UnknownDatabase { database: database.clone(), tenant: id.to_string() })
        }
        _ => Ok(tenant),
    }
}

/// Nobody comes to a database that an operator has disabled; who is there may stay.
pub(super) fn not_disabled(tenant: &Tenant, access: &Access) -> Result<(), Refusal> {
    if !access.config.overrides.is_disabled(&tenant.database) {
        return Ok(());
    }
    let (database, tenant) = (tenant.database.clone(), tenant.id.to_string());
    Err(Refusal::Disabled { database, tenant })
}

/// The tenant of that name, if it is there for an authenticated user.
pub(super) fn may_enter(
    user: &str,
    id: &TenantId,
    access: &Access,
) -> Result<Arc<Tenant>, Refusal> {
    let rules = access.config.users.get(user);
    if !rules.is_some_and(|user| user.may_claim(id)) {
        return Err(Refusal::MayNotClaim { user: user.to_owned(), tenant: id.to_string() });
    }
    let unknown = || Refusal::UnknownTenant { tenant: id.to_string() };
    let tenant = access.tenant(id).ok_or_else(unknown)?;
    if let Some((key, name)) = tenant.cut_name() {
        let (tenant, name) = (id.to_string(), name.to_owned());
        return Err(Refusal::LongName { tenant, key, name });
    }
    match &tenant.availability {
        Availability::Active | Availability::ReadOnly | Availability::Paused => Ok(tenant),
        Availability::Draining => Err(Refusal::Draining { tenant: id.to_string() }),
        Availability::Suspended { message } => {
            let message = message.clone();
            Err(Refusal::Suspended { tenant: id.to_string(), message })
        }
    }
}

async fn begin(
    mut talk: Conversation,
    hello: &Hello,
    admitted: Admitted,
    shared: &Arc<Shared>,
) -> Box<Session> {
    let Admitted { permit, entered, mode, user, version } = admitted;
    let Entered { tenant, seat, welcome, policy, by_path } = entered;
    let name = |(name, value): &(String, Vec<u8>)| {
        (name == APPLICATION_NAME).then(|| String::from_utf8_lossy(value).into_owned())
    };
    let facts = ClientFacts {
        user: user.as_str().into(),
        tenant: Mutex::new(tenant.id.clone()),
        peer: talk.stream.peer_addr(),
        local: talk.stream.local_addr(),
        tls: talk.stream.is_tls(),
        application_name: hello.settings.iter().rev().find_map(name).unwrap_or_default().into(),
        since: SystemTime::now(),
    };
    let tally = shared.stats.tallies.of(&tenant.id, &tenant.database);
    tally.logins.add(1);
    let registration = shared.cancels.register(hello.version, facts);
    // Behind that: if a worker is given up now, either side sees it.
    registration.slot.send_to(shared.worker_for(mode));
    let mut out = BytesMut::with_capacity(WELCOME_LEN);
    build::authentication_ok(&mut out);
    for (name, value) in welcome.parameters.iter() {
        build::parameter_status(name, value, &mut out);
    }
    build::backend_key_data(registration.pid, &registration.slot.key, &mut out);
    build::ready_for_query(TransactionStatus::Idle, &mut out);
    // A client that is gone is noticed when the session reads.
    let _ = talk.send(&out).await;
    let (stream, unread) = talk.into_parts();
    Session::new(Parts {
        client: stream,
        inbound: Buffer::holding(&unread),
        seat,
        target: welcome.target,
        told: welcome.parameters,
        mode,
        policy,
        of: tenant,
        version,
        by_path,
        tally,
        registration,
        permit,
        user: user.into(),
        shared: Arc::clone(shared),
    })
}
