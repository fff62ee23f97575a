//! Which slots are this process's share, where several processes serve the same stage.
//!
//! Every process announces itself for its groups and reads who else is alive; the slots of a group are dealt out in turn
//! over the sorted list, so shares differ by at most one. The share is a wish, not a right: who owns a slot is decided by
//! the lease, so two processes with different lists for a moment cannot both work on a slot.
//! Failure behaviour: while the store is away the last list stays; leases run out meanwhile and nobody commits.

use crate::clock::Clock;
use crate::slot::{OwnerId, Slot};
use crate::store::Store;
use schemas::Millis;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// See the module's header.
pub struct Division {
    owner: OwnerId,
    shared: bool,
    lease_ms: i64,
    groups: Mutex<BTreeSet<u16>>,
    alive: Mutex<HashMap<u16, Vec<OwnerId>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Division {
    /// For one process alone (everything is its share), or for one of several.
    #[must_use]
    pub fn new(owner: OwnerId, shared: bool, lease_ms: i64) -> Division {
        Division { owner, shared, lease_ms, groups: Mutex::default(), alive: Mutex::default() }
    }

    /// This process serves the group from now on.
    pub fn serve(&self, group: u16) {
        lock(&self.groups).insert(group);
    }

    /// Whether several processes share the slots.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// Whether the slot is in this process's share.
    #[must_use]
    pub fn is_mine(&self, slot: Slot) -> bool {
        if !self.shared {
            return true;
        }
        let alive = lock(&self.alive);
        let Some(owners) = alive.get(&slot.group).filter(|owners| !owners.is_empty()) else { return false };
        // The channel shifts the deal, so that the odd slot of every stage does not go to the same process.
        let turn = usize::from(slot.partition) + usize::from(slot.channel);
        owners[turn % owners.len()] == self.owner
    }

    /// Announces this process until told to stop, then takes it off the lists.
    pub async fn keep(self: Arc<Self>, store: Arc<dyn Store>, clock: Arc<dyn Clock>, mut stop: watch::Receiver<bool>) {
        // A process that died is off the lists before its leases have run out, so that they are taken at once then.
        let alive_ms = self.lease_ms * 2 / 3;
        let pause = Duration::from_millis(u64::try_from(self.lease_ms / 6).unwrap_or(0).max(10));
        while !*stop.borrow() {
            let now = clock.now();
            self.announce(&*store, now, now.plus(alive_ms)).await;
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.announce(&*store, clock.now(), Millis(0)).await;
    }

    async fn announce(&self, store: &dyn Store, now: Millis, until: Millis) {
        let groups: Vec<u16> = lock(&self.groups).iter().copied().collect();
        for group in groups {
            match store.announce(group, self.owner, now, until).await {
                Ok(owners) => drop(lock(&self.alive).insert(group, owners)),
                Err(error) => {
                    tracing::warn!(group, %error, "cannot say that this process is alive");
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::clock::FakeClock;
    use crate::memory::Memory;

    #[tokio::test]
    async fn shares_are_even_and_every_slot_has_exactly_one_process() {
        let store = Memory::new();
        let clock = FakeClock::at(Millis(1_000));
        let processes: Vec<Division> =
            (1..=3).map(|n| Division::new(OwnerId([n; 16]), true, 6_000)).inspect(|one| one.serve(1)).collect();
        for _ in 0..2 {
            for one in &processes {
                one.announce(&*store, clock.now(), Millis(9_000)).await;
            }
        }
        let mut shares = [0; 3];
        for partition in 0..8 {
            let slot = Slot { channel: 1, group: 1, partition };
            let owners: Vec<usize> = (0..3).filter(|n| processes[*n].is_mine(slot)).collect();
            assert_eq!(owners.len(), 1, "slot {slot} is wished for by {} processes", owners.len());
            shares[owners[0]] += 1;
        }
        shares.sort_unstable();
        assert_eq!(shares, [2, 3, 3], "shares are uneven");
        assert!(!processes[0].is_mine(Slot { channel: 2, group: 2, partition: 0 }), "a group that is not served");
    }

    #[test]
    fn a_process_alone_has_everything() {
        let alone = Division::new(OwnerId([1; 16]), false, 6_000);
        assert!(alone.is_mine(Slot { channel: 1, group: 1, partition: 3 }));
    }
}
