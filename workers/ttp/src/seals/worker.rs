//! The worker of `seals.used`: grants or refuses each call by its quota, and keeps the log.
//!
//! A call is coded where it comes in and answered only after this worker has granted it: what is durable here is how much was
//! used, never what. Rows, owned by the application:
//! `0 ‖ caller`: the caller's day (JSON); `1 ‖ instant (u64 BE) ‖ id`: one line of the log for each call to decode and each
//! call that was refused (JSON). Encoding leaves its sums in the day's row.
//! Failure: a message that cannot be granted in time is not answered with values (I8).

use crate::project::book::ProjectBook;
use crate::project::terms::Seals;
use crate::sketch::Sketch;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use schemas::messages::{SealsOperation, SealsUsed};
use schemas::{Key, MailboxAddress, MessageId, Millis};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use topology::Channel;
use zegel_core::slot::spaces::SEALS;
use zegel_core::{Context, Decision, Effects, Failure, Interrupt, Message, Read, View, Worker};

const DAY_MS: i64 = 86_400_000;
const DAY_ROW: u8 = 0;
const LOG_ROW: u8 = 1;

/// See the module's header.
#[derive(Debug)]
pub struct SealsKeeper {
    projects: Arc<ProjectBook>,
    channel: &'static Channel,
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Grant {
    /// The values may be given.
    Granted,
    /// The caller has no such right, or the application does not hold now.
    NoRight,
    /// The caller's quota of this day is used up.
    UsedUp,
}

/// What a caller has done on one day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Day {
    /// The day, counted from 1970.
    pub day: i64,
    /// Items encoded.
    pub encoded: u64,
    /// Sketch of the distinct values encoded, base64.
    pub values: String,
    /// Items decoded.
    pub decoded: u64,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When.
    pub at: Millis,
    /// Who.
    pub caller: MailboxAddress,
    /// What was asked for.
    pub operation: SealsOperation,
    /// Items that were coded.
    pub items: u32,
    /// Items in error.
    pub errors: u32,
    /// What was answered.
    pub answer: Grant,
}

impl SealsKeeper {
    /// A keeper for the applications of a book; none when the topology has no channel for it.
    #[must_use]
    pub fn new(projects: Arc<ProjectBook>) -> Option<SealsKeeper> {
        Some(SealsKeeper { projects, channel: topology::channels::by_name("seals.used")? })
    }

    fn grant(&self, used: &SealsUsed, day: &mut Day, now: Millis) -> Result<Grant, Interrupt> {
        let project = self.projects.at(&used.application, now).ok().filter(|project| project.is_open(now));
        let Some(terms) = project.as_deref().and_then(|project| project.seals()) else { return Ok(Grant::NoRight) };
        match used.operation {
            SealsOperation::Encode if !terms.encode.contains(&used.caller) => Ok(Grant::NoRight),
            SealsOperation::Decode if !terms.decode.contains(&used.caller) => Ok(Grant::NoRight),
            SealsOperation::Encode => charge_encode(used, day, terms),
            SealsOperation::Decode => {
                let total = day.decoded.saturating_add(u64::from(used.items));
                if total > terms.decode_per_day {
                    return Ok(Grant::UsedUp);
                }
                day.decoded = total;
                Ok(Grant::Granted)
            }
        }
    }
}

fn charge_encode(used: &SealsUsed, day: &mut Day, terms: &Seals) -> Result<Grant, Interrupt> {
    let read = |text: &str| BASE64_STANDARD.decode(text).ok().and_then(|bytes| Sketch::decode(&bytes));
    let mut sketch = read(&day.values).ok_or_else(|| Failure::permanent("ZGL-STATE-READ"))?;
    sketch.merge(&read(&used.values).ok_or_else(|| Failure::permanent("ZGL-MSG-PAYLOAD"))?);
    if sketch.estimate() > terms.encode_per_day {
        return Ok(Grant::UsedUp);
    }
    day.values = BASE64_STANDARD.encode(sketch.encode());
    day.encoded = day.encoded.saturating_add(u64::from(used.items));
    Ok(Grant::Granted)
}

impl Worker for SealsKeeper {
    fn channel(&self) -> &'static Channel {
        self.channel
    }

    fn reads(&self, message: &Message, context: &Context<'_>) -> Vec<Read> {
        let day = |used: SealsUsed| vec![day_read(message.key(), &used.caller, context)];
        message.payload().map(day).unwrap_or_default()
    }

    fn decide(&self, message: &Message, view: &View, context: &Context<'_>) -> Result<Decision, Interrupt> {
        let used: SealsUsed = message.payload()?;
        let (owner, sub) = (message.key(), day_sub(&used.caller, context));
        let today = context.now.0.div_euclid(DAY_MS);
        let known: Option<Day> = view.get(SEALS, owner, sub.clone())?;
        let mut day = known.filter(|day| day.day == today).unwrap_or(Day { day: today, ..Day::default() });
        let answer = self.grant(&used, &mut day, context.now)?;
        let mut effects = Effects::default();
        if answer == Grant::Granted {
            effects.put(SEALS, owner, sub, &day)?;
        }
        if answer != Grant::Granted || used.operation == SealsOperation::Decode {
            let line = LogLine {
                at: context.now,
                caller: used.caller,
                operation: used.operation,
                items: used.items,
                errors: used.errors,
                answer: answer.clone(),
            };
            effects.put(SEALS, owner, log_sub(context.now, message.envelope.id), &line)?;
        }
        effects.reply = Some(serde_json::to_vec(&answer).map_err(|_| Failure::permanent("ZGL-STATE-WRITE"))?.into());
        Ok(Decision::Done(effects))
    }
}

fn day_read(owner: Key, caller: &MailboxAddress, context: &Context<'_>) -> Read {
    Read::One { space: SEALS, owner, sub: day_sub(caller, context) }
}

fn day_sub(caller: &MailboxAddress, context: &Context<'_>) -> Bytes {
    let mut sub = vec![DAY_ROW];
    sub.extend_from_slice(&context.keys.blind("seals-caller", caller.to_string().as_bytes()).0);
    sub.into()
}

fn log_sub(at: Millis, id: MessageId) -> Bytes {
    let mut sub = vec![LOG_ROW];
    sub.extend_from_slice(&u64::try_from(at.0).unwrap_or(0).to_be_bytes());
    sub.extend_from_slice(&id.0);
    sub.into()
}

/// The lines of an application's log from an instant on.
#[must_use]
pub fn log_read(application: Key, from: Millis, limit: usize) -> Read {
    let mut first = vec![LOG_ROW];
    first.extend_from_slice(&u64::try_from(from.0).unwrap_or(0).to_be_bytes());
    Read::Range {
        space: SEALS,
        owner: application,
        from: first.into(),
        to: Some(vec![LOG_ROW + 1].into()),
        limit,
        reverse: false,
    }
}
