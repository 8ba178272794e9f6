//! Vectors of texts, and those of all tools of an index, small enough that a need is held against every one of them.
//!
//! The first dimensions tell most. They are compared first; a tool they speak against is given no similarity. That is a rule of the need
//! and the tool alone, like the cosine itself, so that no tool moves another.

/// Most dimensions of a table.
pub(super) const DIMENSIONS_MAX: usize = 1024;
/// Dimensions that are compared first.
pub(super) const HEAD: usize = 48;
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

/// The vectors of many tools, numbered from zero.
#[derive(Debug, Default)]
pub(in crate::matching) struct Vectors {
    dimensions: usize,
    /// By tool, ready to multiply.
    heads: Vec<[i16; HEAD]>,
    /// By tool.
    tails: Vec<i8>,
    /// By tool: what one step of its numbers is worth.
    steps: Vec<f32>,
}

/// How near is near enough.
#[derive(Debug)]
pub(in crate::matching) struct Near {
    /// What the first dimensions must bring of the cosine, for the others to be looked at.
    pub head_min: f32,
    /// What the cosine must exceed.
    pub cosine_min: f32,
}

/// A need, ready to be held against vectors.
#[derive(Debug)]
pub(in crate::matching) struct Asked {
    head: [i16; HEAD],
    tail: Vec<i16>,
    step: f32,
}

impl Asked {
    pub(in crate::matching) fn new(vector: &Vector) -> Self {
        let (numbers, step) = vector.quantized();
        let numbers: Vec<i16> = numbers.map(i16::from).collect();
        let mut head = [0; HEAD];
        head.copy_from_slice(&numbers[..HEAD]);
        Self { head, tail: numbers[HEAD..].to_vec(), step }
    }
}

impl Vectors {
    pub(in crate::matching) fn with_dimensions(dimensions: usize) -> Self {
        Self { dimensions, ..Self::default() }
    }

    /// Adds the vector of the next tool.
    pub(in crate::matching) fn push(&mut self, vector: &Vector) {
        let (mut numbers, step) = vector.quantized();
        self.heads.push(std::array::from_fn(|_| numbers.next().map_or(0, i16::from)));
        self.tails.extend(numbers);
        self.steps.push(step);
    }

    /// The cosine of a tool with a need, when it is near enough.
    #[inline]
    pub(in crate::matching) fn cosine(&self, tool: u32, need: &Asked, near: &Near) -> Option<f32> {
        let head = dot_head(&need.head, &self.heads[tool as usize]);
        let worth = need.step * self.steps[tool as usize];
        if head as f32 * worth < near.head_min {
            return None;
        }
        let cosine = (head + dot_tail(&need.tail, self.tail(tool))) as f32 * worth;
        (cosine > near.cosine_min).then_some(cosine)
    }

    fn tail(&self, tool: u32) -> &[i8] {
        let length = self.dimensions - HEAD;
        &self.tails[tool as usize * length..][..length]
    }
}

fn dot_head(a: &[i16; HEAD], b: &[i16; HEAD]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
}

fn dot_tail(a: &[i16], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(i16::from(*b))).sum()
}
