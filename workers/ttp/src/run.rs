//! One batch at work: its cells, what the present row says of its patient, and what is counted.

use crate::binding::{Binding, FOREIGN};
use crate::compiled::CompiledProject;
use crate::fields::{ActionName, FieldDocument};
use crate::outlet::Outlet;
use crate::paths::Matcher;
use crate::project::{BadRows, Unlisted};
use crate::refusal::{Report, TransformError};
use crate::row_number::{Carrier, take_member};
use crate::scrub::Names;
use crate::shuffle::ScratchDir;
use crate::sketch::Sketch;
use crate::small_cells::{Gate, Present};
use crate::transform::Guard;
use crate::values::{Around, Cell, PATIENT, REQUIRED, RowCode, Work};
use schemas::MailboxAddress;
use std::borrow::Cow;
use std::collections::HashSet;
use zegel_crypto::pseudonym::NONCE;

/// Under so many different values, frequencies may tell which token is whose.
const FEW: usize = 1_000;

/// Which way a batch goes.
pub(crate) enum Way<'a> {
    /// To the recipient.
    Forward,
    /// Back to the sender, with whatever was added, and only tokens that the guard lets pass.
    Back(&'a mut Guard<'a>),
    /// Back to the sender in its exchange: rows are bound to their tokens, and added is what the project allows.
    Return,
}

/// What happens to what no field names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnUnlisted {
    Pass,
    Refuse,
    Drop,
}

/// What the present row says of its patient.
#[derive(Default)]
struct About {
    /// Which of the project's patient fields said so, and who.
    patient: Option<(usize, String)>,
    names: Names,
}

/// One batch at work.
pub(crate) struct Run<'a> {
    pub(crate) project: &'a CompiledProject,
    way: Way<'a>,
    cells: Vec<Cell>,
    pub(crate) matcher: Matcher<'a>,
    pub(crate) outlet: Outlet<'a>,
    pub(crate) report: Report,
    /// In an exchange with a way back.
    pub(crate) binding: Option<Binding>,
    /// Where rows of this form carry their numbers.
    pub(crate) carrier: Carrier,
    numbered: Vec<u8>,
    /// Which fields had a value in the present row.
    seen: Vec<bool>,
    about: About,
    pub(crate) gate: Option<Gate<'a>>,
    present: Present,
    /// Hashes of the tokens of each field, up to [`FEW`].
    different: Vec<HashSet<u64>>,
    /// Room for one value.
    pub(crate) scratch: Vec<u8>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        project: &'a CompiledProject,
        sender: &MailboxAddress,
        way: Way<'a>,
        outlet: Outlet<'a>,
        scratch: Option<ScratchDir<'a>>,
        binding: Option<Binding>,
    ) -> Run<'a> {
        let cells = project.cells(sender);
        let is_back = !matches!(way, Way::Forward);
        let gate = || {
            project.small_cells.as_ref().filter(|_| !is_back).map(|cells| Gate::new(project, cells, sender, scratch))
        };
        Run {
            project,
            matcher: Matcher::new(if is_back { &project.patterns_back } else { &project.patterns }),
            outlet,
            report: Report::naming(project.rows_named),
            binding,
            carrier: Carrier::Column,
            numbered: Vec::new(),
            seen: vec![false; cells.len()],
            different: cells.iter().map(|_| HashSet::new()).collect(),
            cells,
            about: About::default(),
            gate: gate(),
            present: Present::default(),
            way,
            scratch: Vec::new(),
        }
    }

    pub(crate) fn is_back(&self) -> bool {
        !matches!(self.way, Way::Forward)
    }

    /// Whether rows carry numbers that are checked.
    pub(crate) fn is_return(&self) -> bool {
        matches!(self.way, Way::Return)
    }

    /// What happens to what no field names, or a field drops.
    pub(crate) fn unlisted(&self, drop: Option<usize>) -> OnUnlisted {
        match (&self.way, self.project.unlisted) {
            (Way::Back(_), _) => OnUnlisted::Pass,
            (Way::Return, _) => OnUnlisted::Refuse,
            (Way::Forward, Unlisted::Refuse) if drop.is_none() => OnUnlisted::Refuse,
            (Way::Forward, _) => OnUnlisted::Drop,
        }
    }

    /// Whether what stands below a field that drops, or not, is delivered on this way.
    pub(crate) fn is_delivered(&self, drop: Option<usize>) -> bool {
        drop.is_none() || matches!(self.way, Way::Back(_))
    }

    /// Whether one bad row refuses the batch. What comes back is taken whole or not at all.
    pub(crate) fn is_strict(&self) -> bool {
        self.is_back() || self.project.bad_rows == BadRows::RefuseBatch
    }

    /// What a field's column is called on this way.
    pub(crate) fn column_name<'f>(&self, field: &'f FieldDocument) -> &'f str {
        if self.is_back() { field.output_name() } else { &field.path }
    }

    /// Begins the next row.
    pub(crate) fn begin_row(&mut self) {
        self.report.rows_in += 1;
        if let Some(binding) = &mut self.binding {
            binding.begin_row();
        }
        self.seen.fill(false);
        self.about.patient = None;
        self.about.names.clear();
        self.present.clear();
    }

    /// Whether a row must be looked through for its patient before its values are put.
    pub(crate) fn wants_notes(&self) -> bool {
        !self.project.patient.is_empty() || !self.project.names.is_empty()
    }

    /// Takes note of what a value says of the row's patient.
    pub(crate) fn note(&mut self, field: usize, value: &str) {
        if value.trim().is_empty() {
            return;
        }
        if self.project.names.contains(&field) && !self.is_back() {
            self.about.names.add(value);
        }
        let Some(rank) = self.project.patient.iter().position(|patient| *patient == field) else { return };
        if self.about.patient.as_ref().is_some_and(|(first, _)| *first <= rank) {
            return;
        }
        let cell = &mut self.cells[field];
        let identity = match &self.way {
            Way::Forward => cell.identity(value),
            Way::Back(_) | Way::Return => {
                let mut clear = Vec::new();
                let around = Around { patient: None, names: &self.about.names, nonce: [0; NONCE] };
                let restored = cell.restore(value, &around, &mut clear);
                restored.and_then(|()| cell.identity(&String::from_utf8_lossy(&clear)))
            }
        };
        // What is wrong with the value is told when it is put.
        if let Ok(identity) = identity {
            self.about.patient = Some((rank, identity));
        }
    }

    /// Appends what becomes of a value of this field.
    pub(crate) fn put(&mut self, field: usize, value: &str, out: &mut Vec<u8>) -> Result<(), RowCode> {
        self.seen[field] = true;
        let cell = &mut self.cells[field];
        let mut nonce = [0; NONCE];
        if cell.wants_nonce() && matches!(self.way, Way::Forward) {
            self.outlet.random.bytes(&mut nonce);
        }
        let patient = self.about.patient.as_ref().map(|(_, patient)| patient.as_str());
        let around = Around { patient, names: &self.about.names, nonce };
        let start = out.len();
        match &mut self.way {
            Way::Back(guard) => {
                let path = &self.project.field(field).path;
                if cell.is_token() && !value.trim().is_empty() && !guard(self.report.rows_in, path, value.trim()) {
                    return Err(FOREIGN);
                }
                return cell.restore(value, &around, out);
            }
            Way::Return => {
                if let Some(binding) = self.binding.as_mut().filter(|_| cell.is_token() && !value.trim().is_empty()) {
                    binding.take(field, value.as_bytes());
                }
                return cell.restore(value, &around, out);
            }
            Way::Forward => cell.write(value, &around, out)?,
        }
        if let Some(binding) = self.binding.as_mut().filter(|_| cell.is_token() && out.len() > start) {
            binding.take(field, &out[start..]);
        }
        if self.different[field].len() < FEW && cell.is_token() && out.len() > start {
            self.different[field].insert(hash(&out[start..]));
        }
        if let Some(cells) = &self.project.small_cells {
            self.present.take(cells, field, &out[start..]);
        }
        Ok(())
    }

    /// As [`Run::put`]; what is wrong goes into the report.
    pub(crate) fn put_or_report(&mut self, field: usize, value: &str, out: &mut Vec<u8>) -> bool {
        match self.put(field, value, out) {
            Ok(()) => true,
            Err(code) => {
                self.report.bad(&self.project.field(field).path, code);
                false
            }
        }
    }

    pub(crate) fn work(&self, field: usize) -> &Work {
        &self.cells[field].work
    }

    pub(crate) fn action(&self, field: usize) -> ActionName {
        self.project.field(field).action
    }

    /// Required fields that the row does not have at all.
    pub(crate) fn report_missing(&mut self) {
        if self.is_back() {
            return;
        }
        for (field, seen) in self.project.fields.iter().zip(&self.seen) {
            if field.required && !seen {
                self.report.bad(&field.path, REQUIRED);
            }
        }
    }

    /// Ends the present row: delivers `line`, unless the row is bad or the batch is refused already.
    pub(crate) fn end_row(&mut self, line: &[u8]) -> Result<(), TransformError> {
        self.check_number();
        if !self.is_row_delivered() {
            return Ok(());
        }
        let numbered = self.number(line)?;
        let done = self.deliver_row(numbered.as_deref().unwrap_or(line));
        self.numbered = numbered.unwrap_or_default();
        done
    }

    fn deliver_row(&mut self, line: &[u8]) -> Result<(), TransformError> {
        if let Some(gate) = &mut self.gate {
            let Some((_, patient)) = &self.about.patient else {
                self.report.bad("", PATIENT);
                return Ok(());
            };
            self.report.rows_out += 1;
            return gate.push(&self.present, patient, line);
        }
        self.report.rows_out += 1;
        self.outlet.row(line)
    }

    /// Ends the present row, of which nothing is left.
    pub(crate) fn skip_row(&mut self) {
        self.check_number();
    }

    /// As [`Run::end_row`], for a row that stays in front of all others.
    pub(crate) fn end_first_row(&mut self, line: &[u8]) -> Result<(), TransformError> {
        self.check_number();
        if self.is_row_delivered() {
            let numbered = self.number(line)?;
            self.report.rows_out += 1;
            self.outlet.first(numbered.as_deref().unwrap_or(line))?;
        }
        Ok(())
    }

    /// On the way back: finds out whether the present row is as it was delivered. Nothing of a row that is not leaves.
    fn check_number(&mut self) {
        if let Some(Err(code)) = self.binding.as_mut().map(Binding::end_row) {
            self.report.bad("", code);
        }
    }

    /// On the way there: the row with its number, where rows carry one and something is left of it.
    fn number(&mut self, line: &[u8]) -> Result<Option<Vec<u8>>, TransformError> {
        let Some(binding) = self.binding.as_mut().filter(|_| matches!(self.way, Way::Forward) && !line.is_empty())
        else {
            return Ok(None);
        };
        let number = binding.number(self.report.rows_in)?;
        let mut numbered = std::mem::take(&mut self.numbered);
        numbered.clear();
        self.carrier.put(line, &number, &mut numbered);
        Ok(Some(numbered))
    }

    /// On the way back: the text of a JSON row without its number.
    pub(crate) fn without_member<'t>(&mut self, text: &'t str) -> Cow<'t, str> {
        let Some((rest, numbers)) = (if self.is_return() { take_member(text) } else { None }) else {
            return text.into();
        };
        self.found_numbers(numbers);
        rest.into()
    }

    /// On the way back: what a form found of row numbers in the present row.
    pub(crate) fn found_numbers(&mut self, numbers: impl IntoIterator<Item = String>) {
        if let Some(binding) = &mut self.binding {
            numbers.into_iter().for_each(|number| binding.found(number));
        }
    }

    fn is_row_delivered(&self) -> bool {
        let is_refused = self.report.bad_rows > 0 && self.is_strict();
        !is_refused && !self.report.is_row_bad()
    }

    /// The distinct national numbers that became tokens.
    pub(crate) fn identifiers(&self) -> Sketch {
        let mut all = Sketch::default();
        self.cells.iter().for_each(|cell| all.merge(&cell.seen));
        all
    }

    /// Fields that link and had few different values in many rows.
    pub(crate) fn few_values(&self) -> Vec<String> {
        if self.report.rows_in < FEW as u64 {
            return Vec::new();
        }
        let links = |field: usize| self.action(field).links();
        let is_few = |field: &usize| links(*field) && (1..FEW).contains(&self.different[*field].len());
        (0..self.different.len()).filter(is_few).map(|field| self.project.field(field).path.clone()).collect()
    }
}

fn hash(bytes: &[u8]) -> u64 {
    use std::hash::Hasher;
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
