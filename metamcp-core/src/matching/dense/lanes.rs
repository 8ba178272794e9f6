//! Products of one vector with many, whose numbers lie side by side so that one instruction serves sixteen of them.
//!
//! It is compiled for several instruction sets, and the best one this machine has is taken when it runs.

use std::sync::LazyLock;

use fearless_simd::{Level, Simd, i8x64, i16x32, i32x16, prelude::*};

/// Vectors side by side.
pub(super) const LANES: usize = 16;
/// Axes of one row.
const AXES: usize = 4;

/// Four numbers of each of sixteen vectors: two of every vector, then two more of every vector.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row([i8; AXES * LANES]);

impl Default for Row {
    fn default() -> Self {
        Self([0; AXES * LANES])
    }
}

/// The best instructions of this machine.
pub(super) static LEVEL: LazyLock<Level> = LazyLock::new(Level::new);

/// Runs an expression, whose functions are all `#[inline(always)]`, with the best instructions of this machine.
macro_rules! on_best {
    ($simd:pat => $work:expr) => {
        fearless_simd::dispatch!(*crate::matching::dense::lanes::LEVEL, $simd => $work)
    };
}
pub(super) use on_best;

/// Rows that sixteen vectors take: they are read by two.
pub(super) const fn rows_each(dimensions: usize) -> usize {
    dimensions.div_ceil(2 * AXES) * 2
}

/// Lays the numbers of one vector in its lane.
pub(super) fn lay(rows: &mut [Row], lane: usize, numbers: impl Iterator<Item = i8>) {
    for (axis, number) in numbers.enumerate() {
        rows[axis / AXES].0[(axis % AXES / 2) * 2 * LANES + lane * 2 + axis % 2] = number;
    }
}

/// Pairs that a vector has: as many as whole rows take.
pub(super) const fn pairs_each(dimensions: usize) -> usize {
    rows_each(dimensions) * AXES / 2
}

/// Sets the first pairs to the numbers of the one vector, two by two: wide enough to be multiplied as they are, the first of them in the lower
/// half.
#[inline(always)]
pub(super) fn pair<S: Simd>(simd: S, numbers: &[i8], pairs: &mut [i32]) {
    let (blocks, rest) = numbers.as_chunks::<64>();
    let (pairs_of_blocks, pairs_of_rest) = pairs.split_at_mut(32 * blocks.len());
    for (block, pairs) in blocks.iter().zip(pairs_of_blocks.as_chunks_mut::<32>().0) {
        let (first, second) = i8x64::from_slice(simd, block).widen();
        let (first, second): (i32x16<S>, i32x16<S>) = (first.bitcast(), second.bitcast());
        first.store_slice(&mut pairs[..16]);
        second.store_slice(&mut pairs[16..]);
    }
    for (pair, two) in pairs_of_rest.iter_mut().zip(rest.chunks(2)) {
        *pair = i32::from(*two.get(1).unwrap_or(&0)) << 16 | i32::from(two[0]) & 0xffff;
    }
}

/// The products of sixteen vectors with the one.
#[inline(always)]
pub(super) fn products<S: Simd>(simd: S, rows: &[Row], pairs: &[i32]) -> [i32; LANES] {
    // Several sums: one would have to wait for itself at every step.
    let mut sums = [i32x16::splat(simd, 0); 4];
    for (rows, pairs) in rows.as_chunks::<2>().0.iter().zip(pairs.as_chunks::<4>().0) {
        for row in 0..2 {
            let (first, second) = i8x64::from_slice(simd, &rows[row].0).widen();
            let first_pair: i16x32<S> = i32x16::splat(simd, pairs[2 * row]).bitcast();
            let second_pair: i16x32<S> = i32x16::splat(simd, pairs[2 * row + 1]).bitcast();
            sums[2 * row] += first.pairwise_dot_product(first_pair);
            sums[2 * row + 1] += second.pairwise_dot_product(second_pair);
        }
    }
    (sums[0] + sums[1] + (sums[2] + sums[3])).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LENGTH_MAX: usize = 150;

    proptest! {
        #[test]
        fn every_lane_has_the_product_of_its_vector(
            dimensions in 1..LENGTH_MAX,
            numbers in prop::collection::vec(any::<i8>(), (LANES + 1) * LENGTH_MAX),
        ) {
            let vector = |at: usize| numbers[LENGTH_MAX * at..][..dimensions].iter().copied();
            let mut rows = vec![Row::default(); rows_each(dimensions)];
            (0..LANES).for_each(|lane| lay(&mut rows, lane, vector(lane)));
            let mut one = vec![0; pairs_each(dimensions)];
            on_best!(simd => pair(simd, &numbers[LENGTH_MAX * LANES..][..dimensions], &mut one));
            let expected: Vec<i32> = (0..LANES)
                .map(|lane| vector(lane).zip(vector(LANES)).map(|(a, b)| i32::from(a) * i32::from(b)).sum())
                .collect();
            prop_assert_eq!(on_best!(simd => products(simd, &rows, &one)).to_vec(), expected.clone());
            let least = fearless_simd::dispatch!(Level::baseline(), simd => products(simd, &rows, &one));
            prop_assert_eq!(least.to_vec(), expected);
        }
    }
}
