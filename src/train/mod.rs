//! Training as a function: decoded rows, settings and a seed in; a model and a verdict out. The same job gives the same bytes.
//!
//! Reading order: [`rows`] (what was read), [`sample`] (what to read), `window` (rows to windows, what is kept out, the split by time),
//! `suspects` (faults in a history that nobody has judged), `fit` (scaler, model, calibration), `cross` (the calibration of few rows), [`evidence`]
//! (what opens an episode), [`inject`] (faults that the gate tries), [`gate`] (may this
//! model judge?).

mod cross;
pub mod evidence;
mod fit;
pub mod gate;
pub mod inject;
pub mod rows;
pub mod sample;
mod suspects;
mod window;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use ndarray::Array2;

use crate::detect::Budget;
use crate::model::card::{Card, Exclusion, Maintenance, ModelVersion, Said, Stretch, Usage};
use crate::model::gate_report::{Change, GateReport, Instead};
use crate::model::reservoir::Reservoir;
use crate::model::spec::ModelSpec;
use crate::model::trained::TrainedModel;
use crate::model::{FitError, Monitor};
use crate::record::schema::{ContextColumns, SchemaSpec};
use crate::seed::Seed;
use crate::stream::{Offset, TopicPartition};
use crate::time::Timestamp;
use evidence::EpisodeSettings;
use rows::PartitionRows;

/// How training uses its rows, and what the gate asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// Windows below which there is no training.
    pub rows_min: usize,
    /// Windows that are used at most; more are thinned evenly.
    pub rows_max: usize,
    /// Records of the key kept out before and after an episode.
    pub guard: u64,
    /// Share of the windows, the ones before the gate's, that only calibrate. In [0, 0.5].
    pub calibrate_share: f64,
    /// Share of the windows, the latest, that the gate tries. In [0, 0.5]. With none, the windows that validate are tried.
    pub gate_share: f64,
    /// With fewer windows than this, none are held back to calibrate: out-of-fold scores do. 0: never; `usize::MAX`: always.
    pub cross_below: usize,
    /// How much of the champion's or the baseline's recall of injected faults a challenger may lack.
    pub recall_tolerance: f64,
    /// How many times the budget the alert rate on held-out records may be, beyond chance.
    pub alert_rate_factor: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            rows_min: 500,
            rows_max: 20_000,
            guard: 20,
            calibrate_share: 0.15,
            gate_share: 0.15,
            cross_below: 0,
            recall_tolerance: 0.05,
            alert_rate_factor: 3.0,
        }
    }
}

impl Params {
    /// How a model of this many windows comes to be.
    fn usage(&self, windows: usize) -> Usage {
        let cross = windows < self.cross_below;
        Usage {
            rows_max: self.rows_max as u64,
            guard: self.guard,
            calibrate_share: if cross { 0.0 } else { self.calibrate_share },
            gate_share: self.gate_share,
            folds: if cross { cross::FOLDS as u64 } else { 0 },
        }
    }

    /// The same, with rows used as they were for the model of `card`.
    #[must_use]
    pub fn again(self, card: &Card) -> Self {
        let Some(usage) = card.usage else { return self };
        Self {
            rows_max: usize::try_from(usage.rows_max).unwrap_or(usize::MAX),
            guard: usage.guard,
            calibrate_share: usage.calibrate_share,
            gate_share: usage.gate_share,
            cross_below: if usage.folds > 0 { usize::MAX } else { 0 },
            ..self
        }
    }
}

/// Everything that a training run depends on.
#[derive(Clone, Debug)]
pub struct TrainJob {
    /// The detector.
    pub detector: String,
    /// The number of the model to be.
    pub version: ModelVersion,
    /// Goes into the card; changes nothing else.
    pub created: Timestamp,
    /// Names of the D feature columns.
    pub columns: Vec<String>,
    /// Columns under the policy `last`: a missing value takes the key's last one, as it does live.
    pub fill_last: Vec<usize>,
    /// What to fit.
    pub spec: ModelSpec,
    /// How records were read: goes into the card, so that they can be read so again.
    pub schema: Option<SchemaSpec>,
    /// The root of this run's randomness.
    pub seed: Seed,
    /// What was read, a part a partition.
    pub rows: Vec<PartitionRows>,
    /// The spans it was read from; windows do not cross from one to another. Empty for a file.
    pub spans: Vec<Stretch>,
    /// The file it was read from: name and sha256.
    pub source: Option<String>,
    /// What to keep out, without guard bands.
    pub exclusions: Vec<Exclusion>,
    /// What somebody said of episodes and suspects.
    pub feedback: Said,
    /// What the configuration keeps out.
    pub maintenance: Vec<Maintenance>,
    /// The false-alarm budget, which the gate holds the alert rate against.
    pub budget: Budget,
    /// How evidence gathers and episodes close.
    pub episodes: EpisodeSettings,
    /// The model in use.
    pub champion: Option<Arc<TrainedModel>>,
    /// What the last model before this one was rejected for, if only for earlier records.
    pub change: Option<Change>,
    /// Make again the model of this card: its verdict and measures are taken over instead of asking the gate.
    pub remake: Option<Card>,
    /// How rows are used.
    pub params: Params,
}

/// A trained model, and what the gate says of it.
#[derive(Debug)]
pub struct Candidate {
    /// The model; its card has the verdict.
    pub model: TrainedModel,
    /// Whether it may judge.
    pub verdict: GateReport,
}

/// Why there is no candidate.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TrainError {
    /// Too little is left to learn from.
    #[error(
        "training needs at least {needed} windows, but has {windows} ({rows} records read, {excluded} kept out)"
    )]
    TooFewRows {
        /// Windows needed.
        needed: usize,
        /// Windows there are.
        windows: usize,
        /// Records read.
        rows: usize,
        /// Records kept out, guard bands included.
        excluded: usize,
    },
    /// Nothing varies.
    #[error(
        "all {columns} features are constant or missing over {rows} records: there is nothing to learn"
    )]
    Constant {
        /// D.
        columns: usize,
        /// Records looked at.
        rows: usize,
    },
    /// The settings cannot be used.
    #[error("{0}")]
    Settings(String),
    /// The fit failed or was cancelled.
    #[error(transparent)]
    Fit(#[from] FitError),
}

impl TrainError {
    /// Whether it was `stop` that ended the run.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Fit(FitError::Cancelled))
    }
}

/// Trains and gates. `stop` is asked now and then; when it says so, the run ends as cancelled.
pub fn run(job: &TrainJob, stop: &dyn Fn() -> bool) -> Result<Candidate, TrainError> {
    run_watched(job, &mut Stopping(stop))
}

/// [`run`], watched epoch by epoch.
pub fn run_watched(job: &TrainJob, monitor: &mut dyn Monitor) -> Result<Candidate, TrainError> {
    if let Err(problems) = job.spec.check() {
        let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
        return Err(TrainError::Settings(text.join("; ")));
    }
    let (mut windows, aside) = suspects::set_aside(job)?;
    let usage = job.params.usage(windows.len());
    windows.level(&usage);
    let mut candidate = remade_or_gated(job, &windows, usage, monitor)?;
    let card = &mut candidate.model.card;
    card.suspects = aside.suspects;
    card.waived = aside.waived;
    card.judged_from = judged_from(job);
    Ok(candidate)
}

/// What is made: once more as its card says, or anew and gated.
fn remade_or_gated(
    job: &TrainJob,
    windows: &window::Windows<'_>,
    usage: Usage,
    monitor: &mut dyn Monitor,
) -> Result<Candidate, TrainError> {
    let mut made = Made::make(job, windows, usage, monitor)?;
    let Some(card) = &job.remake else {
        return gated(job, windows, made, monitor);
    };
    let (keys, held_out, _) = made.held_out(windows);
    made.fitted.model.card.take_over(card);
    made.finish(job, windows);
    let mut model = made.fitted.model;
    // What was remembered of generations before is taken over from the model's file, if that is at hand.
    model.reservoir = Reservoir::of(&keys, held_out.view());
    let verdict = card.gate.clone();
    Ok(Candidate { model, verdict })
}

/// What the gate says of what was made, or of the baseline in its place.
fn gated(
    job: &TrainJob,
    windows: &window::Windows<'_>,
    made: Made,
    monitor: &mut dyn Monitor,
) -> Result<Candidate, TrainError> {
    let (keys, held_out, calibrated_on) = made.held_out(windows);
    let own = Reservoir::of(&keys, held_out.view());
    let unseen = (keys.as_slice(), &held_out);
    let gate = gate::Gate::new(job, unseen, windows.levels(), calibrated_on)?;
    let mut measures = BTreeMap::new();
    let (mut made, instead) = stand_in(job, windows, (made, &gate), &mut measures, monitor)?;
    let verdict = gate.verdict(&gate.tried(made.tried()), instead, &mut measures);
    let card = &mut made.fitted.model.card;
    card.gate.clone_from(&verdict);
    card.measures = measures;
    made.finish(job, windows);
    let mut model = made.fitted.model;
    model.reservoir = gate.remembered(&own, verdict.vouched_for());
    Ok(Candidate { model, verdict })
}

/// Lets the baseline take the place of what was made, if it is better by far.
fn stand_in(
    job: &TrainJob,
    windows: &window::Windows<'_>,
    (made, gate): (Made, &gate::Gate<'_>),
    measures: &mut BTreeMap<String, f64>,
    monitor: &mut dyn Monitor,
) -> Result<(Made, Option<Instead>), TrainError> {
    if gate::is_plain(&job.spec.kind) {
        return Ok((made, None));
    }
    let plain = job.plain();
    let usage = job.params.usage(windows.len());
    let mut baseline = match Made::make(&plain, windows, usage, monitor) {
        Ok(baseline) => baseline,
        Err(error) if error.is_cancelled() => return Err(error),
        // A baseline that cannot be fitted draws no line.
        Err(_) => return Ok((made, None)),
    };
    let tried = gate.tried(made.tried());
    let instead = gate.instead(&tried, baseline.tried(), measures);
    if instead.is_none() {
        return Ok((made, None));
    }
    baseline.fitted.model.card.asked = Some(job.spec.kind.clone());
    Ok((baseline, instead))
}

/// What was fitted and calibrated, before the gate.
#[derive(Debug)]
struct Made {
    split: window::Split,
    fitted: fit::Fitted,
    folds: Option<cross::Folds>,
}

impl Made {
    fn make(
        job: &TrainJob,
        windows: &window::Windows<'_>,
        usage: Usage,
        monitor: &mut dyn Monitor,
    ) -> Result<Self, TrainError> {
        let split = windows.split(&usage, &job.spec);
        let mut fitted = fit::fit(job, windows, (&split, usage.folds > 0), monitor)?;
        fitted.model.card.usage = Some(usage);
        let folds = if usage.folds > 0 {
            Some(cross::Folds::fit(job, windows, (&split, &usage), monitor)?)
        } else {
            None
        };
        if let Some(folds) = &folds {
            folds.calibrate(job, &mut fitted.model);
        }
        Ok(Self {
            split,
            fitted,
            folds,
        })
    }

    /// The model that the gate tries: where no windows were held back for it but folds are, that of the last fold.
    fn tried(&self) -> &TrainedModel {
        match &self.folds {
            Some(folds) if self.split.gate.is_empty() => folds.last(),
            _ => &self.fitted.model,
        }
    }

    /// The windows that the gate tries it on, as they were observed, with their keys, and whether it was calibrated on these: those that were held back for this;
    /// where none were, the last fold; or those that validated it, which can show faults but not how often it alerts.
    fn held_out(&self, windows: &window::Windows<'_>) -> (Vec<String>, Array2<f64>, bool) {
        let held_out = match &self.folds {
            _ if !self.split.gate.is_empty() => &self.split.gate,
            Some(folds) => folds.held_out(),
            None => &self.split.validation,
        };
        let calibrated_on = self.folds.is_none() && self.split.gate.is_empty();
        (windows.keys(held_out), windows.raw(held_out), calibrated_on)
    }

    /// Calibrates on the gate's windows, too.
    fn finish(&mut self, job: &TrainJob, windows: &window::Windows<'_>) {
        let Self {
            split,
            fitted,
            folds,
        } = self;
        match folds {
            Some(folds) => folds.calibrate_finally(job, (windows, &split.gate), fitted),
            None => fit::calibrate_finally(job, windows, split, fitted),
        }
    }
}

impl TrainJob {
    /// Which columns are context.
    pub(super) fn context_columns(&self) -> ContextColumns {
        let known = self.schema.as_ref();
        known.map_or_else(ContextColumns::default, |schema| {
            schema.context_columns(&self.columns)
        })
    }

    /// The same with principal components, without the rows: the line that the gate draws.
    fn plain(&self) -> Self {
        Self {
            spec: ModelSpec {
                kind: "pca".to_owned(),
                ..self.spec.clone()
            },
            rows: Vec::new(),
            detector: self.detector.clone(),
            version: self.version,
            created: self.created,
            columns: self.columns.clone(),
            fill_last: self.fill_last.clone(),
            schema: self.schema.clone(),
            seed: self.seed,
            spans: self.spans.clone(),
            source: self.source.clone(),
            exclusions: self.exclusions.clone(),
            feedback: self.feedback.clone(),
            maintenance: self.maintenance.clone(),
            budget: self.budget,
            episodes: self.episodes.clone(),
            champion: self.champion.clone(),
            change: None,
            remake: None,
            params: self.params,
        }
    }
}

impl Card {
    /// Takes over what the gate said of the model that is made again, and what else is no function of its rows.
    fn take_over(&mut self, card: &Self) {
        self.gate.clone_from(&card.gate);
        self.measures.clone_from(&card.measures);
        self.asked.clone_from(&card.asked);
        // Cards of older programs lack these.
        if card.member_losses.is_empty() {
            self.member_losses.clear();
        }
        if card.members.is_empty() {
            self.members.clear();
        }
        self.created = card.created;
        card.program.clone_into(&mut self.program);
    }
}

/// A monitor that only asks whether to stop.
struct Stopping<'a>(&'a dyn Fn() -> bool);

impl Monitor for Stopping<'_> {
    fn epoch(&mut self, _: usize, _: f64, _: f64) -> ControlFlow<()> {
        if (self.0)() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// Where records begin that some model judged when they came: those after the first model's.
fn judged_from(job: &TrainJob) -> Vec<(TopicPartition, Offset)> {
    if let Some(card) = &job.remake {
        return card.judged_from.clone();
    }
    if let Some(champion) = &job.champion {
        return champion.card.judged_from.clone();
    }
    let mut ends: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
    for rows in job.rows.iter().filter(|rows| !rows.is_empty()) {
        let end = rows.offset(rows.len() - 1).next();
        ends.insert(rows.at.clone(), end);
    }
    ends.into_iter().collect()
}

/// A card filled in from the job; the rest is added as it becomes known.
fn card(job: &TrainJob, windows: &window::Windows<'_>) -> Card {
    Card {
        version: job.version,
        detector: job.detector.clone(),
        created: job.created,
        columns: job.columns.clone(),
        spec: job.spec.clone(),
        schema: job.schema.clone(),
        seed: job.seed,
        spans: job.spans.clone(),
        source: job.source.clone(),
        exclusions: job.exclusions.clone(),
        maintenance: job.maintenance.clone(),
        rows: BTreeMap::from([
            ("read".to_owned(), windows.rows as u64),
            ("excluded".to_owned(), windows.excluded as u64),
            ("windows".to_owned(), windows.len() as u64),
            ("keys".to_owned(), windows.keys as u64),
            ("levels".to_owned(), windows.levels().len() as u64),
        ]),
        records_per_key_day: windows.records_per_key_day,
        time_scales: job.episodes.time_scales.clone(),
        close_evidence: job.episodes.close_evidence,
        ..Card::blank()
    }
}

#[cfg(test)]
mod tests;
