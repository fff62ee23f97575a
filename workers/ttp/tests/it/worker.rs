//! The worker's decisions: who is let in, what is delivered, what the sender is told, and the job.

use crate::{SENDER, sender};
use bytes::Bytes;
use schemas::envelope::ATTACHMENT_MAX;
use schemas::messages::{Answer, Answered, Content, ContentType, Deliver, From, Inbound, ObjectRef, Part, Reason};
use schemas::{Envelope, MailboxAddress, MessageId, Millis, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Cursor, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use zegel_core::objects::{ObjectSink, StoredObject};
use zegel_core::slot::spaces::{CELLS, QUARANTINE, TTP_QUOTAS};
use zegel_core::worker::{JobError, JobIo};
use zegel_core::{
    Context, Decision, Effects, Keys, Message, Objects, ObjectsError, Read as StateRead, View, Worker, names,
};
use zegel_crypto::Keyring;
use zegel_ttp::{CompiledProject, ProjectDocument, Ttp};

/// 2026-11-22, inside the project's period.
const NOW: Millis = Millis(1_795_305_600_000);
const DAY_MS: i64 = 86_400_000;
const TTP_ADDRESS: &str = "CBE:0206653946";
const CANARY: &str = "PUBLICATION-OF-THE-HOSPITAL";
const BATCH: &str = "niss,name,value\n85061511796,Janssens,7\n";

struct Bench {
    ttp: Ttp,
    keys: Keyring,
    objects: MemoryObjects,
    stopping: AtomicBool,
    /// Committed state of the project's key.
    rows: Mutex<BTreeMap<Bytes, Bytes>>,
    /// The one row that a decision reads.
    quota: Mutex<Option<(Bytes, Bytes)>>,
    _scratch: tempfile::TempDir,
}

fn bench(extra: &str) -> Bench {
    let text = format!(
        "name = \"lab-registry\"\nsenders = [\"{SENDER}\"]\nrecipient = \"CBE:0123456749\"\n\
         valid = {{ from = \"2026-01-01\", until = \"2026-12-31\" }}\n{extra}\n\
         [[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\n\
         [[fields]]\npath = \"name\"\naction = \"drop\"\n[[fields]]\npath = \"value\"\naction = \"keep\"\n"
    );
    let document = ProjectDocument::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let keys = Keyring::generate_in_memory();
    let root = keys.ensure_project_root(&document.root_name()).unwrap();
    let project = CompiledProject::new(document, root.expose()).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let ttp = Ttp::new(vec![project], scratch.path().to_owned()).unwrap();
    Bench {
        ttp,
        keys,
        objects: MemoryObjects::default(),
        stopping: AtomicBool::new(false),
        rows: Mutex::default(),
        quota: Mutex::default(),
        _scratch: scratch,
    }
}

fn inbound(content: Content) -> Inbound {
    Inbound {
        submission: MessageId([9; 16]),
        sender: sender(),
        recipient: TTP_ADDRESS.parse().unwrap(),
        project: "lab-registry".to_owned(),
        part: Part {
            file_name: format!("{CANARY}.csv"),
            mime: "text/csv".to_owned(),
            size: 1,
            digest: Sha256([0; 32]),
            content,
        },
        publication_id: "P1".to_owned(),
        handle: None,
    }
}

impl Bench {
    fn message(&self, inbound: &Inbound, attachment: &[u8]) -> Message {
        let key = names::project_key(&self.keys, &inbound.project);
        let mut envelope = Envelope::new(MessageId([1; 16]), "/zegel/mailbox", key, Millis(1), inbound).unwrap();
        envelope.attachment = Bytes::copy_from_slice(attachment);
        envelope.deadline = Some(NOW.plus(1_000));
        envelope.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().ok();
        Message { number: 1, envelope, attempt: 0, job: None }
    }

    fn decide_at(&self, message: &Message, now: Millis) -> Decision {
        let context = Context { now, keys: &self.keys };
        let mut view = View::default();
        for read in self.ttp.reads(message, &context) {
            let is_quota = matches!(read, StateRead::One { space, .. } if space == TTP_QUOTAS);
            let row = self.quota.lock().unwrap().clone().filter(|_| is_quota);
            view.load(read, row.into_iter().collect());
        }
        self.ttp.decide(message, &view, &context).unwrap()
    }

    fn decide(&self, message: &Message) -> Decision {
        self.decide_at(message, NOW)
    }

    /// Runs the job that the worker asks for and lets it decide again.
    fn after_job(&self, mut message: Message) -> Decision {
        let Decision::Job { spec } = self.decide(&message) else { panic!("expected a job") };
        message.job = Some(self.ttp.run_job(&spec, self).map(Bytes::from));
        self.decide(&message)
    }

    fn put(&self, content: &[u8]) -> Content {
        let mut sink = self.objects.create().unwrap();
        sink.write_all(content).unwrap();
        Content::Object(sink.finish().unwrap())
    }
}

fn done(decision: Decision) -> Effects {
    match decision {
        Decision::Done(effects) => effects,
        other => panic!("expected effects: {other:?}"),
    }
}

/// The one refusal, after checking that nothing else leaves.
fn refusal(effects: &Effects) -> Reason {
    let [produced] = &effects.produced[..] else { panic!("expected one message") };
    assert_eq!(produced.channel.name, "receipts.due");
    let answered: Answered = produced.envelope.payload().unwrap();
    assert_eq!(produced.envelope.partitionkey, names::submission_key(MessageId([9; 16])));
    assert_eq!(answered.recipient, TTP_ADDRESS.parse().unwrap());
    match answered.answer {
        Answer::Refused { reason } => reason,
        other => panic!("expected a refusal: {other:?}"),
    }
}

fn delivered(effects: &Effects) -> (&Envelope, Deliver) {
    let envelope = &effects.produced[0].envelope;
    assert_eq!(effects.produced[0].channel.name, "mailbox.deliver");
    (envelope, envelope.payload().unwrap())
}

#[test]
fn a_small_batch_is_delivered_anew_and_nothing_of_the_senders_message_crosses() {
    let bench = bench("");
    let effects = done(bench.decide(&bench.message(&inbound(Content::Attached), BATCH.as_bytes())));
    assert_eq!(effects.produced.len(), 1);
    let (envelope, deliver) = delivered(&effects);
    let recipient: MailboxAddress = "CBE:0123456749".parse().unwrap();
    assert_eq!(envelope.partitionkey, names::address_key(&bench.keys, &recipient));
    assert_eq!((envelope.time, envelope.deadline, envelope.traceparent), (NOW, Some(NOW.plus(1_000)), None));
    assert_eq!((deliver.recipient, deliver.content_type), (recipient, ContentType::Document));
    assert_eq!((deliver.answers, deliver.answers_for), (Some(MessageId([9; 16])), TTP_ADDRESS.parse().ok()));
    assert_eq!(deliver.title, "lab-registry batch");
    assert!(matches!(deliver.from, From::Handle(_)));
    let part = &deliver.parts[0];
    assert_eq!(part.size, 1_024, "the size is a bucket");
    assert_eq!(
        (part.file_name.as_str(), part.mime.as_str(), &part.content),
        ("batch.csv", "text/csv", &Content::Attached)
    );
    assert_eq!(
        (part.size, part.digest),
        (envelope.attachment.len() as u64, zegel_crypto::hash::sha256(&envelope.attachment))
    );
    let wire = envelope.encode().unwrap();
    for secret in ["71000436", CANARY, "0af7651916cd43dd", "85061511796", "Janssens"] {
        assert!(!wire.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }
}

#[test]
fn each_delivery_has_a_handle_and_an_id_of_its_own() {
    let bench = bench("");
    let message = bench.message(&inbound(Content::Attached), BATCH.as_bytes());
    let [one, two] = [(); 2].map(|()| delivered(&done(bench.decide(&message))).1);
    assert_ne!(one.item, two.item);
    assert_ne!(one.from, two.from);
}

#[test]
fn whoever_may_not_send_is_answered_and_nothing_is_forwarded() {
    let bench = bench("");
    let code =
        |inbound: &Inbound, now| refusal(&done(bench.decide_at(&bench.message(inbound, BATCH.as_bytes()), now))).code;
    let good = inbound(Content::Attached);
    assert_eq!(code(&Inbound { project: "other".to_owned(), ..good.clone() }, NOW), "ZGL-TTP-PROJECT");
    let stranger = "NIHII-HOSPITAL:71000139".parse().unwrap();
    assert_eq!(code(&Inbound { sender: stranger, ..good.clone() }, NOW), "ZGL-TTP-SENDER");
    assert_eq!(code(&good, NOW.plus(-365 * DAY_MS)), "ZGL-TTP-EARLY");
    assert_eq!(code(&good, NOW.plus(1_000)), "ZGL-DEADLINE");
    let mut late = bench.message(&good, BATCH.as_bytes());
    late.envelope.deadline = None;
    assert_eq!(refusal(&done(bench.decide_at(&late, NOW.plus(60 * DAY_MS)))).code, "ZGL-TTP-EXPIRED");
}

#[test]
fn the_first_and_the_last_day_belong_to_the_period() {
    let bench = bench("");
    let mut message = bench.message(&inbound(Content::Attached), BATCH.as_bytes());
    message.envelope.deadline = None;
    let opens = Millis(1_767_225_600_000); // 2026-01-01T00:00:00Z
    let closes = opens.plus(365 * DAY_MS);
    for (now, is_open) in [(opens.plus(-1), false), (opens, true), (closes.plus(-1), true), (closes, false)] {
        let effects = done(bench.decide_at(&message, now));
        assert_eq!(effects.produced[0].channel.name == "mailbox.deliver", is_open, "{now:?}");
    }
}

#[test]
fn a_batch_with_bad_rows_is_refused_with_their_numbers() {
    let bench = bench("");
    let batch = format!("{BATCH}1,x,2\n");
    let reason = refusal(&done(bench.decide(&bench.message(&inbound(Content::Attached), batch.as_bytes()))));
    assert_eq!((reason.code.as_str(), reason.bad_rows, reason.rows[0].row), ("ZGL-TTP-ROWS", 1, 2));
    let text = serde_json::to_string(&reason).unwrap();
    assert!(!text.contains("85061511796") && !text.contains("Janssens"));
}

#[test]
fn rows_that_are_left_out_are_told_to_the_sender_apart() {
    let bench = bench("bad_rows = \"refuse-row\"");
    let batch = format!("{BATCH}1,x,2\n");
    let effects = done(bench.decide(&bench.message(&inbound(Content::Attached), batch.as_bytes())));
    assert_eq!(delivered(&effects).1.answers, Some(MessageId([9; 16])));
    let notice: Deliver = effects.produced[1].envelope.payload().unwrap();
    assert_eq!((notice.recipient, notice.from, notice.answers), (sender(), From::Platform, None));
    assert_eq!(notice.notice.unwrap().reason.unwrap().bad_rows, 1);
}

#[test]
fn a_large_batch_goes_from_object_to_object() {
    let bench = bench("");
    let batch = BATCH.to_owned() + &"85061511796,x,8\n".repeat(20_000);
    let effects = done(bench.after_job(bench.message(&inbound(bench.put(batch.as_bytes())), b"")));
    let (envelope, deliver) = delivered(&effects);
    assert!(envelope.attachment.is_empty());
    let Content::Object(object) = &deliver.parts[0].content else { panic!("expected an object") };
    let mut out = Vec::new();
    bench.objects.open(object).unwrap().read_to_end(&mut out).unwrap();
    let text = String::from_utf8(out.clone()).unwrap();
    assert_eq!(text.lines().filter(|line| !line.is_empty()).count(), 20_002);
    assert_eq!(out.len() as u64, zegel_ttp::padding::bucket(text.trim_end().len() as u64 + 1));
    assert_eq!((deliver.parts[0].size, deliver.parts[0].digest), (out.len() as u64, zegel_crypto::hash::sha256(&out)));
}

#[test]
fn an_attachment_whose_result_is_too_large_for_one_becomes_an_object() {
    let bench = bench("");
    let batch = BATCH.to_owned() + &"85061511796,x,8\n".repeat(3_000);
    assert!(batch.len() < ATTACHMENT_MAX);
    let effects = done(bench.after_job(bench.message(&inbound(Content::Attached), batch.as_bytes())));
    assert!(matches!(delivered(&effects).1.parts[0].content, Content::Object(_)));
}

#[test]
fn a_bad_large_batch_is_refused_and_leaves_no_object() {
    let bench = bench("");
    let content = bench.put(format!("{BATCH}1,x,2\n").as_bytes());
    let effects = done(bench.after_job(bench.message(&inbound(content), b"")));
    assert_eq!(refusal(&effects).code, "ZGL-TTP-ROWS");
    assert_eq!(bench.objects.list().unwrap().len(), 1, "only what came in");
}

#[test]
fn a_job_that_fails_for_good_is_dead_and_answered() {
    let bench = bench("");
    let missing = ObjectRef { name: Sha256([1; 32]), salt: Sha256([2; 32]), key_version: 1, size: 5 };
    match bench.after_job(bench.message(&inbound(Content::Object(missing)), b"")) {
        Decision::Dead { code, effects } => {
            assert_eq!(code, "ZGL-OBJECT-MISSING");
            assert_eq!(refusal(&effects).code, code);
        }
        other => panic!("expected a dead letter: {other:?}"),
    }
}

#[test]
fn a_job_stops_with_the_process_and_may_be_started_again() {
    let bench = bench("");
    let message = bench.message(&inbound(bench.put(BATCH.as_bytes())), b"");
    let Decision::Job { spec } = bench.decide(&message) else { panic!("expected a job") };
    bench.stopping.store(true, Ordering::SeqCst);
    let error = bench.ttp.run_job(&spec, &bench).unwrap_err();
    assert_eq!((error.code.as_str(), error.retryable), ("ZGL-STOPPING", true));
    bench.stopping.store(false, Ordering::SeqCst);
    assert!(bench.ttp.run_job(&spec, &bench).is_ok());
}

#[test]
fn giving_a_message_up_answers_it() {
    let bench = bench("");
    let message = bench.message(&inbound(Content::Attached), BATCH.as_bytes());
    let context = Context { now: NOW, keys: &bench.keys };
    let mut view = View::default();
    bench.ttp.reads(&message, &context).into_iter().for_each(|read| view.load(read, Vec::new()));
    let effects = bench.ttp.give_up(&message, "ZGL-PANIC", &view, &context).unwrap();
    assert!(effects.changes.iter().any(|change| change.space == QUARANTINE), "it stands nowhere");
    assert_eq!(refusal(&effects).code, "ZGL-PANIC");
}

impl JobIo for Bench {
    fn objects(&self) -> &dyn Objects {
        &self.objects
    }
    fn read(&self, read: StateRead) -> Result<Vec<(Bytes, Bytes)>, JobError> {
        let StateRead::Range { from, to, limit, .. } = read else { panic!("the job reads ranges") };
        let rows = self.rows.lock().unwrap();
        let within = rows.range(from..).take_while(|(sub, _)| to.as_ref().is_none_or(|end| *sub < end));
        Ok(within.take(limit).map(|(sub, value)| (sub.clone(), value.clone())).collect())
    }
    fn keys(&self) -> &dyn Keys {
        &self.keys
    }
    fn now(&self) -> Millis {
        NOW
    }
    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

type Stored = Arc<Mutex<HashMap<Sha256, Vec<u8>>>>;

/// Objects in memory, named by their content.
#[derive(Default)]
pub(crate) struct MemoryObjects(Stored);

struct MemorySink(Stored, Vec<u8>);

impl Write for MemorySink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ObjectSink for MemorySink {
    fn finish(self: Box<Self>) -> Result<ObjectRef, ObjectsError> {
        let name = zegel_crypto::hash::sha256(&self.1);
        let size = self.1.len() as u64;
        self.0.lock().unwrap().insert(name, self.1);
        Ok(ObjectRef { name, salt: Sha256([0; 32]), key_version: 1, size })
    }
}

impl Objects for MemoryObjects {
    fn create(&self) -> Result<Box<dyn ObjectSink>, ObjectsError> {
        Ok(Box::new(MemorySink(self.0.clone(), Vec::new())))
    }
    fn open(&self, object: &ObjectRef) -> Result<Box<dyn Read + Send>, ObjectsError> {
        let bytes = self.0.lock().unwrap().get(&object.name).cloned();
        Ok(Box::new(Cursor::new(bytes.ok_or(ObjectsError::Missing)?)))
    }
    fn delete(&self, name: &Sha256) -> Result<(), ObjectsError> {
        self.0.lock().unwrap().remove(name);
        Ok(())
    }
    fn list(&self) -> Result<Vec<StoredObject>, ObjectsError> {
        let objects = self.0.lock().unwrap();
        Ok(objects
            .iter()
            .map(|(name, bytes)| StoredObject { name: *name, modified: NOW, size: bytes.len() as u64 })
            .collect())
    }
}

#[test]
fn what_was_shown_before_is_remembered_with_the_delivery_and_counts_for_the_next_batch() {
    let bench = bench("patient = [\"niss\"]\nsmall_cells = { quasi = [\"value\"], k = 3 }");
    let batch = |serials: std::ops::Range<u16>| {
        serials.fold("niss,name,value\n".to_owned(), |text, serial| {
            text + &format!("{},Janssens,7\n", schemas::ids::Ssin::from_parts(1985, 6, 15, serial).unwrap())
        })
    };
    let send = |number, serials| {
        let mut message = bench.message(&inbound(Content::Attached), batch(serials).as_bytes());
        message.number = number;
        let mut effects = done(bench.after_job(message));
        effects.changes.retain(|change| change.space == CELLS);
        let changes = effects.changes.iter().map(|change| (change.sub.clone(), change.value.clone().unwrap()));
        bench.rows.lock().unwrap().extend(changes);
        effects
    };
    let first = send(1, 0..3);
    assert_eq!((first.produced.len(), first.changes.len()), (1, 2), "one bucket of pairs, one report");
    // Three who were shown, one who would stand out: the sender is told that a row was held back.
    let second = send(2, 0..4);
    assert_eq!((second.produced.len(), second.changes.len()), (2, 1), "nobody new was shown");
    let notice: Deliver = second.produced[1].envelope.payload().unwrap();
    let reason = notice.notice.unwrap().reason.unwrap();
    assert_eq!(
        (reason.code.as_str(), reason.text.as_str()),
        ("ZGL-TTP-CELLS", "1 of 4 rows were held back: they would tell too few patients apart")
    );
    assert!(!reason.text.contains("850615"));
    // Without the ledger's word the same four would have gone out; with three new ones they do.
    let third = send(3, 3..6);
    assert_eq!((third.produced.len(), third.changes.len()), (1, 2));
    assert_eq!(refusal(&send(4, 7..8)).code, "ZGL-TTP-CELLS");
}

/// Applies what a decision changed, as the runner does.
fn apply(bench: &Bench, effects: &Effects) {
    for change in &effects.changes {
        *bench.quota.lock().unwrap() = change.value.clone().map(|value| (change.sub.clone(), value));
    }
}

#[test]
fn a_sender_who_has_more_numbers_encoded_than_agreed_is_refused_until_the_next_day() {
    let bench = bench("quota = { identifiers_per_day = 3 }");
    let batch = |numbers: &[&str]| {
        let rows: Vec<String> = numbers.iter().map(|number| format!("{number},x,1\n")).collect();
        format!("niss,name,value\n{}", rows.concat())
    };
    let message = |numbers: &[&str]| bench.message(&inbound(Content::Attached), batch(numbers).as_bytes());
    let (first, second) = (["85061511796", "85061511895"], ["85061511994", "85061512093"]);
    for number in first.iter().chain(&second) {
        assert!(schemas::Ssin::parse(number).is_ok(), "a test number is wrong");
    }
    let effects = done(bench.decide(&message(&first)));
    assert_eq!(effects.produced[0].channel.name, "mailbox.deliver");
    apply(&bench, &effects);
    // The same again costs nothing, and is not written again.
    let again = done(bench.decide(&message(&first)));
    assert!(again.changes.is_empty() && again.produced[0].channel.name == "mailbox.deliver");
    let too_many = done(bench.decide(&message(&second)));
    assert_eq!(refusal(&too_many).code, "ZGL-TTP-QUOTA");
    assert!(too_many.changes.iter().all(|change| change.space != TTP_QUOTAS), "a refused batch uses up the quota");
    // A job is counted like a step.
    let object = bench.put(batch(&second).as_bytes());
    let by_job = done(bench.after_job(bench.message(&inbound(object), b"")));
    assert_eq!(refusal(&by_job).code, "ZGL-TTP-QUOTA");
    let mut tomorrow = message(&second);
    tomorrow.envelope.deadline = Some(NOW.plus(2 * DAY_MS));
    let effects = done(bench.decide_at(&tomorrow, NOW.plus(DAY_MS)));
    assert_eq!(effects.produced[0].channel.name, "mailbox.deliver");
}
