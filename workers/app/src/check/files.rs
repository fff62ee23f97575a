//! I8: the small files that a start must be able to read: who may call, and the time-stamp authority. A start refuses
//! them whole when a line or a key is damaged, so it is better found before.
//!
//! Files that are not there are no finding: a folder may be made ready before its first start.

use super::Line;
use crate::folder::Folder;
use zegel_crypto::tsa::Authority;
use zegel_gateway::FileTokens;

/// Checks the token file and the authority's keys and certificates.
pub fn check(folder: &Folder) -> [Line; 2] {
    let mut tokens = Line::new("I8", "the token file can be read");
    if folder.tokens().exists() {
        tokens.looked_at = 1;
        if let Err(error) = FileTokens::check(&folder.tokens()) {
            tokens.fault(error.to_string());
        }
    }
    let mut authority = Line::new("I8", "the authority's keys belong to its certificates");
    if folder.tsa().exists() {
        authority.looked_at = 1;
        let checked = folder.authority().map_err(|error| error.to_string());
        if let Err(error) = checked.and_then(|place| Authority::check(place).map_err(|error| error.to_string())) {
            authority.fault(error);
        }
    }
    [tokens, authority]
}
