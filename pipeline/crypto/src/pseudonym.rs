//! Pseudonyms: what the TTP puts in the place of an identifier. The only place that uses AES-SIV and its HMAC.
//!
//! Keys: HKDF-SHA-256 Expand (RFC 5869, section 2.3) of the project's random root, with the info
//! `tag (u8) ‖ length (u16 BE) ‖ bytes` for each of label `zegel-ttp/1`, recipient, direction, domain, purpose, epoch
//! (u32 BE) and, where numbers are issued locally, the sender; lengths keep `a‖bc` apart from `ab‖c`.
//!
//! | token | made by | can be undone |
//! | --- | --- | --- |
//! | `P1.<kid>.<base64url(SIV ‖ ciphertext)>` | AES-256-SIV (RFC 5297, 64-byte key), associated data `P1.<kid>` | with the root |
//! | `H1.<kid>.<base64url(tag)>` | HMAC-SHA-256 cut to 16 bytes | never |
//! | `E1.<kid>.<base64url(tag ‖ sealed)>` | the tag of `H1`, and the value sealed for the decode role ([`Escrow`]) | with the decode role's private key |
//! | `R1.<kid>.<base64url(…)>` | AES-256-GCM-SIV with a random nonce ([`Randomised`]): equal values do not link | with the root |
//! | `P` and 63 characters | AES-256-SIV, fit for a FHIR id ([`Compact`]) | with the root |
//! | `N` and 28 characters | AES-256-SIV, binds a delivered row to its tokens ([`RowNumbers`]) | in its exchange |
//! | 11 digits | FF1 over the ranked national numbers ([`SsinCipher`]) | with the root, unauthenticated |
//!
//! `kid` is `<epoch>-<8 hex digits>`; the digits are 4 bytes derived for (recipient, direction, domain, epoch), without
//! the sender: with it, they would be a stable mark of the sender on each of its tokens. The plaintext of a `P1` token
//! is `length (u16 BE) ‖ value ‖ zeros` up to 16, 32, 64 … 1,024 bytes, because SIV shows the length.
//!
//! Invariants: equal values give equal tokens in one scope and different ones in any other. Who can make a `P1` token can
//! undo it: AES-SIV is symmetric, and in one process all keys share one memory.
//! Failure: a token of another project, recipient, domain or sender is refused ([`PseudonymError`]), never decoded to
//! something else (I8). No error or `Debug` shows a value, a token or a key.

mod compact;
mod encode_only;
pub mod escrow;
mod numbers;
mod randomised;
mod ssin;

pub use compact::{Compact, ID_MAX};
pub use encode_only::{EncodeKeys, Needed};
pub use escrow::Escrow;
pub use numbers::{PLACES_MAX, RowNumbers};
pub use randomised::{NONCE, Randomised};
pub use ssin::SsinCipher;

use crate::ff1::Ff1;
use aes_siv::siv::Aes256Siv;
use aws_lc_rs::aead::{AES_256_GCM_SIV, LessSafeKey, UnboundKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// The longest value that can be tokenised: what fits the largest bucket behind its length. The Seals service allows
/// 750 characters, so this is room enough.
pub const VALUE_MAX: usize = BUCKET_MAX - LENGTH;

const LABEL: &[u8] = b"zegel-ttp/1";
/// From the hospital to the researcher. The way back will have keys of its own.
const FORWARD: &[u8] = b"forward";
const SIV: usize = 16;
const LENGTH: usize = 2;
/// Smallest plaintext: an SSIN with its length in front needs 13 bytes.
const BUCKET_MIN: usize = 16;
const BUCKET_MAX: usize = 1_024;
/// 128 bits: the least that a one-way token may have.
const MAC: usize = 16;
const SIV_KEY: usize = 64;

/// Why a token could not be made or undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PseudonymError {
    /// An empty value is nobody; it never becomes a token.
    #[error("an empty value has no pseudonym")]
    Empty,
    /// The value is over [`VALUE_MAX`] bytes.
    #[error("value is longer than 1022 bytes")]
    TooLong,
    /// The text is no token of this kind.
    #[error("text is not a pseudonym token")]
    Format,
    /// The key id is another one: another project, recipient, domain or epoch.
    #[error("token was made with another key")]
    OtherKey,
    /// The token does not authenticate: it was changed, or made for another sender.
    #[error("token fails authentication")]
    Authentication,
}

/// What a token holds for. Tokens of equal values are equal within one scope and of one kind, and nowhere else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Scope<'a> {
    /// The recipient's mailbox address.
    pub recipient: &'a str,
    /// What the values are numbers of, for example `ssin`: fields with the same domain link.
    pub domain: &'a str,
    /// Generation of the keys, from 1.
    pub epoch: u32,
    /// The sender's mailbox address, for numbers that each sender issues itself.
    pub sender: Option<&'a str>,
}

/// The root of a project (or of a family of projects that share pseudonyms), ready to derive keys from. Wiped when
/// dropped.
#[derive(Clone)]
pub struct PseudonymRoot(Zeroizing<[u8; 32]>);

impl fmt::Debug for PseudonymRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PseudonymRoot(***)")
    }
}

impl PseudonymRoot {
    /// Takes a copy of a 32-byte random root.
    #[must_use]
    pub fn new(root: &[u8; 32]) -> PseudonymRoot {
        PseudonymRoot(Zeroizing::new(*root))
    }

    /// The maker of reversible tokens for this scope.
    #[must_use]
    pub fn reversible(&self, scope: &Scope<'_>) -> Reversible {
        let head = self.head("P1", "siv-check", scope);
        Reversible { siv: self.siv(scope, "siv"), head, buffer: Zeroizing::new(Vec::new()) }
    }

    /// The maker of reversible tokens that fit a FHIR id.
    #[must_use]
    pub fn compact(&self, scope: &Scope<'_>) -> Compact {
        let header = format!("{}/id", self.head("P1", "siv-check", scope));
        Compact { siv: self.siv(scope, "siv-id"), header }
    }

    /// The maker of tokens that do not link.
    #[must_use]
    pub fn randomised(&self, scope: &Scope<'_>) -> Randomised {
        let mut key = Zeroizing::new([0u8; 32]);
        self.derive(scope, "gcm-siv", &mut key[..]);
        let key = UnboundKey::new(&AES_256_GCM_SIV, &key[..]).map(LessSafeKey::new);
        let Ok(key) = key else { unreachable!("32 bytes are the key length of AES-256-GCM-SIV") };
        Randomised { key, head: self.head("R1", "gcm-siv-check", scope) }
    }

    /// The cipher that makes national numbers of national numbers.
    #[must_use]
    pub fn ssin_cipher(&self, scope: &Scope<'_>) -> SsinCipher {
        let mut key = Zeroizing::new([0u8; 32]);
        self.derive(scope, "fpe", &mut key[..]);
        let cipher = Ff1::new(&key, 10);
        let Ok(cipher) = cipher else { unreachable!("10 is a radix of FF1") };
        SsinCipher { cipher }
    }

    /// A keyed number of `value`, the same each time, that says nothing about it: for what is to be drawn once per
    /// patient. `purpose` keeps draws for different things apart.
    #[must_use]
    pub fn draw(&self, scope: &Scope<'_>, purpose: &str) -> Draw {
        use hmac::KeyInit;
        let mut key = Zeroizing::new([0u8; 32]);
        self.derive(scope, &format!("draw-{purpose}"), &mut key[..]);
        let mac = Hmac::<Sha256>::new_from_slice(&key[..]);
        let Ok(mac) = mac else { unreachable!("HMAC takes keys of any length") };
        Draw(mac)
    }

    /// The maker of the row numbers of one exchange.
    #[must_use]
    pub fn row_numbers(&self, recipient: &str, epoch: u32, exchange: &[u8; 16]) -> RowNumbers {
        let domain = hex::encode(exchange);
        let scope = Scope { recipient, domain: &domain, epoch, sender: None };
        RowNumbers { siv: self.siv(&scope, "row-number") }
    }

    fn siv(&self, scope: &Scope<'_>, purpose: &str) -> Aes256Siv {
        use aes_siv::KeyInit;
        let mut key = Zeroizing::new([0u8; SIV_KEY]);
        self.derive(scope, purpose, &mut key[..]);
        let siv = Aes256Siv::new_from_slice(&key[..]);
        let Ok(siv) = siv else { unreachable!("64 bytes are the key length of AES-256-SIV") };
        siv
    }

    /// The maker of one-way tokens for this scope.
    #[must_use]
    pub fn one_way(&self, scope: &Scope<'_>) -> OneWay {
        use hmac::KeyInit;
        let mut key = Zeroizing::new([0u8; 32]);
        self.derive(scope, "mac", &mut key[..]);
        let mac = Hmac::<Sha256>::new_from_slice(&key[..]);
        let Ok(mac) = mac else { unreachable!("HMAC takes keys of any length") };
        OneWay { mac, head: self.head("H1", "mac-check", scope) }
    }

    /// `<kind>.<kid>`: the beginning of every token of the scope.
    fn head(&self, kind: &str, purpose: &str, scope: &Scope<'_>) -> String {
        let mut check = [0u8; 4];
        self.derive(&Scope { sender: None, ..*scope }, purpose, &mut check);
        format!("{kind}.{}-{}", scope.epoch, hex::encode(check))
    }

    fn derive(&self, scope: &Scope<'_>, purpose: &str, key: &mut [u8]) {
        let info = info(scope, purpose);
        let derived = Hkdf::<Sha256>::from_prk(&self.0[..]).map(|prk| prk.expand(&info, key));
        assert!(matches!(derived, Ok(Ok(()))), "32 bytes are a PRK of HKDF-SHA-256, and at most 64 are asked of it");
    }
}

fn info(scope: &Scope<'_>, purpose: &str) -> Vec<u8> {
    let epoch = scope.epoch.to_be_bytes();
    let items = [
        (1, Some(LABEL)),
        (2, Some(scope.recipient.as_bytes())),
        (3, Some(FORWARD)),
        (4, Some(scope.domain.as_bytes())),
        (5, Some(purpose.as_bytes())),
        (6, Some(&epoch[..])),
        (7, scope.sender.map(str::as_bytes)),
    ];
    let mut info = Vec::with_capacity(128);
    for (tag, bytes) in items.into_iter().filter_map(|(tag, bytes)| Some((tag, bytes?))) {
        let length = u16::try_from(bytes.len());
        let Ok(length) = length else { unreachable!("addresses and domains are far under 64 KiB") };
        info.push(tag);
        info.extend_from_slice(&length.to_be_bytes());
        info.extend_from_slice(bytes);
    }
    info
}

/// Makes and undoes `P1` tokens of one scope.
pub struct Reversible {
    siv: Aes256Siv,
    head: String,
    buffer: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Reversible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reversible(***)")
    }
}

impl Reversible {
    /// `<kind>.<kid>`: how each of its tokens begins.
    #[must_use]
    pub fn head(&self) -> &str {
        &self.head
    }

    /// Appends the token of `value` to `out`.
    ///
    /// # Errors
    /// [`PseudonymError::Empty`] or [`PseudonymError::TooLong`]; `out` is unchanged then.
    pub fn encode(&mut self, value: &[u8], out: &mut Vec<u8>) -> Result<(), PseudonymError> {
        let length = checked_length(value)?;
        let bucket = (LENGTH + value.len()).next_power_of_two().max(BUCKET_MIN);
        self.buffer.clear();
        self.buffer.resize(SIV, 0);
        self.buffer.extend_from_slice(&length.to_be_bytes());
        self.buffer.extend_from_slice(value);
        self.buffer.resize(SIV + bucket, 0);
        let (room, text) = self.buffer.split_at_mut(SIV);
        let tag = self.siv.encrypt_inout_detached([self.head.as_bytes()], text.into());
        let Ok(tag) = tag else { unreachable!("AES-SIV fails only for more than 126 headers") };
        room.copy_from_slice(&tag);
        append(out, &self.head, &self.buffer);
        Ok(())
    }

    /// The value that a token stands for.
    ///
    /// # Errors
    /// [`PseudonymError`]: whatever is not exactly a token of this scope is refused.
    pub fn decode(&mut self, token: &str) -> Result<Zeroizing<Vec<u8>>, PseudonymError> {
        let mut bytes = Zeroizing::new(body(token, "P1.", &self.head)?);
        let sizes = SIV + BUCKET_MIN..=SIV + BUCKET_MAX;
        if !sizes.contains(&bytes.len()) || !(bytes.len() - SIV).is_power_of_two() {
            return Err(PseudonymError::Format);
        }
        let (tag, text) = bytes.split_at_mut(SIV);
        let tag = aes_siv::Tag::try_from(&*tag).map_err(|_| PseudonymError::Format)?;
        self.siv
            .decrypt_inout_detached([self.head.as_bytes()], text.into(), &tag)
            .map_err(|_| PseudonymError::Authentication)?;
        let (length, padded) = text.split_at(LENGTH);
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let value = padded.get(..length).ok_or(PseudonymError::Format)?;
        Ok(Zeroizing::new(value.to_vec()))
    }
}

/// Makes `H1` tokens of one scope.
#[derive(Clone)]
pub struct OneWay {
    mac: Hmac<Sha256>,
    head: String,
}

impl fmt::Debug for OneWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneWay(***)")
    }
}

impl OneWay {
    /// `<kind>.<kid>`: how each of its tokens begins.
    #[must_use]
    pub fn head(&self) -> &str {
        &self.head
    }

    /// Appends the token of `value` to `out`.
    ///
    /// # Errors
    /// [`PseudonymError::Empty`] or [`PseudonymError::TooLong`]; `out` is unchanged then.
    pub fn encode(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), PseudonymError> {
        let tag = self.tag(value)?;
        append(out, &self.head, &tag[..]);
        Ok(())
    }

    /// Appends the token of `value` with the tag in hexadecimal, so that it fits a FHIR id: `H1.<kid>.<32 digits>`.
    ///
    /// # Errors
    /// As [`OneWay::encode`].
    pub fn encode_id(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), PseudonymError> {
        let tag = self.tag(value)?;
        out.extend_from_slice(self.head.as_bytes());
        out.push(b'.');
        out.extend_from_slice(hex::encode(&tag[..]).as_bytes());
        Ok(())
    }

    fn tag(&self, value: &[u8]) -> Result<Zeroizing<[u8; MAC]>, PseudonymError> {
        checked_length(value)?;
        let mut mac = self.mac.clone();
        mac.update(value);
        let mut whole = mac.finalize().into_bytes();
        let mut tag = Zeroizing::new([0; MAC]);
        tag.copy_from_slice(&whole[..MAC]);
        whole.zeroize();
        Ok(tag)
    }
}

/// Keyed numbers of values. See [`PseudonymRoot::draw`].
#[derive(Clone)]
pub struct Draw(Hmac<Sha256>);

impl fmt::Debug for Draw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Draw(***)")
    }
}

impl Draw {
    /// 128 bits for this value.
    #[must_use]
    pub fn of(&self, value: &[u8]) -> [u8; 16] {
        let mut mac = self.0.clone();
        mac.update(value);
        let tag = mac.finalize().into_bytes();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&tag[..16]);
        bytes
    }
}

fn checked_length(value: &[u8]) -> Result<u16, PseudonymError> {
    match u16::try_from(value.len()) {
        Ok(0) => Err(PseudonymError::Empty),
        Ok(length) if value.len() <= VALUE_MAX => Ok(length),
        _ => Err(PseudonymError::TooLong),
    }
}

fn append(out: &mut Vec<u8>, head: &str, bytes: &[u8]) {
    out.extend_from_slice(head.as_bytes());
    out.push(b'.');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut out[start..]);
    let Ok(written) = written else { unreachable!("base64 needs four characters for three bytes") };
    out.truncate(start + written);
}

/// The bytes behind the head, when the head is the expected one.
fn body(token: &str, kind: &str, head: &str) -> Result<Vec<u8>, PseudonymError> {
    if !token.starts_with(kind) {
        return Err(PseudonymError::Format);
    }
    let (found, text) = token.rsplit_once('.').ok_or(PseudonymError::Format)?;
    if found != head {
        return Err(PseudonymError::OtherKey);
    }
    URL_SAFE_NO_PAD.decode(text).map_err(|_| PseudonymError::Format)
}

#[cfg(test)]
#[path = "pseudonym/tests.rs"]
mod tests;
