//! Renewed time stamps: each chain of tokens must hold, begin with the bag's own token, and go on before a certificate ended.

use super::bag::Checked;
use crate::finding::{Class, Findings};
use crate::trust::Trust;
use schemas::Sha256;
use std::collections::HashMap;
use zegel_crypto::evidence_record::{EvidenceRecord, RecordError};
use zegel_crypto::tsa::{TokenInfo, response_of, unit_ends};

/// Checks the latest record of each bag; how many hold.
pub(super) fn check(
    checked: &[Checked],
    records: &HashMap<u64, Vec<u8>>,
    trust: &Trust,
    findings: &mut Findings,
) -> u64 {
    let mut held = 0;
    for bag in checked {
        let (Some(record), Some(imprint)) = (records.get(&bag.sequence), &bag.imprint) else { continue };
        match chain(record, imprint, trust) {
            Ok(tokens) if tokens.first() == bag.token.as_ref() => held += 1,
            Ok(_) => {
                let text = "the renewal begins with another token than the bag's";
                findings.add(Class::Altered, "renewal-other", bag.place.clone(), text);
            }
            Err(error) => findings.add(Class::Altered, "renewal", bag.place.clone(), error.to_string()),
        }
    }
    held
}

/// The tokens of a record over data with this digest.
pub(crate) fn chain(record: &[u8], data: &Sha256, trust: &Trust) -> Result<Vec<TokenInfo>, RecordError> {
    let record = EvidenceRecord::decode(record)?;
    let tokens =
        record.verify(data, |response, imprint| trust.verify(response, imprint).map_err(|fault| fault.text))?;
    for (der, next) in record.tokens()?.iter().zip(tokens.iter().skip(1)) {
        let ends = unit_ends(&response_of(der)).map_err(|_| RecordError::Form)?;
        if next.gen_time > ends {
            return Err(RecordError::Refused("a renewal came after the certificate before it had ended"));
        }
    }
    Ok(tokens)
}
