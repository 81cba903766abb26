//! What a server sends: tags, and views over the bodies the pooler looks into.

use super::{Malformed, split_cstr, split_i32};

/// Tags of backend messages.
pub mod tag {
    #![allow(missing_docs, reason = "each is named as in PostgreSQL's manual")]
    pub const AUTHENTICATION: u8 = b'R';
    pub const BACKEND_KEY_DATA: u8 = b'K';
    pub const BIND_COMPLETE: u8 = b'2';
    pub const CLOSE_COMPLETE: u8 = b'3';
    pub const COMMAND_COMPLETE: u8 = b'C';
    pub const COPY_BOTH_RESPONSE: u8 = b'W';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
    pub const COPY_IN_RESPONSE: u8 = b'G';
    pub const COPY_OUT_RESPONSE: u8 = b'H';
    pub const DATA_ROW: u8 = b'D';
    pub const EMPTY_QUERY: u8 = b'I';
    pub const ERROR: u8 = b'E';
    pub const FUNCTION_RESULT: u8 = b'V';
    pub const NEGOTIATE_PROTOCOL: u8 = b'v';
    pub const NOTICE: u8 = b'N';
    pub const NOTIFICATION: u8 = b'A';
    pub const NO_DATA: u8 = b'n';
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    pub const PARAMETER_STATUS: u8 = b'S';
    pub const PARSE_COMPLETE: u8 = b'1';
    pub const PORTAL_SUSPENDED: u8 = b's';
    pub const READY_FOR_QUERY: u8 = b'Z';
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// Where a session stands, from the last `ReadyForQuery`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// `I`: outside a transaction.
    Idle,
    /// `T`: inside a transaction block.
    InBlock,
    /// `E`: inside a block that failed; only ROLLBACK gets out.
    Failed,
}

/// Reads the body of `ReadyForQuery` (`Z`): one byte, `I`, `T` or `E`.
///
/// # Errors
/// [`Malformed`] for any other body. Close the server: nobody knows any more whose turn it is.
///
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>
pub fn ready_for_query(body: &[u8]) -> Result<TransactionStatus, Malformed> {
    match body {
        [b'I'] => Ok(TransactionStatus::Idle),
        [b'T'] => Ok(TransactionStatus::InBlock),
        [b'E'] => Ok(TransactionStatus::Failed),
        _ => Err(Malformed::new("ReadyForQuery", body)),
    }
}

/// Reads the body of `ParameterStatus` (`S`): `(name, value)`.
///
/// # Errors
/// [`Malformed`] unless the body is exactly two NUL-terminated strings.
pub fn parameter_status(body: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    split_cstr(body)
        .and_then(|(name, rest)| match split_cstr(rest)? {
            (value, []) => Some((name, value)),
            _ => None,
        })
        .ok_or_else(|| Malformed::new("ParameterStatus", body))
}

/// Reads the body of a `DataRow` (`D`): its columns, `None` for NULL.
///
/// # Errors
/// [`Malformed`] unless the lengths fit the body exactly.
pub fn data_row(body: &[u8]) -> Result<Vec<Option<&[u8]>>, Malformed> {
    let malformed = || Malformed::new("DataRow", body);
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or_else(malformed)?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (len, after) = split_i32(rest).ok_or_else(malformed)?;
        let column = match usize::try_from(len) {
            Ok(len) => Some(after.get(..len).ok_or_else(malformed)?),
            Err(_) if len == -1 => None,
            Err(_) => return Err(malformed()),
        };
        rest = &after[column.map_or(0, <[u8]>::len)..];
        columns.push(column);
    }
    if rest.is_empty() { Ok(columns) } else { Err(malformed()) }
}

/// Reads the body of `BackendKeyData` (`K`): `(process id, secret key)`.
///
/// The key is 4 bytes in protocol 3.0 and up to 256 in 3.2.
///
/// # Errors
/// [`Malformed`] for a body without a process id, or with a key outside 4 to 256 bytes.
pub fn backend_key_data(body: &[u8]) -> Result<(i32, &[u8]), Malformed> {
    match split_i32(body) {
        Some((pid, key)) if (4..=256).contains(&key.len()) => Ok((pid, key)),
        _ => Err(Malformed::new("BackendKeyData", body)),
    }
}

/// What a server asks for, or grants, while a connection logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthenticationRequest<'a> {
    /// Logged in.
    Ok,
    /// Wants the password as it is.
    Cleartext,
    /// Wants `md5(md5(password + user) + salt)`.
    Md5 {
        /// Four random bytes.
        salt: [u8; 4],
    },
    /// Offers SASL mechanisms, NUL-terminated each, ended by an empty one.
    Sasl {
        /// The list as it came.
        mechanisms: &'a [u8],
    },
    /// Server's next SASL message.
    SaslContinue(&'a [u8]),
    /// Server's last SASL message; it proves that the server knew the secret.
    SaslFinal(&'a [u8]),
    /// Kerberos, GSS, SSPI or something newer.
    Unsupported(i32),
}

/// Reads the body of an `Authentication*` message (`R`).
///
/// # Errors
/// [`Malformed`] when the body does not have the shape its code asks for.
pub fn authentication(body: &[u8]) -> Result<AuthenticationRequest<'_>, Malformed> {
    use AuthenticationRequest as Request;
    let malformed = || Malformed::new("Authentication", body);
    match split_i32(body).ok_or_else(malformed)? {
        (0, []) => Ok(Request::Ok),
        (3, []) => Ok(Request::Cleartext),
        (5, salt) => Ok(Request::Md5 { salt: salt.try_into().map_err(|_| malformed())? }),
        (10, mechanisms) => Ok(Request::Sasl { mechanisms }),
        (11, data) => Ok(Request::SaslContinue(data)),
        (12, data) => Ok(Request::SaslFinal(data)),
        (0 | 3, _) => Err(malformed()),
        (code, _) => Ok(Request::Unsupported(code)),
    }
}

/// What an `ErrorResponse` or `NoticeResponse` says, copied out: errors are rare and outlive buffers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerError {
    /// Field code and text, in the order in which they came.
    pub fields: Vec<(u8, String)>,
}

impl ServerError {
    /// Reads the body of `ErrorResponse` (`E`). Never fails: what cannot be read is left out.
    #[must_use]
    pub fn read(body: &[u8]) -> Self {
        let mut fields = Vec::new();
        let mut rest = body;
        while let [code @ 1..=u8::MAX, text @ ..] = rest {
            // Of a long one only the beginning may be there, and the end of its last field is missing.
            let (text, after) = split_cstr(text).unwrap_or((text, &[]));
            fields.push((*code, String::from_utf8_lossy(text).into_owned()));
            rest = after;
        }
        Self { fields }
    }

    /// Whether it has what every error of PostgreSQL's has: severity, SQLSTATE and text.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.field(b'S').is_empty() && self.sqlstate().len() == 5 && !self.message().is_empty()
    }

    /// The same with what it lacks: not all that speaks the protocol is PostgreSQL, and drivers rely on it.
    #[must_use]
    pub fn completed(mut self) -> Self {
        let code = if self.sqlstate().len() == 5 { self.sqlstate() } else { "XX000" }.to_owned();
        for (field, text) in [
            (b'S', "ERROR"),
            (b'V', "ERROR"),
            (b'C', &*code),
            (b'M', "the server has sent an error without a text"),
        ] {
            if self.field(field).is_empty() || field == b'C' {
                self.fields.retain(|(known, _)| *known != field);
                self.fields.push((field, text.to_owned()));
            }
        }
        self
    }

    /// The text of one field, or `""`.
    #[must_use]
    pub fn field(&self, code: u8) -> &str {
        self.fields.iter().find(|(c, _)| *c == code).map_or("", |(_, text)| text)
    }

    /// The SQLSTATE (field `C`), or `""`.
    #[must_use]
    pub fn sqlstate(&self) -> &str {
        self.field(b'C')
    }

    /// The primary text (field `M`), or `""`.
    #[must_use]
    pub fn message(&self) -> &str {
        self.field(b'M')
    }
}

impl std::fmt::Display for ServerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.field(b'S'), self.sqlstate(), self.message())
    }
}
