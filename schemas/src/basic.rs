//! Small value types that everything else is made of: instants, keys, ids, digests, trace context.
//!
//! Failure behaviour: parsing returns [`BasicError`], which names the kind of value and never the value.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why one of the small value types could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BasicError {
    /// The text has the wrong length or characters outside lower-case hexadecimal.
    #[error("{kind} must be {digits} hexadecimal digits")]
    Hex {
        /// Which kind of value was expected.
        kind: &'static str,
        /// How many digits it has.
        digits: usize,
    },
    /// A W3C trace context header that does not follow the recommendation.
    #[error("traceparent must be 00-<32 hex>-<16 hex>-<2 hex>")]
    TraceParent,
}

/// An instant: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
#[derive(schemars::JsonSchema)]
pub struct Millis(pub i64);

impl Millis {
    /// The last instant that exists; a parked message with this due time waits for an event, not for a clock.
    pub const NEVER: Millis = Millis(i64::MAX);

    /// This instant moved forward by `ms` milliseconds, never past [`Millis::NEVER`].
    #[must_use]
    pub fn plus(self, ms: i64) -> Millis {
        Millis(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this instant; negative when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Millis) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

macro_rules! hex_type {
    ($(#[$doc:meta])* $name:ident, $len:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl std::str::FromStr for $name {
            type Err = BasicError;
            fn from_str(text: &str) -> Result<Self, BasicError> {
                let mut bytes = [0u8; $len];
                hex::decode_to_slice(text, &mut bytes)
                    .map_err(|_| BasicError::Hex { kind: $kind, digits: $len * 2 })?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut text = [0u8; $len * 2];
                hex::encode_to_slice(self.0, &mut text).map_err(serde::ser::Error::custom)?;
                serializer.serialize_str(std::str::from_utf8(&text).map_err(serde::ser::Error::custom)?)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": format!("^[0-9a-f]{{{}}}$", $len * 2) })
            }
        }
    };
}

hex_type!(
    /// What orders messages and owns state: 16 bytes of an HMAC over an identifier, so it never shows the identifier (I4).
    Key, 16, "key"
);
hex_type!(
    /// A message's or a submission's identity: 16 random bytes, or 16 bytes derived from what makes it unique.
    MessageId, 16, "message id"
);
hex_type!(
    /// A SHA-256 digest (FIPS 180-4).
    Sha256, 32, "SHA-256 digest"
);

/// W3C trace context, level 1: trace id, parent span id and flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// 16 bytes, the whole trace.
    pub trace_id: [u8; 16],
    /// 8 bytes, the span that caused this message.
    pub span_id: [u8; 8],
    /// Bit 0: sampled.
    pub flags: u8,
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", hex::encode(self.trace_id), hex::encode(self.span_id), self.flags)
    }
}

impl std::str::FromStr for TraceParent {
    type Err = BasicError;
    fn from_str(text: &str) -> Result<Self, BasicError> {
        let mut parts = text.split('-');
        let (Some("00"), Some(trace), Some(span), Some(flags), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BasicError::TraceParent);
        };
        let mut parent = TraceParent { trace_id: [0; 16], span_id: [0; 8], flags: 0 };
        let mut flag = [0u8; 1];
        hex::decode_to_slice(trace, &mut parent.trace_id).map_err(|_| BasicError::TraceParent)?;
        hex::decode_to_slice(span, &mut parent.span_id).map_err(|_| BasicError::TraceParent)?;
        hex::decode_to_slice(flags, &mut flag).map_err(|_| BasicError::TraceParent)?;
        parent.flags = flag[0];
        if parent.trace_id == [0; 16] || parent.span_id == [0; 8] {
            return Err(BasicError::TraceParent);
        }
        Ok(parent)
    }
}

impl Serialize for TraceParent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceParent {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_printing_and_parsing() {
        let key = Key([7; 16]);
        assert_eq!(key.to_string().parse::<Key>(), Ok(key));
        assert_eq!("07".parse::<Key>(), Err(BasicError::Hex { kind: "key", digits: 32 }));
    }

    #[test]
    fn a_trace_parent_survives_and_the_all_zero_one_is_refused() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(text.parse::<TraceParent>().map(|t| t.to_string()), Ok(text.to_owned()));
        assert!("00-00000000000000000000000000000000-b7ad6b7169203331-01".parse::<TraceParent>().is_err());
    }

    #[test]
    fn an_instant_never_wraps() {
        assert_eq!(Millis::NEVER.plus(1), Millis::NEVER);
    }
}
