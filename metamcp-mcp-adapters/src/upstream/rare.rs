//! Keeps repeated trouble of one server from filling the log: the first few are told, then ever fewer.

use std::sync::atomic::{AtomicU64, Ordering};

/// Occurrences that are told one by one.
const TOLD_ONE_BY_ONE_MAX: u64 = 3;

/// Counts occurrences of one kind.
#[derive(Debug, Default)]
pub(super) struct Rare(AtomicU64);

impl Rare {
    /// One more; the count when this one is to be told.
    pub(super) fn tell(&self) -> Option<u64> {
        let count = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        (count <= TOLD_ONE_BY_ONE_MAX || count.is_power_of_two()).then_some(count)
    }

    /// How many there were.
    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ever_fewer_are_told() {
        let rare = Rare::default();
        let told: Vec<u64> = (0..100).filter_map(|_| rare.tell()).collect();
        assert_eq!(told, [1, 2, 3, 4, 8, 16, 32, 64]);
        assert_eq!(rare.count(), 100);
    }
}
