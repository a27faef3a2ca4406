//! How good scores and alerts were, where labels say what was an anomaly.

use super::replay::Line;
use crate::record::Key;
use crate::stats::metrics;

/// The shoulder of VUS where none is given.
pub const VUS_WINDOW: usize = 100;

/// The figures by name, in the order in which people read them. Events and bursts are stretches of one key's rows.
pub fn figures(
    keys: &[Key],
    labels: &[bool],
    lines: &[Line],
    vus_window: usize,
) -> Vec<(&'static str, f64)> {
    // In a file of several keys the rows of one lie between those of another.
    let mut rows: Vec<usize> = (0..labels.len()).collect();
    rows.sort_by_key(|&row| &keys[row]);
    let labels: Vec<bool> = rows.iter().map(|&row| labels[row]).collect();
    let lines: Vec<Line> = rows.iter().map(|&row| lines[row]).collect();
    let labels = &labels[..];
    let scores: Vec<f64> = lines.iter().map(|line| line.score).collect();
    let scores = metrics::finite(&scores);
    let alerts: Vec<bool> = lines.iter().map(|line| line.alert).collect();
    let (vus_roc, vus_pr) = metrics::vus(labels, &scores, vus_window);
    let found = metrics::alert_figures(labels, &alerts);
    vec![
        ("AUC-ROC", metrics::roc_auc(labels, &scores)),
        (
            "average precision",
            metrics::average_precision(labels, &scores),
        ),
        ("VUS-ROC", vus_roc),
        ("VUS-PR", vus_pr),
        ("best F1", metrics::best_f1(labels, &scores)),
        ("F1 of alerts", found.f1),
        ("precision of alerts", found.precision),
        ("recall of events", found.event_recall),
        ("delay in records", found.delay),
        ("false bursts per 1,000", found.false_bursts_per_1k),
    ]
}

/// A table for people.
pub fn shown(figures: &[(&'static str, f64)]) -> String {
    figures
        .iter()
        .map(|(name, value)| {
            if value.is_nan() {
                format!("  {name:<24}       -\n")
            } else {
                format!("  {name:<24} {value:>7.4}\n")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::ScoredBy;
    use crate::model::card::ModelVersion;

    #[test]
    fn events_and_bursts_are_counted_by_key() {
        // Two keys by turns: one fault of the first, found from its second row on, and one false burst of the second.
        let keys: Vec<Key> = (0..400)
            .map(|row| Key(if row % 2 == 0 { "a" } else { "b" }.into()))
            .collect();
        let labels: Vec<bool> = (0..400)
            .map(|row| row % 2 == 0 && (100..140).contains(&row))
            .collect();
        let lines: Vec<Line> = (0..400)
            .map(|row| {
                let found = row % 2 == 0 && (102..140).contains(&row);
                let wrong = row % 2 == 1 && (200..220).contains(&row);
                Line {
                    score: f64::from(u8::from(found || wrong)),
                    p_value: 0.5,
                    by_model: Some(0.5),
                    judged: true,
                    alert: found || wrong,
                    scored_by: ScoredBy::Model(ModelVersion(1)),
                }
            })
            .collect();
        let found = figures(&keys, &labels, &lines, VUS_WINDOW);
        let figure = |wanted: &str| found.iter().find(|(name, _)| *name == wanted).unwrap().1;
        assert!((figure("recall of events") - 1.0).abs() < 1e-12);
        assert!((figure("delay in records") - 1.0).abs() < 1e-12);
        assert!((figure("false bursts per 1,000") - 2.5).abs() < 1e-12);
    }
}
