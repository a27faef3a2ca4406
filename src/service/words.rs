//! What an alert says, in the words that a person on call needs: what was seen, and what was expected.

use std::collections::BTreeMap;

use crate::alert::{Alert, AlertKind, Attribution};

/// Features that are named at most, and the share below which one is not.
const NAMED_MAX: usize = 2;
const SHARE_MIN: f64 = 0.25;
/// Spreads below which a value by itself is nothing strange.
const NEAR: f64 = 1.5;

/// Why there is an alert, without whose it is and since when. `spread` says how far a feature usually is from what is expected of it, if that is known.
#[must_use]
pub fn cause(alert: &Alert, spread: impl Fn(&str) -> Option<f64>) -> String {
    match alert.kind {
        AlertKind::Silence => silence(alert),
        AlertKind::Storm => storm(alert.suppressed),
        AlertKind::Score => score(alert, &spread),
    }
}

/// Of a key that says nothing, or of features that its records lack.
fn silence(alert: &Alert) -> String {
    let gone: Vec<&str> = alert
        .relevant_attribution
        .iter()
        .filter(|part| part.share > 0.0)
        .map(|part| part.feature.as_str())
        .collect();
    if gone.is_empty() {
        return "silent for longer than ever before".to_owned();
    }
    let named = gone[..gone.len().min(NAMED_MAX)].join(", ");
    let more = match gone.len() - gone.len().min(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "no {named}{more} in {} records, for longer than ever before",
        alert.records
    )
}

/// Whether an alert tells more of its episode than an earlier one: its record is at least as rare. The latest may be of a record that is strange only by
/// what went before it.
#[must_use]
pub fn tells_more(alert: &Alert, before: &Alert) -> bool {
    match alert.p_value.total_cmp(&before.p_value) {
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Equal => alert.anomaly_score >= before.anomaly_score,
        std::cmp::Ordering::Greater => false,
    }
}

fn storm(suppressed: Option<u64>) -> String {
    match suppressed {
        Some(1) => "one episode was held back while many opened at once".to_owned(),
        Some(count) => format!("{count} episodes were held back while many opened at once"),
        None => "episodes of many keys open at once: further ones are held back until it is over"
            .to_owned(),
    }
}

fn score(alert: &Alert, spread: &dyn Fn(&str) -> Option<f64>) -> String {
    let named: Vec<String> = telling(&alert.relevant_attribution, spread)
        .into_iter()
        .map(|part| feature(part, spread(&part.feature)))
        .collect();
    let mut text = if named.is_empty() {
        format!(
            "records as rare as one in {:.0}",
            1.0 / alert.p_value.max(1e-12)
        )
    } else {
        named.join("; ")
    };
    if alert.evidence_records > 1 {
        text.push_str(&format!(
            "; weak, but it lasts: over {} records",
            alert.evidence_records
        ));
    }
    text
}

/// The features to name: those with the largest shares. Of some that share alike those that are far from what was expected are preferred: they tell a
/// reader most.
fn telling<'a>(
    parts: &'a [Attribution],
    spread: &dyn Fn(&str) -> Option<f64>,
) -> Vec<&'a Attribution> {
    let alike = parts.first().map_or(0.0, |top| top.share / 2.0);
    let least = alike.min(SHARE_MIN);
    let off = |part: &Attribution| match part.actual {
        _ if part.still.is_some() => true,
        Some(actual) => {
            spreads(actual, part.expected, spread(&part.feature)).is_none_or(|by| by.abs() >= NEAR)
        }
        None => true,
    };
    let mut named: Vec<&Attribution> = parts
        .iter()
        .take_while(|part| part.share >= least)
        .collect();
    named.sort_by_key(|part| (part.share < alike, !off(part)));
    let named = named.iter().enumerate();
    named
        .filter(|(place, part)| *place == 0 || part.share >= SHARE_MIN)
        .map(|(_, part)| *part)
        .take(NAMED_MAX)
        .collect()
}

/// What a feature was, and what was expected.
#[must_use]
pub fn feature(part: &Attribution, spread: Option<f64>) -> String {
    let name = &part.feature;
    let Some(actual) = part.actual else {
        return format!("{name} missing, expected {}", number(part.expected, 3));
    };
    let [shown, expected] = pair(actual, part.expected);
    if let Some(records) = part.still {
        return format!("{name} stands still at {shown} ({records} records)");
    }
    match spreads(actual, part.expected, spread) {
        Some(by) if by.abs() < NEAR => {
            format!(
                "{name} {shown}, about as expected ({expected}), but strange in its course or beside the others"
            )
        }
        Some(by) => format!(
            "{name} {shown}, expected {expected} ({} spreads)",
            signed(by)
        ),
        None => format!("{name} {shown}, expected {expected}"),
    }
}

/// By how many spreads a value lies above what was expected; `None` if spreads are not known.
#[must_use]
pub fn spreads(actual: f64, expected: f64, spread: Option<f64>) -> Option<f64> {
    let by = (actual - expected) / spread.filter(|spread| *spread > 0.0)?;
    by.is_finite().then_some(by)
}

fn signed(by: f64) -> String {
    match by.abs() {
        0.0..10.0 => format!("{by:+.1}"),
        10.0..1000.0 => format!("{by:+.0}"),
        _ if by > 0.0 => "over +1000".to_owned(),
        _ => "under −1000".to_owned(),
    }
    .replace('-', "−")
}

/// Two numbers with as many decimals as it takes to tell them apart.
fn pair(a: f64, b: f64) -> [String; 2] {
    let apart = (a - b).abs();
    let decimals = if apart > 0.0 && apart.is_finite() {
        (2.0 - apart.log10().floor()).clamp(0.0, 6.0) as usize
    } else {
        3
    };
    let both = [a, b].map(|value| number(value, decimals));
    if both[0] == both[1] && apart > 0.0 {
        // Counters that stand high.
        return [a, b].map(|value| format!("{value:.decimals$}"));
    }
    both
}

/// A number with at most so many decimals.
fn number(value: f64, decimals: usize) -> String {
    if value != 0.0 && !(1e-5..1e9).contains(&value.abs()) {
        return format!("{value:.3e}");
    }
    let text = format!("{value:.decimals$}");
    match text.split_once('.') {
        // One zero is kept: 61.0 is a measurement, 61 a count.
        Some((whole, rest)) => {
            let rest = rest.trim_end_matches('0');
            format!("{whole}.{}", if rest.is_empty() { "0" } else { rest })
        }
        None => text,
    }
}

/// From which share of the faults on that were tried it is said that they are found well, or fairly.
const WELL: f64 = 0.8;
const FAIRLY: f64 = 0.4;

/// What the gate measured of a model, in sentences: what most people ask first comes first.
#[must_use]
pub fn findings(measures: &BTreeMap<String, f64>) -> Vec<String> {
    let of = |name: &str| measures.get(name).copied();
    let mut found: Vec<String> = of("recall")
        .map(|recall| overall(recall, &of))
        .into_iter()
        .collect();
    let kinds = measures
        .iter()
        .filter_map(|(name, share)| Some((name.strip_prefix("recall.")?, *share)));
    let mut kinds: Vec<(&str, f64)> = kinds.collect();
    kinds.sort_by(|a, b| a.1.total_cmp(&b.1));
    found.extend(kinds.into_iter().map(|(kind, share)| by_kind(kind, share)));
    if let Some(rate) = of("alert_rate") {
        found.push(match of("alert_rate.at") {
            Some(share) => format!(
                "of normal records held out {} look as strange as {} of them should",
                percent(rate),
                percent(share)
            ),
            None => format!(
                "of normal records held out {} count as anomalous",
                percent(rate)
            ),
        });
    }
    if let Some(rate) = of("earlier.alert_rate") {
        found.push(format!(
            "of records that earlier models were accepted on {} look as strange as that",
            percent(rate)
        ));
    }
    found
}

fn overall(recall: f64, of: &dyn Fn(&str) -> Option<f64>) -> String {
    let mut text = format!(
        "it finds {} of the faults that were put into held-out records",
        percent(recall)
    );
    for (name, whose) in [
        ("baseline.recall", "principal components"),
        ("champion.recall", "the model before"),
    ] {
        if let Some(theirs) = of(name) {
            text.push_str(&format!("; {whose}: {}", percent(theirs)));
        }
    }
    text
}

fn by_kind(kind: &str, share: f64) -> String {
    let what = match kind {
        "offset" => "values that are shifted",
        "drift" => "sensors that drift away",
        "stuck" => "stuck sensors",
        "noise" => "noisy sensors",
        "decouple" => "sensors that no longer go together",
        other => other,
    };
    let how = match share {
        WELL.. => "well",
        FAIRLY.. => "fairly",
        _ => "poorly",
    };
    format!(
        "{what} are found {how} by this model: {} of those that were tried",
        percent(share)
    )
}

fn percent(share: f64) -> String {
    let share = 100.0 * share;
    match share {
        0.0 => "none".to_owned(),
        100.0 => "all".to_owned(),
        10.0.. => format!("{share:.0} %"),
        _ => format!("{share:.2} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(actual: Option<f64>, expected: f64, share: f64) -> Attribution {
        Attribution {
            feature: "motor.temperature".to_owned(),
            share,
            actual,
            expected,
            still: None,
        }
    }

    fn alert(parts: Vec<Attribution>) -> Alert {
        let mut alert: Alert = serde_json::from_value(serde_json::json!({
            "schema": 1, "id": "d/t/0/1", "event": "open", "kind": "score", "detector": "d", "key": "k",
            "data_time": "2026-01-01T00:00:00Z", "approx_anomaly_start_time": "2026-01-01T00:00:00Z",
            "anomaly_score": 9.0, "peak_score": 9.0, "anomaly_grade": 1.0, "confidence": 1.0, "severity": "high",
            "p_value": 1e-9, "threshold": 2.0, "records": 1, "model_version": 1,
            "evidence": 20.7, "evidence_threshold": 9.2, "evidence_records": 1, "relevant_attribution": [],
            "input": {"topic": "t", "partition": 0, "offset": 1},
        }))
        .unwrap();
        alert.relevant_attribution = parts;
        alert
    }

    #[test]
    fn a_cause_names_what_was_seen_and_expected() {
        let hot = part(Some(61.0), 49.2, 0.8);
        let text = |parts, spread| cause(&alert(parts), |_| spread);
        assert_eq!(
            text(vec![hot.clone()], Some(0.39)),
            "motor.temperature 61.0, expected 49.2 (+30 spreads)"
        );
        assert_eq!(
            text(vec![hot.clone()], None),
            "motor.temperature 61.0, expected 49.2"
        );
        // A second one is named if it matters.
        let missing = |share| part(None, 5.0, share);
        assert_eq!(
            text(vec![hot.clone(), missing(0.3)], None),
            "motor.temperature 61.0, expected 49.2; motor.temperature missing, expected 5.0"
        );
        assert!(!text(vec![hot.clone(), missing(0.2)], None).contains("missing"));
        let stuck = part(Some(49.3), 49.2, 1.0);
        let told = text(vec![stuck], Some(0.4));
        assert!(told.contains("49.3, about as expected (49.2)"), "{told}");
        let still = Attribution {
            still: Some(9),
            ..part(Some(49.3), 49.2, 0.5)
        };
        assert_eq!(
            text(vec![still], Some(0.4)),
            "motor.temperature stands still at 49.3 (9 records)"
        );
        assert!(text(Vec::new(), None).contains("one in 1000000000"));
        // Of two that share alike the one is named that is far off.
        let far = Attribution {
            feature: "flow".to_owned(),
            ..part(Some(4.0), 7.0, 0.2)
        };
        let told = text(vec![part(Some(49.3), 49.2, 0.22), far], Some(0.4));
        assert_eq!(told, "flow 4.0, expected 7.0 (−7.5 spreads)");
        let mut lasting = alert(vec![part(Some(47.0), 49.2, 0.8)]);
        lasting.evidence_records = 30;
        assert_eq!(
            cause(&lasting, |_| Some(1.0)),
            "motor.temperature 47.0, expected 49.2 (−2.2 spreads); weak, but it lasts: over 30 records"
        );
    }

    #[test]
    fn the_record_that_is_rarest_tells_most() {
        let of = |p_value, anomaly_score| Alert {
            anomaly_score,
            p_value,
            ..alert(Vec::new())
        };
        assert!(tells_more(&of(1e-9, 1.0), &of(1e-6, 5.0)));
        assert!(!tells_more(&of(1e-3, 9.0), &of(1e-6, 5.0)));
        assert!(tells_more(&of(1e-9, 6.0), &of(1e-9, 5.0)));
        assert!(!tells_more(&of(1e-9, 4.0), &of(1e-9, 5.0)));
    }

    #[test]
    fn silences_and_storms_have_words_of_their_own() {
        let mut silence = alert(Vec::new());
        silence.kind = AlertKind::Silence;
        assert!(cause(&silence, |_| None).contains("silent"));
        silence.kind = AlertKind::Storm;
        assert!(cause(&silence, |_| None).contains("held back until it is over"));
        silence.suppressed = Some(7);
        assert!(cause(&silence, |_| None).starts_with("7 episodes"));
    }

    #[test]
    fn numbers_have_the_decimals_that_tell_them_apart() {
        let both = |a, b| pair(a, b).join(" ");
        assert_eq!(both(1.0312, 1.0012), "1.0312 1.0012");
        assert_eq!(both(1480.0, 900.0), "1480 900");
        assert_eq!(both(5.0, 5.0), "5.0 5.0");
        assert_eq!(both(3e12, 1.0), "3.000e12 1");
        assert_eq!(
            both(2_004_062_289.0, 2_004_063_019.6),
            "2004062289 2004063020"
        );
        assert_eq!(both(f64::NAN, 1.0), "NaN 1.0");
        assert_eq!(signed(-12_345.0), "under −1000");
        assert_eq!(spreads(2.0, 1.0, Some(0.0)), None);
    }

    #[test]
    fn what_the_gate_measured_is_told_in_sentences_the_weakest_kind_first() {
        let measures = [
            ("recall", 0.5),
            ("baseline.recall", 0.45),
            ("recall.offset", 0.9),
            ("recall.stuck", 0.035),
            ("recall.noise", 0.5),
            ("alert_rate", 0.0012),
            ("alert_rate.at", 0.001),
        ];
        let measures = measures
            .map(|(name, value)| (name.to_owned(), value))
            .into();
        assert_eq!(
            findings(&measures),
            [
                "it finds 50 % of the faults that were put into held-out records; principal components: 45 %",
                "stuck sensors are found poorly by this model: 3.50 % of those that were tried",
                "noisy sensors are found fairly by this model: 50 % of those that were tried",
                "values that are shifted are found well by this model: 90 % of those that were tried",
                "of normal records held out 0.12 % look as strange as 0.10 % of them should",
            ]
        );
        assert!(findings(&BTreeMap::new()).is_empty());
    }
}
