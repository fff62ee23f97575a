//! `zegel return`: rows that were delivered for a TTP project go back, enriched.

use super::send::wait;
use super::{Place, every_item, own_address};
use crate::cli::Return;
use crate::client::Client;
use crate::failed::Failed;
use crate::submit::{self, Letter, Sent};
use crate::term::Report;
use schemas::MailboxAddress;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Sends back, and waits for the TTP's answer where that is wanted.
///
/// # Errors
/// The platform refuses or is away; the file cannot be read; the project is not given and the delivery is no longer in the mailbox.
pub fn run(place: &Place, wanted: &Return) -> Result<Report, Failed> {
    let folder = place.folder()?;
    let owner = own_address(&folder, wanted.address.as_deref())?;
    let client = folder.owner(&wanted.server, &owner)?;
    let project = match &wanted.project {
        Some(project) => project.clone(),
        None => project_of(&client, &owner, &wanted.handle)?,
    };
    let letter = Letter {
        sender: owner.to_string(),
        to: Vec::new(),
        project: Some(project),
        handle: Some(wanted.handle.clone()),
        title: None,
        receipts: vec!["published".to_owned()],
        meta: Vec::new(),
    };
    let publication_id = submit::publication_id(&wanted.batch, &letter)?;
    let Sent { submission, .. } = submit::send(&client, &letter, &wanted.batch, &publication_id)?;
    let deadline = Instant::now() + Duration::from_secs(wanted.wait.unwrap_or(0));
    let answer = if wanted.wait.is_some() { wait(place, &client, &submission, deadline)? } else { None };
    let said = match &answer {
        None => "not yet answered",
        Some((true, _)) => "refused",
        Some((false, _)) => "accepted",
    };
    let life = answer.map_or(Value::Null, |(_, life)| life);
    let reasons = submit::reasons(&life);
    let colon = if reasons.is_empty() { "" } else { ": " };
    let text = format!("submission {submission}: {said}{colon}{reasons}");
    let status = if said == "refused" { 3 } else { 0 };
    Ok(Report { json: json!({ "submission": submission, "answer": said, "life": life }), text, status })
}

/// The project of a delivery in the mailbox.
fn project_of(client: &Client, owner: &MailboxAddress, handle: &str) -> Result<String, Failed> {
    let mut found = None;
    for folder in ["inbox", "bin"] {
        every_item(client, owner, folder, |item| {
            if item.pointer("/from/handle").and_then(Value::as_str) == Some(handle) {
                found = item.pointer("/meta/project").and_then(Value::as_str).map(str::to_owned);
            }
            Ok(())
        })?;
    }
    let text = "no delivery with this handle is in the mailbox, or nothing may come back: say --project NAME if it was deleted";
    found.ok_or_else(|| Failed::Usage(text.to_owned()))
}
