//! The documents that somebody asks for: prescriptions with their references, or one document.
//!
//! A list has a line a document, `REF,SHA-256` in hexadecimal, as `zegel timestamp add` takes it; where the hospital salts its
//! hashes, `REF,SHA-256,SALT` with the document's own digest and the 16 bytes of salt.
//! Failure behaviour: a line of another form is an error with its number; nothing of the line is repeated.

use crate::error::ArchiveError;
use crate::finding::{Class, Findings, Place};
use schemas::Sha256;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use zegel_crypto::hash::Hasher;

/// Length of a salt.
pub const SALT: usize = 16;

/// A thread is not worth its start for less: some ten thousand documents.
const PART_MIN: usize = 1 << 20;

/// What is said of a document that was asked for without a salt, where hashes are salted.
pub(crate) const SALT_HINT: &str = "the bag is salted: give --salt, or the hospital's list (REF,SHA-256,SALT)";

/// What became of a document.
const UNSEEN: u8 = 0;
const FOUND: u8 = 1;

/// A document of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    reference: u64,
    /// What its entry must have, made with the salt where there was one.
    hash: Sha256,
    salted: bool,
}

/// Documents to look for. It is shared between the threads of an audit.
#[derive(Debug, Default)]
pub struct Documents {
    /// By reference, ascending.
    wanted: Vec<Line>,
    seen: Vec<AtomicU8>,
    /// A document without a reference, and whether a salt is in its hash.
    by_hash: Option<(Sha256, bool)>,
    hash_seen: AtomicU8,
}

/// What an entry is to the documents that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    /// One of them, or none of their references.
    Same,
    /// Another hash under one of their references.
    Other,
    /// The same, and it was asked for without a salt: in a bag whose hashes are salted this says nothing about the document.
    OtherWithoutSalt,
}

/// What an entry's hash is made of when it is salted: SHA-256(salt ‖ SHA-256(document)).
#[must_use]
pub fn salted(salt: &[u8], document: &Sha256) -> Sha256 {
    let mut hasher = Hasher::new();
    hasher.update(salt);
    hasher.update(&document.0);
    hasher.finish()
}

impl Documents {
    /// Reads a list.
    ///
    /// # Errors
    /// [`ArchiveError::Input`] with the line's number.
    pub fn parse(text: &str) -> Result<Documents, ArchiveError> {
        Documents::parse_on(text, 1)
    }

    /// The same on several threads: a list of millions takes as long to read as their bags take to check.
    ///
    /// # Errors
    /// As [`Documents::parse`].
    pub fn parse_on(text: &str, threads: usize) -> Result<Documents, ArchiveError> {
        let mut wanted = Vec::new();
        let mut lines_before = 0;
        for (found, lines) in in_parts(text, threads) {
            let part = found.map_err(|line| {
                let rule = "must be REF,SHA-256 or REF,SHA-256,SALT in hexadecimal";
                ArchiveError::input(format!("list of documents, line {}", lines_before + line), rule)
            })?;
            if wanted.is_empty() {
                wanted = part;
            } else {
                wanted.extend(part);
            }
            lines_before += lines;
        }
        // A list is mostly in order already, which costs next to nothing.
        wanted.sort_unstable();
        if wanted.windows(2).any(|pair| pair[0].reference == pair[1].reference) {
            return Err(ArchiveError::input("list of documents", "a reference stands in it twice"));
        }
        Ok(Documents::new(wanted))
    }

    /// One document, by its entry's hash and, where it is known, its reference; `salted` says whether a salt is in the hash.
    #[must_use]
    pub fn one(hash: Sha256, reference: Option<u64>, salted: bool) -> Documents {
        match reference {
            Some(reference) => Documents::new(vec![Line { reference, hash, salted }]),
            None => Documents { by_hash: Some((hash, salted)), ..Documents::default() },
        }
    }

    fn new(wanted: Vec<Line>) -> Documents {
        let seen = wanted.iter().map(|_| AtomicU8::new(UNSEEN)).collect();
        Documents { wanted, seen, ..Documents::default() }
    }

    /// How many are asked for.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.wanted.len() as u64 + u64::from(self.by_hash.is_some())
    }

    /// Compares an entry with what is asked for. `cursor` is the caller's own, 0 at first: entries that come in order are found
    /// without a search.
    pub fn meet(&self, reference: u64, hash: &Sha256, cursor: &mut usize) -> Met {
        if self.by_hash.is_some_and(|(wanted, _)| wanted == *hash) {
            self.hash_seen.store(FOUND, Ordering::Relaxed);
        }
        let at = match self.wanted.get(*cursor) {
            Some(next) if next.reference == reference => *cursor,
            _ => match self.wanted.binary_search_by_key(&reference, |wanted| wanted.reference) {
                Ok(at) => at,
                Err(_) => return Met::Same,
            },
        };
        *cursor = at + 1;
        self.seen[at].store(FOUND, Ordering::Relaxed);
        match self.wanted[at] {
            wanted if wanted.hash == *hash => Met::Same,
            wanted if wanted.salted => Met::Other,
            _ => Met::OtherWithoutSalt,
        }
    }

    /// Looks at an entry of a bag that the hospital made itself. Its references are of another series than those of the platform's
    /// bags, so another hash under the same one says nothing.
    pub fn meet_own(&self, reference: i64, hash: &Sha256) {
        if self.by_hash.is_some_and(|(wanted, _)| wanted == *hash) {
            self.hash_seen.store(FOUND, Ordering::Relaxed);
        }
        let search = |reference| self.wanted.binary_search_by_key(&(reference, *hash), |one| (one.reference, one.hash));
        let at = u64::try_from(reference).ok().and_then(|reference| search(reference).ok());
        if let Some(at) = at {
            self.seen[at].store(FOUND, Ordering::Relaxed);
        }
    }

    /// The documents that no entry was found for; `salted` says whether the archive has bags whose hashes are salted.
    pub fn missing(&self, salted: bool, findings: &mut Findings) {
        let text = |with_salt: bool| match salted && !with_salt {
            true => {
                "the archive holds no entry for this document as it was asked for, without a salt, and it has salted bags: \
                give --salt, or the hospital's list (REF,SHA-256,SALT)"
            }
            false => "the archive holds no entry for this document",
        };
        for (wanted, _) in self.wanted.iter().zip(&self.seen).filter(|(_, seen)| is_unseen(seen)) {
            let place = Place::default().at(wanted.reference);
            findings.add(Class::Missing, "document-missing", place, text(wanted.salted));
        }
        if let Some((_, with_salt)) = self.by_hash.filter(|_| is_unseen(&self.hash_seen)) {
            findings.add(Class::Missing, "document-missing", Place::default(), text(with_salt));
        }
    }
}

fn is_unseen(seen: &AtomicU8) -> bool {
    seen.load(Ordering::Relaxed) == UNSEEN
}

/// The documents of a part of a list, or which of its lines is none (from 1); and how many lines it has.
type Part = (Result<Vec<Line>, usize>, usize);

/// Reads a list in parts that end with a line.
fn in_parts(text: &str, threads: usize) -> Vec<Part> {
    let threads = threads.clamp(1, 1 + text.len() / PART_MIN);
    let mut parts = Vec::with_capacity(threads);
    let mut rest = text;
    for left in (1..=threads).rev() {
        let about = rest.len() / left;
        let end =
            rest.as_bytes()[about..].iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| about + at + 1);
        let (part, after) = if left == 1 { (rest, "") } else { rest.split_at(end) };
        parts.push(part);
        rest = after;
    }
    std::thread::scope(|scope| {
        let others: Vec<_> = parts[1..].iter().map(|part| scope.spawn(|| read(part))).collect();
        let mut found = vec![read(parts[0])];
        // A thread that ended before its work leaves no documents, and its first line is named.
        found.extend(others.into_iter().map(|other| other.join().unwrap_or((Err(1), 0))));
        found
    })
}

fn read(part: &str) -> Part {
    let mut wanted = Vec::with_capacity(part.len() / 66);
    let mut lines = 0;
    for line in part.lines() {
        lines += 1;
        match document(line.as_bytes()) {
            Some(document) => wanted.push(document),
            None if line.trim().is_empty() => {}
            None => return (Err(lines), lines),
        }
    }
    (Ok(wanted), lines)
}

fn document(line: &[u8]) -> Option<Line> {
    let mut fields = line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let reference = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let hash = Sha256(hexadecimal(fields.next()?)?);
    match (fields.next(), fields.next()) {
        (None, None) => Some(Line { reference, hash, salted: false }),
        (Some(salt), None) => Some(Line { reference, hash: salted(&hexadecimal::<SALT>(salt)?, &hash), salted: true }),
        _ => None,
    }
}

/// The salts of a list by the SHA-256 of their documents: one document may stand under several references.
///
/// # Errors
/// [`ArchiveError::Input`] with the line's number.
pub fn salts(text: &str) -> Result<HashMap<Sha256, Vec<[u8; SALT]>>, ArchiveError> {
    let mut found: HashMap<Sha256, Vec<[u8; SALT]>> = HashMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let mut fields = line.split(',').map(str::trim).skip(1);
        let (hash, salt) = (fields.next().unwrap_or_default(), fields.next());
        match (hexadecimal(hash.as_bytes()), salt.map(|salt| hexadecimal(salt.as_bytes()))) {
            (Some(hash), Some(Some(salt))) => found.entry(Sha256(hash)).or_default().push(salt),
            (Some(_), None) => {}
            (None, _) if line.trim().is_empty() => {}
            _ => {
                let rule = "must be REF,SHA-256 or REF,SHA-256,SALT in hexadecimal";
                return Err(ArchiveError::input(format!("list of documents, line {number}"), rule));
            }
        }
    }
    Ok(found)
}

/// Two digits a byte, in either case.
fn hexadecimal<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut wrong = text.len() != 2 * N;
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let (high, low) = (DIGITS[usize::from(pair[0])], DIGITS[usize::from(pair[1])]);
        // A byte that is no digit stands as 255.
        wrong |= (high | low) > 15;
        *byte = high << 4 | low;
    }
    (!wrong).then_some(bytes)
}

/// What each byte is as a digit.
const DIGITS: [u8; 256] = {
    let mut digits = [u8::MAX; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value as usize] as usize] = value;
        digits[b"0123456789ABCDEF"[value as usize] as usize] = value;
        value += 1;
    }
    digits
};

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn line(reference: u64, byte: u8) -> String {
        format!("{reference},{}\n", hex::encode([byte; 32]))
    }

    #[test]
    fn documents_are_met_in_any_order_and_the_rest_is_missing() {
        let list = Documents::parse(&[line(5, 5), line(3, 3), line(4, 4), line(9, 9)].concat()).unwrap();
        let mut cursor = 0;
        assert_eq!(list.meet(3, &Sha256([3; 32]), &mut cursor), Met::Same);
        assert_eq!(list.meet(4, &Sha256([4; 32]), &mut cursor), Met::Same);
        assert_eq!(list.meet(9, &Sha256([8; 32]), &mut cursor), Met::OtherWithoutSalt);
        assert_eq!(list.meet(77, &Sha256([8; 32]), &mut cursor), Met::Same);
        let mut findings = Findings::default();
        list.missing(false, &mut findings);
        assert_eq!(findings.list().iter().map(|found| found.place.reference).collect::<Vec<_>>(), [Some(5)]);
    }

    #[test]
    fn a_salt_makes_another_hash_and_a_bad_line_is_named() {
        let salt = "00112233445566778899aabbccddeeff";
        let list = Documents::parse(&format!("7,{},{salt}\n", hex::encode([1; 32]))).unwrap();
        let expected = salted(&hex::decode(salt).unwrap(), &Sha256([1; 32]));
        assert_eq!(list.meet(7, &expected, &mut 0), Met::Same);
        assert_eq!(list.meet(7, &Sha256([1; 32]), &mut 0), Met::Other);
        let salts = salts(&format!("7,{},{salt}\n8,{}\n", hex::encode([1; 32]), hex::encode([2; 32]))).unwrap();
        assert_eq!(salts[&Sha256([1; 32])], [<[u8; SALT]>::try_from(hex::decode(salt).unwrap()).unwrap()]);
        assert!(salts.len() == 1 && super::salts("\n7,ab,00").unwrap_err().to_string().contains("line 2"));
        for (text, number) in [("1,ab", 1), ("\n-1,", 2), ("x", 1)] {
            let error = Documents::parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("line {number}")), "{error}");
        }
        assert!(Documents::parse(&[line(1, 1), line(1, 2)].concat()).is_err());
    }

    #[test]
    fn one_document_is_found_by_its_hash_alone() {
        let list = Documents::one(Sha256([1; 32]), None, false);
        assert_eq!(list.meet(4, &Sha256([1; 32]), &mut 0), Met::Same);
        let mut findings = Findings::default();
        list.missing(false, &mut findings);
        assert_eq!((findings.total(), list.count()), (0, 1));
    }
}
