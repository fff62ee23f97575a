//! Documents from a folder: complete files, once each, with an answer beside them; lists of hashes.

use crate::world::World;
use std::fs;
use zegel_crypto::hash::sha256;
use zegel_hospital::drop_folder::{DropFolder, Look};

#[test]
fn a_complete_file_is_journaled_once_and_answered_when_it_is_stamped() {
    let world = World::new();
    let journal = world.journal();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("rx-1.xml"), "one").unwrap();
    fs::write(at("rx-2.xml.part"), "two").unwrap();
    fs::write(at(".hidden"), "three").unwrap();
    let mut drop_folder = DropFolder::new(folder.path());
    assert_eq!(drop_folder.look(&journal).unwrap(), Look { growing: 1, ..Look::default() });
    fs::write(at("rx-1.xml"), "one and more").unwrap();
    world.clock.advance(1_000);
    assert_eq!(drop_folder.look(&journal).unwrap().growing, 1, "a file that grows was taken");
    world.clock.advance(1_000);
    assert_eq!(drop_folder.look(&journal).unwrap(), Look { waiting: 1, ..Look::default() });
    // Another agent on the same folder finds the document known.
    let mut second = DropFolder::new(folder.path());
    second.look(&journal).unwrap();
    world.clock.advance(1_000);
    second.look(&journal).unwrap();
    assert_eq!(journal.tally().waiting, 1);
    assert_eq!(journal.find(&sha256(b"one and more")).unwrap().len(), 1);
    let mut agent = world.agent(&journal);
    agent.round().unwrap();
    world.platform.seal(|_| {});
    agent.round().unwrap();
    assert_eq!(drop_folder.look(&journal).unwrap(), Look { answered: 1, ..Look::default() });
    let answer = fs::read_to_string(at("rx-1.xml.stamp.json")).unwrap();
    assert!(answer.contains("\"bag\": 1") && !answer.contains("salt"), "{answer}");
    assert_eq!(drop_folder.look(&journal).unwrap(), Look { answered: 1, ..Look::default() });
}

#[test]
fn a_list_of_hashes_is_taken_whole_or_not_at_all() {
    let world = World::new();
    let journal = world.journal();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (one, two) = (sha256(b"1"), sha256(b"2"));
    fs::write(at("good.hashes"), format!("{one}\n7,{two}\n")).unwrap();
    fs::write(at("bad.hashes"), format!("{one}\nnot a hash of Jan\n")).unwrap();
    let mut drop_folder = DropFolder::new(folder.path());
    drop_folder.look(&journal).unwrap();
    world.clock.advance(1_000);
    let look = drop_folder.look(&journal).unwrap();
    assert_eq!((look.waiting, look.answered), (1, 1));
    let why = fs::read_to_string(at("bad.hashes.error.json")).unwrap();
    assert!(why.contains("line 2") && !why.contains("Jan"), "{why}");
    assert_eq!(journal.entry(7).unwrap().unwrap().document, two);
}
