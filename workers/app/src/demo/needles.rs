//! The search for identifiers where none may be: files read as bytes, every value in every usual coding (I4).
//!
//! A value is looked for as raw bytes, as hexadecimal digits of either case, as UTF-16 of either order, and inside
//! base64 at each of its three alignments. Each pattern is found by its first [`HEAD`] bytes, so a file is read once,
//! whatever the number of patterns.
//! What it does not see: values inside compressed data (nothing here is stored compressed), and values shorter than
//! [`SHORTEST`], which would be found by chance.

use crate::failed::{Failed, at};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Shorter values are found in random bytes now and then.
pub const SHORTEST: usize = 10;
/// Bytes of a pattern that are looked up.
const HEAD: usize = 8;
/// Most values that are looked for: 200,000 of them in six codings take about 150 MB.
const VALUES_MAX: usize = 200_000;
/// Bytes of a file that are held at once.
const PIECE: usize = 1 << 20;
/// Bits of the filter in front of the table: one bit in a few hundred is set at most, so few positions need the table.
const FILTER_BITS: usize = 1 << 24;

/// What is looked for.
pub struct Needles {
    patterns: HashMap<[u8; HEAD], Vec<Vec<u8>>>,
    filter: Vec<u64>,
    /// Patterns in base64 text of unknown alignment are found by decoding; these are the plain values.
    longest: usize,
    values: usize,
}

impl Needles {
    /// Prepares the search. Values under [`SHORTEST`] bytes are left out, and those beyond the bound.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Needles {
        let mut needles =
            Needles { patterns: HashMap::new(), filter: vec![0; FILTER_BITS / 64], longest: HEAD, values: 0 };
        let distinct: HashSet<&str> = values.into_iter().filter(|value| value.len() >= SHORTEST).collect();
        for value in distinct.into_iter().take(VALUES_MAX) {
            needles.values += 1;
            for pattern in codings(value) {
                needles.add(pattern);
            }
        }
        needles
    }

    /// How many values are looked for.
    pub fn len(&self) -> usize {
        self.values
    }

    /// Searches every file under a folder, except under the folders left out; returns the files with a find.
    ///
    /// # Errors
    /// When a file cannot be read. One that vanished meanwhile is no error.
    pub fn search(&self, root: &Path, leave_out: &[PathBuf]) -> Result<Vec<PathBuf>, Failed> {
        let mut found = Vec::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).map_err(at(&folder))? {
                let path = entry?.path();
                if leave_out.contains(&path) || path.is_symlink() {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                } else if self.in_text(&path.to_string_lossy()) || self.in_file(&path)? {
                    found.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Whether a text has one of the values.
    pub fn in_text(&self, text: &str) -> bool {
        self.in_bytes(text.as_bytes())
    }

    fn in_file(&self, path: &Path) -> Result<bool, Failed> {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(at(path))?,
        };
        // A find that lies across two pieces is seen in the second, which begins with the end of the first. Base64 is
        // longer than what it codes by a third.
        let overlap = self.longest * 2;
        let mut buffer = Vec::with_capacity(PIECE + overlap);
        loop {
            let before = buffer.len();
            (&mut file).take(PIECE as u64).read_to_end(&mut buffer).map_err(at(path))?;
            if buffer.len() == before {
                return Ok(false);
            }
            if self.in_bytes(&buffer) {
                return Ok(true);
            }
            let keep = buffer.len().saturating_sub(overlap);
            buffer.drain(..keep);
        }
    }

    /// Whether bytes hold one of the values.
    pub fn in_bytes(&self, bytes: &[u8]) -> bool {
        self.plainly_in(bytes) || base64_runs(bytes).any(|decoded| self.plainly_in(&decoded))
    }

    fn plainly_in(&self, bytes: &[u8]) -> bool {
        bytes.windows(HEAD).enumerate().any(|(start, head)| {
            if !self.maybe(head) {
                return false;
            }
            let Ok(head) = <[u8; HEAD]>::try_from(head) else { return false };
            let candidates = self.patterns.get(&head);
            candidates.is_some_and(|patterns| patterns.iter().any(|pattern| bytes[start..].starts_with(pattern)))
        })
    }

    fn add(&mut self, pattern: Vec<u8>) {
        let Ok(head) = <[u8; HEAD]>::try_from(&pattern[..HEAD]) else { return };
        let bit = bit_of(&head);
        self.filter[bit / 64] |= 1 << (bit % 64);
        self.longest = self.longest.max(pattern.len());
        self.patterns.entry(head).or_default().push(pattern);
    }

    fn maybe(&self, head: &[u8]) -> bool {
        let bit = bit_of(head);
        self.filter[bit / 64] & (1 << (bit % 64)) != 0
    }
}

/// A cheap, well mixed place in the filter (multiplication by a large odd number, top bits).
fn bit_of(head: &[u8]) -> usize {
    let word = head.iter().take(HEAD).fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    let mixed = word.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - FILTER_BITS.trailing_zeros());
    usize::try_from(mixed).unwrap_or(0)
}

/// A value as it may stand in a file.
fn codings(value: &str) -> Vec<Vec<u8>> {
    let utf16: Vec<u16> = value.encode_utf16().collect();
    let escaped = serde_json::Value::from(value).to_string();
    let mut all = vec![
        value.as_bytes().to_vec(),
        hex::encode(value).into_bytes(),
        hex::encode_upper(value).into_bytes(),
        utf16.iter().flat_map(|unit| unit.to_le_bytes()).collect(),
        utf16.iter().flat_map(|unit| unit.to_be_bytes()).collect(),
    ];
    if escaped.len() > value.len() + 2 {
        all.push(escaped.as_bytes()[1..escaped.len() - 1].to_vec());
    }
    all
}

/// What long runs of base64 characters decode to, at each alignment.
fn base64_runs(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let is_code = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_');
    let runs = bytes.split(move |byte| !is_code(byte)).filter(|run| run.len() > SHORTEST);
    runs.flat_map(|run| (0..4).map(move |skip| decode_base64(run.get(skip..).unwrap_or_default())))
}

fn decode_base64(run: &[u8]) -> Vec<u8> {
    let value = |byte: u8| -> u32 {
        u32::from(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            _ => 63,
        })
    };
    let mut out = Vec::with_capacity(run.len() * 3 / 4);
    for four in run.chunks_exact(4) {
        let word = four.iter().fold(0u32, |word, byte| word << 6 | value(*byte));
        out.extend_from_slice(&word.to_be_bytes()[1..]);
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn a_value_is_found_in_every_coding_and_at_every_alignment() {
        let needles = Needles::new(["85061511796", "Jansen \"Jan\" é", "short"]);
        assert_eq!(needles.len(), 2);
        for value in ["85061511796", "Jansen \"Jan\" é"] {
            for coded in codings(value) {
                assert!(needles.in_bytes(&[b"xx".as_slice(), &coded, b"yy"].concat()), "{coded:?}");
            }
            for padding in ["", "a", "ab", "abc"] {
                let text = STANDARD.encode(format!("{padding}{value}zzz"));
                assert!(needles.in_text(&format!("key = {text};")), "{text}");
            }
        }
        assert!(!needles.in_text("85061511795 and short things"));
    }

    #[test]
    fn a_value_across_two_pieces_of_a_file_is_found_and_folders_left_out_are_not_searched() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = vec![b'.'; PIECE - 5];
        bytes.extend_from_slice(b"85061511796");
        bytes.extend_from_slice(&[b'.'; 100]);
        fs::create_dir_all(folder.path().join("in/deep")).unwrap();
        fs::create_dir_all(folder.path().join("out")).unwrap();
        let inside = folder.path().join("in/deep/file");
        fs::write(&inside, &bytes).unwrap();
        fs::write(folder.path().join("out/file"), &bytes).unwrap();
        let needles = Needles::new(["85061511796"]);
        let found = needles.search(folder.path(), &[folder.path().join("out")]).unwrap();
        assert_eq!(found, [inside]);
    }

    #[test]
    fn a_value_in_a_file_name_is_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("85061511796.csv"), "").unwrap();
        assert_eq!(Needles::new(["85061511796"]).search(folder.path(), &[]).unwrap().len(), 1);
    }
}
