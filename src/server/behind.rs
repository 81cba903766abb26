//! Reads the answer to a question of the pooler's own, and not a byte of what comes behind it.
//!
//! Behind a `ReadyForQuery` PostgreSQL may say more at any time: a notification, a parameter's report after a reload, the
//! word before it ends. That is the client's, or the pool's; it stays in the stream, where the next reader finds it whole.
//! So nothing is read that the answer is not sure to have.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, Take};

use super::AskError;
use crate::net::Stream;
use crate::wire::backend::tag;
use crate::wire::frame::{HEADER_LEN, Header};

/// A whole `ReadyForQuery`, with which each answer ends.
const READY_LEN: usize = HEADER_LEN + 1;

/// Most that is read at once, in bytes.
const READ_LEN_MAX: usize = 16 * 1024;

/// Bytes that are sure to come: what is missing of the message at the front, and a `ReadyForQuery` behind any other one.
fn sure_to_come(bytes: &[u8], body_left: usize) -> Result<usize, AskError> {
    if body_left > 0 {
        return Ok(body_left + READY_LEN);
    }
    Ok(match Header::read(bytes)? {
        None => READY_LEN - bytes.len(),
        Some(header) => {
            let missing = header.frame_len().saturating_sub(bytes.len());
            if header.tag == tag::READY_FOR_QUERY { missing } else { missing + READY_LEN }
        }
    })
}

/// Reads more of an answer of which `bytes`, less than a message, were not used yet; `body_left` bytes of a message before
/// them are still to come.
///
/// # Errors
/// The stream's own; `UnexpectedEof` at its end.
pub(super) async fn read_on(
    stream: &mut Stream,
    bytes: &mut BytesMut,
    body_left: usize,
) -> Result<(), AskError> {
    let limit = sure_to_come(bytes, body_left)?.min(READ_LEN_MAX);
    bytes.reserve(limit);
    let mut some: Take<&mut Stream> = stream.take(limit as u64);
    match some.read_buf(bytes).await? {
        0 => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sure(bytes: &[u8]) -> usize {
        sure_to_come(bytes, 0).unwrap()
    }

    #[test]
    fn nothing_is_read_behind_the_answers_end() {
        let answer = [b"C\0\0\0\x05\0".as_slice(), b"Z\0\0\0\x05I"].concat();
        for len in 0..=answer.len() {
            let front = if len < 6 { &answer[..len] } else { &answer[6..len] };
            if !front.is_empty() || len < 6 {
                assert!(len + sure(front) <= answer.len(), "{len}");
            }
        }
        assert_eq!(sure(b""), 6);
        assert_eq!(sure(b"C\0\0\0\x05"), 1 + 6);
        assert_eq!(sure(b"Z\0\0\0\x05"), 1);
        assert_eq!(sure_to_come(b"", 100).unwrap(), 106);
    }
}
