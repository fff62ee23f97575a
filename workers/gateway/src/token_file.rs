//! Tokens in a file that several gateways may share.
//!
//! Append-only, mode 0600, one grant a line: `<SHA-256 of the token, hex> operator` or
//! `<SHA-256 of the token, hex> mailbox <blinded key, hex>`. So the file shows neither a token nor an identifier (I4). A
//! mailbox's line that ends in ` alone` ends every token of this mailbox above it, so that revoking the old and giving the
//! new is one write. A line counts once its line feed is durable: the token is handed out after the fsync, and a last line
//! without its end, left by a crash, is cut off before the next is written.
//! Several processes: a writer holds the file's lock, and reads what others wrote before it decides; a lookup compares the
//! file's length with what was read, so a token that another process gave or revoked is known with the next request.
//! Failure behaviour: a line that is not understood refuses the whole file (I8); it is never skipped.

use crate::auth::{Grant, Tokens, TokensError};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use schemas::{Key, Sha256};
use std::collections::HashMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use zegel_core::Keys;
use zegel_crypto::hash::sha256;

/// Most lines in the file, those of revoked tokens included: 10 MB of it, 10 MB of memory.
const LINES_MAX: usize = 100_000;
/// Longest line, with its line feed: two hashes and their words.
const LINE_BYTES: u64 = 128;

/// Tokens in an append-only file. See the module's header.
pub struct FileTokens {
    keys: Arc<dyn Keys>,
    file: File,
    known: RwLock<HashMap<Sha256, Grant>>,
    /// Bytes of the file that are known: complete lines.
    read: AtomicU64,
    writing: Mutex<Writing>,
}

/// How the writing side is.
struct Writing {
    lines: usize,
    /// Whether an earlier write failed and could not be undone.
    broken: bool,
}

/// What a line says of the tokens above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    Stay,
    End,
}

/// Holds the file's lock among processes.
struct Locked<'a>(&'a File);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // The system takes it back when the file is closed, at the latest.
        let _unlocked = self.0.unlock();
    }
}

impl FileTokens {
    /// Opens the file, or makes an empty one.
    ///
    /// # Errors
    /// See [`TokensError`].
    pub fn open(path: &Path, keys: Arc<dyn Keys>) -> Result<FileTokens, TokensError> {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.sync_all()?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        let writing = Mutex::new(Writing { lines: 0, broken: false });
        let tokens = FileTokens { keys, file, known: RwLock::default(), read: AtomicU64::new(0), writing };
        tokens.catch_up(&mut tokens.writing())?;
        Ok(tokens)
    }

    /// Reads a token file without changing it; how many tokens it holds. A last line without its end does not count.
    ///
    /// # Errors
    /// See [`TokensError`].
    pub fn check(path: &Path) -> Result<usize, TokensError> {
        let text = std::fs::read(path)?;
        let mut known = HashMap::new();
        parse(&text[..complete(&text)], 0)?.into_iter().for_each(|line| learn(&mut known, line));
        Ok(known.len())
    }

    /// How many tokens there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what was written since, by whomever. A file that became shorter, because a write was undone, is read anew.
    fn catch_up(&self, writing: &mut Writing) -> Result<(), TokensError> {
        let length = self.file.metadata()?.len();
        let read = self.read.load(Ordering::Acquire);
        let from = if length < read { 0 } else { read };
        let room = (LINES_MAX as u64 + 1) * LINE_BYTES;
        let mut text = vec![0; usize::try_from((length - from).min(room)).unwrap_or(0)];
        self.file.read_exact_at(&mut text, from)?;
        let complete = complete(&text);
        if complete == 0 && from == read {
            return Ok(()); // nothing, or a line that is being written
        }
        let above = if from == 0 { 0 } else { writing.lines };
        let lines = parse(&text[..complete], above)?;
        writing.lines = above + lines.len();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if from == 0 {
            known.clear();
        }
        lines.into_iter().for_each(|line| learn(&mut known, line));
        drop(known);
        self.read.store(from + complete as u64, Ordering::Release);
        Ok(())
    }

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
        let mut writing = self.writing();
        if writing.broken {
            return Err(TokensError::Unknown);
        }
        self.file.lock()?;
        let _locked = Locked(&self.file);
        self.catch_up(&mut writing)?;
        if !wanted(&self.known.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(None);
        }
        if writing.lines >= LINES_MAX {
            return Err(TokensError::TooMany);
        }
        let before = self.read.load(Ordering::Acquire);
        if self.file.metadata()?.len() > before {
            self.file.set_len(before)?; // a line cut by a crash
        }
        let written = (&self.file).write_all(print_line(&hash, grant, others).as_bytes());
        if let Err(error) = written.and_then(|()| self.file.sync_data()) {
            // After a failed fsync nobody knows what the disk holds: cut the line off, or take no more.
            writing.broken = self.file.set_len(before).and_then(|()| self.file.sync_all()).is_err();
            return Err(error.into());
        }
        self.catch_up(&mut writing)?;
        Ok(Some(token))
    }
}

impl Tokens for FileTokens {
    fn lookup(&self, hash: &Sha256) -> Option<Grant> {
        let length = self.file.metadata().map(|metadata| metadata.len());
        if length.is_ok_and(|length| length != self.read.load(Ordering::Acquire)) {
            // Whoever writes now reads it too; what cannot be read gives nobody a right, and is said at the next write.
            if let Ok(mut writing) = self.writing.try_lock()
                && let Err(error) = self.catch_up(&mut writing)
            {
                tracing::warn!(%error, "token file cannot be read again");
            }
        }
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

/// Bytes of the complete lines.
fn complete(text: &[u8]) -> usize {
    text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

/// One line: whose token, what it gives the right to, and what becomes of the others.
type Line = (Sha256, Grant, Others);

/// What complete lines say; `above` lines stand above them.
fn parse(lines: &[u8], above: usize) -> Result<Vec<Line>, TokensError> {
    let lines = lines.split_inclusive(|byte| *byte == b'\n').enumerate();
    let parsed = lines.map(|(index, line)| {
        let text = std::str::from_utf8(line).ok();
        text.and_then(|line| parse_line(line.trim_end_matches('\n'))).ok_or(TokensError::Line(above + index + 1))
    });
    parsed.collect()
}

fn parse_line(line: &str) -> Option<Line> {
    let words: Vec<&str> = line.split(' ').collect();
    let (hash, grant, others) = match words[..] {
        [hash, "operator"] => (hash, Grant::Operator, Others::Stay),
        [hash, "mailbox", key] => (hash, Grant::Mailbox(key.parse().ok()?), Others::Stay),
        [hash, "mailbox", key, "alone"] => (hash, Grant::Mailbox(key.parse().ok()?), Others::End),
        _ => return None,
    };
    Some((hash.parse().ok()?, grant, others))
}

fn learn(known: &mut HashMap<Sha256, Grant>, (hash, grant, others): Line) {
    if others == Others::End {
        known.retain(|_, other| *other != grant);
    }
    known.insert(hash, grant);
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

    #[test]
    fn what_one_process_gives_or_revokes_another_knows_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let own = Key([7; 16]);
        let [here, there] = [FileTokens::open(&path, keys()).unwrap(), FileTokens::open(&path, keys()).unwrap()];
        let first = here.issue_first(own).unwrap().unwrap();
        assert_eq!(there.lookup(&sha256(first.as_bytes())), Some(Grant::Mailbox(own)), "another's token is unknown");
        assert_eq!(there.issue_first(own).unwrap(), None, "two processes each give a first token");
        let second = there.reissue(own).unwrap();
        assert_eq!(here.lookup(&sha256(first.as_bytes())), None, "a token that another process revoked opens the box");
        assert_eq!(here.lookup(&sha256(second.as_bytes())), Some(Grant::Mailbox(own)));
    }

    #[test]
    fn a_line_that_another_process_left_half_written_is_cut_off_before_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let tokens = FileTokens::open(&path, keys()).unwrap();
        let token = tokens.issue(Grant::Operator).unwrap();
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"0123 opera").unwrap();
        assert_eq!(tokens.lookup(&sha256(token.as_bytes())), Some(Grant::Operator));
        let next = tokens.issue(Grant::Operator).unwrap();
        assert_eq!(FileTokens::check(&path).unwrap(), 2);
        assert_eq!(tokens.lookup(&sha256(next.as_bytes())), Some(Grant::Operator));
    }

    #[test]
    fn processes_that_write_at_once_lose_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let issue = |n: u8| {
            let tokens = FileTokens::open(&path, keys()).unwrap();
            (0..20).map(|_| tokens.issue(Grant::Mailbox(Key([n; 16]))).unwrap()).collect::<Vec<_>>()
        };
        let given: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || issue(n))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let tokens = FileTokens::open(&path, keys()).unwrap();
        assert!(given.iter().all(|token| tokens.lookup(&sha256(token.as_bytes())).is_some()));
        assert_eq!(tokens.count(), 80);
    }
}
