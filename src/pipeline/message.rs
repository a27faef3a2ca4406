//! Messages: alerts, scores and refused records as they go out.

use serde::Serialize;

use super::prepare::Work;
use super::{Message, OpenEpisode};
use crate::alert::{
    Alert, AlertEvent, AlertKind, Attribution, Drift, DriftEvent, InputRef, Severity,
};
use crate::detect::Params;
use crate::detect::drift::Turn;
use crate::detect::episode::{Episode, Reading};
use crate::model::card::ModelVersion;
use crate::record::{Header, RecordBatch, dead_letter};
use crate::stream::{EpisodeId, Offset, TopicPartition};
use crate::time::Timestamp;

/// The record that a message is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cause<'a> {
    pub at: &'a TopicPartition,
    pub key: &'a str,
    pub offset: Offset,
    /// Event time.
    pub time: Timestamp,
    /// Kafka timestamp of the message.
    pub timestamp: Timestamp,
    /// What judged; 0: no model.
    pub model: ModelVersion,
    /// Whether the season of the key did.
    pub seasonal: bool,
    /// Its place in the batch.
    pub record: usize,
}

/// What an alert says beyond its cause.
#[derive(Clone, Debug)]
pub(super) struct AlertFields {
    pub id: EpisodeId,
    pub event: AlertEvent,
    pub kind: AlertKind,
    pub onset_time: Timestamp,
    pub score: f64,
    pub peak_score: f64,
    pub grade: f64,
    pub confidence: f64,
    pub severity: Severity,
    pub p: f64,
    pub threshold: f64,
    pub records: u64,
    /// When the fault ended, if the record that closes the episode came later.
    pub end_time: Option<Timestamp>,
    pub evidence: f64,
    pub evidence_threshold: f64,
    pub evidence_records: u64,
    pub attribution: Vec<Attribution>,
    pub suppressed: Option<u64>,
    pub abandoned: bool,
    /// The id of the episode that this one lies within.
    pub within: Option<EpisodeId>,
}

impl AlertFields {
    /// Nothing but the id, the kind, the event and the p-value.
    pub fn bare(id: EpisodeId, kind: AlertKind, event: AlertEvent, p: f64) -> Self {
        Self {
            id,
            event,
            kind,
            onset_time: Timestamp::MIN,
            score: 0.0,
            peak_score: 0.0,
            grade: 0.0,
            confidence: 0.0,
            severity: Severity::Low,
            p,
            threshold: 0.0,
            records: 0,
            end_time: None,
            evidence: 0.0,
            evidence_threshold: 0.0,
            evidence_records: 0,
            attribution: Vec::new(),
            suppressed: None,
            abandoned: false,
            within: None,
        }
    }

    /// What is known of an episode without its model.
    pub fn of_episode(
        params: &Params,
        work: &Work<'_>,
        event: AlertEvent,
        episode: &Episode,
        reading: &Reading,
    ) -> Self {
        let id = EpisodeId::new(&params.detector, &work.base.at, episode.onset);
        Self {
            onset_time: episode.onset_time,
            score: reading.score,
            peak_score: episode.peak_score,
            grade: work.rule.grade(episode.strength),
            severity: episode.severity,
            end_time: Some(episode.last.time),
            evidence: episode.strength,
            evidence_threshold: episode.threshold,
            evidence_records: u64::from(episode.scale),
            records: episode.records,
            ..Self::bare(id, AlertKind::Score, event, reading.p)
        }
    }
}

/// An alert, with CloudEvents headers in binary mode.
pub(super) fn alert(params: &Params, cause: Cause<'_>, fields: AlertFields) -> Message {
    let event = match fields.event {
        AlertEvent::Open => "open",
        AlertEvent::Update => "update",
        AlertEvent::Close => "close",
    };
    let time = cause.time.rfc3339();
    let headers = vec![
        header("ce_specversion", "1.0"),
        header("ce_type", &format!("anomalyd.alert.{event}")),
        header("ce_source", &format!("/anomalyd/{}", params.detector)),
        header("ce_id", &format!("{}-{event}-{}", fields.id, cause.offset)),
        header("ce_time", &time),
        header("content-type", "application/json"),
    ];
    let alert = Alert {
        schema: 1,
        id: fields.id,
        event: fields.event,
        kind: fields.kind,
        detector: params.detector.clone(),
        key: cause.key.to_owned(),
        approx_anomaly_start_time: fields.onset_time.rfc3339(),
        end_time: (fields.event == AlertEvent::Close).then(|| {
            let end = fields.end_time.unwrap_or(cause.time);
            end.rfc3339()
        }),
        data_time: time,
        anomaly_score: fields.score,
        peak_score: fields.peak_score,
        anomaly_grade: fields.grade,
        confidence: fields.confidence,
        severity: fields.severity,
        p_value: fields.p,
        threshold: fields.threshold,
        records: fields.records,
        evidence: fields.evidence,
        evidence_threshold: fields.evidence_threshold,
        evidence_records: fields.evidence_records,
        relevant_attribution: fields.attribution,
        suppressed: fields.suppressed,
        abandoned: fields.abandoned,
        within: fields.within,
        model_version: cause.model.0,
        seasonal: cause.seasonal,
        input: InputRef {
            topic: cause.at.topic.as_ref().to_owned(),
            partition: cause.at.partition.0,
            offset: cause.offset.0,
        },
    };
    Message {
        key: Some(cause.key.as_bytes().to_vec()),
        value: Some(json(&alert)),
        headers,
        timestamp: cause.timestamp,
        cause: cause.at.clone(),
    }
}

/// A key that begins or ceases to drift, with CloudEvents headers in binary mode.
pub(super) fn drift(params: &Params, cause: Cause<'_>, turn: Turn) -> Message {
    let (event, word) = if turn.began {
        (DriftEvent::Begin, "begin")
    } else {
        (DriftEvent::End, "end")
    };
    let time = cause.time.rfc3339();
    let id = EpisodeId::of_drift(&params.detector, cause.at, turn.since.offset);
    let headers = vec![
        header("ce_specversion", "1.0"),
        header("ce_type", &format!("anomalyd.drift.{word}")),
        header("ce_source", &format!("/anomalyd/{}", params.detector)),
        header("ce_id", &format!("{id}-{word}-{}", cause.offset)),
        header("ce_time", &time),
        header("content-type", "application/json"),
    ];
    let drift = Drift {
        schema: 1,
        id,
        event,
        detector: params.detector.clone(),
        key: cause.key.to_owned(),
        data_time: time,
        approx_drift_start_time: turn.since.time.rfc3339(),
        level: turn.level,
        usual_level: turn.usual,
        model_version: cause.model.0,
        seasonal: cause.seasonal,
        input: InputRef {
            topic: cause.at.topic.as_ref().to_owned(),
            partition: cause.at.partition.0,
            offset: cause.offset.0,
        },
    };
    Message {
        key: Some(cause.key.as_bytes().to_vec()),
        value: Some(json(&drift)),
        headers,
        timestamp: cause.timestamp,
        cause: cause.at.clone(),
    }
}

/// The end of what was open when the state of its key was discarded. It happened at the latest time that is known, and no record did it: the
/// place is the next one to be read.
pub(super) fn abandoned(
    params: &Params,
    open: &OpenEpisode,
    known: Timestamp,
    next: Offset,
) -> Message {
    let time = known.max(open.since);
    let cause = Cause {
        at: &open.at,
        key: &open.key,
        offset: next,
        time,
        timestamp: time,
        model: ModelVersion(0),
        seasonal: false,
        record: 0,
    };
    let fields = AlertFields {
        onset_time: open.since,
        peak_score: open.peak,
        severity: open.severity,
        abandoned: true,
        ..AlertFields::bare(open.id.clone(), open.kind, AlertEvent::Close, 1.0)
    };
    alert(params, cause, fields)
}

/// [`crate::alert::Score`], borrowed: one is written for every record.
#[derive(Debug, Serialize)]
struct ScoreRef<'a> {
    detector: &'a str,
    key: &'a str,
    time: &'a str,
    score: f64,
    p_value: f64,
    alert: bool,
    warming_up: bool,
    model_version: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    seasonal: bool,
    input: InputRefRef<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a [f32]>,
}

/// [`InputRef`], borrowed.
#[derive(Debug, Serialize)]
struct InputRefRef<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
}

/// A record's score; `code`: the model's code of its window.
pub(super) fn score(
    params: &Params,
    cause: Cause<'_>,
    reading: &Reading,
    (alert, warming_up): (bool, bool),
    code: Option<&[f32]>,
) -> Message {
    let score = ScoreRef {
        detector: &params.detector,
        key: cause.key,
        time: &cause.time.rfc3339(),
        score: reading.score,
        p_value: reading.p,
        alert,
        warming_up,
        model_version: cause.model.0,
        seasonal: cause.seasonal,
        input: InputRefRef {
            topic: &cause.at.topic,
            partition: cause.at.partition.0,
            offset: cause.offset.0,
        },
        code,
    };
    Message {
        key: Some(cause.key.as_bytes().to_vec()),
        value: Some(json(&score)),
        headers: Vec::new(),
        timestamp: cause.timestamp,
        cause: cause.at.clone(),
    }
}

/// A record that is passed on unread: key, value and headers untouched, with Kafka Connect's headers saying whence and why.
pub(super) fn refused(
    params: &Params,
    batch: &RecordBatch,
    record: usize,
    now: Timestamp,
    (reason, text): &(&'static str, String),
) -> Message {
    let raw = &batch.records()[record];
    let at = &batch.sources()[raw.source];
    let headers = dead_letter::headers(&params.detector, at, raw, reason, text);
    Message {
        key: batch.key(raw).map(<[u8]>::to_vec),
        value: batch.value(raw).map(<[u8]>::to_vec),
        headers,
        timestamp: raw.timestamp.min(now),
        cause: at.clone(),
    }
}

fn header(name: &str, value: &str) -> Header {
    Header {
        name: name.into(),
        value: Some(value.as_bytes().into()),
    }
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value)
        .unwrap_or_else(|error| unreachable!("wire types are plain structs: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Score;

    #[test]
    fn a_score_reads_back_as_the_wire_type() {
        let at = TopicPartition::new("records", 3);
        let cause = Cause {
            at: &at,
            key: "pump \"1\"",
            offset: Offset(42),
            time: Timestamp(1_700_000_000_123),
            timestamp: Timestamp(1_600_000_000_000),
            model: ModelVersion(7),
            seasonal: false,
            record: 0,
        };
        let reading = Reading {
            p: 0.1 + 0.2,
            by_model: None,
            score: 1e-9,
            offset: Offset(42),
            time: Timestamp(0),
        };
        let code = [0.5_f32, -1.0];
        let message = score(
            &Params::default(),
            cause,
            &reading,
            (true, false),
            Some(&code),
        );
        let read: Score = serde_json::from_slice(message.value.as_deref().unwrap()).unwrap();
        let expected = Score {
            detector: "anomalyd".to_owned(),
            key: "pump \"1\"".to_owned(),
            time: "2023-11-14T22:13:20.123Z".to_owned(),
            score: 1e-9,
            p_value: 0.1 + 0.2,
            alert: true,
            warming_up: false,
            model_version: 7,
            seasonal: false,
            input: InputRef {
                topic: "records".to_owned(),
                partition: 3,
                offset: 42,
            },
            code: Some(code.to_vec()),
        };
        assert_eq!(read, expected);
        assert_eq!(message.timestamp, Timestamp(1_600_000_000_000));
    }
}
