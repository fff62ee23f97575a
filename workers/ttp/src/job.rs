//! The job of the TTP: a large batch, streamed from object to object.
//!
//! Spec: the inbound message as JSON, a line feed, and the batch itself when it came as an attachment (its result may be
//! too large for one). Outcome: JSON. A job may be killed at any instant: it leaves at most an object that nothing refers
//! to. It looks at the stop signal with every block that it reads or writes.

use crate::exchange::{self, ExchangeRow, Made};
use crate::ledger::{self, ReportRow, StoreLedger};
use crate::padding;
use crate::refusal::TransformError;
use crate::shuffle::ScratchDir;
use crate::sketch::Sketch;
use crate::small_cells::CellsReport;
use crate::split;
use crate::transform::{Extras, Summary, restore_exchange, transform_exchange};
use crate::worker::{Ttp, left_out, made, part};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use schemas::messages::{Content, Inbound, Part, Reason};
use schemas::{Key, MessageId, Millis};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read, Write};
use zegel_core::objects::{ObjectSink, ObjectsError};
use zegel_core::worker::{Change, JobError, JobIo};
use zegel_core::{Failure, Interrupt, names};
use zegel_crypto::hash::Hasher;

/// Read from the object at a time.
const IN_BUFFER: usize = 256 << 10;

/// What a job is to do.
pub(crate) struct JobSpec<'a> {
    inbound: Inbound,
    attachment: &'a [u8],
}

impl<'a> JobSpec<'a> {
    pub(crate) fn encode(inbound: &Inbound, attachment: &[u8]) -> Result<Vec<u8>, Interrupt> {
        let mut spec = serde_json::to_vec(inbound).map_err(|_| Failure::permanent("ZGL-STATE-WRITE"))?;
        spec.push(b'\n');
        spec.extend_from_slice(attachment);
        Ok(spec)
    }

    fn decode(spec: &'a [u8]) -> Option<JobSpec<'a>> {
        let end = spec.iter().position(|byte| *byte == b'\n')?;
        Some(JobSpec { inbound: serde_json::from_slice(&spec[..end]).ok()?, attachment: &spec[end + 1..] })
    }
}

/// What a job brings.
#[derive(Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The result is in the object store.
    Done {
        part: Part,
        /// The sealed part of a split batch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sealed: Option<Box<Part>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        left_out: Option<Box<Reason>>,
        /// Where small cells are held back: what the officer is told, and what the batch shows for the first time (module
        /// `ledger`), base64.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cells: Option<Box<(CellsReport, String)>>,
        /// The sketch of its identifiers, base64.
        #[serde(default)]
        identifiers: String,
        /// Where it may come back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exchange: Option<Made>,
    },
    /// What came back is restored, in the object store.
    Returned { part: Part },
    /// The batch is refused.
    Refused { reason: Reason },
}

impl Outcome {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Outcome, Interrupt> {
        serde_json::from_slice(bytes).map_err(|_| Failure::permanent("ZGL-STATE-READ").into())
    }
}

/// The rows that remember what an outcome shows for the first time.
pub(crate) fn remembered(
    owner: Key,
    number: u64,
    (report, shown): &(CellsReport, String),
    now: Millis,
) -> Result<Vec<Change>, Interrupt> {
    let pairs = BASE64_STANDARD.decode(shown).map_err(|_| Failure::permanent("ZGL-STATE-READ"))?;
    ledger::rows(owner, number, &pairs, &ReportRow { at: Some(now), report: *report })
}

/// The sketch in an outcome.
pub(crate) fn sketch(text: &str) -> Result<Sketch, Interrupt> {
    let bytes = BASE64_STANDARD.decode(text).ok();
    bytes.and_then(|bytes| Sketch::decode(&bytes)).ok_or_else(|| Failure::permanent("ZGL-STATE-READ").into())
}

/// Runs a job.
pub(crate) fn run(ttp: &Ttp, spec: &[u8], io: &dyn JobIo) -> Result<Vec<u8>, JobError> {
    let JobSpec { inbound, attachment } = JobSpec::decode(spec).ok_or_else(|| error("ZGL-STATE-READ", false))?;
    let input: Box<dyn Read + Send + '_> = match &inbound.part.content {
        Content::Object(object) => io.objects().open(object).map_err(objects_error)?,
        Content::Attached => Box::new(attachment),
        Content::Stored(_) => return Err(error("ZGL-MSG-PAYLOAD", false)),
    };
    let done = match inbound.handle {
        Some(handle) => restore_to_object(ttp, (&inbound, handle), input, io).map(|part| Outcome::Returned { part }),
        None => transform_to_object(ttp, &inbound, input, io),
    };
    let outcome = match done {
        Ok(outcome) => outcome,

        Err(Trouble::Transform(TransformError::Refused(reason))) => Outcome::Refused { reason: *reason },
        Err(_) if io.stopping() => return Err(error("ZGL-STOPPING", true)),
        Err(Trouble::Transform(TransformError::Scratch(_))) => return Err(error("ZGL-TTP-SCRATCH", true)),
        Err(Trouble::Transform(TransformError::Io(cause))) if cause.kind() == io::ErrorKind::InvalidData => {
            return Err(error("ZGL-SEAL", false));
        }
        Err(Trouble::Transform(TransformError::Io(_))) => return Err(error("ZGL-OBJECTS-AWAY", true)),
        Err(Trouble::Objects(cause)) => return Err(objects_error(cause)),
        Err(Trouble::State(cause)) => return Err(cause),
    };
    serde_json::to_vec(&outcome).map_err(|_| error("ZGL-STATE-WRITE", false))
}

enum Trouble {
    Transform(TransformError),
    Objects(ObjectsError),
    State(JobError),
}

impl From<TransformError> for Trouble {
    fn from(error: TransformError) -> Trouble {
        Trouble::Transform(error)
    }
}

impl From<ObjectsError> for Trouble {
    fn from(error: ObjectsError) -> Trouble {
        Trouble::Objects(error)
    }
}

fn transform_to_object(
    ttp: &Ttp,
    inbound: &Inbound,
    input: Box<dyn Read + Send + '_>,
    io: &dyn JobIo,
) -> Result<Outcome, Trouble> {
    let project = ttp.project(inbound, io.now()).map_err(TransformError::from)?;
    let mut input = stoppable(input, io);
    let mut output = Output::create(io)?;
    let scratch = ScratchDir { folder: ttp.scratch(), keys: io.keys() };
    let mut random = |bytes: &mut [u8]| io.keys().random(bytes);
    let mut ledger = StoreLedger::new(io, names::project_key(io.keys(), &inbound.project));
    let handle = project.returns().map(|_| MessageId(io.keys().random16()));
    let mut sealed = project.split().map(|_| Output::create(io)).transpose()?;
    let mut nowhere = io::sink();
    let passed: &mut dyn Write = sealed.as_mut().map_or(&mut nowhere, |sealed| sealed);
    let extras = Extras { ledger: &mut ledger, handle, sealed: passed };
    let sender = &inbound.sender;
    let summary = transform_exchange(&project, sender, &mut input, &mut output, Some(scratch), &mut random, extras)?;
    let size = output.inner.size;
    padding::fill(summary.format, size, &mut output).map_err(TransformError::Io)?;
    let part = output.finish(&summary)?;
    let sealed = sealed.map(Output::finish_sealed).transpose()?.map(Box::new);
    let (left_out, exchange) = (left_out(&summary).map(Box::new), made(handle, &summary));
    let cells = summary.cells.map(|report| Box::new((report, BASE64_STANDARD.encode(ledger.new.as_flattened()))));
    let identifiers = BASE64_STANDARD.encode(summary.identifiers.encode());
    Ok(Outcome::Done { part, sealed, left_out, cells, identifiers, exchange })
}

/// What came back, restored. That it may come back was decided when the job was asked for, and is decided again after it.
fn restore_to_object(
    ttp: &Ttp,
    (inbound, handle): (&Inbound, MessageId),
    input: Box<dyn Read + Send + '_>,
    io: &dyn JobIo,
) -> Result<Part, Trouble> {
    let owner = names::project_key(io.keys(), &inbound.project);
    let rows = io.read(exchange::read(io.keys(), owner, handle)).map_err(Trouble::State)?;
    let row = rows.first().and_then(|(_, row)| serde_json::from_slice::<ExchangeRow>(row).ok());
    let row = row.ok_or_else(|| Trouble::State(error("ZGL-STATE-READ", false)))?;
    let project = ttp.made_under(inbound, &row, io.now()).map_err(TransformError::from)?;
    let mut output = Output::create(io)?;
    let mut random = |bytes: &mut [u8]| io.keys().random(bytes);
    let issued = row.issued(handle);
    let summary =
        restore_exchange(&project, &row.sender, &issued, &mut stoppable(input, io), &mut output, &mut random)?;
    output.finish(&summary)
}

fn stoppable<'a>(input: Box<dyn Read + Send + 'a>, io: &'a dyn JobIo) -> impl BufRead + 'a {
    BufReader::with_capacity(IN_BUFFER, Stoppable { inner: input, io })
}

/// An object that is written.
type Output<'a> = Stoppable<'a, Digesting>;

impl<'a> Output<'a> {
    fn create(io: &'a dyn JobIo) -> Result<Output<'a>, ObjectsError> {
        Ok(Stoppable { inner: Digesting { sink: io.objects().create()?, hasher: Hasher::new(), size: 0 }, io })
    }

    fn finish_sealed(self) -> Result<Part, Trouble> {
        let Digesting { sink, hasher, size } = self.inner;
        let (file_name, mime) = (split::SEALED_NAME.to_owned(), split::SEALED_MIME.to_owned());
        Ok(Part { file_name, mime, size, digest: hasher.finish(), content: Content::Object(sink.finish()?) })
    }

    fn finish(self, summary: &Summary) -> Result<Part, Trouble> {
        let Digesting { sink, hasher, size } = self.inner;
        Ok(part(summary.format, size, hasher.finish(), Content::Object(sink.finish()?)))
    }
}

/// Fails as soon as the process is stopping.
struct Stoppable<'a, T> {
    inner: T,
    io: &'a dyn JobIo,
}

impl<T> Stoppable<'_, T> {
    fn check(&self) -> io::Result<()> {
        if self.io.stopping() { Err(io::Error::other("stopping")) } else { Ok(()) }
    }
}

impl<T: Read> Read for Stoppable<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        self.inner.read(buffer)
    }
}

impl<T: Write> Write for Stoppable<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Counts and hashes what goes into an object.
struct Digesting {
    sink: Box<dyn ObjectSink>,
    hasher: Hasher,
    size: u64,
}

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.sink.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

fn error(code: &str, retryable: bool) -> JobError {
    JobError { code: code.to_owned(), retryable }
}

fn objects_error(cause: ObjectsError) -> JobError {
    match cause {
        ObjectsError::Missing => error("ZGL-OBJECT-MISSING", false),
        ObjectsError::Authentication => error("ZGL-SEAL", false),
        ObjectsError::Unavailable(_) => error("ZGL-OBJECTS-AWAY", true),
    }
}
