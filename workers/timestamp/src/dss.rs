//! Time stamps in the form of OASIS DSS 1.0, as the eHealth platform's authority takes and gives them: `SignRequest` in,
//! `SignResponse` out, bytes to bytes. A SOAP face puts its envelope around them.
//!
//! What is stamped: a `DocumentHash` (SHA-256, SHA-384 or SHA-512, by their XML signature names), or the bytes of a document that
//! came as `Base64Data`, a hospital's own bag for instance, by their SHA-256. One document a request. The profile is
//! [`PROFILE`] (the certificate is inside the token) or left out; what else a request may ask for is not supported, and said so.
//! Source: dss-core 1.0 sections 2.4 to 3.2 and the schema `oasis-dss-core-schema-v1.0-os.xsd`.
//! Bounds: [`REQUEST_MAX`] bytes, five elements deep, no document type, no entity.
//! Failure behaviour: every request has a `SignResponse`; its `Result` says why there is no token, and quotes nothing of the request
//! but its `RequestID`.

use crate::consult::{DSS, PROFILE};
use crate::stamper::Answerer;
use base64::{Engine, engine::general_purpose::STANDARD};
use quick_xml::NsReader;
use quick_xml::escape::escape;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, ResolveResult};
use schemas::Millis;
use zegel_crypto::tsa::{Digest, Request, token_of};

/// Longest request: a bag of a hundred thousand entries in base64.
pub const REQUEST_MAX: usize = 16 << 20;
/// Longest `RequestID` that is given back.
const ID_MAX: usize = 256;
/// `SignRequest`, `InputDocuments`, `Document`, `Base64Data`; one more for what is ignored nowhere.
const DEPTH_MAX: usize = 5;
/// The namespace of XML signatures.
const DS: &str = "http://www.w3.org/2000/09/xmldsig#";
/// What a digest is called there (RFC 6931).
const DIGESTS: [(&str, Digest); 3] = [
    ("http://www.w3.org/2001/04/xmlenc#sha256", Digest::Sha256),
    ("http://www.w3.org/2001/04/xmldsig-more#sha384", Digest::Sha384),
    ("http://www.w3.org/2001/04/xmlenc#sha512", Digest::Sha512),
];

/// Why there is no token (dss-core 2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DssError {
    /// `RequesterError`, `NotParseableXMLDocument`.
    #[error("request is not a dss SignRequest: {0}")]
    Form(&'static str),
    /// `RequesterError`, `NotSupported`.
    #[error("request asks for what is not supported: {0}")]
    NotSupported(&'static str),
    /// `ResponderError`, `GeneralError`.
    #[error("the authority could not stamp; try again")]
    Authority,
}

impl DssError {
    fn result(self) -> (&'static str, &'static str) {
        match self {
            DssError::Form(_) => ("RequesterError", "NotParseableXMLDocument"),
            DssError::NotSupported(_) => ("RequesterError", "NotSupported"),
            DssError::Authority => ("ResponderError", "GeneralError"),
        }
    }
}

/// A request that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignRequest {
    /// `RequestID`, given back in the answer.
    pub id: Option<String>,
    /// What is to be stamped.
    pub input: Input,
}

/// What is to be stamped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A digest that the requester made.
    Hash(Digest, Vec<u8>),
    /// A document, its exact bytes.
    Document(Vec<u8>),
}

/// Answers a `SignRequest` with a `SignResponse`. Blocks for a signature. `now` is none while the platform's clock is not to be
/// trusted.
#[must_use]
pub fn answer(xml: &[u8], authority: &dyn Answerer, now: Option<Millis>) -> String {
    let mut reading = Reading::default();
    let outcome = reading.read(xml).and_then(|input| stamp(&input, authority, now));
    response(reading.id.as_deref(), outcome.as_deref().map_err(|error| *error))
}

/// Reads a `SignRequest`.
///
/// # Errors
/// See [`DssError`].
pub fn read(xml: &[u8]) -> Result<SignRequest, DssError> {
    let mut reading = Reading::default();
    let input = reading.read(xml)?;
    Ok(SignRequest { id: reading.id, input })
}

/// The token (DER, without a response around it).
fn stamp(input: &Input, authority: &dyn Answerer, now: Option<Millis>) -> Result<Vec<u8>, DssError> {
    let (digest, hash) = match input {
        Input::Hash(digest, hash) => (*digest, hash.clone()),
        Input::Document(bytes) => (Digest::Sha256, Digest::Sha256.of(bytes)),
    };
    let request = Request::over(digest, &hash, None);
    let request = request.map_err(|_| DssError::Form("DigestValue has another length than its method"))?;
    token_of(&authority.answer(&request.encode(), now)).map_err(|_| DssError::Authority)
}

fn response(id: Option<&str>, outcome: Result<&[u8], DssError>) -> String {
    let id = id.map(|id| format!(" RequestID=\"{}\"", escape(id))).unwrap_or_default();
    let (result, signature) = match outcome {
        Ok(token) => (
            "<ResultMajor>urn:oasis:names:tc:dss:1.0:resultmajor:Success</ResultMajor>".to_owned(),
            format!(
                "<SignatureObject><Timestamp><RFC3161TimeStampToken>{}</RFC3161TimeStampToken></Timestamp></SignatureObject>",
                STANDARD.encode(token)
            ),
        ),
        Err(error) => {
            let (major, minor) = error.result();
            let text = format!(
                "<ResultMajor>urn:oasis:names:tc:dss:1.0:resultmajor:{major}</ResultMajor>\
                 <ResultMinor>urn:oasis:names:tc:dss:1.0:resultminor:{minor}</ResultMinor>\
                 <ResultMessage xml:lang=\"en\">{error}</ResultMessage>"
            );
            (text, String::new())
        }
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<SignResponse xmlns=\"{DSS}\"{id} Profile=\"{PROFILE}\">\
         <Result>{result}</Result>{signature}</SignResponse>\n"
    )
}

const FORM: DssError = DssError::Form("well-formed xml without document type and entities");
const ORDER: DssError = DssError::Form("elements are those of the schema, in its order");

/// A request as far as it was read.
#[derive(Default)]
struct Reading {
    id: Option<String>,
    path: Vec<&'static str>,
    digest: Option<Digest>,
    text: String,
    input: Option<Input>,
    ended: bool,
}

impl Reading {
    fn read(&mut self, xml: &[u8]) -> Result<Input, DssError> {
        if xml.len() > REQUEST_MAX {
            return Err(DssError::Form("at most 16 MiB"));
        }
        let mut reader = NsReader::from_reader(xml);
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            let (namespace, event) = reader.read_resolved_event_into(&mut buffer).map_err(|_| FORM)?;
            let space = match namespace {
                ResolveResult::Bound(Namespace(name)) if name == DSS => DSS,
                ResolveResult::Bound(Namespace(name)) if name == DS => DS,
                _ => "",
            };
            match event {
                Event::Start(tag) => self.start(&tag, space)?,
                Event::Empty(tag) => {
                    self.start(&tag, space)?;
                    self.end()?;
                }
                Event::End(_) => self.end()?,
                Event::Text(text) if self.takes_text() => self.text.push_str(&text),
                Event::Text(text) if text.bytes().all(|byte| byte.is_ascii_whitespace()) => {}
                Event::Decl(_) | Event::Comment(_) => {}
                Event::Eof if self.ended => return self.input.take().ok_or(ORDER),
                _ => return Err(FORM),
            }
        }
    }

    fn takes_text(&self) -> bool {
        matches!(self.path.last(), Some(&("Base64Data" | "DigestValue")))
    }

    fn start(&mut self, tag: &BytesStart<'_>, space: &str) -> Result<(), DssError> {
        let name = tag.local_name().into_inner();
        let known = match (self.path.as_slice(), space, name) {
            ([], DSS, "SignRequest") if !self.ended => "SignRequest",
            (["SignRequest"], DSS, "InputDocuments") if self.input.is_none() => "InputDocuments",
            (["SignRequest"], DSS, "OptionalInputs") => return Err(DssError::NotSupported("optional inputs")),
            (["SignRequest", "InputDocuments"], DSS, "Document" | "DocumentHash") if self.input.is_some() => {
                return Err(DssError::NotSupported("more than one document"));
            }
            (["SignRequest", "InputDocuments"], DSS, "Document") => "Document",
            (["SignRequest", "InputDocuments"], DSS, "DocumentHash") => "DocumentHash",
            (["SignRequest", "InputDocuments"], DSS, "TransformedData" | "Other") => {
                return Err(DssError::NotSupported("a document that is neither a hash nor base64 data"));
            }
            ([.., "Document"], DSS, "Base64Data") if self.input.is_none() => "Base64Data",
            ([.., "Document"], _, _) => return Err(DssError::NotSupported("a document that is not base64 data")),
            ([.., "DocumentHash"], DS, "Transforms") => return Err(DssError::NotSupported("transforms")),
            ([.., "DocumentHash"], DS, "DigestMethod") if self.digest.is_none() => "DigestMethod",
            ([.., "DocumentHash"], DS, "DigestValue") if self.input.is_none() => "DigestValue",
            _ => return Err(ORDER),
        };
        match known {
            "SignRequest" => self.root(tag)?,
            "DigestMethod" => self.digest = Some(method(tag)?),
            _ => {}
        }
        self.path.push(known);
        self.text.clear();
        if self.path.len() > DEPTH_MAX { Err(ORDER) } else { Ok(()) }
    }

    fn root(&mut self, tag: &BytesStart<'_>) -> Result<(), DssError> {
        let id = attribute(tag, "RequestID")?;
        if id.as_ref().is_some_and(|id| id.len() > ID_MAX) {
            return Err(DssError::NotSupported("a RequestID of more than 256 bytes"));
        }
        self.id = id;
        match attribute(tag, "Profile")?.as_deref() {
            None | Some(PROFILE) => Ok(()),
            Some(_) => Err(DssError::NotSupported("a profile other than timestamping 2.1-cert")),
        }
    }

    fn end(&mut self) -> Result<(), DssError> {
        let bytes = |text: &str| {
            let packed: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
            STANDARD.decode(packed).map_err(|_| DssError::Form("binary content is base64"))
        };
        match self.path.pop().ok_or(FORM)? {
            "Base64Data" => self.input = Some(Input::Document(bytes(&self.text)?)),
            "DigestValue" => {
                let digest = self.digest.ok_or(DssError::Form("a DigestMethod comes before its DigestValue"))?;
                let hash = bytes(&self.text)?;
                if hash.len() != digest.length() {
                    return Err(DssError::Form("DigestValue has another length than its method"));
                }
                self.input = Some(Input::Hash(digest, hash));
            }
            "Document" | "DocumentHash" | "InputDocuments" if self.input.is_none() => return Err(ORDER),
            "SignRequest" => self.ended = true,
            _ => {}
        }
        Ok(())
    }
}

fn method(tag: &BytesStart<'_>) -> Result<Digest, DssError> {
    let name = attribute(tag, "Algorithm")?.ok_or(ORDER)?;
    let found = DIGESTS.iter().find(|(known, _)| *known == name).map(|(_, digest)| *digest);
    found.ok_or(DssError::NotSupported("a digest other than SHA-256, SHA-384 and SHA-512"))
}

fn attribute(tag: &BytesStart<'_>, name: &str) -> Result<Option<String>, DssError> {
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|_| FORM)?;
        if attribute.key.into_inner() == name {
            // Character references are fine here, entities of a document type cannot be.
            let text = quick_xml::escape::unescape(&attribute.value).map_err(|_| FORM)?;
            return Ok(Some(text.into_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

    fn request(documents: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<d:SignRequest xmlns:d=\"{DSS}\" xmlns:ds=\"{DS}\" Profile=\"{PROFILE}\" RequestID=\"a&amp;1\">\n\
             <d:InputDocuments>{documents}</d:InputDocuments></d:SignRequest>"
        )
    }

    fn hashed() -> String {
        let (name, _) = DIGESTS[0];
        request(&format!(
            "<d:DocumentHash><ds:DigestMethod Algorithm=\"{name}\"/><ds:DigestValue>{HASH}</ds:DigestValue></d:DocumentHash>"
        ))
    }

    #[test]
    fn a_hash_and_a_document_are_read() {
        let read_hash = read(hashed().as_bytes()).unwrap();
        assert_eq!(read_hash.id.as_deref(), Some("a&1"));
        assert_eq!(read_hash.input, Input::Hash(Digest::Sha256, Digest::Sha256.of(b"")));
        let document =
            request("<d:Document><d:Base64Data MimeType=\"application/xml\">YmFn\n</d:Base64Data></d:Document>");
        assert_eq!(read(document.as_bytes()).unwrap().input, Input::Document(b"bag".to_vec()));
    }

    #[test]
    fn what_cannot_be_answered_says_why_and_quotes_nothing() {
        let good = hashed();
        for (from, to, minor) in [
            (PROFILE, "urn:ehealth:profiles:timestamping:9.9", "NotSupported"),
            ("<d:InputDocuments>", "<d:OptionalInputs/><d:InputDocuments>", "NotSupported"),
            ("xmlenc#sha256", "xmldsig#sha1", "NotSupported"),
            (HASH, "AAAA", "NotParseableXMLDocument"),
            (HASH, "Jan Janssens!", "NotParseableXMLDocument"),
            ("</d:DocumentHash>", "</d:DocumentHash><d:Document/>", "NotSupported"),
            ("d:DocumentHash", "d:Document", "NotSupported"),
            (DSS, "urn:oasis:names:tc:dss:2.0", "NotParseableXMLDocument"),
            ("<?xml version=\"1.0\"?>", "<!DOCTYPE a [<!ENTITY e \"x\">]>", "NotParseableXMLDocument"),
            ("</d:SignRequest>", "", "NotParseableXMLDocument"),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            let error = read(bad.as_bytes()).unwrap_err();
            assert_eq!(error.result().1, minor, "{from} as {to}: {error}");
            assert!(!response(None, Err(error)).contains("Jan"));
        }
        assert!(matches!(read(b""), Err(DssError::Form(_))));
    }

    #[test]
    fn a_request_id_cannot_break_out_of_the_answer() {
        let answer = response(Some("\"><x/>"), Err(DssError::Authority));
        assert!(!answer.contains("<x/>") && answer.contains("&quot;&gt;&lt;x/&gt;"), "{answer}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(at in any::<prop::sample::Index>(), byte: u8) {
            let mut xml = hashed().into_bytes();
            let at = at.index(xml.len());
            xml[at] = byte;
            let _either = read(&xml);
        }
    }
}
