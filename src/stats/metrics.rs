//! How good scores are, given labels: areas under curves, F1, events, delays.
//!
//! All equal those of scikit-learn, and VUS that of TSB-AD, to rounding: a test holds them against the outputs of an evaluator that is made
//! of these, in tests/figures, where the script that made them is too. The delay has no counterpart there; it is worked out by hand.

/// Indices by descending score, ties in order of index.
fn descending(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order
}

/// Scores as figures take them: NaN is 0, infinities are the largest f32.
pub fn finite(scores: &[f64]) -> Vec<f64> {
    let most = f64::from(f32::MAX);
    scores
        .iter()
        .map(|&score| {
            if score.is_nan() {
                0.0
            } else if score.is_infinite() {
                most.copysign(score)
            } else {
                score
            }
        })
        .collect()
}

/// For each distinct score from the largest down: (true positives, false positives) when all at least as high are flagged.
fn steps(labels: &[bool], scores: &[f64]) -> Vec<(f64, f64)> {
    let order = descending(scores);
    let (mut tp, mut fp) = (0.0, 0.0);
    let mut out = Vec::new();
    for (place, &index) in order.iter().enumerate() {
        if labels[index] {
            tp += 1.0;
        } else {
            fp += 1.0;
        }
        let last = order
            .get(place + 1)
            .is_none_or(|&next| scores[next] < scores[index]);
        if last {
            out.push((tp, fp));
        }
    }
    out
}

/// Area under the ROC curve: the chance that an anomaly scores higher than a normal record, ties by half. NaN without both.
pub fn roc_auc(labels: &[bool], scores: &[f64]) -> f64 {
    let steps = steps(labels, scores);
    let Some(&(positives, negatives)) = steps.last() else {
        return f64::NAN;
    };
    let (mut area, mut before) = (0.0, (0.0, 0.0));
    for (tp, fp) in steps {
        area += (fp - before.1) * (tp + before.0) / 2.0;
        before = (tp, fp);
    }
    if positives * negatives > 0.0 {
        area / (positives * negatives)
    } else {
        f64::NAN
    }
}

/// Average precision: Σ (recall step) · precision. NaN without both anomalies and normal records.
pub fn average_precision(labels: &[bool], scores: &[f64]) -> f64 {
    let steps = steps(labels, scores);
    let Some(&(positives, negatives)) = steps.last() else {
        return f64::NAN;
    };
    if !(positives > 0.0 && negatives > 0.0) {
        return f64::NAN;
    }
    let (mut sum, mut before) = (0.0, 0.0);
    for (tp, fp) in steps {
        sum += (tp - before) / positives * (tp / (tp + fp));
        before = tp;
    }
    sum
}

/// The best F1 over all thresholds, without any adjustment of points.
pub fn best_f1(labels: &[bool], scores: &[f64]) -> f64 {
    let positives = labels.iter().filter(|&&label| label).count() as f64;
    if positives <= 0.0 {
        return f64::NAN;
    }
    steps(labels, scores)
        .into_iter()
        .map(|(tp, fp)| {
            let (precision, recall) = (tp / (tp + fp), tp / positives);
            2.0 * precision * recall / (precision + recall).max(1e-12)
        })
        .fold(0.0, f64::max)
}

/// Stretches of `true`: first and last index of each.
pub fn segments(labels: &[bool]) -> Vec<(usize, usize)> {
    let mut out: Vec<(usize, usize)> = Vec::new();
    for (index, _) in labels.iter().enumerate().filter(|(_, label)| **label) {
        match out.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => out.push((index, index)),
        }
    }
    out
}

/// Labelled stretches widened by half of `window` on both sides, those that touch joined. `None` without any.
fn widened(segments: &[(usize, usize)], window: usize, n: usize) -> Option<Vec<(usize, usize)>> {
    let half = window / 2;
    let (first, last) = (segments.first()?, segments.last()?);
    let mut out = Vec::new();
    let mut from = first.0.saturating_sub(half);
    for pair in segments.windows(2) {
        let ((_, end), (start, _)) = (pair[0], pair[1]);
        if (end + half) as i64 > start as i64 - half as i64 - 1 {
            continue;
        }
        out.push((from, end + half));
        from = start - half;
    }
    out.push((from, (last.1 + half).min(n - 1)));
    Some(out)
}

/// Thresholds of [`vus`].
const THRESHOLDS: usize = 250;

/// Volume under the surface, ROC and PR: the range-based area (labels with soft shoulders), averaged over shoulder widths 0 to `window`.
/// Paparrizos et al., "Volume Under the Surface", PVLDB 15 (2022); thresholds and rounding as TSB-AD has them. NaN without labels.
pub fn vus(labels: &[bool], scores: &[f64], window: usize) -> (f64, f64) {
    let n = labels.len();
    let segments = segments(labels);
    let Some(outer) = widened(&segments, window, n) else {
        return (f64::NAN, f64::NAN);
    };
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let step = (n - 1) as f64 / (THRESHOLDS - 1) as f64;
    let thresholds: Vec<f64> = (0..THRESHOLDS)
        .map(|k| {
            if k == THRESHOLDS - 1 {
                n - 1
            } else {
                (k as f64 * step) as usize
            }
        })
        .map(|place| sorted[place])
        .collect();
    // The first threshold that each score reaches.
    let first: Vec<usize> = scores
        .iter()
        .map(|&score| thresholds.partition_point(|&threshold| threshold > score))
        .collect();
    let mut in_outer = vec![false; n];
    for &(from, to) in &outer {
        in_outer[from..=to].fill(true);
    }
    let ones = vec![1.0; n];
    let predicted = cumulative(&first, |_| true, &ones);
    let inside = cumulative(&first, |i| labels[i] && in_outer[i], &ones);
    let labelled = (0..n).filter(|&i| labels[i] && in_outer[i]).count() as f64;
    let positives = labels.iter().filter(|&&label| label).count() as f64;
    let surface = Surface {
        n,
        first,
        in_outer,
        predicted,
        inside,
        labelled,
        positives,
    };
    let (mut roc, mut pr) = (0.0, 0.0);
    for width in 0..=window {
        let (a, b) = surface.slice(labels, &segments, width);
        roc += a;
        pr += b;
    }
    let slices = (window + 1) as f64;
    (roc / slices, pr / slices)
}

/// Sums of `weights` of the selected records that reach each threshold.
fn cumulative(first: &[usize], select: impl Fn(usize) -> bool, weights: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; THRESHOLDS];
    for (i, &threshold) in first.iter().enumerate() {
        if threshold < THRESHOLDS && select(i) {
            sums[threshold] += weights[i];
        }
    }
    let mut total = 0.0;
    for sum in &mut sums {
        total += *sum;
        *sum = total;
    }
    sums
}

/// What all slices of the volume share.
struct Surface {
    n: usize,
    first: Vec<usize>,
    in_outer: Vec<bool>,
    predicted: Vec<f64>,
    inside: Vec<f64>,
    labelled: f64,
    positives: f64,
}

impl Surface {
    /// Areas under ROC and PR curve at one shoulder width.
    fn slice(&self, labels: &[bool], segments: &[(usize, usize)], width: usize) -> (f64, f64) {
        let n = self.n;
        let mut soft: Vec<f64> = labels
            .iter()
            .map(|&label| f64::from(u8::from(label)))
            .collect();
        let half = width / 2;
        for &(from, to) in segments.iter().filter(|_| half > 0) {
            for (i, value) in soft
                .iter_mut()
                .enumerate()
                .take((to + half + 1).min(n))
                .skip(to + 1)
            {
                *value += (1.0 - (i - to) as f64 / width as f64).sqrt();
            }
            let range = from.saturating_sub(half)..from;
            for (i, value) in soft
                .iter_mut()
                .enumerate()
                .take(range.end)
                .skip(range.start)
            {
                *value += (1.0 - (from - i) as f64 / width as f64).sqrt();
            }
        }
        for value in &mut soft {
            *value = value.min(1.0);
        }
        let ranges = widened(segments, width, n).unwrap_or_default();
        let mut in_range = vec![false; n];
        let mut exist = vec![0.0; THRESHOLDS + 1];
        for &(from, to) in &ranges {
            in_range[from..=to].fill(true);
            let earliest = self.first[from..=to]
                .iter()
                .copied()
                .min()
                .unwrap_or(THRESHOLDS);
            exist[earliest] += 1.0;
        }
        let shoulder = |i: usize| in_range[i] && self.in_outer[i] && !labels[i] && soft[i] > 0.0;
        let gained = cumulative(&self.first, shoulder, &soft);
        let (mut roc, mut pr, mut found) = (0.0, 0.0, 0.0);
        let (mut tpr_before, mut fpr_before) = (0.0, 0.0);
        for k in 0..THRESHOLDS {
            found += exist[k];
            let tp = self.inside[k] + gained[k];
            let positives = (self.positives + self.labelled + gained[k]) / 2.0;
            let tpr = (tp / positives).min(1.0) * (found / ranges.len() as f64);
            let fpr = (self.predicted[k] - tp) / (n as f64 - positives);
            roc += (fpr - fpr_before) * (tpr + tpr_before) / 2.0;
            pr += (tpr - tpr_before) * (tp / self.predicted[k]);
            (tpr_before, fpr_before) = (tpr, fpr);
        }
        roc += (1.0 - fpr_before) * (1.0 + tpr_before) / 2.0;
        (roc, pr)
    }
}

/// How good alerts are: a 0/1 decision a record against labels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AlertFigures {
    /// F1 over records.
    pub f1: f64,
    /// Share of flagged records that are anomalies.
    pub precision: f64,
    /// Share of labelled stretches in which at least one record was flagged.
    pub event_recall: f64,
    /// Mean number of records from the beginning of a found stretch to its first flagged record.
    pub delay: f64,
    /// Runs of flagged normal records per 1,000 records.
    pub false_bursts_per_1k: f64,
}

/// Figures of `alerts` against `labels`.
pub fn alert_figures(labels: &[bool], alerts: &[bool]) -> AlertFigures {
    let count = |pick: &dyn Fn(bool, bool) -> bool| {
        labels
            .iter()
            .zip(alerts)
            .filter(|(label, alert)| pick(**label, **alert))
            .count() as f64
    };
    let tp = count(&|label, alert| label && alert);
    let fp = count(&|label, alert| !label && alert);
    let missed = count(&|label, alert| label && !alert);
    let events = segments(labels);
    let delays: Vec<f64> = events
        .iter()
        .filter_map(|&(from, to)| alerts[from..=to].iter().position(|&alert| alert))
        .map(|delay| delay as f64)
        .collect();
    let wrong: Vec<bool> = labels
        .iter()
        .zip(alerts)
        .map(|(&label, &alert)| alert && !label)
        .collect();
    AlertFigures {
        f1: 2.0 * tp / (2.0 * tp + fp + missed).max(1.0),
        precision: tp / (tp + fp).max(1.0),
        event_recall: if events.is_empty() {
            f64::NAN
        } else {
            delays.len() as f64 / events.len() as f64
        },
        delay: if delays.is_empty() {
            f64::NAN
        } else {
            delays.iter().sum::<f64>() / delays.len() as f64
        },
        false_bursts_per_1k: 1000.0 * segments(&wrong).len() as f64 / labels.len().max(1) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
    }

    /// Labels and scores with the evaluator's outputs, as tests/figures/make.py writes them.
    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        window: usize,
        labels: Vec<u8>,
        scores: Vec<f64>,
        alerts: Vec<u8>,
        evaluator: std::collections::BTreeMap<String, f64>,
    }

    #[test]
    fn figures_equal_the_evaluator_s_on_its_own_outputs() {
        let text = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/figures/cases.json"
        ));
        let cases: Vec<Case> = serde_json::from_str(text).unwrap();
        assert!(cases.len() >= 6);
        for case in cases {
            let flags = |values: &[u8]| values.iter().map(|&v| v == 1).collect::<Vec<bool>>();
            let (labels, scores) = (flags(&case.labels), &case.scores);
            let (vus_roc, vus_pr) = vus(&labels, scores, case.window);
            let alerts = alert_figures(&labels, &flags(&case.alerts));
            let ours = [
                ("roc", roc_auc(&labels, scores)),
                ("ap", average_precision(&labels, scores)),
                ("f1", best_f1(&labels, scores)),
                ("vusroc", vus_roc),
                ("vuspr", vus_pr),
                ("alert_f1", alerts.f1),
                ("alert_prec", alerts.precision),
                ("alert_event_recall", alerts.event_recall),
                ("false_alarm_bursts_per_1k", alerts.false_bursts_per_1k),
            ];
            assert_eq!(case.evaluator.len(), ours.len());
            for (figure, found) in ours {
                let expected = case.evaluator[figure];
                assert!(
                    (found - expected).abs() < 1e-9,
                    "{}: {figure} is {found}, not {expected}",
                    case.name
                );
            }
        }
    }

    #[test]
    fn delays_by_hand() {
        // Events at 1..=3 (first alert 2 records in), at 5..=6 (at once) and at 8 (none): (2 + 0) / 2. The alert at 0 is before the first.
        let of = |marks: &str| marks.chars().map(|c| c == '1').collect::<Vec<bool>>();
        let figures = alert_figures(&of("0111011010"), &of("1001011000"));
        check(figures.delay, 1.0);
        check(figures.event_recall, 2.0 / 3.0);
        check(figures.false_bursts_per_1k, 100.0);
        assert!(alert_figures(&of("0110"), &of("1001")).delay.is_nan());
        assert!(alert_figures(&of("0000"), &of("0100")).delay.is_nan());
    }

    #[test]
    fn worked_by_hand() {
        // Descending: 0.9 (anomaly), 0.8, 0.7 (anomaly), 0.1.
        let labels = [true, false, true, false];
        let scores = [0.9, 0.8, 0.7, 0.1];
        check(roc_auc(&labels, &scores), 3.0 / 4.0);
        check(average_precision(&labels, &scores), 0.5 * (1.0 + 2.0 / 3.0));
        check(best_f1(&labels, &scores), 0.8);
        let figures = alert_figures(
            &[false, true, true, true, false],
            &[true, false, true, false, true],
        );
        check(figures.event_recall, 1.0);
        check(figures.delay, 1.0);
        check(figures.false_bursts_per_1k, 400.0);
        assert_eq!(segments(&[true, true, false, true]), [(0, 1), (3, 3)]);
        assert!(roc_auc(&[false, false], &[1.0, 2.0]).is_nan());
        assert!(vus(&[false, false], &[1.0, 2.0], 3).0.is_nan());
    }
}
