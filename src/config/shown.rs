//! What is configured, key by key, as `SHOW CONFIG` gives it.

use toml::{Table, Value};

use super::Config;
use super::keys::{KEYS, Key};

/// A key's value.
pub struct Shown {
    /// Its path; those of `[general]` without the section, as PgBouncer's are.
    pub path: String,
    /// What is written, or the default; never a secret.
    pub value: String,
    /// The default.
    pub default: &'static str,
    /// Whether a reload takes it over.
    pub changeable: bool,
}

impl Config {
    /// Every key of sections that are there once, and of clusters and classes; tenants have a view of their own.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        let mut shown = Vec::new();
        for key in KEYS {
            match key.section.strip_suffix(".<name>") {
                None => shown.push(show(key, key.section, self.section(key.section))),
                Some(kind @ ("clusters" | "classes")) => {
                    for (name, value) in self.section(kind).into_iter().flatten() {
                        let written = value.as_table().filter(|table| table.contains_key(key.name));
                        let path = format!("{kind}.{name}");
                        shown.extend(written.map(|table| show(key, &path, Some(table))));
                    }
                }
                Some(_) => {
                    let common = self.section("tenancy").filter(|t| t.contains_key(key.name));
                    shown.extend(common.map(|table| show(key, "tenancy", Some(table))));
                }
            }
        }
        shown
    }

    fn section(&self, path: &str) -> Option<&Table> {
        if path.is_empty() {
            return Some(&self.written);
        }
        path.split('.').try_fold(&*self.written, |table, name| table.get(name)?.as_table())
    }
}

fn show(key: &Key, section: &str, table: Option<&Table>) -> Shown {
    let value = match table.and_then(|table| table.get(key.name)) {
        Some(_) if key.is_secret() => "***".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => key.default.to_owned(),
    };
    let path = match section {
        "" | "general" => key.name.to_owned(),
        _ => format!("{section}.{}", key.name),
    };
    Shown { path, value, default: key.default, changeable: key.is_reloaded() }
}
