//! There and back in an exchange, for every form: what was sent equals what comes back in every `pseudonym` and `keep` field, with what
//! the recipient added, whatever order the rows come back in.

use crate::{HEAD, project, sender};
use proptest::prelude::*;
use schemas::ids::Ssin;
use schemas::{MessageId, Sha256};
use std::sync::Arc;
use zegel_crypto::hpke::OpenKey;
use zegel_ttp::small_cells::NoLedger;
use zegel_ttp::{
    CompiledProject, Extras, Issued, ProjectDocument, TransformError, restore_exchange, transform_exchange,
};

const HANDLE: MessageId = MessageId([4; 16]);

/// Hands over; what is delivered, and what is remembered of it.
fn there(project: &CompiledProject, batch: &str) -> (String, Issued) {
    let mut out = Vec::new();
    let mut random = random();
    let extras = Extras { ledger: &mut NoLedger, handle: Some(HANDLE), sealed: &mut std::io::sink() };
    let input = &mut batch.as_bytes();
    let summary = transform_exchange(project, &sender(), input, &mut out, None, &mut random, extras);
    let summary = summary.unwrap_or_else(|error| panic!("{error:?} for {batch}"));
    let outer = summary.outer.unwrap_or(Sha256([0; 32]));
    (String::from_utf8(out).unwrap(), Issued { handle: HANDLE, rows: summary.rows_in, outer })
}

fn back(project: &CompiledProject, issued: &Issued, batch: &str) -> Result<String, TransformError> {
    let mut out = Vec::new();
    let mut random = random();
    // As it is handed over: with line ends after the last row.
    let batch = format!("{batch}\n\n\n");
    restore_exchange(project, &sender(), issued, &mut batch.as_bytes(), &mut out, &mut random)?;
    Ok(String::from_utf8(out).unwrap())
}

fn code(result: Result<String, TransformError>) -> String {
    match result {
        Err(TransformError::Refused(reason)) => reason.rows.first().map_or(reason.code.clone(), |row| row.code.clone()),
        other => panic!("expected a refusal: {other:?}"),
    }
}

fn random() -> impl FnMut(&mut [u8]) {
    let mut state = 1u64;
    move |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = state.to_be_bytes()[0];
        }
    }
}

/// One form: its document, how a row is written, what stands around and between rows, and how a recipient adds to one.
struct Form {
    name: &'static str,
    head: &'static str,
    fields: &'static str,
    added: &'static str,
    /// A row about this patient, with this text.
    row: fn(&str, &str) -> String,
    around: [&'static str; 3],
    /// Where the recipient adds what, in each row.
    enrich: (&'static str, &'static str),
    /// The row as it comes back, enriched.
    returned: fn(&str, &str) -> String,
    /// What stands around rows when they come back.
    back_around: [&'static str; 3],
}

const TABLE: &str = "[[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\n[[fields]]\npath = \"text\"\naction = \"keep\"\n";
const KMEHR_OPEN: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<kmehrmessage xmlns=\"http://www.ehealth.fgov.be/standards/kmehr/schema/v1\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">";

fn forms() -> Vec<Form> {
    let table = ["niss,text\n", "", ""];
    let table_back = ["niss,text,score\n", "", ""];
    vec![
        Form {
            name: "csv",
            head: "format = \"csv\"",
            fields: TABLE,
            added: "score",
            row: |niss, text| format!("{niss},{text}\n"),
            around: table,
            enrich: ("", ""),
            returned: |niss, text| format!("{niss},{text},0.5\n"),
            back_around: table_back,
        },
        Form {
            name: "fixed-width",
            head: "format = \"fixed-width\"",
            fields: "[[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\nat = [1, 11]\n[[fields]]\npath = \"text\"\naction = \"keep\"\nat = [12, 40]\n",
            added: "score",
            row: |niss, text| format!("{niss}{text}\n"),
            around: ["", "", ""],
            enrich: ("", ""),
            returned: |niss, text| format!("{niss},{text},0.5\n"),
            back_around: table_back,
        },
        Form {
            name: "ndjson",
            head: "format = \"ndjson\"",
            fields: TABLE,
            added: "model.score",
            row: |niss, text| format!("{{\"niss\":\"{niss}\",\"text\":\"{text}\"}}\n"),
            around: ["", "", ""],
            enrich: ("{", "{\"model\":{\"score\":0.5},"),
            returned: |niss, text| format!("{{\"model\":{{\"score\":0.5}},\"niss\":\"{niss}\",\"text\":\"{text}\"}}\n"),
            back_around: ["", "", ""],
        },
        Form {
            name: "json array",
            head: "format = \"json\"",
            fields: TABLE,
            added: "model.score",
            row: |niss, text| format!("{{\"niss\":\"{niss}\",\"text\":\"{text}\"}}"),
            around: ["[\n", " ,\n", "\n]\n"],
            enrich: ("{", "{\"model\":{\"score\":0.5},"),
            returned: |niss, text| format!("{{\"model\":{{\"score\":0.5}},\"niss\":\"{niss}\",\"text\":\"{text}\"}}\n"),
            back_around: ["", "", ""],
        },
        Form {
            name: "fhir",
            head: "format = \"fhir\"\nunlisted = \"drop\"",
            fields: "[[fields]]\npath = \"Patient.id\"\nkind = \"fhir-id\"\naction = \"pseudonym\"\n[[fields]]\npath = \"Patient.identifier.value\"\nkind = \"ssin\"\naction = \"pseudonym\"\n[[fields]]\npath = \"Patient.language\"\naction = \"keep\"\n",
            added: "Patient.extension.**",
            row: |niss, text| {
                format!(
                    "{{\"id\":\"{niss}\",\"identifier\":[{{\"value\":\"{niss}\"}}],\"language\":\"{text}\",\"resourceType\":\"Patient\"}}\n"
                )
            },
            around: ["", "", ""],
            enrich: ("{\"id\":", "{\"extension\":[{\"url\":\"urn:x\",\"valueDecimal\":0.50}],\"id\":"),
            returned: |niss, text| {
                format!(
                    "{{\"extension\":[{{\"url\":\"urn:x\",\"valueDecimal\":0.50}}],\"id\":\"{niss}\",\"identifier\":[{{\"value\":\"{niss}\"}}],\"language\":\"{text}\",\"resourceType\":\"Patient\"}}\n"
                )
            },
            back_around: ["", "", ""],
        },
        Form {
            name: "fhir bundle",
            head: "format = \"fhir\"\nunlisted = \"drop\"",
            fields: "[[fields]]\npath = \"Bundle.id\"\nkind = \"fhir-id\"\naction = \"pseudonym\"\n[[fields]]\npath = \"**.reference\"\nkind = \"fhir-reference\"\naction = \"pseudonym\"\n[[fields]]\npath = \"Observation.status\"\naction = \"keep\"\n",
            added: "Observation.interpretation.text",
            row: |niss, text| {
                format!(
                    "{{\"resource\":{{\"resourceType\":\"Observation\",\"status\":\"{text}\",\"subject\":{{\"reference\":\"Patient/{niss}\"}}}}}}"
                )
            },
            around: ["{\"resourceType\":\"Bundle\",\"entry\":[\n", ",\n", "\n],\"id\":\"b1\"}\n"],
            enrich: (
                "{\"resourceType\":\"Observation\",",
                "{\"interpretation\":{\"text\":\"high\"},\"resourceType\":\"Observation\",",
            ),
            returned: |niss, text| {
                format!(
                    "{{\"resource\":{{\"interpretation\":{{\"text\":\"high\"}},\"resourceType\":\"Observation\",\"status\":\"{text}\",\"subject\":{{\"reference\":\"Patient/{niss}\"}}}}}}"
                )
            },
            back_around: ["{\"resourceType\":\"Bundle\",\"entry\":[\n", ",\n", "\n],\"id\":\"b1\"}\n"],
        },
        Form {
            name: "kmehr",
            head: "format = \"kmehr\"",
            fields: "[[fields]]\npath = \"header.id\"\naction = \"pseudonym\"\ndomain = \"message\"\n[[fields]]\npath = \"folder.id\"\naction = \"keep\"\n[[fields]]\npath = \"folder.patient.id\"\nkind = \"ssin\"\naction = \"pseudonym\"\n[[fields]]\npath = \"folder.transaction.text\"\naction = \"keep\"\n",
            added: "folder.transaction.score",
            row: |niss, text| {
                format!(
                    "<folder><id S=\"ID-KMEHR\" SV=\"1.0\">1</id><patient><id S=\"INSS\" SV=\"1.0\">{niss}</id></patient><transaction><text L=\"nl\">{text}</text></transaction></folder>"
                )
            },
            around: [KMEHR_OPEN, "", "</kmehrmessage>\n"],
            enrich: ("</transaction>", "<score>0.5</score></transaction>"),
            returned: |niss, text| {
                format!(
                    "<folder><id S=\"ID-KMEHR\" SV=\"1.0\">1</id><patient><id S=\"INSS\" SV=\"1.0\">{niss}</id></patient><transaction><text L=\"nl\">{text}</text><score>0.5</score></transaction></folder>"
                )
            },
            back_around: [KMEHR_OPEN, "", "</kmehrmessage>\n"],
        },
        Form {
            name: "xml",
            head: "format = \"xml\"\nrecord = \"all.one\"",
            fields: "[[fields]]\npath = \"all.one.niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\n[[fields]]\npath = \"all.one.text\"\naction = \"keep\"\n",
            added: "all.one.score",
            row: |niss, text| format!("<one><niss>{niss}</niss><text>{text}</text></one>"),
            around: ["<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<all>", "", "</all>\n"],
            enrich: ("</one>", "<score>0.5</score></one>"),
            returned: |niss, text| format!("<one><niss>{niss}</niss><text>{text}</text><score>0.5</score></one>"),
            back_around: ["<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<all>", "", "</all>\n"],
        },
        Form {
            name: "hl7v2",
            head: "format = \"hl7v2\"",
            fields: "[[fields]]\npath = \"MSH.12\"\naction = \"keep\"\n[[fields]]\npath = \"PID.3\"\nkind = \"ssin\"\naction = \"pseudonym\"\n[[fields]]\npath = \"OBX.5\"\naction = \"keep\"\n",
            added: "ZSC.1",
            row: |niss, text| format!("MSH|^~\\&||||||||||2.5\rPID|||{niss}\rOBX|||||{text}\r"),
            around: ["", "", ""],
            enrich: ("\rOBX", "\rZSC|0.5\rOBX"),
            returned: |niss, text| format!("MSH|^~\\&||||||||||2.5\rPID|||{niss}\rZSC|0.5\rOBX|||||{text}\r"),
            back_around: ["", "", ""],
        },
    ]
}

impl Form {
    fn project(&self) -> CompiledProject {
        let text = format!(
            "direction = \"with-return\"\nreturns = {{ fields = [\"{}\"] }}\n{}\n{}",
            self.added, self.head, self.fields
        );
        project(&text)
    }

    fn document(&self, rows: &[String], [before, between, after]: [&str; 3]) -> String {
        format!("{before}{}{after}", rows.join(between))
    }

    fn batch(&self, rows: &[(String, String)]) -> String {
        let rows: Vec<String> = rows.iter().map(|(niss, text)| (self.row)(niss, text)).collect();
        self.document(&rows, self.around)
    }

    /// What a recipient makes of what was delivered.
    fn enriched(&self, delivered: &str) -> String {
        if self.enrich.0.is_empty() {
            let lines = delivered.lines().enumerate();
            return lines.map(|(at, line)| format!("{line},{}\n", if at == 0 { "score" } else { "0.5" })).collect();
        }
        // Nothing is added to what stands around the rows.
        delivered.replace(self.enrich.0, self.enrich.1)
    }
}

/// The parts of a document, in an order of their own: rows are shuffled on their way.
fn sorted(text: &str, name: &str) -> Vec<String> {
    let cut = match name {
        "kmehr" => "<folder>",
        "xml" => "<one>",
        "hl7v2" => "MSH",
        _ => "\n",
    };
    let mut parts: Vec<String> = text
        .split(cut)
        .map(|part| part.trim_end_matches(',').replace("</kmehrmessage>\n", "").replace("</all>\n", ""))
        .collect();
    parts.sort();
    parts
}

fn ssin(serial: u16) -> String {
    Ssin::from_parts(1985, 6, 15, serial % 900 + 1).unwrap().to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_form_comes_back_as_it_was_sent_with_what_was_added(rows in proptest::collection::vec((any::<u16>(), "[a-zA-Z0-9é]{1,20}"), 1..8)) {
        let rows: Vec<(String, String)> = rows.into_iter().map(|(serial, text)| (ssin(serial), text)).collect();
        for form in forms() {
            let project = form.project();
            let (delivered, issued) = there(&project, &form.batch(&rows));
            prop_assert!(!rows.iter().any(|(niss, _)| delivered.contains(niss.as_str())), "{} shows a number", form.name);
            let restored = back(&project, &issued, &form.enriched(&delivered));
            let restored = restored.unwrap_or_else(|error| panic!("{}: {error:?} for {delivered}", form.name));
            let expected: Vec<String> = rows.iter().map(|(niss, text)| (form.returned)(niss, text)).collect();
            let expected = form.document(&expected, form.back_around);
            prop_assert_eq!(sorted(&restored, form.name), sorted(&expected, form.name), "{}", form.name);
            // As it was delivered it comes back too.
            prop_assert!(back(&project, &issued, &delivered).is_ok(), "{} needs to be enriched", form.name);
        }
    }

    #[test]
    fn no_bytes_that_come_back_make_it_panic_or_pass_unbound(bytes in proptest::collection::vec(any::<u8>(), 1..60), which in 0usize..9, cut in 0usize..600) {
        let form = &forms()[which];
        let project = form.project();
        let (delivered, issued) = there(&project, &form.batch(&[(ssin(1), "a".to_owned()), (ssin(2), "b".to_owned())]));
        let cut = cut.min(delivered.len());
        let mangled = [&delivered.as_bytes()[..cut], &bytes, &delivered.as_bytes()[cut..]].concat();
        let mut out = Vec::new();
        let mut random = random();
        let _ = restore_exchange(&project, &sender(), &issued, &mut &mangled[..], &mut out, &mut random);
    }
}

#[test]
fn in_every_form_a_row_without_its_number_or_with_another_rows_tokens_is_refused() {
    let rows = [(ssin(1), "a".to_owned()), (ssin(2), "b".to_owned())];
    for form in forms() {
        let project = form.project();
        let (delivered, issued) = there(&project, &form.batch(&rows));
        let numbers: Vec<&str> = {
            let is_number = |text: &&str| text.len() == 29 && text.starts_with('N');
            delivered
                .split(|letter: char| !letter.is_ascii_alphanumeric() && !"-_".contains(letter))
                .filter(is_number)
                .collect()
        };
        assert_eq!(numbers.len(), 2, "{}: {delivered}", form.name);
        let swapped = delivered.replace(numbers[0], "@").replace(numbers[1], numbers[0]).replace('@', numbers[1]);
        assert_eq!(code(back(&project, &issued, &swapped)), "ZGL-ROW-FOREIGN", "{}: patients were swapped", form.name);
        let twice = delivered.replace(numbers[1], numbers[0]);
        assert_eq!(code(back(&project, &issued, &twice)), "ZGL-ROW-FOREIGN", "{}", form.name);
        let bare = delivered.replace(numbers[1], "");
        assert!(code(back(&project, &issued, &bare)).starts_with("ZGL-ROW-"), "{}", form.name);
        let other = Issued { handle: MessageId([5; 16]), ..issued };
        assert_eq!(code(back(&project, &other, &delivered)), "ZGL-ROW-FOREIGN", "{}: another exchange", form.name);
        // What the policy does not name does not come back.
        let strict = project_without_additions(&form);
        let enriched = form.enriched(&delivered);
        assert_eq!(code(back(&strict, &issued, &enriched)), "ZGL-TTP-UNLISTED", "{}: {enriched}", form.name);
    }
}

fn project_without_additions(form: &Form) -> CompiledProject {
    let text = format!("{HEAD}direction = \"with-return\"\n{}\n{}", form.head, form.fields);
    CompiledProject::new(ProjectDocument::parse(&text).unwrap(), &[7; 32]).unwrap()
}

#[test]
fn tokens_beside_the_rows_are_bound_to_the_exchange() {
    let forms = forms();
    let bundle = forms.iter().find(|form| form.name == "fhir bundle").unwrap();
    let project = bundle.project();
    let (one, issued) = there(&project, &bundle.batch(&[(ssin(1), "a".to_owned())]));
    let other = bundle.batch(&[(ssin(1), "a".to_owned())]).replace("\"b1\"", "\"b2\"");
    let (two, _) = there(&project, &other);
    let id = |text: &str| text.rsplit("\"id\":\"").next().unwrap().split('"').next().unwrap().to_owned();
    assert_ne!(id(&one), id(&two));
    assert!(back(&project, &issued, &one).is_ok());
    assert_eq!(code(back(&project, &issued, &one.replace(&id(&one), &id(&two)))), "ZGL-ROW-FOREIGN");
}

#[test]
fn an_array_may_come_back_as_one_and_its_bad_rows_are_counted_as_objects() {
    let forms = forms();
    let form = forms.iter().find(|form| form.name == "json array").unwrap();
    let project = form.project();
    let rows = [(ssin(1), "a".to_owned()), (ssin(2), "b".to_owned()), (ssin(3), "c".to_owned())];
    let (delivered, issued) = there(&project, &form.batch(&rows));
    let lines = form.enriched(&delivered);
    let array = format!("[{}]", lines.trim_end().replace('\n', ",\n\n"));
    let (from_lines, from_array) = (back(&project, &issued, &lines).unwrap(), back(&project, &issued, &array).unwrap());
    assert_eq!(from_lines, from_array);
    assert_eq!(from_array.matches("\"score\":0.5").count(), 3);
    let spoilt = array.replacen("\"P1.", "\"P2.", 3).replacen("\"P2.", "\"P1.", 2);
    let Err(TransformError::Refused(reason)) = back(&project, &issued, &spoilt) else { panic!("a wrong token passed") };
    assert_eq!((reason.bad_rows, reason.rows[0].row), (1, 3), "the third object, whatever line it stands on");
    for cut in [&array[..array.len() - 1], &format!("{array} x"), &array.replacen(",\n\n", "\n", 1)] {
        assert_eq!(code(back(&project, &issued, cut)), "ZGL-TTP-FORMAT");
    }
}

#[test]
fn what_is_escrowed_comes_back_in_every_form_where_the_key_is_and_nowhere_else() {
    const KIND: &str = "kind = \"ssin\"\naction = ";
    let role = Arc::new(OpenKey::generate());
    let rows = [(ssin(1), "a".to_owned()), (ssin(2), "b".to_owned())];
    for form in forms().into_iter().filter(|form| form.fields.contains(KIND)) {
        let fields = form.fields.replace(&format!("{KIND}\"pseudonym\""), &format!("{KIND}\"escrow\""));
        let text = format!(
            "decode_key = \"\"\"{}\"\"\"\ndirection = \"with-return\"\nreturns = {{ fields = [\"{}\"] }}\n{}\n{fields}",
            role.public().to_pem(),
            form.added,
            form.head
        );
        let (delivered, issued) = there(&project(&text), &form.batch(&rows));
        assert!(!delivered.contains("850615"), "{} shows a number: {delivered}", form.name);
        let enriched = form.enriched(&delivered);
        let restored = back(&project(&text).opened_by(std::slice::from_ref(&role)), &issued, &enriched).unwrap();
        let expected: Vec<String> = rows.iter().map(|(niss, text)| (form.returned)(niss, text)).collect();
        let expected = form.document(&expected, form.back_around);
        assert_eq!(sorted(&restored, form.name), sorted(&expected, form.name), "{}", form.name);
        assert_eq!(code(back(&project(&text), &issued, &enriched)), "ZGL-ROW-TOKEN", "{}", form.name);
    }
}
