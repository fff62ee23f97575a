//! The scripted worker: messages say what is to happen to them.

use super::world::{list_sub, owner};
use bytes::Bytes;
use schemas::{Envelope, MessageId, Millis, Payload};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use topology::Channel;
use zegel_core::slot::spaces::TEST;
use zegel_core::worker::{JobError, JobIo, Produced, SetTimer};
use zegel_core::{Context, Decision, Effects, Failure, Interrupt, Message, View, Worker};

/// What a message of the suite tells the worker to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Append its number to its key's list.
    Append,
    /// Park until the instant, then append.
    ParkUntil(i64),
    /// Fail so many attempts (retryable), then append.
    Fail(u32),
    /// Panic at each of so many attempts, then append.
    Panic(u32),
    /// Never succeed.
    Broken,
    /// Set the timer to this instant; when it fires, the number is appended.
    Timer(i64),
    /// Cancel the timer.
    Cancel,
    /// Do a job that fails so many times (retryable), then append.
    Job(u32),
    /// Append and send on to the other channel, so many times more.
    Hop(u32),
    /// End the process.
    Die,
    /// Fail one attempt (retryable), then end the process.
    DieLater,
    /// Do a job that takes a while, then append.
    SlowJob,
    /// Do a job that ends the process.
    DieInJob,
}

/// A message of the suite.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Probe {
    /// Its number among the messages of its key, from 1.
    pub n: u64,
    /// What to do.
    pub act: Act,
}

impl Payload for Probe {
    const TYPE: &'static str = "be.zegel.test.probe.v1";
}

const DIE: &[u8] = b"die";
const SLOW: &[u8] = b"slow";

/// What a job is told: how often to fail, or what else.
fn spec(act: &Act) -> Vec<u8> {
    match act {
        Act::Job(times) => times.to_string().into_bytes(),
        Act::DieInJob => DIE.to_vec(),
        _ => SLOW.to_vec(),
    }
}

/// The scripted worker: appends numbers to a list per key, with everything that may happen on the way.
pub struct Scripted {
    channel: &'static Channel,
    jobs_failed: AtomicU64,
}

impl Scripted {
    /// A worker on this channel.
    #[must_use]
    pub fn on(channel: &str) -> Arc<Scripted> {
        let channel = topology::channels::by_name(channel).unwrap_or(&topology::CHANNELS[0]);
        Arc::new(Scripted { channel, jobs_failed: AtomicU64::new(0) })
    }

    fn append(&self, message: &Message, n: u64, view: &View) -> Result<Effects, Interrupt> {
        let owner = owner(self.channel, message.key());
        let mut effects = Effects::default();
        let count: u64 = view.get(TEST, owner, &b"count"[..])?.unwrap_or(0);
        effects.put(TEST, owner, &b"count"[..], &(count + 1))?;
        effects.put(TEST, owner, list_sub(count), &n)?;
        effects.reply = Some(Bytes::from(n.to_string()));
        Ok(effects)
    }

    fn hop(&self, message: &Message, probe: &Probe, left: u32, view: &View, now: Millis) -> Result<Effects, Interrupt> {
        let mut effects = self.append(message, probe.n, view)?;
        let next = if self.channel.name == "mailbox.deliver" { "ttp.inbound" } else { "mailbox.deliver" };
        if let Some(channel) = topology::channels::by_name(next).filter(|_| left > 0) {
            let payload = Probe { n: probe.n, act: Act::Hop(left - 1) };
            let mut id = message.envelope.id;
            id.0[15] = id.0[15].wrapping_add(1);
            let envelope = Envelope::new(id, "/zegel/test", message.key(), now, &payload);
            effects.produce(channel, envelope.map_err(|_| Failure::permanent("ZGL-TEST"))?);
        }
        Ok(effects)
    }
}

impl Worker for Scripted {
    fn channel(&self) -> &'static Channel {
        self.channel
    }

    fn decide(&self, message: &Message, view: &View, context: &Context<'_>) -> Result<Decision, Interrupt> {
        let probe: Probe = message.payload()?;
        let append = || self.append(message, probe.n, view).map(Decision::Done);
        match probe.act {
            Act::Append => append(),
            Act::ParkUntil(until) if context.now < Millis(until) => Ok(Decision::Park { until: Millis(until) }),
            Act::ParkUntil(_) => append(),
            Act::Fail(times) if message.attempt < times => Err(Failure::transient("ZGL-TEST").into()),
            Act::Fail(_) => append(),
            Act::Panic(times) if message.attempt < times => panic!("scripted panic, expected in the test's output"),
            Act::Panic(_) => append(),
            Act::Broken => Err(Failure::permanent("ZGL-TEST").into()),
            Act::Timer(due) => {
                let payload = Probe { n: probe.n, act: Act::Append };
                let id = MessageId(context.keys.random16());
                let envelope = Envelope::new(id, "/zegel/test", message.key(), context.now, &payload)
                    .map_err(|_| Failure::permanent("ZGL-TEST"))?;
                let message = Produced { channel: self.channel, envelope };
                let timers = vec![SetTimer { name: "test", due: Millis(due), message }];
                Ok(Decision::Done(Effects { timers, ..Effects::default() }))
            }
            Act::Cancel => Ok(Decision::Done(Effects { cancelled: vec!["test"], ..Effects::default() })),
            Act::Job(_) | Act::SlowJob | Act::DieInJob => match &message.job {
                None => Ok(Decision::Job { spec: spec(&probe.act) }),
                Some(Ok(_)) => append(),
                Some(Err(error)) => Err(Failure::permanent(&error.code).into()),
            },
            Act::Hop(left) => self.hop(message, &probe, left, view, context.now).map(Decision::Done),
            Act::DieLater if message.attempt == 0 => Err(Failure::transient("ZGL-TEST").into()),
            Act::Die | Act::DieLater => std::process::abort(),
        }
    }

    #[allow(clippy::disallowed_methods)] // a job has a thread of its own
    fn run_job(&self, spec: &[u8], _io: &dyn JobIo) -> Result<Vec<u8>, JobError> {
        match spec {
            DIE => std::process::abort(),
            SLOW => std::thread::sleep(Duration::from_millis(20)),
            _ => {}
        }
        let times: u64 = std::str::from_utf8(spec).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        if self.jobs_failed.fetch_add(1, Ordering::SeqCst) < times {
            return Err(JobError { code: "ZGL-TEST".to_owned(), retryable: true });
        }
        Ok(b"done".to_vec())
    }
}
