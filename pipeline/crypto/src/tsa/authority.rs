//! The authority at work: requests in, responses out, with one time-stamping unit active at a time.

use super::crl::{self, Reason, Revoked};
use super::encode::Info;
use super::floor::Floor;
use super::folder::Place;
use super::request::{Failure, Request};
use super::signing::{Algorithm, SigningKey};
use super::token::Template;
use super::verify::TrustAnchor;
use super::{Digest, TEST_POLICY, TsaError, certificates, folder};
use der::asn1::ObjectIdentifier;
use schemas::{Millis, Sha256};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use x509_cert::Certificate;
use zegel_core::Moment;

/// A unit is replaced so long before its key may no longer be used: a month to notice that it did not happen.
const RENEW_BEFORE_MS: i64 = 30 * 24 * 3_600_000;

/// A certified key with what is the same in all of its tokens.
pub(super) struct Unit {
    number: u32,
    pub(super) key: SigningKey,
    pub(super) certificate: Certificate,
    template: Template,
}

/// A time-stamp authority. Shared between threads by reference.
pub struct Authority {
    place: Place,
    anchor: TrustAnchor,
    ca_pem: String,
    unit: RwLock<Arc<Unit>>,
    /// The policy of tokens whose time somebody vouches for.
    policy: ObjectIdentifier,
    floor: Floor,
}

/// What [`Authority::maintain`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Maintained {
    /// Another unit is active now.
    pub renewed: bool,
    /// A new revocation list was issued.
    pub listed: bool,
}

impl Authority {
    /// Makes an RSA authority; see [`Authority::create_with`].
    ///
    /// # Errors
    /// As [`Authority::create_with`].
    pub fn create(place: impl Into<Place>, organisation: &str, now: Millis) -> Result<Authority, TsaError> {
        Authority::create_with(place, organisation, now, Algorithm::default())
    }

    /// Makes keys, certificates and a revocation list in a folder, which must be missing or empty, durable on return. Where the
    /// place has a module the keys are made in it, and never leave it.
    /// `organisation` is the name in the certificates. The CA is valid for 30 years from `now`, the unit for 10, and its key
    /// is used for one.
    ///
    /// # Errors
    /// [`TsaError::Exists`], [`TsaError::Io`], [`TsaError::Module`], [`TsaError::Der`] when the name is too long or the time is not between
    /// 1970 and 9999.
    pub fn create_with(
        place: impl Into<Place>,
        organisation: &str,
        now: Millis,
        algorithm: Algorithm,
    ) -> Result<Authority, TsaError> {
        let place = place.into();
        folder::check_vacant(&place.folder)?;
        let ca_name = certificates::ca_name(organisation)?;
        let (ca_key, tsu_key) = two_keys(&place, algorithm)?;
        let ca = certificates::authority(&ca_key, ca_name, now)?;
        let tsu = certificates::unit(&ca_key, &ca, &tsu_key, 1, now)?;
        let list = crl::issue(&ca_key, &ca, &[], 1, now)?;
        folder::create(&place, [&ca_key, &tsu_key], [&ca, &tsu], &list)?;
        Authority::load(place, Millis(0))
    }

    /// Whether an authority can be read, the CA's own key included, which only units and lists need. Changes nothing.
    ///
    /// # Errors
    /// As [`Authority::load`].
    pub fn check(place: impl Into<Place>) -> Result<(), TsaError> {
        let place = place.into();
        folder::check_private(&place.folder)?;
        let (anchor, _) = folder::ca(&place.folder)?;
        read_unit(&place, &anchor)?;
        folder::ca_key(&place, &anchor).map(drop)
    }

    /// Reads an authority and begins a new series of serials. Its genTime goes below neither `floor` nor any token that it
    /// gave before.
    ///
    /// # Errors
    /// [`TsaError::Permissions`], [`TsaError::Io`] (also when a file is missing), [`TsaError::Authority`] when key and
    /// certificates do not belong together.
    pub fn load(place: impl Into<Place>, floor: Millis) -> Result<Authority, TsaError> {
        let place = place.into();
        folder::check_private(&place.folder)?;
        let (anchor, ca_pem) = folder::ca(&place.folder)?;
        let unit = read_unit(&place, &anchor)?;
        let floor = Floor::begin(&place.folder, floor)?;
        Ok(Authority {
            place,
            anchor,
            ca_pem,
            unit: RwLock::new(Arc::new(unit)),
            policy: ObjectIdentifier::new_unwrap(TEST_POLICY),
            floor,
        })
    }

    /// The same authority under another policy, for tokens whose time somebody vouches for; the others keep
    /// [`TEST_POLICY`].
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

    /// The certificates of all units, PEM, for tokens without them inside (`openssl ts -verify -untrusted`).
    ///
    /// # Errors
    /// [`TsaError::Io`], [`TsaError::Der`].
    pub fn units_pem(&self) -> Result<String, TsaError> {
        folder::units(&self.place.folder)?.iter().map(|unit| certificates::pem(&unit.certificate()?)).collect()
    }

    /// The revocation list, DER.
    ///
    /// # Errors
    /// [`TsaError::Io`] when there is none.
    pub fn list(&self) -> Result<Vec<u8>, TsaError> {
        folder::list(&self.place.folder)?.ok_or(TsaError::Authority("there is no revocation list"))
    }

    /// The algorithm of the active unit.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.unit().key.algorithm()
    }

    /// Answers a DER `TimeStampReq` with a DER `TimeStampResp`: a token, or why there is none. `moment` is none when the
    /// time is not known well enough to state it.
    #[must_use]
    pub fn answer(&self, request: &[u8], moment: Option<Moment>) -> Vec<u8> {
        let granted = Request::read(request).and_then(|request| {
            let moment = moment.ok_or(Failure::TimeNotAvailable)?;
            let policy = self.policy(moment);
            if request.policy.is_some_and(|wanted| wanted != policy) {
                return Err(Failure::UnacceptedPolicy);
            }
            self.grant(&request, moment).map_err(|error| match error {
                TsaError::Validity | TsaError::Clock => Failure::TimeNotAvailable,
                _ => Failure::SystemFailure,
            })
        });
        granted.unwrap_or_else(Failure::response)
    }

    /// Stamps a SHA-256 digest: a whole DER `TimeStampResp` with both certificates inside. At `moment`, or at the latest time
    /// already stamped when that is later. Takes about a millisecond and a half of processor time with RSA.
    ///
    /// # Errors
    /// [`TsaError::Validity`] when the unit may not stamp at that time, [`TsaError::Clock`] when time went back further than
    /// it is known, [`TsaError::Io`].
    pub fn stamp(&self, imprint: &Sha256, nonce: Option<u64>, moment: impl Into<Moment>) -> Result<Vec<u8>, TsaError> {
        let request = Request::over(Digest::Sha256, &imprint.0, nonce).map_err(|_| TsaError::Authority("imprint"))?;
        self.grant(&request, moment.into())
    }

    /// A bare signature of the active unit's key over a fixed text that is no token, for whoever measures what a token costs
    /// beside it. Returns its length.
    ///
    /// # Errors
    /// [`TsaError::Authority`] when the library gives none.
    pub fn bare_signature(&self) -> Result<usize, TsaError> {
        self.unit().key.sign(b"a measurement, not a token").map(|signature| signature.len())
    }

    fn grant(&self, request: &Request, moment: Moment) -> Result<Vec<u8>, TsaError> {
        let unit = self.unit();
        let at = self.floor.latest().max(moment.now);
        // What nobody vouches for may be late; what is stated to be accurate may not. Half of the accuracy is for the
        // clock, half for what a restart finds written ahead.
        let slack = moment.accuracy_ms.map(|accuracy| i64::from(accuracy) / 2);
        if slack.is_some_and(|slack| at.since(moment.now) > slack) {
            return Err(TsaError::Clock);
        }
        if !certificates::may_stamp_at(&unit.certificate, at) {
            return Err(TsaError::Validity);
        }
        // Another thread may have stamped later meanwhile; that one was checked as well.
        let at = self.floor.advance(at, slack.unwrap_or(i64::MAX))?;
        let info = Info {
            policy: self.policy(moment),
            imprint: &request.imprint,
            serial: self.floor.serial(),
            at,
            accuracy_ms: moment.accuracy_ms,
            nonce: request.nonce.as_deref(),
        };
        unit.template.response(&unit.key, &info.encode()?, request.certificates)
    }

    /// What must be done from time to time: a new unit before the private-key usage period of the active one ends, or when
    /// another algorithm is wanted, its key is in a file beside a module, or the unit is revoked; a new revocation list while the last is half over; and what other
    /// processes of this folder did is taken over. The replaced unit's key is deleted.
    ///
    /// # Errors
    /// As [`Authority::load`]; what was active goes on.
    pub fn maintain(&self, now: Millis, algorithm: Algorithm) -> Result<Maintained, TsaError> {
        let mut done = Maintained::default();
        let _alone = folder::lock(&self.place.folder)?;
        let ca = self.anchor.certificate();
        let list = folder::list(&self.place.folder)?.map(|list| crl::Crl::read(&list, &self.anchor)).transpose()?;
        if list.as_ref().is_none_or(|list| list.is_half_over(now)) {
            let key = folder::ca_key(&self.place, &self.anchor)?;
            let (revoked, number) = list.as_ref().map_or((&[][..], 0), |list| (list.revoked(), list.number()));
            folder::keep_list(&self.place.folder, &crl::issue(&key, ca, revoked, number + 1, now)?)?;
            done.listed = true;
        }
        let active = read_unit(&self.place, &self.anchor)?;
        let serial = active.certificate.tbs_certificate.serial_number.as_bytes();
        let is_revoked = list.is_some_and(|list| list.of(serial).is_some());
        let is_ending = !certificates::may_stamp_at(&active.certificate, now.plus(RENEW_BEFORE_MS));
        let number = active.number;
        let is_outside = self.place.module.is_some() && !active.key.is_in_module();
        if is_revoked || is_ending || is_outside || active.key.algorithm() != algorithm {
            let ca_key = folder::ca_key(&self.place, &self.anchor)?;
            let module = self.place.module.as_ref();
            let key = SigningKey::generate_in(module, &unit_label(number + 1), algorithm)?;
            let certificate = certificates::unit(&ca_key, ca, &key, number + 1, now)?;
            folder::add_unit(&self.place, number + 1, &key, &certificate)?;
        }
        if folder::active(&self.place.folder)?.number != self.unit().number {
            let unit = read_unit(&self.place, &self.anchor)?;
            *self.unit.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(unit);
            done.renewed = true;
        }
        for replaced in folder::units(&self.place.folder)?.iter().filter(|unit| unit.number < self.unit().number) {
            replaced.destroy_key(self.place.module.as_ref())?;
        }
        Ok(done)
    }

    /// Writes the key files of an authority as its place keeps them now: sealed, where it has keys for that. Durable on return.
    ///
    /// # Errors
    /// As [`Authority::load`]; each file is as it was or as it shall be.
    pub fn keep_keys(place: impl Into<Place>) -> Result<(), TsaError> {
        let place = place.into();
        let _alone = folder::lock(&place.folder)?;
        folder::keep_keys(&place)
    }

    /// Whether every key is sealed or in a module, so that a copy of the folder has none.
    ///
    /// # Errors
    /// [`TsaError::Io`].
    pub fn is_guarded(&self) -> Result<bool, TsaError> {
        folder::is_guarded(&self.place.folder)
    }

    /// Whether the CA's own key is in a security module; an authority that was made before there was one keeps its file.
    ///
    /// # Errors
    /// [`TsaError::Io`].
    pub fn guards_ca_key(&self) -> Result<bool, TsaError> {
        folder::is_ca_key_named(&self.place.folder)
    }

    /// Whether the active unit stands on the revocation list of the folder, where another process may have put it.
    ///
    /// # Errors
    /// As [`Authority::load`].
    pub fn is_revoked(&self) -> Result<bool, TsaError> {
        let list = folder::list(&self.place.folder)?.map(|list| crl::Crl::read(&list, &self.anchor)).transpose()?;
        let unit = self.unit();
        Ok(list.is_some_and(|list| list.of(unit.certificate.tbs_certificate.serial_number.as_bytes()).is_some()))
    }

    /// Revokes the active unit from `now` on; see [`Authority::revoke`].
    ///
    /// # Errors
    /// As [`Authority::revoke`].
    pub fn revoke_active(place: impl Into<Place>, now: Millis, reason: Reason) -> Result<Vec<u8>, TsaError> {
        let place = place.into();
        let active = folder::active(&place.folder)?.number;
        Authority::revoke(place, active, now, reason, now)
    }

    /// The numbers of the units, the active one last.
    ///
    /// # Errors
    /// [`TsaError::Io`].
    pub fn units(folder: &Path) -> Result<Vec<u32>, TsaError> {
        Ok(folder::units(folder)?.into_iter().map(|unit| unit.number).collect())
    }

    /// Revokes a unit, whether it is active or was replaced: a new list names it from `at` on, and the next call of
    /// [`Authority::maintain`], here or in another process, replaces an active one. A unit that stands on the list already
    /// may get an earlier instant and the reason of a compromised key; neither is ever taken back. Returns the list, DER.
    ///
    /// # Errors
    /// As [`Authority::maintain`]; [`TsaError::Authority`] when there is no such unit.
    pub fn revoke(
        place: impl Into<Place>,
        unit: u32,
        at: Millis,
        reason: Reason,
        now: Millis,
    ) -> Result<Vec<u8>, TsaError> {
        let place = place.into();
        let folder = &place.folder;
        let _alone = folder::lock(folder)?;
        let (anchor, _) = folder::ca(folder)?;
        let key = folder::ca_key(&place, &anchor)?;
        let unit = folder::units(folder)?.into_iter().find(|one| one.number == unit);
        let unit = unit.ok_or(TsaError::Authority("there is no time-stamping unit of that number"))?;
        let serial = unit.certificate()?.tbs_certificate.serial_number;
        let list = folder::list(folder)?.map(|list| crl::Crl::read(&list, &anchor)).transpose()?;
        let (mut revoked, number) = list.map_or((Vec::new(), 0), |list| (list.revoked().to_vec(), list.number()));
        match revoked.iter_mut().find(|one| one.serial == serial.as_bytes()) {
            Some(before) => {
                before.at = before.at.min(at);
                before.reason = if reason == Reason::KeyCompromise { reason } else { before.reason };
            }
            None => revoked.push(Revoked { serial: serial.as_bytes().to_vec(), at, reason }),
        }
        let list = crl::issue(&key, anchor.certificate(), &revoked, number + 1, now)?;
        folder::keep_list(folder, &list)?;
        Ok(list)
    }

    pub(super) fn unit(&self) -> Arc<Unit> {
        self.unit.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn policy(&self, moment: Moment) -> ObjectIdentifier {
        if moment.accuracy_ms.is_some() { self.policy } else { ObjectIdentifier::new_unwrap(TEST_POLICY) }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority(key: ***, policy: {})", self.policy)
    }
}

/// The active unit with its key, checked against the CA.
fn read_unit(place: &Place, anchor: &TrustAnchor) -> Result<Unit, TsaError> {
    let active = folder::active(&place.folder)?;
    let (certificate, key) = (active.certificate()?, active.key(place)?);
    anchor.check_unit(&certificate)?;
    if !key.belongs_to(&certificate.tbs_certificate.subject_public_key_info)? {
        return Err(TsaError::Authority("key and certificate of the time-stamping unit do not belong together"));
    }
    let template = Template::new(anchor.certificate(), &certificate, &key)?;
    Ok(Unit { number: active.number, key, certificate, template })
}

/// How a unit's key is called in a module.
fn unit_label(number: u32) -> String {
    format!("zegel time-stamping unit {number}")
}

/// Both keys at once: finding primes takes some tenths of a second each, and the first start waits for it.
fn two_keys(place: &Place, algorithm: Algorithm) -> Result<(SigningKey, SigningKey), TsaError> {
    let module = place.module.as_ref();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| SigningKey::generate_in(module, &unit_label(1), algorithm));
        let one = SigningKey::generate_in(module, "zegel time-stamp authority", algorithm)?;
        let other = other.join().map_err(|_| TsaError::Authority("a key could not be made"))??;
        Ok((one, other))
    })
}
