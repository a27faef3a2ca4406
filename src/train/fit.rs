//! Scaler, model, calibration: in this order, each on windows of its own.

use std::ops::ControlFlow;

use ndarray::{Array2, ArrayView2, Axis, Slice};

use crate::record::schema::ContextColumns;

use super::card;
use super::job::{TrainError, TrainJob};
use super::scaled::{hourly, scaler_of};
use super::split::{Split, Window};
use super::window::Windows;
use crate::model::card::Card;
use crate::model::edges::Edges;
use crate::model::gaps::{self, Gaps, Pairs, Way};
use crate::model::held::{Held, OfColumn};
use crate::model::judges::{Judges, means_of};
use crate::model::rest::Resting;
use crate::model::scale::Scaler;
use crate::model::sensors::{self, Sensors};
use crate::model::trained::TrainedModel;
use crate::model::{FitData, KINDS, Monitor};
use crate::seed::Seed;
use crate::stats::calibration::{Calibration, CalibrationSet};

/// An input's normal contribution is at least this share of the mean over all inputs: what never varied is not infinitely to blame.
const CONTRIBUTION_FLOOR: f32 = 0.01;

/// What comes back may be as strange as the largest of this many times as many normal windows.
const RETURN_FACTOR: f64 = 1000.0;

/// At most this many times the number of false alarms that the budget lets expect come back into the calibration.
const RETURN_SHARE: f64 = 3.0;

/// Windows without gaps that tell how means of columns go together, at least; and half of all.
const MEANS_MIN: usize = 200;

/// A model calibrated on the calibration windows alone.
#[derive(Debug)]
pub(super) struct Fitted {
    /// The model.
    pub model: TrainedModel,
    /// What gaps make of the scores of the calibration windows.
    pub gaps: GapScores,
    /// How the fit went.
    pub losses: FitLosses,
    /// P-values of held-out windows, those of each run in order: what tells how evidence gathers.
    pub sequences: Sequences,
}

/// Scores of windows with inputs and without, by what is taken away.
pub(super) type GapScores = Vec<(Way, Pairs)>;

/// P-values of windows that follow each other.
pub(super) type Sequences = Vec<Vec<f64>>;

/// Mean losses after each epoch, (training, validation): for the card.
#[derive(Clone, Debug, Default)]
pub(super) struct FitLosses {
    /// Of the model.
    pub model: Vec<(f64, f64)>,
    /// By member, of a kind that has members.
    pub members: Vec<(String, Vec<(f64, f64)>)>,
}

/// Fits, and calibrates unless folds will.
pub(super) fn fit(
    job: &TrainJob,
    windows: &Windows<'_>,
    (split, folds): (&Split, bool),
    monitor: &mut dyn Monitor,
) -> Result<Fitted, TrainError> {
    let parts = (&split.train[..], &split.validation[..]);
    let mut fitted = weights(job, windows, parts, job.seed.child("fit"), monitor)?;
    if folds {
        return Ok(fitted);
    }
    let held_out = held_out(&[&split.calibrate, &split.validation, &split.train]);
    let seen = HeldOut::of(
        &fitted.model,
        windows,
        held_out,
        (job.seed, job.gaps.then_some(1)),
    );
    fitted.sequences = seen.calibrate(&mut fitted.model);
    fitted.gaps = seen.gaps;
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
    if constant(newest, &job.context_columns()) {
        return Err(TrainError::Constant {
            columns,
            rows: windows.rows,
        });
    }
    let scaler = scaler_of(job, windows, (train, raw.view()))?;
    let hourly = hourly(job, (train, newest), &scaler);
    let (scaled, unseen) = (
        scaler.transform(raw.view()),
        scaler.transform(windows.matrix(validation).view()),
    );
    drop(raw);
    let measured = scaler.measured().len();
    let sensors = (measured <= sensors::COLUMNS_MAX).then(|| {
        Sensors::fit(
            sensors::newest(scaled.view(), measured),
            sensors::newest(unseen.view(), measured),
            (job.spec.trim, job.spec.clip),
        )
    });
    let both = (scaled.view(), unseen.view());
    let means = means(job, both, sensors.as_ref(), measured);
    let held = Held::fit(scaled.view(), measured);
    let rest = Resting::fit(scaled.view(), measured);
    let runs: Vec<usize> = train.iter().map(Window::run).collect();
    let edges = Edges::fit(sensors::newest(scaled.view(), measured), &runs);
    let inputs = |rows| inputs(rows, &scaler, sensors.as_ref());
    let data = FitData {
        train: inputs(scaled),
        validation: inputs(unseen),
    };
    let mut losses = Losses::new(monitor);
    let model = KINDS.fit(&job.spec, &data, seed, &mut losses)?;
    let names = |some: &[usize]| some.iter().map(|&at| job.columns[at].clone()).collect();
    let card = Card {
        counters: names(&scaler.changes.counters),
        trends: names(&scaler.changes.trends),
        hourly: names(&hourly),
        ..card::begun(job, windows)
    };
    let model = TrainedModel {
        levels: windows.levels().clone(),
        judges: Judges {
            sensors,
            means,
            held,
            rest,
            edges,
        },
        ..TrainedModel::uncalibrated(card, scaler, model)
    };
    Ok(Fitted {
        model,
        gaps: Vec::new(),
        losses: losses.kept(),
        sequences: Vec::new(),
    })
}

/// The judge of M columns' means over windows, where there are enough.
fn means(
    job: &TrainJob,
    (train, unseen): (ArrayView2<'_, f32>, ArrayView2<'_, f32>),
    sensors: Option<&Sensors>,
    columns: usize,
) -> Option<Sensors> {
    if job.spec.window < 2 || columns > sensors::COLUMNS_MAX {
        return None;
    }
    let train = means_of(sensors, train, columns);
    let unseen = means_of(sensors, unseen, columns);
    let whole = sensors::whole(train.view());
    (whole >= MEANS_MIN && 2 * whole >= train.nrows())
        .then(|| Sensors::fit(train.view(), unseen.view(), (job.spec.trim, job.spec.clip)))
}

/// Calibrates again on all held-out windows, the gate's among them: they are as unseen as the others, and the latest.
pub(super) fn calibrate_finally(
    job: &TrainJob,
    windows: &Windows<'_>,
    split: &Split,
    (model, gaps): (&mut TrainedModel, GapScores),
) -> Option<Sequences> {
    if split.gate.is_empty() {
        return None;
    }
    let mut places = split.calibrate.clone();
    places.extend_from_slice(&split.gate);
    let calm = windows.matrix(&places);
    places.extend(returning(job, windows, split, (model, calm.view())));
    places.sort_by_key(Window::order);
    let mut seen = HeldOut::of(model, windows, &places, (job.seed, None));
    seen.gaps = gaps;
    Some(seen.calibrate(model))
}

/// Windows of short episodes that come back into the calibration. Whoever calibrates without the records that were flagged calls the next
/// best of them as rare as those were, flags them as well, and so on with every training. But what was flagged may be a fault: only as many
/// windows come back as the budget lets expect, the least strange first, and none that is stranger than the largest of a thousand times as many
/// windows would be by the tail of those that were not flagged.
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
    let calm = Calibration::fit(&sorted);
    let least = 1.0 / (RETURN_FACTOR * n as f64);
    let budget = job.budget.p_value(windows.records_per_key_day);
    // Each flagged record makes as many windows strange as a window has records.
    let expected = budget * (n * job.spec.window) as f64;
    let mut room = (RETURN_SHARE * expected + RETURN_SHARE) as usize;
    let rows = windows.matrix(&flagged);
    // By all that judges: what only those beside the model see is ordinary by its score.
    let judged = model.judge(rows.view(), &seeds(rows.nrows(), job.seed));
    let by_score = judged.score.iter().map(|score| calm.p_value(*score));
    let rarer = by_score.zip(&judged.p_value).map(|(a, b)| a.min(*b));
    let mut by_rarity: Vec<(f64, Window)> = rarer.zip(flagged).collect();
    by_rarity.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut back = Vec::new();
    for (p, window) in by_rarity {
        if p.is_nan() || p < least {
            break;
        }
        if p < budget {
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

/// Whether no column varies that is judged.
fn constant(records: ArrayView2<'_, f64>, context: &ContextColumns) -> bool {
    let judged = |at: &usize| !context.has(*at);
    (0..records.ncols()).filter(judged).all(|at| {
        let column = records.column(at);
        let mut observed = column.iter().filter(|value| value.is_finite());
        let first = observed.next();
        observed.all(|value| Some(value) == first)
    })
}

/// What a kind is fitted on, of scaled rows: values up to the bound where sensors are judged beside it, missing ones at the centre of their
/// column.
pub(super) fn inputs(
    mut rows: Array2<f32>,
    scaler: &Scaler,
    sensors: Option<&Sensors>,
) -> Array2<f32> {
    if sensors.is_some() {
        scaler.cut_off(&mut rows);
    }
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
    /// Which window each is: its run, counted through all parts, and its number there.
    places: Vec<(usize, usize)>,
    /// Scores of the same windows with inputs and without, by what is taken away.
    gaps: GapScores,
    /// Sums of contributions by input.
    contributions: Vec<f64>,
    /// What the sensors say of each, and of its means: sizes of residuals, `n × M`; no rows where a fold was too small for them.
    sizes: [Array2<f32>; 2],
    /// What single columns of each do, where somebody looks.
    single: Vec<OfColumn>,
}

impl HeldOut {
    /// Scores of the windows by the model, as they are, and with gaps where so many models are to share that work.
    pub fn of(
        model: &TrainedModel,
        windows: &Windows<'_>,
        held_out: &[Window],
        (seed, models): (Seed, Option<usize>),
    ) -> Self {
        let places = held_out.iter().map(Window::place_in_run).collect();
        let held_out = windows.matrix(held_out);
        let held_out = held_out.view();
        let seeds = seeds(held_out.nrows(), seed);
        let (scores, missing) = model.raw_scores(held_out, &seeds);
        let gaps = models.map_or_else(Vec::new, |models| {
            with_gaps(model, (held_out, models), (&scores, &missing), seed)
        });
        Self {
            gaps,
            scores,
            missing,
            places,
            contributions: contributions(model, held_out),
            sizes: model.sizes(held_out),
            single: model.single_columns(held_out),
        }
    }

    /// Adds what is said of later windows.
    pub fn extend(&mut self, later: &Self) {
        let before = self.len();
        self.scores.extend_from_slice(&later.scores);
        self.missing.extend_from_slice(&later.missing);
        self.places.extend_from_slice(&later.places);
        for (ours, theirs) in self.sizes.iter_mut().zip(&later.sizes) {
            let whole = ours.nrows() == before && theirs.nrows() == later.len();
            if before == 0 {
                ours.clone_from(theirs);
            } else if later.len() > 0 && (!whole || ours.append(Axis(0), theirs.view()).is_err()) {
                // A judge that some fold was too small for has not seen every window.
                *ours = Array2::default((0, 0));
            }
        }
        self.single.extend_from_slice(&later.single);
        for (way, pairs) in &later.gaps {
            match self.gaps.iter_mut().find(|(ours, _)| ours == way) {
                Some((_, ours)) => ours.extend(pairs),
                None => self.gaps.push((*way, pairs.clone())),
            }
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

    /// Calibrates the model and its sensors. What comes back tells how evidence gathers.
    pub fn calibrate(&self, model: &mut TrainedModel) -> Sequences {
        model.normal_contribution = self.normal_contribution(model.inputs());
        let complete: Vec<f64> = picked(&self.scores, &self.missing, |missing| missing <= 0.0);
        // Where records are hardly ever complete, those with gaps stand in as they are.
        let few = complete.len() * 10 < self.scores.len();
        let full = Calibration::fit(if few { &self.scores } else { &complete });
        model.calibration = CalibrationSet::uniform(full);
        model.gaps = if few {
            Gaps::default()
        } else {
            Gaps::fit(&self.gaps)
        };
        let judges = [&mut model.judges.sensors, &mut model.judges.means];
        for (judge, sizes) in judges.into_iter().zip(&self.sizes) {
            if sizes.nrows() < self.len() {
                *judge = None;
            }
            if let Some(judge) = judge {
                judge.calibrate(sizes);
            }
        }
        self.sequences(model)
    }

    /// The windows' p-values by `model` as it is calibrated now, those of each run in order.
    fn sequences(&self, model: &TrainedModel) -> Sequences {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|&i| self.places[i]);
        let mut sequences: Sequences = Vec::new();
        let mut before = None;
        for i in order {
            let (run, number) = self.places[i];
            let mut p = model
                .calibration
                .at(self.missing[i])
                .p_value(self.scores[i]);
            let judges = [&model.judges.sensors, &model.judges.means]
                .into_iter()
                .zip(&self.sizes);
            for (judge, sizes) in judges {
                let Some(judge) = judge else { continue };
                let sizes = sizes.row(i);
                let missing = sizes.iter().filter(|size| size.is_nan()).count();
                let missing = missing as f64 / sizes.len().max(1) as f64;
                p = judge.beside(p, sensors::peak(sizes), missing);
            }
            if let Some(single) = self.single.get(i).filter(|single| single.p < 1.0) {
                p = sensors::together(p, single.p);
            }
            match sequences.last_mut() {
                Some(sequence) if before == Some((run, number)) => sequence.push(p),
                _ => sequences.push(vec![p]),
            }
            before = Some((run, number + 1));
        }
        sequences
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

/// Mean contribution of each input over `rows` (`n × (W · D)` raw values), none 0.
pub(super) fn normal_contribution(model: &TrainedModel, rows: ArrayView2<'_, f64>) -> Vec<f32> {
    let seen = HeldOut {
        scores: vec![0.0; rows.nrows()],
        contributions: contributions(model, rows),
        ..HeldOut::default()
    };
    seen.normal_contribution(model.inputs())
}

/// Sums of contributions by input.
fn contributions(model: &TrainedModel, held_out: ArrayView2<'_, f64>) -> Vec<f64> {
    if held_out.nrows() == 0 {
        return vec![0.0; model.inputs()];
    }
    let rows = model.scaler.transform(held_out);
    let rows = inputs(rows, &model.scaler, model.judges.sensors.as_ref());
    let contributions = model.model.contributions(rows.view());
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

/// Scores of complete windows, and of the same with inputs taken away.
fn with_gaps(
    model: &TrainedModel,
    (held_out, models): (ArrayView2<'_, f64>, usize),
    (scores, missing): (&[f64], &[f64]),
    seed: Seed,
) -> GapScores {
    let measured = model.scaler.measured();
    let places: Vec<usize> = (0..measured.len())
        .map(|place| measured.column(place))
        .collect();
    let ways = gaps::ways(model.inputs(), places.len());
    let complete: Vec<usize> = (0..scores.len()).filter(|&i| missing[i] <= 0.0).collect();
    let rows = gaps::chosen(&complete, ways.len(), models);
    if rows.is_empty() {
        return Vec::new();
    }
    let windows = held_out.select(Axis(0), &rows);
    let all = seeds(scores.len(), seed);
    let seeds: Vec<Seed> = rows.iter().map(|&row| all[row]).collect();
    let own: Vec<f64> = rows.iter().map(|&row| scores[row]).collect();
    let score = |gappy: ArrayView2<'_, f64>| model.raw_scores(gappy, &seeds).0;
    let columns = (model.card.columns.len(), places.as_slice());
    ways.into_iter()
        .map(|way| {
            (
                way,
                gaps::pairs((way, windows.view()), columns, &own, seed, score),
            )
        })
        .collect()
}

/// Keeps the losses for the card and hands them on.
struct Losses<'a> {
    kept: FitLosses,
    inner: &'a mut dyn Monitor,
}

impl<'a> Losses<'a> {
    fn new(inner: &'a mut dyn Monitor) -> Self {
        Self {
            kept: FitLosses::default(),
            inner,
        }
    }

    /// Those of the model, and of its members that have more than one epoch.
    fn kept(mut self) -> FitLosses {
        self.kept.members.retain(|(_, losses)| losses.len() > 1);
        self.kept
    }
}

impl Monitor for Losses<'_> {
    fn epoch(&mut self, epoch: usize, train: f64, validation: f64) -> ControlFlow<()> {
        // A card holds finite numbers only; a fit with others fails by itself.
        if train.is_finite() && validation.is_finite() {
            self.kept.model.push((train, validation));
            if let Some((_, losses)) = self.kept.members.last_mut() {
                losses.push((train, validation));
            }
        }
        self.inner.epoch(epoch, train, validation)
    }

    fn member(&mut self, name: &str) {
        self.kept.members.push((name.to_owned(), Vec::new()));
        self.inner.member(name);
    }
}
