//! The time-stamp authority over HTTP (RFC 3161 section 3.4): what `openssl ts -query … | curl` asks, the same as a DSS
//! `SignRequest` in XML, and what is needed to verify the answers: revocation list and certificates of the units.
//!
//! Whatever the request holds, the answer is 200 with a `TimeStampResp`, which says itself why there is no token; only what
//! is not a time-stamp request at all gets a problem. A hash tells nothing of its document, so by default anybody may ask;
//! signatures are made a few at a time, so nobody can take the processor from the rest of the platform.

use crate::auth::Caller;
use crate::body;
use crate::input::Params;
use crate::platform::Front;
use crate::problem::{Answer, Problem};
use crate::timestamp::hospital;
use crate::tokens;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Duration;
use zegel_crypto::tsa::{Failure, REQUEST_MAX};
use zegel_timestamp::dss;

const QUERY: &str = "application/timestamp-query";
const REPLY: &str = "application/timestamp-reply";

/// How long a request waits for its turn to be signed: a thousand RSA signatures.
const TURN: Duration = Duration::from_secs(2);

/// `POST /timestamp`; with `?archive=HOSPITAL` the token is archived for that hospital before it is given, and `Location` says where.
pub(crate) async fn stamp(
    State(front): State<Arc<Front>>,
    caller: Answer<Caller>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let archive = match Params::read(&uri, &["archive"])?.text("archive") {
        Some(named) => {
            let hospital = hospital(named)?;
            Some((caller?.owner(&front, &hospital)?, hospital))
        }
        None if front.config.stamps_need_token => {
            caller?;
            None
        }
        None => None,
    };
    let form = Form::of(&headers)?;
    if archive.is_some() && form == Form::Dss {
        let rule = "is for application/timestamp-query; bags are archived by /v1/timestamp/own-bags";
        return Err(Problem::field("archive", rule));
    }
    let limit = if form == Form::Dss { dss::REQUEST_MAX } else { REQUEST_MAX };
    let whole = body::whole_up_to(&front, &headers, body, limit as u64).await?;
    let request = whole.bytes.clone();
    // Refused before anything is signed: the archive and the log name what was stamped by its SHA-256.
    let archive =
        archive.map(|(key, hospital)| Ok::<_, Problem>((key, hospital, tokens::imprint(&request)?))).transpose()?;
    let now = front.clock.is_steady().then(|| front.clock.now());
    let response = match front.config.authority.clone() {
        None if form == Form::Dss => {
            return Err(Problem::not_found("this platform has no authority of its own"));
        }
        None => Failure::SystemFailure.response(),
        Some(authority) => {
            let turn = tokio::time::timeout(TURN, front.stamps.clone().acquire_owned()).await;
            let Ok(Ok(turn)) = turn else {
                return Err(Problem::new("ZGL-HTTP-BUSY", "too many time stamps at a time").retry_after_ms(1_000));
            };
            body::blocking(move || {
                let answer = match form {
                    Form::Rfc3161 => authority.answer(&request, now),
                    Form::Dss => dss::answer(&request, authority.as_ref(), now).into_bytes(),
                };
                drop(turn);
                Ok(answer)
            })
            .await?
        }
    };
    let kind = if form == Form::Dss { "application/xml" } else { REPLY };
    let place = match archive {
        Some((key, hospital, imprint)) => tokens::keep(&front, (key, hospital, imprint), &response, &headers).await?,
        None => None,
    };
    let mut answer = ([(header::CONTENT_TYPE, kind)], response).into_response();
    if let Some(place) = place.and_then(|place| place.parse().ok()) {
        answer.headers_mut().insert(header::LOCATION, place);
    }
    Ok(answer)
}

/// How a time stamp is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `TimeStampReq` and `TimeStampResp`, DER.
    Rfc3161,
    /// `SignRequest` and `SignResponse` of OASIS DSS, XML.
    Dss,
}

impl Form {
    /// The form that a request says it has.
    fn of(headers: &HeaderMap) -> Answer<Form> {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match kind.as_str() {
            QUERY => Ok(Form::Rfc3161),
            "application/xml" | "text/xml" => Ok(Form::Dss),
            _ => {
                let rule = "must be application/timestamp-query, or application/xml with a DSS SignRequest";
                Err(Problem::new("ZGL-HTTP-MEDIA", rule).at("Content-Type"))
            }
        }
    }
}

/// `GET /v1/timestamp/ca.crl`.
pub(crate) async fn revocations(State(front): State<Arc<Front>>) -> Answer<Response> {
    let authority = front.config.authority.clone();
    let list = body::blocking(move || Ok(authority.and_then(|authority| authority.revocations()))).await?;
    let list = list.ok_or_else(|| Problem::not_found("this platform has no authority of its own"))?;
    Ok(([(header::CONTENT_TYPE, "application/pkix-crl")], list).into_response())
}

/// `GET /v1/timestamp/units.pem`.
pub(crate) async fn units(State(front): State<Arc<Front>>) -> Answer<Response> {
    let authority = front.config.authority.clone();
    let units = body::blocking(move || Ok(authority.and_then(|authority| authority.units()))).await?;
    let units = units.ok_or_else(|| Problem::not_found("this platform has no authority of its own"))?;
    Ok(([(header::CONTENT_TYPE, "application/pem-certificate-chain")], units).into_response())
}
