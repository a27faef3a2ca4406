//! The season: a stream of one feature, judged by what its key did at this time of day and week, learnt record by record.
//!
//! A model is fitted now and then, and knows nothing of the clock; a single feature has no other feature to be compared with. So each
//! key keeps a linear model of its own: a level, four harmonics of the day and two of the week, by recursive least squares with
//! exponential forgetting (Ljung and Söderström, "Theory and Practice of Recursive Identification", MIT Press 1983), every error
//! bounded before it is learnt (Huber, "Robust Statistics", Wiley 1981), so that a fault moves it little. A record is judged before it
//! is learnt, by two errors: its own, and the mean of the last few, which shows small but lasting ones. Each becomes a tail probability
//! by the key's own past errors ([`Tally`]); the strangeness is the mean of their logarithms. How they depend on each other differs from
//! stream to stream, so that p is counted: the share of the key's past records that were as strange, and beyond them a tail.
//!
//! A season knows nothing of the last few records: that a value stands still, or that a cycle of a minute is broken. A model of windows does, and judges
//! beside it where there is one; the two p-values are one by Cauchy's rule, each with the same [`SAY`].
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
/// Records that the bound on p-values counts as much as.
const BOUND_RECORDS: f64 = 20.0;
/// What the shape of the strangeness' tail is heavier by, over the excesses that it is known from: tails are averages over what may be.
const PREDICTIVE: f64 = 1.0;
/// Records that may be flagged together and still be counted.
pub const WAITING_MAX: usize = 64;
/// A level that begins anew may be so many usual errors off, at most.
const LEVEL_SPREADS: f64 = 100.0;
/// Rounding, as a share of the largest value.
const ROUNDING: f64 = 1e-9;

/// The say of the season beside a model of windows.
pub const SAY: f64 = 0.5;

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
    /// Strangeness of the records.
    pub strange: Tally,
    /// Of the records that were not to be learnt since the last one that was: sizes of both errors, and strangeness; the first
    /// [`WAITING_MAX`] and one more.
    pub waiting: Vec<[f64; 3]>,
    /// Time of the first record learnt.
    pub since: Timestamp,
    /// The largest strangeness lately.
    pub held: f64,
}

/// The seasons of a key: what was found anomalous is kept out of the one that judges, but not out of the one that ranks. So scores are what they
/// are whatever the budget, and a fault that lasts becomes ordinary among them, but not for alerts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seasons {
    /// Says how probable a record is.
    pub judge: Season,
    /// Says where something begins. `None` while nothing was kept out, and both would be the same.
    pub ranking: Option<Season>,
}

impl Seasons {
    /// As [`Season::take`]; what begins is said by the season that learns whatever comes.
    pub fn take(&mut self, value: f64, time: Timestamp, learn: bool) -> SeasonReading {
        if !learn && self.ranking.is_none() {
            self.ranking = Some(self.judge.clone());
        }
        let found = self.judge.take(value, time, learn);
        match &mut self.ranking {
            Some(ranking) => SeasonReading {
                onset: ranking.take(value, time, true).onset,
                ..found
            },
            None => found,
        }
    }

    /// Begins at another level, from `now` on: somebody said that it is normal. Its course remains.
    pub fn begin_anew(&mut self, now: Timestamp) {
        self.ranking = None;
        self.judge.begin_anew(now);
    }
}

/// What the season makes of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeasonReading {
    /// Mean of −ln of the two tail probabilities.
    pub strangeness: f64,
    /// The strangeness where it exceeds what is held of that of the records before, else 0: a fault shows where it begins, not for as
    /// long as it lasts, and the echo of a fault less than the fault.
    pub onset: f64,
    /// The probability that a normal record is as strange.
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
            self.begin(value, time);
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
        let surprises = [0, 1].map(|at| self.tallies[at].surprise(sizes[at]));
        let reading = if known {
            self.read(0.5 * (surprises[0] + surprises[1]), expected)
        } else {
            SeasonReading::unknown(expected)
        };
        self.held = (self.held * HOLD).max(reading.strangeness);
        let counted = [sizes[0], sizes[1], reading.strangeness];
        if learn || self.young(time) {
            self.count_what_waits();
            self.count(counted);
            self.learn(&terms, bounded);
            self.seen += 1;
        } else if self.waiting.len() <= WAITING_MAX {
            self.waiting.push(counted);
        }
        reading
    }

    /// Counts sizes and strangeness of one record.
    fn count(&mut self, [size, drift, strangeness]: [f64; 3]) {
        if self.seen >= SEEN_MIN {
            let p = self.p_value(strangeness);
            self.strange.add_strangeness(strangeness, p);
        }
        for (tally, size) in self.tallies.iter_mut().zip([size, drift]) {
            let surprise = tally.surprise(size);
            tally.add_size(size, surprise);
        }
    }

    /// A fault must not become normal; but normal records are flagged, too, now and then and together, and where these were left out, all others
    /// would seem the stranger, and more be flagged each time. So what was flagged for a short while is counted, though not learnt, and
    /// what lasted is not.
    fn count_what_waits(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.len() <= WAITING_MAX {
            for counted in waiting {
                self.count(counted);
            }
        }
    }

    /// The probability that a normal record is as strange: what was counted, and where little was, the bound that holds however the two
    /// errors depend on each other (Vovk and Wang, "Combining p-values via averaging", Biometrika 107, 2020), which counts as much as
    /// [`BOUND_RECORDS`]. It is never less than if the errors did not depend on each other, since they do.
    fn p_value(&self, strangeness: f64) -> f64 {
        let counted = self.strange.tail().p_value(&self.strange, strangeness);
        let dependent = (1.0 - strangeness).exp().min(1.0);
        let independent = (-2.0 * strangeness).exp() * (1.0 + 2.0 * strangeness);
        let trust = self.strange.records() / (self.strange.records() + BOUND_RECORDS);
        let p = trust * counted + (1.0 - trust) * dependent;
        p.max(independent).clamp(P_MIN, 1.0)
    }

    /// Whether there is no normal yet: not a day was seen, nor as many records as are remembered. Then all is learnt, bounded: what a day
    /// has in store is no fault, and what is never learnt would stay strange for ever.
    fn young(&self, time: Timestamp) -> bool {
        time.0.saturating_sub(self.since.0) < DAY_MS && (self.seen as f64) < 1.0 / (1.0 - KEEP)
    }

    fn begin(&mut self, value: f64, time: Timestamp) {
        self.origin = value;
        self.since = time;
        self.weights = vec![0.0; TERMS];
        self.ignorance = vec![0.0; TERMS * TERMS];
        for term in 0..TERMS {
            self.ignorance[term * (TERMS + 1)] = 1.0;
        }
    }

    /// Forgets the level and how large the course is, so that the next records tell both, and whatever comes is learnt for a day. That all is some times what it
    /// was is as likely as that it is some more.
    fn begin_anew(&mut self, now: Timestamp) {
        let mut course = self.weights.clone();
        if let Some(level) = course.first_mut() {
            *level += self.origin;
            let rounding = (ROUNDING * self.largest).max(f64::MIN_POSITIVE);
            let unit = self.tallies[0].spread().max(rounding);
            let unit = unit.max(level.abs() / LEVEL_SPREADS);
            for weight in &mut course {
                *weight /= unit;
            }
            self.ignorance[0] += 1.0 + course[0] * course[0];
            for (row, a) in self.ignorance.chunks_exact_mut(TERMS).zip(&course) {
                for (unknown, b) in row.iter_mut().zip(&course) {
                    *unknown += a * b;
                }
            }
        }
        self.seen = 0;
        self.since = now;
        (self.drift, self.held) = (0.0, 0.0);
        self.waiting.clear();
    }

    fn read(&self, strangeness: f64, expected: f64) -> SeasonReading {
        SeasonReading {
            strangeness,
            // By more than what one record's forgetting makes up for: a fault that creeps up does not begin at every record.
            onset: if strangeness * HOLD > self.held {
                strangeness
            } else {
                0.0
            },
            p: self.p_value(strangeness),
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

/// Cells of a [`Tally`] for each doubling of the size ...
const CELLS: f64 = 8.0;
/// ... and for each unit of strangeness.
const STRANGE_CELLS: f64 = 16.0;
/// What one record counts, so that it can be halved often.
const ONE: u32 = 1 << 16;
/// Counts are halved whenever they have doubled, beginning here: early errors, of a season that knew little, fade.
const COUNTED_FIRST: u64 = 256;
/// Counts beyond which they are halved each time: about the last 20,000 count.
const COUNTED_MAX: u64 = 20_000;
/// Share of the sizes that lie in the tail.
const TAIL: f64 = 0.01;
/// The most mean excesses that a size may be beyond the tail's beginning.
const EXCESSES_MAX: f64 = 40.0;
/// What is farther is counted as this far, so that no single record makes the tail, but repeated ones do.
const COUNTED_EXCESSES: f64 = 10.0;
/// Strangeness: share of the records in the tail, and at least how many, and at most what share.
const STRANGE_TAIL: (f64, f64, f64) = (0.005, 60.0, 0.1);
/// A shape of which nothing is known is taken for 0.1, as surely as after this many excesses: its spread is a quarter.
const SHAPE_PRIOR: (f64, f64) = (0.1, 16.0);
/// Of one in as many records as were counted: what is stranger is counted as this strange, so that no single record makes the tail.
const UNHEARD_OF: f64 = 0.1;

/// How often sizes occurred, in cells of equal width on a logarithmic scale, or strangenesses, on a linear one: the empirical distribution,
/// and a tail beyond.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Cell and count in units of 1/65,536 of a record, ascending, no count 0.
    pub cells: Vec<(i32, u32)>,
    /// The sum of the counts.
    pub total: u64,
    /// Records until the counts are halved.
    pub until: u64,
}

/// A generalised Pareto tail of strangeness.
#[derive(Clone, Copy, Debug, PartialEq)]
struct StrangeTail {
    start: f64,
    /// P(S > start).
    above: f64,
    shape: f64,
    scale: f64,
    /// Scales beyond the start after which it goes on exponentially; infinite where it never ends by itself.
    end: f64,
}

/// −ln P(Z > z) of a generalised Pareto distribution.
fn log_odds(z: f64, shape: f64) -> f64 {
    if shape.abs() < 1e-9 {
        z
    } else {
        (shape * z).ln_1p() / shape
    }
}

/// The inverse of [`log_odds`].
fn inverse(log: f64, shape: f64) -> f64 {
    if shape.abs() < 1e-9 {
        log
    } else {
        (shape * log).exp_m1() / shape
    }
}

impl StrangeTail {
    fn p_value(&self, tally: &Tally, strangeness: f64) -> f64 {
        if strangeness <= self.start {
            let p = tally.above(strangeness * STRANGE_CELLS) / tally.records().max(1.0);
            return p.clamp(self.above, 1.0);
        }
        let z = (strangeness - self.start) / self.scale;
        let beyond = (z - self.end).max(0.0);
        // A tail that would end goes on from where nothing is known, as steeply as there.
        let log = -log_odds(z - beyond, self.shape) - beyond / (1.0 + self.shape * (z - beyond));
        (self.above * log.exp()).clamp(P_MIN, 1.0)
    }

    fn threshold(&self, tally: &Tally, p: f64) -> f64 {
        if p >= self.above {
            return tally.quantile(p) / STRANGE_CELLS;
        }
        let log = (self.above / p.max(P_MIN)).ln();
        let known = if self.end.is_finite() {
            log.min(log_odds(self.end, self.shape))
        } else {
            log
        };
        let z = inverse(known, self.shape);
        self.start + self.scale * (z + (log - known) * (1.0 + self.shape * z))
    }
}

impl Tally {
    fn size(place: f64) -> f64 {
        (place / CELLS).exp2()
    }

    /// Counts a size above 0, as surprising as that: at most [`COUNTED_EXCESSES`] mean excesses beyond the tail's beginning.
    fn add_size(&mut self, size: f64, surprise: f64) {
        let size = if surprise > COUNTED_EXCESSES - TAIL.ln() {
            let (start, unit) = self.tail_of_sizes();
            start + unit * COUNTED_EXCESSES
        } else {
            size
        };
        self.add(size.log2() * CELLS);
    }

    /// Counts a strangeness whose p-value is `p`; one that is unheard of as the largest that is not.
    fn add_strangeness(&mut self, strangeness: f64, p: f64) {
        let least = UNHEARD_OF / self.records().max(1.0);
        let counted = if p < least {
            self.tail().threshold(self, least)
        } else {
            strangeness
        };
        self.add(counted * STRANGE_CELLS);
    }

    /// Counts what lies at a place: a cell, and how far into it.
    fn add(&mut self, place: f64) {
        if self.total == 0 {
            self.until = COUNTED_FIRST;
        }
        let cell = place.floor() as i32;
        match self.cells.binary_search_by_key(&cell, |(cell, _)| *cell) {
            Ok(found) => self.cells[found].1 += ONE,
            Err(place) => self.cells.insert(place, (cell, ONE)),
        }
        self.total += u64::from(ONE);
        self.until -= 1;
        if self.until == 0 {
            for (_, count) in &mut self.cells {
                *count /= 2;
            }
            self.cells.retain(|(_, count)| *count > 0);
            self.total = self.cells.iter().map(|(_, count)| u64::from(*count)).sum();
            // As many again as made them, until there are as many as are remembered.
            self.until = (self.total * 2 / u64::from(ONE)).clamp(1, COUNTED_MAX / 2);
        }
    }

    /// How many records count.
    fn records(&self) -> f64 {
        self.total as f64 / f64::from(ONE)
    }

    /// How many lie at `place` or beyond, about.
    fn above(&self, place: f64) -> f64 {
        let cell = place.floor() as i32;
        let mut sum = 0.0;
        for &(at, count) in self.cells.iter().rev() {
            if at < cell {
                break;
            }
            let share = if at == cell {
                1.0 - (place - place.floor())
            } else {
                1.0
            };
            sum += f64::from(count) * share;
        }
        sum / f64::from(ONE)
    }

    /// The place that a share of about `above` lie beyond.
    fn quantile(&self, above: f64) -> f64 {
        let wanted = above * self.total as f64;
        let mut sum = 0.0;
        for &(cell, count) in self.cells.iter().rev() {
            let count = f64::from(count);
            if sum + count >= wanted {
                return f64::from(cell) + 1.0 - (wanted - sum) / count;
            }
            sum += count;
        }
        self.cells.first().map_or(0.0, |(cell, _)| f64::from(*cell))
    }

    /// The standard deviation of the errors, if they were normal: the larger of what their median and their 90 % quantile say.
    fn spread(&self) -> f64 {
        (Self::size(self.quantile(0.5)) / 0.674_49).max(Self::size(self.quantile(0.1)) / 1.644_85)
    }

    /// −ln of the probability of so large a size.
    fn surprise(&self, size: f64) -> f64 {
        let p = (self.above(size.log2() * CELLS) + 0.5) / (self.records() + 1.0);
        if p > TAIL {
            return -p.min(1.0).ln();
        }
        let (start, unit) = self.tail_of_sizes();
        -TAIL.ln() + ((size - start) / unit).clamp(0.0, EXCESSES_MAX)
    }

    /// Where the tail of the sizes begins, and their mean excess.
    fn tail_of_sizes(&self) -> (f64, f64) {
        let start = Self::size(self.quantile(TAIL));
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
        let body = (start - Self::size(self.quantile(0.5))) / (0.5_f64 / TAIL).ln();
        let mean = if count > 0.0 { sum / count } else { 0.0 };
        (start, mean.max(0.5 * body).max(f64::MIN_POSITIVE))
    }

    /// The tail of strangeness, by probability-weighted moments (Hosking and Wallis, "Parameter and Quantile Estimation for the Generalized
    /// Pareto Distribution", Technometrics 29, 1987), the shape drawn to what is known beforehand where excesses are few.
    fn tail(&self) -> StrangeTail {
        let records = self.records();
        let (share, least, most) = STRANGE_TAIL;
        let wanted = (share * records).max(least).min(most * records).max(1.0);
        let start = (self.quantile((wanted / records).min(1.0))).floor();
        let (mut k, mut sum, mut product) = (0.0, 0.0, 0.0);
        for &(cell, count) in self.cells.iter().rev() {
            if f64::from(cell) < start {
                break;
            }
            let count = f64::from(count) / f64::from(ONE);
            let excess = (f64::from(cell) + 0.5 - start) / STRANGE_CELLS;
            sum += count * excess;
            // Times how many are larger: those of the cells above, and half of the cell's own.
            product += count * excess * (k + 0.5 * count);
            k += count;
        }
        let (mean, lost) = (sum / k, product / (k * k));
        let (beforehand, worth) = SHAPE_PRIOR;
        let found = 2.0 - mean / (mean - 2.0 * lost);
        let shape = (k * found + worth * beforehand) / (k + worth);
        let shape = if shape.is_finite() { shape } else { beforehand };
        let shape = (shape + PREDICTIVE / (k + worth)).clamp(-0.25, 0.9);
        let above = ((k + 0.5) / (records + 1.0)).min(1.0);
        let end = if shape < 0.0 {
            inverse((above * records / UNHEARD_OF).max(1.0).ln(), shape)
        } else {
            f64::INFINITY
        };
        StrangeTail {
            start: start / STRANGE_CELLS,
            above,
            shape,
            scale: (mean * (1.0 - shape)).max(0.5 / STRANGE_CELLS),
            end,
        }
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
    fn a_season_begins_at_another_level_and_keeps_its_course() {
        let day = DAY_MS / STEP;
        for (times, more) in [(1.0, 40.0), (2.2, 0.0)] {
            let mut seasons = Seasons::default();
            let wave = wave(16 * day, 3);
            let steps = 10 * day + 30;
            let mut p = Vec::new();
            let mut off: f64 = 0.0;
            for (i, &(value, time)) in (0..).zip(&wave) {
                let stepped = i >= steps;
                let value = if stepped { times * value + more } else { value };
                if i == steps + 24 {
                    seasons.begin_anew(time);
                }
                // As in an episode that does not close.
                let found = seasons.take(value, time, !stepped);
                p.push(found.p);
                // What is expected from half a day on.
                if i > steps + 24 + day / 2 {
                    off = off.max((found.expected - value).abs());
                }
            }
            let rare = |of: std::ops::Range<i64>| {
                let some = &p[of.start as usize..of.end as usize];
                some.iter().filter(|p| **p < 1e-3).count()
            };
            assert_eq!(rare(steps..steps + 24), 24);
            assert!(
                rare(steps + 24..steps + 2 * day) < 6,
                "{}",
                rare(steps + 24..steps + 2 * day)
            );
            assert!(off < 4.0 * times, "{off}");
        }
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
            tally.add_size(1.0, 0.0);
        }
        tally.add_size(4.0, 0.0);
        // 99 in the cell [1, 2^⅛), one in [4, 4 · 2^⅛).
        assert_eq!(tally.cells, [(0, 99 * ONE), (16, ONE)]);
        assert!((tally.above(8.0) - 1.0).abs() < 1e-12);
        assert!((tally.above(0.0) - 100.0).abs() < 1e-12);
        assert!((tally.quantile(0.01) - 16.0).abs() < 1e-9);
        assert!((tally.surprise(1.0) + (100.5_f64 / 101.0).min(1.0).ln()).abs() < 1e-9);
        // Beyond 4 by twice the mean excess, which is that of the cell's middle: 4 (2^(1/16) − 1) = 0.177, or half of what the body leads
        // to: (4 − 2^(1/8 · 49.5/99)) / ln 50 / 2 = 0.378.
        let unit = 0.5 * (4.0 - Tally::size(tally.quantile(0.5))) / 50.0_f64.ln();
        let surprise = tally.surprise(4.0 + 2.0 * unit);
        assert!(
            (surprise - (100.0_f64.ln() + 2.0)).abs() < 1e-6,
            "{surprise}"
        );
    }

    #[test]
    fn old_sizes_are_forgotten_by_and_by() {
        let mut tally = Tally::default();
        for _ in 0..COUNTED_FIRST {
            tally.add(0.0);
        }
        assert_eq!(tally.cells, [(0, 128 * ONE)]);
        // Halved again when there are 256 more, of which the first are then a third.
        for _ in 0..256 {
            tally.add(1.0);
        }
        assert_eq!(tally.cells, [(0, 64 * ONE), (1, 128 * ONE)]);
        for _ in 0..200_000 {
            tally.add(2.0);
            assert!(tally.records() <= COUNTED_MAX as f64);
        }
        assert!(tally.cells.len() <= 3);
        assert!(tally.above(2.0) > 0.999 * tally.records());
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
    fn what_is_flagged_changes_p_values_but_no_score() {
        let (mut never, mut once) = (Seasons::default(), Seasons::default());
        let mut last = [1.0; 2];
        for (i, (value, time)) in wave(288 * 20, 3).into_iter().enumerate() {
            let fault = i >= 288 * 8;
            let value = value + if fault { 30.0 } else { 0.0 };
            let learnt = never.take(value, time, true);
            let flagged = once.take(value, time, !fault);
            assert!((learnt.onset - flagged.onset).abs() < 1e-12, "{i}");
            last = [learnt.p, flagged.p];
        }
        // Twelve days later it is ordinary where it was learnt, and still a fault where it was not.
        assert!(last[0] > 1e-3 && last[1] < 1e-6, "{last:?}");
        assert!(never.ranking.is_none() && once.ranking.is_some());
    }

    #[test]
    fn the_tail_of_strangeness_by_hand() {
        // 1,000 records, of which 40 lie beyond cell 16, halved from cell to cell as an exponential tail is.
        let mut tally = Tally::default();
        for (cell, count) in [(0, 940), (16, 32), (17, 16), (18, 8), (19, 4)] {
            tally.cells.push((cell, count * ONE));
            tally.total += u64::from(count * ONE);
        }
        let tail = tally.tail();
        assert!((tail.start - 1.0).abs() < 1e-9, "{tail:?}");
        assert!((tail.above - 60.5 / 1001.0).abs() < 1e-9);
        // Mean excess (32 · 0.5 + 16 · 1.5 + 8 · 2.5 + 4 · 3.5) / 60 / 16 = 0.0771, the shape a bounded one drawn to 0.1.
        assert!((tail.scale - 74.0 / 960.0 * (1.0 - tail.shape)).abs() < 1e-9);
        assert!((-0.25..0.1).contains(&tail.shape), "{tail:?}");
        for p in [0.05, 1e-3, 1e-5, 1e-30] {
            let back = tail.p_value(&tally, tail.threshold(&tally, p));
            assert!((back / p - 1.0).abs() < 1e-9, "{p} {back}");
        }
    }

    #[test]
    fn one_wild_record_is_not_the_measure_of_the_next() {
        let mut season = Season::default();
        for (value, time) in wave(288 * 10, 4) {
            season.take(value, time, true);
        }
        let at = |i: i64| Timestamp((288 * 10 + i) * STEP);
        let before = season.clone().take(115.0, at(1), false);
        assert!(season.take(1e6, at(0), true).p < 1e-12);
        let after = season.take(115.0, at(1), false);
        assert!(before.p < 1e-4 && after.p < 1e-3, "{before:?} {after:?}");
        assert!(
            after.strangeness > 0.4 * before.strangeness,
            "{before:?} {after:?}"
        );
    }

    #[test]
    fn little_that_was_counted_says_little() {
        // The first thirty records happen to be alike.
        let mut season = Season::default();
        for i in 0..30 {
            season.take(
                5.0 + 0.01 * f64::from(i % 2),
                Timestamp(i64::from(i) * STEP),
                true,
            );
        }
        let found = season.take(5.02, Timestamp(30 * STEP), true);
        assert!(found.p > 0.01, "{found:?}");
    }

    #[test]
    fn what_was_wild_and_is_calm_is_not_sure_of_itself() {
        // Hardly any strangeness for days, since errors became ten times smaller: a moderate one is not unheard of.
        let mut season = Season::default();
        for (i, (value, time)) in (0..).zip(wave(288 * 12, 6)) {
            let turn = TAU * f64::from(i) / 288.0;
            let calm = 100.0 + 10.0 * turn.sin();
            let value = if i < 288 * 10 {
                value
            } else {
                calm + 0.1 * (value - calm)
            };
            season.take(value, time, true);
        }
        for strangeness in [0.5, 1.0, 2.0, 4.0] {
            let bound = (-2.0_f64 * strangeness).exp() * (1.0 + 2.0 * strangeness);
            assert!(season.p_value(strangeness) >= bound);
            assert!(season.strange.tail().p_value(&season.strange, 4.0) < bound);
        }
    }

    #[test]
    fn what_was_flagged_for_a_short_while_is_counted_and_what_lasted_is_not() {
        for (flagged, counted) in [(WAITING_MAX, WAITING_MAX), (WAITING_MAX + 1, 0), (2000, 0)] {
            let mut season = Season::default();
            // Fewer than are halved.
            for (value, time) in wave(288 + 100, 7) {
                season.take(value, time, true);
            }
            let (seen, records) = (season.seen, season.strange.records());
            let mut still = season.clone();
            still.strange.until = 10_000;
            for i in 0..flagged {
                let time = Timestamp((388 + i as i64) * STEP);
                still.take(500.0, time, false);
            }
            assert!(still.waiting.len() <= WAITING_MAX + 1);
            still.take(100.0, Timestamp(3000 * STEP), true);
            assert_eq!(still.seen, seen + 1);
            let found = still.strange.records() - records;
            assert!(
                (found - (counted + 1) as f64).abs() < 1e-9,
                "{flagged} {found}"
            );
            assert!(still.waiting.is_empty());
        }
    }

    #[test]
    fn what_the_first_day_has_in_store_is_learnt_and_a_later_fault_is_not() {
        let square = |i: i64| if i % 288 < 96 { 0.0 } else { 50.0 };
        let mut season = Season::default();
        for i in 0..288 * 8 {
            // As if an episode were open all the time.
            season.take(square(i), Timestamp(i * STEP), false);
        }
        assert_eq!(season.seen, 288);
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
        assert!(season.take(5.0, Timestamp(0), true).p > 0.1);
    }
}
