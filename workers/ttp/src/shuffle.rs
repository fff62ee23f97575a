//! Rows on their way out: as they come, or shuffled through bounded disk buckets.
//!
//! Up to [`MEMORY_MAX`] bytes of rows are shuffled in memory (Fisher-Yates). Beyond that each row goes to one of
//! [`BUCKETS`] buckets at random, and each bucket is shuffled in memory in its turn, or spread over buckets again when it
//! is too large itself: every order is equally likely. Memory: one set of buffers and one bucket, at most about 25 MB
//! whatever the batch's size.
//!
//! Scratch file, one per level, without a name (nothing is left after a crash): chunks of whole rows, sealed with the
//! key ring and bound to their offset, so that what rests on the disk is encrypted although it holds only rows that are
//! pseudonymised already. Chunk: `sealed length (u32 BE) ‖ offset of the bucket's chunk before, plus 1 (u64 BE) ‖ sealed`;
//! a row in it: `length (u32 BE) ‖ row`.

use crate::random::Random;
use crate::refusal::TransformError;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use zegel_core::{Keys, Sealed};

/// Rows held in memory before buckets are begun: more than most batches, little beside the process.
pub(crate) const MEMORY_MAX: usize = 8 << 20;
/// Buckets of a level. With 8 MiB in memory one level does 1 GiB, two do 128 GiB.
const BUCKETS: usize = 128;
/// A bucket's buffer: 128 of them are 4 MiB.
const CHUNK: usize = 32 << 10;
/// Levels: four of them hold more than any disk.
const LEVELS_MAX: usize = 4;
const CHUNK_HEADER: usize = 12;

/// Where rows may rest while they are shuffled.
#[derive(Clone, Copy)]
pub struct ScratchDir<'a> {
    /// A folder on a disk with room for the batch.
    pub folder: &'a Path,
    /// What seals the rows there.
    pub keys: &'a dyn Keys,
}

/// Rows in memory: their bytes, and where each one lies.
#[derive(Default)]
pub(crate) struct Pile {
    bytes: Vec<u8>,
    rows: Vec<(u32, u32)>,
}

impl Pile {
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() + self.rows.len() * size_of::<(u32, u32)>()
    }

    pub(crate) fn push(&mut self, row: &[u8]) -> io::Result<()> {
        let place = u32::try_from(self.bytes.len()).ok().zip(u32::try_from(row.len()).ok());
        self.rows.push(place.ok_or(io::ErrorKind::OutOfMemory)?);
        self.bytes.extend_from_slice(row);
        Ok(())
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.rows.iter().map(|&(start, length)| &self.bytes[start as usize..][..length as usize])
    }

    fn write_shuffled(&mut self, random: &mut Random<'_>, out: &mut dyn Write) -> io::Result<()> {
        random.shuffle(&mut self.rows);
        self.rows().try_for_each(|row| out.write_all(row))
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.rows.clear();
    }
}

/// Takes rows in the batch's order and writes them in a random one.
pub(crate) struct Shuffle<'a> {
    pile: Pile,
    spill: Option<Spill<'a>>,
    scratch: Option<ScratchDir<'a>>,
    memory_max: usize,
}

impl<'a> Shuffle<'a> {
    /// Without a scratch folder, a batch that does not fit in memory is an error.
    pub(crate) fn new(scratch: Option<ScratchDir<'a>>) -> Shuffle<'a> {
        Shuffle { pile: Pile::default(), spill: None, scratch, memory_max: MEMORY_MAX }
    }

    pub(crate) fn push(&mut self, row: &[u8], random: &mut Random<'_>) -> Result<(), TransformError> {
        if let Some(spill) = &mut self.spill {
            return spill.push(row, random).map_err(TransformError::Scratch);
        }
        self.pile.push(row)?;
        if self.pile.size() > self.memory_max {
            let spill = self.begin_spill(random).map_err(TransformError::Scratch)?;
            self.spill = Some(spill);
            self.pile = Pile::default();
        }
        Ok(())
    }

    pub(crate) fn finish(mut self, random: &mut Random<'_>, out: &mut dyn Write) -> Result<(), TransformError> {
        match self.spill {
            None => self.pile.write_shuffled(random, out).map_err(TransformError::Io),
            Some(spill) => spill.drain(0, self.memory_max, random, out),
        }
    }

    fn begin_spill(&self, random: &mut Random<'_>) -> io::Result<Spill<'a>> {
        let mut spill = Spill::new(self.scratch.ok_or(io::ErrorKind::StorageFull)?)?;
        self.pile.rows().try_for_each(|row| spill.push(row, random))?;
        Ok(spill)
    }
}

#[derive(Default)]
struct Bucket {
    buffer: Vec<u8>,
    /// Offset of the bucket's latest chunk, plus 1; 0: none.
    latest: u64,
    bytes: usize,
    rows: usize,
}

/// A bucket that is complete.
pub(crate) struct Chain {
    /// Where its latest chunk is.
    pub(crate) latest: u64,
    pub(crate) rows: usize,
}

pub(crate) struct Spill<'a> {
    scratch: ScratchDir<'a>,
    file: File,
    end: u64,
    buckets: Vec<Bucket>,
}

impl<'a> Spill<'a> {
    pub(crate) fn new(scratch: ScratchDir<'a>) -> io::Result<Spill<'a>> {
        let file = tempfile::tempfile_in(scratch.folder)?;
        Ok(Spill { scratch, file, end: 0, buckets: (0..BUCKETS).map(|_| Bucket::default()).collect() })
    }

    fn push(&mut self, row: &[u8], random: &mut Random<'_>) -> io::Result<()> {
        self.push_to(random.below(BUCKETS), row)
    }

    /// Puts a row into the bucket of this number, modulo the number of buckets.
    pub(crate) fn push_to(&mut self, number: usize, row: &[u8]) -> io::Result<()> {
        let index = number % BUCKETS;
        let length = u32::try_from(row.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let bucket = &mut self.buckets[index];
        bucket.buffer.extend_from_slice(&length.to_be_bytes());
        bucket.buffer.extend_from_slice(row);
        bucket.bytes += row.len();
        bucket.rows += 1;
        if bucket.buffer.len() >= CHUNK { self.flush(index) } else { Ok(()) }
    }

    /// The buckets that have rows, for [`Spill::read_chain`]; afterwards no row can be put.
    pub(crate) fn chains(&mut self) -> io::Result<Vec<Chain>> {
        (0..BUCKETS).try_for_each(|index| self.flush(index))?;
        let buckets = std::mem::take(&mut self.buckets);
        let chain = |bucket: Bucket| Chain { latest: bucket.latest, rows: bucket.rows };
        Ok(buckets.into_iter().map(chain).filter(|chain| chain.rows > 0).collect())
    }

    fn flush(&mut self, index: usize) -> io::Result<()> {
        let bucket = &mut self.buckets[index];
        if bucket.buffer.is_empty() {
            return Ok(());
        }
        let sealed = self.scratch.keys.seal(&context(self.end), &bucket.buffer);
        let length = u32::try_from(sealed.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut header = [0u8; CHUNK_HEADER];
        header[..4].copy_from_slice(&length.to_be_bytes());
        header[4..].copy_from_slice(&bucket.latest.to_be_bytes());
        self.file.write_all_at(&header, self.end)?;
        self.file.write_all_at(sealed.bytes(), self.end + CHUNK_HEADER as u64)?;
        bucket.latest = self.end + 1;
        bucket.buffer.clear();
        self.end += (CHUNK_HEADER + sealed.len()) as u64;
        Ok(())
    }

    fn drain(
        mut self,
        level: usize,
        memory_max: usize,
        random: &mut Random<'_>,
        out: &mut dyn Write,
    ) -> Result<(), TransformError> {
        (0..BUCKETS).try_for_each(|index| self.flush(index)).map_err(TransformError::Scratch)?;
        let mut pile = Pile::default();
        for Bucket { latest, bytes, rows, .. } in std::mem::take(&mut self.buckets) {
            let fits = bytes + rows * size_of::<(u32, u32)>() <= memory_max;
            // A single row larger than the memory's share is no reason to go on dividing.
            if fits || rows == 1 || level + 1 == LEVELS_MAX {
                pile.clear();
                self.read_chain(latest, |row| pile.push(row)).map_err(TransformError::Scratch)?;
                pile.write_shuffled(random, out)?;
            } else {
                let mut deeper = Spill::new(self.scratch).map_err(TransformError::Scratch)?;
                self.read_chain(latest, |row| deeper.push(row, random)).map_err(TransformError::Scratch)?;
                deeper.drain(level + 1, memory_max, random, out)?;
            }
        }
        Ok(())
    }

    /// Hands every row of a bucket to `take`, the latest chunk first.
    pub(crate) fn read_chain(&self, latest: u64, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut next = latest;
        while let Some(offset) = next.checked_sub(1) {
            let mut header = [0u8; CHUNK_HEADER];
            self.file.read_exact_at(&mut header, offset)?;
            let (length, before) = header.split_at(4);
            let length = u32::from_be_bytes(length.try_into().map_err(io::Error::other)?);
            next = u64::from_be_bytes(before.try_into().map_err(io::Error::other)?);
            let mut sealed = vec![0u8; length as usize];
            self.file.read_exact_at(&mut sealed, offset + CHUNK_HEADER as u64)?;
            let opened = self.scratch.keys.open(&context(offset), &Sealed::from_stored(sealed.into()));
            let rows = opened.map_err(io::Error::other)?;
            let mut rest = &rows[..];
            while let Some((length, after)) = rest.split_first_chunk::<4>() {
                let (row, after) =
                    after.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(io::ErrorKind::InvalidData)?;
                take(row)?;
                rest = after;
            }
        }
        Ok(())
    }
}

fn context(offset: u64) -> [u8; 24] {
    let mut context = *b"zegel-ttp-chunk/\0\0\0\0\0\0\0\0";
    context[16..].copy_from_slice(&offset.to_be_bytes());
    context
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::collections::BTreeSet;
    use zegel_crypto::Keyring;

    fn shuffled(count: u32, memory_max: usize, seed: u64) -> Vec<u32> {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keyring::generate_in_memory();
        let mut fill = crate::random::tests::source(seed);
        let mut random = Random::new(&mut fill);
        let mut shuffle = Shuffle::new(Some(ScratchDir { folder: folder.path(), keys: &keys }));
        shuffle.memory_max = memory_max;
        for row in 0..count {
            shuffle.push(format!("row {row}\n").as_bytes(), &mut random).unwrap();
        }
        let mut out = Vec::new();
        shuffle.finish(&mut random, &mut out).unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "scratch files have no name");
        String::from_utf8(out).unwrap().lines().map(|line| line[4..].parse().unwrap()).collect()
    }

    #[test]
    fn every_row_comes_out_once_and_in_another_order_in_memory_on_disk_and_over_two_levels() {
        // 20,000 rows are about 380 KB: with 1 KiB of memory each of 128 buckets is divided again.
        for memory_max in [MEMORY_MAX, 64 << 10, 1 << 10] {
            let rows = shuffled(20_000, memory_max, 7);
            assert_eq!(rows.len(), 20_000);
            assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), 20_000);
            let fixed = rows.iter().enumerate().filter(|(place, row)| *place == **row as usize).count();
            assert!(fixed < 20, "{fixed} rows stayed where they were");
        }
    }

    #[test]
    fn every_place_is_as_likely_for_the_first_row() {
        for memory_max in [MEMORY_MAX, 256] {
            let mut counts = [0u32; 4];
            for seed in 1..=400 {
                let place = shuffled(40, memory_max, seed).iter().position(|row| *row == 0).unwrap();
                counts[place / 10] += 1;
            }
            assert!(counts.iter().all(|count| (65..140).contains(count)), "{counts:?}");
        }
    }

    #[test]
    fn what_rests_on_the_disk_is_encrypted_and_a_changed_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keyring::generate_in_memory();
        let mut fill = crate::random::tests::source(1);
        let mut random = Random::new(&mut fill);
        let mut spill = Spill::new(ScratchDir { folder: folder.path(), keys: &keys }).unwrap();
        (0..1_000).for_each(|_| spill.push(b"canary-canary\n", &mut random).unwrap());
        (0..BUCKETS).for_each(|index| spill.flush(index).unwrap());
        let mut bytes = vec![0; usize::try_from(spill.end).unwrap()];
        spill.file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"canary"));
        let last = spill.end - 1;
        spill.file.write_all_at(&[!bytes[usize::try_from(last).unwrap()]], last).unwrap();
        let result = spill.drain(0, MEMORY_MAX, &mut random, &mut Vec::new());
        assert!(matches!(result, Err(TransformError::Scratch(_))));
    }

    #[test]
    fn without_a_scratch_folder_a_batch_over_the_memory_is_an_error() {
        let mut fill = crate::random::tests::source(1);
        let mut random = Random::new(&mut fill);
        let mut shuffle = Shuffle::new(None);
        shuffle.memory_max = 100;
        let result = (0..100).try_for_each(|_| shuffle.push(b"row\n", &mut random));
        assert!(matches!(result, Err(TransformError::Scratch(_))));
    }
}
