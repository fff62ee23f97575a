//! The audit finds each kind of fault, by name.

use crate::stage::{MINUTE, Stage, TEN, authority, entry};
use base64::{Engine, engine::general_purpose::STANDARD};
use zegel_crypto::bag::Header;
use zegel_timestamp::audit::{self, Evidence, Link};
use zegel_timestamp::queries;

/// Two bags of a hospital, and the evidence about the second.
#[derive(Clone)]
struct Case {
    xml: Vec<u8>,
    tsr: Vec<u8>,
    header: Vec<u8>,
    previous: Link,
}

impl Case {
    fn new() -> Case {
        let mut stage = Stage::usual();
        stage.offer(&[entry(1, 1)]);
        stage.now = TEN.plus(5 * MINUTE);
        stage.offer(&[entry(2, 2), entry(3, 3)]);
        stage.now = TEN.plus(10 * MINUTE);
        stage.tick();
        stage.seal_all();
        let bags = stage.bags();
        let (reports, _) = stage.audit();
        Case {
            xml: stage.content(&bags[1].xml),
            tsr: stage.query(&queries::token(stage.key, 2)).unwrap().to_vec(),
            header: bags[1].header.clone(),
            previous: reports[0].link.clone().unwrap(),
        }
    }

    fn findings(&self) -> Vec<&'static str> {
        let evidence =
            Evidence { xml: self.xml.as_slice(), tsr: &self.tsr, header: &self.header, previous: Some(&self.previous) };
        audit::check(evidence, &authority().1, |_, _| {}).findings.iter().map(audit::Finding::name).collect()
    }

    fn edit(&mut self, from: &str, to: &str) {
        let text = String::from_utf8(self.xml.clone()).unwrap();
        assert!(text.contains(from));
        self.xml = text.replacen(from, to, 1).into_bytes();
    }

    fn rewrite(&mut self, change: impl Fn(&mut Header)) {
        let mut header = Header::decode(&self.header).unwrap();
        change(&mut header);
        self.header = header.encode();
    }
}

#[test]
fn an_untouched_bag_has_no_finding() {
    assert_eq!(Case::new().findings(), [""; 0]);
}

#[test]
fn each_change_of_the_xml_is_found_and_named() {
    let hash = |n: u8| STANDARD.encode(entry(1, n).hash.0);
    let found = |from: &str, to: &str| {
        let mut case = Case::new();
        case.edit(from, to);
        case.findings()
    };
    assert_eq!(found(&hash(2), &hash(9)), ["bag-root", "bag-token"]);
    assert_eq!(found("<Ref>2", "<Ref>4"), ["bag-root", "bag-token"]);
    assert_eq!(found("SequenceNumber=\"2\"", "SequenceNumber=\"3\""), ["bag-sequence", "bag-token"]);
    let entry_3 = format!("<JournalEntry><Hash>{}</Hash><Ref>3</Ref></JournalEntry>\n", hash(3));
    assert_eq!(found(&entry_3, ""), ["bag-count", "bag-root", "bag-token"]);
    assert_eq!(
        found(&entry_3, &entry_3.replace("<Ref>3", "<Ref>0")),
        ["bag-entry-0", "bag-count", "bag-root", "bag-token"]
    );
    assert_eq!(found("</TimeStampBag>\n", "</TimeStampBag>\n\n"), ["bag-token"]);
    assert_eq!(found("<Ref>3</Ref>", "<Ref>&x;</Ref>"), ["bag-xml"]);
}

#[test]
fn a_header_that_was_exchanged_is_found() {
    let found = |change: &dyn Fn(&mut Header)| {
        let mut case = Case::new();
        case.rewrite(change);
        case.findings()
    };
    assert_eq!(found(&|header| header.end = header.end.plus(-1)), ["bag-header-hash"]);
    assert_eq!(found(&|header| header.start = header.start.plus(1)), ["bag-header-hash", "bag-window"]);
    assert_eq!(found(&|header| header.previous = Some(header.root)), ["bag-header-hash", "bag-link"]);
    assert_eq!(found(&|header| header.count += 1), ["bag-header-hash", "bag-count"]);
    assert_eq!(found(&|header| header.end = header.end.plus(1 << 40)), ["bag-header-hash", "bag-gen-time"]);
    let mut case = Case::new();
    case.header.push(0);
    assert_eq!(case.findings(), ["bag-header"]);
}

#[test]
fn a_bag_that_was_left_out_is_found() {
    let mut case = Case::new();
    case.previous.header.sequence = 3;
    assert_eq!(case.findings(), ["bag-link"]);
    let evidence = Evidence { xml: case.xml.as_slice(), tsr: &case.tsr, header: &case.header, previous: None };
    let report = audit::check(evidence, &authority().1, |_, _| {});
    assert_eq!(report.findings, [audit::Finding::Link]);
}

#[test]
fn no_single_bit_of_a_bag_flips_unnoticed() {
    let case = Case::new();
    for at in (0..case.xml.len()).step_by(7) {
        let mut changed = case.clone();
        changed.xml[at] ^= 1;
        assert_ne!(changed.findings(), [""; 0], "bit at {at}");
    }
}
