//! Records made, renewed, hashed anew, and attacked.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::tree::{joins, root};
use super::*;
use crate::tsa::{Algorithm, Authority, Moment, Request, TrustAnchor, token_of, verify_imprint};
use proptest::prelude::*;
use schemas::Millis;

/// 2025-12-01T00:00:00Z
const BEGIN: Millis = Millis(1_764_547_200_000);
const DAY: i64 = 86_400_000;

fn authority() -> (tempfile::TempDir, Authority, TrustAnchor) {
    let folder = tempfile::tempdir().unwrap();
    let made = Authority::create_with(&folder.path().join("tsa"), "Zegel test", BEGIN, Algorithm::P256).unwrap();
    let anchor = TrustAnchor::from_pem(made.ca_pem()).unwrap();
    (folder, made, anchor)
}

/// A token over a digest of any kind.
fn token(authority: &Authority, digest: Digest, imprint: &[u8], day: i64) -> Vec<u8> {
    let request = Request::over(digest, imprint, None).unwrap().encode();
    token_of(&authority.answer(&request, Some(Moment::from(BEGIN.plus(day * DAY))))).unwrap()
}

fn check(record: &EvidenceRecord, data: &[u8], anchor: &TrustAnchor) -> Result<Vec<TokenInfo>, RecordError> {
    record
        .verify(|digest| digest.of(data), |response, digest, imprint| verify_imprint(response, digest, imprint, anchor))
}

#[test]
fn a_renewed_record_survives_its_encoding_and_holds_for_its_data_alone() {
    let (_folder, authority, anchor) = authority();
    let (sha256, data) = (Digest::Sha256, [[0u8], [1], [2], [3], [4]]);
    let begin = |data: &[u8; 1]| EvidenceRecord::begin(&token(&authority, sha256, &sha256.of(data), 1)).unwrap();
    let mut records: Vec<_> = data.iter().map(begin).collect();
    for day in [2, 3] {
        let members: Vec<_> = records.iter().map(|record| record.renewed_digest().unwrap()).collect();
        let (root, paths) = tree(sha256, &members);
        let renewal = token(&authority, sha256, &root, day);
        for (record, path) in records.iter_mut().zip(&paths) {
            record.renew(path, &renewal).unwrap();
        }
    }
    for (record, data) in records.iter().zip(&data) {
        let read = EvidenceRecord::decode(&record.encode().unwrap()).unwrap();
        assert_eq!(&read, record);
        let tokens = check(&read, data, &anchor).unwrap();
        assert_eq!(tokens.iter().map(|t| t.gen_time.since(BEGIN) / DAY).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(matches!(check(&read, b"other", &anchor), Err(RecordError::Token { index: 0, .. })));
    }
    // Another's tree, a renewal left out, and times that fall.
    let mut mixed = records[0].clone();
    mixed.0[0].stamps[1] = records[2].0[0].stamps[1].clone();
    let refused = Err(RecordError::Refused("a renewal is not over what it renews"));
    assert_eq!(check(&mixed, &data[0], &anchor), refused);
    let mut short = records[0].clone();
    short.0[0].stamps.remove(1);
    assert!(check(&short, &data[0], &anchor).is_err());
}

#[test]
fn a_chain_in_another_digest_binds_the_data_and_all_chains_before_it() {
    let (_folder, authority, anchor) = authority();
    let data: [&[u8]; 3] = [b"one", b"two", b"three"];
    let begin =
        |data: &&[u8]| EvidenceRecord::begin(&token(&authority, Digest::Sha256, &Digest::Sha256.of(data), 1)).unwrap();
    let mut records: Vec<_> = data.iter().map(begin).collect();
    for (day, digest) in [(2, Digest::Sha512), (4, Digest::Sha384)] {
        let rehash = |(record, data): (&EvidenceRecord, &&[u8])| record.rehashed(digest, &digest.of(data)).unwrap();
        let members: Vec<_> = records.iter().zip(&data).map(rehash).collect();
        let (root, paths) = tree(digest, &members);
        let renewal = token(&authority, digest, &root, day);
        for (record, path) in records.iter_mut().zip(&paths) {
            record.begin_chain(path, &renewal).unwrap();
        }
        // And time stamps go on being renewed in the new digest.
        for record in &mut records {
            let (root, paths) = tree(digest, &[record.renewed_digest().unwrap()]);
            let other = token(&authority, Digest::Sha256, &[7; 32], day + 1);
            assert!(record.clone().renew(&paths[0], &other).is_err(), "a token over another digest");
            record.renew(&paths[0], &token(&authority, digest, &root, day + 1)).unwrap();
        }
    }
    for (record, data) in records.iter().zip(&data) {
        let read = EvidenceRecord::decode(&record.encode().unwrap()).unwrap();
        assert_eq!((&read, read.len(), read.digest()), (record, 5, Ok(Digest::Sha384)));
        assert_eq!(check(&read, data, &anchor).unwrap().len(), 5);
    }
    // The second chain of another record, an earlier time stamp taken out, and a chain taken out.
    let mut mixed = records[0].clone();
    mixed.0[1] = records[1].0[1].clone();
    let mut without = records[0].clone();
    without.0.remove(1);
    let mut swapped = records[0].clone();
    swapped.0[0] = records[1].0[0].clone();
    for bad in [mixed, without, swapped] {
        assert!(check(&bad, data[0], &anchor).is_err());
    }
    // Somebody who found two documents with one SHA-256 shows the other: the second chain knows better.
    let collided = records[0].verify(
        |digest| if digest == Digest::Sha256 { digest.of(data[0]) } else { digest.of(b"another") },
        |response, digest, imprint| verify_imprint(response, digest, imprint, &anchor),
    );
    assert_eq!(collided, Err(RecordError::Refused("a renewal is not over what it renews")));
}

#[test]
fn every_flipped_bit_of_a_record_is_refused() {
    let (_folder, authority, anchor) = authority();
    let digest = Digest::Sha256;
    let mut record = EvidenceRecord::begin(&token(&authority, digest, &digest.of(b"data"), 1)).unwrap();
    let (root, paths) = tree(digest, &[record.renewed_digest().unwrap(), digest.of(b"neighbour")]);
    record.renew(&paths[0], &token(&authority, digest, &root, 2)).unwrap();
    let good = record.encode().unwrap();
    for bit in (0..good.len() * 8).step_by(61) {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let held = EvidenceRecord::decode(&bytes).and_then(|record| check(&record, b"data", &anchor));
        assert!(held.is_err(), "bit {bit}");
    }
}

proptest! {
    #[test]
    fn every_member_of_a_group_leads_to_its_root_and_nothing_else_does(count in 1usize..70, other: [u8; 32]) {
        let digest = Digest::Sha256;
        let leaves: Vec<_> = (0..count).map(|n| digest.of(&n.to_be_bytes())).collect();
        let (top, paths) = tree(digest, &leaves);
        for (leaf, path) in leaves.iter().zip(&paths) {
            prop_assert_eq!(root(digest, path), Some(top.clone()));
            prop_assert!(joins(std::slice::from_ref(leaf), path) && !joins(&[other.to_vec()], path));
        }
        // From nodes that are no leaves: all at once, and one by one.
        let (top, paths) = above(digest, &leaves);
        for (at, siblings) in paths.into_iter().enumerate() {
            prop_assert_eq!(climb(digest, leaves.clone(), at), (top.clone(), siblings));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _record = EvidenceRecord::decode(&bytes);
    }
}
#[test]
fn a_document_and_its_salt_join_a_chain_as_one_group_and_neither_holds_without_the_other() {
    let (_folder, authority, anchor) = authority();
    let (old, new) = (Digest::Sha256, Digest::Sha512);
    let begun = EvidenceRecord::begin(&token(&authority, old, &old.of(b"list"), 1)).unwrap();
    let member = |data: &[u8]| begun.rehashed(new, &new.of(data)).unwrap();
    let (list, group) = (vec![member(b"list")], vec![member(b"document"), member(b"salt")]);
    let nodes = vec![node(new, &list), node(new, &group), node(new, &[member(b"other")])];
    let (top, first) = climb(new, nodes.clone(), 0);
    let stamp = token(&authority, new, &top, 2);
    let mut of_list = begun.clone();
    of_list.begin_chain(&[vec![list], first].concat(), &stamp).unwrap();
    assert_eq!(check(&of_list, b"list", &anchor).unwrap().len(), 2);
    let mut of_group = of_list.until(1);
    of_group.follow(&of_list, 1, &[vec![group], climb(new, nodes, 1).1].concat()).unwrap();
    let read = EvidenceRecord::decode(&of_group.encode().unwrap()).unwrap();
    let held = |data: &[&[u8]]| {
        let verify = |response: &[u8], digest, imprint: &[u8]| verify_imprint(response, digest, imprint, &anchor);
        read.verify_group(|digest| digest.of(b"list"), |digest| data.iter().map(|one| digest.of(one)).collect(), verify)
    };
    assert_eq!(held(&[b"document", b"salt"]).unwrap().len(), 2);
    for bad in
        [&[b"document".as_slice(), b"pepper"][..], &[b"documend", b"salt"], &[b"document", b"salt", b"salt"], &[]]
    {
        assert_eq!(held(bad), Err(RecordError::Refused("a renewal is not over what it renews")));
    }
    assert!(check(&read, b"list", &anchor).is_err(), "the group's path is not the list's");
}
