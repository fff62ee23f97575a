//! `zegel topology`. No platform is needed. Only `apply` changes anything, at the broker, and never what is there.

use super::Place;
use crate::cli::{Topology, TopologyAction, TopologyFormat};
use crate::declare::{Declared, Differences};
use crate::failed::Failed;
use crate::platform;
use crate::term::Report;
use serde_json::{Value, json};
use topology::{AfterDead, CHANNELS, Channel};

/// Prints every channel, or compares them with a broker.
///
/// # Errors
/// When the broker cannot be reached, or has what may not be changed.
pub fn run(place: &Place, wanted: &Topology) -> Result<Report, Failed> {
    match &wanted.action {
        None => print(wanted.format),
        Some(action) => platform::runtime()?.block_on(at_broker(place, action)),
    }
}

async fn at_broker(place: &Place, action: &TopologyAction) -> Result<Report, Failed> {
    let (TopologyAction::Plan(at) | TopologyAction::Apply(at) | TopologyAction::Verify(at)) = action;
    let config = place.config()?;
    let declared = Declared::open(at.broker.as_ref().unwrap_or(&config.broker), &config.installation).await?;
    let found = declared.plan().await?;
    match action {
        TopologyAction::Plan(_) => Ok(differences(&found, 0)),
        TopologyAction::Verify(_) => Ok(differences(&found, u8::from(!found.is_empty()))),
        TopologyAction::Apply(_) => {
            declared.apply().await?;
            let text = match found.missing.len() {
                0 => "nothing was missing".to_owned(),
                count => format!("{}\n{count} declared", found.missing.join("\n").replace(" is missing", "")),
            };
            Ok(Report::new(json!({ "declared": found.missing }), text))
        }
    }
}

fn differences(found: &Differences, status: u8) -> Report {
    let missing = found.missing.iter().map(|one| format!("+ {one}"));
    let wrong = found.wrong.iter().map(|one| format!("! {one}"));
    let mut lines: Vec<String> = wrong.chain(missing).collect();
    lines.push(match (found.wrong.len(), found.missing.len()) {
        (0, 0) => "the broker is as declared".to_owned(),
        (0, missing) => format!("{missing} missing: zegel topology apply declares them"),
        (wrong, missing) => {
            format!("{missing} missing, {wrong} different: what is different is for an operator to move")
        }
    });
    let json = json!({ "missing": found.missing, "wrong": found.wrong, "as_declared": found.is_empty() });
    Report { json, text: lines.join("\n"), status }
}

fn print(format: TopologyFormat) -> Result<Report, Failed> {
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
