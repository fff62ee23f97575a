//! `zegel quarantine`: batches that were refused and stand still, for the officer and for the hospital's engineer on the telephone.
//!
//! A batch is shown by who sent it, its size and SHA-256, and what its sender was told; never by its content or file name.

use super::{Place, address, every};
use crate::cli::{Quarantine, Server};
use crate::client::{Client, escape, list, number, text};
use crate::failed::Failed;
use crate::term::{Report, row, table};
use serde_json::{Value, json};

/// Lists, shows, releases or drops.
///
/// # Errors
/// The platform refuses or is away.
pub fn run(place: &Place, wanted: &Quarantine) -> Result<Report, Failed> {
    let operator = |server: &Server| place.folder()?.operator(server);
    match wanted {
        Quarantine::List { server, project } => stands_still(&operator(server)?, project.as_deref()),
        Quarantine::Show { server, batch } => {
            let path = path_of(batch)?;
            let found = operator(server)?.get(&path, &[])?;
            let told = told(batch, &found)?;
            Ok(Report::new(found, told))
        }
        Quarantine::Release { server, batch } => {
            let answer = operator(server)?.post(&format!("{}/release", path_of(batch)?), &json!({}))?;
            let told = match text(&answer, "submission") {
                "" => format!("{batch}: ordered; the project's other batches go first"),
                submission => format!("{batch} is judged anew as submission {submission}"),
            };
            Ok(Report::new(answer, told))
        }
        Quarantine::Drop { server, batch } => {
            operator(server)?.delete(&path_of(batch)?)?;
            Ok(Report::new(json!({ "dropped": batch }), format!("{batch} dropped")))
        }
    }
}

fn stands_still(client: &Client, project: Option<&str>) -> Result<Report, Failed> {
    let names: Vec<String> = match project {
        Some(name) => vec![name.to_owned()],
        None => {
            let counts = client.get("/v1/quarantine", &[])?;
            let holding = list(&counts, "projects").iter().filter(|count| number(count, "held") > 0);
            holding.map(|count| text(count, "project").to_owned()).collect()
        }
    };
    let mut rows = vec![row(["BATCH", "AT", "SENDER", "REFERENCE", "CODE", "BAD ROWS", "BYTES"])];
    let mut all = Vec::new();
    for name in names {
        every(client, &format!("/v1/quarantine/{}", escape(&name)), "batches", "below", |batch| {
            let reason = &batch["reason"];
            let bad = number(reason, "bad_rows").to_string();
            rows.push(row([
                &format!("{name}/{}", number(batch, "number")),
                &instant(batch),
                &sender(batch)?,
                text(batch, "publication_id"),
                text(reason, "code"),
                if bad == "0" { "" } else { &bad },
                &number(batch, "size").to_string(),
            ]));
            let mut one = batch.clone();
            one["project"] = json!(name);
            all.push(one);
            Ok(())
        })?;
    }
    let told = if all.is_empty() { "nothing stands still".to_owned() } else { table(&rows) };
    Ok(Report::new(json!({ "batches": all }), told))
}

fn told(name: &str, batch: &Value) -> Result<String, Failed> {
    let reason = &batch["reason"];
    let code = text(reason, "code");
    let help = schemas::codes::find(code).map_or("see zegel dead list", |code| code.help);
    let mut lines = vec![
        format!("{:11} {name}, refused {}", if is_return(batch) { "return" } else { "batch" }, instant(batch)),
        format!("sender      {}, reference {}", sender(batch)?, text(batch, "publication_id")),
        format!("submission  {}", text(batch, "submission")),
        format!("content     {} bytes, SHA-256 {}", number(batch, "size"), text(batch, "digest")),
        format!("reason      {code}: {}", text(reason, "text")),
        format!("what helps  {help}"),
    ];
    if !batch["kept"].as_bool().unwrap_or_default() {
        lines.push("            a stranger sent it, or it names no exchange: its content was not kept".to_owned());
    }
    let bad = list(reason, "rows");
    if !bad.is_empty() {
        let mut rows = vec![row(["ROW", "FIELD", "CODE", "WHAT HELPS"])];
        rows.extend(bad.iter().map(|bad| {
            let help = schemas::codes::find(text(bad, "code")).map_or("", |code| code.help);
            row([&number(bad, "row").to_string(), text(bad, "field"), text(bad, "code"), help])
        }));
        lines.push(String::new());
        lines.push(table(&rows));
        if number(reason, "bad_rows") > bad.len() as u64 {
            lines.push("only the first are named".to_owned());
        }
    }
    Ok(lines.join("\n"))
}

fn is_return(batch: &Value) -> bool {
    batch["is_return"].as_bool().unwrap_or_default()
}

fn instant(batch: &Value) -> String {
    let at = batch["at"].as_i64().and_then(chrono::DateTime::from_timestamp_millis);
    at.map(|at| at.format("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default()
}

fn sender(batch: &Value) -> Result<String, Failed> {
    address(text(batch, "sender")).map(|sender| crate::folder::shown(&sender))
}

fn path_of(batch: &str) -> Result<String, Failed> {
    match batch.split_once('/') {
        Some((project, number)) if !project.is_empty() && number.parse::<u64>().is_ok_and(|number| number > 0) => {
            Ok(format!("/v1/quarantine/{}/{number}", escape(project)))
        }
        _ => Err(Failed::Usage("a batch is PROJECT/NUMBER, like lab-registry/3".to_owned())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_named_by_project_and_number() {
        assert_eq!(path_of("lab-registry/3").ok().as_deref(), Some("/v1/quarantine/lab-registry/3"));
        assert_eq!(path_of("a b/3").ok().as_deref(), Some("/v1/quarantine/a%20b/3"));
        for wrong in ["lab-registry", "lab-registry/", "lab-registry/0", "/3", "lab-registry/3/drop", "lab-registry/x"]
        {
            assert!(path_of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_engineer_reads_which_rows_are_bad_and_what_helps() {
        let batch = json!({
            "at": 0, "sender": "NIHII-HOSPITAL:71000436", "publication_id": "P1", "submission": "0", "size": 7,
            "digest": "00", "kept": true,
            "reason": { "code": "ZGL-TTP-ROWS", "text": "2 of 3 rows are bad", "bad_rows": 2,
                "rows": [{ "row": 3, "field": "niss", "code": "ZGL-ROW-SSIN" }] }
        });
        let told = told("lab-registry/1", &batch).unwrap();
        for wanted in ["correct the rows that are listed", "ZGL-ROW-SSIN", "niss", "only the first are named"] {
            assert!(told.contains(wanted), "{wanted}: {told}");
        }
    }
}
