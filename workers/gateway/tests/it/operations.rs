//! Dead letters, alerts, statistics, health.

use crate::bed::{Bed, HOSPITAL, REGISTRY};
use axum::http::StatusCode;
use schemas::{MailboxAddress, Payload};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A delivery that no worker can read.
#[derive(Serialize, Deserialize)]
struct Unreadable {
    secret: String,
}

impl Payload for Unreadable {
    const TYPE: &'static str = "be.zegel.mailbox.deliver.v1";
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_shown_sealed_replayed_under_a_new_id_and_dropped_once() {
    let bed = Bed::new().await;
    let address: MailboxAddress = REGISTRY.parse().unwrap();
    bed.publish("mailbox.deliver", &address, &Unreadable { secret: "canary-payload".to_owned() }).await;
    let page = bed.until("/v1/dead", &bed.operator, |page| page["dead"].as_array().unwrap().len() == 1).await;
    assert!(!page.to_string().contains("canary"));
    let letter = &page["dead"][0];
    assert_eq!((&letter["channel"], &letter["code"]), (&json!("mailbox.deliver"), &json!("ZGL-MSG-PAYLOAD")));
    let path =
        |letter: &serde_json::Value| format!("/v1/dead/mailbox.deliver/{}/{}", letter["partition"], letter["number"]);
    let replay = format!("{}/replay", path(letter));

    let dry = bed.post(&replay, &bed.operator, &json!({ "dry_run": true })).await.json();
    assert_eq!((&dry["type"], dry.get("becomes")), (&json!(Unreadable::TYPE), None));
    assert_eq!(bed.published("mailbox.deliver").await, 1);
    let done = bed.post(&replay, &bed.operator, &json!({})).await.json();
    assert_ne!(done["becomes"], done["was"]);
    assert_eq!(bed.post(&replay, &bed.operator, &json!({})).await.refusal(), (404, "ZGL-NOT-FOUND".to_owned()));

    let again = bed.until("/v1/dead", &bed.operator, |page| page["dead"][0]["id"] == done["becomes"]).await;
    let place = path(&again["dead"][0]);
    let hospital = bed.token_of(HOSPITAL);
    assert_eq!(bed.delete(&place, &hospital).await.refusal(), (403, "ZGL-AUTH-ROLE".to_owned()));
    assert_eq!(bed.delete(&place, &bed.operator).await.status, StatusCode::NO_CONTENT);
    assert_eq!(bed.delete(&place, &bed.operator).await.status, StatusCode::NOT_FOUND);
    assert_eq!(bed.get("/v1/dead?channel=mailbox.deliver", &bed.operator).await.json()["dead"], json!([]));
    assert_eq!(bed.get("/v1/dead?channel=nowhere", &bed.operator).await.code(), "ZGL-IN-FIELD");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_needs_no_token_and_everything_else_does() {
    let bed = Bed::new().await;
    for open in ["/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/timestamp/ca.pem"] {
        assert_eq!(bed.get(open, "").await.status, StatusCode::OK, "{open}");
    }
    for closed in ["/v1/stats", "/v1/alerts", "/v1/dead", "/v1/boxes/CBE:0123456749"] {
        let refused = bed.get(closed, "zgl_guess").await;
        assert_eq!(refused.refusal(), (401, "ZGL-AUTH-TOKEN".to_owned()), "{closed}");
        assert!(refused.headers.contains_key("www-authenticate"));
    }
    assert_eq!(bed.get("/v1/alerts", &bed.operator).await.json(), json!({ "alerts": [] }));
    let hospital = bed.token_of(HOSPITAL);
    for operators in ["/v1/stats", "/v1/alerts", "/v1/dead"] {
        assert_eq!(bed.get(operators, &hospital).await.refusal(), (403, "ZGL-AUTH-ROLE".to_owned()), "{operators}");
    }
    assert_eq!(bed.get("/v1/nothing", &hospital).await.refusal(), (404, "ZGL-HTTP-ROUTE".to_owned()));
    assert_eq!(bed.get("/v1/messages", &hospital).await.refusal(), (405, "ZGL-HTTP-METHOD".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_a_503_with_a_time_and_not_ready() {
    let bed = Bed::still(zegel_core::memory::Memory::new(), |_| {});
    let hospital = bed.token_of(HOSPITAL);
    bed.memory.close();
    for (path, token) in
        [("/readyz", ""), ("/v1/stats", &bed.operator), ("/v1/feeds/NIHII-HOSPITAL:71000436", &hospital)]
    {
        let refused = bed.get(path, token).await;
        assert_eq!(refused.refusal(), (503, "ZGL-STORE-AWAY".to_owned()), "{path}");
        assert!(refused.headers.contains_key("retry-after"));
    }
    assert_eq!(bed.get("/healthz", "").await.status, StatusCode::OK);
}
