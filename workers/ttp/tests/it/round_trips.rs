//! What the recipient enriched and sent back is what was sent, in every reversible and kept field, plus the enrichment: lines and arrays of
//! JSON, and text in columns. (CSV is in `actions`, the trees are in `trees`.)

use crate::{back, output, project, refused};
use proptest::prelude::*;
use schemas::ids::Ssin;
use serde_json::{Value, json};
use zegel_ttp::CompiledProject;

const FIELDS: &str = "rows = \"keep\"\n[[fields]]\npath = \"patient.niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\n\
    [[fields]]\npath = \"no\"\naction = \"pseudonym\"\ndomain = \"no\"\nscope = \"sender\"\n\
    [[fields]]\npath = \"link\"\naction = \"random\"\n\
    [[fields]]\npath = \"note\"\naction = \"keep\"\n[[fields]]\npath = \"value\"\naction = \"keep\"\n[[fields]]\npath = \"name\"\naction = \"drop\"";

fn tree(format: &str) -> CompiledProject {
    project(&format!("format = \"{format}\"\n{FIELDS}"))
}

fn niss() -> impl Strategy<Value = String> {
    (1930u16..2000, 1u8..13, 1u8..29, 1u16..997).prop_filter_map("not a number", |(year, month, day, serial)| {
        Ssin::from_parts(year, month, day, serial).ok().map(|niss| niss.to_string())
    })
}

fn row() -> impl Strategy<Value = Value> {
    (niss(), "[A-Z0-9]{1,12}", "\\PC{0,30}", -1_000_000i64..1_000_000).prop_map(|(niss, no, note, value)| {
        json!({ "patient": { "niss": niss }, "no": no, "link": no, "note": note, "value": value, "name": "Janssens" })
    })
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What must come back of a row: everything but what was dropped, plus what was added. A text of spaces is no value.
fn expected(row: &Value, score: usize) -> Value {
    let mut row = row.clone();
    if row["note"].as_str().is_some_and(|note| note.trim().is_empty()) {
        row["note"] = json!("");
    }
    row.as_object_mut().unwrap().remove("name");
    row["score"] = json!(score);
    row
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn json_comes_back_as_it_was_sent_with_what_was_added(rows in proptest::collection::vec(row(), 1..8), which in 0usize..3) {
        let sent = match which {
            0 => rows.iter().map(|row| format!("{row}\n")).collect::<String>(),
            1 => serde_json::to_string_pretty(&rows).unwrap(),
            _ => rows.iter().map(|row| serde_json::to_string_pretty(row).unwrap()).collect::<Vec<_>>().join(" "),
        };
        let project = tree(["ndjson", "json", "json"][which]);
        let delivered = output(&project, &sent);
        for row in &rows {
            prop_assert!(!delivered.contains(row["patient"]["niss"].as_str().unwrap()));
        }
        let mut enriched = String::new();
        for (score, mut object) in objects(&delivered).into_iter().enumerate() {
            object["score"] = json!(score);
            enriched.push_str(&format!("{object}\n"));
        }
        let restored = back(&project, enriched.as_bytes()).unwrap();
        let wanted: Vec<Value> = rows.iter().enumerate().map(|(score, row)| expected(row, score)).collect();
        prop_assert_eq!(objects(&restored), wanted);
    }

    #[test]
    fn text_in_columns_comes_back_with_what_was_added(rows in proptest::collection::vec((niss(), "[a-z]{1,8}"), 1..8)) {
        let project = project(
            "format = \"fixed-width\"\nrows = \"keep\"\n[[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\nat = [1, 11]\n\
             [[fields]]\npath = \"note\"\naction = \"keep\"\nat = [12, 20]",
        );
        let sent: String = rows.iter().map(|(niss, note)| format!("{niss}{note}\n")).collect();
        let delivered = output(&project, &sent);
        let enriched: Vec<String> =
            delivered.lines().enumerate().map(|(n, line)| format!("{line},{}", if n == 0 { "score".to_owned() } else { n.to_string() })).collect();
        let restored = back(&project, (enriched.join("\n") + "\n").as_bytes()).unwrap();
        let wanted: String = rows.iter().enumerate().map(|(n, (niss, note))| format!("{niss},{note},{}\n", n + 1)).collect();
        prop_assert_eq!(restored, format!("niss,note,score\n{wanted}"));
    }
}

#[test]
fn an_array_that_is_cut_or_followed_by_something_is_refused_whole() {
    let row = r#"{"patient":{"niss":"85061511796"},"no":"1","link":"1","note":"","value":1}"#;
    for batch in [
        format!("[{row}"),
        format!("[{row},"),
        format!("[{row},]"),
        format!("[{row} {row}]"),
        format!("[{row}] x"),
        format!("{row} ]"),
        "\"text\"".to_owned(),
    ] {
        assert_eq!(refused(&tree("json"), batch.as_bytes()).code, "ZGL-TTP-FORMAT", "{batch}");
    }
    assert_eq!(refused(&tree("json"), b"[]").code, "ZGL-TTP-EMPTY");
    assert_eq!(refused(&tree("json"), format!("[{row},7]").as_bytes()).rows[0].code, "ZGL-ROW-JSON");
}
