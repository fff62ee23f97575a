//! Reading a checked type from JSON text without quoting what was read.
//!
//! Failure behaviour: serde's own errors quote the value they met (`invalid type: integer …`), which could be an
//! identifier; here only the rule is said (I4).

use serde::{Deserialize, Deserializer, de::Error};
use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

/// Reads a string and parses it; `not_text` is the error when it is no string.
pub(crate) fn parse_text<'de, D, T>(deserializer: D, not_text: &'static str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    let text = Cow::<'de, str>::deserialize(deserializer).map_err(|_| D::Error::custom(not_text))?;
    text.parse().map_err(D::Error::custom)
}
