//! Who a client is, and which session state is his.
//!
//! Promises: a [`TenantId`] was matched against the name pattern, so whoever holds one need not
//! check again; two sources that disagree never yield a tenant; what goes into a statement was
//! quoted here.
//!
//! Pure: knows no sockets and no configuration file.

mod claim;
mod id;
mod observe;
#[cfg(test)]
mod observe_tests;
mod quote;
mod state;
#[cfg(test)]
mod tests;

pub use claim::{Claim, ClaimError, Claimant, Source, claim, percent_decode};
pub use id::{InvalidTenantId, NamePattern, TenantId, WildcardPattern};
pub use observe::{Observed, Question, Strange, Tie, Ties};
pub use state::{GucName, InvalidGucName, SessionState, Value, names_in};
