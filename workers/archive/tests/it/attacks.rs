//! The attack list: each is found, and by its name.

use crate::world::{
    Kept, NOW, audit_with, authority, bags, compare, hospital, many, names, new_bag, other_authority, rebound, trust,
    trust_text, trust_with, write,
};
use schemas::{Millis, Sha256};
use std::fs;
use zegel_archive::manifest::Side;
use zegel_archive::testing::{Made, Maker, entries, xml};
use zegel_archive::writer::{NewBag, Writer};
use zegel_crypto::hash::sha256;
use zegel_crypto::tsa::Reason;

/// An archive of bags that whoever writes it numbers as they like.
fn renumbered(made: &[Made]) -> Kept {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(&folder.path().join("archive"), &hospital(), Side::Hospital).unwrap();
    for (sequence, made) in (1..).zip(made) {
        let header = made.header.encode();
        writer.append(&NewBag { sequence, ..new_bag(made, &header) }).unwrap();
    }
    writer.finish().unwrap();
    Kept(folder)
}

#[test]
fn a_deleted_bag_is_missing_with_its_window() {
    let mut made = bags(&[2, 2, 2, 2]);
    made.remove(1);
    let found = Kept::of(&made).audit().findings;
    assert_eq!((names(&found), found.status()), (vec!["bag-missing"], 12));
    assert_eq!(found.list()[0].place.bag, Some(2));
    assert!(
        found.list()[0].text.contains("2026-01-01T10:05:00.000Z to 2026-01-01T10:10:00.000Z"),
        "{:?}",
        found.list()
    );
}

#[test]
fn deleted_bags_at_the_beginning_are_missing() {
    let made = bags(&[2, 2, 2]);
    assert_eq!(Kept::of(&made[2..]).names(), ["bag-missing"]);
}

#[test]
fn a_deleted_bag_whose_followers_were_renumbered_is_found() {
    let mut made = bags(&[2, 2, 2, 2]);
    made.remove(1);
    let found = renumbered(&made).audit().findings;
    assert_eq!(found.status(), 10);
    assert!(names(&found).contains(&"bag-renumbered") && names(&found).contains(&"bag-window"), "{:?}", names(&found));
}

/// A hospital deletes a bag, rewrites its followers' headers and XML, and has them stamped by an authority of its own.
#[test]
fn a_deleted_bag_whose_followers_were_signed_anew_by_another_authority_is_found() {
    let made = bags(&[2, 2, 2]);
    let other = other_authority();
    let mut header = made[2].header.clone();
    (header.sequence, header.previous, header.start) = (2, Some(made[0].header.hash()), made[0].header.end);
    let forged_xml = xml(&header, &entries(5..7, 0));
    let tsr = other.stamp(&sha256(&forged_xml), None, header.end.plus(1_000)).unwrap();
    let forged = Kept::of(&[made[0].clone(), Made { header, xml: forged_xml, tsr }]);
    let found = forged.audit().findings;
    assert_eq!((names(&found), found.status()), (vec!["token-untrusted"], 13));
    let (differences, _) = compare(&forged, &Kept::new(Side::Hospital, &made));
    let names: Vec<_> = differences.iter().map(|found| (found.name, found.place.bag)).collect();
    assert!(names.contains(&("header-differs", Some(2))) && names.contains(&("missing-here", Some(3))), "{names:?}");
}

/// The old token over a rewritten bag.
#[test]
fn a_rewritten_bag_with_its_old_token_is_found() {
    let made = bags(&[2, 2]);
    let mut all = entries(3..5, 0);
    all[0].1 = Sha256([9; 32]);
    let other = rebound(&made[1], &all, &authority(), NOW);
    let kept = Kept::of(&[made[0].clone(), Made { tsr: made[1].tsr.clone(), ..other }]);
    assert_eq!(kept.names(), ["bag-token"]);
}

/// Whoever runs the platform holds its authority: a bag is made again with one more entry, and stamped with an old time.
#[test]
fn a_back_dated_entry_breaks_the_chain_behind_it() {
    let made = bags(&[2, 2, 2]);
    let mut all = entries(3..5, 0);
    all.push((99, Sha256([9; 32])));
    let forged = rebound(&made[1], &all, &authority(), made[1].header.end.plus(1_000));
    let kept = Kept::of(&[made[0].clone(), forged, made[2].clone()]);
    let found = kept.audit().findings;
    assert_eq!((names(&found), found.list()[0].place.bag), (vec!["bag-link"], Some(3)));
}

/// The clock was not turned back: the new token is younger than that of the next bag.
#[test]
fn an_entry_that_was_put_in_later_is_younger_than_the_next_bag() {
    let made = bags(&[2, 2, 2]);
    let forged = rebound(&made[1], &[(3, Sha256([9; 32]))], &authority(), NOW);
    let found = Kept::of(&[made[0].clone(), forged, made[2].clone()]).names();
    assert!(found.contains(&"bag-link") && found.contains(&"bag-gen-time"), "{found:?}");
}

/// The platform rewrites the whole end of the chain with its own authority. One archive cannot show it; two can.
#[test]
fn two_views_of_the_platform_are_found_when_two_archives_meet() {
    let made = bags(&[2, 2, 2, 2]);
    let (mut maker, platform) = (Maker::new(hospital(), crate::world::TEN), authority());
    let shown: Vec<Made> = [(1..3, 0), (3..5, 7), (5..7, 0), (7..9, 0)]
        .into_iter()
        .map(|(references, seed)| maker.make(&platform, &entries(references, seed)).unwrap())
        .collect();
    assert_eq!(shown[0].header, made[0].header);
    let (one, other) = (Kept::new(Side::Hospital, &made), Kept::new(Side::Platform, &shown));
    assert!(one.audit().findings.clean() && other.audit().findings.clean());
    let (differences, _) = compare(&one, &other);
    let views: Vec<_> = differences.iter().filter(|found| found.name == "two-views").map(|f| f.place.bag).collect();
    assert_eq!(views, [Some(2), Some(3), Some(4)]);
    assert!(differences.iter().any(|found| found.name == "entry-differs" && found.place.reference == Some(3)));
    assert_eq!(differences.iter().map(|found| found.class.status()).min(), Some(10));
}

#[test]
fn a_token_before_the_end_of_its_bag_is_found() {
    let mut maker = Maker::new(hospital(), crate::world::TEN);
    let bound = maker.bind(&entries(1..3, 0));
    let early = bound.header.end.plus(-1);
    let made = zegel_archive::testing::stamp(bound, &authority(), early).unwrap();
    assert_eq!(Kept::of(&[made]).names(), ["bag-gen-time"]);
}

#[test]
fn a_late_token_is_a_note() {
    let mut maker = Maker::new(hospital(), crate::world::TEN);
    let bound = maker.bind(&entries(1..3, 0));
    let late = bound.header.end.plus(3_600_000);
    let kept = Kept::of(&[zegel_archive::testing::stamp(bound, &authority(), late).unwrap()]);
    let found = kept.audit().findings;
    assert_eq!((found.status(), found.list()[0].name), (0, "token-late"));
}

/// The unit's certificate ends ten years after it was made: a bag of a later time was never stamped by it.
#[test]
fn a_certificate_that_had_ended_at_the_tokens_time_does_not_count() {
    let eleven_years = Millis(1_700_000_000_000 + 11 * 31_556_952_000);
    let mut maker = Maker::new(hospital(), eleven_years);
    // The authority refuses to stamp then, so somebody uses the key by another program.
    assert!(maker.make(&authority(), &entries(1..3, 0)).is_err());
    // And an old token stays good long after its certificate ended.
    let kept = Kept::of(&bags(&[2]));
    let trust = trust();
    let archive = zegel_archive::reader::Archive::open(&kept.path()).unwrap();
    let options = zegel_archive::audit::Options {
        trust: &trust,
        now: eleven_years,
        threads: 1,
        documents: None,
        progress: &|_| {},
    };
    assert!(zegel_archive::audit::archive(&archive, &options).unwrap().findings.clean());
}

#[test]
fn a_revoked_certificate_counts_up_to_its_revocation_unless_its_key_was_out() {
    let kept = Kept::of(&bags(&[2]));
    let stamped = crate::world::TEN.plus(zegel_archive::testing::WINDOW_MS + 1_000);
    let found = |list: Vec<u8>| {
        let trust = trust_text("crl = [\"ca.crl\"]", &list);
        let found = audit_with(&kept.path(), &trust, None);
        assert!(found.overview.revocations_known_until.is_some());
        (names(&found.findings), found.findings.status())
    };
    let nothing: (Vec<&str>, u8) = (vec![], 0);
    assert_eq!(found(authority().list().unwrap()), nothing);
    assert_eq!(found(authority().revoke(stamped.plus(60_000), Reason::Superseded)), nothing);
    let revoked = (vec!["token-revoked"], 13);
    assert_eq!(found(authority().revoke(stamped.plus(-60_000), Reason::Superseded)), revoked);
    assert_eq!(found(authority().revoke(stamped.plus(60_000), Reason::KeyCompromise)), revoked);
    // A list that came with the archive counts as well: the CA signed it. A stranger's list says nothing.
    let audit_with_material = |list: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("archive"), Side::Platform, &bags(&[2]));
        let mut writer = Writer::open(&folder.path().join("archive"), &hospital(), Side::Platform).unwrap();
        writer.append_material("ca.crl", list).unwrap();
        writer.finish().unwrap();
        Kept(folder).names()
    };
    assert_eq!(audit_with_material(&authority().revoke(stamped, Reason::KeyCompromise)), ["token-revoked"]);
    assert_eq!(audit_with_material(&other_authority().revoke(stamped, Reason::KeyCompromise)), [""; 0]);
    // A trust file with a stranger's list is refused, not passed over.
    let text = format!("[[ca]]\npem = '''\n{}'''\ncrl = [\"x\"]\n", authority().ca_pem());
    let strange = other_authority().list().unwrap();
    assert!(zegel_archive::trust::Trust::parse(&text, |_| Ok(strange.clone())).is_err());
}

#[test]
fn a_token_without_the_nonce_that_was_asked_for_is_found() {
    let mut maker = Maker::new(hospital(), crate::world::TEN);
    let bound = maker.bind(&entries(1..3, 0));
    let (imprint, at) = (sha256(&bound.xml), bound.header.end.plus(1_000));
    let authority = authority();
    let request = request(&imprint);
    let audit = |nonce| {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(&folder.path().join("archive"), &hospital(), Side::Platform).unwrap();
        let tsr = authority.stamp(&imprint, nonce, at).unwrap();
        let header = bound.header.encode();
        let bag = NewBag { sequence: 1, header: &header, xml: &bound.xml, tsr: &tsr, request: Some(&request) };
        writer.append(&bag).unwrap();
        writer.finish().unwrap();
        Kept(folder).names()
    };
    assert_eq!(audit(Some(0x0102_0304)), [""; 0]);
    assert_eq!(audit(Some(0x0102_0305)), ["token-nonce"]);
    assert_eq!(audit(None), ["token-nonce"]);
}

/// A `TimeStampReq` with the nonce 0x01020304, written by hand from RFC 3161.
fn request(imprint: &Sha256) -> Vec<u8> {
    let head = "303f0201013031300d060960864801650304020105000420";
    [hex::decode(head).unwrap(), imprint.0.to_vec(), hex::decode("0204010203040101ff").unwrap()].concat()
}

#[test]
fn a_bag_or_segment_of_another_hospital_is_found() {
    let other = "NIHII-HOSPITAL:71000535";
    let mut maker = Maker::new(other.parse().unwrap(), crate::world::TEN);
    let made = maker.make(&authority(), &entries(1..3, 0)).unwrap();
    assert_eq!(Kept::of(&[made]).names(), ["bag-hospital"]);
}

#[test]
fn a_reference_that_stands_in_two_bags_is_found() {
    let mut maker = Maker::new(hospital(), crate::world::TEN);
    let authority = authority();
    let made = [entries(1..10, 0), entries(9..12, 1)].map(|all| maker.make(&authority, &all).unwrap());
    let found = Kept::of(&made).audit().findings;
    let places: Vec<_> = found.list().iter().map(|f| (f.name, f.place.bag, f.place.reference)).collect();
    assert_eq!(places, [("reference-twice", Some(1), Some(9)), ("reference-twice", Some(2), Some(9))]);
}

#[test]
fn one_token_for_two_bags_is_found() {
    let made = bags(&[2, 2]);
    let kept = Kept::of(&[made[0].clone(), Made { tsr: made[0].tsr.clone(), ..made[1].clone() }]);
    assert_eq!(kept.names(), ["bag-token"]);
}

#[test]
fn a_deleted_or_added_file_is_found() {
    let made = many(257);
    let kept = Kept::of(made);
    let stray = kept.path().join("000009.zseg");
    fs::copy(kept.path().join("000002.zseg"), &stray).unwrap();
    assert_eq!(kept.names(), ["file-unknown"]);
    fs::remove_file(&stray).unwrap();
    fs::remove_file(kept.path().join("000001.zseg")).unwrap();
    assert_eq!(kept.names(), ["bag-missing", "segment-missing"]);
    let again = Kept::of(made);
    fs::remove_file(again.path().join("MANIFEST")).unwrap();
    assert_eq!(again.names(), ["manifest-missing"]);
}

/// A whole segment and its manifest made anew around a forged bag: every digest fits, the evidence does not.
#[test]
fn an_archive_that_was_made_anew_around_a_forged_bag_is_found() {
    let mut made = bags(&[3, 3]);
    let text = String::from_utf8(made[0].xml.clone()).unwrap();
    made[0].xml = text.replacen("<Ref>2<", "<Ref>9<", 1).into_bytes();
    assert_eq!(Kept::of(&made).names(), ["bag-root", "bag-token"]);
}

#[test]
fn giant_or_malformed_input_is_found_and_nothing_panics() {
    let kept = Kept::of(&bags(&[2]));
    let segment = kept.path().join("000001.zseg");
    let good = fs::read(&segment).unwrap();
    // A record that says it has four gigabytes.
    let mut giant = good.clone();
    giant[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    // An index offset beyond the file, and one in the middle of a record.
    let mut far = good.clone();
    let at = far.len() - 16;
    far[at..at + 8].copy_from_slice(&u64::MAX.to_be_bytes());
    let mut middle = good.clone();
    middle[at..at + 8].copy_from_slice(&77u64.to_be_bytes());
    for bytes in [giant, far, middle, Vec::new(), vec![0; 100], good[..good.len() / 2].to_vec()] {
        fs::write(&segment, bytes).unwrap();
        assert!(!kept.audit().findings.clean());
    }
    fs::write(&segment, &good).unwrap();
    for text in ["", "zegel-archive 1\n", "zegel-archive 1\nhospital x\nside platform\n", "\u{0}"] {
        fs::write(kept.path().join("MANIFEST"), text).unwrap();
        assert!(!kept.audit().findings.clean(), "{text:?}");
    }
    // Tokens of every kind of rubbish.
    let made = bags(&[2]);
    for tsr in [Vec::new(), vec![0x30; 10_000], vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff], vec![0xff; 100]] {
        let found = Kept::of(&[Made { tsr, ..made[0].clone() }]).names();
        assert_eq!(found, ["bag-token"]);
    }
}

#[test]
fn the_trust_file_alone_decides_whom_to_trust() {
    // The archive carries a CA of its own; the auditor does not look at it.
    let mut maker = Maker::new(hospital(), crate::world::TEN);
    let other = other_authority();
    let made = maker.make(&other, &entries(1..3, 0)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("archive"), Side::Platform, &[made]);
    let mut writer = Writer::open(&folder.path().join("archive"), &hospital(), Side::Platform).unwrap();
    writer.append_material("ca.pem", other.ca_pem().as_bytes()).unwrap();
    writer.finish().unwrap();
    let found = audit_with(&folder.path().join("archive"), &trust_with(""), None).findings;
    assert_eq!(names(&found), ["token-untrusted"]);
}
