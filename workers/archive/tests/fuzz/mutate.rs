//! Changes bytes the way hostile and broken writers do: bits, lengths, numbers, pieces moved, repeated, nested and left out.
//!
//! Everything follows from the seed, so a run with the same seed feeds the same inputs.

/// Splitmix64: repeatable, and even enough to reach every place.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, 0 where there is none.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next_u64() % (end as u64).max(1)).unwrap()
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// A range of at most `longest` bytes inside a length.
    fn range(&mut self, length: usize, longest: usize) -> std::ops::Range<usize> {
        let from = self.below(length);
        from..from + self.below((length - from).min(longest) + 1)
    }
}

/// Bytes that mean something to readers of DER, CBOR, text and XML.
const TELLING: [u8; 24] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x17, 0x18, 0x30, 0x31, 0x7f, 0x80, 0x81, 0x82, 0x84, 0xa0, 0xbf, 0xff,
    b'<', b'>', b'&', b'\n', b'"',
];
/// Numbers at the edges of what readers count with.
const EDGES: [u64; 10] = [0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];
/// Openings of which somebody may write many.
const NESTS: [&[u8]; 5] = [&[0x30, 0x80], &[0x30, 0x84, 0x00, 0x00, 0xff, 0xff], &[0x81], &[0xa1, 0x01], b"<a>"];
/// Longest input that is fed: larger ones are refused by their size, which tests of limits show.
const LONGEST: usize = 48 * 1024;

/// The bytes, changed in one to eight ways; `other` is another input whose pieces may be taken.
pub fn mutated(bytes: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..1 + random.below(4) * random.below(3) {
        change(&mut out, other, random);
    }
    out.truncate(LONGEST);
    out
}

fn change(out: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    if out.is_empty() {
        out.extend_from_slice(&other[random.range(other.len(), 64)]);
        return;
    }
    let at = random.below(out.len());
    match random.below(12) {
        0 | 1 => out[at] ^= 1 << random.below(8),
        2 => out[at] = *random.pick(&TELLING),
        3 => out[at] = out[at].wrapping_add(if random.below(2) == 0 { 1 } else { 255 }),
        4 => edge(out, at, random),
        5 => drop(out.drain(random.range(out.len(), 64))),
        6 => out.truncate(at),
        7 => {
            let piece = out[random.range(out.len(), 256)].to_vec();
            drop(out.splice(at..at, piece));
        }
        8 if !other.is_empty() => {
            let piece = other[random.range(other.len(), 512)].to_vec();
            let end = (at + piece.len()).min(out.len());
            drop(out.splice(at..end, piece));
        }
        9 => number(out, at, random),
        10 => {
            let count = 1 << random.below(13);
            let nest = random.pick(&NESTS).repeat(count);
            drop(out.splice(at..at, nest));
        }
        _ => {
            let piece = vec![*random.pick(&TELLING); 1 + random.below(300)];
            drop(out.splice(at..at, piece));
        }
    }
}

/// A number of 1, 2, 4 or 8 bytes becomes one at an edge.
fn edge(out: &mut [u8], at: usize, random: &mut Random) {
    let width = 1 << random.below(4);
    let bytes = random.pick(&EDGES).to_be_bytes();
    for (place, byte) in out[at..].iter_mut().zip(&bytes[8 - width..]) {
        *place = *byte;
    }
}

/// Digits of a text become another number.
fn number(out: &mut Vec<u8>, at: usize, random: &mut Random) {
    let Some(from) = out[at..].iter().position(u8::is_ascii_digit).map(|from| at + from) else { return };
    let length = out[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = match random.below(4) {
        0 => "9".repeat(1 + random.below(40)),
        1 => "-1".to_owned(),
        _ => random.pick(&EDGES).to_string(),
    };
    drop(out.splice(from..from + length, text.into_bytes()));
}
