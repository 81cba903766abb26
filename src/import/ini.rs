//! PgBouncer's ini, by its own parser's rules: blanks before and behind, comments only at the start of a line, no
//! quotes outside connection strings; a second `[pgbouncer]` forgets what the first has set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ImportError;

/// How deep files may include one another, as in PgBouncer.
const DEPTH_MAX: usize = 10;

/// Pairs of a connection string, in their order.
pub(super) type Pairs = Vec<(String, String)>;

/// All files, read as one.
#[derive(Debug, Default)]
pub(super) struct Ini {
    /// `[pgbouncer]` is there.
    pub(super) has_main: bool,
    pub(super) settings: BTreeMap<String, String>,
    /// In the order of their first entries; the last entry of a name holds.
    pub(super) databases: Vec<(String, Pairs)>,
    pub(super) users: Vec<(String, Pairs)>,
    /// `[peers]` has entries.
    pub(super) has_peers: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    None,
    Main,
    Databases,
    Users,
    Peers,
}

/// Where the parser is.
struct Place<'a> {
    path: &'a Path,
    line: usize,
}

impl Place<'_> {
    fn wrong(&self, problem: impl Into<String>) -> ImportError {
        let (path, line) = (self.path.to_owned(), self.line);
        ImportError::Syntax { path, line, problem: problem.into() }
    }
}

impl Ini {
    /// Reads a file and those it includes; their paths start at `cwd`.
    pub(super) fn read(path: &Path, cwd: &Path) -> Result<Self, ImportError> {
        let mut ini = Self::default();
        ini.add(path, cwd, &mut Part::None, 0)?;
        Ok(ini)
    }

    fn add(
        &mut self,
        path: &Path,
        cwd: &Path,
        part: &mut Part,
        depth: usize,
    ) -> Result<(), ImportError> {
        let failed = |source| ImportError::File { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(failed)?;
        for (number, line) in text.lines().enumerate() {
            let place = Place { path, line: number + 1 };
            let line = line.trim();
            if let Some(file) = line.strip_prefix("%include").filter(|f| f.starts_with([' ', '\t']))
            {
                if depth == DEPTH_MAX {
                    return Err(place.wrong("files include one another too deep"));
                }
                self.add(&cwd.join(file.trim()), cwd, part, depth + 1)?;
            } else {
                self.line(line, part, &place)?;
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &str, part: &mut Part, place: &Place<'_>) -> Result<(), ImportError> {
        if line.is_empty() || line.starts_with(['#', ';']) {
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix('[') {
            let (name, behind) = rest.split_once(']').ok_or_else(|| place.wrong("no \"]\""))?;
            *part = match name {
                "pgbouncer" => {
                    // As PgBouncer has it: each header sets all back to the defaults.
                    self.settings.clear();
                    self.has_main = true;
                    Part::Main
                }
                "databases" => Part::Databases,
                "users" => Part::Users,
                "peers" => Part::Peers,
                _ => return Err(place.wrong(format!("unknown section [{name}]"))),
            };
            return self.line(behind.trim(), part, place);
        }
        let (key, value) =
            line.split_once('=').ok_or_else(|| place.wrong("expected key = value"))?;
        let (key, value) = (key.trim_end(), value.trim_start());
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.*-".contains(c);
        if !key.chars().all(is_plain) {
            return Err(place.wrong(format!("{key:?} is no name that PgBouncer can read")));
        }
        match *part {
            Part::None => return Err(place.wrong("a key before any section")),
            Part::Main => drop(self.settings.insert(key.to_owned(), value.to_owned())),
            Part::Databases => put(&mut self.databases, key, pairs(value, place)?),
            Part::Users => put(&mut self.users, key, pairs(value, place)?),
            Part::Peers => self.has_peers = true,
        }
        Ok(())
    }
}

fn put(entries: &mut Vec<(String, Pairs)>, name: &str, pairs: Pairs) {
    match entries.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => *known = pairs,
        None => entries.push((name.to_owned(), pairs)),
    }
}

/// A connection string: `key=value`, divided by blanks; `'` quotes, `''` is one of them.
fn pairs(text: &str, place: &Place<'_>) -> Result<Pairs, ImportError> {
    let mut pairs = Pairs::new();
    let mut rest = text.trim_start_matches(' ');
    while !rest.is_empty() {
        let (key, behind) =
            rest.split_once('=').ok_or_else(|| place.wrong("expected key=value"))?;
        let key = key.trim_end_matches(' ');
        let behind = behind.trim_start_matches(' ');
        let (value, behind) = match behind.strip_prefix('\'') {
            Some(quoted) => quoted_value(quoted, place)?,
            None => {
                let end = behind.find(' ').unwrap_or(behind.len());
                (behind[..end].to_owned(), &behind[end..])
            }
        };
        if key.is_empty() || key.contains(' ') || value.is_empty() {
            return Err(place.wrong(format!("{key:?} has no value, or is no key")));
        }
        pairs.retain(|(known, _)| known != key);
        pairs.push((key.to_owned(), value));
        rest = behind.trim_start_matches(' ');
    }
    Ok(pairs)
}

fn quoted_value<'t>(text: &'t str, place: &Place<'_>) -> Result<(String, &'t str), ImportError> {
    let (mut value, mut rest) = (String::new(), text);
    loop {
        let end = rest.find('\'').ok_or_else(|| place.wrong("a quote is not closed"))?;
        value.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('\'') {
            Some(more) => {
                value.push('\'');
                rest = more;
            }
            None => return Ok((value, rest)),
        }
    }
}

/// A path in it, from where PgBouncer runs.
pub(super) fn absolute(path: &str, cwd: &Path) -> PathBuf {
    cwd.join(path)
}
