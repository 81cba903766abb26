//! The messages between a client and us until it has proved who it is.

use std::io;

use bytes::BytesMut;
use pgwire::api::auth::sasl::scram::ScramServerAuth;
use pgwire::error::PgWireError;
use ring::rand::{SecureRandom, SystemRandom};

use super::credentials::{Challenge, md5_answer};
use super::{Authenticated, Credentials, QueryError};
use crate::config::{AuthMethod, Users};
use crate::net::Conversation;
use crate::wire::frontend::{password, sasl_initial, tag};
use crate::wire::{Malformed, build};

/// The mechanism offered.
const SCRAM: &str = "SCRAM-SHA-256";

/// Why a client is not let in.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Wrong password, or no such user: nobody is told which.
    #[error("password authentication failed for user {user:?}")]
    Failed {
        /// As the client gave it.
        user: String,
    },
    /// `trust`, but the client is not on this host.
    #[error("trust authentication is only for loopback and unix sockets")]
    NotLocal,
    /// The client answered with something else than was asked.
    #[error("expected an answer to the authentication request")]
    Unexpected,
    /// A SASL message that breaks the rules of SCRAM.
    #[error("malformed SCRAM message: {problem}")]
    Scram {
        /// What is wrong.
        problem: String,
    },
    /// No certificate, or another user's.
    #[error("certificate authentication failed for user {user:?}")]
    NotOwner {
        /// As the client gave it.
        user: String,
    },
    /// The secret is in a table that cannot be read now.
    #[error("auth.query failed: {0}")]
    Query(#[from] QueryError),
    /// Too many attempts from the client's address have failed.
    #[error("too many failed attempts")]
    TooManyFailures {
        /// How long nobody from there is asked.
        wait: std::time::Duration,
    },
    /// A message with the wrong shape.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Asks the client for its proof. On success, `AuthenticationOk` is still to be sent.
///
/// `given` is the name as the client gave it, which md5 hashes: `user` and perhaps a tenant.
///
/// # Errors
/// [`AuthError`]; the client is told and closed.
///
/// # Cancel safety
/// Not safe: an exchange that was begun cannot be taken up again.
pub async fn authenticate(
    talk: &mut Conversation,
    credentials: &Credentials,
    users: &Users,
    user: &str,
    given: &str,
) -> Result<Authenticated, AuthError> {
    match credentials.method() {
        AuthMethod::Trust if talk.stream.is_local() => {}
        AuthMethod::Trust => return Err(AuthError::NotLocal),
        // The TLS handshake has checked who signed it, and that the client has its key.
        AuthMethod::Cert => {
            let name = talk.stream.client_common_name();
            if !name.is_some_and(|name| users.owns(&name, user)) {
                return Err(AuthError::NotOwner { user: user.to_owned() });
            }
        }
        AuthMethod::Scram | AuthMethod::Md5 => match credentials.challenge(user).await? {
            Challenge::Scram(verifier) => scram(talk, user, verifier.secret()).await?,
            Challenge::Md5(secret) => md5(talk, user, &secret.digits(given)).await?,
        },
    }
    Ok(Authenticated { user: user.to_owned() })
}

async fn answer(talk: &mut Conversation) -> Result<BytesMut, AuthError> {
    match talk.receive().await? {
        (tag::PASSWORD, body) => Ok(body),
        _ => Err(AuthError::Unexpected),
    }
}

async fn scram(
    talk: &mut Conversation,
    user: &str,
    secret: pgwire::api::auth::sasl::scram::ScramSecret,
) -> Result<(), AuthError> {
    let failed = || AuthError::Failed { user: user.to_owned() };
    let refuse = |error: PgWireError| match error {
        PgWireError::InvalidPassword(_) => failed(),
        PgWireError::InvalidScramMessage(problem) => AuthError::Scram { problem },
        other => AuthError::Scram { problem: other.to_string() },
    };
    let mut out = BytesMut::new();
    build::authentication_sasl(SCRAM, &mut out);
    talk.send(&out).await?;
    let first = answer(talk).await?;
    let (mechanism, data) = sasl_initial(&first)?;
    let data = match data {
        Some(data) if mechanism == SCRAM.as_bytes() => data,
        _ => return Err(AuthError::Unexpected),
    };
    let server = ScramServerAuth::new();
    let (reply, waiting) =
        server.on_client_first_message_with_secret(data, secret).map_err(refuse)?;
    out.clear();
    build::authentication_sasl_continue(reply, &mut out);
    talk.send(&out).await?;
    let last = answer(talk).await?;
    let signature = waiting.on_client_final_message(&last).map_err(refuse)?;
    out.clear();
    build::authentication_sasl_final(signature, &mut out);
    talk.send(&out).await?;
    Ok(())
}

async fn md5(talk: &mut Conversation, user: &str, digits: &str) -> Result<(), AuthError> {
    let mut salt = [0; 4];
    SystemRandom::new().fill(&mut salt).expect("the system has random numbers");
    let mut out = BytesMut::new();
    build::authentication_md5(salt, &mut out);
    talk.send(&out).await?;
    let body = answer(talk).await?;
    let given = password(&body)?;
    // Both are hashes with a fresh salt: comparing them byte by byte gives nothing away that
    // could be used twice.
    if given == md5_answer(digits, salt).as_bytes() {
        Ok(())
    } else {
        Err(AuthError::Failed { user: user.to_owned() })
    }
}
