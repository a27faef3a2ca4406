//! May this model judge? Tried on windows later than anything it was fitted or calibrated on, and on windows that earlier models were
//! accepted on.
//!
//! First of all its weights and its scores must be numbers. There are no labels, so faults are put into windows, and a model has to find
//! no fewer of them than the model in use: neither in the latest windows nor in the earlier ones, which [`Reservoir`]s keep from generation to
//! generation, so that a stretch of records that are wrong cannot vouch for what was learnt from it. Nor may it alert too often on
//! either, nor take a feature for steadier or wilder than it was. What speaks against it must be significant by a test ([`ground`]) *and* large
//! enough to matter, so that a good retrain is not rejected by chance.
//!
//! Where principal components fitted on the same data find significantly more, they are tried and take the place of what was asked for.
//!
//! On too few windows nothing can be told, and the model in use stays. The first model of a detector competes with the cold start only, so
//! that anything finite is better than waiting; what it lacks is said in its verdict. Where somebody said that a key's faults are the
//! new normal, its earlier windows no longer count.

mod ground;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod proofs;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ndarray::Array2;

use super::job::{TrainError, TrainJob};
use super::young;
use crate::model::card::{Card, Exclusion, Feedback};
use crate::model::gate_report::{Alerts, Below, Change, Decision, GateReport, Instead, Reason};
use crate::model::levels::Levels;
use crate::model::reservoir::Reservoir;
use crate::model::scale::Scaler;
use crate::model::spec::Scaling;
use crate::model::trained::{Judged, TrainedModel};
use ground::{Ground, More, Seen};

/// Windows below which recall and alert rate say nothing.
const WINDOWS_MIN: usize = 20;

/// A challenger's held-out loss may be this many times that of a model in use with the same settings: more than another seed makes of it.
const LOSS_FACTOR: f64 = 3.0;

/// Share of the held-out windows, those predicted worst, that the loss leaves out: among them are faults that nobody flagged.
const LOSS_TRIM: f64 = 0.05;

/// The recall of one kind of fault, or the share of all faults that alert, may be lower by this many tolerances: 192 retrains on unchanged
/// processes differ by 2.2 at most.
const ONE_PART: f64 = 3.0;

/// A feature's spread may be this many times larger or smaller than in earlier windows.
const SCALE_FACTOR: f64 = 10.0;

/// The share of earlier windows in which a feature must differ from its commonest value, to say how much it varies.
const VARIES: f64 = 0.1;

/// Reasons that only earlier windows give are overruled after this many models in a row ...
const CHANGE_MODELS: u64 = 3;

/// ... over at least this time: a day, because most processes have a daily course, and no passing fault lasts that long unnoticed.
const CHANGE_LASTS: Duration = Duration::from_secs(24 * 3600);

/// What was measured, by name, for the card.
pub(super) type Measures = BTreeMap<String, f64>;

/// Where the models of one training run are tried.
#[derive(Debug)]
pub(super) struct Gate<'a> {
    job: &'a TrainJob,
    /// Windows that nobody has seen.
    latest: Ground,
    /// The model in use knows too little to be asked.
    outgrown: bool,
    /// Models were calibrated on the latest windows: how often they alert there says nothing.
    calibrated_on: bool,
    /// The model in use, if it can be asked about these windows.
    champion: Option<&'a TrainedModel>,
    /// Windows that it was accepted on and not fitted on, if there are enough that still count ...
    own: Option<Ground>,
    /// ... and those with what the models before it were accepted on.
    earlier: Option<Ground>,
    /// The latter, whether enough or not.
    reservoir: Reservoir,
}

/// A model, and what it says of the latest windows.
#[derive(Debug)]
pub(super) struct Tried<'a> {
    model: &'a TrainedModel,
    seen: Seen,
    broken: Option<Reason>,
}

impl<'a> Gate<'a> {
    /// For the models of a job: `held_out` are the keys and raw values of the windows that none of them was fitted on, oldest first. Faults are
    /// as large as what is usual for a key by `levels` makes them.
    ///
    /// # Errors
    /// If the windows have no spreads.
    pub fn new(
        job: &'a TrainJob,
        held_out: (&[String], &Array2<f64>),
        levels: &Levels,
        calibrated_on: bool,
    ) -> Result<Self, TrainError> {
        let measured = measured(job);
        let outgrown = young::outgrown(job);
        let champion = job.champion.as_deref().filter(|champion| {
            !outgrown
                && champion.card.columns == job.columns
                && champion.card.spec.window == job.spec.window
        });
        let reservoir = champion.map_or_else(Reservoir::default, |champion| {
            let changed = newly_normal(job, &champion.card);
            let counts = |key: &str| !changed.contains(key) && !job.unsettled.contains(key);
            champion.reservoir.of_keys(counts)
        });
        let seed = job.seed.child("earlier");
        let ground = |of: &Reservoir| {
            let raw = (of.keys.as_slice(), &of.windows);
            let enough = of.len() >= WINDOWS_MIN;
            let ground = enough.then(|| Ground::of_keys(raw, levels, &measured, seed));
            ground.transpose()
        };
        let own = ground(&reservoir.own())?;
        let earlier = ground(&reservoir)?;
        Ok(Self {
            job,
            outgrown,
            latest: Ground::of_keys(held_out, levels, &measured, job.seed)?,
            calibrated_on,
            champion,
            own,
            earlier,
            reservoir,
        })
    }

    /// Asks a model about the latest windows.
    pub fn tried<'m>(&self, model: &'m TrainedModel) -> Tried<'m> {
        let seen = self.latest.seen(model);
        let broken = broken(model, &seen.clean.score);
        Tried {
            model,
            seen,
            broken,
        }
    }

    /// Whether the baseline has to take the model's place, and why.
    pub fn instead(
        &self,
        tried: &Tried<'_>,
        baseline: &TrainedModel,
        measures: &mut Measures,
    ) -> Option<Instead> {
        let line = self.tried(baseline);
        if line.broken.is_some() || self.latest.len() < WINDOWS_MIN {
            return None;
        }
        let (_, ranked) = self.latest.recall(&line.seen)[0];
        measures.insert("baseline.recall".to_owned(), ranked);
        // By what opens episodes: the judges of single sensors stand beside every kind, and find for it what it misses.
        let more = self.latest.more(&tried.seen.told(), &line.seen.told());
        let all = &more[0];
        let broken = tried.broken.is_some();
        // Not of the default pool: on eight tables of real anomalies it ranks with a mean AP of 0.61 where principal components, which find more of
        // what is injected, have 0.44 (docs/quality.md).
        (broken || !is_pool(&self.job.spec.kind) && self.significant(all)).then(|| Instead {
            of: self.job.spec.kind.clone(),
            recall: (!broken).then_some(all.ours),
            baseline: all.theirs,
        })
    }

    /// What speaks against a model, and what was measured.
    pub fn verdict(
        &self,
        tried: &Tried<'_>,
        instead: Option<Instead>,
        measures: &mut Measures,
    ) -> GateReport {
        if let Some(broken) = &tried.broken {
            return GateReport {
                decision: Decision::Rejected,
                instead,
                outgrows: false,
                reasons: vec![broken.clone()],
                change: None,
            };
        }
        let reasons = self.reasons(tried, measures);
        if reasons.is_empty() || self.job.champion.is_none() || self.outgrown {
            return GateReport {
                decision: Decision::Promoted,
                instead,
                outgrows: self.outgrown,
                reasons,
                change: None,
            };
        }
        let change = self.change(tried, &reasons);
        let lasts = change.is_some_and(|change| self.lasts(change));
        GateReport {
            decision: if lasts {
                Decision::Promoted
            } else {
                Decision::Rejected
            },
            instead,
            outgrows: false,
            reasons,
            change,
        }
    }

    /// Whether only earlier windows speak against a model, and it is no worse than the model in use on the latest ones: then either the latest
    /// records are wrong, or the process has changed. One training cannot tell, but what is wrong for long is flagged and kept out.
    fn change(&self, tried: &Tried<'_>, reasons: &[Reason]) -> Option<Change> {
        let champion = self.champion?;
        if !reasons.iter().all(Reason::is_about_earlier) {
            return None;
        }
        let theirs = self.latest.seen(champion);
        let more = self.latest.more(&tried.seen, &theirs);
        if self.below(&more, false).is_some() {
            return None;
        }
        let (since, before) = match self.job.change {
            Some(change) => (change.since, change.models),
            None => (self.job.created, 0),
        };
        let models = before + 1;
        Some(Change { models, since })
    }

    fn lasts(&self, change: Change) -> bool {
        change.models >= CHANGE_MODELS && self.job.created.since(change.since) >= CHANGE_LASTS
    }

    /// The windows that the next challenger is tried on beside its own, if this model, which had `held_out` windows of `keys`, is accepted:
    /// earlier ones and some of these. Otherwise these only: where the process has changed, and where somebody puts a rejected model in use,
    /// what was before counts no longer.
    pub fn remembered(&self, own: &Reservoir, accepted: bool) -> Reservoir {
        if accepted {
            self.reservoir.then(own, self.job.seed)
        } else {
            own.clone()
        }
    }

    fn reasons(&self, tried: &Tried<'_>, measures: &mut Measures) -> Vec<Reason> {
        let windows = self.latest.len();
        if windows < WINDOWS_MIN {
            let needed = WINDOWS_MIN;
            return vec![Reason::TooFew { windows, needed }];
        }
        let mut reasons = Vec::new();
        if constant(&tried.seen.clean.score) {
            reasons.push(Reason::ConstantScore);
        }
        for (fault, recall) in self.latest.recall(&tried.seen) {
            let name = fault.map_or_else(
                || "recall".to_owned(),
                |fault| format!("recall.{}", fault.name()),
            );
            measures.insert(name, recall);
        }
        measures.insert("auc".to_owned(), Ground::auc(&tried.seen));
        reasons.extend(self.against_earlier(tried.model, measures));
        // Where the model in use alerts as often, it is the latest records that are strange: but only who passes on the earlier ones may say so.
        let knows = self.earlier.is_some() || !self.job.unsettled.is_empty();
        let sound = knows && reasons.is_empty();
        if !self.calibrated_on {
            reasons.extend(self.alert_rate(tried, sound, measures));
        }
        // On the latest windows only where there are no others: they are those of the challenger, and right or wrong as it is.
        if let Some(champion) = self.champion {
            let (ground, earlier) = match &self.own {
                Some(ground) => (ground, true),
                None => (&self.latest, false),
            };
            reasons.extend(self.against_champion(
                tried.model,
                champion,
                (ground, earlier),
                measures,
            ));
        }
        reasons
    }

    /// What speaks against a model on windows that earlier ones were accepted on.
    fn against_earlier(&self, model: &TrainedModel, measures: &mut Measures) -> Vec<Reason> {
        let Some(ground) = &self.earlier else {
            return Vec::new();
        };
        let clean = ground.clean(model);
        if let Some(broken) = broken(model, &clean.score) {
            return vec![broken];
        }
        let mut reasons: Vec<Reason> = self.scale(ground, model).into_iter().collect();
        let (alerts, p) = self.alerts(model, &clean);
        let count = alerts.iter().filter(|&&alert| alert).count();
        let factor = self.job.params.alert_rate_factor;
        let bound = Ground::bound(&alerts, (p, factor), false);
        let windows = alerts.len();
        let share = count as f64 / windows as f64;
        measures.insert("earlier.windows".to_owned(), windows as f64);
        measures.insert("earlier.alert_rate".to_owned(), share);
        if count as f64 > bound {
            reasons.push(Reason::EarlierAlertRate(Alerts {
                alerts: count,
                bound,
                windows,
            }));
        }
        reasons
    }

    /// Whether a model finds less than the one in use, on windows that the latter was not fitted on either.
    fn against_champion(
        &self,
        model: &TrainedModel,
        champion: &TrainedModel,
        (ground, earlier): (&Ground, bool),
        measures: &mut Measures,
    ) -> Vec<Reason> {
        let mut reasons = Vec::new();
        if champion.card.spec == model.card.spec {
            reasons.extend(loss((model, champion), (ground, earlier), measures));
        }
        let (ours, theirs) = (ground.seen(model), ground.seen(champion));
        let more = ground.more(&ours, &theirs);
        measures.insert("champion.recall".to_owned(), more[0].theirs);
        if earlier {
            measures.insert("earlier.recall".to_owned(), more[0].ours);
        }
        reasons.extend(self.below(&more, earlier));
        // On the latest windows, whoever takes what has changed for a fault alerts on everything.
        if earlier {
            let p = blunt_at(model, champion);
            let below = Below {
                recall: Ground::alerting(&ours, p),
                champion: Ground::alerting(&theirs, p),
                fault: None,
                earlier,
            };
            measures.insert("alerting".to_owned(), below.recall);
            measures.insert("champion.alerting".to_owned(), below.champion);
            if below.champion - below.recall > ONE_PART * self.job.params.recall_tolerance {
                reasons.push(Reason::Blunt(below));
            }
        }
        reasons
    }

    /// The first feature whose spread the model takes for another than it was. Only features that varied can tell.
    fn scale(&self, ground: &Ground, model: &TrainedModel) -> Option<Reason> {
        let columns = self.job.columns.len();
        let seen = model.scaler.changes.of(ground.windows.view(), columns);
        let first = seen.ncols() - columns;
        let newest = seen.slice_axis(ndarray::Axis(1), ndarray::Slice::from(first..));
        let earlier = Scaler::fit(newest, model.card.spec.scale, 0.0).ok()?;
        // Of a feature that moves now and then, the spread is one thing by quantiles and another by squares, and either may come and go.
        let squared = Scaler::fit(newest, Scaling::Standard, 0.0).ok()?;
        let spreads = model.scaler.measured_spread();
        (0..columns).find_map(|column| {
            // Context has none.
            let (spread, before) = (spreads[column], earlier.spread[column]);
            let (least, most) = (
                before.min(squared.spread[column]) / SCALE_FACTOR,
                before.max(squared.spread[column]) * SCALE_FACTOR,
            );
            let off = spread > 0.0 && !(least..=most).contains(&spread);
            (off && varies(newest.column(column))).then(|| Reason::Scale {
                feature: self.job.columns[column].clone(),
                spread,
                earlier: before,
            })
        })
    }

    /// Finds fewer injected faults than the model in use: of all kinds together, or else far fewer of one.
    fn below(&self, more: &[More], earlier: bool) -> Option<Reason> {
        let worst = more.iter().find(|more| self.significant(more))?;
        Some(Reason::BelowChampion(Below {
            recall: worst.ours,
            champion: worst.theirs,
            fault: worst.fault.map(|fault| fault.name().to_owned()),
            earlier,
        }))
    }

    /// Whether a difference is no chance, and large enough to matter.
    fn significant(&self, more: &More) -> bool {
        let tolerance = self.job.params.recall_tolerance;
        let tolerance = if more.fault.is_some() {
            ONE_PART * tolerance
        } else {
            tolerance
        };
        more.at_least > 0.0 && more.theirs - more.ours > tolerance
    }

    /// The budget's p-value, or that at which ten of n windows are expected.
    fn p_value(&self, model: &TrainedModel, n: usize) -> f64 {
        let budget = self.job.budget.p_value(model.card.records_per_key_day);
        budget.max(10.0 / n as f64).min(0.5)
    }

    /// Which windows alert, and at which p-value.
    fn alerts(&self, model: &TrainedModel, clean: &Judged) -> (Vec<bool>, f64) {
        let p = self.p_value(model, clean.p_value.len());
        let alerts = clean.p_value.iter().map(|&found| found <= p);
        (alerts.collect(), p)
    }

    /// Counts alerts on the latest windows. They may be too many where the model in use alerts as often and this one is `sound` otherwise.
    fn alert_rate(
        &self,
        tried: &Tried<'_>,
        sound: bool,
        measures: &mut Measures,
    ) -> Option<Reason> {
        let (alerts, p) = self.alerts(tried.model, &tried.seen.clean);
        let (windows, count) = (alerts.len(), alerts.iter().filter(|&&alert| alert).count());
        let factor = self.job.params.alert_rate_factor;
        let bound = Ground::bound(&alerts, (p, factor), true);
        measures.insert("alert_rate".to_owned(), count as f64 / windows as f64);
        measures.insert("alert_rate.at".to_owned(), p);
        let theirs = self.champion.map(|champion| {
            let (alerts, _) = self.alerts(champion, &self.latest.clean(champion));
            alerts.iter().filter(|&&alert| alert).count()
        });
        if let Some(theirs) = theirs {
            let share = theirs as f64 / windows as f64;
            measures.insert("champion.alert_rate".to_owned(), share);
        }
        let excused = sound && theirs.is_some_and(|theirs| count <= theirs);
        (count as f64 > bound && !excused).then_some(Reason::AlertRate(Alerts {
            alerts: count,
            bound,
            windows,
        }))
    }
}

/// Whether a model predicts records much worse than the one in use, for kinds that predict, in spreads common to both.
fn loss(
    (model, champion): (&TrainedModel, &TrainedModel),
    (ground, earlier): (&Ground, bool),
    measures: &mut Measures,
) -> Option<Reason> {
    if !model.model.reconstructs() {
        return None;
    }
    let errors = ground.errors(model).into_iter();
    let mut pairs: Vec<(f64, f64)> = errors
        .zip(ground.errors(champion))
        .filter(|(ours, _)| ours.is_finite())
        .collect();
    let kept = pairs.len() - (pairs.len() as f64 * LOSS_TRIM) as usize;
    let mut worst: Vec<f64> = pairs.iter().map(|(a, b)| a.min(*b)).collect();
    worst.sort_unstable_by(f64::total_cmp);
    let most = worst.get(kept.saturating_sub(1)).copied()?;
    pairs.retain(|(a, b)| a.min(*b) <= most);
    let mean =
        |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len().max(1) as f64;
    let (loss, theirs) = (mean(|pair| pair.0), mean(|pair| pair.1));
    measures.insert("loss".to_owned(), loss);
    measures.insert("champion.loss".to_owned(), theirs);
    // Below this both predict next to everything.
    let worse = loss > LOSS_FACTOR * theirs && loss > 1e-6;
    (worse && Ground::mostly_larger(&pairs)).then_some(Reason::Loss {
        loss,
        champion: theirs,
        earlier,
    })
}

/// Which of a job's columns are measured and not context.
fn measured(job: &TrainJob) -> Vec<bool> {
    let mut measured = vec![true; job.columns.len()];
    for column in job.context_columns().all() {
        measured[column] = false;
    }
    measured
}

/// The keys of which somebody said, since the model in use was made, that a fault is the new normal: an episode, or a suspect of that model.
fn newly_normal<'a>(job: &'a TrainJob, champion: &'a Card) -> BTreeSet<&'a str> {
    let normal = |exclusion: &&Exclusion| exclusion.feedback == Some(Feedback::NewNormal);
    let suspects = champion.suspects.iter().map(|suspect| &suspect.exclusion);
    let then = champion.exclusions.iter().chain(suspects.clone());
    let known: BTreeSet<&str> = then
        .filter(normal)
        .map(|exclusion| exclusion.because.as_str())
        .collect();
    let told =
        |exclusion: &&Exclusion| job.feedback.get(&exclusion.because) == Some(&Feedback::NewNormal);
    let now = job.exclusions.iter().filter(normal);
    now.chain(suspects.filter(told))
        .filter(|exclusion| !known.contains(exclusion.because.as_str()))
        .map(|exclusion| exclusion.key.as_str())
        .collect()
}

/// Whether a feature often takes other values than its commonest.
fn varies(column: ndarray::ArrayView1<'_, f64>) -> bool {
    let mut observed: Vec<f64> = column
        .iter()
        .copied()
        .filter(|value| value.is_finite())
        .collect();
    observed.sort_unstable_by(f64::total_cmp);
    let runs = observed.chunk_by(|a, b| a.total_cmp(b).is_eq());
    let commonest = runs.map(<[f64]>::len).max().unwrap_or(0);
    (observed.len() - commonest) as f64 > VARIES * column.len() as f64
}

/// Whether all scores are the same but for rounding.
fn constant(scores: &[f64]) -> bool {
    let least = scores.iter().copied().fold(f64::INFINITY, f64::min);
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most - least <= 1e-6 * most.abs().max(least.abs())
}

/// The p-value at which alerts on injected faults are counted: 1 ‰, or the smallest below which both calibrations have ten scores.
fn blunt_at(model: &TrainedModel, champion: &TrainedModel) -> f64 {
    let known = |model: &TrainedModel| model.calibration.full.samples.max(1);
    let samples = known(model).min(known(champion));
    (10.0 / samples as f64).clamp(1e-3, 0.1)
}

/// Whether weights or scores are not numbers.
fn broken(model: &TrainedModel, scores: &[f64]) -> Option<Reason> {
    let weights = model.broken_weights();
    let scores = scores.iter().filter(|score| !score.is_finite()).count();
    (weights + scores > 0).then_some(Reason::NotFinite { weights, scores })
}

/// Whether a kind is the default pool.
pub(super) fn is_pool(kind: &str) -> bool {
    kind == "auto"
}

/// Whether a kind needs no baseline: it is one, or plainer.
pub(super) fn is_plain(kind: &str) -> bool {
    ["pca", "robust_z"].contains(&kind)
}
