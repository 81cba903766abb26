//! PgBouncer's `userlist.txt`: `"user" "secret"` a line, quotes doubled inside, `;` begins a comment.
//!
//! <https://www.pgbouncer.org/config.html#authentication-file-format>

use super::secret::Secret;

/// Users and secrets as they are written, for those who make another file of it.
///
/// # Errors
/// The number of a line that is neither an entry nor a comment.
pub fn read_userlist(text: &str) -> Result<Vec<(String, String)>, usize> {
    let list = parse(text)?;
    Ok(list.into_iter().map(|(user, secret)| (user, secret.expose().to_owned())).collect())
}

/// Reads the file's text; a line that is neither is returned by its number.
pub(super) fn parse(text: &str) -> Result<Vec<(String, Secret)>, usize> {
    let mut users = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(';') {
            continue;
        }
        let (user, rest) = quoted(line).ok_or(at + 1)?;
        // Anything behind the secret belongs to older formats and is ignored, as PgBouncer does.
        let (secret, _) = quoted(rest.trim_start()).ok_or(at + 1)?;
        users.push((user, Secret::new(&secret)));
    }
    Ok(users)
}

fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut value = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        value.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                value.push('"');
                rest = after;
            }
            None => return Some((value, after)),
        }
    }
}
