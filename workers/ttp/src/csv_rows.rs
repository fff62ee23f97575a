//! CSV batches. The delimiter is comma or semicolon: the one with which the header has more of the project's columns; a
//! tie goes to the comma.

use crate::compiled::CompiledProject;
use crate::project::{ActionName, Unlisted};
use crate::records::{Record, Records};
use crate::refusal::{Report, TransformError, refusal};
use crate::transform::{ROW_MAX, Run};
use crate::values::quote;
use schemas::messages::Reason;
use std::collections::HashMap;
use std::io::{self, BufRead, Read};

/// Most columns that a refusal names.
const NAMED_MAX: usize = 20;

/// What a field becomes in the output: which input column, whether quotes may be needed.
struct Column {
    cell: usize,
    input: Option<usize>,
    is_delivered: bool,
    is_plain: bool,
}

/// Puts every row of a CSV batch through.
pub(crate) fn run(run: &mut Run<'_>, input: &mut dyn BufRead) -> Result<(), TransformError> {
    let (names, delimiter) = header(run.project, input)?;
    let columns = plan(run.project, &names)?;
    let delivered: Vec<_> = columns.iter().filter(|column| column.is_delivered).collect();
    let mut line = Vec::new();
    for (index, column) in delivered.iter().enumerate() {
        separate(index, &mut line);
        let start = line.len();
        line.extend_from_slice(run.project.fields[column.cell].path.as_bytes());
        quote(&mut line, start);
    }
    line.push(b'\n');
    run.outlet.header(&line)?;

    let mut records = Records::of_batch(delimiter, input);
    while let Some(record) = records.next().map_err(|error| unreadable(error, &mut run.report))? {
        run.report.rows_in += 1;
        match &record {
            Ok(record) => check_shape(record, names.len(), &mut run.report),
            Err(code) => run.report.bad("", code),
        }
        line.clear();
        if let Some(record) = record.ok().filter(|_| !run.report.is_row_bad()) {
            write_row(run, &delivered, &record, &mut line);
        }
        run.end_row(&line)?;
    }
    Ok(())
}

/// A row without an end refuses the batch by its number; everything else is the disk's.
fn unreadable(error: io::Error, report: &mut Report) -> TransformError {
    if error.kind() != io::ErrorKind::FileTooLarge {
        return error.into();
    }
    report.rows_in += 1;
    report.bad("", "ZGL-ROW-LENGTH");
    std::mem::take(report).refusal().into()
}

fn check_shape(record: &Record<'_>, columns: usize, report: &mut Report) {
    if record.len() != columns {
        report.bad("", "ZGL-ROW-FIELDS");
    } else if record.bytes() > ROW_MAX {
        report.bad("", "ZGL-ROW-LENGTH");
    }
}

fn write_row(run: &mut Run<'_>, delivered: &[&Column], record: &Record<'_>, line: &mut Vec<u8>) {
    for (index, column) in delivered.iter().enumerate() {
        separate(index, line);
        let start = line.len();
        let value = column.input.and_then(|input| record.get(input)).unwrap_or_default();
        if let Err(code) = run.cells[column.cell].write(value, line) {
            run.report.bad(&run.project.fields[column.cell].path, code);
        }
        if !column.is_plain {
            quote(line, start);
        }
    }
    if line.is_empty() {
        // One empty field alone would be an empty line, which readers skip.
        line.extend_from_slice(b"\"\"");
    }
    line.push(b'\n');
}

fn separate(index: usize, line: &mut Vec<u8>) {
    if index > 0 {
        line.push(b',');
    }
}

/// Reads the header and finds the delimiter.
fn header(project: &CompiledProject, input: &mut dyn BufRead) -> Result<(Vec<String>, u8), TransformError> {
    let mut line = Vec::new();
    let mut room = ROW_MAX as u64;
    let mut quotes = 0;
    loop {
        let start = line.len();
        let count = (&mut *input).take(room).read_until(b'\n', &mut line)?;
        room -= count as u64;
        // Only what is new is counted: an open quote may go on for a million short lines.
        quotes += line[start..].iter().filter(|byte| **byte == b'"').count();
        if count == 0 || (line.ends_with(b"\n") && quotes % 2 == 0) {
            break;
        }
    }
    let parse = |delimiter| {
        let mut header = &line[..];
        let mut records = Records::of_text(delimiter, &mut header);
        let names: Vec<String> = records.next().ok()??.ok()?.fields().map(|name| name.trim().to_owned()).collect();
        // More than one record: lines that end with a carriage return alone.
        let found = names.iter().filter(|name| project.fields.iter().any(|field| field.path == **name)).count();
        matches!(records.next(), Ok(None)).then_some((found, names))
    };
    let (comma, semicolon) = (parse(b','), parse(b';'));
    let best = match (comma, semicolon) {
        (Some((commas, _)), Some((semicolons, names))) if semicolons > commas => Some((names, b';')),
        (Some((_, names)), _) => Some((names, b',')),
        (None, semicolon) => semicolon.map(|(_, names)| (names, b';')),
    };
    best.ok_or_else(|| refusal("ZGL-TTP-FORMAT", "the batch is neither NDJSON nor CSV with a header in UTF-8").into())
}

/// Compares the header with the project.
fn plan(project: &CompiledProject, names: &[String]) -> Result<Vec<Column>, Reason> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let twice: Vec<_> = names
        .iter()
        .enumerate()
        .filter(|(place, name)| places.insert(name, *place).is_some())
        .map(|(n, _)| n)
        .collect();
    if !twice.is_empty() {
        return Err(refusal("ZGL-TTP-COLUMNS", format!("{}: named twice", positions(&twice))));
    }
    // A column that is dropped may be left out by the sender.
    let missing: Vec<_> = project
        .fields
        .iter()
        .filter(|field| field.action != ActionName::Drop && !places.contains_key(field.path.as_str()))
        .map(|field| field.path.as_str())
        .collect();
    let unlisted: Vec<_> =
        (0..names.len()).filter(|place| project.fields.iter().all(|field| field.path != names[*place])).collect();
    let refused = project.unlisted == Unlisted::Refuse && !unlisted.is_empty();
    let missing_text = || format!("missing: {}", missing[..missing.len().min(NAMED_MAX)].join(", "));
    let unlisted_text = || format!("{}: not listed in the project", positions(&unlisted));
    match (missing.is_empty(), refused) {
        (true, false) => Ok(columns(project, &places)),
        (false, false) => Err(refusal("ZGL-TTP-MISSING", missing_text())),
        (true, true) => Err(refusal("ZGL-TTP-UNLISTED", unlisted_text())),
        (false, true) => Err(refusal("ZGL-TTP-COLUMNS", format!("{}; {}", missing_text(), unlisted_text()))),
    }
}

/// Columns are told by their position: their names may be the first row of a batch without a header.
fn positions(places: &[usize]) -> String {
    let named: Vec<_> = places.iter().take(NAMED_MAX).map(|place| (place + 1).to_string()).collect();
    format!("column {}{}", named.join(", "), if places.len() > NAMED_MAX { " and more" } else { "" })
}

fn columns(project: &CompiledProject, places: &HashMap<&str, usize>) -> Vec<Column> {
    let column = |(cell, field): (usize, &crate::project::FieldDocument)| Column {
        cell,
        input: places.get(field.path.as_str()).copied(),
        is_delivered: field.action != ActionName::Drop,
        is_plain: CompiledProject::is_plain(field),
    };
    project.fields.iter().enumerate().map(column).collect()
}
