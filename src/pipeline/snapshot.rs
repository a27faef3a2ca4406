//! Snapshots: the state of a partition as entries of a compacted topic, and back, bit for bit.
//!
//! Keys of entries are `{detector}/{topic}/{partition}/head`, `…/key/{key}` and `…/episode/{id}`. Heads and episodes are JSON, which people and
//! the trainer read; keys are binary (little-endian, version first), because there are many and their rows hold NaN. Every value
//! begins with a version; an unknown one is refused, not guessed at.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::{Head, Kept, KeyState, PartitionState, Quarantined, Silence, Storm};
use super::{Column, Grant, RestoreError, StateEntry};
use crate::alert::Severity;
use crate::detect::cold::ColdStart;
use crate::detect::episode::{Episode, EpisodeState, Hit};
use crate::detect::seasonal::{Season, TERMS, Tally};
use crate::detect::silence::Rhythm;
use crate::model::card::{Exclusion, ModelVersion};
use crate::record::Key;
use crate::stream::{Offset, TopicPartition};
use crate::time::Timestamp;

/// The version that heads and episodes begin with.
const FORMAT: u8 = 1;
/// The version that keys begin with. In the first, episodes had no mean strangeness.
const KEY_FORMAT: u8 = 2;

/// The `head` entry.
#[derive(Debug, Serialize, Deserialize)]
struct HeadEntry {
    v: u8,
    /// Where the snapshot was taken: the next record to read.
    offset: Offset,
    /// The model that judges from there on; 0: the cold start.
    model: ModelVersion,
    stream_time: Timestamp,
    storm: Storm,
    /// The features that rows are made of.
    columns: Vec<String>,
}

/// What an entry's key says.
#[derive(Debug, PartialEq, Eq)]
enum Name<'a> {
    Head,
    Key(&'a str),
    Episode(&'a str),
}

/// The bytes before an entry's kind.
fn prefix(detector: &str, at: &TopicPartition) -> String {
    format!("{detector}/{}/{}/", at.topic, at.partition.0)
}

pub(super) fn key_entry(detector: &str, at: &TopicPartition, key: &str) -> Vec<u8> {
    format!("{}key/{key}", prefix(detector, at)).into_bytes()
}

fn parse(key: &[u8]) -> Option<(&str, TopicPartition, Name<'_>)> {
    let mut parts = std::str::from_utf8(key).ok()?.splitn(4, '/');
    let (detector, topic) = (parts.next()?, parts.next()?);
    let partition = parts.next()?.parse().ok()?;
    let rest = parts.next()?;
    let name = if rest == "head" {
        Name::Head
    } else if let Some(key) = rest.strip_prefix("key/") {
        Name::Key(key)
    } else {
        Name::Episode(rest.strip_prefix("episode/")?)
    };
    Some((detector, TopicPartition::new(topic, partition), name))
}

/// The partition that an entry of the state topic belongs to, from its key; `None` if the key is not of `detector`.
pub fn owner(detector: &str, key: &[u8]) -> Option<TopicPartition> {
    let (theirs, at, _) = parse(key)?;
    (theirs == detector).then_some(at)
}

fn unreadable(entry: &StateEntry, problem: impl std::fmt::Display) -> RestoreError {
    RestoreError {
        at: entry.at.clone(),
        entry: String::from_utf8_lossy(&entry.key).into_owned(),
        problem: problem.to_string(),
    }
}

fn read_head(state: &[StateEntry]) -> Result<Option<HeadEntry>, RestoreError> {
    for entry in state {
        let Some((_, _, Name::Head)) = parse(&entry.key) else {
            continue;
        };
        let Some(value) = &entry.value else { continue };
        let head: HeadEntry =
            serde_json::from_slice(value).map_err(|error| unreadable(entry, error))?;
        if head.v != FORMAT {
            return Err(unreadable(
                entry,
                format!("version {}, not {FORMAT}", head.v),
            ));
        }
        return Ok(Some(head));
    }
    Ok(None)
}

/// The model that the state of a partition names: the one that must judge its replay. `None`: there is no state. Version 0 is the cold start.
pub fn model_version(state: &[StateEntry]) -> Result<Option<ModelVersion>, RestoreError> {
    Ok(read_head(state)?.map(|head| head.model))
}

/// What the state topic keeps out of training: open and closed episodes, without guard bands. Entries that are none are passed over.
pub fn quarantine(state: &[StateEntry]) -> Vec<Exclusion> {
    let exclusion = |entry: &StateEntry| {
        let (_, at, Name::Episode(id)) = parse(&entry.key)? else {
            return None;
        };
        let noted: Quarantined = serde_json::from_slice(entry.value.as_deref()?).ok()?;
        Some(Exclusion {
            at,
            key: noted.key,
            from: noted.from,
            to: noted.to,
            because: id.to_owned(),
        })
    };
    state.iter().filter_map(exclusion).collect()
}

/// One entry of the quarantine; `None` forgets it.
pub(super) fn quarantine_entry(
    detector: &str,
    at: &TopicPartition,
    id: &str,
    noted: Option<&Quarantined>,
) -> StateEntry {
    StateEntry {
        at: at.clone(),
        key: format!("{}episode/{id}", prefix(detector, at)).into_bytes(),
        value: noted.map(json),
    }
}

/// The entries of a snapshot of `partition`, which `model` judges from here on: the head, the keys changed since the last snapshot, and
/// tombstones for those forgotten.
pub(super) fn take(
    detector: &str,
    partition: &PartitionState,
    model: ModelVersion,
    columns: &[Column],
) -> Vec<StateEntry> {
    let at = &partition.at;
    let head = HeadEntry {
        v: FORMAT,
        offset: partition.head.position,
        model,
        stream_time: partition.head.stream_time,
        storm: partition.head.storm,
        columns: columns.iter().map(|column| column.name.clone()).collect(),
    };
    let mut dirty: Vec<(&Key, &KeyState)> = partition
        .keys
        .iter()
        .filter(|(_, kept)| kept.dirty)
        .map(|(key, kept)| (key, &kept.state))
        .collect();
    dirty.sort_unstable_by_key(|(key, _)| *key);
    let entry = |key: Vec<u8>, value| StateEntry {
        at: at.clone(),
        key,
        value,
    };
    let mut entries = vec![entry(
        format!("{}head", prefix(detector, at)).into_bytes(),
        Some(json(&head)),
    )];
    for (key, state) in dirty {
        entries.push(entry(
            key_entry(detector, at, &key.0),
            Some(write_key(state)),
        ));
    }
    for key in &partition.forgotten {
        if !partition.keys.contains_key(key) {
            entries.push(entry(key_entry(detector, at, &key.0), None));
        }
    }
    entries
}

/// A partition as its entries left it, and, if they could not be used, why.
pub(super) fn restore(
    grant: &Grant,
    columns: &[Column],
    model_fits: bool,
) -> Result<(PartitionState, Option<&'static str>), RestoreError> {
    let mut partition = PartitionState::new(grant.at.clone(), grant.committed, None);
    let head = read_head(&grant.state)?;
    let discarded = match &head {
        None => Some("there is no head"),
        Some(head) if head.offset > grant.committed => Some("it is ahead of the committed offset"),
        Some(head)
            if !head
                .columns
                .iter()
                .eq(columns.iter().map(|column| &column.name)) =>
        {
            Some("it has other features")
        }
        Some(_) if !model_fits => Some("its model has other features"),
        Some(_) => None,
    };
    for entry in &grant.state {
        let Some(value) = &entry.value else { continue };
        match parse(&entry.key) {
            Some((_, _, Name::Key(key))) => {
                let key = Key(Arc::from(key));
                if discarded.is_some() {
                    // The next snapshot deletes it, so that it does not join later state.
                    partition.forgotten.insert(key);
                } else {
                    let state = read_key(value).ok_or_else(|| unreadable(entry, "bad bytes"))?;
                    partition.keys.insert(
                        key,
                        Kept {
                            state,
                            dirty: false,
                        },
                    );
                }
            }
            Some((_, _, Name::Episode(id))) => {
                let mut noted: Quarantined =
                    serde_json::from_slice(value).map_err(|error| unreadable(entry, error))?;
                if discarded.is_some() && noted.to.is_none() {
                    // Nobody is left who would close it.
                    noted.to = Some(grant.committed);
                    noted.to_time = Some(noted.from_time);
                }
                partition.quarantine.insert(id.to_owned(), noted);
            }
            Some((_, _, Name::Head)) | None => {}
        }
    }
    if let (Some(head), None) = (head, discarded) {
        partition.head = Head {
            stream_time: head.stream_time,
            storm: head.storm,
            ..Head::at(head.offset)
        };
        partition.unsaved = false;
    }
    let had_state = grant.state.iter().any(|entry| entry.value.is_some());
    Ok((partition, discarded.filter(|_| had_state)))
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value)
        .unwrap_or_else(|error| unreachable!("state entries are plain structs: {error}"))
}

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
        for tally in &season.tallies {
            self.u64(tally.total);
            self.u64(tally.cells.len() as u64);
            for (cell, count) in &tally.cells {
                self.i64(i64::from(*cell));
                self.u64(u64::from(*count));
            }
        }
        self.f64(season.held);
    }
    fn episode(&mut self, episode: &Episode) {
        self.i64(episode.onset.0);
        self.i64(episode.onset_time.0);
        self.f64(episode.peak_score);
        self.f64(episode.peak_p);
        self.u8(match episode.severity {
            Severity::Low => 0,
            Severity::Medium => 1,
            Severity::High => 2,
            Severity::Critical => 3,
        });
        self.u64(episode.records);
        self.u64(u64::from(episode.calm));
        self.u8(u8::from(episode.muted));
        self.f64(episode.strangeness);
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
        let total = self.u64()?;
        let mut cells = Vec::new();
        for _ in 0..self.len(16)? {
            let cell = i32::try_from(self.i64()?).ok()?;
            cells.push((cell, u32::try_from(self.u64()?).ok()?));
        }
        Some(Tally { cells, total })
    }
    /// The season that ends an entry, if there is one.
    #[expect(clippy::option_option, reason = "unreadable, none, or one")]
    fn season_if_any(&mut self) -> Option<Option<Box<Season>>> {
        if self.0.is_empty() {
            return Some(None);
        }
        self.season().map(|season| Some(Box::new(season)))
    }
    fn season(&mut self) -> Option<Season> {
        let season = Season {
            seen: self.u64()?,
            origin: self.f64()?,
            largest: self.f64()?,
            weights: self.all()?,
            ignorance: self.all()?,
            drift: self.f64()?,
            tallies: [self.tally()?, self.tally()?],
            held: self.f64()?,
        };
        let shape = (season.weights.len(), season.ignorance.len());
        (shape == (0, 0) || shape == (TERMS, TERMS * TERMS)).then_some(season)
    }
    fn episode(&mut self, version: u8) -> Option<Episode> {
        let mut episode = Episode {
            onset: self.offset()?,
            onset_time: self.time()?,
            peak_score: self.f64()?,
            peak_p: self.f64()?,
            severity: match self.u8()? {
                0 => Severity::Low,
                1 => Severity::Medium,
                2 => Severity::High,
                3 => Severity::Critical,
                _ => return None,
            },
            records: self.u64()?,
            calm: u32::try_from(self.u64()?).ok()?,
            muted: self.flag()?,
            // Of nothing: only calm records close it.
            strangeness: 0.0,
        };
        if version >= KEY_FORMAT {
            episode.strangeness = self.f64()?;
        }
        Some(episode)
    }
}

fn write_key(state: &KeyState) -> Vec<u8> {
    let mut to = Writer(Vec::with_capacity(
        160 + 8 * (state.rows.len() + state.cold.rows.len()),
    ));
    to.u8(KEY_FORMAT);
    to.i64(state.newest.0);
    to.i64(state.last_offset.0);
    to.i64(state.rhythm.last.0);
    to.millis(state.rhythm.longest_gap);
    to.u64(state.rhythm.records);
    to.u8(u8::from(state.silence.is_some()));
    if let Some(silence) = state.silence {
        to.i64(silence.after.0);
        to.i64(silence.since.0);
    }
    to.u8(u8::from(state.silence_muted));
    to.all(state.rows.len(), state.rows.iter());
    to.all(state.last_values.len(), state.last_values.iter());
    let episodes = &state.episodes;
    to.u64(episodes.records);
    to.u64(episodes.hits.len() as u64);
    for hit in &episodes.hits {
        to.u64(hit.record);
        to.i64(hit.offset.0);
        to.i64(hit.time.0);
        to.f64(hit.score);
        to.f64(hit.p);
    }
    to.u8(u8::from(episodes.open.is_some()));
    if let Some(open) = &episodes.open {
        to.episode(open);
    }
    to.u8(u8::from(episodes.closed.is_some()));
    if let Some((closed, at)) = &episodes.closed {
        to.episode(closed);
        to.i64(at.0);
    }
    to.u64(state.cold.seen);
    to.all(state.cold.rows.len(), state.cold.rows.iter());
    to.all(state.cold.centre.len(), state.cold.centre.iter());
    to.all(state.cold.spread.len(), state.cold.spread.iter());
    // At the end and absent if there is none: so entries of streams with several features are as they always were.
    if let Some(season) = &state.season {
        to.season(season);
    }
    to.0
}

fn read_key(bytes: &[u8]) -> Option<KeyState> {
    let mut from = Reader(bytes);
    let version = from.u8()?;
    if !(1..=KEY_FORMAT).contains(&version) {
        return None;
    }
    let newest = from.time()?;
    let last_offset = from.offset()?;
    let rhythm = Rhythm {
        last: from.time()?,
        longest_gap: Duration::from_millis(from.u64()?),
        records: from.u64()?,
    };
    let silence = if from.flag()? {
        Some(Silence {
            after: from.offset()?,
            since: from.time()?,
        })
    } else {
        None
    };
    let silence_muted = from.flag()?;
    let rows: VecDeque<f64> = from.all()?;
    let last_values: Vec<f64> = from.all()?;
    let records = from.u64()?;
    let mut hits = Vec::new();
    for _ in 0..from.len(40)? {
        hits.push(Hit {
            record: from.u64()?,
            offset: from.offset()?,
            time: from.time()?,
            score: from.f64()?,
            p: from.f64()?,
        });
    }
    let open = if from.flag()? {
        Some(from.episode(version)?)
    } else {
        None
    };
    let closed = if from.flag()? {
        Some((from.episode(version)?, from.time()?))
    } else {
        None
    };
    let cold = ColdStart {
        seen: from.u64()?,
        rows: from.all()?,
        centre: from.all()?,
        spread: from.all()?,
    };
    let season = from.season_if_any()?;
    let episodes = EpisodeState {
        records,
        hits,
        open,
        closed,
    };
    from.0.is_empty().then_some(KeyState {
        newest,
        last_offset,
        rhythm,
        silence,
        silence_muted,
        rows,
        last_values,
        episodes,
        cold,
        season,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> KeyState {
        let episode = Episode {
            onset: Offset(3),
            onset_time: Timestamp(-4),
            peak_score: 0.1 + 0.2,
            peak_p: 1e-300,
            severity: Severity::High,
            strangeness: 12.5,
            records: 9,
            calm: 2,
            muted: true,
        };
        let hit = Hit {
            record: 1,
            offset: Offset(2),
            time: Timestamp(3),
            score: 4.5,
            p: 0.001,
        };
        KeyState {
            newest: Timestamp(7),
            last_offset: Offset(12),
            rhythm: Rhythm {
                last: Timestamp(6),
                longest_gap: Duration::from_millis(5),
                records: 4,
            },
            silence: Some(Silence {
                after: Offset(11),
                since: Timestamp(5),
            }),
            silence_muted: true,
            rows: VecDeque::from([1.0, f64::NAN, -0.0, f64::MIN_POSITIVE]),
            last_values: vec![f64::NAN, 2.0],
            episodes: EpisodeState {
                records: 40,
                hits: vec![hit],
                open: Some(episode),
                closed: Some((episode, Timestamp(99))),
            },
            cold: ColdStart {
                seen: 5,
                rows: VecDeque::from([0.3]),
                centre: vec![0.1],
                spread: vec![0.0],
            },
            season: Some(Box::new(Season {
                seen: 7,
                origin: 20.5,
                largest: 21.0,
                weights: vec![0.1; TERMS],
                ignorance: vec![0.2; TERMS * TERMS],
                drift: -0.3,
                tallies: [
                    Tally {
                        cells: vec![(-9, 2), (4, 5)],
                        total: 7,
                    },
                    Tally::default(),
                ],
                held: 2.5,
            })),
        }
    }

    #[test]
    fn a_key_comes_back_bit_for_bit() {
        for state in [sample(), KeyState::begin(Timestamp(3), Offset(0))] {
            let bytes = write_key(&state);
            let back = read_key(&bytes).unwrap();
            assert_eq!(write_key(&back), bytes);
            assert_eq!(back.episodes, state.episodes);
            assert_eq!(back.season, state.season);
            assert!(back.rows.get(1).is_none_or(|value| value.is_nan()));
        }
    }

    #[test]
    fn a_truncated_or_longer_or_newer_key_is_refused() {
        let bytes = write_key(&sample());
        // What comes before the season is a whole key without one, as older versions wrote it.
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

    #[test]
    fn a_key_of_the_first_version_is_read_with_episodes_of_no_strangeness() {
        let mut state = sample();
        let new = write_key(&state);
        for episode in [&mut state.episodes.open]
            .into_iter()
            .flatten()
            .chain(state.episodes.closed.as_mut().map(|(episode, _)| episode))
        {
            episode.strangeness = 0.0;
        }
        // As it was: another version, and no f64 at the end of the two episodes, which are the only two of these bits.
        let mark = 12.5_f64.to_bits().to_le_bytes();
        let mut old = Vec::new();
        let mut rest = &new[..];
        while let Some(at) = rest.windows(8).position(|bytes| bytes == mark) {
            old.extend_from_slice(&rest[..at]);
            rest = &rest[at + 8..];
        }
        old.extend_from_slice(rest);
        assert_eq!(old.len(), new.len() - 16);
        old[0] = 1;
        let back = read_key(&old).unwrap();
        assert_eq!(back.episodes, state.episodes);
        assert_eq!(write_key(&back), write_key(&state));
    }

    #[test]
    fn names_are_read_back_even_with_slashes() {
        let at = TopicPartition::new("plant.records", 7);
        let key = key_entry("pumps", &at, "hall/3");
        assert_eq!(owner("pumps", &key), Some(at.clone()));
        assert_eq!(owner("fans", &key), None);
        assert_eq!(parse(&key), Some(("pumps", at, Name::Key("hall/3"))));
        assert_eq!(owner("pumps", b"something else"), None);
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
