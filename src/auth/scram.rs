//! A client's SCRAM exchange: SCRAM-SHA-256, and -PLUS inside TLS.
//!
//! <https://www.postgresql.org/docs/current/sasl-authentication.html>

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

/// Asks for a proof. On success, the keys that the client proved to have.
///
/// `bound` checks that the client sees the certificate we sent; without TLS there is none.
pub(super) async fn scram(
    talk: &mut Conversation,
    user: &str,
    verifier: &Verifier,
    bound: Option<&ScramServerAuth>,
) -> Result<Option<ScramKeys>, AuthError> {
    let refuse = |error: PgWireError| match error {
        PgWireError::InvalidPassword(_) => AuthError::Failed { user: user.to_owned() },
        PgWireError::InvalidScramMessage(problem) => AuthError::Scram { problem },
        other => AuthError::Scram { problem: other.to_string() },
    };
    let mut out = BytesMut::new();
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
    let keys = keys(verifier, first, reply.as_bytes(), &last);
    out.clear();
    build::authentication_sasl_final(signature, &mut out);
    // Whatever comes of the login is told next.
    talk.hold(&out);
    Ok(keys)
}

/// `ClientKey` is in the proof, hidden only from who does not know `StoredKey`.
fn keys(verifier: &Verifier, first: &[u8], reply: &[u8], last: &[u8]) -> Option<ScramKeys> {
    let bare = first.splitn(3, |byte| *byte == b',').nth(2)?;
    let (without_proof, proof) = std::str::from_utf8(last).ok()?.rsplit_once(",p=")?;
    let signed = [bare, reply, without_proof.as_bytes()].join(&b","[..]);
    let stored_key = hmac::Key::new(hmac::HMAC_SHA256, &verifier.stored_key);
    let signature = hmac::sign(&stored_key, &signed);
    let mut client: Key = STANDARD.decode(proof).ok()?.try_into().ok()?;
    for (byte, mask) in client.iter_mut().zip(signature.as_ref()) {
        *byte ^= mask;
    }
    let fits = digest::digest(&digest::SHA256, &client).as_ref() == verifier.stored_key;
    fits.then(|| verifier.keys(client)).flatten()
}
