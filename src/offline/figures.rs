//! How good scores and alerts were, where labels say what was an anomaly.

use super::replay::Line;
use crate::stats::metrics;

/// The shoulder of VUS where none is given.
pub const VUS_WINDOW: usize = 100;

/// The figures by name, in the order in which people read them.
pub fn figures(labels: &[bool], lines: &[Line], vus_window: usize) -> Vec<(&'static str, f64)> {
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
