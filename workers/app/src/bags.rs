//! Audit of a hospital's bags from files alone: `N.xml`, `N.tsr`, the authority's certificate, and, where they are given,
//! the lines that the platform's listing had for the bags.
//!
//! A line of the listing holds what the header of a bag is made of. The header is built again from it and from the XML's
//! own entries; its hash must be entry 0, which the token covers, so a wrong line shows. What else a line says (hashes, the
//! token's time) must be so, and each bag that is listed must be there. Without the lines, windows and the chain cannot be
//! followed, and only XML and tokens are checked. A folder without a bag shows nothing, which is a finding.

use crate::client::{number, text};
use crate::failed::{Failed, at};
use schemas::{MailboxAddress, Millis, Sha256};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;
use zegel_crypto::bag::{Form, Header, leaf};
use zegel_crypto::merkle::Tree;
use zegel_crypto::tsa::{TrustAnchor, Trusted, TsaError, Verifier};
use zegel_timestamp::audit::{self, Evidence, Link};
use zegel_timestamp::xml::read_bag;

/// What an audit found.
#[derive(Debug, Default)]
pub struct Audit {
    /// Bags looked at.
    pub bags: u64,
    /// Entries in them, entry 0 not counted.
    pub entries: u64,
    /// Tokens that verify.
    pub tokens: u64,
    /// Each reference and its hash, with the bags that hold it.
    pub references: BTreeMap<u64, Vec<(u64, Sha256)>>,
    /// Faults: bag and rule.
    pub findings: Vec<String>,
}

/// Audits every bag in a folder, in order.
///
/// # Errors
/// When a file cannot be read; a bag that does not verify is a finding.
pub fn audit_folder(
    hospital: &MailboxAddress,
    folder: &Path,
    ca: &Path,
    listing: Option<&Path>,
) -> Result<Audit, Failed> {
    let pem = fs::read_to_string(ca).map_err(at(ca))?;
    let unusable = |error: TsaError| Failed::Failure(format!("{}: {error}", ca.display()));
    // The platform's own CA signs its units itself; an external authority's roots may have CAs below them.
    let own = TrustAnchor::from_pem(&pem).is_ok().then_some(pem.as_str());
    let trusted = Trusted::from_pem(own, Some(&pem)).map_err(unusable)?;
    let lines = listing.map(read_listing).transpose()?;
    let mut audit = Audit::default();
    let mut previous = None;
    let found = sequences(folder)?;
    for &sequence in &found {
        audit.bags += 1;
        if sequence != audit.bags {
            audit.findings.push(format!("bag {sequence}: bag-missing (bag {} was expected)", audit.bags));
        }
        match &lines {
            Some(lines) => {
                previous = audit.one(hospital, folder, sequence, &trusted, lines.get(&sequence), previous)?
            }
            None => audit.token_alone(folder, sequence, &trusted)?,
        }
    }
    for missing in lines.iter().flat_map(BTreeMap::keys).filter(|listed| !found.contains(listed)) {
        audit.findings.push(format!("bag {missing}: bag-missing (it is in the listing)"));
    }
    if found.is_empty() {
        audit.findings.push("no bag is in the folder".to_owned());
    }
    for (reference, places) in &audit.references {
        if places.len() != 1 {
            audit.findings.push(format!("reference {reference}: is in {} bags", places.len()));
        }
    }
    Ok(audit)
}

impl Audit {
    /// Checks one bag with its header and returns what the next one must continue.
    fn one(
        &mut self,
        hospital: &MailboxAddress,
        folder: &Path,
        sequence: u64,
        trusted: &Trusted,
        line: Option<&Value>,
        previous: Option<Link>,
    ) -> Result<Option<Link>, Failed> {
        let Some(line) = line else {
            self.findings.push(format!("bag {sequence}: bag-header (not in the listing)"));
            return Ok(None);
        };
        let xml = folder.join(format!("{sequence}.xml"));
        let tsr = read(&folder.join(format!("{sequence}.tsr")))?;
        let header = header(hospital, line, &xml)?;
        let said = (hash(line, "header_hash"), hash(line, "imprint"), line.get("stamped").and_then(Value::as_i64));
        let (header_hash, header) = (header.hash(), header.encode());
        let source = BufReader::new(File::open(&xml).map_err(at(&xml))?);
        let evidence = Evidence { xml: source, tsr: &tsr, header: &header, previous: previous.as_ref() };
        let report = audit::check(evidence, trusted, |reference, hash| {
            self.references.entry(reference).or_default().push((sequence, *hash));
        });
        let is = (Some(header_hash), report.imprint, report.token.as_ref().map(|token| token.gen_time.0));
        if said != is {
            self.findings.push(format!("bag {sequence}: bag-listing (a hash or the token's time is another)"));
        }
        self.entries += report.entries;
        self.tokens += u64::from(report.token.is_some());
        self.findings.extend(report.findings.iter().map(|finding| format!("bag {sequence}: {}", finding.name())));
        Ok(report.link)
    }

    /// Checks what XML and token say by themselves.
    fn token_alone(&mut self, folder: &Path, sequence: u64, trusted: &Trusted) -> Result<(), Failed> {
        let path = folder.join(format!("{sequence}.xml"));
        let tsr = read(&folder.join(format!("{sequence}.tsr")))?;
        let file = BufReader::new(File::open(&path).map_err(at(&path))?);
        let xml = read_bag(file, |reference, hash| {
            if reference > 0 {
                self.references.entry(reference).or_default().push((sequence, *hash));
            }
        });
        match xml.map(|xml| (xml.entries, trusted.verify(&tsr, &xml.digest))) {
            Err(_) => self.findings.push(format!("bag {sequence}: bag-xml")),
            Ok((entries, verified)) => {
                self.entries += entries.saturating_sub(1);
                match verified {
                    Ok(_) => self.tokens += 1,
                    Err(_) => self.findings.push(format!("bag {sequence}: bag-token")),
                }
            }
        }
        Ok(())
    }
}

/// The header as the listing and the XML's entries give it.
fn header(hospital: &MailboxAddress, line: &Value, xml: &Path) -> Result<Header, Failed> {
    let mut tree = Tree::new();
    let file = BufReader::new(File::open(xml).map_err(at(xml))?);
    // A fault of the XML is found again by the audit, with its name.
    let _found_later = read_bag(file, |reference, hash| {
        if reference > 0 {
            tree.push(&leaf(reference, hash));
        }
    });
    let sequence = number(line, "sequence");
    let instant = |field: &str| Millis(line.get(field).and_then(Value::as_i64).unwrap_or_default());
    Ok(Header {
        hospital: hospital.clone(),
        sequence,
        start: instant("start"),
        end: instant("end"),
        count: number(line, "count"),
        root: tree.root(),
        previous: if sequence == 1 { None } else { text(line, "previous").parse().ok() },
        form: Form::Plain,
    })
}

fn hash(line: &Value, field: &str) -> Option<Sha256> {
    text(line, field).parse().ok()
}

fn read_listing(path: &Path) -> Result<BTreeMap<u64, Value>, Failed> {
    let text = fs::read_to_string(path).map_err(at(path))?;
    let lines = text.lines().map(|line| {
        let value: Value = serde_json::from_str(line)?;
        Ok((number(&value, "sequence"), value))
    });
    lines.collect()
}

/// The numbers of the bags in a folder, ascending.
fn sequences(folder: &Path) -> Result<Vec<u64>, Failed> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(sequence) = name.strip_suffix(".xml").and_then(|stem| stem.parse().ok()) {
            all.push(sequence);
        }
    }
    all.sort_unstable();
    Ok(all)
}

fn read(path: &Path) -> Result<Vec<u8>, Failed> {
    fs::read(path).map_err(at(path))
}
