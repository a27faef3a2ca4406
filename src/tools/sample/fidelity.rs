//! How like real records synthetic ones are: each feature by itself, features together, and whether a simple judge can tell.

use std::fmt;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

use crate::seed::Seed;
use crate::stats::metrics::roc_auc;
use rand::seq::SliceRandom;

/// Ridge of the judge, as a share of the mean variance: features may be copies of each other.
const RIDGE: f64 = 1e-3;

/// Features that people are shown, the least alike.
const WORST: usize = 10;

/// The comparison of synthetic with real records.
#[derive(Clone, Debug, PartialEq)]
pub struct Fidelity {
    /// By feature: its name, and the Kolmogorov-Smirnov distance of its two distributions (0: the same, 1: apart).
    pub features: Vec<(String, f64)>,
    /// Mean absolute difference of the correlations of all pairs of features.
    pub correlation: f64,
    /// Area under the ROC curve of a linear judge (Fisher's discriminant on features and their squares), on records that it was not fitted
    /// on: 0.5 cannot tell, 1 always can.
    pub judge: f64,
    /// Records compared: real, synthetic.
    pub rows: (usize, usize),
}

impl Fidelity {
    /// Compares `synthetic` with `real`, both `n × D`; missing values count as the feature's real mean. The seed shuffles the judge's halves.
    pub fn measure(
        columns: &[String],
        real: ArrayView2<'_, f64>,
        synthetic: ArrayView2<'_, f64>,
        seed: Seed,
    ) -> Self {
        let features = columns
            .iter()
            .zip(real.columns().into_iter().zip(synthetic.columns()))
            .map(|(name, (a, b))| (name.clone(), kolmogorov_smirnov(a, b)))
            .collect();
        let (real_z, synthetic_z) = standardised(real, synthetic);
        let difference = &correlations(&real_z) - &correlations(&synthetic_z);
        let d = columns.len();
        let pairs = (d * d.saturating_sub(1)).max(1) as f64;
        Self {
            features,
            correlation: difference.mapv(f64::abs).sum() / pairs,
            judge: judge(&real_z, &synthetic_z, seed),
            rows: (real.nrows(), synthetic.nrows()),
        }
    }
}

impl fmt::Display for Fidelity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut features: Vec<&(String, f64)> = self.features.iter().collect();
        features.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mean = features.iter().map(|f| f.1).sum::<f64>() / features.len().max(1) as f64;
        writeln!(
            f,
            "{} synthetic records against {} real ones",
            self.rows.1, self.rows.0
        )?;
        writeln!(
            f,
            "  features one by one: Kolmogorov-Smirnov distance {mean:.3} on average (0 alike, 1 apart); the worst:"
        )?;
        for (name, distance) in features.iter().take(WORST) {
            writeln!(f, "    {distance:.3}  {name}")?;
        }
        writeln!(
            f,
            "  features together:   correlations differ by {:.3} on average",
            self.correlation
        )?;
        write!(
            f,
            "  a linear judge:      tells them apart with AUC {:.3} (0.5 cannot, 1 always)",
            self.judge
        )
    }
}

/// The largest difference of two empirical distribution functions. 1 where one of them is empty.
fn kolmogorov_smirnov(a: ArrayView1<'_, f64>, b: ArrayView1<'_, f64>) -> f64 {
    let sorted = |values: ArrayView1<'_, f64>| {
        let mut values: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        values.sort_unstable_by(f64::total_cmp);
        values
    };
    let (a, b) = (sorted(a), sorted(b));
    if a.is_empty() || b.is_empty() {
        return 1.0;
    }
    let share = |values: &[f64], at: f64| {
        values.partition_point(|&value| value <= at) as f64 / values.len() as f64
    };
    a.iter()
        .chain(&b)
        .map(|&at| (share(&a, at) - share(&b, at)).abs())
        .fold(0.0, f64::max)
}

/// Both by the real records' mean and standard deviation, each feature; missing values become 0, the mean.
fn standardised(
    real: ArrayView2<'_, f64>,
    synthetic: ArrayView2<'_, f64>,
) -> (Array2<f64>, Array2<f64>) {
    let (mut a, mut b) = (real.to_owned(), synthetic.to_owned());
    for (mut a, mut b) in a.columns_mut().into_iter().zip(b.columns_mut()) {
        let observed: Vec<f64> = a.iter().copied().filter(|v| v.is_finite()).collect();
        let n = observed.len().max(1) as f64;
        let mean = observed.iter().sum::<f64>() / n;
        let variance = observed.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        let spread = if variance > 0.0 { variance.sqrt() } else { 1.0 };
        let scale = |value: f64| {
            if value.is_finite() {
                (value - mean) / spread
            } else {
                0.0
            }
        };
        a.mapv_inplace(scale);
        b.mapv_inplace(scale);
    }
    (a, b)
}

/// Correlations of all pairs of columns; 0 with a column that is constant, 1 on the diagonal.
fn correlations(rows: &Array2<f64>) -> Array2<f64> {
    let Some(means) = rows.mean_axis(Axis(0)) else {
        return Array2::eye(rows.ncols());
    };
    let centred = rows - &means;
    let covariance = centred.t().dot(&centred);
    let spread = covariance.diag().mapv(f64::sqrt);
    Array2::from_shape_fn(covariance.raw_dim(), |(i, j)| {
        let product = spread[i] * spread[j];
        if i == j {
            1.0
        } else if product > 0.0 {
            covariance[(i, j)] / product
        } else {
            0.0
        }
    })
}

/// The judge's AUC: direction from one half of the records, tried on the other.
fn judge(real: &Array2<f64>, synthetic: &Array2<f64>, seed: Seed) -> f64 {
    let mut rows: Vec<(bool, Array1<f64>)> = Vec::new();
    for (label, part) in [(false, real), (true, synthetic)] {
        for row in part.rows() {
            // Squares let it see spreads that differ; bounded, so that one wild value does not decide.
            let row = row.mapv(|value| value.clamp(-10.0, 10.0));
            let both: Vec<f64> = row
                .iter()
                .copied()
                .chain(row.iter().map(|v| v * v))
                .collect();
            rows.push((label, Array1::from(both)));
        }
    }
    rows.shuffle(&mut seed.child("judge").rng());
    let (learn, held) = rows.split_at(rows.len() / 2);
    let mean = |label: bool| {
        let part: Vec<&Array1<f64>> = learn
            .iter()
            .filter(|row| row.0 == label)
            .map(|row| &row.1)
            .collect();
        let first = (*part.first()?).clone();
        let sum = part[1..].iter().fold(first, |sum, row| sum + *row);
        Some(sum / part.len() as f64)
    };
    let (Some(of_real), Some(of_synthetic)) = (mean(false), mean(true)) else {
        return f64::NAN;
    };
    let width = of_real.len();
    let mut within = Array2::zeros((learn.len(), width));
    for (mut to, (label, row)) in within.rows_mut().into_iter().zip(learn) {
        to.assign(&(row - if *label { &of_synthetic } else { &of_real }));
    }
    let mut scatter = within.t().dot(&within) / learn.len() as f64;
    let ridge = (RIDGE * scatter.diag().sum() / width as f64).max(1e-12);
    scatter.diag_mut().mapv_inplace(|value| value + ridge);
    let direction = solve(&scatter, &(&of_synthetic - &of_real));
    let labels: Vec<bool> = held.iter().map(|row| row.0).collect();
    let scores: Vec<f64> = held.iter().map(|row| row.1.dot(&direction)).collect();
    roc_auc(&labels, &scores)
}

/// Solves `matrix · x = right` for a symmetric positive definite matrix by conjugate gradients (Hestenes and Stiefel 1952).
fn solve(matrix: &Array2<f64>, right: &Array1<f64>) -> Array1<f64> {
    let mut x = Array1::zeros(right.len());
    let mut residual = right.clone();
    let mut direction = residual.clone();
    let mut size = residual.dot(&residual);
    let enough = size * 1e-20;
    for _ in 0..4 * right.len() {
        if size <= enough {
            break;
        }
        let image = matrix.dot(&direction);
        let step = size / direction.dot(&image);
        x.scaled_add(step, &direction);
        residual.scaled_add(-step, &image);
        let next = residual.dot(&residual);
        direction = &residual + &(direction * (next / size));
        size = next;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;
    use rand::Rng;

    /// Two features with correlation about `rho`.
    fn pairs(n: usize, rho: f64, shift: f64, seed: u64) -> Array2<f64> {
        let mut rng = Seed(seed).rng();
        let mut rows = Array2::zeros((n, 2));
        for mut row in rows.rows_mut() {
            let (x, y): (f64, f64) = (rng.gen_range(-1.0..1.0), rng.gen_range(-1.0..1.0));
            row[0] = x + shift;
            row[1] = rho * x + (1.0 - rho * rho).sqrt() * y;
        }
        rows
    }

    fn measured(real: &Array2<f64>, synthetic: &Array2<f64>) -> Fidelity {
        Fidelity::measure(
            &["a", "b"].map(str::to_owned),
            real.view(),
            synthetic.view(),
            Seed(1),
        )
    }

    #[test]
    fn distances_by_hand() {
        let (a, b) = (array![1.0, 2.0, 3.0, 4.0], array![3.0, 4.0, 5.0, 6.0]);
        assert!((kolmogorov_smirnov(a.view(), b.view()) - 0.5).abs() < 1e-12);
        assert!(kolmogorov_smirnov(a.view(), a.view()).abs() < 1e-12);
        let far = array![9.0];
        assert!((kolmogorov_smirnov(a.view(), far.view()) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn equations_are_solved() {
        let x = solve(&array![[4.0, 1.0], [1.0, 3.0]], &array![1.0, 2.0]);
        assert!((x[0] - 1.0 / 11.0).abs() < 1e-12 && (x[1] - 7.0 / 11.0).abs() < 1e-12);
    }

    #[test]
    fn records_of_one_kind_cannot_be_told_apart() {
        let fidelity = measured(&pairs(2000, 0.8, 0.0, 1), &pairs(2000, 0.8, 0.0, 2));
        assert!(fidelity.features.iter().all(|f| f.1 < 0.06), "{fidelity}");
        assert!(fidelity.correlation < 0.03, "{fidelity}");
        assert!((fidelity.judge - 0.5).abs() < 0.05, "{fidelity}");
    }

    #[test]
    fn each_measure_sees_what_it_is_for() {
        let real = pairs(2000, 0.8, 0.0, 1);
        let shifted = measured(&real, &pairs(2000, 0.8, 0.5, 2));
        assert!(
            shifted.features[0].1 > 0.2 && shifted.features[1].1 < 0.1,
            "{shifted}"
        );
        assert!(shifted.judge > 0.7, "{shifted}");
        let loose = measured(&real, &pairs(2000, 0.0, 0.0, 2));
        assert!((loose.correlation - 0.8).abs() < 0.06, "{loose}");
        let mut narrow = pairs(2000, 0.8, 0.0, 2);
        narrow.mapv_inplace(|value| value * 0.3);
        assert!(measured(&real, &narrow).judge > 0.75);
    }
}
