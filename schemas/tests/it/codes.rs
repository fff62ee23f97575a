//! The table of codes: no code twice, statuses that fit, and the same table in the README.

use crate::checked_in;
use std::collections::BTreeSet;
use zegel_schemas::codes::{self, CodeKind};
use zegel_schemas::{AddressError, MailboxAddress};

#[test]
fn no_code_stands_twice_and_each_can_be_found() {
    let names: BTreeSet<_> = codes::all().iter().map(|code| code.code).collect();
    assert_eq!(names.len(), codes::all().len());
    assert!(codes::all().iter().all(|code| codes::find(code.code) == Some(code)));
    assert_eq!(codes::find("ZGL-NO-SUCH"), None);
}

#[test]
fn each_code_says_what_happened_with_a_fitting_status() {
    for code in codes::all() {
        match code.kind {
            CodeKind::Refused => assert!((400..=503).contains(&code.http_status), "{}", code.code),
            CodeKind::Failed => assert!((500..=507).contains(&code.http_status), "{}", code.code),
            CodeKind::Warning => assert_eq!(code.http_status, 200, "{}", code.code),
        }
        let named_well = match code.code.strip_prefix("ZGL-") {
            Some(name) => name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-'),
            None => code.code.len() == 3 && code.code.starts_with('8'),
        };
        assert!(named_well, "{}", code.code);
        for text in [code.summary, code.help] {
            // No full stop, no bar that would break the printed table.
            assert!(!text.is_empty() && !text.ends_with('.') && !text.contains('|'), "{}", code.code);
        }
    }
}

#[test]
fn every_address_error_has_a_code_of_the_table() {
    for text in ["", "CBE-X:1", "CBE:1", "CBE:0123456749:X"] {
        let error: AddressError = text.parse::<MailboxAddress>().unwrap_err();
        assert!(codes::find(error.code()).is_some(), "{error}");
    }
}

#[test]
fn the_readme_shows_the_table_as_it_is() {
    let (start, end) = ("<!-- codes: generated, UPDATE_GOLDEN=1 rewrites -->\n\n", "\n<!-- end of codes -->");
    let readme = std::fs::read_to_string(checked_in::path("README.md")).unwrap();
    let (before, rest) = readme.split_once(start).expect("the README marks where the table begins");
    let (_, after) = rest.split_once(end).expect("the README marks where the table ends");
    checked_in::same("README.md", &format!("{before}{start}{}{end}{after}", codes::markdown()));
}
