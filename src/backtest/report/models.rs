//! The folded parts of the report that are about models: calibration, losses, trainings.

use super::chart::{Axis, Chart, number, surprise};
use super::html::{escape, put};
use super::{Report, TRAININGS_MANY};

impl Report {
    /// Observed against claimed tail probabilities, of rows that are not labelled.
    pub(super) fn calibration(&self, out: &mut String) {
        let judged = |i: &usize| {
            !self.warming_up.get(*i).copied().unwrap_or(false)
                && !self.labels.get(*i).copied().unwrap_or(false)
        };
        let mut claimed: Vec<f64> = (0..self.p_values.len())
            .filter(judged)
            .map(|i| surprise(self.p_values[i]))
            .collect();
        claimed.sort_by(|a, b| b.total_cmp(a));
        if claimed.len() < 10 {
            return;
        }
        out.push_str("<h3>Calibration</h3><p>Powers of ten of the p-values of records that are not labelled: up, what they are; across, what they would be if all were normal. On the dashed line the budget is kept exactly; above it, there are more alerts than that.");
        let n = claimed.len() as f64;
        let points: Vec<(f64, f64)> = (0..claimed.len())
            .filter(|rank| {
                *rank < 40 || rank.is_power_of_two() || rank % (claimed.len() / 150 + 1) == 0
            })
            .map(|rank| (-((rank as f64 + 0.5) / n).log10(), claimed[rank]))
            .collect();
        let right = points[0].0;
        let top = (right * 2.0).min(points[0].1.max(right)).max(1.0);
        if points[0].1 > top {
            out.push_str(" Dots at the upper edge lie beyond it.");
        }
        out.push_str("</p>");
        // Room for whole dots at the edges.
        let edge = right * 1.02;
        let mut chart = Chart::over((0.0, edge), Axis::linear(0.0, top * 1.03), 260);
        let points: Vec<(f64, f64)> = points.iter().map(|&(x, y)| (x, y.min(top))).collect();
        chart.line(&[(0.0, 0.0), (right, right)], "diagonal");
        chart.dots(&points, "dot");
        let ticks: Vec<String> = (0..5)
            .map(|i| format!("{:.1}", edge * f64::from(i) / 4.0))
            .collect();
        chart.write_with(out, ("calibration", &ticks), number);
    }

    pub(super) fn losses(&self, out: &mut String) {
        let mut made = self.trainings.iter().rev().filter(|t| t.version > 0);
        let Some(newest) = made.next() else {
            return;
        };
        let with = std::iter::once(newest)
            .chain(made)
            .find(|t| !t.losses.is_empty());
        let Some(last) = with else {
            put(
                out,
                format_args!(
                    "<h3>Losses</h3><p>A model of kind {} has no course of losses to show: nothing in it is fitted epoch by epoch.</p>",
                    escape(&newest.kind)
                ),
            );
            return;
        };
        put(
            out,
            format_args!(
                "<h3>Losses of model {}</h3><p>Mean loss by epoch, on fitted records and on later ones that only validate.</p>",
                last.version
            ),
        );
        for (name, losses) in &last.losses {
            if last.losses.len() > 1 || *name != last.kind {
                put(out, format_args!("<h3>member {}</h3>", escape(name)));
            }
            course(out, losses);
        }
        out.push_str("<div class=\"key\"><span><i style=\"background:var(--score)\"></i>fitted</span><span><i style=\"background:var(--red)\"></i>validation</span></div>");
    }

    pub(super) fn trainings(&self, out: &mut String) {
        if self.trainings.is_empty() {
            return;
        }
        let tall = if self.trainings.len() > TRAININGS_MANY {
            " tall"
        } else {
            ""
        };
        put(
            out,
            format_args!("<h3>Trainings</h3><div class=\"scroll{tall}\">"),
        );
        out.push_str("<table><tr><th class=\"n\">model</th><th class=\"n\">before row</th><th class=\"o\">kind</th><th class=\"n o\">windows</th><th class=\"n\">injected faults found</th><th>verdict</th></tr>");
        for training in &self.trainings {
            let recall = training
                .recall
                .map_or_else(String::new, |r| format!("{:.0} %", 100.0 * r));
            let version = match training.version {
                0 => "–".to_owned(),
                number => number.to_string(),
            };
            let class = if training.promoted {
                "w promoted"
            } else {
                "w critical"
            };
            put(
                out,
                format_args!(
                    "<tr><td class=\"n\">{version}</td><td class=\"n\">{}</td><td class=\"o\">{}</td><td class=\"n o\">{}</td><td class=\"n\">{recall}</td><td class=\"{class}\">{}</td></tr>",
                    training.row,
                    escape(&training.kind),
                    training.rows,
                    escape(&training.verdict)
                ),
            );
        }
        out.push_str("</table></div>");
    }
}

/// A chart of losses by epoch.
fn course(out: &mut String, losses: &[(f64, f64)]) {
    let all: Vec<f64> = losses.iter().flat_map(|&(a, b)| [a, b]).collect();
    let axis = if all.iter().all(|&loss| loss > 0.0) {
        Axis::logarithmic(&all)
    } else {
        // A density's losses may be below 0.
        let most = all.iter().copied().fold(f64::MIN, f64::max);
        Axis::linear(all.iter().copied().fold(f64::MAX, f64::min), most)
    };
    let mut chart = Chart::over((1.0, losses.len() as f64), axis, 260);
    let line = |pick: fn(&(f64, f64)) -> f64| -> Vec<(f64, f64)> {
        let places = losses.iter().enumerate();
        places
            .map(|(i, pair)| ((i + 1) as f64, pick(pair)))
            .collect()
    };
    chart.line(&line(|pair| pair.0), "score");
    chart.line(&line(|pair| pair.1), "second");
    let epochs = losses.len();
    let ticks = if epochs > 4 {
        vec![1, epochs.div_ceil(2), epochs]
    } else {
        (1..=epochs).collect()
    };
    let ticks: Vec<String> = ticks.iter().map(usize::to_string).collect();
    chart.write_with(out, ("losses", &ticks), number);
}
