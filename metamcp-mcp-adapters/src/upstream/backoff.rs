//! When a server that keeps dying may be started again: after a pause that doubles with every short life, drawn anew each time.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause is drawn below this, in milliseconds.
const BASE_MS: u64 = 500;
/// No pause is drawn above this, in milliseconds.
const CAP_MS: u64 = 60_000;
/// Who lived at least this long starts with a clean slate.
const STABLE_S: u64 = 30;

/// The memory of one server's lives.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    short_lives: u32,
    not_before: Option<Instant>,
}

impl Backoff {
    /// How long there is still to wait; `None`: it may be started.
    pub(super) fn remaining(&self) -> Option<Duration> {
        let left = self.not_before?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// It died, after having been usable for so long; zero when it never was.
    pub(super) fn died(&mut self, lived: Duration) {
        if lived >= Duration::from_secs(STABLE_S) {
            *self = Self::default();
            return;
        }
        let doubled = BASE_MS.saturating_mul(1 << self.short_lives.min(20)).min(CAP_MS);
        self.short_lives = self.short_lives.saturating_add(1);
        // Full jitter: many servers that died together do not come back together.
        let pause = Duration::from_millis(rand::random_range(0..=doubled));
        self.not_before = Some(Instant::now() + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_a_bound_and_a_long_life_forgets_them() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.remaining(), None);
        let mut longest = Duration::ZERO;
        for _ in 0..200 {
            backoff.died(Duration::ZERO);
            longest = longest.max(backoff.remaining().unwrap_or_default());
        }
        assert!(longest > Duration::from_millis(CAP_MS / 2) && longest <= Duration::from_millis(CAP_MS));
        tokio::time::advance(Duration::from_millis(CAP_MS)).await;
        assert_eq!(backoff.remaining(), None);
        backoff.died(Duration::from_secs(STABLE_S));
        assert_eq!(backoff.remaining(), None);
    }
}
