//! One connection to PostgreSQL: login, what is known of its state, the guarded switch, cancel.
//!
//! Promises: a server that did not prove that it knows the password is not used; what a server's
//! state is, is [`Known`] and never guessed; the switch is one write in front of the client's
//! message and fails closed (see [`switch`]).
//!
//! Uses `net`, `flow`, `wire`, `tenant`, `config`. Knows no pool and no client.

mod ask;
mod behind;
mod cancel;
mod derived;
mod facts;
mod fetch;
mod keychain;
mod login;
mod observe;
mod parameters;
mod prove;
mod scram;
pub mod switch;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use ask::{Answer, AskError, note_parameter};
pub use cancel::{CancelKey, PendingCancel};
pub use facts::ServerFacts;
pub use fetch::Row;
pub use keychain::{Key, Keychain, ScramKeys};
pub use login::{Endpoint, LoginError, login};
pub use observe::ObserveError;
pub use parameters::Parameters;
pub use scram::ScramError;
pub use switch::{Class, Frames, Known, Switch, Target};

use crate::net::Stream;
use crate::prepared::{Held, UnnamedOf};
use crate::tenant::TenantId;
use crate::wire::backend::{parameter_status, tag};
use crate::wire::build;
use crate::wire::frame::{HEADER_LEN, Header};

/// A connection that has logged in.
#[derive(Debug)]
pub struct Server {
    stream: Stream,
    /// How its running statement is cancelled.
    pub cancel_key: Arc<CancelKey>,
    /// What it reported of its settings: what its session had at its last `ReadyForQuery`.
    pub parameters: Arc<Parameters>,
    /// The same at its login: what it has of those that nobody has set.
    pub defaults: Arc<Parameters>,
    /// What is known of its session state.
    pub known: Known,
    /// The unnamed statement that a client may have left.
    pub unnamed_left: Option<UnnamedOf>,
    /// What it has prepared for clients.
    pub held: Held,
    /// Tenants it has served: what it has read of their schemas it keeps in memory.
    pub tenants: Served,
    /// What its pool notes of it.
    pub life: Life,
    /// What others may see of it.
    pub facts: Arc<ServerFacts>,
}

/// A server's times, and what it was opened by.
#[derive(Debug, Clone, Copy)]
pub struct Life {
    /// A number of its own.
    pub id: u64,
    /// Which of the pool's settings and addresses it was opened by.
    pub generation: u64,
    /// When it was opened.
    pub opened: Instant,
    /// When `server_lifetime` is over.
    pub retire_at: Instant,
    /// When it was last given back.
    pub idle_since: Instant,
    /// When it last answered.
    pub proven: Instant,
    /// PostgreSQL has ended it.
    pub ended: bool,
}

impl Life {
    /// It begins now.
    #[must_use]
    pub fn new(now: Instant, lifetime: Duration) -> Self {
        let retire_at = now + lifetime;
        Self {
            id: facts::next_id(),
            generation: 0,
            opened: now,
            retire_at,
            idle_since: now,
            proven: now,
            ended: false,
        }
    }
}

/// Tenants that a server has served.
#[derive(Debug, Default)]
pub struct Served(HashSet<TenantId>);

impl Served {
    /// Whether it has served this one.
    #[must_use]
    pub fn has(&self, tenant: &TenantId) -> bool {
        self.0.contains(tenant)
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has served none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// It serves this one now; `true`: for the first time.
    pub fn add(&mut self, tenant: &TenantId) -> bool {
        self.0.insert(tenant.clone())
    }
}

impl Server {
    /// The connection itself, for the relay.
    pub const fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Whether no other worker waits for its socket.
    #[inline]
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.stream.is_here()
    }

    /// Whether it is still there and silent; reads what came while nobody held it.
    ///
    /// `ParameterStatus` is recorded and a notice ignored. An error, the end, a notification (a
    /// LISTEN that should not be there) or half a message: do not use it.
    pub fn is_usable(&mut self) -> bool {
        if !self.stream.may_have_news() {
            return true;
        }
        // Small, because it is cleared at each checkout; whoever says more is not used.
        let mut bytes = [0; 256];
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let mut room = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(&mut cx, &mut room) {
                Poll::Pending => return true,
                // A notice may be the word before the last: read on.
                Poll::Ready(Ok(())) if !room.filled().is_empty() => {
                    if !take_unasked(room.filled(), &mut self.parameters) {
                        return false;
                    }
                }
                Poll::Ready(_) => return false,
            }
        }
    }

    /// Says goodbye and closes. Only for a server that is idle: it waits for nothing.
    pub fn terminate(mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut stream = Pin::new(&mut self.stream);
        // Without an answer to wait for, a full socket or a dead peer makes no difference.
        let _ = stream.as_mut().poll_write(&mut cx, build::TERMINATE);
        let _ = stream.poll_flush(&mut cx);
    }
}

/// Whether a server may say this while nobody holds it.
fn take_unasked(mut bytes: &[u8], parameters: &mut Arc<Parameters>) -> bool {
    while !bytes.is_empty() {
        let Ok(Some(header)) = Header::read(bytes) else { return false };
        let Some(body) = bytes.get(HEADER_LEN..header.frame_len()) else { return false };
        match header.tag {
            tag::PARAMETER_STATUS => match parameter_status(body) {
                Ok((name, value)) => drop(Parameters::note(parameters, name, value)),
                Err(_) => return false,
            },
            tag::NOTICE => {}
            _ => return false,
        }
        bytes = &bytes[header.frame_len()..];
    }
    true
}
