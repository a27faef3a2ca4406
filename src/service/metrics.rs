//! The metrics: every name, its help text and its labels, in one place. No statics: a [`Metrics`] is made with a registry and passed down.
//!
//! Names are `anomalyd_<what>_<unit>[_total]` in base units. Labels have few values; a record's key is never one. docs/metrics.md lists
//! them, and a test holds the two together.

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Registry,
};

use super::maker::{Entry, Maker, entry, timer};
use super::reloaded::OUTCOMES;
use super::status::FeedbackStatus;
use crate::model::card::Feedback;
use crate::model::gate_report::Reason;
use crate::pipeline::{Discarded, Suppressed};
use crate::record::DecodeError;

/// Bounds of histograms of work on one batch, in seconds.
const WORK: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Bounds of the histogram of trainings, in seconds.
const LONG: &[f64] = &[
    0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0,
];

/// Bounds of the histogram from a record's Kafka timestamp to its alert, in seconds.
const LATENCY: &[f64] = &[
    0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Bounds of the histogram of how much more evidence there was for an episode than the budget asks for.
const RATIO: &[f64] = &[1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0];

/// All metrics of one detector. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Records taken from the input.
    pub consumed: IntCounter,
    /// Bytes of keys and values of the batches taken from the input.
    pub consumed_bytes: IntCounter,
    /// Records that got a score.
    pub scored: IntCounter,
    /// Records with small p-values, by what those are at most.
    pub exceeding: IntCounterVec,
    /// Evidence of episodes when they opened, over what the budget asked for.
    pub evidence: Histogram,
    /// What the budget allows, by what it is for.
    pub budget: GaugeVec,
    /// Keys remembered on the partitions held.
    pub keys: IntGauge,
    /// Records whose window or cold start was still filling.
    pub warming_up: IntCounter,
    /// Keys that began or ceased to drift, by event.
    pub drifts: IntCounterVec,
    /// Records later than the bound.
    pub late: IntCounter,
    /// Records that could not be read, by reason.
    pub dead_lettered: IntCounterVec,
    /// Records that retention deleted before they were read.
    pub skipped: IntCounter,
    /// Records of the models topic that could not be read.
    pub models_unreadable: IntGauge,
    /// Episodes that somebody said something of, by verdict.
    pub feedback: IntGaugeVec,
    /// Records of the feedback topic that could not be read.
    pub feedback_unreadable: IntGauge,
    /// Partitions whose state could not be used, by reason.
    pub state_discarded: IntCounterVec,
    /// Records read again to restore state.
    pub replayed: IntCounter,
    /// Batches, by outcome.
    pub batches: IntCounterVec,
    /// Alert messages, by event and severity.
    pub alerts: IntCounterVec,
    /// Alerts held back.
    pub suppressed: IntCounterVec,
    /// Episodes open now.
    pub episodes_open: IntGauge,
    /// How far the worst clock of a key is off, by direction.
    pub clock_skew: GaugeVec,
    /// Keys whose clocks are wrong, by direction.
    pub wrong_clocks: IntGaugeVec,
    /// Time to decode a batch.
    pub decode: Histogram,
    /// Time to work out a batch: windows, scores, episodes.
    pub score: Histogram,
    /// Time to publish a batch, by outcome.
    pub publish: HistogramVec,
    /// Time from a record's Kafka timestamp to its alert's commit.
    pub record_to_alert: Histogram,
    /// Records not yet read, by topic and partition.
    pub lag: IntGaugeVec,
    /// When records were last read.
    pub last_record: Gauge,
    /// Whether none has come for longer than usual.
    pub silent: IntGauge,
    /// Partitions held now.
    pub partitions: IntGauge,
    /// Changes of assignment.
    pub rebalances: IntCounter,
    /// The lowest version of a model that judges a partition held.
    pub model_version: IntGauge,
    /// When the model in use was made.
    pub model_created: Gauge,
    /// Keys of which the model in use learnt nothing.
    pub unlearnt: IntGauge,
    /// Champions that a worker could not take up.
    pub models_refused: IntCounter,
    /// Training runs, by outcome.
    pub trainings: IntCounterVec,
    /// What training waits for.
    pub training_waits: IntGaugeVec,
    /// When the last training run ended.
    pub training_ended: Gauge,
    /// How long training runs took.
    pub training_seconds: Histogram,
    /// The gate's verdicts.
    pub verdicts: IntCounterVec,
    /// When each worker last finished a step.
    pub last_step: GaugeVec,
    /// Whether each worker waits long for something.
    pub waits: IntGaugeVec,
    /// Requests that HTTP answered, by endpoint and status code.
    pub requests: IntCounterVec,
    /// Times that the configuration was read again, by outcome.
    pub reloads: IntCounterVec,
    /// Settings that are others in the configuration than in the process.
    pub restart_needed: IntGauge,
    /// Whether the detector works.
    pub up: IntGauge,
    /// Times that it failed and began anew, or ended.
    pub failures: IntCounter,
}

/// All metrics: names, labels and help.
pub(super) const TABLE: &[Entry] = &[
    entry(
        "anomalyd_build_info",
        &["version"],
        "Always 1; the label has the version that runs.",
    ),
    entry(
        "anomalyd_records_consumed_total",
        &[],
        "Records taken from the input, committed, counted by their offsets; always the sum of scored, warming up, late and dead-lettered, which are counted by what became of them.",
    ),
    entry(
        "anomalyd_consumed_bytes_total",
        &[],
        "Bytes of keys, values and headers of the batches taken from the input, committed.",
    ),
    entry(
        "anomalyd_records_scored_total",
        &[],
        "Records that got a score and could alert.",
    ),
    entry(
        "anomalyd_records_exceeding_total",
        &["p"],
        "Records scored whose p-value was at most p (0.01, 0.001): over those scored it is near p while all is normal.",
    ),
    timer(
        "anomalyd_episode_evidence_ratio",
        &[],
        RATIO,
        "Evidence of episodes when they opened, over the evidence that the budget asked for: 1 is just enough.",
    ),
    entry(
        "anomalyd_alert_budget_episodes",
        &["per"],
        "False alarms that alerts.false_alarm_rate accepts, per key and day (key_day), per day of all keys together (fleet_day), or per record (record): whichever of them it is set by.",
    ),
    entry(
        "anomalyd_keys",
        &[],
        "Keys remembered on the partitions held.",
    ),
    entry(
        "anomalyd_records_warming_up_total",
        &[],
        "Records whose window or cold start was still filling: they cannot alert.",
    ),
    entry(
        "anomalyd_records_late_total",
        &[],
        "Records later than input.late_after behind their key's newest: sent on unscored.",
    ),
    entry(
        "anomalyd_records_dead_lettered_total",
        &["reason"],
        "Records that could not be read, by reason: null_value, syntax, field, length, key_length, nothing_observed.",
    ),
    entry(
        "anomalyd_records_skipped_total",
        &[],
        "Records that were deleted before they were read; they are not among those consumed.",
    ),
    entry(
        "anomalyd_models_unreadable",
        &[],
        "Records of the models topic that could not be read since the start, and the model to judge by where its file is no model; the log says which. They are passed over.",
    ),
    entry(
        "anomalyd_feedback_episodes",
        &["verdict"],
        "Episodes that somebody said something of, by verdict: false_positive, true_positive, new_normal; the same in every process, for all read the same topic. true_positive / (true_positive + false_positive) is the precision as judged.",
    ),
    entry(
        "anomalyd_feedback_unreadable",
        &[],
        "Records of the feedback topic on this detector that could not be read since the start; the log says which, and why. They are passed over.",
    ),
    entry(
        "anomalyd_state_discarded_total",
        &["reason"],
        "Partitions that began anew because their state could not be used, by reason: no_head, ahead, other_features, records_deleted, model_gone, other_topic, damaged.",
    ),
    entry(
        "anomalyd_records_replayed_total",
        &[],
        "Records read after an assignment to restore state, or to learn seasons from before the beginning; they emit nothing and are not counted as consumed.",
    ),
    entry(
        "anomalyd_batches_total",
        &["outcome"],
        "Batches by outcome: committed, or aborted and tried again.",
    ),
    entry(
        "anomalyd_alerts_total",
        &["event", "severity"],
        "Alert messages published, by event (open, update, close) and severity.",
    ),
    entry(
        "anomalyd_drift_total",
        &["event"],
        "Keys whose records became more surprising and stayed so, by event (begin, end): what is told on output.drift.",
    ),
    entry(
        "anomalyd_alerts_suppressed_total",
        &["reason"],
        "Alerts of episodes that nobody was told of when they opened, by reason: storm (too many at once: one summary alert stands for them), dismissed (somebody dismissed one like it).",
    ),
    entry(
        "anomalyd_episodes_open",
        &[],
        "Episodes open on the partitions held.",
    ),
    entry(
        "anomalyd_clock_skew_seconds",
        &["direction"],
        "How far the worst clock of a key is ahead of most others of its partition or of Kafka's, or behind most others, on the partitions held; 0: none is wrong. The log and /status name the keys.",
    ),
    entry(
        "anomalyd_wrong_clocks",
        &["direction"],
        "Keys whose clocks are more than a minute ahead of most others of their partition, or behind them.",
    ),
    timer(
        "anomalyd_decode_seconds",
        &[],
        WORK,
        "Time to decode a batch.",
    ),
    timer(
        "anomalyd_score_seconds",
        &[],
        WORK,
        "Time to work out a batch: windows, scores, p-values, episodes.",
    ),
    timer(
        "anomalyd_publish_seconds",
        &["outcome"],
        WORK,
        "Time to publish a batch in one transaction, by outcome: committed, or aborted, with the wait before it is tried again.",
    ),
    timer(
        "anomalyd_record_to_alert_seconds",
        &[],
        LATENCY,
        "Time from the Kafka timestamp of the record that caused an alert to the alert's commit.",
    ),
    entry(
        "anomalyd_lag_records",
        &["topic", "partition"],
        "Records of a partition that were not yet read.",
    ),
    entry(
        "anomalyd_last_record_timestamp_seconds",
        &[],
        "When this process last read records, in seconds since 1970; 0: not since it started.",
    ),
    entry(
        "anomalyd_input_silent",
        &[],
        "1 while no record has come to the partitions held for longer than alerts.silence_factor times the longest time between two, and a minute at least; 0 too until ten have come over ten minutes, while it is not known what is usual.",
    ),
    entry(
        "anomalyd_partitions_assigned",
        &[],
        "Input partitions held by this process.",
    ),
    entry(
        "anomalyd_rebalances_total",
        &[],
        "Times that partitions came or went.",
    ),
    entry(
        "anomalyd_model_version",
        &[],
        "Version of the model that judges the partitions held, the lowest if there are several; 0 is the cold start.",
    ),
    entry(
        "anomalyd_model_created_timestamp_seconds",
        &[],
        "When the model in use was trained, in seconds since 1970; its age is time() minus this. 0 without a model.",
    ),
    entry(
        "anomalyd_model_unlearnt_keys",
        &[],
        "Keys of which the model in use learnt nothing, for all of their records are kept out as flagged; /status names some.",
    ),
    entry(
        "anomalyd_models_refused_total",
        &[],
        "Times that a worker refused the champion because it was made for other features.",
    ),
    entry(
        "anomalyd_training_runs_total",
        &["outcome"],
        "Training runs by outcome: promoted, rejected, skipped (too few records), cancelled, failed.",
    ),
    entry(
        "anomalyd_training_waits",
        &["reason"],
        "1 while there is no model, or no new one, for this reason: too_few_records (in the log), too_few_windows (the records of each key are too few in a row), kept_out (most records lie in episodes), unreadable (most records cannot be read).",
    ),
    entry(
        "anomalyd_training_ended_timestamp_seconds",
        &[],
        "When this process last ended a training run, whatever came of it, in seconds since 1970; 0: not yet.",
    ),
    timer(
        "anomalyd_training_seconds",
        &[],
        LONG,
        "Time that a training run took, reading history and the gate included.",
    ),
    entry(
        "anomalyd_gate_verdicts_total",
        &["verdict"],
        "Verdicts of the gate on newly trained models: promoted, or the reasons of a rejection: not_finite, too_few, constant_score, scale, loss, alert_rate, earlier_alert_rate, below_champion, blunt. baseline beside it: principal components were tried in place of what was asked for.",
    ),
    entry(
        "anomalyd_last_step_timestamp_seconds",
        &["worker"],
        "When a worker last said that it goes on, in seconds since 1970: at each step of its loop, and while it waits for Kafka; stands still only if the worker hangs.",
    ),
    entry(
        "anomalyd_worker_waits",
        &["worker"],
        "1 while a worker has long been waiting for Kafka, for an input topic that does not exist, or for the schema registry; the log and /status say why.",
    ),
    entry(
        "anomalyd_http_requests_total",
        &["endpoint", "code"],
        "Requests that HTTP answered, by endpoint (its path as docs/openapi.json writes it; other: any that is none) and status code: 401 are wrong tokens.",
    ),
    entry(
        "anomalyd_reloads_total",
        &["outcome"],
        "Times that the configuration was read again (SIGHUP, POST /api/v1/reload), by outcome: unchanged, applied, needs_restart (of what changed, some takes a restart; the log and /status name it), refused (it cannot be used: nothing was changed).",
    ),
    entry(
        "anomalyd_restart_needed_settings",
        &[],
        "Settings that were others in the configuration when it was last read again than in this process, which takes a restart.",
    ),
    entry(
        "anomalyd_detector_up",
        &[],
        "1 while the detector works or waits for Kafka; 0 where it failed among others that go on, until it begins anew. A process of one detector ends instead.",
    ),
    entry(
        "anomalyd_detector_failures_total",
        &[],
        "Times that the detector failed among others that go on; the log and /status say why.",
    ),
];

impl Metrics {
    /// Makes all metrics and registers them. An error is a bug: a name twice, or an illegal one.
    pub fn register(registry: &Registry, detector: &str) -> prometheus::Result<Self> {
        let make = Maker {
            registry,
            detector: Some(detector),
            table: TABLE,
        };
        let build: IntGaugeVec = make.metric("anomalyd_build_info")?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            consumed: make.metric("anomalyd_records_consumed_total")?,
            consumed_bytes: make.metric("anomalyd_consumed_bytes_total")?,
            scored: make.metric("anomalyd_records_scored_total")?,
            exceeding: make.metric("anomalyd_records_exceeding_total")?,
            evidence: make.metric("anomalyd_episode_evidence_ratio")?,
            budget: make.metric("anomalyd_alert_budget_episodes")?,
            keys: make.metric("anomalyd_keys")?,
            warming_up: make.metric("anomalyd_records_warming_up_total")?,
            late: make.metric("anomalyd_records_late_total")?,
            dead_lettered: make.metric("anomalyd_records_dead_lettered_total")?,
            skipped: make.metric("anomalyd_records_skipped_total")?,
            models_unreadable: make.metric("anomalyd_models_unreadable")?,
            feedback: make.metric("anomalyd_feedback_episodes")?,
            feedback_unreadable: make.metric("anomalyd_feedback_unreadable")?,
            state_discarded: make.metric("anomalyd_state_discarded_total")?,
            replayed: make.metric("anomalyd_records_replayed_total")?,
            batches: make.metric("anomalyd_batches_total")?,
            alerts: make.metric("anomalyd_alerts_total")?,
            drifts: make.metric("anomalyd_drift_total")?,
            suppressed: make.metric("anomalyd_alerts_suppressed_total")?,
            episodes_open: make.metric("anomalyd_episodes_open")?,
            clock_skew: make.metric("anomalyd_clock_skew_seconds")?,
            wrong_clocks: make.metric("anomalyd_wrong_clocks")?,
            decode: make.metric("anomalyd_decode_seconds")?,
            score: make.metric("anomalyd_score_seconds")?,
            publish: make.metric("anomalyd_publish_seconds")?,
            record_to_alert: make.metric("anomalyd_record_to_alert_seconds")?,
            lag: make.metric("anomalyd_lag_records")?,
            last_record: make.metric("anomalyd_last_record_timestamp_seconds")?,
            silent: make.metric("anomalyd_input_silent")?,
            partitions: make.metric("anomalyd_partitions_assigned")?,
            rebalances: make.metric("anomalyd_rebalances_total")?,
            model_version: make.metric("anomalyd_model_version")?,
            model_created: make.metric("anomalyd_model_created_timestamp_seconds")?,
            unlearnt: make.metric("anomalyd_model_unlearnt_keys")?,
            models_refused: make.metric("anomalyd_models_refused_total")?,
            trainings: make.metric("anomalyd_training_runs_total")?,
            training_waits: make.metric("anomalyd_training_waits")?,
            training_ended: make.metric("anomalyd_training_ended_timestamp_seconds")?,
            training_seconds: make.metric("anomalyd_training_seconds")?,
            verdicts: make.metric("anomalyd_gate_verdicts_total")?,
            last_step: make.metric("anomalyd_last_step_timestamp_seconds")?,
            waits: make.metric("anomalyd_worker_waits")?,
            requests: make.metric("anomalyd_http_requests_total")?,
            reloads: make.metric("anomalyd_reloads_total")?,
            restart_needed: make.metric("anomalyd_restart_needed_settings")?,
            up: make.metric("anomalyd_detector_up")?,
            failures: make.metric("anomalyd_detector_failures_total")?,
        };
        metrics.begin();
        metrics.up.set(1);
        Ok(metrics)
    }

    /// Sets what is exported of feedback.
    pub fn count_feedback(&self, found: &FeedbackStatus) {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        for verdict in Feedback::ALL {
            let count = match verdict {
                Feedback::FalsePositive => found.false_positive,
                Feedback::TruePositive => found.true_positive,
                Feedback::NewNormal => found.new_normal,
            };
            let gauge = self.feedback.with_label_values(&[verdict.name()]);
            gauge.set(number(count));
        }
        self.feedback_unreadable.set(number(found.unreadable));
    }

    /// Lets the series with known labels exist from the start, so that the first event is an increase and not a new series.
    fn begin(&self) {
        for reason in DecodeError::REASONS {
            self.dead_lettered.with_label_values(&[reason]);
        }
        for p in ["0.01", "0.001"] {
            self.exceeding.with_label_values(&[p]);
        }
        for why in Discarded::ALL {
            self.state_discarded.with_label_values(&[why.name()]);
        }
        for direction in ["ahead", "behind"] {
            self.clock_skew.with_label_values(&[direction]);
            self.wrong_clocks.with_label_values(&[direction]);
        }
        for event in ["begin", "end"] {
            self.drifts.with_label_values(&[event]);
        }
        for outcome in ["committed", "aborted"] {
            self.batches.with_label_values(&[outcome]);
            self.publish.with_label_values(&[outcome]);
        }
        for event in ["open", "update", "close"] {
            for severity in ["low", "medium", "high", "critical"] {
                self.alerts.with_label_values(&[event, severity]);
            }
        }
        for outcome in OUTCOMES {
            self.reloads.with_label_values(&[outcome]);
        }
        for outcome in ["promoted", "rejected", "skipped", "cancelled", "failed"] {
            self.trainings.with_label_values(&[outcome]);
        }
        for reason in Suppressed::ALL {
            self.suppressed.with_label_values(&[reason.name()]);
        }
        for verdict in Feedback::ALL {
            self.feedback.with_label_values(&[verdict.name()]);
        }
        for waits in crate::trainer::Waits::ALL {
            self.training_waits.with_label_values(&[waits.name()]);
        }
        for verdict in ["promoted", "baseline"].into_iter().chain(Reason::NAMES) {
            self.verdicts.with_label_values(&[verdict]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_reason() {
        for (name, reasons) in [
            (
                "anomalyd_records_dead_lettered_total",
                &DecodeError::REASONS[..],
            ),
            ("anomalyd_gate_verdicts_total", &Reason::NAMES),
            (
                "anomalyd_state_discarded_total",
                &Discarded::ALL.map(Discarded::name),
            ),
            ("anomalyd_reloads_total", &OUTCOMES),
            (
                "anomalyd_alerts_suppressed_total",
                &Suppressed::ALL.map(Suppressed::name),
            ),
        ] {
            let entry = TABLE.iter().find(|entry| entry.name == name).unwrap();
            for reason in reasons {
                assert!(entry.help.contains(reason), "{name}: {reason}");
            }
        }
    }

    #[test]
    fn what_people_said_is_exported_by_verdict() {
        let metrics = Metrics::register(&Registry::new(), "d").unwrap();
        metrics.count_feedback(&FeedbackStatus {
            false_positive: 1,
            true_positive: 2,
            new_normal: 3,
            precision: None,
            unreadable: 4,
        });
        let count = |verdict: Feedback| metrics.feedback.with_label_values(&[verdict.name()]).get();
        assert_eq!(Feedback::ALL.map(count), [1, 2, 3]);
        assert_eq!(metrics.feedback_unreadable.get(), 4);
    }

    #[test]
    fn two_detectors_of_one_process_share_a_registry() {
        let registry = Registry::new();
        let a = Metrics::register(&registry, "a").unwrap();
        let b = Metrics::register(&registry, "b").unwrap();
        a.consumed.inc_by(2);
        assert_eq!((a.consumed.get(), b.consumed.get()), (2, 0));
        assert!(Metrics::register(&registry, "a").is_err());
    }
}
