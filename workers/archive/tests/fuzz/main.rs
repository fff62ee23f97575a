//! Hostile bytes for everything that an authority and an auditor read: no panic, no hang, no growth, nothing altered accepted.
//!
//! A fuzzer without a special compiler: inputs that are good are changed ([`mutate`]); one whose answer was not seen before
//! (another error, another number of findings) joins the inputs that are changed further, so later rounds reach deeper.
//! `ZEGEL_FUZZ_SECONDS` is processor time (`make fuzz`: 600; default 3), `ZEGEL_FUZZ_SEED` where chance begins. The same seed
//! feeds the same inputs in the same order, so what was found is found again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod archives;
mod mutate;
mod readers;

use mutate::{Random, mutated};
use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// No input may take longer, on a machine that is busy with other things too.
const SLOWEST: Duration = Duration::from_secs(20);
/// Resident memory may grow by so much after the first tenth of the run: the inputs that are kept, and what an allocator keeps.
const GROWTH_KB: u64 = 48 * 1024;
/// And at no time may it be higher than that and this: no input of some kilobytes makes a reader take hundreds of megabytes.
const PEAK_KB: u64 = 160 * 1024;
/// Inputs that a target keeps beside those that it began with.
const KEPT: usize = 400;

/// Takes an input and says what came of it.
pub type Feed = Box<dyn Fn(&[u8]) -> String>;

/// What is fed.
pub struct Target {
    /// What it is called in the table at the end.
    pub name: &'static str,
    /// Good inputs, from which all others come.
    pub seeds: Vec<Vec<u8>>,
    /// How many inputs a turn has: fewer where one costs much.
    pub turn: u32,
    /// Feeds one input; what came of it, in words. It panics where something altered was accepted.
    pub feed: Feed,
}

struct Running {
    target: Target,
    inputs: Vec<Vec<u8>>,
    answers: HashSet<u64>,
    fed: u64,
}

impl Running {
    fn new(target: Target) -> Running {
        let mut running = Running { inputs: target.seeds.clone(), target, answers: HashSet::new(), fed: 0 };
        for seed in running.target.seeds.clone() {
            let answer = running.feed(&seed);
            running.answers.insert(answer);
        }
        running
    }

    fn feed(&mut self, input: &[u8]) -> u64 {
        self.fed += 1;
        let begun = Instant::now();
        let fed = catch_unwind(AssertUnwindSafe(|| (self.target.feed)(input)));
        let Ok(answer) = fed else { panic!("{} does not bear this input: {}", self.target.name, hex::encode(input)) };
        assert!(begun.elapsed() < SLOWEST, "{} takes too long for: {}", self.target.name, hex::encode(input));
        let mut hasher = DefaultHasher::new();
        answer.hash(&mut hasher);
        hasher.finish()
    }

    fn turn(&mut self, random: &mut Random) {
        for _ in 0..self.target.turn {
            let input = mutated(random.pick(&self.inputs).as_slice(), random.pick(&self.inputs).as_slice(), random);
            let answer = self.feed(&input);
            if self.answers.len() < KEPT && self.answers.insert(answer) {
                self.inputs.push(input);
            }
        }
    }
}

/// A number of the environment.
fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// Processor time of this process, in hundredths of a second, by proc(5): the 14th and 15th field of `stat`.
fn processor_time() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// A line of `/proc/self/status`, in KiB.
fn memory(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

#[test]
fn no_hostile_input_harms_the_authority_or_the_auditor() {
    let (seconds, seed) = (setting("ZEGEL_FUZZ_SECONDS", 3), setting("ZEGEL_FUZZ_SEED", 1));
    let mut random = Random(seed);
    let targets = readers::targets().into_iter().chain(archives::targets());
    let mut all: Vec<Running> = targets.map(Running::new).collect();
    let (end, warm) = (processor_time() + seconds * 100, processor_time() + seconds * 10);
    let mut after_warming = None;
    while processor_time() < end {
        all.iter_mut().for_each(|one| one.turn(&mut random));
        if after_warming.is_none() && processor_time() >= warm {
            after_warming = Some(memory("VmRSS:"));
        }
    }
    let (first, last, peak) = (after_warming.unwrap_or_default(), memory("VmRSS:"), memory("VmHWM:"));
    for one in &all {
        println!("{:<16} {:>9} inputs, {:>4} different answers", one.target.name, one.fed, one.answers.len());
        assert!(one.answers.len() > 1, "{}: every input gets the same answer, so nothing is reached", one.target.name);
    }
    println!(
        "{} inputs, seed {seed}; resident {first} KiB, {last} KiB at the end, {peak} KiB at most",
        all.iter().map(|one| one.fed).sum::<u64>()
    );
    assert!(last < first + GROWTH_KB, "memory grows: {first} KiB, then {last} KiB");
    assert!(peak < first.max(last) + PEAK_KB, "an input took much memory: {peak} KiB, {last} KiB otherwise");
}
