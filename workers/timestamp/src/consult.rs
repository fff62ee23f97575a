//! TimeStampConsult: what the eHealth service answers about a hospital's archive, as functions over identifications.
//!
//! A hospital names a period and the time stamps of it that it has; the answer is what the platform has beside (`INCOMPLETE`)
//! or nothing (`OK`). An identification is the token's serial number, in decimal, and its time; both ends of a period are
//! in it (XSD `ehealth-profiles-timestamping-2_0`). Times are milliseconds since 1970.
//! Reading is bounded: a request of at most [`REQUEST_MAX`] bytes, no document type, no entities, elements in the XSD's order.
//! Failure behaviour: [`ConsultError`] names the rule; a caller answers it as `ERROR`.

use base64::{Engine, engine::general_purpose::STANDARD};
use quick_xml::NsReader;
use quick_xml::events::Event;
use quick_xml::name::{Namespace, ResolveResult};
use schemas::Millis;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::xml::NAMESPACE;

/// A year of five-minute bags, named one by one, has some 12 MB.
pub const REQUEST_MAX: usize = 32 << 20;
/// Most bags that one retrieval gives (XSD: `TSList` at most ten times).
pub const BAGS_MAX: usize = 10;
/// The namespace of OASIS DSS, in which responses are wrapped.
pub(crate) const DSS: &str = "urn:oasis:names:tc:dss:1.0:core:schema";
/// The profile of the authority's answers, which the schema of DSS wants named.
pub(crate) const PROFILE: &str = "urn:ehealth:profiles:timestamping:2.1-cert";

/// Why a request cannot be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConsultError {
    /// Not well-formed, too large, or not of the schema.
    #[error("request breaks its schema: {0}")]
    Schema(&'static str),
    /// More than is answered at once.
    #[error("too much is asked for at once: {0}")]
    Size(&'static str),
}

impl ConsultError {
    /// `Error/Type` of the answer.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            ConsultError::Schema(_) => "InvalidRequest",
            ConsultError::Size(_) => "TooMuch",
        }
    }

    /// `Error/Number` of the answer; 0 would be no error.
    #[must_use]
    pub fn number(&self) -> u32 {
        match self {
            ConsultError::Schema(_) => 1,
            ConsultError::Size(_) => 2,
        }
    }
}

/// `TimeStampIdentification`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identification {
    /// `dateTime`: the token's time.
    pub at: Millis,
    /// `sequenceNumber`: the token's serial number, decimal.
    pub serial: String,
}

/// `TSConsultRequest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsultRequest {
    /// `IDHospital`.
    pub hospital: String,
    /// `Period/Start`, in the period.
    pub start: Millis,
    /// `Period/End`, in the period.
    pub end: Millis,
    /// `TSList`: what the hospital has.
    pub list: Vec<Identification>,
}

/// `TSConsultTSBagRequest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BagRequest {
    /// `IDHospital`.
    pub hospital: String,
    /// `TSList`: which bags; at most [`BAGS_MAX`].
    pub list: Vec<Identification>,
}

/// `Status` of a `TSConsultResponse`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The hospital has all that the platform has.
    Ok,
    /// The platform has more.
    Incomplete,
}

/// `TSConsultResponse`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsultResponse {
    /// Whether something is missing.
    pub status: Status,
    /// What the platform has and the hospital did not name, oldest first.
    pub missing: Vec<Identification>,
    /// What the hospital named and the platform does not have: trouble on the platform's side. The schema has no place for
    /// it, so it is not in the XML.
    pub unknown: Vec<Identification>,
}

/// Compares a hospital's list with what the platform has; what lies outside the period is left out on both sides.
#[must_use]
pub fn consult(request: &ConsultRequest, platform: impl IntoIterator<Item = Identification>) -> ConsultResponse {
    let within = |at: Millis| request.start <= at && at <= request.end;
    let named: BTreeSet<&Identification> = request.list.iter().filter(|one| within(one.at)).collect();
    let has: BTreeSet<Identification> = platform.into_iter().filter(|one| within(one.at)).collect();
    let missing: Vec<_> = has.iter().filter(|one| !named.contains(one)).cloned().collect();
    let unknown = named.into_iter().filter(|one| !has.contains(one)).cloned().collect();
    let status = if missing.is_empty() { Status::Ok } else { Status::Incomplete };
    ConsultResponse { status, missing, unknown }
}

impl ConsultResponse {
    /// The XML of the answer.
    #[must_use]
    pub fn to_xml(&self) -> String {
        let status = match self.status {
            Status::Ok => "OK",
            Status::Incomplete => "INCOMPLETE",
        };
        let mut xml = opened("TSConsultResponse");
        let _never = write!(xml, "<Status>{status}</Status>");
        self.missing.iter().for_each(|one| one.write(&mut xml));
        xml.push_str("</TSConsultResponse>\n");
        xml
    }
}

/// The XML of an answer that is an error: `TSConsultResponse` or, for a retrieval, `TSConsultTSBagResponse`.
#[must_use]
pub fn error_xml(error: &ConsultError, retrieval: bool) -> String {
    let fault = format!("<Error><Type>{}</Type><Number>{}</Number></Error>", error.kind(), error.number());
    match retrieval {
        true => format!("{}{fault}</TSConsultTSBagResponse>\n", opened("TSConsultTSBagResponse")),
        false => format!("{}<Status>ERROR</Status>{fault}</TSConsultResponse>\n", opened("TSConsultResponse")),
    }
}

/// The XML of a `TSConsultTSBagResponse`: each bag's bytes and its RFC 3161 token (DER, without the response around it), both
/// in base64.
#[must_use]
pub fn bags_xml<B: AsRef<[u8]>>(bags: &[(B, B)]) -> String {
    let mut xml = opened("TSConsultTSBagResponse");
    for (bag, token) in bags {
        let (bag, token) = (STANDARD.encode(bag), STANDARD.encode(token));
        let _never = write!(
            xml,
            "<TSBag><TSBagValue>{bag}</TSBagValue><dss:SignResponse xmlns:dss=\"{DSS}\" Profile=\"{PROFILE}\"><dss:Result><dss:ResultMajor>\
             urn:oasis:names:tc:dss:1.0:resultmajor:Success</dss:ResultMajor></dss:Result><dss:SignatureObject>\
             <dss:Timestamp><dss:RFC3161TimeStampToken>{token}</dss:RFC3161TimeStampToken></dss:Timestamp>\
             </dss:SignatureObject></dss:SignResponse></TSBag>"
        );
    }
    xml.push_str("</TSConsultTSBagResponse>\n");
    xml
}

fn opened(element: &str) -> String {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{element} xmlns=\"{NAMESPACE}\">")
}

impl Identification {
    fn write(&self, xml: &mut String) {
        let Identification { at, serial } = self;
        // A serial is digits; a time is a number.
        let _never =
            write!(xml, "<TSList><sequenceNumber>{serial}</sequenceNumber><dateTime>{}</dateTime></TSList>", at.0);
    }
}

impl ConsultRequest {
    /// Reads a `TSConsultRequest`.
    ///
    /// # Errors
    /// See [`ConsultError`].
    pub fn from_xml(xml: &[u8]) -> Result<ConsultRequest, ConsultError> {
        let mut texts = Texts::read(xml, "TSConsultRequest")?;
        let hospital = texts.next("IDHospital")?;
        texts.group("Period")?;
        let (start, end) = (texts.instant("Start")?, texts.instant("End")?);
        texts.end()?;
        let list = texts.identifications(usize::MAX)?;
        if start > end {
            return Err(ConsultError::Schema("a period ends after it starts"));
        }
        Ok(ConsultRequest { hospital, start, end, list })
    }
}

impl BagRequest {
    /// Reads a `TSConsultTSBagRequest`.
    ///
    /// # Errors
    /// See [`ConsultError`].
    pub fn from_xml(xml: &[u8]) -> Result<BagRequest, ConsultError> {
        let mut texts = Texts::read(xml, "TSConsultTSBagRequest")?;
        let hospital = texts.next("IDHospital")?;
        let list = texts.identifications(BAGS_MAX)?;
        Ok(BagRequest { hospital, list })
    }
}

/// What a document is made of, without its root.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Open(String),
    Text(String),
    Close,
}

struct Texts(std::iter::Peekable<std::vec::IntoIter<Piece>>);

const ORDER: ConsultError = ConsultError::Schema("elements are those of the schema, in its order");
const FORM: ConsultError = ConsultError::Schema("request is well-formed xml without document type and entities");
const LENGTH: ConsultError = ConsultError::Schema("request has at most 32 MiB");
const ROOT: ConsultError = ConsultError::Schema("root is the operation's request in the eHealth namespace");

impl Texts {
    fn read(xml: &[u8], root: &str) -> Result<Texts, ConsultError> {
        if xml.len() > REQUEST_MAX {
            return Err(LENGTH);
        }
        let mut reader = NsReader::from_reader(xml);
        let mut pieces = Vec::new();
        let (mut depth, mut buffer, mut ended) = (0u32, Vec::new(), false);
        loop {
            buffer.clear();
            let (namespace, event) = reader.read_resolved_event_into(&mut buffer).map_err(|_| FORM)?;
            let ours = matches!(namespace, ResolveResult::Bound(Namespace(name)) if name == NAMESPACE);
            match event {
                Event::Start(tag) => {
                    let name = tag.local_name().into_inner();
                    if !ours || (depth == 0 && (name != root || ended)) || depth > 3 {
                        return Err(ROOT);
                    }
                    if depth > 0 {
                        pieces.push(Piece::Open(name.to_owned()));
                    }
                    depth += 1;
                }
                Event::End(_) => {
                    depth = depth.saturating_sub(1);
                    ended |= depth == 0;
                    if depth > 0 {
                        pieces.push(Piece::Close);
                    }
                }
                Event::Text(text) if text.bytes().all(|byte| byte.is_ascii_whitespace()) => {}
                Event::Text(text) if depth > 1 => pieces.push(Piece::Text(text.trim().to_owned())),
                Event::Decl(_) | Event::Comment(_) => {}
                Event::Eof if ended && depth == 0 => return Ok(Texts(pieces.into_iter().peekable())),
                _ => return Err(FORM),
            }
        }
    }

    fn group(&mut self, name: &str) -> Result<(), ConsultError> {
        if self.0.next() == Some(Piece::Open(name.to_owned())) { Ok(()) } else { Err(ORDER) }
    }

    fn end(&mut self) -> Result<(), ConsultError> {
        if self.0.next() == Some(Piece::Close) { Ok(()) } else { Err(ORDER) }
    }

    /// The text of an element.
    fn next(&mut self, name: &str) -> Result<String, ConsultError> {
        self.group(name)?;
        let Some(Piece::Text(text)) = self.0.next() else { return Err(ORDER) };
        self.end()?;
        Ok(text)
    }

    fn instant(&mut self, name: &str) -> Result<Millis, ConsultError> {
        self.next(name)?.parse().map(Millis).map_err(|_| ConsultError::Schema("a time is a number of milliseconds"))
    }

    fn identifications(&mut self, most: usize) -> Result<Vec<Identification>, ConsultError> {
        let mut list = Vec::new();
        while self.0.peek().is_some() {
            self.group("TSList")?;
            let serial = self.next("sequenceNumber")?;
            let at = self.instant("dateTime")?;
            self.end()?;
            if serial.is_empty() || serial.len() > 64 || !serial.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(ConsultError::Schema("a sequence number is up to 64 digits"));
            }
            list.push(Identification { at, serial });
            if list.len() > most {
                return Err(ConsultError::Schema("a retrieval names at most ten time stamps"));
            }
        }
        Ok(list)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(at: i64, serial: &str) -> Identification {
        Identification { at: Millis(at), serial: serial.to_owned() }
    }

    fn request(list: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<t:TSConsultRequest xmlns:t=\"{NAMESPACE}\"><t:IDHospital>71000436</t:IDHospital>\n\
             <t:Period><t:Start>10</t:Start><t:End>20</t:End></t:Period>{list}</t:TSConsultRequest>"
        )
    }

    fn listed(serial: &str, at: &str) -> String {
        format!("<t:TSList><t:sequenceNumber>{serial}</t:sequenceNumber><t:dateTime>{at}</t:dateTime></t:TSList>")
    }

    #[test]
    fn what_the_hospital_lacks_is_named_and_both_ends_of_the_period_count() {
        let read = ConsultRequest::from_xml(request(&listed("7", "12")).as_bytes()).unwrap();
        assert_eq!((read.hospital.as_str(), read.start, read.end), ("71000436", Millis(10), Millis(20)));
        assert_eq!(read.list, [one(12, "7")]);
        let platform = [one(9, "5"), one(10, "6"), one(12, "7"), one(20, "8"), one(21, "9")];
        let answer = consult(&read, platform.clone());
        assert_eq!((answer.status, &answer.missing[..]), (Status::Incomplete, &[one(10, "6"), one(20, "8")][..]));
        let all = ConsultRequest { list: platform[1..4].to_vec(), ..read.clone() };
        assert_eq!(consult(&all, platform.clone()).status, Status::Ok);
        // The platform has less than the hospital: its own trouble, and it says so.
        let more = ConsultRequest { list: vec![one(15, "99")], ..read };
        assert_eq!(consult(&more, []).unknown, [one(15, "99")]);
    }

    #[test]
    fn answers_are_of_the_schema() {
        let answer = ConsultResponse { status: Status::Incomplete, missing: vec![one(10, "6")], unknown: vec![] };
        let xml = answer.to_xml();
        let listed = "<TSList><sequenceNumber>6</sequenceNumber><dateTime>10</dateTime></TSList>";
        assert!(xml.contains(&format!("<Status>INCOMPLETE</Status>{listed}</TSConsultResponse>")), "{xml}");
        let error = ConsultRequest::from_xml(b"<x/>").unwrap_err();
        assert!(error_xml(&error, false).contains("<Status>ERROR</Status><Error><Type>InvalidRequest</Type>"));
        assert!(bags_xml(&[(b"bag", b"tok")]).contains("<TSBagValue>YmFn</TSBagValue>"));
    }

    #[test]
    fn what_is_not_of_the_schema_is_refused() {
        let good = request(&listed("7", "12"));
        for (from, to) in [
            ("<t:Start>10", "<t:Start>30"),
            ("<t:Start>10", "<t:Start>now"),
            ("<t:Period>", "<t:Periode>"),
            ("protocol:v2", "protocol:v3"),
            ("<t:IDHospital>71000436</t:IDHospital>", ""),
            ("7</t:sequenceNumber>", "&lt;</t:sequenceNumber>"),
            ("7</t:sequenceNumber>", "-7</t:sequenceNumber>"),
            ("<?xml version=\"1.0\"?>", "<!DOCTYPE a [<!ENTITY e \"x\">]>"),
            ("</t:TSConsultRequest>", "</t:TSConsultRequest><t:TSConsultRequest/>"),
            ("</t:TSConsultRequest>", ""),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            assert!(ConsultRequest::from_xml(bad.as_bytes()).is_err(), "{from} as {to}");
        }
        let bags = |count: usize| {
            let list: String = (0..count).map(|n| listed(&n.to_string(), "12")).collect();
            let xml = request(&list).replace("TSConsultRequest", "TSConsultTSBagRequest");
            xml.replace("<t:Period><t:Start>10</t:Start><t:End>20</t:End></t:Period>", "")
        };
        assert_eq!(BagRequest::from_xml(bags(10).as_bytes()).unwrap().list.len(), 10);
        assert!(BagRequest::from_xml(bags(11).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(at in any::<prop::sample::Index>(), byte: u8) {
            let mut xml = request(&listed("7", "12")).into_bytes();
            let at = at.index(xml.len());
            xml[at] = byte;
            let _either = ConsultRequest::from_xml(&xml);
        }

        #[test]
        fn nothing_is_lost_between_two_lists(
            here in prop::collection::btree_set(0i64..40, 0..20), there in prop::collection::btree_set(0i64..40, 0..20),
        ) {
            let all = |times: &BTreeSet<i64>| times.iter().map(|at| one(*at, &at.to_string())).collect::<Vec<_>>();
            let (start, end) = (Millis(10), Millis(30));
            let request = ConsultRequest { hospital: String::new(), start, end, list: all(&here) };
            let answer = consult(&request, all(&there));
            let within = |at: &&i64| (10..=30).contains(*at);
            let missing: Vec<i64> = there.difference(&here).filter(within).copied().collect();
            prop_assert_eq!(answer.missing.iter().map(|one| one.at.0).collect::<Vec<_>>(), missing);
            prop_assert_eq!(answer.unknown.len(), here.difference(&there).filter(within).count());
        }
    }
}
