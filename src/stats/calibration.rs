//! From a score to a p-value: the body by the empirical distribution, the tail by peaks-over-threshold.
//!
//! Siffer, Fouque, Termier and Largouët, "Anomaly Detection in Streams with Extreme Value Theory", KDD 2017. The generalised Pareto tail is
//! fitted by the weighted profile likelihood of Zhang and Stephens, "A New and Efficient Estimation Method for the Generalized Pareto
//! Distribution", Technometrics 51 (2009): no optimiser, so nothing that fails to converge. Scores of neighbouring records are not
//! independent: clusters are counted (Ferro and Segers, "Inference for Clusters of Extreme Values", JRSS B 65, 2003) and the
//! tail is made heavier by part of its own uncertainty, so that the realised rate stays within the budget.

use serde::{Deserialize, Serialize};

use super::few;
use super::order::quantile_sorted;

/// Share of the scores that lie in the tail, where there are enough of them.
const TAIL_SHARE: f64 = 0.02;
/// The fewest excesses that a tail is fitted to.
const EXCESSES_MIN: usize = 40;
/// The most of the scores that the tail may take to find them.
const TAIL_SHARE_MAX: f64 = 0.1;
/// Points of the thinned body.
pub(super) const BODY_POINTS_MAX: usize = 1024;
/// The smallest p-value that is ever answered: p-values are above 0, so that their logarithm exists.
pub const P_MIN: f64 = 1e-300;
/// Bounds of the shape. Below: tails are never taken for more bounded than this. Above: beyond it not even a mean exists.
const SHAPE_BOUNDS: (f64, f64) = (-0.25, 1.0);
/// Standard errors of the shape by which the tail is made heavier, and the most by which it may be.
const CAUTION: f64 = 0.7;
const CAUTION_MAX: f64 = 0.25;
/// The shape where too little is known to fit one.
pub(super) const SHAPE_UNKNOWN: f64 = 0.5;

/// The distribution of the scores of normal records, as held-out scores showed it. Scores are "higher is stranger".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Held-out scores up to the tail, in ascending order, thinned to evenly spaced quantiles; the last is `tail.threshold`.
    pub body: Vec<f64>,
    /// The generalised Pareto tail above `tail.threshold`.
    pub tail: Tail,
    /// Scores that were calibrated on.
    pub samples: u64,
    /// Clusters of excesses, about: what the tail's uncertainty is reckoned from.
    pub clusters: f64,
}

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

impl Calibration {
    /// Learns the distribution of `scores`, which are those of normal records that the model was not fitted on, in order of time (the order
    /// tells how much they cluster). Scores that are not finite are left out. Few follow a law; equal or hardly any give a calibration
    /// that is safe: p-values that fall slowly.
    #[must_use]
    pub fn fit(scores: &[f64]) -> Self {
        let ordered: Vec<f64> = scores.iter().copied().filter(|s| s.is_finite()).collect();
        let mut sorted = ordered.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let n = sorted.len();
        let wanted = ((n as f64 * TAIL_SHARE) as usize).max(EXCESSES_MIN);
        let most = (n as f64 * TAIL_SHARE_MAX) as usize;
        if wanted > most {
            return few::calibration(&ordered, &sorted)
                .unwrap_or_else(|| Self::unknown_tail(&sorted));
        }
        let start = sorted[n - wanted - 1];
        let excesses: Vec<f64> = sorted
            .iter()
            .filter(|s| **s > start)
            .map(|s| s - start)
            .collect();
        // With many ties at the start, hardly anything lies above it.
        if excesses.len() < EXCESSES_MIN / 2 {
            return Self::unknown_tail(&sorted);
        }
        let clusters = clusters(&ordered, start);
        let (shape, scale) = fit_pareto(&excesses);
        let caution = (CAUTION * (1.0 + shape.max(0.0)) / clusters.sqrt()).min(CAUTION_MAX);
        let tail = Tail {
            threshold: start,
            shape: (shape + caution).clamp(SHAPE_BOUNDS.0, SHAPE_BOUNDS.1),
            scale: scale.max(scale_min(start)),
            exceedance: (excesses.len() as f64 + 1.0) / (n as f64 + 1.0),
        };
        let body = thin(&sorted[..n - excesses.len()]);
        Self {
            body,
            tail,
            samples: n as u64,
            clusters,
        }
    }

    /// What is safe to say when there is no tail to fit: heavy, from the largest score on, as wide as the upper half of the scores.
    fn unknown_tail(sorted: &[f64]) -> Self {
        let largest = sorted.last().copied().unwrap_or(0.0);
        let spread = if sorted.is_empty() {
            0.0
        } else {
            largest - quantile_sorted(sorted, 0.5)
        };
        let tail = Tail {
            threshold: largest,
            shape: SHAPE_UNKNOWN,
            scale: spread.max(largest.abs() * 0.05).max(1e-3),
            exceedance: 1.0 / (sorted.len() as f64 + 1.0),
        };
        let body = if sorted.is_empty() {
            vec![largest]
        } else {
            thin(sorted)
        };
        Self {
            body,
            tail,
            samples: sorted.len() as u64,
            clusters: 1.0,
        }
    }

    /// The probability that a normal record scores as high as `score`: in (0, 1], never rising with the score. A score that is not a number
    /// is answered 1: it says nothing.
    #[must_use]
    pub fn p_value(&self, score: f64) -> f64 {
        if score.is_nan() {
            return 1.0;
        }
        if score > self.tail.threshold {
            return self.tail.p_value(score).max(P_MIN);
        }
        let above = self.body.partition_point(|value| *value < score);
        let last = self.body.len() - 1;
        if above == 0 || last == 0 {
            return 1.0;
        }
        // Between the body's end and the tail's beginning, which rounding may keep apart.
        let Some(&high) = self.body.get(above) else {
            return self.tail.exceedance;
        };
        let low = self.body[above - 1];
        let place = (above - 1) as f64 + (score - low) / (high - low);
        let p_value = 1.0 - place / last as f64 * (1.0 - self.tail.exceedance);
        p_value.max(self.tail.exceedance)
    }

    /// The smallest score whose p-value is at most `p`: the inverse of [`Self::p_value`].
    #[must_use]
    pub fn threshold(&self, p: f64) -> f64 {
        let p = p.max(P_MIN);
        if p < self.tail.exceedance {
            return self.tail.threshold_at(p);
        }
        let last = self.body.len() - 1;
        let place = (1.0 - p).max(0.0) / (1.0 - self.tail.exceedance) * last as f64;
        let below = (place as usize).min(last);
        let above = (below + 1).min(last);
        let score =
            self.body[below] + (place - below as f64) * (self.body[above] - self.body[below]);
        // Ties: every score of a flat stretch has the p-value of its beginning, so the answer lies beyond it.
        if self.p_value(score) <= p * (1.0 + 1e-9) {
            return score;
        }
        let beyond = self.body.partition_point(|value| *value <= score);
        self.body
            .get(beyond)
            .copied()
            .unwrap_or_else(|| self.tail.threshold.next_up())
    }

    /// How far p-values of the tail can be trusted, from 0 to 1: grows with the clusters of excesses that it was fitted to.
    #[must_use]
    pub fn confidence(&self) -> f64 {
        1.0 - 1.0 / (1.0 + self.clusters / 10.0)
    }
}

/// Calibrations for records of which a share of the features is missing. A masked score has another distribution than a full one, and
/// must not alert more often for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationSet {
    /// Nothing is missing.
    pub full: Calibration,
    /// In ascending order of their bound. What exceeds the last bound takes the last calibration.
    pub masked: Vec<MaskedCalibration>,
}

/// The calibration of records with something missing, up to a bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskedCalibration {
    /// The largest share of missing inputs that it is for, in (0, 1].
    pub missing_max: f64,
    /// Fitted on held-out rows with about this share masked.
    pub calibration: Calibration,
}

impl CalibrationSet {
    /// One calibration for all records.
    #[must_use]
    pub fn uniform(full: Calibration) -> Self {
        Self {
            full,
            masked: Vec::new(),
        }
    }

    /// The calibration for a record whose share `missing` of inputs was not observed.
    #[must_use]
    pub fn at(&self, missing: f64) -> &Calibration {
        if missing <= 0.0 {
            return &self.full;
        }
        self.masked
            .iter()
            .find(|bucket| missing <= bucket.missing_max)
            .or(self.masked.last())
            .map_or(&self.full, |bucket| &bucket.calibration)
    }
}

/// At most [`BODY_POINTS_MAX`] evenly spaced quantiles of `sorted`, the ends included.
fn thin(sorted: &[f64]) -> Vec<f64> {
    if sorted.len() <= BODY_POINTS_MAX {
        return sorted.to_vec();
    }
    let step = (sorted.len() - 1) as f64 / (BODY_POINTS_MAX - 1) as f64;
    (0..BODY_POINTS_MAX)
        .map(|point| sorted[((point as f64 * step).round() as usize).min(sorted.len() - 1)])
        .collect()
}

/// The least scale of a tail beginning at `start`: differences below it are rounding, not strangeness.
pub(super) fn scale_min(start: f64) -> f64 {
    (start.abs() * 1e-6).max(1e-12)
}

/// Shape γ and scale σ of a generalised Pareto distribution, from excesses above 0 in ascending order (Zhang and Stephens 2009).
///
/// With θ = −γ/σ, the profile likelihood of θ is l(θ) = n (ln(θ/k) + k − 1), k(θ) = −mean ln(1 − θ y). The estimate of θ is the mean of a
/// grid of m points weighted by exp l(θ).
fn fit_pareto(excesses: &[f64]) -> (f64, f64) {
    let n = excesses.len() as f64;
    let largest = excesses[excesses.len() - 1];
    let quartile = excesses[((n / 4.0 + 0.5).floor() as usize).clamp(1, excesses.len()) - 1];
    let points = 20 + n.sqrt() as usize;
    let grid: Vec<f64> = (1..=points)
        .map(|j| {
            1.0 / largest + (1.0 - (points as f64 / (j as f64 - 0.5)).sqrt()) / (3.0 * quartile)
        })
        .collect();
    let negative_shape =
        |theta: f64| -excesses.iter().map(|y| (-theta * y).ln_1p()).sum::<f64>() / n;
    let likelihood: Vec<f64> = grid
        .iter()
        .map(|theta| {
            let k = negative_shape(*theta);
            n * ((theta / k).ln() + k - 1.0)
        })
        .collect();
    let best = likelihood
        .iter()
        .copied()
        .filter(|l| l.is_finite())
        .fold(f64::NEG_INFINITY, f64::max);
    let (mut weight_sum, mut theta) = (0.0, 0.0);
    for (point, l) in grid.iter().zip(&likelihood).filter(|(_, l)| l.is_finite()) {
        let weight = (l - best).exp();
        weight_sum += weight;
        theta += weight * point;
    }
    theta /= weight_sum;
    let k = negative_shape(theta);
    let scale = k / theta;
    if !(scale > 0.0 && k.is_finite()) {
        return moments(excesses);
    }
    (-k, scale)
}

/// Shape and scale by the method of moments: γ = (1 − m²/v) / 2, σ = m (m²/v + 1) / 2. For when the likelihood has no answer.
fn moments(excesses: &[f64]) -> (f64, f64) {
    let n = excesses.len() as f64;
    let mean = excesses.iter().sum::<f64>() / n;
    let variance = excesses
        .iter()
        .map(|y| (y - mean) * (y - mean))
        .sum::<f64>()
        / n;
    let ratio = if variance > 0.0 {
        mean * mean / variance
    } else {
        1.0
    };
    (0.5 * (1.0 - ratio), 0.5 * mean * (ratio + 1.0))
}

/// About how many independent clusters the scores above `start` form: their number times the extremal index by the intervals estimator
/// (Ferro and Segers 2003). At least 1.
fn clusters(ordered: &[f64], start: f64) -> f64 {
    let places: Vec<usize> = (0..ordered.len()).filter(|i| ordered[*i] > start).collect();
    let gaps: Vec<f64> = places.windows(2).map(|w| (w[1] - w[0]) as f64).collect();
    let n = gaps.len() as f64;
    let longest = gaps.iter().copied().fold(0.0, f64::max);
    if n < 2.0 {
        return 1.0;
    }
    let index = if longest <= 2.0 {
        let (sum, squares) = gaps.iter().fold((0.0, 0.0), |(s, q), g| (s + g, q + g * g));
        2.0 * sum * sum / (n * squares)
    } else {
        let sum: f64 = gaps.iter().map(|g| g - 1.0).sum();
        let products: f64 = gaps.iter().map(|g| (g - 1.0) * (g - 2.0)).sum();
        2.0 * sum * sum / (n * products)
    };
    (index.clamp(0.0, 1.0) * places.len() as f64).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use proptest::prelude::*;
    use rand_distr::{Distribution, Exp1, StandardNormal, StudentT};

    fn exponential(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = Seed(seed).rng();
        (0..n).map(|_| Exp1.sample(&mut rng)).collect()
    }

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

    #[test]
    fn moments_by_hand() {
        // 2 − √2, 2, 2, 2 + √2: mean 2, variance (2 + 2) / 4 = 1, m²/v = 4: γ = −3/2, σ = 5.
        let root = 2.0_f64.sqrt();
        let (shape, scale) = moments(&[2.0 - root, 2.0, 2.0, 2.0 + root]);
        assert!((shape + 1.5).abs() < 1e-9 && (scale - 5.0).abs() < 1e-9);
    }

    #[test]
    fn the_fit_finds_known_shapes() {
        for shape in [-0.2, 0.0, 0.3, 0.6] {
            // Exact quantiles of a generalised Pareto distribution with σ = 3.
            let n = 2000;
            let excesses: Vec<f64> = (0..n)
                .map(|i| {
                    let u = 1.0 - (f64::from(i) + 0.5) / f64::from(n);
                    Tail {
                        threshold: 0.0,
                        shape,
                        scale: 3.0,
                        exceedance: 1.0,
                    }
                    .threshold_at(u)
                })
                .collect();
            let (found, scale) = fit_pareto(&excesses);
            assert!((found - shape).abs() < 0.03, "γ {shape}, found {found}");
            assert!((scale - 3.0).abs() < 0.15, "σ 3, found {scale}");
        }
    }

    /// Mean realised rate, over trainings with different samples, as a multiple of the budget.
    fn realised(draw: impl Fn(usize, u64) -> Vec<f64>, n: usize, budget: f64) -> f64 {
        let trainings = 40;
        let fresh = draw(400_000, 999);
        let mean: f64 = (0..trainings)
            .map(|seed| {
                let threshold = Calibration::fit(&draw(n, seed)).threshold(budget);
                fresh.iter().filter(|s| **s > threshold).count() as f64 / fresh.len() as f64
            })
            .sum::<f64>()
            / trainings as f64;
        mean / budget
    }

    #[test]
    fn the_realised_rate_keeps_the_budget() {
        let normal = |n: usize, seed: u64| -> Vec<f64> {
            let mut rng = Seed(seed).rng();
            (0..n).map(|_| StandardNormal.sample(&mut rng)).collect()
        };
        let student = |n: usize, seed: u64| -> Vec<f64> {
            let mut rng = Seed(seed).rng();
            let law = StudentT::new(3.0).unwrap();
            (0..n)
                .map(|_| {
                    let t: f64 = law.sample(&mut rng);
                    t.abs()
                })
                .collect()
        };
        // An AR(1) process, squared: heavy-tailed and clustered.
        let clustered = |n: usize, seed: u64| -> Vec<f64> {
            let mut rng = Seed(seed).rng();
            let mut x = 0.0;
            (0..n)
                .map(|_| {
                    let noise: f64 = StandardNormal.sample(&mut rng);
                    x = 0.9 * x + 0.435_889_894_354_067_4 * noise;
                    x * x
                })
                .collect()
        };
        let mut found = Vec::new();
        for (n, budget) in [(3000, 1e-3), (3000, 1e-4), (20_000, 1e-4)] {
            for (name, ratio) in [
                ("exponential", realised(exponential, n, budget)),
                ("normal", realised(normal, n, budget)),
                ("student", realised(student, n, budget)),
                ("clustered", realised(clustered, n, budget)),
            ] {
                found.push(format!("{name} n={n} budget={budget}: {ratio:.2}"));
                assert!(ratio > 0.15 && ratio < 1.25, "{found:#?}");
            }
        }
    }

    #[test]
    fn p_is_continuous_where_the_tail_begins_and_threshold_inverts_it() {
        let calibration = Calibration::fit(&exponential(5000, 3));
        let start = calibration.tail.threshold;
        let (below, above) = (
            calibration.p_value(start),
            calibration.p_value(start.next_up()),
        );
        assert!((below - above).abs() < 1e-9, "{below} {above}");
        for p in [0.9, 0.5, 0.05, 0.0201, 0.01, 1e-4, 1e-9] {
            let back = calibration.p_value(calibration.threshold(p));
            assert!((back / p - 1.0).abs() < 1e-6, "{p} gave {back}");
        }
    }

    #[test]
    fn degenerate_samples_are_safe() {
        for scores in [
            vec![],
            vec![1.0],
            vec![0.0; 5000],
            vec![7.0; 10],
            vec![f64::NAN; 100],
        ] {
            let calibration = Calibration::fit(&scores);
            let usual = scores
                .first()
                .copied()
                .filter(|s| s.is_finite())
                .unwrap_or(0.0);
            assert!(calibration.p_value(usual) >= 0.999, "{scores:?}");
            // A hair above the usual is no anomaly; a thousand times the scale is less likely, and never impossible.
            assert!(calibration.p_value(usual + 1e-9) > 1e-4);
            let far = calibration.p_value(usual + 1e6);
            assert!(far > 0.0 && far < 1e-3, "{far}");
            assert!(calibration.threshold(1e-4) > usual);
            assert!(calibration.threshold(1e-4).is_finite());
        }
    }

    #[test]
    fn ties_count_as_likely_as_their_most_likely_reading() {
        // 900 zeros and 100 ones.
        let mut scores = vec![0.0; 900];
        scores.extend(vec![1.0; 100]);
        let calibration = Calibration::fit(&scores);
        assert!(calibration.p_value(0.0) > 0.999);
        assert!(
            calibration.p_value(1.0) > 0.08,
            "{}",
            calibration.p_value(1.0)
        );
        assert!(calibration.threshold(0.05) > 1.0);
    }

    #[test]
    fn clusters_are_fewer_than_excesses() {
        let mut scores = vec![0.0; 1000];
        for start in [100, 300, 800] {
            scores[start..start + 10].fill(1.0);
        }
        let found = clusters(&scores, 0.5);
        assert!(found < 8.0, "{found}");
        let spread: Vec<f64> = (0..1000)
            .map(|i| f64::from(u8::from(i % 33 == 0)))
            .collect();
        assert!(clusters(&spread, 0.5) > 25.0);
    }

    #[test]
    fn buckets_by_missing_share() {
        let full = Calibration::fit(&[1.0]);
        let some = Calibration::fit(&[2.0]);
        let many = Calibration::fit(&[3.0]);
        let set = CalibrationSet {
            full: full.clone(),
            masked: vec![
                MaskedCalibration {
                    missing_max: 0.25,
                    calibration: some.clone(),
                },
                MaskedCalibration {
                    missing_max: 0.5,
                    calibration: many.clone(),
                },
            ],
        };
        assert_eq!(set.at(0.0), &full);
        assert_eq!(set.at(0.25), &some);
        assert_eq!(set.at(0.3), &many);
        assert_eq!(set.at(0.9), &many);
        assert_eq!(CalibrationSet::uniform(full.clone()).at(0.5), &full);
    }

    #[test]
    fn a_body_that_ends_before_the_tail_begins_is_no_gap() {
        let calibration = Calibration {
            body: vec![0.0, 1.0],
            ..Calibration::fit(&(0..1000).map(|i| f64::from(i) / 100.0).collect::<Vec<_>>())
        };
        let tail = &calibration.tail;
        assert_eq!(
            calibration.p_value(2.0).to_bits(),
            tail.exceedance.to_bits()
        );
        assert_eq!(
            calibration.p_value(tail.threshold).to_bits(),
            tail.exceedance.to_bits()
        );
        // Few scores, whose body and tail are computed one by one.
        for n in 20..300 {
            let scores: Vec<f64> = (0..n)
                .map(|i| 1.0 + f64::from(i * 7919 % 101) / 7.0)
                .collect();
            let calibration = Calibration::fit(&scores);
            let begin = calibration.tail.threshold;
            for score in [begin.next_down(), begin, begin.next_up()] {
                assert!(calibration.p_value(score) > 0.0, "{n}");
            }
        }
    }

    proptest! {
        #[test]
        fn p_values_never_rise_and_stay_in_bounds(
            scores in proptest::collection::vec(-100.0..100.0_f64, 0..800),
            mut probes in proptest::collection::vec(-1e4..1e4_f64, 2..50),
        ) {
            let calibration = Calibration::fit(&scores);
            let begin = calibration.tail.threshold;
            probes.extend([begin.next_down(), begin, begin.next_up()]);
            probes.sort_by(f64::total_cmp);
            let p: Vec<f64> = probes.iter().map(|s| calibration.p_value(*s)).collect();
            prop_assert!(p.iter().all(|p| *p > 0.0 && *p <= 1.0));
            prop_assert!(p.windows(2).all(|w| w[0] >= w[1]));
        }
    }
}
