//! The report as a page: plain HTML in one file, for people who are not engineers.
//!
//! Nothing is loaded from elsewhere, nothing runs; everything that comes from an archive is escaped.

use crate::audit::LogState;
use crate::finding::{Class, utc};
use crate::report::{Part, Report};
use std::fmt::Write as _;

/// Findings that are shown on the page; all that are kept stand in the JSON.
const SHOWN: usize = 500;

const STYLE: &str = "body{font:16px/1.5 serif;max-width:52em;margin:2em auto;padding:0 1em;color:#111}\
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em;border-bottom:1px solid #999}\
table{border-collapse:collapse;width:100%;font-size:.9em}td,th{border:1px solid #bbb;padding:.3em .5em;text-align:left;\
vertical-align:top}.good{background:#e7f4e4;border:1px solid #4b8b3b;padding:1em}.bad{background:#fbe9e7;border:1px solid \
#b3261e;padding:1em}code,pre{font-size:.85em;word-break:break-all;white-space:pre-wrap}@media print{body{margin:0}}";

/// The page.
pub(crate) fn html(report: &Report) -> String {
    let mut out = String::with_capacity(16 * 1024);
    out.push_str(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Audit of time stamps</title>\n",
    );
    let _never = write!(out, "<style>{STYLE}</style>\n</head>\n<body>\n<h1>Audit of time stamps</h1>\n");
    let clean = report.verdict == "clean";
    let _never = writeln!(
        out,
        "<p class=\"{}\"><strong>{}</strong></p>",
        if clean { "good" } else { "bad" },
        escaped(&report.sentence)
    );
    let _never =
        writeln!(out, "<p>Made at {} by {}. Exit status {}.</p>", report.made, escaped(&report.program), report.status);
    report.archives.iter().for_each(|part| archive(&mut out, part));
    asked(&mut out, report);
    if let Some(compared) = &report.compared {
        let _never = writeln!(
            out,
            "<h2>Comparison</h2>\n<p>The two archives were compared: {} bags differ or stand in one of them only.</p>",
            compared.bags
        );
    }
    evidence(&mut out, report);
    findings(&mut out, report);
    section(&mut out, "What this audit could not show", &report.limits);
    trust(&mut out, report);
    if !report.openssl.is_empty() {
        let lines: Vec<String> = report.openssl.iter().map(|line| escaped(line)).collect();
        let _never = writeln!(
            out,
            "<h2>How to check the same with other tools</h2>\n<p>Each line is a command for OpenSSL, to be run where the files \
             are.</p>\n<pre>{}</pre>",
            lines.join("\n")
        );
    }
    out.push_str(WORDS);
    out.push_str("</body>\n</html>\n");
    out
}

fn archive(out: &mut String, part: &Part) {
    let overview = &part.overview;
    let hospital = overview.hospital.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string);
    let period =
        overview.period.map_or_else(|| "none".to_owned(), |(from, to)| format!("{} to {}", utc(from), utc(to)));
    let numbers = overview.sequences.map_or_else(|| "none".to_owned(), |(first, last)| format!("{first} to {last}"));
    let _never = writeln!(out, "<h2>Archive {}</h2>\n<table>", escaped(&part.folder));
    for (name, value) in [
        ("Hospital", hospital),
        ("Kept by", overview.side.unwrap_or("unknown").to_owned()),
        ("Windows", period),
        ("SHA-256 of its file MANIFEST", overview.manifest_sha256.map_or_else(|| "none".to_owned(), |d| d.to_string())),
        ("SHA-256 over all records", overview.records_sha256.to_string()),
        ("Bags", format!("{} (numbers {numbers})", overview.bags)),
        ("Entries in them", overview.entries.to_string()),
        ("Time stamps that verify", format!("{} of {}", overview.tokens, overview.bags)),
        ("Time-stamp policies", overview.policies.join(", ")),
        ("Bags that the hospital made itself", format!("{} with {} entries", overview.own_bags, overview.own_entries)),
        ("Renewed since (RFC 4998)", overview.renewed.to_string()),
        ("Documents hashed anew (RFC 4998)", overview.documents_rehashed.to_string()),
        ("Platform's log", log(&overview.log)),
        ("Documents looked for", overview.documents.to_string()),
    ] {
        let _never = writeln!(out, "<tr><th>{name}</th><td>{}</td></tr>", escaped(&value));
    }
    out.push_str("</table>\n");
}

fn asked(out: &mut String, report: &Report) {
    let Some(asked) = &report.asked else { return };
    let what = if asked.list { "list of documents" } else { "document" };
    let _never =
        writeln!(out, "<h2>What was looked for</h2>\n<p>The {what} with SHA-256 <code>{}</code>", asked.sha256);
    if let Some(found) = &asked.found {
        let stamped = found.stamped.map_or_else(|| "a time that cannot be read".to_owned(), utc);
        let _never = writeln!(
            out,
            "stands in bag {} under reference {}, as the hash <code>{}</code>; the bag's token names {stamped}",
            found.bag, found.reference, found.hash
        );
    }
    out.push_str(".</p>\n");
}

fn log(state: &LogState) -> String {
    match state {
        LogState::NoLogInThisArchive => "no log in this archive".to_owned(),
        LogState::NoLogInTheTrustFile { proofs } => {
            format!("not used: the trust file names none ({proofs} proofs are there)")
        }
        LogState::Checked { origin, bags, without, quorum, witnesses } => format!(
            "{bags} bags stand in {origin}, {without} without proof; cosigned by at least {witnesses} witnesses, {quorum} were \
             asked for"
        ),
    }
}

fn evidence(out: &mut String, report: &Report) {
    let Some(evidence) = &report.evidence else { return };
    out.push_str("<h2>Evidence about one document</h2>\n<table>\n");
    let mut row = |name: &str, value: String| {
        let _never = writeln!(out, "<tr><th>{name}</th><td>{}</td></tr>", escaped(&value));
    };
    if let Some(statement) = &evidence.statement {
        row("Hospital", statement.hospital.to_string());
        row("Reference", statement.reference.to_string());
        row("Bag", statement.sequence.to_string());
        row("Hash in the bag (SHA-256)", statement.hash.to_string());
    }
    row("SHA-256 of the evidence file", evidence.file_sha256.to_string());
    if let Some(document) = &evidence.document {
        row("SHA-256 of the document", document.to_string());
    }
    if let Some((from, to)) = evidence.window {
        row("Window of the bag", format!("{} to {}", utc(from), utc(to)));
    }
    if let Some(at) = evidence.renewed {
        row("Renewed at", utc(at));
    }
    row("Platform's log", log(&evidence.log));
    row("Time of the stamp", evidence.stamped.map_or_else(|| "none that counts".to_owned(), utc));
    out.push_str("</table>\n");
}

fn findings(out: &mut String, report: &Report) {
    let _never = writeln!(out, "<h2>Findings: {}</h2>", report.findings_total);
    if report.findings.is_empty() {
        out.push_str("<p>None.</p>\n");
        return;
    }
    out.push_str("<table>\n<tr><th>Kind</th><th>Where</th><th>What</th></tr>\n");
    for listed in report.findings.iter().take(SHOWN) {
        let finding = &listed.finding;
        let _never = writeln!(
            out,
            "<tr><td>{}</td><td>{}<br>{}</td><td>{} <code>({})</code></td></tr>",
            kind(finding.class),
            escaped(&listed.about),
            escaped(&finding.place.to_string()),
            escaped(&finding.text),
            finding.name
        );
    }
    out.push_str("</table>\n");
    if report.findings_total > SHOWN as u64 {
        let _never = writeln!(out, "<p>{SHOWN} of {} are shown; the JSON has more.</p>", report.findings_total);
    }
}

fn kind(class: Class) -> &'static str {
    match class {
        Class::Altered => "Altered",
        Class::Damaged => "Damaged",
        Class::Missing => "Missing",
        Class::Untrusted => "Not trusted",
        Class::Differs => "Differs",
        Class::Notice => "Note",
    }
}

fn section(out: &mut String, title: &str, items: &[String]) {
    let _never = writeln!(out, "<h2>{title}</h2>\n<ul>");
    items.iter().for_each(|item| {
        let _never = writeln!(out, "<li>{}</li>", escaped(item));
    });
    out.push_str("</ul>\n");
}

fn trust(out: &mut String, report: &Report) {
    let trust = &report.trust;
    let _never =
        writeln!(out, "<h2>What was trusted</h2>\n<p>The trust file with SHA-256 <code>{}</code>", trust.file_sha256);
    out.push_str(
        ", and the certificates in it. Compare each fingerprint (SHA-256 of the certificate) with what its authority publishes: \
         this page cannot vouch for them.</p>\n<ul>\n",
    );
    for one in &trust.authorities {
        let (subject, until) = (escaped(&one.subject), utc(one.not_after));
        let _never = writeln!(out, "<li>{subject}, until {until}<br><code>{}</code></li>", one.fingerprint);
    }
    out.push_str("</ul>\n<h2>Who answers for this report</h2>\n");
    if let Some(key) = &report.signed_by {
        let _never = writeln!(
            out,
            "<p>Whoever holds the private key of the public key file with SHA-256 <code>{key}</code>. Ask the auditor for this \
             number by another way: whoever can replace a report can replace the key file beside it.</p>"
        );
    }
    out.push_str("<p>The SHA-256 of this page stands in the report's JSON file, which is signed.</p>\n");
}

/// What the words mean.
const WORDS: &str = "<h2>Words</h2>\n<dl>\n\
<dt>Hash (SHA-256)</dt><dd>A number computed from a document. Whoever changes the document by a single letter gets another \
number; nobody knows how to make two documents with the same one.</dd>\n\
<dt>Bag</dt><dd>The hashes that one hospital handed in within some minutes, numbered 1, 2, 3 …; each names the one before it, so \
that none can be taken out or put in later unnoticed.</dd>\n\
<dt>Time stamp, token</dt><dd>A statement, signed by a time-stamp authority (RFC 3161), that a bag existed at a time.</dd>\n\
<dt>Reference</dt><dd>The hospital's own number of a document.</dd>\n\
</dl>\n";

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // What would turn round or hide what is beside it.
            c if c.is_control() || is_invisible(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Marks of direction and characters without width.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_an_archive_becomes_markup() {
        assert_eq!(escaped("<script>'&\"</script>"), "&lt;script&gt;&#39;&amp;&quot;&lt;/script&gt;");
        assert_eq!(escaped("a\u{202e}b\u{200b}\nc é"), "a\u{fffd}b\u{fffd}\u{fffd}c é");
    }
}
