//! A small pool of connections that cannot write, used on blocking threads.
//!
//! A connection is given back with no transaction open, so no snapshot outlives its call; a call that runs longer than a
//! second is interrupted, because the log cannot be restarted under a reader.

use crate::error::OpenError;
use crate::layout::open_reader;
use rusqlite::Connection;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use zegel_core::StoreError;

/// Connections: enough to keep a small machine's disk busy; each costs up to 4 MiB of page cache.
const READERS: usize = 4;
/// The longest that a snapshot may live.
const DEADLINE: Duration = Duration::from_secs(1);
/// SQLite instructions between two looks at the clock: about 100 microseconds.
const OPERATIONS: i32 = 10_000;

/// See the module's header.
pub(crate) struct Readers {
    idle: Mutex<Vec<Reader>>,
    permits: Semaphore,
}

struct Reader {
    connection: Connection,
    started: Arc<Mutex<Instant>>,
}

impl Readers {
    pub(crate) fn open(path: &Path) -> Result<Readers, OpenError> {
        let idle = (0..READERS).map(|_| Reader::open(path)).collect::<Result<Vec<_>, _>>()?;
        Ok(Readers { idle: Mutex::new(idle), permits: Semaphore::new(READERS) })
    }

    /// Runs a query on a blocking thread.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let pool = Arc::clone(self);
        let _permit = self.permits.acquire().await.map_err(|_| StoreError::Closed)?;
        let outcome = tokio::task::spawn_blocking(move || pool.with(query)).await;
        outcome.map_err(|_| StoreError::Unavailable("a read was stopped".to_owned()))?
    }

    fn with<T>(&self, query: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        // A caller that was dropped gave its permit back before its query ended; then a connection may be missing.
        let reader = self.idle().pop();
        let Some(reader) = reader else { return Err(StoreError::Unavailable("all readers are busy".to_owned())) };
        *reader.started.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let outcome = query(&reader.connection);
        if !reader.connection.is_autocommit() {
            // A query that failed between BEGIN and COMMIT; ending a read transaction cannot lose anything.
            let _ = reader.connection.execute_batch("ROLLBACK");
        }
        self.idle().push(reader);
        outcome
    }

    /// Closes the connections that are idle and refuses every later call.
    pub(crate) fn close(&self) {
        self.permits.close();
        self.idle().clear();
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Reader>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    fn open(path: &Path) -> Result<Reader, OpenError> {
        let mut connection = open_reader(path)?;
        let started = Arc::new(Mutex::new(Instant::now()));
        let since = Arc::clone(&started);
        let too_long = move || since.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > DEADLINE;
        connection.progress_handler(OPERATIONS, Some(too_long)).map_err(|error| OpenError::sql(path, &error))?;
        Ok(Reader { connection, started })
    }
}
