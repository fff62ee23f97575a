//! A folder of its own for each test.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use zegel_conformance::fixture::Fixture;
use zegel_conformance::runner::Backend;
use zegel_embedded::{Embedded, Options};

/// A folder and the store that is open in it.
pub(crate) struct Place {
    folder: TempDir,
    open: Mutex<Option<Arc<Embedded>>>,
}

impl Place {
    /// The store's file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("zegel.db")
    }

    /// Opens the store with the options.
    pub(crate) fn embedded(&self, options: Options) -> Arc<Embedded> {
        let store = Embedded::open(self.file(), options).unwrap();
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
}

#[async_trait::async_trait]
impl Fixture for Place {
    fn fresh() -> Place {
        Place { folder: tempfile::tempdir().unwrap(), open: Mutex::new(None) }
    }

    async fn open(&self, high_water: Option<u64>) -> Backend {
        // Small bounds, so that the suites pass the end of the queue, of the tails and of the log.
        let bounds = Options { queue_bytes: 1 << 20, tail_bytes: 1 << 20, wal_bytes: 4 << 20, ..Options::default() };
        let store = self.embedded(Options { high_water, ..bounds });
        Backend { broker: store.clone(), store }
    }

    async fn close(&self, backend: Backend) {
        drop(backend);
        self.shut().await;
        let findings = zegel_embedded::check(self.file()).unwrap();
        // The suites commit positions and dead letters of messages that were never published.
        let real = findings.iter().filter(|finding| !["position", "parked", "dead"].contains(&finding.rule));
        assert_eq!(real.collect::<Vec<_>>(), Vec::<&zegel_embedded::Finding>::new(), "a check after closing complains");
    }
}
