//! The demo's day, played over HTTP as real clients would: every call here is one that a hospital's software makes.

use super::plan::{Batch, Plan, Route};
use crate::agent::Agent;
use crate::client::{Client, list, number, text};
use crate::commands::every;
use crate::failed::{Failed, at};
use crate::folder::Folder;
use crate::submit::{self, Letter};
use crate::term::pause;
use indicatif::ProgressBar;
use schemas::MailboxAddress;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(100);
/// Entries of one call: a pharmacy sends a few at a time.
const ENTRIES: usize = 50;
/// Events of one call.
const EVENTS: usize = 40;
/// Capacity of the demo's mailboxes: larger than any batch.
const CAPACITY: u64 = 1 << 40;

/// What kind of submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A batch: its place in the plan.
    Batch(usize),
    /// A letter: its place.
    Letter(usize),
}

/// One acknowledged submission and its final answer.
pub struct Submitted {
    /// What it is.
    pub what: What,
    /// Who sent it.
    pub sender: MailboxAddress,
    /// Its id.
    pub submission: String,
    /// The sender's reference.
    pub publication_id: String,
    /// Its whole life, when every recipient has an answer.
    pub life: Value,
}

/// What came of the day.
#[derive(Default)]
pub struct Day {
    /// Every acknowledged submission.
    pub submitted: Vec<Submitted>,
    /// Submissions that were repeated, with the id that the repetition got.
    pub repeated: Vec<(String, String)>,
    /// Entries that were acknowledged, for each hospital: reference and the bag that it can be in at the earliest.
    pub entries: Vec<BTreeMap<u64, u64>>,
    /// Repeated entries that got another answer than the first time.
    pub entries_changed: u64,
    /// What each organisation pulled.
    pub feeds: Vec<Vec<Value>>,
}

/// Plays the day.
pub struct Scenario<'a> {
    plan: &'a Plan,
    ttp: MailboxAddress,
    operator: Client,
    owners: HashMap<MailboxAddress, Client>,
    spinner: ProgressBar,
    /// How long anything is waited for.
    patience: Duration,
    /// Somebody wants the demo to end.
    stop: Arc<AtomicBool>,
}

/// A drop folder's agent at work.
type Watching = JoinHandle<Result<crate::agent::Look, Failed>>;

impl<'a> Scenario<'a> {
    /// Opens every mailbox.
    ///
    /// # Errors
    /// The platform refuses or is away.
    pub fn begin(
        plan: &'a Plan,
        folder: &Folder,
        ttp: MailboxAddress,
        spinner: ProgressBar,
        patience: Duration,
        stop: Arc<AtomicBool>,
    ) -> Result<Scenario<'a>, Failed> {
        let server = crate::cli::Server { url: None, token: None };
        let operator = folder.operator(&server)?;
        let mut owners = HashMap::new();
        for address in &plan.mailboxes {
            let answer = operator.post("/v1/boxes", &json!({ "address": address, "max_bytes": CAPACITY }))?;
            folder.keep_token(address, text(&answer, "token"))?;
            owners.insert(address.clone(), operator.with_token(text(&answer, "token")));
        }
        Ok(Scenario { plan, ttp, operator, owners, spinner, patience, stop })
    }

    /// The operator's client.
    pub fn operator(&self) -> &Client {
        &self.operator
    }

    /// The client of a mailbox's owner.
    ///
    /// # Errors
    /// When the plan forgot to open its mailbox.
    pub fn owner(&self, address: &MailboxAddress) -> Result<&Client, Failed> {
        self.owners.get(address).ok_or_else(|| Failed::Failure("a mailbox was not opened".to_owned()))
    }

    /// Plays everything and waits for every answer.
    ///
    /// # Errors
    /// The platform refuses what it must take, is away, or does not answer in time.
    pub fn play(&self) -> Result<Day, Failed> {
        let mut day = Day { entries: vec![BTreeMap::new(); 2], ..Day::default() };
        for hospital in &self.plan.hospitals {
            self.owner(hospital)?.post("/v1/timestamp/hospitals", &json!({ "hospital": hospital }))?;
        }
        let watching = self.watch_drop_folders()?;
        self.say("handing over batches and letters");
        for (place, batch) in self.plan.batches.iter().enumerate() {
            if batch.route == Route::Http {
                self.send_batch(&mut day, place, batch)?;
            }
        }
        self.send_letters(&mut day)?;
        self.say("having prescriptions stamped, first half");
        self.stamp(&mut day, false)?;
        self.say("following persons, and feeding mutations");
        self.inscribe()?;
        self.feed()?;
        self.say("waiting for final answers");
        self.take_from_drop_folders(&mut day, watching)?;
        self.wait_for_answers(&mut day)?;
        self.say("having prescriptions stamped, second half");
        self.stamp(&mut day, true)?;
        self.say("pulling feeds");
        for organisation in 0..self.plan.organisations.len() {
            let pulled = self.pull(organisation)?;
            day.feeds.push(pulled);
        }
        self.say("waiting for the last bags");
        self.wait_for_bags(&day)?;
        Ok(day)
    }

    /// What is being done, for a person who watches.
    pub fn say(&self, what: &'static str) {
        tracing::debug!(what, "demo");
        self.spinner.set_message(what);
    }

    /// Waits until `done` says so.
    ///
    /// # Errors
    /// What `done` says; [`Failed::Failure`] when the patience is over, or somebody wants the demo to end.
    pub fn until(&self, what: &str, mut done: impl FnMut() -> Result<bool, Failed>) -> Result<(), Failed> {
        let begun = Instant::now();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Failed::Failure("interrupted".to_owned()));
            }
            if done()? {
                return Ok(());
            }
            if begun.elapsed() > self.patience {
                return Err(Failed::Failure(format!("gave up waiting for {what}")));
            }
            pause(LOOK);
        }
    }

    fn letter(&self, batch: &Batch) -> Letter {
        Letter {
            sender: batch.sender.to_string(),
            to: vec![self.ttp.to_string()],
            project: Some(self.plan.projects[batch.project].name.clone()),
            handle: None,
            title: None,
            receipts: vec!["published".to_owned()],
            meta: Vec::new(),
        }
    }

    fn watch_drop_folders(&self) -> Result<Vec<Watching>, Failed> {
        let mut agents = Vec::new();
        for (sender, project, folder) in self.plan.drop_folders() {
            let batch = Batch { project, sender, file: folder.clone(), route: Route::DropFolder, expected: None };
            let mut agent = Agent::open(&folder, self.owner(&batch.sender)?.clone(), self.letter(&batch))?;
            let stop = self.stop.clone();
            let run = move || agent.run(true, &stop, |_| {});
            agents.push(std::thread::Builder::new().name("drop-folder".to_owned()).spawn(run)?);
        }
        Ok(agents)
    }

    /// The agents end when every file has its answer beside it.
    fn take_from_drop_folders(&self, day: &mut Day, watching: Vec<Watching>) -> Result<(), Failed> {
        self.until("the drop folders", || Ok(watching.iter().all(JoinHandle::is_finished)))?;
        for agent in watching {
            agent.join().map_err(|_| Failed::Failure("a drop folder's agent panicked".to_owned()))??;
        }
        for (place, batch) in self.plan.batches.iter().enumerate().filter(|(_, batch)| batch.route == Route::DropFolder)
        {
            let life = answer_beside(batch)?;
            day.submitted.push(Submitted {
                what: What::Batch(place),
                sender: batch.sender.clone(),
                submission: text(&life, "submission").to_owned(),
                publication_id: text(&life, "publication_id").to_owned(),
                life,
            });
        }
        Ok(())
    }

    fn send_batch(&self, day: &mut Day, place: usize, batch: &Batch) -> Result<(), Failed> {
        let letter = self.letter(batch);
        let id = submit::publication_id(&batch.file, &letter)?;
        self.send(day, What::Batch(place), &batch.sender, &letter, &batch.file, &id)
    }

    /// Letters from one hospital to the other; the first one is sent twice, as after a lost answer.
    fn send_letters(&self, day: &mut Day) -> Result<(), Failed> {
        let [from, to] = &self.plan.hospitals;
        for (place, file) in self.plan.letters.iter().enumerate() {
            let letter = Letter {
                sender: from.to_string(),
                to: vec![to.to_string()],
                project: None,
                handle: None,
                title: Some(format!("Discharge letter {}", place + 1)),
                receipts: ["published", "received", "read"].map(str::to_owned).to_vec(),
                meta: Vec::new(),
            };
            let id = format!("LETTER{}", place + 1);
            self.send(day, What::Letter(place), from, &letter, file, &id)?;
            if place == 0 {
                let again = submit::send(self.owner(from)?, &letter, file, &id)?;
                let first = day.submitted.last().map(|sent| sent.submission.clone()).unwrap_or_default();
                day.repeated.push((first, again.submission));
            }
        }
        Ok(())
    }

    fn send(
        &self,
        day: &mut Day,
        what: What,
        sender: &MailboxAddress,
        letter: &Letter,
        file: &std::path::Path,
        id: &str,
    ) -> Result<(), Failed> {
        let sent = submit::send(self.owner(sender)?, letter, file, id)?;
        day.submitted.push(Submitted {
            what,
            sender: sender.clone(),
            submission: sent.submission,
            publication_id: sent.publication_id,
            life: Value::Null,
        });
        Ok(())
    }

    fn wait_for_answers(&self, day: &mut Day) -> Result<(), Failed> {
        for sent in &mut day.submitted {
            let client = self.owner(&sent.sender)?.clone();
            let (submission, life) = (&sent.submission, &mut sent.life);
            self.until("final answers", || match submit::outcome(&client, submission) {
                Ok((outcome, found)) => {
                    *life = found;
                    Ok(outcome.is_final)
                }
                Err(Failed::Refused { code, .. }) if code == "ZGL-NOT-FOUND" => Ok(false),
                Err(other) => Err(other),
            })?;
        }
        Ok(())
    }

    /// Half of each hospital's prescriptions; the second half begins with a repetition of an earlier call.
    fn stamp(&self, day: &mut Day, second: bool) -> Result<(), Failed> {
        for (place, hospital) in self.plan.hospitals.iter().enumerate() {
            let all = &self.plan.prescriptions[place];
            let (first_half, second_half) = all.split_at(all.len() / 2);
            let half = if second { second_half } else { first_half };
            let repeated = if second { &first_half[..ENTRIES.min(first_half.len())] } else { &[] };
            for chunk in std::iter::once(repeated).chain(half.chunks(ENTRIES)).filter(|chunk| !chunk.is_empty()) {
                let entries: Vec<Value> =
                    chunk.iter().map(|entry| json!({ "ref": entry.reference, "hash": entry.hash })).collect();
                let body = json!({ "hospital": hospital, "entries": entries });
                let answer = self.owner(hospital)?.post("/v1/timestamp/entries", &body)?;
                for answer in list(&answer, "answers").iter().filter(|answer| text(answer, "is") == "accepted") {
                    let (reference, bag) = (number(answer, "ref"), number(answer, "earliest_bag"));
                    let before = day.entries[place].insert(reference, bag);
                    day.entries_changed += u64::from(before.is_some_and(|before| before != bag));
                }
            }
        }
        Ok(())
    }

    fn inscribe(&self) -> Result<(), Failed> {
        for (ssin, by) in &self.plan.followed {
            for organisation in by {
                let organisation = &self.plan.organisations[*organisation];
                let body = json!({ "organisation": organisation, "ssin": ssin, "from": "2026-01-01" });
                self.owner(organisation)?.post("/v1/inscriptions", &body)?;
            }
        }
        Ok(())
    }

    /// The registry's events; the first call is made twice.
    fn feed(&self) -> Result<(), Failed> {
        let first = &self.plan.events[..EVENTS.min(self.plan.events.len())];
        for chunk in std::iter::once(first).chain(self.plan.events.chunks(EVENTS)) {
            let lines: Vec<String> = chunk.iter().map(Value::to_string).collect();
            self.operator.post_bytes("/v1/mutations", &[], "application/x-ndjson", lines.join("\n").as_bytes())?;
        }
        Ok(())
    }

    /// Pulls and acknowledges until everything that is expected is there, and then looks once more for what is not.
    fn pull(&self, organisation: usize) -> Result<Vec<Value>, Failed> {
        let address = &self.plan.organisations[organisation];
        let client = self.owner(address)?;
        let expected = self.plan.expected_events(organisation).len();
        let mut pulled: Vec<Value> = Vec::new();
        self.until("notifications", || {
            let after = pulled.last().map_or(0, |last| number(last, "number"));
            let page =
                client.get(&format!("/v1/feeds/{address}"), &[("after", &after.to_string()), ("limit", "50")])?;
            let new = list(&page, "notifications");
            pulled.extend(new.iter().cloned());
            if let Some(last) = new.last() {
                let body = json!({ "up_to": number(last, "number") });
                client.post(&format!("/v1/feeds/{address}/ack"), &body)?;
            }
            Ok(new.is_empty() && pulled.len() >= expected)
        })?;
        Ok(pulled)
    }

    fn wait_for_bags(&self, day: &Day) -> Result<(), Failed> {
        for (place, hospital) in self.plan.hospitals.iter().enumerate() {
            let client = self.owner(hospital)?;
            let accepted = day.entries[place].len() as u64;
            self.until("bags", || {
                let mut stamped = 0;
                every(client, &format!("/v1/timestamp/bags/{hospital}"), "bags", "from", |bag| {
                    stamped += number(bag, "count");
                    Ok(())
                })?;
                Ok(stamped >= accepted)
            })?;
        }
        Ok(())
    }
}

/// What the agent wrote beside a file.
fn answer_beside(batch: &Batch) -> Result<Value, Failed> {
    let name = submit::file_name(&batch.file)?;
    let beside = |kind: &str| -> PathBuf { batch.file.with_file_name(format!("{name}.{kind}.json")) };
    let path = Some(beside("receipt")).filter(|path| path.exists()).unwrap_or_else(|| beside("error"));
    let life: Value = serde_json::from_str(&fs::read_to_string(&path).map_err(at(&path))?)?;
    match text(&life, "submission") {
        "" => Err(Failed::refused(text(&life, "code"), text(&life, "text"))),
        _ => Ok(life),
    }
}
