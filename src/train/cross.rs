//! The calibration of few rows: every window is scored by a model that has not seen it, so that all of them calibrate and all are learnt from.
//!
//! Held-out calibration wants hundreds of windows that are good for nothing else. Where there are only hundreds altogether, contiguous folds
//! take turns: a model of the same kind is fitted on the others, less a gap of a window's length on either side, and scores the fold. A
//! fold's model has seen a quarter less than the final one, so that its scores are, if anything, a little high, and the threshold with them.

use super::fit::{self, HeldOut, Sequences};
use super::job::{FOLDS, TrainError, TrainJob};
use super::split::{self, Fold, Window};
use super::window::Windows;
use crate::model::Monitor;
use crate::model::card::Usage;
use crate::model::trained::TrainedModel;

/// The folds of a job, scored.
#[derive(Debug)]
pub(super) struct Folds {
    /// What each fold's model says of its windows, in order of time.
    seen: Vec<HeldOut>,
    /// The windows of the last fold.
    held_out: Vec<Window>,
}

impl Folds {
    /// Fits a model for each fold of the windows that the final model learns from, and lets it score the fold. Beside it the model of the last fold, which was
    /// fitted on earlier windows only, calibrated on the other folds.
    pub fn fit(
        job: &TrainJob,
        windows: &Windows<'_>,
        (folds, usage): (Vec<Fold>, &Usage),
        monitor: &mut dyn Monitor,
    ) -> Result<(Self, TrainedModel), TrainError> {
        let mut seen = Vec::new();
        let mut last = None;
        for (i, fold) in folds.into_iter().enumerate() {
            let (train, validation) = split::validated(&fold.rest, &job.spec, usage);
            let seed = job.seed.child("fold").nth(i as u64);
            let fitted = fit::weights(job, windows, (&train, &validation), seed, monitor)?;
            let shared = (seed, job.gaps.then_some(FOLDS));
            seen.push(HeldOut::of(&fitted.model, windows, &fold.held_out, shared));
            last = Some((fitted.model, fold.held_out));
        }
        let Some((mut last, held_out)) = last else {
            unreachable!("there are {FOLDS} folds");
        };
        let (_, others) = seen.split_last().unwrap_or_else(|| unreachable!("as many"));
        together(others).calibrate(&mut last);
        Ok((Self { seen, held_out }, last))
    }

    /// Calibrates the final model on all folds.
    pub fn calibrate(&self, model: &mut TrainedModel) -> Sequences {
        together(&self.seen).calibrate(model)
    }

    /// How many windows that was.
    pub fn windows(&self) -> usize {
        self.seen.iter().map(HeldOut::len).sum()
    }

    /// Calibrates it once more, the windows of the gate among the others: they are the latest.
    pub fn calibrate_finally(
        &self,
        job: &TrainJob,
        (windows, gate): (&Windows<'_>, &[Window]),
        model: &mut TrainedModel,
    ) -> Option<Sequences> {
        if gate.is_empty() {
            return None;
        }
        let mut seen = together(&self.seen);
        seen.extend(&HeldOut::of(model, windows, gate, (job.seed, None)));
        Some(seen.calibrate(model))
    }

    /// The windows of the last fold.
    pub fn held_out(&self) -> &[Window] {
        &self.held_out
    }
}

fn together(parts: &[HeldOut]) -> HeldOut {
    let mut all = HeldOut::default();
    for part in parts {
        all.extend(part);
    }
    all
}
