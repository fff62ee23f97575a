//! The server's loop: accept up to a bound, serve HTTP/1.1, drain on shutdown.
//!
//! Our own loop instead of `axum::serve`, because the time that headers may take, the time that a client may take nothing of its answer, the number of connections and the
//! time that draining may take must be bounded (I7). A connection beyond the bound stays in the listener's queue.
//! Failure behaviour: an error of one connection ends that connection; when accepting fails (no file descriptors left),
//! it is tried again after a moment.

use crate::outflow::Patient;
use crate::platform::{GatewayConfig, Platform};
use crate::routes::router;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

/// Bytes of a connection's buffer, and with it of a request's line and headers: the longest query that the HTTP library
/// reads is 64 KiB. All connections together then take 384 MiB at most, whoever opened them; the default is four times that.
const BUFFER_MAX: usize = 96 * 1024;

/// How long the loop waits after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` completes, then lets open requests finish within the drain time.
///
/// # Errors
/// When the listener has no address any more; errors of single connections end only those.
pub async fn serve(
    listener: TcpListener,
    platform: Arc<Platform>,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let config = platform.config.clone();
    serve_router(listener, router(platform), &config, shutdown).await
}

/// The same for any routes.
pub(crate) async fn serve_router(
    listener: TcpListener,
    router: Router,
    config: &GatewayConfig,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(config.header_timeout).max_buf_size(BUFFER_MAX);
    let places = Arc::new(Semaphore::new(config.connections_max.max(1)));
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    tracing::info!(port = address.port(), "gateway listens");
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            _ended = connections.join_next(), if !connections.is_empty() => {}
            (stream, place) = next_connection(&listener, &places) => {
                let stream = TokioIo::new(Patient::new(stream, config.write_timeout));
                let connection = http.serve_connection(stream, service.clone());
                let mut stopping = stopping.clone();
                connections.spawn(async move {
                    tokio::pin!(connection);
                    let _place = place;
                    tokio::select! {
                        _ended = connection.as_mut() => return,
                        _stop = stopping.changed() => connection.as_mut().graceful_shutdown(),
                    }
                    let _ended = connection.await;
                });
            }
        }
    }
    drop(listener);
    let _nobody_left = stop.send(true);
    let drained =
        tokio::time::timeout(config.drain_timeout, async { while connections.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!(connections = connections.len(), "gateway cuts connections that did not end in time");
    }
    Ok(())
}

/// The next connection, when there is a place for it.
async fn next_connection(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    let place = places.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _only_slower_without = stream.set_nodelay(true);
                return (stream, place);
            }
            Err(error) => {
                tracing::warn!(kind = ?error.kind(), "gateway could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
