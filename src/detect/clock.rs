//! Stream time: how much time has passed in a partition, and what time it is there, by what many keys' clocks agree on.
//!
//! No record, and no key, moves it alone where others disagree. Two numbers are kept. *Elapsed time* never goes back and measures
//! lengths: of silences, storms, and between snapshots. *Stream time* is elapsed time plus a shift, and says what time it is.
//!
//! A clock may be wrong by any amount and still run at the right rate. So each key is heard by a line of its own: its time minus how far its
//! clock was ahead of elapsed time when that was last found out. Elapsed time is the upper median of the newest lines of the keys heard
//! last (*voices*), as clocks in a network are synchronised by the midmost of their readings (Lamport and Melliar-Smith, "Synchronizing clocks in
//! the presence of faults", Journal of the ACM 32, 1985): fewer than half of them, whatever they say, cannot move it beyond the others. A step
//! that is too long for the key's own pace and for the partition's moves its line, not time: it is a clock that was set, or a gap in all keys
//! at once, in which nobody was silent. Who is behind, or catches up, does not speak for the time, unless it keeps pace with it.
//!
//! The shift follows when more than half of the voices are off to the same side by more than a bound.
//!
//! What it assumes: that of the keys heard lately fewer than half run at a wrong *rate* at the same time. With two keys one cannot know which
//! is right; then the step itself decides. Constant memory, a few dozen comparisons a record.

use serde::{Deserialize, Serialize};

use super::pace::{FACTOR, FLOOR_MS, Pace, Sequence};
use crate::stream::Offset;
use crate::time::Timestamp;

/// Voices that are counted at most.
const VOICES: usize = 15;

/// Turns after which a key that was not heard again is no voice any more.
const TURNS: u64 = 32;

/// Records after which the voices are asked anew if none of them spoke for the time. Records of one key in a row count as much as
/// [`IDLE_ROW`] of them do: it may be catching up.
const IDLE_MAX: u32 = 2000 * IDLE_ROW;

/// How many records of one key in a row count as one.
const IDLE_ROW: u32 = 16;

/// Records without one that speaks for the time, after which nobody's clock is called wrong.
const IDLE_SURE: u32 = 64 * IDLE_ROW;

/// Records of a key over which its clock's rate is compared with the partition's.
const RATE_RECORDS: u8 = 8;

/// Milliseconds that a clock may be off without being called wrong.
pub const AGREE_MS: i64 = 60_000;

/// Records in a row that are ahead, with others between them, by which a clock is called wrong ...
const AHEAD_MIN: u8 = 3;

/// ... and that are behind and do not catch up.
const BEHIND_MIN: u8 = 2 * RATE_RECORDS;

/// How fast a clock runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Not half as fast as elapsed time.
    Slow,
    /// About as fast.
    Steady,
    /// More than twice as fast: its records come late, and catch up. So it is taken to be until it is known.
    Fast,
}

/// What is remembered of a key's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyClock {
    /// The offset of its first record: no two keys share it.
    pub born: Offset,
    /// Its time at its last record, not later than Kafka's; [`Timestamp::MIN`]: there was none.
    pub time: Timestamp,
    /// Elapsed time at its last record.
    pub heard: Timestamp,
    /// Its time, and elapsed time, since when its rate is measured ...
    pub since: (Timestamp, Timestamp),
    /// ... over so many records.
    pub records: u8,
    /// What that came to the last time.
    pub rate: Rate,
    /// How far its clock is ahead of elapsed time, in milliseconds.
    pub ahead: i64,
    /// Its records by its own clock, whatever Kafka's says.
    pub sequence: Sequence,
    /// Its time minus stream time at its last record, in milliseconds.
    pub skew: i64,
    /// Records in a row by which that is no accident.
    pub streak: u8,
    /// It was told of.
    pub told: bool,
}

impl KeyClock {
    /// Of a key whose first record is at `born`.
    #[must_use]
    pub fn new(born: Offset) -> Self {
        Self {
            born,
            time: Timestamp::MIN,
            heard: Timestamp::MIN,
            since: (Timestamp::MIN, Timestamp::MIN),
            records: 0,
            rate: Rate::Fast,
            ahead: 0,
            sequence: Sequence::default(),
            skew: 0,
            streak: 0,
            told: false,
        }
    }

    /// By how much its clock is wrong, in milliseconds, ahead above 0; `None`: not that anybody could tell.
    #[must_use]
    pub fn wrong(&self) -> Option<i64> {
        let least = if self.skew > 0 { AHEAD_MIN } else { BEHIND_MIN };
        (self.streak >= least).then_some(self.skew)
    }

    /// Measures the rate of its clock, which shows `time`, against elapsed time.
    fn measure(&mut self, time: Timestamp, elapsed: Timestamp) {
        if self.since.0 == Timestamp::MIN {
            self.since = (time, elapsed);
            return;
        }
        self.records += 1;
        if self.records < RATE_RECORDS {
            return;
        }
        let shown = time.0.saturating_sub(self.since.0.0);
        let passed = elapsed.0.saturating_sub(self.since.1.0);
        if shown > passed.saturating_mul(2) {
            self.rate = Rate::Fast;
        } else if shown < passed / 2 {
            self.rate = Rate::Slow;
        } else if passed > 0 {
            self.rate = Rate::Steady;
        }
        (self.since, self.records) = ((time, elapsed), 0);
    }
}

/// A key that speaks for the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voice {
    /// Its [`KeyClock::born`].
    key: Offset,
    /// When it was heard, in turns.
    turn: u64,
    /// Elapsed time by its line.
    line: i64,
    /// Its time minus elapsed time.
    off: i64,
}

/// A partition's time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamClock {
    /// Elapsed time, beginning with the time of the first record; [`Timestamp::MIN`]: nothing was heard.
    pub elapsed: Timestamp,
    /// Stream time minus elapsed time, in milliseconds.
    shift: i64,
    /// Those heard last, the line that is furthest on first.
    voices: Vec<Voice>,
    /// Records that spoke for the time.
    turn: u64,
    /// Records since then.
    idle: u32,
    /// How far records usually take time forward.
    pace: Pace,
    /// Whose the last record was.
    last: Option<Offset>,
    /// How often stream time was put back: what is due by times from before is void.
    pub era: u32,
}

impl Default for StreamClock {
    fn default() -> Self {
        Self {
            elapsed: Timestamp::MIN,
            shift: 0,
            voices: Vec::new(),
            turn: 0,
            idle: 0,
            pace: Pace::default(),
            last: None,
            era: 0,
        }
    }
}

/// The time at a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// For lengths.
    pub elapsed: Timestamp,
    /// For people.
    pub stream: Timestamp,
}

/// What a record's time came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Elapsed time by the key's own line: at least that of the stream, and not beyond what its pace explains.
    pub elapsed: Timestamp,
    /// Its clock was found to be wrong by so many milliseconds, for the first time.
    pub wrong: Option<i64>,
}

impl StreamClock {
    /// What time it is; [`Timestamp::MIN`]: nothing was heard.
    #[must_use]
    pub fn stream(&self) -> Timestamp {
        self.tell(self.elapsed)
    }

    /// Both times.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment {
            elapsed: self.elapsed,
            stream: self.stream(),
        }
    }

    /// What time it was at an elapsed time, for people.
    #[must_use]
    pub fn tell(&self, elapsed: Timestamp) -> Timestamp {
        Timestamp(elapsed.0.saturating_add(self.shift))
    }

    /// Takes in the time of a key's next record, before its [`Sequence`] does: its `own`, and Kafka's, which bounds it where there is one.
    pub fn hear(&mut self, key: &mut KeyClock, (own, kafka): (Timestamp, Timestamp)) -> Heard {
        let time = if kafka.0 > 0 { own.min(kafka) } else { own };
        let known = key.time != Timestamp::MIN;
        if self.elapsed == Timestamp::MIN {
            self.elapsed = time;
        }
        let step = time.0.saturating_sub(key.time.0).saturating_abs();
        if !known {
            key.ahead = self.shift;
        }
        let lead = time
            .0
            .saturating_sub(key.ahead)
            .saturating_sub(self.elapsed.0);
        let usual = key.sequence.pace.longest_ms().max(self.pace.longest_ms());
        let reach = FACTOR * usual.max(FLOOR_MS);
        self.pace
            .step_warily(if known { lead.min(step) } else { lead });
        let set = lead > reach && (!known || step > reach);
        let back = lead < -reach && key.ahead > self.shift;
        if set || back {
            key.ahead = time.0.saturating_sub(self.elapsed.0).max(self.shift);
        }
        let line = time.0.saturating_sub(key.ahead);
        if self.elapsed.0.saturating_sub(key.heard.0) > reach {
            // It was away: what comes now may have waited.
            (key.rate, key.since, key.records) = (Rate::Fast, (time, self.elapsed), 0);
        }
        let leads = line >= self.elapsed.0 && !set && time > key.time;
        self.vote(key, (time.0, line), leads);
        (key.time, key.heard) = (time, self.elapsed);
        key.measure(time, self.elapsed);
        let wrong = self.notice(key, own);
        self.last = Some(key.born);
        let latest = self.elapsed.0.saturating_add(reach);
        Heard {
            elapsed: Timestamp(line.clamp(self.elapsed.0, latest)),
            wrong,
        }
    }

    /// Lets a key speak for the time if it leads, or keeps pace with it, or did lately: what it said then is void.
    fn vote(&mut self, key: &KeyClock, (time, line): (i64, i64), leads: bool) {
        if self.idle >= IDLE_MAX {
            self.voices.clear();
        }
        let speaks = leads || key.rate == Rate::Steady;
        let (mut before, mut oldest) = (None, 0);
        for (at, voice) in self.voices.iter().enumerate() {
            if voice.key == key.born {
                before = Some(at);
            }
            if voice.turn < self.voices[oldest].turn {
                oldest = at;
            }
        }
        let weight = if self.last == Some(key.born) {
            1
        } else {
            IDLE_ROW
        };
        self.idle = if speaks {
            0
        } else {
            self.idle.saturating_add(weight)
        };
        if !speaks && before.is_none() && !self.voices.is_empty() {
            return;
        }
        let said = before.map(|at| self.voices[at].turn);
        let voice = Voice {
            key: key.born,
            // Who only takes back what it said does not show that time goes on.
            turn: said.filter(|_| !speaks).unwrap_or(self.turn),
            line,
            off: 0,
        };
        self.turn += u64::from(voice.turn == self.turn);
        let at = self.place(voice, before, oldest);
        let middle = (self.voices.len() - 1) / 2;
        self.elapsed = self.elapsed.max(Timestamp(self.voices[middle].line));
        self.voices[at].off = time.saturating_sub(self.elapsed.0);
        self.agree(self.voices[at].off);
    }

    /// Puts a voice where its line belongs, in the place of what the key said before, or of the oldest if that is stale or there is no room.
    fn place(&mut self, voice: Voice, before: Option<usize>, oldest: usize) -> usize {
        let stale = |voices: &[Voice]| {
            let heard = voices.get(oldest).map(|voice| voice.turn);
            heard.is_some_and(|heard| voice.turn.saturating_sub(heard) >= TURNS)
        };
        let mut at = match before {
            Some(at) if at != oldest && stale(&self.voices) => {
                self.voices.remove(oldest);
                at - usize::from(oldest < at)
            }
            Some(at) => at,
            None if self.voices.len() == VOICES || stale(&self.voices) => oldest,
            None => {
                self.voices.push(voice);
                self.voices.len() - 1
            }
        };
        while at > 0 && self.voices[at - 1].line <= voice.line {
            self.voices[at] = self.voices[at - 1];
            at -= 1;
        }
        while at + 1 < self.voices.len() && self.voices[at + 1].line > voice.line {
            self.voices[at] = self.voices[at + 1];
            at += 1;
        }
        self.voices[at] = voice;
        at
    }

    /// Moves stream time to where most voices say it is, if the newest of them disagrees with it.
    fn agree(&mut self, newest: i64) {
        let bound = AGREE_MS.max(2 * self.pace.longest_ms());
        let side = |off: i64| {
            let off = off.saturating_sub(self.shift);
            if off.saturating_abs() > bound {
                off.signum()
            } else {
                0
            }
        };
        let newest = side(newest);
        if newest == 0 {
            return;
        }
        let mut theirs: Vec<i64> = self.voices.iter().map(|voice| voice.off).collect();
        theirs.retain(|off| side(*off) == newest);
        if theirs.len() * 2 <= self.voices.len() {
            return;
        }
        theirs.sort_unstable();
        self.shift = theirs[(theirs.len() - 1) / 2];
        if newest < 0 {
            self.era += 1;
        }
    }

    /// Whether the key's clock, which shows `own`, is wrong. One that is ahead is, as nothing comes from the future; but all keys are for a
    /// moment after a gap in all of them, so others must have been heard in between. One that is behind may only be late: then it catches up.
    fn notice(&self, key: &mut KeyClock, own: Timestamp) -> Option<i64> {
        let bound = AGREE_MS.max(2 * key.sequence.pace.longest_ms());
        let before = std::mem::replace(&mut key.skew, self.skew(own));
        let mut tell = key.skew;
        if tell.saturating_abs() <= bound {
            // It was put back itself, it is not stream time that caught up: it was wrong for a record.
            let step = key
                .sequence
                .last
                .map_or(0, |last| own.0.saturating_sub(last.0));
            key.streak = 0;
            if before <= bound || step >= -bound {
                return None;
            }
            tell = before;
        } else {
            let late = tell < 0 && key.rate == Rate::Fast;
            if late || before.signum() != tell.signum() {
                key.streak = 0;
            } else if self.last != Some(key.born) && self.idle < IDLE_SURE {
                key.streak = key.streak.saturating_add(1);
            }
            key.wrong()?;
        }
        (!std::mem::replace(&mut key.told, true)).then_some(tell)
    }

    /// How far a time is ahead of those that lead, or behind stream time; 0 in between.
    fn skew(&self, own: Timestamp) -> i64 {
        let front = self.voices.get(self.voices.len() / 4);
        let front = front.map_or(self.elapsed.0, |voice| voice.line.max(self.elapsed.0));
        let ahead = own.0.saturating_sub(self.tell(Timestamp(front)).0);
        let behind = own.0.saturating_sub(self.stream().0);
        ahead.max(0).saturating_add(behind.min(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_700_000_000_000;

    /// Keys and their clocks: what each shows at true time `t` (ms since the start), and how often it speaks.
    struct Fleet {
        clock: StreamClock,
        keys: Vec<KeyClock>,
        told: Vec<(usize, i64)>,
    }

    impl Fleet {
        fn new(keys: usize) -> Self {
            Self {
                clock: StreamClock::default(),
                keys: (0..keys as i64).map(|i| KeyClock::new(Offset(i))).collect(),
                told: Vec::new(),
            }
        }

        /// A record of key `i` whose clock shows `shows` ms since the start; Kafka's timestamp is the same.
        fn hear(&mut self, i: usize, shows: i64) -> Timestamp {
            let time = Timestamp(START + shows);
            let key = &mut self.keys[i];
            let heard = self.clock.hear(key, (time, time));
            key.sequence.follows(time, 10);
            if let Some(ms) = heard.wrong {
                self.told.push((i, ms));
            }
            heard.elapsed
        }

        /// `rounds` records of each key, `every` ms apart and spread evenly, from `from` on.
        fn run(
            &mut self,
            (from, every): (i64, i64),
            rounds: i64,
            shows: impl Fn(usize, i64) -> i64,
        ) {
            let n = self.keys.len() as i64;
            for at in 0..rounds * n {
                let i = (at % n) as usize;
                let t = from + at * every / n;
                self.hear(i, shows(i, t));
            }
        }

        fn elapsed(&self) -> i64 {
            self.clock.elapsed.0 - START
        }

        fn stream(&self) -> i64 {
            self.clock.stream().0 - START
        }
    }

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    const YEAR: i64 = 365 * 24 * HOUR;

    fn close(found: i64, expected: i64, by: i64) {
        assert!((found - expected).abs() <= by, "{found}, not {expected}");
    }

    #[test]
    fn honest_keys_tell_the_time() {
        for (keys, every) in [
            (1, 1000),
            (2, 1),
            (50, 1000),
            (1000, 1000),
            (3, HOUR),
            (50, HOUR),
        ] {
            let mut fleet = Fleet::new(keys);
            fleet.run((0, every), 40, |_, t| t);
            close(fleet.stream(), 40 * every, every + MINUTE);
            // The first gaps of each key are unknown.
            assert!(
                fleet.elapsed() >= 37 * every - every / 2,
                "{keys} {every} {}",
                fleet.elapsed()
            );
            assert!(fleet.told.is_empty(), "{keys} {every} {:?}", fleet.told);
        }
    }

    #[test]
    fn one_wrong_clock_moves_nobody_elses_time_and_is_named() {
        for ahead in [
            5 * MINUTE,
            55 * MINUTE,
            HOUR,
            10 * YEAR,
            -5 * MINUTE,
            -HOUR,
            -10 * YEAR,
        ] {
            for bad in [0, 7] {
                let mut fleet = Fleet::new(50);
                let wrong = |i, t| if i == bad { t + ahead } else { t };
                fleet.run((0, 1000), 100, wrong);
                close(fleet.stream(), 100_000, 1000);
                assert_eq!(fleet.told.len(), 1, "{ahead} {bad}");
                assert_eq!(fleet.told[0].0, bad, "{ahead}");
                close(fleet.told[0].1, ahead, 1000);
                close(fleet.keys[bad].wrong().unwrap(), ahead, 1000);
            }
        }
    }

    #[test]
    fn a_clock_that_becomes_wrong_or_is_wrong_once_moves_nothing() {
        for ahead in [5 * MINUTE, 55 * MINUTE, 10 * YEAR] {
            for keys in [2, 3, 50] {
                for once in [false, true] {
                    let mut fleet = Fleet::new(keys);
                    fleet.run((0, 1000), 30, |_, t| t);
                    let before = fleet.elapsed();
                    let wrong = |i, t: i64| {
                        let now = !once || (40_000..41_000).contains(&t);
                        if i == 1 && now { t + ahead } else { t }
                    };
                    fleet.run((30_000, 1000), 30, wrong);
                    close(fleet.elapsed() - before, 30_000, 1500);
                    close(fleet.stream(), 60_000, 1500);
                    let named: Vec<usize> = fleet.told.iter().map(|(i, _)| *i).collect();
                    assert_eq!(named, [1], "{ahead} {keys} {once}");
                    close(fleet.told[0].1, ahead, 2000);
                }
            }
        }
    }

    #[test]
    fn clocks_that_stand_still_run_fast_or_jump_about_move_nothing() {
        let odd: [&dyn Fn(i64) -> i64; 4] = [
            &|_| 0,
            &|t| 3 * t,
            &|t| t + (t / 1000 * 7919 % 7201 - 3600) * 1000,
            &|t| if t / 1000 % 9 == 4 { t + HOUR } else { t },
        ];
        for (which, odd) in odd.iter().enumerate() {
            let mut fleet = Fleet::new(20);
            fleet.run((0, 1000), 600, |i, t| if i == 3 { odd(t) } else { t });
            close(fleet.stream(), 600_000, 2000);
            close(fleet.elapsed(), 600_000, 2000);
            let named: Vec<usize> = fleet.told.iter().map(|(i, _)| *i).collect();
            assert_eq!(named, [3], "{which}");
        }
    }

    #[test]
    fn a_time_of_the_first_record_that_nobody_shares_is_forgotten() {
        for ahead in [10 * YEAR, -10 * YEAR] {
            let mut fleet = Fleet::new(5);
            fleet.hear(0, ahead);
            // It is never heard of again.
            let n = 4;
            for at in 0..4000_i64 {
                fleet.hear(1 + (at % n) as usize, at * 250);
            }
            close(fleet.stream(), 1_000_000, 2000);
            assert!(fleet.told.iter().all(|(i, _)| *i == 0), "{:?}", fleet.told);
        }
    }

    #[test]
    fn a_key_that_catches_up_is_neither_ahead_nor_wrong_and_moves_nothing() {
        let mut fleet = Fleet::new(20);
        fleet.run((0, 1000), 60, |_, t| t);
        for t in (60_000..3_600_000).step_by(1000) {
            for i in 1..20 {
                fleet.hear(i, t);
            }
        }
        let (elapsed, stream) = (fleet.elapsed(), fleet.stream());
        close(stream, 3_600_000, 2000);
        for t in (60_000..3_600_000).step_by(1000) {
            fleet.hear(0, t);
        }
        assert_eq!((fleet.elapsed(), fleet.stream()), (elapsed, stream));
        assert!(fleet.told.is_empty(), "{:?}", fleet.told);
    }

    #[test]
    fn a_fast_key_that_catches_up_does_not_outvote_a_slow_one() {
        let mut fleet = Fleet::new(2);
        for t in (0..10 * MINUTE).step_by(100) {
            fleet.hear(0, t);
            if t % MINUTE == 0 {
                fleet.hear(1, t);
            }
        }
        for minute in 10..20 {
            fleet.hear(1, minute * MINUTE);
        }
        let stream = fleet.stream();
        close(stream, 19 * MINUTE, 1000);
        for t in (10 * MINUTE..19 * MINUTE).step_by(100) {
            fleet.hear(0, t);
            assert!(fleet.stream() >= stream, "{t}");
        }
    }

    #[test]
    fn most_of_a_fleet_catching_up_at_once_does_not_take_the_time_back_or_on() {
        let mut fleet = Fleet::new(50);
        fleet.run((0, 1000), 60, |_, t| t);
        for t in (60_000..1_800_000).step_by(1000) {
            for i in 30..50 {
                fleet.hear(i, t);
            }
        }
        let era = fleet.clock.era;
        // In two minutes the others send what they kept.
        let mut late = 60_000;
        for second in 0..120 {
            let now = 1_800_000 + second * 1000;
            for i in 30..50 {
                fleet.hear(i, now);
                for j in 0..30 {
                    fleet.hear(j, late.min(now));
                }
                late += 750;
            }
            close(fleet.stream(), now, 30_000);
        }
        assert_eq!(fleet.clock.era, era);
    }

    #[test]
    fn a_gap_of_all_keys_is_no_wrong_clock_and_nobodys_silence() {
        let mut fleet = Fleet::new(20);
        fleet.run((0, 1000), 60, |_, t| t);
        let before = fleet.elapsed();
        fleet.run((8 * HOUR, 1000), 60, |_, t| t);
        assert!(fleet.told.is_empty(), "{:?}", fleet.told);
        close(fleet.stream(), 8 * HOUR + 60_000, 1500);
        close(fleet.elapsed() - before, 60_000, 3000);
    }

    #[test]
    fn kafkas_time_bounds_a_clock_that_is_ahead_where_there_is_one() {
        let mut clock = StreamClock::default();
        let mut keys = [0, 1, 2, 3].map(|i| KeyClock::new(Offset(i)));
        let mut wrong = Vec::new();
        // Three of four are in the wrong time zone.
        for at in 0..400_i64 {
            let i = (at % 4) as usize;
            let kafka = Timestamp(START + at * 250);
            let own = Timestamp(kafka.0 + if i > 0 { HOUR } else { -200 });
            wrong.extend(clock.hear(&mut keys[i], (own, kafka)).wrong);
            keys[i].sequence.follows(own, 10);
        }
        close(clock.stream().0, START + 100_000, 1500);
        assert!(
            wrong.len() == 3 && wrong.iter().all(|ms| (ms - HOUR).abs() < 1500),
            "{wrong:?}"
        );
        // Where there is none, it bounds nothing.
        let mut clock = StreamClock::default();
        let mut key = KeyClock::new(Offset(0));
        for at in 0..20 {
            clock.hear(&mut key, (Timestamp(START + at * 1000), Timestamp(0)));
        }
        close(clock.stream().0, START + 19_000, 0);
    }

    #[test]
    fn the_time_goes_on_when_most_keys_die_and_the_dead_are_due() {
        let mut fleet = Fleet::new(12);
        fleet.run((0, 1000), 60, |_, t| t);
        for t in (60_000..180_000).step_by(1000) {
            fleet.hear(0, t);
        }
        close(fleet.elapsed(), 180_000, 2000);
    }
}
