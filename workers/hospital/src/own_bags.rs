//! The bags that the hospital made itself, in its own archive: fetched from the platform once one of the platform's bags holds their
//! hash, verified, and kept byte for byte beside the others.
//!
//! What is to be fetched follows from the archive: an entry whose reference is of the platform's own range, without a record of the
//! bag. So a crash needs no recovery; a bag that was archived twice stands there twice, which an audit passes over.
//! Failure behaviour: a bag that does not hold is put aside and asked for again; others go on.

use crate::error::HospitalError;
use schemas::Sha256;
use std::collections::BTreeMap;
use zegel_archive::reader::Archive;
use zegel_archive::trust::Trust;
use zegel_crypto::hash::sha256;
use zegel_timestamp::own_bag;
use zegel_timestamp::rows::OWN_REFERENCES;

/// A bag of the hospital as it came back, not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnBag {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The RFC 3161 response.
    pub tsr: Vec<u8>,
}

/// What the archive does not hold yet: the digest of each bag, and the platform's bag that holds it.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    missing: BTreeMap<Sha256, u64>,
    looked: bool,
}

impl Wanted {
    /// Takes the entries of a bag that was archived now.
    pub(crate) fn note(&mut self, sequence: u64, entries: &[(u64, Sha256)]) {
        let own = entries.iter().filter(|(reference, _)| *reference >= OWN_REFERENCES);
        self.missing.extend(own.map(|(_, digest)| (*digest, sequence)));
    }

    /// Looks through the archive, which is done once; nothing where the hospital has no such bags.
    pub(crate) fn look(&mut self, archive: Option<&Archive>) -> Result<(), HospitalError> {
        if let Some(archive) = archive {
            self.missing.extend(archive.own_bags_held()?);
            let kept = archive.own_bags_kept()?;
            self.missing.retain(|digest, _| !kept.contains(digest));
        }
        self.looked = true;
        Ok(())
    }

    /// Whether the archive was looked through.
    pub(crate) fn looked(&self) -> bool {
        self.looked
    }

    /// What is to be fetched.
    pub(crate) fn list(&self) -> Vec<(Sha256, u64)> {
        self.missing.iter().map(|(digest, sequence)| (*digest, *sequence)).collect()
    }

    pub(crate) fn archived(&mut self, digest: &Sha256) {
        self.missing.remove(digest);
    }
}

/// Checks a bag that came back.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn verify(own: Option<&OwnBag>, digest: &Sha256, trust: &Trust) -> Result<(), String> {
    let own = own.ok_or_else(|| "the platform does not give it back".to_owned())?;
    if sha256(&own.bytes) != *digest {
        return Err("the platform gave another bag than the one whose hash stands in its own".to_owned());
    }
    own_bag::check(&own.bytes).map_err(|rule| rule.to_string())?;
    trust.verify(&own.tsr, digest).map_err(|fault| format!("{}: {}", fault.name, fault.text))?;
    Ok(())
}
