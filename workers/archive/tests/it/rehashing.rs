//! Bags and documents hashed anew before a digest weakens (RFC 4998 section 5.3), and what is made of them by others.

use crate::renewing::{LATER, renewed, stamped, writer};
use crate::world::{Kept, TEN, audit_with, authority, hospital, names, other_authority, trust, trust_text};
use schemas::{Millis, Sha256};
use std::io::Write;
use std::process::{Command, Stdio};
use zegel_archive::evidence::{self, Wanted};
use zegel_archive::list::salted;
use zegel_archive::reader::Archive;
use zegel_archive::record::{Foreign, Leaves};
use zegel_archive::rehash::{Done, Originals, due, rehash};
use zegel_archive::renewal::records;
use zegel_archive::testing::{Maker, entries, forged};
use zegel_crypto::evidence_record::EvidenceRecord;
use zegel_crypto::hash::sha256;
use zegel_crypto::tsa::{Authority, Digest, Reason};

const SALTED: &[u8] = b"<prescription>12</prescription>";
const PLAIN: &[u8] = b"<prescription>13</prescription>";
const LOST: &[u8] = b"<prescription>14</prescription>";
const SALT: [u8; 16] = [7; 16];

/// Two bags. The second one holds a salted document (12), a plain one (13) and one that nobody has any more (14).
fn kept() -> Kept {
    let mut maker = Maker::new(hospital(), TEN);
    let authority = authority();
    let first = maker.make(&authority, &entries(1..4, 0)).unwrap();
    let all = [(12, salted(&SALT, &sha256(SALTED))), (13, sha256(PLAIN)), (14, sha256(LOST))];
    Kept::of(&[first, maker.make(&authority, &all).unwrap()])
}

fn originals(digest: Digest, documents: &[&[u8]]) -> Originals {
    let mut originals = Originals::new(digest);
    documents.iter().for_each(|document| originals.add(document, &[SALT]));
    originals
}

fn rehashed(kept: &Kept, digest: Digest, documents: &[&[u8]], authority: &Authority, at: Millis) -> Done {
    let archive = Archive::open(&kept.path()).unwrap();
    let due = due(&archive, digest).unwrap();
    let mut writer = writer(kept);
    let done = rehash(&archive, &due, &originals(digest, documents), &mut writer, stamped(authority, at)).unwrap();
    writer.finish().unwrap();
    done
}

fn made(kept: &Kept, document: &[u8]) -> Vec<u8> {
    let salt = (document == SALTED).then_some(SALT.as_slice());
    let wanted = Wanted { document: Some(document), salt, ..Wanted::default() };
    evidence::make(&Archive::open(&kept.path()).unwrap(), &wanted, &trust()).unwrap()
}

#[test]
fn documents_hashed_anew_hold_by_their_own_bytes_through_further_renewals_and_digests() {
    let kept = kept();
    renewed(&kept, &authority(), LATER);
    let both = [SALTED, PLAIN];
    assert_eq!(
        rehashed(&kept, Digest::Sha384, &both, &authority(), LATER.plus(1_000)),
        Done { bags: 2, documents: 2, absent: 4 }
    );
    assert_eq!(rehashed(&kept, Digest::Sha384, &both, &authority(), LATER.plus(2_000)), Done::default());
    renewed(&kept, &authority(), LATER.plus(3_000));
    // A document that joined no chain before cannot join a later one.
    let done = rehashed(&kept, Digest::Sha512, &[SALTED, PLAIN, LOST], &authority(), LATER.plus(4_000));
    assert_eq!(done, Done { bags: 2, documents: 2, absent: 4 });
    renewed(&kept, &authority(), LATER.plus(5_000));
    let audited = kept.audit();
    assert_eq!(names(&audited.findings), [""; 0], "{:?}", audited.findings.list());
    assert_eq!((audited.overview.renewed, audited.overview.documents_rehashed), (2, 2));
    for document in both {
        let (view, findings) = evidence::check(&made(&kept, document), None, &trust());
        assert!(findings.list().is_empty(), "{:?}", findings.list());
        assert_eq!((view.renewed, view.document_in.as_deref()), (Some(LATER.plus(5_000)), Some("sha-512")));
    }
    let (view, findings) = evidence::check(&made(&kept, LOST), None, &trust());
    assert_eq!((findings.list()[0].name, findings.status(), view.document_in), ("document-not-rehashed", 0, None));
}

#[test]
fn evidence_whose_later_chain_was_altered_left_out_or_taken_from_another_document_is_refused() {
    let kept = kept();
    rehashed(&kept, Digest::Sha512, &[SALTED, PLAIN], &authority(), LATER);
    let (good, other) = (made(&kept, PLAIN), made(&kept, SALTED));
    let file = |evidence: &[u8], name: &str| {
        // The name of a file begins a block.
        let blocks = (0..evidence.len()).step_by(512);
        let at = blocks.into_iter().find(|at| evidence[*at..].starts_with(format!("{name}\0").as_bytes())).unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&evidence[at + 124..at + 135]).unwrap(), 8).unwrap();
        evidence[at + 512..at + 512 + size].to_vec()
    };
    assert!(
        evidence::check(&forged(&good, "document.ers", Some(&file(&good, "document.ers"))).unwrap(), None, &trust())
            .1
            .clean()
    );
    let refused = |name: &str, content: Option<&[u8]>| {
        let (view, findings) = evidence::check(&forged(&good, name, content).unwrap(), None, &trust());
        assert_eq!((findings.status(), view.document_in), (10, None), "{name}");
        names(&findings)
    };
    assert_eq!(refused("document.ers", Some(&file(&other, "document.ers"))), ["document-renewal"]);
    assert_eq!(refused("document.ers", Some(&file(&good, "renewal.ers"))), ["document-renewal"]);
    assert_eq!(refused("renewal.ers", None), ["document-renewal-alone"]);
    let first = EvidenceRecord::decode(&file(&good, "renewal.ers")).unwrap().until(1).encode().unwrap();
    assert_eq!(refused("renewal.ers", Some(&first)), ["document-renewal"]);
    assert_eq!(refused("document", Some(b"another")), ["document-differs", "document-renewal", "evidence-digest"]);
    // Every changed bit, whatever the digests beside it say.
    let own = file(&good, "document.ers");
    for bit in (0..own.len() * 8).step_by(1_999) {
        let mut bytes = own.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        refused("document.ers", Some(&bytes));
    }
}

#[test]
fn documents_hashes_that_were_not_stamped_with_their_bag_are_found() {
    let kept = kept();
    rehashed(&kept, Digest::Sha512, &[PLAIN], &authority(), LATER);
    let appended = |leaves: Leaves| {
        let mut writer = writer(&kept);
        writer.append_leaves(&leaves).unwrap();
        writer.finish().unwrap();
        kept.names()
    };
    let forged = Leaves { sequence: 2, chain: 1, documents: vec![(13, vec![vec![9; 64]])] };
    assert_eq!(appended(forged.clone()), ["renewal-documents"]);
    let archive = Archive::open(&kept.path()).unwrap();
    let wanted = Wanted { document: Some(PLAIN), ..Wanted::default() };
    assert!(evidence::make(&archive, &wanted, &trust()).is_err());
    // For a bag that has no later chain they mean nothing: a run was cut off before its token was archived.
    let kept = self::kept();
    let mut writer = writer(&kept);
    writer.append_leaves(&forged).unwrap();
    writer.finish().unwrap();
    assert_eq!((kept.names(), kept.audit().findings.list().len()), (vec![], 0));
    assert_eq!(rehashed(&kept, Digest::Sha512, &[PLAIN], &authority(), LATER).documents, 1);
    assert_eq!((kept.names(), kept.audit().overview.documents_rehashed), (vec![], 1));
    // A chain that a stranger began counts for nothing.
    let kept = self::kept();
    rehashed(&kept, Digest::Sha512, &[PLAIN], &other_authority(), LATER);
    assert_eq!((kept.names(), kept.audit().findings.status()), (vec!["renewal"], 13));
}

#[test]
fn a_key_stolen_after_documents_were_hashed_anew_does_not_make_them_altered() {
    let kept = kept();
    rehashed(&kept, Digest::Sha512, &[SALTED, PLAIN], &authority(), LATER);
    let trust = trust_text("crl = [\"ca.crl\"]", &authority().revoke(LATER.plus(60_000), Reason::KeyCompromise));
    let found = audit_with(&kept.path(), &trust, None).findings;
    assert_eq!((names(&found), found.status()), (vec!["renewal", "token-revoked"], 13), "{:?}", found.list());
    for document in [SALTED, PLAIN] {
        let (view, found) = evidence::check(&made(&kept, document), None, &trust);
        let expected = vec!["document-renewal-alone", "renewal", "token-revoked"];
        assert_eq!((names(&found), found.status()), (expected, 13), "{:?}", found.list());
        assert_eq!((view.renewed, view.document_in), (None, None));
        // What is altered stays so beside it.
        let found = evidence::check(&made(&kept, document), Some(b"another"), &trust).1;
        assert_eq!(found.status(), 10, "{:?}", found.list());
    }
}

#[test]
fn a_bag_that_the_hospital_made_itself_is_hashed_anew_from_the_archive() {
    let (own, mut maker) = (b"<TimeStampBag/>", Maker::new(hospital(), TEN));
    let authority = authority();
    let tsr = authority.stamp(&sha256(own), None, TEN).unwrap();
    let kept = Kept::of(&[maker.make(&authority, &[((1 << 62) + 1, sha256(own))]).unwrap()]);
    let mut first = writer(&kept);
    first.append_foreign(&Foreign { tsr: &tsr, bytes: own, held_by: 1 }).unwrap();
    first.finish().unwrap();
    let archive = Archive::open(&kept.path()).unwrap();
    let mut originals = Originals::new(Digest::Sha512);
    originals.add_own_bags(&archive).unwrap();
    let all = due(&archive, Digest::Sha512).unwrap();
    let mut writer = writer(&kept);
    let done = rehash(&archive, &all, &originals, &mut writer, stamped(&authority, LATER)).unwrap();
    assert_eq!(done, Done { bags: 1, documents: 1, absent: 0 });
}

/// Runs openssl with bytes; none when it is not there.
fn openssl(arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut child =
        Command::new("openssl").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    Some(output.stdout)
}

/// The token of the second chain, against what RFC 4998 says it is over, every hash of it made by openssl.
#[test]
fn openssl_verifies_the_new_token_over_the_hash_that_rfc_4998_says() {
    let Some(_version) = openssl(&["version"], b"") else {
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "ZEGEL_ORACLES is set and openssl is absent");
        println!("SKIPPED: openssl is absent");
        return;
    };
    let mut maker = Maker::new(hospital(), TEN);
    let bag = maker.make(&authority(), &[(12, salted(&SALT, &sha256(SALTED))), (13, Sha256([1; 32]))]).unwrap();
    let kept = Kept::of(std::slice::from_ref(&bag));
    renewed(&kept, &authority(), LATER);
    let record = |kept: &Kept| records(&Archive::open(&kept.path()).unwrap()).unwrap().remove(&1).unwrap();
    let before = record(&kept);
    rehashed(&kept, Digest::Sha512, &[SALTED], &authority(), LATER.plus(60_000));
    let hash = |bytes: &[u8]| openssl(&["dgst", "-sha512", "-binary"], bytes).unwrap();
    let joined =
        |one: &[u8], other: &[u8]| hash(&if one < other { [one, other].concat() } else { [other, one].concat() });
    // The archiveTimeStampSequence is the last element of the record before: openssl says where it begins.
    let parsed = String::from_utf8(openssl(&["asn1parse", "-inform", "DER"], &before).unwrap()).unwrap();
    let mut places = parsed.lines().filter(|line| line.contains("d=1 ") && line.contains("SEQUENCE"));
    let place: usize = places.next_back().unwrap().split(':').next().unwrap().trim().parse().unwrap();
    let chains = hash(&before[place..]);
    let member = |data: &[u8]| hash(&[hash(data), chains.clone()].concat());
    let root = joined(&hash(&member(&bag.xml)), &joined(&member(SALTED), &member(&SALT)));

    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let token = EvidenceRecord::decode(&record(&kept)).unwrap().last_token().unwrap();
    std::fs::write(path("token"), token).unwrap();
    std::fs::write(path("ca.pem"), authority().ca_pem()).unwrap();
    let verified = |root: &[u8]| {
        let output = Command::new("openssl")
            .args(["ts", "-verify", "-token_in", "-in", &path("token"), "-CAfile", &path("ca.pem")])
            .args(["-digest", &hex::encode(root), "-attime", &(LATER.plus(60_000).0 / 1_000).to_string()])
            .output()
            .unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).contains("Verification: OK")
    };
    assert!(verified(&root) && !verified(&hash(b"another")));
}
