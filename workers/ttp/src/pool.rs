//! Batches that are held until they come from enough different senders, in the space `exchanges` of the project's key.
//!
//! | sub | value |
//! | --- | --- |
//! | `p ‖ message number (u64 BE)` | a [`HeldRow`] as JSON; content of up to 64 KiB is a row of the payload space, which goes with it |
//! | `o ‖ message number` | the batch as it was sent, up to 64 KiB of it: what is turned away stands still in quarantine |
//! | `r` | a [`ReleaseReport`] as JSON: among how few senders the project's batches were released |
//!
//! The batch that makes the senders enough releases all of them in its own step; the timer [`RELEASE`] ends the waiting of those
//! that are too old. Bound: as long as a batch is held there are fewer senders than the project asks for (at most 20), and none
//! has more than [`HELD_MAX`].

use crate::compiled::CompiledProject;
use crate::exchange;
use crate::handover::{Parcel, hand_over, hand_over_shuffled};
use crate::project::exchange::{AtLimit, Release};
use crate::quarantine::Quarantine;
use crate::refusal::refusal;
use crate::worker::{Ttp, refuse_parcel};
use bytes::Bytes;
use schemas::messages::{Content, Inbound, Reason, TtpWake, TtpWork};
use schemas::{Key, MailboxAddress, Millis};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;
use zegel_core::rows::V1;
use zegel_core::slot::spaces::{EXCHANGES, PAYLOADS};
use zegel_core::{Context, Effects, Failure, Interrupt, Message, View};

/// The project's timer that ends the waiting.
const RELEASE: &str = "release";
const HELD: u8 = b'p';
/// Batches as they were sent.
const SENT: u8 = b'o';
const REPORT: &[u8] = b"r";
const MINUTE_MS: i64 = 60_000;
/// Batches of one sender that wait: with 20 senders a step hands over a thousand.
const HELD_MAX: usize = 50;
/// More than can be held (see the module's header).
const READ_MAX: usize = 1_024;

/// A batch that waits.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct HeldRow {
    v: V1,
    since: Millis,
    parcel: Parcel,
    /// What was sent; rows of before have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sent: Option<Box<Inbound>>,
}

/// Among how many senders a project's batches were released; for the officer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseReport {
    v: V1,
    /// Releases so far.
    pub releases: u64,
    /// Batches released.
    pub batches: u64,
    /// Releases at the age limit among fewer senders than the project asks for.
    pub below: u64,
    /// Batches that were refused at the age limit.
    pub refused: u64,
    /// Among how many senders the latest release was.
    pub latest_senders: u64,
    /// The fewest senders of any release; 0 while there was none.
    pub fewest_senders: u64,
}

/// The row of a project's report.
#[must_use]
pub fn report_read(owner: Key) -> zegel_core::Read {
    zegel_core::Read::One { space: EXCHANGES, owner, sub: Bytes::from_static(REPORT) }
}

/// The parcel and what it attaches, handed over now or held.
pub(crate) fn take(
    effects: &mut Effects,
    ttp: &Ttp,
    project: &Arc<CompiledProject>,
    (parcel, attachment): (Parcel, Bytes),
    place: (&Message, &View, &Context<'_>),
) -> Result<Result<(), Reason>, Interrupt> {
    let Some(terms) = project.release() else {
        return hand_over(effects, project, (&parcel, attachment), place).map(Ok);
    };
    let (message, view, context) = place;
    let waiting = held(view, message.key())?;
    if waiting.iter().filter(|(_, held)| held.parcel.sender == parcel.sender).count() >= HELD_MAX {
        let text = "more of the sender's batches than may wait for other senders' already";
        return Ok(Err(refusal("ZGL-TTP-POOL", text)));
    }
    let senders = senders(waiting.iter().map(|(_, held)| &held.parcel.sender).chain([&parcel.sender]));
    if senders >= usize::from(terms.min_senders) {
        effects.cancelled.push(RELEASE);
        release(effects, ttp, (waiting, Some((project.clone(), parcel, attachment))), project.name(), (terms, place))?;
        return Ok(Ok(()));
    }
    if waiting.is_empty() {
        let due = context.now.plus(i64::from(terms.max_age_minutes) * MINUTE_MS);
        wake_at(effects, due, project.name(), place)?;
    }
    hold(effects, parcel, attachment, (message, context)).map(Ok)
}

/// Where the batch of a held row is, as it was sent.
fn sent_of(held: &[u8]) -> Bytes {
    [&[SENT][..], held.get(1..).unwrap_or_default()].concat().into()
}

/// Removes what was held, and what it was sent as.
fn forget(effects: &mut Effects, owner: Key, sub: &Bytes) {
    effects.delete(EXCHANGES, owner, sub.clone());
    effects.delete(EXCHANGES, owner, sent_of(sub));
}

fn hold(
    effects: &mut Effects,
    mut parcel: Parcel,
    attachment: Bytes,
    (message, context): (&Message, &Context<'_>),
) -> Result<(), Interrupt> {
    if parcel.part.content == Content::Attached {
        let payload = context.new_id();
        effects.put_bytes(PAYLOADS, Key(payload.0), Bytes::new(), attachment);
        parcel.part.content = Content::Stored(payload);
    }
    let sub = [&[HELD][..], &message.number.to_be_bytes()].concat();
    let sent: Inbound = message.payload()?;
    if sent.part.content == Content::Attached {
        effects.put_bytes(EXCHANGES, message.key(), sent_of(&sub), message.envelope.attachment.clone());
    }
    let row = HeldRow { v: V1, since: context.now, parcel, sent: Some(Box::new(sent)) };
    effects.put(EXCHANGES, message.key(), sub, &row)
}

/// Ends the waiting of what is too old. Without the project nothing is handed over (I8).
pub(crate) fn wake(ttp: &Ttp, wake: &TtpWake, place: (&Message, &View, &Context<'_>)) -> Result<Effects, Interrupt> {
    let (message, view, context) = place;
    let mut effects = Effects::default();
    let waiting = held(view, message.key())?;
    let terms = match ttp.book().at(&wake.project, context.now) {
        Ok(project) => project.release(),
        Err(reason) => {
            turn_away(&mut effects, ttp, waiting.iter().map(|held| (held, &reason)), place)?;
            return Ok(effects);
        }
    };
    // An amendment without a pool leaves nothing to wait for.
    let terms = terms.unwrap_or(Release { min_senders: 1, max_age_minutes: 1, at_limit: AtLimit::Release });
    let senders = senders(waiting.iter().map(|(_, held)| &held.parcel.sender));
    if senders >= usize::from(terms.min_senders) || terms.at_limit == AtLimit::Release {
        release(&mut effects, ttp, (waiting, None), &wake.project, (terms, place))?;
        return Ok(effects);
    }
    let age = i64::from(terms.max_age_minutes) * MINUTE_MS;
    let (old, young): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(_, held)| held.since.plus(age) <= context.now);
    let reason = refusal("ZGL-TTP-FEW", "too few senders came together in the time that the project allows");
    turn_away(&mut effects, ttp, old.iter().map(|held| (held, &reason)), place)?;
    let mut report = report(view, message.key())?;
    report.refused += old.len() as u64;
    effects.put(EXCHANGES, message.key(), REPORT, &report)?;
    if let Some((_, held)) = young.first() {
        wake_at(&mut effects, held.since.plus(age), &wake.project, place)?;
    }
    Ok(effects)
}

type Ready = (Arc<CompiledProject>, Parcel, Bytes);

fn release(
    effects: &mut Effects,
    ttp: &Ttp,
    (waiting, newest): (Vec<(Bytes, HeldRow)>, Option<Ready>),
    name: &str,
    (terms, place): (Release, (&Message, &View, &Context<'_>)),
) -> Result<(), Interrupt> {
    let (message, view, context) = place;
    let (mut ready, mut gone) = (newest.into_iter().collect::<Vec<Ready>>(), Vec::new());
    for (sub, held) in waiting {
        match ttp.book().of_period(name, held.parcel.period, context.now) {
            Ok(project) => {
                forget(effects, message.key(), &sub);
                ready.push((project, held.parcel, Bytes::new()));
            }
            Err(reason) => gone.push(((sub, held), reason)),
        }
    }
    turn_away(effects, ttp, gone.iter().map(|(held, reason)| (held, reason)), place)?;
    if ready.is_empty() {
        return Ok(());
    }
    let among = senders(ready.iter().map(|(_, parcel, _)| &parcel.sender)) as u64;
    let mut report = report(view, message.key())?;
    report.releases += 1;
    report.batches += ready.len() as u64;
    report.below += u64::from(among < u64::from(terms.min_senders));
    report.latest_senders = among;
    report.fewest_senders = if report.fewest_senders == 0 { among } else { report.fewest_senders.min(among) };
    effects.put(EXCHANGES, message.key(), REPORT, &report)?;
    hand_over_shuffled(effects, ready, place)
}

/// Answers negatively; nothing of these is handed over, and they stand still as they were sent.
fn turn_away<'w>(
    effects: &mut Effects,
    ttp: &Ttp,
    waiting: impl IntoIterator<Item = (&'w (Bytes, HeldRow), &'w Reason)>,
    place: (&Message, &View, &Context<'_>),
) -> Result<(), Interrupt> {
    let (message, view, _) = place;
    let mut quarantine = Quarantine::open(message, view)?;
    for ((sub, HeldRow { parcel, sent, .. }), reason) in waiting {
        if let Some(sent) = sent {
            let batch = match sent.part.content {
                Content::Attached => view.bytes(EXCHANGES, message.key(), sent_of(sub))?.unwrap_or_default(),
                _ => Bytes::new(),
            };
            quarantine.hold(effects, ttp, (sent, batch, reason), place)?;
        }
        forget(effects, message.key(), sub);
        if let Content::Stored(payload) = parcel.part.content {
            effects.delete(PAYLOADS, Key(payload.0), Bytes::new());
        }
        refuse_parcel(effects, parcel, reason.clone(), place)?;
    }
    Ok(())
}

fn wake_at(
    effects: &mut Effects,
    due: Millis,
    project: &str,
    (message, _, context): (&Message, &View, &Context<'_>),
) -> Result<(), Interrupt> {
    effects.timers.push(exchange::timer(message, project.to_owned(), (RELEASE, TtpWork::Release), due, context)?);
    Ok(())
}

fn held(view: &View, owner: Key) -> Result<Vec<(Bytes, HeldRow)>, Interrupt> {
    let (from, to) = (Bytes::from_static(&[HELD]), Bytes::from_static(&[HELD + 1]));
    let rows = view.range(EXCHANGES, owner, from, Some(to), READ_MAX)?;
    let read = |(sub, row): (Bytes, Bytes)| serde_json::from_slice(&row).map(|held| (sub, held));
    rows.into_iter().map(read).collect::<Result<_, _>>().map_err(|_| Failure::permanent("ZGL-STATE-READ").into())
}

fn report(view: &View, owner: Key) -> Result<ReleaseReport, Interrupt> {
    let report: Option<ReleaseReport> = view.get(EXCHANGES, owner, REPORT)?;
    Ok(ReleaseReport { v: V1, ..report.unwrap_or_default() })
}

fn senders<'p>(all: impl Iterator<Item = &'p MailboxAddress>) -> usize {
    all.collect::<HashSet<_>>().len()
}
