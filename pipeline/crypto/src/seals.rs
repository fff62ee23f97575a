//! Coded values of the synchronous service: one identifier in, one value out that says by itself how it was made.
//!
//! Keys: HKDF-SHA-256 Expand (RFC 5869, section 2.3) of a random root of the service, which no project's tokens come from, with
//! the info `tag (u8) ‖ length (u16 BE) ‖ bytes` for each of label `zegel-seals/1`, application, purpose, epoch (u32 BE).
//!
//! Value: `form 1 (u8) ‖ algorithm (u8) ‖ epoch (u32 BE) ‖ body`. The request to decode names no algorithm, so the value does.
//!
//! | algorithm | body | again the same |
//! | --- | --- | --- |
//! | 1 SIV | AES-256-SIV (RFC 5297): tag ‖ ciphertext | yes |
//! | 2 HMAC | HMAC-SHA-256, 32 bytes | yes; nobody can decode it |
//! | 3 GCM | nonce (12) ‖ AES-256-GCM-SIV (RFC 8452): ciphertext ‖ tag | no |
//!
//! | FF1 | none of the above: 6 to 72 decimal digits in ASCII, as many as the text has ([`crate::ff1`]) | yes |
//!
//! An FF1 value has no head, so it names no epoch and authenticates nothing: its key is that of epoch 0 whatever the epoch, and any
//! digits decode to some others. Head and application of the rest are authenticated. The plaintext is `length (u16 BE) ‖ text ‖ zeros` up to 16, 32, 64 … 4,096 bytes.
//! Failure: what was not made here for this application is refused (I8); no error or `Debug` shows a value or a key.

use crate::ff1::{Ff1, Ff1Error};
use aes_siv::siv::Aes256Siv;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;
use zeroize::Zeroizing;

/// The longest text in bytes: 750 characters of UTF-8 fit.
pub const TEXT_MAX: usize = BUCKET_MAX - LENGTH;

const LABEL: &[u8] = b"zegel-seals/1";
const FORM: u8 = 1;
const HEAD: usize = 6;
const LENGTH: usize = 2;
const BUCKET_MIN: usize = 16;
const BUCKET_MAX: usize = 4_096;
const TAG: usize = 16;
const NONCE: usize = 12;

/// How a value is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Deterministic and reversible.
    Siv,
    /// Deterministic and one-way.
    Hmac,
    /// Randomised and reversible.
    GcmSiv,
    /// Deterministic, reversible and of the text's own form: digits for digits, unauthenticated.
    Ff1,
}

/// Why a value could not be made or undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// An empty text is nobody.
    #[error("text is empty")]
    Empty,
    /// The text is over [`TEXT_MAX`] bytes.
    #[error("text is too long")]
    TooLong,
    /// For FF1 the text is 6 to 72 decimal digits.
    #[error("text is not 6 to 72 digits")]
    NotDigits,
    /// Not a coded value.
    #[error("not a coded value")]
    Format,
    /// Made with keys of an epoch that is not there.
    #[error("value is of another epoch")]
    OtherEpoch,
    /// Made by HMAC, which nobody can undo.
    #[error("value is one-way")]
    OneWay,
    /// Changed, or made for another application.
    #[error("value fails authentication")]
    Authentication,
}

/// Makes and undoes the values of one application and epoch. Wiped when dropped.
pub struct Codec {
    siv: Aes256Siv,
    mac: Hmac<Sha256>,
    gcm: LessSafeKey,
    ff1: Ff1,
    epoch: u32,
    application: Vec<u8>,
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec(***)")
    }
}

impl Algorithm {
    fn code(self) -> u8 {
        match self {
            Algorithm::Siv => 1,
            Algorithm::Hmac => 2,
            Algorithm::GcmSiv => 3,
            // Never written: these values have no head.
            Algorithm::Ff1 => 4,
        }
    }
}

impl Codec {
    /// The codec of an application. `root` is the random root of its service.
    #[must_use]
    pub fn new(root: &[u8; 32], application: &str, epoch: u32) -> Codec {
        let derive_for = |purpose: &str, epoch: u32, key: &mut [u8]| {
            let info = info(application, purpose, epoch);
            let derived = Hkdf::<Sha256>::from_prk(root).map(|prk| prk.expand(&info, key));
            assert!(matches!(derived, Ok(Ok(()))), "32 bytes are a PRK, and at most 64 are asked of it");
        };
        let derive = |purpose: &str, key: &mut [u8]| derive_for(purpose, epoch, key);
        let mut wide = Zeroizing::new([0; 64]);
        derive("siv", &mut wide[..]);
        let siv = <Aes256Siv as aes_siv::KeyInit>::new_from_slice(&wide[..]);
        let Ok(siv) = siv else { unreachable!("64 bytes are the key length of AES-256-SIV") };
        let mut key = Zeroizing::new([0; 32]);
        derive("mac", &mut key[..]);
        let mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&key[..]);
        let Ok(mac) = mac else { unreachable!("HMAC takes keys of any length") };
        derive("gcm-siv", &mut key[..]);
        let gcm = UnboundKey::new(&AES_256_GCM_SIV, &key[..]);
        let Ok(gcm) = gcm else { unreachable!("32 bytes are the key length of AES-256-GCM-SIV") };
        derive_for("ff1", 0, &mut key[..]);
        let Ok(ff1) = Ff1::new(&key, 10) else { unreachable!("FF1 takes radix 10") };
        Codec { siv, mac, gcm: LessSafeKey::new(gcm), ff1, epoch, application: application.as_bytes().to_vec() }
    }

    /// The coded value of a text. `random` fills a buffer with unpredictable bytes; only the randomised algorithm uses it.
    ///
    /// # Errors
    /// [`CodeError::Empty`], [`CodeError::TooLong`], [`CodeError::NotDigits`].
    pub fn encode(
        &mut self,
        algorithm: Algorithm,
        text: &str,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Vec<u8>, CodeError> {
        if algorithm == Algorithm::Ff1 {
            return self.digits(text.as_bytes(), Ff1::encrypt);
        }
        let padded = padded(text)?;
        let mut value = vec![FORM, algorithm.code()];
        value.extend_from_slice(&self.epoch.to_be_bytes());
        let bound = self.bound(&value);
        match algorithm {
            Algorithm::Siv => {
                let mut body = Zeroizing::new(padded.to_vec());
                let tag = self.siv.encrypt_inout_detached([&bound[..]], (&mut body[..]).into());
                let Ok(tag) = tag else { unreachable!("AES-SIV fails only for more than 126 headers") };
                value.extend_from_slice(&tag);
                value.extend_from_slice(&body);
            }
            Algorithm::Hmac => {
                let mut mac = self.mac.clone();
                mac.update(text.as_bytes());
                value.extend_from_slice(&mac.finalize().into_bytes());
            }
            Algorithm::GcmSiv => {
                let mut nonce = [0; NONCE];
                random(&mut nonce);
                value.extend_from_slice(&nonce);
                let start = value.len();
                value.extend_from_slice(&padded);
                let nonce = Nonce::assume_unique_for_key(nonce);
                let sealed = self.gcm.seal_in_place_separate_tag(nonce, Aad::from(&bound), &mut value[start..]);
                let Ok(tag) = sealed else { unreachable!("AES-GCM-SIV fails only for texts of gigabytes") };
                value.extend_from_slice(tag.as_ref());
            }
            Algorithm::Ff1 => unreachable!("it was answered above"),
        }
        Ok(value)
    }

    /// Digits for digits, under the application's name as tweak.
    fn digits(
        &self,
        text: &[u8],
        change: impl Fn(&Ff1, &[u8], &mut [u16]) -> Result<(), Ff1Error>,
    ) -> Result<Vec<u8>, CodeError> {
        if !text.iter().all(u8::is_ascii_digit) {
            return Err(CodeError::NotDigits);
        }
        let mut digits: Vec<u16> = text.iter().map(|byte| u16::from(byte - b'0')).collect();
        change(&self.ff1, &self.application, &mut digits).map_err(|_| CodeError::NotDigits)?;
        Ok(digits.iter().map(|digit| b'0' + u8::try_from(*digit).unwrap_or(0)).collect())
    }

    /// The text of a value.
    ///
    /// # Errors
    /// [`CodeError`]: whatever this application's [`Codec::encode`] did not make is refused.
    pub fn decode(&mut self, value: &[u8]) -> Result<Zeroizing<String>, CodeError> {
        if is_digits(value) {
            let text = self.digits(value, Ff1::decrypt)?;
            return Ok(Zeroizing::new(String::from_utf8_lossy(&text).into_owned()));
        }
        let (head, body) = value.split_at_checked(HEAD).ok_or(CodeError::Format)?;
        if head[0] != FORM {
            return Err(CodeError::Format);
        }
        if head[2..] != self.epoch.to_be_bytes() {
            return Err(CodeError::OtherEpoch);
        }
        let bound = self.bound(head);
        let padded = match head[1] {
            1 => {
                let (tag, text) = body.split_at_checked(TAG).ok_or(CodeError::Format)?;
                let tag = aes_siv::Tag::try_from(tag).map_err(|_| CodeError::Format)?;
                let mut text = Zeroizing::new(text.to_vec());
                self.siv
                    .decrypt_inout_detached([&bound[..]], (&mut text[..]).into(), &tag)
                    .map_err(|_| CodeError::Authentication)?;
                text
            }
            2 if body.len() == 32 => return Err(CodeError::OneWay),
            3 => {
                let (nonce, text) = body.split_at_checked(NONCE).ok_or(CodeError::Format)?;
                let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CodeError::Format)?;
                let mut text = Zeroizing::new(text.to_vec());
                let opened = self.gcm.open_in_place(nonce, Aad::from(&bound), &mut text[..]);
                let length = opened.map_err(|_| CodeError::Authentication)?.len();
                text.truncate(length);
                text
            }
            _ => return Err(CodeError::Format),
        };
        unpadded(&padded)
    }

    /// What the ciphers authenticate beside the text.
    fn bound(&self, head: &[u8]) -> Vec<u8> {
        [head, &self.application].concat()
    }
}

/// Whether a value is one of FF1: digits, and no head.
#[must_use]
pub fn is_digits(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(u8::is_ascii_digit)
}

/// The epoch that a value says it was made in; none when it is no value, or one of FF1.
#[must_use]
pub fn epoch_of(value: &[u8]) -> Option<u32> {
    let head: &[u8; HEAD] = value.get(..HEAD)?.try_into().ok()?;
    (head[0] == FORM).then(|| u32::from_be_bytes([head[2], head[3], head[4], head[5]]))
}

fn padded(text: &str) -> Result<Zeroizing<Vec<u8>>, CodeError> {
    let length = match u16::try_from(text.len()) {
        Ok(0) => return Err(CodeError::Empty),
        Ok(length) if text.len() <= TEXT_MAX => length,
        _ => return Err(CodeError::TooLong),
    };
    let mut padded = Zeroizing::new(vec![0; (LENGTH + text.len()).next_power_of_two().max(BUCKET_MIN)]);
    padded[..LENGTH].copy_from_slice(&length.to_be_bytes());
    padded[LENGTH..LENGTH + text.len()].copy_from_slice(text.as_bytes());
    Ok(padded)
}

fn unpadded(padded: &[u8]) -> Result<Zeroizing<String>, CodeError> {
    let (length, text) = padded.split_at_checked(LENGTH).ok_or(CodeError::Format)?;
    let text = text.get(..usize::from(u16::from_be_bytes([length[0], length[1]]))).ok_or(CodeError::Format)?;
    std::str::from_utf8(text).map(|text| Zeroizing::new(text.to_owned())).map_err(|_| CodeError::Format)
}

fn info(application: &str, purpose: &str, epoch: u32) -> Vec<u8> {
    let epoch = epoch.to_be_bytes();
    let mut info = Vec::new();
    for (tag, bytes) in [(1, LABEL), (2, application.as_bytes()), (3, purpose.as_bytes()), (4, &epoch[..])] {
        let Ok(length) = u16::try_from(bytes.len()) else { unreachable!("names are far under 64 KiB") };
        info.push(tag);
        info.extend_from_slice(&length.to_be_bytes());
        info.extend_from_slice(bytes);
    }
    info
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROOT: [u8; 32] = [7; 32];

    fn random() -> impl FnMut(&mut [u8]) {
        |bytes: &mut [u8]| crate::secret::fill_random(bytes)
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_and_only_by_its_application_and_epoch(text in "\\PC{1,700}", which in 0usize..2) {
            let algorithm = [Algorithm::Siv, Algorithm::GcmSiv][which];
            let mut codec = Codec::new(&ROOT, "app", 1);
            let value = codec.encode(algorithm, &text, &mut random()).unwrap();
            let found = codec.decode(&value).unwrap();
            prop_assert_eq!(found.as_str(), text.as_str());
            prop_assert_eq!(epoch_of(&value), Some(1));
            prop_assert!(Codec::new(&ROOT, "other", 1).decode(&value).is_err());
            prop_assert_eq!(Codec::new(&ROOT, "app", 2).decode(&value), Err(CodeError::OtherEpoch));
            prop_assert!(Codec::new(&[8; 32], "app", 1).decode(&value).is_err());
        }
    }

    #[test]
    fn every_changed_bit_of_a_value_is_refused() {
        let mut codec = Codec::new(&ROOT, "app", 1);
        for algorithm in [Algorithm::Siv, Algorithm::GcmSiv, Algorithm::Hmac] {
            let value = codec.encode(algorithm, "85061511796", &mut random()).unwrap();
            for bit in 0..value.len() * 8 {
                let mut changed = value.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(codec.decode(&changed).is_err(), "bit {bit} of {algorithm:?}");
            }
            for end in 0..value.len() {
                assert!(codec.decode(&value[..end]).is_err());
            }
        }
    }

    #[test]
    fn deterministic_values_repeat_and_randomised_ones_never() {
        let mut codec = Codec::new(&ROOT, "app", 1);
        let mut twice = |algorithm| {
            let one = codec.encode(algorithm, "85061511796", &mut random()).unwrap();
            one == codec.encode(algorithm, "85061511796", &mut random()).unwrap()
        };
        assert!(twice(Algorithm::Siv) && twice(Algorithm::Hmac) && !twice(Algorithm::GcmSiv));
    }

    #[test]
    fn lengths_hide_in_their_bucket_and_have_a_bound() {
        let mut codec = Codec::new(&ROOT, "app", 1);
        let mut length = |text: &str| codec.encode(Algorithm::Siv, text, &mut random()).map(|value| value.len());
        assert_eq!(length("a"), length("85061511796"));
        assert_eq!(length(""), Err(CodeError::Empty));
        assert!(length(&"€".repeat(750)).is_ok());
        assert_eq!(length(&"a".repeat(TEXT_MAX + 1)), Err(CodeError::TooLong));
    }

    proptest! {
        #[test]
        fn ff1_keeps_the_form_repeats_over_epochs_and_differs_between_applications(text in "[0-9]{6,72}") {
            let mut codec = Codec::new(&ROOT, "app", 1);
            let value = codec.encode(Algorithm::Ff1, &text, &mut random()).unwrap();
            prop_assert!(is_digits(&value) && value.len() == text.len() && epoch_of(&value).is_none());
            let undone = |mut codec: Codec| codec.decode(&value).unwrap().to_string();
            prop_assert_eq!(&undone(codec), &text);
            prop_assert_eq!(&undone(Codec::new(&ROOT, "app", 2)), &text);
            if text.len() > 12 {
                prop_assert_ne!(&undone(Codec::new(&ROOT, "other", 1)), &text);
            }
        }
    }

    #[test]
    fn ff1_takes_nothing_that_is_short_long_or_not_digits() {
        let mut codec = Codec::new(&ROOT, "app", 1);
        for text in ["", "12345", "85061511796 ", "8506151179X", "８５０６１５", &"1".repeat(73)] {
            assert_eq!(codec.encode(Algorithm::Ff1, text, &mut random()), Err(CodeError::NotDigits), "{text}");
        }
        assert_eq!(codec.decode(b"12345"), Err(CodeError::NotDigits));
    }

    #[test]
    fn a_one_way_value_says_so() {
        let mut codec = Codec::new(&ROOT, "app", 1);
        let value = codec.encode(Algorithm::Hmac, "x", &mut random()).unwrap();
        assert_eq!(codec.decode(&value), Err(CodeError::OneWay));
    }
}
