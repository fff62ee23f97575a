//! Ctrl-C and SIGTERM: the wish to stop.

use crate::failed::Failed;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};

/// Completes at the first of them.
///
/// # Errors
/// When the system gives no signal handler.
pub async fn wait() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Becomes true at the first of them; for work on threads that looks at it now and then.
///
/// # Errors
/// When the system gives no thread.
pub fn flag() -> Result<Arc<AtomicBool>, Failed> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Err(error) = runtime.block_on(wait()) {
            tracing::warn!(%error, "signals cannot be heard");
            return;
        }
        told.store(true, Ordering::Relaxed);
    })?;
    Ok(stop)
}
