//! Belgian identifiers with their check digits: persons, care providers, enterprises and eHealth's own numbers.
//!
//! | type | digits | check |
//! | --- | --- | --- |
//! | [`Ssin`] | `YYMMDD NNN CC` | 97 − (first nine mod 97); born from 2000 on: of the nine with a 2 before them |
//! | [`Nihii`] | 8, or 11 with a qualification | digits 7 and 8: m − (first six mod m), m = 97 or 89 |
//! | [`Cbe`], [`Ehp`] | 10 | 97 − (first eight mod 97) |
//!
//! Invariants: a value of these types has passed its check. `parse` takes bare digits only; [`normalise`] removes the
//! punctuation that people write. `Debug` masks the digits, `Display` prints them (I4: print only where they belong).
//! Failure behaviour: [`IdError`] names the kind and the rule, never the value.

use std::borrow::Cow;
use std::fmt;

/// The rule that a text breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IdRule {
    /// It has another number of characters than its kind.
    Length,
    /// It has characters that are not the digits 0 to 9.
    Digits,
    /// Its check digits do not follow from the others.
    CheckDigits,
    /// Its month is not 00 to 12, nor that plus 20 or 40.
    Month,
    /// Its day is not one that its month can have, nor 00.
    Day,
    /// Its serial number is over 998.
    Serial,
    /// Its year is outside 1900 to 2099 (only when a number is made from parts).
    Year,
    /// Its first digit is none that its kind begins with.
    FirstDigit,
}

impl fmt::Display for IdRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IdRule::Length => "has a wrong number of digits",
            IdRule::Digits => "has characters other than digits",
            IdRule::CheckDigits => "has wrong check digits",
            IdRule::Month => "has an impossible month",
            IdRule::Day => "has an impossible day",
            IdRule::Serial => "has a serial number over 998",
            IdRule::Year => "has a year outside 1900 to 2099",
            IdRule::FirstDigit => "begins with a digit that its kind does not have",
        })
    }
}

/// Why a text is no identifier of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{kind} {rule}")]
pub struct IdError {
    /// Which kind was expected: `ssin`, `nihii`, `cbe` or `ehp`.
    pub kind: &'static str,
    /// Which rule is broken.
    pub rule: IdRule,
}

/// Removes the punctuation that people write in these numbers: dots, dashes, slashes and spaces.
#[must_use]
pub fn normalise(text: &str) -> Cow<'_, str> {
    let is_punctuation = |c: char| matches!(c, '.' | '-' | '/') || c.is_whitespace();
    if text.contains(is_punctuation) { Cow::Owned(text.replace(is_punctuation, "")) } else { Cow::Borrowed(text) }
}

/// A person's number in the National Register or the BIS register (NISS, INSZ): 11 digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ssin(u64);

impl Ssin {
    const KIND: &'static str = "ssin";

    /// Reads 11 bare digits.
    ///
    /// # Errors
    /// [`IdError`] with the first rule that is broken: length, digits, check digits, month, day, serial.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let number = digits::<11>(text, Self::KIND)?;
        let (stem, check) = (number / 100, number % 100);
        if check != check_1900(stem) && check != check_2000(stem) {
            return Err(Self::error(IdRule::CheckDigits));
        }
        let ssin = Self(number);
        let (month, day) = ssin.month_and_day();
        check_date(month, day).and_then(|()| check_serial(stem % 1000)).map_err(Self::error)?;
        Ok(ssin)
    }

    /// Makes a valid number from its parts, for examples and tests. `month` is 0 to 12, plus 20 or 40 for a BIS number;
    /// month and day 0 mean unknown; an odd `serial` is a man's, an even one a woman's.
    ///
    /// # Errors
    /// [`IdError`] when a part is out of its range.
    pub fn from_parts(year: u16, month: u8, day: u8, serial: u16) -> Result<Self, IdError> {
        if !(1900..=2099).contains(&year) {
            return Err(Self::error(IdRule::Year));
        }
        check_date(u64::from(month), u64::from(day)).map_err(Self::error)?;
        check_serial(u64::from(serial)).map_err(Self::error)?;
        let stem = u64::from(year % 100) * 10_000_000
            + u64::from(month) * 100_000
            + u64::from(day) * 1_000
            + u64::from(serial);
        let check = if year < 2000 { check_1900(stem) } else { check_2000(stem) };
        Ok(Self(stem * 100 + check))
    }

    /// Whether it is a number of the BIS register: the month is raised by 20 or 40.
    #[must_use]
    pub fn is_bis(self) -> bool {
        self.month_and_day().0 >= 20
    }

    /// The year of birth, or none when the number says that the date is unknown (1900-00-01 and 2000-00-01 and their BIS
    /// forms). The check digits tell 20xx from 19xx; the few born before 1900 are counted as 19xx.
    #[must_use]
    pub fn birth_year(self) -> Option<u16> {
        let stem = self.0 / 100;
        let two_digits = stem / 10_000_000;
        let (month, day) = self.month_and_day();
        if two_digits == 0 && month % 20 == 0 && day <= 1 {
            return None;
        }
        let century = if self.0 % 100 == check_1900(stem) { 1900 } else { 2000 };
        u16::try_from(century + two_digits).ok()
    }

    fn month_and_day(self) -> (u64, u64) {
        (self.0 / 10_000_000 % 100, self.0 / 100_000 % 100)
    }

    fn error(rule: IdRule) -> IdError {
        IdError { kind: Self::KIND, rule }
    }
}

/// The number of a care provider or care organisation at the National Institute for Health and Disability Insurance
/// (INAMI, RIZIV): 8 digits, or 11 with the qualification.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nihii {
    base: u64,
    qualification: Option<u16>,
}

impl Nihii {
    const KIND: &'static str = "nihii";
    /// Six digits before the check digits.
    const STEM_END: u64 = 1_000_000;

    /// Reads 8 or 11 bare digits.
    ///
    /// # Errors
    /// [`IdError`]: length, digits or check digits.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let (base, qualification) = match text.len() {
            11 => {
                let number = digits::<11>(text, Self::KIND)?;
                (number / 1_000, u16::try_from(number % 1_000).ok())
            }
            _ => (digits::<8>(text, Self::KIND)?, None),
        };
        let (stem, check) = (base / 100, base % 100);
        // 89 is the modulus of nurses and midwives since 2012 and of doctors since 2019, when the sixes ran out.
        if check != check_mod(stem, 97) && check != check_mod(stem, 89) {
            return Err(IdError { kind: Self::KIND, rule: IdRule::CheckDigits });
        }
        Ok(Self { base, qualification })
    }

    /// Makes a valid number with modulus 97 from its first six digits, for examples and tests.
    ///
    /// # Errors
    /// [`IdRule::Length`] when `stem` has more than six digits.
    pub fn from_stem(stem: u32) -> Result<Self, IdError> {
        Self::with_modulus(stem, 97)
    }

    /// The same with modulus 89, as newer numbers of nurses and doctors have it.
    ///
    /// # Errors
    /// [`IdRule::Length`] when `stem` has more than six digits.
    pub fn from_stem_89(stem: u32) -> Result<Self, IdError> {
        Self::with_modulus(stem, 89)
    }

    /// This number with a qualification of three digits behind it.
    ///
    /// # Errors
    /// [`IdRule::Length`] when `qualification` has more than three digits.
    pub fn with_qualification(self, qualification: u16) -> Result<Self, IdError> {
        if qualification > 999 {
            return Err(IdError { kind: Self::KIND, rule: IdRule::Length });
        }
        Ok(Self { base: self.base, qualification: Some(qualification) })
    }

    /// The number without its qualification: what says who it is, since a provider may have several qualifications.
    #[must_use]
    pub fn base(self) -> Self {
        Self { base: self.base, qualification: None }
    }

    /// The qualification, three digits, where the number has one.
    #[must_use]
    pub fn qualification(self) -> Option<u16> {
        self.qualification
    }

    fn with_modulus(stem: u32, modulus: u64) -> Result<Self, IdError> {
        let stem = u64::from(stem);
        if stem >= Self::STEM_END {
            return Err(IdError { kind: Self::KIND, rule: IdRule::Length });
        }
        Ok(Self { base: stem * 100 + check_mod(stem, modulus), qualification: None })
    }
}

/// The number of an enterprise in the Crossroads Bank for Enterprises (KBO, BCE): 10 digits that begin with 0 or 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cbe(u64);

impl Cbe {
    const KIND: &'static str = "cbe";

    /// Reads 10 bare digits.
    ///
    /// # Errors
    /// [`IdError`]: length, digits, first digit or check digits.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        // The first digit before the check digits: it says more to whoever mistook another number for this kind.
        Self::check_first_digit(digits::<10>(text, Self::KIND)? / 100)?;
        ten_digits(text, Self::KIND).map(Self)
    }

    /// Makes a valid number from its first eight digits, for examples and tests.
    ///
    /// # Errors
    /// [`IdRule::FirstDigit`] when they do not begin with 0 or 1.
    pub fn from_stem(stem: u32) -> Result<Self, IdError> {
        let stem = u64::from(stem);
        Self::check_first_digit(stem)?;
        Ok(Self(stem * 100 + check_mod(stem, 97)))
    }

    fn check_first_digit(stem: u64) -> Result<(), IdError> {
        if stem < 20_000_000 { Ok(()) } else { Err(IdError { kind: Self::KIND, rule: IdRule::FirstDigit }) }
    }
}

/// A number that the eHealth platform itself gives to an organisation without another one: 10 digits. Its check was
/// seen to hold for every published number; no official statement of it was found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ehp(u64);

impl Ehp {
    const KIND: &'static str = "ehp";

    /// Reads 10 bare digits.
    ///
    /// # Errors
    /// [`IdError`]: length, digits or check digits.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        ten_digits(text, Self::KIND).map(Self)
    }

    /// Makes a valid number from its first eight digits, for examples and tests.
    ///
    /// # Errors
    /// [`IdRule::Length`] when `stem` has more than eight digits.
    pub fn from_stem(stem: u32) -> Result<Self, IdError> {
        if stem > 99_999_999 {
            return Err(IdError { kind: Self::KIND, rule: IdRule::Length });
        }
        let stem = u64::from(stem);
        Ok(Self(stem * 100 + check_mod(stem, 97)))
    }
}

impl fmt::Display for Ssin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:011}", self.0)
    }
}

impl fmt::Display for Nihii {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}", self.base)?;
        self.qualification.map_or(Ok(()), |qualification| write!(f, "{qualification:03}"))
    }
}

impl fmt::Display for Cbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}", self.0)
    }
}

impl fmt::Display for Ehp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}", self.0)
    }
}

/// What the four types have in common: masked `Debug`, text in JSON, a JSON Schema.
macro_rules! as_text {
    ($($name:ident, $pattern:literal;)+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(***)"))
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::text::parse_text(deserializer, concat!(stringify!($name), " must be text"))
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    )+};
}

as_text! {
    Ssin, "^[0-9]{11}$";
    Nihii, "^([0-9]{8}|[0-9]{11})$";
    Cbe, "^[01][0-9]{9}$";
    Ehp, "^[0-9]{10}$";
}

/// The check digits of numbers from before 2000.
fn check_1900(stem: u64) -> u64 {
    check_mod(stem, 97)
}

/// The check digits of numbers of people born from 2000 on: a 2 goes before the nine digits.
fn check_2000(stem: u64) -> u64 {
    check_mod(2_000_000_000 + stem, 97)
}

fn check_mod(stem: u64, modulus: u64) -> u64 {
    modulus - stem % modulus
}

/// Month 00 and day 00 mean unknown. With month 00 the day counts on when the serials of a year without date are used
/// up, so it is only held below 32.
fn check_date(month: u64, day: u64) -> Result<(), IdRule> {
    // 33 to 39 belong to no register: 20 is added when the sex is unknown, 40 when it is known.
    let days = match (month, month % 20) {
        (53.., _) => return Err(IdRule::Month),
        (_, 2) => 29,
        (_, 4 | 6 | 9 | 11) => 30,
        (_, 0..=12) => 31,
        _ => return Err(IdRule::Month),
    };
    if day <= days { Ok(()) } else { Err(IdRule::Day) }
}

/// 001 to 998 are given out; 000 stands in the placeholder number that test systems use.
fn check_serial(serial: u64) -> Result<(), IdRule> {
    if serial <= 998 { Ok(()) } else { Err(IdRule::Serial) }
}

fn ten_digits(text: &str, kind: &'static str) -> Result<u64, IdError> {
    let number = digits::<10>(text, kind)?;
    if number % 100 == check_mod(number / 100, 97) {
        Ok(number)
    } else {
        Err(IdError { kind, rule: IdRule::CheckDigits })
    }
}

fn digits<const COUNT: usize>(text: &str, kind: &'static str) -> Result<u64, IdError> {
    if text.len() != COUNT {
        return Err(IdError { kind, rule: IdRule::Length });
    }
    text.bytes().try_fold(0u64, |number, byte| match byte {
        b'0'..=b'9' => Ok(number * 10 + u64::from(byte - b'0')),
        _ => Err(IdError { kind, rule: IdRule::Digits }),
    })
}
