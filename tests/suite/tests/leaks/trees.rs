//! Bait in trees: FHIR in both forms, KMEHR, other XML, HL7 v2; each with what its sender wrote into every corner of the form.

use crate::bait::{Bait, Canaries, Patient, Words, canaries};
use serde_json::{Value, json};
use zegel_suite::canary::Canary;

/// Above the most that a row may have: 1 MiB.
const LONG: usize = 1_100_000;
/// Deeper than any reader follows.
const DEEP: usize = 500;

const FHIR: &str = r#"
direction = "with-return"
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
path = "**.identifier[system=urn:record].value"
action = "one-way"
domain = "record"
[[fields]]
path = "Observation.identifier[system=urn:case].value"
action = "escrow"
domain = "case"
[[fields]]
path = "**.identifier[system=urn:ssin].system"
action = "keep"
[[fields]]
path = "**.identifier[system=urn:record].system"
action = "keep"
[[fields]]
path = "**.identifier[system=urn:case].system"
action = "keep"
[[fields]]
path = "Patient.name"
action = "drop"
[[fields]]
path = "Patient.telecom"
action = "drop"
[[fields]]
path = "Patient.birthDate"
kind = "date"
action = "generalise"
to = "year"
[[fields]]
path = "Observation.note.text"
action = "scrub-text"
[[fields]]
path = "Observation.valueString"
action = "keep"
"#;

const KMEHR: &str = r#"
direction = "with-return"
patient = ["folder.patient.id[S=INSS]"]
names = ["folder.patient.familyname"]
[[fields]]
path = "header"
action = "drop"
[[fields]]
path = "folder.id"
action = "random"
[[fields]]
path = "folder.patient.id[S=INSS]"
kind = "ssin"
action = "pseudonym"
required = true
[[fields]]
path = "folder.patient.id[S=LOCAL]"
action = "pseudonym"
domain = "hospital-patient"
scope = "sender"
[[fields]]
path = "folder.patient.familyname"
action = "replace"
with = "X"
[[fields]]
path = "folder.patient.telecom"
action = "drop"
[[fields]]
path = "folder.transaction.id[S=ID-KMEHR]"
action = "one-way"
domain = "record"
[[fields]]
path = "folder.transaction.id[S=LOCAL]"
action = "escrow"
domain = "case"
[[fields]]
path = "folder.transaction.cd"
action = "keep"
[[fields]]
path = "folder.transaction.text"
action = "scrub-text"
"#;

const XML: &str = r#"
record = "export.person"
direction = "with-return"
patient = ["export.person.@niss"]
names = ["export.person.name"]
[[fields]]
path = "export.person.@niss"
kind = "ssin"
action = "pseudonym"
required = true
[[fields]]
path = "export.person.number"
action = "pseudonym"
domain = "hospital-patient"
scope = "sender"
[[fields]]
path = "export.person.record"
action = "one-way"
domain = "record"
[[fields]]
path = "export.person.ticket"
action = "random"
[[fields]]
path = "export.person.case"
action = "escrow"
domain = "case"
[[fields]]
path = "export.person.name"
action = "drop"
[[fields]]
path = "export.person.value"
action = "keep"
[[fields]]
path = "export.person.note"
action = "scrub-text"
"#;

const HL7: &str = r#"
direction = "with-return"
patient = ["PID.3[5=NN].1"]
names = ["PID.5.1"]
[[fields]]
path = "MSH.9.**"
action = "keep"
[[fields]]
path = "MSH.10"
action = "random"
[[fields]]
path = "PID.3[5=NN].1"
kind = "ssin"
action = "pseudonym"
required = true
[[fields]]
path = "PID.3[5=NN].5"
action = "keep"
[[fields]]
path = "PID.3.1"
action = "pseudonym"
domain = "hospital-patient"
scope = "sender"
[[fields]]
path = "PID.5.1"
action = "drop"
[[fields]]
path = "PID.18.1"
action = "escrow"
domain = "case"
[[fields]]
path = "OBX[3=NOTE].5"
action = "scrub-text"
[[fields]]
path = "OBX.3"
action = "keep"
[[fields]]
path = "OBX.5"
action = "keep"
"#;

fn with_key(terms: &str, key: &str) -> String {
    format!("decode_key = '''\n{key}'''\n{terms}")
}

/// What a sender's program writes of itself, wherever the form has room.
struct Corners {
    words: Vec<String>,
}

impl Corners {
    fn new(words: &mut Words, count: usize) -> Corners {
        Corners { words: (0..count).map(|_| words.word("Corner")).collect() }
    }

    fn at(&self, place: usize) -> &str {
        &self.words[place]
    }
}

fn finish(mut bait: Bait, of: (&[Patient], Patient, &Corners), other: &str) -> Bait {
    let (patients, bad, corners) = of;
    let name = bait.name.clone();
    bait.break_like_any(&patients[0].niss, other.as_bytes());
    bait.canaries.extend(canaries(&name, patients));
    let mut wrong = canaries(&format!("{name}, bad row"), &[bad]);
    wrong.patients.append(&mut wrong.medical);
    bait.canaries.extend(wrong);
    let corner = |(at, word): (usize, &String)| Canary::new(&format!("{name}: corner {at}"), word);
    bait.canaries.sender.extend(corners.words.iter().enumerate().map(corner));
    bait
}

fn new(name: &str, format: &'static str, terms: String) -> Bait {
    let (name, format) = (format!("leak-{name}"), Some(format));
    // A bundle and lines are both FHIR; the policy for bad rows is one in XML and another in KMEHR.
    let project = if format == Some("fhir") { "leak-fhir".to_owned() } else { name.clone() };
    let leaves_rows_out = format != Some("xml");
    let (good, bad, broken, canaries) = (Vec::new(), Vec::new(), Vec::new(), Canaries::default());
    Bait { name, project, format, terms, good, bad, broken, canaries, uncut: None, leaves_rows_out }
}

/// A patient and what was observed, as two resources.
fn resources(patient: &Patient, corners: &Corners) -> [Value; 2] {
    let Patient { niss, number, record, case, name, phone, mail, note, value, ward, .. } = patient;
    let person = json!({ "resourceType": "Patient", "id": number, "meta": { "source": corners.at(0) }, "active": true,
        "identifier": [{ "system": "urn:ssin", "value": niss }, { "system": "urn:record", "value": record },
            { "system": format!("urn:{}", corners.at(1)), "value": corners.at(1) }],
        "name": [{ "family": name }], "birthDate": patient.born, "telecom": [{ "value": phone }, { "value": mail }],
        "managingOrganization": { "display": ward, corners.at(2): corners.at(2) },
        "text": { "status": "generated", "div": format!("<div>{name} {ward}</div>") } });
    // The number stands in the note too; the name is not known in a resource of its own.
    let note = note.split_once(' ').unwrap().1;
    let observation = json!({ "resourceType": "Observation", "id": format!("{number}-1"),
        "identifier": [{ "system": "urn:case", "value": case }],
        "subject": { "reference": format!("https://{}.example/fhir/Patient/{number}", corners.at(3)), "display": name },
        "performer": [{ "display": ward }, { "reference": format!("{}/12", corners.at(8)) },
            { "reference": format!("Patient/1/_history/{}", corners.at(9)) }, { "reference": format!("#{} 1", corners.at(10)) },
            { "reference": format!("Patient?identifier=urn:{}|{record}", corners.at(11)) }, { "reference": corners.at(12) },
            { "reference": format!("#{number}") }], "note": [{ "text": note, "authorString": ward }], "valueString": value });
    [person, observation]
}

/// FHIR: a bundle, or resources in lines.
pub fn fhir(words: &mut Words, key: &str, is_bundle: bool) -> Bait {
    let name = if is_bundle { "fhir-bundle" } else { "fhir-lines" };
    let mut bait = new(name, "fhir", with_key(FHIR, key));
    let (patients, bad, corners) = (words.patients(), words.spoilt(), Corners::new(words, 13));
    let resources = |patient: &Patient| resources(patient, &corners);
    let batch = |resources: Vec<Value>| match is_bundle {
        true => {
            let entry = |resource: Value| {
                let place = format!(
                    "{}/{}",
                    resource["resourceType"].as_str().unwrap_or("x"),
                    resource["id"].as_str().unwrap_or("x")
                );
                let url = format!("https://{}.example/fhir/{place}", corners.at(3));
                json!({ "fullUrl": url, "resource": resource, "request": { "url": corners.at(4) } })
            };
            let entries: Vec<Value> = resources.into_iter().map(entry).collect();
            let (id, link) = (corners.at(5), corners.at(6));
            format!(
                "{{\"resourceType\":\"Bundle\",\"id\":\"{id}\",\"type\":\"collection\",\"link\":[{{\"url\":\"{link}\"}}],\
                 \"{link}\":1,\"entry\":{},\"identifier\":{{\"value\":\"{id}\"}}}}",
                Value::from(entries)
            )
        }
        false => resources.iter().map(|resource| format!("{resource}\n")).collect(),
    };
    let good: Vec<Value> = patients.iter().flat_map(resources).collect();
    let and = |more: Vec<Value>| batch([good.clone(), more].concat()).into_bytes();
    let mut nameless = resources(&bad)[0].clone();
    nameless["resourceType"] = json!(bad.name);
    let mut typed = resources(&patients[0])[1].clone();
    typed["resourceType"] = json!(corners.at(7));
    let mut object = resources(&bad)[1].clone();
    object["resourceType"] = json!({ "family": bad.name });
    let mut inner = resources(&bad)[1].clone();
    inner["identifier"][0]["resourceType"] = json!(bad.name);
    let long = json!({ "resourceType": "Patient", "id": "1", "name": [{ "family": format!("{}{}", bad.name, "x".repeat(LONG)) }] });
    let deep: Value = (0..DEEP / 5).fold(json!(bad.name), |inner, _| json!({ "extension": [inner] }));
    let deep = json!({ "resourceType": "Patient", "id": "1", "extension": deep });
    bait.good = batch(good.clone()).into_bytes();
    bait.bad = and(resources(&bad).to_vec());
    bait.broken = vec![
        ("a name as a type", and(vec![nameless]), false),
        ("a word as a type", and(vec![typed]), false),
        ("an object as a type", and(vec![object]), false),
        ("a type inside", and(vec![inner]), false),
        ("no resource", and(vec![json!(bad.name), json!({ "name": bad.name })]), false),
        ("a resource too long", and(vec![long]), false),
        ("too deep", and(vec![deep]), false),
    ];
    let other = format!("niss,name\n{},\"{}\"\n", bad.niss, bad.name);
    // What was observed of a patient whose number is bad is a good row of its own.
    let observed = Canary::new(&format!("{}: observed of the bad row", bait.name), &bad.value);
    let mut bait = finish(bait, (&patients, bad, &corners), &other);
    bait.canaries.patients.retain(|canary| !canary.what.ends_with("bad row: medical value"));
    bait.canaries.medical.push(observed);
    bait
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&#39;").replace('é', "&#xE9;")
}

/// What goes wrong with XML of any kind: `document` takes what stands behind the good rows, `row` makes a bad one of a text.
fn break_xml(bait: &mut Bait, bad: &Patient, document: impl Fn(&str) -> String, row: impl Fn(&str) -> String) {
    let name = xml(&bad.name);
    let deep = |tag: &str| format!("{}{name}{}", format!("<{tag}>").repeat(DEEP), format!("</{tag}>").repeat(DEEP));
    let not_utf8 = {
        let mut bytes = document(&row("@@@@")).into_bytes();
        let at = bytes.windows(4).position(|window| window == b"@@@@").unwrap();
        bytes[at] = 0xff;
        bytes
    };
    bait.broken = vec![
        (
            "a document type",
            document("").replacen("?>", &format!("?><!DOCTYPE x [<!ENTITY e \"{name}\">]>"), 1).into(),
            true,
        ),
        ("an entity", document(&row(&format!("&{};", bad.ward))).into(), true),
        ("not well-formed", document(&row(&format!("<{}>", bad.ward))).into(), true),
        ("behind the end", (document("") + &name).into(), true),
        ("too deep", document(&row(&deep("a"))).into(), true),
        ("a row too long", document(&row(&(name.clone() + &"x".repeat(LONG)))).into(), false),
        ("another root", format!("<?xml version=\"1.0\"?><{0}>{name}</{0}>", bad.ward).into(), true),
        ("not UTF-8", not_utf8, false),
    ];
}

/// KMEHR: a sender's header, and its name in every attribute, comment and prefix.
pub fn kmehr(words: &mut Words, key: &str) -> Bait {
    let mut bait = new("kmehr", "kmehr", with_key(KMEHR, key));
    let (patients, bad, corners) = (words.patients(), words.spoilt(), Corners::new(words, 14));
    let at = |place: usize| corners.at(place);
    let folder = |patient: &Patient, more: &str| {
        let Patient { niss, number, record, case, name, phone, mail, note, value, ward, .. } = patient;
        let [name, note] = [name, note].map(|text| xml(text));
        format!(
            "<!-- {ward} --><k:folder><k:id S=\"ID-KMEHR\" SV=\"1.0\" SL=\"{}\">{number}</k:id><k:patient xsi:type=\"{}\">\
             <k:id S=\"INSS\" SV=\"{}\">{niss}</k:id><k:id S=\"LOCAL\" SL=\"{}\">{number}</k:id><k:familyname L=\"{}\">{name}</k:familyname>\
             <k:telecom><k:telecomnumber>{phone}</k:telecomnumber><k:telecomnumber>{mail}</k:telecomnumber></k:telecom></k:patient>\
             <k:transaction><k:id S=\"ID-KMEHR\">{record}</k:id><k:id S=\"LOCAL\">{case}</k:id><k:id S=\"{}\">{ward}</k:id>\
             <k:author><k:hcparty><k:name>{ward}</k:name></k:hcparty></k:author><k:cd S=\"CD\" SV=\"1\" DN=\"{}\">{value}</k:cd>\
             <k:text L=\"{}\" xml:space=\"{}\">{note}<![CDATA[ {note2} ]]>{more}</k:text><?{} {ward}?></k:transaction></k:folder>",
            at(0),
            at(1),
            at(2),
            at(3),
            at(4),
            at(5),
            at(6),
            at(7),
            at(8),
            at(9),
            note2 = patient.niss
        )
    };
    let document = |folders: &str| {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- {0} -->\n<k:kmehrmessage xmlns:k=\"http://www.ehealth.fgov.be/standards/kmehr/schema/v1\" \
             xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xmlns:{1}=\"urn:{1}\" xsi:schemaLocation=\"{0} b\">\n\
             <k:header><k:sender>{0}</k:sender></k:header>\n<{1}:Signature>{2}</{1}:Signature>{folders}</k:kmehrmessage>\n<!-- {3} -->",
            at(10),
            at(11),
            at(12),
            at(13)
        )
    };
    let rows: String = patients.iter().map(|patient| folder(patient, "")).collect();
    bait.good = document(&rows).into_bytes();
    bait.bad = document(&format!("{rows}{}", folder(&bad, ""))).into_bytes();
    break_xml(&mut bait, &bad, |more| document(&format!("{rows}{more}")), |text| folder(&bad, text));
    let other = format!("MSH|^~\\&|{}\rPID|||{}^^^^NN\r", bad.ward, bad.niss);
    finish(bait, (&patients, bad, &corners), &other)
}

/// Another XML document.
pub fn other_xml(words: &mut Words, key: &str) -> Bait {
    let mut bait = new("xml", "xml", with_key(XML, key));
    let (patients, bad, corners) = (words.patients(), words.spoilt(), Corners::new(words, 12));
    let at = |place: usize| corners.at(place);
    let person = |patient: &Patient, more: &str| {
        let Patient { niss, number, record, ticket, case, name, phone, note, value, ward, .. } = patient;
        let [name, note] = [name, note].map(|text| xml(text));
        format!(
            "<e:person niss=\"{niss}\" ward=\"{ward}\" xmlns:{0}=\"urn:{1}\"><e:number xsi:type=\"{0}:{2}\">{number}</e:number>\
             <e:record xsi:nil=\"{3}\">{record}</e:record><e:ticket>{ticket}</e:ticket><e:case>{case}</e:case><e:name>{name}</e:name>\
             <e:phone>{phone}</e:phone><e:value xml:space=\"{4}\" {0}:{5}=\"{5}\">{value}</e:value><{0}:mark>{ward}</{0}:mark>\
             <e:note>{note}<![CDATA[ {niss} ]]>{more}</e:note></e:person>",
            at(0),
            at(1),
            at(2),
            at(3),
            at(4),
            at(5)
        )
    };
    let document = |rows: &str| {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><!-- {0} -->\n<?{1} {0}?><e:export xmlns:e=\"urn:export\" xmlns:{2}=\"urn:{3}\" \
             xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:schemaLocation=\"urn:{3} {0}\" from=\"{0}\">\n\
             <e:from>{4}</e:from>{rows}<{2}:trailer>{5}</{2}:trailer></e:export>",
            at(6),
            at(7),
            at(8),
            at(9),
            at(10),
            at(11)
        )
    };
    let rows: String = patients.iter().map(|patient| person(patient, "")).collect();
    bait.good = document(&rows).into_bytes();
    bait.bad = document(&format!("{rows}{}", person(&bad, ""))).into_bytes();
    break_xml(&mut bait, &bad, |more| document(&format!("{rows}{more}")), |text| person(&bad, text));
    let other = format!("{{\"niss\":\"{}\",\"name\":\"{}\"}}", bad.niss, bad.name);
    finish(bait, (&patients, bad, &corners), &other)
}

/// HL7 v2: the sender in the header, in wrappers, in segments of its own.
pub fn hl7(words: &mut Words, key: &str) -> Bait {
    let mut bait = new("hl7v2", "hl7v2", with_key(HL7, key));
    let (patients, bad, corners) = (words.patients(), words.spoilt(), Corners::new(words, 9));
    let at = |place: usize| corners.at(place);
    let escaped = |text: &str| text.replace('\\', "\\E\\").replace('|', "\\F\\").replace('&', "\\T\\");
    let message = |patient: &Patient| {
        let Patient { niss, number, record, ticket, case, name, phone, mail, note, value, ward, .. } = patient;
        // A number in hexadecimal is a number too.
        let hexadecimal = hex::encode_upper(niss);
        let [name, note] = [name, note].map(|text| escaped(text));
        let note = format!("{note} \\X{hexadecimal}\\");
        format!(
            "MSH|^~\\&|{}|{ward}|R|{}|20240301101500|{}|ORU^R01|{ticket}|P|2.5|||||BE|UNICODE UTF-8|{}\rSFT|{ward}\r\
             PID|1|{record}|{niss}^^^{ward}^NN~{number}^^^{}^MR||{name}^{}||||||||{phone}~{mail}|||||{case}^^^{ward}\r\
             OBX|1|NM|4548-4^HbA1c||{value}||||||||||{ward}\rOBX|2|TX|NOTE||{note}\rZ{}|{ward}|{name}\r",
            at(0),
            at(1),
            at(2),
            at(3),
            at(4),
            at(5),
            &at(6)[6..8].to_ascii_uppercase()
        )
    };
    let rows: String = patients.iter().map(message).collect();
    let document = |more: &str| {
        let (file, batch) = (at(7), at(8));
        format!("FHS|^~\\&|{file}\rBHS|^~\\&|{batch}\r{rows}{more}BTS|{batch}\rFTS|{file}\r").into_bytes()
    };
    bait.good = document("");
    bait.bad = document(&message(&bad));
    let long = format!("{}OBX|3|TX|NOTE||{}{}\r", message(&bad), escaped(&bad.name), "x".repeat(LONG));
    let components = message(&bad)
        .replace("^HbA1c", &format!("^{0}^{0}", bad.ward))
        .replace("OBX|2|TX|NOTE||", &format!("OBX|2|TX|NOTE||{}^x&y^", bad.ward));
    let not_utf8 = {
        let mut bytes = document(&message(&bad).replace(&bad.value, "@@@@"));
        let at = bytes.windows(4).position(|window| window == b"@@@@").unwrap();
        bytes[at] = 0xff;
        bytes
    };
    bait.broken = vec![
        ("a message too long", document(&long), false),
        ("components that do not fit", document(&components), false),
        ("a message without separators", document(&format!("MSH|\rPID|{}\r", escaped(&bad.name))), false),
        ("a message without a patient", document(&format!("MSH|^~\\&|{}\rPID|1\r", bad.ward)), false),
        ("not UTF-8", not_utf8, false),
        ("no header", message(&bad).split_once('\r').unwrap().1.as_bytes().to_vec(), true),
    ];
    let other = format!("<people><p niss=\"{}\">{}</p></people>", bad.niss, xml(&bad.name));
    finish(bait, (&patients, bad, &corners), &other)
}
