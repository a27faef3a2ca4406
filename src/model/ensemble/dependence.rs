//! How much of what is normal lies in how inputs go together.
//!
//! What looks at inputs one by one cannot see a row that mixes two others, because each of its values is an ordinary one. Whether
//! neighbours see it depends on the data, and can be measured without labels: half of the inputs of real rows are exchanged for those of
//! another, and the distances to the nearest training rows are compared. Where these chimeras stand out, inputs depend on each other, and
//! a fault shows first in that they no longer do. Where they do not, rows are nearly the sum of their inputs, and distances in many
//! dimensions only add noise to what each input tells.
//!
//! Artificial outliers by resampling inputs apart: Theiler and Cai, "Resampling Approach for Anomaly Detection in Multispectral Images",
//! SPIE 5093, 2003; what is known of such outliers: Steinbuss and Böhm, "Generating Artificial Outliers in the Absence of Genuine Ones",
//! ACM TKDD 15, 2021; choosing detectors by faults that were put in: Goswami et al., "Unsupervised Model Selection for Time-series Anomaly
//! Detection", ICLR 2023.

use ndarray::{Array2, ArrayView2, Axis};
use rand::Rng;
use rand::seq::{SliceRandom, index};

use crate::model::kinds::near::References;
use crate::seed::Seed;
use crate::stats::metrics::roc_auc;

/// Rows that distances are taken to, and rows that are looked at, at most.
const REFERENCES: usize = 2_048;
const PROBES: usize = 1_000;

/// How far a row is: the distance to its fifth neighbour.
const NEIGHBOURS: usize = 5;

/// Rows below which nothing can be told.
const ROWS_MIN: usize = 20;

/// How well the nearest of `rows` (`n × width`, scaled) tell rows from their chimeras: Somers' D of the distances, which is twice the
/// area under the ROC curve less 1. 0 where the inputs of a row know nothing of each other, 1 where each mixture is seen for what it is.
pub fn dependence(rows: ArrayView2<'_, f32>, seed: Seed) -> f64 {
    if rows.nrows() < ROWS_MIN {
        return 0.0;
    }
    let mut rng = seed.rng();
    let drawn = index::sample(&mut rng, rows.nrows(), REFERENCES.min(rows.nrows()));
    let references = References::new(rows.select(Axis(0), &drawn.into_vec()));
    let probes = references
        .rows()
        .split_at(Axis(0), PROBES.min(references.len()))
        .0;
    let mut others: Vec<usize> = (0..probes.nrows()).collect();
    others.shuffle(&mut rng);
    let chimeras = Array2::from_shape_fn(probes.raw_dim(), |(i, j)| {
        probes[[if rng.r#gen() { i } else { others[i] }, j]]
    });
    // A probe is its own nearest neighbour.
    let distances = |rows: ArrayView2<'_, f32>, neighbours: usize| {
        references.each(rows, |query| {
            let last = query.nearest(neighbours).pop();
            last.map_or(0.0, |(square, _)| f64::from(square))
        })
    };
    let mut scores = distances(probes, NEIGHBOURS + 1);
    scores.extend(distances(chimeras.view(), NEIGHBOURS));
    let labels: Vec<bool> = (0..scores.len()).map(|at| at >= probes.nrows()).collect();
    (2.0 * roc_auc(&labels, &scores) - 1.0).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::correlated;

    #[test]
    fn rows_whose_inputs_go_together_are_told_from_those_whose_do_not() {
        let together = correlated(600, 8, Seed(3));
        let mut apart = together.clone();
        let mut rng = Seed(4).rng();
        for mut column in apart.columns_mut() {
            let mut values = column.to_vec();
            values.shuffle(&mut rng);
            column.assign(&ndarray::Array1::from(values));
        }
        let of = |rows: &Array2<f32>| dependence(rows.view(), Seed(1));
        assert!(of(&together) > 0.6, "{}", of(&together));
        assert!(of(&apart) < 0.15, "{}", of(&apart));
    }

    #[test]
    fn single_inputs_and_few_rows_depend_on_nothing() {
        let rows = correlated(400, 6, Seed(3));
        let one = rows.select(Axis(1), &[0]);
        assert!(dependence(one.view(), Seed(1)) < 0.15);
        assert!(dependence(rows.select(Axis(0), &[1, 2, 3]).view(), Seed(1)) <= 0.0);
    }

    #[test]
    fn equal_seeds_give_equal_answers() {
        let rows = correlated(300, 5, Seed(8));
        let of = |seed| dependence(rows.view(), seed).to_bits();
        assert_eq!(of(Seed(2)), of(Seed(2)));
    }
}
