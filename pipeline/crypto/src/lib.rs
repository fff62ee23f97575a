//! Bytes in, bytes out: sealing, blinding, tokens, Merkle trees, bag headers, the log, RFC 3161.
//!
//! Purpose: the only crate that touches a cipher, a MAC, a signature or ASN.1.
//! Invariants: I4 (what leaves through [`Keyring`] shows no identifier and no content) and I8 (whatever does not
//! authenticate is an error, never bytes). Secrets print as stars and are wiped when dropped.
//! Must not know: brokers, stores, sockets. Files only where the key file and the authority's folder are concerned.

#![forbid(unsafe_code)]

mod file;
mod small_sets;
#[cfg(test)]
mod vectors_tests;

pub mod bag;
pub mod envelope;
pub mod evidence_record;
pub mod ff1;
pub mod hash;
pub mod hpke;
pub mod key_text;
pub mod keyring;
pub mod log;
pub mod merkle;
pub mod module;
pub mod pseudonym;
pub mod seals;
pub mod secret;
pub mod signed;
pub mod signing;
pub mod stream;
pub mod tsa;

pub use keyring::{Guard, Keyring, KeyringError, Openers, Passphrase, PassphraseError, SealUnder};
pub use module::{Module, ModuleError, ModuleKey};
pub use secret::{ProjectRoot, Secret32};
