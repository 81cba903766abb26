//! A value of a table of the console's.

use crate::wire::build::Format;

/// One value.
pub(super) enum Cell {
    Null,
    Text(String),
    Number(i64),
}

impl Cell {
    /// Its bytes; `None` is NULL.
    pub(super) fn encode(&self, format: Format) -> Option<Box<[u8]>> {
        match (self, format) {
            (Self::Null, _) => None,
            (Self::Text(text), _) => Some(text.as_bytes().into()),
            (Self::Number(number), Format::Text) => Some(number.to_string().into_bytes().into()),
            (Self::Number(number), Format::Binary) => Some(number.to_be_bytes().into()),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u128> for Cell {
    fn from(number: u128) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}
