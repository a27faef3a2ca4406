//! Columns that leave the value they rest at: a count of errors that is nearly always 0. One error is nothing new, and five in ten records may be; yet
//! to a model of values one is as wild as five, because both lie far beyond what such a column spreads.
//!
//! Whether a record lies off the resting value is taken for a Markov chain of two states, and how many of a window's W records do has the distribution
//! of successes in as many trials that depend on each other (Fu and Koutras, "Distribution theory of runs: a Markov chain approach", JASA 89, 1994). How much they depend is what gives
//! the number in a window the variance that it has among the windows that were fitted on, so that bursts count, and hours that differ; and no
//! less than what Laplace's rule of succession says of how often one is followed by another: who saw three errors does not know that they come alone. As many as were seen off in
//! some window are as probable as they were seen, if that is more: of keys that are unlike, one is off more often than the others. The chain says how probability falls
//! beyond. The least of M columns' probabilities is corrected for their number (Šidák, JASA 62, 1967).
//!
//! Assumes that the share stays what it was. A column that leaves its rest at an hour of the day which training did not see is strange.

use ndarray::{ArrayView1, ArrayView2};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::held::{OfColumn, WINDOW_MIN, same};
use crate::stats::bisect::crossing;

/// The share of values from which on a column rests at one of them.
const SHARE_MIN: f64 = 0.8;

/// Where a column rests, and how it leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Column {
    /// Which of M it is.
    at: usize,
    /// The value that it rests at.
    rest: f32,
    /// The probability that at least k of a normal window's records lie off it, for k from 0 to W.
    off: Vec<f64>,
}

/// The columns that rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resting {
    /// M.
    columns: usize,
    /// Those that rest, ascending.
    of: Vec<Column>,
}

impl Resting {
    /// Looks at windows, `n × (W · M)`, NaN where something is missing. `None` for windows that are too short, or if no column rests.
    #[must_use]
    pub fn fit(windows: ArrayView2<'_, f32>, columns: usize) -> Option<Self> {
        if columns == 0 || windows.nrows() == 0 || windows.ncols() < WINDOW_MIN * columns {
            return None;
        }
        let of: Vec<Column> = (0..columns)
            .filter_map(|at| Column::of(windows, columns, at))
            .collect();
        (!of.is_empty()).then_some(Self { columns, of })
    }

    /// W · M: how wide the windows are that it looks at.
    #[must_use]
    pub fn width(&self) -> usize {
        self.records().saturating_mul(self.columns)
    }

    /// W.
    fn records(&self) -> usize {
        let first = self.of.first();
        first.map_or(0, |column| column.off.len().saturating_sub(1))
    }

    /// Whether its numbers can be used: what is read from a model file may be anything.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let sound = |column: &Column| {
            column.at < self.columns
                && column.rest.is_finite()
                && column.off.len() == self.records() + 1
                && column.off.iter().all(|p| *p > 0.0 && *p <= 1.0)
        };
        self.of.iter().all(sound) && self.of.windows(2).all(|pair| pair[0].at < pair[1].at)
    }

    /// The column of one window of W · M values that is off its rest in more records than is usual.
    #[must_use]
    pub fn judge(&self, window: ArrayView1<'_, f32>) -> OfColumn {
        let mut rarest = OfColumn::NOTHING;
        for column in &self.of {
            let off = column.off_in(window, self.columns);
            let p = column.off[off.min(column.off.len() - 1)];
            if off > 0 && p < rarest.p {
                rarest = OfColumn {
                    p,
                    column: column.at,
                    still: 0,
                };
            }
        }
        rarest.among(self.of.len() as f64)
    }
}

impl Column {
    /// How column `at` of `columns` rests, if it does and was ever seen to leave: what never moved is new wherever it goes, and others say so.
    fn of(windows: ArrayView2<'_, f32>, columns: usize, at: usize) -> Option<Self> {
        let records = windows.ncols() / columns;
        let newest = windows.column((records - 1) * columns + at);
        let rest = common(newest.iter().copied().filter(|value| !value.is_nan()))?;
        let mut column = Self {
            at,
            rest,
            off: Vec::new(),
        };
        // By windows: in how many so many records are off, and whether one off is followed by another.
        let mut counts = vec![0_usize; records + 1];
        let (mut before, mut again) = (0.0, 0.0);
        for window in windows.rows() {
            let value = |back: usize| window[(records - back) * columns + at];
            let off = |back: usize| f64::from(u8::from(off(value(back), rest)));
            before += off(2);
            again += off(2) * off(1);
            counts[column.off_in(window, columns)] += 1;
        }
        let (n, trials) = (windows.nrows() as f64, records as f64);
        let moment = |power: i32| -> f64 {
            let by_count = counts.iter().enumerate();
            by_count
                .map(|(k, n)| *n as f64 * (k as f64).powi(power))
                .sum()
        };
        let sum = moment(1);
        if sum == 0.0 {
            return None;
        }
        let share = (sum + 1.0) / (n * trials + 2.0);
        let variance = (moment(2) - sum * sum / n) / n;
        let alike = dependence(records, variance / (trials * share * (1.0 - share)));
        let followed = (again + 1.0) / (before + 2.0);
        let stay = (share + (1.0 - share) * alike).max(followed).min(1.0);
        column.off = no_less_than_seen(at_least(records, share, stay), &counts);
        Some(column)
    }

    /// How many records of a window are off.
    fn off_in(&self, window: ArrayView1<'_, f32>, columns: usize) -> usize {
        let values = window.into_iter().skip(self.at).step_by(columns);
        values.filter(|value| off(**value, self.rest)).count()
    }
}

/// Whether a value lies off the resting one; what is missing does not.
fn off(value: f32, rest: f32) -> bool {
    !value.is_nan() && !same(value, rest)
}

/// The value that nearly all are, if there is one.
fn common(values: impl Iterator<Item = f32>) -> Option<f32> {
    let (mut counts, mut n) = (FxHashMap::<u32, usize>::default(), 0_usize);
    for value in values {
        *counts.entry(value.to_bits()).or_default() += 1;
        n += 1;
    }
    let (bits, most) = counts
        .into_iter()
        .max_by_key(|(bits, count)| (*count, *bits))?;
    (most as f64 >= SHARE_MIN * n as f64).then_some(f32::from_bits(bits))
}

/// The correlation r of neighbours, from 0 to 1, at which the number of successes in so many trials has `ratio` times the variance that it has in independent
/// ones: 1 + 2 Σ (1 − j / W) rʲ, by bisection.
fn dependence(trials: usize, ratio: f64) -> f64 {
    let inflation = |r: f64| {
        let lags = (1..trials).map(|j| (1.0 - j as f64 / trials as f64) * r.powi(j as i32));
        1.0 + 2.0 * lags.sum::<f64>()
    };
    crossing((0.0, 1.0), 50, |r| inflation(r) < ratio).0
}

/// The probability that at least k of so many records are off, for k from 0 to all of them: a share of them is, and one that is off is followed by another
/// with the probability `stay`.
fn at_least(records: usize, share: f64, stay: f64) -> Vec<f64> {
    let leave = (share * (1.0 - stay) / (1.0 - share)).min(1.0);
    // By how many were off so far, and whether the newest is.
    let mut chances = vec![[0.0; 2]; records + 1];
    chances[0][0] = 1.0 - share;
    chances[1][1] = share;
    for _ in 1..records {
        let mut next = vec![[0.0; 2]; records + 1];
        for (count, [rests, is_off]) in chances.iter().enumerate() {
            next[count][0] += rests * (1.0 - leave) + is_off * (1.0 - stay);
            if count < records {
                next[count + 1][1] += rests * leave + is_off * stay;
            }
        }
        chances = next;
    }
    let mut sum = 0.0_f64;
    let mut at_least: Vec<f64> = chances
        .iter()
        .rev()
        .map(|[rests, is_off]| {
            sum += rests + is_off;
            sum.clamp(f64::MIN_POSITIVE, 1.0)
        })
        .collect();
    at_least.reverse();
    at_least
}

/// The probabilities of at least k, raised to how often at least k were counted; beyond the most of these they fall as they did.
fn no_less_than_seen(mut at_least: Vec<f64>, counts: &[usize]) -> Vec<f64> {
    let n = counts.iter().sum::<usize>() as f64;
    let (mut seen, mut more) = (counts.iter().sum::<usize>(), 1.0);
    for (chance, count) in at_least.iter_mut().zip(counts) {
        if seen > 0 {
            more = (seen as f64 / n / *chance).max(1.0);
        }
        *chance = (*chance * more).min(1.0);
        seen -= count;
    }
    at_least
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use rand::Rng;

    use super::*;
    use crate::seed::Seed;

    const W: usize = 10;

    /// Windows of two columns: one is 0 but for a share of records, whose stays last for `stay` of them in the mean; the other never rests.
    fn windows(n: usize, (share, stay): (f64, f64), seed: u64) -> Array2<f32> {
        let mut rng = Seed(seed).rng();
        let (go_on, begin) = (1.0 - 1.0 / stay, share / (1.0 - share) / stay);
        let mut is_off = false;
        let rows: Vec<[f32; 2]> = (0..n + W)
            .map(|_| {
                is_off = rng.gen_bool(if is_off { go_on } else { begin });
                let value = if is_off {
                    rng.gen_range(1..4) as f32
                } else {
                    0.0
                };
                [value, rng.r#gen()]
            })
            .collect();
        Array2::from_shape_fn((n, W * 2), |(i, j)| rows[i + j / 2][j % 2])
    }

    #[test]
    fn chances_by_hand() {
        // Independent: 1 − 0.9³, 3 · 0.1² · 0.9 + 0.1³, 0.1³.
        let by_hand = [1.0, 0.271, 0.028, 0.001];
        for (found, by_hand) in at_least(3, 0.1, 0.1).iter().zip(by_hand) {
            assert!((found - by_hand).abs() < 1e-12, "{found} {by_hand}");
        }
        // Three in a row: one begins, and goes on twice.
        assert!((at_least(3, 0.1, 0.5)[3] - 0.1 * 0.25).abs() < 1e-12);
        // Of three trials with r = 1/2: 1 + 2 (2/3 · 1/2 + 1/3 · 1/4).
        assert!((dependence(3, 1.0 + 2.0 * (1.0 / 3.0 + 1.0 / 12.0)) - 0.5).abs() < 1e-9);
        assert!(dependence(3, 0.5) < 1e-9);
        // Two of eight windows had one off, one had two, none three.
        let raised = no_less_than_seen(vec![1.0, 0.5, 0.05, 0.004], &[5, 2, 1, 0]);
        for (found, by_hand) in raised.iter().zip([1.0, 0.5, 0.125, 0.01]) {
            assert!((found - by_hand).abs() < 1e-12, "{found} {by_hand}");
        }
    }

    #[test]
    fn a_key_that_is_off_more_often_than_others_is_as_usual_as_it_was() {
        let restless = windows(2000, (0.5, 1.0), 1);
        let calm = windows(18_000, (0.01, 1.0), 2);
        let both = ndarray::concatenate![ndarray::Axis(0), restless, calm];
        let resting = Resting::fit(both.view(), 2).unwrap();
        let fresh = windows(2000, (0.5, 1.0), 3);
        let p = fresh
            .rows()
            .into_iter()
            .map(|window| resting.judge(window).p);
        let rare = p.filter(|p| *p <= 0.01).count() as f64 / 2000.0;
        assert!(rare < 0.12, "{rare}");
    }

    #[test]
    fn as_many_as_usual_are_as_rare_as_they_were_in_bursts_too() {
        for stay in [1.0, 3.0] {
            let resting = Resting::fit(windows(20_000, (0.02, stay), 1).view(), 2).unwrap();
            let fresh = windows(50_000, (0.02, stay), 2);
            let p: Vec<f64> = (fresh.rows().into_iter())
                .map(|window| resting.judge(window).p)
                .collect();
            for bound in [0.2, 0.05, 0.01, 1e-3] {
                let found = p.iter().filter(|p| **p <= bound).count() as f64 / 50_000.0;
                assert!(found <= 1.5 * bound, "{found} at {bound}, stays of {stay}");
            }
            assert!(p.iter().any(|p| *p < 0.2));
        }
    }

    #[test]
    fn a_count_that_stays_up_is_named_and_rarer_with_each_record() {
        let resting = Resting::fit(windows(5000, (0.004, 1.0), 1).view(), 2).unwrap();
        let mut window = windows(1, (1e-9, 1.0), 3).row(0).to_owned();
        assert_eq!(resting.judge(window.view()), OfColumn::NOTHING);
        let mut before = 1.0;
        for record in (0..W).rev() {
            window[record * 2] = 1.0 + record as f32;
            let of = resting.judge(window.view());
            assert!(of.p < before && of.column == 0, "{of:?} {before}");
            before = of.p;
        }
        assert!(before < 1e-12, "{before}");
    }

    #[test]
    fn three_errors_in_a_history_do_not_say_that_they_come_alone() {
        let mut few = Array2::<f32>::zeros((3000, W));
        for at in [500, 1500, 2500] {
            for record in 0..W {
                few[[at + record, W - 1 - record]] = 1.0;
            }
        }
        let resting = Resting::fit(few.view(), 1).unwrap();
        let window =
            |off: usize| ndarray::Array1::from_shape_fn(W, |i| f32::from(u8::from(i < off)));
        let p = |off: usize| resting.judge(window(off).view()).p;
        assert!(
            p(1) > 5e-3 && p(2) > 1e-3 && p(6) < 1e-4,
            "{} {} {}",
            p(1),
            p(2),
            p(6)
        );
    }

    #[test]
    fn what_never_rests_or_never_moved_or_is_missing_says_nothing() {
        let restless = windows(500, (0.5, 1.0), 1);
        assert_eq!(Resting::fit(restless.view(), 2), None);
        assert_eq!(Resting::fit(Array2::zeros((500, W)).view(), 1), None);
        assert_eq!(Resting::fit(Array2::zeros((500, 2)).view(), 1), None);
        let resting = Resting::fit(windows(5000, (0.02, 1.0), 1).view(), 2).unwrap();
        let missing = ndarray::Array1::from_elem(W * 2, f32::NAN);
        assert_eq!(resting.judge(missing.view()), OfColumn::NOTHING);
        assert!(resting.is_sound() && resting.width() == 2 * W);
        let mut of_others = resting.clone();
        of_others.of[0].off.push(0.5);
        of_others.of.push(resting.of[0].clone());
        assert!(!of_others.is_sound());
    }
}
