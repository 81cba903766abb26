//! Where a name or a value that is put into a text may stand: only where it can be nothing else.
//!
//! Whatever is put in, its neighbours say what it is. A name behind `TABLE` is a table's; in an expression it is a column's
//! where nothing but an operator, a bracket or a comma is next to it. With a dot in front it may be a function (PostgreSQL
//! takes `x.f` for `f(x)`), beside another name it may be a keyword (`quote_ident` leaves `set` without quotes), and a
//! literal beside another one may be the rest of that. What is in no list here is not taken.

use super::computed::IDENTIFIER;
use super::tokens::Token;

/// Words behind which only the name of an object stands, with a schema too.
const BEFORE_OBJECTS: [&str; 34] = [
    "aggregate",
    "authorization",
    "column",
    "concurrently",
    "constraint",
    "database",
    "domain",
    "exists",
    "extension",
    "function",
    "index",
    "inherit",
    "into",
    "join",
    "materialized",
    "of",
    "only",
    "owner",
    "partition",
    "policy",
    "procedure",
    "publication",
    "references",
    "role",
    "schema",
    "sequence",
    "statistics",
    "subscription",
    "table",
    "tablespace",
    "to",
    "trigger",
    "type",
    "view",
];

/// The same, as the first word of a statement.
const VERBS: [&str; 6] = ["analyze", "cluster", "lock", "notify", "truncate", "update"];

/// Words behind which a value or a column of an expression stands.
const BEFORE_EXPRESSIONS: [&str; 34] = [
    "all",
    "and",
    "between",
    "by",
    "case",
    "check",
    "date",
    "default",
    "distinct",
    "else",
    "from",
    "having",
    "ilike",
    "in",
    "interval",
    "is",
    "like",
    "not",
    "on",
    "or",
    "password",
    "returning",
    "select",
    "set",
    "then",
    "timestamp",
    "timestamptz",
    "to",
    "using",
    "value",
    "values",
    "when",
    "where",
    "zone",
];

/// Words that may stand behind a name or a value.
const BEHIND: [&str; 68] = [
    "add",
    "alter",
    "and",
    "as",
    "asc",
    "at",
    "attach",
    "authorization",
    "before",
    "between",
    "cascade",
    "check",
    "default",
    "desc",
    "detach",
    "disable",
    "drop",
    "else",
    "enable",
    "end",
    "excluding",
    "for",
    "force",
    "foreign",
    "from",
    "grant",
    "group",
    "having",
    "if",
    "ilike",
    "in",
    "including",
    "increment",
    "inherit",
    "inherits",
    "instead",
    "is",
    "join",
    "like",
    "limit",
    "login",
    "nologin",
    "not",
    "nulls",
    "on",
    "or",
    "order",
    "owned",
    "owner",
    "partition",
    "password",
    "primary",
    "rename",
    "replica",
    "restart",
    "restrict",
    "returning",
    "revoke",
    "select",
    "set",
    "start",
    "then",
    "to",
    "using",
    "validate",
    "values",
    "where",
    "with",
];

/// The same, behind `CREATE TRIGGER name` and `ADD CONSTRAINT name`.
const BEHIND_MADE: [&str; 5] = ["after", "instead", "unique", "exclude", "when"];

fn is_any(token: Option<&Token<'_>>, words: &[&str]) -> bool {
    token.is_some_and(|token| words.iter().any(|word| token.is(word)))
}

fn is_operator(token: Option<&Token<'_>>) -> bool {
    matches!(token, Some(Token::Punct(byte)) if b"=<>+-*/%|^~!:#@?".contains(byte))
}

/// Whether nothing behind a name or a value makes something else of it.
fn ends(next: Option<&Token<'_>>) -> bool {
    let closes = matches!(next, None | Some(Token::Punct(b',' | b')')));
    closes || is_operator(next) || is_any(next, &BEHIND)
}

/// Whether the value that is put in at `at` is one.
pub(super) fn is_value(statement: &[Token<'_>], at: usize) -> bool {
    let before = at.checked_sub(1).map(|before| &statement[before]);
    let opens = matches!(before, Some(Token::Punct(b'(' | b',')))
        || is_operator(before)
        || is_any(before, &BEFORE_EXPRESSIONS);
    opens && ends(statement.get(at + 1))
}

/// Whether the name that is put in at `at` is one, and not a function's that is called.
pub(super) fn is_name(statement: &[Token<'_>], at: usize) -> bool {
    let dot = |at: usize| statement.get(at) == Some(&Token::Punct(b'.'));
    let is_part = |at: usize| match statement.get(at) {
        Some(Token::Word(_) | Token::Quoted(_)) => true,
        Some(Token::Punct(byte)) => *byte == IDENTIFIER,
        _ => false,
    };
    let (mut start, mut end) = (at, at + 1);
    while start >= 2 && dot(start - 1) && is_part(start - 2) {
        start -= 2;
    }
    while dot(end) && is_part(end + 1) {
        end += 2;
    }
    if start > 0 && dot(start - 1) || dot(end) {
        return false;
    }
    let next = statement.get(end);
    if is_objects(statement, start) {
        return ends(next)
            || (next == Some(&Token::Punct(b'(')) && takes_brackets(statement, start))
            || is_any(next, &BEHIND_MADE)
            || (matches!(next, Some(Token::Word(_)))
                && (is_made_column(statement, start) || has_alias(statement, start)));
    }
    // A column, in an expression or a list of columns.
    let before = start.checked_sub(1).map(|before| &statement[before]);
    let is_alias = is_any(before, &["as"]) && !statement[0].is("create");
    let opens = matches!(before, Some(Token::Punct(b'(' | b',')))
        || is_operator(before)
        || is_alias
        || is_any(before, &BEFORE_EXPRESSIONS);
    end == start + 1
        && opens
        && (ends(next)
            || (matches!(next, Some(Token::Word(_))) && is_made_column(statement, start)))
}

/// Whether the name of a table, a role or the like begins at `start`.
fn is_objects(statement: &[Token<'_>], start: usize) -> bool {
    let Some(before) = start.checked_sub(1) else { return false };
    let first = &statement[0];
    let is_first = |words: &[&str]| words.iter().any(|word| first.is(word));
    let selects = statement.iter().any(|token| token.is("select"));
    match &statement[before] {
        word if word.is("from") => {
            // Not of `extract(year from x)`, nor of `is distinct from x`.
            let is_inside = depth(&statement[..before]) > 0;
            let is_first_from = !statement[..before].iter().any(|token| token.is("from"));
            let tells_apart = before > 0 && statement[before - 1].is("distinct");
            let reads = is_first(&["select", "delete", "revoke"]) && !is_inside && is_first_from;
            !tells_apart && (reads || !has_dot(statement, start))
        }
        word if word.is("using") => {
            is_first(&["delete", "merge"]) || (makes_index(statement) && !has_dot(statement, start))
        }
        word if word.is("on") => {
            is_first(&["grant", "revoke"]) || (is_first(&["create", "comment", "drop"]) && !selects)
        }
        // `OWNED BY table.column`.
        word if word.is("by") => {
            is_first(&["create", "alter"]) && before > 0 && statement[before - 1].is("owned")
        }
        word if before == 0 => is_any(Some(word), &VERBS),
        word => is_any(Some(word), &BEFORE_OBJECTS),
    }
}

/// Whether a word behind it is what the statement calls a table: `FROM name word`. No keyword makes anything else of the two.
fn has_alias(statement: &[Token<'_>], start: usize) -> bool {
    start > 0 && is_any(statement.get(start - 1), &["from", "join", "using"])
}

fn has_dot(statement: &[Token<'_>], start: usize) -> bool {
    statement.get(start + 1) == Some(&Token::Punct(b'.'))
}

/// Brackets that are open behind these tokens.
fn depth(tokens: &[Token<'_>]) -> usize {
    tokens.iter().fold(0_usize, |depth, token| match token {
        Token::Punct(b'(') => depth + 1,
        Token::Punct(b')') => depth.saturating_sub(1),
        _ => depth,
    })
}

fn makes_index(statement: &[Token<'_>]) -> bool {
    statement[0].is("create") && statement.iter().any(|word| word.is("index"))
}

/// Whether brackets behind a name list columns or types: it is no function that is called.
fn takes_brackets(statement: &[Token<'_>], start: usize) -> bool {
    const TABLES: [&str; 7] =
        ["table", "exists", "into", "references", "function", "procedure", "aggregate"];
    let before = &statement[start - 1];
    let of_index = makes_index(statement) && ["on", "using", "only"].iter().any(|it| before.is(it));
    of_index || TABLES.iter().any(|it| before.is(it))
}

/// Whether it is a column that is made, with its type behind it: `ADD COLUMN name type`, `CREATE TABLE t (name type, ...)`.
fn is_made_column(statement: &[Token<'_>], start: usize) -> bool {
    let before = start.checked_sub(1).map(|before| &statement[before]);
    let is_new = |words: &[&str]| {
        start >= words.len()
            && words.iter().zip(&statement[start - words.len()..]).all(|(word, it)| it.is(word))
    };
    if is_new(&["column"]) || is_new(&["column", "if", "not", "exists"]) {
        return true;
    }
    let lists = matches!(before, Some(Token::Punct(b'(' | b',')));
    let (head, makes) = (&statement[..start], statement[0].is("create"));
    let says = |word: &str| head.iter().any(|token| token.is(word));
    lists && makes && says("table") && !says("as") && !says("select")
}
