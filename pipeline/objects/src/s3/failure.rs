//! What an error of the store means, in words of our own: the store's answer may repeat credentials and signatures, so of
//! it only the status and the code word are taken.

use crate::unavailable;
use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};
use zegel_core::ObjectsError;

/// No code word of a store is longer.
const CODE_CHARACTERS_MAX: usize = 64;

/// `Missing` only when the object is: a bucket that is not there is an operator's mistake, which can be mended.
pub(crate) fn from_store(error: Error) -> ObjectsError {
    let text = error.to_string();
    let code = code(&text);
    match (error, code) {
        (Error::NotFound { .. }, None | Some("NoSuchKey")) => ObjectsError::Missing,
        (_, Some("NoSuchBucket")) => unavailable("there is no such bucket (NoSuchBucket)"),
        (Error::PermissionDenied { .. } | Error::Unauthenticated { .. }, code) => {
            unavailable(format_args!("the store refuses these credentials ({})", code.unwrap_or("no code")))
        }
        (_, Some(code)) => unavailable(format_args!("the store answered {code}")),
        (error, None) => unavailable(transport(&error, &text)),
    }
}

/// Whether the store says that an object has no byte at the place asked for.
pub(crate) fn is_beyond_end(error: &Error) -> bool {
    let text = error.to_string();
    code(&text) == Some("InvalidRange") || status(&text) == Some("416")
}

/// What went wrong on the way, without addresses.
pub(crate) fn transport(error: &(dyn std::error::Error + 'static), text: &str) -> String {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            let kind = match http.kind() {
                HttpErrorKind::Connect => "cannot be reached",
                HttpErrorKind::Timeout => "did not answer in time",
                HttpErrorKind::Decode => "gave an answer that cannot be read",
                _ => "broke the connection",
            };
            return format!("the store {kind}");
        }
        cause = error.source();
    }
    match status(text) {
        Some(status) => format!("the store answered with status {status}"),
        None => "the store's answer cannot be used".to_owned(),
    }
}

/// The code word of an answer like `<Error><Code>NoSuchKey</Code>…`.
pub(crate) fn code(text: &str) -> Option<&str> {
    let (word, _) = text.split_once("<Code>")?.1.split_once("</Code>")?;
    let fits = word.len() <= CODE_CHARACTERS_MAX && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (fits && !word.is_empty()).then_some(word)
}

fn status(text: &str) -> Option<&str> {
    let status = text.split_once("status code: ")?.1.get(..3)?;
    status.bytes().all(|byte| byte.is_ascii_digit()).then_some(status)
}
