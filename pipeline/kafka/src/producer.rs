//! The one producer of the process, built again after a fatal error, and how its delivery reports reach the lanes.
//!
//! Invariant: of what a lane hands to one producer, a beginning without gaps becomes durable, each once (idempotence, and
//! errors that would leave a gap are fatal). So a lane that resends from its lowest unknown parcel never overtakes itself.
//! Two things of the client and the broker stand against it, and are kept out here and in the lane:
//! - A broker takes any sequence number from a producer that it has no record of in a partition. When the first batch is
//!   refused (a topic that is just being made) and the second, in flight behind it, is taken, librdkafka concludes that the
//!   first was durable too, and reports it delivered, without an offset. So a report without an offset is a failure.
//! - And nothing may be in flight behind the first record of a producer in a partition ([`PRIME_AGAIN`]).

use crate::error::{KafkaError, code_words};
use crate::metrics::add;
use crate::shared::{Quiet, Shared};
use rdkafka::ClientContext;
use rdkafka::Message as _;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{Producer as _, ProducerContext, PurgeConfig, ThreadedProducer};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// A broker forgets a producer that was silent in a partition for a day (`producer.id.expiration.ms`); well before that its
/// next record goes alone again.
pub(crate) const PRIME_AGAIN: Duration = Duration::from_secs(3600);
/// Delivered, says the client, and cannot say where.
const NO_OFFSET: ClientError = ClientError::MessageProduction(RDKafkaErrorCode::NoOffset);

/// What became of the parcels that a lane handed to one producer.
#[derive(Default)]
pub(crate) struct Flight {
    delivered: AtomicUsize,
    failed: AtomicBool,
    why: OnceLock<String>,
    /// Told at each report.
    pub wake: Notify,
}

impl Flight {
    /// How many parcels are durable: a beginning of what was handed over.
    pub(crate) fn delivered(&self) -> usize {
        self.delivered.load(Ordering::Acquire)
    }

    /// Why the rest is not known to be durable, once nothing more will be.
    pub(crate) fn failure(&self) -> Option<String> {
        let why = || self.why.get().cloned().unwrap_or_else(|| "the producer was ended".to_owned());
        self.failed.load(Ordering::Acquire).then(why)
    }

    pub(crate) fn fail(&self, error: &ClientError) {
        let _ = self.why.set(error.rdkafka_error_code().map_or_else(|| "client error".to_owned(), code_words));
        self.failed.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

/// Takes delivery reports, on the producer's thread.
pub(crate) struct Reports(Quiet);

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Arc<Flight>;

    fn delivery(&self, report: &DeliveryResult<'_>, flight: Arc<Flight>) {
        match report {
            // After a failure nothing counts: what is delivered behind a gap is sent again, in order.
            Ok(_) if flight.failed.load(Ordering::Acquire) => {}
            Ok(record) if record.offset() < 0 => flight.fail(&NO_OFFSET),
            Ok(_) => {
                flight.delivered.fetch_add(1, Ordering::AcqRel);
                flight.wake.notify_one();
            }
            Err((error, _)) => flight.fail(error),
        }
    }
}

pub(crate) type Producer = ThreadedProducer<Reports>;

/// The producer of now, with its generation.
pub(crate) struct Producers {
    shared: Arc<Shared>,
    current: Mutex<(u64, Option<Arc<Producer>>)>,
}

impl Producers {
    pub(crate) fn new(shared: Arc<Shared>) -> Producers {
        Producers { shared, current: Mutex::new((0, None)) }
    }

    /// The producer, built where there is none.
    pub(crate) fn current(&self) -> Result<(u64, Arc<Producer>), KafkaError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let (generation, Some(producer)) = &*current {
            return Ok((*generation, Arc::clone(producer)));
        }
        let config = self.shared.options.producer(&self.shared.servers);
        let producer = Producer::from_config_and_context(&config, Reports(Quiet))
            .map_err(|error| KafkaError::client("opening a producer", &error))?;
        let producer = Arc::new(producer);
        *current = (current.0 + 1, Some(Arc::clone(&producer)));
        Ok((current.0, producer))
    }

    /// Ends the producer of a generation, where that is still the current one. What it had not delivered is reported as
    /// failed to its lanes.
    pub(crate) fn retire(&self, generation: u64) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 == generation
            && let Some(producer) = current.1.take()
        {
            tracing::warn!(generation, "the kafka producer is built again");
            add(&self.shared.metrics.producers_rebuilt, 1);
            producer.purge(PurgeConfig::default().queue().inflight());
            self.shared.end(producer, |_| {});
        }
    }

    /// Ends it for good.
    pub(crate) fn close(&self) {
        let producer = self.current.lock().unwrap_or_else(PoisonError::into_inner).1.take();
        if let Some(producer) = producer {
            producer.purge(PurgeConfig::default().queue().inflight());
            self.shared.end(producer, |_| {});
        }
    }
}
