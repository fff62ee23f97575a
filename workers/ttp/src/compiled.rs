//! A checked project document made ready to work: periods as instants, paths as a tree, actions with their keys' scopes.
//!
//! Invariant: a compiled project decides by itself who may send and when; it prints neither its root nor its senders.

use crate::coarse::Buckets;
use crate::fields::DAYS_DEFAULT;
use crate::paths::Patterns;
use crate::project::exchange::{Release, Returns};
use crate::project::terms::Seals;
use crate::project::{
    ActionName, BadRows, Coarseness, FieldDocument, FormatName, ProjectDocument, ProjectError, Rows, SmallCells,
    TextDocument, Unlisted, ValueKind,
};
use crate::references::{Ids, References, Texts, keeps_systems};
use crate::refusal::{ROWS_NAMED, refusal};
use crate::values::{Cell, Work};
use chrono::NaiveDate;
use schemas::messages::Reason;
use schemas::{MailboxAddress, MessageId, Millis, Sha256};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use zegel_crypto::Secret32;
use zegel_crypto::envelope::SealedFor;
use zegel_crypto::hpke::{OpenKey, SealKey};
use zegel_crypto::pseudonym::escrow::Opener;
use zegel_crypto::pseudonym::{Draw, EncodeKeys, Needed, OneWay, PseudonymRoot, RowNumbers, Scope};

/// The first generation of keys; a rotation raises it, and tokens carry it.
const FIRST_EPOCH: u32 = 1;

/// A project that batches can be transformed for.
pub struct CompiledProject {
    name: String,
    senders: HashSet<MailboxAddress>,
    recipient: MailboxAddress,
    opens: Millis,
    closes: Millis,
    pub(crate) unlisted: Unlisted,
    pub(crate) rows: Rows,
    pub(crate) bad_rows: BadRows,
    pub(crate) format: Option<FormatName>,
    pub(crate) text: TextDocument,
    /// In XML: the element that is one row, from the top.
    pub(crate) record: Vec<String>,
    /// How many bad rows a report names.
    pub(crate) rows_named: usize,
    pub(crate) fields: Vec<FieldDocument>,
    /// What the recipient may add to what comes back: kept as it is.
    pub(crate) added: Vec<FieldDocument>,
    returns: Option<Returns>,
    release: Option<Release>,
    version: u32,
    /// Fields that say who a row is about, the one that counts first in front.
    pub(crate) patient: Vec<usize>,
    /// Fields that hold the patient's names.
    pub(crate) names: Vec<usize>,
    pub(crate) small_cells: Option<Cells>,
    pub(crate) patterns: Patterns,
    /// The same, with the columns' new names: for what comes back.
    pub(crate) patterns_back: Patterns,
    /// Whose signature each sender's batches carry; none where batches come unsigned.
    signers: Option<BTreeMap<MailboxAddress, Sha256>>,
    root: PseudonymRoot,
    /// Where this process encodes only: all the keys that it has; the root is then one that nobody has.
    encode_only: Option<EncodeKeys>,
    /// Whom a part of each batch is sealed for.
    split: Option<SealedFor>,
    /// Whom escrowed values are sealed for.
    seal_key: Option<SealKey>,
    /// The decode role's private key, where it is here.
    open_key: Option<Arc<OpenKey>>,
    /// Where this process has that key and no other.
    decodes_only: bool,
    epoch: u32,
    identifiers_per_day: u64,
    seals: Option<Seals>,
}

impl fmt::Debug for CompiledProject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledProject").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Small cells, with fields by their numbers.
#[derive(Debug)]
pub(crate) struct Cells {
    pub(crate) quasi: Vec<usize>,
    pub(crate) k: usize,
    pub(crate) sensitive: Option<usize>,
    pub(crate) l: usize,
}

impl CompiledProject {
    /// Makes a document ready. `root` is the key root that is kept under [`ProjectDocument::root_name`].
    ///
    /// # Errors
    /// [`ProjectError`] when a day is outside what the calendar can count.
    pub fn new(document: ProjectDocument, root: &[u8; 32]) -> Result<CompiledProject, ProjectError> {
        CompiledProject::with_epoch(document, root, FIRST_EPOCH)
    }

    /// Makes a document ready with the keys of this generation, from 1.
    ///
    /// # Errors
    /// As [`CompiledProject::new`].
    pub fn with_epoch(document: ProjectDocument, root: &[u8; 32], epoch: u32) -> Result<CompiledProject, ProjectError> {
        let closes = document.valid.until.succ_opt().ok_or(ProjectError::Rule("valid.until is too late"))?;
        let places: HashMap<&str, usize> =
            document.fields.iter().enumerate().map(|(place, field)| (field.path.as_str(), place)).collect();
        let of = |paths: &[String]| paths.iter().filter_map(|path| places.get(path.as_str()).copied()).collect();
        let cells = |cells: &SmallCells| Cells {
            quasi: of(&cells.quasi),
            k: cells.k as usize,
            sensitive: cells.sensitive.as_ref().and_then(|path| places.get(path.as_str()).copied()),
            l: cells.l.unwrap_or(1) as usize,
        };
        let (patient, names) = (of(&document.patient), of(&document.names));
        let small_cells = document.small_cells.as_ref().map(cells);
        let is_literal = !document.format.is_some_and(FormatName::is_tree);
        let returns = document.return_terms();
        let added: Vec<_> =
            returns.iter().flat_map(|returns| &returns.fields).map(|path| FieldDocument::kept(path)).collect();
        Ok(CompiledProject {
            name: document.name,
            senders: document.senders.into_iter().collect(),
            recipient: document.recipient,
            opens: start_of(document.valid.from),
            closes: start_of(closes),
            unlisted: document.unlisted,
            rows: document.rows,
            bad_rows: document.bad_rows,
            format: document.format,
            text: document.text,
            record: record_path(document.format, document.record.as_deref()),
            patient,
            names,
            small_cells,
            patterns: Patterns::new(
                document.fields.iter().map(|field| (field.path.as_str(), field.action)),
                is_literal,
            ),
            patterns_back: Patterns::new(
                document.fields.iter().chain(&added).map(|field| (field.output_name(), field.action)),
                is_literal,
            ),
            rows_named: ROWS_NAMED,
            fields: document.fields,
            signers: document.signed.then_some(document.certificates),
            added,
            returns,
            release: document.release,
            version: document.version,
            root: PseudonymRoot::new(root),
            encode_only: None,
            // As below: what cannot be read does not pass the document's check.
            split: document.split.as_ref().and_then(|split| SealedFor::from_pem(&split.sealed_for).ok()),
            // A document whose key cannot be read does not pass its check.
            seal_key: document.decode_key.as_deref().and_then(|pem| SealKey::from_pem(pem).ok()),
            open_key: None,
            decodes_only: false,
            epoch,
            identifiers_per_day: document.quota.identifiers_per_day,
            seals: document.seals,
        })
    }

    /// Makes a document ready for a process that encodes for one sender and has no key that decodes.
    ///
    /// # Errors
    /// As [`CompiledProject::new`]; [`ProjectError::Field`] for a field that these keys are not enough for.
    pub fn encode_only(
        document: ProjectDocument,
        keys: EncodeKeys,
        sender: &MailboxAddress,
    ) -> Result<CompiledProject, ProjectError> {
        if document.split.is_some() {
            return Err(ProjectError::Rule("the sealed part of a split batch goes through the platform"));
        }
        if document.small_cells.is_some() {
            return Err(ProjectError::Rule(
                "small cells need what earlier batches showed, which only the platform has",
            ));
        }
        let lacks = |path: &str, rule| ProjectError::Field { path: path.to_owned(), rule };
        let (recipient, sender) = (document.recipient.to_string(), sender.to_string());
        let seal_key = document.decode_key.as_deref().and_then(|pem| SealKey::from_pem(pem).ok());
        for (field, Needed { domain, sender, is_escrow }) in one_way_keys(&document, &sender)? {
            let scope = Scope { recipient: &recipient, domain, epoch: keys.epoch(), sender };
            let has_escrow = || seal_key.is_some_and(|seal_key| keys.escrow(&scope, seal_key).is_some());
            if keys.one_way(&scope).is_none() || is_escrow && !has_escrow() {
                return Err(lacks(&field.path, "its key is not among those of this process"));
            }
        }
        let nobodys = Secret32::random();
        let epoch = keys.epoch();
        let project = CompiledProject::with_epoch(document, nobodys.expose(), epoch)?;
        Ok(CompiledProject { encode_only: Some(keys), ..project })
    }

    /// The same with whichever of these private keys is the decode role's.
    #[must_use]
    pub fn opened_by(self, keys: &[Arc<OpenKey>]) -> CompiledProject {
        let open_key = keys.iter().find(|key| self.seal_key == Some(*key.public())).cloned();
        CompiledProject { open_key, ..self }
    }

    /// Makes a document ready for the decode role, which opens escrowed values and has no other key of the project: everything else
    /// that was delivered stays as it is.
    ///
    /// # Errors
    /// As [`CompiledProject::new`]; [`ProjectError::Rule`] when the key is not the one that the document names.
    pub fn decode_only(document: ProjectDocument, key: Arc<OpenKey>) -> Result<CompiledProject, ProjectError> {
        let nobodys = Secret32::random();
        let project = CompiledProject::new(document, nobodys.expose())?.opened_by(&[key]);
        if project.open_key.is_none() {
            return Err(ProjectError::Rule("the key is not the one that values are sealed for"));
        }
        Ok(CompiledProject { decodes_only: true, ..project })
    }

    /// Whether what was delivered can be undone here as far as anybody can undo it.
    #[must_use]
    pub fn can_decode(&self) -> bool {
        self.seal_key.is_none() || self.open_key.is_some()
    }

    /// Has reports name so many bad rows instead of 100; a batch of which more are bad is counted to its end all the same.
    pub fn name_rows(&mut self, most: usize) {
        self.rows_named = most;
    }

    /// The project's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who gets the result.
    #[must_use]
    pub fn recipient(&self) -> &MailboxAddress {
        &self.recipient
    }

    /// How many may send.
    #[must_use]
    pub fn senders(&self) -> usize {
        self.senders.len()
    }

    /// Distinct national numbers that one sender may have encoded in a day.
    #[must_use]
    pub fn identifiers_per_day(&self) -> u64 {
        self.identifiers_per_day
    }

    /// The terms of the synchronous service, where it has one.
    #[must_use]
    pub fn seals(&self) -> Option<&Seals> {
        self.seals.as_ref()
    }

    /// Whom a part of each batch is sealed for, where batches are split.
    pub(crate) fn split(&self) -> Option<&SealedFor> {
        self.split.as_ref()
    }

    /// The certificate with which this sender's batches are signed: the outer none where they come unsigned, the inner one where the
    /// document names no certificate of the sender.
    pub(crate) fn signer(&self, sender: &MailboxAddress) -> Option<Option<Sha256>> {
        self.signers.as_ref().map(|signers| signers.get(sender).copied())
    }

    /// What may come back; none where nothing may.
    #[must_use]
    pub fn returns(&self) -> Option<&Returns> {
        self.returns.as_ref()
    }

    /// When its batches are handed over; none: at once.
    #[must_use]
    pub fn release(&self) -> Option<Release> {
        self.release
    }

    /// Which of the project's documents this is.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// A field by its number: of the document, or behind them one that the recipient may add.
    pub(crate) fn field(&self, number: usize) -> &FieldDocument {
        let added = || &self.added[number - self.fields.len()];
        self.fields.get(number).unwrap_or_else(added)
    }

    /// The row numbers of one exchange.
    pub(crate) fn row_numbers(&self, handle: MessageId) -> RowNumbers {
        self.root.row_numbers(&self.recipient.to_string(), self.epoch, &handle.0)
    }

    /// Generation of its keys.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether the instant lies in the document's period.
    #[must_use]
    pub fn is_open(&self, now: Millis) -> bool {
        self.opens <= now && now < self.closes
    }

    /// Whether this sender may send now. Who it is comes first: a stranger learns nothing of the project's days.
    ///
    /// # Errors
    /// The reason why not.
    pub fn admit(&self, sender: &MailboxAddress, now: Millis) -> Result<(), Reason> {
        if !self.senders.contains(sender) {
            return Err(refusal("ZGL-TTP-SENDER", "the sender does not belong to the project"));
        }
        if now < self.opens {
            return Err(refusal("ZGL-TTP-EARLY", "the project is not valid yet"));
        }
        if now >= self.closes {
            return Err(refusal("ZGL-TTP-EXPIRED", "the project has expired"));
        }
        Ok(())
    }

    /// Whether this address may send, or return where returns are, as far as the document says.
    #[must_use]
    pub fn knows(&self, sender: &MailboxAddress, is_return: bool) -> bool {
        if is_return { *sender == self.recipient && self.returns.is_some() } else { self.senders.contains(sender) }
    }

    /// One cell per field, in the fields' order, with the keys for this sender.
    pub(crate) fn cells(&self, sender: &MailboxAddress) -> Vec<Cell> {
        let recipient = self.recipient.to_string();
        let sender = sender.to_string();
        self.fields
            .iter()
            .chain(&self.added)
            .map(|field| {
                let scope = Scope {
                    recipient: &recipient,
                    domain: field.domain.as_deref().unwrap_or(field.kind.name()),
                    epoch: self.epoch,
                    sender: match field.action {
                        // Dates move with their patient, whoever issued the patient's number.
                        ActionName::ShiftDates => self.has_own_patients().then_some(sender.as_str()),
                        _ => field.scope.map(|_| sender.as_str()),
                    },
                };
                Cell::new(field, self.work(field, &scope))
            })
            .collect()
    }

    fn work(&self, field: &FieldDocument, scope: &Scope<'_>) -> Work {
        match field.action {
            ActionName::Escrow => self.escrow(scope),
            _ if self.decodes_only => Work::Keep,
            ActionName::Drop => Work::Drop,
            ActionName::Keep => match &field.sealed_for {
                // A document whose certificate cannot be read does not pass its check.
                Some(pem) => SealedFor::from_pem(pem).map_or(Work::Drop, |recipient| Work::Sealed(Box::new(recipient))),
                None => Work::Keep,
            },
            ActionName::Pseudonym if field.format.is_some() => Work::Ssin(Box::new(self.root.ssin_cipher(scope))),
            ActionName::Pseudonym | ActionName::OneWay => self.linking(field, scope),
            ActionName::Random => Work::Random(Box::new(self.root.randomised(scope))),
            ActionName::Replace => Work::Replace(field.with.clone().unwrap_or_default()),
            ActionName::ScrubText => Work::Scrub,
            ActionName::ShiftDates => Work::Shift {
                draw: Box::new(self.patient_draw("dates", scope.sender)),
                days: field.days.unwrap_or(DAYS_DEFAULT),
            },
            ActionName::Bucket => match (&field.edges, field.width) {
                (Some(edges), _) => Work::Bucket(Buckets::Edges(edges.clone())),
                (None, Some(width)) => Work::Bucket(Buckets::Width(width)),
                // A document without either does not pass its check; keeping would be the unsafe way to read it.
                (None, None) => Work::Drop,
            },
            ActionName::Generalise => match field.to {
                Some(Coarseness::Year) => Work::Year,
                Some(Coarseness::Month) => Work::Month,
                Some(Coarseness::Years(years)) => Work::Years(years),
                Some(Coarseness::Digits(digits)) => Work::First(digits),
                Some(Coarseness::Area(area)) => Work::Area(area),
                None => Work::Drop,
            },
        }
    }

    /// None where this process lacks the key; its constructor has seen to it that it does not.
    fn one_way(&self, scope: &Scope<'_>) -> Option<OneWay> {
        match &self.encode_only {
            Some(keys) => keys.one_way(scope),
            None => Some(self.root.one_way(scope)),
        }
    }

    /// None where this process lacks a key; its constructor has seen to it that it does not.
    fn escrow(&self, scope: &Scope<'_>) -> Work {
        let maker = match (&self.open_key, &self.encode_only, self.seal_key) {
            (Some(key), _, _) if self.decodes_only => return Work::Opened(Box::new(Opener::new(key.clone(), scope))),
            (_, Some(keys), Some(seal_key)) => keys.escrow(scope, seal_key),
            (_, None, Some(seal_key)) => Some(self.root.escrow(scope, seal_key)),
            (_, _, None) => None,
        };
        maker.map_or(Work::Drop, |maker| Work::Escrow(Box::new(maker.opened_by(self.open_key.clone()))))
    }

    /// Tokens that are equal for equal values.
    fn linking(&self, field: &FieldDocument, scope: &Scope<'_>) -> Work {
        let is_reversible = field.action == ActionName::Pseudonym;
        let ids = || match is_reversible {
            true => Ids::Reversible(Box::new(self.root.compact(scope))),
            false => Ids::OneWay(Box::new(self.root.one_way(scope))),
        };
        match (field.kind, is_reversible) {
            (ValueKind::FhirId, _) => Work::Id(ids()),
            (ValueKind::FhirReference, _) => Work::Reference(Box::new(References {
                ids: ids(),
                texts: match is_reversible {
                    true => Texts::Reversible(Box::new(self.root.reversible(scope))),
                    false => Texts::OneWay(Box::new(self.root.one_way(scope))),
                },
                hosts: self.root.randomised(scope),
                keeps_systems: keeps_systems(&self.fields),
                known: HashMap::new(),
            })),
            (_, true) => Work::Reversible(Box::new(self.root.reversible(scope))),
            (_, false) => self.one_way(scope).map_or(Work::Drop, |maker| Work::OneWay(Box::new(maker))),
        }
    }

    /// Draws for patients: the same in every generation of the keys, or the intervals between old and new dates, and
    /// what was released before, would be lost with a rotation.
    pub(crate) fn patient_draw(&self, purpose: &str, sender: Option<&str>) -> Draw {
        let recipient = self.recipient.to_string();
        self.root.draw(&Scope { recipient: &recipient, domain: "patient", epoch: 0, sender }, purpose)
    }

    /// Whether the patients' numbers are the senders' own.
    pub(crate) fn has_own_patients(&self) -> bool {
        self.patient.iter().any(|field| self.fields[*field].scope.is_some())
    }

    /// Whether the field's values can never need quotes in CSV: everything but kept text and prefixes.
    pub(crate) fn is_plain(field: &FieldDocument) -> bool {
        let is_free = matches!(field.action, ActionName::Keep | ActionName::ScrubText) && field.kind == ValueKind::Text;
        field.prefix.is_none() && !is_free && field.action != ActionName::Replace
    }
}

/// The keys that an encode-only process needs for batches of this sender, field by field.
///
/// # Errors
/// [`ProjectError::Field`] for a field whose action needs more than such keys.
pub fn one_way_keys<'d>(
    document: &'d ProjectDocument,
    sender: &'d str,
) -> Result<Vec<(&'d FieldDocument, Needed<'d>)>, ProjectError> {
    let mut needed = Vec::new();
    for field in &document.fields {
        let is_id = matches!(field.kind, ValueKind::FhirId | ValueKind::FhirReference);
        match field.action {
            ActionName::Pseudonym | ActionName::Random | ActionName::ShiftDates => {
                let rule = "pseudonym, random and shift-dates need keys that decode, or draw for patients";
                return Err(ProjectError::Field { path: field.path.clone(), rule });
            }
            ActionName::OneWay if is_id => {
                let rule = "ids and references need the platform";
                return Err(ProjectError::Field { path: field.path.clone(), rule });
            }
            ActionName::OneWay | ActionName::Escrow => {
                let domain = field.domain.as_deref().unwrap_or(field.kind.name());
                let is_escrow = field.action == ActionName::Escrow;
                needed.push((field, Needed { domain, sender: field.scope.map(|_| sender), is_escrow }));
            }
            _ => {}
        }
    }
    Ok(needed)
}

fn start_of(day: NaiveDate) -> Millis {
    Millis(day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis())
}

fn record_path(format: Option<FormatName>, record: Option<&str>) -> Vec<String> {
    let path = if format == Some(FormatName::Kmehr) { "kmehrmessage.folder" } else { record.unwrap_or_default() };
    path.split('.').map(str::to_owned).collect()
}
