//! From what came of a backtest to the [`Report`] of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::ArrayView2;

use super::budgets::Row;
use super::evaluate::{Outcome, Trained};
use super::report::{EpisodeRow, Report, TrainingRow, number};
use crate::alert::{Alert, AlertEvent, AlertKind};
use crate::config::Config;
use crate::detect::episode::Rule;
use crate::model::card::{Card, ModelVersion};
use crate::model::trained::TrainedModel;
use crate::model::{KINDS, Trait};
use crate::stream::EpisodeId;
use crate::tools::table::Table;

/// Milliseconds of a day.
const DAY_MS: f64 = 86_400_000.0;

/// What a report is made of.
#[derive(Clone, Copy, Debug)]
pub struct ReportInput<'a> {
    /// The settings.
    pub config: &'a Config,
    /// What was replayed.
    pub table: &'a Table,
    /// What came of it.
    pub outcome: &'a Outcome,
    /// Rows at the beginning that only the first model learnt from.
    pub warmup: usize,
    /// Figures against labels, by name; none without labels.
    pub figures: &'a [(&'static str, f64)],
    /// What other budgets would have opened ...
    pub budgets: &'a [Row],
    /// ... and how near the configured one came, if it opened nothing.
    pub nothing: Option<&'a str>,
    /// Whether rows have times of their own.
    pub timed: bool,
}

/// The report.
pub fn report(input: ReportInput<'_>) -> Report {
    let ReportInput {
        table,
        outcome,
        warmup,
        ..
    } = input;
    let budget = budget(input);
    let episodes = episodes(table, outcome);
    let mut figures = counts(input, episodes.len());
    figures.extend(input.figures.iter().map(|&(name, value)| {
        let value = if value.is_nan() {
            "–".to_owned()
        } else {
            number(value)
        };
        (name.to_owned(), value)
    }));
    Report {
        title: table.path.clone(),
        budgets: input.budgets.to_vec(),
        nothing: input.nothing.map(str::to_owned),
        subtitle: subtitle(input),
        figures,
        times: if input.timed {
            table.times.iter().map(|time| time.rfc3339()).collect()
        } else {
            Vec::new()
        },
        scores: outcome.lines.iter().map(|line| line.score).collect(),
        p_values: outcome.lines.iter().map(|line| line.p_value).collect(),
        warming_up: (0..table.len())
            .map(|row| row < warmup || outcome.lines[row].scored_by.version().is_none())
            .collect(),
        labels: table.labels.clone().unwrap_or_default(),
        budget,
        episodes,
        trainings: outcome.models.iter().map(|t| training(t, budget)).collect(),
        features: table.columns.clone(),
        attribution: attribution(table, outcome),
    }
}

/// The p-value at which a single record opens an episode, by the latest model.
fn budget(input: ReportInput<'_>) -> f64 {
    let mut models = input.outcome.models.iter().rev();
    let latest = models.find_map(|trained| trained.model.as_deref());
    Rule::of(&input.config.detect, latest).p_value()
}

fn subtitle(input: ReportInput<'_>) -> String {
    let ReportInput { config, table, .. } = input;
    let spec = &config.model;
    let budget = config.detect.budget;
    let keys: std::collections::BTreeSet<&str> =
        table.keys.iter().map(|key| key.0.as_ref()).collect();
    let keys = match keys.len() {
        1 => String::new(),
        n => format!(" of {n} keys"),
    };
    format!(
        "{} rows{keys}, {} features. Model {}, window {}, first fitted on {} rows. Budget of false alarms: {budget}.",
        table.len(),
        table.columns.len(),
        spec.kind,
        spec.window,
        input.warmup.min(table.len()),
    )
}

/// What can be counted without labels.
fn counts(input: ReportInput<'_>, episodes: usize) -> Vec<(String, String)> {
    let ReportInput { table, outcome, .. } = input;
    let judged = table.len().saturating_sub(input.warmup).max(1);
    let after = outcome.lines.iter().skip(input.warmup);
    let flagged = after.filter(|line| line.alert).count();
    let share = 100.0 * flagged as f64 / judged as f64;
    let mut figures = vec![
        ("episodes".to_owned(), episodes.to_string()),
        ("of records in episodes".to_owned(), format!("{share:.1} %")),
    ];
    if input.timed
        && let (Some(first), Some(last)) = (table.times.iter().min(), table.times.iter().max())
    {
        let days = last.since(*first).as_millis() as f64 / DAY_MS;
        // Of less than a day, a rate by the day says nothing.
        if days >= 1.0 {
            let rate = episodes as f64 / days;
            figures.push(("episodes a day".to_owned(), format!("{rate:.2}")));
        }
    }
    figures
}

fn training(trained: &Trained, budget: f64) -> TrainingRow {
    let model = trained.model.as_deref();
    let card = model.map(|model| &model.card);
    TrainingRow {
        row: trained.row,
        version: card.map_or(0, |card| card.version.0),
        kind: card.map_or_else(String::new, |card| card.spec.kind.clone()),
        rows: card.map_or(0, |card| card.count("fit")),
        promoted: trained.promoted,
        verdict: trained.verdict.clone(),
        recall: card.and_then(|card| card.measures.get("recall").copied()),
        threshold: model.map(|model| model.calibration.full.threshold(budget)),
        losses: card.map_or_else(Vec::new, losses),
    }
}

/// What has a course of losses: the model itself, or those of its members that are networks.
fn losses(card: &Card) -> Vec<(String, Vec<(f64, f64)>)> {
    let learners = KINDS.with(Trait::Descends);
    let learns = |name: &str| {
        let kind = name.split(':').next().unwrap_or_default();
        learners.contains(&kind)
    };
    let own = (card.spec.kind.clone(), card.losses.clone());
    let all = if card.member_losses.is_empty() {
        vec![own]
    } else {
        card.member_losses.clone()
    };
    all.into_iter()
        .filter(|(name, losses)| learns(name) && losses.len() > 1)
        .collect()
}

/// Episodes from their alerts, in the order in which they opened.
fn episodes(table: &Table, outcome: &Outcome) -> Vec<EpisodeRow> {
    let mut found: Vec<EpisodeRow> = Vec::new();
    let mut place: BTreeMap<&EpisodeId, usize> = BTreeMap::new();
    let alerts = outcome.alerts.iter();
    for (row, alert) in alerts.filter(|(_, alert)| alert.kind != AlertKind::Storm) {
        let at = *place.entry(&alert.id).or_insert_with(|| {
            found.push(EpisodeRow {
                key: alert.key.0.to_string(),
                from: onset(table, alert, *row),
                to: table.len(),
                records: 0,
                kind: alert.kind,
                severity: alert.severity,
                p_value: alert.p_value,
                features: Vec::new(),
                labelled: None,
            });
            found.len() - 1
        });
        let episode = &mut found[at];
        episode.severity = episode.severity.max(alert.severity);
        // The features of the worst record are the ones to look at.
        if alert.p_value <= episode.p_value {
            episode.p_value = alert.p_value;
            episode.features = alert
                .relevant_attribution
                .iter()
                .map(|part| (part.feature.clone(), part.share))
                .collect();
        }
        // An episode that opens again after a close has the same id.
        episode.to = match alert.event {
            AlertEvent::Close => (row + 1).max(episode.from + 1),
            AlertEvent::Open | AlertEvent::Update => table.len(),
        };
    }
    for episode in &mut found {
        let own = |row: &usize| *table.keys[*row].0 == *episode.key && !table.empty[*row];
        let rows = (episode.from..episode.to).filter(own);
        episode.records = rows.clone().count();
        if let Some(labels) = &table.labels {
            episode.labelled = Some(rows.clone().any(|row| labels[row]));
        }
        // Alerts do not tell of every record: the worst of all is among the rows.
        if episode.kind == AlertKind::Score {
            let p_values = rows.map(|row| outcome.lines[row].p_value);
            episode.p_value = p_values.fold(episode.p_value, f64::min);
        }
    }
    found
}

/// The row that an episode's id names, at or before the one that opened it.
fn onset(table: &Table, alert: &Alert, opened: usize) -> usize {
    let Some(offset) = alert.id.onset() else {
        return opened;
    };
    match &table.places {
        None => usize::try_from(offset.0).unwrap_or(0).min(opened),
        Some(places) => {
            let part = places.rows[opened].0;
            let at = (0..=opened).rfind(|&row| places.rows[row] == (part, offset));
            at.unwrap_or(opened)
        }
    }
}

/// Shares of the features in the scores of records in episodes: by the model that judged each, or, of the cold start, as its alerts input.
fn attribution(table: &Table, outcome: &Outcome) -> Vec<(usize, Vec<f64>)> {
    let models: BTreeMap<ModelVersion, &Arc<TrainedModel>> = outcome
        .models
        .iter()
        .filter_map(|trained| trained.model.as_ref())
        .map(|model| (model.card.version, model))
        .collect();
    let mut shares = attributed_by_alerts(table, &outcome.alerts);
    for (row, window) in outcome.windows.iter() {
        if let Some(version) = outcome.lines[row].scored_by.version()
            && let Some(model) = models.get(&version)
            && model.width() == window.len()
            && let Ok(view) = ArrayView2::from_shape((1, window.len()), window)
        {
            shares.insert(row, model.explain(view).shares);
        }
    }
    shares.into_iter().collect()
}

fn attributed_by_alerts(table: &Table, alerts: &[(usize, Alert)]) -> BTreeMap<usize, Vec<f64>> {
    let mut shares = BTreeMap::new();
    for (row, alert) in alerts {
        if alert.scored_by.version().is_some() || alert.relevant_attribution.is_empty() {
            continue;
        }
        let of: BTreeMap<&str, f64> = alert
            .relevant_attribution
            .iter()
            .map(|part| (part.feature.as_str(), part.share))
            .collect();
        let by_column = |name: &String| of.get(name.as_str()).copied().unwrap_or(0.0);
        shares.insert(*row, table.columns.iter().map(by_column).collect());
    }
    shares
}
