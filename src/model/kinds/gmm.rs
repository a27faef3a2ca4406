//! A Gaussian mixture, by linfa-clustering: how dense normal is where the row lies. Dempster, Laird and Rubin, "Maximum Likelihood
//! from Incomplete Data via the EM Algorithm", JRSS B 1977.
//!
//! The mixture lives on whitened principal components, at most [`CODE_MAX`] of them, because a covariance per component needs many
//! rows for each pair of inputs; what the components leave out counts as one more, independent Gaussian. Densities are ours:
//! linfa's own underflow far from the centres, which is where anomalies are.

use std::f64::consts::TAU;

use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_clustering::GaussianMixtureModel;
use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate};

use crate::model::linalg::{cholesky, first_rows, invert_lower, moments, principal_axes};
use crate::model::spec::ModelSpec;
use crate::model::tensors::{ModelFileError, Tensors};
use crate::model::{Build, FitData, FitError, Kind, Monitor};
use crate::seed::Seed;

/// The most whitened components that the mixture sees.
pub const CODE_MAX: usize = 12;

/// Rows that EM runs on; more would refine little.
const EM_ROWS_MAX: usize = 5000;

/// Added to the diagonal of each covariance, in whitened units, so that no component collapses onto a few equal rows.
const RIDGE: f64 = 0.05;

/// Added to each residual variance, in squared scaled units.
const RESIDUAL_FLOOR: f64 = 0.01;

/// A mixture of Gaussians on whitened axes, and a Gaussian beside them.
#[derive(Clone, Debug, PartialEq)]
pub struct Gmm {
    /// Centre of the inputs, `width`.
    mean: Array1<f32>,
    /// Axes over their standard deviations, `width × m`.
    whiten: Array2<f32>,
    /// Axes times their standard deviations, `m × width`: back from the code.
    colour: Array2<f32>,
    /// Normal size of each input's residual beside the axes, `width`; infinite sizes are not needed: it is floored.
    residual_spread: Array1<f32>,
    /// ln weight − ½ ln det covariance − m/2 ln 2π, one a component.
    log_peak: Array1<f32>,
    /// Centres, `k × m`.
    centres: Array2<f32>,
    /// Transposed inverse Cholesky factors, one below the other, `k · m × m`.
    factors: Array2<f32>,
}

/// A mixture in f64, while the number of its components is chosen.
#[derive(Debug)]
struct Mixture {
    weights: Array1<f64>,
    centres: Array2<f64>,
    covariances: Vec<Array2<f64>>,
}

impl Gmm {
    /// Centre, axes and residual sizes; no mixture yet.
    fn whitened(rows: ArrayView2<'_, f32>) -> Result<Self, FitError> {
        let (mean, covariance) = moments(rows);
        let (variances, axes) = principal_axes(covariance.view())?;
        let m = variances
            .iter()
            .take_while(|&&v| v > 1e-6 * variances[0])
            .count()
            .min(CODE_MAX);
        let axes = first_rows(axes.view(), m).to_owned();
        let spread = variances
            .iter()
            .take(m)
            .map(|v| v.sqrt())
            .collect::<Array1<f64>>();
        let whiten = axes.t().to_owned() / &spread;
        let colour = axes * spread.insert_axis(Axis(1));
        let explained = colour.mapv(|value| value * value).sum_axis(Axis(0));
        let residual = (covariance.diag().to_owned() - explained)
            .mapv(|v| (v.max(0.0) + RESIDUAL_FLOOR).sqrt());
        Ok(Self {
            mean: mean.mapv(|v| v as f32),
            whiten: whiten.mapv(|v| v as f32).as_standard_layout().into_owned(),
            colour: colour.mapv(|v| v as f32),
            residual_spread: residual.mapv(|v| v as f32),
            log_peak: Array1::zeros(0),
            centres: Array2::zeros((0, m)),
            factors: Array2::zeros((0, m)),
        })
    }

    /// The same axes with a mixture on them.
    fn with(mut self, mixture: &Mixture) -> Self {
        let m = mixture.centres.ncols();
        let (mut peaks, mut blocks) = (Vec::new(), Vec::new());
        for (weight, covariance) in mixture.weights.iter().zip(&mixture.covariances) {
            // Ridged by linfa, or by us: always definite.
            let lower = cholesky(covariance.view()).unwrap_or_else(|| Array2::eye(m));
            let half_log_det: f64 = lower.diag().iter().map(|value| value.ln()).sum();
            peaks.push((weight.max(1e-12).ln() - half_log_det - 0.5 * m as f64 * TAU.ln()) as f32);
            blocks.push(invert_lower(lower.view()).t().mapv(|value| value as f32));
        }
        let views: Vec<_> = blocks.iter().map(Array2::view).collect();
        self.factors = concatenate(Axis(0), &views).unwrap_or_else(|_| Array2::zeros((0, m)));
        self.factors = self.factors.as_standard_layout().into_owned();
        self.log_peak = Array1::from(peaks);
        self.centres = mixture.centres.mapv(|value| value as f32);
        self
    }

    fn code_of(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        (&rows - &self.mean).dot(&self.whiten)
    }

    /// ln density of codes, `n`, and each component's responsibility, `n × k`.
    fn mixture_log_density(&self, code: &Array2<f32>) -> (Array1<f32>, Array2<f32>) {
        let (n, m) = code.dim();
        let mut logs = Array2::zeros((n, self.log_peak.len()));
        for (k, mut column) in logs.columns_mut().into_iter().enumerate() {
            let factor = self
                .factors
                .select(Axis(0), &(k * m..(k + 1) * m).collect::<Vec<_>>());
            let standard = (code - &self.centres.row(k)).dot(&factor);
            let squares = standard.mapv(|value| value * value).sum_axis(Axis(1));
            column.assign(&squares.mapv(|square| self.log_peak[k] - 0.5 * square));
        }
        let mut totals = Array1::zeros(n);
        for (mut row, total) in logs.rows_mut().into_iter().zip(totals.iter_mut()) {
            let top = row.fold(f32::NEG_INFINITY, |a, &b| a.max(b));
            let sum: f32 = row.iter().map(|log| (log - top).exp()).sum();
            *total = top + sum.ln();
            row.mapv_inplace(|log| (log - *total).exp());
        }
        (totals, logs)
    }
}

impl Build for Gmm {
    /// Whitens, then fits mixtures of 1, 2, 4 … components, up to `components`, and keeps the one under which the validation rows are
    /// most likely. A mixture that EM cannot fit is passed over; one component always can be. The `trim` share of the rows farthest
    /// from the centre is left out.
    ///
    /// # Errors
    /// If there are fewer than two training rows, the monitor says stop, or linfa's solver fails.
    fn fit(
        spec: &ModelSpec,
        data: &FitData,
        seed: Seed,
        monitor: &mut dyn Monitor,
    ) -> Result<Self, FitError> {
        data.rows("gmm", 2)?;
        let mut model = Self::whitened(data.train.view())?;
        let code = model.code_of(data.train.view()).mapv(f64::from);
        let kept = central(&code, spec.trim);
        let code = code.select(Axis(0), &kept);
        let held_out = if data.validation.nrows() > 0 {
            &data.validation
        } else {
            &data.train
        };
        let mut best = f64::NEG_INFINITY;
        let mut count = 1;
        while count <= spec.fixed.components {
            if let Some(mixture) = mixture(&code, count, seed.nth(count as u64)) {
                let candidate = model.clone().with(&mixture);
                let likely = candidate
                    .mixture_log_density(&candidate.code_of(held_out.view()))
                    .0;
                let likely = f64::from(likely.mean().unwrap_or(f32::NEG_INFINITY));
                if likely > best + 1e-3 {
                    (best, model) = (likely, candidate);
                }
            }
            monitor.step(count, -best, -best)?;
            count *= 2;
        }
        if model.log_peak.is_empty() {
            return Err(FitError::NotFinite {
                what: "the density of one Gaussian".to_owned(),
            });
        }
        Ok(model)
    }

    fn load(from: &Tensors) -> Result<Self, ModelFileError> {
        let model = Self {
            mean: from.get1("mean")?,
            whiten: from.get2("whiten")?,
            colour: from.get2("colour")?,
            residual_spread: from.get1("residual_spread")?,
            log_peak: from.get1("log_peak")?,
            centres: from.get2("centres")?,
            factors: from.get2("factors")?,
        };
        let ((width, m), k) = (model.whiten.dim(), model.log_peak.len());
        let fits = k > 0
            && [model.mean.len(), model.residual_spread.len()] == [width; 2]
            && model.colour.dim() == (m, width)
            && model.centres.dim() == (k, m)
            && model.factors.dim() == (k * m, m);
        if fits {
            Ok(model)
        } else {
            Err(ModelFileError::Invalid(
                "gmm's tensors do not fit together".to_owned(),
            ))
        }
    }
}

/// The indices, ascending, of all rows but the `trim` share farthest from the origin, thinned evenly to [`EM_ROWS_MAX`].
fn central(code: &Array2<f64>, trim: f32) -> Vec<usize> {
    let far = code.mapv(|value| value * value).sum_axis(Axis(1));
    let mut order: Vec<usize> = (0..far.len()).collect();
    order.sort_by(|&a, &b| far[a].total_cmp(&far[b]));
    order.truncate(far.len() - (far.len() as f64 * f64::from(trim)) as usize);
    order.sort_unstable();
    let step = order.len().div_ceil(EM_ROWS_MAX).max(1);
    order.into_iter().step_by(step).collect()
}

/// A mixture of `count` Gaussians by EM; one by its moments. `None` if EM fails or there are too few rows.
fn mixture(code: &Array2<f64>, count: usize, seed: Seed) -> Option<Mixture> {
    let (rows, m) = code.dim();
    if count == 1 {
        let mean = code.mean_axis(Axis(0))?;
        let centred = code - &mean;
        let mut covariance = centred.t().dot(&centred) / rows as f64;
        covariance.diag_mut().mapv_inplace(|value| value + RIDGE);
        return Some(Mixture {
            weights: Array1::ones(1),
            centres: mean.insert_axis(Axis(0)),
            covariances: vec![covariance],
        });
    }
    if m == 0 || rows < 10 * count * (m + 1) {
        return None;
    }
    let fitted = GaussianMixtureModel::params_with_rng(count, seed.rng())
        .reg_covariance(RIDGE)
        .tolerance(1e-3)
        .max_n_iterations(100)
        .fit(&DatasetBase::from(code.clone()))
        .ok()?;
    let finite = fitted
        .covariances()
        .iter()
        .chain(fitted.means())
        .all(|value| value.is_finite());
    finite.then(|| Mixture {
        weights: fitted.weights().clone(),
        centres: fitted.means().clone(),
        covariances: fitted
            .covariances()
            .outer_iter()
            .map(|block| block.to_owned())
            .collect(),
    })
}

impl Kind for Gmm {
    fn width(&self) -> usize {
        self.mean.len()
    }

    /// −ln p(code) + ½ Σ (residual / size)², up to a constant that keeps it positive near the centre.
    fn score(&self, rows: ArrayView2<'_, f32>, _seeds: &[Seed]) -> Array1<f32> {
        let code = self.code_of(rows);
        let residual = (&rows - &self.mean - code.dot(&self.colour)) / &self.residual_spread;
        let outside = residual.mapv(|value| value * value).sum_axis(Axis(1));
        let top = self.log_peak.fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        outside * 0.5 - (self.mixture_log_density(&code).0 - top)
    }

    /// The centres, mixed by how likely each component is to have made the row.
    fn expected(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        let (_, responsible) = self.mixture_log_density(&self.code_of(rows));
        responsible.dot(&self.centres).dot(&self.colour) + &self.mean
    }

    /// The squared distance from what was expected, in units of each input's residual and explained size together.
    fn contributions(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        let explained = self.colour.mapv(|value| value * value).sum_axis(Axis(0));
        let size = explained + self.residual_spread.mapv(|spread| spread * spread);
        let residual = &rows - &self.expected(rows);
        residual.mapv(|value| value * value) / &size
    }

    fn code(&self, rows: ArrayView2<'_, f32>) -> Option<Array2<f32>> {
        Some(self.code_of(rows))
    }

    fn save(&self, to: &mut Tensors) {
        to.put1("mean", self.mean.view());
        to.put2("whiten", self.whiten.view());
        to.put2("colour", self.colour.view());
        to.put1("residual_spread", self.residual_spread.view());
        to.put1("log_peak", self.log_peak.view());
        to.put2("centres", self.centres.view());
        to.put2("factors", self.factors.view());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{check_kind, of_kind};
    use crate::model::{KINDS, Unwatched};
    use ndarray::array;

    fn spec() -> ModelSpec {
        of_kind("gmm")
    }

    #[test]
    fn worked_by_hand() {
        // Two unit Gaussians of weight ½ at ±2 on one whitened axis; the input is the code.
        let peak = 0.5f32.ln() - 0.5 * (TAU.ln() as f32);
        let model = Gmm {
            mean: array![0.0],
            whiten: array![[1.0]],
            colour: array![[1.0]],
            residual_spread: array![1.0],
            log_peak: array![peak, peak],
            centres: array![[2.0], [-2.0]],
            factors: array![[1.0], [1.0]],
        };
        // At 0 both give exp(−2): twice that, over one peak: −ln(2 e⁻²) = 2 − ln 2.
        let scores = model.score(array![[0.0f32], [100.0]].view(), &[]);
        assert!((scores[0] - (2.0 - 2f32.ln())).abs() < 1e-5, "{scores}");
        // Far away densities underflow, the score must not: ½ 98².
        assert!((scores[1] - 4802.0).abs() < 0.1, "{scores}");
        assert!((model.expected(array![[100.0f32]].view())[[0, 0]] - 2.0).abs() < 1e-4);
    }

    #[test]
    fn behaves_as_a_kind() {
        check_kind(&spec(), 0.85);
    }

    #[test]
    fn two_clusters_are_found_and_the_gap_between_is_strange() {
        let mut train = crate::model::testing::correlated(600, 2, Seed(3)) * 0.2;
        for mut row in train.rows_mut().into_iter().step_by(2) {
            row += 5.0;
        }
        let data = FitData {
            validation: train.clone(),
            train,
        };
        let model = Gmm::fit(&spec(), &data, Seed(1), &mut Unwatched).unwrap();
        assert!(model.log_peak.len() >= 2);
        let scores = model.score(array![[2.5f32, 2.5], [0.0, 0.0], [5.0, 5.0]].view(), &[]);
        assert!(
            scores[0] > scores[1] + 2.0 && scores[0] > scores[2] + 2.0,
            "{scores}"
        );
    }

    #[test]
    fn constant_and_few_rows_degrade_to_one_gaussian() {
        for train in [
            Array2::zeros((9, 3)),
            crate::model::testing::correlated(5, 4, Seed(2)),
        ] {
            let data = FitData {
                validation: train.clone(),
                train,
            };
            let model = KINDS.fit(&spec(), &data, Seed(1), &mut Unwatched).unwrap();
            assert!(
                model
                    .score(data.train.view(), &[])
                    .iter()
                    .all(|score| score.is_finite())
            );
        }
    }
}
