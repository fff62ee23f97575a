//! A batch in, the project's batch out: streamed, never wholly in memory. And the way back.
//!
//! What comes in: UTF-8 unless the project states another encoding; a byte order mark is skipped. The form is the
//! project's; where it states none, the first character that is not white space decides: `{` means NDJSON, anything else
//! CSV with a header. A batch that is not of the stated form is refused. What goes out is canonical, so that nothing in its
//! dialect is the sender's: see the module of each form.
//!
//! Invariant (I7): memory is bounded by the largest row (1 MiB) and the shuffle's budget, whatever the batch's size.
//! Failure: on any error what was written is to be thrown away. A row over 1 MiB ends a batch whose rows have no other end
//! (CSV, XML, a FHIR bundle); in NDJSON, fixed-width text and HL7 v2 it is a bad row.

use crate::binding::{Binding, FOREIGN, Issued};
use crate::compiled::CompiledProject;
use crate::outlet::Outlet;
use crate::project::{Encoding, FormatName};
use crate::refusal::{TransformError, refusal};
use crate::run::{Run, Way};
use crate::shuffle::ScratchDir;
use crate::sketch::Sketch;
use crate::small_cells::{CellsReport, Ledger, NoLedger};
use crate::transcode::Transcode;
use crate::{csv_rows, fhir, fixed_rows, hl7, json_rows, ndjson_rows, signature, split, xml_rows};
use schemas::messages::BadRow;
use schemas::{MailboxAddress, MessageId, Sha256};
use std::io::{self, BufRead, Read, Write};

/// The longest row that is taken.
pub const ROW_MAX: usize = 1 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The form of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// A FHIR bundle in JSON.
    Fhir,
    /// One FHIR resource a line.
    FhirNdjson,
    /// A KMEHR message.
    Kmehr,
    /// Another XML document.
    Xml,
    /// HL7 v2 messages in ER7.
    Hl7v2,
}

impl Format {
    /// The name of every delivered file of this form: the sender's own name does not cross.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Format::Csv => "batch.csv",
            Format::Ndjson | Format::FhirNdjson => "batch.ndjson",
            Format::Fhir => "batch.json",
            Format::Kmehr | Format::Xml => "batch.xml",
            Format::Hl7v2 => "batch.hl7",
        }
    }

    /// The media type.
    #[must_use]
    pub fn mime(self) -> &'static str {
        match self {
            Format::Csv => "text/csv",
            Format::Ndjson => "application/x-ndjson",
            Format::Fhir => "application/fhir+json",
            Format::FhirNdjson => "application/fhir+ndjson",
            Format::Kmehr | Format::Xml => "application/xml",
            Format::Hl7v2 => "x-application/hl7-v2+er7",
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
    /// Fields whose tokens had under 1,000 different values in 1,000 rows or more: how often each comes may tell which it
    /// is.
    #[serde(default)]
    pub few_values: Vec<String>,
    /// What was held back because too few patients would have been told apart.
    #[serde(default)]
    pub cells: Option<CellsReport>,
    /// The distinct national numbers among what became tokens, of rows that were left out too.
    #[serde(skip)]
    pub identifiers: Sketch,
    /// Where the batch may come back: the digest of the tokens outside of its rows.
    #[serde(skip)]
    pub outer: Option<Sha256>,
}

/// Transforms the batch of `sender` for the project. Without `scratch`, a batch that does not fit in 8 MiB and is to be
/// shuffled fails. `random` fills a buffer with unpredictable bytes. Whether the sender may send is not checked here
/// ([`CompiledProject::admit`] does). Small cells are counted in this batch alone.
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
    transform_counted(project, sender, input, output, scratch, random, &mut NoLedger)
}

/// As [`transform`], with what earlier batches released. What this one releases is added to the ledger, which is to be kept
/// only when the result is delivered.
///
/// # Errors
/// As [`transform`].
pub fn transform_counted<'a>(
    project: &'a CompiledProject,
    sender: &MailboxAddress,
    input: &mut dyn BufRead,
    output: &'a mut dyn Write,
    scratch: Option<ScratchDir<'a>>,
    random: &'a mut dyn FnMut(&mut [u8]),
    ledger: &mut dyn Ledger,
) -> Result<Summary, TransformError> {
    transform_exchange(
        project,
        sender,
        input,
        output,
        scratch,
        random,
        Extras { ledger, handle: None, sealed: &mut io::sink() },
    )
}

/// What goes with a batch that is handed over.
pub struct Extras<'l> {
    /// What earlier batches released.
    pub ledger: &'l mut dyn Ledger,
    /// The handle of the exchange, where the batch may come back: its rows are numbered and bound to their tokens.
    pub handle: Option<MessageId>,
    /// Where the sealed part of a split batch goes.
    pub sealed: &'l mut dyn Write,
}

/// As [`transform_counted`], in an exchange.
///
/// # Errors
/// As [`transform`].
pub fn transform_exchange<'a>(
    project: &'a CompiledProject,
    sender: &MailboxAddress,
    input: &mut dyn BufRead,
    output: &'a mut dyn Write,
    scratch: Option<ScratchDir<'a>>,
    random: &'a mut dyn FnMut(&mut [u8]),
    extras: Extras<'_>,
) -> Result<Summary, TransformError> {
    let outlet = Outlet::new(project.rows, output, scratch, random);
    let binding = extras.handle.map(|handle| Binding::issue(project.row_numbers(handle)));
    let mut run = Run::new(project, sender, Way::Forward, outlet, scratch, binding);
    let format = match project.signer(sender) {
        None => read_parts(&mut run, input, extras.sealed)?,
        Some(signer) => read_parts(&mut run, &mut &signature::strip(input, signer)?[..], extras.sealed)?,
    };
    finish(run, format, extras.ledger)
}

/// Whether a token that came back may be undone.
pub type Guard<'g> = dyn FnMut(u64, &str, &str) -> bool + 'g;

/// Brings a batch that was delivered, and perhaps enriched, back to what `sender` knows: tokens are undone, dates moved
/// back, and columns and members that the project does not list pass as they are, in the order of the batch. `guard` is
/// asked for each token: row (from 1), the field's path, the token; one that it refuses makes a bad row. A CSV batch needs
/// no column of the project.
///
/// # Errors
/// As [`transform`].
pub fn restore<'a>(
    project: &'a CompiledProject,
    sender: &MailboxAddress,
    input: &mut dyn BufRead,
    output: &'a mut dyn Write,
    random: &'a mut dyn FnMut(&mut [u8]),
    guard: &'a mut Guard<'a>,
) -> Result<Summary, TransformError> {
    let outlet = Outlet::new(crate::project::Rows::Keep, output, None, random);
    let mut run = Run::new(project, sender, Way::Back(guard), outlet, None, None);
    let format = read(&mut run, input)?;
    finish(run, format, &mut NoLedger)
}

/// Brings back what was delivered to the recipient in this exchange, enriched by what the project lets it add. Rows may be fewer
/// and stand in another order; each must carry the number and the tokens that it was delivered with, once. `project` is the
/// one that the exchange was made under, of its version and epoch.
///
/// # Errors
/// As [`transform`]. One bad row refuses the whole.
pub fn restore_exchange<'a>(
    project: &'a CompiledProject,
    sender: &MailboxAddress,
    issued: &Issued,
    input: &mut dyn BufRead,
    output: &'a mut dyn Write,
    random: &'a mut dyn FnMut(&mut [u8]),
) -> Result<Summary, TransformError> {
    let outlet = Outlet::new(crate::project::Rows::Keep, output, None, random);
    let binding = Binding::check(project.row_numbers(issued.handle), *issued);
    let mut run = Run::new(project, sender, Way::Return, outlet, None, Some(binding));
    let format = read(&mut run, input)?;
    if run.binding.as_ref().is_some_and(|binding| !binding.is_outer_whole()) {
        let text = "the tokens outside of the rows are not those that were delivered";
        return Err(refusal(FOREIGN, text).into());
    }
    finish(run, format, &mut NoLedger)
}

/// Reads the batch, or of a split one the identifiers.
fn read_parts(run: &mut Run<'_>, input: &mut dyn BufRead, sealed: &mut dyn Write) -> Result<Format, TransformError> {
    match run.project.split() {
        None => read(run, input),
        Some(recipient) => split::read(input, recipient, sealed, |identifiers| read(run, identifiers)),
    }
}

fn read(run: &mut Run<'_>, input: &mut dyn BufRead) -> Result<Format, TransformError> {
    // What comes back was delivered in the canonical form.
    match run.project.text.encoding {
        Encoding::Utf8 => read_utf8(run, input),
        _ if run.is_back() => read_utf8(run, input),
        encoding => read_utf8(run, &mut Transcode::new(input, encoding)),
    }
}

fn read_utf8(run: &mut Run<'_>, input: &mut dyn BufRead) -> Result<Format, TransformError> {
    let mut head = Vec::new();
    (&mut *input).take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut head)?;
    let head = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&head);
    let mut input = head.chain(input);
    let is_fixed = run.project.format == Some(FormatName::FixedWidth) && !run.is_back();
    // In fixed-width text a blank at the beginning is part of the first row.
    let first = if is_fixed { input.fill_buf()?.first().copied() } else { first_byte(&mut input)? };
    let Some(first) = first else { return Err(refusal("ZGL-TTP-EMPTY", "the batch is empty").into()) };
    let form = match run.project.format {
        None if first == b'{' => FormatName::Ndjson,
        None => FormatName::Csv,
        Some(FormatName::FixedWidth) if run.is_back() => FormatName::Csv,
        Some(form) => form,
    };
    let begins_as = |expected: &[u8], what| {
        let is_so = expected.contains(&first);
        is_so.then_some(()).ok_or_else(|| refusal("ZGL-TTP-FORMAT", format!("the batch is not {what}")))
    };
    match form {
        FormatName::Csv if first == b'{' && run.project.format.is_some() => {
            Err(refusal("ZGL-TTP-FORMAT", "the batch is JSON, and the project's is CSV").into())
        }
        FormatName::Csv => csv_rows::run(run, &mut input).map(|()| Format::Csv),
        FormatName::FixedWidth => fixed_rows::run(run, &mut input).map(|()| Format::Csv),
        FormatName::Ndjson => {
            begins_as(b"{", "NDJSON")?;
            ndjson_rows::run(run, &mut input).map(|()| Format::Ndjson)
        }
        FormatName::Json => {
            begins_as(b"[{", "an array of JSON objects")?;
            json_rows::run(run, &mut input).map(|()| Format::Ndjson)
        }
        FormatName::Fhir => {
            begins_as(b"{", "FHIR in JSON")?;
            fhir::run(run, &mut input)
        }
        FormatName::Kmehr => {
            begins_as(b"<", "KMEHR in XML")?;
            xml_rows::run(run, &mut input, true).map(|()| Format::Kmehr)
        }
        FormatName::Xml => {
            begins_as(b"<", "XML")?;
            xml_rows::run(run, &mut input, false).map(|()| Format::Xml)
        }
        FormatName::Hl7v2 => {
            begins_as(b"MFB\x0B", "HL7 v2 in ER7")?;
            hl7::run(run, &mut input).map(|()| Format::Hl7v2)
        }
    }
}

fn finish(run: Run<'_>, format: Format, ledger: &mut dyn Ledger) -> Result<Summary, TransformError> {
    let (is_strict, identifiers) = (run.is_strict(), run.identifiers());
    let outer = run.binding.as_ref().map(Binding::outer);
    let (few_values, Run { mut outlet, mut report, gate, .. }) = (run.few_values(), run);
    if report.rows_in == 0 {
        return Err(refusal("ZGL-TTP-EMPTY", "the batch has no rows").into());
    }
    // Of a batch in which every row is bad nothing is left to deliver.
    if report.bad_rows > 0 && (is_strict || report.rows_out == 0) {
        return Err(report.refusal().into());
    }
    let cells = match gate {
        Some(gate) => Some(gate.release(ledger, &mut outlet)?),
        None => None,
    };
    if let Some(cells) = &cells {
        report.rows_out -= cells.rows_held;
        if report.rows_out == 0 {
            let text = "every row would tell too few patients apart";
            return Err(refusal("ZGL-TTP-CELLS", text).into());
        }
    }
    outlet.finish()?;
    let crate::refusal::Report { rows_in, rows_out, bad, bad_rows, .. } = report;
    Ok(Summary { format, rows_in, rows_out, bad, bad_rows, few_values, cells, identifiers, outer })
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
