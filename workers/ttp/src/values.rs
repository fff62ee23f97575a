//! What becomes of one value: checked by its kind, then kept, changed or made a token; and the way back.
//!
//! Values are trimmed before they are checked or made tokens, and text is brought to Unicode form C, so that the same
//! number written in two ways is one patient. An empty value stays empty; it never becomes a token.
//! The way back ([`Cell::restore`]) undoes tokens and moved dates; what was made coarser, scrubbed or replaced stays as it
//! was delivered.
//! Failure: a code of `schemas::codes` for the row's report.

use crate::coarse::{self, Area, Buckets};
use crate::dates::Date;
use crate::fields::{FieldDocument, ValueKind};
use crate::references::{Ids, References, id_of};
use crate::scrub::{Names, scrub};
use crate::sketch::Sketch;
use base64::Engine;
use chrono::Datelike;
use schemas::ids::{self, Ssin};
use std::borrow::Cow;
use std::io::Write;
use zegel_crypto::envelope::SealedFor;
use zegel_crypto::pseudonym::escrow::Opener;
use zegel_crypto::pseudonym::{Draw, Escrow, NONCE, OneWay, Randomised, Reversible, SsinCipher};

/// A value that breaks its rule.
pub(crate) type RowCode = &'static str;

pub(crate) const REQUIRED: RowCode = "ZGL-ROW-REQUIRED";
const SSIN: RowCode = "ZGL-ROW-SSIN";
const DATE: RowCode = "ZGL-ROW-DATE";
const POSTCODE: RowCode = "ZGL-ROW-POSTCODE";
const NIS: RowCode = "ZGL-ROW-NIS";
const NUMBER: RowCode = "ZGL-ROW-NUMBER";
const SEALED: RowCode = "ZGL-ROW-SEALED";
const SEX: RowCode = "ZGL-ROW-SEX";
pub(crate) const LENGTH: RowCode = "ZGL-ROW-LENGTH";
pub(crate) const ID: RowCode = "ZGL-ROW-ID";
pub(crate) const PATIENT: RowCode = "ZGL-ROW-PATIENT";
pub(crate) const TOKEN: RowCode = "ZGL-ROW-TOKEN";
const PREFIX: RowCode = "ZGL-ROW-PREFIX";

/// What is done to a field's values.
pub(crate) enum Work {
    Drop,
    Keep,
    /// Kept when it is sealed for this recipient alone.
    Sealed(Box<SealedFor>),
    Replace(String),
    Reversible(Box<Reversible>),
    OneWay(Box<OneWay>),
    Escrow(Box<Escrow>),
    /// Undone with the decode role's key alone, by whoever has no other.
    Opened(Box<Opener>),
    Random(Box<Randomised>),
    Ssin(Box<SsinCipher>),
    Id(Ids),
    Reference(Box<References>),
    /// The first bytes of a postcode.
    First(usize),
    Year,
    Month,
    Years(u16),
    Area(Area),
    Bucket(Buckets),
    Scrub,
    Shift {
        draw: Box<Draw>,
        days: u16,
    },
}

/// What a value's record says about its patient, and fresh randomness.
#[derive(Clone, Copy)]
pub(crate) struct Around<'r> {
    /// The identity of the record's patient, in the one way to write it.
    pub(crate) patient: Option<&'r str>,
    pub(crate) names: &'r Names,
    pub(crate) nonce: [u8; NONCE],
}

/// One field at work on one batch.
pub(crate) struct Cell {
    kind: ValueKind,
    required: bool,
    prefix: Option<String>,
    pub(crate) work: Work,
    /// The latest value and its token: batches are often sorted by patient.
    latest: (String, Vec<u8>),
    /// The distinct national numbers that became tokens. Only these are counted: they are the numbers whose whole list
    /// anybody can write down.
    pub(crate) seen: Sketch,
}

impl Cell {
    pub(crate) fn new(field: &FieldDocument, work: Work) -> Cell {
        Cell {
            kind: field.kind,
            required: field.required,
            prefix: field.prefix.clone(),
            work,
            latest: (String::new(), Vec::new()),
            seen: Sketch::default(),
        }
    }

    /// Whether every value needs randomness of its own.
    pub(crate) fn wants_nonce(&self) -> bool {
        matches!(self.work, Work::Random(_) | Work::Reference(_))
    }

    /// Whether what comes out is a token.
    pub(crate) fn is_token(&self) -> bool {
        matches!(
            self.work,
            Work::Reversible(_)
                | Work::Escrow(_)
                | Work::OneWay(_)
                | Work::Random(_)
                | Work::Ssin(_)
                | Work::Id(_)
                | Work::Reference(_)
        )
    }

    /// Appends what becomes of `value`. After an error `out` may hold a part of it.
    pub(crate) fn write(&mut self, value: &str, around: &Around<'_>, out: &mut Vec<u8>) -> Result<(), RowCode> {
        let trimmed = trimmed(value);
        if trimmed.is_empty() {
            return if self.required { Err(REQUIRED) } else { Ok(()) };
        }
        match &self.work {
            // Whoever has no keys but that one delivers nothing.
            Work::Drop | Work::Opened(_) => {}
            Work::Keep if self.kind == ValueKind::Text => out.extend_from_slice(value.as_bytes()),
            Work::Keep => out.extend_from_slice(canonical(self.kind, trimmed)?.as_bytes()),
            Work::Sealed(recipient) => {
                let der = base64::engine::general_purpose::STANDARD.decode(trimmed).map_err(|_| SEALED)?;
                recipient.check(&der).map_err(|_| SEALED)?;
                out.extend_from_slice(trimmed.as_bytes());
            }
            Work::Replace(with) => out.extend_from_slice(with.as_bytes()),
            Work::Scrub => scrub(value, around.names, out),
            Work::Random(maker) => {
                let prefix = self.prefix.as_deref().unwrap_or_default();
                let bare = canonical(self.kind, without(prefix, trimmed)?)?;
                out.extend_from_slice(prefix.as_bytes());
                maker.encode(bare.as_bytes(), around.nonce, out).map_err(|_| LENGTH)?;
            }
            Work::Shift { draw, days } => {
                let days = days_of(draw, *days, around.patient.ok_or(PATIENT)?);
                let moved = Date::parse(trimmed).and_then(|date| date.moved(days)).ok_or(DATE)?;
                out.extend_from_slice(moved.as_bytes());
            }
            Work::First(_) | Work::Year | Work::Month | Work::Years(_) | Work::Area(_) | Work::Bucket(_) => {
                self.coarser(trimmed, out)?;
            }
            Work::Reversible(_)
            | Work::Escrow(_)
            | Work::OneWay(_)
            | Work::Ssin(_)
            | Work::Id(_)
            | Work::Reference(_) => {
                self.token(trimmed, around, out)?;
            }
        }
        Ok(())
    }

    fn coarser(&self, value: &str, out: &mut Vec<u8>) -> Result<(), RowCode> {
        match &self.work {
            Work::First(bytes) => {
                let value = canonical(self.kind, value)?;
                // Something must be left out, and what stays must be letters or digits.
                let is_coarse = |first: &&str| first.bytes().all(|byte| byte.is_ascii_alphanumeric());
                let first = value.get(..*bytes).filter(|first| first.len() < value.len()).filter(is_coarse);
                out.extend_from_slice(first.ok_or(POSTCODE)?.as_bytes());
                return Ok(());
            }
            Work::Year => write!(out, "{:04}", Date::parse(value).ok_or(DATE)?.day.year()),
            Work::Month => out.write_all(Date::parse(value).ok_or(DATE)?.month().as_bytes()),
            Work::Years(years) if self.kind == ValueKind::Age => {
                out.write_all(coarse::age(value, *years).ok_or(NUMBER)?.as_bytes())
            }
            Work::Years(years) => {
                out.write_all(coarse::years(Date::parse(value).ok_or(DATE)?.day.year(), *years).as_bytes())
            }
            Work::Area(_) if self.kind == ValueKind::Postcode => {
                out.write_all(coarse::province(value).ok_or(POSTCODE)?.as_bytes())
            }
            Work::Area(area) => out.write_all(coarse::nis(value, *area).ok_or(NIS)?.as_bytes()),
            Work::Bucket(buckets) => out.write_all(buckets.of(value).ok_or(NUMBER)?.as_bytes()),
            _ => Ok(()),
        }
        .map_err(|_| LENGTH)
    }

    fn token(&mut self, value: &str, around: &Around<'_>, out: &mut Vec<u8>) -> Result<(), RowCode> {
        if self.latest.0 != value {
            self.latest.0.clear();
            self.latest.1.clear();
            let prefix = self.prefix.as_deref().unwrap_or_default();
            let bare = canonical(self.kind, without(prefix, value)?)?;
            let token = &mut self.latest.1;
            token.extend_from_slice(prefix.as_bytes());
            match &mut self.work {
                Work::Reversible(maker) => maker.encode(bare.as_bytes(), token).map_err(|_| LENGTH)?,
                Work::OneWay(maker) => maker.encode(bare.as_bytes(), token).map_err(|_| LENGTH)?,
                Work::Escrow(maker) => maker.encode(bare.as_bytes(), token).map_err(|_| LENGTH)?,
                Work::Ssin(cipher) => cipher.encode(&bare, token).map_err(|_| SSIN)?,
                Work::Id(ids) => ids.encode(&bare, token)?,
                Work::Reference(references) => references.encode(&bare, around.nonce, token)?,
                _ => {}
            }
            if self.kind == ValueKind::Ssin {
                self.seen.add_token(token);
            }
            self.latest.0.push_str(value);
        }
        out.extend_from_slice(&self.latest.1);
        Ok(())
    }

    /// Appends the value that `delivered` came from, where it can be told; else `delivered` as it is.
    pub(crate) fn restore(&mut self, delivered: &str, around: &Around<'_>, out: &mut Vec<u8>) -> Result<(), RowCode> {
        let trimmed = trimmed(delivered);
        let is_undone = matches!(
            self.work,
            Work::Reversible(_)
                | Work::Escrow(_)
                | Work::Opened(_)
                | Work::Random(_)
                | Work::Ssin(_)
                | Work::Id(_)
                | Work::Reference(_)
                | Work::Shift { .. }
        );
        if trimmed.is_empty() || !is_undone {
            out.extend_from_slice(delivered.as_bytes());
            return Ok(());
        }
        if let Work::Shift { draw, days } = &self.work {
            let days = days_of(draw, *days, around.patient.ok_or(PATIENT)?);
            let moved = Date::parse(trimmed).and_then(|date| date.moved(-days)).ok_or(DATE)?;
            out.extend_from_slice(moved.as_bytes());
            return Ok(());
        }
        let prefix = self.prefix.as_deref().unwrap_or_default();
        let token = without(prefix, trimmed)?;
        out.extend_from_slice(prefix.as_bytes());
        match &mut self.work {
            Work::Reversible(maker) => out.extend_from_slice(&maker.decode(token).map_err(|_| TOKEN)?),
            Work::Escrow(maker) => out.extend_from_slice(&maker.decode(token).map_err(|_| TOKEN)?),
            Work::Opened(opener) => out.extend_from_slice(&opener.open(token).map_err(|_| TOKEN)?),
            Work::Random(maker) => out.extend_from_slice(&maker.decode(token).map_err(|_| TOKEN)?),
            Work::Ssin(cipher) => cipher.decode(token, out).map_err(|_| TOKEN)?,
            Work::Id(ids) => ids.decode(token, out)?,
            Work::Reference(references) => references.decode(token, out)?,
            _ => {}
        }
        Ok(())
    }

    /// Who a value in clear is, in the one way to write it: what ids and the references to them have in common.
    pub(crate) fn identity(&self, value: &str) -> Result<String, RowCode> {
        let value = without(self.prefix.as_deref().unwrap_or_default(), trimmed(value))?;
        let id = if self.kind == ValueKind::FhirReference { id_of(value) } else { value };
        canonical(self.kind, id).map(Cow::into_owned)
    }
}

/// The value behind its prefix.
fn without<'v>(prefix: &str, value: &'v str) -> Result<&'v str, RowCode> {
    value.strip_prefix(prefix).filter(|rest| !rest.is_empty()).ok_or(PREFIX)
}

/// By how many days all dates of a patient move: at least one, so that no date stays.
fn days_of(draw: &Draw, most: u16, patient: &str) -> i64 {
    let number = u128::from_be_bytes(draw.of(patient.as_bytes())) % (2 * u128::from(most));
    let days = i64::try_from(number).unwrap_or(0) - i64::from(most);
    if days >= 0 { days + 1 } else { days }
}

/// `value.trim()`, at once where there is nothing to trim: every value of every row comes by here.
pub(crate) fn trimmed(value: &str) -> &str {
    match value.as_bytes() {
        [] => value,
        [first, .., last] if first.is_ascii_graphic() && last.is_ascii_graphic() => value,
        _ => value.trim(),
    }
}

/// The one way to write a value of this kind, if it is one.
fn canonical(kind: ValueKind, text: &str) -> Result<Cow<'_, str>, RowCode> {
    let checked = |is_good: bool, code| is_good.then_some(Cow::Borrowed(text)).ok_or(code);
    match kind {
        ValueKind::Ssin => {
            let is_bare = text.bytes().all(|byte| byte.is_ascii_digit());
            let digits = if is_bare { Cow::Borrowed(text) } else { ids::normalise(text) };
            Ssin::parse(&digits).map_err(|_| SSIN)?;
            Ok(digits)
        }
        ValueKind::Date => checked(Date::parse(text).is_some(), DATE),
        ValueKind::Postcode => checked(is_postcode(text), POSTCODE),
        ValueKind::Nis => checked(coarse::nis(text, Area::Province).is_some(), NIS),
        ValueKind::Age => checked(coarse::age(text, 1).is_some(), NUMBER),
        ValueKind::Number => checked(Buckets::Width(1.0).of(text).is_some(), NUMBER),
        ValueKind::Sex => checked(is_sex(text), SEX),
        ValueKind::FhirId | ValueKind::FhirReference | ValueKind::Sealed => Ok(Cow::Borrowed(text)),
        ValueKind::RowNumber => checked(is_row_number(text), NUMBER),
        ValueKind::Text if text.is_ascii() => Ok(Cow::Borrowed(text)),
        ValueKind::Text => Ok(icu_normalizer::ComposingNormalizerBorrowed::new_nfc().normalize(text)),
    }
}

/// The world's postcodes are letters, digits, spaces and hyphens, 2 to 10 of them, with at least one digit.
fn is_postcode(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b' ' || byte == b'-';
    (2..=10).contains(&text.len()) && text.bytes().all(plain) && text.bytes().any(|byte| byte.is_ascii_digit())
}

/// 128 bits, as the sender's program draws them for a split batch.
fn is_row_number(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// A letter, a digit (ISO 5218), or a word.
fn is_sex(text: &str) -> bool {
    text.len() <= 12 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Puts the field that begins at `start` into quotes if RFC 4180 asks for it.
pub(crate) fn quote(out: &mut Vec<u8>, start: usize) {
    let special = |byte: &u8| matches!(byte, b',' | b'"' | b'\n' | b'\r');
    if !out[start..].iter().any(special) {
        return;
    }
    let field = out.split_off(start);
    out.push(b'"');
    for piece in field.split_inclusive(|byte| *byte == b'"') {
        out.extend_from_slice(piece);
        if piece.ends_with(b"\"") {
            out.push(b'"');
        }
    }
    out.push(b'"');
}

/// Appends `text` as a JSON string.
pub(crate) fn json_string(text: &str, out: &mut Vec<u8>) -> std::io::Result<()> {
    serde_json::to_writer(out.by_ref(), text).map_err(std::io::Error::from)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::project::ProjectDocument;
    use proptest::prelude::*;

    fn cell(field: &str) -> Cell {
        let document = format!(
            "name = \"p\"\nsenders = [\"NIHII-HOSPITAL:71000436\"]\nrecipient = \"CBE:0123456749\"\n\
             valid = {{ from = \"2026-01-01\", until = \"2030-12-31\" }}\n[[fields]]\npath = \"f\"\n{field}"
        );
        let document = ProjectDocument::parse(&document).unwrap();
        let sender = document.senders[0].clone();
        crate::CompiledProject::new(document, &[7; 32]).unwrap().cells(&sender).remove(0)
    }

    fn write(field: &str, value: &str) -> Result<String, RowCode> {
        let mut out = Vec::new();
        put(&mut cell(field), value, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn put(cell: &mut Cell, value: &str, out: &mut Vec<u8>) -> Result<(), RowCode> {
        let names = Names::default();
        cell.write(value, &Around { patient: None, names: &names, nonce: [3; NONCE] }, out)
    }

    const NISS: &str = "kind = \"ssin\"\naction = \"pseudonym\"";
    const YEAR: &str = "kind = \"date\"\naction = \"generalise\"\nto = \"year\"";
    const MONTH: &str = "kind = \"date\"\naction = \"generalise\"\nto = \"month\"";
    const AREA: &str = "kind = \"postcode\"\naction = \"generalise\"\nto = 2";
    const TEXT: &str = "action = \"pseudonym\"\ndomain = \"d\"";

    #[test]
    fn a_number_is_one_patient_however_it_is_written() {
        let token = write(NISS, "85061511796").unwrap();
        assert!(token.starts_with("P1."));
        assert_eq!(write(NISS, " 85.06.15-117.96 "), Ok(token));
        assert_eq!(write(TEXT, "Ame\u{301}lie "), write(TEXT, "Am\u{e9}lie"));
    }

    #[test]
    fn wrong_check_digits_are_a_bad_row_and_never_a_token() {
        assert_eq!(write(NISS, "85061511797"), Err(SSIN));
        assert_eq!(write(NISS, "8506151179"), Err(SSIN));
    }

    #[test]
    fn empty_stays_empty_or_is_a_bad_row_where_required() {
        for field in [NISS, YEAR, AREA, TEXT, "action = \"one-way\"\ndomain = \"d\""] {
            assert_eq!(write(field, "  "), Ok(String::new()), "{field}");
            assert_eq!(write(&format!("{field}\nrequired = true"), ""), Err(REQUIRED), "{field}");
        }
    }

    #[test]
    fn dates_lose_their_day_or_month_and_impossible_ones_are_found() {
        assert_eq!(write(YEAR, "1985-06-15").unwrap(), "1985");
        assert_eq!(write(MONTH, "2023-01-27T16:17:47Z").unwrap(), "2023-01");
        assert_eq!(write(MONTH, "1989-10-04T02:25:16.824-04:00").unwrap(), "1989-10");
        for bad in
            ["1985-02-30", "15/06/1985", "1985-6-15", "1985", "+985-06-15", "1985-06-15T25:00:00Z", "1985-06-15x"]
        {
            assert_eq!(write(YEAR, bad), Err(DATE), "{bad}");
        }
    }

    #[test]
    fn postcodes_keep_their_first_characters_and_always_lose_some() {
        assert_eq!(write(AREA, "8958").unwrap(), "89");
        assert_eq!(write(AREA, "668391105").unwrap(), "66");
        for bad in ["89", "Gent", "B-8958", "8958;9000", "\u{e9}8958"] {
            assert_eq!(write(AREA, bad), Err(POSTCODE), "{bad}");
        }
    }

    #[test]
    fn a_reference_links_with_the_identifier_that_it_holds() {
        let reference = write(&format!("{TEXT}\nprefix = \"Patient/\""), "Patient/129c6ac7").unwrap();
        assert_eq!(reference, format!("Patient/{}", write(TEXT, "129c6ac7").unwrap()));
        for bad in ["129c6ac7", "Patient/", "Group/129c6ac7"] {
            assert_eq!(write(&format!("{TEXT}\nprefix = \"Patient/\""), bad), Err(PREFIX), "{bad}");
        }
    }

    #[test]
    fn a_bad_value_never_gets_the_token_of_the_one_before() {
        let mut cell = cell(NISS);
        let mut out = Vec::new();
        assert_eq!(put(&mut cell, "85061511796", &mut out), Ok(()));
        let first = std::mem::take(&mut out);
        assert_eq!(put(&mut cell, "85061511797", &mut out), Err(SSIN));
        assert_eq!(put(&mut cell, "85061511797", &mut out), Err(SSIN));
        out.clear();
        assert_eq!(put(&mut cell, "85061511796", &mut out), Ok(()));
        assert_eq!(out, first);
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_read_back_as_it_was(fields in proptest::collection::vec("[a,\"\r\n é]{0,12}", 1..6)) {
            let mut out = Vec::new();
            for (index, field) in fields.iter().enumerate() {
                if index > 0 { out.push(b',') }
                let start = out.len();
                out.extend_from_slice(field.as_bytes());
                quote(&mut out, start);
            }
            if out.is_empty() { out.extend_from_slice(b"\"\"") }
            out.push(b'\n');
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(&out[..]);
            let rows: Vec<_> = reader.records().map(|row| row.unwrap()).collect();
            prop_assert_eq!(rows.len(), 1);
            prop_assert_eq!(rows[0].iter().collect::<Vec<_>>(), fields);
        }

        #[test]
        fn no_value_passes_through_a_token_or_a_coarser_form(value in "\\PC{6,40}") {
            for field in [NISS, YEAR, MONTH, AREA, TEXT] {
                if let Ok(out) = write(field, &value) {
                    prop_assert!(!out.contains(value.trim()) || value.trim().is_empty());
                }
            }
        }
    }
}
