//! What is wrong with a configuration, all of it at once.

use std::cell::RefCell;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key's path, such as `clusters.main.port`.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("could not read {path}")]
    File {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The text is not TOML.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// The keys or values are wrong.
    #[error("{}", list(.0))]
    Faults(Vec<Fault>),
}

fn list(faults: &[Fault]) -> String {
    let lines = faults.iter().map(|fault| format!("{}: {}", fault.path, fault.problem));
    lines.collect::<Vec<_>>().join("\n")
}

/// Collects faults while a configuration is read.
#[derive(Debug, Default)]
pub(super) struct Faults(RefCell<Vec<Fault>>);

impl Faults {
    pub(super) fn add(&self, path: impl Into<String>, problem: impl Into<String>) {
        self.0.borrow_mut().push(Fault { path: path.into(), problem: problem.into() });
    }

    pub(super) fn into_result<T>(self, value: T) -> Result<T, ConfigError> {
        let faults = self.0.into_inner();
        if faults.is_empty() { Ok(value) } else { Err(ConfigError::Faults(faults)) }
    }
}
