//! Principal component analysis, by linfa-reduction: the best linear autoencoder, and the line that every other model must beat.
//!
//! Q is the squared prediction error of Jackson and Mudholkar, "Control Procedures for Residuals Associated with Principal
//! Component Analysis", Technometrics 1979, here with each residual in units of its own normal size: a feature that the
//! components explain well is judged strictly, one that they leave alone is not. Without that, the hardest feature to predict
//! drowns the others. T² is Hotelling's: the position within the subspace. See Qin, "Statistical process monitoring: basics and
//! beyond", Journal of Chemometrics 2003, for both.

use std::any::Any;

use ndarray::{Array1, Array2, ArrayView2, Axis};
use rand::Rng;
use rand_distr::StandardNormal;

use crate::model::linalg::{RowAxes, axes_of_rows, enough, first, first_rows};
use crate::model::spec::{ModelSpec, Statistic};
use crate::model::tensors::{ModelFileError, Tensors};
use crate::model::{Build, FitData, FitError, Kind, Monitor};
use crate::seed::Seed;
use crate::simd::product::{Products, Weights};
use crate::simd::{BLOCK, Loop, block, block_mut, blocks, slice_of, wide};

/// Scaled units below which a residual is noise: a feature that is explained perfectly must not alarm over a small part of
/// its usual spread.
const RESIDUAL_FLOOR: f64 = 0.1;

/// The training rows' residuals count as this many of the held-out rows when the normal size of a residual is estimated.
const PRIOR_ROWS: f64 = 100.0;

/// Rows that are multiplied at a time: what one product leaves behind is still in the cache for the next.
const PIECE: usize = 64;

/// Rows that are summed side by side.
const LANES: usize = 8;

/// A fitted subspace with the normal sizes of what lies in and beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pca {
    statistic: Statistic,
    /// D: the features of one record.
    columns: usize,
    /// Centre, `width`.
    mean: Array1<f32>,
    /// Principal axes, `width × k`, one a column.
    axes: Array2<f32>,
    /// Standard deviation of each component, `k`.
    code_spread: Array1<f32>,
    /// Normal size of each input's residual, `width`.
    residual_spread: Array1<f32>,
    /// One over that, and what the subspace leaves of the centre. Not stored.
    factor: Array1<f32>,
    offset: Array1<f32>,
    /// The axes as products read them: to positions, and back. Not stored.
    into: Weights,
    back: Weights,
}

/// What a subspace says of rows: their positions within it, and what these explain of the inputs. Made over and over in the same memory.
#[derive(Debug, Default)]
struct Explained {
    code: Products,
    inputs: Products,
}

impl Pca {
    /// With what follows from the rest.
    fn complete(self) -> Self {
        let mut model = Self {
            into: Weights::new(self.axes.view()),
            back: Weights::new(self.axes.t()),
            offset: self.mean.clone(),
            ..self
        };
        let mut of_mean = Explained::default();
        model.explain(model.mean.view().insert_axis(Axis(0)), &mut of_mean);
        for (mean, explained) in model.offset.iter_mut().zip(of_mean.inputs.row(0)) {
            *mean -= explained;
        }
        let spread = model.residual_spread.clone();
        model.with_residual_spread(spread)
    }

    /// The same with other normal sizes of residuals.
    fn with_residual_spread(self, spread: Array1<f32>) -> Self {
        Self {
            factor: spread.mapv(f32::recip),
            residual_spread: spread,
            ..self
        }
    }

    /// Positions of rows within the subspace, from its origin, and what they explain of the inputs.
    fn explain(&self, rows: ArrayView2<'_, f32>, to: &mut Explained) {
        self.into.put(rows, &mut to.code);
        self.back
            .put_first(self.components(), &to.code, &mut to.inputs);
    }

    /// How many components were kept.
    pub fn components(&self) -> usize {
        self.axes.ncols()
    }

    /// Positions within the subspace, `n × k`, and residuals beside it, `n × width`.
    fn project(&self, rows: ArrayView2<'_, f32>) -> (Array2<f32>, Array2<f32>) {
        let centred = &rows - &self.mean;
        let mut explained = Explained::default();
        self.explain(centred.view(), &mut explained);
        let residual = centred - explained.inputs.to_matrix();
        (explained.code.to_matrix(), residual)
    }
}

impl Build for Pca {
    /// Fits on the training rows; then, without the `trim` share of them that lie farthest from the centre by
    /// Mahalanobis, again. The
    /// components kept are the fewest that hold `variance` of the variance, and never all, so that there is a residual. The
    /// normal size of each input's residual is measured on the validation rows, shrunk towards the training rows'.
    ///
    /// # Errors
    /// If there are fewer than two training rows, the monitor says stop, or linfa's solver fails.
    fn fit(
        spec: &ModelSpec,
        data: &FitData,
        seed: Seed,
        monitor: &mut dyn Monitor,
    ) -> Result<Self, FitError> {
        let shared = Self::share(spec, data)?;
        Self::fit_shared(spec, data, shared.as_ref(), seed, monitor)
    }

    /// All axes that have variance.
    fn share(spec: &ModelSpec, data: &FitData) -> Result<Box<dyn Any>, FitError> {
        let rows = data.rows("pca", 2)?;
        let first = axes_of_rows(data.train.view())?;
        let kept = first.nearest(data.train.view(), spec.trim);
        Ok(Box::new(if kept.len() < rows {
            axes_of_rows(data.train.select(Axis(0), &kept).view())?
        } else {
            first
        }))
    }

    fn fit_shared(
        spec: &ModelSpec,
        data: &FitData,
        shared: &dyn Any,
        _seed: Seed,
        monitor: &mut dyn Monitor,
    ) -> Result<Self, FitError> {
        let all: &RowAxes = shared
            .downcast_ref()
            .unwrap_or_else(|| unreachable!("what `share` made"));
        let subspace = all.truncated(spec.pca.variance);
        let narrow = |values: &Array1<f64>| values.mapv(|value| value as f32);
        let model = Self {
            statistic: spec.pca.statistic,
            columns: subspace.mean.len() / spec.window.max(1),
            mean: narrow(&subspace.mean),
            axes: subspace.axes.t().mapv(|value| value as f32),
            code_spread: subspace
                .variances
                .mapv(|v| v.sqrt().max(RESIDUAL_FLOOR) as f32),
            residual_spread: Array1::ones(subspace.mean.len()),
            factor: Array1::zeros(0),
            offset: Array1::zeros(0),
            into: Weights::none(),
            back: Weights::none(),
        }
        .complete();
        let sizes = ResidualSizes::of(&model, data, spec.trim);
        monitor.step(0, sizes.trained, sizes.held_out)?;
        Ok(model.with_residual_spread(narrow(&sizes.spread)))
    }

    fn load(from: &Tensors) -> Result<Self, ModelFileError> {
        let model = Self {
            statistic: from.get("statistic")?,
            columns: from.get("columns")?,
            mean: from.get1("mean")?,
            axes: from.get2("axes")?,
            code_spread: from.get1("code_spread")?,
            residual_spread: from.get1("residual_spread")?,
            factor: Array1::zeros(0),
            offset: Array1::zeros(0),
            into: Weights::none(),
            back: Weights::none(),
        };
        let (width, k) = model.axes.dim();
        if (
            model.mean.len(),
            model.residual_spread.len(),
            model.code_spread.len(),
        ) == (width, width, k)
            && model.columns > 0
            && width.is_multiple_of(model.columns)
        {
            Ok(model.complete())
        } else {
            Err(ModelFileError::Invalid(
                "pca's tensors do not fit together".to_owned(),
            ))
        }
    }
}

impl Kind for Pca {
    fn width(&self) -> usize {
        self.mean.len()
    }

    /// Over the width: Q = Σ (rⱼ / σⱼ)² over inputs; T² = Σ cₖ² / λₖ over components; their sum; or, by feature, the sum over features
    /// of the root of that feature's part of Q.
    fn score(&self, rows: ArrayView2<'_, f32>, _seeds: &[Seed]) -> Array1<f32> {
        if self.statistic == Statistic::Group {
            return self.by_feature_scores(rows);
        }
        let rows = rows.as_standard_layout();
        let (code, residual) = self.project(rows.view());
        let squares = |values: Array2<f32>, spread: &Array1<f32>| {
            (values / spread).mapv(|value| value * value)
        };
        let outside = squares(residual, &self.residual_spread);
        let inside = squares(code, &self.code_spread);
        let sum = match self.statistic {
            Statistic::Group | Statistic::Q => outside.sum_axis(Axis(1)),
            Statistic::T2 => inside.sum_axis(Axis(1)),
            Statistic::Both => outside.sum_axis(Axis(1)) + inside.sum_axis(Axis(1)),
        };
        sum / self.width() as f32
    }

    fn takes_rows_apart(&self) -> bool {
        true
    }

    fn is_part_of(&self, larger: &dyn Kind) -> bool {
        let larger: &dyn Any = larger;
        larger.downcast_ref().is_some_and(|larger: &Self| {
            let some = self.components();
            [self.statistic, larger.statistic] == [Statistic::Group; 2]
                && some <= larger.components()
                && self.mean == larger.mean
                && self.axes == larger.axes.view().split_at(Axis(1), some).0
        })
    }

    /// What the larger subspace explains begins with what this one does.
    fn score_with(
        &self,
        larger: &dyn Kind,
        rows: ArrayView2<'_, f32>,
        seeds: &[Seed],
    ) -> [Array1<f32>; 2] {
        let other: &dyn Any = larger;
        let Some(larger) = other.downcast_ref::<Self>() else {
            return [self.score(rows, seeds), larger.score(rows, seeds)];
        };
        let (some, all) = (self.components(), larger.components());
        let mut scores = [(); 2].map(|()| Vec::with_capacity(rows.nrows()));
        let mut explained = Explained::default();
        for rows in rows.axis_chunks_iter(Axis(0), PIECE) {
            let Explained { code, inputs } = &mut explained;
            larger.into.put(rows, code);
            self.back.put_first(some, code, inputs);
            self.add_by_feature(rows, inputs, &mut scores[0]);
            larger.back.go_on(some..all, code, inputs);
            larger.add_by_feature(rows, inputs, &mut scores[1]);
        }
        scores.map(Array1::from)
    }

    fn expected(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        self.by_explained(rows, |_, explained, offset| explained + offset)
    }

    /// (rⱼ / σⱼ)² for Q; by feature, each root's parts in proportion to the squares. For T², the part of each input in Σ cₖ² / λₖ, none negative: the partial decomposition of Alcala and
    /// Qin, "Analysis and generalization of fault diagnosis methods for process monitoring", Journal of Process Control 2011.
    fn contributions(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        let (code, residual) = self.project(rows);
        let outside = (residual / &self.residual_spread).mapv(|value| value * value);
        match self.statistic {
            Statistic::Q => return outside,
            Statistic::Group => return self.shared_by_feature(outside),
            Statistic::T2 | Statistic::Both => {}
        }
        let precision = self.code_spread.mapv(|spread| 1.0 / (spread * spread));
        let pull = (code * &precision).dot(&self.axes.t());
        let inside = ((&rows - &self.mean) * pull).mapv(|value| value.max(0.0));
        if self.statistic == Statistic::T2 {
            inside
        } else {
            inside + outside
        }
    }

    fn code(&self, rows: ArrayView2<'_, f32>) -> Option<Array2<f32>> {
        Some(self.code_of(rows))
    }

    /// Draws components and residuals as independent normal variates (probabilistic PCA, Tipping and Bishop, 1999).
    fn sample(&self, n: usize, seed: Seed, truncation: f32) -> Option<Array2<f32>> {
        let mut rng = seed.rng();
        let mut normal = |spread: &Array1<f32>| {
            Array2::from_shape_fn((n, spread.len()), |(_, j)| {
                truncation * spread[j] * rng.sample::<f32, _>(StandardNormal)
            })
        };
        let (code, residual) = (normal(&self.code_spread), normal(&self.residual_spread));
        Some(code.dot(&self.axes.t()) + residual + &self.mean)
    }

    fn save(&self, to: &mut Tensors) {
        to.set("statistic", &self.statistic);
        to.set("columns", &self.columns);
        to.put1("mean", self.mean.view());
        to.put2("axes", self.axes.view());
        to.put1("code_spread", self.code_spread.view());
        to.put1("residual_spread", self.residual_spread.view());
    }
}

impl Pca {
    /// [`Self::by_feature`] of the residuals, summed, over the width: the default statistic is on every record's way. Rows are read where
    /// they lie.
    fn by_feature_scores(&self, rows: ArrayView2<'_, f32>) -> Array1<f32> {
        let mut scores = Vec::with_capacity(rows.nrows());
        let mut explained = Explained::default();
        for rows in rows.axis_chunks_iter(Axis(0), PIECE) {
            self.explain(rows, &mut explained);
            self.add_by_feature(rows, &explained.inputs, &mut scores);
        }
        scores.into()
    }

    /// The scores of rows of which so much is explained: what is explained of rows less the centre is that of rows less that of the centre, so it is
    /// only one subtraction for each input.
    fn add_by_feature(
        &self,
        rows: ArrayView2<'_, f32>,
        explained: &Products,
        scores: &mut Vec<f32>,
    ) {
        let (width, columns) = (self.width(), self.columns);
        let factor = self.factor.as_slice().unwrap_or_default();
        let offset = self.offset.as_slice().unwrap_or_default();
        let mut roots = vec![0.0; LANES * columns];
        let mut places = 0..rows.nrows();
        for rows in rows.axis_chunks_iter(Axis(0), LANES) {
            roots.fill(0.0);
            let pairs = rows.rows().into_iter().zip(&mut places);
            for ((row, place), roots) in pairs.zip(roots.chunks_exact_mut(columns)) {
                wide(RootsByFeature {
                    row: &slice_of(row),
                    explained: explained.row(place),
                    offset,
                    factor,
                    roots,
                });
            }
            let totals = side_by_side(&roots, columns);
            let totals = totals.iter().take(rows.nrows());
            scores.extend(totals.map(|total| total / width as f32));
        }
    }

    /// Squared residuals of rows, `n × width`.
    fn squared_residuals(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        self.by_explained(rows, |value, explained, offset| {
            let residual = value - explained - offset;
            residual * residual
        })
    }

    /// Something of each input, of what is explained of it, and of what the subspace leaves of the centre.
    fn by_explained(
        &self,
        rows: ArrayView2<'_, f32>,
        each: impl Fn(f32, f32, f32) -> f32,
    ) -> Array2<f32> {
        let mut found = Vec::with_capacity(rows.len());
        let mut explained = Explained::default();
        for rows in rows.axis_chunks_iter(Axis(0), PIECE) {
            self.explain(rows, &mut explained);
            for (place, row) in rows.rows().into_iter().enumerate() {
                let parts = explained.inputs.row(place).iter().zip(&self.offset);
                let inputs = row.iter().zip(parts);
                found.extend(
                    inputs.map(|(&value, (&explained, &offset))| each(value, explained, offset)),
                );
            }
        }
        Array2::from_shape_vec(rows.dim(), found)
            .unwrap_or_else(|_| unreachable!("one for each input"))
    }

    /// The root of the sum over the window's records of each feature's squares, `n × D`.
    fn by_feature(&self, squares: &Array2<f32>) -> Array2<f32> {
        let mut sum = Array2::<f32>::zeros((squares.nrows(), self.columns));
        for record in squares.axis_chunks_iter(Axis(1), self.columns) {
            sum += &record;
        }
        sum.mapv_inplace(f32::sqrt);
        sum
    }

    /// Each input's part of [`Self::by_feature`].
    fn shared_by_feature(&self, mut squares: Array2<f32>) -> Array2<f32> {
        let roots = self
            .by_feature(&squares)
            .mapv(|root| root.max(f32::MIN_POSITIVE));
        for mut record in squares.axis_chunks_iter_mut(Axis(1), self.columns) {
            record /= &roots;
        }
        squares
    }

    fn code_of(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut code = Products::default();
        self.into.put((&rows - &self.mean).view(), &mut code);
        code.to_matrix()
    }
}

/// The root of the sum over a window's records of each feature's squares.
struct RootsByFeature<'a> {
    row: &'a [f32],
    explained: &'a [f32],
    offset: &'a [f32],
    factor: &'a [f32],
    roots: &'a mut [f32],
}

impl Loop for RootsByFeature<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let columns = self.roots.len();
        let inputs = self.row.chunks_exact(columns);
        let parts = self.offset.chunks_exact(columns);
        let records = inputs
            .zip(self.explained.chunks_exact(columns))
            .zip(parts.zip(self.factor.chunks_exact(columns)));
        if columns < BLOCK {
            for ((row, explained), (offset, factor)) in records {
                for (column, sum) in self.roots.iter_mut().enumerate() {
                    let residual = row[column] - explained[column] - offset[column];
                    *sum += (residual * factor[column]) * (residual * factor[column]);
                }
            }
            for root in self.roots {
                *root = root.sqrt();
            }
            return;
        }
        for from in blocks(columns) {
            let mut sums = [0.0; BLOCK];
            for ((row, explained), (offset, factor)) in records.clone() {
                let (row, explained) = (block(row, from), block(explained, from));
                let (offset, factor) = (block(offset, from), block(factor, from));
                for lane in 0..BLOCK {
                    let unit = (row[lane] - explained[lane] - offset[lane]) * factor[lane];
                    sums[lane] += unit * unit;
                }
            }
            *block_mut(self.roots, from) = sums.map(f32::sqrt);
        }
    }
}

impl RowAxes {
    /// The fewest axes that hold `share` of the variance, but never all.
    fn truncated(&self, share: f64) -> Self {
        let k = enough(self.variances.view(), share * self.total).min(self.mean.len() - 1);
        Self {
            axes: first_rows(self.axes.view(), k).to_owned(),
            variances: first(self.variances.view(), k).to_owned(),
            mean: self.mean.clone(),
            total: self.total,
        }
    }

    /// The rows that stay when the `trim` share with the largest Mahalanobis distance is left out, ascending. Not the largest
    /// residual: a fault that has bent an axis towards itself has none.
    fn nearest(&self, rows: ArrayView2<'_, f32>, trim: f32) -> Vec<usize> {
        let spread = self
            .variances
            .mapv(|variance| (variance + RESIDUAL_FLOOR * RESIDUAL_FLOOR).sqrt());
        let whiten = (&self.axes.t() / &spread).mapv(|value| value as f32);
        let whiten = Weights::new(whiten.view());
        let mean = self.mean.mapv(|value| value as f32).insert_axis(Axis(0));
        let [mut code, mut centre] = [(); 2].map(|()| Products::default());
        whiten.put(mean.view(), &mut centre);
        let mut distances = Vec::with_capacity(rows.nrows());
        for rows in rows.axis_chunks_iter(Axis(0), PIECE) {
            whiten.put(rows, &mut code);
            for row in 0..rows.nrows() {
                let pairs = code.row(row).iter().zip(centre.row(0));
                distances.push(pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum());
            }
        }
        keep_smallest(&Array1::from(distances), trim)
    }
}

/// What a subspace leaves of rows.
struct ResidualSizes {
    /// Mean of Q, unwhitened, per input: the loss on training rows without the strangest, and on all others.
    trained: f64,
    held_out: f64,
    /// The normal size of each input's residual.
    spread: Array1<f64>,
}

impl ResidualSizes {
    fn of(model: &Pca, data: &FitData, trim: f32) -> Self {
        let sums = |rows: ArrayView2<'_, f32>| {
            let squares = model.squared_residuals(rows);
            let rows = squares.rows().into_iter();
            let totals: Array1<f64> = rows.map(|row| row.mapv(f64::from).sum()).collect();
            let kept = keep_smallest(&totals, trim);
            let mut sum = Array1::<f64>::zeros(model.width());
            for &row in &kept {
                sum.zip_mut_with(&squares.row(row), |sum, &square| *sum += f64::from(square));
            }
            let inputs = model.width() as f64;
            (
                sum,
                kept.len() as f64,
                totals.mean().unwrap_or(0.0) / inputs,
            )
        };
        let (train, rows, _) = sums(data.train.view());
        let train = train / rows.max(1.0);
        let (others, count, held_out) = sums(data.validation.view());
        let blend = (others + &train * PRIOR_ROWS) / (count + PRIOR_ROWS);
        let mut spread = blend.mapv(|square| (square + RESIDUAL_FLOOR * RESIDUAL_FLOOR).sqrt());
        for (j, column) in data.train.columns().into_iter().enumerate() {
            // An input that never changed has no normal size; the scaler's unit is the best guess.
            let low = column.fold(f32::INFINITY, |a, &b| a.min(b));
            if column.iter().all(|&value| value <= low) {
                spread[j] = 1.0;
            }
        }
        Self {
            trained: train.mean().unwrap_or(0.0),
            held_out,
            spread,
        }
    }
}

/// The indices, ascending, of all values but the `trim` share that is largest.
fn keep_smallest(values: &Array1<f64>, trim: f32) -> Vec<usize> {
    let dropped = (values.len() as f64 * f64::from(trim)).floor() as usize;
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    order.truncate(values.len() - dropped);
    order.sort_unstable();
    order
}

/// The sums of `LANES` rows of n numbers, each added up from its first number on, but all at once: one addition waits for the one before.
fn side_by_side(rows: &[f32], n: usize) -> [f32; LANES] {
    let mut rows = rows.chunks_exact(n);
    let rows: [&[f32]; LANES] = std::array::from_fn(|_| rows.next().unwrap_or_default());
    let [a, b, c, d, e, f, g, h] = rows.map(|row| &row[..n]);
    let mut sums = [0.0; LANES];
    for at in 0..n {
        let column = [a[at], b[at], c[at], d[at], e[at], f[at], g[at], h[at]];
        for (sum, number) in sums.iter_mut().zip(column) {
            *sum += number;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{check_kind, correlated, fit_data, of_kind};
    use crate::model::{KINDS, Unwatched};
    use ndarray::{ArrayView1, array};

    fn spec() -> ModelSpec {
        of_kind("pca")
    }

    fn by_hand(statistic: Statistic) -> Pca {
        // One component along (0.6, 0.8) with spread 5; residual spreads 1 and 2.
        Pca {
            statistic,
            columns: 1,
            mean: array![1.0, 1.0],
            axes: array![[0.6], [0.8]],
            code_spread: array![5.0],
            residual_spread: array![1.0, 2.0],
            factor: Array1::zeros(0),
            offset: Array1::zeros(0),
            into: Weights::none(),
            back: Weights::none(),
        }
        .complete()
    }

    #[test]
    fn worked_by_hand() {
        // Centred (5, 0): code 3, within (1.8, 2.4), residual (3.2, −2.4). Q = 3.2² + 1.2² = 11.68; T² = (3/5)² = 0.36.
        let row = array![[6.0f32, 1.0]];
        for (statistic, wanted) in [
            (Statistic::Q, 5.84),
            (Statistic::T2, 0.18),
            (Statistic::Both, 6.02),
            // Two records of one feature: √11.68 / 2.
            (Statistic::Group, 1.708_801),
        ] {
            let model = by_hand(statistic);
            let score = model.score(row.view(), &[]);
            assert!((score[0] - wanted).abs() < 1e-5, "{statistic:?}: {score}");
            let sum = model.contributions(row.view()).sum() / 2.0;
            assert!(
                (sum - wanted).abs() < 1e-5,
                "{statistic:?}: contributions sum to {sum}"
            );
        }
        let expected = by_hand(Statistic::Q).expected(row.view());
        assert!((expected[[0, 0]] - 2.8).abs() < 1e-6 && (expected[[0, 1]] - 3.4).abs() < 1e-6);
    }

    #[test]
    fn scores_are_those_step_by_step_with_the_same_bits_wherever_rows_lie() {
        let rows = correlated(75, 12, Seed(8));
        let wide = ndarray::concatenate![Axis(1), rows.mapv(|v| v + 1.0), rows];
        for statistic in [Statistic::Group, Statistic::Both] {
            let spec = spec().with(|spec| {
                spec.pca.statistic = statistic;
                spec.window = 3;
            });
            let data = fit_data(12);
            let model = Pca::fit(&spec, &data, Seed(1), &mut Unwatched).unwrap();
            let bits = |scores: Array1<f32>| scores.mapv(f32::to_bits);
            let found = bits(model.score(rows.view(), &[]));
            let apart = wide.view().split_at(Axis(1), 12).1;
            assert_eq!(found, bits(model.score(apart, &[])));
            for (at, row) in rows.axis_chunks_iter(Axis(0), 1).enumerate() {
                assert_eq!(found[at], model.score(row, &[])[0].to_bits());
            }
            if statistic == Statistic::Group {
                let (_, residual) = model.project(rows.view());
                let factor = model.residual_spread.mapv(f32::recip);
                let squares = (residual * &factor).mapv(|value| value * value);
                let roots = model.by_feature(&squares);
                let sum = |row: ArrayView1<'_, f32>| row.iter().sum::<f32>() / 12.0;
                let apart: Array1<f32> = roots.rows().into_iter().map(sum).collect();
                let found = model.score(rows.view(), &[]);
                assert!(
                    found
                        .iter()
                        .zip(&apart)
                        .all(|(a, b)| (a - b).abs() < 1e-5 * b)
                );
            }
        }
    }

    #[test]
    fn a_model_that_was_read_scores_to_the_same_bits_far_from_zero() {
        let shift = |rows: Array2<f32>| rows.mapv(|value| 1.7 * value + 3.3);
        let data = FitData {
            train: shift(correlated(900, 48, Seed(1))),
            validation: shift(correlated(300, 48, Seed(2))),
        };
        let spec = ModelSpec {
            window: 4,
            ..spec()
        };
        let model = Pca::fit(&spec, &data, Seed(1), &mut Unwatched).unwrap();
        let mut file = Tensors::default();
        model.save(&mut file);
        let loaded = Pca::load(&file).unwrap();
        let bits = |model: &Pca| model.score(data.validation.view(), &[]).mapv(f32::to_bits);
        assert_eq!(bits(&loaded), bits(&model));
    }

    #[test]
    fn behaves_as_a_kind() {
        for statistic in [Statistic::Q, Statistic::Both, Statistic::Group] {
            check_kind(&spec().with(|spec| spec.pca.statistic = statistic), 0.9);
        }
    }

    #[test]
    fn constant_columns_few_rows_and_single_columns_are_fitted() {
        let mut constant = correlated(200, 5, Seed(3));
        constant.column_mut(2).fill(0.0);
        for train in [
            constant,
            correlated(3, 5, Seed(4)),
            correlated(50, 1, Seed(5)),
            Array2::zeros((9, 4)),
        ] {
            let data = FitData {
                validation: train.clone(),
                train,
            };
            let model = KINDS.fit(&spec(), &data, Seed(1), &mut Unwatched).unwrap();
            let scores = model.score(data.train.view(), &[]);
            assert!(scores.iter().all(|score| score.is_finite()));
            let wild = Array2::from_elem((1, data.train.ncols()), 10.0);
            assert!(model.score(wild.view(), &[])[0] > scores.mean().unwrap());
        }
    }

    #[test]
    fn trimming_keeps_a_fault_out_of_the_subspace() {
        // 2 % of the rows have one huge column, enough variance for an axis of its own.
        let mut data = fit_data(6);
        let rows = data.train.nrows();
        for row in 0..rows / 50 {
            data.train[[row * 50, 1]] = 10.0;
        }
        let strange = |trim| {
            let model = Pca::fit(
                &ModelSpec { trim, ..spec() },
                &data,
                Seed(1),
                &mut Unwatched,
            )
            .unwrap();
            model.score(data.train.select(Axis(0), &[0]).view(), &[])[0]
        };
        assert!(
            strange(0.03) > 2.0 * strange(0.0),
            "{} {}",
            strange(0.03),
            strange(0.0)
        );
    }
}
