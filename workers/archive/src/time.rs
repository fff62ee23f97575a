//! Instants as text: RFC 3339 in UTC, for reports and trust files.

use chrono::{DateTime, NaiveDate, SecondsFormat};
use schemas::Millis;

/// An instant as text; an instant outside the calendar as its number.
pub(crate) fn instant(at: Millis) -> String {
    DateTime::from_timestamp_millis(at.0)
        .map_or_else(|| format!("{} ms", at.0), |time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// Reads `2026-01-31` (its first instant) or `2026-01-31T12:00:00Z`.
pub(crate) fn parse(text: &str) -> Option<Millis> {
    if let Ok(day) = text.parse::<NaiveDate>() {
        return day.and_hms_opt(0, 0, 0).map(|time| Millis(time.and_utc().timestamp_millis()));
    }
    DateTime::parse_from_rfc3339(text).ok().map(|time| Millis(time.timestamp_millis()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn days_and_instants_are_read_and_written_in_utc() {
        assert_eq!(parse("2026-01-01"), Some(Millis(1_767_225_600_000)));
        assert_eq!(parse("2026-01-01T01:00:00+01:00"), parse("2026-01-01"));
        assert_eq!(instant(parse("2026-01-01").unwrap()), "2026-01-01T00:00:00.000Z");
        assert_eq!(parse("yesterday"), None);
        assert_eq!(instant(Millis::NEVER), format!("{} ms", i64::MAX));
    }
}
