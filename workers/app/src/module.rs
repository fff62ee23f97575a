//! The security module that the settings name, opened once in the life of a process: a module is initialised once, and a token counts
//! wrong PINs.

use crate::failed::Failed;
use crate::passphrase::Source;
use std::sync::{Arc, Mutex, PoisonError};
use zegel_crypto::Module;
use zegel_pkcs11::{Token, Uri};

/// The module of this process's settings, once it was opened.
static OPENED: Mutex<Option<Arc<dyn Module>>> = Mutex::new(None);

/// The module of a setting, opened by whoever asks first; none where the setting is empty.
///
/// # Errors
/// When the setting is no URI of a token with a place for its PIN, or the module does not open.
pub fn settled(setting: &str) -> Result<Option<Arc<dyn Module>>, Failed> {
    if setting.is_empty() {
        return Ok(None);
    }
    // Held while it opens: two threads that try one wrong PIN would count twice.
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = opened.as_ref() {
        return Ok(Some(module.clone()));
    }
    let wrong = |why: String| Failed::Usage(format!("keys.module: {why}"));
    let uri: Uri = setting.parse().map_err(|error: zegel_crypto::ModuleError| wrong(error.to_string()))?;
    let source = uri
        .pin_source()
        .ok_or_else(|| wrong("say where the PIN is: pin-source=file:PATH, fd:NUMBER or env:NAME".to_owned()))?;
    let source: Source = source.parse().map_err(|form| wrong(format!("pin-source {form}")))?;
    let pin = source.read_line("the PIN")?.ok_or_else(|| wrong("pin-source names no place".to_owned()))?;
    let module = Token::open(&uri, &pin).map_err(|error| Failed::Failure(format!("keys.module: {error}")))?;
    *opened = Some(module.clone());
    Ok(Some(module))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_asked_for_by_a_uri_with_a_place_for_its_pin_and_nothing_else() {
        assert!(settled("").unwrap().is_none());
        for (setting, told) in [
            ("/usr/lib/m.so", "a module is named like"),
            ("pkcs11:token=Zegel?module-path=/missing.so", "pin-source="),
            ("pkcs11:token=Zegel?module-path=/missing.so&pin-source=1234", "file:PATH"),
            ("pkcs11:token=Zegel?module-path=/missing.so&pin-value=1234", "refused"),
            ("pkcs11:token=Zegel?module-path=/missing.so&pin-source=env:ZEGEL_NO_SUCH_VARIABLE", "not set"),
        ] {
            let error = settled(setting).unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains("1234"), "{setting}: {error}");
        }
    }
}
