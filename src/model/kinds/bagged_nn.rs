//! Distance to the nearest of a few random training rows, averaged over many such samples: Sugiyama and Borgwardt, "Rapid
//! Distance-Based Outlier Detection via Sampling", NIPS 2013; and Ting, Washio, Wells and Aryal, "Defying the gravity of learning
//! curve", Machine Learning 2017. A small sample rarely holds a row of a rare fault, so the fault cannot hide behind itself.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView2, Axis};
use rand::seq::index;

use crate::model::kinds::near::References;
use crate::model::spec::ModelSpec;
use crate::model::tensors::{ModelFileError, Tensors};
use crate::model::{Build, FitData, FitError, Kind, Monitor};
use crate::seed::Seed;

/// Samples, and rows of each.
const BAGS: usize = 30;
const BAG_ROWS: usize = 64;

/// The samples, one below the other.
#[derive(Clone, Debug, PartialEq)]
pub struct BaggedNn {
    bag_rows: usize,
    /// `bags · bag_rows × width`.
    references: References,
}

impl BaggedNn {
    fn mean_distance(&self, rows: ArrayView2<'_, f32>, skip_self: bool) -> Array1<f32> {
        let scored = self.references.each(rows, |row| {
            let distance = |bag| {
                let found = row.nearest_in(bag, 1 + usize::from(skip_self));
                let own = skip_self && found.len() > 1 && found[0].0 <= 0.0;
                found[usize::from(own)].0.sqrt()
            };
            self.bags().map(distance).sum::<f32>() / self.bags().len() as f32
        });
        Array1::from(scored)
    }

    /// Where each sample lies.
    fn bags(&self) -> impl ExactSizeIterator<Item = Range<usize>> {
        let size = self.bag_rows;
        (0..self.references.len() / size).map(move |bag| bag * size..(bag + 1) * size)
    }
}

impl Build for BaggedNn {
    /// Draws the samples, each without replacement.
    ///
    /// # Errors
    /// If there are fewer than two training rows, or the monitor says stop.
    fn fit(
        _spec: &ModelSpec,
        data: &FitData,
        seed: Seed,
        monitor: &mut dyn Monitor,
    ) -> Result<Self, FitError> {
        let rows = data.rows("bagged_nn", 2)?;
        let bag_rows = BAG_ROWS.min(rows.div_ceil(2));
        let mut rng = seed.rng();
        let drawn: Vec<usize> = (0..BAGS)
            .flat_map(|_| index::sample(&mut rng, rows, bag_rows).into_vec())
            .collect();
        monitor.step(0, 0.0, 0.0)?;
        Ok(Self {
            bag_rows,
            references: References::new(data.train.select(Axis(0), &drawn)),
        })
    }

    fn load(from: &Tensors) -> Result<Self, ModelFileError> {
        let model = Self {
            bag_rows: from.get("bag_rows")?,
            references: References::new(from.get2("references")?),
        };
        let rows = model.references.len();
        if model.bag_rows > 0 && rows > 0 && rows.is_multiple_of(model.bag_rows) {
            Ok(model)
        } else {
            Err(ModelFileError::Invalid(
                "bagged_nn's samples are of uneven size".to_owned(),
            ))
        }
    }
}

impl Kind for BaggedNn {
    fn width(&self) -> usize {
        self.references.rows().ncols()
    }

    fn score(&self, rows: ArrayView2<'_, f32>, _seeds: &[Seed]) -> Array1<f32> {
        self.mean_distance(rows, false)
    }

    fn score_training(&self, rows: ArrayView2<'_, f32>, _seeds: &[Seed]) -> Array1<f32> {
        self.mean_distance(rows, true)
    }

    /// The mean of the nearest of each sample.
    fn expected(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut expected = Array2::zeros((rows.nrows(), self.width()));
        let found = self.references.each(rows, |row| {
            let nearest = |bag| row.nearest_in(bag, 1).first().map(|&(_, at)| at);
            self.bags().filter_map(nearest).collect::<Vec<_>>()
        });
        for (mut out, places) in expected.rows_mut().into_iter().zip(found) {
            for at in places {
                out += &self.references.rows().row(at);
            }
            out /= self.bags().len() as f32;
        }
        expected
    }

    fn save(&self, to: &mut Tensors) {
        to.set("bag_rows", &self.bag_rows);
        to.put2("references", self.references.rows());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{check_kind, of_kind};
    use ndarray::array;

    #[test]
    fn worked_by_hand() {
        // From 2: nearest of {0, 10} is 2 away, of {3, 20} 1.
        let model = BaggedNn {
            bag_rows: 2,
            references: References::new(array![[0.0], [10.0], [3.0], [20.0]]),
        };
        assert_eq!(model.score(array![[2.0f32]].view(), &[]), array![1.5]);
        assert_eq!(model.expected(array![[2.0f32]].view()), array![[1.5]]);
        // The row 3 itself is in the second sample: 17 away from the other there.
        assert_eq!(
            model.score_training(array![[3.0f32]].view(), &[]),
            array![10.0]
        );
    }

    #[test]
    fn behaves_as_a_kind() {
        check_kind(&of_kind("bagged_nn"), 0.9);
    }
}
