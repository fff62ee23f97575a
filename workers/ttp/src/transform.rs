//! A batch in, the project's batch out: streamed, never wholly in memory.
//!
//! What comes in: UTF-8, a byte order mark is skipped. The first character that is not white space decides the form:
//! `{` means NDJSON, anything else CSV with a header. What goes out is canonical, so that nothing in its dialect is the
//! sender's: CSV with commas, `\n`, quotes only where RFC 4180 asks for them and the columns in the project's order;
//! NDJSON with sorted members and no white space.
//!
//! Invariant (I7): memory is bounded by the largest row (1 MiB) and the shuffle's budget, whatever the batch's size.
//! Failure: on any error what was written is to be thrown away. A row over 1 MiB ends a CSV batch (an open quote
//! swallows the rest); in NDJSON it is a bad row.

use crate::compiled::CompiledProject;
use crate::project::{BadRows, Rows};
use crate::random::Random;
use crate::refusal::{Report, TransformError, refusal};
use crate::shuffle::{ScratchDir, Shuffle};
use crate::values::Cell;
use crate::{csv_rows, ndjson_rows};
use schemas::MailboxAddress;
use schemas::messages::BadRow;
use std::io::{BufRead, BufWriter, Read, Write};

/// The longest row that is taken.
pub const ROW_MAX: usize = 1 << 20;
/// Bytes collected before they are written out: below the size at which freeing makes the allocator tidy up.
const OUT_BUFFER: usize = 32 << 10;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The form of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

impl Format {
    /// The name of every delivered file of this form: the sender's own name does not cross.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Format::Csv => "batch.csv",
            Format::Ndjson => "batch.ndjson",
        }
    }

    /// The media type.
    #[must_use]
    pub fn mime(self) -> &'static str {
        match self {
            Format::Csv => "text/csv",
            Format::Ndjson => "application/x-ndjson",
        }
    }
}

/// What went through.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    /// The form that was found.
    pub format: Format,
    /// Data rows of the batch.
    pub rows_in: u64,
    /// Rows delivered.
    pub rows_out: u64,
    /// Bad rows that were left out, at most 100 (only where the project says `refuse-row`).
    pub bad: Vec<BadRow>,
    /// How many rows were left out.
    pub bad_rows: u64,
}

/// Rows on their way out.
pub(crate) struct Outlet<'a> {
    out: BufWriter<&'a mut dyn Write>,
    random: Random<'a>,
    shuffle: Option<Shuffle<'a>>,
}

impl Outlet<'_> {
    /// Writes what stands before all rows.
    pub(crate) fn header(&mut self, line: &[u8]) -> Result<(), TransformError> {
        Ok(self.out.write_all(line)?)
    }

    pub(crate) fn row(&mut self, line: &[u8]) -> Result<(), TransformError> {
        match &mut self.shuffle {
            Some(shuffle) => shuffle.push(line, &mut self.random),
            None => Ok(self.out.write_all(line)?),
        }
    }

    fn finish(mut self) -> Result<(), TransformError> {
        if let Some(shuffle) = self.shuffle.take() {
            shuffle.finish(&mut self.random, &mut self.out)?;
        }
        Ok(self.out.flush()?)
    }
}

/// One batch at work.
pub(crate) struct Run<'a> {
    pub(crate) project: &'a CompiledProject,
    pub(crate) cells: Vec<Cell>,
    pub(crate) outlet: Outlet<'a>,
    pub(crate) report: Report,
}

impl Run<'_> {
    /// Ends the present row: delivers `line`, unless the row is bad or the batch is refused already.
    pub(crate) fn end_row(&mut self, line: &[u8]) -> Result<(), TransformError> {
        let is_refused = self.report.bad_rows > 0 && self.project.bad_rows == BadRows::RefuseBatch;
        if is_refused || self.report.is_row_bad() {
            return Ok(());
        }
        self.report.rows_out += 1;
        self.outlet.row(line)
    }
}

/// Transforms the batch of `sender` for the project. Without `scratch`, a batch that does not fit in 8 MiB and is to be
/// shuffled fails. `random` fills a buffer with unpredictable bytes. Whether the sender may send is not checked here
/// ([`CompiledProject::admit`] does).
///
/// # Errors
/// [`TransformError`]; what was written to `output` is to be thrown away.
pub fn transform<'a>(
    project: &'a CompiledProject,
    sender: &MailboxAddress,
    input: &mut dyn BufRead,
    output: &'a mut dyn Write,
    scratch: Option<ScratchDir<'a>>,
    random: &'a mut dyn FnMut(&mut [u8]),
) -> Result<Summary, TransformError> {
    let shuffle = (project.rows == Rows::Shuffle).then(|| Shuffle::new(scratch));
    let out = BufWriter::with_capacity(OUT_BUFFER, output);
    let outlet = Outlet { out, random: Random::new(random), shuffle };
    let mut run = Run { project, cells: project.cells(sender), outlet, report: Report::default() };

    let mut head = Vec::new();
    (&mut *input).take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut head)?;
    let head = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&head);
    let mut input = head.chain(input);
    let format = match first_byte(&mut input)? {
        None => return Err(refusal("ZGL-TTP-EMPTY", "the batch is empty").into()),
        Some(b'{') => Format::Ndjson,
        Some(_) => Format::Csv,
    };
    match format {
        Format::Ndjson => ndjson_rows::run(&mut run, &mut input)?,
        Format::Csv => csv_rows::run(&mut run, &mut input)?,
    }
    finish(run, format)
}

fn finish(run: Run<'_>, format: Format) -> Result<Summary, TransformError> {
    let Run { project, outlet, report, .. } = run;
    if report.rows_in == 0 {
        return Err(refusal("ZGL-TTP-EMPTY", "the batch has no rows").into());
    }
    // Of a batch in which every row is bad nothing is left to deliver.
    if report.bad_rows > 0 && (project.bad_rows == BadRows::RefuseBatch || report.rows_out == 0) {
        return Err(report.refusal().into());
    }
    outlet.finish()?;
    let Report { rows_in, rows_out, bad, bad_rows, .. } = report;
    Ok(Summary { format, rows_in, rows_out, bad, bad_rows })
}

/// Skips white space and looks at the first byte behind it.
fn first_byte(input: &mut dyn BufRead) -> Result<Option<u8>, TransformError> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(None);
        }
        let blank = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if let Some(byte) = buffer.get(blank) {
            let byte = *byte;
            input.consume(blank);
            return Ok(Some(byte));
        }
        input.consume(blank);
    }
}
