//! `zegel inbox` and `zegel receipts`: what lies in a box.

use super::{Place, address, every_item};
use crate::cli::{Inbox, Receipts};
use crate::client::{Client, list, number, text};
use crate::failed::{Failed, at};
use crate::folder::private_folder;
use crate::term::{Report, row, table};
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;

/// Lists, reads, moves or deletes.
///
/// # Errors
/// The platform refuses or is away; a file cannot be written.
pub fn run(place: &Place, wanted: &Inbox) -> Result<Report, Failed> {
    let owner = address(&wanted.address)?;
    let client = place.folder()?.owner(&wanted.server, &owner)?;
    let base = format!("/v1/boxes/{owner}");
    if let Some(item) = &wanted.read {
        return read(&client, &base, item, wanted.out.as_deref());
    }
    if let Some(to) = wanted.move_to {
        let answer = client.post(&format!("{base}/move"), &json!({ "items": wanted.items, "to": to.name() }))?;
        return Ok(applied(answer, "moved"));
    }
    if wanted.delete {
        let answer = client.post(&format!("{base}/delete"), &json!({ "items": wanted.items }))?;
        return Ok(applied(answer, "deleted"));
    }
    let (start, limit) = (wanted.start.to_string(), wanted.limit.to_string());
    let page = client.get(&format!("{base}/{}", wanted.folder.name()), &[("start", &start), ("limit", &limit)])?;
    let mut rows = vec![row(["ID", "FROM", "TYPE", "TITLE", "BYTES"])];
    for item in list(&page, "items") {
        let bytes: u64 = list(item, "parts").iter().map(|part| number(part, "size")).sum();
        rows.push(row([
            text(item, "id"),
            &from(item),
            text(item, "content_type"),
            text(item, "title"),
            &bytes.to_string(),
        ]));
    }
    Ok(Report::new(page, table(&rows)))
}

/// Shows what a sender was told, or the life of one submission.
///
/// # Errors
/// The platform refuses or is away.
pub fn receipts(place: &Place, wanted: &Receipts) -> Result<Report, Failed> {
    let owner = address(&wanted.address)?;
    let client = place.folder()?.owner(&wanted.server, &owner)?;
    if let Some(submission) = &wanted.submission {
        let life = client.get(&format!("/v1/submissions/{submission}"), &[])?;
        let text = format!("{life:#}");
        return Ok(Report::new(life, text));
    }
    let mut rows = vec![row(["PUBLICATION ID", "RECIPIENT", "WHAT", "CODE", "WHY"])];
    let mut all = Vec::new();
    every_item(&client, &owner, "inbox", |item| {
        let Some(notice) = item.get("notice").filter(|notice| notice.is_object()) else { return Ok(()) };
        let reason = notice.get("reason").cloned().unwrap_or(Value::Null);
        let what = if reason.is_null() { text(notice, "ack") } else { "ERROR" };
        let (code, why) = (text(&reason, "code"), text(&reason, "text"));
        rows.push(row([text(notice, "publication_id"), text(notice, "recipient"), what, code, why]));
        all.push(notice.clone());
        Ok(())
    })?;
    Ok(Report::new(json!({ "receipts": all }), table(&rows)))
}

fn read(client: &Client, base: &str, item: &str, out: Option<&Path>) -> Result<Report, Failed> {
    let message = client.get(&format!("{base}/items/{item}"), &[])?;
    let mut told = format!("{message:#}");
    if let Some(folder) = out {
        private_folder(folder)?;
        told.clear();
        for path in download_parts(client, base, item, &message, folder)? {
            told.push_str(&format!("{}\n", path.display()));
        }
    }
    Ok(Report::new(message, told))
}

/// Writes a message's documents into a folder under their own names; a name is never a path.
///
/// # Errors
/// The platform refuses or is away; a file cannot be written.
pub fn download_parts(
    client: &Client,
    base: &str,
    item: &str,
    message: &Value,
    folder: &Path,
) -> Result<Vec<std::path::PathBuf>, Failed> {
    let mut written = Vec::new();
    for (place, part) in list(message, "parts").iter().enumerate() {
        let name = Path::new(text(part, "file_name")).file_name().map_or_else(|| "part".into(), ToOwned::to_owned);
        let path = folder.join(name);
        let mut file = File::create(&path).map_err(at(&path))?;
        client.download(&format!("{base}/items/{item}/parts/{place}"), &mut file)?;
        written.push(path);
    }
    Ok(written)
}

/// Who a message says it comes from.
fn from(item: &Value) -> String {
    match item.get("from") {
        Some(Value::String(word)) => word.clone(),
        Some(Value::Object(fields)) => fields
            .iter()
            .next()
            .map(|(kind, value)| format!("{kind} {}", value.as_str().unwrap_or_default()))
            .unwrap_or_default(),
        _ => String::new(),
    }
}

fn applied(answer: Value, what: &str) -> Report {
    let (done, unknown) = (list(&answer, "applied").len(), list(&answer, "unknown").len());
    let told = format!("{done} {what}, {unknown} not found");
    Report::new(answer, told)
}
