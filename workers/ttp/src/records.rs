//! The records of a CSV batch, one after another.
//!
//! A parser's table takes longer to build than a small batch takes to read, so each thread keeps its parsers for the next
//! batch. (They cannot be cloned: csv-core 0.1.13 leaves half of the table out.)
//! A quote that is never closed would make the rest of a batch one value, identifiers and all, perhaps of a column that is
//! kept. So the parser is given [`END`] after the last byte: a row of its own, unless an open quote swallowed it.
//! Bound (I7): a record that takes more than [`RECORD_MAX`] bytes ends the reading with `FileTooLarge`: an open quote
//! would swallow the rest of the batch.

use crate::transform::ROW_MAX;
use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use std::cell::RefCell;
use std::io::{self, BufRead};

/// Bytes of the longest record that is read to its end: longer than the longest row that is taken, so that a row that
/// is only a little too long is one bad row.
const RECORD_MAX: usize = ROW_MAX + (64 << 10);

/// What the parser gets after a batch's last byte: the end of a line, and a row that can only come from here.
const END: &[u8] = b"\n.";

/// What may part columns; where the header does not decide, the first of them.
pub(crate) const DELIMITERS: [u8; 4] = *b",;\t|";

thread_local! {
    /// Parsers at rest, one for each delimiter.
    static AT_REST: RefCell<[Option<Reader>; 4]> = const { RefCell::new([None, None, None, None]) };
}

/// See the module's header.
pub(crate) struct Records<'a> {
    /// None only while it is dropped.
    parser: Option<Reader>,
    place: usize,
    input: &'a mut dyn BufRead,
    /// What is still to be given of [`END`], and how much of it was taken.
    end: &'static [u8],
    beyond: usize,
    /// The fields of the record, one behind the other.
    bytes: Vec<u8>,
    /// Where each field ends.
    ends: Vec<usize>,
}

/// One record in UTF-8.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    text: &'a str,
    ends: &'a [usize],
}

impl<'a> Records<'a> {
    /// The records of a batch; a delimiter that is not one of [`DELIMITERS`] is taken for the comma.
    pub(crate) fn of_batch(delimiter: u8, input: &'a mut dyn BufRead) -> Records<'a> {
        let mut records = Records::of_text(delimiter, input);
        records.end = END;
        records
    }

    /// The records of a text in which a last open quote ends with the text.
    pub(crate) fn of_text(delimiter: u8, input: &'a mut dyn BufRead) -> Records<'a> {
        let place = DELIMITERS.iter().position(|known| *known == delimiter).unwrap_or(0);
        let delimiter = DELIMITERS[place];
        let kept = AT_REST.with_borrow_mut(|parsers| parsers[place].take());
        let parser = Some(kept.unwrap_or_else(|| ReaderBuilder::new().delimiter(delimiter).build()));
        Records { parser, place, input, end: &[], beyond: 0, bytes: vec![0; 1_024], ends: vec![0; 64] }
    }

    /// The next record, or what is wrong with it; none at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Result<Record<'_>, &'static str>>> {
        let Some(parser) = self.parser.as_mut() else { return Ok(None) };
        let (mut taken, mut written, mut fields) = (0, 0, 0);
        loop {
            let input = self.input.fill_buf()?;
            let is_over = input.is_empty();
            let (result, read, wrote, ended) = parser.read_record(
                if is_over { self.end } else { input },
                &mut self.bytes[written..],
                &mut self.ends[fields..],
            );
            if is_over {
                self.end = &self.end[read..];
                self.beyond += read;
            } else {
                self.input.consume(read);
                taken += read;
            }
            written += wrote;
            fields += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.bytes.resize(self.bytes.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return Ok(None),
            }
            if taken > RECORD_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
        let Some(record) = Record::new(&self.bytes[..written], &self.ends[..fields]) else {
            return Ok(Some(Err("ZGL-ROW-UTF8")));
        };
        // One byte beyond the batch is the end of its last line.
        Ok(match self.beyond > 1 {
            false => Some(Ok(record)),
            true if record.len() == 1 && record.text.as_bytes() == &END[1..] => None,
            true => Some(Err("ZGL-ROW-QUOTE")),
        })
    }
}

impl Drop for Records<'_> {
    fn drop(&mut self) {
        if let Some(mut parser) = self.parser.take() {
            parser.reset();
            AT_REST.with_borrow_mut(|parsers| parsers[self.place] = Some(parser));
        }
    }
}

impl<'a> Record<'a> {
    /// Fields that lie one behind the other, each ending at its place; none where that is not UTF-8.
    pub(crate) fn new(bytes: &'a [u8], ends: &'a [usize]) -> Option<Record<'a>> {
        let text = std::str::from_utf8(bytes).ok()?;
        ends.iter().all(|end| text.is_char_boundary(*end)).then_some(Record { text, ends })
    }

    /// How many fields it has.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all fields together.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// The field with this 0-based number.
    pub(crate) fn get(&self, field: usize) -> Option<&'a str> {
        let end = *self.ends.get(field)?;
        let start = field.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.text.get(start..end)
    }

    /// All fields in order.
    pub(crate) fn fields(self) -> impl Iterator<Item = &'a str> {
        (0..self.ends.len()).filter_map(move |field| self.get(field))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What an independent reader of the same bytes finds.
    fn expected(bytes: &[u8], delimiter: u8) -> Vec<Option<Vec<String>>> {
        let mut reader =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(bytes);
        reader.records().map(|record| record.ok().map(|r| r.iter().map(str::to_owned).collect())).collect()
    }

    fn found(bytes: &[u8], delimiter: u8, chunk: usize) -> Vec<Option<Vec<String>>> {
        let mut input = io::BufReader::with_capacity(chunk, bytes);
        let mut records = Records::of_text(delimiter, &mut input);
        let mut all = Vec::new();
        while let Some(record) = records.next().unwrap() {
            all.push(record.ok().map(|record| record.fields().map(str::to_owned).collect()));
        }
        all
    }

    /// What batches are made of, and what makes them hard to read.
    const PIECES: &[&[u8]] = &[
        b"a",
        b",",
        b";",
        b"\t",
        b"|",
        b"\"",
        b"\n",
        b"\r",
        b"\xC3\xA9",
        b"\xFF",
        b"a long field",
        b"\"q,\"\"\n\"",
        b"\n\r\n",
    ];

    proptest! {
        #[test]
        fn records_are_those_of_the_csv_crate_however_the_input_comes(
            pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..60),
            chunk in 3usize..50,
        ) {
            let bytes = pieces.concat();
            for delimiter in DELIMITERS {
                prop_assert_eq!(found(&bytes, delimiter, chunk), expected(&bytes, delimiter));
            }
        }
    }

    #[test]
    fn an_open_quote_is_found_at_the_end_and_a_last_row_needs_no_line_feed() {
        let count = |text: &str| {
            let mut input = text.as_bytes();
            let mut records = Records::of_batch(b',', &mut input);
            let (mut good, mut wrong) = (0, Vec::new());
            while let Some(record) = records.next().unwrap() {
                record.map_or_else(|code| wrong.push(code), |_| good += 1);
            }
            (good, wrong)
        };
        assert_eq!(count("a,b\nc,d\n"), (2, vec![]));
        assert_eq!(count("a,b\nc,d"), (2, vec![]));
        assert_eq!(count("a\n.\n."), (3, vec![]));
        assert_eq!(count("a,b\nc,\"d\ne,f\n"), (1, vec!["ZGL-ROW-QUOTE"]));
    }

    #[test]
    fn a_record_grows_beyond_the_first_buffers_and_stops_at_its_bound() {
        let wide = "x,".repeat(5_000);
        assert_eq!(found(wide.as_bytes(), b',', 64)[0].as_ref().unwrap().len(), 5_001);
        let open = [b"\"".to_vec(), vec![b'x'; RECORD_MAX + 100_000]].concat();
        let mut input = io::BufReader::new(&open[..]);
        let failed = Records::of_batch(b',', &mut input).next().map(drop);
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
