//! How far rows are from a few random ones, many times: Sugiyama and Borgwardt, "Rapid Distance-Based Outlier Detection via Sampling", NIPS
//! 2013; and Ting, Washio, Wells and Aryal, "Defying the gravity of learning curve", Machine Learning 2017. A small sample rarely holds a
//! row of a rare fault, so the fault cannot hide behind itself.

use ndarray::{Array1, ArrayView2, Axis};
use rand::seq::index;

use super::near::References;
use crate::seed::Seed;

/// Samples, and rows of each.
const SAMPLES: usize = 30;
const SAMPLE_ROWS: usize = 64;

/// The distance of each of at least two rows to the nearest other of a sample of them, averaged over the samples. Each is drawn without replacement.
pub fn distance_to_samples(rows: ArrayView2<'_, f32>, seed: Seed) -> Array1<f32> {
    let size = SAMPLE_ROWS.min(rows.nrows().div_ceil(2));
    let mut rng = seed.rng();
    let drawn: Vec<usize> = (0..SAMPLES)
        .flat_map(|_| index::sample(&mut rng, rows.nrows(), size).into_vec())
        .collect();
    mean_distance(rows, &References::new(rows.select(Axis(0), &drawn)), size)
}

/// Of references that are samples of `size` rows, one below the other.
fn mean_distance(rows: ArrayView2<'_, f32>, samples: &References, size: usize) -> Array1<f32> {
    let count = samples.len() / size;
    let scored = samples.each(rows, |row| {
        let distance = |sample| {
            let found = row.nearest_in(sample * size..(sample + 1) * size, 2);
            let own = found.len() > 1 && found[0].0 <= 0.0;
            found[usize::from(own)].0.sqrt()
        };
        (0..count).map(distance).sum::<f32>() / count as f32
    });
    Array1::from(scored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn worked_by_hand() {
        let samples = References::new(array![[0.0], [10.0], [3.0], [20.0]]);
        // From 2: nearest of {0, 10} is 2 away, of {3, 20} 1. The row 3 itself is in the second sample: 17 away from the other there.
        let found = mean_distance(array![[2.0f32], [3.0]].view(), &samples, 2);
        assert_eq!(found, array![1.5, 10.0]);
    }

    #[test]
    fn what_is_rare_is_far_though_it_is_among_the_rows() {
        let mut rows = crate::model::testing::correlated(600, 3, Seed(1));
        for row in 0..6 {
            rows.row_mut(row * 100).fill(9.0);
        }
        let found = distance_to_samples(rows.view(), Seed(2));
        let others = (0..600).filter(|row| row % 100 != 0).map(|row| found[row]);
        let farthest = others.fold(0.0, f32::max);
        assert!((0..6).all(|row| found[row * 100] > farthest), "{found}");
    }
}
