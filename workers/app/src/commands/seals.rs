//! `zegel seals`: items of a file, coded and decoded line by line.
//!
//! A line whose item is in error prints `ERROR` and the code, so that lines of answer and question correspond; the exit status is
//! 3 then.

use super::{Place, address, read_text};
use crate::cli::{Call, Seals};
use crate::client::{escape, list, number, text};
use crate::failed::Failed;
use crate::term::{Report, row, table};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// Items of one call.
const ITEMS: usize = 1_000;

/// Encodes, decodes, or shows the log.
///
/// # Errors
/// The platform refuses or is away, or the file cannot be read.
pub fn run(place: &Place, wanted: &Seals) -> Result<Report, Failed> {
    match wanted {
        Seals::Encode { call, algorithm } => {
            let item = |id: String, line: &str| json!({ "Id": id, "AlgorithmCode": algorithm, "InputData": line });
            code(place, call, ("encode", "OriginalData"), ("EncodedData", "Value"), item, |value| {
                digits(algorithm, value)
            })
        }
        Seals::Decode { call, digits } => {
            let item = |id: String, line: &str| {
                let value = if *digits { BASE64_STANDARD.encode(line) } else { line.to_owned() };
                json!({ "Id": id, "Value": value })
            };
            code(place, call, ("decode", "EncodedData"), ("DecodedData", "OutputData"), item, str::to_owned)
        }
        Seals::Log { server, application } => {
            let client = place.folder()?.operator(server)?;
            let page = client.get(&format!("/v1/seals/{}/log", escape(application)), &[])?;
            let mut rows = vec![row(["AT", "CALLER", "OPERATION", "ITEMS", "ERRORS", "ANSWER"])];
            for line in list(&page, "log") {
                let at = line.get("at").and_then(Value::as_i64).and_then(chrono::DateTime::from_timestamp_millis);
                let at = at.map(|at| at.format("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default();
                let caller = address(text(line, "caller")).map(|caller| crate::folder::shown(&caller))?;
                let (items, errors) = (number(line, "items").to_string(), number(line, "errors").to_string());
                let answer = line.pointer("/answer/is").and_then(Value::as_str).unwrap_or_default();
                rows.push(row([&at, &caller, text(line, "operation"), &items, &errors, answer]));
            }
            let told = if rows.len() == 1 {
                format!("nothing was decoded or refused under the name {application}")
            } else {
                table(&rows)
            };
            Ok(Report::new(page, told))
        }
    }
}

/// A value as it is printed: FF1's as the digits that it is, others in base64.
fn digits(algorithm: &str, value: &str) -> String {
    let plain = BASE64_STANDARD.decode(value).ok().filter(|_| algorithm == "FF1");
    plain.and_then(|plain| String::from_utf8(plain).ok()).unwrap_or_else(|| value.to_owned())
}

fn code(
    place: &Place,
    call: &Call,
    (operation, items): (&str, &str),
    (answer, value): (&str, &str),
    item: impl Fn(String, &str) -> Value,
    shown: impl Fn(&str) -> String,
) -> Result<Report, Failed> {
    let client = place.folder()?.owner(&call.server, &address(&call.caller)?)?;
    let content = read_text(&call.file)?;
    let lines: Vec<&str> = content.lines().collect();
    let (mut told, mut values, mut errors) = (String::new(), Vec::new(), 0);
    for part in lines.chunks(ITEMS) {
        let coded: Vec<Value> = part.iter().enumerate().map(|(n, line)| item(format!("i{n}"), line)).collect();
        let body = json!({ "ApplicationName": call.application, items: coded });
        let response = client.post(&format!("/v1/seals/{operation}"), &body)?;
        for one in list(&response, "Response") {
            match one.get(answer) {
                Some(good) => told.push_str(&format!("{}\n", shown(text(good, value)))),
                None => {
                    errors += 1;
                    let code = one.pointer("/Error/ErrorCode").and_then(Value::as_str).unwrap_or_default();
                    told.push_str(&format!("ERROR {code}\n"));
                }
            }
            values.push(one.clone());
        }
    }
    let status = if errors > 0 { 3 } else { 0 };
    Ok(Report { json: json!({ "Response": values, "errors": errors }), text: told, status })
}
