//! Sealing: archive, box and chain, large bags, an authority that is away, and messages that come twice.

use crate::stage::{HOSPITAL, MINUTE, Moody, Stage, TEN, authority, entry};
use schemas::messages::{BagClosed, Content, Entry, From};
use schemas::{Millis, Sha256};
use std::sync::Arc;
use zegel_core::slot::spaces;
use zegel_core::worker::JobError;
use zegel_crypto::bag::Header;
use zegel_crypto::hash::sha256;
use zegel_timestamp::sealer::DELETE_MAX;
use zegel_timestamp::{Schedule, Windows, queries};

fn five_minutes() -> Windows {
    Windows::new(Schedule::Every(5 * MINUTE))
}

#[test]
fn the_archive_and_the_box_get_the_same_bytes_in_content_of_their_own() {
    let mut stage = Stage::usual();
    stage.offer(&[entry(1, 1), entry(2, 2)]);
    stage.now = TEN.plus(5 * MINUTE);
    stage.tick();
    stage.seal_all();
    let [bag] = stage.bags().try_into().unwrap();
    let deliver = &stage.delivered[0];
    assert_eq!((deliver.from.clone(), deliver.recipient.to_string()), (From::Platform, HOSPITAL.to_owned()));
    let [xml, tsr] = deliver.parts.as_slice() else { panic!("two parts") };
    assert_eq!((xml.file_name.as_str(), tsr.file_name.as_str()), ("1.xml", "1.tsr"));
    assert_ne!(xml.content, bag.xml);
    let (ours, theirs) = (stage.content(&bag.xml), stage.content(&xml.content));
    assert_eq!(ours, theirs);
    assert_eq!((sha256(&ours), ours.len() as u64), (xml.digest, xml.size));
    let token = stage.query(&queries::token(stage.key, 1)).unwrap();
    assert_eq!(stage.content(&tsr.content), token);
    assert_eq!((sha256(&token), token.len() as u64), (tsr.digest, tsr.size));
    assert!(deliver.meta.values().all(|value| value.len() <= 250), "metadata of a box has 250 characters at most");
    let header = Header::decode(&bag.header).unwrap();
    assert_eq!((header.start, header.end, header.count, header.previous), (TEN, TEN.plus(5 * MINUTE), 2, None));
}

#[test]
fn a_bag_over_64_kib_goes_into_two_objects_with_flat_steps() {
    let mut stage = Stage::new(five_minutes(), authority().0.clone());
    // One entry a request makes more chunk rows than one step deletes.
    let single = u64::from(DELETE_MAX) + 500;
    for reference in 1..=single {
        stage.offer(&[entry(reference, 1)]);
    }
    let many: Vec<Entry> = (single + 1..=single + 1_000).map(|reference| entry(reference, 3)).collect();
    stage.offer(&many);
    stage.now = TEN.plus(5 * MINUTE);
    stage.tick();
    assert!(stage.seal_next().unwrap());
    assert_eq!(stage.bags()[0].chunks_left, 501);
    assert_eq!(stage.sealed.len(), 1, "the rest is deleted by another message");
    stage.seal_all();
    assert_eq!((stage.rows_of(spaces::ENTRIES), stage.bags()[0].chunks_left), (0, 0));
    assert!(stage.most_changes <= DELETE_MAX as usize + 10);
    let (reports, entries) = stage.audit();
    assert_eq!((reports[0].findings.len(), entries[0].len() as u64), (0, single + 1_000));
    let bag = &stage.bags()[0];
    let theirs = &stage.delivered[0].parts[0].content;
    assert!(matches!((&bag.xml, theirs), (Content::Object(a), Content::Object(b)) if a.name != b.name));
    assert_eq!(stage.content(&bag.xml), stage.content(theirs));
    assert_eq!(stage.delivered.len(), 1);
}

#[test]
fn while_the_authority_is_away_bags_wait_in_order_and_intake_goes_on() {
    let moody = Arc::new(Moody::default());
    *moody.away.lock().unwrap() = true;
    let mut stage = Stage::new(five_minutes(), moody.clone());
    for window in 0..3 {
        stage.now = TEN.plus(window * 5 * MINUTE);
        stage.offer(&[entry(u64::try_from(window).unwrap() + 1, 1)]);
        let waits = stage.seal_next();
        assert!(matches!(waits, Ok(false) | Err(JobError { retryable: true, .. })), "{waits:?}");
    }
    assert_eq!((stage.sealed.len(), stage.bags().len()), (2, 0));
    *moody.away.lock().unwrap() = false;
    stage.seal_all();
    let late: Vec<bool> = stage.bags().iter().map(|bag| bag.late).collect();
    assert_eq!(late, [false, false]);
    stage.now = TEN.plus(15 * MINUTE);
    stage.tick();
    stage.now = TEN.plus(30 * MINUTE);
    stage.seal_all();
    assert!(stage.bags()[2].late);
}

#[test]
fn a_token_from_before_the_bags_end_is_not_taken() {
    let moody = Arc::new(Moody::default());
    *moody.gen_time.lock().unwrap() = Some(TEN.plus(5 * MINUTE - 1));
    let mut stage = Stage::new(five_minutes(), moody);
    stage.offer(&[entry(1, 1)]);
    stage.now = TEN.plus(5 * MINUTE);
    stage.tick();
    assert!(stage.seal_next().is_err_and(|error| error.retryable));
}

#[test]
fn gen_time_never_goes_back_when_the_clock_does() {
    let moody = Arc::new(Moody::default());
    let mut stage = Stage::new(five_minutes(), moody);
    stage.offer(&[entry(1, 1)]);
    stage.now = TEN.plus(60 * MINUTE);
    stage.tick();
    stage.seal_all();
    stage.now = TEN;
    stage.offer(&[entry(2, 1)]);
    stage.now = TEN.plus(65 * MINUTE);
    stage.tick();
    stage.now = TEN;
    stage.seal_all();
    let stamped: Vec<Millis> = stage.bags().iter().map(|bag| bag.stamped).collect();
    assert_eq!(stamped, [TEN.plus(60 * MINUTE); 2]);
}

#[test]
fn a_bag_that_comes_twice_is_sealed_and_delivered_once() {
    let mut stage = Stage::usual();
    stage.offer(&[entry(1, 1)]);
    stage.now = TEN.plus(5 * MINUTE);
    stage.tick();
    let again = stage.sealed[0].clone();
    stage.seal_all();
    let before = stage.state.clone();
    stage.sealed.push_back(again);
    stage.seal_all();
    assert_eq!((stage.state == before, stage.delivered.len()), (true, 1));
}

#[test]
fn a_bag_that_does_not_continue_the_chain_stops_for_good() {
    let bag = |sequence, start: Millis, count| BagClosed {
        hospital: HOSPITAL.parse().unwrap(),
        sequence,
        start,
        end: start.plus(MINUTE),
        count,
        salted: false,
    };
    let mut stage = Stage::new(five_minutes(), Arc::new(Moody::default()));
    for broken in [bag(2, TEN, 0), bag(0, TEN, 0), bag(1, TEN, 1)] {
        stage.sealed = [stage.envelope(&broken)].into();
        let stopped = stage.seal_next().unwrap_err();
        assert_eq!((stopped.code.as_str(), stopped.retryable), ("ZGL-TS-CHAIN", false));
    }
    stage.sealed = [stage.envelope(&bag(1, TEN, 0)), stage.envelope(&bag(2, TEN.plus(MINUTE + 1), 0))].into();
    assert!(stage.seal_next().unwrap());
    assert_eq!(stage.seal_next().unwrap_err().code, "ZGL-TS-CHAIN");
    assert_eq!(stage.bags()[0].previous, Sha256::default());
    assert_eq!(stage.rows_of(spaces::ARCHIVE), 3);
}
