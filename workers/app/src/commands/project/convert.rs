//! `zegel project rotate NAME --convert FILE`: tokens of earlier generations in a recipient's data set, made anew with the keys in
//! force, with a manifest that the officer signs.
//!
//! The folder's key file and papers are read, also while a platform runs; nothing of the data set is sent anywhere. The manifest
//! (TOML) names both files by SHA-256, so that the recipient can tell later which file became which.
//! Failure behaviour: a token that says it is this project's and does not authenticate stops the whole; nothing is left then.

use super::papers::failure;
use crate::cli::Rotate;
use crate::commands::Place;
use crate::failed::{Failed, at};
use crate::register::FileRegister;
use crate::term::Report;
use schemas::{Millis, Sha256};
use serde::Serialize;
use serde_json::json;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zegel_core::clock::SystemClock;
use zegel_core::{Clock, Keys};
use zegel_crypto::Keyring;
use zegel_crypto::hash::Hasher;
use zegel_crypto::signed::Identity;
use zegel_ttp::convert::{Converter, Counts};

/// Read and written at a time.
const BUFFER: usize = 256 << 10;

/// One file of the manifest.
#[derive(Serialize)]
struct Described {
    bytes: u64,
    sha256: Sha256,
}

/// What the officer signs.
#[derive(Serialize)]
struct Manifest<'a> {
    form: u32,
    project: &'a str,
    /// Commitment to the key root, as the register has it.
    root: Sha256,
    epoch: u32,
    at: String,
    input: Described,
    output: Described,
    tokens: Counts,
}

/// Converts a data set, or counts what would be converted.
///
/// # Errors
/// The project's papers or keys do not hold, a file cannot be read or written, the output exists, or a token is damaged.
pub fn convert(place: &Place, wanted: &Rotate, input: &Path) -> Result<Report, Failed> {
    let out = match (&wanted.out, wanted.dry_run) {
        (Some(out), _) => Some(out.as_path()),
        (None, true) => None,
        (None, false) => return Err(Failed::Usage("--convert needs --out FILE, or --dry-run".to_owned())),
    };
    let now = SystemClock.now();
    let officer = Identity::load(&wanted.identity.key, &wanted.identity.certificate).map_err(failure)?;
    let folder = place.folder()?;
    let keys = Arc::new(folder.open_keys()?);
    let register = FileRegister::new(folder.projects(), keys.clone(), Arc::new(SystemClock));
    let held = register.held(&wanted.name)?;
    if !held.officers.contains(&officer.certificate().map_err(failure)?) {
        return Err(Failed::refused("ZGL-TTP-FILING", "the certificate is no officer's of this installation"));
    }
    let converter = Converter::new(held.documents.values(), held.root.expose(), held.epoch);
    let mut converter = converter.map_err(|error| Failed::refused("ZGL-TTP-FILING", error.to_string()))?;
    let target = out.filter(|_| !wanted.dry_run);
    let (input, output, tokens) = copy(&mut converter, &keys, input, target)?;
    let json = json!({ "project": wanted.name, "epoch": held.epoch, "tokens": tokens, "dry_run": wanted.dry_run });
    let Some(out) = target else {
        return Ok(Report::new(json, format!("{}; nothing was written", told(&tokens))));
    };
    let root = held.root.commitment();
    let at = chrono::DateTime::from_timestamp_millis(now.0).map(|at| at.to_rfc3339()).unwrap_or_default();
    let manifest = Manifest { form: 1, project: &wanted.name, root, epoch: held.epoch, at, input, output, tokens };
    let manifest = write_manifest(out, &manifest, &officer, now)?;
    Ok(Report::new(json, format!("{}\nsigned manifest: {}", told(&tokens), manifest.display())))
}

fn told(tokens: &Counts) -> String {
    let mut text = format!("{} tokens made anew", tokens.converted());
    let rest = [
        (tokens.present, "were of the present keys"),
        (tokens.one_way, "are one-way and stay as they are: they link with nothing that is delivered from now on"),
        (tokens.foreign, "are of other projects and stay as they are"),
    ];
    for (count, what) in rest.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!("; {count} {what}"));
    }
    text
}

/// Converts one file into another, which appears only when it is whole.
fn copy(
    converter: &mut Converter,
    keys: &Keyring,
    input: &Path,
    out: Option<&Path>,
) -> Result<(Described, Described, Counts), Failed> {
    if let Some(out) = out.filter(|out| out.exists()) {
        return Err(Failed::Usage(format!("{} exists: it would be replaced", out.display())));
    }
    let mut source = Hashing::new(File::open(input).map_err(at(input))?);
    let mut reader = BufReader::with_capacity(BUFFER, &mut source);
    let mut random = |bytes: &mut [u8]| keys.random(bytes);
    let temporary = out.map(|out| beside(out, "new"));
    let sink: Box<dyn Write> = match &temporary {
        Some(path) => {
            Box::new(OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(at(path))?)
        }
        None => Box::new(io::sink()),
    };
    let mut output = BufWriter::with_capacity(BUFFER, Hashing::new(sink));
    let done = run(converter, &mut reader, &mut output, &mut random).and_then(|counts| {
        if let (Some(temporary), Some(out)) = (&temporary, out) {
            File::open(temporary).and_then(|file| file.sync_all()).map_err(at(temporary))?;
            fs::rename(temporary, out).map_err(at(out))?;
        }
        Ok(counts)
    });
    if done.is_err()
        && let Some(temporary) = &temporary
    {
        let _gone = fs::remove_file(temporary);
    }
    let counts = done?;
    Ok((source.described(), output.into_inner().map_err(failure)?.described(), counts))
}

fn run(
    converter: &mut Converter,
    reader: &mut dyn BufRead,
    output: &mut BufWriter<Hashing<Box<dyn Write>>>,
    random: &mut dyn FnMut(&mut [u8]),
) -> Result<Counts, Failed> {
    let counts = converter.run(reader, output, random)?;
    output.flush()?;
    if counts.damaged > 0 {
        let text = format!("{} tokens of this project do not authenticate: the file was changed", counts.damaged);
        return Err(Failed::refused("ZGL-ROW-TOKEN", text));
    }
    Ok(counts)
}

/// Writes the manifest and its signature beside the converted file.
fn write_manifest(out: &Path, manifest: &Manifest<'_>, officer: &Identity, now: Millis) -> Result<PathBuf, Failed> {
    let text = toml::to_string(manifest).map_err(failure)?;
    let signature = officer.sign(text.as_bytes(), now).map_err(failure)?;
    let path = beside(out, "manifest.toml");
    fs::write(&path, text).map_err(at(&path))?;
    let signed = beside(out, "manifest.toml.p7s");
    fs::write(&signed, signature).map_err(at(&signed))?;
    Ok(path)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{ending}"));
    name.into()
}

/// Counts and hashes what passes.
struct Hashing<T> {
    inner: T,
    hasher: Hasher,
    bytes: u64,
}

impl<T> Hashing<T> {
    fn new(inner: T) -> Hashing<T> {
        Hashing { inner, hasher: Hasher::new(), bytes: 0 }
    }

    fn saw(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    fn described(self) -> Described {
        Described { bytes: self.bytes, sha256: self.hasher.finish() }
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.saw(&buffer[..count]);
        Ok(count)
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.saw(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
