//! `zegel inbox` and `zegel receipts`: what lies in a box.

use super::{Place, address, every_item, own_address};
use crate::cli::{Folder, Inbox, InboxGet, Receipts};
use crate::client::{Client, escape, list, number, text};
use crate::failed::{Failed, at};
use crate::folder::private_folder;
use crate::split;
use crate::submit;
use crate::term::{Report, row, table};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;
use zegel_crypto::signed::Identity;
use zegel_ttp::split::SEALED_NAME;

/// Lists, reads, moves or deletes.
///
/// # Errors
/// The platform refuses or is away; a file cannot be written.
pub fn run(place: &Place, wanted: &Inbox) -> Result<Report, Failed> {
    if let Some(InboxGet::Get { server, id, out, address, key, certificate }) = &wanted.get {
        let identity =
            key.as_ref().zip(certificate.as_ref()).map(|(key, certificate)| Identity::load(key, certificate));
        let identity = identity.transpose().map_err(|error| Failed::Usage(error.to_string()))?;
        let folder = place.folder()?;
        let owner = own_address(&folder, address.as_deref())?;
        return get(&folder.owner(server, &owner)?, &format!("/v1/boxes/{owner}"), (id, out), identity.as_ref());
    }
    let owner = address(wanted.address.as_deref().unwrap_or_default())?;
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
    let items = list(&page, "items");
    let told = match wanted.folder {
        _ if items.is_empty() => format!("no messages in the {}", wanted.folder.name()),
        Folder::Sent => sent(items),
        Folder::Inbox | Folder::Bin => received(items),
    };
    Ok(Report::new(page, told))
}

fn received(items: &[Value]) -> String {
    let mut rows = vec![row(["ID", "FROM", "TYPE", "TITLE", "BYTES"])];
    for item in items {
        let bytes: u64 = list(item, "parts").iter().map(|part| number(part, "size")).sum();
        let [id, kind, title] = ["id", "content_type", "title"].map(|field| text(item, field));
        rows.push(row([id, &from(item), kind, title, &bytes.to_string()]));
    }
    table(&rows)
}

fn sent(items: &[Value]) -> String {
    let mut rows = vec![row(["SUBMISSION", "PUBLICATION ID", "TO", "TITLE", "BYTES"])];
    for item in items {
        let to = list(item, "recipients").iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
        let [id, publication_id, title] = ["submission", "publication_id", "title"].map(|field| text(item, field));
        rows.push(row([id, publication_id, &to, title, &number(item, "size").to_string()]));
    }
    table(&rows)
}

/// Shows what a sender was told, or the life of one submission.
///
/// # Errors
/// The platform refuses or is away.
pub fn receipts(place: &Place, wanted: &Receipts) -> Result<Report, Failed> {
    let owner = address(&wanted.address)?;
    let client = place.folder()?.owner(&wanted.server, &owner)?;
    if let Some(submission) = &wanted.submission {
        let life = client.get(&format!("/v1/submissions/{}", escape(submission)), &[])?;
        let text = format!("{life:#}");
        return Ok(Report::new(life, text));
    }
    let mut all = Vec::new();
    every_item(&client, &owner, "inbox", |item| {
        all.extend(item.get("notice").filter(|notice| notice.is_object()).cloned());
        Ok(())
    })?;
    let told = if all.is_empty() { "no receipts".to_owned() } else { notices(&all) };
    Ok(Report::new(json!({ "receipts": all }), told))
}

fn notices(all: &[Value]) -> String {
    let mut rows = vec![row(["SUBMISSION", "PUBLICATION ID", "RECIPIENT", "WHAT", "WHY"])];
    for notice in all {
        let [submission, id, recipient] =
            ["submission", "publication_id", "recipient"].map(|field| text(notice, field));
        let reason = notice.get("reason").filter(|reason| reason.is_object());
        let what = match reason {
            None => text(notice, "ack"),
            // The TTP does not know the sender's reference: what it says under its own is no final answer.
            Some(_) if id.is_empty() => "NOTE",
            Some(_) => "ERROR",
        };
        rows.push(row([submission, id, recipient, what, &reason.map(submit::reason).unwrap_or_default()]));
    }
    table(&rows)
}

/// Writes a message's documents, and says what goes back under which handle.
fn get(client: &Client, base: &str, (item, out): (&str, &Path), identity: Option<&Identity>) -> Result<Report, Failed> {
    let item = &escape(item);
    let message = client.get(&format!("{base}/items/{item}"), &[])?;
    private_folder(out)?;
    let mut parts = download_parts(client, base, item, &message, out)?;
    if let (Some(identity), [delivered, sealed]) = (identity, &parts[..])
        && sealed.ends_with(SEALED_NAME)
    {
        let (joined, content) = (out.join("joined.csv"), split::join(delivered, sealed, identity)?);
        new_file(&joined)?.write_all(&content).map_err(at(&joined))?;
        parts.push(joined);
    }
    let mut told: String = parts.iter().map(|path| format!("{}\n", path.display())).collect();
    let handle = message.pointer("/from/handle").and_then(Value::as_str);
    let said = |name: &str| message.pointer(&format!("/meta/{name}")).and_then(Value::as_str);
    if let Some(handle) = handle {
        told.push_str(&format!("handle: {handle}\n"));
    }
    for (name, text) in
        [("project", "project"), ("return_until", "may come back until"), ("returns", "comes back for submission")]
    {
        if let Some(value) = said(name) {
            told.push_str(&format!("{text}: {value}\n"));
        }
    }
    let json = json!({
        "parts": parts, "handle": handle, "project": said("project"), "return_until": said("return_until"),
        "returns": said("returns"), "message": message,
    });
    Ok(Report::new(json, told))
}

fn read(client: &Client, base: &str, item: &str, out: Option<&Path>) -> Result<Report, Failed> {
    let item = &escape(item);
    let message = client.get(&format!("{base}/items/{item}"), &[])?;
    let mut told = format!("{message:#}");
    if let Some(folder) = out {
        private_folder(folder)?;
        told.clear();
        for path in download_parts(client, base, item, &message, folder)? {
            told.push_str(&format!("{}\n", path.display()));
        }
        if told.is_empty() {
            told = "the message has no documents".to_owned();
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
        let mut file = new_file(&path)?;
        client.download(&format!("{base}/items/{item}/parts/{place}"), &mut file)?;
        written.push(path);
    }
    Ok(written)
}

/// A file that was not there: each delivery of a project has the same names, and somebody may have worked on the last one.
fn new_file(path: &Path) -> Result<File, Failed> {
    File::create_new(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            let text = format!("{} is there already: choose another folder with --out", path.display());
            Failed::refused("file-exists", text)
        }
        _ => at(path)(error),
    })
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
