//! The way back: what a recipient returns goes to the sender whom it does not know, in clear again.
//!
//! A return is taken from the project's recipient alone, under the handle of one delivery, until that expires, and once.
//! Its rows are checked against what was delivered (module `binding`) and restored under the document and the keys of that
//! delivery. The answer to the recipient is the TTP's own: it comes when the return is accepted, and nothing that happens in
//! the sender's box, or that there is none, is ever told. What is refused uses nothing up, goes nowhere, and stands still in quarantine.

use crate::binding::Issued;
use crate::compiled::CompiledProject;
use crate::exchange::{self, ExchangeRow};
use crate::job::{JobSpec, Outcome};
use crate::refusal::{TransformError, refusal};
use crate::transform::restore_exchange;
use crate::worker::{DELIVER, RECEIPTS, Ttp, boxed, envelope, failed, part, refuse};
use bytes::Bytes;
use schemas::envelope::ATTACHMENT_MAX;
use schemas::messages::{Answer, Answered, Content, ContentType, From, Inbound, Part, Reason};
use schemas::{MessageId, Millis};
use std::sync::Arc;
use zegel_core::slot::spaces::EXCHANGES;
use zegel_core::{Context, Decision, Effects, Failure, Interrupt, Message, View, names};

/// An exchange that something may come back in, with the project as it was then.
struct Open {
    row: ExchangeRow,
    project: Arc<CompiledProject>,
}

impl Ttp {
    /// Decides about what comes back under `handle`.
    pub(crate) fn decide_return(
        &self,
        message: &Message,
        (inbound, handle): (&Inbound, MessageId),
        view: &View,
        context: &Context<'_>,
    ) -> Result<Decision, Interrupt> {
        let opened = match self.may_return(inbound, message.envelope.deadline, context.now) {
            Ok(()) => self.open(message, (inbound, handle), view, context)?,
            Err(reason) => Err(reason),
        };
        let open = match opened {
            Ok(open) => open,
            Err(reason) => return refuse(self, (inbound, reason), (message, view, context)).map(Decision::Done),
        };
        match &message.job {
            None => begin(self, (inbound, handle), &open, (message, view, context)),
            Some(Ok(outcome)) => match Outcome::decode(outcome)? {
                Outcome::Returned { part } => {
                    accept(message, (inbound, handle), &open, (part, Bytes::new()), context).map(Decision::Done)
                }
                Outcome::Refused { reason } => {
                    refuse(self, (inbound, reason), (message, view, context)).map(Decision::Done)
                }
                Outcome::Done { .. } => Err(Failure::permanent("ZGL-STATE-READ").into()),
            },
            Some(Err(error)) => {
                let effects = refuse(self, (inbound, failed(&error.code)), (message, view, context))?;
                Ok(Decision::Dead { code: error.code.clone(), effects })
            }
        }
    }

    /// Whether the project takes something back from this sender now. What is asked for is not looked at before.
    fn may_return(&self, inbound: &Inbound, deadline: Option<Millis>, now: Millis) -> Result<(), Reason> {
        let project = self.project(inbound, now)?;
        // Who it is comes first, as on the way there.
        if inbound.sender != *project.recipient() {
            return Err(refusal("ZGL-RETURN-RECIPIENT", "only the project's recipient may send back"));
        }
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(refusal("ZGL-DEADLINE", "the deadline has passed"));
        }
        if !project.is_open(now) {
            return Err(refusal("ZGL-TTP-EXPIRED", "the project does not hold today"));
        }
        if project.returns().is_none() {
            return Err(refusal("ZGL-RETURN-DIRECTION", "the project is one-way"));
        }
        Ok(())
    }

    fn open(
        &self,
        message: &Message,
        (inbound, handle): (&Inbound, MessageId),
        view: &View,
        context: &Context<'_>,
    ) -> Result<Result<Open, Reason>, Interrupt> {
        let row: Option<ExchangeRow> = view.get(EXCHANGES, message.key(), exchange::sub(context.keys, handle))?;
        let Some(row) = row else { return Ok(Err(refusal("ZGL-RETURN-HANDLE", "the project knows no such handle"))) };
        let admitted = row.admit(context.now).and_then(|()| self.made_under(inbound, &row, context.now));
        let opened = admitted.and_then(|project| match project.can_decode() {
            true => Ok(Open { row, project }),
            false => Err(refusal("ZGL-RETURN-KEY", "the key of the project's decode role is not here")),
        });
        Ok(opened)
    }

    /// The project as it was when the exchange was made.
    pub(crate) fn made_under(
        &self,
        inbound: &Inbound,
        row: &ExchangeRow,
        now: Millis,
    ) -> Result<Arc<CompiledProject>, Reason> {
        self.book().of_period(&inbound.project, (row.version, row.epoch), now)
    }
}

impl ExchangeRow {
    /// What its rows are checked against.
    pub(crate) fn issued(&self, handle: MessageId) -> Issued {
        Issued { handle, rows: self.rows, outer: self.outer }
    }
}

fn begin(
    ttp: &Ttp,
    (inbound, handle): (&Inbound, MessageId),
    open: &Open,
    (message, view, context): (&Message, &View, &Context<'_>),
) -> Result<Decision, Interrupt> {
    let attachment = &message.envelope.attachment;
    let as_job = || Ok(Decision::Job { spec: JobSpec::encode(inbound, attachment)? });
    match inbound.part.content {
        Content::Object(_) => return as_job(),
        Content::Stored(_) => return Err(Failure::permanent("ZGL-MSG-PAYLOAD").into()),
        Content::Attached => {}
    }
    let mut out = Vec::new();
    let mut random = |bytes: &mut [u8]| context.keys.random(bytes);
    let issued = open.row.issued(handle);
    match restore_exchange(&open.project, &open.row.sender, &issued, &mut &attachment[..], &mut out, &mut random) {
        Ok(summary) if out.len() <= ATTACHMENT_MAX => {
            let digest = zegel_crypto::hash::sha256(&out);
            let part = part(summary.format, out.len() as u64, digest, Content::Attached);
            accept(message, (inbound, handle), open, (part, out.into()), context).map(Decision::Done)
        }
        Err(TransformError::Refused(reason)) => {
            refuse(ttp, (inbound, *reason), (message, view, context)).map(Decision::Done)
        }
        Ok(_) | Err(_) => as_job(),
    }
}

/// Routes the restored rows to whoever sent them, answers the recipient, and uses the handle up.
fn accept(
    message: &Message,
    (inbound, handle): (&Inbound, MessageId),
    Open { row, project }: &Open,
    (part, attachment): (Part, Bytes),
    context: &Context<'_>,
) -> Result<Effects, Interrupt> {
    let mut payload = boxed(context, &row.sender, From::Platform, ContentType::Document);
    payload.title = format!("{} return", project.name());
    payload.parts = vec![part];
    payload.meta.insert("project".to_owned(), project.name().to_owned());
    payload.meta.insert("returns".to_owned(), row.submission.to_string());
    let mut delivery = envelope(message, names::address_key(context.keys, &row.sender), &payload, context)?;
    // However long the sender's box is full: the recipient has its answer already.
    delivery.deadline = None;
    delivery.attachment = attachment;
    let answered = Answered {
        submission: inbound.submission,
        recipient: inbound.recipient.clone(),
        answer: Answer::Done,
        at: context.now,
    };
    let mut answer = envelope(message, names::submission_key(inbound.submission), &answered, context)?;
    answer.traceparent = message.envelope.traceparent;
    let mut effects = Effects::default();
    exchange::used(&mut effects, row, handle, (message, context))?;
    effects.produce(DELIVER, delivery);
    effects.produce(RECEIPTS, answer);
    Ok(effects)
}
