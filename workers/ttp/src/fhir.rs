//! FHIR R4 in JSON: a Bundle, one resource, or resources one after another (NDJSON). Rows are resources, in a Bundle its
//! entries.
//!
//! A path begins with the type of the resource, wherever it stands: `Patient.name.family` holds for a Patient alone, in a
//! Bundle and contained in another resource. The members around a Bundle's entries are `Bundle.entry.fullUrl` and so on.
//! A Bundle comes out as one, its entries shuffled unless the project keeps their order; a Composition or MessageHeader
//! that comes first stays first, as FHIR asks of documents and messages. An entry whose resource is left out is left out
//! whole. Resources come out as NDJSON.
//!
//! Memory (I7): one entry. For that the type of a Bundle must stand before its entries, as every writer does; else the
//! Bundle is taken up to the size of a row.
//! Failure: what is not a resource is refused, as a batch if it is the first, else as a row.

use crate::json::{Json, Place};
use crate::json_stream::JsonStream;
use crate::refusal::{TransformError, refusal};
use crate::row_number::{Carrier, take_fhir};
use crate::run::Run;
use crate::transform::{Format, ROW_MAX};
use crate::values::json_string;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::io::{self, BufRead};

const BUNDLE: &str = "Bundle";
/// Members of an object as they stand: name and value.
type Members = Vec<(String, Vec<u8>)>;

/// Puts every resource of a FHIR batch through.
pub(crate) fn run(run: &mut Run<'_>, input: &mut dyn BufRead) -> Result<Format, TransformError> {
    run.carrier = Carrier::Fhir;
    let mut batch = Batch { run, stream: JsonStream::new(input), is_open: false, value: Vec::new(), out: Vec::new() };
    match batch.first() {
        Err(Trouble::Other(error)) => Err(error),
        Err(Trouble::Json(error)) => Err(batch.refused(error)),
        Ok(format) => Ok(format),
    }
}

struct Batch<'b, 'r> {
    run: &'b mut Run<'r>,
    stream: JsonStream<'b>,
    /// A Bundle's head was written.
    is_open: bool,
    value: Vec<u8>,
    out: Vec<u8>,
}

/// What ends a batch.
enum Trouble {
    Json(io::Error),
    Other(TransformError),
}

impl From<TransformError> for Trouble {
    fn from(error: TransformError) -> Trouble {
        Trouble::Other(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Json(error)
    }
}

fn not_fhir() -> Trouble {
    TransformError::from(refusal("ZGL-TTP-FORMAT", "the batch is not FHIR in JSON: resourceType is missing")).into()
}

impl Batch<'_, '_> {
    /// A reading error in words: what is wrong is the batch, unless the disk failed.
    fn refused(&mut self, error: io::Error) -> TransformError {
        match error.kind() {
            io::ErrorKind::InvalidData => {
                let text = format!("the batch is not well-formed JSON after resource {}", self.run.report.rows_in);
                refusal("ZGL-TTP-FORMAT", text).into()
            }
            io::ErrorKind::FileTooLarge => {
                self.run.report.rows_in += 1;
                self.run.report.bad("", "ZGL-ROW-LENGTH");
                std::mem::take(&mut self.run.report).refusal().into()
            }
            _ => error.into(),
        }
    }

    fn first(&mut self) -> Result<Format, Trouble> {
        let members = self.members()?;
        let kind = member(&members, "resourceType").ok_or_else(not_fhir)?;
        if kind != format!("\"{BUNDLE}\"").as_bytes() {
            let resource = whole(&members)?;
            self.resource(&resource)?;
            while self.stream.peek()?.is_some() {
                let mut value = std::mem::take(&mut self.value);
                self.stream.value(&mut value)?;
                self.resource(&value)?;
                self.value = value;
            }
            return Ok(Format::FhirNdjson);
        }
        if !self.is_open {
            self.open()?;
            let entries: Vec<&RawValue> = match member(&members, "entry") {
                Some(entries) => serde_json::from_slice(entries).map_err(io::Error::from)?,
                None => Vec::new(),
            };
            entries.iter().try_for_each(|entry| self.entry(entry.get().as_bytes()))?;
        }
        self.close(&members)?;
        if self.stream.peek()?.is_some() {
            let text = "a batch is one Bundle, or resources that are not Bundles";
            return Err(TransformError::from(refusal("ZGL-TTP-FORMAT", text)).into());
        }
        Ok(Format::Fhir)
    }

    /// Reads the first object; the entries of a Bundle go through as they come.
    fn members(&mut self) -> Result<Members, Trouble> {
        let invalid = || Trouble::Json(io::ErrorKind::InvalidData.into());
        let (mut members, mut size) = (Members::new(), 0);
        if !self.stream.take(b'{')? {
            return Err(invalid());
        }
        if self.stream.take(b'}')? {
            return Ok(members);
        }
        loop {
            let mut value = Vec::new();
            self.stream.value(&mut value)?;
            let name: String = serde_json::from_slice(&value).map_err(io::Error::from)?;
            if !self.stream.take(b':')? {
                return Err(invalid());
            }
            let is_bundle = member(&members, "resourceType") == Some(b"\"Bundle\"");
            if is_bundle && name == "entry" && !self.is_open && self.stream.take(b'[')? {
                self.open()?;
                self.entries()?;
            } else {
                self.stream.value(&mut value)?;
                size += name.len() + value.len();
                if size > ROW_MAX {
                    return Err(Trouble::Json(io::ErrorKind::FileTooLarge.into()));
                }
                members.push((name, value));
            }
            if self.stream.take(b'}')? {
                return Ok(members);
            }
            if !self.stream.take(b',')? {
                return Err(invalid());
            }
        }
    }

    fn open(&mut self) -> Result<(), TransformError> {
        self.is_open = true;
        self.run.outlet.separate_by(b",\n");
        self.run.outlet.header(b"{\"resourceType\":\"Bundle\",\"entry\":[\n")
    }

    fn entries(&mut self) -> Result<(), Trouble> {
        if self.stream.take(b']')? {
            return Ok(());
        }
        loop {
            let mut value = std::mem::take(&mut self.value);
            self.stream.value(&mut value)?;
            self.entry(&value)?;
            self.value = value;
            if self.stream.take(b']')? {
                return Ok(());
            }
            if !self.stream.take(b',')? {
                return Err(Trouble::Json(io::ErrorKind::InvalidData.into()));
            }
        }
    }

    fn entry(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.run.begin_row();
        self.out.clear();
        let Some(text) = self.checked(bytes) else { return Ok(self.run.end_row(&[])?) };
        let text = &*self.without_number(text);
        let mut json = Json { run: &mut *self.run, is_fhir: true };
        let bundle = json.below(Place::TOP, BUNDLE);
        let place = json.below(bundle, "entry");
        if json.run.wants_notes() {
            json.note(text, place, 1);
        }
        let any = json.value(text, place, 1, &mut self.out)?;
        // An entry that had a resource says nothing without it.
        let is_whole = any && (has_resource(&self.out) || !has_resource(bytes));
        let is_first = self.run.report.rows_in == 1
            && [&b"\"resourceType\":\"Composition\""[..], b"\"resourceType\":\"MessageHeader\""]
                .iter()
                .any(|kind| self.out.windows(kind.len()).any(|window| window == *kind));
        match (is_whole, is_first) {
            (false, _) => self.run.skip_row(),
            (true, true) => self.run.end_first_row(&self.out)?,
            (true, false) => self.run.end_row(&self.out)?,
        }
        Ok(())
    }

    fn resource(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.run.begin_row();
        self.out.clear();
        let Some(text) = self.checked(bytes) else { return Ok(self.run.end_row(&[])?) };
        let text = &*self.without_number(text);
        let any = Json { run: &mut *self.run, is_fhir: true }.row(text, &mut self.out)?;
        self.out.push(b'\n');
        if any {
            self.run.end_row(&self.out)?;
        } else {
            self.run.skip_row();
        }
        Ok(())
    }

    /// On the way back, a row without its number.
    fn without_number<'t>(&mut self, text: &'t str) -> Cow<'t, str> {
        let Some((rest, numbers)) = (if self.run.is_return() { take_fhir(text) } else { None }) else {
            return text.into();
        };
        self.run.found_numbers(numbers);
        rest.into()
    }

    /// The text of a row that is not too long and UTF-8.
    fn checked<'t>(&mut self, bytes: &'t [u8]) -> Option<&'t str> {
        let text = std::str::from_utf8(bytes);
        match text {
            _ if bytes.len() > ROW_MAX => self.run.report.bad("", "ZGL-ROW-LENGTH"),
            Err(_) => self.run.report.bad("", "ZGL-ROW-UTF8"),
            Ok(text) if serde_json::from_str::<&RawValue>(text).is_ok() => return Some(text),
            Ok(_) => self.run.report.bad("", "ZGL-ROW-JSON"),
        }
        None
    }

    /// Writes the members of a Bundle that are not its entries behind them.
    fn close(&mut self, members: &Members) -> Result<(), Trouble> {
        let mut trailer = b"\n]".to_vec();
        for (name, value) in members.iter().filter(|(name, _)| name != "resourceType" && name != "entry") {
            let text = serde_json::from_slice::<&RawValue>(value).map_err(io::Error::from)?;
            let mut json = Json { run: &mut *self.run, is_fhir: true };
            let bundle = json.below(Place::TOP, BUNDLE);
            let place = json.below(bundle, name);
            self.out.clear();
            if json.value(text.get(), place, 1, &mut self.out)? {
                trailer.push(b',');
                json_string(name, &mut trailer)?;
                trailer.push(b':');
                trailer.extend_from_slice(&self.out);
            }
        }
        trailer.extend_from_slice(b"}\n");
        self.run.outlet.trailer(trailer);
        Ok(())
    }
}

fn member<'m>(members: &'m Members, name: &str) -> Option<&'m [u8]> {
    members.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_slice())
}

/// The object as one text again.
fn whole(members: &Members) -> Result<Vec<u8>, Trouble> {
    let mut text = b"{".to_vec();
    for (name, value) in members {
        if text.len() > 1 {
            text.push(b',');
        }
        json_string(name, &mut text)?;
        text.push(b':');
        text.extend_from_slice(value);
    }
    text.push(b'}');
    Ok(text)
}

/// A member of that name: in a string its quotes would be escaped.
fn has_resource(text: &[u8]) -> bool {
    text.windows(RESOURCE.len()).any(|window| window == RESOURCE)
}

const RESOURCE: &[u8] = b"\"resource\"";
