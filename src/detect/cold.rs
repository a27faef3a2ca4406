//! The cold start: scores before there is a model, from the key's own last rows.
//!
//! Robust z-scores per feature, and a p-value by a heavy-tailed law (Student's t with 3 degrees of freedom), corrected for the number of
//! features. Deliberately hard to alarm: with a few rows nobody knows what is normal. A feature that has not moved yet says nothing.
//!
//! Two things tell what is strange from what is only rare. A feature that was at least half as far off before, k times in n rows, is so again with a probability
//! of (k + 1) / (n + 1) at least, whatever a law says of its tail: bursts of a counter of retries are told of once, and once more if they are much
//! larger.
//! And what has lasted for longer than all that was known before is as likely to be the normal one of the two: it is learnt.

use std::collections::VecDeque;

use crate::stats::bisect::crossing;
use crate::stats::order::median_and_spread;

/// Rows that are remembered.
pub const ROWS_MAX: usize = 64;
/// Rows up to which centre and spread follow each row; later they follow every [`REFRESH`]th.
const FOLLOW_ALL: u64 = 16;
/// See [`FOLLOW_ALL`].
const REFRESH: u64 = 8;

/// A feature that goes this many times as far as ever before does what it never did.
const FARTHER: f64 = 2.0;
/// How many of the farthest excursions of a feature are remembered, on each side.
const FARTHEST: usize = 8;
/// The p-value from which on a feature takes part in what is strange.
const PART: f64 = 0.05;
/// Numbers that are remembered of the excursions of a feature: those of the past, and the present one, on two sides.
pub const EXCURSIONS: usize = 2 * (FARTHEST + 1);
/// The p-value from which on a row is strange: neither learnt from, as long as it may be a fault, nor calm.
pub const SUSPICIOUS: f64 = 1e-3;

/// The last rows of a key, and what they say is normal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColdStart {
    /// Rows learnt from, ever.
    pub seen: u64,
    /// Rows taken in, ever.
    pub taken: u64,
    /// Strange rows in a row, up to now.
    pub strange: u64,
    /// [`EXCURSIONS`] numbers a feature, how far it was from its centre: the present excursion upwards and downwards, then the farthest ones upwards,
    /// and downwards, descending; 0: none. Empty until something is strange.
    pub excursions: Vec<f64>,
    /// The last ones, oldest first, D numbers each.
    pub rows: VecDeque<f64>,
    /// D medians.
    pub centre: Vec<f64>,
    /// D spreads, in standard deviations; 0: the feature has not moved.
    pub spread: Vec<f64>,
}

/// What the cold start makes of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColdReading {
    /// The largest |z| of the features.
    pub score: f64,
    /// The probability that a normal row has as large a one, at most.
    pub p: f64,
}

impl ColdStart {
    /// z of one feature; 0 where nothing can be said.
    fn z(&self, column: usize, value: f64) -> f64 {
        match self.spread.get(column) {
            Some(spread) if *spread > 0.0 && !value.is_nan() => {
                (value - self.centre[column]) / spread
            }
            _ => 0.0,
        }
    }

    /// Scores a row by the rows before it.
    #[must_use]
    pub fn judge(&self, row: &[f64]) -> ColdReading {
        let mut found = ColdReading { score: 0.0, p: 1.0 };
        for (column, value) in row.iter().enumerate() {
            let z = self.z(column, *value).abs();
            let by_law = by_law(row.len(), z);
            found.score = found.score.max(z);
            if by_law < found.p {
                found.p = by_law.max(self.as_far_before(column, *value)).min(found.p);
            }
        }
        found.p = found.p.max(crate::stats::calibration::P_MIN);
        found
    }

    /// The least probability that a feature is as far off as this, by how often it was before; 0 where it never was.
    fn as_far_before(&self, column: usize, value: f64) -> f64 {
        let Some(excursions) = self.excursions_of(column) else {
            return 0.0;
        };
        let off = value - self.centre[column];
        let side = &excursions[2 + FARTHEST * usize::from(off < 0.0)..][..FARTHEST];
        match side
            .iter()
            .filter(|far| FARTHER * **far >= off.abs())
            .count()
        {
            0 => 0.0,
            as_far => (as_far as f64 + 1.0) / (self.taken as f64 + 1.0),
        }
    }

    fn excursions_of(&self, column: usize) -> Option<&[f64]> {
        self.excursions.chunks_exact(EXCURSIONS).nth(column)
    }

    /// The score that has the p-value `p` with `columns` features: by bisection, for the alert's threshold.
    #[must_use]
    pub fn threshold(columns: usize, p: f64) -> f64 {
        crossing((0.0, 1e9), 200, |score| by_law(columns, score) > p).1
    }

    /// Each feature's share in the score of `row` (sum 1) and the values expected.
    #[must_use]
    pub fn explain(&self, row: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let mut shares: Vec<f64> = (0..row.len())
            .map(|column| self.z(column, row[column]).powi(2))
            .collect();
        // What a feature did before is not what is strange now, if anything else is.
        let before = |column: usize| self.as_far_before(column, row[column]) > 0.0;
        if (0..row.len()).any(|column| !before(column) && shares[column] > 9.0) {
            (0..row.len())
                .filter(|column| before(*column))
                .for_each(|column| shares[column] = 0.0);
        }
        let sum: f64 = shares.iter().sum();
        for share in &mut shares {
            *share = if sum > 0.0 && sum.is_finite() {
                *share / sum
            } else {
                1.0 / row.len() as f64
            };
        }
        let expected = (0..row.len())
            .map(|column| self.centre.get(column).copied().unwrap_or(row[column]))
            .collect();
        (shares, expected)
    }

    /// Takes in a row; `calm`: no episode is open, and the row is not strange. Others are not learnt from, or they would become normal, until they
    /// have lasted for longer than what was known before.
    pub fn take(&mut self, row: &[f64], calm: bool) {
        self.taken += 1;
        if calm {
            self.end_excursions();
            self.strange = 0;
            self.push(row);
            return;
        }
        self.strange += 1;
        self.go_on(row);
        if self.strange > self.seen.max(ROWS_MAX as u64) {
            self.push(row);
        }
    }

    /// Notes how far the features of a strange row are off.
    fn go_on(&mut self, row: &[f64]) {
        self.excursions.resize(EXCURSIONS * row.len(), 0.0);
        for (column, value) in row.iter().enumerate() {
            let z = self.z(column, *value).abs();
            if by_law(row.len(), z) > PART {
                continue;
            }
            let off = value - self.centre[column];
            let present = &mut self.excursions[EXCURSIONS * column + usize::from(off < 0.0)];
            *present = present.max(off.abs());
        }
    }

    /// What was strange is over: how far it went is remembered, once for however many rows.
    fn end_excursions(&mut self) {
        if self.strange == 0 {
            return;
        }
        for excursions in self.excursions.chunks_exact_mut(EXCURSIONS) {
            let (present, past) = excursions.split_at_mut(2);
            for (present, past) in present.iter_mut().zip(past.chunks_exact_mut(FARTHEST)) {
                let mut far = std::mem::take(present);
                for place in past {
                    if *place < far {
                        std::mem::swap(place, &mut far);
                    }
                }
            }
        }
    }

    fn push(&mut self, row: &[f64]) {
        let kept = ROWS_MAX * row.len();
        if self.rows.len() + row.len() > kept {
            self.rows.drain(..row.len());
        }
        self.rows.extend(row);
        self.seen += 1;
        if self.seen <= FOLLOW_ALL || self.seen.is_multiple_of(REFRESH) {
            self.refresh(row.len());
        }
    }

    fn refresh(&mut self, columns: usize) {
        self.centre.resize(columns, f64::NAN);
        self.spread.resize(columns, 0.0);
        let mut values = Vec::with_capacity(ROWS_MAX);
        for column in 0..columns {
            values.clear();
            let all = self.rows.iter().skip(column).step_by(columns).copied();
            values.extend(all.filter(|value| !value.is_nan()));
            if values.len() < 2 {
                (self.centre[column], self.spread[column]) = (0.0, 0.0);
                continue;
            }
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let deviation =
                (values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n).sqrt();
            let (centre, spread) = median_and_spread(&mut values);
            // The larger of the two: cautious both where half of the values are equal and where they wander. Rounding is no movement.
            let spread = spread.max(deviation);
            let moved = spread > 1e-9 * centre.abs().max(1e-9);
            (self.centre[column], self.spread[column]) = (centre, if moved { spread } else { 0.0 });
        }
    }
}

/// The probability that one of so many features is as far off as `z`, at most (Bonferroni).
fn by_law(columns: usize, z: f64) -> f64 {
    columns as f64 * student3_two_sided(z)
}

/// P(|T| > t) of Student's t with 3 degrees of freedom: 1 − (2/π)(atan x + x / (1 + x²)), x = t / √3.
fn student3_two_sided(t: f64) -> f64 {
    let x = t / 3.0_f64.sqrt();
    if x > 1e3 {
        // The first term of the series in 1/x: the difference of two near-equal numbers has no digits left.
        return 4.0 / (3.0 * std::f64::consts::PI * x.powi(3));
    }
    (1.0 - std::f64::consts::FRAC_2_PI * (x.atan() + x / (1.0 + x * x))).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use rand::Rng;

    #[test]
    fn students_t_from_a_table() {
        // Two-sided 5 % and 0.1 % points with 3 degrees of freedom: 3.182 and 12.924.
        assert!((student3_two_sided(3.182_446) - 0.05).abs() < 1e-6);
        assert!((student3_two_sided(12.923_98) - 0.001).abs() < 1e-6);
        let (below, above) = (student3_two_sided(1731.0), student3_two_sided(1733.0));
        assert!(below > above && above / below > 0.99);
        // Inverted, with a correction for 4 features.
        assert!((ColdStart::threshold(4, 0.2) - 3.182_446).abs() < 1e-4);
    }

    #[test]
    fn knows_nothing_at_first_and_little_later() {
        let mut cold = ColdStart::default();
        assert!((cold.judge(&[1e9, f64::NAN]).p - 1.0).abs() < 1e-12);
        let mut rng = Seed(1).rng();
        for _ in 0..100 {
            cold.take(&[rng.gen_range(0.0..1.0), 5.0], true);
        }
        assert_eq!(cold.rows.len(), 2 * ROWS_MAX);
        assert!(cold.judge(&[0.5, 5.0]).p > 0.5);
        // A feature that never moved says nothing; one far out of its range does.
        assert!(cold.judge(&[0.5, 9.0]).p > 0.5);
        assert!(cold.judge(&[100.0, 5.0]).p < 1e-5);
        let (shares, expected) = cold.explain(&[100.0, 5.0]);
        assert!((shares[0] - 1.0).abs() < 1e-9);
        assert!((expected[0] - 0.5).abs() < 0.2 && (expected[1] - 5.0).abs() < 1e-9);
    }

    #[test]
    fn normal_rows_alarm_less_than_the_budget() {
        let mut rng = Seed(2).rng();
        let mut alarms = 0;
        for _ in 0..200 {
            let mut cold = ColdStart::default();
            for _ in 0..100 {
                let row: [f64; 8] = std::array::from_fn(|_| rng.gen_range(-1.0..1.0));
                alarms += u32::from(cold.seen >= 10 && cold.judge(&row).p <= 1e-3);
                cold.take(&row, true);
            }
        }
        assert!(alarms <= 20, "{alarms} of 20,000");
    }

    /// Takes rows in as the pipeline does, each an episode of its own while it is strange; answers which were strange.
    fn strange(cold: &mut ColdStart, values: impl Iterator<Item = f64>) -> Vec<usize> {
        let mut rng = Seed(3).rng();
        let rows = values.map(|value| [rng.gen_range(-1.0..1.0), value + rng.gen_range(-1.0..1.0)]);
        let mut found = Vec::new();
        for (at, row) in rows.collect::<Vec<_>>().into_iter().enumerate() {
            let calm = cold.seen < 30 || cold.judge(&row).p > SUSPICIOUS;
            if !calm {
                found.push(at);
            }
            cold.take(&row, calm);
        }
        found
    }

    #[test]
    fn a_burst_is_strange_once_and_again_if_it_is_much_larger_or_the_other_way() {
        let mut cold = ColdStart::default();
        let burst = |at: usize| match at {
            100..103 | 200..203 | 350..353 => 500.0,
            440 => 1200.0,
            490 => -400.0,
            _ => 0.0,
        };
        let found = strange(&mut cold, (0..520).map(burst));
        assert_eq!(found, [100, 101, 102, 440, 490]);
        // Two of 520 rows were strange and at least half as far up.
        let p = cold.judge(&[0.0, 600.0]).p;
        assert!((p - 3.0 / 521.0).abs() < 1e-9, "{p}");
        assert!(cold.judge(&[0.0, 1e6]).p < 1e-6);
        // A fault of the other feature is blamed on that, though this one is at its worst.
        let (shares, _) = cold.explain(&[30.0, 500.0]);
        assert!(shares[0] > 0.99);
    }

    #[test]
    fn what_lasts_for_longer_than_all_before_is_learnt() {
        let mut cold = ColdStart::default();
        let moved = |at: usize| if at < 200 { 0.0 } else { 100.0 };
        let found = strange(&mut cold, (0..600).map(moved));
        let last = found.last().copied().unwrap();
        assert_eq!(found[..200], (200..400).collect::<Vec<_>>());
        assert!((400..=440).contains(&last), "{last}");
    }
}
