//! Tables in other dialects: tabs, bars, Latin-1, Windows-1252, fixed width; documents that are not what they say.

use crate::{back, output, project, refused, run};
use schemas::messages::Reason;

const FIELDS: &str = "rows = \"keep\"\n[[fields]]\npath = \"id\"\naction = \"pseudonym\"\ndomain = \"id\"\n[[fields]]\npath = \"note\"\naction = \"keep\"";

fn with(lines: &str) -> zegel_ttp::CompiledProject {
    project(&format!("{lines}\n{FIELDS}"))
}

fn first_row(out: &str) -> String {
    out.lines().nth(1).unwrap().to_owned()
}

#[test]
fn every_delimiter_is_found_or_stated_and_none_shows_in_the_result() {
    let plain = output(&with(""), "id,note\n1,x\n");
    for (delimiter, batch) in [("\\t", "id\tnote\n1\tx\n"), ("|", "id|note\n1|x\n"), (";", "id;note\n1;x\n")] {
        assert_eq!(output(&with(""), batch), plain, "found {delimiter}");
        let stated = with(&format!("format = \"csv\"\ntext = {{ delimiter = \"{delimiter}\" }}"));
        assert_eq!(output(&stated, batch), plain, "stated {delimiter}");
        assert_eq!(refused(&stated, b"id,note\n1,x\n").code, "ZGL-TTP-COLUMNS", "stated {delimiter}, sent a comma");
    }
    // One column, and signs of other dialects in it.
    let one = project("[[fields]]\npath = \"a;b\"\naction = \"keep\"");
    assert_eq!(output(&one, "a;b\n1;2\n"), "a;b\n1;2\n");
}

#[test]
fn latin_1_and_windows_1252_come_out_as_utf_8() {
    let latin = with("text = { encoding = \"latin-1\" }");
    let (_, out) = run(&latin, b"id,note\n1,G\xe9lules\n").unwrap();
    assert!(first_row(&out).ends_with(",G\u{e9}lules"));
    let windows = with("text = { encoding = \"windows-1252\" }");
    let (_, out) = run(&windows, b"id,note\n1,\x8012\n").unwrap();
    assert!(first_row(&out).ends_with(",\u{20ac}12"));
    // The same name in another encoding is the same patient.
    let token = |project, batch: &[u8]| run(project, batch).unwrap().1.split(['\n', ',']).nth(2).unwrap().to_owned();
    assert_eq!(token(&latin, b"id,note\nAm\xe9lie,x\n"), token(&with(""), "id,note\nAm\u{e9}lie,x\n".as_bytes()));
}

fn fixed(lines: &str) -> zegel_ttp::CompiledProject {
    project(&format!(
        "format = \"fixed-width\"\nrows = \"keep\"\n{lines}\n[[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\nat = [1, 11]\n\
         [[fields]]\npath = \"sex\"\naction = \"keep\"\nat = [13, 13]\n[[fields]]\npath = \"name\"\naction = \"drop\"\nat = [14, 23]\n\
         [[fields]]\npath = \"note\"\naction = \"keep\"\nat = [24, 30]"
    ))
}

#[test]
fn fixed_width_text_is_cut_at_its_places() {
    let out = output(&fixed(""), "85061511796 MJanssens  gezond\r\n            F          x\n\n85061511697 F\n");
    let rows: Vec<_> = out.lines().collect();
    assert_eq!(rows[0], "niss,sex,note");
    assert!(rows[1].starts_with("P1.") && rows[1].ends_with(",M,gezond"));
    assert_eq!(rows[2], ",F,x");
    assert!(rows[3].ends_with(",F,"));
    assert_eq!(rows.len(), 4);
    // Places are letters, not bytes.
    let latin = fixed("text = { encoding = \"latin-1\" }");
    let (_, out) = run(&latin, b"85061511796 MJ\xe9r\xf4me    ziek\n").unwrap();
    assert!(out.ends_with(",M,ziek\n"), "{out}");
    let restored = back(&fixed(""), output(&fixed(""), "85061511796 M\n").as_bytes()).unwrap();
    assert_eq!(restored, "niss,sex,note\n85061511796,M,\n");
}

#[test]
fn what_stands_beside_the_columns_is_a_bad_row_or_dropped() {
    let codes = |reason: Reason| reason.rows.into_iter().map(|row| row.code).collect::<Vec<_>>();
    assert_eq!(codes(refused(&fixed(""), b"85061511796XM\n")), ["ZGL-TTP-UNLISTED"]);
    assert_eq!(codes(refused(&fixed(""), b"85061511796 M                 and more\n")), ["ZGL-TTP-UNLISTED"]);
    let out = output(&fixed("unlisted = \"drop\""), "85061511796XM                 and more\n");
    assert!(!out.contains('X') && !out.contains("more"));
    assert_eq!(codes(refused(&fixed(""), &vec![b'x'; 1 << 21])), ["ZGL-ROW-LENGTH"]);
}

#[test]
fn a_batch_that_is_not_what_the_project_says_is_refused_clearly() {
    for (format, batch, expected) in [
        ("csv", "{\"id\":1}", "is JSON"),
        ("ndjson", "id,note\n1,x\n", "not NDJSON"),
        ("fhir", "id,note\n1,x\n", "not FHIR in JSON"),
        ("fhir", "{\"id\":1}", "resourceType is missing"),
        ("fhir", "{\"resourceType\":\"Patient\"", "well-formed"),
        ("kmehr", "{\"id\":1}", "not KMEHR"),
        ("kmehr", "<x/>", "not a KMEHR message"),
        ("kmehr", "<kmehrmessage xmlns=\"urn:other\"><folder/></kmehrmessage>", "not a KMEHR message"),
        ("hl7v2", "PID|1\r", "not HL7"),
        ("hl7v2", "MIME-Version: 1.0", "does not begin with MSH"),
    ] {
        let reason = refused(
            &project(&format!("format = \"{format}\"\n[[fields]]\npath = \"id\"\naction = \"keep\"")),
            batch.as_bytes(),
        );
        assert_eq!(reason.code, "ZGL-TTP-FORMAT", "{format}: {batch}");
        assert!(reason.text.contains(expected), "{format}: {batch}: {}", reason.text);
    }
}
