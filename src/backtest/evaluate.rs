//! `score` and `backtest`: a verdict a row.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::feedback::Script;
use super::replay::{FeedbackCounts, Line, Replay, Windows};
use crate::alert::Alert;
use crate::config::Config;
use crate::detect::Params;
use crate::model::Monitor;
use crate::model::trained::TrainedModel;
use crate::time::Timestamp;
use crate::tools::ToolError;
use crate::tools::table::Table;
use crate::tools::training::{self, Run};
use crate::train;

/// A model that was trained on the way.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The number of rows that were read before.
    pub row: usize,
    /// The model; `None` if training failed.
    pub model: Option<Arc<TrainedModel>>,
    /// Whether it judged from then on.
    pub promoted: bool,
    /// The gate's verdict, or why training failed.
    pub verdict: String,
}

/// What came of a table.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// One a row.
    pub lines: Vec<Line>,
    /// All alerts, in order, each with the row that caused it.
    pub alerts: Vec<(usize, Alert)>,
    /// Times that a key began to drift.
    pub drifts: u64,
    /// Models trained on the way.
    pub models: Vec<Trained>,
    /// Windows of rows in alerts, a bounded number of them.
    pub windows: Windows,
    /// What its season expected of a row with a single feature, by row.
    pub expected: BTreeMap<usize, f64>,
    /// Codes of the rows, if they were asked for.
    pub codes: Option<Vec<Option<Vec<f32>>>>,
    /// What was said on the way.
    pub feedback: FeedbackCounts,
}

impl Outcome {
    fn of(replay: Replay<'_>, models: Vec<Trained>) -> Self {
        Self {
            lines: replay.lines,
            alerts: replay.alerts,
            drifts: replay.drifts,
            models,
            windows: replay.windows,
            expected: replay.expected,
            codes: replay.codes,
            feedback: replay.feedback,
        }
    }
}

/// What is told along the way, and what ends it.
pub struct Watch<'a> {
    /// Rows done.
    pub rows: &'a dyn Fn(usize),
    /// Watches training.
    pub monitor: &'a mut dyn Monitor,
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// Scores all rows by one model. Each window is made of the rows before, of the same key. `codes`: the model's codes too.
pub fn score(
    config: &Config,
    table: &Table,
    (model, codes): (TrainedModel, bool),
    rows: &dyn Fn(usize),
) -> Result<Outcome, ToolError> {
    let params = params(config, model.card.spec.window);
    let batch = config.batch.records_max;
    let mut replay = Replay::begin(table, &params, &training::place(config), batch)?;
    if codes {
        replay = replay.with_codes();
    }
    replay.promote(Arc::new(model))?;
    replay.advance(table.len(), rows);
    Ok(Outcome::of(replay, Vec::new()))
}

fn params(config: &Config, window: usize) -> Params {
    Params {
        window,
        ..(*config.detect).clone()
    }
}

/// How a backtest begins.
#[derive(Clone, Copy, Debug)]
pub struct Warmup {
    /// Rows that the first model learns from.
    pub rows: usize,
    /// Whether it uses them as the daemon would, which holds some back to calibrate and for the gate, instead of all.
    pub as_live: bool,
}

impl From<usize> for Warmup {
    fn from(rows: usize) -> Self {
        Self {
            rows,
            as_live: false,
        }
    }
}

/// Scores first and learns after, as live: the cold start judges the first rows, which the first model learns from; from then on
/// models are trained as configured, gated, and take over where they are better.
///
/// What is equal to the daemon's, bit for bit, on records in the log's order: scores, p-values and episodes under the same model; a model
/// of the same version from the same records, champion and quarantine, but for the first one unless `as_live`. What is not: *when* the
/// daemon trains, which is by its clock and jitter, and how much was committed by then.
pub fn backtest(
    config: &Config,
    table: &Table,
    warmup: impl Into<Warmup>,
    watch: &mut Watch<'_>,
) -> Result<Outcome, ToolError> {
    backtest_with(config, table, (warmup.into(), Script::default()), watch)
}

/// The same, with what somebody says of episodes on the way.
///
/// # Errors
/// As of [`backtest`].
pub fn backtest_with(
    config: &Config,
    table: &Table,
    (warmup, script): (Warmup, Script),
    watch: &mut Watch<'_>,
) -> Result<Outcome, ToolError> {
    let params = params(config, config.model.window);
    let at = training::place(config);
    let mut replay = Replay::begin(table, &params, &at, config.batch.records_max)?;
    replay.script = script;
    let mut models = Vec::new();
    let mut next = warmup.rows.clamp(1, table.len().max(1));
    loop {
        replay.advance(next, watch.rows);
        if replay.lines.len() >= table.len() {
            break;
        }
        let asked = replay.asked();
        if replay.lines.len() < next {
            if !asked || replay.champion().is_none() {
                continue;
            }
            next = replay.lines.len();
        }
        let trained = retrain(config, table, &mut replay, (&models, next, warmup), watch)?;
        models.push(trained);
        next = if replay.champion().is_some() {
            following(config, table, next)
        } else {
            // No model yet: once more when a tenth as many rows have come.
            next + (next / 10).max(1)
        };
    }
    Ok(Outcome::of(replay, models))
}

/// The number of rows before the training after the one at `row`.
fn following(config: &Config, table: &Table, row: usize) -> usize {
    let training = &config.training;
    if training.every_records > 0 {
        return row + training.every_records;
    }
    let due = newest(table, row).plus(training.interval);
    let later = table.times[row..].iter().position(|time| *time >= due);
    later.map_or(table.len(), |ahead| row + ahead + 1)
}

/// The latest event time among the rows before `row`.
fn newest(table: &Table, row: usize) -> Timestamp {
    let times = table.times[..row].iter().copied();
    times.max().unwrap_or(Timestamp::MIN)
}

fn retrain(
    config: &Config,
    table: &Table,
    replay: &mut Replay<'_>,
    (models, row, warmup): (&[Trained], usize, Warmup),
    watch: &mut Watch<'_>,
) -> Result<Trained, ToolError> {
    let now = newest(table, row);
    let since = now.minus(config.training.history);
    let from = (0..row).find(|&i| table.times[i] >= since).unwrap_or(row);
    let champion = replay.champion();
    // The first rows are all there is, and what they were given for; later models are held against the one in use, on rows held back.
    let whole = champion.is_none() && !warmup.as_live;
    let params = if whole {
        training::whole(config)
    } else {
        train::Params {
            rows_min: config.training.rows_min.min(warmup.rows),
            ..config.training_params()
        }
    };
    let version = models.len() as u64 + 1;
    let run = Run {
        version,
        created: now,
        rows: from..row,
        sampled: !whole,
        params,
        exclusions: replay.quarantine(),
        champion,
        change: models
            .iter()
            .rev()
            .find_map(|trained| trained.model.as_ref())
            .and_then(|last| last.card.gate.may_have_changed()),
    };
    let mut job = training::job(config, table, run);
    job.maintenance.extend_from_slice(&replay.maintenance);
    job.feedback = replay.said().clone();
    match train::run_watched(&job, watch.monitor) {
        Ok(candidate) => {
            let promoted = candidate.verdict.is_promoted();
            let model = Arc::new(candidate.model);
            if promoted {
                replay.promote(Arc::clone(&model))?;
            }
            Ok(Trained {
                row,
                model: Some(model),
                promoted,
                verdict: candidate.verdict.to_string(),
            })
        }
        Err(error) if error.is_cancelled() => Err(ToolError::Train {
            path: table.path.clone(),
            error,
        }),
        Err(error) => Ok(Trained {
            row,
            model: None,
            promoted: false,
            verdict: error.to_string(),
        }),
    }
}
