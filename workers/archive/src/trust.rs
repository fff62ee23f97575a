//! What an auditor trusts: certification authorities, the log's key and its witnesses. It comes from a file that was obtained
//! outside the archive; nothing in an archive can add to it.
//!
//! ```toml
//! retention_years = 30            # an archive that forgot younger bags is incomplete
//!
//! [[ca]]
//! file = "ca.pem"                 # beside this file; or pem = """…"""
//! from = "2026-01-01"             # its stamps count from here …
//! until = "2036-01-01"            # … to here (optional, both)
//! crl = ["ca.crl"]                # certificate revocation lists, DER or PEM (optional; the archive may hold more); of an external
//!                                 # authority those of the CAs between its units and roots too
//! external = true                 # another operator's authority: its roots (several in one file), and paths through CAs
//!                                 # in between, which its tokens hold (optional; without it the CA signed its units itself)
//!
//! [log]                           # optional: bags must then stand in this log
//! key = "zegel.example/log+…+…"   # its verifier key
//! witnesses = ["w.example/1+…+…"] # keys of witnesses who are not the platform's operator
//! quorum = 1                      # how many of them must have cosigned
//! ```
//! Lists that an archive holds count as well: a CA signed them, and they can only take trust away.
//! Failure behaviour: a trust file that cannot be understood is an error and never an empty trust.

use crate::error::{ArchiveError, at};
use crate::finding::{Class, utc};
use crate::time;
use base64::{Engine, engine::general_purpose::STANDARD};
use schemas::{Millis, Sha256};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use zegel_crypto::hash::sha256;
use zegel_crypto::log::Policy;
use zegel_crypto::tsa::{Crl, Digest, Issued, Reason, Roots, TokenInfo, TrustAnchor, TsaError, Verifier};

/// Prescriptions are kept for thirty years.
const RETENTION_YEARS: u32 = 30;
/// A mean Gregorian year.
const YEAR_MS: i64 = 31_556_952_000;
/// Most lists, and most CAs, of one authority: a list a CA and year would be a few dozen.
const LISTS_MAX: usize = 1_000;
/// A trust file lists a few certificates.
const FILE_MAX: u64 = 1 << 20;

/// A time-stamp authority's root that is trusted.
#[derive(Debug, Clone)]
pub struct Authority {
    /// Decides whether a token is of this authority.
    pub verifier: Arc<dyn Verifier>,
    /// Whose revocation lists are believed.
    issuers: Vec<TrustAnchor>,
    /// Whether it is another operator's.
    external: bool,
    /// Its text, for `openssl`.
    pub pem: String,
    /// Its stamps count from here.
    pub from: Option<Millis>,
    /// Its stamps count to here.
    pub until: Option<Millis>,
    /// Its revocation lists.
    pub lists: Vec<Crl>,
    /// Of an external authority: lists as they came, of which some may be of CAs between its units and roots.
    given: Vec<Vec<u8>>,
    /// What the paths of tokens led to so far.
    met: Arc<Mutex<Met>>,
}

/// CAs that signed certificates of tokens' paths.
#[derive(Debug, Default)]
struct Met {
    /// Their lists, by the SHA-256 of their certificates.
    lists: HashMap<Sha256, Arc<Vec<Crl>>>,
    /// By their names, when the newest list was issued; none where there is no list.
    known_until: BTreeMap<String, Option<Millis>>,
}

/// Everything that is trusted.
#[derive(Debug, Clone)]
pub struct Trust {
    /// At least one.
    pub authorities: Vec<Authority>,
    /// The log, and whose cosignatures are wanted.
    pub log: Option<Policy>,
    /// Bags must be kept so long, milliseconds.
    pub retention_ms: i64,
    /// SHA-256 of the trust file, for the report.
    pub digest: Sha256,
}

/// Why a token does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFault {
    /// [`Class::Altered`] when the token is not for these bytes, [`Class::Untrusted`] when its signer does not count.
    pub class: Class,
    /// A finding's name.
    pub name: &'static str,
    /// One sentence.
    pub text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustText {
    retention_years: Option<u32>,
    ca: Vec<CaText>,
    log: Option<LogText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogText {
    key: String,
    #[serde(default)]
    witnesses: Vec<String>,
    #[serde(default)]
    quorum: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaText {
    file: Option<String>,
    pem: Option<String>,
    from: Option<String>,
    until: Option<String>,
    #[serde(default)]
    crl: Vec<String>,
    #[serde(default)]
    external: bool,
}

impl Trust {
    /// Reads a trust file and the files it names.
    ///
    /// # Errors
    /// [`ArchiveError::Input`] with the rule that is broken; [`ArchiveError::Io`].
    pub fn read(path: &Path) -> Result<Trust, ArchiveError> {
        let text = text_of(bytes(path)?)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Trust::parse(&text, |name| bytes(&folder.join(name)))
    }

    /// Reads a trust file's text; `file` gives the content of a file that it names.
    ///
    /// # Errors
    /// As [`Trust::read`].
    pub fn parse(text: &str, file: impl Fn(&str) -> Result<Vec<u8>, ArchiveError>) -> Result<Trust, ArchiveError> {
        // What a TOML error quotes is the trust file's own, which holds no secret and no person.
        let read: TrustText = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let mut authorities = Vec::new();
        for ca in read.ca {
            let (pem, which) = match (ca.pem, ca.file) {
                (Some(pem), None) => (pem, "given as `pem`".to_owned()),
                (None, Some(name)) => (text_of(file(&name)?)?, name),
                _ => return Err(wrong("a ca has either `file` or `pem`")),
            };
            let (from, until) = (optional(ca.from)?, optional(ca.until)?);
            let mut authority = Authority::of(pem, ca.external)
                .map_err(|error| wrong(format!("the ca {which} cannot be used: {error}")))?;
            (authority.from, authority.until) = (from, until);
            for name in &ca.crl {
                let bad = |error| wrong(format!("the revocation list {name} cannot be used: {error}"));
                authority.take(der(file(name)?)).map_err(bad)?;
            }
            authorities.push(authority);
        }
        if authorities.is_empty() {
            return Err(wrong("there must be a ca"));
        }
        let log = read.log.map(policy).transpose()?;
        let years = i64::from(read.retention_years.unwrap_or(RETENTION_YEARS));
        Ok(Trust { authorities, log, retention_ms: years * YEAR_MS, digest: sha256(text.as_bytes()) })
    }

    /// The same, with revocation lists that came with an archive. What is no list of a trusted CA is passed over.
    #[must_use]
    pub fn with_lists<'a>(&self, lists: impl IntoIterator<Item = &'a [u8]>) -> Trust {
        let mut trust = self.clone();
        trust.authorities.iter_mut().for_each(|authority| authority.met = Arc::default());
        for list in lists {
            let list = der(list.to_vec());
            for authority in &mut trust.authorities {
                let _of_another_ca = authority.take(list.clone());
            }
        }
        trust
    }

    /// Up to when it is known of every CA which certificates were revoked; none when a CA has no list. CAs between units and
    /// roots count once a token was verified that led to them.
    #[must_use]
    pub fn revocations_known_until(&self) -> Option<Millis> {
        self.authorities.iter().map(Authority::known_until).min().flatten()
    }

    /// The names of CAs in the paths of the tokens that were verified, of which there is no revocation list.
    #[must_use]
    pub fn without_lists(&self) -> Vec<String> {
        let without = |authority: &Authority| {
            let met = authority.met.lock().unwrap_or_else(PoisonError::into_inner);
            met.known_until
                .iter()
                .filter(|(_, until)| until.is_none())
                .map(|(name, _)| name.clone())
                .collect::<Vec<_>>()
        };
        self.authorities.iter().flat_map(without).collect()
    }

    /// Verifies a time-stamp response over data with this digest, under whichever CA it is of.
    ///
    /// # Errors
    /// [`TokenFault`]: of several CAs, what the nearest one says.
    pub fn verify(&self, tsr: &[u8], imprint: &Sha256) -> Result<TokenInfo, TokenFault> {
        self.verify_over(tsr, Digest::Sha256, &imprint.0)
    }

    /// The same over data with this hash.
    ///
    /// # Errors
    /// As [`Trust::verify`].
    pub fn verify_over(&self, tsr: &[u8], digest: Digest, hash: &[u8]) -> Result<TokenInfo, TokenFault> {
        let mut nearest: Option<TokenFault> = None;
        for authority in &self.authorities {
            match authority.verifier.verify_over(tsr, digest, hash) {
                Ok(token) => return authority.counts(token),
                Err(error) => {
                    let fault = fault(&error.to_string());
                    // An alteration says more than "of another CA", which all but one of them always say.
                    if nearest.as_ref().is_none_or(|nearest| fault.class < nearest.class) {
                        nearest = Some(fault);
                    }
                }
            }
        }
        Err(nearest.unwrap_or_else(|| fault("no ca is trusted")))
    }
}

impl Authority {
    /// The authority with these certificates, which counts at any time.
    fn of(pem: String, external: bool) -> Result<Authority, TsaError> {
        let issuers = certificates(&pem).into_iter().map(|one| TrustAnchor::from_pem(&one));
        let (verifier, issuers): (Arc<dyn Verifier>, Vec<TrustAnchor>) = if external {
            // Roots of old may lack what a strict reader asks of a CA that signs lists: then there is none of theirs.
            (Arc::new(Roots::from_pem(&pem)?), issuers.flatten().collect())
        } else {
            let anchor = TrustAnchor::from_pem(&pem)?;
            (Arc::new(anchor.clone()), vec![anchor])
        };
        let (lists, given, met) = (Vec::new(), Vec::new(), Arc::default());
        Ok(Authority { verifier, issuers, pem, external, from: None, until: None, lists, given, met })
    }

    /// Takes a revocation list. Of an external authority any is kept: whose it is, the paths of its tokens will say.
    fn take(&mut self, list: Vec<u8>) -> Result<(), TsaError> {
        match self.list(&list) {
            Ok(read) => self.lists.push(read),
            Err(error @ TsaError::Refused(_)) if !self.external => return Err(error),
            Err(TsaError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
        if self.external && self.given.len() < LISTS_MAX {
            self.given.push(list);
        }
        Ok(())
    }

    /// The lists of the CA that signed a certificate of a path.
    fn lists_of(&self, step: &Issued) -> Arc<Vec<Crl>> {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = sha256(&step.issuer);
        if let Some(known) = met.lists.get(&digest) {
            return known.clone();
        }
        let read: Vec<Crl> = self.given.iter().filter_map(|list| Crl::read_by(list, &step.issuer).ok()).collect();
        let newest = read.iter().map(Crl::this_update).max();
        let read = Arc::new(read);
        if met.lists.len() < LISTS_MAX {
            met.lists.insert(digest, read.clone());
            // Of two certificates of one CA, the list may be signed by either's key.
            let until = met.known_until.entry(step.by.clone()).or_default();
            *until = newest.max(*until);
        }
        read
    }

    fn known_until(&self) -> Option<Millis> {
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        match met.known_until.values().min() {
            Some(until) => *until,
            None => self.lists.iter().map(Crl::this_update).max(),
        }
    }

    /// Reads a revocation list of one of its CAs.
    fn list(&self, der: &[u8]) -> Result<Crl, TsaError> {
        let mut read = Err(TsaError::Refused("no certificate of the authority may sign lists"));
        for issuer in &self.issuers {
            read = Crl::read(der, issuer);
            if read.is_ok() {
                break;
            }
        }
        read
    }

    /// Whether a token was made while this CA is trusted.
    fn counts(&self, token: TokenInfo) -> Result<TokenInfo, TokenFault> {
        let within = self.from.is_none_or(|from| token.gen_time >= from)
            && self.until.is_none_or(|until| token.gen_time < until);
        if let Some(fault) = self.revoked(&token) {
            return Err(fault);
        }
        if within {
            return Ok(token);
        }
        let text = "the token was made outside the period in which the trust file trusts its CA".to_owned();
        Err(TokenFault { class: Class::Untrusted, name: "token-ca-period", text })
    }
}

impl Authority {
    /// Why a token does not count although its certificates were valid: one of them was revoked.
    fn revoked(&self, token: &TokenInfo) -> Option<TokenFault> {
        let fault = |name, text| Some(TokenFault { class: Class::Untrusted, name, text });
        if token.path.is_empty() {
            return revoked(&self.lists, &token.unit_serial, token.gen_time)
                .and_then(|text| fault("token-revoked", format!("the certificate was revoked {text}")));
        }
        for (above, step) in token.path.iter().enumerate() {
            let Some(text) = revoked(&self.lists_of(step), &step.serial, token.gen_time) else { continue };
            return match above {
                0 => fault("token-revoked", format!("the certificate was revoked {text}")),
                _ => fault("token-ca-revoked", format!("the certificate of a CA above the unit was revoked {text}")),
            };
        }
        None
    }
}

/// How a list speaks against a token of this time.
fn revoked(lists: &[Crl], serial: &[u8], gen_time: Millis) -> Option<String> {
    let against = lists.iter().find(|list| !list.allows(serial, gen_time))?;
    let entry = against.of(serial)?;
    Some(match entry.reason {
        Reason::KeyCompromise => {
            "because somebody else may have its key: none of its tokens counts by itself".to_owned()
        }
        _ => format!("at {}, before the token's time", utc(entry.at)),
    })
}

/// What kind of fault it is: whether the token belongs to other bytes, or its signer does not count.
fn fault(rule: &str) -> TokenFault {
    let untrusted = [
        "another CA",
        "not signed by the trusted CA",
        "not valid at that time",
        "not for time stamps",
        "no path leads to a trusted CA",
        "path to a trusted CA is too long",
        "signer's certificate",
        "rests on SHA-1",
    ];
    let untrusted = untrusted.iter().any(|part| rule.contains(part));
    let (class, name) = if untrusted { (Class::Untrusted, "token-untrusted") } else { (Class::Altered, "bag-token") };
    TokenFault { class, name, text: rule.to_owned() }
}

/// The certificates of a PEM text, each by itself.
fn certificates(pem: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    pem.split_inclusive(END).filter(|one| one.contains(END)).map(|one| one.trim_start().to_owned()).collect()
}

/// An instant as trust files and command lines say it: `YYYY-MM-DD` or RFC 3339; none for other text.
#[must_use]
pub fn instant(text: &str) -> Option<Millis> {
    time::parse(text)
}

fn optional(text: Option<String>) -> Result<Option<Millis>, ArchiveError> {
    let parse = |text: String| instant(&text).ok_or_else(|| wrong("a time is YYYY-MM-DD or RFC 3339"));
    text.map(parse).transpose()
}

fn wrong(rule: impl Into<String>) -> ArchiveError {
    ArchiveError::input("trust file", rule)
}

fn policy(log: LogText) -> Result<Policy, ArchiveError> {
    let bad = |error: zegel_crypto::log::LogError| wrong(format!("the log cannot be used: {error}"));
    let witnesses = log.witnesses.iter().map(|key| key.parse()).collect::<Result<_, _>>().map_err(bad)?;
    Policy::new(log.key.parse().map_err(bad)?, witnesses, log.quorum).map_err(bad)
}

/// DER, also where it came as PEM.
fn der(bytes: Vec<u8>) -> Vec<u8> {
    let text = std::str::from_utf8(&bytes).ok().filter(|text| text.starts_with("-----BEGIN"));
    let lines = text.map(|text| text.lines().filter(|line| !line.starts_with("-----")).collect::<String>());
    lines.and_then(|lines| STANDARD.decode(lines).ok()).unwrap_or(bytes)
}

fn text_of(bytes: Vec<u8>) -> Result<String, ArchiveError> {
    String::from_utf8(bytes).map_err(|_| wrong("a file that must be text is none"))
}

fn bytes(path: &Path) -> Result<Vec<u8>, ArchiveError> {
    let length = std::fs::metadata(path).map_err(at(path))?.len();
    if length > FILE_MAX {
        return Err(ArchiveError::TooLarge("trust file"));
    }
    std::fs::read(path).map_err(at(path))
}
