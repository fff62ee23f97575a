//! One incident opens one alert and closes it, however many items it touches.

use proptest::prelude::*;
use schemas::messages::AlertChange;
use schemas::{MessageId, Millis};
use std::collections::BTreeSet;
use zegel_core::names;
use zegel_core::slot::spaces;
use zegel_core::testing::Bench;
use zegel_receipts::{AlertRow, Alerts, INCIDENT_OVERDUE, queries};

fn change(bench: &mut Bench<Alerts>, item: u8, raised: bool, at: i64) {
    let key = names::incident_key(&bench.keys, INCIDENT_OVERDUE);
    let change = AlertChange { incident: INCIDENT_OVERDUE.into(), item: MessageId([item; 16]), raised, at: Millis(at) };
    bench.deliver(key, &change);
}

fn row(bench: &mut Bench<Alerts>) -> Option<AlertRow> {
    let read = queries::alert(&bench.keys, INCIDENT_OVERDUE);
    queries::row(&bench.read(&read)).unwrap()
}

#[test]
fn many_late_items_are_one_alert_that_closes_with_the_last() {
    let mut bench = Bench::new(Alerts);
    (1..=5).for_each(|item| change(&mut bench, item, true, i64::from(item)));
    let open = row(&mut bench).unwrap();
    assert_eq!((open.open, open.count, open.opened_times, open.opened_at), (true, 5, 1, Millis(1)));
    (1..=5).for_each(|item| change(&mut bench, item, false, 10 + i64::from(item)));
    let closed = row(&mut bench).unwrap();
    assert_eq!((closed.open, closed.count, closed.closed_at), (false, 0, Some(Millis(15))));
    change(&mut bench, 6, true, 20);
    assert_eq!(row(&mut bench).map(|row| (row.opened_times, row.closed_at)), Some((2, None)));
}

#[test]
fn affected_items_are_listed_page_by_page() {
    let mut bench = Bench::new(Alerts);
    (1..=3).for_each(|item| change(&mut bench, item, true, 1));
    let first = queries::affected(&bench.keys, INCIDENT_OVERDUE, None, 2);
    let first = queries::alert_items(&bench.read(&first)).unwrap();
    assert_eq!(first, [MessageId([1; 16]), MessageId([2; 16])]);
    let rest = queries::affected(&bench.keys, INCIDENT_OVERDUE, first.last().copied(), 2);
    assert_eq!(queries::alert_items(&bench.read(&rest)).unwrap(), [MessageId([3; 16])]);
}

proptest! {
    #[test]
    fn repeated_and_unknown_changes_never_spoil_the_count(
        changes in proptest::collection::vec((0..6u8, any::<bool>()), 0..40),
        batch in 1..6usize,
    ) {
        let mut bench = Bench::new(Alerts).with_batch(batch);
        let (mut affected, mut alerts) = (BTreeSet::new(), 0);
        for (at, (item, raised)) in (1..).zip(changes) {
            change(&mut bench, item, raised, at);
            let before = affected.len();
            if raised { affected.insert(item) } else { affected.remove(&item) };
            alerts += u64::from(before == 0 && affected.len() == 1);
        }
        let row = row(&mut bench);
        prop_assert_eq!(row.as_ref().map_or(0, |row| row.count), affected.len() as u64);
        prop_assert_eq!(row.as_ref().map_or(0, |row| row.opened_times), alerts);
        prop_assert_eq!(row.is_some_and(|row| row.open), !affected.is_empty());
        prop_assert_eq!(bench.rows(spaces::ALERT_ITEMS), affected.len());
    }
}
