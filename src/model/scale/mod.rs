//! Column scaling, fitted with the model.
//!
//! Raw values are f64 and may be NaN (not observed); scaled values are f32, and NaN where the raw value was. Beyond the bound `clip` they
//! go on by their logarithm, so that one wild value does not drown all others, and a larger one is still stranger. Infinite raw values
//! count as not observed in the fit and are as far as a number gets afterwards. Categorical columns are [`super::context`]: they are not
//! among the scaled ones.

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, Slice};

use self::changes::Changes;
pub use self::column::is_command;
use self::column::{fit_column, own_scale};
use self::loops::{CutOff, ScaleAll, compress, within};
use super::FitError;
use super::context::{Context, Found, Records};
use super::ranks::Ranks;
use super::spec::Scaling;
use crate::model::tensors::{ModelFileError, Tensors};
use crate::record::schema::ContextColumns;
use crate::simd::wide;

pub mod changes;
mod column;
mod loops;

pub use loops::expanded;

/// Scaled values nearer to the centre than this are there: numbers of f32 that are sums of others know no more.
const ROUNDING: f64 = 1e-6;

/// Bound of what a model sees of a command, in its spreads. Which of its values it has is all there is to see: how many spreads away that is says how rare
/// it was, not how far anything went, and a rare one would be as loud as a measurement that leaves all bounds.
const COMMAND_CLIP: f32 = 1.0;

/// A fitted scaler of D columns to the M of them that are measured: scaled = bounded((value − centre) / spread), or with ranks
/// bounded(normal score of the value's rank).
#[derive(Clone, Debug, PartialEq)]
pub struct Scaler {
    /// What is subtracted, one number for each of D columns.
    pub centre: Vec<f64>,
    /// What is divided by, the same; never 0.
    pub spread: Vec<f64>,
    /// From where on scaled values go by their logarithm; 0: nowhere.
    pub clip: f32,
    /// From where on a model sees no more of each of M columns: `clip`, or less of a command: a column of two values. All 0 where `clip` is.
    pub bounds: Vec<f32>,
    /// Maps to normal scores, one for each of M columns, instead of centre and spread (with context: of what these leave); empty: none.
    pub ranks: Vec<Ranks>,
    /// Which columns condition instead of being measured, and how; `None`: all are measured.
    pub context: Option<Context>,
    /// Which columns count: centre and spread are those of what they count from one record to the next.
    pub changes: Changes,
    /// Which of the M measured columns were more often missing than there. Where they are missing they are taken for usual: else hardly a window would
    /// be whole, and what is judged by whole windows alone not judged at all.
    pub sparse: Vec<usize>,
}

/// What is known of records beside their values.
#[derive(Clone, Debug, Default)]
pub struct Given<'a> {
    /// Which columns are context.
    pub columns: ContextColumns,
    /// Whose each record is, by numbers; empty: all are of one key.
    pub keys: &'a [usize],
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
        Self::fit_given(records, Given::default(), scaling, clip)
    }

    /// [`Self::fit`], where the columns in `given` are context, and not scaled.
    ///
    /// # Errors
    /// As [`Self::fit`].
    pub fn fit_given(
        records: ArrayView2<'_, f64>,
        given: Given<'_>,
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
        let (mut centre, mut spread) = (Vec::new(), Vec::new());
        for column in records.columns() {
            let (middle, width) = fit_column(column, scaling);
            centre.push(middle);
            spread.push(width);
        }
        let conditions = scaling != Scaling::None;
        let context = (!given.columns.is_empty()).then(|| {
            let records = Records {
                values: records,
                key: &|row| given.keys.get(row).copied().unwrap_or_default(),
                shared: (&centre, &spread),
                scale: &|values| own_scale(values, scaling),
            };
            Context::fit(&records, given.columns, conditions)
        });
        let mut scaler = Self {
            centre,
            spread,
            clip,
            bounds: Vec::new(),
            ranks: Vec::new(),
            context,
            changes: Changes::default(),
            sparse: Vec::new(),
        };
        scaler.sparse = scaler.sparse_of(records);
        scaler.bounds = scaler.bounds_of(records);
        if scaling == Scaling::RankGauss {
            scaler.ranks = scaler.fit_ranks(records);
        }
        Ok(scaler)
    }

    /// [`Self::fit_given`] on the newest records of windows, `n × (W · D)`, of which these columns are judged by their changes.
    ///
    /// # Errors
    /// As [`Self::fit`].
    pub fn fit_windows(
        windows: ArrayView2<'_, f64>,
        (changes, given): (Changes, Given<'_>),
        columns: usize,
        (scaling, clip): (Scaling, f32),
    ) -> Result<Self, FitError> {
        let seen = changes.of(windows, columns);
        let newest = seen.slice_axis(Axis(1), Slice::from(seen.ncols() - columns..));
        Ok(Self {
            changes,
            ..Self::fit_given(newest, given, scaling, clip)?
        })
    }

    /// From where on a model sees no more of each measured column.
    fn bounds_of(&self, records: ArrayView2<'_, f64>) -> Vec<f32> {
        let of = |place: usize| {
            let column = records.column(self.measured().column(place));
            if is_command(column) {
                COMMAND_CLIP.min(self.clip)
            } else {
                self.clip
            }
        };
        (0..self.measured().len()).map(of).collect()
    }

    /// Which measured columns are more often missing than there.
    fn sparse_of(&self, records: ArrayView2<'_, f64>) -> Vec<usize> {
        let missing = |place: &usize| {
            let column = records.column(self.measured().column(*place));
            column.iter().filter(|value| value.is_nan()).count()
        };
        let sparse = |place: &usize| 2 * missing(place) > records.nrows();
        (0..self.measured().len()).filter(sparse).collect()
    }

    /// Maps to normal scores of each measured column, of what the context leaves of it.
    fn fit_ranks(&self, records: ArrayView2<'_, f64>) -> Vec<Ranks> {
        let mut observed = vec![Vec::new(); self.measured().len()];
        let mut last = Found::default();
        for record in records.rows() {
            let record = record.to_vec();
            let cell = self
                .context
                .as_ref()
                .map(|context| context.cell(&record, &mut last));
            for (place, observed) in observed.iter_mut().enumerate() {
                let column = self.measured().column(place);
                let value = match cell {
                    Some(cell) => (record[column] - cell.centre[place]) / cell.spread[place],
                    None => record[column],
                };
                if value.is_finite() {
                    observed.push(value);
                }
            }
        }
        let of = |(place, mut observed): (usize, Vec<f64>)| {
            let column = self.measured().column(place);
            let (middle, width) = match self.context {
                Some(_) => (0.0, 1.0),
                None => (self.centre[column], self.spread[column]),
            };
            if observed.is_empty() {
                observed.push(middle);
            }
            Ranks::fit(&observed, width)
        };
        observed.into_iter().enumerate().map(of).collect()
    }

    /// D: the columns of a record.
    pub fn columns(&self) -> usize {
        self.centre.len()
    }

    /// The columns that are measured, ascending: M of D.
    pub fn measured(&self) -> Measured<'_> {
        match &self.context {
            Some(context) => Measured::Some(context.measured()),
            None => Measured::All(self.columns()),
        }
    }

    /// The spreads of all D columns; 0 for those that are context.
    pub fn measured_spread(&self) -> Vec<f64> {
        let mut spread = vec![0.0; self.columns()];
        for place in 0..self.measured().len() {
            let column = self.measured().column(place);
            spread[column] = self.spread[column];
        }
        spread
    }

    /// Scales windows, `n × (W · D)`, to f32, `n × (W · M)`; NaN stays NaN, unless it is usual. Where nothing counts, records may be scaled one by one.
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
        let rows = self.changes.of(rows, columns);
        let standard = rows.as_standard_layout();
        let values = standard.as_slice().unwrap_or_default();
        let measured = self.measured().len();
        let mut scaled = vec![0.0; values.len() / columns * measured];
        let records = values
            .chunks_exact(columns)
            .zip(scaled.chunks_exact_mut(measured));
        if let Some(context) = &self.context {
            let mut last = Found::default();
            for (record, scaled) in records {
                let cell = context.cell(record, &mut last);
                for (place, &column) in context.measured().iter().enumerate() {
                    let unit = (record[column] - cell.centre[place]) / cell.spread[place];
                    let unit = self
                        .ranks
                        .get(place)
                        .map_or(unit, |ranks| ranks.score(unit));
                    scaled[place] = within(unit);
                }
            }
        } else if self.ranks.is_empty() {
            // Whole records of plain slices, and choices instead of `clamp`, which keep NaN as it does: on this path every record goes, and
            // so the compiler makes vectors of it.
            wide(ScaleAll {
                records: values,
                scaled: &mut scaled,
                centre: &self.centre,
                spread: &self.spread,
            });
        } else {
            for (record, scaled) in records {
                for ((scaled, value), ranks) in scaled.iter_mut().zip(record).zip(&self.ranks) {
                    *scaled = within(ranks.score(*value));
                }
            }
        }
        if self.clip > 0.0 {
            compress(&mut scaled, self.clip);
        }
        for &place in &self.sparse {
            for value in scaled.iter_mut().skip(place).step_by(measured) {
                *value = if value.is_nan() { 0.0 } else { *value };
            }
        }
        Array2::from_shape_vec((rows.nrows(), rows.ncols() / columns * measured), scaled)
            .unwrap_or_else(|_| unreachable!("as many numbers as there were"))
    }

    /// Cuts scaled values off at the bound.
    pub fn cut_off(&self, scaled: &mut Array2<f32>) {
        if self.clip > 0.0 {
            let values = scaled
                .as_slice_mut()
                .unwrap_or_else(|| unreachable!("scaled rows lie one after another"));
            wide(CutOff {
                values,
                bounds: &self.bounds,
            });
        }
    }

    /// Brings scaled records, `n × M`, back to the features' own units, `n × D`. What is context is as in `like` (`n × D`), or else as in
    /// the commonest combination of training.
    ///
    /// # Panics
    /// If the width is not M.
    pub fn inverse(
        &self,
        scaled: ArrayView2<'_, f32>,
        like: Option<ArrayView2<'_, f64>>,
    ) -> Array2<f64> {
        let measured = self.measured().len();
        assert_eq!(scaled.ncols(), measured, "scaled records have M columns");
        let mut raw = Array2::zeros((scaled.nrows(), self.columns()));
        let mut last = Found::default();
        for (at, row) in scaled.rows().into_iter().enumerate() {
            // What a model says of a column that rests is the rounding of the others.
            let unit = |place: usize| {
                let unit = expanded(f64::from(row[place]), self.clip);
                if unit.abs() < ROUNDING { 0.0 } else { unit }
            };
            let back = |place: usize, unit: f64, (centre, spread): (f64, f64)| match (
                self.ranks.get(place),
                &self.context,
            ) {
                (Some(ranks), None) => ranks.value(unit),
                (Some(ranks), Some(_)) => centre + ranks.value(unit) * spread,
                (None, _) => centre + unit * spread,
            };
            let whole = match &self.context {
                None => (0..measured)
                    .map(|place| back(place, unit(place), (self.centre[place], self.spread[place])))
                    .collect(),
                Some(context) => {
                    let like = like.map(|like| like.row(at).to_vec());
                    let known = like.as_deref().unwrap_or(context.common());
                    let cell = context.cell(known, &mut last);
                    let each = (0..measured).map(|place| {
                        back(place, unit(place), (cell.centre[place], cell.spread[place]))
                    });
                    context.whole(each, like.as_deref())
                }
            };
            raw.row_mut(at).assign(&ArrayView1::from(&whole));
        }
        raw
    }

    /// Writes the scaler; as settings, because the values are f64 and must come back bit for bit.
    pub fn save(&self, to: &mut Tensors) {
        to.set("scaler.centre", &self.centre);
        to.set("scaler.spread", &self.spread);
        to.set("scaler.clip", &self.clip);
        to.set("scaler.bounds", &self.bounds);
        if !self.ranks.is_empty() {
            to.set("scaler.ranks", &self.ranks);
        }
        if let Some(context) = &self.context {
            to.set("scaler.context", context);
        }
        to.set("scaler.changes", &self.changes);
        to.set("scaler.sparse", &self.sparse);
    }

    /// Reads back what [`Self::save`] wrote.
    ///
    /// # Errors
    /// If a part is absent, or the parts do not fit together.
    pub fn load(from: &Tensors) -> Result<Self, ModelFileError> {
        let scaler = Self {
            centre: from.get("scaler.centre")?,
            spread: from.get("scaler.spread")?,
            clip: from.get("scaler.clip")?,
            bounds: from.get("scaler.bounds")?,
            // Absent of other scalings.
            ranks: if from.settings.contains_key("scaler.ranks") {
                from.get("scaler.ranks")?
            } else {
                Vec::new()
            },
            context: if from.settings.contains_key("scaler.context") {
                Some(from.get("scaler.context")?)
            } else {
                None
            },
            changes: from.get("scaler.changes")?,
            sparse: from.get("scaler.sparse")?,
        };
        let columns = scaler.centre.len();
        if !(scaler.context.iter()).all(|context: &Context| context.is_whole(columns)) {
            return Err(ModelFileError::Invalid(
                "the scaler's context does not fit its columns".to_owned(),
            ));
        }
        let whole = !scaler.centre.is_empty()
            && scaler.centre.len() == scaler.spread.len()
            && scaler.centre.iter().all(|value| value.is_finite())
            && scaler
                .spread
                .iter()
                .all(|value| value.is_finite() && *value > 0.0)
            && scaler.clip >= 0.0
            && scaler.changes.fit(columns)
            && scaler.sparse.iter().all(|at| *at < scaler.measured().len())
            && !scaler.measured().is_empty()
            && scaler.bounds.len() == scaler.measured().len()
            && (scaler.bounds.iter()).all(|bound| (0.0..=scaler.clip).contains(bound))
            && (scaler.ranks.is_empty() || scaler.ranks.len() == scaler.measured().len())
            && scaler.ranks.iter().all(Ranks::is_whole);
        if whole {
            Ok(scaler)
        } else {
            Err(ModelFileError::Invalid(
                "scaler is not finite or of uneven length".to_owned(),
            ))
        }
    }
}

/// Which of D columns are measured.
#[derive(Clone, Copy, Debug)]
pub enum Measured<'a> {
    /// All D.
    All(usize),
    /// These, ascending.
    Some(&'a [usize]),
}

impl Measured<'_> {
    /// M: how many.
    pub fn len(self) -> usize {
        match self {
            Self::All(columns) => columns,
            Self::Some(places) => places.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The column of the measured one at `place`.
    pub fn column(self, place: usize) -> usize {
        match self {
            Self::All(_) => place,
            Self::Some(places) => places[place],
        }
    }
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
            assert_eq!(scaled[[1, 1]].to_bits(), 1.0_f32.to_bits());
            assert!((100.0..300.0).contains(&scaled[[1, 2]]), "{scaled}");
        }
    }

    #[test]
    fn what_is_said_of_a_column_that_rests_is_its_centre() {
        let records = array![[0.0, 1.0], [0.0, 3.0]];
        let scaler = Scaler::fit(records.view(), Scaling::Standard, 10.0).unwrap();
        let back = scaler.inverse(array![[3e-9_f32, 1.0]].view(), None);
        assert_eq!(back, array![[0.0, 3.0]]);
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
        assert!(scaled[[1, 0]].is_nan());
        assert!((scaled[[3, 0]] - 5.0 * (1.0 + 2e8_f32.ln())).abs() < 1e-3);
    }

    #[test]
    fn what_is_missing_more_often_than_not_is_taken_for_usual() {
        let records = Array2::from_shape_fn((100, 3), |(i, column)| {
            let there = i.is_multiple_of([1, 2, 3][column]);
            if there { (i * 7 % 11) as f64 } else { f64::NAN }
        });
        let scaler = Scaler::fit(records.view(), Scaling::Standard, 10.0).unwrap();
        assert_eq!(scaler.sparse, [2]);
        let scaled = scaler.transform(array![[1.0, f64::NAN, f64::NAN, 1.0, 2.0, 9.0]].view());
        assert!(scaled[[0, 1]].is_nan() && scaled[[0, 2]].abs() < 1e-9);
        assert!(scaled[[0, 5]] > 0.5);
        let mut file = Tensors::default();
        scaler.save(&mut file);
        assert_eq!(Scaler::load(&file).unwrap(), scaler);
    }

    #[test]
    fn windows_repeat_the_columns() {
        let scaler = Scaler {
            centre: vec![1.0, 10.0],
            spread: vec![1.0, 5.0],
            clip: 10.0,
            bounds: vec![10.0; 2],
            ranks: Vec::new(),
            context: None,
            changes: Changes::default(),
            sparse: Vec::new(),
        };
        let scaled = scaler.transform(array![[2.0, 20.0, 3.0, 0.0]].view());
        assert_eq!(scaled, array![[1.0, 2.0, 2.0, -2.0]]);
        let newest = array![[2.0_f32, -2.0]];
        assert_eq!(scaler.inverse(newest.view(), None), array![[3.0, 0.0]]);
    }

    #[test]
    fn a_model_sees_less_of_a_command() {
        // A measurement, a command that is rarely on, and one that never was.
        let record = |i: i32| [f64::from(i % 50), f64::from(u8::from(i % 50 == 0)), 0.0];
        let records: Vec<f64> = (0..500).flat_map(record).collect();
        let records = ArrayView2::from_shape((500, 3), &records).unwrap();
        let scaler = Scaler::fit(records, Scaling::Robust, 10.0).unwrap();
        assert_eq!(scaler.bounds, [10.0, 1.0, 10.0]);
        let mut seen = scaler.transform(array![[1e3, 1.0, -5.0, 1e3, f64::NAN, 5.0]].view());
        scaler.cut_off(&mut seen);
        let seen = seen.row(0).to_vec();
        assert_eq!(seen[..4], [10.0, 1.0, -5.0, 10.0]);
        assert!(seen[4].is_nan() && (seen[5] - 5.0).abs() < 1e-6);
        // Of few records, two values say nothing.
        let few = records.split_at(Axis(0), 15).0;
        let few = Scaler::fit(few, Scaling::Robust, 10.0).unwrap();
        assert_eq!(few.bounds, [10.0; 3]);
        let mut file = Tensors::default();
        scaler.save(&mut file);
        assert_eq!(Scaler::load(&file).unwrap(), scaler);
        // Nothing is measured, of which nothing could be scaled.
        let nothing = Scaler {
            bounds: Vec::new(),
            context: Some(Context::fit(
                &Records {
                    values: records,
                    key: &|_| 0,
                    shared: (&scaler.centre, &scaler.spread),
                    scale: &|values| own_scale(values, Scaling::Robust),
                },
                ContextColumns {
                    fields: vec![vec![0, 1, 2]],
                    ..ContextColumns::default()
                },
                true,
            )),
            ..scaler
        };
        nothing.save(&mut file);
        assert!(Scaler::load(&file).is_err());
    }

    #[test]
    fn beyond_the_bound_larger_is_still_larger() {
        let scaler = Scaler {
            centre: vec![0.0],
            spread: vec![1.0],
            clip: 10.0,
            bounds: vec![10.0],
            ranks: Vec::new(),
            context: None,
            changes: Changes::default(),
            sparse: Vec::new(),
        };
        let raw = array![[9.0], [10.0], [-20.0], [1e3], [1e30], [f64::INFINITY]];
        let scaled = scaler.transform(raw.view());
        assert_eq!(scaled.column(0).to_vec()[..2], [9.0, 10.0]);
        assert!((scaled[[2, 0]] + 10.0 * (1.0 + 2.0_f32.ln())).abs() < 1e-5);
        assert!(scaled[[3, 0]] > 50.0 && scaled[[4, 0]] > scaled[[3, 0]]);
        assert!(scaled[[5, 0]].is_finite());
        let back = scaler.inverse(scaled.view(), None);
        assert!((back[[3, 0]] - 1e3).abs() < 1e-2);
    }

    #[test]
    fn categories_are_not_among_the_scaled_columns_and_survive_a_file() {
        let records = Array2::from_shape_fn((300, 3), |(i, column)| {
            let on = f64::from(u8::from(i % 3 == 0));
            match column {
                0 => on,
                1 => 1.0 - on,
                _ => 50.0 * on + ((i * 7919) % 101) as f64 / 101.0,
            }
        });
        for scaling in [Scaling::Robust, Scaling::RankGauss, Scaling::None] {
            let given = Given {
                columns: ContextColumns {
                    fields: vec![vec![0, 1]],
                    calendar: None,
                },
                keys: &[],
            };
            let scaler = Scaler::fit_given(records.view(), given, scaling, 10.0).unwrap();
            assert_eq!(scaler.measured().len(), 1);
            let scaled = scaler.transform(records.view());
            assert_eq!(scaled.dim(), (300, 1));
            if scaling != Scaling::None {
                assert!(scaled.iter().all(|unit| unit.abs() < 4.0), "{scaling:?}");
            }
            let back = scaler.inverse(scaled.view(), Some(records.view()));
            let close = |(a, b): (&f64, &f64)| (a - b).abs() < 0.02;
            assert!(back.iter().zip(&records).all(close), "{scaling:?}");
            let mut file = Tensors::default();
            scaler.save(&mut file);
            assert_eq!(Scaler::load(&file).unwrap(), scaler);
        }
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
            let back = scaler.inverse(scaled.view(), None);
            for (at, &raw) in records.indexed_iter() {
                let tolerance = 1e-5 * (scaler.spread[at.1] * 20.0 + raw.abs());
                prop_assert!((back[at] - raw).abs() <= tolerance, "{} from {raw}", back[at]);
            }
            let mut file = Tensors::default();
            scaler.save(&mut file);
            prop_assert_eq!(Scaler::load(&file).unwrap(), scaler);
        }
    }
}
