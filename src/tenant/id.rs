//! The tenant's name, and the patterns that names are matched against.

use std::sync::Arc;

use regex::Regex;

/// A tenant's name, checked. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for TenantId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A claimed name that does not match `tenancy.name_pattern`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid tenant identifier")]
pub struct InvalidTenantId;

/// `tenancy.name_pattern`: what a tenant's name may look like, as a whole.
#[derive(Debug, Clone)]
pub struct NamePattern(Regex);

/// `NAMEDATALEN - 1`: a longer name would be cut by PostgreSQL and could meet another tenant's.
const NAME_LEN_MAX: usize = 63;

impl NamePattern {
    /// Compiles a pattern; it is matched against whole names.
    ///
    /// # Errors
    /// The regular expression's own error.
    pub fn new(pattern: &str) -> Result<Self, regex::Error> {
        Regex::new(&format!("^(?:{pattern})$")).map(Self)
    }

    /// The only way to a [`TenantId`].
    ///
    /// # Errors
    /// When the name does not match, is longer than 63 bytes or holds a NUL.
    pub fn parse(&self, name: &str) -> Result<TenantId, InvalidTenantId> {
        let fits = name.len() <= NAME_LEN_MAX && !name.contains('\0') && self.0.is_match(name);
        if fits { Ok(TenantId(name.into())) } else { Err(InvalidTenantId) }
    }
}

/// A name in the configuration in which one `*` stands for any text: `*`, `team-*`, `acme`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WildcardPattern {
    text: String,
}

impl WildcardPattern {
    /// Takes the pattern as written; `None` if it has more than one `*`.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        (text.matches('*').count() <= 1).then(|| Self { text: text.to_owned() })
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it names exactly one thing.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.text.contains('*')
    }

    /// How specific the pattern is; an exact name is more specific than any pattern.
    #[must_use]
    pub fn fit_rank(&self) -> usize {
        if self.is_exact() { usize::MAX } else { self.text.len() - 1 }
    }

    /// Whether `name` fits, and how well: the number of bytes that are not the `*`.
    #[must_use]
    pub fn fit(&self, name: &str) -> Option<usize> {
        match self.text.split_once('*') {
            None => (self.text == name).then_some(usize::MAX),
            Some((head, tail)) => {
                let fixed = head.len() + tail.len();
                let fits = name.len() >= fixed && name.starts_with(head) && name.ends_with(tail);
                fits.then_some(fixed)
            }
        }
    }
}
