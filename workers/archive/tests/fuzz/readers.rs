//! What reads single things: requests, tokens, lists, certificates, records, notes, proofs, bags, settings.

use crate::Target;
use schemas::{Millis, Sha256};
use std::sync::LazyLock;
use tempfile::TempDir;
use zegel_archive::list::Documents;
use zegel_archive::manifest::Manifest;
use zegel_archive::record;
use zegel_archive::summary::Summary;
use zegel_archive::testing::{Maker, entries};
use zegel_archive::trust::Trust;
use zegel_crypto::bag::Header;
use zegel_crypto::evidence_record::{EvidenceRecord, tree};
use zegel_crypto::hash::sha256;
use zegel_crypto::log::witness::AddCheckpoint;
use zegel_crypto::log::{Checkpoint, LogProof, Note, NoteKey, NoteSigner, Policy, Purpose, Resource};
use zegel_crypto::merkle::Tree;
use zegel_crypto::tsa::{
    Algorithm, Authority, Crl, Digest, Moment, Reason, Request, Roots, TrustAnchor, gen_time, request_nonce,
    response_of, serial, token_of, unit_ends, verify, verify_imprint,
};
use zegel_timestamp::consult::{BagRequest, ConsultRequest};
use zegel_timestamp::xml::{read_bag, read_bag_bytes};

/// 2026-01-01T10:00:00Z
pub const TEN: Millis = Millis(1_767_261_600_000);
const DATA: &[u8] = b"data";

/// One authority with a fast key, made a month before [`TEN`].
pub static AUTHORITY: LazyLock<(TempDir, Authority)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let made = Millis(TEN.0 - 31 * 86_400_000);
    let authority = Authority::create_with(&folder.path().join("tsa"), "Zegel", made, Algorithm::P256).unwrap();
    (folder, authority)
});

pub fn authority() -> &'static Authority {
    &AUTHORITY.1
}

fn anchor() -> TrustAnchor {
    TrustAnchor::from_pem(authority().ca_pem()).unwrap()
}

/// What came of it: `ok`, or the error's words.
fn said<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "ok".to_owned())
}

fn target(name: &'static str, turn: u32, seeds: Vec<Vec<u8>>, feed: impl Fn(&[u8]) -> String + 'static) -> Target {
    Target { name, seeds, turn, feed: Box::new(feed) }
}

pub fn targets() -> Vec<Target> {
    let tokens = vec![stamped(&sha256(DATA), Some(7)), stamped(&sha256(DATA), None)];
    vec![
        request(),
        token(tokens.clone()),
        foreign(tokens),
        revocations(),
        certificates(),
        evidence_record(),
        headers(),
        bags(),
        records(),
        manifest(),
        log(),
        consultation(),
        settings(),
    ]
}

fn stamped(imprint: &Sha256, nonce: Option<u64>) -> Vec<u8> {
    authority().stamp(imprint, nonce, TEN).unwrap()
}

fn request() -> Target {
    let seeds = [(Digest::Sha256, Some(1)), (Digest::Sha512, Some(u64::MAX)), (Digest::Sha384, None)];
    let seeds = seeds.map(|(digest, nonce)| Request::over(digest, &digest.of(DATA), nonce).unwrap().encode());
    target("request", 64, seeds.to_vec(), |bytes| {
        let answer = authority().answer(bytes, Some(Moment { now: TEN, accuracy_ms: Some(1_000) }));
        assert!(answer.len() < 4_096, "an answer has a bound");
        let nonce = request_nonce(bytes).is_ok();
        // What is granted is a whole token over what was asked for.
        match (token_of(&answer), Request::read(bytes)) {
            (Ok(token), Ok(request)) => {
                let (digest, hash) = request.imprint().unwrap();
                let roots = Roots::from_pem(authority().ca_pem()).unwrap();
                let roots = roots.knowing(&authority().units_pem().unwrap()).unwrap();
                roots.verify(&token, digest, &hash).unwrap();
                format!("granted {digest:?} {nonce}")
            }
            (Err(_), read) => format!("{:?} {nonce}", read.err()),
            (Ok(_), Err(failure)) => panic!("granted what cannot be read: {failure}"),
        }
    })
}

fn token(seeds: Vec<Vec<u8>>) -> Target {
    let anchor = anchor();
    let good: Vec<_> = seeds.iter().map(|seed| verify(seed, &sha256(DATA), &anchor).unwrap()).collect();
    target("token", 48, seeds, move |bytes| {
        let parts = [gen_time(bytes).is_ok(), serial(bytes).is_ok(), unit_ends(bytes).is_ok()];
        let bare = token_of(bytes).map(|token| token_of(&response_of(&token)).is_ok());
        let found = verify(bytes, &sha256(DATA), &anchor);
        assert!(found.as_ref().is_ok_and(|found| good.contains(found)) || found.is_err(), "altered and accepted");
        format!("{} {parts:?} {}", said(found), said(bare))
    })
}

fn foreign(seeds: Vec<Vec<u8>>) -> Target {
    let roots = Roots::from_pem(authority().ca_pem()).unwrap().reading_sha1();
    let good: Vec<_> = seeds.iter().map(|seed| roots.verify(seed, Digest::Sha256, &sha256(DATA).0).unwrap()).collect();
    let bare = seeds.iter().map(|seed| token_of(seed).unwrap());
    let seeds = seeds.iter().cloned().chain(bare).collect();
    target("foreign token", 48, seeds, move |bytes| {
        let found = roots.verify(bytes, Digest::Sha256, &sha256(DATA).0);
        assert!(found.as_ref().is_ok_and(|found| good.contains(found)) || found.is_err(), "altered and accepted");
        said(found)
    })
}

fn revocations() -> Target {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("tsa");
    let made = Authority::create_with(&other, "Other", TEN, Algorithm::P256).unwrap();
    let anchor = TrustAnchor::from_pem(made.ca_pem()).unwrap();
    let seeds = vec![made.list().unwrap(), Authority::revoke_active(&other, TEN, Reason::Superseded).unwrap()];
    let good: Vec<_> = seeds.iter().map(|seed| Crl::read(seed, &anchor).unwrap().number()).collect();
    target("revocations", 48, seeds, move |bytes| {
        let found = Crl::read(bytes, &anchor);
        assert!(
            found.as_ref().is_ok_and(|list| good.contains(&list.number())) || found.is_err(),
            "altered and accepted"
        );
        said(found)
    })
}

fn certificates() -> Target {
    let seeds = vec![authority().ca_pem().as_bytes().to_vec(), authority().units_pem().unwrap().into_bytes()];
    target("certificates", 32, seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        format!("{} {}", said(TrustAnchor::from_pem(&text)), said(Roots::from_pem(&text)))
    })
}

/// A token over a hash of any digest.
fn over(digest: Digest, hash: &[u8]) -> Vec<u8> {
    let request = Request::over(digest, hash, None).unwrap().encode();
    token_of(&authority().answer(&request, Some(Moment::from(TEN)))).unwrap()
}

fn evidence_record() -> Target {
    let first = token_of(&stamped(&sha256(DATA), None)).unwrap();
    let mut record = EvidenceRecord::begin(&first).unwrap();
    let one = record.clone().encode().unwrap();
    let (root, paths) = tree(Digest::Sha256, &[record.renewed_digest().unwrap(), vec![7; 32]]);
    record.renew(&paths[0], &over(Digest::Sha256, &root)).unwrap();
    let (root, paths) = tree(Digest::Sha512, &[record.rehashed(Digest::Sha512, &Digest::Sha512.of(DATA)).unwrap()]);
    record.begin_chain(&paths[0], &over(Digest::Sha512, &root)).unwrap();
    let anchor = anchor();
    target("evidence record", 32, vec![one, record.encode().unwrap()], move |bytes| {
        let held = EvidenceRecord::decode(bytes).and_then(|record| {
            let verified = record.verify(
                |digest| digest.of(DATA),
                |response, digest, hash| verify_imprint(response, digest, hash, &anchor),
            );
            verified.map(|tokens| tokens.len())
        });
        format!("{held:?}")
    })
}

fn headers() -> Target {
    let mut maker = Maker::new("NIHII-HOSPITAL:71000436".parse().unwrap(), TEN);
    let seeds = vec![maker.bind(&entries(1..4, 0)).header.encode(), maker.bind(&[]).header.encode()];
    target("header", 64, seeds, |bytes| {
        let read = Header::decode(bytes);
        assert!(read.as_ref().is_err() || read.as_ref().is_ok_and(|header| header.encode() == bytes), "two encodings");
        said(read)
    })
}

fn bags() -> Target {
    let mut maker = Maker::new("NIHII-HOSPITAL:71000436".parse().unwrap(), TEN);
    let own = maker.bind(&entries(1..9, 0)).xml;
    let blanks = String::from_utf8(own.clone()).unwrap().replace("<Ref>", "\n <Ref>");
    target("bag", 64, vec![own, blanks.into_bytes()], |bytes| {
        let (mut fast, mut slow) = (Vec::new(), Vec::new());
        let one = read_bag_bytes(bytes, |entry| fast.push((entry.reference, entry.hash)));
        let other = read_bag(bytes, |reference, hash| slow.push((reference, *hash)));
        assert_eq!((one.as_ref().ok(), fast), (other.as_ref().ok(), slow), "two readers, two bags");
        said(one)
    })
}

fn records() -> Target {
    let texts: [&[u8]; 3] = [b"\xa2\x01\x05\x02\x43abc", b"\xa2\x01\x61a\x02\x41b", b"\xa3\x01\x41a\x02\x41b\x03\x05"];
    let mut tree = zegel_archive::summary::Builder::default();
    entries(1..400, 0).iter().for_each(|(reference, hash)| tree.push(hash, Some(*reference)));
    let (summary, whole) = {
        let tree = tree.finish();
        (tree.encode(), tree)
    };
    let bag = b"\xa6\x01\x05\x02\x41h\x03\x41x\x04\x41t\x05\xf6\x06\x41s".to_vec();
    let seeds = texts.iter().map(|text| text.to_vec()).chain([bag, summary]).collect();
    target("record", 64, seeds, move |bytes| {
        let read = [
            record::Bag::decode(bytes).is_ok(),
            record::Material::decode(bytes).is_ok(),
            record::Renewal::decode(bytes).is_ok(),
            record::LogProof::decode(bytes).is_ok(),
            record::Foreign::decode(bytes).is_ok(),
        ];
        let tree = Summary::decode(bytes).map(|tree| {
            let found = whole.compare(&tree);
            assert!(found.visited < 100_000 && tree.encode() == bytes);
            (found.here.is_empty(), tree.compare(&whole).there.is_empty())
        });
        format!("{read:?} {tree:?}")
    })
}

fn manifest() -> Target {
    let folder = tempfile::tempdir().unwrap();
    crate::archives::written(folder.path(), &crate::archives::Parts::good());
    let seeds = vec![Manifest::text(folder.path()).unwrap()];
    target("manifest", 64, seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let read = Manifest::decode(&text).map(|(manifest, exact)| (exact, exact && manifest.encode() == text));
        assert!(read != Some((true, false)), "two texts of one manifest");
        format!("{read:?} {}", text.lines().count().min(8))
    })
}

fn log() -> Target {
    let (log, witness) = (
        NoteSigner::generate("z.example/log", Purpose::Log).unwrap(),
        NoteSigner::generate("w.example", Purpose::Witness).unwrap(),
    );
    let policy = Policy::new(log.public().clone(), vec![witness.public().clone()], 1).unwrap();
    let mut tree = Tree::proving(2);
    (0..5u8).for_each(|n| tree.push(&[n]));
    let (root, proof) = tree.prove().unwrap();
    let checkpoint = Checkpoint { origin: log.public().name().to_owned(), size: 5, root, extensions: Vec::new() };
    let mut note = checkpoint.sign(&log);
    let line = witness.sign(&note.text, 1_767_261_600);
    note.signatures.push(line);
    let proof = LogProof { index: 2, path: proof.path, checkpoint: note.to_string() };
    let add = AddCheckpoint { old: 3, path: proof.path.clone(), checkpoint: note.to_string() };
    let texts = [
        proof.to_string(),
        add.to_string(),
        note.to_string(),
        log.public().to_string(),
        "tile/0/x001/234.p/5".to_owned(),
    ];
    target("log", 64, texts.map(String::into_bytes).to_vec(), move |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let held = text.parse::<LogProof>().and_then(|read| {
            let held = read.verify(&[2], &policy);
            assert!(held.is_err() || read.index == 2, "another entry's proof was accepted");
            held
        });
        let others = [said(text.parse::<Note>()), said(text.parse::<NoteKey>()), said(text.parse::<AddCheckpoint>())];
        format!("{} {others:?} {} {}", said(held), said(policy.open(&text)), said(text.parse::<Resource>()))
    })
}

fn consultation() -> Target {
    const NAMESPACE: &str = "urn:be:fgov:ehealth:timestamping:protocol:v2";
    let list = "<TSList><DateTime>1767261600000</DateTime><IDTs>12ab</IDTs></TSList>";
    let text = |element: &str, period: &str| {
        format!("<{element} xmlns=\"{NAMESPACE}\"><IDHospital>71000436</IDHospital>{period}{list}</{element}>")
            .into_bytes()
    };
    let period = "<Period><Start>0</Start><End>1767261600000</End></Period>";
    let seeds = vec![text("TSConsultRequest", period), text("TSConsultTSBagRequest", "")];
    target("consultation", 48, seeds, |bytes| {
        format!("{} {}", said(ConsultRequest::from_xml(bytes)), said(BagRequest::from_xml(bytes)))
    })
}

fn settings() -> Target {
    let trust = format!(
        "retention_years = 30\n[[ca]]\npem = '''\n{}'''\nfrom = \"2026-01-01\"\ncrl = [\"a.crl\"]\n[log]\nkey = \"a\"\nquorum = 1\n",
        authority().ca_pem()
    );
    let list = format!("1,{0}\n2,{0},00112233445566778899aabbccddeeff\n", sha256(DATA));
    target("settings", 32, vec![trust.into_bytes(), list.into_bytes()], |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let file = |_: &str| Ok(authority().list().unwrap());
        let trust = said(Trust::parse(&text, file));
        format!("{} {}", trust.lines().last().unwrap_or_default(), said(Documents::parse(&text)))
    })
}
