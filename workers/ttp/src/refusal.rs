//! Why a batch is not delivered, and the bad rows that were found.
//!
//! Invariant (I4): texts and rows name columns of the project document, positions, rules and codes. A name or a value
//! that only the batch has never appears: the header of a batch that was sent without one is a patient.

use schemas::messages::{BadRow, Reason};
use std::io;

/// Most bad rows that are named in a reason; all are counted.
pub(crate) const ROWS_NAMED: usize = 100;

/// Why a batch could not be transformed.
#[derive(Debug, thiserror::Error)]
pub enum TransformError {
    /// The batch is refused; sending the same again will not help. What was written is to be thrown away.
    #[error("batch is refused: {}", .0.code)]
    Refused(Box<Reason>),
    /// The batch could not be read or the result not be written; another attempt may succeed.
    #[error("batch could not be read or written: {}", .0.kind())]
    Io(#[from] io::Error),
    /// The scratch folder could not be used; another attempt may succeed.
    #[error("scratch folder: {}", .0.kind())]
    Scratch(io::Error),
}

impl From<Reason> for TransformError {
    fn from(reason: Reason) -> TransformError {
        TransformError::Refused(Box::new(reason))
    }
}

/// A reason without rows.
pub(crate) fn refusal(code: &str, text: impl Into<String>) -> Reason {
    Reason { code: code.to_owned(), text: text.into(), rows: Vec::new(), bad_rows: 0 }
}

/// What is counted while a batch goes through.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) rows_in: u64,
    pub(crate) rows_out: u64,
    pub(crate) bad: Vec<BadRow>,
    pub(crate) bad_rows: u64,
    last_bad: u64,
    named: usize,
}

impl Report {
    /// A report that names at most so many bad rows.
    pub(crate) fn naming(named: usize) -> Report {
        Report { named, ..Report::default() }
    }

    /// The present row is bad: this field breaks this rule.
    pub(crate) fn bad(&mut self, field: &str, code: &'static str) {
        if self.last_bad != self.rows_in {
            self.last_bad = self.rows_in;
            self.bad_rows += 1;
        }
        if self.bad.len() < self.named {
            self.bad.push(BadRow { row: self.rows_in, field: field.to_owned(), code: code.to_owned() });
        }
    }

    /// Whether the present row was found bad.
    pub(crate) fn is_row_bad(&self) -> bool {
        self.last_bad == self.rows_in
    }

    /// The refusal of the whole batch for its bad rows.
    pub(crate) fn refusal(self) -> Reason {
        let text = format!("{} of {} rows are bad", self.bad_rows, self.rows_in);
        Reason { rows: self.bad, bad_rows: self.bad_rows, ..refusal("ZGL-TTP-ROWS", text) }
    }
}
