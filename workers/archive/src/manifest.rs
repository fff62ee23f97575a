//! The file MANIFEST: whose archive it is, and which segments belong to it.
//!
//! ```text
//! zegel-archive 1
//! hospital NIHII-HOSPITAL:71000436
//! side platform
//! expired SEQUENCE HEADER-SHA-256 END-MS      (when the oldest segments were deleted by policy)
//! segment NUMBER FIRST-BAG LAST-BAG BAGS BYTES CONTENT-SHA-256 INDEX-SHA-256
//! sha256 DIGEST-OF-THE-LINES-ABOVE
//! ```
//! It is replaced as a whole (write, fsync, rename, fsync of the folder) and has one form only: reading what was written and
//! writing it again gives the same bytes, so every changed bit shows.

use crate::error::{ArchiveError, at};
use schemas::{MailboxAddress, Millis, Sha256};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use zegel_crypto::hash::sha256;

/// The file's name.
pub const NAME: &str = "MANIFEST";
/// Longest manifest that is read: more lines than thirty years of segments have.
const BYTES_MAX: u64 = 64 << 20;

/// Who kept the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The platform.
    Platform,
    /// The hospital.
    Hospital,
}

impl Side {
    /// Its name in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Side::Platform => "platform",
            Side::Hospital => "hospital",
        }
    }
}

/// The last bag of what was deleted by policy: the chain goes on from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// Its sequence.
    pub sequence: u64,
    /// Its header's SHA-256.
    pub header: Sha256,
    /// End of its window.
    pub end: Millis,
}

/// One sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Its number, and its file's name by [`crate::segment::name`].
    pub number: u32,
    /// First bag in it; 0 without bags.
    pub first: u64,
    /// Last bag in it; 0 without bags.
    pub last: u64,
    /// How many bags.
    pub bags: u64,
    /// Length of the file.
    pub bytes: u64,
    /// [`crate::segment::content`].
    pub content: Sha256,
    /// Digest of its index record.
    pub index: Sha256,
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Whose bags.
    pub hospital: MailboxAddress,
    /// Who kept them.
    pub side: Side,
    /// What was deleted by policy.
    pub expired: Option<Expired>,
    /// Sealed segments, ascending.
    pub segments: Vec<Line>,
}

impl Manifest {
    /// The one text of this manifest.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = format!("zegel-archive 1\nhospital {}\nside {}\n", self.hospital, self.side.name());
        if let Some(Expired { sequence, header, end }) = &self.expired {
            // Writing to a string does not fail.
            let _never = writeln!(text, "expired {sequence} {header} {}", end.0);
        }
        for Line { number, first, last, bags, bytes, content, index } in &self.segments {
            let _never = writeln!(text, "segment {number} {first} {last} {bags} {bytes} {content} {index}");
        }
        let _never = writeln!(text, "sha256 {}", sha256(text.as_bytes()));
        text
    }

    /// Reads a text, and whether it is the one text of what it says: the digest may be wrong, or a blank too much.
    #[must_use]
    pub fn decode(text: &str) -> Option<(Manifest, bool)> {
        let mut lines = text.lines();
        if lines.next()? != "zegel-archive 1" {
            return None;
        }
        let hospital = lines.next()?.strip_prefix("hospital ")?.parse().ok()?;
        let side = match lines.next()?.strip_prefix("side ")? {
            "platform" => Side::Platform,
            "hospital" => Side::Hospital,
            _ => return None,
        };
        let mut manifest = Manifest { hospital, side, expired: None, segments: Vec::new() };
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["expired", sequence, header, end] => {
                    manifest.expired = Some(Expired {
                        sequence: sequence.parse().ok()?,
                        header: header.parse().ok()?,
                        end: Millis(end.parse().ok()?),
                    });
                }
                ["segment", number, first, last, bags, bytes, content, index] => manifest.segments.push(Line {
                    number: number.parse().ok()?,
                    first: first.parse().ok()?,
                    last: last.parse().ok()?,
                    bags: bags.parse().ok()?,
                    bytes: bytes.parse().ok()?,
                    content: content.parse().ok()?,
                    index: index.parse().ok()?,
                }),
                ["sha256", _] => {}
                _ => return None,
            }
        }
        let exact = manifest.encode() == text;
        Some((manifest, exact))
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// [`ArchiveError::NoArchive`] when there is none.
    pub fn text(folder: &Path) -> Result<Vec<u8>, ArchiveError> {
        let path = folder.join(NAME);
        match fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(ArchiveError::NoArchive(folder.to_owned()))
            }
            Err(error) => Err(at(&path)(error)),
            Ok(data) if data.len() > BYTES_MAX => Err(ArchiveError::TooLarge("MANIFEST")),
            Ok(_) => fs::read(&path).map_err(at(&path)),
        }
    }

    /// Replaces the file, durable on return.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn store(&self, folder: &Path) -> Result<(), ArchiveError> {
        let (path, new) = (folder.join(NAME), folder.join("MANIFEST.new"));
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(self.encode().as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(folder)?.sync_all()
        };
        write().map_err(at(&path))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn some() -> Manifest {
        let line = |number| Line {
            number,
            first: 1,
            last: 2,
            bags: 2,
            bytes: 3,
            content: Sha256([4; 32]),
            index: Sha256([5; 32]),
        };
        Manifest {
            hospital: "NIHII-HOSPITAL:71000436".parse().unwrap(),
            side: Side::Hospital,
            expired: Some(Expired { sequence: 9, header: Sha256([1; 32]), end: Millis(2) }),
            segments: vec![line(1), line(2)],
        }
    }

    #[test]
    fn every_changed_bit_of_a_manifest_shows() {
        let text = some().encode();
        assert_eq!(Manifest::decode(&text), Some((some(), true)));
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let exact = std::str::from_utf8(&bytes).ok().and_then(Manifest::decode).is_some_and(|(_, exact)| exact);
            assert!(!exact, "bit {bit}");
        }
    }
}
