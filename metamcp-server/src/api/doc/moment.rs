//! An instant as people read it: RFC 3339, written in UTC with milliseconds, read with any offset.

use std::{fmt, str::FromStr};

use metamcp_core::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant in documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub Timestamp);

/// A text that is not an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAMoment;

impl fmt::Display for NotAMoment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be an instant as RFC 3339 writes it, such as 2026-01-31T09:30:00Z")
    }
}

impl std::error::Error for NotAMoment {}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX);
        let at = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{at:.3}")
    }
}

impl FromStr for Moment {
    type Err = NotAMoment;

    /// Instants before 1970 are read as 1970: all of them are past.
    fn from_str(s: &str) -> Result<Self, NotAMoment> {
        let at: jiff::Timestamp = s.parse().map_err(|_| NotAMoment)?;
        Ok(Self(Timestamp::from_millis(u64::try_from(at.as_millisecond()).unwrap_or(0))))
    }
}

impl From<Timestamp> for Moment {
    fn from(at: Timestamp) -> Self {
        Self(at)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_in_utc_with_milliseconds_and_read_with_any_offset() {
        let at = Moment(Timestamp::from_millis(1_767_225_600_050));
        assert_eq!(at.to_string(), "2026-01-01T00:00:00.050Z");
        assert_eq!("2026-01-01T02:00:00.05+02:00".parse(), Ok(at));
        assert_eq!("1969-12-31T23:00:00Z".parse(), Ok(Moment(Timestamp::from_millis(0))));
        assert_eq!("tomorrow".parse::<Moment>(), Err(NotAMoment));
        assert_eq!(Moment(Timestamp::from_millis(u64::MAX)).to_string(), "9999-12-30T22:00:00.999Z");
    }
}
