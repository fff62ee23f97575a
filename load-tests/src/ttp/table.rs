//! The speed table: every format with a reversible token, and every action on CSV, on one core.
//!
//! Beside each format the fastest bare loop over the same parser: read, AES-256-SIV of the number, write, no rules. Of the time
//! of a run, `parse_share` is what the parser alone takes over the same bytes, and `crypto_share` what making the same tokens
//! takes without a batch around them. Beside CSV, the same job in Python (`pandas`, and `AESSIV` of `cryptography`), where
//! Python has them. Every figure is the best of [`RUNS`] runs, all in one process on one thread.

use super::transform_with;
use crate::stats::{Histogram, Report, rss_mb};
use anyhow::{Result, anyhow, ensure};
use quick_xml::events::Event;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use zegel_crypto::pseudonym::{PseudonymRoot, Reversible, Scope};

const RUNS: usize = 3;
/// Memory that a run may add to the process: two rows, the buffers, and the shuffle's budget.
const FLAT_MB: f64 = 100.0;

/// A delivered row has at least its token.
const ROW_LEAST: u64 = 57;

/// A format with its document, how a row is written in it, and its bare loop.
struct Form {
    name: &'static str,
    project: &'static str,
    head: &'static str,
    row: fn(&Patient, &mut String),
    /// Between two rows.
    between: &'static str,
    tail: &'static str,
    parse: fn(&Path) -> Result<u64>,
    bare: fn(&Path, &Path, &mut Reversible) -> Result<()>,
}

/// What a row is about.
struct Patient {
    number: u64,
    niss: String,
    born: String,
}

impl Patient {
    fn new(number: u64) -> Patient {
        let (day, month) = (number % 28 + 1, number / 28 % 12 + 1);
        let stem = (85 * 10_000 + month * 100 + day) * 1_000 + number / 336 % 997 + 1;
        let niss = format!("{stem:09}{:02}", 97 - stem % 97);
        Patient { number, niss, born: format!("1985-{month:02}-{day:02}") }
    }
}

const NISS: &str = "[[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\n";

const FORMS: [Form; 6] = [
    Form {
        name: "csv",
        project: "patient = [\"niss\"]\nnames = [\"name\"]\nNISS[[fields]]\npath = \"born\"\nkind = \"date\"\naction = \"keep\"\n\
                  [[fields]]\npath = \"name\"\naction = \"drop\"\n[[fields]]\npath = \"value\"\naction = \"keep\"\n[[fields]]\npath = \"note\"\naction = \"keep\"\n",
        head: "niss,born,name,value,note\n",
        row: |p, out| {
            let _ = writeln!(
                out,
                "{},{},Janssens,{}.2,seen at the ward of internal medicine and tests as agreed",
                p.niss,
                p.born,
                p.number % 90
            );
        },
        between: "",
        tail: "",
        parse: parse_csv,
        bare: bare_csv,
    },
    Form {
        name: "fixed-width",
        project: "format = \"fixed-width\"\n[[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\nat = [1, 11]\n\
                  [[fields]]\npath = \"born\"\nkind = \"date\"\naction = \"keep\"\nat = [12, 21]\n[[fields]]\npath = \"note\"\naction = \"keep\"\nat = [22, 90]\n",
        head: "",
        row: |p, out| {
            let _ = writeln!(
                out,
                "{}{}seen at the ward of internal medicine tests as agreed {:>14}",
                p.niss, p.born, p.number
            );
        },
        between: "",
        tail: "",
        parse: parse_lines,
        bare: bare_fixed,
    },
    Form {
        name: "ndjson",
        project: "NISS[[fields]]\npath = \"born\"\nkind = \"date\"\naction = \"keep\"\n[[fields]]\npath = \"result.value\"\naction = \"keep\"\n\
                  [[fields]]\npath = \"result.unit\"\naction = \"keep\"\n[[fields]]\npath = \"note\"\naction = \"keep\"\n",
        head: "",
        row: |p, out| {
            let _ = writeln!(
                out,
                "{{\"niss\":\"{}\",\"born\":\"{}\",\"result\":{{\"value\":{}.2,\"unit\":\"mmol/L\"}},\"note\":\"seen at the ward\"}}",
                p.niss,
                p.born,
                p.number % 90
            );
        },
        between: "",
        tail: "",
        parse: parse_json_lines,
        bare: bare_json,
    },
    Form {
        name: "fhir",
        project: "format = \"fhir\"\n[[fields]]\npath = \"*.id\"\nkind = \"fhir-id\"\naction = \"pseudonym\"\n[[fields]]\npath = \"**.reference\"\nkind = \"fhir-reference\"\n\
                  action = \"pseudonym\"\n[[fields]]\npath = \"**.identifier.value\"\nkind = \"ssin\"\naction = \"pseudonym\"\n[[fields]]\npath = \"**\"\naction = \"keep\"\n",
        head: "{\"resourceType\":\"Bundle\",\"type\":\"collection\",\"entry\":[\n",
        row: |p, out| {
            let _ = write!(
                out,
                "{{\"resource\":{{\"resourceType\":\"Observation\",\"id\":\"o{0}\",\"status\":\"final\",\"subject\":{{\"reference\":\"Patient/p{1}\",\"identifier\":{{\"system\":\"urn:ssin\",\"value\":\"{2}\"}}}},\
                 \"code\":{{\"coding\":[{{\"system\":\"http://loinc.org\",\"code\":\"4548-4\"}}]}},\"valueQuantity\":{{\"value\":{3}.2,\"unit\":\"%\"}}}}}}",
                p.number,
                p.number % 1_000,
                p.niss,
                p.number % 90
            );
        },
        between: ",\n",
        tail: "\n]}\n",
        parse: parse_json,
        bare: bare_json,
    },
    Form {
        name: "kmehr",
        project: "format = \"kmehr\"\n[[fields]]\npath = \"folder.patient.id\"\nkind = \"ssin\"\naction = \"pseudonym\"\n[[fields]]\npath = \"header\"\naction = \"drop\"\n[[fields]]\npath = \"**\"\naction = \"keep\"\n",
        head: "<kmehrmessage xmlns=\"http://www.ehealth.fgov.be/standards/kmehr/schema/v1\"><header/>\n",
        row: |p, out| {
            let _ = writeln!(
                out,
                "<folder><id S=\"ID-KMEHR\" SV=\"1.0\">{}</id><patient><id S=\"INSS\" SV=\"1.0\">{}</id><birthdate><date>{}</date></birthdate></patient>\
                 <transaction><cd S=\"CD-TRANSACTION\" SV=\"1.0\">labresult</cd><item><content><decimal>7.2</decimal></content></item></transaction></folder>",
                p.number, p.niss, p.born
            );
        },
        between: "",
        tail: "</kmehrmessage>\n",
        parse: parse_xml,
        bare: bare_xml,
    },
    Form {
        name: "hl7v2",
        project: "format = \"hl7v2\"\nunlisted = \"drop\"\n[[fields]]\npath = \"PID.3.1\"\nkind = \"ssin\"\naction = \"pseudonym\"\n[[fields]]\npath = \"PID.8\"\naction = \"keep\"\n\
                  [[fields]]\npath = \"MSH.9.**\"\naction = \"keep\"\n[[fields]]\npath = \"OBX.**\"\naction = \"keep\"\n",
        head: "",
        row: |p, out| {
            let _ = write!(
                out,
                "MSH|^~\\&|LAB|H|R|R|20240301||ORU^R01|{0}|P|2.5\rPID|1||{1}^^^^NN||Janssens^Jan||19850615|M\rOBX|1|NM|4548-4^HbA1c^LN||{2}.2|%\r",
                p.number,
                p.niss,
                p.number % 90
            );
        },
        between: "",
        tail: "",
        parse: parse_hl7,
        bare: bare_hl7,
    },
];

/// What an action makes of the columns of the CSV form.
const ACTIONS: [(&str, &str); 11] = [
    ("keep", "[[fields]]\npath = \"niss\"\naction = \"keep\"\n"),
    ("pseudonym", NISS),
    (
        "pseudonym as ssin (FF1)",
        "[[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\nformat = \"ssin\"\nname = \"other\"\nmay_be_real = true\n",
    ),
    ("one-way", "[[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"one-way\"\n"),
    ("random", "[[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"random\"\n"),
    ("generalise", "NISS|born|action = \"generalise\"\nto = \"year\"\n"),
    ("shift-dates", "NISS|born|action = \"shift-dates\"\n"),
    ("bucket", "NISS|value|kind = \"number\"\naction = \"bucket\"\nwidth = 10\n"),
    ("scrub-text", "NISS|note|action = \"scrub-text\"\n"),
    ("replace", "NISS|note|action = \"replace\"\nwith = \"x\"\n"),
    ("small cells", "small_cells = { quasi = [\"born\"] }\nNISS"),
];

/// The project of the CSV form with another action.
fn csv_with(action: &str) -> String {
    let mut parts = action.split('|');
    let niss = parts.next().unwrap_or_default().replace("NISS", NISS);
    let changed = parts.next().zip(parts.next());
    let field = |path: &str, usual: &str| {
        let keys = changed.filter(|(name, _)| *name == path).map_or(usual, |(_, keys)| keys);
        let kind = if path == "born" { "kind = \"date\"\n" } else { "" };
        format!("[[fields]]\npath = \"{path}\"\n{kind}{keys}")
    };
    let keep = "action = \"keep\"\n";
    format!(
        "patient = [\"niss\"]\nnames = [\"name\"]\n{niss}{}[[fields]]\npath = \"name\"\naction = \"drop\"\n{}{}",
        field("born", keep),
        field("value", keep),
        field("note", keep)
    )
}

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

fn encoded(keys: &mut Reversible, niss: &str, token: &mut Vec<u8>) -> Result<()> {
    token.clear();
    keys.encode(niss.as_bytes(), token).map_err(|error| anyhow!("{error}"))
}

fn input(batch: &Path) -> Result<BufReader<File>> {
    Ok(BufReader::with_capacity(1 << 20, File::open(batch)?))
}

fn output(out: &Path) -> Result<BufWriter<File>> {
    Ok(BufWriter::with_capacity(1 << 20, File::create(out)?))
}

fn parse_csv(batch: &Path) -> Result<u64> {
    let mut reader = csv::Reader::from_reader(input(batch)?);
    let (mut record, mut rows) = (csv::ByteRecord::new(), 0);
    while reader.read_byte_record(&mut record)? {
        rows += 1;
    }
    Ok(rows)
}

fn bare_csv(batch: &Path, out: &Path, keys: &mut Reversible) -> Result<()> {
    let mut reader = csv::Reader::from_reader(input(batch)?);
    let mut writer = csv::Writer::from_writer(output(out)?);
    let (mut record, mut token) = (csv::StringRecord::new(), Vec::new());
    while reader.read_record(&mut record)? {
        encoded(keys, &record[0], &mut token)?;
        writer.write_field(&token)?;
        writer.write_record(record.iter().skip(1))?;
    }
    Ok(writer.flush()?)
}

fn parse_lines(batch: &Path) -> Result<u64> {
    Ok(input(batch)?.split(b'\n').count() as u64)
}

fn bare_fixed(batch: &Path, out: &Path, keys: &mut Reversible) -> Result<()> {
    let (mut writer, mut token) = (output(out)?, Vec::new());
    for line in input(batch)?.lines() {
        let line = line?;
        encoded(keys, &line[..11], &mut token)?;
        writer.write_all(&token)?;
        writer.write_all(b",")?;
        writer.write_all(&line.as_bytes()[11..])?;
        writer.write_all(b"\n")?;
    }
    Ok(writer.flush()?)
}

fn parse_json_lines(batch: &Path) -> Result<u64> {
    let mut rows = 0;
    for line in input(batch)?.lines() {
        serde_json::from_str::<serde::de::IgnoredAny>(&line?)?;
        rows += 1;
    }
    Ok(rows)
}

/// The parser over the whole Bundle; its rows are not counted there.
fn parse_json(batch: &Path) -> Result<u64> {
    let text = fs::read(batch)?;
    serde_json::from_slice::<serde::de::IgnoredAny>(&text)?;
    Ok(u64::MAX)
}

/// Line by line: the text around the number as it is, the number as a token.
fn bare_json(batch: &Path, out: &Path, keys: &mut Reversible) -> Result<()> {
    let (mut writer, mut token) = (output(out)?, Vec::new());
    for line in input(batch)?.lines() {
        let line = line?;
        let row = line.trim_end_matches(',');
        if row.starts_with('{') && row.ends_with('}') {
            serde_json::from_str::<serde::de::IgnoredAny>(row)?;
        }
        let place = line.find("\"niss\":\"").map(|at| at + 8).or_else(|| line.rfind("\"value\":\"").map(|at| at + 9));
        if let Some(place) = place {
            encoded(keys, &line[place..place + 11], &mut token)?;
            writer.write_all(&line.as_bytes()[..place])?;
            writer.write_all(&token)?;
            writer.write_all(&line.as_bytes()[place + 11..])?;
        } else {
            writer.write_all(line.as_bytes())?;
        }
        writer.write_all(b"\n")?;
    }
    Ok(writer.flush()?)
}

fn parse_xml(batch: &Path) -> Result<u64> {
    let mut reader = quick_xml::NsReader::from_reader(input(batch)?);
    let (mut buffer, mut events) = (Vec::new(), 0);
    loop {
        buffer.clear();
        match reader.read_resolved_event_into(&mut buffer)?.1 {
            Event::Eof => return Ok(events),
            _ => events += 1,
        }
    }
}

fn bare_xml(batch: &Path, out: &Path, keys: &mut Reversible) -> Result<()> {
    let mut reader = quick_xml::NsReader::from_reader(input(batch)?);
    let mut writer = output(out)?;
    let (mut buffer, mut token, mut is_number) = (Vec::new(), Vec::new(), false);
    loop {
        buffer.clear();
        match reader.read_resolved_event_into(&mut buffer)?.1 {
            Event::Eof => return Ok(writer.flush()?),
            Event::Start(tag) => {
                is_number = tag.name().into_inner() == "id" && tag.contains("INSS");
                write!(writer, "<{}>", &*tag)?;
            }
            Event::Empty(tag) => write!(writer, "<{}/>", &*tag)?,
            Event::End(tag) => write!(writer, "</{}>", &*tag)?,
            Event::Text(text) if std::mem::take(&mut is_number) => {
                encoded(keys, &text, &mut token)?;
                writer.write_all(&token)?;
            }
            Event::Text(text) => writer.write_all(text.as_bytes())?,
            _ => {}
        }
    }
}

fn parse_hl7(batch: &Path) -> Result<u64> {
    let mut fields = 0;
    for segment in input(batch)?.split(b'\r') {
        fields += segment?.split(|byte| *byte == b'|').count() as u64;
    }
    Ok(fields)
}

fn bare_hl7(batch: &Path, out: &Path, keys: &mut Reversible) -> Result<()> {
    let (mut writer, mut token) = (output(out)?, Vec::new());
    for segment in input(batch)?.split(b'\r') {
        let segment = String::from_utf8(segment?)?;
        for (index, field) in segment.split('|').enumerate() {
            if index > 0 {
                writer.write_all(b"|")?;
            }
            if index == 3 && segment.starts_with("PID") {
                let (number, rest) = field.split_once('^').unwrap_or((field, ""));
                encoded(keys, number, &mut token)?;
                writer.write_all(&token)?;
                writer.write_all(b"^")?;
                writer.write_all(rest.as_bytes())?;
            } else {
                writer.write_all(field.as_bytes())?;
            }
        }
        writer.write_all(b"\r")?;
    }
    Ok(writer.flush()?)
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
