//! Which records of a key make its windows, and with what numbers: the rules that scoring, backtests and training share.
//!
//! A record that comes too late is left out as if it had never come. Of the others, in the order in which they came, W neighbours make a
//! window; what is no neighbour, [`super::pace`] says. A column under the policy `last` has the key's last value where one is missing, whatever
//! lies between. That the same records give the same windows wherever they are built is proved in `train::window`.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::clock::{KeyClock, StreamClock};
use crate::stream::Offset;
use crate::time::Timestamp;

/// Whether a record at `time` is too late beside the newest of its key: older by more than `bound`; without one, none is.
#[must_use]
pub fn is_late(newest: Timestamp, time: Timestamp, bound: Option<Duration>) -> bool {
    bound.is_some_and(|bound| time < newest.minus(bound))
}

/// Stream time before a record and with it, [`Timestamp::MIN`] where there was none, and Kafka's time of the record, 0 where there is none.
#[derive(Clone, Copy, Debug)]
pub struct Around {
    /// Before it.
    pub before: Timestamp,
    /// With it.
    pub now: Timestamp,
    /// Kafka's.
    pub kafka: Timestamp,
}

/// The time at which a record makes others of its key late. A clock that was ahead once must not make late what comes after it: no record is
/// newer than the stream's time was, or than Kafka saw it, by more than the bound.
#[must_use]
pub fn bounded_time(time: Timestamp, bound: Option<Duration>, around: Around) -> Timestamp {
    let Some(bound) = bound else { return time };
    let stream = if around.before == Timestamp::MIN {
        around.now
    } else {
        around.before
    };
    let kafka = Some(around.kafka).filter(|kafka| kafka.0 > 0);
    let most = kafka.map_or(stream, |kafka| stream.min(kafka));
    time.min(most.plus(bound))
}

/// Fills what is missing of `row` with the key's last values, in `columns`, and remembers what is not.
pub fn fill_last(columns: impl Iterator<Item = usize>, last: &mut [f64], row: &mut [f64]) {
    for column in columns {
        if row[column].is_nan() {
            row[column] = last[column];
        } else {
            last[column] = row[column];
        }
    }
}

/// Finds the late records of a stretch of a partition's log that is read by itself, with nothing known of what came before.
#[derive(Debug)]
pub struct LateRecords {
    bound: Duration,
    window: usize,
    clock: StreamClock,
    /// By number: the clock of a key, and the newest time that makes others late.
    keys: FxHashMap<usize, (KeyClock, Timestamp)>,
}

impl LateRecords {
    /// Those older than their key's newest by more than `bound`, where windows have `window` records.
    #[must_use]
    pub fn new(bound: Duration, window: usize) -> Self {
        Self {
            bound,
            window,
            clock: StreamClock::default(),
            keys: FxHashMap::default(),
        }
    }

    /// Takes in the next record: its key's number, its place and its time. Answers whether it is late.
    pub fn is_late(&mut self, key: usize, offset: Offset, time: Timestamp) -> bool {
        let begun = || (KeyClock::new(offset), Timestamp::MIN);
        let (clock, newest) = self.keys.entry(key).or_insert_with(begun);
        let bound = Some(self.bound);
        if is_late(*newest, time, bound) {
            return true;
        }
        let before = self.clock.stream();
        self.clock.hear(clock, (time, Timestamp(0)));
        clock.sequence.follows(time, self.window);
        let around = Around {
            before,
            now: self.clock.stream(),
            kafka: Timestamp(0),
        };
        *newest = (*newest).max(bounded_time(time, bound, around));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_by_hand() {
        let bound = Some(Duration::from_secs(10));
        let at = |ms: i64| Timestamp(1_700_000_000_000 + ms);
        assert!(!is_late(at(20_000), at(10_000), bound));
        assert!(is_late(at(20_000), at(9_999), bound));
        assert!(!is_late(at(20_000), at(0), None));
        assert!(!is_late(Timestamp::MIN, at(0), bound), "the key's first");
        let around = |before, now, kafka| Around { before, now, kafka };
        // Half an hour ahead of the stream, of Kafka, and of nothing.
        let ahead = at(1_800_000);
        let none = Timestamp(0);
        assert_eq!(
            bounded_time(ahead, bound, around(at(5), at(7), none)),
            at(10_005)
        );
        assert_eq!(
            bounded_time(ahead, bound, around(at(5), at(7), at(3))),
            at(10_003)
        );
        assert_eq!(
            bounded_time(ahead, bound, around(Timestamp::MIN, at(7), none)),
            at(10_007)
        );
        assert_eq!(bounded_time(ahead, None, around(at(5), at(7), none)), ahead);
    }

    #[test]
    fn one_wrong_time_makes_nothing_late() {
        let mut late = LateRecords::new(Duration::from_secs(60), 10);
        let found: Vec<i64> = (0..200_i64)
            .filter(|&i| {
                let ahead = match i {
                    50 => 86_400_000,
                    150 => -90_000,
                    _ => 0,
                };
                let time = 1_700_000_000_000 + 1000 * i + ahead;
                late.is_late(0, Offset(i), Timestamp(time))
            })
            .collect();
        assert_eq!(found, [150]);
    }

    #[test]
    fn last_values_stand_in() {
        let (mut last, nan) = (vec![f64::NAN; 2], f64::NAN);
        let mut rows = [[1.0, nan], [nan, 2.0], [nan, nan]];
        for row in &mut rows {
            fill_last(0..1_usize, &mut last, row);
        }
        assert!(rows.iter().all(|row| row[0].to_bits() == 1.0_f64.to_bits()));
        assert!(rows[0][1].is_nan() && rows[2][1].is_nan(), "not asked for");
    }
}
