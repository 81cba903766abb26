//! A client's names, and what is not yet certain about them.
//!
//! A message changes the names when it is sent; each such message, and each of the pooler's own that
//! waits for an answer, leaves an [`Op`]. The answers come in the same order. When PostgreSQL skips
//! to the next `Sync` after an error, what the skipped messages did is undone. Until a unit is
//! answered, nothing is sent that depends on it from a later unit ([`Names::must_wait`]).

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::unnamed::UnnamedStatement;
use super::{Description, Evicted, Kept, Key, Maker, Statement};
use crate::flow::UnnamedLost;
use crate::sql::Flags;

/// Most names of one client. Who needs more keeps its server.
const NAMES_MAX: usize = 16_384;

/// Bytes from which on a statement is long.
const LONG_LEN: usize = 16 * 1024;
/// Most bytes of long statements of one client: an eighth of what is kept for all.
const LONG_MAX: usize = 32 * 1024 * 1024;

/// Something sent whose answer is still to come.
#[derive(Debug)]
pub enum Op {
    /// The client gave a name to a statement.
    Named {
        /// The name.
        name: Box<[u8]>,
        /// What the server parses with it, unless it had it.
        parses: Option<Key>,
    },
    /// The pooler parses a statement that the client has and the server lacks.
    Parse(Key),
    /// The pooler closes a statement on the server.
    Evicts(Evicted),
    /// The pooler parses the client's unnamed statement once more.
    ParsesUnnamed,
    /// The pooler keeps a place in the order of answers.
    Other,
    /// The client closed a name.
    Closed {
        /// The name.
        name: Box<[u8]>,
        /// What it meant.
        was: Option<Arc<Statement>>,
        /// What the client was told that it returns.
        told: Option<Description>,
    },
    /// The server's error will be replaced by this message.
    Refused(Bytes),
    /// What a statement returns was asked for: by the client under this name, or by the pooler.
    Described {
        /// The client's name.
        name: Option<Box<[u8]>>,
        /// What the name meant then; see [`Names::meaning`].
        of: u64,
        /// What it is on the server; `None`: the unnamed one.
        key: Option<Key>,
    },
}

/// What a server has not done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Statements that it lacks.
    pub lacks: Vec<Key>,
    /// Those that it still has.
    pub stay: Vec<Evicted>,
    /// It may lack the client's unnamed statement.
    pub unnamed: bool,
}

/// What PostgreSQL tells names of statements apart by: `NAMEDATALEN` less one.
const NAME_LEN_MAX: usize = 63;

/// A name, as far as it counts.
fn cut(name: &[u8]) -> &[u8] {
    &name[..name.len().min(NAME_LEN_MAX)]
}

/// What a client's names mean.
#[derive(Debug, Default)]
pub struct Names {
    // By SipHash: clients choose the names, and whoever made them collide would hold up his worker.
    known: HashMap<Box<[u8]>, Arc<Statement>>,
    /// What the client was told that statements return, by its names for them; the unnamed one too.
    told: HashMap<Box<[u8]>, Description>,
    ops: VecDeque<Op>,
    /// A unit has ended whose ops are not all answered.
    sealed: bool,
    /// `DEALLOCATE`s of single names that run as something else, and whose answers are to come: the
    /// names, or nothing where a name was given anew behind it.
    disguised: VecDeque<Option<Box<[u8]>>>,
    /// `PREPARE` has made some.
    has_prepared: bool,
    unnamed: UnnamedStatement,
    /// What the client was told that it returned.
    told_before: Option<Description>,
}

impl Names {
    /// What a name means.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        let name = cut(name);
        let goes = self.disguised.iter().any(|gone| gone.as_deref() == Some(name));
        if goes { None } else { self.known.get(name) }
    }

    /// A name of a statement, or one that it had until a message took it away whose answer is still to come.
    #[must_use]
    pub fn name_of(&self, statement: u64) -> Option<&[u8]> {
        let taken = self.ops.iter().filter_map(|op| match op {
            Op::Closed { name, was: Some(was), .. } => Some((name, was)),
            _ => None,
        });
        let mut all = self.known.iter().chain(taken);
        all.find(|(_, known)| known.id == statement).map(|(name, _)| &**name)
    }

    /// All names, and what they mean.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Arc<Statement>)> {
        self.known.iter().map(|(name, statement)| (&**name, statement))
    }

    /// Names that `PREPARE` has made. Such a client may use them in SQL wherever text is run.
    pub fn prepared(&self) -> impl Iterator<Item = &[u8]> {
        let known = self.has_prepared.then(|| self.iter());
        known
            .into_iter()
            .flatten()
            .filter(|(_, it)| it.maker == Maker::Prepare)
            .map(|(name, _)| name)
    }

    /// Whether `PREPARE` has made some.
    #[inline]
    #[must_use]
    pub const fn has_prepared(&self) -> bool {
        self.has_prepared
    }

    /// Whether there is room for one more name, of a statement of so many bytes. Long ones are few, and one client must
    /// not have all that is kept for everybody.
    #[must_use]
    pub fn has_room(&self, len: usize) -> bool {
        let long = |len: &usize| *len > LONG_LEN;
        let others = || self.known.values().map(|statement| statement.tail.len()).filter(long);
        self.known.len() < NAMES_MAX && (!long(&len) || others().sum::<usize>() + len <= LONG_MAX)
    }

    /// Gives a name, which must be free.
    pub fn insert(&mut self, name: &[u8], statement: Arc<Statement>, parses: Option<Key>) {
        let name = cut(name);
        for gone in self.disguised.iter_mut().filter(|gone| gone.as_deref() == Some(name)) {
            *gone = None;
        }
        self.has_prepared |= statement.maker == Maker::Prepare;
        self.known.insert(name.into(), statement);
        self.told.remove(name);
        self.ops.push_back(Op::Named { name: name.into(), parses });
    }

    /// A name means the same statement, read by what it was read by when the client prepared it.
    pub fn read_as(&mut self, name: &[u8], statement: Arc<Statement>) {
        if let Some(known) = self.known.get_mut(cut(name)) {
            *known = statement;
        }
    }

    /// Whether the client was told what any of its statements returns.
    #[inline]
    #[must_use]
    pub fn tells(&self) -> bool {
        !self.told.is_empty()
    }

    /// What the client was told that a statement returns.
    #[must_use]
    pub fn told(&self, name: &[u8]) -> Option<&Description> {
        let name = cut(name);
        self.told.get(name)
    }

    /// What a name means now: another number than for all that it meant before.
    #[must_use]
    pub fn meaning(&self, name: &[u8]) -> u64 {
        let name = cut(name);
        match name {
            [] => self.unnamed.count(),
            _ => self.known.get(name).map_or(u64::MAX, |statement| statement.id),
        }
    }

    /// It is told that of what the name meant when it asked; it may have given the name anew behind that.
    pub fn tell(&mut self, name: &[u8], of: u64, description: Description) {
        let name = cut(name);
        if self.meaning(name) == of {
            self.told.insert(name.into(), description);
            return;
        }
        // What took the name away may be skipped.
        let taken = self.ops.iter_mut().find_map(|op| match op {
            Op::Closed { name: closed, was: Some(was), told } => {
                (**closed == *name && was.id == of).then_some(told)
            }
            _ => None,
        });
        if let Some(told) = taken {
            *told = Some(description);
        }
    }

    /// Takes a name away.
    pub fn remove(&mut self, name: &[u8]) {
        let name = cut(name);
        let (was, told) = (self.known.remove(name), self.told.remove(name));
        self.ops.push_back(Op::Closed { name: name.into(), was, told });
    }

    /// Takes a name away by SQL, once that has run.
    pub fn deallocate(&mut self, name: &[u8]) {
        let name = cut(name);
        self.disguised.push_back(Some(name.into()));
    }

    /// Whether a `DEALLOCATE` that runs as something else is to be answered.
    #[must_use]
    pub fn is_disguised(&self) -> bool {
        !self.disguised.is_empty()
    }

    /// The first of them has run.
    pub fn deallocated(&mut self) {
        if let Some(Some(name)) = self.disguised.pop_front() {
            self.known.remove(&name);
            self.told.remove(&name);
        }
    }

    /// An error came instead: none of them runs, because nothing is sent behind them that could.
    pub fn not_deallocated(&mut self) {
        self.disguised.clear();
    }

    /// Something else was sent that will be answered in its turn.
    pub fn push(&mut self, op: Op) {
        self.ops.push_back(op);
    }

    /// A unit ends: what its ops will come to is not known to the next one.
    pub fn seal(&mut self) {
        self.sealed = !self.ops.is_empty();
        self.unnamed.end_unit();
    }

    /// Whether a message about named statements has to wait for answers.
    #[must_use]
    pub const fn must_wait(&self) -> bool {
        self.sealed
    }

    /// Whether an answer is awaited.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.ops.is_empty()
    }

    /// The first op was answered.
    pub fn answered(&mut self) -> Option<Op> {
        let op = self.ops.pop_front();
        self.sealed &= !self.ops.is_empty();
        op
    }

    /// The first `count` ops were skipped: undoes them, the last first.
    pub fn skipped(&mut self, count: usize) -> Skipped {
        let mut undone = Skipped::default();
        let skipped: Vec<Op> = self.ops.drain(..count.min(self.ops.len())).collect();
        for op in skipped.into_iter().rev() {
            match op {
                Op::Named { name, parses } => {
                    self.known.remove(&name);
                    self.told.remove(&name);
                    undone.lacks.extend(parses);
                }
                Op::Closed { name, was: Some(was), told } => {
                    if let Some(told) = told {
                        self.told.insert(name.clone(), told);
                    }
                    self.known.insert(name, was);
                }
                Op::Parse(key) => undone.lacks.push(key),
                Op::Evicts(evicted) => undone.stay.push(evicted),
                Op::ParsesUnnamed => undone.unnamed = true,
                Op::Closed { was: None, .. }
                | Op::Other
                | Op::Refused(_)
                | Op::Described { .. } => {}
            }
        }
        self.sealed &= !self.ops.is_empty();
        undone
    }

    /// `DEALLOCATE ALL` or `DISCARD ALL` has run.
    pub fn clear(&mut self) {
        self.known.clear();
        self.told.retain(|name, _| name.is_empty());
    }

    /// Whether nothing needs to be kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.ops.is_empty() && !self.has_unnamed()
    }

    /// Whether the client has an unnamed statement.
    #[must_use]
    pub const fn has_unnamed(&self) -> bool {
        self.unnamed.exists()
    }

    /// Which of all that it has had.
    #[must_use]
    pub const fn unnamed_count(&self) -> u64 {
        self.unnamed.count()
    }

    /// Whether the unit that is read has changed it.
    #[must_use]
    pub fn has_changed_unnamed(&self) -> bool {
        self.unnamed.is_of_this_unit()
    }

    /// The unnamed statement, if its text has flags or it is long.
    #[must_use]
    pub const fn kept_unnamed(&self) -> Option<&Arc<Statement>> {
        self.unnamed.kept()
    }

    /// What the unnamed statement says.
    #[inline]
    #[must_use]
    pub fn unnamed_flags(&self) -> Flags {
        self.unnamed.flags()
    }

    /// The unnamed statement, once it is needed.
    pub fn unnamed(&mut self, all: Kept<'_>) -> Option<Arc<Statement>> {
        self.unnamed.get(all)
    }

    /// A unit begins.
    pub const fn begin_unit(&mut self) {
        self.unnamed.begin_unit();
    }

    /// The unit is read once more.
    pub fn rewind(&mut self) {
        if self.unnamed.rewind() {
            self.tell_again();
        }
    }

    fn tell_again(&mut self) {
        if let Some(told) = self.told_before.take() {
            self.told.insert(Box::default(), told);
        }
    }

    fn change_unnamed(&mut self) {
        let told = if self.told.is_empty() { None } else { self.told.remove(&b""[..]) };
        if self.unnamed.begin_change() {
            self.told_before = told;
        }
    }

    /// The client has parsed another one; `None`: it has none any more.
    pub fn keep_unnamed(&mut self, statement: Option<Arc<Statement>>) {
        self.change_unnamed();
        self.unnamed.keep(statement);
    }

    /// The client parses another one and binds it at once. It leaves nothing behind.
    pub fn use_unnamed(&mut self, tail: &[u8]) {
        self.change_unnamed();
        self.unnamed.keep_text(tail);
    }

    /// An error: what was to change the unnamed statement did not.
    pub fn lose_unnamed(&mut self, lost: UnnamedLost, all: Kept<'_>) {
        self.unnamed.lose(lost, all);
        if lost == UnnamedLost::Behind(0) {
            self.tell_again();
        }
    }
}
