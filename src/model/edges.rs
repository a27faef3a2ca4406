//! Values beyond all that a column ever took. Beside any kind of model: where columns have several ways of being usual (a motor that warms up and
//! cools down), a value that none of them reaches may still lie near the middle of a model's errors.
//!
//! How far the largest value of so many records lies from that of as many others is seen on blocks of the rows that were fitted on, in order of time, so
//! that what drifts or comes in bursts has wide edges (block maxima: Coles, "An Introduction to Statistical Modeling of Extreme Values", 2001, chapter 3).
//! Beyond the largest of all blocks the probability falls exponentially, as that of Gumbel's law does, in units of how far the three largest block maxima lie above the fourth in
//! the mean (Weissman, "Estimation of Parameters and Large Quantiles Based on the k Largest Observations", JASA 73, 1978), or of the mean excess over the 98 % quantile where that
//! is larger. Values of a slow column stay out there for long, and are as many times more frequent than stays are: the probability is divided by the extremal
//! index, one over the mean length of stays beyond that quantile (Leadbetter, Lindgren and Rootzén,
//! "Extremes and Related Properties of Random Sequences and Processes", 1983, section 3.7). The least of 2 M edges' probabilities is corrected for their number (Šidák, JASA 62, 1967).

use ndarray::{ArrayView1, ArrayView2};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::model::held::OfColumn;
use crate::stats::order::quantile_sorted;

/// Blocks of time, and records of each at least.
const BLOCKS: usize = 8;
const BLOCK_MIN: usize = 50;

/// Where the tail begins whose mean excess is a scale.
const TAIL: f64 = 0.98;

/// The least scale, in spreads of the column.
const SCALE_MIN: f64 = 0.02;

/// Largest block maxima whose mean excess over the next is a scale: where only some blocks hold a day's peak, the others' maxima say nothing of it.
const TOP: usize = 3;

/// One end of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Edge {
    /// The outermost value, times the side.
    at: f32,
    /// In which the probability beyond it falls by e.
    scale: f32,
    /// The extremal index: one over how many records a stay out there lasts.
    index: f32,
}

/// The edges of M columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edges {
    /// Of small values, with their signs turned, and of large ones, M each.
    sides: [Vec<Edge>; 2],
    /// How many records had none beyond.
    records: usize,
}

impl Edges {
    /// Looks at scaled records in order of time, `n × M`, each in one of several runs of neighbours; `None` if there are too few.
    ///
    /// # Panics
    /// If there is not one run a record.
    #[must_use]
    pub fn fit(records: ArrayView2<'_, f32>, runs: &[usize]) -> Option<Self> {
        assert_eq!(records.nrows(), runs.len(), "one run a record");
        let n = records.nrows();
        if n < BLOCKS * BLOCK_MIN {
            return None;
        }
        let side = |sign: f32| {
            let edges = records.columns().into_iter().map(|column| {
                let values: Vec<f64> = column.iter().map(|value| f64::from(sign * value)).collect();
                Edge::of(&values, runs)
            });
            edges.collect()
        };
        Some(Self {
            sides: [side(-1.0), side(1.0)],
            records: n,
        })
    }

    /// M.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.sides[0].len()
    }

    /// Whether its numbers can be used: what is read from a model file may be anything.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let sound = |edge: &Edge| {
            !edge.at.is_nan()
                && edge.scale > 0.0
                && edge.scale.is_finite()
                && edge.index > 0.0
                && edge.index <= 1.0
        };
        self.records > 0
            && self.sides[0].len() == self.sides[1].len()
            && self.sides.iter().flatten().all(sound)
    }

    /// The column of one scaled record whose value beyond an edge is the rarest.
    #[must_use]
    pub fn judge(&self, record: ArrayView1<'_, f32>) -> OfColumn {
        let mut rarest = OfColumn::NOTHING;
        for (sign, edges) in [-1.0, 1.0].into_iter().zip(&self.sides) {
            for (column, (value, edge)) in record.iter().zip(edges).enumerate() {
                // NaN is beyond nothing.
                let beyond = sign * value - edge.at;
                if beyond > 0.0 {
                    let p = self.p_value(edge, f64::from(beyond));
                    if p < rarest.p {
                        rarest = OfColumn {
                            p,
                            column,
                            still: 0,
                        };
                    }
                }
            }
        }
        rarest.among(2.0 * self.columns() as f64)
    }

    /// The probability of a value so far beyond an edge: the next of as many blocks and one more has the largest value, in one of its records.
    fn p_value(&self, edge: &Edge, beyond: f64) -> f64 {
        let blocks = BLOCKS as f64;
        let largest = blocks / (blocks + 1.0) / self.records as f64;
        let p = largest * (-beyond / f64::from(edge.scale)).exp();
        (p / f64::from(edge.index)).min(1.0)
    }
}

impl Edge {
    /// The upper edge of values in order of time, NaN where nothing was observed; none of what never was.
    fn of(values: &[f64], runs: &[usize]) -> Self {
        let blocks = values.chunks(values.len().div_ceil(BLOCKS));
        let mut maxima: Vec<f64> = blocks
            .map(|block| block.iter().copied().fold(f64::NEG_INFINITY, f64::max))
            .filter(|largest| largest.is_finite())
            .collect();
        if maxima.len() < BLOCKS {
            return Self {
                at: f32::INFINITY,
                scale: 1.0,
                index: 1.0,
            };
        }
        maxima.sort_unstable_by(f64::total_cmp);
        let (others, top) = maxima.split_at(maxima.len() - TOP);
        let apart = top.iter().sum::<f64>() / TOP as f64 - others[others.len() - 1];
        let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let tail = quantile_sorted(&sorted, TAIL);
        let excess = excess(&sorted, tail);
        Self {
            at: top[TOP - 1] as f32,
            scale: apart.max(excess).max(SCALE_MIN) as f32,
            index: extremal_index(values, tail, runs) as f32,
        }
    }
}

/// How far values lie beyond `tail` in the mean, of `sorted` ones. Where more than half of all values are `tail`, a column rests there and what lies beyond is another
/// kind of value, none of which need lie near: they count from the least of them on. Yet to lie so far out that the whole way there was made again is at least as probable as
/// the rule of succession lets what was not seen in so many be: e times less than one of them.
fn excess(sorted: &[f64], tail: f64) -> f64 {
    let beyond = &sorted[sorted.partition_point(|value| *value <= tail)..];
    if beyond.is_empty() {
        return 0.0;
    }
    let count = beyond.len() as f64;
    let mean = beyond.iter().sum::<f64>() / count;
    let rests = sorted.len() - beyond.len() - sorted.partition_point(|value| *value < tail);
    if 2 * rests <= sorted.len() {
        return mean - tail;
    }
    (mean - beyond[0]).max((beyond[0] - tail) / (1.0 + count.ln()))
}

/// One over the mean length of stays of a run's values, in order of time, beyond a threshold.
fn extremal_index(values: &[f64], threshold: f64, runs: &[usize]) -> f64 {
    let mut out: FxHashMap<usize, bool> = FxHashMap::default();
    let (mut beyond, mut stays) = (0_u32, 0_u32);
    for (value, run) in values.iter().zip(runs) {
        let is = *value > threshold;
        let was = out.insert(*run, is).unwrap_or(false);
        beyond += u32::from(is);
        stays += u32::from(is && !was);
    }
    if beyond == 0 {
        1.0
    } else {
        f64::from(stays) / f64::from(beyond)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    /// A column that goes up and down between 0 and 10, and one that is often missing.
    fn records() -> Array2<f32> {
        Array2::from_shape_fn((800, 2), |(i, column)| match (column, i % 3) {
            (0, _) => ((i % 20) as f32 - 10.0).abs(),
            (_, 0) => ((i * 7919) % 101) as f32 / 101.0,
            _ => f32::NAN,
        })
    }

    #[test]
    fn peaks_that_only_some_blocks_hold_and_that_last_have_edges_too() {
        let noise = |i: usize| ((i * 7919) % 101) as f32 / 101.0;
        let peak = |i: usize| if i % 250 < 30 { 10.0 } else { 0.0 };
        let records = Array2::from_shape_fn((1200, 1), |(i, _)| peak(i) + noise(i));
        let edges = Edges::fit(records.view(), &[0; 1200]).unwrap();
        let p = |value: f32| edges.judge(array![value].view()).p;
        assert!(p(11.0) > 1e-3 && p(16.0) < 1e-5, "{} {}", p(11.0), p(16.0));
    }

    #[test]
    fn what_lies_within_says_nothing_and_what_lies_beyond_is_rare_by_how_far() {
        let edges = Edges::fit(records().view(), &[0; 800]).unwrap();
        assert_eq!(edges.judge(array![5.0, f32::NAN].view()), OfColumn::NOTHING);
        assert_eq!(edges.judge(array![10.0, 0.5].view()), OfColumn::NOTHING);
        let of = |a: f32, b: f32| edges.judge(array![a, b].view());
        let (near, far) = (of(10.1, 0.5), of(12.0, 0.5));
        assert!(near.p < 2e-2 && near.p > 1e-5, "{near:?}");
        assert!(far.p < 1e-12 && far.column == 0, "{far:?}");
        assert!(of(5.0, -3.0).column == 1 && of(-1.0, 0.5).p < 1e-6);
        assert!(
            Edges::fit(
                records().view().split_at(ndarray::Axis(0), 300).0,
                &[0; 300]
            )
            .is_none()
        );
    }

    #[test]
    fn what_a_column_that_rests_does_when_it_moves_is_the_scale_of_how_far_it_goes() {
        let records = Array2::from_shape_fn((8000, 1), |(i, _)| match (i % 100, i % 200) {
            (0, 0) => 10.0,
            (0, _) => 17.0,
            _ => 0.0,
        });
        let edges = Edges::fit(records.view(), &vec![0; 8000]).unwrap();
        let p = |value: f32| edges.judge(array![value].view()).p;
        assert!(
            (excess(&[0.0, 0.0, 0.0, 0.0, 0.0, 10.0, 17.0], 0.0) - 10.0 / (1.0 + 2.0_f64.ln()))
                .abs()
                < 1e-12
        );
        assert!(
            p(17.0) > 0.999 && p(20.0) > 1e-5 && p(60.0) < 1e-8,
            "{} {}",
            p(20.0),
            p(60.0)
        );
    }

    #[test]
    fn stays_by_hand() {
        let values = [0.0, 2.0, 2.0, 0.0, 2.0, 2.0];
        assert!((extremal_index(&values, 1.0, &[0; 6]) - 0.5).abs() < 1e-12);
        // The second run's is a stay of its own.
        assert!((extremal_index(&values, 1.0, &[0, 0, 1, 1, 1, 1]) - 0.75).abs() < 1e-12);
        assert!((extremal_index(&values, 5.0, &[0; 6]) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn what_drifts_or_was_never_seen_has_no_sharp_edge() {
        let drifting = Array2::from_shape_fn((800, 2), |(i, column)| {
            if column == 0 {
                i as f32 / 100.0
            } else {
                f32::NAN
            }
        });
        let edges = Edges::fit(drifting.view(), &[0; 800]).unwrap();
        // As far beyond as the blocks lie apart.
        let next = edges.judge(array![9.0, 1e9].view());
        assert!(next.p > 1e-4 && next.column == 0, "{next:?}");
        assert!(edges.is_sound());
    }
}
