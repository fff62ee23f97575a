//! Fetches what the day left at the recipients and writes it into `out/`, again over HTTP as its owners would.

use super::ground::Ground;
use super::plan::{LETTERS, Plan};
use super::scenario::{Day, Scenario};
use crate::client::{list, text};
use crate::commands::inbox::download_parts;
use crate::commands::{every_item, timestamp};
use crate::failed::{Failed, at};
use crate::folder::{folder_name, private_folder, shown};
use schemas::MailboxAddress;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

/// One message that a recipient of a project got.
pub struct Delivered {
    /// Who got it.
    pub recipient: MailboxAddress,
    /// Its title, names and handle: everything but the content.
    pub message: Value,
    /// Its documents, as they were written.
    pub files: Vec<PathBuf>,
}

/// What was found.
#[derive(Default)]
pub struct Found {
    /// What recipients of projects got.
    pub delivered: Vec<Delivered>,
    /// The letters in the second hospital's box, oldest first: their titles.
    pub letters: Vec<String>,
    /// Acknowledgements and errors, as they stand in `receipts.ndjson`.
    pub receipts: Vec<Value>,
    /// Bags that were written.
    pub bags: u64,
}

/// Fetches everything.
///
/// # Errors
/// The platform refuses or is away; a file cannot be written; a receipt does not come in time.
pub fn collect(ground: &Ground, plan: &Plan, scenario: &Scenario<'_>, day: &Day) -> Result<Found, Failed> {
    let mut found = Found::default();
    scenario.say("fetching what recipients got");
    let recipients: BTreeSet<&MailboxAddress> = plan.projects.iter().map(|project| &project.recipient).collect();
    for recipient in recipients {
        deliveries(ground, scenario, recipient, &mut found)?;
    }
    letters(ground, plan, scenario, &mut found)?;
    scenario.say("waiting for receipts");
    scenario.until("receipts", || {
        found.receipts = receipts(plan, scenario)?;
        let count = |kind: &str| found.receipts.iter().filter(|receipt| text(receipt, "type") == kind).count();
        let finals = found.receipts.iter().filter(|receipt| receipt["final"] == true).count();
        Ok(finals >= day.submitted.len() && count("RECEIVED") >= LETTERS && count("READ") >= LETTERS)
    })?;
    let path = ground.out().join("receipts.ndjson");
    let mut out = BufWriter::new(File::create(&path).map_err(at(&path))?);
    for receipt in &found.receipts {
        writeln!(out, "{receipt}").map_err(at(&path))?;
    }
    out.flush().map_err(at(&path))?;
    scenario.say("fetching bags");
    bags(ground, plan, scenario, &mut found)?;
    Ok(found)
}

fn deliveries(
    ground: &Ground,
    scenario: &Scenario<'_>,
    recipient: &MailboxAddress,
    found: &mut Found,
) -> Result<(), Failed> {
    let client = scenario.owner(recipient)?;
    let mut ids = Vec::new();
    every_item(client, recipient, "inbox", |item| {
        // Letters of known senders are no work of the TTP.
        let hidden = item.get("from").is_some_and(|from| from.get("handle").is_some());
        if hidden && text(item, "content_type") == "DOCUMENT" {
            ids.push(text(item, "id").to_owned());
        }
        Ok(())
    })?;
    let base = format!("/v1/boxes/{recipient}");
    for id in ids.into_iter().rev() {
        let message = client.get(&format!("{base}/items/{id}"), &[])?;
        let folder = ground.out_folder(&format!("recipient/{id}"))?;
        let files = download_parts(client, &base, &id, &message, &folder)?;
        found.delivered.push(Delivered { recipient: recipient.clone(), message, files });
    }
    Ok(())
}

/// The second hospital lists its box (RECEIVED), and opens each letter (READ).
fn letters(ground: &Ground, plan: &Plan, scenario: &Scenario<'_>, found: &mut Found) -> Result<(), Failed> {
    let owner = &plan.hospitals[1];
    let client = scenario.owner(owner)?;
    let mut letters = Vec::new();
    every_item(client, owner, "inbox", |item| {
        if item.get("from").is_some_and(|from| from.get("sender").is_some()) {
            letters.push((text(item, "id").to_owned(), text(item, "title").to_owned()));
        }
        Ok(())
    })?;
    letters.reverse();
    let base = format!("/v1/boxes/{owner}");
    for (id, title) in letters {
        let message = client.get(&format!("{base}/items/{id}"), &[])?;
        let folder = ground.hospital(owner, "inbox")?.join(&id);
        private_folder(&folder)?;
        download_parts(client, &base, &id, &message, &folder)?;
        found.letters.push(title);
    }
    Ok(())
}

/// Every acknowledgement and error in the senders' boxes.
fn receipts(plan: &Plan, scenario: &Scenario<'_>) -> Result<Vec<Value>, Failed> {
    let mut senders: BTreeSet<&MailboxAddress> = plan.batches.iter().map(|batch| &batch.sender).collect();
    senders.insert(&plan.hospitals[0]);
    let mut all = Vec::new();
    for sender in senders {
        every_item(scenario.owner(sender)?, sender, "inbox", |item| {
            all.extend(item.get("notice").filter(|notice| notice.is_object()).map(line));
            Ok(())
        })?;
    }
    all.sort_by_key(|line| line["at"].as_i64());
    Ok(all)
}

/// A notice as a line of `receipts.ndjson`; a person's number is masked.
fn line(notice: &Value) -> Value {
    let reason = notice.get("reason").filter(|reason| reason.is_object());
    let kind = match reason {
        Some(_) => "ERROR",
        None => text(notice, "ack"),
    };
    let recipient: Option<MailboxAddress> = text(notice, "recipient").parse().ok();
    let mut line = json!({
        "submission": text(notice, "submission"),
        "publication_id": text(notice, "publication_id"),
        "recipient": recipient.as_ref().map(shown),
        "type": kind,
        "code": reason.map(|reason| text(reason, "code")),
        // Without its reference it tells of rows that were left out of a batch that was delivered all the same.
        "final": matches!(kind, "ERROR" | "PUBLISHED") && !text(notice, "publication_id").is_empty(),
        "at": notice["at"],
    });
    if let Some(reason) = reason {
        line["text"] = reason["text"].clone();
        line["rows"] = list(reason, "rows").into();
    }
    line
}

fn bags(ground: &Ground, plan: &Plan, scenario: &Scenario<'_>, found: &mut Found) -> Result<(), Failed> {
    let listings = ground.out_folder("listings")?;
    for hospital in &plan.hospitals {
        let folder = ground.out_folder(&format!("bags/{}", folder_name(hospital)))?;
        let listing = listings.join(format!("{}.ndjson", folder_name(hospital)));
        found.bags += timestamp::fetch(scenario.owner(hospital)?, hospital, &folder, &listing)?;
    }
    timestamp::fetch_ca(scenario.operator(), &ground.out_folder("tsa")?.join("ca.pem"))
}
