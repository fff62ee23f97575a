//! I6: each hospital's bags form an unbroken chain of contiguous windows, every token verifies over the stored bytes, and
//! each accepted reference is in exactly one bag, or in the one that is still open.

use super::Line;
use super::contents::digest as digest_of;
use super::rows::{Rows, failure};
use crate::config;
use crate::failed::{Failed, at};
use crate::folder::Folder;
use bytes::Bytes;
use schemas::Key;
use schemas::messages::Content;
use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::path::Path;
use zegel_core::Objects;
use zegel_core::rows::decode;
use zegel_core::slot::spaces;
use zegel_crypto::hash::sha256;
use zegel_crypto::tsa::{Trusted, Verifier as _};
use zegel_timestamp::audit::{self, Evidence, Link};
use zegel_timestamp::rows::{
    ArchivedBag, Bucket, Head, OpenBag, OwnBagRow, TokenRow, head_sub, kept_time_sub, kept_token_sub, own_token_sub,
};

/// References of a bag's bucket: what a number is made of (see the rows of the time-stamp stage).
const BUCKET: u64 = 16;

/// Checks every hospital.
///
/// # Errors
/// When the database, an object or the authority's certificate cannot be read.
pub fn check(
    rows: &Rows,
    objects: &dyn Objects,
    folder: &Folder,
    settings: &config::Timestamp,
) -> Result<Line, Failed> {
    let mut line = Line::new("I6", "bags are chained, stamped, and hold each accepted reference once");
    let trusted = trusted(folder, settings)?;
    let mut open_bags: Vec<(Key, OpenBag)> = Vec::new();
    rows.every(spaces::BAGS, |owner, _, value| {
        match value.and_then(|bytes| decode::<OpenBag>(&bytes).ok()) {
            Some(bag) => open_bags.push((owner, bag)),
            None => line.fault(format!("the open bag of hospital {owner} cannot be read")),
        }
        Ok(())
    })?;
    own_bags(rows, objects, &trusted, &mut line)?;
    kept_tokens(rows, &trusted, &mut line)?;
    let idle = nothing_waits_to_be_sealed(rows)?;
    for (owner, open) in open_bags {
        hospital(rows, objects, &trusted, owner, &open, &mut line)?;
        let sealed = head(rows, owner)?;
        if idle && sealed + 1 != open.sequence {
            line.fault(format!("hospital {owner} has bags after bag {sealed} that nobody will seal"));
        }
    }
    Ok(line)
}

/// Bags that hospitals made themselves: their bytes are those that were stamped, and their tokens verify.
fn own_bags(rows: &Rows, objects: &dyn Objects, trusted: &Trusted, line: &mut Line) -> Result<(), Failed> {
    rows.every(spaces::ARCHIVE, |owner, sub, value| {
        if sub.first() != Some(&b'f') {
            return Ok(());
        }
        line.looked_at += 1;
        let Some(bag) = value.and_then(|bytes| decode::<OwnBagRow>(&bytes).ok()) else {
            line.fault(format!("a bag of hospital {owner}'s own cannot be read"));
            return Ok(());
        };
        let digest = match &bag.content {
            Content::Object(object) => objects.open(object).ok().and_then(digest_of),
            Content::Stored(id) => rows.one(spaces::PAYLOADS, Key(id.0), Bytes::new())?.map(|bytes| sha256(&bytes)),
            Content::Attached => None,
        };
        let tsr = rows.one(spaces::ARCHIVE, owner, own_token_sub(&bag.digest))?.unwrap_or_default();
        if digest != Some(bag.digest) || trusted.verify(&tsr, &bag.digest).is_err() {
            line.fault(format!("a bag of hospital {owner}'s own is missing or not what was stamped"));
        }
        Ok(())
    })
}

/// Tokens that hospitals asked for by themselves: they verify over what was stamped, and are found by their time.
fn kept_tokens(rows: &Rows, trusted: &Trusted, line: &mut Line) -> Result<(), Failed> {
    rows.every(spaces::ARCHIVE, |owner, sub, value| {
        if sub.first() != Some(&b'k') {
            return Ok(());
        }
        line.looked_at += 1;
        let row = value.and_then(|bytes| decode::<TokenRow>(&bytes).ok());
        let held =
            row.filter(|row| trusted.verify(&row.tsr, &row.imprint).is_ok() && kept_token_sub(&row.token) == sub);
        let timed = match &held {
            Some(row) => rows.one(spaces::ARCHIVE, owner, kept_time_sub(row.stamped, &row.token))?.is_some(),
            None => false,
        };
        if !timed {
            line.fault(format!("an archived token of hospital {owner} is not what was given"));
        }
        Ok(())
    })
}

/// Whose stamps count: our own authority's, and those of the external one in the settings.
fn trusted(folder: &Folder, settings: &config::Timestamp) -> Result<Trusted, Failed> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(at(path));
    let own = read(&folder.tsa().join("ca.pem"))?;
    let external = !settings.tsa_roots.is_empty();
    let roots = external.then(|| read(Path::new(&settings.tsa_roots))).transpose()?;
    Trusted::from_pem(Some(&own), roots.as_deref()).map_err(failure)
}

fn hospital(
    rows: &Rows,
    objects: &dyn Objects,
    trusted: &Trusted,
    owner: Key,
    open: &OpenBag,
    line: &mut Line,
) -> Result<(), Failed> {
    let mut link: Option<Link> = None;
    let mut places: HashMap<u64, u64> = HashMap::new();
    let sealed = head(rows, owner)?;
    for sequence in 1..open.sequence {
        let Some(bag) = archived(rows, owner, b'b', sequence)?.and_then(|row| decode::<ArchivedBag>(&row).ok()) else {
            if sequence > sealed {
                // Closed and not sealed yet: its message is on its way, and later ones are behind it.
                break;
            }
            line.fault(format!("bag {sequence} of hospital {owner} was sealed and is not in the archive"));
            link = None;
            continue;
        };
        line.looked_at += 1;
        let tsr = archived(rows, owner, b't', sequence)?.unwrap_or_default();
        let xml: Box<dyn Read> = match &bag.xml {
            // One that cannot be opened is read as empty, which is no bag.
            Content::Object(object) => objects.open(object).unwrap_or_else(|_| Box::new(std::io::empty())),
            Content::Stored(id) => {
                Box::new(Cursor::new(rows.one(spaces::PAYLOADS, Key(id.0), Bytes::new())?.unwrap_or_default()))
            }
            Content::Attached => Box::new(Cursor::new(Bytes::new())),
        };
        let evidence = Evidence { xml, tsr: &tsr, header: &bag.header, previous: link.as_ref() };
        let report = audit::check(evidence, trusted, |reference, _| {
            if let Some(first) = places.insert(reference, sequence) {
                line.findings.push(format!("a reference is in bags {first} and {sequence} of hospital {owner}"));
            }
        });
        for finding in &report.findings {
            line.fault(format!("bag {sequence} of hospital {owner}: {}", finding.name()));
        }
        if report.imprint != Some(bag.imprint) {
            line.fault(format!("bag {sequence} of hospital {owner}: its bytes are not those that were stamped"));
        }
        link = report.link;
    }
    if link.as_ref().map_or(0, |link| link.header.sequence) != sealed {
        line.fault(format!("the chain of hospital {owner} does not end at bag {sealed}, as its head says"));
    }
    references(rows, owner, sealed, &mut places, line)
}

/// The last bag that was sealed, as the chain's head says; 0 before the first.
fn head(rows: &Rows, owner: Key) -> Result<u64, Failed> {
    let head: Option<Head> = rows.json(spaces::ARCHIVE, owner, head_sub())?;
    Ok(head.map_or(0, |head| head.sequence))
}

/// Whether no closed bag is on its way to the authority.
fn nothing_waits_to_be_sealed(rows: &Rows) -> Result<bool, Failed> {
    let channel = topology::channels::by_name("timestamp.sealed").map(|channel| channel.code);
    let mut slots = rows.source().stats()?.into_iter();
    Ok(slots.all(|line| Some(line.slot.channel) != channel || (line.position == line.last && line.parked == 0)))
}

/// Every reference that was taken for a sealed bag is in it, and nothing else is.
fn references(
    rows: &Rows,
    owner: Key,
    sealed: u64,
    places: &mut HashMap<u64, u64>,
    line: &mut Line,
) -> Result<(), Failed> {
    rows.every(spaces::REFERENCES, |found, sub, value| {
        if found != owner {
            return Ok(());
        }
        let number = sub.get(..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
        let Some(bucket) = value.and_then(|bytes| Bucket::read(&bytes).ok()) else {
            line.fault(format!("references of hospital {owner} cannot be read"));
            return Ok(());
        };
        for reference in number * BUCKET..(number + 1) * BUCKET {
            let Some(taken) = bucket.find(reference) else { continue };
            match places.remove(&reference) {
                Some(bag) if bag < taken.earliest_bag => {
                    line.fault(format!("a reference of hospital {owner} is in bag {bag}, before it was accepted"));
                }
                Some(_) => {}
                None if taken.earliest_bag <= sealed => {
                    line.fault(format!("a reference of hospital {owner} is in no bag"));
                }
                None => {}
            }
        }
        Ok(())
    })?;
    if !places.is_empty() {
        line.fault(format!("bags of hospital {owner} hold {} references that nobody sent", places.len()));
    }
    Ok(())
}

fn archived(rows: &Rows, owner: Key, kind: u8, sequence: u64) -> Result<Option<Bytes>, Failed> {
    let mut sub = vec![kind];
    sub.extend_from_slice(&sequence.to_be_bytes());
    rows.one(spaces::ARCHIVE, owner, sub.into())
}
