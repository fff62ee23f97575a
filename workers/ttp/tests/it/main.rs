//! The TTP as its users see it: batches through projects, the worker's answers, and real data.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod actions;
mod batches;
mod cells;
mod documents;
mod escrow;
mod exchange;
mod game;
mod hl7;
mod pools;
mod quarantine;
mod real;
mod real_trees;
mod round_trips;
mod roundtrip;
mod signatures;
mod splits;
mod tables;
mod trees;
mod worker;
mod world;

use schemas::MailboxAddress;
use schemas::messages::Reason;
use zegel_core::Keys;
use zegel_crypto::Keyring;
use zegel_ttp::{CompiledProject, ProjectDocument, ScratchDir, Summary, TransformError};

const SENDER: &str = "NIHII-HOSPITAL:71000436";
const HEAD: &str = r#"
name = "lab-registry"
senders = ["NIHII-HOSPITAL:71000436"]
recipient = "CBE:0123456749"
valid = { from = "2026-01-01", until = "2030-12-31" }
"#;

fn sender() -> MailboxAddress {
    SENDER.parse().unwrap()
}

/// A project of these lines and fields, with a fixed root.
fn project(text: &str) -> CompiledProject {
    let document = ProjectDocument::parse(&format!("{HEAD}{text}")).unwrap_or_else(|error| panic!("{error}"));
    CompiledProject::new(document, &[7; 32]).unwrap()
}

fn run(project: &CompiledProject, batch: &[u8]) -> Result<(Summary, String), TransformError> {
    let folder = tempfile::tempdir().unwrap();
    let keys = Keyring::generate_in_memory();
    let mut random = |bytes: &mut [u8]| keys.random(bytes);
    let mut out = Vec::new();
    let scratch = ScratchDir { folder: folder.path(), keys: &keys };
    let summary = zegel_ttp::transform(project, &sender(), &mut &batch[..], &mut out, Some(scratch), &mut random)?;
    Ok((summary, String::from_utf8(out).unwrap()))
}

/// The way back, every token accepted.
fn back(project: &CompiledProject, batch: &[u8]) -> Result<String, TransformError> {
    let mut random = |bytes: &mut [u8]| bytes.fill(0);
    let mut out = Vec::new();
    let mut guard = |_: u64, _: &str, _: &str| true;
    zegel_ttp::restore(project, &sender(), &mut &batch[..], &mut out, &mut random, &mut guard)?;
    Ok(String::from_utf8(out).unwrap())
}

fn output(project: &CompiledProject, batch: &str) -> String {
    run(project, batch.as_bytes()).unwrap_or_else(|error| panic!("{error:?}")).1
}

fn refused(project: &CompiledProject, batch: &[u8]) -> Reason {
    match run(project, batch) {
        Err(TransformError::Refused(reason)) => *reason,
        other => panic!("expected a refusal: {other:?}"),
    }
}
