//! Whose turn it is on a linked pair of connections: owed replies, release, errors, COPY.
//!
//! Promises: decides from message headers and a handful of bytes; a server is never released while
//! it owes a reply, stands in a transaction, holds an unsynced pipeline or a COPY; a message that
//! cannot come at this point is [`Unexpected`], and the server that sent it is closed.
//!
//! Pure: no sockets, no clocks, no buffers of its own.
//!
//! <https://www.postgresql.org/docs/current/protocol-flow.html>

mod client_scan;
mod exchange;
#[cfg(test)]
mod model;
mod queue;
mod replies;
mod run;
mod server_scan;
#[cfg(test)]
mod tests;

pub use client_scan::{ClientEvent, ClientScan, READ_WHOLE_MAX};
pub use exchange::{ClientVerdict, Exchange, Refusal, Reply, UnnamedLost};
pub use replies::{ServerVerdict, Unexpected};
pub use server_scan::{ServerMessage, ServerScan};
