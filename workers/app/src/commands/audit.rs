//! `zegel audit`: archives and evidence files, offline, with a signed report.

use super::Place;
use crate::cli::Audit;
use crate::failed::{Failed, at};
use crate::term::{self, Report as Told};
use indicatif::ProgressBar;
use schemas::Sha256;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::{JoinHandle, available_parallelism};
use zegel_archive::audit::{self, Audited, Options};
use zegel_archive::evidence::{self, Wanted};
use zegel_archive::list::{Documents, SALT};
use zegel_archive::reader::Archive;
use zegel_archive::record::Bag;
use zegel_archive::report::{Asked, Content, Found, Part, Report};
use zegel_archive::trust::Trust;
use zegel_archive::{ArchiveError, Class, Findings, openssl, reconcile};
use zegel_core::clock::{Clock, SystemClock};
use zegel_crypto::hash::sha256;
use zegel_crypto::signing::SigningKey;
use zegel_crypto::tsa::gen_time;

/// Findings that a person is told of; the report has them all.
const TOLD: usize = 20;
/// Bags that are written for `openssl`.
const EXTRACTED: usize = 20;
/// Largest evidence file that is read: a bag of a million entries and a document.
const EVIDENCE_MAX: u64 = 1 << 30;

impl From<ArchiveError> for Failed {
    fn from(error: ArchiveError) -> Failed {
        match error {
            ArchiveError::Input { .. } => Failed::Usage(error.to_string()),
            error => Failed::Failure(error.to_string()),
        }
    }
}

/// Audits, reports, signs.
///
/// # Errors
/// When an input cannot be read or the report cannot be written; whatever is wrong with an archive is a finding.
pub fn run(place: &Place, wanted: &Audit) -> Result<Told, Failed> {
    let trust = Trust::read(&wanted.trust)?;
    let document = wanted.document.as_deref().map(|path| fs::read(path).map_err(at(path))).transpose()?;
    let mut content = match (&wanted.archive, &wanted.evidence) {
        (Some(folder), _) => archives(place, wanted, folder, &trust, document.as_deref())?,
        (None, Some(file)) => evidence_file(file, &trust, document.as_deref())?,
        (None, None) => return Err(Failed::Usage("say --archive DIR or --evidence FILE".to_owned())),
    };
    if let Some(folder) = &wanted.extract {
        content.openssl = extract(wanted, folder, &trust, &content)?;
    }
    let report = Report::new(content, &trust, SystemClock.now(), concat!("zegel ", env!("CARGO_PKG_VERSION")));
    let mut told = told(&report);
    if let Some(path) = &wanted.report {
        write_report(&report, path, wanted.key.as_deref())?;
        told.push_str(&format!("\nreport {}, page {}", path.display(), beside(path, "html").display()));
    }
    let json = json!({
        "verdict": report.verdict, "status": report.status, "findings": report.findings_total,
        "names": report.names, "archives": report.archives, "compared": report.compared,
        "first": report.findings.iter().take(TOLD).collect::<Vec<_>>(),
        "openssl": report.openssl, "evidence": report.evidence,
    });
    Ok(Told { json, text: told, status: report.status })
}

fn archives(
    place: &Place,
    wanted: &Audit,
    folder: &Path,
    trust: &Trust,
    document: Option<&[u8]>,
) -> Result<Content, Failed> {
    let (documents, list) = documents(wanted, document)?;
    if let Some(other) = &wanted.against
        && fs::canonicalize(other).is_ok_and(|other| fs::canonicalize(folder).is_ok_and(|one| one == other))
    {
        return Err(Failed::Usage("--against names the same archive: nothing would be compared".to_owned()));
    }
    let first = Archive::open(folder)?;
    let second = wanted.against.as_deref().map(Archive::open).transpose()?;
    let bar = term::bytes_bar(place.json, first.bytes() + second.as_ref().map_or(0, Archive::bytes));
    let audited = audit_one(wanted, &first, trust, documents.as_ref(), &bar)?;
    let asked = document.map(|document| asked(wanted, &first, document)).transpose()?;
    let mut content = Content { asked, ..Content::default() };
    if let Some(second) = &second {
        let other = audit_one(wanted, second, trust, None, &bar)?;
        let mut differences = Findings::default();
        let (here, there) = (reconcile::faulty(&audited.findings), reconcile::faulty(&other.findings));
        content.compared = Some(reconcile::archives((&first, &here), (second, &there), &mut differences)?);
        enter(&mut content, folder, audited);
        enter(&mut content, &second.folder, other);
        content.findings.push(("comparison".to_owned(), differences));
    } else {
        enter(&mut content, folder, audited);
    }
    if let Some(list) = list {
        let sha256 = list.join().map_err(|_| Failed::Failure("a thread ended before its work".to_owned()))?;
        content.asked = Some(Asked { sha256, list: true, found: None });
    }
    bar.finish_and_clear();
    Ok(content)
}

fn enter(content: &mut Content, folder: &Path, audited: Audited) {
    let folder = folder.display().to_string();
    content.findings.push((folder.clone(), audited.findings));
    content.archives.push(Part { folder, overview: audited.overview });
}

fn audit_one(
    wanted: &Audit,
    archive: &Archive,
    trust: &Trust,
    documents: Option<&Documents>,
    bar: &ProgressBar,
) -> Result<Audited, Failed> {
    let progress = |bytes| bar.inc(bytes);
    let options = Options { trust, now: SystemClock.now(), threads: threads(wanted), documents, progress: &progress };
    Ok(audit::archive(archive, &options)?)
}

/// As many as were asked for, or one a core.
fn threads(wanted: &Audit) -> usize {
    let cores = || available_parallelism().map_or(1, usize::from);
    wanted.threads.map_or_else(cores, usize::from)
}

/// What to look for, and the digest of a list in the making: a long one takes as long to hash as to read.
fn documents(
    wanted: &Audit,
    document: Option<&[u8]>,
) -> Result<(Option<Documents>, Option<JoinHandle<Sha256>>), Failed> {
    if let Some(path) = &wanted.documents {
        let text = super::read_text(path)?;
        let documents = Documents::parse_on(&text, threads(wanted))?;
        return Ok((Some(documents), Some(std::thread::spawn(move || sha256(text.as_bytes())))));
    }
    let Some(document) = document else { return Ok((None, None)) };
    let salt = salt(wanted.salt.as_deref())?;
    let hash = Wanted { document: Some(document), salt: salt.as_deref(), ..Wanted::default() }.hash();
    Ok((hash.map(|hash| Documents::one(hash, wanted.reference, salt.is_some())), None))
}

/// Where one document stands, for the report.
fn asked(wanted: &Audit, archive: &Archive, document: &[u8]) -> Result<Asked, Failed> {
    let salt = salt(wanted.salt.as_deref())?;
    let search =
        Wanted { reference: wanted.reference, document: Some(document), salt: salt.as_deref(), ..Wanted::default() };
    let entry = evidence::find(archive, &search)?.filter(|(_, entry)| Some(entry.hash) == search.hash());
    let found = entry.map(|(bag, entry)| {
        let body = archive.bag_body(bag).unwrap_or_default();
        let stamped = Bag::decode(&body).ok().and_then(|bag| gen_time(bag.tsr).ok());
        Found { bag, reference: entry.reference, hash: entry.hash, stamped }
    });
    Ok(Asked { sha256: sha256(document), list: false, found })
}

/// Reads a salt of the command line.
///
/// # Errors
/// [`Failed::Usage`].
pub fn salt(text: Option<&str>) -> Result<Option<Vec<u8>>, Failed> {
    let wrong = || Failed::Usage("a salt is 32 hexadecimal digits".to_owned());
    text.map(|text| hex::decode(text).ok().filter(|salt| salt.len() == SALT).ok_or_else(wrong)).transpose()
}

fn evidence_file(file: &Path, trust: &Trust, document: Option<&[u8]>) -> Result<Content, Failed> {
    let length = fs::metadata(file).map_err(at(file))?.len();
    if length > EVIDENCE_MAX {
        return Err(Failed::Usage(format!("{}: no evidence file is so large", file.display())));
    }
    let bytes = fs::read(file).map_err(at(file))?;
    let (view, findings) = evidence::check(&bytes, document, trust);
    let mut openssl = vec![format!("tar -xf {}", file.display())];
    openssl.extend(view.statement.iter().flat_map(|statement| statement.openssl.iter().cloned()));
    let findings = vec![(file.display().to_string(), findings)];
    Ok(Content { findings, evidence: Some(view), openssl, ..Content::default() })
}

/// Writes what `openssl` needs of some bags, and returns the lines.
fn extract(wanted: &Audit, out: &Path, trust: &Trust, content: &Content) -> Result<Vec<String>, Failed> {
    let Some(folder) = &wanted.archive else { return Ok(Vec::new()) };
    let archive = Archive::open(folder)?;
    let faulty: BTreeSet<u64> = content.findings.iter().flat_map(|(_, found)| reconcile::faulty(found)).collect();
    let ends = archive.bags().next().into_iter().chain(archive.bags().last()).map(|(_, slot)| slot.sequence);
    let bags: BTreeSet<u64> = if faulty.is_empty() { ends.collect() } else { faulty };
    crate::folder::private_folder(out)?;
    let write = |name: &str, bytes: &[u8]| fs::write(out.join(name), bytes).map_err(at(&out.join(name)));
    for (number, authority) in (1..).zip(&trust.authorities) {
        write(&format!("ca-{number}.pem"), authority.pem.as_bytes())?;
    }
    let mut lines = Vec::new();
    for sequence in bags.into_iter().take(EXTRACTED) {
        // One that cannot be read is a finding already.
        let Ok(body) = archive.bag_body(sequence) else { continue };
        let Ok(bag) = Bag::decode(&body) else { continue };
        let [xml, tsr, header] = ["xml", "tsr", "header"].map(|kind| format!("{sequence}.{kind}"));
        write(&xml, bag.xml)?;
        write(&tsr, bag.tsr)?;
        write(&header, bag.header)?;
        let Ok(at) = gen_time(bag.tsr) else { continue };
        lines.extend((1..=trust.authorities.len()).map(|n| openssl::token(&xml, &tsr, &format!("ca-{n}.pem"), at)));
        lines.push(openssl::digest(&header));
    }
    Ok(lines)
}

/// Writes the report, its page, its signature and the public key.
fn write_report(report: &Report, path: &Path, key: Option<&Path>) -> Result<(), Failed> {
    let failed = |error: zegel_crypto::signing::SigningError| Failed::Failure(error.to_string());
    let key_path = key.map_or_else(|| path.with_file_name("audit-key.pem"), Path::to_owned);
    let key = SigningKey::read_or_create(&key_path).map_err(failed)?;
    let [page, signature, public] = ["html", "sig", "pub.pem"].map(|extension| beside(path, extension));
    let name = |path: &Path| path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let mut report = report.clone();
    let public_pem = key.public_pem().map_err(failed)?;
    report.signed_by = Some(sha256(public_pem.as_bytes()));
    report.openssl.push(openssl::signature(&name(path), &name(&signature), &name(&public)));
    let files = report.files();
    fs::write(&page, &files.html).map_err(at(&page))?;
    fs::write(&public, public_pem).map_err(at(&public))?;
    fs::write(&signature, key.sign(&files.json)).map_err(at(&signature))?;
    fs::write(path, &files.json).map_err(at(path))
}

/// The path with another extension.
fn beside(path: &Path, extension: &str) -> PathBuf {
    path.with_extension(extension)
}

fn told(report: &Report) -> String {
    let mut text = report.sentence.clone();
    for part in &report.archives {
        let overview = &part.overview;
        text.push_str(&format!(
            "\n{}: {} bags, {} entries, {} tokens verify",
            part.folder, overview.bags, overview.entries, overview.tokens
        ));
    }
    for listed in report.findings.iter().take(TOLD) {
        let finding = &listed.finding;
        let mark = if finding.class == Class::Notice { "note" } else { "FOUND" };
        text.push_str(&format!("\n{mark} {} ({}): {}", finding.name, finding.place, finding.text));
    }
    if report.findings_total > TOLD as u64 {
        text.push_str(&format!("\n{} findings in all: see the report", report.findings_total));
    }
    for limit in &report.limits {
        text.push_str(&format!("\nnot shown: {limit}"));
    }
    for line in &report.openssl {
        text.push_str(&format!("\n{line}"));
    }
    text
}
