//! XML read element by element from a stream, in bounded memory.

use crate::refusal::TransformError;
use crate::transform::ROW_MAX;
use quick_xml::NsReader;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use std::borrow::Cow;
use std::io::{self, BufRead, Read};

/// Deepest nesting; KMEHR stays under 20, a C-CDA narrative under 40.
const DEPTH_MAX: usize = 100;
/// Bytes that one row may take in the input: with the white space of a row that is laid out.
const INPUT_MAX: usize = 4 * ROW_MAX;

/// Elements and texts of one row: a tree takes far more memory than its text, about 35 MB with so many. A C-CDA document has
/// ten thousand, a KMEHR folder of a megabyte sixty thousand.
const NODES_MAX: usize = 200_000;

/// What ends a document.
pub(crate) enum XmlTrouble {
    /// The input could not be read.
    Io(io::Error),
    /// A row could not be written.
    Outlet(TransformError),
    /// An element is longer than a row may be.
    Long,
    /// It is not of the form; the rule.
    Form(&'static str),
}

/// An element or its text.
pub(crate) enum Node {
    Element(Element),
    Text(String),
}

/// An element.
pub(crate) struct Element {
    /// Without its prefix.
    pub(crate) name: String,
    /// With its prefix.
    pub(crate) qualified: String,
    /// Of the document's first element; empty in others.
    pub(crate) namespace: String,
    /// Of another namespace than the document's first element.
    pub(crate) is_foreign: bool,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) children: Vec<Node>,
    is_empty: bool,
}

impl Element {
    pub(crate) fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The text that stands directly in it.
    pub(crate) fn text(&self) -> String {
        let text = |child: &Node| if let Node::Text(text) = child { Some(text.clone()) } else { None };
        self.children.iter().filter_map(text).collect()
    }

    /// Appends it as it is.
    pub(crate) fn write(&self, is_local: bool, out: &mut Vec<u8>) {
        let name = if is_local && !self.is_foreign { &self.name } else { &self.qualified };
        out.extend_from_slice(format!("<{name}").as_bytes());
        for (key, value) in &self.attributes {
            out.extend_from_slice(format!(" {key}=\"{}\"", escape(value)).as_bytes());
        }
        if self.children.is_empty() {
            out.extend_from_slice(b"/>");
            return;
        }
        out.push(b'>');
        for child in &self.children {
            match child {
                Node::Element(child) => child.write(is_local, out),
                Node::Text(text) => out.extend_from_slice(escape(text).as_bytes()),
            }
        }
        out.extend_from_slice(format!("</{name}>").as_bytes());
    }
}

/// What comes next in an element.
pub(crate) enum Next {
    Element(Element),
    Text(String),
    End,
}

/// A document while it is read.
pub(crate) struct Document<'i> {
    reader: NsReader<Meter<'i>>,
    buffer: Vec<u8>,
    is_utf8: bool,
    namespace: Option<String>,
    /// The element just begun has no end of its own.
    is_at_empty: bool,
    /// Of the present row.
    nodes: usize,
}

impl<'i> Document<'i> {
    /// `is_utf8`: nothing stands between the input and its bytes, so its own word about its encoding counts.
    pub(crate) fn new(input: &'i mut dyn BufRead, is_utf8: bool) -> Document<'i> {
        let reader = NsReader::from_reader(Meter { input, left: INPUT_MAX });
        Document { reader, buffer: Vec::new(), is_utf8, namespace: None, is_at_empty: false, nodes: 0 }
    }

    /// The next row may be as long as this one.
    pub(crate) fn next_row(&mut self) {
        self.reader.get_mut().left = INPUT_MAX;
        self.nodes = 0;
    }

    /// The first element.
    pub(crate) fn root(&mut self) -> Result<Element, XmlTrouble> {
        match self.next()? {
            Next::Element(root) => Ok(root),
            Next::Text(text) if text.trim().is_empty() => self.root(),
            _ => Err(XmlTrouble::Form("the document does not begin with an element")),
        }
    }

    /// Nothing stands behind the first element.
    pub(crate) fn end(&mut self) -> Result<(), XmlTrouble> {
        loop {
            self.buffer.clear();
            match self.reader.read_event_into(&mut self.buffer).map_err(trouble)? {
                Event::Eof => return Ok(()),
                Event::Comment(_) | Event::PI(_) => {}
                Event::Text(text) if text.trim().is_empty() => {}
                _ => return Err(XmlTrouble::Form("something stands behind the document")),
            }
        }
    }

    /// What comes next in the present element.
    pub(crate) fn next(&mut self) -> Result<Next, XmlTrouble> {
        if std::mem::take(&mut self.is_at_empty) {
            return Ok(Next::End);
        }
        loop {
            self.buffer.clear();
            let (namespace, event) = self.reader.read_resolved_event_into(&mut self.buffer).map_err(trouble)?;
            let namespace = match namespace {
                ResolveResult::Bound(name) => name.into_inner().to_owned(),
                ResolveResult::Unbound => String::new(),
                ResolveResult::Unknown(_) => return Err(XmlTrouble::Form("a prefix has no namespace")),
            };
            match event {
                Event::Start(tag) => return element(&tag, namespace, &mut self.namespace, false).map(Next::Element),
                Event::Empty(tag) => {
                    self.is_at_empty = true;
                    return element(&tag, namespace, &mut self.namespace, true).map(Next::Element);
                }
                Event::End(_) => return Ok(Next::End),
                Event::Text(text) => return Ok(Next::Text(text.to_string())),
                Event::CData(text) => return Ok(Next::Text(text.to_string())),
                Event::GeneralRef(name) => {
                    return entity(&name).map(Next::Text).ok_or(XmlTrouble::Form("an entity that XML does not define"));
                }
                Event::Comment(_) | Event::PI(_) => {}
                Event::Decl(declaration) => {
                    let encoding = declaration.encoding().transpose().map_err(|_| XmlTrouble::Form(MALFORMED))?;
                    let is_said = encoding.is_none_or(|name| {
                        let name: &str = name.as_ref();
                        name.eq_ignore_ascii_case("utf-8") || name.eq_ignore_ascii_case("us-ascii")
                    });
                    if self.is_utf8 && !is_said {
                        return Err(XmlTrouble::Form(
                            "the document says that it is not in UTF-8; the project does not",
                        ));
                    }
                }
                Event::DocType(_) => return Err(XmlTrouble::Form("a document type is not taken")),
                Event::Eof => return Err(XmlTrouble::Form(MALFORMED)),
            }
        }
    }

    /// The element with all that is in it.
    pub(crate) fn subtree(&mut self, mut element: Element) -> Result<Element, XmlTrouble> {
        self.fill(&mut element, 0)?;
        Ok(element)
    }

    fn fill(&mut self, element: &mut Element, depth: usize) -> Result<(), XmlTrouble> {
        if depth > DEPTH_MAX {
            return Err(XmlTrouble::Form("the document is nested too deep"));
        }
        if element.is_empty {
            self.is_at_empty = false;
            return Ok(());
        }
        loop {
            self.nodes += 1;
            if self.nodes > NODES_MAX {
                return Err(XmlTrouble::Long);
            }
            match self.next()? {
                Next::End => return Ok(()),
                Next::Text(text) => match element.children.last_mut() {
                    Some(Node::Text(before)) => before.push_str(&text),
                    _ => element.children.push(Node::Text(text)),
                },
                Next::Element(mut child) => {
                    self.fill(&mut child, depth + 1)?;
                    element.children.push(Node::Element(child));
                }
            }
        }
    }
}

const MALFORMED: &str = "the document is not well-formed XML";

fn trouble(error: quick_xml::Error) -> XmlTrouble {
    match error {
        quick_xml::Error::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => XmlTrouble::Long,
        quick_xml::Error::Io(error) if error.kind() != io::ErrorKind::InvalidData => {
            XmlTrouble::Io(io::Error::from(error.kind()))
        }
        _ => XmlTrouble::Form(MALFORMED),
    }
}

fn element(
    tag: &BytesStart<'_>,
    namespace: String,
    first: &mut Option<String>,
    is_empty: bool,
) -> Result<Element, XmlTrouble> {
    let is_first = first.is_none();
    let is_foreign = *first.get_or_insert_with(|| namespace.clone()) != namespace;
    let mut attributes = Vec::new();
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|_| XmlTrouble::Form(MALFORMED))?;
        let value =
            attribute.normalized_value(quick_xml::XmlVersion::Explicit1_0).map_err(|_| XmlTrouble::Form(MALFORMED))?;
        attributes.push((attribute.key.into_inner().to_owned(), value.into_owned()));
    }
    Ok(Element {
        name: tag.local_name().into_inner().to_owned(),
        qualified: tag.name().into_inner().to_owned(),
        namespace: if is_first { namespace } else { String::new() },
        is_foreign,
        attributes,
        children: Vec::new(),
        is_empty,
    })
}

/// The text of `&amp;` and of `&#233;`.
fn entity(name: &str) -> Option<String> {
    let letter = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?).filter(|letter| !letter.is_control() || "\t\n\r".contains(*letter))?
        }
    };
    Some(letter.to_string())
}

/// Text as it stands in an element or a quoted attribute.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    let is_special = |letter: char| "<>&\"\r\n\t".contains(letter);
    if !text.contains(is_special) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            letter => out.push(letter),
        }
    }
    Cow::Owned(out)
}

/// Lets so many bytes through.
struct Meter<'i> {
    input: &'i mut dyn BufRead,
    left: usize,
}

impl Read for Meter<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(out.len());
        out[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Meter<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let bytes = self.input.fill_buf()?;
        if self.left == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(&bytes[..bytes.len().min(self.left)])
    }

    fn consume(&mut self, count: usize) {
        self.left -= count;
        self.input.consume(count);
    }
}
