//! `zegel dead`: messages that were given up.

use super::{Place, every};
use crate::cli::{Dead, Server};
use crate::client::{Client, escape, number, text};
use crate::failed::Failed;
use crate::term::{Report, row, table};
use serde_json::{Value, json};

/// Lists, shows, replays or drops.
///
/// # Errors
/// The platform refuses or is away.
pub fn run(place: &Place, wanted: &Dead) -> Result<Report, Failed> {
    let operator = |server: &Server| place.folder()?.operator(server);
    match wanted {
        Dead::List { server, channel } => {
            if channel.as_ref().is_some_and(|name| topology::CHANNELS.iter().all(|known| known.name != name)) {
                return Err(Failed::Usage("--channel must be one of those that `zegel topology` lists".to_owned()));
            }
            list(&operator(server)?, channel.as_deref())
        }
        Dead::Show { server, letter } => {
            path_of(letter)?;
            show(&operator(server)?, letter)
        }
        Dead::Replay { server, letter, dry_run } => {
            let path = format!("/v1/dead/{}/replay", path_of(letter)?);
            let answer = operator(server)?.post(&path, &json!({ "dry_run": dry_run }))?;
            let verb = if *dry_run { "would be replayed" } else { "replayed" };
            let told = format!("{letter} ({}) {verb}", text(&answer, "type"));
            Ok(Report::new(answer, told))
        }
        Dead::Drop { server, letter } => {
            let path = format!("/v1/dead/{}", path_of(letter)?);
            operator(server)?.delete(&path)?;
            Ok(Report::new(json!({ "dropped": letter }), format!("{letter} dropped")))
        }
    }
}

fn list(client: &Client, channel: Option<&str>) -> Result<Report, Failed> {
    let mut rows = vec![row(["LETTER", "CODE", "ATTEMPTS", "BYTES", "ID"])];
    let mut all = Vec::new();
    every(client, "/v1/dead", "dead", "after", |letter| {
        if channel.is_none_or(|channel| text(letter, "channel") == channel) {
            let (attempts, bytes) = (number(letter, "attempts").to_string(), number(letter, "bytes").to_string());
            rows.push(row([&name(letter), text(letter, "code"), &attempts, &bytes, text(letter, "id")]));
            all.push(letter.clone());
        }
        Ok(())
    })?;
    let told = if all.is_empty() { "no dead letters".to_owned() } else { table(&rows) };
    Ok(Report::new(json!({ "dead": all }), told))
}

fn show(client: &Client, wanted: &str) -> Result<Report, Failed> {
    let mut found = None;
    every(client, "/v1/dead", "dead", "after", |letter| {
        if name(letter) == wanted {
            found = Some(letter.clone());
        }
        Ok(())
    })?;
    let letter = found.ok_or_else(|| Failed::refused("ZGL-NOT-FOUND", "no such dead letter (any more)"))?;
    let told = format!("{letter:#}");
    Ok(Report::new(letter, told))
}

fn name(letter: &Value) -> String {
    format!("{}/{}/{}", text(letter, "channel"), number(letter, "partition"), number(letter, "number"))
}

fn path_of(letter: &str) -> Result<String, Failed> {
    let parts: Vec<&str> = letter.split('/').collect();
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match parts[..] {
        [channel, partition, number] if digits(partition) && digits(number) => {
            Ok(format!("{}/{partition}/{number}", escape(channel)))
        }
        _ => Err(Failed::Usage("a dead letter is CHANNEL/PARTITION/NUMBER, like ttp.inbound/3/17".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letters_name_is_its_place_and_nothing_else() {
        assert_eq!(path_of("ttp.inbound/3/17").ok().as_deref(), Some("ttp.inbound/3/17"));
        assert_eq!(path_of("a b/3/17").ok().as_deref(), Some("a%20b/3/17"));
        for wrong in ["ttp.inbound", "ttp.inbound/3", "ttp.inbound/3/x", "ttp.inbound/../17", "a/b/3/17"] {
            assert!(path_of(wrong).is_err(), "{wrong}");
        }
    }
}
