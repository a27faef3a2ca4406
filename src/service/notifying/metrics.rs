//! The metrics of `anomalyd notify`: every name, its help text and its labels.

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Registry};

use super::super::maker::{Entry, Maker, entry};
use super::super::reloaded::OUTCOMES as RELOADS;

/// What became of alerts.
const OUTCOMES: [&str; 4] = ["delivered", "refused", "passed_over", "unreadable"];

/// All metrics: names, labels and help.
pub(in crate::service) const NOTIFY_TABLE: &[Entry] = &[
    entry(
        "anomalyd_notify_alerts_total",
        &["endpoint", "outcome"],
        "Messages of the alerts topic that `anomalyd notify` dealt with, by endpoint and outcome: delivered; refused by the endpoint for good, and lost to it; passed_over by severity_min or send_resolved; unreadable.",
    ),
    entry(
        "anomalyd_notify_requests_total",
        &["endpoint", "code"],
        "Requests to an endpoint by its status code; none: no answer.",
    ),
    entry(
        "anomalyd_notify_lag_alerts",
        &["endpoint"],
        "Messages of the alerts topic, on the partitions held, that were not yet dealt with for an endpoint.",
    ),
    entry(
        "anomalyd_notify_waits",
        &["endpoint"],
        "1 while an endpoint, or Kafka for it, fails and is tried again; the log and /status say why.",
    ),
    entry(
        "anomalyd_notify_last_step_timestamp_seconds",
        &["endpoint"],
        "When the thread of an endpoint last said that it goes on, in seconds since 1970; stands still only if it hangs.",
    ),
    entry(
        "anomalyd_notify_reloads_total",
        &["outcome"],
        "Times that `anomalyd notify` read its configuration again (SIGHUP), by outcome: as anomalyd_reloads_total has them.",
    ),
];

/// The metrics of all endpoints. Cloning shares them.
#[derive(Clone, Debug)]
pub struct NotifyMetrics {
    /// Messages of the topic, by outcome.
    pub alerts: IntCounterVec,
    /// Requests, by status.
    pub requests: IntCounterVec,
    /// Messages not yet dealt with.
    pub lag: IntGaugeVec,
    /// Whether it waits.
    pub waits: IntGaugeVec,
    /// When it last went on.
    pub last_step: GaugeVec,
    /// Times that the configuration was read again, by outcome.
    pub reloads: IntCounterVec,
}

impl NotifyMetrics {
    /// Makes and registers them. An error is a bug: a name twice, or an illegal one.
    pub fn register(registry: &Registry, detector: &str) -> prometheus::Result<Self> {
        let make = Maker {
            registry,
            detector: Some(detector),
            table: NOTIFY_TABLE,
        };
        let reloads: IntCounterVec = make.metric("anomalyd_notify_reloads_total")?;
        for outcome in RELOADS {
            reloads.with_label_values(&[outcome]);
        }
        Ok(Self {
            reloads,
            alerts: make.metric("anomalyd_notify_alerts_total")?,
            requests: make.metric("anomalyd_notify_requests_total")?,
            lag: make.metric("anomalyd_notify_lag_alerts")?,
            waits: make.metric("anomalyd_notify_waits")?,
            last_step: make.metric("anomalyd_notify_last_step_timestamp_seconds")?,
        })
    }

    /// Lets the series of an endpoint exist from the start, so that the first event is an increase and not a new series.
    pub fn begin(&self, endpoint: &str) {
        for outcome in OUTCOMES {
            self.alerts.with_label_values(&[endpoint, outcome]);
        }
        for code in ["200", "none"] {
            self.requests.with_label_values(&[endpoint, code]);
        }
        self.lag.with_label_values(&[endpoint]);
        self.waits.with_label_values(&[endpoint]);
        self.last_step.with_label_values(&[endpoint]);
    }
}
