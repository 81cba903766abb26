//! What a start-up packet says, sorted.

use super::refusal::Refusal;
use crate::config::PoolMode;
use crate::wire::options;
use crate::wire::startup::ProtocolVersion;

/// A start-up packet's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// What the client speaks.
    pub version: ProtocolVersion,
    /// `user`, never empty.
    pub user: String,
    /// `database`, if it was given.
    pub database: Option<String>,
    /// Settings in order, from `options` first: a later one overrides an earlier one.
    pub settings: Vec<(String, Vec<u8>)>,
    /// Protocol extensions (`_pq_.`) that nobody here knows.
    pub unknown_extensions: Vec<String>,
    /// `tenantry.pool_mode`.
    pub pool_mode: Option<PoolMode>,
}

impl Hello {
    /// Sorts the parameters by PostgreSQL's rules.
    ///
    /// # Errors
    /// The [`Refusal`] PostgreSQL would give, or one for what the pooler does not do.
    pub fn read(version: ProtocolVersion, parameters: &[(&str, &[u8])]) -> Result<Self, Refusal> {
        let mut hello = Self {
            version,
            user: String::new(),
            database: None,
            settings: Vec::new(),
            unknown_extensions: Vec::new(),
            pool_mode: None,
        };
        let mut direct = Vec::new();
        for &(name, value) in parameters {
            match name {
                "user" => hello.user = utf8(name, value)?,
                "database" => hello.database = Some(utf8(name, value)?).filter(|d| !d.is_empty()),
                "options" => {
                    let parsed = options::parse(value);
                    let parsed =
                        parsed.map_err(|e| Refusal::Protocol { problem: e.to_string() })?;
                    for (name, value) in parsed {
                        hello.setting(&name, value.into_bytes())?;
                    }
                }
                "replication" => refuse_replication(value)?,
                _ if name.starts_with("_pq_.") => hello.unknown_extensions.push(name.to_owned()),
                _ => direct.push((name, value)),
            }
        }
        for (name, value) in direct {
            hello.setting(name, value.to_vec())?;
        }
        if hello.user.is_empty() {
            return Err(Refusal::NoUser);
        }
        Ok(hello)
    }

    fn setting(&mut self, name: &str, value: Vec<u8>) -> Result<(), Refusal> {
        let name = name.to_ascii_lowercase();
        match name.strip_prefix("tenantry.") {
            None => self.settings.push((name, value)),
            Some("pool_mode") => {
                let mode = std::str::from_utf8(&value).ok().and_then(PoolMode::parse);
                let value = || String::from_utf8_lossy(&value).into_owned();
                let invalid = || Refusal::InvalidSetting { name: name.clone(), value: value() };
                self.pool_mode = Some(mode.ok_or_else(invalid)?);
            }
            Some(_) => return Err(Refusal::UnknownSetting { name }),
        }
        Ok(())
    }
}

fn utf8(name: &str, value: &[u8]) -> Result<String, Refusal> {
    let problem = || Refusal::Protocol {
        problem: format!("startup parameter \"{name}\" is not valid UTF-8"),
    };
    std::str::from_utf8(value).map(str::to_owned).map_err(|_| problem())
}

fn refuse_replication(value: &[u8]) -> Result<(), Refusal> {
    match value.to_ascii_lowercase().as_slice() {
        b"" | b"0" | b"f" | b"false" | b"n" | b"no" | b"off" => Ok(()),
        _ => Err(Refusal::Unsupported {
            what: "replication connections are not supported".to_owned(),
        }),
    }
}
