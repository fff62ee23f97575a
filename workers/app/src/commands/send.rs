//! `zegel send`: files once, or a drop folder.

use super::project::preview;
use super::{Place, address};
use crate::agent::Agent;
use crate::cli::Send;
use crate::client::{Client, escape};
use crate::failed::Failed;
use crate::signals;
use crate::split;
use crate::submit::{self, Letter, Sent};
use crate::term::{Report, bytes_bar, pause, row, spinner, table};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use zegel_ttp::ProjectDocument;

/// Between two questions for the final answer.
const ASK: Duration = Duration::from_millis(300);

/// Sends.
///
/// # Errors
/// The platform refuses or is away; a file cannot be read.
pub fn run(place: &Place, wanted: &Send) -> Result<Report, Failed> {
    let letter = letter(place, wanted)?;
    let client = place.folder()?.owner(&wanted.server, &address(&wanted.sender)?)?;
    if let (true, Some(project)) = (wanted.dry_run, &wanted.project) {
        return rehearse(wanted, &client, project);
    }
    match &wanted.folder {
        Some(folder) => watch(place, wanted, folder, client, letter),
        None => files(place, wanted, &client, &letter),
    }
}

fn letter(place: &Place, wanted: &Send) -> Result<Letter, Failed> {
    let to = match &wanted.project {
        Some(_) => vec![place.config()?.ttp],
        None => wanted.to.clone(),
    };
    let pair = |text: &String| {
        let split = text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        split.ok_or_else(|| Failed::Usage("--meta must be KEY=VALUE".to_owned()))
    };
    Ok(Letter {
        sender: address(&wanted.sender)?.to_string(),
        to: to.iter().map(|text| address(text).map(|to| to.to_string())).collect::<Result<_, _>>()?,
        project: wanted.project.clone(),
        handle: None,
        title: wanted.title.clone(),
        receipts: wanted.receipts.clone(),
        meta: wanted.meta.iter().map(pair).collect::<Result<_, _>>()?,
    })
}

fn files(place: &Place, wanted: &Send, client: &Client, letter: &Letter) -> Result<Report, Failed> {
    let total = wanted.files.iter().filter_map(|file| file.metadata().ok()).map(|found| found.len()).sum();
    let bar = bytes_bar(place.json, total);
    let split = wanted.project.as_ref().map(|project| split::of_project(client, project)).transpose()?.flatten();
    let mut sent = Vec::new();
    for file in &wanted.files {
        let publication_id = match &wanted.publication_id {
            Some(id) if wanted.files.len() == 1 => id.clone(),
            Some(_) => return Err(Failed::Usage("--publication-id goes with one file".to_owned())),
            None => submit::publication_id(file, letter)?,
        };
        let own_id = wanted.publication_id.is_none();
        let outcome = match send_one(client, letter, (file, split.as_ref()), (&publication_id, own_id)) {
            // One file's refusal does not hide what became of the others.
            Err(Failed::Refused { code, text }) if wanted.files.len() > 1 => Err((code, text)),
            other => Ok(other?),
        };
        sent.push((file, outcome));
        bar.inc(file.metadata().map_or(0, |found| found.len()));
    }
    bar.finish_and_clear();
    let deadline = Instant::now() + Duration::from_secs(wanted.wait.unwrap_or(0));
    let mut rows = vec![row(["FILE", "SUBMISSION", "PUBLICATION ID", "ANSWER", ""])];
    let (mut values, mut refused) = (Vec::new(), false);
    for (file, outcome) in sent {
        let Sent { submission, publication_id } = match outcome {
            Ok(sent) => sent,
            Err((code, text)) => {
                refused = true;
                rows.push(row([&submit::file_name(file)?, "", "", "refused", &format!("{code} {text}")]));
                values.push(json!({ "answer": "refused", "error": { "code": code, "text": text } }));
                continue;
            }
        };
        let answer = if wanted.wait.is_some() { wait(place, client, &submission, deadline)? } else { None };
        let said = answer.as_ref().map_or("not yet", |(refused, _)| if *refused { "refused" } else { "delivered" });
        refused |= said == "refused";
        let life = answer.map_or(Value::Null, |(_, life)| life);
        rows.push(row([&submit::file_name(file)?, &submission, &publication_id, said, &submit::reasons(&life)]));
        values
            .push(json!({ "submission": submission, "publication_id": publication_id, "answer": said, "life": life }));
    }
    let status = if refused { 3 } else { 0 };
    Ok(Report { json: json!({ "sent": values }), text: table(&rows), status })
}

/// Sends a file; of a split project what it becomes in two parts. Its title is never the file's name then: it would say what was cut.
fn send_one(
    client: &Client,
    letter: &Letter,
    (file, split): (&Path, Option<&ProjectDocument>),
    (publication_id, own_id): (&str, bool),
) -> Result<Sent, Failed> {
    match split.filter(|_| !split::is_container(file)) {
        None => submit::send(client, letter, file, publication_id),
        Some(document) => {
            let container = split::cut(document, file)?;
            submit::send_cut(client, letter, ("batch.tar", &container), publication_id, own_id)
        }
    }
}

/// Checks files against the document in force, which a party may read. The worst answer is the exit status.
fn rehearse(wanted: &Send, client: &Client, project: &str) -> Result<Report, Failed> {
    let details = client.get(&format!("/v1/projects/{}", escape(project)), &[])?;
    let state = details.pointer("/overview/state").and_then(Value::as_str).unwrap_or_default();
    if state != "in-force" {
        return Err(Failed::refused("ZGL-TTP-INACTIVE", format!("the project takes no batches now: it is {state}")));
    }
    let document = details.get("document").and_then(Value::as_str).unwrap_or_default();
    let sender = address(&wanted.sender)?;
    let (mut values, mut told, mut status) = (Vec::new(), String::new(), 0);
    for file in &wanted.files {
        let one = preview::rehearse(document, file, &sender)?;
        told.push_str(&format!("{}: {}\n", submit::file_name(file)?, one.text));
        values.push(one.json);
        status = status.max(one.status);
    }
    Ok(Report { json: json!({ "files": values }), text: told, status })
}

/// Waits for the final answer: whether it is negative, and the life of the submission.
///
/// # Errors
/// The platform refuses or is away.
pub fn wait(
    place: &Place,
    client: &Client,
    submission: &str,
    deadline: Instant,
) -> Result<Option<(bool, Value)>, Failed> {
    let spinner = spinner(place.json);
    spinner.set_message("waiting for the final answer");
    loop {
        match submit::outcome(client, submission) {
            Ok((outcome, life)) if outcome.is_final => return Ok(Some((outcome.is_refused(), life))),
            Ok(_) => {}
            Err(Failed::Refused { code, .. }) if code == "ZGL-NOT-FOUND" => {}
            Err(other) => return Err(other),
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        pause(ASK);
    }
}

fn watch(place: &Place, wanted: &Send, folder: &Path, client: Client, letter: Letter) -> Result<Report, Failed> {
    let project = wanted.project.as_ref();
    if project.map(|project| split::of_project(&client, project)).transpose()?.flatten().is_some() {
        return Err(Failed::Usage("batches of a split project are sent file by file, without --folder".to_owned()));
    }
    let mut agent = Agent::open(folder, client, letter)?;
    let stop = signals::flag()?;
    let spinner = spinner(place.json);
    let look = agent.run(wanted.once, &stop, |look| {
        spinner.set_message(format!(
            "{} delivered, {} refused, {} waiting, {} not complete",
            look.delivered, look.refused, look.waiting, look.growing
        ));
    })?;
    spinner.finish_and_clear();
    let status = if wanted.once && look.refused > 0 { 3 } else { 0 };
    let text =
        format!("{} delivered, {} refused, {} without an answer yet", look.delivered, look.refused, look.waiting);
    let json = json!({ "delivered": look.delivered, "refused": look.refused, "waiting": look.waiting });
    Ok(Report { json, text, status })
}
