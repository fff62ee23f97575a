//! How far the partitions are, asked once for the whole process and watched by its relays and readers.

use crate::slot::Slot;
use crate::store::{Outbox, Progress};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The pause between two looks: what a message waits for its relay at the most, and a small query each time.
const LOOK: Duration = Duration::from_millis(10);
/// After a failure, so long until the next look.
const AWAY: Duration = Duration::from_millis(500);

type Table = HashMap<(u16, u16), Progress>;

/// A view of the progress of all partitions.
#[derive(Clone)]
pub(crate) struct Watch(watch::Receiver<Table>);

impl Watch {
    /// Waits until the partition has messages above a number.
    pub async fn last_above(&mut self, slot: Slot, number: u64) {
        let beyond =
            |table: &Table| table.get(&(slot.channel, slot.partition)).is_some_and(|progress| progress.last > number);
        if self.0.wait_for(beyond).await.is_err() {
            std::future::pending::<()>().await; // nobody looks any more: the process is stopping
        }
    }
}

/// Looks until told to stop. The task is for the caller to run.
pub(crate) fn watcher(
    store: Arc<dyn Outbox>,
    mut stop: watch::Receiver<bool>,
) -> (Watch, impl Future<Output = ()> + Send + 'static) {
    let (sender, receiver) = watch::channel(Table::new());
    let look = async move {
        while !*stop.borrow() {
            let pause = match store.progress().await {
                Ok(found) => {
                    publish(&sender, found);
                    LOOK
                }
                Err(_) => AWAY, // whoever claims slots reports it
            };
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    };
    (Watch(receiver), look)
}

fn publish(sender: &watch::Sender<Table>, found: Vec<Progress>) {
    sender.send_if_modified(|table| {
        let mut changed = false;
        for one in found {
            changed |= table.insert((one.channel, one.partition), one) != Some(one);
        }
        changed
    });
}
