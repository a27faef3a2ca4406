//! All metrics, as docs and tests see them.

use prometheus::Registry;

use super::metrics::Metrics;
use super::notifying::metrics::NotifyMetrics;
use super::process_metrics::ProcessMetrics;

/// One metric as docs and tests see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its labels, without `detector`, which all have but those of a process.
    pub labels: Vec<String>,
    /// Its help text.
    pub help: String,
}

/// All metrics there are, by name. Every family is described, those without series too.
pub fn describe() -> prometheus::Result<Vec<Described>> {
    let registry = Registry::new();
    NotifyMetrics::register(&registry, "detector")?.begin("endpoint");
    let process = ProcessMetrics::register(&registry)?;
    process.requests.with_label_values(&["/", "200"]);
    let telemetry = &process.telemetry;
    telemetry.requests.with_label_values(&["traces", "200"]);
    telemetry.spans.with_label_values(&["exported"]);
    let metrics = Metrics::register(&registry, "detector")?;
    // A family without series would not be gathered.
    metrics.lag.with_label_values(&["topic", "0"]);
    metrics.budget.with_label_values(&["key_day"]);
    metrics.last_step.with_label_values(&["0"]);
    metrics.waits.with_label_values(&["0"]);
    metrics.requests.with_label_values(&["/", "200"]);
    Ok(registry
        .gather()
        .into_iter()
        .map(|family| {
            let kind = match family.get_field_type() {
                prometheus::proto::MetricType::COUNTER => "counter",
                prometheus::proto::MetricType::HISTOGRAM => "histogram",
                _ => "gauge",
            };
            let labels = family.get_metric().first().map_or_else(Vec::new, |metric| {
                metric
                    .get_label()
                    .iter()
                    .map(|label| label.name().to_owned())
                    .filter(|name| name != "detector")
                    .collect()
            });
            Described {
                name: family.name().to_owned(),
                kind,
                labels,
                help: family.help().to_owned(),
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::super::metrics::TABLE;
    use super::super::notifying::metrics::NOTIFY_TABLE;
    use super::super::process_metrics::PROCESS_TABLE;
    use super::*;

    #[test]
    fn names_are_ours_with_help_and_units() {
        let all = describe().unwrap();
        let tables = [TABLE, NOTIFY_TABLE, PROCESS_TABLE];
        let entries: usize = tables.iter().map(|table| table.len()).sum();
        assert_eq!(all.len(), entries);
        for metric in all {
            assert!(metric.name.starts_with("anomalyd_"), "{}", metric.name);
            assert!(
                metric.help.ends_with('.'),
                "{}: {}",
                metric.name,
                metric.help
            );
            assert_eq!(
                metric.kind == "counter",
                metric.name.ends_with("_total"),
                "{}",
                metric.name
            );
            assert_eq!(
                metric.kind == "histogram",
                metric.name.ends_with("_ratio")
                    || metric.name.ends_with("_seconds")
                        && !["timestamp", "skew"]
                            .iter()
                            .any(|word| metric.name.contains(word)),
                "{}",
                metric.name
            );
            assert!(!metric.labels.iter().any(|label| label == "key"));
        }
    }
}
