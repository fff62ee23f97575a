//! Sizes around a segment, what can be done to a stored file, what a crash leaves, and what stands on the disk.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use object_store::memory::InMemory;
use proptest::prelude::*;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

const SEGMENT: usize = 65_536;
const SEALED: usize = SEGMENT + 16;

struct Fixture {
    objects: EncryptedObjects,
    keyring: Arc<Keyring>,
    folder: TempDir,
    runtime: Runtime,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Builder::new_current_thread().build().unwrap();
    let keyring = Arc::new(Keyring::generate_in_memory());
    let objects =
        EncryptedObjects::open_local(&folder.path().join("data"), Arc::clone(&keyring), runtime.handle().clone())
            .unwrap();
    Fixture { objects, keyring, folder, runtime }
}

impl Fixture {
    fn put(&self, plain: &[u8]) -> ObjectRef {
        let mut sink = self.objects.create().unwrap();
        sink.write_all(plain).unwrap();
        sink.finish().unwrap()
    }

    fn get(&self, object: &ObjectRef) -> io::Result<Vec<u8>> {
        read(&self.objects, object)
    }

    fn path(&self, object: &ObjectRef) -> PathBuf {
        self.folder.path().join("data").join(object_path(&object.name).as_ref())
    }

    fn uploads(&self) -> usize {
        fs::read_dir(self.folder.path().join("data").join(UPLOADS)).unwrap().count()
    }

    /// Changes the stored bytes and says how reading fails.
    fn spoil(&self, object: &ObjectRef, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> io::ErrorKind {
        let good = fs::read(self.path(object)).unwrap();
        fs::write(self.path(object), change(good.clone())).unwrap();
        let error = self.get(object).unwrap_err();
        fs::write(self.path(object), good).unwrap();
        error.kind()
    }
}

fn read(objects: &EncryptedObjects, object: &ObjectRef) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    objects.open(object).unwrap().read_to_end(&mut plain)?;
    Ok(plain)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect()
}

#[test]
fn every_size_around_a_segment_comes_back() {
    let fixture = fixture();
    for length in [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * 1024 * 1024] {
        let plain = pattern(length);
        let object = fixture.put(&plain);
        assert_eq!(object.size, length as u64);
        assert!(fixture.get(&object).unwrap() == plain, "{length}");
    }
}

#[test]
fn an_object_is_named_by_its_bytes_and_listed() {
    let fixture = fixture();
    let objects = [fixture.put(b"one"), fixture.put(b"one"), fixture.put(&pattern(200_000))];
    assert_ne!(objects[0].name, objects[1].name, "equal content must not show as equal");
    for object in &objects {
        assert_eq!(zegel_crypto::hash::sha256(&fs::read(fixture.path(object)).unwrap()), object.name);
    }
    fs::write(fixture.folder.path().join("data/objects/stray"), b"no object").unwrap();
    let mut listed = fixture.objects.list().unwrap();
    listed.sort_by_key(|object| object.name);
    let mut names: Vec<Sha256> = objects.iter().map(|object| object.name).collect();
    names.sort();
    assert_eq!(listed.iter().map(|object| object.name).collect::<Vec<_>>(), names);
    assert!(listed.iter().all(|object| object.size >= 16 && object.modified > Millis(1_700_000_000_000)));
}

#[test]
fn a_removed_object_is_missing_and_may_be_removed_again() {
    let fixture = fixture();
    let object = fixture.put(b"content");
    fixture.objects.delete(&object.name).unwrap();
    fixture.objects.delete(&object.name).unwrap();
    assert!(matches!(fixture.objects.open(&object), Err(ObjectsError::Missing)));
    assert!(fixture.objects.list().unwrap().is_empty());
}

#[test]
fn a_stored_object_that_was_tampered_with_is_refused() {
    let fixture = fixture();
    let object = fixture.put(&pattern(3 * SEGMENT + 10));
    let invalid = io::ErrorKind::InvalidData;
    let swap = |mut bytes: Vec<u8>| {
        let (first, second) = bytes.split_at_mut(SEALED);
        first.swap_with_slice(&mut second[..SEALED]);
        bytes
    };
    let flip = |at: usize| {
        move |mut bytes: Vec<u8>| {
            bytes[at] ^= 1;
            bytes
        }
    };
    let cut = |length: usize| move |bytes: Vec<u8>| bytes[..length].to_vec();
    assert_eq!(fixture.spoil(&object, swap), invalid);
    for at in [0, SEGMENT, SEALED, 3 * SEALED, 3 * SEALED + 25] {
        assert_eq!(fixture.spoil(&object, flip(at)), invalid, "byte {at}");
    }
    for length in [0, 15, SEALED - 1, SEALED, 3 * SEALED, 3 * SEALED + 25] {
        assert_eq!(fixture.spoil(&object, cut(length)), invalid, "cut to {length}");
    }
    assert_eq!(fixture.spoil(&object, |bytes| [bytes, vec![0]].concat()), invalid);
    fixture.get(&object).unwrap();
}

#[test]
fn one_object_in_the_place_of_another_is_refused() {
    let fixture = fixture();
    let (one, other) = (fixture.put(b"one"), fixture.put(b"two"));
    fs::copy(fixture.path(&other), fixture.path(&one)).unwrap();
    assert_eq!(fixture.get(&one).unwrap_err().kind(), io::ErrorKind::InvalidData);
    // Even with the other's key: the name is checked, not only the tags.
    let mixed = ObjectRef { name: one.name, ..other.clone() };
    assert_eq!(fixture.get(&mixed).unwrap_err().kind(), io::ErrorKind::InvalidData);
    let longer = ObjectRef { size: other.size + 1, ..other.clone() };
    assert_eq!(fixture.get(&longer).unwrap_err().kind(), io::ErrorKind::InvalidData);
    fixture.get(&other).unwrap();
}

#[test]
fn a_wrong_key_version_opens_nothing_and_rotation_keeps_old_objects() {
    let fixture = fixture();
    let object = fixture.put(b"content");
    let unknown = ObjectRef { key_version: 2, ..object.clone() };
    assert!(matches!(fixture.objects.open(&unknown), Err(ObjectsError::Unavailable(_))));
    assert_eq!(fixture.keyring.rotate().unwrap(), 2);
    assert_eq!(fixture.get(&object).unwrap(), b"content");
    assert_eq!(fixture.get(&unknown).unwrap_err().kind(), io::ErrorKind::InvalidData);
    let newer = fixture.put(b"newer");
    assert_eq!((newer.key_version, fixture.get(&newer).unwrap()), (2, b"newer".to_vec()));
}

#[test]
fn no_plain_byte_stands_on_the_disk() {
    let fixture = fixture();
    let canary = b"canary-85061511796";
    let object = fixture.put(&canary.repeat(10_000));
    let bytes = fs::read(fixture.path(&object)).unwrap();
    assert!(!bytes.windows(8).any(|window| canary.windows(8).any(|part| part == window)));
    let data = fs::metadata(fixture.folder.path().join("data")).unwrap();
    assert_eq!(data.permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_dropped_sink_leaves_nothing() {
    let fixture = fixture();
    let mut sink = fixture.objects.create().unwrap();
    sink.write_all(&pattern(2_500_000)).unwrap();
    assert_eq!(fixture.uploads(), 1);
    drop(sink);
    assert_eq!(fixture.uploads(), 0);
    assert!(fixture.objects.list().unwrap().is_empty());
}

#[test]
fn what_a_crash_left_is_swept_and_what_is_young_is_not() {
    let fixture = fixture();
    let object = fixture.put(b"content");
    let mut sink = fixture.objects.create().unwrap();
    sink.write_all(&pattern(2_500_000)).unwrap();
    std::mem::forget(sink);
    fs::write(fixture.folder.path().join("data/uploads/finished-but-not-renamed"), b"ciphertext").unwrap();
    assert_eq!(fixture.uploads(), 2);
    assert_eq!(fixture.objects.sweep_uploads(Millis(1_700_000_000_000)).unwrap(), 0);
    assert_eq!(fixture.objects.sweep_uploads(Millis::NEVER).unwrap(), 2);
    assert_eq!(fixture.uploads(), 0);
    fixture.get(&object).unwrap();
}

#[test]
fn an_object_is_not_there_before_it_is_finished() {
    let fixture = fixture();
    let mut sink = fixture.objects.create().unwrap();
    sink.write_all(&pattern(2_500_000)).unwrap();
    assert!(fixture.objects.list().unwrap().is_empty());
    sink.finish().unwrap();
    assert_eq!(fixture.objects.list().unwrap().len(), 1);
    assert_eq!(fixture.uploads(), 0);
}

#[test]
fn an_object_that_cannot_be_placed_is_an_error_and_leaves_nothing() {
    let fixture = fixture();
    let mut sink = fixture.objects.create().unwrap();
    sink.write_all(b"content").unwrap();
    fs::write(fixture.folder.path().join("data/objects"), b"a file where the folder should be").unwrap();
    assert!(matches!(sink.finish(), Err(ObjectsError::Unavailable(_))));
    assert_eq!(fixture.uploads(), 0);
}

#[test]
fn a_store_that_streams_its_answers_serves_the_same_objects() {
    let fixture = fixture();
    let objects = EncryptedObjects {
        store: Arc::new(InMemory::new()),
        uploads: PathBuf::new(),
        keyring: Arc::clone(&fixture.keyring),
        runtime: fixture.runtime.handle().clone(),
    };
    let plain = pattern(2_500_000);
    let mut sink = objects.create().unwrap();
    sink.write_all(&plain).unwrap();
    let object = sink.finish().unwrap();
    assert!(read(&objects, &object).unwrap() == plain);
    assert_eq!(objects.list().unwrap().len(), 1);
    objects.delete(&object.name).unwrap();
    assert!(matches!(objects.open(&object), Err(ObjectsError::Missing)));
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
