//! CSV batches, RFC 4180. What parts the columns is what the project states; if it states nothing: the comma, semicolon,
//! tab or bar with which the header has most of the project's columns, a tie goes to the first of them.
//!
//! Delivered are the project's columns in its order, with commas, `\n`, and quotes only where RFC 4180 asks for them. On the
//! way back columns keep the order in which they come, and those that the project does not list pass as they are.

use crate::compiled::CompiledProject;
use crate::project::{ActionName, Delimiter, FieldDocument, Unlisted};
use crate::records::{DELIMITERS, Record, Records};
use crate::refusal::{Report, TransformError, refusal};
use crate::row_number::{COLUMN, Carrier};
use crate::run::Run;
use crate::transform::ROW_MAX;
use crate::values::quote;
use schemas::messages::Reason;
use std::collections::HashMap;
use std::io::{self, BufRead, Read};

/// Most columns that a refusal names.
const NAMED_MAX: usize = 20;

/// What a column is in the output: of which field, which input column, whether quotes may be needed.
pub(crate) struct Column {
    /// None: a column that the recipient added.
    field: Option<usize>,
    input: Option<usize>,
    name: String,
    is_delivered: bool,
    is_plain: bool,
}

impl Column {
    /// On the way back: the column of row numbers.
    fn is_number(&self) -> bool {
        self.field.is_none() && !self.is_delivered
    }
}

/// Puts every row of a CSV batch through.
pub(crate) fn run(run: &mut Run<'_>, input: &mut dyn BufRead) -> Result<(), TransformError> {
    let (names, delimiter) = header(run, input)?;
    let mut table = Table::new(run, plan(run, &names)?)?;
    let mut records = Records::of_batch(delimiter, input);
    while let Some(record) = records.next().map_err(|error| unreadable(error, &mut run.report))? {
        table.row(run, record, names.len())?;
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

/// Rows of columns on their way into canonical CSV.
pub(crate) struct Table {
    columns: Vec<Column>,
    line: Vec<u8>,
}

impl Table {
    /// Writes the header.
    pub(crate) fn new(run: &mut Run<'_>, columns: Vec<Column>) -> Result<Table, TransformError> {
        run.carrier = Carrier::Column;
        let mut line = Vec::new();
        for (index, column) in columns.iter().filter(|column| column.is_delivered).enumerate() {
            separate(index, &mut line);
            let start = line.len();
            line.extend_from_slice(column.name.as_bytes());
            quote(&mut line, start);
        }
        if run.binding.is_some() && !run.is_back() {
            line.extend_from_slice(format!(",{COLUMN}").as_bytes());
        }
        line.push(b'\n');
        run.outlet.header(&line)?;
        Ok(Table { columns, line })
    }

    /// Puts one row through; `width` is how many columns it must have.
    pub(crate) fn row(
        &mut self,
        run: &mut Run<'_>,
        record: Result<Record<'_>, &'static str>,
        width: usize,
    ) -> Result<(), TransformError> {
        run.begin_row();
        match &record {
            Ok(record) => check_shape(record, width, &mut run.report),
            Err(code) => run.report.bad("", code),
        }
        self.line.clear();
        if let Some(record) = record.ok().filter(|_| !run.report.is_row_bad()) {
            self.take_number(run, &record);
            self.note(run, &record);
            self.write(run, &record);
        }
        run.end_row(&self.line)
    }

    fn take_number(&self, run: &mut Run<'_>, record: &Record<'_>) {
        if run.is_return() {
            let places = self.columns.iter().filter(|column| column.is_number()).filter_map(|column| column.input);
            let numbers = places.filter_map(|place| record.get(place)).map(str::to_owned);
            run.found_numbers(numbers);
        }
    }

    fn note(&self, run: &mut Run<'_>, record: &Record<'_>) {
        if !run.wants_notes() {
            return;
        }
        for column in &self.columns {
            if let (Some(field), Some(value)) = (column.field, column.input.and_then(|input| record.get(input))) {
                run.note(field, value);
            }
        }
    }

    fn write(&mut self, run: &mut Run<'_>, record: &Record<'_>) {
        let line = &mut self.line;
        for (index, column) in self.columns.iter().filter(|column| column.is_delivered).enumerate() {
            separate(index, line);
            let start = line.len();
            let value = column.input.and_then(|input| record.get(input)).unwrap_or_default();
            match column.field {
                Some(field) => _ = run.put_or_report(field, value, line),
                None => line.extend_from_slice(value.as_bytes()),
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
}

fn check_shape(record: &Record<'_>, columns: usize, report: &mut Report) {
    if record.len() != columns {
        report.bad("", "ZGL-ROW-FIELDS");
    } else if record.bytes() > ROW_MAX {
        report.bad("", "ZGL-ROW-LENGTH");
    }
}

fn separate(index: usize, line: &mut Vec<u8>) {
    if index > 0 {
        line.push(b',');
    }
}

/// Reads the header and finds the delimiter.
fn header(run: &Run<'_>, input: &mut dyn BufRead) -> Result<(Vec<String>, u8), TransformError> {
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
    let is_listed = |name: &String| run.project.fields.iter().any(|field| run.column_name(field) == name);
    let parse = |delimiter| {
        let mut header = &line[..];
        let mut records = Records::of_text(delimiter, &mut header);
        let names: Vec<String> = records.next().ok()??.ok()?.fields().map(|name| name.trim().to_owned()).collect();
        let found = names.iter().filter(|name| is_listed(name)).count();
        // More than one record: lines that end with a carriage return alone.
        matches!(records.next(), Ok(None)).then_some((found, names, delimiter))
    };
    let mut best = None;
    for (found, names, delimiter) in delimiters(run).iter().copied().filter_map(parse) {
        if best.as_ref().is_none_or(|(most, _, _)| found > *most) {
            best = Some((found, names, delimiter));
        }
    }
    let neither = || refusal("ZGL-TTP-FORMAT", "the batch is neither NDJSON nor CSV with a header in UTF-8");
    best.map(|(_, names, delimiter)| (names, delimiter)).ok_or_else(|| neither().into())
}

/// What may part columns: what the project states, or what is found; what comes back may have been through a spreadsheet.
fn delimiters(run: &Run<'_>) -> &'static [u8] {
    match run.project.text.delimiter {
        _ if run.is_back() => &DELIMITERS,
        None => &DELIMITERS,
        Some(Delimiter::Comma) => b",",
        Some(Delimiter::Semicolon) => b";",
        Some(Delimiter::Tab) => b"\t",
        Some(Delimiter::Bar) => b"|",
    }
}

/// The columns that are delivered, compared with the header.
fn plan(run: &Run<'_>, names: &[String]) -> Result<Vec<Column>, Reason> {
    let project = run.project;
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
    if run.is_back() {
        return columns_back(run, names);
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
        (true, false) => Ok(columns(project, |field| places.get(field.path.as_str()).copied())),
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

/// The project's columns, in its order, where the batch has them.
pub(crate) fn columns(project: &CompiledProject, place: impl Fn(&FieldDocument) -> Option<usize>) -> Vec<Column> {
    let column = |(field, document): (usize, &FieldDocument)| Column {
        field: Some(field),
        input: place(document),
        name: document.output_name().to_owned(),
        is_delivered: document.action != ActionName::Drop,
        is_plain: CompiledProject::is_plain(document),
    };
    project.fields.iter().enumerate().map(column).collect()
}

/// The batch's columns, in its order; those of the project get their own names back.
fn columns_back(run: &Run<'_>, names: &[String]) -> Result<Vec<Column>, Reason> {
    let fields = &run.project.fields;
    if run.is_return() {
        let is_delivered = |field: &&FieldDocument| field.action != ActionName::Drop;
        let is_allowed = |name: &String| {
            let mut known = fields.iter().filter(is_delivered).map(FieldDocument::output_name);
            name == COLUMN
                || known.any(|known| known == name)
                || run.project.added.iter().any(|field| field.path == *name)
        };
        let others: Vec<_> = (0..names.len()).filter(|place| !is_allowed(&names[*place])).collect();
        if !others.is_empty() {
            let text = format!("{}: not among the fields that may come back", positions(&others));
            return Err(refusal("ZGL-TTP-UNLISTED", text));
        }
        if !names.iter().any(|name| name == COLUMN) {
            return Err(refusal("ZGL-TTP-MISSING", format!("missing: {COLUMN}")));
        }
    } else if !names.iter().any(|name| fields.iter().any(|field| field.output_name() == name)) {
        // Copied as it is it would look as if it had been decoded.
        return Err(refusal("ZGL-TTP-MISSING", "missing: every column of the project"));
    }
    let column = |(place, name): (usize, &String)| {
        let field = fields.iter().position(|field| field.output_name() == name && field.action != ActionName::Drop);
        let name = field.map_or(name, |field| &fields[field].path).clone();
        let is_delivered = !(run.is_return() && field.is_none() && name == COLUMN);
        Column { field, input: Some(place), name, is_delivered, is_plain: false }
    };
    Ok(names.iter().enumerate().map(column).collect())
}
