//! What reads whole archives and evidence files: their own bytes changed, and their contents changed under digests that fit.

use crate::Target;
use crate::readers::{TEN, authority};
use schemas::{MailboxAddress, Millis};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use tempfile::TempDir;
use zegel_archive::audit::{self, Options};
use zegel_archive::evidence::{self, Wanted};
use zegel_archive::manifest::Side;
use zegel_archive::reader::Archive;
use zegel_archive::record::Foreign;
use zegel_archive::testing::{Made, Maker, entries};
use zegel_archive::trust::Trust;
use zegel_archive::writer::{NewBag, Writer};
use zegel_archive::{Findings, reconcile};

static TRUST: LazyLock<Trust> = LazyLock::new(|| {
    let text = format!("[[ca]]\npem = '''\n{}'''\n", authority().ca_pem());
    Trust::parse(&text, |_| unreachable!("it names no file")).unwrap()
});
static GOOD: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), &Parts::good());
    folder
});

fn hospital() -> MailboxAddress {
    "NIHII-HOSPITAL:71000436".parse().unwrap()
}

/// What an archive is made of, each part as whoever writes it likes.
#[derive(Clone)]
pub struct Parts {
    bags: Vec<Made>,
    request: Vec<u8>,
    list: Vec<u8>,
    renewal: Vec<u8>,
    proof: Vec<u8>,
    foreign: Vec<u8>,
}

impl Parts {
    pub fn good() -> Parts {
        let mut maker = Maker::new(hospital(), TEN);
        let bags = [1..4, 4..4, 4..90].map(|range| maker.make(authority(), &entries(range, 0)).unwrap()).to_vec();
        let nothing = Vec::new();
        Parts {
            bags,
            request: nothing.clone(),
            list: authority().list().unwrap(),
            renewal: nothing.clone(),
            proof: nothing.clone(),
            foreign: nothing,
        }
    }
}

/// Writes an archive; its digests fit whatever it holds.
pub fn written(folder: &Path, parts: &Parts) {
    let mut writer = Writer::open(folder, &hospital(), Side::Platform).unwrap();
    writer.append_material("ca.crl", &parts.list).unwrap();
    for made in &parts.bags {
        let header = made.header.encode();
        let request = Some(parts.request.as_slice()).filter(|bytes| !bytes.is_empty());
        let bag = NewBag { sequence: made.header.sequence, header: &header, xml: &made.xml, tsr: &made.tsr, request };
        writer.append(&bag).unwrap();
    }
    if !parts.renewal.is_empty() {
        writer.append_renewal(2, &parts.renewal).unwrap();
    }
    if !parts.proof.is_empty() {
        writer.append_log_proof(1, &String::from_utf8_lossy(&parts.proof)).unwrap();
    }
    if !parts.foreign.is_empty() {
        let (tsr, bytes) = (parts.foreign.as_slice(), parts.foreign.as_slice());
        writer.append_foreign(&Foreign { tsr, bytes, held_by: 1 }).unwrap();
    }
    writer.finish().unwrap();
}

pub fn targets() -> Vec<Target> {
    vec![file("MANIFEST"), file("000001.zseg"), contents(), evidence_file(), evidence_contents()]
}

fn findings(folder: &Path) -> Findings {
    let archive = match Archive::open(folder) {
        Ok(archive) => archive,
        Err(error) => {
            let mut findings = Findings::default();
            findings.add(zegel_archive::Class::Missing, "none", zegel_archive::Place::default(), error.to_string());
            return findings;
        }
    };
    let now = Millis(TEN.0 + 86_400_000);
    let options = Options { trust: &TRUST, now, threads: 1, documents: None, progress: &|_| {} };
    let audited = audit::archive(&archive, &options).unwrap();
    let good = Archive::open(GOOD.path()).unwrap();
    let mut differences = Findings::default();
    let faulty = reconcile::faulty(&audited.findings);
    // A file that was cut cannot be read to where its index points: an error, which is no panic.
    let _compared = reconcile::archives((&archive, &faulty), (&good, &Default::default()), &mut differences);
    audited.findings
}

fn names(findings: &Findings) -> String {
    let mut names: Vec<&str> = findings.list().iter().map(|finding| finding.name).collect();
    names.sort_unstable();
    names.dedup();
    names.join(" ")
}

/// One file of an archive, changed.
fn file(name: &'static str) -> Target {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), &Parts::good());
    let path: PathBuf = folder.path().join(name);
    let good = fs::read(&path).unwrap();
    let feed = move |bytes: &[u8]| {
        let _kept = &folder;
        fs::write(&path, bytes).unwrap();
        let found = findings(path.parent().unwrap());
        assert_eq!(found.clean(), bytes == good, "altered and clean, or the other way round: {:?}", found.list());
        names(&found)
    };
    Target { name, seeds: vec![fs::read(GOOD.path().join(name)).unwrap()], turn: 6, feed: Box::new(feed) }
}

/// One part of an archive that was made anew around it.
fn contents() -> Target {
    let good = Parts::good();
    let token = good.bags[0].tsr.clone();
    let seeds = vec![
        good.bags[0].xml.clone(),
        token.clone(),
        good.list.clone(),
        zegel_crypto::tsa::Request::over(zegel_crypto::tsa::Digest::Sha256, &[7; 32], Some(5)).unwrap().encode(),
        zegel_crypto::evidence_record::EvidenceRecord::begin(&zegel_crypto::tsa::token_of(&token).unwrap())
            .unwrap()
            .encode()
            .unwrap(),
    ];
    let feed = move |bytes: &[u8]| {
        let mut said = String::new();
        // Which part it becomes follows from the input, so that the same input does the same again.
        let which =
            bytes.iter().fold(bytes.len(), |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte))) % 7;
        let mut parts = good.clone();
        match which {
            0 => parts.bags[0].xml = bytes.to_vec(),
            1 => parts.bags[1].tsr = bytes.to_vec(),
            2 => parts.list = bytes.to_vec(),
            3 => parts.request = bytes.to_vec(),
            4 => parts.renewal = bytes.to_vec(),
            5 => parts.proof = bytes.to_vec(),
            _ => parts.foreign = bytes.to_vec(),
        }
        let folder = tempfile::tempdir().unwrap();
        written(folder.path(), &parts);
        let found = findings(folder.path());
        let own = which == 6 && !bytes.is_empty();
        let bag = which == 0 && bytes != good.bags[0].xml || which == 1 && bytes != good.bags[1].tsr || own;
        // A response may say "granted with modifications" around the same token; nothing else of a bag may change.
        let harmless = which == 1 && parts.bags[1].tsr.len() == good.bags[1].tsr.len();
        assert!(!bag || harmless || !found.clean(), "another bag is clean: {:?}", found.list());
        said.push_str(&format!("{which} {}", names(&found)));
        said
    };
    Target { name: "contents", seeds, turn: 3, feed: Box::new(feed) }
}

fn evidence() -> Vec<u8> {
    let archive = Archive::open(GOOD.path()).unwrap();
    evidence::make(&archive, &Wanted { reference: Some(3), ..Wanted::default() }, &TRUST).unwrap()
}

fn evidence_file() -> Target {
    let good = evidence();
    let seeds = vec![good.clone()];
    let feed = move |bytes: &[u8]| {
        let (_, found) = evidence::check(bytes, None, &TRUST);
        assert!(bytes == good || !found.clean(), "altered and clean");
        names(&found)
    };
    Target { name: "evidence", seeds, turn: 16, feed: Box::new(feed) }
}

/// The files inside, changed under a tar and digests that fit them.
fn evidence_contents() -> Target {
    let files = unpacked(&evidence());
    let seeds = files.iter().map(|(_, bytes)| bytes.clone()).collect();
    let feed = move |bytes: &[u8]| {
        let which = bytes.len() % (files.len() - 1);
        let mut changed = files.clone();
        changed[which].1 = bytes.to_vec();
        let (_, found) = evidence::check(&packed(&mut changed), None, &TRUST);
        format!("{} {}", changed[which].0, names(&found))
    };
    Target { name: "evidence inside", seeds, turn: 16, feed: Box::new(feed) }
}

/// The files of a POSIX tar.
fn unpacked(tar: &[u8]) -> Vec<(String, Vec<u8>)> {
    let (mut files, mut at) = (Vec::new(), 0);
    while tar[at] != 0 {
        let name = String::from_utf8(tar[at..at + 100].to_vec()).unwrap().trim_end_matches('\0').to_owned();
        let size = usize::from_str_radix(std::str::from_utf8(&tar[at + 124..at + 135]).unwrap(), 8).unwrap();
        files.push((name, tar[at + 512..at + 512 + size].to_vec()));
        at += 512 + size.next_multiple_of(512);
    }
    files
}

/// A tar with the digests of its files in the last one.
fn packed(files: &mut [(String, Vec<u8>)]) -> Vec<u8> {
    let (sums, others) = files.split_last_mut().unwrap();
    assert_eq!(sums.0, "SHA256SUMS");
    let line = |(name, bytes): &(String, Vec<u8>)| format!("{}  {name}\n", zegel_crypto::hash::sha256(bytes));
    sums.1 = others.iter().map(line).collect::<String>().into_bytes();
    let mut out = Vec::new();
    for (name, bytes) in files.iter() {
        let mut head = vec![0; 512];
        let mut put = |from: usize, text: &str| head[from..from + text.len()].copy_from_slice(text.as_bytes());
        let fixed = [(0, name.as_str()), (100, "0000644\0"), (108, "0000000\0"), (116, "0000000\0"), (156, "0")];
        fixed.iter().for_each(|(from, text)| put(*from, text));
        put(124, &format!("{:011o}\0", bytes.len()));
        put(136, &format!("{:011o}\0", TEN.0 / 1_000));
        put(148, "        ");
        put(257, "ustar\x0000");
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend(head);
        out.extend(bytes);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1_024, 0);
    out
}
