//! Bounds: full channels, slow clients, too many requests, waiting for a worker, draining.

use crate::bed::{Bed, HOSPITAL, REGISTRY, query, request};
use axum::body::Body;
use axum::http::{Method, StatusCode};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tower::ServiceExt;
use zegel_core::memory::Memory;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_channel_is_a_429_with_a_time_and_keeps_nothing() {
    let bed = Bed::still(Memory::with_high_water(1), |_| {});
    bed.memory_box(REGISTRY).await;
    let hospital = bed.token_of(HOSPITAL);
    assert_eq!(bed.send(&hospital, &query("A1"), "x").await.status, StatusCode::ACCEPTED);
    let refused = bed.send(&hospital, &query("A2"), vec![7; 200_000]).await;
    assert_eq!(refused.refusal(), (429, "ZGL-CHANNEL-FULL".to_owned()));
    assert_eq!(refused.headers["retry-after"], "1");
    assert!(bed.object_files().is_empty(), "the content of a refused message is kept");
    // It was not taken, so the sender may use the PublicationId again, for other content too.
    assert_eq!(bed.send(&hospital, &query("A2"), "y").await.code(), "ZGL-CHANNEL-FULL");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_worker_is_busy_is_pending_and_not_lost() {
    let mut bed = Bed::still(Memory::new(), |config| config.reply_timeout = Duration::from_millis(20));
    let open = json!({ "address": REGISTRY, "max_bytes": 10 });
    let answer = bed.post("/v1/boxes", &bed.operator, &open).await;
    assert_eq!((answer.status, answer.json()), (StatusCode::ACCEPTED, json!({ "pending": true })));
    bed.start();
    let info = bed.until(&format!("/v1/boxes/{REGISTRY}"), &bed.operator, |_| true).await;
    assert_eq!(info["max_bytes"], 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_drips_is_let_go() {
    let bed = Bed::still(Memory::new(), |config| config.body_timeout = Duration::from_millis(100));
    bed.memory_box(REGISTRY).await;
    let drips = stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(b"x")) }).chain(stream::pending());
    let refused = bed.send(&bed.token_of(HOSPITAL), &query("A1"), Body::from_stream(drips)).await;
    assert_eq!(refused.refusal(), (408, "ZGL-HTTP-SLOW".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_too_many_is_refused_at_once_and_health_still_answers() {
    let bed = Bed::still(Memory::new(), |config| config.in_flight_max = 1);
    bed.memory_box(REGISTRY).await;
    let hospital = bed.token_of(HOSPITAL);
    let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let query = query("A1");
    let slow = bed.send(&hospital, &query, never);
    let quick = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let refused = bed.get("/v1/stats", &bed.operator).await;
        assert_eq!(refused.refusal(), (503, "ZGL-HTTP-BUSY".to_owned()));
        assert_eq!(bed.get("/healthz", "").await.status, StatusCode::OK);
    };
    tokio::select! {
        _ = slow => panic!("a body without an end was taken"),
        () = quick => {}
    }
    assert_eq!(bed.get("/v1/stats", &bed.operator).await.status, StatusCode::OK, "the place was not given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_body_over_the_limit_is_refused() {
    let bed = Bed::still(Memory::new(), |config| config.body_max = 1000);
    let long = json!({ "address": "x".repeat(2000), "max_bytes": 1 });
    assert_eq!(bed.post("/v1/boxes", &bed.operator, &long).await.refusal(), (413, "ZGL-HTTP-SIZE".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_cuts_slow_headers_and_finishes_open_requests_when_it_stops() {
    let bed = Bed::still(Memory::new(), |config| config.header_timeout = Duration::from_millis(300));
    bed.memory_box(REGISTRY).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(zegel_gateway::serve(listener, bed.platform.clone(), async {
        let _ = stopped.await;
    }));

    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /healthz HTT").await.unwrap();
    let mut rest = Vec::new();
    let cut = tokio::time::timeout(Duration::from_secs(5), slow.read_to_end(&mut rest)).await;
    assert!(cut.is_ok(), "a client without headers was kept");

    let mut open = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/messages?{} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 2\r\n\r\na",
        query("A1"),
        bed.token_of(HOSPITAL)
    );
    open.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(TcpStream::connect(address).await.is_err(), "a stopping server takes new connections");
    open.write_all(b"b").await.unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "an open request was cut off");
    assert!(server.await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_strangers_are_bounded_however_many_connect() {
    let bed = Bed::still(Memory::new(), |_| {});
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(zegel_gateway::serve(listener, bed.platform.clone(), std::future::pending()));
    for (length, status) in [(20_000, "HTTP/1.1 200"), (120_000, "HTTP/1.1 431")] {
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(length));
        let _refused_while_it_is_sent = client.write_all(request.as_bytes()).await;
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(std::str::from_utf8(&answer), Ok(status), "{length} bytes of headers");
    }
    server.abort();
}

/// More than the buffers between two sockets hold.
const LARGE: usize = 9 * 1024 * 1024;

/// Sends a large document to the registry; the registry's token, and the path of the content.
async fn large_document(bed: &Bed) -> (String, String) {
    let (hospital, registry) = (bed.open(HOSPITAL).await, bed.open(REGISTRY).await);
    assert_eq!(bed.send(&hospital, &query("A1"), vec![7; LARGE]).await.status, StatusCode::ACCEPTED);
    let inbox = format!("/v1/boxes/{REGISTRY}/inbox");
    let page = bed.until(&inbox, &registry, |page| page["items"][0]["id"].is_string()).await;
    let path = format!("/v1/boxes/{REGISTRY}/items/{}/parts/0", page["items"][0]["id"].as_str().unwrap());
    (registry, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_holds_its_places_until_it_is_taken() {
    let mut bed = Bed::still(Memory::new(), |config| (config.streams_max, config.in_flight_max) = (1, 2));
    bed.start();
    let (registry, path) = large_document(&bed).await;
    let open =
        async || bed.router.clone().oneshot(request(Method::GET, &path, &registry, Body::empty())).await.unwrap();
    let first = open().await;
    assert_eq!(first.status(), StatusCode::OK);
    let refused = bed.get(&path, &registry).await;
    assert_eq!(refused.refusal(), (503, "ZGL-HTTP-BUSY".to_owned()), "streams are not counted");
    assert_eq!(refused.headers["retry-after"], "1");
    // Another call has the second of two places, until its answer is taken.
    let stats = request(Method::GET, "/v1/stats", &bed.operator, Body::empty());
    let second = bed.router.clone().oneshot(stats).await.unwrap();
    assert_eq!(bed.get("/v1/stats", &bed.operator).await.refusal(), (503, "ZGL-HTTP-BUSY".to_owned()));
    drop((first, second));
    assert_eq!(bed.get(&path, &registry).await.bytes.len(), LARGE, "a place was not given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_let_go_and_one_that_takes_slowly_is_not() {
    let mut bed = Bed::still(Memory::new(), |config| {
        (config.streams_max, config.write_timeout) = (2, Duration::from_secs(2));
    });
    bed.start();
    let (registry, path) = large_document(&bed).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(zegel_gateway::serve(listener, bed.platform.clone(), std::future::pending()));
    let ask = async || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(256 * 1024).unwrap();
        let mut client = socket.connect(address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {registry}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        client
    };
    let (mut still, mut slow) = (ask().await, ask().await);
    // Seven pauses, each much shorter than the limit (the machine may be busy), all together longer. A piece is large
    // enough to make the kernel wake the server, which it does when a third of the socket's buffer is free.
    let mut piece = vec![0; LARGE / 8];
    for _ in 0..7 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        slow.read_exact(&mut piece).await.unwrap();
    }
    let mut rest = Vec::new();
    let _reset = still.read_to_end(&mut rest).await;
    assert!(rest.len() < LARGE, "a client that took nothing was waited for");
    let mut more = vec![0; LARGE - 7 * piece.len()];
    slow.read_exact(&mut more).await.unwrap();
    server.abort();
}
