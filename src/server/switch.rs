//! The guarded switch: from whatever state a server is in to a client's, without a round trip.
//!
//! ```text
//! BEGIN ISOLATION LEVEL READ COMMITTED NOT DEFERRABLE · [scrub] · SET ... · COMMIT · <client's message>
//! ```
//!
//! Each statement is Parse, Bind and Execute of the unnamed statement, with no `Sync` before the
//! client's own message, all in one write. It is committed before the client's message runs, so
//! the client's ROLLBACK does not undo it. If any part fails, PostgreSQL itself discards
//! everything up to the next `Sync`, a simple query included; and because BEGIN ran, a second
//! batch behind that `Sync` meets an aborted transaction. So after a failed switch nothing of the
//! client's has run. The unnamed statement, because a named one could have been replaced by SQL;
//! the explicit options, because the last user may have left `default_transaction_read_only`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};

use crate::config::Scrub;
use crate::tenant::{SessionState, TenantId};
use crate::wire::build;

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED NOT DEFERRABLE";

/// What `DISCARD ALL` does and is allowed in a transaction. Prepared statements go too: a function
/// can make one without a trace, and its name may be one that another tenant's driver uses.
///
/// <https://www.postgresql.org/docs/current/sql-discard.html>
pub(super) const SCRUB: [&str; 8] = [
    "SET SESSION AUTHORIZATION DEFAULT",
    "RESET ALL",
    "CLOSE ALL",
    "UNLISTEN *",
    "SELECT pg_catalog.pg_advisory_unlock_all()",
    "DISCARD TEMP",
    "DISCARD SEQUENCES",
    "DEALLOCATE ALL",
];

/// Bytes to put in front of a client's message, and how many replies they cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frames {
    /// The messages.
    pub bytes: Bytes,
    /// Replies to swallow, rows not counted.
    pub replies: u32,
}

impl Frames {
    fn new<'a>(statements: impl IntoIterator<Item = &'a str>, close_unnamed: bool) -> Self {
        let mut bytes = BytesMut::new();
        let mut replies = 0;
        for sql in statements {
            build::unnamed_statement(sql, &mut bytes);
            replies += 3;
        }
        if close_unnamed {
            build::close_unnamed_statement(&mut bytes);
            replies += 1;
        }
        Self { bytes: bytes.freeze(), replies }
    }

    /// Statements within BEGIN and COMMIT of their own.
    #[must_use]
    pub fn guarded<'a>(scrub: &'a [&'a str], statements: &'a [String]) -> Self {
        let set = scrub.iter().copied().chain(statements.iter().map(String::as_str));
        // The last unnamed statement would be COMMIT; a client must not find it.
        Self::new(std::iter::once(BEGIN).chain(set).chain(["COMMIT"]), true)
    }

    /// Statements inside a transaction of the client's.
    #[must_use]
    pub fn inside(statements: &[String]) -> Self {
        Self::new(statements.iter().map(String::as_str), true)
    }

    /// Back to what a new server is, as far as anything leads there.
    #[must_use]
    pub fn scrub() -> Self {
        Self::guarded(&SCRUB, &[])
    }

    /// Only drops the unnamed statement that the last client may have left.
    #[must_use]
    pub fn close_unnamed() -> Self {
        Self::new([], true)
    }
}

/// States in which a statement's text means the same: what is parsed in one may be bound in another.
#[derive(Debug)]
pub struct Class(u64);

impl Class {
    /// Another one than all before.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Its identity.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.0
    }
}

impl Default for Class {
    fn default() -> Self {
        Self::new()
    }
}

/// The state a client needs, with its switch prepared. Shared by all clients that need the same.
#[derive(Debug)]
pub struct Target {
    /// Whose state it is.
    pub tenant: TenantId,
    /// Role and settings.
    pub session: SessionState,
    /// What statements parsed in it are good for.
    pub class: Arc<Class>,
    /// A server in it must not rest: PostgreSQL would close it by `idle_session_timeout`.
    pub restless: bool,
    /// Of `session`, what literals are read by.
    reads: OnceLock<SessionState>,
    full: Frames,
}

impl Target {
    /// Prepares the switch to a state.
    #[must_use]
    pub fn new(tenant: TenantId, session: SessionState, class: Arc<Class>) -> Self {
        let full = Frames::guarded(&SCRUB, &session.statements());
        let restless = session.get("idle_session_timeout").is_some();
        Self { tenant, session, class, reads: OnceLock::new(), restless, full }
    }

    /// What literals are read by in it.
    pub fn reads(&self) -> &SessionState {
        self.reads.get_or_init(|| self.session.for_reading())
    }

    fn is(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other) || (self.tenant == other.tenant && self.session == other.session)
    }
}

/// What is known of a server's session state.
#[derive(Debug, Clone)]
pub enum Known {
    /// Nobody has used it since its login, or since it was scrubbed.
    Neutral,
    /// It is in this state, and what its users left behind stays inside the tenant.
    Exactly(Arc<Target>),
    /// Somebody changed what cannot be followed.
    Unsure,
}

/// What has to be sent before a client's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Switch {
    /// Nothing: the server is where the client needs it.
    None,
    /// These frames; the client runs only if they succeed.
    Frames {
        /// What is sent.
        frames: Frames,
        /// Whether a scrub is among it.
        scrubs: bool,
    },
}

/// How well a server fits a client, the best last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// A switch with a scrub.
    OtherTenant,
    /// A switch of the differing settings.
    SameTenant,
    /// No switch.
    SameState,
}

impl Known {
    /// Whose state it is in.
    #[must_use]
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Exactly(state) => Some(&state.tenant),
            Self::Neutral | Self::Unsure => None,
        }
    }

    /// How well it fits.
    #[must_use]
    pub fn fit(&self, target: &Arc<Target>) -> Fit {
        match self {
            Self::Exactly(state) if state.is(target) => Fit::SameState,
            Self::Exactly(state) if state.tenant == target.tenant => Fit::SameTenant,
            Self::Exactly(_) | Self::Neutral | Self::Unsure => Fit::OtherTenant,
        }
    }

    /// What leads from here to `target`.
    ///
    /// | known                      | `scrub = "tenant"`      | `scrub = "client"` |
    /// |----------------------------|-------------------------|--------------------|
    /// | the same state             | nothing                 | scrub + full state |
    /// | same tenant, other state   | the differing settings  | scrub + full state |
    /// | another tenant             | scrub + full state      | scrub + full state |
    /// | neutral                    | full state              | full state         |
    /// | unsure                     | scrub + full state      | scrub + full state |
    #[must_use]
    pub fn switch_to(&self, target: &Arc<Target>, scrub: Scrub) -> Switch {
        match (self, scrub) {
            (Self::Exactly(state), Scrub::Tenant) if state.is(target) => Switch::None,
            (Self::Exactly(state), Scrub::Tenant) if state.tenant == target.tenant => {
                let set = target.session.statements_from(&state.session);
                Switch::Frames { frames: Frames::guarded(&[], &set), scrubs: false }
            }
            (Self::Exactly(_), Scrub::Tenant | Scrub::Client) => {
                Switch::Frames { frames: target.full.clone(), scrubs: true }
            }
            (Self::Neutral, _) => {
                let frames = Frames::guarded(&[], &target.session.statements());
                Switch::Frames { frames, scrubs: false }
            }
            (Self::Unsure, _) => Switch::Frames { frames: target.full.clone(), scrubs: true },
        }
    }
}
