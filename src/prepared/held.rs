//! What one server has prepared for the pooler's clients.

use std::collections::HashMap;

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

/// The number of a statement that has to be closed to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evicted(pub u32);

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
    /// Numbers that nobody can use any more, and that may still take memory there.
    dead: Vec<u32>,
    next_number: u32,
    clock: u64,
}

/// Most dead statements that are remembered. More than that stay until the server is scrubbed.
const DEAD_MAX: usize = 1024;

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
        self.dead.pop().map(Evicted)
    }

    /// Another number for a statement that the server has, and that is closed under its old one, which is returned too.
    pub fn renew(&mut self, key: Key) -> (Option<Evicted>, u32) {
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        let entry = self.entries.get_mut(&key);
        let old = entry.map(|entry| {
            entry.description = None;
            Evicted(std::mem::replace(&mut entry.number, number))
        });
        (old, number)
    }

    fn evict(&mut self) -> Option<Evicted> {
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
        let key = *oldest?.0;
        self.entries.remove(&key).map(|entry| Evicted(entry.number))
    }

    /// Which statement has a number.
    #[must_use]
    pub fn of_number(&self, number: u32) -> Option<u64> {
        self.entries.iter().find(|(_, entry)| entry.number == number).map(|(key, _)| key.statement)
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
        self.bury(entry.map(|entry| entry.number));
    }

    /// Nobody can tell which are there, or whether they are still good.
    pub fn forget_all(&mut self) {
        let numbers: Vec<u32> = self.entries.drain().map(|(_, entry)| entry.number).collect();
        self.bury(numbers);
    }

    /// Nobody can use these any more.
    pub fn bury(&mut self, numbers: impl IntoIterator<Item = u32>) {
        let room = DEAD_MAX.saturating_sub(self.dead.len());
        self.dead.extend(numbers.into_iter().take(room));
    }

    /// The server was scrubbed: nothing is there.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.dead.clear();
    }
}
