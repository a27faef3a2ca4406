//! The dead-letter limit: too many in a row of records mean that the configuration is wrong, not the records; then the daemon stops
//! rather than drain its input into the dead-letter topic.

use std::collections::VecDeque;

/// Records over which dead letters are counted.
pub const WINDOW_RECORDS: u64 = 10_000;

/// Counts dead letters among the latest [`WINDOW_RECORDS`] records.
#[derive(Clone, Debug)]
pub struct DeadLetterLimit {
    max: u64,
    /// Records and dead letters of the latest batches, newest last.
    batches: VecDeque<(u64, u64)>,
    records: u64,
    dead: u64,
}

/// There were more dead letters than the limit allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{dead} of the latest {records} records are dead letters; the limit is {max} in {WINDOW_RECORDS}"
)]
pub struct TooManyDeadLetters {
    /// Dead letters counted.
    pub dead: u64,
    /// Among so many records.
    pub records: u64,
    /// The limit.
    pub max: u64,
}

impl DeadLetterLimit {
    /// A limit of `max` dead letters in [`WINDOW_RECORDS`] records; `WINDOW_RECORDS` itself never stops anything.
    pub fn new(max: u64) -> Self {
        Self {
            max,
            batches: VecDeque::new(),
            records: 0,
            dead: 0,
        }
    }

    /// Counts a batch of `records`, of which `dead` became dead letters.
    ///
    /// The window is the fewest latest batches that hold [`WINDOW_RECORDS`]; larger than that (one batch can be), the limit grows in
    /// proportion. It need not be full: more than `max` are too many at once.
    pub fn count(&mut self, records: u64, dead: u64) -> Result<(), TooManyDeadLetters> {
        if records == 0 {
            return Ok(());
        }
        self.batches.push_back((records, dead));
        self.records += records;
        self.dead += dead;
        while let Some(&(records, dead)) = self.batches.front()
            && self.records - records >= WINDOW_RECORDS
        {
            self.records -= records;
            self.dead -= dead;
            self.batches.pop_front();
        }
        let allowed = self.max.saturating_mul(self.records.max(WINDOW_RECORDS));
        if self.dead.saturating_mul(WINDOW_RECORDS) <= allowed {
            return Ok(());
        }
        Err(TooManyDeadLetters {
            dead: self.dead,
            records: self.records,
            max: self.max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_limit_in_the_window_stop_at_once() {
        let mut limit = DeadLetterLimit::new(100);
        assert_eq!(limit.count(100, 100), Ok(()));
        let stopped = limit.count(1, 1).expect_err("101 of 101");
        assert_eq!((stopped.dead, stopped.records), (101, 101));
        assert_eq!(
            stopped.to_string(),
            "101 of the latest 101 records are dead letters; the limit is 100 in 10000"
        );
    }

    #[test]
    fn old_batches_leave_the_window() {
        let mut limit = DeadLetterLimit::new(100);
        for _ in 0..1_000 {
            // 1 % for ever: at the limit, never above.
            assert_eq!(limit.count(1_000, 10), Ok(()));
        }
        assert_eq!(limit.batches.len(), 10);
        assert!(limit.count(1_000, 11).is_err());
        for _ in 0..10 {
            let _outcome = limit.count(1_000, 0);
        }
        assert_eq!(limit.count(1_000, 100), Ok(()));
    }

    #[test]
    fn a_batch_larger_than_the_window_is_judged_by_its_share() {
        assert_eq!(DeadLetterLimit::new(100).count(50_000, 500), Ok(()));
        assert!(DeadLetterLimit::new(100).count(50_000, 501).is_err());
        assert_eq!(
            DeadLetterLimit::new(WINDOW_RECORDS).count(50_000, 50_000),
            Ok(())
        );
        assert!(DeadLetterLimit::new(0).count(50_000, 1).is_err());
        assert_eq!(DeadLetterLimit::new(0).count(0, 0), Ok(()));
    }
}
