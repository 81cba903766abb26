//! Clients prove who they are: SCRAM-SHA-256 and -PLUS, md5, a certificate, trust on this host.
//!
//! Promises: [`Authenticated`] can only be made here, by a proof; an unknown user and a wrong
//! password take the same steps and get the same answer; no secret is logged.
//!
//! Secrets come from the configuration, PgBouncer's `userlist.txt`, or a query ([`query`]). Who fails
//! too often has to wait ([`failures`]).
//!
//! SCRAM is `pgwire`'s (its verifier functions see only whole, length-checked messages); the hash
//! of a plain password is computed once, when the configuration is loaded.
//!
//! <https://www.postgresql.org/docs/current/auth-password.html>

mod credentials;
mod exchange;
mod failures;
mod query;
mod scram;
#[cfg(test)]
mod tests;

pub use credentials::Credentials;
pub use exchange::{AuthError, authenticate};
pub use failures::{Door, Failures, Knock, Verdict};
pub use query::QueryError;

use crate::server::ScramKeys;

/// The proof that a client is who it says. Without one there is no session.
#[derive(Debug)]
pub struct Authenticated {
    user: String,
    shown: Option<scram::Shown>,
}

impl Authenticated {
    /// The user's name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// What the user can be logged in to PostgreSQL with, where the same secret is stored.
    #[must_use]
    pub fn keys(&self) -> Option<ScramKeys> {
        self.shown.as_ref()?.keys()
    }
}
