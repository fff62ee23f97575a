//! What one entry of the log says: that a token was given for a bag.
//!
//! ```text
//! kind (1 byte: 1 = a bag of the platform, 2 = a bag that a hospital made itself)
//! subject (32 bytes: SHA-256 of the bag's header; of the XML's bytes where the hospital made it)
//! token (32 bytes: SHA-256 of the DER TimeStampToken, without the response around it)
//! ```
//! A leaf is `SHA-256(0x00 ‖ entry)`. Nothing in it names anybody, so the log may be public.

use super::LogError;
use schemas::Sha256;

/// Length of an entry.
pub const LENGTH: usize = 65;

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Who made the bag.
    pub kind: Kind,
    /// SHA-256 of what was stamped, by kind.
    pub subject: Sha256,
    /// SHA-256 of the token.
    pub token: Sha256,
}

/// Who made a bag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The platform: the subject is the header's hash.
    Platform,
    /// The hospital: the subject is the hash of the XML's bytes.
    Hospital,
}

impl Entry {
    /// The bytes in the log.
    #[must_use]
    pub fn encode(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[0] = match self.kind {
            Kind::Platform => 1,
            Kind::Hospital => 2,
        };
        bytes[1..33].copy_from_slice(&self.subject.0);
        bytes[33..].copy_from_slice(&self.token.0);
        bytes
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// [`LogError::Entry`].
    pub fn decode(bytes: &[u8]) -> Result<Entry, LogError> {
        let (kind, rest) = bytes.split_first().ok_or(LogError::Entry)?;
        let kind = match kind {
            1 => Kind::Platform,
            2 => Kind::Hospital,
            _ => return Err(LogError::Entry),
        };
        let (subject, token) = rest.split_first_chunk::<32>().ok_or(LogError::Entry)?;
        let token = token.try_into().map_err(|_| LogError::Entry)?;
        Ok(Entry { kind, subject: Sha256(*subject), token: Sha256(token) })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_an_entry_does_not_change_unnoticed() {
        let entry = Entry { kind: Kind::Platform, subject: Sha256([0xaa; 32]), token: Sha256([0xbb; 32]) };
        assert_eq!(hex::encode(entry.encode()), format!("01{}{}", "aa".repeat(32), "bb".repeat(32)));
        assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
        let own = Entry { kind: Kind::Hospital, ..entry };
        assert_eq!(Entry::decode(&own.encode()), Ok(own));
        for bytes in [&[][..], &[1; 64], &[1; 66], &[3; 65], &[0; 65]] {
            assert_eq!(Entry::decode(bytes), Err(LogError::Entry));
        }
    }
}
