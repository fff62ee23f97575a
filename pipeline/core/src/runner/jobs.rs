//! Heavy work outside a step: started after the commit that recorded it, on a blocking thread, by the slot's owner.
//!
//! A job's message stays parked until the job has ended; a crash starts the job again, so a job writes nothing but
//! objects that nothing refers to yet.
//!
//! A job that kills the process is found: those that were pending at an unclean end are suspects, which run one at a time
//! in the process, each start on record before it happens. So a job is only blamed for an end of the process during
//! which it really ran, and no other suspect did.

use super::{Ports, Shared};
use crate::clock::Clock;
use crate::keys::Keys;
use crate::objects::Objects;
use crate::store::{Read, Step};
use crate::worker::{JobError, JobIo, Worker};
use bytes::Bytes;
use schemas::Key;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, mpsc, watch};

/// What came of a job.
pub(crate) struct Ended {
    pub number: u64,
    pub key: Key,
    pub result: Result<Bytes, JobError>,
    /// Held by a suspect until what came of it is committed: until then, an end of the process would be blamed on it.
    pub alone: Option<OwnedMutexGuard<()>>,
}

/// A job to be done.
pub(crate) struct Job {
    /// Its message.
    pub number: u64,
    /// Its message's key.
    pub key: Key,
    /// What is to be done.
    pub spec: Vec<u8>,
    /// For a suspect, what records that it begins.
    pub suspect: Option<Step>,
}

struct Io {
    ports: Ports,
    runtime: Handle,
    stop: watch::Receiver<bool>,
}

impl JobIo for Io {
    fn objects(&self) -> &dyn Objects {
        &*self.ports.objects
    }

    fn read(&self, read: Read) -> Result<Vec<(Bytes, Bytes)>, JobError> {
        let rows = self
            .runtime
            .block_on(self.ports.store.read(vec![read.clone()]))
            .map_err(|error| JobError { code: "ZGL-STORE-AWAY".to_owned(), retryable: error.is_retryable() })?;
        let rows = rows.into_iter().next().unwrap_or_default();
        super::engine::open_rows(&*self.ports.keys, &read, rows)
            .map_err(|_| JobError { code: "ZGL-SEAL-OPEN".to_owned(), retryable: false })
    }

    fn keys(&self) -> &dyn Keys {
        &*self.ports.keys
    }

    fn now(&self) -> schemas::Millis {
        Clock::now(&*self.ports.clock)
    }

    fn stopping(&self) -> bool {
        *self.stop.borrow()
    }
}

/// Starts a job; its end arrives on `ended`. Waits for one of the process's permits first, a suspect for the others.
pub(crate) fn start(
    worker: Arc<dyn Worker>,
    ports: Ports,
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
    job: Job,
    ended: mpsc::Sender<Ended>,
) {
    tokio::spawn(async move {
        let Job { number, key, spec, suspect } = job;
        let alone = match &suspect {
            Some(_) => Some(shared.suspects.clone().lock_owned().await),
            None => None,
        };
        let Ok(permit) = shared.jobs.clone().acquire_owned().await else { return };
        let begins = if *stop.borrow() { Err("ZGL-STOPPING") } else { record(&ports, suspect).await };
        let result = match begins {
            Ok(()) => run(worker, ports, stop, spec, permit).await,
            // Not the job's fault: it is tried again, by this owner or by the next.
            Err(code) => Err(JobError { code: code.to_owned(), retryable: true }),
        };
        let _slot_is_gone = ended.send(Ended { number, key, result: result.map(Bytes::from), alone }).await;
    });
}

/// Puts a suspect's start on record.
async fn record(ports: &Ports, suspect: Option<Step>) -> Result<(), &'static str> {
    let Some(step) = suspect else { return Ok(()) };
    ports.store.commit(step).await.map_err(|error| {
        tracing::warn!(%error, "start of a suspect job cannot be recorded");
        "ZGL-STORE-AWAY"
    })
}

async fn run(
    worker: Arc<dyn Worker>,
    ports: Ports,
    stop: watch::Receiver<bool>,
    spec: Vec<u8>,
    permit: OwnedSemaphorePermit,
) -> Result<Vec<u8>, JobError> {
    let io = Io { ports: ports.clone(), runtime: Handle::current(), stop };
    let stage = worker.group().name;
    ports.metrics.jobs_running.with_label_values(&[stage]).inc();
    let run = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        fail::fail_point!("runner::job-begins");
        let result = catch_unwind(AssertUnwindSafe(|| worker.run_job(&spec, &io)));
        fail::fail_point!("runner::job-ends");
        result.unwrap_or_else(|_| Err(JobError { code: "ZGL-PANIC".to_owned(), retryable: true }))
    });
    let result = run.await.unwrap_or_else(|_| Err(JobError { code: "ZGL-PANIC".to_owned(), retryable: true }));
    ports.metrics.jobs_running.with_label_values(&[stage]).dec();
    result
}
