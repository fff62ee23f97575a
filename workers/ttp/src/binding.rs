//! What binds the rows of one exchange to their tokens: numbers are issued on the way there and checked on the way back.
//!
//! A row's number opens only in its exchange and beside exactly the tokens that the row was delivered with, field by field
//! and in their order ([`RowNumbers`]). So a token of another exchange, of another row or from nowhere, a patient's token put
//! in another's place, one left out, and a row that stands twice all refuse the whole return. Tokens that stand outside of
//! rows are bound by one digest for the exchange. Nothing is kept per row but, while a return is read, one bit.
//! Bound: [`ROWS_MAX`] rows, 32 MB of bits; the tokens of one row of at most 1 MiB.

use crate::refusal::{TransformError, refusal};
use crate::values::RowCode;
use schemas::{MessageId, Sha256};
use zegel_crypto::hash::Hasher;
use zegel_crypto::pseudonym::RowNumbers;

const UNNUMBERED: RowCode = "ZGL-ROW-UNNUMBERED";
const TWICE: RowCode = "ZGL-ROW-TWICE";
/// Tokens that do not belong together, or not to this exchange.
pub(crate) const FOREIGN: RowCode = "ZGL-ROW-FOREIGN";
/// Most rows of a batch that may come back.
const ROWS_MAX: u64 = 1 << 28;

/// What is known of an exchange whose rows come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Issued {
    /// The handle under which it was handed over.
    pub handle: MessageId,
    /// How many rows it had before bad ones were left out.
    pub rows: u64,
    /// Digest of the tokens outside of its rows.
    pub outer: Sha256,
}

/// Tokens as they come.
#[derive(Default)]
struct Tokens {
    bytes: Vec<u8>,
    /// Field, and where its token ends.
    items: Vec<(usize, usize)>,
}

impl Tokens {
    fn clear(&mut self) {
        self.bytes.clear();
        self.items.clear();
    }

    fn take(&mut self, field: usize, token: &[u8]) {
        self.bytes.extend_from_slice(token.trim_ascii());
        self.items.push((field, self.bytes.len()));
    }

    /// The same for whatever order the fields stand in; tokens of one field keep their order.
    fn digest(&self) -> Sha256 {
        let starts = std::iter::once(0).chain(self.items.iter().map(|(_, end)| *end));
        let mut parts: Vec<(usize, &[u8])> =
            starts.zip(&self.items).map(|(start, (field, end))| (*field, &self.bytes[start..*end])).collect();
        parts.sort_by_key(|(field, _)| *field);
        let mut hasher = Hasher::new();
        for (field, token) in parts {
            hasher.update(&(field as u64).to_be_bytes());
            hasher.update(&(token.len() as u64).to_be_bytes());
            hasher.update(token);
        }
        hasher.finish()
    }
}

/// One exchange at work.
pub(crate) struct Binding {
    numbers: RowNumbers,
    row: Tokens,
    outer: Tokens,
    is_in_row: bool,
    /// On the way back.
    check: Option<Check>,
}

struct Check {
    issued: Issued,
    /// One bit for each row.
    seen: Vec<u64>,
    /// Numbers that the present row carries.
    found: Vec<String>,
}

impl Binding {
    /// On the way there.
    pub(crate) fn issue(numbers: RowNumbers) -> Binding {
        Binding { numbers, row: Tokens::default(), outer: Tokens::default(), is_in_row: false, check: None }
    }

    /// On the way back.
    pub(crate) fn check(numbers: RowNumbers, issued: Issued) -> Binding {
        let check = Check { issued, seen: Vec::new(), found: Vec::new() };
        Binding { check: Some(check), ..Binding::issue(numbers) }
    }

    pub(crate) fn begin_row(&mut self) {
        self.row.clear();
        self.is_in_row = true;
        if let Some(check) = &mut self.check {
            check.found.clear();
        }
    }

    /// A token of this field stands here.
    pub(crate) fn take(&mut self, field: usize, token: &[u8]) {
        let tokens = if self.is_in_row { &mut self.row } else { &mut self.outer };
        tokens.take(field, token);
    }

    /// The present row carries this number; an empty one is none.
    pub(crate) fn found(&mut self, number: String) {
        if let Some(check) = self.check.as_mut().filter(|_| !number.trim().is_empty()) {
            check.found.push(number);
        }
    }

    /// On the way there: the number of the present row, which is the batch's row `row`, from 1.
    pub(crate) fn number(&mut self, row: u64) -> Result<String, TransformError> {
        let place = row.saturating_sub(1);
        let number = (place < ROWS_MAX).then(|| self.numbers.number(place, &self.row.digest().0));
        let text = "a batch that may come back has at most 268,435,456 rows";
        number.and_then(Result::ok).ok_or_else(|| refusal("ZGL-TTP-SIZE", text).into())
    }

    /// Ends the present row; on the way back says what is wrong with it.
    pub(crate) fn end_row(&mut self) -> Result<(), RowCode> {
        self.is_in_row = false;
        let Some(check) = &mut self.check else { return Ok(()) };
        let [number] = &check.found[..] else { return Err(UNNUMBERED) };
        let place = self.numbers.place(number.trim(), &self.row.digest().0).map_err(|_| FOREIGN)?;
        if place >= check.issued.rows.min(ROWS_MAX) {
            return Err(FOREIGN);
        }
        let word = usize::try_from(place / 64).map_err(|_| FOREIGN)?;
        let bit = 1 << (place % 64);
        if check.seen.len() <= word {
            check.seen.resize(word + 1, 0);
        }
        if check.seen[word] & bit != 0 {
            return Err(TWICE);
        }
        check.seen[word] |= bit;
        Ok(())
    }

    /// Digest of the tokens outside of rows.
    pub(crate) fn outer(&self) -> Sha256 {
        self.outer.digest()
    }

    /// Whether the tokens outside of rows are those that were delivered; always on the way there.
    pub(crate) fn is_outer_whole(&self) -> bool {
        self.check.as_ref().is_none_or(|check| check.issued.outer == self.outer())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use zegel_crypto::pseudonym::PseudonymRoot;

    fn numbers() -> RowNumbers {
        PseudonymRoot::new(&[7; 32]).row_numbers("CBE:0123456749", 1, &[1; 16])
    }

    fn issue(row: u64, tokens: &[(usize, &str)]) -> String {
        let mut binding = Binding::issue(numbers());
        binding.begin_row();
        tokens.iter().for_each(|(field, token)| binding.take(*field, token.as_bytes()));
        binding.number(row).unwrap()
    }

    fn checker() -> Binding {
        let issued = Issued { handle: MessageId([1; 16]), rows: 100, outer: Tokens::default().digest() };
        Binding::check(numbers(), issued)
    }

    fn check(binding: &mut Binding, number: &str, tokens: &[(usize, &str)]) -> Result<(), RowCode> {
        binding.begin_row();
        tokens.iter().for_each(|(field, token)| binding.take(*field, token.as_bytes()));
        binding.found(number.to_owned());
        binding.end_row()
    }

    #[test]
    fn columns_may_stand_in_another_order_and_nothing_else_may_change() {
        let number = issue(3, &[(0, "a"), (1, "b"), (1, "c")]);
        assert_eq!(check(&mut checker(), &number, &[(1, "b"), (0, "a"), (1, "c")]), Ok(()));
        for tokens in [
            &[(0, "a"), (1, "c"), (1, "b")][..],
            &[(0, "a"), (1, "b")],
            &[(0, "a"), (1, "b"), (1, "c"), (2, "d")],
            &[(0, "b"), (1, "a"), (1, "c")],
            &[(0, "ab"), (1, ""), (1, "c")],
        ] {
            assert_eq!(check(&mut checker(), &number, tokens), Err(FOREIGN), "{tokens:?}");
        }
    }

    #[test]
    fn a_row_comes_back_once_with_one_number_of_its_batch() {
        let number = issue(3, &[(0, "a")]);
        let mut binding = checker();
        assert_eq!(check(&mut binding, &number, &[(0, "a")]), Ok(()));
        assert_eq!(check(&mut binding, &number, &[(0, "a")]), Err(TWICE));
        assert_eq!(check(&mut binding, &issue(101, &[(0, "a")]), &[(0, "a")]), Err(FOREIGN), "beyond the batch");
        binding.begin_row();
        assert_eq!(binding.end_row(), Err(UNNUMBERED));
        binding.begin_row();
        binding.found(number.clone());
        binding.found(number.clone());
        assert_eq!(binding.end_row(), Err(UNNUMBERED));
        assert!(Binding::issue(numbers()).number(ROWS_MAX + 1).is_err());
    }

    #[test]
    fn tokens_outside_of_rows_must_be_those_that_were_delivered() {
        let mut binding = checker();
        assert!(binding.is_outer_whole());
        binding.take(0, b"a token of another exchange");
        assert!(!binding.is_outer_whole());
    }
}
