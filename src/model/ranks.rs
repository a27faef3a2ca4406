//! Rank-Gauss scaling of one column: every value becomes the normal score of its rank among the training values, so that a column is
//! about standard normal whatever its shape was (van der Waerden's scores; Conover and Iman, "Rank transformations as a bridge between
//! parametric and nonparametric statistics", The American Statistician 35, 1981).

use serde::{Deserialize, Serialize};

use super::marginals::inverse_normal;

/// The most distinct values that are kept: so many at each end, and so many between.
const ENDS: usize = 48;
const BODY: usize = 96;

/// A monotone map from values to normal scores: linear between knots, and beyond the ends by the column's own spread, so that a value
/// far outside of everything seen is far out here too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranks {
    /// Distinct training values, ascending, at least one.
    values: Vec<f64>,
    /// The normal score of each one's mid-rank, strictly ascending.
    scores: Vec<f64>,
    /// What a normal score is worth beyond the ends; above 0.
    spread: f64,
}

impl Ranks {
    /// Learns from what was observed of a column, at least one value.
    pub fn fit(observed: &[f64], spread: f64) -> Self {
        // Adding 0 makes −0 into 0: they are equal, but sort as two.
        let mut sorted: Vec<f64> = observed.iter().map(|value| value + 0.0).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let n = sorted.len() as f64;
        let (mut values, mut scores) = (Vec::new(), Vec::new());
        let mut from = 0;
        for ties in sorted.chunk_by(|a, b| a.total_cmp(b).is_eq()) {
            let to = from + ties.len();
            values.push(ties[0]);
            scores.push(inverse_normal(0.5 * (from + to + 1) as f64 / (n + 1.0)));
            from = to;
        }
        let kept = knots(values.len());
        Self {
            values: kept.iter().map(|&at| values[at]).collect(),
            scores: kept.iter().map(|&at| scores[at]).collect(),
            spread,
        }
    }

    /// The normal score of a value; NaN of NaN.
    pub fn score(&self, value: f64) -> f64 {
        along(&self.values, &self.scores, value, 1.0 / self.spread)
    }

    /// The value that has this normal score.
    pub fn value(&self, score: f64) -> f64 {
        along(&self.scores, &self.values, score, self.spread)
    }

    /// Whether it is of the shape that [`Self::fit`] makes.
    pub fn is_whole(&self) -> bool {
        let ascending = |numbers: &[f64]| {
            numbers.iter().all(|v| v.is_finite()) && numbers.windows(2).all(|w| w[0] < w[1])
        };
        !self.values.is_empty()
            && self.values.len() == self.scores.len()
            && ascending(&self.values)
            && ascending(&self.scores)
            && self.spread.is_finite()
            && self.spread > 0.0
    }
}

/// Which of n distinct values are kept.
fn knots(n: usize) -> Vec<usize> {
    if n <= 2 * ENDS + BODY {
        return (0..n).collect();
    }
    let inner = n - 2 * ENDS;
    let body = (0..BODY).map(|i| ENDS + i * inner / BODY);
    (0..ENDS).chain(body).chain(n - ENDS..n).collect()
}

/// The piecewise linear map from `xs` to `ys`, both ascending, with `slope` beyond the ends.
fn along(xs: &[f64], ys: &[f64], x: f64, slope: f64) -> f64 {
    let above = xs.partition_point(|&knot| knot < x);
    let last = xs.len() - 1;
    if above == 0 {
        return ys[0] + (x - xs[0]) * slope;
    }
    if above > last {
        return ys[last] + (x - xs[last]) * slope;
    }
    let part = (x - xs[above - 1]) / (xs[above] - xs[above - 1]);
    ys[above - 1] + part * (ys[above] - ys[above - 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn normal_scores_by_hand() {
        // Of four values the first two are equal: mid-ranks 1.5, 3 and 4 of 5, probabilities 0.3, 0.6 and 0.8.
        let ranks = Ranks::fit(&[7.0, 1.0, 3.0, 1.0], 2.0);
        for (value, score) in [(1.0, -0.524_401), (3.0, 0.253_347), (7.0, 0.841_621)] {
            assert!((ranks.score(value) - score).abs() < 1e-5, "{value}");
        }
        // Half way between 3 and 7; one spread beyond 7 and below 1.
        assert!((ranks.score(5.0) - 0.547_484).abs() < 1e-5);
        assert!((ranks.score(9.0) - 1.841_621).abs() < 1e-5);
        assert!((ranks.score(-1.0) + 1.524_401).abs() < 1e-5);
        assert!(ranks.score(f64::NAN).is_nan());
    }

    #[test]
    fn a_constant_column_is_0_and_moves_by_its_spread() {
        let ranks = Ranks::fit(&[5.0; 9], 0.05);
        assert!(ranks.is_whole() && ranks.score(5.0).abs() < 1e-9);
        assert!((ranks.score(5.1) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_skewed_column_becomes_about_normal() {
        let skewed: Vec<f64> = (0..10_000).map(|i| (f64::from(i) / 1000.0).exp()).collect();
        let ranks = Ranks::fit(&skewed, 1.0);
        assert!(ranks.values.len() <= 2 * ENDS + BODY);
        let scores: Vec<f64> = skewed.iter().map(|&v| ranks.score(v)).collect();
        let square = scores.iter().map(|z| z * z).sum::<f64>() / 10_000.0;
        assert!((square - 1.0).abs() < 0.05, "{square}");
        assert!(scores.iter().sum::<f64>().abs() / 10_000.0 < 0.02);
    }

    proptest! {
        #[test]
        fn monotone_and_invertible(mut values in proptest::collection::vec(-1e3_f64..1e3, 1..400), x in -2e3_f64..2e3, y in -2e3_f64..2e3) {
            for value in &mut values {
                *value = value.round();
            }
            let ranks = Ranks::fit(&values, 10.0);
            prop_assert!(ranks.is_whole());
            prop_assert!((x < y) == (ranks.score(x) < ranks.score(y)) || (x - y).abs() < 1e-9);
            prop_assert!((ranks.value(ranks.score(x)) - x).abs() < 1e-6 * x.abs().max(1.0));
        }
    }
}
