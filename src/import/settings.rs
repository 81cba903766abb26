//! `[pgbouncer]`: values as PgBouncer reads them, and those of its defaults that are not ours.

use super::ini::Ini;

impl Ini {
    /// A setting that is written and not empty.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// A whole number: decimal, `0x` or octal, as `strtol` reads it.
    pub(super) fn count(&self, key: &str) -> Option<u64> {
        whole(self.text(key)?)
    }

    /// A list, divided by commas.
    pub(super) fn list(&self, key: &str) -> Vec<&str> {
        let items = self.text(key).into_iter().flat_map(|text| text.split([',', ' ', '\t']));
        items.map(str::trim).filter(|item| !item.is_empty()).collect()
    }
}

/// A whole number, as `strtol` reads it.
pub(super) fn whole(text: &str) -> Option<u64> {
    match (text.strip_prefix("0x"), text.strip_prefix('0')) {
        (Some(hex), _) => u64::from_str_radix(hex, 16).ok(),
        (None, Some(octal)) if !octal.is_empty() => u64::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    }
}

/// Seconds as our file has them: a number. What is none is left out.
pub(super) fn seconds(text: &str) -> Option<String> {
    let value: f64 = text.parse().ok()?;
    (value.is_finite() && value >= 0.0).then(|| value.to_string())
}
