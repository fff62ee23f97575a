//! Stamps for hospitals, and feeds for subscribers.

use crate::bed::{Bed, HOSPITAL, REGISTRY, request};
use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::json;
use zegel_crypto::hash::sha256;

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_answered_one_by_one_and_end_in_a_bag_with_its_token() {
    let bed = Bed::new().await;
    let hospital = bed.token_of(HOSPITAL);
    let enrol = json!({ "hospital": HOSPITAL });
    assert_eq!(bed.post("/v1/timestamp/hospitals", &bed.operator, &enrol).await.json()["sequence"], 1);
    let entry = |reference: u64, of: &str| json!({ "ref": reference, "hash": sha256(of.as_bytes()) });
    let offer = async |entries: serde_json::Value| {
        bed.post("/v1/timestamp/entries", &hospital, &json!({ "hospital": HOSPITAL, "entries": entries })).await
    };
    let first = offer(json!([entry(1, "a"), entry(2, "b")])).await;
    assert_eq!(first.status, StatusCode::ACCEPTED);
    assert_eq!(first.json()["answers"][1]["is"], "accepted");
    assert_eq!(
        offer(json!([entry(1, "a"), entry(2, "b")])).await.bytes,
        first.bytes,
        "the same again, the same answer"
    );
    let mixed = offer(json!([entry(1, "other"), entry(3, "c")])).await;
    assert_eq!((mixed.status, &mixed.json()["answers"][0]["is"]), (StatusCode::ACCEPTED, &json!("conflict")));
    assert_eq!(offer(json!([entry(1, "other")])).await.status, StatusCode::CONFLICT);
    assert_eq!(offer(json!([])).await.code(), "ZGL-IN-FIELD");

    let mut record = 9u64.to_be_bytes().to_vec();
    record.extend_from_slice(&sha256(b"i").0);
    let binary = async |records: Vec<u8>| {
        let path = format!("/v1/timestamp/entries?hospital={HOSPITAL}");
        let mut request = request(Method::POST, &path, &hospital, Body::from(records));
        request.headers_mut().insert("content-type", "application/octet-stream".parse().unwrap());
        bed.call(request).await
    };
    let answers = binary(record.clone()).await.json();
    assert_eq!((&answers["answers"][0]["ref"], &answers["answers"][0]["is"]), (&json!(9), &json!("accepted")));
    assert_eq!(binary(record[..39].to_vec()).await.code(), "ZGL-IN-FIELD");

    bed.clock.advance(300_000);
    let bags = format!("/v1/timestamp/bags/{HOSPITAL}");
    let page = bed.until(&bags, &hospital, |page| page["bags"].as_array().is_some_and(|bags| !bags.is_empty())).await;
    let bag = &page["bags"][0];
    assert_eq!((&bag["sequence"], &bag["count"]), (&json!(1), &json!(4)));
    let xml = bed.get(bag["xml"].as_str().unwrap(), &hospital).await;
    assert_eq!(json!(sha256(&xml.bytes)), bag["imprint"], "the token binds the exact bytes");
    let token = bed.get(bag["tsr"].as_str().unwrap(), &hospital).await;
    assert_eq!(token.headers["content-type"], "application/timestamp-reply");
    assert!(token.bytes.len() > 100);
    for missing in ["2.xml", "1.pdf", "1", "x.tsr", "-1.xml"] {
        assert_eq!(bed.get(&format!("{bags}/{missing}"), &hospital).await.status, StatusCode::NOT_FOUND, "{missing}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bag_of_the_hospitals_own_is_stamped_kept_consultable_and_covered_by_the_next_bag() {
    let bed = Bed::new().await;
    let hospital = bed.token_of(HOSPITAL);
    let place = format!("/v1/timestamp/own-bags/{HOSPITAL}");
    let xml = |entries: usize| {
        let entry = "<JournalEntry><Hash>any text</Hash><Ref>5</Ref></JournalEntry>";
        format!(
            "<TimeStampBag xmlns=\"urn:be:fgov:ehealth:timestamping:protocol:v2\" Hash=\"SHA-256\" SequenceNumber=\"42\">{}\
             </TimeStampBag>",
            entry.repeat(entries)
        )
    };
    let send = async |body: String, token: &str| bed.call(request(Method::POST, &place, token, Body::from(body))).await;
    // A small one travels in the message, a large one as an object.
    for entries in [1, 2_000] {
        let body = xml(entries);
        let answer = send(body.clone(), &hospital).await;
        assert_eq!(answer.status, StatusCode::OK);
        let bag = answer.json();
        assert_eq!((&bag["sequence"], &bag["entries"]), (&json!(42), &json!(entries)));
        assert_eq!(bag["digest"], json!(sha256(body.as_bytes())));
        assert_eq!(send(body.clone(), &hospital).await.bytes, answer.bytes, "the same again, the same answer");
        assert_eq!(bed.get(bag["xml"].as_str().unwrap(), &hospital).await.bytes, body.as_bytes());
        assert!(bed.get(bag["tsr"].as_str().unwrap(), &hospital).await.bytes.len() > 100);
    }
    assert_eq!(send(xml(0), &hospital).await.refusal(), (422, "ZGL-TS-BAG".to_owned()));
    assert_eq!(send(xml(1), &bed.operator).await.status, StatusCode::FORBIDDEN);
    let listed = bed.get(&place, &hospital).await.json();
    assert_eq!(listed["bags"].as_array().unwrap().len(), 2);
    // Its hash stands in the platform's next bag, under a reference that no hospital may take.
    bed.clock.advance(300_000);
    let bags = format!("/v1/timestamp/bags/{HOSPITAL}");
    let holds =
        |page: &serde_json::Value| page["bags"].as_array().is_some_and(|bags| bags.iter().any(|bag| bag["count"] == 2));
    let page = bed.until(&bags, &hospital, holds).await;
    let bag = page["bags"].as_array().unwrap().iter().find(|bag| bag["count"] == 2).unwrap().clone();
    let text = String::from_utf8(bed.get(bag["xml"].as_str().unwrap(), &hospital).await.bytes.to_vec()).unwrap();
    for own in listed["bags"].as_array().unwrap() {
        assert!(text.contains(&format!("<Ref>{}</Ref>", own["ref"])), "{text}");
    }
    let taken = json!({ "hospital": HOSPITAL, "entries": [{ "ref": 1u64 << 62, "hash": sha256(b"x") }] });
    assert_eq!(bed.post("/v1/timestamp/entries", &hospital, &taken).await.code(), "ZGL-IN-FIELD");
    // And the consultation names it and gives it back.
    let ask = |element: &str, rest: &str| {
        format!(
            "<{element} xmlns=\"urn:be:fgov:ehealth:timestamping:protocol:v2\"><IDHospital>71000436</IDHospital>{rest}</{element}>"
        )
    };
    let ever = format!("<Period><Start>0</Start><End>{}</End></Period>", i64::MAX);
    let consult = request(Method::POST, "/v1/timestamp/consult", &hospital, Body::from(ask("TSConsultRequest", &ever)));
    let answer = String::from_utf8(bed.call(consult).await.bytes.to_vec()).unwrap();
    let lists: String = answer
        .match_indices("<TSList>")
        .take(10)
        .map(|(at, _)| answer[at..].split_inclusive("</TSList>").next().unwrap())
        .collect();
    let retrieve =
        request(Method::POST, "/v1/timestamp/retrieve", &hospital, Body::from(ask("TSConsultTSBagRequest", &lists)));
    let answer = String::from_utf8(bed.call(retrieve).await.bytes.to_vec()).unwrap();
    let value = base64::engine::Engine::encode(&base64::engine::general_purpose::STANDARD, xml(1));
    assert!(answer.contains(&format!("<TSBagValue>{value}</TSBagValue>")), "the bag is not given back as it came");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_hospital_and_only_for_itself_has_hashes_stamped() {
    let bed = Bed::new().await;
    let (hospital, registry) = (bed.token_of(HOSPITAL), bed.token_of(REGISTRY));
    let entries = |of: &str| json!({ "hospital": of, "entries": [{ "ref": 1, "hash": sha256(b"a") }] });
    let offer = async |of: &str, token: &str| bed.post("/v1/timestamp/entries", token, &entries(of)).await.code();
    assert_eq!(offer(HOSPITAL, &registry).await, "ZGL-AUTH-ROLE");
    assert_eq!(offer(HOSPITAL, &bed.operator).await, "ZGL-AUTH-ROLE");
    assert_eq!(offer(REGISTRY, &registry).await, "ZGL-TS-HOSPITAL");
    let too_many: Vec<_> = (1..=1001).map(|n| json!({ "ref": n, "hash": sha256(b"a") })).collect();
    let body = json!({ "hospital": HOSPITAL, "entries": too_many });
    assert_eq!(bed.post("/v1/timestamp/entries", &hospital, &body).await.code(), "ZGL-IN-FIELD");
    assert!(bed.get("/v1/timestamp/ca.pem", "").await.bytes.starts_with(b"-----BEGIN"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_is_told_once_in_order_and_acknowledges() {
    let bed = Bed::new().await;
    let registry = bed.token_of(REGISTRY);
    let follow = json!({ "organisation": REGISTRY, "ssin": "85061511796", "from": "2020-01-01" });
    assert_eq!(bed.post("/v1/inscriptions", &registry, &follow).await.json(), json!({ "accepted": 1 }));
    bed.until("/v1/stats", &bed.operator, |stats| stats["channels"][6]["waiting"] == 0).await;
    let event = |n: u32| json!({ "feed": "rn", "event": n.to_string(), "ssin": "85061511796", "kind": "address", "date": "2026-01-02" });
    let lines = format!("{}\n\n{}\n", event(1), event(2));
    let feed = async |body: &str| {
        bed.call(request(Method::POST, "/v1/mutations", &bed.operator, body.to_owned().into())).await
    };
    for _ in 0..2 {
        assert_eq!(feed(&lines).await.json(), json!({ "accepted": 2 }), "sent twice, told once");
    }
    let one = bed.post("/v1/mutations", &bed.operator, &event(3)).await;
    assert_eq!((one.status, one.json()), (StatusCode::ACCEPTED, json!({ "accepted": 1 })));
    let path = format!("/v1/feeds/{REGISTRY}");
    let page = bed.until(&path, &registry, |page| page["last"] == 3).await;
    let told: Vec<_> =
        page["notifications"].as_array().unwrap().iter().map(|told| &told["mutation"]["event"]).collect();
    assert_eq!(told, ["1", "2", "3"]);
    assert_eq!(bed.get(&format!("{path}?after=1&limit=1"), &registry).await.json()["notifications"][0]["number"], 2);
    let acked = bed.post(&format!("{path}/ack"), &registry, &json!({ "up_to": 2 })).await;
    assert_eq!(acked.json(), json!({ "acked": 2 }));
    assert_eq!(bed.get(&path, &registry).await.json()["notifications"][0]["number"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_event_refuses_the_body_by_its_line_and_publishes_nothing() {
    let bed = Bed::new().await;
    let good = r#"{"feed":"rn","event":"1","ssin":"85061511796","kind":"death","date":"2026-01-02"}"#;
    let feed = async |second: &str| {
        let body = format!("{good}\n{second}\n");
        let answer = bed.call(request(Method::POST, "/v1/mutations", &bed.operator, body.into())).await;
        (answer.code(), answer.json()["field"].as_str().unwrap_or_default().to_owned())
    };
    let is = |code: &str, field: &str| (code.to_owned(), field.to_owned());
    assert_eq!(feed(&good.replace("796", "797")).await, is("802", "line 2 ssin"));
    assert_eq!(feed(&good.replace("2026-01-02", "2026-02-30")).await, is("ZGL-IN-FIELD", "line 2 date"));
    assert_eq!(feed(&good.replace("\"rn\"", "\"\"")).await, is("ZGL-IN-FIELD", "line 2 feed"));
    assert_eq!(feed("{").await.0, "ZGL-HTTP-BODY");
    assert_eq!(bed.published("mutations.registry").await, 0);
    let registry = bed.token_of(REGISTRY);
    let answer = bed.call(request(Method::POST, "/v1/mutations", &registry, good.into())).await;
    assert_eq!(answer.refusal(), (403, "ZGL-AUTH-ROLE".to_owned()));
}
