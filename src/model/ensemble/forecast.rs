//! Ridge regression of each record on the two before it: what follows from them is expected, whatever it is, and what does not is a surprise.
//!
//! A vector autoregression in closed form (Lütkepohl, "New Introduction to Multiple Time Series Analysis", Springer 2005, chapter 3), with the penalty of Hoerl
//! and Kennard ("Ridge Regression", Technometrics 12, 1970), chosen on held-out rows. Residuals are in units of their own normal size. How much of a surprise
//! the last twenty or so records of a key were ([`Memory`]) ranks its records better than what is strange in its window alone: by its next record a
//! process has often swallowed a fault.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, Axis, Slice};

use crate::model::linalg::{cholesky, first, first_rows};
use crate::model::tensors::{ModelFileError, Tensors};
use crate::model::{FitData, FitError};
use crate::simd::{BLOCK, Loop, block, blocks, slice_of, wide};
use crate::stats::memory::Memory;
use crate::stats::order::quantile_sorted;

/// Records that the next is forecast from. One ranks a little worse on StrAD's series (docs/quality.md).
const LAGS: usize = 2;

/// Penalties that are tried, as shares of the mean variance of a lag.
const PENALTIES: [f64; 4] = [1e-3, 1e-2, 1e-1, 1.0];

/// Scaled units below which a residual is noise, as of principal components. So ten times as much is made of a feature that never changed and does.
const RESIDUAL_FLOOR: f64 = 0.1;

/// The training rows' residuals count as this many of the held-out rows.
const PRIOR_ROWS: f64 = 100.0;

/// A fitted autoregression.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// Mean of a record, D.
    mean: Array1<f32>,
    /// `(lags · D) × D`, the oldest record's rows first.
    weights: Array2<f32>,
    /// Normal size of each feature's residual, D.
    spread: Array1<f32>,
    /// The 99 % quantile of what is remembered ([`Memory`]) of mean squares along the rows that it was fitted on; never 0.
    normal: f32,
    /// One over the spread, and what a forecast from records less their mean has beyond that from records. Not stored.
    factor: Array1<f32>,
    offset: Array1<f32>,
}

/// These inputs of rows.
fn part(rows: ArrayView2<'_, f32>, from: usize, inputs: usize) -> ArrayView2<'_, f32> {
    rows.split_at(Axis(1), from).1.split_at(Axis(1), inputs).0
}

impl Forecast {
    /// Fits on the newest record of each window of `window` records, at least two, and those before it; then, without the `trim` share of them that is forecast worst, again.
    ///
    /// # Errors
    /// If there are fewer than two training rows, or numbers are not finite.
    pub fn fit(data: &FitData, window: usize, trim: f32) -> Result<Self, FitError> {
        data.rows("forecast", 2)?;
        let columns = data.train.ncols() / window;
        let newest = part(data.train.view(), data.train.ncols() - columns, columns);
        let mean = newest.mapv(f64::from).mean_axis(Axis(0));
        let mean = mean.unwrap_or_else(|| Array1::zeros(columns));
        let lags = LAGS.min(window - 1);
        let train = Pairs::of(data.train.view(), &mean, lags);
        let held_out = Pairs::of(data.validation.view(), &mean, lags);
        let judge = if held_out.len() > 0 {
            &held_out
        } else {
            &train
        };
        let first = train.regress(judge, trim)?;
        let kept = smallest(&train.squares(&first), trim);
        let weights = train.select(&kept).regress(judge, trim)?;
        let (trained, rows) = train.sum_of_squares(&weights, trim);
        let (later, count) = held_out.sum_of_squares(&weights, trim);
        let squares = (later + trained / rows.max(1.0) * PRIOR_ROWS) / (count + PRIOR_ROWS);
        let mut fitted = Self {
            mean: mean.mapv(|value| value as f32),
            weights: weights.mapv(|value| value as f32),
            spread: squares.mapv(|square| (square + RESIDUAL_FLOOR * RESIDUAL_FLOOR).sqrt() as f32),
            normal: 1.0,
            factor: Array1::zeros(0),
            offset: Array1::zeros(0),
        }
        .complete();
        fitted.normal = fitted.usual(data);
        Ok(fitted)
    }

    /// With what follows from the rest.
    fn complete(self) -> Self {
        // By a product of matrices, whose bits do not depend on how the weights lie in memory.
        let columns = self.mean.len();
        let inputs = self.weights.nrows();
        let mean = Array2::from_shape_fn((1, inputs), |(_, input)| self.mean[input % columns]);
        let forecast = mean.dot(&self.weights);
        Self {
            factor: self.spread.mapv(f32::recip),
            offset: &self.mean - &forecast.row(0),
            ..self
        }
    }

    /// The 99 % quantile of the memory along rows, those to learn from and those held out, in their order.
    fn usual(&self, data: &FitData) -> f32 {
        let mut all = Vec::with_capacity(data.train.nrows() + data.validation.nrows());
        for rows in [&data.train, &data.validation] {
            let mut memory = Memory::default();
            let surprises = self.surprise(rows.view());
            all.extend(
                surprises
                    .iter()
                    .map(|&square| memory.add(f64::from(square))),
            );
        }
        all.sort_unstable_by(f64::total_cmp);
        (quantile_sorted(&all, 0.99) as f32).max(1e-9)
    }

    /// How much of a surprise the newest record of each window is: its mean square, 1 where the mean of the last records is seldom larger.
    pub fn surprise(&self, rows: ArrayView2<'_, f32>) -> Array1<f32> {
        let columns = self.mean.len();
        let newest = rows.ncols() - columns;
        let inputs = self.weights.nrows();
        let mut forecasts = Array2::zeros((rows.nrows(), columns));
        let before = part(rows, newest - inputs, inputs);
        general_mat_mul(1.0, &before, &self.weights, 0.0, &mut forecasts);
        let records = part(rows, newest, columns);
        let pairs = records.rows().into_iter().zip(forecasts.rows());
        let unit = columns as f32 * self.normal;
        pairs
            .map(|(record, forecast)| {
                let sum = wide(UnitSquares {
                    record: &slice_of(record),
                    forecast: &slice_of(forecast),
                    offset: &slice_of(self.offset.view()),
                    factor: &slice_of(self.factor.view()),
                });
                sum / unit
            })
            .collect()
    }

    /// Writes it.
    pub fn save(&self, to: &mut Tensors) {
        to.put1("mean", self.mean.view());
        to.put2("weights", self.weights.view());
        to.put1("spread", self.spread.view());
        to.set("normal", &self.normal);
    }

    /// Reads back what [`Self::save`] wrote, for windows of `width` inputs.
    ///
    /// # Errors
    /// If a part is absent or does not fit the others.
    pub fn load(from: &Tensors, width: usize) -> Result<Self, ModelFileError> {
        let model = Self {
            mean: from.get1("mean")?,
            weights: from.get2("weights")?,
            spread: from.get1("spread")?,
            normal: from.get("normal")?,
            factor: Array1::zeros(0),
            offset: Array1::zeros(0),
        };
        let (inputs, columns) = model.weights.dim();
        let fits = columns > 0
            && (model.mean.len(), model.spread.len()) == (columns, columns)
            && inputs.is_multiple_of(columns)
            && inputs + columns <= width
            && model.normal > 0.0
            && model.spread.iter().all(|spread| *spread > 0.0);
        fits.then(|| model.complete()).ok_or_else(|| {
            ModelFileError::Invalid("forecast's tensors do not fit together".to_owned())
        })
    }
}

/// The sum over features of squared residuals, in units of their normal size.
struct UnitSquares<'a> {
    record: &'a [f32],
    forecast: &'a [f32],
    offset: &'a [f32],
    factor: &'a [f32],
}

impl Loop for UnitSquares<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        let columns = self.record.len();
        let mut sums = [0.0; BLOCK];
        let whole = columns - columns % BLOCK;
        for from in blocks(whole) {
            let (record, forecast) = (block(self.record, from), block(self.forecast, from));
            let (offset, factor) = (block(self.offset, from), block(self.factor, from));
            for lane in 0..BLOCK {
                let unit = (record[lane] - forecast[lane] - offset[lane]) * factor[lane];
                sums[lane] += unit * unit;
            }
        }
        for at in whole..columns {
            let unit = (self.record[at] - self.forecast[at] - self.offset[at]) * self.factor[at];
            sums[at - whole] += unit * unit;
        }
        sums.iter().sum()
    }
}

/// Rows that a regression is fitted on: the lags, and the record that follows them.
struct Pairs {
    lags: Array2<f64>,
    next: Array2<f64>,
}

impl Pairs {
    /// The newest record of each window and those before it, less `mean`.
    fn of(rows: ArrayView2<'_, f32>, mean: &Array1<f64>, lags: usize) -> Self {
        let columns = mean.len();
        let last = rows.ncols() - columns;
        let centred = |from: usize, inputs: usize| {
            let mut some = part(rows, from, inputs).mapv(f64::from);
            for mut record in some.axis_chunks_iter_mut(Axis(1), columns) {
                record -= mean;
            }
            some
        };
        Self {
            lags: centred(last - lags * columns, lags * columns),
            next: centred(last, columns),
        }
    }

    fn select(&self, rows: &[usize]) -> Self {
        Self {
            lags: self.lags.select(Axis(0), rows),
            next: self.next.select(Axis(0), rows),
        }
    }

    fn len(&self) -> usize {
        self.next.nrows()
    }

    /// Weights under the penalty that forecasts the rows of `judge` best, without the `trim` share that is forecast worst.
    fn regress(&self, judge: &Self, trim: f32) -> Result<Array2<f64>, FitError> {
        let gram = self.lags.t().dot(&self.lags);
        let moment = self.lags.t().dot(&self.next);
        let mean = gram.diag().mean().unwrap_or(0.0).max(1e-9);
        let mut best: Option<(f64, Array2<f64>)> = None;
        for penalty in PENALTIES {
            let mut penalised = gram.clone();
            penalised
                .diag_mut()
                .mapv_inplace(|value| value + penalty * mean);
            let weights = solve(penalised.view(), &moment)?;
            let loss = judge.sum_of_squares(&weights, trim).0.sum();
            if best.as_ref().is_none_or(|(least, _)| loss < *least) {
                best = Some((loss, weights));
            }
        }
        best.map(|(_, weights)| weights)
            .ok_or_else(|| FitError::NotFinite {
                what: "the forecast's loss".to_owned(),
            })
    }

    /// The sum of squared residuals of each feature, D, without the `trim` share of rows that is forecast worst, and of how many rows.
    fn sum_of_squares(&self, weights: &Array2<f64>, trim: f32) -> (Array1<f64>, f64) {
        let squares = self.squares(weights);
        let kept = smallest(&squares, trim);
        let sum = squares.select(Axis(0), &kept).sum_axis(Axis(0));
        (sum, kept.len() as f64)
    }

    /// Squared residuals, `n × D`.
    fn squares(&self, weights: &Array2<f64>) -> Array2<f64> {
        (&self.next - &self.lags.dot(weights)).mapv(|value| value * value)
    }
}

/// X of A X = B for a positive definite A.
fn solve(a: ArrayView2<'_, f64>, b: &Array2<f64>) -> Result<Array2<f64>, FitError> {
    let lower = cholesky(a).ok_or_else(|| FitError::NotFinite {
        what: "the lags' covariance".to_owned(),
    })?;
    let n = lower.nrows();
    let mut x = b.clone();
    for i in 0..n {
        let done = first(lower.row(i), i).dot(&first_rows(x.view(), i));
        let mut row = x.row_mut(i);
        row -= &done;
        row /= lower[(i, i)];
    }
    for i in (0..n).rev() {
        let below = Slice::from(i + 1..);
        let done = lower
            .column(i)
            .slice_axis(Axis(0), below)
            .dot(&x.slice_axis(Axis(0), below));
        let mut row = x.row_mut(i);
        row -= &done;
        row /= lower[(i, i)];
    }
    Ok(x)
}

/// The rows, ascending, without the `trim` share that is largest.
fn smallest(squares: &Array2<f64>, trim: f32) -> Vec<usize> {
    let sizes = squares.sum_axis(Axis(1));
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|&a, &b| sizes[a].total_cmp(&sizes[b]));
    order.truncate(sizes.len() - (sizes.len() as f64 * f64::from(trim)) as usize);
    order.sort_unstable();
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::auc;
    use crate::seed::Seed;
    use ndarray::{ShapeBuilder, array};
    use rand::Rng;
    use rand_distr::StandardNormal;

    /// Two features that follow each other: x(t) = 0.9 x(t − 1) + noise, y(t) = x(t − 1) + noise / 10.
    fn records(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = Seed(seed).rng();
        let mut noise = || rng.sample::<f32, _>(StandardNormal);
        let (mut x, mut records) = (0.0, Vec::new());
        for _ in 0..n {
            let y = x + 0.1 * noise();
            x = 0.9 * x + 0.4 * noise();
            records.extend([x, y]);
        }
        records
    }

    /// Windows of four records, each of which begins a record after the one before.
    fn windows(records: &[f32]) -> ArrayView2<'_, f32> {
        let count = records.len() / 2 - 3;
        ArrayView2::from_shape((count, 8).strides((2, 1)), records).unwrap()
    }

    fn fitted() -> Forecast {
        let data = FitData {
            train: windows(&records(2000, 1)).to_owned(),
            validation: windows(&records(500, 2)).to_owned(),
        };
        Forecast::fit(&data, 4, 0.02).unwrap()
    }

    #[test]
    fn learns_what_follows_from_what() {
        let model = fitted();
        // Of the newer lag: x follows x, y follows x.
        assert!((model.weights[(2, 0)] - 0.9).abs() < 0.1, "{model:?}");
        assert!((model.weights[(2, 1)] - 1.0).abs() < 0.1, "{model:?}");
        assert!(model.weights[(3, 1)].abs() < 0.1 && model.spread[1] < 0.2);
        // Each value by itself is ordinary; only that y does not follow x is not.
        let normal = records(300, 3);
        let mut faulty = windows(&normal).to_owned();
        faulty.column_mut(7).mapv_inplace(|value| -value);
        let normal = model.surprise(windows(&normal));
        let found = auc(&normal.to_vec(), &model.surprise(faulty.view()).to_vec());
        assert!(found > 0.9, "{found}");
        // Of the last records together, 1 is seldom more than reached.
        let mut memory = Memory::default();
        let means = normal.iter().map(|&square| memory.add(f64::from(square)));
        assert!(means.filter(|mean| *mean > 1.2).count() < 10);
    }

    #[test]
    fn windows_that_share_records_have_the_bits_of_windows_by_themselves() {
        let (model, records) = (fitted(), records(60, 5));
        let shared = windows(&records);
        let found = model.surprise(shared);
        assert_eq!(found, model.surprise(shared.to_owned().view()));
        let last = shared.split_at(Axis(0), 40).1;
        assert_eq!(found.to_vec()[40..], model.surprise(last).to_vec());
    }

    #[test]
    fn comes_back_from_its_tensors_with_the_same_bits_or_not_at_all() {
        let (model, records) = (fitted(), records(60, 5));
        let mut file = Tensors::default();
        model.save(&mut file);
        let back = Forecast::load(&file, 8).unwrap();
        assert_eq!(
            back.surprise(windows(&records)),
            model.surprise(windows(&records))
        );
        // Two lags do not fit into windows of two records.
        assert!(Forecast::load(&file, 4).is_err());
        assert!(Forecast::load(&Tensors::default(), 8).is_err());
    }

    #[test]
    fn solves_by_hand() {
        let x = solve(
            array![[4.0, 2.0], [2.0, 5.0]].view(),
            &array![[8.0], [12.0]],
        )
        .unwrap();
        assert!((x[(0, 0)] - 1.0).abs() < 1e-12 && (x[(1, 0)] - 2.0).abs() < 1e-12);
        assert!(solve(array![[1.0, 2.0], [2.0, 1.0]].view(), &array![[1.0], [1.0]]).is_err());
    }
}
