//! Who is next: one FIFO a tenant, and tenants take turns.
//!
//! Pure: no clocks, no servers. A ticket is whatever the caller waits with.

use std::collections::{HashMap, VecDeque};

use crate::config::Quotas;
use crate::tenant::TenantId;

/// The tenant is at `max_client_connections`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tenant already has {limit} clients")]
pub struct TooManyClients {
    /// The limit.
    pub limit: usize,
}

/// The tenant is at `max_waiting_clients`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueFull {
    pub(super) limit: usize,
}

/// A ticket's number, to find it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TicketId(u64);

#[derive(Debug)]
struct Entry<T> {
    id: TenantId,
    clients: usize,
    in_use: usize,
    max_clients: usize,
    max_servers: usize,
    max_waiting: usize,
    /// Tickets it ever had.
    waits: u64,
    waiting: VecDeque<(TicketId, T)>,
}

/// Tenants with clients, by their place in `entries`.
#[derive(Debug)]
pub(super) struct Turns<T> {
    entries: Vec<Option<Entry<T>>>,
    free: Vec<usize>,
    places: HashMap<TenantId, usize>,
    /// Tenants with tickets, each once, in the order of their turns.
    ring: VecDeque<usize>,
    last_ticket: u64,
}

impl<T> Turns<T> {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            places: HashMap::new(),
            ring: VecDeque::new(),
            last_ticket: 0,
        }
    }

    fn entry(&mut self, place: usize) -> &mut Entry<T> {
        self.entries[place].as_mut().expect("a seat keeps its tenant's entry")
    }

    /// A client of the tenant comes; its place is kept until [`Turns::leave`].
    pub(super) fn enter(
        &mut self,
        id: &TenantId,
        quotas: &Quotas,
    ) -> Result<usize, TooManyClients> {
        let place = *self.places.entry(id.clone()).or_insert_with(|| {
            self.free.pop().unwrap_or_else(|| {
                self.entries.push(None);
                self.entries.len() - 1
            })
        });
        let entry = self.entries[place].get_or_insert_with(|| Entry {
            id: id.clone(),
            clients: 0,
            in_use: 0,
            max_clients: 0,
            max_servers: 0,
            max_waiting: 0,
            waits: 0,
            waiting: VecDeque::new(),
        });
        // The last word of the configuration counts, for the clients that are here already too.
        entry.max_clients = quotas.max_client_connections;
        entry.max_servers = quotas.max_server_connections;
        entry.max_waiting = quotas.max_waiting_clients;
        if entry.clients >= entry.max_clients {
            return Err(TooManyClients { limit: entry.max_clients });
        }
        entry.clients += 1;
        Ok(place)
    }

    /// Tenants that have clients.
    pub(super) fn tenants(&self) -> impl Iterator<Item = &TenantId> {
        self.places.keys()
    }

    /// A client goes. With the last one, the tenant is forgotten.
    pub(super) fn leave(&mut self, place: usize) {
        let entry = self.entry(place);
        entry.clients -= 1;
        if entry.clients == 0 {
            debug_assert_eq!(entry.in_use, 0, "a loan keeps its seat");
            let id = entry.id.clone();
            self.places.remove(&id);
            self.entries[place] = None;
            self.free.push(place);
            self.ring.retain(|waiting| *waiting != place);
        }
    }

    /// Whether nobody waits.
    pub(super) fn nobody_waits(&self) -> bool {
        self.ring.is_empty()
    }

    /// Takes a server for the tenant if it is below its limit and nobody of it waits already.
    pub(super) fn take(&mut self, place: usize) -> bool {
        let entry = self.entry(place);
        let may = entry.waiting.is_empty() && entry.in_use < entry.max_servers;
        entry.in_use += usize::from(may);
        may
    }

    /// A server of the tenant comes back or is gone.
    pub(super) fn give_back(&mut self, place: usize) {
        self.entry(place).in_use -= 1;
    }

    /// Servers the tenant has, and may have.
    pub(super) fn usage(&mut self, place: usize) -> (usize, usize) {
        let entry = self.entry(place);
        (entry.in_use, entry.max_servers)
    }

    /// How often clients of the tenant have waited since its first client came.
    pub(super) fn waits(&self, id: &str) -> u64 {
        let entry = self.entries.iter().flatten().find(|entry| entry.id.as_str() == id);
        entry.map_or(0, |entry| entry.waits)
    }

    /// Queues a ticket.
    pub(super) fn wait(&mut self, place: usize, ticket: T) -> Result<TicketId, QueueFull> {
        self.last_ticket += 1;
        let id = TicketId(self.last_ticket);
        let entry = self.entry(place);
        if entry.waiting.len() >= entry.max_waiting {
            return Err(QueueFull { limit: entry.max_waiting });
        }
        entry.waits += 1;
        entry.waiting.push_back((id, ticket));
        if entry.waiting.len() == 1 {
            self.ring.push_back(place);
        }
        Ok(id)
    }

    /// Takes a ticket out of the queue, if it is still in it.
    pub(super) fn forget(&mut self, place: usize, id: TicketId) {
        let entry = self.entry(place);
        entry.waiting.retain(|(waiting, _)| *waiting != id);
        if entry.waiting.is_empty() {
            self.ring.retain(|waiting| *waiting != place);
        }
    }

    /// Tenants in the order of their turns that wait and are below their limit: place, first
    /// ticket, and how many of its tickets could be served now.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = (usize, &T, usize)> {
        self.ring.iter().filter_map(|&place| {
            let entry = self.entries[place].as_ref()?;
            let room = entry.max_servers.saturating_sub(entry.in_use).min(entry.waiting.len());
            let (_, first) = entry.waiting.front()?;
            (room > 0).then_some((place, first, room))
        })
    }

    /// Serves the tenant's first ticket: it has one server more, and its next turn comes last.
    pub(super) fn serve(&mut self, place: usize) -> Option<T> {
        let entry = self.entry(place);
        let (_, ticket) = entry.waiting.pop_front()?;
        entry.in_use += 1;
        let waits_on = !entry.waiting.is_empty();
        self.ring.retain(|waiting| *waiting != place);
        if waits_on {
            self.ring.push_back(place);
        }
        Some(ticket)
    }

    /// All tickets that wait.
    pub(super) fn tickets(&self) -> impl Iterator<Item = &T> {
        let waiting = |&place: &usize| self.entries[place].as_ref().map(|entry| &entry.waiting);
        self.ring.iter().filter_map(waiting).flatten().map(|(_, ticket)| ticket)
    }

    /// Takes out every ticket for which `is_hopeless`.
    pub(super) fn drain(&mut self, mut is_hopeless: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut drained = Vec::new();
        for entry in self.entries.iter_mut().flatten() {
            let (out, keep) = entry.waiting.drain(..).partition(|(_, ticket)| is_hopeless(ticket));
            entry.waiting = keep;
            let out: VecDeque<(TicketId, T)> = out;
            drained.extend(out.into_iter().map(|(_, ticket)| ticket));
        }
        let entries = &self.entries;
        let waits = |place: &usize| entries[*place].as_ref().is_some_and(|e| !e.waiting.is_empty());
        self.ring.retain(waits);
        drained
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::tenant::NamePattern;

    fn id(name: &str) -> TenantId {
        NamePattern::new("[a-z0-9]+").unwrap().parse(name).unwrap()
    }

    fn quotas(clients: usize, servers: usize, waiting: usize) -> Quotas {
        Quotas {
            max_client_connections: clients,
            max_server_connections: servers,
            max_waiting_clients: waiting,
            query_wait_timeout: Duration::from_secs(1),
        }
    }

    fn order(turns: &mut Turns<&'static str>) -> Vec<&'static str> {
        let mut order = Vec::new();
        loop {
            let next = turns.in_turn().next().map(|(place, ..)| place);
            let Some(place) = next else { return order };
            order.extend(turns.serve(place));
        }
    }

    #[test]
    fn a_loud_tenant_does_not_starve_a_quiet_one() {
        let mut turns = Turns::new();
        let loud = turns.enter(&id("loud"), &quotas(9, 9, 9)).unwrap();
        let quiet = turns.enter(&id("quiet"), &quotas(9, 9, 9)).unwrap();
        for ticket in ["l1", "l2", "l3"] {
            turns.wait(loud, ticket).unwrap();
        }
        turns.wait(quiet, "q1").unwrap();
        assert_eq!(order(&mut turns), ["l1", "q1", "l2", "l3"]);
    }

    #[test]
    fn a_tenant_at_its_limit_waits_and_lets_others_pass() {
        let mut turns = Turns::new();
        let a = turns.enter(&id("a"), &quotas(9, 1, 9)).unwrap();
        let b = turns.enter(&id("b"), &quotas(9, 1, 9)).unwrap();
        assert!(turns.take(a) && !turns.take(a));
        turns.wait(a, "a2").unwrap();
        turns.wait(b, "b1").unwrap();
        assert_eq!(order(&mut turns), ["b1"]);
        turns.give_back(a);
        assert_eq!(order(&mut turns), ["a2"]);
    }

    #[test]
    fn nobody_overtakes_his_own_tenants_queue() {
        let mut turns = Turns::new();
        let a = turns.enter(&id("a"), &quotas(9, 2, 9)).unwrap();
        turns.wait(a, "first").unwrap();
        assert!(!turns.take(a), "somebody of the tenant waits already");
    }

    #[test]
    fn limits_on_clients_and_on_the_queue_refuse_at_once() {
        let mut turns = Turns::new();
        let quotas = quotas(2, 1, 1);
        let a = turns.enter(&id("a"), &quotas).unwrap();
        assert_eq!(turns.enter(&id("a"), &quotas), Ok(a));
        assert_eq!(turns.enter(&id("a"), &quotas), Err(TooManyClients { limit: 2 }));
        let ticket = turns.wait(a, "x").unwrap();
        assert_eq!(turns.wait(a, "y"), Err(QueueFull { limit: 1 }));
        turns.forget(a, ticket);
        assert!(turns.nobody_waits() && turns.wait(a, "y").is_ok());
        turns.leave(a);
        assert!(turns.enter(&id("a"), &quotas).is_ok());
    }

    proptest! {
        /// No limit is ever exceeded, nobody is lost, and everybody is served in the end.
        #[test]
        fn caps_hold_at_every_step(steps in prop::collection::vec((0..4usize, 0..3usize), 1..200)) {
            let mut turns = Turns::new();
            let names = ["a", "b", "c", "d"];
            let places: Vec<usize> =
                names.iter().map(|n| turns.enter(&id(n), &quotas(9, 2, 5)).unwrap()).collect();
            let (mut in_use, mut queued) = ([0usize; 4], [0usize; 4]);
            for (tenant, step) in steps {
                let place = places[tenant];
                match step {
                    0 if turns.take(place) => in_use[tenant] += 1,
                    0 if turns.wait(place, tenant).is_ok() => queued[tenant] += 1,
                    1 if in_use[tenant] > 0 => {
                        turns.give_back(place);
                        in_use[tenant] -= 1;
                    }
                    2 => {
                        let next = turns.in_turn().next().map(|(place, ..)| place);
                        if let Some(served) = next.and_then(|place| turns.serve(place)) {
                            in_use[served] += 1;
                            queued[served] -= 1;
                        }
                    }
                    _ => {}
                }
                prop_assert!(in_use.iter().all(|n| *n <= 2));
                prop_assert!(queued.iter().all(|n| *n <= 5));
            }
            for (tenant, place) in places.iter().enumerate() {
                for _ in 0..in_use[tenant] { turns.give_back(*place); }
            }
            let mut left: usize = queued.iter().sum();
            while let Some(place) = {  turns.in_turn().next().map(|(p, ..)| p) } {
                turns.serve(place);
                turns.give_back(place);
                left -= 1;
            }
            prop_assert_eq!(left, 0);
            prop_assert!(turns.nobody_waits());
        }
    }
}
