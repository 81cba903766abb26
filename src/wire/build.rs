//! Builders: each appends one whole message to a buffer.
//!
//! Backend messages are encoded by `pgwire`, which has their shapes; frontend messages by
//! `postgres-protocol`. By hand those on the hot path, and `ParameterStatus`: a login has a dozen, and their values
//! need not be UTF-8.

use bytes::{BufMut, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::response::{ErrorResponse, ReadyForQuery};
use pgwire::messages::startup::{
    Authentication, BackendKeyData, NegotiateProtocolVersion, SecretKey,
};

use super::backend::TransactionStatus;
use super::startup::ProtocolVersion;

fn put(message: &impl Message, out: &mut BytesMut) {
    message.encode(out).expect("the messages built here have no fallible part");
}

/// `AuthenticationSASL` with the mechanisms that are offered, the best first.
pub fn authentication_sasl(mechanisms: &[&str], out: &mut BytesMut) {
    put(&Authentication::SASL(mechanisms.iter().map(|&name| name.to_owned()).collect()), out);
}

/// `AuthenticationSASLContinue`.
pub fn authentication_sasl_continue(data: String, out: &mut BytesMut) {
    put(&Authentication::SASLContinue(data.into()), out);
}

/// `AuthenticationSASLFinal`.
pub fn authentication_sasl_final(data: String, out: &mut BytesMut) {
    put(&Authentication::SASLFinal(data.into()), out);
}

/// `AuthenticationMD5Password`.
pub fn authentication_md5(salt: [u8; 4], out: &mut BytesMut) {
    put(&Authentication::MD5Password(salt.to_vec()), out);
}

/// `AuthenticationOk`.
pub fn authentication_ok(out: &mut BytesMut) {
    put(&Authentication::Ok, out);
}

/// `ParameterStatus`; the value goes out byte by byte as the server spelled it.
pub fn parameter_status(name: &str, value: &[u8], out: &mut BytesMut) {
    framed(super::backend::tag::PARAMETER_STATUS, out, |out| {
        put_cstr(name, out);
        out.put_slice(value);
        out.put_u8(0);
    });
}

/// `BackendKeyData` with a key of 4 bytes (protocol 3.0) or more (3.2).
pub fn backend_key_data(pid: i32, key: &[u8], out: &mut BytesMut) {
    let secret_key = match <[u8; 4]>::try_from(key) {
        Ok(key) => SecretKey::I32(i32::from_be_bytes(key)),
        Err(_) => SecretKey::Bytes(key.to_vec().into()),
    };
    put(&BackendKeyData::new(pid, secret_key), out);
}

/// `NegotiateProtocolVersion`: the newest version spoken here and the `_pq_.` options nobody knows.
pub fn negotiate_protocol(newest: ProtocolVersion, unknown: Vec<String>, out: &mut BytesMut) {
    put(&NegotiateProtocolVersion::new(newest.number(), unknown), out);
}

/// `ReadyForQuery`.
pub fn ready_for_query(status: TransactionStatus, out: &mut BytesMut) {
    use pgwire::messages::response::TransactionStatus as Status;
    let status = match status {
        TransactionStatus::Idle => Status::Idle,
        TransactionStatus::InBlock => Status::Transaction,
        TransactionStatus::Failed => Status::Error,
    };
    put(&ReadyForQuery::new(status), out);
}

/// `ErrorResponse` from fields in PostgreSQL's order (`S`, `V`, `C`, `M`, `D`, `H`).
pub fn error_response(fields: Vec<(u8, String)>, out: &mut BytesMut) {
    // A NUL inside a text would end the field early and let the rest pass for another field.
    let clean = |(code, text): (u8, String)| (code, text.replace('\0', " "));
    put(&ErrorResponse::new(fields.into_iter().map(clean).collect()), out);
}

/// `CommandComplete` (`C`).
pub fn command_complete(tag: &str, out: &mut BytesMut) {
    framed(b'C', out, |out| put_cstr(tag, out));
}

/// `RowDescription`, `DataRow` and `CommandComplete` of a `SELECT` of one text.
pub fn text_row(column: &str, value: &str, out: &mut BytesMut) {
    row_description(&[(column, ColumnType::Text)], |_| Format::Text, out);
    data_row([Some(value.as_bytes())].into_iter(), out);
    command_complete("SELECT 1", out);
}

/// Types of columns in answers of the pooler's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// `text`.
    Text,
    /// `bigint`.
    Bigint,
}

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As texts.
    Text,
    /// As their types' bytes.
    Binary,
}

/// `RowDescription` (`T`): names and types, of no table, and how each column is written.
pub fn row_description(
    columns: &[(&str, ColumnType)],
    format: impl Fn(usize) -> Format,
    out: &mut BytesMut,
) {
    framed(b'T', out, |out| {
        out.put_u16(u16::try_from(columns.len()).expect("few columns"));
        for (at, (name, kind)) in columns.iter().enumerate() {
            put_cstr(name, out);
            out.put_slice(&[0; 6]);
            let (oid, len) = match kind {
                ColumnType::Text => (25, -1),
                ColumnType::Bigint => (20, 8),
            };
            out.put_u32(oid);
            out.put_i16(len);
            out.put_i32(-1);
            out.put_u16(format(at) as u16);
        }
    });
}

/// `DataRow` (`D`); `None` is NULL.
pub fn data_row<'a>(values: impl ExactSizeIterator<Item = Option<&'a [u8]>>, out: &mut BytesMut) {
    framed(b'D', out, |out| {
        out.put_u16(u16::try_from(values.len()).expect("few columns"));
        for value in values {
            match value {
                None => out.put_i32(-1),
                Some(value) => {
                    out.put_u32(u32::try_from(value.len()).expect("a value is short"));
                    out.put_slice(value);
                }
            }
        }
    });
}

/// `Query` (`Q`).
pub fn query(sql: &str, out: &mut BytesMut) {
    framed(b'Q', out, |out| put_cstr(sql, out));
}

/// The same, of a text in the client's encoding.
pub fn query_bytes(text: &[u8], out: &mut BytesMut) {
    framed(b'Q', out, |out| {
        out.put_slice(text);
        out.put_u8(0);
    });
}

/// `Parse`, `Bind` and `Execute` of the unnamed statement, without parameters and without `Sync`.
pub fn unnamed_statement(sql: &str, out: &mut BytesMut) {
    framed(b'P', out, |out| {
        out.put_u8(0);
        put_cstr(sql, out);
        out.put_u16(0);
    });
    bind(b"", b"", out);
    execute(b"", out);
}

/// `Bind` of a statement to a portal: no formats, no parameters, results as text.
pub fn bind(portal: &[u8], statement: &[u8], out: &mut BytesMut) {
    out.put_u8(b'B');
    let len = 4 + portal.len() + 1 + statement.len() + 1 + 6;
    out.put_u32(u32::try_from(len).expect("names are short"));
    for part in [portal, b"\0", statement, b"\0", &[0; 6]] {
        out.put_slice(part);
    }
}

/// `Execute` of a portal, without a limit of rows.
pub fn execute(portal: &[u8], out: &mut BytesMut) {
    out.put_u8(b'E');
    out.put_u32(u32::try_from(4 + portal.len() + 1 + 4).expect("a name is short"));
    out.put_slice(portal);
    out.put_slice(&[0; 5]);
}

/// `Parse`, `Bind`, `Execute` and `Sync` of the unnamed statement, with one text as its parameter.
pub fn statement_with_text(sql: &str, parameter: &str, out: &mut BytesMut) {
    framed(b'P', out, |out| {
        out.put_u8(0);
        put_cstr(sql, out);
        out.put_u16(0);
    });
    framed(b'B', out, |out| {
        // Portal "", statement "", no formats, one parameter, no result formats.
        out.put_slice(b"\0\0\0\0\0\x01");
        out.put_u32(u32::try_from(parameter.len()).expect("a name is short"));
        out.put_slice(parameter.as_bytes());
        out.put_u16(0);
    });
    out.put_slice(b"E\x00\x00\x00\x09\0\0\0\0\0");
    out.put_slice(SYNC);
}

/// `Parse`: a name, and what stands behind it in the body.
pub fn parse(name: &[u8], tail: &[u8], out: &mut BytesMut) {
    out.put_u8(b'P');
    out.put_u32(u32::try_from(4 + name.len() + 1 + tail.len()).expect("a kept text is short"));
    out.put_slice(name);
    out.put_u8(0);
    out.put_slice(tail);
}

/// `Close` of a statement.
pub fn close_statement(name: &[u8], out: &mut BytesMut) {
    close(b'S', name, out);
}

/// `Close` of a portal.
pub fn close_portal(name: &[u8], out: &mut BytesMut) {
    close(b'P', name, out);
}

fn close(kind: u8, name: &[u8], out: &mut BytesMut) {
    out.put_u8(b'C');
    out.put_u32(u32::try_from(4 + 1 + name.len() + 1).expect("a name is short"));
    out.put_u8(kind);
    out.put_slice(name);
    out.put_u8(0);
}

/// A text that PostgreSQL refuses before it looks at anything, in any state of a transaction.
pub const NO_STATEMENT: &str = "tenantry refused this statement";

/// `Parse` of [`NO_STATEMENT`]: an error, whatever the session holds. (An `Execute` of a portal that nobody makes is none
/// where a client makes one of that name.) It has a name, so that it takes no unnamed statement away.
pub fn failing_parse(out: &mut BytesMut) {
    parse(b"tenantry_none", b"tenantry refused this statement\0\0\0", out);
}

/// `Close` of the unnamed statement.
pub fn close_unnamed_statement(out: &mut BytesMut) {
    out.put_slice(b"C\x00\x00\x00\x06S\0");
}

/// `Close` of a statement that nobody makes, which is no error and changes nothing, and `Sync`.
pub const QUESTION: &[u8] = b"C\x00\x00\x00\x17Stenantry_question\0S\x00\x00\x00\x04";
/// `ParseComplete` (`1`).
pub const PARSE_COMPLETE: &[u8] = b"1\x00\x00\x00\x04";
/// `BindComplete` (`2`).
pub const BIND_COMPLETE: &[u8] = b"2\x00\x00\x00\x04";
/// `CloseComplete` (`3`).
pub const CLOSE_COMPLETE: &[u8] = b"3\x00\x00\x00\x04";
/// `EmptyQueryResponse` (`I`).
pub const EMPTY_QUERY: &[u8] = b"I\x00\x00\x00\x04";
/// `ParameterDescription` (`t`) of a statement without parameters.
pub const NO_PARAMETERS: &[u8] = b"t\x00\x00\x00\x06\0\0";
/// `NoData` (`n`).
pub const NO_DATA: &[u8] = b"n\x00\x00\x00\x04";
/// `Sync` (`S`).
pub const SYNC: &[u8] = b"S\x00\x00\x00\x04";
/// `Flush` (`H`).
pub const FLUSH: &[u8] = b"H\x00\x00\x00\x04";
/// `Terminate` (`X`).
pub const TERMINATE: &[u8] = b"X\x00\x00\x00\x04";
/// `SSLRequest`.
pub const SSL_REQUEST: &[u8] = b"\x00\x00\x00\x08\x04\xd2\x16\x2f";

/// `StartupMessage` for a connection to PostgreSQL, protocol 3.0.
///
/// # Errors
/// When a name or value holds a NUL byte.
pub fn startup(parameters: &[(&str, &str)], out: &mut BytesMut) -> std::io::Result<()> {
    postgres_protocol::message::frontend::startup_message(parameters.iter().copied(), out)
}

/// `PasswordMessage`.
///
/// # Errors
/// When the password holds a NUL byte.
pub fn password(password: &[u8], out: &mut BytesMut) -> std::io::Result<()> {
    postgres_protocol::message::frontend::password_message(password, out)
}

/// `SASLInitialResponse`.
///
/// # Errors
/// When the mechanism holds a NUL byte.
pub fn sasl_initial(mechanism: &str, data: &[u8], out: &mut BytesMut) -> std::io::Result<()> {
    postgres_protocol::message::frontend::sasl_initial_response(mechanism, data, out)
}

/// `SASLResponse`.
///
/// # Errors
/// When the data is longer than a message can be.
pub fn sasl_response(data: &[u8], out: &mut BytesMut) -> std::io::Result<()> {
    postgres_protocol::message::frontend::sasl_response(data, out)
}

/// `CancelRequest` with the key PostgreSQL gave, whatever its length.
pub fn cancel_request(pid: i32, key: &[u8], out: &mut BytesMut) {
    out.put_u32(u32::try_from(12 + key.len()).expect("a key has at most 256 bytes"));
    out.put_i32(80_877_102);
    out.put_i32(pid);
    out.put_slice(key);
}

fn framed(tag: u8, out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let start = out.len();
    out.put_u32(0);
    body(out);
    let len = u32::try_from(out.len() - start).expect("the pooler's own statements are short");
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

fn put_cstr(text: &str, out: &mut BytesMut) {
    debug_assert!(!text.contains('\0'), "quoting lets no NUL through");
    out.put_slice(text.as_bytes());
    out.put_u8(0);
}
