//! `PREPARE name ...` and `EXECUTE name ...`, alone and plain: the name can be another one on the server.

use std::ops::Range;

use super::tokens::{Token, spans, tokens};

/// Longest name, in bytes: PostgreSQL cuts longer ones.
const NAME_LEN_MAX: usize = 63;

/// A statement about a prepared one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The name, as PostgreSQL folds it.
    pub name: Vec<u8>,
    /// Where it stands in the text.
    pub at: Range<usize>,
    /// Where the statement ends: before its `;`.
    pub end: usize,
}

/// The text is a PREPARE and nothing else.
#[must_use]
pub fn prepares(text: &[u8]) -> Option<Named> {
    lone(text, "prepare")
        .filter(|(_, next)| next.as_ref().is_some_and(|n| *n == Token::Punct(b'(') || n.is("as")))
        .map(|(named, _)| named)
}

/// The text is an EXECUTE and nothing else.
#[must_use]
pub fn executes(text: &[u8]) -> Option<Named> {
    lone(text, "execute")
        .filter(|(_, next)| next.as_ref().is_none_or(|next| *next == Token::Punct(b'(')))
        .map(|(named, _)| named)
}

/// Names that stand behind an `EXECUTE` or a `DEALLOCATE` anywhere in a text: in an EXPLAIN, or one of
/// many statements.
#[must_use]
pub fn used(text: &[u8]) -> Vec<Vec<u8>> {
    let tokens = tokens(text).unwrap_or_default();
    let names = tokens.iter().enumerate().filter_map(|(at, word)| {
        let rest = &tokens[at + 1..];
        match rest {
            [prepare, name, ..] if word.is("deallocate") && prepare.is("prepare") => folded(name),
            [name, ..] if word.is("execute") || word.is("deallocate") => folded(name),
            _ => None,
        }
    });
    names.collect()
}

/// Whether a text has a name as a word inside a string or a dollar quote: what runs it may use the name.
#[must_use]
pub fn says_in_string(text: &[u8], name: &[u8]) -> bool {
    let Some(first) = memchr::memchr2(b'\'', b'$', text) else { return false };
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii();
    let inside = &text[first + 1..];
    let mut words = inside.split(|byte| !is_part(byte));
    !name.is_empty()
        && (words.any(|word| word.eq_ignore_ascii_case(name))
            || (!name.iter().all(is_part) && memchr::memmem::find(inside, name).is_some()))
}

fn folded(token: &Token<'_>) -> Option<Vec<u8>> {
    let mut name = match token {
        Token::Word(word) => word.to_ascii_lowercase(),
        Token::Quoted(quoted) => quoted.to_vec(),
        _ => return None,
    };
    // Where another one would be cut, its encoding says.
    let is_plain = name.is_ascii();
    name.truncate(NAME_LEN_MAX);
    is_plain.then_some(name)
}

/// `keyword name`, the only statement of the text; and what comes behind the name.
fn lone<'a>(text: &'a [u8], keyword: &str) -> Option<(Named, Option<Token<'a>>)> {
    let mut tokens = spans(text)?;
    let end = match tokens.last() {
        Some((Token::Punct(b';'), span)) => {
            let end = span.start;
            tokens.pop();
            end
        }
        last => last?.1.end,
    };
    if tokens.iter().any(|(token, _)| *token == Token::Punct(b';')) {
        return None;
    }
    let mut tokens = tokens.into_iter();
    tokens.next().filter(|(first, _)| first.is(keyword))?;
    let (name, at) = tokens.next()?;
    let named = Named { name: folded(&name)?, at, end };
    Some((named, tokens.next().map(|(token, _)| token)))
}

/// Whether a text of several statements begins with one that ends a transaction, whatever state that is in.
#[must_use]
pub fn leaves_block(text: &[u8]) -> bool {
    let Some(tokens) = tokens(text) else { return false };
    let mut statements = tokens.split(|token| *token == Token::Punct(b';'));
    let is_one = |token: &Token<'_>, of: &[&str]| of.iter().any(|word| token.is(word));
    let ends = match statements.next() {
        Some([first, rest @ ..]) if is_one(first, &["rollback", "abort", "commit", "end"]) => {
            rest.is_empty() || matches!(rest, [one] if is_one(one, &["work", "transaction"]))
        }
        _ => false,
    };
    ends && statements.any(|statement| !statement.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plain_is_read() {
        let read = |named: Option<Named>, text: &str| {
            named.map(|n| {
                let name = String::from_utf8(n.name).unwrap();
                (name, text[n.at.clone()].to_owned(), text[n.at.end..n.end].to_owned())
            })
        };
        let some = |name: &str, said: &str, rest: &str| {
            Some((name.to_owned(), said.to_owned(), rest.to_owned()))
        };
        for (text, want) in [
            ("PREPARE s AS select 1", some("s", "s", " AS select 1")),
            (
                "/* c */ prepare Big (int, text) as select $1; -- d",
                some("big", "Big", " (int, text) as select $1"),
            ),
            (
                "prepare \"Odd\"\"Name\" as select ';' ;",
                some("Odd\"Name", "\"Odd\"\"Name\"", " as select ';' "),
            ),
            ("prepare s as select 1; select 2", None),
            ("prepare transaction 'x'", None),
            ("prepare s", None),
            ("prepare schl\u{fc}ssel as select 1", None),
            ("prepare s as select 'unterminated", None),
        ] {
            assert_eq!(read(prepares(text.as_bytes()), text), want, "{text}");
        }
        for (text, want) in [
            ("execute s", some("s", "s", "")),
            ("EXECUTE S (1, 'a;b') ;", some("s", "S", " (1, 'a;b') ")),
            ("execute s(1); execute s(2)", None),
            ("explain execute s", None),
            ("execute", None),
            ("execute function x()", None),
        ] {
            assert_eq!(read(executes(text.as_bytes()), text), want, "{text}");
        }
        assert_eq!(used(b"explain execute A(1); create table x as execute \"B\""), [b"a", b"B"]);
        assert_eq!(used(b"deallocate a; deallocate prepare b").last().unwrap(), b"b");
        assert!(used(b"select 'execute a'").is_empty());
    }
}
