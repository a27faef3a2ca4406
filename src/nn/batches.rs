//! Minibatches: a seeded shuffle, and rows gathered into one reused matrix.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Slice};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The rows of a training set in the order of an epoch.
#[derive(Clone, Debug)]
pub struct Batches {
    order: Vec<usize>,
    room: Array2<f32>,
}

impl Batches {
    /// Batches of at most `size` of `rows` rows of `width`.
    #[must_use]
    pub fn new(rows: usize, width: usize, size: usize) -> Self {
        Self {
            order: (0..rows).collect(),
            room: Array2::zeros((size.clamp(1, rows.max(1)), width)),
        }
    }

    /// Shuffles, for the next epoch.
    pub fn shuffle(&mut self, rng: &mut ChaCha8Rng) {
        self.order.shuffle(rng);
    }

    /// Batches of an epoch. The last may be shorter, but never shorter than half: a rest smaller than that is left out of this epoch
    /// (the shuffle brings its rows back), because a gradient of three rows is noise.
    #[must_use]
    pub fn count(&self) -> usize {
        let size = self.room.nrows();
        let rest = self.order.len() % size;
        self.order.len() / size + usize::from(2 * rest >= size && rest > 0)
    }

    /// The rows of batch `at`, copied.
    pub fn gather(&mut self, at: usize, from: ArrayView2<'_, f32>) -> ArrayViewMut2<'_, f32> {
        let size = self.room.nrows();
        let places = &self.order[at * size..((at + 1) * size).min(self.order.len())];
        for (mut row, &place) in self.room.rows_mut().into_iter().zip(places) {
            row.assign(&from.row(place));
        }
        self.room
            .slice_axis_mut(Axis(0), Slice::from(..places.len()))
    }
}

/// The size of a batch for `rows` rows: `wanted`, but small enough that an epoch has some 32 steps, and at least 16.
#[must_use]
pub fn batch_size(rows: usize, wanted: usize) -> usize {
    wanted.min((rows / 32).max(16)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    #[test]
    fn an_epoch_has_every_row_once() {
        let from = Array2::from_shape_fn((10, 1), |(row, _)| row as f32);
        let mut batches = Batches::new(10, 1, 4);
        batches.shuffle(&mut Seed(1).rng());
        assert_eq!(batches.count(), 3);
        let mut seen: Vec<f32> = Vec::new();
        for at in 0..3 {
            seen.extend(batches.gather(at, from.view()).iter());
        }
        assert_ne!(seen, (0..10).map(|row| row as f32).collect::<Vec<_>>());
        seen.sort_by(f32::total_cmp);
        assert_eq!(seen, (0..10).map(|row| row as f32).collect::<Vec<_>>());
    }

    #[test]
    fn a_small_rest_waits_for_the_next_epoch() {
        assert_eq!(Batches::new(9, 1, 4).count(), 2);
        assert_eq!(Batches::new(3, 1, 4).count(), 1);
        assert_eq!(batch_size(200, 128), 16);
        assert_eq!(batch_size(20_000, 128), 128);
    }
}
