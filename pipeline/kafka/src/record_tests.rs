//! A parcel comes back as it went, and nothing that is not one becomes one.
#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;
use rdkafka::Timestamp;
use rdkafka::message::OwnedMessage;

const NUMBERED: Lane = Lane { channel: 1, partition: 0, intake: false };
const INTAKE: Lane = Lane { intake: true, ..NUMBERED };

fn record(key: Option<Vec<u8>>, body: Option<Vec<u8>>, headers: Option<OwnedHeaders>) -> OwnedMessage {
    OwnedMessage::new(body, key, "t".to_owned(), Timestamp::NotAvailable, 0, 0, headers)
}

fn without(headers: &OwnedHeaders, left_out: &str) -> OwnedHeaders {
    headers.iter().filter(|header| header.key != left_out).fold(OwnedHeaders::new(), OwnedHeaders::insert)
}

fn any_parcel() -> impl Strategy<Value = Parcel> {
    let mark = prop_oneof![
        any::<u64>().prop_map(Mark::Number),
        (any::<[u8; 16]>(), any::<u64>()).prop_map(|(session, sequence)| Mark::Edge { session, sequence }),
    ];
    (mark, any::<[u8; 16]>(), any::<[u8; 16]>(), any::<Vec<u8>>()).prop_map(|(mark, key, id, body)| Parcel {
        mark,
        key: Key(key),
        id: MessageId(id),
        body: Sealed::from_stored(Bytes::from(body)),
    })
}

proptest! {
    #[test]
    fn a_parcel_comes_back_as_it_went(sent in any_parcel()) {
        let lane = if matches!(sent.mark, Mark::Edge { .. }) { INTAKE } else { NUMBERED };
        let headers = headers("mailbox.submitted", &sent);
        let record = record(Some(sent.key.0.to_vec()), Some(sent.body.bytes().to_vec()), Some(headers));
        prop_assert_eq!(parcel(lane, &record), Ok(sent.clone()));
        let other = if lane.intake { NUMBERED } else { INTAKE };
        prop_assert!(parcel(other, &record).is_err(), "a parcel of another lane was taken");
    }

    #[test]
    fn a_record_that_lacks_or_alters_anything_is_a_strangers(sent in any_parcel(), junk in ".{0,40}") {
        let lane = if matches!(sent.mark, Mark::Edge { .. }) { INTAKE } else { NUMBERED };
        let whole = headers("mailbox.submitted", &sent);
        let of = |headers| record(Some(sent.key.0.to_vec()), Some(vec![1]), headers);
        prop_assert!(parcel(lane, &of(None)).is_err());
        prop_assert!(parcel(lane, &record(Some(vec![0; 15]), None, Some(whole.clone()))).is_err());
        prop_assert!(parcel(lane, &record(None, None, Some(whole.clone()))).is_err());
        for name in [SPECVERSION, ID, TYPE, NUMBER, SESSION, SEQUENCE] {
            let less = without(&whole, name);
            if less.count() == whole.count() {
                continue;
            }
            let altered = without(&whole, name).insert(Header { key: name, value: Some(&junk) });
            prop_assert!(parcel(lane, &of(Some(less))).is_err(), "a record without {} was taken", name);
            if !matches!((name, decimal(junk.as_bytes())), (NUMBER | SEQUENCE, Some(_))) {
                prop_assert!(parcel(lane, &of(Some(altered))).is_err(), "a record with another {} was taken", name);
            }
        }
    }
}
