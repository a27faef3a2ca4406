//! `[telemetry]`: where traces and metrics go by OpenTelemetry's protocol, as it is written, and the rules that a type cannot hold.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::units::{format_duration, time};
use crate::https::{Authorities, is_http};
use crate::telemetry::Settings;

/// How long a request may take.
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));
/// The shortest time between two messages of metrics.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// `[telemetry]`
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// The address of a collector; empty: nothing is sent.
    pub endpoint: String,
    /// Certificates, PEM, of who may vouch for it; empty: those of the machine.
    pub ca_file: String,
    /// The share of batches that are traced.
    pub trace_ratio: f64,
    /// Time between two messages of metrics; 0: none.
    #[serde(with = "time")]
    pub metrics_interval: Duration,
    /// How long one request may take.
    #[serde(with = "time")]
    pub timeout: Duration,
    /// Headers of each request.
    pub headers: BTreeMap<String, String>,
    /// Attributes of the resource.
    pub resource: BTreeMap<String, String>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            ca_file: String::new(),
            trace_ratio: 0.01,
            metrics_interval: Duration::from_secs(60),
            timeout: Duration::from_secs(10),
            headers: BTreeMap::new(),
            resource: BTreeMap::new(),
        }
    }
}

impl fmt::Debug for Telemetry {
    /// Leaves address and headers out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("trace_ratio", &self.trace_ratio)
            .field("metrics_interval", &self.metrics_interval)
            .finish_non_exhaustive()
    }
}

/// The settings, if there is an endpoint; what is wrong goes to `add`.
pub(super) fn check(raw: &Telemetry, add: &mut dyn FnMut(&str, String)) -> Option<Settings> {
    if !(0.0..=1.0).contains(&raw.trace_ratio) {
        let is = raw.trace_ratio;
        add(
            "telemetry.trace_ratio",
            format!("is {is}, but must be from 0 to 1"),
        );
    }
    if !raw.metrics_interval.is_zero() && raw.metrics_interval < INTERVAL_MIN {
        let is = format_duration(raw.metrics_interval);
        add(
            "telemetry.metrics_interval",
            format!("is {is}, but must be at least 1s, or 0s for none"),
        );
    }
    if !(TIMEOUT.0..=TIMEOUT.1).contains(&raw.timeout) {
        let is = format_duration(raw.timeout);
        add(
            "telemetry.timeout",
            format!("is {is}, but must be from 100ms to 1m"),
        );
    }
    for (name, value) in &raw.headers {
        let good = name.parse::<ureq::http::HeaderName>().is_ok()
            && value.parse::<ureq::http::HeaderValue>().is_ok();
        if !good {
            // What it has may be a secret: it is not repeated.
            add(
                &format!("telemetry.headers.{name}"),
                "is a name or a value that no HTTP header can have".to_owned(),
            );
        }
    }
    if raw.endpoint.is_empty() {
        return None;
    }
    let endpoint = raw.endpoint.trim_end_matches('/');
    let signal = ["/v1/traces", "/v1/metrics"];
    if !is_http(endpoint) {
        add(
            "telemetry.endpoint",
            "must be an address that begins with `https://` or `http://`".to_owned(),
        );
    } else if signal.iter().any(|path| endpoint.ends_with(path)) {
        add(
            "telemetry.endpoint",
            "must be the address before `/v1/traces` and `/v1/metrics`, which are added to it"
                .to_owned(),
        );
    }
    Some(Settings {
        endpoint: endpoint.to_owned(),
        headers: raw.headers.clone(),
        authorities: Authorities::of_file(&raw.ca_file),
        trace_ratio: raw.trace_ratio,
        metrics_interval: raw.metrics_interval,
        timeout: raw.timeout,
        resource: raw.resource.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Sources};
    use std::time::Duration;

    fn load(set: &[&str]) -> Result<Config, String> {
        let sources = Sources {
            set: set.iter().map(|set| (*set).to_owned()).collect(),
            environment: vec![(
                "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
                "http://collector:4318/".to_owned(),
            )],
            ..Sources::default()
        };
        Config::load(&sources).map_err(|problems| problems.to_string())
    }

    #[test]
    fn nothing_is_sent_unless_it_is_said_where_to() {
        // Not even where OpenTelemetry's own variable is set: it is taken by a reference.
        assert_eq!(load(&[]).unwrap().telemetry, None);
        let config = load(&[
            "telemetry.endpoint=${env:OTEL_EXPORTER_OTLP_ENDPOINT}",
            "telemetry.headers.Api-Key=hunter2",
            "telemetry.resource.deployment.environment.name=plant",
            "telemetry.metrics_interval=0s",
        ])
        .unwrap();
        assert!(!config.shown.contains("hunter2"), "{}", config.shown);
        assert!(!format!("{config:?}").contains("hunter2"));
        let settings = config.telemetry.unwrap();
        assert_eq!(settings.endpoint, "http://collector:4318");
        assert_eq!(settings.headers["Api-Key"], "hunter2");
        assert_eq!(settings.resource["deployment.environment.name"], "plant");
        assert_eq!(settings.metrics_interval, Duration::ZERO);
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once_and_no_secret() {
        let found = load(&[
            "telemetry.endpoint=collector:4318/hunter2",
            "telemetry.trace_ratio=1.5",
            "telemetry.metrics_interval=10ms",
            "telemetry.timeout=2m",
            "telemetry.headers.a b=hunter2",
        ])
        .unwrap_err();
        for part in [
            "telemetry.endpoint: must be an address",
            "telemetry.trace_ratio: is 1.5",
            "telemetry.metrics_interval: is 10ms",
            "telemetry.timeout: is 2m",
            "telemetry.headers.a b: is a name or a value",
        ] {
            assert!(found.contains(part), "{part}: {found}");
        }
        assert!(!found.contains("hunter2"), "{found}");
        let found = load(&["telemetry.endpoint=http://collector:4318/v1/traces"]).unwrap_err();
        assert!(found.contains("the address before"), "{found}");
    }
}
