//! Empirical tails per input: Li, Zhao, Hu, Botta, Ionescu and Chen, "ECOD: Unsupervised Outlier Detection Using Empirical
//! Cumulative Distribution Functions", TKDE 2022. No parameters; blind to what only a combination of inputs shows.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use crate::model::marginals::Marginals;
use crate::model::spec::ModelSpec;
use crate::model::tensors::{ModelFileError, Tensors};
use crate::model::{Build, FitData, FitError, Kind, Monitor};
use crate::seed::Seed;

/// The sum over inputs of −ln of the smaller empirical tail probability. (ECOD takes the largest of three sums, by the skewness of
/// each input; the more extreme tail of each input does as well, and one input's share is then its own.)
#[derive(Clone, Debug, PartialEq)]
pub struct Ecod {
    marginals: Marginals,
}

impl Build for Ecod {
    /// Sorts each input.
    ///
    /// # Errors
    /// If there is no training row, or the monitor says stop.
    fn fit(
        _spec: &ModelSpec,
        data: &FitData,
        _seed: Seed,
        monitor: &mut dyn Monitor,
    ) -> Result<Self, FitError> {
        data.rows("ecod", 1)?;
        let model = Self {
            marginals: Marginals::fit(data.train.view()),
        };
        monitor.step(0, 0.0, 0.0)?;
        Ok(model)
    }

    fn load(from: &Tensors) -> Result<Self, ModelFileError> {
        Ok(Self {
            marginals: Marginals::load(from)?,
        })
    }
}

impl Kind for Ecod {
    fn width(&self) -> usize {
        self.marginals.width()
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

    /// −ln min(P(X ≤ x), P(X ≥ x)), each at least ½ / (n + 1).
    fn contributions(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        let (_, n) = self.marginals.counts(0, f32::NEG_INFINITY);
        Array2::from_shape_fn(rows.dim(), |(i, j)| {
            let (up_to, from) = self.marginals.counts(j, rows[[i, j]]);
            -(up_to.min(from).max(0.5) / (n + 1.0)).ln()
        })
    }

    fn save(&self, to: &mut Tensors) {
        self.marginals.save(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Unwatched;
    use crate::model::testing::{check_kind, of_kind};
    use ndarray::array;

    fn spec() -> ModelSpec {
        of_kind("ecod")
    }

    #[test]
    fn worked_by_hand() {
        let train = array![[1.0f32, 0.0], [2.0, 0.0], [3.0, 0.0]];
        let data = FitData {
            validation: train.clone(),
            train,
        };
        let model = Ecod::fit(&spec(), &data, Seed(1), &mut Unwatched).unwrap();
        // 3 is the largest of three: tail 1 of 4. 9 is beyond: ½ of 4. A constant input: 3 of 4.
        let scores = model.score(array![[3.0f32, 0.0], [9.0, 0.0]].view(), &[]);
        let constant = -(0.75f32.ln());
        assert!((scores[0] - (4f32.ln() + constant)).abs() < 1e-6);
        assert!((scores[1] - (8f32.ln() + constant)).abs() < 1e-6);
    }

    #[test]
    fn behaves_as_a_kind() {
        check_kind(&spec(), 0.8);
    }
}
