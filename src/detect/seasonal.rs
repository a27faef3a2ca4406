//! The season: a stream of one feature, judged by what its key did at this time of day and week, learnt record by record.
//!
//! A model is fitted now and then, and knows nothing of the clock; a single feature has no other feature to be compared with. So each
//! key keeps a linear model of its own: a level, four harmonics of the day and two of the week, by recursive least squares with
//! exponential forgetting (Ljung and Söderström, "Theory and Practice of Recursive Identification", MIT Press 1983), every error
//! bounded before it is learnt (Huber, "Robust Statistics", Wiley 1981), so that a fault moves it little. A record is judged before it
//! is learnt, by two errors: its own, and the mean of the last few, which shows small but lasting ones. Each becomes a tail probability
//! by the key's own past errors ([`Tally`]); p is their geometric mean times e, which holds however they depend on each other
//! (Vovk and Wang, "Combining p-values via averaging", Biometrika 107, 2020).
//!
//! What is remembered is a few hundred numbers, whatever the length of the stream.

use std::f64::consts::TAU;

use crate::stats::calibration::P_MIN;
use crate::time::Timestamp;

/// Harmonics of the day, and of the week.
const DAY: usize = 4;
const WEEK: usize = 2;
/// Numbers that predict: the level, and a sine and a cosine for each harmonic.
pub const TERMS: usize = 1 + 2 * (DAY + WEEK);
/// Share of what was learnt that each record leaves: about the last 2,000 records count.
const KEEP: f64 = 0.9995;
/// Errors beyond this many normal ones are learnt as that many.
const BOUND: f64 = 4.0;
/// Share of the newest error in the mean of the last few: that of about five.
const NEWEST: f64 = 1.0 / 3.0;
/// Errors without which nothing can be said.
pub const SEEN_MIN: u64 = 20;
/// Share of the held maximum that each record leaves, see [`Season::onset`].
const HOLD: f64 = 0.99;
/// Rounding, as a share of the largest value.
const ROUNDING: f64 = 1e-9;

const DAY_MS: i64 = 86_400_000;

/// What is remembered of a key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Season {
    /// Records learnt.
    pub seen: u64,
    /// The first value: what all others are told from, so that no digits are lost.
    pub origin: f64,
    /// The largest magnitude seen.
    pub largest: f64,
    /// [`TERMS`] weights; none before the first record.
    pub weights: Vec<f64>,
    /// `TERMS × TERMS`: how little is known in each direction. Symmetric.
    pub ignorance: Vec<f64>,
    /// Mean of the last few errors.
    pub drift: f64,
    /// Sizes of single errors, and of their means.
    pub tallies: [Tally; 2],
    /// The largest strangeness lately.
    pub held: f64,
}

/// What the season makes of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeasonReading {
    /// Mean of −ln of the two tail probabilities.
    pub strangeness: f64,
    /// The strangeness where it exceeds what is held of that of the records before, else 0: a fault shows where it begins, not for as
    /// long as it lasts, and the echo of a fault less than the fault.
    pub onset: f64,
    /// The probability that a normal record is as strange, at most.
    pub p: f64,
    /// What was expected of the feature.
    pub expected: f64,
}

impl SeasonReading {
    /// Nothing can be said.
    const fn unknown(expected: f64) -> Self {
        Self {
            strangeness: 0.0,
            onset: 0.0,
            p: 1.0,
            expected,
        }
    }
}

impl Season {
    /// Judges the value observed at `time`, then learns it if so wished. One that was not observed is neither judged nor learnt.
    pub fn take(&mut self, value: f64, time: Timestamp, learn: bool) -> SeasonReading {
        if !value.is_finite() {
            return SeasonReading::unknown(self.origin);
        }
        if self.weights.is_empty() {
            self.begin(value);
        }
        self.largest = self.largest.max(value.abs());
        let terms = terms(time);
        let predicted: f64 = self.weights.iter().zip(&terms).map(|(w, x)| w * x).sum();
        let error = value - self.origin - predicted;
        let rounding = (ROUNDING * self.largest).max(f64::MIN_POSITIVE);
        let known = self.seen >= SEEN_MIN;
        let bounded = if known {
            let bound = BOUND * self.tallies[0].spread().max(rounding);
            error.clamp(-bound, bound)
        } else {
            error
        };
        self.drift += (bounded - self.drift) * if self.seen == 0 { 1.0 } else { NEWEST };
        let sizes = [error.abs().max(rounding), self.drift.abs().max(rounding)];
        let expected = self.origin + predicted;
        let reading = if known {
            self.read(sizes, expected)
        } else {
            SeasonReading::unknown(expected)
        };
        self.held = (self.held * HOLD).max(reading.strangeness);
        if learn {
            for (tally, size) in self.tallies.iter_mut().zip(sizes) {
                tally.add(size);
            }
            self.learn(&terms, bounded);
            self.seen += 1;
        }
        reading
    }

    /// The strangeness whose p-value is `p`.
    #[must_use]
    pub fn threshold(p: f64) -> f64 {
        1.0 - p.ln()
    }

    fn begin(&mut self, value: f64) {
        self.origin = value;
        self.weights = vec![0.0; TERMS];
        self.ignorance = vec![0.0; TERMS * TERMS];
        for term in 0..TERMS {
            self.ignorance[term * (TERMS + 1)] = 1.0;
        }
    }

    fn read(&self, sizes: [f64; 2], expected: f64) -> SeasonReading {
        let both = self.tallies[0].surprise(sizes[0]) + self.tallies[1].surprise(sizes[1]);
        let strangeness = 0.5 * both;
        SeasonReading {
            strangeness,
            // By more than what one record's forgetting makes up for: a fault that creeps up does not begin at every record.
            onset: if strangeness * HOLD > self.held {
                strangeness
            } else {
                0.0
            },
            p: (1.0 - strangeness).exp().clamp(P_MIN, 1.0),
            expected,
        }
    }

    /// One step of recursive least squares. Where nothing new was seen for long, forgetting would make the ignorance grow without end:
    /// nothing is forgotten while it would exceed what it was at first.
    fn learn(&mut self, terms: &[f64; TERMS], error: f64) {
        let mut gain = [0.0; TERMS];
        for (row, gain) in self.ignorance.chunks_exact(TERMS).zip(&mut gain) {
            *gain = row.iter().zip(terms).map(|(a, x)| a * x).sum();
        }
        let trace: f64 = (0..TERMS).map(|i| self.ignorance[i * (TERMS + 1)]).sum();
        let keep = if trace > KEEP * TERMS as f64 {
            1.0
        } else {
            KEEP
        };
        let all: f64 = keep + gain.iter().zip(terms).map(|(g, x)| g * x).sum::<f64>();
        for i in 0..TERMS {
            self.weights[i] += gain[i] / all * error;
            for j in 0..=i {
                let value = (self.ignorance[i * TERMS + j] - gain[i] * gain[j] / all) / keep;
                self.ignorance[i * TERMS + j] = value;
                self.ignorance[j * TERMS + i] = value;
            }
        }
    }
}

/// 1, then sine and cosine of each harmonic of the day and of the week.
fn terms(time: Timestamp) -> [f64; TERMS] {
    let phase = |period: i64| time.0.rem_euclid(period) as f64 / period as f64;
    let mut terms = [1.0; TERMS];
    let harmonics = (1..=DAY)
        .map(|k| k as f64 * phase(DAY_MS))
        .chain((1..=WEEK).map(|k| k as f64 * phase(7 * DAY_MS)));
    for (pair, turns) in terms[1..].chunks_exact_mut(2).zip(harmonics) {
        (pair[0], pair[1]) = (TAU * turns).sin_cos();
    }
    terms
}

/// Cells of a [`Tally`] for each doubling of the size.
const CELLS: f64 = 8.0;
/// Sizes beyond which a tally's counts are halved: about the last 20,000 count.
const COUNTED_MAX: u64 = 20_000;
/// Share of the sizes that lie in the tail.
const TAIL: f64 = 0.01;
/// The most mean excesses that a size may be beyond the tail's beginning.
const EXCESSES_MAX: f64 = 40.0;

/// How often sizes occurred, in cells of equal width on a logarithmic scale: the empirical distribution up to its 99 % quantile, and an
/// exponential tail beyond.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Cell and count, ascending, no count 0.
    pub cells: Vec<(i32, u32)>,
    /// The sum of the counts.
    pub total: u64,
}

impl Tally {
    /// Where a size lies: the cell, and how far into it, in [0, 1).
    fn place(size: f64) -> (i32, f64) {
        let place = size.log2() * CELLS;
        (place.floor() as i32, place - place.floor())
    }

    fn size(place: f64) -> f64 {
        (place / CELLS).exp2()
    }

    /// Counts a size above 0.
    fn add(&mut self, size: f64) {
        let (cell, _) = Self::place(size);
        match self.cells.binary_search_by_key(&cell, |(cell, _)| *cell) {
            Ok(found) => self.cells[found].1 += 1,
            Err(place) => self.cells.insert(place, (cell, 1)),
        }
        self.total += 1;
        if self.total >= COUNTED_MAX {
            // Rounded up: what occurred once is not forgotten at once.
            for (_, count) in &mut self.cells {
                *count = count.div_ceil(2);
            }
            self.total = self.cells.iter().map(|(_, count)| u64::from(*count)).sum();
        }
    }

    /// How many sizes are at least `size`, about.
    fn above(&self, size: f64) -> f64 {
        let (cell, into) = Self::place(size);
        let mut sum = 0.0;
        for &(at, count) in self.cells.iter().rev() {
            if at < cell {
                break;
            }
            sum += f64::from(count) * if at == cell { 1.0 - into } else { 1.0 };
        }
        sum
    }

    /// The size that a share of about `above` of the sizes exceeds.
    fn quantile(&self, above: f64) -> f64 {
        let wanted = above * self.total as f64;
        let mut sum = 0.0;
        for &(cell, count) in self.cells.iter().rev() {
            let count = f64::from(count);
            if sum + count >= wanted {
                return Self::size(f64::from(cell) + 1.0 - (wanted - sum) / count);
            }
            sum += count;
        }
        0.0
    }

    /// The standard deviation of the errors, if they were normal: the larger of what their median and their 90 % quantile say.
    fn spread(&self) -> f64 {
        (self.quantile(0.5) / 0.674_49).max(self.quantile(0.1) / 1.644_85)
    }

    /// −ln of the probability of so large a size.
    fn surprise(&self, size: f64) -> f64 {
        let p = (self.above(size) + 0.5) / (self.total as f64 + 1.0);
        if p > TAIL {
            return -p.min(1.0).ln();
        }
        let start = self.quantile(TAIL);
        if size <= start {
            return -TAIL.ln();
        }
        let (mut sum, mut count) = (0.0, 0.0);
        for &(cell, n) in self.cells.iter().rev() {
            let middle = Self::size(f64::from(cell) + 0.5);
            if middle <= start {
                break;
            }
            sum += f64::from(n) * (middle - start);
            count += f64::from(n);
        }
        // Never a thinner tail than half of what the body would lead to: a few sizes say little of the tail.
        let body = (start - self.quantile(0.5)) / (0.5_f64 / TAIL).ln();
        let mean = if count > 0.0 { sum / count } else { 0.0 };
        let unit = mean.max(0.5 * body).max(f64::MIN_POSITIVE);
        -TAIL.ln() + ((size - start) / unit).min(EXCESSES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use rand::Rng;

    const STEP: i64 = 300_000;

    /// A day's wave of 10 around 100, with noise up to ± 1, a record every five minutes.
    fn wave(records: i64, seed: u64) -> Vec<(f64, Timestamp)> {
        let mut rng = Seed(seed).rng();
        (0..records)
            .map(|i| {
                let turn = TAU * (i * STEP) as f64 / DAY_MS as f64;
                let value = 100.0 + 10.0 * turn.sin() + rng.gen_range(-1.0..1.0);
                (value, Timestamp(i * STEP))
            })
            .collect()
    }

    #[test]
    fn terms_by_hand() {
        // A quarter of a day after a Thursday's midnight: a quarter turn of the day, 1/28 of the week.
        let terms = terms(Timestamp(DAY_MS / 4));
        let expected = [1.0, 1.0, 0.0, 0.0, -1.0, -1.0, 0.0, 0.0, 1.0];
        for (found, expected) in terms.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{terms:?}");
        }
        assert!((terms[9] - (TAU / 28.0).sin()).abs() < 1e-12);
    }

    #[test]
    fn a_tally_by_hand() {
        let mut tally = Tally::default();
        for _ in 0..99 {
            tally.add(1.0);
        }
        tally.add(4.0);
        // 99 in the cell [1, 2^⅛), one in [4, 4 · 2^⅛).
        assert_eq!(tally.cells, [(0, 99), (16, 1)]);
        assert!((tally.above(2.0) - 1.0).abs() < 1e-12);
        assert!((tally.above(1.0) - 100.0).abs() < 1e-12);
        assert!((tally.quantile(0.01) - 4.0).abs() < 1e-9);
        assert!((tally.surprise(1.0) + (100.5_f64 / 101.0).min(1.0).ln()).abs() < 1e-9);
        // Beyond 4 by twice the mean excess, which is that of the cell's middle: 4 (2^(1/16) − 1) = 0.177, or half of what the body leads
        // to: (4 − 2^(1/8 · 49.5/99)) / ln 50 / 2 = 0.378.
        let unit = 0.5 * (4.0 - tally.quantile(0.5)) / 50.0_f64.ln();
        let surprise = tally.surprise(4.0 + 2.0 * unit);
        assert!(
            (surprise - (100.0_f64.ln() + 2.0)).abs() < 1e-6,
            "{surprise}"
        );
    }

    #[test]
    fn old_sizes_are_forgotten_by_and_by() {
        let mut tally = Tally::default();
        for _ in 0..COUNTED_MAX {
            tally.add(1.0);
        }
        assert_eq!(tally.total, COUNTED_MAX / 2);
        assert_eq!(tally.cells, [(0, 10_000)]);
    }

    #[test]
    fn learns_the_day_and_finds_what_is_normal_at_another_hour() {
        let mut season = Season::default();
        for (value, time) in wave(288 * 10, 1) {
            season.take(value, time, true);
        }
        // 09:00 of the next day: 100 + 10 sin(3/8 of a turn); the noon's value is far off there, though not the day's extreme.
        let time = Timestamp(288 * 10 * STEP + DAY_MS * 3 / 8);
        let normal = season
            .clone()
            .take(100.0 + 10.0 * (TAU * 0.375).sin(), time, true);
        assert!((normal.expected - 107.07).abs() < 0.5, "{normal:?}");
        assert!(normal.p > 0.1, "{normal:?}");
        let strange = season.take(100.0, time, true);
        assert!(strange.p < 1e-4 && strange.onset > 10.0, "{strange:?}");
        assert!((Season::threshold(strange.p) - strange.strangeness).abs() < 1e-9);
    }

    #[test]
    fn normal_records_alarm_less_than_the_budget() {
        let mut alarms = 0;
        for seed in 0..10 {
            let mut season = Season::default();
            for (value, time) in wave(3000, seed) {
                alarms += u32::from(season.take(value, time, true).p <= 1e-3);
            }
        }
        assert!(alarms <= 30, "{alarms} of 30,000");
    }

    #[test]
    fn one_fault_shows_where_it_begins_and_stays_strange_unlearnt() {
        let mut season = Season::default();
        for (value, time) in wave(288 * 8, 2) {
            season.take(value, time, true);
        }
        let (mut onsets, mut strange) = (Vec::new(), 0);
        for (i, (value, time)) in wave(288 * 8 + 300, 2)[288 * 8..].iter().enumerate() {
            let found = season.take(value + 30.0, *time, false);
            if found.onset > 0.0 {
                onsets.push(i);
            }
            strange += usize::from(found.p <= 1e-4);
        }
        assert_eq!(onsets.first(), Some(&0));
        assert!(onsets.len() <= 10, "{onsets:?}");
        assert_eq!(strange, 300);
    }

    #[test]
    fn stays_finite_where_the_clock_hardly_moves_and_values_never_do() {
        let mut season = Season::default();
        for i in 0..200_000 {
            season.take(
                if i % 1000 == 999 { f64::NAN } else { 5.0 },
                Timestamp(i),
                true,
            );
        }
        assert!(
            season
                .ignorance
                .iter()
                .chain(&season.weights)
                .all(|v| v.is_finite())
        );
        assert!(
            season
                .ignorance
                .iter()
                .all(|v| v.abs() <= 2.0 * TERMS as f64)
        );
        assert!((season.take(5.0, Timestamp(0), true).p - 1.0).abs() < 1e-9);
    }
}
