//! A common measure for the scores of different kinds, learnt from the scores of the rows at hand.

use ndarray::Array1;

use crate::model::spec::Combine;
use crate::model::tensors::{ModelFileError, Tensors};

/// Scores kept of a large sample.
const KNOTS: usize = 4096;

/// The share of scores whose excesses tell how fast the tail falls.
const TAIL_SHARE: f64 = 0.02;

/// Mean excesses beyond all seen scores from which on more of them count less than half: the further an extrapolation goes, the less it is
/// to be trusted, and no member must outvote all others; but what one member finds unheard of must not pass for merely unusual either.
const BEYOND: f32 = 32.0;

/// Brings one member's scores to the common measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    combine: Combine,
    /// Ascending scores, thinned.
    knots: Array1<f32>,
    /// Mean excess over the start of the tail; never 0.
    excess: f32,
    /// The 99 % quantile, in absolute value; never 0.
    high: f32,
}

impl Measure {
    /// Learns from the scores of training rows (of kinds that remember rows: as if each had been left out) and validation rows.
    pub fn fit(combine: Combine, scores: &[f32]) -> Self {
        let mut sorted = scores.to_vec();
        sorted.sort_unstable_by(f32::total_cmp);
        let n = sorted.len().max(1);
        let at = |share: f64| {
            sorted
                .get(((n - 1) as f64 * share) as usize)
                .copied()
                .unwrap_or(0.0)
        };
        let start = at(1.0 - TAIL_SHARE);
        let above: Vec<f32> = sorted
            .iter()
            .filter(|&&s| s > start)
            .map(|&s| s - start)
            .collect();
        let mean = above.iter().sum::<f32>() / above.len().max(1) as f32;
        let wide = at(1.0) - at(0.0);
        let knots = if n <= KNOTS {
            sorted.iter().copied().collect()
        } else {
            (0..KNOTS)
                .map(|i| at(i as f64 / (KNOTS - 1) as f64))
                .collect()
        };
        Self {
            combine,
            excess: mean.max(1e-3 * wide).max(1e-12),
            high: at(0.99).abs().max(1e-12),
            knots,
        }
    }

    /// [`Combine::Tail`]: −ln p, with p = (k + ½) / (n + 1) for k of n scores at or above, and beyond all of them further down an
    /// exponential tail, by ever shorter steps: x mean excesses count as b · ln(1 + x / b), b = 32. [`Combine::Quantile`]: the score in units of its 99 % quantile.
    pub fn of(&self, score: f32) -> f32 {
        match self.combine {
            Combine::Quantile => score / self.high,
            Combine::Tail => {
                let n = self.knots.len();
                let below = self
                    .knots
                    .as_slice()
                    .map_or(0, |knots| knots.partition_point(|&knot| knot < score));
                let p = ((n - below) as f32 + 0.5) / (n as f32 + 1.0);
                let last = self.knots.last().copied().unwrap_or(0.0);
                -p.ln() + BEYOND * ((score - last).max(0.0) / self.excess / BEYOND).ln_1p()
            }
        }
    }

    /// Writes the measure.
    pub fn save(&self, to: &mut Tensors) {
        to.set("measure.combine", &self.combine);
        to.set("measure.excess", &self.excess);
        to.set("measure.high", &self.high);
        to.put1("measure.knots", self.knots.view());
    }

    /// Reads back what [`Self::save`] wrote.
    ///
    /// # Errors
    /// If a part is absent, or a divisor is not positive.
    pub fn load(from: &Tensors) -> Result<Self, ModelFileError> {
        let measure = Self {
            combine: from.get("measure.combine")?,
            knots: from.get1("measure.knots")?,
            excess: from.get("measure.excess")?,
            high: from.get("measure.high")?,
        };
        if measure.excess > 0.0 && measure.high > 0.0 {
            Ok(measure)
        } else {
            Err(ModelFileError::Invalid(
                "measure divides by a number that is not positive".to_owned(),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_by_hand() {
        let scores: Vec<f32> = (1..=100).map(|i| i as f32).collect();
        let tail = Measure::fit(Combine::Tail, &scores);
        // 91 to 100 are at or above 91: p = 10.5 / 101.
        assert!((tail.of(91.0) + (10.5f32 / 101.0).ln()).abs() < 1e-5);
        // The tail starts at 98 (place 97.02 of 0..99); excesses 1 and 2; so 148 is 32 mean excesses beyond 100, which count as 32 ln 2.
        let beyond = |score| tail.of(score) + (0.5f32 / 101.0).ln();
        assert!((beyond(148.0) - 32.0 * 2.0f32.ln()).abs() < 1e-4);
        // Further out is always stranger, at less and less: 320 mean excesses are worth 32 ln 11.
        assert!((beyond(580.0) - 32.0 * 11.0f32.ln()).abs() < 1e-4);
        let quantile = Measure::fit(Combine::Quantile, &scores);
        assert!((quantile.of(198.0) - 2.0).abs() < 1e-6);
    }

    #[test]
    fn constant_and_empty_scores_stay_finite() {
        for scores in [vec![], vec![0.0; 10]] {
            for combine in [Combine::Tail, Combine::Quantile] {
                assert!(Measure::fit(combine, &scores).of(1.0).is_finite());
            }
        }
    }
}
