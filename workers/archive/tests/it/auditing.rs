//! Archives that are in order, what is asked of them, and what the report says.

use crate::world::{Kept, NOW, audit_with, authority, bags, hospital, many, names, trust, trust_with};
use schemas::Sha256;
use std::process::Command;
use zegel_archive::audit::LogState;
use zegel_archive::list::Documents;
use zegel_archive::manifest::Side;
use zegel_archive::reader::Archive;
use zegel_archive::report::{Content, Part, Report};
use zegel_archive::testing::entries;
use zegel_archive::{Class, Findings};
use zegel_crypto::hash::sha256;

#[test]
fn an_archive_in_order_has_no_finding_and_says_what_it_could_not_show() {
    let kept = Kept::of(&bags(&[3, 0, 200, 1]));
    let audited = kept.audit();
    assert_eq!(audited.findings.list(), []);
    assert_eq!((audited.findings.status(), audited.findings.clean()), (0, true));
    let overview = &audited.overview;
    assert_eq!((overview.bags, overview.entries, overview.tokens), (4, 204, 4));
    assert_eq!((overview.sequences, overview.hospital.clone()), (Some((1, 4)), Some(hospital())));
    assert_eq!(overview.log, LogState::NoLogInThisArchive);
    let part = Part { folder: "archive".to_owned(), overview: overview.clone() };
    let content = Content { archives: vec![part], ..Content::default() };
    let report = Report::new(content, &trust(), NOW, "test");
    assert_eq!((report.verdict.as_str(), report.status), ("clean", 0));
    assert!(report.limits.iter().any(|limit| limit.contains("back-dated")), "{:?}", report.limits);
    assert!(report.limits.iter().any(|limit| limit.contains("test policy")));
}

#[test]
fn the_page_is_well_formed_says_the_verdict_and_is_named_by_the_signed_json() {
    let kept = Kept::of(&bags(&[3]));
    let audited = kept.audit();
    let mut findings = Findings::default();
    let place = zegel_archive::Place::file("<b>&");
    findings.add(Class::Altered, "bag-root", place, "an entry was <altered>");
    let part = Part { folder: "a<rchive".to_owned(), overview: audited.overview };
    let content =
        Content { archives: vec![part], findings: vec![("a<rchive".to_owned(), findings)], ..Content::default() };
    let report = Report::new(content, &trust(), NOW, "test");
    assert_eq!((report.verdict.as_str(), report.status), ("altered", 10));
    let files = report.files();
    let json: serde_json::Value = serde_json::from_slice(&files.json).unwrap();
    assert_eq!(json["page_sha256"], sha256(files.html.as_bytes()).to_string());
    assert!(files.html.contains("Not in order") && !files.html.contains("<altered>") && !files.html.contains("<b>"));
    let path = kept.0.path().join("page.html");
    std::fs::write(&path, &files.html).unwrap();
    // xmllint's HTML parser knows only the tags of HTML 4, which the page keeps to.
    match Command::new("xmllint").args(["--html", "--noout"]).arg(&path).output() {
        Ok(output) => {
            assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr))
        }
        Err(_) => assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "ZEGEL_ORACLES is set and xmllint is absent"),
    }
}

#[test]
fn one_altered_document_among_many_is_named() {
    let kept = Kept::of(&bags(&[300, 300, 300]));
    let list = |wrong: u64| -> String {
        let line = |(reference, hash): (u64, Sha256)| match reference == wrong {
            true => format!("{reference},{}\n", Sha256([7; 32])),
            false => format!("{reference},{hash}\n"),
        };
        entries(1..901, 0).into_iter().map(line).collect()
    };
    let documents = Documents::parse(&list(0)).unwrap();
    assert!(audit_with(&kept.path(), &trust(), Some(&documents)).findings.clean());
    let documents = Documents::parse(&list(555)).unwrap();
    let found = audit_with(&kept.path(), &trust(), Some(&documents)).findings;
    let places: Vec<_> = found.list().iter().map(|f| (f.name, f.place.bag, f.place.reference)).collect();
    assert_eq!(places, [("document-differs", Some(2), Some(555))]);
    assert_eq!(found.status(), 10);
    let documents = Documents::parse(&format!("5000,{}", Sha256([1; 32]))).unwrap();
    let found = audit_with(&kept.path(), &trust(), Some(&documents)).findings;
    assert_eq!((names(&found), found.status()), (vec!["document-missing"], 12));
}

#[test]
fn a_ca_that_is_not_in_the_trust_file_or_only_for_another_time_does_not_count() {
    let kept = Kept::of(&bags(&[2, 2]));
    let of = |trust| {
        let found = audit_with(&kept.path(), &trust, None).findings;
        (names(&found), found.status())
    };
    assert_eq!(of(trust_with("from = \"2026-01-01\"\nuntil = \"2027-01-01\"")), (vec![], 0));
    assert_eq!(of(trust_with("until = \"2026-01-01\"")), (vec!["token-ca-period"], 13));
    assert_eq!(of(trust_with("from = \"2026-06-01\"")), (vec!["token-ca-period"], 13));
    let other = crate::world::other_authority();
    let text = format!("[[ca]]\npem = '''\n{}'''\n", other.ca_pem());
    let stranger = zegel_archive::trust::Trust::parse(&text, |_| unreachable!()).unwrap();
    assert_eq!(of(stranger), (vec!["token-untrusted"], 13));
    let both = format!("{text}[[ca]]\npem = '''\n{}'''\n", authority().ca_pem());
    let both = zegel_archive::trust::Trust::parse(&both, |_| unreachable!()).unwrap();
    assert_eq!(of(both), (vec![], 0));
}

#[test]
fn a_trust_file_that_cannot_be_understood_is_refused() {
    let parse = |text: &str| zegel_archive::trust::Trust::parse(text, |_| Ok(b"no pem".to_vec()));
    let said = parse("[[ca]]\nfile = \"old-ca.pem\"\n").unwrap_err().to_string();
    assert!(said.contains("old-ca.pem"), "of several, nobody knows which: {said}");
    for text in
        ["", "ca = []", "[[ca]]", "[[ca]]\nfile = \"ca.pem\"", "[[ca]]\npem = \"x\"\nfile = \"y\"", "[[co]]", "x"]
    {
        assert!(parse(text).is_err(), "{text}");
    }
    let good = format!("[[ca]]\npem = '''\n{}'''\n", authority().ca_pem());
    assert!(parse(&good).is_ok());
    assert!(parse(&format!("{good}until = \"someday\"")).is_err());
    assert!(parse(&format!("{good}unknown = 1")).is_err());
}

#[test]
fn what_was_deleted_by_policy_is_a_note_and_what_went_too_early_is_missing() {
    let made = many(300);
    let kept = Kept::of(made);
    let mut writer = zegel_archive::writer::Writer::open(&kept.path(), &hospital(), Side::Platform).unwrap();
    let before = made[260].header.end;
    assert_eq!(Archive::open(&kept.path()).unwrap().expirable(before), 256);
    assert_eq!(writer.expire(before).unwrap(), 256);
    drop(writer);
    let early = kept.audit();
    assert_eq!((names(&early.findings), early.findings.status()), (vec!["archive-expired-early"], 12));
    assert_eq!(early.overview.sequences, Some((257, 300)));
    let allowed = audit_with(&kept.path(), &trust_without_retention(), None);
    assert_eq!((names(&allowed.findings), allowed.findings.total()), (vec![], 1));
}

fn trust_without_retention() -> zegel_archive::trust::Trust {
    let text = format!("retention_years = 0\n[[ca]]\npem = '''\n{}'''\n", authority().ca_pem());
    zegel_archive::trust::Trust::parse(&text, |_| unreachable!()).unwrap()
}

#[test]
fn a_folder_without_an_archive_is_an_error_and_an_empty_archive_is_never_clean() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Archive::open(folder.path()).is_err());
    let kept = Kept::of(&[]);
    assert_eq!(kept.names(), ["archive-empty"]);
}
