//! The ring of owed replies, and what each message does to it.

use std::collections::VecDeque;

use crate::wire::backend::{TransactionStatus, ready_for_query, tag as server};
use crate::wire::frontend::{Names, tag as client};

/// Replies a server may owe before the client has to wait: a bound on the ring's memory, in entries.
const OWED_MAX: usize = 65_536;

/// Room for owed replies that is kept between two transactions, in entries.
const OWED_KEPT: usize = 64;

/// What a reply will answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    Parse,
    ParseUnnamed,
    Bind,
    Describe,
    Close,
    CloseUnnamed,
    Execute,
    Query,
    FunctionCall,
    Sync,
    /// Not answered itself: marks where a COPY's data ends.
    CopyEnd,
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

/// What is to be done with a server's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerVerdict {
    /// It goes to the client.
    Forward,
    /// It answers the switch, not the client.
    Swallow,
    /// It was the last reply to the switch: the server is in the client's state.
    SwitchDone,
    /// PostgreSQL refused the switch: nothing of the client's has run, nothing of it will.
    SwitchFailed,
    /// A `ParameterStatus`: goes to the client if it is news.
    Parameter,
    /// A `ReadyForQuery`; goes to the client.
    Ready(TransactionStatus),
}

/// A message that cannot come now. Nobody knows any more whose turn it is: close the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unexpected message {:?} from the server", char::from(*tag))]
pub struct Unexpected {
    /// Its type.
    pub tag: u8,
}

/// How a client is told that its first unit will not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// ErrorResponse and ReadyForQuery.
    Ready,
    /// ErrorResponse; then everything up to the next `Sync` is discarded.
    SkipToSync,
}

/// One client's conversation with the server it is linked to.
#[derive(Debug, Default)]
pub struct Exchange {
    /// Replies to the switch that are still to come, in front of all others.
    switch: u32,
    owed: VecDeque<Owed>,
    /// Extended-protocol messages were sent and no `Sync` behind them: an implicit transaction.
    unsynced: bool,
    /// After an error the server discards everything up to the next `Sync`.
    skip_to_sync: bool,
    copy_in: bool,
    failed: Option<TransactionStatus>,
    /// The unnamed statement was parsed and not bound: the client will bind it later, here.
    unnamed_waits: bool,
    /// The unnamed statement was parsed: the next client must not find it.
    unnamed_parsed: bool,
    /// Nobody can tell how many replies are owed: the pair stays together until that is settled.
    unsure: bool,
    /// Since then the server has said `ReadyForQuery`.
    ready_since: bool,
}

impl Exchange {
    /// Announces `replies` to a switch that was put in front of what the client sent.
    pub fn begin_switch(&mut self, replies: u32) {
        self.switch = replies;
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
        if self.copy_in && owed != Owed::Sync {
            // PostgreSQL ends the COPY with an error; which messages it ate depends on when.
            self.unsure = true;
        }
        if !self.skip_to_sync {
            self.unsynced = !matches!(owed, Owed::Sync | Owed::Query | Owed::FunctionCall);
            // A simple query drops the unnamed statement.
            self.unnamed_waits &= owed != Owed::Query;
            self.unnamed_parsed |= owed == Owed::ParseUnnamed;
            self.owed.push_back(owed);
        }
        ClientVerdict::Forward
    }

    fn on_copy(&mut self, tag: u8) -> ClientVerdict {
        if !self.copy_in && self.owed.is_empty() {
            return ClientVerdict::Discard;
        }
        if tag != client::COPY_DATA && !self.skip_to_sync {
            self.owed.push_back(Owed::CopyEnd);
        }
        ClientVerdict::Forward
    }

    /// A message comes from the server; `body` is there for `Z`.
    ///
    /// # Errors
    /// [`Unexpected`]; close the server.
    pub fn on_server(&mut self, tag: u8, body: Option<&[u8]>) -> Result<ServerVerdict, Unexpected> {
        match tag {
            server::PARAMETER_STATUS => return Ok(ServerVerdict::Parameter),
            _ if self.switching() => return self.on_switch(tag),
            _ if self.unsure => return self.on_unsure(tag, body),
            server::NOTICE | server::NOTIFICATION => return Ok(ServerVerdict::Forward),
            server::ERROR => self.on_error(),
            server::READY_FOR_QUERY => return self.on_ready(body),
            _ => self.on_reply(tag)?,
        }
        Ok(ServerVerdict::Forward)
    }

    /// Replies to our own unnamed statements. A notification here was meant for the last client.
    fn on_switch(&mut self, tag: u8) -> Result<ServerVerdict, Unexpected> {
        match tag {
            server::ERROR => Ok(ServerVerdict::SwitchFailed),
            server::NOTICE | server::NOTIFICATION | server::DATA_ROW => Ok(ServerVerdict::Swallow),
            server::PARSE_COMPLETE
            | server::BIND_COMPLETE
            | server::CLOSE_COMPLETE
            | server::COMMAND_COMPLETE => {
                self.switch -= 1;
                Ok(if self.switching() {
                    ServerVerdict::Swallow
                } else {
                    ServerVerdict::SwitchDone
                })
            }
            _ => Err(Unexpected { tag }),
        }
    }

    /// The replies can no longer be counted: everything is passed on, nothing is released.
    fn on_unsure(&mut self, tag: u8, body: Option<&[u8]>) -> Result<ServerVerdict, Unexpected> {
        match tag {
            server::READY_FOR_QUERY => {
                self.ready_since = true;
                self.ready(body)
            }
            server::COPY_IN_RESPONSE | server::COMMAND_COMPLETE | server::ERROR => {
                self.copy_in = tag == server::COPY_IN_RESPONSE;
                Ok(ServerVerdict::Forward)
            }
            server::COPY_BOTH_RESPONSE | server::AUTHENTICATION | server::BACKEND_KEY_DATA => {
                Err(Unexpected { tag })
            }
            _ => Ok(ServerVerdict::Forward),
        }
    }

    fn on_reply(&mut self, tag: u8) -> Result<(), Unexpected> {
        let Some(&head) = self.owed.front() else { return Err(Unexpected { tag }) };
        match head {
            Owed::Query | Owed::Execute => return self.on_result(tag, head),
            Owed::FunctionCall if tag == server::FUNCTION_RESULT => return Ok(()),
            Owed::Describe if tag == server::PARAMETER_DESCRIPTION => return Ok(()),
            Owed::Describe if matches!(tag, server::ROW_DESCRIPTION | server::NO_DATA) => {}
            Owed::Close if tag == server::CLOSE_COMPLETE => {}
            Owed::CloseUnnamed if tag == server::CLOSE_COMPLETE => self.unnamed_waits = false,
            Owed::Parse if tag == server::PARSE_COMPLETE => {}
            Owed::ParseUnnamed if tag == server::PARSE_COMPLETE => self.unnamed_waits = true,
            Owed::Bind if tag == server::BIND_COMPLETE => self.unnamed_waits = false,
            Owed::FunctionCall
            | Owed::Describe
            | Owed::Close
            | Owed::CloseUnnamed
            | Owed::Parse
            | Owed::ParseUnnamed
            | Owed::Bind
            | Owed::Sync
            | Owed::CopyEnd => return Err(Unexpected { tag }),
        }
        self.pop();
        Ok(())
    }

    /// What a `Query` or an `Execute` yields.
    fn on_result(&mut self, tag: u8, head: Owed) -> Result<(), Unexpected> {
        match tag {
            server::DATA_ROW
            | server::COPY_DATA
            | server::COPY_DONE
            | server::COPY_OUT_RESPONSE => {}
            server::ROW_DESCRIPTION if head == Owed::Query => {}
            server::COPY_IN_RESPONSE => self.copy_in = true,
            server::COMMAND_COMPLETE | server::EMPTY_QUERY if head == Owed::Query => {
                if std::mem::take(&mut self.copy_in) {
                    self.drop_copy();
                }
            }
            server::COMMAND_COMPLETE | server::EMPTY_QUERY | server::PORTAL_SUSPENDED
                if head == Owed::Execute =>
            {
                if std::mem::take(&mut self.copy_in) {
                    self.drop_copy();
                    // A Sync that the COPY swallowed has ended nothing: the transaction is open
                    // until another one comes.
                    let ends =
                        |owed: &Owed| matches!(owed, Owed::Sync | Owed::Query | Owed::FunctionCall);
                    self.unsynced = !self.owed.iter().any(ends);
                }
                self.pop();
            }
            _ => return Err(Unexpected { tag }),
        }
        Ok(())
    }

    fn on_error(&mut self) {
        let copied = std::mem::take(&mut self.copy_in);
        match self.owed.front() {
            None => {}
            // ReadyForQuery follows.
            Some(Owed::Query | Owed::FunctionCall) if copied => {
                if self.early_sync() {
                    // Its own ReadyForQuery comes in any case, before all that is in doubt.
                    self.unsure = true;
                    self.owed.pop_front();
                }
                self.drop_copy();
            }
            Some(Owed::Query | Owed::FunctionCall) => {}
            Some(_) => {
                // Whether the COPY had swallowed an early Sync when it failed, only the server knows.
                self.unsure |= copied && self.early_sync();
                while self.owed.front().is_some_and(|owed| *owed != Owed::Sync) {
                    // The client has bound its statement; that it failed is its own affair.
                    self.unnamed_waits &= self.owed.pop_front() != Some(Owed::Bind);
                }
                self.skip_to_sync = self.owed.is_empty();
            }
        }
    }

    /// Whether a `Sync` was sent while the COPY may have been reading.
    fn early_sync(&self) -> bool {
        let data = self.owed.iter().take_while(|owed| **owed != Owed::CopyEnd);
        data.into_iter().any(|owed| *owed == Owed::Sync)
    }

    fn on_ready(&mut self, body: Option<&[u8]>) -> Result<ServerVerdict, Unexpected> {
        match self.owed.front() {
            Some(Owed::Query | Owed::FunctionCall | Owed::Sync) if !self.copy_in => self.pop(),
            _ => return Err(Unexpected { tag: server::READY_FOR_QUERY }),
        }
        self.ready(body)
    }

    fn ready(&mut self, body: Option<&[u8]>) -> Result<ServerVerdict, Unexpected> {
        let unexpected = Unexpected { tag: server::READY_FOR_QUERY };
        let status = body.and_then(|body| ready_for_query(body).ok()).ok_or(unexpected)?;
        self.stand(status);
        Ok(ServerVerdict::Ready(status))
    }

    fn stand(&mut self, status: TransactionStatus) {
        self.failed = match status {
            TransactionStatus::Idle => None,
            TransactionStatus::InBlock | TransactionStatus::Failed => Some(status),
        };
    }

    fn pop(&mut self) {
        self.owed.pop_front();
        // The end of a COPY that failed before it began: PostgreSQL ignores it.
        while !self.copy_in && self.owed.front() == Some(&Owed::CopyEnd) {
            self.owed.pop_front();
        }
    }

    /// A COPY has ended: its end, and the `Sync`s it swallowed on the way, are not answered.
    fn drop_copy(&mut self) {
        let Some(end) = self.owed.iter().position(|owed| *owed == Owed::CopyEnd) else { return };
        let mut at = 0;
        self.owed.retain(|owed| {
            let swallowed = at <= end && matches!(owed, Owed::Sync | Owed::CopyEnd);
            at += 1;
            !swallowed
        });
    }

    /// The client's first unit will not run: forgets it, and says how the client is told.
    pub fn refuse(&mut self) -> Refusal {
        let ends = |owed: &Owed| matches!(owed, Owed::Query | Owed::FunctionCall | Owed::Sync);
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
        owed.clear();
        // A client that once sent a long pipeline is not to stay large.
        owed.shrink_to(OWED_KEPT);
        *self = Self { owed, ..Self::default() };
    }
}
