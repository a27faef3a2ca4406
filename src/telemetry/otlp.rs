//! OTLP's messages as JSON (opentelemetry.io/docs/specs/otlp, "JSON Protobuf Encoding"): identifiers in hexadecimal, 64-bit numbers as text.

use std::collections::BTreeMap;

use prometheus::proto::{Metric as Series, MetricFamily, MetricType};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use serde::{Serialize, Serializer};

use super::trace::{BatchTrace, STEPS};
use crate::worker::Outcome;

/// `SPAN_KIND_INTERNAL`, of steps.
const INTERNAL: u8 = 1;
/// `SPAN_KIND_CONSUMER`, of batches.
const CONSUMER: u8 = 5;
/// `STATUS_CODE_ERROR`
const ERROR: u8 = 2;
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`
const CUMULATIVE: u8 = 2;

/// A number that JSON has as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Long(u64);

impl Serialize for Long {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

/// A number; what JSON has no number for is text.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Double(f64);

impl Serialize for Double {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            number if number.is_finite() => to.serialize_f64(number),
            number if number.is_nan() => to.serialize_str("NaN"),
            number if number > 0.0 => to.serialize_str("Infinity"),
            _ => to.serialize_str("-Infinity"),
        }
    }
}

/// One value of an attribute.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Value {
    StringValue(String),
    IntValue(Long),
}

/// An attribute.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Attribute {
    key: String,
    value: Value,
}

fn text(key: &str, value: &str) -> Attribute {
    Attribute {
        key: key.to_owned(),
        value: Value::StringValue(value.to_owned()),
    }
}

fn number(key: &str, value: u64) -> Attribute {
    Attribute {
        key: key.to_owned(),
        value: Value::IntValue(Long(value)),
    }
}

/// Who tells: the process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Resource {
    attributes: Vec<Attribute>,
}

impl Resource {
    /// Of the process called `instance`, and what else is said of it, which wins.
    pub(super) fn new(instance: &str, others: &BTreeMap<String, String>) -> Self {
        let ours = [
            ("service.name", "anomalyd"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.instance.id", instance),
        ];
        let mut all: BTreeMap<&str, &str> = BTreeMap::from(ours);
        all.extend(others.iter().map(|(key, value)| (&**key, &**value)));
        let attributes = all.into_iter().map(|(key, value)| text(key, value));
        Self {
            attributes: attributes.collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

const SCOPE: Scope = Scope {
    name: "anomalyd",
    version: env!("CARGO_PKG_VERSION"),
};

/// What is posted to `/v1/traces`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Traces<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: &'a Resource,
    scope_spans: [ScopeSpans; 1],
}

#[derive(Debug, Serialize)]
struct ScopeSpans {
    scope: Scope,
    spans: Vec<Span>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    name: &'static str,
    kind: u8,
    start_time_unix_nano: Long,
    end_time_unix_nano: Long,
    attributes: Vec<Attribute>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

#[derive(Debug, Serialize)]
struct Status {
    code: u8,
    message: String,
}

impl<'a> Traces<'a> {
    /// Of batches: a span each, with its steps below it. `rng` makes their identifiers.
    pub(super) fn new(
        resource: &'a Resource,
        batches: &[BatchTrace],
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let spans = batches.iter().flat_map(|batch| spans(batch, rng)).collect();
        Self {
            resource_spans: [ResourceSpans {
                resource,
                scope_spans: [ScopeSpans {
                    scope: SCOPE,
                    spans,
                }],
            }],
        }
    }
}

fn spans(batch: &BatchTrace, rng: &mut ChaCha8Rng) -> Vec<Span> {
    // Zero is no identifier.
    let trace_id = format!("{:032x}", rng.gen_range(1..=u128::MAX));
    let root = format!("{:016x}", rng.gen_range(1..=u64::MAX));
    let (times, origin) = (&batch.times, &batch.origin);
    let failed = matches!(batch.outcome, Outcome::Aborted | Outcome::Lost);
    let mut all = vec![Span {
        trace_id: trace_id.clone(),
        span_id: root.clone(),
        parent_span_id: None,
        name: "process batch",
        kind: CONSUMER,
        start_time_unix_nano: Long(times[0]),
        end_time_unix_nano: Long(times[STEPS.len()]),
        attributes: vec![
            text("anomalyd.detector", &origin.detector),
            number("anomalyd.worker", origin.worker as u64),
            number("anomalyd.records", batch.records),
            number("anomalyd.alerts", batch.alerts as u64),
            text("anomalyd.outcome", batch.outcome.name()),
            text("messaging.system", "kafka"),
            text("messaging.operation.type", "process"),
            text("messaging.consumer.group.name", &origin.group),
            number("messaging.batch.message_count", batch.records),
        ],
        status: failed.then(|| Status {
            code: ERROR,
            message: format!("the transaction was {}", batch.outcome.name()),
        }),
    }];
    for (name, time) in STEPS.into_iter().zip(times.windows(2)) {
        all.push(Span {
            trace_id: trace_id.clone(),
            span_id: format!("{:016x}", rng.gen_range(1..=u64::MAX)),
            parent_span_id: Some(root.clone()),
            name,
            kind: INTERNAL,
            start_time_unix_nano: Long(time[0]),
            end_time_unix_nano: Long(time[1]),
            attributes: Vec::new(),
            status: None,
        });
    }
    all
}

/// What is posted to `/v1/metrics`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metrics<'a> {
    resource_metrics: [ResourceMetrics<'a>; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceMetrics<'a> {
    resource: &'a Resource,
    scope_metrics: [ScopeMetrics; 1],
}

#[derive(Debug, Serialize)]
struct ScopeMetrics {
    scope: Scope,
    metrics: Vec<Metric>,
}

/// One metric, called as `/metrics` calls it. The unit is part of its name, and is not said again: else who makes Prometheus' names of OTLP's would
/// add it once more.
#[derive(Debug, Serialize)]
struct Metric {
    name: String,
    description: String,
    #[serde(flatten)]
    data: Data,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Data {
    #[serde(rename_all = "camelCase")]
    Sum {
        data_points: Vec<Point>,
        aggregation_temporality: u8,
        is_monotonic: bool,
    },
    #[serde(rename_all = "camelCase")]
    Gauge { data_points: Vec<Point> },
    #[serde(rename_all = "camelCase")]
    Histogram {
        data_points: Vec<Buckets>,
        aggregation_temporality: u8,
    },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Point {
    attributes: Vec<Attribute>,
    start_time_unix_nano: Long,
    time_unix_nano: Long,
    as_double: Double,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Buckets {
    attributes: Vec<Attribute>,
    start_time_unix_nano: Long,
    time_unix_nano: Long,
    count: Long,
    sum: Double,
    bucket_counts: Vec<Long>,
    explicit_bounds: Vec<f64>,
}

impl<'a> Metrics<'a> {
    /// Of what was gathered at `now`, by a process that counts since `since`; both in nanoseconds since 1970.
    pub(super) fn new(
        resource: &'a Resource,
        families: &[MetricFamily],
        (since, now): (u64, u64),
    ) -> Self {
        let times = (Long(since), Long(now));
        let metrics = families.iter().map(|family| metric(family, times));
        Self {
            resource_metrics: [ResourceMetrics {
                resource,
                scope_metrics: [ScopeMetrics {
                    scope: SCOPE,
                    metrics: metrics.collect(),
                }],
            }],
        }
    }
}

fn metric(family: &MetricFamily, times: (Long, Long)) -> Metric {
    let each = family.get_metric().iter();
    let data = match family.get_field_type() {
        MetricType::HISTOGRAM => Data::Histogram {
            data_points: each.map(|one| buckets(one, times)).collect(),
            aggregation_temporality: CUMULATIVE,
        },
        MetricType::COUNTER => Data::Sum {
            data_points: each
                .map(|one| point(one, one.get_counter().get_value(), times))
                .collect(),
            aggregation_temporality: CUMULATIVE,
            is_monotonic: true,
        },
        _ => Data::Gauge {
            data_points: each
                .map(|one| point(one, one.get_gauge().get_value(), times))
                .collect(),
        },
    };
    Metric {
        name: family.name().to_owned(),
        description: family.help().to_owned(),
        data,
    }
}

fn labels(metric: &Series) -> Vec<Attribute> {
    let labels = metric.get_label().iter();
    labels
        .map(|label| text(label.name(), label.value()))
        .collect()
}

fn point(metric: &Series, value: f64, (since, now): (Long, Long)) -> Point {
    Point {
        attributes: labels(metric),
        start_time_unix_nano: since,
        time_unix_nano: now,
        as_double: Double(value),
    }
}

/// Prometheus counts what is at most a bound; OTLP what is between two, and what is above the last.
fn buckets(metric: &Series, (since, now): (Long, Long)) -> Buckets {
    let histogram = metric.get_histogram();
    let finite = histogram.get_bucket().iter();
    let finite: Vec<_> = finite.filter(|b| b.upper_bound().is_finite()).collect();
    let count = histogram.get_sample_count();
    let ends = finite.iter().map(|bucket| bucket.cumulative_count());
    let mut before = 0;
    let mut counts = Vec::new();
    for end in ends.chain([count]) {
        counts.push(Long(end.saturating_sub(before)));
        before = end;
    }
    Buckets {
        attributes: labels(metric),
        start_time_unix_nano: since,
        time_unix_nano: now,
        count: Long(count),
        sum: Double(histogram.get_sample_sum()),
        bucket_counts: counts,
        explicit_bounds: finite.iter().map(|bucket| bucket.upper_bound()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::{Gauge, Histogram, HistogramOpts, IntCounterVec, Opts, Registry};
    use serde_json::{Value as Json, json};

    #[test]
    fn metrics_are_those_of_the_text_format() {
        let registry = Registry::new();
        let counter = IntCounterVec::new(Opts::new("a_total", "A."), &["code"]).unwrap();
        counter.with_label_values(&["200"]).inc_by(3);
        registry.register(Box::new(counter)).unwrap();
        let gauge = Gauge::new("b", "B.").unwrap();
        gauge.set(f64::NAN);
        registry.register(Box::new(gauge)).unwrap();
        let opts = HistogramOpts::new("c_seconds", "C.").buckets(vec![1.0, 2.0]);
        let histogram = Histogram::with_opts(opts).unwrap();
        for value in [0.5, 0.75, 1.5, 9.0] {
            histogram.observe(value);
        }
        registry.register(Box::new(histogram)).unwrap();
        let resource = Resource::new(
            "i",
            &BTreeMap::from([("service.name".into(), "pumps".into())]),
        );
        let all = Metrics::new(&resource, &registry.gather(), (1, 2));
        let all = serde_json::to_value(all).unwrap();
        let resource = &all["resourceMetrics"][0]["resource"]["attributes"];
        let attribute =
            |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
        let version = attribute("service.version", env!("CARGO_PKG_VERSION"));
        assert_eq!(
            *resource,
            json!([
                attribute("service.instance.id", "i"),
                attribute("service.name", "pumps"),
                version
            ])
        );
        let metrics = &all["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
        assert_eq!(
            metrics[0],
            json!({"name": "a_total", "description": "A.", "sum": {
                "dataPoints": [{
                    "attributes": [attribute("code", "200")],
                    "startTimeUnixNano": "1", "timeUnixNano": "2", "asDouble": 3.0
                }],
                "aggregationTemporality": 2, "isMonotonic": true
            }})
        );
        assert_eq!(metrics[1]["gauge"]["dataPoints"][0]["asDouble"], "NaN");
        let histogram = &metrics[2]["histogram"]["dataPoints"][0];
        assert_eq!(histogram["bucketCounts"], json!(["2", "1", "1"]));
        assert_eq!(histogram["explicitBounds"], json!([1.0, 2.0]));
        assert_eq!(
            (&histogram["count"], &histogram["sum"]),
            (&json!("4"), &json!(11.75))
        );
        assert_eq!(metrics[3], Json::Null);
    }
}
