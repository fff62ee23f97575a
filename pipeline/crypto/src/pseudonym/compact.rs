//! `P…`: reversible tokens of 64 characters from the alphabet of FHIR's `id` (`[A-Za-z0-9\-\.]{1,64}`).
//!
//! A `P1` token of a UUID is too long for a FHIR id, and has an underscore. This form has neither its head nor its
//! padding by buckets: `P ‖ 63 characters of 6 bits, the first bits of (SIV ‖ ciphertext), padded with zeros to 378 bits`.
//! The plaintext is always 31 bytes: `form (u8) ‖ packed id ‖ zeros`, where a UUID in lower case takes 16 bytes (form 255)
//! and any other id 6 bits a character, at most 40 characters (form = its length). The associated data is that of the `P1`
//! token of the same scope followed by `/id`, so a token of another project, domain or epoch does not authenticate.

use super::{PseudonymError, SIV};
use aes_siv::siv::Aes256Siv;
use std::fmt;
use zeroize::Zeroizing;

/// The longest id that is no UUID.
pub const ID_MAX: usize = 40;
const PLAIN: usize = 31;
const TOKEN: usize = 64;
const UUID_FORM: u8 = 255;
/// Where a UUID has its hyphens.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.";

/// Makes and undoes compact tokens of one scope.
pub struct Compact {
    pub(super) siv: Aes256Siv,
    pub(super) header: String,
}

impl fmt::Debug for Compact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compact(***)")
    }
}

impl Compact {
    /// Appends the token of an id.
    ///
    /// # Errors
    /// [`PseudonymError::Empty`]; [`PseudonymError::TooLong`] over [`ID_MAX`] characters; [`PseudonymError::Format`] for
    /// a character that no FHIR id has. `out` is unchanged then.
    pub fn encode(&mut self, id: &str, out: &mut Vec<u8>) -> Result<(), PseudonymError> {
        let mut plain = Zeroizing::new([0u8; PLAIN]);
        match uuid(id) {
            Some(bytes) => {
                plain[0] = UUID_FORM;
                plain[1..=bytes.len()].copy_from_slice(&bytes);
            }
            None if id.is_empty() => return Err(PseudonymError::Empty),
            None if id.len() > ID_MAX => return Err(PseudonymError::TooLong),
            None => {
                plain[0] = u8::try_from(id.len()).map_err(|_| PseudonymError::TooLong)?;
                let sixes: Option<Vec<u8>> = id.bytes().map(six).collect();
                pack(&sixes.ok_or(PseudonymError::Format)?, &mut plain[1..]);
            }
        }
        let tag = self.siv.encrypt_inout_detached([self.header.as_bytes()], (&mut plain[..]).into());
        let Ok(tag) = tag else { unreachable!("AES-SIV fails only for more than 126 headers") };
        let sealed: Vec<u8> = tag.iter().chain(plain.iter()).copied().collect();
        out.push(b'P');
        out.extend(unpack(&sealed, TOKEN - 1).map(|six| ALPHABET[usize::from(six)]));
        Ok(())
    }

    /// The id that a token stands for.
    ///
    /// # Errors
    /// [`PseudonymError`]: whatever is not exactly a token of this scope is refused.
    pub fn decode(&mut self, token: &str) -> Result<Zeroizing<String>, PseudonymError> {
        let text = token.strip_prefix('P').filter(|text| text.len() == TOKEN - 1).ok_or(PseudonymError::Format)?;
        let sixes: Option<Vec<u8>> = text.bytes().map(six).collect();
        let mut sealed = Zeroizing::new([0u8; SIV + PLAIN + 1]);
        pack(&sixes.ok_or(PseudonymError::Format)?, &mut sealed[..]);
        if sealed[SIV + PLAIN] != 0 {
            return Err(PseudonymError::Format);
        }
        let (tag, rest) = sealed.split_at_mut(SIV);
        let plain = &mut rest[..PLAIN];
        let tag = aes_siv::Tag::try_from(&*tag).map_err(|_| PseudonymError::Format)?;
        self.siv
            .decrypt_inout_detached([self.header.as_bytes()], (&mut *plain).into(), &tag)
            .map_err(|_| PseudonymError::Authentication)?;
        match plain[0] {
            UUID_FORM => {
                let digits = Zeroizing::new(hex::encode(&plain[1..17]));
                let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
                Ok(Zeroizing::new(parts.join("-")))
            }
            length => {
                let sixes = unpack(&plain[1..], usize::from(length).min(ID_MAX));
                Ok(Zeroizing::new(sixes.map(|six| char::from(ALPHABET[usize::from(six)])).collect()))
            }
        }
    }
}

/// The 16 bytes of a UUID that is written in lower case, as it will be written again.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let is_shape = text.len() == 36
        && text.bytes().enumerate().all(|(place, byte)| {
            if HYPHENS.contains(&place) { byte == b'-' } else { matches!(byte, b'0'..=b'9' | b'a'..=b'f') }
        });
    let digits = is_shape.then(|| text.replace('-', ""))?;
    let mut bytes = [0; 16];
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    Some(bytes)
}

fn six(letter: u8) -> Option<u8> {
    let value = match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'-' => 62,
        b'.' => 63,
        _ => return None,
    };
    Some(value)
}

/// Writes 6 bits each, the highest first; `out` is zeros and long enough.
fn pack(sixes: &[u8], out: &mut [u8]) {
    for (index, six) in sixes.iter().enumerate() {
        for bit in 0..6 {
            let place = index * 6 + bit;
            out[place / 8] |= (six >> (5 - bit) & 1) << (7 - place % 8);
        }
    }
}

/// Reads `count` times 6 bits; zeros behind the end.
fn unpack(bytes: &[u8], count: usize) -> impl Iterator<Item = u8> {
    (0..count).map(move |index| {
        (0..6).fold(0, |six, bit| {
            let place = index * 6 + bit;
            let byte = bytes.get(place / 8).copied().unwrap_or(0);
            six << 1 | (byte >> (7 - place % 8) & 1)
        })
    })
}
