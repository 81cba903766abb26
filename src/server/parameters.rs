//! The settings a server reports by `ParameterStatus`.
//!
//! A set of them is a value that servers and clients share: where both hold the same one, the client has been told
//! what the server's session has, and that costs a look at a pointer.
//!
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC>

use std::sync::Arc;

/// Most parameters kept; PostgreSQL 18 reports 15.
const PARAMETERS_MAX: usize = 64;

/// Names and values as the server spelled them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Parameters(Vec<(Box<str>, Box<[u8]>)>);

impl Parameters {
    /// Records a report; `true` if it is news.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> bool {
        match self.0.iter_mut().find(|(n, _)| n.as_bytes() == name) {
            Some((_, old)) if **old == *value => false,
            Some((_, old)) => {
                *old = value.into();
                true
            }
            None => {
                if let (Ok(name), true) = (std::str::from_utf8(name), self.0.len() < PARAMETERS_MAX)
                {
                    self.0.push((name.into(), value.into()));
                }
                true
            }
        }
    }

    /// The same, where the set may be shared: it is another one from now on only if that is news.
    pub fn note(shared: &mut Arc<Self>, name: &[u8], value: &[u8]) -> bool {
        !shared.knows(name, value) && Arc::make_mut(shared).set(name, value)
    }

    /// What was recorded of a parameter holds no more, and what does is not known.
    pub fn forget(&mut self, name: &[u8]) {
        self.0.retain(|(n, _)| n.as_bytes() != name);
    }

    /// Whether a report would be no news.
    #[must_use]
    pub fn knows(&self, name: &[u8], value: &[u8]) -> bool {
        self.0.iter().any(|(n, v)| n.as_bytes() == name && **v == *value)
    }

    /// The value of one parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(n, _)| **n == *name).map(|(_, value)| &**value)
    }

    /// The value of a setting by its name in lower case.
    #[must_use]
    pub fn get_by_guc(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// All of them, in the order in which they were first reported.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}
