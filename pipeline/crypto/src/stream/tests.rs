//! Sizes around a segment, and everything that can be done to a stored object.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use proptest::prelude::*;

const SEALED: usize = SEGMENT + TAG;

fn encrypt(keys: &Keyring, plain: &[u8]) -> (Vec<u8>, u32, Sha256) {
    let key = keys.new_object_key();
    let (version, salt) = (key.version(), key.salt());
    let mut encryptor = Encryptor::new(key, Vec::new());
    encryptor.write_all(plain).unwrap();
    (encryptor.finish().unwrap(), version, salt)
}

fn decrypt(keys: &Keyring, sealed: &[u8], version: u32, salt: Sha256) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    Decryptor::new(keys.object_key(version, salt).unwrap(), sealed).read_to_end(&mut plain)?;
    Ok(plain)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect()
}

#[test]
fn every_size_around_a_segment_comes_back() {
    let keys = Keyring::generate_in_memory();
    for length in [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT - 1, 2 * SEGMENT, 3_000_000] {
        let plain = pattern(length);
        let (sealed, version, salt) = encrypt(&keys, &plain);
        assert_eq!(sealed.len(), length + TAG * length.div_ceil(SEGMENT).max(1), "{length}");
        assert!(decrypt(&keys, &sealed, version, salt).unwrap() == plain, "{length}");
    }
}

#[test]
fn segments_left_out_swapped_repeated_or_appended_are_refused() {
    let keys = Keyring::generate_in_memory();
    let (sealed, version, salt) = encrypt(&keys, &pattern(3 * SEGMENT + 100));
    let parts: Vec<&[u8]> = sealed.chunks(SEALED).collect();
    for order in [
        &[1, 0, 2, 3][..],
        &[0, 2, 1, 3],
        &[0, 2, 3],
        &[0, 1, 2],
        &[0],
        &[3],
        &[0, 1, 1, 2, 3],
        &[0, 1, 2, 3, 3],
        &[0, 1, 2, 3, 0],
        &[],
    ] {
        let changed: Vec<u8> = order.iter().flat_map(|part| parts[*part]).copied().collect();
        let error = decrypt(&keys, &changed, version, salt).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{order:?}");
    }
}

#[test]
fn a_reader_that_failed_never_ends_quietly() {
    let keys = Keyring::generate_in_memory();
    let (mut sealed, version, salt) = encrypt(&keys, &pattern(2 * SEGMENT));
    sealed[SEALED] ^= 1;
    let mut reader = Decryptor::new(keys.object_key(version, salt).unwrap(), &sealed[..]);
    let mut first = vec![0; SEGMENT];
    reader.read_exact(&mut first).unwrap();
    for _ in 0..3 {
        assert_eq!(reader.read(&mut [0; 10]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}

#[test]
fn another_salt_version_or_keyring_opens_nothing() {
    let keys = Keyring::generate_in_memory();
    let (sealed, version, salt) = encrypt(&keys, b"plain");
    keys.rotate().unwrap();
    assert_eq!(decrypt(&keys, &sealed, version, salt).unwrap(), b"plain");
    assert!(decrypt(&keys, &sealed, 2, salt).is_err());
    assert!(decrypt(&keys, &sealed, version, Sha256([0; 32])).is_err());
    assert!(decrypt(&Keyring::generate_in_memory(), &sealed, version, salt).is_err());
    assert!(matches!(keys.object_key(3, salt), Err(KeysError::UnknownVersion(3))));
}

#[test]
fn an_output_that_failed_is_never_finished() {
    struct FailsOnce(bool);
    impl Write for FailsOnce {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.0, false) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(bytes.len()) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut encryptor = Encryptor::new(Keyring::generate_in_memory().new_object_key(), FailsOnce(true));
    encryptor.write_all(&pattern(SEGMENT)).unwrap();
    assert!(encryptor.write_all(b"more").is_err());
    assert!(encryptor.finish().is_err());
}

#[test]
fn version_1_of_the_format_stays_readable() {
    let key = || {
        let master = Secret32::new([1; 32]);
        ObjectKey::derive(&master, 7, Sha256([2; 32]))
    };
    let mut plain = Vec::new();
    Decryptor::new(key(), &hex::decode(GOLDEN).unwrap()[..]).read_to_end(&mut plain).unwrap();
    assert_eq!(plain, b"streamed in 2026");
    assert_eq!(format!("{:?}", key()), "ObjectKey(***, version 7)");
}

// Made with pyca/cryptography's HKDF and AESGCM, not with this crate.
const GOLDEN: &str = "e957c5c3596217d4dbac4844daeafb157b4b0129e450549610dd1f43707b2d08";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_cutting_of_writes_and_reads_gives_the_same_bytes(
        length in 0..3 * SEGMENT, write in 1..2 * SEGMENT, read in 1..2 * SEGMENT,
    ) {
        let keys = Keyring::generate_in_memory();
        let plain = pattern(length);
        let key = keys.new_object_key();
        let (version, salt) = (key.version(), key.salt());
        let mut encryptor = Encryptor::new(key, Vec::new());
        for piece in plain.chunks(write) {
            encryptor.write_all(piece).unwrap();
            encryptor.flush().unwrap();
        }
        let sealed = encryptor.finish().unwrap();
        let mut reader = Decryptor::new(keys.object_key(version, salt).unwrap(), &sealed[..]);
        let (mut back, mut buffer) = (Vec::new(), vec![0; read]);
        loop {
            match reader.read(&mut buffer).unwrap() {
                0 => break,
                got => back.extend_from_slice(&buffer[..got]),
            }
        }
        prop_assert!(back == plain);
    }

    #[test]
    fn a_changed_bit_or_another_length_is_refused(
        length in 0..2 * SEGMENT + 9, at in any::<proptest::sample::Index>(), bit in 0..8_u8, longer in 1..40_usize,
    ) {
        let keys = Keyring::generate_in_memory();
        let (sealed, version, salt) = encrypt(&keys, &pattern(length));
        let at = at.index(sealed.len());
        let mut changed = sealed.clone();
        changed[at] ^= 1_u8 << bit;
        prop_assert!(decrypt(&keys, &changed, version, salt).is_err());
        prop_assert!(decrypt(&keys, &sealed[..at], version, salt).is_err());
        let appended = [sealed, vec![0; longer]].concat();
        prop_assert!(decrypt(&keys, &appended, version, salt).is_err());
    }
}
