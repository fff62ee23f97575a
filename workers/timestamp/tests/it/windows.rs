//! I6 under any interleaving of entries, ticks, outages and clock steps: one bag for each hash, no gap, an unbroken chain.

use crate::stage::{Moody, Stage, TEN, authority, entry};
use proptest::prelude::*;
use schemas::Sha256;
use schemas::messages::EntryAnswer;
use std::collections::BTreeMap;
use std::sync::Arc;
use zegel_core::slot::spaces;
use zegel_timestamp::windows::MERGE_MS;
use zegel_timestamp::{Schedule, Stamper, Windows};

#[derive(Debug, Clone)]
enum Event {
    /// Entries: reference and which of two hashes.
    Offer(Vec<(u64, u8)>),
    /// Time passes, and the timer fires if it is due.
    Pass(i64),
    /// Time passes while the process is down: no tick.
    Outage(i64),
    /// The clock steps back.
    Back(i64),
    /// The authority takes one bag.
    Seal,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => prop::collection::vec((0u64..60, 0u8..2), 1..8).prop_map(Event::Offer),
        4 => (0i64..400_000).prop_map(Event::Pass),
        1 => (0i64..4 * 3_600_000).prop_map(Event::Outage),
        1 => (0i64..5_000).prop_map(Event::Back),
        2 => Just(Event::Seal),
    ];
    prop::collection::vec(event, 1..60)
}

/// Plays the events and returns what was answered: reference -> (hash, first answer).
fn play(stage: &mut Stage, events: &[Event]) -> BTreeMap<u64, (Sha256, EntryAnswer)> {
    let mut model: BTreeMap<u64, (Sha256, EntryAnswer)> = BTreeMap::new();
    stage.enrol();
    for event in events {
        match event {
            Event::Offer(pairs) => {
                let entries: Vec<_> = pairs.iter().map(|(reference, content)| entry(*reference, *content)).collect();
                let answers = stage.offer(&entries);
                for (entry, answer) in entries.iter().zip(answers) {
                    match (&answer, model.get(&entry.reference)) {
                        (EntryAnswer::Invalid, _) => assert_eq!(entry.reference, 0),
                        (EntryAnswer::Conflict, first) => assert_ne!(first.expect("a first one").0, entry.hash),
                        (_, Some((hash, first))) => assert_eq!((hash, first), (&entry.hash, &answer)),
                        (_, None) => drop(model.insert(entry.reference, (entry.hash, answer))),
                    }
                }
            }
            Event::Pass(ms) => {
                stage.now = stage.now.plus(*ms);
                stage.tick();
            }
            Event::Outage(ms) => stage.now = stage.now.plus(*ms),
            Event::Back(ms) => stage.now = stage.now.plus(-ms),
            Event::Seal => drop(stage.seal_next().unwrap()),
        }
    }
    model
}

/// Everything that I6 says, from the archive alone.
fn check(stage: &Stage, windows: &Windows, model: &BTreeMap<u64, (Sha256, EntryAnswer)>) {
    let bags = stage.bags();
    let mut expected_start = TEN;
    for (bag, sequence) in bags.iter().zip(1..) {
        assert_eq!((bag.sequence, bag.start), (sequence, expected_start));
        expected_start = bag.end;
        if bag.count > 0 {
            assert!(bag.end <= windows.schedule.next_boundary(bag.start), "a bag with entries spans one window");
        } else {
            assert!(bag.end.since(bag.start) <= MERGE_MS, "an empty bag spans at most an hour");
        }
    }
    let (reports, entries) = stage.audit();
    let mut found = BTreeMap::new();
    for ((bag, report), entries) in bags.iter().zip(reports).zip(entries) {
        assert_eq!(report.findings, [], "bag {}", bag.sequence);
        for (reference, hash) in entries {
            assert!(found.insert(reference, (hash, bag)).is_none(), "in two bags");
        }
    }
    assert_eq!(found.len(), model.len());
    for (reference, (hash, answer)) in model {
        let (stored, bag) = found[reference];
        let EntryAnswer::Accepted { accepted, earliest_bag } = answer else { panic!("not accepted") };
        assert_eq!((stored, bag.sequence), (*hash, *earliest_bag));
        assert!(bag.start <= *accepted && *accepted < bag.end && bag.stamped >= *accepted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_accepted_hash_is_in_exactly_one_bag_of_an_unbroken_chain(events in events(), small: bool, seconds: bool) {
        let schedule = if seconds { Schedule::Every(90_000) } else { Schedule::cron("0 */5 * * * *").unwrap() };
        let bag_max = if small { 5 } else { 1_000_000 };
        let windows = Windows { bag_max, ..Windows::new(schedule) };
        let mut stage = Stage::new(windows.clone(), authority().0.clone());
        let model = play(&mut stage, &events);
        // Past the end of every window, however far the clock stood back.
        for _ in 0..3 {
            stage.now = stage.now.plus(MERGE_MS);
            stage.tick();
        }
        stage.seal_all();
        check(&stage, &windows, &model);
        prop_assert_eq!(stage.rows_of(spaces::ENTRIES), 0);
    }
}

#[test]
fn a_missed_tick_is_caught_up_once_and_with_the_same_bags_as_a_late_one() {
    let moody: Arc<dyn Stamper> = Arc::new(Moody::default());
    let run = |late: bool| {
        let mut stage = Stage::new(Windows::new(Schedule::Every(300_000)), moody.clone());
        stage.offer(&[entry(1, 1)]);
        stage.now = TEN.plus(2 * MERGE_MS);
        if late {
            stage.tick();
            stage.tick();
        }
        stage.offer(&[entry(2, 1)]);
        stage.seal_all();
        stage.bags().iter().map(|bag| (bag.start, bag.end, bag.count)).collect::<Vec<_>>()
    };
    assert_eq!(run(true), run(false));
    assert_eq!(run(true).iter().map(|bag| bag.2).collect::<Vec<_>>(), [1, 0, 0]);
}
