//! Columns that count: they only grow, until something is reset (bytes sent, energy used, errors so far). How high a counter stands says how long it
//! has run; what it counted since the record before is what may be strange, as `rate()` of Prometheus has it. So a model sees increments.

use ndarray::{Array2, ArrayView2, CowArray, Ix2};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

/// Steps up, of all steps, from which on a column may count, and at least.
const UP_MIN: f64 = 0.01;
const UPS_MIN: usize = 20;

/// Steps down, of all steps, up to which they are resets; and of the steps up.
const DOWN_MAX: f64 = 0.001;
const DOWN_OF_UP: f64 = 0.02;

/// The share of steps up that lead to where the key never was: the hour of the day goes up most of the time, too, but comes back.
const NEW_MIN: f64 = 0.5;

/// Which of D columns count, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters(Vec<usize>);

impl Counters {
    /// Finds them in steps, `n × 2D` raw values: a record and the one of its key after it, each in one of several runs.
    ///
    /// # Panics
    /// If there is not one run a step.
    pub fn find(
        steps: ArrayView2<'_, f64>,
        runs: &[usize],
        judged: impl Fn(usize) -> bool,
    ) -> Self {
        assert_eq!(steps.nrows(), runs.len(), "one run a step");
        let columns = steps.ncols() / 2;
        let counts = |column: &usize| {
            let (before, after) = (steps.column(*column), steps.column(columns + column));
            let both = || {
                before
                    .iter()
                    .zip(after)
                    .filter(|(a, b)| a.is_finite() && b.is_finite())
            };
            let (ups, downs) = (
                both().filter(|(a, b)| b > a).count(),
                both().filter(|(a, b)| b < a).count(),
            );
            let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
            ups >= UPS_MIN
                && share(ups, both().count()) >= UP_MIN
                && share(downs, both().count()) <= DOWN_MAX
                && share(downs, ups) <= DOWN_OF_UP
                && share(places(after.iter().zip(before), runs), ups) >= NEW_MIN
        };
        Self(
            (0..columns)
                .filter(|at| judged(*at))
                .filter(counts)
                .collect(),
        )
    }

    /// Which columns they are, ascending.
    pub fn columns(&self) -> &[usize] {
        &self.0
    }

    /// Whether nothing counts.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether they are among so many columns.
    pub fn fit(&self, columns: usize) -> bool {
        self.0.is_sorted_by(|a, b| a < b) && self.0.iter().all(|at| *at < columns)
    }

    /// Windows, `n × (W · D)`, with the increments of what counts instead of where it stands. A reset leaves what was counted unknown (NaN); of the oldest
    /// record it is what it is of the next. Single records do not say what was counted: 0.
    pub fn increments<'r>(
        &self,
        rows: ArrayView2<'r, f64>,
        columns: usize,
    ) -> CowArray<'r, f64, Ix2> {
        if self.is_empty() {
            return rows.into();
        }
        let mut rows: Array2<f64> = rows.to_owned();
        for mut row in rows.rows_mut() {
            for &column in &self.0 {
                let places = || (column..row.len()).step_by(columns);
                let values: Vec<f64> = places().map(|at| row[at]).collect();
                let step = |pair: &[f64]| {
                    let counted = pair[1] - pair[0];
                    if counted < 0.0 { f64::NAN } else { counted }
                };
                let mut steps: Vec<f64> = values.windows(2).map(step).collect();
                steps.insert(0, steps.first().copied().unwrap_or(0.0));
                for (at, step) in places().zip(steps) {
                    row[at] = step;
                }
            }
        }
        rows.into()
    }

    /// Brings expected increments of newest records, `n × D`, to where their counters would stand, after `before`.
    pub fn stand(&self, expected: &mut Array2<f64>, before: ArrayView2<'_, f64>) {
        for &column in &self.0 {
            let mut expected = expected.column_mut(column);
            expected += &before.column(column);
        }
    }
}

/// How many places steps up lead to, of each run by itself.
fn places<'v>(steps: impl Iterator<Item = (&'v f64, &'v f64)>, runs: &[usize]) -> usize {
    let up = steps
        .zip(runs)
        .filter(|((after, before), _)| after > before);
    let places: FxHashSet<(u64, usize)> = up
        .map(|((after, _), run)| (after.to_bits(), *run))
        .collect();
    places.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    /// Steps of one run through values.
    fn found(values: impl Fn(usize) -> f64) -> bool {
        let steps = Array2::from_shape_fn((3000, 2), |(i, after)| values(i + after));
        !Counters::find(steps.view(), &vec![0; 3000], |_| true).is_empty()
    }

    #[test]
    fn what_only_grows_counts_and_what_comes_back_does_not() {
        let noise = |i: usize| ((i * 7919) % 101) as f64;
        assert!(found(|i| i as f64 * 1e6));
        assert!(found(|i| (i / 40) as f64), "now and then");
        assert!(
            found(|i| (i % 1500) as f64 + 1e-6 * (i as f64)),
            "one reset"
        );
        assert!(!found(noise));
        assert!(!found(|i| i as f64 + noise(i)), "a trend");
        assert!(!found(|i| (i / 10 % 24) as f64), "the hour of the day");
        assert!(!found(|i| f64::from(u8::from(i > 1500))), "a setting");
        assert!(!found(|_| f64::NAN));
        assert!(!found(|i| (i % 200) as f64 + 1e-6 * (i as f64)), "a saw");
        assert!(!found(|i| -(i as f64)));
    }

    #[test]
    fn windows_have_what_was_counted() {
        let counters = Counters(vec![1]);
        let windows = array![
            [1.0, 100.0, 2.0, 103.0, 3.0, 110.0],
            [1.0, 100.0, 2.0, 4.0, 3.0, f64::NAN]
        ];
        let seen = counters.increments(windows.view(), 2);
        assert_eq!(seen.row(0).to_vec(), [1.0, 3.0, 2.0, 3.0, 3.0, 7.0]);
        let reset = seen.row(1);
        assert!([1, 3, 5].iter().all(|at| reset[*at].is_nan()), "{reset}");
        let single = counters.increments(array![[1.0, 1e9]].view(), 2).to_owned();
        assert_eq!(single, array![[1.0, 0.0]]);
        let mut expected = array![[5.0, 6.0]];
        counters.stand(&mut expected, array![[2.0, 103.0]].view());
        assert_eq!(expected, array![[5.0, 109.0]]);
    }
}
