//! What somebody called a false alarm, and whether an episode is more of the same.
//!
//! A pattern is an episode's attribution with a sign: the share of each feature, negative where it lay below what was expected. Two are alike where
//! the cosine of the angle between them is at least [`ALIKE`]: the same features, in the same direction. An episode that is like one that was
//! dismissed is held back for as long as it is not worse: neither its evidence nor its strangest record may be stronger by a quarter and by more than
//! [`WORSE_MIN`]. What a deviation says goes by its square, about, so that is an eighth more of it. The record counts beside the evidence because that
//! adds records up: a weak deviation that lasts must not hide a strong one that has just begun.
//!
//! Assumes that what is harmless looks alike whenever it comes. A fault that begins just as what was dismissed does is told of once it is worse.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::alert::Attribution;

/// The least cosine between patterns that are alike.
const ALIKE: f64 = 0.9;

/// Evidence is worse if it is this many times as strong ...
const WORSE: f64 = 1.25;

/// ... and by this many nats at least: ten times rarer among normal records.
const WORSE_MIN: f64 = std::f64::consts::LN_10;

/// Features that a pattern has at most: those with the largest shares.
const FEATURES_MAX: usize = 8;

/// Patterns of a key that are held back at most: the newest.
pub const PATTERNS_MAX: usize = 8;

/// How an episode looks. In whole numbers, so that it is read back from the state as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    /// Ten thousandths of the score that are a feature's, negative where the value was below what was expected; at most eight features.
    pub shares: BTreeMap<String, i64>,
    /// How bad it got.
    pub worst: Worst,
}

/// How bad an episode got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worst {
    /// The strongest evidence, in thousandths of a nat.
    pub evidence: i64,
    /// The largest surprise −ln p of a record, in thousandths of a nat.
    pub record: i64,
}

impl Worst {
    /// Of evidence of this strength, in nats, and a smallest p-value.
    #[must_use]
    pub fn of(evidence: f64, p: f64) -> Self {
        Self {
            evidence: thousandths(evidence),
            record: thousandths(-p.max(f64::MIN_POSITIVE).ln()),
        }
    }
}

impl Pattern {
    /// Of this attribution, shares largest first. Features that were not observed are left out.
    #[must_use]
    pub fn of(attribution: &[Attribution], worst: Worst) -> Self {
        let signed = |a: &Attribution| {
            let above = a.actual? >= a.expected;
            let share = (a.share * 1e4).round() as i64;
            let share = if above { share } else { -share };
            (share != 0).then(|| (a.feature.clone(), share))
        };
        let shares = attribution.iter().take(FEATURES_MAX).filter_map(signed);
        Self {
            shares: shares.collect(),
            worst,
        }
    }

    /// Shares by feature, which sum to 1: of those that are remembered.
    #[must_use]
    pub fn by_feature(&self) -> BTreeMap<&str, f64> {
        let sum: i64 = self.shares.values().map(|share| share.abs()).sum();
        let of = |share: &i64| share.abs() as f64 / sum.max(1) as f64;
        let shares = self.shares.iter();
        shares.map(|(f, share)| (f.as_str(), of(share))).collect()
    }

    /// The same in whatever direction.
    #[must_use]
    pub fn unsigned(&self) -> Self {
        let shares = self.shares.iter();
        Self {
            shares: shares.map(|(f, share)| (f.clone(), share.abs())).collect(),
            worst: self.worst,
        }
    }

    /// Whether the other has the same features, in the same direction.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let square = |of: &Self| of.shares.values().map(|&s| (s * s) as f64).sum::<f64>();
        let common = self
            .shares
            .iter()
            .filter_map(|(feature, share)| Some((share * other.shares.get(feature)?) as f64));
        let lengths = (square(self) * square(other)).sqrt();
        lengths > 0.0 && common.sum::<f64>() >= ALIKE * lengths
    }

    /// Whether what got as bad as `other` is worse than this.
    #[must_use]
    pub fn is_less_than(&self, other: Worst) -> bool {
        let exceeds = |other: i64, own: i64| {
            let (other, own) = (other as f64 / 1e3, own as f64 / 1e3);
            other > (own * WORSE).max(own + WORSE_MIN)
        };
        exceeds(other.evidence, self.worst.evidence) || exceeds(other.record, self.worst.record)
    }

    /// Notes that it got as bad as this.
    pub fn grow(&mut self, worst: Worst) {
        self.worst.evidence = self.worst.evidence.max(worst.evidence);
        self.worst.record = self.worst.record.max(worst.record);
    }
}

fn thousandths(nats: f64) -> i64 {
    // Evidence is far below this.
    (nats.clamp(0.0, 1e12) * 1e3).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(shares: &[(&str, f64)], strength: f64) -> Pattern {
        let attribution = |(feature, share): &(&str, f64)| Attribution {
            feature: (*feature).to_owned(),
            share: share.abs(),
            actual: Some(share.signum()),
            expected: 0.0,
            still: None,
        };
        let attribution: Vec<Attribution> = shares.iter().map(attribution).collect();
        Pattern::of(&attribution, Worst::of(strength, 1e-9))
    }

    #[test]
    fn alike_is_the_same_features_in_the_same_direction() {
        let known = pattern(&[("a", 0.8), ("b", 0.2)], 20.0);
        assert!(known.is_like(&known));
        // Cosine (0.8·0.6 + 0.2·0.4) / √(0.68·0.52) = 0.942, and with half in another feature 0.4/√(0.68·0.5)…
        assert!(known.is_like(&pattern(&[("a", 0.6), ("b", 0.4)], 20.0)));
        assert!(!known.is_like(&pattern(&[("a", 0.5), ("c", 0.5)], 20.0)));
        assert!(!known.is_like(&pattern(&[("a", -0.8), ("b", 0.2)], 20.0)));
        let other_way = pattern(&[("a", -0.8), ("b", 0.2)], 20.0);
        assert!(known.unsigned().is_like(&other_way.unsigned()));
        // Nothing is like nothing.
        assert!(!pattern(&[], 1.0).is_like(&pattern(&[], 1.0)));
    }

    #[test]
    fn worse_is_a_quarter_more_evidence_and_ten_times_rarer() {
        let evidence = |strength| Worst::of(strength, 1e-9);
        let weak = pattern(&[("a", 1.0)], 4.0);
        assert!(!weak.is_less_than(evidence(6.3)) && weak.is_less_than(evidence(6.31)));
        let mut strong = pattern(&[("a", 1.0)], 40.0);
        assert!(!strong.is_less_than(evidence(49.9)) && strong.is_less_than(evidence(50.1)));
        strong.grow(evidence(30.0));
        strong.grow(evidence(60.0));
        assert!(!strong.is_less_than(evidence(74.0)));
        // A record may be worse though all together are not: −ln 1e-9 is 20.7, a quarter more 25.9 (p = 5.6e-12).
        assert!(!strong.is_less_than(Worst::of(1.0, 5.7e-12)));
        assert!(strong.is_less_than(Worst::of(1.0, 5.5e-12)));
        assert!(Worst::of(1.0, 0.0).record > 700_000);
        // Bits survive the state topic.
        let text = serde_json::to_string(&strong).unwrap();
        assert_eq!(serde_json::from_str::<Pattern>(&text).unwrap(), strong);
    }
}
