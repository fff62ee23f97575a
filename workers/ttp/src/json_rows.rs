//! JSON batches that are not written line by line: an array of objects, or objects one after another. See the module `json` for
//! what becomes of an object; what goes out is NDJSON.
//!
//! Memory (I7): one object.
//! Failure: what is not well-formed as a whole is refused; an object that breaks a rule is a bad row.

use crate::json::Json;
use crate::json_stream::JsonStream;
use crate::refusal::{TransformError, refusal};
use crate::row_number::Carrier;
use crate::run::Run;
use std::io::{self, BufRead};

/// Puts every object through.
pub(crate) fn run(run: &mut Run<'_>, input: &mut dyn BufRead) -> Result<(), TransformError> {
    run.carrier = Carrier::Member;
    let mut stream = JsonStream::new(input);
    let (mut value, mut out) = (Vec::new(), Vec::new());
    let failed = |run: &mut Run<'_>, error: io::Error| match error.kind() {
        io::ErrorKind::InvalidData => {
            let text = format!("the batch is not well-formed JSON after object {}", run.report.rows_in);
            refusal("ZGL-TTP-FORMAT", text).into()
        }
        io::ErrorKind::FileTooLarge => {
            run.report.rows_in += 1;
            run.report.bad("", "ZGL-ROW-LENGTH");
            std::mem::take(&mut run.report).refusal().into()
        }
        _ => TransformError::Io(error),
    };
    let is_array = stream.take(b'[')?;
    while next(&mut stream, is_array, run.report.rows_in == 0, &mut value).map_err(|error| failed(run, error))? {
        run.begin_row();
        out.clear();
        match std::str::from_utf8(&value) {
            Err(_) => run.report.bad("", "ZGL-ROW-UTF8"),
            Ok(text) => {
                let text = &*run.without_member(text);
                if !(Json { run: &mut *run, is_fhir: false }).row(text, &mut out)? {
                    out.extend_from_slice(b"{}");
                }
            }
        }
        out.push(b'\n');
        run.end_row(&out)?;
    }
    Ok(())
}

/// Reads the next object; false at the end of the batch.
fn next(stream: &mut JsonStream<'_>, is_array: bool, is_first: bool, value: &mut Vec<u8>) -> io::Result<bool> {
    if !is_array && stream.peek()?.is_none() {
        return Ok(false);
    }
    if is_array && stream.take(b']')? {
        // Nothing stands behind the array.
        return stream.peek()?.map_or(Ok(false), |_| Err(io::ErrorKind::InvalidData.into()));
    }
    if is_array && !is_first && !stream.take(b',')? {
        return Err(io::ErrorKind::InvalidData.into());
    }
    stream.value(value)?;
    Ok(true)
}
