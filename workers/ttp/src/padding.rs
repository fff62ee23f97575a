//! The size of what is handed over, rounded up to a bucket with line ends after the last row, which readers of every form skip.
//!
//! Buckets: 1 KiB and its doubles up to 1 MiB; beyond that eight steps between two powers of two. So hospitals with about as many
//! rows hand over files of one size, and a file grows by at most its own size below 1 MiB, and by an eighth above it. What a
//! recipient counts in the file itself is not hidden.

use crate::transform::Format;
use std::io::{self, Write};

/// Smallest bucket: a few rows.
const LEAST: u64 = 1 << 10;
/// Up to here buckets double; larger files would waste the recipient's disk.
const DOUBLING: u64 = 1 << 20;
/// Filler written at a time.
const PIECE: usize = 16 << 10;

/// The size that is handed over for content of this size.
#[must_use]
pub fn bucket(size: u64) -> u64 {
    if size <= DOUBLING {
        return size.next_power_of_two().max(LEAST);
    }
    let step = (1u64 << size.ilog2()) / 8;
    size.div_ceil(step).saturating_mul(step)
}

/// Writes what is missing to the bucket of `size` bytes.
///
/// # Errors
/// When writing fails.
pub fn fill(format: Format, size: u64, out: &mut dyn Write) -> io::Result<()> {
    let piece = [if format == Format::Hl7v2 { b'\r' } else { b'\n' }; PIECE];
    let mut left = bucket(size) - size;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        out.write_all(&piece[..count])?;
        left -= count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_size_has_a_bucket_that_holds_it_and_wastes_no_more_than_stated() {
        for size in (0..3_000).chain([65_535, 65_536, 65_537, 1 << 20, (1 << 20) + 1, 3_000_000, 10_000_000_000]) {
            let bucket = bucket(size);
            assert!(bucket >= size && super::bucket(bucket) == bucket, "{size}");
            let most = if size <= DOUBLING { (2 * size).max(LEAST) } else { size + size / 8 + 1 };
            assert!(bucket <= most, "{size} became {bucket}");
        }
    }

    #[test]
    fn what_is_filled_in_ends_lines_of_the_form() {
        for (format, filler) in [(Format::Csv, b'\n'), (Format::Hl7v2, b'\r')] {
            let mut out = Vec::new();
            fill(format, 40_000, &mut out).unwrap();
            assert!(out.len() == 65_536 - 40_000 && out.iter().all(|byte| *byte == filler));
        }
    }
}
