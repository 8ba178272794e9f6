//! What the parts of a score are worth beside one another: the one place where they are added up.
//!
//! Scores are added, not ranks: a rank in a part would move with every tool that is known, a score depends on the need and the tool, and
//! on how many tools share the need's own words.

use super::search::Scratch;
use crate::matching::dense::{Vector, Vectors};

/// A cosine of one against the words of a need: a rare word in a name is worth about 3.
const SIMILARITY: f32 = 9.0;
/// Texts that are not about the same thing are about this similar; a tool that shares no word must be nearer.
const COSINE_FLOOR: f32 = 0.1;

/// What a cosine adds to a score.
pub(super) fn similarity(cosine: f32) -> f32 {
    SIMILARITY * (cosine - COSINE_FLOOR).max(0.0)
}

/// Adds what similarity is worth to the scores that words have made, and so brings in tools that share no word.
pub(super) fn add_similarity(scratch: &mut Scratch, vectors: &Vectors, need: &Vector) {
    vectors.near(need, COSINE_FLOOR, |tool, cosine| scratch.add_to(tool, similarity(cosine)));
}
