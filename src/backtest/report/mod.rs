//! The report of a backtest: one HTML file that needs nothing else. Nothing is loaded, and no script but its own may run: that draws what changes with the
//! budget, and each episode's course, as the daemon's pages do. All else is there without it: text in HTML, lines in inline SVG.
//!
//! Pure: series in, text out. Next: `chart` (axes, lines, downsampling), `cards` (an episode each), `data` (what the script reads), `models` (what is folded away).

mod budgets;
mod cards;
mod chart;
mod data;
mod html;
mod models;

use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use super::budgets::Row;
use crate::alert::{AlertKind, Severity};
use crate::record::Key;
use crate::service::pages;
pub(super) use chart::number;
use chart::{Axis, Chart, surprise};
use html::{escape, put};

/// Trainings beyond which their marks are faint and their table scrolls.
const TRAININGS_MANY: usize = 24;

/// Features that the map of attribution shows; those with the largest shares are kept.
const FEATURES_MAX: usize = 20;

/// Columns of the map of attribution.
const CELLS: usize = 120;

/// Everything that the report shows. Series have one entry a row of the input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// What was replayed.
    pub title: String,
    /// What came of it, in a sentence.
    pub sentence: String,
    /// One line below it: settings in brief.
    pub subtitle: String,
    /// Name and value of each figure, as text.
    pub figures: Vec<(String, String)>,
    /// Event times, for the axis; empty: rows are counted instead.
    pub times: Vec<String>,
    /// Where each row lies across: event time in ms, or its number where rows have no times.
    pub places: Vec<i64>,
    /// Keys.
    pub keys: Vec<Key>,
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
    pub budgets: Vec<Budgeted>,
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

/// What a budget would have come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Budgeted {
    /// The budget, and its episodes.
    pub row: Row,
    /// The same in words.
    pub words: String,
}

/// A feature's part in an episode.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// Its share, from 0 to 1.
    pub share: f64,
    /// What it was; `None` if it was not observed.
    pub actual: Option<f64>,
    /// What was expected of it.
    pub expected: f64,
    /// By how many usual distances it lies above that, if they are known.
    pub spreads: Option<f64>,
}

/// The course of an episode's features.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The features.
    pub columns: Vec<String>,
    /// How far each usually is from what is expected of it, if that is known.
    pub spreads: Vec<Option<f64>>,
    /// How strong evidence must be, in nats.
    pub threshold: f64,
    /// Records of the key, in order.
    pub points: Vec<Point>,
}

/// A record of an episode's course. NaN where something is not known.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Its row.
    pub row: usize,
    /// Whether it lies in an episode.
    pub alert: bool,
    /// How strong the evidence was, in nats.
    pub strength: f64,
    /// The features' values ...
    pub values: Vec<f64>,
    /// ... and what was expected of them.
    pub expected: Vec<f64>,
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
    /// What caused it, in words.
    pub cause: String,
    /// The features most to blame.
    pub features: Vec<Feature>,
    /// Whether it overlaps a label; `None` without labels.
    pub labelled: Option<bool>,
    /// Whether it is one of the worst, which have a card each ...
    pub card: bool,
    /// ... and their course, if that can be shown.
    pub trace: Option<Trace>,
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

/// The script's part that draws the report.
const SCRIPT: &str = include_str!("report.js");

impl Report {
    /// The whole file.
    pub fn html(&self) -> String {
        let script = script();
        let mut out = String::with_capacity(1 << 18);
        self.head(&mut out, &script);
        self.budget(&mut out);
        self.lanes(&mut out);
        self.cards(&mut out);
        out.push_str("<section><h2>More</h2>");
        folded(&mut out, "How surprising each record was", |out| {
            self.surprise(out);
        });
        folded(&mut out, "Scores and thresholds", |out| {
            self.scores(out);
        });
        if !self.attribution.is_empty() && !self.scores.is_empty() {
            let title = "Which features were to blame, over time";
            folded(&mut out, title, |out| {
                self.attribution(out);
            });
        }
        if !self.figures.is_empty() {
            folded(&mut out, "Figures", |out| {
                self.figures(out);
            });
        }
        folded(&mut out, "Models and calibration", |out| {
            self.calibration(out);
            self.losses(out);
            self.trainings(out);
        });
        out.push_str("</section></main><footer>anomalyd ");
        out.push_str(env!("CARGO_PKG_VERSION"));
        out.push_str("</footer><script type=\"application/json\" id=\"data\">");
        out.push_str(&self.data());
        put(
            &mut out,
            format_args!("</script><script type=\"module\">{script}</script></body></html>\n"),
        );
        out
    }

    fn head(&self, out: &mut String, script: &str) {
        let title = escape(&self.title);
        let hash = base64::prelude::BASE64_STANDARD.encode(Sha256::digest(script));
        out.push_str("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
        put(
            out,
            format_args!(
                "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'\">"
            ),
        );
        out.push_str("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">");
        out.push_str("<meta name=\"color-scheme\" content=\"light dark\"><title>");
        out.push_str(&title);
        out.push_str("</title><style>");
        out.push_str(pages::STYLE);
        out.push_str(include_str!("style.css"));
        put(
            out,
            format_args!(
                "</style></head><body><a class=\"skip\" href=\"#main\">Skip to the content</a><header><span id=\"name\">{title}</span></header><main id=\"main\" tabindex=\"-1\"><section class=\"health\"><h1>{}</h1><p class=\"dim\">{}</p></section>",
                escape(if self.sentence.is_empty() {
                    &self.title
                } else {
                    &self.sentence
                }),
                escape(&self.subtitle)
            ),
        );
    }

    fn figures(&self, out: &mut String) {
        out.push_str("<div class=\"tiles\">");
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
        out.push_str("<p>Powers of ten of the p-value: 3 means that one normal record in a thousand is as strange. Comparable from model to model.</p>");
        chart.write(out, ("surprise of each record", &self.times), number);
        out.push_str("<div class=\"key\"><span><i style=\"background:var(--score)\"></i>surprise</span><span><i style=\"background:var(--red)\"></i>budget</span><span><i style=\"background:var(--red)\"></i>episodes</span>");
        if !self.labels.is_empty() {
            out.push_str(
                "<span><i style=\"background:var(--label);opacity:.4\"></i>labelled</span>",
            );
        }
        out.push_str("<span><i style=\"background:var(--green)\"></i>trainings (faint: rejected)</span><span><i style=\"background:var(--line)\"></i>warming up</span></div>");
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
        out.push_str("<p>The models' own scores, on a logarithmic scale; each model has its own threshold for the same budget.</p>");
        chart.write(out, ("scores and thresholds", &self.times), number);
    }

    fn attribution(&self, out: &mut String) {
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
        out.push_str("<p>Share of each feature in the scores of anomalous records, by time; the stronger the colour, the more.");
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
}

/// The script of the report: the pages' elements and charts, and what draws this one, as one module.
fn script() -> String {
    let parts = [pages::DOM, pages::CHARTS, SCRIPT];
    let lines = parts.iter().flat_map(|part| part.lines());
    let kept = lines.filter(|line| !line.starts_with("import "));
    let mut script = String::new();
    for line in kept {
        script.push_str(line.strip_prefix("export ").unwrap_or(line));
        script.push('\n');
    }
    script
}

/// A part that is folded away until somebody asks for it.
fn folded(out: &mut String, title: &str, part: impl FnOnce(&mut String)) {
    put(
        out,
        format_args!("<details><summary>{}</summary>", escape(title)),
    );
    part(out);
    out.push_str("</details>");
}

/// An RFC 3339 time to the second, as people write it.
fn second(time: &str) -> String {
    time.get(..19).unwrap_or(time).replacen('T', " ", 1)
}

#[cfg(test)]
mod tests;
