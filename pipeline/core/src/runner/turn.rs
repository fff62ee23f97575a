//! What one turn of a slot's loop is made of: why it may end, what is left after its commit, and where its items come from.

use super::engine::{Item, Plan, Tally};
use crate::broker::{BrokerError, Delivery};
use crate::metrics::Metrics;
use crate::store::{Parked, ParkedHead, Step, StoreError};
use crate::worker::JobError;
use schemas::{Key, Millis};
use std::time::Duration;

/// Why a slot is let go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Loss {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Keys(#[from] crate::keys::KeysError),
    #[error("deciding was cut off")]
    Cut,
}

/// Computes inline or, when it may take long, on a blocking thread.
pub(crate) async fn compute<T: Send + 'static>(
    large: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Loss> {
    if large { tokio::task::spawn_blocking(work).await.map_err(|_| Loss::Cut) } else { Ok(work()) }
}

/// What remains to be done after the commit.
pub(crate) struct After {
    pub replies: Vec<(schemas::MessageId, bytes::Bytes)>,
    pub jobs: Vec<(u64, Key, Vec<u8>)>,
    pub parked: Vec<ParkedHead>,
    pub unparked: Vec<(u64, Key)>,
    pub next_timer: Option<Millis>,
    pub tally: Tally,
}

pub(crate) fn split(plan: Plan) -> (Step, After) {
    let Plan { step, replies, jobs, parked, unparked, next_timer, tally } = plan;
    (step, After { replies, jobs, parked, unparked, next_timer, tally })
}

/// Counts what a committed step of so many messages came to.
pub(crate) fn observe(metrics: &Metrics, stage: &str, tally: Tally, count: usize, took: Duration) {
    let outcomes = [
        ("done", tally.done),
        ("parked", tally.parked),
        ("failed", tally.failed),
        ("dead", tally.dead),
        ("job", tally.jobs),
    ];
    for (outcome, messages) in outcomes.into_iter().filter(|(_, messages)| *messages > 0) {
        metrics.messages.with_label_values(&[stage, outcome]).inc_by(messages);
    }
    metrics.panics.with_label_values(&[stage]).inc_by(tally.panics);
    metrics.step_seconds.with_label_values(&[stage]).observe(took.as_secs_f64());
    #[allow(clippy::cast_precision_loss)] // a batch has at most a few thousand messages
    metrics.batch_messages.with_label_values(&[stage]).observe(count as f64);
}

pub(crate) fn new_item(delivery: Delivery) -> Item {
    Item {
        number: delivery.number,
        key: delivery.key,
        id: delivery.id,
        body: delivery.body,
        attempt: 0,
        job: None,
        parked: false,
        condemned: None,
    }
}

pub(crate) fn parked_item(parked: Parked, job: Option<Result<bytes::Bytes, JobError>>) -> Item {
    Item {
        number: parked.number,
        key: parked.key,
        id: parked.id,
        body: parked.body,
        attempt: parked.attempt,
        job,
        parked: true,
        condemned: None,
    }
}
