//! The command lines with which somebody checks the same by `openssl`, without this program.
//!
//! A token is judged at its own time (`-attime`), because its certificate ends one day and the token stays good.

use base64::{Engine, engine::general_purpose::STANDARD};
use schemas::Millis;

/// A time-stamp token over a file. Names are those of files in the current folder.
#[must_use]
pub fn token(data: &str, response: &str, ca: &str, gen_time: Millis) -> String {
    let seconds = gen_time.0.div_euclid(1_000);
    format!("openssl ts -verify -data {data} -in {response} -CAfile {ca} -attime {seconds}")
}

/// What a token says, in words.
#[must_use]
pub fn text(response: &str) -> String {
    format!("openssl ts -reply -in {response} -text")
}

/// The base64 digest of a file, as it stands in a bag.
#[must_use]
pub fn digest(file: &str) -> String {
    format!("openssl dgst -sha256 -binary {file} | openssl base64")
}

/// The same where hashes are salted: base64 of SHA-256(salt ‖ SHA-256(file)). The salt stands in base64, which OpenSSL reads itself.
#[must_use]
pub fn salted_digest(file: &str, salt: &[u8]) -> String {
    let salt = STANDARD.encode(salt);
    format!(
        "(echo {salt} | openssl base64 -d; openssl dgst -sha256 -binary {file}) | openssl dgst -sha256 -binary | openssl base64"
    )
}

/// The signature of a report.
#[must_use]
pub fn signature(report: &str, signature: &str, key: &str) -> String {
    format!("openssl pkeyutl -verify -pubin -inkey {key} -rawin -in {report} -sigfile {signature}")
}
