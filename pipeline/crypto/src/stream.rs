//! Encryption of objects while they stream: memory for one segment, whatever the size (I7).
//!
//! The STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015) over AES-256-GCM. An object is segments of 64 KiB of
//! plain text, the last one of 0 to 64 KiB, each followed by its 16-byte tag. Nonce = 7 zero bytes ‖ segment number (u32
//! BE) ‖ 1 for the last segment, else 0. So segments that are left out, swapped, repeated, appended or cut off do not
//! authenticate. Key = HKDF-SHA-256(salt = 32 random bytes of the object, master key, info "zegel-object/1"): each object
//! has a key of its own, so its nonces may count. Salt and master version travel in the object's reference.
//! Failure: reading gives `InvalidData` from the first segment on that does not authenticate, and never end of file (I8).

use crate::keyring::{Keyring, cipher};
use crate::secret::{Secret32, fill_random};
use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use aws_lc_rs::hkdf;
use schemas::Sha256;
use std::fmt;
use std::io::{self, Read, Write};
use zegel_core::KeysError;
use zeroize::Zeroizing;

/// Plain bytes of a segment: large enough that the tag and the calls cost nothing, small enough to hold many at once.
pub const SEGMENT: usize = 64 * 1024;
const TAG: usize = 16;
const INFO: &[u8] = b"zegel-object/1";

/// The key of one object, and what its reference must say so that it can be derived again.
pub struct ObjectKey {
    cipher: LessSafeKey,
    salt: Sha256,
    version: u32,
}

impl ObjectKey {
    /// The random bytes that the key is derived with.
    #[must_use]
    pub fn salt(&self) -> Sha256 {
        self.salt
    }

    /// Version of the master key that it is derived from.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    fn derive(master: &Secret32, version: u32, salt: Sha256) -> ObjectKey {
        let mut key = Zeroizing::new([0; 32]);
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, &salt.0)
            .extract(master.expose())
            .expand(&[INFO], hkdf::HKDF_SHA256)
            .and_then(|output| output.fill(&mut *key));
        assert!(derived.is_ok(), "HKDF always yields one block");
        ObjectKey { cipher: cipher(&*key), salt, version }
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectKey(***, version {})", self.version)
    }
}

impl Keyring {
    /// The key of a new object, under the current master key.
    #[must_use]
    pub fn new_object_key(&self) -> ObjectKey {
        let mut salt = Sha256([0; 32]);
        fill_random(&mut salt.0);
        let (version, master) = self.current_master();
        ObjectKey::derive(&master, version, salt)
    }

    /// The key of an object that is stored.
    ///
    /// # Errors
    /// [`KeysError::UnknownVersion`].
    pub fn object_key(&self, version: u32, salt: Sha256) -> Result<ObjectKey, KeysError> {
        Ok(ObjectKey::derive(&self.master(version)?, version, salt))
    }
}

/// Encrypts what is written to it. Without [`Encryptor::finish`] the object has no end and does not open.
pub struct Encryptor<W> {
    key: ObjectKey,
    output: W,
    /// The plain bytes of the current segment; full ones wait here until it is known that they are not the last.
    segment: Vec<u8>,
    number: u32,
    failed: bool,
}

impl<W: Write> Encryptor<W> {
    /// An object that will be written to `output`. The key must be fresh: one object under one key.
    pub fn new(key: ObjectKey, output: W) -> Encryptor<W> {
        Encryptor { key, output, segment: Vec::with_capacity(SEGMENT + TAG), number: 0, failed: false }
    }

    /// Writes the last segment and gives the output back.
    ///
    /// # Errors
    /// What the output says; also when an earlier write has failed.
    pub fn finish(mut self) -> io::Result<W> {
        self.write_segment(true)?;
        Ok(self.output)
    }

    fn write_segment(&mut self, last: bool) -> io::Result<()> {
        // Part of a segment may have been written: going on would repeat its nonce over other bytes.
        if self.failed {
            return Err(io::Error::other("an earlier write of this object failed"));
        }
        self.failed = true;
        let nonce = nonce(self.number, last);
        let tag = self.key.cipher.seal_in_place_separate_tag(nonce, Aad::empty(), &mut self.segment);
        let tag = tag.map_err(|_| io::Error::other("segment could not be encrypted"))?;
        self.segment.extend_from_slice(tag.as_ref());
        self.output.write_all(&self.segment)?;
        self.segment.clear();
        self.number = self.number.checked_add(1).ok_or(io::ErrorKind::FileTooLarge)?;
        self.failed = false;
        Ok(())
    }
}

impl<W: Write> Write for Encryptor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.segment.len() >= SEGMENT {
            self.write_segment(false)?;
        }
        let taken = bytes.len().min(SEGMENT - self.segment.len());
        self.segment.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// Flushes the output; the current segment stays here, because only full ones may leave before the last.
    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// Decrypts an object while it is read. End of file means that the whole object was authentic.
pub struct Decryptor<R> {
    key: ObjectKey,
    input: R,
    /// One segment with its tag, and the byte after it, which tells whether it is the last.
    buffer: Vec<u8>,
    /// The byte that was read past the previous segment.
    ahead: Option<u8>,
    /// Where the plain bytes that were not handed out yet stand in the buffer.
    start: usize,
    end: usize,
    number: u32,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    More,
    Ended,
    Failed,
}

impl<R: Read> Decryptor<R> {
    /// Reads the object that `input` holds from its beginning.
    pub fn new(key: ObjectKey, input: R) -> Decryptor<R> {
        let buffer = vec![0; SEGMENT + TAG + 1];
        Decryptor { key, input, buffer, ahead: None, start: 0, end: 0, number: 0, state: State::More }
    }

    /// The input, for whoever measured or hashed what passed.
    pub fn get_ref(&self) -> &R {
        &self.input
    }

    fn next_segment(&mut self) -> io::Result<()> {
        let carried = match self.ahead.take() {
            Some(byte) => {
                self.buffer[0] = byte;
                1
            }
            None => 0,
        };
        let length = carried + read_up_to(&mut self.input, &mut self.buffer[carried..])?;
        let last = length <= SEGMENT + TAG;
        if !last {
            self.ahead = Some(self.buffer[SEGMENT + TAG]);
        }
        let sealed = &mut self.buffer[..length.min(SEGMENT + TAG)];
        let plain = self.key.cipher.open_in_place(nonce(self.number, last), Aad::empty(), sealed);
        self.end = plain.map_err(|_| unauthentic())?.len();
        self.start = 0;
        self.number = self.number.checked_add(1).ok_or_else(unauthentic)?;
        self.state = if last { State::Ended } else { State::More };
        Ok(())
    }
}

impl<R: Read> Read for Decryptor<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.start == self.end {
            match self.state {
                _ if out.is_empty() => return Ok(0),
                State::Ended => return Ok(0),
                State::Failed => return Err(unauthentic()),
                State::More => {
                    self.state = State::Failed;
                    self.next_segment()?;
                }
            }
        }
        let taken = out.len().min(self.end - self.start);
        out[..taken].copy_from_slice(&self.buffer[self.start..self.start + taken]);
        self.start += taken;
        Ok(taken)
    }
}

fn nonce(number: u32, last: bool) -> Nonce {
    let mut bytes = [0; 12];
    bytes[7..11].copy_from_slice(&number.to_be_bytes());
    bytes[11] = u8::from(last);
    Nonce::assume_unique_for_key(bytes)
}

fn unauthentic() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, KeysError::Authentication)
}

/// Reads until the buffer is full or the input ends.
fn read_up_to(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match input.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests;
