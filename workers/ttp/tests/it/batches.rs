//! Batches through projects: what comes out, what is refused, and what a refusal never shows.

use crate::{output, project, refused, run};
use proptest::prelude::*;
use schemas::messages::Reason;
use zegel_ttp::{CompiledProject, Format};

const FIELDS: &str = r#"
rows = "keep"
[[fields]]
path = "niss"
kind = "ssin"
action = "pseudonym"
required = true
[[fields]]
path = "born"
kind = "date"
action = "generalise"
to = "year"
[[fields]]
path = "name"
action = "drop"
[[fields]]
path = "note"
action = "keep"
"#;

fn lab() -> CompiledProject {
    project(FIELDS)
}

fn with(line: &str) -> CompiledProject {
    project(&format!("{line}\n{FIELDS}"))
}

fn first_token(output: &str) -> &str {
    output.lines().nth(1).unwrap().split(',').next().unwrap()
}

/// (row, field, code) of each reported row.
fn rows(reason: &Reason) -> Vec<(u64, &str, &str)> {
    reason.rows.iter().map(|bad| (bad.row, bad.field.as_str(), bad.code.as_str())).collect()
}

#[test]
fn a_csv_batch_comes_out_in_the_projects_order_without_what_is_dropped() {
    let (summary, out) =
        run(&lab(), b"note,name,born,niss\r\n\"a, \"\"b\"\"\",Jan,1985-06-15,85061511796\r\n").unwrap();
    assert_eq!((summary.format, summary.rows_in, summary.rows_out, summary.bad_rows), (Format::Csv, 1, 1, 0));
    let token = first_token(&out);
    assert!(token.starts_with("P1.1-"));
    assert_eq!(out, format!("niss,born,note\n{token},1985,\"a, \"\"b\"\"\"\n"));
}

#[test]
fn the_dialect_of_the_sender_does_not_show() {
    let plain = output(&lab(), "niss,born,name,note\n85061511796,1985-06-15,Jan,x\n");
    for batch in [
        "\u{feff}niss;born;name;note\r\n85061511796;1985-06-15;Jan;x\r\n",
        "\"niss\",\"born\",\"name\",\"note\"\n\"85.06.15-117.96\",\"1985-06-15\",\"Jan\",\"x\"",
        "\n\n note , name ,born,niss\nx,Jan,1985-06-15,85061511796\n\n",
    ] {
        assert_eq!(output(&lab(), batch), plain, "{batch:?}");
    }
}

/// Editors put it there: in CSV it would be a part of the first column's name, in JSON no JSON.
#[test]
fn a_byte_order_mark_is_no_part_of_the_first_name_or_value_there_and_back() {
    let fields = "rows = \"keep\"\n[[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"";
    for (format, batch) in [
        ("", "niss\n85061511796\n"),
        ("", "{\"niss\":\"85061511796\"}\n"),
        ("format = \"csv\"\n", "niss\n85061511796\n"),
        ("format = \"ndjson\"\n", "{\"niss\":\"85061511796\"}\n"),
        ("format = \"json\"\n", "[{\"niss\":\"85061511796\"}]"),
        ("format = \"fixed-width\"\n", "85061511796\n"),
    ] {
        let fields = if format.contains("fixed") { format!("{fields}\nat = [1, 11]") } else { fields.to_owned() };
        let project = project(&format!("{format}{fields}"));
        let plain = output(&project, batch);
        assert_eq!(output(&project, &format!("\u{feff}{batch}")), plain, "{format}");
        let restored = crate::back(&project, format!("\u{feff}{plain}").as_bytes()).unwrap();
        assert_eq!(restored, crate::back(&project, plain.as_bytes()).unwrap(), "{format}");
    }
}

#[test]
fn ndjson_members_are_sorted_and_paths_go_through_arrays() {
    let project = project(
        r#"
        rows = "keep"
        [[fields]]
        path = "subject.reference"
        action = "pseudonym"
        domain = "patient"
        prefix = "Patient/"
        required = true
        [[fields]]
        path = "id"
        action = "pseudonym"
        domain = "patient"
        [[fields]]
        path = "author"
        action = "drop"
        [[fields]]
        path = "value"
        action = "keep"
        "#,
    );
    let batch = concat!(
        "{\"value\": [1.50, 2E1, null, \"\\u0041\", true], \"subject\": [{\"reference\": \"Patient/12\"}],",
        " \"id\": 12, \"author\": {\"name\": \"Jan\"}}\n\n{\"subject\":{\"reference\":\"Patient/13\"},\"value\":[]}"
    );
    let out = output(&project, batch);
    let mut lines = out.lines();
    let token = lines.next().unwrap().split('"').nth(3).unwrap();
    assert!(token.starts_with("P1."));
    let first = format!(
        "{{\"id\":\"{token}\",\"subject\":[{{\"reference\":\"Patient/{token}\"}}],\"value\":[1.50,2E1,null,\"A\",true]}}"
    );
    assert_eq!(out.lines().next(), Some(first.as_str()));
    assert!(lines.next().unwrap().ends_with("},\"value\":[]}"));
}

#[test]
fn columns_that_do_not_fit_are_refused_by_name_or_by_position() {
    let reason = refused(&lab(), b"niss,born,name\n85061511796,1985-06-15,Jan\n");
    assert_eq!((reason.code.as_str(), reason.text.as_str()), ("ZGL-TTP-MISSING", "missing: note"));
    let reason = refused(&lab(), b"niss,born,name,note,phone\n");
    assert_eq!(
        (reason.code.as_str(), reason.text.as_str()),
        ("ZGL-TTP-UNLISTED", "column 5: not listed in the project")
    );
    let reason = refused(&lab(), b"niss,niss,born,name,note\n");
    assert_eq!(reason.code, "ZGL-TTP-COLUMNS");
    // A batch without a header has a patient there.
    let reason = refused(&lab(), b"85061511796,1985-06-15,Janssens,x\n");
    assert_eq!(reason.code, "ZGL-TTP-COLUMNS");
    assert!(!reason.text.contains("850615") && !reason.text.contains("Janssens"), "{}", reason.text);
}

#[test]
fn unlisted_columns_and_members_are_left_out_where_the_project_says_so() {
    let project = with("unlisted = \"drop\"");
    let out = output(&project, "niss,phone,born,name,note\n85061511796,09,1985-06-15,Jan,x\n");
    assert!(out.starts_with("niss,born,note\n") && !out.contains("09"));
    let out = output(&project, r#"{"niss":"85061511796","phone":{"a":[1]},"note":"x"}"#);
    assert!(out.ends_with("\"note\":\"x\"}\n") || out.starts_with("{\"niss\":"), "{out}");
    assert!(!out.contains("phone"));
}

#[test]
fn unlisted_members_are_bad_rows_whose_names_are_not_told() {
    let reason = refused(&lab(), br#"{"niss":"85061511796","Janssens":{"a":1},"born":{"x":2},"note":[{"y":3}]}"#);
    assert_eq!(
        rows(&reason),
        [(1, "?", "ZGL-TTP-UNLISTED"), (1, "born.?", "ZGL-TTP-UNLISTED"), (1, "note.?", "ZGL-TTP-UNLISTED")]
    );
    assert_eq!(reason.bad_rows, 1);
}

#[test]
fn a_member_with_a_dot_in_its_name_is_not_the_path_that_looks_like_it() {
    let project = project("[[fields]]\npath = \"a.b\"\naction = \"keep\"");
    assert_eq!(output(&project, r#"{"a":{"b":1}}"#), "{\"a\":{\"b\":1}}\n");
    assert_eq!(refused(&project, br#"{"a.b":1}"#).code, "ZGL-TTP-ROWS");
}

#[test]
fn bad_rows_refuse_the_batch_with_their_numbers_and_codes() {
    let batch = "niss,born,name,note\n85061511796,1985-06-15,A,x\n85061511797,x,B,y\n,1985-06-15,C,z\n1,2,3\n";
    let reason = refused(&lab(), batch.as_bytes());
    assert_eq!((reason.code.as_str(), reason.bad_rows), ("ZGL-TTP-ROWS", 3));
    assert_eq!(
        rows(&reason),
        [
            (2, "niss", "ZGL-ROW-SSIN"),
            (2, "born", "ZGL-ROW-DATE"),
            (3, "niss", "ZGL-ROW-REQUIRED"),
            (4, "", "ZGL-ROW-FIELDS"),
        ]
    );
    let ndjson = "{\"niss\":\"85061511796\"}\n[1]\n{\"born\":null}\n{\"niss\":\"1\"}\n{\"niss\":1,\"niss\":2}\nnull\n";
    assert_eq!(
        rows(&refused(&lab(), ndjson.as_bytes())),
        [
            (2, "", "ZGL-ROW-JSON"),
            (3, "niss", "ZGL-ROW-REQUIRED"),
            (4, "niss", "ZGL-ROW-SSIN"),
            (5, "", "ZGL-ROW-JSON"),
            (5, "niss", "ZGL-ROW-REQUIRED"),
            (6, "", "ZGL-ROW-JSON"),
        ]
    );
}

#[test]
fn at_most_a_hundred_bad_rows_are_named_and_all_are_counted() {
    let batch = format!("niss,born,name,note\n{}", "1,,,\n".repeat(250));
    let reason = refused(&lab(), batch.as_bytes());
    assert_eq!((reason.rows.len(), reason.bad_rows), (100, 250));
}

#[test]
fn the_good_rows_are_delivered_where_the_project_says_so() {
    let project = with("bad_rows = \"refuse-row\"");
    let (summary, out) = run(&project, b"niss,born,name,note\n85061511796,,A,good\n1,,B,bad\n").unwrap();
    assert_eq!((summary.rows_in, summary.rows_out, summary.bad_rows, summary.bad.len()), (2, 1, 1, 1));
    assert!(out.contains("good") && !out.contains("bad"));
    assert_eq!(refused(&project, b"niss,born,name,note\n1,,B,bad\n").code, "ZGL-TTP-ROWS");
}

#[test]
fn bytes_that_are_not_utf_8_are_bad_rows_or_a_bad_format() {
    let reason = refused(&lab(), b"niss,born,name,note\n85061511796,,Andr\xe9,x\n");
    assert_eq!(rows(&reason), [(1, "", "ZGL-ROW-UTF8")]);
    assert_eq!(rows(&refused(&lab(), b"{\"niss\":\"\xe9\"}")), [(1, "", "ZGL-ROW-UTF8")]);
    assert_eq!(refused(&lab(), b"niss,born,name,not\xe9\n").code, "ZGL-TTP-FORMAT");
    assert_eq!(refused(&lab(), b"\xff\xfen\0i\0s\0s\0").code, "ZGL-TTP-FORMAT");
    assert_eq!(refused(&lab(), b"niss,born,name,note\r85061511796,,x,y\r").code, "ZGL-TTP-FORMAT");
}

#[test]
fn a_quote_that_is_never_closed_takes_no_identifier_of_a_later_row_along() {
    let head = "niss,born,name,note\n85061511796,,A,good\n";
    for rest in ["85061511796,,B,\"x\n85061511697,,C,y\n", "85061511796,,B,\"x\r\n85061511697,,C,y", ",,,\""] {
        let batch = format!("{head}{rest}");
        assert_eq!(rows(&refused(&lab(), batch.as_bytes())), [(2, "", "ZGL-ROW-QUOTE")], "{rest}");
        let (summary, out) = run(&with("bad_rows = \"refuse-row\""), batch.as_bytes()).unwrap();
        assert_eq!((summary.rows_in, summary.rows_out, out.contains("85061511697")), (2, 1, false), "{rest}");
    }
}

#[test]
fn however_a_batch_ends_its_last_row_is_one_row() {
    let project = project("[[fields]]\npath = \"a\"\naction = \"keep\"");
    for (end, last) in
        [(".", "."), ("x\n", "x"), ("x\r\n", "x"), ("x\n\n\n", "x"), ("\"x\n\"", "\"x\n\""), (".\n", ".")]
    {
        let (summary, out) = run(&project, format!("a\n1\n{end}").as_bytes()).unwrap();
        assert_eq!(summary.rows_in, 2, "{end:?}");
        assert!(out.contains(&format!("\n{last}\n")), "{end:?}: {out:?}");
    }
}

#[test]
fn empty_batches_are_refused() {
    for batch in ["", "  \n\n", "\u{feff}", "niss,born,name,note\n"] {
        assert_eq!(refused(&lab(), batch.as_bytes()).code, "ZGL-TTP-EMPTY", "{batch:?}");
    }
}

#[test]
fn a_row_that_never_ends_is_refused_before_it_fills_the_memory() {
    /// An open quote and then a gigabyte, counted.
    struct Endless(u64);
    impl std::io::Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0 += buffer.len() as u64;
            assert!(self.0 < 4 << 20, "the row is read on and on");
            buffer.fill(b'x');
            Ok(buffer.len())
        }
    }
    use std::io::Read;
    for head in ["niss,born,name,note\n85061511796,,A,\"", "{\"niss\":\"85061511796\"}\n{\"note\":\""] {
        let mut input = std::io::BufReader::new(head.as_bytes().chain(Endless(0).take(3 << 20)));
        let mut random = |bytes: &mut [u8]| bytes.fill(1);
        let result =
            zegel_ttp::transform(&lab(), &crate::sender(), &mut input, &mut std::io::sink(), None, &mut random);
        let Err(zegel_ttp::TransformError::Refused(reason)) = result else { panic!("expected a refusal") };
        assert_eq!(reason.rows.last().unwrap().code, "ZGL-ROW-LENGTH");
    }
}

#[test]
fn a_header_of_a_hundred_thousand_lines_costs_no_more_than_its_bytes() {
    // An open quote, and lines of one byte: reading the whole header again at each of them took minutes.
    let header = format!("\"{}", "\n".repeat(400_000));
    let begun = std::time::Instant::now();
    assert_eq!(refused(&lab(), header.as_bytes()).code, "ZGL-TTP-COLUMNS");
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn nesting_without_end_is_a_bad_row() {
    let deep = format!("{{\"note\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(refused(&lab(), deep.as_bytes()).code, "ZGL-TTP-ROWS");
}

#[test]
fn numbers_of_one_sender_are_not_mixed_up_with_anothers_but_link_within() {
    let project = project(
        "rows = \"keep\"\n[[fields]]\npath = \"a\"\naction = \"pseudonym\"\ndomain = \"no\"\nscope = \"sender\"\n\
         [[fields]]\npath = \"b\"\naction = \"pseudonym\"\ndomain = \"no\"",
    );
    let out = output(&project, "a,b\n1,1\n1,1\n");
    let mut lines = out.lines().skip(1);
    let first = lines.next().unwrap();
    assert_eq!(Some(first), lines.next());
    let (a, b) = first.split_once(',').unwrap();
    assert_ne!(a, b);
}

#[test]
fn rows_are_shuffled_unless_the_project_keeps_their_order() {
    let fields = FIELDS.replace("rows = \"keep\"", "");
    let batch: String =
        (0..200).fold("niss,born,name,note\n".to_owned(), |batch, n| batch + &format!("85061511796,,,{n}\n"));
    let notes =
        |out: String| out.lines().skip(1).map(|line| line.rsplit(',').next().unwrap().to_owned()).collect::<Vec<_>>();
    let (kept, mut shuffled) = (notes(output(&lab(), &batch)), notes(output(&project(&fields), &batch)));
    assert_ne!(kept, shuffled);
    shuffled.sort_by_key(|note| note.parse::<u32>().unwrap());
    assert_eq!(kept, shuffled);
}

proptest! {
    #[test]
    fn what_is_kept_is_kept_exactly_whatever_it_is(notes in proptest::collection::vec("\\PC{0,20}|[,;\"\\r\\n ]{0,5}", 1..20)) {
        let mut batch = csv::Writer::from_writer(Vec::new());
        batch.write_record(["niss", "born", "name", "note"]).unwrap();
        for note in &notes {
            batch.write_record(["85061511796", "", "", note]).unwrap();
        }
        let (_, out) = run(&lab(), &batch.into_inner().unwrap()).unwrap();
        let mut reader = csv::Reader::from_reader(out.as_bytes());
        let kept: Vec<String> = reader.records().map(|row| row.unwrap()[2].to_owned()).collect();
        let expected: Vec<&str> = notes.iter().map(|note| if note.trim().is_empty() { "" } else { note }).collect();
        prop_assert_eq!(kept, expected);
    }

    #[test]
    fn no_bytes_make_it_panic_or_let_a_name_through(bytes in proptest::collection::vec(any::<u8>(), 0..300), ndjson in any::<bool>()) {
        let head: &[u8] = if ndjson { b"{\"niss\":\"85061511796\",\"name\":\"canary\"}\n" } else { b"niss,born,name,note\n85061511796,,canary,\n" };
        let project = with("bad_rows = \"refuse-row\"\nunlisted = \"drop\"");
        if let Ok((_, out)) = run(&project, &[head, &bytes].concat()) {
            prop_assert!(!out.contains("canary") && !out.contains("85061511796"));
        }
        let _ = run(&project, &bytes);
    }

    #[test]
    fn any_json_comes_out_as_json_with_tokens_in_place(text in "\\PC{1,30}", number in any::<f64>()) {
        prop_assume!(!text.trim().is_empty());
        let project = project("rows = \"keep\"\n[[fields]]\npath = \"a.b\"\naction = \"one-way\"\ndomain = \"d\"\n[[fields]]\npath = \"c\"\naction = \"keep\"");
        let row = serde_json::json!({ "a": [{ "b": [text] }], "c": number }).to_string();
        let written = output(&project, &row);
        // Digit for digit: reading it as a number would lose some.
        prop_assert!(written.contains(&row[row.find("\"c\":").unwrap()..row.len() - 1]));
        let out: serde_json::Value = serde_json::from_str(&written).unwrap();
        prop_assert!(out["a"][0]["b"][0].as_str().unwrap().starts_with("H1."));
    }
}
