//! The aggregator: takes entries into the hospital's open bag, answers each of them, and closes windows.
//!
//! Channel `timestamp.entries`, key hospital. One message costs one row for the open bag, one chunk of records, and one
//! row for each 16 neighbouring references; nothing is written per entry. Whatever message comes first after a window's
//! end closes it (see [`crate::windows`]), so an entry never enters a window that has ended.
//! An entry under a reference that was taken gets the first answer when its hash is the same, and is refused when it is
//! another; both without a change.
//! Failure behaviour: a message whose attachment is not what it announces is dead, and the hospital's later messages
//! wait for an operator; the gateway lets no such message in.

use crate::rows::{self, Bucket, Enrolled, OpenBag, REFERENCE_MAX, REQUEST_MAX, Taken};
use crate::windows::{Cause, Windows};
use crate::{ENTRIES, SEALED, SOURCE};
use bytes::{Bytes, BytesMut};
use schemas::messages::{BagClosed, Enrol, Entries, EntryAnswer, WindowEnd};
use schemas::{Key, MailboxAddress, Millis};
use serde::Serialize;
use std::collections::BTreeMap;
use topology::Channel;
use zegel_core::slot::spaces;
use zegel_core::worker::{Produced, SetTimer};
use zegel_core::{Context, Decision, Effects, Failure, Interrupt, Message, Read, View, Worker};

/// The timer at the end of the open window.
pub const WINDOW_TIMER: &str = "window";

/// Collects entries; see the module's header.
#[derive(Debug, Clone)]
pub struct Aggregator {
    windows: Windows,
}

impl Aggregator {
    /// An aggregator with these rules of windows.
    #[must_use]
    pub fn new(windows: Windows) -> Aggregator {
        Aggregator { windows }
    }

    fn enrol(&self, message: &Message, view: &View, context: &Context<'_>) -> Result<Decision, Interrupt> {
        let Enrol { hospital, salted } = message.payload()?;
        let mut step = self.begin(message, view, context, Some(hospital))?;
        if let Some(step) = &mut step {
            step.roll(context.now, Cause::Tick);
            // From the open bag on. What a hospital salts is its own affair; the header tells auditors what to ask it for.
            step.bag.salted = salted.unwrap_or(step.bag.salted);
            step.effects.reply = Some(json(&Enrolled::from(&step.bag))?);
        }
        finish(step)
    }

    fn window_end(&self, message: &Message, view: &View, context: &Context<'_>) -> Result<Decision, Interrupt> {
        let WindowEnd { end, .. } = message.payload()?;
        let mut step = self.begin(message, view, context, None)?;
        if let Some(step) = &mut step {
            // The timer's owner saw the window's end pass; this process's clock may stand before it.
            let seen = if end <= step.bag.end { end } else { context.now };
            step.roll(context.now.max(seen), Cause::Tick);
        }
        finish(step)
    }

    fn take(&self, message: &Message, view: &View, context: &Context<'_>) -> Result<Decision, Interrupt> {
        let Entries { hospital, count } = message.payload()?;
        let attachment = &message.envelope.attachment;
        let announced = usize::try_from(count).unwrap_or(usize::MAX);
        if announced > REQUEST_MAX || announced.checked_mul(rows::RECORD) != Some(attachment.len()) {
            return Err(Failure::permanent("ZGL-MSG-PAYLOAD").into());
        }
        let mut step = self.begin(message, view, context, Some(hospital))?;
        if let Some(step) = &mut step {
            step.roll(context.now, Cause::Entries);
            step.accept(attachment, view, context.now)?;
        }
        finish(step)
    }

    /// Reads the open bag, or opens the first one when a hospital to enrol is given.
    fn begin<'a>(
        &'a self,
        message: &'a Message,
        view: &View,
        context: &'a Context<'a>,
        enrol: Option<MailboxAddress>,
    ) -> Result<Option<Taking<'a>>, Interrupt> {
        let owner = message.key();
        let stored: Option<OpenBag> = view.get(spaces::BAGS, owner, Bytes::new())?;
        let bag = match (&stored, enrol) {
            (Some(bag), _) => bag.clone(),
            (None, Some(hospital)) => self.windows.enrol(hospital, context.now),
            (None, None) => return Ok(None),
        };
        Ok(Some(Taking {
            worker: self,
            message,
            context,
            owner,
            stored,
            bag,
            closed: Vec::new(),
            effects: Effects::default(),
        }))
    }
}

impl Worker for Aggregator {
    fn channel(&self) -> &'static Channel {
        ENTRIES
    }

    fn reads(&self, message: &Message, _: &Context<'_>) -> Vec<Read> {
        let owner = message.key();
        let mut reads = vec![Read::One { space: spaces::BAGS, owner, sub: Bytes::new() }];
        if message.is::<Entries>() {
            let mut subs: Vec<u64> =
                rows::records(&message.envelope.attachment).map(|(reference, ..)| rows::bucket_of(reference)).collect();
            subs.sort_unstable();
            subs.dedup();
            reads.extend(subs.into_iter().map(|bucket| Read::One {
                space: spaces::REFERENCES,
                owner,
                sub: rows::bucket_sub(bucket),
            }));
        }
        reads
    }

    fn decide(&self, message: &Message, view: &View, context: &Context<'_>) -> Result<Decision, Interrupt> {
        if message.is::<Entries>() {
            self.take(message, view, context)
        } else if message.is::<WindowEnd>() {
            self.window_end(message, view, context)
        } else {
            self.enrol(message, view, context)
        }
    }
}

/// One message's work on a hospital's open bag.
struct Taking<'a> {
    worker: &'a Aggregator,
    message: &'a Message,
    context: &'a Context<'a>,
    owner: Key,
    stored: Option<OpenBag>,
    bag: OpenBag,
    closed: Vec<BagClosed>,
    effects: Effects,
}

impl Taking<'_> {
    fn roll(&mut self, now: Millis, cause: Cause) {
        let now = Windows::instant(&self.bag, now);
        self.closed = self.worker.windows.roll(&mut self.bag, now, cause);
    }

    /// Takes the records that are new, answers all of them, and closes the bag when it is full.
    fn accept(&mut self, attachment: &Bytes, view: &View, now: Millis) -> Result<(), Interrupt> {
        let offered = attachment.len() / rows::RECORD;
        let accepted = Windows::instant(&self.bag, now);
        let mut references = References { owner: self.owner, view, buckets: BTreeMap::new() };
        let mut answers = Vec::with_capacity(offered);
        let mut chunk = BytesMut::new();
        for (reference, hash, record) in rows::records(attachment) {
            let taken = Taken { hash, accepted, earliest_bag: self.bag.sequence };
            let (answer, is_new) = references.offer(reference, &taken)?;
            if is_new {
                chunk.extend_from_slice(record);
            }
            answers.push(answer);
        }
        references.write(&mut self.effects);
        if !chunk.is_empty() {
            let sub = rows::chunk_sub(self.bag.sequence, self.bag.chunks);
            self.bag.count += (chunk.len() / rows::RECORD) as u64;
            self.bag.chunks += 1;
            self.bag.last_accepted = accepted;
            self.effects.put_bytes(spaces::ENTRIES, self.owner, sub, chunk);
            self.closed.extend(self.worker.windows.close_full(&mut self.bag));
        }
        self.effects.reply = Some(json(&answers)?);
        Ok(())
    }

    /// Writes the open bag when it changed, produces what was closed, and sets the timer when the window is another.
    fn commit(mut self) -> Result<Effects, Interrupt> {
        if self.stored.as_ref() != Some(&self.bag) {
            self.effects.put(spaces::BAGS, self.owner, Bytes::new(), &self.bag)?;
        }
        for closed in &self.closed {
            let envelope = self.message.follow_up(self.context, SOURCE, self.owner, closed)?;
            self.effects.produce(SEALED, envelope);
        }
        if self.stored.as_ref().map(|stored| stored.end) != Some(self.bag.end) && self.bag.end != Millis::NEVER {
            let end = WindowEnd { hospital: self.bag.hospital.clone(), end: self.bag.end };
            let envelope = self.message.follow_up(self.context, SOURCE, self.owner, &end)?;
            let message = Produced { channel: ENTRIES, envelope };
            self.effects.timers.push(SetTimer { name: WINDOW_TIMER, due: self.bag.end, message });
        }
        Ok(self.effects)
    }
}

/// The reference rows of one message, with what the message itself adds.
struct References<'a> {
    owner: Key,
    view: &'a View,
    buckets: BTreeMap<u64, (Bucket, bool)>,
}

impl References<'_> {
    /// The answer to one entry, and whether it is taken now.
    fn offer(&mut self, reference: u64, offered: &Taken) -> Result<(EntryAnswer, bool), Interrupt> {
        if !(1..=REFERENCE_MAX).contains(&reference) {
            return Ok((EntryAnswer::Invalid, false));
        }
        let number = rows::bucket_of(reference);
        let (bucket, changed) = match self.buckets.entry(number) {
            std::collections::btree_map::Entry::Occupied(found) => found.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                let row = self.view.bytes(spaces::REFERENCES, self.owner, rows::bucket_sub(number))?;
                let bucket = row.map(|row| Bucket::read(&row)).transpose();
                let bucket = bucket.map_err(|_| Failure::permanent("ZGL-STATE-READ"))?;
                place.insert((bucket.unwrap_or_default(), false))
            }
        };
        match bucket.find(reference) {
            Some(first) if first.hash == offered.hash => Ok((answer(&first), false)),
            Some(_) => Ok((EntryAnswer::Conflict, false)),
            None => {
                bucket.insert(reference, offered);
                *changed = true;
                Ok((answer(offered), true))
            }
        }
    }

    fn write(self, effects: &mut Effects) {
        for (number, (bucket, _)) in self.buckets.into_iter().filter(|(_, (_, changed))| *changed) {
            effects.put_bytes(spaces::REFERENCES, self.owner, rows::bucket_sub(number), bucket.write());
        }
    }
}

fn answer(taken: &Taken) -> EntryAnswer {
    EntryAnswer::Accepted { accepted: taken.accepted, earliest_bag: taken.earliest_bag }
}

fn finish(step: Option<Taking<'_>>) -> Result<Decision, Interrupt> {
    let effects = step.map_or_else(|| Ok(Effects::default()), Taking::commit)?;
    Ok(Decision::Done(effects))
}

fn json<T: Serialize>(reply: &T) -> Result<Bytes, Interrupt> {
    serde_json::to_vec(reply).map(Bytes::from).map_err(|_| Failure::permanent("ZGL-STATE-WRITE").into())
}
