//! What the gate answers, and why.

use std::fmt;

use super::WINDOWS_MIN;
use crate::model::card::{Card, Change};

/// The gate's answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It may judge.
    Promoted {
        /// It is the baseline, in place of what was asked for.
        instead: Option<Instead>,
        /// What a first model was forgiven, or one that knows of a change.
        forgiven: Vec<Reason>,
        /// The process has changed since earlier models were accepted.
        change: Option<Change>,
    },
    /// It may not.
    Rejected {
        /// It is the baseline, in place of what was asked for.
        instead: Option<Instead>,
        /// Why not.
        reasons: Vec<Reason>,
        /// The process may have changed since earlier models were accepted.
        change: Option<Change>,
    },
    /// What an old card says; only for models made again.
    Quoted(String),
}

/// Why principal components took the place of what was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Instead {
    /// The kind that was asked for.
    pub of: String,
    /// The share of injected faults that it finds; `None`: it is no model at all.
    pub recall: Option<f64>,
    /// The share that the baseline finds.
    pub baseline: f64,
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
    /// It says the same of everything.
    ConstantScore,
    /// It takes a feature for much steadier, or much wilder, than it was when earlier models were accepted.
    Scale {
        /// The feature.
        feature: String,
        /// The spread that it goes by.
        spread: f64,
        /// The feature's spread in earlier windows.
        earlier: f64,
    },
    /// It predicts held-out records worse than the model in use, which has the same settings.
    Loss {
        /// Its mean squared error, in spreads of the features.
        loss: f64,
        /// The model in use's.
        champion: f64,
        /// On records that earlier models were accepted on, instead of the latest.
        earlier: bool,
    },
    /// It alerts too often on held-out windows.
    AlertRate(Alerts),
    /// It alerts too often on windows that earlier models were accepted on.
    EarlierAlertRate(Alerts),
    /// It finds fewer injected faults than the model in use.
    BelowChampion(Below),
    /// It alerts on fewer injected faults than the model in use, because it takes too much for normal.
    Blunt(Below),
}

/// How many windows alert.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alerts {
    /// Windows that would count as anomalous.
    pub alerts: usize,
    /// Windows that may.
    pub bound: f64,
    /// Windows looked at.
    pub windows: usize,
}

/// Shares of injected faults.
#[derive(Clone, Debug, PartialEq)]
pub struct Below {
    /// Its own.
    pub recall: f64,
    /// The model in use's.
    pub champion: f64,
    /// Of this kind only.
    pub fault: Option<&'static str>,
    /// In windows that earlier models were accepted on, instead of the latest.
    pub earlier: bool,
}

impl Reason {
    /// Whether windows say it that earlier models were accepted on, and not the latest.
    pub(super) fn is_about_earlier(&self) -> bool {
        match self {
            Self::Scale { .. } | Self::EarlierAlertRate(_) => true,
            Self::Loss { earlier, .. } => *earlier,
            Self::BelowChampion(below) | Self::Blunt(below) => below.earlier,
            _ => false,
        }
    }

    /// A short name, of low cardinality: the label of the metric.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotFinite { .. } => "not_finite",
            Self::TooFew { .. } => "too_few",
            Self::ConstantScore => "constant_score",
            Self::Scale { .. } => "scale",
            Self::Loss { .. } => "loss",
            Self::AlertRate(_) => "alert_rate",
            Self::EarlierAlertRate(_) => "earlier_alert_rate",
            Self::BelowChampion(_) => "below_champion",
            Self::Blunt(_) => "blunt",
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
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
            Self::ConstantScore => f.write_str("gives all held-out windows the same score"),
            Self::Scale {
                feature,
                spread,
                earlier,
            } => write!(
                f,
                "takes {spread:.3e} for the spread of `{feature}`, which was {earlier:.3e} when earlier models were accepted"
            ),
            Self::Loss {
                loss,
                champion,
                earlier,
            } => write!(
                f,
                "predicts {} records with a loss of {loss:.4}, but the model in use with {champion:.4}",
                if *earlier { "earlier" } else { "held-out" }
            ),
            Self::AlertRate(Alerts {
                alerts,
                bound,
                windows,
            }) => write!(
                f,
                "flags {alerts} of {windows} held-out windows, but at most {bound:.1} may be"
            ),
            Self::EarlierAlertRate(Alerts {
                alerts,
                bound,
                windows,
            }) => write!(
                f,
                "flags {alerts} of {windows} windows that earlier models were accepted on, but at most {bound:.1} may be"
            ),
            Self::BelowChampion(below) => write!(
                f,
                "finds {} of injected faults{below}, but the model in use {}",
                percent(below.recall),
                percent(below.champion)
            ),
            Self::Blunt(below) => write!(
                f,
                "alerts on {} of injected faults{below}, but the model in use on {}",
                percent(below.recall),
                percent(below.champion)
            ),
        }
    }
}

impl fmt::Display for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fault) = self.fault {
            write!(f, " of the kind `{fault}`")?;
        }
        if self.earlier {
            f.write_str(" in windows that earlier models were accepted on")?;
        }
        Ok(())
    }
}

impl fmt::Display for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            of,
            recall,
            baseline,
        } = self;
        write!(f, "principal components instead of {of}, because ")?;
        match recall {
            Some(recall) => write!(
                f,
                "they find {} of injected faults, but it {}",
                percent(*baseline),
                percent(*recall)
            ),
            None => write!(f, "it has weights or scores that are not finite"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, instead, reasons) = match self {
            Self::Promoted {
                instead, forgiven, ..
            } => ("promoted", instead, forgiven),
            Self::Rejected {
                instead, reasons, ..
            } => ("rejected", instead, reasons),
            Self::Quoted(text) => return f.write_str(text),
        };
        f.write_str(word)?;
        if let Some(instead) = instead {
            write!(f, " {instead}")?;
        }
        if reasons.is_empty() {
            return Ok(());
        }
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        f.write_str(match (self.is_promoted(), self.change(), instead) {
            (true, None, None) => " as the first model, although it ",
            (true, None, Some(_)) => "; as the first model, although that ",
            (true, Some(_), None) => " because the process has changed, although it ",
            (true, Some(_), Some(_)) => "; because the process has changed, although that ",
            (false, _, None) => ": ",
            (false, _, Some(_)) => "; that ",
        })?;
        f.write_str(&reasons.join("; "))?;
        match self {
            Self::Rejected {
                change: Some(change),
                ..
            } => write!(
                f,
                " (number {} in a row that only earlier records speak against: the process may have changed)",
                change.models
            ),
            _ => Ok(()),
        }
    }
}

impl Verdict {
    /// Whether the model may judge.
    pub fn is_promoted(&self) -> bool {
        match self {
            Self::Promoted { .. } => true,
            Self::Rejected { .. } => false,
            Self::Quoted(text) => text.starts_with("promoted"),
        }
    }

    /// The change that the model knows of, and the model in use may not.
    pub(in crate::train) fn change(&self) -> Option<Change> {
        match self {
            Self::Promoted { change, .. } | Self::Rejected { change, .. } => *change,
            Self::Quoted(_) => None,
        }
    }

    /// Whether it may judge, and the windows that earlier models were accepted on still count.
    pub(in crate::train) fn vouched_for(&self) -> bool {
        self.is_promoted() && self.change().is_none()
    }

    /// What speaks against the model.
    pub fn reasons(&self) -> &[Reason] {
        match self {
            Self::Promoted { forgiven, .. } => forgiven,
            Self::Rejected { reasons, .. } => reasons,
            Self::Quoted(_) => &[],
        }
    }

    /// Why the baseline stands in for what was asked for, where it does.
    pub fn instead(&self) -> Option<&Instead> {
        match self {
            Self::Promoted { instead, .. } | Self::Rejected { instead, .. } => instead.as_ref(),
            Self::Quoted(_) => None,
        }
    }

    /// What a card says.
    pub(in crate::train) fn of_card(card: &Card) -> Self {
        Self::Quoted(card.verdict.clone())
    }
}
