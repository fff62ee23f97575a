//! FF1: a cipher over strings of digits that keeps their length (NIST SP 800-38G, algorithms 7 and 8), with AES-256.
//!
//! Bounds: a radix of 2 to 65,536; half of the string must stay under 2^120, so that its number fits one integer (72
//! decimal digits); a domain of at least 1,000,000 strings (SP 800-38G revision 1, second draft: a requirement), because
//! smaller ones can be written out. FF3 and FF3-1 are not offered: the draft withdrew them.
//! Invariant: for one key and tweak it is a permutation of the strings of one length; nothing tells a wrong key, so what
//! is decrypted must be checked by who knows what it should be.

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use std::fmt;

const BLOCK: usize = 16;
const ROUNDS: u8 = 10;
/// The smallest domain: SP 800-38G revision 1, second public draft.
pub const DOMAIN_MIN: u128 = 1_000_000;
/// One byte of headroom in 128 bits, so that a remainder can take in the next byte of the key stream.
const HALF_BITS_MAX: u32 = 120;

/// Why a string cannot be encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ff1Error {
    /// The radix is not 2 to 65,536.
    #[error("radix is 2 to 65536")]
    Radix,
    /// There are fewer than [`DOMAIN_MIN`] strings of this length: they can be tried one by one.
    #[error("domain is under a million values")]
    DomainTooSmall,
    /// The string is longer than this implementation takes.
    #[error("string is too long")]
    TooLong,
    /// A digit is not below the radix.
    #[error("digit is not below the radix")]
    Digit,
}

/// The cipher with one key and radix.
pub struct Ff1 {
    aes: Aes256,
    radix: u32,
}

impl fmt::Debug for Ff1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ff1(***)")
    }
}

/// What is the same in every round.
struct Plan<'a> {
    tweak: &'a [u8],
    /// Digits of the left half.
    left: usize,
    /// Digits of the right half.
    right: usize,
    /// Bytes that hold the right half's number.
    bytes: usize,
    /// Bytes of key stream in a round.
    stream: usize,
    /// The first block of every round.
    head: [u8; BLOCK],
}

impl Ff1 {
    /// A cipher for digits below `radix`.
    ///
    /// # Errors
    /// [`Ff1Error::Radix`].
    pub fn new(key: &[u8; 32], radix: u32) -> Result<Ff1, Ff1Error> {
        if !(2..=1 << 16).contains(&radix) {
            return Err(Ff1Error::Radix);
        }
        Ok(Ff1 { aes: Aes256::new(&(*key).into()), radix })
    }

    /// Encrypts the digits in place.
    ///
    /// # Errors
    /// [`Ff1Error`]; the digits are unchanged then.
    pub fn encrypt(&self, tweak: &[u8], digits: &mut [u16]) -> Result<(), Ff1Error> {
        let plan = self.plan(tweak, digits)?;
        let (mut a, mut b) = (self.number(&digits[..plan.left]), self.number(&digits[plan.left..]));
        for round in 0..ROUNDS {
            let modulus = self.power(plan.digits_of(round));
            (a, b) = (b, (a + self.round(&plan, round, b, modulus)) % modulus);
        }
        self.write(a, &mut digits[..plan.left]);
        self.write(b, &mut digits[plan.left..]);
        Ok(())
    }

    /// Undoes [`Ff1::encrypt`].
    ///
    /// # Errors
    /// [`Ff1Error`]; the digits are unchanged then.
    pub fn decrypt(&self, tweak: &[u8], digits: &mut [u16]) -> Result<(), Ff1Error> {
        let plan = self.plan(tweak, digits)?;
        let (mut a, mut b) = (self.number(&digits[..plan.left]), self.number(&digits[plan.left..]));
        for round in (0..ROUNDS).rev() {
            let modulus = self.power(plan.digits_of(round));
            (a, b) = ((b + modulus - self.round(&plan, round, a, modulus)) % modulus, a);
        }
        self.write(a, &mut digits[..plan.left]);
        self.write(b, &mut digits[plan.left..]);
        Ok(())
    }

    fn plan<'a>(&self, tweak: &'a [u8], digits: &[u16]) -> Result<Plan<'a>, Ff1Error> {
        let (left, right) = (digits.len() / 2, digits.len() - digits.len() / 2);
        let radix = u128::from(self.radix);
        let end = u32::try_from(right).ok().and_then(|right| radix.checked_pow(right)).ok_or(Ff1Error::TooLong)?;
        let bits = 128 - (end - 1).leading_zeros();
        if bits > HALF_BITS_MAX {
            return Err(Ff1Error::TooLong);
        }
        if left == 0 || self.power(left).checked_mul(end).is_some_and(|domain| domain < DOMAIN_MIN) {
            return Err(Ff1Error::DomainTooSmall);
        }
        if digits.iter().any(|digit| u32::from(*digit) >= self.radix) {
            return Err(Ff1Error::Digit);
        }
        let bytes = (bits as usize).div_ceil(8);
        let mut head = [1, 2, 1, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        head[3..6].copy_from_slice(&self.radix.to_be_bytes()[1..]);
        head[7] = left.to_be_bytes()[7];
        let length = |count: usize| u32::try_from(count).map_err(|_| Ff1Error::TooLong);
        head[8..12].copy_from_slice(&length(digits.len())?.to_be_bytes());
        head[12..].copy_from_slice(&length(tweak.len())?.to_be_bytes());
        Ok(Plan { tweak, left, right, bytes, stream: bytes.div_ceil(4) * 4 + 4, head })
    }

    /// The round function's number, below `modulus`.
    fn round(&self, plan: &Plan<'_>, round: u8, half: u128, modulus: u128) -> u128 {
        let mut mac = Mac { aes: &self.aes, block: [0; BLOCK], filled: 0 };
        mac.update(&plan.head);
        mac.update(plan.tweak);
        let over = (plan.tweak.len() + plan.bytes + 1) % BLOCK;
        mac.update(&[0; BLOCK][..(BLOCK - over) % BLOCK]);
        mac.update(&[round]);
        mac.update(&half.to_be_bytes()[BLOCK - plan.bytes..]);
        let first = mac.block;
        let take = |remainder: u128, bytes: &[u8]| {
            bytes.iter().fold(remainder, |remainder, byte| (remainder << 8 | u128::from(*byte)) % modulus)
        };
        let mut number = take(0, &first[..plan.stream.min(BLOCK)]);
        let mut done = BLOCK;
        while done < plan.stream {
            let mut block = (u128::from_be_bytes(first) ^ (done / BLOCK) as u128).to_be_bytes();
            self.aes.encrypt_block((&mut block).into());
            number = take(number, &block[..(plan.stream - done).min(BLOCK)]);
            done += BLOCK;
        }
        number
    }

    fn number(&self, digits: &[u16]) -> u128 {
        digits.iter().fold(0, |number, digit| number * u128::from(self.radix) + u128::from(*digit))
    }

    fn write(&self, mut number: u128, digits: &mut [u16]) {
        let radix = u128::from(self.radix);
        for digit in digits.iter_mut().rev() {
            *digit = u16::try_from(number % radix).unwrap_or(0);
            number /= radix;
        }
    }

    /// Checked in `plan` for the longer half.
    fn power(&self, digits: usize) -> u128 {
        (0..digits).fold(1, |power, _| power * u128::from(self.radix))
    }
}

impl Plan<'_> {
    /// Digits of the half that a round makes.
    fn digits_of(&self, round: u8) -> usize {
        if round.is_multiple_of(2) { self.left } else { self.right }
    }
}

/// CBC-MAC without padding: the caller's bytes are a whole number of blocks, the first of which fixes all lengths.
struct Mac<'a> {
    aes: &'a Aes256,
    block: [u8; BLOCK],
    filled: usize,
}

impl Mac<'_> {
    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.block[self.filled] ^= byte;
            self.filled += 1;
            if self.filled == BLOCK {
                self.aes.encrypt_block((&mut self.block).into());
                self.filled = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "2b7e151628aed2a6abf7158809cf4f3cef4359d8d580aa4f7f036d6f04fc6a94";
    const ALPHABET: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

    fn digits(text: &str) -> Vec<u16> {
        let digit = |c| ALPHABET.iter().position(|letter| *letter == c).unwrap();
        text.bytes().map(|c| u16::try_from(digit(c)).unwrap()).collect()
    }

    fn cipher(radix: u32) -> Ff1 {
        Ff1::new(&hex::decode(KEY).unwrap().try_into().unwrap(), radix).unwrap()
    }

    #[test]
    fn the_samples_of_nist_for_aes_256_come_out() {
        for (radix, tweak, plain, expected) in [
            (10, "", "0123456789", "6657667009"),
            (10, "39383736353433323130", "0123456789", "1001623463"),
            (36, "3737373770717273373737", "0123456789abcdefghi", "xs8a0azh2avyalyzuwd"),
        ] {
            let tweak = hex::decode(tweak).unwrap();
            let mut text = digits(plain);
            cipher(radix).encrypt(&tweak, &mut text).unwrap();
            assert_eq!(text, digits(expected), "FF1samples.pdf, radix {radix}");
            cipher(radix).decrypt(&tweak, &mut text).unwrap();
            assert_eq!(text, digits(plain));
        }
    }

    #[test]
    fn a_domain_that_can_be_written_out_is_refused() {
        let refused = |radix, length: usize| cipher(radix).encrypt(b"", &mut vec![0; length]).unwrap_err();
        assert_eq!(refused(10, 5), Ff1Error::DomainTooSmall);
        assert_eq!(refused(2, 1), Ff1Error::DomainTooSmall);
        assert_eq!(refused(10, 0), Ff1Error::DomainTooSmall);
        assert_eq!(refused(10, 73), Ff1Error::TooLong);
        assert_eq!(cipher(10).encrypt(b"", &mut [1, 2, 3, 4, 5, 10]).unwrap_err(), Ff1Error::Digit);
        assert_eq!(Ff1::new(&[0; 32], 1).unwrap_err(), Ff1Error::Radix);
        assert!(cipher(10).encrypt(b"", &mut [0; 6]).is_ok() && cipher(10).encrypt(b"", &mut [0; 72]).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_encrypted_comes_back_and_keeps_its_length(
            text in proptest::collection::vec(0u16..10, 6..72), tweak in proptest::collection::vec(any::<u8>(), 0..40)
        ) {
            let mut there = text.clone();
            cipher(10).encrypt(&tweak, &mut there).unwrap();
            prop_assert_eq!(there.len(), text.len());
            cipher(10).decrypt(&tweak, &mut there).unwrap();
            prop_assert_eq!(there, text);
        }
    }
}
