//! What a recipient would get, and every bad row that a sender would be told of, without sending anything.
//!
//! Tokens are made under a key that is thrown away, so a preview teaches nobody the tokens of a project.

use crate::commands::address;
use crate::failed::{Failed, at};
use crate::split;
use crate::submit;
use crate::term::{Report, row, table};
use schemas::MailboxAddress;
use schemas::messages::{BadRow, Reason};
use serde_json::json;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use zegel_core::Keys;
use zegel_crypto::Keyring;
use zegel_ttp::{CompiledProject, ProjectDocument, ScratchDir, Summary, TransformError, transform};

/// Bad rows that are named: more than anybody reads, few enough to hold.
const ROWS_NAMED: usize = 100_000;
/// Bad rows that are told on a terminal; the JSON has all of them.
const ROWS_TOLD: usize = 100;
/// Read and written at a time.
const BUFFER: usize = 256 << 10;

/// `zegel project try`.
///
/// # Errors
/// The document or the batch cannot be read, or the preview not be written.
pub fn preview(document: &Path, batch: &Path, out: &Path, sender: Option<&str>) -> Result<Report, Failed> {
    let text = fs::read_to_string(document).map_err(at(document))?;
    let document =
        ProjectDocument::parse(&text).map_err(|error| Failed::Usage(format!("{}: {error}", document.display())))?;
    let sender = sender.map(address).transpose()?.unwrap_or_else(|| document.senders[0].clone());
    let mut file = File::create(out).map_err(at(out))?;
    let mut input = opened(&document, batch)?;
    let outcome = run(thrown_away(document)?, (batch, &mut *input), &sender, &mut file)?;
    if outcome.is_err() {
        // Nothing would be delivered, so nothing is shown.
        fs::remove_file(out).map_err(at(out))?;
    }
    Ok(report(outcome, &format!("preview in {}", out.display())))
}

/// `zegel send --dry-run`.
///
/// # Errors
/// The document or the batch cannot be read.
pub fn rehearse(document: &str, batch: &Path, sender: &MailboxAddress) -> Result<Report, Failed> {
    let document = ProjectDocument::parse(document).map_err(|error| Failed::Failure(error.to_string()))?;
    let mut input = opened(&document, batch)?;
    Ok(report(run(thrown_away(document)?, (batch, &mut *input), sender, &mut io::sink())?, "nothing was sent"))
}

/// The batch as it would be sent: of a split project in its two parts.
///
/// # Errors
/// The file cannot be read, or not be cut.
pub fn opened(document: &ProjectDocument, batch: &Path) -> Result<Box<dyn BufRead>, Failed> {
    if document.split.is_some() && !split::is_container(batch) {
        return Ok(Box::new(io::Cursor::new(split::cut(document, batch)?)));
    }
    Ok(Box::new(BufReader::with_capacity(BUFFER, File::open(batch).map_err(at(batch))?)))
}

/// The project under a key that nobody keeps.
fn thrown_away(document: ProjectDocument) -> Result<CompiledProject, Failed> {
    let mut root = [0; 32];
    Keyring::generate_in_memory().random(&mut root);
    CompiledProject::new(document, &root).map_err(|error| Failed::Usage(error.to_string()))
}

/// Puts a batch through; what comes of it, or why it is refused.
///
/// # Errors
/// A file cannot be read or written.
pub fn run(
    mut project: CompiledProject,
    (batch, mut input): (&Path, &mut dyn BufRead),
    sender: &MailboxAddress,
    out: &mut dyn Write,
) -> Result<Result<Summary, Reason>, Failed> {
    let keys = Keyring::generate_in_memory();
    project.name_rows(ROWS_NAMED);
    let mut output = BufWriter::with_capacity(BUFFER, out);
    let folder = std::env::temp_dir();
    let scratch = ScratchDir { folder: &folder, keys: &keys };
    let mut random = |bytes: &mut [u8]| keys.random(bytes);
    match transform(&project, sender, &mut input, &mut output, Some(scratch), &mut random) {
        Ok(summary) => {
            output.flush()?;
            Ok(Ok(summary))
        }
        Err(TransformError::Refused(reason)) => Ok(Err(*reason)),
        Err(TransformError::Io(error) | TransformError::Scratch(error)) => Err(at(batch)(error)),
    }
}

/// What is said of an outcome.
pub fn report(outcome: Result<Summary, Reason>, what: &str) -> Report {
    match outcome {
        Ok(summary) => {
            let text =
                format!("{} rows in, {} rows out: {what}\n{}", summary.rows_in, summary.rows_out, rows(&summary.bad));
            Report::new(json!({ "would_be": "delivered", "summary": summary }), text)
        }
        Err(reason) => {
            let short = Reason { rows: Vec::new(), ..reason.clone() };
            let told = serde_json::to_value(&short).map(|value| submit::reason(&value)).unwrap_or_default();
            let text = format!("would be refused: {told}\n{}", rows(&reason.rows));
            Report { json: json!({ "would_be": "refused", "reason": reason }), text, status: 3 }
        }
    }
}

/// The bad rows as a table; rows count from 1 after the header.
fn rows(bad: &[BadRow]) -> String {
    if bad.is_empty() {
        return String::new();
    }
    let mut lines = vec![row(["ROW", "FIELD", "CODE", "WHAT TO DO"])];
    for BadRow { row: number, field, code } in bad.iter().take(ROWS_TOLD) {
        let help = schemas::codes::find(code).map_or("", |code| code.help);
        lines.push(row([&number.to_string(), field, code, help]));
    }
    let more = bad.len().saturating_sub(ROWS_TOLD);
    let rest = if more > 0 { format!("and {more} more: --json names them") } else { String::new() };
    table(&lines) + &rest
}
