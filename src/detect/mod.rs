//! From p-values to episodes, for one key. Pure numbers in, verdicts out.
//!
//! Next: [`evidence`] (what a key's records gather), [`episode`] (open, update, close), [`cold`] (scores before there is a model), [`drift`] (what rises and stays), [`seasonal`]
//! (a single feature's own past), [`pace`] (which records are neighbours), [`windowing`] (which of them make windows), [`clock`] (what time it is, by many keys), [`silence`] (of keys), [`absence`] (of features), [`feedback`] (what is held back).

pub mod absence;
pub mod clock;
pub mod cold;
pub mod drift;
pub mod episode;
pub mod evidence;
pub mod feedback;
pub mod pace;
#[cfg(test)]
mod proof;
pub mod seasonal;
pub mod silence;
pub mod windowing;
pub mod within;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::stats::evidence::SCALES_MAX;

/// How many false alarms the user accepts: episodes that open though nothing is wrong. The threshold follows from it; changing it needs no
/// retraining.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Probability that a normal record opens an episode, in (0, 0.1].
    PerRecord(f64),
    /// Episodes a day, for each key, above 0.
    PerKeyDay(f64),
    /// Episodes a day, for all keys together, above 0.
    PerFleetDay(f64),
}

/// The most false openings per record that a budget may come to: a detector that flags more than one record in ten detects nothing.
pub const BUDGET_MAX: f64 = 0.1;

impl Budget {
    /// False openings per record that a key may have which sends `records_per_day`, as one of `keys`.
    #[must_use]
    pub fn per_record(self, records_per_day: f64, keys: f64) -> f64 {
        let of_day = |episodes: f64| (episodes / records_per_day.max(1.0)).clamp(1e-12, BUDGET_MAX);
        match self {
            Self::PerRecord(p) => p,
            Self::PerKeyDay(episodes) => of_day(episodes),
            Self::PerFleetDay(episodes) => of_day(episodes / keys.max(1.0)),
        }
    }

    /// The same for a key by itself.
    #[must_use]
    pub fn p_value(self, records_per_key_day: f64) -> f64 {
        self.per_record(records_per_key_day, 1.0)
    }

    /// What it comes to for so many keys that send `records_per_key_day` each, in words.
    #[must_use]
    pub fn means(self, (records_per_key_day, keys): (f64, u64)) -> String {
        let all = self.per_record(records_per_key_day, keys as f64)
            * records_per_key_day
            * keys.max(1) as f64;
        let all = if all >= 10.0 {
            format!("{all:.0}")
        } else {
            format!("{all:.2}")
        };
        let each = match keys {
            0 | 1 => self.to_string(),
            keys => self
                .to_string()
                .replace("each key", &format!("each of {keys} keys")),
        };
        format!("false alarms: at most {each}; about {all} a day in all")
    }

    /// Reads `"1/day"`, `"0.5/hour"`, `"2/week"` or `"1/month"` (30 days), for each key, or for all together with `/fleet` behind. `None` if it is
    /// something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/').map(str::trim);
        let episodes: f64 = parts.next()?.parse().ok()?;
        let days = match parts.next()? {
            "hour" => 1.0 / 24.0,
            "day" => 1.0,
            "week" => 7.0,
            "month" => 30.0,
            _ => return None,
        };
        let all = match parts.next() {
            None => false,
            Some("fleet") => true,
            Some(_) => return None,
        };
        let rate = episodes / days;
        let known = rate > 0.0 && rate.is_finite() && parts.next().is_none();
        known.then_some(if all {
            Self::PerFleetDay(rate)
        } else {
            Self::PerKeyDay(rate)
        })
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (per_day, of) = match self {
            Self::PerRecord(p) => return write!(f, "one in {:.0} records", 1.0 / p),
            Self::PerKeyDay(episodes) => (episodes, "for each key"),
            Self::PerFleetDay(episodes) => (episodes, "for all keys together"),
        };
        // In the longest unit that has at least one.
        let units = [
            (1.0 / 24.0, "an hour"),
            (1.0, "a day"),
            (7.0, "a week"),
            (30.0, "a month"),
        ];
        let (days, unit) = units
            .into_iter()
            .find(|(days, _)| per_day * days >= 0.999)
            .unwrap_or(units[3]);
        let rate = (per_day * days * 1000.0).round() / 1000.0;
        write!(f, "{rate} {unit} {of}")
    }
}

/// When episodes open and close.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// The detector's name: part of every id. Letters, digits, `.`, `_` and `-`.
    pub detector: Arc<str>,
    /// The consumer group that the state belongs to; empty where there is none.
    pub group: String,
    /// The address by which people reach the page, without a slash at its end: alerts name it; `None`: they do not.
    pub public_url: Option<Arc<str>>,
    /// The false-alarm budget.
    pub budget: Budget,
    /// The time scales, in records, that evidence gathers over: ascending, at most [`SCALES_MAX`].
    pub time_scales: Vec<u32>,
    /// How sure it must be that a fault is over before its episode closes: a log-likelihood ratio, in nats, above 0.
    pub close_evidence: f64,
    /// Event time after a close in which another episode of the same key is the same trouble coming back: it needs twice the calm to close.
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
    /// Bytes of keys that changed since the last snapshot above which the next is taken, however few the records. A batch that changes more
    /// than as many is worked in as several, so that no transaction writes much more than twice this.
    pub snapshot_bytes: u64,
    /// Keys of a partition that are remembered at most; the one seen longest ago is forgotten first.
    pub keys_max: usize,
    /// Bytes of a partition's keys that are remembered at most, as they are in the state topic: the one seen longest ago is forgotten first.
    pub bytes_max: u64,
    /// How long the state topic remembers closed episodes, for training to leave out: `training.history`.
    pub quarantine_keep: Duration,
    /// Whether records of a single feature are judged by the season of their key beside the model, or alone: `model.seasonal`, with
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
            detector: "anomalyd".into(),
            group: String::new(),
            public_url: None,
            budget: Budget::PerKeyDay(1.0 / 7.0),
            time_scales: vec![1, 5, 30, 300],
            close_evidence: 8.0,
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
            snapshot_bytes: 16 << 20,
            keys_max: 100_000,
            bytes_max: 1 << 30,
            quarantine_keep: Duration::from_secs(7 * 86_400),
            seasonal: false,
            emit_scores: false,
            emit_code: false,
        }
    }
}

/// The part of [`Params`] that may change while records are judged. It is remembered with the state: what must be judged again is judged by what
/// judged it before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertParams {
    /// [`Params::budget`]
    pub budget: Budget,
    /// [`Params::cooldown`]
    pub cooldown: Duration,
    /// [`Params::silence_factor`]
    pub silence_factor: f64,
    /// [`Params::storm_opens_max`]
    pub storm_opens_max: u32,
}

/// A parameter that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct ParamProblem {
    /// The field of [`Params`].
    pub field: &'static str,
    /// What is wrong, with the value and what is allowed.
    pub problem: String,
}

impl Params {
    /// Whether records of so many columns are judged by the season of their key, too: see [`Self::seasonal`].
    #[must_use]
    pub fn by_season(&self, columns: usize) -> bool {
        self.seasonal && columns == 1
    }

    /// What of them may change.
    #[must_use]
    pub fn alerts(&self) -> AlertParams {
        AlertParams {
            budget: self.budget,
            cooldown: self.cooldown,
            silence_factor: self.silence_factor,
            storm_opens_max: self.storm_opens_max,
        }
    }

    /// The same with these in their place.
    #[must_use]
    pub fn with_alerts(&self, alerts: AlertParams) -> Self {
        Self {
            budget: alerts.budget,
            cooldown: alerts.cooldown,
            silence_factor: alerts.silence_factor,
            storm_opens_max: alerts.storm_opens_max,
            ..self.clone()
        }
    }

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
            "detector",
            format!(
                "must be letters, digits, `.`, `_` or `-`, but is `{}`",
                self.detector
            ),
        );
        // Comparisons are written so that NaN fails them.
        match self.budget {
            Budget::PerRecord(p) => require(
                p > 0.0 && p <= BUDGET_MAX,
                "budget",
                format!("must be above 0 and at most {BUDGET_MAX} per record, but is {p}"),
            ),
            Budget::PerKeyDay(rate) | Budget::PerFleetDay(rate) => require(
                rate > 0.0 && rate.is_finite(),
                "budget",
                format!("must be above 0 episodes a day, but is {rate}"),
            ),
        }
        let scales = &self.time_scales;
        require(
            !scales.is_empty()
                && scales.len() <= SCALES_MAX
                && scales[0] > 0
                && scales.windows(2).all(|pair| pair[0] < pair[1]),
            "time_scales",
            format!("must be 1 to {SCALES_MAX} numbers of records, ascending, but is {scales:?}"),
        );
        require(
            self.close_evidence > 0.0 && self.close_evidence.is_finite(),
            "close_evidence",
            format!("must be above 0, but is {}", self.close_evidence),
        );
        require(
            self.cold_start_records >= 2,
            "cold_start_records",
            format!("must be at least 2, but is {}", self.cold_start_records),
        );
        require(
            self.silence_factor.abs() <= 0.0 || self.silence_factor >= 1.0,
            "silence_factor",
            format!("must be 0 or at least 1, but is {}", self.silence_factor),
        );
    }

    fn check_state(&self, require: &mut impl FnMut(bool, &'static str, String)) {
        require(
            self.storm_opens_max == 0 || !self.storm_window.is_zero(),
            "storm_window",
            "must be longer than 0".to_owned(),
        );
        require(self.window > 0, "window", "must be at least 1".to_owned());
        require(
            self.snapshot_records > 0,
            "snapshot_records",
            "must be at least 1".to_owned(),
        );
        require(
            !self.snapshot_interval.is_zero(),
            "snapshot_interval",
            "must be longer than 0".to_owned(),
        );
        require(
            self.snapshot_bytes >= 1 << 12,
            "snapshot_bytes",
            "must be at least 4KiB".to_owned(),
        );
        require(
            self.bytes_max >= 1 << 20,
            "bytes_max",
            "must be at least 1MiB".to_owned(),
        );
        require(
            self.keys_max > 0,
            "keys_max",
            "must be at least 1".to_owned(),
        );
    }
}

/// Notes a problem where something required does not hold.
fn require_into(problems: &mut Vec<ParamProblem>) -> impl FnMut(bool, &'static str, String) {
    |holds, field, problem| {
        if !holds {
            problems.push(ParamProblem { field, problem });
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
            detector: "a b".into(),
            budget: Budget::PerRecord(f64::NAN),
            time_scales: vec![5, 1],
            close_evidence: f64::NAN,
            silence_factor: 0.5,
            keys_max: 0,
            ..Params::default()
        };
        let fields: Vec<&str> = bad.check().iter().map(|problem| problem.field).collect();
        let expected = [
            "detector",
            "budget",
            "time_scales",
            "close_evidence",
            "silence_factor",
            "keys_max",
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn budgets_become_openings_per_record() {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-15;
        assert!(close(Budget::PerRecord(1e-3).per_record(5.0, 9.0), 1e-3));
        // One episode a day at a record a second; and for twenty keys together.
        let day = 1.0 / 86_400.0;
        assert!(close(
            Budget::PerKeyDay(1.0).per_record(86_400.0, 20.0),
            day
        ));
        let shared = Budget::PerFleetDay(1.0).per_record(86_400.0, 20.0);
        assert!(close(shared, day / 20.0));
        // Few records a day: never more than one in ten.
        assert!(close(
            Budget::PerKeyDay(5.0).per_record(0.0, 1.0),
            BUDGET_MAX
        ));
    }

    #[test]
    fn budgets_are_read_by_their_unit() {
        assert_eq!(Budget::parse("1/day"), Some(Budget::PerKeyDay(1.0)));
        assert_eq!(Budget::parse(" 2 / hour"), Some(Budget::PerKeyDay(48.0)));
        assert_eq!(Budget::parse("7/week"), Some(Budget::PerKeyDay(1.0)));
        let fleet = Budget::parse("15/month/fleet");
        assert_eq!(fleet, Some(Budget::PerFleetDay(0.5)));
        assert_eq!(
            Budget::PerKeyDay(1.0 / 7.0).to_string(),
            "1 a week for each key"
        );
        let week = Budget::PerKeyDay(1.0 / 7.0);
        assert_eq!(
            week.means((86_400.0, 40)),
            "false alarms: at most 1 a week for each of 40 keys; about 5.71 a day in all"
        );
        assert!(week.means((86_400.0, 1)).contains("for each key;"));
        assert_eq!(
            Budget::PerFleetDay(3.0).to_string(),
            "3 a day for all keys together"
        );
        assert_eq!(Budget::PerRecord(1e-3).to_string(), "one in 1000 records");
        for bad in [
            "1",
            "1/year",
            "x/day",
            "0/day",
            "-1/day",
            "1/day/key",
            "1/day/fleet/x",
        ] {
            assert_eq!(Budget::parse(bad), None, "{bad}");
        }
    }
}
