//! How often a user has failed to prove itself from an address: guessing passwords is slow.
//!
//! Each user has a bucket of failures for each address that it comes from and each tenant that it names, and a larger
//! one for all tenants together: names are the client's to choose. A bucket empties with time. While it is full nobody
//! is asked for a password there, but for who has proved itself lately: its password is looked at, and a wrong one is
//! answered late. So in a sidecar and behind NAT, where all share an address, no client keeps another one out. The
//! console has buckets of its own. Unix sockets have no address, and no bucket.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use dashmap::DashMap;

/// After so long one more failure of a user that names this tenant is allowed.
const REFILL: Duration = Duration::from_secs(1);
/// The larger bucket has room for so many times as many failures, and empties so many times as fast.
const TENANTS_PART: u32 = 10;
/// How long a proof is lately.
const PROOF_AGE_MAX: Duration = Duration::from_hours(1);
/// A proof is noted again after so long.
const PROOF_AGE_NOTED: Duration = Duration::from_mins(1);
/// Buckets kept; beyond that those with the fewest failures are forgotten first.
const BUCKETS_MAX: usize = 100_000;

/// Where a client knocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// To PostgreSQL.
    Pool,
    /// To the console.
    Console,
    /// Nowhere: what it asks for is refused, whoever it is.
    Refused,
}

/// Who wants in.
#[derive(Debug, Clone, Copy)]
pub struct Knock<'a> {
    /// From where.
    pub address: IpAddr,
    /// As whom.
    pub user: &'a str,
    /// As which tenant, if it names one.
    pub tenant: Option<&'a str>,
    /// To what.
    pub door: Door,
}

/// What to do with who wants in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Ask for a password.
    Ask,
    /// Ask, and answer a wrong password so much later.
    AskAndDelay(Duration),
    /// Do not ask. After so long it may try again.
    Refuse(Duration),
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    failures: u32,
    since: Instant,
    refill: Duration,
    proved: Option<Instant>,
}

impl Bucket {
    /// The failures that still count.
    fn left(&self, now: Instant) -> u32 {
        let passed =
            now.saturating_duration_since(self.since).as_millis() / self.refill.as_millis();
        self.failures.saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX))
    }

    fn is_proved(&self, now: Instant, within: Duration) -> bool {
        self.proved.is_some_and(|at| now.saturating_duration_since(at) < within)
    }
}

/// A network, and what is a user's there.
type Key = (IpAddr, u64);

/// Failures by who knocked. Addresses of IPv6 count by their network of 64 bits, which is one host's to choose from.
#[derive(Debug, Default)]
pub struct Failures {
    buckets: DashMap<Key, Bucket>,
    names: RandomState,
}

impl Failures {
    /// What to do with who wants in, if so many failures in a row are everybody's right; 0: any number. Who is asked
    /// counts as failed until he has proved himself ([`Failures::forgive`]): many at once get no more tries than one
    /// after the other.
    #[must_use]
    pub fn begin(&self, knock: &Knock<'_>, max: u32, now: Instant) -> Verdict {
        let verdict = self.verdict(knock, max, now);
        if verdict == Verdict::Ask && max > 0 {
            self.add(knock, max, now);
        }
        verdict
    }

    fn verdict(&self, knock: &Knock<'_>, max: u32, now: Instant) -> Verdict {
        let full = |(key, max)| {
            let left = self.buckets.get(&key)?.left(now);
            (max > 0 && left >= max).then_some(REFILL)
        };
        let keys = self.keys(knock, max);
        let Some(wait) = keys.into_iter().find_map(full) else { return Verdict::Ask };
        let own = self.buckets.get(&keys[0].0);
        if own.is_some_and(|bucket| bucket.is_proved(now, PROOF_AGE_MAX)) {
            Verdict::AskAndDelay(wait)
        } else {
            Verdict::Refuse(wait)
        }
    }

    fn add(&self, knock: &Knock<'_>, max: u32, now: Instant) {
        for ((key, max), refill) in
            self.keys(knock, max).into_iter().zip([REFILL, REFILL / TENANTS_PART])
        {
            let mut bucket = self.bucket(key, refill, now);
            (bucket.failures, bucket.since) = ((bucket.left(now) + 1).min(max), now);
        }
    }

    /// It was asked and has not failed after all.
    pub fn forgive(&self, knock: &Knock<'_>, max: u32) {
        for (key, _) in self.keys(knock, max) {
            if let Some(mut bucket) = self.buckets.get_mut(&key) {
                bucket.failures = bucket.failures.saturating_sub(1);
            }
        }
    }

    /// It has proved itself.
    pub fn prove(&self, knock: &Knock<'_>, now: Instant) {
        let [(key, _), _] = self.keys(knock, 0);
        let noted = |bucket: &Bucket| bucket.is_proved(now, PROOF_AGE_NOTED);
        if !self.buckets.get(&key).is_some_and(|bucket| noted(&bucket)) {
            self.bucket(key, REFILL, now).proved = Some(now);
        }
    }

    fn bucket(
        &self,
        key: Key,
        refill: Duration,
        now: Instant,
    ) -> impl std::ops::DerefMut<Target = Bucket> {
        let mut least = 0;
        while self.buckets.len() >= BUCKETS_MAX {
            let counts = |bucket: &Bucket| {
                bucket.left(now) > least || bucket.is_proved(now, PROOF_AGE_MAX) && least < 3
            };
            self.buckets.retain(|_, bucket| counts(bucket));
            least += 1;
        }
        self.buckets.entry(key).or_insert(Bucket { failures: 0, since: now, refill, proved: None })
    }

    /// Its buckets and their sizes: for the tenant it names, and for all.
    fn keys(&self, knock: &Knock<'_>, max: u32) -> [(Key, u32); 2] {
        let network = network(knock.address);
        let one = self.names.hash_one((knock.door, knock.user, Some(knock.tenant)));
        let all = self.names.hash_one((knock.door, knock.user, None::<Option<&str>>));
        [((network, one), max), ((network, all), max.saturating_mul(TENANTS_PART))]
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => IpAddr::from((u128::from(v6) >> 64 << 64).to_be_bytes()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u32 = 20;

    fn knock<'a>(address: &str, user: &'a str, tenant: &'a str) -> Knock<'a> {
        let address = address.parse().unwrap();
        Knock { address, user, tenant: Some(tenant), door: Door::Pool }
    }

    /// Fails until it is refused; how often it was asked.
    fn fail(failures: &Failures, knock: &Knock<'_>, now: Instant) -> u32 {
        let mut asked = 0;
        while asked < 1000 && failures.begin(knock, MAX, now) == Verdict::Ask {
            asked += 1;
        }
        asked
    }

    #[test]
    fn who_has_failed_too_often_waits_and_nobody_else_does() {
        let (failures, now) = (Failures::default(), Instant::now());
        let a = knock("192.0.2.1", "app", "acme");
        assert_eq!(fail(&failures, &a, now), MAX);
        assert_eq!(failures.verdict(&a, MAX, now), Verdict::Refuse(REFILL));
        for other in [
            knock("192.0.2.2", "app", "acme"),
            knock("192.0.2.1", "web", "acme"),
            knock("192.0.2.1", "app", "umbra"),
            Knock { tenant: None, ..a },
            Knock { door: Door::Console, ..a },
        ] {
            assert_eq!(failures.verdict(&other, MAX, now), Verdict::Ask, "{other:?}");
        }
        assert_eq!(failures.verdict(&a, 0, now), Verdict::Ask, "no limit is set");
        let later = now + REFILL;
        assert_eq!(failures.verdict(&a, MAX, later), Verdict::Ask, "one more may be tried");
        failures.add(&a, MAX, later);
        assert_eq!(failures.verdict(&a, MAX, later), Verdict::Refuse(REFILL));
    }

    #[test]
    fn who_has_proved_itself_lately_is_asked_and_a_wrong_answer_takes_its_time() {
        let (failures, now) = (Failures::default(), Instant::now());
        let (a, newcomer) = (knock("192.0.2.1", "app", "acme"), knock("192.0.2.1", "app", "new"));
        failures.prove(&a, now);
        fail(&failures, &a, now);
        assert_eq!(failures.verdict(&a, MAX, now), Verdict::AskAndDelay(REFILL));
        // Guesses at the user under many tenants' names.
        let names: Vec<String> = (0..1000).map(|number| format!("t{number}")).collect();
        let guesses: u32 =
            names.iter().map(|name| fail(&failures, &knock("192.0.2.1", "app", name), now)).sum();
        assert_eq!(guesses + MAX, MAX * TENANTS_PART);
        assert_eq!(failures.verdict(&newcomer, MAX, now), Verdict::Refuse(REFILL));
        assert_eq!(failures.verdict(&a, MAX, now), Verdict::AskAndDelay(REFILL));
        let [late, old] = [Duration::from_mins(50), Duration::from_hours(2)].map(|age| now + age);
        fail(&failures, &a, late);
        assert_eq!(failures.verdict(&a, MAX, late), Verdict::AskAndDelay(REFILL));
        fail(&failures, &a, old);
        assert_eq!(failures.verdict(&a, MAX, old), Verdict::Refuse(REFILL));
    }

    #[test]
    fn a_flood_of_names_makes_nobody_forgotten_who_counts() {
        let (failures, now) = (Failures::default(), Instant::now());
        let (a, b) = (knock("192.0.2.1", "app", "acme"), knock("192.0.2.1", "web", "acme"));
        failures.prove(&a, now);
        fail(&failures, &a, now);
        fail(&failures, &b, now);
        for number in 0..BUCKETS_MAX {
            failures.add(&knock("192.0.2.1", &format!("nobody{number}"), ""), MAX, now);
        }
        assert!(failures.buckets.len() <= BUCKETS_MAX);
        assert_eq!(failures.verdict(&a, MAX, now), Verdict::AskAndDelay(REFILL));
        assert_eq!(failures.verdict(&b, MAX, now), Verdict::Refuse(REFILL));
    }

    #[test]
    fn who_does_not_fail_has_not_failed() {
        let (failures, now) = (Failures::default(), Instant::now());
        let a = knock("192.0.2.1", "app", "acme");
        for _ in 0..MAX * TENANTS_PART * 2 {
            assert_eq!(failures.begin(&a, MAX, now), Verdict::Ask);
            failures.forgive(&a, MAX);
        }
        assert_eq!(fail(&failures, &a, now), MAX);
    }

    #[test]
    fn the_addresses_of_one_network_are_one() {
        let (failures, now) = (Failures::default(), Instant::now());
        for host in 0..MAX {
            failures.add(&knock(&format!("2001:db8::{host:x}"), "app", "acme"), MAX, now);
        }
        let verdict = |address| failures.verdict(&knock(address, "app", "acme"), MAX, now);
        assert_eq!(verdict("2001:db8::ffff"), Verdict::Refuse(REFILL));
        assert_eq!(verdict("2001:db8:0:1::1"), Verdict::Ask);
        let [mapped, plain] =
            ["::ffff:192.0.2.1", "192.0.2.1"].map(|address| network(address.parse().unwrap()));
        assert_eq!(mapped, plain);
    }
}
