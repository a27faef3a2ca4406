//! The first half of staging: everything that does not depend on scores. It walks through a batch in order, copies each key that it touches,
//! and lays out windows for the models, so that each model is asked once a batch.

use std::collections::{BTreeMap, BTreeSet, btree_set};
use std::iter::Peekable;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::WrongClock;
use super::state::{Head, KeyState, PartitionState, Quarantined, Silence, Weight, version};
use super::windows::{Group, Rules};
use crate::alert::ScoredBy;
use crate::detect::Params;
use crate::detect::clock::{Heard, KeyClock, Moment};
use crate::detect::episode::Rule;
use crate::detect::windowing::{self, Around};
use crate::model::trained::TrainedModel;
use crate::record::{Decoded, DecodedBatch, Key, RawRecord, RecordBatch};
use crate::seed::Seed;
use crate::stream::{EpisodeId, Offset};
use crate::time::Timestamp;

/// Keys that fall silent at one record, at most: the others do so at the next. So one record that moves the time far does not change all keys
/// of a partition at once, which one transaction could not publish.
const SILENCES_MAX: usize = 1000;

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
    /// What it is judged by.
    pub params: &'a Arc<Params>,
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
    /// What a key's entry takes ...
    pub weight: Weight,
    /// ... and what those of all keys touched do, in bytes.
    pub touched: u64,
    /// Keys remembered.
    live: usize,
    /// The bytes of their names.
    pub names: u64,
    /// What the partition knows of when keys may fall silent, but for the first of them ...
    due: Peekable<btree_set::Iter<'a, (Timestamp, Key)>>,
    /// ... which were looked at: so many. All of it is forgotten if the batch is judged by other parameters, and has it anew.
    pub due_taken: usize,
    /// What the batch adds.
    pub due_added: BTreeSet<(Timestamp, Key)>,
    /// Nobody falls silent before elapsed time passes this.
    due_first: Timestamp,
    /// The batch carries a snapshot of the state before it.
    pub snapshot: bool,
    pub quarantine: BTreeMap<EpisodeId, Option<Quarantined>>,
}

impl Work<'_> {
    /// What scores are by where the season of the key does not judge.
    pub fn scored_by(&self) -> ScoredBy {
        let model = self.model.as_ref();
        model.map_or(ScoredBy::ColdStart, |model| {
            ScoredBy::Model(model.card.version)
        })
    }
}

/// What happens, in the order in which it is evaluated.
#[derive(Debug)]
pub(super) struct Step {
    pub work: usize,
    pub record: usize,
    pub event: Event,
}

/// See [`Step`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// The record cannot be read.
    Dead,
    /// The record is later than the bound.
    Late,
    /// The record's window is row `row` of its group. `clock` is the stream's time.
    Judge {
        slot: usize,
        row: usize,
        warming: bool,
        clock: Moment,
    },
    /// The key is silent, as this record's time shows.
    Silent {
        slot: usize,
        info: SilenceInfo,
        clock: Moment,
    },
    /// The key spoke after a silence.
    Spoke { slot: usize, info: SilenceInfo },
    /// The key is forgotten, to make room.
    Forget { slot: usize },
}

/// A silence as it was at a step. (The key's state may be records ahead by the time the step is evaluated.)
#[derive(Clone, Copy, Debug)]
pub(super) struct SilenceInfo {
    pub silence: Silence,
    /// Its length as a multiple of the longest gap before it.
    pub strangeness: f64,
    /// Records of the key before it.
    pub records: u64,
}

impl SilenceInfo {
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
pub(super) struct Prepared<'a> {
    pub works: Vec<Work<'a>>,
    pub groups: Vec<Group>,
    pub steps: Vec<Step>,
    /// Keys whose clocks were found to be wrong, but for those found in replay.
    pub wrong_clocks: Vec<WrongClock>,
}

impl<'a> Work<'a> {
    /// Begins a batch of `base`. `current` is the model in use, `params` are the parameters: taken up here if the partition is not replaying, and
    /// never in mid-batch. If `saves`, the batch carries a snapshot of the state before it; without one no others are taken up.
    pub fn begin(
        base: &'a PartitionState,
        current: Option<&Arc<TrainedModel>>,
        (params, columns): (&'a Arc<Params>, usize),
        saves: bool,
    ) -> Self {
        let params = if saves { params } else { &base.params };
        let model = if saves && current.is_some() {
            current.cloned()
        } else {
            base.model.clone()
        };
        let mut work = Self {
            base,
            head: base.head.clone(),
            rule: Rule::of(params, model.as_deref()),
            own_rule: Rule::without_model(params, model.as_deref()),
            group: 0,
            slots: Vec::new(),
            index: FxHashMap::default(),
            lately: [(0, 0); LATELY],
            weight: Weight::of(params, columns, model.is_none()),
            touched: 0,
            live: base.keys.len(),
            names: base.names,
            model,
            params,
            due: base.due.iter().peekable(),
            due_taken: 0,
            due_added: BTreeSet::new(),
            due_first: base
                .due
                .first()
                .map_or(Timestamp(i64::MAX), |first| first.0),
            snapshot: false,
            quarantine: BTreeMap::new(),
        };
        if saves {
            work.save();
        }
        if params.alerts() != base.params.alerts() {
            work.remember_due_anew();
        }
        work
    }

    /// Other parameters: keys may fall silent sooner or later than it was thought.
    fn remember_due_anew(&mut self) {
        self.due = btree_set::Iter::default().peekable();
        self.due_taken = self.base.due.len();
        self.due_added = self.base.due_by(self.params);
        let first = self.due_added.first();
        self.due_first = first.map_or(Timestamp(i64::MAX), |first| first.0);
    }

    /// The batch carries a snapshot of the state before it.
    fn save(&mut self) {
        self.snapshot = true;
        self.head.since_snapshot = 0;
        self.head.saved_time = self.head.clock.elapsed;
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

    /// Whether as many keys have learnt from records before the beginning as the first snapshot has room for: others begin with their first record
    /// that counts.
    fn is_full_looking_back(&self) -> bool {
        let most = || (self.weight).keys_in(self.params.snapshot_bytes, (self.live, self.names));
        self.base.looking_back && self.live >= most()
    }

    fn insert(&mut self, key: &Key, state: KeyState) -> usize {
        let slot = self.slots.len();
        self.touched += self.weight.key(key);
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
    fn make_room(&mut self, params: &Params) -> Vec<usize> {
        let most = (self.weight).keys_in(params.bytes_max, (self.live, self.names));
        let keys_max = params.keys_max.min(most).max(1);
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
        oldest.extend(untouched.map(|(key, entry)| (entry.state.last_offset, key.clone())));
        oldest.sort_unstable();
        oldest.truncate(surplus);
        let mut slots = Vec::with_capacity(surplus);
        for (_, key) in oldest {
            let Some(slot) = self.touch(&key) else {
                continue;
            };
            self.slots[slot].evicted = true;
            self.names -= key.0.len() as u64;
            self.index.insert(key, None);
            slots.push(slot);
        }
        self.live -= slots.len();
        self.lately.fill((0, 0));
        slots
    }

    /// A record of a key came, which has slot `known`: moves the time. Answers the key's slot, the silence that ends, and by how much its
    /// clock was just found to be wrong.
    fn hear(
        &mut self,
        known: Option<usize>,
        (raw, found): (&RawRecord, &Decoded),
        params: &Params,
    ) -> (usize, Option<SilenceInfo>, Option<i64>) {
        let time = (found.time, raw.timestamp);
        let before = self.head.clock.stream();
        let (slot, Heard { elapsed, wrong }) = if let Some(slot) = known {
            let clock = &mut self.slots[slot].state.clock;
            (slot, self.head.clock.hear(clock, time))
        } else {
            let mut clock = KeyClock::new(raw.offset);
            let heard = self.head.clock.hear(&mut clock, time);
            self.live += 1;
            self.names += found.key.0.len() as u64;
            let state = KeyState::begin(clock, heard.elapsed, self.head.clock.era);
            (self.insert(&found.key, state), heard)
        };
        let era = self.head.clock.era;
        let state = &mut self.slots[slot].state;
        let silence = state.silence.take();
        let info = silence.map(|silence| SilenceInfo::new(silence, state, elapsed));
        let could = info.is_none() && state.rhythm.may_fall_silent(era);
        if known.is_some() {
            state.rhythm.hear(elapsed, era);
        }
        state.last_offset = raw.offset;
        let around = Around {
            before,
            now: self.head.clock.stream(),
            kafka: raw.timestamp,
        };
        let newest = windowing::bounded_time(found.time, params.late_after, around);
        state.newest = state.newest.max(newest);
        let deadline = state.deadline(params, era).filter(|_| !could);
        if let Some(deadline) = deadline {
            self.may_fall_silent(deadline, &found.key);
        }
        if self.head.saved_time == Timestamp::MIN {
            self.head.saved_time = self.head.clock.elapsed;
        }
        (slot, info, wrong)
    }

    /// A key may fall silent after `deadline`.
    fn may_fall_silent(&mut self, deadline: Timestamp, key: &Key) {
        self.due_added.insert((deadline, key.clone()));
        self.due_first = self.due_first.min(deadline);
    }

    /// The next key that may fall silent before `now`.
    fn next_due(&mut self, now: Timestamp) -> Option<Key> {
        let known = self.due.peek().map(|(at, _)| *at);
        let added = self.due_added.first().map(|(at, _)| *at);
        let first = known.into_iter().chain(added).min();
        self.due_first = first.unwrap_or(Timestamp(i64::MAX));
        if self.due_first >= now {
            None
        } else if known == first {
            self.due_taken += 1;
            self.due.next().map(|(_, key)| key.clone())
        } else {
            self.due_added.pop_first().map(|(_, key)| key)
        }
    }

    /// The elapsed time after which a key falls silent, as things are.
    fn deadline(&self, key: &Key, params: &Params) -> Option<Timestamp> {
        let state = match self.index.get(key) {
            Some(slot) => &self.slots[(*slot)?].state,
            None => &self.base.keys.get(key)?.state,
        };
        state.deadline(params, self.head.clock.era)
    }

    /// The keys that are silent at the present elapsed time and were not before, those due first first. Looks only at those that may be.
    fn fall_silent(&mut self, params: &Params) -> Vec<(usize, SilenceInfo)> {
        let now = self.head.clock.elapsed;
        if now <= self.due_first {
            return Vec::new();
        }
        let mut due: Vec<(Timestamp, Key)> = Vec::new();
        while due.len() < SILENCES_MAX
            && let Some(key) = self.next_due(now)
        {
            match self.deadline(&key, params) {
                Some(deadline) if deadline < now => due.push((deadline, key)),
                // It was heard since.
                Some(deadline) => self.may_fall_silent(deadline, &key),
                None => {}
            }
        }
        due.sort_unstable();
        due.dedup();
        let mut slots = Vec::with_capacity(due.len());
        for (_, key) in due {
            let Some(slot) = self.touch(&key) else {
                continue;
            };
            let state = &mut self.slots[slot].state;
            let silence = Silence {
                after: state.last_offset,
                since: self.head.clock.tell(state.rhythm.last),
            };
            state.silence = Some(silence);
            slots.push((slot, SilenceInfo::new(silence, state, now)));
        }
        slots
    }
}

impl<'a> Prepared<'a> {
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

    /// Takes in records, until the keys that they change take more than [`Params::snapshot_bytes`]: answers whether it took in all. `place` says
    /// which work a source belongs to; `None`: the partition is not ours, and its records are whoever's it is.
    pub fn walk(
        &mut self,
        batch: &RecordBatch,
        decoded: &DecodedBatch,
        place: &[Option<usize>],
        rules: Rules<'_>,
    ) -> bool {
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
        let (mut whole, mut touched) = (true, 0);
        for (record, raw) in batch.records().iter().enumerate() {
            let Some(work) = place[raw.source] else {
                continue;
            };
            let head = &self.works[work].head;
            // Already worked in: Kafka may deliver again what lies before a rewind.
            if raw.offset < head.position {
                continue;
            }
            if touched >= rules.params.snapshot_bytes {
                whole = false;
                break;
            }
            let base = self.works[work].base;
            if base.looking_back && raw.offset >= base.emit_from {
                // The first that counts is judged by what those before it leave when they are applied.
                self.works[work].head.position = base.emit_from;
                whole = false;
                break;
            }
            let before = self.works[work].touched;
            let head = &mut self.works[work].head;
            head.position = raw.offset.next();
            head.since_snapshot += 1;
            match &decoded.outcomes[record] {
                Ok(found) => {
                    let seed = seeds[raw.source].nth(raw.offset.0.unsigned_abs());
                    let (at, place) = (work, Place { work, record, seed });
                    self.take(place, (raw, found), decoded.row(record), rules);
                    touched += self.works[at].touched - before;
                }
                Err(_) => self.steps.push(Step {
                    work,
                    record,
                    event: Event::Dead,
                }),
            }
        }
        for work in &mut self.works {
            let group = &self.groups[work.group];
            for slot in &mut work.slots {
                group.remember(slot.strip, &mut slot.state.rows);
            }
        }
        whole
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
        let work = &mut self.works[at];
        let params = work.params;
        let steps = &mut self.steps;
        let mut push = |event| {
            steps.push(Step {
                work: at,
                record,
                event,
            });
        };
        let known = work.touch(&found.key);
        if known.is_none() && work.is_full_looking_back() {
            return;
        }
        if let Some(slot) = known
            && windowing::is_late(work.slots[slot].state.newest, found.time, params.late_after)
        {
            push(Event::Late);
            return;
        }
        if known.is_none() {
            for slot in work.make_room(params) {
                push(Event::Forget { slot });
            }
        }
        let (slot, info, wrong) = work.hear(known, (raw, found), params);
        if let Some(info) = info {
            push(Event::Spoke { slot, info });
        }
        if let Some(ahead_ms) = wrong
            && (raw.offset >= work.base.emit_from || work.base.looking_back)
        {
            self.wrong_clocks.push(WrongClock {
                at: work.base.at.clone(),
                key: found.key.clone(),
                ahead_ms,
            });
        }
        let Slot {
            key, state, strip, ..
        } = &mut work.slots[slot];
        let group = &mut self.groups[work.group];
        if !state.clock.sequence.follows(found.time, params.window) {
            state.rows.clear();
            group.cut(*strip);
        }
        let (index, warming) = group.add((key, strip, state), (record, row), seed, rules);
        let clock = work.head.clock.now();
        push(Event::Judge {
            slot,
            row: index,
            warming,
            clock,
        });
        for (slot, info) in work.fall_silent(params) {
            push(Event::Silent { slot, info, clock });
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
