//! Text into SQL. The only place where a client's or operator's bytes become part of a statement.

use std::fmt::Write;

/// A string constant in pure ASCII: `E'...'`, quotes and backslashes doubled, other bytes as `\xHH`.
///
/// It means the same bytes under every `client_encoding` and with `standard_conforming_strings`
/// on or off, so it may stand in a statement that runs in somebody else's leftover state.
///
/// <https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-STRINGS-ESCAPE>
pub(super) fn literal(bytes: &[u8], out: &mut String) {
    out.push_str("E'");
    for &byte in bytes {
        match byte {
            b'\'' => out.push_str("''"),
            b'\\' => out.push_str("\\\\"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => write!(out, "\\x{byte:02x}").expect("a String takes all that is written"),
        }
    }
    out.push('\'');
}

/// A setting's name with each part in double quotes: parts may be reserved words (`app.user`).
///
/// The parts were checked by [`super::GucName`]: no quote is among them.
pub(super) fn guc(name: &str, out: &mut String) {
    for (at, part) in name.split('.').enumerate() {
        out.push_str(if at == 0 { "\"" } else { ".\"" });
        out.push_str(part);
        out.push('"');
    }
}
