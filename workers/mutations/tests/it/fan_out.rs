//! Who follows a person, on which days, and that an event is told once.

use crate::{CLINIC, FUND, SSIN, address, mutation};
use proptest::prelude::*;
use schemas::messages::{Inscription, Mutation, Notify};
use schemas::{Key, Millis};
use zegel_core::slot::spaces;
use zegel_core::testing::Bench;
use zegel_core::{Effects, Failure, Interrupt, names};
use zegel_mutations::{FanOut, InscriptionRow, queries};

/// 2027-01-15, the day of the bench.
const TODAY: &str = "2027-01-15";

fn bench() -> (Bench<FanOut>, Key) {
    let bench = Bench::new(FanOut);
    let person = names::ssin_key(&bench.keys, SSIN);
    (bench, person)
}

fn inscription(organisation: &str, from: &str, until: Option<&str>) -> Inscription {
    Inscription {
        organisation: address(organisation),
        ssin: SSIN.into(),
        from: from.into(),
        until: until.map(Into::into),
        withdraw: false,
    }
}

fn told(effects: &Effects) -> Vec<String> {
    let notified = effects.produced.iter().map(|produced| {
        assert_eq!(produced.channel.name, "mutations.notify");
        produced.envelope.payload::<Notify>().unwrap().organisation.to_string()
    });
    let mut told: Vec<String> = notified.collect();
    told.sort();
    told
}

#[test]
fn every_follower_is_told_under_its_own_key() {
    let (mut bench, person) = bench();
    bench.deliver(person, &inscription(CLINIC, "2020-01-01", None));
    bench.deliver(person, &inscription(FUND, "2020-01-01", Some("2030-12-31")));
    let effects = bench.deliver(person, &mutation("e1"));
    assert_eq!(told(&effects), [FUND, CLINIC]);
    for produced in &effects.produced {
        let notify: Notify = produced.envelope.payload().unwrap();
        assert_eq!(produced.envelope.partitionkey, names::address_key(&bench.keys, &notify.organisation));
        assert_eq!(notify.mutation, mutation("e1"));
    }
}

#[test]
fn an_event_is_told_once_but_its_id_counts_per_feed() {
    let (mut bench, person) = bench();
    bench.deliver(person, &inscription(CLINIC, "2020-01-01", None));
    assert_eq!(told(&bench.deliver(person, &mutation("e1"))), [CLINIC]);
    let again = bench.deliver(person, &mutation("e1"));
    assert!(again.produced.is_empty() && again.changes.is_empty());
    let other = Mutation { feed: "deaths".into(), ..mutation("e1") };
    assert_eq!(told(&bench.deliver(person, &other)), [CLINIC]);
    let glued = Mutation { feed: "registry\0e".into(), ..mutation("1") };
    assert_eq!(told(&bench.deliver(person, &glued)), [CLINIC]);
    assert_eq!(bench.rows(spaces::EVENTS), 3);
}

#[test]
fn neither_feed_nor_event_stands_in_the_place_of_a_row() {
    let (mut bench, person) = bench();
    let event = Mutation { feed: SSIN.into(), ..mutation(SSIN) };
    let effects = bench.deliver(person, &event);
    assert_eq!(effects.changes.len(), 1);
    let in_clear = |sub: &[u8]| sub.windows(SSIN.len()).any(|part| part == SSIN.as_bytes());
    assert!(effects.changes.iter().all(|change| !in_clear(&change.sub)));
}

#[test]
fn both_ends_of_a_period_belong_to_it() {
    let periods = [
        (TODAY, Some(TODAY), true),
        ("2027-01-16", None, false),
        ("2020-01-01", Some("2027-01-14"), false),
        ("2020-01-01", Some(TODAY), true),
    ];
    for (from, until, is_told) in periods {
        let (mut bench, person) = bench();
        bench.deliver(person, &inscription(CLINIC, from, until));
        assert_eq!(!bench.deliver(person, &mutation("e1")).produced.is_empty(), is_told, "{from} {until:?}");
    }
}

#[test]
fn the_day_changes_at_midnight_utc() {
    let (mut bench, person) = bench();
    bench.deliver(person, &inscription(CLINIC, "2027-01-16", None));
    let midnight = Millis(1_800_057_600_000);
    bench.now = midnight.plus(-1);
    assert_eq!(told(&bench.deliver(person, &mutation("e1"))), [""; 0]);
    bench.now = midnight;
    assert_eq!(told(&bench.deliver(person, &mutation("e2"))), [CLINIC]);
}

#[test]
fn a_changed_or_withdrawn_inscription_counts_from_then_on() {
    let (mut bench, person) = bench();
    let organisation = names::address_key(&bench.keys, &address(CLINIC));
    bench.deliver(person, &inscription(CLINIC, "2030-01-01", None));
    bench.deliver(person, &inscription(CLINIC, "2020-01-01", None));
    let row: InscriptionRow = queries::row(&bench.read(&queries::inscription(person, organisation))).unwrap().unwrap();
    assert_eq!(row.from, "2020-01-01");
    assert_eq!(bench.rows(spaces::INSCRIPTIONS), 1);
    let withdraw = Inscription { withdraw: true, ..inscription(CLINIC, "2020-01-01", None) };
    assert!(bench.deliver(person, &withdraw).reply.is_some());
    assert_eq!(told(&bench.deliver(person, &mutation("e1"))), [""; 0]);
}

#[test]
fn days_that_are_no_days_never_become_an_inscription() {
    let wrong = [("2027-02-29", None), ("2027-1-5", None), (TODAY, Some("2027-01-14")), (TODAY, Some("")), ("", None)];
    for (from, until) in wrong {
        let (mut bench, person) = bench();
        let envelope = bench.envelope(person, &inscription(CLINIC, from, until));
        assert_eq!(bench.decide(envelope).unwrap_err(), Interrupt::Fail(Failure::permanent("ZGL-IN-FIELD")));
    }
}

#[test]
fn more_followers_than_a_page_are_all_told() {
    let (mut bench, person) = bench();
    // Rows as if 2,500 organisations had registered: their keys are all that differs.
    let row = serde_json::to_vec(&serde_json::json!({ "v": 1, "organisation": CLINIC, "from": "2020-01-01" })).unwrap();
    bench.seed(spaces::INSCRIPTIONS, person, (0..2_500u32).map(|n| (n.to_be_bytes().to_vec(), row.clone())));
    assert_eq!(bench.deliver(person, &mutation("e1")).produced.len(), 2_500);
}

proptest! {
    #[test]
    fn exactly_those_who_follow_today_are_told(
        periods in proptest::collection::vec((-3..3i64, proptest::option::of(0..4i64), any::<bool>()), 1..20),
        batch in 1..6usize,
    ) {
        let (bench, person) = bench();
        let mut bench = bench.with_batch(batch);
        let day = |days: i64| format!("2027-01-{}", 15 + days);
        let mut follows = [false; 2];
        for (number, (start, length, withdraw)) in periods.into_iter().enumerate() {
            let organisation = [CLINIC, FUND][number % 2];
            let until = length.map(|length| day(start + length));
            let inscription =
                Inscription { withdraw, ..inscription(organisation, &day(start), until.as_deref()) };
            bench.deliver(person, &inscription);
            follows[number % 2] = !withdraw && start <= 0 && length.is_none_or(|length| start + length >= 0);
        }
        let effects = bench.deliver(person, &mutation("e1"));
        let expected: Vec<&str> = [(follows[1], FUND), (follows[0], CLINIC)].into_iter().filter(|f| f.0).map(|f| f.1).collect();
        prop_assert_eq!(told(&effects), expected);
    }
}
