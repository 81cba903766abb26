//! A statement as it was prepared, kept once for all clients that prepared the same.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::shares::{Share, Shares};
use crate::sql::Flags;
use crate::tenant::SessionState;

/// Most bytes of texts that are kept for all clients together. Who needs more keeps its server.
const TEXT_LEN_MAX: usize = 256 * 1024 * 1024;
/// The same for those of one tenant.
const TENANTS_LEN_MAX: usize = TEXT_LEN_MAX / 4;
/// Entries from which on dead ones are looked for.
const SWEEP_LEN: usize = 4096;
/// The same, bytes of texts that nobody has any more: few long ones are as bad as many short ones.
const DEAD_LEN_MAX: usize = 4 * 1024 * 1024;

/// Who makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Maker {
    /// A `Parse`.
    Parse,
    /// `PREPARE`, in SQL.
    Prepare,
}

/// What a `Parse` says behind the name: text, and types of parameters. Or what a `PREPARE` does.
#[derive(Debug)]
pub struct Statement {
    /// Its identity, as long as anybody has it.
    pub id: u64,
    /// Who makes it.
    pub maker: Maker,
    /// What stands behind the name: in the body of the `Parse`, or in the text of the `PREPARE`.
    pub tail: Arc<[u8]>,
    /// What the lexer says of the text.
    pub flags: Flags,
    /// By which settings its literals are read; `None`: by those that its clients have at their log-in.
    pub reads: Option<SessionState>,
    kept: Arc<Bytes>,
    /// Of the tenant that was the first to prepare it.
    share: Arc<Share>,
}

/// Bytes of texts.
#[derive(Debug, Default)]
struct Bytes {
    /// Of those that somebody has.
    total: AtomicUsize,
    /// Of those that are only still among the known ones.
    dead: AtomicUsize,
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
        self.share.take(self.tail.len());
        self.kept.total.fetch_sub(self.tail.len(), Ordering::Relaxed);
        self.kept.dead.fetch_add(self.tail.len(), Ordering::Relaxed);
    }
}

/// A tail, who makes it, and by which settings it is read.
type Otherwise = (Maker, SessionState, Arc<[u8]>);

/// All statements that some client has.
#[derive(Debug)]
pub struct Statements {
    parsed: DashMap<Arc<[u8]>, Weak<Statement>>,
    prepared: DashMap<Arc<[u8]>, Weak<Statement>>,
    read_otherwise: DashMap<Otherwise, Weak<Statement>>,
    next_id: AtomicU64,
    kept: Arc<Bytes>,
    shares: Shares,
    sweep_at: AtomicUsize,
}

/// Statements, for clients of one tenant.
#[derive(Debug, Clone, Copy)]
pub struct Kept<'a> {
    all: &'a Statements,
    tenant: &'a str,
    reads: Option<&'a SessionState>,
}

impl<'a> Kept<'a> {
    /// Those whose literals are read by these settings.
    #[must_use]
    pub const fn read_by(mut self, reads: Option<&'a SessionState>) -> Self {
        self.reads = reads;
        self
    }

    /// The statement with this tail. `None`: there is no room for one more.
    #[must_use]
    pub fn get(self, tail: &[u8], flags: Flags) -> Option<Arc<Statement>> {
        self.all.made_by(self, Maker::Parse, tail, flags, TENANTS_LEN_MAX)
    }

    /// The same statement, read by other settings.
    #[must_use]
    pub fn as_read(self, it: &Statement) -> Option<Arc<Statement>> {
        self.all.made_by(self, it.maker, &it.tail, it.flags, TEXT_LEN_MAX)
    }

    /// The same for a `PREPARE`.
    #[must_use]
    pub fn get_prepared(self, tail: &[u8]) -> Option<Arc<Statement>> {
        self.all.made_by(self, Maker::Prepare, tail, Flags::NONE, TENANTS_LEN_MAX)
    }

    /// The same for an unnamed one, of which each client has one: what its tenant has may be more by that.
    #[must_use]
    pub fn get_unnamed(self, tail: &[u8], flags: Flags) -> Option<Arc<Statement>> {
        self.all.made_by(self, Maker::Parse, tail, flags, TEXT_LEN_MAX)
    }
}

impl Default for Statements {
    fn default() -> Self {
        Self {
            parsed: DashMap::new(),
            prepared: DashMap::new(),
            read_otherwise: DashMap::new(),
            next_id: AtomicU64::new(0),
            kept: Arc::default(),
            shares: Shares::default(),
            sweep_at: AtomicUsize::new(SWEEP_LEN),
        }
    }
}

impl Statements {
    /// The same, for a tenant's clients.
    #[must_use]
    pub const fn of<'a>(&'a self, tenant: &'a str) -> Kept<'a> {
        Kept { all: self, tenant, reads: None }
    }

    fn made_by(
        &self,
        of: Kept<'_>,
        maker: Maker,
        tail: &[u8],
        flags: Flags,
        max: usize,
    ) -> Option<Arc<Statement>> {
        let known = match maker {
            Maker::Parse => &self.parsed,
            Maker::Prepare => &self.prepared,
        };
        let alive = match of.reads {
            None => known.get(tail).and_then(|known| known.upgrade()),
            Some(reads) => {
                let place = (maker, reads.clone(), tail.into());
                self.read_otherwise.get(&place).and_then(|known| known.upgrade())
            }
        };
        if alive.is_some() {
            return alive;
        }
        let share = self.shares.of(of.tenant);
        if self.kept.total.load(Ordering::Relaxed) + tail.len() > TEXT_LEN_MAX
            || !share.has_room(tail.len(), max)
        {
            return None;
        }
        self.sweep(known.len());
        let tail: Arc<[u8]> = tail.into();
        let make = || {
            self.kept.total.fetch_add(tail.len(), Ordering::Relaxed);
            share.add(tail.len());
            let id = self.next_id.fetch_add(1, Ordering::Relaxed);
            let (kept, share) = (Arc::clone(&self.kept), Arc::clone(&share));
            let (tail, reads) = (Arc::clone(&tail), of.reads.cloned());
            Arc::new(Statement { id, maker, tail, flags, reads, kept, share })
        };
        Some(match of.reads {
            None => kept_at(known.entry(Arc::clone(&tail)), make),
            Some(reads) => {
                let place = (maker, reads.clone(), Arc::clone(&tail));
                kept_at(self.read_otherwise.entry(place), make)
            }
        })
    }

    /// Bytes of all texts that are among the known ones.
    #[cfg(test)]
    pub(super) fn texts(&self) -> usize {
        [&self.parsed, &self.prepared]
            .iter()
            .flat_map(|known| known.iter())
            .map(|it| it.key().len())
            .sum()
    }

    fn sweep(&self, len: usize) {
        let len = len.max(self.read_otherwise.len());
        let is_long = self.kept.dead.load(Ordering::Relaxed) >= DEAD_LEN_MAX;
        if is_long || len >= self.sweep_at.load(Ordering::Relaxed) {
            self.kept.dead.store(0, Ordering::Relaxed);
            for known in [&self.parsed, &self.prepared] {
                known.retain(|_, statement| statement.strong_count() > 0);
            }
            self.read_otherwise.retain(|_, statement| statement.strong_count() > 0);
            self.shares.sweep();
            self.sweep_at.store(SWEEP_LEN.max(2 * len), Ordering::Relaxed);
        }
    }
}

/// The statement of a place, which is made if nobody has it any more.
fn kept_at<K: Eq + Hash>(
    place: Entry<'_, K, Weak<Statement>>,
    make: impl FnOnce() -> Arc<Statement>,
) -> Arc<Statement> {
    match place {
        Entry::Occupied(mut place) => place.get().upgrade().unwrap_or_else(|| {
            let statement = make();
            place.insert(Arc::downgrade(&statement));
            statement
        }),
        Entry::Vacant(place) => {
            let statement = make();
            place.insert(Arc::downgrade(&statement));
            statement
        }
    }
}
