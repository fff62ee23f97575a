//! The worker of `ttp.inbound`: checks the project, transforms the batch, and hands over a message built anew.
//!
//! Small batches (an attachment in, an attachment out) are transformed in the step; everything else is a job that streams
//! from object to object. What is delivered carries nothing of the sender's message but the transformed rows: handle,
//! ids, title, file name, time and trace are new. The final positive answer comes from the recipient's box; a negative
//! one from here. The object that came in is left to the sweep of objects that nothing refers to.
//! Failure: a refused batch is answered with its reason and nothing is forwarded; a batch that is given up (job failed for
//! good, attempts used up) is answered negatively too (I5).

use crate::compiled::CompiledProject;
use crate::exchange::{self, Made};
use crate::handover::Parcel;
use crate::job::{self, JobSpec, Outcome};
use crate::padding;
use crate::pool;
use crate::project::ProjectError;
use crate::project::book::ProjectBook;
use crate::quarantine::{self, Quarantine};
use crate::quota;
use crate::refusal::{TransformError, refusal};
use crate::sketch::Sketch;
use crate::small_cells::NoLedger;
use crate::transform::{Extras, Format, Summary, transform_exchange};
use bytes::Bytes;
use schemas::envelope::ATTACHMENT_MAX;
use schemas::messages::{
    Answer, Answered, Content, ContentType, Deliver, From, Inbound, Notice, Part, QuarantineOrder, Reason,
    ReceiptsWanted, TtpWake, TtpWork,
};
use schemas::{Envelope, MailboxAddress, MessageId, Millis, Payload};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use topology::{CHANNELS, Channel};
use zegel_core::worker::{Change, JobError, JobIo};
use zegel_core::{Context, Decision, Effects, Failure, Interrupt, Message, Read, View, Worker, names};

pub(crate) const SOURCE: &str = "/zegel/ttp";
pub(crate) const DELIVER: &Channel = &CHANNELS[1];
pub(crate) const INBOUND: &Channel = &CHANNELS[2];
pub(crate) const RECEIPTS: &Channel = &CHANNELS[3];

/// The TTP's worker. Projects are read-only reference data with their keys; their book may be replaced at any time.
#[derive(Debug)]
pub struct Ttp {
    projects: Arc<ProjectBook>,
    scratch: PathBuf,
}

/// A transformed batch, ready to be handed over.
pub(crate) struct Delivery {
    pub(crate) part: Part,
    /// What is sealed for the recipient, of a split batch; an object.
    pub(crate) sealed: Option<Part>,
    pub(crate) attachment: Bytes,
    pub(crate) left_out: Option<Reason>,
    pub(crate) identifiers: Sketch,
    /// Where it may come back.
    pub(crate) exchange: Option<Made>,
    /// What is remembered when it is handed over, and only then.
    pub(crate) remembered: Vec<Change>,
}

impl Ttp {
    /// A worker for projects that hold without papers, for tests and measurements. `scratch` as in [`Ttp::with_book`].
    ///
    /// # Errors
    /// [`ProjectError::Rule`] when two projects have the same name.
    pub fn new(projects: Vec<CompiledProject>, scratch: PathBuf) -> Result<Ttp, ProjectError> {
        Ok(Ttp::with_book(Arc::new(ProjectBook::unconditional(projects)?), scratch))
    }

    /// A worker for the projects of a book. `scratch` is an existing folder on a disk with room for the largest batch.
    #[must_use]
    pub fn with_book(projects: Arc<ProjectBook>, scratch: PathBuf) -> Ttp {
        Ttp { projects, scratch }
    }

    /// The project of a batch, if its sender may send for it now and an answer still counts.
    fn admit(&self, inbound: &Inbound, deadline: Option<Millis>, now: Millis) -> Result<Arc<CompiledProject>, Reason> {
        let project = self.project(inbound, now)?;
        project.admit(&inbound.sender, now)?;
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(refusal("ZGL-DEADLINE", "the deadline has passed"));
        }
        Ok(project)
    }

    pub(crate) fn project(&self, inbound: &Inbound, now: Millis) -> Result<Arc<CompiledProject>, Reason> {
        self.projects.at(&inbound.project, now)
    }

    pub(crate) fn book(&self) -> &ProjectBook {
        &self.projects
    }

    pub(crate) fn scratch(&self) -> &std::path::Path {
        &self.scratch
    }

    /// Does what one of the project's timers asks for.
    fn wake(&self, message: &Message, view: &View, context: &Context<'_>) -> Result<Effects, Interrupt> {
        let wake: TtpWake = message.payload()?;
        match wake.work {
            TtpWork::Tidy => exchange::tidy(message, wake, view, context),
            TtpWork::Release => pool::wake(self, &wake, (message, view, context)),
        }
    }

    fn begin(
        &self,
        message: &Message,
        project: &Arc<CompiledProject>,
        inbound: &Inbound,
        view: &View,
        context: &Context<'_>,
    ) -> Result<Decision, Interrupt> {
        let attachment = &message.envelope.attachment;
        let as_job = || Ok(Decision::Job { spec: JobSpec::encode(inbound, attachment)? });
        match inbound.part.content {
            Content::Object(_) => return as_job(),
            Content::Stored(_) => return Err(Failure::permanent("ZGL-MSG-PAYLOAD").into()),
            // What was shown before is read by the job, and a second part is an object of its own.
            Content::Attached if project.small_cells.is_some() || project.split().is_some() => return as_job(),
            Content::Attached => {}
        }
        let mut out = Vec::new();
        let mut random = |bytes: &mut [u8]| context.keys.random(bytes);
        let handle = project.returns().map(|_| context.new_id());
        let extras = Extras { ledger: &mut NoLedger, handle, sealed: &mut std::io::sink() };
        let input = &mut &attachment[..];
        match transform_exchange(project, &inbound.sender, input, &mut out, None, &mut random, extras) {
            Ok(summary) if out.len() <= ATTACHMENT_MAX => {
                let size = out.len() as u64;
                padding::fill(summary.format, size, &mut out).map_err(|_| Failure::transient("ZGL-TTP-SCRATCH"))?;
                let digest = zegel_crypto::hash::sha256(&out);
                let part = part(summary.format, out.len() as u64, digest, Content::Attached);
                let (left_out, exchange) = (left_out(&summary), made(handle, &summary));
                let (attachment, identifiers) = (out.into(), summary.identifiers);
                let delivery = Delivery {
                    part,
                    sealed: None,
                    attachment,
                    left_out,
                    identifiers,
                    exchange,
                    remembered: Vec::new(),
                };
                deliver(self, message, (project, inbound), delivery, view, context).map(Decision::Done)
            }
            Err(TransformError::Refused(reason)) => {
                refuse(self, (inbound, *reason), (message, view, context)).map(Decision::Done)
            }
            // Too large for an attachment, or for the memory of a step.
            Ok(_) | Err(_) => as_job(),
        }
    }
}

impl Worker for Ttp {
    fn channel(&self) -> &'static Channel {
        INBOUND
    }

    fn reads(&self, message: &Message, context: &Context<'_>) -> Vec<Read> {
        // A payload that cannot be read is refused when it is decided about.
        let own = message.payload().map(|inbound: Inbound| match inbound.handle {
            Some(handle) => exchange::read(context.keys, message.key(), handle),
            None => quota::read(message, &inbound, context),
        });
        [quarantine::read(message)].into_iter().chain(own).collect()
    }

    fn decide(&self, message: &Message, view: &View, context: &Context<'_>) -> Result<Decision, Interrupt> {
        if message.is::<QuarantineOrder>() {
            return quarantine::obey(message, view, context);
        }
        if message.is::<TtpWake>() {
            return self.wake(message, view, context).map(Decision::Done);
        }
        let inbound: Inbound = message.payload()?;
        if let Some(handle) = inbound.handle {
            return self.decide_return(message, (&inbound, handle), view, context);
        }
        let project = match self.admit(&inbound, message.envelope.deadline, context.now) {
            Ok(project) => project,
            Err(reason) => return refuse(self, (&inbound, reason), (message, view, context)).map(Decision::Done),
        };
        match &message.job {
            None => self.begin(message, &project, &inbound, view, context),
            Some(Ok(outcome)) => match Outcome::decode(outcome)? {
                Outcome::Done { part, sealed, left_out, cells, identifiers, exchange } => {
                    let identifiers = job::sketch(&identifiers)?;
                    let remembered = match &cells {
                        Some(cells) => job::remembered(message.key(), message.number, cells, context.now)?,
                        None => Vec::new(),
                    };
                    let (attachment, sealed) = (Bytes::new(), sealed.map(|part| *part));
                    let left_out = left_out.map(|reason| *reason);
                    let delivery = Delivery { part, sealed, attachment, left_out, identifiers, exchange, remembered };
                    deliver(self, message, (&project, &inbound), delivery, view, context).map(Decision::Done)
                }
                Outcome::Returned { .. } => Err(Failure::permanent("ZGL-STATE-READ").into()),
                Outcome::Refused { reason } => {
                    refuse(self, (&inbound, reason), (message, view, context)).map(Decision::Done)
                }
            },
            Some(Err(error)) => {
                let effects = refuse(self, (&inbound, failed(&error.code)), (message, view, context))?;
                Ok(Decision::Dead { code: error.code.clone(), effects })
            }
        }
    }

    fn give_up(&self, message: &Message, code: &str, view: &View, context: &Context<'_>) -> Result<Effects, Interrupt> {
        if message.is::<QuarantineOrder>() || message.is::<TtpWake>() {
            return Ok(Effects::default());
        }
        let inbound: Inbound = message.payload()?;
        refuse(self, (&inbound, failed(code)), (message, view, context))
    }

    fn run_job(&self, spec: &[u8], io: &dyn JobIo) -> Result<Vec<u8>, JobError> {
        job::run(self, spec, io)
    }

    fn downstream(&self) -> Option<&'static str> {
        Some("objects")
    }
}

pub(crate) fn part(format: Format, size: u64, digest: schemas::Sha256, content: Content) -> Part {
    Part { file_name: format.file_name().to_owned(), mime: format.mime().to_owned(), size, digest, content }
}

/// The exchange of a batch that may come back.
pub(crate) fn made(handle: Option<MessageId>, summary: &Summary) -> Option<Made> {
    handle.zip(summary.outer).map(|(handle, outer)| Made { handle, rows: summary.rows_in, outer })
}

/// What the sender is told of rows that were left out.
pub(crate) fn left_out(summary: &Summary) -> Option<Reason> {
    let held = summary.cells.map_or(0, |cells| cells.rows_held);
    let text = |count: u64, why: &str| format!("{count} of {} rows were {why}", summary.rows_in);
    match (summary.bad_rows, held) {
        (0, 0) => None,
        (0, held) => Some(refusal("ZGL-TTP-CELLS", text(held, "held back: they would tell too few patients apart"))),
        (bad, _) => Some(Reason {
            rows: summary.bad.clone(),
            bad_rows: bad,
            ..refusal("ZGL-TTP-ROWS", text(bad + held, "left out"))
        }),
    }
}

pub(crate) fn failed(code: &str) -> Reason {
    refusal(code, "the batch could not be processed")
}

/// The message to the recipient, and to the sender if rows were left out; a refusal when the sender's quota is used up.
fn deliver(
    ttp: &Ttp,
    message: &Message,
    (project, inbound): (&Arc<CompiledProject>, &Inbound),
    delivery: Delivery,
    view: &View,
    context: &Context<'_>,
) -> Result<Effects, Interrupt> {
    let charged = match quota::charge(message, (project, inbound), &delivery.identifiers, view, context)? {
        Ok(charged) => charged,
        Err(reason) => return refuse(ttp, (inbound, reason), (message, view, context)),
    };
    let mut effects = Effects { changes: delivery.remembered, ..Effects::default() };
    effects.changes.extend(charged);
    let parcel = Parcel {
        submission: inbound.submission,
        sender: inbound.sender.clone(),
        recipient: inbound.recipient.clone(),
        period: (project.version(), project.epoch()),
        part: delivery.part,
        sealed: delivery.sealed,
        exchange: delivery.exchange,
        deadline: message.envelope.deadline,
    };
    let taken = pool::take(&mut effects, ttp, project, (parcel, delivery.attachment), (message, view, context))?;
    if let Err(reason) = taken {
        return refuse(ttp, (inbound, reason), (message, view, context));
    }
    if let Some(reason) = delivery.left_out {
        effects.produce(DELIVER, tell_sender(message, inbound, reason, context)?);
    }
    Ok(effects)
}

/// The project delivers good rows although others are bad; the answer is positive, so the bad ones are told apart.
fn tell_sender(
    message: &Message,
    inbound: &Inbound,
    reason: Reason,
    context: &Context<'_>,
) -> Result<Envelope, Interrupt> {
    let mut payload = boxed(context, &inbound.sender, From::Platform, ContentType::Error);
    payload.title = "Rows were left out".to_owned();
    payload.notice = Some(Notice {
        submission: inbound.submission,
        // Not the sender's reference: under that one only the final answer stands.
        publication_id: String::new(),
        recipient: inbound.recipient.clone(),
        ack: None,
        reason: Some(reason),
        at: context.now,
    });
    envelope(message, names::address_key(context.keys, &inbound.sender), &payload, context)
}

pub(crate) fn boxed(
    context: &Context<'_>,
    recipient: &MailboxAddress,
    from: From,
    content_type: ContentType,
) -> Deliver {
    Deliver {
        item: context.new_id(),
        recipient: recipient.clone(),
        from,
        content_type,
        title: String::new(),
        parts: Vec::new(),
        notice: None,
        meta: BTreeMap::new(),
        answers: None,
        answers_for: None,
        receipts: ReceiptsWanted::default(),
    }
}

/// The negative answer. Nothing else leaves; the batch stands still in quarantine.
pub(crate) fn refuse(
    ttp: &Ttp,
    (inbound, reason): (&Inbound, Reason),
    place: (&Message, &View, &Context<'_>),
) -> Result<Effects, Interrupt> {
    let (message, view, _) = place;
    let mut effects = Effects::default();
    let refused = (inbound, message.envelope.attachment.clone(), &reason);
    Quarantine::open(message, view)?.hold(&mut effects, ttp, refused, place)?;
    let about = (inbound.submission, inbound.recipient.clone());
    let mut envelope = refusal_of(about, reason, place)?;
    // The answer goes back to the sender, so it may stay in the sender's trace; what is delivered may not.
    envelope.traceparent = message.envelope.traceparent;
    effects.produce(RECEIPTS, envelope);
    Ok(effects)
}

/// The negative answer to a batch that waited.
pub(crate) fn refuse_parcel(
    effects: &mut Effects,
    parcel: &Parcel,
    reason: Reason,
    place: (&Message, &View, &Context<'_>),
) -> Result<(), Interrupt> {
    let mut envelope = refusal_of((parcel.submission, parcel.recipient.clone()), reason, place)?;
    envelope.deadline = parcel.deadline;
    effects.produce(RECEIPTS, envelope);
    Ok(())
}

fn refusal_of(
    (submission, recipient): (MessageId, MailboxAddress),
    reason: Reason,
    (message, _, context): (&Message, &View, &Context<'_>),
) -> Result<Envelope, Interrupt> {
    let answered = Answered { submission, recipient, answer: Answer::Refused { reason }, at: context.now };
    envelope(message, names::submission_key(submission), &answered, context)
}

pub(crate) fn envelope<P: Payload>(
    message: &Message,
    key: schemas::Key,
    payload: &P,
    context: &Context<'_>,
) -> Result<Envelope, Interrupt> {
    let mut envelope = Envelope::new(context.new_id(), SOURCE, key, context.now, payload)
        .map_err(|_| Failure::permanent("ZGL-MSG-ENCODE"))?;
    envelope.deadline = message.envelope.deadline;
    Ok(envelope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_to_the_channels_that_are_meant() {
        let found = [DELIVER, INBOUND, RECEIPTS].map(|channel| channel.name);
        assert_eq!(found, ["mailbox.deliver", "ttp.inbound", "receipts.due"]);
    }
}
