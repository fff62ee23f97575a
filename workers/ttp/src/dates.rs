//! Dates as batches write them: `YYYY-MM-DD` alone or before a time or a zone, and HL7's `YYYYMMDD…`.
//!
//! What stands behind the day (time, fraction, zone) is checked and never changed.

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime};

/// A date that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Date<'t> {
    pub(crate) day: NaiveDate,
    /// `YYYYMMDD`, without hyphens.
    pub(crate) is_bare: bool,
    /// What stands behind the day.
    rest: &'t str,
}

impl<'t> Date<'t> {
    pub(crate) fn parse(text: &'t str) -> Option<Date<'t>> {
        let is_bare = text.len() >= 8 && text.as_bytes()[..8].iter().all(u8::is_ascii_digit);
        let (day, rest) = text.split_at_checked(if is_bare { 8 } else { 10 })?;
        let day = match *day.as_bytes() {
            [c, e, a, r, b'-', m, o, b'-', d, y] | [c, e, a, r, m, o, d, y] => from_digits([c, e, a, r, m, o, d, y]),
            _ => None,
        }?;
        let is_good = rest.is_empty() || if is_bare { is_bare_time(rest) } else { is_time(text, rest) };
        is_good.then_some(Date { day, is_bare, rest })
    }

    /// `YYYY-MM`, or `YYYYMM` where the hyphens were left out.
    pub(crate) fn month(&self) -> String {
        self.day.format(if self.is_bare { "%Y%m" } else { "%Y-%m" }).to_string()
    }

    /// The same so many days later; none beyond the year 9999.
    pub(crate) fn moved(&self, days: i64) -> Option<String> {
        let count = Days::new(days.unsigned_abs());
        let day = if days < 0 { self.day.checked_sub_days(count) } else { self.day.checked_add_days(count) }?;
        let text = day.format(if self.is_bare { "%Y%m%d" } else { "%Y-%m-%d" }).to_string();
        (text.len() <= 10).then(|| text + self.rest)
    }
}

fn from_digits(digits: [u8; 8]) -> Option<NaiveDate> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let [c, e, a, r, m, o, d, y] = digits.map(|digit| u32::from(digit - b'0'));
    let year = i32::try_from(c * 1_000 + e * 100 + a * 10 + r).ok()?;
    NaiveDate::from_ymd_opt(year, m * 10 + o, d * 10 + y)
}

/// A time and zone of RFC 3339, the same without a zone, or a zone alone (XML Schema).
fn is_time(text: &str, rest: &str) -> bool {
    if rest.starts_with(['T', 't', ' ']) {
        return DateTime::parse_from_rfc3339(text).is_ok()
            || NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").is_ok();
    }
    is_zone(rest, true)
}

/// `Z`, or a sign, hours and minutes.
fn is_zone(text: &str, has_colon: bool) -> bool {
    let two = |at: usize, max: u8| {
        let pair = text.as_bytes().get(at..at + 2);
        pair.is_some_and(|pair| pair.iter().all(u8::is_ascii_digit) && (pair[0] - b'0') * 10 + pair[1] - b'0' <= max)
    };
    match (text, has_colon) {
        ("Z", true) => true,
        (_, true) => {
            text.len() == 6 && text.starts_with(['+', '-']) && text.as_bytes()[3] == b':' && two(1, 14) && two(4, 59)
        }
        (_, false) => text.len() == 5 && text.starts_with(['+', '-']) && two(1, 14) && two(3, 59),
    }
}

/// `HH`, `HHMM`, `HHMMSS`, with a fraction of up to four digits, and a zone (HL7 v2, DTM).
fn is_bare_time(rest: &str) -> bool {
    let (time, zone) = rest.split_at(rest.find(['+', '-']).unwrap_or(rest.len()));
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let is_fraction = (1..=4).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let limits = [24, 60, 61];
    let is_clock = matches!(clock.len(), 2 | 4 | 6)
        && clock.bytes().all(|byte| byte.is_ascii_digit())
        && clock.as_bytes().chunks(2).zip(limits).all(|(pair, limit)| (pair[0] - b'0') * 10 + pair[1] - b'0' < limit);
    is_clock && is_fraction && (zone.is_empty() || is_zone(zone, false))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_forms_of_json_xml_and_hl7_are_read_and_others_refused() {
        for good in [
            "1985-06-15",
            "2023-01-27T16:17:47Z",
            "1989-10-04T02:25:16.824-04:00",
            "2026-08-03T10:56:39",
            "2016-05-20+02:00",
            "2016-05-20Z",
            "19850615",
            "198506151230",
            "20010203040506.1234+0100",
        ] {
            assert!(Date::parse(good).is_some(), "{good}");
        }
        for bad in [
            "1985-02-30",
            "15/06/1985",
            "1985-6-15",
            "1985",
            "+985-06-15",
            "1985-06-15T25:00:00Z",
            "1985-06-15x",
            "19850230",
            "1985061525",
            "19850615+2",
            "198506151",
            "2016-05-20+99:00",
            "85061511796",
            "\u{e9}985-06-15",
        ] {
            assert!(Date::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn only_the_day_moves() {
        let moved = |text, days| Date::parse(text).unwrap().moved(days);
        assert_eq!(moved("2024-02-28T10:00:00Z", 2).as_deref(), Some("2024-03-01T10:00:00Z"));
        assert_eq!(moved("20240301", -1).as_deref(), Some("20240229"));
        assert_eq!(moved("9999-12-31", 1), None);
        assert_eq!(Date::parse("20240301").unwrap().month(), "202403");
    }

    proptest! {
        #[test]
        fn what_is_moved_there_is_moved_back(days in -3_650i64..3_650, start in 0i64..40_000) {
            let text = NaiveDate::from_ymd_opt(1920, 1, 1).unwrap().checked_add_days(Days::new(start.unsigned_abs())).unwrap().to_string();
            let there = Date::parse(&text).unwrap().moved(days).unwrap();
            prop_assert_eq!(Date::parse(&there).unwrap().moved(-days).unwrap(), text);
        }
    }
}
