//! Rows that would tell too few patients apart are held back.
//!
//! A row's class is what its quasi-identifiers become in what is delivered. Over all batches of a project, a release adds
//! to a class either nobody new or at least `k` patients that it had not shown there, who have at least `l` different
//! sensitive values among them; the other rows are held back for good. So who compares two releases never finds a group
//! smaller than `k`, and each patient of a class hides among `k`. What was released is kept as one HMAC per class and
//! patient in a [`Ledger`]; rows that were held back leave no trace.
//! This is disclosure control, not anonymity: who knows more than the quasi-identifiers may know who it is.
//!
//! Memory (I7): rows wait in memory up to 8 MiB and in sealed scratch buckets beyond, by class; a bucket with more than
//! [`BUCKET_ROWS`] rows is divided again, as long as its rows are of different classes.

use crate::compiled::{Cells, CompiledProject};
use crate::outlet::Outlet;
use crate::refusal::{TransformError, refusal};
use crate::shuffle::{MEMORY_MAX, Pile, ScratchDir, Spill};
use schemas::MailboxAddress;
use schemas::messages::Reason;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use zegel_crypto::pseudonym::Draw;

/// Rows of a bucket whose classes and patients are counted in memory: about 20 MiB.
const BUCKET_ROWS: usize = 200_000;
/// Bytes of a class that choose a bucket: rows that still share one then are of one class.
const LEVELS_MAX: usize = 4;
/// A class and a patient, and the sensitive value, in front of a row.
const HEAD: usize = 16 + 16 + 8;

/// A patient in a class: an HMAC of both, whose first byte is one of the class; pairs are asked for in its order.
pub type Pair = [u8; 16];

/// What earlier batches of the project released.
pub trait Ledger {
    /// Whether this patient was shown in this class.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    fn has(&mut self, pair: &Pair) -> io::Result<bool>;

    /// The batch shows this patient in this class.
    ///
    /// # Errors
    /// `QuotaExceeded` when the batch adds more than the ledger takes at once.
    fn add(&mut self, pair: Pair) -> io::Result<()>;
}

/// Nothing was released before, and nothing is kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLedger;

impl Ledger for NoLedger {
    fn has(&mut self, _: &Pair) -> io::Result<bool> {
        Ok(false)
    }

    fn add(&mut self, _: Pair) -> io::Result<()> {
        Ok(())
    }
}

/// What an officer is told of a batch. Numbers of patients are of those who were new in their class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct CellsReport {
    /// The fewest new patients that a release may add to a class.
    pub k: u64,
    /// Classes that the batch has rows of.
    pub classes: u64,
    /// Classes in which rows were held back.
    pub classes_held: u64,
    /// Patients who were shown in a class for the first time.
    pub patients_new: u64,
    /// Patients whose rows were held back.
    pub patients_held: u64,
    /// Rows that were held back.
    pub rows_held: u64,
}

/// What the present row's quasi-identifiers and sensitive value became.
#[derive(Debug, Default)]
pub(crate) struct Present {
    class: BTreeMap<usize, Vec<u8>>,
    sensitive: Vec<u8>,
}

impl Present {
    pub(crate) fn clear(&mut self) {
        self.class.clear();
        self.sensitive.clear();
    }

    pub(crate) fn take(&mut self, cells: &Cells, field: usize, value: &[u8]) {
        if cells.quasi.contains(&field) {
            let values = self.class.entry(field).or_default();
            // With its length, so that two values are not one that looks like both.
            values.extend_from_slice(&(value.len() as u64).to_be_bytes());
            values.extend_from_slice(value);
        }
        if cells.sensitive == Some(field) {
            self.sensitive.extend_from_slice(value);
            self.sensitive.push(0);
        }
    }

    fn class(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (field, values) in &self.class {
            bytes.extend_from_slice(&(*field as u64).to_be_bytes());
            bytes.extend_from_slice(&(values.len() as u64).to_be_bytes());
            bytes.extend_from_slice(values);
        }
        bytes
    }
}

/// Rows that wait until all of their class have come.
pub(crate) struct Gate<'a> {
    cells: &'a Cells,
    class: Draw,
    patient: Draw,
    pair: Draw,
    pile: Pile,
    spill: Option<Spill<'a>>,
    scratch: Option<ScratchDir<'a>>,
}

impl<'a> Gate<'a> {
    pub(crate) fn new(
        project: &CompiledProject,
        cells: &'a Cells,
        sender: &MailboxAddress,
        scratch: Option<ScratchDir<'a>>,
    ) -> Gate<'a> {
        let sender = project.has_own_patients().then(|| sender.to_string());
        Gate {
            cells,
            class: project.patient_draw("class", None),
            patient: project.patient_draw("cell", sender.as_deref()),
            pair: project.patient_draw("pair", None),
            pile: Pile::default(),
            spill: None,
            scratch,
        }
    }

    pub(crate) fn push(&mut self, present: &Present, patient: &str, line: &[u8]) -> Result<(), TransformError> {
        let mut row = Vec::with_capacity(HEAD + line.len());
        row.extend_from_slice(&self.class.of(&present.class()));
        row.extend_from_slice(&self.patient.of(patient.as_bytes()));
        row.extend_from_slice(&self.class.of(&present.sensitive)[..8]);
        row.extend_from_slice(line);
        if let Some(spill) = &mut self.spill {
            return spill.push_to(bucket(&row, 0), &row).map_err(TransformError::Scratch);
        }
        self.pile.push(&row)?;
        if self.pile.size() > MEMORY_MAX {
            let mut spill = self.new_spill()?;
            let rows = std::mem::take(&mut self.pile);
            rows.rows().try_for_each(|row| spill.push_to(bucket(row, 0), row)).map_err(TransformError::Scratch)?;
            self.spill = Some(spill);
        }
        Ok(())
    }

    /// Lets out what may be shown.
    pub(crate) fn release(
        mut self,
        ledger: &mut dyn Ledger,
        outlet: &mut Outlet<'_>,
    ) -> Result<CellsReport, TransformError> {
        let mut report = CellsReport { k: self.cells.k as u64, ..CellsReport::default() };
        match self.spill.take() {
            None => {
                let pile = std::mem::take(&mut self.pile);
                let mut counts = Counts::default();
                pile.rows().for_each(|row| counts.count(row));
                let held = self.decide(&counts, ledger, &mut report)?;
                pile.rows().try_for_each(|row| let_out(row, &held, outlet, &mut report))?;
            }
            Some(spill) => self.drain(spill, 0, ledger, outlet, &mut report)?,
        }
        Ok(report)
    }

    fn drain(
        &self,
        mut spill: Spill<'a>,
        level: usize,
        ledger: &mut dyn Ledger,
        outlet: &mut Outlet<'_>,
        report: &mut CellsReport,
    ) -> Result<(), TransformError> {
        for chain in spill.chains().map_err(TransformError::Scratch)? {
            if chain.rows > BUCKET_ROWS && level + 1 < LEVELS_MAX {
                let mut deeper = self.new_spill()?;
                let divide = |row: &[u8]| deeper.push_to(bucket(row, level + 1), row);
                spill.read_chain(chain.latest, divide).map_err(TransformError::Scratch)?;
                self.drain(deeper, level + 1, ledger, outlet, report)?;
                continue;
            }
            let mut counts = Counts::default();
            let count = |row: &[u8]| {
                counts.count(row);
                Ok(())
            };
            spill.read_chain(chain.latest, count).map_err(TransformError::Scratch)?;
            let held = self.decide(&counts, ledger, report)?;
            let mut failed = None;
            let out = |row: &[u8]| {
                failed = let_out(row, &held, outlet, report).err();
                if failed.is_some() { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
            };
            let read = spill.read_chain(chain.latest, out);
            failed.map_or(Ok(()), Err)?;
            read.map_err(TransformError::Scratch)?;
        }
        Ok(())
    }

    fn new_spill(&self) -> Result<Spill<'a>, TransformError> {
        let scratch = self.scratch.ok_or(TransformError::Scratch(io::ErrorKind::StorageFull.into()))?;
        Spill::new(scratch).map_err(TransformError::Scratch)
    }

    /// Who is held back, by class and patient.
    fn decide(
        &self,
        counts: &Counts,
        ledger: &mut dyn Ledger,
        report: &mut CellsReport,
    ) -> Result<HashSet<[u8; 32]>, TransformError> {
        let mut held = HashSet::new();
        for (class, patients) in &counts.0 {
            let mut new = Vec::new();
            for (patient, sensitive) in patients {
                let mut both = [0; 32];
                both[..16].copy_from_slice(class);
                both[16..].copy_from_slice(patient);
                let mut pair = self.pair.of(&both);
                // Classes are decided in order, so a ledger that keeps pairs by their first byte is read once.
                pair[0] = class[0];
                if !ledger.has(&pair)? {
                    new.push((both, pair, sensitive));
                }
            }
            report.classes += 1;
            let values: HashSet<_> = new.iter().flat_map(|(_, _, sensitive)| sensitive.iter()).collect();
            if new.len() >= self.cells.k && values.len() >= self.cells.l {
                report.patients_new += new.len() as u64;
                new.iter().try_for_each(|(_, pair, _)| ledger.add(*pair)).map_err(|error| match error.kind() {
                    io::ErrorKind::QuotaExceeded => too_many().into(),
                    _ => TransformError::Io(error),
                })?;
            } else if !new.is_empty() {
                report.classes_held += 1;
                report.patients_held += new.len() as u64;
                held.extend(new.into_iter().map(|(both, _, _)| both));
            }
        }
        Ok(held)
    }
}

fn too_many() -> Reason {
    refusal("ZGL-TTP-SIZE", "the batch shows more new patients than can be counted at once: send it in parts")
}

/// Patients with their sensitive values.
type Patients = HashMap<[u8; 16], HashSet<[u8; 8]>>;

/// The patients of each class.
#[derive(Default)]
struct Counts(BTreeMap<[u8; 16], Patients>);

impl Counts {
    fn count(&mut self, row: &[u8]) {
        let Some((class, rest)) = row.split_first_chunk::<16>() else { return };
        let Some((patient, rest)) = rest.split_first_chunk::<16>() else { return };
        let Some((sensitive, _)) = rest.split_first_chunk::<8>() else { return };
        self.0.entry(*class).or_default().entry(*patient).or_default().insert(*sensitive);
    }
}

fn let_out(
    row: &[u8],
    held: &HashSet<[u8; 32]>,
    outlet: &mut Outlet<'_>,
    report: &mut CellsReport,
) -> Result<(), TransformError> {
    let Some(both) = row.first_chunk::<32>() else { return Ok(()) };
    if held.contains(both) {
        report.rows_held += 1;
        return Ok(());
    }
    outlet.row(&row[HEAD..])
}

/// The bucket of a row's class on a level.
fn bucket(row: &[u8], level: usize) -> usize {
    usize::from(row[level])
}
