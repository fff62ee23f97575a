//! Kafka brokers for tests: the one that all share, and ones that a test may kill; names of a test's own on them.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use schemas::{Key, MessageId};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use zegel_conformance::service::{Services, shared_url};
use zegel_core::Sealed;
use zegel_core::transport::{Mark, Parcel};
use zegel_kafka::{Kafka, Options};

const NAMES: &[&str] = &["kafka"];

/// A broker of one test's own.
pub(crate) struct Broker(Services);

impl Broker {
    /// Starts one; none where that is not possible and not required.
    pub(crate) fn start() -> Option<Broker> {
        Services::start(NAMES).map(Broker)
    }

    /// Starts one on this port that tells its clients to come through another.
    pub(crate) fn behind(port: u16, advertised: SocketAddr) -> Option<Broker> {
        let settings = [
            ("ZEGEL_KAFKA_PORT", port.to_string()),
            ("ZEGEL_KAFKA_SETTINGS", format!("advertised.listeners=PLAINTEXT://{advertised}")),
        ];
        Services::start_with(NAMES, &settings).map(Broker)
    }

    pub(crate) fn url(&self) -> &str {
        self.0.url("KAFKA_URL")
    }

    /// `kill -9`.
    pub(crate) fn kill(&self) {
        self.0.kill("kafka");
    }

    /// Starts it again with its data and on its port, and returns when it answers.
    pub(crate) fn restart(&self) {
        self.0.restart();
    }
}

/// The broker that tests share; none where there is none and none is required.
pub(crate) fn shared() -> Option<&'static str> {
    shared_url("KAFKA_URL", NAMES)
}

/// A prefix of names that nobody else has. Its topics go with it: a broker with thousands of partitions is slow.
pub(crate) struct Place {
    url: String,
    pub options: Options,
}

impl Place {
    pub(crate) fn new(url: &str) -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Place { url: url.to_owned(), options: Options { prefix, ..Options::default() } }
    }

    /// A transport whose topics are there.
    pub(crate) async fn verified(&self) -> Arc<Kafka> {
        let kafka = Kafka::connect(&self.url, self.options.clone()).unwrap();
        kafka.apply().await.unwrap();
        kafka.verify().await.unwrap();
        kafka
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (url, prefix) = (self.url.clone(), format!("{}.", self.options.prefix));
        // A thread of its own: a test's runtime cannot wait inside itself.
        let deleting = std::thread::spawn(move || {
            let (admin, limits) = admin(&url);
            let Ok(found) = admin.inner().fetch_metadata(None, Duration::from_secs(10)) else { return };
            let topics: Vec<&str> =
                found.topics().iter().map(|topic| topic.name()).filter(|name| name.starts_with(&prefix)).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _some_may_stay = runtime.block_on(admin.delete_topics(&topics, &limits));
        });
        let _panicked = deleting.join();
    }
}

/// Another client's settings.
pub(crate) fn client(url: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", url.strip_prefix("kafka://").unwrap());
    config
}

/// What an operator's tool uses.
pub(crate) fn admin(url: &str) -> (AdminClient<DefaultClientContext>, AdminOptions) {
    (client(url).create().unwrap(), AdminOptions::new())
}

/// A parcel of a numbered lane.
pub(crate) fn parcel(n: u64) -> Parcel {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    let body = Sealed::from_stored(format!("body {n}").into_bytes().into());
    Parcel { mark: Mark::Number(n), key: Key(bytes), id: MessageId(bytes), body }
}

/// Parcels with these numbers.
pub(crate) fn parcels(numbers: impl IntoIterator<Item = u64>) -> Vec<Parcel> {
    numbers.into_iter().map(parcel).collect()
}

/// The number of a parcel of a numbered lane.
pub(crate) fn number(parcel: &Parcel) -> u64 {
    match parcel.mark {
        Mark::Number(number) => number,
        Mark::Edge { .. } => panic!("an edge's parcel on a numbered lane"),
    }
}
