//! One bit flipped anywhere in an archive or an evidence file: found, and located.
//!
//! `ZEGEL_FLIPS` sets how many random flips are tried (`make flips` tries 10,000).

use crate::world::{Kept, bags, trust};
use std::fs;
use std::path::PathBuf;
use zegel_archive::evidence::{self, Wanted};
use zegel_archive::reader::Archive;
use zegel_archive::record::kinds;

fn rounds() -> u64 {
    std::env::var("ZEGEL_FLIPS").ok().and_then(|text| text.parse().ok()).unwrap_or(150)
}

/// Splitmix64: repeatable, and even enough to reach every place.
struct Random(u64);

impl Random {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

fn random() -> Random {
    Random(1)
}

#[test]
fn every_flipped_bit_of_an_archive_is_found_in_the_record_that_holds_it() {
    let kept = Kept::of(&bags(&[5, 0, 130]));
    let archive = Archive::open(&kept.path()).unwrap();
    let slots: Vec<_> = archive.segments[0].slots.clone();
    let files: Vec<_> = kept.files().into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    let total: u64 = files.iter().map(|(bytes, _)| bytes.len() as u64).sum();
    let flip = |(good, path): &(Vec<u8>, PathBuf), at: u64, bit: u64| {
        let mut bytes = good.clone();
        bytes[usize::try_from(at).unwrap()] ^= 1 << bit;
        fs::write(path, &bytes).unwrap();
        let findings = kept.audit().findings;
        let name = path.file_name().unwrap().to_str().unwrap();
        let what = format!("bit {bit} of byte {at} of {name}: {:?}", findings.list());
        assert!(!findings.clean(), "{what}");
        let holds = |from: u64, to: u64| (from..to).contains(&at);
        let located = findings.list().iter().any(|found| {
            let place = &found.place;
            place.file == name && place.from.zip(place.to).is_none_or(|(from, to)| holds(from, to))
        });
        assert!(located, "{what}");
        // Inside a record of the sealed segment, that one is named and no other: its index says where records lie. (In the open
        // one, whose lengths are all there is to go by, it may be everything from there on.)
        let sealed = name == archive.segments[0].name;
        if let Some(slot) = slots.iter().find(|slot| sealed && holds(slot.offset, slot.offset + slot.length)) {
            let damaged = findings.list().iter().filter(|found| found.name == "record-digest");
            let places: Vec<_> = damaged.map(|found| (found.place.from, found.place.bag)).collect();
            let bag = Some(slot.sequence).filter(|_| slot.kind == kinds::BAG);
            assert_eq!(places, [(Some(slot.offset), bag)], "{what}");
        }
        fs::write(path, good).unwrap();
    };
    // The last 16 bytes say where the index is: each bit of them.
    let sealed = files.iter().find(|(_, path)| path.ends_with(&archive.segments[0].name)).unwrap();
    let end = sealed.0.len() as u64;
    (end - 16..end).for_each(|at| (0..8).for_each(|bit| flip(sealed, at, bit)));
    let mut random = random();
    for _ in 0..rounds() {
        let mut at = random.next_u64() % total;
        let file = files.iter().find(|(bytes, _)| {
            let here = at < bytes.len() as u64;
            at -= if here { 0 } else { bytes.len() as u64 };
            here
        });
        flip(file.unwrap(), at, random.next_u64() % 8);
    }
    assert!(kept.audit().findings.clean());
}

#[test]
fn a_flipped_bit_in_an_entry_names_the_group_of_entries() {
    let kept = Kept::of(&bags(&[300]));
    let path = kept.path().join("000001.zseg");
    let mut bytes = fs::read(&path).unwrap();
    let needle = b"<Ref>200<";
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap() + 7;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let findings = kept.audit().findings;
    let group = findings.list().iter().find(|found| found.name == "bag-entries").unwrap();
    let numbers: Vec<u64> = group.text.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!((numbers[0]..=numbers[1]).contains(&200) && numbers[1] - numbers[0] < 299, "{}", group.text);
}

#[test]
fn every_flipped_bit_of_an_evidence_file_is_found() {
    let kept = Kept::of(&bags(&[5]));
    let archive = Archive::open(&kept.path()).unwrap();
    let trust = trust();
    let good = evidence::make(&archive, &Wanted { reference: Some(3), ..Wanted::default() }, &trust).unwrap();
    assert!(evidence::check(&good, None, &trust).1.clean());
    let mut random = random();
    for round in 0..rounds() {
        let bit = random.next_u64() % (good.len() as u64 * 8);
        let mut bytes = good.clone();
        bytes[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
        let (_, findings) = evidence::check(&bytes, None, &trust);
        assert!(!findings.clean(), "round {round}: bit {bit}");
    }
}
