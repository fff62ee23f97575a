//! Handing a file over: the fields it goes with, the id that makes a repetition harmless, and the final answer.

use crate::client::{Client, list, text};
use crate::failed::{Failed, at};
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use zegel_crypto::hash::{Hasher, sha256};

/// Characters of a PublicationId (eHealthBox v3: 1 to 13).
const PUBLICATION_ID: usize = 13;
/// What a PublicationId is written in.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Bytes of a file that are held while it is hashed.
const PIECE: usize = 256 * 1024;

/// What every file of one sender goes with.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Who sends.
    pub sender: String,
    /// To whom: mailboxes, or the TTP alone.
    pub to: Vec<String>,
    /// The TTP project.
    pub project: Option<String>,
    /// The title; none takes the file's name.
    pub title: Option<String>,
    /// Wanted acknowledgements: published, received, read.
    pub receipts: Vec<String>,
    /// Custom metadata.
    pub meta: Vec<(String, String)>,
}

/// What the platform acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its id.
    pub submission: String,
    /// The sender's own reference.
    pub publication_id: String,
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether every recipient has a final answer.
    pub is_final: bool,
    /// One for each recipient: its address, the state's name, and the reason's code where there is one.
    pub answers: Vec<(String, String, Option<String>)>,
}

impl Outcome {
    /// Whether any recipient's answer is negative.
    pub fn is_refused(&self) -> bool {
        self.answers.iter().any(|(_, state, _)| state == "refused")
    }
}

/// Sends one file; the same file of the same name again is the same submission.
///
/// # Errors
/// The platform refuses or is away, or the file cannot be read.
pub fn send(client: &Client, letter: &Letter, file: &Path, publication_id: &str) -> Result<Sent, Failed> {
    let name = file_name(file)?;
    let receipts = letter.receipts.join(",");
    let mut pairs = vec![
        ("sender", letter.sender.as_str()),
        ("publication_id", publication_id),
        ("title", letter.title.as_deref().unwrap_or(&name)),
        ("file_name", &name),
        ("mime", mime(&name)),
        ("receipts", &receipts),
    ];
    pairs.extend(letter.to.iter().map(|to| ("to", to.as_str())));
    pairs.extend(letter.project.iter().map(|project| ("project", project.as_str())));
    let meta: Vec<(String, &str)> =
        letter.meta.iter().map(|(key, value)| (format!("meta.{key}"), value.as_str())).collect();
    pairs.extend(meta.iter().map(|(key, value)| (key.as_str(), *value)));
    let answer = client.post_file("/v1/messages", &pairs, mime(&name), file)?;
    Ok(Sent { submission: text(&answer, "submission").to_owned(), publication_id: publication_id.to_owned() })
}

/// Asks what became of a submission.
///
/// # Errors
/// The platform refuses or is away.
pub fn outcome(client: &Client, submission: &str) -> Result<(Outcome, Value), Failed> {
    let life = client.get(&format!("/v1/submissions/{submission}"), &[])?;
    Ok((read_outcome(&life), life))
}

/// Reads the life of a submission.
pub fn read_outcome(life: &Value) -> Outcome {
    let answers: Vec<_> = list(life, "recipients")
        .iter()
        .map(|recipient| {
            let state = recipient.get("state").unwrap_or(&Value::Null);
            let code = state.get("reason").map(|reason| text(reason, "code").to_owned());
            (text(recipient, "address").to_owned(), text(state, "is").to_owned(), code)
        })
        .collect();
    let is_final = !answers.is_empty() && answers.iter().all(|(_, state, _)| state == "done" || state == "refused");
    Outcome { is_final, answers }
}

/// The id of a file's submission: made from its name and content, so a file that is sent again is recognised.
///
/// # Errors
/// When the file cannot be read.
pub fn publication_id(file: &Path) -> Result<String, Failed> {
    let mut opened = File::open(file).map_err(at(file))?;
    let mut content = Hasher::new();
    let mut piece = vec![0; PIECE];
    loop {
        match opened.read(&mut piece).map_err(at(file))? {
            0 => break,
            read => content.update(&piece[..read]),
        }
    }
    let mut both = content.finish().0.to_vec();
    both.extend_from_slice(file_name(file)?.as_bytes());
    let mut head = [0; 16];
    head.copy_from_slice(&sha256(&both).0[..16]);
    let mut rest = u128::from_be_bytes(head);
    let id = (0..PUBLICATION_ID).map(|_| {
        let digit = usize::try_from(rest % 62).unwrap_or(0);
        rest /= 62;
        char::from(ALPHABET[digit])
    });
    Ok(id.collect())
}

/// A file's own name.
///
/// # Errors
/// When it has none, or one that is not text.
pub fn file_name(file: &Path) -> Result<String, Failed> {
    let name = file.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    name.ok_or_else(|| Failed::Usage("a file's name must be text".to_owned()))
}

/// The media type that a file's name says.
pub fn mime(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    match ending.as_deref() {
        Some("csv") => "text/csv",
        Some("ndjson" | "jsonl") => "application/x-ndjson",
        Some("json") => "application/json",
        Some("xml") => "application/xml",
        Some("pdf") => "application/pdf",
        Some("txt") => "text/plain",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_id_of_a_file_depends_on_its_name_and_on_every_byte() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            publication_id(&path).unwrap()
        };
        let first = write("a.csv", "x,y\n1,2\n");
        assert_eq!((first.len(), first.bytes().all(|byte| byte.is_ascii_alphanumeric())), (13, true));
        assert_ne!(first, write("b.csv", "x,y\n1,2\n"));
        assert_ne!(first, write("a.csv", "x,y\n1,3\n"));
        assert_eq!(first, write("a.csv", "x,y\n1,2\n"));
    }

    #[test]
    fn an_answer_is_final_when_every_recipient_has_one() {
        let state = |is: &str| json!({ "address": "CBE:0123456749", "state": { "is": is } });
        assert!(!read_outcome(&json!({ "recipients": [] })).is_final);
        assert!(!read_outcome(&json!({ "recipients": [state("done"), state("stand-by")] })).is_final);
        let refused = json!({ "address": "CBE:0123456749", "state": { "is": "refused", "reason": { "code": "816" } } });
        let outcome = read_outcome(&json!({ "recipients": [state("done"), refused] }));
        assert!(outcome.is_final && outcome.is_refused());
        assert_eq!(outcome.answers[1].2.as_deref(), Some("816"));
    }
}
