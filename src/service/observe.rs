//! What happens in workers and in training, turned into metrics and status: one place an event, so that the two cannot drift apart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::intake::Unreadable;
use super::metrics::Metrics;
use super::status::{Status, TrainingStatus};
use crate::alert::{Alert, AlertEvent, Drift};
use crate::detect::episode::{Rule, pace};
use crate::detect::{Budget, Params};
use crate::model::card::ModelVersion;
use crate::model::gate_report::GateReport;
use crate::model::trained::TrainedModel;
use crate::pipeline::{Assigned, ColumnsDiffer, Discarded, Suppressed, Tally, WrongClock};
use crate::stream::TopicPartition;
use crate::telemetry::trace::Tracer;
use crate::time::{Clock, Timestamp};
use crate::trainer::{self, Waits};
use crate::worker::{self, Attempt, Committed, Gauges};

/// Keys with wrong clocks that are named one by one when a batch is committed.
const WRONG_NAMED: usize = 3;

/// Gauges that are sums over the workers of a process: each worker adds its own values.
#[derive(Clone, Debug, Default)]
pub struct WorkerGauges(Arc<Mutex<BTreeMap<usize, GaugeValues>>>);

/// One worker's values, or their sums.
#[derive(Clone, Copy, Debug, Default)]
struct GaugeValues {
    /// The lowest version that judges; `None`: nothing is held.
    judging: Option<ModelVersion>,
    /// The champion as it was taken up: what would judge.
    champion: Option<ModelVersion>,
    episodes: u64,
    keys: u64,
    /// Keys whose clocks are ahead, and the largest lead in milliseconds.
    ahead: (u64, u64),
    /// The same of those behind.
    behind: (u64, u64),
    partitions: usize,
}

impl WorkerGauges {
    /// Changes one worker's values; answers the sum over the process.
    fn change(&self, worker: usize, change: impl FnOnce(&mut GaugeValues)) -> GaugeValues {
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(workers.entry(worker).or_default());
        workers
            .values()
            .fold(GaugeValues::default(), |sum, own| GaugeValues {
                judging: sum.judging.into_iter().chain(own.judging).min(),
                champion: sum.champion.max(own.champion),
                episodes: sum.episodes + own.episodes,
                keys: sum.keys + own.keys,
                ahead: (sum.ahead.0 + own.ahead.0, sum.ahead.1.max(own.ahead.1)),
                behind: (sum.behind.0 + own.behind.0, sum.behind.1.max(own.behind.1)),
                partitions: sum.partitions + own.partitions,
            })
    }
}

/// Tells metrics and status what one worker did.
#[derive(Debug)]
pub struct WorkerObserver {
    worker: usize,
    metrics: Metrics,
    status: Arc<Status>,
    shared: WorkerGauges,
    params: Arc<Params>,
    tracer: Option<Tracer>,
}

impl WorkerObserver {
    /// For worker number `worker`; `shared` is of all workers of the process, `params` are the detector's.
    pub fn new(
        worker: usize,
        (metrics, status): (Metrics, Arc<Status>),
        shared: WorkerGauges,
        params: Arc<Params>,
    ) -> Self {
        let (per, rate) = match params.budget {
            Budget::PerRecord(rate) => ("record", rate),
            Budget::PerKeyDay(rate) => ("key_day", rate),
            Budget::PerFleetDay(rate) => ("fleet_day", rate),
        };
        metrics.budget.with_label_values(&[per]).set(rate);
        Self {
            worker,
            metrics,
            status,
            shared,
            params,
            tracer: None,
        }
    }

    /// The same, which also tells `tracer` of batches.
    #[must_use]
    pub fn traced(self, tracer: Option<Tracer>) -> Self {
        Self { tracer, ..self }
    }

    fn count(&self, tally: &Tally) {
        let metrics = &self.metrics;
        metrics.scored.inc_by(tally.scored);
        for (p, records) in [("0.01", tally.rare), ("0.001", tally.very_rare)] {
            metrics.exceeding.with_label_values(&[p]).inc_by(records);
        }
        metrics.warming_up.inc_by(tally.warming_up);
        metrics.late.inc_by(tally.late);
        for (event, count) in [("begin", tally.drift_began), ("end", tally.drift_ended)] {
            metrics.drifts.with_label_values(&[event]).inc_by(count);
        }
        if tally.skipped > 0 {
            tracing::error!(
                records = tally.skipped,
                "the input's retention deleted records before they were read"
            );
            metrics.skipped.inc_by(tally.skipped);
        }
        metrics.replayed.inc_by(tally.replayed);
        for reason in Suppressed::ALL {
            let count = match reason {
                Suppressed::Storm => tally.suppressed,
                Suppressed::Dismissed => tally.held_back,
            };
            let suppressed = metrics.suppressed.with_label_values(&[reason.name()]);
            suppressed.inc_by(count);
        }
        for (reason, count) in &tally.dead_lettered {
            metrics
                .dead_lettered
                .with_label_values(&[reason])
                .inc_by(*count);
        }
    }

    /// Says that records cannot be understood: the first of each reason at once, then one a minute.
    fn say_unreadable(&self) {
        for found in self.status.unreadable() {
            let Unreadable {
                records,
                at,
                offset,
                reason,
                detail,
            } = found;
            tracing::warn!(records, reason, %at, %offset, detail, "records of the input cannot be read, this one first: they go to the dead-letter topic, and `anomalyd dead-letters list` shows them");
        }
    }

    fn alert(&self, alert: &Alert) {
        let (event, severity) = (alert.event.name(), alert.severity.name());
        self.metrics
            .alerts
            .with_label_values(&[event, severity])
            .inc();
        if alert.event == AlertEvent::Open && alert.evidence_threshold > 0.0 {
            let ratio = alert.evidence / alert.evidence_threshold;
            self.metrics.evidence.observe(ratio);
        }
        let top = alert
            .relevant_attribution
            .first()
            .map_or("", |top| top.feature.as_str());
        tracing::info!(
            id = alert.id.as_str(),
            key = &*alert.key.0,
            severity,
            p_value = alert.p_value,
            top,
            "alert {event}"
        );
        self.status.alert(alert);
    }
}

/// Names a key that drifts, or does no more.
fn drift(drift: &Drift) {
    let event = drift.event.name();
    tracing::info!(
        id = drift.id.as_str(),
        key = &*drift.key.0,
        level = drift.level,
        usual = drift.usual_level,
        since = drift.approx_drift_start_time.rfc3339(),
        "drift {event}"
    );
}

/// Names keys whose clocks were found to be wrong, and counts the others where they are many: of all keys at once if they are ahead of Kafka's.
fn name_all_wrong(found: &[WrongClock]) {
    let (named, others) = found.split_at(found.len().min(WRONG_NAMED));
    named.iter().for_each(name_wrong);
    if !others.is_empty() {
        let keys = others.len();
        tracing::warn!(
            keys,
            "the clocks of more keys are wrong: /status has the worst"
        );
    }
}

/// Names a key whose clock is wrong.
fn name_wrong(clock: &WrongClock) {
    let seconds = Duration::from_millis(clock.ahead_ms.unsigned_abs()).as_secs_f64();
    let (key, partition) = (&*clock.key.0, &clock.at);
    if clock.ahead_ms > 0 {
        tracing::warn!(key, %partition, seconds, "the clock of a key is ahead of most others of its partition, or of Kafka's");
    } else {
        tracing::warn!(key, %partition, seconds, "the clock of a key, or the way of its records, is behind most others of its partition");
    }
}

/// A worker goes on: it finished a step, or waits for Kafka.
pub fn stepped(metrics: &Metrics, status: &Status, worker: usize, at: Timestamp) {
    status.stepped(worker, at);
    metrics
        .last_step
        .with_label_values(&[&worker.to_string()])
        .set(at.0 as f64 / 1000.0);
}

impl worker::Observer for WorkerObserver {
    fn stepped(&mut self, at: Timestamp) {
        stepped(&self.metrics, &self.status, self.worker, at);
        self.say_unreadable();
    }

    fn committed(&mut self, batch: &Committed<'_>) {
        self.count(batch.tally);
        let metrics = &self.metrics;
        metrics.consumed.inc_by(batch.consumed);
        metrics.batches.with_label_values(&["committed"]).inc();
        metrics.consumed_bytes.inc_by(batch.bytes);
        metrics.decode.observe(batch.decode.as_secs_f64());
        metrics.score.observe(batch.stage.as_secs_f64());
        metrics
            .publish
            .with_label_values(&["committed"])
            .observe(batch.publish.as_secs_f64());
        for latency in batch.alert_latencies {
            metrics.record_to_alert.observe(latency.as_secs_f64());
        }
        for alert in &batch.outbox.alerts {
            self.alert(alert);
        }
        for found in &batch.outbox.drift {
            drift(found);
        }
        name_all_wrong(batch.wrong_clocks);
        self.status.watched(batch.watched);
        self.status.read(batch.consumed, &batch.outbox.dead_letters);
        self.say_unreadable();
    }

    fn attempted(&mut self, attempt: &Attempt) {
        if let Some(tracer) = &mut self.tracer {
            tracer.tell(attempt);
        }
    }

    fn aborted(&mut self, took: Duration) {
        tracing::warn!("a transaction was aborted; its records are read again");
        self.metrics.batches.with_label_values(&["aborted"]).inc();
        self.metrics
            .publish
            .with_label_values(&["aborted"])
            .observe(took.as_secs_f64());
    }

    fn replayed(&mut self, records: u64) {
        self.metrics.replayed.inc_by(records);
    }

    fn assigned(&mut self, at: &TopicPartition, assigned: &Assigned) {
        tracing::info!(partition = %at, read_from = %assigned.read_from, replay = assigned.replay, skipped = assigned.skipped, "took over a partition");
        if assigned.lookback > 0 {
            tracing::info!(partition = %at, records = assigned.lookback, "learns what its keys do at which time of day and week from the records before its beginning, and tells nothing of them");
        }
        if let Some(why) = assigned.discarded {
            self.discarded(at, why);
        }
        self.metrics.rebalances.inc();
        self.status
            .assigned(at, assigned.replay > 0 || assigned.lookback > 0);
    }

    fn discarded(&mut self, at: &TopicPartition, why: Discarded) {
        tracing::warn!(partition = %at, %why, "its state could not be used: the partition begins anew");
        self.metrics
            .state_discarded
            .with_label_values(&[why.name()])
            .inc();
    }

    fn idle_snapshots_flushed(&mut self, tally: &Tally) {
        self.count(tally);
    }

    fn revoked(&mut self, partitions: &[TopicPartition]) {
        self.metrics.rebalances.inc();
        for at in partitions {
            tracing::info!(partition = %at, "let go of a partition");
            self.status.revoked(at);
            let labels = [&*at.topic, &at.partition.0.to_string()];
            // A series that was never made need not be removed.
            self.metrics
                .lag
                .remove_label_values(&labels)
                .unwrap_or_default();
        }
    }

    fn holds(&mut self, partitions: usize) {
        let all = self
            .shared
            .change(self.worker, |own| own.partitions = partitions);
        self.metrics
            .partitions
            .set(i64::try_from(all.partitions).unwrap_or(i64::MAX));
    }

    fn promoted(&mut self, model: &TrainedModel) {
        let card = &model.card;
        let version = Some(card.version);
        self.shared
            .change(self.worker, |own| own.champion = version);
        tracing::info!(worker = self.worker, version = %card.version, budget = %self.params.budget.means(pace(model)), "judges by a new model from here on");
        self.metrics
            .model_created
            .set(card.created.0 as f64 / 1000.0);
        let unlearnt = i64::try_from(card.unlearnt.keys).unwrap_or(i64::MAX);
        self.metrics.unlearnt.set(unlearnt);
        self.status.model(card);
        self.status
            .budget(Rule::of(&self.params, Some(model)).p_value());
    }

    fn judges_by(&mut self, params: &Arc<Params>, model: Option<&TrainedModel>) {
        self.params = Arc::clone(params);
        tracing::info!(worker = self.worker, budget = %params.budget, "judges by other alert settings from here on");
        self.status.budget(Rule::of(params, model).p_value());
    }

    fn refused(&mut self, why: &ColumnsDiffer) {
        tracing::error!(%why, "the champion cannot be used; scoring goes on with the model before it");
        self.metrics.models_refused.inc();
    }

    fn gauges(&mut self, gauges: &Gauges) {
        let all = self.shared.change(self.worker, |own| {
            own.episodes = gauges.episodes_open;
            own.keys = gauges.keys;
            own.judging = gauges.judging.values().copied().min();
            let clocks = &gauges.wrong_clocks;
            own.ahead = (clocks.ahead, clocks.most_ahead_ms);
            own.behind = (clocks.behind, clocks.most_behind_ms);
        });
        for (direction, (keys, most)) in [("ahead", all.ahead), ("behind", all.behind)] {
            let labels = [direction];
            let seconds = Duration::from_millis(most).as_secs_f64();
            let keys = i64::try_from(keys).unwrap_or(i64::MAX);
            self.metrics
                .clock_skew
                .with_label_values(&labels)
                .set(seconds);
            self.metrics
                .wrong_clocks
                .with_label_values(&labels)
                .set(keys);
        }
        self.metrics
            .episodes_open
            .set(i64::try_from(all.episodes).unwrap_or(i64::MAX));
        self.metrics
            .keys
            .set(i64::try_from(all.keys).unwrap_or(i64::MAX));
        let version = all.judging.or(all.champion).unwrap_or_default();
        self.metrics
            .model_version
            .set(i64::try_from(version.0).unwrap_or(i64::MAX));
        self.status.open(gauges.judging.keys(), &gauges.open);
        self.status.clocks(self.worker, &gauges.wrong_clocks.worst);
        for (at, lag) in &gauges.lag {
            let labels = [&*at.topic, &at.partition.0.to_string()];
            let records = i64::try_from(*lag).unwrap_or(i64::MAX);
            self.metrics.lag.with_label_values(&labels).set(records);
            self.status.lag(at, *lag);
        }
        let (last, silent) = self.status.looked(&self.params);
        let last = last.unwrap_or_default().0 as f64 / 1000.0;
        self.metrics.last_record.set(last);
        self.metrics.silent.set(i64::from(silent));
        if gauges.replaying == 0 {
            for at in gauges.judging.keys() {
                self.status.restored(at);
            }
        }
    }
}

/// Tells metrics and status what training came to.
#[derive(Debug)]
pub struct TrainingObserver {
    metrics: Metrics,
    status: Arc<Status>,
    clock: Arc<dyn Clock>,
}

impl TrainingObserver {
    /// For the process's one trainer.
    pub fn new(metrics: Metrics, status: Arc<Status>, clock: Arc<dyn Clock>) -> Self {
        Self {
            metrics,
            status,
            clock,
        }
    }
}

impl trainer::Observer for TrainingObserver {
    fn started(&self, version: ModelVersion) {
        tracing::info!(%version, "training a model");
    }

    fn judged(&self, _: ModelVersion, verdict: &GateReport) {
        if verdict.instead.is_some() {
            self.metrics.verdicts.with_label_values(&["baseline"]).inc();
        }
        if verdict.is_promoted() {
            self.metrics.verdicts.with_label_values(&["promoted"]).inc();
            return;
        }
        for reason in &verdict.reasons {
            self.metrics
                .verdicts
                .with_label_values(&[reason.name()])
                .inc();
        }
    }

    fn waits(&self, why: Option<(Waits, &str)>) {
        for waits in Waits::ALL {
            let is = why.is_some_and(|(reason, _)| reason == waits);
            let gauge = self
                .metrics
                .training_waits
                .with_label_values(&[waits.name()]);
            gauge.set(i64::from(is));
        }
        self.status
            .training_waits(why.map(|(_, text)| text.to_owned()));
    }

    fn finished(
        &self,
        version: ModelVersion,
        outcome: &'static str,
        verdict: &str,
        took: Duration,
    ) {
        self.metrics.trainings.with_label_values(&[outcome]).inc();
        self.metrics.training_seconds.observe(took.as_secs_f64());
        self.metrics
            .training_ended
            .set(self.clock.now().0 as f64 / 1000.0);
        self.status.training(TrainingStatus {
            ended: self.clock.now().rfc3339(),
            seconds: took.as_secs_f64(),
            outcome: outcome.to_owned(),
            detail: verdict.to_owned(),
            version: Some(version.0),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::card::Unlearnt;
    use crate::model::trained::TrainedModel;
    use crate::pipeline::{Outbox, WrongClocks};
    use crate::record::dead_letter::{DeadLetter, Refusal};
    use crate::record::{DecodeError, Key};
    use crate::service::status::ProcessInfo;
    use crate::stats::calibration::Calibration;
    use crate::time::ManualClock;
    use crate::trainer::Observer as _;
    use crate::worker::Observer as _;

    fn observers() -> (Metrics, Arc<Status>, [WorkerObserver; 2]) {
        let metrics = Metrics::register(&prometheus::Registry::new(), "d").unwrap();
        let status = Arc::new(Status::new(ProcessInfo::default()));
        let shared = WorkerGauges::default();
        let observers = [0, 1].map(|worker| {
            let sinks = (metrics.clone(), Arc::clone(&status));
            WorkerObserver::new(worker, sinks, shared.clone(), Arc::default())
        });
        (metrics, status, observers)
    }

    fn judging(versions: &[u64]) -> Gauges {
        let places = (0..).map(|partition| TopicPartition::new("t", partition));
        Gauges {
            judging: places
                .zip(versions.iter().map(|version| ModelVersion(*version)))
                .collect(),
            ..Gauges::default()
        }
    }

    #[test]
    fn the_version_exported_is_the_one_that_judges() {
        let (metrics, status, [mut one, mut two]) = observers();
        let mut model = TrainedModel::simple(5, &["x"], 1, Calibration::fit(&[1.0]));
        model.card.unlearnt = Unlearnt {
            keys: 2,
            named: vec!["k".to_owned()],
        };
        // A champion that is refused judges nothing.
        one.refused(&ColumnsDiffer {
            version: ModelVersion(5),
            theirs: 1,
            ours: 2,
        });
        one.gauges(&judging(&[3, 4]));
        assert_eq!(
            (metrics.models_refused.get(), metrics.model_version.get()),
            (1, 3)
        );
        assert!(status.view().model.is_none());
        // The lowest over all workers; one without partitions does not count.
        two.gauges(&judging(&[2]));
        assert_eq!(metrics.model_version.get(), 2);
        two.gauges(&judging(&[]));
        assert_eq!(metrics.model_version.get(), 3);
        // Where nothing is held, what was taken up would judge.
        one.promoted(&model);
        one.gauges(&judging(&[]));
        assert_eq!(
            (metrics.model_version.get(), metrics.unlearnt.get()),
            (5, 2)
        );
        let shown = status.view().model.unwrap();
        assert_eq!((shown.version, shown.unlearnt.keys), (5, 2));
        // What was taken up is not what judges while a partition is still replayed by another.
        one.gauges(&judging(&[3, 5]));
        assert_eq!(metrics.model_version.get(), 3);
    }

    #[test]
    fn clocks_that_are_wrong_all_at_once_are_a_few_lines() {
        let clock = |number: usize| WrongClock {
            at: TopicPartition::new("in", 0),
            key: Key(format!("k{number}").into()),
            ahead_ms: 7_200_000,
        };
        let lines = |keys: usize| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("log");
            let writer = std::fs::File::create(&path).unwrap();
            let log = tracing_subscriber::fmt().with_writer(writer).finish();
            let found: Vec<WrongClock> = (0..keys).map(clock).collect();
            tracing::subscriber::with_default(log, || name_all_wrong(&found));
            let text = std::fs::read_to_string(path).unwrap();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let one = lines(1);
        assert!(
            one.len() == 1 && one[0].contains("or of Kafka's"),
            "{one:?}"
        );
        let all = lines(10_000);
        assert_eq!(all.len(), WRONG_NAMED + 1);
        assert!(all[WRONG_NAMED].contains("9997"), "{all:?}");
    }

    #[test]
    fn wrong_clocks_are_counted_over_all_workers_and_named() {
        let (metrics, status, [mut one, mut two]) = observers();
        let clock = |key: &str, ahead_ms| WrongClock {
            at: TopicPartition::new("t", 0),
            key: crate::record::Key(Arc::from(key)),
            ahead_ms,
        };
        let of = |worst: Vec<WrongClock>, (ahead, behind): ((u64, u64), (u64, u64))| Gauges {
            wrong_clocks: WrongClocks {
                ahead: ahead.0,
                most_ahead_ms: ahead.1,
                behind: behind.0,
                most_behind_ms: behind.1,
                worst,
            },
            ..Gauges::default()
        };
        let most = |direction| metrics.clock_skew.with_label_values(&[direction]).get();
        let keys = |direction| metrics.wrong_clocks.with_label_values(&[direction]).get();
        one.gauges(&of(vec![clock("a", 3_300_000)], ((1, 3_300_000), (0, 0))));
        two.gauges(&of(
            vec![clock("b", 90_500), clock("c", -70_000)],
            ((1, 90_500), (1, 70_000)),
        ));
        assert!((most("ahead") - 3300.0).abs() < 1e-9 && (most("behind") - 70.0).abs() < 1e-9);
        assert_eq!((keys("ahead"), keys("behind")), (2, 1));
        let shown: Vec<(String, f64)> = status
            .view()
            .wrong_clocks
            .into_iter()
            .map(|c| (c.key, c.ahead_seconds))
            .collect();
        assert_eq!(
            shown,
            [
                ("a".to_owned(), 3300.0),
                ("b".to_owned(), 90.5),
                ("c".to_owned(), -70.0)
            ]
        );
        one.gauges(&Gauges::default());
        assert!((most("ahead") - 90.5).abs() < 1e-9);
        assert_eq!(status.view().wrong_clocks.len(), 2);
    }

    #[test]
    fn records_that_cannot_be_read_are_counted_for_people_too() {
        let (metrics, status, [mut one, _]) = observers();
        let letter = DeadLetter {
            detector: "d".into(),
            at: TopicPartition::new("t", 0),
            offset: crate::stream::Offset(7),
            timestamp: Timestamp(0),
            key: None,
            value: None,
            headers: Vec::new(),
            reason: Refusal::Unreadable(DecodeError::NullValue),
        };
        let tally = Tally {
            dead_lettered: BTreeMap::from([("null_value", 1)]),
            ..Tally::default()
        };
        let outbox = Outbox {
            dead_letters: vec![letter],
            ..Outbox::default()
        };
        one.stepped(Timestamp(60_000));
        one.committed(&Committed {
            tally: &tally,
            consumed: 8,
            outbox: &outbox,
            bytes: 0,
            decode: Duration::ZERO,
            stage: Duration::ZERO,
            publish: Duration::ZERO,
            alert_latencies: &[],
            watched: &[],
            wrong_clocks: &[],
        });
        let dead = metrics.dead_lettered.with_label_values(&["null_value"]);
        assert_eq!((metrics.consumed.get(), dead.get()), (8, 1));
        let records = status.view().records;
        assert_eq!((records.read, records.dead_letters), (8, 1));
        assert_eq!(records.newest_dead_letter.unwrap().offset, 7);
        // It was said when it came.
        assert_eq!(status.unreadable(), []);
    }

    #[test]
    fn what_was_lost_or_begun_anew_is_counted() {
        let (metrics, _, [mut one, _]) = observers();
        let at = TopicPartition::new("t", 0);
        one.discarded(&at, Discarded::ModelGone);
        one.idle_snapshots_flushed(&Tally {
            skipped: 7,
            ..Tally::default()
        });
        assert_eq!(metrics.skipped.get(), 7);
        let discarded = metrics.state_discarded.with_label_values(&["model_gone"]);
        assert_eq!(discarded.get(), 1);
    }

    #[test]
    fn keys_budget_and_exceedances_are_shown() {
        let (metrics, _, [mut one, mut two]) = observers();
        let holds = |keys| Gauges {
            keys,
            ..Gauges::default()
        };
        one.gauges(&holds(3));
        two.gauges(&holds(4));
        assert_eq!(metrics.keys.get(), 7);
        one.idle_snapshots_flushed(&Tally {
            rare: 5,
            very_rare: 2,
            ..Tally::default()
        });
        let exceeding = |p| metrics.exceeding.with_label_values(&[p]).get();
        assert_eq!((exceeding("0.01"), exceeding("0.001")), (5, 2));
        let budget = |per| metrics.budget.with_label_values(&[per]).get();
        let all = ["key_day", "fleet_day", "record"].map(budget);
        assert!(
            all.iter().filter(|rate| **rate > 0.0).count() == 1,
            "{all:?}"
        );
    }

    #[test]
    fn the_end_of_every_training_run_has_a_time() {
        let (metrics, status, _) = observers();
        let clock = Arc::new(ManualClock::at(Timestamp(5_000)));
        let observer = TrainingObserver::new(metrics.clone(), status, clock);
        observer.finished(ModelVersion(1), "failed", "why", Duration::ZERO);
        assert!((metrics.training_ended.get() - 5.0).abs() < 1e-9);
    }

    #[test]
    fn why_there_is_no_model_is_shown_until_there_is_one() {
        let (metrics, status, _) = observers();
        let clock = Arc::new(ManualClock::at(Timestamp(5_000)));
        let observer = TrainingObserver::new(metrics.clone(), Arc::clone(&status), clock);
        let gauge = |name: &str| metrics.training_waits.with_label_values(&[name]).get();
        observer.waits(Some((Waits::Records, "few")));
        assert_eq!((gauge("too_few_records"), gauge("kept_out")), (1, 0));
        observer.waits(Some((Waits::Episodes, "much")));
        assert_eq!((gauge("too_few_records"), gauge("kept_out")), (0, 1));
        assert_eq!(status.view().training_waits.as_deref(), Some("much"));
        observer.waits(None);
        assert_eq!((gauge("kept_out"), status.view().training_waits), (0, None));
    }
}
