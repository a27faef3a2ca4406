//! Whether the input as a whole has stopped: by the wall clock, for no record moves the clock of a stream that has none.
//!
//! What is usual is learnt as for a key ([`crate::detect::silence`]): the longest time between two arrivals, times the silence factor, and a minute at
//! least. It is known only after ten arrivals over ten minutes, counted from when everything that lay in Kafka was read: how fast a
//! backlog is read says nothing of how records come. So a stream of one an hour is not called silent after a minute.

use std::time::Duration;

use crate::detect::Params;
use crate::detect::silence::RECORDS_MIN;
use crate::time::Timestamp;

/// The shortest silence that is told.
const PATIENCE_MIN: Duration = Duration::from_secs(60);
/// How long arrivals are watched before it is known what is usual.
const WATCHED_MIN: Duration = Duration::from_secs(600);
/// What comes within it is one arrival; and so old is what is known of how much was read of late.
const ONCE: Duration = Duration::from_secs(1);

/// When records came.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// When records were last read.
    last: Option<Timestamp>,
    /// From when on the silence counts: the same, or when partitions were last taken over.
    since: Option<Timestamp>,
    /// When everything that lay in Kafka had first been read.
    caught_up: Option<Timestamp>,
    longest_gap: Duration,
    /// Arrivals with some time before them.
    times: u64,
    /// Records read since, as of when.
    lately: (u64, Timestamp),
}

impl Arrivals {
    /// Records were read.
    pub(super) fn arrive(&mut self, now: Timestamp, records: u64) {
        if let (Some(since), Some(_)) = (self.since, self.caught_up) {
            let gap = now.since(since);
            self.longest_gap = self.longest_gap.max(gap);
            self.times += u64::from(ONCE <= gap);
        }
        self.lately.0 += records;
        self.last = Some(now);
        self.since = Some(now);
    }

    /// Nothing could come until now: partitions were taken over, or restored.
    pub(super) fn interrupted(&mut self, now: Timestamp) {
        self.since = Some(now);
    }

    /// Other partitions are read than before: what was usual is not so any more.
    pub(super) fn forget(&mut self) {
        *self = Self {
            last: self.last,
            since: self.since,
            ..Self::default()
        };
    }

    /// So many records lie ahead, if that is known. No more than were read within a second is no backlog.
    pub(super) fn lag(&mut self, now: Timestamp, lag: Option<u64>) {
        let (read, as_of) = self.lately;
        if self.last.is_some() && lag.is_some_and(|lag| lag <= read) {
            self.caught_up.get_or_insert(now);
        }
        if ONCE <= now.since(as_of) {
            self.lately = (0, now);
        }
    }

    /// When records were last read.
    pub(super) fn last(&self) -> Option<Timestamp> {
        self.last
    }

    /// How long may pass without a record; `None`: it is not known yet, or nobody wants to know.
    pub(super) fn patience(&self, params: &Params) -> Option<Duration> {
        let watched = self.last?.since(self.caught_up?);
        let known = WATCHED_MIN <= watched && RECORDS_MIN <= self.times;
        (known && params.silence_factor >= 1.0).then(|| {
            let longest = self.longest_gap.mul_f64(params.silence_factor);
            longest.max(PATIENCE_MIN).max(params.silence_min)
        })
    }

    /// Whether nothing has come for longer than usual.
    pub(super) fn silent(&self, now: Timestamp, params: &Params) -> bool {
        let patience = self.patience(params);
        let lasts = self.since.map(|since| now.since(since));
        matches!((patience, lasts), (Some(patience), Some(lasts)) if patience < lasts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every so many seconds a record from `from` on, `times` times, with nothing left to read. Answers when the last came.
    fn feed(arrivals: &mut Arrivals, from: i64, (every, times): (i64, i64)) -> i64 {
        for at in (0..times).map(|nth| from + nth * every) {
            let now = Timestamp(at * 1000);
            arrivals.arrive(now, 1);
            arrivals.lag(now, Some(0));
        }
        from + (times - 1) * every
    }

    fn silent(arrivals: &Arrivals, second: i64) -> bool {
        arrivals.silent(Timestamp(second * 1000), &Params::default())
    }

    #[test]
    fn an_input_that_came_every_second_is_silent_after_a_minute() {
        let mut arrivals = Arrivals::default();
        assert!(!silent(&arrivals, 1_000_000));
        let last = feed(&mut arrivals, 100, (1, 700));
        assert!(!silent(&arrivals, last + 60));
        assert!(silent(&arrivals, last + 61));
        // What is longer than usual once is usual afterwards, as for a key.
        let last = feed(&mut arrivals, last + 100, (1, 10));
        assert!(!silent(&arrivals, last + 500));
        assert!(silent(&arrivals, last + 501));
        let off = Params {
            silence_factor: 0.0,
            ..Params::default()
        };
        assert!(!arrivals.silent(Timestamp(i64::MAX), &off));
    }

    #[test]
    fn a_record_an_hour_is_never_silent_while_it_goes_on_so() {
        let mut arrivals = Arrivals::default();
        for hour in 0..100 {
            let last = feed(&mut arrivals, hour * 3600, (1, 1));
            assert!(!silent(&arrivals, last + 3599), "hour {hour}");
        }
        assert!(silent(&arrivals, 99 * 3600 + 5 * 3600 + 1));
    }

    #[test]
    fn what_comes_in_bursts_or_was_a_backlog_is_not_silent_between_them() {
        let mut arrivals = Arrivals::default();
        // A backlog that takes a quarter of an hour.
        for second in 0..900 {
            let now = Timestamp(second * 1000);
            arrivals.arrive(now, 1000);
            arrivals.lag(now, Some(1_000_000));
        }
        arrivals.lag(Timestamp(900_000), Some(0));
        for hour in 1..20 {
            assert!(!silent(&arrivals, hour * 3600 - 1), "hour {hour}");
            feed(&mut arrivals, hour * 3600, (1, 30));
        }
    }

    #[test]
    fn of_fewer_partitions_another_pace_is_usual() {
        let mut arrivals = Arrivals::default();
        let last = feed(&mut arrivals, 0, (1, 700));
        arrivals.forget();
        let last = feed(&mut arrivals, last + 300, (300, 9));
        assert!(!silent(&arrivals, last + 10_000));
        let last = feed(&mut arrivals, last + 300, (300, 3));
        assert!(!silent(&arrivals, last + 1500));
        assert!(silent(&arrivals, last + 1501));
    }

    #[test]
    fn an_outage_is_no_silence_of_the_input() {
        let mut arrivals = Arrivals::default();
        let last = feed(&mut arrivals, 0, (1, 700));
        arrivals.interrupted(Timestamp((last + 3600) * 1000));
        assert!(!silent(&arrivals, last + 3660));
        let last = feed(&mut arrivals, last + 3610, (1, 2));
        assert!(!silent(&arrivals, last + 60));
        // The gap that counts begins when it was read on.
        assert!(silent(&arrivals, last + 61));
    }
}
