//! Keys in a security module, over PKCS#11: the library is loaded when it is named, and everything that touches it is here.
//!
//! Purpose: [`Token::open`] gives a [`Module`]: signing keys for the time-stamp authority and a wrapping key for the key file, made
//! inside the token, sensitive and not extractable. What is asked of a module is of PKCS#11 2.40: RSA and EC key pairs,
//! `CKM_RSA_PKCS`, `CKM_ECDSA`, and AES with `CKM_AES_GCM` and a nonce of ours.
//! Invariants: a PIN is tried once for each opening of a session and never again after the token refused it, because tokens lock
//! themselves after a few wrong ones. At most [`IDLE_MAX`] sessions are kept.
//! Failure behaviour: when the token was away, sessions are opened anew and the call is tried once more; then it fails, and the next
//! one tries again. Errors name functions and return values, no PIN and nothing of a key.

#![forbid(unsafe_code)]

mod encoding;
mod keys;
mod uri;

pub use uri::{PinSource, Uri};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use zegel_crypto::{Module, ModuleError};
use zeroize::Zeroizing;

/// Sessions that are kept for the next call: as many as threads sign at the same time on a machine of this size.
pub const IDLE_MAX: usize = 8;

/// What failed below a call.
type Failed = Error;

/// One token of a module, logged in.
pub struct Token {
    library: Pkcs11,
    slot: Slot,
    label: String,
    pin: AuthPin,
    /// The token refused the PIN; it is not tried again.
    is_refused: AtomicBool,
    idle: Mutex<Vec<Session>>,
}

impl Token {
    /// Loads the library that the URI names, finds its token, and logs in.
    ///
    /// # Errors
    /// [`ModuleError::Uri`] when no library is named, or not exactly one token fits; [`ModuleError::Failed`] with what the library
    /// said.
    pub fn open(uri: &Uri, pin: &Zeroizing<String>) -> Result<Arc<dyn Module>, ModuleError> {
        let path =
            uri.library().ok_or(ModuleError::Uri("a module's URI needs module-path=, the path of its library"))?;
        let library = Pkcs11::new(path).map_err(|error| match error {
            // The loader's own words name the file and what is missing, nothing else.
            Error::LibraryLoading(error) => ModuleError::Failed(error.to_string()),
            error => failed(&error),
        })?;
        match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(failed(&error)),
        }
        let mut fitting = Vec::new();
        for slot in library.get_slots_with_token().map_err(|error| failed(&error))? {
            let told = library.get_token_info(slot).map_err(|error| failed(&error))?;
            if uri.fits(told.label(), told.serial_number()) {
                fitting.push((slot, told.label().to_owned()));
            }
        }
        let [(slot, label)] = <[_; 1]>::try_from(fitting).map_err(|fitting| match fitting.len() {
            0 => ModuleError::Uri("the module has no token of that name"),
            _ => ModuleError::Uri("several tokens fit: name one by token= or serial="),
        })?;
        let pin = AuthPin::from(pin.as_str());
        let token = Token { library, slot, label, pin, is_refused: AtomicBool::new(false), idle: Mutex::default() };
        // A wrong PIN is said now, not at the first time stamp.
        token.with(|_| Ok(()))?;
        Ok(Arc::new(Handle(Arc::new(token))))
    }

    /// Lends a session to a call; once more on a new one when the token was away meanwhile.
    fn with<T>(&self, call: impl Fn(&Session) -> Result<T, Failed>) -> Result<T, ModuleError> {
        let kept = self.idle().pop();
        let session = kept.map_or_else(|| self.log_in(), Ok)?;
        let answer = match call(&session) {
            Err(error) if was_away(&error) => {
                drop(session);
                // The others are of the same login.
                self.idle().clear();
                let session = self.log_in()?;
                let answer = call(&session);
                self.keep(session, &answer);
                answer
            }
            answer => {
                self.keep(session, &answer);
                answer
            }
        };
        answer.map_err(|error| failed(&error))
    }

    fn log_in(&self) -> Result<Session, ModuleError> {
        if self.is_refused.load(Ordering::Relaxed) {
            return Err(ModuleError::Failed("the token refused the PIN; it is not tried again".to_owned()));
        }
        let session = self.library.open_rw_session(self.slot).map_err(|error| failed(&error))?;
        match session.login(UserType::User, Some(&self.pin)) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(error) => {
                let refused = [RvError::PinIncorrect, RvError::PinLocked, RvError::PinExpired, RvError::PinLenRange];
                let is_refused =
                    matches!(&error, Error::Pkcs11(said, _) if refused.iter().any(|one| said_is(said, one)));
                self.is_refused.fetch_or(is_refused, Ordering::Relaxed);
                Err(failed(&error))
            }
        }
    }

    /// A session after a failure may have an operation in progress; it is closed.
    fn keep<T>(&self, session: Session, answer: &Result<T, Failed>) {
        let mut idle = self.idle();
        if answer.is_ok() && idle.len() < IDLE_MAX {
            idle.push(session);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        // A panic leaves a list of sessions, whole or shorter.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, PIN: ***)", self.label)
    }
}

/// A token that keys hold on to.
#[derive(Debug, Clone)]
struct Handle(Arc<Token>);

fn said_is(said: &RvError, one: &RvError) -> bool {
    std::mem::discriminant(said) == std::mem::discriminant(one)
}

/// Whether an error says that sessions and handles of before hold no more.
fn was_away(error: &Failed) -> bool {
    let Error::Pkcs11(said, _) = error else { return false };
    matches!(
        said,
        RvError::SessionHandleInvalid
            | RvError::SessionClosed
            | RvError::UserNotLoggedIn
            | RvError::DeviceError
            | RvError::DeviceRemoved
            | RvError::TokenNotPresent
            | RvError::KeyHandleInvalid
            | RvError::ObjectHandleInvalid
    )
}

/// Function and return value; the library's long texts explain the standard, not the case.
fn failed(error: &Failed) -> ModuleError {
    match error {
        Error::Pkcs11(said, function) => ModuleError::Failed(format!("C_{function:?}: {said:?}")),
        error => ModuleError::Failed(error.to_string()),
    }
}
