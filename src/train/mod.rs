//! Training as a function: decoded rows, settings and a seed in; a model and a verdict out. The same job gives the same bytes.
//!
//! Reading order: `job` (what is asked for), [`rows`] (what was read), [`sample`] (what to read), `window` (rows to windows), `kept_out` (records that are not learnt from), `moved` (records of what is normal no more),
//! `split` (windows by use), `aside` and `suspects` (faults in a history that nobody has judged), `fit` (scaler, model, calibration), `cross` (the calibration of few rows), `types` (keys that send other features), `levels` (what is usual for each key, by `level_rows`), `calibrated` (all of these together), [`evidence`]
//! (what opens an episode), [`inject`] (faults that the gate tries), [`gate`] (may this
//! model judge?), `report` (its card; `unlearnt`, keys of which nothing is left to learn from).

mod aside;
mod calibrated;
mod card;
mod cross;
pub mod evidence;
mod fit;
pub mod gate;
pub mod inject;
mod job;
mod kept_out;
mod key_scales;
mod level_rows;
mod levels;
mod moved;
mod report;
pub mod rows;
pub mod sample;
mod scaled;
mod split;
mod suspects;
#[cfg(test)]
mod type_tests;
mod types;
mod unlearnt;
mod window;
#[cfg(test)]
mod window_law;
mod young;

pub use job::{Params, TrainData, TrainError, TrainJob, TrainSettings};

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use calibrated::{Calibrated, TypeFit};

use crate::model::Monitor;
use crate::model::card::Card;
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
///
/// One step after the other, each of which returns its part: read, split, fit, calibrate, gate, report.
pub fn run_watched(job: &TrainJob, monitor: &mut dyn Monitor) -> Result<Candidate, TrainError> {
    if let Err(problems) = job.spec.check() {
        let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
        return Err(TrainError::Settings(text.join("; ")));
    }
    let moved = moved::moved(job);
    let job = moved.as_ref().unwrap_or(job);
    let (mut windows, aside) = aside::set_aside(job)?;
    let usage = job.params.usage(windows.len());
    let out = (&*aside.out, &*aside.suspects);
    windows.level(levels::learn(job, &windows, &usage, out));
    let fitted = Calibrated::fit(job, &windows, usage, monitor)?;
    let judged = match &job.remake {
        Some(card) => Judged::as_before(card, &windows, fitted),
        None => Judged::gated(job, &windows, fitted, monitor)?,
    };
    Ok(judged.report(job, &windows, aside))
}

/// What was made, and what was said of it.
#[derive(Debug)]
struct Judged {
    made: Calibrated,
    /// The kind that was asked for, where the baseline took its place.
    asked: Option<String>,
    /// What the gate measured.
    measures: BTreeMap<String, f64>,
    verdict: GateReport,
    /// The windows that the next challenger is tried on beside its own.
    reservoir: Reservoir,
}

impl Judged {
    /// As the card of the model said that is made again.
    fn as_before(card: &Card, windows: &window::Windows<'_>, made: Calibrated) -> Self {
        let (keys, held_out, _) = made.held_out(windows);
        Self {
            asked: card.asked.clone(),
            measures: card.measures.clone(),
            verdict: card.gate.clone(),
            // What was remembered of generations before is taken over from the model's file, if that is at hand.
            reservoir: Reservoir::of(&keys, held_out.view()),
            made,
        }
    }

    /// By the gate, which may have the baseline take its place.
    fn gated(
        job: &TrainJob,
        windows: &window::Windows<'_>,
        made: Calibrated,
        monitor: &mut dyn Monitor,
    ) -> Result<Self, TrainError> {
        let (keys, held_out, calibrated_on) = made.held_out(windows);
        let own = Reservoir::of(&keys, held_out.view());
        let unseen = (keys.as_slice(), &held_out);
        let gate = gate::Gate::new(job, unseen, windows.levels(), calibrated_on)?;
        let mut measures = BTreeMap::new();
        let (made, instead) = stand_in(job, windows, (made, &gate), &mut measures, monitor)?;
        let asked = instead.is_some().then(|| job.spec.kind.clone());
        let verdict = gate.verdict(&gate.tried(made.tried()), instead, &mut measures);
        let reservoir = gate.remembered(&own, verdict.vouched_for());
        Ok(Self {
            made,
            asked,
            measures,
            verdict,
            reservoir,
        })
    }

    /// The model with its card, calibrated on all that it was not fitted on.
    fn report(
        mut self,
        job: &TrainJob,
        windows: &window::Windows<'_>,
        aside: aside::Aside,
    ) -> Candidate {
        self.made.finish(job, windows);
        let Calibrated {
            usage,
            split,
            fitted,
            folds,
            types,
            ..
        } = self.made;
        let mut model = fitted.model;
        let calibrated = folds.map_or(split.calibrate.len(), |folds| folds.windows());
        let found = report::Findings {
            aside,
            split: &split,
            usage,
            calibrated,
            losses: fitted.losses,
            members: model.model.members(),
            types: types.iter().map(TypeFit::in_words).collect(),
            asked: self.asked,
            measures: self.measures,
            verdict: self.verdict.clone(),
        };
        model.card = report::completed(model.card, job, found);
        model.reservoir = self.reservoir;
        Candidate {
            model,
            verdict: self.verdict,
        }
    }
}

/// Lets the baseline take the place of what was made, if it is better by far.
fn stand_in(
    job: &TrainJob,
    windows: &window::Windows<'_>,
    (made, gate): (Calibrated, &gate::Gate<'_>),
    measures: &mut BTreeMap<String, f64>,
    monitor: &mut dyn Monitor,
) -> Result<(Calibrated, Option<Instead>), TrainError> {
    if gate::is_plain(&job.spec.kind) {
        return Ok((made, None));
    }
    let fit = |gaps, monitor: &mut dyn Monitor| {
        match Calibrated::fit(&job.plain(gaps), windows, made.usage, monitor) {
            Err(error) if error.is_cancelled() => Err(error),
            // A baseline that cannot be fitted draws no line.
            other => Ok(other.ok()),
        }
    };
    let tried = gate.tried(made.tried());
    // In place of the pool it only stands where that is no model at all: what is seldom wanted is calibrated for gaps when it is.
    let complete = !gate::is_pool(&job.spec.kind);
    let Some(baseline) = fit(complete, monitor)? else {
        return Ok((made, None));
    };
    let Some(instead) = gate.instead(&tried, baseline.tried(), measures) else {
        return Ok((made, None));
    };
    let baseline = if complete {
        Some(baseline)
    } else {
        fit(true, monitor)?
    };
    Ok(match baseline {
        Some(baseline) => (baseline, Some(instead)),
        None => (made, None),
    })
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
