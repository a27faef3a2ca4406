//! Which columns the calendar tells, and how finely.

use std::collections::BTreeMap;

use ndarray::ArrayView1;

use super::grain::Grain;
use crate::record::calendar::Hour;

/// The share of a column's squared deviations that the hour must take away on days that were left out, for the column to be judged by it.
const GAIN_MIN: f64 = 0.1;

/// The share of days on which it must take some away ...
const DAYS_BETTER: f64 = 0.67;

/// ... and that of the keys: a course that most have must not be held against those that have none, or another.
const KEYS_BETTER: f64 = 0.9;

/// Hours of a key from which on it has a say.
const HOURS_MIN: usize = 24;

/// How much more of the squares a coarser grain may leave than the best one.
const AS_GOOD: f64 = 1.05;

/// Spreads beyond which a value counts as that far: what is wild decides nothing.
const FAR: f64 = 5.0;

/// Whether, and how finely, the calendar tells what a column will be: by leaving out each day, and telling it by the others (cross-validation in
/// blocks; Roberts et al., "Cross-validation strategies for data with temporal, spatial, hierarchical, or phylogenetic structure", Ecography 40, 2017).
pub struct Choice {
    hours: Vec<OneHour>,
    days: usize,
    keys: usize,
    /// By grain.
    groups: Vec<Groups>,
}

/// An hour of a day of a key, with the same categories.
struct OneHour {
    key: usize,
    day: usize,
    rows: Vec<usize>,
}

/// Hours of one combination, at some grain.
struct Groups {
    /// Of each hour: its combination, and that combination on its day.
    of: Vec<(usize, usize)>,
    all: usize,
    days: usize,
}

/// Of the values of an hour.
#[derive(Clone, Copy, Default)]
struct Sums {
    n: f64,
    sum: f64,
    squares: f64,
}

/// Squares that are left, by day and by key.
struct Left {
    days: Vec<f64>,
    keys: Vec<f64>,
}

impl Left {
    fn all(&self) -> f64 {
        self.days.iter().sum()
    }

    /// Whether it is enough less than where the calendar says nothing; `counts` tells which keys have a say.
    fn helps(&self, without: &Self, counts: &[bool]) -> bool {
        let better = |(own, none): &(&f64, &f64)| own < none;
        let days = self.days.iter().zip(&without.days);
        let keys = || {
            let keys = self.keys.iter().zip(&without.keys).zip(counts);
            keys.filter(|(_, counts)| **counts).map(|(pair, _)| pair)
        };
        self.all() <= (1.0 - GAIN_MIN) * without.all()
            && days.filter(better).count() as f64 >= DAYS_BETTER * self.days.len() as f64
            && keys().filter(better).count() as f64 >= KEYS_BETTER * keys().count() as f64
    }
}

impl Choice {
    /// Of so many `rows`: `key` gives whose each is, `categories` the codes of its categories, `hour` what the calendar says of it.
    pub fn of(
        rows: usize,
        key: impl Fn(usize) -> usize,
        mut categories: impl FnMut(usize, &mut Vec<u16>),
        hour: impl Fn(usize) -> Option<Hour>,
    ) -> Self {
        // By key, categories, day and hour.
        type Place = (usize, Vec<u16>, i64, u16);
        let mut found: BTreeMap<Place, (Hour, Vec<usize>)> = BTreeMap::new();
        let mut code = Vec::new();
        for at in 0..rows {
            let Some(hour) = hour(at) else { continue };
            categories(at, &mut code);
            let place = (key(at), code.clone(), hour.day, hour.hour);
            let (_, rows) = found.entry(place).or_insert((hour, Vec::new()));
            rows.push(at);
        }
        let (day, days) = numbered(found.keys().map(|(_, _, day, _)| *day));
        let (of_key, keys) = numbered(found.keys().map(|(key, ..)| *key));
        let groups = Grain::ALL.iter().map(|grain| {
            let code = |((_, code, ..), (hour, _)): (&Place, &(Hour, Vec<usize>))| {
                (code.clone(), grain.code(*hour), hour.day)
            };
            let (on_day, days) = numbered(found.iter().map(code));
            let all = found.iter().map(code).map(|(code, hour, _)| (code, hour));
            let (of, all) = numbered(all);
            Groups {
                of: of.into_iter().zip(on_day).collect(),
                all,
                days,
            }
        });
        let groups = groups.collect();
        let hours = found.into_values().zip(day.into_iter().zip(of_key));
        let hours = hours.map(|((_, rows), (day, key))| OneHour { key, day, rows });
        Self {
            hours: hours.collect(),
            days,
            keys,
            groups,
        }
    }

    /// The finest grain by which `column` is told, as a place in [`Grain::ALL`]: [`Grain::ANY`] where the calendar tells nothing of it.
    pub fn finest(&self, column: ArrayView1<'_, f64>, (centre, spread): (f64, f64)) -> usize {
        let sums: Vec<Sums> = (self.hours.iter())
            .map(|hour| {
                let mut sums = Sums::default();
                for row in &hour.rows {
                    let unit = ((column[*row] - centre) / spread).clamp(-FAR, FAR);
                    if unit.is_finite() {
                        sums.n += 1.0;
                        sums.sum += unit;
                        sums.squares += unit * unit;
                    }
                }
                sums
            })
            .collect();
        let mut hours = vec![0; self.keys];
        for (hour, sums) in self.hours.iter().zip(&sums) {
            hours[hour.key] += usize::from(sums.n > 0.0);
        }
        let counts: Vec<bool> = hours.into_iter().map(|hours| hours >= HOURS_MIN).collect();
        // What the hours of each combination were like on the other days.
        let means: Vec<Vec<Option<f64>>> = (self.groups.iter())
            .map(|groups| groups.others(&sums))
            .collect();
        let without = self.left(&sums, &means[Grain::ANY..]);
        let left = (0..Grain::ANY).map(|grain| (grain, self.left(&sums, &means[grain..])));
        let useful: Vec<(usize, f64)> = left
            .filter(|(_, left)| left.helps(&without, &counts))
            .map(|(grain, left)| (grain, left.all()))
            .collect();
        let best = useful
            .iter()
            .map(|(_, all)| *all)
            .fold(f64::INFINITY, f64::min);
        let as_good = useful
            .into_iter()
            .rev()
            .find(|(_, all)| *all <= AS_GOOD * best);
        as_good.map_or(Grain::ANY, |(grain, _)| grain)
    }

    /// What is left where each hour is told by the first of the means that knows it.
    fn left(&self, sums: &[Sums], means: &[Vec<Option<f64>>]) -> Left {
        let mut left = Left {
            days: vec![0.0; self.days],
            keys: vec![0.0; self.keys],
        };
        for (at, (hour, sums)) in self.hours.iter().zip(sums).enumerate() {
            let Some(mean) = means.iter().find_map(|means| means[at]) else {
                continue;
            };
            let squares = sums.squares - 2.0 * mean * sums.sum + sums.n * mean * mean;
            left.days[hour.day] += squares;
            left.keys[hour.key] += squares;
        }
        left
    }
}

impl Groups {
    /// The mean of each hour's combination on the other days.
    fn others(&self, sums: &[Sums]) -> Vec<Option<f64>> {
        let (mut all, mut on_day) = (vec![(0.0, 0.0); self.all], vec![(0.0, 0.0); self.days]);
        for (&(of, day), sums) in self.of.iter().zip(sums) {
            for total in [&mut all[of], &mut on_day[day]] {
                total.0 += sums.n;
                total.1 += sums.sum;
            }
        }
        let mean = |&(of, day): &(usize, usize)| {
            let n = all[of].0 - on_day[day].0;
            (n > 0.0).then(|| (all[of].1 - on_day[day].1) / n)
        };
        self.of.iter().map(mean).collect()
    }
}

/// Numbers for equal things, and how many there are.
fn numbered<T: Ord>(of: impl Iterator<Item = T>) -> (Vec<usize>, usize) {
    let mut known = BTreeMap::new();
    let numbers = of.map(|one| {
        let next = known.len();
        *known.entry(one).or_insert(next)
    });
    (numbers.collect(), known.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use ndarray::Array1;
    use rand_distr::{Distribution, StandardNormal};

    const MONDAY: i64 = 20_605;

    /// How finely is told a column with unit noise, an observation every ten minutes of each key, by key and hours since Monday.
    fn told(days: usize, keys: usize, value: impl Fn(usize, f64) -> f64) -> Option<Grain> {
        let mut rng = Seed(5).rng();
        let rows = days * 144 * keys;
        let hours: Vec<f64> = (0..rows).map(|row| (row / keys) as f64 / 6.0).collect();
        let hour = |row: usize| Hour::of((MONDAY * 24) as f64 + hours[row]);
        let column: Array1<f64> = (0..rows)
            .map(|row| {
                let noise: f64 = StandardNormal.sample(&mut rng);
                value(row % keys, hours[row]) + noise
            })
            .collect();
        let choice = Choice::of(rows, |row| row % keys, |_, _| (), hour);
        let mean = column.mean().unwrap();
        let finest = choice.finest(column.view(), (mean, column.std(0.0)));
        Some(Grain::ALL[finest]).filter(|grain| *grain != Grain::Any)
    }

    fn wave(hour: f64) -> f64 {
        3.0 * (hour / 24.0 * std::f64::consts::TAU).sin()
    }

    #[test]
    fn a_daily_course_is_told_by_the_hour_and_a_weekly_one_by_the_part_of_the_week() {
        assert_eq!(told(5, 1, |_, hour| wave(hour)), Some(Grain::Day));
        let weekly = |_: usize, hour: f64| {
            let works = hour / 24.0 % 7.0 < 5.0;
            if works { wave(hour) } else { 0.0 }
        };
        assert_eq!(told(14, 1, weekly), Some(Grain::Part));
    }

    #[test]
    fn what_the_hour_does_not_explain_is_told_by_nothing() {
        assert_eq!(told(5, 1, |_, _| 0.0), None);
        // Another cycle than the day's; a drift; a single day; and what was so on one day of four.
        assert_eq!(told(6, 1, |_, hour| wave(hour * 24.0 / 17.0)), None);
        assert_eq!(told(6, 1, |_, hour| hour / 20.0), None);
        assert_eq!(told(1, 1, |_, hour| wave(hour)), None);
        let once = |_: usize, hour: f64| 8.0 * f64::from(u8::from((30.0..36.0).contains(&hour)));
        assert_eq!(told(4, 1, once), None);
    }

    #[test]
    fn a_course_that_only_some_keys_have_is_held_against_none() {
        let all = told(4, 4, |_, hour| wave(hour));
        assert!(all.is_some());
        assert_eq!(
            told(4, 4, |key, hour| if key < 3 { wave(hour) } else { 0.0 }),
            None
        );
    }
}
