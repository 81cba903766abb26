//! Keys by which the pooler logs in as a user whose password it does not know.
//!
//! A client that proves itself by SCRAM against a stored verifier shows, without meaning to, the key that
//! the same verifier on the server asks for. It is good until that secret changes, and never leaves
//! this process's memory.
//!
//! <https://www.rfc-editor.org/rfc/rfc5802#section-3>

use dashmap::DashMap;

use super::derived::Derived;

/// A key of SCRAM-SHA-256.
pub type Key = [u8; 32];

/// What stands for a password, with the one salt it is good for.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// `ClientKey`.
    pub client: Key,
    /// `ServerKey`.
    pub server: Key,
    /// The salt.
    pub salt: Vec<u8>,
    /// Iterations of the hash.
    pub iterations: u32,
}

impl ScramKeys {
    /// Whether a server with this salt has the same secret.
    pub(super) fn fit(&self, salt: &[u8], iterations: u32) -> bool {
        self.salt == salt && self.iterations == iterations
    }
}

impl std::fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScramKeys(..)")
    }
}

/// Keys by the user they came from, and those of the passwords that the pooler knows.
#[derive(Debug, Default)]
pub struct Keychain {
    proven: DashMap<String, ScramKeys>,
    pub(super) derived: Derived,
}

impl Keychain {
    /// Keeps a user's keys; `true` if they are others than before.
    #[must_use]
    pub fn learn(&self, user: &str, keys: ScramKeys) -> bool {
        if self.proven.get(user).is_some_and(|known| *known == keys) {
            return false;
        }
        self.proven.insert(user.to_owned(), keys);
        true
    }

    /// Keeps only the keys of users that `keep`; passwords may have changed.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.proven.retain(|user, _| keep(user));
        self.derived.forget();
    }

    pub(super) fn get(&self, user: &str) -> Option<ScramKeys> {
        self.proven.get(user).map(|keys| keys.clone())
    }
}
