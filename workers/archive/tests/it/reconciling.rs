//! Two archives compared: each kind of difference by its name, at a cost that follows the differences.

use crate::world::{Kept, TEN, authority, bags, compare, hospital};
use schemas::Sha256;
use zegel_archive::manifest::Side;
use zegel_archive::testing::{Made, Maker, entries, stamp};
use zegel_archive::{Class, Finding};

/// A finding's name, bag and reference.
type Shown = (&'static str, Option<u64>, Option<u64>);

fn shown(found: &[Finding]) -> Vec<Shown> {
    found.iter().map(|found| (found.name, found.place.bag, found.place.reference)).collect()
}

/// The same bag with an entry's digest changed in the XML: as a hand on the archive leaves it.
fn tampered(made: &Made, reference: u64) -> Made {
    let all = entries_of(made).into_iter();
    let all: Vec<_> = all.map(|(n, hash)| (n, if n == reference { Sha256([9; 32]) } else { hash })).collect();
    with_entries(made, &all)
}

fn entries_of(made: &Made) -> Vec<(u64, Sha256)> {
    let mut all = Vec::new();
    zegel_timestamp::xml::read_bag(made.xml.as_slice(), |reference, hash| all.push((reference, *hash))).unwrap();
    all.remove(0);
    all
}

/// Header and token as they were, other entries.
fn with_entries(made: &Made, all: &[(u64, Sha256)]) -> Made {
    Made { xml: zegel_archive::testing::xml(&made.header, all), ..made.clone() }
}

fn against(made: &[Made], other: &[Made]) -> (Vec<Shown>, Vec<Finding>) {
    let (found, _) = compare(&Kept::new(Side::Platform, made), &Kept::new(Side::Hospital, other));
    (shown(&found), found)
}

#[test]
fn equal_archives_do_not_differ_even_when_their_segments_do() {
    let made = bags(&[3, 40, 0]);
    assert_eq!(against(&made, &made).0, []);
    // The hospital sealed its archive after each bag.
    let folder = tempfile::tempdir().unwrap();
    for made in &made {
        let mut writer =
            zegel_archive::writer::Writer::open(&folder.path().join("archive"), &hospital(), Side::Hospital).unwrap();
        writer.append(&crate::world::new_bag(made, &made.header.encode())).unwrap();
        writer.finish().unwrap();
    }
    let pieces = Kept(folder);
    assert_eq!(pieces.audit().overview.segments, 4);
    assert_eq!(compare(&Kept::of(&made), &pieces).0, []);
}

#[test]
fn an_altered_entry_is_named_with_the_side_that_contradicts_itself() {
    let made = bags(&[300, 300]);
    let other = [made[0].clone(), tampered(&made[1], 432)];
    let (names, found) = against(&made, &other);
    assert_eq!(names, [("entry-differs", Some(2), Some(432))]);
    assert!(found[0].text.ends_with("; the hospital's archive contradicts itself"), "{}", found[0].text);
    assert_eq!(found[0].class, Class::Differs);
}

#[test]
fn entries_that_were_left_out_put_in_or_moved_are_named() {
    let made = bags(&[300]);
    let mut all = entries_of(&made[0]);
    all.remove(150);
    assert_eq!(against(&made, &[with_entries(&made[0], &all)]).0, [("entry-missing-there", Some(1), Some(151))]);
    all.insert(20, (5_000, Sha256([1; 32])));
    let names = against(&made, &[with_entries(&made[0], &all)]).0;
    assert_eq!(names, [("entry-missing-there", Some(1), Some(151)), ("entry-missing-here", Some(1), Some(5_000))]);
    let mut all = entries_of(&made[0]);
    all.swap(3, 250);
    assert_eq!(against(&made, &[with_entries(&made[0], &all)]).0, [("order-differs", Some(1), None)]);
}

#[test]
fn bags_on_one_side_only_and_windows_on_neither_are_named() {
    let made = bags(&[2, 2, 2, 2, 2]);
    let without = |gone: &[usize]| -> Vec<Made> {
        made.iter().enumerate().filter(|(at, _)| !gone.contains(at)).map(|(_, made)| made.clone()).collect()
    };
    let names = against(&without(&[1, 3]), &without(&[2, 3])).0;
    assert_eq!(
        names,
        [("missing-here", Some(2), None), ("missing-there", Some(3), None), ("window-absent", Some(4), None)]
    );
}

#[test]
fn another_token_and_a_late_one_are_told_apart() {
    let mut maker = Maker::new(hospital(), TEN);
    let bound = maker.bind(&entries(1..3, 0));
    let at = |ms| stamp(bound.clone(), &authority(), bound.header.end.plus(ms)).unwrap();
    assert_eq!(against(&[at(1_000)], &[at(2_000)]).0, [("token-differs", Some(1), None)]);
    let (names, found) = against(&[at(1_000)], &[at(3_600_000)]);
    assert_eq!(names, [("late-token", Some(1), None)]);
    assert!(found[0].text.contains("2026-01-01T11:05:00.000Z"), "{}", found[0].text);
}

#[test]
fn archives_of_two_hospitals_are_not_compared() {
    let folder = tempfile::tempdir().unwrap();
    let other = "NIHII-HOSPITAL:71000535".parse().unwrap();
    zegel_archive::writer::Writer::open(&folder.path().join("archive"), &other, Side::Platform)
        .unwrap()
        .finish()
        .unwrap();
    let (found, _) = compare(&Kept::of(&bags(&[1])), &Kept(folder));
    assert_eq!(shown(&found), [("other-hospital", None, None)]);
}

#[test]
fn the_cost_follows_the_differences_and_not_the_entries() {
    let mut costs = Vec::new();
    for size in [1_000, 100_000] {
        let made = bags(&[size]);
        let other = [tampered(&made[0], size / 2)];
        let (found, cost) = compare(&Kept::of(&made), &Kept::new(Side::Hospital, &other));
        assert_eq!(shown(&found), [("entry-differs", Some(1), Some(size / 2))]);
        costs.push((cost.digests, cost.bytes, made[0].xml.len() as u64));
    }
    let [(few, ..), (many, bytes, whole)] = costs[..] else { unreachable!() };
    assert!(many < few + 1_000, "digests: {few} for a thousand entries, {many} for a hundred thousand");
    assert!(bytes < whole / 20, "{bytes} bytes read of {whole}");
}
