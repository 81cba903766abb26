//! States that PostgreSQL has refused: who comes again and again with the same one is told so without a server.
//!
//! A few times it is asked anew each time: somebody may just have made what was missing. After that once in a while.

use std::time::{Duration, Instant};

use dashmap::DashMap;

use super::refusal::Refusal;
use super::welcome::Key;
use crate::wire::backend::ServerError;

/// Refusals in a row that PostgreSQL is asked for.
const ASKED_MAX: u32 = 5;
/// Beyond that it is asked no more often.
const ASKED_AGAIN: Duration = Duration::from_secs(1);
/// What was refused so long ago counts no more.
const AGE_MAX: Duration = Duration::from_mins(1);
/// States remembered.
const STATES_MAX: usize = 4096;

#[derive(Debug, Clone)]
enum Answer {
    /// PostgreSQL's own words for what the client asked.
    Server(ServerError),
    /// The tenant's state.
    Switch(String),
    /// There is no schema of that name.
    NoSchema(String),
}

struct Entry {
    answer: Answer,
    count: u32,
    at: Instant,
}

/// The states, by tenant.
#[derive(Default)]
pub(super) struct Refused(DashMap<Key, Entry>);

impl Refused {
    /// What was said of that state, if it need not be asked for again now.
    pub(super) fn again(&self, key: &Key) -> Option<Refusal> {
        let entry = self.0.get(key)?;
        let known = entry.count >= ASKED_MAX && entry.at.elapsed() < ASKED_AGAIN;
        let tenant = key.0.to_string();
        known.then(|| match entry.answer.clone() {
            Answer::Server(error) => Refusal::Server(error),
            Answer::Switch(error) => Refusal::Switch { tenant, error },
            Answer::NoSchema(schema) => Refusal::NoSchema { schema, tenant },
        })
    }

    /// It was asked for.
    pub(super) fn note(&self, key: &Key, refusal: Option<&Refusal>) {
        let answer = match refusal {
            Some(Refusal::Server(error)) => Answer::Server(error.clone()),
            Some(Refusal::Switch { error, .. }) => Answer::Switch(error.clone()),
            Some(Refusal::NoSchema { schema, .. }) => Answer::NoSchema(schema.clone()),
            None => {
                if !self.0.is_empty() {
                    self.0.remove(key);
                }
                return;
            }
            // Nobody was asked.
            Some(_) => return,
        };
        if self.0.len() >= STATES_MAX {
            self.0.retain(|_, entry| entry.at.elapsed() < ASKED_AGAIN);
        }
        if self.0.len() >= STATES_MAX {
            return;
        }
        let now = Instant::now();
        let mut entry = self.0.entry(key.clone()).or_insert(Entry {
            answer: answer.clone(),
            count: 0,
            at: now,
        });
        let count = if entry.at.elapsed() < AGE_MAX { entry.count + 1 } else { 1 };
        *entry = Entry { answer, count, at: now };
    }

    pub(super) fn forget_all(&self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::{NamePattern, SessionState};

    fn key(tenant: &str) -> Key {
        (NamePattern::new("[a-z]+").unwrap().parse(tenant).unwrap(), SessionState::default())
    }

    #[test]
    fn who_comes_again_and_again_is_told_without_a_server_for_a_while() {
        let (refused, acme) = (Refused::default(), key("acme"));
        let refusal = Refusal::Switch { tenant: "acme".to_owned(), error: "no role".to_owned() };
        for _ in 0..ASKED_MAX {
            assert!(refused.again(&acme).is_none(), "it may have been mended");
            refused.note(&acme, Some(&refusal));
        }
        let told = refused.again(&acme).unwrap();
        assert!(matches!(&told, Refusal::Switch { error, .. } if error == "no role"), "{told:?}");
        assert!(refused.again(&key("umbra")).is_none());
        // It is asked anew once in a while.
        let past = Instant::now().checked_sub(ASKED_AGAIN).unwrap();
        refused.0.get_mut(&acme).unwrap().at = past;
        assert!(refused.again(&acme).is_none());
        refused.note(&acme, Some(&refusal));
        assert!(refused.again(&acme).is_some());
        // And forgotten when it succeeds, and with what holds.
        refused.note(&acme, None);
        assert!(refused.again(&acme).is_none() && refused.0.is_empty());
        refused.note(&acme, Some(&Refusal::ShuttingDown));
        assert!(refused.0.is_empty(), "PostgreSQL has said nothing");
    }
}
