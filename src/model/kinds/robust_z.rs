//! Robust z-scores: the root mean square of the scaled columns. With robust scaling, the plainest model there is.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use crate::model::spec::ModelSpec;
use crate::model::tensors::{ModelFileError, Tensors};
use crate::model::{Build, FitData, FitError, Kind, Monitor};
use crate::seed::Seed;

/// Mean of the squared scaled inputs; the scaler does the learning.
#[derive(Clone, Debug, PartialEq)]
pub struct RobustZ {
    width: usize,
}

impl RobustZ {
    /// The model of `width` inputs.
    pub fn new(width: usize) -> Self {
        Self { width }
    }
}

impl Build for RobustZ {
    /// Remembers the width.
    fn fit(
        _spec: &ModelSpec,
        data: &FitData,
        _seed: Seed,
        _monitor: &mut dyn Monitor,
    ) -> Result<Self, FitError> {
        Ok(Self {
            width: data.train.ncols(),
        })
    }

    fn load(from: &Tensors) -> Result<Self, ModelFileError> {
        Ok(Self {
            width: from.get("width")?,
        })
    }
}

impl Kind for RobustZ {
    fn width(&self) -> usize {
        self.width
    }

    fn score(&self, rows: ArrayView2<'_, f32>, _seeds: &[Seed]) -> Array1<f32> {
        rows.mapv(|value| value * value).sum_axis(Axis(1)) / self.width as f32
    }

    fn takes_rows_apart(&self) -> bool {
        true
    }

    fn expected(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        Array2::zeros(rows.raw_dim())
    }

    fn reconstructs(&self) -> bool {
        false
    }

    fn save(&self, to: &mut Tensors) {
        to.set("width", &self.width);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{check_kind, of_kind};
    use ndarray::array;

    #[test]
    fn worked_by_hand() {
        let model = RobustZ { width: 2 };
        assert_eq!(
            model.score(array![[3.0f32, 4.0], [0.0, 1.0]].view(), &[]),
            array![12.5, 0.5]
        );
        assert_eq!(
            model.contributions(array![[3.0f32, -4.0]].view()),
            array![[9.0, 16.0]]
        );
    }

    #[test]
    fn behaves_as_a_kind() {
        check_kind(&of_kind("robust_z"), 0.8);
    }
}
