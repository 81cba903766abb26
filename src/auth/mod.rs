//! Clients prove who they are: SCRAM-SHA-256, md5, trust on this host.
//!
//! Promises: [`Authenticated`] can only be made here, by a proof; an unknown user and a wrong
//! password take the same steps and get the same answer; no secret is logged.
//!
//! Secrets come from the configuration, PgBouncer's `userlist.txt`, or a query ([`query`]). An address
//! that fails too often has to wait.
//!
//! SCRAM is `pgwire`'s (its verifier functions see only whole, length-checked messages); the hash
//! of a plain password is computed once, when the configuration is loaded.
//!
//! <https://www.postgresql.org/docs/current/auth-password.html>

mod credentials;
mod exchange;
mod failures;
mod query;
#[cfg(test)]
mod tests;

pub use credentials::Credentials;
pub use exchange::{AuthError, authenticate};
pub use failures::Failures;
pub use query::QueryError;

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
