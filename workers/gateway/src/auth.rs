//! Who may call: bearer tokens, kept as SHA-256 only, for two roles: the operator, and the owner of one mailbox.
//!
//! File format of [`FileTokens`], append-only, mode 0600, one grant a line:
//! `<SHA-256 of the token, hex> operator` or `<SHA-256 of the token, hex> mailbox <blinded key, hex>`. So the file shows
//! neither a token nor an identifier (I4). A mailbox's line that ends in ` alone` ends every token of this mailbox above
//! it, so that revoking the old and giving the new is one write. A line counts once its line feed is durable: the token is handed out after the
//! fsync, and a last line without its end, left by a crash, is cut off when the file is opened.
//! Failure behaviour: a line that is not understood refuses the whole file (I8); it is never skipped.
//! A lookup is by the hash of a token of 256 random bits, so timing tells nothing that helps to guess one.

use crate::platform::Front;
use crate::problem::{Answer, Problem};
use axum::extract::FromRequestParts;
use axum::http::{header, request::Parts};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use schemas::{Key, MailboxAddress, Sha256};
use std::collections::HashMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use zegel_core::{Keys, names};
use zegel_crypto::hash::sha256;

/// Most lines in the file, those of revoked tokens included: 10 MB of it, 10 MB of memory.
const LINES_MAX: usize = 100_000;

/// What a token gives the right to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grant {
    /// Running the platform: opening boxes, feeding mutations, dead letters.
    Operator,
    /// Everything that the owner of this box may do.
    Mailbox(Key),
}

/// Why a token could not be issued, or the tokens not be read.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The file could not be read or written durably.
    #[error("token file: {0}")]
    Io(#[from] io::Error),
    /// A line is not a grant.
    #[error("token file, line {0}: not a grant")]
    Line(usize),
    /// The bound on the number of lines is reached.
    #[error("token file holds its most lines already")]
    TooMany,
    /// An earlier write failed and could not be undone: what is in the file is not known.
    #[error("token file was not written as it should; restart to read it again")]
    Unknown,
}

/// Knows tokens by their hashes.
pub trait Tokens: Send + Sync + 'static {
    /// What the token with this SHA-256 gives the right to.
    fn lookup(&self, hash: &Sha256) -> Option<Grant>;

    /// Makes a new token; durable on return. Blocks for an fsync. The token is shown once and never again.
    ///
    /// # Errors
    /// See [`TokensError`]; then no token was made.
    fn issue(&self, grant: Grant) -> Result<String, TokensError>;

    /// Makes the first token of a mailbox; none when it has one already, whoever asks.
    ///
    /// # Errors
    /// See [`TokensError`]; then no token was made.
    fn issue_first(&self, mailbox: Key) -> Result<Option<String>, TokensError>;

    /// Makes a new token of a mailbox and revokes all others of it, both or neither.
    ///
    /// # Errors
    /// See [`TokensError`]; then the others are valid still.
    fn reissue(&self, mailbox: Key) -> Result<String, TokensError>;
}

/// Tokens in an append-only file. See the module's header.
pub struct FileTokens {
    keys: Arc<dyn Keys>,
    known: RwLock<HashMap<Sha256, Grant>>,
    file: Mutex<Option<Lines>>,
}

/// The open file and how many lines it has.
struct Lines {
    file: File,
    count: usize,
}

/// What a line says of the tokens above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    Stay,
    End,
}

impl FileTokens {
    /// Opens the file, or makes an empty one.
    ///
    /// # Errors
    /// See [`TokensError`].
    pub fn open(path: &Path, keys: Arc<dyn Keys>) -> Result<FileTokens, TokensError> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let complete = text.rfind('\n').map_or(0, |end| end + 1);
        if complete < text.len() {
            file.set_len(complete as u64)?;
        }
        file.sync_all()?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        let known = parse(&text[..complete])?;
        let count = text[..complete].lines().count();
        Ok(FileTokens { keys, known: RwLock::new(known), file: Mutex::new(Some(Lines { file, count })) })
    }

    /// Reads a token file without changing it; how many tokens it holds. A last line without its end does not count.
    ///
    /// # Errors
    /// See [`TokensError`].
    pub fn check(path: &Path) -> Result<usize, TokensError> {
        let text = std::fs::read_to_string(path)?;
        let complete = text.rfind('\n').map_or(0, |end| end + 1);
        Ok(parse(&text[..complete])?.len())
    }

    /// How many tokens there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl FileTokens {
    /// Makes a token, unless `wanted` says no to what is known; nobody else writes in between.
    fn write(
        &self,
        grant: Grant,
        others: Others,
        wanted: impl FnOnce(&HashMap<Sha256, Grant>) -> bool,
    ) -> Result<Option<String>, TokensError> {
        let mut random = [0; 32];
        self.keys.random(&mut random);
        let token = format!("zgl_{}", URL_SAFE_NO_PAD.encode(random));
        let hash = sha256(token.as_bytes());
        let mut guard = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if !wanted(&self.known.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(None);
        }
        let Lines { file, count } = guard.as_mut().ok_or(TokensError::Unknown)?;
        if *count >= LINES_MAX {
            return Err(TokensError::TooMany);
        }
        let before = file.metadata()?.len();
        let written = file.write_all(print_line(&hash, grant, others).as_bytes()).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // After a failed fsync nobody knows what the disk holds: cut the line off, or take no more.
            if file.set_len(before).and_then(|()| file.sync_all()).is_err() {
                *guard = None;
            }
            return Err(error.into());
        }
        *count += 1;
        learn(&mut self.known.write().unwrap_or_else(PoisonError::into_inner), hash, grant, others);
        Ok(Some(token))
    }
}

impl Tokens for FileTokens {
    fn lookup(&self, hash: &Sha256) -> Option<Grant> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(hash).copied()
    }

    fn issue(&self, grant: Grant) -> Result<String, TokensError> {
        self.write(grant, Others::Stay, |_| true)?.ok_or(TokensError::Unknown)
    }

    fn issue_first(&self, mailbox: Key) -> Result<Option<String>, TokensError> {
        let grant = Grant::Mailbox(mailbox);
        self.write(grant, Others::Stay, |known| !known.values().any(|other| *other == grant))
    }

    fn reissue(&self, mailbox: Key) -> Result<String, TokensError> {
        self.write(Grant::Mailbox(mailbox), Others::End, |_| true)?.ok_or(TokensError::Unknown)
    }
}

fn print_line(hash: &Sha256, grant: Grant, others: Others) -> String {
    match (grant, others) {
        (Grant::Operator, _) => format!("{hash} operator\n"),
        (Grant::Mailbox(key), Others::Stay) => format!("{hash} mailbox {key}\n"),
        (Grant::Mailbox(key), Others::End) => format!("{hash} mailbox {key} alone\n"),
    }
}

/// What all complete lines say together.
fn parse(lines: &str) -> Result<HashMap<Sha256, Grant>, TokensError> {
    let mut known = HashMap::new();
    for (index, line) in lines.lines().enumerate() {
        let (hash, grant, others) = parse_line(line).ok_or(TokensError::Line(index + 1))?;
        learn(&mut known, hash, grant, others);
    }
    Ok(known)
}

fn parse_line(line: &str) -> Option<(Sha256, Grant, Others)> {
    let words: Vec<&str> = line.split(' ').collect();
    let (hash, grant, others) = match words[..] {
        [hash, "operator"] => (hash, Grant::Operator, Others::Stay),
        [hash, "mailbox", key] => (hash, Grant::Mailbox(key.parse().ok()?), Others::Stay),
        [hash, "mailbox", key, "alone"] => (hash, Grant::Mailbox(key.parse().ok()?), Others::End),
        _ => return None,
    };
    Some((hash.parse().ok()?, grant, others))
}

fn learn(known: &mut HashMap<Sha256, Grant>, hash: Sha256, grant: Grant, others: Others) {
    if others == Others::End {
        known.retain(|_, other| *other != grant);
    }
    known.insert(hash, grant);
}

/// The caller of a request, known by its token. As an argument of a handler it refuses everybody else with 401.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller(pub(crate) Grant);

impl Caller {
    /// Only the operator.
    pub(crate) fn operator(self) -> Answer<()> {
        match self.0 {
            Grant::Operator => Ok(()),
            Grant::Mailbox(_) => Err(forbidden("only the operator may do this")),
        }
    }

    /// Only the owner of the box; the operator runs the platform but does not read the post.
    pub(crate) fn owner(self, front: &Front, address: &MailboxAddress) -> Answer<Key> {
        let key = names::address_key(&*front.keys, address);
        match self.0 {
            Grant::Mailbox(own) if own == key => Ok(key),
            _ => Err(forbidden("only the owner of this mailbox may do this")),
        }
    }

    /// The owner of the box, or the operator.
    pub(crate) fn owner_or_operator(self, front: &Front, address: &MailboxAddress) -> Answer<Key> {
        match self.0 {
            Grant::Operator => Ok(names::address_key(&*front.keys, address)),
            Grant::Mailbox(_) => self.owner(front, address),
        }
    }
}

fn forbidden(detail: &'static str) -> Problem {
    Problem::new("ZGL-AUTH-ROLE", detail)
}

impl FromRequestParts<Arc<Front>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, front: &Arc<Front>) -> Answer<Caller> {
        let unknown = || Problem::new("ZGL-AUTH-TOKEN", "send the header Authorization: Bearer <token>");
        let header = parts.headers.get(header::AUTHORIZATION).ok_or_else(unknown)?;
        let (scheme, token) = header.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(unknown)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(unknown());
        }
        let grant = front.tokens.lookup(&sha256(token.trim().as_bytes())).ok_or_else(unknown)?;
        Ok(Caller(grant))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use zegel_crypto::Keyring;

    fn keys() -> Arc<dyn Keys> {
        Arc::new(Keyring::generate_in_memory())
    }

    #[test]
    fn a_token_outlives_a_restart_and_never_lies_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let tokens = FileTokens::open(&path, keys()).unwrap();
        let operator = tokens.issue(Grant::Operator).unwrap();
        let owner = tokens.issue(Grant::Mailbox(Key([7; 16]))).unwrap();
        drop(tokens);
        let again = FileTokens::open(&path, keys()).unwrap();
        assert_eq!(again.lookup(&sha256(operator.as_bytes())), Some(Grant::Operator));
        assert_eq!(again.lookup(&sha256(owner.as_bytes())), Some(Grant::Mailbox(Key([7; 16]))));
        assert_eq!(again.lookup(&sha256(b"zgl_guess")), None);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&operator) && !text.contains(&owner));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_line_cut_by_a_crash_is_dropped_and_a_strange_line_refuses_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let token = FileTokens::open(&path, keys()).unwrap().issue(Grant::Operator).unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{whole}{}", &whole[..40])).unwrap();
        let tokens = FileTokens::open(&path, keys()).unwrap();
        assert_eq!(tokens.count(), 1);
        assert_eq!(tokens.lookup(&sha256(token.as_bytes())), Some(Grant::Operator));
        drop(tokens);
        std::fs::write(&path, format!("{whole}everything is allowed\n")).unwrap();
        assert!(matches!(FileTokens::open(&path, keys()), Err(TokensError::Line(2))));
    }

    #[test]
    fn a_mailbox_gets_one_first_token_and_a_new_one_ends_the_old_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let (own, other) = (Key([7; 16]), Key([8; 16]));
        let tokens = FileTokens::open(&path, keys()).unwrap();
        let first = tokens.issue_first(own).unwrap().unwrap();
        assert_eq!(tokens.issue_first(own).unwrap(), None, "whoever opens again can read the post");
        let stranger = tokens.issue_first(other).unwrap().unwrap();
        let second = tokens.reissue(own).unwrap();
        drop(tokens);
        for tokens in [FileTokens::open(&path, keys()).unwrap(), FileTokens::open(&path, keys()).unwrap()] {
            assert_eq!(tokens.lookup(&sha256(first.as_bytes())), None, "a revoked token opens the box");
            assert_eq!(tokens.lookup(&sha256(second.as_bytes())), Some(Grant::Mailbox(own)));
            assert_eq!(tokens.lookup(&sha256(stranger.as_bytes())), Some(Grant::Mailbox(other)));
            assert_eq!(tokens.issue_first(own).unwrap(), None);
        }
        assert_eq!(FileTokens::check(&path).unwrap(), 2);
        let third = FileTokens::open(&path, keys()).unwrap();
        let token = third.reissue(own).unwrap();
        assert_eq!(third.lookup(&sha256(second.as_bytes())), None);
        assert_eq!(third.lookup(&sha256(token.as_bytes())), Some(Grant::Mailbox(own)));
    }
}
