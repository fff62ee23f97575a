//! Handing a file over: the fields it goes with, the id that makes a repetition harmless, and the final answer.

use crate::client::{Client, escape, list, number, text};
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
/// Bad rows that a person is told of; all of them (up to 100) stand in the JSON.
const ROWS_TOLD: usize = 3;
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
    /// The exchange that the file goes back in.
    pub handle: Option<String>,
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
    let post = |path: &str, pairs: &[(&str, &str)]| client.post_file(path, pairs, mime(&name), file);
    hand_over(letter, &name, publication_id, &post)
}

/// As [`send`], of what was cut from a file: other bytes each time, so that the platform refuses a repetition under the same
/// id. With an id of this program's own (`same_file`), which stands for the file's bytes, that is the first submission.
///
/// # Errors
/// The platform refuses or is away.
pub fn send_cut(
    client: &Client,
    letter: &Letter,
    (name, bytes): (&str, &[u8]),
    publication_id: &str,
    same_file: bool,
) -> Result<Sent, Failed> {
    let post = |path: &str, pairs: &[(&str, &str)]| {
        if !same_file {
            return client.post_bytes(path, pairs, mime(name), bytes);
        }
        let answer = client.post_bytes_answered(path, pairs, mime(name), bytes)?;
        match text(&answer, "code") {
            "" | "ZGL-PUB-REUSED" => Ok(answer),
            code => Err(Failed::refused(code, text(&answer, "title"))),
        }
    };
    hand_over(letter, name, publication_id, &post)
}

type Post<'p> = dyn Fn(&str, &[(&str, &str)]) -> Result<Value, Failed> + 'p;

fn hand_over(letter: &Letter, name: &str, publication_id: &str, post: &Post<'_>) -> Result<Sent, Failed> {
    let receipts = letter.receipts.join(",");
    let mut pairs = vec![
        ("sender", letter.sender.as_str()),
        ("publication_id", publication_id),
        ("title", letter.title.as_deref().unwrap_or(name)),
        ("file_name", name),
        ("mime", mime(name)),
        ("receipts", &receipts),
    ];
    pairs.extend(letter.to.iter().map(|to| ("to", to.as_str())));
    pairs.extend(letter.project.iter().map(|project| ("project", project.as_str())));
    let meta: Vec<(String, &str)> =
        letter.meta.iter().map(|(key, value)| (format!("meta.{key}"), value.as_str())).collect();
    pairs.extend(meta.iter().map(|(key, value)| (key.as_str(), *value)));
    let path = match &letter.handle {
        // The handle says where to.
        Some(handle) => {
            pairs.retain(|(name, _)| *name != "to");
            format!("/v1/returns/{}", escape(handle))
        }
        None => "/v1/messages".to_owned(),
    };
    let answer = post(&path, &pairs)?;
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

/// Why a submission was refused, in words: a line for each recipient that refused it. Names rules, fields and row
/// numbers, never a value.
pub fn reasons(life: &Value) -> String {
    let states = list(life, "recipients").iter().filter_map(|recipient| recipient.get("state"));
    states.filter_map(|state| state.get("reason")).map(reason).collect::<Vec<_>>().join("; ")
}

/// A reason in words: code, text, and the first bad rows, counted from 1 after the header.
pub fn reason(reason: &Value) -> String {
    let rows = list(reason, "rows");
    let told = rows.iter().take(ROWS_TOLD).map(|row| {
        [&format!("row {}", number(row, "row")), text(row, "field"), text(row, "code")].join(" ").replace("  ", " ")
    });
    let mut told: Vec<String> = told.collect();
    if rows.len() > ROWS_TOLD {
        told.push("…".to_owned());
    }
    let rows = if told.is_empty() { String::new() } else { format!(": {}", told.join(", ")) };
    format!("{} {}{rows}", text(reason, "code"), text(reason, "text"))
}

/// The id of a file's submission: made from its name, its content and where it goes, so a file that is sent there again is
/// recognised, and may be sent elsewhere.
///
/// # Errors
/// When the file cannot be read.
pub fn publication_id(file: &Path, letter: &Letter) -> Result<String, Failed> {
    let mut opened = File::open(file).map_err(at(file))?;
    let mut content = Hasher::new();
    let mut piece = vec![0; PIECE];
    loop {
        match opened.read(&mut piece).map_err(at(file))? {
            0 => break,
            read => content.update(&piece[..read]),
        }
    }
    let name = file_name(file)?;
    let mut all = content.finish().0.to_vec();
    let project = letter.project.as_deref().unwrap_or_default();
    let handle = letter.handle.as_deref();
    for text in [name.as_str(), project].into_iter().chain(handle).chain(letter.to.iter().map(String::as_str)) {
        all.extend_from_slice(text.as_bytes());
        // No name, project or address holds this byte, so what stands before it cannot run into what comes after.
        all.push(0);
    }
    let mut head = [0; 16];
    head.copy_from_slice(&sha256(&all).0[..16]);
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
        Some("tar") => "application/x-tar",
        Some("txt") => "text/plain",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn letter(to: &str) -> Letter {
        Letter {
            sender: "NIHII-HOSPITAL:71000436".to_owned(),
            to: vec![to.to_owned()],
            project: None,
            handle: None,
            title: None,
            receipts: Vec::new(),
            meta: Vec::new(),
        }
    }

    #[test]
    fn a_refusal_names_its_first_rows_and_says_that_there_are_more() {
        let row = |row: u64| json!({ "row": row, "field": "niss", "code": "ZGL-ROW-SSIN" });
        let mut refused = json!({ "code": "ZGL-TTP-ROWS", "text": "2 of 9 rows are bad", "rows": [row(1), row(8)] });
        let life = json!({ "recipients": [{ "state": { "is": "refused", "reason": refused } }] });
        let told = "ZGL-TTP-ROWS 2 of 9 rows are bad: row 1 niss ZGL-ROW-SSIN, row 8 niss ZGL-ROW-SSIN";
        assert_eq!(reasons(&life), told);
        refused["rows"] = json!([row(1), row(2), row(3), row(4)]);
        assert!(reason(&refused).ends_with("row 3 niss ZGL-ROW-SSIN, …"));
    }

    #[test]
    fn the_id_of_a_file_depends_on_its_name_on_every_byte_and_on_where_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            publication_id(&path, &letter("CBE:0123456749")).unwrap()
        };
        let first = write("a.csv", "x,y\n1,2\n");
        assert_eq!((first.len(), first.bytes().all(|byte| byte.is_ascii_alphanumeric())), (13, true));
        assert_ne!(first, write("b.csv", "x,y\n1,2\n"));
        assert_ne!(first, write("a.csv", "x,y\n1,3\n"));
        assert_eq!(first, write("a.csv", "x,y\n1,2\n"));
        let elsewhere = publication_id(&folder.path().join("a.csv"), &letter("NIHII-HOSPITAL:71011720")).unwrap();
        assert_ne!(first, elsewhere);
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
