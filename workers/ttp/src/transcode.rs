//! ISO 8859-1 and Windows-1252 read as UTF-8.
//!
//! Every byte of ISO 8859-1 is the character of that number; Windows-1252 has letters and signs where ISO 8859-1 has the
//! control characters 80 to 9F. Those control characters, and the five bytes that Windows-1252 leaves open, are no text:
//! reading ends there with `InvalidData`, because the batch is in another encoding than the project states.

use crate::project::Encoding;
use std::io::{self, BufRead, Read};

/// Bytes that become text at a time.
const BLOCK: usize = 16 << 10;

/// Windows-1252 from 80 to 9F; a zero is open.
const WINDOWS: [u16; 32] = [
    0x20AC, 0, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0, 0x017D, 0, 0,
    0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0, 0x017E, 0x0178,
];

/// A reader of UTF-8 over a reader of bytes.
pub(crate) struct Transcode<'i> {
    input: &'i mut dyn BufRead,
    encoding: Encoding,
    text: Vec<u8>,
    used: usize,
}

impl<'i> Transcode<'i> {
    pub(crate) fn new(input: &'i mut dyn BufRead, encoding: Encoding) -> Transcode<'i> {
        Transcode { input, encoding, text: Vec::with_capacity(BLOCK * 3), used: 0 }
    }

    fn refill(&mut self) -> io::Result<()> {
        let bytes = self.input.fill_buf()?;
        let count = bytes.len().min(BLOCK);
        self.text.clear();
        self.used = 0;
        for byte in &bytes[..count] {
            let letter = match (*byte, self.encoding) {
                (byte @ (0..=0x7F), _) => {
                    self.text.push(byte);
                    continue;
                }
                (byte @ 0x80..=0x9F, Encoding::Windows1252) => u32::from(WINDOWS[usize::from(byte - 0x80)]),
                (0x80..=0x9F, _) => 0,
                (byte, _) => u32::from(byte),
            };
            let letter = char::from_u32(letter).filter(|letter| *letter != '\0').ok_or(io::ErrorKind::InvalidData)?;
            self.text.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        }
        self.input.consume(count);
        Ok(())
    }
}

impl Read for Transcode<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let text = self.fill_buf()?;
        let count = text.len().min(out.len());
        out[..count].copy_from_slice(&text[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Transcode<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.text.len() {
            self.refill()?;
        }
        Ok(&self.text[self.used..])
    }

    fn consume(&mut self, count: usize) {
        self.used += count;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn read(bytes: &[u8], encoding: Encoding) -> io::Result<String> {
        let mut text = String::new();
        let mut small = io::BufReader::with_capacity(3, bytes);
        Transcode::new(&mut small, encoding).read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn letters_come_out_and_what_is_no_text_is_refused() {
        assert_eq!(read(b"G\xe9lules \xa7", Encoding::Latin1).unwrap(), "G\u{e9}lules \u{a7}");
        assert_eq!(read(b"\x80 12, \x93q\x94", Encoding::Windows1252).unwrap(), "\u{20ac} 12, \u{201c}q\u{201d}");
        assert_eq!(read(b"\x85", Encoding::Latin1).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read(b"\x81", Encoding::Windows1252).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn every_byte_of_latin_1_is_the_character_of_its_number() {
        let bytes: Vec<u8> = (0..=255).filter(|byte| !(0x80..=0x9F).contains(byte)).collect();
        let expected: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        assert_eq!(read(&bytes, Encoding::Latin1).unwrap(), expected);
    }
}
