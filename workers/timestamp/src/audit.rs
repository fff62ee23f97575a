//! Checks of bags by nothing but their bytes: what `zegel check`, the demo and an auditor run.
//!
//! A bag is good when its XML is of the form, entry 0 is the header's hash, the header says what the XML holds (sequence,
//! count, Merkle root), the chain continues from the bag before, and the token over the XML's exact bytes verifies under
//! a trusted CA and was not made before the bag ended. Every check that can still be made is made, and each fault is a
//! finding with a name.
//! Memory: one piece of XML at a time, whatever the bag's size.
//! Failure behaviour: a check never fails, it finds. Texts name rules, never entries.

use crate::xml::{BagXml, Entry, XmlError, read_bag, read_bag_bytes};
use schemas::{Millis, Sha256};
use std::io::Read;
use zegel_crypto::bag::{Header, leaf};
use zegel_crypto::merkle::{Tree, leaf_hash};
use zegel_crypto::tsa::{TokenInfo, TsaError, Verifier};

/// The evidence about one bag.
pub struct Evidence<'a, R> {
    /// The bag's XML.
    pub xml: R,
    /// The RFC 3161 time-stamp response, DER.
    pub tsr: &'a [u8],
    /// The bag's header, CBOR.
    pub header: &'a [u8],
    /// What an earlier check of the bag before it gave; none for a hospital's first bag.
    pub previous: Option<&'a Link>,
}

/// What the next bag must continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The bag's header.
    pub header: Header,
    /// Its token's time.
    pub gen_time: Millis,
}

/// One fault of a bag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The XML is not a bag.
    Xml(String),
    /// The header is not the deterministic CBOR of a valid header.
    Header(String),
    /// The first entry is not Ref 0, or Ref 0 stands elsewhere.
    Entry0,
    /// Entry 0 is another hash than the header's.
    HeaderHash,
    /// XML and header are of different bags.
    Sequence,
    /// The XML has more or fewer entries than the header says.
    Count,
    /// The Merkle root over the XML's entries is another: an entry was altered, added, left out or moved.
    Root,
    /// The header does not name the header before it, or its number does not follow, or it is another hospital's.
    Link,
    /// The window does not begin where the one before ended.
    Window,
    /// The token is not for these bytes, or not from this CA.
    Token(String),
    /// The token's time lies before the bag's end or before the token of the bag before.
    GenTime,
}

impl Finding {
    /// The finding's stable name, for reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Finding::Xml(_) => "bag-xml",
            Finding::Header(_) => "bag-header",
            Finding::Entry0 => "bag-entry-0",
            Finding::HeaderHash => "bag-header-hash",
            Finding::Sequence => "bag-sequence",
            Finding::Count => "bag-count",
            Finding::Root => "bag-root",
            Finding::Link => "bag-link",
            Finding::Window => "bag-window",
            Finding::Token(_) => "bag-token",
            Finding::GenTime => "bag-gen-time",
        }
    }
}

/// What a check of one bag gave.
#[derive(Debug)]
pub struct Report {
    /// Faults, in the order of the checks; none: the bag is good.
    pub findings: Vec<Finding>,
    /// Entries, entry 0 not counted.
    pub entries: u64,
    /// SHA-256 of the XML, when it could be read to its end.
    pub imprint: Option<Sha256>,
    /// The header, when it can be read.
    pub header: Option<Header>,
    /// The token, when it verifies.
    pub token: Option<TokenInfo>,
    /// For the check of the next bag, when header and token can be read.
    pub link: Option<Link>,
}

/// Checks one bag. `on_entry` sees every entry but entry 0, for checks across bags (a reference stands in one bag only).
pub fn check<R: Read>(
    evidence: Evidence<'_, R>,
    trusted: &dyn Verifier,
    mut on_entry: impl FnMut(u64, &Sha256),
) -> Report {
    let mut body = Body::default();
    let read = read_bag(evidence.xml, |reference, hash| {
        if body.take(reference, hash).is_some() {
            on_entry(reference, hash);
        }
    });
    let token = |imprint: &Sha256| trusted.verify(evidence.tsr, imprint);
    let mut report = Report::new(read, &body, evidence.header, token);
    if let Some(header) = &report.header {
        let found = chain(header, report.token.as_ref().map(|token| token.gen_time), evidence.previous);
        report.findings.extend(found);
    }
    report
}

/// Checks one bag by itself: everything but its place in the chain, which [`chain`] checks. The whole XML lies in memory,
/// so bags can be checked beside each other. `token` verifies the bag's token over a digest; `on_entry` sees every entry
/// but entry 0, with its Merkle leaf's hash.
pub fn check_alone(
    xml: &[u8],
    header: &[u8],
    token: impl FnOnce(&Sha256) -> Result<TokenInfo, TsaError>,
    mut on_entry: impl FnMut(&Entry, &Sha256),
) -> Report {
    let mut body = Body::default();
    let read = read_bag_bytes(xml, |entry| {
        if let Some(leaf) = body.take(entry.reference, &entry.hash) {
            on_entry(entry, &leaf);
        }
    });
    Report::new(read, &body, header, token)
}

/// Whether a bag continues the one before it, and whether its token (if it verifies) was made after both had ended.
#[must_use]
pub fn chain(header: &Header, gen_time: Option<Millis>, previous: Option<&Link>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut require = |holds: bool, finding: Finding| {
        if !holds {
            findings.push(finding);
        }
    };
    let mut earliest = header.end;
    match previous {
        None => require(header.sequence == 1 && header.previous.is_none(), Finding::Link),
        Some(before) => {
            let follows = before.header.sequence.checked_add(1) == Some(header.sequence)
                && header.previous == Some(before.header.hash())
                && header.hospital == before.header.hospital;
            require(follows, Finding::Link);
            require(header.start == before.header.end, Finding::Window);
            earliest = earliest.max(before.gen_time);
        }
    }
    require(gen_time.is_none_or(|at| at >= earliest), Finding::GenTime);
    findings
}

/// The entries as they come.
#[derive(Default)]
struct Body {
    tree: Tree,
    first: Option<Sha256>,
    stray: bool,
}

impl Body {
    /// Takes an entry; the hash of its Merkle leaf when it is not entry 0.
    fn take(&mut self, reference: u64, hash: &Sha256) -> Option<Sha256> {
        match (reference, self.first) {
            (0, None) if self.tree.size() == 0 => self.first = Some(*hash),
            (0, _) | (_, None) => self.stray = true,
            _ => {}
        }
        (reference > 0).then(|| {
            let leaf = leaf_hash(&leaf(reference, hash));
            self.tree.push_hash(leaf);
            leaf
        })
    }
}

impl Report {
    fn new(
        read: Result<BagXml, XmlError>,
        body: &Body,
        header: &[u8],
        token: impl FnOnce(&Sha256) -> Result<TokenInfo, TsaError>,
    ) -> Report {
        let mut report = Report {
            findings: Vec::new(),
            entries: body.tree.size(),
            imprint: None,
            header: None,
            token: None,
            link: None,
        };
        match Header::decode(header) {
            Ok(header) => report.header = Some(header),
            Err(error) => report.findings.push(Finding::Header(error.to_string())),
        }
        match read {
            Ok(xml) => {
                report.imprint = Some(xml.digest);
                report.check_body(body, xml.sequence);
                match token(&xml.digest) {
                    Ok(token) => report.token = Some(token),
                    Err(error) => report.findings.push(Finding::Token(error.to_string())),
                }
            }
            Err(error) => report.findings.push(Finding::Xml(error.to_string())),
        }
        if let (Some(header), Some(token)) = (&report.header, &report.token) {
            report.link = Some(Link { header: header.clone(), gen_time: token.gen_time });
        }
        report
    }

    fn check_body(&mut self, body: &Body, sequence: u64) {
        let mut found = Vec::new();
        let mut require = |holds: bool, finding: Finding| {
            if !holds {
                found.push(finding);
            }
        };
        require(body.first.is_some() && !body.stray, Finding::Entry0);
        if let Some(header) = &self.header {
            require(body.first.is_none_or(|hash| hash == header.hash()), Finding::HeaderHash);
            require(sequence == header.sequence, Finding::Sequence);
            require(self.entries == header.count, Finding::Count);
            require(body.tree.root() == header.root, Finding::Root);
        }
        self.findings.extend(found);
    }
}
