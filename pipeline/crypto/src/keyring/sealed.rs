//! A key file under a passphrase, or under a key in a security module: who has the file alone has nothing.
//!
//! File (`keys.toml`, mode 0600, TOML, format 2), under a passphrase:
//! ```toml
//! kdf = "argon2id"     # RFC 9106, version 0x13
//! format = 2
//! memory_kib = 65536   # its second recommended choice (section 4)
//! passes = 3
//! lanes = 4
//! salt = "…"           # 16 random bytes, base64
//! nonce = "…"          # 12 random bytes, base64, new with every write
//! keys = "…"           # AES-256-GCM of the text of format 1, base64; tag at the end
//! ```
//! Associated data: `zegel-keys/2 ‖ memory ‖ passes ‖ lanes (u32 BE each) ‖ salt`, so weaker costs cannot be written in.
//! Under a module:
//! ```toml
//! kdf = "pkcs11"
//! format = 2
//! key = "pkcs11:…"     # RFC 7512: an AES key that never leaves the module
//! wrapped = "…"        # 32 random bytes, the key of `keys`, wrapped by the module for `zegel-keys/2 wrapped`, base64
//! nonce = "…"
//! keys = "…"
//! ```
//! Associated data: `zegel-keys/2 pkcs11 ‖ length of key (u32 BE) ‖ key ‖ wrapped`.
//! The key is derived or unwrapped once and kept, so a change of the file asks nobody again; under one key a few thousand random
//! nonces are used at most.
//! Failure behaviour: a wrong passphrase and a changed file look alike, and both are an error (I8). A module that is away is one too.

use super::cipher;
use crate::module::{Module, ModuleError};
use crate::secret::{Secret32, fill_random};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

const FORMAT: u32 = 2;
const LABEL: &[u8] = b"zegel-keys/2";
const MODULE_LABEL: &[u8] = b"zegel-keys/2 pkcs11";
/// What the module binds the wrapped key to.
const WRAPPED: &[u8] = b"zegel-keys/2 wrapped";
/// How the wrapping key is called in a module.
const WRAPPING_KEY: &str = "zegel key file";
/// Shorter ones are found by trying: 12 random letters are 56 bits, and each try costs 64 MiB for a tenth of a second.
const CHARACTERS_MIN: usize = 12;
/// Longer than any file of words that a person keeps.
const BYTES_MAX: usize = 1_024;
/// Most memory that a file may ask for: who can write the file must not be able to stop the machine.
const MEMORY_MAX_KIB: u32 = 1 << 20;
/// Most passes and lanes that a file may ask for.
const COST_MAX: u32 = 16;

/// What a key file is sealed under. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

/// Why a text is no passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a passphrase has 12 characters or more, and at most 1,024 bytes")]
pub struct PassphraseError;

impl Passphrase {
    /// Takes a text, without the line end that files have.
    ///
    /// # Errors
    /// [`PassphraseError`] when it is too short or too long.
    pub fn new(text: &str) -> Result<Passphrase, PassphraseError> {
        let text = text.trim_end_matches(['\r', '\n']);
        if text.chars().count() < CHARACTERS_MIN || text.len() > BYTES_MAX {
            return Err(PassphraseError);
        }
        Ok(Passphrase(Zeroizing::new(text.to_owned())))
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(***)")
    }
}

/// What trying a passphrase costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Costs {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// RFC 9106, section 4, second recommended choice.
pub(super) const COSTS: Costs = Costs { memory_kib: 64 << 10, passes: 3, lanes: 4 };

/// What opens a key file. One that is not sealed needs nothing of it.
#[derive(Debug, Clone, Default)]
pub struct Openers {
    /// For a file under a passphrase.
    pub passphrase: Option<Passphrase>,
    /// For a file under a key in a module.
    pub module: Option<Arc<dyn Module>>,
}

impl From<Passphrase> for Openers {
    fn from(passphrase: Passphrase) -> Openers {
        Openers { passphrase: Some(passphrase), module: None }
    }
}

/// What a key file is sealed under from now on.
#[derive(Debug, Clone)]
pub enum SealUnder {
    /// A passphrase.
    Passphrase(Passphrase),
    /// A new key in a module.
    Module(Arc<dyn Module>),
}

/// What a key file is sealed under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// A passphrase.
    Passphrase,
    /// A key in a module.
    Module {
        /// Which (RFC 7512).
        uri: String,
    },
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Guard::Passphrase => f.write_str("a passphrase"),
            Guard::Module { uri } => f.write_str(uri),
        }
    }
}

/// The key of a file, and where it came from.
#[derive(Clone)]
pub(super) struct FileKey {
    origin: Origin,
    key: Secret32,
}

#[derive(Clone, PartialEq, Eq)]
enum Origin {
    Passphrase { costs: Costs, salt: [u8; 16] },
    Module { uri: String, wrapped: Vec<u8> },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kdf", deny_unknown_fields)]
enum FileText {
    #[serde(rename = "argon2id")]
    Argon2id { format: u32, memory_kib: u32, passes: u32, lanes: u32, salt: String, nonce: String, keys: String },
    #[serde(rename = "pkcs11")]
    Module { format: u32, key: String, wrapped: String, nonce: String, keys: String },
}

/// Why a sealed text does not open.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OpenError {
    /// It is not of this form.
    Form(&'static str),
    /// Another passphrase, or the text was changed.
    Authentication,
    /// What would open it was not given.
    Needs(&'static str),
    /// The module does not unwrap its key.
    Module(ModuleError),
}

impl From<&'static str> for OpenError {
    fn from(rule: &'static str) -> OpenError {
        OpenError::Form(rule)
    }
}

impl From<ModuleError> for OpenError {
    fn from(error: ModuleError) -> OpenError {
        OpenError::Module(error)
    }
}

/// Whether a key file's text says that it is sealed.
pub(super) fn is_sealed(toml: &str) -> bool {
    #[derive(Deserialize)]
    struct Head {
        #[serde(rename = "kdf")]
        _kdf: IgnoredAny,
    }
    toml::from_str::<Head>(toml).is_ok()
}

impl FileKey {
    /// A fresh key.
    pub(super) fn fresh(under: &SealUnder, costs: Costs) -> Result<FileKey, OpenError> {
        match under {
            SealUnder::Passphrase(passphrase) => {
                let mut salt = [0; 16];
                fill_random(&mut salt);
                FileKey::derived(passphrase, costs, salt)
            }
            SealUnder::Module(module) => {
                let uri = module.generate_wrapping(WRAPPING_KEY)?;
                let key = Secret32::random();
                let wrapped = module.wrap(&uri, WRAPPED, key.expose())?;
                Ok(FileKey { origin: Origin::Module { uri, wrapped }, key })
            }
        }
    }

    fn derived(passphrase: &Passphrase, costs: Costs, salt: [u8; 16]) -> Result<FileKey, OpenError> {
        let mut key = Zeroizing::new([0; 32]);
        let params = Params::new(costs.memory_kib, costs.passes, costs.lanes, Some(key.len()));
        let params = params.map_err(|_| "its costs are not those of Argon2id")?;
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.0.as_bytes(), &salt, &mut *key)
            .map_err(|_| "its costs are not those of Argon2id")?;
        Ok(FileKey { origin: Origin::Passphrase { costs, salt }, key: Secret32::new(*key) })
    }

    /// The key that a file was sealed under.
    fn of(origin: Origin, openers: &Openers) -> Result<FileKey, OpenError> {
        match origin {
            Origin::Passphrase { costs, salt } => {
                let passphrase = openers.passphrase.as_ref();
                let passphrase = passphrase
                    .ok_or(OpenError::Needs("a passphrase: say where it is in the setting keys.passphrase"))?;
                FileKey::derived(passphrase, costs, salt)
            }
            Origin::Module { uri, wrapped } => {
                let module = openers.module.as_ref();
                let module =
                    module.ok_or(OpenError::Needs("a key in a security module: name it in the setting keys.module"))?;
                let key = module.unwrap(&uri, WRAPPED, &wrapped)?;
                let key =
                    <[u8; 32]>::try_from(key.as_slice()).map(Zeroizing::new).map_err(|_| "its key is not 32 bytes")?;
                Ok(FileKey { origin: Origin::Module { uri, wrapped }, key: Secret32::new(*key) })
            }
        }
    }

    /// What the file is sealed under.
    pub(super) fn guard(&self) -> Guard {
        match &self.origin {
            Origin::Passphrase { .. } => Guard::Passphrase,
            Origin::Module { uri, .. } => Guard::Module { uri: uri.clone() },
        }
    }

    /// The file's text around a text of format 1.
    pub(super) fn seal(&self, plain: &str) -> String {
        let mut nonce = [0; 12];
        fill_random(&mut nonce);
        let mut bytes = Zeroizing::new(plain.as_bytes().to_vec());
        let aad = aead::Aad::from(self.origin.associated());
        let cipher = cipher(self.key.expose());
        match cipher.seal_in_place_separate_tag(aead::Nonce::assume_unique_for_key(nonce), aad, &mut bytes) {
            Ok(tag) => bytes.extend_from_slice(tag.as_ref()),
            Err(_) => unreachable!("a key file is never too long for AES-GCM"),
        }
        let base64 = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
        let (nonce, keys) = (base64(&nonce), base64(&bytes));
        let (text, kept) = match &self.origin {
            Origin::Passphrase { costs: Costs { memory_kib, passes, lanes }, salt } => (
                FileText::Argon2id {
                    format: FORMAT,
                    memory_kib: *memory_kib,
                    passes: *passes,
                    lanes: *lanes,
                    salt: base64(salt),
                    nonce,
                    keys,
                },
                "of the passphrase elsewhere",
            ),
            Origin::Module { uri, wrapped } => (
                FileText::Module { format: FORMAT, key: uri.clone(), wrapped: base64(wrapped), nonce, keys },
                "of the security module as its maker says",
            ),
        };
        match toml::to_string(&text) {
            Ok(toml) => format!("# Keys of a Zegel data folder, sealed: keep a copy of it, and {kept}.\n{toml}"),
            Err(_) => unreachable!("strings and numbers always print as TOML"),
        }
    }
}

impl Origin {
    fn associated(&self) -> Vec<u8> {
        match self {
            Origin::Passphrase { costs: Costs { memory_kib, passes, lanes }, salt } => {
                let costs: Vec<u8> = [memory_kib, passes, lanes].iter().flat_map(|cost| cost.to_be_bytes()).collect();
                [LABEL, &costs, salt].concat()
            }
            Origin::Module { uri, wrapped } => {
                let length = u32::try_from(uri.len()).unwrap_or(u32::MAX);
                [MODULE_LABEL, &length.to_be_bytes(), uri.as_bytes(), wrapped].concat()
            }
        }
    }
}

/// What a sealed text says, in bytes.
struct Parsed {
    origin: Origin,
    nonce: [u8; 12],
    keys: Vec<u8>,
}

fn parse(toml: &str) -> Result<Parsed, OpenError> {
    let bytes = |text: &str| BASE64_STANDARD.decode(text).map_err(|_| "a value is not base64");
    let text = toml::from_str(toml).map_err(|_| "is not a sealed key file (TOML with format, kdf, keys)")?;
    let (format, origin, nonce, keys) = match text {
        FileText::Argon2id { format, memory_kib, passes, lanes, salt, nonce, keys } => {
            if memory_kib > MEMORY_MAX_KIB || passes > COST_MAX || lanes > COST_MAX {
                return Err("argon2id may cost at most 1 GiB, 16 passes and 16 lanes".into());
            }
            let salt = <[u8; 16]>::try_from(bytes(&salt)?).map_err(|_| "salt must be 16 bytes")?;
            (format, Origin::Passphrase { costs: Costs { memory_kib, passes, lanes }, salt }, nonce, keys)
        }
        FileText::Module { format, key, wrapped, nonce, keys } => {
            (format, Origin::Module { uri: key, wrapped: bytes(&wrapped)? }, nonce, keys)
        }
    };
    if format != FORMAT {
        return Err("format must be 2".into());
    }
    let nonce = <[u8; 12]>::try_from(bytes(&nonce)?).map_err(|_| "nonce must be 12 bytes")?;
    Ok(Parsed { origin, nonce, keys: bytes(&keys)? })
}

/// Opens a sealed text; `known` is a key that opened it before.
pub(super) fn open(
    toml: &str,
    openers: &Openers,
    known: Option<&FileKey>,
) -> Result<(Zeroizing<String>, FileKey), OpenError> {
    let Parsed { origin, nonce, keys } = parse(toml)?;
    let key = match known.filter(|known| known.origin == origin) {
        Some(known) => known.clone(),
        None => FileKey::of(origin, openers)?,
    };
    let mut keys = Zeroizing::new(keys);
    let aad = aead::Aad::from(key.origin.associated());
    let nonce = aead::Nonce::assume_unique_for_key(nonce);
    let opened = cipher(key.key.expose()).open_in_place(nonce, aad, &mut keys);
    let length = opened.map_err(|_| OpenError::Authentication)?.len();
    let plain = std::str::from_utf8(&keys[..length]).map_err(|_| "its keys are no text")?;
    Ok((Zeroizing::new(plain.to_owned()), key))
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Costs that a test can pay.
    pub const CHEAP: Costs = Costs { memory_kib: 64, passes: 1, lanes: 1 };

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text).unwrap()
    }

    fn key(text: &str) -> FileKey {
        FileKey::fresh(&SealUnder::Passphrase(passphrase(text)), CHEAP).unwrap_or_else(|_| unreachable!("valid costs"))
    }

    #[test]
    fn argon2id_is_that_of_the_rfc_and_the_costs_that_are_written_are_paid() {
        // RFC 9106 has vectors with a secret and associated data only; this one is of the reference implementation's tests
        // (version 0x13, t = 2, m = 2^16, p = 1, "password", "somesalt"), which has a salt of 8 bytes.
        let mut key = [0; 32];
        let params = Params::new(1 << 16, 2, 1, Some(32)).unwrap();
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon.hash_password_into(b"password", b"somesalt", &mut key).unwrap();
        assert_eq!(hex::encode(key), "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7");
    }

    #[test]
    fn a_sealed_text_opens_with_its_passphrase_only_and_every_changed_character_is_noticed() {
        let right = passphrase("correct horse battery").into();
        let derived = key("correct horse battery");
        let text = derived.seal("format = 1 and so on");
        assert!(is_sealed(&text) && !text.contains("so on"));
        assert_eq!(*open(&text, &right, None).unwrap().0, "format = 1 and so on");
        assert_eq!(*open(&format!("{text}\n# a comment"), &right, Some(&derived)).unwrap().0, "format = 1 and so on");
        let wrong = open(&text, &passphrase("correct horse battery.").into(), None);
        assert_eq!(wrong.err(), Some(OpenError::Authentication));
        for (from, to) in
            [("passes = 1", "passes = 2"), ("memory_kib = 64", "memory_kib = 65"), ("lanes = 1", "lanes = 2")]
        {
            assert!(open(&text.replace(from, to), &right, None).is_err(), "{to}");
            assert!(open(&text.replace(from, to), &right, Some(&derived)).is_err(), "{to}");
        }
        let start = text.find("keys = \"").unwrap() + 8;
        for at in start..text.len() - 4 {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(open(std::str::from_utf8(&changed).unwrap(), &right, Some(&derived)).is_err(), "character {at}");
        }
    }

    #[test]
    fn a_file_that_asks_for_the_whole_machine_is_refused_before_anything_is_derived() {
        let right = passphrase("correct horse battery").into();
        let text = key("correct horse battery").seal("x");
        for (from, to) in [("memory_kib = 64", "memory_kib = 4000000000"), ("passes = 1", "passes = 4000000000")] {
            assert!(matches!(open(&text.replace(from, to), &right, None), Err(OpenError::Form(_))), "{to}");
        }
    }

    #[test]
    fn a_short_passphrase_is_refused_and_none_is_printed() {
        assert!(Passphrase::new("elevenchars\n").is_err());
        assert!(Passphrase::new(&"x".repeat(1_025)).is_err());
        assert_eq!(format!("{:?}", passphrase("twelve chars")), "Passphrase(***)");
    }
}
