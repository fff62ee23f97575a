//! Revocation lists (RFC 5280 section 5): those that our CA issues, and those of other CAs, as whoever verifies reads them.

use super::TsaError;
use super::certificates::{key_id, millis, time};
use super::signing::{SigningKey, verify_signature};
use super::verify::{TrustAnchor, extension as extension_of};
use const_oid::AssociatedOid;
use der::asn1::{BitString, OctetString, Uint};
use der::{Decode, Encode};
use schemas::Millis;
use std::str::FromStr;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlNumber, CrlReason, KeyUsage};
use x509_cert::serial_number::SerialNumber;
use x509_cert::{Certificate, Version, crl::CertificateList, crl::RevokedCert, crl::TbsCertList};

/// How long a list holds: long enough for an auditor's copy, short enough that a forgotten one is noticed.
const HOLDS_MS: i64 = 14 * 24 * 3_600_000;

/// Why a unit was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Not said.
    Unspecified,
    /// Somebody else may have had the key: none of its tokens proves anything by itself.
    KeyCompromise,
    /// Another unit has taken over.
    Superseded,
    /// The authority gave up.
    CessationOfOperation,
}

impl Reason {
    const ALL: [(Reason, CrlReason, &'static str); 4] = [
        (Reason::Unspecified, CrlReason::Unspecified, "unspecified"),
        (Reason::KeyCompromise, CrlReason::KeyCompromise, "key-compromise"),
        (Reason::Superseded, CrlReason::Superseded, "superseded"),
        (Reason::CessationOfOperation, CrlReason::CessationOfOperation, "cessation"),
    ];

    fn code(self) -> CrlReason {
        Reason::ALL.iter().find(|(reason, ..)| *reason == self).map_or(CrlReason::Unspecified, |(_, code, _)| *code)
    }
}

impl FromStr for Reason {
    type Err = TsaError;

    fn from_str(text: &str) -> Result<Reason, TsaError> {
        let found = Reason::ALL.iter().find(|(.., name)| *name == text).map(|(reason, ..)| *reason);
        found.ok_or(TsaError::Authority("reason is unspecified, key-compromise, superseded or cessation"))
    }
}

/// A revoked certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Its serial, as in the certificate.
    pub serial: Vec<u8>,
    /// From when on.
    pub at: Millis,
    /// Why; a reason that we do not know reads as a compromised key, the worst.
    pub reason: Reason,
}

/// A list that its CA signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crl {
    number: u64,
    this_update: Millis,
    next_update: Millis,
    revoked: Vec<Revoked>,
}

impl Crl {
    /// Reads a list, DER, and verifies that this CA signed it.
    ///
    /// # Errors
    /// [`TsaError::Der`]; [`TsaError::Refused`] when it is another CA's, is not signed by it, or is not of version 2.
    pub fn read(list: &[u8], ca: &TrustAnchor) -> Result<Crl, TsaError> {
        Crl::signed(list, ca.certificate())
    }

    /// The same by the certificate of any CA, DER: one between a unit and a root, which the caller has verified.
    ///
    /// # Errors
    /// As [`Crl::read`]; [`TsaError::Refused`] too when the CA may not sign lists.
    pub fn read_by(list: &[u8], ca: &[u8]) -> Result<Crl, TsaError> {
        let ca = Certificate::from_der(ca)?;
        // Roots of the nineties have no key usage.
        let may_sign = extension_of::<KeyUsage>(&ca).map_or(true, |(_, usage)| usage.crl_sign());
        if !may_sign {
            return Err(TsaError::Refused("the CA may not sign revocation lists"));
        }
        Crl::signed(list, &ca)
    }

    fn signed(list: &[u8], ca: &Certificate) -> Result<Crl, TsaError> {
        let list = CertificateList::from_der(list)?;
        let body = &list.tbs_cert_list;
        let issuer = &ca.tbs_certificate;
        let ours = body.issuer == issuer.subject && body.version == Version::V2;
        if !ours || list.signature_algorithm != body.signature {
            return Err(TsaError::Refused("revocation list is of another CA"));
        }
        let signature = list.signature.as_bytes().ok_or(TsaError::Refused("revocation list has no signature"))?;
        verify_signature(&issuer.subject_public_key_info, &body.signature, None, &body.to_der()?, signature)
            .map_err(|_| TsaError::Refused("revocation list is not signed by the CA"))?;
        let number = number(body).ok_or(TsaError::Refused("revocation list has no number"))?;
        let next_update =
            body.next_update.as_ref().map(millis).ok_or(TsaError::Refused("revocation list has no end"))?;
        let revoked = body.revoked_certificates.iter().flatten().map(entry).collect();
        Ok(Crl { number, this_update: millis(&body.this_update), next_update, revoked })
    }

    /// The list's number; a later list has a higher one.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// When it was issued.
    #[must_use]
    pub fn this_update(&self) -> Millis {
        self.this_update
    }

    /// By when the next one is there.
    #[must_use]
    pub fn next_update(&self) -> Millis {
        self.next_update
    }

    /// Everything that it names.
    #[must_use]
    pub fn revoked(&self) -> &[Revoked] {
        &self.revoked
    }

    /// What it says of a certificate.
    #[must_use]
    pub fn of(&self, serial: &[u8]) -> Option<&Revoked> {
        self.revoked.iter().find(|one| one.serial == serial)
    }

    /// Whether a token of this time under this certificate is still to be believed: it was given before the revocation, and
    /// nobody else can have had the key (RFC 3161 section 4, point 1).
    #[must_use]
    pub fn allows(&self, serial: &[u8], gen_time: Millis) -> bool {
        self.of(serial).is_none_or(|one| one.reason != Reason::KeyCompromise && gen_time < one.at)
    }

    pub(super) fn is_half_over(&self, now: Millis) -> bool {
        now.since(self.this_update) > HOLDS_MS / 2 || now < self.this_update
    }
}

/// A signed list, DER.
pub(super) fn issue(
    ca_key: &SigningKey,
    ca: &Certificate,
    revoked: &[Revoked],
    number: u64,
    now: Millis,
) -> Result<Vec<u8>, TsaError> {
    let entries: Vec<RevokedCert> = revoked.iter().map(revoked_cert).collect::<Result<_, _>>()?;
    let issuer = AuthorityKeyIdentifier {
        key_identifier: Some(key_id(ca_key)?),
        authority_cert_issuer: None,
        authority_cert_serial_number: None,
    };
    let body = TbsCertList {
        version: Version::V2,
        signature: ca_key.algorithm().signature(),
        issuer: ca.tbs_certificate.subject.clone(),
        this_update: time(now)?,
        next_update: Some(time(now.plus(HOLDS_MS))?),
        // An empty list is left out, not written empty (RFC 5280 section 5.1.2.6).
        revoked_certificates: (!entries.is_empty()).then_some(entries),
        crl_extensions: Some(vec![extension(&issuer)?, extension(&CrlNumber(Uint::new(&number.to_be_bytes())?))?]),
    };
    let signature = BitString::from_bytes(&ca_key.sign(&body.to_der()?)?)?;
    let list = CertificateList { signature_algorithm: body.signature.clone(), tbs_cert_list: body, signature };
    Ok(list.to_der()?)
}

fn revoked_cert(one: &Revoked) -> Result<RevokedCert, TsaError> {
    let reason = match one.reason {
        // RFC 5280 section 5.3.1: unspecified is said by saying nothing.
        Reason::Unspecified => None,
        reason => Some(vec![extension(&reason.code())?]),
    };
    Ok(RevokedCert {
        serial_number: SerialNumber::new(&one.serial)?,
        revocation_date: time(one.at)?,
        crl_entry_extensions: reason,
    })
}

fn entry(one: &RevokedCert) -> Revoked {
    let extensions = one.crl_entry_extensions.as_deref().unwrap_or_default();
    let reason = extensions.iter().find(|extension| extension.extn_id == CrlReason::OID).map(|extension| {
        let code = CrlReason::from_der(extension.extn_value.as_bytes()).ok();
        let known = Reason::ALL.iter().find(|(_, known, _)| Some(*known) == code);
        known.map_or(Reason::KeyCompromise, |(reason, ..)| *reason)
    });
    Revoked {
        serial: one.serial_number.as_bytes().to_vec(),
        at: millis(&one.revocation_date),
        reason: reason.unwrap_or(Reason::Unspecified),
    }
}

fn number(body: &TbsCertList) -> Option<u64> {
    let extensions = body.crl_extensions.as_deref()?;
    let extension = extensions.iter().find(|extension| extension.extn_id == CrlNumber::OID)?;
    let bytes = CrlNumber::from_der(extension.extn_value.as_bytes()).ok()?;
    let bytes = bytes.0.as_bytes();
    (bytes.len() <= 8).then(|| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

fn extension<E: AssociatedOid + Encode>(value: &E) -> Result<Extension, TsaError> {
    Ok(Extension { extn_id: E::OID, critical: false, extn_value: OctetString::new(value.to_der()?)? })
}
