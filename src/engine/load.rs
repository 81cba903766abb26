//! What a thread has used of the processors, by the kernel's account: asked now and then, by others, so that it
//! costs the thread nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// The kernel counts in hundredths of a second, whatever its own clock: `proc_pid_stat(5)`.
const TICK: Duration = Duration::from_millis(10);
/// Fields behind the name of the command before `utime`, with `stime` next to it.
const BEFORE_UTIME: usize = 11;

/// Where the current thread's account is.
pub(super) fn account_of_thread() -> Option<PathBuf> {
    let thread = std::fs::read_link("/proc/thread-self").ok()?;
    Some(Path::new("/proc").join(thread).join("stat"))
}

/// User and system time of a thread.
pub(super) fn cpu_time(account: &Path) -> Option<Duration> {
    parse(&std::fs::read_to_string(account).ok()?)
}

fn parse(stat: &str) -> Option<Duration> {
    // The name of the command may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(BEFORE_UTIME);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * (user + system))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_read_whatever_the_command_is_called() {
        let stat = "17 (wor) ker) R 1 17 17 0 -1 4194368 99 0 0 0 150 25 0 0 20 0 3 0 8 1 2";
        assert_eq!(parse(stat), Some(Duration::from_millis(1750)));
        assert_eq!(parse("17 (worker) R 1"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_thread_that_works_uses_time() {
        let account = account_of_thread().expect("there is a /proc");
        let before = cpu_time(&account).expect("it can be read");
        let mut sum = 0_u64;
        while cpu_time(&account).expect("it can be read") < before + 3 * TICK {
            sum = std::hint::black_box((0..100_000).fold(sum, u64::wrapping_add));
        }
    }
}
