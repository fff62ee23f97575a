//! Real brokers for tests, through `deploy/dev/services`: one that all tests share, and ones that a test may kill.
//!
//! `KAFKA_URL` names the shared one. When it is not set, one is started and ends with this process. Where none can be started
//! a test says SKIPPED and passes, except with `ZEGEL_ORACLES=1`, where it fails.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use schemas::{Key, MessageId};
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use zegel_core::Sealed;
use zegel_core::transport::{Mark, Parcel};
use zegel_kafka::{Kafka, Options};

fn services() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/dev/services")
}

/// A broker of one test's own.
pub(crate) struct Broker {
    folder: TempDir,
    url: String,
    /// Waits for its input to end, which it does when this process ends in whatever way, and takes the broker down.
    keeper: Mutex<Child>,
}

impl Broker {
    /// Starts one; none where that is not possible and not required.
    pub(crate) fn start() -> Option<Broker> {
        let folder = tempfile::tempdir().unwrap();
        // The broker's own user has to reach its folder.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let script = r#""$0" up kafka && exec >/dev/null && cat >/dev/null; "$0" down kafka"#;
        let mut keeper = Command::new("bash")
            .args(["-c", script])
            .arg(services())
            .env("ZEGEL_SERVICES_DIR", folder.path().join("services"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        match line.trim().strip_prefix("KAFKA_URL=") {
            Some(url) => Some(Broker { url: url.to_owned(), keeper: Mutex::new(keeper), folder }),
            None => {
                let required = std::env::var("ZEGEL_ORACLES").is_ok_and(|value| value == "1");
                assert!(!required, "no Kafka broker can be started here");
                println!("SKIPPED: no Kafka broker can be started here");
                None
            }
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// `kill -9`.
    pub(crate) fn kill(&self) {
        let pid = std::fs::read_to_string(self.folder.path().join("services/kafka/pid")).unwrap();
        let pid = pid.trim();
        assert!(Command::new("kill").args(["-KILL", pid]).status().unwrap().success(), "the broker was not there");
        // Its sockets close when the last of its threads has ended.
        while TcpStream::connect(self.url.strip_prefix("kafka://").unwrap()).is_ok() {
            std::thread::yield_now();
        }
    }

    /// Starts it again with its data and on its port, and returns when it answers.
    pub(crate) fn restart(&self) {
        let done = Command::new(services())
            .args(["up", "kafka"])
            .env("ZEGEL_SERVICES_DIR", self.folder.path().join("services"))
            .stdout(Stdio::null())
            .status();
        assert!(done.unwrap().success(), "the broker does not start again");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        drop(keeper.stdin.take());
        let _ended = keeper.wait();
    }
}

/// The broker that tests share; none where there is none and none is required.
pub(crate) fn shared() -> Option<&'static str> {
    static URL: OnceLock<Option<String>> = OnceLock::new();
    URL.get_or_init(|| {
        if let Ok(url) = std::env::var("KAFKA_URL") {
            return Some(url);
        }
        // Never dropped: its keeper sees this process end.
        Broker::start().map(|broker| Box::leak(Box::new(broker)).url().to_owned())
    })
    .as_deref()
}

/// A prefix of names that nobody else has. Its topics go with it: a broker with thousands of partitions is slow.
pub(crate) struct Place {
    url: String,
    pub options: Options,
}

impl Place {
    pub(crate) fn new(url: &str) -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Place { url: url.to_owned(), options: Options { prefix, ..Options::default() } }
    }

    /// A transport whose topics are there.
    pub(crate) async fn verified(&self) -> Arc<Kafka> {
        let kafka = Kafka::connect(&self.url, self.options.clone()).unwrap();
        kafka.apply().await.unwrap();
        kafka.verify().await.unwrap();
        kafka
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (url, prefix) = (self.url.clone(), format!("{}.", self.options.prefix));
        // A thread of its own: a test's runtime cannot wait inside itself.
        let deleting = std::thread::spawn(move || {
            let (admin, limits) = admin(&url);
            let Ok(found) = admin.inner().fetch_metadata(None, Duration::from_secs(10)) else { return };
            let topics: Vec<&str> =
                found.topics().iter().map(|topic| topic.name()).filter(|name| name.starts_with(&prefix)).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _some_may_stay = runtime.block_on(admin.delete_topics(&topics, &limits));
        });
        let _panicked = deleting.join();
    }
}

/// Another client's settings.
pub(crate) fn client(url: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", url.strip_prefix("kafka://").unwrap());
    config
}

/// What an operator's tool uses.
pub(crate) fn admin(url: &str) -> (AdminClient<DefaultClientContext>, AdminOptions) {
    (client(url).create().unwrap(), AdminOptions::new())
}

/// A parcel of a numbered lane.
pub(crate) fn parcel(n: u64) -> Parcel {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    let body = Sealed::from_stored(format!("body {n}").into_bytes().into());
    Parcel { mark: Mark::Number(n), key: Key(bytes), id: MessageId(bytes), body }
}

/// Parcels with these numbers.
pub(crate) fn parcels(numbers: impl IntoIterator<Item = u64>) -> Vec<Parcel> {
    numbers.into_iter().map(parcel).collect()
}

/// The number of a parcel of a numbered lane.
pub(crate) fn number(parcel: &Parcel) -> u64 {
    match parcel.mark {
        Mark::Number(number) => number,
        Mark::Edge { .. } => panic!("an edge's parcel on a numbered lane"),
    }
}
