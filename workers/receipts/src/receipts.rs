//! The life of each submission: exactly one final answer for each recipient, at the latest at its deadline (I5).
//!
//! Opened → pending → (stand-by) → done or refused. The first final answer counts; any later one is ignored and counted in
//! the row. A refusal always puts an error into the sender's box; a positive answer puts an acknowledgement there when
//! the sender wants it. The ids of these notices are derived from what they say, so a repetition is recognised.
//!
//! One timer per submission at a time: the alert half an hour before the deadline, then the end just before it, when
//! whatever has no answer is answered negatively. What stands by is withdrawn by its box, which knows the deadline. After
//! an outage both timers are late and fire at once, so what is overdue is answered at start.
//! Failure behaviour: an answer that comes before its submission cannot happen (same key, one order); it is kept in a row
//! without a sender all the same, and counts as soon as the submission is opened.

use crate::notices::notice;
use crate::rows::{LIFE_MAX, LifeEvent, RecipientRow, State, SubmissionRow, What};
use crate::{ALERTS, INCIDENT_OVERDUE, RECEIPTS, SOURCE};
use bytes::Bytes;
use schemas::messages::{
    AckType, AlertChange, Answer, Answered, Deadline, DeadlineStage, Notice, Opened, Reason, ReceiptsWanted, Seen,
};
use schemas::{MailboxAddress, MessageId, Millis, Payload};
use topology::Channel;
use zegel_core::rows::V1;
use zegel_core::slot::spaces;
use zegel_core::worker::{Produced, SetTimer};
use zegel_core::{Context, Decision, Effects, Interrupt, Message, Read, View, Worker, names};

/// The submission's only timer.
const TIMER: &str = "deadline";

/// When things happen, counted back from a submission's deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The deadline of a submission whose envelope has none, counted from its acceptance, in milliseconds.
    pub answer_within_ms: i64,
    /// The alert comes so long before the deadline, in milliseconds.
    pub alert_before_ms: i64,
    /// The final answer is given so long before the deadline, in milliseconds.
    pub final_before_ms: i64,
}

impl Default for Limits {
    /// 2 hours; the alert at 90 minutes; the end 5 s early, so that the notice is written in time.
    fn default() -> Limits {
        Limits { answer_within_ms: 120 * 60_000, alert_before_ms: 30 * 60_000, final_before_ms: 5_000 }
    }
}

/// The worker of `receipts.due`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Receipts {
    limits: Limits,
}

impl Receipts {
    /// A worker with these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Receipts {
        Receipts { limits }
    }
}

impl Worker for Receipts {
    fn channel(&self) -> &'static Channel {
        RECEIPTS
    }

    fn reads(&self, message: &Message, _: &Context<'_>) -> Vec<Read> {
        vec![Read::One { space: spaces::SUBMISSIONS, owner: message.key(), sub: Bytes::new() }]
    }

    fn decide(&self, message: &Message, view: &View, context: &Context<'_>) -> Result<Decision, Interrupt> {
        let stored: Option<SubmissionRow> = view.get(spaces::SUBMISSIONS, message.key(), Bytes::new())?;
        let step = Step { message, context, limits: self.limits };
        match message.envelope.kind.as_str() {
            Opened::TYPE => step.open(stored),
            Answered::TYPE => step.answered(stored),
            Seen::TYPE => step.seen(stored),
            _ => step.deadline(stored),
        }
    }
}

/// One message about a submission.
#[derive(Clone, Copy)]
struct Step<'a> {
    message: &'a Message,
    context: &'a Context<'a>,
    limits: Limits,
}

impl<'a> Step<'a> {
    fn life(self, row: SubmissionRow) -> Life<'a> {
        let owing = row.sender.is_some() && !row.is_final();
        Life { step: self, row, owing, effects: Effects::default() }
    }

    fn open(self, stored: Option<SubmissionRow>) -> Result<Decision, Interrupt> {
        let opened: Opened = self.message.payload()?;
        if stored.as_ref().is_some_and(|row| row.sender.is_some()) {
            return Ok(Decision::Done(Effects::default()));
        }
        let within = opened.accepted.plus(self.limits.answer_within_ms);
        let mut life = self.life(SubmissionRow {
            sender: Some(opened.sender),
            publication_id: opened.publication_id,
            receipts: opened.receipts,
            accepted: opened.accepted,
            deadline: self.message.envelope.deadline.unwrap_or(within),
            recipients: opened.recipients.into_iter().map(pending).collect(),
            ignored: stored.as_ref().map_or(0, |row| row.ignored),
            ..stub(opened.submission)
        });
        life.record(opened.accepted, What::Accepted, None, None);
        life.set_timer(DeadlineStage::Alert, self.limits.alert_before_ms)?;
        for early in stored.map(|row| row.recipients).unwrap_or_default() {
            let at = early.answered_at.unwrap_or(self.context.now);
            if let Some(answer) = answer_of(early.state) {
                life.answer(&early.address, answer, at)?;
            }
        }
        life.finish()
    }

    fn answered(self, stored: Option<SubmissionRow>) -> Result<Decision, Interrupt> {
        let Answered { submission, recipient, answer, at } = self.message.payload()?;
        let mut life = self.life(stored.unwrap_or_else(|| stub(submission)));
        if life.row.sender.is_none() && life.find(&recipient).is_none() {
            life.row.recipients.push(pending(recipient.clone()));
        }
        life.answer(&recipient, answer, at)?;
        life.finish()
    }

    fn seen(self, stored: Option<SubmissionRow>) -> Result<Decision, Interrupt> {
        let Seen { recipient, ack, at, .. } = self.message.payload()?;
        let Some(row) = stored else { return Ok(Decision::Done(Effects::default())) };
        let mut life = self.life(row);
        life.see(&recipient, ack, at)?;
        life.finish()
    }

    fn deadline(self, stored: Option<SubmissionRow>) -> Result<Decision, Interrupt> {
        let Deadline { stage, .. } = self.message.payload()?;
        let Some(row) = stored.filter(|row| row.sender.is_some() && !row.is_final()) else {
            return Ok(Decision::Done(Effects::default()));
        };
        let mut life = self.life(row);
        match stage {
            DeadlineStage::Final => life.refuse_the_rest()?,
            DeadlineStage::Alert | DeadlineStage::Expire => life.warn()?,
        }
        life.finish()
    }
}

/// A submission while one message is applied to it.
struct Life<'a> {
    step: Step<'a>,
    row: SubmissionRow,
    /// Whether an answer was still owed before this message.
    owing: bool,
    effects: Effects,
}

impl Life<'_> {
    fn find(&self, recipient: &MailboxAddress) -> Option<usize> {
        self.row.recipients.iter().position(|known| known.address == *recipient)
    }

    /// The first final answer counts; what comes after it, or is for nobody, is ignored and counted.
    fn answer(&mut self, recipient: &MailboxAddress, answer: Answer, at: Millis) -> Result<(), Interrupt> {
        let open = self.find(recipient).filter(|index| !self.row.recipients[*index].state.is_final());
        let Some(index) = open else {
            self.row.ignored = self.row.ignored.saturating_add(1);
            return Ok(());
        };
        let (state, what) = match answer {
            Answer::StandBy => (State::StandBy, What::StandBy),
            Answer::Done => (State::Done, What::Done),
            Answer::Refused { reason } => (State::Refused { reason }, What::Refused),
        };
        let code = match &state {
            State::Refused { reason } => Some(reason.code.clone()),
            _ => None,
        };
        self.record(at, what, Some(index), code);
        self.row.recipients[index].answered_at = state.is_final().then_some(at);
        self.row.recipients[index].state = state.clone();
        match state {
            State::Refused { reason } => self.notify(index, None, Some(reason), at),
            State::Done if self.row.receipts.published => self.notify(index, Some(AckType::Published), None, at),
            _ => Ok(()),
        }
    }

    fn see(&mut self, recipient: &MailboxAddress, ack: AckType, at: Millis) -> Result<(), Interrupt> {
        let Some(index) = self.find(recipient) else { return Ok(()) };
        let wanted = self.row.receipts;
        let known = &mut self.row.recipients[index];
        let (slot, what, wanted) = match ack {
            AckType::Received => (&mut known.received_at, What::Received, wanted.received),
            AckType::Read => (&mut known.read_at, What::Read, wanted.read),
            AckType::Published => return Ok(()),
        };
        if slot.is_some() {
            return Ok(());
        }
        *slot = Some(at);
        self.record(at, what, Some(index), None);
        if wanted { self.notify(index, Some(ack), None, at) } else { Ok(()) }
    }

    fn warn(&mut self) -> Result<(), Interrupt> {
        if !self.row.alerted {
            self.row.alerted = true;
            self.record(self.step.context.now, What::Overdue, None, None);
            self.alert(true)?;
        }
        self.set_timer(DeadlineStage::Final, self.step.limits.final_before_ms)
    }

    fn refuse_the_rest(&mut self) -> Result<(), Interrupt> {
        for recipient in self.row.recipients.clone() {
            let (code, text) = match recipient.state {
                State::Pending => ("ZGL-DEADLINE", "submission: no answer before the deadline"),
                State::StandBy => ("ZGL-STANDBY", "recipient: mailbox was still full at the deadline"),
                State::Done | State::Refused { .. } => continue,
            };
            let reason = Reason { code: code.to_owned(), text: text.to_owned(), rows: Vec::new(), bad_rows: 0 };
            self.answer(&recipient.address, Answer::Refused { reason }, self.step.context.now)?;
        }
        Ok(())
    }

    fn notify(
        &mut self,
        index: usize,
        ack: Option<AckType>,
        reason: Option<Reason>,
        at: Millis,
    ) -> Result<(), Interrupt> {
        let Some(sender) = self.row.sender.clone() else { return Ok(()) };
        let about = Notice {
            submission: self.row.submission,
            publication_id: self.row.publication_id.clone(),
            recipient: self.row.recipients[index].address.clone(),
            ack,
            reason,
            at,
        };
        let produced = notice(self.step.message, self.step.context, sender, about)?;
        self.effects.produced.push(produced);
        Ok(())
    }

    fn alert(&mut self, raised: bool) -> Result<(), Interrupt> {
        let Step { message, context, .. } = self.step;
        let change =
            AlertChange { incident: INCIDENT_OVERDUE.to_owned(), item: self.row.submission, raised, at: context.now };
        let key = names::incident_key(context.keys, INCIDENT_OVERDUE);
        let mut envelope = message.follow_up(context, SOURCE, key, &change)?;
        envelope.deadline = None;
        self.effects.produce(ALERTS, envelope);
        Ok(())
    }

    fn set_timer(&mut self, stage: DeadlineStage, before_ms: i64) -> Result<(), Interrupt> {
        let Step { message, context, .. } = self.step;
        let deadline = Deadline { submission: self.row.submission, stage };
        let mut envelope = message.follow_up(context, SOURCE, message.key(), &deadline)?;
        envelope.deadline = Some(self.row.deadline);
        let message = Produced { channel: RECEIPTS, envelope };
        self.effects.timers.push(SetTimer { name: TIMER, due: self.row.deadline.plus(-before_ms), message });
        Ok(())
    }

    fn record(&mut self, at: Millis, what: What, recipient: Option<usize>, code: Option<String>) {
        if self.row.life.len() < LIFE_MAX {
            let recipient = recipient.and_then(|index| u16::try_from(index).ok());
            self.row.life.push(LifeEvent { at, what, recipient, code });
        } else {
            self.row.unrecorded = self.row.unrecorded.saturating_add(1);
        }
    }

    /// The decision; when nothing is owed any more, the timer goes and the incident lets go of the submission.
    fn finish(mut self) -> Result<Decision, Interrupt> {
        if self.owing && self.row.is_final() {
            self.effects.timers.clear();
            self.effects.cancelled.push(TIMER);
            if std::mem::take(&mut self.row.alerted) {
                self.alert(false)?;
            }
        }
        self.effects.put(spaces::SUBMISSIONS, self.step.message.key(), Bytes::new(), &self.row)?;
        Ok(Decision::Done(self.effects))
    }
}

/// A submission of which nothing is known but its id.
fn stub(submission: MessageId) -> SubmissionRow {
    SubmissionRow {
        v: V1,
        submission,
        sender: None,
        publication_id: String::new(),
        receipts: ReceiptsWanted::default(),
        accepted: Millis::default(),
        deadline: Millis::NEVER,
        recipients: Vec::new(),
        alerted: false,
        ignored: 0,
        life: Vec::new(),
        unrecorded: 0,
    }
}

fn pending(address: MailboxAddress) -> RecipientRow {
    RecipientRow { address, state: State::Pending, answered_at: None, received_at: None, read_at: None }
}

fn answer_of(state: State) -> Option<Answer> {
    match state {
        State::Pending => None,
        State::StandBy => Some(Answer::StandBy),
        State::Done => Some(Answer::Done),
        State::Refused { reason } => Some(Answer::Refused { reason }),
    }
}
