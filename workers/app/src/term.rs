//! What the program prints: one report per command, as text or as JSON, and progress on a terminal only.
//!
//! Failure behaviour: a closed pipe (`zegel … | head`) is no error.

use crate::failed::Failed;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// What a command has to say at its end.
pub struct Report {
    /// For `--json`: one object on one line.
    pub json: Value,
    /// For people.
    pub text: String,
    /// The exit status; 1 when a check found something.
    pub status: u8,
}

impl Report {
    /// A report of success.
    pub fn new(json: Value, text: impl Into<String>) -> Report {
        Report { json, text: text.into(), status: 0 }
    }
}

/// Prints a report and returns the exit status.
pub fn finish(outcome: Result<Report, Failed>, json: bool) -> u8 {
    match outcome {
        Ok(report) => {
            line(&if json { report.json.to_string() } else { report.text });
            report.status
        }
        Err(failed) => {
            if json {
                line(&json!({ "error": { "code": failed.code(), "text": failed.to_string() } }).to_string());
            }
            // Standard error may be closed too; the exit status still says it.
            let _closed = writeln!(io::stderr(), "zegel: {failed}");
            failed.status()
        }
    }
}

/// Writes one line (or several) to standard output and flushes it.
pub fn line(text: &str) {
    let mut out = io::stdout().lock();
    let trimmed = text.trim_end_matches('\n');
    if trimmed.is_empty() {
        return;
    }
    // A reader that went away (`| head`) has seen enough.
    let _closed = writeln!(out, "{trimmed}").and_then(|()| out.flush());
}

/// Columns of text, as wide as their widest cell; the first row is the head.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| {
            let fill = width.saturating_sub(cell.chars().count());
            format!("{cell}{}", " ".repeat(fill))
        });
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// A row of [`table`].
pub fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.into_iter().map(str::to_owned).collect()
}

/// Something that turns on a terminal while the program waits, and is silent in a pipe.
pub fn spinner(quiet: bool) -> ProgressBar {
    if quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner();
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

/// A bar over a known number of bytes, on a terminal only.
pub fn bytes_bar(quiet: bool, total: u64) -> ProgressBar {
    if quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec}") {
        bar.set_style(style);
    }
    bar
}

/// Waits on the calling thread.
#[allow(clippy::disallowed_methods)] // commands run on threads of their own, never on one of the async runtime's
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_blanks() {
        let text = table(&[row(["name", "n"]), row(["é", "10"]), row(["longer", ""])]);
        assert_eq!(text, "name    n\né       10\nlonger\n");
    }
}
