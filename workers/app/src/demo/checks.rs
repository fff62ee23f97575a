//! Every invariant, checked on what the day left: against what was planned and sent, never against itself.

use super::collect::{Delivered, Found};
use super::ground::Ground;
use super::needles::Needles;
use super::plan::{Batch, LETTERS, Plan};
use super::scenario::{Day, Submitted, What};
use super::tally::{Side, Tally, delivered_header};
use crate::bags::{Audit, audit_folder};
use crate::client::{number, text};
use crate::failed::{Failed, at};
use crate::folder::folder_name;
use crate::submit::{read_outcome, reasons};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use zegel_ttp::project::{BadRows, ProjectDocument};

/// I5: within 2 hours.
const ANSWER_MS: i64 = 2 * 60 * 60 * 1000;
/// I7: what platform and clients of the demo may hold together, in MiB: 64 for the store's queue, 64 for its tail, 64
/// for each slot's parking at worst, buffers of two jobs, and the clients.
pub const MEMORY_MAX_MIB: u64 = 512;

/// The numbers of the report.
#[derive(Debug, Default)]
pub struct Numbers {
    /// Acknowledged submissions.
    pub submitted: u64,
    /// Positive final answers.
    pub delivered: u64,
    /// Negative final answers.
    pub refused: u64,
    /// Positive and negative final receipts in the senders' boxes.
    pub receipts_positive: u64,
    /// See above.
    pub receipts_negative: u64,
    /// Data rows of the batches that were processed.
    pub rows_in: u64,
    /// Data rows that recipients got.
    pub rows_out: u64,
    /// Rows that a project left out because they were bad.
    pub rows_refused: u64,
    /// Bags, entries in them, and tokens that verify.
    pub bags: u64,
    /// See above.
    pub entries: u64,
    /// See above.
    pub tokens_verified: u64,
    /// Notifications that organisations pulled.
    pub notifications: u64,
    /// Whatever was acknowledged and is missing.
    pub lost: u64,
    /// Whatever is there more than once.
    pub duplicated: u64,
}

/// What is wrong, by invariant; an empty list: it holds.
pub struct Verdict {
    /// The numbers.
    pub numbers: Numbers,
    /// I1 to I8.
    pub findings: BTreeMap<&'static str, Vec<String>>,
    /// What was refused, and why, for a person to read: one line for each.
    pub refusals: Vec<String>,
}

impl Verdict {
    fn new() -> Verdict {
        let names = ["I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8"];
        Verdict {
            numbers: Numbers::default(),
            findings: names.map(|name| (name, Vec::new())).into(),
            refusals: Vec::new(),
        }
    }

    /// Notes that an invariant does not hold.
    pub fn fault(&mut self, invariant: &'static str, what: impl Into<String>) {
        self.findings.entry(invariant).or_default().push(what.into());
    }

    fn missing(&mut self, count: u64, what: &str) {
        if count > 0 {
            self.numbers.lost += count;
            self.fault("I1", format!("{count} {what} missing"));
        }
    }

    fn repeated(&mut self, count: u64, what: &str) {
        if count > 0 {
            self.numbers.duplicated += count;
            self.fault("I2", format!("{count} {what} more than once"));
        }
    }

    /// Whether everything holds.
    pub fn holds(&self) -> bool {
        self.findings.values().all(Vec::is_empty)
    }
}

/// Checks everything that can be checked from files and answers.
///
/// # Errors
/// When a file cannot be read.
pub fn check(ground: &Ground, plan: &Plan, day: &Day, found: &Found) -> Result<Verdict, Failed> {
    let mut verdict = Verdict::new();
    answers(plan, day, found, &mut verdict);
    let identifiers = contents(plan, day, found, &mut verdict)?;
    letters(found, &mut verdict);
    bags(ground, plan, day, &mut verdict)?;
    feeds(plan, day, &mut verdict);
    senders_hidden(plan, day, found, &mut verdict)?;
    leaks(ground, plan, &identifiers, &mut verdict)?;
    Ok(verdict)
}

/// I1, I2, I5: exactly one final answer for each submission and recipient, and exactly one final receipt.
fn answers(plan: &Plan, day: &Day, found: &Found, verdict: &mut Verdict) {
    verdict.numbers.submitted = day.submitted.len() as u64;
    for sent in &day.submitted {
        let outcome = read_outcome(&sent.life);
        verdict.missing(u64::from(!outcome.is_final), "final answers");
        let negative = outcome.is_refused();
        verdict.numbers.refused += u64::from(negative);
        verdict.numbers.delivered += u64::from(outcome.is_final && !negative);
        if negative {
            verdict.refusals.push(format!("{} was refused: {}", described(plan, sent), reasons(&sent.life)));
        }
        let expected = match sent.what {
            What::Batch(place) => plan.batches[place].expected,
            What::Letter(_) => Some(true),
        };
        if expected == Some(negative) {
            let codes: Vec<String> = outcome.answers.into_iter().filter_map(|(_, _, code)| code).collect();
            let what = if negative { "was refused" } else { "was accepted, bad as it is" };
            verdict.fault(if negative { "I1" } else { "I8" }, format!("{} {what} {}", name(sent), codes.join(" ")));
        }
        late(sent, verdict);
        let of = |receipt: &&Value| text(receipt, "submission") == sent.submission && receipt["final"] == true;
        let finals: Vec<&Value> = found.receipts.iter().filter(of).collect();
        if finals.len() != 1 {
            verdict.fault("I5", format!("{} has {} final receipts", name(sent), finals.len()));
        }
        verdict.repeated(finals.len().saturating_sub(1) as u64, "final receipts");
        verdict.missing(u64::from(finals.is_empty()), "final receipts");
        if finals.iter().any(|receipt| (text(receipt, "type") == "ERROR") != negative) {
            verdict.fault("I5", format!("{}: receipt and answer contradict each other", name(sent)));
        }
    }
    for (first, again) in &day.repeated {
        verdict.repeated(u64::from(first != again), "submissions of one publication id");
    }
    let count = |kind: &str| found.receipts.iter().filter(|receipt| text(receipt, "type") == kind).count() as u64;
    let negative = |receipt: &&Value| text(receipt, "type") == "ERROR" && receipt["final"] == true;
    verdict.numbers.receipts_positive = count("PUBLISHED");
    verdict.numbers.receipts_negative = found.receipts.iter().filter(negative).count() as u64;
    for kind in ["RECEIVED", "READ"] {
        verdict.repeated(count(kind).saturating_sub(LETTERS as u64), "acknowledgements of reading");
    }
}

fn late(sent: &Submitted, verdict: &mut Verdict) {
    let accepted = sent.life["accepted"].as_i64().unwrap_or_default();
    let answered = crate::client::list(&sent.life, "recipients").iter().map(|recipient| &recipient["answered_at"]);
    if answered.filter_map(Value::as_i64).any(|at| at - accepted > ANSWER_MS) {
        verdict.fault("I5", format!("{} was answered late", name(sent)));
    }
}

/// A submission as its sender knows it.
fn described(plan: &Plan, sent: &Submitted) -> String {
    match sent.what {
        What::Batch(place) => {
            let Batch { file, project, .. } = &plan.batches[place];
            let file = file.file_name().unwrap_or_default().to_string_lossy();
            format!("{file} for {}", plan.projects[*project].name)
        }
        What::Letter(_) => name(sent),
    }
}

fn name(sent: &Submitted) -> String {
    match sent.what {
        What::Batch(place) => format!("batch {}", place + 1),
        What::Letter(place) => format!("letter {}", place + 1),
    }
}

/// I1, I2, I4: what recipients got is what was sent, row by row in number, token by identifier. Returns what must not be
/// found anywhere.
fn contents(plan: &Plan, day: &Day, found: &Found, verdict: &mut Verdict) -> Result<HashSet<String>, Failed> {
    let mut sides = Vec::new();
    let mut whose: Vec<Option<usize>> = Vec::new();
    for delivered in &found.delivered {
        whose.push(project_of(plan, delivered)?);
    }
    for (number, project) in plan.projects.iter().enumerate() {
        let (mut sent, mut refused, mut processed) = (Tally::default(), Tally::default(), 0);
        for (place, batch) in plan.batches.iter().enumerate().filter(|(_, batch)| batch.project == number) {
            let answered = |sent: &&Submitted| sent.what == What::Batch(place);
            let positive = day.submitted.iter().find(answered).is_some_and(|s| !read_outcome(&s.life).is_refused());
            processed += u64::from(positive);
            let side = Side::Sent { sender: &batch.sender.to_string() };
            (if positive { &mut sent } else { &mut refused }).count(project, &batch.file, side)?;
        }
        let (mut got, mut messages) = (Tally::default(), 0);
        for (delivered, _) in found.delivered.iter().zip(&whose).filter(|(_, whose)| **whose == Some(number)) {
            messages += 1;
            for file in &delivered.files {
                got.count(project, file, Side::Delivered { sent: &sent })?;
            }
        }
        verdict.numbers.rows_in += sent.rows;
        verdict.numbers.rows_out += got.rows;
        compare(project, verdict, &sent, &got, (processed, messages));
        sides.extend([sent, refused]);
    }
    verdict.repeated(whose.iter().filter(|whose| whose.is_none()).count() as u64, "deliveries of nobody");
    // What one project hides another may show: that is its document's decision.
    let hidden = sides.iter().flat_map(|side| &side.identifiers);
    Ok(hidden.filter(|value| !sides.iter().any(|side| side.shows(value))).cloned().collect())
}

fn compare(project: &ProjectDocument, verdict: &mut Verdict, sent: &Tally, got: &Tally, messages: (u64, u64)) {
    let name = &project.name;
    verdict.missing(messages.0.saturating_sub(messages.1), "deliveries");
    verdict.repeated(messages.1.saturating_sub(messages.0), "deliveries");
    if got.leaked > 0 {
        verdict.fault("I4", format!("{name}: {} values came out in clear", got.leaked));
    }
    if project.bad_rows == BadRows::RefuseRow && got.rows < sent.rows {
        // Which rows were bad only the project knows: what was left out is counted, and the rest cannot be compared.
        verdict.numbers.rows_refused += sent.rows - got.rows;
        return;
    }
    verdict.missing(sent.rows.saturating_sub(got.rows), "rows");
    verdict.repeated(got.rows.saturating_sub(sent.rows), "rows");
    for difference in got.differences(sent) {
        verdict.fault("I2", format!("{name}: {difference}"));
    }
}

/// Which project a delivery is of: the one that its title names, or the one whose columns it has.
fn project_of(plan: &Plan, delivered: &Delivered) -> Result<Option<usize>, Failed> {
    let title = text(&delivered.message, "title");
    let is_recipient = |project: &ProjectDocument| project.recipient == delivered.recipient;
    let named = |project: &ProjectDocument| is_recipient(project) && title.starts_with(&format!("{} ", project.name));
    if let Some(place) = plan.projects.iter().position(named) {
        return Ok(Some(place));
    }
    let Some(file) = delivered.files.first() else { return Ok(None) };
    let mut line = String::new();
    BufReader::new(File::open(file).map_err(at(file))?).read_line(&mut line).map_err(at(file))?;
    let has_columns =
        |project: &ProjectDocument| is_recipient(project) && line.trim_end() == delivered_header(project).join(",");
    Ok(plan.projects.iter().position(has_columns))
}

/// I2, I3: each letter once, in the order of acceptance.
fn letters(found: &Found, verdict: &mut Verdict) {
    let expected: Vec<String> = (1..=LETTERS).map(|n| format!("Discharge letter {n}")).collect();
    let distinct: HashSet<&String> = found.letters.iter().collect();
    verdict.missing((LETTERS - distinct.len().min(LETTERS)) as u64, "letters");
    verdict.repeated((found.letters.len() - distinct.len()) as u64, "letters");
    if found.letters != expected {
        verdict.fault("I3", "letters are not in the order in which they were accepted");
    }
}

/// I1, I2, I6: each accepted entry in exactly one bag with its hash; bags unbroken; tokens verify. I8: a changed byte
/// does not.
fn bags(ground: &Ground, plan: &Plan, day: &Day, verdict: &mut Verdict) -> Result<(), Failed> {
    let ca = ground.out().join("tsa/ca.pem");
    for (place, hospital) in plan.hospitals.iter().enumerate() {
        let folder = ground.out().join("bags").join(folder_name(hospital));
        let listing = ground.out().join("listings").join(format!("{}.ndjson", folder_name(hospital)));
        let Audit { bags, entries, tokens, references, findings } =
            audit_folder(hospital, &folder, &ca, Some(&listing))?;
        verdict.numbers.bags += bags;
        verdict.numbers.entries += entries;
        verdict.numbers.tokens_verified += tokens;
        findings.into_iter().for_each(|finding| verdict.fault("I6", format!("{}: {finding}", folder_name(hospital))));
        let planned: HashMap<u64, _> = plan.prescriptions[place].iter().map(|p| (p.reference, p.hash)).collect();
        verdict.missing(planned.len().saturating_sub(day.entries[place].len()) as u64, "acknowledged entries");
        for (reference, earliest) in &day.entries[place] {
            let places = references.get(reference).map(Vec::as_slice).unwrap_or_default();
            verdict.missing(u64::from(places.is_empty()), "entries");
            verdict.repeated(places.len().saturating_sub(1) as u64, "entries");
            if places.iter().any(|(bag, hash)| bag < earliest || planned.get(reference) != Some(hash)) {
                verdict.fault("I6", format!("{}: entry {reference} is not what was accepted", folder_name(hospital)));
            }
        }
        if references.len() > day.entries[place].len() {
            verdict.fault("I6", format!("{}: a bag holds entries that nobody sent", folder_name(hospital)));
        }
        one_changed_byte(ground, hospital, &folder, verdict)?;
    }
    if day.entries_changed > 0 {
        verdict.fault("I2", format!("{} repeated entries got another answer", day.entries_changed));
    }
    Ok(())
}

/// A copy of the first bag with one byte changed must not verify (I8).
fn one_changed_byte(
    ground: &Ground,
    hospital: &schemas::MailboxAddress,
    folder: &std::path::Path,
    verdict: &mut Verdict,
) -> Result<(), Failed> {
    let copy = ground.hospital(hospital, "tampered")?;
    let read = |name: &str| fs::read(folder.join(name)).map_err(at(&folder.join(name)));
    let (mut xml, tsr) = (read("1.xml")?, read("1.tsr")?);
    let middle = xml.len() / 2;
    xml[middle] ^= 1;
    fs::write(copy.join("1.xml"), xml).map_err(at(&copy))?;
    fs::write(copy.join("1.tsr"), tsr).map_err(at(&copy))?;
    let audit = audit_folder(hospital, &copy, &ground.out().join("tsa/ca.pem"), None)?;
    if audit.findings.is_empty() || audit.tokens > 0 {
        verdict.fault("I8", "a bag with one changed byte still verifies");
    }
    fs::remove_dir_all(&copy).map_err(at(&copy))
}

/// I1, I2, I3: every subscriber was told of every event about whom it follows, once, numbered without a gap, and each
/// person's events in the registry's order.
fn feeds(plan: &Plan, day: &Day, verdict: &mut Verdict) {
    for (organisation, told) in day.feeds.iter().enumerate() {
        verdict.numbers.notifications += told.len() as u64;
        if told.iter().enumerate().any(|(place, told)| number(told, "number") != place as u64 + 1) {
            verdict.fault("I2", format!("feed {} has a gap or repeats a number", organisation + 1));
        }
        let event = |told: &Value| told["mutation"]["event"].as_str().unwrap_or_default().to_owned();
        let got: Vec<String> = told.iter().map(event).collect();
        let distinct: HashSet<&String> = got.iter().collect();
        let expected = plan.expected_events(organisation);
        let absent = expected.iter().filter(|event| !distinct.contains(&text(event, "event").to_owned())).count();
        verdict.missing(absent as u64, "notifications");
        verdict.repeated((got.len() - distinct.len()) as u64, "notifications");
        if distinct.len() + absent > expected.len() {
            verdict.fault("I4", format!("organisation {} was told of somebody it does not follow", organisation + 1));
        }
        let mut last: HashMap<&str, &str> = HashMap::new();
        for told in told {
            let mutation = &told["mutation"];
            let (ssin, event) = (text(mutation, "ssin"), text(mutation, "event"));
            if last.insert(ssin, event).is_some_and(|before| before >= event) {
                verdict.fault("I3", format!("feed {}: events of a person are out of order", organisation + 1));
            }
        }
    }
}

/// I4: nothing that a recipient of a project got names a sender, its file or its reference.
fn senders_hidden(plan: &Plan, day: &Day, found: &Found, verdict: &mut Verdict) -> Result<(), Failed> {
    let mut marks: HashSet<String> = HashSet::new();
    for sent in day.submitted.iter().filter(|sent| matches!(sent.what, What::Batch(_))) {
        marks.extend([sent.submission.clone(), sent.publication_id.clone(), sent.sender.to_string()]);
    }
    let files = plan.batches.iter().filter_map(|batch| batch.file.file_name());
    let named: HashSet<String> = files.map(|name| name.to_string_lossy().into_owned()).collect();
    for delivered in &found.delivered {
        // The recipient's own number stands there rightly, also when it sends elsewhere.
        let said = delivered.message.to_string().replace(&delivered.recipient.to_string(), "");
        let mut names_sender = marks.iter().chain(&named).any(|mark| said.contains(mark.as_str()));
        for file in &delivered.files {
            let mut reader = BufReader::new(File::open(file).map_err(at(file))?);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).map_err(at(file))? > 0 {
                let text = String::from_utf8_lossy(&line);
                names_sender |= marks.iter().any(|mark| text.contains(mark.as_str()));
                line.clear();
            }
        }
        if names_sender {
            verdict.fault("I4", "what a recipient got names its sender");
        }
    }
    Ok(())
}

/// I4: no identifier of a patient anywhere in the folder but with the hospitals.
fn leaks(ground: &Ground, plan: &Plan, identifiers: &HashSet<String>, verdict: &mut Verdict) -> Result<(), Failed> {
    let values = identifiers.iter().chain(&plan.identifiers).map(String::as_str);
    let needles = Needles::new(values);
    if needles.len() == 0 {
        verdict.fault("I4", "there was nothing to search for");
    }
    for path in needles.search(ground.root(), &[ground.hospitals()])? {
        let place = path.strip_prefix(ground.root()).unwrap_or(&path);
        verdict.fault("I4", format!("an identifier stands in clear in {}", place.display()));
    }
    Ok(())
}
