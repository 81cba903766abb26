//! What a client's proof is checked against.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use pgwire::api::auth::sasl::scram::{
    SCRAM_ITERATIONS, ScramSecret, ScramServerAuth, gen_salted_password,
};
use ring::hmac;
use ring::rand::SystemRandom;

use super::query::{Query, QueryError};
use crate::config::{AuthMethod, Secret, Users};
use crate::server::{Endpoint, Key, ScramKeys};

/// Bytes of salt, as in PostgreSQL.
const SALT_LEN: usize = 16;

/// A SCRAM verifier: what PostgreSQL keeps in `pg_authid.rolpassword`.
pub(super) struct Verifier {
    salt: Vec<u8>,
    iterations: usize,
    pub(super) stored_key: Vec<u8>,
    server_key: Vec<u8>,
    /// It was stored like this, and may be PostgreSQL's own.
    pub(super) is_stored: bool,
}

impl Verifier {
    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`.
    fn parse(text: &str) -> Option<Self> {
        let (parameters, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let key = |text: &str| STANDARD.decode(text).ok().filter(|key| key.len() == 32);
        Some(Self {
            salt: STANDARD.decode(salt).ok()?,
            iterations: iterations.parse().ok().filter(|n| *n > 0)?,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
            is_stored: true,
        })
    }

    fn from_password(password: &str, salt: Vec<u8>) -> Self {
        let salted = gen_salted_password(password, &salt, SCRAM_ITERATIONS);
        let secret = ScramSecret::verifier_from_salted_password(salt, salted, SCRAM_ITERATIONS);
        match secret {
            ScramSecret::Verifier { salt, iterations, stored_key, server_key } => {
                Self { salt, iterations, stored_key, server_key, is_stored: false }
            }
            ScramSecret::SaltedPassword { .. } => unreachable!("a verifier was asked for"),
        }
    }

    /// What logs the user in who has that key, where the same secret is stored.
    pub(super) fn keys(&self, client: Key) -> Option<ScramKeys> {
        let server = Key::try_from(&*self.server_key).ok()?;
        let iterations = u32::try_from(self.iterations).ok()?;
        Some(ScramKeys { client, server, salt: self.salt.clone(), iterations })
    }

    pub(super) fn secret(&self) -> ScramSecret {
        ScramSecret::Verifier {
            salt: self.salt.clone(),
            iterations: self.iterations,
            stored_key: self.stored_key.clone(),
            server_key: self.server_key.clone(),
        }
    }
}

/// How one user is asked.
#[derive(Clone)]
pub(super) enum Challenge {
    Scram(Arc<Verifier>),
    Md5(Md5Secret),
}

impl Challenge {
    fn of(secret: &Secret, method: AuthMethod, salt: impl FnOnce() -> Vec<u8>) -> Self {
        let text = secret.expose();
        match (Verifier::parse(text), method) {
            (Some(verifier), _) => Self::Scram(Arc::new(verifier)),
            (None, AuthMethod::Md5) => Self::Md5(Md5Secret::new(secret)),
            (None, AuthMethod::Scram | AuthMethod::Cert | AuthMethod::Trust) => {
                Self::Scram(Arc::new(Verifier::from_password(text, salt())))
            }
        }
    }
}

/// What an md5 answer is checked against.
#[derive(Clone)]
pub(super) enum Md5Secret {
    Password(Secret),
    /// `md5(password + user)` in hexadecimal digits: good for a client that gives just that name.
    Digits(String),
}

impl Md5Secret {
    fn new(secret: &Secret) -> Self {
        match secret.expose().strip_prefix("md5") {
            Some(digits) if digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
                Self::Digits(digits.to_ascii_lowercase())
            }
            _ => Self::Password(secret.clone()),
        }
    }

    /// `md5(password + user)`, for the name as the client gave it.
    pub(super) fn digits(&self, given: &str) -> String {
        match self {
            Self::Digits(digits) => digits.clone(),
            Self::Password(password) => {
                hex(&Md5::new().chain_update(password.expose()).chain_update(given).finalize())
            }
        }
    }
}

/// All users' secrets, hashed.
pub struct Credentials {
    method: AuthMethod,
    users: HashMap<String, Challenge>,
    query: Option<Query>,
    /// Offers SCRAM-SHA-256-PLUS.
    bound: Option<ScramServerAuth>,
    /// Makes up a secret for users that do not exist: the same one each time.
    mock: hmac::Key,
}

impl Credentials {
    /// Hashes the plain passwords among the secrets; takes about a millisecond for each.
    #[must_use]
    pub fn new(users: &Users) -> Self {
        let mock = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Self::hash(users, mock.expect("the system has random numbers"))
    }

    /// Credentials in place of these. What a client sees of an unchanged secret, or of a user that
    /// does not exist, stays the same.
    #[must_use]
    pub fn renew(&self, users: &Users) -> Self {
        Self { bound: self.bound.clone(), ..Self::hash(users, self.mock.clone()) }
    }

    fn hash(users: &Users, mock: hmac::Key) -> Self {
        let challenge = |(name, secret): (&str, &Secret)| {
            let salt = || made_up(&mock, "salt", name)[..SALT_LEN].to_vec();
            (name.to_owned(), Challenge::of(secret, users.method, salt))
        };
        let hashed = users.secrets().map(challenge).collect();
        Self { method: users.method, users: hashed, query: None, bound: None, mock }
    }

    /// Clients inside TLS may bind their proof to this certificate (DER), if its signature has a hash
    /// to do it with.
    #[must_use]
    pub fn with_certificate(mut self, certificate: &[u8]) -> Self {
        let pem = format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            STANDARD.encode(certificate)
        );
        let mut bound = ScramServerAuth::new();
        self.bound = bound.configure_certificate(pem.as_bytes()).is_ok().then_some(bound);
        self
    }

    pub(super) fn bound(&self) -> Option<&ScramServerAuth> {
        self.bound.as_ref()
    }

    /// Users that are not configured are asked for there.
    #[must_use]
    pub fn with_query(mut self, endpoint: Endpoint, sql: String) -> Self {
        self.query = Some(Query::new(endpoint, sql));
        self
    }

    /// `auth.type`.
    #[must_use]
    pub const fn method(&self) -> AuthMethod {
        self.method
    }

    /// How to ask this user. One that does not exist is asked too, and cannot answer right.
    ///
    /// # Errors
    /// [`QueryError`] when the secret may be in a table that cannot be read now.
    pub(super) async fn challenge(&self, user: &str) -> Result<Challenge, QueryError> {
        if let Some(challenge) = self.users.get(user) {
            return Ok(challenge.clone());
        }
        let Some(query) = &self.query else { return Ok(self.made_up(user)) };
        let (method, salt) = (self.method, made_up(&self.mock, "salt", user));
        let make = move |secret| Challenge::of(&secret, method, || salt[..SALT_LEN].to_vec());
        Ok(query.challenge(user, make).await?.unwrap_or_else(|| self.made_up(user)))
    }

    fn made_up(&self, user: &str) -> Challenge {
        let bytes = |label| made_up(&self.mock, label, user);
        match self.method {
            AuthMethod::Md5 => Challenge::Md5(Md5Secret::Digits(hex(&bytes("md5")))),
            AuthMethod::Scram | AuthMethod::Cert | AuthMethod::Trust => {
                Challenge::Scram(Arc::new(Verifier {
                    salt: bytes("salt")[..SALT_LEN].to_vec(),
                    iterations: SCRAM_ITERATIONS,
                    stored_key: bytes("stored"),
                    server_key: bytes("server"),
                    is_stored: false,
                }))
            }
        }
    }
}

fn made_up(mock: &hmac::Key, label: &str, user: &str) -> Vec<u8> {
    hmac::sign(mock, format!("{label}:{user}").as_bytes()).as_ref().to_vec()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").expect("a String takes all that is written");
        digits
    })
}

/// What a client must answer: `md5` and the digits of `md5(md5_of + salt)`.
pub(super) fn md5_answer(digits: &str, salt: [u8; 4]) -> String {
    let hash = Md5::new().chain_update(digits).chain_update(salt).finalize();
    format!("md5{}", hex(&hash))
}
