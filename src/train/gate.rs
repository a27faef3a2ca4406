//! May this model judge? Tried on windows later than anything it was fitted or calibrated on.
//!
//! First of all its weights and its scores must be numbers. There are no labels, so faults are put into held-out windows, and a challenger
//! has to find no fewer of them than the model in use, and than principal components fitted on the same data, which are the line to beat.
//! It must not predict held-out records much worse than a model in use with the same settings, nor alert more often than the budget allows,
//! unless the model in use does so on the same windows: then it is the data that changed. On too few windows nothing can be told, and
//! the model in use stays. The first model of a detector competes with the cold start only, so that anything finite is better than waiting;
//! what it lacks is said in its verdict.

use std::collections::BTreeMap;
use std::fmt;

use ndarray::{Array2, Axis};

use super::fit::{self, Fitted};
use super::inject::{Fault, inject};
use super::{TrainError, TrainJob};
use crate::model::card::Card;
use crate::model::trained::TrainedModel;
use crate::model::{FitError, Monitor};
use crate::stats::metrics::roc_auc;

/// Held-out windows below which recall and alert rate say nothing.
const WINDOWS_MIN: usize = 20;

/// Held-out windows that faults are put into and compared with, at most.
const WINDOWS_MAX: usize = 2000;

/// Faulty windows of each kind.
const FAULTY: usize = 200;

/// The false-alarm rate at which recall is measured.
const RECALL_AT: f64 = 0.02;

/// How many times the held-out loss of a model with the same settings a challenger may have: above what another seed makes of it.
const LOSS_FACTOR: f64 = 1.5;

/// Share of the held-out windows, those predicted worst, that the loss leaves out: among them are faults that nobody flagged.
const LOSS_TRIM: f64 = 0.05;

/// The gate's answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It may judge. The reasons are what a first model was forgiven.
    Promoted(Vec<Reason>),
    /// It may not.
    Rejected(Vec<Reason>),
    /// What an old card says; only for models made again.
    Quoted(String),
}

/// Something that speaks against a model.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// Weights, or scores of held-out windows, are not numbers.
    NotFinite {
        /// How many weights.
        weights: usize,
        /// How many scores.
        scores: usize,
    },
    /// On so few held-out windows nothing can be told.
    TooFew {
        /// Windows there are.
        windows: usize,
    },
    /// It predicts held-out records worse than the model in use, which has the same settings.
    Loss {
        /// Its mean squared error, in spreads of the features.
        loss: f64,
        /// The model in use's.
        champion: f64,
    },
    /// It alerts too often on held-out windows.
    AlertRate {
        /// Windows that would count as anomalous.
        alerts: usize,
        /// Windows that may.
        bound: f64,
        /// Windows looked at.
        windows: usize,
    },
    /// It finds fewer injected faults than the model in use.
    BelowChampion {
        /// Its recall.
        recall: f64,
        /// The model in use's.
        champion: f64,
    },
    /// It finds fewer injected faults than principal components.
    BelowBaseline {
        /// Its recall.
        recall: f64,
        /// The baseline's.
        baseline: f64,
    },
}

impl Reason {
    /// A short name, of low cardinality: the label of the metric.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotFinite { .. } => "not_finite",
            Self::TooFew { .. } => "too_few",
            Self::Loss { .. } => "loss",
            Self::AlertRate { .. } => "alert_rate",
            Self::BelowChampion { .. } => "below_champion",
            Self::BelowBaseline { .. } => "below_baseline",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite { weights, scores } => write!(
                f,
                "has {weights} weights and {scores} held-out scores that are not finite"
            ),
            Self::TooFew { windows } => write!(
                f,
                "has only {windows} held-out windows to be tried on, but {WINDOWS_MIN} are needed"
            ),
            Self::Loss { loss, champion } => write!(
                f,
                "predicts held-out records with a loss of {loss:.4}, but the model in use with {champion:.4}"
            ),
            Self::AlertRate {
                alerts,
                bound,
                windows,
            } => write!(
                f,
                "flags {alerts} of {windows} held-out windows, but at most {bound:.1} may be"
            ),
            Self::BelowChampion { recall, champion } => write!(
                f,
                "finds {:.1} % of injected faults, but the model in use {:.1} %",
                100.0 * recall,
                100.0 * champion
            ),
            Self::BelowBaseline { recall, baseline } => write!(
                f,
                "finds {:.1} % of injected faults, but principal components {:.1} %",
                100.0 * recall,
                100.0 * baseline
            ),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, reasons) = match self {
            Self::Promoted(reasons) if reasons.is_empty() => return f.write_str("promoted"),
            Self::Promoted(reasons) => ("promoted as the first model, although it", reasons),
            Self::Rejected(reasons) => ("rejected:", reasons),
            Self::Quoted(text) => return f.write_str(text),
        };
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        write!(f, "{word} {}", reasons.join("; "))
    }
}

impl Verdict {
    /// Whether the model may judge.
    pub fn is_promoted(&self) -> bool {
        match self {
            Self::Promoted(_) => true,
            Self::Rejected(_) => false,
            Self::Quoted(text) => text.starts_with("promoted"),
        }
    }

    /// What speaks against the model.
    pub fn reasons(&self) -> &[Reason] {
        match self {
            Self::Promoted(reasons) | Self::Rejected(reasons) => reasons,
            Self::Quoted(_) => &[],
        }
    }

    /// What a card says.
    pub(super) fn of_card(card: &Card) -> Self {
        Self::Quoted(card.verdict.clone())
    }
}

/// How a model does on held-out and on faulty windows.
#[derive(Clone, Debug, Default)]
struct Findings {
    /// Mean recall of injected faults at [`RECALL_AT`] false alarms.
    recall: f64,
    /// Mean area under the ROC curve.
    auc: f64,
    /// Recall by kind of fault.
    by_fault: Vec<(Fault, f64)>,
}

/// A fitted model before the gate.
#[derive(Debug)]
pub(super) struct Trial<'a> {
    /// What was asked for.
    pub job: &'a TrainJob,
    /// What was made.
    pub fitted: &'a Fitted,
    /// Raw values of the windows that nobody has seen.
    pub held_out: Array2<f64>,
    /// The model was calibrated on these very windows: how often it alerts on them says nothing.
    pub calibrated_on: bool,
}

impl Trial<'_> {
    /// The verdict, and what was measured.
    ///
    /// # Errors
    /// Only [`FitError::Cancelled`]: the monitor ended the fit of the baseline.
    pub fn verdict(
        self,
        monitor: &mut dyn Monitor,
    ) -> Result<(Verdict, BTreeMap<String, f64>), TrainError> {
        let mut measures = BTreeMap::new();
        let trial = self.thinned();
        let model = &trial.fitted.model;
        let seeds = fit::seeds(trial.held_out.nrows(), trial.job.seed);
        let judged = model.judge(trial.held_out.view(), &seeds);
        if let Some(broken) = broken(model, &judged.score) {
            return Ok((Verdict::Rejected(vec![broken]), measures));
        }
        let first = trial.job.champion.is_none();
        let decide = |reasons: Vec<Reason>| {
            if reasons.is_empty() || first {
                Verdict::Promoted(reasons)
            } else {
                Verdict::Rejected(reasons)
            }
        };
        let windows = trial.held_out.nrows();
        if windows < WINDOWS_MIN {
            return Ok((decide(vec![Reason::TooFew { windows }]), measures));
        }
        let mut reasons = Vec::new();
        let champion = trial
            .job
            .champion
            .as_deref()
            .filter(|champion| trial.comparable(champion));
        if !trial.calibrated_on {
            trial.alert_rate(&judged.p_value, champion, &mut reasons, &mut measures);
        }
        if let Some(champion) = champion.filter(|champion| champion.card.spec == trial.job.spec) {
            trial.loss(champion, &mut reasons, &mut measures);
        }
        trial.recall(champion, (&mut reasons, &mut measures), monitor)?;
        Ok((decide(reasons), measures))
    }

    /// Recall of injected faults, beside the model in use and principal components.
    fn recall(
        &self,
        champion: Option<&TrainedModel>,
        (reasons, measures): (&mut Vec<Reason>, &mut BTreeMap<String, f64>),
        monitor: &mut dyn Monitor,
    ) -> Result<(), TrainError> {
        let faulty = self.faulty();
        let ours = self.findings(&self.fitted.model, &faulty);
        measures.insert("recall".to_owned(), ours.recall);
        measures.insert("auc".to_owned(), ours.auc);
        for (fault, recall) in &ours.by_fault {
            measures.insert(format!("recall.{}", fault.name()), *recall);
        }
        let floor = ours.recall + self.job.params.recall_tolerance;
        if let Some(champion) = champion {
            let theirs = self.findings(champion, &faulty).recall;
            measures.insert("champion.recall".to_owned(), theirs);
            if theirs > floor {
                reasons.push(Reason::BelowChampion {
                    recall: ours.recall,
                    champion: theirs,
                });
            }
        }
        // The plain kinds need no line.
        if ["pca", "robust_z"].contains(&self.job.spec.kind.as_str()) {
            return Ok(());
        }
        match fit::baseline(self.job, self.fitted, monitor) {
            Ok(baseline) => {
                let theirs = self.findings(&baseline, &faulty).recall;
                measures.insert("baseline.recall".to_owned(), theirs);
                if theirs > floor {
                    reasons.push(Reason::BelowBaseline {
                        recall: ours.recall,
                        baseline: theirs,
                    });
                }
                Ok(())
            }
            Err(error @ TrainError::Fit(FitError::Cancelled)) => Err(error),
            // A baseline that cannot be fitted draws no line.
            Err(_) => Ok(()),
        }
    }

    /// How well held-out records are predicted, for kinds that predict, in spreads of the challenger's features for both.
    fn loss(
        &self,
        champion: &TrainedModel,
        reasons: &mut Vec<Reason>,
        measures: &mut BTreeMap<String, f64>,
    ) {
        let model = &self.fitted.model;
        if !model.model.as_kind().reconstructs() {
            return;
        }
        let of = |model: &TrainedModel| {
            let errors = self.errors(model);
            let kept = errors.len() - (errors.len() as f64 * LOSS_TRIM) as usize;
            errors[..kept].iter().sum::<f64>() / kept.max(1) as f64
        };
        let (loss, theirs) = (of(model), of(champion));
        measures.insert("loss".to_owned(), loss);
        measures.insert("champion.loss".to_owned(), theirs);
        // Below this both predict next to everything.
        if loss > LOSS_FACTOR * theirs && loss > 1e-6 {
            reasons.push(Reason::Loss {
                loss,
                champion: theirs,
            });
        }
    }

    /// For each held-out window, the mean squared error over its newest record's features, ascending.
    fn errors(&self, model: &TrainedModel) -> Vec<f64> {
        let spread = &self.fitted.model.scaler.spread;
        let columns = spread.len();
        let expected = model.expected(self.held_out.view());
        let first = self.held_out.ncols() - columns;
        let mut errors: Vec<f64> = self
            .held_out
            .rows()
            .into_iter()
            .zip(expected.rows())
            .filter_map(|(row, expected)| {
                let squares: Vec<f64> = (0..columns)
                    .filter(|&column| row[first + column].is_finite())
                    .map(|column| (row[first + column] - expected[column]) / spread[column])
                    .map(|error| error * error)
                    .collect();
                (!squares.is_empty()).then(|| squares.iter().sum::<f64>() / squares.len() as f64)
            })
            .collect();
        errors.sort_unstable_by(f64::total_cmp);
        errors
    }

    /// At most [`WINDOWS_MAX`] windows, evenly.
    fn thinned(self) -> Self {
        let n = self.held_out.nrows();
        let step = n.div_ceil(WINDOWS_MAX).max(1);
        let kept: Vec<usize> = (0..n).step_by(step).collect();
        Self {
            held_out: self.held_out.select(Axis(0), &kept),
            ..self
        }
    }

    /// Whether the model in use can be asked about these windows.
    fn comparable(&self, champion: &TrainedModel) -> bool {
        champion.card.columns == self.job.columns
            && champion.card.spec.window == self.job.spec.window
    }

    /// Counts alerts on held-out windows, at the budget or where at least ten are expected.
    fn alert_rate(
        &self,
        p_values: &[f64],
        champion: Option<&TrainedModel>,
        reasons: &mut Vec<Reason>,
        measures: &mut BTreeMap<String, f64>,
    ) {
        let n = p_values.len();
        let budget = self
            .job
            .budget
            .p_value(self.fitted.model.card.records_per_key_day);
        let p = budget.max(10.0 / n as f64).min(0.5);
        let count = |p_values: &[f64]| p_values.iter().filter(|&&value| value <= p).count();
        let alerts = count(p_values);
        let expected = p * n as f64 * self.job.params.alert_rate_factor;
        let bound = expected + 3.0 * expected.sqrt();
        measures.insert("alert_rate".to_owned(), alerts as f64 / n as f64);
        measures.insert("alert_rate.at".to_owned(), p);
        let theirs = champion.map(|champion| {
            let seeds = fit::seeds(n, self.job.seed);
            count(&champion.judge(self.held_out.view(), &seeds).p_value)
        });
        if let Some(theirs) = theirs {
            measures.insert("champion.alert_rate".to_owned(), theirs as f64 / n as f64);
        }
        let excused = theirs.is_some_and(|theirs| alerts <= theirs);
        if alerts as f64 > bound && !excused {
            reasons.push(Reason::AlertRate {
                alerts,
                bound,
                windows: n,
            });
        }
    }

    /// Windows with faults, by kind.
    fn faulty(&self) -> Vec<(Fault, Array2<f64>)> {
        let spread = &self.fitted.model.scaler.measured_spread();
        Fault::ALL
            .into_iter()
            .map(|fault| {
                let seed = self.job.seed.child("gate");
                (fault, inject(fault, &self.held_out, spread, FAULTY, seed))
            })
            .collect()
    }

    fn findings(&self, model: &TrainedModel, faulty: &[(Fault, Array2<f64>)]) -> Findings {
        let scores = |rows: &Array2<f64>| {
            model
                .raw_scores(rows.view(), &fit::seeds(rows.nrows(), self.job.seed))
                .0
        };
        let clean = scores(&self.held_out);
        let mut sorted = clean.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let threshold = crate::stats::order::quantile_sorted(&sorted, 1.0 - RECALL_AT);
        let mut findings = Findings::default();
        for (fault, rows) in faulty {
            let struck = scores(rows);
            let found = struck.iter().filter(|&&score| score > threshold).count();
            let recall = found as f64 / struck.len().max(1) as f64;
            let labels: Vec<bool> = (0..clean.len() + struck.len())
                .map(|i| i >= clean.len())
                .collect();
            findings.auc += roc_auc(&labels, &[clean.clone(), struck].concat());
            findings.recall += recall;
            findings.by_fault.push((*fault, recall));
        }
        findings.recall /= faulty.len() as f64;
        findings.auc /= faulty.len() as f64;
        findings
    }
}

/// Whether weights or scores are not numbers.
fn broken(model: &TrainedModel, scores: &[f64]) -> Option<Reason> {
    let weights = model.broken_weights();
    let scores = scores.iter().filter(|score| !score.is_finite()).count();
    (weights + scores > 0).then_some(Reason::NotFinite { weights, scores })
}
