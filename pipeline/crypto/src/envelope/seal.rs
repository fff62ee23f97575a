//! Sealing for one recipient, and opening: CMS EnvelopedData that [`super::SealedFor`] lets pass.
//!
//! Content: plain data under AES-256-CBC (RFC 3565). The content key is transported by RSAES-OAEP with SHA-256 (RFC 4055), or wrapped
//! under a key agreed by ECDH on P-256 with an ephemeral key (RFC 5753: stdDH, SHA-256 KDF, AES-256 wrap), as the recipient's certificate
//! has it. The recipient is named by issuer and serial number. `openssl cms -decrypt` opens what is made here; what is opened here is what
//! `openssl cms -encrypt -aes256` makes with `-keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256` or `-keyopt ecdh_kdf_md:sha256`.
//!
//! Invariants: nothing in it comes from the sender's own keys. It is not authenticated: whoever carries it can replace it by something else
//! that is sealed for the recipient, so what belongs together is checked after opening.
//! Failure: one error for everything that does not open.

use super::{EnvelopeError, SealedFor};
use crate::signed::Identity;
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::key_wrap::{AES_256 as WRAP, AesKek, KeyWrap};
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
    PublicEncryptingKey,
};
use cms::cert::IssuerAndSerialNumber;
use cms::content_info::{CmsVersion, ContentInfo};
use cms::enveloped_data::{
    EncryptedContentInfo, EnvelopedData, KeyAgreeRecipientIdentifier, KeyAgreeRecipientInfo, KeyTransRecipientInfo,
    OriginatorIdentifierOrKey, OriginatorPublicKey, RecipientEncryptedKey, RecipientIdentifier, RecipientInfo,
    RecipientInfos,
};
use const_oid::ObjectIdentifier;
use const_oid::db::rfc5911::{ID_DATA, ID_ENVELOPED_DATA};
use der::asn1::{BitString, OctetString, SetOfVec};
use der::{Any, Decode, DecodePem, Encode};
use sha2::{Digest, Sha256};
use spki::AlgorithmIdentifierOwned;
use x509_cert::Certificate;
use zeroize::Zeroizing;

const AES_256_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.42");
const AES_256_WRAP: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.45");
const RSAES_OAEP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.7");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// dhSinglePass-stdDH-sha256kdf-scheme.
const ECDH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.1.11.1");
/// RSAES-OAEP-params: SHA-256, and MGF1 with SHA-256 (RFC 4055, section 4.1).
const OAEP_PARAMS: [u8; 49] = [
    0x30, 0x2f, 0xa0, 0x0f, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
    0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30, 0x0d, 0x06, 0x09,
    0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
];
/// The same without the parameters of the hashes, which RFC 4055 (section 2.1) has accepted too, and OpenSSL writes.
const OAEP_PARAMS_BARE: [u8; 45] = [
    0x30, 0x2b, 0xa0, 0x0d, 0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0xa1, 0x1a,
    0x30, 0x18, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30, 0x0b, 0x06, 0x09, 0x60, 0x86,
    0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
];
/// ECC-CMS-SharedInfo of a 256-bit key for AES-256 wrap, without user keying material (RFC 5753, section 7.2).
const SHARED_INFO: [u8; 23] = [
    0x30, 0x15, 0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2d, 0xa2, 0x06, 0x04, 0x04,
    0x00, 0x00, 0x01, 0x00,
];
const KEY: usize = 32;

/// Seals content for the holder of a certificate (PEM; RSA, or EC on P-256): DER of a ContentInfo.
///
/// # Errors
/// [`EnvelopeError::Certificate`] when the certificate cannot be used; [`EnvelopeError::Sealing`] when the content is too large for memory.
pub fn seal(certificate_pem: &str, content: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
    let certificate = Certificate::from_pem(certificate_pem.trim()).map_err(|_| EnvelopeError::Certificate)?;
    let key = Zeroizing::new(*crate::Secret32::random().expose());
    let encrypted_content = encrypted(&key, content).ok_or(EnvelopeError::Sealing)?;
    let recipient = recipient(&certificate, &key).ok_or(EnvelopeError::Certificate)?;
    let version = if matches!(recipient, RecipientInfo::Kari(_)) { CmsVersion::V2 } else { CmsVersion::V0 };
    let envelope = EnvelopedData {
        version,
        originator_info: None,
        recip_infos: RecipientInfos(SetOfVec::try_from(vec![recipient]).map_err(|_| EnvelopeError::Sealing)?),
        encrypted_content,
        unprotected_attrs: None,
    };
    let content = Any::encode_from(&envelope).map_err(|_| EnvelopeError::Sealing)?;
    ContentInfo { content_type: ID_ENVELOPED_DATA, content }.to_der().map_err(|_| EnvelopeError::Sealing)
}

/// Opens what was sealed for the holder of this key and certificate.
///
/// # Errors
/// [`EnvelopeError`] of [`SealedFor::check`], or [`EnvelopeError::Opening`].
pub fn open(identity: &Identity, der: &[u8]) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    let pem = identity.certificate_pem().map_err(|_| EnvelopeError::Certificate)?;
    SealedFor::from_pem(&pem)?.check(der)?;
    opened(identity, der).ok_or(EnvelopeError::Opening)
}

fn encrypted(key: &[u8; KEY], content: &[u8]) -> Option<EncryptedContentInfo> {
    let cipher = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, key).ok()?).ok()?;
    let mut text = content.to_vec();
    let DecryptionContext::Iv128(iv) = cipher.encrypt(&mut text).ok()? else { return None };
    let iv = OctetString::new(iv.as_ref()).ok()?;
    Some(EncryptedContentInfo {
        content_type: ID_DATA,
        content_enc_alg: algorithm(AES_256_CBC, Some(Any::encode_from(&iv).ok()?)),
        encrypted_content: Some(OctetString::new(text).ok()?),
    })
}

fn recipient(certificate: &Certificate, key: &[u8; KEY]) -> Option<RecipientInfo> {
    let certificate = &certificate.tbs_certificate;
    let id =
        IssuerAndSerialNumber { issuer: certificate.issuer.clone(), serial_number: certificate.serial_number.clone() };
    let info = &certificate.subject_public_key_info;
    if info.algorithm.oid == RSA {
        let public = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&info.to_der().ok()?).ok()?).ok()?;
        let mut transported = vec![0; public.ciphertext_size()];
        let transported = public.encrypt(&OAEP_SHA256_MGF1SHA256, key, &mut transported, None).ok()?;
        return Some(RecipientInfo::Ktri(KeyTransRecipientInfo {
            version: CmsVersion::V0,
            rid: RecipientIdentifier::IssuerAndSerialNumber(id),
            key_enc_alg: algorithm(RSAES_OAEP, Some(Any::from_der(&OAEP_PARAMS).ok()?)),
            enc_key: OctetString::new(&*transported).ok()?,
        }));
    }
    let ephemeral = PrivateKey::generate(&ECDH_P256).ok()?;
    let wrapping = agreed(&ephemeral, info.subject_public_key.raw_bytes())?;
    let mut wrapped = [0; KEY + 8];
    AesKek::new(&WRAP, &wrapping[..]).ok()?.wrap(key, &mut wrapped).ok()?;
    let public = ephemeral.compute_public_key().ok()?;
    Some(RecipientInfo::Kari(KeyAgreeRecipientInfo {
        version: CmsVersion::V3,
        originator: OriginatorIdentifierOrKey::OriginatorKey(OriginatorPublicKey {
            algorithm: algorithm(EC, None),
            public_key: BitString::from_bytes(public.as_ref()).ok()?,
        }),
        ukm: None,
        key_enc_alg: algorithm(ECDH_SHA256, Some(Any::encode_from(&algorithm(AES_256_WRAP, None)).ok()?)),
        recipient_enc_keys: vec![RecipientEncryptedKey {
            rid: KeyAgreeRecipientIdentifier::IssuerAndSerialNumber(id),
            enc_key: OctetString::new(&wrapped[..]).ok()?,
        }],
    }))
}

/// The key that both sides agree on (ANSI X9.63 KDF, one block: RFC 5753, section 7.2).
fn agreed(own: &PrivateKey, other: &[u8]) -> Option<Zeroizing<[u8; KEY]>> {
    agree(own, UnparsedPublicKey::new(&ECDH_P256, other), (), |secret| {
        let hash = Sha256::new().chain_update(secret).chain_update([0, 0, 0, 1]).chain_update(SHARED_INFO);
        Ok(Zeroizing::new(hash.finalize().into()))
    })
    .ok()
}

fn opened(identity: &Identity, der: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let envelope = ContentInfo::from_der(der).ok()?.content.decode_as::<EnvelopedData>().ok()?;
    let pkcs8 = identity.pkcs8()?;
    let key = match envelope.recip_infos.0.as_slice() {
        [RecipientInfo::Ktri(info)] if is_oaep(&info.key_enc_alg) => transported(&pkcs8, info.enc_key.as_bytes())?,
        [RecipientInfo::Kari(info)] if info.key_enc_alg.oid == ECDH_SHA256 => unwrapped(&pkcs8, info)?,
        _ => return None,
    };
    let EncryptedContentInfo { content_enc_alg, encrypted_content, .. } = envelope.encrypted_content;
    if content_enc_alg.oid != AES_256_CBC {
        return None;
    }
    let iv = content_enc_alg.parameters?.decode_as::<OctetString>().ok()?;
    let context = DecryptionContext::Iv128(FixedLength::from(<[u8; 16]>::try_from(iv.as_bytes()).ok()?));
    let mut text = Zeroizing::new(encrypted_content?.into_bytes());
    let cipher = PaddedBlockDecryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, &key[..]).ok()?).ok()?;
    let length = cipher.decrypt(&mut text, context).ok()?.len();
    text.truncate(length);
    Some(text)
}

pub(super) fn is_oaep(algorithm: &AlgorithmIdentifierOwned) -> bool {
    let params = algorithm.parameters.as_ref().and_then(|params| params.to_der().ok());
    let known = [&OAEP_PARAMS[..], &OAEP_PARAMS_BARE];
    algorithm.oid == RSAES_OAEP && params.is_some_and(|params| known.contains(&&params[..]))
}

fn transported(pkcs8: &[u8], key: &[u8]) -> Option<Zeroizing<[u8; KEY]>> {
    let private = OaepPrivateDecryptingKey::new(PrivateDecryptingKey::from_pkcs8(pkcs8).ok()?).ok()?;
    let mut room = Zeroizing::new(vec![0; private.min_output_size()]);
    let key = private.decrypt(&OAEP_SHA256_MGF1SHA256, key, &mut room, None).ok()?;
    (&*key).try_into().ok().map(Zeroizing::new)
}

fn unwrapped(pkcs8: &[u8], info: &KeyAgreeRecipientInfo) -> Option<Zeroizing<[u8; KEY]>> {
    let OriginatorIdentifierOrKey::OriginatorKey(other) = &info.originator else { return None };
    let [key] = info.recipient_enc_keys.as_slice() else { return None };
    let own = PrivateKey::from_private_key_der(&ECDH_P256, pkcs8).ok()?;
    let wrapping = agreed(&own, other.public_key.raw_bytes())?;
    let mut room = Zeroizing::new([0; KEY]);
    let kek = AesKek::new(&WRAP, &wrapping[..]).ok()?;
    let length = kek.unwrap(key.enc_key.as_bytes(), &mut room[..]).ok()?.len();
    (length == KEY).then_some(room)
}

fn algorithm(oid: ObjectIdentifier, parameters: Option<Any>) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid, parameters }
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
