//! The register of TTP projects in the data folder: the papers as files ([`papers`]), verified whenever they changed, and the
//! book from which the worker takes what holds.
//!
//! Invariants: nothing enters the book that was not verified from the first entry on (I8); what is wrong with one project bars
//! that one, with its reason, and no other. A decision is verified together with everything before it, then written, then
//! taken into the book.
//! Failure behaviour: a decision that is refused leaves nothing; one that was cut off by a crash is there or not. A destroyed
//! project's key root that a crash left in the key file is removed when the register is read again.

pub mod papers;
mod views;

use crate::failed::Failed;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use schemas::messages::Reason;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use zegel_core::Clock;
use zegel_crypto::hpke::OpenKey;
use zegel_crypto::secret::ProjectRoot;
use zegel_crypto::signed::{self, SignerCertificate};
use zegel_crypto::{Keyring, Secret32};
use zegel_ttp::project::agreement::{Agreement, Dossier, Fault, SignedDocument, SignedEntry};
use zegel_ttp::project::book::{self, Lawful, Listed, ProjectBook};
use zegel_ttp::project::desk::{Desk, DeskError, Details, Filing, Overview};
use zegel_ttp::project::entry::{Deed, Entry};
use zegel_ttp::project::register::{Period, Standing};
use zegel_ttp::project::{ProjectDocument, is_name};

/// Most projects of one installation: far above what a committee allows in a decade, low enough to be read at start.
const PROJECTS_MAX: usize = 10_000;
/// The file with the officers' certificates.
pub const OFFICERS: &str = "officers.pem";
/// Held while a decision is written, by one process at a time.
const LOCK: &str = ".lock";

/// See the module's header.
pub struct FileRegister {
    folder: PathBuf,
    keys: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    book: Arc<ProjectBook>,
    /// Private keys of decode roles that this process has.
    decode_keys: Vec<Arc<OpenKey>>,
    /// What the folder looked like when it was last read; held while it is read or written.
    seen: Mutex<Option<Vec<papers::Mark>>>,
}

/// A project in force, with its keys.
pub struct Held {
    /// The version in force.
    version: u32,
    /// Every version that was activated.
    pub documents: BTreeMap<u32, ProjectDocument>,
    /// Its key root.
    pub root: ProjectRoot,
    /// Generation of its keys.
    pub epoch: u32,
    /// Who decides in this installation.
    pub officers: Vec<SignerCertificate>,
}

impl Held {
    /// The document in force.
    pub fn document(&self) -> &ProjectDocument {
        &self.documents[&self.version]
    }
}

/// One project's papers, read and judged.
pub(crate) struct Case {
    name: String,
    dossier: Dossier,
    judged: Result<(Agreement, Option<ProjectRoot>), (Reason, String)>,
}

impl FileRegister {
    /// A register over the folder of projects; nothing is read yet.
    pub fn new(folder: PathBuf, keys: Arc<Keyring>, clock: Arc<dyn Clock>) -> FileRegister {
        FileRegister { folder, keys, clock, book: Arc::default(), decode_keys: Vec::new(), seen: Mutex::new(None) }
    }

    /// The same in a process that has these private keys of decode roles.
    pub fn with_decode_keys(self, decode_keys: Vec<Arc<OpenKey>>) -> FileRegister {
        FileRegister { decode_keys, ..self }
    }

    /// What the worker reads.
    pub fn book(&self) -> Arc<ProjectBook> {
        self.book.clone()
    }

    /// Reads and verifies everything again if anything has changed; whether it had.
    ///
    /// # Errors
    /// When the folder cannot be read; the book is as it was.
    pub fn refresh(&self) -> Result<bool, Failed> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = papers::look(&self.folder)?;
        if seen.as_ref() == Some(&now) {
            return Ok(false);
        }
        self.read_all()?;
        *seen = Some(now);
        Ok(true)
    }

    fn read_all(&self) -> Result<(), Failed> {
        // Another process of this installation may have made or destroyed a root.
        self.keys.refresh().map_err(|error| Failed::Failure(error.to_string()))?;
        let mut table = HashMap::new();
        for case in self.cases()? {
            let listed = match &case.judged {
                Ok((agreement, root)) => {
                    self.finish_destruction(&case.name, agreement);
                    let seals = self.seals_root(&case.name, agreement)?;
                    match Lawful::new(agreement, root.as_ref().map(ProjectRoot::expose), seals, &self.decode_keys) {
                        Ok(lawful) => Listed::Lawful(Arc::new(lawful)),
                        Err(_) => barred(book::altered(), &case.dossier),
                    }
                }
                Err((reason, why)) => {
                    tracing::warn!(project = case.name, code = reason.code, why, "project is barred");
                    barred(reason.clone(), &case.dossier)
                }
            };
            table.insert(case.name, listed);
        }
        self.book.replace(table);
        Ok(())
    }

    /// The root of a project's synchronous service: not the root of its tokens, and made with its first document that has one.
    fn seals_root(&self, name: &str, agreement: &Agreement) -> Result<Option<Secret32>, Failed> {
        let has_service = agreement.documents.values().any(|document| document.seals.is_some());
        if !has_service || agreement.register.is_destroyed() {
            return Ok(None);
        }
        let root = self.keys.ensure_project_root(&seals_name(name));
        root.map(|root| Some(root.into_secret())).map_err(|error| Failed::Failure(error.to_string()))
    }

    /// The decision is durable before the key is removed, so a crash between the two is mended here.
    fn finish_destruction(&self, name: &str, agreement: &Agreement) {
        let Some(root_name) = root_name(agreement).filter(|_| agreement.register.is_destroyed()) else { return };
        let held = self.keys.project_root(&root_name).map(|root| root.commitment());
        if held.is_some() && held == agreement.register.root() {
            let dropped = self.keys.drop_project_root(&seals_name(name));
            match dropped.and_then(|_| self.keys.drop_project_root(&root_name)) {
                Ok(_) => tracing::warn!(project = name, "the project's keys were destroyed"),
                Err(error) => tracing::error!(project = name, %error, "the project's keys could not be destroyed"),
            }
        }
    }

    /// Every project, by name.
    pub(crate) fn cases(&self) -> Result<Vec<Case>, Failed> {
        let officers = self.officers();
        let mut names = Vec::new();
        let mut loose = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() && is_name(&stem) {
                names.push(stem);
            } else if path.extension().is_some_and(|ending| ending == "toml" || ending == "json") {
                loose.push(path);
            }
        }
        names.sort();
        if names.len() + loose.len() > PROJECTS_MAX {
            return Err(Failed::Failure(format!("{}: over 10,000 projects", self.folder.display())));
        }
        let mut cases: Vec<Case> = names.into_iter().map(|name| self.case(name, &officers)).collect();
        for path in loose {
            let case = unsigned(&path);
            if cases.iter().all(|known| known.name != case.name) {
                cases.push(case);
            }
        }
        Ok(cases)
    }

    /// What a project holds now, for whoever works with its keys beside the platform.
    ///
    /// # Errors
    /// When its papers or keys do not hold, or it is retired.
    pub fn held(&self, name: &str) -> Result<Held, Failed> {
        let refused = |reason: &Reason, why: &str| Failed::refused(&reason.code, format!("{}: {why}", reason.text));
        let officers = self.officers().map_err(|why| refused(&book::inactive(), &why))?;
        let case = self.find(name).map_err(|error| Failed::refused("ZGL-NOT-FOUND", error.to_string()))?;
        let (agreement, root) = case.judged.map_err(|(reason, why)| refused(&reason, &why))?;
        let root = root.ok_or_else(|| refused(&book::without_keys(), "they were destroyed"))?;
        match agreement.register.standing(book::day_of(self.clock.now())) {
            Standing::InForce(period) => {
                let (documents, Period { version, epoch, .. }) = (agreement.documents, period);
                match documents.contains_key(&version) {
                    true => Ok(Held { version, documents, root, epoch, officers }),
                    false => Err(refused(&book::altered(), "its document is missing")),
                }
            }
            _ => Err(Failed::refused("ZGL-TTP-INACTIVE", "the project is not in force today")),
        }
    }

    fn officers(&self) -> Result<Vec<SignerCertificate>, String> {
        let path = self.folder.join(OFFICERS);
        let pem = fs::read_to_string(&path).map_err(|_| format!("{OFFICERS} is missing: nobody can countersign"))?;
        signed::certificates(&pem).map_err(|error| format!("{OFFICERS}: {error}"))
    }

    fn case(&self, name: String, officers: &Result<Vec<SignerCertificate>, String>) -> Case {
        let (dossier, judged) = match papers::read_dossier(&self.folder.join(&name)) {
            Err(error) => (Dossier::default(), Err((book::altered(), error.kind().to_string()))),
            Ok(dossier) => {
                let judged = self.judge(&name, &dossier, officers);
                (dossier, judged)
            }
        };
        Case { name, dossier, judged }
    }

    fn judge(
        &self,
        name: &str,
        dossier: &Dossier,
        officers: &Result<Vec<SignerCertificate>, String>,
    ) -> Result<(Agreement, Option<ProjectRoot>), (Reason, String)> {
        let officers = officers.as_ref().map_err(|why| (book::inactive(), why.clone()))?;
        let agreement = dossier.verify(name, officers).map_err(|fault| (book::altered(), fault.to_string()))?;
        let Some(root_name) = root_name(&agreement) else {
            return Err((book::inactive(), "no version was activated".to_owned()));
        };
        if agreement.register.is_destroyed() {
            return Ok((agreement, None));
        }
        let root = self.keys.project_root(&root_name);
        if root.as_ref().map(ProjectRoot::commitment) != agreement.register.root() {
            return Err((book::without_keys(), "the key file holds another key root, or none".to_owned()));
        }
        Ok((agreement, root))
    }

    fn find(&self, name: &str) -> Result<Case, DeskError> {
        if !is_name(name) || !self.folder.join(name).is_dir() {
            let loose = self.cases().map_err(failed)?.into_iter().find(|case| case.name == name);
            return loose.ok_or(DeskError::Unknown);
        }
        Ok(self.case(name.to_owned(), &self.officers()))
    }

    /// Whether another project that lives still makes its tokens with this root.
    fn is_shared(&self, name: &str, root_name: &str) -> Result<bool, DeskError> {
        let lives = |case: &Case| match &case.judged {
            Ok((agreement, _)) => {
                self::root_name(agreement).as_deref() == Some(root_name) && !agreement.register.is_destroyed()
            }
            // What cannot be read may be one.
            Err((reason, _)) => reason.code != "ZGL-TTP-INACTIVE",
        };
        Ok(self.cases().map_err(failed)?.iter().any(|case| case.name != name && lives(case)))
    }

    /// Checks a filing against everything that is there; what is to be written.
    fn admit(&self, filing: &Filing) -> Result<(Entry, Dossier, Agreement), DeskError> {
        let entry = Entry::parse(filing.entry.as_bytes()).map_err(|error| refused("entry", error.rule()))?;
        if !is_name(&entry.project) {
            return Err(refused("entry", "project is 1 to 64 lower-case letters, digits and hyphens"));
        }
        let officers = self.officers().map_err(|_| refused(OFFICERS, "no officer's certificate can be read there"))?;
        let mut dossier = papers::read_dossier(&self.folder.join(&entry.project)).map_err(failed)?;
        if let (Deed::Activate { version, .. }, Some(document)) = (&entry.deed, &filing.document) {
            let decode = |text: &String| decode(text, "signatures").map(Some);
            let signatures = filing.signatures.iter().map(decode).collect::<Result<_, _>>()?;
            let signed = SignedDocument { document: document.clone().into_bytes(), signatures };
            dossier.documents.insert(*version, signed);
        }
        let signature = decode(&filing.countersignature, "countersignature")?;
        dossier.entries.push(SignedEntry { text: filing.entry.clone().into_bytes(), signature });
        let agreement = dossier.verify(&entry.project, &officers).map_err(fault)?;
        let Some(root_name) = root_name(&agreement) else {
            return Err(refused("entry", "nothing was activated"));
        };
        let held = self.keys.project_root(&root_name).map(|root| root.commitment());
        if held != agreement.register.root() {
            return Err(refused("entry", "it names another key root than this installation holds"));
        }
        if matches!(entry.deed, Deed::DestroyKeys { .. }) && self.is_shared(&entry.project, &root_name)? {
            return Err(refused("entry", "another project of the family makes its tokens with these keys"));
        }
        Ok((entry, dossier, agreement))
    }

    fn keep(&self, entry: &Entry, dossier: &Dossier) -> Result<(), Failed> {
        let folder = self.folder.join(&entry.project);
        if let Deed::Activate { version, .. } = &entry.deed
            && let Some(signed) = dossier.documents.get(version)
        {
            papers::write_document(&folder, *version, signed)?;
        }
        match dossier.entries.last() {
            Some(last) => papers::write_entry(&folder, dossier.entries.len(), last),
            None => Ok(()),
        }
    }
}

impl Desk for FileRegister {
    fn list(&self) -> Result<Vec<Overview>, DeskError> {
        // What is said here is what the worker goes by.
        self.refresh().map_err(failed)?;
        let now = self.clock.now();
        let mut all: Vec<Overview> =
            self.cases().map_err(failed)?.iter().map(|case| views::overview(case, now)).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    fn show(&self, name: &str) -> Result<Details, DeskError> {
        self.refresh().map_err(failed)?;
        Ok(views::details(&self.find(name)?, self.clock.now()))
    }

    fn root(&self, root_name: &str) -> Result<schemas::Sha256, DeskError> {
        if !is_name(root_name.strip_prefix("family:").unwrap_or(root_name)) {
            return Err(refused("root", "a name is 1 to 64 lower-case letters, digits and hyphens"));
        }
        self.keys.ensure_project_root(root_name).map(|root| root.commitment()).map_err(failed)
    }

    fn file(&self, filing: &Filing) -> Result<Overview, DeskError> {
        let name = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let _others_wait = lock(&self.folder.join(LOCK))?;
            let (entry, dossier, _) = self.admit(filing)?;
            self.keep(&entry, &dossier).map_err(failed)?;
            self.read_all().map_err(failed)?;
            *seen = papers::look(&self.folder).ok();
            entry.project
        };
        Ok(views::overview(&self.find(&name)?, self.clock.now()))
    }
}

/// A project that refuses everything, with what can be read of its documents.
fn barred(reason: Reason, dossier: &Dossier) -> Listed {
    let read = |signed: &SignedDocument| ProjectDocument::parse(&String::from_utf8_lossy(&signed.document)).ok();
    Listed::Barred(book::Barred { reason, documents: dossier.documents.values().filter_map(read).collect() })
}

/// The name of the root of a project's synchronous service. It has a colon, which no project's name can have.
fn seals_name(project: &str) -> String {
    format!("seals:{project}")
}

/// The name of the key root of the documents; the same for all versions, or the register would not verify.
fn root_name(agreement: &Agreement) -> Option<String> {
    agreement.documents.values().next_back().map(ProjectDocument::root_name)
}

/// A document that lies in the folder by itself: nobody has signed it.
fn unsigned(path: &Path) -> Case {
    let text = papers::read(path, zegel_ttp::project::agreement::DOCUMENT_MAX).ok().flatten().unwrap_or_default();
    let read = ProjectDocument::parse(&String::from_utf8_lossy(&text));
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let (name, why) = match read {
        Ok(document) => (document.name, "it is not signed: see zegel project activate --help".to_owned()),
        Err(error) => (stem, error.to_string()),
    };
    let mut dossier = Dossier::default();
    dossier.documents.insert(1, SignedDocument { document: text, signatures: Vec::new() });
    Case { name, dossier, judged: Err((book::inactive(), why)) }
}

fn decode(text: &str, place: &str) -> Result<Vec<u8>, DeskError> {
    BASE64_STANDARD.decode(text).map_err(|_| refused(place, "must be base64"))
}

fn lock(path: &Path) -> Result<fs::File, DeskError> {
    let file = fs::OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

fn refused(place: &str, rule: &'static str) -> DeskError {
    DeskError::Refused { place: place.to_owned(), rule: rule.into() }
}

fn fault(fault: Fault) -> DeskError {
    refused(&fault.place, fault.rule)
}

fn failed(error: impl std::fmt::Display) -> DeskError {
    DeskError::Failed(error.to_string())
}
