//! What the process is doing now, for people: `/status`, the page, `/healthz` and `/readyz`.
//!
//! Written by the workers and the trainer, read by HTTP; one lock, held for moments. Nothing here reaches an output of the pipeline.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::alert::{Alert, AlertEvent, AlertKind, Severity};
use crate::kafka::publish::Delivery;
use crate::model::card::{Card, Feedback, Said};
use crate::pipeline::{OpenEpisode, Suppressed, WrongClock};
use crate::stream::{EpisodeId, TopicPartition};
use crate::time::Timestamp;

/// Scores kept for the page.
const SCORES_MAX: usize = 600;
/// Closed episodes kept for the page.
const CLOSED_MAX: usize = 50;
/// Scores of one second that are kept: a page shows the shape, not every record.
const SCORES_PER_SECOND: u32 = 20;
/// A worker that did not say for this long that it goes on hangs.
const STEP_MAX: Duration = Duration::from_secs(60);

/// What does not change while the process runs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ProcessInfo {
    /// The program's version.
    pub version: String,
    /// The detector's name.
    pub detector: String,
    /// The digest of the configuration without secrets.
    pub config_digest: String,
    /// When the process started, RFC 3339.
    pub started: String,
    /// Threads that consume, score and produce.
    pub workers: usize,
    /// `exactly_once` or `at_least_once`.
    pub delivery: Delivery,
    /// Input topics.
    pub topics: Vec<String>,
    /// Whether a stream of a single feature is judged by the season of its key, and not by the model in use.
    pub seasonal: bool,
}

/// A partition held.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PartitionStatus {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Records not yet read, as far as known.
    pub lag: Option<u64>,
    /// Whether its state is still being restored.
    pub restoring: bool,
}

/// The model in use.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ModelStatus {
    /// Its version; 0 is the cold start.
    pub version: u64,
    /// Its kind.
    pub kind: String,
    /// What it consists of, as `model.ensemble.members` would have it; none of a kind that is not made of others.
    pub members: Vec<String>,
    /// When it was trained, RFC 3339.
    pub created: String,
    /// Its features.
    pub columns: Vec<String>,
    /// What the gate said.
    pub verdict: String,
    /// What the gate measured.
    pub measures: BTreeMap<String, f64>,
}

impl From<&Card> for ModelStatus {
    fn from(card: &Card) -> Self {
        Self {
            version: card.version.0,
            kind: card.spec.kind.clone(),
            members: card.members.clone(),
            created: card.created.rfc3339(),
            columns: card.columns.clone(),
            verdict: card.gate.to_string(),
            measures: card.measures.clone(),
        }
    }
}

/// The last training run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TrainingStatus {
    /// When it ended, RFC 3339.
    pub ended: String,
    /// How long it took.
    pub seconds: f64,
    /// promoted, rejected, skipped, cancelled, failed.
    pub outcome: String,
    /// The gate's reason, or the error.
    pub detail: String,
    /// The version that it made, if it made one.
    pub version: Option<u64>,
}

/// What people said of episodes, as far as the process heard it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FeedbackStatus {
    /// Episodes that nothing was wrong with.
    pub false_positive: u64,
    /// Episodes that were faults.
    pub true_positive: u64,
    /// Episodes that are how things are from now on.
    pub new_normal: u64,
    /// The share of faults among faults and false positives; null while nobody named either.
    pub precision: Option<f64>,
    /// Records of the topic that could not be read.
    pub unreadable: u64,
}

impl FeedbackStatus {
    /// Of what was said, beside so many records that could not be read.
    #[must_use]
    pub fn of(said: &Said, unreadable: u64) -> Self {
        let count = |called| said.values().filter(|said| **said == called).count() as u64;
        let [right, wrong] = [Feedback::TruePositive, Feedback::FalsePositive].map(count);
        Self {
            false_positive: wrong,
            true_positive: right,
            new_normal: count(Feedback::NewNormal),
            precision: (right + wrong > 0).then(|| right as f64 / (right + wrong) as f64),
            unreadable,
        }
    }
}

/// An episode as the page shows it.
#[derive(Clone, Debug, Serialize)]
pub struct EpisodeStatus {
    /// The partition: whoever holds it knows whether the episode is still open.
    #[serde(skip)]
    at: TopicPartition,
    /// Its id.
    pub id: EpisodeId,
    /// Whose.
    pub key: String,
    /// `low` to `critical`.
    pub severity: Severity,
    /// `score`, `silence` or `storm`.
    pub kind: AlertKind,
    /// When it probably began, RFC 3339.
    pub since: String,
    /// When it ended, RFC 3339.
    pub ended: Option<String>,
    /// Its features with the largest shares.
    pub features: Vec<(String, f64)>,
    /// The largest score so far.
    pub peak: f64,
    /// Why nobody was told of it, `storm` or `dismissed`; null if somebody was.
    pub suppressed: Option<&'static str>,
}

/// A key whose clock is wrong.
#[derive(Clone, Debug, Serialize)]
pub struct ClockStatus {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Whose.
    pub key: String,
    /// Seconds that it is ahead of most others of its partition; below 0: behind.
    pub ahead_seconds: f64,
}

/// One score on the page.
#[derive(Clone, Debug, Serialize)]
pub struct ScorePoint {
    /// Its number; the page asks for those after the last it has.
    pub number: u64,
    /// Event time in milliseconds since 1970.
    pub time: i64,
    /// Whose.
    pub key: String,
    /// The probability that a normal record scores as high.
    pub p_value: f64,
    /// Whether the record lies in an open episode.
    pub alert: bool,
}

#[derive(Debug, Default)]
struct Inner {
    steps: BTreeMap<usize, Timestamp>,
    partitions: BTreeMap<TopicPartition, PartitionStatus>,
    model: Option<ModelStatus>,
    training: Option<TrainingStatus>,
    training_waits: Option<String>,
    feedback: FeedbackStatus,
    open: BTreeMap<EpisodeId, EpisodeStatus>,
    closed: VecDeque<EpisodeStatus>,
    /// By worker.
    clocks: BTreeMap<usize, Vec<ClockStatus>>,
    scores: VecDeque<ScorePoint>,
    next_score: u64,
    second: (i64, u32),
    budget: f64,
    /// Why Kafka is waited for before anything can begin.
    waits: Option<String>,
    /// What workers have long been waiting for in Kafka.
    workers_wait: BTreeMap<usize, String>,
}

/// What the process is doing now.
#[derive(Debug, Default)]
pub struct Status {
    process: ProcessInfo,
    inner: Mutex<Inner>,
}

/// `/status`.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// What does not change.
    #[serde(flatten)]
    pub process: ProcessInfo,
    /// Whether partitions are held and restored.
    pub ready: bool,
    /// Why it is not ready, as `/readyz` says it.
    pub waiting: Option<String>,
    /// Partitions held.
    pub partitions: Vec<PartitionStatus>,
    /// The model in use; null in the cold start.
    pub model: Option<ModelStatus>,
    /// The last training run.
    pub training: Option<TrainingStatus>,
    /// Why there is no model, or no new one, and what that waits for.
    pub training_waits: Option<String>,
    /// What people said of episodes.
    pub feedback: FeedbackStatus,
    /// The p-value at which a record counts as anomalous; 0 if not known yet.
    pub budget: f64,
    /// Open episodes.
    pub episodes: Vec<EpisodeStatus>,
    /// Closed episodes, the newest first.
    pub closed: Vec<EpisodeStatus>,
    /// Keys whose clocks are wrong, the worst of each worker.
    pub wrong_clocks: Vec<ClockStatus>,
}

impl Status {
    /// Nothing has happened yet.
    pub fn new(process: ProcessInfo) -> Self {
        Self {
            process,
            inner: Mutex::default(),
        }
    }

    /// A thread that panicked while it held the lock left nothing half-done that matters: the next writer overwrites it.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker finished a step.
    pub fn stepped(&self, worker: usize, at: Timestamp) {
        self.lock().steps.insert(worker, at);
    }

    /// Kafka is waited for before anything can begin, and why; `None`: no more.
    pub fn waits(&self, why: Option<String>) {
        self.lock().waits = why;
    }

    /// What a worker has long been waiting for in Kafka; `None`: nothing.
    pub fn worker_waits(&self, worker: usize, what: Option<String>) {
        let mut inner = self.lock();
        match what {
            Some(what) => inner.workers_wait.insert(worker, what),
            None => inner.workers_wait.remove(&worker),
        };
    }

    /// A partition came; `restoring` if records must be replayed first.
    pub fn assigned(&self, at: &TopicPartition, restoring: bool) {
        let partition = PartitionStatus {
            topic: at.topic.to_string(),
            partition: at.partition.0,
            lag: None,
            restoring,
        };
        self.lock().partitions.insert(at.clone(), partition);
    }

    /// A partition's state is restored.
    pub fn restored(&self, at: &TopicPartition) {
        if let Some(partition) = self.lock().partitions.get_mut(at) {
            partition.restoring = false;
        }
    }

    /// A partition went, and its open episodes with it: its next holder shows them.
    pub fn revoked(&self, at: &TopicPartition) {
        let mut inner = self.lock();
        inner.partitions.remove(at);
        inner.open.retain(|_, episode| episode.at != *at);
    }

    /// What is open on the partitions `held` by a worker: restored episodes come, those that ended in a replay go. What was made known by
    /// an alert keeps the features that the alert named.
    pub fn open<'a>(
        &self,
        held: impl IntoIterator<Item = &'a TopicPartition>,
        open: &[OpenEpisode],
    ) {
        let held: BTreeSet<&TopicPartition> = held.into_iter().collect();
        let mut inner = self.lock();
        let mut before = std::mem::take(&mut inner.open);
        for found in open.iter().filter(|found| held.contains(&found.at)) {
            let known = before.remove(&found.id);
            let episode = EpisodeStatus {
                at: found.at.clone(),
                id: found.id.clone(),
                key: found.key.clone(),
                severity: found.severity,
                kind: found.kind,
                since: found.since.rfc3339(),
                ended: None,
                features: known.map_or_else(Vec::new, |known| known.features),
                peak: found.peak,
                suppressed: found.suppressed.map(Suppressed::name),
            };
            inner.open.insert(episode.id.clone(), episode);
        }
        before.retain(|_, episode| !held.contains(&episode.at));
        inner.open.append(&mut before);
    }

    /// The keys of a worker whose clocks are wrong, the worst of them.
    pub fn clocks(&self, worker: usize, worst: &[WrongClock]) {
        let clocks = worst
            .iter()
            .map(|found| ClockStatus {
                topic: found.at.topic.to_string(),
                partition: found.at.partition.0,
                key: found.key.0.to_string(),
                ahead_seconds: found.ahead_ms as f64 / 1000.0,
            })
            .collect();
        self.lock().clocks.insert(worker, clocks);
    }

    /// How far behind a partition is.
    pub fn lag(&self, at: &TopicPartition, records: u64) {
        if let Some(partition) = self.lock().partitions.get_mut(at) {
            partition.lag = Some(records);
        }
    }

    /// A model was taken up.
    pub fn model(&self, card: &Card) {
        self.lock().model = Some(card.into());
    }

    /// The p-value at which a record counts as anomalous.
    pub fn budget(&self, p: f64) {
        self.lock().budget = p;
    }

    /// What people said of episodes.
    pub fn feedback(&self, feedback: FeedbackStatus) {
        self.lock().feedback = feedback;
    }

    /// Why there is no model, or no new one.
    pub fn training_waits(&self, why: Option<String>) {
        self.lock().training_waits = why;
    }

    /// A training run ended.
    pub fn training(&self, training: TrainingStatus) {
        self.lock().training = Some(training);
    }

    /// An alert was published.
    pub fn alert(&self, alert: &Alert) {
        let mut episode = EpisodeStatus {
            at: alert.input.at.clone(),
            id: alert.id.clone(),
            key: alert.key.0.to_string(),
            severity: alert.severity,
            kind: alert.kind,
            since: alert.approx_anomaly_start_time.rfc3339(),
            ended: alert.end_time.map(Timestamp::rfc3339),
            features: alert
                .relevant_attribution
                .iter()
                .take(3)
                .map(|part| (part.feature.clone(), part.share))
                .collect(),
            peak: alert.peak_score,
            suppressed: None,
        };
        let mut inner = self.lock();
        if matches!(alert.event, AlertEvent::Close) {
            // The record that closes an episode is a normal one: what made the episode is known from when it was worst.
            if let Some(open) = inner.open.remove(&episode.id) {
                episode.features = open.features;
            }
            inner.closed.push_front(episode);
            inner.closed.truncate(CLOSED_MAX);
        } else {
            inner.closed.retain(|closed| closed.id != episode.id);
            inner.open.insert(episode.id.clone(), episode);
        }
    }

    /// A record was scored. Of one second only the first few and all anomalous ones are kept.
    pub fn score(&self, key: &str, time: Timestamp, p_value: f64, alert: bool) {
        let mut inner = self.lock();
        let second = time.0.div_euclid(1000);
        if inner.second.0 != second {
            inner.second = (second, 0);
        }
        if inner.second.1 >= SCORES_PER_SECOND && !alert {
            return;
        }
        inner.second.1 += 1;
        inner.next_score += 1;
        let point = ScorePoint {
            number: inner.next_score,
            time: time.0,
            key: key.to_owned(),
            p_value,
            alert,
        };
        if inner.scores.len() == SCORES_MAX {
            inner.scores.pop_front();
        }
        inner.scores.push_back(point);
    }

    /// The scores after number `after`.
    pub fn scores(&self, after: u64) -> Vec<ScorePoint> {
        let inner = self.lock();
        inner
            .scores
            .iter()
            .filter(|point| point.number > after)
            .cloned()
            .collect()
    }

    /// Everything but the scores.
    pub fn view(&self) -> View {
        let inner = self.lock();
        let waiting = not_ready(&inner);
        View {
            process: self.process.clone(),
            ready: waiting.is_none(),
            waiting,
            partitions: inner.partitions.values().cloned().collect(),
            model: inner.model.clone(),
            training: inner.training.clone(),
            training_waits: inner.training_waits.clone(),
            feedback: inner.feedback.clone(),
            budget: inner.budget,
            episodes: inner.open.values().cloned().collect(),
            closed: inner.closed.iter().cloned().collect(),
            wrong_clocks: inner.clocks.values().flatten().cloned().collect(),
        }
    }

    /// Why the process should be restarted; `None` while every worker goes on. Never depends on the broker: a worker that waits for Kafka
    /// finishes its step all the same.
    pub fn hangs(&self, now: Timestamp) -> Option<String> {
        let inner = self.lock();
        inner.steps.iter().find_map(|(worker, at)| {
            let ago = now.since(*at);
            (ago > STEP_MAX)
                .then(|| format!("worker {worker} finished no step for {} s", ago.as_secs()))
        })
    }

    /// Why the process is not ready; `None` if partitions are held and restored.
    pub fn not_ready(&self) -> Option<String> {
        not_ready(&self.lock())
    }
}

fn not_ready(inner: &Inner) -> Option<String> {
    let waits = |why: &String| format!("waiting for Kafka: {why}");
    if let Some(why) = &inner.waits {
        return Some(waits(why));
    }
    if inner.partitions.is_empty() {
        let why = inner.workers_wait.values().next();
        return Some(why.map_or_else(|| "no partition is assigned yet".to_owned(), waits));
    }
    let restoring = inner
        .partitions
        .values()
        .filter(|partition| partition.restoring)
        .count();
    (restoring > 0).then(|| format!("{restoring} partition(s) are being restored"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_assigned_and_restored() {
        let status = Status::new(ProcessInfo::default());
        let at = TopicPartition::new("t", 0);
        assert!(
            status
                .not_ready()
                .is_some_and(|why| why.contains("no partition"))
        );
        status.assigned(&at, true);
        assert!(
            status
                .not_ready()
                .is_some_and(|why| why.contains("restored"))
        );
        status.restored(&at);
        assert_eq!(status.not_ready(), None);
        assert_eq!(status.view().waiting, None);
        // What another worker waits for is no concern of this partition's.
        status.worker_waits(1, Some("an end".to_owned()));
        assert_eq!(status.not_ready(), None);
        status.revoked(&at);
        let why = Some("waiting for Kafka: an end".to_owned());
        assert_eq!(status.not_ready(), why);
        assert_eq!(status.view().waiting, why);
        status.worker_waits(1, None);
        let why = status.not_ready();
        assert!(why.is_some_and(|why| why.contains("no partition")));
    }

    #[test]
    fn a_worker_without_a_step_for_a_minute_hangs() {
        let status = Status::new(ProcessInfo::default());
        assert_eq!(status.hangs(Timestamp(1_000_000)), None);
        status.stepped(0, Timestamp(0));
        status.stepped(1, Timestamp(50_000));
        assert_eq!(status.hangs(Timestamp(60_000)), None);
        let why = status.hangs(Timestamp(61_000)).unwrap();
        assert!(why.contains("worker 0") && why.contains("61 s"), "{why}");
    }

    #[test]
    fn scores_are_bounded_and_anomalous_ones_always_kept() {
        let status = Status::new(ProcessInfo::default());
        for n in 0..100 {
            status.score("k", Timestamp(n), 0.5, false);
        }
        assert_eq!(status.scores(0).len(), SCORES_PER_SECOND as usize);
        status.score("k", Timestamp(999), 1e-9, true);
        let last = status.scores(20);
        assert_eq!((last.len(), last[0].alert), (1, true));
        for second in 0..2_000 {
            status.score("k", Timestamp(second * 1_000), 0.5, false);
        }
        assert_eq!(status.scores(0).len(), SCORES_MAX);
    }

    fn opened(id: &str, partition: i32) -> Alert {
        serde_json::from_value(serde_json::json!({
            "schema": 1, "id": id, "event": "open", "kind": "score", "detector": "d", "key": "k",
            "data_time": "2026-01-01T00:00:00Z", "approx_anomaly_start_time": "2026-01-01T00:00:00Z",
            "anomaly_score": 9.0, "peak_score": 9.0, "anomaly_grade": 1.0, "confidence": 1.0, "severity": "high",
            "p_value": 1e-9, "threshold": 2.0, "records": 1, "model_version": 1,
            "evidence": 20.7, "evidence_threshold": 9.2, "evidence_records": 1,
            "relevant_attribution": [{"feature": "faulty", "share": 1.0, "actual": 9.0, "expected": 1.0}],
            "input": {"topic": "t", "partition": partition, "offset": 1},
        }))
        .unwrap()
    }

    #[test]
    fn open_episodes_are_those_of_the_partitions_held() {
        let status = Status::new(ProcessInfo::default());
        let ids = || -> Vec<String> {
            status
                .view()
                .episodes
                .iter()
                .map(|e| e.id.to_string())
                .collect()
        };
        let [zero, one] = [0, 1].map(|partition| TopicPartition::new("t", partition));
        status.alert(&opened("a", 0));
        status.alert(&opened("b", 1));
        // What was restored shows; what ended while it was replayed goes; what an alert said of it is kept.
        let restored = |id: &str| OpenEpisode {
            at: zero.clone(),
            id: id.into(),
            key: "k".to_owned(),
            kind: AlertKind::Score,
            severity: Severity::High,
            since: Timestamp(0),
            peak: 3.0,
            suppressed: None,
        };
        status.open([&zero], &[restored("a"), restored("c")]);
        assert_eq!(ids(), ["a", "b", "c"]);
        assert_eq!(status.view().episodes[0].features[0].0, "faulty");
        // What nobody was told of says so, until somebody is.
        let held = OpenEpisode {
            suppressed: Some(Suppressed::Dismissed),
            ..restored("c")
        };
        status.open([&zero], std::slice::from_ref(&held));
        let suppressed = || status.view().episodes.last().unwrap().suppressed;
        assert_eq!(suppressed(), Some("dismissed"));
        status.alert(&opened("c", 0));
        assert_eq!(suppressed(), None);
        status.open([&zero], &[restored("c")]);
        assert_eq!(ids(), ["b", "c"]);
        // A partition that goes takes its episodes along.
        status.revoked(&zero);
        assert_eq!(ids(), ["b"]);
        status.revoked(&one);
        assert!(ids().is_empty());
    }

    #[test]
    fn precision_is_the_share_of_faults_among_what_was_called_right_or_wrong() {
        let [wrong, right, normal] = Feedback::ALL;
        let said = |of: &[(&str, Feedback)]| {
            let said = of.iter().map(|(id, called)| ((*id).into(), *called));
            FeedbackStatus::of(&said.collect(), 5)
        };
        let all = said(&[
            ("a", right),
            ("b", wrong),
            ("c", normal),
            ("d", right),
            ("e", right),
        ]);
        assert_eq!(
            (all.true_positive, all.false_positive, all.new_normal),
            (3, 1, 1)
        );
        assert_eq!((all.precision, all.unreadable), (Some(0.75), 5));
        assert_eq!(said(&[("a", normal)]).precision, None);
        assert_eq!(said(&[("a", wrong)]).precision, Some(0.0));
    }

    #[test]
    fn a_closed_episode_shows_what_made_it_and_not_the_normal_record_that_closed_it() {
        let status = Status::new(ProcessInfo::default());
        let mut alert = opened("e", 0);
        status.alert(&alert);
        alert.event = AlertEvent::Close;
        alert.relevant_attribution[0].feature = "calm".to_owned();
        status.alert(&alert);
        let inner = status.lock();
        assert!(inner.open.is_empty());
        assert_eq!(inner.closed[0].features[0].0, "faulty");
    }
}
