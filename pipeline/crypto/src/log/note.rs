//! Signed notes (C2SP signed-note) with the two kinds of Ed25519 signatures that a log needs: the log's own (type 0x01) and
//! a witness's timestamped cosignature (type 0x04, tlog-cosignature).
//!
//! ```text
//! text, ends in a line feed
//! <empty line>
//! — name base64(key id ‖ signature)         one line a signature
//! ```
//! Bounds: a note of at most 64 KiB with at most 64 signatures.

use super::{LogError, ensure};
use crate::hash::sha256;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// Largest note: a checkpoint is under 300 bytes and a cosignature under 200.
const NOTE_MAX: usize = 64 * 1024;
/// Most signatures: four times what every verifier must accept.
const SIGNATURES_MAX: usize = 64;
/// What a signature line begins with: an em dash and a space.
const DASH: &str = "\u{2014} ";
const KEY_LABEL: &str = "PRIVATE KEY";

/// What a key signs; part of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The log itself: the text.
    Log,
    /// A witness: the text with a time in front of it.
    Witness,
}

impl Purpose {
    fn code(self) -> u8 {
        match self {
            Purpose::Log => 0x01,
            Purpose::Witness => 0x04,
        }
    }
}

/// A public key with its name, as `name+id+key` (a "vkey").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteKey {
    name: String,
    purpose: Purpose,
    pub(super) public: [u8; 32],
}

impl NoteKey {
    fn new(name: &str, purpose: Purpose, public: [u8; 32]) -> Result<NoteKey, LogError> {
        let named = !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+');
        ensure(named, LogError::Key("a name has neither spaces nor plus signs"))?;
        Ok(NoteKey { name: name.to_owned(), purpose, public })
    }

    /// The name in signature lines; of a log, its origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The first four bytes of SHA-256(name ‖ 0x0A ‖ type ‖ public key).
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        let mut bytes = Vec::with_capacity(self.name.len() + 34);
        bytes.extend_from_slice(self.name.as_bytes());
        bytes.push(b'\n');
        bytes.push(self.purpose.code());
        bytes.extend_from_slice(&self.public);
        let digest = sha256(&bytes).0;
        [digest[0], digest[1], digest[2], digest[3]]
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.public).verify(message, signature).is_ok()
    }
}

impl fmt::Display for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![self.purpose.code()];
        key.extend_from_slice(&self.public);
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id()), STANDARD.encode(key))
    }
}

impl FromStr for NoteKey {
    type Err = LogError;

    fn from_str(text: &str) -> Result<NoteKey, LogError> {
        const SHAPE: LogError = LogError::Key("must be name+id+key");
        let (name, rest) = text.trim().split_once('+').ok_or(SHAPE)?;
        let (id, key) = rest.split_once('+').ok_or(SHAPE)?;
        let key = STANDARD.decode(key).map_err(|_| SHAPE)?;
        let (code, public) = key.split_first().ok_or(SHAPE)?;
        let purpose = match code {
            0x01 => Purpose::Log,
            0x04 => Purpose::Witness,
            _ => return Err(LogError::Key("is neither an Ed25519 key nor one for cosignatures")),
        };
        let public = public.try_into().map_err(|_| SHAPE)?;
        let key = NoteKey::new(name, purpose, public)?;
        ensure(hex::encode(key.id()) == id, LogError::Key("id and key do not belong together"))?;
        Ok(key)
    }
}

/// A private key with its name.
pub struct NoteSigner {
    key: Ed25519KeyPair,
    public: NoteKey,
}

impl NoteSigner {
    /// A new key.
    ///
    /// # Errors
    /// [`LogError::Key`] when the name has spaces or plus signs, or no key could be made.
    pub fn generate(name: &str, purpose: Purpose) -> Result<NoteSigner, LogError> {
        let key = Ed25519KeyPair::generate().map_err(|_| LogError::Key("could not be made"))?;
        NoteSigner::new(name, purpose, key)
    }

    /// A key from PKCS#8 in PEM.
    ///
    /// # Errors
    /// [`LogError::Key`] when the text is none.
    pub fn from_pem(name: &str, purpose: Purpose, pem: &str) -> Result<NoteSigner, LogError> {
        const BAD: LogError = LogError::Key("is not PKCS#8 in PEM with an Ed25519 key");
        let (label, pkcs8) = der::pem::decode_vec(pem.as_bytes()).map_err(|_| BAD)?;
        let pkcs8 = Zeroizing::new(pkcs8);
        ensure(label == KEY_LABEL, BAD)?;
        NoteSigner::new(name, purpose, Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).map_err(|_| BAD)?)
    }

    /// The key as PKCS#8 in PEM.
    ///
    /// # Errors
    /// [`LogError::Key`] when the library does not give it.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, LogError> {
        const BAD: LogError = LogError::Key("could not be written");
        let pkcs8: Pkcs8V1Der<'_> = self.key.as_der().map_err(|_| BAD)?;
        let text = der::pem::encode_string(KEY_LABEL, der::pem::LineEnding::LF, pkcs8.as_ref());
        text.map(Zeroizing::new).map_err(|_| BAD)
    }

    fn new(name: &str, purpose: Purpose, key: Ed25519KeyPair) -> Result<NoteSigner, LogError> {
        let public = key.public_key().as_ref().try_into().map_err(|_| LogError::Key("is not an Ed25519 key"))?;
        let public = NoteKey::new(name, purpose, public)?;
        Ok(NoteSigner { key, public })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &NoteKey {
        &self.public
    }

    /// A signature line over a text; a witness's says that it saw it at `time_s` (seconds since 1970), a log's ignores it.
    #[must_use]
    pub fn sign(&self, text: &str, time_s: u64) -> SignatureLine {
        let signature = match self.public.purpose {
            Purpose::Log => self.key.sign(text.as_bytes()).as_ref().to_vec(),
            Purpose::Witness => {
                let mut bytes = time_s.to_be_bytes().to_vec();
                bytes.extend_from_slice(self.key.sign(&cosigned(text, time_s)).as_ref());
                bytes
            }
        };
        SignatureLine { name: self.public.name.clone(), id: self.public.id(), signature }
    }
}

impl fmt::Debug for NoteSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoteSigner({}, ***)", self.public)
    }
}

/// What a cosignature signs.
fn cosigned(text: &str, time_s: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time_s}\n{text}").into_bytes()
}

/// One signature of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLine {
    /// The key's name.
    pub name: String,
    /// The key's id.
    pub id: [u8; 4],
    /// The signature; a cosignature begins with its time.
    pub signature: Vec<u8>,
}

impl SignatureLine {
    fn is_by(&self, key: &NoteKey) -> bool {
        self.name == key.name && self.id == key.id()
    }
}

impl fmt::Display for SignatureLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.id[..], &self.signature].concat();
        writeln!(f, "{DASH}{} {}", self.name, STANDARD.encode(bytes))
    }
}

impl FromStr for SignatureLine {
    type Err = LogError;

    /// Reads one line, with or without its line feed.
    fn from_str(line: &str) -> Result<SignatureLine, LogError> {
        const SHAPE: LogError = LogError::Note("a signature line is not — name base64");
        let rest = line.strip_suffix('\n').unwrap_or(line).strip_prefix(DASH).ok_or(SHAPE)?;
        let (name, signature) = rest.split_once(' ').ok_or(SHAPE)?;
        let bytes = STANDARD.decode(signature).map_err(|_| SHAPE)?;
        let (id, signature) = bytes.split_first_chunk::<4>().ok_or(SHAPE)?;
        ensure(!name.is_empty() && !signature.is_empty(), SHAPE)?;
        Ok(SignatureLine { name: name.to_owned(), id: *id, signature: signature.to_vec() })
    }
}

/// A text with its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The text, its last line feed included.
    pub text: String,
    /// Signatures in the order of their lines.
    pub signatures: Vec<SignatureLine>,
}

impl Note {
    /// Signs a text, which must end in a line feed.
    #[must_use]
    pub fn signed(text: String, by: &NoteSigner) -> Note {
        let signatures = vec![by.sign(&text, 0)];
        Note { text, signatures }
    }

    /// Whether this key signed it: the time of a cosignature, 0 of a log's signature; none when the key did not.
    ///
    /// # Errors
    /// [`LogError::Note`] when there is a signature under the key's name and id that does not verify.
    pub fn signed_by(&self, key: &NoteKey) -> Result<Option<u64>, LogError> {
        let mut found = None;
        for line in self.signatures.iter().filter(|line| line.is_by(key)) {
            let time = match key.purpose {
                Purpose::Log => key.verifies(self.text.as_bytes(), &line.signature).then_some(0),
                Purpose::Witness => line.signature.split_first_chunk::<8>().and_then(|(time, signature)| {
                    let time = u64::from_be_bytes(*time);
                    key.verifies(&cosigned(&self.text, time), signature).then_some(time)
                }),
            };
            found = Some(time.ok_or(LogError::Note("a known key's signature does not verify"))?);
        }
        Ok(found)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|line| line.fmt(f))
    }
}

impl FromStr for Note {
    type Err = LogError;

    fn from_str(whole: &str) -> Result<Note, LogError> {
        ensure(whole.len() <= NOTE_MAX, LogError::Note("is longer than 64 KiB"))?;
        let plain = !whole.chars().any(|c| c < ' ' && c != '\n');
        ensure(plain, LogError::Note("holds a control character"))?;
        // The last empty line parts them, so a text may hold empty lines of its own.
        let at = whole.rfind("\n\n").ok_or(LogError::Note("has no signatures"))?;
        let (text, lines) = (&whole[..=at], &whole[at + 2..]);
        ensure(lines.ends_with('\n'), LogError::Note("does not end in a line feed"))?;
        ensure(lines.lines().count() <= SIGNATURES_MAX, LogError::Note("has over 64 signatures"))?;
        let signatures = lines.lines().map(str::parse).collect::<Result<Vec<_>, _>>()?;
        Ok(Note { text: text.to_owned(), signatures })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of the signed-note specification.
    const KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const NOTE: &str = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    #[test]
    fn the_published_example_verifies_and_reads_back() {
        let (key, note): (NoteKey, Note) = (KEY.parse().unwrap(), NOTE.parse().unwrap());
        assert_eq!(note.signed_by(&key), Ok(Some(0)));
        assert_eq!((key.to_string(), note.to_string()), (KEY.to_owned(), NOTE.to_owned()));
    }

    #[test]
    fn a_known_keys_bad_signature_refuses_the_note_and_an_unknown_one_is_passed_over() {
        let signer = NoteSigner::generate("zegel.example/log", Purpose::Log).unwrap();
        let witness = NoteSigner::generate("zegel.example/log", Purpose::Witness).unwrap();
        assert_ne!(signer.public().id(), witness.public().id());
        let mut note = Note::signed("text\n".to_owned(), &signer);
        assert_eq!(note.signed_by(signer.public()), Ok(Some(0)));
        assert_eq!(note.signed_by(witness.public()), Ok(None));
        note.signatures.push(witness.sign(&note.text, 77));
        assert_eq!(note.signed_by(witness.public()), Ok(Some(77)));
        note.signatures[1].signature[0] ^= 1;
        assert!(note.signed_by(witness.public()).is_err(), "the time is signed too");
        note.text.push_str("more\n");
        assert!(note.signed_by(signer.public()).is_err());
    }

    #[test]
    fn a_key_survives_its_pem_and_its_debug_form_does_not_show_it() {
        let signer = NoteSigner::generate("w", Purpose::Witness).unwrap();
        let pem = signer.to_pem().unwrap();
        let again = NoteSigner::from_pem("w", Purpose::Witness, &pem).unwrap();
        assert_eq!(again.public(), signer.public());
        assert!(format!("{signer:?}").contains("***"));
        assert!(NoteSigner::from_pem("w", Purpose::Witness, "text").is_err());
        assert!(NoteSigner::generate("two words", Purpose::Log).is_err());
        assert!(NoteSigner::generate("a+b", Purpose::Log).is_err());
    }

    #[test]
    fn what_is_no_note_or_no_key_is_refused() {
        for text in
            ["", "text\n", "text\n\n\u{2014} a b", "text\n\n- a AAAAAAA=\n", "te\txt\n\n", "text\n\n\u{2014} a AAAA\n"]
        {
            assert!(text.parse::<Note>().is_err(), "{text:?}");
        }
        let many = format!("t\n\n{}\n", NOTE.lines().last().unwrap());
        assert!(many.parse::<Note>().is_ok());
        assert!(format!("t\n\n{}", format!("{}\n", NOTE.lines().last().unwrap()).repeat(65)).parse::<Note>().is_err());
        for key in ["", "a+b", "a+00000000+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", "a+530d903a+AQ=="] {
            assert!(key.parse::<NoteKey>().is_err(), "{key}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "(?s).{0,200}") {
            let _ = text.parse::<Note>();
            let _ = text.parse::<NoteKey>();
            let _ = format!("{text}\n\n{DASH}{text}\n").parse::<Note>();
        }
    }
}
