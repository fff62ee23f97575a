//! What handlers read out of a request's path and query, with refusals that name the parameter and never its value.

use crate::problem::{Answer, Problem};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::Uri;
use axum::http::request::Parts;
use schemas::{MailboxAddress, Millis, Sha256};
use serde::de::DeserializeOwned;
use std::ops::RangeInclusive;

/// Reads a mailbox address; its code says what is wrong with it.
pub(crate) fn address(text: &str, field: impl FnOnce() -> String) -> Answer<MailboxAddress> {
    text.parse().map_err(|error: schemas::address::AddressError| {
        Problem::new(error.code(), "must be TYPE[-SUBTYPE]:ID[:QUALITY] with a valid identifier").at(field())
    })
}

/// The pairs of a query, in order.
pub(crate) fn pairs(uri: &Uri) -> Answer<Vec<(String, String)>> {
    Query::try_from_uri(uri)
        .map(|Query(pairs)| pairs)
        .map_err(|_| Problem::field("query", "must be name=value pairs, percent-encoded"))
}

/// The query of a read: a few known parameters, each given at most once.
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads the query; a parameter outside `known`, or one given twice, is refused.
    pub(crate) fn read(uri: &Uri, known: &[&str]) -> Answer<Params> {
        let pairs = pairs(uri)?;
        for (index, (name, _)) in pairs.iter().enumerate() {
            let twice = pairs[..index].iter().any(|(earlier, _)| earlier == name);
            if twice || !known.contains(&name.as_str()) {
                return Err(Problem::field(
                    format!("query[{index}]"),
                    "is not a parameter of this call, or is repeated",
                ));
            }
        }
        Ok(Params(pairs))
    }

    /// A parameter's text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// A number in a range, or its default.
    pub(crate) fn number(&self, name: &'static str, default: u64, range: RangeInclusive<u64>) -> Answer<u64> {
        let Some(text) = self.text(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| Problem::field(name, "must be a whole number within its range"))
    }

    /// How many items a page holds: 1 to 100.
    pub(crate) fn limit(&self) -> Answer<usize> {
        let limit = self.number("limit", 100, 1..=100)?;
        Ok(usize::try_from(limit).unwrap_or(100))
    }

    /// Where a page of things in the order of their times begins: `after`, as [`next_page`] wrote it.
    pub(crate) fn after(&self) -> Answer<Option<(Millis, Sha256)>> {
        let cursor = |text: &str| {
            let (at, digest) = text.split_once('-')?;
            Some((Millis(at.parse().ok()?), digest.parse().ok()?))
        };
        let wrong = || Problem::field("after", "must be what `next` said");
        self.text("after").map(|text| cursor(text).ok_or_else(wrong)).transpose()
    }
}

/// Where the next page begins, when this one is full.
pub(crate) fn next_page(found: &[(Millis, Sha256)], limit: usize) -> Option<String> {
    found.last().filter(|_| found.len() == limit).map(|(at, digest)| format!("{}-{digest}", at.0))
}

/// The parameters of a path.
pub(crate) struct At<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<At<T>> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(values)) => Ok(At(values)),
            Err(_) => Err(Problem::not_found("a part of the path is not of its form")),
        }
    }
}

/// Whether the text is a day of the calendar, `YYYY-MM-DD`.
pub(crate) fn is_day(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| -> Option<u32> {
        let part = text.get(range)?;
        if part.bytes().all(|b| b.is_ascii_digit()) { part.parse().ok() } else { None }
    };
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return false;
    }
    let (Some(year), Some(month), Some(day)) = (digits(0..4), digits(5..7), digits(8..10)) else { return false };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        _ => 0,
    };
    (1..=days).contains(&day)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn days_that_do_not_exist_are_refused() {
        for day in ["2024-02-29", "2000-02-29", "1999-12-31", "2026-01-01"] {
            assert!(is_day(day), "{day}");
        }
        for day in [
            "2023-02-29",
            "1900-02-29",
            "2024-13-01",
            "2024-00-10",
            "2024-04-31",
            "2024-1-01",
            "24-01-01",
            "+024-01-01",
            "2024-01-0é",
        ] {
            assert!(!is_day(day), "{day}");
        }
    }

    #[test]
    fn numbers_outside_their_range_and_unknown_parameters_are_refused() {
        let read = |query: &str| Params::read(&format!("/x?{query}").parse().unwrap(), &["start", "limit"]);
        assert_eq!(read("limit=7").unwrap().limit(), Ok(7));
        assert_eq!(read("").unwrap().limit(), Ok(100));
        assert!(read("limit=101").unwrap().limit().is_err());
        assert!(read("limit=-1").unwrap().limit().is_err());
        assert!(read("limit=1&limit=2").is_err());
        assert!(read("page=1").is_err());
    }
}
