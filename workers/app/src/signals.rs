//! Ctrl-C and SIGTERM: the wish to stop.

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
