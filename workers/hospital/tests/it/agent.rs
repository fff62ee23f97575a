//! Outages, lost answers, crashes between steps, and platforms that lie.

use crate::world::{TEN, World, offer};
use schemas::Sha256;
use zegel_archive::reader::Archive;
use zegel_archive::record::{Bag, Foreign, kinds};
use zegel_hospital::{Agent, Journal, Round, State};

const MINUTE: i64 = 60_000;

fn stamped(journal: &Journal) -> Vec<(u64, u64)> {
    let bag = |state: &State| match state {
        State::Stamped { bag } => *bag,
        _ => 0,
    };
    journal.from(0).unwrap().iter().map(|entry| (entry.reference, bag(&entry.state))).collect()
}

#[test]
fn what_was_handed_in_during_hours_without_a_platform_is_stamped_once_when_it_is_back() {
    let world = World::new();
    let journal = world.journal();
    let mut agent = world.agent(&journal);
    world.platform.state().away = true;
    let mut asked = 0;
    for minute in 0..240u8 {
        journal.add(&[offer(minute)]).unwrap();
        asked += u64::from(agent.round().unwrap().away.is_some());
        world.clock.advance(MINUTE);
    }
    assert_eq!((world.platform.state().offers, journal.tally().waiting), (0, 240));
    assert!((100..=240).contains(&asked), "asked {asked} times in four hours");
    world.platform.state().away = false;
    assert_eq!(agent.round().unwrap(), Round { sent: 240, ..Round::default() });
    assert_eq!(journal.tally().owed, 240);
    world.platform.seal(|_| {});
    assert_eq!(agent.round().unwrap(), Round { bags: 1, ..Round::default() });
    assert!(stamped(&journal).iter().all(|(_, bag)| *bag == 1));
    assert_eq!((journal.tally().stamped, journal.tally().owed), (240, 0));
    assert_eq!(world.platform.state().offers, 1);
}

#[test]
fn an_answer_that_was_lost_is_asked_for_again_and_nothing_is_stamped_twice() {
    let world = World::new();
    let journal = world.journal();
    journal.add(&[offer(1), offer(2)]).unwrap();
    world.platform.state().mute = true;
    let mut agent = world.agent(&journal);
    assert!(agent.round().unwrap().away.is_some());
    assert_eq!(journal.tally().waiting, 2);
    // The bag comes before the answer does.
    world.platform.seal(|_| {});
    world.clock.advance(MINUTE);
    drop(agent);
    let mut agent = world.agent(&journal);
    world.platform.state().mute = false;
    let round = agent.round().unwrap();
    assert_eq!((round.sent, round.bags), (2, 1));
    world.platform.seal(|_| {});
    agent.round().unwrap();
    assert_eq!(stamped(&journal), [(1, 1), (2, 1)]);
    assert_eq!((journal.tally().waiting, journal.tally().owed, journal.tally().lost), (0, 0, 0));
}

#[test]
fn an_accepted_entry_that_its_bag_lacks_or_changes_is_an_alarm() {
    let world = World::new();
    let journal = world.journal();
    journal.add(&[offer(1), offer(2), offer(3)]).unwrap();
    let mut agent = world.agent(&journal);
    agent.round().unwrap();
    world.platform.seal(|entries| {
        entries.remove(0);
        entries[0].1 = Sha256([9; 32]);
        entries.push((77, Sha256([7; 32])));
    });
    let round = agent.round().unwrap();
    assert_eq!((round.bags, round.lost), (1, 2));
    let tally = journal.tally();
    assert_eq!((tally.stamped, tally.lost, tally.strangers, tally.owed), (1, 2, 1, 0));
    // A number that somebody else took is not given again.
    journal.add(&[offer(4)]).unwrap();
    assert!(journal.entry(78).unwrap().is_some());
}

#[test]
fn a_bag_that_does_not_hold_is_put_aside_and_stops_the_bags_but_not_the_intake() {
    let world = World::new();
    let journal = world.journal();
    journal.add(&[offer(1)]).unwrap();
    let mut agent = world.agent(&journal);
    agent.round().unwrap();
    world.platform.seal(|_| {});
    let good = world.platform.state().bags[0].xml.clone();
    let at = good.windows(7).position(|bytes| bytes == b"<Ref>1<").unwrap();
    world.platform.state().bags[0].xml[at + 5] = b'2';
    let round = agent.round().unwrap();
    assert!(round.rejected.unwrap().starts_with("bag 1 does not hold: "), "a bag that was altered was taken");
    assert!(world.folder.path().join("rejected/1.xml").exists());
    assert_eq!(journal.tally().bag, 0);
    assert!(journal.tally().halted.is_some());
    journal.add(&[offer(2)]).unwrap();
    world.clock.advance(MINUTE);
    assert_eq!(agent.round().unwrap().sent, 1);
    // The platform shows the right one again.
    world.platform.state().bags[0].xml = good;
    world.clock.advance(2 * MINUTE);
    assert_eq!(agent.round().unwrap().bags, 1);
    assert_eq!((journal.tally().halted, journal.tally().stamped), (None, 1));
}

#[test]
fn a_second_history_of_the_hospital_is_not_taken() {
    let world = World::new();
    let journal = world.journal();
    let mut agent = world.agent(&journal);
    world.platform.seal(|_| {});
    assert_eq!(agent.round().unwrap().bags, 1);
    // Another platform of the same hospital, whose first bag was another one.
    let other = World::new();
    other.platform.seal(|entries| entries.push((1, Sha256([1; 32]))));
    other.platform.seal(|_| {});
    let mut agent = Agent::new(journal.clone(), other.platform.clone(), world.folder.path(), None).unwrap();
    let why = agent.round().unwrap_err_or_rejected();
    assert!(why.contains("bag 2 does not hold") || why.contains("another program"), "{why}");
}

trait Said {
    fn unwrap_err_or_rejected(self) -> String;
}

impl Said for Result<Round, zegel_hospital::HospitalError> {
    fn unwrap_err_or_rejected(self) -> String {
        match self {
            Ok(round) => round.rejected.unwrap_or_default(),
            Err(error) => error.to_string(),
        }
    }
}

#[test]
fn a_crash_between_archive_and_journal_is_mended_without_the_platform() {
    let world = World::new();
    let journal = world.journal();
    journal.add(&[offer(1)]).unwrap();
    let mut agent = world.agent(&journal);
    agent.round().unwrap();
    world.platform.seal(|_| {});
    agent.round().unwrap();
    drop(agent);
    // A journal that was put back from before the bag: the archive has it, the journal does not know.
    let older = World::new();
    let journal = older.journal();
    journal.add(&[offer(1)]).unwrap();
    world.platform.state().away = false;
    let mut agent = Agent::new(journal.clone(), world.platform.clone(), world.folder.path(), None).unwrap();
    let round = agent.round().unwrap();
    assert_eq!((round.bags, round.lost), (1, 0));
    assert_eq!(stamped(&journal), [(1, 1)]);
}

#[test]
fn the_agents_archive_is_what_the_platform_stamped_byte_for_byte() {
    let world = World::new();
    let journal = world.journal();
    let mut agent = world.agent(&journal);
    for n in 0..3u8 {
        journal.add(&[offer(n)]).unwrap();
        agent.round().unwrap();
        world.platform.seal(|_| {});
        world.clock.advance(5 * MINUTE);
    }
    agent.round().unwrap();
    let archive = Archive::open(&agent.archive()).unwrap();
    assert_eq!((archive.bags().len(), archive.findings.total()), (3, 0));
    let body = archive.bag_body(2).unwrap();
    let (bag, state) = (Bag::decode(&body).unwrap(), world.platform.state());
    assert_eq!((bag.xml, bag.tsr), (state.bags[1].xml.as_slice(), state.bags[1].tsr.as_slice()));
    assert_eq!(archive.materials().unwrap().len(), 1);
    assert!(TEN < state.bags[0].header.end);
}

/// The hospital's bag of this number.
fn own(number: u8) -> Vec<u8> {
    format!(
        "<TimeStampBag xmlns=\"urn:be:fgov:ehealth:timestamping:protocol:v2\" Hash=\"SHA-256\" SequenceNumber=\"{number}\">\
         <JournalEntry><Hash>any text</Hash><Ref>5</Ref></JournalEntry></TimeStampBag>"
    )
    .into_bytes()
}

/// The bytes of the hospital's own bags in the archive.
fn kept(agent: &Agent<crate::world::Played>) -> Vec<Vec<u8>> {
    let archive = Archive::open(&agent.archive()).unwrap();
    let records = archive.records(kinds::FOREIGN);
    records.map(|(segment, slot)| Foreign::decode(&segment.body(slot).unwrap()).unwrap().bytes.to_vec()).collect()
}

#[test]
fn bags_that_the_hospital_made_itself_come_into_its_archive_verified_and_once() {
    let world = World::new();
    let journal = world.journal();
    let mut agent = world.agent(&journal);
    let (first, second) = (own(1), own(2));
    let entry = world.platform.take_own(&first);
    world.platform.seal(|entries| entries.push(entry));
    assert_eq!(agent.round().unwrap(), Round { bags: 1, ..Round::default() });
    assert_eq!((kept(&agent), journal.tally().strangers), (vec![first.clone()], 0));
    // The next one comes back with the first one's token, then not at all, then as it was stamped.
    let entry = world.platform.take_own(&second);
    let good = world.platform.state().own[&entry.1].clone();
    let wrong = world.platform.state().own.values().find(|own| own.bytes == first).unwrap().tsr.clone();
    world.platform.seal(|entries| entries.push(entry));
    let swapped = zegel_hospital::OwnBag { tsr: wrong, ..good.clone() };
    for shown in [Some(swapped), None] {
        match shown {
            Some(shown) => world.platform.state().own.insert(entry.1, shown),
            None => world.platform.state().own.remove(&entry.1),
        };
        world.clock.advance(2 * MINUTE);
        let round = agent.round().unwrap();
        assert!(
            round.rejected.is_some_and(|why| why.contains("does not hold")),
            "a bag with another's token was taken"
        );
        assert_eq!(kept(&agent).len(), 1);
    }
    assert!(world.folder.path().join(format!("rejected/own-{}.tsr", entry.1)).exists());
    world.platform.state().own.insert(entry.1, good);
    // Another agent finds out what is missing from the archive alone, and the next one that nothing is.
    for _ in 0..2 {
        drop(agent);
        agent = world.agent(&journal);
        assert_eq!(agent.round().unwrap(), Round::default());
        assert_eq!(kept(&agent), [first.clone(), second.clone()]);
    }
}
