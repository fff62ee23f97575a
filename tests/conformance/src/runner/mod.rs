//! What the runner must do over any pair of broker and store.
//!
//! Every scenario starts runners with a scripted worker ([`Probe`]), publishes messages, and reads the effects back. It
//! panics with a sentence that says what is broken. `for_each_runner_scenario!` lists them all; a backend's tests run
//! each over a fresh [`Backend`].

mod handover;
mod poison;
mod scripted;
mod stages;
mod world;

pub use handover::*;
pub use poison::*;
pub use scripted::{Act, Probe, Scripted};
pub use stages::*;
pub(crate) use world::NoObjects;
pub use world::{World, key};

use std::sync::Arc;
use zegel_core::{Broker, Store};

/// A broker and a store that work together.
#[derive(Clone)]
pub struct Backend {
    /// Messages.
    pub broker: Arc<dyn Broker>,
    /// State.
    pub store: Arc<dyn Store>,
}

macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        /// Calls `$test!(name)` for every scenario, so that a backend's tests get one test function each.
        #[macro_export]
        macro_rules! for_each_runner_scenario {
            ($test:ident) => { $( $test!($name); )+ };
        }
    };
}

scenarios!(
    effects_of_a_key_are_in_order_and_exactly_once,
    a_parked_key_does_not_hold_other_keys,
    a_parked_message_wakes_and_its_followers_keep_order,
    timers_fire_once_when_due_and_not_when_cancelled,
    a_failing_message_is_retried_and_a_panic_counts,
    a_dead_message_lets_its_key_go_on_where_the_channel_says_so,
    a_dead_message_holds_its_key_until_an_operator_resolves_it,
    a_job_delays_only_its_own_key_and_is_started_again_after_a_failure,
    a_second_owner_takes_over_after_a_drain,
    a_second_owner_takes_over_after_a_kill_and_the_zombie_is_fenced,
    a_cycle_of_channels_under_back_pressure_does_not_lock,
    many_kills_lose_nothing_and_do_nothing_twice,
    processes_divide_the_slots_evenly_and_take_over_from_the_dead,
    a_reply_reaches_an_edge_in_another_process,
);
