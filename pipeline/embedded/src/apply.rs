//! What each request does to the file, inside the writer's transaction.
//!
//! Whatever can be refused is refused before anything is written, so a request needs no savepoint of its own (which
//! would copy every page that it touches). One that fails half-way all the same loses the whole transaction, and its
//! requests run again singly.

use crate::cache::{Cache, SlotRow};
use crate::error::Fault;
use crate::queue::{Reply, Request};
use crate::shared::Shared;
use rusqlite::Connection;
use schemas::{Key, Millis};
use zegel_core::packed::{MAX_NUMBER, message_id, slot_code};
use zegel_core::store::{Claim, DeadLetter, Parked, TimerChange};
use zegel_core::{Delivery, Outgoing, OwnerId, Slot, Step, StoreError, Write};

/// The writer's transaction while it grows.
pub(crate) struct Transaction<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) shared: &'a Shared,
    pub(crate) cache: &'a mut Cache,
    /// Messages that became part of the transaction, with the index of their partition.
    pub(crate) appended: Vec<(usize, Delivery)>,
    /// Slots whose position moved.
    pub(crate) moved: Vec<(Slot, u64)>,
}

impl Transaction<'_> {
    /// Does a request, or nothing.
    pub(crate) fn apply(&mut self, request: &Request) -> Result<Reply, Fault> {
        let before = self.connection.total_changes();
        match self.dispatch(request) {
            Err(Fault::Request(error)) if self.connection.total_changes() > before => Err(Fault::Transaction(error)),
            outcome => outcome,
        }
    }

    fn dispatch(&mut self, request: &Request) -> Result<Reply, Fault> {
        match request {
            Request::Publish(batch) => {
                for message in batch {
                    self.append(message)?;
                }
                Ok(Reply::Done)
            }
            Request::Step(step) => self.step(step).map(|()| Reply::Done),
            Request::Claim { slot, owner, now, ttl_ms } => self.claim(*slot, *owner, *now, *ttl_ms),
            Request::Renew { slot, epoch, until } => {
                let row = self.cache.owned(*slot, *epoch)?;
                self.put(*slot, SlotRow { until: *until, ..row })
            }
            Request::Release { slot, epoch, clean } => {
                let row = self.cache.owned(*slot, *epoch)?;
                if *clean {
                    self.forget_attempts(*slot, 0, 0)?;
                }
                self.put(*slot, SlotRow { owner: None, clean: *clean, ..row })
            }
            Request::BeginAttempt { slot, epoch, number } => self.begin_attempt(*slot, *epoch, *number),
            Request::ResolveDead { slot, number, again } => self.resolve_dead(*slot, *number, again.as_ref()),
        }
    }

    fn put(&mut self, slot: Slot, row: SlotRow) -> Result<Reply, Fault> {
        self.cache.put(self.connection, slot, row)?;
        Ok(Reply::Done)
    }

    /// Gives a message the next number of its partition and writes it there.
    fn append(&mut self, message: &Outgoing) -> Result<(), Fault> {
        let Some(index) = self.shared.target(message.channel, message.key) else {
            return Err(refused(format!("a step names channel {}, which is not in the topology", message.channel)));
        };
        let number = self.cache.last[index] + 1;
        if number > MAX_NUMBER {
            return Err(refused("a partition has used up its numbers".to_owned()));
        }
        let partition = &self.shared.partitions[index];
        let id = message_id(partition.channel.code, partition.number, number);
        let mut insert =
            self.connection.prepare_cached("INSERT INTO messages(id, key, message, body) VALUES(?, ?, ?, ?)")?;
        insert.execute((id, &message.key.0[..], &message.id.0[..], &message.body.bytes()[..]))?;
        self.cache.last[index] = number;
        let delivery = Delivery { number, key: message.key, id: message.id, body: message.body.clone() };
        self.appended.push((index, delivery));
        Ok(())
    }

    fn claim(&mut self, slot: Slot, owner: OwnerId, now: Millis, ttl_ms: i64) -> Result<Reply, Fault> {
        self.known(slot)?;
        let row = self.cache.row(slot);
        if row.owner.is_some_and(|held| held != owner) && row.until > now {
            return Ok(Reply::Claimed(None));
        }
        let claim = Claim { slot, epoch: row.epoch + 1, position: row.position, clean: row.clean };
        let taken = SlotRow { owner: Some(owner), epoch: claim.epoch, until: now.plus(ttl_ms), clean: false, ..row };
        self.put(slot, taken)?;
        Ok(Reply::Claimed(Some(claim)))
    }

    fn known(&self, slot: Slot) -> Result<(), Fault> {
        match self.shared.find(slot) {
            Some(_) => Ok(()),
            None => Err(refused(format!("slot {slot} is not in the topology"))),
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), Fault> {
        let slot = step.slot;
        let row = self.cache.owned(slot, step.epoch)?;
        if let Some(position) = step.position {
            if position <= row.position {
                return Err(Fault::Request(StoreError::Position { slot, stored: row.position, step: position }));
            }
            self.position(slot, row, position)?;
        }
        for write in &step.writes {
            self.write(write)?;
        }
        for message in &step.produced {
            self.append(message)?;
        }
        // A timer that fired may be set again by the same step, so firing comes first.
        for (key, name) in &step.fired {
            self.cancel_timer(slot, *key, name)?;
        }
        for change in &step.timers {
            match change {
                TimerChange::Set { key, name, due, message } => self.set_timer(slot, *key, name, *due, message)?,
                TimerChange::Cancel { key, name } => self.cancel_timer(slot, *key, name)?,
            }
        }
        for number in &step.unparked {
            self.unpark(slot, *number)?;
            self.forget_attempts(slot, *number, *number)?;
        }
        for parked in &step.parked {
            self.park(slot, parked)?;
        }
        for letter in &step.dead {
            self.bury(letter)?;
            self.forget_attempts(letter.slot, letter.number, letter.number)?;
        }
        Ok(())
    }

    fn position(&mut self, slot: Slot, row: SlotRow, position: u64) -> Result<(), Fault> {
        let mut update = self.connection.prepare_cached("UPDATE slots SET position = ? WHERE slot = ?")?;
        update.execute((position.cast_signed(), slot_code(slot)))?;
        drop(update);
        self.cache.slots.insert(slot, SlotRow { position, ..row });
        self.moved.push((slot, position));
        self.forget_attempts(slot, row.position + 1, position)
    }

    fn write(&self, write: &Write) -> Result<(), Fault> {
        let place = (i64::from(write.space.code), &write.owner.0[..], &write.sub[..]);
        match &write.value {
            Some(value) => self
                .connection
                .prepare_cached("INSERT OR REPLACE INTO state(space, owner, sub, value) VALUES(?, ?, ?, ?)")?
                .execute((place.0, place.1, place.2, &value.bytes()[..]))?,
            None => self
                .connection
                .prepare_cached("DELETE FROM state WHERE space = ? AND owner = ? AND sub = ?")?
                .execute(place)?,
        };
        Ok(())
    }

    fn set_timer(&self, slot: Slot, key: Key, name: &str, due: Millis, message: &Outgoing) -> Result<(), Fault> {
        let mut upsert = self.connection.prepare_cached(
            "INSERT OR REPLACE INTO timers(slot, key, name, due, channel, message_key, message, body)
             VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        upsert.execute((
            slot_code(slot),
            &key.0[..],
            name,
            due.0,
            i64::from(message.channel),
            &message.key.0[..],
            &message.id.0[..],
            &message.body.bytes()[..],
        ))?;
        Ok(())
    }

    fn cancel_timer(&self, slot: Slot, key: Key, name: &str) -> Result<(), Fault> {
        self.connection
            .prepare_cached("DELETE FROM timers INDEXED BY timers_key WHERE slot = ? AND key = ? AND name = ?")?
            .execute((slot_code(slot), &key.0[..], name))?;
        Ok(())
    }

    fn park(&self, slot: Slot, parked: &Parked) -> Result<(), Fault> {
        let mut upsert = self.connection.prepare_cached(
            "INSERT OR REPLACE INTO parked(slot, number, key, message, due, attempt, job_spec, job_result, job_starts,
             body) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        let job = parked.job.as_ref();
        upsert.execute((
            slot_code(slot),
            parked.number.cast_signed(),
            &parked.key.0[..],
            &parked.id.0[..],
            parked.due.0,
            i64::from(parked.attempt),
            job.map(|job| &job.spec.bytes()[..]),
            job.and_then(|job| job.result.as_ref()).map(|result| &result.bytes()[..]),
            job.map_or(0, |job| i64::from(job.starts)),
            &parked.body.bytes()[..],
        ))?;
        Ok(())
    }

    fn unpark(&self, slot: Slot, number: u64) -> Result<(), Fault> {
        self.connection
            .prepare_cached("DELETE FROM parked WHERE slot = ? AND number = ?")?
            .execute((slot_code(slot), number.cast_signed()))?;
        Ok(())
    }

    fn bury(&self, letter: &DeadLetter) -> Result<(), Fault> {
        let mut upsert = self.connection.prepare_cached(
            "INSERT OR REPLACE INTO dead(channel, partition, number, grp, key, message, code, attempts, at, body)
             VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        upsert.execute((
            i64::from(letter.slot.channel),
            i64::from(letter.slot.partition),
            letter.number.cast_signed(),
            i64::from(letter.slot.group),
            &letter.key.0[..],
            &letter.id.0[..],
            &letter.code,
            i64::from(letter.attempts),
            letter.at.0,
            &letter.body.bytes()[..],
        ))?;
        Ok(())
    }

    fn begin_attempt(&mut self, slot: Slot, epoch: u64, number: u64) -> Result<Reply, Fault> {
        self.cache.owned(slot, epoch)?;
        let mut upsert = self.connection.prepare_cached(
            "INSERT INTO attempts(slot, number, count) VALUES(?, ?, 1)
             ON CONFLICT(slot, number) DO UPDATE SET count = count + 1 RETURNING count",
        )?;
        let count: i64 = upsert.query_row((slot_code(slot), number.cast_signed()), |row| row.get(0))?;
        self.cache.attempts.insert(slot);
        Ok(Reply::Count(u32::try_from(count).unwrap_or(u32::MAX)))
    }

    /// Attempts are on record only until their message is applied, unparked or dead. Few slots have any.
    fn forget_attempts(&self, slot: Slot, first: u64, last: u64) -> Result<(), Fault> {
        if self.cache.attempts.contains(&slot) {
            self.connection
                .prepare_cached("DELETE FROM attempts WHERE slot = ? AND number BETWEEN ? AND ?")?
                .execute((slot_code(slot), first.cast_signed(), last.cast_signed()))?;
        }
        Ok(())
    }

    fn resolve_dead(&mut self, slot: Slot, number: u64, again: Option<&Outgoing>) -> Result<Reply, Fault> {
        let place = (i64::from(slot.channel), i64::from(slot.partition), number.cast_signed(), i64::from(slot.group));
        let taken = self
            .connection
            .prepare_cached("DELETE FROM dead WHERE channel = ? AND partition = ? AND number = ? AND grp = ?")?
            .execute(place)?;
        if taken == 0 {
            return Ok(Reply::Found(false));
        }
        self.unpark(slot, number)?;
        if let Some(message) = again {
            self.append(message)?;
        }
        Ok(Reply::Found(true))
    }
}

fn refused(what: String) -> Fault {
    Fault::Request(StoreError::Damaged(what))
}
