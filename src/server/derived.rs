//! Keys worked out of passwords. That takes milliseconds, and logins come in storms: it is done once.

use std::collections::HashMap;

use parking_lot::Mutex;
use pgwire::api::auth::sasl::scram::gen_salted_password;
use ring::hmac;

use super::keychain::Key;
use crate::config::Secret;

/// Most keys that are kept. A server chooses its salt: one that has a new one each time fills this,
/// and then all begin anew.
const DERIVED_MAX: usize = 1024;

/// Longest salt whose keys are kept, in bytes. PostgreSQL's has 16.
const SALT_LEN_MAX: usize = 64;

/// What a pair of keys was made from.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Source {
    password: Secret,
    salt: Box<[u8]>,
    iterations: u32,
}

/// The client's and the server's key of each password and salt that was asked for.
#[derive(Default)]
pub(super) struct Derived(Mutex<HashMap<Source, (Key, Key)>>);

impl Derived {
    /// The keys of a password.
    pub(super) fn keys(&self, password: &Secret, salt: &[u8], iterations: u32) -> (Key, Key) {
        let source = Source { password: password.clone(), salt: salt.into(), iterations };
        if let Some(keys) = self.0.lock().get(&source) {
            return *keys;
        }
        // Not under the lock: others are not to wait for it.
        let salted = gen_salted_password(password.expose(), salt, iterations as usize);
        let keys = (sign(&salted, b"Client Key"), sign(&salted, b"Server Key"));
        if salt.len() > SALT_LEN_MAX {
            return keys;
        }
        let mut known = self.0.lock();
        if known.len() >= DERIVED_MAX {
            known.clear();
        }
        known.insert(source, keys);
        keys
    }

    /// Passwords may have changed.
    pub(super) fn forget(&self) {
        self.0.lock().clear();
    }
}

impl std::fmt::Debug for Derived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Derived(..)")
    }
}

/// HMAC-SHA-256.
pub(super) fn sign(key: &[u8], data: &[u8]) -> Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_hashed_once_for_each_salt() {
        let derived = Derived::default();
        let (pencil, pen) = (Secret::new("pencil"), Secret::new("pen"));
        let first = derived.keys(&pencil, b"salt", 2);
        assert_eq!(derived.keys(&pencil, b"salt", 2), first);
        assert_eq!(derived.0.lock().len(), 1);
        for other in [
            derived.keys(&pen, b"salt", 2),
            derived.keys(&pencil, b"pepper", 2),
            derived.keys(&pencil, b"salt", 3),
        ] {
            assert_ne!(other, first);
        }
        assert_eq!(derived.0.lock().len(), 4);
        derived.forget();
        assert!(derived.0.lock().is_empty());
    }

    #[test]
    fn a_server_with_ever_new_salts_does_not_fill_the_memory() {
        let (derived, password) = (Derived::default(), Secret::new("pencil"));
        for salt in 0..=DERIVED_MAX {
            derived.keys(&password, &salt.to_be_bytes(), 1);
        }
        assert_eq!(derived.0.lock().len(), 1);
        derived.keys(&password, &[7; SALT_LEN_MAX + 1], 1);
        assert_eq!(derived.0.lock().len(), 1, "a long salt is not kept");
    }
}
