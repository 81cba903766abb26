//! Which words matter, and what a statement's first words say about it.

use super::Flag;

/// A word the rules below ask for; every other word is `Other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Other,
    Set,
    Local,
    Transaction,
    Create,
    Replace,
    Into,
    Insert,
    With,
    Hold,
    Declare,
    Select,
    Temporary,
    /// Flagged when it opens a statement.
    Opens(Flag),
    /// Flagged wherever it stands, quoted or not.
    Anywhere(Flag),
}

/// Longest word that matters, in bytes. A longer word is none of them.
pub(super) const WORD_LEN_MAX: usize = 32;

#[inline]
fn classify(word: &[u8]) -> Word {
    // Most words are ruled out by their length and first letter.
    match (word.len(), word.first().map_or(0, u8::to_ascii_lowercase)) {
        (
            2..=WORD_LEN_MAX,
            b'c' | b'd' | b'g' | b'h' | b'i' | b'l' | b'm' | b'p' | b'r' | b's' | b't' | b'w'
            | b'q',
        ) => classify_slowly(word),
        _ => Word::Other,
    }
}

fn classify_slowly(word: &[u8]) -> Word {
    let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    let starts = |name: &str| {
        word.get(..name.len()).is_some_and(|w| w.eq_ignore_ascii_case(name.as_bytes()))
    };
    let first = word.first().map_or(0, u8::to_ascii_lowercase);
    match first {
        b's' if is("set") => Word::Set,
        b's' if is("select") => Word::Select,
        b's' if is("set_config") => Word::Anywhere(Flag::SetConfig),
        // What follows could no longer be read.
        b's' if is("standard_conforming_strings") => Word::Anywhere(Flag::Set),
        b'c' if is("client_encoding") => Word::Anywhere(Flag::Set),
        // They run the text they are given.
        b'q' if starts("query_to_xml") => Word::Anywhere(Flag::RunsText),
        b'c' if starts("cursor_to_xml") => Word::Anywhere(Flag::RunsText),
        b't' if is("ts_stat") || is("ts_rewrite") => Word::Anywhere(Flag::RunsText),
        b'r' if is("reset") => Word::Opens(Flag::Reset),
        b'r' if is("replace") => Word::Replace,
        b'd' if is("do") => Word::Opens(Flag::Do),
        b'd' if is("discard") => Word::Opens(Flag::Discard),
        b'd' if is("declare") => Word::Declare,
        b'd' if starts("dblink") => Word::Anywhere(Flag::Dblink),
        b'p' if is("prepare") => Word::Opens(Flag::Prepare),
        b'p' if starts("pg_") => classify_pg(word),
        b'l' if is("listen") => Word::Opens(Flag::Listen),
        b'l' if is("load") => Word::Opens(Flag::Load),
        b'l' if is("local") => Word::Local,
        b'g' if is("global") => Word::Local,
        b't' if is("temp") || is("temporary") => Word::Temporary,
        b't' if is("transaction") => Word::Transaction,
        b'c' if is("constraints") => Word::Transaction,
        b'c' if is("call") => Word::Opens(Flag::Call),
        b'c' if is("create") => Word::Create,
        b'i' if is("into") => Word::Into,
        b'i' if is("insert") => Word::Insert,
        b'm' if is("merge") => Word::Insert,
        b'w' if is("with") => Word::With,
        b'h' if is("hold") => Word::Hold,
        _ => Word::Other,
    }
}

fn classify_pg(word: &[u8]) -> Word {
    let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    let locks = [
        "pg_advisory_lock",
        "pg_advisory_lock_shared",
        "pg_try_advisory_lock",
        "pg_try_advisory_lock_shared",
    ];
    if locks.into_iter().any(is) {
        Word::Anywhere(Flag::AdvisoryLock)
    } else if is("pg_settings") {
        Word::Anywhere(Flag::PgSettings)
    } else if word.get(..7).is_some_and(|w| w.eq_ignore_ascii_case(b"pg_temp")) {
        Word::Anywhere(Flag::Temporary)
    } else {
        Word::Other
    }
}

/// Whether a word could be flagged in some place.
pub(super) fn is_alarming(word: &[u8]) -> bool {
    matches!(
        classify(word),
        Word::Set | Word::Opens(_) | Word::Anywhere(_) | Word::Temporary | Word::Hold
    )
}

/// Where in a statement the lexer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// Before the first word.
    Start,
    /// Behind `SET`.
    AfterSet,
    /// Behind `SET LOCAL`, `SET TRANSACTION` or `SET CONSTRAINTS`: a name must follow, or `LOCAL`
    /// was itself the first half of a name (`SET local.x = 1`).
    AfterSetScope,
    /// Anywhere else.
    Inside,
}

/// The words of one statement, as far as they were read.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    position: Position,
    declares: bool,
    selects: bool,
    last: Word,
    last_but_one: Word,
}

impl Statement {
    pub(super) const fn new() -> Self {
        Self {
            position: Position::Start,
            declares: false,
            selects: false,
            last: Word::Other,
            last_but_one: Word::Other,
        }
    }

    /// A bare word.
    pub(super) fn word(&mut self, text: &[u8]) -> Option<Flag> {
        let word = classify(text);
        let flag = match (self.position, word) {
            (_, Word::Anywhere(flag)) | (Position::Start, Word::Opens(flag)) => Some(flag),
            (Position::AfterSet, Word::Local | Word::Transaction) => None,
            (Position::AfterSet, _) => Some(Flag::Set),
            (_, Word::Temporary) if self.makes_temporary() => Some(Flag::Temporary),
            (_, Word::Hold) if self.declares && self.last == Word::With => Some(Flag::HoldCursor),
            _ => None,
        };
        self.position = match (self.position, word) {
            (Position::Start, Word::Set) => Position::AfterSet,
            (Position::AfterSet, _) => Position::AfterSetScope,
            _ => Position::Inside,
        };
        self.declares |= word == Word::Declare;
        self.selects |= word == Word::Select;
        self.last_but_one = self.last;
        self.last = word;
        flag
    }

    /// A quoted identifier: never a keyword, but perhaps a function's name.
    pub(super) fn quoted(&mut self, text: &[u8]) -> Option<Flag> {
        let before = std::mem::replace(&mut self.position, Position::Inside);
        self.last_but_one = self.last;
        self.last = Word::Other;
        match classify(text) {
            Word::Anywhere(flag) => Some(flag),
            _ if before == Position::AfterSet => Some(Flag::Set),
            _ => None,
        }
    }

    /// Anything else: an operator, a number, a string, a bracket.
    pub(super) fn other(&mut self) -> Option<Flag> {
        match std::mem::replace(&mut self.position, Position::Inside) {
            Position::AfterSet | Position::AfterSetScope => Some(Flag::Set),
            Position::Start | Position::Inside => None,
        }
    }

    /// The end of the statement: a `;` or the end of the text.
    pub(super) fn end(&mut self) -> Option<Flag> {
        let flag = self.other();
        *self = Self::new();
        flag
    }

    fn makes_temporary(&self) -> bool {
        match self.last {
            Word::Create | Word::Replace | Word::Local => true,
            // `INSERT INTO temp` names a table; `SELECT 1 AS insert INTO TEMP t` makes one.
            Word::Into => self.last_but_one != Word::Insert || self.selects,
            _ => false,
        }
    }
}
