//! How near each piece of a need is to the nearest piece of a tool: it tells apart tools that are about the same thing as a whole.
//!
//! It costs as many products of vectors as the need has pieces times as the tool has, so only the few best are asked for it.

use std::sync::LazyLock;

use fearless_simd::{Level, dispatch};

use super::table::DenseTable;

/// Pieces of a need that are looked at: those that tell the most. The others are mostly words of asking.
const NEED_PIECES_MAX: usize = 8;

/// The different pieces of many tools, numbered from zero.
#[derive(Debug, Default)]
pub(super) struct PieceLists {
    pieces: Vec<u16>,
    /// By tool: where its pieces end.
    ends: Vec<u32>,
}

impl PieceLists {
    /// Adds those of the next tool, in any order.
    pub(super) fn push(&mut self, mut pieces: Vec<u16>) {
        pieces.sort_unstable();
        pieces.dedup();
        self.pieces.extend(pieces);
        self.ends.push(
            u32::try_from(self.pieces.len())
                .expect("all tools of an index have fewer pieces than it has bytes of memory"),
        );
    }

    pub(super) fn of(&self, tool: u32) -> &[u16] {
        let tool = tool as usize;
        let start = if tool == 0 { 0 } else { self.ends[tool - 1] as usize };
        &self.pieces[start..self.ends[tool] as usize]
    }
}

/// The different pieces of a need, ready to be held against those of tools.
#[derive(Debug)]
pub(in crate::matching) struct AskedPieces {
    table: DenseTable,
    /// Their vectors, one after the other, wide enough to be multiplied as they are.
    vectors: Vec<i16>,
    /// By piece: what its nearness to one like it adds, and what one step of a product is worth then. The former add up to one.
    shares: Vec<f32>,
}

impl AskedPieces {
    /// `None` when no piece has a direction.
    pub(in crate::matching) fn new(table: &DenseTable, mut pieces: Vec<u16>) -> Option<Self> {
        pieces.sort_unstable();
        pieces.dedup();
        // Stable: of pieces that tell as much, the first in the table.
        pieces.sort_by(|a, b| table.weight(*b).total_cmp(&table.weight(*a)));
        pieces.truncate(NEED_PIECES_MAX);
        let weights: Vec<f32> = pieces.iter().map(|piece| table.weight(*piece)).collect();
        let sum: f32 = weights.iter().sum();
        if sum <= f32::EPSILON {
            return None;
        }
        let shares = pieces.iter().zip(&weights).map(|(piece, weight)| weight / sum * table.inverse_length(*piece));
        let vectors = pieces.iter().flat_map(|piece| table.vector(*piece)).map(|step| i16::from(*step));
        Some(Self { shares: shares.collect(), vectors: vectors.collect(), table: table.clone() })
    }

    /// The mean of the cosines of its pieces, each with the nearest of these, by how much it tells; at most 1.
    pub(super) fn nearness(&self, tool: &[u16]) -> f32 {
        static LEVEL: LazyLock<Level> = LazyLock::new(Level::new);
        dispatch!(*LEVEL, _ => self.hold_against(tool))
    }

    // Loops, not closures: those would be compiled for the least of instruction sets.
    #[inline(always)]
    fn hold_against(&self, tool: &[u16]) -> f32 {
        let mut sum = 0.0;
        for (asked, share) in self.vectors.chunks_exact(self.table.dimensions()).zip(&self.shares) {
            let mut nearest = 0.0_f32;
            for piece in tool {
                let cosine = dot(self.table.vector(*piece), asked) as f32 * self.table.inverse_length(*piece);
                nearest = nearest.max(cosine);
            }
            sum += share * nearest;
        }
        sum
    }
}

#[inline(always)]
fn dot(a: &[i8], b: &[i16]) -> i32 {
    let mut sum = 0;
    for (a, b) in a.iter().zip(b) {
        sum += i32::from(i16::from(*a)) * i32::from(*b);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_piece_of_the_need_counts_by_its_nearest() {
        let table = DenseTable::for_tests(&[("rain", 0), ("snow", 1), ("drizzle", 0)]);
        let number = |text: &str| table.piece(text).unwrap();
        let need = AskedPieces::new(&table, vec![number("rain"), number("snow"), number("rain")]).unwrap();
        let mut tools = PieceLists::default();
        tools.push(vec![number("drizzle"), number("drizzle")]);
        tools.push(Vec::new());
        tools.push(vec![number("snow"), number("drizzle")]);
        let near: Vec<f32> = (0..3).map(|tool| need.nearness(tools.of(tool))).collect();
        assert_eq!(tools.of(0).len(), 1);
        assert!((near[0] - 0.5).abs() < 1e-5 && near[1] == 0.0 && (near[2] - 1.0).abs() < 1e-5, "{near:?}");
        assert!(AskedPieces::new(&table, Vec::new()).is_none());
    }
}
