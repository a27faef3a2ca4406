//! The metrics of a process, of no detector alone: every name, its help text and its labels.

use prometheus::{IntCounterVec, Registry};

use super::maker::{Entry, Maker, entry};
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
        let make = Maker {
            registry,
            detector: None,
            table: PROCESS_TABLE,
        };
        Ok(Self {
            requests: make.metric("anomalyd_process_http_requests_total")?,
            telemetry: Counters {
                requests: make.metric("anomalyd_process_telemetry_requests_total")?,
                spans: make.metric("anomalyd_process_telemetry_spans_total")?,
            },
        })
    }
}
