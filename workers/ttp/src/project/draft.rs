//! A first text of a document for people to work on: every member with what it means, every column with a careful guess.
//!
//! Invariant: what is not recognised is dropped until somebody decides, so a draft that is signed unread delivers too little
//! and never too much.

use chrono::NaiveDate;
use schemas::{MailboxAddress, Sha256};
use std::fmt::Write;

/// What a draft is made from.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The project's name.
    pub name: String,
    /// Who may send.
    pub senders: Vec<MailboxAddress>,
    /// Who gets the result.
    pub recipient: MailboxAddress,
    /// The decision that allows it.
    pub deliberation: Option<String>,
    /// First and last day.
    pub valid: (NaiveDate, NaiveDate),
    /// Certificates of parties, as far as they are known.
    pub certificates: Vec<(MailboxAddress, Sha256)>,
    /// Columns of a sample batch; empty for an example.
    pub columns: Vec<String>,
}

/// Words in a column's name, and what such a column becomes.
const GUESSES: &[(&[&str], &str)] = &[
    (&["niss", "insz", "ssin", "nrn"], "kind = \"ssin\"\naction = \"pseudonym\"\nrequired = true"),
    (&["birth", "naissance", "geboorte", "dob"], "kind = \"date\"\naction = \"generalise\"\nto = \"year\""),
    (&["date", "datum"], "kind = \"date\"\naction = \"generalise\"\nto = \"month\""),
    (&["postal", "postcode", "zip"], "kind = \"postcode\"\naction = \"generalise\"\nto = 2"),
];

/// The text. It passes [`super::ProjectDocument::parse`] when names and days are good ones.
#[must_use]
pub fn draft(wanted: &Wanted) -> String {
    let mut text = String::new();
    let quoted = |addresses: &[MailboxAddress]| {
        addresses.iter().map(|address| format!("{:?}", address.to_string())).collect::<Vec<_>>().join(", ")
    };
    let Wanted { name, valid: (from, until), .. } = wanted;
    let deliberation = match &wanted.deliberation {
        Some(text) => format!("deliberation = {}", toml_text(text)),
        None => "# deliberation = \"number and date of the decision that allows this exchange\"".to_owned(),
    };
    let lines = [
        format!("name = {name:?}"),
        "version = 1                          # one more for every amendment".to_owned(),
        deliberation,
        format!("senders = [{}]", quoted(&wanted.senders)),
        format!("recipient = {:?}", wanted.recipient.to_string()),
        format!("valid = {{ from = \"{from}\", until = \"{until}\" }}   # both days included, UTC"),
        "direction = \"one-way\"                # or \"with-return\"".to_owned(),
        "unlisted = \"refuse\"                  # a column that is not named below refuses the batch; or \"drop\""
            .to_owned(),
        "bad_rows = \"refuse-batch\"            # or \"refuse-row\": deliver the good rows".to_owned(),
        format!("quota = {{ identifiers_per_day = {} }}", super::terms::IDENTIFIERS_PER_DAY),
    ];
    lines.iter().for_each(|line| push(&mut text, line));
    push(
        &mut text,
        "\n# SHA-256 of the certificate that each party signs with: openssl x509 -in cert.pem -outform DER | sha256sum",
    );
    push(&mut text, if wanted.certificates.is_empty() { "# [certificates]" } else { "[certificates]" });
    let mut parties = wanted.senders.clone();
    parties.push(wanted.recipient.clone());
    for party in &parties {
        match wanted.certificates.iter().find(|(known, _)| known == party) {
            Some((_, fingerprint)) => push(&mut text, &format!("{:?} = \"{fingerprint}\"", party.to_string())),
            None => push(&mut text, &format!("# {:?} = \"64 hexadecimal digits\"", party.to_string())),
        }
    }
    let example = ["niss".to_owned(), "birth_date".to_owned(), "value".to_owned()];
    let columns = if wanted.columns.is_empty() { &example[..] } else { &wanted.columns[..] };
    columns.iter().for_each(|column| field(&mut text, column));
    if wanted.columns.is_empty() {
        // Of the example something must be delivered.
        text = text.replace("action = \"drop\"   # not recognised: decide what becomes of it", "action = \"keep\"");
    }
    text
}

fn field(text: &mut String, column: &str) {
    let lower = column.to_lowercase();
    let guess = GUESSES.iter().find(|(words, _)| words.iter().any(|word| lower.contains(word)));
    push(text, &format!("\n[[fields]]\npath = {}", toml_text(column)));
    push(text, guess.map_or("action = \"drop\"   # not recognised: decide what becomes of it", |(_, lines)| lines));
}

fn push(text: &mut String, line: &str) {
    // Writing into a text cannot fail.
    let _never = writeln!(text, "{line}");
}

/// A basic string of TOML.
fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::project::{ActionName, ProjectDocument, ValueKind};

    fn wanted(columns: &[&str]) -> Wanted {
        Wanted {
            name: "lab-registry".to_owned(),
            senders: vec!["NIHII-HOSPITAL:71000436".parse().unwrap()],
            recipient: "CBE:0123456749".parse().unwrap(),
            deliberation: Some("no. \"21/123\"".to_owned()),
            valid: ("2026-01-01".parse().unwrap(), "2030-12-31".parse().unwrap()),
            certificates: Vec::new(),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        }
    }

    #[test]
    fn a_draft_is_a_document_and_delivers_nothing_that_it_does_not_know() {
        let document = ProjectDocument::parse(&draft(&wanted(&[]))).unwrap();
        assert_eq!(document.fields.len(), 3);
        let document =
            ProjectDocument::parse(&draft(&wanted(&["NISS", "Nom \"x\"", "postal_code", "lab_date"]))).unwrap();
        let found: Vec<_> = document.fields.iter().map(|field| (field.kind, field.action)).collect();
        assert_eq!(
            found,
            [
                (ValueKind::Ssin, ActionName::Pseudonym),
                (ValueKind::Text, ActionName::Drop),
                (ValueKind::Postcode, ActionName::Generalise),
                (ValueKind::Date, ActionName::Generalise),
            ]
        );
    }

    #[test]
    fn known_certificates_stand_in_the_draft() {
        let mut wanted = wanted(&[]);
        wanted.certificates =
            vec![(wanted.senders[0].clone(), Sha256([1; 32])), (wanted.recipient.clone(), Sha256([2; 32]))];
        assert_eq!(ProjectDocument::parse(&draft(&wanted)).unwrap().certificates.len(), 2);
    }
}
