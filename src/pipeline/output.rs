//! What is emitted: alerts, scores, drift and dead letters as values, from what is known of a record.

use std::sync::Arc;

use super::OpenEpisode;
use super::prepare::Work;
use crate::alert::{
    Alert, AlertEvent, AlertKind, Attribution, Drift, DriftEvent, InputRef, SCHEMA, Score,
    ScoredBy, Severity,
};
use crate::detect::Params;
use crate::detect::drift::Turn;
use crate::detect::episode::{Episode, Reading};
use crate::record::dead_letter::{DeadLetter, Refusal};
use crate::record::{Key, RecordBatch};
use crate::stream::{EpisodeId, Offset, TopicPartition};
use crate::time::Timestamp;

/// The record that something is emitted about.
#[derive(Clone, Debug)]
pub(super) struct Cause<'a> {
    pub at: &'a TopicPartition,
    pub key: Key,
    pub offset: Offset,
    /// Event time.
    pub time: Timestamp,
    /// What the score is by.
    pub scored_by: ScoredBy,
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

impl Cause<'_> {
    fn input(&self) -> InputRef {
        InputRef {
            at: self.at.clone(),
            offset: self.offset,
        }
    }
}

/// An alert.
pub(super) fn alert(params: &Params, cause: Cause<'_>, fields: AlertFields) -> Alert {
    let closes = fields.event == AlertEvent::Close;
    Alert {
        schema: SCHEMA,
        id: fields.id,
        event: fields.event,
        kind: fields.kind,
        detector: Arc::clone(&params.detector),
        input: cause.input(),
        key: cause.key,
        approx_anomaly_start_time: fields.onset_time,
        end_time: closes.then(|| fields.end_time.unwrap_or(cause.time)),
        data_time: cause.time,
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
        scored_by: cause.scored_by,
    }
}

/// A key that begins or ceases to drift.
pub(super) fn drift(params: &Params, cause: Cause<'_>, turn: Turn) -> Drift {
    Drift {
        schema: SCHEMA,
        id: EpisodeId::of_drift(&params.detector, cause.at, turn.since.offset),
        event: if turn.began {
            DriftEvent::Begin
        } else {
            DriftEvent::End
        },
        detector: Arc::clone(&params.detector),
        input: cause.input(),
        key: cause.key,
        data_time: cause.time,
        approx_drift_start_time: turn.since.time,
        level: turn.level,
        usual_level: turn.usual,
        scored_by: cause.scored_by,
    }
}

/// The end of what was open when the state of its key was discarded. It happened at the latest time that is known, and no record did it: the
/// place is the next one to be read.
pub(super) fn abandoned(
    params: &Params,
    open: &OpenEpisode,
    known: Timestamp,
    next: Offset,
) -> Alert {
    let cause = Cause {
        at: &open.at,
        key: Key(Arc::from(open.key.as_str())),
        offset: next,
        time: known.max(open.since),
        scored_by: ScoredBy::ColdStart,
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

/// A record's score; `code`: the model's code of its window.
pub(super) fn score(
    params: &Params,
    cause: Cause<'_>,
    reading: &Reading,
    (alert, warming_up): (bool, bool),
    code: Option<&[f32]>,
) -> Score {
    Score {
        detector: Arc::clone(&params.detector),
        input: cause.input(),
        key: cause.key,
        time: cause.time,
        score: reading.score,
        p_value: reading.p,
        alert,
        warming_up,
        scored_by: cause.scored_by,
        code: code.map(<[f32]>::to_vec),
    }
}

/// A record that is sent on unscored.
pub(super) fn refused(
    params: &Params,
    batch: &RecordBatch,
    record: usize,
    reason: Refusal,
) -> DeadLetter {
    let raw = &batch.records()[record];
    DeadLetter {
        detector: Arc::clone(&params.detector),
        at: batch.sources()[raw.source].clone(),
        offset: raw.offset,
        timestamp: raw.timestamp,
        key: batch.key(raw).map(<[u8]>::to_vec),
        value: batch.value(raw).map(<[u8]>::to_vec),
        headers: raw.headers.clone(),
        reason,
    }
}
