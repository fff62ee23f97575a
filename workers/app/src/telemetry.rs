//! Log lines on standard error, as text or JSON. Never a person's data: what is logged are stages, codes and counts (I4).

use crate::config::{Log, LogFormat};
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Libraries whose own lines are not ours to promise anything for, and whose errors our crates report in their own words: a
/// client of RabbitMQ calls every object that a plan finds missing an error.
const SILENT: [&str; 2] = ["lapin", "rdkafka"];

/// Begins to write log lines. A second call in the same process changes nothing.
pub fn start(log: &Log) {
    let level: Level = log.level.parse().unwrap_or(Level::INFO);
    // A line that cannot be written is lost and nothing more: reporting that on the same standard error would panic, and
    // a log on a full disk would end the threads that write to it.
    let lines = fmt::layer().with_writer(std::io::stderr).log_internal_errors(false).with_target(false);
    let targets = SILENT.iter().map(|library| (*library, LevelFilter::OFF));
    let wanted = tracing_subscriber::registry()
        .with(Targets::new().with_default(LevelFilter::from_level(level)).with_targets(targets));
    let _already_there = match log.format {
        LogFormat::Text => {
            wanted.with(lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))).try_init()
        }
        LogFormat::Json => wanted.with(lines.json().flatten_event(true)).try_init(),
    };
}
