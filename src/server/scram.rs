//! SCRAM-SHA-256 as its client: by a password, or by the keys that a client of ours proved to have.
//!
//! Pure: messages in, messages out. The crates that speak this side take only a password.
//!
//! <https://www.rfc-editor.org/rfc/rfc5802>, <https://www.postgresql.org/docs/current/sasl-authentication.html>

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pgwire::api::auth::sasl::scram::random_nonce;
use ring::{digest, hmac};

use super::derived::sign;
use super::keychain::{Key, Keychain, ScramKeys};
use crate::config::Secret;

/// Most iterations of the hash that a server may ask for: it names the number before it has proved
/// anything. PostgreSQL's default is 4096.
const ITERATIONS_MAX: u32 = 100_000;

/// Why the exchange fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message that is no SCRAM, or no answer to ours.
    #[error("the server's SCRAM message is malformed")]
    Malformed,
    /// More work than anybody should be made to do.
    #[error(
        "the server asks for {0} iterations of the password's hash; at most {ITERATIONS_MAX} are computed"
    )]
    Iterations(u32),
    /// The keys belong to another secret than the server's.
    #[error(
        "the server keeps another SCRAM secret for the user than the one its clients are checked against"
    )]
    OtherSecret,
    /// The server's own word for why not.
    #[error("the server refuses the SCRAM exchange: {0}")]
    Refused(String),
    /// Whoever it is, it does not know the password.
    #[error("the server failed to prove that it knows the password")]
    Signature,
}

/// What the login role proves itself with.
#[derive(Clone)]
pub(super) enum Proof {
    /// A password; its keys may be known already.
    Password(Secret, Arc<Keychain>),
    Keys(ScramKeys),
}

impl Proof {
    /// The client's and the server's key for a salt. Takes milliseconds for a password, the first time.
    fn keys(&self, salt: &[u8], iterations: u32) -> Result<(Key, Key), ScramError> {
        match self {
            Self::Password(..) if iterations > ITERATIONS_MAX => {
                Err(ScramError::Iterations(iterations))
            }
            Self::Password(password, keychain) => {
                Ok(keychain.derived.keys(password, salt, iterations))
            }
            Self::Keys(keys) if keys.fit(salt, iterations) => Ok((keys.client, keys.server)),
            Self::Keys(_) => Err(ScramError::OtherSecret),
        }
    }
}

/// How the exchange is bound to the TLS connection it runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Binding {
    /// There is no TLS, or nothing to bind to.
    Impossible,
    /// We could, but the server did not offer it. A server that did offer it then knows that
    /// somebody between us took it away.
    NotOffered,
    /// To the server's certificate: `tls-server-end-point`.
    EndPoint(Vec<u8>),
}

impl Binding {
    const fn header(&self) -> &'static str {
        match self {
            Self::Impossible => "n,,",
            Self::NotOffered => "y,,",
            Self::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    fn input(&self) -> Vec<u8> {
        let mut input = self.header().as_bytes().to_vec();
        if let Self::EndPoint(hash) = self {
            input.extend(hash);
        }
        input
    }
}

/// An exchange that waits for the server's first message.
pub(super) struct First {
    proof: Proof,
    binding: Binding,
    nonce: String,
}

impl First {
    pub(super) fn new(proof: Proof, binding: Binding) -> Self {
        Self { proof, binding, nonce: random_nonce() }
    }

    /// `client-first-message`. The user's name is in the start-up packet.
    pub(super) fn message(&self) -> String {
        format!("{}{}", self.binding.header(), self.bare())
    }

    fn bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// Takes `server-first-message`.
    pub(super) fn answer(self, message: &[u8]) -> Result<Last, ScramError> {
        let text = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
        let (nonce, salt, iterations) = server_first(text).ok_or(ScramError::Malformed)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ScramError::Malformed);
        }
        let (client_key, server_key) = self.proof.keys(&salt, iterations)?;
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(self.binding.input()));
        let signed = format!("{},{text},{without_proof}", self.bare());
        let stored_key = digest::digest(&digest::SHA256, &client_key);
        let mut proof = sign(stored_key.as_ref(), signed.as_bytes());
        for (byte, key) in proof.iter_mut().zip(client_key) {
            *byte ^= key;
        }
        let message = format!("{without_proof},p={}", STANDARD.encode(proof));
        Ok(Last { message, server_key: hmac::Key::new(hmac::HMAC_SHA256, &server_key), signed })
    }
}

/// An exchange that waits for the server's last message.
pub(super) struct Last {
    /// `client-final-message`.
    pub(super) message: String,
    server_key: hmac::Key,
    signed: String,
}

impl Last {
    /// Takes `server-final-message`: only now the server is who it should be.
    pub(super) fn check(&self, message: &[u8]) -> Result<(), ScramError> {
        let text = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
        if let Some(error) = text.strip_prefix("e=") {
            return Err(ScramError::Refused(error.to_owned()));
        }
        let signature = text.strip_prefix("v=").and_then(|text| text.split(',').next());
        let signature = signature.and_then(|text| STANDARD.decode(text).ok());
        let signature = signature.ok_or(ScramError::Malformed)?;
        hmac::verify(&self.server_key, self.signed.as_bytes(), &signature)
            .map_err(|_| ScramError::Signature)
    }
}

/// `r=<nonce>,s=<salt>,i=<iterations>`, and extensions that may be ignored. `m=` may not.
fn server_first(text: &str) -> Option<(&str, Vec<u8>, u32)> {
    let mut parts = text.split(',');
    let mut part = |name: &str| parts.next()?.strip_prefix(name)?.strip_prefix('=');
    let (nonce, salt, iterations) = (part("r")?, part("s")?, part("i")?);
    let iterations = iterations.parse().ok().filter(|n| *n > 0)?;
    Some((nonce, STANDARD.decode(salt).ok()?, iterations))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The exchange of RFC 7677, section 3, but for the user's name, which is not sent here.
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn by_password(password: &str) -> Proof {
        Proof::Password(Secret::new(password), Arc::default())
    }

    fn first(binding: Binding) -> First {
        let proof = by_password("pencil");
        First { proof, binding, nonce: NONCE.to_owned() }
    }

    /// What a server that knows the password makes of it.
    fn signature_of(last: &Last) -> String {
        format!("v={}", STANDARD.encode(hmac::sign(&last.server_key, last.signed.as_bytes())))
    }

    #[test]
    fn the_keys_are_those_of_the_rfc() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let (client, server) = by_password("pencil").keys(&salt, 4096).unwrap();
        let signed = format!(
            "n=user,r={NONCE},{SERVER_FIRST},c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
        );
        let stored = digest::digest(&digest::SHA256, &client);
        let mut proof = sign(stored.as_ref(), signed.as_bytes());
        proof.iter_mut().zip(client).for_each(|(byte, key)| *byte ^= key);
        assert_eq!(STANDARD.encode(proof), "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        let signature = sign(&server, signed.as_bytes());
        assert_eq!(STANDARD.encode(signature), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn the_binding_is_in_what_is_signed() {
        let plain = first(Binding::Impossible).answer(SERVER_FIRST.as_bytes()).unwrap();
        assert!(plain.message.starts_with("c=biws,r=rOprNGfwEbeRWgbNEkqO%"), "{}", plain.message);
        let asked = first(Binding::NotOffered).answer(SERVER_FIRST.as_bytes()).unwrap();
        assert!(asked.message.starts_with("c=eSws,"), "{}", asked.message);
        let bound = |hash: &[u8]| {
            first(Binding::EndPoint(hash.to_vec())).answer(SERVER_FIRST.as_bytes()).unwrap().message
        };
        assert_ne!(bound(b"one certificate"), bound(b"another"));
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_found_out() {
        let last = first(Binding::Impossible).answer(SERVER_FIRST.as_bytes()).unwrap();
        assert_eq!(last.check(signature_of(&last).as_bytes()), Ok(()));
        let other = STANDARD.encode([7; 32]);
        assert_eq!(last.check(format!("v={other}").as_bytes()), Err(ScramError::Signature));
        assert_eq!(last.check(b"v="), Err(ScramError::Signature));
        let refused = ScramError::Refused("invalid-proof".to_owned());
        assert_eq!(last.check(b"e=invalid-proof"), Err(refused));
    }

    #[test]
    fn what_does_not_answer_ours_is_refused() {
        for message in [
            "",
            "r=other%nonce,s=W22Z,i=4096",
            "r=rOprNGfwEbeRWgbNEkqO,s=W22Z,i=4096",
            "m=new,r=rOprNGfwEbeRWgbNEkqO%x,s=W22Z,i=4096",
            "r=rOprNGfwEbeRWgbNEkqO%x,s=*,i=4096",
            "r=rOprNGfwEbeRWgbNEkqO%x,s=W22Z,i=0",
            "r=rOprNGfwEbeRWgbNEkqO%x,s=W22Z,i=-1",
        ] {
            let answer = first(Binding::Impossible).answer(message.as_bytes());
            assert_eq!(answer.err(), Some(ScramError::Malformed), "{message}");
        }
        let absurd = "r=rOprNGfwEbeRWgbNEkqO%x,s=W22Z,i=4000000000";
        let answer = first(Binding::Impossible).answer(absurd.as_bytes());
        assert_eq!(answer.err(), Some(ScramError::Iterations(4_000_000_000)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(message in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = first(Binding::Impossible).answer(&message);
            let last = first(Binding::Impossible).answer(SERVER_FIRST.as_bytes()).unwrap();
            prop_assert!(last.check(&message).is_err());
        }
    }
}
