//! Deletes records that every group of a lane has settled, in the background: retention is off, so nothing else does.
//!
//! Invariant: nothing is deleted above an offset that was committed by a reader of ours together with its number. An offset
//! that an operator's tool has moved is no permission.
//! Failure behaviour: what fails is counted and tried again at the next round.

use crate::metrics::add;
use crate::names;
use crate::shared::{ASK, Shared};
use rdkafka::admin::AdminOptions;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::Arc;
use zegel_core::Slot;
use zegel_core::transport::Lane;

pub(crate) async fn run(shared: Arc<Shared>) {
    let mut closed = shared.closed.subscribe();
    let mut done: HashMap<Lane, i64> = HashMap::new();
    loop {
        tokio::select! {
            _ = closed.wait_for(|closed| *closed) => return,
            () = tokio::time::sleep(shared.options.trim_every) => {}
        }
        if let Err(error) = round(&shared, &mut done).await {
            tracing::warn!(%error, "records below all groups were not deleted");
            add(&shared.metrics.trims_failed, 1);
        }
    }
}

async fn round(shared: &Arc<Shared>, done: &mut HashMap<Lane, i64>) -> Result<(), crate::KafkaError> {
    let mut list = TopicPartitionList::new();
    let mut ends = Vec::new();
    for slot in shared.slots() {
        let lane = Lane::of(slot);
        let Some(end) = shared.blocking("asking what is settled", move |shared| settled(shared, slot)).await? else {
            continue;
        };
        if end > done.get(&lane).copied().unwrap_or(0)
            && let Ok(topic) = shared.topic(lane)
            && list.add_partition_offset(&topic, i32::from(lane.partition), Offset::Offset(end)).is_ok()
        {
            ends.push((lane, end));
        }
    }
    if ends.is_empty() {
        return Ok(());
    }
    let limits = AdminOptions::new().request_timeout(Some(ASK)).operation_timeout(Some(ASK));
    let failed = |error| crate::KafkaError::client("deleting records", &error);
    let answer = shared.admin.delete_records(&list, &limits).await.map_err(failed)?;
    answer.elements().iter().try_for_each(|element| element.error()).map_err(failed)?;
    done.extend(ends);
    Ok(())
}

/// Up to where every group of the slot's lane has settled.
fn settled(shared: &Shared, slot: Slot) -> Result<Option<i64>, crate::KafkaError> {
    let mut lowest = None;
    for reader in names::readers(slot) {
        match shared.committed(reader)? {
            Some(position) if position.number.is_some() => {
                lowest = Some(lowest.unwrap_or(position.offset).min(position.offset));
            }
            _ => return Ok(None),
        }
    }
    Ok(lowest)
}
