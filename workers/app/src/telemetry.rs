//! Log lines on standard error, as text or JSON. Never a person's data: what is logged are stages, codes and counts (I4).

use crate::config::{Log, LogFormat};
use tracing::Level;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;

/// Begins to write log lines. A second call in the same process changes nothing.
pub fn start(log: &Log) {
    let level: Level = log.level.parse().unwrap_or(Level::INFO);
    // A line that cannot be written is lost and nothing more: reporting that on the same standard error would panic, and
    // a log on a full disk would end the threads that write to it.
    let lines = fmt()
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .with_max_level(LevelFilter::from_level(level))
        .with_target(false);
    let _already_there = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}
