//! Realistic Belgian patients and their laboratory results, from a seed: the same seed gives the same files.
//!
//! Invariants: every number of a person passes its check digits, agrees with the birth date and the sex, and is used
//! once; a result belongs to the illness it follows; municipality and postal code belong together.
//! Nobody here exists: names, streets and numbers are drawn at random, and two parts of a real number meet by chance only.

use chrono::{Datelike, Days, NaiveDate};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemas::Ssin;
use std::collections::HashSet;
use std::io::{self, Write};

/// A person.
#[derive(Debug, Clone)]
pub struct Person {
    /// Number in the National Register.
    pub niss: Ssin,
    last_name: &'static str,
    first_name: &'static str,
    female: bool,
    birth: NaiveDate,
    street: &'static str,
    house: u32,
    postal_code: u32,
    municipality: &'static str,
    illness: usize,
}

/// The columns of a laboratory batch.
pub const COLUMNS: [&str; 16] = [
    "niss",
    "patient_no",
    "last_name",
    "first_name",
    "sex",
    "birth_date",
    "street",
    "house_number",
    "postal_code",
    "municipality",
    "gp_nihii",
    "icd10",
    "lab_loinc",
    "lab_value",
    "lab_unit",
    "lab_date",
];

/// The last day of the generated world: a fixed day, or the same seed would give other files tomorrow.
const TODAY: (i32, u32, u32) = (2026, 6, 30);
/// General practitioners of the region, each with a valid number.
const PRACTITIONERS: u32 = 60;
/// The first six digits of their numbers: doctors begin with 1.
const FIRST_PRACTITIONER: u32 = 140_000;

/// Draws people and their results.
pub struct People {
    random: ChaCha8Rng,
    used: HashSet<Ssin>,
}

/// What a batch is about: ICD-10 code, LOINC code, unit, lowest and highest value in thousandths, decimals.
const ILLNESSES: [(&str, &str, &str, u32, u32, usize); 12] = [
    ("E11.9", "4548-4", "%", 6_400, 11_200, 1),           // type 2 diabetes: HbA1c
    ("I10", "2823-3", "mmol/L", 3_400, 5_300, 1),         // hypertension: potassium
    ("E78.5", "13457-7", "mg/dL", 95_000, 240_000, 0),    // hyperlipidaemia: LDL cholesterol
    ("N18.3", "2160-0", "mg/dL", 1_300, 2_600, 2),        // chronic kidney disease 3: creatinine
    ("D50.9", "718-7", "g/dL", 7_800, 11_900, 1),         // iron deficiency anaemia: haemoglobin
    ("E03.9", "3016-3", "mIU/L", 4_600, 18_000, 2),       // hypothyroidism: TSH
    ("M10.9", "3084-1", "mg/dL", 6_100, 10_400, 1),       // gout: urate
    ("I50.9", "33762-6", "pg/mL", 300_000, 4_500_000, 0), // heart failure: NT-proBNP
    ("J18.9", "1988-5", "mg/L", 25_000, 240_000, 0),      // pneumonia: CRP
    ("K70.3", "1742-6", "U/L", 45_000, 210_000, 0),       // cirrhosis: ALT
    ("E55.9", "1989-3", "ng/mL", 5_000, 19_000, 1),       // vitamin D deficiency: 25-OH vitamin D
    ("D68.3", "6301-6", "{INR}", 1_800, 4_500, 1),        // anticoagulation: INR
];

const PLACES: [(u32, &str); 24] = [
    (1000, "Brussel"),
    (1030, "Schaarbeek"),
    (1050, "Elsene"),
    (1180, "Ukkel"),
    (1300, "Wavre"),
    (1348, "Louvain-la-Neuve"),
    (1500, "Halle"),
    (1800, "Vilvoorde"),
    (2000, "Antwerpen"),
    (2300, "Turnhout"),
    (2800, "Mechelen"),
    (3000, "Leuven"),
    (3500, "Hasselt"),
    (3600, "Genk"),
    (4000, "Liège"),
    (4800, "Verviers"),
    (5000, "Namur"),
    (6000, "Charleroi"),
    (6700, "Arlon"),
    (7000, "Mons"),
    (7500, "Tournai"),
    (8000, "Brugge"),
    (8500, "Kortrijk"),
    (9000, "Gent"),
];

const STREETS: [&str; 20] = [
    "Kerkstraat",
    "Stationsstraat",
    "Molenstraat",
    "Nieuwstraat",
    "Schoolstraat",
    "Dorpsstraat",
    "Bosstraat",
    "Veldstraat",
    "Kapellestraat",
    "Beekstraat",
    "Rue de la Station",
    "Rue de l'Église",
    "Rue du Moulin",
    "Grand-Rue",
    "Rue des Écoles",
    "Avenue des Tilleuls",
    "Chaussée de Bruxelles",
    "Rue Haute",
    "Rue Neuve",
    "Place Verte",
];

const LAST_NAMES: [&str; 40] = [
    "Peeters",
    "Janssens",
    "Maes",
    "Jacobs",
    "Mertens",
    "Willems",
    "Claes",
    "Goossens",
    "Wouters",
    "De Smet",
    "Dubois",
    "Lambert",
    "Dupont",
    "Martin",
    "Simon",
    "Laurent",
    "Leroy",
    "Lejeune",
    "Renard",
    "Denis",
    "Vermeulen",
    "Desmet",
    "Hermans",
    "Aerts",
    "Michiels",
    "Van den Broeck",
    "Vandenberghe",
    "Verhoeven",
    "Lemmens",
    "Thys",
    "Dumont",
    "François",
    "Collard",
    "Gérard",
    "Noël",
    "Charlier",
    "El Amrani",
    "Yılmaz",
    "Nguyen",
    "Kowalska",
];

const WOMEN: [&str; 24] = [
    "Maria",
    "Marie",
    "Anna",
    "Emma",
    "Louise",
    "Nathalie",
    "Isabelle",
    "Elena",
    "Els",
    "An",
    "Sofie",
    "Leen",
    "Lotte",
    "Julie",
    "Camille",
    "Chloé",
    "Zoë",
    "Fatima",
    "Monique",
    "Christiane",
    "Rita",
    "Godelieve",
    "Lieve",
    "Noor",
];

const MEN: [&str; 24] = [
    "Jan", "Jean", "Marc", "Luc", "Patrick", "Philippe", "Peter", "Koen", "Dirk", "Bart", "Tom", "Lucas", "Louis",
    "Arthur", "Noah", "Mohamed", "Thomas", "Nicolas", "Michel", "Pierre", "Willy", "Jozef", "André", "Stijn",
];

impl People {
    /// Begins with a seed.
    pub fn new(seed: u64) -> People {
        People { random: ChaCha8Rng::seed_from_u64(seed), used: HashSet::new() }
    }

    /// Draws so many people.
    pub fn draw(&mut self, count: usize) -> Vec<Person> {
        (0..count).map(|_| self.person()).collect()
    }

    /// Writes a laboratory batch of a hospital: one to four results for each person, a header, and RFC 4180 lines. The
    /// local patient number begins with the place in the list, so two hospitals give the same number to other people.
    ///
    /// # Errors
    /// When the writer fails. Returns how many data rows it wrote.
    pub fn write_batch(&mut self, people: &[Person], into: &mut dyn Write) -> io::Result<u64> {
        let mut csv = csv::WriterBuilder::new().from_writer(into);
        csv.write_record(COLUMNS)?;
        let mut rows = 0;
        for (place, person) in people.iter().enumerate() {
            let practitioner = self.practitioner();
            for _ in 0..self.random.random_range(1..=4u32) {
                csv.write_record(self.result(place, person, &practitioner))?;
                rows += 1;
            }
        }
        csv.flush()?;
        Ok(rows)
    }

    /// A number below `end`, for choices of the scenario.
    pub fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end.max(1))
    }

    /// Random bytes, for documents of the scenario.
    pub fn bytes32(&mut self) -> [u8; 32] {
        self.random.random()
    }

    fn person(&mut self) -> Person {
        loop {
            let today = today();
            // Ages as hospitals see them: the mean of two draws, weighted to the old.
            let age_days = self.random.random_range(0..36_500u64).max(self.random.random_range(0..34_000u64));
            let birth = today.checked_sub_days(Days::new(age_days)).unwrap_or(today);
            let female = self.random.random_bool(0.53);
            let serial = self.random.random_range(0..499u16) * 2 + if female { 2 } else { 1 };
            let Some(niss) = niss(birth, serial.min(998)) else { continue };
            if !self.used.insert(niss) {
                continue;
            }
            let (postal_code, municipality) = self.one_of(&PLACES);
            return Person {
                niss,
                last_name: self.one_of(&LAST_NAMES),
                first_name: if female { self.one_of(&WOMEN) } else { self.one_of(&MEN) },
                female,
                birth,
                street: self.one_of(&STREETS),
                house: self.random.random_range(1..=240),
                postal_code,
                municipality,
                illness: self.below(ILLNESSES.len()),
            };
        }
    }

    fn result(&mut self, place: usize, person: &Person, practitioner: &str) -> [String; 16] {
        let (icd10, loinc, unit, low, high, decimals) = ILLNESSES[person.illness];
        let value = f64::from(self.random.random_range(low..=high)) / 1000.0;
        let after_birth = u64::try_from((today() - person.birth).num_days()).unwrap_or(0);
        let days_ago = self.random.random_range(0..=after_birth.min(900));
        let day = today().checked_sub_days(Days::new(days_ago)).unwrap_or(person.birth);
        [
            person.niss.to_string(),
            format!("P{:06}", 1001 + place),
            person.last_name.to_owned(),
            person.first_name.to_owned(),
            if person.female { "F" } else { "M" }.to_owned(),
            person.birth.to_string(),
            person.street.to_owned(),
            person.house.to_string(),
            person.postal_code.to_string(),
            person.municipality.to_owned(),
            practitioner.to_owned(),
            icd10.to_owned(),
            loinc.to_owned(),
            format!("{value:.decimals$}"),
            unit.to_owned(),
            day.to_string(),
        ]
    }

    fn practitioner(&mut self) -> String {
        let stem = FIRST_PRACTITIONER + self.random.random_range(0..PRACTITIONERS);
        schemas::Nihii::from_stem(stem).map(|number| number.to_string()).unwrap_or_default()
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

fn today() -> NaiveDate {
    NaiveDate::from_ymd_opt(TODAY.0, TODAY.1, TODAY.2).unwrap_or_default()
}

fn niss(birth: NaiveDate, serial: u16) -> Option<Ssin> {
    let (year, month, day) = (birth.year(), birth.month(), birth.day());
    Ssin::from_parts(u16::try_from(year).ok()?, u8::try_from(month).ok()?, u8::try_from(day).ok()?, serial).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_valid_unique_and_agrees_with_birth_date_and_sex() {
        let people = People::new(7).draw(3_000);
        let distinct: HashSet<String> = people.iter().map(|person| person.niss.to_string()).collect();
        assert_eq!(distinct.len(), people.len());
        for person in &people {
            let digits = person.niss.to_string();
            assert!(Ssin::parse(&digits).is_ok());
            let (two_digits, serial) = (person.birth.year() % 100, digits[6..9].parse::<u32>().unwrap());
            assert_eq!(digits[..6], format!("{two_digits:02}{:02}{:02}", person.birth.month(), person.birth.day()));
            assert_eq!(serial % 2 == 0, person.female);
            // A birth date that may be "unknown" in either century has no year; no such date is drawn here by chance.
            if let Some(year) = person.niss.birth_year() {
                assert_eq!(i32::from(year), person.birth.year());
            }
        }
    }

    #[test]
    fn a_seed_gives_the_same_batch_every_time_and_another_seed_another_one() {
        let batch = |seed| {
            let mut people = People::new(seed);
            let drawn = people.draw(50);
            let mut out = Vec::new();
            let rows = people.write_batch(&drawn, &mut out).unwrap();
            assert_eq!(out.iter().filter(|byte| **byte == b'\n').count() as u64, rows + 1);
            out
        };
        assert_eq!(batch(1), batch(1));
        assert_ne!(batch(1), batch(2));
    }

    #[test]
    fn no_result_is_older_than_its_patient() {
        let mut people = People::new(3);
        let drawn = people.draw(400);
        let mut out = Vec::new();
        people.write_batch(&drawn, &mut out).unwrap();
        let mut reader = csv::Reader::from_reader(out.as_slice());
        for record in reader.records() {
            let record = record.unwrap();
            assert!(record[15] >= record[5], "{} before {}", &record[15], &record[5]);
        }
    }
}
