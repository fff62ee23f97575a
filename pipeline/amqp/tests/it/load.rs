//! The load that faults are shown under, over RabbitMQ.

use crate::place::Place;
use std::sync::Arc;
use zegel_amqp::Amqp;

pub(crate) use zegel_conformance::load::{Load, Silences, kills, parcel, rounds, silence, single};

/// Two connections through the proxy, one transport for each side, as two processes have.
pub(crate) async fn pair(place: &Place, through: &str) -> (Arc<Amqp>, Arc<Amqp>) {
    let place = Place::sharing(place, through);
    (place.connect().await, place.connect().await)
}
