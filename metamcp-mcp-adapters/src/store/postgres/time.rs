//! The time of a store, and instants and spans as tables hold them: milliseconds in a `bigint`.
//!
//! The clock is the database's. A test may give another one, which then is asked in its place.

use std::{fmt, sync::Arc};

use metamcp_core::time::{Clock, Timestamp};

/// Who is asked for the time.
#[derive(Clone, Default)]
pub(super) struct Timekeeper {
    given: Option<Arc<dyn Clock>>,
}

impl Timekeeper {
    /// Every instant comes from this clock and none from the database.
    #[cfg(feature = "testing")]
    pub(super) fn given(clock: Arc<dyn Clock>) -> Self {
        Self { given: Some(clock) }
    }

    /// The given clock's time; `None`: the statement is to take the database's.
    pub(super) fn now(&self) -> Option<i64> {
        self.given.as_ref().map(|clock| from_instant(clock.now()))
    }
}

impl fmt::Debug for Timekeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.given.is_some() { "a given clock" } else { "the database's clock" })
    }
}

/// What a column holds. Instants that it cannot hold are further away than anything that is: they are "never".
pub(super) fn from_instant(instant: Timestamp) -> i64 {
    i64::try_from(instant.as_millis()).unwrap_or(i64::MAX)
}

/// The instant of a column.
pub(super) fn to_instant(millis: i64) -> Timestamp {
    Timestamp::from_millis(match u64::try_from(millis) {
        Ok(millis) if millis < i64::MAX.unsigned_abs() => millis,
        Ok(_) => u64::MAX,
        Err(_) => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_read_as_it_was_written_and_never_stays_never() {
        for millis in [0, 1, 1_767_225_600_000, i64::MAX.unsigned_abs() - 1, u64::MAX] {
            let instant = Timestamp::from_millis(millis);
            assert_eq!(to_instant(from_instant(instant)), instant);
        }
        assert_eq!(to_instant(from_instant(Timestamp::from_millis(u64::MAX - 7))), Timestamp::from_millis(u64::MAX));
    }
}
