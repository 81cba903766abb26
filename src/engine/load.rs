//! What a thread has used of the processors, by the kernel's account: asked now and then, by others, so that it
//! costs the thread nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a thread has used since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// For so long it ran.
    pub ran: Duration,
    /// For so long it could have, and others did.
    pub waited: Duration,
}

/// Where the current thread's account is: `Documentation/scheduler/sched-stats.rst` of the kernel.
pub(super) fn account_of_thread() -> Option<PathBuf> {
    let thread = std::fs::read_link("/proc/thread-self").ok()?;
    Some(Path::new("/proc").join(thread).join("schedstat"))
}

pub(super) fn used(account: &Path) -> Option<Used> {
    parse(&std::fs::read_to_string(account).ok()?)
}

fn parse(account: &str) -> Option<Used> {
    let mut fields = account.split_ascii_whitespace().map(str::parse);
    let (ran, waited) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(Used { ran: Duration::from_nanos(ran), waited: Duration::from_nanos(waited) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_says_how_long_a_thread_ran_and_waited() {
        let (ran, waited) = (Duration::from_millis(1750), Duration::from_micros(3));
        assert_eq!(parse("1750000000 3000 27\n"), Some(Used { ran, waited }));
        assert_eq!(parse("17"), None);
        assert_eq!(parse("a b c"), None);
    }

    #[test]
    fn a_thread_that_works_uses_time() {
        let account = account_of_thread().expect("there is a /proc");
        let ran = || used(&account).expect("it can be read").ran;
        let before = ran();
        let mut sum = 0_u64;
        while ran() < before + Duration::from_millis(30) {
            sum = std::hint::black_box((0..100_000).fold(sum, u64::wrapping_add));
        }
    }
}
