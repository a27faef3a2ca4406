//! What is remembered of a partition and of its keys between batches.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::{OpenEpisode, Suppressed, WrongClock};
use crate::alert::{AlertKind, Severity};
use crate::detect::Params;
use crate::detect::absence::Absences;
use crate::detect::clock::{KeyClock, StreamClock};
use crate::detect::cold::{self, ColdStart};
use crate::detect::drift::Drift;
use crate::detect::feedback::Pattern;
use crate::detect::seasonal::{Seasons, TERMS};
use crate::detect::silence::Rhythm;
use crate::detect::within::KeyEpisodes;
use crate::model::card::ModelVersion;
use crate::model::trained::TrainedModel;
use crate::record::Key;
use crate::stats::memory::Memory;
use crate::stream::{EpisodeId, Offset, TopicPartition};
use crate::time::Timestamp;

/// The patterns that are held back, by key: ids and patterns, the newest first.
pub(super) type Dismissed = BTreeMap<String, Vec<(EpisodeId, Pattern)>>;

/// What is remembered of a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KeyState {
    /// Event time of its newest record, at most `late_after` ahead of Kafka's timestamp, and of stream time.
    pub newest: Timestamp,
    /// Its clock, and which of its records are neighbours by it.
    pub clock: KeyClock,
    /// Its last record. No two keys share it, so it orders keys by when they were last seen.
    pub last_offset: Offset,
    /// How often it speaks.
    pub rhythm: Rhythm,
    /// It is silent at present.
    pub silence: Option<Silence>,
    /// No alert of the present silence was emitted: it began in a storm.
    pub silence_suppressed: bool,
    /// Which features its records lack.
    pub absences: Absences,
    /// Its last rows, oldest first, D numbers each: none if windows are one record long.
    pub rows: VecDeque<f64>,
    /// The last observed value of each column; empty unless a column's policy asks for it.
    pub last_values: Vec<f64>,
    /// Its episodes.
    pub episodes: KeyEpisodes,
    /// Whether its records have become more surprising, for good.
    pub drift: Drift,
    /// How much of a surprise its last records were to the model's forecast.
    pub surprise: Memory,
    /// What judged its last record; 0: no model.
    pub model: ModelVersion,
    /// What it looked like before there was a model; empty under a model.
    pub cold: ColdStart,
    /// What it does at which time; `None` unless records are judged by it.
    pub season: Option<Box<Seasons>>,
}

impl KeyState {
    /// A key with this clock, seen for the first time at this elapsed time of era `era`.
    pub fn begin(clock: KeyClock, heard: Timestamp, era: u32) -> Self {
        Self {
            newest: Timestamp::MIN,
            last_offset: clock.born,
            rhythm: Rhythm::begin(heard, era),
            clock,
            silence: None,
            silence_suppressed: false,
            absences: Absences::default(),
            rows: VecDeque::new(),
            last_values: Vec::new(),
            episodes: KeyEpisodes::default(),
            drift: Drift::default(),
            surprise: Memory::default(),
            model: ModelVersion(0),
            cold: ColdStart::default(),
            season: None,
        }
    }

    /// Elapsed time of era `era` after which it falls silent; `None`: it is silent, or cannot fall silent.
    pub fn deadline(&self, params: &Params, era: u32) -> Option<Timestamp> {
        match self.silence {
            Some(_) => None,
            None => self.rhythm.deadline(params, era),
        }
    }
}

/// What an entry of a key takes beside its rows and its name, in bytes: more than it ever does without rows.
const ENTRY: usize = 640;
/// What its two seasons take.
const SEASON: usize = 2 * (8 * (TERMS * (TERMS + 1)) + 4096);

/// What is remembered of a feature that records lacked, in bytes.
pub(super) const ABSENCE: usize = 30;

/// The bytes that the entry of a key takes in the state topic, at most. A law and not a measurement, so that it does not depend on how a stream
/// was cut into batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight(u64);

impl Weight {
    /// Of keys whose rows have `columns` numbers; without a model the cold start remembers more of them.
    pub fn of(params: &Params, columns: usize, judged_cold: bool) -> Self {
        let cold = cold::ROWS_MAX + cold::EXCURSIONS + 2;
        let rows = if judged_cold { cold } else { 0 } + params.window + 1;
        let season = if params.seasonal { SEASON } else { 0 };
        Self((ENTRY + season + columns * (8 * rows + ABSENCE)) as u64)
    }

    /// How many keys there is room for in `bytes`, if their names are `names` bytes long altogether for `keys` of them.
    pub fn keys_in(self, bytes: u64, (keys, names): (usize, u64)) -> usize {
        let each = self.0 + names / (keys as u64).max(1);
        usize::try_from(bytes / each).unwrap_or(usize::MAX)
    }

    /// Of this key.
    pub fn key(self, key: &Key) -> u64 {
        self.0 + tombstone(key)
    }
}

/// The bytes that it takes to delete the entry of a key.
pub(super) fn tombstone(key: &Key) -> u64 {
    64 + key.0.len() as u64
}

/// A silence that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    /// The last record before it: names the episode.
    pub after: Offset,
    /// Stream time when that came.
    pub since: Timestamp,
}

/// How many episodes opened lately, and what became of those that were too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Storm {
    /// The number of the present stretch of elapsed time.
    pub stretch: i64,
    /// Openings in it.
    pub opens: u32,
    /// The storm that goes on: the record that began it, and when it happened.
    pub since: Option<(Offset, Timestamp)>,
    /// Openings that it held back.
    pub suppressed: u64,
}

/// What is remembered of a partition apart from its keys.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Head {
    /// The next record to read.
    pub position: Offset,
    /// What time it is, as most of its keys see it.
    pub clock: StreamClock,
    /// Records since the last snapshot.
    pub since_snapshot: u64,
    /// Elapsed time at the last snapshot; [`Timestamp::MIN`] before the first record.
    pub saved_time: Timestamp,
    /// The limit on openings.
    pub storm: Storm,
}

impl Head {
    pub fn at(position: Offset) -> Self {
        Self {
            position,
            clock: StreamClock::default(),
            since_snapshot: 0,
            saved_time: Timestamp::MIN,
            storm: Storm::default(),
        }
    }
}

/// An episode as the state topic remembers it, for training to leave its records out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Quarantined {
    /// Version of this format: 2.
    pub v: u32,
    /// The key.
    pub key: String,
    /// The first record left out.
    pub from: Offset,
    /// The record after the last; null while it is open.
    pub to: Option<Offset>,
    /// Event time of the first.
    pub from_time: Timestamp,
    /// Event time of the last.
    pub to_time: Option<Timestamp>,
    /// Stream time when that was known: event times are by the key's clock, which may be wrong by years.
    pub known: Option<Timestamp>,
    /// How it looked when it opened, and how strong its evidence got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
    /// The partition knows that somebody called it a false alarm: what is like it is held back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dismissed: bool,
    /// The partition knows that somebody called it the new normal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub normal: bool,
    /// The dismissed episode that it is like, for which no alert of it was emitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<EpisodeId>,
}

impl Quarantined {
    /// One of no record, in the place of one that cannot be read.
    pub fn nothing() -> Self {
        Self {
            v: 2,
            key: String::new(),
            from: Offset(0),
            to: Some(Offset(0)),
            from_time: Timestamp(0),
            to_time: Some(Timestamp(0)),
            known: None,
            pattern: None,
            dismissed: false,
            normal: false,
            held: None,
        }
    }

    /// Makes it of no record: its place means nothing any more, and the next snapshot forgets it.
    pub fn empty(&mut self) {
        self.to = Some(self.from);
    }

    /// Whether it is of no record.
    pub fn is_empty(&self) -> bool {
        self.to == Some(self.from)
    }

    /// Ends an episode that nobody is left to close; `known` is the stream time, if any is known.
    pub fn abandon(&mut self, at: Offset, known: Timestamp) {
        if self.to.is_none() {
            self.to = Some(at);
            self.to_time = Some(self.from_time);
            self.known = Some(known).filter(|known| *known != Timestamp::MIN);
            self.known = self.known.or(self.to_time);
        }
    }
}

/// A key in memory.
#[derive(Clone, Debug)]
pub(super) struct KeyEntry {
    pub state: KeyState,
    /// Changed since the last snapshot.
    pub dirty: bool,
}

/// A partition that a worker holds.
#[derive(Debug)]
pub(super) struct PartitionState {
    pub at: TopicPartition,
    /// What was committed when it was taken over: a record below it was emitted by someone before us.
    pub emit_from: Offset,
    /// The model that judges it; none: the cold start ...
    pub model: Option<Arc<TrainedModel>>,
    /// ... and by which parameters.
    pub params: Arc<Params>,
    pub head: Head,
    pub keys: FxHashMap<Key, KeyEntry>,
    /// The bytes of their names.
    pub names: u64,
    /// Keys that may fall silent, in the order in which they may: each at its [`KeyState::deadline`] or earlier, as it was once. It is
    /// looked at again then. Not remembered across restarts.
    pub due: BTreeSet<(Timestamp, Key)>,
    /// Keys whose entries the next snapshot deletes, unless they are back.
    pub forgotten: BTreeSet<Key>,
    /// What the next snapshot writes of keys, in bytes: at most.
    pub changed: u64,
    /// By id.
    pub quarantine: BTreeMap<EpisodeId, Quarantined>,
    /// What is held back, by the quarantine.
    pub dismissed: Dismissed,
    /// What people said is to be heard when nothing replays any more.
    pub unheard: bool,
    /// The state topic does not know it as it is: the next batch carries a snapshot.
    pub unsaved: bool,
    /// It has no state, and learns from records that were there before it began: see [`Self::begin_live`].
    pub looking_back: bool,
    /// Records that were deleted before they were read, and not counted yet.
    pub skipped: u64,
    /// The topic's id, if it is known.
    pub topic_id: Option<Arc<str>>,
    /// What was open when its state was discarded, and until when that was known: to be closed with the next snapshot.
    pub abandoned: (Vec<OpenEpisode>, Timestamp),
}

impl PartitionState {
    /// A partition of which nothing is known.
    pub fn new(
        at: TopicPartition,
        from: Offset,
        (model, params): (Option<Arc<TrainedModel>>, &Arc<Params>),
    ) -> Self {
        Self {
            at,
            emit_from: from,
            model,
            params: Arc::clone(params),
            head: Head::at(from),
            keys: FxHashMap::default(),
            names: 0,
            due: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            changed: 0,
            quarantine: BTreeMap::new(),
            dismissed: Dismissed::new(),
            unheard: false,
            unsaved: true,
            looking_back: false,
            skipped: 0,
            topic_id: None,
            abandoned: (Vec::new(), Timestamp::MIN),
        }
    }

    /// Whether it is not `champion` that judges, or not by `params`.
    fn is_judged_otherwise(
        &self,
        champion: Option<&Arc<TrainedModel>>,
        params: &Arc<Params>,
    ) -> bool {
        let another = champion.is_some() && version(champion) != version(self.model.as_ref());
        another || (!Arc::ptr_eq(params, &self.params) && params.alerts() != self.params.alerts())
    }

    /// Whether the next batch should carry a snapshot of it: it is the time, or `champion` is to judge, or by other `params`.
    pub fn due(&self, champion: Option<&Arc<TrainedModel>>, params: &Arc<Params>) -> bool {
        let another = self.is_judged_otherwise(champion, params);
        let since = self.head.since_snapshot;
        let elapsed = self.head.clock.elapsed.since(self.head.saved_time);
        let due = self.unsaved
            || since >= params.snapshot_records
            || self.changed >= params.snapshot_bytes
            || (since > 0 && elapsed >= params.snapshot_interval);
        !self.replaying() && (another || due)
    }

    /// Whether the state topic should hear of it though no record of it comes: the champion does not judge it yet, or not by `params`, records of
    /// it were lost, or it is `quiet` and has changed since it was saved.
    pub fn needs_idle_snapshot(
        &self,
        (champion, params): (Option<&Arc<TrainedModel>>, &Arc<Params>),
        quiet: bool,
    ) -> bool {
        let another = self.is_judged_otherwise(champion, params);
        let known =
            !(self.keys.is_empty() && self.forgotten.is_empty() && self.abandoned.0.is_empty());
        let due = another || (self.unsaved && known) || (quiet && self.head.since_snapshot > 0);
        !self.replaying() && (due || self.skipped > 0)
    }

    /// Retention deleted what lies before `to`, which was to be read next: reads on there. If that was to be replayed, what the state would
    /// have become is lost; then it begins anew under `champion`, and the answer is `true`.
    pub fn skip(
        &mut self,
        to: Offset,
        champion: Option<&Arc<TrainedModel>>,
        params: &Arc<Params>,
    ) -> bool {
        if self.looking_back {
            // What was to be learnt from is no loss that anyone has to hear of.
            self.head.position = to.min(self.emit_from);
            if self.replaying() {
                return false;
            }
            self.begin_live();
        }
        let replaying = self.replaying();
        let from = to.max(self.emit_from);
        if replaying {
            let skipped = u64::try_from(from.0 - self.emit_from.0).unwrap_or(0);
            self.discard(from, champion.cloned(), params);
            self.skipped = skipped;
        } else if to > self.head.position {
            self.skipped += u64::try_from(to.0 - self.head.position.0).unwrap_or(0);
            self.head.position = to;
            self.unsaved = true;
        }
        replaying
    }

    /// Begins anew at `from`: of what was remembered stays only what training leaves out. The next snapshot deletes the keys' entries, so that
    /// they do not join later state, and ends what was open.
    pub fn discard(
        &mut self,
        from: Offset,
        model: Option<Arc<TrainedModel>>,
        params: &Arc<Params>,
    ) {
        let abandoned = self.abandon(params);
        let fresh = Self::new(self.at.clone(), from, (model, params));
        let old = std::mem::replace(self, fresh);
        self.abandoned = abandoned;
        self.skipped = old.skipped;
        self.topic_id = old.topic_id;
        self.forgotten = old.forgotten;
        self.forgotten.extend(old.keys.into_keys());
        self.changed = self.forgotten.iter().map(tombstone).sum();
        self.quarantine = old.quarantine;
        self.unheard = old.unheard;
        for quarantined in self.quarantine.values_mut() {
            quarantined.abandon(from, self.abandoned.1);
        }
        self.remember_dismissed();
    }

    /// What its alerts say is open, and until when that is known. Episodes by the episode log, which is as of the last commit, not of the last snapshot;
    /// silences and the storm as of the snapshot, so that one which ended since is ended twice rather than never. Nothing of which no alert was emitted.
    fn abandon(&self, params: &Params) -> (Vec<OpenEpisode>, Timestamp) {
        let mut open = Vec::new();
        self.open(params, &mut open);
        let scored = open.extract_if(.., |open| open.kind == AlertKind::Score);
        let mut scored: BTreeMap<EpisodeId, OpenEpisode> =
            scored.map(|open| (open.id.clone(), open)).collect();
        let log = self.quarantine.iter();
        open.extend(
            log.filter(|(_, quarantined)| quarantined.to.is_none() && quarantined.held.is_none())
                .map(|(id, quarantined)| {
                    // What opened since the snapshot is known by the episode log only.
                    scored.remove(id).unwrap_or_else(|| OpenEpisode {
                        at: self.at.clone(),
                        id: id.clone(),
                        key: quarantined.key.clone(),
                        kind: AlertKind::Score,
                        severity: Severity::Low,
                        since: quarantined.from_time,
                        peak: 0.0,
                        records: None,
                        suppressed: None,
                    })
                }),
        );
        open.retain(|open| open.suppressed.is_none());
        open.sort_by(|a, b| a.id.cmp(&b.id));
        (open, self.head.clock.stream())
    }

    /// Whether what comes next was emitted before, or is only learnt from.
    pub fn replaying(&self) -> bool {
        self.head.position < self.emit_from
    }

    /// Adds the episodes, silences and the storm that go on, in no order.
    pub fn open(&self, params: &Params, open: &mut Vec<OpenEpisode>) {
        let detector = &*params.detector;
        let mut add = |key: &str, kind, (id, since), (severity, peak, records), suppressed| {
            open.push(OpenEpisode {
                at: self.at.clone(),
                id,
                key: key.to_owned(),
                kind,
                severity,
                since,
                peak,
                records,
                suppressed,
            });
        };
        if let Some((onset, since)) = self.head.storm.since {
            let id = EpisodeId::of_storm(detector, &self.at, onset);
            let opens = f64::from(self.head.storm.opens);
            add(
                "*",
                AlertKind::Storm,
                (id, since),
                (Severity::High, opens, None),
                None,
            );
        }
        #[expect(clippy::iter_over_hash_type, reason = "the caller sorts")]
        for (key, entry) in &self.keys {
            for episode in entry.state.episodes.all_open() {
                let id = EpisodeId::new(detector, &self.at, episode.onset);
                let found = (episode.severity, episode.peak_score, Some(episode.records));
                let held = |quarantined: &Quarantined| quarantined.held.is_some();
                let why = if self.quarantine.get(&id).is_some_and(held) {
                    Suppressed::Dismissed
                } else {
                    Suppressed::Storm
                };
                let suppressed = episode.suppressed.then_some(why);
                let begun = (id, episode.onset_time);
                add(&key.0, AlertKind::Score, begun, found, suppressed);
            }
            if let Some(silence) = &entry.state.silence {
                let id = EpisodeId::of_silence(detector, &self.at, silence.after);
                let length = entry.state.rhythm.strangeness(self.head.clock.elapsed);
                let found = (Severity::Medium, length, None);
                let suppressed = entry.state.silence_suppressed.then_some(Suppressed::Storm);
                let begun = (id, silence.since);
                add(&key.0, AlertKind::Silence, begun, found, suppressed);
            }
            for absence in entry.state.absences.open() {
                let id = EpisodeId::of_absence(detector, &self.at, absence.after);
                let lacking = Some(u64::from(absence.records));
                let found = (Severity::Medium, absence.strangeness, lacking);
                let suppressed = absence.suppressed.then_some(Suppressed::Storm);
                let begun = (id, absence.since);
                add(&key.0, AlertKind::Silence, begun, found, suppressed);
            }
        }
    }

    /// Works out anew which keys may fall silent when, by `params`.
    pub fn due_by(&self, params: &Params) -> BTreeSet<(Timestamp, Key)> {
        let era = self.head.clock.era;
        let due = |(key, entry): (&Key, &KeyEntry)| {
            let deadline = entry.state.deadline(params, era)?;
            Some((deadline, key.clone()))
        };
        self.keys.iter().filter_map(due).collect()
    }

    /// Adds the keys whose clocks are wrong, and by how many milliseconds, in no order.
    pub fn wrong_clocks(&self, found: &mut Vec<WrongClock>) {
        #[expect(clippy::iter_over_hash_type, reason = "the caller sorts")]
        for (key, entry) in &self.keys {
            if let Some(ahead_ms) = entry.state.clock.wrong() {
                found.push(WrongClock {
                    at: self.at.clone(),
                    key: key.clone(),
                    ahead_ms,
                });
            }
        }
    }

    /// Episodes and silences that go on.
    pub fn episodes_open(&self) -> u64 {
        let open = |entry: &KeyEntry| {
            entry.state.episodes.all_open().count() as u64
                + u64::from(entry.state.silence.is_some())
                + entry.state.absences.open().count() as u64
        };
        // A sum: the order cannot reach it.
        #[expect(clippy::iter_over_hash_type, reason = "a sum has no order")]
        {
            let mut sum = 0;
            for entry in self.keys.values() {
                sum += open(entry);
            }
            sum
        }
    }
}

/// The version of a model, or 0 for the cold start.
pub(super) fn version(model: Option<&Arc<TrainedModel>>) -> ModelVersion {
    model.map_or(ModelVersion(0), |model| model.card.version)
}
