//! What a sender says about a message in the query, checked field by field before a byte of the body is read.
//!
//! Rules are those of eHealthBox v3 (lengths, PublicationId); addresses answer with its codes 802 to 805.
//! Failure behaviour: the first broken rule is refused with its field's name; never its value (I4).

use crate::input::address;
use crate::problem::{Answer, Problem};
use schemas::messages::ReceiptsWanted;
use schemas::{MailboxAddress, MessageId, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Most recipients of one message.
const RECIPIENTS_MAX: usize = 100;
/// Longest title, in characters.
const TITLE_MAX: usize = 400;
/// Longest PublicationId.
const PUBLICATION_ID_MAX: usize = 13;
/// Longest file name, media type and project name, in characters.
const NAME_MAX: usize = 255;
/// Most pairs of custom metadata.
const META_MAX: usize = 100;
/// Longest key or value of custom metadata, in characters.
const META_TEXT_MAX: usize = 250;

/// The checked fields of `POST /v1/messages`.
#[derive(Debug, PartialEq)]
pub(crate) struct Fields {
    pub(crate) sender: MailboxAddress,
    pub(crate) recipients: Vec<MailboxAddress>,
    pub(crate) publication_id: String,
    pub(crate) title: String,
    pub(crate) file_name: String,
    pub(crate) mime: Option<String>,
    pub(crate) project: Option<String>,
    /// What comes back in an exchange: its handle, from the path.
    pub(crate) handle: Option<MessageId>,
    pub(crate) receipts: ReceiptsWanted,
    pub(crate) meta: BTreeMap<String, String>,
    pub(crate) digest: Option<Sha256>,
}

/// As they come, before the required ones are known to be there.
#[derive(Default)]
struct Given {
    sender: Option<String>,
    recipients: Vec<String>,
    publication_id: Option<String>,
    title: Option<String>,
    file_name: Option<String>,
    mime: Option<String>,
    project: Option<String>,
    receipts: Option<String>,
    digest: Option<String>,
    meta: Vec<(String, String)>,
}

impl Fields {
    /// Reads the pairs of a query.
    pub(crate) fn parse(pairs: Vec<(String, String)>) -> Answer<Fields> {
        let given = Given::collect(pairs)?;
        let fields = Fields {
            sender: address(&required(given.sender, "sender")?, || "sender".to_owned())?,
            recipients: recipients(&given.recipients)?,
            publication_id: publication_id(required(given.publication_id, "publication_id")?)?,
            title: text(required(given.title, "title")?, "title", TITLE_MAX, "must have 1 to 400 characters")?,
            file_name: file_name(required(given.file_name, "file_name")?)?,
            mime: given.mime.map(mime).transpose()?,
            project: given
                .project
                .map(|name| text(name, "project", NAME_MAX, "must have 1 to 255 characters"))
                .transpose()?,
            handle: None,
            receipts: receipts(given.receipts.as_deref().unwrap_or_default())?,
            meta: meta(given.meta)?,
            digest: given.digest.as_deref().map(digest).transpose()?,
        };
        Ok(fields)
    }

    /// Reads the pairs of a return: it goes to the TTP, and needs neither a title nor the file's name.
    pub(crate) fn of_return(
        mut pairs: Vec<(String, String)>,
        handle: MessageId,
        ttp: &MailboxAddress,
    ) -> Answer<Fields> {
        pairs.push(("to".to_owned(), ttp.to_string()));
        for name in ["title", "file_name"] {
            if !pairs.iter().any(|(given, _)| given == name) {
                pairs.push((name.to_owned(), "return".to_owned()));
            }
        }
        let fields = Fields { handle: Some(handle), ..Fields::parse(pairs)? };
        if fields.project.is_none() {
            return Err(Problem::field("project", "is required: it stands beside the handle of the delivered message"));
        }
        Ok(fields)
    }

    /// A batch for a project goes to the TTP alone, and the TTP takes nothing but batches for projects.
    pub(crate) fn check_route(&self, ttp: &MailboxAddress) -> Answer<()> {
        let to_ttp = self.recipients.iter().any(|recipient| recipient == ttp);
        match (&self.project, to_ttp, self.recipients.len()) {
            (None, false, _) | (Some(_), true, 1) => Ok(()),
            (None, true, _) => Err(Problem::field("project", "is needed when the TTP is the recipient")),
            (Some(_), _, _) => Err(Problem::field("to", "must be the TTP alone when a project is given")),
        }
    }
}

impl Given {
    fn collect(pairs: Vec<(String, String)>) -> Answer<Given> {
        let mut given = Given::default();
        for (index, (name, value)) in pairs.into_iter().enumerate() {
            let place = match name.as_str() {
                "to" => {
                    given.recipients.push(value);
                    continue;
                }
                "sender" => &mut given.sender,
                "publication_id" => &mut given.publication_id,
                "title" => &mut given.title,
                "file_name" => &mut given.file_name,
                "mime" => &mut given.mime,
                "project" => &mut given.project,
                "receipts" => &mut given.receipts,
                "digest" => &mut given.digest,
                other => match other.strip_prefix("meta.") {
                    Some(key) => {
                        given.meta.push((key.to_owned(), value));
                        continue;
                    }
                    None => return Err(Problem::field(format!("query[{index}]"), "is not a parameter of this call")),
                },
            };
            if place.replace(value).is_some() {
                return Err(Problem::field(format!("query[{index}]"), "must be given once"));
            }
        }
        Ok(given)
    }
}

fn required(value: Option<String>, field: &'static str) -> Answer<String> {
    value.ok_or_else(|| Problem::field(field, "is required"))
}

fn recipients(given: &[String]) -> Answer<Vec<MailboxAddress>> {
    if given.is_empty() || given.len() > RECIPIENTS_MAX {
        return Err(Problem::field("to", "must be given 1 to 100 times"));
    }
    let mut seen = BTreeSet::new();
    let mut out = Vec::with_capacity(given.len());
    for (index, one) in given.iter().enumerate() {
        let recipient = address(one, || format!("to[{index}]"))?;
        if !seen.insert(recipient.clone()) {
            return Err(Problem::field(format!("to[{index}]"), "is the same mailbox as another recipient"));
        }
        out.push(recipient);
    }
    Ok(out)
}

fn publication_id(value: String) -> Answer<String> {
    let fits = (1..=PUBLICATION_ID_MAX).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_alphanumeric());
    if fits { Ok(value) } else { Err(Problem::field("publication_id", "must be 1 to 13 ASCII letters and digits")) }
}

fn text(value: String, field: &'static str, max: usize, rule: &'static str) -> Answer<String> {
    let fits = !value.is_empty() && value.chars().count() <= max && !value.chars().any(char::is_control);
    if fits { Ok(value) } else { Err(Problem::field(field, rule)) }
}

/// Recipients write the content under this name, so it must be a name and nothing more.
fn file_name(value: String) -> Answer<String> {
    const RULE: &str = "must be a plain file name of 1 to 255 characters";
    let value = text(value, "file_name", NAME_MAX, RULE)?;
    let path = value.contains(['/', '\\']) || value == "." || value == "..";
    if path { Err(Problem::field("file_name", RULE)) } else { Ok(value) }
}

/// Checks a media type, from the query or from `Content-Type`.
pub(crate) fn mime(value: String) -> Answer<String> {
    let plain = value.len() <= NAME_MAX && value.bytes().all(|b| (b' '..=b'~').contains(&b));
    let shaped = value.split_once('/').is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty());
    if plain && shaped { Ok(value) } else { Err(Problem::field("mime", "must be a media type, like text/csv")) }
}

fn receipts(list: &str) -> Answer<ReceiptsWanted> {
    let mut wanted = ReceiptsWanted::default();
    for word in list.split(',').filter(|word| !word.is_empty()) {
        match word {
            "published" => wanted.published = true,
            "received" => wanted.received = true,
            "read" => wanted.read = true,
            _ => return Err(Problem::field("receipts", "must be a list of published, received, read")),
        }
    }
    Ok(wanted)
}

fn meta(pairs: Vec<(String, String)>) -> Answer<BTreeMap<String, String>> {
    if pairs.len() > META_MAX {
        return Err(Problem::field("meta", "must have at most 100 pairs"));
    }
    let mut out = BTreeMap::new();
    for (index, (key, value)) in pairs.into_iter().enumerate() {
        let long = key.chars().count() > META_TEXT_MAX || value.chars().count() > META_TEXT_MAX;
        if key.is_empty() || long {
            return Err(Problem::field(format!("meta[{index}]"), "key and value must have at most 250 characters"));
        }
        if out.insert(key, value).is_some() {
            return Err(Problem::field(format!("meta[{index}]"), "key must be given once"));
        }
    }
    Ok(out)
}

fn digest(hex: &str) -> Answer<Sha256> {
    hex.parse().map_err(|_| Problem::new("816", "must be 64 lower-case hexadecimal digits").at("digest"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pairs(changes: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut out: Vec<(String, String)> = [
            ("sender", "NIHII-HOSPITAL:71000436"),
            ("to", "CBE:0123456749"),
            ("publication_id", "A1"),
            ("title", "t"),
            ("file_name", "f.csv"),
        ]
        .iter()
        .filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name))
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
        out.extend(changes.iter().filter(|(_, v)| *v != "-").map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        out
    }

    fn refusal(changes: &[(&str, &str)]) -> Problem {
        Fields::parse(pairs(changes)).unwrap_err()
    }

    #[test]
    fn the_lengths_of_the_mailbox_are_kept_at_both_ends() {
        let long = |n: usize| "é".repeat(n);
        assert!(Fields::parse(pairs(&[("title", &long(400))])).is_ok());
        assert!(Fields::parse(pairs(&[("file_name", &long(255))])).is_ok());
        assert!(Fields::parse(pairs(&[("publication_id", "ABCDEFGHIJ123")])).is_ok());
        for (field, value) in [
            ("title", ""),
            ("title", long(401).as_str()),
            ("file_name", long(256).as_str()),
            ("file_name", "../x"),
            ("file_name", ".."),
            ("publication_id", "ABCDEFGHIJ1234"),
            ("publication_id", "a b"),
            ("mime", "csv"),
            ("receipts", "published,seen"),
            ("title", "-"),
            ("sender", "-"),
            ("to", "-"),
        ] {
            assert_eq!(refusal(&[(field, value)]), Problem::field(field, detail(field, value)), "{field}");
        }
        fn detail(field: &str, value: &str) -> &'static str {
            match (field, value) {
                ("to", _) => "must be given 1 to 100 times",
                (_, "-") => "is required",
                ("title", _) => "must have 1 to 400 characters",
                ("file_name", _) => "must be a plain file name of 1 to 255 characters",
                ("publication_id", _) => "must be 1 to 13 ASCII letters and digits",
                ("mime", _) => "must be a media type, like text/csv",
                _ => "must be a list of published, received, read",
            }
        }
    }

    #[test]
    fn a_parameter_nobody_knows_or_given_twice_is_refused_by_position_not_by_name() {
        let unknown = refusal(&[("recipts", "read")]);
        assert_eq!(unknown, Problem::field("query[5]", "is not a parameter of this call"));
        let twice = refusal(&[("title", "a"), ("title", "b")]);
        assert_eq!(twice, Problem::field("query[5]", "must be given once"));
    }

    #[test]
    fn a_bad_second_recipient_is_named_by_its_index_and_a_repeated_one_refused() {
        let bad = refusal(&[("to", "CBE:0123456749"), ("to", "CBE:0123456748")]);
        assert_eq!(bad.code(), "802");
        assert!(format!("{bad:?}").contains("to[1]"));
        assert_eq!(refusal(&[("to", "CBE:0123456749"), ("to", "CBE:0123456749")]).code(), "ZGL-IN-FIELD");
    }

    #[test]
    fn metadata_is_bounded_in_number_and_length() {
        let many: Vec<(String, String)> = (0..101).map(|n| (format!("meta.k{n}"), "v".to_owned())).collect();
        let mut query = pairs(&[]);
        query.extend(many[..100].iter().cloned());
        assert_eq!(Fields::parse(query.clone()).map(|fields| fields.meta.len()), Ok(100));
        query.push(many[100].clone());
        assert!(Fields::parse(query).is_err());
        assert!(Fields::parse(pairs(&[("meta.k", &"v".repeat(251))])).is_err());
    }

    #[test]
    fn the_ttp_takes_batches_for_projects_and_nothing_else() {
        let ttp: MailboxAddress = "CBE:0123456749".parse().unwrap();
        let route = |changes: &[(&str, &str)]| Fields::parse(pairs(changes)).unwrap().check_route(&ttp).is_ok();
        assert!(route(&[("project", "p")]));
        assert!(!route(&[]));
        assert!(!route(&[("project", "p"), ("to", "NIHII-HOSPITAL:71000436")]));
        assert!(!route(&[("project", "p"), ("to", "CBE:0123456749"), ("to", "NIHII-HOSPITAL:71000436")]));
        assert!(route(&[("to", "NIHII-HOSPITAL:71000436")]));
    }
}
