//! Keys for a process that encodes and can do nothing else: those of one-way tokens, each by itself, and not the root that all come from.
//!
//! File (TOML, to be kept like any key; all keys are 32 bytes in base64):
//! ```toml
//! format = 1
//! recipient = "CBE:0123456749"
//! epoch = 1
//! [[key]]
//! domain = "ssin"
//! sender = "NIHII-HOSPITAL:71000436"   # where each sender has its own
//! head = "H1.1-0a1b2c3d"
//! key = "…"
//! ```
//! Invariant: HKDF is one-way, so neither the root nor the key of another domain, epoch or kind of token follows from what is here; the
//! type has no function that decodes, and [`OneWay`] has none. Who has the keys can still try values one by one, as with any keyed hash.
//! Failure: a file that is not exactly of this form is refused with its rule, never with a line of it.

use super::{OneWay, PseudonymRoot, Scope};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// Keys of one-way tokens for one recipient and generation.
///
/// What encodes only cannot decode; this does not compile:
/// ```compile_fail
/// fn undo(keys: zegel_crypto::pseudonym::EncodeKeys, scope: &zegel_crypto::pseudonym::Scope<'_>) {
///     keys.one_way(scope).unwrap().decode("H1.1-00000000.AAAA");
/// }
/// ```
pub struct EncodeKeys(FileText);

impl fmt::Debug for EncodeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncodeKeys(***)")
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    format: u32,
    recipient: String,
    epoch: u32,
    key: Vec<KeyText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyText {
    domain: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sender: Option<String>,
    head: String,
    key: String,
}

impl Drop for KeyText {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl PseudonymRoot {
    /// The keys of one-way tokens for these scopes, which are of one recipient and epoch, for a process that is to have no others.
    #[must_use]
    pub fn encode_keys<'s>(
        &self,
        recipient: &str,
        epoch: u32,
        scopes: impl IntoIterator<Item = (&'s str, Option<&'s str>)>,
    ) -> EncodeKeys {
        let one = |(domain, sender): (&str, Option<&str>)| {
            let scope = Scope { recipient, domain, epoch, sender };
            let mut key = Zeroizing::new([0u8; 32]);
            self.derive(&scope, "mac", &mut key[..]);
            KeyText {
                domain: domain.to_owned(),
                sender: sender.map(str::to_owned),
                head: self.head("H1", "mac-check", &scope),
                key: BASE64_STANDARD.encode(&key[..]),
            }
        };
        let key = scopes.into_iter().map(one).collect();
        EncodeKeys(FileText { format: 1, recipient: recipient.to_owned(), epoch, key })
    }
}

impl EncodeKeys {
    /// The file's text.
    #[must_use]
    pub fn to_toml(&self) -> Zeroizing<String> {
        match toml::to_string(&self.0) {
            Ok(text) => {
                Zeroizing::new(format!("# Keys that encode and cannot decode. Who has them can try values.\n{text}"))
            }
            Err(_) => unreachable!("strings and numbers always print as TOML"),
        }
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn from_toml(text: &str) -> Result<EncodeKeys, &'static str> {
        let keys: FileText = toml::from_str(text).map_err(|_| "is not a file of encode-only keys")?;
        if keys.format != 1 {
            return Err("format must be 1");
        }
        if keys.key.iter().any(|key| bytes(&key.key).is_none()) {
            return Err("a key must be 32 bytes in base64");
        }
        Ok(EncodeKeys(keys))
    }

    /// Generation of the keys.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.0.epoch
    }

    /// The maker of one-way tokens for this scope; none when its key is not among these.
    #[must_use]
    pub fn one_way(&self, scope: &Scope<'_>) -> Option<OneWay> {
        if scope.recipient != self.0.recipient || scope.epoch != self.0.epoch {
            return None;
        }
        let found =
            self.0.key.iter().find(|key| key.domain == scope.domain && key.sender.as_deref() == scope.sender)?;
        let mac = Hmac::<Sha256>::new_from_slice(&bytes(&found.key)?[..]).ok()?;
        Some(OneWay { mac, head: found.head.clone() })
    }
}

fn bytes(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let bytes = Zeroizing::new(BASE64_STANDARD.decode(text).ok()?);
    <[u8; 32]>::try_from(bytes.as_slice()).ok().map(Zeroizing::new)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const RECIPIENT: &str = "CBE:0123456749";

    fn scope<'a>(domain: &'a str, sender: Option<&'a str>, epoch: u32) -> Scope<'a> {
        Scope { recipient: RECIPIENT, domain, epoch, sender }
    }

    fn token(maker: &OneWay) -> Vec<u8> {
        let mut out = Vec::new();
        maker.encode(b"85061511796", &mut out).unwrap();
        out
    }

    #[test]
    fn the_same_tokens_are_made_without_the_root_and_no_others() {
        let root = PseudonymRoot::new(&[7; 32]);
        let text = root.encode_keys(RECIPIENT, 2, [("ssin", None), ("no", Some("hospital"))]).to_toml();
        let keys = EncodeKeys::from_toml(&text).unwrap();
        for (domain, sender) in [("ssin", None), ("no", Some("hospital"))] {
            let scope = scope(domain, sender, 2);
            assert_eq!(token(&keys.one_way(&scope).unwrap()), token(&root.one_way(&scope)));
        }
        for other in [scope("no", None, 2), scope("ssin", None, 1), scope("no", Some("other"), 2), scope("x", None, 2)]
        {
            assert!(keys.one_way(&other).is_none());
        }
        assert!(keys.one_way(&Scope { recipient: "CBE:0000000000", ..scope("ssin", None, 2) }).is_none());
    }

    #[test]
    fn what_an_encode_only_process_gets_undoes_no_token_of_the_project() {
        let root = PseudonymRoot::new(&[7; 32]);
        let text = root.encode_keys(RECIPIENT, 1, [("ssin", None)]).to_toml();
        assert!(!text.contains(&BASE64_STANDARD.encode([7; 32])), "the root is in the file");
        let (mut reversible, mut random) = (Vec::new(), Vec::new());
        root.reversible(&scope("ssin", None, 1)).encode(b"85061511796", &mut reversible).unwrap();
        root.randomised(&scope("ssin", None, 1)).encode(b"85061511796", [1; 12], &mut random).unwrap();
        // Every secret of the file, taken for a root: what a thief would try first.
        let keys: FileText = toml::from_str(&text).unwrap();
        for key in &keys.key {
            let stolen = PseudonymRoot::new(&bytes(&key.key).unwrap());
            let (reversible, random) = (String::from_utf8_lossy(&reversible), String::from_utf8_lossy(&random));
            assert!(stolen.reversible(&scope("ssin", None, 1)).decode(&reversible).is_err());
            assert!(stolen.randomised(&scope("ssin", None, 1)).decode(&random).is_err());
        }
    }

    #[test]
    fn a_spoilt_file_is_refused_and_none_is_printed() {
        let root = PseudonymRoot::new(&[7; 32]);
        let keys = root.encode_keys(RECIPIENT, 1, [("ssin", None)]);
        let text = keys.to_toml();
        for (from, to) in [("format = 1", "format = 2"), ("key = \"", "key = \"A"), ("epoch", "epcoh")] {
            assert!(EncodeKeys::from_toml(&text.replacen(from, to, 1)).is_err(), "{to}");
        }
        assert_eq!(format!("{keys:?}"), "EncodeKeys(***)");
    }
}
