//! The suite over a local folder, what a crash leaves there, and its rights.

use super::suite::{Bench, SEGMENT, pattern};
use crate::{EncryptedObjects, OBJECTS, UPLOADS};
use proptest::prelude::*;
use schemas::Millis;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use zegel_core::{Objects, ObjectsError};
use zegel_crypto::Keyring;

struct Fixture {
    objects: EncryptedObjects,
    keyring: Arc<Keyring>,
    folder: TempDir,
    _runtime: Runtime,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Builder::new_current_thread().build().unwrap();
    let keyring = Arc::new(Keyring::generate_in_memory());
    let data = folder.path().join("data");
    let objects = EncryptedObjects::open("folder", &data, Arc::clone(&keyring), runtime.handle().clone()).unwrap();
    Fixture { objects, keyring, folder, _runtime: runtime }
}

impl Fixture {
    fn data(&self, path: &str) -> PathBuf {
        self.folder.path().join("data").join(path)
    }
}

impl Bench for Fixture {
    fn objects(&self) -> &EncryptedObjects {
        &self.objects
    }

    fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }

    fn raw_get(&self, path: &str) -> Vec<u8> {
        fs::read(self.data(path)).unwrap()
    }

    fn raw_put(&self, path: &str, bytes: Vec<u8>) {
        fs::write(self.data(path), bytes).unwrap();
    }

    fn leftovers(&self) -> usize {
        fs::read_dir(self.data(UPLOADS)).unwrap().count()
    }
}

fn open() -> Option<Fixture> {
    Some(fixture())
}

keeps_the_contract!(open);

#[test]
fn nobody_else_may_look_into_the_folder() {
    let fixture = fixture();
    assert_eq!(fs::metadata(fixture.data("")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_setting_that_names_no_place_is_refused() {
    let fixture = fixture();
    for place in ["", "Folder", "http://bucket", "/somewhere"] {
        let runtime = fixture._runtime.handle().clone();
        let opened = EncryptedObjects::open(place, &fixture.data(""), Arc::clone(&fixture.keyring), runtime);
        assert!(matches!(opened, Err(ObjectsError::Unavailable(_))), "{place}");
    }
}

#[test]
fn what_a_crash_left_is_swept_and_what_is_young_is_not() {
    let fixture = fixture();
    let object = fixture.put(b"content");
    let mut sink = fixture.objects.create().unwrap();
    sink.write_all(&pattern(2_500_000)).unwrap();
    std::mem::forget(sink);
    fixture.raw_put("uploads/finished-but-not-renamed", b"ciphertext".to_vec());
    assert_eq!(fixture.leftovers(), 2);
    assert_eq!(fixture.objects.sweep_uploads(Millis(1_700_000_000_000)).unwrap(), 0);
    assert_eq!(fixture.objects.sweep_uploads(Millis::NEVER).unwrap(), 2);
    assert_eq!(fixture.leftovers(), 0);
    fixture.get(&object).unwrap();
}

#[test]
fn an_object_that_cannot_be_placed_is_an_error_and_leaves_nothing() {
    let fixture = fixture();
    let mut sink = fixture.objects.create().unwrap();
    sink.write_all(b"content").unwrap();
    fixture.raw_put(OBJECTS, b"a file where the folder should be".to_vec());
    assert!(matches!(sink.finish(), Err(ObjectsError::Unavailable(_))));
    assert_eq!(fixture.leftovers(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_cutting_of_writes_gives_the_same_object(length in 0..3 * SEGMENT, piece in 1..2 * SEGMENT) {
        let fixture = fixture();
        let plain = pattern(length);
        let mut sink = fixture.objects.create().unwrap();
        for part in plain.chunks(piece) {
            sink.write_all(part).unwrap();
        }
        let object = sink.finish().unwrap();
        prop_assert!(fixture.get(&object).unwrap() == plain);
    }
}
