//! The distribution of few scores: by a law, where there is nothing to count.
//!
//! Scores of neighbouring records say much the same, so that a few hundred of them may be worth twenty; their 99 % quantile is then the
//! largest of them, and that an accident. A law needs fewer: the logarithms of scores (of scores below 0, these themselves) are taken as
//! normal with the median and the spread that were seen, and the next one is judged by Student's t with as many degrees of freedom as
//! there are independent scores, less one (the predictive distribution; Hahn and Meeker, "Statistical Intervals", Wiley 1991). How
//! many are independent is told by their autocorrelation, summed over its initial positive sequence (Geyer, "Practical Markov Chain Monte Carlo",
//! Statistical Science 7, 1992).
//!
//! Where the scores are no such thing, the law yields: it never calls the largest one rarer than once in the sample, and farther out, where
//! the sample says nothing, the tail goes on as steeply as the law arrives there, with the shapes that its largest fifth makes likely.

use std::f64::consts::FRAC_PI_2;

use super::order::quantile_sorted;
use super::tail::{self, Part, scale_min, worth};

/// Scores below which not even a law helps.
const SCORES_MIN: usize = 10;
/// Share of the scores that says how the tail may be shaped.
const SHAPE_SHARE: f64 = 0.2;
/// Degrees of freedom at least.
const FREEDOM_MIN: f64 = 2.0;

/// A distribution of scores by a law: what a calibration is made of.
#[derive(Debug)]
pub(super) struct LawFit {
    /// Quantiles up to the tail, evenly spaced and ascending.
    pub body: Vec<f64>,
    /// The tails beyond, of which the average counts.
    pub parts: Vec<Part>,
    /// P(S > the last of the body).
    pub exceedance: f64,
    /// About how many independent clusters of scores the tail rests on.
    pub clusters: f64,
}

/// Fits the law to `ordered` scores, finite and in order of time, which are also given `sorted`; its body has so many `points`. `None` if they
/// follow no continuous law: there are hardly any, they are equal, or many of them are.
pub(super) fn fit(ordered: &[f64], sorted: &[f64], points: usize) -> Option<LawFit> {
    let n = sorted.len();
    let largest = *sorted.last()?;
    let steps = sorted.windows(2).filter(|pair| pair[0] < pair[1]).count();
    if n < SCORES_MIN || 2 * steps < n {
        return None;
    }
    let logarithmic = sorted[0] > 0.0;
    let change = |score: f64| if logarithmic { score.ln() } else { score };
    let back = |value: f64| if logarithmic { value.exp() } else { value };
    let values: Vec<f64> = ordered.iter().map(|score| change(*score)).collect();
    let centre = change(quantile_sorted(sorted, 0.5));
    let independent = independent(&values);
    let law = Student::new((independent - 1.0).max(FREEDOM_MIN));
    let rarest = 1.0 / (n as f64 + 1.0);
    let farthest = law.quantile(rarest);
    // Of the next score: that the centre is not known for certain makes it a little less certain.
    let spread = deviation(&values) * (1.0 + 1.0 / independent).sqrt();
    let spread = spread.max((change(largest) - centre) / farthest);
    let threshold = back(centre + spread * farthest);
    // The tail goes on as steeply as the law arrives: a generalised Pareto tail's density begins at P(S > t) / σ.
    let slope = law.density(farthest) / spread / if logarithmic { threshold } else { 1.0 };
    let scale = (rarest / slope).max(scale_min(threshold));
    if !(threshold.is_finite() && scale.is_finite()) {
        return None;
    }
    let last = (points - 1) as f64;
    let body: Vec<f64> = (0..points)
        .map(|point| {
            // The first would be at −∞.
            let place = (point as f64).max(0.5) / last;
            back(centre + spread * law.quantile(1.0 - place * (1.0 - rarest)))
        })
        // The last is where the tail begins, but for rounding.
        .map(|score: f64| score.min(threshold))
        .collect();
    // As many as the tail would have, did it begin at the 90 % quantile.
    let clusters = (0.1 * independent).max(1.0);
    let start = quantile_sorted(sorted, 1.0 - SHAPE_SHARE);
    let above = sorted.iter().filter(|score| **score > start);
    let excesses: Vec<f64> = above.map(|score| score - start).collect();
    let shapes = tail::posterior(&excesses, worth(independent / n as f64));
    let parts = tail::scaled(shapes, scale);
    Some(LawFit {
        body,
        parts,
        exceedance: rarest,
        clusters,
    })
}

/// Standard deviation.
fn deviation(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (n - 1.0).max(1.0)).sqrt()
}

/// How many independent values these in order of time are worth: from 3 to their number.
fn independent(values: &[f64]) -> f64 {
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n as f64;
    let product = |lag: usize| -> f64 {
        let pairs = values.iter().zip(values.iter().skip(lag));
        pairs.map(|(a, b)| (a - mean) * (b - mean)).sum()
    };
    let variance = product(0);
    if variance <= 0.0 {
        return n as f64;
    }
    let sum: f64 = (0..n / 4)
        .map(|pair| (product(2 * pair) + product(2 * pair + 1)) / variance)
        .take_while(|both| *both > 0.0)
        .sum();
    // Each lag counts in both directions, lag 0 once.
    let worth = n as f64 / (2.0 * sum - 1.0).max(1.0);
    worth.clamp(3.0, n as f64)
}

/// Cells of the integral.
const CELLS: usize = 4096;

/// Student's t distribution.
///
/// With t = √ν tan θ its density is proportional to cos^(ν−1) θ, over −π/2 < θ < π/2.
#[derive(Debug)]
struct Student {
    freedom: f64,
    /// The integral of cos^(ν−1) from 0 to the end of each cell; the first is 0.
    integral: Vec<f64>,
}

impl Student {
    fn new(freedom: f64) -> Self {
        let power = |theta: f64| theta.cos().max(0.0).powf(freedom - 1.0);
        let step = FRAC_PI_2 / CELLS as f64;
        let mut integral = vec![0.0];
        let mut sum = 0.0;
        for cell in 0..CELLS {
            let from = cell as f64 * step;
            // Simpson's rule.
            let middle = 4.0 * power(from + 0.5 * step);
            sum += (power(from) + middle + power(from + step)) * step / 6.0;
            integral.push(sum);
        }
        Self { freedom, integral }
    }

    fn total(&self) -> f64 {
        self.integral.last().copied().unwrap_or(1.0)
    }

    /// What is exceeded with probability `p`, in (0, 1).
    fn quantile(&self, p: f64) -> f64 {
        if p > 0.5 {
            return -self.quantile(1.0 - p);
        }
        let wanted = (1.0 - 2.0 * p) * self.total();
        let above = self.integral.partition_point(|sum| *sum < wanted);
        let above = above.clamp(1, CELLS);
        let (low, high) = (self.integral[above - 1], self.integral[above]);
        let into = if high > low {
            (wanted - low) / (high - low)
        } else {
            0.5
        };
        let theta = ((above - 1) as f64 + into) * FRAC_PI_2 / CELLS as f64;
        self.freedom.sqrt() * theta.tan()
    }

    fn density(&self, t: f64) -> f64 {
        let cosine = 1.0 / (1.0 + t * t / self.freedom).sqrt();
        cosine.powf(self.freedom + 1.0) / (2.0 * self.total() * self.freedom.sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use crate::stats::calibration::Calibration;
    use rand_distr::{Distribution, Exp1, Pareto, StandardNormal, StudentT};

    #[test]
    fn students_t_from_a_table() {
        for (freedom, p, t) in [
            (2.0, 0.05, 2.919_986),
            (10.0, 0.01, 2.763_769),
            (30.0, 0.001, 3.385_185),
            (380.0, 0.5, 0.0),
        ] {
            let law = Student::new(freedom);
            assert!((law.quantile(p) - t).abs() < 1e-4, "{freedom} {p}");
            assert!((law.quantile(1.0 - p) + t).abs() < 1e-4);
        }
        // ν = 2: the density is 1 / (2 + t²)^1.5.
        assert!((Student::new(2.0).density(1.0) - 3.0_f64.powf(-1.5)).abs() < 1e-6);
    }

    #[test]
    fn independent_by_hand_and_by_theory() {
        // Alternating pairs: lags 0 to 3 have 1, 0.05, −0.9, …: the first pair only.
        let values: Vec<f64> = (0..40)
            .map(|i| if i / 2 % 2 == 0 { 1.0 } else { -1.0 })
            .collect();
        // Lag 1: 20 pairs of equals, 19 of opposites: 1/40. 40 / (2 · 1.025 − 1).
        assert!((independent(&values) - 40.0 / 1.05).abs() < 1e-9);
        // An AR(1) process with 0.9: (1 − 0.9) / (1 + 0.9) of them.
        let found: f64 = (0..50)
            .map(|seed| independent(&smooth(380, seed)))
            .sum::<f64>()
            / 50.0;
        assert!((15.0..35.0).contains(&found), "{found}");
    }

    /// An AR(1) process with 0.9.
    fn smooth(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = Seed(seed).rng();
        let mut x = 0.0;
        let mut next = || {
            let noise: f64 = StandardNormal.sample(&mut rng);
            x = 0.9 * x + 0.435_889_894_354_067_4 * noise;
            x
        };
        (0..100).for_each(|_| {
            next();
        });
        (0..n).map(|_| next()).collect()
    }

    /// Mean realised rate over trainings with different samples, as a multiple of the budget.
    fn realised(draw: impl Fn(usize, u64) -> Vec<f64>, n: usize, budget: f64) -> f64 {
        let fresh = draw(200_000, 999);
        let trainings = 40;
        let sum: f64 = (0..trainings)
            .map(|seed| {
                let threshold = Calibration::fit(&draw(n, seed)).threshold(budget);
                fresh.iter().filter(|s| **s > threshold).count() as f64 / fresh.len() as f64
            })
            .sum();
        sum / trainings as f64 / budget
    }

    #[test]
    fn few_scores_keep_the_budget() {
        fn drawn<D: Distribution<f64>>(law: D) -> impl Fn(usize, u64) -> Vec<f64> {
            move |n, seed| (&law).sample_iter(Seed(seed).rng()).take(n).collect()
        }
        let normal = drawn(StandardNormal);
        let exponential = drawn(Exp1);
        let student = drawn(StudentT::new(3.0).unwrap());
        let heavy = drawn(Pareto::new(1.0, 3.0).unwrap());
        let clustered = |n, seed| -> Vec<f64> {
            smooth(n, seed)
                .into_iter()
                .map(|x| (0.3 * x).exp())
                .collect()
        };
        let mut found = Vec::new();
        for n in [100, 380] {
            for budget in [0.1, 0.01] {
                for (name, ratio) in [
                    ("normal", realised(&normal, n, budget)),
                    ("exponential", realised(&exponential, n, budget)),
                    ("student", realised(&student, n, budget)),
                    ("pareto", realised(&heavy, n, budget)),
                    ("clustered", realised(clustered, n, budget)),
                ] {
                    found.push(format!("{name} n={n} budget={budget}: {ratio:.2}"));
                    assert!(ratio < 1.25, "{found:#?}");
                }
            }
        }
        // Beyond what the sample can show: within a small factor even where the tail is heavier than any that is taken for granted.
        for (name, ratio) in [
            ("exponential", realised(&exponential, 380, 1e-4)),
            ("clustered", realised(clustered, 380, 1e-4)),
            ("pareto", realised(&heavy, 380, 1e-4)),
        ] {
            assert!(ratio < 5.0, "{name}: {ratio}");
        }
    }

    #[test]
    fn a_sample_of_twenty_independent_scores_still_tells_ten_spreads_from_none() {
        // What the largest score, an accident, would hide: the law knows where the scores end.
        let mut scores: Vec<f64> = smooth(380, 3)
            .into_iter()
            .map(|x| (0.1 * x).exp())
            .collect();
        let p = Calibration::fit(&scores).p_value(1.6);
        assert!(p < 0.01, "{p}");
        // But never rarer than what was seen.
        scores[100] = 3.0;
        let p = Calibration::fit(&scores).p_value(2.9);
        assert!(p > 1.0 / 381.0, "{p}");
    }

    #[test]
    fn ties_and_hardly_any_scores_follow_no_law() {
        let two: Vec<f64> = (0..200).map(|i| f64::from(i % 2)).collect();
        for scores in [&[1.0, 2.0, 3.0][..], &[4.0; 50], &two] {
            let mut sorted = scores.to_vec();
            sorted.sort_unstable_by(f64::total_cmp);
            assert!(fit(scores, &sorted, 1024).is_none());
        }
    }
}
