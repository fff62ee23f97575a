//! A whole platform in one process for one test.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use schemas::{MailboxAddress, Millis};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tower::ServiceExt;
use zegel_core::clock::FakeClock;
use zegel_core::memory::Memory;
use zegel_core::replies::Replies;
use zegel_core::{Broker, Keys, Metrics, Ports, Runner, RunnerConfig, Worker};
use zegel_crypto::Keyring;
use zegel_crypto::bag::Form;
use zegel_crypto::log::{NoteSigner, Policy, Purpose};
use zegel_crypto::tsa::Authority;
use zegel_gateway::{FileTokens, GatewayConfig, Grant, Platform, Tokens};
use zegel_timestamp::schedule::{DEFAULT, Schedule};

pub const HOSPITAL: &str = "NIHII-HOSPITAL:71000436";
pub const REGISTRY: &str = "CBE:0123456749";
pub const TTP: &str = "EHP:1990000035";

/// A platform. Dropping it stops its workers.
pub struct Bed {
    pub router: Router,
    pub platform: Arc<Platform>,
    pub memory: Arc<Memory>,
    pub clock: Arc<FakeClock>,
    pub operator: String,
    pub folder: TempDir,
    /// The log's key, and the one witness that it knows.
    pub log: Arc<NoteSigner>,
    pub witness: NoteSigner,
    runner: Option<Runner>,
}

/// What a call answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("not JSON, status {}", self.status))
    }

    /// The code of a refusal.
    pub fn code(&self) -> String {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        problem["code"].as_str().unwrap().to_owned()
    }

    /// Status and code of a refusal.
    pub fn refusal(&self) -> (u16, String) {
        (self.status.as_u16(), self.code())
    }
}

impl Bed {
    /// With all workers.
    pub async fn new() -> Bed {
        let mut bed = Bed::still(Memory::new(), |_| {});
        bed.start();
        bed
    }

    /// Without workers.
    pub fn still(memory: Arc<Memory>, change: impl FnOnce(&mut GatewayConfig)) -> Bed {
        let folder = tempfile::tempdir().unwrap();
        let keyring = Arc::new(Keyring::generate_in_memory());
        let keys: Arc<dyn Keys> = keyring.clone();
        let objects = zegel_objects::EncryptedObjects::open_local(
            &folder.path().join("objects"),
            keyring,
            tokio::runtime::Handle::current(),
        );
        let clock = Arc::new(FakeClock::at(Millis(1_800_000_000_000)));
        let tokens = FileTokens::open(&folder.path().join("tokens"), keys.clone()).unwrap();
        let operator = tokens.issue(Grant::Operator).unwrap();
        let mut config = GatewayConfig::new(TTP.parse().unwrap());
        config.ca_pem = b"-----BEGIN CERTIFICATE-----".to_vec();
        let log = Arc::new(NoteSigner::generate("zegel.example/log", Purpose::Log).unwrap());
        let witness = NoteSigner::generate("hospital.example/w", Purpose::Witness).unwrap();
        config.log = Some(Policy::new(log.public().clone(), vec![witness.public().clone()], 0).unwrap());
        change(&mut config);
        let platform = Arc::new(Platform {
            broker: memory.clone(),
            store: memory.clone(),
            objects: Arc::new(objects.unwrap()),
            keys,
            clock: clock.clone(),
            replies: Arc::new(Replies::default()),
            tokens: Arc::new(tokens),
            projects: Arc::new(zegel_ttp::project::desk::Closed),
            book: Arc::default(),
            metrics: Arc::new(|| "zegel_up 1\n".to_owned()),
            config,
        });
        let router = zegel_gateway::router(platform.clone());
        Bed { router, platform, memory, clock, operator, folder, log, witness, runner: None }
    }

    /// The same platform over another broker.
    pub fn over(&mut self, broker: Arc<dyn Broker>) {
        let Platform { store, objects, keys, clock, replies, tokens, projects, book, metrics, config, .. } =
            &*self.platform;
        let platform = Platform {
            broker,
            store: store.clone(),
            objects: objects.clone(),
            keys: keys.clone(),
            clock: clock.clone(),
            replies: replies.clone(),
            tokens: tokens.clone(),
            projects: projects.clone(),
            book: book.clone(),
            metrics: metrics.clone(),
            config: config.clone(),
        };
        self.platform = Arc::new(platform);
        self.router = zegel_gateway::router(self.platform.clone());
    }

    /// Starts all workers.
    pub fn start(&mut self) {
        let ports = Ports {
            broker: self.platform.broker.clone(),
            store: self.platform.store.clone(),
            objects: self.platform.objects.clone(),
            keys: self.platform.keys.clone(),
            clock: self.clock.clone(),
            replies: self.platform.replies.clone(),
            metrics: Arc::new(Metrics::new().unwrap()),
        };
        let mut runner = Runner::new(ports, RunnerConfig { tick_ms: 10, ..RunnerConfig::default() });
        let authority = Authority::create(&self.folder.path().join("tsa"), "Zegel test", Millis(1_800_000_000_000));
        let stamper = zegel_timestamp::stamper::OwnAuthority::new(authority.unwrap()).unwrap();
        let windows = zegel_timestamp::windows::Windows::new(Schedule::cron(DEFAULT).unwrap());
        let policy = self.platform.config.log.clone().unwrap();
        let workers: [Arc<dyn Worker>; 9] = [
            Arc::new(zegel_mailbox::Submissions::new(TTP.parse().unwrap())),
            Arc::new(zegel_mailbox::Boxes),
            Arc::new(zegel_receipts::Receipts::new(zegel_receipts::Limits::default())),
            Arc::new(zegel_receipts::Alerts),
            Arc::new(zegel_timestamp::aggregator::Aggregator::new(windows)),
            Arc::new(zegel_timestamp::sealer::Sealer::new(Arc::new(stamper), Form::Plain)),
            Arc::new(zegel_timestamp::Log::new(self.log.clone(), policy, 1_000)),
            Arc::new(zegel_mutations::FanOut),
            Arc::new(zegel_mutations::Feed),
        ];
        for worker in workers {
            runner.start(worker);
        }
        self.runner = Some(runner);
    }

    /// Opens a mailbox and returns its owner's token.
    pub async fn open(&self, address: &str) -> String {
        let body = serde_json::json!({ "address": address, "max_bytes": 100_000_000 });
        let answer = self.post("/v1/boxes", &self.operator, &body).await;
        assert_eq!(answer.status, StatusCode::CREATED);
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    /// A token for a mailbox that nobody opened.
    pub fn token_of(&self, address: &str) -> String {
        let address: MailboxAddress = address.parse().unwrap();
        let key = zegel_core::names::address_key(&*self.platform.keys, &address);
        self.platform.tokens.issue(Grant::Mailbox(key)).unwrap()
    }

    pub async fn call(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Answer { status, headers, bytes }
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.call(request(Method::GET, path, token, Body::empty())).await
    }

    pub async fn delete(&self, path: &str, token: &str) -> Answer {
        self.call(request(Method::DELETE, path, token, Body::empty())).await
    }

    pub async fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        let mut request = request(Method::POST, path, token, Body::from(body.to_string()));
        request.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
        self.call(request).await
    }

    /// Hands a message over.
    pub async fn send(&self, token: &str, query: &str, body: impl Into<Body>) -> Answer {
        self.call(request(Method::POST, &format!("/v1/messages?{query}"), token, body.into())).await
    }

    /// Asks until the answer is as wanted, for at most ten seconds.
    pub async fn until(&self, path: &str, token: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..1_000 {
            let answer = self.get(path, token).await;
            if answer.status == StatusCode::OK {
                last = answer.json();
                if wanted(&last) {
                    return last;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{path} never became as wanted; it says {last}");
    }

    /// Files that the object store holds, unfinished ones included.
    pub fn object_files(&self) -> Vec<PathBuf> {
        files(self.folder.path().join("objects"))
    }

    /// Messages that were ever published to a channel.
    pub async fn published(&self, channel: &str) -> u64 {
        let stats = self.get("/v1/stats", &self.operator).await.json();
        let found = stats["channels"].as_array().unwrap().iter().find(|entry| entry["channel"] == channel);
        found.unwrap()["published"].as_u64().unwrap()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Some(runner) = self.runner.take() {
            drop(runner.kill());
        }
    }
}

/// The query of a message from the hospital to the registry.
pub fn query(publication_id: &str) -> String {
    format!("sender={HOSPITAL}&to={REGISTRY}&publication_id={publication_id}&title=Lab&file_name=lab.csv&mime=text/csv")
}

pub fn request(method: Method, path: &str, token: &str, body: Body) -> Request<Body> {
    let builder = Request::builder().method(method).uri(path);
    builder.header(header::AUTHORIZATION, format!("Bearer {token}")).body(body).unwrap()
}

fn files(folder: PathBuf) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            out.extend(files(entry.path()));
        } else {
            out.push(entry.path());
        }
    }
    out
}
