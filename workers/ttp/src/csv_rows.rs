//! CSV batches. The delimiter is comma or semicolon: the one with which the header has more of the project's columns; a
//! tie goes to the comma.
//!
//! A quote that is never closed would make the rest of the batch one value, identifiers and all, perhaps of a column that is
//! kept. So the reader is given [`END`] after the last byte: a row of its own, unless an open quote swallowed it.

use crate::compiled::CompiledProject;
use crate::project::{ActionName, Unlisted};
use crate::refusal::{Report, TransformError, refusal};
use crate::transform::{ROW_MAX, Run};
use crate::values::quote;
use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};
use schemas::messages::Reason;
use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, BufRead, Read};

/// What the reader takes at a time; it may have taken so much more than the row it is at.
const READ_AHEAD: usize = 64 << 10;
/// What the reader gets after the batch's last byte: the end of a line, and a row that can only come from here.
const END: &[u8] = b"\n.";
/// Most columns that a refusal names.
const NAMED_MAX: usize = 20;

/// Ends a row that never ends before it fills the memory, and marks the end of the batch with [`END`].
struct Bounded<'a> {
    input: &'a mut dyn BufRead,
    taken: Cell<usize>,
    /// Bytes of the batch so far; END is not counted.
    length: u64,
    /// What is still to be given of END.
    end: &'static [u8],
}

/// What a field becomes in the output: which input column, whether quotes may be needed.
struct Column {
    cell: usize,
    input: Option<usize>,
    is_delivered: bool,
    is_plain: bool,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken.get() > ROW_MAX + READ_AHEAD {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let count = self.input.read(buffer)?;
        if count == 0 {
            return self.end.read(buffer);
        }
        self.taken.set(self.taken.get() + count);
        self.length += count as u64;
        Ok(count)
    }
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

    let bounded = Bounded { input, taken: Cell::new(0), length: 0, end: END };
    let mut reader = reader(delimiter).buffer_capacity(READ_AHEAD).from_reader(bounded);
    let mut record = StringRecord::new();
    while next(&mut reader, &mut record, &mut run.report)? {
        if !run.report.is_row_bad() {
            check_shape(&record, names.len(), &mut run.report);
        }
        line.clear();
        if !run.report.is_row_bad() {
            write_row(run, &delivered, &record, &mut line);
        }
        run.end_row(&line)?;
    }
    Ok(())
}

fn reader(delimiter: u8) -> ReaderBuilder {
    let mut builder = ReaderBuilder::new();
    builder.has_headers(false).flexible(true).delimiter(delimiter);
    builder
}

/// Reads the next record and counts it; false at the end. A record that holds [`END`] or a part of it and more is bad.
fn next(
    reader: &mut Reader<Bounded<'_>>,
    record: &mut StringRecord,
    report: &mut Report,
) -> Result<bool, TransformError> {
    let read = reader.read_record(record);
    reader.get_ref().taken.set(0);
    // One byte beyond the batch is the end of its last line.
    let holds_end = reader.position().byte() > reader.get_ref().length + 1;
    let is_end = holds_end && record.len() == 1 && record[0].as_bytes() == &END[1..];
    if is_end || matches!(read, Ok(false)) {
        return Ok(false);
    }
    report.rows_in += 1;
    match read.map_err(csv::Error::into_kind) {
        Ok(_) => {
            if holds_end {
                report.bad("", "ZGL-ROW-QUOTE");
            }
            Ok(true)
        }
        Err(ErrorKind::Utf8 { .. }) => {
            report.bad("", "ZGL-ROW-UTF8");
            Ok(true)
        }
        Err(ErrorKind::Io(error)) if error.kind() == io::ErrorKind::FileTooLarge => {
            report.bad("", "ZGL-ROW-LENGTH");
            Err(std::mem::take(report).refusal().into())
        }
        Err(ErrorKind::Io(error)) => Err(error.into()),
        Err(_) => Err(refusal("ZGL-TTP-FORMAT", "the batch is not CSV").into()),
    }
}

fn check_shape(record: &StringRecord, columns: usize, report: &mut Report) {
    if record.len() != columns {
        report.bad("", "ZGL-ROW-FIELDS");
    } else if record.as_slice().len() > ROW_MAX {
        report.bad("", "ZGL-ROW-LENGTH");
    }
}

fn write_row(run: &mut Run<'_>, delivered: &[&Column], record: &StringRecord, line: &mut Vec<u8>) {
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
        let mut records = reader(delimiter).from_reader(&line[..]).into_records();
        let names: Vec<String> = records.next()?.ok()?.iter().map(|name| name.trim().to_owned()).collect();
        // More than one record: lines that end with a carriage return alone.
        let found = names.iter().filter(|name| project.fields.iter().any(|field| field.path == **name)).count();
        records.next().is_none().then_some((found, names))
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
