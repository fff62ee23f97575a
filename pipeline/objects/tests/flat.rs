//! Memory does not grow with an object (I7): 200 MB out and in again, in a program of its own that does nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[cfg(feature = "s3")]
#[path = "../src/tests/server.rs"]
mod server;

use std::io::{Read, Write};
use std::sync::Arc;
use zegel_core::Objects;
use zegel_crypto::Keyring;
use zegel_objects::EncryptedObjects;

const OBJECT: usize = 200_000_000;
/// Three parts of 8 MiB on their way, their copies in the client, and what an allocator keeps.
const GROWTH_MAX_KIB: u64 = 64 * 1024;

/// The most memory that this process has had since it last asked to begin anew.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

fn begin_anew() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

fn stays_flat(place: &str, objects: &EncryptedObjects) {
    let chunk = vec![0x5a; 1_000_000];
    begin_anew();
    let before = peak_kib();
    let mut sink = objects.create().unwrap();
    for _ in 0..OBJECT / chunk.len() {
        sink.write_all(&chunk).unwrap();
    }
    let object = sink.finish().unwrap();
    let written = peak_kib().saturating_sub(before);
    begin_anew();
    let before = peak_kib();
    let mut reader = objects.open(&object).unwrap();
    let (mut part, mut seen) = (vec![0; 1_000_000], 0);
    loop {
        match reader.read(&mut part).unwrap() {
            0 => break,
            read => seen += read,
        }
    }
    let read = peak_kib().saturating_sub(before);
    println!("{place}: 200 MB written with {written} KiB more, read with {read} KiB more");
    assert_eq!(seen, OBJECT);
    assert!(written < GROWTH_MAX_KIB && read < GROWTH_MAX_KIB, "{place}: {written} KiB, {read} KiB");
    objects.delete(&object.name).unwrap();
}

/// One test, so that no other one's memory is counted.
#[test]
fn two_hundred_megabytes_need_no_more_memory_than_a_few_parts() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let keyring = Arc::new(Keyring::generate_in_memory());
    let local = folder.path().join("local");
    stays_flat("folder", &EncryptedObjects::open_local(&local, keyring.clone(), runtime.handle().clone()).unwrap());
    #[cfg(feature = "s3")]
    if let Some(variables) = server::shared() {
        let url = server::url(variables, &format!("flat/{}", std::process::id()));
        let scratch = folder.path().join("scratch");
        let bucket =
            EncryptedObjects::open_s3_with(&url, variables.clone(), &scratch, keyring, runtime.handle().clone());
        stays_flat("bucket", &bucket.unwrap());
    }
}
