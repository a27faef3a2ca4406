//! Episodes: one fault of one key, from open to close. A state machine over p-values; no I/O, no clock.
//!
//! Closed → open: k of the last n records at or below the budget, or one extreme one. Open → closed: enough calm records in a row, where calm
//! needs more than the budget (hysteresis), so that an episode does not flicker. Within the cooldown the same key reopens the
//! old episode.
//!
//! What comes after a fault is seldom quite what was before: a loop refills, a queue drains. By the model of before it is a little
//! strange, and hysteresis alone would hold the episode open for as long. So calm is judged by the episode too: strangeness is −ln p, and a
//! record within the budget is calm when it has come back half of the way (`recovery`) from the episode's mean strangeness. During the
//! cooldown records that lie below that mark do not reopen it, unless they are extreme.

use std::time::Duration;

use super::Params;
use crate::alert::Severity;
use crate::stream::Offset;
use crate::time::Timestamp;

/// The longest stretch of records over which exceedances are counted.
pub const OPEN_N_MAX: usize = 1000;

/// The largest p-value that calm may ask for: half of all normal records are calm whatever the budget, so that every episode can close.
const CALM_MAX: f64 = 0.5;

/// What the state machine decides by, once the budget is a p-value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// At or below it a record counts as anomalous.
    pub budget: f64,
    /// At or below it one record opens an episode.
    pub extreme: f64,
    /// Above it a record is calm.
    pub calm: f64,
    /// Share of the way back from an episode's mean strangeness to `calm` that makes a record calm.
    pub recovery: f64,
    /// k of n.
    pub open_k: usize,
    /// k of n.
    pub open_n: usize,
    /// Calm records in a row that close.
    pub close_after: usize,
    /// Event time after a close in which the old episode is reopened.
    pub cooldown: Duration,
}

impl Rule {
    /// The rule of `params`, for keys that send `records_per_key_day`.
    #[must_use]
    pub fn new(params: &Params, records_per_key_day: f64) -> Self {
        let budget = params.budget.p_value(records_per_key_day);
        Self {
            budget,
            extreme: budget * params.extreme,
            calm: (budget * params.hysteresis).min(CALM_MAX),
            recovery: params.recovery,
            open_k: params.open_k,
            open_n: params.open_n,
            close_after: params.close_after,
            cooldown: params.cooldown,
        }
    }

    /// The p-value above which records have recovered from `episode`: never above `calm`.
    fn recovered(&self, episode: &Episode) -> f64 {
        let calm = strangeness(self.calm.min(1.0));
        let way = (episode.strangeness - calm).max(0.0);
        self.calm
            .min((self.recovery * way - episode.strangeness).exp())
    }

    /// How bad a p-value is against the budget.
    #[must_use]
    pub fn severity(&self, p: f64) -> Severity {
        let rarer = self.budget / p;
        if rarer >= 1000.0 {
            Severity::Critical
        } else if rarer >= 100.0 {
            Severity::High
        } else if rarer >= 10.0 {
            Severity::Medium
        } else {
            Severity::Low
        }
    }

    /// How strange a p-value is, from 0 at the threshold to 1 at ten thousand times rarer: log10(budget / p) / 4, clipped.
    #[must_use]
    pub fn grade(&self, p: f64) -> f64 {
        ((self.budget / p).log10() / 4.0).clamp(0.0, 1.0)
    }
}

/// −ln p; 0 of what is not a number.
fn strangeness(p: f64) -> f64 {
    if p > 0.0 { -p.ln() } else { 0.0 }
}

/// What a record came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// The probability that a normal record scores as high.
    pub p: f64,
    /// Higher is stranger.
    pub score: f64,
    /// Where the record lies.
    pub offset: Offset,
    /// When it happened.
    pub time: Timestamp,
}

/// An open episode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Episode {
    /// The offset of the first anomalous record: names the episode.
    pub onset: Offset,
    /// When that record happened.
    pub onset_time: Timestamp,
    /// The largest score so far.
    pub peak_score: f64,
    /// The smallest p-value so far.
    pub peak_p: f64,
    /// The severity last told.
    pub severity: Severity,
    /// Mean of −ln p over its records, as far as they were anomalous before it opened.
    pub strangeness: f64,
    /// Records since the onset.
    pub records: u64,
    /// Calm records in a row.
    pub calm: u32,
    /// It opened in a storm and nobody has been told of it yet.
    pub muted: bool,
}

/// An anomalous record while no episode is open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Its number among the key's records.
    pub record: u64,
    /// Where it lies.
    pub offset: Offset,
    /// When it happened.
    pub time: Timestamp,
    /// Its score.
    pub score: f64,
    /// Its p-value.
    pub p: f64,
}

/// A key's episodes: the open one, what may open the next, and the last closed one while it may be reopened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EpisodeState {
    /// Records judged.
    pub records: u64,
    /// Anomalous ones among the last n, oldest first.
    pub hits: Vec<Hit>,
    /// The open episode.
    pub open: Option<Episode>,
    /// The last closed one and when it closed.
    pub closed: Option<(Episode, Timestamp)>,
}

/// What a record did to the key's episodes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// Nothing that needs telling.
    None,
    /// An episode began, or began again.
    Opened(Episode),
    /// The open episode got worse.
    Updated(Episode),
    /// The open episode ended.
    Closed(Episode),
}

impl EpisodeState {
    /// Takes in one record.
    pub fn judge(&mut self, rule: &Rule, reading: Reading) -> Change {
        self.records += 1;
        if self.open.is_some() {
            self.go_on(rule, reading)
        } else {
            self.watch(rule, reading)
        }
    }

    fn go_on(&mut self, rule: &Rule, reading: Reading) -> Change {
        let Some(episode) = self.open.as_mut() else {
            return Change::None;
        };
        episode.records += 1;
        let more = strangeness(reading.p) - episode.strangeness;
        episode.strangeness += more / episode.records as f64;
        // What is beyond the budget is never calm.
        episode.calm = if reading.p > rule.recovered(episode).max(rule.budget) {
            episode.calm + 1
        } else {
            0
        };
        episode.peak_score = episode.peak_score.max(reading.score);
        episode.peak_p = episode.peak_p.min(reading.p);
        if episode.calm as usize >= rule.close_after {
            let closed = *episode;
            self.open = None;
            self.closed = Some((closed, reading.time));
            return Change::Closed(closed);
        }
        let severity = rule.severity(episode.peak_p);
        if severity > episode.severity {
            episode.severity = severity;
            return Change::Updated(*episode);
        }
        Change::None
    }

    fn watch(&mut self, rule: &Rule, reading: Reading) -> Change {
        let records = self.records;
        self.hits
            .retain(|hit| records - hit.record < rule.open_n as u64);
        // In either direction: a clock that was ahead once must not hold a closed episode for years.
        let apart = |at: Timestamp| reading.time.since(at).max(at.since(reading.time));
        let cooled = |at: Timestamp| apart(at) > rule.cooldown;
        self.closed = self.closed.take().filter(|(_, at)| !cooled(*at));
        // NaN is no exceedance either.
        if reading.p > rule.budget || reading.p.is_nan() {
            return Change::None;
        }
        let echo = |(closed, _): &(Episode, Timestamp)| reading.p > rule.recovered(closed);
        if reading.p > rule.extreme && self.closed.as_ref().is_some_and(echo) {
            return Change::None;
        }
        self.hits.push(Hit {
            record: records,
            offset: reading.offset,
            time: reading.time,
            score: reading.score,
            p: reading.p,
        });
        if reading.p > rule.extreme && self.hits.len() < rule.open_k {
            return Change::None;
        }
        let hits = std::mem::take(&mut self.hits);
        let peak_score = hits.iter().map(|h| h.score).fold(reading.score, f64::max);
        let peak_p = hits.iter().map(|h| h.p).fold(reading.p, f64::min);
        let first = hits[0];
        let sum: f64 = hits.iter().map(|h| strangeness(h.p)).sum();
        let mut episode = Episode {
            onset: first.offset,
            onset_time: first.time,
            peak_score,
            peak_p,
            severity: rule.severity(peak_p),
            strangeness: sum / hits.len() as f64,
            records: records - first.record + 1,
            calm: 0,
            muted: false,
        };
        if let Some((old, _)) = self.closed.take() {
            episode.onset = old.onset;
            episode.onset_time = old.onset_time;
            episode.peak_score = episode.peak_score.max(old.peak_score);
            episode.peak_p = episode.peak_p.min(old.peak_p);
            episode.severity = rule.severity(episode.peak_p);
            let all = (episode.records + old.records) as f64;
            episode.strangeness +=
                (old.strangeness - episode.strangeness) * old.records as f64 / all;
            episode.records += old.records;
        }
        self.open = Some(episode);
        Change::Opened(episode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule() -> Rule {
        Rule::new(
            &Params {
                budget: super::super::Budget::PerRecord(1e-2),
                open_k: 2,
                open_n: 3,
                extreme: 0.01,
                close_after: 2,
                hysteresis: 10.0,
                recovery: 1.0,
                cooldown: Duration::from_millis(5),
                ..Params::default()
            },
            1.0,
        )
    }

    /// One record a millisecond with these p-values; the changes as (offset, letter, onset).
    fn run(p_values: &[f64]) -> Vec<(i64, char, i64)> {
        run_by(&rule(), p_values)
    }

    fn run_by(rule: &Rule, p_values: &[f64]) -> Vec<(i64, char, i64)> {
        let mut state = EpisodeState::default();
        let mut found = Vec::new();
        for (offset, p) in (0_i64..).zip(p_values) {
            let reading = Reading {
                p: *p,
                score: 1.0 / p,
                offset: Offset(offset),
                time: Timestamp(offset),
            };
            match state.judge(rule, reading) {
                Change::None => {}
                Change::Opened(e) => found.push((offset, 'o', e.onset.0)),
                Change::Updated(e) => found.push((offset, 'u', e.onset.0)),
                Change::Closed(e) => found.push((offset, 'c', e.onset.0)),
            }
        }
        found
    }

    #[test]
    fn k_of_n_opens_with_the_first_as_onset() {
        assert_eq!(run(&[0.5, 0.01, 0.5, 0.01]), [(3, 'o', 1)]);
        // Too far apart: the first has left the last n.
        assert_eq!(run(&[0.01, 0.5, 0.5, 0.01]), []);
        // Not a number opens nothing.
        assert_eq!(run(&[f64::NAN, f64::NAN, f64::NAN]), []);
    }

    #[test]
    fn one_extreme_record_opens_and_severity_updates() {
        assert_eq!(run(&[1e-4]), [(0, 'o', 0)]);
        // A hundred times rarer is high, a thousand times critical; staying there is no news.
        assert_eq!(run(&[1e-4, 0.9e-5, 0.9e-5]), [(0, 'o', 0), (1, 'u', 0)]);
    }

    #[test]
    fn closing_needs_calm_in_a_row_and_hysteresis() {
        // 0.05 is above the budget but not calm (0.1).
        assert_eq!(run(&[1e-4, 0.5, 0.05, 0.5, 0.05]), [(0, 'o', 0)]);
        assert_eq!(
            run(&[1e-4, 0.5, 0.05, 0.5, 0.5]),
            [(0, 'o', 0), (4, 'c', 0)]
        );
    }

    #[test]
    fn every_budget_leaves_records_that_close() {
        for (budget, hysteresis) in [(0.1, 10.0), (0.1, 1e6), (1e-4, 1e9), (0.1, 1.0)] {
            let params = Params {
                budget: super::super::Budget::PerRecord(budget),
                hysteresis,
                ..Params::default()
            };
            assert_eq!(params.check(), Vec::new());
            let rule = Rule::new(&params, 1.0);
            assert!(rule.budget <= rule.calm && rule.calm <= 0.5, "{rule:?}");
        }
    }

    #[test]
    fn the_cooldown_reopens_the_old_episode_and_later_ones_are_new() {
        let calm = 0.9;
        assert_eq!(
            run(&[1e-4, calm, calm, calm, 1e-4, calm, calm]),
            [(0, 'o', 0), (2, 'c', 0), (4, 'o', 0), (6, 'c', 0)]
        );
        let mut later = vec![1e-4, calm, calm];
        later.extend([calm; 6]);
        later.push(1e-4);
        assert_eq!(run(&later), [(0, 'o', 0), (2, 'c', 0), (9, 'o', 9)]);
    }

    #[test]
    fn half_of_the_way_back_is_calm_and_does_not_reopen() {
        let rule = Rule {
            recovery: 0.5,
            extreme: 1e-9,
            ..rule()
        };
        // Strangeness 18.4 (1e-8), and calm from 2.3 (0.1) on: the middle is 10.4, but 4.6 is the budget.
        let fault = [1e-8, 1e-8, 1e-8, 1e-8];
        let with = |after: &[f64]| run_by(&rule, &[&fault[..], after].concat());
        let closed = [(1, 'o', 0), (5, 'c', 0)];
        assert_eq!(with(&[0.011, 0.011]), closed);
        // What is beyond the budget is never calm, however far it has come.
        assert_eq!(with(&[0.009; 50]), [(1, 'o', 0)]);
        // An episode of the budget's own strangeness: the middle of 4.6 and 2.3 is p = 0.032.
        let mild = |p: f64| run_by(&rule, &[&[0.01; 100][..], &[p, p]].concat());
        assert_eq!(mild(0.03), [(1, 'o', 0)]);
        assert_eq!(mild(0.033), [(1, 'o', 0), (101, 'c', 0)]);
        // The echo of a fault does not reopen it within the cooldown, what is more than half of it does, and so does an extreme record.
        assert_eq!(with(&[0.5, 0.5, 1e-3, 1e-3, 1e-3]), closed);
        let mut again = closed.to_vec();
        again.push((7, 'o', 0));
        assert_eq!(with(&[0.5, 0.5, 1e-6, 1e-6]), again);
        again[2] = (6, 'o', 0);
        assert_eq!(with(&[0.5, 0.5, 1e-10]), again);
        // After the cooldown it is a fault like any other.
        let mut later = vec![0.5; 8];
        later.extend([1e-3, 1e-3]);
        assert_eq!(with(&later).last(), Some(&(13, 'o', 12)));
    }

    #[test]
    fn a_fault_that_wavers_around_its_mean_stays_open() {
        let rule = Rule {
            recovery: 0.5,
            ..rule()
        };
        let wavering: Vec<f64> = (0..1000).map(|i| 1e-6 * 10_f64.powi(i % 7 - 3)).collect();
        assert_eq!(
            run_by(&rule, &wavering)
                .iter()
                .filter(|(_, what, _)| *what == 'c')
                .count(),
            0
        );
    }

    #[test]
    fn severities_and_grades_by_hand() {
        let rule = rule();
        assert_eq!(rule.severity(1e-2), Severity::Low);
        assert_eq!(rule.severity(0.9e-3), Severity::Medium);
        assert_eq!(rule.severity(0.9e-4), Severity::High);
        assert_eq!(rule.severity(1e-300), Severity::Critical);
        assert!(rule.grade(0.5).abs() < 1e-12);
        assert!((rule.grade(1e-4) - 0.5).abs() < 1e-12);
        assert!((rule.grade(1e-300) - 1.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn opens_and_closes_alternate(p_values in proptest::collection::vec(1e-6..1.0_f64, 0..200)) {
            let mut open = false;
            for (_, what, _) in run(&p_values) {
                match what {
                    'o' => { prop_assert!(!open); open = true; }
                    'c' => { prop_assert!(open); open = false; }
                    _ => prop_assert!(open),
                }
            }
        }
    }
}
