//! Handing a batch over to its recipient: a message built anew, now or when enough senders are together.
//!
//! What is delivered carries nothing of the sender's message but the transformed rows: handle, ids, title, file name, time and trace
//! are made at the instant of release, and of several batches that are released together the order is random.

use crate::compiled::CompiledProject;
use crate::exchange::{self, Made};
use crate::random::Random;
use crate::worker::{DELIVER, boxed, envelope};
use bytes::Bytes;
use schemas::messages::{ContentType, From, Part};
use schemas::{MailboxAddress, MessageId, Millis};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use zegel_core::{Context, Effects, Interrupt, Message, View, names};

/// A batch that is ready to be handed over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Parcel {
    /// The submission that it answers.
    pub(crate) submission: MessageId,
    /// Who sent it.
    pub(crate) sender: MailboxAddress,
    /// The address that it was sent to (the TTP's), for the answer.
    pub(crate) recipient: MailboxAddress,
    /// Version and epoch of the project under which it was transformed.
    pub(crate) period: (u32, u32),
    pub(crate) part: Part,
    /// What is sealed for the recipient, of a split batch; an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sealed: Option<Part>,
    /// Where it may come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exchange: Option<Made>,
    /// When its sender must have an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deadline: Option<Millis>,
}

/// Hands one batch over.
pub(crate) fn hand_over(
    effects: &mut Effects,
    project: &CompiledProject,
    (parcel, attachment): (&Parcel, Bytes),
    (message, view, context): (&Message, &View, &Context<'_>),
) -> Result<(), Interrupt> {
    let handle = parcel.exchange.map_or_else(|| context.new_id(), |made| made.handle);
    let mut payload = boxed(context, project.recipient(), From::Handle(handle), ContentType::Document);
    payload.title = format!("{} batch", project.name());
    payload.parts = [Some(&parcel.part), parcel.sealed.as_ref()].into_iter().flatten().cloned().collect();
    payload.answers = Some(parcel.submission);
    payload.answers_for = Some(parcel.recipient.clone());
    if let (Some(made), Some(returns)) = (&parcel.exchange, project.returns()) {
        let place = (message, view, context);
        let until = exchange::remember(effects, (project, returns), (parcel, made), place)?;
        payload.meta = exchange::told(project, until);
    }
    let mut envelope = envelope(message, names::address_key(context.keys, project.recipient()), &payload, context)?;
    envelope.deadline = parcel.deadline;
    envelope.attachment = attachment;
    effects.produce(DELIVER, envelope);
    Ok(())
}

/// Hands several over, in an order that says nothing of the one in which they came.
pub(crate) fn hand_over_shuffled(
    effects: &mut Effects,
    mut parcels: Vec<(Arc<CompiledProject>, Parcel, Bytes)>,
    place: (&Message, &View, &Context<'_>),
) -> Result<(), Interrupt> {
    let mut fill = |bytes: &mut [u8]| place.2.keys.random(bytes);
    Random::new(&mut fill).shuffle(&mut parcels);
    parcels
        .into_iter()
        .try_for_each(|(project, parcel, attachment)| hand_over(effects, &project, (&parcel, attachment), place))
}
