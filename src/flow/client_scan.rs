//! Finds the messages in a client's byte stream, wherever it is cut.

use memchr::memchr;

use crate::sql::{Flag, Lexer, is_plain};
use crate::wire::Malformed;
use crate::wire::frame::{HEADER_LEN, Header};
use crate::wire::frontend::{Names, statement_named, tag};

/// Longest head of a `Bind` that is waited for to learn its statement's name, in bytes.
///
/// Two names of `NAMEDATALEN` are a hundredth of it; behind a longer one everything counts as named.
const NAMES_LEN_MAX: usize = 8192;

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientEvent {
    /// A message begins; its header was consumed.
    Begins {
        /// Its type.
        tag: u8,
        /// Whether it speaks of a named statement.
        names: Names,
    },
    /// The message that began last is complete.
    Ends {
        /// Its type.
        tag: u8,
        /// Why its text was flagged.
        flag: Option<Flag>,
    },
}

#[derive(Debug, Clone)]
enum State {
    Between,
    Body { tag: u8, left: u32, text: Option<Text> },
}

/// The statement text inside a body.
#[derive(Debug, Clone)]
struct Text {
    lexer: Lexer,
    /// NUL-terminated strings in front of the text: the name in a `Parse`.
    names_before: u8,
    ended: bool,
}

/// Where a client's stream stands. Feed it every byte once, in order.
#[derive(Debug, Clone)]
pub struct ClientScan {
    state: State,
}

impl Default for ClientScan {
    fn default() -> Self {
        Self::new()
    }
}

impl ClientScan {
    /// A stream between two messages.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: State::Between }
    }

    /// Whether the stream stands between two messages.
    #[must_use]
    pub const fn at_boundary(&self) -> bool {
        matches!(self.state, State::Between)
    }

    /// Reads on: `(bytes consumed, event)`. Without an event, all that can be used was consumed.
    ///
    /// With `lex` off, texts are not looked at.
    ///
    /// # Errors
    /// [`Malformed`] for an impossible length.
    pub fn next(
        &mut self,
        bytes: &[u8],
        lex: bool,
    ) -> Result<(usize, Option<ClientEvent>), Malformed> {
        match &mut self.state {
            State::Between => {
                let Some(header) = Header::read(bytes)? else { return Ok((0, None)) };
                let Some(names) = names(header, &bytes[HEADER_LEN..]) else { return Ok((0, None)) };
                let text = match header.tag {
                    tag::QUERY | tag::PARSE if !lex || is_whole_and_plain(header, bytes) => None,
                    tag::QUERY => Some(Text::new(0)),
                    tag::PARSE => Some(Text::new(1)),
                    _ => None,
                };
                self.state = State::Body { tag: header.tag, left: header.body_len, text };
                Ok((HEADER_LEN, Some(ClientEvent::Begins { tag: header.tag, names })))
            }
            State::Body { tag, left, text } => {
                let len = bytes.len().min(*left as usize);
                if let Some(text) = text {
                    text.feed(&bytes[..len]);
                }
                *left -= u32::try_from(len).expect("not more than what is left");
                if *left > 0 {
                    return Ok((len, None));
                }
                let event = ClientEvent::Ends {
                    tag: *tag,
                    flag: text.take().and_then(|text| text.lexer.finish()),
                };
                self.state = State::Between;
                Ok((len, Some(event)))
            }
        }
    }
}

/// Most messages are whole, and most texts hold nothing that could be flagged.
fn is_whole_and_plain(header: Header, bytes: &[u8]) -> bool {
    bytes.get(HEADER_LEN..header.frame_len()).is_some_and(is_plain)
}

fn names(header: Header, body: &[u8]) -> Option<Names> {
    match header.tag {
        tag::PARSE | tag::BIND => {}
        _ => return Some(Names::Unnamed),
    }
    let whole = body.len() >= header.body_len as usize;
    let head = if whole { &body[..header.body_len as usize] } else { body };
    match statement_named(header.tag, head) {
        // Malformed, and whole: PostgreSQL says so itself.
        None if whole => Some(Names::Unnamed),
        None if head.len() >= NAMES_LEN_MAX => Some(Names::Statement),
        names => names,
    }
}

impl Text {
    fn new(names_before: u8) -> Self {
        Self { lexer: Lexer::new(), names_before, ended: false }
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while !self.ended && !bytes.is_empty() {
            let end = memchr(0, bytes);
            let text = &bytes[..end.unwrap_or(bytes.len())];
            if self.names_before == 0 {
                self.lexer.feed(text);
            }
            let Some(end) = end else { return };
            bytes = &bytes[end + 1..];
            match self.names_before.checked_sub(1) {
                Some(left) => self.names_before = left,
                None => self.ended = true,
            }
        }
    }
}
