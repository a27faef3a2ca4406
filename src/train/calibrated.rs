//! What is fitted and calibrated before the gate: the model of all keys, and those of the types of keys that send other features.

use std::sync::Arc;

use ndarray::Array2;

use super::cross::Folds;
use super::evidence;
use super::fit::{self, Fitted, GapScores, Sequences};
use super::job::{FOLDS, TrainError, TrainJob};
use super::split::{self, Fold, Split, Window};
use super::types::OfType;
use super::window::Windows;
use crate::model::Monitor;
use crate::model::card::{TypeOfKeys, Usage};
use crate::model::trained::{KeyType, TrainedModel};

/// Windows that are held out of each fold of a type, at least.
const HELD_OUT_MIN: usize = 30;

/// What was fitted and calibrated, before the gate.
#[derive(Debug)]
pub(super) struct Calibrated {
    pub usage: Usage,
    pub split: Split,
    pub fitted: Fitted,
    pub folds: Option<Folds>,
    /// The model of the last fold.
    last: Option<TrainedModel>,
    /// The types of keys whose models are among those of `fitted` and `last`, in their order.
    pub types: Vec<TypeFit>,
}

impl Calibrated {
    /// Splits the windows, fits, and calibrates on what was held back.
    pub fn fit(
        job: &TrainJob,
        windows: &Windows<'_>,
        usage: Usage,
        monitor: &mut dyn Monitor,
    ) -> Result<Self, TrainError> {
        let split = windows.split(&usage, &job.spec);
        let folds = if usage.folds > 0 {
            split::folds(&split.fitted, FOLDS, job.spec.window)
        } else {
            Vec::new()
        };
        let mut made = Self::of_split((job, windows), usage, (split, folds.clone()), monitor)?;
        for of in windows.types() {
            let parts = (&made.split, folds.as_slice(), &usage);
            let fit = TypeFit::fit((job, windows), of, parts, monitor)?;
            if let Some((fit, model, last)) = fit {
                made.fitted.model.types.push(fit.with(model));
                if let (Some(ours), Some(last)) = (&mut made.last, last) {
                    ours.types.push(fit.with(last));
                }
                made.types.push(fit);
            }
        }
        Ok(made)
    }

    /// Fits on a split, and calibrates on what was held back: by folds, where there are any.
    fn of_split(
        (job, windows): (&TrainJob, &Windows<'_>),
        usage: Usage,
        (split, folds): (Split, Vec<Fold>),
        monitor: &mut dyn Monitor,
    ) -> Result<Self, TrainError> {
        let mut fitted = fit::fit(job, windows, (&split, !folds.is_empty()), monitor)?;
        let (folds, last) = if folds.is_empty() {
            (None, None)
        } else {
            let (folds, last) = Folds::fit(job, windows, (folds, &usage), monitor)?;
            fitted.sequences = folds.calibrate(&mut fitted.model);
            (Some(folds), Some(last))
        };
        Ok(Self {
            usage,
            split,
            fitted,
            folds,
            last,
            types: Vec::new(),
        })
    }

    /// The model that the gate tries: where no windows were held back for it but folds are, that of the last fold.
    pub fn tried(&self) -> &TrainedModel {
        match &self.last {
            Some(last) if self.split.gate.is_empty() => last,
            _ => &self.fitted.model,
        }
    }

    /// The windows that the gate tries it on, as they were observed, with their keys, and whether it was calibrated on these: those that were held back for this;
    /// where none were, the last fold; or those that validated it, which can show faults but not how often it alerts.
    pub fn held_out(&self, windows: &Windows<'_>) -> (Vec<String>, Array2<f64>, bool) {
        let held_out = match &self.folds {
            _ if !self.split.gate.is_empty() => &self.split.gate,
            Some(folds) => folds.held_out(),
            None => &self.split.validation,
        };
        let calibrated_on = self.folds.is_none() && self.split.gate.is_empty();
        (windows.keys(held_out), windows.raw(held_out), calibrated_on)
    }

    /// Calibrates on the gate's windows, too, and learns how evidence gathers.
    pub fn finish(&mut self, job: &TrainJob, windows: &Windows<'_>) {
        let Fitted {
            model,
            gaps,
            sequences,
            ..
        } = &mut self.fitted;
        // The model of all is calibrated as such.
        let mut of_types = std::mem::take(&mut model.types);
        let held = (&self.split, self.folds.as_ref());
        finally(job, windows, held, (model, gaps, sequences));
        for (fit, of_type) in self.types.iter_mut().zip(&mut of_types) {
            fit.finish(windows, &mut of_type.model);
        }
        model.types = of_types;
        if !self.types.is_empty() {
            let each = self.types.iter_mut();
            *sequences = each
                .flat_map(|fit| std::mem::take(&mut fit.sequences))
                .collect();
        }
        model.evidence = evidence::law(sequences, &job.episodes).map(Arc::new);
    }
}

/// Calibrates a model on the gate's windows as well as on those that were held back, by folds or not.
fn finally(
    job: &TrainJob,
    windows: &Windows<'_>,
    (split, folds): (&Split, Option<&Folds>),
    (model, gaps, sequences): (&mut TrainedModel, &mut GapScores, &mut Sequences),
) {
    let found = match folds {
        Some(folds) => folds.calibrate_finally(job, (windows, &split.gate), model),
        None => fit::calibrate_finally(job, windows, split, (model, std::mem::take(gaps))),
    };
    if let Some(found) = found {
        *sequences = found;
    }
}

/// What is kept of a type's fit beside its model, which is among those of the model of all.
#[derive(Debug)]
pub(super) struct TypeFit {
    of: OfType,
    job: TrainJob,
    split: Split,
    gaps: GapScores,
    folds: Option<Folds>,
    sequences: Sequences,
}

impl TypeFit {
    /// Fits and calibrates the models of a type: the one that judges, and that of the last fold if there are folds. None where it has too few windows in some part
    /// of the split, or nothing to learn.
    pub fn fit(
        (job, windows): (&TrainJob, &Windows<'_>),
        of: &OfType,
        (split, folds, usage): (&Split, &[Fold], &Usage),
        monitor: &mut dyn Monitor,
    ) -> Result<Option<(Self, TrainedModel, Option<TrainedModel>)>, TrainError> {
        let job = job.of_columns(&of.columns);
        let theirs = windows.of_type(&job, of);
        let split = split.only(|window| of.has(window));
        let folds: Vec<Fold> = folds
            .iter()
            .map(|fold| fold.only(|window| of.has(window)))
            .collect();
        let thin = |windows: &[Window]| windows.len() < HELD_OUT_MIN;
        let held_back = usage.calibrate_share > 0.0 && thin(&split.calibrate);
        if held_back
            || folds
                .iter()
                .any(|fold| thin(&fold.rest) || thin(&fold.held_out))
        {
            return Ok(None);
        }
        match Calibrated::of_split((&job, &theirs), *usage, (split, folds), monitor) {
            Err(error) if error.is_cancelled() => Err(error),
            // What cannot be fitted by itself is judged with all others.
            Err(_) => Ok(None),
            Ok(Calibrated {
                split,
                fitted,
                folds,
                last,
                ..
            }) => {
                let fit = Self {
                    of: of.clone(),
                    job,
                    split,
                    gaps: fitted.gaps,
                    folds,
                    sequences: fitted.sequences,
                };
                Ok(Some((fit, fitted.model, last)))
            }
        }
    }

    /// The same features with another model of them.
    pub fn with(&self, model: TrainedModel) -> KeyType {
        KeyType {
            columns: self.of.columns.clone(),
            model,
        }
    }

    /// Calibrates its model on the gate's windows, too.
    pub fn finish(&mut self, windows: &Windows<'_>, model: &mut TrainedModel) {
        let theirs = windows.of_type(&self.job, &self.of);
        let held = (&self.split, self.folds.as_ref());
        finally(
            &self.job,
            &theirs,
            held,
            (model, &mut self.gaps, &mut self.sequences),
        );
    }

    /// What the card says of it.
    pub fn in_words(&self) -> TypeOfKeys {
        TypeOfKeys {
            features: self.job.columns.clone(),
            keys: self.of.keys.len() as u64,
            windows: self.split.train.len() as u64,
        }
    }
}
