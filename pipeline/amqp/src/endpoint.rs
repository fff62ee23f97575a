//! Where the broker is: the URL, with several hosts separated by commas, and what the server says of itself.
//!
//! The password stays inside; what is printed of an endpoint is hosts and virtual host.

use crate::error::AmqpError;
use lapin::uri::{AMQPScheme, AMQPUri};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A server's greeting is a frame of a few hundred bytes; more is not read.
const GREETING_BYTES: u64 = 16 << 10;

/// The hosts of a broker, in order of preference, with user and password.
#[derive(Clone)]
pub(crate) struct Endpoint {
    hosts: Vec<AMQPUri>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hosts = self.hosts.iter().map(|uri| (&uri.authority.host, uri.authority.port, &uri.vhost));
        f.debug_list().entries(hosts).finish()
    }
}

impl Endpoint {
    /// Reads `amqp://user:password@host:port,host:port/vhost`.
    pub(crate) fn parse(url: &str, heartbeat: u16, within: Duration) -> Result<Endpoint, AmqpError> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(AmqpError::Url("must begin with amqp://"));
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), authority),
        };
        let mut parsed = Vec::new();
        for host in hosts.split(',') {
            let one = format!("{scheme}://{user}{host}{tail}");
            let mut uri: AMQPUri =
                one.parse().map_err(|_| AmqpError::Url("is not amqp://user:password@host:port,…/vhost"))?;
            if uri.scheme != AMQPScheme::AMQP {
                return Err(AmqpError::Url("TLS is not built in: end it in a tunnel on this machine and say amqp://"));
            }
            if uri.authority.host.is_empty() {
                return Err(AmqpError::Url("names no host"));
            }
            uri.query.heartbeat = Some(heartbeat);
            uri.query.connection_timeout = u64::try_from(within.as_millis()).ok();
            parsed.push(uri);
        }
        Ok(Endpoint { hosts: parsed })
    }

    /// The host for this attempt, in turn.
    pub(crate) fn host(&self, attempt: usize) -> AMQPUri {
        self.hosts[attempt % self.hosts.len()].clone()
    }

    /// How many hosts there are.
    pub(crate) fn hosts(&self) -> usize {
        self.hosts.len()
    }
}

/// The major version that the server names in its greeting, which lapin does not pass on.
pub(crate) async fn major_version(uri: &AMQPUri) -> std::io::Result<u32> {
    let mut stream = TcpStream::connect((uri.authority.host.as_str(), uri.authority.port)).await?;
    stream.write_all(b"AMQP\0\0\x09\x01").await?;
    let mut head = [0u8; 7]; // type, channel, length
    stream.read_exact(&mut head).await?;
    let length = u64::from(u32::from_be_bytes([head[3], head[4], head[5], head[6]]));
    let mut greeting = Vec::new();
    stream.take(length.min(GREETING_BYTES)).read_to_end(&mut greeting).await?;
    version_in(&greeting).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidData))
}

/// Finds the field `version` in the greeting's table: a short string, the type `S`, a length, the text.
fn version_in(greeting: &[u8]) -> Option<u32> {
    const FIELD: &[u8] = b"\x07versionS";
    let at = greeting.windows(FIELD.len()).position(|window| window == FIELD)?;
    let rest = &greeting[at + FIELD.len()..];
    let length = usize::try_from(u32::from_be_bytes(rest.get(..4)?.try_into().ok()?)).ok()?;
    let text = std::str::from_utf8(rest.get(4..4 + length)?).ok()?;
    text.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_url_with_several_hosts_is_several_hosts_and_never_shows_its_password() {
        let endpoint = Endpoint::parse("amqp://u:geheim@a:1,b:2,c/%2fv?x=y", 5, SECOND).unwrap();
        assert_eq!(endpoint.hosts(), 3);
        assert_eq!(endpoint.host(4).authority.port, 2);
        assert_eq!(endpoint.host(2).authority.port, 5672);
        assert_eq!(endpoint.host(1).vhost, "/v");
        assert_eq!(endpoint.host(1).query.heartbeat, Some(5));
        assert_eq!(endpoint.host(1).authority.userinfo.password, "geheim");
        let printed = format!("{endpoint:?}");
        assert!(!printed.contains("geheim") && printed.contains("\"a\""), "{printed}");
    }

    #[test]
    fn a_url_that_cannot_be_used_is_refused_without_showing_it() {
        for url in
            ["localhost", "http://u:geheim@h/", "amqp://u:geheim@/", "amqps://u:geheim@h/", "amqp://u:geheim@h:x/"]
        {
            let error = Endpoint::parse(url, 5, SECOND).unwrap_err();
            assert!(!format!("{error:?} {error}").contains("geheim"), "{error}");
        }
    }

    #[test]
    fn the_version_is_read_from_a_greeting() {
        let mut greeting = b"\x00\x0a\x00\x0a\x00\x09\0\0\0\x1e\x07product\x53\0\0\0\x08RabbitMQ".to_vec();
        assert_eq!(version_in(&greeting), None);
        greeting.extend(b"\x07versionS\0\0\0\x063.10.8");
        assert_eq!(version_in(&greeting), Some(3));
        greeting.truncate(greeting.len() - 3);
        assert_eq!(version_in(&greeting), None);
    }
}
