//! One table of the TOML: typed access that remembers which keys were asked for.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::{Table, Value};

use super::fault::Faults;
use super::secret::Secret;
use super::units;

/// A table and its path; [`Section::finish`] reports the keys nobody asked for.
pub(super) struct Section<'a> {
    path: String,
    table: Option<&'a Table>,
    known: RefCell<Vec<&'static str>>,
    pub(super) context: &'a Context,
}

/// What all sections share.
#[derive(Default)]
pub(super) struct Context {
    pub(super) faults: Faults,
    /// Directory of the configuration file: relative paths start here.
    pub(super) directory: PathBuf,
    /// Files that were read, or will be.
    pub(super) files: RefCell<BTreeSet<PathBuf>>,
    /// Patterns by which there may be more.
    pub(super) patterns: RefCell<Vec<PathBuf>>,
    /// Keys that were asked for, and where.
    #[cfg(test)]
    pub(super) asked: RefCell<BTreeSet<(String, &'static str)>>,
}

impl<'a> Section<'a> {
    pub(super) fn root(table: &'a Table, context: &'a Context) -> Self {
        Self { path: String::new(), table: Some(table), known: RefCell::default(), context }
    }

    /// A table under `key`; empty if it is absent.
    pub(super) fn section(&self, key: &'static str) -> Section<'a> {
        let table = self.value(key).and_then(|value| {
            value.as_table().or_else(|| {
                self.fault(key, "expected a table");
                None
            })
        });
        Section { path: self.at(key), table, known: RefCell::default(), context: self.context }
    }

    /// The tables under this one, whatever their names.
    pub(super) fn children(&self) -> Vec<(&'a str, Section<'a>)> {
        let mut children = Vec::new();
        for (name, value) in self.table.into_iter().flatten() {
            let path = self.at(name);
            match value.as_table() {
                None => self.context.faults.add(path, "expected a table"),
                table => children.push((
                    name.as_str(),
                    Section { path, table, known: RefCell::default(), context: self.context },
                )),
            }
        }
        children
    }

    pub(super) fn at(&self, key: &str) -> String {
        let bare = !key.is_empty()
            && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let key = if bare { key.to_owned() } else { format!("{key:?}") };
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn fault(&self, key: &str, problem: impl Into<String>) {
        self.context.faults.add(self.at(key), problem);
    }

    pub(super) fn value(&self, key: &'static str) -> Option<&'a Value> {
        self.known.borrow_mut().push(key);
        #[cfg(test)]
        self.context.asked.borrow_mut().insert((self.path.clone(), key));
        self.table?.get(key)
    }

    /// Reads a value by `read`; a value it does not take is a fault that says what was expected.
    pub(super) fn get<T>(
        &self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        let read = read(value);
        if read.is_none() {
            self.fault(key, format!("expected {expected}, got {value}"));
        }
        read
    }

    pub(super) fn string(&self, key: &'static str) -> Option<String> {
        let text = self.get(key, "a string", |v| v.as_str().map(str::to_owned))?;
        self.substitute(key, &text)
    }

    pub(super) fn strings(&self, key: &'static str) -> Option<Vec<String>> {
        let list = self.get(key, "a list of strings", |value| {
            value
                .as_array()?
                .iter()
                .map(|v| v.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
        })?;
        list.iter().map(|text| self.substitute(key, text)).collect()
    }

    pub(super) fn count(&self, key: &'static str, least: usize) -> Option<usize> {
        let expected = format!("a whole number of at least {least}");
        self.get(key, &expected, |value| {
            let count = usize::try_from(value.as_integer()?).ok()?;
            (least..=1_000_000).contains(&count).then_some(count)
        })
    }

    pub(super) fn duration(&self, key: &'static str) -> Option<Duration> {
        let expected = "a duration such as \"30s\", \"500ms\" or a number of seconds";
        self.get(key, expected, |value| match value {
            Value::String(text) => units::duration(text),
            #[expect(clippy::cast_precision_loss, reason = "longer than a decade is refused")]
            Value::Integer(seconds) => units::seconds(*seconds as f64),
            Value::Float(seconds) => units::seconds(*seconds),
            _ => None,
        })
    }

    pub(super) fn path(&self, key: &'static str) -> Option<PathBuf> {
        let path = self.context.directory.join(self.string(key)?);
        self.context.files.borrow_mut().insert(path.clone());
        Some(path)
    }

    /// `password` or `password_file`; never both.
    pub(super) fn password(&self) -> Option<Secret> {
        let (direct, file) = (self.string("password"), self.path("password_file"));
        match (direct, file) {
            (Some(_), Some(_)) => {
                self.fault("password_file", "give password or password_file, not both");
                None
            }
            (Some(password), None) => Some(Secret::new(&password)),
            (None, Some(file)) => {
                let text = self.read_file("password_file", &file)?;
                Some(Secret::new(
                    text.strip_suffix('\n').map_or(&*text, |t| t.trim_end_matches('\r')),
                ))
            }
            (None, None) => None,
        }
    }

    pub(super) fn read_file(&self, key: &str, file: &Path) -> Option<String> {
        match std::fs::read_to_string(file) {
            Ok(text) => Some(text),
            Err(error) => {
                self.fault(key, format!("could not read {}: {error}", file.display()));
                None
            }
        }
    }

    /// `${VAR}` becomes the environment variable's value; `$${` is `${` itself.
    fn substitute(&self, key: &str, text: &str) -> Option<String> {
        let mut result = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                result.push_str(before);
                result.push_str("${");
                rest = after;
                continue;
            }
            let Some((name, tail)) = after.split_once('}') else {
                self.fault(key, "\"${\" without \"}\"");
                return None;
            };
            let Ok(value) = std::env::var(name) else {
                self.fault(key, format!("environment variable {name} is not set"));
                return None;
            };
            result.push_str(before);
            result.push_str(&value);
            rest = tail;
        }
        result.push_str(rest);
        Some(result)
    }

    /// Reports every key that nobody asked for, with the nearest known one.
    pub(super) fn finish(self) {
        let known = self.known.borrow();
        for key in self.unknown() {
            let nearest = known.iter().min_by_key(|name| distance(key, name));
            let hint = match nearest {
                Some(name) if distance(key, name) <= key.len().div_ceil(2) => {
                    format!("unknown key; did you mean {name:?}?")
                }
                _ => "unknown key".to_owned(),
            };
            self.fault(key, hint);
        }
    }

    /// Keys that nobody asked for.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &'a String> {
        let known = self.known.borrow().clone();
        let keys = self.table.into_iter().flat_map(Table::keys);
        keys.filter(move |key| !known.contains(&key.as_str()))
    }
}

/// Edits between two words (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let cost = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
