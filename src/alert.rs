//! Alerts and scores as they go out: the wire types. Field names follow OpenSearch's anomaly result where it has one.
//!
//! A wire type is separate from the types inside, carries a `schema` version, and never changes the meaning of a field.

use serde::{Deserialize, Serialize};

use crate::stream::EpisodeId;

/// One message of the alerts topic: an episode opened, changed, or closed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Version of this format: 1.
    pub schema: u32,
    /// The episode's id: stable from open to close, a function of detector, topic, partition and onset offset.
    pub id: EpisodeId,
    /// What happened to the episode.
    pub event: AlertEvent,
    /// What kind of anomaly it is.
    pub kind: AlertKind,
    /// The detector's name.
    pub detector: String,
    /// The record's key.
    pub key: String,
    /// When the record that caused this message happened, RFC 3339.
    pub data_time: String,
    /// When the anomaly probably began, RFC 3339.
    pub approx_anomaly_start_time: String,
    /// When the fault was last seen, RFC 3339; only in the alert that closes the episode, which comes as soon as it is sure that the fault is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<String>,
    /// The score of the record that caused this message: higher is stranger.
    pub anomaly_score: f64,
    /// The largest score of the episode so far.
    pub peak_score: f64,
    /// How strange, from 0 to 1: 0 at the threshold, 1 at p-values that normal records never have.
    pub anomaly_grade: f64,
    /// How far the p-value can be trusted, from 0 to 1: grows with the calibration sample, lower while warming up.
    pub confidence: f64,
    /// `low`, `medium`, `high` or `critical`, by the episode's peak.
    pub severity: Severity,
    /// The probability that a normal record scores as high.
    pub p_value: f64,
    /// The score at which a record counts as anomalous.
    pub threshold: f64,
    /// Records of the episode so far.
    pub records: u64,
    /// How strong the evidence of the key's last records is, in nats (−ln of how rare it is among normal ones, about).
    pub evidence: f64,
    /// The strength from which on evidence opened an episode when this one did: what the false-alarm budget allows.
    pub evidence_threshold: f64,
    /// The time scale, in records, whose evidence opened the episode: 1 is a single extreme record, more is weak evidence that lasted. 0: it was not
    /// evidence of records that did.
    pub evidence_records: u64,
    /// Which features made the score: shares that sum to 1 over all features, largest first.
    pub relevant_attribution: Vec<Attribution>,
    /// Alerts that this one stands for, at the end of a storm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppressed: Option<u64>,
    /// The id of the episode of the same key that this one comes on top of: stranger than that one had been for its last 300 records and more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<EpisodeId>,
    /// Nobody knows how the episode went on: what was remembered of its key was discarded, and so it is closed. Left out if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub abandoned: bool,
    /// The version of the model that judged; 0: none did, but the cold start, or the season of the key.
    pub model_version: u64,
    /// Whether the season of the key judged (`model.seasonal`): score and threshold are then its own, not a model's. Left out if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seasonal: bool,
    /// The input record.
    pub input: InputRef,
}

/// What happened to an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertEvent {
    /// It began.
    Open,
    /// It goes on, and got worse.
    Update,
    /// It ended.
    Close,
}

/// What kind of anomaly an episode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// Records that score too high.
    Score,
    /// A key that went silent for longer than it ever did. It has no record to attribute, so no shares.
    Silence,
    /// So many episodes opened at once that the rest are held back: one alert for all of them, of key `*`.
    Storm,
}

/// How bad an episode is: how much rarer its strongest evidence is among normal records than the budget allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// At the threshold.
    Low,
    /// Ten times rarer.
    Medium,
    /// A hundred times rarer.
    High,
    /// A thousand times rarer.
    Critical,
}

/// One feature's part in a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// The feature.
    pub feature: String,
    /// Its share, from 0 to 1.
    pub share: f64,
    /// The value the record had; null if it was not observed.
    pub actual: Option<f64>,
    /// The value the model expected.
    pub expected: f64,
}

/// The place of a record in Kafka.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRef {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// One message of the drift topic: a key began to drift, or ceased to. Never an alert: nothing need be broken, but the model grows old.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Version of this format: 1.
    pub schema: u32,
    /// The drift's id: the same when it begins and when it ends.
    pub id: EpisodeId,
    /// What happened.
    pub event: DriftEvent,
    /// The detector's name.
    pub detector: String,
    /// The key.
    pub key: String,
    /// When the record that caused this message happened, RFC 3339.
    pub data_time: String,
    /// When the drift probably began, RFC 3339: as exact as blocks of 500 records are.
    pub approx_drift_start_time: String,
    /// The mean surprise, −ln p, over the key's last 500 records or so: 1 is what normal records have.
    pub level: f64,
    /// The same while it did not drift.
    pub usual_level: f64,
    /// The version of the model that judged; 0: the season of the key.
    pub model_version: u64,
    /// Whether the season of the key judged (`model.seasonal`). Left out if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seasonal: bool,
    /// The input record.
    pub input: InputRef,
}

/// What happened to a drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftEvent {
    /// The key's records have become more surprising, for good.
    Begin,
    /// They are as they were, or a newer model has learnt them.
    End,
}

/// One message of the scores topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The detector's name.
    pub detector: String,
    /// The record's key.
    pub key: String,
    /// Event time, RFC 3339.
    pub time: String,
    /// Higher is stranger.
    pub score: f64,
    /// The probability that a normal record scores as high.
    pub p_value: f64,
    /// Whether the record lies in an open episode.
    pub alert: bool,
    /// Whether the window or the cold start is still filling.
    pub warming_up: bool,
    /// The version of the model that judged; 0: none did, but the cold start, or the season of the key.
    pub model_version: u64,
    /// Whether the season of the key judged (`model.seasonal`). Left out if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seasonal: bool,
    /// The input record.
    pub input: InputRef,
    /// The model's code of the record, with `output.emit_code`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Vec<f32>>,
}
