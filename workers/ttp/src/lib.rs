//! The trusted third party: batches are pseudonymised for a project and their sender hidden.
//!
//! Purpose: project documents ([`project`]), the transformation of a batch ([`mod@transform`]), and the worker of the
//! channel `ttp.inbound` ([`worker`]).
//! Invariants: I4 (no identifier of a patient leaves in clear, nothing delivered names the sender, no report quotes the
//! batch), I5 (every batch is answered), I7 (memory does not depend on the batch's size), I8 (what is not listed, not
//! valid or not known stops the batch).
//! Must not know: brokers, stores, clocks, the environment. The only files are the scratch buckets without a name.

#![forbid(unsafe_code)]

mod compiled;
mod csv_rows;
mod job;
mod ndjson_rows;
pub mod project;
mod random;
mod records;
mod refusal;
mod shuffle;
pub mod transform;
mod values;
pub mod worker;

pub use compiled::CompiledProject;
pub use project::{ProjectDocument, ProjectError};
pub use refusal::TransformError;
pub use shuffle::ScratchDir;
pub use transform::{Format, Summary, transform};
pub use worker::Ttp;
