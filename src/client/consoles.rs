//! Operators' sessions: how many there are, and how a cancel request reaches one that waits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use dashmap::DashMap;
use dashmap::mapref::multiple::RefMulti;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::Notify;

use crate::config::Right;

/// Sessions at once. They are beside `max_client_conn`: an operator gets in when clients do not.
const CONSOLES_MAX: usize = 100;
/// Of these, for those who may change something: an exporter that leaks sessions shuts no operator out.
const OPERATORS_ONLY: usize = 10;
/// Bytes of a key, as in protocol 3.0.
const KEY_LEN: usize = 4;

/// One session, as long as it is there.
pub struct ConsoleSeat {
    all: Arc<Consoles>,
    /// The process id that it is told: negative, as no client's is.
    pub pid: i32,
    /// The key that it is told.
    pub key: [u8; KEY_LEN],
    /// Rung by a cancel request.
    pub cancelled: Arc<Notify>,
}

impl Drop for ConsoleSeat {
    fn drop(&mut self) {
        self.all.0.remove(&self.pid);
    }
}

/// What is known of one from its login on.
#[derive(Debug, Clone)]
pub struct ConsoleFacts {
    /// As whom it has logged in.
    pub user: String,
    /// The database that it asked for: `tenantry` or `pgbouncer`.
    pub database: String,
    /// Its address; a unix socket has none.
    pub peer: Option<SocketAddr>,
    /// The pooler's address that it came to.
    pub local: Option<SocketAddr>,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// `application_name` in its start-up packet.
    pub application_name: String,
    /// When it logged in.
    pub since: SystemTime,
}

struct Entry {
    key: [u8; KEY_LEN],
    cancelled: Arc<Notify>,
    facts: ConsoleFacts,
}

/// All of them.
#[derive(Default)]
pub struct Consoles(DashMap<i32, Entry>);

impl Consoles {
    /// A place for one more; `None`: there are too many.
    #[must_use]
    pub fn enter(self: &Arc<Self>, right: Right, facts: ConsoleFacts) -> Option<ConsoleSeat> {
        let places = match right {
            Right::All => CONSOLES_MAX,
            Right::Show => CONSOLES_MAX - OPERATORS_ONLY,
        };
        let random = SystemRandom::new();
        loop {
            if self.0.len() >= places {
                return None;
            }
            let (mut pid, mut key) = ([0; 4], [0; KEY_LEN]);
            random.fill(&mut pid).and_then(|()| random.fill(&mut key)).ok()?;
            let pid = i32::from_be_bytes(pid) | i32::MIN;
            let cancelled = Arc::new(Notify::new());
            if self.0.contains_key(&pid) {
                continue;
            }
            self.0.insert(pid, Entry { key, cancelled: Arc::clone(&cancelled), facts });
            return Some(ConsoleSeat { all: Arc::clone(self), pid, key, cancelled });
        }
    }

    /// Who is there, by process id, the first one first.
    #[must_use]
    pub fn all(&self) -> Vec<(i32, ConsoleFacts)> {
        let entry = |entry: RefMulti<'_, i32, Entry>| (*entry.key(), entry.value().facts.clone());
        let mut all: Vec<_> = self.0.iter().map(entry).collect();
        all.sort_by_key(|(pid, facts)| (facts.since, *pid));
        all
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// A cancel request came; `true`: it was for one of them.
    #[must_use]
    pub fn cancel(&self, pid: i32, key: &[u8]) -> bool {
        let Some(entry) = self.0.get(&pid) else { return false };
        #[expect(
            deprecated,
            reason = "constant time; the names of its successors differ by version"
        )]
        let same = ring::constant_time::verify_slices_are_equal(&entry.key, key).is_ok();
        if same {
            entry.cancelled.notify_waiters();
        }
        same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_only_look_shuts_no_operator_out() {
        let all = Arc::new(Consoles::default());
        let facts = || ConsoleFacts {
            user: "ops".to_owned(),
            database: "tenantry".to_owned(),
            peer: None,
            local: None,
            tls: false,
            application_name: String::new(),
            since: SystemTime::UNIX_EPOCH,
        };
        let mut seats: Vec<ConsoleSeat> =
            std::iter::from_fn(|| all.enter(Right::Show, facts())).collect();
        assert_eq!(seats.len(), CONSOLES_MAX - OPERATORS_ONLY);
        seats.extend(std::iter::from_fn(|| all.enter(Right::All, facts())));
        assert_eq!(seats.len(), CONSOLES_MAX);
        drop(seats);
        assert!(all.enter(Right::Show, facts()).is_some());
    }
}
