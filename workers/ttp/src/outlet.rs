//! Where rows leave: as they come, or shuffled, with what stands before, between and after them.

use crate::project::Rows;
use crate::random::Random;
use crate::refusal::TransformError;
use crate::shuffle::{ScratchDir, Shuffle};
use std::io::{self, BufWriter, Write};

/// Bytes collected before they are written out: below the size at which freeing makes the allocator tidy up.
const OUT_BUFFER: usize = 32 << 10;

/// Rows on their way out.
pub(crate) struct Outlet<'a> {
    out: Separated<'a>,
    pub(crate) random: Random<'a>,
    shuffle: Option<Shuffle<'a>>,
    trailer: Vec<u8>,
}

impl<'a> Outlet<'a> {
    pub(crate) fn new(
        rows: Rows,
        output: &'a mut dyn Write,
        scratch: Option<ScratchDir<'a>>,
        random: &'a mut dyn FnMut(&mut [u8]),
    ) -> Outlet<'a> {
        let out = BufWriter::with_capacity(OUT_BUFFER, output);
        Outlet {
            out: Separated { out, separator: b"", any: false },
            random: Random::new(random),
            shuffle: (rows == Rows::Shuffle).then(|| Shuffle::new(scratch)),
            trailer: Vec::new(),
        }
    }

    /// Writes what stands before all rows.
    pub(crate) fn header(&mut self, bytes: &[u8]) -> Result<(), TransformError> {
        Ok(self.out.out.write_all(bytes)?)
    }

    /// What stands between two rows; nothing if not stated.
    pub(crate) fn separate_by(&mut self, separator: &'static [u8]) {
        self.out.separator = separator;
    }

    /// What stands after all rows.
    pub(crate) fn trailer(&mut self, bytes: Vec<u8>) {
        self.trailer = bytes;
    }

    /// A row that stays in front of all others.
    pub(crate) fn first(&mut self, row: &[u8]) -> Result<(), TransformError> {
        Ok(self.out.write_all(row)?)
    }

    pub(crate) fn row(&mut self, row: &[u8]) -> Result<(), TransformError> {
        match &mut self.shuffle {
            Some(shuffle) => shuffle.push(row, &mut self.random),
            None => Ok(self.out.write_all(row)?),
        }
    }

    pub(crate) fn finish(mut self) -> Result<(), TransformError> {
        if let Some(shuffle) = self.shuffle.take() {
            shuffle.finish(&mut self.random, &mut self.out)?;
        }
        self.out.out.write_all(&self.trailer)?;
        Ok(self.out.out.flush()?)
    }
}

/// Writes rows, one a call, with the separator between them.
struct Separated<'a> {
    out: BufWriter<&'a mut dyn Write>,
    separator: &'static [u8],
    any: bool,
}

impl Write for Separated<'_> {
    fn write(&mut self, row: &[u8]) -> io::Result<usize> {
        if self.any {
            self.out.write_all(self.separator)?;
        }
        self.any = true;
        self.out.write_all(row)?;
        Ok(row.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
