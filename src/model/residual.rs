//! From residuals to scores: plain, in units of each input's own held-out residual, or whitened by their covariance.
//!
//! An input that is always hard to predict says little when it is off again. So residuals are measured on rows the weights were not
//! fitted on, and each input is divided by what is usual for it. The covariance is shrunk towards its diagonal by the intensity of
//! Schäfer and Strimmer (Statistical Applications in Genetics and Molecular Biology, 2005, target D), after Ledoit and Wolf (2004).

use ndarray::{Array1, Array2, ArrayView2, Axis, Zip};
use rand_chacha::ChaCha8Rng;

use super::linalg::{cholesky, invert_lower, moments};
use super::options::Residual;
use crate::model::tensors::{ModelFileError, Tensors};
use crate::nn::noise::fill_normal;
use crate::simd::{Loop, wide};
use crate::stats::order::median_and_spread;

/// Standard deviation below which a residual counts as noise of the model, in scaled units: without it, an input that is always
/// reproduced exactly would decide every score.
const FLOOR: f64 = 0.1;

/// Sums kept side by side, so that one addition need not wait for another. The order of additions is part of the score's bits.
const LANES: usize = 8;

/// Σ ((r − c) f)².
struct SumOfSquares<'a> {
    row: &'a [f32],
    centre: &'a [f32],
    factor: &'a [f32],
}

impl Loop for SumOfSquares<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        let Self {
            row,
            centre,
            factor,
        } = self;
        let mut sums = [0.0; LANES];
        let (mut rows, mut centres, mut factors) = (
            row.chunks_exact(LANES),
            centre.chunks_exact(LANES),
            factor.chunks_exact(LANES),
        );
        for ((row, centre), factor) in (&mut rows).zip(&mut centres).zip(&mut factors) {
            for lane in 0..LANES {
                let unit = (row[lane] - centre[lane]) * factor[lane];
                sums[lane] += unit * unit;
            }
        }
        let rest = rows.remainder().iter().zip(centres.remainder());
        let rest: f32 = rest
            .zip(factors.remainder())
            .map(|((r, c), f)| (r - c) * f * (r - c) * f)
            .sum();
        sums.iter().sum::<f32>() + rest
    }
}

/// A fitted measure of residuals.
#[derive(Clone, Debug, PartialEq)]
pub struct ResidualScale {
    /// The usual residual.
    centre: Array1<f32>,
    /// What multiplies each centred residual.
    factor: Array1<f32>,
    /// One over the usual size of each residual: what attribution measures by, whatever the score does.
    usual: Array1<f32>,
    /// What the factored residuals are multiplied with (`width × width`), for [`Residual::Whitened`]; else empty.
    whitening: Array2<f32>,
}

impl ResidualScale {
    /// Measures `residuals` (`n × width`) of held-out rows, of which the share `trim` with the largest mean square is left out.
    #[must_use]
    pub fn fit(form: Residual, residuals: ArrayView2<'_, f32>, trim: f32) -> Self {
        let width = residuals.ncols();
        let plain = Self {
            centre: Array1::zeros(width),
            factor: Array1::ones(width),
            usual: Array1::ones(width),
            whitening: Array2::zeros((0, 0)),
        };
        if residuals.nrows() < 2 {
            return plain;
        }
        match form {
            Residual::Squared => {
                let kept = without_worst(residuals, trim);
                let mean_square = |column: ndarray::ArrayView1<'_, f32>| {
                    floored(
                        column.iter().map(|r| f64::from(*r * *r)).sum::<f64>()
                            / column.len() as f64,
                    )
                };
                Self {
                    usual: kept.columns().into_iter().map(mean_square).collect(),
                    ..plain
                }
            }
            Residual::Robust => {
                let of = |column: ndarray::ArrayView1<'_, f32>| {
                    let mut values: Vec<f64> = column.iter().map(|r| f64::from(*r)).collect();
                    median_and_spread(&mut values)
                };
                let each: Vec<(f64, f64)> = residuals.columns().into_iter().map(of).collect();
                let factor: Array1<f32> = each
                    .iter()
                    .map(|(_, spread)| floored(spread * spread))
                    .collect();
                Self {
                    centre: each.iter().map(|(centre, _)| *centre as f32).collect(),
                    usual: factor.clone(),
                    factor,
                    ..plain
                }
            }
            Residual::Scaled | Residual::Whitened => {
                let kept = without_worst(residuals, trim);
                let (mean, covariance) = moments(kept.view());
                let factor: Array1<f32> = covariance.diag().iter().map(|v| floored(*v)).collect();
                let whitening = if form == Residual::Whitened {
                    let mut scaled = kept - &mean.mapv(|m| m as f32);
                    scaled *= &factor;
                    whitening(scaled.view())
                } else {
                    plain.whitening
                };
                Self {
                    centre: mean.mapv(|m| m as f32),
                    usual: factor.clone(),
                    factor,
                    whitening,
                }
            }
        }
    }

    /// Replaces residuals by what is squared and summed: centred, in usual units, whitened.
    #[must_use]
    pub fn normalise(&self, mut residuals: Array2<f32>) -> Array2<f32> {
        for mut row in residuals.rows_mut() {
            Zip::from(&mut row)
                .and(&self.centre)
                .and(&self.factor)
                .for_each(|r, c, f| *r = (*r - c) * f);
        }
        if self.whitening.is_empty() {
            residuals
        } else {
            residuals.dot(&self.whitening)
        }
    }

    /// The sum of squares of each row of [`Self::normalise`]: the score of a residual.
    #[must_use]
    pub fn squares(&self, residuals: Array2<f32>) -> Array1<f32> {
        let width = residuals.ncols().max(1);
        let (centre, factor, residuals) = if self.whitening.is_empty() {
            (self.centre.to_vec(), self.factor.to_vec(), residuals)
        } else {
            let whitened = self.normalise(residuals);
            (vec![0.0; width], vec![1.0; width], whitened)
        };
        let residuals = residuals.as_standard_layout();
        let values = residuals.as_slice().unwrap_or_default();
        values
            .chunks_exact(width)
            .map(|row| {
                wide(SumOfSquares {
                    row,
                    centre: &centre,
                    factor: &factor,
                })
            })
            .collect()
    }

    /// What each input adds: the square of its residual in usual units, without whitening, which mixes inputs.
    #[must_use]
    pub fn contributions(&self, mut residuals: Array2<f32>) -> Array2<f32> {
        for mut row in residuals.rows_mut() {
            Zip::from(&mut row)
                .and(&self.centre)
                .and(&self.usual)
                .for_each(|r, c, f| *r = (*r - c) * f * (*r - c) * f);
        }
        residuals
    }

    /// `n` draws from the normal distribution that was measured (`n × width`): around the usual residual, correlated where their
    /// covariance is known, and `spread` times as wide.
    #[must_use]
    pub fn draw(&self, n: usize, spread: f32, rng: &mut ChaCha8Rng) -> Array2<f32> {
        let mut drawn = Array2::zeros((n, self.centre.len()));
        fill_normal(drawn.view_mut(), spread, rng);
        let root = if self.whitening.is_empty() {
            None
        } else {
            // W = L⁻ᵀ with L Lᵀ the covariance of factored residuals: z Lᵀ has that covariance.
            let inverse_root = self.whitening.t().mapv(f64::from);
            Some(invert_lower(inverse_root.view()).mapv(|v| v as f32))
        };
        let size = match root {
            Some(root) => {
                drawn = drawn.dot(&root.t());
                self.factor.mapv(|factor| 1.0 / factor)
            }
            // Without the floor, which is for dividing.
            None => self.usual.mapv(|usual| {
                let floor = FLOOR as f32;
                (1.0 / (usual * usual) - floor * floor).max(0.0).sqrt()
            }),
        };
        drawn *= &size;
        drawn + &self.centre
    }

    /// Writes the measure.
    pub fn save(&self, prefix: &str, to: &mut Tensors) {
        to.put1(&format!("{prefix}centre"), self.centre.view());
        to.put1(&format!("{prefix}factor"), self.factor.view());
        to.put1(&format!("{prefix}usual"), self.usual.view());
        to.put2(&format!("{prefix}whitening"), self.whitening.view());
    }

    /// Reads what [`Self::save`] wrote.
    pub fn load(prefix: &str, from: &Tensors) -> Result<Self, ModelFileError> {
        Ok(Self {
            centre: from.get1(&format!("{prefix}centre"))?,
            factor: from.get1(&format!("{prefix}factor"))?,
            usual: from.get1(&format!("{prefix}usual"))?,
            whitening: from.get2(&format!("{prefix}whitening"))?,
        })
    }
}

/// 1 / √(variance + floor²).
fn floored(variance: f64) -> f32 {
    (1.0 / (variance + FLOOR * FLOOR).sqrt()) as f32
}

/// The rows without the ⌊share · n⌋ of largest mean square.
fn without_worst(rows: ArrayView2<'_, f32>, share: f32) -> Array2<f32> {
    let sizes: Vec<f32> = rows.rows().into_iter().map(|row| row.dot(&row)).collect();
    let kept: Vec<usize> = crate::nn::loss::trimmed_weights(&sizes, share)
        .iter()
        .enumerate()
        .filter(|(_, weight)| **weight > 0.0)
        .map(|(at, _)| at)
        .collect();
    rows.select(Axis(0), &kept)
}

/// W with W Wᵀ = inverse of the shrunk covariance of centred rows.
fn whitening(rows: ArrayView2<'_, f32>) -> Array2<f32> {
    let width = rows.ncols();
    let n = rows.nrows() as f64;
    let (_, mut covariance) = moments(rows);
    let intensity = shrinkage(rows, covariance.view());
    for ((i, j), value) in covariance.indexed_iter_mut() {
        if i == j {
            // The floor again, for inputs whose residual vanishes.
            *value += FLOOR * FLOOR + 1.0 / n;
        } else {
            *value *= 1.0 - intensity;
        }
    }
    cholesky(covariance.view()).map_or_else(
        || Array2::eye(width),
        |lower| {
            invert_lower(lower.view())
                .t()
                .mapv(|v| v as f32)
                .as_standard_layout()
                .to_owned()
        },
    )
}

/// The share of each covariance to take off: Σ var(sᵢⱼ) / Σ sᵢⱼ² over i ≠ j, in [0, 1].
pub(super) fn shrinkage(rows: ArrayView2<'_, f32>, covariance: ArrayView2<'_, f64>) -> f64 {
    let n = rows.nrows() as f64;
    let squared = rows.mapv(|v| f64::from(v) * f64::from(v));
    let products = squared.t().dot(&squared) / n;
    let (mut noise, mut signal) = (0.0, 0.0);
    for ((i, j), &s) in covariance.indexed_iter() {
        if i != j {
            noise += (products[[i, j]] - s * s) / n;
            signal += s * s;
        }
    }
    if signal > 0.0 {
        (noise / signal).clamp(0.0, 1.0)
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use ndarray::array;

    #[test]
    fn robust_scale_by_hand() {
        let residuals = array![[1.0_f32], [1.0], [2.0], [2.0], [4.0], [6.0], [9.0]];
        let scale = ResidualScale::fit(Residual::Robust, residuals.view(), 0.0);
        // Median 2, median absolute deviation 1 · 1.4826; the floor adds 0.01 to its square.
        let expected = 3.0 / (1.482_602_2_f32.powi(2) + 0.01).sqrt();
        assert!((scale.normalise(array![[5.0]])[[0, 0]] - expected).abs() < 1e-5);
    }

    #[test]
    fn whitening_makes_held_out_residuals_white() {
        let mut noise = Array2::zeros((4000, 3));
        fill_normal(noise.view_mut(), 1.0, &mut Seed(1).rng());
        let mixing = array![[3.0_f32, 2.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 2.0]];
        let rows = noise.dot(&mixing);
        let scale = ResidualScale::fit(Residual::Whitened, rows.view(), 0.0);
        let (_, covariance) = moments(scale.normalise(rows.clone()).view());
        for ((i, j), value) in covariance.indexed_iter() {
            let expected = f64::from(u8::from(i == j));
            assert!((value - expected).abs() < 0.1, "{covariance}");
        }
        let plain = ResidualScale::fit(Residual::Scaled, rows.view(), 0.0);
        let (_, covariance) = moments(plain.normalise(rows).view());
        assert!(
            covariance[[0, 1]] > 0.5,
            "the scaled form keeps correlations: {covariance}"
        );
    }

    #[test]
    fn draws_have_the_moments_that_were_measured() {
        let mut noise = Array2::zeros((4000, 3));
        fill_normal(noise.view_mut(), 1.0, &mut Seed(1).rng());
        let mixing = array![[3.0_f32, 2.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 0.02]];
        let rows = noise.dot(&mixing) + &array![5.0_f32, 0.0, -1.0];
        let (mean, covariance) = moments(rows.view());
        for form in [Residual::Whitened, Residual::Scaled] {
            let scale = ResidualScale::fit(form, rows.view(), 0.0);
            let (drawn_mean, drawn) = moments(scale.draw(20_000, 1.0, &mut Seed(2).rng()).view());
            for ((i, j), value) in drawn.indexed_iter() {
                let room = 0.05 * (covariance[[i, i]] * covariance[[j, j]]).sqrt() + 0.02;
                let wanted = if i == j || form == Residual::Whitened {
                    covariance[[i, j]]
                } else {
                    0.0
                };
                assert!(
                    (value - wanted).abs() < room,
                    "{form:?}: {drawn} {covariance}"
                );
                assert!((drawn_mean[i] - mean[i]).abs() < 0.1);
            }
            let (_, narrow) = moments(scale.draw(20_000, 0.5, &mut Seed(2).rng()).view());
            assert!((narrow[[0, 0]] / drawn[[0, 0]] - 0.25).abs() < 1e-3);
        }
        // Inputs that are reproduced exactly get no noise from the floor.
        let exact = ResidualScale::fit(Residual::Squared, Array2::zeros((50, 2)).view(), 0.0);
        assert!(
            exact
                .draw(10, 1.0, &mut Seed(2).rng())
                .iter()
                .all(|v| v.abs() < 1e-3)
        );
    }

    #[test]
    fn few_rows_shrink_much_and_many_little() {
        let mut few = Array2::zeros((12, 8));
        let mut many = Array2::zeros((8000, 8));
        for rows in [&mut few, &mut many] {
            fill_normal(rows.view_mut(), 1.0, &mut Seed(2).rng());
            let shared = rows.column(0).to_owned();
            for mut column in rows.columns_mut().into_iter().skip(1) {
                column += &shared;
            }
        }
        let intensity = |rows: &Array2<f32>| shrinkage(rows.view(), moments(rows.view()).1.view());
        assert!(intensity(&few) > 0.1, "{}", intensity(&few));
        assert!(intensity(&many) < 0.01, "{}", intensity(&many));
    }

    #[test]
    fn trimming_ignores_a_wild_row() {
        let mut rows = Array2::zeros((100, 2));
        fill_normal(rows.view_mut(), 1.0, &mut Seed(3).rng());
        let calm = ResidualScale::fit(Residual::Scaled, rows.view(), 0.02);
        rows.row_mut(7).fill(1000.0);
        let wild = ResidualScale::fit(Residual::Scaled, rows.view(), 0.02);
        assert!((wild.factor[0] / calm.factor[0] - 1.0).abs() < 0.2);
    }
}
