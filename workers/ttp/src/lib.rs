//! The trusted third party: batches are pseudonymised for a project and their sender hidden.
//!
//! Purpose: project documents ([`project`]), the transformation of a batch ([`mod@transform`]), and the worker of the
//! channel `ttp.inbound` ([`worker`]).
//! Invariants: I4 (no identifier of a patient leaves in clear, nothing delivered names the sender, no report quotes the
//! batch), I5 (every batch is answered), I7 (memory does not depend on the batch's size), I8 (what is not listed, not
//! valid or not known stops the batch).
//! Must not know: brokers, stores, clocks, the environment. The only files are the scratch buckets without a name.

#![forbid(unsafe_code)]

mod binding;
mod coarse;
mod compiled;
pub mod convert;
mod csv_rows;
mod dates;
mod exchange;
mod fhir;
mod fhir_types;
pub mod fields;
mod fixed_rows;
pub mod form;
mod handover;
mod hl7;
mod job;
mod json;
mod json_rows;
mod json_stream;
pub mod ledger;
mod lines;
mod ndjson_rows;
mod outlet;
pub mod padding;
mod paths;
pub mod pool;
pub mod project;
pub mod quarantine;
mod quota;
mod random;
mod records;
mod references;
mod refusal;
mod returning;
mod row_number;
mod run;
mod scrub;
pub mod seals;
mod shuffle;
mod signature;
mod sketch;
pub mod small_cells;
pub mod split;
mod transcode;
pub mod transform;
mod values;
pub mod worker;
mod xml_names;
mod xml_rows;
mod xml_tree;

pub use binding::Issued;
pub use coarse::Area;
pub use compiled::{CompiledProject, one_way_keys};
pub use project::book::ProjectBook;
pub use project::{ProjectDocument, ProjectError};
pub use refusal::TransformError;
pub use shuffle::ScratchDir;
pub use sketch::Sketch;
pub use transform::{
    Extras, Format, Guard, Summary, restore, restore_exchange, transform, transform_counted, transform_exchange,
};
pub use worker::Ttp;
