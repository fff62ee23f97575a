//! Every rule of mutations, on a bench: no runner, no store, no clock.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod fan_out;
mod feed;

use schemas::MailboxAddress;
use schemas::messages::Mutation;
use std::collections::BTreeMap;

/// A number of an imaginary person, of the form that a registry uses.
const SSIN: &str = "85061511796";
const CLINIC: &str = "NIHII-HOSPITAL:71000436";
const FUND: &str = "CBE:0123456749";

fn address(text: &str) -> MailboxAddress {
    text.parse().expect("the address is valid")
}

fn mutation(event: &str) -> Mutation {
    Mutation {
        feed: "registry".into(),
        event: event.into(),
        ssin: SSIN.into(),
        kind: "address".into(),
        date: "2020-01-01".into(),
        details: BTreeMap::new(),
    }
}
