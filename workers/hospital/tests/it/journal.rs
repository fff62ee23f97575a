//! What the journal promises by itself.

use crate::world::{World, hospital, offer};
use schemas::Sha256;
use zegel_hospital::journal::{Begin, ENTRIES_MAX};
use zegel_hospital::{Answer, HospitalError, Offer};

fn reference(answer: &Answer) -> u64 {
    match answer {
        Answer::Journaled(view) | Answer::Known(view) => view.reference,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_document_gets_one_number_however_often_and_across_restarts() {
    let world = World::new();
    let first = world.journal().add(&[offer(1), offer(2), offer(1)]).unwrap();
    assert_eq!(first.iter().map(reference).collect::<Vec<_>>(), [1, 2, 1]);
    assert!(matches!(first[2], Answer::Known(_)));
    let again = world.journal().add(&[offer(2), offer(3)]).unwrap();
    assert_eq!(again.iter().map(reference).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(world.journal().tally().waiting, 3);
}

#[test]
fn a_reference_stands_for_one_document_and_is_not_given_again() {
    let world = World::new();
    let journal = world.journal();
    let given = |reference, n| Offer { reference: Some(reference), document: Sha256([n; 32]) };
    let answers = journal.add(&[given(7, 1), given(7, 2), given(0, 3), given(u64::MAX, 3), offer(3)]).unwrap();
    assert!(matches!(answers[0], Answer::Journaled(_)));
    assert_eq!(answers[1..4], [Answer::Conflict { reference: 7 }, Answer::Invalid, Answer::Invalid]);
    assert_eq!(reference(&answers[4]), 8);
    // The same document under a number of its own is another entry.
    assert!(matches!(journal.add(&[given(9, 1)]).unwrap()[0], Answer::Journaled(_)));
    let found = journal.find(&Sha256([1; 32])).unwrap();
    assert_eq!(found.iter().map(|entry| entry.reference).collect::<Vec<_>>(), [7, 9]);
    assert_ne!(found[0].salt, found[1].salt);
    assert_ne!(found[0].hash(), found[0].document, "the hash is not salted");
}

#[test]
fn a_journal_keeps_its_hospital_and_the_form_of_its_hashes() {
    let world = World::new();
    let begin = |hospital, salted| Begin { hospital, salted, first: 100 };
    assert!(matches!(world.open(&begin(None, None)), Err(HospitalError::NoJournal)));
    let plain = world.open(&begin(Some(hospital()), Some(false))).unwrap();
    assert_eq!(reference(&plain.add(&[offer(1)]).unwrap()[0]), 100);
    let entry = plain.entry(100).unwrap().unwrap();
    assert_eq!((entry.salt, entry.hash()), (None, entry.document));
    assert!(matches!(world.open(&begin(Some(hospital()), Some(true))), Err(HospitalError::OtherForm(_))));
    let other = "NIHII-HOSPITAL:71000337".parse().ok();
    if other.is_some() {
        assert!(matches!(world.open(&begin(other, None)), Err(HospitalError::OtherHospital)));
    }
    assert!(!world.open(&begin(None, None)).unwrap().tally().salted);
}

#[test]
fn one_call_takes_a_bounded_number() {
    let world = World::new();
    let offers = vec![offer(1); ENTRIES_MAX + 1];
    assert!(matches!(world.journal().add(&offers), Err(HospitalError::TooMany(_))));
    assert_eq!(world.journal().tally().waiting, 0);
}
