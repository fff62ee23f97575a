//! The report of an audit: JSON for machines, a page for people, one signature over both.
//!
//! The JSON names the SHA-256 of the page, and the signature (Ed25519, detached) is over the JSON's exact bytes, so it covers
//! both. Whoever made the audit signs it with a key of their own; the report proves who found what and when they said so.

use crate::audit::{LogState, Overview};
use crate::evidence::EvidenceView;
use crate::finding::{Class, Finding, Findings, utc};
use crate::page;
use crate::reconcile::Compared;
use crate::trust::Trust;
use schemas::{Millis, Sha256};
use serde::Serialize;
use std::collections::BTreeMap;
use zegel_crypto::hash::sha256;
use zegel_crypto::tsa::{CertificateFacts, certificate_facts};

/// What the JSON calls itself.
pub const FORMAT: &str = "zegel-audit-report/1";

/// A whole report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: &'static str,
    /// Which program.
    pub program: String,
    /// When it was made.
    pub made: String,
    /// The same in milliseconds.
    pub made_ms: Millis,
    /// `clean`, or the worst class.
    pub verdict: String,
    /// The verdict in a sentence.
    pub sentence: String,
    /// The exit status of the audit.
    pub status: u8,
    /// What was trusted.
    pub trust: Trusted,
    /// Archives that were audited: the folder as it was named, and what was looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub archives: Vec<Part>,
    /// What comparing two archives cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared: Option<Compared>,
    /// What was looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// An evidence file that was checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceView>,
    /// How many findings there are, also those that are not listed.
    pub findings_total: u64,
    /// How often each name stands in the list.
    pub names: BTreeMap<&'static str, u64>,
    /// The findings, the worst first.
    pub findings: Vec<Listed>,
    /// What this audit could not show.
    pub limits: Vec<String>,
    /// Command lines that check the same.
    pub openssl: Vec<String>,
    /// SHA-256 of the file with the public key that the report is signed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<Sha256>,
    /// SHA-256 of the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_sha256: Option<Sha256>,
}

/// One archive of the audit.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// Its folder, as it was named.
    pub folder: String,
    /// What was looked at.
    #[serde(flatten)]
    pub overview: Overview,
}

/// A finding, and where it belongs.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// The archive's folder, `comparison`, or the evidence file.
    pub about: String,
    /// The finding.
    #[serde(flatten)]
    pub finding: Finding,
}

/// What was trusted.
#[derive(Debug, Clone, Serialize)]
pub struct Trusted {
    /// SHA-256 of the trust file.
    pub file_sha256: Sha256,
    /// The certificates in it.
    pub authorities: Vec<CertificateFacts>,
}

/// What was looked for in an archive.
#[derive(Debug, Clone, Serialize)]
pub struct Asked {
    /// SHA-256 of the document, or of the file with the list.
    pub sha256: Sha256,
    /// Whether it was a list.
    pub list: bool,
    /// Where one document stands, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<Found>,
}

/// Where a document stands.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    /// In which bag.
    pub bag: u64,
    /// Under which reference.
    pub reference: u64,
    /// The hash in the bag.
    pub hash: Sha256,
    /// The token's time, as the token says it.
    pub stamped: Option<Millis>,
}

/// What goes into a report.
#[derive(Default)]
pub struct Content {
    /// Archives: folder, overview.
    pub archives: Vec<Part>,
    /// Findings, by what they are about.
    pub findings: Vec<(String, Findings)>,
    /// Two archives.
    pub compared: Option<Compared>,
    /// An evidence file.
    pub evidence: Option<EvidenceView>,
    /// What was looked for.
    pub asked: Option<Asked>,
    /// Command lines.
    pub openssl: Vec<String>,
}

/// The files of a report.
#[derive(Debug, Clone)]
pub struct Files {
    /// The JSON.
    pub json: Vec<u8>,
    /// The page.
    pub html: String,
}

impl Report {
    /// Puts a report together.
    #[must_use]
    pub fn new(content: Content, trust: &Trust, now: Millis, program: &str) -> Report {
        let Content { archives, findings, compared, evidence, asked, openssl } = content;
        let mut all = Findings::default();
        findings.iter().for_each(|(_, found)| all.extend(found.clone()));
        let mut listed: Vec<Listed> = findings
            .into_iter()
            .flat_map(|(about, found)| {
                let list = found.list().to_vec();
                list.into_iter().map(move |finding| Listed { about: about.clone(), finding })
            })
            .collect();
        listed.sort_by_key(|listed| listed.finding.class);
        let mut names = BTreeMap::new();
        listed.iter().for_each(|listed| *names.entry(listed.finding.name).or_default() += 1);
        let limits = limits(&archives, evidence.as_ref());
        let verdict = all.worst().filter(|class| *class != Class::Notice);
        Report {
            format: FORMAT,
            program: program.to_owned(),
            made: utc(now),
            made_ms: now,
            verdict: verdict.map_or_else(|| "clean".to_owned(), |class| format!("{class:?}").to_lowercase()),
            sentence: sentence(verdict, &archives, evidence.as_ref(), asked.as_ref()),
            status: all.status(),
            trust: Trusted {
                file_sha256: trust.digest,
                authorities: trust.authorities.iter().flat_map(|ca| certificate_facts(&ca.pem)).collect(),
            },
            archives,
            compared,
            asked,
            evidence,
            findings_total: all.total(),
            names,
            findings: listed,
            limits,
            openssl,
            signed_by: None,
            page_sha256: None,
        }
    }

    /// The report's files; the JSON names the page.
    #[must_use]
    pub fn files(&self) -> Files {
        let html = page::html(self);
        let with_page = Report { page_sha256: Some(sha256(html.as_bytes())), ..self.clone() };
        let mut json = serde_json::to_vec_pretty(&with_page).unwrap_or_default();
        json.push(b'\n');
        Files { json, html }
    }
}

fn sentence(
    verdict: Option<Class>,
    archives: &[Part],
    evidence: Option<&EvidenceView>,
    asked: Option<&Asked>,
) -> String {
    if let Some(evidence) = evidence {
        return evidence.sentence.clone();
    }
    match verdict {
        Some(class) => format!("Not in order: {}.", class.meaning()),
        None => {
            let (bags, entries) =
                archives.iter().fold((0, 0), |(b, e), part| (b + part.overview.bags, e + part.overview.entries));
            let document = asked.and_then(|asked| asked.found.as_ref()).map_or_else(String::new, |found| {
                let time = found.stamped.map_or_else(String::new, |at| format!(", time-stamped at {}", utc(at)));
                format!(" The document stands in bag {} under reference {}{time}.", found.bag, found.reference)
            });
            format!(
                "In order: {bags} bags with {entries} entries are what was time-stamped, and none is missing between \
                 them.{document}"
            )
        }
    }
}

/// What an audit of this input cannot show, whatever it found.
fn limits(archives: &[Part], evidence: Option<&EvidenceView>) -> Vec<String> {
    let logs = archives.iter().map(|part| &part.overview.log).chain(evidence.map(|evidence| &evidence.log));
    let mut limits: Vec<String> = logs.filter_map(of_log).collect();
    limits.dedup();
    if archives.len() == 1 {
        limits.push("Bags after the last one in the archive cannot be missed from this archive alone.".to_owned());
    }
    let known = archives.iter().map(|part| part.overview.revocations_known_until);
    match known.chain(evidence.map(|evidence| evidence.revocations_known_until)).min().flatten() {
        Some(until) => limits.push(format!("Which certificates were revoked is known up to {}.", utc(until))),
        None => limits
            .push("There is no revocation list of a CA: whether a certificate was revoked is not known.".to_owned()),
    }
    let policies = archives.iter().flat_map(|part| part.overview.policies.iter().map(String::as_str));
    let policies = policies.chain(evidence.and_then(|evidence| evidence.policy.as_deref()));
    if policies.into_iter().any(|policy| policy == zegel_crypto::tsa::TEST_POLICY) {
        limits.push(
            "Tokens were made under the test policy, without a time source that vouches for the clock: their time is the \
             platform's word."
                .to_owned(),
        );
    }
    limits.push("The time of this report is what the computer that made it said.".to_owned());
    limits.push(
        "The authorities are those of the trust file. A legal presumption needs tokens of a qualified authority \
         (Regulation (EU) 910/2014); whether they are qualified is not checked here."
            .to_owned(),
    );
    limits
}

/// What follows where there is no log, or no quorum of witnesses.
fn of_log(log: &LogState) -> Option<String> {
    let without = match log {
        LogState::NoLogInThisArchive => "There is no log in this archive, and no signature of a witness",
        LogState::NoLogInTheTrustFile { .. } => {
            "The trust file names no log, so the proofs that are there were not used"
        }
        LogState::Checked { quorum: 0, .. } => "The log was checked, and no signature of a witness was asked for",
        LogState::Checked { .. } => return None,
    };
    Some(format!(
        "{without}: the platform could have back-dated bags before they were handed out, or shown other bags to somebody \
         else. Comparing with the other side's archive shows it."
    ))
}
