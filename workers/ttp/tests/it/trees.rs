//! Batches that are trees: FHIR, KMEHR and other XML; each there and back.

use crate::hl7::{HL7, MESSAGE};
use crate::{back, output, project, refused, run};
use proptest::prelude::*;
use serde_json::{Value, json};
use zegel_ttp::{CompiledProject, Format};

const FHIR: &str = r#"
format = "fhir"
rows = "keep"
[[fields]]
path = "*.id"
kind = "fhir-id"
action = "pseudonym"
scope = "sender"
[[fields]]
path = "**.reference"
kind = "fhir-reference"
action = "pseudonym"
scope = "sender"
[[fields]]
path = "Bundle.entry.fullUrl"
kind = "fhir-reference"
action = "pseudonym"
scope = "sender"
[[fields]]
path = "**.identifier[system=urn:ssin].value"
kind = "ssin"
action = "pseudonym"
[[fields]]
path = "Patient.name"
action = "drop"
[[fields]]
path = "Patient.birthDate"
kind = "date"
action = "generalise"
to = "year"
[[fields]]
path = "**.display"
action = "drop"
[[fields]]
path = "**"
action = "keep"
"#;

fn fhir() -> CompiledProject {
    project(FHIR)
}

fn patient(id: &str) -> Value {
    json!({ "resourceType": "Patient", "id": id, "birthDate": "1985-06-15", "active": true,
        "identifier": [{ "system": "urn:ssin", "value": "85061511796" }, { "system": "urn:other", "value": "7" }],
        "name": [{ "family": "Janssens" }] })
}

fn observation(id: &str, subject: &str) -> Value {
    json!({ "resourceType": "Observation", "id": id, "subject": { "reference": subject, "display": "Janssens" },
        "valueQuantity": { "value": 7.10, "unit": "%" }, "contained": [{ "resourceType": "Device", "id": "d", "lotNumber": "1" }] })
}

fn bundle(entries: &[(&str, Value)], kind: &str) -> String {
    let entries: Vec<_> =
        entries.iter().map(|(url, resource)| json!({ "fullUrl": url, "resource": resource })).collect();
    // The type stands first, as writers write it.
    format!("{{\"resourceType\":\"Bundle\",\"type\":\"{kind}\",\"entry\":{},\"total\":2}}", Value::from(entries))
}

#[test]
fn a_bundle_stays_a_bundle_and_its_links_hold() {
    let entries = [
        ("https://h.example/fhir/Patient/12", patient("12")),
        ("urn:uuid:129c6ac7-8d06-89de-ad63-0204a93e76c3", observation("o1", "Patient/12")),
    ];
    let (summary, out) = run(&fhir(), bundle(&entries, "collection").as_bytes()).unwrap();
    assert_eq!((summary.format, summary.rows_in, summary.rows_out), (Format::Fhir, 2, 2));
    for secret in ["Janssens", "85061511796", "h.example", "Patient/12", "129c6ac7", "06-15"] {
        assert!(!out.contains(secret), "{secret} in {out}");
    }
    let value: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&value["type"], &value["total"]), (&json!("collection"), &json!(2)));
    let [patient, observation] = &value["entry"].as_array().unwrap()[..] else { panic!("two entries") };
    let id = patient["resource"]["id"].as_str().unwrap();
    assert_eq!(observation["resource"]["subject"]["reference"], json!(format!("Patient/{id}")));
    assert!(patient["fullUrl"].as_str().unwrap().ends_with(&format!("/Patient/{id}")));
    assert_eq!(patient["resource"]["birthDate"], json!("1985"));
    assert_eq!(observation["resource"]["contained"][0]["lotNumber"], json!("1"));
    assert!(out.contains("\"value\":7.1") && !out.contains("\"7.1"), "a number stays a number");
}

#[test]
fn resources_alone_in_lines_or_laid_out_come_out_as_lines() {
    let pretty = serde_json::to_string_pretty(&patient("12")).unwrap();
    for batch in [format!("{}\n{}\n", patient("12"), observation("o1", "Patient/12")), format!("{pretty}\n\n{pretty}")]
    {
        let (summary, out) = run(&fhir(), batch.as_bytes()).unwrap();
        assert_eq!((summary.format, summary.rows_out), (Format::FhirNdjson, 2));
        assert_eq!(out.lines().count(), 2);
    }
}

#[test]
fn a_document_keeps_its_composition_first_and_the_rest_is_shuffled() {
    let mut entries = vec![("urn:uuid:c", json!({ "resourceType": "Composition", "id": "c" }))];
    entries.extend((0..100).map(|n| ("urn:uuid:p", patient(&format!("p{n}")))));
    let out = output(&project(&FHIR.replace("rows = \"keep\"", "")), &bundle(&entries, "document"));
    let value: Value = serde_json::from_str(&out).unwrap();
    let ids: Vec<_> = value["entry"].as_array().unwrap().iter().map(|entry| entry["resource"]["id"].clone()).collect();
    assert_eq!(value["entry"][0]["resource"]["resourceType"], json!("Composition"));
    let kept: Value = serde_json::from_str(&output(&fhir(), &bundle(&entries, "document"))).unwrap();
    let in_order: Vec<_> =
        kept["entry"].as_array().unwrap().iter().map(|entry| entry["resource"]["id"].clone()).collect();
    assert_ne!(ids, in_order);
}

#[test]
fn a_bundle_whose_type_stands_behind_its_entries_is_read_too() {
    let bundle = format!("{{\"entry\":[{{\"resource\":{}}}],\"resourceType\":\"Bundle\"}}", patient("1"));
    let value: Value = serde_json::from_str(&output(&fhir(), &bundle)).unwrap();
    assert_eq!(value["entry"].as_array().unwrap().len(), 1);
}

#[test]
fn an_entry_whose_resource_is_left_out_is_left_out_whole() {
    let drops =
        project(&FHIR.replacen("[[fields]]", "[[fields]]\npath = \"Observation\"\naction = \"drop\"\n[[fields]]", 1));
    let entries = [("urn:uuid:a", patient("1")), ("urn:uuid:b", observation("o", "Patient/1"))];
    let (summary, out) = run(&drops, bundle(&entries, "collection").as_bytes()).unwrap();
    assert_eq!((summary.rows_in, summary.rows_out), (2, 1));
    assert!(!out.contains("Observation"));
}

#[test]
fn resources_that_are_none_and_bundles_after_bundles_are_refused() {
    let two = format!("{}\n{}", bundle(&[("urn:uuid:a", patient("1"))], "batch"), patient("2"));
    assert_eq!(refused(&fhir(), two.as_bytes()).code, "ZGL-TTP-FORMAT");
    let mixed = format!("{}\n{{\"id\":\"x\"}}\n", patient("1"));
    assert_eq!(refused(&fhir(), mixed.as_bytes()).rows[0].code, "ZGL-ROW-FHIR");
    let long = format!("{{\"resourceType\":\"Patient\",\"id\":\"{}\"}}", "x".repeat(41));
    assert_eq!(refused(&fhir(), long.as_bytes()).rows[0].code, "ZGL-ROW-LENGTH");
    let strict = project("format = \"fhir\"\n[[fields]]\npath = \"Patient.active\"\naction = \"keep\"");
    let reason = refused(&strict, b"{\"resourceType\":\"Patient\",\"active\":true,\"Janssens\":1}");
    assert_eq!((reason.rows[0].field.as_str(), reason.rows[0].code.as_str()), ("Patient.?", "ZGL-TTP-UNLISTED"));
}

proptest! {
    #[test]
    fn fhir_comes_back_with_what_was_added(
        ids in proptest::collection::vec("[A-Za-z0-9.-]{1,40}", 1..8), host in "[a-z]{1,12}", score in 0u32..1_000, bundled in any::<bool>()
    ) {
        let resources: Vec<_> = ids.iter().flat_map(|id| [patient(id), observation(&format!("o-{}", &id[..id.len().min(30)]), &format!("Patient/{id}"))]).collect();
        let urls: Vec<_> = resources.iter().map(|r| format!("https://{host}.example/fhir/{}/{}", r["resourceType"].as_str().unwrap(), r["id"].as_str().unwrap())).collect();
        let batch = if bundled {
            bundle(&urls.iter().map(String::as_str).zip(resources.clone()).collect::<Vec<_>>(), "collection")
        } else {
            resources.iter().map(|resource| format!("{resource}\n")).collect()
        };
        let out = output(&fhir(), &batch);
        let enriched = out.replace("\"active\":true", &format!("\"active\":true,\"score\":{score}"));
        let restored = back(&fhir(), enriched.as_bytes()).unwrap();
        let found: Vec<Value> = if bundled {
            let value: Value = serde_json::from_str(&restored).unwrap();
            for (entry, url) in value["entry"].as_array().unwrap().iter().zip(&urls) {
                prop_assert_eq!(entry["fullUrl"].as_str().unwrap(), url);
            }
            value["entry"].as_array().unwrap().iter().map(|entry| entry["resource"].clone()).collect()
        } else {
            restored.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        prop_assert_eq!(found.len(), resources.len());
        for (found, sent) in found.iter().zip(&resources) {
            prop_assert_eq!(&found["id"], &sent["id"]);
            prop_assert_eq!(&found["subject"]["reference"], &sent["subject"]["reference"]);
            prop_assert_eq!(&found["identifier"], &sent["identifier"]);
            prop_assert_eq!(&found["valueQuantity"], &sent["valueQuantity"]);
            prop_assert_eq!(found["resourceType"] == "Patient", found["score"] == score);
        }
    }
}

const XML: &str = r#"
format = "kmehr"
rows = "keep"
patient = ["folder.patient.id[S=INSS]"]
names = ["folder.patient.familyname"]
[[fields]]
path = "header"
action = "drop"
[[fields]]
path = "folder.id"
action = "keep"
[[fields]]
path = "folder.patient.id[S=INSS]"
kind = "ssin"
action = "pseudonym"
required = true
[[fields]]
path = "folder.patient.familyname"
action = "replace"
with = "X"
[[fields]]
path = "folder.patient.birthdate.date"
kind = "date"
action = "shift-dates"
[[fields]]
path = "folder.transaction.**.@DN"
action = "keep"
[[fields]]
path = "folder.transaction.**"
action = "scrub-text"
"#;

fn kmehr(folders: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- made by Janssens -->\n<k:kmehrmessage xmlns:k=\"http://www.ehealth.fgov.be/standards/kmehr/schema/v1\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:schemaLocation=\"a b\">\n\
         <k:header><k:sender>AZ Alma</k:sender></k:header>\n{folders}</k:kmehrmessage>"
    )
}

fn folder(number: usize, text: &str) -> String {
    format!(
        "<k:folder><k:id S=\"ID-KMEHR\" SV=\"1.0\">{number}</k:id><k:patient><k:id S=\"INSS\" SV=\"1.0\">85061511796</k:id>\
         <k:familyname>Janssens</k:familyname><k:birthdate><k:date>1985-06-15</k:date></k:birthdate></k:patient>\n\
         <k:transaction><k:cd S=\"CD\" SV=\"1\" DN=\"A &amp; B\">sumehr</k:cd><k:text L=\"nl\">{text}</k:text></k:transaction></k:folder>"
    )
}

#[test]
fn a_kmehr_message_is_rewritten_folder_by_folder() {
    let out = output(&project(XML), &kmehr(&folder(1, "Janssens, <![CDATA[85061511796]]> &lt;b&gt; &#233;")));
    assert!(out.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<kmehrmessage xmlns=\"http://www.ehealth.fgov.be/standards/kmehr/schema/v1\""), "{out}");
    assert!(
        out.contains("<folder><id S=\"ID-KMEHR\" SV=\"1.0\">1</id><patient><id S=\"INSS\" SV=\"1.0\">P1."),
        "{out}"
    );
    assert!(out.contains("<familyname>X</familyname><birthdate><date>"), "{out}");
    assert!(
        out.contains(
            "<cd S=\"CD\" SV=\"1\" DN=\"A &amp; B\">sumehr</cd><text L=\"nl\">[NAME], [NUMBER] &lt;b&gt; \u{e9}</text>"
        ),
        "{out}"
    );
    assert!(out.ends_with("</folder></kmehrmessage>\n"), "{out}");
    for secret in ["Janssens", "85061511796", "Alma", "header", "schemaLocation", "1985-06-15", "k:"] {
        assert!(!out.contains(secret), "{secret} in {out}");
    }
}

#[test]
fn xml_that_could_do_harm_or_is_none_is_refused() {
    for (batch, expected) in [
        ("<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><kmehrmessage/>".to_owned(), "document type"),
        (kmehr(&folder(1, "&e;")), "entity"),
        (kmehr("<k:folder>"), "well-formed"),
        (kmehr("<k:folder></k:patient>"), "well-formed"),
        (kmehr(&folder(1, "x")) + "<more/>", "behind"),
        (kmehr(&folder(1, "x")).replace("UTF-8", "ISO-8859-1"), "UTF-8"),
        (kmehr(&format!("<k:folder>{}{}</k:folder>", "<k:a>".repeat(500), "</k:a>".repeat(500))), "too deep"),
    ] {
        let reason = refused(&project(XML), batch.as_bytes());
        assert_eq!(reason.code, "ZGL-TTP-FORMAT", "{batch}");
        assert!(reason.text.contains(expected), "{}", reason.text);
    }
    let long = kmehr(&folder(1, &"x".repeat(5 << 20)));
    assert_eq!(refused(&project(XML), long.as_bytes()).rows[0].code, "ZGL-ROW-LENGTH");
    let dense = kmehr(&folder(1, &"<k:a/>".repeat(210_000)));
    assert_eq!(refused(&project(XML), dense.as_bytes()).rows[0].code, "ZGL-ROW-LENGTH", "too many elements");
    let unlisted = kmehr(&folder(1, "x").replace("</k:patient>", "<k:nick>J</k:nick></k:patient>"));
    let reason = refused(&project(XML), unlisted.as_bytes());
    assert_eq!((reason.rows[0].field.as_str(), reason.rows[0].code.as_str()), ("folder.patient.?", "ZGL-TTP-UNLISTED"));
    let latin = project(&format!("text = {{ encoding = \"latin-1\" }}{XML}"));
    let bytes: Vec<u8> = kmehr(&folder(1, "\u{e9}"))
        .replace("UTF-8", "ISO-8859-1")
        .chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap())
        .collect();
    assert!(run(&latin, &bytes).unwrap().1.contains("\u{e9}</text>"));
}

proptest! {
    #[test]
    fn kmehr_comes_back_with_what_was_added(texts in proptest::collection::vec("[ -~é]{1,30}", 1..6)) {
        let project = project(&XML.replace("scrub-text", "keep"));
        let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        let folders: String = texts.iter().enumerate().map(|(n, text)| folder(n, &escaped(text))).collect();
        let out = output(&project, &kmehr(&folders));
        let enriched = out.replace("</folder>", "<score unit=\"%\">7</score></folder>");
        let restored = back(&project, enriched.as_bytes()).unwrap();
        for (n, (part, text)) in restored.split("<folder>").skip(1).zip(&texts).enumerate() {
            let head = format!("<id S=\"ID-KMEHR\" SV=\"1.0\">{n}</id><patient><id S=\"INSS\" SV=\"1.0\">85061511796</id>");
            prop_assert!(part.starts_with(&head), "{}", part);
            prop_assert!(part.contains("<date>1985-06-15</date>"), "{}", part);
            prop_assert!(text.trim().is_empty() || part.contains(&format!("<text L=\"nl\">{}</text>", escaped(text))), "{}", part);
            prop_assert!(part.contains("<score unit=\"%\">7</score>"), "{}", part);
        }
    }

    #[test]
    fn no_bytes_make_a_tree_panic_or_let_a_name_through(bytes in proptest::collection::vec(any::<u8>(), 0..200), which in 0usize..3, cut in 0usize..400) {
        let (document, batch) = match which {
            0 => (FHIR, bundle(&[("urn:uuid:a", patient("12")), ("urn:uuid:b", observation("o", "Patient/12"))], "collection")),
            1 => (HL7, MESSAGE.to_owned()),
            _ => (XML, kmehr(&folder(1, "Janssens"))),
        };
        let project = project(&document.replace("unlisted = \"drop\"\n", "").replace("rows =", "unlisted = \"drop\"\nbad_rows = \"refuse-row\"\nrows ="));
        let cut = cut.min(batch.len());
        let mut mangled = batch.as_bytes()[..cut].to_vec();
        mangled.extend_from_slice(&bytes);
        mangled.extend_from_slice(&batch.as_bytes()[cut..]);
        let _ = run(&project, &mangled);
        let _ = back(&project, &mangled);
        if let Ok((_, out)) = run(&project, &[batch.as_bytes(), &bytes].concat()) {
            prop_assert!(!out.contains("85061511796"));
        }
    }
}

/// Where the form has room for free text, a sender's program writes its name: none of it reaches the recipient.
#[test]
fn the_form_of_a_document_has_no_room_for_the_senders_name() {
    let kmehr_row = folder(1, "x")
        .replace("S=\"INSS\" SV=\"1.0\"", "S=\"INSS\" SV=\"AlmaSoft 3\" xsi:type=\"Alma\"")
        .replace("L=\"nl\"", "L=\"alma\" xml:space=\"alma\"");
    let listed = XML.replace("rows =", "unlisted = \"drop\"\nrows =").replace("transaction.**\"", "transaction.text\"");
    let out = output(&project(&listed), &kmehr(&kmehr_row));
    assert!(out.contains("<id S=\"INSS\" SV=\"0.0\">P1.") && out.contains("<text>x</text>"), "{out}");
    assert!(!out.to_lowercase().contains("alma"), "{out}");
    let other = kmehr("").replace("http://www.ehealth.fgov.be/standards/kmehr", "http://alma.example/kmehr");
    assert_eq!(refused(&project(XML), other.as_bytes()).code, "ZGL-TTP-FORMAT", "a namespace of its own");

    let people = project(
        "format = \"xml\"\nrecord = \"people.person\"\nunlisted = \"drop\"\n[[fields]]\npath = \"people.person.**.v\"\naction = \"keep\"\n\
         [[fields]]\npath = \"people.person.**.v.@p:unit\"\naction = \"keep\"",
    );
    let batch = "<people xmlns=\"urn:p\" xmlns:alma=\"urn:alma\" xmlns:p=\"urn:used\"><person xmlns:alma2=\"urn:alma\"><alma:x>Alma</alma:x>\
                 <v xsi:nil=\"alma\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" p:unit=\"g\" alma2:y=\"1\">7</v><p:w><p:v>8</p:v></p:w>\
                 </person><p:trailer/></people>";
    let out = output(&people, batch);
    assert!(
        out.contains(
            "<people xmlns=\"urn:p\"><person><v p:unit=\"g\" xmlns:p=\"urn:used\">7</v><p:w xmlns:p=\"urn:used\"><p:v>8</p:v></p:w></person></people>"
        ),
        "{out}"
    );
    // What is delivered comes back, with what its recipient declares.
    let enriched = out.replace("</person>", "<s:score xmlns:s=\"urn:s\">1</s:score></person>");
    assert!(back(&people, enriched.as_bytes()).unwrap().contains("<s:score xmlns:s=\"urn:s\">1</s:score>"));
}

#[test]
fn what_is_no_type_of_resource_is_a_bad_row_wherever_it_stands() {
    for kind in ["\"Zo\u{e9} Peeters\"", "{\"family\":\"Peeters\"}", "[\"Patient\"]", "\"AlmaSoft\""] {
        let batch = format!("{}\n{}\n", patient("1"), patient("2").to_string().replace("\"Patient\"", kind));
        assert_eq!(refused(&fhir(), batch.as_bytes()).rows[0].code, "ZGL-ROW-FHIR", "{kind}");
        let inner = patient("2")
            .to_string()
            .replace("\"birthDate\"", &format!("\"contact\":{{\"resourceType\":{kind}}},\"birthDate\""));
        assert_eq!(refused(&fhir(), inner.as_bytes()).rows[0].code, "ZGL-ROW-FHIR", "{kind} inside");
    }
}
