//! Batches of HL7 v2 messages, there and back.

use crate::{back, output, project, refused, run};
use proptest::prelude::*;

pub(crate) const HL7: &str = r#"
format = "hl7v2"
rows = "keep"
unlisted = "drop"
patient = ["PID.3[5=NN].1"]
names = ["PID.5"]
[[fields]]
path = "MSH.7"
kind = "date"
action = "generalise"
to = "month"
[[fields]]
path = "MSH.9.**"
action = "keep"
[[fields]]
path = "MSH.10"
action = "random"
[[fields]]
path = "MSH.12"
action = "keep"
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
path = "PID.5"
action = "drop"
[[fields]]
path = "PID.7"
kind = "date"
action = "shift-dates"
[[fields]]
path = "PID.8"
action = "keep"
[[fields]]
path = "PID.11.5"
kind = "postcode"
action = "generalise"
to = 2
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

pub(crate) const MESSAGE: &str = "MSH|^~\\&|LAB|AZ Alma|R|R|20240301101500||ORU^R01^ORU_R01|M1|P|2.5||||||8859/1\rPID|1||85061511796^^^RR^NN~4711^^^ALMA^MR||Janssens^Jan^^^Dr||19850615|M|||Dorpsstraat 1^^Heuvelland^^8958\rOBX|1|NM|4548-4^HbA1c^LN||7.2\rOBX|2|TX|NOTE||Jan, tel 0475/12.34.56 \\T\\ \\.br\\ok\r";

#[test]
fn a_message_keeps_its_form_and_loses_who_it_is_about_and_who_sent_it() {
    let out = output(&project(HL7), MESSAGE);
    let segments: Vec<_> = out.split('\r').collect();
    assert!(segments[0].starts_with("MSH|^~\\&|||||202403||ORU^R01^ORU_R01|R1."), "{out:?}");
    assert!(segments[0].ends_with("||2.5||||||UNICODE UTF-8"), "{out:?}");
    assert!(segments[1].starts_with("PID|||P1.") && segments[1].contains("^^^^NN~P1."), "{out:?}");
    assert!(segments[1].ends_with("|M|||^^^^89"), "{out:?}");
    assert_eq!(segments[2], "OBX|||4548-4^HbA1c^LN||7.2");
    assert_eq!(segments[3], "OBX|||NOTE||[NAME], tel [PHONE] \\T\\ \\.br\\ok");
    for secret in ["Janssens", "85061511796", "ALMA", "Alma", "4711", "Dorps", "19850615"] {
        assert!(!out.contains(secret), "{secret} in {out}");
    }
}

#[test]
fn messages_in_files_frames_and_lines_are_found_one_by_one() {
    let lines = MESSAGE.replace('\r', "\n");
    for batch in [
        format!("{MESSAGE}{MESSAGE}"),
        format!("{lines}\n{lines}"),
        format!("\u{b}{MESSAGE}\u{1c}\r\u{b}{MESSAGE}\u{1c}\r"),
        format!("FHS|^~\\&|x\rBHS|^~\\&|x\r{MESSAGE}{MESSAGE}BTS|2\rFTS|1\r"),
    ] {
        let (summary, out) = run(&project(HL7), batch.as_bytes()).unwrap();
        assert_eq!((summary.rows_in, summary.rows_out), (2, 2), "{batch:?}");
        assert!(!out.contains("FHS") && !out.contains('\u{b}'));
    }
    // Other separators are read, the usual ones are written.
    let other: String = MESSAGE
        .chars()
        .map(|c| match c {
            '|' => '#',
            '^' => '*',
            '~' => '%',
            '&' => '$',
            c => c,
        })
        .collect();
    let fixed = |text: String| text.split('\r').skip(1).take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(fixed(output(&project(HL7), &other)), fixed(output(&project(HL7), MESSAGE)));
}

#[test]
fn text_in_hexadecimal_is_scrubbed_like_any_other() {
    let written = |text: &str| text.bytes().map(|byte| format!("{byte:02X}")).collect::<String>();
    let [number, name] = ["85061511796", "Janssens"].map(written);
    let out = output(&project(HL7), &MESSAGE.replace("Jan, tel", &format!("\\X{number}\\ \\X{name}\\, tel")));
    assert!(out.contains("|[NUMBER] [NAME], tel [PHONE]"), "{out}");
}

#[test]
fn messages_that_do_not_fit_are_bad_rows() {
    let code = |batch: &str| refused(&project(HL7), batch.as_bytes()).rows[0].code.clone();
    assert_eq!(code("MSH|^~\\&|X\rPID|1\r"), "ZGL-ROW-REQUIRED");
    assert_eq!(code("MSH|\r"), "ZGL-ROW-HL7");
    assert_eq!(code(&MESSAGE.replace("19850615", "19850615^x")), "ZGL-ROW-HL7");
    assert_eq!(code(&format!("{MESSAGE}OBX|1|TX|X||{}\r", "x".repeat(1 << 20))), "ZGL-ROW-LENGTH");
    let strict = project("format = \"hl7v2\"\n[[fields]]\npath = \"PID.8\"\naction = \"keep\"");
    let reason = refused(&strict, b"MSH|^~\\&|X\rPID|||||||M||Janssens\r");
    assert!(reason.rows.iter().all(|row| row.code == "ZGL-TTP-UNLISTED" && !row.field.contains("Janssens")));
    for path in ["MSH.3", "MSH.4.1"] {
        let text = format!("{}format = \"hl7v2\"\n[[fields]]\npath = \"{path}\"\naction = \"keep\"", crate::HEAD);
        assert!(zegel_ttp::ProjectDocument::parse(&text).unwrap_err().to_string().contains("names the sender"));
    }
}

proptest! {
    #[test]
    fn hl7_comes_back_with_what_was_added(notes in proptest::collection::vec("[ -~]{1,30}", 1..6), number in 0u32..10_000, day in 1u32..29) {
        let project = project(&HL7.replace("scrub-text", "keep"));
        let escaped = |text: &str| text.replace('\\', "\\E\\").replace('|', "\\F\\").replace('^', "\\S\\").replace('&', "\\T\\").replace('~', "\\R\\");
        let batch: String = notes.iter().map(|note| {
            format!("MSH|^~\\&|L|F|||20240301||ORU|{number}|P|2.5\rPID|||85061511796^^^^NN~{number}||||198506{day:02}|M\rOBX|1|TX|NOTE||{}\r", escaped(note.trim()))
        }).collect();
        let out = output(&project, &batch);
        let enriched = out.replace("\rOBX", "\rZAI|0.7^\\T\\\rOBX");
        let restored = back(&project, enriched.as_bytes()).unwrap();
        for (message, note) in restored.split("MSH|").skip(1).zip(&notes) {
            let pid = format!("PID|||85061511796^^^^NN~{number}||||198506{day:02}|M\r");
            let obx = format!("OBX|||NOTE||{}", escaped(note.trim()));
            prop_assert!(message.contains(&pid), "{}", message);
            prop_assert!(message.contains("ZAI|0.7^\\T\\\r"), "{}", message);
            prop_assert!(note.trim().is_empty() || message.contains(&obx), "{} in {}", obx, message);
            prop_assert!(message.contains(&format!("||ORU|{number}|P|2.5\r")) || message.contains(&format!("||ORU|{number}||2.5\r")), "{}", message);
        }
    }
}
