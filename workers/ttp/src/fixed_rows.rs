//! Text in which each column has its place: one row a line, without a header, columns by their first and last character.
//!
//! Values are what stands there without the blanks around it. A line that is shorter than a column has nothing there; a
//! line that has something where no field is, is a bad row, unless the project drops what is not listed. Delivered is
//! canonical CSV with the fields' names, and that is what comes back.

use crate::csv_rows::{Table, columns};
use crate::lines::next_line;
use crate::project::Unlisted;
use crate::records::Record;
use crate::refusal::TransformError;
use crate::run::Run;
use std::io::BufRead;

/// Puts every row of a fixed-width batch through.
pub(crate) fn run(run: &mut Run<'_>, input: &mut dyn BufRead) -> Result<(), TransformError> {
    let fields = &run.project.fields;
    let places: Vec<[usize; 2]> = fields.iter().map(|field| field.at.unwrap_or([1, 1])).collect();
    let refuses = run.project.unlisted == Unlisted::Refuse;
    let all = columns(run.project, |field| fields.iter().position(|other| other.path == field.path));
    let mut table = Table::new(run, all)?;
    let (mut line, mut bytes, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(is_whole) = next_line(input, &mut line)? {
        if is_whole && line.trim_ascii().is_empty() {
            continue;
        }
        let record = match std::str::from_utf8(&line) {
            _ if !is_whole => Err("ZGL-ROW-LENGTH"),
            Err(_) => Err("ZGL-ROW-UTF8"),
            Ok(text) if refuses && !is_covered(text, &places) => Err("ZGL-TTP-UNLISTED"),
            Ok(text) => {
                slice(text, &places, &mut bytes, &mut ends);
                Record::new(&bytes, &ends).ok_or("ZGL-ROW-UTF8")
            }
        };
        table.row(run, record, places.len())?;
    }
    Ok(())
}

/// Whether everything that is not blank stands in some column.
fn is_covered(text: &str, places: &[[usize; 2]]) -> bool {
    let is_in = |place: usize| places.iter().any(|[first, last]| (*first..=*last).contains(&place));
    text.chars().enumerate().all(|(index, letter)| letter.is_whitespace() || is_in(index + 1))
}

/// Puts the values of a line one behind the other.
fn slice(text: &str, places: &[[usize; 2]], bytes: &mut Vec<u8>, ends: &mut Vec<usize>) {
    bytes.clear();
    ends.clear();
    let starts: Vec<usize> = if text.is_ascii() { Vec::new() } else { text.char_indices().map(|(at, _)| at).collect() };
    let start_of = |letter: usize| match text.is_ascii() {
        true => letter.min(text.len()),
        false => starts.get(letter).copied().unwrap_or(text.len()),
    };
    for [first, last] in places {
        let value = text.get(start_of(first - 1)..start_of(*last)).unwrap_or_default();
        bytes.extend_from_slice(value.trim().as_bytes());
        ends.push(bytes.len());
    }
}
