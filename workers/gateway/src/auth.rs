//! Who may call: bearer tokens, known by their SHA-256 only, for two roles: the operator, and the owner of one mailbox.
//!
//! [`FileTokens`](crate::FileTokens) keeps them. A lookup is by the hash of a token of 256 random bits, so timing tells
//! nothing that helps to guess one.

use crate::platform::Front;
use crate::problem::{Answer, Problem};
use axum::extract::FromRequestParts;
use axum::http::{header, request::Parts};
use schemas::{Key, MailboxAddress, Sha256};
use std::io;
use std::sync::Arc;
use zegel_core::names;
use zegel_crypto::hash::sha256;

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
