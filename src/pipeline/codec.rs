//! A key's state as bytes, and back, bit for bit: little-endian, the version first.

mod absence;
mod season;

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
use crate::detect::silence::Rhythm;
use crate::detect::within::{KeyEpisodes, Within};
use crate::model::card::ModelVersion;
use crate::stats::memory::Memory;
use crate::stream::Offset;
use crate::time::Timestamp;

/// The version that every entry begins with.
pub(super) const FORMAT: u8 = 2;

/// The version that keys begin with.
const KEY_FORMAT: u8 = 9;

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
    to.absences(&state.absences);
    to.all(state.rows.len(), state.rows.iter());
    to.all(state.last_values.len(), state.last_values.iter());
    to.key_episodes(&state.episodes);
    to.drift(&state.drift);
    to.f64(state.surprise.mean);
    to.u8(state.surprise.records);
    to.u64(state.model.0);
    to.u64(state.cold.seen);
    to.u64(state.cold.taken);
    to.u64(state.cold.strange);
    to.all(state.cold.excursions.len(), state.cold.excursions.iter());
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
    let absences = from.absences()?;
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
        taken: from.u64()?,
        strange: from.u64()?,
        excursions: from.all()?,
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
        absences,
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
mod tests;
