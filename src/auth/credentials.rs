//! What a client's proof is checked against.

use std::collections::HashMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use pgwire::api::auth::sasl::scram::{SCRAM_ITERATIONS, ScramSecret, gen_salted_password};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use super::query::{Query, QueryError};
use crate::config::{AuthMethod, Secret, Users};
use crate::server::Endpoint;

/// Bytes of salt, as in PostgreSQL.
const SALT_LEN: usize = 16;

/// A SCRAM verifier: what PostgreSQL keeps in `pg_authid.rolpassword`.
#[derive(Clone)]
pub(super) struct Verifier {
    salt: Vec<u8>,
    iterations: usize,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
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
        })
    }

    fn from_password(password: &str, random: &SystemRandom) -> Self {
        let mut salt = vec![0; SALT_LEN];
        random.fill(&mut salt).expect("the system has random numbers");
        let salted = gen_salted_password(password, &salt, SCRAM_ITERATIONS);
        let secret = ScramSecret::verifier_from_salted_password(salt, salted, SCRAM_ITERATIONS);
        match secret {
            ScramSecret::Verifier { salt, iterations, stored_key, server_key } => {
                Self { salt, iterations, stored_key, server_key }
            }
            ScramSecret::SaltedPassword { .. } => unreachable!("a verifier was asked for"),
        }
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
    Scram(Verifier),
    Md5(Md5Secret),
}

impl Challenge {
    fn of(secret: &Secret, method: AuthMethod, random: &SystemRandom) -> Self {
        let text = secret.expose();
        match (Verifier::parse(text), method) {
            (Some(verifier), _) => Self::Scram(verifier),
            (None, AuthMethod::Md5) => Self::Md5(Md5Secret::new(secret)),
            (None, AuthMethod::Scram | AuthMethod::Cert | AuthMethod::Trust) => {
                Self::Scram(Verifier::from_password(text, random))
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
    /// Makes up a secret for users that do not exist: the same one each time.
    mock: hmac::Key,
}

impl Credentials {
    /// Hashes the plain passwords among the secrets; takes about a millisecond for each.
    #[must_use]
    pub fn new(users: &Users) -> Self {
        let random = SystemRandom::new();
        let challenge = |secret: &Secret| Challenge::of(secret, users.method, &random);
        let hashed = users.secrets().map(|(n, s)| (n.to_owned(), challenge(s))).collect();
        let mock =
            hmac::Key::generate(hmac::HMAC_SHA256, &random).expect("the system has random numbers");
        Self { method: users.method, users: hashed, query: None, mock }
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
        let method = self.method;
        let make = move |secret| Challenge::of(&secret, method, &SystemRandom::new());
        Ok(query.challenge(user, make).await?.unwrap_or_else(|| self.made_up(user)))
    }

    fn made_up(&self, user: &str) -> Challenge {
        let bytes = |label: &str| hmac::sign(&self.mock, format!("{label}:{user}").as_bytes());
        match self.method {
            AuthMethod::Md5 => Challenge::Md5(Md5Secret::Digits(hex(bytes("md5").as_ref()))),
            AuthMethod::Scram | AuthMethod::Cert | AuthMethod::Trust => {
                Challenge::Scram(Verifier {
                    salt: bytes("salt").as_ref()[..SALT_LEN].to_vec(),
                    iterations: SCRAM_ITERATIONS,
                    stored_key: bytes("stored").as_ref().to_vec(),
                    server_key: bytes("server").as_ref().to_vec(),
                })
            }
        }
    }
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
