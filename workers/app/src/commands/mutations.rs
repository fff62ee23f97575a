//! `zegel mutations`: who follows whom, the registry's events, and the subscribers' feeds.

use super::{Place, address, read_text};
use crate::cli::Mutations;
use crate::client::{list, number, text};
use crate::failed::Failed;
use crate::term::{Report, row, table};
use serde_json::{Value, json};
use std::path::Path;

/// Lines of events in one call: far below the platform's limit on a body.
const LINES: usize = 5_000;

/// Inscribes, feeds, pulls or acknowledges.
///
/// # Errors
/// The platform refuses or is away.
pub fn run(place: &Place, wanted: &Mutations) -> Result<Report, Failed> {
    let folder = place.folder()?;
    match wanted {
        Mutations::Inscribe { server, organisation, file, from, until, withdraw } => {
            let organisation = address(organisation)?;
            let client = folder.owner_or_operator(server, &organisation)?;
            let mut accepted = 0;
            for ssin in read_text(file)?.lines().map(str::trim).filter(|line| !line.is_empty()) {
                let mut body =
                    json!({ "organisation": organisation, "ssin": ssin, "from": from, "withdraw": withdraw });
                if let Some(until) = until {
                    body["until"] = json!(until);
                }
                accepted += number(&client.post("/v1/inscriptions", &body)?, "accepted");
            }
            Ok(Report::new(json!({ "accepted": accepted }), format!("{accepted} inscriptions accepted")))
        }
        Mutations::Feed { server, file } => feed(&folder.operator(server)?, file),
        Mutations::Pull { server, organisation, after, limit } => {
            let organisation = address(organisation)?;
            let client = folder.owner(server, &organisation)?;
            let (after, limit) = (after.to_string(), limit.to_string());
            let page = client.get(&format!("/v1/feeds/{organisation}"), &[("after", &after), ("limit", &limit)])?;
            let mut rows = vec![row(["NUMBER", "KIND", "DATE"])];
            for told in list(&page, "notifications") {
                let mutation = told.get("mutation").unwrap_or(told);
                rows.push(row([&number(told, "number").to_string(), text(mutation, "kind"), text(mutation, "date")]));
            }
            let told = if rows.len() == 1 { "no notifications".to_owned() } else { table(&rows) };
            Ok(Report::new(page, told))
        }
        Mutations::Ack { server, organisation, up_to } => {
            let organisation = address(organisation)?;
            let client = folder.owner(server, &organisation)?;
            let answer = client.post(&format!("/v1/feeds/{organisation}/ack"), &json!({ "up_to": up_to }))?;
            // Less than was asked for when the feed does not go so far, more when it was acknowledged before.
            let told = match answer.get("acked").and_then(Value::as_u64) {
                Some(acked) => format!("acknowledged up to {acked}"),
                None => "taken, but not applied yet".to_owned(),
            };
            Ok(Report::new(answer, told))
        }
    }
}

fn feed(client: &crate::client::Client, file: &Path) -> Result<Report, Failed> {
    let events = read_text(file)?;
    let lines: Vec<&str> = events.lines().filter(|line| !line.trim().is_empty()).collect();
    let mut accepted = 0;
    for batch in lines.chunks(LINES) {
        let body = batch.join("\n");
        accepted +=
            number(&client.post_bytes("/v1/mutations", &[], "application/x-ndjson", body.as_bytes())?, "accepted");
    }
    Ok(Report::new(json!({ "accepted": accepted }), format!("{accepted} events accepted")))
}
