//! Sealing at the boundary: what a message, a state row and a job are bound to when they are encrypted.
//!
//! Format of the authenticated context, so that no value can be moved to another place (I8):
//! message `m` + channel (u16) + key (16) + id (16); state row `v` + space (u16) + owner (16) + sub;
//! job `j` + group (u16) + key (16) + message id (16). Numbers are big-endian.

use crate::broker::Outgoing;
use crate::keys::{Keys, KeysError, Sealed};
use crate::slot::Space;
use bytes::Bytes;
use schemas::envelope::EnvelopeError;
use schemas::{Envelope, Key, MessageId};
use topology::Channel;

/// Why a message could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It fails authentication, or its key version is gone.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// It is not an envelope.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The envelope says another key or id than the place it was found in.
    #[error("envelope does not belong to the place it was found in")]
    Misplaced,
}

/// Seals an envelope for its channel.
///
/// # Errors
/// [`EnvelopeError`] when it cannot be encoded.
pub fn seal_message(keys: &dyn Keys, channel: &Channel, envelope: &Envelope) -> Result<Outgoing, EnvelopeError> {
    let context = message_context(channel.code, envelope.partitionkey, envelope.id);
    let body = keys.seal(&context, &envelope.encode()?);
    Ok(Outgoing { channel: channel.code, key: envelope.partitionkey, id: envelope.id, body })
}

/// Opens a message that was found in a channel under a key and an id.
///
/// # Errors
/// See [`OpenError`].
pub fn open_message(
    keys: &dyn Keys,
    channel: u16,
    key: Key,
    id: MessageId,
    body: &Sealed,
) -> Result<Envelope, OpenError> {
    let plain = keys.open(&message_context(channel, key, id), body)?;
    let envelope = Envelope::decode(Bytes::from(plain))?;
    if envelope.partitionkey != key || envelope.id != id {
        return Err(OpenError::Misplaced);
    }
    Ok(envelope)
}

/// Seals a state row's value.
pub fn seal_value(keys: &dyn Keys, space: Space, owner: Key, sub: &[u8], plain: &[u8]) -> Sealed {
    keys.seal(&value_context(space, owner, sub), plain)
}

/// Opens a state row's value.
///
/// # Errors
/// See [`KeysError`].
pub fn open_value(keys: &dyn Keys, space: Space, owner: Key, sub: &[u8], value: &Sealed) -> Result<Vec<u8>, KeysError> {
    keys.open(&value_context(space, owner, sub), value)
}

/// The context of a job's specification and result.
pub(crate) fn job_context(group: u16, key: Key, id: MessageId) -> [u8; 35] {
    place(b'j', group, key, id)
}

fn message_context(channel: u16, key: Key, id: MessageId) -> [u8; 35] {
    place(b'm', channel, key, id)
}

fn place(kind: u8, code: u16, key: Key, id: MessageId) -> [u8; 35] {
    let mut context = [kind; 35];
    context[1..3].copy_from_slice(&code.to_be_bytes());
    context[3..19].copy_from_slice(&key.0);
    context[19..].copy_from_slice(&id.0);
    context
}

fn value_context(space: Space, owner: Key, sub: &[u8]) -> Vec<u8> {
    let mut context = Vec::with_capacity(19 + sub.len());
    context.push(b'v');
    context.extend_from_slice(&space.code.to_be_bytes());
    context.extend_from_slice(&owner.0);
    context.extend_from_slice(sub);
    context
}
