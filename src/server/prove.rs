//! The pooler proves to PostgreSQL who it is: SCRAM-SHA-256 and -PLUS, md5, cleartext inside TLS.

use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use tokio::task::spawn_blocking;

use super::scram::{Binding, First, Proof};
use super::{Endpoint, LoginError};
use crate::config::Secret;
use crate::net::Conversation;
use crate::wire::backend::{AuthenticationRequest, ServerError, authentication, tag};
use crate::wire::build;

const SCRAM: &str = "SCRAM-SHA-256";
const SCRAM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Answers what the server asks, until `AuthenticationOk`.
pub(super) async fn prove(endpoint: &Endpoint, talk: &mut Conversation) -> Result<(), LoginError> {
    loop {
        let (tag, body) = talk.receive().await?;
        match tag {
            tag::AUTHENTICATION => {}
            tag::NOTICE => continue,
            tag::ERROR => return Err(LoginError::Refused(ServerError::read(&body))),
            _ => return Err(LoginError::Unexpected { tag }),
        }
        let mut answer = BytesMut::new();
        match authentication(&body)? {
            AuthenticationRequest::Ok => return Ok(()),
            AuthenticationRequest::Sasl { mechanisms } => {
                let (mechanism, binding) = mechanism(mechanisms, talk)?;
                return scram(First::new(proof(endpoint)?, binding), mechanism, talk).await;
            }
            AuthenticationRequest::Md5 { salt } => {
                let secret = password(endpoint)?.expose().as_bytes();
                let hash = md5_hash(endpoint.user.as_bytes(), secret, salt);
                build::password(hash.as_bytes(), &mut answer)?;
            }
            AuthenticationRequest::Cleartext if talk.stream.is_tls() => {
                build::password(password(endpoint)?.expose().as_bytes(), &mut answer)?;
            }
            AuthenticationRequest::Cleartext => return Err(LoginError::Cleartext),
            AuthenticationRequest::SaslContinue(_)
            | AuthenticationRequest::SaslFinal(_)
            | AuthenticationRequest::Unsupported(_) => return Err(LoginError::Method),
        }
        talk.send(&answer).await?;
    }
}

fn missing(endpoint: &Endpoint) -> LoginError {
    LoginError::NoPassword { user: endpoint.user.clone() }
}

fn password(endpoint: &Endpoint) -> Result<&Secret, LoginError> {
    endpoint.password.as_ref().ok_or_else(|| missing(endpoint))
}

fn proof(endpoint: &Endpoint) -> Result<Proof, LoginError> {
    match &endpoint.password {
        Some(password) => Ok(Proof::Password(password.clone(), Arc::clone(&endpoint.keychain))),
        None => {
            let keys = endpoint.keychain.get(&endpoint.user);
            keys.map(Proof::Keys).ok_or_else(|| missing(endpoint))
        }
    }
}

/// Bound to the server's certificate where both can: nobody between may then have another one.
fn mechanism(offered: &[u8], talk: &Conversation) -> Result<(&'static str, Binding), LoginError> {
    let offers = |name: &str| offered.split(|b| *b == 0).any(|offer| offer == name.as_bytes());
    match talk.stream.server_end_point() {
        Some(hash) if offers(SCRAM_PLUS) => Ok((SCRAM_PLUS, Binding::EndPoint(hash))),
        _ if !offers(SCRAM) => Err(LoginError::Method),
        Some(_) => Ok((SCRAM, Binding::NotOffered)),
        None => Ok((SCRAM, Binding::Impossible)),
    }
}

/// The whole SCRAM exchange. `AuthenticationOk` counts only behind the server's signature.
async fn scram(first: First, mechanism: &str, talk: &mut Conversation) -> Result<(), LoginError> {
    let mut message = BytesMut::new();
    build::sasl_initial(mechanism, first.message().as_bytes(), &mut message)?;
    talk.send(&message).await?;
    let server_first = sasl(talk).await?;
    // The server chooses the number of hash iterations: they are computed off the worker.
    let hashed = spawn_blocking(move || first.answer(&server_first)).await;
    let last = hashed.map_err(|error| LoginError::from(std::io::Error::from(error)))??;
    message.clear();
    build::sasl_response(last.message.as_bytes(), &mut message)?;
    talk.send(&message).await?;
    let server_last = sasl(talk).await?;
    last.check(&server_last)?;
    match talk.receive().await? {
        (tag::AUTHENTICATION, body) if authentication(&body)? == AuthenticationRequest::Ok => {
            Ok(())
        }
        (tag::ERROR, body) => Err(LoginError::Refused(ServerError::read(&body))),
        (tag, _) => Err(LoginError::Unexpected { tag }),
    }
}

async fn sasl(talk: &mut Conversation) -> Result<Vec<u8>, LoginError> {
    match talk.receive().await? {
        (tag::ERROR, body) => Err(LoginError::Refused(ServerError::read(&body))),
        (tag::AUTHENTICATION, body) => match authentication(&body)? {
            AuthenticationRequest::SaslContinue(data) | AuthenticationRequest::SaslFinal(data) => {
                Ok(data.to_vec())
            }
            _ => Err(LoginError::Unexpected { tag: tag::AUTHENTICATION }),
        },
        (tag, _) => Err(LoginError::Unexpected { tag }),
    }
}
