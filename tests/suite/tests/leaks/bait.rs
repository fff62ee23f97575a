//! What the batches of every format hold: patients whose every value is a canary, and a sender who writes its name wherever it can.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use zegel_suite::canary::Canary;

/// Patients of a batch: enough to be shuffled, few enough for small files.
const PATIENTS: usize = 5;

/// A patient, of whom only `value` may be read by the recipient.
#[derive(Clone)]
pub struct Patient {
    pub niss: String,
    pub number: String,
    pub record: String,
    pub ticket: String,
    pub case: String,
    /// With what each format must escape.
    pub name: String,
    pub phone: String,
    pub mail: String,
    /// Free text about the patient.
    pub note: String,
    /// Medical, for the recipient.
    pub value: String,
    /// Instants and a number that are too fine to be delivered as they are.
    pub born: String,
    pub admitted: String,
    pub weight: String,
    /// Names the sender; dropped.
    pub ward: String,
}

/// Who is searched for where.
#[derive(Default)]
pub struct Canaries {
    /// Nowhere at all.
    pub patients: Vec<Canary>,
    /// Nowhere but with the recipient.
    pub medical: Vec<Canary>,
    /// Not with the recipient.
    pub sender: Vec<Canary>,
}

impl Canaries {
    pub fn extend(&mut self, other: Canaries) {
        self.patients.extend(other.patients);
        self.medical.extend(other.medical);
        self.sender.extend(other.sender);
    }
}

/// Makes values that nobody else has.
pub struct Words {
    random: ChaCha8Rng,
    persons: u64,
}

impl Words {
    pub fn new(seed: u64) -> Words {
        Words { random: ChaCha8Rng::seed_from_u64(seed), persons: 0 }
    }

    /// A word of letters alone, as no program writes it by chance.
    pub fn word(&mut self, head: &str) -> String {
        let letters = (0..13).map(|_| char::from(b'a' + u8::try_from(self.random.next_u32() % 26).unwrap()));
        head.chars().chain(letters).collect()
    }

    fn digits(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b'0' + u8::try_from(self.random.next_u32() % 10).unwrap())).collect()
    }

    fn time(&mut self) -> String {
        let mut part = |most: u32| format!("{:02}", self.random.next_u32() % most);
        format!("{}:{}:{}", part(24), part(60), part(60))
    }

    /// A valid national number of somebody who is not in the registry twice.
    pub fn niss(&mut self) -> String {
        self.persons += 1;
        let stem = 310_700_000 + (1 + self.persons % 28) * 1_000 + 1 + 2 * (self.persons / 28);
        format!("{stem}{:02}", 97 - stem % 97)
    }

    pub fn patient(&mut self) -> Patient {
        let niss = self.niss();
        let (phone, mail) = (format!("0475/{}", self.digits(6)), format!("{}@example.be", self.word("em")));
        let family = self.word("Fam");
        let name = format!("Zoé O'{family} & Van {}", self.word("Sec"));
        let dotted = format!("{}.{}.{}-{}.{}", &niss[..2], &niss[2..4], &niss[4..6], &niss[6..9], &niss[9..]);
        Patient {
            note: format!("{family} ({dotted}) has no fever, call {phone} or write to {mail}"),
            number: format!("{}{}", self.word("P").to_ascii_uppercase(), self.digits(2)),
            record: self.word("R").to_ascii_uppercase(),
            ticket: self.word("T").to_ascii_uppercase(),
            case: self.word("C").to_ascii_uppercase(),
            value: self.word("med"),
            born: format!("1931-07-{:02}T{}", 1 + self.persons % 28, self.time()),
            admitted: format!("2011-03-{:02}T{}", 1 + self.persons % 28, self.time()),
            weight: format!("71.{}", self.digits(8)),
            ward: self.word("Ward"),
            niss,
            name,
            phone,
            mail,
        }
    }

    /// Somebody whose number has a typing error.
    pub fn spoilt(&mut self) -> Patient {
        let good = self.niss();
        let check = good[9..].parse::<u8>().unwrap() % 97 + 1;
        let niss = format!("{}{check:02}", &good[..9]);
        Patient { niss, ..self.patient() }
    }

    pub fn patients(&mut self) -> Vec<Patient> {
        (0..PATIENTS).map(|_| self.patient()).collect()
    }
}

/// What is searched for of a batch's patients.
pub fn canaries(of: &str, patients: &[Patient]) -> Canaries {
    let mut all = Canaries::default();
    for patient in patients {
        let niss = &patient.niss;
        let dotted = format!("{}.{}.{}-{}.{}", &niss[..2], &niss[2..4], &niss[4..6], &niss[6..9], &niss[9..]);
        let plain_phone: String = patient.phone.chars().filter(char::is_ascii_digit).collect();
        let words = patient.name.split(' ').filter(|word| word.len() > 8).map(|word| word.trim_start_matches("O'"));
        let address = format!("SSIN:{niss}");
        let named = [
            ("niss", niss),
            ("niss, dotted", &dotted),
            ("address", &address),
            ("number", &patient.number),
            ("record", &patient.record),
            ("ticket", &patient.ticket),
            ("case", &patient.case),
            ("name", &patient.name),
            ("phone", &patient.phone),
            ("phone, plain", &plain_phone),
            ("mail", &patient.mail),
            ("instant of birth", &patient.born),
            ("instant of admission", &patient.admitted),
            ("weight", &patient.weight),
        ];
        let named = named.map(|(what, text)| Canary::new(&format!("{of}: {what}"), text));
        all.patients.extend(named);
        all.patients.extend(words.map(|word| Canary::new(&format!("{of}: a word of the name"), word)));
        all.medical.push(Canary::new(&format!("{of}: medical value"), &patient.value));
        all.sender.push(Canary::new(&format!("{of}: the sender's ward"), &patient.ward));
    }
    all
}

/// One project and what is sent for it.
pub struct Bait {
    pub name: String,
    /// Several baits may be sent for one project.
    pub project: String,
    /// The project's `format`; none where it names none.
    pub format: Option<&'static str>,
    /// The rest of the document, behind name, parties and validity.
    pub terms: String,
    pub good: Vec<u8>,
    /// The good rows and one that is bad.
    pub bad: Vec<u8>,
    /// What is not what it says it is, and whether it must be refused as a whole.
    pub broken: Vec<(&'static str, Vec<u8>, bool)>,
    pub canaries: Canaries,
    /// What the hospital has, good and with a bad row, where its program makes a batch of it.
    pub uncut: Option<[Vec<u8>; 2]>,
    /// Whether bad rows may be left out.
    pub leaves_rows_out: bool,
}

impl Bait {
    /// The document, under a name, with a policy for bad rows.
    pub fn document(&self, name: &str, bad_rows: &str) -> String {
        let format = self.format.map_or(String::new(), |format| format!("format = \"{format}\"\n"));
        // Each party signs, which takes a program that is not optimised its time: two senders where it is seen that there are two.
        let is_of_two = ["leak-no-format", "leak-signed", "leak-pool"].contains(&name);
        let second = if is_of_two { ", \"NIHII-HOSPITAL:71099812\"" } else { "" };
        format!(
            "name = \"{name}\"\nsenders = [\"NIHII-HOSPITAL:71000436\"{second}]\n\
             recipient = \"CBE:0123456749\"\nvalid = {{ from = \"2020-01-01\", until = \"2099-12-31\" }}\n\
             bad_rows = \"{bad_rows}\"\nunlisted = \"drop\"\n{format}{}",
            self.terms
        )
    }

    /// Adds what goes wrong with a batch of any format: cut in the first patient's number, UTF-16, and another format.
    pub fn break_like_any(&mut self, first_niss: &str, other: &[u8]) {
        let niss = first_niss.as_bytes();
        let at = self.good.windows(niss.len()).position(|window| window == niss).expect("the first number");
        self.broken.push(("cut in a number", self.good[..at + 6].to_vec(), false));
        let text: String = self.good.iter().map(|byte| char::from(*byte)).collect();
        let utf16 = [0xFEFFu16].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        self.broken.push(("UTF-16", utf16, true));
        self.broken.push(("another format", other.to_vec(), true));
    }
}
