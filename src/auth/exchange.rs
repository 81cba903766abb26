//! The messages between a client and us until it has proved who it is.

use std::io;

use bytes::BytesMut;
use ring::rand::{SecureRandom, SystemRandom};

use super::credentials::{Challenge, md5_answer};
use super::scram::scram;
use super::{Authenticated, Credentials, QueryError};
use crate::config::{AuthMethod, Users};
use crate::net::Conversation;
use crate::wire::frontend::{password, tag};
use crate::wire::{Malformed, build};

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
    /// Too many attempts of the user from the client's address have failed.
    #[error("too many failed attempts")]
    TooManyFailures {
        /// How long it is not asked.
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
    let mut shown = None;
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
            Challenge::Scram(verifier) => {
                let bound = credentials.bound().filter(|_| talk.stream.is_tls());
                shown = scram(talk, user, verifier, bound).await?;
            }
            Challenge::Md5(secret) => md5(talk, user, &secret.digits(given)).await?,
        },
    }
    Ok(Authenticated { user: user.to_owned(), shown })
}

pub(super) async fn answer(talk: &mut Conversation) -> Result<BytesMut, AuthError> {
    match talk.receive().await? {
        (tag::PASSWORD, body) => Ok(body),
        _ => Err(AuthError::Unexpected),
    }
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
