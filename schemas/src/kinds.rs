//! Which mailbox types there are, what identifies them, and in which qualities (roles) they receive.
//!
//! Source: the 55 qualities and 87 pairs of the public eHealth connector. Kinds with `certain: false` are types that the
//! connector knows as identifiers but lists no quality for; that their quality is named like the subtype is inferred.
//! Invariants (tested): names are unique; a default quality is among the kind's qualities.

/// What identifies the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdForm {
    /// 11 digits, a person.
    Ssin,
    /// 8 digits (11 with a qualification), a care provider or care organisation.
    Nihii,
    /// 10 digits, an enterprise.
    Cbe,
    /// 10 digits, given by the eHealth platform.
    Ehp,
}

/// A type of mailbox owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// `TYPE` or `TYPE-SUBTYPE`.
    pub name: &'static str,
    /// What identifies the owner.
    pub id: IdForm,
    /// The quality taken when an address names none. A care provider (`NIHII` alone) has none: guessing the profession
    /// would put medical data in the wrong box.
    pub default_quality: Option<&'static str>,
    /// The qualities that go with the type.
    pub qualities: &'static [&'static str],
    /// Whether the owner is a natural person.
    pub is_person: bool,
    /// Whether the pair of type and quality was read in a public source.
    pub certain: bool,
}

/// Every kind of mailbox owner.
#[must_use]
pub fn all() -> &'static [Kind] {
    KINDS
}

/// The kind with this name. `INSS` and `CBE-TREAT_CENTER`, names that other services of the platform use, are
/// understood too.
#[must_use]
pub fn find(name: &str) -> Option<&'static Kind> {
    let name = match name {
        "INSS" => "SSIN",
        "CBE-TREAT_CENTER" => "CBE-TREATMENT_CENTER",
        name => name,
    };
    KINDS.iter().find(|kind| kind.name == name)
}

/// The professions, by NIHII or SSIN, with `CITIZEN`, which goes with an SSIN only, at the front.
const PERSON: &[&str] = &[
    "CITIZEN",
    "AMBULANCE_RESCUER",
    "APPLIED_PSYCH_BACHELOR",
    "AUDICIEN",
    "AUDIOLOGIST",
    "DENTIST",
    "DIETICIAN",
    "DOCTOR",
    "FAMILY_SCIENCE_BACHELOR",
    "GERONTOLOGY_MASTER",
    "IMAGING_TECHNOLOGIST",
    "IMPLANTPROVIDER",
    "LAB_TECHNOLOGIST",
    "LOGOPEDIST",
    "MIDWIFE",
    "NURSE",
    "OCCUPATIONAL_THERAPIST",
    "OPTICIEN",
    "ORTHOPEDAGOGIST_MASTER",
    "ORTHOPEDIST",
    "ORTHOPTIST",
    "PEDIATRIC_NURSE",
    "PHARMACIST",
    "PHARMACIST_ASSISTANT",
    "PHYSIOTHERAPIST",
    "PODOLOGIST",
    "PRACTICALNURSE",
    "PSYCHOLOGIST",
    "PSYCHOMOTOR_THERAPY",
    "READAPTATION_BACHELOR",
    "SOCIAL_WORKER",
    "SPECIALIZED_EDUCATOR",
    "TRUSS_MAKER",
];

/// The same without `CITIZEN`.
const PROFESSIONS: &[&str] = PERSON.split_at(1).1;

const fn person(name: &'static str, id: IdForm, default_quality: Option<&'static str>) -> Kind {
    let qualities = if default_quality.is_some() { PERSON } else { PROFESSIONS };
    Kind { name, id, default_quality, qualities, is_person: true, certain: true }
}

const fn organisation(name: &'static str, id: IdForm, quality: &'static [&'static str; 1]) -> Kind {
    Kind { name, id, default_quality: Some(quality[0]), qualities: quality, is_person: false, certain: true }
}

const fn inferred(name: &'static str, quality: &'static [&'static str; 1]) -> Kind {
    Kind { certain: false, ..organisation(name, IdForm::Nihii, quality) }
}

const KINDS: &[Kind] = &[
    person("SSIN", IdForm::Ssin, Some("CITIZEN")),
    person("NIHII", IdForm::Nihii, None),
    organisation("CBE", IdForm::Cbe, &["INSTITUTION"]),
    organisation("CBE-CONSORTIUM", IdForm::Cbe, &["CONSORTIUM"]),
    organisation("CBE-TREATMENT_CENTER", IdForm::Cbe, &["TREATMENT_CENTER"]),
    organisation("EHP", IdForm::Ehp, &["INSTITUTION_EHP"]),
    organisation("EHP-CTRL_ORGANISM", IdForm::Ehp, &["CTRL_ORGANISM"]),
    organisation("NIHII-GROUP", IdForm::Nihii, &["GROUP"]),
    organisation("NIHII-GROUP_DOCTORS", IdForm::Nihii, &["GROUP_DOCTORS"]),
    organisation("NIHII-GUARD_POST", IdForm::Nihii, &["GUARD_POST"]),
    organisation("NIHII-HOME_SERVICES", IdForm::Nihii, &["HOME_SERVICES"]),
    organisation("NIHII-HOSPITAL", IdForm::Nihii, &["HOSPITAL"]),
    organisation("NIHII-LABO", IdForm::Nihii, &["LABO"]),
    organisation("NIHII-MEDICAL_HOUSE", IdForm::Nihii, &["MEDICAL_HOUSE"]),
    organisation("NIHII-OFFICE_DENTISTS", IdForm::Nihii, &["OFFICE_DENTISTS"]),
    organisation("NIHII-OFFICE_DOCTORS", IdForm::Nihii, &["OFFICE_DOCTORS"]),
    organisation("NIHII-OF_BAND", IdForm::Nihii, &["OF_BAND"]),
    organisation("NIHII-OF_PHYSIOS", IdForm::Nihii, &["OF_PHYSIOS"]),
    organisation("NIHII-OTD_PHARMACY", IdForm::Nihii, &["OTD_PHARMACY"]),
    organisation("NIHII-PALLIATIVE_CARE", IdForm::Nihii, &["PALLIATIVE_CARE"]),
    organisation("NIHII-PHARMACY", IdForm::Nihii, &["PHARMACY"]),
    organisation("NIHII-PROT_ACC", IdForm::Nihii, &["PROT_ACC"]),
    organisation("NIHII-PSYCH_HOUSE", IdForm::Nihii, &["PSYCH_HOUSE"]),
    organisation("NIHII-RETIREMENT", IdForm::Nihii, &["RETIREMENT"]),
    inferred("NIHII-AMBU_SERVICE", &["AMBU_SERVICE"]),
    inferred("NIHII-BELRAI", &["BELRAI"]),
    inferred("NIHII-BELRAI_SCREEN", &["BELRAI_SCREEN"]),
    inferred("NIHII-GROUP_MIDWIVES", &["GROUP_MIDWIVES"]),
    inferred("NIHII-LEGAL_PSY", &["LEGAL_PSY"]),
    inferred("NIHII-REEDUCATION", &["REEDUCATION"]),
    inferred("NIHII-SORTING_CENTER", &["SORTING_CENTER"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_has_the_55_qualities_in_87_pairs_that_the_connector_lists() {
        let certain = || KINDS.iter().filter(|kind| kind.certain);
        assert_eq!(certain().map(|kind| kind.qualities.len()).sum::<usize>(), 87);
        assert_eq!(certain().flat_map(|kind| kind.qualities).collect::<BTreeSet<_>>().len(), 55);
    }

    #[test]
    fn names_are_unique_and_a_default_goes_with_its_type() {
        assert_eq!(KINDS.iter().map(|kind| kind.name).collect::<BTreeSet<_>>().len(), KINDS.len());
        for kind in KINDS {
            assert!(kind.default_quality.is_none_or(|quality| kind.qualities.contains(&quality)), "{}", kind.name);
        }
    }
}
