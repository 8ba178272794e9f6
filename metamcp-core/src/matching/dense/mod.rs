//! The dense part of matching: how near the meaning of a need is to the meaning of a tool, where they share no word.
//!
//! A word piece has a fixed vector ([`DenseTable`]), a text the mean of its pieces' vectors, nearness is the cosine. Of the few best
//! tools each piece of the need is also held against those of the tool. No model runs, nothing is downloaded; nearness depends on the need
//! and the tool alone, so other tools never move it.

mod lanes;
mod nearest;
mod pieces;
mod table;
mod vector;
mod vectors;

pub(super) use nearest::AskedPieces;
pub(super) use pieces::Split;
pub(super) use table::Reading;
pub use table::{DenseTable, InvalidTable};
pub(super) use vector::Vector;
pub(super) use vectors::{Asked, Vectors};
