//! The cold start: scores before there is a model, from the key's own last rows.
//!
//! Robust z-scores per feature, and a p-value by a heavy-tailed law (Student's t with 3 degrees of freedom), corrected for the number of
//! features. Deliberately hard to alarm: with a few rows nobody knows what is normal. A feature that has not moved yet says nothing.

use std::collections::VecDeque;

use crate::stats::order::median_and_spread;

/// Rows that are remembered.
pub const ROWS_MAX: usize = 64;
/// Rows up to which centre and spread follow each row; later they follow every [`REFRESH`]th.
const FOLLOW_ALL: u64 = 16;
/// See [`FOLLOW_ALL`].
const REFRESH: u64 = 8;

/// The last rows of a key, and what they say is normal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColdStart {
    /// Rows taken in, ever.
    pub seen: u64,
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
        let score = (0..row.len())
            .map(|column| self.z(column, row[column]).abs())
            .fold(0.0, f64::max);
        ColdReading {
            score,
            p: (row.len() as f64 * student3_two_sided(score))
                .clamp(crate::stats::calibration::P_MIN, 1.0),
        }
    }

    /// The score that has the p-value `p` with `columns` features: by bisection, for the alert's threshold.
    #[must_use]
    pub fn threshold(columns: usize, p: f64) -> f64 {
        let (mut low, mut high) = (0.0, 1e9);
        for _ in 0..200 {
            let middle = 0.5 * (low + high);
            if columns as f64 * student3_two_sided(middle) > p {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }

    /// Each feature's share in the score of `row` (sum 1) and the values expected.
    #[must_use]
    pub fn explain(&self, row: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let mut shares: Vec<f64> = (0..row.len())
            .map(|column| self.z(column, row[column]).powi(2))
            .collect();
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

    /// Learns from a row. Not to be called with rows that were found anomalous: they would become normal.
    pub fn push(&mut self, row: &[f64]) {
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
            cold.push(&[rng.gen_range(0.0..1.0), 5.0]);
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
                cold.push(&row);
            }
        }
        assert!(alarms <= 20, "{alarms} of 20,000");
    }
}
