//! How identifiers become keys: the one place that says which domain an identifier is blinded in.

use crate::keys::Keys;
use schemas::{Key, MailboxAddress, MessageId};

/// The key of a mailbox owner: sender, box, hospital and organisation are the same owner under the same key.
pub fn address_key(keys: &dyn Keys, address: &MailboxAddress) -> Key {
    keys.blind("mailbox", address.to_string().as_bytes())
}

/// The identity of a submission: the same (sender, PublicationId) has the same id, so a repeated one is recognised.
pub fn submission_id(keys: &dyn Keys, sender: &MailboxAddress, publication_id: &str) -> MessageId {
    MessageId(keys.blind("submission", format!("{sender}\n{publication_id}").as_bytes()).0)
}

/// The identity of a registry's event: the same (feed, event) has the same id, so a repeated one is recognised.
pub fn event_id(keys: &dyn Keys, feed: &str, event: &str) -> MessageId {
    MessageId(keys.blind("mutation", format!("{}\n{feed}{event}", feed.len()).as_bytes()).0)
}

/// The key of a submission: its id, which is an HMAC already.
#[must_use]
pub fn submission_key(submission: MessageId) -> Key {
    Key(submission.0)
}

/// The key of a TTP project.
pub fn project_key(keys: &dyn Keys, project: &str) -> Key {
    keys.blind("project", project.as_bytes())
}

/// The key of a person. `ssin` is the 11 digits.
pub fn ssin_key(keys: &dyn Keys, ssin: &str) -> Key {
    keys.blind("ssin", ssin.as_bytes())
}

/// The key of an incident's kind.
pub fn incident_key(keys: &dyn Keys, incident: &str) -> Key {
    keys.blind("incident", incident.as_bytes())
}

/// The key of the append-only log of bags and tokens: one for the whole platform, so that it has one order.
pub fn log_key(keys: &dyn Keys) -> Key {
    keys.blind("log", b"entries")
}

/// The key under which the log's checkpoints are stamped by an external authority, apart from the log itself: it may be away
/// for days.
pub fn log_stamp_key(keys: &dyn Keys) -> Key {
    keys.blind("log", b"stamps")
}
