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

/// A name as PostgreSQL itself writes it into a list: in quotes unless it is plain and no keyword that would need them.
///
/// <https://www.postgresql.org/docs/current/functions-string.html> (`quote_ident`)
pub(super) fn shown(name: &str) -> String {
    if is_plain(name) && KEYWORDS.binary_search(&name).is_err() {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Whether a text is a list of these names as PostgreSQL writes it. Which plain names it puts in quotes depends on its
/// version.
pub(super) fn is_list(shown: &[u8], names: &[String]) -> bool {
    if names.is_empty() {
        return shown == b"\"\"";
    }
    let mut rest = shown;
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            let Some(behind) = rest.strip_prefix(b", ") else { return false };
            rest = behind;
        }
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let bare = is_plain(name).then(|| rest.strip_prefix(name.as_bytes())).flatten();
        let Some(behind) = bare.or_else(|| rest.strip_prefix(quoted.as_bytes())) else {
            return false;
        };
        rest = behind;
    }
    rest.is_empty()
}

fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// PostgreSQL's keywords that are not unreserved.
///
/// <https://www.postgresql.org/docs/current/sql-keywords-appendix.html>
const KEYWORDS: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "json",
    "json_array",
    "json_arrayagg",
    "json_exists",
    "json_object",
    "json_objectagg",
    "json_query",
    "json_scalar",
    "json_serialize",
    "json_table",
    "json_value",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "merge_action",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "setof",
    "similar",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
];
