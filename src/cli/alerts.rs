//! `anomalyd alerts tail` and `episodes show`: what people were told, in the words of the page.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use super::args::{AlertsTailArgs, EpisodeShowArgs};
use super::exit::Failure;
use super::output::print;
use super::outside::outside;
use crate::alert::{Alert, AlertEvent, Severity};
use crate::config::Config;
use crate::kafka::alert_log::AlertLog;
use crate::kafka::watchdog::Watchdog;
use crate::service::old_episodes::SEARCHED;
use crate::service::words;

/// Messages of each partition that are looked through for the last ones that fit.
const LOOKED_THROUGH: i64 = 2_000;
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

fn open(config: &Config, last: i64) -> Result<(AlertLog, Watchdog), Failure> {
    let (clock, watchdog) = outside(config)?;
    let topic = (config.output.alerts.as_str(), last);
    let log = AlertLog::open(&config.connection(), topic, (clock, watchdog.clone()))?;
    Ok((log, watchdog))
}

/// Prints the last alerts, and then those that come.
pub(super) fn tail(config: &Config, arguments: &AlertsTailArgs) -> Result<(), Failure> {
    let (mut log, watchdog) = open(config, LOOKED_THROUGH)?;
    let colour = io::stdout().is_terminal();
    let fits = |alert: &Alert| fits(alert, arguments);
    let mut before: Vec<Alert> = log.more()?.into_iter().filter(fits).collect();
    before.drain(..before.len().saturating_sub(arguments.last));
    tell(&before, arguments.json, colour)?;
    if arguments.no_follow {
        return Ok(());
    }
    loop {
        watchdog.pause(LOOK_EVERY)?;
        let news: Vec<Alert> = log.more()?.into_iter().filter(fits).collect();
        tell(&news, arguments.json, colour)?;
    }
}

fn fits(alert: &Alert, arguments: &AlertsTailArgs) -> bool {
    let least = arguments.severity.map_or(Severity::Low, Severity::from);
    let key = arguments.key.as_deref();
    least <= alert.severity && key.is_none_or(|key| *alert.key.0 == *key)
}

fn tell(alerts: &[Alert], json: bool, colour: bool) -> Result<(), Failure> {
    for alert in alerts {
        let line = if json {
            as_json(alert)?
        } else {
            line(alert, colour)
        };
        print(&(line + "\n"))?;
    }
    Ok(())
}

fn as_json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Internal(error.to_string()))
}

/// When, what, how bad, whose, and why.
fn line(alert: &Alert, colour: bool) -> String {
    let what = format!("{:<6} {:<8}", alert.event.name(), alert.severity.name());
    let code = match (alert.event, alert.severity) {
        (AlertEvent::Close, _) => "32",
        (_, Severity::Low | Severity::Medium) => "33",
        _ => "1;31",
    };
    let what = if colour {
        format!("\x1b[{code}m{what}\x1b[0m")
    } else {
        what
    };
    let cause = match alert.event {
        AlertEvent::Close => format!("over after {} records", alert.records),
        _ => words::cause(alert, |_| None),
    };
    format!(
        "{}  {what} {}: {cause}  [{}]",
        alert.data_time.rfc3339(),
        alert.key.shown(),
        alert.id
    )
}

/// Prints what people were told of an episode.
pub(super) fn show(config: &Config, arguments: &EpisodeShowArgs) -> Result<(), Failure> {
    let (mut log, _) = open(config, SEARCHED)?;
    let of_it = |alert: &Alert| alert.id == *arguments.id.as_str();
    let told: Vec<Alert> = log.more()?.into_iter().filter(of_it).collect();
    if told.is_empty() {
        return Err(Failure::Usage(format!(
            "no alert of `{}` is among the last {SEARCHED} of each partition of {}; `anomalyd episodes list` shows the episodes that training knows of",
            arguments.id, config.output.alerts
        )));
    }
    if arguments.json {
        return print(&(as_json(&told)? + "\n"));
    }
    print(&shown(&told))
}

/// An episode by what was told of it, the oldest first.
fn shown(told: &[Alert]) -> String {
    let each = told.iter().filter(|alert| alert.event != AlertEvent::Close);
    let worst = each.reduce(|worst, alert| {
        if words::tells_more(alert, worst) {
            alert
        } else {
            worst
        }
    });
    let Some(worst) = worst.or_else(|| told.last()) else {
        return String::new();
    };
    let last = told.last().unwrap_or(worst);
    let mut out = format!(
        "{}: {}\n\n",
        worst.key.shown(),
        words::cause(worst, |_| None)
    );
    let until = last.end_time.map_or_else(
        || "open".to_owned(),
        |end| format!("until {}", end.rfc3339()),
    );
    let mut fact =
        |name: &str, value: String| writeln!(out, "{name:<10} {value}").unwrap_or_default();
    fact(
        "since",
        format!("{}, {until}", worst.approx_anomaly_start_time.rfc3339()),
    );
    fact("severity", worst.severity.name().to_owned());
    fact(
        "evidence",
        format!(
            "{:.1}, where {:.1} opens an episode",
            worst.evidence, worst.evidence_threshold
        ),
    );
    let so_far = if last.event == AlertEvent::Close {
        ""
    } else {
        ", at the last of these alerts"
    };
    fact("records", format!("{}{so_far}", last.records));
    fact(
        "input",
        format!("{} at offset {}", worst.input.at, worst.input.offset),
    );
    if let Some(url) = &worst.url {
        fact("page", url.clone());
    }
    out.push_str(&format!(
        "\n{:<30} {:>7} {:>14} {:>14}\n",
        "feature", "share", "measured", "expected"
    ));
    for part in worst.relevant_attribution.iter().take(10) {
        let actual = part
            .actual
            .map_or_else(|| "missing".to_owned(), |v| format!("{v:.4}"));
        out.push_str(&format!(
            "{:<30} {:>5.1} % {actual:>14} {:>14.4}\n",
            part.feature,
            100.0 * part.share,
            part.expected
        ));
    }
    out.push('\n');
    for alert in told {
        out.push_str(&(line(alert, false) + "\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::args::Least;
    use super::*;
    use crate::record::Key;

    fn alert(event: &str, severity: &str) -> Alert {
        serde_json::from_value(serde_json::json!({
            "schema": 1, "id": "d/t/0/1", "event": event, "kind": "score", "detector": "d", "key": "P-17",
            "data_time": "2026-01-01T00:00:00Z", "approx_anomaly_start_time": "2026-01-01T00:00:00Z",
            "anomaly_score": 9.0, "peak_score": 9.0, "anomaly_grade": 1.0, "confidence": 1.0, "severity": severity,
            "p_value": 1e-9, "threshold": 2.0, "records": 41, "model_version": 1,
            "evidence": 20.7, "evidence_threshold": 9.2, "evidence_records": 1,
            "relevant_attribution": [{"feature": "temperature", "share": 1.0, "actual": 61.0, "expected": 49.2}],
            "url": "https://x/episode/d/t/0/1",
            "input": {"topic": "t", "partition": 0, "offset": 1},
        }))
        .unwrap()
    }

    #[test]
    fn a_line_says_who_and_why_and_colours_are_for_terminals() {
        let told = line(&alert("open", "high"), false);
        let expected = "2026-01-01T00:00:00.000Z  open   high     P-17: temperature 61.0, expected 49.2  [d/t/0/1]";
        assert_eq!(told, expected);
        assert!(line(&alert("open", "high"), true).contains("\x1b[1;31m"));
        let mut keyless = alert("open", "high");
        keyless.key = Key("".into());
        assert!(line(&keyless, false).contains(" (empty): temperature"));
        assert!(shown(&[keyless]).starts_with("(empty): temperature"));
        assert!(line(&alert("close", "high"), false).contains("over after 41 records"));
    }

    #[test]
    fn what_is_asked_for_is_told_and_nothing_else() {
        let arguments = |severity, key: Option<&str>| AlertsTailArgs {
            last: 1,
            no_follow: true,
            severity,
            key: key.map(str::to_owned),
            json: false,
        };
        let (low, high) = (alert("open", "low"), alert("open", "high"));
        assert!(fits(&low, &arguments(None, None)));
        assert!(!fits(&low, &arguments(Some(Least::High), None)));
        assert!(fits(&high, &arguments(Some(Least::High), Some("P-17"))));
        assert!(!fits(&high, &arguments(None, Some("P-1"))));
    }

    #[test]
    fn an_episode_is_shown_as_it_was_when_it_was_worst() {
        let mut close = alert("close", "high");
        close.relevant_attribution[0].actual = Some(49.0);
        close.end_time = Some(close.data_time);
        let open = shown(&[alert("open", "medium"), alert("update", "high")]);
        assert!(
            open.contains("records    41, at the last of these alerts\n"),
            "{open}"
        );
        let text = shown(&[alert("open", "medium"), alert("update", "high"), close]);
        assert!(text.contains("records    41\n"), "{text}");
        assert!(
            text.starts_with("P-17: temperature 61.0, expected 49.2\n"),
            "{text}"
        );
        for words in [
            "until 2026",
            "severity   high",
            "https://x/episode/d/t/0/1",
            "100.0 %",
            "t[0] at offset 1",
        ] {
            assert!(text.contains(words), "{words} is not in {text}");
        }
        assert_eq!(
            text.lines()
                .filter(|line| line.ends_with("[d/t/0/1]"))
                .count(),
            3
        );
    }
}
