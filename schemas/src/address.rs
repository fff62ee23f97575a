//! Mailbox addresses: who owns a box of the secure mailbox.
//!
//! Text form: `TYPE[-SUBTYPE]:ID[:QUALITY]`, for example `NIHII-HOSPITAL:71000436`, `CBE:0123456749`,
//! `SSIN:85061511796:DOCTOR`. Without a quality the type's default is taken; printing leaves the default out, so equal
//! addresses print equally. For the same reason a NIHII of 11 digits is taken by its first 8: the qualification behind
//! them does not make another owner.
//! Invariants: type, identifier and quality of a value were checked together ([`kinds`] says what goes with what).
//! Failure behaviour: [`AddressError`] says which part is wrong, with the eHealthBox code, never the value.

use crate::ids::{Cbe, Ehp, IdError, Nihii, Ssin};
use crate::kinds::{self, IdForm, Kind};
use std::fmt;

/// Who owns a box. `Debug` masks the identifier, because logs and errors must not show it (I4).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxAddress {
    kind: &'static Kind,
    id: Id,
    quality: &'static str,
}

/// The identifier in an address; prints its digits, masked in `Debug`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Id {
    /// A person's number.
    Ssin(Ssin),
    /// A care provider's or care organisation's number, 8 digits.
    Nihii(Nihii),
    /// An enterprise's number.
    Cbe(Cbe),
    /// A number given by the eHealth platform.
    Ehp(Ehp),
}

/// Why a text is no mailbox address. Parts are checked in this order: type, subtype, identifier, quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The type is none of SSIN, NIHII, CBE, EHP.
    #[error("address type is unknown")]
    Type,
    /// The type does not have this subtype.
    #[error("address subtype does not belong to its type")]
    Subtype,
    /// The identifier is missing, or breaks a rule of its kind.
    #[error("address identifier: {0}")]
    Identifier(#[from] IdError),
    /// The quality does not go with the type, or is left out where the type has no default.
    #[error("address quality does not go with its type, or is missing where the type has no default")]
    Quality,
}

impl AddressError {
    /// The eHealthBox code: 804 type, 805 subtype, 802 identifier, 803 quality.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            AddressError::Type => "804",
            AddressError::Subtype => "805",
            AddressError::Identifier(_) => "802",
            AddressError::Quality => "803",
        }
    }
}

impl MailboxAddress {
    /// Type and subtype, for example `NIHII-HOSPITAL`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind.name
    }

    /// The identifier.
    #[must_use]
    pub fn id(&self) -> Id {
        self.id
    }

    /// The role in which the owner receives, for example `HOSPITAL`.
    #[must_use]
    pub fn quality(&self) -> &'static str {
        self.quality
    }

    /// Whether the owner is a natural person, so that the identifier itself is personal data.
    #[must_use]
    pub fn is_person(&self) -> bool {
        self.kind.is_person
    }
}

impl std::str::FromStr for MailboxAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let mut parts = text.splitn(3, ':');
        let kind = parse_kind(parts.next().unwrap_or_default())?;
        let id = parse_id(kind.id, parts.next().unwrap_or_default())?;
        let quality = match parts.next() {
            None => kind.default_quality,
            Some(wanted) => kind.qualities.iter().copied().find(|quality| *quality == wanted),
        };
        Ok(Self { kind, id, quality: quality.ok_or(AddressError::Quality)? })
    }
}

impl fmt::Display for MailboxAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.name, self.id)?;
        if self.kind.default_quality == Some(self.quality) { Ok(()) } else { write!(f, ":{}", self.quality) }
    }
}

impl fmt::Debug for MailboxAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MailboxAddress(***)")
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Ssin(id) => id.fmt(f),
            Id::Nihii(id) => id.fmt(f),
            Id::Cbe(id) => id.fmt(f),
            Id::Ehp(id) => id.fmt(f),
        }
    }
}

impl serde::Serialize for MailboxAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for MailboxAddress {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::text::parse_text(deserializer, "mailbox address must be text")
    }
}

impl schemars::JsonSchema for MailboxAddress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MailboxAddress".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let pattern = "^(SSIN|((NIHII|CBE|EHP)(-[A-Z_]+)?)):[0-9]{8,11}(:[A-Z_]+)?$";
        schemars::json_schema!({ "type": "string", "pattern": pattern })
    }
}

fn parse_kind(name: &str) -> Result<&'static Kind, AddressError> {
    if let Some(kind) = kinds::find(name) {
        return Ok(kind);
    }
    let (type_name, subtype) = name.split_once('-').unwrap_or((name, ""));
    // Only a type that exists can have a wrong subtype.
    let type_exists = kinds::find(type_name).is_some() && !subtype.is_empty();
    Err(if type_exists { AddressError::Subtype } else { AddressError::Type })
}

fn parse_id(form: IdForm, text: &str) -> Result<Id, IdError> {
    Ok(match form {
        IdForm::Ssin => Id::Ssin(Ssin::parse(text)?),
        IdForm::Nihii => Id::Nihii(Nihii::parse(text)?.base()),
        IdForm::Cbe => Id::Cbe(Cbe::parse(text)?),
        IdForm::Ehp => Id::Ehp(Ehp::parse(text)?),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::ids::IdRule;

    fn parse(text: &str) -> Result<MailboxAddress, AddressError> {
        text.parse()
    }

    #[test]
    fn every_example_of_the_documentation_is_accepted_and_printed_back() {
        for text in [
            "NIHII-HOSPITAL:71000436",
            "CBE:0123456749",
            "CBE:0199999944",
            "CBE-TREATMENT_CENTER:0123456749",
            "SSIN:85061511796",
            "SSIN:85061511796:DOCTOR",
            "EHP:1990001916",
            "NIHII-PHARMACY:80000551",
            "NIHII-LABO:80000551",
            "NIHII:71000436:NURSE",
        ] {
            assert_eq!(parse(text).map(|address| address.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn each_wrong_part_has_the_code_of_the_mailbox() {
        for (text, code) in [
            ("", "804"),
            ("HOSPITAL:71000436", "804"),
            ("X-HOSPITAL:71000436", "804"),
            ("ssin:85061511796", "804"),
            ("NIHII-CASTLE:71000436", "805"),
            ("SSIN-HOSPITAL:85061511796", "805"),
            ("CBE", "802"),
            ("CBE:", "802"),
            ("CBE:0123456748", "802"),
            ("SSIN:85.06.15-117.96", "802"),
            ("NIHII-HOSPITAL:71000436:LABO", "803"),
            ("CBE:0123456749:", "803"),
            ("CBE:0123456749:INSTITUTION:", "803"),
            ("NIHII:71000436", "803"), // which care provider's box it is must be said
        ] {
            assert_eq!(parse(text).unwrap_err().code(), code, "{text}");
        }
    }

    #[test]
    fn two_spellings_of_one_owner_are_one_address() {
        assert_eq!(parse("SSIN:85061511796:CITIZEN"), parse("SSIN:85061511796"));
        assert_eq!(parse("NIHII-HOSPITAL:71000436000"), parse("NIHII-HOSPITAL:71000436"));
        assert_eq!(parse("INSS:85061511796"), parse("SSIN:85061511796"));
    }

    #[test]
    fn an_address_says_what_it_is() {
        let hospital = parse("NIHII-HOSPITAL:71000436").unwrap();
        assert_eq!((hospital.kind(), hospital.quality(), hospital.is_person()), ("NIHII-HOSPITAL", "HOSPITAL", false));
        let person = parse("NIHII:71000436:NURSE").unwrap();
        assert_eq!((person.id().to_string().as_str(), person.is_person()), ("71000436", true));
    }

    #[test]
    fn debug_and_errors_never_show_the_identifier() {
        let address = parse("SSIN:85061511796").unwrap();
        assert_eq!(format!("{address:?} {:?}", address.id()), "MailboxAddress(***) Ssin(Ssin(***))");
        let error = parse("SSIN:85061511797").unwrap_err();
        assert_eq!(error, AddressError::Identifier(IdError { kind: "ssin", rule: IdRule::CheckDigits }));
        assert_eq!(error.to_string(), "address identifier: ssin has wrong check digits");
        let number = serde_json::from_str::<MailboxAddress>("85061511796").unwrap_err();
        assert!(!number.to_string().contains("85061511796"), "{number}");
    }
}
