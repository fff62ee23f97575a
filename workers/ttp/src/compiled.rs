//! A checked project document made ready to work: periods as instants, paths as a tree, actions with their keys' scopes.
//!
//! Invariant: a compiled project decides by itself who may send and when; it prints neither its root nor its senders.

use crate::project::{
    ActionName, BadRows, Coarseness, FieldDocument, ProjectDocument, ProjectError, Rows, Unlisted, ValueKind,
};
use crate::refusal::refusal;
use crate::values::{Cell, Work};
use chrono::NaiveDate;
use schemas::messages::Reason;
use schemas::{MailboxAddress, Millis};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use zegel_crypto::pseudonym::{PseudonymRoot, Scope};

/// Generation of the keys. A rotation will raise it; tokens carry it.
const EPOCH: u32 = 1;

/// A project that batches can be transformed for.
pub struct CompiledProject {
    name: String,
    senders: HashSet<MailboxAddress>,
    recipient: MailboxAddress,
    opens: Millis,
    closes: Millis,
    pub(crate) unlisted: Unlisted,
    pub(crate) rows: Rows,
    pub(crate) bad_rows: BadRows,
    pub(crate) fields: Vec<FieldDocument>,
    pub(crate) tree: Node,
    root: PseudonymRoot,
}

impl fmt::Debug for CompiledProject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledProject").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A member of NDJSON rows on the way to a field.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// The dotted path to here; empty at the top.
    pub(crate) path: String,
    /// The field that is listed with exactly this path.
    pub(crate) field: Option<usize>,
    pub(crate) children: BTreeMap<String, Node>,
}

impl CompiledProject {
    /// Makes a document ready. `root` is the key root that is kept under [`ProjectDocument::root_name`].
    ///
    /// # Errors
    /// [`ProjectError`] when a day is outside what the calendar can count.
    pub fn new(document: ProjectDocument, root: &[u8; 32]) -> Result<CompiledProject, ProjectError> {
        let closes = document.valid.until.succ_opt().ok_or(ProjectError::Rule("valid.until is too late"))?;
        let mut tree = Node::default();
        for (index, field) in document.fields.iter().enumerate() {
            tree.insert(&field.path, index);
        }
        Ok(CompiledProject {
            name: document.name,
            senders: document.senders.into_iter().collect(),
            recipient: document.recipient,
            opens: start_of(document.valid.from),
            closes: start_of(closes),
            unlisted: document.unlisted,
            rows: document.rows,
            bad_rows: document.bad_rows,
            fields: document.fields,
            tree,
            root: PseudonymRoot::new(root),
        })
    }

    /// The project's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who gets the result.
    #[must_use]
    pub fn recipient(&self) -> &MailboxAddress {
        &self.recipient
    }

    /// Whether this sender may send now.
    ///
    /// # Errors
    /// The reason why not.
    pub fn admit(&self, sender: &MailboxAddress, now: Millis) -> Result<(), Reason> {
        if now < self.opens {
            return Err(refusal("ZGL-TTP-EARLY", "the project is not valid yet"));
        }
        if now >= self.closes {
            return Err(refusal("ZGL-TTP-EXPIRED", "the project has expired"));
        }
        if !self.senders.contains(sender) {
            return Err(refusal("ZGL-TTP-SENDER", "the sender does not belong to the project"));
        }
        Ok(())
    }

    /// One cell per field, in the fields' order, with the keys for this sender.
    pub(crate) fn cells(&self, sender: &MailboxAddress) -> Vec<Cell> {
        let recipient = self.recipient.to_string();
        let sender = sender.to_string();
        self.fields
            .iter()
            .map(|field| {
                let scope = Scope {
                    recipient: &recipient,
                    domain: field.domain.as_deref().unwrap_or(field.kind.name()),
                    epoch: EPOCH,
                    sender: field.scope.map(|_| sender.as_str()),
                };
                Cell::new(field, self.work(field, &scope))
            })
            .collect()
    }

    fn work(&self, field: &FieldDocument, scope: &Scope<'_>) -> Work {
        match (field.action, field.to) {
            (ActionName::Drop, _) => Work::Drop,
            (ActionName::Pseudonym, _) => Work::Reversible(Box::new(self.root.reversible(scope))),
            (ActionName::OneWay, _) => Work::OneWay(Box::new(self.root.one_way(scope))),
            (ActionName::Generalise, Some(Coarseness::Year)) => Work::First(YEAR),
            (ActionName::Generalise, Some(Coarseness::Month)) => Work::First(MONTH),
            (ActionName::Generalise, Some(Coarseness::Digits(digits))) => Work::First(digits),
            // A document without `to` does not pass its check; keeping would be the unsafe way to read it.
            (ActionName::Generalise, None) => Work::Drop,
            (ActionName::Keep, _) => Work::Keep,
        }
    }

    /// Whether the field's values can never need quotes in CSV: everything but kept text and prefixes.
    pub(crate) fn is_plain(field: &FieldDocument) -> bool {
        field.prefix.is_none() && (field.action != ActionName::Keep || field.kind != ValueKind::Text)
    }
}

/// `YYYY` of `YYYY-MM-DD`.
const YEAR: usize = 4;
/// `YYYY-MM` of `YYYY-MM-DD`.
const MONTH: usize = 7;

impl Node {
    fn insert(&mut self, path: &str, field: usize) {
        let mut node = self;
        for part in path.split('.') {
            let here = if node.path.is_empty() { part.to_owned() } else { format!("{}.{part}", node.path) };
            node = node.children.entry(part.to_owned()).or_default();
            node.path = here;
        }
        node.field = Some(field);
    }
}

fn start_of(day: NaiveDate) -> Millis {
    Millis(day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis())
}
