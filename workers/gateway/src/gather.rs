//! Reads of many requests at a time as one call of the store.
//!
//! A single point read costs more in handing it to the store's threads than in the store itself. While one call is under
//! way, what other requests want to read waits, and goes together in the next call. A request on its own waits for
//! nobody. One [`Store::read`] sees one consistent state, so gathering changes no meaning.
//! Failure behaviour: an error is everybody's whose reads went together; nobody waits for ever.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use zegel_core::{Read, Rows, Store, StoreError};

/// Most requests whose reads go together: as many as the connections that the aim names.
const TOGETHER_MAX: usize = 256;

type Found = Result<Vec<Rows>, StoreError>;

/// Gathers reads of one store.
pub(crate) struct Gather {
    store: Arc<dyn Store>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<(Vec<Read>, oneshot::Sender<Found>)>,
    running: bool,
}

impl Gather {
    pub(crate) fn new(store: Arc<dyn Store>) -> Arc<Gather> {
        Arc::new(Gather { store, queue: Mutex::default() })
    }

    /// As [`Store::read`].
    pub(crate) async fn read(self: &Arc<Self>, reads: Vec<Read>) -> Found {
        let (sender, found) = oneshot::channel();
        if self.enqueue(reads, sender) {
            // A task of its own: the request that began it may go away, the others still wait.
            tokio::spawn(Running(self.clone()).run());
        }
        found.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Puts reads into the queue; true when a task must be begun.
    fn enqueue(&self, reads: Vec<Read>, sender: oneshot::Sender<Found>) -> bool {
        let mut queue = self.lock();
        queue.waiting.push((reads, sender));
        !std::mem::replace(&mut queue.running, true)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that reads. However it ends, whoever still waits is told, and the next request begins a new one.
struct Running(Arc<Gather>);

impl Running {
    async fn run(self) {
        while let Some(together) = self.next() {
            let (reads, waiting): (Vec<Vec<Read>>, Vec<_>) = together.into_iter().unzip();
            let counts: Vec<usize> = reads.iter().map(Vec::len).collect();
            let mut found = self.0.store.read(reads.into_iter().flatten().collect()).await.map(Vec::into_iter);
            for (count, sender) in counts.into_iter().zip(waiting) {
                let _gone_away = sender.send(match &mut found {
                    Ok(rows) => Ok(rows.take(count).collect()),
                    Err(error) => Err(error.clone()),
                });
            }
        }
    }

    /// What goes together next; none, and no task runs any more, when nobody waits.
    fn next(&self) -> Option<Vec<(Vec<Read>, oneshot::Sender<Found>)>> {
        let mut queue = self.0.lock();
        queue.running = !queue.waiting.is_empty();
        let some = queue.waiting.len().min(TOGETHER_MAX);
        queue.running.then(|| queue.waiting.drain(..some).collect())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only a panic in the store, or the end of the runtime, comes here with `panicking` set or requests waiting;
        // after a regular end another task may run already, and the queue is its own.
        if std::thread::panicking() {
            *self.0.lock() = Queue::default();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use schemas::Key;
    use zegel_core::memory::Memory;
    use zegel_core::slot::spaces::TEST;
    use zegel_core::{Sealed, Slot, Step, Write};

    fn one(n: u8) -> Read {
        Read::One { space: TEST, owner: Key([n; 16]), sub: Bytes::new() }
    }

    #[tokio::test]
    async fn everybody_gets_the_rows_of_his_own_reads() {
        let memory = Memory::new();
        let slot = Slot { channel: 1, group: 1, partition: 0 };
        let claim = memory.claim(slot, zegel_core::OwnerId([1; 16]), schemas::Millis(0), 1).await.unwrap().unwrap();
        let mut step = Step::empty(slot, claim.epoch);
        for n in 0..100 {
            let value = Some(Sealed::from_stored(Bytes::from(vec![n])));
            step.writes.push(Write { space: TEST, owner: Key([n; 16]), sub: Bytes::new(), value });
        }
        memory.commit(step).await.unwrap();
        let gather = Gather::new(memory.clone());
        let asks = (0..100u8).map(|n| {
            let gather = gather.clone();
            tokio::spawn(async move { (n, gather.read(vec![one(n), one(200), one(99 - n)]).await.unwrap()) })
        });
        for ask in asks.collect::<Vec<_>>() {
            let (n, rows) = ask.await.unwrap();
            let values: Vec<Vec<u8>> =
                rows.iter().map(|rows| rows.iter().map(|(_, v)| v.bytes()[0]).collect()).collect();
            assert_eq!(values, [vec![n], vec![], vec![99 - n]]);
        }
        assert!(!gather.lock().running, "a task runs on with nothing to do");
        memory.close();
        assert!(gather.read(vec![one(1)]).await.is_err());
    }
}
