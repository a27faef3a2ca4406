//! What lies beyond the scores that were seen: a generalised Pareto tail, averaged over what its parameters may be.
//!
//! A tail by the likeliest shape and scale alone realises more than its nominal rate, because their errors do not cancel out; one that is made
//! heavier for caution realises less. The predictive distribution does neither in the mean: tails are averaged, each weighted by how well
//! it explains the excesses times how likely it was beforehand (Coles and Tawn, "A Bayesian Analysis of Extreme Rainfall Data", Applied
//! Statistics 45, 1996). Beforehand, shapes are normal about 0.1 with a spread of 0.25, twice that of Martins and Stedinger ("Generalized
//! maximum-likelihood generalized extreme-value quantile estimators for hydrologic data", Water Resources Research 36, 2000), whose data
//! were rivers only; all scales are as likely as each other on a logarithmic scale.
//! Excesses come in clusters. All are used, since declustering biases (Fawcett and Walshaw, "Improved estimation for temporally clustered
//! extremes", Environmetrics 18, 2007), but they weigh less.
//!
//! The average is as heavy as the heaviest shape that is still conceivable, and so falls ever more slowly where nothing was ever seen. From there
//! on ([`FAR`]) the tail has the mean shape, so that what is a hundred spreads away is told from what is ten.

use serde::{Deserialize, Serialize};

use super::bisect::crossing;

/// Mean and spread of shapes, before anything was seen.
pub(super) const SHAPE_PRIOR: (f64, f64) = (0.1, 0.25);
/// Bounds of the shape. Below: tails are never taken for more bounded than this. Above: beyond it not even a mean exists.
const SHAPE_BOUNDS: (f64, f64) = (-0.5, 1.0);
/// Shapes tried to find where they are likely, and then there.
const SHAPES: usize = 21;
/// Scales tried for each shape.
const SCALES: usize = 9;
/// Spreads of the scale that these reach to.
const SCALE_REACH: f64 = 3.0;
/// Shapes whose log posterior is this far below the best have no say.
const UNLIKELY: f64 = 10.0;
/// Halvings of an interval.
const HALVINGS: usize = 40;
/// By how much the logarithm of p falls from knot to knot, about.
const STEP: f64 = 0.2;
/// The most knots.
const KNOTS_MAX: usize = 200;
/// Of one in as many scores as there are: where the average over shapes ends, since beyond it nothing can be known.
const FAR: f64 = 0.1;

/// A generalised Pareto tail: P(S > s) = `exceedance` · (1 + γ (s − t) / σ)^(−1/γ) for s > t.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    /// t: where the tail begins.
    pub threshold: f64,
    /// γ: the shape; above 0 heavy, 0 exponential, below 0 bounded.
    pub shape: f64,
    /// σ > 0: the scale.
    pub scale: f64,
    /// P(S > t).
    pub exceedance: f64,
}

impl Tail {
    /// P(S > s) for s ≥ t.
    #[must_use]
    pub fn p_value(&self, score: f64) -> f64 {
        let z = (score - self.threshold) / self.scale;
        self.exceedance * survival(z, self.shape)
    }

    /// The inverse of [`Self::p_value`], for p ≤ `exceedance`.
    #[must_use]
    pub fn threshold_at(&self, p: f64) -> f64 {
        let log = (self.exceedance / p).ln();
        let z = if self.shape.abs() < 1e-9 {
            log
        } else {
            (self.shape * log).exp_m1() / self.shape
        };
        self.threshold + self.scale * z
    }
}

/// (1 + γ z)^(−1/γ); exp(−z) at γ = 0; 0 beyond the end of a bounded tail.
fn survival(z: f64, shape: f64) -> f64 {
    if shape.abs() < 1e-9 {
        return (-z).exp();
    }
    let base = shape * z;
    if base <= -1.0 {
        return 0.0;
    }
    (-base.ln_1p() / shape).exp()
}

/// One generalised Pareto tail among several, beginning at 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    shape: f64,
    scale: f64,
    /// How much it is believed; the sum over all is 1.
    weight: f64,
}

/// Scores and logarithms of their p-values, from where the tail begins to where it is `Tail`.
pub(super) type Knots = Vec<(f64, f64)>;

/// What may be true of excesses above 0, given some that were seen, of which a share `worth` counts: from 0, nothing but what was known
/// beforehand, to 1. Without any, the scale is 1.
pub(super) fn posterior(excesses: &[f64], worth: f64) -> Vec<Part> {
    let (low, high) = SHAPE_BOUNDS;
    if excesses.is_empty() {
        return weighted(spaced(low, high).map(|shape| (shape, 1.0, prior(shape))));
    }
    // Where shapes are likely, then those shapes.
    let profile: Vec<(f64, f64)> = spaced(low, high)
        .map(|shape| {
            let scale = scale_of(excesses, shape);
            let fit = worth * likelihood(excesses, shape, scale) + prior(shape);
            (shape, fit)
        })
        .collect();
    let best = profile
        .iter()
        .fold(f64::NEG_INFINITY, |b, (_, l)| b.max(*l));
    let likely = || profile.iter().filter(|(_, fit)| *fit > best - UNLIKELY);
    let step = (high - low) / (SHAPES - 1) as f64;
    let from = likely().fold(high, |from, (shape, _)| from.min(*shape)) - step;
    let to = likely().fold(low, |to, (shape, _)| to.max(*shape)) + step;
    let count = worth * excesses.len() as f64;
    let parts = spaced(from.max(low), to.min(high)).flat_map(|shape| {
        let centre = scale_of(excesses, shape);
        // The inverse of the Fisher information of ln σ at a given γ.
        let spread = ((1.0 + 2.0 * shape).max(0.2) / count.max(1.0)).sqrt();
        (0..SCALES).map(move |at| {
            let place = at as f64 / (SCALES - 1) as f64 * 2.0 - 1.0;
            let scale = centre * (place * SCALE_REACH * spread).exp();
            let fit = worth * likelihood(excesses, shape, scale) + prior(shape);
            // As densely as they lie.
            (shape, scale, fit + spread.ln())
        })
    });
    weighted(parts)
}

/// The mean shape.
pub(super) fn mean_shape(parts: &[Part]) -> f64 {
    parts.iter().map(|part| part.weight * part.shape).sum()
}

/// The same shapes, all with this scale.
pub(super) fn scaled(mut parts: Vec<Part>, scale: f64) -> Vec<Part> {
    for part in &mut parts {
        part.scale = scale;
    }
    parts
}

/// The predictive tail beyond `start`, which a share `exceedance` of scores exceeds, as `samples` scores showed it.
pub(super) fn predictive(
    parts: &[Part],
    (start, exceedance): (f64, f64),
    samples: usize,
) -> (Knots, Tail) {
    let farthest = (FAR / (samples as f64 + 1.0)).ln();
    let mut knots = vec![(start, exceedance.ln())];
    let (mut z, mut log, mut hazard) = (0.0, exceedance.ln(), average(parts, 0.0).1);
    while log > farthest && knots.len() < KNOTS_MAX {
        let mut step = STEP / hazard;
        let (next, rate) = loop {
            let (survival, rate) = average(parts, z + step);
            // A bounded tail may end within the step.
            if survival > 0.0 && exceedance.ln() + survival.ln() > log - 3.0 * STEP {
                break (exceedance.ln() + survival.ln(), rate);
            }
            if z + 0.5 * step <= z {
                break (log, hazard);
            }
            step *= 0.5;
        };
        if next >= log || start + z + step <= start + z {
            break;
        }
        (z, log, hazard) = (z + step, next, rate);
        knots.push((start + z, log));
    }
    let tail = Tail {
        threshold: start + z,
        shape: mean_shape(parts).max(0.0),
        scale: 1.0 / hazard,
        exceedance: if knots.len() > 1 {
            log.exp()
        } else {
            exceedance
        },
    };
    (knots, tail)
}

/// P(Y > z), and the rate −d ln P(Y > z) / dz.
fn average(parts: &[Part], z: f64) -> (f64, f64) {
    let (mut above, mut density) = (0.0, 0.0);
    for part in parts {
        let z = z / part.scale;
        let survival = part.weight * survival(z, part.shape);
        above += survival;
        if survival > 0.0 {
            density += survival / (1.0 + part.shape * z) / part.scale;
        }
    }
    (above, density / above)
}

/// [`SHAPES`] values from `low` to `high`.
fn spaced(low: f64, high: f64) -> impl Iterator<Item = f64> + Clone {
    let step = (high - low) / (SHAPES - 1) as f64;
    (0..SHAPES).map(move |at| low + at as f64 * step)
}

/// Log density of a shape beforehand, but for a constant.
fn prior(shape: f64) -> f64 {
    let (mean, spread) = SHAPE_PRIOR;
    -0.5 * ((shape - mean) / spread).powi(2)
}

/// Shapes, scales and log weights as parts whose weights sum to 1.
fn weighted(parts: impl Iterator<Item = (f64, f64, f64)>) -> Vec<Part> {
    let parts: Vec<(f64, f64, f64)> = parts.collect();
    let best = parts.iter().fold(f64::NEG_INFINITY, |b, (.., l)| b.max(*l));
    let mut parts: Vec<Part> = parts
        .into_iter()
        .map(|(shape, scale, log)| Part {
            shape,
            scale,
            weight: (log - best).exp(),
        })
        .filter(|part| part.weight > (-UNLIKELY).exp())
        .collect();
    let sum: f64 = parts.iter().map(|part| part.weight).sum();
    for part in &mut parts {
        part.weight /= sum;
    }
    parts
}

/// ln likelihood: −k ln σ − (1 + 1/γ) Σ ln(1 + γ y / σ); −∞ where an excess lies beyond the tail's end.
fn likelihood(excesses: &[f64], shape: f64, scale: f64) -> f64 {
    let k = excesses.len() as f64;
    if shape.abs() < 1e-9 {
        return -k * scale.ln() - excesses.iter().sum::<f64>() / scale;
    }
    let slope = shape / scale;
    if excesses.iter().any(|y| slope * y <= -1.0) {
        return f64::NEG_INFINITY;
    }
    let logs: f64 = excesses.iter().map(|y| (slope * y).ln_1p()).sum();
    -k * scale.ln() - (1.0 + 1.0 / shape) * logs
}

/// The likeliest scale for a shape above −1: where (1 + γ) mean(y / (σ + γ y)) is 1, which falls with σ.
fn scale_of(excesses: &[f64], shape: f64) -> f64 {
    let k = excesses.len() as f64;
    let mean = excesses.iter().sum::<f64>() / k;
    let largest = excesses.iter().copied().fold(0.0, f64::max);
    let end = (-shape).max(0.0) * largest;
    let within = (end, end + (1.0 + shape) * mean);
    let below = |scale: f64| {
        let ratio: f64 = excesses.iter().map(|y| y / (scale + shape * y)).sum();
        (1.0 + shape) * ratio > k
    };
    // The upper end: above `end`, whatever rounding did.
    crossing(within, HALVINGS, below).1
}

/// The least scale of a tail beginning at `start`: differences below it are rounding, not strangeness.
pub(super) fn scale_min(start: f64) -> f64 {
    (start.abs() * 1e-6).max(1e-12)
}

/// How much of the excesses counts in a likelihood that takes them for independent, where a share of them is: its cube root. All would make
/// the tail too certain; the share alone far too uncertain, as the others of a cluster say something of the tail, too. (Realised ÷ nominal
/// at 1e-4 with 3,000 scores, a squared AR(1) and two regimes, in `proof`: 1.61 and 0.73 with the fourth root, 1.47 and 0.63 with the cube
/// root.)
pub(super) fn worth(independent: f64) -> f64 {
    independent.clamp(0.0, 1.0).cbrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_formula_by_hand() {
        // γ = 0.5, σ = 2, t = 1, P(S > t) = 0.1: P(S > 5) = 0.1 · (1 + 0.5 · 4 / 2)^−2 = 0.1 / 4.
        let tail = Tail {
            threshold: 1.0,
            shape: 0.5,
            scale: 2.0,
            exceedance: 0.1,
        };
        assert!((tail.p_value(5.0) - 0.025).abs() < 1e-15);
        assert!((tail.threshold_at(0.025) - 5.0).abs() < 1e-12);
        // γ = 0: 0.1 · exp(−2). γ = −0.25 ends at t + 4σ = 9.
        let exponential = Tail { shape: 0.0, ..tail };
        assert!((exponential.p_value(5.0) - 0.1 * (-2.0_f64).exp()).abs() < 1e-15);
        let bounded = Tail {
            shape: -0.25,
            ..tail
        };
        assert!((bounded.p_value(5.0) - 0.1 * 0.5_f64.powi(4)).abs() < 1e-15);
        assert!(bounded.p_value(9.5) <= 0.0);
    }

    /// Exact quantiles of a generalised Pareto distribution.
    fn quantiles(shape: f64, scale: f64, n: u32) -> Vec<f64> {
        let tail = Tail {
            threshold: 0.0,
            shape,
            scale,
            exceedance: 1.0,
        };
        (0..n)
            .map(|i| tail.threshold_at(1.0 - (f64::from(i) + 0.5) / f64::from(n)))
            .collect()
    }

    #[test]
    fn the_likeliest_scale_by_hand() {
        // γ = 0: the mean. γ = 1, two excesses of 3: 2 · 3 / (σ + 3) = 1.
        assert!((scale_of(&[1.0, 2.0, 6.0], 0.0) - 3.0).abs() < 1e-6);
        assert!((scale_of(&[3.0, 3.0], 1.0) - 3.0).abs() < 1e-6);
        // γ = −0.5, excesses of 1: 0.5 / (σ − 0.5) = 1.
        assert!((scale_of(&[1.0, 1.0], -0.5) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn the_likelihood_by_hand() {
        // γ = 1, σ = 2, y = 2: density (1/2) (1 + 1)^−2 = 1/8. γ = 0: exp(−1) / 2.
        assert!((likelihood(&[2.0], 1.0, 2.0) + 8.0_f64.ln()).abs() < 1e-12);
        assert!((likelihood(&[2.0], 0.0, 2.0) + 1.0 + 2.0_f64.ln()).abs() < 1e-12);
        // γ = −0.5, σ = 1 ends at 2.
        assert!(likelihood(&[2.0], -0.5, 1.0).is_infinite());
    }

    #[test]
    fn many_excesses_outweigh_what_was_known_beforehand() {
        for shape in [-0.2, 0.0, 0.3, 0.6] {
            let parts = posterior(&quantiles(shape, 3.0, 2000), 1.0);
            let found = mean_shape(&parts);
            assert!((found - shape).abs() < 0.03, "γ {shape}, found {found}");
            let scale: f64 = parts.iter().map(|part| part.weight * part.scale).sum();
            assert!((scale - 3.0).abs() < 0.15, "σ 3, found {scale}");
        }
    }

    #[test]
    fn few_excesses_do_not() {
        let (mean, _) = SHAPE_PRIOR;
        assert!((mean_shape(&posterior(&[], 1.0)) - mean).abs() < 0.01);
        let three = mean_shape(&posterior(&quantiles(0.6, 1.0, 3), 1.0));
        let thirty = mean_shape(&posterior(&quantiles(0.6, 1.0, 30), 1.0));
        assert!(mean - 0.05 < three && three < thirty && thirty < 0.6);
        // What comes in clusters counts less.
        let clustered = mean_shape(&posterior(&quantiles(0.6, 1.0, 30), 0.2));
        assert!(mean < clustered && clustered < thirty);
    }

    #[test]
    fn the_average_is_heavier_than_the_mean_shape_and_ends_where_nothing_is_known() {
        let parts = posterior(&quantiles(0.0, 1.0, 50), 1.0);
        let (knots, tail) = predictive(&parts, (10.0, 0.05), 1000);
        assert_eq!(knots[0], (10.0, 0.05_f64.ln()));
        assert!(
            knots
                .windows(2)
                .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 > pair[1].1)
        );
        assert_eq!(
            knots.last().map(|(score, _)| score.to_bits()),
            Some(tail.threshold.to_bits())
        );
        assert!(tail.exceedance <= 1e-4 && tail.exceedance > 5e-5);
        // One in ten thousand: an exponential tail has it at ln 500 = 6.2 beyond.
        let at = knots.iter().find(|(_, log)| *log < 1e-4_f64.ln());
        assert!(
            at.is_some_and(|(score, _)| (16.2..20.0).contains(score)),
            "{at:?}"
        );
    }

    #[test]
    fn a_tail_that_ends_goes_on_steeply() {
        let excesses: Vec<f64> = (1..=200).map(|i| f64::from(i) / 200.0).collect();
        let (knots, tail) = predictive(&posterior(&excesses, 1.0), (0.0, 0.1), 2000);
        assert!(knots.len() < KNOTS_MAX && tail.p_value(3.0) < 1e-12);
    }
}
