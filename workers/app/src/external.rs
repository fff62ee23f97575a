//! An external time-stamp authority over HTTP (RFC 3161 section 3.4), instead of our own.
//!
//! Every token is verified before it is used: signature, path to the roots of the settings, imprint, and the nonce of the
//! request, so that nobody on the way can play an old one. Without TLS in this program the URL is `http://`; that is safe
//! for what is asked (hashes of bags) and for what comes back (verified), and only delays can be forced.
//! Failure behaviour: whatever goes wrong is worth another attempt; bags wait in order and are stamped later.

use schemas::{Millis, Sha256};
use std::io::Read;
use std::time::Duration;
use ureq::Agent;
use zegel_crypto::secret::random_u64;
use zegel_crypto::tsa::{Digest, Request, Roots};
use zegel_timestamp::{StampError, Stamped, Stamper};

/// Longest response: a token with a whole chain takes 10 KiB.
const RESPONSE_MAX: u64 = 64 * 1024;
/// How long one stamp may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks one authority.
pub struct ExternalAuthority {
    url: String,
    roots: Roots,
    agent: Agent,
}

impl ExternalAuthority {
    /// The authority at this URL, whose tokens lead to these roots.
    pub fn new(url: &str, roots: Roots) -> ExternalAuthority {
        let config = Agent::config_builder().timeout_global(Some(PATIENCE)).build();
        ExternalAuthority { url: url.to_owned(), roots, agent: config.into() }
    }

    fn ask(&self, request: &[u8]) -> Result<Vec<u8>, StampError> {
        let call = self.agent.post(&self.url).content_type("application/timestamp-query").send(request);
        let answer = call.map_err(|error| {
            tracing::warn!(%error, "the external authority does not answer");
            StampError::Away
        })?;
        let mut response = Vec::new();
        let mut reader = answer.into_body().into_reader().take(RESPONSE_MAX);
        reader.read_to_end(&mut response).map_err(|_| StampError::Away)?;
        Ok(response)
    }
}

impl Stamper for ExternalAuthority {
    fn stamp(&self, imprint: &Sha256, not_before: Millis) -> Result<Stamped, StampError> {
        self.stamp_over(Digest::Sha256, &imprint.0, not_before)
    }

    fn stamp_over(&self, digest: Digest, hash: &[u8], _now: Millis) -> Result<Stamped, StampError> {
        let nonce = random_u64() >> 1;
        let request = Request::over(digest, hash, Some(nonce)).map_err(|_| StampError::Away)?;
        let response = self.ask(&request.encode())?;
        let verified = self.roots.verify(&response, digest, hash).map_err(|error| {
            tracing::warn!(%error, "the external authority's answer does not verify");
            StampError::Unverified
        })?;
        let echoed = verified.nonce.is_some_and(|echoed| {
            echoed.len() <= 8 && echoed.iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte)) == nonce
        });
        if echoed { Ok(Stamped { response, gen_time: verified.gen_time }) } else { Err(StampError::Unverified) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use zegel_core::Clock;
    use zegel_core::clock::SystemClock;
    use zegel_crypto::hash::sha256;
    use zegel_crypto::tsa::{Algorithm, Authority, Moment};

    /// An authority of somebody else's: answers so many requests, the second with the first answer again.
    fn stranger(authority: Authority, requests: usize) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let mut first: Option<Vec<u8>> = None;
            for stream in listener.incoming().take(requests) {
                let stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                let (mut line, mut length) = (String::new(), 0);
                while lines.read_line(&mut line).unwrap() > 2 {
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    line.clear();
                }
                let mut request = vec![0; length];
                lines.read_exact(&mut request).unwrap();
                let fresh = authority.answer(&request, Some(Moment::from(SystemClock.now())));
                let answer = first.get_or_insert(fresh).clone();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
                (&stream).write_all(head.as_bytes()).unwrap();
                (&stream).write_all(&answer).unwrap();
            }
        });
        url
    }

    #[test]
    fn a_token_of_the_authority_is_taken_and_an_old_one_played_again_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("tsa");
        let authority = Authority::create_with(&place, "Other", SystemClock.now(), Algorithm::P256).unwrap();
        let roots = Roots::from_pem(authority.ca_pem()).unwrap();
        let external = ExternalAuthority::new(&stranger(authority, 2), roots);
        let stamped = external.stamp(&sha256(b"bag"), Millis(0)).unwrap();
        assert!(stamped.gen_time.since(SystemClock.now()).abs() < 60_000);
        let again = external.stamp(&sha256(b"bag"), Millis(0));
        assert!(matches!(again, Err(StampError::Unverified)), "the first answer again");
        assert!(matches!(external.stamp(&sha256(b"bag"), Millis(0)), Err(StampError::Away)), "nobody there");
    }
}
