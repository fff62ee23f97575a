//! Row numbers: what binds a delivered row to the tokens in it, for one exchange.
//!
//! `N` and 28 characters of base64url: `SIV (16 bytes) ‖ encrypted place of the row in its batch (5 bytes BE)`, AES-256-SIV (RFC 5297)
//! under a key of the exchange alone, with the digest of the row's tokens as associated data. So a number says nothing of the
//! row's place or of its batch to whoever has no key, is another one in every exchange, and opens beside exactly the tokens
//! that it was made for. Nothing is stored per row.
//!
//! Failure: whatever is not a number of this exchange for these tokens is refused, without saying which of both is wrong.

use super::{PseudonymError, SIV};
use aes_siv::siv::Aes256Siv;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;

const LABEL: &[u8] = b"zegel-row/1";
const PLACE: usize = 5;
const TEXT: usize = (SIV + PLACE) * 4 / 3;
/// Most rows of a batch that can be numbered.
pub const PLACES_MAX: u64 = 1 << (8 * PLACE);

/// Makes and opens the row numbers of one exchange.
pub struct RowNumbers {
    pub(super) siv: Aes256Siv,
}

impl fmt::Debug for RowNumbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RowNumbers(***)")
    }
}

impl RowNumbers {
    /// The number of the row at this place, whose tokens have this digest.
    ///
    /// # Errors
    /// [`PseudonymError::TooLong`] for a place of [`PLACES_MAX`] and above.
    pub fn number(&mut self, place: u64, tokens: &[u8; 32]) -> Result<String, PseudonymError> {
        if place >= PLACES_MAX {
            return Err(PseudonymError::TooLong);
        }
        let mut sealed = [0; SIV + PLACE];
        let (room, text) = sealed.split_at_mut(SIV);
        text.copy_from_slice(&place.to_be_bytes()[8 - PLACE..]);
        let tag = self.siv.encrypt_inout_detached([LABEL, &tokens[..]], text.into());
        let Ok(tag) = tag else { unreachable!("AES-SIV fails only for more than 126 headers") };
        room.copy_from_slice(&tag);
        let mut number = String::with_capacity(1 + TEXT);
        number.push('N');
        URL_SAFE_NO_PAD.encode_string(sealed, &mut number);
        Ok(number)
    }

    /// The place that a number stands for, beside tokens with this digest.
    ///
    /// # Errors
    /// [`PseudonymError::Format`] for what is no number, [`PseudonymError::Authentication`] for one of another exchange or
    /// of other tokens.
    pub fn place(&mut self, number: &str, tokens: &[u8; 32]) -> Result<u64, PseudonymError> {
        let text = number.strip_prefix('N').filter(|text| text.len() == TEXT).ok_or(PseudonymError::Format)?;
        let mut sealed = URL_SAFE_NO_PAD.decode(text).map_err(|_| PseudonymError::Format)?;
        let (tag, text) = sealed.split_at_mut(SIV);
        let tag = aes_siv::Tag::try_from(&*tag).map_err(|_| PseudonymError::Format)?;
        self.siv
            .decrypt_inout_detached([LABEL, &tokens[..]], (&mut *text).into(), &tag)
            .map_err(|_| PseudonymError::Authentication)?;
        Ok(text.iter().fold(0, |place, byte| place << 8 | u64::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::PseudonymRoot;
    use super::*;

    fn numbers(exchange: u8) -> RowNumbers {
        PseudonymRoot::new(&[7; 32]).row_numbers("CBE:0123456749", 1, &[exchange; 16])
    }

    #[test]
    fn a_number_opens_in_its_exchange_beside_its_tokens_and_nowhere_else() {
        let mut own = numbers(1);
        for place in [0, 1, 255, 65_536, PLACES_MAX - 1] {
            let number = own.number(place, &[2; 32]).unwrap();
            assert_eq!(number.len(), 29);
            assert_eq!(own.place(&number, &[2; 32]), Ok(place));
            assert_eq!(own.place(&number, &[3; 32]), Err(PseudonymError::Authentication), "other tokens");
            assert_eq!(numbers(2).place(&number, &[2; 32]), Err(PseudonymError::Authentication), "another exchange");
        }
        assert_eq!(own.number(PLACES_MAX, &[2; 32]), Err(PseudonymError::TooLong));
    }

    #[test]
    fn a_number_is_another_one_in_each_exchange_and_shows_no_order() {
        let rows =
            |exchange| (0..64).map(|place| numbers(exchange).number(place, &[2; 32]).unwrap()).collect::<Vec<_>>();
        let (one, two) = (rows(1), rows(2));
        assert!(one.iter().all(|number| !two.contains(number)));
        assert!(!one.is_sorted() && one[0][1..9] != one[1][1..9]);
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let mut own = numbers(1);
        let number = own.number(5, &[2; 32]).unwrap();
        for at in 0..number.len() {
            let mut changed = number.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(own.place(&String::from_utf8(changed).unwrap(), &[2; 32]).is_err(), "{at}");
        }
        for bad in ["", "N", &number[1..], &format!("{number}A")] {
            assert_eq!(own.place(bad, &[2; 32]), Err(PseudonymError::Format));
        }
    }
}
