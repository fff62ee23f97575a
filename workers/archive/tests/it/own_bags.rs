//! Bags that the hospital made itself, as the archive keeps them: good ones, altered ones, and ones with another's token.

use crate::renewing::writer;
use crate::world::{Kept, TEN, authority, hospital, names, other_authority, trust_text, trust_with};
use base64::{Engine, engine::general_purpose::STANDARD};
use schemas::Sha256;
use zegel_archive::Class;
use zegel_archive::list::Documents;
use zegel_archive::manifest::Side;
use zegel_archive::record::Foreign;
use zegel_archive::testing::{Made, Maker, WINDOW_MS};
use zegel_crypto::hash::sha256;
use zegel_crypto::tsa::Reason;
use zegel_timestamp::rows::own_reference;

/// A bag of the hospital with two entries: a document's hash, and a text that is none.
fn own(sequence: i64) -> Vec<u8> {
    let hash = STANDARD.encode(sha256(&sequence.to_be_bytes()).0);
    format!(
        "<TimeStampBag xmlns=\"urn:be:fgov:ehealth:timestamping:protocol:v2\" Hash=\"SHA-256\" SequenceNumber=\"{sequence}\">\
         <JournalEntry><Hash>{hash}</Hash><Ref>5</Ref></JournalEntry>\
         <JournalEntry><Hash>any text</Hash><Ref>-6</Ref></JournalEntry></TimeStampBag>"
    )
    .into_bytes()
}

/// The token of such a bag, made while the window was open.
fn token(bytes: &[u8]) -> Vec<u8> {
    authority().stamp(&sha256(bytes), None, TEN.plus(1_000)).unwrap()
}

/// Two bags of the platform, of which the first holds the hashes of these.
fn platforms(owns: &[&[u8]]) -> Vec<Made> {
    let mut maker = Maker::new(hospital(), TEN);
    let authority = authority();
    let mut entries = vec![(1, Sha256([1; 32]))];
    entries.extend(owns.iter().map(|own| (own_reference(&sha256(own)), sha256(own))));
    let first = maker.make(&authority, &entries).unwrap();
    vec![first, maker.make(&authority, &[(2, Sha256([2; 32]))]).unwrap()]
}

/// An archive in which one record stands for the hospital's bag 17.
fn kept(side: Side, tsr: &[u8], bytes: &[u8], held_by: u64) -> Kept {
    let kept = Kept::new(side, &platforms(&[&own(17)]));
    let mut writer = if side == Side::Platform {
        writer(&kept)
    } else {
        zegel_archive::writer::Writer::open(&kept.path(), &hospital(), side).unwrap()
    };
    writer.append_foreign(&Foreign { tsr, bytes, held_by }).unwrap();
    writer.finish().unwrap();
    kept
}

#[test]
fn a_good_one_is_verified_with_its_entries_and_a_document_in_it_is_found() {
    let bytes = own(17);
    let kept = kept(Side::Platform, &token(&bytes), &bytes, 1);
    let audited = kept.audit();
    assert_eq!(names(&audited.findings), [""; 0], "{:?}", audited.findings.list());
    assert_eq!((audited.overview.own_bags, audited.overview.own_entries), (1, 2));
    assert!(audited.findings.list().iter().any(|found| found.name == "own-bag-hashes" && found.class == Class::Notice));
    let trust = trust_with("");
    let document = sha256(&17_i64.to_be_bytes());
    let found = |wanted: Documents| names(&crate::world::audit_with(&kept.path(), &trust, Some(&wanted)).findings);
    assert_eq!(found(Documents::one(document, None, false)), [""; 0]);
    assert_eq!(found(Documents::one(document, Some(5), false)), [""; 0]);
    assert_eq!(found(Documents::one(document, Some(6), false)), ["document-missing"]);
    assert_eq!(found(Documents::one(Sha256([9; 32]), None, false)), ["document-missing"]);
}

#[test]
fn an_altered_one_and_one_with_another_token_are_found_with_their_status() {
    let bytes = own(17);
    let altered = String::from_utf8(bytes.clone()).unwrap().replace("<Ref>5<", "<Ref>7<").into_bytes();
    let other = own(18);
    let later = authority().stamp(&sha256(&bytes), None, TEN.plus(2 * WINDOW_MS)).unwrap();
    let stranger = other_authority().stamp(&sha256(&bytes), None, TEN.plus(1_000)).unwrap();
    let mut bent = token(&bytes);
    let last = bent.len() - 1;
    bent[last] ^= 1;
    let text = b"no bag at all".to_vec();
    for (what, tsr, bytes, held_by, expected, status) in [
        ("altered bytes", token(&bytes), altered.clone(), 1, vec!["own-bag-missing", "own-bag-token"], 10),
        ("altered and stamped anew", token(&altered), altered, 1, vec!["own-bag-held", "own-bag-missing"], 10),
        ("another bag's token", token(&other), bytes.clone(), 1, vec!["own-bag-token"], 10),
        ("a changed signature", bent, bytes.clone(), 1, vec!["own-bag-token"], 10),
        ("no token", b"token".to_vec(), bytes.clone(), 1, vec!["own-bag-token"], 10),
        ("a token from after its platform's bag", later, bytes.clone(), 1, vec!["own-bag-time"], 10),
        ("another bag is said to hold it", token(&bytes), bytes.clone(), 2, vec!["own-bag-held"], 10),
        ("an absent bag is said to hold it", token(&bytes), bytes.clone(), 9, vec!["own-bag-held"], 10),
        ("no bag, and stamped", token(&text), text, 1, vec!["own-bag-held", "own-bag-missing", "own-bag-xml"], 10),
        ("a stranger's token", stranger, bytes, 1, vec!["token-untrusted"], 13),
    ] {
        let audited = kept(Side::Platform, &tsr, &bytes, held_by).audit();
        assert_eq!((names(&audited.findings), audited.findings.status()), (expected, status), "{what}");
        assert!(audited.overview.own_bags == 0 || status == 10, "{what}");
    }
}

#[test]
fn the_certificate_counts_at_the_tokens_time_and_what_was_taken_out_is_missed() {
    let bytes = own(17);
    let authority = authority();
    let token = authority.stamp(&sha256(&bytes), None, TEN.plus(1_000)).unwrap();
    let archive = kept(Side::Platform, &token, &bytes, 1);
    let list = authority.revoke(TEN.plus(500), Reason::Superseded);
    let revoked = trust_text("crl = [\"ca.crl\"]\n", &list);
    let findings = crate::world::audit_with(&archive.path(), &revoked, None).findings;
    let place = findings.list().iter().find(|found| found.place.bag.is_none() && found.name == "token-revoked");
    assert!(place.is_some() && findings.status() == 13, "{:?}", findings.list());
    // The platform's archive has every bag whose hash stands in it; the hospital's may lack some.
    assert_eq!(Kept::of(&platforms(&[&bytes])).names(), ["own-bag-missing"]);
    assert_eq!(Kept::new(Side::Hospital, &platforms(&[&bytes])).names(), [""; 0]);
    // Archived twice by a crash, and twice with two tokens.
    for (second, expected) in [(token.clone(), vec![]), (self::token(&bytes), vec!["own-bag-twice"])] {
        let archive = kept(Side::Platform, &token, &bytes, 1);
        let mut writer = writer(&archive);
        writer.append_foreign(&Foreign { tsr: &second, bytes: &bytes, held_by: 1 }).unwrap();
        writer.finish().unwrap();
        assert_eq!(archive.names(), expected);
    }
}
