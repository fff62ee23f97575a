//! Nothing of a request comes back in a refusal (I4).

use crate::bed::{Bed, HOSPITAL, REGISTRY, query, request};
use axum::body::Body;
use axum::http::{Method, StatusCode};

/// Text and number that no answer contains by chance.
const CANARIES: [&str; 2] = ["Canary7f3a9c1e5b", "85061511799"];

#[tokio::test(flavor = "multi_thread")]
async fn no_refusal_quotes_what_was_sent() {
    let bed = Bed::new().await;
    let hospital = bed.open(HOSPITAL).await;
    let registry = bed.open(REGISTRY).await;
    let mut refused = 0;
    for canary in CANARIES {
        for (method, path, token, body) in bad_requests(canary, &hospital, &registry, &bed.operator) {
            for content_type in ["application/json", "application/octet-stream", "application/x-ndjson"] {
                let mut request = request(method.clone(), &path, &token, Body::from(body.clone()));
                let headers = request.headers_mut();
                headers.insert("content-type", content_type.parse().unwrap());
                headers.insert("traceparent", canary.parse().unwrap());
                let answer = bed.call(request).await;
                assert!(answer.status.as_u16() >= 400, "{method} {path} was taken: {}", answer.status);
                assert_ne!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{method} {path}");
                let said = format!("{:?} {}", answer.headers, String::from_utf8_lossy(&answer.bytes));
                assert!(!said.contains(canary), "{method} {path} quotes what was sent: {said}");
                assert!(!answer.code().is_empty());
                refused += 1;
            }
        }
    }
    assert!(refused > 150, "only {refused} refusals were looked at");
}

/// A canary in every place of every call where a value can be wrong.
fn bad_requests(canary: &str, hospital: &str, registry: &str, operator: &str) -> Vec<(Method, String, String, String)> {
    let mut out = Vec::new();
    let mut add = |method: Method, path: String, token: &str, body: String| {
        out.push((method, path, token.to_owned(), body));
    };
    let quoted = format!("\"{canary}\"");
    for change in [
        format!("to={canary}"),
        format!("to=SSIN:{canary}"),
        format!("{canary}={canary}"),
        format!("title={canary}"),
        format!("digest={canary}"),
        format!("receipts={canary}"),
        format!("mime={canary}"),
        format!("project={canary}"),
        format!("meta.{canary}={canary}&meta.{canary}={canary}"),
    ] {
        add(Method::POST, format!("/v1/messages?{}&{change}", query("A1")), hospital, canary.to_owned());
    }
    for path in [
        format!("/v1/{canary}"),
        format!("/v1/submissions/{canary}"),
        format!("/v1/boxes/{canary}"),
        format!("/v1/boxes/SSIN:{canary}/inbox"),
        format!("/v1/boxes/{REGISTRY}/{canary}"),
        format!("/v1/boxes/{REGISTRY}/inbox?start={canary}"),
        format!("/v1/boxes/{REGISTRY}/inbox?{canary}=1"),
        format!("/v1/boxes/{REGISTRY}/items/{canary}"),
        format!("/v1/boxes/{REGISTRY}/items/{canary}/parts/{canary}"),
        format!("/v1/timestamp/bags/{canary}"),
        format!("/v1/timestamp/bags/{HOSPITAL}/{canary}.xml"),
        format!("/v1/feeds/{canary}?after={canary}"),
        format!("/v1/dead?channel={canary}"),
        format!("/v1/dead?after={canary}"),
    ] {
        for token in [registry, operator, canary] {
            add(Method::GET, path.clone(), token, String::new());
        }
    }
    for path in [
        "/v1/boxes".to_owned(),
        format!("/v1/boxes/{REGISTRY}/move"),
        format!("/v1/boxes/{REGISTRY}/delete"),
        format!("/v1/boxes/{canary}/move"),
        "/v1/timestamp/hospitals".to_owned(),
        "/v1/timestamp/entries".to_owned(),
        "/v1/inscriptions".to_owned(),
        "/v1/mutations".to_owned(),
        format!("/v1/feeds/{REGISTRY}/ack"),
        format!("/v1/dead/{canary}/0/1/replay"),
        format!("/v1/dead/mailbox.deliver/{canary}/1/replay"),
    ] {
        for body in [
            canary.to_owned(),
            quoted.clone(),
            format!("{{{quoted}:{quoted}}}"),
            format!("{{\"address\":{quoted},\"max_bytes\":1}}"),
            format!("{{\"address\":{REGISTRY:?},\"max_bytes\":{quoted}}}"),
            format!("{{\"items\":[{quoted}],\"to\":{quoted}}}"),
            format!("{{\"hospital\":{quoted},\"entries\":[{{\"ref\":1,\"hash\":{quoted}}}]}}"),
            format!("{{\"hospital\":{quoted}}}"),
            format!("{{\"organisation\":{REGISTRY:?},\"ssin\":{quoted},\"from\":{quoted}}}"),
            format!("{{\"organisation\":{REGISTRY:?},\"ssin\":\"85061511796\",\"from\":{quoted}}}"),
            format!("{{\"feed\":\"f\",\"event\":\"e\",\"ssin\":{quoted},\"kind\":\"k\",\"date\":\"2026-01-01\"}}"),
            format!("{{\"feed\":\"f\",\"event\":\"e\",\"ssin\":\"85061511796\",\"kind\":\"k\",\"date\":{quoted}}}"),
            format!("{{\"up_to\":{quoted}}}"),
            format!("{{\"dry_run\":{quoted}}}"),
        ] {
            for token in [registry, operator] {
                add(Method::POST, path.clone(), token, body.clone());
            }
        }
    }
    add(Method::DELETE, format!("/v1/dead/{canary}/0/1"), operator, String::new());
    out
}
