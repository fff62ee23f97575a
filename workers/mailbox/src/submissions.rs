//! What a sender hands over: once per PublicationId, to the boxes of its recipients or to the TTP.
//!
//! A submission becomes, in this order: [`Opened`] for the receipts stage, so that an answer is owed before anything can
//! go wrong; then one [`Deliver`] per recipient, or one [`Inbound`] for the TTP, or a negative answer for each recipient.
//! The same PublicationId again changes nothing when it stands for the same thing (see [`queries::fingerprint`]);
//! otherwise the sender gets an error message and nothing else happens.
//!
//! Content moves with the message: an attachment is copied into each `Deliver`; an object goes to every recipient by the
//! same reference (see `rows`, "who owns content").
//! Failure behaviour: the edge has checked every field; what breaks a rule all the same is answered negatively. When the
//! runner gives a submission up, each recipient is answered negatively with the runner's code.

use crate::queries;
use crate::rows::{PublicationRow, SentRow};
use crate::{ANSWER_WITHIN_MS, DELIVER, INBOUND, RECEIPTS, SOURCE, SUBMITTED, reason};
use bytes::Bytes;
use schemas::messages::{
    Answer, Answered, Content, ContentType, Deliver, From, Inbound, Notice, Opened, Reason, ReceiptsWanted, Submission,
};
use schemas::{MailboxAddress, MessageId};
use std::collections::BTreeSet;
use topology::Channel;
use zegel_core::rows::V1;
use zegel_core::slot::spaces;
use zegel_core::{Context, Decision, Effects, Interrupt, Message, Read, View, Worker, names};

/// Largest document of a mailbox message: 10 MiB (eHealthBox v3, code 801). Batches for the TTP may be larger.
const DOCUMENT_MAX: u64 = 10 * 1024 * 1024;
/// Most recipients, so that one message never makes more than 100 others.
const RECIPIENTS_MAX: usize = 100;

/// The worker of `mailbox.submitted`.
#[derive(Debug, Clone)]
pub struct Submissions {
    ttp: MailboxAddress,
}

impl Submissions {
    /// `ttp` is the TTP's own address, which has no box: a submission with a project goes there.
    #[must_use]
    pub fn new(ttp: MailboxAddress) -> Submissions {
        Submissions { ttp }
    }

    fn route(
        &self,
        out: &mut Out<'_>,
        submission: &Submission,
        recipients: Vec<MailboxAddress>,
    ) -> Result<(), Interrupt> {
        out.open(submission, &recipients)?;
        if let Some(broken) = self.broken_rule(submission, &recipients) {
            return out.refuse(submission, &recipients, &broken);
        }
        match &submission.project {
            Some(project) => out.inbound(submission, project),
            None => recipients.into_iter().try_for_each(|recipient| out.deliver(submission, recipient)),
        }
    }

    /// The first rule that the submission breaks, checked here again because a refusal costs nothing and a broken rule
    /// in a box stays for ever.
    fn broken_rule(&self, submission: &Submission, recipients: &[MailboxAddress]) -> Option<Reason> {
        let Submission { part, publication_id, title, meta, project, handle, .. } = submission;
        let chars = |text: &str| text.chars().count();
        let rules = [
            (recipients.len() <= RECIPIENTS_MAX, "recipients: at most 100"),
            ((1..=13).contains(&chars(publication_id)), "publication id: 1 to 13 characters"),
            ((1..=400).contains(&chars(title)), "title: 1 to 400 characters"),
            ((1..=255).contains(&chars(&part.file_name)), "file name: 1 to 255 characters"),
            (meta.len() <= 100, "metadata: at most 100 pairs"),
            (meta.iter().all(|(k, v)| chars(k) <= 250 && chars(v) <= 250), "metadata: at most 250 characters each"),
            (!matches!(part.content, Content::Stored(_)), "content: attached or an object"),
            (handle.is_none() || project.is_some(), "handle: goes with a project"),
            (project.is_none() || *recipients == [self.ttp.clone()], "recipients: for a project, the TTP alone"),
        ];
        if let Some((_, rule)) = rules.iter().find(|(kept, _)| !kept) {
            return Some(reason("ZGL-IN-FIELD", rule));
        }
        let too_large = project.is_none() && part.size > DOCUMENT_MAX;
        too_large.then(|| reason("801", "document: at most 10 MiB"))
    }
}

impl Worker for Submissions {
    fn channel(&self) -> &'static Channel {
        SUBMITTED
    }

    fn reads(&self, message: &Message, context: &Context<'_>) -> Vec<Read> {
        let submission = message.payload::<Submission>();
        submission.map_or_else(|_| Vec::new(), |s| vec![queries::publication(message.key(), identity(&s, context))])
    }

    fn decide(&self, message: &Message, view: &View, context: &Context<'_>) -> Result<Decision, Interrupt> {
        let submission: Submission = message.payload()?;
        let mut out = Out { message, context, effects: Effects::default() };
        let fingerprint = queries::fingerprint(context.keys, &submission);
        match publication(view, message, &submission, context)? {
            Some(first) if first.fingerprint == fingerprint => {}
            Some(_) => out.error(&submission, reason("ZGL-PUB-REUSED", "publication id: stands for other content"))?,
            None => {
                let recipients = unique(&submission.recipients);
                if recipients.is_empty() {
                    out.error(&submission, reason("ZGL-IN-FIELD", "recipients: at least one"))?;
                } else {
                    out.remember(&submission, fingerprint)?;
                    self.route(&mut out, &submission, recipients)?;
                }
            }
        }
        Ok(Decision::Done(out.effects))
    }

    fn give_up(&self, message: &Message, code: &str, view: &View, context: &Context<'_>) -> Result<Effects, Interrupt> {
        let submission: Submission = message.payload()?;
        let mut out = Out { message, context, effects: Effects::default() };
        if publication(view, message, &submission, context)?.is_none() {
            let recipients = unique(&submission.recipients);
            out.remember(&submission, queries::fingerprint(context.keys, &submission))?;
            out.open(&submission, &recipients)?;
            out.refuse(&submission, &recipients, &reason(code, "submission: could not be handled"))?;
        }
        Ok(out.effects)
    }
}

/// The effects of one submission as they grow.
struct Out<'a> {
    message: &'a Message,
    context: &'a Context<'a>,
    effects: Effects,
}

impl Out<'_> {
    /// The PublicationId is taken from now on, and the message stands in the sent folder.
    fn remember(&mut self, submission: &Submission, fingerprint: schemas::Key) -> Result<(), Interrupt> {
        let Submission { submission: id, publication_id, accepted, .. } = submission;
        let row = PublicationRow { v: V1, submission: *id, fingerprint, accepted: *accepted };
        let sender = self.message.key();
        let sub = queries::publication_sub(identity(submission, self.context));
        self.effects.put(spaces::PUBLICATIONS, sender, sub, &row)?;
        let sent = SentRow {
            v: V1,
            submission: *id,
            publication_id: publication_id.clone(),
            title: submission.title.clone(),
            recipients: submission.recipients.clone(),
            project: submission.project.clone(),
            file_name: submission.part.file_name.clone(),
            size: submission.part.size,
            accepted: *accepted,
        };
        self.effects.put(spaces::SENT, sender, queries::sent_sub(*accepted, *id), &sent)
    }

    fn open(&mut self, submission: &Submission, recipients: &[MailboxAddress]) -> Result<(), Interrupt> {
        let opened = Opened {
            submission: submission.submission,
            sender: submission.sender.clone(),
            publication_id: submission.publication_id.clone(),
            recipients: recipients.to_vec(),
            receipts: submission.receipts,
            accepted: submission.accepted,
        };
        self.send(RECEIPTS, names::submission_key(submission.submission), submission, &opened, Bytes::new())
    }

    fn refuse(
        &mut self,
        submission: &Submission,
        recipients: &[MailboxAddress],
        reason: &Reason,
    ) -> Result<(), Interrupt> {
        let key = names::submission_key(submission.submission);
        for recipient in recipients {
            let answered = Answered {
                submission: submission.submission,
                recipient: recipient.clone(),
                answer: Answer::Refused { reason: reason.clone() },
                at: self.context.now,
            };
            self.send(RECEIPTS, key, submission, &answered, Bytes::new())?;
        }
        Ok(())
    }

    fn inbound(&mut self, submission: &Submission, project: &str) -> Result<(), Interrupt> {
        let inbound = Inbound {
            submission: submission.submission,
            sender: submission.sender.clone(),
            recipient: submission.recipients[0].clone(),
            project: project.to_owned(),
            part: submission.part.clone(),
            publication_id: submission.publication_id.clone(),
            handle: submission.handle,
        };
        let key = names::project_key(self.context.keys, project);
        self.send(INBOUND, key, submission, &inbound, self.message.envelope.attachment.clone())
    }

    fn deliver(&mut self, submission: &Submission, recipient: MailboxAddress) -> Result<(), Interrupt> {
        let key = names::address_key(self.context.keys, &recipient);
        let deliver = Deliver {
            item: self.context.new_id(),
            recipient,
            from: From::Sender(submission.sender.clone()),
            content_type: ContentType::Document,
            title: submission.title.clone(),
            parts: vec![submission.part.clone()],
            notice: None,
            meta: submission.meta.clone(),
            answers: Some(submission.submission),
            answers_for: None,
            receipts: submission.receipts,
        };
        self.send(DELIVER, key, submission, &deliver, self.message.envelope.attachment.clone())
    }

    /// An error message into the sender's own box, about a submission that has no life of its own. Its id comes from
    /// sender, PublicationId and content, so that it is one message however often this is decided, and each other
    /// content under a PublicationId gets its own.
    fn error(&mut self, submission: &Submission, reason: Reason) -> Result<(), Interrupt> {
        let about = submission.recipients.first().unwrap_or(&submission.sender);
        let content = queries::fingerprint(self.context.keys, submission);
        let about_what = [identity(submission, self.context).0, content.0].concat();
        let item = self.context.keys.blind("notice", &about_what);
        let deliver = Deliver {
            item: MessageId(item.0),
            recipient: submission.sender.clone(),
            from: From::Platform,
            content_type: ContentType::Error,
            title: "Not accepted".to_owned(),
            parts: Vec::new(),
            notice: Some(Notice {
                submission: submission.submission,
                publication_id: submission.publication_id.clone(),
                recipient: about.clone(),
                ack: None,
                reason: Some(reason),
                at: self.context.now,
            }),
            meta: std::collections::BTreeMap::new(),
            answers: None,
            answers_for: None,
            receipts: ReceiptsWanted::default(),
        };
        self.send(DELIVER, self.message.key(), submission, &deliver, Bytes::new())
    }

    fn send<P: schemas::Payload>(
        &mut self,
        channel: &'static Channel,
        key: schemas::Key,
        submission: &Submission,
        payload: &P,
        attachment: Bytes,
    ) -> Result<(), Interrupt> {
        let mut envelope = self.message.follow_up(self.context, SOURCE, key, payload)?;
        envelope.deadline = Some(submission.accepted.plus(ANSWER_WITHIN_MS));
        envelope.attachment = attachment;
        self.effects.produce(channel, envelope);
        Ok(())
    }
}

fn publication(
    view: &View,
    message: &Message,
    submission: &Submission,
    context: &Context<'_>,
) -> Result<Option<PublicationRow>, Interrupt> {
    view.get(spaces::PUBLICATIONS, message.key(), queries::publication_sub(identity(submission, context)))
}

/// What sender and PublicationId stand for, whatever the message says its submission is.
fn identity(submission: &Submission, context: &Context<'_>) -> MessageId {
    names::submission_id(context.keys, &submission.sender, &submission.publication_id)
}

/// The recipients without repetitions: each is owed one answer.
fn unique(recipients: &[MailboxAddress]) -> Vec<MailboxAddress> {
    let mut seen = BTreeSet::new();
    recipients.iter().filter(|recipient| seen.insert(*recipient)).cloned().collect()
}
