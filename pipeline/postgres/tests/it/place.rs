//! A schema of its own for each test.

use crate::cluster;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio_postgres::{Client, NoTls};
use zegel_conformance::fixture::Fixture;
use zegel_conformance::outbox::OutboxFixture;
use zegel_conformance::runner::Backend;
use zegel_core::Outbox;
use zegel_postgres::{Options, Postgres};

/// A schema and the store that is open in it.
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) schema: String,
    open: Mutex<Option<Arc<Postgres>>>,
}

impl Place {
    /// A schema that nothing was stored in yet, on this server.
    pub(crate) fn on(url: &str) -> Place {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let schema = format!("test_{}_{count}", std::process::id());
        Place { url: url.to_owned(), schema, open: Mutex::new(None) }
    }

    /// What tests open the store with: small bounds, so that the suites pass them.
    pub(crate) fn options(&self) -> Options {
        Options { schema: self.schema.clone(), queue_bytes: 1 << 20, ..Options::default() }
    }

    /// Opens the store with the options.
    pub(crate) async fn postgres(&self, options: Options) -> Arc<Postgres> {
        let store = Postgres::open(&self.url, options).await.unwrap();
        *self.open.lock().unwrap() = Some(Arc::clone(&store));
        store
    }

    /// Closes what is open.
    pub(crate) async fn shut(&self) {
        let store = self.open.lock().unwrap().take();
        if let Some(store) = store {
            store.close().await;
        }
    }

    /// A connection to look behind the store's back.
    pub(crate) async fn client(&self) -> Client {
        client(&self.url, &self.schema).await
    }
}

pub(crate) async fn client(url: &str, schema: &str) -> Client {
    let (client, driver) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(driver);
    client.batch_execute(&format!("SET search_path = {schema}")).await.unwrap();
    client
}

impl Drop for Place {
    fn drop(&mut self) {
        // The server may be one that somebody keeps.
        let (url, sql) = (self.url.clone(), format!("DROP SCHEMA IF EXISTS {} CASCADE", self.schema));
        let drop_it = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                if let Ok((client, driver)) = tokio_postgres::connect(&url, NoTls).await {
                    tokio::spawn(driver);
                    let _gone = client.batch_execute(&sql).await;
                }
            });
        });
        let _ended = drop_it.join();
    }
}

#[async_trait::async_trait]
impl Fixture for Place {
    fn fresh() -> Place {
        Place::on(cluster::shared().expect("suites run only where there is a server"))
    }

    async fn open(&self, high_water: Option<u64>) -> Backend {
        let store = self.postgres(Options { high_water, ..self.options() }).await;
        Backend { broker: store.clone(), store }
    }

    async fn close(&self, backend: Backend) {
        drop(backend);
        self.shut().await;
    }
}

impl OutboxFixture for Place {
    fn outbox(&self, _: &Backend) -> Arc<dyn Outbox> {
        self.open.lock().unwrap().clone().unwrap()
    }
}
