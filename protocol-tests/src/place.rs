//! Where a throw-away cluster keeps its files: gone when its test is, also when the test was killed.
//!
//! Whoever runs tests holds a lock on each of its places. A place that nobody holds was left by a process that was
//! killed, and is removed by the next that needs one: a disk never fills up with clusters of the past.

use std::fs::File;
use std::os::unix::fs::chown;
use std::path::Path;

use tempfile::TempDir;

const PREFIX: &str = "tenantry-test-";
const LOCK: &str = "in-use";

pub(crate) struct Place {
    directory: TempDir,
    _lock: File,
}

impl Place {
    pub(crate) fn new() -> Self {
        remove_left_behind(&std::env::temp_dir());
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir().unwrap();
        if let Some((uid, gid)) = crate::cluster::unprivileged() {
            chown(directory.path(), Some(uid), Some(gid)).unwrap();
        }
        Self { _lock: hold(directory.path()), directory }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// The lock has its name only when it is held, so that nobody finds it free before.
fn hold(directory: &Path) -> File {
    let unnamed = directory.join("unnamed");
    let lock = File::create_new(&unnamed).unwrap();
    lock.lock().unwrap();
    std::fs::rename(unnamed, directory.join(LOCK)).unwrap();
    lock
}

fn remove_left_behind(within: &Path) {
    for entry in std::fs::read_dir(within).into_iter().flatten().flatten() {
        let left = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && File::open(entry.path().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if left {
            // Two may remove the same one, and who may not remove it leaves it to whom it belongs to.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_nobody_holds_is_removed_and_no_other() {
        let within = tempfile::tempdir().unwrap();
        let place = |name: &str| {
            let path = within.path().join(name);
            std::fs::create_dir_all(path.join("data")).unwrap();
            path
        };
        let (held, left, begun, foreign) = (
            place("tenantry-test-held"),
            place("tenantry-test-left"),
            place("tenantry-test-begun"),
            place("another"),
        );
        let lock = hold(&held);
        drop(hold(&left));
        drop(hold(&foreign));
        remove_left_behind(within.path());
        assert_eq!(
            [&held, &left, &begun, &foreign].map(|path| path.exists()),
            [true, false, true, true]
        );
        drop(lock);
        remove_left_behind(within.path());
        assert!(!held.exists());
    }
}
