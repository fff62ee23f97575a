//! Ends the process at a fail point, for the crash tests: only in programs built with the feature `failpoints`.
//!
//! `ZEGEL_CRASH_AT=runner::after-commit` aborts when that point has been passed [`PASSES`] times, as a power cut would:
//! no destructor runs, nothing is flushed. `ZEGEL_WAL_BYTES` makes the log small, so that its restart is reached.

use std::sync::atomic::{AtomicU32, Ordering};

/// Passes that are let through, so that the process dies under load and not while it starts; `ZEGEL_CRASH_PASSES` says
/// another number.
const PASSES: u32 = 2;

/// Arms what the environment asks for.
pub fn arm() {
    let Ok(point) = std::env::var("ZEGEL_CRASH_AT") else { return };
    let passes = std::env::var("ZEGEL_CRASH_PASSES").ok().and_then(|passes| passes.parse().ok()).unwrap_or(PASSES);
    let passed = AtomicU32::new(0);
    let armed = fail::cfg_callback(point, move || {
        if passed.fetch_add(1, Ordering::SeqCst) >= passes {
            std::process::abort();
        }
    });
    if armed.is_err() {
        tracing::error!("ZEGEL_CRASH_AT is not understood");
    }
}

/// The log's size at which it is begun again, when the environment says one.
pub fn wal_bytes() -> Option<u64> {
    std::env::var("ZEGEL_WAL_BYTES").ok().and_then(|bytes| bytes.parse().ok())
}
