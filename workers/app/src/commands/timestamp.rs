//! `zegel timestamp`: enrolment, hashes, bags, and their verification without the platform.

use super::renew::{AtHand, By, What};
use super::{Place, address, every, read_text};
use crate::cli::{RehashIn, Renew, Timestamp};
use crate::client::{Client, list, number, text};
use crate::failed::{Failed, at};
use crate::folder::private_folder;
use crate::term::{Report, row, table};
use schemas::{MailboxAddress, Sha256};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use zegel_crypto::tsa::Digest;

/// Most entries of one call.
const ENTRIES: usize = 1_000;

/// Refused entries that a person is told of; all of them stand in the JSON.
const REFUSED_TOLD: usize = 20;

/// Enrols, stamps, lists, fetches or verifies.
///
/// # Errors
/// The platform refuses or is away; a file cannot be read or written; a bag does not verify.
pub fn run(place: &Place, wanted: &Timestamp) -> Result<Report, Failed> {
    match wanted {
        Timestamp::Enrol { server, hospital } => {
            let hospital = address(hospital)?;
            let client = place.folder()?.owner_or_operator(server, &hospital)?;
            let answer = client.post("/v1/timestamp/hospitals", &json!({ "hospital": hospital }))?;
            Ok(Report::new(answer, format!("{hospital} is enrolled")))
        }
        Timestamp::Agent(wanted) => super::hospital::agent(place, wanted),
        Timestamp::OwnBag { server, hospital, file, out } => {
            let hospital = address(hospital)?;
            own_bag(&place.folder()?.owner(server, &hospital)?, &hospital, file, out.as_deref())
        }
        Timestamp::Witness(wanted) => super::witness::run(place, wanted),
        Timestamp::Prove(wanted) => super::hospital::prove(wanted),
        Timestamp::Status { journal } => super::hospital::status(journal),
        Timestamp::Add(wanted) if wanted.journal.is_some() => super::hospital::add(wanted),
        Timestamp::Add(wanted) => {
            let [file] = wanted.files.as_slice() else {
                return Err(Failed::Usage("documents go into a journal: say --journal DIR".to_owned()));
            };
            let hospital = address(&wanted.hospital)?;
            add(&place.folder()?.owner(&wanted.server, &hospital)?, &hospital, &read_text(file)?)
        }
        Timestamp::Bags { server, hospital } => {
            let hospital = address(hospital)?;
            bags(&place.folder()?.owner_or_operator(server, &hospital)?, &hospital)
        }
        Timestamp::Fetch { server, hospital, out } => {
            let hospital = address(hospital)?;
            let client = place.folder()?.owner_or_operator(server, &hospital)?;
            private_folder(out)?;
            let written = fetch(&client, &hospital, out, &out.join("bags.ndjson"))?;
            fetch_ca(&client, &out.join("ca.pem"))?;
            Ok(Report::new(json!({ "bags": written }), format!("{written} bags in {}", out.display())))
        }
        Timestamp::Export { journal: Some(journal), out, list, .. } => {
            super::hospital::export(journal, out, list.as_deref())
        }
        Timestamp::Export { server, hospital, out, side, .. } => {
            super::archive::export(place, server, hospital.as_deref().unwrap_or_default(), out, *side)
        }
        Timestamp::Expire { archive, years, dry_run } => super::archive::expire(archive, *years, *dry_run),
        Timestamp::Renew(wanted) => renew(wanted),
        Timestamp::Revoke { unit, reason, since, dry_run } => {
            super::revoke::run(&place.folder()?, *unit, reason, since.as_deref(), *dry_run)
        }
        Timestamp::Evidence { archive, reference, document, digest_only, salt, trust, out } => {
            super::archive::evidence(&super::archive::Asked {
                archive,
                reference: *reference,
                document: document.as_deref(),
                digest_only: *digest_only,
                salt: salt.as_deref(),
                trust,
                out,
            })
        }
        Timestamp::Verify { hospital, folder, ca, listing } => {
            verify(&address(hospital)?, folder, ca, listing.as_deref())
        }
    }
}

fn add(client: &Client, hospital: &MailboxAddress, lines: &str) -> Result<Report, Failed> {
    let mut entries = Vec::new();
    for (index, line) in lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = || Failed::Usage(format!("line {}: must be REF,SHA-256 in hexadecimal", index + 1));
        let (reference, hash) = line.split_once(',').ok_or_else(wrong)?;
        let reference: u64 = reference.trim().parse().map_err(|_| wrong())?;
        let hash: Sha256 = hash.trim().to_ascii_lowercase().parse().map_err(|_| wrong())?;
        entries.push(json!({ "ref": reference, "hash": hash }));
    }
    let (mut accepted, mut answers) = (0, Vec::new());
    for batch in entries.chunks(ENTRIES) {
        let body = json!({ "hospital": hospital, "entries": batch });
        let answer = client.post_answered("/v1/timestamp/entries", &body)?;
        accepted += list(&answer, "answers").iter().filter(|answer| text(answer, "is") == "accepted").count();
        answers.extend(list(&answer, "answers").iter().cloned());
    }
    let refused = entries.len() - accepted;
    let mut told = format!("{accepted} accepted, {refused} refused");
    for answer in answers.iter().filter(|answer| text(answer, "is") != "accepted").take(REFUSED_TOLD) {
        let why = match text(answer, "is") {
            "conflict" => "conflict: it stands for another hash already",
            _ => "invalid: a reference is a number from 1 on",
        };
        told.push_str(&format!("\nreference {}: {why}", number(answer, "ref")));
    }
    Ok(Report { json: json!({ "answers": answers }), text: told, status: if refused > 0 { 3 } else { 0 } })
}

fn own_bag(client: &Client, hospital: &MailboxAddress, file: &Path, out: Option<&Path>) -> Result<Report, Failed> {
    let bytes = std::fs::read(file).map_err(at(file))?;
    let answer = client.post_bytes(&format!("/v1/timestamp/own-bags/{hospital}"), &[], "application/xml", &bytes)?;
    if answer.get("tsr").is_none() {
        let text = "the bag is durable and is stamped later: give the same command again, or see the mailbox";
        return Err(Failed::Unreachable(text.to_owned()));
    }
    let mut told = format!(
        "bag {} of {} entries stamped at {}; its hash enters your next bag under reference {}",
        answer["sequence"],
        answer["entries"],
        instant(&answer, "stamped"),
        answer["ref"]
    );
    if let Some(out) = out {
        client.download(text(&answer, "tsr"), &mut File::create(out).map_err(at(out))?)?;
        told.push_str(&format!("\n{} written", out.display()));
    }
    Ok(Report::new(answer, told))
}

fn bags(client: &Client, hospital: &MailboxAddress) -> Result<Report, Failed> {
    let mut rows = vec![row(["BAG", "ENTRIES", "WINDOW START", "WINDOW END", "IMPRINT"])];
    let mut all = Vec::new();
    every(client, &format!("/v1/timestamp/bags/{hospital}"), "bags", "from", |bag| {
        rows.push(row([
            &number(bag, "sequence").to_string(),
            &number(bag, "count").to_string(),
            &instant(bag, "start"),
            &instant(bag, "end"),
            text(bag, "imprint"),
        ]));
        all.push(bag.clone());
        Ok(())
    })?;
    let told = if all.is_empty() { "no bags yet: the first window has not ended".to_owned() } else { table(&rows) };
    Ok(Report::new(json!({ "bags": all }), told))
}

/// Writes `N.xml` and `N.tsr` of a hospital's bags, and the lines of the listing; returns how many bags.
///
/// # Errors
/// The platform refuses or is away; a file cannot be written.
pub fn fetch(client: &Client, hospital: &MailboxAddress, out: &Path, listing: &Path) -> Result<u64, Failed> {
    private_folder(out)?;
    let mut lines = File::create(listing).map_err(at(listing))?;
    let mut written = 0;
    every(client, &format!("/v1/timestamp/bags/{hospital}"), "bags", "from", |bag| {
        for kind in ["xml", "tsr"] {
            let path = out.join(format!("{}.{kind}", number(bag, "sequence")));
            client.download(text(bag, kind), &mut File::create(&path).map_err(at(&path))?)?;
        }
        written += 1;
        writeln!(lines, "{bag}").map_err(at(listing))
    })?;
    Ok(written)
}

/// Writes the authority's certificate.
///
/// # Errors
/// The platform is away; the file cannot be written.
pub fn fetch_ca(client: &Client, path: &Path) -> Result<(), Failed> {
    client.download("/v1/timestamp/ca.pem", &mut File::create(path).map_err(at(path))?).map(drop)
}

fn verify(hospital: &MailboxAddress, folder: &Path, ca: &Path, listing: Option<&Path>) -> Result<Report, Failed> {
    let audited = crate::bags::audit_folder(hospital, folder, ca, listing)?;
    if audited.bags == 0 {
        return Err(Failed::Failure(format!("{}: there are no bags in it, nothing was verified", folder.display())));
    }
    let findings: Vec<Value> = audited.findings.iter().map(|finding| json!(finding)).collect();
    let json = json!({
        "bags": audited.bags, "entries": audited.entries, "tokens_verified": audited.tokens, "findings": findings,
    });
    let mut told = format!("{} bags, {} entries, {} tokens verified", audited.bags, audited.entries, audited.tokens);
    if listing.is_none() {
        told.push_str("\nwithout --listing hospital, windows and chain were not looked at");
    }
    for finding in &audited.findings {
        told.push_str(&format!("\nFAILED {finding}"));
    }
    Ok(Report { json, text: told, status: u8::from(!audited.findings.is_empty()) })
}

fn instant(value: &Value, field: &str) -> String {
    let millis = value.get(field).and_then(Value::as_i64).and_then(chrono::DateTime::from_timestamp_millis);
    millis.map(|instant| instant.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()).unwrap_or_default()
}

fn renew(wanted: &Renew) -> Result<Report, Failed> {
    let Renew { archive, tsa, trust, within_days, digest, documents, list, dry_run } = wanted;
    let at_hand = AtHand { folder: documents.as_deref(), list: list.as_deref() };
    let what = match digest {
        None => What::EndingWithin(*within_days),
        Some(RehashIn::Sha384) => What::NotIn(Digest::Sha384, at_hand),
        Some(RehashIn::Sha512) => What::NotIn(Digest::Sha512, at_hand),
    };
    super::renew::run(archive, By { tsa, trust }, what, *dry_run)
}
