//! Runs the built program as a child process and talks to it over HTTP, as any client would.
//!
//! A [`Server`] may be killed and started again on the same data folder; its address changes, and clients that go on
//! through a restart look it up in a shared [`Address`].

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A start that takes longer than this is a failure of the program.
const START: Duration = Duration::from_secs(60);
/// A request that takes longer is given up (and repeated by clients that must get through).
const REQUEST: Duration = Duration::from_secs(20);
/// How long a box is opened again that is not open yet.
const OPENING: Duration = Duration::from_secs(60);

/// Where the server is now.
#[derive(Debug, Clone, Default)]
pub struct Address(Arc<Mutex<String>>);

impl Address {
    /// The base URL.
    #[must_use]
    pub fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, url: &str) {
        url.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A running `zegel up`.
pub struct Server {
    child: Child,
    data: PathBuf,
    address: Address,
    _stdout: std::thread::JoinHandle<()>,
}

impl Server {
    /// Starts the program on a data folder and waits until it listens. Extra environment goes to the child.
    ///
    /// # Errors
    /// The child's standard error, when it does not come up.
    pub fn start(program: &Path, data: &Path, address: &Address, env: &[(&str, &str)]) -> Result<Server, String> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(data.with_extension("log"))
            .map_err(|error| error.to_string())?;
        let mut child = Command::new(program)
            .args(["up", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let (sender, receiver) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(at) = line.find("http://") {
                    let url: String = line[at..].chars().take_while(|c| !c.is_whitespace()).collect();
                    let _gone = sender.send(url);
                }
            }
        });
        match receiver.recv_timeout(START) {
            Ok(url) => {
                address.set(url.trim_end_matches('/'));
                Ok(Server { child, data: data.to_path_buf(), address: address.clone(), _stdout: reader })
            }
            Err(_) => {
                let _ended = child.kill();
                let _status = child.wait();
                Err(std::fs::read_to_string(data.with_extension("log")).unwrap_or_default())
            }
        }
    }

    /// Ends the process at once, as a power cut would for it.
    pub fn kill(self) {
        drop(self);
    }

    /// Asks the process to drain, and gives its exit code.
    pub fn stop(mut self) -> Option<i32> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Slots of a stage that this process owns, as its metrics say.
    #[must_use]
    pub fn owned(&self, stage: &str) -> u64 {
        let text = Client::new(&self.address, "").get_bytes("/metrics").unwrap_or_default();
        let label = format!("stage=\"{stage}\"");
        let lines = String::from_utf8_lossy(&text).into_owned();
        let of_stage = lines.lines().filter(|line| line.starts_with("zegel_slot_owned{") && line.contains(&label));
        of_stage.filter(|line| line.ends_with(" 1")).count() as u64
    }

    /// A client with the operator's token.
    #[must_use]
    pub fn operator(&self) -> Client {
        let token = std::fs::read_to_string(self.data.join("credentials/operator.token")).unwrap_or_default();
        Client::new(&self.address, token.trim())
    }

    /// Opens a mailbox and gives its owner's client.
    ///
    /// # Errors
    /// The server's answer, when it refuses.
    pub fn open_box(&self, owner: &str) -> Result<Client, String> {
        let body = serde_json::json!({ "address": owner, "max_bytes": 10_000_000_000u64 });
        let since = Instant::now();
        let answer = loop {
            let answer = self.operator().post("/v1/boxes", &body)?;
            // Taken, and not done in the time that a request waits: opening again changes nothing and gives the token.
            if answer["pending"] != true || since.elapsed() > OPENING {
                break answer;
            }
        };
        let token = answer["token"].as_str().ok_or_else(|| format!("no token in {answer}"))?;
        Ok(Client::new(&self.address, token))
    }
}

/// A test that fails leaves no process behind.
impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Speaks HTTP with one token.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    address: Address,
    token: String,
}

impl Client {
    /// A client for a token.
    #[must_use]
    pub fn new(address: &Address, token: &str) -> Client {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(REQUEST))
            .http_status_as_error(false)
            .max_idle_connections(4)
            .build();
        Client { agent: config.into(), address: address.clone(), token: token.to_owned() }
    }

    /// The token that it speaks with.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// POSTs bytes; the status and the JSON answer.
    ///
    /// # Errors
    /// When no answer came.
    pub fn post_bytes(&self, path: &str, mime: &str, body: &[u8]) -> Result<(u16, Value), String> {
        let response = self
            .agent
            .post(format!("{}{path}", self.address.get()))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", mime)
            .send(body);
        read(response)
    }

    /// POSTs JSON and expects success.
    ///
    /// # Errors
    /// Status and body, when it is not a success.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        let (status, answer) = self.post_bytes(path, "application/json", body.to_string().as_bytes())?;
        if (200..300).contains(&status) { Ok(answer) } else { Err(format!("{status} {answer}")) }
    }

    /// GETs JSON and expects success.
    ///
    /// # Errors
    /// Status and body, when it is not a success.
    pub fn get(&self, path: &str) -> Result<Value, String> {
        let (status, answer) = read(self.request(path).call())?;
        if status == 200 { Ok(answer) } else { Err(format!("{status} {answer}")) }
    }

    /// GETs bytes and expects success.
    ///
    /// # Errors
    /// When it is not a success.
    pub fn get_bytes(&self, path: &str) -> Result<Vec<u8>, String> {
        let mut response = self.request(path).call().map_err(|error| error.to_string())?;
        let bytes =
            response.body_mut().with_config().limit(1 << 30).read_to_vec().map_err(|error| error.to_string())?;
        if response.status() == 200 { Ok(bytes) } else { Err(response.status().to_string()) }
    }

    /// Any call, whatever its answer: the status, and everything that came, headers and body.
    ///
    /// # Errors
    /// When no answer came.
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<(u16, Vec<u8>), String> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.address.get()))
            .header("authorization", format!("Bearer {}", self.token));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).map_err(|error| error.to_string())?;
        let mut response = self.agent.run(request).map_err(|error| error.to_string())?;
        let mut all = format!("{:?}\n", response.headers()).into_bytes();
        let body = response.body_mut().with_config().limit(1 << 30).read_to_vec();
        all.extend(body.map_err(|error| error.to_string())?);
        Ok((response.status().as_u16(), all))
    }

    fn request(&self, path: &str) -> ureq::RequestBuilder<ureq::typestate::WithoutBody> {
        self.agent
            .get(format!("{}{path}", self.address.get()))
            .header("authorization", format!("Bearer {}", self.token))
    }
}

fn read(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<(u16, Value), String> {
    let mut response = response.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let text = response.body_mut().with_config().limit(1 << 28).read_to_string().map_err(|error| error.to_string())?;
    Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
}
