//! Every measured column of the newest record judged by what the others say at that moment: beside any kind of model, so that none is blind
//! to a single wild sensor, and a fault's size is never lost in a mean.
//!
//! With P the inverse of the columns' covariance, zⱼ = (P (x − μ))ⱼ / √Pⱼⱼ is column j's residual given all others, in units of its normal size;
//! zⱼ² is what the squared Mahalanobis distance loses when column j is reconstructed from the others: the reconstruction-based
//! contribution of Alcala and Qin, "Reconstruction-based contribution for process monitoring", Automatica 45, 2009. Where columns are
//! missing the others are judged without them (P is replaced by its Schur complement).
//!
//! The probability of a |z| is calibrated over all columns and records that were fitted on, because only many of them show how a tail goes
//! on, in units of what records that were not fitted on show; that of the largest of a record follows (Šidák, JASA 62, 1967). It and the
//! model's p-value are combined by Cauchy's rule (Liu and Xie, "Cauchy Combination Test", JASA 115, 2020), which holds whatever their dependence.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut1, Axis};
use rand::Rng;

use super::linalg::{cholesky, invert_lower, moments, slice_of};
use super::residual::shrinkage;
use super::scale::expanded;
use crate::model::tensors::{ModelFileError, Tensors};
use crate::seed::Seed;
use crate::simd::{BLOCK, Loop, block, block_mut, blocks, wide};
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

/// Columns that are reconstructed one after another to explain a record, at most.
const BLAMED_MAX: usize = 8;

/// Columns up to which they are judged so: the work for a record grows with their square, that of fitting with their cube.
pub const COLUMNS_MAX: usize = 256;

/// Columns up to which records with gaps are judged exactly. With more, what is missing counts as usual.
const EXACT_MAX: usize = 64;

/// The share of values that is taken away to learn what sizes records with gaps have, and the number of records at most.
const GAPS: f64 = 0.3;
const GAPPY_MAX: usize = 2000;

/// Sizes that are calibrated on, at most.
const SIZES_MAX: usize = 400_000;

/// The share of records by whose peaks those that were fitted on are compared with others.
const COMPARED: f64 = 0.9;

/// The share of a column's own precision below which the others that are reconstructed leave nothing of it but rounding.
const DEPENDENT: f64 = 1e-12;

/// Mean square of a residual from which on a column is reconstructed, and from which on it stays so beside others.
const BLAMED_MIN: f64 = 4.0;
const BLAMED_KEPT: f64 = 9.0;

/// The say of the sensors beside the model. Small, because on records whose columns have heavy tails their largest residual ranks worse than
/// any model does (AP of eight tables 0.52 beside 0.77); and enough, because what they alone can see is many times as rare.
const SAY: f64 = 0.02;

/// The largest p-value that speaks against another: that something is perfectly ordinary does not outweigh that another thing is not.
const ORDINARY: f64 = 0.99;

/// A fitted judge of columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensors {
    /// From where on scaled values are logarithms.
    clip: f32,
    /// Columns that never changed, and have no size of their own by which a change could be a thousand: their logarithms stay, M.
    steady: Vec<bool>,
    /// Usual values, M.
    mean: Array1<f32>,
    /// The inverse of the covariance, `M × M`.
    precision: Array2<f64>,
    /// What a residual is divided by beside its normal size: above 1 of a column whose residuals have a heavy tail, M.
    unit: Array1<f64>,
    /// P with its columns in units of z: rows less the mean times this are z.
    weights: Array2<f32>,
    /// From the size of any column's |z| to the probability that one is as large, of complete records ...
    complete: Calibration,
    /// ... and of records with gaps.
    gappy: Calibration,
    /// The largest |z| of a record below which it is not rare enough to be told.
    quiet: f64,
    /// Sizes of the records that were fitted on, complete and with gaps, `n × M`: what both are fitted on, until it is done. Not stored.
    seen: [Array2<f32>; 2],
}

/// Precisions of what was observed, by what that was.
type Patterns = BTreeMap<Vec<bool>, Array2<f64>>;

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

    /// Calibrates on what was seen and on sizes of records that were not fitted on, `n × M`, NaN where something was missing, in order of
    /// time. Where these are larger, all count as larger.
    pub fn calibrate(&mut self, held_out: &Array2<f32>) {
        let high = |sizes: &Array2<f32>| {
            let mut peaks: Vec<f64> = sizes.rows().into_iter().map(peak).collect();
            peaks.retain(|peak| peak.is_finite());
            peaks.sort_unstable_by(f64::total_cmp);
            quantile_sorted(&peaks, COMPARED)
        };
        let factor = (high(held_out) / high(&self.seen[0])).max(1.0);
        let factor = if factor.is_finite() { factor } else { 1.0 };
        let fit = |seen: &Array2<f32>, held_out: &[f32]| {
            let seen = seen.iter().map(|&size| f64::from(size) * factor);
            let all = seen.chain(held_out.iter().map(|&size| f64::from(size)));
            Calibration::fit(&all.collect::<Vec<f64>>())
        };
        let whole: Vec<f32> = held_out
            .rows()
            .into_iter()
            .filter(|row| row.iter().all(|size| !size.is_nan()))
            .flatten()
            .copied()
            .collect();
        self.complete = fit(&self.seen[0], &whole);
        self.gappy = fit(&self.seen[1], &[]);
        self.quieten();
    }

    /// Rarer than their say is what they have to tell: of one column, that share of the columns.
    fn quieten(&mut self) {
        self.quiet = self.complete.threshold(SAY / self.columns() as f64);
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

    fn weigh(&mut self) {
        self.weights = self.precision.mapv(|value| value as f32);
        for (j, mut column) in self.weights.columns_mut().into_iter().enumerate() {
            let size = self.precision[[j, j]].sqrt() * self.unit[j];
            column.mapv_inplace(|value| (f64::from(value) / size) as f32);
        }
    }

    /// M: the columns.
    pub fn columns(&self) -> usize {
        self.mean.len()
    }

    /// Rows less the mean, wild values as they are.
    fn centred(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        // Plain slices, because every record goes this way.
        let mean = self.mean.as_slice().unwrap_or_default();
        let clip = if self.clip > 0.0 { self.clip } else { f32::MAX };
        let (mut off, mut wild) = (Vec::with_capacity(rows.len()), false);
        for row in rows.rows() {
            wild |= wide(AddCentred {
                row: &slice_of(row),
                mean,
                to: &mut off,
            }) > clip;
        }
        let mut off = Array2::from_shape_vec(rows.raw_dim(), off)
            .unwrap_or_else(|_| unreachable!("as many numbers as there were"));
        if wild {
            let columns = off.columns_mut().into_iter().zip(rows.columns());
            for (((mut off, rows), mean), steady) in columns.zip(mean).zip(&self.steady) {
                for (off, value) in off.iter_mut().zip(rows) {
                    if !steady && value.abs() > clip {
                        *off = expanded(f64::from(*value), self.clip) as f32 - mean;
                    }
                }
            }
        }
        off
    }

    /// Residuals of complete rows given the other columns, in usual units.
    fn z(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        self.centred(rows).dot(&self.weights)
    }

    /// Squared Mahalanobis distances of complete rows.
    fn distances(&self, rows: ArrayView2<'_, f32>) -> Vec<f32> {
        let centred = &rows - &self.mean;
        let pulled = centred.dot(&self.precision.mapv(|value| value as f32));
        (&centred * &pulled).sum_axis(Axis(1)).to_vec()
    }

    /// |z| of each column of n scaled records, `n × M`; NaN where it was not observed.
    pub fn sizes(&self, records: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut sizes = self.z(records);
        sizes.mapv_inplace(f32::abs);
        let mut patterns = Patterns::new();
        for (mut sizes, record) in sizes.rows_mut().into_iter().zip(records.rows()) {
            // One NaN makes all of its row NaN.
            if sizes.sum().is_nan() {
                self.sizes_of_some(record, sizes.view_mut(), &mut patterns);
            }
        }
        sizes
    }

    /// |z| of what was observed of a record.
    fn sizes_of_some(
        &self,
        record: ArrayView1<'_, f32>,
        mut sizes: ArrayViewMut1<'_, f32>,
        patterns: &mut Patterns,
    ) {
        let observed: Vec<bool> = record.iter().map(|value| !value.is_nan()).collect();
        let mut off = self.centred(record.insert_axis(Axis(0)));
        off.mapv_inplace(|value| if value.is_nan() { 0.0 } else { value });
        if self.columns() > EXACT_MAX {
            let z = off.dot(&self.weights);
            sizes.assign(&z.row(0).mapv(f32::abs));
        } else if observed.contains(&true) {
            let off = off.row(0).mapv(f64::from);
            let precision = patterns
                .entry(observed.clone())
                .or_insert_with_key(|observed| {
                    let gone = (0..observed.len()).filter(|&column| !observed[column]);
                    gone.fold(self.precision.clone(), without)
                });
            for (j, size) in sizes.iter_mut().enumerate() {
                let own = precision[[j, j]].sqrt() * self.unit[j];
                *size = (precision.row(j).dot(&off) / own).abs() as f32;
            }
        }
        for (size, observed) in sizes.iter_mut().zip(observed) {
            if !observed {
                *size = f32::NAN;
            }
        }
    }

    /// The largest |z| of each of n scaled records, `n × M`; NaN of those without anything observed.
    pub fn peaks(&self, records: ArrayView2<'_, f32>, gaps: bool) -> Vec<f64> {
        if gaps {
            return self.sizes(records).rows().into_iter().map(peak).collect();
        }
        let z = self.z(records);
        let rows = z.as_slice().unwrap_or_default();
        wide(LargestOf {
            rows,
            columns: self.columns(),
        })
    }

    /// The model's p-value, and what becomes of it when the sensors are heard: it falls where they find a record rarer by far.
    pub fn beside(&self, model: f64, peak: f64, missing: f64) -> f64 {
        // Nearly always they have nothing to say.
        if peak.is_nan() || peak < self.quiet {
            return model;
        }
        model.min(together(model, self.p_value(peak, missing)))
    }

    /// The p-value of a largest |z|, of a record of which this share was missing.
    pub fn p_value(&self, peak: f64, missing: f64) -> f64 {
        let observed = self.columns() as f64 * (1.0 - missing).clamp(0.0, 1.0);
        if peak.is_nan() || observed <= 0.0 {
            return 1.0;
        }
        let mut each = self.complete.p_value(peak);
        if missing > 0.0 {
            each = each.max(self.gappy.p_value(peak));
        }
        // 1 − (1 − p)ⁿ; p-values near 0 must not become 0.
        let any = -(observed * (-each).ln_1p()).exp_m1();
        any.clamp(each.min(1.0), 1.0)
    }

    /// Whether what is missing of a record is filled in as the others let expect.
    pub fn fills(&self) -> bool {
        self.columns() <= EXACT_MAX
    }

    /// Puts what the observed columns let expect in place of what is missing, record by record of rows, `n × (W · M)`.
    pub fn fill(&self, rows: &mut Array2<f32>) {
        let columns = self.columns();
        if !self.fills() {
            return;
        }
        let mut known: BTreeMap<Vec<bool>, Array2<f64>> = BTreeMap::new();
        for mut row in rows.rows_mut() {
            for mut record in row.axis_chunks_iter_mut(Axis(0), columns) {
                let observed: Vec<bool> = record.iter().map(|value| !value.is_nan()).collect();
                if !observed.contains(&false) {
                    continue;
                }
                let gone: Vec<usize> = (0..columns).filter(|&column| !observed[column]).collect();
                let seen: Vec<usize> = (0..columns).filter(|&column| observed[column]).collect();
                let pull = known
                    .entry(observed)
                    .or_insert_with(|| regression(&self.precision, &gone, &seen));
                let off: Array1<f64> = seen
                    .iter()
                    .map(|&column| f64::from(record[column] - self.mean[column]))
                    .collect();
                for (&column, value) in gone.iter().zip(&pull.dot(&off)) {
                    record[column] = self.mean[column] + *value as f32;
                }
            }
        }
    }

    /// How much each column is to blame for a window, `W × M` scaled records without gaps: what the squared distance loses when the column is
    /// reconstructed beside the others that are to blame.
    ///
    /// These are found by steps forward, the column that the rest contradicts most first, and back, because one that only stood for others is
    /// not to blame once these are reconstructed. Where it takes two, all pairs are compared: two faults can make a third column stand out.
    pub fn blame(&self, window: ArrayView2<'_, f32>, observed: &[bool]) -> Vec<f64> {
        let off = self.centred(window).mapv(f64::from);
        let records = off.nrows().max(1) as f64;
        let gone = (0..self.columns()).filter(|&column| !observed[column]);
        let known = gone.fold(self.precision.clone(), without);
        let pulled = off.dot(&known);
        let mut blamed: Vec<usize> = Vec::new();
        while blamed.len() < BLAMED_MAX.min(self.columns() - 1) {
            let gains = self.gains(&pulled, &known, &blamed);
            let most = (0..gains.len()).max_by(|&a, &b| gains[a].total_cmp(&gains[b]));
            let Some(column) = most.filter(|&column| gains[column] >= BLAMED_MIN * records) else {
                break;
            };
            blamed.push(column);
            if blamed.len() == 2 {
                blamed = best_pair(&pulled, &known).unwrap_or(blamed);
            }
        }
        loop {
            let own: Vec<f64> = (0..blamed.len())
                .map(|place| {
                    let mut others = blamed.clone();
                    let column = others.remove(place);
                    self.gains(&pulled, &known, &others)[column]
                })
                .collect();
            let least = (0..own.len()).min_by(|&a, &b| own[a].total_cmp(&own[b]));
            if let Some(place) = least.filter(|&place| own[place] < BLAMED_KEPT * records) {
                blamed.remove(place);
                continue;
            }
            let mut blame = self.gains(&pulled, &known, &blamed);
            for (&column, gain) in blamed.iter().zip(own) {
                blame[column] = gain;
            }
            return blame;
        }
    }

    /// What the squared distance of rows would lose by each column, when some are reconstructed already: these, and what is not known, 0. `pulled`
    /// are the rows times the precision of what is `known`; only its part for those that are reconstructed is inverted.
    fn gains(&self, pulled: &Array2<f64>, known: &Array2<f64>, blamed: &[usize]) -> Vec<f64> {
        let of_blamed = known.select(Axis(0), blamed);
        let among_them = of_blamed.select(Axis(1), blamed);
        let share = match inverse(among_them.view()) {
            Some(inverse) => inverse.dot(&of_blamed),
            None => Array2::zeros(of_blamed.raw_dim()),
        };
        let rest = pulled - &pulled.select(Axis(1), blamed).dot(&share);
        let gain = |j: usize| {
            let own = known[[j, j]] - of_blamed.column(j).dot(&share.column(j));
            if blamed.contains(&j) || own <= DEPENDENT * known[[j, j]] {
                return 0.0;
            }
            let squares: f64 = rest.column(j).iter().map(|pull| pull * pull).sum();
            squares / (own * self.unit[j] * self.unit[j])
        };
        (0..self.columns()).map(gain).collect()
    }

    /// Writes the judge.
    pub fn save(&self, to: &mut Tensors) {
        to.set("sensors.clip", &self.clip);
        to.set("sensors.steady", &self.steady);
        to.put1("sensors.mean", self.mean.view());
        to.set(
            "sensors.precision",
            &self.precision.iter().copied().collect::<Vec<f64>>(),
        );
        to.set("sensors.unit", &self.unit.to_vec());
        to.set("sensors.complete", &self.complete);
        to.set("sensors.gappy", &self.gappy);
    }

    /// Reads back what [`Self::save`] wrote, if anything.
    ///
    /// # Errors
    /// If a part is absent or of another shape.
    pub fn load(from: &Tensors) -> Result<Option<Self>, ModelFileError> {
        if !from.settings.contains_key("sensors.clip") {
            return Ok(None);
        }
        let mean = from.get1("sensors.mean")?;
        let columns = mean.len();
        let precision: Vec<f64> = from.get("sensors.precision")?;
        let uneven =
            || ModelFileError::Invalid("the sensors' parts do not fit together".to_owned());
        let mut fitted = Self {
            clip: from.get("sensors.clip")?,
            steady: from.get("sensors.steady")?,
            precision: Array2::from_shape_vec((columns, columns), precision)
                .map_err(|_| uneven())?,
            unit: Array1::from(from.get::<Vec<f64>>("sensors.unit")?),
            weights: Array2::zeros((columns, columns)),
            complete: from.get("sensors.complete")?,
            gappy: from.get("sensors.gappy")?,
            quiet: 0.0,
            seen: [Array2::zeros((0, columns)), Array2::zeros((0, columns))],
            mean,
        };
        let usable = |value: &f64| value.is_finite() && *value > 0.0;
        if [fitted.unit.len(), fitted.steady.len()] == [columns; 2]
            && fitted.unit.iter().all(usable)
            && fitted.precision.diag().iter().all(usable)
        {
            fitted.weigh();
            fitted.quieten();
            Ok(Some(fitted))
        } else {
            Err(uneven())
        }
    }
}

/// The p-values of a model and of the sensors as one, by Cauchy's rule.
pub fn together(model: f64, sensors: f64) -> f64 {
    let tail = |p: f64| {
        // tan(π / 2 − π p), which is 1 / (π p) where p is small.
        if p < 1e-6 {
            1.0 / (PI * p)
        } else {
            ((0.5 - p.min(ORDINARY)) * PI).tan()
        }
    };
    let sum = (1.0 - SAY) * tail(model) + SAY * tail(sensors);
    let p = if sum > 1e6 {
        1.0 / (PI * sum)
    } else {
        0.5 - sum.atan() / PI
    };
    p.clamp(crate::stats::calibration::P_MIN, 1.0)
}

/// The mean of each column over each window, `n × M` of `n × (W · M)`: NaN for a column of which nothing was observed, and for all where one was
/// observed in part. Means over fewer records are wilder, and what columns tell of each other is lost where they miss different ones.
pub fn means(rows: ArrayView2<'_, f32>, columns: usize) -> Array2<f32> {
    let mut means = Array2::zeros((rows.nrows(), columns));
    for (window, mut means) in rows.rows().into_iter().zip(means.rows_mut()) {
        let records = window.len() / columns;
        if let (Some(window), Some(means)) = (window.as_slice(), means.as_slice_mut())
            && wide(MeansOfWhole { window, means })
        {
            continue;
        }
        let mut in_part = false;
        for (column, mean) in means.iter_mut().enumerate() {
            let (mut sum, mut count) = (0.0, 0);
            for &value in window.iter().skip(column).step_by(columns) {
                if !value.is_nan() {
                    sum += value;
                    count += 1;
                }
            }
            in_part |= count > 0 && count < records;
            *mean = if count == records {
                sum / records as f32
            } else {
                f32::NAN
            };
        }
        if in_part {
            means.fill(f32::NAN);
        }
    }
    means
}

/// The mean of each column of a window that was observed as a whole: record by record, all columns side by side, to the same bits as column by
/// column. Says whether it was.
struct MeansOfWhole<'a> {
    window: &'a [f32],
    means: &'a mut [f32],
}

impl Loop for MeansOfWhole<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let Self { window, means } = self;
        let columns = means.len();
        let number = (window.len() / columns) as f32;
        let mut gaps = 0;
        if columns < BLOCK {
            for (column, mean) in means.iter_mut().enumerate() {
                let values = window.iter().skip(column).step_by(columns);
                *mean = values.fold(0.0, |sum, value| sum + value) / number;
                gaps += u32::from(mean.is_nan());
            }
            return gaps == 0;
        }
        for from in blocks(columns) {
            let mut sums = [0.0_f32; BLOCK];
            for record in window.chunks_exact(columns) {
                for (sum, value) in sums.iter_mut().zip(block(record, from)) {
                    *sum += value;
                }
            }
            let mean = sums.map(|sum| sum / number);
            gaps += mean
                .iter()
                .fold(0, |gaps, mean| gaps + u32::from(mean.is_nan()));
            *block_mut(means, from) = mean;
        }
        gaps == 0
    }
}

/// How many records have all columns.
pub fn whole(records: ArrayView2<'_, f32>) -> usize {
    let rows = records.rows().into_iter();
    rows.filter(|row| row.iter().all(|value| !value.is_nan()))
        .count()
}

/// The newest records of windows, `n × (W · M)`.
pub fn newest(rows: ArrayView2<'_, f32>, columns: usize) -> ArrayView2<'_, f32> {
    let from = rows.ncols() - columns;
    rows.split_at(Axis(1), from).1
}

/// Adds a row less the mean, and says how large the largest value of the row is.
struct AddCentred<'a> {
    row: &'a [f32],
    mean: &'a [f32],
    to: &'a mut Vec<f32>,
}

impl Loop for AddCentred<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        let Self { row, mean, to } = self;
        to.extend(row.iter().zip(mean).map(|(value, mean)| value - mean));
        largest(row)
    }
}

/// The largest absolute value of each row.
struct LargestOf<'a> {
    rows: &'a [f32],
    columns: usize,
}

impl Loop for LargestOf<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn run(self) -> Vec<f64> {
        let Self { rows, columns } = self;
        let rows = rows.chunks_exact(columns);
        rows.map(|row| f64::from(largest(row))).collect()
    }
}

/// The largest absolute value, side by side.
#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    if row.len() < BLOCK {
        return row
            .iter()
            .fold(0.0, |most, value| larger(most, value.abs()));
    }
    let mut most = [0.0_f32; BLOCK];
    for from in blocks(row.len()) {
        for (most, value) in most.iter_mut().zip(block(row, from)) {
            *most = larger(*most, value.abs());
        }
    }
    most.into_iter().fold(0.0, larger)
}

/// The largest of a record's sizes; NaN if there are none.
pub fn peak(sizes: ArrayView1<'_, f32>) -> f64 {
    let seen = sizes.iter().copied().filter(|size| !size.is_nan());
    seen.reduce(f32::max).map_or(f64::NAN, f64::from)
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

/// The inverse of a covariance.
fn inverse(covariance: ArrayView2<'_, f64>) -> Option<Array2<f64>> {
    let root = invert_lower(cholesky(covariance)?.view());
    Some(root.t().dot(&root))
}

/// The two columns by which the squared distance of rows loses most, from rows times the precision: uᵀ P⁻¹ u over both, u what pulls them.
fn best_pair(pulled: &Array2<f64>, precision: &Array2<f64>) -> Option<Vec<usize>> {
    let moments = pulled.t().dot(pulled);
    let mut best = (0.0, None);
    for a in 0..precision.nrows() {
        for b in 0..a {
            let (p, q, r) = (precision[[a, a]], precision[[b, b]], precision[[a, b]]);
            let determinant = p * q - r * r;
            if determinant <= 1e-12 * p * q {
                continue;
            }
            let (u, v, w) = (moments[[a, a]], moments[[b, b]], moments[[a, b]]);
            let gain = (q * u - 2.0 * r * w + p * v) / determinant;
            if gain > best.0 {
                best = (gain, Some(vec![b, a]));
            }
        }
    }
    best.1
}

/// The precision of the other columns when one is not known: its Schur complement, with zeros for the column.
fn without(mut precision: Array2<f64>, column: usize) -> Array2<f64> {
    let pivot = precision[[column, column]];
    if pivot <= 0.0 {
        return precision;
    }
    let of_column = precision.row(column).to_vec();
    for (mut row, own) in precision.rows_mut().into_iter().zip(&of_column) {
        for (value, other) in row.iter_mut().zip(&of_column) {
            *value -= own * other / pivot;
        }
        row[column] = 0.0;
    }
    precision.row_mut(column).fill(0.0);
    precision
}

/// What the columns `gone` are expected to be, `gone × seen`: −P⁻¹ of the former times P between them.
fn regression(precision: &Array2<f64>, gone: &[usize], seen: &[usize]) -> Array2<f64> {
    let own = precision.select(Axis(0), gone).select(Axis(1), gone);
    let between = precision.select(Axis(0), gone).select(Axis(1), seen);
    match inverse(own.view()) {
        Some(inverse) => -inverse.dot(&between),
        None => Array2::zeros((gone.len(), seen.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::correlated;
    use super::*;
    use ndarray::array;
    use rand_distr::StandardNormal;

    fn fitted(columns: usize) -> Sensors {
        let rows = correlated(3000, columns, Seed(1));
        let held_out = correlated(1000, columns, Seed(2));
        let mut sensors = Sensors::fit(rows.view(), held_out.view(), (0.02, 10.0));
        let sizes = sensors.sizes(held_out.view());
        sensors.calibrate(&sizes);
        sensors
    }

    #[test]
    fn means_have_the_same_bits_however_windows_lie_in_memory() {
        let rows = correlated(50, 12, Seed(4));
        let apart = rows.t().as_standard_layout().into_owned();
        assert_eq!(means(rows.view(), 4), means(apart.t(), 4));
    }

    #[test]
    fn means_are_of_columns_that_were_observed_as_a_whole() {
        let nan = f32::NAN;
        let rows = ndarray::array![
            [1.0, 10.0, 3.0, 30.0],
            [1.0, nan, 3.0, nan],
            [1.0, nan, 3.0, 30.0]
        ];
        let means = super::means(rows.view(), 2);
        assert_eq!(means.row(0).to_vec(), [2.0, 20.0]);
        assert!((means[[1, 0]] - 2.0).abs() < 1e-6 && means[[1, 1]].is_nan());
        assert!(means.row(2).iter().all(|mean| mean.is_nan()));
        assert_eq!(whole(means.view()), 1);
    }

    #[test]
    fn residuals_by_hand() {
        // Two columns of variance 1 and covariance 1/2: P = 4/3 (1, −1/2; −1/2, 1); z₀ = (x₀ − x₁/2) / √(3/4).
        let precision = inverse(array![[1.0, 0.5], [0.5, 1.0]].view()).unwrap();
        assert!((precision[[0, 0]] - 4.0 / 3.0).abs() < 1e-12);
        assert!((precision[[0, 1]] + 2.0 / 3.0).abs() < 1e-12);
        let alone = without(precision.clone(), 1);
        assert!((alone[[0, 0]] - 1.0).abs() < 1e-12 && alone[[1, 1]].abs() < 1e-12);
        let expected = regression(&precision, &[1], &[0]);
        assert!((expected[[0, 0]] - 0.5).abs() < 1e-12);
    }

    #[test]
    fn gains_beside_others_are_those_without_them() {
        let (judge, records) = (fitted(5), correlated(20, 5, Seed(3)));
        let off = judge.centred(records.view()).mapv(f64::from);
        for gone in [vec![], vec![3]] {
            let known = gone.into_iter().fold(judge.precision.clone(), without);
            for blamed in [vec![], vec![1], vec![4, 0, 2]] {
                let gains = judge.gains(&off.dot(&known), &known, &blamed);
                let rest = blamed.iter().copied().fold(known.clone(), without);
                let pulled = off.dot(&rest);
                for (j, gain) in gains.into_iter().enumerate() {
                    let own = rest[[j, j]] * judge.unit[j] * judge.unit[j];
                    let squares: f64 = pulled.column(j).iter().map(|pull| pull * pull).sum();
                    let expected = if own > 0.0 { squares / own } else { 0.0 };
                    assert!((gain - expected).abs() <= 1e-9 * (1.0 + expected), "{j}");
                }
            }
        }
    }

    #[test]
    fn two_p_values_by_cauchys_rule() {
        assert!((together(0.3, 0.3) - 0.3).abs() < 1e-12);
        // The model's goes through, the sensors' at fifty times itself.
        assert!((together(1e-9, 0.5) * 0.98 / 1e-9 - 1.0).abs() < 1e-3);
        assert!((together(0.5, 1e-9) * 0.02 / 1e-9 - 1.0).abs() < 1e-3);
        assert!((together(1.0, 1e-200) * 0.02 / 1e-200 - 1.0).abs() < 1e-3);
        // Of independent ones the rate is kept.
        let mut rng = Seed(4).rng();
        let n = 200_000;
        for level in [0.01, 0.001] {
            let small = (0..n)
                .filter(|_| together(rng.r#gen(), rng.r#gen()) < level)
                .count();
            let rate = small as f64 / f64::from(n);
            assert!((0.85..1.15).contains(&(rate / level)), "{level}: {rate}");
        }
    }

    #[test]
    fn an_offset_that_others_contradict_shows_and_larger_ones_more() {
        let sensors = fitted(6);
        let mut last = 1.0;
        for offset in [2.0, 5.0, 10.0, 20.0, 60.0, 150.0] {
            let mut row = correlated(1, 6, Seed(9));
            row[[0, 2]] += offset;
            let p = sensors.p_value(sensors.peaks(row.view(), false)[0], 0.0);
            assert!(p <= last, "{offset}: {p}");
            last = p;
        }
        assert!(last < 1e-12, "{last}");
    }

    #[test]
    fn what_is_missing_is_expected_by_the_others_and_the_rest_is_judged_without_it() {
        let sensors = fitted(6);
        let whole = correlated(400, 6, Seed(5));
        let mut rows = whole.clone();
        rows.column_mut(1).fill(f32::NAN);
        let peaks = sensors.peaks(rows.view(), true);
        let rare = |peaks: &[f64], missing| {
            let p = peaks.iter().map(|&peak| sensors.p_value(peak, missing));
            p.filter(|p| *p < 0.05).count()
        };
        assert!(rare(&peaks, 1.0 / 6.0) < 40, "{}", rare(&peaks, 1.0 / 6.0));
        sensors.fill(&mut rows);
        let off = (&rows - &whole).mapv(f32::abs).mean().unwrap() * 6.0;
        assert!(off < 0.3, "{off}");
        rows.fill(f32::NAN);
        assert!(
            sensors
                .peaks(rows.view(), true)
                .iter()
                .all(|peak| peak.is_nan())
        );
        assert!((sensors.p_value(f64::NAN, 1.0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn two_broken_sensors_are_the_first_that_are_named() {
        let (mut right, mut all) = (0, 0);
        for case in 0..60 {
            let mut rng = Seed(case).rng();
            let (columns, causes) = (6 + case as usize % 7, 2 + case as usize % 3);
            let mixing = Array2::from_shape_fn((causes, columns), |_| {
                rng.sample::<f32, _>(StandardNormal) / (causes as f32).sqrt()
            });
            let mut draw = |n: usize| {
                let hidden =
                    Array2::from_shape_fn((n, causes), |_| rng.sample::<f32, _>(StandardNormal));
                let noise = Array2::from_shape_fn((n, columns), |_| {
                    0.4 * rng.sample::<f32, _>(StandardNormal)
                });
                hidden.dot(&mixing) + noise
            };
            let (train, held_out, mut struck) = (draw(1000), draw(300), draw(5));
            let sensors = Sensors::fit(train.view(), held_out.view(), (0.02, 10.0));
            let (a, b) = (case as usize % columns, (case as usize * 3 + 1) % columns);
            if a == b {
                continue;
            }
            for (at, mut row) in struck.rows_mut().into_iter().enumerate() {
                row[a] += 4.0;
                row[b] += if at % 2 == 0 { -4.0 } else { 4.0 };
                let row = row.insert_axis(Axis(0));
                let blame = sensors.blame(row.view(), &vec![true; columns]);
                let mut order: Vec<usize> = (0..columns).collect();
                order.sort_by(|&i, &j| blame[j].total_cmp(&blame[i]));
                all += 1;
                right += usize::from(order[..3].contains(&a) && order[..3].contains(&b));
            }
        }
        assert!(right * 100 >= all * 97, "{right} of {all}");
    }

    #[test]
    fn a_file_gives_back_the_same_judge() {
        let mut sensors = fitted(4);
        sensors.seen = [Array2::zeros((0, 4)), Array2::zeros((0, 4))];
        let mut file = Tensors::default();
        sensors.save(&mut file);
        assert_eq!(Sensors::load(&file).unwrap().unwrap(), sensors);
        assert!(Sensors::load(&Tensors::default()).unwrap().is_none());
    }
}
