//! The speed table: every format with a reversible token, and every action on CSV, on one core.
//!
//! Beside each format the fastest bare loop over the same parser: read, AES-256-SIV of the number, write, no rules. Of the time
//! of a run, `parse_share` is what the parser alone takes over the same bytes, and `crypto_share` what making the same tokens
//! takes without a batch around them. Beside CSV, the same job in Python (`pandas`, and `AESSIV` of `cryptography`), where
//! Python has them. Every figure is the best of [`RUNS`] runs, all in one process on one thread.

mod bare;
mod forms;

use self::forms::{ACTIONS, FORMS, Form, NISS, Patient, csv_with};
use super::transform_with;
use crate::stats::{Histogram, Report, rss_mb};
use anyhow::{Result, anyhow, ensure};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use zegel_crypto::pseudonym::{PseudonymRoot, Reversible, Scope};

const RUNS: usize = 3;
/// Memory that a run may add to the process: two rows, the buffers, and the shuffle's budget.
const FLAT_MB: f64 = 100.0;

/// A delivered row has at least its token.
const ROW_LEAST: u64 = 57;

/// Runs every format and every action over about `mb` megabytes each.
///
/// # Errors
/// When a batch cannot be written or is refused.
pub fn run(folder: &Path, mb: u64) -> Result<Vec<Report>> {
    let mut reports = Vec::new();
    for form in &FORMS {
        crate::deadline::part(form.name);
        let (batch, rows) = generate(folder, form, mb * 1_000_000)?;
        reports.push(measure_form(folder, form, &batch, rows)?);
        if form.name == "csv" {
            for (name, action) in ACTIONS {
                crate::deadline::part(name);
                let mode = if name == "small cells" { "shuffle" } else { "keep" };
                let document = project(&csv_with(action), mode)?;
                let took = best(|| transform_with(&document, &batch, &folder.join("out"), folder))?;
                let report = Report::named(&format!("ttp, csv, {name}, {mb} MB, rows = {mode}"));
                reports.push(report.measured(rows, fs::metadata(&batch)?.len(), took, &Histogram::default()));
            }
            reports.extend(python(folder, &batch, rows)?);
        }
        fs::remove_file(batch)?;
    }
    Ok(reports)
}

/// The document of a measurement.
fn project(text: &str, rows: &str) -> Result<zegel_ttp::CompiledProject> {
    crate::stages::project(&format!(
        "name = \"load\"\nsenders = [\"NIHII-HOSPITAL:71000436\"]\nrecipient = \"CBE:0123456749\"\n\
         valid = {{ from = \"2020-01-01\", until = \"2099-12-31\" }}\nrows = \"{rows}\"\n{text}"
    ))
}

fn measure_form(folder: &Path, form: &Form, batch: &Path, rows: u64) -> Result<Report> {
    let bytes = fs::metadata(batch)?.len();
    let document = project(&form.project.replace("NISS", NISS), "keep")?;
    let before = rss_mb();
    let took = best(|| transform_with(&document, batch, &folder.join("out"), folder))?;
    let grown = rss_mb() - before;
    let parse = best(|| {
        let counted = (form.parse)(batch)?;
        ensure!(counted >= rows, "{}: the parser found {counted} of {rows} rows", form.name);
        Ok(())
    })?;
    let bare = best(|| (form.bare)(batch, &folder.join("bare"), &mut keys()))?;
    fs::remove_file(folder.join("bare"))?;
    let crypto = best(|| tokens(rows))?;
    let share = |part: Duration| (part.as_secs_f64() / took.as_secs_f64() * 100.0).round();
    Ok(Report::named(&format!("ttp, {}, pseudonym, {} MB, rows = keep", form.name, bytes / 1_000_000))
        .measured(rows, bytes, took, &Histogram::default())
        .with("parse_share_percent", share(parse))
        .with("crypto_share_percent", share(crypto))
        .with("bare_loop_rows_per_s", rows as f64 / bare.as_secs_f64())
        .with("ratio_to_bare_loop", bare.as_secs_f64() / took.as_secs_f64())
        .with("rss_mb_grown", grown)
        .goal("memory flat", grown < FLAT_MB))
}

fn best(mut job: impl FnMut() -> Result<()>) -> Result<Duration> {
    let mut least = Duration::MAX;
    for _ in 0..RUNS {
        let started = Instant::now();
        job()?;
        least = least.min(started.elapsed());
    }
    Ok(least)
}

fn generate(folder: &Path, form: &Form, bytes: u64) -> Result<(PathBuf, u64)> {
    let path = folder.join(form.name);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&path)?);
    out.write_all(form.head.as_bytes())?;
    let (mut rows, mut written, mut row) = (0u64, 0u64, String::new());
    while written < bytes {
        row.clear();
        if rows > 0 {
            row.push_str(form.between);
        }
        (form.row)(&Patient::new(rows), &mut row);
        out.write_all(row.as_bytes())?;
        written += row.len() as u64;
        rows += 1;
    }
    out.write_all(form.tail.as_bytes())?;
    out.flush()?;
    Ok((path, rows))
}

fn keys() -> Reversible {
    let scope = Scope { recipient: "CBE:0123456749", domain: "ssin", epoch: 1, sender: None };
    PseudonymRoot::new(&[7; 32]).reversible(&scope)
}

/// The tokens of so many rows, and nothing else.
fn tokens(rows: u64) -> Result<()> {
    let (mut keys, mut token) = (keys(), Vec::new());
    for row in 0..rows {
        token.clear();
        keys.encode(Patient::new(row).niss.as_bytes(), &mut token).map_err(|error| anyhow!("{error}"))?;
    }
    Ok(())
}

/// The same job as the CSV form's with the libraries that a Python programmer takes.
const PYTHON: &str = r#"
import base64, struct, sys, time
import pandas
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
started = time.perf_counter()
cipher, head = AESSIV(bytes(64)), b"P1.1-00000000"
def token(niss):
    text = (struct.pack(">H", len(niss)) + niss.encode()).ljust(16, b"\0")
    return "P1.1-00000000." + base64.urlsafe_b64encode(cipher.encrypt(text, [head])).decode().rstrip("=")
data = pandas.read_csv(sys.argv[1], dtype=str)
data["niss"] = data["niss"].map(token)
data.drop(columns=["name"]).to_csv(sys.argv[2], index=False)
print(time.perf_counter() - started)
"#;

fn python(folder: &Path, batch: &Path, rows: u64) -> Result<Option<Report>> {
    let own = Path::new("target/oracles/bin/python");
    let program = if own.exists() { own } else { Path::new("python3") };
    let out = folder.join("python");
    let run = Command::new(program).args(["-c", PYTHON]).arg(batch).arg(&out).output();
    let Some(output) = run.ok().filter(|output| output.status.success()) else {
        println!("no Python with pandas and cryptography: the same job in Python is left out");
        return Ok(None);
    };
    ensure!(fs::metadata(&out)?.len() > rows * ROW_LEAST, "Python wrote too little");
    let seconds: f64 = String::from_utf8(output.stdout)?.trim().parse()?;
    let report = Report::named("ttp, csv, pseudonym, the same job in Python (pandas, cryptography AESSIV)");
    let bytes = fs::metadata(batch)?.len();
    Ok(Some(report.measured(rows, bytes, Duration::from_secs_f64(seconds), &Histogram::default())))
}
