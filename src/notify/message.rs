//! From alerts to the bytes of a request.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::bodies::{self, Words, closes};
use super::endpoint::{Endpoint, Kind};
use crate::alert::{Alert, Severity};
use crate::time::Timestamp;

/// One request's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// A function of the alerts: whoever gets it twice can tell.
    pub id: String,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// What is posted.
    pub body: Vec<u8>,
}

/// Which alerts go together into a message, in their order. Where episodes are known by their ids, their opening and closing are two messages; and
/// PagerDuty takes one event at a time.
pub(super) fn parts(kind: Kind, alerts: &[Option<&Alert>]) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut begin = 0;
    let mut within: BTreeMap<&str, bool> = BTreeMap::new();
    for (place, alert) in alerts.iter().enumerate() {
        let Some(alert) = alert.filter(|_| kind.knows_episodes()) else {
            continue;
        };
        let id = alert.id.as_str();
        let other = kind == Kind::Pagerduty && within.keys().any(|known| *known != id);
        let turned = within
            .get(id)
            .is_some_and(|closed| *closed != closes(alert));
        if other || turned {
            parts.push(begin..place);
            begin = place;
            within.clear();
        }
        within.insert(id, closes(alert));
    }
    if begin < alerts.len() {
        parts.push(begin..alerts.len());
    }
    parts
}

/// What is posted of some alerts, which are not empty, in the order in which they came.
pub(super) fn compose(
    endpoint: &Endpoint,
    alerts: &[&Alert],
    now: Timestamp,
    words: Words,
) -> Message {
    let id = id(alerts);
    let view = view(&id, alerts, words);
    let own = endpoint.template.as_ref().and_then(|template| {
        let rendered = template.render(&view);
        if let Err(problem) = &rendered {
            tracing::error!(endpoint = endpoint.name, %problem, "the template fails: telling it in our own words");
        }
        rendered.ok()
    });
    let json = |value: Value| (value.to_string().into_bytes(), "application/json");
    let latest = latest(alerts);
    let (body, content_type) = match (endpoint.kind, own) {
        (Kind::Webhook, None) => json(view),
        (Kind::Webhook, Some(own)) => {
            let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&own).is_ok();
            let text = "text/plain; charset=utf-8";
            let content_type = if is_json { "application/json" } else { text };
            (own.into_bytes(), content_type)
        }
        (Kind::Slack, own) => json(bodies::slack(&latest, own, words)),
        (Kind::Pagerduty, own) => json(bodies::pagerduty(&latest, (&endpoint.secret, own), words)),
        (Kind::Alertmanager, own) => {
            json(bodies::alertmanager(&latest, own.as_deref(), now, words))
        }
    };
    Message {
        id,
        content_type,
        body,
    }
}

/// Each episode by the last that was told of it, in the order of their first.
fn latest<'a>(alerts: &[&'a Alert]) -> Vec<&'a Alert> {
    let mut latest: Vec<&Alert> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for alert in alerts {
        let place = *places.entry(alert.id.as_str()).or_insert(latest.len());
        if place == latest.len() {
            latest.push(alert);
        } else {
            latest[place] = alert;
        }
    }
    latest
}

/// The same for the same alerts.
fn id(alerts: &[&Alert]) -> String {
    let mut digest = Sha256::new();
    for alert in alerts {
        let place = &alert.input;
        let name = alert.event.name();
        let line = format!("{} {name} {} {}\n", alert.id, place.at, place.offset);
        digest.update(line.as_bytes());
    }
    let digest = digest.finalize();
    let hex: String = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
    format!("msg_{hex}")
}

/// What a webhook is sent, and what templates see.
fn view(id: &str, alerts: &[&Alert], words: Words) -> Value {
    let each: Vec<Value> = alerts
        .iter()
        .map(|alert| {
            let mut value = json!(alert);
            value["text"] = json!(words(alert));
            value["status"] = json!(status(alert));
            value
        })
        .collect();
    let latest = latest(alerts);
    let firing = latest.iter().any(|alert| !closes(alert));
    let worst = latest.iter().map(|alert| alert.severity).max();
    json!({
        "schema": 1,
        "id": id,
        "status": if firing { "firing" } else { "resolved" },
        "severity": worst.map_or("low", Severity::name),
        "text": bodies::lines(&latest, words, str::to_owned).join("\n"),
        "alerts": each,
    })
}

/// `firing` or `resolved`, as Alertmanager says.
fn status(alert: &Alert) -> &'static str {
    if closes(alert) { "resolved" } else { "firing" }
}

/// A message as it may be, for trying templates.
pub fn sample() -> Value {
    let alert = json!({
        "schema": 1, "id": "pumps/records/3/48210", "event": "open", "kind": "score", "detector": "pumps", "key": "P-17", "status": "firing",
        "text": "temperature 61.0, expected 49.2", "data_time": "2026-01-01T00:00:00.000Z",
        "approx_anomaly_start_time": "2026-01-01T00:00:00.000Z", "end_time": "2026-01-01T00:10:00.000Z", "anomaly_score": 9.0, "peak_score": 9.0,
        "anomaly_grade": 0.9, "confidence": 1.0, "severity": "high", "p_value": 1e-9, "threshold": 2.0, "records": 41, "model_version": 1,
        "evidence": 20.7, "evidence_threshold": 9.2, "evidence_records": 1, "suppressed": 3, "within": "pumps/records/3/48000",
        "url": "https://anomalyd.example.com/episode/pumps/records/3/48210",
        "relevant_attribution": [{"feature": "temperature", "share": 1.0, "actual": 61.0, "expected": 49.2}],
        "input": {"topic": "records", "partition": 3, "offset": 48210},
    });
    json!({"schema": 1, "id": "msg_0", "status": "firing", "severity": "high", "text": "high: P-17: temperature 61.0, expected 49.2", "alerts": [alert]})
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::endpoint::Endpoint;
    use super::*;
    use crate::https::Authorities;
    use crate::notify::rate::Rate;
    use crate::notify::template::Template;
    use std::time::Duration;

    pub(in crate::notify) fn alert(
        key: &str,
        onset: i64,
        event: &str,
        severity: &str,
        at: i64,
    ) -> Alert {
        let mut value = sample()["alerts"][0].clone();
        for (name, set) in [
            ("key", json!(key)),
            ("id", json!(format!("pumps/records/3/{onset}"))),
            ("event", json!(event)),
            ("severity", json!(severity)),
        ] {
            value[name] = set;
        }
        value["input"]["offset"] = json!(at);
        if event != "close" {
            value.as_object_mut().unwrap().remove("end_time");
        }
        for more in ["suppressed", "within"] {
            value.as_object_mut().unwrap().remove(more);
        }
        serde_json::from_value(value).unwrap()
    }

    pub(in crate::notify) fn endpoint(kind: Kind) -> Endpoint {
        Endpoint {
            name: kind.name().to_owned(),
            kind,
            url: "http://127.0.0.1:1/".to_owned(),
            secret: "s3cret".to_owned(),
            authorities: Authorities::Machine,
            severity_min: Severity::Low,
            send_resolved: true,
            group_wait: Duration::from_secs(10),
            rate_limit: Rate::parse("60/minute").unwrap(),
            timeout: Duration::from_secs(10),
            template: None,
        }
    }

    pub(in crate::notify) fn words(_: &Alert) -> String {
        "temperature 61.0, expected 49.2".to_owned()
    }

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn composed(endpoint: &Endpoint, alerts: &[&Alert]) -> Value {
        let message = compose(endpoint, alerts, NOW, words);
        assert_eq!(message.content_type, "application/json");
        serde_json::from_slice(&message.body).unwrap()
    }

    #[test]
    fn the_sample_is_an_alert() {
        let read: Alert = serde_json::from_value(sample()["alerts"][0].clone()).unwrap();
        assert_eq!(json!(read)["id"], sample()["alerts"][0]["id"]);
    }

    #[test]
    fn openings_and_closings_of_one_episode_are_apart_where_it_is_known_by_its_id() {
        let of = |key: &str, onset, event: &str| alert(key, onset, event, "high", onset);
        let all = [
            of("a", 1, "open"),
            of("b", 2, "open"),
            of("a", 1, "update"),
            of("a", 1, "close"),
            of("b", 2, "close"),
        ];
        let mut told: Vec<Option<&Alert>> = all.iter().map(Some).collect();
        told.insert(1, None);
        let whole = std::slice::from_ref(&(0..6));
        assert_eq!(parts(Kind::Slack, &told), whole);
        assert_eq!(parts(Kind::Webhook, &told), whole);
        assert_eq!(parts(Kind::Alertmanager, &told), [0..4, 4..6]);
        assert_eq!(
            parts(Kind::Pagerduty, &told),
            [0..2, 2..3, 3..4, 4..5, 5..6]
        );
        let both = parts(Kind::Pagerduty, &[None, None]);
        assert_eq!(both, std::slice::from_ref(&(0..2)));
        assert!(parts(Kind::Pagerduty, &[]).is_empty());
    }

    #[test]
    fn a_message_has_the_same_id_for_the_same_alerts() {
        let (one, two) = (
            alert("a", 1, "open", "high", 1),
            alert("a", 1, "close", "high", 9),
        );
        assert_eq!(id(&[&one, &two]), id(&[&one, &two]));
        assert_ne!(id(&[&one]), id(&[&two]));
        assert_ne!(id(&[&one, &two]), id(&[&two, &one]));
    }

    #[test]
    fn a_webhook_gets_all_alerts_as_they_are_and_their_words() {
        let (low, high) = (
            alert("a", 1, "open", "low", 1),
            alert("b", 2, "open", "high", 2),
        );
        let body = composed(&endpoint(Kind::Webhook), &[&low, &high]);
        assert_eq!(
            (&body["status"], &body["severity"]),
            (&json!("firing"), &json!("high"))
        );
        assert_eq!(body["alerts"][0]["relevant_attribution"][0]["share"], 1.0);
        assert_eq!(body["alerts"][1]["key"], "b");
        let close = alert("a", 1, "close", "low", 5);
        let body = composed(&endpoint(Kind::Webhook), &[&low, &close]);
        assert_eq!(body["status"], "resolved");
        assert_eq!(body["alerts"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn a_template_makes_the_body_and_one_that_fails_does_not_lose_the_alert() {
        let one = alert("a", 1, "open", "high", 1);
        let mut webhook = endpoint(Kind::Webhook);
        let with = |source: &str| Some(Template::parse(source, &sample()).unwrap());
        webhook.template = with("{{ alerts[0].key }} is {{ severity }}");
        let message = compose(&webhook, &[&one], NOW, words);
        assert_eq!(message.body, b"a is high");
        assert!(message.content_type.starts_with("text/plain"));
        webhook.template = with(r#"{"text": {{ text|tojson }}}"#);
        assert_eq!(
            composed(&webhook, &[&one])["text"],
            "high: a: temperature 61.0, expected 49.2 https://anomalyd.example.com/episode/pumps/records/3/48210"
        );
        // Of the sample it can be taken apart, of this alert not.
        webhook.template = with("{{ alerts[0].within|length }}");
        assert_eq!(composed(&webhook, &[&one])["alerts"][0]["key"], "a");
    }
}
