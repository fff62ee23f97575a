//! Proofs that an archive's bags stand in the platform's log, added to the archive: each with the checkpoint of the time and
//! the cosignatures of its witnesses.
//!
//! The log is read as anybody reads it, by its tiles; where it gives a wrong hash, the proof leads nowhere and is not archived.
//! A platform without a log has no proofs to give, which is no failure.

use super::archive::{fetched, offered};
use crate::client::Client;
use crate::failed::Failed;
use std::collections::HashMap;
use std::path::Path;
use zegel_archive::reader::Archive;
use zegel_archive::record::Bag;
use zegel_archive::writer::Writer;
use zegel_crypto::hash::sha256;
use zegel_crypto::log::entry::{Entry, Kind};
use zegel_crypto::log::proof::{Prover, TileSource};
use zegel_crypto::log::tiles::{Tile, WIDTH, decode_bundle};
use zegel_crypto::log::{Checkpoint, LogError, LogProof, Note, Resource};
use zegel_crypto::merkle::{InclusionProof, leaf_hash};
use zegel_crypto::tsa::token_of;

/// Adds the proofs that are missing; how many.
///
/// # Errors
/// The platform is away, the archive cannot be read or written, or the log is not of its form.
pub fn export(client: &Client, folder: &Path, writer: &mut Writer) -> Result<u64, Failed> {
    let Some(note) = offered(client, "/log/checkpoint")? else { return Ok(0) };
    let broken = |error: LogError| Failed::Failure(format!("the platform's log cannot be used: {error}"));
    let note = String::from_utf8(note).map_err(|_| Failed::Failure("the log's checkpoint is no text".to_owned()))?;
    let checkpoint: Checkpoint = note.parse::<Note>().and_then(|note| note.text.parse()).map_err(broken)?;
    let archive = Archive::open(folder)?;
    let proofs = archive.log_proofs()?;
    let mut wanted = wanted(&archive, &proofs)?;
    let newest = proofs.values().filter_map(|text| text.parse::<LogProof>().ok()).map(|proof| proof.index).max();
    let mut prover = Prover::new(Tiles(client), checkpoint.size);
    let mut added = 0;
    let mut bundle = newest.map_or(0, |index| index / WIDTH);
    // Bags join the log in the order of their numbers, so nothing that is wanted lies before the newest proof.
    while let Some(tile) = Tile::of(0, bundle, checkpoint.size).filter(|_| !wanted.is_empty()) {
        let bytes = fetched(client, &format!("/log/{}", Resource::Entries(tile)))?;
        for (index, entry) in (bundle * WIDTH..).zip(decode_bundle(&tile, &bytes).map_err(broken)?) {
            let Some(sequence) = wanted.remove(entry) else { continue };
            let InclusionProof { path, size, .. } = prover.inclusion(index)?;
            let proof = InclusionProof { index, size, path };
            if !proof.leads(&leaf_hash(entry), &checkpoint.root) {
                return Err(Failed::Failure(format!("bag {sequence}: the log's tiles do not lead to its root")));
            }
            let proof = LogProof { index, path: proof.path, checkpoint: note.clone() };
            writer.append_log_proof(sequence, &proof.to_string())?;
            added += 1;
        }
        bundle += 1;
    }
    Ok(added)
}

/// The entries that the log must hold for bags without a proof, with their sequence.
fn wanted(archive: &Archive, proofs: &HashMap<u64, String>) -> Result<HashMap<Vec<u8>, u64>, Failed> {
    let mut wanted = HashMap::new();
    let without: Vec<u64> =
        archive.bags().map(|(_, slot)| slot.sequence).filter(|sequence| !proofs.contains_key(sequence)).collect();
    for sequence in without {
        let body = archive.bag_body(sequence)?;
        // A bag or token that cannot be read is the audit's finding.
        let Ok(bag) = Bag::decode(&body) else { continue };
        let Ok(token) = token_of(bag.tsr) else { continue };
        let entry = Entry { kind: Kind::Platform, subject: sha256(bag.header), token: sha256(&token) };
        wanted.insert(entry.encode().to_vec(), sequence);
    }
    Ok(wanted)
}

/// The log's tiles over HTTP.
pub struct Tiles<'a>(pub &'a Client);

/// Why a tile did not come.
pub struct NoTile(Failed);

impl From<LogError> for NoTile {
    fn from(error: LogError) -> NoTile {
        NoTile(Failed::Failure(format!("the platform's log cannot be used: {error}")))
    }
}

impl From<NoTile> for Failed {
    fn from(NoTile(failed): NoTile) -> Failed {
        failed
    }
}

impl TileSource for Tiles<'_> {
    type Error = NoTile;

    fn tile(&mut self, tile: Tile) -> Result<Vec<u8>, NoTile> {
        fetched(self.0, &format!("/log/{}", Resource::Hashes(tile))).map_err(NoTile)
    }
}
