//! The ring of owed replies, and what each message does to it.

use super::queue::Queue;
use crate::wire::backend::TransactionStatus;
use crate::wire::frontend::{Names, tag as client};

/// Replies a server may owe before the client has to wait: a bound on the ring's memory, in entries.
const OWED_MAX: usize = 65_536;

/// Room for owed replies that is kept between two transactions, in entries.
const OWED_KEPT: usize = 64;

/// What a reply will answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owed {
    Parse,
    ParseUnnamed,
    Bind,
    Describe,
    Close,
    CloseUnnamed,
    Execute,
    Query,
    /// A query that fails, and whose error the client gets in other words.
    RefusedQuery,
    FunctionCall,
    Sync,
    /// A message about a named statement that the pooler has a hand in.
    Named(Reply),
    /// The pooler's own message; the reply has this type.
    Unasked(u8),
    /// A message of the pooler's own that puts the session's state back; the reply has this type. If it fails, the
    /// client does not hear of it: the session looks itself where it stands before anything else runs.
    Restoring(u8),
    /// A `Sync` of the pooler's own.
    SyncUnasked,
    /// The same, behind something that may fail: then it is left out.
    SyncTried,
    /// Not answered itself: marks where a COPY's data ends.
    CopyEnd,
}

impl Owed {
    /// Whether whoever follows names of statements waits for its answer: each such message that the server
    /// skips is counted, or that wait would never end.
    pub(super) const fn has_op(self) -> bool {
        matches!(self, Self::Named(_) | Self::RefusedQuery)
    }

    /// Whether it makes or drops the unnamed statement; a simple query drops it.
    pub(super) const fn changes_unnamed(self) -> bool {
        let query = matches!(self, Self::Query | Self::RefusedQuery);
        query || matches!(self, Self::ParseUnnamed | Self::CloseUnnamed)
    }
}

/// What a message about a named statement is answered with, and what the client hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// `ParseComplete`, for the client.
    Parsed,
    /// `ParseComplete` that the client did not ask for.
    ParsedUnasked,
    /// `CloseComplete`, for the client.
    Closed,
    /// `CloseComplete` that the client did not ask for.
    ClosedUnasked,
    /// `CommandComplete` of a `PREPARE`, for the client.
    Prepared,
    /// The same, that the client did not ask for.
    PreparedUnasked,
    /// What a statement returns, for the client: parameters, then columns or that there are none.
    Described,
    /// The same, that the client did not ask for.
    DescribedUnasked,
    /// An error, which the client gets in other words.
    Refused,
}

/// What is to be done with a client's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientVerdict {
    /// It goes to the server.
    Forward,
    /// It belongs to a COPY that is over: PostgreSQL would ignore it, and so do we.
    Discard,
    /// The client leaves.
    Terminate,
    /// No such message.
    Unknown,
}

/// How a client is told that its first unit will not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// ErrorResponse and ReadyForQuery.
    Ready,
    /// ErrorResponse; then everything up to the next `Sync` is discarded.
    SkipToSync,
}

/// What an error has done to the unnamed statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnnamedLost {
    /// Its own `Parse` has failed: there is none any more.
    Failed,
    /// So many changes of the unit have run, and those behind them were skipped.
    Behind(u32),
    /// The same in a unit in front of one that has changed it since.
    Earlier,
}

/// One client's conversation with the server it is linked to.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq))]
pub struct Exchange {
    /// Replies to the switch that are still to come, in front of all others.
    pub(super) switch: u32,
    pub(super) owed: Queue<Owed>,
    /// Extended-protocol messages were sent and no `Sync` behind them: an implicit transaction.
    pub(super) unsynced: bool,
    /// After an error the server discards everything up to the next `Sync`.
    pub(super) skip_to_sync: bool,
    pub(super) copy_in: bool,
    pub(super) failed: Option<TransactionStatus>,
    /// The unnamed statement was parsed and not bound: the client will bind it later, here.
    pub(super) unnamed_waits: bool,
    /// The unnamed statement was parsed: the next client must not find it.
    pub(super) unnamed_parsed: bool,
    /// Nobody can tell how many replies are owed: the pair stays together until that is settled.
    pub(super) unsure: bool,
    /// Since then the server has said `ReadyForQuery`.
    pub(super) ready_since: bool,
    /// What the pooler sent by itself has failed.
    pub(super) unasked_failed: bool,
    /// So often the unit that is being answered has changed the unnamed statement.
    pub(super) unnamed_ran: u32,
    /// What the last error has done to that.
    pub(super) unnamed_lost: Option<UnnamedLost>,
    /// Messages about named statements that the server skipped after its last error.
    pub(super) skipped: u32,
}

impl Exchange {
    /// Announces `replies` to a switch that was put in front of what the client sent.
    pub fn begin_switch(&mut self, replies: u32) {
        self.switch = replies;
    }

    /// Whether something without a `Sync` behind it is still to be answered: if it fails, what comes next is skipped, also behind
    /// a simple query.
    #[must_use]
    pub fn is_in_pipeline(&self) -> bool {
        let ends = |owed: &&Owed| !matches!(owed, Owed::Sync | Owed::SyncUnasked | Owed::SyncTried);
        let mut open = self.owed.iter().rev().take_while(ends);
        open.any(|owed| !matches!(owed, Owed::Query | Owed::RefusedQuery | Owed::FunctionCall))
    }

    /// Whether replies to the switch are still to come.
    #[must_use]
    pub const fn switching(&self) -> bool {
        self.switch > 0
    }

    /// Whether the server owes the client an answer.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.switching() || !self.owed.is_empty()
    }

    /// Whether more may be read from the client.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.owed.len() < OWED_MAX
    }

    /// Whether everything up to the next `Sync` is discarded.
    #[must_use]
    pub const fn skips_to_sync(&self) -> bool {
        self.skip_to_sync
    }

    /// Whether the unnamed statement was prepared for a later transaction.
    #[must_use]
    pub const fn unnamed_statement_waits(&self) -> bool {
        self.unnamed_waits
    }

    /// Whether the client parsed the unnamed statement.
    #[must_use]
    pub const fn parsed_unnamed_statement(&self) -> bool {
        self.unnamed_parsed
    }

    /// Whether the server stands in a transaction block, as far as it said.
    #[must_use]
    pub const fn in_block(&self) -> bool {
        self.failed.is_some()
    }

    /// Whether the server stands in a block that has failed.
    #[must_use]
    pub fn in_failed_block(&self) -> bool {
        self.in_block() && !self.in_sound_block()
    }

    /// Whether the server stands in a transaction block in which statements can run.
    #[must_use]
    pub const fn in_sound_block(&self) -> bool {
        matches!(self.failed, Some(TransactionStatus::InBlock))
    }

    /// Whether an earlier unit is still to be answered.
    #[must_use]
    pub fn owes_ready(&self) -> bool {
        self.owed.iter().any(|owed| {
            matches!(
                owed,
                Owed::Sync
                    | Owed::SyncUnasked
                    | Owed::SyncTried
                    | Owed::Query
                    | Owed::RefusedQuery
                    | Owed::FunctionCall
            )
        })
    }

    /// How many units are still to be answered. A simple query that is put right behind it is one with that.
    #[must_use]
    pub fn count_of_units(&self) -> usize {
        let (mut units, mut ends_query) = (0, false);
        for owed in self.owed.iter() {
            units += usize::from(ends_query && !matches!(owed, Owed::Restoring(_)));
            ends_query = *owed == Owed::Query;
            units +=
                usize::from(matches!(owed, Owed::Sync | Owed::RefusedQuery | Owed::FunctionCall));
        }
        units + usize::from(ends_query)
    }

    /// Somebody else has used the unnamed statement.
    pub const fn forget_unnamed(&mut self) {
        (self.unnamed_parsed, self.unnamed_waits) = (false, false);
    }

    /// Whether an implicit transaction is open: statements without a `Sync`.
    #[must_use]
    pub const fn is_unsynced(&self) -> bool {
        self.unsynced || self.skip_to_sync
    }

    /// Whether the replies that are owed will end by themselves, without a word from the client.
    #[must_use]
    pub const fn can_drain(&self) -> bool {
        !self.is_unsynced() && !self.copy_in && !self.unsure
    }

    /// Whether the doubt about what is owed can be ended by a `Close` and a `Sync` of our own: all
    /// that comes before their answer is the client's. Not if it sent anything but `Sync`s since: a
    /// `Close` could be answered first, a COPY could read ours.
    #[inline]
    #[must_use]
    pub fn can_be_settled(&self) -> bool {
        self.is_in_doubt() && self.owes_only_syncs()
    }

    /// Whether the server reads the data of a COPY whose end the client has not sent.
    #[must_use]
    pub fn copies_in(&self) -> bool {
        self.copy_in && !self.owed.contains(&Owed::CopyEnd)
    }

    /// Whether the client has ended a COPY that the server has not answered.
    #[must_use]
    pub fn ends_copy(&self) -> bool {
        self.copy_in && self.owed.contains(&Owed::CopyEnd)
    }

    /// Whether the client has ended a COPY whose `Sync` came early: PostgreSQL keeps its answer until another comes.
    #[must_use]
    pub fn ends_copy_unsynced(&self) -> bool {
        let mut sent = self.owed.iter().rev();
        self.copy_in
            && sent.find(|owed| matches!(owed, Owed::Sync | Owed::CopyEnd)) == Some(&Owed::CopyEnd)
    }

    /// Whether a COPY has failed that may have swallowed all `Sync`s there were: then the server waits for one.
    #[must_use]
    pub fn waits_for_sync(&self) -> bool {
        let mut sent = self.owed.iter().rev();
        let last = sent.find(|owed| matches!(owed, Owed::Sync | Owed::CopyEnd));
        let none_behind = last == Some(&Owed::CopyEnd) || !self.owed.contains(&Owed::CopyEnd);
        self.unsure && !self.ready_since && none_behind
    }

    /// Whether answers to messages of the pooler's own are still to come.
    #[must_use]
    pub fn owes_own(&self) -> bool {
        let own = |owed: &Owed| {
            matches!(
                owed,
                Owed::Restoring(_)
                    | Owed::Unasked(_)
                    | Owed::Named(_)
                    | Owed::SyncUnasked
                    | Owed::SyncTried
            )
        };
        self.owed.iter().any(own)
    }

    /// Whether nobody can tell what is owed.
    #[must_use]
    pub const fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// Whether nobody can tell what is owed, although the server has said `ReadyForQuery`.
    #[inline]
    #[must_use]
    pub const fn is_in_doubt(&self) -> bool {
        self.unsure && self.ready_since
    }

    fn owes_only_syncs(&self) -> bool {
        let mut owed = self.owed.iter();
        !self.copy_in
            && !self.is_unsynced()
            && owed.all(|owed| matches!(owed, Owed::Sync | Owed::CopyEnd))
    }

    /// The doubt is over: nothing is owed, and the server stands as it last said.
    pub fn settle(&mut self, status: TransactionStatus) {
        let waits = self.unnamed_waits;
        self.reset();
        // Meanwhile nobody looked: the next client must not find what may be there.
        (self.unnamed_waits, self.unnamed_parsed) = (waits, true);
        self.stand(status);
    }

    /// Nothing owed, nothing open, no transaction: another client could have this server.
    ///
    /// | owed | status   | unsynced | COPY | |
    /// |------|----------|----------|------|-------------|
    /// | none | idle     | no       | no   | may be released |
    /// | any other combination | | |   | stays |
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        !self.is_busy() && !self.in_block() && self.can_drain()
    }

    /// A message begins at the client.
    pub fn on_client(&mut self, tag: u8, names: Names) -> ClientVerdict {
        let owed = match tag {
            client::TERMINATE => return ClientVerdict::Terminate,
            client::SYNC => {
                self.skip_to_sync = false;
                Owed::Sync
            }
            client::QUERY => Owed::Query,
            client::FUNCTION_CALL => Owed::FunctionCall,
            client::PARSE if names == Names::Unnamed => Owed::ParseUnnamed,
            client::PARSE => Owed::Parse,
            client::BIND => Owed::Bind,
            client::DESCRIBE => Owed::Describe,
            client::CLOSE if names == Names::Unnamed => Owed::CloseUnnamed,
            client::CLOSE => Owed::Close,
            client::EXECUTE => Owed::Execute,
            client::FLUSH => return ClientVerdict::Forward,
            client::COPY_DATA | client::COPY_DONE | client::COPY_FAIL => return self.on_copy(tag),
            _ => return ClientVerdict::Unknown,
        };
        if self.copies_in() && owed != Owed::Sync {
            // PostgreSQL ends the COPY with an error; which messages it ate depends on when.
            self.unsure = true;
        }
        if !self.skip_to_sync {
            self.unsynced = !matches!(owed, Owed::Sync | Owed::Query | Owed::FunctionCall);
            // A simple query drops the unnamed statement.
            self.unnamed_waits &= owed != Owed::Query;
            self.unnamed_parsed |= owed == Owed::ParseUnnamed;
            self.owed.push(owed);
        }
        ClientVerdict::Forward
    }

    /// A message about a named statement goes to the server, instead of the client's or before it.
    pub fn owe(&mut self, reply: Reply) {
        self.unsynced = true;
        self.owed.push(Owed::Named(reply));
    }

    /// Messages of the pooler's own go to the server; what types their replies have.
    pub fn owe_unasked(&mut self, replies: &[u8]) {
        self.unsynced = true;
        for tag in replies {
            self.owed.push(Owed::Unasked(*tag));
        }
    }

    /// Messages that put the session's state back go to the server; what types their replies have.
    pub fn owe_restoring(&mut self, replies: &[u8]) {
        self.unsynced = true;
        for tag in replies {
            self.owed.push(Owed::Restoring(*tag));
        }
    }

    /// A `Sync` of the pooler's own goes to the server.
    pub fn owe_sync(&mut self) {
        self.unsynced = false;
        self.owed.push(Owed::SyncUnasked);
    }

    /// The same, behind messages of the pooler's own that may fail.
    pub fn owe_tried_sync(&mut self) {
        self.unsynced = false;
        self.owed.push(Owed::SyncTried);
    }

    /// A `Flush` with a body goes to the server: it will be answered by an error, and the server then
    /// discards everything up to a `Sync`. Before that it is nobody else's.
    pub const fn on_malformed_flush(&mut self) {
        self.unsynced = true;
    }

    /// A simple query that fails goes to the server, instead of the client's.
    pub fn owe_refused_query(&mut self) {
        self.unsynced = false;
        self.unnamed_waits = false;
        self.owed.push(Owed::RefusedQuery);
    }

    /// The unnamed statement was parsed once more, for the client that is about to bind it.
    pub const fn parsed_again(&mut self) {
        self.unnamed_parsed = true;
    }

    /// What became of changes of the unnamed statement that an error has met, since this was last asked.
    pub const fn take_unnamed_lost(&mut self) -> Option<UnnamedLost> {
        self.unnamed_lost.take()
    }

    /// Whether what the pooler sent by itself has failed, since this was last asked.
    pub const fn take_unasked_failed(&mut self) -> bool {
        std::mem::replace(&mut self.unasked_failed, false)
    }

    /// How many messages about named statements the server has skipped since this was last asked.
    pub const fn take_skipped(&mut self) -> usize {
        std::mem::replace(&mut self.skipped, 0) as usize
    }

    /// What was read of a unit is to be read once more.
    pub fn rewind(&mut self) {
        let switch = self.switch;
        self.reset();
        self.switch = switch;
    }

    fn on_copy(&mut self, tag: u8) -> ClientVerdict {
        if !self.copy_in && self.owed.is_empty() {
            return ClientVerdict::Discard;
        }
        if tag != client::COPY_DATA && !self.skip_to_sync {
            self.owed.push(Owed::CopyEnd);
        }
        ClientVerdict::Forward
    }

    /// The client's first unit will not run: forgets it, and says how the client is told.
    pub fn refuse(&mut self) -> Refusal {
        let ends = |owed: &Owed| {
            matches!(owed, Owed::Query | Owed::RefusedQuery | Owed::FunctionCall | Owed::Sync)
        };
        let ready = self.owed.iter().any(ends);
        self.owed.clear();
        self.switch = 0;
        self.unsynced = false;
        self.skip_to_sync = !ready;
        if ready { Refusal::Ready } else { Refusal::SkipToSync }
    }

    /// A server was given back: the next one starts clean.
    pub fn reset(&mut self) {
        let mut owed = std::mem::take(&mut self.owed);
        // A client that once sent a long pipeline is not to stay large.
        owed.empty(OWED_KEPT);
        *self = Self { owed, ..Self::default() };
    }
}
