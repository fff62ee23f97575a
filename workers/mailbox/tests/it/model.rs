//! Random life of a box against a simple model: what lies where, how much it counts, and one final answer for each.

use crate::{REGISTRY, address, answers, box_row, deliver, document, notice, numbers, open_box};
use proptest::prelude::*;
use schemas::messages::{BoxCommand, Expire, Folder, OpenBox};
use schemas::{Key, MessageId};
use std::collections::{BTreeMap, VecDeque};
use zegel_core::Effects;
use zegel_core::slot::spaces;
use zegel_core::testing::Bench;
use zegel_mailbox::{Boxes, INLINE_MAX, Shelf};

#[derive(Debug, Clone)]
enum Action {
    Document(u8, u64),
    Notice(u8),
    See(Vec<u8>, bool),
    Move(Vec<u8>, bool),
    Delete(Vec<u8>),
    Expire(u8),
    Capacity(u64),
}

fn action() -> impl Strategy<Value = Action> {
    let number = 0..24u8;
    let some = proptest::collection::vec(0..24u8, 0..5);
    let size = prop_oneof![Just(0), Just(10), Just(INLINE_MAX as u64 + 1)];
    prop_oneof![
        6 => (number.clone(), size).prop_map(|(n, size)| Action::Document(n, size)),
        1 => (24..32u8).prop_map(Action::Notice),
        1 => (some.clone(), any::<bool>()).prop_map(|(items, read)| Action::See(items, read)),
        2 => (some.clone(), any::<bool>()).prop_map(|(items, bin)| Action::Move(items, bin)),
        3 => some.prop_map(Action::Delete),
        1 => number.prop_map(Action::Expire),
        1 => prop_oneof![Just(0), Just(15), Just(3_000), Just(10_000)].prop_map(Action::Capacity),
    ]
}

/// The box as it should be. Items are (number, size), in order of their numbers in the box.
#[derive(Default)]
struct Model {
    capacity: u64,
    sequence: u64,
    inside: BTreeMap<u64, (u8, u64, bool)>,
    waiting: VecDeque<(u8, u64)>,
    /// Final answers, by item: true when it entered.
    finals: BTreeMap<u8, Vec<bool>>,
}

impl Model {
    fn bytes(&self) -> u64 {
        self.inside.values().map(|(_, size, _)| size).sum()
    }

    fn knows(&self, number: u8) -> bool {
        self.inside.values().any(|item| item.0 == number) || self.waiting.iter().any(|item| item.0 == number)
    }

    fn take_in(&mut self, number: u8, size: u64) {
        self.sequence += 1;
        self.inside.insert(self.sequence, (number, size, false));
        self.finals.entry(number).or_default().push(true);
    }

    fn enter(&mut self) {
        while self.bytes() < self.capacity {
            let Some((number, size)) = self.waiting.pop_front() else { return };
            self.take_in(number, size);
        }
    }

    fn apply(&mut self, action: &Action) {
        match action {
            Action::Document(number, _) | Action::Notice(number) if self.knows(*number) => {}
            Action::Document(number, size) if self.bytes() >= self.capacity => self.waiting.push_back((*number, *size)),
            Action::Document(number, size) => self.take_in(*number, *size),
            Action::Notice(number) => {
                self.take_in(*number, 0);
                self.finals.remove(number);
            }
            Action::See(..) => {}
            Action::Move(items, bin) => {
                let named = self.inside.values_mut().filter(|item| items.contains(&item.0));
                named.for_each(|item| item.2 = *bin);
            }
            Action::Delete(items) => {
                self.inside.retain(|_, item| !items.contains(&item.0));
                self.enter();
            }
            Action::Expire(number) => {
                if let Some(at) = self.waiting.iter().position(|item| item.0 == *number) {
                    self.waiting.remove(at);
                    self.finals.entry(*number).or_default().push(false);
                }
            }
            Action::Capacity(capacity) => {
                self.capacity = *capacity;
                self.enter();
            }
        }
    }

    fn on(&self, bin: bool) -> Vec<u8> {
        self.inside.values().filter(|item| item.2 == bin).map(|item| item.0).collect()
    }

    fn large(&self) -> usize {
        let sizes = self.inside.values().map(|item| item.1).chain(self.waiting.iter().map(|item| item.1));
        sizes.filter(|size| *size > INLINE_MAX as u64).count()
    }
}

/// Sends the box the message of an action.
fn send(bench: &mut Bench<Boxes>, owner: Key, action: &Action) -> Effects {
    let ids = |items: &[u8]| items.iter().map(|number| MessageId([*number; 16])).collect::<Vec<_>>();
    let command = match action {
        Action::Document(number, size) => {
            return deliver(bench, owner, &document(*number, usize::try_from(*size).unwrap()));
        }
        Action::Notice(number) => return deliver(bench, owner, &notice(*number)),
        Action::Expire(number) => {
            return bench.deliver(owner, &Expire { submission: MessageId([*number; 16]) });
        }
        Action::Capacity(max_bytes) => {
            return bench.deliver(owner, &OpenBox { address: address(REGISTRY), max_bytes: *max_bytes });
        }
        Action::See(items, true) => BoxCommand::Read { item: ids(items).first().copied().unwrap_or_default() },
        Action::See(items, false) => BoxCommand::Listed { items: ids(items) },
        Action::Move(items, true) => BoxCommand::Move { items: ids(items), to: Folder::Bin },
        Action::Move(items, false) => BoxCommand::Move { items: ids(items), to: Folder::Inbox },
        Action::Delete(items) => BoxCommand::Delete { items: ids(items) },
    };
    bench.deliver(owner, &command)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_box_agrees_with_its_model_whatever_happens(
        actions in proptest::collection::vec(action(), 1..60),
        batch in 1..12usize,
    ) {
        let (bench, owner) = open_box(3_000);
        let mut bench = bench.with_batch(batch);
        let mut model = Model { capacity: 3_000, ..Model::default() };
        let mut finals: BTreeMap<u8, Vec<bool>> = BTreeMap::new();
        for (step, action) in actions.iter().enumerate() {
            model.apply(action);
            let effects = send(&mut bench, owner, action);
            for (number, what) in answers(&effects).into_iter().filter(|(_, what)| what != "stand-by") {
                finals.entry(number).or_default().push(what == "done");
            }
            // Looking commits, so look seldom enough for batches to be batches.
            if step % 16 == 15 || step + 1 == actions.len() {
                let row = box_row(&mut bench, owner);
                prop_assert_eq!(row.bytes, model.bytes());
                prop_assert_eq!(row.count, model.inside.len() as u64);
                prop_assert_eq!(row.stand_by_count, model.waiting.len() as u64);
                prop_assert_eq!(row.stand_by_bytes, model.waiting.iter().map(|item| item.1).sum::<u64>());
                prop_assert_eq!(numbers(&mut bench, owner, Shelf::Inbox), model.on(false));
                prop_assert_eq!(numbers(&mut bench, owner, Shelf::Bin), model.on(true));
                let waiting: Vec<u8> = model.waiting.iter().map(|item| item.0).collect();
                prop_assert_eq!(numbers(&mut bench, owner, Shelf::StandBy), waiting);
                prop_assert_eq!(bench.rows(spaces::ITEM_PLACES), model.inside.len() + model.waiting.len());
                prop_assert_eq!(bench.rows(spaces::PAYLOADS), model.large());
                prop_assert_eq!(&finals, &model.finals);
            }
        }
    }
}
