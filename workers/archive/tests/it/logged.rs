//! The log step: proofs that hold, and every way in which they do not.

use crate::world::{Kept, audit_with, bags, hospital, names, trust, trust_text};
use std::process::Command;
use zegel_archive::audit::LogState;
use zegel_archive::evidence::{self, Wanted};
use zegel_archive::manifest::Side;
use zegel_archive::reader::Archive;
use zegel_archive::testing::Made;
use zegel_archive::trust::Trust;
use zegel_archive::writer::Writer;
use zegel_crypto::hash::sha256;
use zegel_crypto::log::entry::{Entry, Kind};
use zegel_crypto::log::{Checkpoint, LogProof, NoteSigner, Purpose};
use zegel_crypto::merkle::Tree;
use zegel_crypto::tsa::token_of;

const ORIGIN: &str = "zegel.example/log";

struct Log {
    signer: NoteSigner,
    witnesses: Vec<NoteSigner>,
}

impl Log {
    fn new() -> Log {
        let witness = |name| NoteSigner::generate(name, Purpose::Witness).unwrap();
        let signer = NoteSigner::generate(ORIGIN, Purpose::Log).unwrap();
        Log { signer, witnesses: vec![witness("w.example/1"), witness("w.example/2")] }
    }

    fn trust(&self, quorum: usize) -> Trust {
        let witnesses: Vec<String> = self.witnesses.iter().map(|key| format!("\"{}\"", key.public())).collect();
        let (key, witnesses) = (self.signer.public(), witnesses.join(", "));
        trust_text(&format!("[log]\nkey = \"{key}\"\nwitnesses = [{witnesses}]\nquorum = {quorum}\n"), b"")
    }

    /// Proofs for bags whose entries are these, cosigned by so many witnesses.
    fn proofs(&self, entries: &[Vec<u8>], cosigned: usize) -> Vec<String> {
        let mut whole = Tree::new();
        entries.iter().for_each(|entry| whole.push(entry));
        let (origin, size, root) = (ORIGIN.to_owned(), entries.len() as u64, whole.root());
        let mut note = Checkpoint { origin, size, root, extensions: Vec::new() }.sign(&self.signer);
        let lines: Vec<_> = self.witnesses[..cosigned].iter().map(|key| key.sign(&note.text, 1_767_300_000)).collect();
        note.signatures.extend(lines);
        (0..size)
            .map(|index| {
                let mut tree = Tree::proving(index);
                entries.iter().for_each(|entry| tree.push(entry));
                let (_, proof) = tree.prove().unwrap();
                LogProof { index, path: proof.path, checkpoint: note.to_string() }.to_string()
            })
            .collect()
    }
}

fn entry(made: &Made) -> Vec<u8> {
    let token = sha256(&token_of(&made.tsr).unwrap());
    Entry { kind: Kind::Platform, subject: made.header.hash(), token }.encode().to_vec()
}

fn kept(made: &[Made], proofs: &[Option<&String>]) -> Kept {
    let kept = Kept::of(made);
    let mut writer = Writer::open(&kept.path(), &hospital(), Side::Platform).unwrap();
    for (sequence, text) in (1..).zip(proofs) {
        if let Some(text) = text {
            writer.append_log_proof(sequence, text).unwrap();
        }
    }
    writer.finish().unwrap();
    kept
}

fn found(kept: &Kept, trust: &Trust) -> (Vec<&'static str>, LogState) {
    let audited = audit_with(&kept.path(), trust, None);
    (names(&audited.findings), audited.overview.log)
}

#[test]
fn bags_that_stand_in_a_cosigned_log_are_counted_and_the_limit_is_gone() {
    let (log, made) = (Log::new(), bags(&[2, 0, 3]));
    let proofs = log.proofs(&made.iter().map(entry).collect::<Vec<_>>(), 2);
    let archive = kept(&made, &proofs.iter().map(Some).collect::<Vec<_>>());
    let checked = |quorum| LogState::Checked { origin: ORIGIN.to_owned(), bags: 3, without: 0, quorum, witnesses: 2 };
    assert_eq!(found(&archive, &log.trust(2)), (vec![], checked(2)));
    assert_eq!(found(&archive, &log.trust(0)), (vec![], checked(0)));
    assert_eq!(found(&archive, &trust()), (vec![], LogState::NoLogInTheTrustFile { proofs: 3 }));
}

#[test]
fn a_log_that_is_trusted_must_hold_the_bags() {
    let (log, made) = (Log::new(), bags(&[2, 2, 2]));
    assert_eq!(found(&Kept::of(&made), &log.trust(1)), (vec!["log-absent"], LogState::NoLogInThisArchive));
    let proofs = log.proofs(&made.iter().map(entry).collect::<Vec<_>>(), 2);
    let missing = kept(&made, &[Some(&proofs[0]), None, Some(&proofs[2])]);
    assert_eq!(found(&missing, &log.trust(1)).0, ["log-proof-missing"]);
    // The newest bags may not be in a checkpoint yet.
    let not_yet = kept(&made, &[Some(&proofs[0]), None, None]);
    assert_eq!(found(&not_yet, &log.trust(1)).0, [""; 0]);
    let swapped = kept(&made, &[Some(&proofs[1]), Some(&proofs[0]), Some(&proofs[2])]);
    assert_eq!(found(&swapped, &log.trust(1)).0, ["log-proof"]);
    let rubbish = "c2sp.org/tlog-proof@v1\nindex 0\n\n".to_owned();
    assert_eq!(found(&kept(&made, &[Some(&rubbish)]), &log.trust(1)).0, ["log-proof"]);
}

#[test]
fn too_few_witnesses_do_not_count_and_another_logs_proofs_neither() {
    let (log, made) = (Log::new(), bags(&[2]));
    let proofs = log.proofs(&[entry(&made[0])], 1);
    let archive = kept(&made, &[Some(&proofs[0])]);
    assert_eq!(found(&archive, &log.trust(1)).0, [""; 0]);
    assert_eq!(found(&archive, &log.trust(2)).0, ["log-quorum"]);
    assert_eq!(found(&archive, &Log::new().trust(0)).0, ["log-proof"]);
}

/// The platform keeps two logs under one key, and shows each hospital the one that suits.
#[test]
fn two_histories_of_one_log_are_found_when_their_checkpoints_meet() {
    let (log, made) = (Log::new(), bags(&[2, 2]));
    let one = log.proofs(&[entry(&made[0]), vec![1]], 2);
    let other = log.proofs(&[vec![2], entry(&made[1])], 2);
    let archive = kept(&made, &[Some(&one[0]), Some(&other[1])]);
    assert_eq!(found(&archive, &log.trust(2)).0, ["log-two-views"]);
    // A bag before the one that it continues.
    let turned = log.proofs(&[entry(&made[1]), entry(&made[0])], 2);
    let archive = kept(&made, &[Some(&turned[1]), Some(&turned[0])]);
    assert_eq!(found(&archive, &log.trust(2)).0, ["log-order"]);
}

#[test]
fn evidence_carries_the_proof_and_its_check_uses_it() {
    let (log, made) = (Log::new(), bags(&[4]));
    let proofs = log.proofs(&[entry(&made[0])], 2);
    let archive = Archive::open(&kept(&made, &[Some(&proofs[0])]).path()).unwrap();
    let bytes = evidence::make(&archive, &Wanted { reference: Some(2), ..Wanted::default() }, &log.trust(2)).unwrap();
    let (view, findings) = evidence::check(&bytes, None, &log.trust(2));
    assert!(findings.clean() && matches!(view.log, LogState::Checked { witnesses: 2, .. }), "{:?}", findings.list());
    assert_eq!(names(&evidence::check(&bytes, None, &Log::new().trust(2)).1), ["log-proof"]);
}

/// The proof of a bag, verified from its text by an implementation that is not ours.
#[test]
fn the_path_of_a_proof_leads_to_the_root_for_an_independent_reader() {
    const CHECK: &str = "
import base64, hashlib, sys
proof, entry = sys.stdin.read().split(chr(0))
head, note = proof.split('\\n\\n', 1)
lines = head.split('\\n')
assert lines[0] == 'c2sp.org/tlog-proof@v1'
index, path = int(lines[1].split()[1]), [base64.b64decode(line) for line in lines[2:]]
origin, size, root = note.split('\\n')[:3]
sha = lambda *parts: hashlib.sha256(b''.join(parts)).digest()
node, last, value = index, int(size) - 1, sha(b'\\0', bytes.fromhex(entry))
for sibling in path:
    if node & 1 or node == last:
        value = sha(b'\\1', sibling, value)
        while node and not node & 1:
            node, last = node >> 1, last >> 1
    else:
        value = sha(b'\\1', value, sibling)
    node, last = node >> 1, last >> 1
assert last == 0 and base64.b64decode(root) == value
";
    let (log, made) = (Log::new(), bags(&[1, 1, 1, 1, 1]));
    let entries: Vec<Vec<u8>> = made.iter().map(entry).collect();
    for (proof, entry) in log.proofs(&entries, 1).iter().zip(&entries) {
        let mut child = match Command::new("python3").args(["-c", CHECK]).stdin(std::process::Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(_) => {
                assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "ZEGEL_ORACLES is set and python3 is absent");
                println!("SKIPPED: python3 is absent");
                return;
            }
        };
        let input = format!("{proof}\0{}", hex::encode(entry));
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{proof}");
    }
}
