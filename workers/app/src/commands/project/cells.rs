//! `zegel project cells`: what the small-cell rule of a project held back, batch by batch and in sum.

use crate::client::{Client, escape, number};
use crate::commands::every;
use crate::failed::Failed;
use crate::term::{Report, row, table};
use serde_json::{Value, json};
use zegel_ttp::ProjectDocument;

const COLUMNS: [&str; 5] = ["classes", "classes_held", "patients_new", "patients_held", "rows_held"];

/// Shows the rule, the level to which each quasi-identifier is generalised, and the reports.
///
/// # Errors
/// The platform refuses or is away; the project has no such rule.
pub fn show(client: &Client, name: &str) -> Result<Report, Failed> {
    let path = format!("/v1/projects/{}", escape(name));
    let details = client.get(&path, &[])?;
    let document = details["document"].as_str().and_then(|text| ProjectDocument::parse(text).ok());
    let rule = document.as_ref().map(levels).transpose()?;
    let mut sums = [0u64; COLUMNS.len()];
    let mut rows = vec![row(["AT", "CLASSES", "OF THEM HELD", "PATIENTS NEW", "PATIENTS HELD", "ROWS HELD"])];
    let mut all = Vec::new();
    every(client, &format!("{path}/cells"), "reports", "after", |report| {
        let counts = COLUMNS.map(|column| number(report, column));
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        rows.push(line(&instant(report), counts));
        all.push(report.clone());
        Ok(())
    })?;
    // A class counts once in each batch that has rows of it, so classes are not summed.
    rows.push(row(["in all", "", "", &sums[2].to_string(), &sums[3].to_string(), &sums[4].to_string()]));
    let text = match rule {
        Some(rule) => format!("{rule}\n\n{}", table(&rows)),
        None => table(&rows),
    };
    let json = json!({
        "project": name, "reports": all,
        "patients_new": sums[2], "patients_held": sums[3], "rows_held": sums[4],
    });
    Ok(Report::new(json, text))
}

/// The rule in words, with the level of each quasi-identifier.
fn levels(document: &ProjectDocument) -> Result<String, Failed> {
    let Some(cells) = &document.small_cells else {
        return Err(Failed::refused("ZGL-NOT-FOUND", "the project lists no quasi-identifiers: small_cells is not set"));
    };
    let level = |path: &String| {
        let field = document.fields.iter().find(|field| field.path == *path);
        let to = field.and_then(|field| field.to.as_ref()).map_or("as delivered".to_owned(), ToString::to_string);
        format!("{path} ({to})")
    };
    let quasi: Vec<String> = cells.quasi.iter().map(level).collect();
    Ok(format!("a class, by {}, is shown with at least {} new patients or not at all", quasi.join(", "), cells.k))
}

fn line(at: &str, counts: [u64; COLUMNS.len()]) -> Vec<String> {
    let counts = counts.map(|count| count.to_string());
    row([at, &counts[0], &counts[1], &counts[2], &counts[3], &counts[4]])
}

fn instant(report: &Value) -> String {
    let at = report["at"].as_i64().and_then(chrono::DateTime::from_timestamp_millis);
    at.map_or("earlier".to_owned(), |at| at.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}
