//! Prepared statements that outlive their server: a client's names, and what each server has.
//!
//! A client's named statements are virtual. Its name stands for a [`Statement`], shared by all
//! clients that prepared the same text; each server has some of them under names of the pooler's
//! own, and gets one when a client binds it there ([`Held`]).
//!
//! Promises: a name means what its own client last prepared under it, and only once PostgreSQL has
//! accepted it; a message that PostgreSQL skipped after an error has changed nothing; a statement
//! parsed in one state is not bound in another; a client that was told what a statement returns gets nothing else by
//! that name; texts are kept once, and in bounded memory. Pure.
//!
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY>

mod description;
mod held;
mod names;
mod shares;
mod statement;
#[cfg(test)]
mod tests;
mod unnamed;

pub use description::Description;
pub use held::{Evicted, Held, Key, Slot};
pub use names::{Names, Op, Skipped};
pub use statement::{Kept, Maker, Statement, Statements};
pub use unnamed::{UNNAMED_LEN_MAX, UnnamedOf};

/// What the pooler's own names of statements begin with.
pub const PREFIX: &[u8] = b"tenantry_";
