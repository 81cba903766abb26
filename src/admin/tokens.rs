//! Words of the console's commands, as PostgreSQL's lexer would cut them.

/// One word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A keyword, a number or a name, as it is written.
    Word(String),
    /// A name in double quotes.
    Name(String),
    /// A text in single quotes.
    Text(String),
    /// `=`.
    Equals,
}

/// Commands, each in its words; `None`: a quote is open at the end.
pub(super) fn commands(text: &str) -> Option<Vec<Vec<Token>>> {
    let (mut all, mut words) = (Vec::new(), Vec::new());
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        match first {
            ';' => {
                all.push(std::mem::take(&mut words));
                rest = &rest[1..];
            }
            '=' => {
                words.push(Token::Equals);
                rest = &rest[1..];
            }
            '\'' | '"' => {
                let (quoted, behind) = quoted(&rest[1..], first)?;
                let token = if first == '"' { Token::Name } else { Token::Text };
                words.push(token(quoted));
                rest = behind;
            }
            _ => {
                let ends = |c: char| c.is_whitespace() || matches!(c, ';' | '=' | '\'' | '"');
                let end = rest.find(ends).unwrap_or(rest.len());
                words.push(Token::Word(rest[..end].to_owned()));
                rest = &rest[end..];
            }
        }
        rest = rest.trim_start();
    }
    all.push(words);
    all.retain(|words| !words.is_empty());
    Some(all)
}

/// What stands before the closing quote, doubled ones taken for one, and what is behind it.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut rest = text;
    loop {
        let end = rest.find(quote)?;
        out.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix(quote) {
            Some(more) => {
                out.push(quote);
                rest = more;
            }
            None => return Some((out, rest)),
        }
    }
}
