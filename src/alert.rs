//! What is emitted: alerts, scores and drift, as values. Serde's form of them is what goes out, as JSON, where it is published and nowhere before. Field
//! names follow OpenSearch's anomaly result where it has one.
//!
//! What goes out carries a `schema` version, and a field never changes its meaning.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::card::ModelVersion;
use crate::record::Key;
use crate::stream::{EpisodeId, Offset, TopicPartition};
use crate::time::{Timestamp, rfc3339};

/// The version of the format of alerts and drift.
pub const SCHEMA: u32 = 1;

/// What a score is by.
///
/// Serde's form: `model_version`, which is 0 where no model scored, and `seasonal`, which is left out unless it is true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ScoredByFields", into = "ScoredByFields")]
pub enum ScoredBy {
    /// Robust z-scores of the key's own past: there is no model yet.
    #[default]
    ColdStart,
    /// What the key did at this time of day and week (`model.seasonal`). Scores of a single feature are −ln p, whoever judges.
    Seasonal,
    /// The model of this version.
    Model(ModelVersion),
}

impl ScoredBy {
    /// The model's version; `None` where no model scored.
    #[must_use]
    pub fn version(self) -> Option<ModelVersion> {
        match self {
            Self::Model(version) => Some(version),
            Self::ColdStart | Self::Seasonal => None,
        }
    }
}

/// [`ScoredBy`], as it is written.
#[derive(Serialize, Deserialize)]
struct ScoredByFields {
    model_version: ModelVersion,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    seasonal: bool,
}

impl From<ScoredBy> for ScoredByFields {
    fn from(scored_by: ScoredBy) -> Self {
        Self {
            model_version: scored_by.version().unwrap_or_default(),
            seasonal: scored_by == ScoredBy::Seasonal,
        }
    }
}

impl From<ScoredByFields> for ScoredBy {
    fn from(fields: ScoredByFields) -> Self {
        match (fields.seasonal, fields.model_version) {
            (true, _) => Self::Seasonal,
            (false, ModelVersion(0)) => Self::ColdStart,
            (false, version) => Self::Model(version),
        }
    }
}

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
    pub detector: Arc<str>,
    /// The record's key.
    pub key: Key,
    /// When the record that caused this message happened, RFC 3339.
    #[serde(with = "rfc3339")]
    pub data_time: Timestamp,
    /// When the anomaly probably began, RFC 3339.
    #[serde(with = "rfc3339")]
    pub approx_anomaly_start_time: Timestamp,
    /// When the fault was last seen, RFC 3339; only in the alert that closes the episode, which comes as soon as it is sure that the fault is over.
    #[serde(
        default,
        with = "rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub end_time: Option<Timestamp>,
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
    /// The score at which a record by itself is as rare as the budget allows, by the model's score alone: an episode may open below it, by what a single sensor
    /// shows, or by evidence over several records.
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
    /// Which features made the score: shares that sum to 1 over all features, largest first. Protobuf writes nothing for none.
    #[serde(default)]
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
    /// Where the episode is shown, with `http.public_url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What the score is by: `model_version` and `seasonal`.
    #[serde(flatten)]
    pub scored_by: ScoredBy,
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

impl AlertEvent {
    /// Its name, as it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Update => "update",
            Self::Close => "close",
        }
    }
}

/// What kind of anomaly an episode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// Records that score too high.
    Score,
    /// A key that went silent for longer than it ever did: it has no record to attribute, so no shares. Or features that its records lack, which share it.
    Silence,
    /// So many episodes opened at once that the rest are held back: one alert for all of them, of key `*`.
    Storm,
}

impl AlertKind {
    /// Its name, as it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Score => "score",
            Self::Silence => "silence",
            Self::Storm => "storm",
        }
    }
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

impl Severity {
    /// Its name, as it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
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
    /// For how many records the value has stood still, as far as the model's window shows, where that is what is strange of it; absent elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub still: Option<u32>,
}

/// The place of a record in Kafka.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRef {
    /// Topic and partition.
    #[serde(flatten)]
    pub at: TopicPartition,
    /// Offset.
    pub offset: Offset,
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
    pub detector: Arc<str>,
    /// The key.
    pub key: Key,
    /// When the record that caused this message happened, RFC 3339.
    #[serde(with = "rfc3339")]
    pub data_time: Timestamp,
    /// When the drift probably began, RFC 3339: as exact as blocks of 500 records are.
    #[serde(with = "rfc3339")]
    pub approx_drift_start_time: Timestamp,
    /// The mean surprise, −ln p, over the key's last 500 records or so: 1 is what normal records have.
    pub level: f64,
    /// The same while it did not drift.
    pub usual_level: f64,
    /// What the score is by: `model_version` and `seasonal`.
    #[serde(flatten)]
    pub scored_by: ScoredBy,
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

impl DriftEvent {
    /// Its name, as it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::End => "end",
        }
    }
}

/// One message of the scores topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The detector's name.
    pub detector: Arc<str>,
    /// The record's key.
    pub key: Key,
    /// Event time, RFC 3339.
    #[serde(with = "rfc3339")]
    pub time: Timestamp,
    /// Higher is stranger.
    pub score: f64,
    /// The probability that a normal record scores as high.
    pub p_value: f64,
    /// Whether the record lies in an open episode.
    pub alert: bool,
    /// Whether the window or the cold start is still filling.
    pub warming_up: bool,
    /// What the score is by: `model_version` and `seasonal`.
    #[serde(flatten)]
    pub scored_by: ScoredBy,
    /// The input record.
    pub input: InputRef,
    /// The model's code of the record, with `output.emit_code`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Vec<f32>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_they_are_written() {
        let written = |value: serde_json::Value| value.as_str().unwrap().to_owned();
        for event in [AlertEvent::Open, AlertEvent::Update, AlertEvent::Close] {
            assert_eq!(written(serde_json::json!(event)), event.name());
        }
        for event in [DriftEvent::Begin, DriftEvent::End] {
            assert_eq!(written(serde_json::json!(event)), event.name());
        }
        for kind in [AlertKind::Score, AlertKind::Silence, AlertKind::Storm] {
            assert_eq!(written(serde_json::json!(kind)), kind.name());
        }
        let (low, medium) = (Severity::Low, Severity::Medium);
        for severity in [low, medium, Severity::High, Severity::Critical] {
            assert_eq!(written(serde_json::json!(severity)), severity.name());
        }
    }

    #[test]
    fn a_score_is_written_with_what_it_is_by_and_read_back() {
        let score = |scored_by| Score {
            detector: "pumps".into(),
            key: Key("pump \"1\"".into()),
            time: Timestamp(1_700_000_000_123),
            score: 1e-9,
            p_value: 0.1 + 0.2,
            alert: true,
            warming_up: false,
            scored_by,
            input: InputRef {
                at: TopicPartition::new("records", 3),
                offset: Offset(42),
            },
            code: Some(vec![0.5, -1.0]),
        };
        for (scored_by, fields) in [
            (ScoredBy::Model(ModelVersion(7)), r#""model_version":7"#),
            (ScoredBy::ColdStart, r#""model_version":0"#),
            (ScoredBy::Seasonal, r#""model_version":0,"seasonal":true"#),
        ] {
            let text = serde_json::to_string(&score(scored_by)).unwrap();
            let before = r#"{"detector":"pumps","key":"pump \"1\"","time":"2023-11-14T22:13:20.123Z","score":1e-9,"p_value":0.30000000000000004,"alert":true,"warming_up":false"#;
            let after =
                r#""input":{"topic":"records","partition":3,"offset":42},"code":[0.5,-1.0]}"#;
            assert_eq!(text, format!("{before},{fields},{after}"));
            let read: Score = serde_json::from_str(&text).unwrap();
            assert_eq!(read, score(scored_by));
        }
    }
}
