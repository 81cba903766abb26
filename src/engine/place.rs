//! Which worker waits for a socket, and how another one takes that over.

use std::io;
use std::sync::Arc;

use mio::event;
use mio::{Interest, Token};

use super::local::{self, Home};
use super::source::Source;

/// A socket's place with a worker, until it is dropped. The socket has to be closed first, or taken out of the
/// worker's epoll: then no event can come for the place.
pub(super) struct Place {
    pub(super) source: Arc<Source>,
    at: usize,
    home: Arc<Home>,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        local::release(&self.home, self.at);
    }
}

impl Place {
    /// Has the current worker wait for a socket.
    pub(super) fn take(io: &mut impl event::Source, source: Source) -> io::Result<Self> {
        let place = local::with(|local| -> io::Result<Self> {
            let mut sources = local.sources.borrow_mut();
            let entry = sources.vacant_entry();
            let at = entry.key();
            let both = Interest::READABLE | Interest::WRITABLE;
            local.home.registry.register(io, Token(at), both)?;
            let source = Arc::new(source);
            entry.insert(Arc::clone(&source));
            Ok(Self { source, at, home: Arc::clone(&local.home) })
        });
        place.ok_or_else(|| io::Error::other("a socket can only be opened by a worker's task"))?
    }

    /// Whether the current worker is the one that waits, or the thread is no worker.
    #[inline]
    pub(super) fn is_here(&self) -> bool {
        local::with(|local| Arc::ptr_eq(&local.home, &self.home)).unwrap_or(true)
    }

    /// Has the current worker wait in the other one's place. If that fails, nobody waits any more.
    pub(super) fn move_here(&mut self, io: &mut impl event::Source) -> io::Result<()> {
        self.home.registry.deregister(io)?;
        // What becomes ready between these two is reported by the second.
        *self = Self::take(io, self.source.successor())?;
        Ok(())
    }
}
