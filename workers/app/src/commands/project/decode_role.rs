//! The decode role: whoever has its private key undoes what a project escrows, with this program or beside the platform.
//!
//! `zegel project decode-key` makes the key pair; the public half goes into the document, the private half stays with the role.
//! `zegel project decode` needs the document and that key, and no data folder.
//! Failure behaviour: a key that others may read is refused, and a value that the key does not open refuses the whole, by row and code.

use super::preview;
use crate::cli::Decode;
use crate::failed::{Failed, at};
use crate::folder::write_private;
use crate::term::Report;
use serde_json::json;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zegel_core::Keys;
use zegel_crypto::Keyring;
use zegel_crypto::hpke::OpenKey;
use zegel_ttp::{CompiledProject, ProjectDocument, TransformError, restore};
use zeroize::Zeroizing;

/// Read and written at a time.
const BUFFER: usize = 256 << 10;

/// Makes a key pair: `OUT.key` and `OUT.pub`.
///
/// # Errors
/// A file is there already or cannot be written.
pub fn make(out: &Path) -> Result<Report, Failed> {
    let key = OpenKey::generate();
    let [private, public] = ["key", "pub"].map(|ending| out.with_extension(ending));
    for path in [&private, &public] {
        if path.exists() {
            return Err(Failed::Usage(format!("{} is there already", path.display())));
        }
    }
    write_private(&private, &key.to_pem())?;
    fs::write(&public, key.public().to_pem()).map_err(at(&public))?;
    let told = format!(
        "{} stays with the decode role: what is sealed opens with nothing else\n{} goes into documents as decode_key",
        private.display(),
        public.display()
    );
    Ok(Report::new(json!({ "private": private, "public": public }), told))
}

/// Undoes what was escrowed in a data set; everything else stays as it is.
///
/// # Errors
/// The document or the key cannot be used, a file not be read or written.
pub fn decode(wanted: &Decode) -> Result<Report, Failed> {
    let text = fs::read_to_string(&wanted.project).map_err(at(&wanted.project))?;
    let document = ProjectDocument::parse(&text).map_err(|error| Failed::Usage(error.to_string()))?;
    let sender = document.senders[0].clone();
    let project = CompiledProject::decode_only(document, read(&wanted.key)?);
    let project = project.map_err(|error| Failed::Usage(error.to_string()))?;
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&wanted.out);
    let file = created.map_err(at(&wanted.out))?;
    let keys = Keyring::generate_in_memory();
    let mut random = |bytes: &mut [u8]| keys.random(bytes);
    let mut every = |_: u64, _: &str, _: &str| true;
    let mut input = BufReader::with_capacity(BUFFER, File::open(&wanted.batch).map_err(at(&wanted.batch))?);
    let mut output = BufWriter::with_capacity(BUFFER, file);
    let done = restore(&project, &sender, &mut input, &mut output, &mut random, &mut every);
    let outcome = match done {
        Ok(summary) => output.flush().map(|()| Ok(summary)).map_err(at(&wanted.out)),
        Err(TransformError::Refused(reason)) => Ok(Err(*reason)),
        Err(TransformError::Io(error) | TransformError::Scratch(error)) => Err(at(&wanted.batch)(error)),
    };
    if !matches!(outcome, Ok(Ok(_))) {
        // A part of a data set is none.
        fs::remove_file(&wanted.out).map_err(at(&wanted.out))?;
    }
    Ok(preview::report(outcome?, &format!("decoded in {}", wanted.out.display())))
}

/// Reads every private key of the settings.
///
/// # Errors
/// As [`read`].
pub fn read_all(files: &[PathBuf]) -> Result<Vec<Arc<OpenKey>>, Failed> {
    files.iter().map(|path| read(path)).collect()
}

/// Reads a private key that nobody else may read.
///
/// # Errors
/// When it cannot be read, others may read it, or it is no X25519 key in PEM.
fn read(path: &Path) -> Result<Arc<OpenKey>, Failed> {
    let file = File::open(path).map_err(at(path))?;
    let mode = file.metadata().map_err(at(path))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Failed::Usage(format!("{}: others may read this key; chmod 600 it", path.display())));
    }
    let text = Zeroizing::new(io::read_to_string(file).map_err(at(path))?);
    let key = OpenKey::from_pem(&text).map_err(|error| Failed::Usage(format!("{}: {error}", path.display())))?;
    Ok(Arc::new(key))
}
