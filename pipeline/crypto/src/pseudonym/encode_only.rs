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
//! escrow = "…"                         # where tokens also hold the value, sealed for the decode role
//! ```
//! Invariant: HKDF is one-way, so neither the root nor the key of another domain, epoch or kind of token follows from what is here; the
//! type has no function that decodes, and [`OneWay`] has none; an [`Escrow`] of these keys seals for a public key and opens nothing. Who has the keys can still try values one by one, as with any keyed hash.
//! Failure: a file that is not exactly of this form is refused with its rule, never with a line of it.

use super::{Escrow, OneWay, PseudonymRoot, Scope};
use crate::hpke::SealKey;
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    escrow: Option<String>,
}

/// One key that a process needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needed<'s> {
    /// The domain of its tokens.
    pub domain: &'s str,
    /// Whose numbers they are, where each sender issues its own.
    pub sender: Option<&'s str>,
    /// Whether tokens also hold the value, sealed for the decode role.
    pub is_escrow: bool,
}

impl Drop for KeyText {
    fn drop(&mut self) {
        self.key.zeroize();
        self.escrow.zeroize();
    }
}

impl PseudonymRoot {
    /// The keys of one-way tokens for these scopes, which are of one recipient and epoch, for a process that is to have no others.
    #[must_use]
    pub fn encode_keys<'s>(
        &self,
        recipient: &str,
        epoch: u32,
        scopes: impl IntoIterator<Item = Needed<'s>>,
    ) -> EncodeKeys {
        let one = |Needed { domain, sender, is_escrow }: Needed<'_>| {
            let scope = Scope { recipient, domain, epoch, sender };
            let (mut key, mut escrow) = (Zeroizing::new([0u8; 32]), Zeroizing::new([0u8; 32]));
            self.derive(&scope, "mac", &mut key[..]);
            self.derive(&scope, "escrow", &mut escrow[..]);
            KeyText {
                domain: domain.to_owned(),
                sender: sender.map(str::to_owned),
                head: self.head("H1", "mac-check", &scope),
                key: BASE64_STANDARD.encode(&key[..]),
                escrow: is_escrow.then(|| BASE64_STANDARD.encode(&escrow[..])),
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
        let all = keys.key.iter().flat_map(|key| [Some(&key.key), key.escrow.as_ref()]);
        if all.flatten().any(|key| bytes(key).is_none()) {
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
        let found = self.found(scope)?;
        let mac = Hmac::<Sha256>::new_from_slice(&bytes(&found.key)?[..]).ok()?;
        Some(OneWay { mac, head: found.head.clone() })
    }

    /// The maker of tokens that open for the holder of another key; none when its keys are not among these.
    #[must_use]
    pub fn escrow(&self, scope: &Scope<'_>, seal_key: SealKey) -> Option<Escrow> {
        let key = bytes(self.found(scope)?.escrow.as_ref()?)?;
        Some(Escrow::new(self.one_way(scope)?, &key, scope, seal_key))
    }

    fn found(&self, scope: &Scope<'_>) -> Option<&KeyText> {
        let is_it = |key: &&KeyText| key.domain == scope.domain && key.sender.as_deref() == scope.sender;
        let is_generation = scope.recipient == self.0.recipient && scope.epoch == self.0.epoch;
        self.0.key.iter().filter(|_| is_generation).find(is_it)
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
    use crate::hpke::OpenKey;
    use std::sync::Arc;

    const RECIPIENT: &str = "CBE:0123456749";

    fn scope<'a>(domain: &'a str, sender: Option<&'a str>, epoch: u32) -> Scope<'a> {
        Scope { recipient: RECIPIENT, domain, epoch, sender }
    }

    fn needed<'s>(domain: &'s str, sender: Option<&'s str>, is_escrow: bool) -> Needed<'s> {
        Needed { domain, sender, is_escrow }
    }

    #[test]
    fn an_encode_only_process_makes_tokens_that_it_cannot_open_with_all_that_it_has() {
        let root = PseudonymRoot::new(&[7; 32]);
        let role = Arc::new(OpenKey::generate());
        let (whole, public) = (scope("ssin", None, 1), *role.public());
        let text = root.encode_keys(RECIPIENT, 1, [needed("ssin", None, true)]).to_toml();
        let keys = EncodeKeys::from_toml(&text).unwrap();
        let of = |maker: &Escrow| {
            let mut out = Vec::new();
            maker.encode(b"85061511796", &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let made = of(&keys.escrow(&whole, public).unwrap());
        assert_eq!(made, of(&root.escrow(&whole, public)), "the platform's token");
        let with_key = root.escrow(&whole, public).opened_by(Some(role.clone()));
        assert_eq!(&with_key.decode(&made).unwrap()[..], b"85061511796");
        // Its own maker, the platform without the private key, another role's key, and every secret of its file as a private key.
        assert!(keys.escrow(&whole, public).unwrap().decode(&made).is_err());
        assert!(root.escrow(&whole, public).decode(&made).is_err());
        assert!(root.escrow(&whole, public).opened_by(Some(Arc::new(OpenKey::generate()))).decode(&made).is_err());
        let file: FileText = toml::from_str(&text).unwrap();
        for secret in [&file.key[0].key, file.key[0].escrow.as_ref().unwrap()] {
            let stolen = OpenKey::from_bytes(&bytes(secret).unwrap()).unwrap();
            assert!(super::super::escrow::Opener::new(Arc::new(stolen), &whole).open(&made).is_err());
        }
        assert!(!made.contains("85061511796") && made.starts_with("E1.1-"));
        let plain = root.encode_keys(RECIPIENT, 1, [needed("ssin", None, false)]);
        assert!(plain.escrow(&whole, public).is_none());
    }

    fn token(maker: &OneWay) -> Vec<u8> {
        let mut out = Vec::new();
        maker.encode(b"85061511796", &mut out).unwrap();
        out
    }

    #[test]
    fn the_same_tokens_are_made_without_the_root_and_no_others() {
        let root = PseudonymRoot::new(&[7; 32]);
        let text = root
            .encode_keys(RECIPIENT, 2, [needed("ssin", None, false), needed("no", Some("hospital"), true)])
            .to_toml();
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
        let text = root.encode_keys(RECIPIENT, 1, [needed("ssin", None, false)]).to_toml();
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
        let keys = root.encode_keys(RECIPIENT, 1, [needed("ssin", None, false)]);
        let text = keys.to_toml();
        for (from, to) in [("format = 1", "format = 2"), ("key = \"", "key = \"A"), ("epoch", "epcoh")] {
            assert!(EncodeKeys::from_toml(&text.replacen(from, to, 1)).is_err(), "{to}");
        }
        assert_eq!(format!("{keys:?}"), "EncodeKeys(***)");
    }
}
