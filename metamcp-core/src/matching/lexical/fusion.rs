//! What the parts of a score are worth beside one another: the one place where they are added up.
//!
//! Scores are added, not ranks: a rank in a part would move with every tool that is known, a score depends on the need and the tool, and
//! on how many tools share the need's own words.

use crate::matching::dense::{Asked, AskedPieces, Vectors};

/// A cosine of one against the words of a need: a rare word in a name is worth about 3.
const SIMILARITY: f32 = 9.0;
/// From where on a cosine counts: texts that are not about the same thing are about this similar.
const COSINE_FLOOR: f32 = 0.1;
/// A tool that shares no word with the need must be this near to be brought in at all.
const COSINE_ALONE: f32 = 0.25;
/// What it adds when each piece of the need stands in the tool, too.
const NEARNESS: f32 = 6.0;
/// Most tools whose pieces are looked at one by one: the first by all else. Few more would be moved.
pub(super) const CLOSER_MAX: usize = 8;

/// What similarity adds to the score of a tool; `words` tells whether it has a score by words.
pub(super) fn similarity(vectors: &Vectors, tool: u32, need: &Asked, words: bool) -> Option<f32> {
    Some(worth(vectors.cosine(tool, need), words)).filter(|worth| *worth > 0.0)
}

/// Adds what similarity is worth to the scores that words have made, by tool, and so brings in tools that share no word.
pub(super) fn add_similarity(scores: &mut [f32], vectors: &Vectors, need: &Asked) {
    vectors.each_cosine(need, scores, |score, cosine| score + worth(cosine, score > 0.0));
}

/// What the nearness of its pieces adds to the score of one of the first tools.
pub(super) fn nearness(vectors: &Vectors, tool: u32, need: &AskedPieces) -> f32 {
    NEARNESS * vectors.nearness(tool, need)
}

#[inline(always)]
fn worth(cosine: f32, words: bool) -> f32 {
    let least = if words { COSINE_FLOOR } else { COSINE_ALONE };
    if cosine > least { SIMILARITY * (cosine - COSINE_FLOOR) } else { 0.0 }
}
