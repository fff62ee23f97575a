//! Time sources that are asked over the network, or of the machine's own time service, how far its clock is from UTC.
//!
//! | setting | what is asked | how well it knows |
//! | --- | --- | --- |
//! | `ntp://host[:port]` | SNTP version 4 (RFC 4330), one packet | half the round trip and what the server says of itself |
//! | `chrony` | `chronyc -c tracking`, the machine's own time service | its root delay and dispersion |
//! | `http://host/` | the `Date` of an answer | half a second, so it needs a stated accuracy of 2 s or more |
//!
//! A source says an offset; what follows from several is decided in [`zegel_core::vouching`]. NTP is not authenticated: who
//! sits on the path to more than half of the sources can move the time within what the others tolerate. Name sources on
//! different paths.
//! Failure behaviour: a source that does not answer, or answers nonsense, says nothing; it is asked again next time.

use std::fmt;
use std::io;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};
use zegel_core::Clock;
use zegel_core::vouching::Measured;

/// How long a source may take: longer round trips say too little of the time.
const PATIENCE: Duration = Duration::from_secs(2);
/// Length of an SNTP packet without extensions.
const PACKET: usize = 48;
/// Version 4, mode 3 (client).
const CLIENT: u8 = 0x23;
/// Seconds from 1900 to 1970.
const FROM_1900: i64 = 2_208_988_800;
/// NTP counts 32 bits of seconds and begins anew in 2036.
const ERA: i64 = 1 << 32;

/// A source, as in the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeSource {
    /// An NTP server, `host:port`.
    Ntp(String),
    /// The machine's chrony.
    Chrony,
    /// A web server.
    Http(String),
}

impl FromStr for TimeSource {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<TimeSource, &'static str> {
        const SHAPE: &str = "must be ntp://host, ntp://host:port, chrony or http://host/";
        if text == "chrony" {
            return Ok(TimeSource::Chrony);
        }
        if let Some(host) = text.strip_prefix("ntp://").map(|host| host.trim_end_matches('/')) {
            let port = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
            let plain = !host.is_empty() && !host.contains(['/', '@', '?']);
            let place = if port.is_some() { host.to_owned() } else { format!("{host}:123") };
            return if plain { Ok(TimeSource::Ntp(place)) } else { Err(SHAPE) };
        }
        match text.strip_prefix("http://") {
            Some(rest) if !rest.is_empty() => Ok(TimeSource::Http(text.to_owned())),
            _ => Err(SHAPE),
        }
    }
}

impl fmt::Display for TimeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TimeSource::Ntp(place) => write!(f, "ntp://{place}"),
            TimeSource::Chrony => f.write_str("chrony"),
            TimeSource::Http(url) => f.write_str(url),
        }
    }
}

impl TimeSource {
    /// Asks the source. Blocks, two seconds at most.
    ///
    /// # Errors
    /// When it does not answer, or what it says cannot be used.
    pub fn measure(&self, clock: &dyn Clock) -> io::Result<Measured> {
        match self {
            TimeSource::Ntp(place) => ask_ntp(place, clock),
            TimeSource::Chrony => ask_chrony(),
            TimeSource::Http(url) => ask_http(url, clock),
        }
    }
}

fn nonsense(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn ask_ntp(place: &str, clock: &dyn Clock) -> io::Result<Measured> {
    let socket = UdpSocket::bind(if place.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" })?;
    socket.connect(place)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut query = [0; PACKET];
    query[0] = CLIENT;
    // Random instead of our time: it tells the server nothing, and nobody off the path can answer for it.
    let cookie = zegel_crypto::secret::random_u64().to_be_bytes();
    query[40..].copy_from_slice(&cookie);
    let sent = clock.now().0;
    socket.send(&query)?;
    let mut answer = [0; PACKET];
    let length = socket.recv(&mut answer)?;
    let received = clock.now().0;
    if length < PACKET || answer[24..32] != cookie {
        return Err(nonsense("answer is to another question"));
    }
    read_ntp(&answer, sent, received)
}

/// What an answer says, between the two instants of our own clock (RFC 4330 section 5).
fn read_ntp(answer: &[u8; PACKET], sent: i64, received: i64) -> io::Result<Measured> {
    let (leap, mode, stratum) = (answer[0] >> 6, answer[0] & 7, answer[1]);
    if leap == 3 || mode != 4 || !(1..=15).contains(&stratum) {
        return Err(nonsense("server is not synchronised"));
    }
    let came = in_millis(&answer[32..40], sent);
    let left = in_millis(&answer[40..48], sent);
    let round_trip = (received - sent) - (left - came);
    if round_trip < 0 || received < sent || left < came {
        return Err(nonsense("server's times do not fit"));
    }
    let root_delay = short(&answer[4..8]);
    let dispersion = short(&answer[8..12]);
    let offset_ms = ((came - sent) + (left - received)) / 2;
    // One millisecond for the rounding of our own clock.
    Ok(Measured { offset_ms, uncertainty_ms: round_trip / 2 + root_delay / 2 + dispersion + 1 })
}

/// A 64-bit NTP time as milliseconds since 1970, in the era that is nearest to our own clock.
fn in_millis(bytes: &[u8], near: i64) -> i64 {
    let word = |at: usize| i64::from(u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]));
    let seconds = word(0) - FROM_1900;
    let eras = (near / 1_000 - seconds + ERA / 2).div_euclid(ERA);
    (seconds + eras * ERA) * 1_000 + ((word(4) * 1_000) >> 32)
}

/// A 32-bit NTP duration in milliseconds, rounded up.
fn short(bytes: &[u8]) -> i64 {
    let fixed = i64::from(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    (fixed * 1_000 + 0xffff) >> 16
}

fn ask_chrony() -> io::Result<Measured> {
    let output =
        Command::new("chronyc").args(["-c", "tracking"]).stdin(Stdio::null()).stderr(Stdio::null()).output()?;
    read_chrony(&String::from_utf8_lossy(&output.stdout))
}

/// `chronyc -c tracking`: comma-separated; 5th the offset in seconds, 11th and 12th root delay and dispersion, last the leap
/// status.
fn read_chrony(text: &str) -> io::Result<Measured> {
    let fields: Vec<&str> = text.trim().split(',').collect();
    if fields.len() < 14 || fields.last() == Some(&"Not synchronised") {
        return Err(nonsense("chrony is not synchronised"));
    }
    let millis = |at: usize| -> io::Result<i64> {
        let seconds: f64 = fields[at].parse().map_err(|_| nonsense("chrony says something else than a number"))?;
        if !seconds.is_finite() || seconds.abs() > 1e9 {
            return Err(nonsense("chrony is far away"));
        }
        #[allow(clippy::cast_possible_truncation)] // below a billion seconds, and finite
        Ok((seconds * 1_000.0).round() as i64)
    };
    Ok(Measured { offset_ms: millis(4)?, uncertainty_ms: millis(10)? / 2 + millis(11)? + 1 })
}

fn ask_http(url: &str, clock: &dyn Clock) -> io::Result<Measured> {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build();
    let agent: ureq::Agent = config.into();
    let (sent, begun) = (clock.now().0, Instant::now());
    let answer = agent.head(url).call().map_err(io::Error::other)?;
    let round_trip = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
    let date = answer.headers().get("date").and_then(|value| value.to_str().ok()).unwrap_or_default();
    read_http(date, sent + round_trip / 2, round_trip)
}

/// A `Date` knows whole seconds: the middle of its second, give or take half of one.
fn read_http(date: &str, at: i64, round_trip: i64) -> io::Result<Measured> {
    let date = chrono::DateTime::parse_from_rfc2822(date).map_err(|_| nonsense("answer has no date"))?;
    Ok(Measured { offset_ms: date.timestamp_millis() + 500 - at, uncertainty_ms: 500 + round_trip / 2 + 1 })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use schemas::Millis;
    use zegel_core::clock::{FakeClock, SystemClock};

    /// 2026-11-22T00:00:00Z
    const NOON: i64 = 1_795_305_600_000;

    fn packet(offset: i64) -> [u8; PACKET] {
        let mut answer = [0; PACKET];
        (answer[0], answer[1]) = (0x24, 2);
        answer[4..8].copy_from_slice(&(1u32 << 12).to_be_bytes()); // root delay 62.5 ms
        answer[8..12].copy_from_slice(&(1u32 << 13).to_be_bytes()); // dispersion 125 ms
        for place in [32, 40] {
            let seconds = u32::try_from((NOON + offset).div_euclid(1_000) + FROM_1900).unwrap();
            let fraction = u32::try_from(((NOON + offset).rem_euclid(1_000) << 32) / 1_000).unwrap();
            answer[place..place + 4].copy_from_slice(&seconds.to_be_bytes());
            answer[place + 4..place + 8].copy_from_slice(&(fraction + 1).to_be_bytes());
        }
        answer
    }

    #[test]
    fn an_ntp_answer_says_offset_and_uncertainty() {
        let measured = read_ntp(&packet(250), NOON - 10, NOON + 10).unwrap();
        assert_eq!(measured, Measured { offset_ms: 250, uncertainty_ms: 10 + 31 + 125 + 1 });
        let behind = read_ntp(&packet(-2_000), NOON - 10, NOON + 10).unwrap();
        assert_eq!(behind.offset_ms, -2_000);
    }

    #[test]
    fn the_era_that_begins_in_2036_is_read_too() {
        let after = 2_100_000_000_000; // 2036-07
        let seconds = u32::try_from((after / 1_000 + FROM_1900) % ERA).unwrap();
        let bytes = [seconds.to_be_bytes(), [0; 4]].concat();
        assert_eq!(in_millis(&bytes, after + 5_000), after);
        assert_eq!(in_millis(&[[0xff; 4], [0; 4]].concat(), NOON), (0xffff_ffff - FROM_1900) * 1_000);
    }

    #[test]
    fn an_ntp_server_without_time_or_with_impossible_times_says_nothing() {
        let spoil = |change: fn(&mut [u8; PACKET])| {
            let mut answer = packet(0);
            change(&mut answer);
            read_ntp(&answer, NOON - 10, NOON + 10)
        };
        assert!(spoil(|answer| answer[0] = 0xe4).is_err(), "alarm");
        assert!(spoil(|answer| answer[0] = 0x23).is_err(), "an echo of the question");
        assert!(spoil(|answer| answer[1] = 0).is_err(), "kiss of death");
        assert!(spoil(|answer| answer[1] = 16).is_err(), "unsynchronised");
        assert!(
            spoil(|answer| answer[35] ^= 1).is_err(),
            "left before it came, or held for longer than the round trip"
        );
        assert!(read_ntp(&packet(0), NOON + 10, NOON - 10).is_err(), "our own clock was set in between");
    }

    #[test]
    fn a_server_on_this_machine_is_asked_and_one_that_answers_another_question_is_not_heard() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let place = server.local_addr().unwrap().to_string();
        let serving = std::thread::spawn(move || {
            for honest in [true, false] {
                let mut query = [0; PACKET];
                let (_, client) = server.recv_from(&mut query).unwrap();
                let mut answer = packet(0);
                answer[24..32].copy_from_slice(&query[40..48]);
                answer[24] ^= u8::from(!honest);
                server.send_to(&answer, client).unwrap();
            }
        });
        let clock = FakeClock::at(Millis(NOON));
        let source: TimeSource = format!("ntp://{place}").parse().unwrap();
        assert_eq!(source.measure(&clock).unwrap().offset_ms, 0);
        assert!(source.measure(&clock).is_err());
        serving.join().unwrap();
        let nobody: TimeSource = "ntp://127.0.0.1:9".parse().unwrap();
        assert!(nobody.measure(&SystemClock).is_err());
    }

    #[test]
    fn chrony_is_read_as_it_prints() {
        let line = "C0A80001,192.168.0.1,3,1795305500.123,-0.000123456,0.0000011,0.00002,-12.3,0.001,0.02,0.004567,0.001234,64.2,Normal\n";
        assert_eq!(read_chrony(line).unwrap(), Measured { offset_ms: 0, uncertainty_ms: 2 + 1 + 1 });
        assert_eq!(read_chrony(&line.replace("-0.000123456", "1.5")).unwrap().offset_ms, 1_500);
        for broken in [
            "",
            "506 Cannot talk to daemon",
            &line.replace("Normal", "Not synchronised"),
            &line.replace("-0.000123456", "nan"),
        ] {
            assert!(read_chrony(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_date_knows_half_a_second() {
        let measured = read_http("Sun, 22 Nov 2026 00:00:07 GMT", NOON + 7_400, 20).unwrap();
        assert_eq!(measured, Measured { offset_ms: 100, uncertainty_ms: 511 });
        assert!(read_http("yesterday", NOON, 20).is_err());
    }

    #[test]
    fn a_source_reads_back_as_it_is_written() {
        for text in ["ntp://time.example:123", "chrony", "http://time.example/"] {
            assert_eq!(text.parse::<TimeSource>().unwrap().to_string(), text);
        }
        assert_eq!("ntp://time.example".parse::<TimeSource>().unwrap().to_string(), "ntp://time.example:123");
        for text in ["", "ntp://", "ntp://a/b", "https://a", "http://", "time.example", "ntp://user@host"] {
            assert!(text.parse::<TimeSource>().is_err(), "{text}");
        }
    }
}
