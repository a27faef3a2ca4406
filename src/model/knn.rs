//! Distance to the k-th nearest of a bounded sample of training rows: Ramaswamy, Rastogi and Shim, "Efficient Algorithms for
//! Mining Outliers from Large Data Sets", SIGMOD 2000. Strong where normal has many shapes; easily blinded by a fault that was
//! trained on, hence the trim.

use std::ops::ControlFlow;

use ndarray::{Array1, Array2, ArrayView2, Axis};
use rand::seq::index;

use super::artefact::{ArtefactError, Tensors};
use super::bagged_nn::BaggedNn;
use super::spec::ModelSpec;
use super::{FitData, FitError, Kind, Monitor};
use crate::seed::Seed;

/// Rows that others are compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct Knn {
    neighbours: usize,
    /// `m × width`.
    references: Array2<f32>,
}

impl Knn {
    /// Draws at most `reference_rows` of the training rows, after the `trim` share that lies farthest from most random samples
    /// of the others has been left out.
    ///
    /// # Errors
    /// If there are fewer than two training rows, or the monitor says stop.
    pub fn fit(
        spec: &ModelSpec,
        data: &FitData,
        seed: Seed,
        monitor: &mut dyn Monitor,
    ) -> Result<Self, FitError> {
        let rows = data.train.nrows();
        if rows < 2 {
            return Err(FitError::TooFewRows {
                kind: "knn",
                needed: 2,
                rows,
            });
        }
        let mut kept: Vec<usize> = (0..rows).collect();
        if spec.trim > 0.0 {
            let far = BaggedNn::fit(spec, data, seed.child("trim"), monitor)?
                .score_training(data.train.view());
            kept.sort_by(|&a, &b| far[a].total_cmp(&far[b]));
            kept.truncate(rows - (rows as f64 * f64::from(spec.trim)) as usize);
        }
        let mut rng = seed.child("references").rng();
        let mut drawn =
            index::sample(&mut rng, kept.len(), spec.reference_rows.min(kept.len())).into_vec();
        for place in &mut drawn { *place = kept[*place]; }
        drawn.sort_unstable();
        match monitor.epoch(0, 0.0, 0.0) {
            ControlFlow::Break(()) => Err(FitError::Cancelled),
            ControlFlow::Continue(()) => Ok(Self {
                neighbours: spec.neighbours.min(drawn.len()),
                references: data.train.select(Axis(0), &drawn),
            }),
        }
    }

    /// Reads back what [`Kind::save`] wrote.
    ///
    /// # Errors
    /// If a part is absent or of another shape.
    pub fn load(from: &Tensors) -> Result<Self, ArtefactError> {
        let model = Self {
            neighbours: from.get("neighbours")?,
            references: from.get2("references")?,
        };
        if (1..=model.references.nrows()).contains(&model.neighbours) {
            Ok(model)
        } else {
            Err(ArtefactError::Invalid(
                "knn has fewer references than neighbours".to_owned(),
            ))
        }
    }

    /// As [`Kind::score`], for rows of the training set: a reference that equals the row, if there is one, is taken to be the row
    /// itself and left out once.
    pub fn score_training(&self, rows: ArrayView2<'_, f32>) -> Array1<f32> {
        self.kth_distance(rows, true)
    }

    fn kth_distance(&self, rows: ArrayView2<'_, f32>, skip_self: bool) -> Array1<f32> {
        let k = self.neighbours;
        let scored = each_row(rows, |row| {
            let nearest = nearest(self.references.view(), row, k + usize::from(skip_self));
            let own =
                usize::from(skip_self && nearest.first().is_some_and(|&(square, _)| square <= 0.0));
            let place = (own + k - 1).min(nearest.len() - 1);
            nearest[place].0.sqrt()
        });
        Array1::from(scored)
    }
}

/// Calls `judge` with each row as a slice.
pub fn each_row<T>(rows: ArrayView2<'_, f32>, judge: impl Fn(&[f32]) -> T) -> Vec<T> {
    let whole = rows.as_standard_layout();
    let row_of = |row: ndarray::ArrayView1<'_, f32>| judge(row.as_slice().unwrap_or_default());
    whole.rows().into_iter().map(row_of).collect()
}

/// The `k` references nearest to `row`, as (squared distance, index), nearest first; the earlier reference wins a tie.
pub fn nearest(references: ArrayView2<'_, f32>, row: &[f32], k: usize) -> Vec<(f32, usize)> {
    let mut best: Vec<(f32, usize)> = Vec::with_capacity(k + 1);
    for (at, reference) in references.rows().into_iter().enumerate() {
        let Some(reference) = reference.as_slice() else {
            continue;
        };
        let square = squared_distance(row, reference);
        if best.len() == k && best.last().is_some_and(|&(worst, _)| square >= worst) {
            continue;
        }
        let place = best.partition_point(|&(other, _)| other <= square);
        best.insert(place, (square, at));
        best.truncate(k);
    }
    best
}

/// The mean of the `k` references nearest to each row.
pub fn mean_of_nearest(
    references: ArrayView2<'_, f32>,
    rows: ArrayView2<'_, f32>,
    k: usize,
) -> Array2<f32> {
    let mut means = Array2::zeros(rows.raw_dim());
    let found = each_row(rows, |row| nearest(references, row, k));
    for (mut out, neighbours) in means.rows_mut().into_iter().zip(found) {
        for &(_, at) in &neighbours {
            out += &references.row(at);
        }
        out /= neighbours.len().max(1) as f32;
    }
    means
}

/// Squared Euclidean distance, summed in eight lanes. Not by way of a matrix product: ‖x‖² + ‖r‖² − 2 x·r cancels just
/// where neighbours are near. Each pair is computed alone, so a row's bits do not depend on its batch either way.
pub fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a_chunks
        .remainder()
        .iter()
        .zip(b_chunks.remainder())
        .map(|(x, y)| (x - y) * (x - y))
        .sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..8 {
            let difference = x[lane] - y[lane];
            lanes[lane] += difference * difference;
        }
    }
    rest + lanes.iter().sum::<f32>()
}

impl Kind for Knn {
    fn width(&self) -> usize {
        self.references.ncols()
    }

    fn score(&self, rows: ArrayView2<'_, f32>, _seeds: &[Seed]) -> Array1<f32> {
        self.kth_distance(rows, false)
    }

    /// The mean of the k nearest.
    fn expected(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        mean_of_nearest(self.references.view(), rows, self.neighbours)
    }

    fn save(&self, to: &mut Tensors) {
        to.set("neighbours", &self.neighbours);
        to.put2("references", self.references.view());
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_kind;
    use super::*;
    use ndarray::array;

    #[test]
    fn worked_by_hand() {
        let model = Knn {
            neighbours: 2,
            references: array![[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]],
        };
        // From (3, 4): distances 5, 0, 5. From (0, 0): 0, 5, 10.
        let scores = model.score(array![[3.0f32, 4.0], [0.0, 0.0]].view(), &[]);
        assert_eq!(scores, array![5.0, 5.0]);
        let of_itself = model.score_training(array![[0.0f32, 0.0], [0.0, 1.0]].view());
        assert!((of_itself[0] - 10.0).abs() < 1e-6);
        assert_eq!(
            model.expected(array![[0.0f32, 0.0]].view()),
            array![[1.5, 2.0]]
        );
        let wide: Vec<f32> = (0..19).map(|i| i as f32).collect();
        assert!((squared_distance(&wide, &[0.0; 19]) - 2109.0).abs() < 1e-3);
    }

    #[test]
    fn behaves_as_a_kind() {
        check_kind(
            &ModelSpec {
                kind: "knn".to_owned(),
                ..ModelSpec::default()
            },
            0.9,
        );
    }

    #[test]
    fn trimming_keeps_a_fault_from_being_its_own_neighbour() {
        let mut data = super::super::testing::fit_data(6);
        for row in 0..12 {
            data.train.row_mut(row * 50).fill(8.0);
        }
        let fault = Array2::from_elem((1, 6), 8.0);
        let score = |trim| {
            let spec = ModelSpec {
                trim,
                ..ModelSpec::default()
            };
            let model = Knn::fit(&spec, &data, Seed(3), &mut super::super::Unwatched).unwrap();
            model.score(fault.view(), &[])[0]
        };
        assert!(score(0.0) < 1e-3, "{}", score(0.0));
        assert!(score(0.05) > 5.0, "{}", score(0.05));
    }
}
