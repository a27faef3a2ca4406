//! From what came of a backtest to the [`Report`] of it.

use std::collections::BTreeMap;

use ndarray::ArrayView2;

use super::budgets::{self, Row};
use super::cards;
use super::evaluate::Trained;
pub use super::input::ReportInput;
use super::report::{Budgeted, Report, TrainingRow, number};
use super::summary;
use crate::alert::{Alert, ScoredBy};
use crate::detect::episode::Rule;
use crate::model::card::Card;
use crate::model::{KINDS, Trait};
use crate::tools::table::Table;

/// Milliseconds of a day.
const DAY_MS: f64 = 86_400_000.0;

/// The report.
pub fn report(input: ReportInput<'_>) -> Report {
    let ReportInput {
        table,
        outcome,
        warmup,
        ..
    } = input;
    let budget = budget(input);
    let strengths = budgets::strengths(&input.config.detect, table, outcome);
    let episodes = cards::episodes(input, &strengths);
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
        sentence: input.sentence.to_owned(),
        budgets: input
            .budgets
            .iter()
            .map(|row| budgeted(input, row))
            .collect(),
        nothing: input.nothing.map(str::to_owned),
        subtitle: subtitle(input),
        figures,
        times: if input.timed {
            table.times.iter().map(|time| time.rfc3339()).collect()
        } else {
            Vec::new()
        },
        places: if input.timed {
            table.times.iter().map(|time| time.0).collect()
        } else {
            (0..table.len() as i64).collect()
        },
        keys: table.keys.clone(),
        scores: outcome.lines.iter().map(|line| line.score).collect(),
        p_values: outcome.lines.iter().map(|line| line.p_value).collect(),
        warming_up: (0..table.len())
            .map(|row| row < warmup || outcome.lines[row].scored_by == ScoredBy::ColdStart)
            .collect(),
        labels: table.labels.clone().unwrap_or_default(),
        budget,
        episodes,
        trainings: outcome.models.iter().map(|t| training(t, budget)).collect(),
        features: table.columns.clone(),
        attribution: attribution(input),
    }
}

/// A budget with what it would have come to, in words.
fn budgeted(input: ReportInput<'_>, row: &Row) -> Budgeted {
    let mut words = summary::many(row.episodes, "episode");
    if let Some(found) = &row.labelled {
        words += &format!("; {}", summary::against(found, input.timed));
    }
    Budgeted {
        words,
        row: row.clone(),
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
        "{} rows{keys}, {}. Model {}, window {}, first fitted on {} rows. Budget of false alarms: {budget}.",
        table.len(),
        summary::many(table.columns.len(), "feature"),
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
        threshold: model.map(|model| model.threshold(budget)),
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

/// Shares of the features in the scores of records in episodes: by the model that judged each, or, of the cold start, as its alerts input.
fn attribution(input: ReportInput<'_>) -> Vec<(usize, Vec<f64>)> {
    let (table, outcome) = (input.table, input.outcome);
    let models = cards::models(input);
    let mut shares = attributed_by_alerts(table, &outcome.alerts);
    for (row, window) in outcome.windows.iter() {
        if let Some(version) = outcome.lines[row].scored_by.version()
            && let Some(model) = models.get(&version)
            && model.width() == window.len()
            && let Ok(view) = ArrayView2::from_shape((1, window.len()), window)
        {
            shares.insert(row, model.explain(view, 0).shares);
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
