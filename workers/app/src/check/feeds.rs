//! I2: feeds are numbered without a gap, and an event stands once in a feed.

use super::Line;
use super::rows::Rows;
use crate::failed::Failed;
use schemas::Key;
use std::collections::{HashMap, HashSet};
use zegel_core::rows::decode;
use zegel_core::slot::spaces;
use zegel_mutations::{FeedRow, NotificationRow};

/// Most persons' numbers that are remembered for the search in files.
const IDENTIFIERS_MAX: usize = 10_000;

/// Checks every feed; also returns persons' numbers that the feeds hold, for the search in files (I4).
///
/// # Errors
/// When the database cannot be read.
pub fn check(rows: &Rows) -> Result<(Vec<Line>, Vec<String>), Failed> {
    let mut line = Line::new("I2", "notifications are numbered without a gap, each event once");
    let mut identifiers = HashSet::new();
    // First and last number of each feed, and the events of the feed that is being read.
    let mut numbers: HashMap<Key, (u64, u64)> = HashMap::new();
    let (mut reading, mut events) = (None, HashSet::new());
    rows.every(spaces::NOTIFICATIONS, |owner, _, value| {
        line.looked_at += 1;
        let Some(row) = value.and_then(|bytes| decode::<NotificationRow>(&bytes).ok()) else {
            line.fault(format!("a notification of feed {owner} cannot be read"));
            return Ok(());
        };
        if reading.replace(owner) != Some(owner) {
            events.clear();
        }
        if !events.insert((row.mutation.feed.clone(), row.mutation.event.clone())) {
            line.fault(format!("feed {owner} has an event twice, the second time as number {}", row.sequence));
        }
        let (_, last) = numbers.entry(owner).or_insert((row.sequence, row.sequence - 1));
        if row.sequence != *last + 1 {
            line.fault(format!("feed {owner} has a gap before number {}", row.sequence));
        }
        *last = row.sequence;
        if identifiers.len() < IDENTIFIERS_MAX {
            identifiers.insert(row.mutation.ssin);
        }
        Ok(())
    })?;
    rows.every(spaces::FEEDS, |owner, _, value| {
        let Some(feed) = value.and_then(|bytes| decode::<FeedRow>(&bytes).ok()) else {
            line.fault(format!("feed {owner} cannot be read"));
            return Ok(());
        };
        let next = numbers.get(&owner).map(|(_, last)| last + 1);
        let all_taken = feed.acked + 1 == feed.next;
        let agrees = next == Some(feed.next) || (next.is_none() && all_taken);
        let starts = numbers.get(&owner).is_none_or(|(first, _)| *first <= feed.acked + 1);
        if !agrees || !starts || feed.acked >= feed.next {
            line.fault(format!("feed {owner} does not hold every number that was not acknowledged"));
        }
        Ok(())
    })?;
    Ok((vec![line], identifiers.into_iter().collect()))
}
