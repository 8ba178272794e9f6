//! How long to wait before the next try: full jitter below a bound that doubles, so that many processes do not come back together.

use std::time::Duration;

/// A pause drawn from zero to `base · 2^failures`, and never above `cap`.
pub(super) fn full_jitter(base: Duration, cap: Duration, failures: u32) -> Duration {
    let bound = base.saturating_mul(1 << failures.min(20)).min(cap);
    bound.mul_f64(rand::random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_below_their_cap() {
        let (base, cap) = (Duration::from_millis(10), Duration::from_millis(500));
        let longest = |failures| (0..500).map(|_| full_jitter(base, cap, failures)).max().unwrap();
        assert!(longest(0) <= base);
        assert!(longest(3) > base && longest(3) <= Duration::from_millis(80));
        assert!(longest(u32::MAX) > Duration::from_millis(250) && longest(u32::MAX) <= cap);
    }
}
