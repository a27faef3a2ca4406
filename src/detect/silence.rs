//! Silence: a key that says nothing for much longer than it ever did.
//!
//! Judged by the partition's elapsed time (see [`super::clock`]), which only records move, and no single key's: the same records find the same
//! silences, whenever they are read, and a key is heard when its record comes, whatever its own clock says. So a partition whose every key
//! falls silent shows none: the page and a metric tell of an input that has stopped, by the wall clock.

use std::time::Duration;

use super::Params;
use crate::time::Timestamp;

/// Records of a key before its silence can mean anything.
pub const RECORDS_MIN: u64 = 10;

/// How often a key speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// Elapsed time at its newest record.
    pub last: Timestamp,
    /// The longest time between two of its records.
    pub longest_gap: Duration,
    /// Times that it was heard: records that came at once are one.
    pub records: u64,
    /// The stream's era when it was last heard: a silence from before stream time was put back is none.
    pub era: u32,
}

impl Rhythm {
    /// A key heard for the first time.
    #[must_use]
    pub fn begin(at: Timestamp, era: u32) -> Self {
        Self {
            last: at,
            longest_gap: Duration::ZERO,
            records: 1,
            era,
        }
    }

    /// The key spoke.
    pub fn hear(&mut self, at: Timestamp, era: u32) {
        let gap = at.since(self.last);
        self.longest_gap = self.longest_gap.max(gap);
        self.last = self.last.max(at);
        self.records += u64::from(!gap.is_zero());
        self.era = era;
    }

    /// Whether enough is known of it in this era for its silence to mean anything.
    #[must_use]
    pub fn may_fall_silent(&self, era: u32) -> bool {
        self.records >= RECORDS_MIN && self.era == era
    }

    /// Elapsed time after which the key counts as silent; `None`: too little is known of it in this era, or the check is off.
    #[must_use]
    pub fn deadline(&self, params: &Params, era: u32) -> Option<Timestamp> {
        if !self.may_fall_silent(era) || params.silence_factor < 1.0 {
            return None;
        }
        // In 64 bits: it is a difference of two timestamps, and 128 bits are slow to convert.
        let patience = self.longest_gap.as_millis() as u64 as f64 * params.silence_factor;
        let patience = Duration::from_millis(patience as u64).max(params.silence_min);
        Some(self.last.plus(patience))
    }

    /// The silence at `now` as a multiple of the longest gap before it.
    #[must_use]
    pub fn strangeness(&self, now: Timestamp) -> f64 {
        now.since(self.last).as_millis() as f64 / self.longest_gap.as_millis().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_by_hand() {
        let params = Params {
            silence_factor: 3.0,
            silence_min: Duration::from_millis(50),
            ..Params::default()
        };
        let mut rhythm = Rhythm::begin(Timestamp(0), 0);
        for at in [10, 20, 50, 60, 70, 80, 90, 100] {
            rhythm.hear(Timestamp(at), 0);
            assert_eq!(rhythm.deadline(&params, 0), None);
        }
        rhythm.hear(Timestamp(110), 0);
        // Longest gap 30 ms: silent after 3 · 30.
        assert_eq!(rhythm.deadline(&params, 0), Some(Timestamp(200)));
        assert!((rhythm.strangeness(Timestamp(200)) - 3.0).abs() < 1e-12);
        // What comes at once, or with an older time, is heard and changes nothing; a short patience is raised to the least.
        rhythm.hear(Timestamp(5), 0);
        rhythm.hear(Timestamp(110), 0);
        assert_eq!(rhythm.records, 10);
        assert_eq!(rhythm.deadline(&params, 1), None);
        assert_eq!(rhythm.last, Timestamp(110));
        let eager = Params {
            silence_factor: 1.0,
            ..params.clone()
        };
        assert_eq!(rhythm.deadline(&eager, 0), Some(Timestamp(160)));
        let off = Params {
            silence_factor: 0.0,
            ..params
        };
        assert_eq!(rhythm.deadline(&off, 0), None);
    }
}
