//! Distance to the k-th nearest of a bounded sample of training rows: Ramaswamy, Rastogi and Shim, "Efficient Algorithms for
//! Mining Outliers from Large Data Sets", SIGMOD 2000. Strong where normal has many shapes; easily blinded by a fault that was
//! trained on, hence the trim.

use ndarray::{Array1, Array2, ArrayView2, Axis};
use rand::seq::index;

use crate::model::kinds::near::{References, mean_of_nearest};
use crate::model::kinds::samples::distance_to_samples;
use crate::model::spec::ModelSpec;
use crate::model::tensors::{ModelFileError, Tensors};
use crate::model::{Build, FitData, FitError, Kind, Monitor};
use crate::seed::Seed;

/// Rows that others are compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct Knn {
    neighbours: usize,
    references: References,
}

impl Knn {
    fn kth_distance(&self, rows: ArrayView2<'_, f32>, skip_self: bool) -> Array1<f32> {
        let k = self.neighbours;
        let scored = self.references.each(rows, |row| {
            let nearest = row.nearest(k + usize::from(skip_self));
            let own =
                usize::from(skip_self && nearest.first().is_some_and(|&(square, _)| square <= 0.0));
            let place = (own + k - 1).min(nearest.len() - 1);
            nearest[place].0.sqrt()
        });
        Array1::from(scored)
    }
}

impl Build for Knn {
    /// Draws at most `reference_rows` of the training rows, after the `trim` share that lies farthest from most random samples
    /// of the others has been left out.
    ///
    /// # Errors
    /// If there are fewer than two training rows, or the monitor says stop.
    fn fit(
        spec: &ModelSpec,
        data: &FitData,
        seed: Seed,
        monitor: &mut dyn Monitor,
    ) -> Result<Self, FitError> {
        let rows = data.rows("knn", 2)?;
        let mut kept: Vec<usize> = (0..rows).collect();
        if spec.trim > 0.0 {
            let far = distance_to_samples(data.train.view(), seed.child("trim"));
            monitor.step(0, 0.0, 0.0)?;
            kept.sort_by(|&a, &b| far[a].total_cmp(&far[b]));
            kept.truncate(rows - (rows as f64 * f64::from(spec.trim)) as usize);
        }
        let mut rng = seed.child("references").rng();
        let mut drawn = index::sample(
            &mut rng,
            kept.len(),
            spec.knn.reference_rows.min(kept.len()),
        )
        .into_vec();
        for place in &mut drawn {
            *place = kept[*place];
        }
        drawn.sort_unstable();
        monitor.step(0, 0.0, 0.0)?;
        Ok(Self {
            neighbours: spec.knn.neighbours.min(drawn.len()),
            references: References::new(data.train.select(Axis(0), &drawn)),
        })
    }

    fn load(from: &Tensors) -> Result<Self, ModelFileError> {
        let model = Self {
            neighbours: from.get("neighbours")?,
            references: References::new(from.get2("references")?),
        };
        if (1..=model.references.len()).contains(&model.neighbours) {
            Ok(model)
        } else {
            Err(ModelFileError::Invalid(
                "knn has fewer references than neighbours".to_owned(),
            ))
        }
    }
}

impl Kind for Knn {
    fn width(&self) -> usize {
        self.references.rows().ncols()
    }

    fn score(&self, rows: ArrayView2<'_, f32>, _seeds: &[Seed]) -> Array1<f32> {
        self.kth_distance(rows, false)
    }

    fn score_training(&self, rows: ArrayView2<'_, f32>, _seeds: &[Seed]) -> Array1<f32> {
        self.kth_distance(rows, true)
    }

    /// The mean of the k nearest.
    fn expected(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        mean_of_nearest(&self.references, rows, self.neighbours)
    }

    fn save(&self, to: &mut Tensors) {
        to.set("neighbours", &self.neighbours);
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
        let model = Knn {
            neighbours: 2,
            references: References::new(array![[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]),
        };
        // From (3, 4): distances 5, 0, 5. From (0, 0): 0, 5, 10.
        let scores = model.score(array![[3.0f32, 4.0], [0.0, 0.0]].view(), &[]);
        assert_eq!(scores, array![5.0, 5.0]);
        let of_itself = model.score_training(array![[0.0f32, 0.0], [0.0, 1.0]].view(), &[]);
        assert!((of_itself[0] - 10.0).abs() < 1e-6);
        assert_eq!(
            model.expected(array![[0.0f32, 0.0]].view()),
            array![[1.5, 2.0]]
        );
    }

    #[test]
    fn behaves_as_a_kind() {
        check_kind(&of_kind("knn"), 0.9);
    }

    #[test]
    fn trimming_keeps_a_fault_from_being_its_own_neighbour() {
        let mut data = crate::model::testing::fit_data(6);
        for row in 0..12 {
            data.train.row_mut(row * 50).fill(8.0);
        }
        let fault = Array2::from_elem((1, 6), 8.0);
        let score = |trim| {
            let spec = ModelSpec {
                trim,
                ..ModelSpec::default()
            };
            let model = Knn::fit(&spec, &data, Seed(3), &mut crate::model::Unwatched).unwrap();
            model.score(fault.view(), &[])[0]
        };
        assert!(score(0.0) < 1e-3, "{}", score(0.0));
        assert!(score(0.05) > 5.0, "{}", score(0.05));
    }
}
