//! A client of the platform's HTTP API: one call a method, refusals as [`Failed`].
//!
//! A busy platform (429, 503 with Retry-After) is asked again a bounded number of times; a body that is a file is opened
//! anew for each try. Bodies are streamed both ways, so memory does not depend on their size.

use crate::failed::{Failed, at};
use crate::term;
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;
use ureq::http::Response;
use ureq::{Agent, Body, SendBody};

/// How often a busy platform is asked again.
const TRIES: u32 = 30;
/// The longest wait between two tries, whatever the platform says.
const WAIT_MAX_S: u64 = 10;
/// Largest JSON answer that is taken: a page of 100 messages is far below it.
const JSON_MAX: u64 = 64 << 20;
/// Larger files wait for the platform's word before their content is sent. What is smaller fits into the buffers of the
/// connection, and the refusal is read in any case.
const ASK_FIRST: u64 = 64 * 1024;
/// Opening a connection to a machine that is up takes far less.
const CONNECT: Duration = Duration::from_secs(5);

/// A platform that is connected and says nothing for so long is not there. Only for clients that ask again.
const SILENT: Duration = Duration::from_secs(60);
/// The longest that an answer of such a client may take to come in: a bag of 90 MB over a line of 2 Mbit/s.
const ANSWER: Duration = Duration::from_secs(360);

/// Parameters of a call.
pub type Pairs<'a> = &'a [(&'a str, &'a str)];

/// Talks to one platform with one token.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    base: String,
    token: Option<String>,
    tries: u32,
}

/// What a call sends.
enum Sending<'a> {
    Nothing,
    Bytes(&'a str, &'a [u8]),
    File(&'a str, &'a Path),
}

impl Client {
    /// A client of the platform at `base` (`http://host:port`).
    pub fn new(base: &str, token: Option<String>) -> Client {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .user_agent(concat!("zegel/", env!("CARGO_PKG_VERSION")))
            .build();
        Client { agent: config.into(), base: base.trim_end_matches('/').to_owned(), token, tries: TRIES }
    }

    /// The same for a caller who asks again later: a busy or silent platform does not keep it.
    pub fn impatient(&self) -> Client {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_send_body(Some(SILENT))
            .timeout_recv_response(Some(SILENT))
            .timeout_recv_body(Some(ANSWER))
            .user_agent(concat!("zegel/", env!("CARGO_PKG_VERSION")))
            .build();
        Client { agent: config.into(), tries: 1, ..self.clone() }
    }

    /// The same platform with another token.
    pub fn with_token(&self, token: &str) -> Client {
        Client { token: Some(token.to_owned()), ..self.clone() }
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// A refusal, or nobody answers.
    pub fn get(&self, path: &str, pairs: Pairs<'_>) -> Result<Value, Failed> {
        json(self.call("GET", path, pairs, &Sending::Nothing)?)
    }

    /// Sends JSON, reads JSON.
    ///
    /// # Errors
    /// A refusal, or nobody answers.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Failed> {
        self.post_bytes(path, &[], "application/json", body.to_string().as_bytes())
    }

    /// Sends JSON; an answer of 409 that says what conflicts is an answer, not a failure.
    ///
    /// # Errors
    /// A refusal, or nobody answers.
    pub fn post_answered(&self, path: &str, body: &Value) -> Result<Value, Failed> {
        let text = body.to_string();
        let body = Sending::Bytes("application/json", text.as_bytes());
        json(self.call_until("POST", path, &[], &body, |status| status < 300 || status == 409)?)
    }

    /// Sends bytes, reads JSON.
    ///
    /// # Errors
    /// A refusal, or nobody answers.
    pub fn post_bytes(&self, path: &str, pairs: Pairs<'_>, mime: &str, body: &[u8]) -> Result<Value, Failed> {
        json(self.call("POST", path, pairs, &Sending::Bytes(mime, body))?)
    }

    /// As [`Client::post_bytes`]; an answer of 409 that says what conflicts is an answer, not a failure.
    ///
    /// # Errors
    /// A refusal, or nobody answers.
    pub fn post_bytes_answered(&self, path: &str, pairs: Pairs<'_>, mime: &str, body: &[u8]) -> Result<Value, Failed> {
        let body = Sending::Bytes(mime, body);
        json(self.call_until("POST", path, pairs, &body, |status| status < 300 || status == 409)?)
    }

    /// Streams a file, reads JSON.
    ///
    /// # Errors
    /// A refusal, nobody answers, or the file cannot be read.
    pub fn post_file(&self, path: &str, pairs: Pairs<'_>, mime: &str, file: &Path) -> Result<Value, Failed> {
        json(self.call("POST", path, pairs, &Sending::File(mime, file))?)
    }

    /// Deletes.
    ///
    /// # Errors
    /// A refusal, or nobody answers.
    pub fn delete(&self, path: &str) -> Result<Value, Failed> {
        json(self.call("DELETE", path, &[], &Sending::Nothing)?)
    }

    /// Streams an answer into a writer; returns how many bytes it had.
    ///
    /// # Errors
    /// A refusal, nobody answers, the content breaks off, or the writer fails.
    pub fn download(&self, path: &str, into: &mut dyn Write) -> Result<u64, Failed> {
        let response = self.call("GET", path, &[], &Sending::Nothing)?;
        Ok(std::io::copy(&mut response.into_body().into_reader(), into)?)
    }

    /// The HTTP status of a call, whatever it is: for checks of refusals.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn status(&self, method: &str, path: &str, pairs: Pairs<'_>) -> Result<u16, Failed> {
        self.once(method, path, pairs, &Sending::Nothing).map(|response| response.status().as_u16())
    }

    fn call(&self, method: &str, path: &str, pairs: Pairs<'_>, body: &Sending<'_>) -> Result<Response<Body>, Failed> {
        self.call_until(method, path, pairs, body, |status| status < 300)
    }

    fn call_until(
        &self,
        method: &str,
        path: &str,
        pairs: Pairs<'_>,
        body: &Sending<'_>,
        answers: impl Fn(u16) -> bool,
    ) -> Result<Response<Body>, Failed> {
        let mut tries = 0;
        loop {
            let response = self.once(method, path, pairs, body)?;
            let status = response.status().as_u16();
            if answers(status) {
                return Ok(response);
            }
            tries += 1;
            let wait_s = retry_after(&response);
            // Too many, and no word of when again: a quota of the day, not a busy platform.
            let busy = status == 503 || (status == 429 && wait_s.is_some());
            if !busy || tries >= self.tries {
                return Err(refusal(response));
            }
            let wait_s = wait_s.unwrap_or(1);
            term::pause(Duration::from_secs(wait_s.clamp(1, WAIT_MAX_S)));
        }
    }

    fn once(&self, method: &str, path: &str, pairs: Pairs<'_>, body: &Sending<'_>) -> Result<Response<Body>, Failed> {
        let url = format!("{}{path}{}", self.base, query(pairs));
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let malformed = |_: ureq::http::Error| Failed::Usage("the address is not a URL".to_owned());
        let sent = match body {
            Sending::Nothing => self.agent.run(request.body(()).map_err(malformed)?),
            Sending::Bytes(mime, bytes) => {
                self.agent.run(request.header("content-type", *mime).body(*bytes).map_err(malformed)?)
            }
            Sending::File(mime, path) => {
                let file = File::open(path).map_err(at(path))?;
                let length = file.metadata().map_err(at(path))?.len();
                // Exactly the announced length, even if somebody appends to the file meanwhile.
                let body = SendBody::from_owned_reader(file.take(length));
                let request = request.header("content-type", *mime).header("content-length", length);
                // A refusal of the fields or the size is read before the content is sent; else the connection would
                // break under it, and the reason with it.
                let request = if length > ASK_FIRST { request.header("expect", "100-continue") } else { request };
                self.agent.run(request.body(body).map_err(malformed)?)
            }
        };
        sent.map_err(|error| Failed::Unreachable(format!("{}: {error}", self.base)))
    }
}

/// A whole number somewhere in an answer; 0 where it is missing.
pub fn number(value: &Value, field: &str) -> u64 {
    value.get(field).and_then(Value::as_u64).unwrap_or(0)
}

/// A text somewhere in an answer; empty where it is missing.
pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A list somewhere in an answer; empty where it is missing.
pub fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn json(response: Response<Body>) -> Result<Value, Failed> {
    let mut bytes = Vec::new();
    response.into_body().into_reader().take(JSON_MAX).read_to_end(&mut bytes)?;
    if bytes.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&bytes)?) }
}

/// Seconds after which the platform wants to be asked again.
fn retry_after(response: &Response<Body>) -> Option<u64> {
    response.headers().get("retry-after")?.to_str().ok()?.parse().ok()
}

/// Reads a problem document; what is no problem document is named by its status alone.
fn refusal(response: Response<Body>) -> Failed {
    let status = response.status().as_u16();
    let quota = status == 429 && retry_after(&response).is_none();
    let problem = json(response).unwrap_or(Value::Null);
    let code = match text(&problem, "code") {
        "" => format!("HTTP-{status}"),
        code => code.to_owned(),
    };
    let parts = [text(&problem, "title"), text(&problem, "field"), text(&problem, "detail")];
    let said = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
    if matches!(status, 429 | 502 | 503 | 504 | 507) && !quota {
        return Failed::Unreachable(format!("{code}: {said}"));
    }
    Failed::Refused { code, text: said }
}

fn query(pairs: Pairs<'_>) -> String {
    let joined: Vec<String> = pairs.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    if joined.is_empty() { String::new() } else { format!("?{}", joined.join("&")) }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_parameter_cannot_break_out_of_the_query() {
        assert_eq!(query(&[("title", "a&b=c d/é"), ("to", "CBE:1")]), "?title=a%26b%3Dc%20d%2F%C3%A9&to=CBE%3A1");
        assert_eq!(query(&[]), "");
    }

    /// A platform that says this to whoever asks; counts how often it was asked.
    fn saying(head: &'static str) -> (Client, Arc<AtomicU32>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicU32::new(0)));
        let count = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let _read = stream.read(&mut [0; 4096]).unwrap();
                let answer = format!("HTTP/1.1 {head}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}");
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        (Client { tries: 2, ..Client::new(&format!("http://{address}"), None) }, asked)
    }

    #[test]
    fn a_quota_that_is_used_up_is_refused_at_once_and_a_busy_platform_is_asked_again() {
        let (client, asked) = saying("429 Too Many Requests");
        assert!(matches!(client.get("/v1/seals/encode", &[]), Err(Failed::Refused { .. })));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        let (client, asked) = saying("429 Too Many Requests\r\nretry-after: 1");
        assert!(matches!(client.get("/healthz", &[]), Err(Failed::Unreachable(_))));
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn nobody_at_the_address_is_not_reachable() {
        // Port 1 of the loopback address: no service of today listens there.
        let outcome = Client::new("http://127.0.0.1:1", None).get("/healthz", &[]);
        assert!(matches!(outcome, Err(Failed::Unreachable(_))));
    }
}
