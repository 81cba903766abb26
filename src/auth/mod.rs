//! Clients prove who they are: SCRAM-SHA-256, md5, trust on this host.
//!
//! Promises: [`Authenticated`] can only be made here, by a proof; an unknown user and a wrong
//! password take the same steps and get the same answer; no secret is logged.
//!
//! SCRAM is `pgwire`'s (its verifier functions see only whole, length-checked messages); the hash
//! of a plain password is computed once, when the configuration is loaded.
//!
//! <https://www.postgresql.org/docs/current/auth-password.html>

mod credentials;
mod exchange;
#[cfg(test)]
mod tests;

pub use credentials::Credentials;
pub use exchange::{AuthError, authenticate};

/// The proof that a client is who it says. Without one there is no session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    user: String,
}

impl Authenticated {
    /// The user's name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }
}
