//! Tokens of the Belgian authorities, as they were given. They lie outside the repository.

use super::*;
use std::path::PathBuf;

/// A real token; none where the reference inputs are not beside the repository.
fn real(name: &str) -> Option<Vec<u8>> {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/ehealth/timestamp/testvectors");
    let found = fs::read(path.join(name)).ok();
    if found.is_none() {
        println!("SKIPPED: the reference inputs are absent");
    }
    found
}

/// The hash that a token states, by the library alone.
fn stated(token: &[u8]) -> Vec<u8> {
    let content = cms::content_info::ContentInfo::from_der(&ber::to_der(token).unwrap()).unwrap().content;
    let signed = content.decode_as::<cms::signed_data::SignedData>().unwrap();
    let bytes = signed.encap_content_info.econtent.unwrap().decode_as::<OctetString>().unwrap().into_bytes();
    asn1::TstInfo::from_der(&bytes).unwrap().message_imprint.hashed_message.as_bytes().to_vec()
}

/// The certificate with this subject, out of a token.
fn inside(token: &[u8], subject: &str) -> String {
    let content = cms::content_info::ContentInfo::from_der(&ber::to_der(token).unwrap()).unwrap().content;
    let signed = content.decode_as::<cms::signed_data::SignedData>().unwrap();
    let certificates = signed.certificates.unwrap();
    let found = certificates.0.iter().find_map(|choice| match choice {
        cms::cert::CertificateChoices::Certificate(one)
            if one.tbs_certificate.subject.to_string().contains(subject) =>
        {
            Some(certificates::pem(one).unwrap())
        }
        _ => None,
    });
    found.unwrap()
}

#[test]
fn a_real_token_of_2014_verifies_up_to_its_root_and_is_called_weak() {
    let Some(token) = real("fedictTs.ts") else { return };
    let hash = stated(&token);
    let roots = Roots::from_pem(&inside(&token, "Baltimore")).unwrap();
    let today = roots.verify(&token, Digest::Sha256, &hash);
    assert!(matches!(today, Err(TsaError::Refused(_))), "SHA-1 is not read unasked: {today:?}");
    let roots = roots.reading_sha1();
    let info = roots.verify(&token, Digest::Sha256, &hash).unwrap();
    assert_eq!((info.gen_time, info.policy.as_str(), info.weak), (Millis(1_394_884_249_000), "2.16.56.9.3.1", true));
    assert!(roots.verify(&token, Digest::Sha256, &[0; 32]).is_err());
    let stranger = Roots::from_pem(SHARED.1.ca_pem()).unwrap().reading_sha1();
    assert!(stranger.verify(&token, Digest::Sha256, &hash).is_err());
    // Altered in any byte that bears on it, it is refused: certificates that the path does not need may change.
    let mut accepted = 0;
    for at in (0..token.len()).step_by(7) {
        let mut changed = token.clone();
        changed[at] ^= 1;
        accepted += usize::from(roots.verify(&changed, Digest::Sha256, &hash).is_ok_and(|read| read != info));
    }
    assert_eq!(accepted, 0);
}

#[test]
fn a_real_token_of_2021_is_read_and_refused_for_the_certificate_that_it_leaves_out() {
    let Some(token) = real("ehTs2.ts") else { return };
    let hash = stated(&token);
    let roots = Roots::from_pem(SHARED.1.ca_pem()).unwrap();
    let error = roots.verify(&token, Digest::Sha256, &hash).unwrap_err();
    assert_eq!(error.to_string(), "token is refused: signer's certificate is neither in the token nor known");
    let error = roots.verify(&token, Digest::Sha256, &[0; 32]).unwrap_err();
    assert_eq!(error.to_string(), "token is refused: token is for other data");
}
