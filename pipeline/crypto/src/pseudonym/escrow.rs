//! Tokens that link for everybody and open for one role: `E1.<kid>.<base64url(tag ‖ sealed)>`.
//!
//! `tag` is that of an `H1` token of the same scope (HMAC-SHA-256 cut to 16 bytes). `sealed` is the value, in the padded form of `P1`
//! tokens, sealed by [`crate::hpke`] for the public key of the decode role, with the info `zegel-ttp/1 escrow`, the recipient and the domain
//! (each behind its length, u32 BE), and the token's head and tag as associated data. So the role opens a token only for the recipient and the
//! domain that it was made for; projects of one family share them, as they share tokens. The key material of the ephemeral key is HMAC-SHA-256, under a key of its own, of the public key and the
//! value: so equal values give equal tokens, and one ephemeral key seals one value.
//!
//! Invariants: making a token needs the two keys of its scope and the public key; opening one needs the private key, and none of the
//! keys that make it replaces that. Who can make tokens can try values one by one, as with `H1`.
//! A public key seals for anybody, so what was opened counts only when its tag is that of the value: [`Escrow::decode`] checks it;
//! [`Opener`] cannot, and is for a role that has no other key.

use super::{
    BUCKET_MAX, BUCKET_MIN, LENGTH, MAC, OneWay, PseudonymError, PseudonymRoot, Scope, append, body, checked_length,
};
use crate::hpke::{OVERHEAD, OpenKey, SealKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

const KIND: &str = "E1.";
const INFO: &[u8] = b"zegel-ttp/1 escrow";

/// What a token is bound to beside its own bytes.
fn info(recipient: &str, domain: &str) -> Vec<u8> {
    let part = |text: &str| {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        [&length.to_be_bytes()[..], text.as_bytes()].concat()
    };
    [INFO, &part(recipient), &part(domain)].concat()
}

/// Makes `E1` tokens of one scope, and undoes them where the private key is.
pub struct Escrow {
    tags: OneWay,
    draw: Hmac<Sha256>,
    head: String,
    info: Vec<u8>,
    seal_key: SealKey,
    open_key: Option<Arc<OpenKey>>,
}

impl fmt::Debug for Escrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Escrow(***)")
    }
}

impl PseudonymRoot {
    /// The maker of tokens that open for the holder of the private key.
    #[must_use]
    pub fn escrow(&self, scope: &Scope<'_>, seal_key: SealKey) -> Escrow {
        let mut key = Zeroizing::new([0u8; 32]);
        self.derive(scope, "escrow", &mut key[..]);
        Escrow::new(self.one_way(scope), &key, scope, seal_key)
    }
}

impl Escrow {
    /// Of the tags' maker, the key of ephemeral keys, and the decode role's public key.
    pub(super) fn new(tags: OneWay, key: &[u8; 32], scope: &Scope<'_>, seal_key: SealKey) -> Escrow {
        let draw = Hmac::<Sha256>::new_from_slice(key);
        let Ok(draw) = draw else { unreachable!("HMAC takes keys of any length") };
        let head = tags.head().replacen("H1", "E1", 1);
        Escrow { tags, draw, head, info: info(scope.recipient, scope.domain), seal_key, open_key: None }
    }

    /// With the private key, if it is the one that belongs to the public key.
    #[must_use]
    pub fn opened_by(self, key: Option<Arc<OpenKey>>) -> Escrow {
        let open_key = key.filter(|key| *key.public() == self.seal_key);
        Escrow { open_key, ..self }
    }

    /// Appends the token of `value` to `out`.
    ///
    /// # Errors
    /// [`PseudonymError::Empty`] or [`PseudonymError::TooLong`]; `out` is unchanged then.
    pub fn encode(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), PseudonymError> {
        let length = checked_length(value)?;
        let tag = self.tags.tag(value)?;
        let mut draw = self.draw.clone();
        draw.update(self.seal_key.bytes());
        draw.update(value);
        let material = Zeroizing::new(draw.finalize().into_bytes().into());
        let mut plain = Zeroizing::new(length.to_be_bytes().to_vec());
        plain.extend_from_slice(value);
        plain.resize((LENGTH + value.len()).next_power_of_two().max(BUCKET_MIN), 0);
        let sealed = self.seal_key.seal(&material, &self.info, &associated(&self.head, &tag[..]), &plain);
        let sealed = sealed.map_err(|_| PseudonymError::OtherKey)?;
        append(out, &self.head, &[&tag[..], &sealed].concat());
        Ok(())
    }

    /// The value that a token of this scope stands for.
    ///
    /// # Errors
    /// [`PseudonymError::OtherKey`] without the private key; else as [`super::Reversible::decode`].
    pub fn decode(&self, token: &str) -> Result<Zeroizing<Vec<u8>>, PseudonymError> {
        let key = self.open_key.as_ref().ok_or(PseudonymError::OtherKey)?;
        let bytes = body(token, KIND, &self.head)?;
        let value = open_body(key, &self.info, &self.head, &bytes)?;
        let tag = self.tags.tag(&value)?;
        match aws_lc_rs::constant_time::verify_slices_are_equal(&tag[..], &bytes[..MAC]) {
            Ok(()) => Ok(value),
            Err(_) => Err(PseudonymError::Authentication),
        }
    }
}

/// The holder of the private key alone, for tokens that were made for one recipient and domain, of any epoch.
pub struct Opener {
    key: Arc<OpenKey>,
    info: Vec<u8>,
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener(***)")
    }
}

impl Opener {
    /// For the tokens of a scope's recipient and domain.
    #[must_use]
    pub fn new(key: Arc<OpenKey>, scope: &Scope<'_>) -> Opener {
        Opener { key, info: info(scope.recipient, scope.domain) }
    }

    /// The value of a token: that the platform made it is not shown by it.
    ///
    /// # Errors
    /// [`PseudonymError`]: whatever is not exactly a token that was sealed for this key, recipient and domain.
    pub fn open(&self, token: &str) -> Result<Zeroizing<Vec<u8>>, PseudonymError> {
        let (head, _) = token.rsplit_once('.').ok_or(PseudonymError::Format)?;
        open_body(&self.key, &self.info, head, &body(token, KIND, head)?)
    }
}

fn open_body(key: &OpenKey, info: &[u8], head: &str, bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, PseudonymError> {
    let (tag, sealed) = bytes.split_at_checked(MAC).ok_or(PseudonymError::Format)?;
    let bucket = sealed.len().checked_sub(OVERHEAD).ok_or(PseudonymError::Format)?;
    if !(BUCKET_MIN..=BUCKET_MAX).contains(&bucket) || !bucket.is_power_of_two() {
        return Err(PseudonymError::Format);
    }
    let plain = key.open(info, &associated(head, tag), sealed).map_err(|_| PseudonymError::Authentication)?;
    let (length, padded) = plain.split_at(LENGTH);
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    padded.get(..length).map(|value| Zeroizing::new(value.to_vec())).ok_or(PseudonymError::Format)
}

fn associated(head: &str, tag: &[u8]) -> Vec<u8> {
    [head.as_bytes(), b".", tag].concat()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn scope(epoch: u32) -> Scope<'static> {
        Scope { recipient: "CBE:0123456749", domain: "ssin", epoch, sender: None }
    }

    fn token(maker: &Escrow, value: &[u8]) -> String {
        let mut out = Vec::new();
        maker.encode(value, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn equal_values_link_and_nothing_else_is_seen_of_them() {
        let (root, role) = (PseudonymRoot::new(&[7; 32]), Arc::new(OpenKey::generate()));
        let maker = root.escrow(&scope(1), *role.public()).opened_by(Some(role.clone()));
        let one = token(&maker, b"85061511796");
        assert_eq!(one, token(&maker, b"85061511796"));
        assert_ne!(one, token(&maker, b"85061511895"));
        assert_eq!(one.len(), token(&maker, b"x").len(), "the length shows");
        assert_ne!(one, token(&root.escrow(&scope(2), *role.public()), b"85061511796"));
        let mut bare = Vec::new();
        root.one_way(&scope(1)).encode(b"85061511796", &mut bare).unwrap();
        let tag = |text: &str| text.rsplit('.').next().unwrap()[..21].to_owned();
        assert_eq!(tag(&one), tag(&String::from_utf8(bare).unwrap()), "it links with the one-way token of before");
        for value in [&b"x"[..], &[b'y'; 14], &[b'z'; 15], &[b'w'; 1_022]] {
            assert_eq!(&maker.decode(&token(&maker, value)).unwrap()[..], value);
        }
        assert_eq!(maker.encode(&[0; 1_023], &mut Vec::new()), Err(PseudonymError::TooLong));
    }

    #[test]
    fn what_somebody_else_sealed_for_the_role_is_no_token_of_the_project() {
        let (root, role) = (PseudonymRoot::new(&[7; 32]), Arc::new(OpenKey::generate()));
        let maker = root.escrow(&scope(1), *role.public()).opened_by(Some(role.clone()));
        let good = token(&maker, b"85061511796");
        let bytes = body(&good, KIND, &maker.head).unwrap();
        // The public key is in the document: with the tag of one patient, anybody seals the number of another.
        let mut plain = b"\0\x0b85061511895".to_vec();
        plain.resize(16, 0);
        let sealed =
            role.public().seal(&[3; 32], &maker.info, &associated(&maker.head, &bytes[..MAC]), &plain).unwrap();
        let mut forged = Vec::new();
        append(&mut forged, &maker.head, &[&bytes[..MAC], &sealed].concat());
        let forged = String::from_utf8(forged).unwrap();
        assert_eq!(maker.decode(&forged), Err(PseudonymError::Authentication));
        let others = [
            Scope { recipient: "CBE:0199999944", ..scope(1) },
            Scope { domain: "mother", ..scope(1) },
            Scope { recipient: "CBE:0123456749s", domain: "sin", ..scope(1) },
        ];
        for other in others {
            let opener = Opener::new(role.clone(), &other);
            assert!(opener.open(&good).is_err(), "the role opens a token of another field or recipient");
        }
        let opener = Opener::new(role.clone(), &scope(1));
        assert_eq!(&opener.open(&forged).unwrap()[..], b"85061511895", "which the role alone cannot see");
        assert_eq!(maker.decode(&good.replace("E1.1-", "E1.2-")), Err(PseudonymError::OtherKey));
        let place = good.len() - 3;
        let other = if &good[place..=place] == "A" { "B" } else { "A" };
        assert!(maker.decode(&format!("{}{other}{}", &good[..place], &good[place + 1..])).is_err());
        for wrong in ["", "E1", "E1.", "E1.1-00000000.AAAA", "85061511796", "H1.1-00000000.AAAA"] {
            assert!(maker.decode(wrong).is_err() && opener.open(wrong).is_err(), "{wrong}");
        }
    }
}
