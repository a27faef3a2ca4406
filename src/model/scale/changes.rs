//! Columns whose changes are judged, because where they stand says only how long they have run.
//!
//! Counters only grow, until something is reset (bytes sent, energy used, errors so far): what one counted since the record before is what may be strange, as
//! `rate()` of Prometheus has it. Trends go one way with noise on top (a filter that clogs, a battery that discharges, a disk that fills): tomorrow each stands
//! where it never was. Such a process is made stationary by its differences (Box and Jenkins, "Time Series Analysis", 1970, chapter 4), and it is these that a model sees.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView2, CowArray, Ix2};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use crate::stats::order::quantile_sorted;

/// Steps up, of all steps, from which on a column may count, and at least.
const UP_MIN: f64 = 0.01;
const UPS_MIN: usize = 20;

/// Steps down, of all steps, up to which they are resets; and of the steps up.
const DOWN_MAX: f64 = 0.001;
const DOWN_OF_UP: f64 = 0.02;

/// The share of steps up that lead to where the key never was: the hour of the day goes up most of the time, too, but comes back.
const NEW_MIN: f64 = 0.5;

/// Moves up of what counts so seldom that hardly a step goes up, at least: of what goes up and down alike, one in a thousand goes up so often in a row. And
/// of each key that moves: what was set anew once or twice has not begun to count.
const SELDOM_MIN: usize = 10;
const SELDOM_OF_KEY: usize = 3;

/// Moves up for each restart, at least, and where the key begins again: at a tenth of where it stood, at most.
const UPS_OF_RESTART: usize = 5;
const RESTARTS_AT: f64 = 0.1;

/// Restarts of a key up to which it may go through the same places after each; what does so more often is a saw, and so is what turns at the same place.
const RESTARTS_MAX: usize = 2;

/// Blocks of a key's time whose medians all go one way where there is a trend: by chance, of blocks in any order, two in 40,320 do.
const BLOCKS: usize = 8;

/// Pairs of the 28 of them that may lie level: what is read in whole numbers stands still between two of them. Kendall's S is then 24 at least, as it is
/// for one order of 1,150 of those that may be. A step has twelve, and a ramp that begins in the sixth block ten.
const LEVEL_MAX: usize = 4;

/// Values in a block, at least.
const BLOCK_MIN: usize = 20;

/// How far a trend gets from its first block to its last, in spreads within a block, at least: what goes slower stays where it was for as long as a model is used.
const FAR: f64 = 2.0;

/// How far at least in steps of what its values are read in: a setting that was changed twice got two far, and a little more or less by what is odd now and then.
const GRAINS: f64 = 2.25;

/// Which of D columns are judged by their changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Those that count, ascending.
    pub counters: Vec<usize>,
    /// Those that go one way, ascending.
    pub trends: Vec<usize>,
}

impl Changes {
    /// Finds, besides, those that count so seldom that single steps hardly tell, in values `n × D` as [`Self::with_trends`] has them.
    #[must_use]
    pub fn with_seldom<K: Ord>(
        mut self,
        values: ArrayView2<'_, f64>,
        of_key: &BTreeMap<K, Vec<usize>>,
        judged: impl Fn(usize) -> bool,
    ) -> Self {
        let counts = |column: &usize| {
            let of_column = |rows: &Vec<usize>| {
                let values = rows.iter().map(|&row| values[[row, *column]]);
                Moves::of(values.filter(|value| value.is_finite()))
            };
            let all: Option<Vec<Moves>> = of_key.values().map(of_column).collect();
            all.is_some_and(|all| Moves::count(&all))
        };
        let others = |column: &usize| judged(*column) && !self.counters.contains(column);
        let seldom: Vec<usize> = (0..values.ncols()).filter(others).filter(counts).collect();
        self.counters.extend(seldom);
        self.counters.sort_unstable();
        self
    }

    /// Finds those that go one way for at least half of the keys, in values `n × D` whose rows are given by key, in order of time.
    #[must_use]
    pub fn with_trends<K: Ord>(
        self,
        values: ArrayView2<'_, f64>,
        of_key: &BTreeMap<K, Vec<usize>>,
        judged: impl Fn(usize) -> bool,
    ) -> Self {
        let goes_one_way = |column: &usize| {
            let of_column = |rows: &Vec<usize>| {
                let values = rows.iter().map(|&row| values[[row, *column]]);
                trends(values.filter(|value| value.is_finite()).collect())
            };
            let known: Vec<bool> = of_key.values().filter_map(of_column).collect();
            let going = known.iter().filter(|&&goes| goes).count();
            going > 0 && 2 * going >= known.len()
        };
        let others = |column: &usize| judged(*column) && !self.counters.contains(column);
        let trends = (0..values.ncols()).filter(others).filter(goes_one_way);
        Self {
            trends: trends.collect(),
            counters: self.counters,
        }
    }

    /// Finds those that count in steps, `n × 2D` raw values: a record and the one of its key after it, each in one of several runs.
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
        let columns = (0..columns).filter(|at| judged(*at)).filter(counts);
        Self {
            counters: columns.collect(),
            trends: Vec::new(),
        }
    }

    /// Whether every column is judged by where it stands.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty() && self.trends.is_empty()
    }

    /// Whether they are among so many columns.
    pub fn fit(&self, columns: usize) -> bool {
        let among =
            |some: &[usize]| some.is_sorted_by(|a, b| a < b) && some.iter().all(|at| *at < columns);
        among(&self.counters)
            && among(&self.trends)
            && !self.trends.iter().any(|at| self.counters.contains(at))
    }

    /// Each column, and whether it counts.
    fn columns(&self) -> impl Iterator<Item = (usize, bool)> {
        let counters = self.counters.iter().map(|&at| (at, true));
        counters.chain(self.trends.iter().map(|&at| (at, false)))
    }

    /// Windows, `n × (W · D)`, with the changes of these columns instead of where they stand. A reset leaves what was counted unknown (NaN); of the oldest
    /// record a change is what it is of the next. Single records do not say what changed: 0.
    pub fn of<'r>(&self, rows: ArrayView2<'r, f64>, columns: usize) -> CowArray<'r, f64, Ix2> {
        if self.is_empty() {
            return rows.into();
        }
        let mut rows: Array2<f64> = rows.to_owned();
        for mut row in rows.rows_mut() {
            for (column, counts) in self.columns() {
                let places = || (column..row.len()).step_by(columns);
                let values: Vec<f64> = places().map(|at| row[at]).collect();
                let step = |pair: &[f64]| {
                    let counted = pair[1] - pair[0];
                    if counts && counted < 0.0 {
                        f64::NAN
                    } else {
                        counted
                    }
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

    /// Brings expected changes of newest records, `n × D`, to where their columns would stand, after `before`.
    pub fn stand(&self, expected: &mut Array2<f64>, before: ArrayView2<'_, f64>) {
        for (column, _) in self.columns() {
            let mut expected = expected.column_mut(column);
            expected += &before.column(column);
        }
    }
}

/// How a key's values move that only rise, or begin again near 0.
struct Moves {
    ups: usize,
    restarts: usize,
    /// To how many places it went up.
    places: usize,
    /// From how many it began again.
    tops: usize,
}

impl Moves {
    /// `None` if they fall to anywhere else.
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (mut ups, mut restarts, mut before) = (0, 0, f64::NAN);
        let (mut places, mut tops) = (FxHashSet::default(), FxHashSet::default());
        for value in values {
            if value < before {
                restarts += 1;
                tops.insert(before.to_bits());
                if value < 0.0 || value > RESTARTS_AT * before {
                    return None;
                }
            } else if value > before {
                ups += 1;
                places.insert(value.to_bits());
            }
            before = value;
        }
        Some(Self {
            ups,
            restarts,
            places: places.len(),
            tops: tops.len(),
        })
    }

    /// Whether keys that move like this count.
    fn count(all: &[Self]) -> bool {
        let sum = |of: fn(&Self) -> usize| all.iter().map(of).sum::<usize>();
        let (ups, restarts) = (sum(|key| key.ups), sum(|key| key.restarts));
        let moving = all.iter().filter(|key| key.ups + key.restarts > 0).count();
        let saw = |key: &&Self| {
            let anew = key.places as f64 >= NEW_MIN * key.ups as f64;
            key.tops < key.restarts || (key.restarts > RESTARTS_MAX && !anew)
        };
        let restarted = || all.iter().filter(|key| key.restarts > 0);
        ups >= SELDOM_MIN.max(SELDOM_OF_KEY * moving)
            && ups >= UPS_OF_RESTART * restarts
            && 2 * restarted().filter(saw).count() <= restarted().count()
    }
}

/// Whether a key's values go one way; nothing if they are too few to say.
fn trends(values: Vec<f64>) -> Option<bool> {
    if values.len() < BLOCKS * BLOCK_MIN {
        return None;
    }
    let block = |place: usize| {
        let ends = [place, place + 1].map(|end| end * values.len() / BLOCKS);
        let mut block = values[ends[0]..ends[1]].to_vec();
        block.sort_unstable_by(f64::total_cmp);
        let [low, high] = [0.16, 0.84].map(|q| quantile_sorted(&block, q));
        (mid_median(&block), (high - low) / 2.0)
    };
    let (middles, mut spreads): (Vec<f64>, Vec<f64>) = (0..BLOCKS).map(block).unzip();
    spreads.sort_unstable_by(f64::total_cmp);
    let far = (middles[BLOCKS - 1] - middles[0]).abs();
    let spread = quantile_sorted(&spreads, 0.5);
    Some(one_way(&middles) && far >= FAR * spread && far > GRAINS * grain(values))
}

/// The step that values are read in: the median distance between neighbours of those that there are; 0 if there is but one.
fn grain(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.dedup();
    let mut gaps: Vec<f64> = values.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable_by(f64::total_cmp);
    if gaps.is_empty() {
        return 0.0;
    }
    quantile_sorted(&gaps, 0.5)
}

/// Whether no block lies back from one before it, and few lie level (Mann and Kendall's test, of the strictest kind).
fn one_way(middles: &[f64]) -> bool {
    let pairs = || {
        let later = |i: usize| middles[i + 1..].iter().map(move |b| (middles[i], *b));
        (0..middles.len()).flat_map(later)
    };
    let (up, down) = (
        pairs().filter(|(a, b)| b > a).count(),
        pairs().filter(|(a, b)| b < a).count(),
    );
    up.min(down) == 0 && pairs().count() - up.max(down) <= LEVEL_MAX
}

/// The median of ascending values by their mid-distribution: between two values by how many there are of each. Where none are equal it is the median; of
/// whole numbers it tells how far they got on their way from one to the next (Ma, Genton and Parzen, "Asymptotic properties of sample quantiles of discrete
/// distributions", 2011).
fn mid_median(sorted: &[f64]) -> f64 {
    let half = sorted.len() as f64 / 2.0;
    let (mut seen, mut below) = (0.0, None);
    for equal in sorted.chunk_by(|a, b| a.total_cmp(b).is_eq()) {
        let (value, mid) = (equal[0], seen + equal.len() as f64 / 2.0);
        if mid >= half {
            let between =
                |(before, at): (f64, f64)| before + (value - before) * (half - at) / (mid - at);
            return below.map_or(value, between);
        }
        below = Some((value, mid));
        seen += equal.len() as f64;
    }
    below.map_or(f64::NAN, |(value, _)| value)
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
        !Changes::find(steps.view(), &vec![0; 3000], |_| true).is_empty()
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

    /// One column of so many records of each of so many keys that take turns, and which rows are whose.
    fn turns(
        (records, keys): (usize, usize),
        value: impl Fn(usize, usize) -> f64,
    ) -> (Array2<f64>, BTreeMap<usize, Vec<usize>>) {
        let shape = (records * keys, 1);
        let values = Array2::from_shape_fn(shape, |(row, _)| value(row % keys, row / keys));
        let rows = |key| (0..records).map(|i| i * keys + key).collect();
        (values, (0..keys).map(|key| (key, rows(key))).collect())
    }

    /// Whether keys with these values count seldom.
    fn seldom(keys: &[&dyn Fn(usize) -> f64]) -> bool {
        let (values, of_key) = turns((3000, keys.len()), |key, i| keys[key](i));
        let found = Changes::default().with_seldom(values.view(), &of_key, |_| true);
        found.counters == [0]
    }

    #[test]
    fn what_hardly_ever_counts_counts_too_and_what_is_set_or_comes_back_does_not() {
        let whole = |value: usize| value as f64;
        assert!(seldom(&[&|i| whole(i / 250)]), "errors");
        assert!(seldom(&[&|i| 312.0 + whole(i / 250)]), "for long");
        let life = |i: usize| if i < 2000 { i } else { i - 2000 };
        assert!(seldom(&[&|i| whole(life(i) / 200)]), "a restart");
        let lives = |i: usize| [i, i.wrapping_sub(1200), i.wrapping_sub(2200)];
        let lives = |i: usize| lives(i).into_iter().filter(|&life| life < 3000).min();
        assert!(
            seldom(&[&|i| whole(lives(i).unwrap_or(0) / 60)]),
            "two, each through the same"
        );
        assert!(seldom(&[&|i| whole(i / 500), &|i| whole(i / 400), &|_| {
            0.0
        }]));
        assert!(!seldom(&[&|_| 5.0]) && !seldom(&[&|_| f64::NAN]));
        assert!(!seldom(&[&|i| whole(i / 350)]), "too few to say");
        assert!(!seldom(&[&|i| whole(i / 10 % 3)]), "a state");
        assert!(!seldom(&[&|i| whole(i / 40 % 2)]), "a command");
        assert!(!seldom(&[&|i| whole(i / 60 % 24)]), "the hour of the day");
        assert!(
            !seldom(&[&|i| whole((i % 500) / 50)]),
            "a queue that is emptied"
        );
        let since = |i: usize| [2250, 1800, 1200, 500, 0].into_iter().find(|at| *at <= i);
        let emptied = |i: usize| whole((i - since(i).unwrap_or(0)) / 50);
        assert!(!seldom(&[&emptied]), "at any time");
        let phases = |i: usize| whole(if i < 2600 { i / 700 } else { 0 });
        assert!(!seldom(&[&phases, &phases, &phases, &phases]), "phases");
        assert!(
            !seldom(&[&|i| whole(i / 100) - 2.0 * whole(i / 900)]),
            "a gauge"
        );
        assert!(
            !seldom(&[&|i| 60.0 + whole((i % 2000) / 100)]),
            "a disk that is tidied"
        );
        assert!(!seldom(&[&|i| -whole(i / 100)]), "a battery");
        // Each of twenty machines was set anew once; and one of two that count is put back.
        let set: Vec<Box<dyn Fn(usize) -> f64>> = (0..20_usize)
            .map(|key| Box::new(move |i: usize| whole(usize::from(i > 100 * key) + 7)) as _)
            .collect();
        let set: Vec<&dyn Fn(usize) -> f64> = set.iter().map(AsRef::as_ref).collect();
        assert!(!seldom(&set));
        assert!(!seldom(&[&|i| whole(i / 100), &|i| whole(
            i / 100 - usize::from(i > 2000)
        )]));
    }

    #[test]
    fn windows_have_what_was_counted() {
        let counters = Changes {
            counters: vec![1],
            trends: Vec::new(),
        };
        let windows = array![
            [1.0, 100.0, 2.0, 103.0, 3.0, 110.0],
            [1.0, 100.0, 2.0, 4.0, 3.0, f64::NAN]
        ];
        let seen = counters.of(windows.view(), 2);
        assert_eq!(seen.row(0).to_vec(), [1.0, 3.0, 2.0, 3.0, 3.0, 7.0]);
        let reset = seen.row(1);
        assert!([1, 3, 5].iter().all(|at| reset[*at].is_nan()), "{reset}");
        let single = counters.of(array![[1.0, 1e9]].view(), 2).to_owned();
        assert_eq!(single, array![[1.0, 0.0]]);
        let mut expected = array![[5.0, 6.0]];
        counters.stand(&mut expected, array![[2.0, 103.0]].view());
        assert_eq!(expected, array![[5.0, 109.0]]);
    }

    /// Whether values that these functions of time make go one way, for the keys together.
    fn trend(keys: &[&dyn Fn(f64) -> f64]) -> bool {
        trend_of(keys, |value| value)
    }

    /// The same, as somebody reads them.
    fn trend_of(keys: &[&dyn Fn(f64) -> f64], read: impl Fn(f64) -> f64) -> bool {
        let n = 4000;
        let (values, of_key) = turns((n, keys.len()), |key, i| {
            let noise = (((i * keys.len() + key) * 7919) % 997) as f64 / 997.0 - 0.5;
            read(keys[key](i as f64 / n as f64) + noise)
        });
        let found = Changes::default().with_trends(values.view(), &of_key, |_| true);
        found.trends == [0]
    }

    #[test]
    fn what_goes_one_way_is_a_trend_and_what_comes_back_or_steps_is_not() {
        assert!(trend(&[&|t| 3.0 * t]) && trend(&[&|t| -3.0 * t]));
        assert!(trend(&[&|t| 5.0 * t.sqrt()]));
        assert!(!trend(&[&|_| 0.0]));
        assert!(!trend(&[&|t| 0.3 * t]), "too slow to get anywhere");
        assert!(!trend(&[&|t| 3.0 * (9.0 * t).sin()]), "a daily course");
        assert!(!trend(&[&|t| if t > 0.7 { 5.0 } else { 0.0 }]), "a step");
        assert!(
            !trend(&[&|t| (20.0 * (t - 0.7)).max(0.0)]),
            "a ramp that begins late is a fault"
        );
        // Most keys decide.
        assert!(trend(&[&|t| 3.0 * t, &|t| -4.0 * t, &|_| 0.0]));
        assert!(!trend(&[&|t| 3.0 * t, &|_| 0.0, &|_| 0.0]));
    }

    #[test]
    fn a_trend_in_whole_numbers_is_one_and_what_stands_or_steps_is_not() {
        let whole = |keys: &[&dyn Fn(f64) -> f64]| trend_of(keys, f64::round);
        for begins in [88.0, 88.2, 88.5, 88.9] {
            for falls in [3.0, 4.0, 5.0, 11.0] {
                assert!(whole(&[&|t| begins - falls * t]), "{begins} {falls}");
            }
            // As a display has it, without noise.
            assert!(trend_of(&[&|t| begins + 6.0 * t], f64::floor));
        }
        assert!(!whole(&[&|_| 88.2]) && !trend_of(&[&|_| 88.2], |_| 88.0));
        assert!(!whole(&[&|t| 88.0 - 1.5 * t]), "no further than its noise");
        assert!(!whole(&[&|t| if t > 0.7 { 5.0 } else { 0.0 }]), "a step");
        let late = |t: f64| (20.0 * (t - 0.7)).max(0.0);
        assert!(!whole(&[&late]) && !trend_of(&[&late], f64::floor));
        assert!(!whole(&[&|t| 3.0 * (9.0 * t).sin()]), "a daily course");
        assert!(!whole(&[&|t| (40.0 * t).floor() % 2.0]), "a command");
        let set_twice = |t: f64| f64::from(u8::from(t > 0.31)) + f64::from(u8::from(t > 0.69));
        assert!(!trend_of(&[&set_twice], f64::floor) && !trend_of(&[&set_twice], f64::round));
    }

    #[test]
    fn medians_tell_how_far_whole_numbers_got() {
        let of = [&[1.0, 2.0, 4.0][..], &[1.0, 2.0, 4.0, 9.0], &[7.0; 5]].map(mid_median);
        assert_eq!(of.to_vec(), [2.0, 3.0, 7.0]);
        let of = |below: usize| mid_median(&[vec![87.0; below], vec![88.0; 100 - below]].concat());
        assert!((of(40) - 87.6).abs() < 1e-9 && (of(90) - 87.1).abs() < 1e-9);
        assert!(mid_median(&[]).is_nan());
        let back = [0.0, 1.0, 2.0, 4.0, 3.0, 5.0, 6.0, 7.0];
        assert!(!one_way(&back) && one_way(&[0.0, 1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
    }

    #[test]
    fn trends_are_seen_by_their_changes_both_ways() {
        let changes = Changes {
            counters: Vec::new(),
            trends: vec![0],
        };
        let windows = array![[5.0, 7.0, 4.0, f64::NAN]];
        let seen = changes.of(windows.view(), 1);
        assert_eq!(seen.row(0).to_vec()[..3], [2.0, 2.0, -3.0]);
        assert!(seen[[0, 3]].is_nan());
        assert!(changes.fit(1) && !changes.fit(0));
    }
}
