//! Every action through a batch, and back again; what the check of a project refuses.

use crate::{HEAD, back, output, project, refused, run};
use proptest::prelude::*;
use schemas::ids::Ssin;
use zegel_ttp::ProjectDocument;

const ALL: &str = r#"
rows = "keep"
patient = ["niss"]
names = ["last", "first"]
[[fields]]
path = "niss"
kind = "ssin"
action = "pseudonym"
format = "ssin"
name = "niss_other"
may_be_real = true
required = true
[[fields]]
path = "no"
action = "pseudonym"
domain = "hospital-patient"
scope = "sender"
[[fields]]
path = "trial"
action = "random"
[[fields]]
path = "link"
action = "one-way"
domain = "link"
[[fields]]
path = "last"
action = "drop"
[[fields]]
path = "first"
action = "drop"
[[fields]]
path = "born"
kind = "date"
action = "generalise"
to = "5 years"
[[fields]]
path = "age"
kind = "age"
action = "generalise"
to = "10 years"
[[fields]]
path = "nis"
kind = "nis"
action = "generalise"
to = "arrondissement"
[[fields]]
path = "postcode"
kind = "postcode"
action = "generalise"
to = "province"
[[fields]]
path = "seen"
kind = "date"
action = "shift-dates"
days = 100
[[fields]]
path = "bmi"
kind = "number"
action = "bucket"
edges = [18.5, 25, 30]
[[fields]]
path = "note"
action = "scrub-text"
[[fields]]
path = "source"
action = "replace"
with = "a hospital"
[[fields]]
path = "loinc"
action = "keep"
"#;
const HEADER: &str = "niss,no,trial,link,last,first,born,age,nis,postcode,seen,bmi,note,source,loinc";
const ROW: &str = "85061511796,12,T7,L1,Janssens,Jan,1985-06-15,41,33039,8958,2024-03-01,24.2,\"Jan belt 0475/12.34.56\",AZ Alma,4548-4";

fn rows(text: &str) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

#[test]
fn each_action_gives_what_it_promises() {
    let out = output(&project(ALL), &format!("{HEADER}\n{ROW}\n{ROW}\n"));
    assert!(out.starts_with("niss_other,no,trial,link,born,age,nis,postcode,seen,bmi,note,source,loinc\n"));
    let [first, second] = &rows(&out)[..] else { panic!("two rows") };
    assert!(Ssin::parse(&first[0]).is_ok() && first[0] != "85061511796");
    assert!(first[1].starts_with("P1.") && first[2].starts_with("R1.") && first[3].starts_with("H1."));
    assert_eq!(first[4..8], ["1985-1989", "40-49", "33000", "30000"]);
    assert_ne!(first[8], "2024-03-01");
    assert_eq!(first[9..], ["18.5..25", "[NAME] belt [PHONE]", "a hospital", "4548-4"]);
    // Everything links within the batch but what is random.
    assert_ne!(first[2], second[2]);
    assert_eq!((&first[..2], &first[3..]), (&second[..2], &second[3..]));
}

#[test]
fn what_can_be_undone_comes_back_and_what_the_recipient_added_comes_along() {
    let project = project(ALL);
    let out = output(&project, &format!("{HEADER}\n{ROW}\n"));
    let enriched: String =
        out.lines().zip(["score,grade\n", "0.7,\"a, b\"\n"]).map(|(line, more)| format!("{line},{more}")).collect();
    let restored = back(&project, enriched.as_bytes()).unwrap();
    assert!(restored.starts_with("niss,no,trial,link,born,age,nis,postcode,seen,bmi,note,source,loinc,score,grade\n"));
    let row = &rows(&restored)[0];
    assert_eq!(row[..3], ["85061511796", "12", "T7"]);
    assert!(row[3].starts_with("H1."), "a one-way token stays");
    assert_eq!((row[8].as_str(), row[12].as_str()), ("2024-03-01", "4548-4"));
    assert_eq!(row[13..], ["0.7", "a, b"]);
}

#[test]
fn all_dates_of_a_patient_move_alike_and_those_of_others_otherwise() {
    let document = "rows = \"keep\"\npatient = [\"p\"]\n[[fields]]\npath = \"p\"\naction = \"pseudonym\"\ndomain = \"p\"\n\
        [[fields]]\npath = \"a\"\nkind = \"date\"\naction = \"shift-dates\"\n[[fields]]\npath = \"b\"\nkind = \"date\"\naction = \"shift-dates\"";
    let project = project(document);
    let batch: String = (0..40).map(|n| format!("P{},2024-01-10,2024-02-10T10:00:00Z\n", n % 20)).collect();
    let out = rows(&output(&project, &format!("p,a,b\n{batch}")));
    let day = |text: &str| chrono::NaiveDate::parse_from_str(&text[..10], "%Y-%m-%d").unwrap();
    let mut moves = std::collections::BTreeSet::new();
    for (row, again) in out.iter().zip(&out[20..]) {
        assert_eq!(row, again);
        assert_eq!((day(&row[2]) - day(&row[1])).num_days(), 31, "intervals are kept");
        assert!(row[2].ends_with("T10:00:00Z"));
        let days = (day(&row[1]) - day("2024-01-10")).num_days();
        assert!(days != 0 && days.abs() <= 365);
        moves.insert(days);
    }
    assert!(moves.len() > 10, "{moves:?}");
    assert_eq!(refused(&project, b"p,a,b\n,2024-01-10,\n").rows[0].code, "ZGL-ROW-PATIENT");
}

#[test]
fn contradictions_of_actions_are_refused_with_their_rule() {
    for (field, expected) in [
        ("kind = \"sex\"\naction = \"pseudonym\"", "too few different values"),
        ("kind = \"postcode\"\naction = \"one-way\"", "too few different values"),
        ("kind = \"date\"\naction = \"pseudonym\"", "too few different values"),
        ("kind = \"ssin\"\naction = \"pseudonym\"\nformat = \"ssin\"", "may be a living person's"),
        (
            "kind = \"ssin\"\naction = \"pseudonym\"\nformat = \"ssin\"\nname = \"f\"\nmay_be_real = true",
            "another `name`",
        ),
        ("action = \"pseudonym\"\ndomain = \"d\"\nformat = \"ssin\"", "goes with pseudonyms of national numbers"),
        ("kind = \"date\"\naction = \"shift-dates\"", "needs `patient`"),
        ("kind = \"text\"\naction = \"bucket\"\nwidth = 1", "goes with numbers"),
        ("kind = \"number\"\naction = \"bucket\"", "edges or width"),
        ("kind = \"number\"\naction = \"bucket\"\nedges = [2, 1]", "ascending"),
        ("kind = \"number\"\naction = \"bucket\"\nwidth = 0", "over 0"),
        ("kind = \"age\"\naction = \"generalise\"\nto = \"month\"", "an age to"),
        ("kind = \"nis\"\naction = \"generalise\"\nto = \"3 digits\"", "a NIS code to"),
        ("kind = \"date\"\naction = \"scrub-text\"", "goes with text"),
        ("action = \"replace\"", "needs it"),
        ("action = \"random\"\ndomain = \"d\"", "domain goes with"),
        ("action = \"keep\"\nat = [1, 2]", "at goes with fixed-width"),
        ("kind = \"fhir-id\"\naction = \"random\"", "links nothing"),
    ] {
        let error =
            ProjectDocument::parse(&format!("{HEAD}\n[[fields]]\npath = \"f\"\n{field}")).unwrap_err().to_string();
        assert!(error.contains(expected), "{field}: {error}");
    }
}

#[test]
fn few_different_tokens_in_many_rows_are_told() {
    let fields = "[[fields]]\npath = \"a\"\naction = \"pseudonym\"\ndomain = \"a\"\n[[fields]]\npath = \"b\"\naction = \"pseudonym\"\ndomain = \"b\"";
    let batch: String = (0..2_000).fold("a,b\n".to_owned(), |batch, n| batch + &format!("{},{n}\n", n % 50));
    assert_eq!(run(&project(fields), batch.as_bytes()).unwrap().0.few_values, ["a"]);
    assert!(run(&project(fields), b"a,b\n1,1\n").unwrap().0.few_values.is_empty(), "a small batch says nothing");
}

proptest! {
    #[test]
    fn encode_enrich_decode_is_the_input_in_every_token_and_kept_field(
        values in proptest::collection::vec(("\\PC{0,20}", "[ -~]{1,12}", 0u16..=998, 0u32..20_000), 1..12)
    ) {
        let project = project(
            "rows = \"keep\"\npatient = [\"n\"]\n[[fields]]\npath = \"n\"\nkind = \"ssin\"\naction = \"pseudonym\"\n[[fields]]\npath = \"t\"\naction = \"pseudonym\"\ndomain = \"t\"\n\
             [[fields]]\npath = \"r\"\naction = \"random\"\n[[fields]]\npath = \"k\"\naction = \"keep\"\n[[fields]]\npath = \"d\"\nkind = \"date\"\naction = \"shift-dates\"",
        );
        let mut batch = csv::Writer::from_writer(Vec::new());
        batch.write_record(["n", "t", "r", "k", "d"]).unwrap();
        let mut expected = Vec::new();
        for (text, ascii, serial, day) in &values {
            let niss = Ssin::from_parts(1970, 1, 1, *serial).unwrap().to_string();
            let date = (chrono::NaiveDate::from_ymd_opt(1950, 1, 1).unwrap() + chrono::Days::new(u64::from(*day))).to_string();
            let row = [niss, ascii.trim().to_owned(), ascii.trim().to_owned(), text.clone(), date];
            batch.write_record(&row).unwrap();
            expected.push(row.map(|value| if value.trim().is_empty() { String::new() } else { value }).to_vec());
        }
        let out = output(&project, std::str::from_utf8(&batch.into_inner().unwrap()).unwrap());
        let restored = back(&project, out.as_bytes()).unwrap();
        prop_assert_eq!(rows(&restored), expected);
    }
}

#[test]
fn sealed_content_passes_unopened_when_it_is_for_the_recipient_alone() {
    let folder = tempfile::tempdir().unwrap();
    let openssl = |arguments: &str| {
        std::process::Command::new("openssl").current_dir(folder.path()).args(arguments.split(' ')).output()
    };
    std::fs::write(folder.path().join("text"), "HbA1c 7.2").unwrap();
    let mut sealed = Vec::new();
    for name in ["recipient", "sender"] {
        let request =
            format!("req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name}");
        let seal = format!("cms -encrypt -aes256 -in text -outform DER -out {name}.cms {name}.pem");
        let Ok(true) = openssl(&request).map(|output| output.status.success()) else {
            assert!(std::env::var("ZEGEL_ORACLES").is_err(), "openssl is needed");
            eprintln!("SKIPPED: openssl is absent");
            return;
        };
        assert!(openssl(&seal).unwrap().status.success());
        use base64::Engine;
        let der = std::fs::read(folder.path().join(format!("{name}.cms"))).unwrap();
        sealed.push(base64::engine::general_purpose::STANDARD.encode(der));
    }
    let pem = std::fs::read_to_string(folder.path().join("recipient.pem")).unwrap();
    let project = project(&format!(
        "rows = \"keep\"\n[[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\n\
         [[fields]]\npath = \"medical\"\nkind = \"sealed\"\naction = \"keep\"\nsealed_for = '''{pem}'''"
    ));
    let out = output(&project, &format!("niss,medical\n85061511796,{}\n", sealed[0]));
    assert_eq!(rows(&out)[0][1], sealed[0], "not a byte is changed");
    for bad in [sealed[1].as_str(), "QUJD", "HbA1c 7.2"] {
        let reason = refused(&project, format!("niss,medical\n85061511796,{bad}\n").as_bytes());
        assert_eq!(reason.rows[0].code, "ZGL-ROW-SEALED");
    }
    let error =
        ProjectDocument::parse(&format!("{HEAD}\n[[fields]]\npath = \"f\"\nkind = \"sealed\"\naction = \"keep\""))
            .unwrap_err();
    assert!(error.to_string().contains("needs the recipient's certificate"));
}
