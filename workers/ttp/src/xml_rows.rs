//! XML batches: KMEHR messages, whose folders are the rows, and other documents with a stated element for a row.
//!
//! A path is the names of elements below `kmehrmessage`, or from the top in other documents, without prefixes; `@DN` is an
//! attribute, and `id[S=INSS]` the `id` whose attribute `S` is `INSS`. What is compared with the project are the paths of
//! text and of attributes. Attributes that are part of the form stay without being listed, where they have that form (module
//! `xml_names`): `S`, `SV` and `L` in KMEHR, `xsi:nil` and `xml:space` anywhere. An element of which nothing is left is left out.
//!
//! What goes out: UTF-8, no comments, processing instructions, or white space between elements; KMEHR without prefixes and
//! without what belongs to other namespaces (a signature names its signer). In other documents namespaces are declared where a
//! delivered name needs them; on the way back they stay as they are.
//! What stands around the rows is written before the first, or after the last one.
//!
//! Memory (I7): one row, or one element beside the rows, of at most 1 MiB. Failure: a document type, an entity that XML
//! does not define, another encoding than the project's, and what is not well formed refuse the batch.

use crate::paths::{ROOT, StateId};
use crate::project::Encoding;
use crate::refusal::{TransformError, refusal};
use crate::row_number::{Carrier, take_element};
use crate::run::{OnUnlisted, Run};
use crate::transform::ROW_MAX;
use crate::xml_names::{Names, declared, form_value, is_kmehr};
use crate::xml_tree::{Document, Element, Next, Node, XmlTrouble, escape};
use schemas::messages::Reason;
use std::io::BufRead;

const UNLISTED: &str = "ZGL-TTP-UNLISTED";
const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// Puts every row of an XML document through.
pub(crate) fn run(run: &mut Run<'_>, input: &mut dyn BufRead, is_kmehr: bool) -> Result<(), TransformError> {
    run.carrier = if is_kmehr { Carrier::Folder } else { Carrier::Attribute };
    let is_utf8 = run.project.text.encoding == Encoding::Utf8;
    let mut document = Document::new(input, is_utf8 || run.is_back());
    let (head, tail, names) = (Vec::new(), Vec::new(), Names::default());
    let outcome = Batch { run: &mut *run, is_kmehr, head, tail, has_rows: false, names }.read(&mut document);
    match outcome {
        Ok(()) => Ok(()),
        Err(XmlTrouble::Io(error)) => Err(error.into()),
        Err(XmlTrouble::Outlet(error)) => Err(error),
        Err(XmlTrouble::Long) => {
            run.report.rows_in += 1;
            run.report.bad("", "ZGL-ROW-LENGTH");
            Err(std::mem::take(&mut run.report).refusal().into())
        }
        Err(XmlTrouble::Form(rule)) => Err(form(rule).into()),
    }
}

fn form(rule: &str) -> Reason {
    refusal("ZGL-TTP-FORMAT", rule)
}

/// Where in the project's patterns an element stands.
#[derive(Clone, Copy)]
struct Place {
    at: Option<StateId>,
    drop: Option<usize>,
    parent: StateId,
}

struct Batch<'b, 'r> {
    run: &'b mut Run<'r>,
    is_kmehr: bool,
    head: Vec<u8>,
    tail: Vec<u8>,
    has_rows: bool,
    names: Names,
}

impl Batch<'_, '_> {
    fn read(&mut self, document: &mut Document<'_>) -> Result<(), XmlTrouble> {
        let root = document.root()?;
        if self.is_kmehr && !(root.name == "kmehrmessage" && is_kmehr(&root.namespace)) {
            return Err(XmlTrouble::Form("the document is not a KMEHR message"));
        }
        self.head.extend_from_slice(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let record = self.run.project.record.clone();
        let (mut rest, mut place) = (record.as_slice(), Place { at: Some(ROOT), drop: None, parent: ROOT });
        if !self.is_kmehr {
            place = self.below(place, &root);
        }
        let name = if self.is_kmehr { "kmehrmessage" } else { &root.name };
        rest = match rest.split_first() {
            Some((first, rest)) if first == name => rest,
            _ => return Err(XmlTrouble::Form("the document does not begin with the element that the project names")),
        };
        if rest.is_empty() {
            let mut whole = document.subtree(root)?;
            self.flush_head()?;
            self.row(&mut whole, Place { at: Some(ROOT), drop: None, parent: ROOT })?;
        } else {
            self.wrapper(document, &root, rest, place)?;
            self.flush_head()?;
        }
        document.end()?;
        self.tail.push(b'\n');
        self.run.outlet.trailer(std::mem::take(&mut self.tail));
        Ok(())
    }

    /// An element around the rows: its tags stand around them, and so do its other children.
    fn wrapper(
        &mut self,
        document: &mut Document<'_>,
        element: &Element,
        record: &[String],
        place: Place,
    ) -> Result<(), XmlTrouble> {
        let (mut open, mark) = (Vec::new(), self.names.enter(element));
        let name = self.open_tag(element, place, &mut open).0;
        let is_root = record.len() + 1 == self.run.project.record.len();
        if is_root && self.is_kmehr {
            open = format!("<kmehrmessage xmlns=\"{}\" xmlns:xsi=\"{XSI}\"", escape(&element.namespace)).into_bytes();
        }
        open.push(b'>');
        self.beside(&open);
        let (first, rest) = record.split_first().ok_or(XmlTrouble::Form("no record"))?;
        let mut is_done = false;
        loop {
            match document.next()? {
                Next::End => break,
                Next::Text(text) if text.trim().is_empty() => {}
                Next::Text(_) => return Err(XmlTrouble::Form("text stands between the rows")),
                Next::Element(child) if child.name == *first && !child.is_foreign => {
                    let below = self.below(place, &child);
                    if rest.is_empty() {
                        document.next_row();
                        let mut whole = document.subtree(child)?;
                        self.flush_head()?;
                        self.row_at(&mut whole, below)?;
                    } else if std::mem::replace(&mut is_done, true) {
                        return Err(XmlTrouble::Form("the rows are not in one place"));
                    } else {
                        self.wrapper(document, &child, rest, below)?;
                    }
                }
                Next::Element(child) => {
                    let whole = document.subtree(child)?;
                    let below = self.below(place, &whole);
                    let mut out = Vec::new();
                    self.element(&whole, below, &mut out);
                    self.beside(&out);
                    document.next_row();
                }
            }
            if self.head.len() + self.tail.len() > 2 * ROW_MAX {
                return Err(XmlTrouble::Long);
            }
        }
        self.flush_head()?;
        self.tail.extend_from_slice(format!("</{name}>").as_bytes());
        self.names.leave(mark);
        Ok(())
    }

    /// Puts what is no row before or after the rows.
    fn beside(&mut self, bytes: &[u8]) {
        let side = if self.has_rows { &mut self.tail } else { &mut self.head };
        side.extend_from_slice(bytes);
    }

    fn flush_head(&mut self) -> Result<(), XmlTrouble> {
        self.has_rows = true;
        let head = std::mem::take(&mut self.head);
        self.run.outlet.header(&head).map_err(XmlTrouble::Outlet)
    }

    fn row(&mut self, element: &mut Element, top: Place) -> Result<(), XmlTrouble> {
        let place = self.below(top, element);
        self.row_at(element, place)
    }

    fn row_at(&mut self, element: &mut Element, place: Place) -> Result<(), XmlTrouble> {
        self.run.begin_row();
        if self.run.is_return() {
            let numbers = take_element(element, self.is_kmehr);
            self.run.found_numbers(numbers);
        }
        if self.run.wants_notes() {
            self.note(element, place);
        }
        let mut out = Vec::new();
        self.element(element, place, &mut out);
        self.run.report_missing();
        self.run.end_row(&out).map_err(XmlTrouble::Outlet)
    }

    /// Appends what becomes of an element; false when nothing does.
    fn element(&mut self, element: &Element, place: Place, out: &mut Vec<u8>) -> bool {
        let Some(at) = place.at.filter(|_| !(element.is_foreign && self.is_kmehr)) else {
            if self.run.unlisted(place.drop) == OnUnlisted::Pass {
                element.write(self.is_kmehr, out);
                return true;
            }
            self.unlisted(place, element.is_foreign);
            return false;
        };
        let mark = self.names.enter(element);
        let any = self.listed(element, at, place, out);
        self.names.leave(mark);
        any
    }

    fn listed(&mut self, element: &Element, at: StateId, place: Place, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let (name, mut any) = self.open_tag(element, place, out);
        let inside = out.len() + 1;
        out.push(b'>');
        let has_elements = element.children.iter().any(|child| matches!(child, Node::Element(_)));
        if has_elements {
            for child in &element.children {
                any |= match child {
                    Node::Element(child) => {
                        let below = self.below(place, child);
                        self.element(child, below, out)
                    }
                    Node::Text(text) if text.trim().is_empty() => false,
                    Node::Text(text) => self.text(text, at, place, out),
                };
            }
        } else {
            let text = element.text();
            // Nothing is put where an element lives by its attributes alone.
            any |= (!text.is_empty() || element.attributes.is_empty() || self.run.matcher.field(at).is_some())
                && self.text(&text, at, place, out);
        }
        if !any {
            out.truncate(start);
            return false;
        }
        if out.len() == inside {
            out.truncate(inside - 1);
            out.extend_from_slice(b"/>");
        } else {
            out.extend_from_slice(format!("</{name}>").as_bytes());
        }
        true
    }

    fn text(&mut self, text: &str, at: StateId, place: Place, out: &mut Vec<u8>) -> bool {
        let field = self.run.matcher.field(at).filter(|_| self.run.is_delivered(place.drop));
        let Some(field) = field else {
            match self.run.unlisted(place.drop) {
                OnUnlisted::Pass => {
                    out.extend_from_slice(escape(text).as_bytes());
                    return true;
                }
                // An element that lives by its attributes has no text to speak of.
                OnUnlisted::Refuse if !(self.run.is_return() && text.trim().is_empty()) => {
                    let path = self.run.matcher.text(at);
                    self.run.report.bad(&path, UNLISTED);
                }
                OnUnlisted::Refuse | OnUnlisted::Drop => {}
            }
            return false;
        };
        let mut written = Vec::new();
        if !self.run.put_or_report(field, text, &mut written) {
            return false;
        }
        out.extend_from_slice(escape(&String::from_utf8_lossy(&written)).as_bytes());
        true
    }

    /// Appends `<name` with its attributes; gives the name, and whether an attribute came out that is not of the form.
    fn open_tag(&mut self, element: &Element, place: Place, out: &mut Vec<u8>) -> (String, bool) {
        let name = if self.is_kmehr { element.name.clone() } else { element.qualified.clone() };
        out.push(b'<');
        out.extend_from_slice(name.as_bytes());
        let declares = !self.is_kmehr && !self.run.is_return();
        if declares {
            self.names.declare(&name, true, out);
        }
        let mut any = false;
        for (key, value) in &element.attributes {
            let below = self.step(place, &format!("@{key}"));
            let is_namespace = declared(key).is_some();
            let field = below.at.filter(|_| !is_namespace).and_then(|at| self.run.matcher.field(at));
            let form = if is_namespace { None } else { form_value(key, value, self.is_kmehr) };
            let mut written = Vec::new();
            match (field, form) {
                (Some(field), _) => {
                    let is_kept = self.run.is_delivered(below.drop);
                    if !is_kept && self.run.is_return() {
                        self.unlisted(below, false);
                    }
                    if !(is_kept && self.run.put_or_report(field, value, &mut written)) {
                        continue;
                    }
                    any = true;
                }
                (None, Some(form)) => written.extend_from_slice(form.as_bytes()),
                // What a delivered name needs is declared with it; on the way back everything is as the recipient wrote it.
                (None, None) if is_namespace && (self.is_kmehr || declares) => continue,
                (None, None) if is_namespace || self.run.unlisted(below.drop) == OnUnlisted::Pass => {
                    written.extend_from_slice(value.as_bytes());
                }
                (None, None) if key == "xsi:schemaLocation" => continue,
                (None, None) => {
                    self.unlisted(place, false);
                    continue;
                }
            }
            let value = String::from_utf8_lossy(&written);
            out.extend_from_slice(format!(" {key}=\"{}\"", escape(&value)).as_bytes());
            if declares {
                self.names.declare(key, false, out);
                if key == "xsi:type" {
                    self.names.declare(&value, false, out);
                }
            }
        }
        (name, any)
    }

    fn below(&mut self, place: Place, element: &Element) -> Place {
        let mut below = self.step(place, &element.name);
        below.at = below.at.and_then(|at| self.run.matcher.resolve(at, |key| element.attribute(key)));
        if let Some(at) = below.at {
            below.drop = self.run.matcher.dropped_by(at, place.drop);
        }
        below
    }

    fn step(&mut self, place: Place, name: &str) -> Place {
        let at = place.at.and_then(|at| self.run.matcher.step(at, name));
        Place {
            at,
            drop: at.map_or(place.drop, |at| self.run.matcher.dropped_by(at, place.drop)),
            parent: place.at.unwrap_or(place.parent),
        }
    }

    /// Looks for what the row says of its patient.
    fn note(&mut self, element: &Element, place: Place) {
        let Some(at) = place.at else { return };
        for (key, value) in &element.attributes {
            let below = self.step(place, &format!("@{key}"));
            if let Some(field) = below.at.and_then(|at| self.run.matcher.field(at)) {
                self.run.note(field, value);
            }
        }
        if let Some(field) = self.run.matcher.field(at) {
            self.run.note(field, &element.text());
        }
        for child in &element.children {
            if let Node::Element(child) = child {
                let below = self.below(place, child);
                self.note(child, below);
            }
        }
    }

    fn unlisted(&mut self, place: Place, is_foreign: bool) {
        let is_refused = self.run.unlisted(place.drop) == OnUnlisted::Refuse;
        if is_refused && (!is_foreign || self.run.is_return()) {
            let parent = self.run.matcher.text(place.at.unwrap_or(place.parent));
            let path = if parent.is_empty() { "?".to_owned() } else { format!("{parent}.?") };
            self.run.report.bad(&path, UNLISTED);
        }
    }
}
