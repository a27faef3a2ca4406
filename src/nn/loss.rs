//! Losses, each with its gradient. Rows carry weights (0 drops a row; the kept ones usually add up to 1), so that a trimmed mean is
//! the same code as a plain one.

use ndarray::{Array1, ArrayView2, ArrayViewMut2, Axis, Zip};

use super::math::{exp, sigmoid, softplus};

/// Mean over the columns of (output − target)², one number a row.
#[must_use]
pub fn row_mse(output: ArrayView2<'_, f32>, target: ArrayView2<'_, f32>) -> Vec<f32> {
    let width = output.ncols().max(1) as f32;
    let rows = output.rows().into_iter().zip(target.rows());
    rows.map(|(o, t)| {
        let mut sum = 0.0;
        Zip::from(o)
            .and(t)
            .for_each(|&o, &t| sum += (o - t) * (o - t));
        sum / width
    })
    .collect()
}

/// grad = ∂/∂output of Σ weightᵢ · mseᵢ, which is 2 weightᵢ (output − target) / columns.
pub fn mse_grad(
    output: ArrayView2<'_, f32>,
    target: ArrayView2<'_, f32>,
    weights: &[f32],
    mut grad: ArrayViewMut2<'_, f32>,
) {
    let width = output.ncols().max(1) as f32;
    for (at, &weight) in weights.iter().enumerate() {
        let factor = 2.0 * weight / width;
        Zip::from(grad.row_mut(at))
            .and(output.row(at))
            .and(target.row(at))
            .for_each(|grad, &o, &t| *grad = factor * (o - t));
    }
}

/// Weights of a trimmed mean: 0 for the ⌊share · n⌋ rows with the largest losses, 1 / kept for the others (Rousseeuw, 1984, on least
/// trimmed squares). Of equal losses, the later rows go first.
#[must_use]
pub fn trimmed_weights(losses: &[f32], share: f32) -> Vec<f32> {
    let dropped =
        ((f64::from(share) * losses.len() as f64) as usize).min(losses.len().saturating_sub(1));
    let kept = losses.len() - dropped;
    let mut weights = vec![1.0 / kept.max(1) as f32; losses.len()];
    if dropped > 0 {
        let mut order: Vec<usize> = (0..losses.len()).collect();
        let by_loss = |a: &usize, b: &usize| losses[*a].total_cmp(&losses[*b]).then(a.cmp(b));
        order.select_nth_unstable_by(kept, by_loss);
        for &at in &order[kept..] {
            weights[at] = 0.0;
        }
    }
    weights
}

/// Trims by what the last epoch looked like: rows whose loss exceeds its (1 − share)-quantile are dropped, in batches of any size. The
/// first epoch drops nothing: only a net that has seen the bulk can tell what does not belong to it.
#[derive(Clone, Debug)]
pub struct Trimmer {
    share: f32,
    cutoff: f32,
    seen: Vec<f32>,
}

impl Trimmer {
    /// Drops `share` of the rows.
    #[must_use]
    pub fn new(share: f32) -> Self {
        Self {
            share,
            cutoff: f32::INFINITY,
            seen: Vec::new(),
        }
    }

    /// Begins an epoch: the cutoff is taken from the losses of the last.
    pub fn begin(&mut self) {
        if self.share > 0.0 && !self.seen.is_empty() {
            let last = self.seen.len() - 1;
            let place = ((1.0 - f64::from(self.share)) * last as f64) as usize;
            let (_, cutoff, _) = self.seen.select_nth_unstable_by(place, f32::total_cmp);
            self.cutoff = *cutoff;
        }
        self.seen.clear();
    }

    /// Weights of a batch: 0 above the cutoff, 1 / kept below. A batch keeps at least half of its rows.
    pub fn weights(&mut self, losses: &[f32]) -> Vec<f32> {
        if self.share > 0.0 {
            self.seen.extend_from_slice(losses);
        }
        let kept = losses.iter().filter(|loss| **loss <= self.cutoff).count();
        if 2 * kept < losses.len() {
            return trimmed_weights(losses, 0.5);
        }
        let weight = 1.0 / kept.max(1) as f32;
        let of = |loss: &f32| if *loss <= self.cutoff { weight } else { 0.0 };
        losses.iter().map(of).collect()
    }
}

/// Σ weightᵢ · lossᵢ.
#[must_use]
pub fn weighted(losses: &[f32], weights: &[f32]) -> f64 {
    let pairs = losses.iter().zip(weights).filter(|(_, w)| **w > 0.0);
    pairs.map(|(l, w)| f64::from(*l) * f64::from(*w)).sum()
}

/// KL divergence of each unit's mean activation ρ̂ from the target ρ (Ng, CS294A notes on sparse autoencoders, 2011),
/// factor · Σⱼ ρ ln(ρ/ρ̂ⱼ) + (1−ρ) ln((1−ρ)/(1−ρ̂ⱼ)); its gradient is added to `grad`. Codes lie in (0, 1).
pub fn add_kl_sparsity(
    code: ArrayView2<'_, f32>,
    weights: &[f32],
    target: f32,
    factor: f32,
    mut grad: ArrayViewMut2<'_, f32>,
) -> f64 {
    let mut mean = Array1::<f32>::zeros(code.ncols());
    for (row, &weight) in code.rows().into_iter().zip(weights) {
        mean.scaled_add(weight, &row);
    }
    mean.mapv_inplace(|m| m.clamp(1e-4, 1.0 - 1e-4));
    let slope = mean.mapv(|m| factor * ((1.0 - target) / (1.0 - m) - target / m));
    for (mut row, &weight) in grad.rows_mut().into_iter().zip(weights) {
        row.scaled_add(weight, &slope);
    }
    let rho = f64::from(target);
    let each = mean.iter().map(|&m| {
        let m = f64::from(m);
        rho * (rho / m).ln() + (1.0 - rho) * ((1.0 - rho) / (1.0 - m)).ln()
    });
    f64::from(factor) * each.sum::<f64>()
}

/// factor · Σ weightᵢ Σⱼ |codeᵢⱼ|; its gradient is added to `grad`.
pub fn add_l1(
    code: ArrayView2<'_, f32>,
    weights: &[f32],
    factor: f32,
    mut grad: ArrayViewMut2<'_, f32>,
) -> f64 {
    let mut sum = 0.0;
    for (at, &weight) in weights.iter().enumerate() {
        Zip::from(grad.row_mut(at))
            .and(code.row(at))
            .for_each(|grad, &c| {
                sum += f64::from(weight * c.abs());
                *grad += factor
                    * weight
                    * if c > 0.0 {
                        1.0
                    } else if c < 0.0 {
                        -1.0
                    } else {
                        0.0
                    };
            });
    }
    f64::from(factor) * sum
}

/// Half of ln 2π.
const HALF_LN_TAU: f32 = 0.918_938_5;

/// A log-variance confined to (low, high): low + (high − low) · sigmoid(raw).
#[must_use]
pub fn bounded(raw: f32, low: f32, high: f32) -> f32 {
    low + (high - low) * sigmoid(raw)
}

/// Derivative of [`bounded`] by `raw`.
#[must_use]
pub fn bounded_slope(raw: f32, low: f32, high: f32) -> f32 {
    let s = sigmoid(raw);
    (high - low) * s * (1.0 - s)
}

/// −ln N(target; mean, e^log_variance) summed over the columns, one number a row; one log-variance a column.
#[must_use]
pub fn row_gaussian_nll(
    mean: ArrayView2<'_, f32>,
    target: ArrayView2<'_, f32>,
    log_variance: &[f32],
) -> Vec<f32> {
    let precision: Vec<f32> = log_variance.iter().map(|l| exp(-l)).collect();
    let constant: f32 = log_variance.iter().map(|l| 0.5 * l + HALF_LN_TAU).sum();
    let rows = mean.rows().into_iter().zip(target.rows());
    rows.map(|(m, t)| {
        let squares = m.iter().zip(t).zip(&precision);
        constant
            + squares
                .map(|((m, t), p)| 0.5 * p * (m - t) * (m - t))
                .sum::<f32>()
    })
    .collect()
}

/// Gradients of Σ weightᵢ · nllᵢ by the means (written) and by the log-variances (returned).
pub fn gaussian_nll_grad(
    mean: ArrayView2<'_, f32>,
    target: ArrayView2<'_, f32>,
    log_variance: &[f32],
    weights: &[f32],
    mut grad: ArrayViewMut2<'_, f32>,
) -> Vec<f32> {
    let precision: Vec<f32> = log_variance.iter().map(|l| exp(-l)).collect();
    let mut of_variance = vec![0.0; log_variance.len()];
    for (at, &weight) in weights.iter().enumerate() {
        let rows = grad
            .row_mut(at)
            .into_iter()
            .zip(mean.row(at))
            .zip(target.row(at));
        for (((g, m), t), (p, v)) in rows.zip(precision.iter().zip(&mut of_variance)) {
            let off = m - t;
            *g = weight * p * off;
            *v += weight * 0.5 * (1.0 - p * off * off);
        }
    }
    of_variance
}

/// KL(N(μ, e^λ) ‖ N(0, 1)) = ½ Σ (e^λ + μ² − 1 − λ), one number a row. `stats` has the means in its left half, the log-variances λ in
/// its right.
#[must_use]
pub fn row_gaussian_kl(stats: ArrayView2<'_, f32>) -> Vec<f32> {
    let (mean, log_variance) = stats.split_at(Axis(1), stats.ncols() / 2);
    let rows = mean.rows().into_iter().zip(log_variance.rows());
    rows.map(|(m, l)| {
        let each = m
            .iter()
            .zip(l)
            .map(|(m, l)| 0.5 * (exp(*l) + m * m - 1.0 - l));
        each.sum()
    })
    .collect()
}

/// Adds the gradient of Σ weightᵢ · klᵢ to `grad`, laid out as `stats`.
pub fn add_gaussian_kl_grad(
    stats: ArrayView2<'_, f32>,
    weights: &[f32],
    grad: ArrayViewMut2<'_, f32>,
) {
    let half = stats.ncols() / 2;
    let (mean, log_variance) = stats.split_at(Axis(1), half);
    let (mut of_mean, mut of_log) = grad.split_at(Axis(1), half);
    for (at, &weight) in weights.iter().enumerate() {
        of_mean.row_mut(at).scaled_add(weight, &mean.row(at));
        Zip::from(of_log.row_mut(at))
            .and(log_variance.row(at))
            .for_each(|grad, &l| *grad += weight * 0.5 * (exp(l) - 1.0));
    }
}

/// What a GAN's two sides minimise. A logit is the critic's output: high for real rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GanLoss {
    /// The generator minimises ln(1 − D) (Goodfellow et al., NeurIPS 2014).
    Minimax,
    /// The generator maximises ln D (the same paper's remedy for vanishing gradients).
    NonSaturating,
    /// Margins of 1 (Lim and Ye, arXiv:1705.02894).
    Hinge,
    /// Differences of means, with a gradient penalty beside (Gulrajani et al., NeurIPS 2017).
    WassersteinGp,
}

impl GanLoss {
    /// The critic's loss of one real row, and its derivative by the logit.
    #[must_use]
    pub fn real(self, logit: f32) -> (f32, f32) {
        match self {
            Self::Minimax | Self::NonSaturating => (softplus(-logit), -sigmoid(-logit)),
            Self::Hinge => ((1.0 - logit).max(0.0), if logit < 1.0 { -1.0 } else { 0.0 }),
            Self::WassersteinGp => (-logit, -1.0),
        }
    }

    /// The critic's loss of one generated row, and its derivative by the logit.
    #[must_use]
    pub fn fake(self, logit: f32) -> (f32, f32) {
        match self {
            Self::Minimax | Self::NonSaturating => (softplus(logit), sigmoid(logit)),
            Self::Hinge => ((1.0 + logit).max(0.0), if logit > -1.0 { 1.0 } else { 0.0 }),
            Self::WassersteinGp => (logit, 1.0),
        }
    }

    /// The generator's loss of one generated row, and its derivative by the logit.
    #[must_use]
    pub fn generator(self, logit: f32) -> (f32, f32) {
        match self {
            Self::Minimax => (-softplus(logit), -sigmoid(logit)),
            Self::NonSaturating => (softplus(-logit), -sigmoid(-logit)),
            Self::Hinge | Self::WassersteinGp => (-logit, -1.0),
        }
    }
}

/// factor · mean over rows of (‖g‖ − 1)², and its gradient by g (written over `gradient`).
pub fn gradient_penalty(mut gradient: ArrayViewMut2<'_, f32>, factor: f32) -> f64 {
    let rows = gradient.nrows().max(1) as f32;
    let mut sum = 0.0;
    for mut row in gradient.rows_mut() {
        let length = row.dot(&row).sqrt().max(1e-12);
        sum += f64::from((length - 1.0) * (length - 1.0));
        row *= factor * 2.0 * (length - 1.0) / (length * rows);
    }
    f64::from(factor) * sum / f64::from(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::check::{check_gradient, normal};
    use ndarray::{Array2, array};

    const WEIGHTS: [f32; 4] = [0.5, 0.0, 1.5, 1.0];

    #[test]
    fn squared_error_by_hand_and_by_differences() {
        let (o, t) = (
            array![[1.0, 2.0], [0.0, 0.0]],
            array![[0.0, 4.0], [0.0, 2.0]],
        );
        assert_eq!(row_mse(o.view(), t.view()), vec![2.5, 2.0]);
        let (o, t) = (normal(4, 3, 1), normal(4, 3, 2));
        let mut grad = Array2::zeros((4, 3));
        mse_grad(o.view(), t.view(), &WEIGHTS, grad.view_mut());
        check_gradient(&o, &grad, &mut |o| {
            weighted(&row_mse(o.view(), t.view()), &WEIGHTS)
        });
    }

    #[test]
    fn trimming_drops_the_worst() {
        let weights = trimmed_weights(&[3.0, 9.0, 1.0, 9.0], 0.5);
        assert_eq!(weights, vec![0.5, 0.0, 0.5, 0.0]);
        assert_eq!(trimmed_weights(&[1.0, 2.0], 0.4), vec![0.5, 0.5]);
        assert_eq!(trimmed_weights(&[1.0], 1.0), vec![1.0]);
        assert!((weighted(&[3.0, f32::INFINITY, 1.0, 9.0], &weights) - 2.0).abs() < 1e-6);
    }

    #[test]
    fn the_cutoff_comes_from_the_last_epoch() {
        let mut trimmer = Trimmer::new(0.25);
        trimmer.begin();
        assert_eq!(trimmer.weights(&[1.0, 50.0]), vec![0.5, 0.5]);
        assert_eq!(trimmer.weights(&[2.0, 3.0]), vec![0.5, 0.5]);
        trimmer.begin();
        assert_eq!(trimmer.weights(&[2.0, 50.0]), vec![1.0, 0.0]);
        assert_eq!(trimmer.weights(&[50.0, 60.0]), vec![1.0, 0.0]);
    }

    #[test]
    fn sparsity_by_hand_and_by_differences() {
        let code = array![[0.1_f32, 0.5], [0.3, 0.5]];
        let mut grad = Array2::zeros((2, 2));
        let value = add_kl_sparsity(code.view(), &[0.5, 0.5], 0.2, 1.0, grad.view_mut());
        // Means 0.2 (no divergence) and 0.5: 0.2 ln 0.4 + 0.8 ln 1.6.
        assert!(
            (value - (0.2 * 0.4_f64.ln() + 0.8 * 1.6_f64.ln())).abs() < 1e-5,
            "{value}"
        );
        let code = normal(4, 3, 1).mapv(sigmoid);
        let weights = [0.1, 0.2, 0.3, 0.4];
        let mut grad = Array2::zeros((4, 3));
        add_kl_sparsity(code.view(), &weights, 0.1, 2.0, grad.view_mut());
        check_gradient(&code, &grad, &mut |code| {
            add_kl_sparsity(
                code.view(),
                &weights,
                0.1,
                2.0,
                Array2::zeros((4, 3)).view_mut(),
            )
        });
    }

    #[test]
    fn l1_by_hand_and_by_differences() {
        let code = array![[1.0_f32, -2.0]];
        let mut grad = Array2::zeros((1, 2));
        assert!((add_l1(code.view(), &[0.5], 2.0, grad.view_mut()) - 3.0).abs() < 1e-9);
        assert_eq!(grad, array![[1.0, -1.0]]);
    }

    #[test]
    fn gaussian_likelihood_by_hand_and_by_differences() {
        let nll = row_gaussian_nll(array![[1.0]].view(), array![[3.0]].view(), &[4.0_f32.ln()]);
        // ½ ln 2π + ½ ln 4 + ½ · 4 / 4.
        assert!(
            (nll[0] - (0.918_938_5 + 2.0_f32.ln() + 0.5)).abs() < 1e-5,
            "{nll:?}"
        );
        let (m, t, l) = (normal(4, 3, 1), normal(4, 3, 2), normal(1, 3, 3));
        let value = |m: &Array2<f32>, l: &Array2<f32>| {
            weighted(
                &row_gaussian_nll(m.view(), t.view(), l.as_slice().unwrap()),
                &WEIGHTS,
            )
        };
        let mut grad = Array2::zeros((4, 3));
        let of_l = gaussian_nll_grad(
            m.view(),
            t.view(),
            l.as_slice().unwrap(),
            &WEIGHTS,
            grad.view_mut(),
        );
        check_gradient(&m, &grad, &mut |m| value(m, &l));
        let of_l = Array2::from_shape_vec((1, 3), of_l).unwrap();
        check_gradient(&l, &of_l, &mut |l| value(&m, l));
    }

    #[test]
    fn bounds_hold_and_slope_is_the_difference() {
        assert!((bounded(0.0, -4.0, 2.0) + 1.0).abs() < 1e-6);
        assert!(bounded(-50.0, -4.0, 2.0) >= -4.0 && bounded(50.0, -4.0, 2.0) <= 2.0);
        let rise = (bounded(0.71, -4.0, 2.0) - bounded(0.69, -4.0, 2.0)) / 0.02;
        assert!((bounded_slope(0.7, -4.0, 2.0) - rise).abs() < 1e-3);
    }

    #[test]
    fn gaussian_kl_by_hand_and_by_differences() {
        let kl = row_gaussian_kl(array![[1.0, 4.0_f32.ln()]].view());
        assert!(
            (kl[0] - 0.5 * (4.0 + 1.0 - 1.0 - 4.0_f32.ln())).abs() < 1e-5,
            "{kl:?}"
        );
        let stats = normal(4, 6, 1);
        let mut grad = Array2::zeros((4, 6));
        add_gaussian_kl_grad(stats.view(), &WEIGHTS, grad.view_mut());
        check_gradient(&stats, &grad, &mut |s| {
            weighted(&row_gaussian_kl(s.view()), &WEIGHTS)
        });
    }

    #[test]
    fn gan_losses_by_hand_and_by_differences() {
        assert!((GanLoss::NonSaturating.real(0.0).0 - 2.0_f32.ln()).abs() < 1e-6);
        assert!((GanLoss::Minimax.generator(0.0).0 + 2.0_f32.ln()).abs() < 1e-6);
        assert_eq!(GanLoss::Hinge.real(0.25), (0.75, -1.0));
        assert_eq!(GanLoss::Hinge.fake(-2.0), (0.0, 0.0));
        assert_eq!(GanLoss::WassersteinGp.fake(3.0), (3.0, 1.0));
        let all = [
            GanLoss::Minimax,
            GanLoss::NonSaturating,
            GanLoss::Hinge,
            GanLoss::WassersteinGp,
        ];
        for loss in all {
            for side in [GanLoss::real, GanLoss::fake, GanLoss::generator] {
                for logit in [-2.3_f32, -0.4, 0.3, 1.9] {
                    let rise = (side(loss, logit + 0.01).0 - side(loss, logit - 0.01).0) / 0.02;
                    assert!(
                        (side(loss, logit).1 - rise).abs() < 1e-3,
                        "{loss:?} at {logit}"
                    );
                }
            }
        }
    }

    #[test]
    fn gradient_penalty_by_hand_and_by_differences() {
        let mut g = array![[3.0_f32, 4.0]];
        assert!((gradient_penalty(g.view_mut(), 10.0) - 160.0).abs() < 1e-3);
        let g = normal(3, 4, 5);
        let mut grad = g.clone();
        gradient_penalty(grad.view_mut(), 10.0);
        check_gradient(&g, &grad, &mut |g| {
            gradient_penalty(g.clone().view_mut(), 10.0)
        });
    }
}
