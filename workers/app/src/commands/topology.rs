//! `zegel topology`. No platform is needed, and nothing is changed.

use crate::cli::TopologyFormat;
use crate::failed::Failed;
use crate::term::Report;
use serde_json::{Value, json};
use topology::{AfterDead, CHANNELS, Channel};

/// Prints every channel.
///
/// # Errors
/// None today; a picture that cannot be drawn would be one.
pub fn run(format: TopologyFormat) -> Result<Report, Failed> {
    let channels: Vec<Value> = CHANNELS.iter().map(describe).collect();
    Ok(match format {
        TopologyFormat::Table => Report::new(json!({ "channels": channels }), topology::render::table()),
        TopologyFormat::Mermaid => {
            let picture = topology::render::mermaid();
            Report::new(json!({ "mermaid": picture }), picture)
        }
        TopologyFormat::Asyncapi => {
            let text = topology::render::asyncapi();
            Report::new(serde_json::from_str(&text)?, text)
        }
    })
}

fn describe(channel: &Channel) -> Value {
    json!({
        "channel": channel.name,
        "key": channel.key,
        "partitions": channel.partitions,
        "groups": groups(channel),
        "types": channel.types,
        "retry_ms": channel.retry_ms,
        "endless": channel.endless,
        "after_dead": after_dead(channel),
        "idempotency_days": channel.idempotency_days,
        "high_water": channel.high_water,
        "what": channel.what,
    })
}

fn groups(channel: &Channel) -> Vec<&'static str> {
    channel.groups.iter().map(|group| group.name).collect()
}

fn after_dead(channel: &Channel) -> &'static str {
    match channel.after_dead {
        AfterDead::Continue => "continue",
        AfterDead::Hold => "hold",
    }
}
