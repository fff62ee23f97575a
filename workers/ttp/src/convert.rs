//! Tokens of earlier generations of a project's keys, found in any text and made anew with the present one.
//!
//! A token says by its head which keys made it (`P1.<epoch>-<8 hex digits>`), so it is found without knowing the format: in CSV, JSON,
//! XML, HL7 v2, by the characters around it. FHIR ids have no head; each run of exactly 64 characters of their alphabet that begins with
//! `P` is tried, and one that does not authenticate is left.
//! Invariants: what is not a token of this project stays as it is, byte for byte; a value is in clear in memory only, one at a time;
//! one-way tokens cannot be made anew and are counted.
//! Bounds: one run of [`RUN_MAX`] characters in memory; the data set may have any size.

use crate::project::{FieldDocument, ProjectDocument, ValueKind};
use schemas::MailboxAddress;
use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, Write};
use zegel_crypto::pseudonym::{Compact, NONCE, PseudonymRoot, Randomised, Reversible, Scope};

/// Longer than any token (1,408 characters) with whatever a document puts around it.
const RUN_MAX: usize = 4_096;
/// Characters of a FHIR id token.
const ID: usize = 64;

/// Why a project's tokens cannot be converted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// Its tokens look like any other number.
    #[error("{0}: tokens in the form of national numbers cannot be found in a file")]
    Unmarked(String),
    /// There is no earlier generation.
    #[error("the project's keys were never rotated")]
    NoEarlier,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Reversible tokens that were made anew.
    pub reversible: u64,
    /// Tokens that do not link, made anew.
    pub random: u64,
    /// FHIR ids that were made anew.
    pub ids: u64,
    /// Tokens of the present generation.
    pub present: u64,
    /// One-way tokens of earlier generations: nobody can make them anew.
    pub one_way: u64,
    /// Tokens of other projects, left as they were.
    pub foreign: u64,
    /// Tokens that say they are this project's and do not authenticate.
    pub damaged: u64,
}

impl Counts {
    /// Tokens that were made anew.
    #[must_use]
    pub fn converted(&self) -> u64 {
        self.reversible + self.random + self.ids
    }
}

/// The maker of an earlier generation and that of the present one.
enum Pair {
    Reversible(Box<(Reversible, Reversible)>),
    Random(Box<(Randomised, Randomised)>),
}

/// Converts the tokens of one project. See the module's header.
pub struct Converter {
    by_head: HashMap<String, Vec<Pair>>,
    ids: Vec<(Compact, Compact)>,
    present: HashSet<String>,
    one_way: HashSet<String>,
}

impl std::fmt::Debug for Converter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Converter(***)")
    }
}

impl Converter {
    /// A converter for what every version of a project's document had made, from every earlier generation to `epoch`.
    ///
    /// # Errors
    /// [`ConvertError`].
    pub fn new<'d>(
        documents: impl IntoIterator<Item = &'d ProjectDocument>,
        root: &[u8; 32],
        epoch: u32,
    ) -> Result<Converter, ConvertError> {
        if epoch < 2 {
            return Err(ConvertError::NoEarlier);
        }
        let root = PseudonymRoot::new(root);
        let mut converter =
            Converter { by_head: HashMap::new(), ids: Vec::new(), present: HashSet::new(), one_way: HashSet::new() };
        let mut seen = HashSet::new();
        for document in documents {
            let recipient = document.recipient.to_string();
            for (field, sender) in document.fields.iter().flat_map(|field| scopes(document, field)) {
                if field.format.is_some() {
                    return Err(ConvertError::Unmarked(field.path.clone()));
                }
                let domain = field.domain.as_deref().unwrap_or(field.kind.name());
                let scope = |epoch| Scope { recipient: &recipient, domain, epoch, sender: sender.as_deref() };
                if seen.insert((domain.to_owned(), sender.clone())) {
                    (1..epoch).for_each(|earlier| converter.add(&root, &scope(earlier), &scope(epoch)));
                }
            }
        }
        Ok(converter)
    }

    fn add(&mut self, root: &PseudonymRoot, from: &Scope<'_>, to: &Scope<'_>) {
        let (old, new) = (root.reversible(from), root.reversible(to));
        self.present.insert(new.head().to_owned());
        let head = old.head().to_owned();
        self.by_head.entry(head).or_default().push(Pair::Reversible(Box::new((old, new))));
        let (old, new) = (root.randomised(from), root.randomised(to));
        self.present.insert(new.head().to_owned());
        let head = old.head().to_owned();
        self.by_head.entry(head).or_default().push(Pair::Random(Box::new((old, new))));
        for kind in ["H1", "E1"] {
            // Whoever converts does not have the decode role's key, so escrowed values are as good as one-way here.
            self.present.insert(root.one_way(to).head().replacen("H1", kind, 1));
            self.one_way.insert(root.one_way(from).head().replacen("H1", kind, 1));
        }
        self.ids.push((root.compact(from), root.compact(to)));
    }

    /// Copies a data set with its tokens made anew. `random` fills a buffer with unpredictable bytes.
    ///
    /// # Errors
    /// When reading or writing fails; what was written is to be thrown away.
    pub fn run(
        &mut self,
        input: &mut dyn BufRead,
        output: &mut dyn Write,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> io::Result<Counts> {
        let (mut counts, mut held, mut out) = (Counts::default(), Vec::new(), Vec::new());
        loop {
            let block = input.fill_buf()?;
            let length = block.len();
            held.extend_from_slice(block);
            input.consume(length);
            // A run that is cut by the end of a block goes on in the next one.
            let whole = match held.iter().rposition(|byte| !is_of_token(*byte)) {
                _ if length == 0 || held.len() > RUN_MAX + length => held.len(),
                Some(last) => last + 1,
                None => 0,
            };
            for run in held[..whole].chunk_by(|one, other| is_of_token(*one) == is_of_token(*other)) {
                match is_of_token(run[0]).then(|| std::str::from_utf8(run)) {
                    Some(Ok(text)) => self.run_of_characters(text, &mut out, &mut counts, random),
                    _ => out.extend_from_slice(run),
                }
            }
            held.drain(..whole);
            output.write_all(&out)?;
            out.clear();
            if length == 0 {
                return Ok(counts);
            }
        }
    }

    fn run_of_characters(
        &mut self,
        run: &str,
        out: &mut Vec<u8>,
        counts: &mut Counts,
        random: &mut dyn FnMut(&mut [u8]),
    ) {
        if run.len() == ID && run.starts_with('P') && self.id(run, out) {
            counts.ids += 1;
            return;
        }
        let mut rest = run;
        while let Some(start) = token_start(rest) {
            let (before, from) = rest.split_at(start);
            out.extend_from_slice(before.as_bytes());
            let Some((head, token)) = token(from) else {
                out.extend_from_slice(&from.as_bytes()[..3]);
                rest = &from[3..];
                continue;
            };
            self.token(head, token, out, counts, random);
            rest = &from[token.len()..];
        }
        out.extend_from_slice(rest.as_bytes());
    }

    fn token(
        &mut self,
        head: &str,
        token: &str,
        out: &mut Vec<u8>,
        counts: &mut Counts,
        random: &mut dyn FnMut(&mut [u8]),
    ) {
        let pairs = self.by_head.get_mut(head);
        let is_ours = pairs.is_some();
        for pair in pairs.into_iter().flatten() {
            match pair {
                Pair::Reversible(pair) => {
                    if let Ok(value) = pair.0.decode(token)
                        && pair.1.encode(&value, out).is_ok()
                    {
                        counts.reversible += 1;
                        return;
                    }
                }
                Pair::Random(pair) => {
                    let mut nonce = [0; NONCE];
                    random(&mut nonce);
                    if let Ok(value) = pair.0.decode(token)
                        && pair.1.encode(&value, nonce, out).is_ok()
                    {
                        counts.random += 1;
                        return;
                    }
                }
            }
        }
        let count = match () {
            () if is_ours => &mut counts.damaged,
            () if self.present.contains(head) => &mut counts.present,
            () if self.one_way.contains(head) => &mut counts.one_way,
            () => &mut counts.foreign,
        };
        *count += 1;
        out.extend_from_slice(token.as_bytes());
    }

    fn id(&mut self, token: &str, out: &mut Vec<u8>) -> bool {
        self.ids.iter_mut().any(|(old, new)| old.decode(token).is_ok_and(|id| new.encode(&id, out).is_ok()))
    }
}

/// The field with each sender whose keys it has; once without where its keys are everybody's.
fn scopes<'d>(
    document: &'d ProjectDocument,
    field: &'d FieldDocument,
) -> impl Iterator<Item = (&'d FieldDocument, Option<String>)> {
    let has_tokens = field.action.is_token() || matches!(field.kind, ValueKind::FhirId | ValueKind::FhirReference);
    let senders: Vec<Option<String>> = match field.scope {
        _ if !has_tokens => Vec::new(),
        Some(_) => document.senders.iter().map(MailboxAddress::to_string).map(Some).collect(),
        None => vec![None],
    };
    senders.into_iter().map(move |sender| (field, sender))
}

fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn token_start(text: &str) -> Option<usize> {
    ["P1.", "R1.", "H1.", "E1."].iter().filter_map(|mark| text.find(mark)).min()
}

/// The head and the whole of the token at the beginning of a text.
fn token(text: &str) -> Option<(&str, &str)> {
    let head = 3 + text.get(3..)?.find('.')?;
    let kid = &text[3..head];
    let (epoch, check) = kid.split_once('-')?;
    let is_kid = !epoch.is_empty()
        && epoch.bytes().all(|byte| byte.is_ascii_digit())
        && check.len() == 8
        && check.bytes().all(|byte| byte.is_ascii_hexdigit());
    let body = text[head + 1..].split('.').next().unwrap_or_default();
    (is_kid && !body.is_empty()).then(|| (&text[..head], &text[..head + 1 + body.len()]))
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
