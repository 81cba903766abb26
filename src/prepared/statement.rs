//! A statement as it was prepared, kept once for all clients that prepared the same.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::sql::Flags;

/// Most bytes of texts that are kept for all clients together. Who needs more keeps its server.
const TEXT_LEN_MAX: usize = 256 * 1024 * 1024;
/// Entries from which on dead ones are looked for.
const SWEEP_LEN: usize = 4096;

/// What a `Parse` says behind the name: text, and types of parameters.
#[derive(Debug)]
pub struct Statement {
    /// Its identity, as long as anybody has it.
    pub id: u64,
    /// The body of the `Parse` behind the name.
    pub tail: Box<[u8]>,
    /// What the lexer says of the text.
    pub flags: Flags,
    total: Arc<AtomicUsize>,
}

impl Statement {
    /// The text.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        let end = memchr::memchr(0, &self.tail).unwrap_or(self.tail.len());
        &self.tail[..end]
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        self.total.fetch_sub(self.tail.len(), Ordering::Relaxed);
    }
}

/// All statements that some client has.
#[derive(Debug)]
pub struct Statements {
    known: DashMap<Box<[u8]>, Weak<Statement>>,
    next_id: AtomicU64,
    total: Arc<AtomicUsize>,
    sweep_at: AtomicUsize,
}

impl Default for Statements {
    fn default() -> Self {
        Self {
            known: DashMap::new(),
            next_id: AtomicU64::new(0),
            total: Arc::default(),
            sweep_at: AtomicUsize::new(SWEEP_LEN),
        }
    }
}

impl Statements {
    /// The statement with this tail. `None`: there is no room for one more.
    #[must_use]
    pub fn get(&self, tail: &[u8], flags: Flags) -> Option<Arc<Statement>> {
        if let Some(known) = self.known.get(tail).and_then(|known| known.upgrade()) {
            return Some(known);
        }
        if self.total.load(Ordering::Relaxed) + tail.len() > TEXT_LEN_MAX {
            return None;
        }
        self.sweep();
        let make = || {
            self.total.fetch_add(tail.len(), Ordering::Relaxed);
            let id = self.next_id.fetch_add(1, Ordering::Relaxed);
            let total = Arc::clone(&self.total);
            Arc::new(Statement { id, tail: tail.into(), flags, total })
        };
        Some(match self.known.entry(tail.into()) {
            Entry::Occupied(mut entry) => entry.get().upgrade().unwrap_or_else(|| {
                let statement = make();
                entry.insert(Arc::downgrade(&statement));
                statement
            }),
            Entry::Vacant(entry) => {
                let statement = make();
                entry.insert(Arc::downgrade(&statement));
                statement
            }
        })
    }

    fn sweep(&self) {
        if self.known.len() >= self.sweep_at.load(Ordering::Relaxed) {
            self.known.retain(|_, statement| statement.strong_count() > 0);
            self.sweep_at.store(SWEEP_LEN.max(2 * self.known.len()), Ordering::Relaxed);
        }
    }
}
