//! The whole stage, driven without a runner: intake, windows, sealing, audit, and foreign tools that read its bags.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod audit;
mod intake;
mod log;
mod oracles;
mod sealing;
mod stage;
mod windows;
