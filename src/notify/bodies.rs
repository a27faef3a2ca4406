//! What each kind of endpoint takes, of the last that was told of each episode.

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::alert::{Alert, AlertEvent, Severity};
use crate::time::Timestamp;

/// What an alert says, in words.
pub type Words = fn(&Alert) -> String;

/// Episodes that are named in a text; of more, only how many.
const LINES_MAX: usize = 20;
/// The longest line, in characters.
const LINE_MAX: usize = 500;
/// PagerDuty's limits, in characters.
const DEDUP_KEY_MAX: usize = 255;
const SUMMARY_MAX: usize = 1024;
/// How long Alertmanager is to take an episode for open of which it hears no more. It forgets all when it is started anew.
const FIRING_FOR: Duration = Duration::from_secs(30 * 86_400);
/// All severities, the least first.
const SEVERITIES: [Severity; 4] = [
    Severity::Low,
    Severity::Medium,
    Severity::High,
    Severity::Critical,
];

/// Whether an alert ends its episode.
pub(super) fn closes(alert: &Alert) -> bool {
    alert.event == AlertEvent::Close
}

/// At most so many characters of a text, on one line.
fn cut(text: &str, most: usize) -> String {
    let plain = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect::<String>();
    if plain.chars().count() <= most {
        return plain;
    }
    let start: String = plain.chars().take(most.saturating_sub(1)).collect();
    format!("{start}…")
}

/// How bad, whose and why.
fn line(alert: &Alert, words: Words) -> String {
    let how = if closes(alert) {
        "over"
    } else {
        alert.severity.name()
    };
    let why = if closes(alert) {
        format!(
            "{} records, {} at worst",
            alert.records,
            alert.severity.name()
        )
    } else {
        words(alert)
    };
    cut(&format!("{how}: {}: {why}", alert.key.shown()), LINE_MAX)
}

/// A line an episode, the worst first; `dress` makes each fit for where it goes.
pub(super) fn lines(
    alerts: &[&Alert],
    words: Words,
    dress: impl Fn(&str) -> String,
) -> Vec<String> {
    let mut sorted: Vec<&&Alert> = alerts.iter().collect();
    sorted.sort_by_key(|alert| (closes(alert), std::cmp::Reverse(alert.severity)));
    let named = sorted.iter().take(LINES_MAX);
    let mut lines: Vec<String> = named
        .map(|alert| {
            let text = dress(&line(alert, words));
            match &alert.url {
                Some(url) => format!("{text} {}", dress(url)),
                None => text,
            }
        })
        .collect();
    if let Some(more) = alerts.len().checked_sub(LINES_MAX).filter(|more| *more > 0) {
        lines.push(format!("… and {more} more episodes"));
    }
    lines
}

/// Slack's message: <https://api.slack.com/messaging/webhooks>.
pub(super) fn slack(alerts: &[&Alert], own: Option<String>, words: Words) -> Value {
    // What a key or a field is called must not call anybody, nor be a link.
    let dress = |text: &str| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
    };
    let text = own.unwrap_or_else(|| lines(alerts, words, dress).join("\n"));
    json!({ "text": text })
}

/// PagerDuty's event: <https://developer.pagerduty.com/docs/send-alert-event>.
pub(super) fn pagerduty(
    alerts: &[&Alert],
    (key, own): (&str, Option<String>),
    words: Words,
) -> Value {
    let Some(alert) = alerts.last() else {
        return Value::Null;
    };
    let id = alert.id.as_str();
    let dedup_key = if id.chars().count() <= DEDUP_KEY_MAX {
        id.to_owned()
    } else {
        let digest = Sha256::digest(id.as_bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let mut event = json!({
        "routing_key": key,
        "event_action": if closes(alert) { "resolve" } else { "trigger" },
        "dedup_key": dedup_key,
        "client": "anomalyd",
        "payload": {
            "summary": cut(&own.unwrap_or_else(|| line(alert, words)), SUMMARY_MAX),
            "source": cut(alert.key.shown(), SUMMARY_MAX),
            "severity": match alert.severity {
                Severity::Low => "info",
                Severity::Medium => "warning",
                Severity::High => "error",
                Severity::Critical => "critical",
            },
            "timestamp": alert.approx_anomaly_start_time.rfc3339(),
            "component": alert.detector,
            "class": alert.kind.name(),
            "custom_details": alert,
        },
    });
    if let Some(url) = &alert.url {
        event["client_url"] = json!(url);
        event["links"] = json!([{"href": url, "text": "the episode"}]);
    }
    event
}

/// Alertmanager's alerts (`postAlerts`). Labels are what it knows an alert by, and people route by severity: so an episode is one alert for each
/// severity that it had, of which the last one fires.
pub(super) fn alertmanager(
    alerts: &[&Alert],
    own: Option<&str>,
    now: Timestamp,
    words: Words,
) -> Value {
    let each = alerts.iter().flat_map(|alert| {
        let had = SEVERITIES
            .into_iter()
            .filter(|severity| *severity <= alert.severity)
            // One that has just begun had no other.
            .filter(|severity| alert.event != AlertEvent::Open || *severity == alert.severity);
        had.map(|severity| postable(alert, severity, own, now, words))
    });
    each.collect()
}

fn postable(
    alert: &Alert,
    severity: Severity,
    own: Option<&str>,
    now: Timestamp,
    words: Words,
) -> Value {
    let starts = alert.approx_anomaly_start_time.min(now);
    let ends = if closes(alert) {
        alert.end_time.unwrap_or(alert.data_time).min(now)
    } else if severity == alert.severity {
        now.plus(FIRING_FOR)
    } else {
        now
    };
    let summary = own.map_or_else(|| line(alert, words), |own| cut(own, SUMMARY_MAX));
    json!({
        "labels": {
            "alertname": "AnomalydEpisode",
            "detector": alert.detector,
            "key": alert.key,
            "episode": alert.id,
            "kind": alert.kind.name(),
            "severity": severity.name(),
        },
        "annotations": {"summary": summary, "records": alert.records.to_string()},
        "startsAt": starts.rfc3339(),
        "endsAt": ends.max(starts).rfc3339(),
        "generatorURL": alert.url.clone().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::{alert, words};
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    #[test]
    fn slack_is_told_the_worst_first_and_calls_nobody() {
        let mut many: Vec<Alert> = (0..30)
            .map(|n| alert(&format!("P-{n}"), n, "open", "low", n))
            .collect();
        many[29] = alert("<!channel>\n& co", 29, "open", "critical", 29);
        let all: Vec<&Alert> = many.iter().collect();
        let body = slack(&all, None, words);
        let text = body["text"].as_str().unwrap();
        let first =
            "critical: &lt;!channel&gt; &amp; co: temperature 61.0, expected 49.2 https://anomalyd";
        assert!(text.starts_with(first), "{text}");
        assert_eq!(text.lines().count(), 21);
        assert!(text.ends_with("… and 10 more episodes"), "{text}");
        let close = alert("P-1", 1, "close", "high", 7);
        let body = slack(&[&close], None, words);
        assert!(
            body["text"]
                .as_str()
                .unwrap()
                .starts_with("over: P-1: 41 records, high at worst")
        );
        assert_eq!(
            slack(&[&close], Some("own".to_owned()), words)["text"],
            "own"
        );
    }

    #[test]
    fn pagerduty_triggers_and_resolves_by_the_episodes_id() {
        let of = |event, severity| {
            let alert = alert("P-1", 1, event, severity, 7);
            pagerduty(&[&alert], ("key", None), words)
        };
        let open = of("open", "medium");
        assert_eq!(open["event_action"], "trigger");
        assert_eq!(open["routing_key"], "key");
        assert_eq!(open["dedup_key"], "pumps/records/3/1");
        assert_eq!(open["payload"]["severity"], "warning");
        assert_eq!(open["payload"]["source"], "P-1");
        // It refuses events without a source: records without a key have one, too.
        let keyless = alert("", 1, "open", "medium", 7);
        let keyless = pagerduty(&[&keyless], ("key", None), words);
        assert_eq!(keyless["payload"]["source"], "(empty)");
        let summary = keyless["payload"]["summary"].as_str().unwrap();
        assert!(summary.starts_with("medium: (empty): "), "{summary}");
        let close = of("close", "critical");
        assert_eq!(close["event_action"], "resolve");
        assert_eq!(close["dedup_key"], open["dedup_key"]);
        let mut long = alert("P-1", 1, "open", "low", 7);
        long.id = "x".repeat(300).into();
        let event = pagerduty(&[&long], ("key", None), words);
        assert_eq!(event["dedup_key"].as_str().unwrap().len(), 64);
    }

    #[test]
    fn alertmanager_hears_of_one_alert_a_severity_of_which_the_last_one_fires() {
        let of = |event, severity| {
            let alert = alert("P-1", 1, event, severity, 7);
            alertmanager(&[&alert], None, NOW, words)
        };
        let ends = |alerts: &Value| -> Vec<(String, bool)> {
            let each = alerts.as_array().unwrap().iter();
            each.map(|alert| {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                assert!(text(&alert["startsAt"]) <= text(&alert["endsAt"]));
                let fires = NOW.rfc3339() < text(&alert["endsAt"]);
                (text(&alert["labels"]["severity"]), fires)
            })
            .collect()
        };
        let pair = |severity: &str, fires| (severity.to_owned(), fires);
        assert_eq!(
            ends(&of("update", "medium")),
            [pair("low", false), pair("medium", true)]
        );
        assert_eq!(
            ends(&of("close", "medium")),
            [pair("low", false), pair("medium", false)]
        );
        assert_eq!(ends(&of("open", "high")), [pair("high", true)]);
        let one = &of("open", "low")[0];
        assert_eq!(one["labels"]["episode"], "pumps/records/3/1");
        assert_eq!(
            one["annotations"]["summary"],
            "low: P-1: temperature 61.0, expected 49.2"
        );
        // A record from the future does not make an alert that begins later.
        let mut early = alert("P-1", 1, "open", "low", 7);
        early.approx_anomaly_start_time = NOW.plus(Duration::from_secs(3600));
        let one = &alertmanager(&[&early], None, NOW, words)[0];
        assert_eq!(one["startsAt"], NOW.rfc3339());
    }
}
