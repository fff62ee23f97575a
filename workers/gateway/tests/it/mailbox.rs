//! Handing over, listing, reading, moving, deleting.

use crate::bed::{Answer, Bed, HOSPITAL, REGISTRY, TTP, query, request};
use axum::body::Body;
use axum::http::{Method, StatusCode};
use bytes::Bytes;
use futures_util::stream;
use schemas::messages::{ContentType, Deliver, From, ReceiptsWanted};
use schemas::{Envelope, MailboxAddress, MessageId, Millis};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use zegel_core::memory::Memory;
use zegel_core::sealing::seal_message;
use zegel_core::{Broker, BrokerError, Outgoing, Slot, Subscription};
use zegel_crypto::hash::sha256;

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_arrives_whole_and_every_wanted_receipt_comes_back() {
    let bed = Bed::new().await;
    let (hospital, registry) = (bed.open(HOSPITAL).await, bed.open(REGISTRY).await);
    let sent =
        bed.send(&hospital, &format!("{}&receipts=published,received,read&meta.k=v", query("A1")), "a;b\n").await;
    assert_eq!(sent.status, StatusCode::ACCEPTED);
    let status = sent.json()["status"].as_str().unwrap().to_owned();
    bed.until(&status, &hospital, |life| life["final"] == true && life["recipients"][0]["state"]["is"] == "done").await;

    let page = bed.get(&format!("/v1/boxes/{REGISTRY}/inbox"), &registry).await.json();
    let item = &page["items"][0];
    assert_eq!((&item["title"], &item["from"]["sender"]), (&json!("Lab"), &json!(HOSPITAL)));
    assert_eq!(item["meta"], json!({ "k": "v" }));
    let place = format!("/v1/boxes/{REGISTRY}/items/{}", item["id"].as_str().unwrap());
    let read = bed.get(&place, &registry).await.json();
    assert_eq!(read["parts"][0]["file_name"], "lab.csv");
    let part = bed.get(&format!("{place}/parts/0"), &registry).await;
    assert_eq!(part.bytes, "a;b\n");
    assert_eq!(part.headers["content-type"], "text/csv");
    assert!(part.headers.contains_key("content-digest"));
    assert_eq!(bed.get(&format!("{place}/parts/1"), &registry).await.refusal(), (404, "ZGL-NOT-FOUND".to_owned()));

    let inbox = format!("/v1/boxes/{HOSPITAL}/inbox");
    let told = bed.until(&inbox, &hospital, |page| page["items"].as_array().unwrap().len() == 3).await;
    let acks: Vec<&Value> = told["items"].as_array().unwrap().iter().map(|item| &item["notice"]["ack"]).collect();
    for ack in ["PUBLISHED", "RECEIVED", "READ"] {
        assert!(acks.contains(&&json!(ack)), "{ack} did not come back");
    }
    let life = bed.until(&status, &hospital, |life| life["recipients"][0]["read_at"].is_number()).await;
    assert_eq!(life["publication_id"], "A1");
    let sent = bed.get(&format!("/v1/boxes/{HOSPITAL}/sent"), &hospital).await.json();
    assert_eq!(sent["items"][0]["publication_id"], "A1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_publication_id_gets_the_first_answer_and_other_content_is_refused() {
    let mut bed = Bed::still(Memory::new(), |_| {});
    let hospital = bed.token_of(HOSPITAL);
    let first = bed.send(&hospital, &to_ttp("A1"), "x").await;
    assert_eq!(first.status, StatusCode::ACCEPTED);
    // Before any worker saw it …
    for _ in 0..2 {
        assert_eq!(bed.send(&hospital, &to_ttp("A1"), "x").await.bytes, first.bytes);
    }
    let reused = (409, "ZGL-PUB-REUSED".to_owned());
    assert_eq!(bed.send(&hospital, &to_ttp("A1"), "y").await.refusal(), reused);
    assert_eq!(bed.published("mailbox.submitted").await, 1);
    // … and after a restart of the front, from the worker's row.
    bed.start();
    bed.until("/v1/stats", &bed.operator, |stats| stats["channels"][0]["waiting"] == 0).await;
    bed.router = zegel_gateway::router(bed.platform.clone());
    assert_eq!(bed.send(&hospital, &to_ttp("A1"), "x").await.bytes, first.bytes);
    assert_eq!(bed.send(&hospital, &to_ttp("A1"), "y").await.refusal(), reused);
    assert_eq!(bed.send(&hospital, &format!("{}&meta.a=b", to_ttp("A1")), "x").await.refusal(), reused);
    assert_eq!(bed.published("mailbox.submitted").await, 1);
}

/// Takes its time, so that many publish at once.
struct Slow(Arc<Memory>);

#[async_trait::async_trait]
impl Broker for Slow {
    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<(), BrokerError>> {
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.0.publish(batch).await
    }

    async fn subscribe(&self, slot: Slot, from: u64) -> Result<Box<dyn Subscription>, BrokerError> {
        self.0.subscribe(slot, from).await
    }
}

/// Sends messages of these contents under one publication id at the same time.
async fn race(bed: &Bed, token: &str, id: &str, contents: impl IntoIterator<Item = u8>) -> Vec<Answer> {
    let query = to_ttp(id);
    futures_util::future::join_all(contents.into_iter().map(|byte| bed.send(token, &query, vec![byte; 70_000]))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_with_one_publication_id_at_the_same_time_one_is_taken_and_each_other_one_knows() {
    let mut bed = Bed::still(Memory::new(), |_| {});
    bed.over(Arc::new(Slow(bed.memory.clone())));
    let hospital = bed.token_of(HOSPITAL);
    let answers = race(&bed, &hospital, "A1", 0..8).await;
    let taken = answers.iter().filter(|answer| answer.status == StatusCode::ACCEPTED).count();
    assert_eq!(taken, 1, "so many different messages were acknowledged under one publication id");
    for refused in answers.iter().filter(|answer| answer.status != StatusCode::ACCEPTED) {
        assert_eq!(refused.refusal(), (409, "ZGL-PUB-REUSED".to_owned()));
    }
    assert_eq!(bed.published("mailbox.submitted").await, 1);
    settled(&bed, 1).await;
    // The same content is one message, and everybody gets its answer.
    let answers = race(&bed, &hospital, "A2", [7; 8]).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::ACCEPTED && answer.bytes == answers[0].bytes));
    assert_eq!(bed.published("mailbox.submitted").await, 2);
    settled(&bed, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_over_64_kib_becomes_an_object_and_arrives_byte_for_byte() {
    let bed = Bed::new().await;
    let (hospital, registry) = (bed.open(HOSPITAL).await, bed.open(REGISTRY).await);
    for (id, size) in [("B1", 64 * 1024), ("B2", 64 * 1024 + 1), ("B3", 3 * MIB + 17)] {
        let content: Vec<u8> = (0..=250).cycle().take(size).collect();
        let before = bed.object_files().len();
        let digest = format!("{}&digest={}", query(id), sha256(&content));
        assert_eq!(bed.send(&hospital, &digest, pieces(content.clone())).await.status, StatusCode::ACCEPTED);
        assert_eq!(bed.object_files().len() - before, usize::from(size > 64 * 1024));
        let inbox = format!("/v1/boxes/{REGISTRY}/inbox");
        let page = bed.until(&inbox, &registry, |page| page["items"][0]["size"] == size).await;
        let item = page["items"][0]["id"].as_str().unwrap();
        let part = bed.get(&format!("/v1/boxes/{REGISTRY}/items/{item}/parts/0"), &registry).await;
        assert_eq!(part.headers["content-length"], size.to_string().as_str());
        assert!(part.bytes == content, "content of {size} bytes changed on its way");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_ten_mebibytes_is_refused_while_it_streams_and_leaves_nothing() {
    // A tenth of the limit shows the same and is quicker; that the limit is 10 MiB is said here.
    const LIMIT: usize = MIB;
    let bed = Bed::still(Memory::new(), |config| {
        assert_eq!(config.message_max, 10 * 1024 * 1024);
        config.message_max = 1024 * 1024;
    });
    bed.memory_box(REGISTRY).await;
    let hospital = bed.token_of(HOSPITAL);
    let refused = bed.send(&hospital, &query("C1"), pieces(vec![7; LIMIT + 1])).await;
    assert_eq!(refused.refusal(), (413, "801".to_owned()));
    settled(&bed, 0).await;
    assert_eq!(bed.published("mailbox.submitted").await, 0);
    // An announced length is refused before a byte is taken.
    assert_eq!(bed.send(&hospital, &query("C2"), vec![7; LIMIT + 1]).await.code(), "801");
    assert_eq!(bed.send(&hospital, &query("C3"), pieces(vec![7; LIMIT])).await.status, StatusCode::ACCEPTED);
    settled(&bed, 1).await;
    // A batch for a project may be larger.
    assert_eq!(bed.send(&hospital, &to_ttp("C4"), pieces(vec![7; LIMIT + 1])).await.status, StatusCode::ACCEPTED);
    settled(&bed, 2).await;
    // A repetition and a wrong digest leave no second object.
    assert_eq!(bed.send(&hospital, &to_ttp("C4"), pieces(vec![7; LIMIT + 1])).await.status, StatusCode::ACCEPTED);
    let wrong = format!("{}&digest={}", query("C5"), sha256(b"other"));
    assert_eq!(bed.send(&hospital, &wrong, pieces(vec![7; 100_000])).await.refusal(), (422, "816".to_owned()));
    settled(&bed, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_in_the_middle_leaves_nothing() {
    let bed = Bed::still(Memory::new(), |_| {});
    bed.memory_box(REGISTRY).await;
    let broken = stream::iter([Ok(Bytes::from(vec![7; MIB])), Err(std::io::Error::other("gone"))]);
    let answer = bed.send(&bed.token_of(HOSPITAL), &query("D1"), Body::from_stream(broken)).await;
    assert_eq!(answer.refusal(), (400, "ZGL-HTTP-BODY".to_owned()));
    settled(&bed, 0).await;
    assert_eq!(bed.published("mailbox.submitted").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_of_a_submission_has_its_code_and_field() {
    let bed = Bed::still(Memory::new(), |_| {});
    bed.memory_box(REGISTRY).await;
    let hospital = bed.token_of(HOSPITAL);
    let ask = async |query: String| {
        let answer = bed.send(&hospital, &query, "x").await;
        (answer.code(), answer.json()["field"].as_str().unwrap_or_default().to_owned())
    };
    let is = |code: &str, field: &str| (code.to_owned(), field.to_owned());
    let with = |change: &str| format!("{}&{change}", query("E1"));
    assert_eq!(ask(with("to=NIHII-HOSPITAL:71000437")).await, is("802", "to[1]"));
    assert_eq!(ask(with("to=NIHII-HOSPITAL:71099812")).await, is("802", "to[1]"), "a recipient without a mailbox");
    assert_eq!(ask(with("to=CBE:0123456749:DOCTOR")).await, is("803", "to[1]"));
    assert_eq!(ask(with("to=XYZ:0123456749")).await, is("804", "to[1]"));
    assert_eq!(ask(with("to=NIHII-XYZ:71000436")).await, is("805", "to[1]"));
    assert_eq!(ask(query("E1").replace(REGISTRY, TTP)).await, is("ZGL-IN-FIELD", "project"));
    assert_eq!(ask(with("project=p")).await, is("ZGL-IN-FIELD", "to"));
    assert_eq!(ask(query("far%20too%20long")).await, is("ZGL-IN-FIELD", "publication_id"));
    assert_eq!(ask(query("E1").replace(HOSPITAL, REGISTRY)).await, is("ZGL-AUTH-ROLE", ""), "another's mailbox");
    let mut digest = request(Method::POST, &format!("/v1/messages?{}", query("E1")), &hospital, Body::from("x"));
    digest.headers_mut().insert("content-digest", "sha-256=:AAAA:".parse().unwrap());
    assert_eq!(bed.call(digest).await.refusal(), (422, "816".to_owned()));
    let mut coded = request(Method::POST, &format!("/v1/messages?{}", query("E1")), &hospital, Body::from("x"));
    coded.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    assert_eq!(bed.call(coded).await.refusal(), (415, "ZGL-HTTP-ENCODING".to_owned()));
    assert_eq!(bed.published("mailbox.submitted").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_and_nobody_else_moves_and_deletes() {
    let bed = Bed::new().await;
    let (hospital, registry) = (bed.open(HOSPITAL).await, bed.open(REGISTRY).await);
    bed.send(&hospital, &query("F1"), "x").await;
    let inbox = format!("/v1/boxes/{REGISTRY}/inbox");
    let page = bed.until(&inbox, &registry, |page| page["items"].as_array().unwrap().len() == 1).await;
    let item = page["items"][0]["id"].clone();
    let unknown = MessageId([9; 16]).to_string();
    let order = json!({ "items": [item, unknown], "to": "bin" });
    let move_path = format!("/v1/boxes/{REGISTRY}/move");
    for stranger in [&hospital, &bed.operator] {
        assert_eq!(bed.post(&move_path, stranger, &order).await.refusal(), (403, "ZGL-AUTH-ROLE".to_owned()));
        assert_eq!(bed.get(&inbox, stranger).await.refusal(), (403, "ZGL-AUTH-ROLE".to_owned()));
    }
    let moved = bed.post(&move_path, &registry, &order).await.json();
    assert_eq!(moved, json!({ "applied": [item], "unknown": [unknown] }));
    assert_eq!(bed.get(&inbox, &registry).await.json()["items"], json!([]));
    let bin = format!("/v1/boxes/{REGISTRY}/bin");
    assert_eq!(bed.get(&bin, &registry).await.json()["items"][0]["id"], item);
    let delete = format!("/v1/boxes/{REGISTRY}/delete");
    assert_eq!(bed.post(&delete, &registry, &json!({ "items": [item] })).await.json()["applied"], json!([item]));
    assert_eq!(bed.get(&bin, &registry).await.json()["items"], json!([]));
    let to_sent = json!({ "items": [unknown], "to": "sent" });
    assert_eq!(bed.post(&move_path, &registry, &to_sent).await.code(), "ZGL-IN-FIELD");
    let info = bed.get(&format!("/v1/boxes/{REGISTRY}"), &registry).await.json();
    assert_eq!((&info["count"], &info["bytes"]), (&json!(0), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_gets_no_token_of_an_open_box_and_a_new_one_is_never_issued_unseen() {
    let bed = Bed::new().await;
    let (hospital, registry) = (bed.open(HOSPITAL).await, bed.open(REGISTRY).await);
    let again = bed.post("/v1/boxes", &bed.operator, &json!({ "address": REGISTRY, "max_bytes": 77 })).await;
    assert_eq!((again.status, again.json()), (StatusCode::OK, json!({ "address": REGISTRY })));
    let inbox = format!("/v1/boxes/{REGISTRY}/inbox");
    assert_eq!(bed.get(&inbox, &registry).await.json()["items"], json!([]), "the first token is valid still");
    assert_eq!(bed.get(&format!("/v1/boxes/{REGISTRY}"), &registry).await.json()["max_bytes"], 77);

    let renew = format!("/v1/boxes/{REGISTRY}/token");
    assert_eq!(bed.post(&renew, &hospital, &json!({})).await.refusal(), (403, "ZGL-AUTH-ROLE".to_owned()));
    let unknown = bed.post("/v1/boxes/CBE:0199999944/token", &bed.operator, &json!({})).await;
    assert_eq!(unknown.refusal(), (404, "ZGL-NOT-FOUND".to_owned()));
    let mut token = registry;
    for (caller, who) in [(Some(bed.operator.clone()), "the operator"), (None, "its owner")] {
        let answer = bed.post(&renew, caller.as_ref().unwrap_or(&token), &json!({})).await;
        assert_eq!(answer.status, StatusCode::CREATED);
        assert_eq!(bed.get(&inbox, &token).await.refusal(), (401, "ZGL-AUTH-TOKEN".to_owned()), "a revoked token");
        token = answer.json()["token"].as_str().unwrap().to_owned();
        bed.until(&inbox, &token, |page| {
            let items = page["items"].as_array().unwrap();
            items.iter().any(|item| item["title"].as_str().unwrap().contains(who))
        })
        .await;
    }
    assert_eq!(bed.get(&format!("/v1/boxes/{HOSPITAL}/inbox"), &hospital).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_listed_newest_first_page_by_page() {
    let bed = Bed::new().await;
    let (hospital, registry) = (bed.open(HOSPITAL).await, bed.open(REGISTRY).await);
    for n in 0..5 {
        bed.send(&hospital, &query(&format!("G{n}")).replace("title=Lab", &format!("title=T{n}")), "x").await;
    }
    for (address, token, folder) in [(REGISTRY, &registry, "inbox"), (HOSPITAL, &hospital, "sent")] {
        let path = format!("/v1/boxes/{address}/{folder}");
        bed.until(&path, token, |page| page["items"].as_array().unwrap().len() == 5).await;
        let titles = async |query: &str| {
            let page = bed.get(&format!("{path}?{query}"), token).await.json();
            let titles = page["items"].as_array().unwrap().iter().map(|item| item["title"].clone()).collect::<Vec<_>>();
            (json!(titles), page["next"].clone())
        };
        // Messages of one sender were accepted in one instant of the test's clock, so only the inbox has an order.
        if folder == "inbox" {
            assert_eq!(titles("limit=2").await, (json!(["T4", "T3"]), json!(3)));
            assert_eq!(titles("limit=2&start=3").await, (json!(["T2", "T1"]), json!(5)));
            assert_eq!(titles("before=3").await.0, json!(["T1", "T0"]));
        }
        assert_eq!(titles("limit=2&start=5").await.0.as_array().unwrap().len(), 1);
        assert_eq!(titles("start=6").await, (json!([]), Value::Null));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_ttp_delivered_shows_nothing_of_its_sender() {
    let bed = Bed::new().await;
    let registry = bed.open(REGISTRY).await;
    let hidden = MessageId([0xab; 16]);
    let recipient: MailboxAddress = REGISTRY.parse().unwrap();
    let deliver = Deliver {
        item: MessageId([1; 16]),
        recipient: recipient.clone(),
        from: From::Handle(MessageId([2; 16])),
        content_type: ContentType::Document,
        title: "lab-registry".to_owned(),
        parts: Vec::new(),
        notice: None,
        meta: BTreeMap::new(),
        answers: Some(hidden),
        answers_for: Some(TTP.parse().unwrap()),
        receipts: ReceiptsWanted { published: true, received: true, read: true },
    };
    bed.publish("mailbox.deliver", &recipient, &deliver).await;
    let inbox = format!("/v1/boxes/{REGISTRY}/inbox");
    let page = bed.until(&inbox, &registry, |page| page["items"].as_array().unwrap().len() == 1).await;
    assert_eq!(page["items"][0]["from"], json!({ "handle": MessageId([2; 16]).to_string() }));
    let item = bed.get(&format!("/v1/boxes/{REGISTRY}/items/{}", MessageId([1; 16])), &registry).await.json();
    for shown in [page.to_string(), item.to_string()] {
        for secret in [hidden.to_string().as_str(), TTP, "hidden", "answers"] {
            assert!(!shown.contains(secret), "{secret} is shown");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_is_seen_by_its_sender_and_the_operator_alone() {
    let mut bed = Bed::still(Memory::new(), |_| {});
    let (hospital, registry) = (bed.token_of(HOSPITAL), bed.token_of(REGISTRY));
    let sent = bed.send(&hospital, &to_ttp("H1"), "x").await.json();
    let status = sent["status"].as_str().unwrap().to_owned();
    for started in [false, true] {
        if started {
            bed.start();
            bed.until(&status, &hospital, |life| life["publication_id"] == "H1").await;
        }
        assert_eq!(bed.get(&status, &hospital).await.json()["final"], false);
        assert_eq!(bed.get(&status, &bed.operator).await.status, StatusCode::OK);
        assert_eq!(bed.get(&status, &registry).await.refusal(), (404, "ZGL-NOT-FOUND".to_owned()));
    }
}

/// The query of a batch for a project.
fn to_ttp(publication_id: &str) -> String {
    format!("sender={HOSPITAL}&to={TTP}&publication_id={publication_id}&title=B&file_name=b.csv&project=lab-registry")
}

/// A body of unknown length, in pieces.
fn pieces(content: Vec<u8>) -> Body {
    let pieces: Vec<_> =
        content.chunks(60_000).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
    Body::from_stream(stream::iter(pieces))
}

/// Unfinished objects are removed in the background.
async fn settled(bed: &Bed, wanted: usize) {
    for _ in 0..500 {
        if bed.object_files().len() == wanted {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{} files lie in the object store, wanted are {wanted}", bed.object_files().len());
}

impl Bed {
    /// Publishes a payload as a worker would.
    pub async fn publish<P: schemas::Payload>(&self, channel: &str, to: &MailboxAddress, payload: &P) {
        let keys = &*self.platform.keys;
        let key = zegel_core::names::address_key(keys, to);
        let id = MessageId(keys.random16());
        let envelope = Envelope::new(id, "/zegel/test", key, Millis(1_800_000_000_000), payload).unwrap();
        let sealed = seal_message(keys, topology::channels::by_name(channel).unwrap(), &envelope).unwrap();
        let outcome = self.platform.broker.publish(vec![sealed]).await;
        assert!(outcome.iter().all(Result::is_ok));
    }

    /// Gives an address a mailbox without a worker: its row alone.
    pub async fn memory_box(&self, address: &str) {
        use zegel_core::slot::spaces::BOXES;
        use zegel_core::{OwnerId, Slot, Step, Write};
        let address: MailboxAddress = address.parse().unwrap();
        let owner = zegel_core::names::address_key(&*self.platform.keys, &address);
        let slot = Slot { channel: 2, group: 2, partition: 0 };
        let claim = self.platform.store.claim(slot, OwnerId([1; 16]), Millis(0), 1).await.unwrap().unwrap();
        let mut step = Step::empty(slot, claim.epoch);
        let value = zegel_core::sealing::seal_value(&*self.platform.keys, BOXES, owner, b"", b"{}");
        step.writes.push(Write { space: BOXES, owner, sub: Bytes::new(), value: Some(value) });
        self.platform.store.commit(step).await.unwrap();
        self.platform.store.release(slot, claim.epoch, true).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_return_needs_its_project_belongs_to_its_caller_and_is_one_submission_for_each_handle() {
    let bed = Bed::still(Memory::new(), |_| {});
    let registry = bed.token_of(REGISTRY);
    let handle = |digit: &str| format!("/v1/returns/{}", digit.repeat(32));
    let give = async |path: String, query: &str, token: &str| {
        bed.call(request(Method::POST, &format!("{path}?{query}"), token, Body::from("x"))).await
    };
    let query = format!("sender={REGISTRY}&publication_id=R1&project=lab-registry");
    assert_eq!(
        give(handle("a"), &format!("sender={REGISTRY}&publication_id=R1"), &registry).await.code(),
        "ZGL-IN-FIELD"
    );
    let stranger = bed.token_of(HOSPITAL);
    assert_eq!(give(handle("a"), &query, &stranger).await.refusal().0, 403);
    assert!(give("/v1/returns/none".to_owned(), &query, &registry).await.status.is_client_error());
    assert_eq!(bed.published("mailbox.submitted").await, 0);
    let first = give(handle("a"), &query, &registry).await;
    assert_eq!(first.status, StatusCode::ACCEPTED);
    assert_eq!(give(handle("a"), &query, &registry).await.bytes, first.bytes, "the same again is the same");
    let other = give(handle("b"), &query, &registry).await;
    assert_eq!(other.refusal(), (409, "ZGL-PUB-REUSED".to_owned()), "another handle is another return");
    assert_eq!(bed.published("mailbox.submitted").await, 1);
}
