//! What one server has prepared for the pooler's clients.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

use super::Description;

/// Which statement, parsed in which class of session states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// [`super::Statement::id`].
    pub statement: u64,
    /// States in which a text means the same.
    pub class: u64,
}

/// A statement's number on a server: the rest of its name there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Never used twice on one connection.
    pub number: u32,
    /// It has to be parsed first.
    pub is_new: bool,
}

/// A statement that the server is to close, or has closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evicted {
    /// Its number there.
    pub number: u32,
    /// [`super::Statement::id`].
    pub statement: u64,
}

#[derive(Debug)]
struct Entry {
    number: u32,
    used: u64,
    /// What it returns there, if that was looked at.
    description: Option<Description>,
}

/// A server's statements; the least recently used one goes when there are too many.
#[derive(Debug, Default)]
pub struct Held {
    // Its keys are numbers of the pooler's own.
    entries: HashMap<Key, Entry, RandomState>,
    /// Those that nobody can use any more, and that may still take memory there.
    dead: Vec<Evicted>,
    /// The last ones that went: an error of a message that was sent before may still name them.
    gone: VecDeque<Evicted>,
    next_number: u32,
    clock: u64,
}

/// Most dead statements that are remembered. More than that stay until the server is scrubbed.
const DEAD_MAX: usize = 1024;
/// Most that are remembered for errors: a pipeline that names more of them has failed at the first one.
const GONE_MAX: usize = 64;

impl Held {
    /// The slot of a statement, and what has to go for it.
    pub fn take(&mut self, key: Key, max: usize) -> (Slot, Option<Evicted>) {
        self.clock += 1;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.used = self.clock;
            return (Slot { number: entry.number, is_new: false }, None);
        }
        let evicted = if self.entries.len() >= max { self.evict() } else { None };
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        self.entries.insert(key, Entry { number, used: self.clock, description: None });
        (Slot { number, is_new: true }, evicted)
    }

    /// One that takes memory for nobody: it goes with each new one, so they cannot pile up.
    pub fn take_dead(&mut self) -> Option<Evicted> {
        let dead = self.dead.pop()?;
        self.note_gone(dead);
        Some(dead)
    }

    /// Another number for a statement that the server has, and that is closed under its old one, which is returned too.
    pub fn renew(&mut self, key: Key) -> (Option<Evicted>, u32) {
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        let entry = self.entries.get_mut(&key);
        let old = entry.map(|entry| {
            entry.description = None;
            let number = std::mem::replace(&mut entry.number, number);
            Evicted { number, statement: key.statement }
        });
        if let Some(old) = old {
            self.note_gone(old);
        }
        (old, number)
    }

    fn evict(&mut self) -> Option<Evicted> {
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
        let key = *oldest?.0;
        let number = self.entries.remove(&key)?.number;
        let evicted = Evicted { number, statement: key.statement };
        self.note_gone(evicted);
        Some(evicted)
    }

    fn note_gone(&mut self, gone: Evicted) {
        self.gone.truncate(GONE_MAX - 1);
        self.gone.push_front(gone);
    }

    /// Which statement has a number, or had it lately.
    #[must_use]
    pub fn of_number(&self, number: u32) -> Option<u64> {
        let known = self.entries.iter().map(|(key, entry)| (entry.number, key.statement));
        let gone = self.gone.iter().chain(&self.dead).map(|it| (it.number, it.statement));
        known.chain(gone).find(|it| it.0 == number).map(|(_, statement)| statement)
    }

    /// What a statement returns there, if that is known.
    #[must_use]
    pub fn description(&self, key: Key) -> Option<&Description> {
        self.entries.get(&key)?.description.as_ref()
    }

    /// That was looked at.
    pub fn describe(&mut self, key: Key, description: Description) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.description = Some(description);
        }
    }

    /// Whether the server has it.
    #[must_use]
    pub fn has(&self, key: Key) -> bool {
        self.entries.contains_key(&key)
    }

    /// It may not be there: the next who binds it parses it again.
    pub fn forget(&mut self, key: Key) {
        let entry = self.entries.remove(&key);
        self.bury(entry.map(|it| Evicted { number: it.number, statement: key.statement }));
    }

    /// Nobody can tell which are there, or whether they are still good.
    pub fn forget_all(&mut self) {
        let all = self.entries.drain();
        let all: Vec<_> =
            all.map(|(key, it)| Evicted { number: it.number, statement: key.statement }).collect();
        self.bury(all);
    }

    /// Nobody can use these any more.
    pub fn bury(&mut self, dead: impl IntoIterator<Item = Evicted>) {
        let room = DEAD_MAX.saturating_sub(self.dead.len());
        self.dead.extend(dead.into_iter().take(room));
    }

    /// The server was scrubbed: nothing is there, and nobody waits for an answer.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.dead.clear();
        self.gone.clear();
    }

    /// A client drops all of them behind what it has sent.
    pub fn deallocate_all(&mut self) {
        self.forget_all();
        for dead in std::mem::take(&mut self.dead).into_iter().rev().take(GONE_MAX) {
            self.note_gone(dead);
        }
    }
}
