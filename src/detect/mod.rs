//! From p-values to episodes, for one key. Pure numbers in, verdicts out.
//!
//! Next: [`episode`] (open, update, close), [`cold`] (scores before there is a model), [`seasonal`] (a single feature's own past),
//! [`pace`] (which records are neighbours), [`clock`] (what time it is, by many keys), [`silence`].

pub mod clock;
pub mod cold;
pub mod episode;
pub mod pace;
pub mod seasonal;
pub mod silence;

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How many false alarms the user accepts. The threshold follows from it; changing it needs no retraining.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Probability that a normal record counts as anomalous, in (0, 0.1].
    PerRecord(f64),
    /// Alerts a day and key, on normal data, above 0.
    PerKeyDay(f64),
}

/// The largest p-value that a budget may come to: a detector that flags more than one record in ten detects nothing.
pub const BUDGET_MAX: f64 = 0.1;

impl Budget {
    /// The p-value at or below which a record counts as anomalous, for keys that send `records_per_key_day`.
    #[must_use]
    pub fn p_value(self, records_per_key_day: f64) -> f64 {
        match self {
            Self::PerRecord(p) => p,
            Self::PerKeyDay(alerts) => {
                (alerts / records_per_key_day.max(1.0)).clamp(1e-12, BUDGET_MAX)
            }
        }
    }
}

/// When episodes open and close.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// The detector's name: part of every id. Letters, digits, `.`, `_` and `-`.
    pub detector: String,
    /// The consumer group that the state belongs to; empty where there is none.
    pub group: String,
    /// The false-alarm budget.
    pub budget: Budget,
    /// k: records at or below the budget's p-value ...
    pub open_k: usize,
    /// ... among the last n, open an episode.
    pub open_n: usize,
    /// One record with a p-value below budget times this opens an episode at once. 0 switches it off.
    pub extreme: f64,
    /// Records in a row above the closing p-value (budget × `hysteresis`) that close an episode.
    pub close_after: usize,
    /// How many times the budget's p-value a record must exceed to count as calm: at least 1. Never more than a p-value of 0.5.
    pub hysteresis: f64,
    /// Share of the way back from an episode's mean strangeness (−ln p) to calm that makes a record calm, if it is within the budget: above 0, at
    /// most 1. Within the cooldown only records beyond that mark, or extreme ones, reopen the episode.
    pub recovery: f64,
    /// Event time after a close in which the same key reopens the old episode instead of opening a new one.
    pub cooldown: Duration,
    /// Records of a key before the cold start may alert.
    pub cold_start_records: usize,
    /// A key silent for longer than this factor times its longest gap is an anomaly. 0 switches it off.
    pub silence_factor: f64,
    /// Silences shorter than this never count.
    pub silence_min: Duration,
    /// Records older than the key's newest by more than this are late; `None`: never.
    pub late_after: Option<Duration>,
    /// Episodes that may open in a partition within `storm_window`; more are a storm, which is one alert. 0: no limit.
    pub storm_opens_max: u32,
    /// The stretch of stream time over which openings are counted.
    pub storm_window: Duration,
    /// Rows of a key that are kept for the model's window: `model.window`. Models with a longer window warm up when taken up.
    pub window: usize,
    /// Records of a partition between two snapshots of its state.
    pub snapshot_records: u64,
    /// Stream time between two snapshots of a partition's state, however few its records.
    pub snapshot_interval: Duration,
    /// Keys of a partition that are remembered at most; the one seen longest ago is forgotten first.
    pub keys_max: usize,
    /// How long the state topic remembers closed episodes, for training to leave out: `training.history`.
    pub quarantine_keep: Duration,
    /// Whether records of a single feature are judged by the season of their key instead of by the model: `model.seasonal`, with
    /// `model.kind = "auto"`.
    pub seasonal: bool,
    /// Whether every record's score goes out too.
    pub emit_scores: bool,
    /// Whether the model's code goes out with the score.
    pub emit_code: bool,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            detector: "anomalyd".to_owned(),
            group: String::new(),
            budget: Budget::PerRecord(1e-4),
            open_k: 3,
            open_n: 5,
            extreme: 0.01,
            close_after: 10,
            hysteresis: 10.0,
            recovery: 0.5,
            cooldown: Duration::from_secs(600),
            cold_start_records: 30,
            silence_factor: 5.0,
            silence_min: Duration::from_secs(60),
            late_after: None,
            storm_opens_max: 100,
            storm_window: Duration::from_secs(600),
            window: 1,
            snapshot_records: 10_000,
            snapshot_interval: Duration::from_secs(600),
            keys_max: 100_000,
            quarantine_keep: Duration::from_secs(7 * 86_400),
            seasonal: false,
            emit_scores: false,
            emit_code: false,
        }
    }
}

/// A parameter that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` {problem}")]
pub struct ParamProblem {
    /// The configuration key.
    pub key: &'static str,
    /// What is wrong, with the value and what is allowed.
    pub problem: String,
}

impl Params {
    /// Everything that is wrong, at once; empty when the parameters can be used.
    #[must_use]
    pub fn check(&self) -> Vec<ParamProblem> {
        let mut problems = Vec::new();
        self.check_alerts(&mut require_into(&mut problems));
        self.check_state(&mut require_into(&mut problems));
        problems
    }

    fn check_alerts(&self, require: &mut impl FnMut(bool, &'static str, String)) {
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        require(
            !self.detector.is_empty() && self.detector.chars().all(legal),
            "name",
            format!(
                "must be letters, digits, `.`, `_` or `-`, but is `{}`",
                self.detector
            ),
        );
        // Comparisons are written so that NaN fails them.
        match self.budget {
            Budget::PerRecord(p) => require(
                p > 0.0 && p <= BUDGET_MAX,
                "alerts.false_alarm_rate",
                format!("must be above 0 and at most {BUDGET_MAX} per record, but is {p}"),
            ),
            Budget::PerKeyDay(rate) => require(
                rate > 0.0 && rate.is_finite(),
                "alerts.false_alarm_rate",
                format!("must be above 0 alerts a day, but is {rate}"),
            ),
        }
        require(
            0 < self.open_k && self.open_k <= self.open_n && self.open_n <= episode::OPEN_N_MAX,
            "alerts.open",
            format!(
                "needs 1 ≤ k ≤ n ≤ {}, but k is {} and n is {}",
                episode::OPEN_N_MAX,
                self.open_k,
                self.open_n
            ),
        );
        require(
            self.extreme >= 0.0 && self.extreme <= 1.0,
            "alerts.extreme",
            format!("must be from 0 to 1, but is {}", self.extreme),
        );
        require(
            self.close_after > 0,
            "alerts.close_after",
            "must be at least 1".to_owned(),
        );
        require(
            self.hysteresis >= 1.0 && self.hysteresis.is_finite(),
            "alerts.hysteresis",
            format!("must be at least 1, but is {}", self.hysteresis),
        );
        require(
            self.recovery > 0.0 && self.recovery <= 1.0,
            "alerts.recovery",
            format!("must be above 0 and at most 1, but is {}", self.recovery),
        );
        require(
            self.cold_start_records >= 2,
            "alerts.cold_start_records",
            format!("must be at least 2, but is {}", self.cold_start_records),
        );
        require(
            self.silence_factor.abs() <= 0.0 || self.silence_factor >= 1.0,
            "alerts.silence_factor",
            format!("must be 0 or at least 1, but is {}", self.silence_factor),
        );
    }

    fn check_state(&self, require: &mut impl FnMut(bool, &'static str, String)) {
        require(
            self.storm_opens_max == 0 || !self.storm_window.is_zero(),
            "alerts.storm_window",
            "must be longer than 0".to_owned(),
        );
        require(
            self.window > 0,
            "model.window",
            "must be at least 1".to_owned(),
        );
        require(
            self.snapshot_records > 0,
            "state.snapshot_records",
            "must be at least 1".to_owned(),
        );
        require(
            !self.snapshot_interval.is_zero(),
            "state.snapshot_interval",
            "must be longer than 0".to_owned(),
        );
        require(
            self.keys_max > 0,
            "state.keys_max",
            "must be at least 1".to_owned(),
        );
    }
}

/// Notes a problem where something required does not hold.
fn require_into(problems: &mut Vec<ParamProblem>) -> impl FnMut(bool, &'static str, String) {
    |holds, key, problem| {
        if !holds {
            problems.push(ParamProblem { key, problem });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_usable_and_all_problems_are_found_at_once() {
        assert_eq!(Params::default().check(), Vec::new());
        let bad = Params {
            detector: "a b".to_owned(),
            budget: Budget::PerRecord(f64::NAN),
            open_k: 6,
            hysteresis: 0.5,
            recovery: f64::NAN,
            silence_factor: 0.5,
            keys_max: 0,
            ..Params::default()
        };
        let keys: Vec<&str> = bad.check().iter().map(|problem| problem.key).collect();
        let expected = [
            "name",
            "alerts.false_alarm_rate",
            "alerts.open",
            "alerts.hysteresis",
            "alerts.recovery",
            "alerts.silence_factor",
            "state.keys_max",
        ];
        assert_eq!(keys, expected);
    }

    #[test]
    fn budgets_become_probabilities() {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-15;
        assert!(close(Budget::PerRecord(1e-3).p_value(5.0), 1e-3));
        // One alert a day at a record a second.
        assert!(close(
            Budget::PerKeyDay(1.0).p_value(86_400.0),
            1.0 / 86_400.0
        ));
        // Few records a day: never more than one in ten.
        assert!(close(Budget::PerKeyDay(5.0).p_value(0.0), BUDGET_MAX));
    }
}
