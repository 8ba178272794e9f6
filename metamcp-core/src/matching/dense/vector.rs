//! The vector of one text, and the whole numbers that stand for it.

/// Most dimensions of a table.
pub(super) const DIMENSIONS_MAX: usize = 1024;
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
    pub(super) fn of(numbers: &[f32]) -> Self {
        Self(numbers.into())
    }

    #[cfg(test)]
    pub(super) fn cosine(&self, other: &Self) -> f32 {
        self.0.iter().zip(&other.0).map(|(a, b)| a * b).sum()
    }

    /// Whole numbers up to [`STEPS`] and what one of them is worth.
    #[expect(clippy::cast_possible_truncation, reason = "rounded, and at most 127")]
    pub(super) fn quantized(&self) -> (impl Iterator<Item = i8>, f32) {
        let largest = self.0.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        let step = if largest > 0.0 { largest / STEPS } else { 1.0 };
        (self.0.iter().map(move |x| (x / step).round() as i8), if largest > 0.0 { step } else { 0.0 })
    }
}
