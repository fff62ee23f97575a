//! JSON read value by value from a stream, each as it stands, so that a document of any size needs the memory of one value.
//!
//! It finds where values end and does not check them: who takes a value reads it with a parser. Bound: [`VALUE_MAX`].

use crate::transform::ROW_MAX;
use std::io::{self, BufRead};

/// The longest value: a little more than a row, so that a row that is only a little too long is one bad row.
const VALUE_MAX: usize = ROW_MAX + (64 << 10);

/// Reads values.
pub(crate) struct JsonStream<'i> {
    input: &'i mut dyn BufRead,
}

impl<'i> JsonStream<'i> {
    pub(crate) fn new(input: &'i mut dyn BufRead) -> JsonStream<'i> {
        JsonStream { input }
    }

    /// The next byte that is not white space, which stays.
    pub(crate) fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return Ok(None);
            }
            let blank = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let found = buffer.get(blank).copied();
            self.input.consume(blank);
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// Takes the next byte that is not white space, if it is this one.
    pub(crate) fn take(&mut self, byte: u8) -> io::Result<bool> {
        let is_so = self.peek()? == Some(byte);
        self.input.consume(usize::from(is_so));
        Ok(is_so)
    }

    /// Reads a value into `value`. Errors: `InvalidData` where none stands, `FileTooLarge` over the bound.
    pub(crate) fn value(&mut self, value: &mut Vec<u8>) -> io::Result<()> {
        value.clear();
        let first = self.peek()?.ok_or(io::ErrorKind::InvalidData)?;
        let mut state = Scan { depth: 0, is_string: false, is_escaped: false, is_scalar: !b"\"{[".contains(&first) };
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                // A number may end with the input; anything else is cut short.
                return if state.is_scalar && !value.is_empty() {
                    Ok(())
                } else {
                    Err(io::ErrorKind::InvalidData.into())
                };
            }
            let end = buffer.iter().position(|byte| state.ends(*byte));
            // The byte that ends a scalar stands behind it.
            let count = end.map_or(buffer.len(), |place| place + usize::from(!state.is_scalar));
            value.extend_from_slice(&buffer[..count]);
            self.input.consume(count);
            if value.len() > VALUE_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            if end.is_some() {
                return if value.is_empty() { Err(io::ErrorKind::InvalidData.into()) } else { Ok(()) };
            }
        }
    }
}

/// Where in a value the reading stands.
struct Scan {
    depth: usize,
    is_string: bool,
    is_escaped: bool,
    is_scalar: bool,
}

impl Scan {
    fn ends(&mut self, byte: u8) -> bool {
        if self.is_scalar {
            return byte.is_ascii_whitespace() || b",]}:".contains(&byte);
        }
        if self.is_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => {
                    self.is_string = false;
                    return self.depth == 0;
                }
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.is_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    fn values(text: &str, chunk: usize) -> Vec<String> {
        let mut input = io::BufReader::with_capacity(chunk, text.as_bytes());
        let mut stream = JsonStream::new(&mut input);
        let (mut found, mut value) = (Vec::new(), Vec::new());
        while stream.peek().unwrap().is_some() {
            stream.value(&mut value).unwrap();
            found.push(String::from_utf8(value.clone()).unwrap());
            stream.take(b',').unwrap();
        }
        found
    }

    #[test]
    fn values_are_found_as_they_stand() {
        let text = r#" {"a":[1,{"b":"}]\"{"}]} , "x,\\" ,12.5, [ ] ,true"#;
        assert_eq!(values(text, 3), [r#"{"a":[1,{"b":"}]\"{"}]}"#, r#""x,\\""#, "12.5", "[ ]", "true"]);
    }

    #[test]
    fn what_does_not_end_is_an_error_and_costs_no_memory() {
        for text in ["{\"a\":", "\"abc", "[1,2", ","] {
            let mut input = text.as_bytes();
            let failed = JsonStream::new(&mut input).value(&mut Vec::new()).unwrap_err();
            assert_eq!(failed.kind(), io::ErrorKind::InvalidData, "{text}");
        }
        let mut endless = io::BufReader::new(io::Read::chain(&b"\""[..], io::repeat(b'x')));
        let mut value = Vec::new();
        assert_eq!(JsonStream::new(&mut endless).value(&mut value).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(value.len() < VALUE_MAX + (64 << 10));
    }

    proptest! {
        #[test]
        fn any_json_is_cut_where_a_parser_would_cut_it(texts in proptest::collection::vec("\\PC{0,12}", 1..6), chunk in 1usize..9) {
            let all: Vec<String> = texts.iter().map(|text| serde_json::json!({ "t": [text, { text: 1 }] }).to_string()).collect();
            prop_assert_eq!(values(&all.join(" "), chunk), all);
        }
    }
}
