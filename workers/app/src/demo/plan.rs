//! What the demo will do: who takes part, which batches go which way, and what everybody should get.

use super::ground::Ground;
use super::people::{People, Person};
use crate::cli::Demo;
use crate::failed::{Failed, at};
use crate::submit;
use schemas::{Cbe, MailboxAddress, Nihii, Sha256};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use zegel_crypto::hash::sha256;
use zegel_ttp::ProjectDocument;

/// The demo's own project, with places for name, senders and recipient.
const PROJECT: &str = include_str!("lab-registry.toml");
/// Patients of each hospital, and how many of the first hospital's the second one has too.
const PATIENTS: usize = 900;
const SHARED: usize = 120;
/// Patients of the bad batch: enough for its bad rows to lie among good ones.
const BAD_PATIENTS: usize = 30;
/// Prescriptions of each of the two hospitals: 1,000 in all.
const PRESCRIPTIONS: u64 = 500;
/// Persons whom the registry tells something about.
const FOLLOWED: usize = 60;
/// Letters from the first hospital to the second.
pub const LETTERS: usize = 5;

/// How a batch is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// One call.
    Http,
    /// Put into the hospital's drop folder.
    DropFolder,
}

/// One batch for a project.
pub struct Batch {
    /// Its project, in [`Plan::projects`].
    pub project: usize,
    /// Who sends it.
    pub sender: MailboxAddress,
    /// Where it lies.
    pub file: PathBuf,
    /// How it is handed over.
    pub route: Route,
    /// Whether the scenario itself says what the answer is: true for positive; none for a given batch.
    pub expected: Option<bool>,
}

/// One prescription's hash.
pub struct Prescription {
    /// Its number in its hospital.
    pub reference: u64,
    /// What is stamped.
    pub hash: Sha256,
}

/// Everything that is going to happen.
pub struct Plan {
    /// The projects' documents.
    pub projects: Vec<ProjectDocument>,
    /// Their texts, to be signed and activated before the day begins.
    pub documents: Vec<String>,
    /// The batches.
    pub batches: Vec<Batch>,
    /// The two hospitals.
    pub hospitals: [MailboxAddress; 2],
    /// Who follows persons.
    pub organisations: Vec<MailboxAddress>,
    /// Who needs a mailbox.
    pub mailboxes: BTreeSet<MailboxAddress>,
    /// Each hospital's prescriptions.
    pub prescriptions: [Vec<Prescription>; 2],
    /// Who is followed, and by which organisations.
    pub followed: Vec<(String, Vec<usize>)>,
    /// The registry's events, in order.
    pub events: Vec<Value>,
    /// The letters' files, in order.
    pub letters: Vec<PathBuf>,
    /// Numbers of every person that was made up: the search looks for them (I4).
    pub identifiers: Vec<String>,
}

/// A project and a batch that the command line names.
struct Given {
    text: String,
    document: ProjectDocument,
    batch: PathBuf,
}

impl Plan {
    /// Checks what the command line says; touches nothing.
    ///
    /// # Errors
    /// [`Failed::Usage`] when projects and batches do not pair, or a document is wrong.
    fn read_given(wanted: &Demo) -> Result<Vec<Given>, Failed> {
        if wanted.project.len() != wanted.batch.len() {
            return Err(Failed::Usage("every --project needs its --batch, and every --batch its --project".to_owned()));
        }
        let mut all: Vec<Given> = Vec::new();
        for (project, batch) in wanted.project.iter().zip(&wanted.batch) {
            let text = fs::read_to_string(project).map_err(at(project))?;
            let document = ProjectDocument::parse(&text)
                .map_err(|error| Failed::Usage(format!("{}: {error}", project.display())))?;
            if !batch.is_file() {
                return Err(Failed::Usage(format!("{} is not a file", batch.display())));
            }
            if all.iter().any(|other| other.document.name == document.name && other.text != text) {
                return Err(Failed::Usage(format!("two documents have the name {:?}", document.name)));
            }
            all.push(Given { text, document, batch: batch.clone() });
        }
        Ok(all)
    }
}

/// A command line that was found good.
pub struct Wanted {
    given: Vec<Given>,
    seed: u64,
}

impl Wanted {
    /// Checks the command line; touches nothing.
    ///
    /// # Errors
    /// [`Failed::Usage`].
    pub fn read(wanted: &Demo) -> Result<Wanted, Failed> {
        Ok(Wanted { given: Plan::read_given(wanted)?, seed: wanted.seed })
    }

    /// Bytes of the given batches, for how long to wait.
    pub fn bytes(&self) -> u64 {
        self.given.iter().filter_map(|given| given.batch.metadata().ok()).map(|found| found.len()).sum()
    }

    /// Writes documents, batches and letters into the folder, and plans the rest.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn lay_out(self, ground: &Ground) -> Result<Plan, Failed> {
        let hospitals = [hospital(710_004)?, hospital(710_117)?];
        let registry: MailboxAddress = address(format!("CBE:{}", Cbe::from_stem(1_234_567).map_err(made_up)?))?;
        let mut plan = Plan {
            projects: Vec::new(),
            documents: Vec::new(),
            batches: Vec::new(),
            mailboxes: BTreeSet::from([hospitals[0].clone(), hospitals[1].clone(), registry.clone()]),
            organisations: (0..3)
                .map(|n| address(format!("CBE:{}", Cbe::from_stem(4_020_117 + 1_013 * n).map_err(made_up)?)))
                .collect::<Result<_, Failed>>()?,
            hospitals,
            prescriptions: [Vec::new(), Vec::new()],
            followed: Vec::new(),
            events: Vec::new(),
            letters: Vec::new(),
            identifiers: Vec::new(),
        };
        plan.mailboxes.extend(plan.organisations.iter().cloned());
        let mut people = People::new(self.seed);
        let patients = [people.draw(PATIENTS), people.draw(PATIENTS - SHARED)];
        plan.identifiers = patients.iter().flatten().map(|person| person.niss.to_string()).collect();
        plan.add_given(ground, &self.given)?;
        let own = plan.add_own_project(&registry, &self.given)?;
        if self.given.is_empty() {
            plan.add_generated(ground, own, &mut people, &patients)?;
        }
        plan.add_bad_batch(ground, own, &mut people, &patients[0])?;
        plan.add_letters(ground, &patients[1])?;
        plan.add_prescriptions(ground, &mut people, &patients)?;
        plan.add_mutations(&mut people, &patients);
        Ok(plan)
    }
}

impl Plan {
    fn add_given(&mut self, ground: &Ground, all: &[Given]) -> Result<(), Failed> {
        for (place, Given { text, document, batch }) in all.iter().enumerate() {
            let known = self.projects.iter().position(|other| other.name == document.name);
            let project = match known {
                Some(project) => project,
                None => self.add_project(text, document.clone()),
            };
            let sender = document.senders[0].clone();
            // Every second one goes by the drop folder.
            let route = if place % 2 == 0 { Route::Http } else { Route::DropFolder };
            let folder = ground.hospital(&sender, &folder_of(route, &document.name))?;
            let mut file = folder.join(submit::file_name(batch)?);
            if file.exists() {
                file = folder.join(format!("{}-{}", place + 1, submit::file_name(batch)?));
            }
            fs::copy(batch, &file).map_err(at(batch))?;
            self.batches.push(Batch { project, sender, file, route, expected: None });
        }
        Ok(())
    }

    /// The demo's own project; under another name when a given one has its name.
    fn add_own_project(&mut self, registry: &MailboxAddress, all: &[Given]) -> Result<usize, Failed> {
        let taken = all.iter().any(|given| given.document.name == "lab-registry");
        let text = PROJECT
            .replace("{name}", if taken { "lab-registry-demo" } else { "lab-registry" })
            .replace("{senders}", &self.hospitals.iter().map(|who| format!("\"{who}\"")).collect::<Vec<_>>().join(", "))
            .replace("{recipient}", &registry.to_string());
        let document = ProjectDocument::parse(&text).map_err(|error| Failed::Failure(error.to_string()))?;
        Ok(self.add_project(&text, document))
    }

    fn add_project(&mut self, text: &str, document: ProjectDocument) -> usize {
        self.documents.push(text.to_owned());
        self.mailboxes.extend(document.senders.iter().cloned());
        self.mailboxes.insert(document.recipient.clone());
        self.projects.push(document);
        self.projects.len() - 1
    }

    fn add_generated(
        &mut self,
        ground: &Ground,
        project: usize,
        people: &mut People,
        patients: &[Vec<Person>; 2],
    ) -> Result<(), Failed> {
        let shared: Vec<Person> = patients[0][..SHARED].iter().chain(&patients[1]).cloned().collect();
        let name = self.projects[project].name.clone();
        for (place, route) in [Route::Http, Route::DropFolder].into_iter().enumerate() {
            let sender = self.hospitals[place].clone();
            let file = ground.hospital(&sender, &folder_of(route, &name))?.join("lab-results-2026-06.csv");
            let mut out = BufWriter::new(File::create(&file).map_err(at(&file))?);
            people.write_batch(if place == 0 { &patients[0] } else { &shared }, &mut out).map_err(at(&file))?;
            out.flush().map_err(at(&file))?;
            self.batches.push(Batch { project, sender, file, route, expected: Some(true) });
        }
        Ok(())
    }

    /// A batch with three bad rows: a number with wrong check digits, no number, a birth date that is none.
    fn add_bad_batch(
        &mut self,
        ground: &Ground,
        project: usize,
        people: &mut People,
        patients: &[Person],
    ) -> Result<(), Failed> {
        let sender = self.hospitals[0].clone();
        let file = ground.hospital(&sender, "sent")?.join("lab-results-with-bad-rows.csv");
        let mut good = Vec::new();
        people.write_batch(&patients[..BAD_PATIENTS], &mut good)?;
        let mut lines: Vec<String> = String::from_utf8_lossy(&good).lines().map(str::to_owned).collect();
        let (first, rest) = lines[3].split_at(11);
        let wrong = if first.ends_with('0') { "1" } else { "0" };
        lines[3] = format!("{}{wrong}{rest}", &first[..10]);
        lines[9].replace_range(..11, "");
        lines[17] = lines[17].replacen("-", "/", 2);
        fs::write(&file, lines.join("\n") + "\n").map_err(at(&file))?;
        self.batches.push(Batch { project, sender, file, route: Route::Http, expected: Some(false) });
        Ok(())
    }

    fn add_letters(&mut self, ground: &Ground, patients: &[Person]) -> Result<(), Failed> {
        let folder = ground.hospital(&self.hospitals[0], "sent")?;
        for (place, person) in patients.iter().take(LETTERS).enumerate() {
            let file = folder.join(format!("discharge-letter-{}.txt", place + 1));
            let text = format!("Discharge letter {}\nPatient {}\nFollow-up in two weeks.\n", place + 1, person.niss);
            fs::write(&file, text).map_err(at(&file))?;
            self.letters.push(file);
        }
        Ok(())
    }

    fn add_prescriptions(
        &mut self,
        ground: &Ground,
        people: &mut People,
        patients: &[Vec<Person>; 2],
    ) -> Result<(), Failed> {
        for (place, hospital) in self.hospitals.iter().enumerate() {
            let file = ground.hospital(hospital, "pharmacy")?.join("prescriptions.ndjson");
            let mut out = BufWriter::new(File::create(&file).map_err(at(&file))?);
            for reference in 1..=PRESCRIPTIONS {
                let person = &patients[place][people.below(patients[place].len())];
                let nonce = people.bytes32();
                let document = format!("rx {reference} for {} {}", person.niss, hex::encode(&nonce[..8]));
                let hash = sha256(document.as_bytes());
                let line = json!({ "ref": reference, "hash": hash, "document": document });
                writeln!(out, "{line}").map_err(at(&file))?;
                self.prescriptions[place].push(Prescription { reference, hash });
            }
            out.flush().map_err(at(&file))?;
        }
        Ok(())
    }

    /// Each person is followed by one or two organisations, a few by nobody; each has one to three events.
    fn add_mutations(&mut self, people: &mut People, patients: &[Vec<Person>; 2]) {
        let kinds = ["address", "name", "ssin-replaced", "death"];
        for (place, person) in patients[0].iter().take(FOLLOWED).enumerate() {
            let ssin = person.niss.to_string();
            let by: Vec<usize> = match place % 10 {
                9 => Vec::new(),
                n => BTreeSet::from([n % 3, people.below(3)]).into_iter().collect(),
            };
            for _ in 0..=people.below(3) {
                let event = format!("2026-{:06}", self.events.len() + 1);
                let kind = kinds[people.below(kinds.len())];
                self.events.push(json!({
                    "feed": "national-register", "event": event, "ssin": ssin, "kind": kind, "date": "2026-06-30",
                }));
            }
            self.followed.push((ssin, by));
        }
    }

    /// Which events an organisation must be told of, in the order of the registry.
    pub fn expected_events(&self, organisation: usize) -> Vec<&Value> {
        let follows = |event: &&Value| {
            let of = |(ssin, by): &(String, Vec<usize>)| event["ssin"] == **ssin && by.contains(&organisation);
            self.followed.iter().any(of)
        };
        self.events.iter().filter(follows).collect()
    }

    /// Where a hospital's drop folder is, for each batch that goes that way.
    pub fn drop_folders(&self) -> BTreeSet<(MailboxAddress, usize, PathBuf)> {
        let dropped = self.batches.iter().filter(|batch| batch.route == Route::DropFolder);
        dropped
            .map(|batch| {
                let folder = batch.file.parent().map(Path::to_owned).unwrap_or_default();
                (batch.sender.clone(), batch.project, folder)
            })
            .collect()
    }
}

/// Each project has its own drop folder: what lies in one is sent to one project.
fn folder_of(route: Route, project: &str) -> String {
    match route {
        Route::Http => "sent".to_owned(),
        Route::DropFolder => format!("outbox/{project}"),
    }
}

fn hospital(stem: u32) -> Result<MailboxAddress, Failed> {
    address(format!("NIHII-HOSPITAL:{}", Nihii::from_stem(stem).map_err(made_up)?))
}

fn address(text: String) -> Result<MailboxAddress, Failed> {
    text.parse().map_err(made_up)
}

fn made_up(error: impl std::fmt::Display) -> Failed {
    Failed::Failure(format!("a made-up address is wrong: {error}"))
}
