//! I1 and I8: the content of every message in a box is there, whole, and what its sender handed over; and every message
//! that lies in a channel, waits for its turn or belongs to a timer authenticates in its place.
//!
//! Content is read to its end, object by object, so this part of a check takes as long as reading the folder does.
//! Failure behaviour: content that is missing, cut short or changed is a finding that names the item.

use super::Line;
use super::rows::Rows;
use crate::failed::Failed;
use schemas::Sha256;
use std::collections::HashMap;
use std::io::Read;
use zegel_core::Objects;
use zegel_core::sealing::open_message;
use zegel_core::slot::spaces;
use zegel_crypto::hash::{Hasher, sha256};
use zegel_mailbox::{ItemRow, PartContent};

/// Bytes of an object that are read at once.
const PIECE: usize = 256 * 1024;

/// Checks the content of every item, and every message.
///
/// # Errors
/// When the database cannot be read.
pub fn check(rows: &Rows, objects: &dyn Objects) -> Result<Vec<Line>, Failed> {
    Ok(vec![items(rows, objects)?, messages(rows)?])
}

fn items(rows: &Rows, objects: &dyn Objects) -> Result<Line, Failed> {
    let mut line = Line::new("I1", "content of messages is there, as it was sent");
    // An object that went to several recipients is read once.
    let mut seen: HashMap<Sha256, Option<Sha256>> = HashMap::new();
    rows.every(spaces::ITEMS, |_, _, value| {
        // An item that cannot be read is a finding of its own already.
        let Some(item) = value.and_then(|bytes| ItemRow::decode(&bytes).ok()) else { return Ok(()) };
        for (number, part) in item.parts.iter().enumerate() {
            line.looked_at += 1;
            let found = match item.content(number) {
                None => None,
                Some(PartContent::Bytes(bytes)) => Some(sha256(&bytes)),
                Some(PartContent::Row(zegel_core::Read::One { space, owner, sub })) => {
                    rows.one(space, owner, sub)?.map(|bytes| sha256(&bytes))
                }
                Some(PartContent::Row(_)) => None,
                Some(PartContent::Object(object)) => {
                    *seen.entry(object.name).or_insert_with(|| objects.open(&object).ok().and_then(digest))
                }
            };
            if found != Some(part.digest) {
                line.fault(format!("document {number} of item {} is missing or not what was sent", item.item));
            }
        }
        Ok(())
    })?;
    Ok(line)
}

/// The digest of what a reader gives; none when it fails before its end.
pub fn digest(mut reader: Box<dyn Read + Send>) -> Option<Sha256> {
    let (mut hasher, mut piece) = (Hasher::new(), vec![0; PIECE]);
    loop {
        match reader.read(&mut piece).ok()? {
            0 => return Some(hasher.finish()),
            count => hasher.update(&piece[..count]),
        }
    }
}

fn messages(rows: &Rows) -> Result<Line, Failed> {
    let mut line = Line::new("I8", "messages, parked and timed ones too, authenticate");
    let keys = rows.keys();
    let each = |place: &str, message: zegel_core::Outgoing| {
        line.looked_at += 1;
        if open_message(&*keys, message.channel, message.key, message.id, &message.body).is_err() {
            line.fault(format!("a message of channel {} does not authenticate ({place})", message.channel));
        }
    };
    rows.source().each_message(each)?;
    Ok(line)
}
