//! What a thread has used of the processors, by the kernel's account: asked now and then, by others, so that it
//! costs the thread nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the current thread's account is: `Documentation/scheduler/sched-stats.rst` of the kernel.
pub(super) fn account_of_thread() -> Option<PathBuf> {
    let thread = std::fs::read_link("/proc/thread-self").ok()?;
    Some(Path::new("/proc").join(thread).join("schedstat"))
}

/// How long the thread has run since it began.
pub(super) fn used(account: &Path) -> Option<Duration> {
    parse(&std::fs::read_to_string(account).ok()?)
}

fn parse(account: &str) -> Option<Duration> {
    let ran = account.split_ascii_whitespace().next()?;
    Some(Duration::from_nanos(ran.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_says_how_long_a_thread_ran() {
        assert_eq!(parse("1750000000 3000 27\n"), Some(Duration::from_millis(1750)));
        assert_eq!(parse(""), None);
        assert_eq!(parse("a b c"), None);
    }

    #[test]
    fn a_thread_that_works_uses_time() {
        let account = account_of_thread().expect("there is a /proc");
        let ran = || used(&account).expect("it can be read");
        let before = ran();
        let mut sum = 0_u64;
        while ran() < before + Duration::from_millis(30) {
            sum = std::hint::black_box((0..100_000).fold(sum, u64::wrapping_add));
        }
    }
}
