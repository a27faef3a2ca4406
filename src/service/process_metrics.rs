//! The metrics of a process, of no detector alone: every name, its help text and its labels.

use prometheus::{IntCounterVec, Opts, Registry};

use super::metrics::{Entry, entry};
use crate::telemetry::Counters;

/// All metrics: names, labels and help.
pub(super) const PROCESS_TABLE: &[Entry] = &[
    entry(
        "anomalyd_process_http_requests_total",
        &["endpoint", "code"],
        "Requests that HTTP answered for all detectors of a process of several, by endpoint and status code; those below /d/NAME are in anomalyd_http_requests_total. Without the label detector.",
    ),
    entry(
        "anomalyd_process_telemetry_requests_total",
        &["signal", "code"],
        "Requests to telemetry.endpoint by signal (traces, metrics) and status code; none: no answer. Without the label detector.",
    ),
    entry(
        "anomalyd_process_telemetry_spans_total",
        &["outcome"],
        "Spans of batches by outcome: exported to telemetry.endpoint, or dropped because too many waited or they were refused. Without the label detector.",
    ),
];

/// The metrics of a process. Cloning shares them.
#[derive(Clone, Debug)]
pub(super) struct ProcessMetrics {
    /// Requests that HTTP answered for all detectors.
    pub(super) requests: IntCounterVec,
    /// What is counted of telemetry.
    pub(super) telemetry: Counters,
}

impl ProcessMetrics {
    /// Makes and registers them. An error is a bug: a name twice, or an illegal one.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metric = |name: &str| {
            let entry = PROCESS_TABLE.iter().find(|entry| entry.name == name);
            let entry =
                entry.ok_or_else(|| prometheus::Error::Msg(format!("{name} is in no table")))?;
            let made = IntCounterVec::new(Opts::new(name, entry.help), entry.labels)?;
            registry.register(Box::new(made.clone()))?;
            prometheus::Result::Ok(made)
        };
        Ok(Self {
            requests: metric("anomalyd_process_http_requests_total")?,
            telemetry: Counters {
                requests: metric("anomalyd_process_telemetry_requests_total")?,
                spans: metric("anomalyd_process_telemetry_spans_total")?,
            },
        })
    }
}
