//! PgBouncer's configuration in ours: `tenantry import-pgbouncer`.
//!
//! Every database of PgBouncer's becomes a tenant that lives in it, named by the database a client asks for. Promises:
//! what is written can be read (it is checked); what has no counterpart is listed with why, and nothing is guessed
//! that gives a client rights it did not have: where PgBouncer logs in as the client, the tenant rests until its
//! role is named.
//!
//! Pure but for the files that the configuration names. Uses `config` for the check.
//!
//! <https://www.pgbouncer.org/config.html>

mod access;
mod convert;
mod databases;
mod ini;
mod keys;
mod settings;
#[cfg(test)]
mod tests;
mod write;

use std::io;
use std::path::{Path, PathBuf};

use crate::config::Config;
use convert::convert;
use ini::Ini;

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read.
    #[error("could not read {path}: {source}")]
    File {
        /// Its path.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A line that PgBouncer would not take either.
    #[error("{path}, line {line}: {problem}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// There is no `[pgbouncer]` in it.
    #[error("{0} has no section [pgbouncer]: PgBouncer would not start with it")]
    NoSection(PathBuf),
}

/// What came of it.
#[derive(Debug)]
pub struct Imported {
    /// The file, with the notes in it as comments.
    pub toml: String,
    /// What the operator has to decide before it is used.
    pub decide: Vec<String>,
    /// What has no counterpart, and why.
    pub without: Vec<String>,
    /// What `tenantry check` says of it; secrets and certificates may be elsewhere.
    pub faults: Vec<String>,
}

/// Reads a `pgbouncer.ini`. Relative paths in it start at `cwd`, where PgBouncer runs.
///
/// # Errors
/// [`ImportError`], where PgBouncer would not start either.
pub fn import(path: &Path, cwd: &Path) -> Result<Imported, ImportError> {
    let ini = Ini::read(path, cwd)?;
    if !ini.has_main {
        return Err(ImportError::NoSection(path.to_owned()));
    }
    let converted = convert(&ini, cwd);
    let toml = write::file(path, &converted);
    let faults = match Config::parse(&toml, cwd.to_owned()) {
        Ok(_) => Vec::new(),
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
    };
    let notes = converted.notes;
    Ok(Imported { toml, decide: notes.decide, without: notes.without, faults })
}
