//! Tokens of PostgreSQL's SQL, read from a stream of chunks cut anywhere.

use memchr::memchr;
use smallvec::SmallVec;

use super::words::{Statement, WORD_LEN_MAX};
use super::{Flag, Flags};

/// Longest dollar-quote tag that is followed, in bytes: PostgreSQL's `NAMEDATALEN - 1`.
const TAG_LEN_MAX: usize = 63;

type Word = SmallVec<[u8; WORD_LEN_MAX + 1]>;

#[derive(Debug, Clone)]
enum State {
    /// Between tokens.
    Between,
    /// In a bare word; what of it came in earlier chunks.
    Word(Word),
    /// In `"..."`.
    Quoted { name: Word, closing: bool },
    /// In `'...'`; in `E'...'` a backslash protects the next byte.
    String { escapes: bool, after: After },
    /// Behind one `-` or `/`: a comment may begin.
    MaybeComment(u8),
    /// Behind `--`.
    LineComment,
    /// In `/* */`, which nest; `last` is the byte before, when it may begin or end one.
    BlockComment { depth: u32, last: u8 },
    /// Behind `$`: the tag so far.
    DollarTag(SmallVec<[u8; TAG_LEN_MAX]>),
    /// In a dollar quote: its tag, and how many bytes of `$tag$` the last bytes matched.
    DollarBody { tag: SmallVec<[u8; TAG_LEN_MAX]>, matched: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Text,
    Backslash,
    /// A quote: the end, unless another one follows.
    Quote,
}

/// Reads the text of one message and remembers what it flags.
#[derive(Debug, Clone)]
pub struct Lexer {
    state: State,
    statement: Statement,
    /// The last token was `U&`, and nothing came between.
    unicode: bool,
    /// The last token was an `E''` string: a string behind white space goes on with its rules.
    continues_escapes: bool,
    flags: Flags,
}

impl Default for Lexer {
    fn default() -> Self {
        Self::new()
    }
}

/// What a byte can be between tokens, and whether it goes on a word. A table: it is asked for
/// every byte of every statement.
static KINDS: [Kind; 256] = kinds();

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    WordStart,
    Digit,
    Space,
    Dollar,
    Special,
    Other,
}

const fn kinds() -> [Kind; 256] {
    let mut kinds = [Kind::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "the loop ends at 255")]
        let kind = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => Kind::WordStart,
            b'0'..=b'9' => Kind::Digit,
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => Kind::Space,
            b'$' => Kind::Dollar,
            b'\'' | b'"' | b'-' | b'/' | b';' => Kind::Special,
            _ => Kind::Other,
        };
        kinds[byte] = kind;
        byte += 1;
    }
    kinds
}

/// Whether a byte goes on a word: a table of its own, one load and one test a byte.
static GOES_ON: [bool; 256] = {
    let mut goes_on = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        goes_on[byte] = matches!(KINDS[byte], Kind::WordStart | Kind::Digit | Kind::Dollar);
        byte += 1;
    }
    goes_on
};

pub(super) fn is_word_start(byte: u8) -> bool {
    KINDS[usize::from(byte)] == Kind::WordStart
}

pub(super) fn is_word(byte: u8) -> bool {
    GOES_ON[usize::from(byte)]
}

impl Lexer {
    /// A lexer at the beginning of a text.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: State::Between,
            statement: Statement::new(),
            unicode: false,
            continues_escapes: false,
            flags: Flags::NONE,
        }
    }

    /// Reads the next chunk.
    pub fn feed(&mut self, mut rest: &[u8]) {
        while !rest.is_empty() {
            rest = match self.state {
                State::Between => self.between(rest),
                State::Word(_) => self.word(rest),
                State::Quoted { .. } => self.quoted(rest),
                State::String { .. } => self.string(rest),
                _ => self.rare(rest),
            };
        }
    }

    /// Ends the text and says what was flagged.
    #[must_use]
    pub fn finish(mut self) -> Flags {
        match std::mem::replace(&mut self.state, State::Between) {
            State::Word(word) => self.end_word(&word),
            State::Quoted { name, closing: true } => self.end_quoted(&name),
            _ => {}
        }
        let flag = self.statement.end();
        self.note(flag);
        self.flags
    }

    fn note(&mut self, flag: Option<Flag>) {
        if let Some(flag) = flag {
            self.flags.insert(flag);
        }
    }

    fn other(&mut self) {
        self.unicode = false;
        self.continues_escapes = false;
        let flag = self.statement.other();
        self.note(flag);
    }

    fn between<'a>(&mut self, mut rest: &'a [u8]) -> &'a [u8] {
        while let Some((&byte, after)) = rest.split_first() {
            match KINDS[usize::from(byte)] {
                Kind::WordStart => return self.word(rest),
                Kind::Space => self.unicode = false,
                Kind::Digit | Kind::Other => self.other(),
                Kind::Dollar => {
                    self.state = State::DollarTag(SmallVec::new());
                    return after;
                }
                Kind::Special => {
                    self.special(byte);
                    return after;
                }
            }
            rest = after;
        }
        rest
    }

    fn special(&mut self, byte: u8) {
        match byte {
            b'\'' => {
                let escapes = self.continues_escapes;
                self.open_string(escapes);
            }
            b'"' => self.open_quoted(),
            b';' => {
                self.other();
                let flag = self.statement.end();
                self.note(flag);
            }
            _ => self.state = State::MaybeComment(byte),
        }
    }

    /// Reads a word; the common case, a word inside one chunk, copies nothing.
    fn word<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let len = rest.iter().position(|b| !is_word(*b)).unwrap_or(rest.len());
        let (text, after) = rest.split_at(len);
        if matches!(self.state, State::Between) && !after.is_empty() {
            self.end_word_before(text, after);
            return self.after_word(text, after);
        }
        let mut word = match std::mem::replace(&mut self.state, State::Between) {
            State::Word(word) => word,
            _ => Word::new(),
        };
        let room = (WORD_LEN_MAX + 1).saturating_sub(word.len());
        word.extend_from_slice(&text[..text.len().min(room)]);
        if after.is_empty() {
            self.state = State::Word(word);
            return after;
        }
        self.end_word_before(&word, after);
        self.after_word(&word, after)
    }

    fn end_word(&mut self, word: &[u8]) {
        self.unicode = false;
        self.continues_escapes = false;
        let flag = self.statement.word(word);
        self.note(flag);
    }

    /// A word that is the prefix of a string (`E'`) is not a word of the statement.
    fn end_word_before(&mut self, word: &[u8], after: &[u8]) {
        let prefixes_string = after.first() == Some(&b'\'') && word.len() == 1;
        if prefixes_string { self.other() } else { self.end_word(word) }
    }

    fn after_word<'a>(&mut self, word: &[u8], after: &'a [u8]) -> &'a [u8] {
        match (word, after) {
            ([b'e' | b'E'], [b'\'', rest @ ..]) => {
                self.open_string(true);
                rest
            }
            ([b'u' | b'U'], [b'&', rest @ ..]) => {
                self.unicode = true;
                rest
            }
            _ => after,
        }
    }

    fn open_string(&mut self, escapes: bool) {
        if self.unicode && self.statement.sets_locally() {
            self.note(Some(Flag::UnicodeIdentifier));
        }
        self.other();
        self.state = State::String { escapes, after: After::Text };
    }

    fn open_quoted(&mut self) {
        if self.unicode {
            self.note(Some(Flag::UnicodeIdentifier));
        }
        self.state = State::Quoted { name: Word::new(), closing: false };
    }

    fn quoted<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let State::Quoted { name, closing } = &mut self.state else { return rest };
        let Some((&byte, after)) = rest.split_first() else { return rest };
        match (byte, *closing) {
            (b'"', false) => *closing = true,
            (_, true) if byte != b'"' => {
                let name = std::mem::take(name);
                self.state = State::Between;
                self.end_quoted(&name);
                return rest;
            }
            _ => {
                *closing = false;
                if name.len() <= WORD_LEN_MAX {
                    name.push(byte);
                }
            }
        }
        after
    }

    fn end_quoted(&mut self, name: &[u8]) {
        self.unicode = false;
        self.continues_escapes = false;
        let flag = self.statement.quoted(name);
        self.note(flag);
    }

    fn string<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let State::String { escapes, after } = self.state else { return rest };
        let Some((&byte, tail)) = rest.split_first() else { return rest };
        let looks_inside = self.statement.sets_locally();
        // Quotes aside: `'pg_' 'temp'` on two lines is one string.
        if looks_inside && after != After::Quote && byte != b'\'' {
            let flag = self.statement.string_byte(byte, escapes);
            self.note(flag);
        }
        let after = match (after, byte) {
            (After::Backslash, _) | (After::Quote, b'\'') => After::Text,
            (After::Quote, _) => {
                self.continues_escapes = escapes;
                self.state = State::Between;
                return rest;
            }
            (After::Text, b'\'') => After::Quote,
            (After::Text, b'\\') if escapes => After::Backslash,
            (After::Text, _) if !escapes && !looks_inside => {
                return memchr(b'\'', rest).map_or(&[], |at| &rest[at..]);
            }
            (After::Text, _) => After::Text,
        };
        self.state = State::String { escapes, after };
        tail
    }

    /// Comments and dollar quotes.
    fn rare<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let Some((&byte, after)) = rest.split_first() else { return rest };
        match &mut self.state {
            State::MaybeComment(first) => match (*first, byte) {
                (b'-', b'-') => self.state = State::LineComment,
                (b'/', b'*') => self.state = State::BlockComment { depth: 1, last: 0 },
                _ => {
                    self.state = State::Between;
                    self.other();
                    return rest;
                }
            },
            State::LineComment => {
                let end = rest.iter().position(|b| matches!(b, b'\n' | b'\r'));
                if end.is_some() {
                    self.state = State::Between;
                }
                return end.map_or(&[], |at| &rest[at..]);
            }
            State::BlockComment { depth, last } => match (*last, byte) {
                (b'*', b'/') if *depth == 1 => self.state = State::Between,
                (b'*', b'/') => (*depth, *last) = (*depth - 1, 0),
                (b'/', b'*') => (*depth, *last) = (depth.saturating_add(1), 0),
                _ => *last = byte,
            },
            State::DollarTag(_) => return self.dollar_tag(rest),
            State::DollarBody { tag, matched } => match (*matched, byte) {
                (at, b'$') if at == tag.len() + 1 => self.state = State::Between,
                (_, b'$') => *matched = 1,
                (at @ 1.., _) if tag.get(at - 1) == Some(&byte) => *matched = at + 1,
                _ => *matched = 0,
            },
            State::Between | State::Word(_) | State::Quoted { .. } | State::String { .. } => {
                return rest;
            }
        }
        after
    }

    fn dollar_tag<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let State::DollarTag(tag) = &mut self.state else { return rest };
        let Some((&byte, after)) = rest.split_first() else { return rest };
        match byte {
            b'$' => {
                let tag = std::mem::take(tag);
                if self.statement.sets_locally() {
                    self.note(Some(Flag::Temporary));
                }
                self.other();
                self.state = State::DollarBody { tag, matched: 0 };
                after
            }
            _ if is_word_start(byte) || (byte.is_ascii_digit() && !tag.is_empty()) => {
                if tag.len() == TAG_LEN_MAX {
                    self.note(Some(Flag::LongDollarTag));
                } else {
                    tag.push(byte);
                }
                after
            }
            // Not a quote after all: `$1`, or a `$` on its own. What was read may hide a word.
            _ => {
                let tag = std::mem::take(tag);
                self.state = State::Between;
                self.other();
                if !tag.is_empty() {
                    self.end_word(&tag);
                }
                rest
            }
        }
    }
}
