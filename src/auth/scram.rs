//! A client's SCRAM exchange: SCRAM-SHA-256, and -PLUS inside TLS.
//!
//! <https://www.postgresql.org/docs/current/sasl-authentication.html>

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use pgwire::api::auth::sasl::scram::ScramServerAuth;
use pgwire::error::PgWireError;
use ring::{digest, hmac};

use super::AuthError;
use super::credentials::Verifier;
use super::exchange::answer;
use crate::net::Conversation;
use crate::server::{Key, ScramKeys};
use crate::wire::build;
use crate::wire::frontend::sasl_initial;

const SCRAM: &str = "SCRAM-SHA-256";
const SCRAM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// None of our messages is longer, so that one buffer does for all.
const MESSAGE_LEN: usize = 256;

/// What a client has shown that its key follows from: `ClientKey` is in the proof, hidden only from who does not know
/// `StoredKey`.
pub(super) struct Shown {
    verifier: Arc<Verifier>,
    signed: Vec<u8>,
    proof: Key,
}

/// Asks for a proof. On success, what it shows, if the verifier may be PostgreSQL's own.
///
/// `bound` checks that the client sees the certificate we sent; without TLS there is none.
pub(super) async fn scram(
    talk: &mut Conversation,
    user: &str,
    verifier: Arc<Verifier>,
    bound: Option<&ScramServerAuth>,
) -> Result<Option<Shown>, AuthError> {
    let refuse = |error: PgWireError| match error {
        PgWireError::InvalidPassword(_) => AuthError::Failed { user: user.to_owned() },
        PgWireError::InvalidScramMessage(problem) => AuthError::Scram { problem },
        other => AuthError::Scram { problem: other.to_string() },
    };
    let mut out = BytesMut::with_capacity(MESSAGE_LEN);
    let offered = if bound.is_some() { &[SCRAM_PLUS, SCRAM][..] } else { &[SCRAM] };
    build::authentication_sasl(offered, &mut out);
    talk.send(&out).await?;
    let initial = answer(talk).await?;
    let (mechanism, first) = sasl_initial(&initial)?;
    let chosen = offered.iter().find(|name| name.as_bytes() == mechanism);
    let (Some(&chosen), Some(first)) = (chosen, first) else { return Err(AuthError::Unexpected) };
    if first.starts_with(b"p") != (chosen == SCRAM_PLUS) {
        let problem = "the mechanism says one thing about channel binding, the message another";
        return Err(AuthError::Scram { problem: problem.to_owned() });
    }
    let server = bound.cloned().unwrap_or_else(ScramServerAuth::new);
    let (reply, waiting) =
        server.on_client_first_message_with_secret(first, verifier.secret()).map_err(refuse)?;
    out.clear();
    build::authentication_sasl_continue(reply.clone(), &mut out);
    talk.send(&out).await?;
    let last = answer(talk).await?;
    let signature = waiting.on_client_final_message(&last).map_err(refuse)?;
    let shown = Shown::by(verifier, first, reply.as_bytes(), &last);
    out.clear();
    build::authentication_sasl_final(signature, &mut out);
    // Whatever comes of the login is told next.
    talk.hold(&out);
    Ok(shown)
}

impl Shown {
    fn by(verifier: Arc<Verifier>, first: &[u8], reply: &[u8], last: &[u8]) -> Option<Self> {
        if !verifier.is_stored {
            return None;
        }
        let bare = first.splitn(3, |byte| *byte == b',').nth(2)?;
        let (without_proof, proof) = std::str::from_utf8(last).ok()?.rsplit_once(",p=")?;
        let signed = [bare, reply, without_proof.as_bytes()].join(&b","[..]);
        let proof = STANDARD.decode(proof).ok()?.try_into().ok()?;
        Some(Self { verifier, signed, proof })
    }

    /// What logs the user in to a server that stores the same secret.
    pub(super) fn keys(&self) -> Option<ScramKeys> {
        let stored_key = hmac::Key::new(hmac::HMAC_SHA256, &self.verifier.stored_key);
        let signature = hmac::sign(&stored_key, &self.signed);
        let mut client = self.proof;
        for (byte, mask) in client.iter_mut().zip(signature.as_ref()) {
            *byte ^= mask;
        }
        let fits = digest::digest(&digest::SHA256, &client).as_ref() == self.verifier.stored_key;
        fits.then(|| self.verifier.keys(client)).flatten()
    }
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shown(..)")
    }
}
