//! What an operator may choose, and the client settings that follow from it.

use crate::error::KafkaError;
use rdkafka::ClientConfig;
use std::time::Duration;

/// Options of [`Kafka::connect`](crate::Kafka::connect).
#[derive(Debug, Clone)]
pub struct Options {
    /// Every topic and group begins with it and a dot: several installations share one cluster.
    pub prefix: String,
    /// Replicas of each partition. Without it: 3 where there are at least 3 brokers (2 of them in sync), else 1.
    pub replicas: Option<u16>,
    /// Whether the broker fsyncs before it answers (`flush.messages=1`). Without it: where there is one replica.
    pub fsync: Option<bool>,
    /// The longest that a send waits, from its call to its answer.
    pub send_limit: Duration,
    /// Bytes of bodies that wait for their confirmation, over all lanes.
    pub send_bytes: usize,
    /// The largest body; the topics allow records of so many bytes and 4 KiB.
    pub body_bytes: usize,
    /// Bytes that one reader fetches ahead; at most twice that, and one record, is held.
    pub fetch_bytes: usize,
    /// A reader that gets nothing for so long although there is more is built again.
    pub stall: Duration,
    /// How often records below all groups are deleted.
    pub trim_every: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            prefix: "zegel".to_owned(),
            replicas: None,
            fsync: None,
            send_limit: Duration::from_secs(20),
            send_bytes: 64 << 20,
            body_bytes: 8 << 20,
            fetch_bytes: 1 << 20,
            stall: Duration::from_secs(10),
            trim_every: Duration::from_secs(30),
        }
    }
}

/// What a record may take beside its body: key, headers, batch header.
pub(crate) const RECORD_OVERHEAD: usize = 4 << 10;

impl Options {
    /// The largest record.
    pub(crate) fn record_bytes(&self) -> usize {
        self.body_bytes + RECORD_OVERHEAD
    }

    /// Settings of every client.
    pub(crate) fn client(&self, servers: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        let receive = self.record_bytes().max(self.fetch_bytes) * 2 + (1 << 20);
        config
            .set("bootstrap.servers", servers)
            .set("client.id", format!("{}.zegel", self.prefix))
            .set("socket.keepalive.enable", "true")
            // A half-open connection is found out by a request that is not answered: these are the longest silences.
            .set("socket.timeout.ms", "10000")
            .set("socket.connection.setup.timeout.ms", "5000")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("message.max.bytes", self.record_bytes().to_string())
            .set("receive.message.max.bytes", receive.to_string());
        config
    }

    /// Settings of the producer. Its own time limit is off: a message that it gave up would leave a gap that later ones
    /// overtake. Limits are kept by the lanes, and what a lane gave up waiting for keeps its place in the order.
    pub(crate) fn producer(&self, servers: &str) -> ClientConfig {
        let mut config = self.client(servers);
        config
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", "true")
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            .set("request.timeout.ms", "10000")
            .set("retry.backoff.ms", "50")
            // A window of a lane becomes one or two batches; a lone parcel waits a millisecond at most.
            .set("linger.ms", "1")
            .set("batch.size", self.record_bytes().min(1 << 20).to_string())
            .set("queue.buffering.max.messages", "0")
            // The lanes bound the bytes; the client's own bound lies above and is never reached.
            .set("queue.buffering.max.kbytes", ((2 * self.send_bytes) >> 10).max(1 << 14).to_string());
        config
    }

    /// Settings of a reader of `group`.
    pub(crate) fn reader(&self, servers: &str, group: &str) -> ClientConfig {
        let mut config = self.client(servers);
        let fetch = self.fetch_bytes.to_string();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            // Nothing of ours is transactional; a stranger's open transaction must not hold a partition.
            .set("isolation.level", "read_uncommitted")
            .set("queued.max.messages.kbytes", (self.fetch_bytes >> 10).max(1).to_string())
            .set("max.partition.fetch.bytes", &fetch)
            .set("fetch.max.bytes", self.record_bytes().max(self.fetch_bytes).to_string())
            // How long a full queue keeps it from fetching; the default of a second would stop a busy reader.
            .set("fetch.queue.backoff.ms", "2")
            .set("fetch.error.backoff.ms", "100")
            .set("fetch.wait.max.ms", "500");
        config
    }
}

/// `host:port[,host:port]` of a URL.
pub(crate) fn servers(url: &str) -> Result<String, KafkaError> {
    let rest = url.strip_prefix("kafka://").ok_or(KafkaError::Url("does not begin with kafka://"))?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    for server in rest.split(',') {
        let (host, port) = server.rsplit_once(':').ok_or(KafkaError::Url("a server has no port"))?;
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(KafkaError::Url("a server's host is not a name or an address"));
        }
        if !matches!(port.parse::<u16>(), Ok(1..)) {
            return Err(KafkaError::Url("a server's port is not a number from 1 to 65535"));
        }
    }
    Ok(rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_servers_and_nothing_else() {
        assert_eq!(servers("kafka://a:1,[::1]:9092").ok().as_deref(), Some("a:1,[::1]:9092"));
        for wrong in
            ["amqp://a:1", "kafka://", "kafka://a", "kafka://a:0", "kafka://a:1,", "kafka://u:p@a:1", "kafka://a:1/x"]
        {
            assert!(matches!(servers(wrong), Err(KafkaError::Url(_))), "{wrong} was taken");
        }
    }
}
