//! Archives in temporary folders, and what the auditor says of them.

use schemas::{MailboxAddress, Millis, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;
use zegel_archive::audit::{self, Audited, Options};
use zegel_archive::list::Documents;
use zegel_archive::manifest::Side;
use zegel_archive::reader::Archive;
use zegel_archive::testing::{Made, Maker, entries};
use zegel_archive::trust::Trust;
use zegel_archive::writer::{NewBag, Writer};
use zegel_archive::{Class, Finding, Findings, reconcile};
use zegel_crypto::tsa::{Algorithm, Authority, Reason};

/// 2026-01-01T10:00:00Z
pub const TEN: Millis = Millis(1_767_261_600_000);
/// When audits are made.
pub const NOW: Millis = Millis(1_767_348_000_000);

pub fn hospital() -> MailboxAddress {
    "NIHII-HOSPITAL:71000436".parse().unwrap()
}

/// An authority in a folder of its own, with a clock of its own.
pub struct Kit {
    authority: Authority,
    folder: TempDir,
}

impl std::ops::Deref for Kit {
    type Target = Authority;

    fn deref(&self) -> &Authority {
        &self.authority
    }
}

impl Kit {
    /// A copy of one that was made once: its certificates are the same, its clock begins anew.
    fn of(original: &TempDir) -> Kit {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("tsa");
        copy(&original.path().join("tsa"), &to);
        Kit { authority: Authority::load(&to, Millis(0)).unwrap(), folder }
    }

    /// Revokes its unit and gives the list.
    pub fn revoke(&self, at: Millis, reason: Reason) -> Vec<u8> {
        Authority::revoke_active(&self.folder.path().join("tsa"), at, reason).unwrap()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap().path();
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() { copy(&entry, &target) } else { fs::copy(&entry, &target).map(drop).unwrap() }
    }
}

/// 2025-12-01: its unit's key is used for a year.
const MADE: Millis = Millis(1_764_547_200_000);

/// The platform's authority.
pub fn authority() -> Kit {
    static ORIGINAL: OnceLock<TempDir> = OnceLock::new();
    Kit::of(ORIGINAL.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        Authority::create_with(&folder.path().join("tsa"), "Zegel test", MADE, Algorithm::P256).unwrap();
        folder
    }))
}

/// Somebody else's authority, with the same names.
pub fn other_authority() -> Kit {
    static ORIGINAL: OnceLock<TempDir> = OnceLock::new();
    Kit::of(ORIGINAL.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        Authority::create(&folder.path().join("tsa"), "Zegel test", MADE).unwrap();
        folder
    }))
}

/// A trust file's text, with the lines that go behind the CA.
pub fn trust_with(lines: &str) -> Trust {
    trust_text(&format!("{lines}\n"), b"")
}

/// The same, where the file that it names has this content.
pub fn trust_text(lines: &str, file: &[u8]) -> Trust {
    let text = format!("[[ca]]\npem = '''\n{}'''\n{lines}", authority().ca_pem());
    Trust::parse(&text, |_| Ok(file.to_vec())).unwrap()
}

pub fn trust() -> Trust {
    trust_with("")
}

/// Some bags: as many entries each as the list says, references rising.
pub fn bags(sizes: &[u64]) -> Vec<Made> {
    let mut maker = Maker::new(hospital(), TEN);
    let authority = authority();
    let mut next = 1;
    sizes
        .iter()
        .map(|size| {
            let made = maker.make(&authority, &entries(next..next + size, 0)).unwrap();
            next += size;
            made
        })
        .collect()
}

/// The first of three hundred bags with one entry each, which are made once.
pub fn many(count: usize) -> &'static [Made] {
    static MANY: OnceLock<Vec<Made>> = OnceLock::new();
    &MANY.get_or_init(|| bags(&[1; 300]))[..count]
}

pub fn new_bag<'a>(made: &'a Made, header: &'a [u8]) -> NewBag<'a> {
    NewBag { sequence: made.header.sequence, header, xml: &made.xml, tsr: &made.tsr, request: None }
}

/// Writes an archive with these bags, sealed.
pub fn write(folder: &Path, side: Side, bags: &[Made]) {
    let mut writer = Writer::open(folder, &hospital(), side).unwrap();
    writer.append_material("ca.pem", authority().ca_pem().as_bytes()).unwrap();
    for made in bags {
        writer.append(&new_bag(made, &made.header.encode())).unwrap();
    }
    writer.finish().unwrap();
}

/// An archive in a folder of its own.
pub struct Kept(pub TempDir);

impl Kept {
    pub fn new(side: Side, bags: &[Made]) -> Kept {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("archive"), side, bags);
        Kept(folder)
    }

    pub fn of(bags: &[Made]) -> Kept {
        Kept::new(Side::Platform, bags)
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("archive")
    }

    pub fn audit(&self) -> Audited {
        audit_with(&self.path(), &trust(), None)
    }

    pub fn names(&self) -> Vec<&'static str> {
        names(&self.audit().findings)
    }

    pub fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

pub fn audit_with(folder: &Path, trust: &Trust, documents: Option<&Documents>) -> Audited {
    let archive = Archive::open(folder).unwrap();
    let options = Options { trust, now: NOW, threads: 2, documents, progress: &|_| {} };
    audit::archive(&archive, &options).unwrap()
}

/// Names of findings that are no notices, without repetitions.
pub fn names(findings: &Findings) -> Vec<&'static str> {
    let faults = findings.list().iter().filter(|finding| finding.class != Class::Notice);
    let mut names: Vec<&'static str> = faults.map(|finding| finding.name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// What comparing two archives finds, each audited first.
pub fn compare(here: &Kept, there: &Kept) -> (Vec<Finding>, reconcile::Compared) {
    let faulty = [here, there].map(|kept| reconcile::faulty(&kept.audit().findings));
    let (first, second) = (Archive::open(&here.path()).unwrap(), Archive::open(&there.path()).unwrap());
    let mut findings = Findings::default();
    let cost = reconcile::archives((&first, &faulty[0]), (&second, &faulty[1]), &mut findings).unwrap();
    (findings.list().to_vec(), cost)
}

/// The same bag with other entries, bound and stamped anew: what whoever holds the authority can do.
pub fn rebound(made: &Made, all: &[(u64, Sha256)], authority: &Authority, at: Millis) -> Made {
    let mut tree = zegel_crypto::merkle::Tree::new();
    all.iter().for_each(|(reference, hash)| tree.push(&zegel_crypto::bag::leaf(*reference, hash)));
    let header = zegel_crypto::bag::Header { count: all.len() as u64, root: tree.root(), ..made.header.clone() };
    let xml = zegel_archive::testing::xml(&header, all);
    let tsr = authority.stamp(&zegel_crypto::hash::sha256(&xml), None, at).unwrap();
    Made { header, xml, tsr }
}
