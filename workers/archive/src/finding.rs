//! What an audit found: a class (which decides the exit status), a stable name, the place, and a sentence.
//!
//! Texts name rules, files, bags and references; a reference is the hospital's own number of a document and no identifier of
//! a person.

use crate::time::instant;
use schemas::Millis;
use serde::Serialize;

/// Findings of each class that are kept word for word; of more, the report gives the number. Each class has its own room: who
/// alters one bag cannot hide it behind ten thousand notices.
pub const FINDINGS_MAX: usize = 2_000;
/// How many classes there are.
const CLASSES: usize = 6;

/// Kinds of findings. Where an audit has several, the exit status is that of the first class in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Content contradicts what was stamped: altered, forged, back-dated, or two versions of one thing.
    Altered,
    /// Bytes of the archive are not those that were written: a medium's fault, or somebody's hand.
    Damaged,
    /// Something that must be there is not: a bag, a window, a document's entry.
    Missing,
    /// A stamp cannot be trusted: its certificate was not valid, was revoked, or is of no CA in the trust file.
    Untrusted,
    /// Two archives differ, and neither contradicts itself.
    Differs,
    /// Worth knowing; no fault. Does not change the exit status.
    Notice,
}

impl Class {
    /// The exit status of an audit whose worst finding is of this class.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            Class::Altered => 10,
            Class::Damaged => 11,
            Class::Missing => 12,
            Class::Untrusted => 13,
            Class::Differs => 14,
            Class::Notice => 0,
        }
    }

    /// What it means, for readers who are not engineers.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Class::Altered => "content contradicts what was time-stamped",
            Class::Damaged => "bytes of the archive are not those that were written",
            Class::Missing => "something that must be there is missing",
            Class::Untrusted => "a time stamp cannot be trusted",
            Class::Differs => "the two archives differ",
            Class::Notice => "worth knowing, no fault",
        }
    }
}

/// Where it was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
pub struct Place {
    /// File inside the archive, or the archive's name where a whole one is meant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// First byte of the range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// First byte after the range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Which bag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bag: Option<u64>,
    /// Which reference in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
}

impl Place {
    /// A whole file.
    #[must_use]
    pub fn file(name: &str) -> Place {
        Place { file: name.to_owned(), ..Place::default() }
    }

    /// Some bytes of a file.
    #[must_use]
    pub fn bytes(name: &str, from: u64, to: u64) -> Place {
        Place { file: name.to_owned(), from: Some(from), to: Some(to), ..Place::default() }
    }

    /// A bag.
    #[must_use]
    pub fn bag(sequence: u64) -> Place {
        Place { bag: Some(sequence), ..Place::default() }
    }

    /// The same place, of a bag.
    #[must_use]
    pub fn of_bag(self, sequence: u64) -> Place {
        Place { bag: Some(sequence), ..self }
    }

    /// The same place, at a reference.
    #[must_use]
    pub fn at(self, reference: u64) -> Place {
        Place { reference: Some(reference), ..self }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        if let Some(bag) = self.bag {
            parts.push(format!("bag {bag}"));
        }
        if let Some(reference) = self.reference {
            parts.push(format!("reference {reference}"));
        }
        if !self.file.is_empty() {
            parts.push(self.file.clone());
        }
        if let (Some(from), Some(to)) = (self.from, self.to) {
            parts.push(format!("bytes {from} to {to}"));
        }
        f.write_str(&parts.join(", "))
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// What kind.
    pub class: Class,
    /// Its stable name.
    pub name: &'static str,
    /// Where.
    pub place: Place,
    /// One sentence.
    pub text: String,
}

/// All findings of an audit; only the first [`FINDINGS_MAX`] of each class word for word.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    list: Vec<Finding>,
    /// How many of each class are kept.
    kept: [usize; CLASSES],
    total: u64,
    worst: Option<Class>,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, class: Class, name: &'static str, place: Place, text: impl Into<String>) {
        self.push(Finding { class, name, place, text: text.into() });
    }

    /// Adds one.
    pub fn push(&mut self, finding: Finding) {
        self.total += 1;
        self.worst = Some(self.worst.map_or(finding.class, |worst| worst.min(finding.class)));
        let kept = &mut self.kept[finding.class as usize];
        if *kept < FINDINGS_MAX {
            *kept += 1;
            self.list.push(finding);
        }
    }

    /// Adds all of another's.
    pub fn extend(&mut self, other: Findings) {
        let unlisted = other.total - other.list.len() as u64;
        other.list.into_iter().for_each(|finding| self.push(finding));
        self.total += unlisted;
        self.worst = [self.worst, other.worst].into_iter().flatten().min();
    }

    /// Those that are kept, as they were added.
    #[must_use]
    pub fn list(&self) -> &[Finding] {
        &self.list
    }

    /// How many there are, kept or not.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The worst class of all, kept word for word or not; none where nothing was found.
    #[must_use]
    pub fn worst(&self) -> Option<Class> {
        self.worst
    }

    /// Whether nothing but notices was found.
    #[must_use]
    pub fn clean(&self) -> bool {
        self.worst.is_none_or(|worst| worst == Class::Notice)
    }

    /// The exit status that the findings call for.
    #[must_use]
    pub fn status(&self) -> u8 {
        self.worst.map_or(0, Class::status)
    }

    /// Sorts what is kept: the worst first, then by place.
    pub fn sort(&mut self) {
        self.list.sort();
        self.list.dedup();
    }
}

/// An instant as people read it.
#[must_use]
pub fn utc(at: Millis) -> String {
    instant(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alteration_is_not_hidden_behind_any_number_of_notices() {
        let (mut one, mut other) = (Findings::default(), Findings::default());
        for bag in 0..3 * FINDINGS_MAX as u64 {
            one.add(Class::Notice, "token-late", Place::bag(bag), "late");
            other.add(Class::Untrusted, "token-untrusted", Place::bag(bag), "of another CA");
        }
        other.add(Class::Altered, "bag-root", Place::bag(7), "an entry was altered");
        one.extend(other);
        one.sort();
        assert_eq!((one.worst(), one.status(), one.clean()), (Some(Class::Altered), 10, false));
        assert_eq!((one.list()[0].name, one.total()), ("bag-root", 6 * FINDINGS_MAX as u64 + 1));
        assert_eq!(one.list().len(), 2 * FINDINGS_MAX + 1);
    }
}
