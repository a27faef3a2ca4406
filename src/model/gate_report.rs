//! What the gate said of a model, as its card keeps it: a decision, and what spoke for and against. Its text is made where people read it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What the gate said of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GateReport {
    /// Whether the model may judge.
    pub decision: Decision,
    /// It is the baseline, in place of what was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<Instead>,
    /// The detector is young, and knows its process for longer than when the model in use was made, which was too short to hold anything against another.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outgrows: bool,
    /// What speaks against the model. Of a promoted one it is what a first model was forgiven, or one that knows of a change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// The process has changed since earlier models were accepted, or may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
}

/// The gate's decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It was not asked.
    #[default]
    NotAsked,
    /// The model may judge.
    Promoted,
    /// It may not.
    Rejected,
}

/// Models in a row that judge the latest records no worse than the model in use, but not those that earlier models were accepted on: the
/// process may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// How many.
    pub models: u64,
    /// When the first of them was trained.
    pub since: Timestamp,
}

/// Why principal components took the place of what was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instead {
    /// The kind that was asked for.
    pub of: String,
    /// The share of injected faults that it finds; `None`: it is no model at all.
    pub recall: Option<f64>,
    /// The share that the baseline finds.
    pub baseline: f64,
}

/// Something that speaks against a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
        /// Windows that are needed.
        needed: usize,
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alerts {
    /// Windows that would count as anomalous.
    pub alerts: usize,
    /// Windows that may.
    pub bound: f64,
    /// Windows looked at.
    pub windows: usize,
}

/// Shares of injected faults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Below {
    /// Its own.
    pub recall: f64,
    /// The model in use's.
    pub champion: f64,
    /// Of this kind only.
    pub fault: Option<String>,
    /// In windows that earlier models were accepted on, instead of the latest.
    pub earlier: bool,
}

impl Reason {
    /// Whether windows say it that earlier models were accepted on, and not the latest.
    #[must_use]
    pub fn is_about_earlier(&self) -> bool {
        match self {
            Self::Scale { .. } | Self::EarlierAlertRate(_) => true,
            Self::Loss { earlier, .. } => *earlier,
            Self::BelowChampion(below) | Self::Blunt(below) => below.earlier,
            _ => false,
        }
    }

    /// All that [`Self::name`] says.
    pub const NAMES: [&str; 9] = [
        "not_finite",
        "too_few",
        "constant_score",
        "scale",
        "loss",
        "alert_rate",
        "earlier_alert_rate",
        "below_champion",
        "blunt",
    ];

    /// A short name, of low cardinality: the label of the metric.
    pub fn name(&self) -> &'static str {
        let [
            not_finite,
            too_few,
            constant_score,
            scale,
            loss,
            alert_rate,
            earlier_alert_rate,
            below_champion,
            blunt,
        ] = Self::NAMES;
        match self {
            Self::NotFinite { .. } => not_finite,
            Self::TooFew { .. } => too_few,
            Self::ConstantScore => constant_score,
            Self::Scale { .. } => scale,
            Self::Loss { .. } => loss,
            Self::AlertRate(_) => alert_rate,
            Self::EarlierAlertRate(_) => earlier_alert_rate,
            Self::BelowChampion(_) => below_champion,
            Self::Blunt(_) => blunt,
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
            Self::TooFew { windows, needed } => write!(
                f,
                "has only {windows} held-out windows to be tried on, but {needed} are needed"
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
        if let Some(fault) = &self.fault {
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

impl fmt::Display for GateReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.decision {
            Decision::NotAsked => return f.write_str("not tried"),
            Decision::Promoted => "promoted",
            Decision::Rejected => "rejected",
        })?;
        if let Some(instead) = &self.instead {
            write!(f, " {instead}")?;
        }
        if self.outgrows {
            f.write_str(", for it knows more of a young process than the one in use")?;
        }
        if self.reasons.is_empty() {
            return Ok(());
        }
        let reasons: Vec<String> = self.reasons.iter().map(ToString::to_string).collect();
        f.write_str(match (self.is_promoted(), self.change, &self.instead) {
            (true, None, None) if self.outgrows => ", although it ",
            (true, None, Some(_)) if self.outgrows => ", although that ",
            (true, None, None) => " as the first model, although it ",
            (true, None, Some(_)) => "; as the first model, although that ",
            (true, Some(_), None) => " because the process has changed, although it ",
            (true, Some(_), Some(_)) => "; because the process has changed, although that ",
            (false, _, None) => ": ",
            (false, _, Some(_)) => "; that ",
        })?;
        f.write_str(&reasons.join("; "))?;
        match self.may_have_changed() {
            Some(change) => write!(
                f,
                " (number {} in a row that only earlier records speak against: the process may have changed)",
                change.models
            ),
            None => Ok(()),
        }
    }
}

impl GateReport {
    /// Whether the model may judge.
    #[must_use]
    pub fn is_promoted(&self) -> bool {
        self.decision == Decision::Promoted
    }

    /// Whether it may not.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        self.decision == Decision::Rejected
    }

    /// Of a model that was rejected for earlier records only: since when, and for the how manieth in a row.
    #[must_use]
    pub fn may_have_changed(&self) -> Option<Change> {
        self.change.filter(|_| self.is_rejected())
    }

    /// Whether it may judge, and the windows that earlier models were accepted on still count.
    #[must_use]
    pub fn vouched_for(&self) -> bool {
        self.is_promoted() && self.change.is_none()
    }

    /// Whether its text has the share of injected faults that the model finds.
    #[must_use]
    pub fn tells_recall(&self) -> bool {
        let recall =
            |reason: &Reason| matches!(reason, Reason::BelowChampion(_) | Reason::Blunt(_));
        let instead = self.instead.as_ref().and_then(|instead| instead.recall);
        instead.is_some() || self.reasons.iter().any(recall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_gate_said_is_read_back_and_told_in_words() {
        let below = Below {
            recall: 0.5,
            champion: 0.75,
            fault: Some("drift".to_owned()),
            earlier: true,
        };
        let mut report = GateReport {
            decision: Decision::Rejected,
            instead: Some(Instead {
                of: "gmm".to_owned(),
                recall: Some(0.25),
                baseline: 0.5,
            }),
            outgrows: false,
            reasons: vec![
                Reason::TooFew {
                    windows: 3,
                    needed: 20,
                },
                Reason::ConstantScore,
                Reason::BelowChampion(below),
            ],
            change: Some(Change {
                models: 2,
                since: Timestamp(7),
            }),
        };
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<GateReport>(&text).unwrap(), report);
        let told = "rejected principal components instead of gmm, because they find 50.0 % of injected faults, but it 25.0 %; that has only 3 held-out windows to be tried on, but 20 are needed; gives all held-out windows the same score; finds 50.0 % of injected faults of the kind `drift` in windows that earlier models were accepted on, but the model in use 75.0 % (number 2 in a row that only earlier records speak against: the process may have changed)";
        assert_eq!(report.to_string(), told);
        assert!(report.is_rejected() && report.tells_recall() && !report.vouched_for());
        report.decision = Decision::Promoted;
        assert_eq!(report.may_have_changed(), None);
        assert!(!report.vouched_for());
        report.change = None;
        assert!(report.vouched_for());
        report.instead = None;
        report.reasons.truncate(2);
        assert!(!report.tells_recall());
        assert_eq!(GateReport::default().to_string(), "not tried");
    }
}
