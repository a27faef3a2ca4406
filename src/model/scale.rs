//! Column scaling, fitted with the model. Standard and min-max come from linfa-preprocessing.
//!
//! Raw values are f64 and may be NaN (not observed); scaled values are f32, clipped, and NaN where the raw value was.
//! Infinite raw values count as not observed in the fit and are clipped like any other wild value afterwards.

use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_preprocessing::linear_scaling::LinearScaler;
use ndarray::{Array2, ArrayView1, ArrayView2, Axis};

use super::FitError;
use super::artefact::{ArtefactError, Tensors};
use super::ranks::Ranks;
use super::spec::Scaling;
use crate::stats::order::{m_scale, median};

/// Bound of scaled values when clipping is off: far beyond anything meaningful, yet its square is still an f32.
const UNCLIPPED: f32 = 1e9;

/// Robust spreads from the median beyond which a value is wild, and has no say in the scale.
const WILD: f64 = 10.0;

/// The share of values up to which they may be wild. What a column takes more often is one of its ways, such as another regime.
const WILD_SHARE: f64 = 0.1;

/// A fitted scaler of D columns: scaled = clip((value − centre) / spread), or with ranks clip(normal score of the value's rank).
#[derive(Clone, Debug, PartialEq)]
pub struct Scaler {
    /// What is subtracted, one number a column.
    pub centre: Vec<f64>,
    /// What is divided by, one number a column; never 0.
    pub spread: Vec<f64>,
    /// Bound of the scaled values; 0: none.
    pub clip: f32,
    /// Maps to normal scores, one a column, instead of centre and spread; empty: none.
    pub ranks: Vec<Ranks>,
}

impl Scaler {
    /// Fits on `records`, `n × D` raw values, each column by itself on what was observed of it.
    ///
    /// A column that never changes has no scale of its own: its spread is 1 % of its value, or 1 if that value is 0. So a later change
    /// of a few per cent is seen, rounding noise is not, and the clip bounds what a large one can do. A column that was never
    /// observed is left as it comes.
    ///
    /// # Errors
    /// If `records` has no row or no column.
    pub fn fit(
        records: ArrayView2<'_, f64>,
        scaling: Scaling,
        clip: f32,
    ) -> Result<Self, FitError> {
        if records.nrows() == 0 || records.ncols() == 0 {
            return Err(FitError::TooFewRows {
                kind: "scaling",
                needed: 1,
                rows: 0,
            });
        }
        let (mut centre, mut spread, mut ranks) = (Vec::new(), Vec::new(), Vec::new());
        for column in records.columns() {
            let (middle, width) = fit_column(column, scaling)?;
            centre.push(middle);
            spread.push(width);
            if scaling == Scaling::RankGauss {
                let mut observed: Vec<f64> =
                    column.iter().copied().filter(|v| v.is_finite()).collect();
                if observed.is_empty() {
                    observed.push(middle);
                }
                ranks.push(Ranks::fit(&observed, width));
            }
        }
        Ok(Self {
            centre,
            spread,
            clip,
            ranks,
        })
    }

    /// D: the columns of a record.
    pub fn columns(&self) -> usize {
        self.centre.len()
    }

    /// Scales records or windows, `n × (W · D)`, to f32 within ± clip; NaN stays NaN.
    ///
    /// # Panics
    /// If the width is no multiple of D.
    pub fn transform(&self, rows: ArrayView2<'_, f64>) -> Array2<f32> {
        let columns = self.columns();
        assert!(
            rows.ncols().is_multiple_of(columns),
            "{} inputs, {columns} columns",
            rows.ncols()
        );
        let bound = f64::from(if self.clip > 0.0 {
            self.clip
        } else {
            UNCLIPPED
        });
        let standard = rows.as_standard_layout();
        let values = standard.as_slice().unwrap_or_default();
        let mut scaled = Vec::with_capacity(values.len());
        if !self.ranks.is_empty() {
            for record in values.chunks_exact(columns) {
                let each = record.iter().zip(&self.ranks);
                scaled.extend(
                    each.map(|(value, ranks)| ranks.score(*value).clamp(-bound, bound) as f32),
                );
            }
            return Array2::from_shape_vec(rows.raw_dim(), scaled)
                .unwrap_or_else(|_| unreachable!("as many numbers as there were"));
        }
        // Whole records of plain slices, and choices instead of `clamp`, which keep NaN as it does: on this path every record goes, and so
        // the compiler makes vectors of it.
        scaled.resize(values.len(), 0.0);
        let records = values.chunks_exact(columns);
        for (record, scaled) in records.zip(scaled.chunks_exact_mut(columns)) {
            let each = scaled.iter_mut().zip(record);
            for (((scaled, value), centre), spread) in each.zip(&self.centre).zip(&self.spread) {
                let unit = (value - centre) / spread;
                let unit = if unit < -bound { -bound } else { unit };
                let unit = if unit > bound { bound } else { unit };
                *scaled = unit as f32;
            }
        }
        Array2::from_shape_vec(rows.raw_dim(), scaled)
            .unwrap_or_else(|_| unreachable!("as many numbers as there were"))
    }

    /// Brings scaled rows, `n × (W · D)`, back to the features' own units.
    ///
    /// # Panics
    /// If the width is no multiple of D.
    pub fn inverse(&self, scaled: ArrayView2<'_, f32>) -> Array2<f64> {
        let columns = self.columns();
        assert!(
            scaled.ncols().is_multiple_of(columns),
            "{} inputs, {columns} columns",
            scaled.ncols()
        );
        let mut raw = scaled.mapv(f64::from);
        for mut row in raw.axis_iter_mut(Axis(0)) {
            for (at, cell) in row.iter_mut().enumerate() {
                let column = at % columns;
                *cell = match self.ranks.get(column) {
                    Some(ranks) => ranks.value(*cell),
                    None => self.centre[column] + *cell * self.spread[column],
                };
            }
        }
        raw
    }

    /// Writes the scaler; as settings, because the values are f64 and must come back bit for bit.
    pub fn save(&self, to: &mut Tensors) {
        to.set("scaler.centre", &self.centre);
        to.set("scaler.spread", &self.spread);
        to.set("scaler.clip", &self.clip);
        if !self.ranks.is_empty() {
            to.set("scaler.ranks", &self.ranks);
        }
    }

    /// Reads back what [`Self::save`] wrote.
    ///
    /// # Errors
    /// If a part is absent, or the parts do not fit together.
    pub fn load(from: &Tensors) -> Result<Self, ArtefactError> {
        let scaler = Self {
            centre: from.get("scaler.centre")?,
            spread: from.get("scaler.spread")?,
            clip: from.get("scaler.clip")?,
            // Absent in files of older versions, and of other scalings.
            ranks: if from.settings.contains_key("scaler.ranks") {
                from.get("scaler.ranks")?
            } else {
                Vec::new()
            },
        };
        let whole = !scaler.centre.is_empty()
            && scaler.centre.len() == scaler.spread.len()
            && scaler.centre.iter().all(|value| value.is_finite())
            && scaler
                .spread
                .iter()
                .all(|value| value.is_finite() && *value > 0.0)
            && scaler.clip >= 0.0
            && (scaler.ranks.is_empty() || scaler.ranks.len() == scaler.centre.len())
            && scaler.ranks.iter().all(Ranks::is_whole);
        if whole {
            Ok(scaler)
        } else {
            Err(ArtefactError::Invalid(
                "scaler is not finite or of uneven length".to_owned(),
            ))
        }
    }
}

/// Centre and spread of one column.
fn fit_column(column: ArrayView1<'_, f64>, scaling: Scaling) -> Result<(f64, f64), FitError> {
    let mut observed: Vec<f64> = column
        .iter()
        .copied()
        .filter(|value| value.is_finite())
        .collect();
    if observed.is_empty() || scaling == Scaling::None {
        return Ok((0.0, 1.0));
    }
    let unchanging = constant(&observed);
    let (centre, spread) = match scaling {
        // A mean of equal numbers need not be that number.
        _ if unchanging => (observed[0], 0.0),
        Scaling::None => (0.0, 1.0),
        Scaling::Robust => robust(&mut observed),
        Scaling::Standard | Scaling::RankGauss => {
            linfa_scaler(&observed, &LinearScaler::standard())?
        }
        Scaling::MinMax => linfa_scaler(&observed, &LinearScaler::min_max())?,
    };
    let noise = 1e-9 * centre.abs();
    if spread.is_finite() && spread > noise.max(f64::MIN_POSITIVE) {
        return Ok((centre, spread));
    }
    let one_percent = 0.01 * centre.abs();
    let normal = one_percent.is_normal();
    Ok((centre, if normal { one_percent } else { 1.0 }))
}

/// Whether all values are the same.
#[expect(
    clippy::float_cmp,
    reason = "a constant column repeats the very same number"
)]
fn constant(values: &[f64]) -> bool {
    values.iter().all(|&value| value == values[0])
}

/// Mean and standard deviation of the values that are not wild: within [`WILD`] spreads of the median, by an estimate that a third of wild
/// values does not reach. So faults in the history do not set the scale, but every value that a column often takes does: a median absolute
/// deviation knows only the nearer half of them, and makes wild values of the rest where a column is nearly discrete. Where two thirds of
/// the values are equal nothing tells what is wild, and where more than a tenth would be wild they are no accidents, but another of the
/// column's ways: all of them set the scale.
fn robust(values: &mut [f64]) -> (f64, f64) {
    let middle = median(values);
    let mut off: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    off.sort_unstable_by(f64::total_cmp);
    let bound = WILD * m_scale(&off);
    let near = off.partition_point(|&deviation| deviation <= bound);
    let rare = (off.len() - near) as f64 <= WILD_SHARE * off.len() as f64;
    let tame = |value: &f64| !(bound > 0.0 && rare) || (value - middle).abs() <= bound;
    let mean_of = |of: &dyn Fn(f64) -> f64| {
        let (mut sum, mut count) = (0.0, 0.0_f64);
        for &value in values.iter().filter(|value| tame(value)) {
            sum += of(value);
            count += 1.0;
        }
        sum / count.max(1.0)
    };
    // About the median first, because large numbers that hardly differ have an inexact mean.
    let centre = middle + mean_of(&|value| value - middle);
    let square = mean_of(&|value| (value - centre) * (value - centre));
    (centre, square.sqrt())
}

/// Offset and inverse scale of one column by linfa-preprocessing.
fn linfa_scaler(
    values: &[f64],
    params: &linfa_preprocessing::linear_scaling::LinearScalerParams<f64>,
) -> Result<(f64, f64), FitError> {
    let column = ArrayView1::from(values).insert_axis(Axis(1)).to_owned();
    let scaler = params
        .fit(&DatasetBase::from(column))
        .map_err(|error| FitError::Library(format!("scaling: {error}")))?;
    Ok((scaler.offsets()[0], 1.0 / scaler.scales()[0]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;
    use proptest::prelude::*;

    fn close(found: f64, wanted: f64) {
        assert!(
            (found - wanted).abs() < 1e-9 * wanted.abs().max(1.0),
            "{found}, not {wanted}"
        );
    }

    #[test]
    fn worked_by_hand() {
        let column = array![[1.0], [2.0], [3.0], [4.0], [10.0]];
        // Mean 4; squares of the deviations 9 4 1 0 36, mean 10.
        let standard = Scaler::fit(column.view(), Scaling::Standard, 0.0).unwrap();
        close(standard.centre[0], 4.0);
        close(standard.spread[0], 10f64.sqrt());
        let min_max = Scaler::fit(column.view(), Scaling::MinMax, 0.0).unwrap();
        close(min_max.centre[0], 1.0);
        close(min_max.spread[0], 9.0);
        // None is wild.
        let robust = Scaler::fit(column.view(), Scaling::Robust, 0.0).unwrap();
        close(robust.centre[0], 4.0);
        close(robust.spread[0], 10f64.sqrt());
    }

    #[test]
    fn wild_values_do_not_set_the_robust_scale() {
        // −90 to 89, and one in ten wild on one side.
        for wild in [2e3, 1e12] {
            let scaler = one_in_ten(20, wild);
            assert!((40.0..80.0).contains(&scaler.spread[0]), "{scaler:?}");
            assert!(scaler.centre[0].abs() < 30.0, "{scaler:?}");
        }
    }

    #[test]
    fn what_more_than_one_in_ten_are_is_not_wild() {
        let scaler = one_in_ten(21, 2e3);
        assert!((500.0..800.0).contains(&scaler.spread[0]), "{scaler:?}");
    }

    /// The robust scaler of 200 values, −90 to 89 but for `count` of them.
    fn one_in_ten(count: usize, wild: f64) -> Scaler {
        let values = (0..200).map(|i| if i < count { wild } else { i as f64 - 110.0 });
        let column = Array2::from_shape_vec((200, 1), values.collect()).unwrap();
        Scaler::fit(column.view(), Scaling::Robust, 10.0).unwrap()
    }

    #[test]
    fn what_a_nearly_discrete_column_often_takes_is_not_wild() {
        // Three in five are 0, the others 4: the median absolute deviation is 0.
        let column = Array2::from_shape_fn((100, 1), |(i, _)| if i % 5 < 3 { 0.0 } else { 4.0 });
        let scaler = Scaler::fit(column.view(), Scaling::Robust, 10.0).unwrap();
        close(scaler.spread[0], 3.84f64.sqrt());
        // One in ten is 1: nothing but the standard deviation is left.
        let mut rare = Array2::zeros((10, 1));
        rare[[3, 0]] = 1.0;
        let scaler = Scaler::fit(rare.view(), Scaling::Robust, 10.0).unwrap();
        close(scaler.spread[0], 0.3);
    }

    #[test]
    fn a_change_of_a_constant_column_shows_and_is_bounded() {
        for scaling in [Scaling::Standard, Scaling::MinMax, Scaling::Robust] {
            let records = array![[50.0, 0.0, 0.1], [50.0, 0.0, 0.1], [50.0, 0.0, 0.1]];
            let scaler = Scaler::fit(records.view(), scaling, 10.0).unwrap();
            let scaled = scaler.transform(array![[50.0, 0.0, 0.1], [51.0, 1.0, 1e12]].view());
            assert_eq!(scaled.row(0).to_vec(), vec![0.0, 0.0, 0.0], "{scaling:?}");
            assert!((scaled[[1, 0]] - 2.0).abs() < 1e-6);
            assert_eq!(scaled.row(1).to_vec()[1..], [1.0, 10.0]);
        }
    }

    #[test]
    fn missing_values_are_left_out_and_passed_through() {
        let records = array![
            [1.0, f64::NAN],
            [f64::NAN, f64::NAN],
            [3.0, f64::NAN],
            [f64::INFINITY, f64::NAN]
        ];
        let scaler = Scaler::fit(records.view(), Scaling::Standard, 5.0).unwrap();
        close(scaler.centre[0], 2.0);
        close(scaler.spread[0], 1.0);
        assert_eq!((scaler.centre[1], scaler.spread[1]), (0.0, 1.0));
        let scaled = scaler.transform(records.view());
        assert!((scaled[[0, 0]] + 1.0).abs() < 1e-6);
        assert!(scaled[[1, 0]].is_nan() && scaled[[0, 1]].is_nan());
        assert!((scaled[[3, 0]] - 5.0).abs() < 1e-6);
    }

    #[test]
    fn windows_repeat_the_columns() {
        let scaler = Scaler {
            centre: vec![1.0, 10.0],
            spread: vec![1.0, 5.0],
            clip: 10.0,
            ranks: Vec::new(),
        };
        let scaled = scaler.transform(array![[2.0, 20.0, 3.0, 0.0]].view());
        assert_eq!(scaled, array![[1.0, 2.0, 2.0, -2.0]]);
        assert_eq!(scaler.inverse(scaled.view()), array![[2.0, 20.0, 3.0, 0.0]]);
    }

    #[test]
    fn no_rows_is_an_error() {
        let none = Array2::zeros((0, 3));
        assert!(Scaler::fit(none.view(), Scaling::Robust, 1.0).is_err());
    }

    proptest! {
        #[test]
        fn scaling_inverts_within_the_clip_and_survives_a_file(
            values in proptest::collection::vec(-1e6f64..1e6, 6..60),
            which in 0usize..4,
        ) {
            let scaling = [Scaling::Standard, Scaling::MinMax, Scaling::Robust, Scaling::None][which];
            let rows = values.len() / 3;
            let records = Array2::from_shape_vec((rows, 3), values[..rows * 3].to_vec()).unwrap();
            let scaler = Scaler::fit(records.view(), scaling, 20.0).unwrap();
            let scaled = scaler.transform(records.view());
            let back = scaler.inverse(scaled.view());
            for ((at, &raw), &z) in records.indexed_iter().zip(scaled.iter()) {
                prop_assert!(z.abs() <= 20.0);
                if z.abs() < 20.0 {
                    let tolerance = 1e-6 * (scaler.spread[at.1] * 20.0 + raw.abs());
                    prop_assert!((back[at] - raw).abs() <= tolerance, "{} from {raw}", back[at]);
                }
            }
            let mut file = Tensors::default();
            scaler.save(&mut file);
            prop_assert_eq!(Scaler::load(&file).unwrap(), scaler);
        }
    }
}
