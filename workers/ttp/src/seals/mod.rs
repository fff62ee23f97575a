//! Seals, the synchronous coding service: identifiers in, coded values out, item by item, and back for those with the right.
//!
//! Purpose: the request and response types of the public interface ([`wire`], after `ehealth-seals-core` and
//! `ehealth-seals-protocol` 1.0), the coding of a batch ([`encode`], [`decode`]: pure functions), and the worker of
//! `seals.used` that keeps quotas and the log ([`worker`]).
//! An application is a project whose document has `[seals]`; its name is the `ApplicationName`. Its keys come from a root of
//! their own, never from the root of the project's tokens: a right to encode here teaches nobody a token there.
//! Invariants: I4 (no error quotes an item's text), I8 (an item that is not exactly a value of this application is an error,
//! never a text). An item's error leaves the others alone, and answers stand in the order of the items.

pub mod wire;
pub mod worker;

use self::wire::{
    DecodeRequest, DecodeResponse, Decoded, DecodedData, EncodeRequest, EncodeResponse, Encoded, EncodedData,
    ItemError, Status,
};
use crate::CompiledProject;
use crate::project::terms::{Algorithm, Seals};
use crate::sketch::Sketch;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::collections::HashSet;
use std::sync::Arc;
use zegel_crypto::seals::{self, CodeError, Codec};

/// Most items of one call.
pub const ITEMS_MAX: usize = 10_000;
/// Most characters of an item's text (`InputData`).
pub const TEXT_MAX: usize = 750;
/// Most characters of an item's id.
const ID_MAX: usize = 64;

const ALGORITHM: &str = "ZGL-SEALS-ALGORITHM";
const INPUT: &str = "ZGL-SEALS-INPUT";
const VALUE: &str = "ZGL-SEALS-VALUE";
const ONE_WAY: &str = "ZGL-SEALS-ONE-WAY";
const ID: &str = "ZGL-SEALS-ID";

/// An application as it holds now: its terms, and the codecs of all epochs, the last of which encodes.
pub struct Application {
    project: Arc<CompiledProject>,
    codecs: Vec<Codec>,
}

impl std::fmt::Debug for Application {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Application({})", self.project.name())
    }
}

/// What a call used, for quota and log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Use {
    /// Items that were coded.
    pub items: u32,
    /// Items that were refused.
    pub errors: u32,
    /// The distinct values among those that were encoded.
    pub values: Sketch,
}

impl Application {
    /// An application with the root of its service; none when the project has no `[seals]`.
    #[must_use]
    pub fn new(project: Arc<CompiledProject>, root: &[u8; 32]) -> Option<Application> {
        project.seals()?;
        let codecs = (1..=project.epoch()).map(|epoch| Codec::new(root, project.name(), epoch)).collect();
        Some(Application { project, codecs })
    }

    /// Its terms.
    #[must_use]
    pub fn terms(&self) -> Option<&Seals> {
        self.project.seals()
    }
}

/// Encodes every item.
pub fn encode(
    application: &mut Application,
    request: EncodeRequest,
    random: &mut dyn FnMut(&mut [u8]),
) -> (EncodeResponse, Use) {
    let allowed = application.project.seals().map(|seals| seals.algorithms.clone()).unwrap_or_default();
    let (mut seen, mut used) = (HashSet::new(), Use::default());
    let mut response = Vec::with_capacity(request.original_data.len());
    for item in request.original_data {
        let coded = checked_id(&item.id, &mut seen).and_then(|()| {
            let algorithm = algorithm(&item.algorithm_code, &allowed)?;
            if !(1..=TEXT_MAX).contains(&item.input_data.chars().count()) {
                return Err(INPUT);
            }
            let codec = application.codecs.last_mut().ok_or(ALGORITHM)?;
            let value = codec.encode(algorithm, &item.input_data, random).map_err(|_| INPUT)?;
            // What is counted must not depend on randomness: the one-way value of the text.
            let counted = codec.encode(seals::Algorithm::Hmac, &item.input_data, random).map_err(|_| INPUT)?;
            used.values.add_bytes(&counted[counted.len() - 16..]);
            Ok(value)
        });
        response.push(match coded {
            Ok(value) => {
                used.items += 1;
                Encoded::EncodedData(EncodedData { id: item.id, value: BASE64_STANDARD.encode(value) })
            }
            Err(code) => {
                used.errors += 1;
                Encoded::Error(error(item.id, code))
            }
        });
    }
    let status = Status::of(used.errors);
    (EncodeResponse { status, application_name: request.application_name, response }, used)
}

/// Decodes every item.
pub fn decode(application: &mut Application, request: DecodeRequest) -> (DecodeResponse, Use) {
    let has_ff1 = application.terms().is_some_and(|terms| terms.algorithms.contains(&Algorithm::Ff1));
    let (mut seen, mut used) = (HashSet::new(), Use::default());
    let mut response = Vec::with_capacity(request.encoded_data.len());
    for item in request.encoded_data {
        let text = checked_id(&item.id, &mut seen).and_then(|()| {
            let value = BASE64_STANDARD.decode(&item.value).map_err(|_| VALUE)?;
            // An FF1 value authenticates nothing: only where the terms name FF1 was it made here.
            let place = match seals::is_digits(&value) {
                true => application.codecs.len().checked_sub(1).filter(|_| has_ff1),
                false => seals::epoch_of(&value).and_then(|epoch| usize::try_from(epoch).ok()?.checked_sub(1)),
            };
            let codec = place.and_then(|place| application.codecs.get_mut(place)).ok_or(VALUE)?;
            codec.decode(&value).map_err(|error| if error == CodeError::OneWay { ONE_WAY } else { VALUE })
        });
        response.push(match text {
            Ok(text) => {
                used.items += 1;
                Decoded::DecodedData(DecodedData { id: item.id, output_data: text.to_string() })
            }
            Err(code) => {
                used.errors += 1;
                Decoded::Error(error(item.id, code))
            }
        });
    }
    let status = Status::of(used.errors);
    (DecodeResponse { status, application_name: request.application_name, response }, used)
}

fn algorithm(code: &str, allowed: &[Algorithm]) -> Result<seals::Algorithm, &'static str> {
    let (asked, algorithm) = match code {
        "SIV" => (Algorithm::Siv, seals::Algorithm::Siv),
        "HMAC" => (Algorithm::Hmac, seals::Algorithm::Hmac),
        "GCM" => (Algorithm::Gcm, seals::Algorithm::GcmSiv),
        "FF1" => (Algorithm::Ff1, seals::Algorithm::Ff1),
        _ => return Err(ALGORITHM),
    };
    allowed.contains(&asked).then_some(algorithm).ok_or(ALGORITHM)
}

/// An `xsd:ID`: a name of letters, digits, `.`, `-`, `_` that begins with a letter or `_`, once in a request.
fn checked_id(id: &str, seen: &mut HashSet<String>) -> Result<(), &'static str> {
    let first = id.chars().next().is_some_and(|first| first.is_alphabetic() || first == '_');
    let plain = id.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'));
    let is_good = first && plain && id.len() <= ID_MAX && seen.insert(id.to_owned());
    is_good.then_some(()).ok_or(ID)
}

fn error(id: String, code: &'static str) -> ItemError {
    let text = schemas::codes::find(code).map_or("", |code| code.summary);
    // An id that is too long is not sent back: it may be an identifier in the wrong place.
    let id = if id.len() <= ID_MAX { id } else { String::new() };
    ItemError { id, error_code: code.to_owned(), error_value: text.to_owned() }
}

#[cfg(test)]
mod tests;
