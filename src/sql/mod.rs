//! The lexer: may this statement leave something behind in the session?
//!
//! Promises: wrong only on the safe side. A statement that changes session state, or ties the
//! session to its server, is flagged wherever it hides: behind comments, in a message of many
//! statements, in any case, next to any kind of quotes. What no lexer can see (a function that
//! calls `set_config`) is kept inside its tenant by the scrub at the handover (`server::switch`).
//!
//! It reads a stream: a statement of 1 GiB is never gathered. Pure.
//!
//! <https://www.postgresql.org/docs/current/sql-syntax-lexical.html>

mod alarm;
mod lexer;
#[cfg(test)]
mod tests;
mod words;

pub use alarm::is_plain;
pub use lexer::Lexer;

/// Why a statement was flagged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// `SET`, but not `SET LOCAL`, `SET TRANSACTION` or `SET CONSTRAINTS`.
    Set,
    /// `RESET`.
    Reset,
    /// `DISCARD`.
    Discard,
    /// `PREPARE`.
    Prepare,
    /// `LISTEN`.
    Listen,
    /// `DECLARE ... WITH HOLD`.
    HoldCursor,
    /// A temporary table, view or sequence, or anything in `pg_temp`.
    Temporary,
    /// `LOAD`: a library cannot be unloaded.
    Load,
    /// `DO`: what it runs is not visible.
    Do,
    /// `CALL`: what it runs is not visible.
    Call,
    /// `set_config(...)`.
    SetConfig,
    /// The view `pg_settings`, which can be updated.
    PgSettings,
    /// A session-level advisory lock.
    AdvisoryLock,
    /// `dblink...`: a connection inside the server that nothing closes.
    Dblink,
    /// A function that runs the SQL text it is given.
    RunsText,
    /// `U&"..."`, which can spell any of the names above.
    UnicodeIdentifier,
    /// A function called by its OID, which can be any.
    FunctionCall,
    /// A dollar quote with a tag longer than PostgreSQL's identifiers.
    LongDollarTag,
}

/// PostgreSQL's functions for large objects, which libpq calls by these OIDs. What they leave behind
/// ends with the transaction.
///
/// <https://www.postgresql.org/docs/current/lo-interfaces.html>
const LARGE_OBJECT_FUNCTIONS: [u32; 14] =
    [715, 764, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172];

impl Flag {
    /// Why a `FunctionCall` with this body, or the beginning of it, is flagged: `set_config` can be
    /// called so, and nobody can tell what a function does.
    #[must_use]
    pub fn of_function(body: &[u8]) -> Option<Self> {
        let oid = body.first_chunk().map(|oid| u32::from_be_bytes(*oid));
        let harmless = oid.is_some_and(|oid| LARGE_OBJECT_FUNCTIONS.contains(&oid));
        (!harmless).then_some(Self::FunctionCall)
    }

    /// The statement's name, for the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Set => "SET",
            Self::Reset => "RESET",
            Self::Discard => "DISCARD",
            Self::Prepare => "PREPARE",
            Self::Listen => "LISTEN",
            Self::HoldCursor => "DECLARE WITH HOLD",
            Self::Temporary => "temporary object",
            Self::Load => "LOAD",
            Self::Do => "DO",
            Self::Call => "CALL",
            Self::SetConfig => "set_config",
            Self::PgSettings => "pg_settings",
            Self::AdvisoryLock => "advisory lock",
            Self::Dblink => "dblink",
            Self::RunsText => "function that runs SQL",
            Self::UnicodeIdentifier => "Unicode-escaped identifier",
            Self::FunctionCall => "FunctionCall",
            Self::LongDollarTag => "long dollar-quote tag",
        }
    }

    /// How much it asks for when a text holds several: what cannot be scrubbed asks for most, what
    /// goes below the tenant's baseline for more than the rest.
    pub(super) const fn gravity(self) -> u8 {
        match self {
            Self::Load | Self::Dblink => 2,
            Self::Reset | Self::Discard => 1,
            Self::Set
            | Self::Prepare
            | Self::Listen
            | Self::HoldCursor
            | Self::Temporary
            | Self::Do
            | Self::Call
            | Self::SetConfig
            | Self::PgSettings
            | Self::AdvisoryLock
            | Self::RunsText
            | Self::UnicodeIdentifier
            | Self::FunctionCall
            | Self::LongDollarTag => 0,
        }
    }

    /// Whether a scrub can undo what the statement may have done.
    #[must_use]
    pub const fn can_be_scrubbed(self) -> bool {
        !matches!(self, Self::Load | Self::Dblink)
    }
}
