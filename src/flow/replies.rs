//! What each message of the server does to the ring of owed replies.

use super::exchange::{Exchange, Owed, Reply, UnnamedLost};
use crate::wire::backend::{TransactionStatus, ready_for_query, tag as server};

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
    /// It answers a message about a named statement; an error, if the reply was to be one.
    Named(Reply),
    /// What was to put the session's state back has failed; the client does not hear of it.
    NotRestored,
    /// An error of what the pooler put in front. A simple query behind it will fail for lack of that: the
    /// client is to hear the first of the two errors.
    Foretold,
}

/// A message that cannot come now. Nobody knows any more whose turn it is: close the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unexpected message {:?} from the server", char::from(*tag))]
pub struct Unexpected {
    /// Its type.
    pub tag: u8,
}

impl Exchange {
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
            server::ERROR => {
                let refused = matches!(
                    self.owed.first(),
                    Some(Owed::Named(Reply::Refused) | Owed::RefusedQuery)
                );
                let restoring = matches!(self.owed.first(), Some(Owed::Restoring(_)));
                self.on_error();
                if restoring {
                    return Ok(ServerVerdict::NotRestored);
                }
                if self.owed.first() == Some(&Owed::SyncTried) {
                    return Ok(ServerVerdict::Swallow);
                }
                if self.owed.first() == Some(&Owed::SyncUnasked) {
                    if let Some(query @ Owed::Query) = self.owed.get_mut(1) {
                        *query = Owed::RefusedQuery;
                    }
                    return Ok(ServerVerdict::Foretold);
                }
                if refused {
                    return Ok(ServerVerdict::Named(Reply::Refused));
                }
            }
            server::READY_FOR_QUERY => return self.on_ready(body),
            _ => return self.on_reply(tag),
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

    #[inline]
    pub(super) fn on_reply(&mut self, tag: u8) -> Result<ServerVerdict, Unexpected> {
        let Some(&head) = self.owed.first() else { return Err(Unexpected { tag }) };
        let forward = Ok(ServerVerdict::Forward);
        match head {
            Owed::Query | Owed::Execute => return self.on_result(tag, head).and(forward),
            // What leads home may be a query.
            Owed::Restoring(server::COMMAND_COMPLETE) if tag == server::DATA_ROW => {
                return Ok(ServerVerdict::Swallow);
            }
            Owed::FunctionCall if tag == server::FUNCTION_RESULT => return forward,
            Owed::Describe if tag == server::PARAMETER_DESCRIPTION => return forward,
            Owed::Unasked(own) | Owed::Restoring(own) if own == tag => {
                self.pop();
                return Ok(ServerVerdict::Swallow);
            }
            Owed::Named(Reply::Described) if tag == server::PARAMETER_DESCRIPTION => {
                return forward;
            }
            Owed::Named(Reply::DescribedUnasked) if tag == server::PARAMETER_DESCRIPTION => {
                return Ok(ServerVerdict::Swallow);
            }
            Owed::Named(reply @ (Reply::Described | Reply::DescribedUnasked))
                if matches!(tag, server::ROW_DESCRIPTION | server::NO_DATA) =>
            {
                self.pop();
                return Ok(ServerVerdict::Named(reply));
            }
            Owed::Named(reply) if reply.tag() == Some(tag) => {
                self.pop();
                return Ok(ServerVerdict::Named(reply));
            }
            Owed::Describe if matches!(tag, server::ROW_DESCRIPTION | server::NO_DATA) => {}
            Owed::Close if tag == server::CLOSE_COMPLETE => {}
            Owed::CloseUnnamed if tag == server::CLOSE_COMPLETE => {
                self.unnamed_waits = false;
                self.unnamed_ran += 1;
            }
            Owed::Parse if tag == server::PARSE_COMPLETE => {}
            Owed::ParseUnnamed if tag == server::PARSE_COMPLETE => {
                self.unnamed_waits = true;
                self.unnamed_ran += 1;
            }
            Owed::Bind if tag == server::BIND_COMPLETE => self.unnamed_waits = false,
            Owed::FunctionCall
            | Owed::Describe
            | Owed::Close
            | Owed::CloseUnnamed
            | Owed::Parse
            | Owed::ParseUnnamed
            | Owed::Bind
            | Owed::Sync
            | Owed::SyncUnasked
            | Owed::SyncTried
            | Owed::Unasked(_)
            | Owed::Restoring(_)
            | Owed::RefusedQuery
            | Owed::Named(_)
            | Owed::CopyEnd => return Err(Unexpected { tag }),
        }
        self.pop();
        forward
    }

    /// What a `Query` or an `Execute` yields.
    fn on_result(&mut self, tag: u8, head: Owed) -> Result<(), Unexpected> {
        match tag {
            server::DATA_ROW
            | server::COPY_DATA
            | server::COPY_DONE
            | server::COPY_OUT_RESPONSE => {}
            server::ROW_DESCRIPTION if head == Owed::Query => {}
            server::COPY_IN_RESPONSE => {
                self.copy_in = true;
                self.unsure |= head == Owed::Query && self.copy_meets_others();
            }
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
                    // A Sync that the COPY swallowed has ended nothing, and one that it did not ends
                    // nothing of what was sent behind it: the last message decides.
                    let mut sent = self.owed.iter().rev().filter(|owed| **owed != Owed::CopyEnd);
                    let ends = matches!(
                        sent.next(),
                        Some(Owed::Sync | Owed::Query | Owed::RefusedQuery | Owed::FunctionCall)
                    );
                    self.unsynced = !ends;
                }
                self.pop();
            }
            _ => return Err(Unexpected { tag }),
        }
        Ok(())
    }

    fn on_error(&mut self) {
        let copied = std::mem::take(&mut self.copy_in);
        match self.owed.first() {
            // A `Flush` that was malformed: the server now discards everything up to a `Sync`.
            None => self.skip_to_sync = true,
            // ReadyForQuery follows.
            Some(Owed::Query | Owed::RefusedQuery | Owed::FunctionCall) if copied => {
                if self.early_sync() {
                    // Its own ReadyForQuery comes in any case, before all that is in doubt.
                    self.unsure = true;
                    self.owed.pop();
                }
                self.drop_copy();
            }
            Some(Owed::Query | Owed::RefusedQuery | Owed::FunctionCall) => {}
            Some(_) => {
                // Whether the COPY had swallowed an early Sync when it failed, only the server knows.
                self.unsure |= copied && self.early_sync();
                let mut lost = false;
                let ends =
                    |owed: &Owed| matches!(owed, Owed::Sync | Owed::SyncUnasked | Owed::SyncTried);
                let own = matches!(self.owed.first(), Some(Owed::Unasked(_)));
                let has_failed = self.owed.first() == Some(&Owed::ParseUnnamed);
                let tried = self.owed.iter().find(|owed| ends(owed)) == Some(&Owed::SyncTried);
                self.unasked_failed |= own && !tried;
                while self.owed.first().is_some_and(|owed| !ends(owed)) {
                    let skipped = self.owed.pop();
                    // The client has bound its statement; that it failed is its own affair.
                    self.unnamed_waits &= skipped != Some(Owed::Bind);
                    lost |= skipped.is_some_and(Owed::changes_unnamed);
                    self.skipped += u32::from(skipped.is_some_and(Owed::has_op));
                }
                if lost {
                    self.unnamed_lost = Some(self.lost_unnamed(has_failed));
                }
                self.skip_to_sync = self.owed.is_empty();
            }
        }
    }

    /// What an error has made of the unnamed statement.
    fn lost_unnamed(&self, has_failed: bool) -> UnnamedLost {
        if self.owed.iter().any(|owed| owed.changes_unnamed()) {
            UnnamedLost::Earlier
        } else if has_failed {
            UnnamedLost::Failed
        } else {
            UnnamedLost::Behind(self.unnamed_ran)
        }
    }

    /// Whether a query's COPY, that has only now begun, may read what was not meant for it: then it
    /// fails, and which messages it ate depends on when.
    fn copy_meets_others(&self) -> bool {
        let mut data = self.owed.iter().skip(1).take_while(|owed| **owed != Owed::CopyEnd);
        data.any(|owed| *owed != Owed::Sync)
    }

    /// Whether a `Sync` was sent while the COPY may have been reading.
    fn early_sync(&self) -> bool {
        let data = self.owed.iter().take_while(|owed| **owed != Owed::CopyEnd);
        data.into_iter().any(|owed| *owed == Owed::Sync)
    }

    fn on_ready(&mut self, body: Option<&[u8]>) -> Result<ServerVerdict, Unexpected> {
        match self.owed.first() {
            Some(Owed::SyncUnasked | Owed::SyncTried) => {
                self.pop();
                return self.ready(body).map(|_| ServerVerdict::Swallow);
            }
            Some(Owed::Query | Owed::RefusedQuery | Owed::FunctionCall | Owed::Sync)
                if !self.copy_in =>
            {
                self.pop();
            }
            _ => return Err(Unexpected { tag: server::READY_FOR_QUERY }),
        }
        let ready = self.ready(body)?;
        // What puts the state back follows the query; the client hears of the `ReadyForQuery` behind that.
        let goes_on = matches!(self.owed.first(), Some(Owed::Restoring(_)));
        Ok(if goes_on { ServerVerdict::Swallow } else { ready })
    }

    fn ready(&mut self, body: Option<&[u8]>) -> Result<ServerVerdict, Unexpected> {
        let unexpected = Unexpected { tag: server::READY_FOR_QUERY };
        let status = body.and_then(|body| ready_for_query(body).ok()).ok_or(unexpected)?;
        self.unnamed_ran = 0;
        self.stand(status);
        Ok(ServerVerdict::Ready(status))
    }

    pub(super) fn stand(&mut self, status: TransactionStatus) {
        self.failed = match status {
            TransactionStatus::Idle => None,
            TransactionStatus::InBlock | TransactionStatus::Failed => Some(status),
        };
    }

    fn pop(&mut self) {
        self.owed.pop();
        // The end of a COPY that failed before it began: PostgreSQL ignores it.
        while !self.copy_in && self.owed.first() == Some(&Owed::CopyEnd) {
            self.owed.pop();
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
}

impl Reply {
    /// The message that it is, unless it is an error.
    const fn tag(self) -> Option<u8> {
        match self {
            Self::Parsed | Self::ParsedUnasked => Some(server::PARSE_COMPLETE),
            Self::Closed | Self::ClosedUnasked => Some(server::CLOSE_COMPLETE),
            Self::Prepared | Self::PreparedUnasked => Some(server::COMMAND_COMPLETE),
            Self::Described | Self::DescribedUnasked | Self::Refused => None,
        }
    }
}
