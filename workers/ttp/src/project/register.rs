//! The life of a project: which decisions may follow which, and what holds on a day. Pure, without files or keys.
//!
//! ```text
//!            activate 1                 activate n+1, rotate e+1
//! (nothing) ───────────▶ in force from its day ───────────┐
//!                              │      ▲───────────────────┘
//!                              ▼ retire
//!                           retired ──destroy-keys──▶ destroyed
//! ```
//! Invariants (tested on random decisions): versions and epochs grow by one, days never go back, nothing follows `destroyed`,
//! and nothing but `destroy-keys` follows `retired`; on every day at most one version and one epoch hold.

use super::entry::{Deed, Entry};
use chrono::NaiveDate;
use schemas::Sha256;

/// From a day on, this version's fields and this generation of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// First day, UTC.
    pub from: NaiveDate,
    /// The document's version.
    pub version: u32,
    /// Generation of the keys.
    pub epoch: u32,
}

/// What holds on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was activated.
    Draft,
    /// The first version takes effect later.
    Ahead(NaiveDate),
    /// This holds.
    InForce(Period),
    /// It has ended.
    Retired(NaiveDate),
    /// It has ended, and its keys are gone.
    Destroyed(NaiveDate),
}

/// What the decisions so far come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Register {
    periods: Vec<Period>,
    latest: Option<NaiveDate>,
    retired: Option<NaiveDate>,
    destroyed: Option<NaiveDate>,
    root: Option<Sha256>,
}

impl Register {
    /// Adds a decision.
    ///
    /// # Errors
    /// The rule that it breaks; nothing has changed then.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), &'static str> {
        if self.destroyed.is_some() {
            return Err("its keys are destroyed: nothing can follow");
        }
        if self.latest.is_some_and(|latest| entry.effective < latest) {
            return Err("it takes effect before the decision ahead of it");
        }
        match &entry.deed {
            Deed::DestroyKeys { root } => self.destroy(*root, entry.effective)?,
            _ if self.retired.is_some() => return Err("the project is retired"),
            Deed::Activate { version, root, .. } => self.activate(*version, *root, entry.effective)?,
            Deed::Rotate { epoch } => self.rotate(*epoch, entry.effective)?,
            Deed::Retire { reason } => self.retire(reason, entry.effective)?,
        }
        self.latest = Some(entry.effective);
        Ok(())
    }

    fn activate(&mut self, version: u32, root: Sha256, from: NaiveDate) -> Result<(), &'static str> {
        let last = self.periods.last();
        if version != last.map_or(0, |last| last.version).saturating_add(1) {
            return Err("its version is not one more than the last that was activated");
        }
        if self.root.is_some_and(|known| known != root) {
            return Err("an amendment keeps the key root");
        }
        let epoch = last.map_or(1, |last| last.epoch);
        self.root = Some(root);
        self.periods.push(Period { from, version, epoch });
        Ok(())
    }

    fn rotate(&mut self, epoch: u32, from: NaiveDate) -> Result<(), &'static str> {
        let last = *self.periods.last().ok_or("nothing was activated")?;
        if epoch != last.epoch.saturating_add(1) {
            return Err("its epoch is not one more than the present one");
        }
        self.periods.push(Period { from, epoch, ..last });
        Ok(())
    }

    fn retire(&mut self, reason: &str, from: NaiveDate) -> Result<(), &'static str> {
        if self.periods.is_empty() {
            return Err("nothing was activated");
        }
        if reason.trim().is_empty() || reason.chars().count() > 1_000 {
            return Err("a reason is 1 to 1,000 characters");
        }
        self.retired = Some(from);
        Ok(())
    }

    fn destroy(&mut self, root: Sha256, on: NaiveDate) -> Result<(), &'static str> {
        if self.retired.is_none() {
            return Err("only a retired project's keys can be destroyed");
        }
        if self.root != Some(root) {
            return Err("it names another key root");
        }
        self.destroyed = Some(on);
        Ok(())
    }

    /// What holds on this day.
    #[must_use]
    pub fn standing(&self, day: NaiveDate) -> Standing {
        if let Some(on) = self.destroyed {
            // Without keys nothing can be made, whatever the day says.
            return Standing::Destroyed(on);
        }
        if let Some(since) = self.retired.filter(|since| *since <= day) {
            return Standing::Retired(since);
        }
        // The last decision wins where several take effect on one day.
        match (self.periods.iter().rev().find(|period| period.from <= day), self.periods.first()) {
            (Some(period), _) => Standing::InForce(*period),
            (None, Some(first)) => Standing::Ahead(first.from),
            (None, None) => Standing::Draft,
        }
    }

    /// Every period, in order.
    #[must_use]
    pub fn periods(&self) -> &[Period] {
        &self.periods
    }

    /// The commitment to the key root, once anything was activated.
    #[must_use]
    pub fn root(&self) -> Option<Sha256> {
        self.root
    }

    /// The day from which it is retired.
    #[must_use]
    pub fn retired(&self) -> Option<NaiveDate> {
        self.retired
    }

    /// Whether its keys are to be gone.
    #[must_use]
    pub fn is_destroyed(&self) -> bool {
        self.destroyed.is_some()
    }

    /// The first day that a next decision may name.
    #[must_use]
    pub fn earliest(&self) -> Option<NaiveDate> {
        self.latest
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn day(n: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 1, 1).unwrap() + chrono::Days::new(u64::from(n))
    }

    fn entry(deed: Deed, on: u32) -> Entry {
        Entry { form: 1, project: "p".to_owned(), sequence: 1, previous: None, effective: day(on), deed }
    }

    fn activate(version: u32, root: u8) -> Deed {
        let (document, signatures) = (Sha256([0; 32]), Vec::new());
        Deed::Activate { version, document, root: Sha256([root; 32]), trial: false, signatures }
    }

    fn decision() -> impl Strategy<Value = (Deed, u32)> {
        let deed = prop_oneof![
            4 => (1u32..5, 0u8..2).prop_map(|(version, root)| activate(version, root)),
            3 => (1u32..5).prop_map(|epoch| Deed::Rotate { epoch }),
            1 => Just(Deed::Retire { reason: "done".to_owned() }),
            1 => (0u8..2).prop_map(|root| Deed::DestroyKeys { root: Sha256([root; 32]) }),
        ];
        (deed, 0u32..12)
    }

    proptest! {
        #[test]
        fn whatever_is_decided_the_register_stays_lawful(decisions in proptest::collection::vec(decision(), 0..40)) {
            let mut register = Register::default();
            for (deed, on) in decisions {
                let before = register.clone();
                let entry = entry(deed, on);
                if register.apply(&entry).is_err() {
                    prop_assert_eq!(&register, &before, "a refused decision left something");
                    continue;
                }
                prop_assert!(!before.is_destroyed(), "something followed the destruction");
                let destroys = matches!(entry.deed, Deed::DestroyKeys { .. });
                prop_assert!(before.retired().is_none() || destroys, "something followed the retirement");
                for pair in register.periods().windows(2) {
                    let (version, epoch) = (pair[1].version - pair[0].version, pair[1].epoch - pair[0].epoch);
                    prop_assert_eq!(version + epoch, 1, "exactly one of version and epoch grows by one");
                    prop_assert!(pair[0].from <= pair[1].from);
                }
                // What held on days before this decision's day holds there still.
                for earlier in 0..on {
                    let (was, is) = (before.standing(day(earlier)), register.standing(day(earlier)));
                    prop_assert!(was == is || destroys || was == Standing::Draft, "the past changed: {:?} {:?}", was, is);
                }
            }
        }
    }

    #[test]
    fn a_project_lives_from_its_first_day_to_its_end() {
        let mut register = Register::default();
        assert_eq!(register.standing(day(0)), Standing::Draft);
        assert!(register.apply(&entry(Deed::Rotate { epoch: 2 }, 0)).is_err());
        assert!(register.apply(&entry(Deed::DestroyKeys { root: Sha256([0; 32]) }, 0)).is_err());
        register.apply(&entry(activate(1, 0), 2)).unwrap();
        assert_eq!(register.standing(day(1)), Standing::Ahead(day(2)));
        register.apply(&entry(activate(2, 0), 5)).unwrap();
        register.apply(&entry(Deed::Rotate { epoch: 2 }, 5)).unwrap();
        assert_eq!(register.standing(day(4)), Standing::InForce(Period { from: day(2), version: 1, epoch: 1 }));
        assert_eq!(register.standing(day(5)), Standing::InForce(Period { from: day(5), version: 2, epoch: 2 }));
        assert!(register.apply(&entry(activate(3, 1), 6)).is_err(), "an amendment changes every token");
        register.apply(&entry(Deed::Retire { reason: "done".to_owned() }, 8)).unwrap();
        assert!(matches!(register.standing(day(7)), Standing::InForce(_)));
        assert_eq!(register.standing(day(8)), Standing::Retired(day(8)));
        assert!(register.apply(&entry(Deed::DestroyKeys { root: Sha256([1; 32]) }, 8)).is_err(), "another root");
        register.apply(&entry(Deed::DestroyKeys { root: Sha256([0; 32]) }, 8)).unwrap();
        assert_eq!(register.standing(day(0)), Standing::Destroyed(day(8)));
    }
}
