//! Refusals: `application/problem+json` (RFC 9457) with a stable code, and the status and title that the table of codes (`schemas::codes`) gives it.
//!
//! Invariant I4: a problem names the field, the rule and the kind of value. Nothing of the request is ever copied into
//! it: texts are literals, field names are literals with at most a position (`to[2]`, `line 7`).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemas::{MessageId, codes};
use serde::Serialize;
use zegel_core::{BrokerError, KeysError, ObjectsError, StoreError};

/// Seconds after which a client may try again when nobody says better.
const RETRY_AFTER_S: u64 = 1;

/// Shorthand for handlers.
pub type Answer<T> = Result<T, Problem>;

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    code: &'static str,
    detail: &'static str,
    field: Option<String>,
    retry_after_s: Option<u64>,
    submission: Option<MessageId>,
}

/// The wire form of a [`Problem`].
#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    submission: Option<MessageId>,
}

impl Problem {
    /// A refusal with a code of `schemas::codes`. The detail is a literal, so no value of a request can get into it.
    #[must_use]
    pub fn new(code: &'static str, detail: &'static str) -> Problem {
        Problem { code, detail, field: None, retry_after_s: None, submission: None }
    }

    /// A field that breaks its rule.
    #[must_use]
    pub fn field(name: impl Into<String>, rule: &'static str) -> Problem {
        Problem::new("ZGL-IN-FIELD", rule).at(name)
    }

    /// Nothing is there, or nothing that the caller may see.
    #[must_use]
    pub fn not_found(what: &'static str) -> Problem {
        Problem::new("ZGL-NOT-FOUND", what)
    }

    /// Names the field: a literal, or a literal with a position.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Problem {
        self.field = Some(field.into());
        self
    }

    /// Names the caller's own submission that stands in the way.
    #[must_use]
    pub fn known_as(mut self, submission: MessageId) -> Problem {
        self.submission = Some(submission);
        self
    }

    /// Tells the client when to try again.
    #[must_use]
    pub fn retry_after_ms(mut self, ms: u64) -> Problem {
        self.retry_after_s = Some(ms.div_ceil(1000).max(1));
        self
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The HTTP status of the code.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        let status = codes::find(self.code).and_then(|code| StatusCode::from_u16(code.http_status).ok());
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let document = Document {
            r#type: format!("urn:zegel:problem:{}", self.code),
            title: codes::find(self.code).map_or("request could not be handled", |code| code.summary),
            status: status.as_u16(),
            code: self.code,
            detail: self.detail,
            field: self.field.as_deref(),
            submission: self.submission,
        };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"zegel\""));
        }
        let wait = self.retry_after_s.or((status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_S));
        if let Some(seconds) = wait {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Problem {
        match error {
            BrokerError::Full { retry_after_ms, .. } => {
                Problem::new("ZGL-CHANNEL-FULL", "try again after the given time").retry_after_ms(retry_after_ms)
            }
            BrokerError::NoRoom(_) => no_room(),
            BrokerError::Unavailable(_) | BrokerError::Closed => Problem::new(
                "ZGL-BROKER-AWAY",
                "it is not known whether the message was kept; repeat it under the same idempotency key",
            )
            .retry_after_ms(1000),
            BrokerError::UnknownChannel(_) => Problem::new("ZGL-INTERNAL", "the broker does not know the channel"),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        match error {
            StoreError::Full(_) => no_room(),
            StoreError::Unavailable(_) | StoreError::Closed => {
                Problem::new("ZGL-STORE-AWAY", "nothing was changed").retry_after_ms(1000)
            }
            StoreError::Damaged(_) => Problem::new("ZGL-STORE-DAMAGED", "an operator is needed"),
            StoreError::Fenced { .. } | StoreError::Position { .. } => {
                Problem::new("ZGL-INTERNAL", "the slot belongs to another owner")
            }
        }
    }
}

/// A full disk gets room from an operator, or from consumers who go on: neither is a matter of a second.
pub(crate) fn no_room() -> Problem {
    Problem::new("ZGL-STORE-FULL", "nothing was changed").retry_after_ms(30_000)
}

impl From<ObjectsError> for Problem {
    fn from(error: ObjectsError) -> Problem {
        match error {
            ObjectsError::Missing => Problem::not_found("the content is not there any more"),
            ObjectsError::Authentication => Problem::new("ZGL-SEAL", "the stored content is not what was written"),
            ObjectsError::Unavailable(_) => Problem::new("ZGL-OBJECTS-AWAY", "nothing was kept").retry_after_ms(1000),
        }
    }
}

impl From<KeysError> for Problem {
    fn from(_: KeysError) -> Problem {
        Problem::new("ZGL-SEAL", "a stored value could not be opened")
    }
}

impl From<schemas::envelope::EnvelopeError> for Problem {
    fn from(_: schemas::envelope::EnvelopeError) -> Problem {
        Problem::new("ZGL-INTERNAL", "the message could not be written")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_that_the_front_answers_with_is_in_the_table() {
        let sources = [
            include_str!("auth.rs"),
            include_str!("authority.rs"),
            include_str!("body.rs"),
            include_str!("boxes.rs"),
            include_str!("content.rs"),
            include_str!("dead.rs"),
            include_str!("fields.rs"),
            include_str!("log.rs"),
            include_str!("mutations.rs"),
            include_str!("problem.rs"),
            include_str!("projects.rs"),
            include_str!("publish.rs"),
            include_str!("routes.rs"),
            include_str!("seals.rs"),
            include_str!("submission.rs"),
            include_str!("timestamp.rs"),
        ];
        let mut used = 0;
        for source in sources {
            for rest in source.split("Problem::new(").skip(1) {
                // A literal stands right behind the bracket, or on the next line; anything else is a variable.
                let literal = rest.trim_start().strip_prefix('"').and_then(|text| text.split('"').next());
                let is_code =
                    |text: &&str| text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-');
                let Some(code) = literal.filter(is_code) else { continue };
                used += 1;
                let known = codes::find(code).unwrap_or_else(|| panic!("{code} is not in the table"));
                assert!(known.http_status >= 400, "{code} is no refusal");
            }
        }
        assert!(used > 30, "only {used} codes were found");
    }

    #[test]
    fn a_full_channel_says_when_to_try_again_rounded_up() {
        let full = BrokerError::Full { channel: "mailbox.submitted", retry_after_ms: 1_200 };
        let response = Problem::from(full).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers().get(header::RETRY_AFTER), Some(&HeaderValue::from(2u64)));
    }

    #[test]
    fn a_full_disk_is_no_broker_that_is_away() {
        for problem in [Problem::from(BrokerError::NoRoom("x".into())), Problem::from(StoreError::Full("x".into()))] {
            assert_eq!((problem.code(), problem.status()), ("ZGL-STORE-FULL", StatusCode::INSUFFICIENT_STORAGE));
        }
    }

    #[test]
    fn what_a_backend_says_stays_inside() {
        let problem = Problem::from(StoreError::Unavailable("/secret/place".to_owned()));
        assert!(!format!("{problem:?}").contains("secret"));
    }
}
