//! The unnamed statement, which the client may bind in a later transaction, on another server.
//!
//! Behind an error PostgreSQL skips what would have changed it: then it is still what it was. All that a unit makes of
//! it is kept until the next one changes it, in memory that is used again.

use std::sync::Arc;

use super::{Kept, Statement};
use crate::flow::UnnamedLost;
use crate::sql::Flags;

/// Longest unnamed statement that a client keeps for itself; longer ones are kept once for all.
pub const UNNAMED_LEN_MAX: usize = 1024;

/// Most bytes of what a unit has made of it on the way.
const EARLIER_LEN_MAX: usize = 64 * 1024;

/// A client's unnamed statement, which a server may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnnamedOf {
    /// The client's process id.
    pub client: i32,
    /// Which of all that it has had.
    pub count: u64,
}

impl UnnamedOf {
    /// Nobody may find what there is.
    pub const NOBODY: Self = Self { client: 0, count: 0 };
}

#[derive(Debug, Default)]
enum Unnamed {
    #[default]
    None,
    Kept(Arc<Statement>),
    /// It was bound at once, and most clients never bind it again: just what the `Parse` said behind the
    /// name, in memory that is used again.
    Used(Vec<u8>),
}

/// Who has changed it last.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Changed {
    /// A unit before the one that is read, and there is no way back.
    #[default]
    Before,
    /// The unit that is read.
    Now,
    /// A unit that has been read to its end, and may be read once more.
    InLast,
}

/// A client's unnamed statement.
#[derive(Debug, Default)]
pub(super) struct UnnamedStatement {
    now: Unnamed,
    /// What it was when the unit began, if the unit has changed it.
    before: Unnamed,
    changed: Changed,
    /// What each change of the unit but the last has made of it: texts, one behind the other, and where each ends.
    earlier: Vec<u8>,
    ends: Vec<Option<(usize, Flags)>>,
    /// How many there were.
    count: u64,
}

impl UnnamedStatement {
    pub(super) const fn exists(&self) -> bool {
        !matches!(self.now, Unnamed::None)
    }

    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    #[inline]
    pub(super) fn flags(&self) -> Flags {
        match &self.now {
            Unnamed::Kept(statement) => statement.flags,
            Unnamed::None | Unnamed::Used(_) => Flags::NONE,
        }
    }

    pub(super) const fn kept(&self) -> Option<&Arc<Statement>> {
        match &self.now {
            Unnamed::Kept(statement) => Some(statement),
            Unnamed::None | Unnamed::Used(_) => None,
        }
    }

    /// It, once it is needed.
    pub(super) fn get(&mut self, all: Kept<'_>) -> Option<Arc<Statement>> {
        if let Unnamed::Used(tail) = &self.now {
            self.now = all.get_unnamed(tail, Flags::NONE).map_or(Unnamed::None, Unnamed::Kept);
        }
        match &self.now {
            Unnamed::Kept(statement) => Some(Arc::clone(statement)),
            Unnamed::None | Unnamed::Used(_) => None,
        }
    }

    pub(super) fn is_of_this_unit(&self) -> bool {
        self.changed == Changed::Now
    }

    pub(super) const fn begin_unit(&mut self) {
        self.changed = Changed::Before;
    }

    pub(super) const fn end_unit(&mut self) {
        if matches!(self.changed, Changed::Now) {
            self.changed = Changed::InLast;
        }
    }

    /// The unit is read once more. `true` if it has changed anything.
    pub(super) fn rewind(&mut self) -> bool {
        let has_changed = std::mem::take(&mut self.changed) != Changed::Before;
        if has_changed {
            std::mem::swap(&mut self.now, &mut self.before);
        }
        has_changed
    }

    /// What it was stays known until the next unit. `true` for the first change of a unit.
    pub(super) fn begin_change(&mut self) -> bool {
        self.count += 1;
        if self.changed == Changed::Now {
            self.note_earlier();
            return false;
        }
        self.earlier.clear();
        self.ends.clear();
        std::mem::swap(&mut self.now, &mut self.before);
        self.changed = Changed::Now;
        true
    }

    fn note_earlier(&mut self) {
        let (tail, flags) = match &self.now {
            Unnamed::None => return self.ends.push(None),
            Unnamed::Kept(statement) => (&*statement.tail, statement.flags),
            Unnamed::Used(tail) => (tail.as_slice(), Flags::NONE),
        };
        if self.earlier.len() + tail.len() <= EARLIER_LEN_MAX {
            self.earlier.extend_from_slice(tail);
            self.ends.push(Some((self.earlier.len(), flags)));
        } else {
            self.ends.push(None);
        }
    }

    /// `None`: the client has none any more.
    pub(super) fn keep(&mut self, statement: Option<Arc<Statement>>) {
        self.now = statement.map_or(Unnamed::None, Unnamed::Kept);
    }

    /// It is bound at once. It leaves nothing behind.
    pub(super) fn keep_text(&mut self, tail: &[u8]) {
        match &mut self.now {
            Unnamed::Used(kept) => {
                kept.clear();
                kept.extend_from_slice(tail);
            }
            Unnamed::None | Unnamed::Kept(_) => self.now = Unnamed::Used(tail.to_vec()),
        }
    }

    /// An error has come in the unit that last changed it, or in one before.
    pub(super) fn lose(&mut self, lost: UnnamedLost, all: Kept<'_>) {
        self.count += 1;
        match lost {
            UnnamedLost::Failed => self.now = Unnamed::None,
            UnnamedLost::Earlier => self.before = Unnamed::None,
            UnnamedLost::Behind(0) => std::mem::swap(&mut self.now, &mut self.before),
            UnnamedLost::Behind(ran) => self.now = self.made_by(ran as usize - 1, all),
        }
    }

    fn made_by(&self, change: usize, all: Kept<'_>) -> Unnamed {
        let Some(Some((end, flags))) = self.ends.get(change) else { return Unnamed::None };
        let begin = self.ends[..change].iter().rev().flatten().next().map_or(0, |(end, _)| *end);
        all.get_unnamed(&self.earlier[begin..*end], *flags).map_or(Unnamed::None, Unnamed::Kept)
    }
}
