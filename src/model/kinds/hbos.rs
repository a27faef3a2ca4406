//! Histograms per input: Goldstein and Dengel, "Histogram-based Outlier Score (HBOS): A Fast Unsupervised Anomaly Detection
//! Algorithm", KI 2012. It sees what tails do not: a value in a gap between modes.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use crate::model::spec::ModelSpec;
use crate::model::tensors::{ModelFileError, Tensors};
use crate::model::{Build, FitData, FitError, Kind, Monitor};
use crate::seed::Seed;

/// Bins of equal width over the range of the training rows.
const BINS: usize = 10;

/// What an empty bin, and the world outside the range, count as having.
const EMPTY: f32 = 0.1;

/// The sum over inputs of −ln of the share of training rows in the same bin.
#[derive(Clone, Debug, PartialEq)]
pub struct Hbos {
    /// The lower end of each input's range, `width`.
    low: Array1<f32>,
    /// The width of each input's bins, `width`; 0 for an input that never changes.
    step: Array1<f32>,
    /// −ln of the share of each bin, `width × BINS`.
    surprise: Array2<f32>,
    /// −ln of the share outside the range.
    outside: f32,
}

impl Hbos {
    /// The bin of a value; `None` outside the range. An input that never changed has one bin: its value, give or take a
    /// hundredth of a scaled unit.
    fn bin(&self, j: usize, value: f32) -> Option<usize> {
        let (above, step) = (value - self.low[j], self.step[j]);
        if step <= 0.0 {
            return (above.abs() <= 0.01).then_some(0);
        }
        let inside = above >= 0.0 && above <= step * (BINS as f32 + 0.01);
        inside.then(|| ((above / step) as usize).min(BINS - 1))
    }
}

impl Build for Hbos {
    /// Counts each input's bins.
    ///
    /// # Errors
    /// If there is no training row, or the monitor says stop.
    fn fit(
        _spec: &ModelSpec,
        data: &FitData,
        _seed: Seed,
        monitor: &mut dyn Monitor,
    ) -> Result<Self, FitError> {
        data.rows("hbos", 1)?;
        let rows = data.train.view();
        let n = rows.nrows() as f32;
        let low = rows.fold_axis(Axis(0), f32::INFINITY, |a, &b| a.min(b));
        let high = rows.fold_axis(Axis(0), f32::NEG_INFINITY, |a, &b| a.max(b));
        let mut model = Self {
            step: (high - &low) / BINS as f32,
            low,
            surprise: Array2::from_elem((rows.ncols(), BINS), EMPTY),
            outside: -(EMPTY / n).ln(),
        };
        for row in rows.rows() {
            for (j, &value) in row.iter().enumerate() {
                if let Some(bin) = model.bin(j, value) {
                    model.surprise[[j, bin]] += 1.0;
                }
            }
        }
        model
            .surprise
            .mapv_inplace(|count| -(count / (n + EMPTY * BINS as f32)).ln());
        monitor.step(0, 0.0, 0.0)?;
        Ok(model)
    }

    fn load(from: &Tensors) -> Result<Self, ModelFileError> {
        let model = Self {
            low: from.get1("low")?,
            step: from.get1("step")?,
            surprise: from.get2("surprise")?,
            outside: from.get("outside")?,
        };
        if model.surprise.dim() == (model.low.len(), BINS) && model.step.len() == model.low.len() {
            Ok(model)
        } else {
            Err(ModelFileError::Invalid(
                "hbos's tensors do not fit together".to_owned(),
            ))
        }
    }
}

impl Kind for Hbos {
    fn width(&self) -> usize {
        self.low.len()
    }

    fn score(&self, rows: ArrayView2<'_, f32>, _seeds: &[Seed]) -> Array1<f32> {
        self.contributions(rows).sum_axis(Axis(1))
    }

    fn expected(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        Array2::zeros(rows.raw_dim())
    }

    fn reconstructs(&self) -> bool {
        false
    }

    fn contributions(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        Array2::from_shape_fn(rows.dim(), |(i, j)| {
            self.bin(j, rows[[i, j]])
                .map_or(self.outside, |bin| self.surprise[[j, bin]])
                .max(0.0)
        })
    }

    fn save(&self, to: &mut Tensors) {
        to.put1("low", self.low.view());
        to.put1("step", self.step.view());
        to.put2("surprise", self.surprise.view());
        to.set("outside", &self.outside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Unwatched;
    use crate::model::testing::{check_kind, of_kind};
    use ndarray::array;

    fn spec() -> ModelSpec {
        of_kind("hbos")
    }

    #[test]
    fn worked_by_hand() {
        // Bins of 1 from 0 to 10: three rows in the first, one in the last, none between.
        let train = array![[0.0f32], [0.2], [0.4], [10.0]];
        let data = FitData {
            validation: train.clone(),
            train,
        };
        let model = Hbos::fit(&spec(), &data, Seed(1), &mut Unwatched).unwrap();
        let scores = model.score(array![[0.5f32], [9.5], [5.0], [11.0]].view(), &[]);
        for (score, share) in scores
            .iter()
            .zip([3.1 / 5.0, 1.1 / 5.0, 0.1 / 5.0, 0.1 / 4.0])
        {
            assert!((score + f32::ln(share)).abs() < 1e-5, "{scores}");
        }
    }

    #[test]
    fn behaves_as_a_kind() {
        check_kind(&spec(), 0.85);
    }
}
