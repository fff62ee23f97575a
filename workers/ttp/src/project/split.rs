//! The terms of a split project: the TTP works on identifiers, and a second part passes through it sealed for the recipient.
//!
//! ```toml
//! [split]
//! row = "row"                          # the listed field, of kind "row-number", that links both parts
//! columns = ["diagnosis", "ward"]      # what is sealed; the sender's program seals nothing else
//! sealed_for = """…"""                 # the recipient's certificate in PEM: RSA, or EC on P-256
//! ```
//!
//! The two parts are linked by a random number for each row, which the sender's program draws. No row can be left out, because what is
//! sealed cannot be cut.

use super::{BadRows, ProjectDocument, ProjectError};
use crate::fields::{ActionName, ValueKind};
use crate::form::Encoding;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashSet;
use zegel_crypto::envelope::SealedFor;

/// As many as a project has fields.
const COLUMNS_MAX: usize = 1_000;

/// What of a batch is sealed for whom.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The path of the field with the random number that links the parts.
    pub row: String,
    /// The columns of the second part, 1 to 1,000. The TTP cannot see them: the sender's program keeps to them.
    pub columns: Vec<String>,
    /// The recipient's certificate, in PEM, whom alone the second part may be sealed for.
    pub sealed_for: String,
}

impl ProjectDocument {
    pub(super) fn check_split(&self) -> Result<(), ProjectError> {
        let numbers = || self.fields.iter().filter(|field| field.kind == ValueKind::RowNumber);
        let Some(split) = &self.split else {
            return match numbers().next() {
                None => Ok(()),
                Some(_) => Err(ProjectError::Rule("row-number goes with split")),
            };
        };
        let is_row = numbers().count() == 1
            && numbers().all(|field| field.path == split.row && field.action == ActionName::Keep && field.required);
        let distinct: HashSet<_> = split.columns.iter().collect();
        let is_listed = |column: &&String| self.fields.iter().any(|field| field.path == **column);
        let rules = [
            (
                (1..=COLUMNS_MAX).contains(&distinct.len()) && distinct.len() == split.columns.len(),
                "split.columns are 1 to 1,000, each once",
            ),
            (
                !split.columns.iter().any(|column| is_listed(&column)),
                "what the TTP gets is not sealed too: split.columns",
            ),
            (is_row, "split.row is the one field of kind row-number, kept and required"),
            (SealedFor::from_pem(&split.sealed_for).is_ok(), "split.sealed_for is not a certificate in PEM"),
            (self.bad_rows == BadRows::RefuseBatch, "rows of a split batch cannot be left out: bad_rows"),
            (self.small_cells.is_none(), "rows of a split batch cannot be held back: small_cells"),
            (self.text.encoding == Encoding::Utf8, "split goes with UTF-8"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(ProjectError::Rule(rule)),
            None => Ok(()),
        }
    }
}
