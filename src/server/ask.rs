//! The pooler's own questions to a server: is the schema there, and the ROLLBACK of who left.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWriteExt;

use super::behind::read_on;
use super::{Frames, Parameters, Server};
use crate::flow::{Exchange, ServerMessage, ServerScan, ServerVerdict, Unexpected};
use crate::wire::Malformed;
use crate::wire::backend::{
    ServerError, TransactionStatus, parameter_status, ready_for_query, tag,
};
use crate::wire::build;
use crate::wire::frame::{HEADER_LEN, Header};
use crate::wire::frontend::{Names, tag as frontend};
use crate::wire::split_cstr;

/// Bytes of answers to a client that are gathered when nobody knows how many are owed: a few
/// `ReadyForQuery`, and errors.
const OWED_LEN_MAX: usize = 64 * 1024;

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Rows that came.
    pub rows: usize,
    /// Where the session stands now.
    pub status: TransactionStatus,
    /// Notifications that came meanwhile: its client's, if it has one.
    pub notifications: BytesMut,
}

/// Why there is no answer. Close the server.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// PostgreSQL refused the switch or the statement.
    #[error("{0}")]
    Refused(ServerError),
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The server said something that was not its turn to say.
    #[error("{0}")]
    Unexpected(#[from] Unexpected),
    /// A message with the wrong shape.
    #[error("{0}")]
    Malformed(#[from] Malformed),
}

impl Server {
    /// Sends `frames` and one simple query in one write, and waits for `ReadyForQuery`.
    ///
    /// # Errors
    /// [`AskError`]; what state the server is in is then not known.
    ///
    /// # Cancel safety
    /// Not safe: close the server.
    pub async fn ask(&mut self, frames: Option<&Frames>, sql: &str) -> Result<Answer, AskError> {
        let mut exchange = Exchange::default();
        let mut out = BytesMut::new();
        if let Some(frames) = frames {
            out.extend_from_slice(&frames.bytes);
            exchange.begin_switch(frames.replies);
        }
        build::query(sql, &mut out);
        exchange.on_client(frontend::QUERY, Names::Unnamed);
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        self.replies(&mut exchange).await
    }

    /// Ends the transaction of frames that PostgreSQL has refused. They had no `Sync`, so nothing behind them has run;
    /// then the session is in the state that it was in before, but for the unnamed statement and, if they were to scrub,
    /// all prepared ones: these are gone.
    ///
    /// # Errors
    /// [`AskError`]; what state the server is in is then not known.
    ///
    /// # Cancel safety
    /// Not safe: close the server.
    pub async fn roll_back(&mut self, scrubbed: bool) -> Result<(), AskError> {
        let mut exchange = Exchange::default();
        self.stream.write_all(build::SYNC).await?;
        self.stream.flush().await?;
        exchange.on_client(frontend::SYNC, Names::Other);
        let failed = self.replies(&mut exchange).await?;
        let sql = if scrubbed { "ROLLBACK; DEALLOCATE ALL" } else { "ROLLBACK" };
        let ended = self.ask(None, sql).await?;
        self.unnamed_left = None;
        match (failed.status, ended.status) {
            (TransactionStatus::Failed, TransactionStatus::Idle) => Ok(()),
            _ => Err(Unexpected { tag: tag::READY_FOR_QUERY }.into()),
        }
    }

    /// Finds out what the server still has to say, when nobody can tell: all that comes before the
    /// answer to a question of our own. Also where the session stands then.
    ///
    /// # Errors
    /// [`AskError`], also for more than a few messages; what the server owes is still not known.
    ///
    /// # Cancel safety
    /// Not safe: close the server.
    pub async fn settle(&mut self) -> Result<(BytesMut, TransactionStatus), AskError> {
        self.stream.write_all(build::QUESTION).await?;
        self.stream.flush().await?;
        let (mut owed, mut bytes, mut answered) = (BytesMut::new(), BytesMut::new(), false);
        loop {
            let header = Header::read(&bytes)?;
            let Some(header) = header.filter(|header| bytes.len() >= header.frame_len()) else {
                if bytes.len() + owed.len() > OWED_LEN_MAX {
                    return Err(Unexpected { tag: header.map_or(0, |header| header.tag) }.into());
                }
                read_on(&mut self.stream, &mut bytes, 0).await?;
                continue;
            };
            let frame = bytes.split_to(header.frame_len());
            let body = &frame[HEADER_LEN..];
            match (header.tag, answered) {
                (tag::PARAMETER_STATUS, _) => {
                    let (name, value) = parameter_status(body)?;
                    Parameters::note(&mut self.parameters, name, value);
                }
                (tag::CLOSE_COMPLETE, false) => answered = true,
                (tag::READY_FOR_QUERY, true) => return Ok((owed, ready_for_query(body)?)),
                (_, false) | (tag::NOTICE | tag::NOTIFICATION, true) => owed.unsplit(frame),
                (tag, true) => return Err(Unexpected { tag }.into()),
            }
        }
    }

    async fn replies(&mut self, exchange: &mut Exchange) -> Result<Answer, AskError> {
        let (mut scan, mut bytes, mut rows) = (ServerScan::default(), BytesMut::new(), 0);
        let mut notifications = BytesMut::new();
        loop {
            let skipped = scan.skip_body(&bytes);
            bytes.advance(skipped);
            let is_cut = scan.at_boundary() && is_cut_notification(&bytes)?;
            let message = if scan.at_boundary() && !is_cut { scan.next(&bytes)? } else { None };
            let Some(message) = message else {
                read_on(&mut self.stream, &mut bytes, scan.body_left()).await?;
                continue;
            };
            if message.tag == tag::NOTIFICATION {
                notifications.extend_from_slice(&bytes[..message.consumed]);
            }
            if let (tag::ERROR, Some(body)) = (message.tag, message.body) {
                return Err(AskError::Refused(ServerError::read(body)));
            }
            match exchange.on_server(message.tag, message.body)? {
                ServerVerdict::Parameter => {
                    note_parameter(&mut self.parameters, &message)?;
                }
                ServerVerdict::Ready(status) => {
                    return Ok(Answer { rows, status, notifications });
                }
                ServerVerdict::Forward if message.tag == tag::DATA_ROW => rows += 1,
                ServerVerdict::Forward
                | ServerVerdict::Swallow
                | ServerVerdict::Named(_)
                | ServerVerdict::SwitchDone => {}
                ServerVerdict::NotRestored
                | ServerVerdict::Foretold
                | ServerVerdict::SwitchFailed => {
                    return Err(AskError::Refused(ServerError::default()));
                }
            }
            let consumed = message.consumed;
            bytes.advance(consumed);
        }
    }
}

/// A notification that is not there in one piece; PostgreSQL makes none longer than 8 kB.
fn is_cut_notification(bytes: &[u8]) -> Result<bool, Malformed> {
    let header = Header::read(bytes)?.filter(|header| header.tag == tag::NOTIFICATION);
    Ok(header.is_some_and(|header| bytes.len() < header.frame_len()))
}

/// Records what a server reports of a parameter. Of a report that is too long to be looked into nothing is known but
/// that what was known holds no more.
///
/// # Errors
/// [`Malformed`]; close the server.
pub fn note_parameter(
    parameters: &mut Arc<Parameters>,
    report: &ServerMessage<'_>,
) -> Result<(), Malformed> {
    let body = report.body.unwrap_or_default();
    if report.is_whole {
        let (name, value) = parameter_status(body)?;
        Parameters::note(parameters, name, value);
    } else if let Some((name, _)) = split_cstr(body) {
        Arc::make_mut(parameters).forget(name);
    }
    Ok(())
}
