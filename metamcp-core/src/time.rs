//! Instants as milliseconds since the Unix epoch, and the one trait through which core learns the time.
//!
//! Every store has exactly one clock. Tests move a manual one; nothing in core reads the system's clock directly but [`SystemClock`].

use std::{fmt, ops, time::Duration};

use serde::{Deserialize, Serialize};

/// An instant, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The instant `millis` after the epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// RFC 3339 in UTC, with milliseconds.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = i64::try_from(self.0).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
        write!(f, "{:.3}", at.unwrap_or(jiff::Timestamp::MAX))
    }
}

impl ops::Add<Duration> for Timestamp {
    type Output = Self;

    /// Later by `by`, cut to whole milliseconds and to the largest instant.
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Where core gets the time from.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The current instant. May stand still; must not run backwards within one process.
    fn now(&self) -> Timestamp;
}

/// The operating system's clock, kept from running backwards within the process.
#[derive(Debug, Default)]
pub struct SystemClock {
    latest_ms: std::sync::atomic::AtomicU64,
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let before = self.latest_ms.fetch_max(now, std::sync::atomic::Ordering::Relaxed);
        Timestamp(now.max(before))
    }
}
