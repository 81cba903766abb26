//! A question of the pooler's own with a bound parameter: the secret of a user.

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;

use super::behind::read_on;
use super::{AskError, Parameters, Server};
use crate::flow::Unexpected;
use crate::wire::backend::{ServerError, data_row, parameter_status, tag};
use crate::wire::build;
use crate::wire::frame::{HEADER_LEN, Header};

/// Longest answer, in bytes.
const ANSWER_LEN_MAX: usize = 64 * 1024;

/// A row: its columns as texts, `None` for NULL.
pub type Row = Vec<Option<Box<[u8]>>>;

impl Server {
    /// Runs one statement with one text as `$1`; its rows.
    ///
    /// # Errors
    /// [`AskError`]; close the server.
    ///
    /// # Cancel safety
    /// Not safe: close the server.
    pub async fn fetch(&mut self, sql: &str, parameter: &str) -> Result<Vec<Row>, AskError> {
        let mut out = BytesMut::new();
        build::statement_with_text(sql, parameter, &mut out);
        self.rows(&out, ANSWER_LEN_MAX).await
    }

    /// Runs one statement; its rows, if they are no longer than `len_max` bytes.
    ///
    /// # Errors
    /// [`AskError`]; close the server.
    ///
    /// # Cancel safety
    /// Not safe: close the server.
    pub async fn fetch_all(&mut self, sql: &str, len_max: usize) -> Result<Vec<Row>, AskError> {
        let mut out = BytesMut::new();
        build::query(sql, &mut out);
        self.rows(&out, len_max).await
    }

    async fn rows(&mut self, question: &[u8], len_max: usize) -> Result<Vec<Row>, AskError> {
        self.stream.write_all(question).await?;
        self.stream.flush().await?;
        let (mut rows, mut error, mut bytes, mut read) = (Vec::new(), None, BytesMut::new(), 0);
        loop {
            let header = Header::read(&bytes)?;
            let Some(header) = header.filter(|header| bytes.len() >= header.frame_len()) else {
                let before = bytes.len();
                read_on(&mut self.stream, &mut bytes, 0).await?;
                read += bytes.len() - before;
                if read > len_max {
                    return Err(Unexpected { tag: tag::DATA_ROW }.into());
                }
                continue;
            };
            let frame = bytes.split_to(header.frame_len());
            let body = &frame[HEADER_LEN..];
            match header.tag {
                tag::DATA_ROW => {
                    let columns = data_row(body)?.into_iter();
                    rows.push(columns.map(|column| column.map(Into::into)).collect());
                }
                tag::PARAMETER_STATUS => {
                    let (name, value) = parameter_status(body)?;
                    Parameters::note(&mut self.parameters, name, value);
                }
                tag::ERROR => error = Some(ServerError::read(body)),
                tag::READY_FOR_QUERY => {
                    return error.map_or(Ok(rows), |error| Err(AskError::Refused(error)));
                }
                tag::ROW_DESCRIPTION
                | tag::PARSE_COMPLETE
                | tag::BIND_COMPLETE
                | tag::COMMAND_COMPLETE
                | tag::NOTICE
                | tag::NOTIFICATION => {}
                tag => return Err(Unexpected { tag }.into()),
            }
        }
    }
}
