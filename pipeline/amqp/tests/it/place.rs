//! A prefix of names of a test's own, with the two channels that the suites use; dropping it deletes its objects.

use crate::node;
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::{Connection, ConnectionProperties};
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use topology::Channel;
use zegel_amqp::{Amqp, Options, Topology, names};
use zegel_conformance::fixture::{SINGLE, SPREAD, channel};
use zegel_conformance::transport::TransportFixture;
use zegel_core::transport::Transport;

/// Declaring all 105 queues for each test would take longer than the test.
static CHANNELS: LazyLock<&'static [Channel]> =
    LazyLock::new(|| Box::leak(Box::new([SINGLE, SPREAD].map(|name| Channel { partitions: 2, ..*channel(name) }))));

pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) options: Options,
    /// Whether dropping it deletes the objects.
    owner: bool,
}

impl Place {
    /// A place at this broker, with nothing declared.
    pub(crate) fn bare(url: &str) -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let options = Options { prefix, channels: *CHANNELS, ..Options::default() };
        Place { url: url.to_owned(), options, owner: true }
    }

    /// A place with everything declared.
    pub(crate) async fn at(url: &str) -> Place {
        let place = Place::bare(url);
        place.topology().await.apply().await.unwrap();
        place
    }

    /// The same place by another way.
    pub(crate) fn sharing(place: &Place, url: &str) -> Place {
        Place { url: url.to_owned(), options: place.options.clone(), owner: false }
    }

    pub(crate) async fn topology(&self) -> Topology {
        Topology::open(&self.url, self.options.clone()).await.unwrap()
    }

    pub(crate) async fn connect(&self) -> Arc<Amqp> {
        Amqp::connect(&self.url, self.options.clone()).await.unwrap()
    }

    pub(crate) async fn bare_client(&self) -> Connection {
        Connection::connect(&self.url, ConnectionProperties::default()).await.unwrap()
    }

    async fn delete(url: &str, options: &Options) -> lapin::Result<()> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        for queue in names::queues(options) {
            channel.queue_delete(queue.name.into(), QueueDeleteOptions::default()).await?;
        }
        for exchange in names::exchanges(options) {
            channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await?;
        }
        connection.close(200, "done".into()).await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.owner {
            return;
        }
        let (url, options) = (self.url.clone(), self.options.clone());
        let deleting = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            // The broker may be one that the test has killed.
            let _ = runtime
                .block_on(async { tokio::time::timeout(Duration::from_secs(10), Place::delete(&url, &options)).await });
        });
        let _ = deleting.join();
    }
}

#[async_trait::async_trait]
impl TransportFixture for Place {
    async fn fresh() -> Place {
        Place::at(tokio::task::spawn_blocking(node::shared).await.unwrap().unwrap()).await
    }

    async fn open(&self) -> Arc<dyn Transport> {
        self.connect().await
    }
}

/// Runs a test over the shared node, or says SKIPPED.
#[macro_export]
macro_rules! place_or_skip {
    () => {
        match tokio::task::spawn_blocking($crate::node::shared).await.unwrap() {
            Some(url) => $crate::place::Place::at(url).await,
            None => return,
        }
    };
}
