//! The pace of a key by its own clock, and whether a record follows on the one before or comes after a gap.
//!
//! Records on either side of a gap are no neighbours: a window of both would look strange for nothing. The rule is the same where windows
//! are scored and where they are learnt, and has no setting: a gap is a step of the key's own clock, in either direction, of more than
//! [`FACTOR`] times the longest step of about its last [`MEMORY`] records, and of more than [`FLOOR_MS`]. If steps have a tail that falls
//! like x^−a, that cuts about one record in `MEMORY · FACTOR^a` of a key that is merely irregular. A longest step that is forgotten makes
//! the rule nearly the same wherever reading began; one much longer than before is learnt by doubling, so that a single wrong time changes
//! little, and a new pace is known after a few records.

use crate::time::Timestamp;

/// A gap is longer than this many times the longest usual step.
pub const FACTOR: i64 = 5;

/// Records after which a longest step is mostly forgotten; eight windows where those are longer, so that a key which pauses often enough to
/// spoil most of its windows is known to pause.
pub const MEMORY: usize = 256;

/// Milliseconds: networks and schedulers hold records back for shorter than this, whatever the pace.
pub const FLOOR_MS: i64 = 1000;

/// Steps without which no step is a gap.
const KNOWN_MIN: u8 = 8;

/// The first steps, which are learnt as they are.
const FIRST: u8 = 2;

/// Parts of a millisecond that the longest step is kept in, so that short ones are forgotten, too.
const PARTS: i64 = 1024;

/// The longest step that is told apart from longer ones: some ten thousand years.
const STEP_MAX: i64 = 1 << 48;

/// How far a key's clock usually steps from record to record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Pace {
    /// The longest of the last steps, in 1/1024 ms.
    pub longest: i64,
    /// Steps seen, up to those needed.
    pub steps: u8,
}

impl Pace {
    /// The longest usual step in milliseconds.
    #[must_use]
    pub fn longest_ms(self) -> i64 {
        self.longest / PARTS
    }

    /// Takes in a step of `ms` milliseconds, 0 or more; answers whether it is a gap. Forgets over about `memory` steps.
    pub fn step(&mut self, ms: i64, memory: usize) -> bool {
        let gap = self.steps >= KNOWN_MIN && ms > FACTOR * self.longest_ms().max(FLOOR_MS);
        let most = if self.steps < FIRST {
            STEP_MAX
        } else {
            2 * self.longest_ms() + FLOOR_MS
        };
        self.steps = KNOWN_MIN.min(self.steps + 1);
        self.forget_and_learn(ms, memory, most);
        gap
    }

    /// Takes in a step that may be anybody's: learnt by doubling from the start.
    pub fn step_warily(&mut self, ms: i64) {
        self.forget_and_learn(ms, MEMORY, 2 * self.longest_ms() + FLOOR_MS);
    }

    fn forget_and_learn(&mut self, ms: i64, memory: usize, most: i64) {
        // By a shift: divisions are slow.
        let kept = self.longest - (self.longest >> memory.max(1).ilog2());
        self.longest = kept.max(ms.clamp(0, most.min(STEP_MAX)) * PARTS);
    }
}

/// The records of one key, in the order in which they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// The time of the last one, by the key's own clock; `None`: there was none.
    pub last: Option<Timestamp>,
    /// Its pace.
    pub pace: Pace,
}

impl Sequence {
    /// Takes in the next record, at `time` by the key's own clock; answers whether it follows on the one before. If not, no window of
    /// `window` records may hold both. The first record follows on nothing.
    pub fn follows(&mut self, time: Timestamp, window: usize) -> bool {
        let Some(last) = self.last.replace(time) else {
            return false;
        };
        let step = time.0.saturating_sub(last.0).saturating_abs();
        !self.pace.step(step, MEMORY.max(window.saturating_mul(8)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The records that do not follow on the one before, by their steps in milliseconds.
    fn cuts(steps: &[i64]) -> Vec<usize> {
        let (mut sequence, mut time) = (Sequence::default(), 1_700_000_000_000);
        let mut found = Vec::new();
        for (i, step) in steps.iter().enumerate() {
            time += step;
            if !sequence.follows(Timestamp(time), 10) {
                found.push(i);
            }
        }
        found
    }

    #[test]
    fn gaps_by_hand() {
        let mut steps = vec![1000; 30];
        assert_eq!(cuts(&steps), [0]);
        // Five times the longest is none, more is; and so is a clock that is put back.
        (steps[20], steps[25]) = (5000, -60_000);
        assert_eq!(cuts(&steps), [0, 25]);
        steps[20] = 5001;
        assert_eq!(cuts(&steps), [0, 20, 25]);
        // A stuck clock, and a pace of a millisecond with a pause of seconds.
        assert_eq!(cuts(&[0; 30]), [0]);
        let mut fast = vec![1; 30];
        (fast[20], fast[25]) = (5000, 6000);
        assert_eq!(cuts(&fast), [0, 25]);
        // An hour apart from the start, and from then on.
        assert_eq!(cuts(&[3_600_000; 30]), [0]);
        let mut slower = vec![1000; 60];
        slower[30..].fill(3_600_000);
        let found = cuts(&slower);
        assert!(found.len() < 14 && found[1] == 30, "{found:?}");
    }

    #[test]
    fn a_single_wrong_time_changes_the_rule_little_and_not_for_long() {
        let mut steps = vec![1000; 1000];
        (steps[100], steps[101]) = (3_300_000, -3_299_000);
        steps[900] = 20_000;
        assert_eq!(cuts(&steps), [0, 100, 101, 900]);
    }

    #[test]
    fn a_key_that_pauses_often_is_known_to_pause() {
        let steps: Vec<i64> = (0..3000)
            .map(|i| if i % 40 == 39 { 3_600_000 } else { 1000 })
            .collect();
        let found = cuts(&steps);
        assert!(found.iter().all(|&at| at < 1000), "{found:?}");
    }

    proptest! {
        #[test]
        fn wherever_reading_begins_the_rule_is_soon_the_same(
            steps in proptest::collection::vec(500i64..1500, 600), from in 1usize..300,
        ) {
            let whole = cuts(&steps);
            let part: Vec<usize> = cuts(&steps[from..]).iter().map(|at| at + from).collect();
            prop_assert_eq!(whole, [0]);
            prop_assert_eq!(part, [from]);
        }

        #[test]
        fn any_times_are_taken(times in proptest::collection::vec(any::<i64>(), 0..40)) {
            let mut sequence = Sequence::default();
            for time in times {
                sequence.follows(Timestamp(time), 1000);
                prop_assert!(sequence.pace.longest >= 0);
            }
        }
    }
}
