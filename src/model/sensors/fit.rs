//! Fits sensors on records.

use ndarray::{Array1, Array2, ArrayView2, Axis};
use rand::Rng;

use super::Sensors;
use super::precision::inverse;
use crate::model::linalg::moments;
use crate::model::residual::shrinkage;
use crate::seed::Seed;
use crate::stats::calibration::Calibration;
use crate::stats::order::quantile_sorted;

/// Scaled units below which a residual is noise: a column that the others determine must not alarm over a small part of its spread.
const FLOOR: f64 = 0.1;

/// The share of records that tells how large a column's residual gets, and what it would be for a normal variate.
const HIGH: f64 = 0.99;
const HIGH_NORMAL: f64 = 2.576;

/// Rows that do not fit and tell how large residuals get; with fewer, those that fit do.
const VALIDATION_MIN: usize = 200;

/// Variance below which a column never changed.
const STEADY: f64 = 1e-9;

/// The share of values that is taken away to learn what sizes records with gaps have, and the number of records at most.
const GAPS: f64 = 0.3;
const GAPPY_MAX: usize = 2000;

/// Sizes that are calibrated on, at most.
const SIZES_MAX: usize = 400_000;

impl Sensors {
    /// Fits on scaled records, `n × M`, NaN where something is missing. The share `trim` of them that is farthest off is left out.
    /// `validation` has records that were not fitted on.
    pub fn fit(
        records: ArrayView2<'_, f32>,
        validation: ArrayView2<'_, f32>,
        (trim, clip): (f32, f32),
    ) -> Self {
        let whole = complete(records);
        let first = Self::of_rows(whole.view(), clip);
        let mut order: Vec<(f32, usize)> =
            first.distances(whole.view()).into_iter().zip(0..).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        order.truncate(order.len() - (order.len() as f64 * f64::from(trim)) as usize);
        let mut kept: Vec<usize> = order.into_iter().map(|(_, row)| row).collect();
        kept.sort_unstable();
        let mut fitted = Self::of_rows(whole.select(Axis(0), &kept).view(), clip);
        let validation = complete(validation);
        let unseen = if validation.nrows() >= VALIDATION_MIN {
            validation
        } else {
            whole
        };
        let z = fitted.z(unseen.view());
        for (unit, column) in fitted.unit.iter_mut().zip(z.columns()) {
            let mut sizes: Vec<f64> = column.iter().map(|z| f64::from(z.abs())).collect();
            sizes.sort_unstable_by(f64::total_cmp);
            let high = quantile_sorted(&sizes, HIGH) / HIGH_NORMAL;
            *unit = if high.is_finite() { high.max(0.5) } else { 1.0 };
        }
        fitted.weigh();
        fitted.seen = fitted.sizes_of_seen(&complete(records));
        fitted.calibrate(&Array2::zeros((0, fitted.columns())));
        fitted
    }

    /// Sizes of records that were fitted on, complete and with gaps.
    fn sizes_of_seen(&self, records: &Array2<f32>) -> [Array2<f32>; 2] {
        let thinned = |most: usize| {
            let step = records.nrows().div_ceil(most.max(1)).max(1);
            let rows: Vec<usize> = (0..records.nrows()).step_by(step).collect();
            records.select(Axis(0), &rows)
        };
        let complete = self.sizes(thinned(SIZES_MAX / self.columns()).view());
        let mut gappy = thinned(GAPPY_MAX);
        let mut rng = Seed(0).child("sensors").rng();
        if self.columns() > 1 {
            for mut record in gappy.rows_mut() {
                let kept = rng.gen_range(0..self.columns());
                let other = (kept + rng.gen_range(1..self.columns())) % self.columns();
                for (column, value) in record.iter_mut().enumerate() {
                    // One at least is missing, and one is not.
                    if column == other || column != kept && rng.gen_bool(GAPS) {
                        *value = f32::NAN;
                    }
                }
            }
        }
        let gappy = self.sizes(gappy.view());
        [complete, gappy]
    }

    fn of_rows(rows: ArrayView2<'_, f32>, clip: f32) -> Self {
        let columns = rows.ncols();
        let (mean, mut covariance) = moments(rows);
        let intensity = shrinkage(rows, covariance.view());
        let steady: Vec<bool> = covariance.diag().iter().map(|&v| v < STEADY).collect();
        for ((i, j), value) in covariance.indexed_iter_mut() {
            if i == j {
                // The scaler's unit is the best guess where nothing changed.
                *value = if steady[i] {
                    1.0
                } else {
                    *value + FLOOR * FLOOR
                };
            } else {
                *value *= 1.0 - intensity;
            }
        }
        let mut fitted = Self {
            clip,
            steady,
            mean: mean.mapv(|value| value as f32),
            precision: inverse(covariance.view()).unwrap_or_else(|| Array2::eye(columns)),
            unit: Array1::ones(columns),
            weights: Array2::zeros((columns, columns)),
            complete: Calibration::fit(&[]),
            gappy: Calibration::fit(&[]),
            quiet: 0.0,
            seen: [Array2::zeros((0, columns)), Array2::zeros((0, columns))],
        };
        fitted.weigh();
        fitted
    }

    /// Squared Mahalanobis distances of complete rows.
    fn distances(&self, rows: ArrayView2<'_, f32>) -> Vec<f32> {
        let centred = &rows - &self.mean;
        let pulled = centred.dot(&self.precision.mapv(|value| value as f32));
        (&centred * &pulled).sum_axis(Axis(1)).to_vec()
    }
}

/// The rows without gaps, or where these are few, all with 0 in the gaps.
fn complete(rows: ArrayView2<'_, f32>) -> Array2<f32> {
    let whole: Vec<usize> = (0..rows.nrows())
        .filter(|&row| rows.row(row).iter().all(|value| value.is_finite()))
        .collect();
    if 2 * whole.len() >= rows.nrows() {
        return rows.select(Axis(0), &whole);
    }
    rows.mapv(|value| if value.is_finite() { value } else { 0.0 })
}
