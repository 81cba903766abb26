//! Durations as people write them: `"500ms"`, `"30s"`, `"10m"`, `"1h"`, `"1d"`, or a number of seconds.

use std::time::Duration;

/// Longest duration that is accepted: ten years. A longer one is a slip of the keyboard.
const DURATION_SECONDS_MAX: f64 = 315_360_000.0;

/// Reads a duration with its unit.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    seconds(number.trim().parse::<f64>().ok()? * scale)
}

/// A number of seconds.
pub(super) fn seconds(seconds: f64) -> Option<Duration> {
    (0.0..=DURATION_SECONDS_MAX).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}
