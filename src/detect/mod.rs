//! From p-values to episodes, for one key. Pure numbers in, verdicts out.
//!
//! Next: `episode` (open, update, close), `cold` (scores before there is a model), `silence`.

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

/// When episodes open and close.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// The detector's name: part of every id.
    pub detector: String,
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
    /// How many times the budget's p-value a record must reach to count as calm: above 1.
    pub hysteresis: f64,
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
    /// Records of a partition between two snapshots of its state.
    pub snapshot_records: u64,
    /// Keys of a partition that are remembered at most; the one seen longest ago is forgotten first.
    pub keys_max: usize,
    /// Whether every record's score goes out too.
    pub emit_scores: bool,
    /// Whether the model's code goes out with the score.
    pub emit_code: bool,
}
