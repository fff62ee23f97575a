//! The drop-folder agent: sends every complete file of a folder once, and writes the final answer beside it.
//!
//! A file is complete when its size and time of change were the same at two looks a second apart; whoever writes slowly
//! renames into place. Hidden files, folders, and names that end in `.part`, `.tmp`, `.receipt.json` or `.error.json` are
//! left alone. Nothing is moved or deleted.
//! What was sent is kept in a `sled` index under `.zegel/` in the folder. It never holds the only copy of anything: when
//! it is lost, files are sent again under the same PublicationId, and the platform gives the first answer again.
//! Failure behaviour: a platform that is away is asked again for ever; a refusal is written to `<file>.error.json`.

use crate::client::Client;
use crate::failed::{Failed, at};
use crate::submit::{self, Letter, Sent};
use crate::term;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Between two looks at the folder.
const LOOK: Duration = Duration::from_millis(250);
/// A file that did not change for so long is complete.
const STABLE: Duration = Duration::from_secs(1);
/// The longest pause while the platform is away.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Watches one folder for one sender.
pub struct Agent {
    folder: PathBuf,
    client: Client,
    letter: Letter,
    index: sled::Db,
    seen: HashMap<PathBuf, Seen>,
}

/// A file as it was seen last.
struct Seen {
    size: u64,
    changed: SystemTime,
    since: Instant,
    publication_id: Option<String>,
}

/// What a look at the folder found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// Files that are not complete yet.
    pub growing: usize,
    /// Files without a final answer yet.
    pub waiting: usize,
    /// Files with a positive answer.
    pub delivered: usize,
    /// Files with a negative answer.
    pub refused: usize,
}

impl Agent {
    /// Opens the folder's index.
    ///
    /// # Errors
    /// When the folder is not there, or another agent watches it.
    pub fn open(folder: &Path, client: Client, letter: Letter) -> Result<Agent, Failed> {
        if !folder.is_dir() {
            return Err(Failed::Usage(format!("{} is not a folder", folder.display())));
        }
        let index = sled::open(folder.join(".zegel"))
            .map_err(|error| Failed::Failure(format!("index of {}: {error}", folder.display())))?;
        Ok(Agent { folder: folder.to_owned(), client, letter, index, seen: HashMap::new() })
    }

    /// Looks and sends until `stop`, or, with `once`, until every file has its final answer.
    ///
    /// # Errors
    /// When the folder or its index fails; never because the platform is away.
    pub fn run(&mut self, once: bool, stop: &AtomicBool, mut tell: impl FnMut(&Look)) -> Result<Look, Failed> {
        let mut pause = LOOK;
        loop {
            match self.look() {
                Ok(look) => {
                    pause = LOOK;
                    tell(&look);
                    if stop.load(Ordering::Relaxed) || (once && look.growing + look.waiting == 0) {
                        return Ok(look);
                    }
                }
                Err(Failed::Unreachable(why)) => {
                    tracing::warn!(why, "the platform is away; asking again");
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Err(other) => return Err(other),
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(Look::default());
            }
            term::pause(pause);
        }
    }

    /// Looks at the folder once: sends what is complete and new, and asks for the answers that are missing.
    ///
    /// # Errors
    /// See [`Agent::run`]; also when the platform is away.
    pub fn look(&mut self) -> Result<Look, Failed> {
        let mut look = Look::default();
        for path in self.files()? {
            let Some(publication_id) = self.when_complete(&path)? else {
                look.growing += 1;
                continue;
            };
            let key = format!("{}\n{publication_id}", submit::file_name(&path)?);
            match self.known(&key)? {
                None => {
                    self.send(&path, &key, &publication_id)?;
                    look.waiting += 1;
                }
                Some(entry) => match entry["answer"].as_str() {
                    Some("delivered") => look.delivered += 1,
                    Some(_) => look.refused += 1,
                    None => {
                        self.ask(&path, &key, &entry)?;
                        look.waiting += 1;
                    }
                },
            }
        }
        self.index.flush().map_err(broken)?;
        Ok(look)
    }

    fn files(&self) -> Result<Vec<PathBuf>, Failed> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(".");
            let ours = [".part", ".tmp", ".receipt.json", ".error.json"].iter().any(|end| name.ends_with(end));
            if path.is_file() && !name.starts_with('.') && !ours {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    /// The file's id, when it is complete. Hashed once for each state of the file.
    fn when_complete(&mut self, path: &Path) -> Result<Option<String>, Failed> {
        let found = fs::metadata(path).map_err(at(path))?;
        let (size, changed) = (found.len(), found.modified().map_err(at(path))?);
        let fresh = || Seen { size, changed, since: Instant::now(), publication_id: None };
        let seen = self.seen.entry(path.to_owned()).or_insert_with(fresh);
        if (seen.size, seen.changed) != (size, changed) {
            *seen = fresh();
        }
        if seen.since.elapsed() < STABLE {
            return Ok(None);
        }
        if seen.publication_id.is_none() {
            seen.publication_id = Some(submit::publication_id(path, &self.letter)?);
        }
        Ok(seen.publication_id.clone())
    }

    fn send(&self, path: &Path, key: &str, publication_id: &str) -> Result<(), Failed> {
        match submit::send(&self.client, &self.letter, path, publication_id) {
            Ok(Sent { submission, .. }) => {
                self.remember(key, &json!({ "submission": submission, "publication_id": publication_id }))
            }
            Err(Failed::Refused { code, text }) => {
                let error = json!({ "publication_id": publication_id, "code": code, "text": text });
                self.write_beside(path, "error", &error)?;
                self.remember(key, &json!({ "publication_id": publication_id, "answer": "refused" }))
            }
            Err(other) => Err(other),
        }
    }

    fn ask(&self, path: &Path, key: &str, entry: &Value) -> Result<(), Failed> {
        let submission = entry["submission"].as_str().unwrap_or_default();
        let (outcome, life) = match submit::outcome(&self.client, submission) {
            // Acknowledged, but no stage has worked on it yet.
            Err(Failed::Refused { code, .. }) if code == "ZGL-NOT-FOUND" => return Ok(()),
            other => other?,
        };
        if !outcome.is_final {
            return Ok(());
        }
        let (kind, answer) = if outcome.is_refused() { ("error", "refused") } else { ("receipt", "delivered") };
        self.write_beside(path, kind, &life)?;
        let mut entry = entry.clone();
        entry["answer"] = answer.into();
        self.remember(key, &entry)
    }

    fn write_beside(&self, path: &Path, kind: &str, value: &Value) -> Result<(), Failed> {
        let name = format!("{}.{kind}.json", submit::file_name(path)?);
        let place = self.folder.join(name);
        // Written hidden and renamed, so that nobody reads half of it.
        let temporary = self.folder.join(format!(".{kind}.tmp"));
        fs::write(&temporary, format!("{value:#}\n")).map_err(at(&temporary))?;
        fs::rename(&temporary, &place).map_err(at(&place))
    }

    fn known(&self, key: &str) -> Result<Option<Value>, Failed> {
        let found = self.index.get(key).map_err(broken)?;
        // An entry that cannot be read is as good as lost: the file is sent again and recognised.
        Ok(found.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    fn remember(&self, key: &str, entry: &Value) -> Result<(), Failed> {
        self.index.insert(key, entry.to_string().as_bytes()).map(drop).map_err(broken)
    }
}

fn broken(error: sled::Error) -> Failed {
    Failed::Failure(format!("the index of sent files: {error}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    /// A platform that takes everything and says at once that it was delivered; counts what was handed over.
    fn platform() -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, taken) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counted = taken.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
                lines.read_line(&mut first).unwrap();
                while lines.read_line(&mut line).unwrap() > 2 {
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    line.clear();
                }
                std::io::copy(&mut std::io::Read::take(&mut lines, length), &mut std::io::sink()).unwrap();
                let body = if first.starts_with("POST") {
                    counted.fetch_add(1, Ordering::SeqCst);
                    r#"{"submission":"00"}"#
                } else {
                    r#"{"recipients":[{"address":"CBE:0123456749","state":{"is":"done"}}]}"#
                };
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                (&stream).write_all(format!("{head}{body}").as_bytes()).unwrap();
            }
        });
        (format!("http://{address}"), taken)
    }

    fn agent(folder: &Path, url: &str) -> Agent {
        let letter = Letter {
            sender: "NIHII-HOSPITAL:71000436".to_owned(),
            to: vec!["CBE:0123456749".to_owned()],
            project: None,
            handle: None,
            title: None,
            receipts: Vec::new(),
            meta: Vec::new(),
        };
        Agent::open(folder, Client::new(url, None), letter).unwrap()
    }

    #[test]
    fn every_complete_file_is_sent_once_even_by_the_next_agent_and_its_receipt_lies_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let (url, taken) = platform();
        fs::write(folder.path().join("a.csv"), "x\n1\n").unwrap();
        fs::write(folder.path().join("b.csv.part"), "x\n").unwrap();
        let never = AtomicBool::new(false);
        let look = agent(folder.path(), &url).run(true, &never, |_| {}).unwrap();
        assert_eq!(look, Look { delivered: 1, ..Look::default() });
        assert!(folder.path().join("a.csv.receipt.json").exists() && folder.path().join("a.csv").exists());
        agent(folder.path(), &url).run(true, &never, |_| {}).unwrap();
        assert_eq!(taken.load(Ordering::SeqCst), 1);
        fs::write(folder.path().join("a.csv"), "x\n2\n").unwrap();
        agent(folder.path(), &url).run(true, &never, |_| {}).unwrap();
        assert_eq!(taken.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_file_that_grows_is_not_sent() {
        let folder = tempfile::tempdir().unwrap();
        let mut agent = agent(folder.path(), "http://127.0.0.1:1");
        fs::write(folder.path().join("a.csv"), "x\n").unwrap();
        assert_eq!(agent.look().unwrap().growing, 1);
        term::pause(STABLE);
        fs::write(folder.path().join("a.csv"), "x\n1\n").unwrap();
        assert_eq!(agent.look().unwrap().growing, 1);
    }
}
