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
    Prepare,
    /// Flagged when it opens a statement.
    Opens(Flag),
    /// Flagged wherever it stands, quoted or not.
    Anywhere(Flag),
}

/// Longest word that matters, in bytes. A longer word is none of them.
pub(super) const WORD_LEN_MAX: usize = 32;

/// How a word of the table is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelled {
    Whole,
    /// It is the beginning of the names that matter.
    Prefix,
}
use Spelled::{Prefix, Whole};

/// Every word that matters.
static WORDS: [(&str, Spelled, Word); 46] = [
    ("set", Whole, Word::Set),
    ("select", Whole, Word::Select),
    ("set_config", Whole, Word::Anywhere(Flag::SetConfig)),
    // What follows could no longer be read.
    ("standard_conforming_strings", Whole, Word::Anywhere(Flag::Set)),
    ("client_encoding", Whole, Word::Anywhere(Flag::Set)),
    // They run the text they are given.
    ("query_to_xml", Prefix, Word::Anywhere(Flag::RunsText)),
    ("cursor_to_xml", Prefix, Word::Anywhere(Flag::RunsText)),
    ("ts_stat", Whole, Word::Anywhere(Flag::RunsText)),
    ("ts_rewrite", Whole, Word::Anywhere(Flag::RunsText)),
    // Nothing but a new process gives random() another seed.
    ("setseed", Whole, Word::Anywhere(Flag::Seed)),
    ("reset", Whole, Word::Opens(Flag::Reset)),
    ("replace", Whole, Word::Replace),
    ("do", Whole, Word::Opens(Flag::Do)),
    ("discard", Whole, Word::Opens(Flag::Discard)),
    ("declare", Whole, Word::Declare),
    ("dblink", Prefix, Word::Anywhere(Flag::Dblink)),
    ("prepare", Whole, Word::Prepare),
    ("execute", Whole, Word::Anywhere(Flag::Execute)),
    ("pg_advisory_lock", Whole, Word::Anywhere(Flag::AdvisoryLock)),
    ("pg_advisory_lock_shared", Whole, Word::Anywhere(Flag::AdvisoryLock)),
    ("pg_try_advisory_lock", Whole, Word::Anywhere(Flag::AdvisoryLock)),
    ("pg_try_advisory_lock_shared", Whole, Word::Anywhere(Flag::AdvisoryLock)),
    ("pg_advisory_unlock", Whole, Word::Anywhere(Flag::Ends)),
    ("pg_advisory_unlock_shared", Whole, Word::Anywhere(Flag::Ends)),
    ("pg_advisory_unlock_all", Whole, Word::Anywhere(Flag::Ends)),
    ("unlisten", Whole, Word::Opens(Flag::Ends)),
    ("close", Whole, Word::Opens(Flag::Ends)),
    ("drop", Whole, Word::Opens(Flag::Ends)),
    ("deallocate", Whole, Word::Opens(Flag::Deallocate)),
    ("pg_settings", Whole, Word::Anywhere(Flag::PgSettings)),
    ("pg_temp", Prefix, Word::Anywhere(Flag::Temporary)),
    ("listen", Whole, Word::Opens(Flag::Listen)),
    ("load", Whole, Word::Opens(Flag::Load)),
    ("local", Whole, Word::Local),
    ("global", Whole, Word::Local),
    ("temp", Whole, Word::Temporary),
    ("temporary", Whole, Word::Temporary),
    ("transaction", Whole, Word::Transaction),
    ("constraints", Whole, Word::Transaction),
    ("call", Whole, Word::Opens(Flag::Call)),
    ("create", Whole, Word::Create),
    ("into", Whole, Word::Into),
    ("insert", Whole, Word::Insert),
    ("merge", Whole, Word::Insert),
    ("with", Whole, Word::With),
    ("hold", Whole, Word::Hold),
];

/// By first and third letter, the lengths of some words, a bit each: nearly every word of nearly
/// every statement is ruled out by one look. `_` counts as a letter, and case not at all.
type Lengths = [u64; 1024];
static OF_ALL: Lengths = lengths(false);
static OF_ALARMING: Lengths = lengths(true);

const fn lengths(only_alarming: bool) -> Lengths {
    let mut lengths = [0; 1024];
    let mut at = 0;
    while at < WORDS.len() {
        let (name, spelled, word) = WORDS[at];
        let name = name.as_bytes();
        let mut len = name.len();
        while len <= WORD_LEN_MAX && (word.is_alarming() || !only_alarming) {
            lengths[place(name[0], if name.len() > 2 { name[2] } else { 0 })] |= 1 << len;
            len = match spelled {
                Whole => WORD_LEN_MAX + 1,
                Prefix => len + 1,
            };
        }
        at += 1;
    }
    lengths
}

const fn place(first: u8, third: u8) -> usize {
    (first as usize & 31) << 5 | (third as usize & 31)
}

#[inline]
fn may_be(word: &[u8], lengths: &Lengths) -> bool {
    let place = match word {
        [first, _, third, ..] => place(*first, *third),
        [first, _] => place(*first, 0),
        _ => return false,
    };
    lengths[place] >> word.len().min(63) & 1 == 1
}

fn classify(word: &[u8]) -> Word {
    if !may_be(word, &OF_ALL) {
        return Word::Other;
    }
    let same = |(name, spelled, _): &&(&str, Spelled, Word)| {
        let fits = match spelled {
            Whole => name.len() == word.len(),
            Prefix => name.len() <= word.len(),
        };
        fits && word[..name.len()].eq_ignore_ascii_case(name.as_bytes())
    };
    WORDS.iter().find(same).map_or(Word::Other, |(_, _, word)| *word)
}

/// First letters of words that could be flagged, a bit each: most words of most statements have another one.
static FIRST_OF_ALARMING: u32 = first_letters(&OF_ALARMING);

const fn first_letters(lengths: &Lengths) -> u32 {
    let (mut letters, mut place) = (0, 0);
    while place < lengths.len() {
        if lengths[place] != 0 {
            letters |= 1 << (place >> 5);
        }
        place += 1;
    }
    letters
}

/// Whether a word that begins with this letter could be flagged in some place.
#[inline]
pub(super) const fn may_alarm(first: u8) -> bool {
    FIRST_OF_ALARMING >> (first & 31) & 1 == 1
}

/// Whether a word could be flagged in some place.
#[inline]
pub(super) fn is_alarming(word: &[u8]) -> bool {
    may_be(word, &OF_ALARMING) && classify(word).is_alarming()
}

impl Word {
    const fn is_alarming(self) -> bool {
        matches!(
            self,
            Self::Set
                | Self::Prepare
                | Self::Opens(_)
                | Self::Anywhere(_)
                | Self::Temporary
                | Self::Hold
        )
    }
}

/// The schema of temporary objects, whatever its real name.
const TEMP_SCHEMA: &[u8] = b"pg_temp";

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
    /// Behind `PREPARE`.
    AfterPrepare,
    /// Behind `PREPARE TRANSACTION`: a string ends the statement there, a word makes it the name of a prepared one.
    AfterPrepareTransaction,
}

/// The words of one statement, as far as they were read.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    position: Position,
    declares: bool,
    selects: bool,
    /// It is a `SET LOCAL`, whose strings may be names of schemas.
    sets_locally: bool,
    /// How much of [`TEMP_SCHEMA`] its strings end with.
    spelled: usize,
    last: Word,
    last_but_one: Word,
}

impl Statement {
    pub(super) const fn new() -> Self {
        Self {
            position: Position::Start,
            declares: false,
            selects: false,
            sets_locally: false,
            spelled: 0,
            last: Word::Other,
            last_but_one: Word::Other,
        }
    }

    /// A bare word.
    pub(super) fn word(&mut self, text: &[u8]) -> Option<Flag> {
        let word = classify(text);
        if matches!(self.position, Position::AfterPrepare | Position::AfterPrepareTransaction) {
            return self.behind_prepare(word);
        }
        let flag = match (self.position, word) {
            (_, Word::Anywhere(flag)) | (Position::Start, Word::Opens(flag)) => Some(flag),
            (Position::AfterSet, Word::Local) => Some(Flag::SetLocal),
            (Position::AfterSet, Word::Transaction) => None,
            (Position::AfterSet, _) => Some(Flag::Set),
            (_, Word::Temporary) if self.makes_temporary() => Some(Flag::Temporary),
            (_, Word::Hold) if self.declares && self.last == Word::With => Some(Flag::HoldCursor),
            _ => None,
        };
        self.position = match (self.position, word) {
            (Position::Start, Word::Set) => Position::AfterSet,
            (Position::Start, Word::Prepare) => Position::AfterPrepare,
            (Position::AfterSet, _) => Position::AfterSetScope,
            _ => Position::Inside,
        };
        self.sets_locally |= self.position == Position::AfterSetScope && word == Word::Local;
        self.declares |= word == Word::Declare;
        self.selects |= word == Word::Select;
        self.last_but_one = self.last;
        self.last = word;
        flag
    }

    /// `PREPARE TRANSACTION 'x'` prepares no statement. `PREPARE transaction AS ...` does.
    #[cold]
    fn behind_prepare(&mut self, word: Word) -> Option<Flag> {
        if (self.position, word) == (Position::AfterPrepare, Word::Transaction) {
            self.position = Position::AfterPrepareTransaction;
            return None;
        }
        self.position = Position::Inside;
        Some(Flag::Prepare)
    }

    /// A quoted identifier: never a keyword, but perhaps a function's name.
    pub(super) fn quoted(&mut self, text: &[u8]) -> Option<Flag> {
        let before = std::mem::replace(&mut self.position, Position::Inside);
        self.last_but_one = self.last;
        self.last = Word::Other;
        match classify(text) {
            _ if matches!(before, Position::AfterPrepare | Position::AfterPrepareTransaction) => {
                Some(Flag::Prepare)
            }
            Word::Anywhere(flag) => Some(flag),
            _ if before == Position::AfterSet => Some(Flag::Set),
            _ => None,
        }
    }

    /// Whether its strings have to be looked into.
    pub(super) const fn sets_locally(&self) -> bool {
        self.sets_locally
    }

    /// A byte of a string in a `SET LOCAL`: with `pg_temp` as its schema, a table is a temporary one.
    pub(super) fn string_byte(&mut self, byte: u8, escapes: bool) -> Option<Flag> {
        let wanted = TEMP_SCHEMA.get(self.spelled);
        self.spelled = match byte.to_ascii_lowercase() {
            // What an escape stands for is not followed.
            b'\\' if escapes => return Some(Flag::Temporary),
            lower if Some(&lower) == wanted => self.spelled + 1,
            lower => usize::from(lower == TEMP_SCHEMA[0]),
        };
        (self.spelled == TEMP_SCHEMA.len()).then_some(Flag::Temporary)
    }

    /// Anything else: an operator, a number, a string, a bracket.
    pub(super) fn other(&mut self) -> Option<Flag> {
        match std::mem::replace(&mut self.position, Position::Inside) {
            Position::AfterSet | Position::AfterSetScope => Some(Flag::Set),
            Position::AfterPrepare => Some(Flag::Prepare),
            Position::AfterPrepareTransaction => {
                // The string, or the types of a prepared statement's parameters.
                self.position = Position::AfterPrepareTransaction;
                None
            }
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
