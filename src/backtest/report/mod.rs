//! The report of a backtest: one HTML file that needs nothing else. No script, nothing loaded; lines are inline SVG, all text is HTML,
//! so that it stays readable on a telephone.
//!
//! Pure: series in, text out. Next: `chart` (axes, lines, downsampling).

mod budgets;
mod chart;
mod html;

use super::budgets::Row;
use crate::alert::{AlertKind, Severity};
pub(super) use chart::number;
use chart::{Axis, Chart, surprise};
use html::{escape, put};

/// Trainings beyond which their marks are faint and their table scrolls.
const TRAININGS_MANY: usize = 24;

/// Episodes that the table lists; the worst are kept.
const EPISODES_MAX: usize = 60;

/// Features that the map of attribution shows; those with the largest shares are kept.
const FEATURES_MAX: usize = 20;

/// Columns of the map of attribution.
const CELLS: usize = 120;

/// Everything that the report shows. Series have one entry a row of the input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// What was replayed.
    pub title: String,
    /// One line below it: settings in brief.
    pub subtitle: String,
    /// Name and value of each figure, as text.
    pub figures: Vec<(String, String)>,
    /// Event times, for the axis; empty: rows are counted instead.
    pub times: Vec<String>,
    /// Scores.
    pub scores: Vec<f64>,
    /// P-values in (0, 1].
    pub p_values: Vec<f64>,
    /// Whether each row is still warming up: neither judged nor counted.
    pub warming_up: Vec<bool>,
    /// Labels, where there are any; else empty.
    pub labels: Vec<bool>,
    /// The p-value at or below which a record counts as anomalous.
    pub budget: f64,
    /// What other budgets would have opened.
    pub budgets: Vec<Row>,
    /// How near the configured one came, if it opened nothing.
    pub nothing: Option<String>,
    /// Episodes.
    pub episodes: Vec<EpisodeRow>,
    /// Trainings, those of rejected models among them.
    pub trainings: Vec<TrainingRow>,
    /// Names of the features.
    pub features: Vec<String>,
    /// Shares of the features (summing to 1) in the scores of some rows.
    pub attribution: Vec<(usize, Vec<f64>)>,
}

/// One episode.
#[derive(Clone, Debug, PartialEq)]
pub struct EpisodeRow {
    /// The record's key.
    pub key: String,
    /// Its first row.
    pub from: usize,
    /// The row after its last.
    pub to: usize,
    /// Records of its key among these.
    pub records: usize,
    /// Score or silence.
    pub kind: AlertKind,
    /// How bad it was.
    pub severity: Severity,
    /// Its smallest p-value.
    pub p_value: f64,
    /// The features most to blame, with their shares.
    pub features: Vec<(String, f64)>,
    /// Whether it overlaps a label; `None` without labels.
    pub labelled: Option<bool>,
}

/// One training.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingRow {
    /// The row before which it took place.
    pub row: usize,
    /// The model's number.
    pub version: u64,
    /// The kind of model.
    pub kind: String,
    /// Rows it was fitted on.
    pub rows: u64,
    /// Whether it took over.
    pub promoted: bool,
    /// What the gate said, or why there is no model.
    pub verdict: String,
    /// Recall of injected faults, if the gate measured it.
    pub recall: Option<f64>,
    /// The score at the budget's p-value.
    pub threshold: Option<f64>,
    /// Of the model, or of those of its members that learn by epochs: name, and losses by epoch (training, validation).
    pub losses: Vec<(String, Vec<(f64, f64)>)>,
}

impl Report {
    /// The whole file.
    pub fn html(&self) -> String {
        let mut out = String::with_capacity(1 << 18);
        self.head(&mut out);
        self.surprise(&mut out);
        self.scores(&mut out);
        self.attribution(&mut out);
        self.episodes(&mut out);
        self.budgets(&mut out);
        out.push_str("<div class=\"pair\">");
        self.calibration(&mut out);
        self.losses(&mut out);
        out.push_str("</div>");
        self.trainings(&mut out);
        out.push_str("<footer>anomalyd ");
        out.push_str(env!("CARGO_PKG_VERSION"));
        out.push_str("</footer></main></body></html>\n");
        out
    }

    fn head(&self, out: &mut String) {
        let title = escape(&self.title);
        out.push_str("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
        out.push_str("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">");
        out.push_str("<meta name=\"color-scheme\" content=\"light dark\"><title>");
        out.push_str(&title);
        out.push_str("</title><style>");
        out.push_str(include_str!("style.css"));
        put(
            out,
            format_args!("</style></head><body><main><h1>{title}</h1>"),
        );
        put(
            out,
            format_args!("<p>{}</p><div class=\"tiles\">", escape(&self.subtitle)),
        );
        for (name, value) in &self.figures {
            let (name, value) = (escape(name), escape(value));
            put(
                out,
                format_args!("<div class=\"tile\"><b>{value}</b><span>{name}</span></div>"),
            );
        }
        out.push_str("</div>");
    }

    /// Shaded and dashed marks that all charts over rows share.
    fn marks(&self, chart: &mut Chart) {
        chart.bands(&self.warming_up, "warm", 0.0, 1.0);
        chart.bands(&self.labels, "label", 0.0, 1.0);
        // Many lines would hide what they are drawn over.
        let many = self.trainings.len() > TRAININGS_MANY;
        for training in &self.trainings {
            let class = match (training.promoted, many) {
                (true, false) => "change",
                (true, true) => "change many",
                (false, _) => "change rejected",
            };
            let text = format!(
                "model {} at row {}: {}",
                training.version, training.row, training.verdict
            );
            chart.vertical(training.row as f64, class, &escape(&text));
        }
    }

    fn surprise(&self, out: &mut String) {
        let values: Vec<f64> = self.p_values.iter().map(|&p| surprise(p)).collect();
        let limit = surprise(self.budget);
        // What goes further is cut off: it would press what is near the budget flat.
        let most = values.iter().copied().fold(limit * 1.5, f64::max);
        let most = most.min(limit * 3.0);
        let mut chart = Chart::new(self.p_values.len(), Axis::linear(0.0, most), 230);
        self.marks(&mut chart);
        for episode in &self.episodes {
            let text = format!("{}, rows {} to {}", episode.key, episode.from, episode.to);
            chart.band(
                (episode.from, episode.to),
                "alert",
                (0.955, 1.0),
                &escape(&text),
            );
        }
        chart.series(&values, "score");
        chart.horizontal(limit, "limit");
        out.push_str("<h2>How surprising each record was</h2><p>Powers of ten of the p-value: 3 means that one normal record in a thousand is as strange. Comparable from model to model.</p>");
        chart.write(out, &self.times, number);
        out.push_str("<div class=\"key\"><span><i style=\"background:var(--score)\"></i>surprise</span><span><i style=\"background:var(--limit)\"></i>budget</span><span><i style=\"background:var(--alert)\"></i>episodes</span>");
        if !self.labels.is_empty() {
            out.push_str(
                "<span><i style=\"background:var(--label);opacity:.4\"></i>labelled</span>",
            );
        }
        out.push_str("<span><i style=\"background:var(--model)\"></i>trainings (faint: rejected)</span><span><i style=\"background:var(--line)\"></i>warming up</span></div>");
    }

    fn scores(&self, out: &mut String) {
        let changes: Vec<&TrainingRow> = self.trainings.iter().filter(|t| t.promoted).collect();
        // Thresholds must be seen above the scores that keep below them, but one that is far off would press these flat.
        let finite = self.scores.iter().copied().filter(|s| s.is_finite());
        let far = 10.0 * finite.fold(0.0, |most: f64, score| most.max(score.abs()));
        let mut shown = self.scores.clone();
        let thresholds = changes.iter().filter_map(|training| training.threshold);
        shown.extend(thresholds.filter(|threshold| threshold.abs() <= far));
        let mut chart = Chart::new(self.scores.len(), Axis::logarithmic(&shown), 190);
        self.marks(&mut chart);
        chart.series(&self.scores, "score");
        for (i, training) in changes.iter().enumerate() {
            let to = changes
                .get(i + 1)
                .map_or(self.scores.len(), |next| next.row);
            if let Some(threshold) = training.threshold {
                chart.level(threshold, training.row, to, "limit");
            }
        }
        out.push_str("<h2>Scores and thresholds</h2><p>The models' own scores, on a logarithmic scale; each model has its own threshold for the same budget.</p>");
        chart.write(out, &self.times, number);
    }

    fn attribution(&self, out: &mut String) {
        if self.attribution.is_empty() || self.scores.is_empty() {
            return;
        }
        let mut cells = vec![vec![0.0_f64; self.features.len()]; CELLS];
        for (row, shares) in &self.attribution {
            let cell = (row * CELLS / self.scores.len()).min(CELLS - 1);
            for (most, &share) in cells[cell].iter_mut().zip(shares) {
                *most = most.max(share);
            }
        }
        let total =
            |feature: usize| -> f64 { cells.iter().map(|cell| cell[feature].powi(2)).sum() };
        let mut order: Vec<usize> = (0..self.features.len()).collect();
        order.sort_by(|&a, &b| total(b).total_cmp(&total(a)).then(a.cmp(&b)));
        order.truncate(FEATURES_MAX);
        out.push_str("<h2>Which features were to blame, over time</h2><p>Share of each feature in the scores of anomalous records, by time; the stronger the colour, the more.");
        if order.len() < self.features.len() {
            put(
                out,
                format_args!(
                    " The {} of {} features with the largest shares.",
                    order.len(),
                    self.features.len()
                ),
            );
        }
        let most = cells.iter().flatten().copied().fold(0.01, f64::max);
        out.push_str("</p><div class=\"heat\">");
        for feature in order {
            let name = escape(&self.features[feature]);
            put(
                out,
                format_args!(
                    "<div class=\"name\" title=\"{name}\">{name}</div><svg viewBox=\"0 0 {CELLS} 1\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{name}\">"
                ),
            );
            for (x, cell) in cells
                .iter()
                .enumerate()
                .filter(|(_, cell)| cell[feature] > 0.01)
            {
                put(
                    out,
                    format_args!(
                        "<rect x=\"{x}\" width=\"1.03\" height=\"1\" opacity=\"{:.2}\"/>",
                        cell[feature] / most
                    ),
                );
            }
            out.push_str("</svg>");
        }
        out.push_str("<div class=\"xs\">");
        for tick in chart::ticks(self.scores.len(), &self.times) {
            put(out, format_args!("<span>{tick}</span>"));
        }
        out.push_str("</div></div>");
    }

    fn episodes(&self, out: &mut String) {
        put(
            out,
            format_args!("<h2>Episodes: {}</h2>", self.episodes.len()),
        );
        if self.episodes.is_empty() {
            out.push_str("<p>None opened.</p>");
            return;
        }
        let mut worst: Vec<&EpisodeRow> = self.episodes.iter().collect();
        worst.sort_by(|a, b| a.p_value.total_cmp(&b.p_value).then(a.from.cmp(&b.from)));
        if worst.len() > EPISODES_MAX {
            put(
                out,
                format_args!("<p>The {EPISODES_MAX} worst, in order of time.</p>"),
            );
            worst.truncate(EPISODES_MAX);
        }
        worst.sort_by_key(|episode| (episode.from, episode.to));
        out.push_str("<div class=\"scroll\"><table class=\"eps\"><tr><th>from</th><th class=\"n\">records</th>");
        // Rows of a file without a key all have the same, empty one.
        let keyed = self.episodes.iter().any(|episode| !episode.key.is_empty());
        out.push_str(if keyed { "<th>key</th>" } else { "" });
        out.push_str("<th>severity</th><th class=\"n\">p-value</th><th>most to blame</th>");
        out.push_str(if self.labels.is_empty() {
            "</tr>"
        } else {
            "<th>labelled</th></tr>"
        });
        for episode in worst {
            self.episode(out, episode, keyed);
        }
        out.push_str("</table></div>");
    }

    /// One row of the table.
    fn episode(&self, out: &mut String, episode: &EpisodeRow, keyed: bool) {
        let from = self
            .times
            .get(episode.from)
            .map_or_else(|| episode.from.to_string(), |time| escape(&second(time)));
        let key = if keyed {
            format!("<td>{}</td>", escape(&episode.key))
        } else {
            String::new()
        };
        let (severity, class) = match episode.severity {
            Severity::Low => ("low", "low"),
            Severity::Medium => ("medium", "medium"),
            Severity::High => ("high", "high"),
            Severity::Critical => ("critical", "critical"),
        };
        let severity = if episode.kind == AlertKind::Silence {
            "silence"
        } else {
            severity
        };
        // How rare it is beyond what the charts show, no model knows.
        let p_value = if episode.p_value < chart::P_MIN {
            format!("&lt;{:.0e}", chart::P_MIN)
        } else {
            format!("{:.0e}", episode.p_value)
        };
        put(
            out,
            format_args!(
                "<tr><td>{from}</td><td class=\"n\" data-h=\"records\">{}</td>{key}<td class=\"sev {class}\">{severity}</td><td class=\"n\" data-h=\"p-value\">{p_value}</td><td class=\"b\">",
                episode.records
            ),
        );
        for (name, share) in episode.features.iter().take(3) {
            let width = (share * 80.0).round();
            put(
                out,
                format_args!(
                    "<div class=\"bar\"><i style=\"width:{width}px\"></i>{} {:.0} %</div>",
                    escape(name),
                    share * 100.0
                ),
            );
        }
        out.push_str("</td>");
        if !self.labels.is_empty() {
            let hit = episode.labelled == Some(true);
            out.push_str(if hit {
                "<td class=\"promoted\" data-h=\"labelled\">yes</td>"
            } else {
                "<td class=\"critical\" data-h=\"labelled\">no</td>"
            });
        }
        out.push_str("</tr>");
    }

    /// Observed against claimed tail probabilities, of rows that are not labelled.
    fn calibration(&self, out: &mut String) {
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
        out.push_str("<section><h2>Calibration</h2><p>Powers of ten of the p-values of records that are not labelled: up, what they are; across, what they would be if all were normal. On the dashed line the budget is kept exactly; above it, there are more alerts than that.");
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
        chart.write_with(out, &ticks, number);
        out.push_str("</section>");
    }

    fn losses(&self, out: &mut String) {
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
                    "<section><h2>Losses</h2><p>A model of kind {} has no course of losses to show: nothing in it is fitted epoch by epoch.</p></section>",
                    escape(&newest.kind)
                ),
            );
            return;
        };
        put(
            out,
            format_args!(
                "<section><h2>Losses of model {}</h2><p>Mean loss by epoch, on fitted records and on later ones that only validate.</p>",
                last.version
            ),
        );
        for (name, losses) in &last.losses {
            if last.losses.len() > 1 || *name != last.kind {
                put(out, format_args!("<h3>member {}</h3>", escape(name)));
            }
            course(out, losses);
        }
        out.push_str("<div class=\"key\"><span><i style=\"background:var(--score)\"></i>fitted</span><span><i style=\"background:var(--limit)\"></i>validation</span></div></section>");
    }

    fn trainings(&self, out: &mut String) {
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
            format_args!("<h2>Trainings</h2><div class=\"scroll{tall}\">"),
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

/// An RFC 3339 time to the second, as people write it.
fn second(time: &str) -> String {
    time.get(..19).unwrap_or(time).replacen('T', " ", 1)
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
    chart.write_with(out, &ticks, number);
}

#[cfg(test)]
mod tests;
