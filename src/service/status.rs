//! What the process is doing now, for people: `/status`, the page, `/healthz` and `/readyz`.
//!
//! Written by the workers and the trainer, read by HTTP; one lock, held for moments. Nothing here reaches an output of the pipeline.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::arrivals::Arrivals;
use super::episodes::{EpisodeDetail, EpisodeStatus, Episodes};
use super::intake::{Intake, RecordsStatus, Unreadable};
use super::recent::{Overview, Recent, Series, Wanted};
use super::reloaded::ReloadStatus;
use super::scored::{ScoredList, Which};
use crate::alert::{Alert, InputRef};
use crate::detect::Params;
use crate::kafka::publish::Delivery;
use crate::model::card::{Card, Feedback, Said, Unlearnt};
use crate::pipeline::{OpenEpisode, Watched, WrongClock};
use crate::record::dead_letter::DeadLetter;
use crate::stream::TopicPartition;
use crate::time::Timestamp;

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
    /// Whether a stream of a single feature is judged by the season of its key, beside the model in use or alone.
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
    /// Those of them that none of the records had that it was trained on: they are not judged.
    pub unobserved: Vec<String>,
    /// Those of them that count: what they count from one record to the next is judged.
    pub counters: Vec<String>,
    /// Those of them that the hour of the day tells: they are judged by it where there is a calendar.
    pub hourly: Vec<String>,
    /// Keys of which it learnt nothing, for all of their records are kept out as flagged.
    pub unlearnt: Unlearnt,
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
            unobserved: card.unobserved.clone(),
            counters: card.counters.clone(),
            hourly: card.hourly.clone(),
            unlearnt: card.unlearnt.clone(),
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

#[derive(Debug, Default)]
struct Inner {
    steps: BTreeMap<usize, Timestamp>,
    partitions: BTreeMap<TopicPartition, PartitionStatus>,
    model: Option<ModelStatus>,
    training: Option<TrainingStatus>,
    training_waits: Option<String>,
    feedback: FeedbackStatus,
    said: Arc<Said>,
    episodes: Episodes,
    recent: Recent,
    intake: Intake,
    arrivals: Arrivals,
    /// Of which partitions.
    watched: BTreeSet<TopicPartition>,
    /// What alerts are due by.
    params: Arc<Params>,
    /// By worker.
    clocks: BTreeMap<usize, Vec<ClockStatus>>,
    budget: f64,
    /// Why nothing is done, and whether it begins anew.
    failed: Option<String>,
    /// What is waited for before anything can begin.
    waits: Option<String>,
    /// What the configuration read again came to, and the digest of what is in effect since.
    reload: Option<(ReloadStatus, String)>,
    /// What workers have long been waiting for in Kafka.
    workers_wait: BTreeMap<usize, String>,
}

impl Inner {
    /// When a worker last said that it goes on.
    fn now(&self) -> Timestamp {
        self.steps.values().copied().max().unwrap_or_default()
    }

    /// Nothing could come until now.
    fn interrupted(&mut self) {
        let now = self.now();
        self.arrivals.interrupted(now);
    }

    /// Records not yet read; `None`: that is not known of all partitions held.
    fn lag(&self) -> Option<u64> {
        self.partitions.values().map(|held| held.lag).sum()
    }

    /// Whether nothing has come for longer than usual, to partitions that are held and restored.
    fn silent(&self) -> bool {
        !self.partitions.is_empty()
            && !self.partitions.values().any(|held| held.restoring)
            && self.arrivals.silent(self.now(), &self.params)
    }

    fn records(&self) -> RecordsStatus {
        let patience = self.arrivals.patience(&self.params);
        RecordsStatus {
            last_read: self.arrivals.last().map(Timestamp::rfc3339),
            patience_seconds: patience.map(|patience| patience.as_secs_f64()),
            silent: self.silent(),
            ..self.intake.view(self.now())
        }
    }
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
    /// Why it is not ready, as `/readyz` says it; else what a worker that holds partitions has long been waiting for.
    pub waiting: Option<String>,
    /// Partitions held.
    pub partitions: Vec<PartitionStatus>,
    /// What was read since the start, and how much of it could not be understood.
    pub records: RecordsStatus,
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
    /// Now by the records' own time, in milliseconds since 1970; null before the first one.
    pub newest: Option<i64>,
    /// The features; none while they are not settled.
    pub columns: Vec<String>,
    /// Open episodes.
    pub episodes: Vec<EpisodeStatus>,
    /// Closed episodes, the newest first.
    pub closed: Vec<EpisodeStatus>,
    /// Keys whose clocks are wrong, the worst of each worker.
    pub wrong_clocks: Vec<ClockStatus>,
    /// What came of the configuration when it was last read again; null: it was not, since the start.
    pub reload: Option<ReloadStatus>,
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

    /// It begins, perhaps anew: what was held is held no more.
    pub fn begins(&self) {
        let mut inner = self.lock();
        let reload = inner.reload.take();
        *inner = Inner {
            reload,
            ..Inner::default()
        };
    }

    /// It does nothing any more, and why, and what comes of that.
    pub fn failed(&self, why: String) {
        self.begins();
        self.lock().failed = Some(why);
    }

    /// Whether it does nothing any more.
    pub fn has_failed(&self) -> bool {
        self.lock().failed.is_some()
    }

    /// A worker finished a step.
    pub fn stepped(&self, worker: usize, at: Timestamp) {
        self.lock().steps.insert(worker, at);
    }

    /// What is waited for before anything can begin; `None`: nothing any more.
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
        let mut inner = self.lock();
        inner.partitions.insert(at.clone(), partition);
        inner.interrupted();
    }

    /// Whether a partition is held.
    pub fn holds(&self, at: &TopicPartition) -> bool {
        self.lock().partitions.contains_key(at)
    }

    /// A partition's state is restored.
    pub fn restored(&self, at: &TopicPartition) {
        let mut inner = self.lock();
        let held = inner.partitions.get_mut(at);
        if held.is_some_and(|held| std::mem::take(&mut held.restoring)) {
            inner.interrupted();
        }
    }

    /// A partition went, and its open episodes with it: its next holder shows them.
    pub fn revoked(&self, at: &TopicPartition) {
        let mut inner = self.lock();
        inner.partitions.remove(at);
        inner.episodes.revoked(at);
    }

    /// What is open on the partitions `held` by a worker: restored episodes come, those that ended in a replay go. What was made known by
    /// an alert keeps the features that the alert named.
    pub fn open<'a>(
        &self,
        held: impl IntoIterator<Item = &'a TopicPartition>,
        open: &[OpenEpisode],
    ) {
        let mut inner = self.lock();
        let now = inner.recent.newest().map(Timestamp);
        inner.episodes.open(held, open, now);
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

    /// It was looked at how much lies ahead; alerts are due by these parameters. Answers when records were last read, and whether none has
    /// come for longer than usual.
    pub fn looked(&self, params: &Arc<Params>) -> (Option<Timestamp>, bool) {
        let mut inner = self.lock();
        inner.params = Arc::clone(params);
        let held: BTreeSet<TopicPartition> = inner.partitions.keys().cloned().collect();
        if !held.is_empty() {
            if !held.is_superset(&inner.watched) {
                inner.arrivals.forget();
            }
            inner.watched = held;
        }
        let (now, lag) = (inner.now(), inner.lag());
        inner.arrivals.lag(now, lag);
        (inner.arrivals.last(), inner.silent())
    }

    /// A model was taken up.
    pub fn model(&self, card: &Card) {
        self.lock().model = Some(card.into());
    }

    /// The p-value at which a record counts as anomalous.
    pub fn budget(&self, p: f64) {
        self.lock().budget = p;
    }

    /// What people said of episodes, beside so many records that could not be read.
    pub fn feedback(&self, said: &Arc<Said>, unreadable: u64) -> FeedbackStatus {
        let found = FeedbackStatus::of(said, unreadable);
        let mut inner = self.lock();
        inner.said = Arc::clone(said);
        inner.feedback = found.clone();
        found
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
        let mut inner = self.lock();
        let Inner {
            episodes, recent, ..
        } = &mut *inner;
        episodes.alert(alert, recent);
    }

    /// What the features are called, once they are known.
    pub fn columns(&self, columns: &[String]) {
        self.lock().recent.name_columns(columns);
    }

    /// A batch of so many records was committed, and these of them could not be understood.
    pub fn read(&self, records: u64, dead: &[DeadLetter]) {
        let mut inner = self.lock();
        let now = inner.now();
        inner.intake.take(now, records, dead);
        if records > 0 {
            inner.arrivals.arrive(now, records);
        }
    }

    /// What the log should say now of records that could not be understood, each once.
    pub fn unreadable(&self) -> Vec<Unreadable> {
        let mut inner = self.lock();
        let now = inner.now();
        inner.intake.due(now)
    }

    /// Records were judged.
    pub fn watched(&self, watched: &[Watched]) {
        let mut inner = self.lock();
        for seen in watched {
            inner.recent.take(seen);
        }
    }

    /// Open episodes, the worst first, and closed ones, the newest first.
    pub fn episodes(&self) -> (Vec<EpisodeStatus>, Vec<EpisodeStatus>) {
        let inner = self.lock();
        let said = &inner.said;
        (
            inner.episodes.all_open(said),
            inner.episodes.all_closed(said),
        )
    }

    /// All that is known of an episode.
    pub fn episode(&self, id: &str) -> Option<EpisodeDetail> {
        let inner = self.lock();
        inner.episodes.detail(id, &inner.said)
    }

    /// At most `most` records of a key between two times.
    pub fn series(&self, key: &str, between: (i64, i64), most: usize) -> Option<Series> {
        self.lock().recent.series(key, between, most)
    }

    /// Where the oldest record of a key lies that is remembered.
    pub fn oldest(&self, key: &str) -> Option<InputRef> {
        self.lock().recent.oldest(key)
    }

    /// The latest judged records, the newest first.
    pub fn scores(&self, which: Which<'_>) -> ScoredList {
        ScoredList::of(&self.lock().recent, which)
    }

    /// Keys over time: those with an open episode first, then the strangest.
    pub fn overview(&self, wanted: Wanted<'_>) -> Overview {
        let inner = self.lock();
        inner.recent.overview(wanted, &inner.episodes.open_by_key())
    }

    /// The configuration was read again; of what is in effect now this is the digest.
    pub fn reloaded(&self, what: ReloadStatus, digest: String) {
        self.lock().reload = Some((what, digest));
    }

    /// Everything but the records.
    pub fn view(&self) -> View {
        let inner = self.lock();
        let not_ready = not_ready(&inner, self.process.workers);
        let mut workers = inner.workers_wait.iter();
        let of_worker = workers.next();
        let of_worker = of_worker.map(|(worker, why)| format!("worker {worker} waits: {why}"));
        let mut process = self.process.clone();
        if let Some((_, digest)) = &inner.reload {
            process.config_digest.clone_from(digest);
        }
        View {
            process,
            reload: inner.reload.as_ref().map(|(reload, _)| reload.clone()),
            ready: not_ready.is_none(),
            waiting: not_ready.or(of_worker),
            partitions: inner.partitions.values().cloned().collect(),
            records: inner.records(),
            model: inner.model.clone(),
            training: inner.training.clone(),
            training_waits: inner.training_waits.clone(),
            feedback: inner.feedback.clone(),
            budget: inner.budget,
            newest: inner.recent.newest(),
            columns: inner.recent.columns().to_vec(),
            episodes: inner.episodes.all_open(&inner.said),
            closed: inner.episodes.all_closed(&inner.said),
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
        not_ready(&self.lock(), self.process.workers)
    }
}

fn not_ready(inner: &Inner, workers: usize) -> Option<String> {
    if inner.failed.is_some() {
        return inner.failed.clone();
    }
    let waits = |why: &String| format!("waiting for Kafka: {why}");
    if inner.waits.is_some() {
        return inner.waits.clone();
    }
    // What all wait for keeps partitions from being read that are still held.
    let all_wait = 0 < workers && workers <= inner.workers_wait.len();
    if inner.partitions.is_empty() || all_wait {
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
        let view = status.view();
        let waits = Some("worker 1 waits: an end".to_owned());
        assert_eq!((view.ready, view.waiting), (true, waits));
        status.revoked(&at);
        let why = Some("waiting for Kafka: an end".to_owned());
        assert_eq!(status.not_ready(), why);
        assert_eq!(status.view().waiting, why);
        status.worker_waits(1, None);
        let why = status.not_ready();
        assert!(why.is_some_and(|why| why.contains("no partition")));
    }

    #[test]
    fn what_all_workers_wait_for_is_a_reason_not_to_be_ready() {
        let status = Status::new(ProcessInfo {
            workers: 2,
            ..ProcessInfo::default()
        });
        status.assigned(&TopicPartition::new("t", 0), false);
        let gone = || Some("the topic `t` does not exist".to_owned());
        status.worker_waits(0, gone());
        assert_eq!(status.not_ready(), None);
        status.worker_waits(1, gone());
        let why = Some("waiting for Kafka: the topic `t` does not exist".to_owned());
        assert_eq!(status.not_ready(), why);
        status.worker_waits(0, None);
        assert_eq!(status.not_ready(), None);
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
    fn an_input_that_stopped_is_silent_but_not_while_it_is_away_or_shared_anew() {
        let status = Status::new(ProcessInfo::default());
        let [one, other] = [0, 1].map(|partition| TopicPartition::new("t", partition));
        let silent = |second: i64| {
            status.stepped(0, Timestamp(second * 1000));
            let (_, silent) = status.looked(&Arc::default());
            assert_eq!(status.view().records.silent, silent);
            silent
        };
        for at in [&one, &other] {
            status.assigned(at, false);
            status.lag(at, 0);
        }
        for second in 0..700 {
            status.stepped(0, Timestamp(second * 1000));
            status.read(1, &[]);
            assert!(!silent(second));
        }
        let records = status.view().records;
        assert_eq!(records.patience_seconds, Some(60.0));
        let last = "1970-01-01T00:11:39.000Z".to_owned();
        assert_eq!(records.last_read, Some(last));
        assert!(silent(760));
        for at in [&one, &other] {
            status.revoked(at);
        }
        assert!(!silent(800));
        status.assigned(&one, true);
        status.assigned(&other, false);
        assert!(!silent(1000));
        status.restored(&one);
        assert!(!silent(1060));
        assert!(silent(1061));
        status.revoked(&one);
        assert!(!silent(1100));
        assert_eq!(status.view().records.patience_seconds, None);
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
}
