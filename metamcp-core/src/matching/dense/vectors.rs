//! The vectors of all tools of an index, small enough that a need is held against every one of them.

use fearless_simd::Simd;

use super::{
    lanes::{LANES, Row, lay, on_best, pair, pairs_each, products, rows_each},
    nearest::{AskedPieces, PieceLists},
    vector::Vector,
};

/// The vectors of many tools, numbered from zero.
#[derive(Debug, Default)]
pub(in crate::matching) struct Vectors {
    dimensions: usize,
    tools: usize,
    /// By group of tools.
    rows: Vec<Row>,
    /// By tool: what one step of its numbers is worth. Filled up to whole groups.
    steps: Vec<f32>,
    pieces: PieceLists,
}

/// A need, ready to be held against vectors.
#[derive(Debug)]
pub(in crate::matching) struct Asked {
    /// Two numbers each, wide enough to be multiplied as they are: the first in the lower half. Filled up to whole rows.
    pairs: Vec<i32>,
    step: f32,
}

impl Asked {
    pub(in crate::matching) fn new(vector: &Vector) -> Self {
        let (numbers, step) = vector.quantized();
        let numbers: Vec<i8> = numbers.collect();
        let mut pairs = vec![0; pairs_each(numbers.len())];
        on_best!(simd => pair(simd, &numbers, &mut pairs));
        Self { pairs, step }
    }
}

impl Vectors {
    pub(in crate::matching) fn with_dimensions(dimensions: usize) -> Self {
        Self { dimensions, ..Self::default() }
    }

    /// Adds the vector of the next tool, and all pieces of its texts, in any order.
    pub(in crate::matching) fn push(&mut self, vector: &Vector, pieces: Vec<u16>) {
        if self.tools.is_multiple_of(LANES) {
            self.rows.resize(self.rows.len() + rows_each(self.dimensions), Row::default());
            self.steps.resize(self.steps.len() + LANES, 0.0);
        }
        let (numbers, step) = vector.quantized();
        let group = self.tools / LANES * rows_each(self.dimensions);
        lay(&mut self.rows[group..], self.tools % LANES, numbers);
        self.steps[self.tools] = step;
        self.tools += 1;
        self.pieces.push(pieces);
    }

    /// How near the pieces of a need are to the nearest ones of a tool, from 0 to 1.
    pub(in crate::matching) fn nearness(&self, tool: u32, need: &AskedPieces) -> f32 {
        need.nearness(self.pieces.of(tool))
    }

    /// The cosine of a tool with a need.
    pub(in crate::matching) fn cosine(&self, tool: u32, need: &Asked) -> f32 {
        let (group, lane) = (tool as usize / LANES, tool as usize % LANES);
        let rows = &self.rows[group * rows_each(self.dimensions)..];
        let steps = &self.steps[group * LANES..][..LANES];
        on_best!(simd => cosines(simd, rows, steps, need))[lane]
    }

    /// Makes of each number that is kept of a tool, in order, what `change` makes of it and the tool's cosine with a need.
    pub(in crate::matching) fn each_cosine(&self, need: &Asked, kept: &mut [f32], change: impl Fn(f32, f32) -> f32) {
        on_best!(simd => self.hold_against(simd, need, kept, change));
    }

    // Loops, not closures: those would be compiled for the least of instruction sets.
    #[inline(always)]
    fn hold_against<S: Simd>(&self, simd: S, need: &Asked, kept: &mut [f32], change: impl Fn(f32, f32) -> f32) {
        let mut groups = self.rows.chunks_exact(rows_each(self.dimensions)).zip(self.steps.chunks_exact(LANES));
        let (whole, rest) = kept.as_chunks_mut::<LANES>();
        for (kept, (rows, steps)) in whole.iter_mut().zip(&mut groups) {
            let cosines = cosines(simd, rows, steps, need);
            for lane in 0..LANES {
                kept[lane] = change(kept[lane], cosines[lane]);
            }
        }
        for (rows, steps) in groups {
            let cosines = cosines(simd, rows, steps, need);
            for (kept, cosine) in rest.iter_mut().zip(cosines) {
                *kept = change(*kept, cosine);
            }
        }
    }
}

#[inline(always)]
fn cosines<S: Simd>(simd: S, rows: &[Row], steps: &[f32], need: &Asked) -> [f32; LANES] {
    let mut cosines = [0.0; LANES];
    let products = products(simd, rows, &need.pairs);
    for lane in 0..LANES {
        cosines[lane] = products[lane] as f32 * need.step * steps[lane];
    }
    cosines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn side_by_side_or_alone_a_cosine_is_the_same(
            dimensions in 1_usize..40,
            numbers in prop::collection::vec(-1.0_f32..1.0, 40 * 40),
            tools in 0_usize..39,
        ) {
            let vector = |at: usize| Vector::of(&numbers[40 * at..][..dimensions]);
            let need = Asked::new(&vector(39));
            let mut vectors = Vectors::with_dimensions(dimensions);
            (0..tools).for_each(|tool| vectors.push(&vector(tool), Vec::new()));
            let mut together = vec![0.0; tools];
            vectors.each_cosine(&need, &mut together, |_, cosine| cosine);
            for (tool, together) in (0_u32..).zip(together) {
                prop_assert_eq!(vectors.cosine(tool, &need).to_bits(), together.to_bits());
                let exact = vector(tool as usize).cosine(&vector(39));
                prop_assert!((exact - together).abs() < 0.01 * dimensions as f32, "{exact} {together}");
            }
        }
    }
}
