//! Pseudonymising CSV batches, with the bare loop (read, AES-256-SIV, write) beside it in the same run.
//!
//! Goals (design): 60 % of the bare loop on one core; memory flat from 10 KB to the largest batch, which is made while it is read and
//! thrown away while it is written where it is over [`FILE_MB`] (`--batch-mb 10000` needs no disk). Then the speed table of every format
//! and action ([`table`]).

mod table;

use crate::stats::{Histogram, Report, rss_mb};
use anyhow::{Result, anyhow};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::time::Instant;

/// The patients whose rows are repeated with other numbers: 100 bytes a row.
const ROW: &str = ",1985-06-15,9000,M,4548-4,7.21,mmol/L,2024-03-01,E11.9,C10AA05,Hospital ward 7,0000000000000000\n";

/// The project of the batches.
const PROJECT: &str = r#"
name = "load"
senders = ["NIHII-HOSPITAL:71000436"]
recipient = "CBE:0123456749"
valid = { from = "2020-01-01", until = "2099-12-31" }
unlisted = "refuse"
rows = "ROWS"
[[fields]]
path = "niss"
kind = "ssin"
action = "pseudonym"
[[fields]]
path = "birth_date"
kind = "date"
action = "keep"
[[fields]]
path = "postcode"
kind = "postcode"
action = "keep"
[[fields]]
path = "sex"
action = "keep"
[[fields]]
path = "loinc"
action = "keep"
[[fields]]
path = "value"
action = "keep"
[[fields]]
path = "unit"
action = "keep"
[[fields]]
path = "taken"
kind = "date"
action = "keep"
[[fields]]
path = "icd10"
action = "keep"
[[fields]]
path = "atc"
action = "keep"
[[fields]]
path = "ward"
action = "keep"
[[fields]]
path = "filler"
action = "keep"
"#;
const HEADER: &str = "niss,birth_date,postcode,sex,loinc,value,unit,taken,icd10,atc,ward,filler\n";

/// The largest batch that is a file: it stands there three times, once for a moment in scratch.
const FILE_MB: u64 = 2_000;
/// The table's batches: large enough to be measured, small enough for a table of twenty rows.
const TABLE_MB: u64 = 30;

/// Runs 10 KB, 1 MB, 100 MB and the largest batch, then the table.
///
/// # Errors
/// When a batch cannot be written or is refused.
pub fn run(folder: &Path, largest_mb: u64) -> Result<Vec<Report>> {
    std::fs::create_dir_all(folder)?;
    let mut reports = Vec::new();
    let mut small_rss = None;
    for bytes in [10_000, 1_000_000, 100_000_000, largest_mb.min(FILE_MB) * 1_000_000] {
        crate::deadline::part(&format!("{bytes} bytes"));
        let batch = folder.join("batch.csv");
        let rows = generate(&batch, bytes)?;
        let bare = bare_loop(&batch, &folder.join("bare.csv"))?;
        std::fs::remove_file(folder.join("bare.csv"))?; // room for the largest batch three times is enough
        for mode in ["keep", "shuffle"] {
            let (usage, started) = (crate::stats::Usage::now(), Instant::now());
            let rss = transform(&batch, &folder.join("out.csv"), folder, mode)?;
            let took = started.elapsed();
            let baseline = *small_rss.get_or_insert(rss);
            let ratio = bare / took.as_secs_f64();
            let mut report = Report::named(&format!("ttp, {} KB batch, rows = {mode}, one core", bytes / 1_000))
                .measured(rows, bytes, took, &Histogram::default())
                .with("bare_loop_rows_per_s", rows as f64 / bare)
                .with("ratio_to_bare_loop", ratio)
                .with("rss_mb_after", rss);
            usage.tell(&mut report, rows);
            if bytes >= 100_000_000 {
                let flat = rss < baseline + 100.0;
                let met = flat && (mode == "shuffle" || ratio >= 0.6);
                let goal = if mode == "keep" { "60 % of the bare loop, memory flat" } else { "memory flat" };
                report = report.goal(goal, met);
            }
            reports.push(report);
        }
        std::fs::remove_file(&batch)?;
    }
    if largest_mb > FILE_MB {
        reports.push(streamed(largest_mb * 1_000_000, small_rss.unwrap_or_else(rss_mb))?);
    }
    reports.extend(table::run(folder, TABLE_MB.min(largest_mb))?);
    Ok(reports)
}

/// A batch that is nowhere but on its way through.
fn streamed(bytes: u64, baseline: f64) -> Result<Report> {
    crate::deadline::part(&format!("{bytes} bytes, streamed"));
    let project = crate::stages::project(&PROJECT.replace("ROWS", "keep"))?;
    let sender = crate::world::address("NIHII-HOSPITAL:71000436")?;
    let keys = zegel_crypto::Keyring::generate_in_memory();
    let mut random = |buffer: &mut [u8]| zegel_core::Keys::random(&keys, buffer);
    let mut input = BufReader::with_capacity(1 << 20, Generated::new(bytes));
    let (usage, started) = (crate::stats::Usage::now(), Instant::now());
    let summary = zegel_ttp::transform(&project, &sender, &mut input, &mut std::io::sink(), None, &mut random)
        .map_err(|error| anyhow!("the batch is refused: {error}"))?;
    let (took, rss) = (started.elapsed(), rss_mb());
    let mut report = Report::named(&format!("ttp, {} KB batch, rows = keep, streamed past the disk", bytes / 1_000))
        .measured(summary.rows_out, bytes, took, &Histogram::default())
        .with("rss_mb_after", rss)
        .goal("memory flat", rss < baseline + 100.0);
    usage.tell(&mut report, summary.rows_out);
    Ok(report)
}

/// The rows of [`generate`], made as they are read.
struct Generated {
    left: u64,
    rows: u64,
    piece: Vec<u8>,
    read: usize,
}

impl Generated {
    fn new(bytes: u64) -> Generated {
        Generated { left: bytes, rows: 0, piece: HEADER.as_bytes().to_vec(), read: 0 }
    }
}

impl Read for Generated {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.read == self.piece.len() {
            self.piece.clear();
            self.read = 0;
            while self.left > 0 && self.piece.len() < 1 << 16 {
                let start = self.piece.len();
                self.piece.extend_from_slice(niss(self.rows).as_bytes());
                self.piece.extend_from_slice(ROW.as_bytes());
                self.left = self.left.saturating_sub((self.piece.len() - start) as u64);
                self.rows += 1;
            }
        }
        let count = buffer.len().min(self.piece.len() - self.read);
        buffer[..count].copy_from_slice(&self.piece[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

/// The number of the patient of this row.
fn niss(row: u64) -> String {
    let (day, month) = (row % 28 + 1, row / 28 % 12 + 1);
    let stem = (85 * 10_000 + month * 100 + day) * 1_000 + row / 336 % 997 + 1;
    format!("{stem:09}{:02}", 97 - stem % 97)
}

fn generate(batch: &Path, bytes: u64) -> Result<u64> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(batch)?);
    out.write_all(HEADER.as_bytes())?;
    let mut written = HEADER.len() as u64;
    let mut rows = 0u64;
    while written < bytes {
        let niss = niss(rows);
        out.write_all(niss.as_bytes())?;
        out.write_all(ROW.as_bytes())?;
        written += (niss.len() + ROW.len()) as u64;
        rows += 1;
    }
    out.flush()?;
    Ok(rows)
}

/// Read CSV, encrypt the first column, write CSV: the limit under every pseudonymiser. Returns seconds.
fn bare_loop(batch: &Path, out: &Path) -> Result<f64> {
    let started = Instant::now();
    let root = zegel_crypto::pseudonym::PseudonymRoot::new(&[7; 32]);
    let scope = zegel_crypto::pseudonym::Scope { recipient: "CBE:0123456749", domain: "ssin", epoch: 1, sender: None };
    let mut keys = root.reversible(&scope);
    let mut reader = csv::ReaderBuilder::new().from_reader(BufReader::with_capacity(1 << 20, File::open(batch)?));
    let mut writer = csv::WriterBuilder::new().from_writer(BufWriter::with_capacity(1 << 20, File::create(out)?));
    let mut record = csv::ByteRecord::new();
    let mut token = Vec::new();
    while reader.read_byte_record(&mut record)? {
        token.clear();
        keys.encode(&record[0], &mut token).map_err(|e| anyhow!("{e}"))?;
        writer.write_field(&token)?;
        for field in record.iter().skip(1) {
            writer.write_field(field)?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    writer.flush()?;
    Ok(started.elapsed().as_secs_f64())
}

fn transform(batch: &Path, out: &Path, scratch: &Path, rows: &str) -> Result<f64> {
    transform_with(&crate::stages::project(&PROJECT.replace("ROWS", rows))?, batch, out, scratch)?;
    Ok(rss_mb())
}

/// One batch through a project.
fn transform_with(project: &zegel_ttp::CompiledProject, batch: &Path, out: &Path, scratch: &Path) -> Result<()> {
    let sender = crate::world::address("NIHII-HOSPITAL:71000436")?;
    let keys = zegel_crypto::Keyring::generate_in_memory();
    let mut input = BufReader::with_capacity(1 << 20, File::open(batch)?);
    let mut output = File::create(out)?;
    let mut random = |buffer: &mut [u8]| zegel_core::Keys::random(&keys, buffer);
    let place = zegel_ttp::ScratchDir { folder: scratch, keys: &keys };
    zegel_ttp::transform(project, &sender, &mut input, &mut output, Some(place), &mut random)
        .map_err(|error| anyhow!("the batch is refused: {error}"))?;
    output.flush()?;
    let mut head = [0u8; 64];
    let read = File::open(out)?.read(&mut head)?;
    anyhow::ensure!(read > 0, "the transform wrote nothing");
    Ok(())
}
