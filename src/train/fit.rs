//! Scaler, model, calibration: in this order, each on windows of its own.

use std::ops::ControlFlow;

use ndarray::{Array2, ArrayView2, Axis, Slice};
use rand::Rng;
use rand::seq::index;

use super::window::{Split, Window, Windows};
use super::{TrainError, TrainJob, card};
use crate::model::scale::Scaler;
use crate::model::spec::ModelSpec;
use crate::model::trained::TrainedModel;
use crate::model::{FitData, Model, Monitor};
use crate::seed::Seed;
use crate::stats::calibration::{Calibration, CalibrationSet, MaskedCalibration};
use crate::stats::order::quantile_sorted;

/// Upper bounds of the missing fractions that are calibrated together.
const MISSING_BOUNDS: [f64; 4] = [0.1, 0.3, 0.6, 1.0];

/// Held-out windows that are masked for each bound, at most.
const MASKED_WINDOWS_MAX: usize = 2000;

/// An input's normal contribution is at least this share of the mean over all inputs: what never varied is not infinitely to blame.
const CONTRIBUTION_FLOOR: f32 = 0.01;

/// Where a tail begins that says how strange the largest of many normal windows may be.
const TAIL_FROM: f64 = 0.95;

/// Of how many times as many windows the largest may still be normal.
const RETURN_FACTOR: f64 = 10.0;

/// How many times what the budget lets expect may come back into the calibration.
const RETURN_SHARE: f64 = 3.0;

/// A model calibrated on the calibration windows alone, and what it was fitted on.
#[derive(Debug)]
pub(super) struct Fitted {
    /// The model.
    pub model: TrainedModel,
    /// Scaled windows, for the baseline.
    pub data: FitData,
}

/// Fits and calibrates.
pub(super) fn fit(
    job: &TrainJob,
    windows: &Windows<'_>,
    split: &Split,
    monitor: &mut dyn Monitor,
) -> Result<Fitted, TrainError> {
    let parts = (&split.train[..], &split.validation[..]);
    let mut fitted = weights(job, windows, parts, job.seed.child("fit"), monitor)?;
    let rows = &mut fitted.model.card.rows;
    for (name, part) in [
        ("fit", &split.train),
        ("validation", &split.validation),
        ("calibrate", &split.calibrate),
        ("gate", &split.gate),
    ] {
        rows.insert(name.to_owned(), part.len() as u64);
    }
    let held_out = windows.matrix(held_out(&[
        &split.calibrate,
        &split.validation,
        &split.train,
    ]));
    let seen = HeldOut::of(&fitted.model, held_out.view(), job.seed);
    fitted.model.normal_contribution = seen.normal_contribution(held_out.ncols());
    fitted.model.calibration = seen.calibration();
    Ok(fitted)
}

/// Scaler and model, not yet calibrated.
pub(super) fn weights(
    job: &TrainJob,
    windows: &Windows<'_>,
    (train, validation): (&[Window], &[Window]),
    seed: Seed,
    monitor: &mut dyn Monitor,
) -> Result<Fitted, TrainError> {
    let raw = windows.matrix(train);
    let columns = job.columns.len();
    let newest = raw.slice_axis(Axis(1), Slice::from(raw.ncols() - columns..));
    if constant(newest) {
        return Err(TrainError::Constant {
            columns,
            rows: windows.rows,
        });
    }
    let scaler = Scaler::fit(newest, job.spec.scale, job.spec.clip)?;
    let data = FitData {
        train: centred(scaler.transform(raw.view())),
        validation: centred(scaler.transform(windows.matrix(validation).view())),
    };
    drop(raw);
    let mut losses = Losses::new(monitor);
    let model = Model::fit(&job.spec, &data, seed, &mut losses)?;
    let mut card = card(job, windows);
    card.members = model.as_kind().members();
    card.losses = losses.kept;
    losses.members.retain(|(_, losses)| losses.len() > 1);
    card.member_losses = losses.members;
    let model = TrainedModel {
        card,
        scaler,
        model,
        calibration: CalibrationSet::uniform(Calibration::fit(&[])),
        normal_contribution: vec![1.0; job.spec.window * columns],
    };
    Ok(Fitted { model, data })
}

/// The same model under another kind, on the same data: the line that the gate draws.
pub(super) fn baseline(
    job: &TrainJob,
    fitted: &Fitted,
    monitor: &mut dyn Monitor,
) -> Result<TrainedModel, TrainError> {
    let spec = ModelSpec {
        kind: "pca".to_owned(),
        ..job.spec.clone()
    };
    let mut silent = Losses::new(monitor);
    let model = Model::fit(&spec, &fitted.data, job.seed.child("baseline"), &mut silent)?;
    Ok(TrainedModel {
        card: fitted.model.card.clone(),
        scaler: fitted.model.scaler.clone(),
        model,
        calibration: fitted.model.calibration.clone(),
        normal_contribution: fitted.model.normal_contribution.clone(),
    })
}

/// Calibrates again on all held-out windows, the gate's among them: they are as unseen as the others, and the latest.
pub(super) fn calibrate_finally(
    job: &TrainJob,
    windows: &Windows<'_>,
    split: &Split,
    fitted: &mut Fitted,
) {
    if split.gate.is_empty() {
        return;
    }
    let mut places = split.calibrate.clone();
    places.extend_from_slice(&split.gate);
    let calm = windows.matrix(&places);
    places.extend(returning(job, windows, split, (&fitted.model, calm.view())));
    places.sort_by_key(Window::order);
    let held_out = windows.matrix(&places);
    fitted.model.calibration = HeldOut::of(&fitted.model, held_out.view(), job.seed).calibration();
}

/// Windows of short episodes that come back into the calibration. Whoever calibrates without the records that were flagged calls the next
/// best of them as rare as those were, flags them as well, and so on with every training. But what was flagged may be a fault: only as many
/// windows come back as the budget lets expect, the least strange first, and none that is stranger than the largest of ten times as many
/// windows would be if scores fell off exponentially beyond the 95 % quantile, as light tails do.
fn returning(
    job: &TrainJob,
    windows: &Windows<'_>,
    split: &Split,
    (model, calm): (&TrainedModel, ArrayView2<'_, f64>),
) -> Vec<Window> {
    let flagged = windows.flagged(split);
    let mut sorted = model.raw_scores(calm, &seeds(calm.nrows(), job.seed)).0;
    sorted.retain(|score| score.is_finite());
    if flagged.is_empty() || sorted.is_empty() {
        return Vec::new();
    }
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len() + flagged.len();
    let begin = quantile_sorted(&sorted, TAIL_FROM);
    let beyond: Vec<f64> = sorted
        .iter()
        .map(|s| s - begin)
        .filter(|e| *e > 0.0)
        .collect();
    let scale = beyond.iter().sum::<f64>() / beyond.len().max(1) as f64;
    let most = begin + scale * ((1.0 - TAIL_FROM) * RETURN_FACTOR * n as f64).max(1.0).ln();
    let budget = job.budget.p_value(windows.records_per_key_day);
    let strange = quantile_sorted(&sorted, 1.0 - budget);
    // Each flagged record makes as many windows strange as a window has records.
    let expected = budget * (n * job.spec.window) as f64;
    let mut room = (RETURN_SHARE * expected + RETURN_SHARE) as usize;
    let rows = windows.matrix(&flagged);
    let scores = model
        .raw_scores(rows.view(), &seeds(rows.nrows(), job.seed))
        .0;
    let mut by_score: Vec<(f64, Window)> = scores.into_iter().zip(flagged).collect();
    by_score.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut back = Vec::new();
    for (score, window) in by_score {
        if score.is_nan() || score > most {
            break;
        }
        if score > strange {
            if room == 0 {
                break;
            }
            room -= 1;
        }
        back.push(window);
    }
    back
}

/// The first of several parts that has enough windows.
fn held_out<'a>(parts: &[&'a Vec<Window>]) -> &'a [Window] {
    parts
        .iter()
        .find(|part| part.len() >= 10)
        .map_or(&[], |part| part.as_slice())
}

/// Whether no column varies.
fn constant(records: ArrayView2<'_, f64>) -> bool {
    records.columns().into_iter().all(|column| {
        let mut observed = column.iter().filter(|value| value.is_finite());
        let first = observed.next();
        observed.all(|value| Some(value) == first)
    })
}

/// Missing inputs at the centre of their column.
pub(super) fn centred(mut rows: Array2<f32>) -> Array2<f32> {
    rows.mapv_inplace(|value| if value.is_finite() { value } else { 0.0 });
    rows
}

/// Seeds for scoring held-out windows.
pub(super) fn seeds(n: usize, seed: Seed) -> Vec<Seed> {
    let seed = seed.child("held out");
    (0..n as u64).map(|i| seed.nth(i)).collect()
}

/// What models say of windows that they were not fitted on: all that calibration needs, in order of time. Adds up over several models, each
/// with windows of its own.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldOut {
    /// Raw scores ...
    scores: Vec<f64>,
    /// ... and the fraction of inputs missing.
    missing: Vec<f64>,
    /// Scores of windows that inputs were taken away from, for each of [`MISSING_BOUNDS`].
    masked: [Vec<f64>; MISSING_BOUNDS.len()],
    /// Sums of contributions by input.
    contributions: Vec<f64>,
}

impl HeldOut {
    /// Scores of the windows by the model, as they are and with gaps.
    pub fn of(model: &TrainedModel, held_out: ArrayView2<'_, f64>, seed: Seed) -> Self {
        let seeds = seeds(held_out.nrows(), seed);
        let (scores, missing) = model.raw_scores(held_out, &seeds);
        let mut masked: [Vec<f64>; MISSING_BOUNDS.len()] = Default::default();
        let mut below = 0.0;
        for (bound, scores) in MISSING_BOUNDS.into_iter().zip(&mut masked) {
            let rows: Vec<usize> = (0..held_out.nrows())
                .filter(|&i| missing[i] <= below)
                .collect();
            let step = rows.len().div_ceil(MASKED_WINDOWS_MAX).max(1);
            let rows: Vec<usize> = rows.into_iter().step_by(step).collect();
            if !rows.is_empty() {
                let mut part = held_out.select(Axis(0), &rows);
                let columns = model.card.columns.len();
                if mask(&mut part, columns, (below, bound), seed) {
                    let seeds: Vec<Seed> = rows.iter().map(|&i| seeds[i]).collect();
                    *scores = model.raw_scores(part.view(), &seeds).0;
                }
            }
            below = bound;
        }
        Self {
            scores,
            missing,
            masked,
            contributions: contributions(model, held_out),
        }
    }

    /// Adds what is said of later windows.
    pub fn extend(&mut self, later: &Self) {
        self.scores.extend_from_slice(&later.scores);
        self.missing.extend_from_slice(&later.missing);
        for (ours, theirs) in self.masked.iter_mut().zip(&later.masked) {
            ours.extend_from_slice(theirs);
        }
        self.contributions.resize(later.contributions.len(), 0.0);
        for (ours, theirs) in self.contributions.iter_mut().zip(&later.contributions) {
            *ours += theirs;
        }
    }

    /// How many windows there are.
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    /// Calibrations of complete windows and of windows with gaps.
    pub fn calibration(&self) -> CalibrationSet {
        let (all, missing) = (&self.scores, &self.missing);
        let complete: Vec<f64> = picked(all, missing, |missing| missing <= 0.0);
        // Where records are hardly ever complete, those with gaps stand in.
        let few = complete.len() * 10 < all.len();
        let full = Calibration::fit(if few { all } else { &complete });
        let mut masked = Vec::new();
        let mut below = 0.0;
        for (bound, made) in MISSING_BOUNDS.into_iter().zip(&self.masked) {
            let mut scores = picked(all, missing, |m| below < m && m <= bound);
            scores.extend_from_slice(made);
            // Without any there are no such windows: the width has no such share.
            if !scores.is_empty() {
                masked.push(MaskedCalibration {
                    missing_max: bound,
                    calibration: Calibration::fit(&scores),
                });
            }
            below = bound;
        }
        CalibrationSet { full, masked }
    }

    /// Mean contribution of each of the `width` inputs, none 0.
    pub fn normal_contribution(&self, width: usize) -> Vec<f32> {
        if self.scores.is_empty() {
            return vec![1.0; width];
        }
        let n = self.scores.len() as f64;
        let mut means: Vec<f32> = self
            .contributions
            .iter()
            .map(|sum| (sum / n) as f32)
            .collect();
        let overall = means.iter().sum::<f32>() / width as f32;
        let floor = (CONTRIBUTION_FLOOR * overall).max(1e-6);
        for mean in &mut means {
            *mean = if mean.is_finite() {
                mean.max(floor)
            } else {
                floor
            };
        }
        means
    }
}

/// Sums of contributions by input.
fn contributions(model: &TrainedModel, held_out: ArrayView2<'_, f64>) -> Vec<f64> {
    if held_out.nrows() == 0 {
        return vec![0.0; held_out.ncols()];
    }
    let rows = centred(model.scaler.transform(held_out));
    let contributions = model.model.as_kind().contributions(rows.view());
    contributions
        .columns()
        .into_iter()
        .map(|column| column.iter().map(|&c| f64::from(c.max(0.0))).sum())
        .collect()
}

fn picked(scores: &[f64], missing: &[f64], pick: impl Fn(f64) -> bool) -> Vec<f64> {
    scores
        .iter()
        .zip(missing)
        .filter(|(_, m)| pick(**m))
        .map(|(s, _)| *s)
        .collect()
}

/// Takes away a share of each row's inputs, above the lower and up to the upper bound: half of the rows lose single inputs, half whole
/// features. Says whether there is such a share: of three inputs, none is between 0.4 and 0.6.
fn mask(rows: &mut Array2<f64>, columns: usize, bounds: (f64, f64), seed: Seed) -> bool {
    let mut rng = seed.child("mask").nth((bounds.1 * 100.0) as u64).rng();
    let width = rows.ncols();
    let counts = |units: usize| {
        let (low, high) = (bounds.0 * units as f64, bounds.1 * units as f64);
        (low.floor() as usize + 1)..=(high.floor() as usize).min(units.saturating_sub(1))
    };
    let (features, inputs) = (counts(columns), counts(width));
    if inputs.is_empty() {
        return false;
    }
    for mut row in rows.rows_mut() {
        if !features.is_empty() && (width == columns || rng.gen_bool(0.5)) {
            let gone = rng.gen_range(features.clone());
            for feature in index::sample(&mut rng, columns, gone) {
                for input in (feature..width).step_by(columns) {
                    row[input] = f64::NAN;
                }
            }
        } else {
            let gone = rng.gen_range(inputs.clone());
            for input in index::sample(&mut rng, width, gone) {
                row[input] = f64::NAN;
            }
        }
    }
    true
}

/// Keeps the losses for the card and hands them on.
struct Losses<'a> {
    kept: Vec<(f64, f64)>,
    /// By member, of a kind that has members.
    members: Vec<(String, Vec<(f64, f64)>)>,
    inner: &'a mut dyn Monitor,
}

impl<'a> Losses<'a> {
    fn new(inner: &'a mut dyn Monitor) -> Self {
        Self {
            kept: Vec::new(),
            members: Vec::new(),
            inner,
        }
    }
}

impl Monitor for Losses<'_> {
    fn epoch(&mut self, epoch: usize, train: f64, validation: f64) -> ControlFlow<()> {
        // A card holds finite numbers only; a fit with others fails by itself.
        if train.is_finite() && validation.is_finite() {
            self.kept.push((train, validation));
            if let Some((_, losses)) = self.members.last_mut() {
                losses.push((train, validation));
            }
        }
        self.inner.epoch(epoch, train, validation)
    }

    fn member(&mut self, name: &str) {
        self.members.push((name.to_owned(), Vec::new()));
        self.inner.member(name);
    }
}
