//! Checks an evidence file: everything that the archive's audit checks of a bag, for one document.

use super::renewals::{self, Renewed};
use super::{README, SUMS, Statement, lines, sums};
use crate::audit::LogState;
use crate::audit::log::{self, Logged};
use crate::finding::{Class, Findings, Place, utc};
use crate::list::salted;
use crate::tar;
use crate::trust::{TokenFault, Trust};
use schemas::{Millis, Sha256};
use serde::Serialize;
use zegel_crypto::bag::{Form, Header, leaf};
use zegel_crypto::hash::sha256;
use zegel_crypto::merkle::{InclusionProof, leaf_hash};
use zegel_crypto::tsa::{TokenInfo, TsaError};
use zegel_timestamp::audit::{self, Finding as Fault};

/// What an evidence file says, for the report.
#[derive(Debug, Clone, Serialize)]
pub struct EvidenceView {
    /// Whose document, in which bag, under which reference.
    pub statement: Option<Statement>,
    /// SHA-256 of the evidence file.
    pub file_sha256: Sha256,
    /// SHA-256 of the document that was compared, if there was one.
    pub document: Option<Sha256>,
    /// The window in which the document was handed in.
    pub window: Option<(Millis, Millis)>,
    /// The token's time, when it verifies.
    pub stamped: Option<Millis>,
    /// The policy of the token.
    pub policy: Option<String>,
    /// Time of the latest renewal, when the renewals hold.
    pub renewed: Option<Millis>,
    /// The later digest that binds the document's own bytes, when it was hashed anew and that holds.
    pub document_in: Option<String>,
    /// Whether the bag stands in the log.
    pub log: LogState,
    /// Up to when it is known which certificates were revoked.
    pub revocations_known_until: Option<Millis>,
    /// One sentence with the result.
    pub sentence: String,
}

/// Checks an evidence file; `document` is compared with it, beside the one that may be inside.
#[must_use]
pub fn check(bytes: &[u8], document: Option<&[u8]>, trust: &Trust) -> (EvidenceView, Findings) {
    let files = tar::read(bytes);
    let inside = files.iter().flat_map(|(files, _)| files).filter(|(name, _)| name.ends_with(".crl"));
    let trust = &trust.with_lists(inside.map(|(_, bytes)| *bytes));
    let mut check = Check { trust, findings: Findings::default(), token: None, header: None };
    let mut view = EvidenceView {
        statement: None,
        file_sha256: sha256(bytes),
        document: None,
        window: None,
        stamped: None,
        policy: None,
        renewed: None,
        document_in: None,
        log: LogState::NoLogInThisArchive,
        revocations_known_until: None,
        sentence: String::new(),
    };
    match files {
        Some((files, at)) => check.files(&files, at, document, &mut view),
        None => check.add(
            Class::Damaged,
            "evidence-form",
            "",
            "the file is not what was written: no evidence file reads so",
        ),
    }
    view.window = check.header.as_ref().map(|header| (header.start, header.end));
    view.stamped = check.token.as_ref().map(|token| token.gen_time);
    view.policy = check.token.as_ref().map(|token| token.policy.clone());
    let mut findings = check.findings;
    crate::audit::without_lists(trust, &mut findings);
    view.revocations_known_until = trust.revocations_known_until();
    findings.sort();
    view.sentence = match (&view.statement, view.stamped) {
        (Some(statement), Some(at)) if findings.clean() => format!(
            "The document under reference {} of {} existed at {} (bag {}).",
            statement.reference,
            statement.hospital,
            utc(at),
            statement.sequence
        ),
        _ => "The file proves nothing: see the findings.".to_owned(),
    };
    (view, findings)
}

struct Check<'a> {
    trust: &'a Trust,
    findings: Findings,
    token: Option<TokenInfo>,
    header: Option<Header>,
}

impl Check<'_> {
    fn add(&mut self, class: Class, name: &'static str, file: &str, text: impl Into<String>) {
        self.findings.add(class, name, Place::file(file), text);
    }

    fn files(&mut self, files: &[tar::File<'_>], at: Millis, document: Option<&[u8]>, view: &mut EvidenceView) {
        let file = |name: &str| files.iter().find(|(found, _)| *found == name).map(|(_, bytes)| *bytes);
        for (index, (name, _)) in files.iter().enumerate() {
            let twice = files[..index].iter().any(|(other, _)| other == name);
            if twice || !belongs(name) {
                self.add(Class::Damaged, "evidence-file-unknown", name, "the file does not belong to the evidence");
            }
        }
        self.digests(files);
        let statement = file("evidence.json").and_then(Statement::decode);
        let text = statement.as_ref().and_then(Statement::readme).unwrap_or(README);
        if file("README.txt") != Some(text.as_bytes()) {
            self.add(Class::Damaged, "evidence-readme", "README.txt", "the text of the format is another");
        }
        let Some(statement) = statement else {
            return self.add(
                Class::Damaged,
                "evidence-statement",
                "evidence.json",
                "it cannot be read, or was changed",
            );
        };
        let (Some(xml), Some(tsr), Some(header)) = (file("bag.xml"), file("bag.tsr"), file("bag.header")) else {
            return self.add(Class::Missing, "evidence-incomplete", "", "bag.xml, bag.tsr or bag.header is missing");
        };
        self.bag(xml, tsr, header, &statement);
        self.certificates(files);
        let renewed = file("renewal.ers")
            .map(|record| renewals::of_bag(record, xml, self.token.as_ref(), self.trust, &mut self.findings));
        let renewed = renewed.unwrap_or(Err(Class::Altered));
        view.renewed = renewed.as_ref().ok().and_then(Renewed::latest);
        view.log = self.log(file("log-proof.txt"), &statement, header, tsr);
        let inside = file("document");
        let documents: Vec<&[u8]> = [inside, document].into_iter().flatten().collect();
        documents.iter().for_each(|document| self.document(document, &statement));
        let (own, parts) = (file("document.ers"), (xml, documents.as_slice()));
        let digest = renewals::of_document(
            renewed.as_ref().map_err(|class| *class),
            own,
            parts,
            &statement,
            self.trust,
            &mut self.findings,
        );
        view.document_in = digest.map(|digest| digest.to_string());
        if inside.is_none() && document.is_none() {
            let text = "no document was given: the evidence is about its digest alone";
            self.add(Class::Notice, "evidence-no-document", "", text);
        }
        let stamped = self.token.as_ref().map(|token| token.gen_time);
        if stamped.is_some_and(|stamped| stamped != statement.stamped) || statement.stamped.0 / 1_000 != at.0 / 1_000 {
            self.add(Class::Altered, "evidence-time", "evidence.json", "the file names another time than its token");
        }
        let authorities = files.iter().filter(|(name, _)| name.starts_with("ca-")).count();
        let statement = self.command_lines(statement, authorities, inside.is_some());
        view.document = document.or(inside).map(sha256);
        view.statement = Some(statement);
    }

    /// The statement with its command lines if they are those of the format, else with those that would be: whoever reads the
    /// report types them, so that a forger's line is not shown.
    fn command_lines(&mut self, mut statement: Statement, authorities: usize, document: bool) -> Statement {
        // Files from before the salted line have the plain one.
        let known = [statement.salt.as_deref(), None].map(|salt| lines(authorities, document, salt, statement.stamped));
        if !known.contains(&statement.openssl) {
            let [own, _] = known;
            statement.openssl = own;
            let text = "the command lines are not those of the format";
            self.add(Class::Altered, "evidence-lines", "evidence.json", text);
        }
        statement
    }

    /// Whether the last file holds the digests of all others.
    fn digests(&mut self, files: &[tar::File<'_>]) {
        let Some(((name, said), others)) = files.split_last().filter(|((name, _), _)| *name == SUMS) else {
            return self.add(Class::Damaged, "evidence-sums", SUMS, "the digests of the files are missing");
        };
        let right = sums(others);
        if right.as_bytes() == *said {
            return;
        }
        let wrong =
            right.lines().filter(|line| !said.split(|byte| *byte == b'\n').any(|other| other == line.as_bytes()));
        let names: Vec<&str> = wrong.filter_map(|line| line.split_once("  ")).map(|(_, name)| name).collect();
        if names.is_empty() {
            self.add(Class::Damaged, "evidence-sums", name, "the digests of the files are not what was written");
        }
        for name in names {
            self.add(Class::Damaged, "evidence-sums", name, "the file is not what was written");
        }
    }

    fn bag(&mut self, xml: &[u8], tsr: &[u8], header: &[u8], statement: &Statement) {
        let mut fault: Option<TokenFault> = None;
        let trust = self.trust;
        let verify = |imprint: &Sha256| {
            trust.verify(tsr, imprint).map_err(|found| {
                fault = Some(found);
                TsaError::Refused("token does not count")
            })
        };
        let mut found: Vec<Sha256> = Vec::new();
        let report = audit::check_alone(xml, header, verify, |entry, _| {
            if entry.reference == statement.reference {
                found.push(entry.hash);
            }
        });
        for finding in &report.findings {
            match (finding, &fault) {
                (Fault::Token(_), Some(fault)) => self.add(fault.class, fault.name, "bag.tsr", fault.text.clone()),
                (finding, _) => self.add(Class::Altered, finding.name(), "bag.xml", crate::audit::sentence(finding)),
            }
        }
        if found != [statement.hash] {
            self.add(Class::Altered, "evidence-entry", "bag.xml", "the bag does not hold this entry exactly once");
        }
        if let Some(header) = &report.header {
            let said = header.sequence == statement.sequence && header.hospital == statement.hospital;
            if !said {
                self.add(Class::Altered, "evidence-bag", "evidence.json", "the file names another bag than its header");
            }
            let merkle = &statement.merkle;
            let proof = InclusionProof { index: merkle.index, size: merkle.size, path: merkle.path.clone() };
            let leaf = leaf_hash(&leaf(statement.reference, &statement.hash));
            if merkle.size != header.count || !proof.leads(&leaf, &header.root) {
                self.add(Class::Altered, "evidence-path", "evidence.json", "the path does not lead to the bag's root");
            }
            if report.token.as_ref().is_some_and(|token| token.gen_time < header.end) {
                self.add(Class::Altered, "bag-gen-time", "bag.tsr", "the token's time is before the bag's end");
            }
        }
        (self.token, self.header) = (report.token, report.header);
    }

    fn log(&mut self, proof: Option<&[u8]>, statement: &Statement, header: &[u8], tsr: &[u8]) -> LogState {
        let text = proof.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let proofs = text.into_iter().map(|text| (statement.sequence, text)).collect();
        let bag = Logged { sequence: statement.sequence, entry: log::entry(header, tsr) };
        log::check(&[bag], &proofs, self.trust.log.as_ref(), &mut self.findings)
    }

    /// The certificates inside are a convenience for `openssl`; trust comes from the trust file alone.
    fn certificates(&mut self, files: &[tar::File<'_>]) {
        for (name, bytes) in files.iter().filter(|(name, _)| name.starts_with("ca-")) {
            let known = self.trust.authorities.iter().any(|ca| ca.pem.as_bytes() == *bytes);
            if !known {
                let text = "the certificate is not the one in the trust file, and was not used";
                self.add(Class::Notice, "evidence-ca-unknown", name, text);
            }
        }
    }

    fn document(&mut self, document: &[u8], statement: &Statement) {
        let digest = sha256(document);
        let salt = match statement.salt.as_deref().map(hex::decode) {
            Some(Err(_)) => {
                return self.add(Class::Altered, "evidence-salt", "evidence.json", "the salt is not hexadecimal");
            }
            Some(Ok(salt)) => Some(salt),
            None => None,
        };
        let without = salt.is_none() && self.header.as_ref().is_some_and(|header| header.form == Form::Salted);
        let hash = salt.map_or(digest, |salt| salted(&salt, &digest));
        if hash != statement.hash && without {
            let text = "the bag is salted and the file holds no salt: have it made with the document and --salt";
            self.add(Class::Missing, "salt-missing", "evidence.json", text);
        } else if hash != statement.hash {
            let text = "the document is another one than the one that was stamped";
            self.add(Class::Altered, "document-differs", "document", text);
        }
        if statement.document_sha256.is_some_and(|said| said != digest) {
            self.add(
                Class::Altered,
                "evidence-digest",
                "evidence.json",
                "the document has another digest than the file says",
            );
        }
    }
}

/// Whether a name is one of the format's.
fn belongs(name: &str) -> bool {
    let fixed = [
        "README.txt",
        "evidence.json",
        "document",
        "bag.xml",
        "bag.tsr",
        "bag.header",
        "log-proof.txt",
        "renewal.ers",
        "document.ers",
        SUMS,
    ];
    let numbered = |name: &str| name.parse::<u32>().is_ok_and(|n| n > 0 && n.to_string() == name);
    fixed.contains(&name)
        || name.strip_suffix(".crl").is_some_and(numbered)
        || name.strip_prefix("ca-").and_then(|rest| rest.strip_suffix(".pem")).is_some_and(numbered)
}
