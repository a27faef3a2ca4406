//! What is emitted: alerts, scores, drift and dead letters as values, from what is known of a record.

use std::sync::Arc;

use super::OpenEpisode;
use super::prepare::Work;
use crate::alert::{
    Alert, AlertEvent, AlertKind, Drift, DriftEvent, InputRef, SCHEMA, Score, ScoredBy, Severity,
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
    /// What it was judged by.
    pub params: &'a Params,
}

impl Cause<'_> {
    fn input(&self) -> InputRef {
        InputRef {
            at: self.at.clone(),
            offset: self.offset,
        }
    }
}

/// An alert that says nothing yet but what it is of, what happened, and the p-value.
pub(super) fn alert(
    params: &Params,
    cause: Cause<'_>,
    (id, kind, event): (EpisodeId, AlertKind, AlertEvent),
    p: f64,
) -> Alert {
    // A detector's name and a topic's have nothing that an address must escape.
    let address = |page: &Arc<str>| format!("{page}/episode/{id}");
    Alert {
        schema: SCHEMA,
        url: params.public_url.as_ref().map(address),
        id,
        event,
        kind,
        detector: Arc::clone(&params.detector),
        input: cause.input(),
        key: cause.key,
        data_time: cause.time,
        approx_anomaly_start_time: Timestamp::MIN,
        end_time: (event == AlertEvent::Close).then_some(cause.time),
        anomaly_score: 0.0,
        peak_score: 0.0,
        anomaly_grade: 0.0,
        confidence: 0.0,
        severity: Severity::Low,
        p_value: p,
        threshold: 0.0,
        records: 0,
        evidence: 0.0,
        evidence_threshold: 0.0,
        evidence_records: 0,
        relevant_attribution: Vec::new(),
        suppressed: None,
        within: None,
        abandoned: false,
        scored_by: cause.scored_by,
    }
}

/// An alert of an episode, with what is known of it without its model.
pub(super) fn of_episode(
    params: &Params,
    work: &Work<'_>,
    cause: Cause<'_>,
    (event, episode): (AlertEvent, &Episode),
    reading: &Reading,
) -> Alert {
    let id = EpisodeId::new(&params.detector, cause.at, episode.onset);
    Alert {
        approx_anomaly_start_time: episode.onset_time,
        // The record that closes it came later.
        end_time: (event == AlertEvent::Close).then_some(episode.last.time),
        anomaly_score: reading.score,
        peak_score: episode.peak_score,
        anomaly_grade: work.rule.grade(episode.strength),
        severity: episode.severity,
        evidence: episode.strength,
        evidence_threshold: episode.threshold,
        evidence_records: u64::from(episode.scale),
        records: episode.records,
        ..alert(params, cause, (id, AlertKind::Score, event), reading.p)
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
        params,
    };
    let what = (open.id.clone(), open.kind, AlertEvent::Close);
    Alert {
        approx_anomaly_start_time: open.since,
        peak_score: open.peak,
        severity: open.severity,
        abandoned: true,
        ..alert(params, cause, what, 1.0)
    }
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
