//! From what a client says at start-up to the one tenant it claims to be.

use regex::Regex;

use super::{InvalidTenantId, NamePattern, TenantId};

/// Where a tenant's name may stand, one entry of `tenancy.tenant_from`.
#[derive(Debug, Clone)]
pub enum Source {
    /// `options:<guc>`: a setting in `options`, or a start-up parameter of that name.
    Options {
        /// The setting's name in lower case.
        guc: String,
    },
    /// `user:<sep>`: behind the last separator of the user name, which is cut there.
    User {
        /// The separator, never empty.
        separator: String,
    },
    /// `database`: `db@tenant`, or the whole name unless it is the name of a shared database.
    Database,
    /// `sni`: the group `tenant` of `tenancy.sni_pattern` in the host name of the TLS handshake.
    Sni {
        /// Has a group named `tenant`.
        pattern: Regex,
    },
    /// `fixed`: the listener belongs to one tenant.
    Fixed,
    /// `search_path`: the first tenant in the session's path, at each checkout. It counts when no other
    /// source has named a tenant.
    SearchPath,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Options { guc } => write!(f, "options:{guc}"),
            Self::User { separator } => write!(f, "user:{separator}"),
            Self::Database => f.write_str("database"),
            Self::Sni { .. } => f.write_str("sni"),
            Self::Fixed => f.write_str("fixed"),
            Self::SearchPath => f.write_str("search_path"),
        }
    }
}

/// What a client said of itself.
#[derive(Debug, Clone, Copy)]
pub struct Claimant<'a> {
    /// Start-up parameter `user`.
    pub user: &'a str,
    /// Start-up parameter `database`, if it was given.
    pub database: Option<&'a str>,
    /// Settings from `options` and from other start-up parameters; names in lower case.
    pub settings: &'a [(String, Vec<u8>)],
    /// Host name of the TLS handshake.
    pub sni: Option<&'a str>,
    /// Tenant of the listener.
    pub fixed: Option<&'a str>,
    /// Names of shared databases: as a whole they name no tenant.
    pub shared_databases: &'a [String],
}

/// What is left of the names once the tenant was taken out of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The tenant, if any source named one.
    pub tenant: Option<TenantId>,
    /// The user to authenticate.
    pub user: String,
    /// The database the client asked for, without the tenant; `None` if it named none.
    pub database: Option<String>,
}

/// Why the sources yield no tenant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Two sources name two tenants.
    #[error("conflicting tenant identifiers")]
    Conflict {
        /// The source that comes first in `tenant_from`, with its name.
        first: (String, String),
        /// The one that disagrees.
        second: (String, String),
    },
    /// A name that `tenancy.name_pattern` does not allow.
    #[error("invalid tenant identifier")]
    Invalid {
        /// Where it was found.
        source_name: String,
    },
}

/// Asks every source in turn; all that answer must agree.
///
/// # Errors
/// [`ClaimError`]; the client is refused, whoever it is.
pub fn claim(
    sources: &[Source],
    names: &NamePattern,
    who: Claimant<'_>,
) -> Result<Claim, ClaimError> {
    let database = match sources {
        // Nothing else can be meant; without a name it is the user's, as PostgreSQL has it.
        [Source::Database] => Some(who.database.unwrap_or(who.user)),
        // libpq sends the user's name when no database was given.
        _ => who.database.filter(|database| *database != who.user),
    };
    let mut claim =
        Claim { tenant: None, user: who.user.to_owned(), database: database.map(percent_decode) };
    let mut found: Option<(String, String)> = None;
    for source in sources {
        let Some(name) = ask(source, who, &mut claim) else { continue };
        let tenant = names
            .parse(&name)
            .map_err(|InvalidTenantId| ClaimError::Invalid { source_name: source.to_string() })?;
        let this = (source.to_string(), name);
        match &found {
            Some(first) if first.1 != this.1 => {
                return Err(ClaimError::Conflict { first: first.clone(), second: this });
            }
            Some(_) => {}
            None => found = Some(this),
        }
        claim.tenant = Some(tenant);
    }
    Ok(claim)
}

fn ask(source: &Source, who: Claimant<'_>, claim: &mut Claim) -> Option<String> {
    match source {
        Source::Options { guc } => {
            let (_, value) = who.settings.iter().rev().find(|(name, _)| name == guc)?;
            Some(String::from_utf8_lossy(value).into_owned())
        }
        Source::User { separator } => {
            let (user, tenant) = who.user.rsplit_once(separator.as_str())?;
            user.clone_into(&mut claim.user);
            Some(tenant.to_owned())
        }
        Source::Database => {
            let named = claim.database.take()?;
            if let Some((database, tenant)) = named.rsplit_once('@') {
                claim.database = (!database.is_empty()).then(|| database.to_owned());
                Some(tenant.to_owned())
            } else if who.shared_databases.contains(&named) {
                claim.database = Some(named);
                None
            } else {
                Some(named)
            }
        }
        Source::Sni { pattern } => {
            let group = pattern.captures(who.sni?)?.name("tenant")?;
            Some(group.as_str().to_owned())
        }
        Source::Fixed => who.fixed.map(str::to_owned),
        Source::SearchPath => None,
    }
}

/// Decodes `%40` and its like once; what is no escape stays as it is.
#[must_use]
pub fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escape = match after {
            [high, low, ..] if byte == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escape {
            Some((high, low)) if high << 4 | low != 0 => {
                bytes.push(high << 4 | low);
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
