//! The Mermaid picture and the table for the terminal.

use crate::same;
use std::collections::BTreeSet;
use zegel_topology::{CHANNELS, render};

#[test]
fn the_picture_checked_in_is_the_one_of_the_table() {
    same("topology.mmd", &render::mermaid());
}

#[test]
fn every_arrow_of_the_picture_joins_two_declared_nodes_and_every_node_has_an_arrow() {
    let picture = render::mermaid();
    let (mut declared, mut joined) = (BTreeSet::new(), BTreeSet::new());
    for line in picture.lines().skip(1).map(str::trim) {
        if let Some((from, rest)) = line.split_once(' ').filter(|(node, _)| !node.contains('[') && !node.contains('('))
        {
            joined.insert(from);
            joined.insert(rest.rsplit(' ').next().unwrap());
        } else {
            let name = line.split(['[', '(']).next().unwrap();
            assert!(declared.insert(name), "{name} is declared twice");
        }
    }
    assert_eq!(declared, joined);
    assert!(declared.len() > 2 * CHANNELS.len());
}

#[test]
fn the_table_shows_every_channel_stage_and_type_in_aligned_columns() {
    let text = render::table();
    let (channels, types) = text.split_once("\n\n").expect("two tables");
    assert_eq!(channels.lines().count(), 1 + CHANNELS.len());
    assert_eq!(types.lines().count(), 1 + CHANNELS.iter().map(|channel| channel.types.len()).sum::<usize>());
    let second_column = channels.lines().next().unwrap().find("KEY").unwrap();
    for (line, channel) in channels.lines().skip(1).zip(CHANNELS) {
        assert!(line.starts_with(channel.name) && line[second_column..].starts_with(channel.key), "{line}");
        assert!(channel.groups.iter().all(|group| line.contains(group.name)), "{line}");
        assert!(line.chars().count() <= 132, "wider than a terminal: {line}");
    }
    assert!(CHANNELS.iter().flat_map(|channel| channel.types).all(|kind| types.contains(kind)));
}
