//! The audit of one archive: every byte, every bag, the chain, and the documents that were asked for.
//!
//! Bags are checked beside each other on several threads, each with what it needs in memory (the largest bag); the chain is
//! followed afterwards, in order. Beyond that 8 bytes for each entry are kept, to find a reference that stands twice.
//! Failure behaviour: what is wrong is a finding, and the audit goes on; an error means that the archive could not be read.

mod bag;
mod chain;
pub(crate) mod log;
mod own;
pub(crate) mod renewed;

use crate::error::ArchiveError;
use crate::finding::{Class, Findings, Place};
use crate::list::Documents;
use crate::manifest::Manifest;
use crate::reader::Archive;
use crate::record::kinds;
use crate::trust::Trust;
use bag::Checked;
pub(crate) use bag::sentence;
pub use log::LogState;
use log::Logged;
use renewed::Renewed;
use schemas::{MailboxAddress, Millis, Sha256};
use serde::Serialize;
use std::sync::atomic::{AtomicUsize, Ordering};
use zegel_crypto::bag::Form;
use zegel_crypto::hash::{Hasher, sha256};

/// What an audit needs beside the archive.
pub struct Options<'a> {
    /// Whom it trusts.
    pub trust: &'a Trust,
    /// When it is made.
    pub now: Millis,
    /// How many threads check bags.
    pub threads: usize,
    /// Documents to look for.
    pub documents: Option<&'a Documents>,
    /// Told of bytes as they are checked.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// What was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Overview {
    /// Whose bags.
    pub hospital: Option<MailboxAddress>,
    /// Who kept the archive.
    pub side: Option<&'static str>,
    /// SHA-256 of the file MANIFEST, as `sha256sum` gives it; none where there is no such file.
    pub manifest_sha256: Option<Sha256>,
    /// SHA-256 over the digests of all records in their order: what was audited, whatever its files are called.
    pub records_sha256: Sha256,
    /// Segment files.
    pub segments: usize,
    /// Bytes in them.
    pub bytes: u64,
    /// Bags.
    pub bags: u64,
    /// Entries in them, entry 0 not counted.
    pub entries: u64,
    /// Tokens that verify.
    pub tokens: u64,
    /// First and last bag.
    pub sequences: Option<(u64, u64)>,
    /// Start of the first window, end of the last.
    pub period: Option<(Millis, Millis)>,
    /// Time-stamp policies of the tokens.
    pub policies: Vec<String>,
    /// Documents that were asked for.
    pub documents: u64,
    /// Up to when it is known which certificates were revoked; none when a CA has no list.
    pub revocations_known_until: Option<Millis>,
    /// Bags that the hospital made itself, whose bytes and tokens hold.
    pub own_bags: u64,
    /// Entries in them.
    pub own_entries: u64,
    /// Bags whose time stamps were renewed, where the renewals hold.
    pub renewed: u64,
    /// Documents that were themselves hashed anew in the latest digest of their bags' evidence.
    pub documents_rehashed: u64,
    /// The log.
    pub log: LogState,
}

/// The result of an audit.
#[derive(Debug, Clone)]
pub struct Audited {
    /// What was looked at.
    pub overview: Overview,
    /// What was found.
    pub findings: Findings,
}

/// Audits an archive.
///
/// # Errors
/// When a file cannot be read.
pub fn archive(archive: &Archive, options: &Options<'_>) -> Result<Audited, ArchiveError> {
    let mut findings = archive.findings.clone();
    let materials = archive.materials()?;
    let lists = materials.iter().filter(|(name, _)| name.ends_with(".crl")).map(|(_, bytes)| bytes.as_slice());
    let trust = options.trust.with_lists(lists);
    let options = &Options { trust: &trust, ..*options };
    others(archive, &mut findings, options)?;
    let mut checked = bags(archive, options)?;
    checked.sort_by_key(|bag| bag.sequence);
    let mut references = Vec::new();
    for bag in &mut checked {
        findings.extend(std::mem::take(&mut bag.findings));
        references.push(std::mem::take(&mut bag.references));
    }
    chain::follow(archive, &checked, options, &mut findings);
    let own = own::check(archive, &checked, options, &mut findings)?;
    twice(&checked, &references, &mut findings);
    if let Some(documents) = options.documents {
        let salted = checked.iter().filter_map(|bag| bag.header.as_ref()).any(|header| header.form == Form::Salted);
        documents.missing(salted, &mut findings);
    }
    if checked.is_empty() {
        findings.add(
            Class::Missing,
            "archive-empty",
            Place::default(),
            "there is no bag in the archive: nothing was verified",
        );
    }
    let logged: Vec<Logged> =
        checked.iter_mut().map(|bag| Logged { sequence: bag.sequence, entry: bag.log_entry.take() }).collect();
    let log = log::check(&logged, &archive.log_proofs()?, trust.log.as_ref(), &mut findings);
    let Renewed { bags, documents } = renewed::check(archive, (&checked, &references), &trust, &mut findings)?;
    without_lists(&trust, &mut findings);
    findings.sort();
    let overview = Overview {
        renewed: bags,
        documents_rehashed: documents,
        own_bags: own.bags,
        own_entries: own.entries,
        ..overview(archive, &checked, options, log)
    };
    Ok(Audited { overview, findings })
}

/// Says of which CAs in the paths of tokens it is not known what they revoked.
pub(crate) fn without_lists(trust: &Trust, findings: &mut Findings) {
    for name in trust.without_lists() {
        let text = format!("there is no revocation list of {name}: what it revoked is not known");
        findings.add(Class::Notice, "revocation-unknown", Place::default(), text);
    }
}

/// Checks every bag, on several threads.
fn bags(archive: &Archive, options: &Options<'_>) -> Result<Vec<Checked>, ArchiveError> {
    let all: Vec<_> = archive.bags().collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        let mut buffer = Vec::new();
        // Claimed one after the other: a thread that has a large bag takes fewer of them.
        while let Some((segment, slot)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push(bag::check(archive, segment, slot, &mut buffer, options)?);
            (options.progress)(slot.length);
        }
        Ok::<_, ArchiveError>(done)
    };
    let threads = options.threads.clamp(1, 256).min(all.len().max(1));
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut checked = work()?;
        for other in others {
            let panicked = |_| ArchiveError::input("audit", "a thread ended before its work");
            checked.extend(other.join().map_err(panicked)??);
        }
        Ok(checked)
    })
}

/// Checks the digests of every record that is no bag; those of the hospital's own bags are checked with what they hold.
fn others(archive: &Archive, findings: &mut Findings, options: &Options<'_>) -> Result<(), ArchiveError> {
    let mut buffer = Vec::new();
    for segment in &archive.segments {
        for slot in segment.slots.iter().filter(|slot| !matches!(slot.kind, kinds::BAG | kinds::FOREIGN)) {
            bag::read(archive, segment, slot, &mut buffer)?;
            bag::check_frame(segment, slot, &buffer, findings);
            (options.progress)(slot.length);
        }
    }
    Ok(())
}

/// A reference stands for one document and in one bag.
fn twice(checked: &[Checked], references: &[Vec<u64>], findings: &mut Findings) {
    let rising = references.iter().flatten().try_fold(0, |last, next| (last < *next).then_some(*next));
    if rising.is_some() {
        return;
    }
    let mut all: Vec<u64> = references.iter().flatten().copied().collect();
    all.sort_unstable();
    let mut repeated: Vec<u64> = all.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    repeated.dedup();
    for (bag, found) in checked.iter().zip(references) {
        let mut here: Vec<u64> = found.iter().copied().filter(|n| repeated.binary_search(n).is_ok()).collect();
        here.dedup();
        for reference in here {
            let place = Place::bag(bag.sequence).at(reference);
            findings.add(
                Class::Altered,
                "reference-twice",
                place,
                "the reference stands more than once in the archive",
            );
        }
    }
}

fn overview(archive: &Archive, checked: &[Checked], options: &Options<'_>, log: LogState) -> Overview {
    let headers = || checked.iter().filter_map(|bag| bag.header.as_ref());
    let mut policies: Vec<String> =
        checked.iter().filter_map(|bag| bag.token.as_ref()).map(|t| t.policy.clone()).collect();
    policies.sort();
    policies.dedup();
    let mut records = Hasher::new();
    archive.segments.iter().flat_map(|segment| &segment.slots).for_each(|slot| records.update(&slot.digest.0));
    let ends = |all: (Option<&Checked>, Option<&Checked>)| all.0.zip(all.1).map(|(a, b)| (a.sequence, b.sequence));
    Overview {
        hospital: archive.hospital.clone(),
        side: archive.side().map(crate::manifest::Side::name),
        manifest_sha256: Manifest::text(&archive.folder).ok().map(|text| sha256(&text)),
        records_sha256: records.finish(),
        segments: archive.segments.len(),
        bytes: archive.bytes(),
        bags: checked.len() as u64,
        entries: checked.iter().map(|bag| bag.entries).sum(),
        tokens: checked.iter().filter(|bag| bag.token.is_some()).count() as u64,
        sequences: ends((checked.first(), checked.last())),
        period: headers().next().zip(headers().next_back()).map(|(first, last)| (first.start, last.end)),
        policies,
        documents: options.documents.map_or(0, Documents::count),
        revocations_known_until: options.trust.revocations_known_until(),
        own_bags: 0,
        own_entries: 0,
        renewed: 0,
        documents_rehashed: 0,
        log,
    }
}
