//! OpenTelemetry: a trace a batch and the metrics of `/metrics`, as OTLP over HTTP (JSON), to whoever collects them.
//!
//! Never on the data path: workers put a few numbers into a bounded queue and go on; what does not fit is dropped and counted. A thread of its own makes
//! messages of them and posts them. An endpoint that is away costs a line in the log.
//!
//! Next: [`trace`] (what a worker tells), `otlp` (the messages as they are written), `export` (what is posted when), [`thread`](mod@thread).

mod export;
mod otlp;
pub mod thread;
pub mod trace;

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::IntCounterVec;

use crate::https::{Authorities, redacted};

/// Where it goes, and how much.
#[derive(Clone, PartialEq)]
pub struct Settings {
    /// The address before `/v1/traces` and `/v1/metrics`, without a slash at its end.
    pub endpoint: String,
    /// Headers of each request; they may be secrets.
    pub headers: BTreeMap<String, String>,
    /// Who may vouch for the endpoint.
    pub authorities: Authorities,
    /// The share of committed batches that are traced, from 0 to 1; where it is above 0, batches that were not committed always are.
    pub trace_ratio: f64,
    /// Time between two messages of metrics; zero: none.
    pub metrics_interval: Duration,
    /// How long one request may take.
    pub timeout: Duration,
    /// What else is said of the process: attributes of the resource.
    pub resource: BTreeMap<String, String>,
}

impl std::fmt::Debug for Settings {
    /// Leaves address and headers out: both may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("trace_ratio", &self.trace_ratio)
            .field("metrics_interval", &self.metrics_interval)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// `text` without what may be a secret.
    fn redacted(&self, text: &str) -> String {
        let secrets = self.headers.values().chain([&self.endpoint]);
        redacted(text, secrets.map(String::as_str))
    }
}

/// What is counted of it.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Spans, by outcome: `exported` or `dropped`.
    pub spans: IntCounterVec,
    /// Requests, by signal and status code; `none`: no answer.
    pub requests: IntCounterVec,
}

impl Counters {
    fn dropped(&self, spans: usize) {
        let dropped = self.spans.with_label_values(&["dropped"]);
        dropped.inc_by(spans as u64);
    }
}
