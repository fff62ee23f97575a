//! Canaries: values that nobody else has, and the search for them in every form in which they could show themselves.
//!
//! A form is an encoding (letters, JSON, XML, HL7 v2, URLs, hexadecimal, base64, UTF-16, Latin-1, backwards) or an unkeyed digest, which
//! stands for a value of which there are few. Failure: what is compressed cannot be searched, and fails the search.

#![allow(clippy::unwrap_used)]

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zegel_crypto::hash::sha256;

/// Bytes by which a form is found; the rest is compared. A form that is shorter would be found anywhere by chance.
const HEAD: usize = 8;
/// How files that are compressed begin: gzip, Zstandard, zip.
const COMPRESSED: [&[u8]; 3] = [&[0x1f, 0x8b], &[0x28, 0xb5, 0x2f, 0xfd], b"PK\x03\x04"];

/// One value in every form in which it could show itself.
#[derive(Debug, Clone)]
pub struct Canary {
    /// What it is, for messages.
    pub what: String,
    /// Shared, because many searches look for it.
    forms: Arc<Vec<Vec<u8>>>,
}

impl Canary {
    /// A canary of a text.
    #[must_use]
    pub fn new(what: &str, text: &str) -> Canary {
        let mut forms: Vec<Vec<u8>> = written(text).into_iter().map(String::into_bytes).collect();
        forms.extend([
            text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            text.bytes().rev().collect(),
        ]);
        forms.extend(text.chars().map(|letter| u8::try_from(u32::from(letter)).ok()).collect::<Option<Vec<u8>>>());
        let digest = sha256(text.as_bytes()).0;
        forms.extend([digest.to_vec(), hex::encode(digest).into_bytes(), hex::encode_upper(digest).into_bytes()]);
        forms.extend([STANDARD_NO_PAD.encode(digest).into_bytes(), URL_SAFE_NO_PAD.encode(digest).into_bytes()]);
        // Base64 depends on where in its group of three the text begins; the groups at both ends are left out.
        for lead in 0..3 {
            let padded = [vec![b'_'; lead], text.as_bytes().to_vec()].concat();
            for encoded in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
                forms.push(encoded.as_bytes()[4..encoded.len() - 4].to_vec());
            }
        }
        forms.retain(|form| form.len() >= HEAD);
        forms.sort();
        forms.dedup();
        assert!(!forms.is_empty(), "{what}: too short to be told from chance");
        Canary { what: what.to_owned(), forms: Arc::new(forms) }
    }
}

/// The forms of a text that are texts.
fn written(text: &str) -> Vec<String> {
    let json = |text: &str| {
        let quoted = serde_json::to_string(text).unwrap();
        quoted[1..quoted.len() - 1].to_owned()
    };
    let each = |form: &dyn Fn(char) -> String| text.chars().map(form).collect::<String>();
    let other = |form: fn(u32) -> String| {
        move |letter: char| if letter.is_ascii() { letter.to_string() } else { form(letter.into()) }
    };
    let utf16 = |letter: char| {
        let mut units = [0; 2];
        letter.encode_utf16(&mut units).iter().fold(String::new(), |mut text, unit| {
            let _written = write!(text, "\\u{unit:04x}");
            text
        })
    };
    let percent = |letter: char| {
        let mut bytes = [0; 4];
        let bytes = letter.encode_utf8(&mut bytes).bytes();
        bytes.fold(String::new(), |text, byte| {
            let is_plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            if is_plain { text + &char::from(byte).to_string() } else { format!("{text}%{byte:02X}") }
        })
    };
    let xml = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let hl7 = text.replace('\\', "\\E\\").replace('|', "\\F\\").replace('^', "\\S\\").replace('&', "\\T\\");
    vec![
        text.to_owned(),
        text.to_ascii_lowercase(),
        text.to_ascii_uppercase(),
        hex::encode(text),
        hex::encode_upper(text),
        json(text),
        json(&json(text)),
        json(text).chars().map(|letter| if letter.is_ascii() { letter.to_string() } else { utf16(letter) }).collect(),
        xml.clone(),
        xml.replace('"', "&quot;").replace('\'', "&apos;"),
        xml.replace('"', "&#34;").replace('\'', "&#39;"),
        each(&other(|code| format!("&#{code};"))),
        each(&other(|code| format!("&#x{code:X};"))),
        each(&|letter| format!("&#{};", u32::from(letter))),
        each(&|letter| format!("&#x{:x};", u32::from(letter))),
        each(&|letter| format!("&#x{:X};", u32::from(letter))),
        // As our own baits write it: all that must be escaped, each in its way.
        written_in_xml(&xml),
        text.replace('"', "\"\""),
        hl7.replace('~', "\\R\\"),
        each(&percent),
        each(&percent).replace("%20", "+"),
        each(&percent).to_ascii_lowercase(),
    ]
}

/// Quotes and letters beyond ASCII by their numbers, in hexadecimal.
fn written_in_xml(escaped: &str) -> String {
    let one = |letter: char| match letter {
        '\'' => "&#39;".to_owned(),
        letter if letter.is_ascii() => letter.to_string(),
        letter => format!("&#x{:X};", u32::from(letter)),
    };
    escaped.chars().map(one).collect()
}

/// Finds any form of many canaries in one pass.
#[derive(Debug)]
pub struct Search<'a> {
    /// Whether some form begins with these two bytes.
    begins: Vec<bool>,
    forms: HashMap<[u8; HEAD], Vec<(&'a str, &'a [u8])>>,
}

impl<'a> Search<'a> {
    /// Looks for all of these.
    #[must_use]
    pub fn new(canaries: impl IntoIterator<Item = &'a Canary>) -> Search<'a> {
        let mut search = Search { begins: vec![false; 1 << 16], forms: HashMap::new() };
        for (canary, form) in
            canaries.into_iter().flat_map(|canary| canary.forms.iter().map(move |form| (canary, form)))
        {
            search.begins[usize::from(u16::from_be_bytes([form[0], form[1]]))] = true;
            let head: [u8; HEAD] = form[..HEAD].try_into().unwrap();
            search.forms.entry(head).or_default().push((&canary.what, form));
        }
        search
    }

    /// What the first canary found is.
    #[must_use]
    pub fn first(&self, bytes: &[u8]) -> Option<&'a str> {
        self.from(bytes, 0).map(|(_, what)| what)
    }

    /// Everything that is found.
    #[must_use]
    pub fn every(&self, bytes: &[u8]) -> BTreeSet<&'a str> {
        let (mut all, mut at) = (BTreeSet::new(), 0);
        while let Some((place, what)) = self.from(bytes, at) {
            all.insert(what);
            at = place + 1;
        }
        all
    }

    /// The first place from `at` on, and what is there.
    fn from(&self, bytes: &[u8], mut at: usize) -> Option<(usize, &'a str)> {
        // Plain indices: this loop sees every byte, and iterators are slow in programs that are not optimised.
        let begins: &[bool] = &self.begins;
        while at + HEAD <= bytes.len() {
            if begins[(bytes[at] as usize) << 8 | bytes[at + 1] as usize] {
                let found = self.forms.get(&bytes[at..at + HEAD]).into_iter().flatten();
                if let Some((what, _)) = found.into_iter().find(|(_, form)| bytes[at..].starts_with(form)) {
                    return Some((at, what));
                }
            }
            at += 1;
        }
        None
    }

    /// Fails when one of them is in these bytes.
    ///
    /// # Panics
    /// With what was found, and around it what is there.
    pub fn clear(&self, bytes: &[u8], place: &str) {
        if let Some(what) = self.first(bytes) {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(2_000)]).into_owned();
            panic!("{place}: {what} is there: {text}");
        }
    }

    /// Searches every file (name and content) below a folder, and a log beside it; returns how many bytes that were.
    ///
    /// # Panics
    /// When one of them is there, there is nothing to search, or a file is compressed.
    pub fn clear_below(&self, folder: &Path, when: &str) -> u64 {
        let mut all = files(folder);
        all.push(folder.with_extension("log"));
        assert!(all.len() > 5, "{when}: there is nothing to search");
        let mut searched = 0;
        for file in all {
            // Files come and go while the program runs.
            let Ok(bytes) = fs::read(&file) else { continue };
            let name = file.to_string_lossy().into_owned();
            let is_compressed = COMPRESSED.iter().any(|head| bytes.starts_with(head));
            assert!(!is_compressed, "{name}: compressed, cannot be searched");
            assert_eq!(self.first(&bytes), None, "{when}: found in {name}");
            assert_eq!(self.first(name.as_bytes()), None, "{when}: found in the name {name}");
            searched += bytes.len() as u64;
        }
        searched
    }
}

/// Every file below a folder.
#[must_use]
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_is_found_in_every_form_and_nothing_else_is() {
        let text = "Zoé O'Can\"ary & <12345>";
        let canary = Canary::new("x", text);
        let search = Search::new([&canary]);
        let latin: Vec<u8> = text.chars().map(|letter| u8::try_from(u32::from(letter)).unwrap()).collect();
        let entities: String = text.chars().map(|letter| format!("&#{};", u32::from(letter))).collect();
        let forms: [Vec<u8>; 13] = [
            text.into(),
            latin,
            hex::encode(text).into(),
            STANDARD_NO_PAD.encode(format!("a {text} b")).into(),
            "Zo\\u00e9 O'Can\\\"ary & <12345>".into(),
            "Zoé O'Can\"ary &amp; &lt;12345&gt;".into(),
            "Zo&#233; O'Can\"ary & <12345>".into(),
            "Zo&#xE9; O'Can\"ary & <12345>".into(),
            entities.into(),
            "Zoé O'Can\"ary \\T\\ <12345>".into(),
            "Zo%C3%A9%20O%27Can%22ary%20%26%20%3C12345%3E".into(),
            "Zo%C3%A9+O%27Can%22ary+%26+%3C12345%3E".into(),
            sha256(text.as_bytes()).0.to_vec(),
        ];
        for form in forms {
            let bytes = [b"..", &form[..], b".."].concat();
            assert_eq!(search.first(&bytes), Some("x"), "{} is not found", String::from_utf8_lossy(&form));
            assert_eq!(search.every(&bytes).len(), 1);
        }
        assert_eq!(search.first("Zoe O'Can\"ary & <12345>".as_bytes()), None);
        assert_eq!(search.first(b"Z"), None);
    }
}
