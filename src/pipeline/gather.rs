//! The first half of staging: everything that does not depend on scores. It walks through a batch in order, copies each key that it touches,
//! and lays out windows for the models, so that each model is asked once a batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Column;
use super::state::{Head, KeyState, PartitionState, Quarantined, Silence, version};
use super::windows::Group;
use crate::detect::Params;
use crate::detect::episode::Rule;
use crate::model::trained::TrainedModel;
use crate::record::{Decoded, DecodedBatch, Key, RawRecord, RecordBatch};
use crate::seed::Seed;
use crate::stream::Offset;
use crate::time::Timestamp;

/// Slots of a partition that are found again without a look at the key's text.
const LATELY: usize = 64;

/// A key touched by the batch: a copy of what was remembered of it.
#[derive(Debug)]
pub(super) struct Slot {
    pub key: Key,
    pub state: KeyState,
    /// Its rows in its group, once it has a window there.
    pub strip: Option<usize>,
    /// Forgotten during the batch, to make room.
    pub evicted: bool,
}

/// A partition's part of a batch in the making.
#[derive(Debug)]
pub(super) struct Work<'a> {
    pub base: &'a PartitionState,
    pub head: Head,
    pub model: Option<Arc<TrainedModel>>,
    pub rule: Rule,
    /// The rule for what is judged by a key's own past, not by the model.
    pub own_rule: Rule,
    /// Which group its windows go to.
    pub group: usize,
    pub slots: Vec<Slot>,
    /// Key → slot; `None`: forgotten during the batch.
    index: FxHashMap<Key, Option<usize>>,
    /// Slots found lately, by where in memory the key is that they were asked for by: keys are interned, and stay where they are for as long
    /// as the batch is at hand.
    lately: [(usize, usize); LATELY],
    /// Keys remembered.
    live: usize,
    /// The batch carries a snapshot of the state before it.
    pub snapshot: bool,
    pub quarantine: BTreeMap<String, Option<Quarantined>>,
}

/// What happens, in the order in which it is told.
#[derive(Debug)]
pub(super) struct Step {
    pub work: usize,
    pub record: usize,
    pub what: What,
}

/// See [`Step`].
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// The record cannot be read.
    Dead,
    /// The record is later than the bound.
    Late,
    /// The record's window is row `row` of its group. `clock` is the stream time.
    Judge {
        slot: usize,
        row: usize,
        warming: bool,
        clock: Timestamp,
    },
    /// The key is silent, as this record's time shows.
    Silent {
        slot: usize,
        quiet: Quiet,
        clock: Timestamp,
    },
    /// The key spoke after a silence.
    Spoke { slot: usize, quiet: Quiet },
    /// The key is forgotten, to make room.
    Forget { slot: usize },
}

/// A silence as it was at a step. (The key's state may be records ahead by the time the step is told.)
#[derive(Clone, Copy, Debug)]
pub(super) struct Quiet {
    pub silence: Silence,
    /// Its length as a multiple of the longest gap before it.
    pub strangeness: f64,
    /// Records of the key before it.
    pub records: u64,
}

impl Quiet {
    pub fn new(silence: Silence, state: &KeyState, now: Timestamp) -> Self {
        Self {
            silence,
            strangeness: state.rhythm.strangeness(now),
            records: state.rhythm.records,
        }
    }
}

/// A batch after the first half.
#[derive(Debug, Default)]
pub(super) struct Gathered<'a> {
    pub works: Vec<Work<'a>>,
    pub groups: Vec<Group>,
    pub steps: Vec<Step>,
}

impl<'a> Work<'a> {
    /// Begins a batch of `base`. `current` is the model in use: taken up here if the partition is not replaying, and never in mid-batch.
    pub fn begin(
        base: &'a PartitionState,
        current: Option<&Arc<TrainedModel>>,
        params: &Params,
    ) -> Self {
        let steady = !base.replaying();
        let change =
            steady && current.is_some() && version(current) != version(base.model.as_ref());
        let model = if change {
            current.cloned()
        } else {
            base.model.clone()
        };
        let since = base.head.since_snapshot;
        let elapsed = base.head.stream_time.since(base.head.saved_time);
        let due = base.unsaved
            || since >= params.snapshot_records
            || (since > 0 && elapsed >= params.snapshot_interval);
        let mut work = Self {
            base,
            head: base.head.clone(),
            rule: Rule::of(params, model.as_deref()),
            own_rule: Rule::without_model(params, model.as_deref()),
            model,
            group: 0,
            slots: Vec::new(),
            index: FxHashMap::default(),
            lately: [(0, 0); LATELY],
            live: base.keys.len(),
            snapshot: false,
            quarantine: BTreeMap::new(),
        };
        if steady && (change || due) {
            work.save();
        }
        work
    }

    /// The batch carries a snapshot of the state before it.
    pub fn save(&mut self) {
        self.snapshot = true;
        self.head.since_snapshot = 0;
        self.head.saved_time = self.head.stream_time;
    }

    /// The slot of `key`, copied from what is remembered; `None` if nothing is.
    fn touch(&mut self, key: &Key) -> Option<usize> {
        let address = Arc::as_ptr(&key.0).addr();
        let place = address / 16 % LATELY;
        if self.lately[place].0 == address {
            return Some(self.lately[place].1);
        }
        let slot = match self.index.get(key) {
            Some(slot) => (*slot)?,
            None => self.insert(key, self.base.keys.get(key)?.state.clone()),
        };
        self.lately[place] = (address, slot);
        Some(slot)
    }

    fn insert(&mut self, key: &Key, state: KeyState) -> usize {
        let slot = self.slots.len();
        self.slots.push(Slot {
            key: key.clone(),
            state,
            strip: None,
            evicted: false,
        });
        self.index.insert(key.clone(), Some(slot));
        slot
    }

    /// Forgets the keys seen longest ago if there is no room for one more: a sixteenth at a time, so that a stream of new keys does not search
    /// for the oldest at each. Answers their slots.
    fn make_room(&mut self, keys_max: usize) -> Vec<usize> {
        if self.live < keys_max {
            return Vec::new();
        }
        let surplus = self.live - (keys_max - (keys_max / 16).max(1));
        let mut oldest: Vec<(Offset, Key)> = self
            .slots
            .iter()
            .filter(|slot| !slot.evicted)
            .map(|slot| (slot.state.last_offset, slot.key.clone()))
            .collect();
        let untouched = self
            .base
            .keys
            .iter()
            .filter(|(key, _)| !self.index.contains_key(*key));
        oldest.extend(untouched.map(|(key, kept)| (kept.state.last_offset, key.clone())));
        oldest.sort_unstable();
        oldest.truncate(surplus);
        let mut slots = Vec::with_capacity(surplus);
        for (_, key) in oldest {
            let Some(slot) = self.touch(&key) else {
                continue;
            };
            self.slots[slot].evicted = true;
            self.index.insert(key, None);
            slots.push(slot);
        }
        self.live -= slots.len();
        self.lately.fill((0, 0));
        slots
    }

    /// The keys that are silent at the present stream time and were not before, those due first first.
    fn fall_silent(&mut self, params: &Params) -> Vec<(usize, Quiet)> {
        let now = self.head.stream_time;
        if now <= self.head.silence_bound {
            return Vec::new();
        }
        let mut bound = Timestamp(i64::MAX);
        let mut due: Vec<(Timestamp, Key)> = Vec::new();
        let mut look = |key: &Key, state: &KeyState| {
            if state.silence.is_some() {
                return;
            }
            match state.rhythm.deadline(params) {
                Some(deadline) if now > deadline => due.push((deadline, key.clone())),
                Some(deadline) => bound = bound.min(deadline),
                None => {}
            }
        };
        for slot in self.slots.iter().filter(|slot| !slot.evicted) {
            look(&slot.key, &slot.state);
        }
        #[expect(clippy::iter_over_hash_type, reason = "what is due is sorted below")]
        for (key, kept) in &self.base.keys {
            if !self.index.contains_key(key) {
                look(key, &kept.state);
            }
        }
        self.head.silence_bound = bound;
        due.sort_unstable();
        let mut slots = Vec::with_capacity(due.len());
        for (_, key) in due {
            let Some(slot) = self.touch(&key) else {
                continue;
            };
            let state = &mut self.slots[slot].state;
            let silence = Silence {
                after: state.last_offset,
                since: state.rhythm.last,
            };
            state.silence = Some(silence);
            slots.push((slot, Quiet::new(silence, state, now)));
        }
        slots
    }
}

/// What the first half needs to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub params: &'a Params,
    pub columns: &'a [Column],
    /// Some column takes a key's last value where it was not observed.
    pub fill_last: bool,
}

impl<'a> Gathered<'a> {
    /// Adds a partition; its windows go to the group of its model.
    pub fn add(&mut self, mut work: Work<'a>, rules: Rules<'_>) -> usize {
        let theirs = version(work.model.as_ref());
        let found = self
            .groups
            .iter()
            .position(|group| version(group.model.as_ref()) == theirs);
        work.group = found.unwrap_or_else(|| {
            self.groups.push(Group::new(work.model.clone(), rules));
            self.groups.len() - 1
        });
        self.works.push(work);
        self.works.len() - 1
    }

    /// Takes in all records. `place` says which work a source belongs to; `None`: the partition is not ours, and its records are whoever's it is.
    pub fn walk(
        &mut self,
        batch: &RecordBatch,
        decoded: &DecodedBatch,
        place: &[Option<usize>],
        rules: Rules<'_>,
    ) {
        let seeds: Vec<Seed> = batch
            .sources()
            .iter()
            .map(|at| {
                Seed(0)
                    .child(&at.topic)
                    .nth(u64::from(at.partition.0.unsigned_abs()))
            })
            .collect();
        self.steps.reserve(batch.len());
        for (record, raw) in batch.records().iter().enumerate() {
            let Some(work) = place[raw.source] else {
                continue;
            };
            let head = &mut self.works[work].head;
            // Already worked in: Kafka may deliver again what lies before a rewind.
            if raw.offset < head.position {
                continue;
            }
            head.position = raw.offset.next();
            head.since_snapshot += 1;
            match &decoded.outcomes[record] {
                Ok(found) => {
                    let seed = seeds[raw.source].nth(raw.offset.0.unsigned_abs());
                    let place = Place { work, record, seed };
                    self.take(place, (raw, found), decoded.row(record), rules);
                }
                Err(_) => self.steps.push(Step {
                    work,
                    record,
                    what: What::Dead,
                }),
            }
        }
        for work in &mut self.works {
            let group = &self.groups[work.group];
            for slot in &mut work.slots {
                group.remember(slot.strip, &mut slot.state.rows);
            }
        }
    }

    /// Takes in one record that could be read.
    fn take(
        &mut self,
        place: Place,
        (raw, found): (&RawRecord, &Decoded),
        row: &[f64],
        rules: Rules<'_>,
    ) {
        let Place {
            work: at,
            record,
            seed,
        } = place;
        let params = rules.params;
        let work = &mut self.works[at];
        let steps = &mut self.steps;
        let mut tell = |what| {
            steps.push(Step {
                work: at,
                record,
                what,
            });
        };
        let heard = found.time.min(raw.timestamp);
        let slot = if let Some(slot) = work.touch(&found.key) {
            let state = &mut work.slots[slot].state;
            if params
                .late_after
                .is_some_and(|bound| found.time < state.newest.minus(bound))
            {
                tell(What::Late);
                return;
            }
            let silence = state.silence.take();
            if let Some(silence) = silence {
                let quiet = Quiet::new(silence, state, heard);
                tell(What::Spoke { slot, quiet });
                // Records from before and after a silence are no neighbours: a window of both would look strange for nothing.
                state.rows.clear();
            }
            state.rhythm.hear(heard);
            if silence.is_some() {
                self.groups[work.group].cut(work.slots[slot].strip);
            }
            slot
        } else {
            for slot in work.make_room(params.keys_max) {
                tell(What::Forget { slot });
            }
            work.live += 1;
            work.insert(&found.key, KeyState::begin(heard, raw.offset))
        };
        let state = &mut work.slots[slot].state;
        // One clock that is ahead must not make late what comes after it: no record is newer than Kafka saw it by more than the bound.
        let newest = params.late_after.map_or(found.time, |bound| {
            found.time.min(raw.timestamp.plus(bound))
        });
        state.newest = state.newest.max(newest);
        state.last_offset = raw.offset;
        work.head.stream_time = work.head.stream_time.max(heard);
        if work.head.saved_time == Timestamp::MIN {
            work.head.saved_time = work.head.stream_time;
        }
        if let Some(deadline) = state.rhythm.deadline(params) {
            work.head.silence_bound = work.head.silence_bound.min(deadline);
        }
        let Slot { state, strip, .. } = &mut work.slots[slot];
        let (index, warming) =
            self.groups[work.group].add((strip, state), (record, row), seed, rules);
        let clock = work.head.stream_time;
        tell(What::Judge {
            slot,
            row: index,
            warming,
            clock,
        });
        for (slot, quiet) in work.fall_silent(params) {
            tell(What::Silent { slot, quiet, clock });
        }
    }
}

/// Where a record stands in its batch, and the seed that its own place in Kafka gives it.
#[derive(Clone, Copy, Debug)]
struct Place {
    work: usize,
    record: usize,
    seed: Seed,
}
