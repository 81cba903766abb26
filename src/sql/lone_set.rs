//! `SET name = value`, alone and plain: what can be answered without asking PostgreSQL.

use super::tokens::{Token, tokens};

/// A setting and what it is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoneSet {
    /// The setting's name, in lower case.
    pub name: String,
    /// The items of the list, most often one; `None`: `DEFAULT`.
    pub items: Option<Vec<String>>,
}

/// Longest item, in bytes: PostgreSQL cuts longer identifiers.
const ITEM_LEN_MAX: usize = 63;

/// PostgreSQL's reserved words: bare, none of them is a value.
///
/// <https://www.postgresql.org/docs/current/sql-keywords-appendix.html>
const RESERVED: [&str; 79] = [
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "current_catalog",
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "from",
    "grant",
    "group",
    "having",
    "in",
    "initially",
    "intersect",
    "into",
    "lateral",
    "leading",
    "limit",
    "localtime",
    "localtimestamp",
    "not",
    "null",
    "off",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "placing",
    "primary",
    "references",
    "returning",
    "select",
    "session_user",
    "some",
    "symmetric",
    "system_user",
    "table",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "when",
    "where",
    "window",
    "with",
];

/// Reads a text that is nothing but one such `SET`. What is not plain is left to PostgreSQL.
#[must_use]
pub fn lone_set(text: &[u8]) -> Option<LoneSet> {
    let mut tokens = tokens(text)?;
    if tokens.last() == Some(&Token::Punct(b';')) {
        tokens.pop();
    }
    let [first, rest @ ..] = tokens.as_slice() else { return None };
    if !first.is("set") {
        return None;
    }
    let rest = match rest {
        [scope, rest @ ..] if scope.is("session") => rest,
        _ => rest,
    };
    if let [names, Token::Text(encoding)] = rest
        && names.is("names")
    {
        let items = Some(vec![String::from_utf8(encoding.to_vec()).ok()?]);
        return Some(LoneSet { name: "client_encoding".to_owned(), items });
    }
    let (name, value) = name(rest)?;
    let items = match value {
        [word] if word.is("default") => None,
        _ => Some(items(value)?),
    };
    Some(LoneSet { name, items })
}

/// The path in a text that is nothing but `SELECT set_config('search_path', 'a,b', false)`: plain
/// names only, which any path may hold.
#[must_use]
pub fn lone_set_path(text: &[u8]) -> Option<String> {
    let mut tokens = tokens(text)?;
    if tokens.last() == Some(&Token::Punct(b';')) {
        tokens.pop();
    }
    let call = match tokens.as_slice() {
        [select, schema, Token::Punct(b'.'), call @ ..]
            if select.is("select") && schema.is("pg_catalog") =>
        {
            call
        }
        [select, call @ ..] if select.is("select") => call,
        _ => return None,
    };
    let path = match call {
        [name, open, Token::Text(setting), comma, Token::Text(path), comma2, local, close]
            if name.is("set_config")
                && **setting == *b"search_path"
                && local.is("false")
                && [open, comma, comma2, close].map(punct)
                    == [b'(', b',', b',', b')'].map(Some) =>
        {
            ascii_path(path)?
        }
        _ => return None,
    };
    let name = |name: &str| {
        let name = name.trim_matches(' ');
        name.len() <= ITEM_LEN_MAX
            && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    path.split(',').all(name).then(|| path.to_owned())
}

const fn punct(token: &Token<'_>) -> Option<u8> {
    if let Token::Punct(byte) = token { Some(*byte) } else { None }
}

fn ascii_path(path: &[u8]) -> Option<&str> {
    std::str::from_utf8(path).ok().filter(|path| path.is_ascii())
}

/// The name, and what is behind `TO` or `=`.
fn name<'t, 'a>(mut tokens: &'t [Token<'a>]) -> Option<(String, &'t [Token<'a>])> {
    let mut name = String::new();
    loop {
        let (part, rest) = tokens.split_first()?;
        match part {
            Token::Word(word) if !RESERVED.iter().any(|reserved| part.is(reserved)) => {
                name.push_str(&ascii(word)?.to_ascii_lowercase());
            }
            Token::Quoted(quoted) => name.push_str(&ascii(quoted)?.to_ascii_lowercase()),
            _ => return None,
        }
        match rest {
            [Token::Punct(b'.'), rest @ ..] => {
                name.push('.');
                tokens = rest;
            }
            [assigns, rest @ ..] if assigns.is("to") || *assigns == Token::Punct(b'=') => {
                return Some((name, rest));
            }
            _ => return None,
        }
    }
}

fn items(tokens: &[Token<'_>]) -> Option<Vec<String>> {
    let item = |tokens: &[Token<'_>]| match tokens {
        // `opt_boolean_or_string`
        [word @ Token::Word(text)]
            if ["on", "true", "false"].iter().any(|value| word.is(value))
                || !RESERVED.iter().any(|reserved| word.is(reserved)) =>
        {
            Some(ascii(text)?.to_ascii_lowercase())
        }
        [Token::Quoted(text)] if !text.is_empty() => ascii(text).map(str::to_owned),
        [Token::Text(text)] => ascii(text).map(str::to_owned),
        _ => None,
    };
    tokens.split(|token| *token == Token::Punct(b',')).map(item).collect()
}

fn ascii(text: &[u8]) -> Option<&str> {
    let short = text.len() <= ITEM_LEN_MAX && text.is_ascii();
    std::str::from_utf8(text).ok().filter(|_| short)
}
