//! The algorithms that sealed content may name, with the parameters that they have to have: what is free could name the sender.

use super::seal::is_oaep;
use cms::enveloped_data::{EncryptedContentInfo, OriginatorIdentifierOrKey, RecipientInfo};
use const_oid::ObjectIdentifier;
use der::Any;
use der::asn1::OctetString;
use spki::AlgorithmIdentifierOwned;

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// AES-128, AES-192 and AES-256 in CBC (RFC 3565).
const AES_CBC: [ObjectIdentifier; 3] =
    [oid("2.16.840.1.101.3.4.1.2"), oid("2.16.840.1.101.3.4.1.22"), oid("2.16.840.1.101.3.4.1.42")];
/// AES key wrap (RFC 3394).
const AES_WRAP: [ObjectIdentifier; 3] =
    [oid("2.16.840.1.101.3.4.1.5"), oid("2.16.840.1.101.3.4.1.25"), oid("2.16.840.1.101.3.4.1.45")];
/// ECDH, standard or with cofactor, with the KDF over SHA-1 (which OpenSSL takes if not told otherwise) to SHA-512 (RFC 5753).
const ECDH: [ObjectIdentifier; 5] = [
    oid("1.3.133.16.840.63.0.2"),
    oid("1.3.132.1.11.0"),
    oid("1.3.132.1.11.1"),
    oid("1.3.132.1.11.2"),
    oid("1.3.132.1.11.3"),
];
const RSA: ObjectIdentifier = oid("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = oid("1.2.840.10045.2.1");
/// P-256, P-384 and P-521.
const CURVES: [ObjectIdentifier; 3] = [oid("1.2.840.10045.3.1.7"), oid("1.3.132.0.34"), oid("1.3.132.0.35")];
/// A block of AES, and its initialisation vector.
const BLOCK: usize = 16;

/// Whether the content is under AES, with a vector of 16 bytes and whole blocks.
pub(super) fn seals_content(content: &EncryptedContentInfo) -> bool {
    let algorithm = &content.content_enc_alg;
    let vector = algorithm.parameters.as_ref().and_then(|any| any.decode_as::<OctetString>().ok());
    let blocks = content.encrypted_content.as_ref().map_or(0, |text| text.as_bytes().len());
    AES_CBC.contains(&algorithm.oid)
        && vector.is_some_and(|vector| vector.as_bytes().len() == BLOCK)
        && blocks > 0
        && blocks.is_multiple_of(BLOCK)
}

/// Whether the key is transported under RSA, or wrapped under a key that was agreed with ECDH.
pub(super) fn seals_key(recipient: &RecipientInfo) -> bool {
    match recipient {
        RecipientInfo::Ktri(info) => {
            let algorithm = &info.key_enc_alg;
            is_oaep(algorithm) || (algorithm.oid == RSA && is_bare(algorithm))
        }
        RecipientInfo::Kari(info) => {
            let OriginatorIdentifierOrKey::OriginatorKey(key) = &info.originator else { return false };
            let wrap = info.key_enc_alg.parameters.as_ref();
            let wrap = wrap.and_then(|any| any.decode_as::<AlgorithmIdentifierOwned>().ok());
            let curve = key.algorithm.parameters.as_ref().and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
            ECDH.contains(&info.key_enc_alg.oid)
                && wrap.is_some_and(|wrap| AES_WRAP.contains(&wrap.oid) && is_bare(&wrap))
                && key.algorithm.oid == EC
                && (is_bare(&key.algorithm) || curve.is_some_and(|curve| CURVES.contains(&curve)))
        }
        _ => false,
    }
}

/// Without parameters, or with NULL.
fn is_bare(algorithm: &AlgorithmIdentifierOwned) -> bool {
    algorithm.parameters.as_ref().is_none_or(Any::is_null)
}
