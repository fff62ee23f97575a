//! Split batches, on both sides of the TTP: the sender's file is cut in two, the recipient's two documents are joined again.
//!
//! The project's fields go to the TTP; the columns that its document says go into the part that is sealed for the recipient, which nobody
//! between the two can open; a file with other columns is not cut. A random number for each row, drawn here, links them. Rows of the sealed part are in random order, and its
//! size is padded like that of a delivery, because nobody can do that for it later.
//! Failure behaviour: a file that cannot be cut is not sent; rows that do not match one to one are not joined, because somebody changed them.

use crate::client::{Client, escape, text};
use crate::failed::{Failed, at};
use rand::seq::SliceRandom;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use zegel_core::Keys;
use zegel_crypto::Keyring;
use zegel_crypto::envelope;
use zegel_crypto::signed::Identity;
use zegel_ttp::project::Unlisted;
use zegel_ttp::project::split::Split;
use zegel_ttp::transform::Format;
use zegel_ttp::{ProjectDocument, padding, split};

/// Rows and columns of a file.
struct Sheet {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// The document of a project, where its batches are split. A project that is unknown is refused when something is sent for it.
///
/// # Errors
/// The platform is away, or its document cannot be read.
pub fn of_project(client: &Client, project: &str) -> Result<Option<ProjectDocument>, Failed> {
    let details = match client.get(&format!("/v1/projects/{}", escape(project)), &[]) {
        Err(Failed::Refused { .. }) => return Ok(None),
        other => other?,
    };
    match text(&details, "document") {
        "" => Ok(None),
        document => {
            let document = ProjectDocument::parse(document).map_err(|error| Failed::Failure(error.to_string()))?;
            Ok(Some(document).filter(|document| document.split.is_some()))
        }
    }
}

/// Whether a file is cut already: a tar file, made by another program.
#[must_use]
pub fn is_container(file: &Path) -> bool {
    file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("tar"))
}

/// What is sent of a CSV file: the container of both parts.
///
/// # Errors
/// The file cannot be read, is not CSV in UTF-8, lacks a column, or is too large to be sealed.
pub fn cut(document: &ProjectDocument, file: &Path) -> Result<Vec<u8>, Failed> {
    let wrong = |what: String| Failed::Usage(format!("{}: {what}", file.display()));
    let Some(terms) = &document.split else { return Err(wrong("the project is not split".to_owned())) };
    let bytes = fs::read(file).map_err(at(file))?;
    let sheet = read(&bytes).map_err(&wrong)?;
    if sheet.header.contains(&terms.row) {
        return Err(wrong(format!("it has a column {:?} already, which this program makes", terms.row)));
    }
    let (own, sealed) = columns(document, terms, &sheet.header).map_err(wrong)?;
    let keys = Keyring::generate_in_memory();
    let numbers: Vec<String> = sheet.rows.iter().map(|_| hex::encode(keys.random16())).collect();
    let part = |columns: &[usize], rows: &mut dyn Iterator<Item = usize>| {
        let line = |number: &str, cells: &[String]| {
            [number.to_owned()].into_iter().chain(columns.iter().map(|column| cells[*column].clone())).collect()
        };
        let rows = rows.map(|row| line(&numbers[row], &sheet.rows[row])).collect();
        write(&Sheet { header: line(&terms.row, &sheet.header), rows })
    };
    let identifiers = part(&own, &mut (0..sheet.rows.len()));
    let mut order: Vec<usize> = (0..sheet.rows.len()).collect();
    order.shuffle(&mut rand::rng());
    let mut medical = part(&sealed, &mut order.into_iter());
    let size = medical.len() as u64;
    padding::fill(Format::Csv, size, &mut medical)?;
    let sealed = envelope::seal(&terms.sealed_for, &medical).map_err(|error| wrong(error.to_string()))?;
    if sealed.len() as u64 > split::SEALED_MAX {
        return Err(wrong("what is sealed is over 16 MiB: send it in several files".to_owned()));
    }
    let container = split::container(("identifiers.csv", &identifiers), &sealed);
    container.ok_or_else(|| wrong("it is too large".to_owned()))
}

/// Which columns go to the TTP, and which are sealed. A misspelt heading must not hand a patient's number to the recipient.
fn columns(document: &ProjectDocument, terms: &Split, header: &[String]) -> Result<(Vec<usize>, Vec<usize>), String> {
    let place = |name: &str| {
        let found = header.iter().position(|column| column == name);
        found.ok_or_else(|| format!("it has no column {name:?}, which the project's document lists"))
    };
    let fields = document.fields.iter().map(|field| field.path.as_str()).filter(|path| *path != terms.row);
    let own = fields.map(place).collect::<Result<Vec<_>, _>>()?;
    let sealed = terms.columns.iter().map(|column| place(column)).collect::<Result<Vec<_>, _>>()?;
    let other = (0..header.len()).find(|column| !own.contains(column) && !sealed.contains(column));
    match other.filter(|_| document.unlisted == Unlisted::Refuse) {
        Some(column) => Err(format!("the project's document does not list its column {}", column + 1)),
        None => Ok((own, sealed)),
    }
}

/// What was delivered, joined: the columns of the sealed part behind those that the TTP delivered, row by row.
///
/// # Errors
/// The sealed part does not open with this key, or rows do not match one to one.
pub fn join(delivered: &Path, sealed: &Path, identity: &Identity) -> Result<Vec<u8>, Failed> {
    let wrong = |what: &str| Failed::Failure(format!("{}: {what}", sealed.display()));
    let opened =
        envelope::open(identity, &fs::read(sealed).map_err(at(sealed))?).map_err(|error| wrong(&error.to_string()))?;
    let medical = read(&opened).map_err(|why| wrong(&format!("inside, {why}")))?;
    let tokens = fs::read(delivered).map_err(at(delivered))?;
    let mut tokens = read(&tokens).map_err(|why| wrong(&format!("what was delivered with it: {why}")))?;
    let linked = medical.header.first().and_then(|row| tokens.header.iter().position(|column| column == row));
    let place = linked.ok_or_else(|| wrong("it belongs to another delivery: no column links the two"))?;
    let mut by_number: HashMap<String, &[String]> = HashMap::new();
    for row in &medical.rows {
        if by_number.insert(row[0].clone(), &row[1..]).is_some() {
            return Err(wrong("a row number stands in it twice"));
        }
    }
    tokens.header.extend_from_slice(&medical.header[1..]);
    for row in &mut tokens.rows {
        let more = by_number
            .remove(&row[place])
            .ok_or_else(|| wrong("a delivered row has no counterpart in it, or two share one"))?;
        row.extend_from_slice(more);
    }
    if !by_number.is_empty() {
        return Err(wrong("it has rows that were not delivered"));
    }
    Ok(write(&tokens))
}

/// A CSV file in UTF-8, whatever parts its columns: of four usual characters the one that the header has most often.
fn read(bytes: &[u8]) -> Result<Sheet, String> {
    const FORM: &str = "it is not CSV with a header, in UTF-8";
    let text = std::str::from_utf8(bytes).map_err(|_| FORM)?;
    let text = text.trim_start_matches('\u{feff}');
    let first = text.lines().next().ok_or(FORM)?;
    let delimiter = b",;\t|".iter().rev().max_by_key(|mark| first.bytes().filter(|byte| byte == *mark).count());
    let delimiter = *delimiter.ok_or(FORM)?;
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).from_reader(text.as_bytes());
    // The number of the row, and nothing of what stands in it.
    let wrong = |number: usize| format!("row {number} has not as many values as the header, or is no CSV");
    let mut rows = reader.records().enumerate().map(|(number, row)| {
        row.map_err(|_| wrong(number)).map(|row| row.iter().map(str::to_owned).collect::<Vec<_>>())
    });
    let header = rows.next().ok_or(FORM)??;
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(Sheet { header, rows })
}

fn write(sheet: &Sheet) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in [&sheet.header].into_iter().chain(&sheet.rows) {
        let Ok(()) = writer.write_record(row) else {
            unreachable!("rows are as long as their header, and memory does not fail")
        };
    }
    match writer.into_inner() {
        Ok(bytes) => bytes,
        Err(_) => unreachable!("memory does not fail"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use schemas::Millis;

    fn document(recipient: &Identity) -> ProjectDocument {
        let pem = recipient.certificate_pem().unwrap();
        let text = format!(
            "name = \"p\"\nsenders = [\"NIHII-HOSPITAL:71000436\"]\nrecipient = \"CBE:0123456749\"\n\
             valid = {{ from = \"2026-01-01\", until = \"2030-12-31\" }}\n\
             split = {{ row = \"row\", columns = [\"note\", \"value\"], sealed_for = \"\"\"\n{pem}\"\"\" }}\n\
             [[fields]]\npath = \"row\"\nkind = \"row-number\"\naction = \"keep\"\nrequired = true\n\
             [[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\n"
        );
        ProjectDocument::parse(&text).unwrap()
    }

    #[test]
    fn a_heading_that_nobody_listed_is_never_sealed_and_one_that_is_missing_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let recipient = Identity::create("registry", Millis(1_795_305_600_000)).unwrap();
        let file = folder.path().join("batch.csv");
        for (header, why) in [
            ("NISS,note,value", "no column \"niss\""),
            ("niss,note", "no column \"value\""),
            ("niss,note,value,name", "not list its column 4"),
            ("niss,note,value,row", "already"),
        ] {
            fs::write(&file, format!("{header}\n{}\n", header.replace(char::is_alphabetic, "1"))).unwrap();
            let error = cut(&document(&recipient), &file).unwrap_err().to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
    }

    #[test]
    fn a_short_row_is_named_by_its_number_and_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let recipient = Identity::create("registry", Millis(1_795_305_600_000)).unwrap();
        let file = folder.path().join("batch.csv");
        let good = "85061511796,x,1\n";
        for (rows, number) in [("85061511895\n".to_owned(), 1), (format!("{good}{good}85061511895,Jan\n"), 3)] {
            fs::write(&file, format!("\u{feff}niss,note,value\n{rows}")).unwrap();
            let error = cut(&document(&recipient), &file).unwrap_err().to_string();
            assert!(error.contains(&format!("row {number} has not as many values")), "{error}");
            assert!(!error.contains("8506151") && !error.contains("Jan"), "{error}");
        }
    }

    #[test]
    fn what_is_cut_is_joined_again_whatever_the_order_and_a_changed_row_never() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let recipient = Identity::create("registry", Millis(1_795_305_600_000)).unwrap();
        let text: String = (0..40).map(|row| format!("\"x;{row}\";85061511796;{row}\n")).collect();
        fs::write(at("batch.csv"), format!("note;niss;value\n{text}")).unwrap();
        let container = cut(&document(&recipient), &at("batch.csv")).unwrap();
        assert!(!container.windows(4).any(|window| window == b"note"), "a column of the recipient's is in clear");
        // The container as any tar program sees it: names at 0 and behind the first content.
        let size = usize::from_str_radix(std::str::from_utf8(&container[124..135]).unwrap(), 8).unwrap();
        let identifiers = std::str::from_utf8(&container[512..512 + size]).unwrap().to_owned();
        assert!(identifiers.starts_with("row,niss\n") && identifiers.lines().count() == 41);
        let second = 512 + size.next_multiple_of(512);
        let length =
            usize::from_str_radix(std::str::from_utf8(&container[second + 124..second + 135]).unwrap(), 8).unwrap();
        fs::write(at("medical.p7m"), &container[second + 512..second + 512 + length]).unwrap();
        let mut lines: Vec<&str> = identifiers.lines().collect();
        lines[1..].reverse();
        let joined = |lines: &[&str]| {
            fs::write(at("tokens.csv"), lines.join("\n") + "\n\n\n").unwrap();
            join(&at("tokens.csv"), &at("medical.p7m"), &recipient)
        };
        let whole = String::from_utf8(joined(&lines).unwrap()).unwrap();
        assert!(whole.starts_with("row,niss,note,value\n"), "{whole}");
        for (row, line) in whole.lines().skip(1).enumerate() {
            assert!(line.ends_with(&format!(",85061511796,x;{0},{0}", 39 - row)), "{line}");
        }
        assert!(joined(&lines[..40]).is_err(), "a row was taken away");
        let twice = [&lines[..40], &lines[39..40]].concat();
        assert!(joined(&twice).is_err(), "a row was doubled");
        assert!(joined(&["niss", "1"]).is_err());
        let other = Identity::create("other", Millis(1_795_305_600_000)).unwrap();
        assert!(join(&at("tokens.csv"), &at("medical.p7m"), &other).is_err());
    }
}
