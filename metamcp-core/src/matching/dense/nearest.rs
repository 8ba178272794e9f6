//! How near each piece of a need is to the nearest piece of a tool: it tells apart tools that are about the same thing as a whole.
//!
//! It costs as many products of vectors as the need has pieces times as the tool has, so only the few best are asked for it.

use fearless_simd::Simd;

use super::{
    lanes::{LANES, Row, lay, on_best, pair, pairs_each, products, rows_each},
    table::DenseTable,
    vector::DIMENSIONS_MAX,
};

/// Pieces of a need that are looked at: those that tell the most. The others are mostly words of asking.
const NEED_PIECES_MAX: usize = 8;
const _: () = assert!(NEED_PIECES_MAX <= LANES);

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
    /// Their vectors.
    rows: Vec<Row>,
    /// By piece: what one step of its product with the direction of another adds. Of a piece with itself they add up to one.
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
        let mut rows = vec![Row::default(); rows_each(table.dimensions())];
        for (lane, piece) in pieces.iter().enumerate() {
            lay(&mut rows, lane, table.vector(*piece).iter().copied());
        }
        Some(Self { shares: shares.collect(), rows, table: table.clone() })
    }

    /// The mean of the cosines of its pieces, each with the nearest of these, by how much it tells; at most 1.
    pub(super) fn nearness(&self, tool: &[u16]) -> f32 {
        on_best!(simd => self.hold_against(simd, tool))
    }

    // Loops, not closures: those would be compiled for the least of instruction sets.
    #[inline(always)]
    fn hold_against<S: Simd>(&self, simd: S, tool: &[u16]) -> f32 {
        let mut nearest = [0.0_f32; LANES];
        let mut one = [0; DIMENSIONS_MAX / 2];
        let one = &mut one[..pairs_each(self.table.dimensions())];
        for piece in tool {
            let step = self.table.inverse_length(*piece);
            pair(simd, self.table.vector(*piece), one);
            let products = products(simd, &self.rows, one);
            for lane in 0..LANES {
                let cosine = products[lane] as f32 * step;
                nearest[lane] = if cosine > nearest[lane] { cosine } else { nearest[lane] };
            }
        }
        let mut sum = 0.0;
        for (share, nearest) in self.shares.iter().zip(nearest) {
            sum += share * nearest;
        }
        sum
    }
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
