//! Finds the messages in a client's byte stream, wherever it is cut.

use memchr::memchr;

use crate::sql::{Flag, Flags, Lexer, is_plain};
use crate::wire::Malformed;
use crate::wire::frame::{HEADER_LEN, Header};
use crate::wire::frontend::{Names, statement_named, tag};

/// Longest head of a `Bind` that is waited for to learn its statement's name, in bytes.
///
/// Two names of `NAMEDATALEN` are a hundredth of it; behind a longer one everything counts as named.
const NAMES_LEN_MAX: usize = 8192;

/// Longest message with a text, or with values for one, that is waited for until it can be read whole, in bytes. Its
/// session has a buffer for as much; a longer one is read in pieces, and less is known of it.
pub const READ_WHOLE_MAX: usize = 16 * 1024;

/// The same for a `Parse` of a named statement, which is kept and sent to other servers: drivers prepare bulk inserts of
/// thousands of rows. A buffer grows for one.
const NAMED_READ_WHOLE_MAX: usize = 1024 * 1024;

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientEvent {
    /// A message is there from its header to its end, and was consumed.
    Whole {
        /// Its type.
        tag: u8,
        /// Whether it speaks of a named statement.
        names: Names,
        /// What its text was flagged for.
        flags: Flags,
    },
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
        /// What its text was flagged for.
        flags: Flags,
    },
}

/// Bytes at the front of a `FunctionCall` that say which function it is.
const FUNCTION_LEN: usize = 4;

#[derive(Debug, Clone)]
enum State {
    Between,
    /// The text is boxed: few messages come in pieces, and every client has a scan.
    Body {
        tag: u8,
        left: u32,
        text: Option<Box<Text>>,
        flags: Flags,
    },
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
    room: Room,
}

/// Room for a long message that is to be read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// As much as there mostly is.
    Usual,
    /// So much is needed for the message that waits.
    Wanted(usize),
    /// The message that waits has to do with what there is.
    Refused,
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
        Self { state: State::Between, room: Room::Usual }
    }

    /// Whether the stream stands between two messages.
    #[must_use]
    pub const fn at_boundary(&self) -> bool {
        matches!(self.state, State::Between)
    }

    /// Bytes of room that the message at the front needs, if it is longer than there mostly is room for.
    #[inline]
    #[must_use]
    pub const fn wants(&self) -> Option<usize> {
        match self.room {
            Room::Wanted(len) => Some(len),
            Room::Usual | Room::Refused => None,
        }
    }

    /// There is no such room: it is read in pieces.
    pub const fn refuse_room(&mut self) {
        self.room = Room::Refused;
    }

    /// `count` bytes of the body of the message that began last were used by somebody else.
    pub fn took(&mut self, count: u32) {
        if let State::Body { left, .. } = &mut self.state {
            *left -= count;
        }
    }

    /// Reads on: `(bytes consumed, event)`. Without an event, all that can be used was consumed.
    ///
    /// # Errors
    /// [`Malformed`] for an impossible length.
    #[inline]
    pub fn next(&mut self, bytes: &[u8]) -> Result<(usize, Option<ClientEvent>), Malformed> {
        match &mut self.state {
            State::Between => {
                let Some(header) = Header::read(bytes)? else { return Ok((0, None)) };
                if let Some(body) = bytes.get(HEADER_LEN..header.frame_len()) {
                    self.room = Room::Usual;
                    return Ok((header.frame_len(), Some(whole(header.tag, body))));
                }
                if is_read_whole(header) {
                    return Ok((0, None));
                }
                let head = &bytes[HEADER_LEN..];
                let Some(names) = names(header, head) else { return Ok((0, None)) };
                let is_kept = (header.tag, names) == (tag::PARSE, Names::Statement)
                    && header.frame_len() <= NAMED_READ_WHOLE_MAX;
                if is_kept && self.room != Room::Refused {
                    self.room = Room::Wanted(header.frame_len());
                    return Ok((0, None));
                }
                self.room = Room::Usual;
                let text = Text::of(header.tag).map(Box::new);
                let flags = match header.tag {
                    tag::FUNCTION_CALL if head.len() < FUNCTION_LEN => return Ok((0, None)),
                    tag::FUNCTION_CALL => Flag::of_function(head),
                    _ => Flags::NONE,
                };
                self.state = State::Body { tag: header.tag, left: header.body_len, text, flags };
                Ok((HEADER_LEN, Some(ClientEvent::Begins { tag: header.tag, names })))
            }
            State::Body { tag, left, text, flags } => {
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
                    flags: text.take().map_or(*flags, |text| text.lexer.finish()),
                };
                self.state = State::Between;
                Ok((len, Some(event)))
            }
        }
    }
}

/// Most messages are whole, and most texts hold nothing that could be flagged.
fn whole(tag: u8, body: &[u8]) -> ClientEvent {
    let names = match tag {
        // Malformed: PostgreSQL says so itself.
        tag::PARSE | tag::BIND | tag::CLOSE | tag::DESCRIBE => {
            statement_named(tag, body).unwrap_or(Names::Other)
        }
        _ => Names::Other,
    };
    let has_text = matches!(tag, tag::QUERY | tag::PARSE);
    let text = if has_text && !is_plain(body) { Text::of(tag) } else { None };
    let flags = match text {
        Some(mut text) => {
            text.feed(body);
            text.lexer.finish()
        }
        None if tag == tag::FUNCTION_CALL => Flag::of_function(body),
        None => Flags::NONE,
    };
    ClientEvent::Whole { tag, names, flags }
}

/// Whether a message of which only a part is there is waited for: how it was cut on its way must not matter.
const fn is_read_whole(header: Header) -> bool {
    header.tag != tag::COPY_DATA && header.frame_len() <= READ_WHOLE_MAX
}

/// The names in a message of which only `head` is there.
fn names(header: Header, head: &[u8]) -> Option<Names> {
    match header.tag {
        tag::PARSE | tag::BIND | tag::CLOSE | tag::DESCRIBE if head.len() < NAMES_LEN_MAX => {
            statement_named(header.tag, head)
        }
        tag::PARSE | tag::BIND => {
            Some(statement_named(header.tag, head).unwrap_or(Names::Statement))
        }
        _ => Some(Names::Other),
    }
}

impl Text {
    /// The text of a message of this type, if it has one.
    fn of(tag: u8) -> Option<Self> {
        let names_before = match tag {
            tag::QUERY => 0,
            tag::PARSE => 1,
            _ => return None,
        };
        Some(Self { lexer: Lexer::new(), names_before, ended: false })
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
