//! What past needs were about: a small vector of each, and of each capability the sum of those that it served.
//!
//! The sums make a classifier by themselves (a normal distribution for each capability, with one variance per axis for all), so nothing is
//! trained: a need is added by adding its vector, and taken away by subtracting it.

use crate::matching::dense::Vector;

/// Axes that are summed up side by side.
const LANES: usize = 8;
/// Largest number of a stored vector.
const STEPS: f32 = 127.0;
/// Needs near the middle of all that a capability is taken to have served: few needs do not tell what it is asked for.
const NEEDS_PRIOR: f32 = 3.0;
/// What is added to the variance of each axis, as a share of the average one: axes that hardly vary tell little.
const VARIANCE_SHARE: f32 = 0.3;

/// The vectors of one memory. All are of one table.
#[derive(Debug, Default)]
pub(super) struct Meanings {
    dimensions: usize,
    /// By past need: whole numbers, and what one of them is worth.
    numbers: Vec<i8>,
    steps: Vec<f32>,
    /// By capability: the weighted sum of what it served.
    sums: Vec<f32>,
    /// By axis: the same over all capabilities, and of the squares.
    all: Vec<(f64, f64)>,
    weight: f64,
}

/// A need that is held against the memory.
#[derive(Debug)]
pub(super) struct Asked {
    numbers: Vec<i8>,
    step: f32,
    /// By axis: the mean of all needs.
    means: Vec<f32>,
    /// By axis: one by the variance.
    sharpness: Vec<f32>,
    /// By axis: how far the need is from the mean, in variances.
    far: Vec<f32>,
}

impl Meanings {
    /// Adds the vector of the next past need, which weighs nothing yet.
    pub(super) fn push(&mut self, meaning: &Vector) {
        self.size(meaning.numbers().len());
        let (numbers, step) = quantized(meaning);
        self.numbers.extend(numbers);
        self.steps.push(step);
    }

    /// Adds the vector of a past need of another memory.
    pub(super) fn push_from(&mut self, other: &Self, past: usize) {
        if let Some(numbers) = other.of(past) {
            self.size(other.dimensions);
            self.numbers.extend(numbers);
            self.steps.push(other.steps[past]);
        }
    }

    /// Changes what a past need weighs for the capability that it was served by.
    pub(super) fn weigh(&mut self, past: usize, capability: usize, change: f32) {
        let Self { dimensions, numbers, steps, sums, all, weight } = self;
        let Some(numbers) = numbers.get(past * *dimensions..).and_then(|rest| rest.get(..*dimensions)) else { return };
        if *dimensions == 0 || change == 0.0 {
            return;
        }
        let end = (capability + 1) * *dimensions;
        if sums.len() < end {
            sums.resize(end, 0.0);
        }
        let step = steps[past];
        *weight += f64::from(change);
        for ((x, sum), (first, second)) in numbers.iter().zip(&mut sums[end - *dimensions..end]).zip(all) {
            let x = f32::from(*x) * step;
            *sum += x * change;
            *first += f64::from(x * change);
            *second += f64::from(x * x * change);
        }
    }

    /// Forgets what the past needs weigh, not the needs.
    pub(super) fn unweigh(&mut self) {
        self.sums.fill(0.0);
        self.all.fill((0.0, 0.0));
        self.weight = 0.0;
    }

    /// Makes a need ready; `None` when nothing is known to hold it against.
    #[expect(clippy::cast_possible_truncation, reason = "a mean needs no more")]
    pub(super) fn ask(&self, meaning: &Vector) -> Option<Asked> {
        if meaning.is_zero() || self.weight <= 0.0 || meaning.numbers().len() != self.dimensions {
            return None;
        }
        let moments = self.all.iter().map(|(first, second)| {
            let mean = first / self.weight;
            (mean, (second / self.weight - mean * mean).max(0.0))
        });
        let moments: Vec<(f64, f64)> = moments.collect();
        let average = moments.iter().map(|(_, variance)| variance).sum::<f64>() / moments.len() as f64;
        let least = f64::from(VARIANCE_SHARE) * average + f64::from(f32::EPSILON);
        let means: Vec<f32> = moments.iter().map(|(mean, _)| *mean as f32).collect();
        let sharpness: Vec<f32> = moments.iter().map(|(_, variance)| (variance + least).recip() as f32).collect();
        let away = meaning.numbers().iter().zip(&means).map(|(x, mean)| x - mean);
        let far = away.zip(&sharpness).map(|(away, sharpness)| away * sharpness).collect();
        let (numbers, step) = quantized(meaning);
        Some(Asked { numbers: numbers.collect(), step, means, sharpness, far })
    }

    /// The cosine of a past need with a need.
    pub(super) fn cosine(&self, past: u32, asked: &Asked) -> f32 {
        let past = past as usize;
        let Some(numbers) = self.of(past) else { return 0.0 };
        let sum: i32 = numbers.iter().zip(&asked.numbers).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
        sum as f32 * asked.step * self.steps[past]
    }

    /// How much likelier a need is of a capability than of any: the log of the ratio. `served` is what it served as it is weighed here,
    /// `scale` turns that into needs.
    pub(super) fn leaning(&self, capability: u32, asked: &Asked, served: f32, scale: f32) -> f32 {
        let sums = self.sums.get(capability as usize * self.dimensions..).and_then(|rest| rest.get(..self.dimensions));
        let Some(sums) = sums else { return 0.0 };
        let share = scale / (served * scale + NEEDS_PRIOR);
        let mut lanes = [0.0; LANES];
        let axes = sums.chunks(LANES).zip(asked.means.chunks(LANES));
        let axes = axes.zip(asked.sharpness.chunks(LANES).zip(asked.far.chunks(LANES)));
        for ((sums, means), (sharpness, far)) in axes {
            for (lane, ((sum, mean), (sharpness, far))) in
                lanes.iter_mut().zip(sums.iter().zip(means).zip(sharpness.iter().zip(far)))
            {
                let away = (sum - served * mean) * share;
                *lane += away * (far - 0.5 * away * sharpness);
            }
        }
        lanes.iter().sum()
    }

    fn of(&self, past: usize) -> Option<&[i8]> {
        let all = self.numbers.get(past * self.dimensions..)?;
        all.get(..self.dimensions).filter(|numbers| !numbers.is_empty())
    }

    fn size(&mut self, dimensions: usize) {
        if self.dimensions == 0 {
            self.dimensions = dimensions;
            self.all = vec![(0.0, 0.0); dimensions];
        }
    }
}

/// Whole numbers up to [`STEPS`], and what one of them is worth.
#[expect(clippy::cast_possible_truncation, reason = "rounded, and at most 127")]
fn quantized(meaning: &Vector) -> (impl Iterator<Item = i8>, f32) {
    let largest = meaning.numbers().iter().fold(f32::MIN_POSITIVE, |a, b| a.max(b.abs()));
    let step = largest / STEPS;
    (meaning.numbers().iter().map(move |x| (x / step).round() as i8), step)
}
