//! A parcel as an AMQP message, and back.
//!
//! Format, version 1: the body is the sealed envelope; persistent; `content_type` says so, `message_id` is the id in
//! hexadecimal, and the headers are `zegel-key` (hexadecimal) and either `zegel-number`, or `zegel-session` (hexadecimal)
//! and `zegel-sequence`. The attributes of CloudEvents are inside the seal: an event's subject or source would tell the
//! broker whom it is about, so the binary mode of the CloudEvents binding is not used.
//! Failure behaviour: what does not parse is [`Foreign`], with a fixed word that says why.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable};
use schemas::{Key, MessageId};
use zegel_core::Sealed;
use zegel_core::transport::{Mark, Parcel};

/// Says what the body is and in which version of this format.
const CONTENT_TYPE: &str = "application/vnd.zegel.sealed; version=1";
/// AMQP's code for "write it to disk".
const PERSISTENT: u8 = 2;

const KEY: &str = "zegel-key";
const NUMBER: &str = "zegel-number";
const SESSION: &str = "zegel-session";
const SEQUENCE: &str = "zegel-sequence";

/// A message that none of us sent, or not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Foreign(pub(crate) &'static str);

/// The properties of a parcel; `None` if a number is larger than AMQP's integers, 2^63.
pub(crate) fn properties(parcel: &Parcel) -> Option<BasicProperties> {
    let mut headers = FieldTable::default();
    headers.insert(KEY.into(), text(&parcel.key.0));
    match parcel.mark {
        Mark::Number(number) => {
            headers.insert(NUMBER.into(), integer(number)?);
        }
        Mark::Edge { session, sequence } => {
            headers.insert(SESSION.into(), text(&session));
            headers.insert(SEQUENCE.into(), integer(sequence)?);
        }
    }
    let properties = BasicProperties::default().with_delivery_mode(PERSISTENT).with_content_type(CONTENT_TYPE.into());
    Some(properties.with_message_id(hex::encode(parcel.id.0).into()).with_headers(headers))
}

fn text(bytes: &[u8; 16]) -> AMQPValue {
    AMQPValue::LongString(hex::encode(bytes).into())
}

fn integer(number: u64) -> Option<AMQPValue> {
    i64::try_from(number).ok().map(AMQPValue::LongLongInt)
}

/// Identity and mark of a message, which is how a returned one is recognised.
pub(crate) fn marked(properties: &BasicProperties) -> Result<(Key, MessageId, Mark), Foreign> {
    let headers = properties.headers().as_ref().ok_or(Foreign("no headers"))?;
    let key = bytes16(headers, KEY)?;
    let id = properties.message_id().as_ref().ok_or(Foreign("no message id"))?;
    let id: MessageId = id.as_str().parse().map_err(|_| Foreign("message id"))?;
    let mark = match (headers.inner().get(NUMBER), headers.inner().get(SESSION)) {
        (Some(number), None) => Mark::Number(positive(number)?),
        (None, Some(_)) => {
            let sequence = headers.inner().get(SEQUENCE).ok_or(Foreign("no sequence"))?;
            Mark::Edge { session: bytes16(headers, SESSION)?, sequence: positive(sequence)? }
        }
        _ => return Err(Foreign("no mark")),
    };
    Ok((Key(key), id, mark))
}

/// The parcel in a delivery from the lane with this exchange and routing key.
pub(crate) fn parcel(
    delivery: &mut Delivery,
    exchange: &str,
    routing_key: &str,
    intake: bool,
) -> Result<Parcel, Foreign> {
    if delivery.exchange.as_str() != exchange || delivery.routing_key.as_str() != routing_key {
        return Err(Foreign("route"));
    }
    let content_type = delivery.properties.content_type().as_ref().ok_or(Foreign("no content type"))?;
    if content_type.as_str() != CONTENT_TYPE {
        return Err(Foreign("content type"));
    }
    let (key, id, mark) = marked(&delivery.properties)?;
    if intake != matches!(mark, Mark::Edge { .. }) {
        return Err(Foreign("mark of another kind of lane"));
    }
    let body = Sealed::from_stored(Bytes::from(std::mem::take(&mut delivery.data)));
    Ok(Parcel { mark, key, id, body })
}

fn bytes16(headers: &FieldTable, name: &'static str) -> Result<[u8; 16], Foreign> {
    let Some(AMQPValue::LongString(value)) = headers.inner().get(name) else { return Err(Foreign(name)) };
    let mut bytes = [0; 16];
    hex::decode_to_slice(value.as_bytes(), &mut bytes).map_err(|_| Foreign(name))?;
    Ok(bytes)
}

fn positive(value: &AMQPValue) -> Result<u64, Foreign> {
    match value {
        AMQPValue::LongLongInt(number) => u64::try_from(*number).map_err(|_| Foreign("negative mark")),
        _ => Err(Foreign("mark's type")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(parcel: &Parcel) -> Delivery {
        let data = parcel.body.bytes().to_vec();
        let mut delivery = Delivery::mock(1, "x".into(), "3".into(), false, data);
        delivery.properties = properties(parcel).unwrap();
        delivery
    }

    fn sent(mark: Mark) -> Parcel {
        let body = Sealed::from_stored(Bytes::from_static(b"body"));
        Parcel { mark, key: Key([7; 16]), id: MessageId([9; 16]), body }
    }

    #[test]
    fn a_parcel_comes_back_as_it_was_sent() {
        for mark in [Mark::Number(5), Mark::Edge { session: [1; 16], sequence: 8 }] {
            let intake = matches!(mark, Mark::Edge { .. });
            assert_eq!(parcel(&mut delivered(&sent(mark)), "x", "3", intake), Ok(sent(mark)));
            let other = parcel(&mut delivered(&sent(mark)), "x", "3", !intake);
            assert_eq!(other, Err(Foreign("mark of another kind of lane")));
        }
        assert_eq!(properties(&sent(Mark::Number(u64::MAX))), None, "a number was cut off");
    }

    #[test]
    fn what_others_sent_is_foreign_and_keeps_its_body() {
        type Damage = fn(&mut Delivery);
        let damages: [(&str, Damage); 8] = [
            ("route", |d| d.exchange = "y".into()),
            ("route", |d| d.routing_key = "4".into()),
            ("no content type", |d| d.properties = BasicProperties::default()),
            ("content type", |d| d.properties = d.properties.clone().with_content_type("text/plain".into())),
            ("no headers", |d| d.properties = BasicProperties::default().with_content_type(CONTENT_TYPE.into())),
            ("zegel-key", |d| d.properties = d.properties.clone().with_headers(FieldTable::default())),
            ("message id", |d| d.properties = d.properties.clone().with_message_id("x".into())),
            ("negative mark", |d| {
                let mut headers = d.properties.headers().clone().unwrap();
                headers.insert(NUMBER.into(), AMQPValue::LongLongInt(-1));
                d.properties = d.properties.clone().with_headers(headers);
            }),
        ];
        for (why, damage) in damages {
            let mut delivery = delivered(&sent(Mark::Number(5)));
            damage(&mut delivery);
            assert_eq!(parcel(&mut delivery, "x", "3", false), Err(Foreign(why)));
            assert_eq!(delivery.data, b"body", "the body of a foreign message is gone");
        }
    }
}
