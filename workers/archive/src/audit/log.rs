//! The log step: whether each bag stands in the platform's append-only log, at a checkpoint that enough witnesses cosigned.
//!
//! A witness signs a checkpoint only when it continues what it signed before, so bags under a quorum cannot have been put in
//! earlier than witnesses saw them, and nobody was shown another history. Without a log, or without a quorum, the report says
//! what that means.

use crate::finding::{Class, Findings, Place};
use schemas::Sha256;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use zegel_crypto::hash::sha256;
use zegel_crypto::log::entry::{Entry, Kind};
use zegel_crypto::log::{LogProof, Opened, Policy};
use zegel_crypto::tsa::token_of;

/// Whether the archive's bags stand in the platform's public log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum LogState {
    /// The archive holds no proof of a log.
    NoLogInThisArchive,
    /// It holds proofs, and the trust file names no log: they were not believed.
    NoLogInTheTrustFile {
        /// How many proofs there are.
        proofs: u64,
    },
    /// Proofs were checked.
    Checked {
        /// The log's name.
        origin: String,
        /// Bags whose proof holds.
        bags: u64,
        /// Bags without a proof.
        without: u64,
        /// How many witnesses must have cosigned.
        quorum: usize,
        /// The fewest that did.
        witnesses: usize,
    },
}

/// A bag as the log step needs it.
pub(crate) struct Logged {
    pub(crate) sequence: u64,
    /// The entry that the log must hold; none when the bag's token or header cannot be read.
    pub(crate) entry: Option<Vec<u8>>,
}

/// What the log must hold for a bag.
pub(crate) fn entry(header: &[u8], tsr: &[u8]) -> Option<Vec<u8>> {
    let token = sha256(&token_of(tsr).ok()?);
    Some(Entry { kind: Kind::Platform, subject: sha256(header), token }.encode().to_vec())
}

/// Checks the proofs of an archive's bags, which come in the order of their sequence.
pub(crate) fn check(
    bags: &[Logged],
    proofs: &HashMap<u64, String>,
    policy: Option<&Policy>,
    findings: &mut Findings,
) -> LogState {
    let Some(policy) = policy else {
        return match proofs.len() as u64 {
            0 => LogState::NoLogInThisArchive,
            proofs => LogState::NoLogInTheTrustFile { proofs },
        };
    };
    if proofs.is_empty() {
        let text = "the trust file names a log, and the archive holds no proof of it";
        findings.add(Class::Missing, "log-absent", Place::default(), text);
        return LogState::NoLogInThisArchive;
    }
    let mut step = Step { policy, findings, held: 0, witnesses: usize::MAX, roots: BTreeMap::new(), last: None };
    for bag in bags {
        if let Some(text) = proofs.get(&bag.sequence) {
            step.proof(bag, text);
        }
    }
    let without = step.without(bags, proofs);
    LogState::Checked {
        origin: policy.log().name().to_owned(),
        bags: step.held,
        without,
        quorum: policy.quorum(),
        witnesses: if step.held == 0 { 0 } else { step.witnesses },
    }
}

struct Step<'a> {
    policy: &'a Policy,
    findings: &'a mut Findings,
    held: u64,
    witnesses: usize,
    /// Roots of checkpoints, by size: one size has one root.
    roots: BTreeMap<u64, (Sha256, u64)>,
    /// Index of the bag before.
    last: Option<u64>,
}

impl Step<'_> {
    fn add(&mut self, class: Class, name: &'static str, sequence: u64, text: impl Into<String>) {
        self.findings.add(class, name, Place::bag(sequence), text);
    }

    fn proof(&mut self, bag: &Logged, text: &str) {
        let Some(entry) = &bag.entry else { return };
        let read: Result<LogProof, _> = text.parse();
        let opened = read.and_then(|proof| Ok((proof.index, proof.verify(entry, self.policy)?)));
        match opened {
            Ok((index, opened)) => self.holds(bag.sequence, index, &opened),
            Err(error) => {
                let rule = error.to_string();
                // Signed by the log, but by too few others: no contradiction, and no witness either.
                let few = rule.contains("too few witnesses");
                let (class, name) = if few { (Class::Untrusted, "log-quorum") } else { (Class::Altered, "log-proof") };
                self.add(class, name, bag.sequence, rule);
            }
        }
    }

    fn holds(&mut self, sequence: u64, index: u64, opened: &Opened) {
        self.held += 1;
        self.witnesses = self.witnesses.min(opened.witnesses.len());
        let (size, root) = (opened.checkpoint.size, opened.checkpoint.root);
        let (first, bag) = *self.roots.entry(size).or_insert((root, sequence));
        if first != root {
            let text =
                format!("the log signed another root of the same size than for bag {bag}: it shows two histories");
            self.add(Class::Altered, "log-two-views", sequence, text);
        }
        if self.last.is_some_and(|last| index <= last) {
            let text = "the bag stands in the log before the bag that it continues";
            self.add(Class::Altered, "log-order", sequence, text);
        }
        self.last = Some(index);
    }

    /// Bags without a proof: at the end they may just not be in a checkpoint yet.
    fn without(&mut self, bags: &[Logged], proofs: &HashMap<u64, String>) -> u64 {
        let lacks = |bag: &&Logged| !proofs.contains_key(&bag.sequence);
        let last = bags.iter().rposition(|bag| proofs.contains_key(&bag.sequence)).unwrap_or(0);
        for bag in bags.iter().take(last).filter(lacks) {
            let text = "the archive holds no proof that the bag stands in the log, and has proofs of later bags";
            self.add(Class::Missing, "log-proof-missing", bag.sequence, text);
        }
        let late: Vec<u64> = bags.iter().skip(last).filter(lacks).map(|bag| bag.sequence).collect();
        if let Some(first) = late.first() {
            let text = format!("{} bags from here on have no proof of the log yet", late.len());
            self.add(Class::Notice, "log-not-yet", *first, text);
        }
        bags.iter().filter(lacks).count() as u64
    }
}
