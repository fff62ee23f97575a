//! State rows as JSON with a version, and reading them back outside a worker.
//!
//! Format: a JSON object whose field `v` is the version of the row's shape. A row type carries [`V1`] as that field, so
//! that a row of a version that this program does not know is refused wherever it is read, never half understood.
//! Failure behaviour: [`RowError`] says that a row cannot be read, never what it holds.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Why a stored row could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The row is not of this shape, or of a version that this program does not know.
    #[error("stored row has an unknown version or shape")]
    Shape,
}

/// The field `v` of a row in its first version: the number 1 and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct V1;

impl TryFrom<u8> for V1 {
    type Error = RowError;
    fn try_from(version: u8) -> Result<V1, RowError> {
        if version == 1 { Ok(V1) } else { Err(RowError::Shape) }
    }
}

impl From<V1> for u8 {
    fn from(_: V1) -> u8 {
        1
    }
}

/// Reads one opened row.
///
/// # Errors
/// [`RowError::Shape`] when it is not a `T`.
pub fn decode<T: DeserializeOwned>(row: &[u8]) -> Result<T, RowError> {
    serde_json::from_slice(row).map_err(|_| RowError::Shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        v: V1,
        n: u8,
    }

    #[test]
    fn a_row_of_another_version_is_refused() {
        assert_eq!(decode::<Row>(br#"{"v":1,"n":7}"#), Ok(Row { v: V1, n: 7 }));
        assert_eq!(decode::<Row>(br#"{"v":2,"n":7}"#), Err(RowError::Shape));
        assert_eq!(serde_json::to_string(&Row { v: V1, n: 7 }).ok().as_deref(), Some(r#"{"v":1,"n":7}"#));
    }
}
