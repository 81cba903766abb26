//! Asks a server what its client left: settings, and things that tie a session to it.

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;

use super::behind::read_on;
use super::{AskError, Parameters, Server};
use crate::flow::Unexpected;
use crate::tenant::{Observed, Question, SessionState};
use crate::wire::backend::{
    ServerError, TransactionStatus, data_row, parameter_status, ready_for_query, tag,
};
use crate::wire::build;
use crate::wire::frame::{HEADER_LEN, Header};

/// Longest message of an answer, in bytes: a value that is not too long, in hex, or an error.
const MESSAGE_LEN_MAX: usize = 1024 * 1024;

/// Why a server did not answer what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// PostgreSQL refused the question; the server is as it was before it.
    #[error("{0}")]
    Refused(ServerError),
    /// The server is lost, or it answered something else. Close it.
    #[error("{0}")]
    Lost(#[from] AskError),
}

impl Server {
    /// Asks what the client left, outside any transaction. Notifications that come meanwhile are
    /// the client's: they are put into `owed`.
    ///
    /// # Errors
    /// [`ObserveError`].
    ///
    /// # Cancel safety
    /// Not safe: close the server.
    pub async fn observe(
        &mut self,
        question: &Question,
        known: &SessionState,
        owed: &mut BytesMut,
    ) -> Result<Observed, ObserveError> {
        let refused = match self.answer(&question.sql(known), owed).await? {
            (observed, None, TransactionStatus::Idle) => return Ok(observed),
            (_, Some(error), TransactionStatus::Idle) => return Err(ObserveError::Refused(error)),
            (_, error, _) => error.unwrap_or_default(),
        };
        let ended = self.ask(None, "ROLLBACK").await?;
        match ended.status {
            TransactionStatus::Idle => Err(ObserveError::Refused(refused)),
            TransactionStatus::InBlock | TransactionStatus::Failed => {
                Err(AskError::Refused(refused).into())
            }
        }
    }

    /// The same in the middle of a transaction.
    ///
    /// # Errors
    /// [`AskError`]; close the server.
    ///
    /// # Cancel safety
    /// Not safe: close the server.
    pub async fn observe_inside(
        &mut self,
        question: &Question,
        known: &SessionState,
        owed: &mut BytesMut,
    ) -> Result<Observed, AskError> {
        match self.answer(&question.select(known), owed).await? {
            (observed, None, TransactionStatus::InBlock) => Ok(observed),
            (_, error, _) => Err(AskError::Refused(error.unwrap_or_default())),
        }
    }

    /// The same in a transaction that has failed: nothing can be asked in it. So it is rolled back, and another one is begun
    /// and fails, which the client cannot tell from it (but for its savepoints).
    ///
    /// # Errors
    /// [`AskError`]; close the server.
    ///
    /// # Cancel safety
    /// Not safe: close the server.
    pub async fn observe_failed(
        &mut self,
        question: &Question,
        known: &SessionState,
        owed: &mut BytesMut,
    ) -> Result<Observed, AskError> {
        let failed = |error: Option<ServerError>| AskError::Refused(error.unwrap_or_default());
        if self.ask(None, "ROLLBACK").await?.status != TransactionStatus::Idle {
            return Err(failed(None));
        }
        let observed = match self.answer(&question.select(known), owed).await? {
            (observed, None, TransactionStatus::Idle) => observed,
            (_, error, _) => return Err(failed(error)),
        };
        let fails = "BEGIN; ROLLBACK TO SAVEPOINT tenantry_none";
        match self.answer(fails, owed).await? {
            (_, Some(_), TransactionStatus::Failed) => Ok(observed),
            (_, error, _) => Err(failed(error)),
        }
    }

    async fn answer(
        &mut self,
        sql: &str,
        owed: &mut BytesMut,
    ) -> Result<(Observed, Option<ServerError>, TransactionStatus), AskError> {
        let mut out = BytesMut::new();
        build::query(sql, &mut out);
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        let (mut observed, mut error, mut bytes) = (Observed::default(), None, BytesMut::new());
        loop {
            let header = Header::read(&bytes)?;
            let Some(header) = header.filter(|header| bytes.len() >= header.frame_len()) else {
                if bytes.len() > MESSAGE_LEN_MAX {
                    return Err(Unexpected { tag: tag::DATA_ROW }.into());
                }
                read_on(&mut self.stream, &mut bytes, 0).await?;
                continue;
            };
            let frame = bytes.split_to(header.frame_len());
            let body = &frame[HEADER_LEN..];
            match header.tag {
                tag::DATA_ROW => {
                    let strange = |_| Unexpected { tag: tag::DATA_ROW };
                    observed.read(&data_row(body)?).map_err(strange)?;
                }
                tag::PARAMETER_STATUS => {
                    let (name, value) = parameter_status(body)?;
                    Parameters::note(&mut self.parameters, name, value);
                }
                tag::ERROR => error = Some(ServerError::read(body)),
                tag::READY_FOR_QUERY => return Ok((observed, error, ready_for_query(body)?)),
                tag::NOTIFICATION => owed.unsplit(frame),
                tag::ROW_DESCRIPTION | tag::COMMAND_COMPLETE | tag::NOTICE => {}
                tag => return Err(Unexpected { tag }.into()),
            }
        }
    }
}
