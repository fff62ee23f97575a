//! Aligned columns for a terminal.

use crate::channels::{AfterDead, Channel};

/// Both tables, separated by an empty line.
pub(super) fn of(channels: &[Channel]) -> String {
    let head = ["CHANNEL", "KEY", "PARTITIONS", "READ BY", "RETRY", "AFTER DEAD", "KEYS KEPT", "HIGH WATER"];
    let rows = channels.iter().map(|channel| {
        [
            channel.name.to_owned(),
            channel.key.to_owned(),
            channel.partitions.to_string(),
            channel.groups.iter().map(|group| group.name).collect::<Vec<_>>().join(", "),
            retry(channel),
            after_dead(channel.after_dead).to_owned(),
            format!("{} days", channel.idempotency_days),
            channel.high_water.to_string(),
        ]
    });
    let types = channels.iter().flat_map(|channel| channel.types.iter().map(|kind| [kind, channel.name]));
    format!(
        "{}\n{}",
        aligned(std::iter::once(head.map(str::to_owned)).chain(rows).collect()),
        aligned(std::iter::once(["TYPE", "CHANNEL"]).chain(types).map(|row| row.map(str::to_owned)).collect())
    )
}

/// `continue` or `hold`.
pub(super) fn after_dead(what: AfterDead) -> &'static str {
    match what {
        AfterDead::Continue => "continue",
        AfterDead::Hold => "hold",
    }
}

/// Waiting times as people write them; an ellipsis when the last one repeats.
fn retry(channel: &Channel) -> String {
    let mut text = channel.retry_ms.iter().map(|ms| duration(*ms)).collect::<Vec<_>>().join(" ");
    if channel.endless {
        text.push_str(" …");
    }
    text
}

fn duration(ms: i64) -> String {
    match ms {
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

fn aligned<const N: usize>(rows: Vec<[String; N]>) -> String {
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}
