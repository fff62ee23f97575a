//! Every rule of the mailbox, on a bench: no runner, no store, no clock.
//!
//! What the tests share: addresses, documents, and reading what came out.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod boxes;
mod model;
mod stand_by;
mod submissions;

use bytes::Bytes;
use schemas::messages::{Answer, Answered, Content, ContentType, Deliver, Folder, From, OpenBox, Part, ReceiptsWanted};
use schemas::{Key, MailboxAddress, MessageId, Payload, Sha256};
use std::collections::BTreeMap;
use zegel_core::testing::Bench;
use zegel_core::{Effects, Worker, names};
use zegel_mailbox::{BoxRow, Boxes, ItemRow, Shelf, queries};

const HOSPITAL: &str = "NIHII-HOSPITAL:71000436";
const REGISTRY: &str = "CBE:0123456749";
const TTP: &str = "CBE:0200000043";

fn address(text: &str) -> MailboxAddress {
    text.parse().expect("the address is valid")
}

fn key<W: Worker>(bench: &Bench<W>, text: &str) -> Key {
    names::address_key(&bench.keys, &address(text))
}

fn part(size: usize, content: Content) -> Part {
    let size = u64::try_from(size).unwrap();
    Part { file_name: "batch.csv".into(), mime: "text/csv".into(), size, digest: Sha256([7; 32]), content }
}

/// A document for the registry's box that answers a submission; item and submission have the same number.
fn document(number: u8, size: usize) -> Deliver {
    Deliver {
        item: MessageId([number; 16]),
        recipient: address(REGISTRY),
        from: From::Sender(address(HOSPITAL)),
        content_type: ContentType::Document,
        title: "results".into(),
        parts: vec![part(size, Content::Attached)],
        notice: None,
        meta: BTreeMap::new(),
        answers: Some(MessageId([number; 16])),
        answers_for: None,
        receipts: ReceiptsWanted { published: true, received: true, read: true },
    }
}

fn notice(number: u8) -> Deliver {
    let bare =
        Deliver { content_type: ContentType::Acknowledgment, parts: Vec::new(), answers: None, ..document(number, 0) };
    Deliver { from: From::Platform, receipts: ReceiptsWanted::default(), ..bare }
}

/// A bench with the registry's box open.
fn open_box(max_bytes: u64) -> (Bench<Boxes>, Key) {
    let mut bench = Bench::new(Boxes);
    let owner = key(&bench, REGISTRY);
    bench.deliver(owner, &OpenBox { address: address(REGISTRY), max_bytes });
    (bench, owner)
}

/// Delivers with an attachment as long as the attached parts say.
fn deliver(bench: &mut Bench<Boxes>, owner: Key, deliver: &Deliver) -> Effects {
    let attached: u64 =
        deliver.parts.iter().filter(|part| part.content == Content::Attached).map(|part| part.size).sum();
    let mut envelope = bench.envelope(owner, deliver);
    envelope.attachment = Bytes::from(vec![deliver.item.0[0]; usize::try_from(attached).unwrap()]);
    bench.deliver_envelope(envelope)
}

fn payloads<P: Payload>(effects: &Effects, channel: &str) -> Vec<P> {
    let produced = effects.produced.iter().filter(|produced| produced.channel.name == channel);
    produced.filter(|produced| produced.envelope.kind == P::TYPE).map(|p| p.envelope.payload().unwrap()).collect()
}

/// The answers that came out: (submission's number, code of the refusal or what else it is).
fn answers(effects: &Effects) -> Vec<(u8, String)> {
    let answered = payloads::<Answered>(effects, "receipts.due").into_iter();
    answered
        .map(|answered| {
            let what = match answered.answer {
                Answer::Done => "done".to_owned(),
                Answer::StandBy => "stand-by".to_owned(),
                Answer::Refused { reason } => reason.code,
            };
            (answered.submission.0[0], what)
        })
        .collect()
}

fn said(what: &[(u8, &str)]) -> Vec<(u8, String)> {
    what.iter().map(|(number, what)| (*number, (*what).to_owned())).collect()
}

fn box_row(bench: &mut Bench<Boxes>, owner: Key) -> BoxRow {
    let rows = bench.read(&queries::mailbox(owner));
    queries::row(&rows).unwrap().expect("the box is open")
}

fn shelf(bench: &mut Bench<Boxes>, owner: Key, shelf: Shelf) -> Vec<(u64, ItemRow)> {
    let rows = bench.read(&queries::oldest(owner, shelf, 0, 100));
    queries::items(&rows).unwrap()
}

/// The numbers of the items on a shelf, oldest first.
fn numbers(bench: &mut Bench<Boxes>, owner: Key, of: Shelf) -> Vec<u8> {
    shelf(bench, owner, of).into_iter().map(|(_, item)| item.item.0[0]).collect()
}

#[test]
fn the_sent_folder_is_no_shelf_of_a_box() {
    assert_eq!([Folder::Inbox, Folder::Bin, Folder::Sent].map(Shelf::of), [Some(Shelf::Inbox), Some(Shelf::Bin), None]);
}
