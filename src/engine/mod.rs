//! A worker's event loop: sockets that become ready, and the tasks that waited for them.
//!
//! ```text
//! run what is ready -> wait in epoll -> wake who waits for a socket -> run what is ready
//! ```
//!
//! A transaction wakes its client's task twice. In tokio's loop that costs more than all that the
//! pooler itself does for it, so a worker has a loop that can do less: no timers, no stealing, one
//! system call a turn, and a waiter that stays registered from one wait to the next. Everything
//! else stays tokio's: its traits, its timers and blocking calls (in the runtime a worker is
//! started with), and whatever is not a client or a server.
//!
//! Promises: a wake-up is never lost, from whatever thread it comes; a task that panics ends alone;
//! a task whose sockets never run dry lets the others run; when a worker has stopped, nothing of
//! its tasks is left.
//!
//! Knows nothing of PostgreSQL.

mod fair;
mod listening;
mod load;
mod local;
mod place;
mod socket;
mod source;
mod task;
#[cfg(test)]
mod tests;
mod tick;
mod worker;

pub use socket::Socket;
pub use tick::{Tick, tick};
pub use worker::Worker;
