//! Drift: a key's records become more surprising than they were, and stay so. A ramp, a step or a change of variance that lasts, a sensor that
//! loses its calibration. Never an alert: an anomaly is told by its strength, drift by how long it lasts.
//!
//! The mean surprise −ln p of a key, by the model alone, is taken over blocks of [`BLOCK_RECORDS`] records, each surprise bounded. Drift begins
//! when block after block, at least [`BLOCKS`] of them, lies above [`RAISED`] times the key's own level under its model; a fault fills one or two
//! blocks, and the next calm one starts the count again. It must be beyond chance too: if a block is worth k independent records, its mean is
//! about Gamma distributed, and reaches x times its expectation with a probability of at most exp(−k (x − 1 − ln x)) (Chernoff's bound, see
//! [`crate::stats::evidence`]); the exponents of the blocks in a row add up. What it cannot see: a rise by less than half, a key with fewer than
//! some thousand records between two models, and dependence that outlasts a block.

use super::evidence::Place;
use crate::stats::evidence::{ASSUMED_DEPENDENCE, EvidenceLaw, full, surprise};

/// Records of a block. Longer than the longest default time scale of evidence, so that most of their dependence lies within one.
pub const BLOCK_RECORDS: u32 = 500;

/// Raised blocks in a row without which nothing is drift; and blocks that are not, which a key's own level is reckoned from.
pub const BLOCKS: u32 = 4;

/// Calm blocks in a row after which drift is over.
const CALM_BLOCKS: u32 = 2;

/// A block above so many times the key's level is raised ...
const RAISED: f64 = 1.5;

/// ... and below so many times it is calm. What lies between changes nothing.
const CALM: f64 = 1.25;

/// Nats of evidence for a beginning: one in ten billion blocks of normal records, so none in a large fleet in a year.
const EVIDENCE: f64 = 23.0;

/// The largest surprise that counts: a spike must not raise a block.
const SURPRISE_MAX: f64 = 8.0;

/// Blocks that the assumption "this key is like the others" is worth.
const PRIOR_BLOCKS: f64 = 0.5;

/// What is remembered of a key for drift.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Drift {
    /// The sum of surprise in the present block ...
    pub sum: f64,
    /// ... over so many records.
    pub records: u32,
    /// The first record of the present block.
    pub first: Place,
    /// The key's own level: the mean surprise when its model was new. 0: not known yet.
    pub usual: f64,
    /// The sum of the levels of blocks under the present model ...
    pub own_sum: f64,
    /// ... of so many blocks, until `usual` is known by them.
    pub own_blocks: u32,
    /// Blocks in a row that are raised, or calm while it drifts.
    pub streak: u32,
    /// Nats that the raised ones came to.
    pub evidence: f64,
    /// The first record of the first raised block of those in a row.
    pub since: Place,
    /// The mean surprise over the last block.
    pub level: f64,
    /// Whether it drifts.
    pub drifting: bool,
}

/// What a record did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turn {
    /// Drift began, or ended.
    pub began: bool,
    /// The first record of the drift, as far as is known.
    pub since: Place,
    /// The mean surprise over the last block.
    pub level: f64,
    /// The mean surprise that was usual for the key.
    pub usual: f64,
}

impl Drift {
    /// Takes in the p-value of a record, as what judged it gave it.
    pub fn take(&mut self, law: &EvidenceLaw, p: f64, place: Place) -> Option<Turn> {
        if self.records == 0 {
            self.first = place;
        }
        self.sum += surprise(p).min(SURPRISE_MAX);
        self.records += 1;
        if self.records < BLOCK_RECORDS {
            return None;
        }
        let level = self.sum / f64::from(self.records);
        (self.sum, self.records) = (0.0, 0);
        self.block(level, worth(law))
    }

    /// Another model judges from now on: the block begins anew, and so does what is usual, unless the key goes on to drift under it.
    pub fn change_model(&mut self) {
        (self.sum, self.records) = (0.0, 0);
        (self.own_sum, self.own_blocks) = (0.0, 0);
    }

    /// The key is being forgotten: ends what goes on.
    pub fn forget(&mut self) -> Option<Turn> {
        self.drifting.then(|| self.turn(false))
    }

    fn block(&mut self, level: f64, worth: f64) -> Option<Turn> {
        self.level = level;
        let known = self.usual > 0.0;
        let times = if known { level / self.usual } else { 1.0 };
        let raised = times > RAISED;
        // What is raised must not become usual; the first level of a key is whatever it is.
        if !raised && !self.drifting && self.own_blocks < BLOCKS {
            self.own_sum += level;
            self.own_blocks += 1;
            if self.own_blocks == BLOCKS {
                let blocks = f64::from(BLOCKS) + PRIOR_BLOCKS;
                self.usual = ((self.own_sum + PRIOR_BLOCKS) / blocks).max(1.0);
            }
        }
        if self.drifting {
            self.streak = if times < CALM { self.streak + 1 } else { 0 };
            return (self.streak == CALM_BLOCKS).then(|| self.turn(false));
        }
        if !raised {
            (self.streak, self.evidence) = (0, 0.0);
            return None;
        }
        if self.streak == 0 {
            self.since = self.first;
        }
        self.streak += 1;
        self.evidence += worth * (times - 1.0 - times.ln());
        let sure = self.streak >= BLOCKS && self.evidence >= EVIDENCE;
        sure.then(|| self.turn(true))
    }

    fn turn(&mut self, began: bool) -> Turn {
        self.drifting = began;
        (self.streak, self.evidence) = (0, 0.0);
        Turn {
            began,
            since: self.since,
            level: self.level,
            usual: self.usual,
        }
    }
}

/// How many independent records a block is worth: by the longest time scale of the law.
fn worth(law: &EvidenceLaw) -> f64 {
    let longest = law.scales.iter().zip(&law.independent).next_back();
    let dependence = match longest {
        Some((&scale, &independent)) if scale > 1 => (full(scale) / independent).max(1.0),
        _ => ASSUMED_DEPENDENCE,
    };
    f64::from(BLOCK_RECORDS) / dependence
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use rand::Rng;

    /// What a key tells whose surprise is `times` as high as the model expects, by record.
    fn run(seed: u64, records: u32, times: impl Fn(u32) -> f64) -> Vec<(u32, bool)> {
        let law = EvidenceLaw::assumed(&[1, 5, 30, 300]);
        let mut rng = Seed(seed).rng();
        let mut drift = Drift::default();
        let mut told = Vec::new();
        for record in 0..records {
            let uniform = 1.0 - rng.gen_range(0.0..1.0_f64);
            let place = Place {
                record: u64::from(record),
                ..Place::default()
            };
            if let Some(turn) = drift.take(&law, uniform.powf(times(record)), place) {
                told.push((record, turn.began));
            }
        }
        told
    }

    #[test]
    fn nothing_is_told_where_nothing_drifts() {
        for key in 0..40 {
            // Keys are unlike each other, and one has a fault of 900 records.
            let own = 0.5 + f64::from(key as u32 % 4);
            let fault = |record: u32| {
                if (6_000..6_900).contains(&record) {
                    9.0
                } else {
                    own
                }
            };
            assert_eq!(run(key, 10_000, fault), [], "{key}");
        }
    }

    #[test]
    fn what_rises_and_stays_is_drift_until_it_is_over() {
        let ramp = |record: u32| 1.0 + f64::from(record.clamp(4_000, 10_000) - 4_000) / 3_000.0;
        let told = run(1, 14_000, ramp);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].1 && told[0].0 < 9_000, "{told:?}");
        let step = |record: u32| {
            if (5_000..12_000).contains(&record) {
                2.0
            } else {
                1.0
            }
        };
        let told = run(2, 20_000, step);
        assert_eq!(told, [(6_999, true), (12_999, false)]);
    }

    #[test]
    fn what_wavers_at_the_bound_begins_once() {
        // In turns a bit above and below the bound of a raised block, after it has begun.
        let wavering = |record: u32| match record {
            0..4_000 => 1.0,
            4_000..8_000 => 2.0,
            _ if (record / 500).is_multiple_of(2) => 1.4,
            _ => 1.7,
        };
        assert_eq!(run(3, 30_000, wavering), [(5_999, true)]);
    }

    #[test]
    fn another_model_that_has_learnt_it_ends_it() {
        let law = EvidenceLaw::assumed(&[1, 300]);
        let mut drift = Drift {
            usual: 1.0,
            drifting: true,
            ..Drift::default()
        };
        drift.change_model();
        let p = (-1.0_f64).exp();
        let told: Vec<Turn> = (0..2_000)
            .filter_map(|_| drift.take(&law, p, Place::default()))
            .collect();
        assert_eq!(told.len(), 1);
        assert!(!told[0].began && (told[0].level - 1.0).abs() < 1e-9);
        // And is usual from then on.
        assert!(drift.own_blocks == 2 && !drift.drifting);
    }
}
