//! Chance that a seed repeats.

use metamcp_core::{id::JobId, testing::ManualClock, time::Clock};

/// A random source whose numbers are the same for a seed in every version of everything (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn job_id(&mut self, clock: &ManualClock) -> JobId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(clock.now().as_millis() << 16).to_be_bytes());
        bytes[8..].copy_from_slice(&self.next().to_be_bytes());
        JobId::from_bytes(bytes)
    }
}
