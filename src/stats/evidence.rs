//! The law of gathered evidence: how strong the surprise of a key's last records must be for a false opening to be as rare as the budget allows.
//!
//! A record's surprise is s = −ln p: about standard exponential for normal records. Over a time scale of n records a key keeps an exponentially
//! weighted mean of it (Roberts, "Control Chart Tests Based on Geometric Moving Averages", Technometrics 1, 1959). If that mean is worth k
//! independent records, it is about Gamma distributed, and the probability that it reaches x > 1 is at most exp(−k (x − 1 − ln x)) (Chernoff's
//! bound; Dembo and Zeitouni, "Large Deviations Techniques and Applications", 1998, section 2.2). The exponent is the *strength* of the evidence,
//! in nats, and makes time scales comparable. k is estimated from held-out records in their order, so that autocorrelation counts.
//!
//! Strength is not taken for a probability: how often normal sequences open an episode at a strength is counted by replaying held-out ones,
//! and goes on beyond the strongest of them by an exponential tail, as peaks over a threshold do (Davison and Smith, "Models for
//! Exceedances over High Thresholds", JRSS B 52, 1990), here with one count for each episode.

use serde::{Deserialize, Serialize};

use super::calibration::P_MIN;

/// The most time scales that evidence gathers over.
pub const SCALES_MAX: usize = 4;

/// Records that count as one where nothing is known of how they depend on each other.
pub const ASSUMED_DEPENDENCE: f64 = 8.0;

/// The most independent records that a scale is taken to be worth of what follows its key as it goes: errors of that depend on each other over long
/// stretches, and longer means would look surer than they are.
const FOLLOWING_WORTH: f64 = 7.5;

/// How evidence of normal records is distributed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvidenceLaw {
    /// The time scales, in records, ascending: at most [`SCALES_MAX`].
    pub scales: Vec<u32>,
    /// How many independent records the weighted mean of each scale is worth: at least 1, one number a scale.
    pub independent: Vec<f64>,
    /// Strengths, ascending, and how many episodes open per normal record at each, descending. Never empty.
    pub openings: Vec<(f64, f64)>,
    /// By how many nats the strength must grow beyond the last of `openings` for openings to be e times rarer.
    pub tail: f64,
    /// How many records in a row say as much as one: at least 1.
    pub dependence: f64,
}

impl EvidenceLaw {
    /// What is assumed where no held-out records tell: strongly dependent records, and openings as rare as the strength says.
    #[must_use]
    pub fn assumed(scales: &[u32]) -> Self {
        let independent = |scale: &u32| (full(*scale) / ASSUMED_DEPENDENCE).max(1.0);
        Self {
            scales: scales.to_vec(),
            independent: scales.iter().map(independent).collect(),
            openings: vec![(0.0, 1.0)],
            tail: 1.0,
            dependence: 1.0,
        }
    }

    /// What is assumed of records that are judged by their key's own past, learnt as it goes.
    #[must_use]
    pub fn following(scales: &[u32]) -> Self {
        let mut law = Self::assumed(scales);
        for worth in &mut law.independent {
            *worth = worth.min(FOLLOWING_WORTH);
        }
        law
    }

    /// The strength, in nats, of a weighted mean `level` of surprise over the scale number `scale`; 0 where it is not above what is normal. A single
    /// record is as strong as its surprise.
    #[must_use]
    pub fn strength(&self, scale: usize, level: f64) -> f64 {
        if level <= 1.0 {
            return 0.0;
        }
        if self.scales[scale] == 1 {
            return level;
        }
        self.independent[scale] * (level - 1.0 - level.ln())
    }

    /// The strength at which so many normal episodes open per record.
    #[must_use]
    pub fn threshold(&self, per_record: f64) -> f64 {
        let (first, last) = (self.openings[0], self.openings[self.openings.len() - 1]);
        if per_record >= first.1 {
            return first.0;
        }
        if per_record <= last.1 {
            return last.0 + self.tail * (last.1 / per_record).ln();
        }
        let above = self
            .openings
            .partition_point(|(_, rate)| *rate >= per_record);
        let ((low, more), (high, less)) = (self.openings[above - 1], self.openings[above]);
        let part = (more / per_record).ln() / (more / less).ln();
        low + part * (high - low)
    }

    /// How many normal episodes open per record at a strength: the inverse of [`Self::threshold`].
    #[must_use]
    pub fn rate(&self, strength: f64) -> f64 {
        let (first, last) = (self.openings[0], self.openings[self.openings.len() - 1]);
        if strength <= first.0 {
            return first.1;
        }
        if strength >= last.0 {
            return last.1 * ((last.0 - strength) / self.tail).exp();
        }
        let above = self.openings.partition_point(|(at, _)| *at <= strength);
        let ((low, more), (high, less)) = (self.openings[above - 1], self.openings[above]);
        let part = (strength - low) / (high - low);
        more * (less / more).powf(part)
    }

    /// Whether every number can be used: what is read from a model file may be anything.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let scales = !self.scales.is_empty()
            && self.scales.len() <= SCALES_MAX
            && self.scales.len() == self.independent.len()
            && self.scales.windows(2).all(|pair| pair[0] < pair[1])
            && self.scales[0] > 0;
        let worth = self.independent.iter().all(|k| k.is_finite() && *k >= 1.0);
        let rates = self.openings.iter().all(|(at, rate)| {
            at.is_finite() && *at >= 0.0 && rate.is_finite() && *rate > 0.0 && *rate <= 1.0
        });
        let falling = self
            .openings
            .windows(2)
            .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 > pair[1].1);
        let tail = self.tail.is_finite() && self.tail > 0.0;
        let dependence = self.dependence.is_finite() && self.dependence >= 1.0;
        scales && worth && !self.openings.is_empty() && rates && falling && tail && dependence
    }
}

/// −ln p; 0 of what is not a number, and that of the smallest p-value of what is smaller.
#[must_use]
pub fn surprise(p: f64) -> f64 {
    if p.is_nan() {
        return 0.0;
    }
    // Of p = 1 this is 0, not −0.
    0.0 - p.clamp(P_MIN, 1.0).ln()
}

/// How many records an exponentially weighted mean over `scale` of them is worth if they are independent: (2 − α) / α with α = 1 / `scale`.
#[must_use]
pub fn full(scale: u32) -> f64 {
    2.0 * f64::from(scale) - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn law() -> EvidenceLaw {
        EvidenceLaw {
            scales: vec![1, 5],
            independent: vec![1.0, 4.0],
            openings: vec![(2.0, 0.1), (4.0, 0.001)],
            tail: 2.0,
            dependence: 2.0,
        }
    }

    #[test]
    fn strengths_by_hand() {
        // A single record is its own surprise; a mean of e over 4 independent ones: 4 (e − 1 − 1).
        assert!((law().strength(0, 7.5) - 7.5).abs() < 1e-12);
        let e = std::f64::consts::E;
        assert!((law().strength(1, e) - 4.0 * (e - 2.0)).abs() < 1e-12);
        assert!(law().strength(1, 0.9).abs() < 1e-12);
    }

    #[test]
    fn thresholds_by_hand_and_back() {
        let law = law();
        // In the middle, on a logarithmic scale; and e² times rarer than the last.
        assert!((law.threshold(0.01) - 3.0).abs() < 1e-12);
        assert!((law.threshold(0.001 * (-2.0_f64).exp()) - 8.0).abs() < 1e-9);
        assert!((law.threshold(0.5) - 2.0).abs() < 1e-12);
        for rate in [0.09, 0.02, 0.001, 1e-5, 1e-9] {
            assert!((law.rate(law.threshold(rate)) / rate - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn the_assumed_law_takes_strength_for_a_probability() {
        let law = EvidenceLaw::assumed(&[1, 5, 30, 300]);
        assert!(law.is_sound());
        assert!((law.threshold(1e-3) - 1000.0_f64.ln()).abs() < 1e-12);
        assert!((law.independent[2] - 59.0 / 8.0).abs() < 1e-12);
        assert!((law.independent[3] - 599.0 / 8.0).abs() < 1e-12);
        let following = EvidenceLaw::following(&[1, 5, 30, 300]);
        assert!((following.independent[3] - FOLLOWING_WORTH).abs() < 1e-12);
    }

    #[test]
    fn numbers_that_cannot_be_used_are_noticed() {
        assert!(law().is_sound());
        let spoil: [fn(&mut EvidenceLaw); 6] = [
            |law| law.independent[1] = f64::NAN,
            |law| law.openings.clear(),
            |law| law.openings[1].1 = 0.2,
            |law| law.tail = 0.0,
            |law| law.scales = vec![5, 1],
            |law| law.dependence = 0.5,
        ];
        for spoil in spoil {
            let mut law = law();
            spoil(&mut law);
            assert!(!law.is_sound(), "{law:?}");
        }
    }
}
