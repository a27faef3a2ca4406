//! How codes of normal rows are distributed: what synthetic rows are decoded from.
//!
//! A Gaussian copula (Sklar, 1959; Nelsen, "An Introduction to Copulas", Springer 2006): each number of the code by its own quantiles, so
//! that bounded, skewed and sparse codes stay what they are, and all together by the correlations of their normal scores.

use ndarray::{Array2, ArrayView2};
use rand_chacha::ChaCha8Rng;

use crate::model::options::Residual;
use crate::model::ranks::Ranks;
use crate::model::residual::ResidualScale;
use crate::model::tensors::{ModelFileError, Tensors};

/// Quantiles that are kept of each number of the code.
const KNOTS: usize = 63;

/// The largest normal score that a training row's code counts as; the outer knots are at 2.15.
const SCORE_MAX: f32 = 2.5;

/// A fitted distribution of codes.
#[derive(Clone, Debug, PartialEq)]
pub struct CodeDensity {
    /// `KNOTS × code`: evenly spaced quantiles, ascending.
    knots: Array2<f32>,
    /// Mean and covariance (shrunk) of the normal scores.
    joint: ResidualScale,
}

impl CodeDensity {
    /// Learns from the codes (`n × code`) of training rows; the share `trim` that is farthest out counts for nothing in the covariance.
    pub fn fit(codes: ArrayView2<'_, f32>, trim: f32) -> Self {
        let (n, width) = codes.dim();
        let mut knots = Array2::zeros((if n > 0 { KNOTS } else { 0 }, width));
        for (column, mut knots) in codes.columns().into_iter().zip(knots.columns_mut()) {
            let mut sorted = column.to_vec();
            sorted.sort_unstable_by(f32::total_cmp);
            for (at, knot) in knots.iter_mut().enumerate() {
                *knot = sorted[((at + 1) * n / (KNOTS + 1)).min(n - 1)];
            }
        }
        let mut scores = codes.to_owned();
        for (mut column, ranks) in scores.columns_mut().into_iter().zip(ranks(&knots)) {
            // Beyond the outer knots a score grows with the value: bounded, so that a long tail does not pull the mean.
            column.mapv_inplace(|value| {
                let score = ranks.score(f64::from(value)) as f32;
                score.clamp(-SCORE_MAX, SCORE_MAX)
            });
        }
        Self {
            knots,
            joint: ResidualScale::fit(Residual::Whitened, scores.view(), trim),
        }
    }

    /// `n` codes (`n × code`), their normal scores `spread` times as wide as those of training rows.
    pub fn draw(&self, n: usize, spread: f32, rng: &mut ChaCha8Rng) -> Array2<f32> {
        let mut drawn = self.joint.draw(n, spread, rng);
        for (mut column, ranks) in drawn.columns_mut().into_iter().zip(ranks(&self.knots)) {
            column.mapv_inplace(|score| ranks.value(f64::from(score)) as f32);
        }
        drawn
    }

    /// Writes it.
    pub fn save(&self, to: &mut Tensors) {
        to.put2("codes.knots", self.knots.view());
        self.joint.save("codes.joint.", to);
    }

    /// Reads what [`Self::save`] wrote; `None` from a file of a program that did not.
    pub fn load(from: &Tensors) -> Result<Option<Self>, ModelFileError> {
        if !from.tensors.contains_key("codes.knots") {
            return Ok(None);
        }
        Ok(Some(Self {
            knots: from.get2("codes.knots")?,
            joint: ResidualScale::load("codes.joint.", from)?,
        }))
    }
}

/// The maps between the numbers of the code and their normal scores.
fn ranks(knots: &Array2<f32>) -> Vec<Ranks> {
    let of = |column: ndarray::ArrayView1<'_, f32>| {
        let values: Vec<f64> = column.iter().map(|knot| f64::from(*knot)).collect();
        let n = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        Ranks::fit(&values, variance.sqrt().max(1e-6))
    };
    if knots.nrows() == 0 {
        return Vec::new();
    }
    knots.columns().into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::noise::fill_normal;
    use crate::seed::Seed;

    #[test]
    fn skewed_codes_are_drawn_as_skewed_and_as_correlated() {
        let mut codes = Array2::zeros((4000, 2));
        fill_normal(codes.view_mut(), 1.0, &mut Seed(1).rng());
        // Log-normal, never below 0; the second follows the first.
        for mut row in codes.rows_mut() {
            row[1] = (0.8 * row[0] + 0.6 * row[1]).exp();
            row[0] = row[0].exp();
        }
        let density = CodeDensity::fit(codes.view(), 0.0);
        let drawn = density.draw(8000, 1.0, &mut Seed(2).rng());
        let share = |codes: &Array2<f32>, beyond: f32| {
            codes.column(0).iter().filter(|v| **v > beyond).count() as f64 / codes.nrows() as f64
        };
        for beyond in [0.2, 0.5, 1.0, 2.0, 5.0] {
            let (of_codes, of_drawn) = (share(&codes, beyond), share(&drawn, beyond));
            assert!(
                (of_codes - of_drawn).abs() < 0.03,
                "{beyond}: {of_codes} {of_drawn}"
            );
        }
        let together = drawn
            .rows()
            .into_iter()
            .filter(|r| (r[0] > 1.0) == (r[1] > 1.0));
        // ½ + asin(0.8) / π.
        let expected = 0.5 + 0.8_f64.asin() / std::f64::consts::PI;
        assert!((together.count() as f64 / 8000.0 - expected).abs() < 0.03);
        let narrow = density.draw(8000, 0.1, &mut Seed(2).rng());
        assert!(share(&narrow, 2.0) < 1e-3 && share(&narrow, 0.5) > 0.999);
    }

    #[test]
    fn a_number_that_never_changes_is_drawn_as_it_is() {
        let codes = Array2::from_elem((100, 1), 0.25_f32);
        let drawn = CodeDensity::fit(codes.view(), 0.02).draw(50, 1.0, &mut Seed(1).rng());
        assert!(drawn.iter().all(|v| (v - 0.25).abs() < 1e-4));
    }
}
