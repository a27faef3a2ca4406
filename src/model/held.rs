//! Columns that stopped moving: a sensor that repeats one value. Beside any kind of model, because a stuck value is an ordinary one, and the most
//! ordinary of all where the model expects the middle.
//!
//! Whether a value repeats the one before it is taken for a Markov chain of the first order (Feller, "An Introduction to Probability Theory and Its
//! Applications" I, chapter XV): a column's newest r values are all the same as the one before them with the probability s aʳ⁻¹, where s is the share of values
//! that repeat, and a that of repeats which are followed by another. Both are counted on the rows that were fitted on, by Laplace's rule of
//! succession. The least of M columns' probabilities is corrected for their number (Šidák, JASA 62, 1967).
//!
//! Of a column that often stands still this says nothing, nor within windows of fewer than three records.

use ndarray::{ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::simd::{BLOCK, Loop, block, blocks, wide};
use crate::stats::calibration::{P_MIN, any_of};

/// Records of a window without which nothing is counted.
pub(super) const WINDOW_MIN: usize = 3;

/// How often each column repeats itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The share of values that repeat the one before, M numbers.
    share: Vec<f64>,
    /// The share of repeats that are followed by another, M numbers.
    again: Vec<f64>,
}

/// The column of a window that does something the most strangely by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OfColumn {
    /// The probability that some column of a normal window does so; 1 where none does.
    pub p: f64,
    /// Which of the M columns it is.
    pub column: usize,
    /// For how many records it has stood still, by the window: 0 where that is not what is strange of it.
    pub still: u32,
}

impl OfColumn {
    /// No column does.
    pub const NOTHING: Self = Self {
        p: 1.0,
        column: 0,
        still: 0,
    };

    /// The rarest of so many, of which this is the probability by itself.
    #[must_use]
    pub fn among(self, tries: f64) -> Self {
        let any = any_of(self.p, tries).clamp(P_MIN, 1.0);
        Self {
            p: if self.p < 1.0 { any } else { 1.0 },
            ..self
        }
    }
}

impl Held {
    /// Counts on windows, `n × (W · M)`, NaN where something is missing. `None` for windows that are too short.
    #[must_use]
    pub fn fit(windows: ArrayView2<'_, f32>, columns: usize) -> Option<Self> {
        if columns == 0 || windows.ncols() < WINDOW_MIN * columns {
            return None;
        }
        // Of windows that share records, only the newest are new.
        let mut counts = vec![[0_u32; 4]; columns];
        for window in windows.rows() {
            for (column, [pairs, repeats, after, again]) in counts.iter_mut().enumerate() {
                let place = |back: usize| window[window.len() - back * columns + column];
                let (newest, before, first) = (place(1), place(2), place(3));
                if newest.is_nan() || before.is_nan() {
                    continue;
                }
                *pairs += 1;
                *repeats += u32::from(same(newest, before));
                *after += u32::from(same(before, first));
                *again += u32::from(same(newest, before) && same(before, first));
            }
        }
        let succession = |hits: u32, tries: u32| f64::from(hits + 1) / f64::from(tries + 2);
        Some(Self {
            share: counts.iter().map(|c| succession(c[1], c[0])).collect(),
            again: counts.iter().map(|c| succession(c[3], c[2])).collect(),
        })
    }

    /// M.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.share.len()
    }

    /// Whether every number is a probability, for as many columns: what is read from a model file may be anything.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let probability = |p: &f64| *p > 0.0 && *p <= 1.0;
        self.share.len() == self.again.len()
            && self.share.iter().chain(&self.again).all(probability)
    }

    /// Whether any column's newest value is the one before it. Nearly always none is, and one look at both records tells.
    fn some_repeats<'w>(&self, window: ArrayView1<'w, f32>) -> bool {
        let columns = self.columns();
        let newest_two = |window: &'w [f32]| {
            let older = window.len().checked_sub(2 * columns)?;
            Some(window[older..].split_at(columns))
        };
        let Some((before, newest)) = window.to_slice().and_then(newest_two) else {
            return true;
        };
        wide(SomeSame { newest, before })
    }

    /// Looks at one window of W · M values.
    #[must_use]
    pub fn judge(&self, window: ArrayView1<'_, f32>) -> OfColumn {
        let columns = self.columns();
        let records = window.len() / columns;
        let mut still = OfColumn::NOTHING;
        if !self.some_repeats(window) {
            return still;
        }
        for column in 0..columns {
            let value = |record: usize| window[record * columns + column];
            let newest = value(records - 1);
            let run = (0..records - 1)
                .rev()
                .take_while(|&record| same(value(record), newest))
                .count();
            if run == 0 {
                continue;
            }
            let p = self.share[column] * self.again[column].powi(run as i32 - 1);
            if p < still.p {
                still = OfColumn {
                    p,
                    column,
                    still: run as u32 + 1,
                };
            }
        }
        still.among(columns as f64)
    }
}

/// Whether any value is that of another record.
struct SomeSame<'a> {
    newest: &'a [f32],
    before: &'a [f32],
}

impl Loop for SomeSame<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let Self { newest, before } = self;
        if newest.len() < BLOCK {
            return newest.iter().zip(before).any(|(a, b)| same(*a, *b));
        }
        let mut found = [0_u32; BLOCK];
        for from in blocks(newest.len()) {
            let pairs = block(newest, from).iter().zip(block(before, from));
            for (found, (a, b)) in found.iter_mut().zip(pairs) {
                *found |= u32::from(same(*a, *b));
            }
        }
        found != [0; BLOCK]
    }
}

/// Whether a value is that of another record, bit for bit.
#[inline(always)]
pub(super) fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() && !a.is_nan()
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2};
    use rand::Rng;

    use super::*;
    use crate::seed::Seed;

    const W: usize = 10;

    /// Windows of two columns: the first never repeats, the second does in three of ten records.
    fn windows(n: usize, seed: u64) -> Array2<f32> {
        let mut rng = Seed(seed).rng();
        let mut rows: Vec<[f32; 2]> = vec![[0.0, 0.0]];
        while rows.len() < n + W {
            let before = rows[rows.len() - 1];
            let second = if rng.gen_bool(0.3) {
                before[1]
            } else {
                rng.r#gen()
            };
            rows.push([rng.r#gen(), second]);
        }
        Array2::from_shape_fn((n, W * 2), |(i, j)| rows[i + j / 2][j % 2])
    }

    #[test]
    fn a_value_that_stays_is_as_rare_as_it_was() {
        let held = Held::fit(windows(20_000, 1).view(), 2).unwrap();
        let fresh = windows(50_000, 2);
        let p: Vec<f64> = fresh.rows().into_iter().map(|w| held.judge(w).p).collect();
        for bound in [0.2, 0.06, 0.02, 0.005] {
            let found = p.iter().filter(|p| **p <= bound).count() as f64 / 50_000.0;
            // The chain takes few values: what is found jumps, but never above the bound by much.
            assert!(found <= 1.2 * bound, "{found} at {bound}");
        }
        assert!(p.iter().filter(|p| **p <= 0.2).count() > 1000);
    }

    #[test]
    fn a_stuck_sensor_is_named_and_rarer_with_each_record() {
        let held = Held::fit(windows(5000, 1).view(), 2).unwrap();
        let mut window: Array1<f32> = windows(1, 3).row(0).to_owned();
        let mut before = held.judge(window.view()).p;
        for stuck in 1..W {
            for record in W - 1 - stuck..W {
                window[record * 2] = 0.5;
            }
            let still = held.judge(window.view());
            assert_eq!((still.column, still.still), (0, stuck as u32 + 1));
            assert!(still.p < before);
            before = still.p;
        }
        assert!(before < 1e-5, "{before}");
    }

    #[test]
    fn gaps_and_short_windows_say_nothing() {
        assert_eq!(Held::fit(Array2::zeros((100, 4)).view(), 2), None);
        let mut all = windows(100, 1);
        let held = Held::fit(all.view(), 2).unwrap();
        all.fill(f32::NAN);
        assert_eq!(held.judge(all.row(0)), OfColumn::NOTHING);
        // Of what always stood still, standing still is no news.
        let always = Held::fit(Array2::zeros((1000, 20)).view(), 2).unwrap();
        assert!(always.judge(Array1::zeros(20).view()).p > 0.98);
        assert!(always.is_sound());
    }
}
