//! The backends of a platform, opened as the settings say: the store, the broker on top of it or beside it.
//!
//! | store | broker | processes |
//! | --- | --- | --- |
//! | `embedded` | `store` | one |
//! | `postgres://…` | `store`: its own table | many |
//! | `postgres://…` | `amqp://…` or `kafka://…` | many |
//!
//! A foreign broker beside the embedded store is refused: it would add a second place where messages can be late, and
//! gain nothing, since the embedded store serves one process.

use crate::config::Config;
use crate::failed::Failed;
use crate::folder::Folder;
use crate::store_metrics;
use std::sync::Arc;
use tokio::runtime::Handle;
use zegel_core::transport::Transport;
use zegel_core::{Broker, Keys, Outbox, OwnerId, Relayed, RelayedConfig, Store};
use zegel_crypto::Keyring;
use zegel_embedded::{Embedded, Lock};
use zegel_objects::EncryptedObjects;
use zegel_postgres::Postgres;

/// The backends of one process.
#[derive(Clone)]
pub struct Backend {
    /// Messages.
    pub broker: Arc<dyn Broker>,
    /// State.
    pub store: Arc<dyn Store>,
    /// The relayed broker, where the broker is a foreign one.
    pub relayed: Option<Arc<Relayed>>,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Embedded(Arc<Embedded>),
    Postgres(Arc<Postgres>),
}

/// Whether the settings' store can serve several processes.
pub fn is_shared(config: &Config) -> bool {
    config.store.scheme() != "embedded"
}

/// Refuses settings that cannot work, before anything is opened.
///
/// # Errors
/// [`Failed::Usage`] with what is possible.
pub fn check(config: &Config) -> Result<(), Failed> {
    let (store, broker) = (config.store.scheme(), config.broker.scheme());
    let usage = |text: &str| Err(Failed::Usage(text.to_owned()));
    match (store, broker) {
        ("embedded" | "postgres" | "postgresql", "store") => Ok(()),
        ("postgres" | "postgresql", "amqp" | "amqps") => Ok(()),
        ("postgres" | "postgresql", "kafka") if cfg!(feature = "kafka") => Ok(()),
        ("postgres" | "postgresql", "kafka") => {
            usage("this program was built without Kafka: build it with `--features kafka`")
        }
        ("embedded", "amqp" | "amqps" | "kafka") => {
            usage("a foreign broker needs a store that several processes share: say --store postgres://…")
        }
        ("embedded" | "postgres" | "postgresql", _) => usage("the broker must be store, amqp://… or kafka://…"),
        _ => usage("the store must be embedded or postgres://…"),
    }
}

impl Backend {
    /// Opens what the settings say. `lock` is the embedded store's, taken before anything in the folder was made.
    ///
    /// # Errors
    /// When a backend cannot be reached or used.
    pub async fn open(
        config: &Config,
        folder: &Folder,
        lock: Option<Lock>,
        keys: &dyn Keys,
    ) -> Result<Backend, Failed> {
        if let Some(lock) = lock {
            let database = folder.database();
            let open = move || Embedded::open_locked(database, lock, embedded_options());
            let embedded = tokio::task::spawn_blocking(open).await.map_err(failure)?.map_err(failure)?;
            let (broker, store) = (embedded.clone(), embedded.clone());
            return Ok(Backend { broker, store, relayed: None, kind: Kind::Embedded(embedded) });
        }
        let options = zegel_postgres::Options { schema: config.installation.clone(), ..Default::default() };
        let postgres = Postgres::open(config.store.expose(), options).await.map_err(failure)?;
        if postgres.is_being_filled().await.map_err(failure)? {
            let text = "a move into this store has not ended: give zegel migrate again";
            return Err(Failed::refused("store-filling", text));
        }
        let kind = Kind::Postgres(postgres.clone());
        let Some(transport) = transport(config).await? else {
            return Ok(Backend { broker: postgres.clone(), store: postgres, relayed: None, kind });
        };
        let outbox: Arc<dyn Outbox> = postgres.clone();
        let relayed = Relayed::new(transport, outbox, keys, RelayedConfig::default());
        Ok(Backend { broker: relayed.clone(), store: postgres, relayed: Some(relayed), kind })
    }

    /// Whether several processes may serve the same stages.
    pub fn is_shared(&self) -> bool {
        matches!(self.kind, Kind::Postgres(_))
    }

    /// Who this process is. On the embedded store always the same, since one process owns the whole folder, so that a
    /// restart after a crash need not wait for its own leases to run out.
    pub fn owner(&self, keys: &dyn Keys) -> OwnerId {
        if self.is_shared() { OwnerId(keys.random16()) } else { OwnerId(keys.blind("owner", b"embedded").0) }
    }

    /// What the store and the broker count, in the Prometheus text format.
    pub fn metrics(&self) -> String {
        let store = match &self.kind {
            Kind::Embedded(embedded) => store_metrics::embedded(embedded.metrics()),
            Kind::Postgres(postgres) => store_metrics::counters(&postgres.metrics().counters()),
        };
        let transport = self.relayed.as_ref().map(|relayed| store_metrics::counters(&relayed.counters()));
        store + &transport.unwrap_or_default()
    }

    /// Finishes what is under way and closes.
    pub async fn close(&self) {
        if let Some(relayed) = &self.relayed {
            relayed.close().await;
        }
        match &self.kind {
            Kind::Embedded(embedded) => embedded.close().await,
            Kind::Postgres(postgres) => postgres.close().await,
        }
    }
}

/// The foreign broker of the settings; none where the store is the broker. It must be as declared.
async fn transport(config: &Config) -> Result<Option<Arc<dyn Transport>>, Failed> {
    let url = config.broker.expose();
    match config.broker.scheme() {
        "amqp" | "amqps" => {
            let options = zegel_amqp::Options { prefix: config.installation.clone(), ..Default::default() };
            let amqp = zegel_amqp::Amqp::connect(url, options).await.map_err(undeclared)?;
            Ok(Some(amqp))
        }
        #[cfg(feature = "kafka")]
        "kafka" => {
            let options = zegel_kafka::Options { prefix: config.installation.clone(), ..Default::default() };
            let kafka = zegel_kafka::Kafka::connect(url, options).map_err(failure)?;
            kafka.verify().await.map_err(undeclared)?;
            Ok(Some(kafka))
        }
        _ => Ok(None),
    }
}

/// Large content, where the settings say.
///
/// # Errors
/// When the place cannot be used, or this program was built without it.
pub fn objects(
    config: &Config,
    folder: &Folder,
    keys: Arc<Keyring>,
    runtime: Handle,
) -> Result<EncryptedObjects, Failed> {
    let objects = EncryptedObjects::open(config.objects.expose(), &folder.objects(), keys, runtime).map_err(failure)?;
    // A wrong bucket or wrong credentials are said now, not with the first large message.
    objects.probe().map_err(failure)?;
    Ok(objects)
}

/// Large content, to be read only; none where its folder is gone.
///
/// # Errors
/// As [`objects`].
pub fn kept_objects(
    config: &Config,
    folder: &Folder,
    keys: Arc<Keyring>,
    runtime: Handle,
) -> Result<Option<EncryptedObjects>, Failed> {
    let place = folder.objects();
    if config.objects.expose() == "folder" && !place.exists() {
        return Ok(None);
    }
    EncryptedObjects::open(config.objects.expose(), &place, keys, runtime).map(Some).map_err(failure)
}

/// A broker that was never prepared is the likeliest reason.
fn undeclared(error: impl std::fmt::Display) -> Failed {
    Failed::Failure(format!("{error} (zegel topology plan shows what is missing, apply declares it)"))
}

fn failure(error: impl std::fmt::Display) -> Failed {
    Failed::Failure(error.to_string())
}

fn embedded_options() -> zegel_embedded::Options {
    #[cfg(feature = "failpoints")]
    if let Some(wal_bytes) = crate::crash::wal_bytes() {
        return zegel_embedded::Options { wal_bytes, ..Default::default() };
    }
    zegel_embedded::Options::default()
}
