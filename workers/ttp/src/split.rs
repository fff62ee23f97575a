//! A split batch: what the TTP works on, and what passes through sealed for the recipient.
//!
//! Form: POSIX tar (any program makes and reads it) with two regular files in this order: the identifiers, in the project's format, under any
//! name, and [`SEALED_NAME`], DER of CMS EnvelopedData as [`zegel_crypto::envelope`] lets it pass, up to [`SEALED_MAX`]. Then zeros.
//! Invariants (I4, I8): nothing of the sealed part is opened, and nothing of the container crosses but the two contents: no name, time or
//! owner of a file. A sealed part that could name its sender, or is for anybody else, refuses the whole.
//! Memory: the sealed part, because it may pass only when its last byte was seen; identifiers are streamed.

use crate::refusal::{TransformError, refusal};
use std::io::{self, BufRead, Read, Write};
use zegel_crypto::envelope::SealedFor;

/// The name of the sealed part, in the container and in what is delivered.
pub const SEALED_NAME: &str = "medical.p7m";
/// Its media type (RFC 8551).
pub const SEALED_MIME: &str = "application/pkcs7-mime";
/// The largest sealed part: as large as a signed batch.
pub const SEALED_MAX: u64 = 16 << 20;
const BLOCK: usize = 512;
/// The largest size that the eleven octal digits of a header hold.
const SIZE_MAX: u64 = (1 << 33) - 1;

/// Reads a container: `identifiers` takes the first content to its end; the second, when it may pass, goes into `sealed`.
///
/// # Errors
/// A refusal when the container is not of its form or the sealed part may not pass, and whatever `identifiers` says.
pub(crate) fn read<T>(
    input: &mut dyn BufRead,
    recipient: &SealedFor,
    sealed: &mut dyn Write,
    identifiers: impl FnOnce(&mut dyn BufRead) -> Result<T, TransformError>,
) -> Result<T, TransformError> {
    let (_, size) = next(input)?.ok_or_else(form)?;
    let mut part = (&mut *input).take(size);
    let done = identifiers(&mut part)?;
    io::copy(&mut part, &mut io::sink())?;
    if part.limit() > 0 {
        return Err(form());
    }
    skip(input, size)?;
    let (name, size) = next(input)?.ok_or_else(form)?;
    if name != SEALED_NAME.as_bytes() {
        return Err(form());
    }
    if size > SEALED_MAX {
        return Err(refusal("ZGL-TTP-SIZE", "a sealed part is at most 16 MiB: send it in several batches").into());
    }
    let mut bytes = Vec::new();
    (&mut *input).take(size).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != size {
        return Err(form());
    }
    skip(input, size)?;
    recipient
        .check(&bytes)
        .map_err(|error| refusal("ZGL-TTP-SEALED", format!("the sealed part cannot pass: {error}")))?;
    if next(input)?.is_some() {
        return Err(form());
    }
    sealed.write_all(&bytes)?;
    Ok(done)
}

/// A container of these contents; none when one is larger than a header can say.
#[must_use]
pub fn container(identifiers: (&str, &[u8]), sealed: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(identifiers.1.len() + sealed.len() + 6 * BLOCK);
    for (name, content) in [identifiers, (SEALED_NAME, sealed)] {
        out.extend_from_slice(&header(name, content.len() as u64)?);
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    Some(out)
}

fn form() -> TransformError {
    let text = format!("the project is split, and the batch is not a tar file of identifiers and {SEALED_NAME}");
    refusal("ZGL-TTP-FORMAT", text).into()
}

/// Name and size of the next file; none where only zeros follow.
fn next(input: &mut dyn BufRead) -> Result<Option<(Vec<u8>, u64)>, TransformError> {
    let mut block = [0; BLOCK];
    match input.read_exact(&mut block) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(form()),
        other => other?,
    }
    if block == [0; BLOCK] {
        return only_zeros(input).map(|()| None);
    }
    let sum: u64 =
        block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) }).sum();
    let is_file = matches!(block[156], b'0' | 0);
    let size = octal(&block[124..136]).filter(|_| is_file && octal(&block[148..156]) == Some(sum)).ok_or_else(form)?;
    let name = block[..100].split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    Ok(Some((name, size)))
}

fn only_zeros(input: &mut dyn BufRead) -> Result<(), TransformError> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        if buffer.iter().any(|byte| *byte != 0) {
            return Err(form());
        }
        let count = buffer.len();
        input.consume(count);
    }
}

/// Skips what fills the last block of a content.
fn skip(input: &mut dyn BufRead, size: u64) -> Result<(), TransformError> {
    let filler = size.next_multiple_of(BLOCK as u64) - size;
    let skipped = io::copy(&mut (&mut *input).take(filler), &mut io::sink())?;
    if skipped == filler { Ok(()) } else { Err(form()) }
}

fn octal(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.trim_matches(['\0', ' ']);
    u64::from_str_radix(text, 8).ok().filter(|number| *number <= SIZE_MAX)
}

fn header(name: &str, size: u64) -> Option<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    let mut put = |from: usize, text: &str| block[from..from + text.len()].copy_from_slice(text.as_bytes());
    if name.len() > 99 || size > SIZE_MAX {
        return None;
    }
    put(0, name);
    for (from, text) in [(100, "0000600\0"), (108, "0000000\0"), (116, "0000000\0"), (136, "00000000000\0")] {
        put(from, text);
    }
    put(124, &format!("{size:011o}\0"));
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(block)
}
