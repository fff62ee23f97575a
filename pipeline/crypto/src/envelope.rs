//! Content that is sealed end to end for one recipient and passes through unopened (CMS EnvelopedData, RFC 5652, section 6).
//!
//! What is looked at is only what stands around the ciphertext, because it could name the sender: the content must be plain
//! data (a SignedData inside would carry the signer's certificate; one that is passed off as plain data cannot be seen), there must be one RecipientInfo, for the recipient's
//! certificate, no OriginatorInfo and no attributes, and with key agreement the originator's key must be one for this
//! message (a lasting one that is passed off as such cannot be told). Algorithms are those of a list, with the parameters that they
//! have to have: AES in CBC; RSA, or ECDH with AES key wrap. So nothing passes in clear, under a cipher that is broken, or with free text.
//! Keys and content are not touched; whether they open is between the sender and the recipient.
//!
//! Failure: [`EnvelopeError`] with the rule; no content, no name.

mod algorithms;
mod seal;

pub use seal::{open, seal};

use crate::small_sets;
use cms::content_info::ContentInfo;
use cms::enveloped_data::{
    EnvelopedData, KeyAgreeRecipientIdentifier, OriginatorIdentifierOrKey, RecipientIdentifier, RecipientInfo,
};
use const_oid::db::rfc5911::{ID_DATA, ID_ENVELOPED_DATA};
use der::{Decode, DecodePem, Encode};
use std::fmt;
use x509_cert::Certificate;
use x509_cert::ext::pkix::SubjectKeyIdentifier;

/// Why sealed content cannot pass, or a certificate not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The certificate is no X.509 certificate in PEM.
    #[error("certificate is not X.509 in PEM")]
    Certificate,
    /// The bytes are no EnvelopedData in DER.
    #[error("content is not CMS EnvelopedData in DER")]
    Form,
    /// Inside is something else than plain data, for example a signature.
    #[error("sealed content is not plain data")]
    Inside,
    /// The envelope says where it comes from.
    #[error("envelope carries originator information, attributes or a lasting key of its sender")]
    Originator,
    /// It is sealed with other algorithms or parameters than those that pass.
    #[error("envelope is not sealed with AES in CBC for RSA or ECDH, or has other parameters")]
    Algorithm,
    /// There is another recipient, or more than one.
    #[error("envelope is not for the one recipient alone")]
    Recipient,
    /// The content could not be sealed.
    #[error("content cannot be sealed")]
    Sealing,
    /// It does not open with the recipient's key.
    #[error("envelope does not open: another key, algorithms that are not known, or changed content")]
    Opening,
}

/// Who may be the one recipient.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedFor {
    /// DER of IssuerAndSerialNumber.
    issuer_and_serial: Vec<u8>,
    key_id: Option<Vec<u8>>,
}

impl fmt::Debug for SealedFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedFor(…)")
    }
}

impl SealedFor {
    /// The holder of this certificate.
    ///
    /// # Errors
    /// [`EnvelopeError::Certificate`].
    pub fn from_pem(pem: &str) -> Result<SealedFor, EnvelopeError> {
        let certificate = Certificate::from_pem(pem.trim()).map_err(|_| EnvelopeError::Certificate)?;
        let certificate = certificate.tbs_certificate;
        let key_id = certificate.get::<SubjectKeyIdentifier>().map_err(|_| EnvelopeError::Certificate)?;
        let issuer_and_serial = cms::cert::IssuerAndSerialNumber {
            issuer: certificate.issuer.clone(),
            serial_number: certificate.serial_number.clone(),
        };
        Ok(SealedFor {
            issuer_and_serial: issuer_and_serial.to_der().map_err(|_| EnvelopeError::Certificate)?,
            key_id: key_id.map(|(_, id)| id.0.as_bytes().to_vec()),
        })
    }

    /// Whether these bytes may pass.
    ///
    /// # Errors
    /// The first rule of the module's header that they break.
    pub fn check(&self, der: &[u8]) -> Result<(), EnvelopeError> {
        if !small_sets::are_small(der) {
            return Err(EnvelopeError::Form);
        }
        let content = ContentInfo::from_der(der).map_err(|_| EnvelopeError::Form)?;
        if content.content_type != ID_ENVELOPED_DATA {
            return Err(EnvelopeError::Form);
        }
        let envelope = content.content.decode_as::<EnvelopedData>().map_err(|_| EnvelopeError::Form)?;
        if envelope.encrypted_content.content_type != ID_DATA || envelope.encrypted_content.encrypted_content.is_none()
        {
            return Err(EnvelopeError::Inside);
        }
        if envelope.originator_info.is_some() || envelope.unprotected_attrs.is_some() {
            return Err(EnvelopeError::Originator);
        }
        let [recipient] = envelope.recip_infos.0.as_slice() else { return Err(EnvelopeError::Recipient) };
        self.check_recipient(recipient)?;
        let known = algorithms::seals_key(recipient) && algorithms::seals_content(&envelope.encrypted_content);
        known.then_some(()).ok_or(EnvelopeError::Algorithm)
    }

    fn check_recipient(&self, recipient: &RecipientInfo) -> Result<(), EnvelopeError> {
        let is_recipient = match recipient {
            RecipientInfo::Ktri(info) => match &info.rid {
                RecipientIdentifier::IssuerAndSerialNumber(id) => self.is_issued(id),
                RecipientIdentifier::SubjectKeyIdentifier(id) => self.has_key_id(id),
            },
            RecipientInfo::Kari(info) => {
                if !matches!(info.originator, OriginatorIdentifierOrKey::OriginatorKey(_)) || info.ukm.is_some() {
                    return Err(EnvelopeError::Originator);
                }
                match info.recipient_enc_keys.as_slice() {
                    [key] => match &key.rid {
                        KeyAgreeRecipientIdentifier::IssuerAndSerialNumber(id) => self.is_issued(id),
                        KeyAgreeRecipientIdentifier::RKeyId(id) => {
                            id.date.is_none() && id.other.is_none() && self.has_key_id(&id.subject_key_identifier)
                        }
                    },
                    _ => false,
                }
            }
            _ => false,
        };
        is_recipient.then_some(()).ok_or(EnvelopeError::Recipient)
    }

    fn is_issued(&self, id: &cms::cert::IssuerAndSerialNumber) -> bool {
        id.to_der().is_ok_and(|der| der == self.issuer_and_serial)
    }

    fn has_key_id(&self, id: &SubjectKeyIdentifier) -> bool {
        self.key_id.as_deref() == Some(id.0.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::path::Path;
    use std::process::Command;

    /// Runs openssl in the folder; false where it is absent.
    fn openssl(folder: &Path, arguments: &str) -> bool {
        let run = Command::new("openssl").current_dir(folder).args(arguments.split(' ')).output();
        let Ok(output) = run else {
            assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "openssl is needed");
            eprintln!("SKIPPED: openssl is absent");
            return false;
        };
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
        true
    }

    fn certificate(folder: &Path, name: &str, algorithm: &str) -> bool {
        openssl(
            folder,
            &format!(
                "req -x509 -newkey {algorithm} -nodes -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name}"
            ),
        )
    }

    #[test]
    fn only_what_openssl_sealed_for_the_recipient_alone_passes() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        std::fs::write(at.join("text"), "medical").unwrap();
        let keys = [("recipient", "rsa:2048"), ("other", "rsa:2048"), ("curve", "ec -pkeyopt ec_paramgen_curve:P-256")];
        if !keys.iter().all(|(name, algorithm)| certificate(at, name, algorithm)) {
            return;
        }
        let pem = |name: &str| {
            SealedFor::from_pem(&std::fs::read_to_string(at.join(format!("{name}.pem"))).unwrap()).unwrap()
        };
        let seal = |arguments: &str| {
            openssl(at, &format!("cms -encrypt -aes256 -binary -in text -outform DER -out sealed {arguments}"));
            std::fs::read(at.join("sealed")).unwrap()
        };
        let good = seal("recipient.pem");
        assert_eq!(pem("recipient").check(&good), Ok(()));
        assert_eq!(pem("recipient").check(&seal("-keyid recipient.pem")), Ok(()));
        assert_eq!(pem("curve").check(&seal("curve.pem")), Ok(()), "key agreement with a key of this message");
        assert_eq!(pem("other").check(&good), Err(EnvelopeError::Recipient));
        assert_eq!(pem("recipient").check(&seal("recipient.pem other.pem")), Err(EnvelopeError::Recipient));
        // A signature inside carries the signer's certificate: the same envelope that says it holds one (1.2.840.113549.1.7.2).
        let data = hex::decode("06092a864886f70d010701").unwrap();
        let place =
            good.windows(data.len()).collect::<Vec<_>>().into_iter().rposition(|window| window == data).unwrap();
        let mut signed = good.clone();
        signed[place + data.len() - 1] = 2;
        assert_eq!(pem("recipient").check(&signed), Err(EnvelopeError::Inside));
        openssl(at, "cms -encrypt -des3 -binary -in text -outform DER -out weak recipient.pem");
        assert_eq!(pem("recipient").check(&std::fs::read(at.join("weak")).unwrap()), Err(EnvelopeError::Algorithm));
        // AES-256 in CBC (2.16.840.1.101.3.4.1.42) named as something else, and an initialisation vector that is a text.
        let cipher = hex::decode("060960864801650304012a0410").unwrap();
        let place = good.windows(cipher.len()).position(|window| window == cipher).unwrap();
        for (offset, byte) in [(10, 99), (11, 0x0c)] {
            let mut named = good.clone();
            named[place + offset] = byte;
            assert_eq!(pem("recipient").check(&named), Err(EnvelopeError::Algorithm));
        }
        openssl(at, "cms -sign -in text -binary -nodetach -signer other.pem -inkey other.key -outform DER -out signed");
        assert_eq!(pem("recipient").check(&std::fs::read(at.join("signed")).unwrap()), Err(EnvelopeError::Form));
        for cut in [0, 1, 20, good.len() - 1] {
            assert_eq!(pem("recipient").check(&good[..cut]), Err(EnvelopeError::Form));
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        assert_eq!(
            SealedFor::from_pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"),
            Err(EnvelopeError::Certificate)
        );
        assert_eq!(SealedFor::from_pem(""), Err(EnvelopeError::Certificate));
    }
}
