//! Bait in columns and lines: delimited text in every dialect, fixed width, and JSON without a standard.

use crate::bait::{Bait, Patient, Words, canaries};
use serde_json::json;
use zegel_suite::canary::Canary;

/// Above the most that a row may have: 1 MiB.
const LONG: usize = 1_100_000;
/// Deeper than any reader follows.
const DEEP: usize = 400;

/// Columns, what they are and what becomes of them; and their places in fixed width.
const COLUMNS: [(&str, &str, [usize; 2]); 12] = [
    ("niss", "kind = \"ssin\"\naction = \"pseudonym\"\nrequired = true", [1, 11]),
    ("patient_no", "action = \"pseudonym\"\ndomain = \"hospital-patient\"\nscope = \"sender\"", [12, 29]),
    ("record_no", "action = \"one-way\"\ndomain = \"record\"", [30, 47]),
    ("ticket", "action = \"random\"", [48, 65]),
    ("case_no", "action = \"escrow\"\ndomain = \"case\"", [66, 83]),
    ("name", "action = \"drop\"", [84, 143]),
    ("note", "action = \"scrub-text\"", [144, 263]),
    ("value", "action = \"keep\"", [264, 283]),
    ("ward", "action = \"drop\"", [284, 303]),
    ("born", "kind = \"date\"\naction = \"generalise\"\nto = \"year\"", [304, 323]),
    ("admitted", "kind = \"date\"\naction = \"shift-dates\"\ndays = 60", [324, 343]),
    ("weight", "kind = \"number\"\naction = \"bucket\"\nwidth = 5", [344, 363]),
];

fn values(patient: &Patient) -> [&str; 12] {
    let Patient { niss, number, record, ticket, case, name, note, value, ward, born, admitted, weight, .. } = patient;
    [niss, number, record, ticket, case, name, note, value, ward, born, admitted, weight]
}

fn terms(decode_key: &str, more: &str, is_fixed: bool) -> String {
    let mut text = format!(
        "{more}direction = \"with-return\"\npatient = [\"niss\"]\nnames = [\"name\"]\ndecode_key = '''\n{decode_key}'''\n"
    );
    for (path, rest, [first, last]) in COLUMNS {
        let at = if is_fixed { format!("at = [{first}, {last}]\n") } else { String::new() };
        text.push_str(&format!("[[fields]]\npath = \"{path}\"\n{rest}\n{at}"));
    }
    text
}

fn bait(name: &str, format: Option<&'static str>, terms: String) -> Bait {
    let (name, canaries) = (format!("leak-{name}"), crate::bait::Canaries::default());
    // A project that names no format takes both.
    let project = if format.is_none() { "leak-no-format".to_owned() } else { name.clone() };
    // Each policy for bad rows has some of the tables.
    let leaves_rows_out = !["leak-csv-tab", "leak-ndjson"].contains(&name.as_str());
    let (good, bad, broken) = (Vec::new(), Vec::new(), Vec::new());
    Bait { name, project, format, terms, good, bad, broken, canaries, uncut: None, leaves_rows_out }
}

fn with_canaries(mut bait: Bait, patients: &[Patient], bad: &[Patient], sender: &[&str]) -> Bait {
    let of = bait.name.clone();
    bait.canaries.extend(canaries(&of, patients));
    let mut wrong = canaries(&format!("{of}, bad row"), bad);
    // A bad row of a batch goes nowhere.
    wrong.patients.append(&mut wrong.medical);
    bait.canaries.extend(wrong);
    bait.canaries
        .sender
        .extend(sender.iter().map(|word| Canary::new(&format!("{of}: a column of the sender's"), word)));
    bait
}

/// Delimited text: the dialect by its delimiter and encoding.
pub fn delimited(words: &mut Words, key: &str, delimiter: char, encoding: &str, format: Option<&'static str>) -> Bait {
    let name = match (delimiter, encoding) {
        (',', _) => "csv",
        (';', _) => "csv-semicolon-latin-1",
        ('\t', _) => "csv-tab",
        _ => "csv-bar-windows-1252",
    };
    let stated = if delimiter == '\t' { "tab".to_owned() } else { delimiter.to_string() };
    let text = match format {
        Some(_) => format!("text = {{ encoding = \"{encoding}\", delimiter = \"{stated}\" }}\n"),
        None => String::new(),
    };
    let mut bait = bait(name, format, terms(key, &text, false));
    let (patients, bad) = (words.patients(), words.spoilt());
    let (column, cell) = (words.word("Column"), words.word("Cell"));
    let header: Vec<&str> = COLUMNS.iter().map(|(path, _, _)| *path).chain([column.as_str()]).collect();
    let line = |patient: &Patient| {
        let quoted = values(patient).into_iter().chain([cell.as_str()]);
        quoted
            .map(|value| format!("\"{}\"", value.replace('"', "\"\"")))
            .collect::<Vec<_>>()
            .join(&delimiter.to_string())
            + "\r\n"
    };
    let head = header.join(&delimiter.to_string()) + "\r\n";
    let rows: String = patients.iter().map(line).collect();
    let is_utf8 = encoding == "utf-8";
    let written = |text: String| match is_utf8 {
        true => text.into_bytes(),
        false => text.chars().map(|letter| u8::try_from(u32::from(letter)).unwrap()).collect(),
    };
    bait.good = written(format!("{head}{rows}"));
    bait.bad = written(format!("{head}{rows}{}", line(&bad)));
    let unclosed = line(&bad).replacen("\",", "", 1);
    bait.broken = vec![
        ("no header", written(rows.clone()), true),
        ("a quote that is not closed", written(format!("{head}{rows}\"{unclosed}")), false),
        ("a row too long", written(format!("{head}{rows}{}{}", line(&bad).trim_end(), "x".repeat(LONG))), false),
        ("a short row", written(format!("{head}{rows}{}{delimiter}{}\r\n", bad.niss, bad.name)), false),
        ("a name in the header", written(format!("{}{delimiter}{head}{rows}", bad.name)), false),
    ];
    if is_utf8 {
        let row = [line(&bad).trim_end().as_bytes(), b"\xff\xc3(\r\n"].concat();
        bait.broken.push(("not UTF-8", [head.as_bytes(), &row].concat(), false));
    }
    bait.break_like_any(
        &patients[0].niss,
        format!("[{{\"niss\":\"{}\",\"name\":\"{}\"}}]", bad.niss, bad.name).as_bytes(),
    );
    with_canaries(bait, &patients, &[bad], &[&column, &cell])
}

/// Text in which each column has its place.
pub fn fixed_width(words: &mut Words, key: &str) -> Bait {
    let mut bait = bait("fixed-width", Some("fixed-width"), terms(key, "", true));
    let (patients, bad, beyond) = (words.patients(), words.spoilt(), words.word("Beyond"));
    let line = |patient: &Patient| {
        let mut line = String::new();
        for ((_, _, [first, last]), value) in COLUMNS.iter().zip(values(patient)) {
            assert!(value.chars().count() <= last - first + 1, "{value} does not fit its column");
            line.push_str(&format!("{value:<width$}", width = last - first + 1));
        }
        line + &beyond + "\n"
    };
    let rows: String = patients.iter().map(line).collect();
    let bad_row = line(&bad);
    bait.good = rows.clone().into_bytes();
    bait.bad = format!("{rows}{bad_row}").into_bytes();
    bait.broken = vec![
        ("a row too long", format!("{rows}{}{}\n", bad_row.trim_end(), "x".repeat(LONG)).into_bytes(), false),
        ("not UTF-8", [bad_row.trim_end().as_bytes(), b"\xff\xc3(\n"].concat(), false),
    ];
    let other = format!("{{\"niss\":\"{}\",\"name\":\"{}\"}}\n", bad.niss, bad.name);
    bait.break_like_any(&patients[0].niss, other.as_bytes());
    for (_, _, must_refuse) in &mut bait.broken {
        // Any text has columns: its rows are bad, and are left out where the project says so.
        *must_refuse = false;
    }
    with_canaries(bait, &patients, &[bad], &[&beyond])
}

/// JSON: a line each, an array, or as lines of a project that states no format.
pub fn json(words: &mut Words, key: &str, format: Option<&'static str>) -> Bait {
    let name = format.unwrap_or("lines-of-no-format");
    let mut bait = bait(name, format, terms(key, "", false));
    let (patients, bad) = (words.patients(), words.spoilt());
    let (member, inner) = (words.word("Member"), words.word("Inner"));
    let object = |patient: &Patient| {
        let columns = COLUMNS.iter().map(|(path, _, _)| (*path).to_owned());
        let mut object: serde_json::Map<_, _> = columns.zip(values(patient).map(|value| json!(value))).collect();
        object.insert(member.clone(), json!({ inner.clone(): [patient.name] }));
        serde_json::Value::from(object).to_string()
    };
    let objects: Vec<String> = patients.iter().map(object).collect();
    let batch = |objects: &[String]| match format {
        Some("json") => format!("[{}]", objects.join(",\n")).into_bytes(),
        _ => format!("{}\n", objects.join("\n")).into_bytes(),
    };
    let and = |more: String| batch(&[&objects[..], &[more]].concat());
    bait.good = batch(&objects);
    bait.bad = and(object(&bad));
    let deep = format!("{}\"{}\"{}", "[".repeat(DEEP), bad.name, "]".repeat(DEEP));
    let with_name = |text: String| object(&bad).replace(&serde_json::to_string(&bad.name).unwrap(), &text);
    let not_utf8 = {
        let mut bytes = and(object(&bad).replace(&bad.value, "@@@@"));
        let at = bytes.windows(4).position(|window| window == b"@@@@").unwrap();
        bytes[at] = 0xff;
        bytes
    };
    bait.broken = vec![
        ("a row too long", and(with_name(format!("\"{}{}\"", bad.name, "x".repeat(LONG)))), false),
        ("too deep", and(with_name(deep)), false),
        ("a key twice", and(object(&bad).replacen('{', &format!("{{\"niss\":\"{}\",", bad.name), 1)), false),
        ("no object", and(serde_json::to_string(&bad.name).unwrap()), false),
        ("not UTF-8", not_utf8, false),
    ];
    let other = format!("<people><p niss=\"{}\">{}</p></people>", bad.niss, bad.name.replace('&', "&amp;"));
    bait.break_like_any(&patients[0].niss, other.as_bytes());
    if format == Some("ndjson") {
        // Lines that are no JSON are bad rows, and are left out where the project says so.
        bait.broken.iter_mut().for_each(|(_, _, must_refuse)| *must_refuse = false);
    }
    with_canaries(bait, &patients, &[bad], &[&member, &inner])
}
