//! The evidence that a key's records gather, over several time scales. A few numbers a key, whatever the time scale.
//!
//! Surprise is told from what is usual for the key: keys of one fleet are unlike each other, and a model grows old between two trainings.
//! If p-values of a key are distributed like U^b for a uniform U, their surprise −ln p has mean b, and p^(1/b) is uniform again. b is the mean
//! over the key's last records outside of episodes, shrunk towards 1; it follows slow drift, and stands still while an episode is open. Of a key
//! that is known it is learnt late, block by block, so that weak evidence that lasts has opened an episode before it becomes usual.

use crate::stats::calibration::P_MIN;
use crate::stats::evidence::{EvidenceLaw, SCALES_MAX, surprise};
use crate::stream::Offset;
use crate::time::Timestamp;

/// The largest surprise that counts towards scales of more than one record: a single wild record must not pass for a lasting fault.
const SURPRISE_MAX: f64 = 20.0;

/// The largest surprise that counts towards what is usual: a fault that was not flagged must not become usual by its size.
const USUAL_MAX: f64 = 8.0;

/// Records that the assumption "this key is like the others" is worth.
const PRIOR_RECORDS: f64 = 100.0;

/// Records of a key that what is usual is reckoned from.
const USUAL_RECORDS: f64 = 2000.0;

/// Records that are learnt from together, once the two blocks before them are: more than the longest default time scale needs to see a weak fault.
const BLOCK_RECORDS: f64 = 500.0;

/// Records of a key until which it is new, and learnt from at once: else every key that is unlike the others would open an episode.
const NEW_RECORDS: u64 = 500;

/// How many of these still count when another model takes over: it may have learnt what was unusual for the last one.
const USUAL_RECORDS_KEPT: f64 = 200.0;

/// How far what is usual for a key may be from what is usual for all.
const USUAL_BOUNDS: (f64, f64) = (0.25, 4.0);

/// Above this level of surprise, where the usual one is 1, evidence counts as gathering.
const GATHERING: f64 = 1.5;

/// Where a level last rose above this, a fault is told to have begun. A weighted mean over n records takes 0.7 n to get halfway to a new mean: whoever
/// waits for that leaves the first records of a weak fault to training.
const ONSET: f64 = 1.1;

/// A record of a key: its number, its place and its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its number among the key's judged records, from 1.
    pub record: u64,
    /// Where it lies.
    pub offset: Offset,
    /// When it happened.
    pub time: Timestamp,
}

/// What a key's records have gathered.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// The weighted mean surprise over each time scale; 1 is usual.
    pub levels: [f64; SCALES_MAX],
    /// Where each level last rose above [`ONSET`].
    pub since: [Place; SCALES_MAX],
    /// The sum of the key's surprise outside of episodes ...
    pub usual_sum: f64,
    /// ... over so many records, old ones forgotten.
    pub usual_records: f64,
    /// Sums of surprise, and records, that are not learnt from yet: the block before the present one, and that.
    pub waiting: [(f64, f64); 2],
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            levels: [1.0; SCALES_MAX],
            since: [Place::default(); SCALES_MAX],
            usual_sum: 0.0,
            usual_records: 0.0,
            waiting: [(0.0, 0.0); 2],
        }
    }
}

/// The strongest evidence at a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strongest {
    /// Its strength, in nats.
    pub strength: f64,
    /// The number of its time scale.
    pub scale: usize,
}

impl Evidence {
    /// b: the mean surprise that is usual for the key; 1 for a key like all others.
    #[must_use]
    pub fn usual(&self) -> f64 {
        let mean = (self.usual_sum + PRIOR_RECORDS) / (self.usual_records + PRIOR_RECORDS);
        mean.clamp(USUAL_BOUNDS.0, USUAL_BOUNDS.1)
    }

    /// The p-value of a record by what is usual for its key: p^(1/b).
    #[must_use]
    pub fn by_key(&self, p: f64) -> f64 {
        // Nearly every key is like the others, and a power costs more than a comparison.
        if self.usual_records <= 0.0 {
            return p;
        }
        // What underflows would be no p-value at all.
        p.powf(1.0 / self.usual()).max(P_MIN)
    }

    /// Learns what is usual from a record's p-value as the model gave it. Not to be called during an episode, see [`Self::stand_still`].
    /// `records` of the key were judged before.
    pub fn learn(&mut self, p: f64, records: u64) {
        let surprise = surprise(p).min(USUAL_MAX);
        if records < NEW_RECORDS {
            self.count(surprise, 1.0);
            return;
        }
        let [before, now] = &mut self.waiting;
        now.0 += surprise;
        now.1 += 1.0;
        if now.1 >= BLOCK_RECORDS {
            let (sum, records) = std::mem::replace(before, std::mem::take(now));
            self.count(sum, records);
        }
    }

    /// A record of an episode passed. A fault must not become usual. But what is left of the records when episodes are taken out is calmer
    /// than all of them: if that made a key ever quieter, ever less would be flagged as ever more. So a quiet key becomes like the others.
    pub fn stand_still(&mut self) {
        // What waited lies just before the episode, and may be of it.
        self.waiting = Default::default();
        self.count(self.usual().max(1.0), 1.0);
    }

    fn count(&mut self, surprise: f64, records: f64) {
        let most = USUAL_RECORDS - records;
        if self.usual_records > most {
            let keep = most / self.usual_records;
            self.usual_sum *= keep;
            self.usual_records *= keep;
        }
        self.usual_sum += surprise;
        self.usual_records += records;
    }

    /// Another model judges from now on: what was usual under the last one counts less.
    pub fn change_model(&mut self) {
        if self.usual_records > USUAL_RECORDS_KEPT {
            self.usual_sum *= USUAL_RECORDS_KEPT / self.usual_records;
            self.usual_records = USUAL_RECORDS_KEPT;
        }
    }

    /// Takes in the p-value of a record at `place`; answers the strongest evidence there is now.
    pub fn gather(&mut self, law: &EvidenceLaw, p: f64, place: Place) -> Strongest {
        let surprise = surprise(p);
        let bounded = surprise.min(SURPRISE_MAX);
        for (scale, &records) in law.scales.iter().enumerate() {
            let level = &mut self.levels[scale];
            let before = *level;
            if records == 1 {
                *level = surprise;
            } else {
                *level += (bounded - *level) / f64::from(records);
            }
            if records == 1 || before <= ONSET {
                self.since[scale] = place;
            }
        }
        self.strongest(law)
    }

    /// The strongest evidence that was gathered.
    #[must_use]
    pub fn strongest(&self, law: &EvidenceLaw) -> Strongest {
        let mut strongest = Strongest {
            strength: 0.0,
            scale: 0,
        };
        for (scale, &level) in self.levels[..law.scales.len()].iter().enumerate() {
            if level <= GATHERING {
                continue;
            }
            let strength = law.strength(scale, level);
            if strength > strongest.strength {
                strongest = Strongest { strength, scale };
            }
        }
        strongest
    }

    /// The largest level over all scales, none beyond what a single record may count.
    #[must_use]
    pub fn highest(&self, law: &EvidenceLaw) -> f64 {
        let levels = self.levels[..law.scales.len()].iter();
        levels.fold(0.0, |highest: f64, level| {
            highest.max(level.min(SURPRISE_MAX))
        })
    }

    /// Forgets what was gathered, not what is usual: an episode ended.
    pub fn reset(&mut self) {
        self.levels = [1.0; SCALES_MAX];
    }
}

/// The surprise of a record as far as it may count for more than itself.
#[must_use]
pub fn bounded(p: f64) -> f64 {
    surprise(p).min(SURPRISE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(record: u64) -> Place {
        Place {
            record,
            offset: Offset(record as i64),
            time: Timestamp(record as i64),
        }
    }

    #[test]
    fn levels_by_hand() {
        let law = EvidenceLaw {
            independent: vec![1.0, 9.0],
            ..EvidenceLaw::assumed(&[1, 5])
        };
        let mut evidence = Evidence::default();
        // Surprise 6: the mean over five goes from 1 to 2, the single record is the stronger.
        let found = evidence.gather(&law, (-6.0_f64).exp(), place(1));
        assert!((evidence.levels[1] - 2.0).abs() < 1e-12);
        assert_eq!(found.scale, 0);
        assert!((found.strength - 6.0).abs() < 1e-12);
        // Once more: 2.8, and 9 (1.8 − ln 2.8) = 6.93 is the stronger.
        let found = evidence.gather(&law, (-6.0_f64).exp(), place(2));
        assert_eq!(found.scale, 1);
        assert!((found.strength - 9.0 * (1.8 - 2.8_f64.ln())).abs() < 1e-9);
        assert_eq!(evidence.since[1], place(1));
    }

    #[test]
    fn what_is_usual_for_a_key_makes_its_p_values_uniform() {
        let mut evidence = Evidence::default();
        for i in 0..20_000_u32 {
            // Twice as surprising as the fleet: p = U².
            let uniform = (f64::from(i * 7919 % 20_000) + 0.5) / 20_000.0;
            evidence.learn(uniform * uniform, u64::from(i));
        }
        assert!(
            (evidence.usual() - 1.95).abs() < 0.05,
            "{}",
            evidence.usual()
        );
        assert!((evidence.by_key(1e-4) - 0.01).abs() < 0.002);
        // A key of which nothing is known is like all others.
        assert!((Evidence::default().by_key(1e-4) - 1e-4).abs() < 1e-18);
    }

    #[test]
    fn what_lasts_becomes_usual_late() {
        let mut evidence = Evidence::default();
        let weak = (-1.5_f64).exp();
        (0..2000).for_each(|record| evidence.learn((-1.0_f64).exp(), record));
        // The first block of the weak fault lies behind another one before it is learnt from.
        (2000..2999).for_each(|record| evidence.learn(weak, record));
        assert!(
            (evidence.usual() - 1.0).abs() < 1e-9,
            "{}",
            evidence.usual()
        );
        (2999..5000).for_each(|record| evidence.learn(weak, record));
        assert!(evidence.usual() > 1.2, "{}", evidence.usual());
        // An episode that opens meanwhile is none of it.
        let before = evidence.usual();
        evidence.stand_still();
        assert!((evidence.usual() - before).abs() < 1e-3);
        assert_eq!(evidence.waiting, [(0.0, 0.0); 2]);
    }

    #[test]
    fn the_smallest_p_value_is_the_strongest_evidence_of_every_key() {
        let mut evidence = Evidence::default();
        (0..3000).for_each(|record| evidence.learn(0.9, record));
        // By itself 1e-300 to the power of 1 / 0.25 is 0.
        let p = evidence.by_key(P_MIN);
        assert!(p > 0.0 && surprise(p) > 600.0 && surprise(0.0) > 600.0);
        assert!(surprise(f64::NAN).abs() < 1e-12);
    }

    #[test]
    fn a_wild_record_is_no_lasting_fault() {
        let law = EvidenceLaw::assumed(&[1, 5, 30, 300]);
        let mut evidence = Evidence::default();
        evidence.gather(&law, 1e-300, place(1));
        assert!(evidence.levels[2] < 1.7 && evidence.levels[3] < 1.1);
        assert!(evidence.highest(&law) <= SURPRISE_MAX);
    }
}
