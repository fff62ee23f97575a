//! Lines of bounded length, for the forms whose rows end with one.

use crate::transform::ROW_MAX;
use std::io::{self, BufRead};

/// Reads one line without its end; none at the end. False when the line is over [`ROW_MAX`]: the rest of it is skipped.
pub(crate) fn next_line(input: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let mut length = 0usize;
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok((length > 0).then_some(length <= ROW_MAX));
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        if length + part.len() <= ROW_MAX {
            line.extend_from_slice(part);
        }
        length += part.len();
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            return Ok(Some(length <= ROW_MAX));
        }
    }
}
