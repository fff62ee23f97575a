//! National numbers that become other valid national numbers (FF1 over the ranked numbers).
//!
//! Every number that `Ssin` accepts has a rank among those of its register: the population register (months 0 to 12) and
//! the BIS register (months 20 to 32 and 40 to 52) are ranked apart, so a BIS number becomes a BIS number. The rank is
//! encrypted over 8 decimal digits (9 for BIS), again and again until it is below the number of ranks, and the rank that
//! comes out is written as a number with its check digits.
//! What comes out passes every check and may be the number of a living person: projects rename the column. Nothing tells
//! a number of another project from one of this: there is no authentication (use AES-SIV where the recipient can take it).

use super::PseudonymError;
use crate::ff1::Ff1;
use schemas::ids::Ssin;
use std::fmt;

/// Serial numbers 000 to 998.
const SERIALS: u64 = 999;
/// Days 0 (unknown) to the last of each month; month 0 is unknown, February always has 29.
const DAYS: [u64; 13] = [32, 32, 30, 32, 31, 32, 31, 32, 32, 31, 32, 31, 32];
/// All days of [`DAYS`].
const YEAR: u64 = 410;
const CENTURIES: u64 = 2;
/// Numbers of the population register; BIS has twice as many.
const REGISTER: u64 = CENTURIES * 100 * YEAR * SERIALS;

/// Encrypts numbers of one scope.
pub struct SsinCipher {
    pub(super) cipher: Ff1,
}

impl fmt::Debug for SsinCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SsinCipher(***)")
    }
}

impl SsinCipher {
    /// Appends the number that `digits` becomes.
    ///
    /// # Errors
    /// [`PseudonymError::Format`] when the text is no valid number of 11 digits.
    pub fn encode(&self, digits: &str, out: &mut Vec<u8>) -> Result<(), PseudonymError> {
        self.walk(digits, out, Ff1::encrypt)
    }

    /// Appends the number that became `digits`.
    ///
    /// # Errors
    /// [`PseudonymError::Format`] when the text is no valid number of 11 digits.
    pub fn decode(&self, digits: &str, out: &mut Vec<u8>) -> Result<(), PseudonymError> {
        self.walk(digits, out, Ff1::decrypt)
    }

    fn walk(
        &self,
        digits: &str,
        out: &mut Vec<u8>,
        step: impl Fn(&Ff1, &[u8], &mut [u16]) -> Result<(), crate::ff1::Ff1Error>,
    ) -> Result<(), PseudonymError> {
        let ssin = Ssin::parse(digits).map_err(|_| PseudonymError::Format)?;
        let (length, ranks, tweak): (_, _, &[u8]) =
            if ssin.is_bis() { (9, 2 * REGISTER, b"bis") } else { (8, REGISTER, b"ssin") };
        let mut rank = rank(digits).ok_or(PseudonymError::Format)?;
        let mut text = [0u16; 9];
        loop {
            write(rank, &mut text[..length]);
            step(&self.cipher, tweak, &mut text[..length]).map_err(|_| PseudonymError::Format)?;
            rank = text[..length].iter().fold(0, |rank, digit| rank * 10 + u64::from(*digit));
            // A permutation walks back to where it began, so it comes by a rank in the end.
            if rank < ranks {
                break;
            }
        }
        out.extend_from_slice(number(rank, ssin.is_bis()).ok_or(PseudonymError::Format)?.as_bytes());
        Ok(())
    }
}

fn write(mut rank: u64, digits: &mut [u16]) {
    for digit in digits.iter_mut().rev() {
        *digit = u16::try_from(rank % 10).unwrap_or(0);
        rank /= 10;
    }
}

/// The place of a valid number in its register.
fn rank(digits: &str) -> Option<u64> {
    let number: u64 = digits.parse().ok()?;
    let (stem, check) = (number / 100, number % 100);
    let century = u64::from(check != 97 - stem % 97);
    let (year, month, day, serial) = (stem / 10_000_000, stem / 100_000 % 100, stem / 1_000 % 100, stem % 1_000);
    let set = u64::from(month >= 40);
    let days: u64 = DAYS.iter().take(usize::try_from(month % 20).ok()?).sum();
    Some((((set * CENTURIES + century) * 100 + year) * YEAR + days + day) * SERIALS + serial)
}

/// The number with this rank.
fn number(rank: u64, is_bis: bool) -> Option<String> {
    let (serial, rest) = (rank % SERIALS, rank / SERIALS);
    let (mut day, rest) = (rest % YEAR, rest / YEAR);
    let (year, rest) = (rest % 100, rest / 100);
    let (century, set) = (rest % CENTURIES, rest / CENTURIES);
    let mut month = 0;
    for days in DAYS {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    let offset = if is_bis { 20 * (set + 1) } else { 0 };
    let part = |number: u64| u16::try_from(number).ok();
    let byte = |number: u64| u8::try_from(number).ok();
    let year = part((19 + century) * 100 + year)?;
    Some(Ssin::from_parts(year, byte(month + offset)?, byte(day)?, part(serial)?).ok()?.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    fn cipher(key: u8) -> SsinCipher {
        SsinCipher { cipher: Ff1::new(&[key; 32], 10).unwrap() }
    }

    fn encode(cipher: &SsinCipher, digits: &str) -> String {
        let mut out = Vec::new();
        cipher.encode(digits, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn ranks_are_those_of_the_numbers_that_are_valid_and_each_has_one() {
        assert_eq!((number(0, false).unwrap().as_str(), rank("00000000097")), ("00000000097", Some(0)));
        let last = number(REGISTER - 1, false).unwrap();
        assert_eq!(rank(&last), Some(REGISTER - 1));
        assert!(last.starts_with("991231998"), "{last}");
        assert_eq!(DAYS.iter().sum::<u64>(), YEAR);
        for at in (0..REGISTER).step_by(100_003) {
            assert_eq!(rank(&number(at, false).unwrap()), Some(at));
        }
        for at in (0..2 * REGISTER).step_by(200_003) {
            let text = number(at, true).unwrap();
            assert!(Ssin::parse(&text).unwrap().is_bis());
            assert_eq!(rank(&text), Some(at));
        }
    }

    proptest! {
        #[test]
        fn a_number_becomes_another_of_its_register_and_comes_back(
            year in 1900u16..2100, month in 0u8..=12, set in 0u8..3, day in 0u8..=29, serial in 0u16..=998
        ) {
            let digits = Ssin::from_parts(year, month + 20 * set, day, serial).unwrap().to_string();
            let there = encode(&cipher(1), &digits);
            prop_assert_eq!(Ssin::parse(&there).unwrap().is_bis(), set > 0);
            let mut back = Vec::new();
            cipher(1).decode(&there, &mut back).unwrap();
            prop_assert_eq!(String::from_utf8(back).unwrap(), digits.clone());
            prop_assert_ne!(encode(&cipher(2), &digits), there);
        }
    }
}
