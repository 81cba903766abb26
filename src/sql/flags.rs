//! What the lexer flags, and sets of it.

/// Why a statement was flagged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// `SET`, but not `SET LOCAL`, `SET TRANSACTION` or `SET CONSTRAINTS`.
    Set,
    /// `SET LOCAL`: it is over with the transaction.
    SetLocal,
    /// `RESET`.
    Reset,
    /// `DISCARD`.
    Discard,
    /// `PREPARE`.
    Prepare,
    /// `EXECUTE`: of a statement whose name may be another on the server.
    Execute,
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
    /// `setseed(...)`: what random() gives from now on.
    Seed,
    /// `U&"..."`, which can spell any of the names above.
    UnicodeIdentifier,
    /// A function called by its OID, which can be any.
    FunctionCall,
    /// A dollar quote with a tag longer than PostgreSQL's identifiers.
    LongDollarTag,
    /// `DEALLOCATE`.
    Deallocate,
    /// `UNLISTEN`, `CLOSE`, `DROP` or an unlock: it may end what ties a session to its
    /// server, and does nothing else.
    Ends,
}

/// PostgreSQL's functions for large objects, which libpq calls by these OIDs. What they leave behind
/// ends with the transaction.
///
/// <https://www.postgresql.org/docs/current/lo-interfaces.html>
const LARGE_OBJECT_FUNCTIONS: [u32; 14] =
    [715, 764, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172];

impl Flag {
    const ALL: [Self; 23] = [
        Self::Set,
        Self::SetLocal,
        Self::Reset,
        Self::Discard,
        Self::Prepare,
        Self::Execute,
        Self::Listen,
        Self::HoldCursor,
        Self::Temporary,
        Self::Load,
        Self::Do,
        Self::Call,
        Self::SetConfig,
        Self::PgSettings,
        Self::AdvisoryLock,
        Self::Dblink,
        Self::RunsText,
        Self::Seed,
        Self::UnicodeIdentifier,
        Self::FunctionCall,
        Self::LongDollarTag,
        Self::Deallocate,
        Self::Ends,
    ];

    /// Why a `FunctionCall` with this body, or the beginning of it, is flagged: `set_config` can be
    /// called so, and nobody can tell what a function does.
    #[must_use]
    pub fn of_function(body: &[u8]) -> Flags {
        let oid = body.first_chunk().map(|oid| u32::from_be_bytes(*oid));
        let harmless = oid.is_some_and(|oid| LARGE_OBJECT_FUNCTIONS.contains(&oid));
        if harmless { Flags::NONE } else { Flags::one(Self::FunctionCall) }
    }

    /// The statement's name, for the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Set => "SET",
            Self::SetLocal => "SET LOCAL",
            Self::Reset => "RESET",
            Self::Discard => "DISCARD",
            Self::Prepare => "PREPARE",
            Self::Execute => "EXECUTE",
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
            Self::Seed => "setseed",
            Self::UnicodeIdentifier => "Unicode-escaped identifier",
            Self::FunctionCall => "FunctionCall",
            Self::LongDollarTag => "long dollar-quote tag",
            Self::Deallocate => "DEALLOCATE",
            Self::Ends => "UNLISTEN",
        }
    }

    /// Whether the session keeps its server for what the statement makes, or may make unseen.
    #[must_use]
    pub const fn ties_session(self) -> bool {
        match self {
            Self::Prepare
            | Self::Listen
            | Self::HoldCursor
            | Self::Temporary
            | Self::AdvisoryLock
            | Self::Load
            | Self::Dblink
            | Self::RunsText
            | Self::Seed
            | Self::UnicodeIdentifier
            | Self::FunctionCall
            | Self::LongDollarTag => true,
            Self::Set
            | Self::SetLocal
            | Self::Reset
            | Self::Discard
            | Self::Do
            | Self::Call
            | Self::SetConfig
            | Self::PgSettings
            | Self::Deallocate
            | Self::Execute
            | Self::Ends => false,
        }
    }

    /// Whether a scrub can undo what the statement may have done.
    #[must_use]
    pub const fn can_be_scrubbed(self) -> bool {
        !matches!(self, Self::Load | Self::Dblink | Self::Seed)
    }
}

/// Every flag a text has raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u32);

impl Flags {
    /// None: the text leaves nothing behind.
    pub const NONE: Self = Self(0);
    /// Those whose text names settings.
    pub const SETTINGS: Self = Self(
        1 << Flag::Set as u32
            | 1 << Flag::Reset as u32
            | 1 << Flag::Discard as u32
            | 1 << Flag::SetConfig as u32
            | 1 << Flag::Do as u32,
    );

    /// Just one.
    #[must_use]
    pub const fn one(flag: Flag) -> Self {
        Self(1 << flag as u32)
    }

    /// Adds one.
    pub const fn insert(&mut self, flag: Flag) {
        self.0 |= 1 << flag as u32;
    }

    /// All but one.
    #[must_use]
    pub const fn without(self, flag: Flag) -> Self {
        Self(self.0 & !(1 << flag as u32))
    }

    /// Whether it is among them.
    #[must_use]
    pub const fn contains(self, flag: Flag) -> bool {
        self.0 & 1 << flag as u32 != 0
    }

    /// Whether there is none.
    #[must_use]
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether some of them are among the others.
    #[must_use]
    pub const fn intersects(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Whether all of the others are among them.
    #[must_use]
    pub const fn includes(self, others: Self) -> bool {
        others.0 & !self.0 == 0
    }

    /// Those of both.
    #[must_use]
    pub const fn union(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// All of them, in the order of their declaration.
    pub fn iter(self) -> impl Iterator<Item = Flag> {
        Flag::ALL.into_iter().filter(move |flag| self.contains(*flag))
    }
}
