//! The files a configuration was read from, to see when they change.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Files, and patterns by which there may be more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    pub(super) files: BTreeSet<PathBuf>,
    pub(super) patterns: Vec<PathBuf>,
}

/// What the files look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look(Vec<(PathBuf, Option<State>)>);

/// What a name leads to, and when that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    real: PathBuf,
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl Sources {
    /// Looks at them. A symbolic link is followed at every step, so a link to a directory that now leads
    /// elsewhere, as in a mounted ConfigMap, is a change of every file behind it.
    #[must_use]
    pub fn look(&self) -> Look {
        let matching = self.patterns.iter().filter_map(|p| glob::glob(&p.to_string_lossy()).ok());
        let mut files: BTreeSet<PathBuf> = matching.flatten().filter_map(Result::ok).collect();
        files.extend(self.files.iter().cloned());
        let seen = |file: PathBuf| {
            let real = std::fs::canonicalize(&file).ok();
            let state = real.and_then(|real| {
                let it = std::fs::metadata(&real).ok()?;
                let modified = (it.mtime(), it.mtime_nsec());
                Some(State { real, inode: it.ino(), len: it.size(), modified })
            });
            (file, state)
        };
        Look(files.into_iter().map(seen).collect())
    }
}
