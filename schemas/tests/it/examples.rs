//! One example of every variant of every payload type. All identifiers are synthetic.

use std::collections::BTreeMap;
use zegel_schemas::messages::*;
use zegel_schemas::{MailboxAddress, MessageId, Millis, Sha256};

/// 2026-01-05T09:30:00Z.
pub const NOON: Millis = Millis(1_767_605_400_000);

pub fn id(byte: u8) -> MessageId {
    MessageId([byte; 16])
}

pub fn address(text: &str) -> MailboxAddress {
    text.parse().unwrap()
}

fn hospital() -> MailboxAddress {
    address("NIHII-HOSPITAL:71000436")
}

fn registry() -> MailboxAddress {
    address("CBE:0123456749")
}

fn part(content: Content) -> Part {
    Part { file_name: "labs.csv".to_owned(), mime: "text/csv".to_owned(), size: 1234, digest: Sha256([5; 32]), content }
}

fn object() -> Content {
    Content::Object(ObjectRef { name: Sha256([6; 32]), salt: Sha256([7; 32]), key_version: 1, size: 70_000 })
}

fn reason() -> Reason {
    let row = BadRow { row: 17, field: "niss".to_owned(), code: "ZGL-ROW-SSIN".to_owned() };
    let text = "batch has bad rows".to_owned();
    Reason { code: "ZGL-TTP-ROWS".to_owned(), text, rows: vec![row], bad_rows: 1 }
}

fn meta() -> BTreeMap<String, String> {
    BTreeMap::from([("department".to_owned(), "laboratory".to_owned())])
}

const ALL_RECEIPTS: ReceiptsWanted = ReceiptsWanted { published: true, received: true, read: true };

pub fn submissions() -> Vec<Submission> {
    let plain = Submission {
        submission: id(1),
        sender: hospital(),
        recipients: vec![registry(), address("SSIN:85061511796:DOCTOR")],
        publication_id: "A1B2C3".to_owned(),
        title: "laboratory results".to_owned(),
        part: part(Content::Attached),
        receipts: ALL_RECEIPTS,
        meta: meta(),
        project: None,
        handle: None,
        accepted: NOON,
    };
    let batch = Submission {
        recipients: vec![registry()],
        part: part(object()),
        receipts: ReceiptsWanted::default(),
        meta: BTreeMap::new(),
        project: Some("lab-registry".to_owned()),
        ..plain.clone()
    };
    let returned = Submission { handle: Some(id(7)), ..batch.clone() };
    vec![plain, batch, returned]
}

pub fn deliveries() -> Vec<Deliver> {
    let document = Deliver {
        item: id(2),
        recipient: registry(),
        from: From::Sender(hospital()),
        content_type: ContentType::Document,
        title: "laboratory results".to_owned(),
        parts: vec![part(Content::Stored(id(3)))],
        notice: None,
        meta: meta(),
        answers: Some(id(1)),
        answers_for: Some(registry()),
        receipts: ALL_RECEIPTS,
    };
    let notice = |ack, reason| Notice {
        submission: id(1),
        publication_id: "A1B2C3".to_owned(),
        recipient: registry(),
        ack,
        reason,
        at: NOON,
    };
    let hidden = Deliver {
        from: From::Handle(id(4)),
        answers: None,
        answers_for: None,
        meta: BTreeMap::new(),
        ..document.clone()
    };
    let about = |content_type, notice| Deliver {
        from: From::Platform,
        content_type,
        notice: Some(notice),
        parts: vec![],
        ..hidden.clone()
    };
    let acks = [AckType::Published, AckType::Received, AckType::Read];
    let acks = acks.map(|ack| about(ContentType::Acknowledgment, notice(Some(ack), None)));
    let error = about(ContentType::Error, notice(None, Some(reason())));
    [document, hidden.clone()].into_iter().chain(acks).chain([error]).collect()
}

pub fn commands() -> Vec<BoxCommand> {
    vec![
        BoxCommand::Listed { items: vec![id(1), id(2)] },
        BoxCommand::Read { item: id(1) },
        BoxCommand::Move { items: vec![id(1)], to: Folder::Bin },
        BoxCommand::Move { items: vec![id(1)], to: Folder::Inbox },
        BoxCommand::Delete { items: vec![id(1)] },
    ]
}

pub fn answers() -> Vec<Answered> {
    [Answer::Done, Answer::StandBy, Answer::Refused { reason: reason() }]
        .map(|answer| Answered { submission: id(1), recipient: registry(), answer, at: NOON })
        .into()
}

pub fn inbounds() -> Vec<Inbound> {
    [(Content::Attached, None), (object(), None), (object(), Some(id(7)))]
        .map(|(content, handle)| Inbound {
            submission: id(1),
            sender: hospital(),
            recipient: registry(),
            project: "lab-registry".to_owned(),
            part: part(content),
            publication_id: "P-2026-0001".to_owned(),
            handle,
        })
        .into()
}

pub fn quarantine() -> Vec<QuarantineOrder> {
    vec![QuarantineOrder::Release { number: 7 }, QuarantineOrder::Drop { number: 7 }, QuarantineOrder::Clear]
}

pub fn wakes() -> Vec<TtpWake> {
    [TtpWork::Tidy, TtpWork::Release].map(|work| TtpWake { project: "lab-registry".to_owned(), work }).into()
}

pub fn opened() -> Vec<Opened> {
    vec![Opened {
        submission: id(1),
        sender: hospital(),
        publication_id: "A1B2C3".to_owned(),
        recipients: vec![registry()],
        receipts: ALL_RECEIPTS,
        accepted: NOON,
    }]
}

pub fn seen() -> Vec<Seen> {
    [AckType::Received, AckType::Read]
        .map(|ack| Seen { submission: id(1), recipient: registry(), ack, at: NOON })
        .into()
}

pub fn deadlines() -> Vec<Deadline> {
    [DeadlineStage::Alert, DeadlineStage::Expire, DeadlineStage::Final]
        .map(|stage| Deadline { submission: id(1), stage })
        .into()
}

pub fn alerts() -> Vec<AlertChange> {
    [true, false]
        .map(|raised| AlertChange { incident: "answers-overdue".to_owned(), item: id(1), raised, at: NOON })
        .into()
}

pub fn inscriptions() -> Vec<Inscription> {
    let open = Inscription {
        organisation: registry(),
        ssin: "85061511796".to_owned(),
        from: "2026-01-01".to_owned(),
        until: None,
        withdraw: false,
    };
    vec![open.clone(), Inscription { until: Some("2026-12-31".to_owned()), withdraw: true, ..open }]
}

pub fn mutations() -> Vec<Mutation> {
    let details = BTreeMap::from([("postcode".to_owned(), "3000".to_owned())]);
    let moved = Mutation {
        feed: "registry".to_owned(),
        event: "2026-000001".to_owned(),
        ssin: "85061511796".to_owned(),
        kind: "address".to_owned(),
        date: "2026-01-05".to_owned(),
        details,
    };
    vec![moved.clone(), Mutation { kind: "death".to_owned(), details: BTreeMap::new(), ..moved }]
}

pub fn notifications() -> Vec<Notify> {
    mutations().into_iter().map(|mutation| Notify { organisation: registry(), mutation, at: NOON }).collect()
}

pub fn open_boxes() -> Vec<OpenBox> {
    vec![OpenBox { address: hospital(), max_bytes: 100 << 20 }]
}

pub fn expiries() -> Vec<Expire> {
    vec![Expire { submission: id(1) }]
}

pub fn enrolments() -> Vec<Enrol> {
    vec![Enrol { hospital: hospital(), salted: None }, Enrol { hospital: hospital(), salted: Some(true) }]
}

pub fn entries() -> Vec<Entries> {
    vec![Entries { hospital: hospital(), count: 1000 }]
}

pub fn windows() -> Vec<WindowEnd> {
    vec![WindowEnd { hospital: hospital(), end: NOON }]
}

pub fn bags() -> Vec<BagClosed> {
    let bag = |salted| BagClosed {
        hospital: hospital(),
        sequence: 1,
        start: NOON,
        end: NOON.plus(300_000),
        count: 1000,
        salted,
    };
    vec![bag(false), bag(true)]
}

pub fn own_bags() -> Vec<OwnBag> {
    let object = ObjectRef { name: Sha256([1; 32]), salt: Sha256([2; 32]), key_version: 1, size: 100_000 };
    let bag = |content| OwnBag {
        hospital: hospital(),
        sequence: 17,
        entries: 9,
        digest: Sha256([0xcc; 32]),
        size: 1_000,
        content,
    };
    vec![bag(Content::Attached), bag(Content::Object(object))]
}

pub fn archive_tokens() -> Vec<ArchiveToken> {
    vec![ArchiveToken { hospital: hospital(), imprint: Sha256([0xaa; 32]), token: Sha256([0xbb; 32]) }]
}

pub fn logged() -> Vec<Logged> {
    let (subject, token) = (Sha256([0xaa; 32]), Sha256([0xbb; 32]));
    [BagMaker::Platform, BagMaker::Hospital].map(|maker| Logged { maker, subject, token }).to_vec()
}

pub fn checkpoints_due() -> Vec<CheckpointDue> {
    vec![CheckpointDue {}]
}

pub fn checkpoint_stamps() -> Vec<CheckpointStamp> {
    vec![CheckpointStamp { size: 1000, imprint: Sha256([0xcc; 32]) }]
}

pub fn cosigned() -> Vec<Cosigned> {
    vec![Cosigned { size: 1000, lines: vec!["\u{2014} hospital.example/witness AAAA".to_owned()] }]
}

pub fn feed_acks() -> Vec<FeedAck> {
    vec![FeedAck { up_to: 42 }]
}

pub fn seals() -> Vec<SealsUsed> {
    let used = |operation, values: &str| SealsUsed {
        application: "invoices".to_owned(),
        caller: hospital(),
        operation,
        items: 3,
        errors: 1,
        values: values.to_owned(),
    };
    vec![used(SealsOperation::Encode, "AAEC"), used(SealsOperation::Decode, "")]
}
