//! A client proves who it is, unless it has failed to too often.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::time::timeout;
use tracing::warn;

use super::hello::Hello;
use super::refusal::Refusal;
use super::{Access, Shared};
use crate::auth::{AuthError, Authenticated, Door, Knock, Verdict, authenticate};
use crate::config::TlsMode;
use crate::net::Conversation;
use crate::tenant::{Claim, TenantId};
use crate::wire::build;
use crate::wire::startup::ProtocolVersion;

/// Longest an exchange of passwords may take.
const AUTHENTICATION_TIME_MAX: Duration = Duration::from_secs(15);

/// Tells a client that speaks something newer what is spoken here. A client that is gone will
/// be noticed by the next read.
pub(super) async fn negotiate(talk: &mut Conversation, hello: &Hello) {
    if hello.version > ProtocolVersion::V3_2 || !hello.unknown_extensions.is_empty() {
        let newest = hello.version.min(ProtocolVersion::V3_2);
        let mut out = BytesMut::new();
        build::negotiate_protocol(newest, hello.unknown_extensions.clone(), &mut out);
        let _ = talk.send(&out).await;
    }
}

/// Lets a client of the console prove that it is the user it names.
///
/// # Errors
/// The [`Refusal`]; it was not sent.
pub async fn prove_for_console(
    talk: &mut Conversation,
    hello: &Hello,
    access: &Access,
    shared: &Shared,
) -> Result<Authenticated, Refusal> {
    negotiate(talk, hello).await;
    let who = Who { user: &hello.user, given: &hello.user, tenant: None, door: Door::Console };
    prove(talk, &who, access, shared).await
}

/// Whom a client says it is.
pub(super) struct Who<'a> {
    pub(super) user: &'a str,
    /// As it was written: the user's name and perhaps a tenant's.
    pub(super) given: &'a str,
    pub(super) tenant: Option<&'a str>,
    pub(super) door: Door,
}

/// Lets a client prove that it is the user it names, whatever its tenant.
///
/// # Errors
/// The [`Refusal`]; it was not sent.
pub(super) async fn prove(
    talk: &mut Conversation,
    who: &Who<'_>,
    access: &Access,
    shared: &Shared,
) -> Result<Authenticated, Refusal> {
    let (user, max) = (who.user, access.config.users.max_failures);
    let knock = talk.stream.peer_ip().map(|address| {
        let &Who { user, tenant, door, .. } = who;
        Knock { address, user, tenant, door }
    });
    let begin = |knock| shared.failures.begin(knock, max, Instant::now());
    let verdict = knock.as_ref().map_or(Verdict::Ask, begin);
    let delay = match verdict {
        Verdict::Ask => None,
        Verdict::AskAndDelay(delay) => Some(delay),
        Verdict::Refuse(wait) => return Err(Refusal::Auth(AuthError::TooManyFailures { wait })),
    };
    match (exchange(talk, who, access).await, &knock) {
        (Ok(proof), knock) => {
            if let Some(knock) = knock {
                if delay.is_none() {
                    shared.failures.forgive(knock, max);
                }
                shared.failures.prove(knock, Instant::now());
            }
            Ok(proof)
        }
        (Err(refusal), Some(_)) if refusal.is_failed_proof() => {
            if let Some(delay) = delay {
                // A client that is gone learns nothing.
                let _ = timeout(delay, talk.closed()).await;
            }
            Err(refusal)
        }
        (Err(refusal), knock) => {
            if let (Some(knock), None) = (knock, delay) {
                shared.failures.forgive(knock, max);
            }
            if let Refusal::Auth(AuthError::Query(error)) = &refusal {
                warn!(%error, user, "auth.query failed");
            }
            Err(refusal)
        }
    }
}

async fn exchange(
    talk: &mut Conversation,
    who: &Who<'_>,
    access: &Access,
) -> Result<Authenticated, Refusal> {
    let (users, user) = (&access.config.users, who.user);
    let exchange = authenticate(talk, &access.credentials, users, user, who.given);
    let proof = match timeout(AUTHENTICATION_TIME_MAX, exchange).await {
        Ok(result) => result.map_err(Refusal::Auth)?,
        Err(_) => return Err(Refusal::LoginTimedOut),
    };
    let verify_name = access.acceptor.mode() == TlsMode::VerifyFull && talk.stream.is_tls();
    let owns = |name: &String| users.owns(name, user);
    if verify_name && !talk.stream.client_common_name().is_some_and(|name| owns(&name)) {
        return Err(Refusal::Certificate { user: user.to_owned() });
    }
    Ok(proof)
}

/// Who keeps asking for what is refused is answered late: to refuse costs the processor about as much as to admit.
pub async fn slow_down(talk: &mut Conversation, claim: Option<&Claim>, shared: &Shared) {
    let address = talk.stream.peer_ip().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let user = claim.map_or("", |claim| &claim.user);
    let tenant = claim.and_then(|claim| claim.tenant.as_ref()).map(TenantId::as_str);
    let knock = Knock { address, user, tenant, door: Door::Refused };
    let (max, now) = (shared.access().config.users.max_failures, Instant::now());
    let verdict = shared.failures.begin(&knock, max, now);
    if let Verdict::AskAndDelay(delay) | Verdict::Refuse(delay) = verdict {
        // A client that is gone learns nothing.
        let _ = timeout(delay, talk.closed()).await;
    }
}
