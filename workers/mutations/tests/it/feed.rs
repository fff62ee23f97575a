//! Feeds: numbers without a gap, pulled, acknowledged, removed.

use crate::{CLINIC, address, mutation};
use proptest::prelude::*;
use schemas::Key;
use schemas::messages::{FeedAck, Notify};
use zegel_core::Effects;
use zegel_core::names;
use zegel_core::slot::spaces;
use zegel_core::testing::Bench;
use zegel_mutations::{Feed, FeedAcked, FeedRow, NotificationRow, queries};

fn bench() -> (Bench<Feed>, Key) {
    let bench = Bench::new(Feed);
    let organisation = names::address_key(&bench.keys, &address(CLINIC));
    (bench, organisation)
}

fn notify(bench: &mut Bench<Feed>, organisation: Key, event: u64) {
    let notify = Notify { organisation: address(CLINIC), mutation: mutation(&event.to_string()), at: bench.now };
    bench.deliver(organisation, &notify);
}

/// Acknowledges, lets the feed go on until it is done, and gives the reply.
fn ack(bench: &mut Bench<Feed>, organisation: Key, up_to: u64) -> u64 {
    let mut effects: Effects = bench.deliver(organisation, &FeedAck { up_to });
    let reply: FeedAcked = serde_json::from_slice(effects.reply.as_ref().unwrap()).unwrap();
    while let Some(next) = effects.produced.pop() {
        effects = bench.deliver_envelope(next.envelope);
    }
    reply.acked
}

fn pull(bench: &mut Bench<Feed>, organisation: Key, after: u64) -> Vec<NotificationRow> {
    queries::notifications(&bench.read(&queries::pull(organisation, after, 1_000))).unwrap()
}

fn row(bench: &mut Bench<Feed>, organisation: Key) -> FeedRow {
    queries::row(&bench.read(&queries::feed(organisation))).unwrap().unwrap()
}

#[test]
fn notifications_are_numbered_from_one_in_the_order_of_arrival() {
    let (mut bench, organisation) = bench();
    (10..13).for_each(|event| notify(&mut bench, organisation, event));
    let pulled = pull(&mut bench, organisation, 0);
    assert_eq!(
        pulled.iter().map(|n| (n.sequence, n.mutation.event.as_str())).collect::<Vec<_>>(),
        [(1, "10"), (2, "11"), (3, "12")]
    );
}

#[test]
fn what_is_acknowledged_is_removed_and_numbers_go_on() {
    let (mut bench, organisation) = bench();
    (1..=5).for_each(|event| notify(&mut bench, organisation, event));
    assert_eq!(ack(&mut bench, organisation, 3), 3);
    assert_eq!(pull(&mut bench, organisation, 0).iter().map(|n| n.sequence).collect::<Vec<_>>(), [4, 5]);
    notify(&mut bench, organisation, 6);
    assert_eq!(pull(&mut bench, organisation, 5)[0].sequence, 6);
}

#[test]
fn an_acknowledgement_counts_for_what_exists_and_never_goes_back() {
    let (mut bench, organisation) = bench();
    assert_eq!(ack(&mut bench, organisation, 9), 0);
    (1..=2).for_each(|event| notify(&mut bench, organisation, event));
    assert_eq!(ack(&mut bench, organisation, u64::MAX), 2);
    assert_eq!(ack(&mut bench, organisation, 1), 2);
    notify(&mut bench, organisation, 3);
    assert_eq!(pull(&mut bench, organisation, 2)[0].sequence, 3, "what came later was not acknowledged");
}

#[test]
fn a_long_feed_is_removed_a_thousand_a_step() {
    let (mut bench, organisation) = bench();
    (0..2_500).for_each(|event| notify(&mut bench, organisation, event));
    let first = bench.deliver(organisation, &FeedAck { up_to: 2_400 });
    assert!(first.changes.len() <= 1_001);
    assert_eq!(row(&mut bench, organisation).acked, 2_400, "it counts at once");
    ack(&mut bench, organisation, 2_400);
    assert_eq!(bench.rows(spaces::NOTIFICATIONS), 100);
}

#[derive(Debug, Clone)]
enum Action {
    Notify,
    Ack(u64),
}

proptest! {
    #[test]
    fn a_feed_has_no_gap_whatever_is_acknowledged(
        actions in proptest::collection::vec(
            prop_oneof![3 => Just(Action::Notify), 1 => (0..40u64).prop_map(Action::Ack)],
            0..60,
        ),
        batch in 1..6usize,
    ) {
        let (bench, organisation) = bench();
        let mut bench = bench.with_batch(batch);
        let (mut last, mut acked) = (0, 0);
        for action in actions {
            match action {
                Action::Notify => {
                    last += 1;
                    notify(&mut bench, organisation, last);
                }
                Action::Ack(up_to) => {
                    acked = acked.max(up_to.min(last));
                    prop_assert_eq!(ack(&mut bench, organisation, up_to), acked);
                }
            }
        }
        let left: Vec<u64> = pull(&mut bench, organisation, 0).iter().map(|n| n.sequence).collect();
        prop_assert_eq!(left, (acked + 1..=last).collect::<Vec<_>>());
        if last > 0 {
            let row = row(&mut bench, organisation);
            prop_assert_eq!((row.next, row.acked), (last + 1, acked));
        }
    }
}
