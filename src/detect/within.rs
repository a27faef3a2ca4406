//! A fault within an episode: what comes on top of what is strange already.
//!
//! A machine that was moved to another regime, or a sensor that is broken for weeks, is one long episode: nobody has said that it is normal, and
//! nothing of it is learnt. That must not hide every other fault of the key. So, once an episode has lasted for [`FIRST_RECORDS`], its records are
//! also judged against those before them in the same episode: by how their surprise −ln p is distributed there.
//! The body by mean and standard deviation; above the upper quantile of [`UPPER`], an exponential tail with the mean excess over that quantile (the
//! method of peaks over threshold in its plainest form: Davison and Smith, "Models for Exceedances over High Thresholds", JRSS B 52, 1990). The
//! quantile is followed by stochastic approximation (Robbins and Monro, Annals of Mathematical Statistics 22, 1951) with the step that the tail's
//! own density makes best. Evidence of these p-values gathers and opens episodes like any other.
//!
//! Assumes that the episode is stationary but for a drift over some thousand records. One that grows without end keeps a second episode open.

use super::episode::{Change, Episode, EpisodeState, Reading, Rule};
use crate::stats::evidence::surprise;
use crate::stream::Offset;

/// Records of an episode that only show how it is: as long as the longest default time scale of evidence.
pub const FIRST_RECORDS: u64 = 300;

/// Records that what is usual in the episode is reckoned from.
const MEMORY: f64 = 2000.0;

/// The share of records in the tail.
const UPPER: f64 = 0.05;

/// Mean excesses beyond the quantile that a record may count for, when it is learnt from.
const LEARNT_MAX: f64 = 8.0;

/// The least standard deviation and mean excess, in nats: surprise that does not vary says nothing about the next.
const LEAST: f64 = 0.1;

/// How the records of an episode are, and what opened within it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Within {
    /// Records seen.
    pub records: u64,
    /// Mean surprise ...
    pub mean: f64,
    /// ... and its variance.
    pub variance: f64,
    /// The surprise that a share of [`UPPER`] exceeds ...
    pub quantile: f64,
    /// ... and by how much they do, in the mean.
    pub excess: f64,
    /// The episodes within.
    pub episodes: EpisodeState,
}

/// All episodes of a key: its own, and those on top of one that lasts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyEpisodes {
    /// Those by the p-values of its records.
    pub own: EpisodeState,
    /// What comes on top of the open one.
    pub within: Option<Box<Within>>,
}

impl KeyEpisodes {
    /// Takes in a record of the open episode once more, for what may come on top of it: `rule` is that for what is judged by a key's own past.
    pub fn judge_within(&mut self, rule: &Rule, reading: Reading) -> Change {
        if self.own.open.is_none() {
            return Change::None;
        }
        self.within.get_or_insert_default().judge(rule, reading)
    }

    /// The open episode, and that within it.
    pub fn all_open(&self) -> impl Iterator<Item = &Episode> {
        let within = self.within.as_ref();
        let within = within.and_then(|within| within.episodes.open.as_ref());
        self.own.open.iter().chain(within)
    }

    /// Notes whether the alert of the open episode that began at `onset` is suppressed.
    pub fn suppress(&mut self, onset: Offset, suppressed: bool) {
        let within = self.within.as_mut();
        let within = within.and_then(|within| within.episodes.open.as_mut());
        let mut open = self.own.open.iter_mut().chain(within);
        if let Some(episode) = open.find(|open| open.onset == onset) {
            episode.suppressed = suppressed;
        }
    }

    /// Ends what goes on within an episode that ended.
    pub fn end_within(&mut self) -> Option<Episode> {
        self.within.take()?.episodes.open
    }
}

impl Within {
    /// Takes in a record of the episode; `rule` is that for what is judged by a key's own past.
    pub fn judge(&mut self, rule: &Rule, reading: Reading) -> Change {
        let surprise = surprise(reading.p);
        let p = self.p(surprise);
        self.learn(surprise);
        let Some(p) = p else { return Change::None };
        let reading = Reading {
            p,
            by_model: None,
            ..reading
        };
        self.episodes.judge(rule, reading)
    }

    /// The share of the episode's records that are as surprising; `None` while too few are known.
    fn p(&self, surprise: f64) -> Option<f64> {
        if self.records < FIRST_RECORDS {
            return None;
        }
        let tail = -UPPER.ln();
        let strength = if surprise > self.quantile {
            tail + (surprise - self.quantile) / self.excess.max(LEAST)
        } else {
            let deviation = self.variance.sqrt().max(LEAST);
            (1.0 + (surprise - self.mean) / deviation).clamp(0.0, tail)
        };
        Some((-strength).exp())
    }

    fn learn(&mut self, surprise: f64) {
        self.records += 1;
        let gain = 1.0 / MEMORY.min(self.records as f64);
        let known = surprise.min(if self.records > FIRST_RECORDS {
            self.quantile + LEARNT_MAX * self.excess.max(LEAST)
        } else {
            f64::INFINITY
        });
        let apart = known - self.mean;
        self.mean += gain * apart;
        self.variance = (1.0 - gain) * (self.variance + gain * apart * apart);
        if self.records < FIRST_RECORDS / 3 {
            // As of an exponential distribution, until there are enough to tell.
            let deviation = self.variance.sqrt();
            self.quantile = self.mean + deviation * (-UPPER.ln() - 1.0);
            self.excess = deviation;
            return;
        }
        let above = surprise > self.quantile;
        if above {
            let gain = (gain / UPPER).min(0.1);
            self.excess += gain * (known - self.quantile - self.excess);
        }
        let step = gain * self.excess.max(LEAST) / UPPER;
        self.quantile += step * (f64::from(u8::from(above)) - UPPER);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::Rng;
    use rand_distr::{Distribution, Gamma, Normal};

    use super::*;
    use crate::detect::{Budget, Params};
    use crate::seed::Seed;
    use crate::stream::Offset;
    use crate::time::Timestamp;

    /// Once a minute.
    const PER_DAY: i64 = 1440;

    fn rule(budget: f64) -> Rule {
        let params = Params {
            budget: Budget::PerKeyDay(budget),
            cooldown: Duration::ZERO,
            ..Params::default()
        };
        Rule::without_model(&params, None)
    }

    fn reading(record: i64, surprise: f64) -> Reading {
        Reading {
            p: (-surprise).exp(),
            by_model: None,
            score: surprise,
            offset: Offset(record),
            time: Timestamp(record * 86_400_000 / PER_DAY),
        }
    }

    /// The surprise of each record.
    type Regime = Box<dyn FnMut(i64) -> f64>;

    /// Regimes that are strange all the time: surprise of mean 6 to 9, wide and narrow, bounded, and with a daily course.
    fn regimes() -> Vec<(&'static str, Regime)> {
        let mut rng = Seed(3).rng();
        let mut wide = Seed(4).rng();
        let mut bounded = Seed(5).rng();
        let mut daily = Seed(6).rng();
        let narrow = Normal::new(9.0, 0.6).unwrap();
        let gamma = Gamma::new(2.0, 3.0).unwrap();
        vec![
            ("narrow", Box::new(move |_| narrow.sample(&mut rng))),
            ("wide", Box::new(move |_| gamma.sample(&mut wide))),
            ("bounded", Box::new(move |_| bounded.gen_range(5.0..7.0))),
            (
                "daily",
                Box::new(move |record| {
                    let day = std::f64::consts::TAU * (record % PER_DAY) as f64 / PER_DAY as f64;
                    7.0 + day.sin() + daily.gen_range(-1.0..1.0)
                }),
            ),
        ]
    }

    #[test]
    fn a_regime_that_lasts_opens_hardly_more_than_the_budget() {
        let rule = rule(1.0);
        for (name, mut regime) in regimes() {
            let mut within = Within::default();
            let days = 60;
            let opened = (0..days * PER_DAY)
                .filter(|&record| {
                    let change = within.judge(&rule, reading(record, regime(record)));
                    matches!(change, Change::Opened(_))
                })
                .count();
            assert!(opened <= 90, "{name}: {opened} in {days} days");
        }
    }

    #[test]
    fn what_comes_on_top_opens_and_closes() {
        let rule = rule(1.0);
        for (name, mut regime) in regimes() {
            let mut within = Within::default();
            let (mut opened, mut closed) = (None, None);
            for record in 0..5000 {
                let more = if (4000..4010).contains(&record) {
                    20.0
                } else {
                    0.0
                };
                let change = within.judge(&rule, reading(record, regime(record) + more));
                match change {
                    Change::Opened(_) if record >= 4000 => opened = opened.or(Some(record)),
                    Change::Closed(_) if opened.is_some() => closed = closed.or(Some(record)),
                    _ => {}
                }
            }
            assert!(opened.is_some_and(|at| at < 4010), "{name}: {opened:?}");
            assert!(closed.is_some_and(|at| at < 4200), "{name}: {closed:?}");
        }
    }

    #[test]
    fn the_first_records_only_show_how_the_episode_is() {
        let rule = rule(1.0);
        let mut within = Within::default();
        for record in 0..FIRST_RECORDS as i64 {
            let spike = if record == 200 { 600.0 } else { 0.0 };
            assert_eq!(
                within.judge(&rule, reading(record, 5.0 + spike)),
                Change::None
            );
        }
    }
}
