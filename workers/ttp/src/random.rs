//! Unbiased random numbers from an injected source of bytes.

/// Bytes drawn at a time: few calls of the source, little waste for a small batch.
const POOL: usize = 256;

/// Draws numbers.
pub(crate) struct Random<'a> {
    fill: &'a mut dyn FnMut(&mut [u8]),
    pool: [u8; POOL],
    used: usize,
}

impl<'a> Random<'a> {
    pub(crate) fn new(fill: &'a mut dyn FnMut(&mut [u8])) -> Random<'a> {
        Random { fill, pool: [0; POOL], used: POOL }
    }

    /// A number below `bound`, each equally likely (Lemire's method: draws again where a remainder would be favoured).
    /// `bound` is 1 to 2^32.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        debug_assert!((1..=1 << 32).contains(&bound));
        let favoured = (1u64 << 32) % bound;
        loop {
            let product = u64::from(self.next()) * bound;
            if product & 0xFFFF_FFFF >= favoured {
                return usize::try_from(product >> 32).unwrap_or(0);
            }
        }
    }

    /// Puts what is in `all` into a random order, each equally likely (Fisher-Yates). At most 2^32 of them.
    pub(crate) fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            let other = self.below(last + 1);
            all.swap(last, other);
        }
    }

    /// Fills `out` with random bytes.
    pub(crate) fn bytes(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(4) {
            let bytes = self.next().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }

    fn next(&mut self) -> u32 {
        if self.used == POOL {
            (self.fill)(&mut self.pool);
            self.used = 0;
        }
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.pool[self.used..self.used + 4]);
        self.used += 4;
        u32::from_le_bytes(bytes)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A repeatable source of bytes.
    #[allow(clippy::cast_possible_truncation)] // the top byte is what is wanted
    pub(crate) fn source(seed: u64) -> impl FnMut(&mut [u8]) {
        let mut state = seed;
        move |out: &mut [u8]| {
            for byte in out {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (state >> 56) as u8;
            }
        }
    }

    #[test]
    fn no_number_is_favoured() {
        let mut fill = source(1);
        let mut random = Random::new(&mut fill);
        let mut counts = [0u32; 7];
        (0..70_000).for_each(|_| counts[random.below(7)] += 1);
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        assert_eq!(random.below(1), 0);
    }
}
