//! What every place keeps: sizes around a segment and a part, what can be done to stored bytes, and what is left behind.

use crate::{EncryptedObjects, OBJECTS, object_path};
use schemas::messages::ObjectRef;
use schemas::{Millis, Sha256};
use std::io::{self, Read, Write};
use std::sync::Arc;
use zegel_core::{Objects, ObjectsError};
use zegel_crypto::Keyring;

pub(super) const SEGMENT: usize = 65_536;
pub(super) const SEALED: usize = SEGMENT + 16;
/// More than two parts of any place.
pub(super) const LARGE: usize = 20 * 1024 * 1024;

/// A place under test, and a way to its bytes past the port.
pub(super) trait Bench {
    fn objects(&self) -> &EncryptedObjects;
    fn keyring(&self) -> &Arc<Keyring>;
    fn raw_get(&self, path: &str) -> Vec<u8>;
    fn raw_put(&self, path: &str, bytes: Vec<u8>);
    /// How many things there are that are no object, here and there.
    fn leftovers(&self) -> usize;

    fn put(&self, plain: &[u8]) -> ObjectRef {
        let mut sink = self.objects().create().unwrap();
        sink.write_all(plain).unwrap();
        sink.finish().unwrap()
    }

    fn get(&self, object: &ObjectRef) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        self.objects().open(object).unwrap().read_to_end(&mut plain)?;
        Ok(plain)
    }

    fn stored(&self, object: &ObjectRef) -> Vec<u8> {
        self.raw_get(object_path(&object.name).as_ref())
    }

    fn replace(&self, object: &ObjectRef, bytes: Vec<u8>) {
        self.raw_put(object_path(&object.name).as_ref(), bytes);
    }
}

/// A test for each function of the suite over the place that `$open` gives; none means that it cannot be had here.
macro_rules! keeps_the_contract {
    ($open:path) => {
        keeps_the_contract! { $open;
            every_size_around_a_segment_and_a_part_comes_back, an_object_is_named_by_its_bytes_and_listed,
            a_removed_object_is_missing_and_may_be_removed_again, a_stored_object_that_was_tampered_with_is_refused,
            one_object_in_the_place_of_another_is_refused,
            a_wrong_key_version_opens_nothing_and_rotation_keeps_old_objects, no_plain_byte_is_stored,
            a_dropped_sink_leaves_nothing, a_reader_that_is_dropped_half_way_disturbs_nobody,
            an_object_is_not_there_before_it_is_finished, a_probe_passes_and_leaves_nothing
        }
    };
    ($open:path; $($name:ident),+) => {
        $(#[test]
        fn $name() {
            if let Some(bench) = $open() {
                $crate::tests::suite::$name(&bench);
            }
        })+
    };
}

pub(super) fn pattern(length: usize) -> Vec<u8> {
    let period: Vec<u8> = (0..251).map(|at: usize| u8::try_from(at * 31 % 251).unwrap()).collect();
    period.iter().copied().cycle().take(length).collect()
}

/// The plain length whose ciphertext is `sealed` bytes long.
fn plain_length(sealed: usize) -> usize {
    sealed / SEALED * SEGMENT + (sealed % SEALED).saturating_sub(16)
}

pub(super) fn every_size_around_a_segment_and_a_part_comes_back(bench: &dyn Bench) {
    // Parts of 1 MiB and 8 MiB go out, pieces of 4 MiB come in.
    let edges = [1, 4, 8, 16].map(|mib| plain_length(mib * 1024 * 1024));
    let around = edges.iter().flat_map(|&edge| [edge - 1, edge, edge + 1]);
    for length in [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, LARGE].into_iter().chain(around) {
        let plain = pattern(length);
        let object = bench.put(&plain);
        assert_eq!(object.size, length as u64);
        assert!(bench.get(&object).unwrap() == plain, "{length}");
        bench.objects().delete(&object.name).unwrap();
    }
    assert_eq!(bench.leftovers(), 0);
}

pub(super) fn an_object_is_named_by_its_bytes_and_listed(bench: &dyn Bench) {
    let objects = [bench.put(b"one"), bench.put(b"one"), bench.put(&pattern(200_000)), bench.put(&pattern(LARGE))];
    assert_ne!(objects[0].name, objects[1].name, "equal content must not show as equal");
    for object in &objects {
        assert_eq!(zegel_crypto::hash::sha256(&bench.stored(object)), object.name);
    }
    bench.raw_put(&format!("{OBJECTS}/stray"), b"no object".to_vec());
    let mut listed = bench.objects().list().unwrap();
    listed.sort_by_key(|object| object.name);
    let mut expected: Vec<(Sha256, u64)> =
        objects.iter().map(|object| (object.name, bench.stored(object).len() as u64)).collect();
    expected.sort();
    assert_eq!(listed.iter().map(|object| (object.name, object.size)).collect::<Vec<_>>(), expected);
    assert!(listed.iter().all(|object| object.modified > Millis(1_700_000_000_000)));
}

pub(super) fn a_removed_object_is_missing_and_may_be_removed_again(bench: &dyn Bench) {
    let object = bench.put(b"content");
    bench.objects().delete(&object.name).unwrap();
    bench.objects().delete(&object.name).unwrap();
    assert!(matches!(bench.objects().open(&object), Err(ObjectsError::Missing)));
    assert!(bench.objects().list().unwrap().is_empty());
}

/// Changes the stored bytes and says how reading fails.
fn spoil(bench: &dyn Bench, object: &ObjectRef, good: &[u8], change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> io::ErrorKind {
    bench.replace(object, change(good.to_vec()));
    bench.get(object).unwrap_err().kind()
}

pub(super) fn a_stored_object_that_was_tampered_with_is_refused(bench: &dyn Bench) {
    let object = bench.put(&pattern(3 * SEGMENT + 10));
    let good = bench.stored(&object);
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
    assert_eq!(spoil(bench, &object, &good, swap), invalid);
    for at in [0, SEGMENT, SEALED, 3 * SEALED, 3 * SEALED + 25] {
        assert_eq!(spoil(bench, &object, &good, flip(at)), invalid, "byte {at}");
    }
    for length in [0, 15, SEALED - 1, SEALED, 3 * SEALED, 3 * SEALED + 25] {
        assert_eq!(spoil(bench, &object, &good, cut(length)), invalid, "cut to {length}");
    }
    assert_eq!(spoil(bench, &object, &good, |bytes| [bytes, vec![0]].concat()), invalid);
    bench.replace(&object, good);
    bench.get(&object).unwrap();
    // Beyond the first piece, too.
    let object = bench.put(&pattern(LARGE));
    let good = bench.stored(&object);
    assert_eq!(spoil(bench, &object, &good, flip(good.len() - 1)), invalid);
    assert_eq!(spoil(bench, &object, &good, cut(8 * 1024 * 1024)), invalid);
}

pub(super) fn one_object_in_the_place_of_another_is_refused(bench: &dyn Bench) {
    let (one, other) = (bench.put(b"one"), bench.put(b"two"));
    bench.replace(&one, bench.stored(&other));
    assert_eq!(bench.get(&one).unwrap_err().kind(), io::ErrorKind::InvalidData);
    // Even with the other's key: the name is checked, not only the tags.
    let mixed = ObjectRef { name: one.name, ..other.clone() };
    assert_eq!(bench.get(&mixed).unwrap_err().kind(), io::ErrorKind::InvalidData);
    let longer = ObjectRef { size: other.size + 1, ..other.clone() };
    assert_eq!(bench.get(&longer).unwrap_err().kind(), io::ErrorKind::InvalidData);
    bench.get(&other).unwrap();
}

pub(super) fn a_wrong_key_version_opens_nothing_and_rotation_keeps_old_objects(bench: &dyn Bench) {
    let object = bench.put(b"content");
    let unknown = ObjectRef { key_version: 2, ..object.clone() };
    assert!(matches!(bench.objects().open(&unknown), Err(ObjectsError::Unavailable(_))));
    assert_eq!(bench.keyring().rotate().unwrap(), 2);
    assert_eq!(bench.get(&object).unwrap(), b"content");
    assert_eq!(bench.get(&unknown).unwrap_err().kind(), io::ErrorKind::InvalidData);
    let newer = bench.put(b"newer");
    assert_eq!((newer.key_version, bench.get(&newer).unwrap()), (2, b"newer".to_vec()));
}

pub(super) fn no_plain_byte_is_stored(bench: &dyn Bench) {
    let canary = b"canary-85061511796";
    let object = bench.put(&canary.repeat(10_000));
    let bytes = bench.stored(&object);
    assert!(!bytes.windows(8).any(|window| canary.windows(8).any(|part| part == window)));
}

pub(super) fn a_dropped_sink_leaves_nothing(bench: &dyn Bench) {
    for length in [0, 1, 2_500_000, LARGE] {
        let mut sink = bench.objects().create().unwrap();
        sink.write_all(&pattern(length)).unwrap();
        drop(sink);
        assert_eq!(bench.leftovers(), 0, "{length}");
    }
    assert!(bench.objects().list().unwrap().is_empty());
}

pub(super) fn a_reader_that_is_dropped_half_way_disturbs_nobody(bench: &dyn Bench) {
    let plain = pattern(LARGE);
    let object = bench.put(&plain);
    let mut half = bench.objects().open(&object).unwrap();
    let mut other = bench.objects().open(&object).unwrap();
    half.read_exact(&mut vec![0; LARGE / 2]).unwrap();
    drop(half);
    let mut found = Vec::new();
    other.read_to_end(&mut found).unwrap();
    assert!(found == plain);
}

pub(super) fn an_object_is_not_there_before_it_is_finished(bench: &dyn Bench) {
    for length in [2_500_000, LARGE] {
        let mut sink = bench.objects().create().unwrap();
        sink.write_all(&pattern(length)).unwrap();
        assert!(bench.objects().list().unwrap().is_empty());
        let object = sink.finish().unwrap();
        assert_eq!(bench.objects().list().unwrap().len(), 1);
        assert_eq!(bench.leftovers(), 0);
        bench.objects().delete(&object.name).unwrap();
    }
}

pub(super) fn a_probe_passes_and_leaves_nothing(bench: &dyn Bench) {
    bench.objects().probe().unwrap();
    assert_eq!(bench.leftovers(), 0);
    assert!(bench.objects().list().unwrap().is_empty());
}
