//! Vectors of texts, and those of all tools of an index, small enough that a need is held against every one of them.
//!
//! The loop over all of them is compiled for several instruction sets, and the best one this machine has is taken when it runs.

use std::sync::LazyLock;

use fearless_simd::{Level, dispatch};

use super::nearest::{AskedPieces, PieceLists};

/// Most dimensions of a table.
pub(super) const DIMENSIONS_MAX: usize = 1024;
/// Numbers of one block; a constant length is what compilers turn into the best vector instructions.
const BLOCK: usize = 128;
/// Largest number of a stored vector.
const STEPS: f32 = 127.0;

/// A direction of length one, or zero.
#[derive(Debug, Clone)]
pub(in crate::matching) struct Vector(Box<[f32]>);

impl Vector {
    pub(in crate::matching) fn zero(dimensions: usize) -> Self {
        Self(vec![0.0; dimensions].into())
    }

    pub(in crate::matching) fn is_zero(&self) -> bool {
        self.0.iter().all(|x| *x == 0.0)
    }

    /// By axis.
    pub(in crate::matching) fn numbers(&self) -> &[f32] {
        &self.0
    }

    pub(super) fn add_scaled(&mut self, vector: &[i8], scale: f32) {
        self.0.iter_mut().zip(vector).for_each(|(sum, x)| *sum += f32::from(*x) * scale);
    }

    pub(in crate::matching) fn add(&mut self, other: &Self, share: f32) {
        self.0.iter_mut().zip(&other.0).for_each(|(sum, x)| *sum += x * share);
    }

    pub(in crate::matching) fn normalize(&mut self) {
        let length = self.0.iter().map(|x| x * x).sum::<f32>().sqrt();
        if length > f32::EPSILON {
            self.0.iter_mut().for_each(|x| *x /= length);
        } else {
            self.0.fill(0.0);
        }
    }

    #[cfg(test)]
    pub(super) fn cosine(&self, other: &Self) -> f32 {
        self.0.iter().zip(&other.0).map(|(a, b)| a * b).sum()
    }

    /// Whole numbers up to [`STEPS`] and what one of them is worth.
    #[expect(clippy::cast_possible_truncation, reason = "rounded, and at most 127")]
    fn quantized(&self) -> (impl Iterator<Item = i8>, f32) {
        let largest = self.0.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        let step = if largest > 0.0 { largest / STEPS } else { 1.0 };
        (self.0.iter().map(move |x| (x / step).round() as i8), if largest > 0.0 { step } else { 0.0 })
    }
}

/// One vector as whole numbers, filled up with zeros.
type Block = [i8; BLOCK];
/// A block of the need, wide enough to be multiplied as it is.
type WideBlock = [i16; BLOCK];

fn blocks(vector: &Vector) -> (Vec<Block>, f32) {
    let (mut numbers, step) = vector.quantized();
    let count = vector.0.len().div_ceil(BLOCK);
    ((0..count).map(|_| std::array::from_fn(|_| numbers.next().unwrap_or(0))).collect(), step)
}

/// The vectors of many tools, numbered from zero.
#[derive(Debug, Default)]
pub(in crate::matching) struct Vectors {
    blocks_each: usize,
    /// By tool.
    blocks: Vec<Block>,
    /// By tool: what one step of its numbers is worth.
    steps: Vec<f32>,
    pieces: PieceLists,
}

/// A need, ready to be held against vectors.
#[derive(Debug)]
pub(in crate::matching) struct Asked {
    blocks: Vec<WideBlock>,
    step: f32,
}

impl Asked {
    pub(in crate::matching) fn new(vector: &Vector) -> Self {
        let (blocks, step) = blocks(vector);
        Self { blocks: blocks.iter().map(|block| block.map(i16::from)).collect(), step }
    }
}

impl Vectors {
    pub(in crate::matching) fn with_dimensions(dimensions: usize) -> Self {
        Self { blocks_each: dimensions.div_ceil(BLOCK), ..Self::default() }
    }

    /// Adds the vector of the next tool, and all pieces of its texts, in any order.
    pub(in crate::matching) fn push(&mut self, vector: &Vector, pieces: Vec<u16>) {
        let (blocks, step) = blocks(vector);
        self.blocks.extend(blocks);
        self.steps.push(step);
        self.pieces.push(pieces);
    }

    /// How near the pieces of a need are to the nearest ones of a tool, from 0 to 1.
    pub(in crate::matching) fn nearness(&self, tool: u32, need: &AskedPieces) -> f32 {
        need.nearness(self.pieces.of(tool))
    }

    /// The cosine of a tool with a need.
    pub(in crate::matching) fn cosine(&self, tool: u32, need: &Asked) -> f32 {
        let tool = tool as usize;
        cosine(&self.blocks[tool * self.blocks_each..][..self.blocks_each], self.steps[tool], need)
    }

    /// Changes what is kept of each tool by its cosine with a need, in order.
    pub(in crate::matching) fn each_cosine(&self, need: &Asked, kept: &mut [f32], change: impl Fn(f32, &mut f32)) {
        static LEVEL: LazyLock<Level> = LazyLock::new(Level::new);
        dispatch!(*LEVEL, _ => self.hold_against(need, kept, change));
    }

    #[inline(always)]
    fn hold_against(&self, need: &Asked, kept: &mut [f32], change: impl Fn(f32, &mut f32)) {
        let tools = self.blocks.chunks_exact(self.blocks_each.max(1)).zip(&self.steps);
        for ((blocks, step), kept) in tools.zip(kept) {
            change(cosine(blocks, *step, need), kept);
        }
    }
}

#[inline(always)]
fn cosine(tool: &[Block], step: f32, need: &Asked) -> f32 {
    let sum: i32 = tool.iter().zip(&need.blocks).map(|(a, b)| dot(a, b)).sum();
    sum as f32 * need.step * step
}

#[inline(always)]
fn dot(a: &Block, b: &WideBlock) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(i16::from(*a)) * i32::from(*b)).sum()
}
