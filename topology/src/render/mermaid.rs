//! The picture: edges → channels → stages → what comes of it, as a Mermaid flowchart.
//!
//! Node names carry a prefix per kind (`e_` edge, `c_` channel, `s_` stage, `r_` result), so that a stage and a channel
//! may share a name.

use crate::channels::Channel;
use std::collections::BTreeSet;

pub(super) fn of(channels: &[Channel]) -> String {
    let mut text = String::from("flowchart LR\n");
    let edges: BTreeSet<_> = channels.iter().flat_map(|channel| channel.edges).collect();
    for edge in edges {
        text.push_str(&format!("  {}([\"{edge}\"])\n", node("e", edge)));
    }
    for channel in channels {
        let name = channel.name;
        text.push_str(&format!("  {}[[\"{name}<br/>key: {}\"]]\n", node("c", name), channel.key));
    }
    let groups = || channels.iter().flat_map(|channel| channel.groups);
    for group in groups() {
        text.push_str(&format!("  {}[\"{}\"]\n", node("s", group.name), group.name));
    }
    let results: BTreeSet<_> = groups().flat_map(|group| group.leaves).collect();
    for result in results {
        text.push_str(&format!("  {}[(\"{result}\")]\n", node("r", result)));
    }
    for channel in channels {
        arrows(channel, &mut text);
    }
    text
}

fn arrows(channel: &Channel, text: &mut String) {
    let here = node("c", channel.name);
    for edge in channel.edges {
        text.push_str(&format!("  {} --> {here}\n", node("e", edge)));
    }
    for group in channel.groups {
        let stage = node("s", group.name);
        text.push_str(&format!("  {here} --> {stage}\n"));
        for target in group.produces {
            // What a stage sends to itself is a timer's message.
            let arrow = if *target == channel.name { "-. timer .->" } else { "-->" };
            text.push_str(&format!("  {stage} {arrow} {}\n", node("c", target)));
        }
        for result in group.leaves {
            text.push_str(&format!("  {stage} --> {}\n", node("r", result)));
        }
    }
}

fn node(prefix: &str, name: &str) -> String {
    let word = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    format!("{prefix}_{word}")
}
