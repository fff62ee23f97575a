//! What a project's papers are worth: each version signed by every party, each decision signed by an officer, in one chain.
//!
//! Trust begins with the officers' certificates, which the installation holds; an officer answers for whose certificates the
//! parties' are. The document names them by fingerprint, so that every party signs who the others are. A document without
//! certificates takes effect for a trial only, where one person holds all keys, and says so.
//! Failure: the first thing that is not as it was signed makes the whole project unusable ([`Fault`], I8): there is no part of
//! it that could be trusted alone.

use super::ProjectDocument;
use super::entry::{Deed, Entry, PartySignature};
use super::register::Register;
use chrono::NaiveDate;
use schemas::{MailboxAddress, Millis, Sha256};
use std::collections::BTreeMap;
use zegel_crypto::hash::sha256;
use zegel_crypto::signed::{self, SignerCertificate};

/// Most entries of one register: a decision every day for a generation.
pub const ENTRIES_MAX: usize = 10_000;
/// Largest document in bytes.
pub const DOCUMENT_MAX: usize = 1 << 20;

/// Why a project's papers are worth nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {rule}")]
pub struct Fault {
    /// Which paper.
    pub place: String,
    /// What is wrong with it.
    pub rule: &'static str,
}

/// A version of the document with its parties' signatures, in the document's order of parties.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignedDocument {
    /// Its exact bytes.
    pub document: Vec<u8>,
    /// Detached signatures; none where a party has not signed.
    pub signatures: Vec<Option<Vec<u8>>>,
}

/// An entry of the register with an officer's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedEntry {
    /// Its exact bytes.
    pub text: Vec<u8>,
    /// The officer's detached signature.
    pub signature: Vec<u8>,
}

/// All papers of one project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dossier {
    /// By version.
    pub documents: BTreeMap<u32, SignedDocument>,
    /// In order.
    pub entries: Vec<SignedEntry>,
}

/// Papers that hold together.
#[derive(Debug, Clone)]
pub struct Agreement {
    /// What the decisions come to.
    pub register: Register,
    /// Every version that was activated.
    pub documents: BTreeMap<u32, ProjectDocument>,
    /// The decisions, with the instant at which each was signed and by whom.
    pub decisions: Vec<Decided>,
    /// SHA-256 of the last entry.
    pub head: Option<Sha256>,
    /// Whether any version was activated for a trial.
    pub trial: bool,
}

/// One decision that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// What.
    pub entry: Entry,
    /// When it was signed, as the officer claims.
    pub at: Millis,
    /// The officer's certificate.
    pub officer: Sha256,
}

/// Whether a party has signed a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartyState {
    /// Not yet.
    Missing,
    /// With this certificate, at this instant as it claims.
    Signed {
        /// Its certificate.
        certificate: SignerCertificate,
        /// When.
        at: Millis,
    },
    /// The signature is not good.
    Wrong(&'static str),
}

/// What each party of a document has done so far, in the document's order. A certificate that the document does not name is a
/// wrong one; where it names none, any is shown.
#[must_use]
pub fn party_states(document: &ProjectDocument, signed: &SignedDocument) -> Vec<PartyState> {
    let of_party = |(place, party): (usize, &MailboxAddress)| {
        let Some(Some(signature)) = signed.signatures.get(place) else { return PartyState::Missing };
        match signed::verify(&signed.document, signature) {
            Err(error) => PartyState::Wrong(error.rule()),
            Ok(found) => match document.certificates.get(party) {
                Some(named) if *named != found.signer.fingerprint => {
                    PartyState::Wrong("it is by another certificate than the document names")
                }
                _ => PartyState::Signed { certificate: found.signer, at: found.signed_at },
            },
        }
    };
    document.parties().into_iter().enumerate().map(of_party).collect()
}

/// Whether a document may follow another as the next version of the same project.
///
/// # Errors
/// The rule that it breaks.
pub fn check_amendment(old: &ProjectDocument, new: &ProjectDocument) -> Result<(), &'static str> {
    let rules = [
        (old.name == new.name, "an amendment keeps the name"),
        (new.version == old.version.saturating_add(1), "an amendment's version is one more"),
        (old.family == new.family, "an amendment keeps the family, or tokens would change"),
        (old.recipient == new.recipient, "another recipient is another project"),
    ];
    rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, rule)| Err(rule))
}

impl Dossier {
    /// Verifies everything.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn verify(&self, name: &str, officers: &[SignerCertificate]) -> Result<Agreement, Fault> {
        let mut agreement = Agreement {
            register: Register::default(),
            documents: BTreeMap::new(),
            decisions: Vec::new(),
            head: None,
            trial: false,
        };
        if self.entries.len() > ENTRIES_MAX {
            return Err(Fault { place: "register".to_owned(), rule: "it has over 10,000 entries" });
        }
        for signed in &self.entries {
            let place = format!("entry {}", agreement.decisions.len() + 1);
            agreement.add(self, name, officers, signed).map_err(|rule| Fault { place, rule })?;
        }
        Ok(agreement)
    }

    /// The SHA-256 of what each party has signed with, for an entry that activates this version.
    ///
    /// # Errors
    /// A [`Fault`] that names the first party, by its place, without a good signature.
    pub fn signatures_of(&self, version: u32, document: &ProjectDocument) -> Result<Vec<PartySignature>, Fault> {
        let none = SignedDocument::default();
        let signed = self.documents.get(&version).unwrap_or(&none);
        let states = party_states(document, signed);
        let summary = |(place, state): (usize, &PartyState)| {
            let fault = |rule: &'static str| Fault { place: format!("signature {}", place + 1), rule };
            match (state, signed.signatures.get(place)) {
                (PartyState::Signed { certificate, .. }, Some(Some(signature))) => {
                    Ok(PartySignature { certificate: certificate.fingerprint, signature: sha256(signature) })
                }
                (PartyState::Wrong(rule), _) => Err(fault(rule)),
                _ => Err(fault("this party has not signed")),
            }
        };
        states.iter().enumerate().map(summary).collect()
    }
}

impl Agreement {
    fn add(
        &mut self,
        dossier: &Dossier,
        name: &str,
        officers: &[SignerCertificate],
        signed: &SignedEntry,
    ) -> Result<(), &'static str> {
        let entry = Entry::parse(&signed.text).map_err(|error| error.rule())?;
        let found = signed::verify(&signed.text, &signed.signature).map_err(|error| error.rule())?;
        let rules = [
            (officers.contains(&found.signer), "it is not signed by an officer of this installation"),
            (entry.project == name, "it is of another project"),
            (usize::try_from(entry.sequence) == Ok(self.decisions.len() + 1), "its number is not the next"),
            (entry.previous == self.head, "it does not follow the entry before it"),
        ];
        if let Some((_, rule)) = rules.into_iter().find(|(holds, _)| !holds) {
            return Err(rule);
        }
        self.register.apply(&entry)?;
        if let Deed::Activate { version, document, trial, signatures, .. } = &entry.deed {
            let read = activated(dossier, *version, *document, *trial, signatures, found.signed_at)?;
            self.check_version(name, *version, &read)?;
            self.documents.insert(*version, read);
            self.trial |= trial;
        }
        self.head = Some(sha256(&signed.text));
        self.decisions.push(Decided { entry, at: found.signed_at, officer: found.signer.fingerprint });
        Ok(())
    }

    fn check_version(&self, name: &str, version: u32, document: &ProjectDocument) -> Result<(), &'static str> {
        if document.name != name || document.version != version {
            return Err("the document has another name or version");
        }
        match self.documents.last_key_value() {
            Some((_, before)) => check_amendment(before, document),
            None => Ok(()),
        }
    }

    /// The entry that a deed would be, for an officer to sign.
    #[must_use]
    pub fn next(&self, project: &str, deed: Deed, effective: NaiveDate) -> Entry {
        let sequence = u32::try_from(self.decisions.len()).unwrap_or(u32::MAX).saturating_add(1);
        Entry { form: 1, project: project.to_owned(), sequence, previous: self.head, effective, deed }
    }
}

/// The document of an activation, if it is the one that every party signed.
fn activated(
    dossier: &Dossier,
    version: u32,
    digest: Sha256,
    trial: bool,
    signatures: &[PartySignature],
    at: Millis,
) -> Result<ProjectDocument, &'static str> {
    let signed = dossier.documents.get(&version).ok_or("its document is missing")?;
    if signed.document.len() > DOCUMENT_MAX || sha256(&signed.document) != digest {
        return Err("the document is not the one that was activated");
    }
    let text = std::str::from_utf8(&signed.document).map_err(|_| "the document is not UTF-8")?;
    let document = ProjectDocument::parse(text).map_err(|error| error.rule())?;
    if document.certificates.is_empty() && !trial {
        return Err("the document names no certificates: whose signatures count is not agreed");
    }
    let found = dossier.signatures_of(version, &document).map_err(|fault| fault.rule)?;
    if found != signatures {
        return Err("the parties' signatures are not those that were countersigned");
    }
    let states = party_states(&document, signed);
    let valid =
        |state: &PartyState| matches!(state, PartyState::Signed { certificate, .. } if certificate.is_valid_at(at));
    if !states.iter().all(valid) {
        return Err("a party's certificate was not valid when the officer signed");
    }
    Ok(document)
}

#[cfg(test)]
#[path = "agreement_tests.rs"]
mod tests;
