//! The nearest of many rows, exactly, by way of a matrix product that shows for most of them that they are not near.
//!
//! ‖x‖² + ‖r‖² − 2 x·r cancels just where neighbours are near, and its bits depend on the batch, so it is no distance to score by. But
//! less what rounding can add, it is a lower bound of the distance as [`squared_distance`] computes it. Rows whose bound is already too
//! far are passed over; all that results are made of is computed pair by pair. So a row has the same bits in every batch, and on every
//! machine, however products are computed there.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, Axis, Slice};
use std::ops::Range;

/// Rows whose products with all references are computed together.
const ROWS: usize = 64;

/// References that are passed over together, where all may be.
const BLOCK: usize = 16;

/// With fewer, preparing the product costs more than it saves.
const ROWS_MIN: usize = 4;

/// Rows that others are compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct References {
    /// `m × width`, in standard layout.
    rows: Array2<f32>,
    /// What each adds to lower bounds, m.
    low: Vec<f32>,
}

impl References {
    /// Of rows, `m × width`, finite.
    pub fn new(rows: Array2<f32>) -> Self {
        let rows = if rows.is_standard_layout() {
            rows
        } else {
            rows.as_standard_layout().into_owned()
        };
        let low = slices(&rows).map(low).collect();
        Self { rows, low }
    }

    /// The rows.
    pub fn rows(&self) -> ArrayView2<'_, f32> {
        self.rows.view()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.rows.nrows()
    }

    /// Calls `judge` with each of `rows`.
    pub fn each<T>(
        &self,
        rows: ArrayView2<'_, f32>,
        mut judge: impl FnMut(&Query<'_>) -> T,
    ) -> Vec<T> {
        let rows = rows.as_standard_layout();
        let mut judged = Vec::with_capacity(rows.nrows());
        let mut bounds = Array2::from_elem((ROWS.min(rows.nrows()), self.len()), f32::MIN);
        for piece in rows.axis_chunks_iter(Axis(0), ROWS) {
            let mut bounds = bounds.slice_axis_mut(Axis(0), Slice::from(..piece.nrows()));
            if piece.nrows() < ROWS_MIN {
                bounds.fill(f32::MIN);
            } else {
                general_mat_mul(-2.0, &piece, &self.rows.t(), 0.0, &mut bounds);
            }
            for (row, mut bounds) in piece.rows().into_iter().zip(bounds.rows_mut()) {
                let row = row.as_slice().unwrap_or_default();
                let bounds = bounds.as_slice_mut().unwrap_or_default();
                let own = low(row);
                for (bound, low) in bounds.iter_mut().zip(&self.low) {
                    *bound = (*bound + low) + own;
                }
                judged.push(judge(&Query {
                    row,
                    references: self,
                    bounds,
                }));
            }
        }
        judged
    }
}

fn slices(rows: &Array2<f32>) -> impl Iterator<Item = &[f32]> {
    let width = rows.ncols().max(1);
    rows.as_slice().unwrap_or_default().chunks_exact(width)
}

/// What a row adds to lower bounds: its squared length, less the share of it by which the bound or the distance may be rounded.
///
/// With d inputs, u = 2⁻²⁴ and γₙ ≈ nu (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, 3.1), the product is off by
/// at most γ_d (‖x‖² + ‖r‖²), in whichever order it is summed; the sums and the lengths by 5 u (‖x‖² + ‖r‖²); and the distance, which is no
/// larger than twice the lengths, by γ_{d+3} of itself. Together less than (3 d + 12) u (‖x‖² + ‖r‖²).
fn low(row: &[f32]) -> f32 {
    let square: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let slack = 4.0 * (row.len() + 4) as f64 * 2f64.powi(-24);
    // Where all is tiny, numbers lose digits at the lower end of their range.
    let low = square - slack * (square + 1e-30);
    low.min(f64::from(f32::MAX)) as f32
}

/// A row, and what is known of its distances to the references.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    row: &'a [f32],
    references: &'a References,
    /// No squared distance is below its bound.
    bounds: &'a [f32],
}

impl Query<'_> {
    /// For each reference a number that its squared distance is not below; where there is none, not a number.
    pub fn bounds(&self) -> &[f32] {
        self.bounds
    }

    /// The squared distance to a reference.
    pub fn square(&self, at: usize) -> f32 {
        let width = self.row.len();
        let all = self.references.rows.as_slice().unwrap_or_default();
        let reference = all.get(at * width..(at + 1) * width);
        squared_distance(self.row, reference.unwrap_or_default())
    }

    /// The `k` nearest of the references, as (squared distance, index), nearest first; the earlier reference wins a tie.
    pub fn nearest(&self, k: usize) -> Vec<(f32, usize)> {
        self.nearest_in(0..self.bounds.len(), k)
    }

    /// The `k` nearest of some of the references.
    #[expect(
        clippy::needless_bitwise_bool,
        reason = "without branches, several are compared at once"
    )]
    pub fn nearest_in(&self, some: Range<usize>, k: usize) -> Vec<(f32, usize)> {
        let mut best: Vec<(f32, usize)> = Vec::with_capacity(k + 1);
        // Not a number, so that nothing is passed over, until there are k.
        let mut worst = f32::NAN;
        let mut from = some.start;
        for bounds in self.bounds[some].chunks(BLOCK) {
            if !bounds
                .iter()
                .fold(true, |all, &bound| all & (bound >= worst))
            {
                for (at, &bound) in (from..).zip(bounds) {
                    if bound >= worst {
                        continue;
                    }
                    let square = self.square(at);
                    if square >= worst {
                        continue;
                    }
                    let place = best.partition_point(|&(other, _)| other <= square);
                    best.insert(place, (square, at));
                    best.truncate(k);
                    if best.len() == k {
                        worst = best.last().map_or(f32::NAN, |&(square, _)| square);
                    }
                }
            }
            from += bounds.len();
        }
        best
    }

    /// The squared distance to the `k`-th nearest and, in `joined`, the least over all references of the larger of distance and `heights`.
    /// A reference that equals the row is left out once if `skip_self`.
    #[expect(
        clippy::needless_bitwise_bool,
        reason = "without branches, several are compared at once"
    )]
    pub fn joining(&self, k: usize, heights: &[f32], skip_self: bool) -> (Option<f32>, f32) {
        let mut near = Vec::with_capacity(k + 1);
        let mut worst = f32::NAN;
        let mut joined = f32::INFINITY;
        let mut skip = skip_self;
        let mut from = 0;
        for (bounds, heights) in self.bounds.chunks(BLOCK).zip(heights.chunks(BLOCK)) {
            // What equals the row is never passed over before it was found: its bound is at most 0, and what is near until then is not.
            let far = |bound: f32, height: f32| {
                (bound >= worst) & ((bound >= joined) | (height >= joined))
            };
            let pairs = bounds.iter().copied().zip(heights.iter().copied());
            if !pairs
                .clone()
                .fold(true, |all, (bound, height)| all & far(bound, height))
            {
                for (at, (bound, height)) in (from..).zip(pairs) {
                    if bound >= worst && (bound >= joined || height >= joined) {
                        continue;
                    }
                    let square = self.square(at);
                    if skip && square <= 0.0 {
                        skip = false;
                        continue;
                    }
                    joined = joined.min(square.max(height));
                    if near.len() < k || square < worst {
                        let place = near.partition_point(|&other| other <= square);
                        near.insert(place, square);
                        near.truncate(k);
                        if near.len() == k {
                            worst = near.last().copied().unwrap_or(f32::NAN);
                        }
                    }
                }
            }
            from += bounds.len();
        }
        (near.last().copied(), joined)
    }
}

/// The mean of the `k` references nearest to each row.
pub fn mean_of_nearest(
    references: &References,
    rows: ArrayView2<'_, f32>,
    k: usize,
) -> Array2<f32> {
    let mut means = Array2::zeros(rows.raw_dim());
    let found = references.each(rows, |query| query.nearest(k));
    for (mut out, neighbours) in means.rows_mut().into_iter().zip(found) {
        for &(_, at) in &neighbours {
            out += &references.rows.row(at);
        }
        out /= neighbours.len().max(1) as f32;
    }
    means
}

/// Squared Euclidean distance, summed in eight lanes. Each pair is computed alone, so a row's bits do not depend on its batch.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use proptest::prelude::*;
    use rand::Rng;

    #[test]
    fn distance_by_hand() {
        let wide: Vec<f32> = (0..19).map(|i| i as f32).collect();
        assert!((squared_distance(&wide, &[0.0; 19]) - 2109.0).abs() < 1e-3);
    }

    #[test]
    fn with_fewer_references_than_asked_for_all_are_near() {
        let references = References::new(ndarray::array![[0.0f32], [f32::MAX], [2.0]]);
        let rows = ndarray::array![[1.0f32], [1.0], [1.0], [1.0]];
        for found in references.each(rows.view(), |query| query.nearest(5)) {
            assert_eq!(found, [(1.0, 0), (1.0, 2), (f32::INFINITY, 1)]);
        }
    }

    /// Rows on a grid, where many are equal, or spread out far from the origin, where products cancel.
    fn rows(
        n: usize,
        width: usize,
        (centre, scale, grid): (f32, f32, bool),
        seed: u64,
    ) -> Array2<f32> {
        let mut rng = Seed(seed).rng();
        Array2::from_shape_fn((n, width), |_| {
            let value: f32 = rng.gen_range(-2.0..2.0);
            centre + scale * if grid { value.round() } else { value }
        })
    }

    proptest! {
        #[test]
        fn nothing_that_is_near_is_passed_over(
            width in 1usize..40,
            k in 1usize..8,
            centre in prop::sample::select(vec![0.0f32, 3.0, -1e4]),
            scale in prop::sample::select(vec![1.0f32, 1e-3, 1e-22, 1e18, 1e19]),
            grid: bool,
            seed: u64,
        ) {
            let shape = (centre, scale, grid);
            let references = References::new(rows(120, width, shape, seed));
            let mut asked = rows(37, width, shape, seed ^ 1);
            asked.row_mut(5).assign(&references.rows.row(7));
            let heights: Vec<f32> = rows(120, 1, (1.0, 1.0, grid), seed).iter().map(|h| h * scale * scale).collect();
            let found = references.each(asked.view(), |query| {
                let alone = Query { bounds: &vec![f32::NEG_INFINITY; 120], ..*query };
                for at in 0..120 {
                    // Where even single squares overflow there is nothing to hold the bound against.
                    let (bound, square) = (query.bounds[at], query.square(at));
                    prop_assert!(bound.is_nan() || bound <= square, "{bound} {square}");
                }
                prop_assert_eq!(query.nearest(k), alone.nearest(k));
                for skip in [false, true] {
                    prop_assert_eq!(query.joining(k, &heights, skip), alone.joining(k, &heights, skip));
                }
                Ok(())
            });
            for result in found {
                result?;
            }
        }
    }
}
