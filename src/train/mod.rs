//! Training as a function: decoded rows, settings and a seed in; a model and a verdict out. The same job gives the same bytes.
//!
//! Reading order: `job` (what is asked for), [`rows`] (what was read), [`sample`] (what to read), `window` (rows to windows, what is kept out, the split by time),
//! `suspects` (faults in a history that nobody has judged), `fit` (scaler, model, calibration), `cross` (the calibration of few rows), [`evidence`]
//! (what opens an episode), [`inject`] (faults that the gate tries), [`gate`] (may this
//! model judge?).

mod card;
mod cross;
pub mod evidence;
mod fit;
pub mod gate;
pub mod inject;
mod job;
pub mod rows;
pub mod sample;
mod suspects;
mod window;

pub use job::{Params, TrainData, TrainError, TrainJob, TrainSettings};

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use ndarray::Array2;

use crate::model::Monitor;
use crate::model::card::Usage;
use crate::model::gate_report::{GateReport, Instead};
use crate::model::reservoir::Reservoir;
use crate::model::trained::TrainedModel;

/// A trained model, and what the gate says of it.
#[derive(Debug)]
pub struct Candidate {
    /// The model; its card has the verdict.
    pub model: TrainedModel,
    /// Whether it may judge.
    pub verdict: GateReport,
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
    card.judged_from = card::judged_from(job);
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

#[cfg(test)]
mod tests;
