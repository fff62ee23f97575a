//! What the speed table measures: every format with its document and how a row is written in it, and every action on CSV.

use super::bare::{
    bare_csv, bare_fixed, bare_hl7, bare_json, bare_xml, parse_csv, parse_hl7, parse_json, parse_json_lines,
    parse_lines, parse_xml,
};
use anyhow::Result;
use std::fmt::Write as _;
use std::path::Path;
use zegel_crypto::pseudonym::Reversible;

/// A format with its document, how a row is written in it, and its bare loop.
pub(super) struct Form {
    pub(super) name: &'static str,
    pub(super) project: &'static str,
    pub(super) head: &'static str,
    pub(super) row: fn(&Patient, &mut String),
    /// Between two rows.
    pub(super) between: &'static str,
    pub(super) tail: &'static str,
    pub(super) parse: fn(&Path) -> Result<u64>,
    pub(super) bare: fn(&Path, &Path, &mut Reversible) -> Result<()>,
}

/// What a row is about.
pub(super) struct Patient {
    number: u64,
    pub(super) niss: String,
    born: String,
}

impl Patient {
    pub(super) fn new(number: u64) -> Patient {
        let (day, month) = (number % 28 + 1, number / 28 % 12 + 1);
        let stem = (85 * 10_000 + month * 100 + day) * 1_000 + number / 336 % 997 + 1;
        let niss = format!("{stem:09}{:02}", 97 - stem % 97);
        Patient { number, niss, born: format!("1985-{month:02}-{day:02}") }
    }
}

/// The column that every form makes tokens of.
pub(super) const NISS: &str = "[[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\n";

/// Every format.
pub(super) const FORMS: [Form; 6] = [
    Form {
        name: "csv",
        project: "patient = [\"niss\"]\nnames = [\"name\"]\nNISS[[fields]]\npath = \"born\"\nkind = \"date\"\naction = \"keep\"\n\
                  [[fields]]\npath = \"name\"\naction = \"drop\"\n[[fields]]\npath = \"value\"\naction = \"keep\"\n[[fields]]\npath = \"note\"\naction = \"keep\"\n",
        head: "niss,born,name,value,note\n",
        row: |p, out| {
            let _ = writeln!(
                out,
                "{},{},Janssens,{}.2,seen at the ward of internal medicine and tests as agreed",
                p.niss,
                p.born,
                p.number % 90
            );
        },
        between: "",
        tail: "",
        parse: parse_csv,
        bare: bare_csv,
    },
    Form {
        name: "fixed-width",
        project: "format = \"fixed-width\"\n[[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\nat = [1, 11]\n\
                  [[fields]]\npath = \"born\"\nkind = \"date\"\naction = \"keep\"\nat = [12, 21]\n[[fields]]\npath = \"note\"\naction = \"keep\"\nat = [22, 90]\n",
        head: "",
        row: |p, out| {
            let _ = writeln!(
                out,
                "{}{}seen at the ward of internal medicine tests as agreed {:>14}",
                p.niss, p.born, p.number
            );
        },
        between: "",
        tail: "",
        parse: parse_lines,
        bare: bare_fixed,
    },
    Form {
        name: "ndjson",
        project: "NISS[[fields]]\npath = \"born\"\nkind = \"date\"\naction = \"keep\"\n[[fields]]\npath = \"result.value\"\naction = \"keep\"\n\
                  [[fields]]\npath = \"result.unit\"\naction = \"keep\"\n[[fields]]\npath = \"note\"\naction = \"keep\"\n",
        head: "",
        row: |p, out| {
            let _ = writeln!(
                out,
                "{{\"niss\":\"{}\",\"born\":\"{}\",\"result\":{{\"value\":{}.2,\"unit\":\"mmol/L\"}},\"note\":\"seen at the ward\"}}",
                p.niss,
                p.born,
                p.number % 90
            );
        },
        between: "",
        tail: "",
        parse: parse_json_lines,
        bare: bare_json,
    },
    Form {
        name: "fhir",
        project: "format = \"fhir\"\n[[fields]]\npath = \"*.id\"\nkind = \"fhir-id\"\naction = \"pseudonym\"\n[[fields]]\npath = \"**.reference\"\nkind = \"fhir-reference\"\n\
                  action = \"pseudonym\"\n[[fields]]\npath = \"**.identifier.value\"\nkind = \"ssin\"\naction = \"pseudonym\"\n[[fields]]\npath = \"**\"\naction = \"keep\"\n",
        head: "{\"resourceType\":\"Bundle\",\"type\":\"collection\",\"entry\":[\n",
        row: |p, out| {
            let _ = write!(
                out,
                "{{\"resource\":{{\"resourceType\":\"Observation\",\"id\":\"o{0}\",\"status\":\"final\",\"subject\":{{\"reference\":\"Patient/p{1}\",\"identifier\":{{\"system\":\"urn:ssin\",\"value\":\"{2}\"}}}},\
                 \"code\":{{\"coding\":[{{\"system\":\"http://loinc.org\",\"code\":\"4548-4\"}}]}},\"valueQuantity\":{{\"value\":{3}.2,\"unit\":\"%\"}}}}}}",
                p.number,
                p.number % 1_000,
                p.niss,
                p.number % 90
            );
        },
        between: ",\n",
        tail: "\n]}\n",
        parse: parse_json,
        bare: bare_json,
    },
    Form {
        name: "kmehr",
        project: "format = \"kmehr\"\n[[fields]]\npath = \"folder.patient.id\"\nkind = \"ssin\"\naction = \"pseudonym\"\n[[fields]]\npath = \"header\"\naction = \"drop\"\n[[fields]]\npath = \"**\"\naction = \"keep\"\n",
        head: "<kmehrmessage xmlns=\"http://www.ehealth.fgov.be/standards/kmehr/schema/v1\"><header/>\n",
        row: |p, out| {
            let _ = writeln!(
                out,
                "<folder><id S=\"ID-KMEHR\" SV=\"1.0\">{}</id><patient><id S=\"INSS\" SV=\"1.0\">{}</id><birthdate><date>{}</date></birthdate></patient>\
                 <transaction><cd S=\"CD-TRANSACTION\" SV=\"1.0\">labresult</cd><item><content><decimal>7.2</decimal></content></item></transaction></folder>",
                p.number, p.niss, p.born
            );
        },
        between: "",
        tail: "</kmehrmessage>\n",
        parse: parse_xml,
        bare: bare_xml,
    },
    Form {
        name: "hl7v2",
        project: "format = \"hl7v2\"\nunlisted = \"drop\"\n[[fields]]\npath = \"PID.3.1\"\nkind = \"ssin\"\naction = \"pseudonym\"\n[[fields]]\npath = \"PID.8\"\naction = \"keep\"\n\
                  [[fields]]\npath = \"MSH.9.**\"\naction = \"keep\"\n[[fields]]\npath = \"OBX.**\"\naction = \"keep\"\n",
        head: "",
        row: |p, out| {
            let _ = write!(
                out,
                "MSH|^~\\&|LAB|H|R|R|20240301||ORU^R01|{0}|P|2.5\rPID|1||{1}^^^^NN||Janssens^Jan||19850615|M\rOBX|1|NM|4548-4^HbA1c^LN||{2}.2|%\r",
                p.number,
                p.niss,
                p.number % 90
            );
        },
        between: "",
        tail: "",
        parse: parse_hl7,
        bare: bare_hl7,
    },
];

/// What an action makes of the columns of the CSV form.
pub(super) const ACTIONS: [(&str, &str); 11] = [
    ("keep", "[[fields]]\npath = \"niss\"\naction = \"keep\"\n"),
    ("pseudonym", NISS),
    (
        "pseudonym as ssin (FF1)",
        "[[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\nformat = \"ssin\"\nname = \"other\"\nmay_be_real = true\n",
    ),
    ("one-way", "[[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"one-way\"\n"),
    ("random", "[[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"random\"\n"),
    ("generalise", "NISS|born|action = \"generalise\"\nto = \"year\"\n"),
    ("shift-dates", "NISS|born|action = \"shift-dates\"\n"),
    ("bucket", "NISS|value|kind = \"number\"\naction = \"bucket\"\nwidth = 10\n"),
    ("scrub-text", "NISS|note|action = \"scrub-text\"\n"),
    ("replace", "NISS|note|action = \"replace\"\nwith = \"x\"\n"),
    ("small cells", "small_cells = { quasi = [\"born\"] }\nNISS"),
];

/// The project of the CSV form with another action.
pub(super) fn csv_with(action: &str) -> String {
    let mut parts = action.split('|');
    let niss = parts.next().unwrap_or_default().replace("NISS", NISS);
    let changed = parts.next().zip(parts.next());
    let field = |path: &str, usual: &str| {
        let keys = changed.filter(|(name, _)| *name == path).map_or(usual, |(_, keys)| keys);
        let kind = if path == "born" { "kind = \"date\"\n" } else { "" };
        format!("[[fields]]\npath = \"{path}\"\n{kind}{keys}")
    };
    let keep = "action = \"keep\"\n";
    format!(
        "patient = [\"niss\"]\nnames = [\"name\"]\n{niss}{}[[fields]]\npath = \"name\"\naction = \"drop\"\n{}{}",
        field("born", keep),
        field("value", keep),
        field("note", keep)
    )
}
