//! PKCS#11 URIs (RFC 7512): which library, which token, which key.
//!
//! Understood are `token`, `serial`, `object`, `id` and `type` in the path and `module-path` and `pin-source` in the query. Anything
//! else is refused rather than ignored: it would have narrowed the choice (section 2.3). `pin-value` is refused because settings
//! and key files are read by many.

use std::path::{Path, PathBuf};
use zegel_crypto::ModuleError;

/// Longer than any URI of a token and a key.
const LENGTH_MAX: usize = 2_048;

/// Where a PIN is: the text after `pin-source=`. RFC 7512 leaves its meaning to the application.
pub type PinSource = String;

/// A URI that was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uri {
    token: Option<String>,
    serial: Option<String>,
    object: Option<String>,
    id: Option<Vec<u8>>,
    kind: Option<String>,
    module_path: Option<PathBuf>,
    pin_source: Option<PinSource>,
}

impl std::str::FromStr for Uri {
    type Err = ModuleError;

    fn from_str(text: &str) -> Result<Uri, ModuleError> {
        const FORM: ModuleError = ModuleError::Uri(
            "a module is named like pkcs11:token=Zegel?module-path=/usr/lib/…/lib….so&pin-source=file:/…",
        );
        let rest = text.strip_prefix("pkcs11:").filter(|_| text.len() <= LENGTH_MAX).ok_or(FORM)?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut uri = Uri::default();
        for (name, value) in pairs(path, ';').chain(pairs(query, '&')) {
            let bytes = decoded(value).ok_or(FORM)?;
            let as_text = || String::from_utf8(bytes.clone()).map_err(|_| FORM);
            let place = match name {
                "token" => &mut uri.token,
                "serial" => &mut uri.serial,
                "object" => &mut uri.object,
                "type" => &mut uri.kind,
                "pin-source" => &mut uri.pin_source,
                "module-path" => {
                    let before = uri.module_path.replace(as_text()?.into());
                    before.is_none().then_some(()).ok_or(FORM)?;
                    continue;
                }
                "id" => {
                    uri.id.replace(bytes).is_none().then_some(()).ok_or(FORM)?;
                    continue;
                }
                "pin-value" => {
                    return Err(ModuleError::Uri("pin-value is refused: say where the PIN is with pin-source"));
                }
                _ => {
                    return Err(ModuleError::Uri(
                        "a module's URI has token, serial, object, id, type, module-path and pin-source, nothing else",
                    ));
                }
            };
            place.replace(as_text()?).is_none().then_some(()).ok_or(FORM)?;
        }
        Ok(uri)
    }
}

impl Uri {
    /// The library to load.
    #[must_use]
    pub fn library(&self) -> Option<&Path> {
        self.module_path.as_deref()
    }

    /// Where the PIN is.
    #[must_use]
    pub fn pin_source(&self) -> Option<&PinSource> {
        self.pin_source.as_ref()
    }

    /// Whether a token is meant: every part that is named must be the same.
    pub(crate) fn fits(&self, label: &str, serial: &str) -> bool {
        self.token.as_deref().is_none_or(|token| token == label)
            && self.serial.as_deref().is_none_or(|wanted| wanted == serial)
    }

    /// The id of a key of this token, of the kind that is asked for.
    pub(crate) fn key_id(&self, label: &str, kind: &str) -> Result<Vec<u8>, ModuleError> {
        if self.token.as_deref() != Some(label) {
            return Err(ModuleError::Uri("the key is in another token than the one that the settings name"));
        }
        if self.kind.as_deref() != Some(kind) {
            return Err(ModuleError::Uri("the key is of another type than the one that is needed"));
        }
        self.id.clone().filter(|id| !id.is_empty()).ok_or(ModuleError::Uri("the key has no id"))
    }
}

/// The URI of a key.
pub(crate) fn of_key(token: &str, object: &str, id: &[u8], kind: &str) -> String {
    let id: String = id.iter().map(|byte| format!("%{byte:02X}")).collect();
    format!("pkcs11:token={};object={};id={id};type={kind}", encoded(token), encoded(object))
}

fn pairs(text: &str, separator: char) -> impl Iterator<Item = (&str, &str)> {
    let parts = text.split(separator).filter(|part| !part.is_empty());
    // A part without a value is no attribute, and its name is refused with those that are not known.
    parts.map(|part| part.split_once('=').unwrap_or(("", part)))
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => out.push(hex::decode([bytes.next()?, bytes.next()?]).ok()?[0]),
            byte => out.push(byte),
        }
    }
    Some(out)
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_of_the_settings_says_library_token_and_where_the_pin_is() {
        let uri: Uri =
            "pkcs11:token=The%20Token;serial=12?module-path=/usr/lib/m.so&pin-source=file:/run/pin".parse().unwrap();
        assert_eq!(uri.library(), Some(Path::new("/usr/lib/m.so")));
        assert_eq!(uri.pin_source().map(String::as_str), Some("file:/run/pin"));
        assert!(uri.fits("The Token", "12") && !uri.fits("The Token", "13") && !uri.fits("Other", "12"));
    }

    #[test]
    fn the_uri_of_a_key_is_read_back_and_taken_for_its_own_token_and_type_only() {
        let text = of_key("The Token; 1", "unit 2", &[0, 0x61, 0xFF], "private");
        assert_eq!(text, "pkcs11:token=The%20Token%3B%201;object=unit%202;id=%00%61%FF;type=private");
        let uri: Uri = text.parse().unwrap();
        assert_eq!(uri.key_id("The Token; 1", "private").unwrap(), [0, 0x61, 0xFF]);
        assert!(uri.key_id("Other", "private").is_err() && uri.key_id("The Token; 1", "secret-key").is_err());
    }

    #[test]
    fn what_would_have_narrowed_the_choice_and_a_pin_in_clear_are_refused() {
        for wrong in [
            "token=Zegel",
            "pkcs11:manufacturer=x",
            "pkcs11:token",
            "pkcs11:token=a;token=b",
            "pkcs11:token=%zz",
            "pkcs11:token=%f",
            "pkcs11:token=%FF",
            "pkcs11:token=a?pin-value=1234",
            &format!("pkcs11:token={}", "x".repeat(LENGTH_MAX)),
        ] {
            assert!(wrong.parse::<Uri>().is_err(), "{wrong}");
        }
        let error = "pkcs11:token=a?pin-value=1234".parse::<Uri>().unwrap_err().to_string();
        assert!(!error.contains("1234"), "{error}");
    }
}
