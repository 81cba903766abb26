//! The file: sections, keys, comments; what is to be decided above, what has no counterpart below.

use std::fmt::Write;
use std::path::Path;

use super::convert::Converted;

/// Width at which comments are broken.
const WIDTH: usize = 116;
/// Column of comments behind keys.
const COMMENT_AT: usize = 40;

/// One section of the file.
pub(super) struct Section {
    title: String,
    lines: Vec<String>,
}

impl Section {
    pub(super) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), lines: Vec::new() }
    }

    /// The section of a name, quoted if it has to be.
    pub(super) fn named(kind: &str, name: &str) -> Self {
        let bare = !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        Self::new(if bare { format!("{kind}.{name}") } else { format!("{kind}.{name:?}") })
    }

    /// A key and its value, in TOML.
    pub(super) fn set(&mut self, key: &str, value: impl std::fmt::Display) {
        self.lines.push(format!("{key} = {value}"));
    }

    /// The same with a comment behind it.
    pub(super) fn set_why(&mut self, key: &str, value: impl std::fmt::Display, why: &str) {
        let line = format!("{key} = {value}");
        self.lines.push(format!("{line:<COMMENT_AT$} # {why}"));
    }

    pub(super) fn comment(&mut self, text: &str) {
        self.lines.push(format!("# {text}"));
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// A text in TOML, taken as it is: what would stand for a variable does not.
pub(super) fn text(value: &str) -> String {
    toml::Value::String(value.replace("${", "$${")).to_string()
}

/// A list of texts in TOML.
pub(super) fn texts(values: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let items: Vec<String> = values.into_iter().map(|value| text(value.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// The whole file.
pub(super) fn file(from: &Path, converted: &Converted) -> String {
    let mut out = format!(
        "# Made by `tenantry import-pgbouncer` of\n#   {}\n\
         # Every database of PgBouncer's is a tenant here, which a client names by the database it asks for.\n\
         # Check it: tenantry check. Every key, and more: deploy/tenantry.toml.\n",
        from.display()
    );
    let notes = &converted.notes;
    list(&mut out, "DECIDE before it is used:", &notes.decide);
    for section in converted.sections.iter().filter(|section| !section.is_empty()) {
        // A String takes all that is written.
        let _ = write!(out, "\n[{}]\n", section.title);
        for line in &section.lines {
            let _ = writeln!(out, "{line}");
        }
    }
    list(&mut out, "No counterpart:", &notes.without);
    out
}

fn list(out: &mut String, title: &str, notes: &[String]) {
    if notes.is_empty() {
        return;
    }
    let _ = write!(out, "\n# {title}\n");
    for note in notes {
        let mut line = "# -".to_owned();
        for word in note.split_whitespace() {
            if line.len() + word.len() >= WIDTH {
                let _ = writeln!(out, "{line}");
                "#  ".clone_into(&mut line);
            }
            line.push(' ');
            line.push_str(word);
        }
        let _ = writeln!(out, "{line}");
    }
}
