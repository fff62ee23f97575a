//! Between what PKCS#11 gives and what certificates and tokens hold.

use der::asn1::{OctetStringRef, UintRef};
use der::{Decode, Encode, Sequence};
use zegel_crypto::ModuleError;
use zegel_crypto::tsa::Algorithm;

/// DER of the curves' identifiers (RFC 5480): `CKA_EC_PARAMS`.
const P256: &[u8] = &[0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22];
/// `DigestInfo` of SHA-256 up to the digest (RFC 8017, section 9.2, note 1).
const SHA256_INFO: &[u8] =
    &[0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20];

/// `CKA_EC_PARAMS` of an algorithm; none for RSA.
pub fn curve(algorithm: Algorithm) -> Option<&'static [u8]> {
    match algorithm {
        Algorithm::Rsa3072 => None,
        Algorithm::P256 => Some(P256),
        Algorithm::P384 => Some(P384),
    }
}

/// The algorithm of a curve.
pub fn on_curve(parameters: &[u8]) -> Option<Algorithm> {
    [Algorithm::P256, Algorithm::P384].into_iter().find(|algorithm| curve(*algorithm) == Some(parameters))
}

/// RFC 8017, appendix A.1.1.
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

/// RFC 3279, section 2.2.3.
#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// `RSAPublicKey` of `CKA_MODULUS` and `CKA_PUBLIC_EXPONENT`.
pub fn rsa_public(modulus: &[u8], exponent: &[u8]) -> Result<Vec<u8>, ModuleError> {
    let number = |bytes| UintRef::new(bytes);
    let encoded = number(modulus)
        .and_then(|modulus| number(exponent).map(|exponent| RsaPublicKey { modulus, exponent }))
        .and_then(|key| key.to_der());
    encoded.map_err(|_| ModuleError::Answer("an RSA key without numbers"))
}

/// The uncompressed point of `CKA_EC_POINT`: in an OCTET STRING as the standard says, or bare as some modules have it.
pub fn ec_point(value: &[u8], algorithm: Algorithm) -> Result<Vec<u8>, ModuleError> {
    let length = 1 + 2 * coordinate(algorithm);
    let is_point = |bytes: &[u8]| bytes.len() == length && bytes[0] == 0x04;
    let inside = OctetStringRef::from_der(value).map(|octets| octets.as_bytes().to_vec());
    let point = inside.ok().filter(|bytes| is_point(bytes)).or_else(|| is_point(value).then(|| value.to_vec()));
    point.ok_or(ModuleError::Answer("an EC key without an uncompressed point"))
}

/// What `CKM_RSA_PKCS` signs.
pub fn digest_info(digest: &[u8]) -> Vec<u8> {
    [SHA256_INFO, digest].concat()
}

/// `ECDSA-Sig-Value` of what `CKM_ECDSA` gives: r and s of the same length.
pub fn ecdsa_signature(raw: &[u8], algorithm: Algorithm) -> Result<Vec<u8>, ModuleError> {
    const WRONG: ModuleError = ModuleError::Answer("a signature of another length than its curve has");
    if raw.len() != 2 * coordinate(algorithm) {
        return Err(WRONG);
    }
    let (r, s) = raw.split_at(raw.len() / 2);
    let number = |bytes| UintRef::new(bytes).map_err(|_| WRONG);
    EcdsaSignature { r: number(r)?, s: number(s)? }.to_der().map_err(|_| WRONG)
}

fn coordinate(algorithm: Algorithm) -> usize {
    if algorithm == Algorithm::P384 { 48 } else { 32 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_sign_and_lose_their_zeros_as_der_wants() {
        let mut raw = vec![0; 64];
        (raw[0], raw[31], raw[63]) = (0x80, 1, 5);
        let signature = ecdsa_signature(&raw, Algorithm::P256).unwrap();
        assert_eq!(signature[..5], [0x30, 38, 0x02, 33, 0], "r is positive");
        assert_eq!(signature[37..], [2, 1, 5], "s is as short as it can be");
        assert!(ecdsa_signature(&raw[1..], Algorithm::P256).is_err());
        assert_eq!(rsa_public(&[0xC1, 1], &[1, 0, 1]).unwrap(), [0x30, 10, 2, 3, 0, 0xC1, 1, 2, 3, 1, 0, 1]);
    }

    #[test]
    fn a_point_is_read_in_both_forms_that_modules_give() {
        let mut bare = vec![7; 65];
        bare[0] = 4;
        let wrapped = [&[4, 65][..], &bare].concat();
        assert_eq!(ec_point(&wrapped, Algorithm::P256).unwrap(), bare);
        assert_eq!(ec_point(&bare, Algorithm::P256).unwrap(), bare);
        assert!(ec_point(&bare, Algorithm::P384).is_err() && ec_point(&[], Algorithm::P256).is_err());
    }
}
