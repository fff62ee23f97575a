//! The authority and the log over HTTP: requests of others, static resources, cosignatures.

use crate::bed::{Answer, Bed, HOSPITAL, REGISTRY, request};
use axum::body::Body;
use axum::http::{Method, StatusCode};
use schemas::Millis;
use serde_json::json;
use std::sync::Arc;
use zegel_core::memory::Memory;
use zegel_crypto::hash::sha256;
use zegel_crypto::log::tiles::{Tile, decode_bundle};
use zegel_crypto::log::{Entry, Note, Policy};
use zegel_crypto::merkle;
use zegel_crypto::tsa::{Algorithm, Authority, Crl, Digest, Request, TrustAnchor, token_of, verify};
use zegel_timestamp::OwnAuthority;

async fn ask(bed: &Bed, token: &str, kind: &str, body: Vec<u8>) -> Answer {
    let mut request = request(Method::POST, "/timestamp", token, Body::from(body));
    request.headers_mut().insert("content-type", kind.parse().unwrap());
    bed.call(request).await
}

/// A front with an authority of its own.
fn with_authority(need_token: bool) -> (Bed, TrustAnchor) {
    let folder = tempfile::tempdir().unwrap();
    let made = Millis(1_800_000_000_000);
    let authority = Authority::create_with(&folder.path().join("tsa"), "Zegel test", made, Algorithm::P256).unwrap();
    let anchor = TrustAnchor::from_pem(authority.ca_pem()).unwrap();
    let pem = authority.ca_pem().as_bytes().to_vec();
    let own = OwnAuthority::new(authority).unwrap();
    let bed = Bed::still(Memory::new(), |config| {
        config.ca_pem = pem;
        config.authority = Some(Arc::new(own));
        config.stamps_need_token = need_token;
    });
    // It writes into its folder while the bed lives.
    let _kept = folder.keep();
    (bed, anchor)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_of_anybody_is_stamped_and_a_refusal_is_a_time_stamp_response() {
    let (bed, anchor) = with_authority(false);
    let query = Request::over(Digest::Sha256, &sha256(b"document").0, Some(77)).unwrap().encode();
    let answer = ask(&bed, "nobody", "application/timestamp-query; charset=binary", query.clone()).await;
    assert_eq!(
        (answer.status, answer.headers["content-type"].as_bytes()),
        (StatusCode::OK, &b"application/timestamp-reply"[..])
    );
    let info = verify(&answer.bytes, &sha256(b"document"), &anchor).unwrap();
    assert_eq!((info.nonce, info.gen_time), (Some(vec![77]), Millis(1_800_000_000_000)));
    let broken = ask(&bed, "nobody", "application/timestamp-query", query[1..].to_vec()).await;
    assert_eq!(broken.status, StatusCode::OK);
    assert!(token_of(&broken.bytes).is_err() && broken.bytes.len() < 200, "badDataFormat");
    assert_eq!(
        ask(&bed, "nobody", "application/json", query.clone()).await.refusal(),
        (415, "ZGL-HTTP-MEDIA".to_owned())
    );
    let giant = ask(&bed, "nobody", "application/timestamp-query", vec![0x30; 5_000]).await;
    assert_eq!(giant.refusal(), (413, "ZGL-HTTP-SIZE".to_owned()));

    let list = bed.get("/v1/timestamp/ca.crl", "nobody").await;
    assert!(Crl::read(&list.bytes, &anchor).unwrap().revoked().is_empty());
    let units = bed.get("/v1/timestamp/units.pem", "nobody").await;
    anchor.knowing(std::str::from_utf8(&units.bytes).unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_settings_say_so_a_stamp_needs_a_token() {
    let (bed, _) = with_authority(true);
    let query = Request::over(Digest::Sha512, &Digest::Sha512.of(b"x"), None).unwrap().encode();
    let kind = "application/timestamp-query";
    assert_eq!(ask(&bed, "nobody", kind, query.clone()).await.refusal(), (401, "ZGL-AUTH-TOKEN".to_owned()));
    assert_eq!(ask(&bed, &bed.token_of(HOSPITAL), kind, query).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_authority_a_request_is_refused_in_the_way_of_the_standard() {
    let bed = Bed::still(Memory::new(), |_| {});
    let query = Request::over(Digest::Sha256, &[0; 32], None).unwrap().encode();
    let answer = ask(&bed, "nobody", "application/timestamp-query", query).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(token_of(&answer.bytes).is_err());
    assert_eq!(bed.get("/v1/timestamp/ca.crl", "nobody").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stamped_bag_can_be_read_from_the_public_log_and_its_checkpoint_cosigned() {
    let bed = Bed::new().await;
    for empty in ["/log/checkpoint", "/log/latest", "/log/tile/0/000.p/1", "/log/stamps/1"] {
        assert_eq!(bed.get(empty, "nobody").await.status, StatusCode::NOT_FOUND, "{empty}");
    }
    let hospital = bed.token_of(HOSPITAL);
    bed.post("/v1/timestamp/hospitals", &bed.operator, &json!({ "hospital": HOSPITAL })).await;
    let entries = json!([{ "ref": 1, "hash": sha256(b"a") }]);
    bed.post("/v1/timestamp/entries", &hospital, &json!({ "hospital": HOSPITAL, "entries": entries })).await;
    bed.clock.advance(300_000);
    let bags = format!("/v1/timestamp/bags/{HOSPITAL}");
    let page = bed.until(&bags, &hospital, |page| page["bags"].as_array().is_some_and(|bags| !bags.is_empty())).await;
    let tsr = bed.get(page["bags"][0]["tsr"].as_str().unwrap(), &hospital).await.bytes;

    let note = checkpoint(&bed).await;
    let policy = Policy::new(bed.log.public().clone(), vec![bed.witness.public().clone()], 1).unwrap();
    let opened = policy.open(&note).unwrap();
    let size = opened.checkpoint.size;
    let tile = Tile::of(0, 0, size).unwrap();
    let path = |kind: &str| format!("/log/tile/{kind}/000.p/{size}");
    let bundle = bed.get(&path("entries"), "nobody").await;
    assert!(bundle.headers["cache-control"].to_str().unwrap().contains("immutable"));
    let entries = decode_bundle(&tile, &bundle.bytes).unwrap();
    assert_eq!(merkle::root(&entries), opened.checkpoint.root);
    assert_eq!(Entry::decode(entries[0]).unwrap().token, sha256(&token_of(&tsr).unwrap()));
    let hashes = tile.hashes(&bed.get(&path("0"), "nobody").await.bytes).unwrap();
    assert_eq!(hashes, entries.iter().map(|entry| merkle::leaf_hash(entry)).collect::<Vec<_>>());
    for missing in ["0/000", "1/000.p/1", "0/000.p/255", "0/00", "64/000", "entries/x001/000", "0/../0/000"] {
        let answer = bed.get(&format!("/log/tile/{missing}"), "nobody").await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{missing}");
    }

    let hand_in = async |line: String, size: u64| {
        let request = request(Method::POST, &format!("/log/cosignatures?size={size}"), "nobody", Body::from(line));
        bed.call(request).await
    };
    let text = note.parse::<Note>().unwrap().text;
    let line = bed.witness.sign(&text, 1_800_000_000).to_string();
    assert_eq!(hand_in(bed.witness.sign("other\n", 1).to_string(), size).await.code(), "ZGL-TS-WITNESS");
    assert_eq!(hand_in("nonsense".to_owned(), size).await.code(), "ZGL-TS-WITNESS");
    assert_eq!(hand_in(line.clone(), size + 1).await.status, StatusCode::NOT_FOUND);
    assert_eq!(hand_in(line, size).await.json()["witnesses"], 1);
    let served = bed.get("/log/checkpoint", "nobody").await.bytes;
    policy.check(std::str::from_utf8(&served).unwrap()).unwrap();
}

/// The first checkpoint, whose timer the bed's clock must reach.
async fn checkpoint(bed: &Bed) -> String {
    for _ in 0..1_000 {
        bed.clock.advance(100);
        let answer = bed.get("/log/checkpoint", "nobody").await;
        if answer.status == StatusCode::OK {
            return String::from_utf8(answer.bytes.to_vec()).unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("no checkpoint was signed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_archived_when_its_request_says_so_and_openssl_verifies_what_the_archive_gives_back() {
    let (mut bed, anchor) = with_authority(false);
    bed.start();
    let hospital = bed.token_of(HOSPITAL);
    let place = format!("/timestamp?archive={HOSPITAL}");
    let query = |data: &[u8]| Request::over(Digest::Sha256, &Digest::Sha256.of(data), Some(7)).unwrap().encode();
    let ask = async |place: &str, token: &str, body: Vec<u8>| {
        let mut request = request(Method::POST, place, token, Body::from(body));
        request.headers_mut().insert("content-type", "application/timestamp-query".parse().unwrap());
        bed.call(request).await
    };
    let answer = ask(&place, &hospital, query(b"document")).await;
    assert_eq!(
        (answer.status, &answer.headers["content-type"]),
        (StatusCode::OK, &"application/timestamp-reply".parse().unwrap())
    );
    let location = answer.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(bed.get(&location, &hospital).await.bytes, answer.bytes, "the archive gives back what was given");
    assert_eq!(bed.get(&location, &bed.operator).await.bytes, answer.bytes);
    let listed = bed.get(&format!("/v1/timestamp/tokens/{HOSPITAL}"), &hospital).await.json();
    assert_eq!((listed["tokens"].as_array().unwrap().len(), &listed["tokens"][0]["tsr"]), (1, &json!(location)));
    assert_eq!(listed["tokens"][0]["imprint"], json!(sha256(b"document")));
    // It stands in the log, as a bag does.
    let note = checkpoint(&bed).await;
    let policy = Policy::new(bed.log.public().clone(), Vec::new(), 0).unwrap();
    let size = policy.open(&note).unwrap().checkpoint.size;
    let bundle = bed.get(&format!("/log/tile/entries/000.p/{size}"), "nobody").await;
    let entries = decode_bundle(&Tile::of(0, 0, size).unwrap(), &bundle.bytes).unwrap();
    let entry = Entry::decode(entries[0]).unwrap();
    assert_eq!((entry.subject, entry.token), (sha256(b"document"), sha256(&token_of(&answer.bytes).unwrap())));
    // Without the word nothing is kept; strangers, other digests and what is no request are refused before they are stamped.
    assert!(!ask("/timestamp", &hospital, query(b"other")).await.headers.contains_key("location"));
    assert_eq!(ask(&place, &bed.token_of(REGISTRY), query(b"x")).await.status, StatusCode::FORBIDDEN);
    assert_eq!(ask(&place, "nobody", query(b"x")).await.status, StatusCode::UNAUTHORIZED);
    let longer = Request::over(Digest::Sha512, &Digest::Sha512.of(b"x"), None).unwrap().encode();
    for bad in [longer, b"no request".to_vec()] {
        assert_eq!(ask(&place, &hospital, bad).await.code(), "ZGL-IN-FIELD");
    }
    assert_eq!(ask("/timestamp?keep=1", &hospital, query(b"x")).await.code(), "ZGL-IN-FIELD");
    assert_eq!(bed.get(&location, &bed.token_of(REGISTRY)).await.status, StatusCode::FORBIDDEN);
    let listed = bed.get(&format!("/v1/timestamp/tokens/{HOSPITAL}"), &hospital).await.json();
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 1);
    assert!(verify(&answer.bytes, &sha256(b"document"), &anchor).is_ok());
    verified_by_openssl(&bed, &answer.bytes).await;
}

/// Has openssl verify a response over "document".
async fn verified_by_openssl(bed: &Bed, response: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("document"), b"document").unwrap();
    std::fs::write(path("document.tsr"), response).unwrap();
    std::fs::write(path("ca.pem"), &bed.get("/v1/timestamp/ca.pem", "nobody").await.bytes).unwrap();
    std::fs::write(path("units.pem"), &bed.get("/v1/timestamp/units.pem", "nobody").await.bytes).unwrap();
    let seconds = zegel_crypto::tsa::gen_time(response).unwrap().0 / 1_000;
    let output = std::process::Command::new("openssl")
        .args(["ts", "-verify", "-data", "document", "-in", "document.tsr", "-CAfile", "ca.pem"])
        .args(["-untrusted", "units.pem", "-attime", &seconds.to_string()])
        .current_dir(folder.path())
        .output();
    let Ok(output) = output else {
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "ZEGEL_ORACLES is set and openssl is absent");
        println!("SKIPPED: openssl is absent");
        return;
    };
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("Verification: OK"), "{said}");
}
