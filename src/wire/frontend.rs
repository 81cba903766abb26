//! What a client sends: tags, and views over the few bodies the pooler looks into.

use super::{Malformed, split_cstr, split_i32};

/// Tags of frontend messages.
pub mod tag {
    #![allow(missing_docs, reason = "each is named as in PostgreSQL's manual")]
    pub const BIND: u8 = b'B';
    pub const CLOSE: u8 = b'C';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
    pub const COPY_FAIL: u8 = b'f';
    pub const DESCRIBE: u8 = b'D';
    pub const EXECUTE: u8 = b'E';
    pub const FLUSH: u8 = b'H';
    pub const FUNCTION_CALL: u8 = b'F';
    pub const PARSE: u8 = b'P';
    /// Also SASLInitialResponse, SASLResponse and GSSResponse: the exchange says which.
    pub const PASSWORD: u8 = b'p';
    pub const QUERY: u8 = b'Q';
    pub const SYNC: u8 = b'S';
    pub const TERMINATE: u8 = b'X';
}

/// Reads the body of a `PasswordMessage` (`p`): one NUL-terminated string and nothing behind it.
///
/// # Errors
/// [`Malformed`] for any other body.
pub fn password(body: &[u8]) -> Result<&[u8], Malformed> {
    match split_cstr(body) {
        Some((password, [])) => Ok(password),
        _ => Err(Malformed::new("PasswordMessage", body)),
    }
}

/// Reads the body of `SASLInitialResponse` (`p`): `(mechanism, data)`; the data may be absent (-1).
///
/// # Errors
/// [`Malformed`] when the announced length is not the length that is there.
pub fn sasl_initial(body: &[u8]) -> Result<(&[u8], Option<&[u8]>), Malformed> {
    let malformed = || Malformed::new("SASLInitialResponse", body);
    let (mechanism, rest) = split_cstr(body).ok_or_else(malformed)?;
    match split_i32(rest).ok_or_else(malformed)? {
        (-1, []) => Ok((mechanism, None)),
        (len, data) if usize::try_from(len).is_ok_and(|len| len == data.len()) => {
            Ok((mechanism, Some(data)))
        }
        _ => Err(malformed()),
    }
}

/// What the head of an extended-protocol message names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// The unnamed statement.
    Unnamed,
    /// A portal, or nothing.
    Other,
    /// A statement with a name: it must be found again on the same server.
    Statement,
}

/// Which statement a `Parse` (`P`), `Bind` (`B`), `Describe` (`D`) or `Close` (`C`) speaks of, from
/// the head of its body.
///
/// `None` while too little of the body has arrived to tell.
#[must_use]
pub fn statement_named(tag: u8, body_head: &[u8]) -> Option<Names> {
    let statement = match tag {
        tag::PARSE => body_head,
        tag::BIND => split_cstr(body_head)?.1,
        tag::CLOSE | tag::DESCRIBE => match body_head {
            [b'S', name @ ..] => name,
            [_, _, ..] => return Some(Names::Other),
            _ => return None,
        },
        _ => return Some(Names::Other),
    };
    Some(if *statement.first()? == 0 { Names::Unnamed } else { Names::Statement })
}

/// The bytes of a parameter of a `Bind` (`B`), counted from 1: of a text, the text, whatever its format.
///
/// `None` for NULL, and for a malformed body.
#[must_use]
pub fn bound_text(body: &[u8], number: u16) -> Option<&[u8]> {
    let (_, rest) = split_cstr(body)?;
    let (_, rest) = split_cstr(rest)?;
    let (formats, rest) = rest.split_first_chunk::<2>()?;
    let rest = rest.get(2 * usize::from(u16::from_be_bytes(*formats))..)?;
    let (count, mut rest) = rest.split_first_chunk::<2>()?;
    if number > u16::from_be_bytes(*count) {
        return None;
    }
    for _ in 1..number {
        let (len, after) = split_i32(rest)?;
        rest = after.get(usize::try_from(len).unwrap_or(0)..)?;
    }
    let (len, after) = split_i32(rest)?;
    after.get(..usize::try_from(len).ok()?)
}
