//! How often an address has failed to prove itself: guessing passwords is slow.
//!
//! Each address has a bucket of failures that fills up again, one in so many seconds. While it is
//! empty nobody from there is asked for a password. Unix sockets have no address, and no bucket.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use dashmap::DashMap;

/// Failures in a row that are everybody's right.
const FAILURES_MAX: u32 = 20;
/// After so long one more failure is allowed.
const REFILL: Duration = Duration::from_secs(1);
/// Addresses remembered; beyond that the oldest are forgotten first, all that have recovered.
const ADDRESSES_MAX: usize = 100_000;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    failures: u32,
    since: Instant,
}

impl Bucket {
    /// The failures that still count.
    fn left(&self, now: Instant) -> u32 {
        let passed = now.saturating_duration_since(self.since).as_secs() / REFILL.as_secs();
        self.failures.saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX))
    }
}

/// Failed attempts by address; IPv6 by its network of 64 bits, which is one host's to choose from.
#[derive(Debug, Default)]
pub struct Failures(DashMap<IpAddr, Bucket>);

impl Failures {
    /// How long an address has to wait before it may try again, if it has to.
    #[must_use]
    pub fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let left = self.0.get(&network(address))?.left(now);
        (left >= FAILURES_MAX).then(|| REFILL * (left - FAILURES_MAX + 1))
    }

    /// An attempt from there has failed.
    pub fn add(&self, address: IpAddr, now: Instant) {
        if self.0.len() >= ADDRESSES_MAX {
            self.0.retain(|_, bucket| bucket.left(now) > 0);
        }
        if self.0.len() >= ADDRESSES_MAX {
            return;
        }
        let mut bucket =
            self.0.entry(network(address)).or_insert(Bucket { failures: 0, since: now });
        *bucket = Bucket { failures: (bucket.left(now) + 1).min(FAILURES_MAX), since: now };
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

    #[test]
    fn who_has_failed_too_often_waits_and_nobody_else_does() {
        let (failures, now) = (Failures::default(), Instant::now());
        let [a, b]: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        for _ in 0..FAILURES_MAX {
            assert_eq!(failures.wait(a, now), None);
            failures.add(a, now);
        }
        assert_eq!(failures.wait(a, now), Some(REFILL));
        assert_eq!(failures.wait(b, now), None);
        assert_eq!(failures.wait(a, now + REFILL), None, "one more may be tried");
        failures.add(a, now + REFILL);
        assert!(failures.wait(a, now + REFILL).is_some());
    }

    #[test]
    fn the_addresses_of_one_network_are_one() {
        let (failures, now) = (Failures::default(), Instant::now());
        for host in 0..FAILURES_MAX {
            failures.add(format!("2001:db8::{host:x}").parse().unwrap(), now);
        }
        assert!(failures.wait("2001:db8::ffff".parse().unwrap(), now).is_some());
        assert!(failures.wait("2001:db8:0:1::1".parse().unwrap(), now).is_none());
        failures.add("::ffff:192.0.2.1".parse().unwrap(), now);
        assert_eq!(
            network("::ffff:192.0.2.1".parse().unwrap()),
            network("192.0.2.1".parse().unwrap())
        );
    }
}
