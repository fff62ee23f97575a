//! Every rule of receipts and alerts, on a bench: no runner, no store, no clock.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod alerts;
mod answers;
mod deadlines;

use schemas::messages::{Answer, Answered, ContentType, Deliver, Opened, Reason, ReceiptsWanted};
use schemas::{Key, MailboxAddress, MessageId, Payload};
use zegel_core::testing::Bench;
use zegel_core::{Effects, names};
use zegel_receipts::{Receipts, SubmissionRow, queries};

const ID: MessageId = MessageId([3; 16]);
const KEY: Key = Key([3; 16]);
const SENDER: &str = "NIHII-HOSPITAL:71000436";
const REGISTRY: &str = "CBE:0123456749";
const GP: &str = "SSIN:85061511796";
const ALL: ReceiptsWanted = ReceiptsWanted { published: true, received: true, read: true };
const NONE: ReceiptsWanted = ReceiptsWanted { published: false, received: false, read: false };

fn address(text: &str) -> MailboxAddress {
    text.parse().expect("the address is valid")
}

fn opened(bench: &Bench<Receipts>, receipts: ReceiptsWanted) -> Opened {
    Opened {
        submission: ID,
        sender: address(SENDER),
        publication_id: "PUB1".into(),
        recipients: vec![address(REGISTRY), address(GP)],
        receipts,
        accepted: bench.now,
    }
}

/// A bench on which a submission for two recipients was opened.
fn open(receipts: ReceiptsWanted) -> Bench<Receipts> {
    let mut bench = Bench::new(Receipts::default());
    let opened = opened(&bench, receipts);
    bench.deliver(KEY, &opened);
    bench
}

fn refused(code: &str) -> Answer {
    Answer::Refused { reason: Reason { code: code.into(), text: "field: rule".into(), rows: vec![], bad_rows: 0 } }
}

fn answered(bench: &Bench<Receipts>, recipient: &str, answer: Answer) -> Answered {
    Answered { submission: ID, recipient: address(recipient), answer, at: bench.now }
}

fn answer(bench: &mut Bench<Receipts>, recipient: &str, answer: Answer) -> Effects {
    let answered = answered(bench, recipient, answer);
    bench.deliver(KEY, &answered)
}

fn row(bench: &mut Bench<Receipts>) -> SubmissionRow {
    queries::row(&bench.read(&queries::submission(ID))).unwrap().expect("the submission is known")
}

fn payloads<P: Payload>(effects: &Effects, channel: &str) -> Vec<P> {
    let produced = effects.produced.iter().filter(|produced| produced.channel.name == channel);
    produced.map(|produced| produced.envelope.payload().unwrap()).collect()
}

/// The notices that came out: (recipient that they are about, acknowledgement or code).
fn notices(bench: &Bench<Receipts>, effects: &Effects) -> Vec<(String, String)> {
    let sender = names::address_key(&bench.keys, &address(SENDER));
    assert!(effects.produced.iter().all(|p| p.channel.name != "mailbox.deliver" || p.envelope.partitionkey == sender));
    let delivered = payloads::<Deliver>(effects, "mailbox.deliver").into_iter();
    delivered
        .map(|deliver| {
            let notice = deliver.notice.expect("it is a notice");
            assert_eq!(deliver.content_type == ContentType::Error, notice.reason.is_some());
            assert!(deliver.answers.is_none() && deliver.parts.is_empty());
            let what = notice.reason.map_or_else(|| format!("{:?}", notice.ack.unwrap()), |reason| reason.code);
            (notice.recipient.to_string(), what)
        })
        .collect()
}

fn said(what: &[(&str, &str)]) -> Vec<(String, String)> {
    what.iter().map(|(recipient, what)| ((*recipient).to_owned(), (*what).to_owned())).collect()
}
