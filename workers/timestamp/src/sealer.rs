//! The sealer: each closed bag is bound, stamped, archived and sent to the hospital's box.
//!
//! Channel `timestamp.sealed`, key hospital. The heavy work is a job (see `binding`); later bags of the hospital wait
//! behind it, so the chain grows in order, and while the authority is away bags queue here and intake goes on. The
//! step after the job writes the archive, the chain's head, the log's entry and the delivery in one commit, and deletes the bag's chunk
//! rows: at most [`DELETE_MAX`] of them; where more are left it sends itself the same message again, whose handling finds
//! the bag archived and deletes the next ones, so no step grows with a bag.
//! Sealing is idempotent on (hospital, sequence): a bag that is archived is never made twice.
//! A hospital's own bag ([`own_bag`]) is stamped beside the chain, a token that it asked for archived beside it.
//! Failure behaviour: a bag that does not continue the chain is dead, and the hospital's later bags wait for an operator.

use crate::binding::{self, Bound, Spec, Xml};
use crate::rows::{self, ArchivedBag, Head};
use crate::stamper::Stamper;
use crate::{DELIVER, LOGGED, SEALED, SOURCE, own_bag, own_token};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use schemas::messages::{
    ArchiveToken, BagClosed, BagMaker, Content, ContentType, Deliver, From, Logged, OwnBag, Part, ReceiptsWanted,
};
use schemas::{Key, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use topology::Channel;
use zegel_core::names::log_key;
use zegel_core::rows::V1;
use zegel_core::slot::spaces;
use zegel_core::worker::{JobError, JobIo};
use zegel_core::{Context, Decision, Effects, Failure, Interrupt, Message, Read, View, Worker};
use zegel_crypto::bag::Form;
use zegel_crypto::hash::sha256;

/// Chunk rows that one step deletes; a bag of two million entries in full requests has as many.
pub const DELETE_MAX: u32 = 2_000;
/// A token that comes more than a window after the bag's end is marked late.
const LATE_MS: i64 = 300_000;

/// Seals bags; see the module's header.
pub struct Sealer {
    stamper: Arc<dyn Stamper>,
    form: Form,
}

impl Sealer {
    /// A sealer that has its bags stamped there. `form` is what headers say that hashes are made of, where
    /// the hospital did not say that it salts them.
    #[must_use]
    pub fn new(stamper: Arc<dyn Stamper>, form: Form) -> Sealer {
        Sealer { stamper, form }
    }
}

impl Worker for Sealer {
    fn channel(&self) -> &'static Channel {
        SEALED
    }

    fn reads(&self, message: &Message, _: &Context<'_>) -> Vec<Read> {
        let own = message.payload::<OwnBag>().map(|own| rows::own_sub(&own.digest));
        let token = || message.payload::<ArchiveToken>().map(|order| rows::kept_token_sub(&order.token));
        let sub = own.or_else(|_| token()).unwrap_or_else(|_| rows::head_sub());
        vec![Read::One { space: spaces::ARCHIVE, owner: message.key(), sub }]
    }

    fn decide(&self, message: &Message, view: &View, context: &Context<'_>) -> Result<Decision, Interrupt> {
        if message.is::<OwnBag>() {
            return own_bag::decide(message, view, context);
        }
        if message.is::<ArchiveToken>() {
            return own_token::decide(message, view, context);
        }
        let bag: BagClosed = message.payload()?;
        let owner = message.key();
        let head: Option<Head> = view.get(spaces::ARCHIVE, owner, rows::head_sub())?;
        if head.is_some_and(|head| head.sequence >= bag.sequence) {
            return tidy(message, view, context, &bag);
        }
        let bound = match &message.job {
            None => return job(owner, bag),
            Some(Err(error)) => return Err(Failure::permanent(&error.code).into()),
            Some(Ok(bytes)) => bytes,
        };
        let bound: Bound = serde_json::from_slice(bound).map_err(|_| Failure::permanent("ZGL-STATE-READ"))?;
        match binding::link(head.as_ref(), &bag) {
            Ok(previous) if previous == bound.previous => {}
            _ => return Err(Failure::permanent("ZGL-TS-CHAIN").into()),
        }
        let mut step = Step { message, context, owner, bag: &bag, effects: Effects::default() };
        let parts = step.archive(bound)?;
        step.deliver(parts)?;
        Ok(Decision::Done(step.effects))
    }

    fn run_job(&self, spec: &[u8], io: &dyn JobIo) -> Result<Vec<u8>, JobError> {
        let failed = |code: &str| JobError { code: code.to_owned(), retryable: false };
        if let Ok(own) = serde_json::from_slice::<own_bag::Spec>(spec) {
            return own_bag::stamp(&own, self.stamper.as_ref(), io);
        }
        let spec: Spec = serde_json::from_slice(spec).map_err(|_| failed("ZGL-JOB-UNKNOWN"))?;
        let bound = binding::bind(&spec, self.form, self.stamper.as_ref(), io)?;
        serde_json::to_vec(&bound).map_err(|_| failed("ZGL-STATE-WRITE"))
    }

    fn downstream(&self) -> Option<&'static str> {
        Some("time-stamp-authority")
    }
}

fn job(owner: Key, bag: BagClosed) -> Result<Decision, Interrupt> {
    let spec = serde_json::to_vec(&Spec { v: V1, owner, bag }).map_err(|_| Failure::permanent("ZGL-STATE-WRITE"))?;
    Ok(Decision::Job { spec })
}

/// The bag is archived: delete the next of its chunk rows.
fn tidy(message: &Message, view: &View, context: &Context<'_>, bag: &BagClosed) -> Result<Decision, Interrupt> {
    let owner = message.key();
    let sub = rows::bag_sub(bag.sequence);
    let mut step = Step { message, context, owner, bag, effects: Effects::default() };
    let archived: Option<ArchivedBag> = view.get(spaces::ARCHIVE, owner, sub.clone())?;
    if let Some(mut archived) = archived.filter(|archived| archived.chunks_left > 0) {
        archived.chunks_left = step.delete_chunks(archived.chunks_left)?;
        step.effects.put(spaces::ARCHIVE, owner, sub, &archived)?;
    }
    Ok(Decision::Done(step.effects))
}

/// The effects of one message.
struct Step<'a> {
    message: &'a Message,
    context: &'a Context<'a>,
    owner: Key,
    bag: &'a BagClosed,
    effects: Effects,
}

/// What the hospital gets: the XML, the time-stamp response, and the header, which the XML only has the hash of.
struct Copies {
    xml: Part,
    tsr: Part,
    header: String,
}

impl Step<'_> {
    /// Writes the archive's rows and returns the hospital's copies.
    fn archive(&mut self, bound: Bound) -> Result<Copies, Interrupt> {
        let sequence = self.bag.sequence;
        let (archive, hospital) = match bound.xml {
            Xml::Objects { archive, hospital } => (Content::Object(archive), Content::Object(hospital)),
            Xml::Inline(xml) => {
                let xml = Bytes::from(xml);
                (self.payload(xml.clone()), self.payload(xml))
            }
        };
        let chunks_left = self.delete_chunks(bound.chunks)?;
        let row = ArchivedBag {
            v: V1,
            sequence,
            start: self.bag.start,
            end: self.bag.end,
            count: self.bag.count,
            header: bound.header,
            header_hash: bound.header_hash,
            previous: bound.previous.unwrap_or_default(),
            xml: archive,
            xml_size: bound.xml_size,
            imprint: bound.imprint,
            tsr_size: bound.tsr.len() as u64,
            stamped: bound.gen_time,
            late: bound.gen_time.since(self.bag.end) > LATE_MS,
            chunks_left,
        };
        let head = Head { v: V1, sequence, header_hash: bound.header_hash, end: row.end, gen_time: row.stamped };
        self.effects.put(spaces::ARCHIVE, self.owner, rows::bag_sub(sequence), &row)?;
        self.effects.put(spaces::ARCHIVE, self.owner, rows::head_sub(), &head)?;
        let tsr = Bytes::from(bound.tsr);
        self.log(bound.header_hash, bound.token)?;
        self.effects.put_bytes(spaces::ARCHIVE, self.owner, rows::token_sub(sequence), tsr.clone());
        let tsr_digest = sha256(&tsr);
        let tsr = self.payload(tsr);
        Ok(Copies {
            xml: part(sequence, "xml", "application/xml", row.xml_size, row.imprint, hospital),
            tsr: part(sequence, "tsr", "application/timestamp-reply", row.tsr_size, tsr_digest, tsr),
            header: STANDARD.encode(&row.header),
        })
    }

    fn deliver(&mut self, copies: Copies) -> Result<(), Interrupt> {
        let deliver = Deliver {
            item: self.context.new_id(),
            recipient: self.bag.hospital.clone(),
            from: From::Platform,
            content_type: ContentType::Document,
            title: format!("TimeStampBag {}", self.bag.sequence),
            parts: vec![copies.xml, copies.tsr],
            notice: None,
            meta: BTreeMap::from([
                ("bag-sequence".to_owned(), self.bag.sequence.to_string()),
                ("bag-header".to_owned(), copies.header),
            ]),
            answers: None,
            answers_for: None,
            receipts: ReceiptsWanted::default(),
        };
        // A hospital's box has the hospital's key.
        let envelope = self.message.follow_up(self.context, SOURCE, self.owner, &deliver)?;
        self.effects.produce(DELIVER, envelope);
        Ok(())
    }

    /// Enters the bag and its token into the platform's log.
    fn log(&mut self, subject: Sha256, token: Sha256) -> Result<(), Interrupt> {
        let logged = Logged { maker: BagMaker::Platform, subject, token };
        let envelope = self.message.follow_up(self.context, SOURCE, log_key(self.context.keys), &logged)?;
        self.effects.produce(LOGGED, envelope);
        Ok(())
    }

    /// Writes a payload of its own: content belongs to exactly one owner.
    fn payload(&mut self, bytes: Bytes) -> Content {
        let id = self.context.new_id();
        self.effects.put_bytes(spaces::PAYLOADS, Key(id.0), Bytes::new(), bytes);
        Content::Stored(id)
    }

    /// Deletes the last of `chunks` rows and returns how many are left, for another message.
    fn delete_chunks(&mut self, chunks: u32) -> Result<u32, Interrupt> {
        let left = chunks.saturating_sub(DELETE_MAX);
        for chunk in left..chunks {
            self.effects.delete(spaces::ENTRIES, self.owner, rows::chunk_sub(self.bag.sequence, chunk));
        }
        if left > 0 {
            let envelope = self.message.follow_up(self.context, SOURCE, self.owner, self.bag)?;
            self.effects.produce(SEALED, envelope);
        }
        Ok(left)
    }
}

fn part(sequence: u64, extension: &str, mime: &str, size: u64, digest: Sha256, content: Content) -> Part {
    Part { file_name: format!("{sequence}.{extension}"), mime: mime.to_owned(), size, digest, content }
}
