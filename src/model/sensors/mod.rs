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

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut1, Axis};

use self::precision::Gone;
use super::scale::expanded;
use crate::model::tensors::{ModelFileError, Tensors};
use crate::simd::{BLOCK, Loop, block, blocks, slice_of, wide};
use crate::stats::calibration::{Calibration, any_of};
use crate::stats::combine;
use crate::stats::order::quantile_sorted;

mod blame;
mod fit;
mod means;
mod precision;

pub use means::{means, newest, whole};

/// Columns up to which they are judged so: the work for a record grows with their square, that of fitting with their cube.
pub const COLUMNS_MAX: usize = 256;

/// Columns up to which records with gaps are judged exactly. With more, what is missing counts as usual.
const EXACT_MAX: usize = 64;

/// The share of records by whose peaks those that were fitted on are compared with others.
const COMPARED: f64 = 0.9;

/// The say of the sensors beside the model. Small, because on records whose columns have heavy tails their largest residual ranks worse than
/// any model does (AP of eight tables 0.52 beside 0.77); and enough, because what they alone can see is many times as rare.
const SAY: f64 = 0.02;

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

/// What was missing of records, and what it leaves of each column's precision, by what was observed.
type Patterns = BTreeMap<Vec<bool>, (Gone, Vec<f64>)>;

impl Sensors {
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
            let mut off = off.row(0).mapv(f64::from);
            let (gone, own) = patterns
                .entry(observed.clone())
                .or_insert_with_key(|observed| {
                    let gone = Gone::of(&self.precision, observed);
                    let columns = observed.iter().enumerate();
                    let own = columns.map(|(column, &observed)| {
                        if observed {
                            gone.own(&self.precision, column)
                        } else {
                            f64::NAN
                        }
                    });
                    let own = own.collect();
                    (gone, own)
                });
            // Beside what they let expect, the others' residuals are those of the observed alone.
            gone.fill(&self.precision, &mut off);
            for (j, (size, own)) in sizes.iter_mut().zip(own).enumerate() {
                let own = own.sqrt() * self.unit[j];
                *size = (self.precision.row(j).dot(&off) / own).abs() as f32;
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
        // p-values near 0 must not become 0.
        any_of(each, observed).clamp(each.min(1.0), 1.0)
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
        let mut known: BTreeMap<Vec<bool>, Gone> = BTreeMap::new();
        let mut off = Array1::zeros(columns);
        for mut row in rows.rows_mut() {
            for mut record in row.axis_chunks_iter_mut(Axis(0), columns) {
                let observed: Vec<bool> = record.iter().map(|value| !value.is_nan()).collect();
                if !observed.contains(&false) {
                    continue;
                }
                for (off, (value, mean)) in off.iter_mut().zip(record.iter().zip(&self.mean)) {
                    *off = f64::from(value - mean);
                }
                let gone = known
                    .entry(observed)
                    .or_insert_with_key(|observed| Gone::of(&self.precision, observed));
                gone.fill(&self.precision, &mut off);
                for &column in gone.columns() {
                    record[column] = self.mean[column] + off[column] as f32;
                }
            }
        }
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
    combine::cauchy(model, sensors, SAY)
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

#[cfg(test)]
pub(in crate::model) mod tests {
    use super::super::testing::correlated;
    use super::*;
    use crate::seed::Seed;
    use rand::Rng;

    pub fn fitted(columns: usize) -> Sensors {
        let rows = correlated(3000, columns, Seed(1));
        let held_out = correlated(1000, columns, Seed(2));
        let mut sensors = Sensors::fit(rows.view(), held_out.view(), (0.02, 10.0));
        let sizes = sensors.sizes(held_out.view());
        sensors.calibrate(&sizes);
        sensors
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
    fn a_file_gives_back_the_same_judge() {
        let mut sensors = fitted(4);
        sensors.seen = [Array2::zeros((0, 4)), Array2::zeros((0, 4))];
        let mut file = Tensors::default();
        sensors.save(&mut file);
        assert_eq!(Sensors::load(&file).unwrap().unwrap(), sensors);
        assert!(Sensors::load(&Tensors::default()).unwrap().is_none());
    }
}
