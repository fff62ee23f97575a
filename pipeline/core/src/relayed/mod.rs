//! The broker over a transport and a store: what RabbitMQ and Kafka have in common, written once.
//!
//! ```text
//! edge ─▶ intake lane ─▶ intake: numbers it in the store ─┐
//! a step's produced messages, numbered in its commit ─────┴▶ relay ─▶ numbered lane ─▶ subscription ─▶ runner
//! ```
//!
//! Contract kept: [`Broker`]'s. An edge's message is durable when the transport has confirmed it, so intake goes on while
//! the store is away (I1). Numbers come from the store alone, so a repetition by the broker, by a relay or by a publisher
//! that reconnected is known exactly (I2, I3).
//! Failure behaviour: whatever the broker loses after the relay's confirm is read from the store again.

mod intake;
mod lease;
mod order;
mod progress;
mod relay;
mod sessions;
mod subscription;
mod waiting;

use crate::broker::{Broker, BrokerError, Outgoing, Subscription};
use crate::clock::Clock;
use crate::keys::Keys;
use crate::runner::Division;
use crate::slot::{INTAKE, OwnerId, RELAY, Slot, partition_of};
use crate::store::Outbox;
use crate::transport::{Counter, Lane, Mark, Parcel, Transport};
use async_trait::async_trait;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How a relayed broker behaves.
#[derive(Debug, Clone)]
pub struct RelayedConfig {
    /// High-water mark of every channel, instead of the topology's.
    pub high_water: Option<u64>,
    /// Silence of the broker after which a reader asks the store for what is owed; and how long an intake waits for a gap in
    /// what a publisher sent, which a send that failed may have left for good.
    pub patience: Duration,
}

impl Default for RelayedConfig {
    fn default() -> RelayedConfig {
        // Longer than a broker's node takes to be restarted: asking the store is right at any time, and rarely needed. Twice
        // a heartbeat of the readers too, after which a broker gives back what a silent one held.
        RelayedConfig { high_water: None, patience: Duration::from_secs(10) }
    }
}

/// See the module's header.
pub struct Relayed {
    transport: Arc<dyn Transport>,
    store: Arc<dyn Outbox>,
    config: RelayedConfig,
    session: [u8; 16],
    sequences: Mutex<HashMap<Lane, u64>>,
    waiting: Arc<waiting::Waiting>,
}

/// What the duties beside the stages need.
pub(crate) struct Duties {
    pub owner: OwnerId,
    pub lease_ms: i64,
    pub keys: Arc<dyn Keys>,
    pub clock: Arc<dyn Clock>,
    pub division: Arc<Division>,
    pub stop: watch::Receiver<bool>,
}

impl Relayed {
    /// A broker over this transport; `keys` gives the session its random name.
    #[must_use]
    pub fn new(
        transport: Arc<dyn Transport>,
        store: Arc<dyn Outbox>,
        keys: &dyn Keys,
        config: RelayedConfig,
    ) -> Arc<Relayed> {
        let waiting = Arc::new(waiting::Waiting::new(Arc::clone(&transport), Arc::clone(&store)));
        let session = keys.random16();
        Arc::new(Relayed { transport, store, config, session, sequences: Mutex::default(), waiting })
    }

    /// What the transport counts, for an exporter.
    #[must_use]
    pub fn counters(&self) -> Vec<Counter> {
        self.transport.counters()
    }

    /// Closes the transport.
    pub async fn close(&self) {
        self.transport.close().await;
    }

    /// Starts relays and intakes of all partitions; the tasks end when told to stop.
    pub(crate) fn start(&self, duties: &Duties) -> Vec<tokio::task::JoinHandle<()>> {
        duties.division.serve(RELAY);
        duties.division.serve(INTAKE);
        let (watch, look) = progress::watcher(Arc::clone(&self.store), duties.stop.clone());
        let mut tasks = vec![tokio::spawn(look)];
        for Lane { channel, partition, intake } in Lane::all() {
            let slot = Slot { channel, group: if intake { INTAKE } else { RELAY }, partition };
            let lease = lease::Lease {
                slot,
                owner: duties.owner,
                lease_ms: duties.lease_ms,
                store: Arc::clone(&self.store),
                clock: Arc::clone(&duties.clock),
                division: Arc::clone(&duties.division),
                stop: duties.stop.clone(),
            };
            let (store, transport) = (Arc::clone(&self.store), Arc::clone(&self.transport));
            tasks.push(if intake {
                let (keys, clock) = (Arc::clone(&duties.keys), Arc::clone(&duties.clock));
                let patience = self.config.patience;
                tokio::spawn(lease.run(intake::Intake::new(slot, store, transport, keys, clock, patience)))
            } else {
                tokio::spawn(lease.run(relay::Relay::new(slot, store, transport, watch.clone())))
            });
        }
        tasks
    }

    async fn admit(&self, channel: u16, messages: u64) -> Result<(), BrokerError> {
        let channel = topology::channels::by_code(channel).ok_or(BrokerError::UnknownChannel(channel))?;
        self.waiting.admit(channel, self.config.high_water.unwrap_or(channel.high_water), messages).await
    }

    /// The message's lane and, as a parcel, its place in what this process sends into it.
    fn address(&self, message: Outgoing) -> Result<(Lane, Parcel), BrokerError> {
        let channel =
            topology::channels::by_code(message.channel).ok_or(BrokerError::UnknownChannel(message.channel))?;
        let partition = partition_of(message.key, channel.partitions);
        let lane = Lane { channel: channel.code, partition, intake: true };
        let mut sequences = self.sequences.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = sequences.entry(lane).or_default();
        *sequence += 1;
        let mark = Mark::Edge { session: self.session, sequence: *sequence };
        Ok((lane, Parcel { mark, key: message.key, id: message.id, body: message.body }))
    }
}

#[async_trait]
impl Broker for Relayed {
    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<(), BrokerError>> {
        let mut counts: BTreeMap<u16, u64> = BTreeMap::new();
        batch.iter().for_each(|message| *counts.entry(message.channel).or_default() += 1);
        let mut admitted = BTreeMap::new();
        for (channel, messages) in counts {
            admitted.insert(channel, self.admit(channel, messages).await);
        }
        let mut outcomes: Vec<Result<(), BrokerError>> = Vec::with_capacity(batch.len());
        let mut lanes: BTreeMap<Lane, (Vec<usize>, Vec<Parcel>)> = BTreeMap::new();
        for (index, message) in batch.into_iter().enumerate() {
            let admission = admitted.get(&message.channel).cloned().unwrap_or(Ok(()));
            let addressed = admission.and_then(|()| self.address(message));
            outcomes.push(addressed.as_ref().map(|_| ()).map_err(Clone::clone));
            if let Ok((lane, parcel)) = addressed {
                let (indexes, parcels) = lanes.entry(lane).or_default();
                indexes.push(index);
                parcels.push(parcel);
            }
        }
        let sends = lanes
            .into_iter()
            .map(|(lane, (indexes, parcels))| async move { (indexes, self.transport.send(lane, parcels).await) });
        for (indexes, sent) in futures_util::future::join_all(sends).await {
            for (index, outcome) in indexes.into_iter().zip(sent) {
                outcomes[index] = outcome;
            }
        }
        outcomes
    }

    async fn subscribe(&self, slot: Slot, from: u64) -> Result<Box<dyn Subscription>, BrokerError> {
        let arrivals = self.transport.receive(slot, from).await?;
        let (store, patience) = (Arc::clone(&self.store), self.config.patience);
        Ok(Box::new(subscription::RelayedSubscription::new(slot, from, arrivals, store, patience)))
    }
}
