//! The platform over HTTP, as the hospital's agent asks it: every failure is "away", because the agent asks again for ever.

use crate::client::{Client, list, number, text};
use crate::commands::archive::{fetched, offered};
use crate::commands::archive_log;
use crate::failed::Failed;
use schemas::messages::EntryAnswer;
use schemas::{MailboxAddress, Sha256};
use serde_json::{Value, json};
use std::path::Path;
use zegel_archive::writer::Writer;
use zegel_hospital::{Away, OwnBag, Platform, RawBag};

/// Refusals of a token, which asking again does not mend.
const DENIALS: [&str; 2] = ["ZGL-AUTH-TOKEN", "ZGL-AUTH-ROLE"];

/// Finds the platform: its address may be another after it was started again.
pub type Connect = Box<dyn Fn() -> Result<Client, Failed>>;

/// See the module.
pub struct Remote {
    hospital: MailboxAddress,
    connect: Connect,
}

impl Remote {
    /// The platform as this hospital sees it.
    pub fn new(hospital: MailboxAddress, connect: Connect) -> Remote {
        Remote { hospital, connect }
    }

    fn client(&self) -> Result<Client, Away> {
        Ok((self.connect)().map_err(away)?.impatient())
    }
}

impl Platform for Remote {
    fn enrol(&self, salted: bool) -> Result<(), Away> {
        let body = json!({ "hospital": self.hospital, "salted": salted });
        self.client()?.post("/v1/timestamp/hospitals", &body).map(drop).map_err(away)
    }

    fn offer(&self, entries: &[(u64, Sha256)]) -> Result<Vec<EntryAnswer>, Away> {
        let entries: Vec<Value> =
            entries.iter().map(|(reference, hash)| json!({ "ref": reference, "hash": hash })).collect();
        let body = json!({ "hospital": self.hospital, "entries": entries });
        let answer = self.client()?.post_answered("/v1/timestamp/entries", &body).map_err(away)?;
        let unreadable = |_| Away::for_now("the platform's answer to entries has another shape");
        list(&answer, "answers").iter().map(|one| serde_json::from_value(one.clone()).map_err(unreadable)).collect()
    }

    fn bag(&self, sequence: u64) -> Result<Option<RawBag>, Away> {
        let client = self.client()?;
        let from = sequence.to_string();
        let pairs = [("from", from.as_str()), ("limit", "1")];
        let page = client.get(&format!("/v1/timestamp/bags/{}", self.hospital), &pairs).map_err(away)?;
        let Some(bag) = list(&page, "bags").first() else { return Ok(None) };
        if number(bag, "sequence") != sequence {
            return Err(Away::for_now(format!("the platform lists no bag {sequence}, but a later one")));
        }
        let part = |kind: &str| fetched(&client, text(bag, kind)).map_err(away);
        Ok(Some(RawBag { header: part("header")?, xml: part("xml")?, tsr: part("tsr")? }))
    }

    fn materials(&self) -> Result<Vec<(String, Vec<u8>)>, Away> {
        let client = self.client()?;
        let mut found = vec![("ca.pem".to_owned(), fetched(&client, "/v1/timestamp/ca.pem").map_err(away)?)];
        let list = offered(&client, "/v1/timestamp/ca.crl").map_err(away)?;
        found.extend(list.map(|list| ("ca.crl".to_owned(), list)));
        Ok(found)
    }

    fn has_own_bags(&self) -> Result<bool, Away> {
        let page = self.client()?.get(&format!("/v1/timestamp/own-bags/{}", self.hospital), &[("limit", "1")]);
        Ok(!list(&page.map_err(away)?, "bags").is_empty())
    }

    fn own_bag(&self, digest: &Sha256) -> Result<Option<OwnBag>, Away> {
        let client = self.client()?;
        let part = |kind: &str| {
            let path = format!("/v1/timestamp/own-bags/{}/{digest}.{kind}", self.hospital);
            offered(&client, &path).map_err(away)
        };
        Ok(part("xml")?.zip(part("tsr")?).map(|(bytes, tsr)| OwnBag { bytes, tsr }))
    }

    fn prove(&self, archive: &Path, writer: &mut Writer) -> Result<u64, Away> {
        archive_log::export(&self.client()?, archive, writer).map_err(away)
    }
}

fn away(failed: Failed) -> Away {
    let denied = match &failed {
        Failed::Refused { code, .. } if DENIALS.contains(&code.as_str()) => Some(code.clone()),
        _ => None,
    };
    Away { why: failed.to_string(), denied }
}
