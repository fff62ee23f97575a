//! What comes back, through the worker: handles, row numbers, the return policy.

use crate::world::{BATCH, DAY_MS, FIELDS, OTHER, RECIPIENT, TERMS, TTP_ADDRESS, World, enriched, id_of, restored};
use crate::{SENDER, sender};
use bytes::Bytes;
use schemas::MessageId;
use schemas::messages::{Answer, Answered, Content, Deliver, From, Inbound};
use std::io::Read;
use zegel_core::Objects;
use zegel_core::slot::spaces::EXCHANGES;

#[test]
fn what_comes_back_reaches_the_sender_in_clear_and_the_recipient_hears_the_ttp_alone() {
    let mut world = World::new(TERMS);
    let one = world.exchange(BATCH);
    assert_eq!(one.deliver.recipient, RECIPIENT.parse().unwrap());
    assert_eq!((one.deliver.meta["project"].as_str(), one.deliver.meta.len()), ("lab-registry", 2));
    assert!(one.text.starts_with("niss,value,zegel_row\nP1."), "{}", one.text);
    assert_eq!(one.text.len(), 1_024, "the size is a bucket");
    let effects = world.back(one.handle, &enriched(&one.text));
    assert_eq!(world.codes(&effects), Vec::<String>::new());
    let (deliver, mut rows) = restored(&effects);
    assert_eq!((deliver.recipient.clone(), deliver.from, deliver.answers), (sender(), From::Platform, None));
    assert_eq!(deliver.meta["returns"], id_of(1).to_string());
    assert_eq!(rows.remove(0), "niss,value,score");
    rows.sort();
    let heads: Vec<&str> = rows.iter().map(|row| row.rsplit_once(',').unwrap().0).collect();
    assert_eq!(heads, ["85061511796,7", "85061511895,8", "85061511994,9"]);
    // One answer, positive, of the TTP; the delivery owes none, so whatever becomes of it is never told.
    assert_eq!(effects.produced.len(), 2);
    let answered: Answered = effects.produced[1].envelope.payload().unwrap();
    assert_eq!((answered.submission, answered.recipient), (id_of(2), TTP_ADDRESS.parse().unwrap()));
    assert_eq!(answered.answer, Answer::Done);
    assert_eq!((effects.produced[0].envelope.deadline, effects.produced[0].envelope.traceparent), (None, None));
    assert_eq!(deliver.receipts, schemas::messages::ReceiptsWanted::default());
}

#[test]
fn whatever_was_not_delivered_in_this_exchange_is_refused_whole_and_uses_nothing_up() {
    let mut world = World::new(TERMS);
    let (one, two) = (world.exchange(BATCH), world.exchange(BATCH));
    let lines: Vec<&str> = one.text.lines().filter(|line| !line.is_empty()).collect();
    let others: Vec<&str> = two.text.lines().filter(|line| !line.is_empty()).collect();
    let parts = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
    let (a, b) = (parts(lines[1]), parts(lines[2]));
    let batch = |rows: &[String]| format!("niss,value,zegel_row\n{}\n", rows.join("\n"));
    let swapped = [format!("{},{},{}", b[0], a[1], a[2]), format!("{},{},{}", a[0], b[1], b[2])];
    let strange = World::with_root(TERMS, FIELDS, [9; 32]).exchange(BATCH).text;
    for (rows, code) in [
        (batch(&swapped), "ZGL-ROW-FOREIGN"),
        (batch(&[lines[1].to_owned(), lines[1].to_owned()]), "ZGL-ROW-TWICE"),
        (batch(&[others[1].to_owned()]), "ZGL-ROW-FOREIGN"),
        (strange, "ZGL-ROW-TOKEN"),
        (batch(&[format!("{},{},", a[0], a[1])]), "ZGL-ROW-UNNUMBERED"),
        (batch(&[format!("canary,{},{}", a[1], a[2])]), "ZGL-ROW-"),
        (batch(&[format!(",{},{}", a[1], a[2])]), "ZGL-ROW-FOREIGN"),
        (batch(&[lines[1].replace("P1.1-", "P1.2-")]), "ZGL-ROW-"),
        // One bad row among good ones: nothing is forwarded.
        (batch(&[lines[1].to_owned(), others[2].to_owned()]), "ZGL-ROW-FOREIGN"),
    ] {
        let found = world.refused(one.handle, &rows);
        assert!(found.starts_with(&format!("ZGL-TTP-ROWS {code}")), "{found} for {rows}");
    }
    for (rows, code) in [
        (one.text.replacen("zegel_row", "number", 1), "ZGL-TTP-UNLISTED"),
        (format!("niss,value\n{},{}\n", a[0], a[1]), "ZGL-TTP-MISSING"),
        (enriched(&one.text).replacen("score", "canary", 1), "ZGL-TTP-UNLISTED"),
        (enriched(&one.text).replacen("score", "name", 1), "ZGL-TTP-UNLISTED"),
        (String::new(), "ZGL-TTP-EMPTY"),
        ("niss,value,zegel_row\n".to_owned(), "ZGL-TTP-EMPTY"),
        ("{\"niss\":1}\n".to_owned(), "ZGL-TTP-ROWS ZGL-ROW-"),
    ] {
        assert!(world.refused(one.handle, &rows).starts_with(code), "{code} for {rows}");
    }
    // The handle is as good as before, for rows in any order, some of them left out.
    let effects = world.back(one.handle, &batch(&[lines[3].to_owned(), lines[1].to_owned()]));
    assert_eq!(restored(&effects).1.len(), 3);
}

#[test]
fn a_handle_is_for_its_recipient_and_serves_once_until_it_expires() {
    let mut world = World::new(TERMS);
    let (one, late) = (world.exchange(BATCH), world.exchange(BATCH));
    assert_eq!(world.refused(MessageId([5; 16]), &one.text), "ZGL-RETURN-HANDLE");
    for from in [SENDER, OTHER] {
        let effects = world.give(from, &one.text, Some(one.handle));
        assert_eq!(world.nothing_but_a_refusal(&effects), "ZGL-RETURN-RECIPIENT");
    }
    let accepted = world.back(one.handle, &one.text);
    assert_eq!(accepted.produced.len(), 2);
    assert_eq!(world.refused(one.handle, &one.text), "ZGL-RETURN-USED", "a replay");
    world.bench.now = world.bench.now.plus(10 * DAY_MS);
    assert_eq!(world.refused(late.handle, &late.text), "ZGL-RETURN-EXPIRED");
    let mut one_way = World::new("");
    let sent = one_way.exchange(BATCH);
    assert!(sent.deliver.meta.is_empty() && !sent.text.contains("zegel_row"), "nothing of the way back is said");
    assert_eq!(one_way.refused(sent.handle, &sent.text), "ZGL-RETURN-DIRECTION");
}

#[test]
fn a_large_return_goes_from_object_to_object_and_a_refused_one_leaves_nothing() {
    let mut world = World::new(TERMS);
    let rows: String = (0..3_000).map(|row| format!("85061511796,canary,{row}\n")).collect();
    let one = world.exchange(&format!("niss,name,value\n{rows}"));
    assert!(matches!(one.deliver.parts[0].content, Content::Object(_)) && !one.text.contains("canary"));
    let good = enriched(&one.text);
    let effects = world.back_large(one.handle, &good.replacen("P1.1-", "P1.2-", 1));
    assert_eq!(world.nothing_but_a_refusal(&effects), "ZGL-TTP-ROWS ZGL-ROW-TOKEN");
    assert_eq!(world.objects.list().unwrap().len(), 2, "what was delivered and what came back, nothing restored");
    let effects = world.back_large(one.handle, &good);
    assert_eq!(world.codes(&effects), Vec::<String>::new());
    let deliver: Deliver = effects.produced[0].envelope.payload().unwrap();
    let Content::Object(object) = &deliver.parts[0].content else { panic!("an object") };
    let mut text = String::new();
    world.objects.open(object).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!((text.lines().count(), text.matches("\n85061511796,").count()), (3_001, 3_000));
    assert_eq!(world.refused(one.handle, &good), "ZGL-RETURN-USED");
}

#[test]
fn exchanges_are_forgotten_when_they_are_long_over_and_none_before() {
    let mut world = World::new(TERMS);
    let one = world.exchange(BATCH);
    let begin = world.bench.now;
    world.bench.now = begin.plus(DAY_MS);
    let two = world.exchange(BATCH);
    assert_eq!((world.bench.rows(EXCHANGES), world.bench.timers.len()), (4, 1));
    world.bench.fire(world.key, "tidy");
    assert_eq!(world.bench.now, begin.plus(40 * DAY_MS), "ten days to come back, thirty to be told that it is late");
    assert_eq!(world.refused(one.handle, &one.text), "ZGL-RETURN-HANDLE");
    assert_eq!(world.refused(two.handle, &two.text), "ZGL-RETURN-EXPIRED");
    world.bench.fire(world.key, "tidy");
    assert_eq!((world.bench.rows(EXCHANGES), world.bench.timers.contains_key(&(world.key, "tidy"))), (0, false));
}

#[test]
fn nothing_in_the_store_can_be_used_as_a_handle_or_names_a_patient() {
    let mut world = World::new(TERMS);
    let one = world.exchange(BATCH);
    let rows = world.bench.read(&zegel_core::Read::Range {
        space: EXCHANGES,
        owner: world.key,
        from: Bytes::new(),
        to: None,
        limit: 100,
        reverse: false,
    });
    assert_eq!(rows.len(), 2);
    for (sub, value) in rows {
        assert!(!sub.windows(16).any(|window| window == one.handle.0));
        assert!(!String::from_utf8_lossy(&value).contains("85061511"));
    }
}

#[test]
fn a_refused_return_stands_still_and_is_judged_anew_as_a_return() {
    let mut world = World::new(TERMS);
    let one = world.exchange(BATCH);
    let odd = enriched(&one.text).replacen("score", "canary", 1);
    assert_eq!(world.refused(one.handle, &odd), "ZGL-TTP-UNLISTED");
    let held = world.quarantine();
    assert_eq!((held.len(), held[0].kept, held[0].handle), (1, true, Some(one.handle)));
    assert_eq!(
        (held[0].sender.clone(), held[0].reason.code.as_str()),
        (RECIPIENT.parse().unwrap(), "ZGL-TTP-UNLISTED")
    );
    // Whoever has no part in it, or no handle, leaves nothing.
    let effects = world.give(OTHER, &odd, Some(one.handle));
    assert_eq!(world.nothing_but_a_refusal(&effects), "ZGL-RETURN-RECIPIENT");
    world.refused(MessageId([5; 16]), &odd);
    assert_eq!(world.quarantine().iter().map(|row| row.kept).collect::<Vec<_>>(), [true, false, false]);
    let again = world.release(1);
    let inbound: Inbound = again.payload().unwrap();
    assert_eq!((inbound.handle, &again.attachment[..]), (Some(one.handle), odd.as_bytes()));
    let effects = world.bench.deliver_envelope(again);
    assert_eq!(world.nothing_but_a_refusal(&effects), "ZGL-TTP-UNLISTED", "a release is no way around a check");
    assert_eq!(world.back(one.handle, &enriched(&one.text)).produced.len(), 2, "the handle is as good as before");
}
