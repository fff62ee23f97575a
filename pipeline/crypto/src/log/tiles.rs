//! Tiles (C2SP tlog-tiles): names of a log's resources, and what their bytes hold.
//!
//! ```text
//! tile/<level>/<index>[.p/<width>]      width × 32 bytes: hashes of complete subtrees of height 8 × level
//! tile/entries/<index>[.p/<width>]      width entries, each behind its length (u16 big-endian)
//! ```
//! An index is written in groups of three digits, all but the last behind an x: 1234067 is x001/x234/067. A tile that is
//! not full says its width.

use super::{LogError, decimal, ensure};
use schemas::Sha256;
use std::fmt;
use std::str::FromStr;

/// Hashes in a full tile, entries in a full bundle.
pub const WIDTH: u64 = 256;
/// Levels that a log of 2^64 entries has; the format allows 63.
pub const LEVELS: u8 = 8;
/// Largest bundle: entries are at most 64 KiB each, ours are 65 bytes.
pub const BUNDLE_MAX: usize = 256 * (2 + 65_535);

/// A tile's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tile {
    /// 0: leaf hashes.
    pub level: u8,
    /// Which tile of its level.
    pub index: u64,
    /// How many hashes it holds: 1 to 256.
    pub width: u16,
}

/// Something that a log serves below its prefix, beside the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// Hashes.
    Hashes(Tile),
    /// The entries below a tile of level 0.
    Entries(Tile),
}

impl Tile {
    /// The tile with this level and index in a tree of this size, as wide as it is there; none when it has nothing yet.
    #[must_use]
    pub fn of(level: u8, index: u64, size: u64) -> Option<Tile> {
        let hashes = size.checked_shr(8 * u32::from(level)).unwrap_or(0);
        let first = index.checked_mul(WIDTH)?;
        let width = hashes.checked_sub(first)?.min(WIDTH);
        let width = u16::try_from(width).ok().filter(|width| *width > 0)?;
        Some(Tile { level, index, width })
    }

    /// Whether it will never change.
    #[must_use]
    pub fn is_full(&self) -> bool {
        u64::from(self.width) == WIDTH
    }

    /// The hashes that the bytes of this tile hold.
    ///
    /// # Errors
    /// [`LogError::Tile`] when they are more or fewer than it is wide.
    pub fn hashes(&self, bytes: &[u8]) -> Result<Vec<Sha256>, LogError> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        let fits = rest.is_empty() && hashes.len() == usize::from(self.width);
        ensure(fits, LogError::Tile("has another length than its width says"))?;
        Ok(hashes.iter().map(|hash| Sha256(*hash)).collect())
    }
}

impl Resource {
    /// Everything that a log of this size serves, tiles of higher levels last.
    pub fn all(size: u64) -> impl Iterator<Item = Resource> {
        let of_level = move |level: u8| (0..).map_while(move |index| Tile::of(level, index, size));
        let bundles = of_level(0).map(Resource::Entries);
        bundles.chain((0..LEVELS).flat_map(of_level).map(Resource::Hashes))
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tile = match self {
            Resource::Hashes(tile) => {
                write!(f, "tile/{}", tile.level)?;
                tile
            }
            Resource::Entries(tile) => {
                f.write_str("tile/entries")?;
                tile
            }
        };
        let mut groups = vec![tile.index % 1_000];
        let mut rest = tile.index / 1_000;
        while rest > 0 {
            groups.push(rest % 1_000);
            rest /= 1_000;
        }
        for (at, group) in groups.iter().enumerate().rev() {
            write!(f, "/{}{group:03}", if at > 0 { "x" } else { "" })?;
        }
        if tile.is_full() { Ok(()) } else { write!(f, ".p/{}", tile.width) }
    }
}

impl FromStr for Resource {
    type Err = LogError;

    /// Reads a name; only the one form of a name is accepted, so a cache never holds the same thing twice.
    fn from_str(path: &str) -> Result<Resource, LogError> {
        const SHAPE: LogError = LogError::Tile("has a name of another form");
        let rest = path.strip_prefix("tile/").ok_or(SHAPE)?;
        let (kind, rest) = rest.split_once('/').ok_or(SHAPE)?;
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, decimal(width).filter(|width| (1..WIDTH).contains(width)).ok_or(SHAPE)?),
            None => (rest, WIDTH),
        };
        let mut index: u64 = 0;
        for group in number.split('/') {
            let digits = group.strip_prefix('x').unwrap_or(group);
            ensure(digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()), SHAPE)?;
            let group: u64 = digits.parse().map_err(|_| SHAPE)?;
            index = index.checked_mul(1_000).and_then(|index| index.checked_add(group)).ok_or(SHAPE)?;
        }
        let width = u16::try_from(width).map_err(|_| SHAPE)?;
        let resource = if kind == "entries" {
            Resource::Entries(Tile { level: 0, index, width })
        } else {
            let level = decimal(kind).and_then(|level| u8::try_from(level).ok()).filter(|level| *level < 64);
            Resource::Hashes(Tile { level: level.ok_or(SHAPE)?, index, width })
        };
        ensure(resource.to_string() == path, SHAPE)?;
        Ok(resource)
    }
}

/// The bytes of a bundle; entries of over 65,535 bytes do not exist.
#[must_use]
pub fn encode_bundle<E: AsRef<[u8]>>(entries: &[E]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.iter().map(|entry| 2 + entry.as_ref().len()).sum());
    for entry in entries {
        let length = u16::try_from(entry.as_ref().len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&entry.as_ref()[..usize::from(length)]);
    }
    out
}

/// The entries of a bundle that is as wide as this tile of level 0.
///
/// # Errors
/// [`LogError::Tile`] when there are more or fewer, or bytes are left over.
pub fn decode_bundle<'b>(tile: &Tile, mut bytes: &'b [u8]) -> Result<Vec<&'b [u8]>, LogError> {
    const BROKEN: LogError = LogError::Tile("holds other entries than its width says");
    let mut entries = Vec::with_capacity(usize::from(tile.width));
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, rest) = rest.split_at_checked(length).ok_or(BROKEN)?;
        ensure(entries.len() < usize::from(tile.width), BROKEN)?;
        entries.push(entry);
        bytes = rest;
    }
    ensure(bytes.is_empty() && entries.len() == usize::from(tile.width), BROKEN)?;
    Ok(entries)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_the_ones_of_the_specification() {
        let tile = |level, index, width| Tile { level, index, width };
        for (resource, path) in [
            (Resource::Hashes(tile(0, 1_234_067, 256)), "tile/0/x001/x234/067"),
            (Resource::Hashes(tile(2, 0, 1)), "tile/2/000.p/1"),
            (Resource::Entries(tile(0, 999, 255)), "tile/entries/999.p/255"),
            (Resource::Entries(tile(0, 1_000, 256)), "tile/entries/x001/000"),
        ] {
            assert_eq!((resource.to_string().as_str(), path.parse()), (path, Ok(resource)));
        }
        for path in [
            "tile/00/000",
            "tile/0/0",
            "tile/0/x000/000",
            "tile/0/x001",
            "tile/0/001/000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/64/000",
            "tile//000",
            "tile/0/",
            "tile/0",
            "tile/e/000",
            "/tile/0/000",
            "tile/0/000/",
            "tile/0/-01",
            "tile/0/000.p/",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert!(path.parse::<Resource>().is_err(), "{path}");
        }
    }

    #[test]
    fn a_log_of_70000_has_the_tiles_that_the_specification_counts() {
        let all: Vec<Resource> = Resource::all(70_000).collect();
        let of = |level: u8| {
            let tiles = all.iter().filter_map(|resource| match resource {
                Resource::Hashes(tile) if tile.level == level => Some(tile.width),
                _ => None,
            });
            tiles.collect::<Vec<_>>()
        };
        assert_eq!((of(0).len(), of(0).last().copied()), (274, Some(112)));
        assert_eq!((of(1), of(2), of(3)), (vec![256, 17], vec![1], vec![]));
        assert_eq!(Resource::all(0).count(), 0);
        assert_eq!(
            Resource::all(256).map(|resource| resource.to_string()).collect::<Vec<_>>(),
            ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]
        );
    }

    #[test]
    fn a_bundle_holds_what_was_put_in_and_nothing_else() {
        let entries = [vec![1; 65], vec![], vec![2; 3]];
        let bytes = encode_bundle(&entries);
        let tile = Tile { level: 0, index: 0, width: 3 };
        assert_eq!(decode_bundle(&tile, &bytes).unwrap(), entries);
        assert!(decode_bundle(&Tile { width: 2, ..tile }, &bytes).is_err());
        assert!(decode_bundle(&Tile { width: 4, ..tile }, &bytes).is_err());
        assert!(decode_bundle(&tile, &bytes[..bytes.len() - 1]).is_err());
        assert!(decode_bundle(&tile, &[&bytes[..], &[0]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn every_name_has_one_form(level in 0u8..8, index in any::<u64>(), width in 1u16..=256, entries in any::<bool>()) {
            let tile = Tile { level: if entries { 0 } else { level }, index, width };
            let resource = if entries { Resource::Entries(tile) } else { Resource::Hashes(tile) };
            prop_assert_eq!(resource.to_string().parse(), Ok(resource));
        }

        #[test]
        fn arbitrary_names_and_bundles_never_panic(path in "(tile/)?[0-9x/.pe]{0,40}", bytes in any::<Vec<u8>>()) {
            let _ = path.parse::<Resource>();
            let _ = decode_bundle(&Tile { level: 0, index: 0, width: 7 }, &bytes);
        }
    }
}
