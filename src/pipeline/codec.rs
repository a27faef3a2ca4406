//! A key's state as bytes, and back, bit for bit: little-endian, the version first.

use std::collections::VecDeque;
use std::time::Duration;

use super::state::{KeyState, Silence};
use crate::alert::Severity;
use crate::detect::clock::{KeyClock, Rate};
use crate::detect::cold::ColdStart;
use crate::detect::drift::Drift;
use crate::detect::episode::{Episode, EpisodeState};
use crate::detect::evidence::{Evidence, Place};
use crate::detect::pace::{Pace, Sequence};
use crate::detect::seasonal::{Season, Seasons, TERMS, Tally};
use crate::detect::silence::Rhythm;
use crate::detect::within::{KeyEpisodes, Within};
use crate::model::card::ModelVersion;
use crate::stats::memory::Memory;
use crate::stream::Offset;
use crate::time::Timestamp;

/// The version that every entry begins with.
pub(super) const FORMAT: u8 = 2;

/// The version that keys begin with.
const KEY_FORMAT: u8 = 7;

/// Little-endian numbers, one after the other.
#[derive(Debug, Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }
    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn f64(&mut self, value: f64) {
        self.u64(value.to_bits());
    }
    fn millis(&mut self, value: Duration) {
        self.u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX));
    }
    fn all<'a>(&mut self, len: usize, values: impl Iterator<Item = &'a f64>) {
        self.u64(len as u64);
        for value in values {
            self.f64(*value);
        }
    }
    fn season(&mut self, season: &Season) {
        self.u64(season.seen);
        self.f64(season.origin);
        self.f64(season.largest);
        self.all(season.weights.len(), season.weights.iter());
        self.all(season.ignorance.len(), season.ignorance.iter());
        self.f64(season.drift);
        self.i64(season.since.0);
        self.f64(season.level);
        for error in season.errors {
            self.f64(error);
        }
        for tally in season.tallies.iter().chain([&season.strange]) {
            self.u64(tally.total);
            self.u64(tally.until);
            self.u64(tally.cells.len() as u64);
            for (cell, count) in &tally.cells {
                self.i64(i64::from(*cell));
                self.u64(u64::from(*count));
            }
        }
        self.u64(season.waiting.len() as u64);
        for counted in &season.waiting {
            for number in counted {
                self.f64(*number);
            }
        }
        self.f64(season.held);
    }
    fn clock(&mut self, clock: &KeyClock) {
        self.i64(clock.born.0);
        self.i64(clock.time.0);
        self.i64(clock.heard.0);
        self.i64(clock.since.0.0);
        self.i64(clock.since.1.0);
        self.u8(clock.records);
        self.u8(match clock.rate {
            Rate::Slow => 0,
            Rate::Steady => 1,
            Rate::Fast => 2,
        });
        self.i64(clock.ahead);
        self.u8(u8::from(clock.sequence.last.is_some()));
        self.i64(clock.sequence.last.unwrap_or_default().0);
        self.i64(clock.sequence.pace.longest);
        self.u8(clock.sequence.pace.steps);
        self.i64(clock.skew);
        self.u8(clock.streak);
        self.u8(u8::from(clock.told));
    }
    fn episode(&mut self, episode: &Episode) {
        self.i64(episode.onset.0);
        self.i64(episode.onset_time.0);
        for value in [
            episode.peak_score,
            episode.peak_p,
            episode.strength,
            episode.peak_strength,
            episode.threshold,
            episode.level,
            episode.calm,
        ] {
            self.f64(value);
        }
        self.u64(u64::from(episode.scale));
        self.u8(match episode.severity {
            Severity::Low => 0,
            Severity::Medium => 1,
            Severity::High => 2,
            Severity::Critical => 3,
        });
        self.u64(episode.records);
        self.place(episode.last);
        self.u64(u64::from(episode.recurred));
        self.u8(u8::from(episode.suppressed));
    }
    fn place(&mut self, place: Place) {
        self.u64(place.record);
        self.i64(place.offset.0);
        self.i64(place.time.0);
    }
    fn drift(&mut self, drift: &Drift) {
        self.f64(drift.sum);
        self.u64(u64::from(drift.records));
        self.place(drift.first);
        self.f64(drift.usual);
        self.f64(drift.own_sum);
        self.u64(u64::from(drift.own_blocks));
        self.u64(u64::from(drift.streak));
        self.f64(drift.evidence);
        self.place(drift.since);
        self.f64(drift.level);
        self.u8(u8::from(drift.drifting));
    }
    fn episodes(&mut self, episodes: &EpisodeState) {
        self.u64(episodes.records);
        self.i64(episodes.first.0);
        let evidence = &episodes.evidence;
        for level in evidence.levels {
            self.f64(level);
        }
        for place in evidence.since {
            self.place(place);
        }
        self.f64(evidence.usual_sum);
        self.f64(evidence.usual_records);
        for (sum, records) in evidence.waiting {
            self.f64(sum);
            self.f64(records);
        }
        self.u8(u8::from(episodes.open.is_some()));
        if let Some(open) = &episodes.open {
            self.episode(open);
        }
        self.u8(u8::from(episodes.closed.is_some()));
        if let Some((at, recurred)) = &episodes.closed {
            self.i64(at.0);
            self.u64(u64::from(*recurred));
        }
    }
    fn key_episodes(&mut self, episodes: &KeyEpisodes) {
        self.episodes(&episodes.own);
        self.u8(u8::from(episodes.within.is_some()));
        if let Some(within) = &episodes.within {
            self.within(within);
        }
    }
    fn within(&mut self, within: &Within) {
        self.u64(within.records);
        self.f64(within.mean);
        self.f64(within.variance);
        self.f64(within.quantile);
        self.f64(within.excess);
        self.episodes(&within.episodes);
    }
}

/// The inverse of [`Writer`]; `None` where the bytes end early or make no sense.
#[derive(Debug)]
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
    fn u64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }
    fn i64(&mut self) -> Option<i64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i64::from_le_bytes(*bytes))
    }
    fn f64(&mut self) -> Option<f64> {
        self.u64().map(f64::from_bits)
    }
    fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
    fn time(&mut self) -> Option<Timestamp> {
        self.i64().map(Timestamp)
    }
    fn offset(&mut self) -> Option<Offset> {
        self.i64().map(Offset)
    }
    /// A count of items of at least `size` bytes: never more than there are bytes for, so that a bad count allocates nothing.
    fn len(&mut self, size: usize) -> Option<usize> {
        let len = usize::try_from(self.u64()?).ok()?;
        (len <= self.0.len() / size).then_some(len)
    }
    fn all<C: FromIterator<f64>>(&mut self) -> Option<C> {
        let len = self.len(8)?;
        (0..len).map(|_| self.f64()).collect()
    }
    fn tally(&mut self) -> Option<Tally> {
        let (total, until) = (self.u64()?, self.u64()?);
        let mut cells = Vec::new();
        for _ in 0..self.len(16)? {
            let cell = i32::try_from(self.i64()?).ok()?;
            cells.push((cell, u32::try_from(self.u64()?).ok()?));
        }
        Some(Tally {
            cells,
            total,
            until,
        })
    }
    /// The seasons that end an entry: none, that which judges, or that and the one that ranks.
    #[expect(clippy::option_option, reason = "unreadable, none, or one")]
    fn seasons(&mut self) -> Option<Option<Box<Seasons>>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let judge = self.season()?;
        let ranking = if self.flag()? {
            Some(self.season()?)
        } else {
            None
        };
        Some(Some(Box::new(Seasons { judge, ranking })))
    }
    fn season(&mut self) -> Option<Season> {
        let season = Season {
            seen: self.u64()?,
            origin: self.f64()?,
            largest: self.f64()?,
            weights: self.all()?,
            ignorance: self.all()?,
            drift: self.f64()?,
            since: self.time()?,
            level: self.f64()?,
            errors: [self.f64()?, self.f64()?],
            tallies: [self.tally()?, self.tally()?],
            strange: self.tally()?,
            waiting: (0..self.len(24)?)
                .map(|_| Some([self.f64()?, self.f64()?, self.f64()?]))
                .collect::<Option<_>>()?,
            held: self.f64()?,
        };
        let shape = (season.weights.len(), season.ignorance.len());
        (shape == (0, 0) || shape == (TERMS, TERMS * TERMS)).then_some(season)
    }
    fn count(&mut self) -> Option<u32> {
        u32::try_from(self.u64()?).ok()
    }
    fn rhythm(&mut self) -> Option<Rhythm> {
        Some(Rhythm {
            last: self.time()?,
            longest_gap: Duration::from_millis(self.u64()?),
            records: self.u64()?,
            era: u32::try_from(self.u64()?).ok()?,
        })
    }
    fn clock(&mut self) -> Option<KeyClock> {
        let mut clock = KeyClock::new(self.offset()?);
        clock.time = self.time()?;
        clock.heard = self.time()?;
        clock.since = (self.time()?, self.time()?);
        clock.records = self.u8()?;
        clock.rate = match self.u8()? {
            0 => Rate::Slow,
            1 => Rate::Steady,
            2 => Rate::Fast,
            _ => return None,
        };
        clock.ahead = self.i64()?;
        let any = self.flag()?;
        let last = self.time()?;
        if !any && last != Timestamp(0) {
            return None;
        }
        clock.sequence = Sequence {
            last: any.then_some(last),
            pace: Pace {
                longest: self.i64()?,
                steps: self.u8()?,
            },
        };
        clock.skew = self.i64()?;
        clock.streak = self.u8()?;
        clock.told = self.flag()?;
        Some(clock)
    }
    fn episode(&mut self) -> Option<Episode> {
        Some(Episode {
            onset: self.offset()?,
            onset_time: self.time()?,
            peak_score: self.f64()?,
            peak_p: self.f64()?,
            strength: self.f64()?,
            peak_strength: self.f64()?,
            threshold: self.f64()?,
            level: self.f64()?,
            calm: self.f64()?,
            scale: self.count()?,
            severity: match self.u8()? {
                0 => Severity::Low,
                1 => Severity::Medium,
                2 => Severity::High,
                3 => Severity::Critical,
                _ => return None,
            },
            records: self.u64()?,
            last: self.place()?,
            recurred: self.count()?,
            suppressed: self.flag()?,
        })
    }
    fn place(&mut self) -> Option<Place> {
        Some(Place {
            record: self.u64()?,
            offset: self.offset()?,
            time: self.time()?,
        })
    }
    fn drift(&mut self) -> Option<Drift> {
        Some(Drift {
            sum: self.f64()?,
            records: self.count()?,
            first: self.place()?,
            usual: self.f64()?,
            own_sum: self.f64()?,
            own_blocks: self.count()?,
            streak: self.count()?,
            evidence: self.f64()?,
            since: self.place()?,
            level: self.f64()?,
            drifting: self.flag()?,
        })
    }
    fn episodes(&mut self) -> Option<EpisodeState> {
        let (records, first) = (self.u64()?, self.time()?);
        let mut evidence = Evidence::default();
        for level in &mut evidence.levels {
            *level = self.f64()?;
        }
        for place in &mut evidence.since {
            *place = self.place()?;
        }
        evidence.usual_sum = self.f64()?;
        evidence.usual_records = self.f64()?;
        for (sum, records) in &mut evidence.waiting {
            *sum = self.f64()?;
            *records = self.f64()?;
        }
        let open = if self.flag()? {
            Some(self.episode()?)
        } else {
            None
        };
        let closed = if self.flag()? {
            Some((self.time()?, self.count()?))
        } else {
            None
        };
        Some(EpisodeState {
            records,
            first,
            evidence,
            open,
            closed,
        })
    }
    fn key_episodes(&mut self) -> Option<KeyEpisodes> {
        Some(KeyEpisodes {
            own: self.episodes()?,
            within: if self.flag()? {
                Some(Box::new(self.within()?))
            } else {
                None
            },
        })
    }
    fn within(&mut self) -> Option<Within> {
        Some(Within {
            records: self.u64()?,
            mean: self.f64()?,
            variance: self.f64()?,
            quantile: self.f64()?,
            excess: self.f64()?,
            episodes: self.episodes()?,
        })
    }
}

/// A key's state as bytes.
pub(super) fn write_key(state: &KeyState) -> Vec<u8> {
    let mut to = Writer(Vec::with_capacity(
        380 + 8 * (state.rows.len() + state.cold.rows.len()),
    ));
    to.u8(KEY_FORMAT);
    to.i64(state.newest.0);
    to.i64(state.last_offset.0);
    to.i64(state.rhythm.last.0);
    to.millis(state.rhythm.longest_gap);
    to.u64(state.rhythm.records);
    to.u64(u64::from(state.rhythm.era));
    to.clock(&state.clock);
    to.u8(u8::from(state.silence.is_some()));
    if let Some(silence) = state.silence {
        to.i64(silence.after.0);
        to.i64(silence.since.0);
    }
    to.u8(u8::from(state.silence_suppressed));
    to.all(state.rows.len(), state.rows.iter());
    to.all(state.last_values.len(), state.last_values.iter());
    to.key_episodes(&state.episodes);
    to.drift(&state.drift);
    to.f64(state.surprise.mean);
    to.u8(state.surprise.records);
    to.u64(state.model.0);
    to.u64(state.cold.seen);
    to.all(state.cold.rows.len(), state.cold.rows.iter());
    to.all(state.cold.centre.len(), state.cold.centre.iter());
    to.all(state.cold.spread.len(), state.cold.spread.iter());
    // At the end, and absent where several features are judged together.
    if let Some(seasons) = &state.season {
        to.season(&seasons.judge);
        to.u8(u8::from(seasons.ranking.is_some()));
        if let Some(ranking) = &seasons.ranking {
            to.season(ranking);
        }
    }
    to.0
}

/// The inverse of [`write_key`]; `None` where the bytes make no sense.
pub(super) fn read_key(bytes: &[u8]) -> Option<KeyState> {
    let mut from = Reader(bytes);
    let version = from.u8()?;
    if version != KEY_FORMAT {
        return None;
    }
    let newest = from.time()?;
    let last_offset = from.offset()?;
    let rhythm = from.rhythm()?;
    let clock = from.clock()?;
    let silence = if from.flag()? {
        Some(Silence {
            after: from.offset()?,
            since: from.time()?,
        })
    } else {
        None
    };
    let silence_suppressed = from.flag()?;
    let rows: VecDeque<f64> = from.all()?;
    let last_values: Vec<f64> = from.all()?;
    let episodes = from.key_episodes()?;
    let drift = from.drift()?;
    let surprise = Memory {
        mean: from.f64()?,
        records: from.u8()?,
    };
    let model = ModelVersion(from.u64()?);
    let cold = ColdStart {
        seen: from.u64()?,
        rows: from.all()?,
        centre: from.all()?,
        spread: from.all()?,
    };
    let season = from.seasons()?;
    from.0.is_empty().then_some(KeyState {
        newest,
        clock,
        last_offset,
        rhythm,
        silence,
        silence_suppressed,
        rows,
        last_values,
        episodes,
        drift,
        surprise,
        model,
        cold,
        season,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn season() -> Season {
        Season {
            seen: 7,
            origin: 20.5,
            largest: 21.0,
            weights: vec![0.1; TERMS],
            ignorance: vec![0.2; TERMS * TERMS],
            drift: -0.3,
            since: Timestamp(77),
            level: 0.5,
            errors: [0.2, 0.4],
            tallies: [
                Tally {
                    cells: vec![(-9, 2), (4, 5)],
                    total: 7,
                    until: 250,
                },
                Tally::default(),
            ],
            strange: Tally {
                cells: vec![(3, 7)],
                total: 7,
                until: 249,
            },
            waiting: vec![[1.5, 0.5, 7.0]],
            held: 2.5,
        }
    }

    fn episode() -> Episode {
        Episode {
            onset: Offset(3),
            onset_time: Timestamp(-4),
            peak_score: 0.1 + 0.2,
            peak_p: 1e-300,
            strength: 12.5,
            peak_strength: 13.5,
            threshold: 9.25,
            level: 3.5,
            calm: 0.75,
            scale: 30,
            severity: Severity::High,
            records: 9,
            last: Place {
                record: 8,
                offset: Offset(11),
                time: Timestamp(6),
            },
            recurred: 2,
            suppressed: true,
        }
    }

    fn clock() -> KeyClock {
        KeyClock {
            time: Timestamp(7),
            heard: Timestamp(-7),
            since: (Timestamp(5), Timestamp(-6)),
            records: 7,
            rate: Rate::Steady,
            ahead: i64::MIN,
            sequence: Sequence {
                last: Some(Timestamp(8)),
                pace: Pace {
                    longest: 9,
                    steps: 8,
                },
            },
            skew: -10,
            streak: 3,
            told: true,
            ..KeyClock::new(Offset(2))
        }
    }

    fn evidence() -> Evidence {
        let mut evidence = Evidence {
            levels: [1.0, 2.0, 3.0, 4.0],
            usual_sum: 12.25,
            usual_records: 11.0,
            ..Evidence::default()
        };
        evidence.since[2] = Place {
            record: 1,
            offset: Offset(2),
            time: Timestamp(3),
        };
        evidence
    }

    fn sample() -> KeyState {
        let episode = episode();
        KeyState {
            newest: Timestamp(7),
            last_offset: Offset(12),
            rhythm: Rhythm {
                last: Timestamp(6),
                longest_gap: Duration::from_millis(5),
                records: 4,
                era: 2,
            },
            clock: clock(),
            silence: Some(Silence {
                after: Offset(11),
                since: Timestamp(5),
            }),
            silence_suppressed: true,
            rows: VecDeque::from([1.0, f64::NAN, -0.0, f64::MIN_POSITIVE]),
            last_values: vec![f64::NAN, 2.0],
            episodes: KeyEpisodes {
                own: EpisodeState {
                    records: 40,
                    first: Timestamp(1),
                    evidence: evidence(),
                    open: Some(episode),
                    closed: Some((Timestamp(99), 1)),
                },
                within: Some(Box::new(Within {
                    records: 301,
                    mean: 6.0,
                    variance: 0.25,
                    quantile: 7.0,
                    excess: 0.5,
                    episodes: EpisodeState {
                        records: 1,
                        open: Some(episode),
                        ..EpisodeState::default()
                    },
                })),
            },
            drift: Drift {
                sum: 0.25,
                records: 17,
                first: episode.last,
                usual: 1.25,
                own_sum: 3.5,
                own_blocks: 3,
                streak: 2,
                evidence: 7.5,
                since: evidence().since[2],
                level: 2.25,
                drifting: true,
            },
            surprise: Memory {
                mean: 1.75,
                records: 3,
            },
            model: ModelVersion(4),
            cold: ColdStart {
                seen: 5,
                rows: VecDeque::from([0.3]),
                centre: vec![0.1],
                spread: vec![0.0],
            },
            season: Some(Box::new(Seasons {
                judge: season(),
                ranking: Some(season()),
            })),
        }
    }

    #[test]
    fn a_key_comes_back_bit_for_bit() {
        let fresh = KeyState::begin(KeyClock::new(Offset(0)), Timestamp(3), 0);
        for state in [sample(), fresh] {
            let bytes = write_key(&state);
            let back = read_key(&bytes).unwrap();
            assert_eq!(write_key(&back), bytes);
            assert_eq!(back.episodes, state.episodes);
            assert_eq!(back.drift, state.drift);
            assert_eq!(back.surprise, state.surprise);
            assert_eq!(back.season, state.season);
            assert_eq!((back.clock, back.rhythm), (state.clock, state.rhythm));
            assert!(back.rows.get(1).is_none_or(|value| value.is_nan()));
        }
    }

    #[test]
    fn a_truncated_or_longer_or_newer_key_is_refused() {
        let bytes = write_key(&sample());
        // What comes before the seasons is a whole key without any.
        let old = write_key(&KeyState {
            season: None,
            ..sample()
        });
        for len in (0..bytes.len()).filter(|len| *len != old.len()) {
            assert!(read_key(&bytes[..len]).is_none(), "{len}");
        }
        assert!(read_key(&old).is_some_and(|state| state.season.is_none()));
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(read_key(&longer).is_none());
        let mut newer = bytes;
        newer[0] = KEY_FORMAT + 1;
        assert!(read_key(&newer).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = KEY_FORMAT;
            }
            if let Some(state) = read_key(&bytes) {
                prop_assert_eq!(write_key(&state), bytes);
            }
        }
    }
}
