//! Verification of other authorities' tokens: an external authority that stamps for us, and tokens that others bring.
//!
//! More is allowed than in ours: certificates between the unit and the trusted root, of the token or known beside it; an
//! ESSCertID (SHA-1) or an ESSCertIDv2; certificates that are left out. Checked all the same: the signature over content
//! and attributes, the unit's sole and critical purpose, every certificate of the path at genTime. SHA-1 anywhere but in an
//! ESSCertID is refused, unless the roots say that tokens of old are to be read, and then the result says that it is weak.
//! Revocation is the caller's to look at, with the lists of the issuers: the token's path names them all.

use super::asn1::{SigningCertificateV2, TST_INFO, granted, signed_data};
use super::ber;
use super::certificates::{all_from_pem, valid_at};
use super::signing::verify_signature;
use super::verify::{
    Issued, TokenInfo, TrustAnchor, Verifier, check_imprint, content_of, ensure, extension, single, told,
};
use super::{Digest, TsaError};
use crate::hash::sha256;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};
use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::{SignerIdentifier, SignerInfo};
use const_oid::ObjectIdentifier;
use const_oid::db::rfc5911::{
    ID_AA_SIGNING_CERTIFICATE, ID_AA_SIGNING_CERTIFICATE_V_2, ID_CONTENT_TYPE, ID_MESSAGE_DIGEST, ID_SIGNED_DATA,
};
use const_oid::db::rfc5912::{ID_KP_TIME_STAMPING, RSA_ENCRYPTION, SHA_1_WITH_RSA_ENCRYPTION};
use der::asn1::{Any, OctetString, SetOfVec};
use der::{Decode, Encode};
use schemas::Millis;
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::Certificate;
use x509_cert::attr::Attribute;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};
use x509_tsp::TimeStampResp;

/// `id-sha1`.
const SHA_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
/// Longest path from a unit to a root: the deepest that is in use has four.
const PATH_MAX: usize = 6;

/// CAs that are trusted for other authorities' tokens.
#[derive(Debug, Clone, Default)]
pub struct Roots {
    trusted: Vec<Certificate>,
    known: Vec<Certificate>,
    reads_sha1: bool,
}

/// What a verified foreign token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignInfo {
    /// When it was stamped.
    pub gen_time: Millis,
    /// Its number, big-endian.
    pub serial: Vec<u8>,
    /// The policy it was made under, dotted.
    pub policy: String,
    /// The nonce, big-endian, if the request had one.
    pub nonce: Option<Vec<u8>>,
    /// Whether SHA-1 bears on it: it proves nothing today unless it was renewed while SHA-1 held.
    pub weak: bool,
}

impl Roots {
    /// Trusted roots, PEM, one after the other.
    ///
    /// # Errors
    /// [`TsaError::Der`]; [`TsaError::Refused`] when there is none.
    pub fn from_pem(text: &str) -> Result<Roots, TsaError> {
        let trusted = all_from_pem(text)?;
        ensure(!trusted.is_empty(), "there is no trusted certificate")?;
        Ok(Roots { trusted, ..Roots::default() })
    }

    /// The same roots, with certificates of units and intermediate CAs that tokens leave out.
    ///
    /// # Errors
    /// [`TsaError::Der`].
    pub fn knowing(mut self, text: &str) -> Result<Roots, TsaError> {
        self.known.extend(all_from_pem(text)?);
        Ok(self)
    }

    /// The same roots, reading tokens of the time before 2017 that rest on SHA-1.
    #[must_use]
    pub fn reading_sha1(mut self) -> Roots {
        self.reads_sha1 = true;
        self
    }

    /// Verifies a `TimeStampResp` or a bare `TimeStampToken`, DER or BER, over data with this hash.
    ///
    /// # Errors
    /// [`TsaError::Der`] or [`TsaError::Refused`] with the first rule that it breaks.
    pub fn verify(&self, token: &[u8], digest: Digest, hash: &[u8]) -> Result<ForeignInfo, TsaError> {
        let (read, weak) = self.read(token, digest, hash)?;
        let TokenInfo { gen_time, serial, policy, nonce, .. } = read;
        Ok(ForeignInfo { gen_time, serial, policy, nonce, weak })
    }

    /// What a token says, and whether SHA-1 bears on it.
    fn read(&self, token: &[u8], digest: Digest, hash: &[u8]) -> Result<(TokenInfo, bool), TsaError> {
        let token = ber::to_der(token).ok_or(TsaError::Refused("token is not one whole element of at most 64 KiB"))?;
        let token = match TimeStampResp::from_der(&token) {
            Ok(response) => granted(&response)?.clone(),
            Err(_) => ContentInfo::from_der(&token)?,
        };
        ensure(token.content_type == ID_SIGNED_DATA, "token is not signed data")?;
        let signed = signed_data(&token)?;
        let (info, content) = content_of(&signed)?;
        check_imprint(&info, digest, hash)?;
        let [signer] = signed.signer_infos.0.as_slice() else {
            return Err(TsaError::Refused("token has not exactly one signer"));
        };
        let inside: Vec<&Certificate> =
            signed.certificates.iter().flat_map(|set| set.0.iter()).filter_map(one).collect();
        let mut reading = Reading { roots: self, pool: inside, weak: false };
        reading.pool.extend(&self.known);
        let unit = reading.unit(signer)?;
        reading.check_signed(signer, &content, unit)?;
        let path = reading.check_path(unit, info.gen_time.at())?;
        let told = told(info, unit, sha256(&unit.to_der()?));
        Ok((TokenInfo { path, ..told }, reading.weak))
    }
}

impl Verifier for Roots {
    fn verify_over(&self, response: &[u8], digest: Digest, hash: &[u8]) -> Result<TokenInfo, TsaError> {
        self.read(response, digest, hash).map(|(token, _)| token)
    }
}

/// Our own CA, and the roots of an external authority, where a platform has had both.
#[derive(Debug, Clone, Default)]
pub struct Trusted {
    own: Option<TrustAnchor>,
    roots: Option<Roots>,
}

impl Trusted {
    /// From PEM text: one CA that signs its units itself, and any number of roots.
    ///
    /// # Errors
    /// [`TsaError::Der`]; [`TsaError::Refused`] when a certificate may not be trusted for this.
    pub fn from_pem(own: Option<&str>, roots: Option<&str>) -> Result<Trusted, TsaError> {
        let (own, roots) = (own.map(TrustAnchor::from_pem), roots.map(Roots::from_pem));
        Ok(Trusted { own: own.transpose()?, roots: roots.transpose()? })
    }
}

impl Verifier for Trusted {
    fn verify_over(&self, response: &[u8], digest: Digest, hash: &[u8]) -> Result<TokenInfo, TsaError> {
        let own = self.own.as_ref().map(|own| own.verify_over(response, digest, hash));
        match (own, &self.roots) {
            (Some(Ok(token)), _) => Ok(token),
            (_, Some(roots)) => roots.verify_over(response, digest, hash),
            (Some(Err(error)), None) => Err(error),
            (None, None) => Err(TsaError::Refused("nobody is trusted")),
        }
    }
}

fn one(choice: &CertificateChoices) -> Option<&Certificate> {
    match choice {
        CertificateChoices::Certificate(certificate) => Some(certificate),
        CertificateChoices::Other(_) => None,
    }
}

/// One verification: the certificates at hand, and whether SHA-1 was needed.
struct Reading<'a> {
    roots: &'a Roots,
    pool: Vec<&'a Certificate>,
    weak: bool,
}

impl<'a> Reading<'a> {
    fn unit(&self, signer: &SignerInfo) -> Result<&'a Certificate, TsaError> {
        let SignerIdentifier::IssuerAndSerialNumber(id) = &signer.sid else {
            return Err(TsaError::Refused("signer is not named by issuer and serial"));
        };
        let unit = self.pool.iter().copied().find(|certificate| {
            let body = &certificate.tbs_certificate;
            body.issuer == id.issuer && body.serial_number == id.serial_number
        });
        let unit = unit.ok_or(TsaError::Refused("signer's certificate is neither in the token nor known"))?;
        let (critical, purposes) = extension::<ExtendedKeyUsage>(unit)?;
        ensure(critical && purposes.0 == [ID_KP_TIME_STAMPING], "certificate is not for time stamps alone")?;
        Ok(unit)
    }

    fn check_signed(&mut self, signer: &SignerInfo, content: &[u8], unit: &Certificate) -> Result<(), TsaError> {
        let attributes = signer.signed_attrs.as_ref().ok_or(TsaError::Refused("token has no signed attributes"))?;
        let kind = single(attributes, ID_CONTENT_TYPE)?.decode_as::<ObjectIdentifier>()?;
        ensure(kind == TST_INFO, "content type differs")?;
        let stated = single(attributes, ID_MESSAGE_DIGEST)?.decode_as::<OctetString>()?;
        let named = Digest::named(&signer.digest_alg);
        let computed = match named {
            Some(digest) => digest.of(content),
            None => self.sha1(&signer.digest_alg, content)?,
        };
        ensure(stated.as_bytes() == computed, "content was changed")?;
        check_certificate_id(attributes, unit)?;
        let key = &unit.tbs_certificate.subject_public_key_info;
        let message = attributes.to_der()?;
        self.check_signature(key, &signer.signature_algorithm, named, &message, signer.signature.as_bytes())
    }

    fn sha1(&mut self, algorithm: &AlgorithmIdentifierOwned, bytes: &[u8]) -> Result<Vec<u8>, TsaError> {
        let plain = algorithm.parameters.as_ref().is_none_or(Any::is_null);
        ensure(algorithm.oid == SHA_1 && plain && self.roots.reads_sha1, "digest is not one of the profile")?;
        self.weak = true;
        Ok(digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec())
    }

    fn check_signature(
        &mut self,
        key: &SubjectPublicKeyInfoOwned,
        algorithm: &AlgorithmIdentifierOwned,
        digest: Option<Digest>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), TsaError> {
        let is_sha1 =
            algorithm.oid == SHA_1_WITH_RSA_ENCRYPTION || (algorithm.oid == RSA_ENCRYPTION && digest.is_none());
        if !is_sha1 {
            return verify_signature(key, algorithm, digest, message, signature);
        }
        ensure(self.roots.reads_sha1, "signature rests on SHA-1")?;
        ensure(key.algorithm.oid == RSA_ENCRYPTION, "key is of another kind than its signature")?;
        self.weak = true;
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, key.subject_public_key.raw_bytes())
            .verify(message, signature)
            .map_err(|_| TsaError::Refused("signature does not verify"))
    }

    /// From the unit to a root, every certificate valid at that time.
    fn check_path(&mut self, unit: &'a Certificate, at: Millis) -> Result<Vec<Issued>, TsaError> {
        let (mut current, mut path) = (unit, Vec::new());
        for below in 0..PATH_MAX {
            ensure(valid_at(current, at), "certificate was not valid at that time")?;
            if self.roots.trusted.contains(current) {
                return Ok(path);
            }
            let issuers: Vec<&'a Certificate> = self.roots.trusted.iter().chain(self.pool.iter().copied()).collect();
            let issuer = issuers.into_iter().find(|issuer| {
                issuer.tbs_certificate.subject == current.tbs_certificate.issuer
                    && *issuer != current
                    && self.is_issuer(issuer, current, below).is_ok()
            });
            let issuer = issuer.ok_or(TsaError::Refused("no path leads to a trusted CA"))?;
            let serial = current.tbs_certificate.serial_number.as_bytes().to_vec();
            let by = issuer.tbs_certificate.subject.to_string();
            path.push(Issued { serial, issuer: issuer.to_der()?, by });
            current = issuer;
        }
        Err(TsaError::Refused("path to a trusted CA is too long"))
    }

    /// Whether a CA may and did sign a certificate that has `below` CAs under it.
    fn is_issuer(&mut self, issuer: &Certificate, of: &Certificate, below: usize) -> Result<(), TsaError> {
        let (_, constraints) = extension::<BasicConstraints>(issuer)?;
        let allows = constraints.path_len_constraint.is_none_or(|most| below <= usize::from(most));
        ensure(constraints.ca && allows, "issuer is no CA for it")?;
        // Roots of the nineties have no key usage.
        let may_sign = extension::<KeyUsage>(issuer).map_or(true, |(_, usage)| usage.key_cert_sign());
        ensure(may_sign, "issuer may not sign certificates")?;
        ensure(of.signature_algorithm == of.tbs_certificate.signature, "certificate names two algorithms")?;
        let signature = of.signature.as_bytes().ok_or(TsaError::Refused("certificate has no signature"))?;
        let key = &issuer.tbs_certificate.subject_public_key_info;
        self.check_signature(key, &of.signature_algorithm, None, &of.tbs_certificate.to_der()?, signature)
    }
}

/// The signed attributes name the unit's certificate, in the old form or the new.
fn check_certificate_id(attributes: &SetOfVec<Attribute>, unit: &Certificate) -> Result<(), TsaError> {
    let certificate = unit.to_der()?;
    let has = |oid| attributes.iter().any(|attribute| attribute.oid == oid);
    let new = has(ID_AA_SIGNING_CERTIFICATE_V_2);
    let oid = if new { ID_AA_SIGNING_CERTIFICATE_V_2 } else { ID_AA_SIGNING_CERTIFICATE };
    // An ESSCertID is an ESSCertIDv2 whose digest is always SHA-1 and never named.
    let ids = single(attributes, oid)?.decode_as::<SigningCertificateV2>()?;
    let id = ids.certs.first().ok_or(TsaError::Refused("token names no certificate"))?;
    let hash = match (&id.hash_algorithm, new) {
        (None, true) => Digest::Sha256.of(&certificate),
        (Some(named), true) => {
            let digest = Digest::named(named).ok_or(TsaError::Refused("ESSCertIDv2 is over another digest"))?;
            digest.of(&certificate)
        }
        (None, false) => digest(&SHA1_FOR_LEGACY_USE_ONLY, &certificate).as_ref().to_vec(),
        (Some(_), false) => return Err(TsaError::Refused("ESSCertID names a digest")),
    };
    ensure(id.cert_hash.as_bytes() == hash, "signing certificate is another")
}
