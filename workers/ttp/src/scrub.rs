//! Free text without what identifies: national numbers, telephone numbers, e-mail addresses, the patient's names.
//!
//! What is found is replaced by `[NUMBER]`, `[PHONE]`, `[E-MAIL]` or `[NAME]`. It errs on the side of replacing: every run
//! of 11 digits that is written like a national number goes, its check digits right or wrong, because a number with a typing
//! error still tells who. Names are those that the record gives of this patient; they are compared without case and
//! accents, word by word, so that `MÜLLER` is found for `Muller` and `Jan` is not found in `January`.
//! What it cannot find (nicknames, relatives, a street) stays: free text is never anonymous, and documentation says so.

use icu_normalizer::DecomposingNormalizerBorrowed;
use std::collections::HashSet;

/// The shortest part of a name that is looked for by itself: `de`, `Le` and `O` are words of a language.
const PART_MIN: usize = 3;
/// The longest parts of an e-mail address (RFC 5321, section 4.5.3.1).
const LOCAL_MAX: usize = 64;
const DOMAIN_MAX: usize = 255;
/// Digits of a telephone number, 00 before the country included.
const PHONE_MAX: usize = 15;
/// Digits of a national number.
const SSIN: usize = 11;

/// The names of a record's patient, folded.
#[derive(Debug, Default)]
pub(crate) struct Names(HashSet<String>);

impl Names {
    /// Takes in the words of a name.
    pub(crate) fn add(&mut self, name: &str) {
        let composed = icu_normalizer::ComposingNormalizerBorrowed::new_nfc().normalize(name);
        let words = composed.split(|c: char| !c.is_alphanumeric()).filter(|word| word.chars().count() >= PART_MIN);
        self.0.extend(words.map(fold));
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    fn has(&self, word: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&fold(word))
    }
}

/// Lower case, without accents.
fn fold(word: &str) -> String {
    if word.is_ascii() {
        return word.to_ascii_lowercase();
    }
    let decomposed = DecomposingNormalizerBorrowed::new_nfkd().normalize(word);
    decomposed.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Appends the text without what identifies.
pub(crate) fn scrub(text: &str, names: &Names, out: &mut Vec<u8>) {
    let mut rest = text;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let starts_word = !before.is_alphanumeric() && !is_mark(before);
        let found = starts_word.then(|| find(rest, names)).flatten();
        let (length, mark) = found.unwrap_or((first.len_utf8(), ""));
        let (taken, after) = rest.split_at(length);
        out.extend_from_slice(if mark.is_empty() { taken.as_bytes() } else { mark.as_bytes() });
        before = taken.chars().next_back().unwrap_or(' ');
        rest = after;
    }
}

/// How many bytes at the head of `text` identify, and what is put there.
fn find(text: &str, names: &Names) -> Option<(usize, &'static str)> {
    let mark = |length: Option<usize>, mark| length.map(|length| (length, mark));
    mark(mail(text), "[E-MAIL]")
        .or_else(|| mark(national_number(text), "[NUMBER]"))
        .or_else(|| mark(phone(text), "[PHONE]"))
        .or_else(|| mark(name(text, names), "[NAME]"))
}

/// Where the letters that are `wanted` end; none when there are more than `most`. Without the bound a text of points would
/// be read again from each of them.
fn end_of(text: &str, most: usize, wanted: impl Fn(char) -> bool) -> Option<usize> {
    let mut letters = text.char_indices();
    for _ in 0..=most {
        match letters.next() {
            Some((place, letter)) if !wanted(letter) => return Some(place),
            Some(_) => {}
            None => return Some(text.len()),
        }
    }
    None
}

fn mail(text: &str) -> Option<usize> {
    let is_local = |c: char| c.is_alphanumeric() || "._%+-".contains(c);
    let local = end_of(text, LOCAL_MAX, is_local)?;
    let domain = text[local..].strip_prefix('@').filter(|_| local > 0)?;
    let end = end_of(domain, DOMAIN_MAX, |c| c.is_alphanumeric() || c == '.' || c == '-')?;
    let name = domain[..end].trim_end_matches(['.', '-']);
    name.contains('.').then_some(local + 1 + name.len())
}

/// 11 digits with nothing, or one character of punctuation or space, between its parts `YY MM DD NNN CC`.
fn national_number(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut place, mut digits) = (0, 0);
    while digits < SSIN {
        if matches!(digits, 2 | 4 | 6 | 9) && bytes.get(place).is_some_and(|byte| b" .-/".contains(byte)) {
            place += 1;
        }
        bytes.get(place).filter(|byte| byte.is_ascii_digit())?;
        place += 1;
        digits += 1;
    }
    // A longer run of digits is another number: a barcode, an order.
    (!bytes.get(place).is_some_and(u8::is_ascii_digit)).then_some(place)
}

/// `+32 475 12 34 56`, `0032…`, `0475/12.34.56`, `02 123 45 67`: 9 or 10 digits after one 0, 9 to 13 after + or 00.
fn phone(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let is_abroad = text.starts_with('+') || text.starts_with("00");
    if !is_abroad && !text.starts_with('0') {
        return None;
    }
    let (mut place, mut digits, mut end) = (usize::from(text.starts_with('+')), 0, 0);
    while let Some(byte) = bytes.get(place) {
        if byte.is_ascii_digit() {
            digits += 1;
            end = place + 1;
            if digits > PHONE_MAX {
                return None;
            }
        } else if !b" ./-()".contains(byte) || place > end + 1 {
            break;
        }
        place += 1;
    }
    let range = match (is_abroad, text.starts_with('+')) {
        (true, true) => 9..=13,
        (true, false) => 11..=15,
        (false, _) => 9..=10,
    };
    range.contains(&digits).then_some(end)
}

fn name(text: &str, names: &Names) -> Option<usize> {
    let end = text.find(|c: char| !c.is_alphanumeric() && !is_mark(c)).unwrap_or(text.len());
    (end > 0 && names.has(&text[..end])).then_some(end)
}

/// An accent that stands behind its letter.
fn is_mark(c: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&c)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    fn scrubbed(text: &str) -> String {
        let mut names = Names::default();
        names.add("Müller-de Vries");
        names.add("Jan");
        let mut out = Vec::new();
        scrub(text, &names, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn identifiers_are_found_however_they_are_written() {
        for (text, expected) in [
            ("NISS 85061511796.", "NISS [NUMBER]."),
            ("85.06.15-117.96 en 85 06 15 117 97", "[NUMBER] en [NUMBER]"),
            ("bel 0475/12.34.56 of +32 2 123 45 67", "bel [PHONE] of [PHONE]"),
            ("tel. 0032475123456, (02) 7", "tel. [PHONE], (02) 7"),
            ("mail jan.m@uz-gent.be.", "mail [E-MAIL]."),
            ("Dhr. MULLER, de heer Müller-De Vries, jan", "Dhr. [NAME], de heer [NAME]-De [NAME], [NAME]"),
            ("Mu\u{308}ller in January", "[NAME] in January"),
        ] {
            assert_eq!(scrubbed(text), expected, "{text}");
        }
    }

    #[test]
    fn what_medicine_writes_stays() {
        for text in [
            "HbA1c 7.21 mmol/L, 140/90 mmHg, 2024-03-01, ICD E11.9",
            "0,5 mg 3x/d, EAN 5412345678901, loinc 4548-4",
            "de vrees voor janken",
            "a@b, 012345678901234567",
        ] {
            assert_eq!(scrubbed(text), text);
        }
    }

    #[test]
    fn a_megabyte_of_beginnings_takes_no_longer_than_a_megabyte_of_words() {
        for piece in [".", "0 ", "a\u{300}", "a@", "+", "12 "] {
            let text = piece.repeat(300_000);
            let begun = std::time::Instant::now();
            scrubbed(&text);
            assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{piece:?}: {:?}", begun.elapsed());
        }
    }

    proptest! {
        #[test]
        fn a_number_or_name_among_words_never_stays(before in "[a-z ,.]{0,20}", after in "( [a-z ,.]{0,20})?", pick in 0usize..5) {
            let secret = ["85061511796", "85.06.15-117.96", "jan@example.org", "+32475123456", "Vries"][pick];
            let text = format!("{before} {secret}{after}");
            prop_assert!(!scrubbed(&text).contains(secret), "{}", scrubbed(&text));
        }

        #[test]
        fn no_text_makes_it_fail_and_text_without_digits_at_and_names_is_unchanged(text in "\\PC{0,60}", plain in "[b-ik-lo-u .,]{0,40}") {
            let _ = scrubbed(&text);
            prop_assert_eq!(scrubbed(&plain), plain);
        }
    }
}
