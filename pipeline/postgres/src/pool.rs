//! A bounded number of connections, and calls on them with a time limit each.
//!
//! A small pool of our own: what a call's failure means (undone, or unknown) is decided where the connection is given
//! back, and a general pool would add a check before each use without sparing that. Connecting happens one at a time, with
//! waits that grow while the server is away, so that a server that comes back is not stormed.

use crate::connect::{Connection, Dialer, Session};
use crate::error::Fault;
use crate::metrics::{Metrics, add};
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};
use zegel_core::StoreError;

/// The first and the longest wait after a connection that could not be made.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// A call that can be repeated without harm is tried so often: a lost race is won by then, and a server that restarted
/// leaves each pooled connection dead once.
const TRIES: u32 = 20;

/// See the module's header.
pub(crate) struct Pool {
    dialer: Arc<Dialer>,
    permits: Semaphore,
    idle: Mutex<Vec<Connection>>,
    /// How long to wait before the next connection is made, and since when.
    dialing: tokio::sync::Mutex<(Duration, Instant)>,
    /// A call that has no answer by then is given up, and its connection with it.
    patience: Duration,
    metrics: Arc<Metrics>,
}

/// A connection out of the pool; it goes back when this is dropped, unless it is broken.
pub(crate) struct Lease<'a> {
    connection: Option<Connection>,
    pool: &'a Pool,
    _permit: SemaphorePermit<'a>,
}

impl Pool {
    pub(crate) fn new(dialer: Arc<Dialer>, size: usize, patience: Duration, metrics: Arc<Metrics>) -> Pool {
        Pool {
            dialer,
            permits: Semaphore::new(size.max(1)),
            idle: Mutex::default(),
            dialing: tokio::sync::Mutex::new((Duration::ZERO, Instant::now())),
            patience,
            metrics,
        }
    }

    /// Does something on a connection, once. The call is given up after the pool's patience; then it is
    /// [`Fault::Lost`], for it may still have its effect.
    pub(crate) async fn once<T, F>(&self, call: impl FnOnce(Arc<Session>) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let mut lease = self.take(Instant::now() + self.patience).await?;
        let session = lease.connection.as_ref().map(|connection| Arc::clone(&connection.session));
        let Some(session) = session else { return Err(Fault::Refused(StoreError::Closed)) };
        let outcome = match tokio::time::timeout(self.patience, call(session)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Fault::Lost(Fault::unavailable("postgresql does not answer"))),
        };
        if matches!(outcome, Err(Fault::Lost(_))) {
            lease.connection = None;
        }
        outcome
    }

    /// Does something that may be done twice, again and again until it gets through or the patience ends.
    pub(crate) async fn repeat<T, F>(&self, call: impl Fn(Arc<Session>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        self.until(call, |_| false).await
    }

    /// Does something again and again until it gets through, a fault is final, or the patience ends.
    pub(crate) async fn until<T, F>(
        &self,
        call: impl Fn(Arc<Session>) -> F,
        is_final: impl Fn(&Fault) -> bool,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let end = Instant::now() + self.patience;
        let mut tried = 0;
        loop {
            tried += 1;
            match self.once(&call).await {
                Ok(done) => return Ok(done),
                Err(fault) => {
                    if matches!(fault, Fault::Refused(_)) || is_final(&fault) || tried == TRIES || Instant::now() >= end
                    {
                        return Err(fault.into_error());
                    }
                }
            }
            pause(tried).await;
        }
    }

    /// A connection that is believed to work, made when none is idle.
    async fn take(&self, end: Instant) -> Result<Lease<'_>, Fault> {
        let busy = |_| Fault::Away(Fault::unavailable("all connections are busy"));
        let permit = timeout_at(end, self.permits.acquire()).await.map_err(busy)?;
        let permit = permit.map_err(|_| Fault::Refused(StoreError::Closed))?;
        while let Some(connection) = self.idle().pop() {
            if !connection.session.client.is_closed() {
                return Ok(Lease { connection: Some(connection), pool: self, _permit: permit });
            }
        }
        let away = |_| Fault::Away(Fault::unavailable("postgresql cannot be reached"));
        let connection = timeout_at(end, self.dial()).await.map_err(away)??;
        Ok(Lease { connection: Some(connection), pool: self, _permit: permit })
    }

    async fn dial(&self) -> Result<Connection, Fault> {
        let mut dialing = self.dialing.lock().await;
        let (wait, since) = *dialing;
        tokio::time::sleep_until(since + wait).await;
        match self.dialer.dial().await {
            Ok(connection) => {
                *dialing = (Duration::ZERO, Instant::now());
                add(&self.metrics.connects, 1);
                Ok(connection)
            }
            Err(error) => {
                *dialing = ((wait * 2).clamp(BACKOFF.0, BACKOFF.1), Instant::now());
                tracing::warn!(%error, "no connection to postgresql");
                Err(Fault::Away(StoreError::Unavailable(error.to_string())))
            }
        }
    }

    /// Closes what is idle and refuses every later call.
    pub(crate) fn close(&self) {
        self.permits.close();
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A short wait between two tries, a little different for each call, so that two that met do not meet again.
pub(crate) async fn pause(tried: u32) {
    let spread = std::hash::RandomState::new().hash_one(tried) % 7;
    tokio::time::sleep(Duration::from_millis(u64::from(tried.min(20)) * 5 + spread)).await;
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take().filter(|one| !one.session.client.is_closed())
            && !self.pool.permits.is_closed()
        {
            self.pool.idle().push(connection);
        }
    }
}
