//! From a score to a p-value: the body by the empirical distribution, the tail by peaks-over-threshold.
//!
//! Siffer, Fouque, Termier and Largouët, "Anomaly Detection in Streams with Extreme Value Theory", KDD 2017. The generalised Pareto tail is
//! averaged over what its shape and scale may be ([`super::tail`]), so that in the mean over trainings the realised rate is the nominal one:
//! neither above nor below. Scores of neighbouring records are not independent: clusters are counted (Ferro and Segers, "Inference for
//! Clusters of Extreme Values", JRSS B 65, 2003), and the tail is the less certain the fewer they are. How often alerts may come is not
//! decided here, where a record is judged by itself.

use serde::{Deserialize, Serialize};

use super::order::quantile_sorted;
use super::small_sample;
use super::tail::{self, Tail, scale_min, worth};

/// The fewest excesses that a tail is fitted to.
const EXCESSES_MIN: usize = 40;
/// Excesses that suffice, and ...
const EXCESSES: usize = 300;
/// ... the share of the scores that may be more of them.
const TAIL_SHARE: f64 = 0.02;
/// The most of the scores that the tail may take to find them.
const TAIL_SHARE_MAX: f64 = 0.1;
/// How much rarer than they were seen a tail may call the largest scores, if they were seen on at least so many occasions: a fault that nobody noticed is
/// one or two, a count that is nearly always 0 is many.
const RARER: f64 = 1000.0;
const OCCASIONS_MIN: usize = 5;
/// Scores that lie between two occasions, at least; and the share of all.
const APART: usize = 10;
const APART_SHARE: f64 = 0.01;
/// Points of the thinned body.
const BODY_POINTS_MAX: usize = 1024;
/// The smallest p-value that is ever answered: p-values are above 0, so that their logarithm exists.
pub const P_MIN: f64 = 1e-300;

/// The probability that any of `tries` is as rare as `each`: 1 − (1 − p)ⁿ, also where p is too small for that (Šidák, JASA 62, 1967).
#[must_use]
pub fn any_of(each: f64, tries: f64) -> f64 {
    -(tries * (-each).ln_1p()).exp_m1()
}

/// The distribution of the scores of normal records, as held-out scores showed it. Scores are "higher is stranger".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Held-out scores up to the tail, in ascending order, thinned to evenly spaced quantiles; the last is the score of the first knot.
    pub body: Vec<f64>,
    /// P(S > the last of the body).
    pub exceedance: f64,
    /// Scores, ascending, and the logarithms of their p-values, from where the tail begins to `tail.threshold`; straight in between.
    pub knots: Vec<(f64, f64)>,
    /// The generalised Pareto tail above `tail.threshold`.
    pub tail: Tail,
    /// Scores that were calibrated on.
    pub samples: u64,
    /// Clusters of excesses, about: what the tail's uncertainty is reckoned from.
    pub clusters: f64,
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
        let most = (n as f64 * TAIL_SHARE_MAX) as usize;
        if most < EXCESSES_MIN {
            return match small_sample::fit(&ordered, &sorted, BODY_POINTS_MAX) {
                Some(fit) => Self::of(fit.body, &fit.parts, fit.exceedance, (n, fit.clusters)),
                None => Self::unknown_tail(&sorted),
            };
        }
        let wanted = ((n as f64 * TAIL_SHARE) as usize).max(EXCESSES).min(most);
        let start = sorted[n - wanted - 1];
        let excesses: Vec<f64> = sorted
            .iter()
            .filter(|s| **s > start)
            .map(|s| (s - start).max(scale_min(start)))
            .collect();
        // With many ties at the start, hardly anything lies above it; and ties beyond it are no tail that a law has.
        let distinct = excesses.chunk_by(|a, b| a >= b).count();
        if distinct < EXCESSES_MIN / 2 || 2 * distinct < excesses.len() {
            return Self::unknown_tail(&sorted);
        }
        let clusters = clusters(&ordered, start);
        let worth = worth(clusters / excesses.len() as f64);
        let parts = tail::posterior(&excesses, worth);
        let exceedance = (excesses.len() as f64 + 1.0) / (n as f64 + 1.0);
        let body = thin(&sorted[..n - excesses.len()]);
        let fitted = Self::of(body, &parts, exceedance, (n, clusters));
        fitted.no_rarer_than_seen(&ordered, &sorted, excesses.len())
    }

    /// Where the largest scores, of so many excesses, are those of something else that happens now and then, no law of tails joins them to the others: then they are as
    /// rare as they were seen, and what is beyond them is as for scores of which nothing is known.
    fn no_rarer_than_seen(mut self, ordered: &[f64], sorted: &[f64], excesses: usize) -> Self {
        let n = sorted.len();
        let seen = |count: usize| count as f64 / (n as f64 + 1.0);
        let far_rarer = |count: &usize| {
            let p = self.p_value(sorted[n - count]);
            p * RARER < seen(*count)
        };
        let Some(count) = (1..=excesses).rev().find(far_rarer) else {
            return self;
        };
        let (from, largest) = (sorted[n - count], sorted[n - 1]);
        if occasions(ordered, from) < OCCASIONS_MIN {
            return self;
        }
        self.knots.retain(|(score, _)| *score < from);
        for (_, log) in &mut self.knots {
            *log = log.max(seen(count).ln());
        }
        let mut at = n - count;
        while sorted[at] < largest {
            self.knots.push((sorted[at], seen(n - at).ln()));
            at = sorted.partition_point(|score| *score <= sorted[at]);
        }
        let scale = (largest - from).max(largest.abs() * 0.05).max(1e-3);
        let parts = tail::scaled(tail::posterior(&[], 0.0), scale);
        let (beyond, tail) = tail::predictive(&parts, (largest, seen(n - at)), n);
        self.knots.extend(beyond);
        Self { tail, ..self }
    }

    /// A body, and beyond it the average of tails, as a number of scores and of clusters showed them.
    fn of(
        body: Vec<f64>,
        parts: &[tail::Part],
        exceedance: f64,
        (samples, clusters): (usize, f64),
    ) -> Self {
        let start = body.last().copied().unwrap_or_default();
        let (knots, tail) = tail::predictive(parts, (start, exceedance), samples);
        Self {
            body,
            exceedance,
            knots,
            tail,
            samples: samples as u64,
            clusters,
        }
    }

    /// What is safe to say when there is no tail to fit: one of which nothing is known, from the largest score on, as wide as the upper
    /// half of the scores.
    fn unknown_tail(sorted: &[f64]) -> Self {
        let largest = sorted.last().copied().unwrap_or(0.0);
        let spread = if sorted.is_empty() {
            0.0
        } else {
            largest - quantile_sorted(sorted, 0.5)
        };
        let scale = spread.max(largest.abs() * 0.05).max(1e-3);
        let body = if sorted.is_empty() {
            vec![largest]
        } else {
            thin(sorted)
        };
        let parts = tail::scaled(tail::posterior(&[], 0.0), scale);
        let exceedance = 1.0 / (sorted.len() as f64 + 1.0);
        Self::of(body, &parts, exceedance, (sorted.len(), 1.0))
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
        let exceedance = self.exceedance;
        if score > self.start() {
            let above = self.knots.partition_point(|(at, _)| *at < score);
            let ((low, from), (high, to)) = (self.knots[above - 1], self.knots[above]);
            let log = from + (score - low) / (high - low) * (to - from);
            return log.exp().clamp(self.tail.exceedance, exceedance);
        }
        let above = self.body.partition_point(|value| *value < score);
        let last = self.body.len() - 1;
        if above == 0 || last == 0 {
            return 1.0;
        }
        // Between the body's end and the tail's beginning, which rounding may keep apart.
        let Some(&high) = self.body.get(above) else {
            return exceedance;
        };
        let low = self.body[above - 1];
        let place = (above - 1) as f64 + (score - low) / (high - low);
        let p_value = 1.0 - place / last as f64 * (1.0 - exceedance);
        p_value.max(exceedance)
    }

    /// Where the tail begins.
    fn start(&self) -> f64 {
        self.knots
            .first()
            .map_or(self.tail.threshold, |(score, _)| *score)
    }

    /// The smallest score whose p-value is at most `p`: the inverse of [`Self::p_value`].
    #[must_use]
    pub fn threshold(&self, p: f64) -> f64 {
        let p = p.max(P_MIN);
        if p < self.tail.exceedance {
            return self.tail.threshold_at(p);
        }
        let exceedance = self.exceedance;
        if p < exceedance {
            let log = p.ln();
            let above = self.knots.partition_point(|(_, at)| *at > log);
            let above = above.clamp(1, self.knots.len() - 1);
            let ((low, from), (high, to)) = (self.knots[above - 1], self.knots[above]);
            return low + (log - from) / (to - from) * (high - low);
        }
        let last = self.body.len() - 1;
        let place = (1.0 - p).max(0.0) / (1.0 - exceedance) * last as f64;
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
            .unwrap_or_else(|| self.start().next_up())
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

/// On how many occasions scores were seen that are at least `from`.
fn occasions(ordered: &[f64], from: f64) -> usize {
    let apart = APART.max((APART_SHARE * ordered.len() as f64) as usize);
    let places: Vec<usize> = (0..ordered.len()).filter(|i| ordered[*i] >= from).collect();
    let gaps = places.windows(2).filter(|pair| pair[1] - pair[0] > apart);
    gaps.count() + usize::from(!places.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use proptest::prelude::*;
    use rand_distr::{Distribution, Exp1, StandardNormal};

    fn exponential(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = Seed(seed).rng();
        (0..n).map(|_| Exp1.sample(&mut rng)).collect()
    }

    #[test]
    fn a_fault_of_a_thousand_spreads_is_rarer_than_any_budget() {
        // Scaled residuals beyond 10 are compressed: a thousand spreads are told as 56.
        let mut rng = Seed(5).rng();
        for (n, rare) in [(400, 1e-9), (3000, 1e-12)] {
            let normal: Vec<f64> = (0..n)
                .map(|_| {
                    let residual: f64 = StandardNormal.sample(&mut rng);
                    residual.abs()
                })
                .collect();
            let calibration = Calibration::fit(&normal);
            let p = [10.0, 20.0, 56.0, 1e3].map(|score| calibration.p_value(score));
            assert!(p[2] <= rare, "{n} {p:?}");
            assert!(p.windows(2).all(|pair| pair[1] < pair[0] * 0.1));
        }
    }

    #[test]
    fn what_was_seen_now_and_then_is_as_rare_as_it_was_seen() {
        // One in 200 is a million; in one stretch, or on ten occasions.
        let scores = |together: bool| {
            let mut scores = exponential(2000, 9);
            for i in 0..10 {
                scores[if together { 700 + i } else { 100 + 190 * i }] = 1e6 + i as f64;
            }
            scores
        };
        let apart = Calibration::fit(&scores(false));
        for (at, seen) in [(1e6, 0.005), (1e6 + 5.0, 0.0025), (1e6 + 9.0, 0.0005)] {
            let p = apart.p_value(at);
            assert!((0.8..1.2).contains(&(p / seen)), "{at}: {p}, not {seen}");
            let back = apart.p_value(apart.threshold(p));
            assert!((back / p - 1.0).abs() < 1e-6, "{p} gave {back}");
        }
        let p = [
            1.0,
            3.0,
            7.0,
            20.0,
            1e6,
            1e6 + 3.0,
            1e6 + 20.0,
            1e6 + 80.0,
            1e7,
        ];
        let p = p.map(|score| apart.p_value(score));
        assert!(p.windows(2).all(|pair| pair[1] <= pair[0]), "{p:?}");
        assert!(p[8] < 1e-9, "{p:?}");
        let once = Calibration::fit(&scores(true)).p_value(1e6);
        assert!(once < 1e-5, "{once}");
    }

    #[test]
    fn p_is_continuous_where_the_tail_begins_and_threshold_inverts_it() {
        let calibration = Calibration::fit(&exponential(5000, 3));
        for start in [calibration.start(), calibration.tail.threshold] {
            let (below, above) = (
                calibration.p_value(start),
                calibration.p_value(start.next_up()),
            );
            assert!((below / above - 1.0).abs() < 1e-9, "{below} {above}");
        }
        for p in [0.9, 0.5, 0.101, 0.05, 0.01, 1e-4, 1e-9] {
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
        for score in [2.0, calibration.start()] {
            assert_eq!(
                calibration.p_value(score).to_bits(),
                calibration.exceedance.to_bits()
            );
        }
        // Few scores, whose body and tail are computed one by one.
        for n in 20..300 {
            let scores: Vec<f64> = (0..n)
                .map(|i| 1.0 + f64::from(i * 7919 % 101) / 7.0)
                .collect();
            let calibration = Calibration::fit(&scores);
            for begin in [calibration.start(), calibration.tail.threshold] {
                for score in [begin.next_down(), begin, begin.next_up()] {
                    assert!(calibration.p_value(score) > 0.0, "{n}");
                }
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
            for begin in [calibration.start(), calibration.tail.threshold] {
                probes.extend([begin.next_down(), begin, begin.next_up()]);
            }
            probes.sort_by(f64::total_cmp);
            let p: Vec<f64> = probes.iter().map(|s| calibration.p_value(*s)).collect();
            prop_assert!(p.iter().all(|p| *p > 0.0 && *p <= 1.0));
            prop_assert!(p.windows(2).all(|w| w[0] >= w[1]));
        }
    }
}
