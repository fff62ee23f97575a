//! Our own time-stamp authority: RFC 3161 with RFC 5816, after the profile of EN 319 422.
//!
//! Folder of an authority (made once, whole, by a rename): `ca.pem` and `tsa.pem` (certificates), `ca.key` and `tsa.key`
//! (PKCS#8, mode 0600). The CA signs one time-stamping unit (TSU); both have RSA-3072 keys, because the validator that
//! hospitals run today reads no other. The CA's key is needed for the next TSU only and is not loaded.
//!
//! A token: version 1; the policy; SHA-256 imprint; serial = 63 random bits of this start ‖ a 64-bit counter, so it never
//! repeats without anything to persist; genTime with milliseconds, which never goes back; no accuracy, because no time
//! source vouches for the machine's clock; the nonce echoed; exactly one ESSCertIDv2 and no ESSCertID (both together are
//! refused by that validator); CA and TSU certificates inside; SHA-256 with RSA PKCS#1 v1.5.
//! What it proves: evidence, with our own CA and clock. A legal presumption needs an external qualified authority.
//! Failure: no token at all when the time is outside the TSU certificate's validity or something does not encode (I8).

mod asn1;
mod certificates;
mod token;
mod verify;

#[cfg(test)]
mod tests;

pub use verify::{TokenInfo, TrustAnchor, verify};

use crate::file;
use crate::secret::fill_random;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use der::asn1::ObjectIdentifier;
use der::{Decode, Encode};
use schemas::{Millis, Sha256};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use zeroize::Zeroizing;

/// The policy of tokens from a machine without a configured time source: a test policy, which promises nothing. It stands
/// under an enterprise number that nobody holds, so no other authority's tokens carry it.
pub const TEST_POLICY: &str = "1.3.6.1.4.1.99999.1";

const CA_CERTIFICATE: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
const TSU_CERTIFICATE: &str = "tsa.pem";
const TSU_KEY: &str = "tsa.key";
const KEY_LABEL: &str = "PRIVATE KEY";

/// Why there is no authority, no token, or no trust in one.
#[derive(Debug, thiserror::Error)]
pub enum TsaError {
    /// The folder holds something already; an authority never replaces another.
    #[error("folder {0} is not empty")]
    Exists(PathBuf),
    /// Other users of the machine may read a private key.
    #[error("key file {path} is open to others (mode {mode:04o}): run `chmod 600 {path}`", path = .path.display())]
    Permissions {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The disk or the folder does not allow it.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key or certificate of the authority cannot be used.
    #[error("authority: {0}")]
    Authority(&'static str),
    /// The time is outside the TSU certificate's validity.
    #[error("time is outside the validity of the authority's certificate")]
    Validity,
    /// Something is not DER of the expected shape.
    #[error("token: {0}")]
    Der(#[from] der::Error),
    /// A response, token or certificate breaks a rule.
    #[error("token is refused: {0}")]
    Refused(&'static str),
}

/// A time-stamping unit with its key. Shared between threads by reference.
pub struct Authority {
    key: KeyPair,
    tsu: x509_cert::Certificate,
    signer: token::Signer,
    ca_pem: String,
    policy: ObjectIdentifier,
    /// Where the serials of this start begin.
    epoch: u64,
    counter: AtomicU64,
    /// The last genTime.
    latest: AtomicI64,
}

impl Authority {
    /// Makes keys and certificates in `folder`, which must be missing or empty, durable on return. `organisation` is the
    /// name in the certificates. The CA is valid for 30 years from `now`, the TSU for 10.
    ///
    /// # Errors
    /// [`TsaError::Exists`], [`TsaError::Io`], [`TsaError::Der`] when the name is too long or the time is not between
    /// 1970 and 9999.
    pub fn create(folder: &Path, organisation: &str, now: Millis) -> Result<Authority, TsaError> {
        check_vacant(folder)?;
        let [ca_name, tsu_name] = certificates::names(organisation)?;
        let (ca_key, tsu_key) = two_keys()?;
        let ca = certificates::authority(&ca_key, ca_name, now)?;
        let tsu = certificates::unit(&ca_key, &ca, &tsu_key, tsu_name, now)?;
        let building = building_folder(folder)?;
        write(&building.join(CA_KEY), key_pem(&ca_key)?.as_bytes(), file::PRIVATE)?;
        write(&building.join(TSU_KEY), key_pem(&tsu_key)?.as_bytes(), file::PRIVATE)?;
        write(&building.join(CA_CERTIFICATE), certificates::pem(&ca)?.as_bytes(), file::PUBLIC)?;
        write(&building.join(TSU_CERTIFICATE), certificates::pem(&tsu)?.as_bytes(), file::PUBLIC)?;
        // A rename replaces an empty folder and nothing else, so a crash leaves the whole authority or none.
        fs::rename(&building, folder).map_err(|source| match source.kind() {
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => TsaError::Exists(folder.to_owned()),
            _ => TsaError::Io { path: folder.to_owned(), source },
        })?;
        file::sync_folder_of(folder).map_err(|source| TsaError::Io { path: folder.to_owned(), source })?;
        Authority::load(folder, now)
    }

    /// Whether an authority can be read, the CA's own key included, which only a new time-stamping unit needs.
    ///
    /// # Errors
    /// As [`Authority::load`].
    pub fn check(folder: &Path) -> Result<(), TsaError> {
        Authority::load(folder, Millis(0))?;
        let anchor = TrustAnchor::from_pem(&read_text(&folder.join(CA_CERTIFICATE))?)?;
        let certified = &anchor.certificate().tbs_certificate.subject_public_key_info.subject_public_key;
        if read_key(&folder.join(CA_KEY))?.public_key().as_ref() != certified.raw_bytes() {
            return Err(TsaError::Authority("key and certificate of the authority do not belong together"));
        }
        Ok(())
    }

    /// Reads an authority. Its genTime never goes below `floor`: the caller gives the latest time it has seen in a token.
    ///
    /// # Errors
    /// [`TsaError::Permissions`], [`TsaError::Io`] (also when a file is missing), [`TsaError::Authority`] when key and
    /// certificates do not belong together.
    pub fn load(folder: &Path, floor: Millis) -> Result<Authority, TsaError> {
        for name in [CA_KEY, TSU_KEY] {
            check_private(&folder.join(name))?;
        }
        let ca_pem = read_text(&folder.join(CA_CERTIFICATE))?;
        let anchor = TrustAnchor::from_pem(&ca_pem)?;
        let tsu = certificates::from_pem(&read_text(&folder.join(TSU_CERTIFICATE))?)?;
        anchor.check_unit(&tsu)?;
        let key = read_key(&folder.join(TSU_KEY))?;
        if key.public_key().as_ref() != tsu.tbs_certificate.subject_public_key_info.subject_public_key.raw_bytes() {
            return Err(TsaError::Authority("key and certificate of the time-stamping unit do not belong together"));
        }
        let mut epoch = [0; 8];
        fill_random(&mut epoch);
        Ok(Authority {
            key,
            signer: token::Signer::new(anchor.certificate(), &tsu)?,
            tsu,
            ca_pem: ca_pem.to_string(),
            policy: ObjectIdentifier::new_unwrap(TEST_POLICY),
            // The top bit is clear, or the INTEGER would be negative; the next is set, so that all serials are as long.
            epoch: u64::from_be_bytes(epoch) >> 2 | 1 << 62,
            counter: AtomicU64::new(1),
            latest: AtomicI64::new(floor.0),
        })
    }

    /// The same authority under another policy.
    ///
    /// # Errors
    /// [`TsaError::Authority`] when `policy` is not an object identifier in dotted form.
    pub fn with_policy(mut self, policy: &str) -> Result<Authority, TsaError> {
        self.policy =
            ObjectIdentifier::new(policy).map_err(|_| TsaError::Authority("policy is not an object identifier"))?;
        Ok(self)
    }

    /// The CA's certificate, for `openssl ts -verify -CAfile`.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Stamps a digest at `now`, or at the latest time already stamped when that is later: a whole DER `TimeStampResp`.
    /// Takes about a millisecond and a half of processor time.
    ///
    /// # Errors
    /// [`TsaError::Validity`] when the TSU's certificate is not valid at that time.
    pub fn stamp(&self, imprint: &Sha256, nonce: Option<u64>, now: Millis) -> Result<Vec<u8>, TsaError> {
        let at = Millis(self.latest.load(Ordering::Acquire).max(now.0));
        if !certificates::valid_at(&self.tsu, at) {
            return Err(TsaError::Validity);
        }
        // Another thread may have stamped later meanwhile; that one was checked as well.
        let gen_time = Millis(self.latest.fetch_max(at.0, Ordering::AcqRel).max(at.0));
        let serial =
            (u128::from(self.epoch) << 64 | u128::from(self.counter.fetch_add(1, Ordering::Relaxed))).to_be_bytes();
        let info = asn1::TstInfo::new(self.policy, imprint, &serial, gen_time, nonce)?;
        self.signer.response(&self.key, &info)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority(key: ***, policy: {})", self.policy)
    }
}

/// The DER `TimeStampToken` inside a DER `TimeStampResp`.
///
/// # Errors
/// [`TsaError::Der`]; [`TsaError::Refused`] when the response grants nothing.
pub fn token_of(response: &[u8]) -> Result<Vec<u8>, TsaError> {
    let response = x509_tsp::TimeStampResp::from_der(response)?;
    Ok(asn1::granted(&response)?.to_der()?)
}

/// Both keys at once: finding primes takes some tenths of a second each, and the first start waits for it.
fn two_keys() -> Result<(KeyPair, KeyPair), TsaError> {
    let generate = || KeyPair::generate(KeySize::Rsa3072).map_err(|_| TsaError::Authority("a key could not be made"));
    std::thread::scope(|scope| {
        let other = scope.spawn(generate);
        let one = generate()?;
        let other = other.join().map_err(|_| TsaError::Authority("a key could not be made"))??;
        Ok((one, other))
    })
}

fn key_pem(key: &KeyPair) -> Result<Zeroizing<String>, TsaError> {
    let pkcs8: Pkcs8V1Der<'_> = key.as_der().map_err(|_| TsaError::Authority("a key could not be written"))?;
    let text = der::pem::encode_string(KEY_LABEL, der::pem::LineEnding::LF, pkcs8.as_ref());
    text.map(Zeroizing::new).map_err(|_| TsaError::Authority("a key could not be written"))
}

fn read_key(path: &Path) -> Result<KeyPair, TsaError> {
    const BAD: TsaError = TsaError::Authority("a key file is not PKCS#8 in PEM");
    let text = read_text(path)?;
    let (label, pkcs8) = der::pem::decode_vec(text.as_bytes()).map_err(|_| BAD)?;
    let pkcs8 = Zeroizing::new(pkcs8);
    if label != KEY_LABEL {
        return Err(BAD);
    }
    KeyPair::from_pkcs8(&pkcs8).map_err(|_| BAD)
}

fn read_text(path: &Path) -> Result<Zeroizing<String>, TsaError> {
    fs::read_to_string(path).map(Zeroizing::new).map_err(|source| TsaError::Io { path: path.to_owned(), source })
}

fn check_private(path: &Path) -> Result<(), TsaError> {
    match fs::File::open(path).and_then(|opened| file::open_mode(&opened)) {
        Ok(None) => Ok(()),
        Ok(Some(mode)) => Err(TsaError::Permissions { path: path.to_owned(), mode }),
        Err(source) => Err(TsaError::Io { path: path.to_owned(), source }),
    }
}

fn check_vacant(folder: &Path) -> Result<(), TsaError> {
    match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(true) => Err(TsaError::Exists(folder.to_owned())),
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(TsaError::Io { path: folder.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// A fresh folder beside `folder`, under a fixed name; what a crash left there was never an authority.
fn building_folder(folder: &Path) -> Result<PathBuf, TsaError> {
    let mut name = folder.file_name().ok_or(TsaError::Authority("folder has no name"))?.to_owned();
    name.push(".new");
    let building = folder.with_file_name(name);
    let failed = |source| TsaError::Io { path: building.clone(), source };
    match fs::remove_dir_all(&building) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    fs::create_dir(&building).map_err(failed)?;
    Ok(building)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TsaError> {
    file::create(path, bytes, mode).map_err(|source| TsaError::Io { path: path.to_owned(), source })
}
