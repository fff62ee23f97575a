//! NDJSON batches: one JSON object a line. See the module `json` for what becomes of an object.

use crate::json::Json;
use crate::lines::next_line;
use crate::refusal::TransformError;
use crate::row_number::Carrier;
use crate::run::Run;
use std::io::BufRead;

/// Puts every row of an NDJSON batch through.
pub(crate) fn run(run: &mut Run<'_>, input: &mut dyn BufRead) -> Result<(), TransformError> {
    run.carrier = Carrier::Member;
    let (mut line, mut out) = (Vec::new(), Vec::new());
    while let Some(is_whole) = next_line(input, &mut line)? {
        if is_whole && line.trim_ascii().is_empty() {
            continue;
        }
        run.begin_row();
        out.clear();
        match std::str::from_utf8(&line) {
            _ if !is_whole => run.report.bad("", "ZGL-ROW-LENGTH"),
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
