//! The later time stamps of an evidence file: `renewal.ers` over the bag, `document.ers` over the document's own bytes.

use super::Statement;
use crate::audit::renewed::{self, Broken};
use crate::finding::{Class, Findings, Place};
use crate::trust::Trust;
use schemas::Millis;
use zegel_crypto::evidence_record::{EvidenceRecord, RecordError};
use zegel_crypto::tsa::{Digest, TokenInfo};

const BAG: &str = "renewal.ers";
const DOCUMENT: &str = "document.ers";
/// What holds of a record that was not made together with its bag's.
const OTHER: RecordError = RecordError::Refused("it has other tokens than its bag's");

/// A bag's evidence record that holds.
pub(super) struct Renewed {
    record: EvidenceRecord,
    tokens: Vec<TokenInfo>,
}

impl Renewed {
    /// Time of the latest token.
    pub(super) fn latest(&self) -> Option<Millis> {
        self.tokens.last().map(|token| token.gen_time)
    }
}

/// Checks the bag's record, which must begin with the bag's own token; where it does not hold, of what class that is.
pub(super) fn of_bag(
    record: &[u8],
    xml: &[u8],
    first: Option<&TokenInfo>,
    trust: &Trust,
    findings: &mut Findings,
) -> Result<Renewed, Class> {
    let held = renewed::chain(record, |digest| digest.of(xml), trust);
    match held.and_then(|tokens| Ok(Renewed { record: EvidenceRecord::decode(record)?, tokens })) {
        Ok(renewed) if renewed.tokens.first() == first => Ok(renewed),
        Ok(_) => {
            let text = "the renewal begins with another token than the bag's";
            findings.add(Class::Altered, "renewal-other", Place::file(BAG), text);
            Err(Class::Altered)
        }
        Err(broken) => {
            findings.add(broken.class, "renewal", Place::file(BAG), broken.rule.to_string());
            Err(broken.class)
        }
    }
}

/// Checks the document's record over each of these bytes; the digest that binds them, when all hold. Without a renewal of the bag
/// the class says why: altered where there is none.
pub(super) fn of_document(
    renewed: Result<&Renewed, Class>,
    own: Option<&[u8]>,
    (xml, documents): (&[u8], &[&[u8]]),
    statement: &Statement,
    trust: &Trust,
    findings: &mut Findings,
) -> Option<Digest> {
    let mut add = |class, name, text: String| findings.add(class, name, Place::file(DOCUMENT), text);
    let (renewed, own) = match (renewed, own) {
        (Ok(renewed), Some(own)) => (renewed, own),
        (Err(class), Some(_)) => {
            let text = "the document was hashed anew with a bag whose renewal is absent or does not hold";
            add(class, "document-renewal-alone", text.to_owned());
            return None;
        }
        (Ok(renewed), None) if renewed.record.chains() > 1 => {
            let text = "the bag was hashed anew and the document was not: its digest in the bag alone binds it";
            add(Class::Notice, "document-not-rehashed", text.to_owned());
            return None;
        }
        (_, None) => return None,
    };
    if documents.is_empty() {
        let text = "no document was given: whether it was hashed anew was not checked";
        add(Class::Notice, "document-renewal-unchecked", text.to_owned());
        return None;
    }
    let salt = statement.salt.as_deref().and_then(|salt| hex::decode(salt).ok());
    for document in documents {
        if let Err(broken) = holds(renewed, own, (xml, document), salt.as_deref(), trust) {
            add(broken.class, "document-renewal", broken.rule.to_string());
            return None;
        }
    }
    renewed.record.digest().ok()
}

/// Whether a document's record is over these bytes and has the tokens of its bag's.
fn holds(
    renewed: &Renewed,
    own: &[u8],
    (xml, document): (&[u8], &[u8]),
    salt: Option<&[u8]>,
    trust: &Trust,
) -> Result<(), Broken> {
    let own = EvidenceRecord::decode(own)?;
    // First: a token that was bent here counts no more, and its bag's own one shows that it is altered.
    if own.chains() < 2 || own.tokens()? != renewed.record.tokens()? {
        return Err(OTHER.into());
    }
    let objects = |digest: Digest| [Some(document), salt].into_iter().flatten().map(|one| digest.of(one)).collect();
    let tokens = renewed::judged(trust, |judge| own.verify_group(|digest| digest.of(xml), objects, judge))?;
    if tokens == renewed.tokens { Ok(()) } else { Err(OTHER.into()) }
}
