//! All the state there is, and the two steps that change it.
//!
//! [`Pipeline::stage`] works a batch out in full and changes nothing; its result is published in one transaction; only then does
//! [`Pipeline::apply`] make it state. If the transaction aborts there is nothing to undo: rewind and go on.
//!
//! Invariants: a snapshot is never ahead of the committed offset; a change of model, or of what else is judged by, always travels with a snapshot that names it; a record
//! below a partition's `emit_from` changes state and emits nothing (replay); every record ends as scored, warming up, late, or dead letter.
//!
//! Next: `types` (what goes in and out), `state` (what is remembered), `prepare` (the half of staging that needs no scores), `windows` (what
//! is scored), `evaluate` (the half that does), `dismissed` (what is held back), `output` (what is emitted), `snapshot` (state to entries and
//! back; `codec` of one key), `lookback` (what is learnt before it begins).

mod codec;
mod dismissed;
mod evaluate;
mod lookback;
mod output;
mod prepare;
mod seal;
mod snapshot;
mod state;
mod types;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

pub use snapshot::{
    AsOf, EpisodeRecord, as_of, episode_log, model_version, names, owner, quarantine, replayed_by,
};
pub use types::{
    Assigned, Column, ColumnsDiffer, Discarded, OpenEpisode, Outbox, PartitionAssignment,
    RestoreError, StateEntry, Suppressed, Tally, Watched, Watching, WrongClock, WrongClocks,
};

use crate::detect::{AlertParams, Params};
use crate::model::card::{Feedback, ModelVersion, Said};
use crate::model::trained::TrainedModel;
use crate::record::{DecodedBatch, Key, Missing, RecordBatch};
use crate::stream::{EpisodeId, Offset, Positions, TopicPartition};
use crate::time::Timestamp;
use evaluate::EventEmitter;
use prepare::{Prepared, Slot, Work};
use snapshot::RestoreTarget;
use state::{Head, KeyEntry, PartitionState, Quarantined, Weight, tombstone};
use windows::Rules;

/// A batch worked out: what to publish, and what becomes state once it is published.
#[must_use = "publish the outbox, then `apply`, or the batch is lost"]
#[derive(Debug)]
pub struct Staged {
    /// To publish. Empty when the batch was all replay: then there is nothing to publish, only to apply.
    pub outbox: Outbox,
    /// To count after the commit.
    pub tally: Tally,
    /// Kafka timestamps of the records that caused alerts: for the latency from record to alert.
    pub alerted: Vec<Timestamp>,
    /// What people who watch are shown of what was judged.
    pub watched: Vec<Watched>,
    /// Keys whose clocks were found to be wrong, each once.
    pub wrong_clocks: Vec<WrongClock>,
    /// All of the batch was worked in. If not, it is staged again once this is applied: what it has is not worked in twice.
    pub whole: bool,
    deltas: Vec<Delta>,
}

/// The sha256 of a model's file, once it was asked for; `None` of one that has no file.
type Digest = OnceLock<Option<Arc<str>>>;

/// The state of all partitions that a worker holds.
#[derive(Debug)]
pub struct Pipeline {
    params: Arc<Params>,
    columns: Arc<[Column]>,
    /// The champion: what partitions are judged by as soon as they may change.
    current: Option<Arc<TrainedModel>>,
    /// The models that judge, with the sha256 of their files, once they were asked for.
    digests: Vec<(Arc<TrainedModel>, Digest)>,
    partitions: BTreeMap<TopicPartition, PartitionState>,
    /// What people said of episodes, once it was heard.
    said: Option<Arc<Said>>,
    /// What [`Staged::watched`] has.
    watching: Watching,
}

/// What a staged batch makes of one partition.
#[derive(Debug)]
struct Delta {
    at: TopicPartition,
    /// Where the batch began: the state that it was worked out from.
    from: Offset,
    head: Head,
    model: Option<Arc<TrainedModel>>,
    params: Arc<Params>,
    slots: Vec<Slot>,
    /// The bytes of all keys' names.
    names: u64,
    /// What their entries take.
    weight: Weight,
    quarantine: BTreeMap<EpisodeId, Option<Quarantined>>,
    /// So many of the first keys that may fall silent were looked at ...
    due_taken: usize,
    /// ... and may do so later, as others may.
    due_added: BTreeSet<(Timestamp, Key)>,
    snapshot: bool,
    /// Lost records are counted with it.
    emitted: bool,
}

impl Pipeline {
    /// No partitions yet. Records have `columns`, in this order.
    pub fn new(params: Arc<Params>, columns: Arc<[Column]>) -> Self {
        Self {
            params,
            columns,
            current: None,
            digests: Vec::new(),
            partitions: BTreeMap::new(),
            said: None,
            watching: Watching::default(),
        }
    }

    /// The same, with this in [`Staged::watched`].
    #[must_use]
    pub fn watching(mut self, watching: Watching) -> Self {
        self.watching = watching;
        self
    }

    /// Takes over a partition: restores its state and answers where to read on. `judging` is the model that the state names (see
    /// [`replayed_by`]), `None` for the cold start or if it is not at hand. Where there is no state, or none that can be used, the champion
    /// judges; so it does where there is nothing to replay and `judging` is not at hand.
    pub fn assign(
        &mut self,
        assignment: &PartitionAssignment,
        judging: Option<Arc<TrainedModel>>,
    ) -> Result<Assigned, RestoreError> {
        let target = RestoreTarget {
            params: &self.params,
            columns: &self.columns,
            model: judging.as_ref().map(|model| self.fits(model)),
            lookback: self.lookback(),
        };
        let (mut partition, discarded) = snapshot::restore(assignment, target)?;
        partition.model = if partition.unsaved {
            let judging = judging.filter(|model| self.fits(model));
            self.current.clone().or(judging)
        } else {
            judging
        };
        if let Some(model) = &partition.model {
            self.remember(model);
        }
        let read_from = partition.head.position;
        let before = u64::try_from(partition.emit_from.0 - read_from.0).unwrap_or(0);
        let (skipped, looks_back) = (partition.skipped, partition.looking_back);
        if let Some(said) = &self.said {
            partition.hear(said, &self.params);
        }
        self.partitions.insert(assignment.at.clone(), partition);
        Ok(Assigned {
            read_from,
            replay: if looks_back { 0 } else { before },
            lookback: if looks_back { before } else { 0 },
            skipped,
            discarded,
        })
    }

    /// Retention deleted what lies before these offsets, which was to be read next: reads on there. Answers the partitions whose state was
    /// discarded, because it still had to be brought up to date with what is gone.
    pub fn skip(&mut self, to: &Positions) -> Vec<TopicPartition> {
        let mut discarded = Vec::new();
        for (at, to) in to {
            if let Some(partition) = self.partitions.get_mut(at)
                && *to > partition.head.position
                && partition.skip(*to, self.current.as_ref(), &self.params)
            {
                discarded.push(at.clone());
            }
        }
        discarded
    }

    /// Snapshots of partitions that no record would bring: those that the champion does not judge yet, so that no model is needed longer than
    /// it judges, or not by the present parameters; those that lost records; and those `quiet` since they were at these offsets, so that replay begins near the end even if
    /// nothing comes for longer than the input keeps its records. Their positions go with them: a member that lost them is fenced. Where they
    /// change much they come one after another: to be asked for again until there are none.
    pub fn flush_idle_snapshots(&self, quiet: &Positions) -> Option<Staged> {
        let mut staged = Staged {
            outbox: Outbox::default(),
            tally: Tally::default(),
            alerted: Vec::new(),
            watched: Vec::new(),
            wrong_clocks: Vec::new(),
            whole: true,
            deltas: Vec::new(),
        };
        let judging = (self.current.as_ref(), &self.params);
        let mut room = self.params.snapshot_bytes;
        for (at, partition) in &self.partitions {
            let quiet = quiet.get(at) == Some(&partition.head.position);
            if partition.needs_idle_snapshot(judging, quiet) {
                let work = self.begin(partition, true);
                self.end_abandoned(&work, (&mut staged.outbox, &mut staged.tally));
                let delta = self.finish(work, (&mut staged.outbox, &mut staged.tally));
                staged.deltas.push(delta);
                room = room.saturating_sub(partition.changed);
            }
            if room == 0 {
                break;
            }
        }
        (!staged.deltas.is_empty()).then_some(staged)
    }

    /// The number of a model and the sha256 of its file, which is worked out once.
    fn name(&self, model: Option<&Arc<TrainedModel>>) -> (ModelVersion, Option<Arc<str>>) {
        let known = |model: &&Arc<TrainedModel>| {
            let (_, digest) = self.digests.iter().find(|(of, _)| Arc::ptr_eq(of, model))?;
            digest.get_or_init(|| snapshot::digest(model)).clone()
        };
        (state::version(model), model.as_ref().and_then(known))
    }

    /// Whether the champion is the model that some state names, and not another of the same number.
    ///
    /// # Errors
    /// If the state's head cannot be read.
    pub fn is_named(&self, state: &[StateEntry]) -> Result<bool, RestoreError> {
        let version = state::version(self.current.as_ref());
        let digest = || self.name(self.current.as_ref()).1;
        snapshot::names_with(state, version, digest)
    }

    /// A model may judge from now on: its name may be asked for. Those that judge nothing any more are let go of.
    fn remember(&mut self, model: &Arc<TrainedModel>) {
        let judges = |of: &Arc<TrainedModel>| {
            let mut judging = self.partitions.values().filter_map(|p| p.model.as_ref());
            self.current.iter().any(|model| Arc::ptr_eq(of, model))
                || judging.any(|model| Arc::ptr_eq(of, model))
        };
        self.digests.retain(|(of, _)| judges(of));
        if !self.digests.iter().any(|(of, _)| Arc::ptr_eq(of, model)) {
            self.digests.push((Arc::clone(model), OnceLock::new()));
        }
    }

    fn begin<'a>(&'a self, partition: &'a PartitionState, saves: bool) -> Work<'a> {
        let rows = (&self.params, self.columns.len());
        Work::begin(partition, self.current.as_ref(), rows, saves)
    }

    /// Those of some partitions whose state the next transaction saves: of those due the ones with most to save, as many as it has room for. The
    /// others' turn comes with the next.
    fn saved(&self, among: &[TopicPartition]) -> BTreeSet<TopicPartition> {
        let mut due: Vec<&PartitionState> = among
            .iter()
            .filter_map(|at| self.partitions.get(at))
            .filter(|partition| partition.due(self.current.as_ref(), &self.params))
            .collect();
        due.sort_by_key(|partition| std::cmp::Reverse((partition.unsaved, partition.changed)));
        let mut room = self.params.snapshot_bytes;
        let fits = |partition: &&PartitionState| {
            let fits = partition.unsaved || room > 0;
            room = room.saturating_sub(partition.changed);
            fits
        };
        due.into_iter()
            .take_while(fits)
            .map(|partition| partition.at.clone())
            .collect()
    }

    /// Lets go of a partition.
    pub fn revoke(&mut self, at: &TopicPartition) {
        self.partitions.remove(at);
    }

    /// The model to judge by from now on: each partition takes it up at its next batch, when it is not replaying.
    pub fn promote(&mut self, model: Arc<TrainedModel>) -> Result<(), ColumnsDiffer> {
        if !self.fits(&model) {
            return Err(ColumnsDiffer {
                version: model.card.version,
                theirs: model.card.columns.len(),
                ours: self.columns.len(),
            });
        }
        self.remember(&model);
        self.current = Some(model);
        Ok(())
    }

    /// The parameters to judge by from now on, of which only what [`AlertParams`] has may be others: each partition takes them up at its next batch,
    /// when it is not replaying.
    pub fn judge_by(&mut self, alerts: AlertParams) {
        self.params = Arc::new(self.params.with_alerts(alerts));
    }

    /// What is judged by.
    pub fn params(&self) -> &Arc<Params> {
        &self.params
    }

    fn fits(&self, model: &TrainedModel) -> bool {
        let ours = self.columns.iter().map(|column| &column.name);
        model.card.columns.iter().eq(ours)
    }

    /// Takes in what people said of episodes, all of it: what is like one that they dismissed is held back from the next batch on, which carries
    /// a snapshot. A partition that replays hears it when it has caught up, one that is taken over later, then. Who hears nothing leaves what is
    /// held back as the state has it. Answers whether anything was called the new normal since what was heard before.
    pub fn hear(&mut self, said: Arc<Said>) -> bool {
        let before = self.said.as_ref();
        let news = before.is_some_and(|before| Feedback::newly_normal(before, &said));
        for partition in self.partitions.values_mut() {
            partition.hear(&said, &self.params);
        }
        self.said = Some(said);
        news
    }

    /// The champion, if there is one.
    pub fn current(&self) -> Option<&Arc<TrainedModel>> {
        self.current.as_ref()
    }

    /// Works out a batch. Changes nothing.
    ///
    /// # Panics
    /// If `decoded` is not of `batch` or has other columns, or if a record would end as more or less than one of four (P2): mistakes in this
    /// program.
    pub fn stage(&self, batch: &RecordBatch, decoded: &DecodedBatch) -> Staged {
        assert_eq!(decoded.outcomes.len(), batch.len(), "one outcome a record");
        assert_eq!(
            decoded.columns,
            self.columns.len(),
            "the decoder has the pipeline's columns"
        );
        let rules = Rules {
            params: &self.params,
            columns: &self.columns,
            fill_last: self.columns.iter().any(|c| c.missing == Missing::Last),
        };
        let mut prepared = Prepared::default();
        let mut place = Vec::with_capacity(batch.sources().len());
        let saved = self.saved(batch.sources());
        for at in batch.sources() {
            let partition = self.partitions.get(at);
            place.push(partition.map(|partition| {
                let work = self.begin(partition, saved.contains(at));
                prepared.add(work, rules)
            }));
        }
        let whole = prepared.walk(batch, decoded, &place, rules);
        let (mut outbox, mut tally) = (Outbox::default(), Tally::default());
        // Before anything of these records begins, perhaps under the same id.
        for work in &prepared.works {
            self.end_abandoned(work, (&mut outbox, &mut tally));
        }
        let mut emitter = EventEmitter {
            params: &self.params,
            columns: &self.columns,
            batch,
            decoded,
            outbox,
            tally,
            alerted: Vec::new(),
            watched: Vec::new(),
            judged: 0,
            watching: self.watching,
        };
        emitter.emit_all(&mut prepared);
        let EventEmitter {
            mut outbox,
            mut tally,
            alerted,
            watched,
            ..
        } = emitter;
        assert!(
            tally.adds_up(),
            "every record ends as exactly one of four: {tally:?}"
        );
        let deltas = prepared
            .works
            .into_iter()
            .map(|work| self.finish(work, (&mut outbox, &mut tally)))
            .collect();
        Staged {
            outbox,
            tally,
            alerted,
            watched,
            wrong_clocks: prepared.wrong_clocks,
            whole,
            deltas,
        }
    }

    /// Ends what was open in a state that was discarded, with the snapshot of the one in its place.
    fn end_abandoned(&self, work: &Work<'_>, (outbox, tally): (&mut Outbox, &mut Tally)) {
        if work.snapshot {
            let (abandoned, known) = &work.base.abandoned;
            let at = work.base.head.position;
            tally.closed += abandoned.len() as u64;
            let alerts = abandoned.iter();
            let alerts = alerts.map(|open| output::abandoned(&self.params, open, *known, at));
            outbox.alerts.extend(alerts);
        }
    }

    /// Adds what a partition's part of the batch writes to the state topic, and its position.
    fn finish(&self, mut work: Work<'_>, (outbox, tally): (&mut Outbox, &mut Tally)) -> Delta {
        let (base, detector) = (work.base, &self.params.detector);
        if base.looking_back {
            // Nobody was told of it, and training judges its history itself.
            work.quarantine.clear();
        }
        if work.snapshot {
            let model = self.name(work.model.as_ref());
            outbox
                .state
                .extend(snapshot::take(work.params, base, model, &self.columns));
            let horizon = base.head.clock.stream().minus(self.params.quarantine_keep);
            for (id, quarantined) in &base.quarantine {
                let old = quarantined.known.is_some_and(|to| to < horizon)
                    && !base.holds(id, quarantined);
                if quarantined.is_empty() || old {
                    work.quarantine.entry(id.clone()).or_insert(None);
                } else if base.unsaved {
                    let quarantined = Some(quarantined.clone());
                    work.quarantine.entry(id.clone()).or_insert(quarantined);
                }
            }
        }
        for quarantined in work.quarantine.values_mut().flatten() {
            if quarantined.to.is_some() {
                quarantined.known.get_or_insert(work.head.clock.stream());
            }
        }
        let caught_up = work.snapshot || work.head.position > base.emit_from;
        if caught_up {
            tally.skipped += base.skipped;
            for (id, quarantined) in &work.quarantine {
                let entry =
                    snapshot::quarantine_entry(detector, &base.at, id, quarantined.as_ref());
                outbox.state.push(entry);
            }
            outbox.positions.insert(base.at.clone(), work.head.position);
        }
        Delta {
            at: base.at.clone(),
            from: base.head.position,
            head: work.head,
            model: work.model,
            params: Arc::clone(work.params),
            slots: work.slots,
            names: work.names,
            weight: work.weight,
            quarantine: work.quarantine,
            due_taken: work.due_taken,
            due_added: work.due_added,
            snapshot: work.snapshot,
            emitted: caught_up,
        }
    }

    /// Makes a published batch state.
    ///
    /// # Panics
    /// If the batch was staged on another state than the present one: it was applied already, or out of order.
    pub fn apply(&mut self, staged: Staged) {
        for delta in staged.deltas {
            // Revoked between staging and now: the state is not ours to change any more.
            let Some(partition) = self.partitions.get_mut(&delta.at) else {
                continue;
            };
            assert_eq!(
                partition.head.position, delta.from,
                "a batch is applied to the state that it was staged on: {}",
                delta.at
            );
            partition.apply(delta);
            if partition.unheard
                && let Some(said) = &self.said
            {
                partition.hear(said, &self.params);
            }
        }
    }

    /// The next offset to read of each partition held.
    pub fn positions(&self) -> Positions {
        self.partitions
            .iter()
            .map(|(at, partition)| (at.clone(), partition.head.position))
            .collect()
    }

    /// Episodes and silences that go on, over all partitions. Walks over all keys: for a metric now and then.
    pub fn episodes_open(&self) -> u64 {
        self.partitions
            .values()
            .map(PartitionState::episodes_open)
            .sum()
    }

    /// The episodes, silences and storms that go on, the newest first, at most `max`. Walks over all keys: for people, now and then.
    pub fn open(&self, max: usize) -> Vec<OpenEpisode> {
        let mut open = Vec::new();
        for partition in self.partitions.values() {
            partition.open(&self.params, &mut open);
        }
        open.sort_by(|a, b| (b.since, &a.id).cmp(&(a.since, &b.id)));
        open.truncate(max);
        open
    }

    /// Keys whose clocks are wrong, over all partitions, and the worst `max` of them. Walks over all keys: for people, now and then.
    pub fn wrong_clocks(&self, max: usize) -> WrongClocks {
        let mut all = WrongClocks::default();
        for partition in self.partitions.values() {
            partition.wrong_clocks(&mut all.worst);
        }
        for found in &all.worst {
            let (keys, most) = if found.ahead_ms > 0 {
                (&mut all.ahead, &mut all.most_ahead_ms)
            } else {
                (&mut all.behind, &mut all.most_behind_ms)
            };
            *keys += 1;
            *most = (*most).max(found.ahead_ms.unsigned_abs());
        }
        let size = |found: &WrongClock| std::cmp::Reverse(found.ahead_ms.unsigned_abs());
        all.worst
            .sort_by(|a, b| (size(a), &a.at, &a.key).cmp(&(size(b), &b.at, &b.key)));
        all.worst.truncate(max);
        all
    }

    /// Keys remembered, over all partitions.
    pub fn keys(&self) -> u64 {
        self.partitions.values().map(|p| p.keys.len() as u64).sum()
    }

    /// The model that judges each partition held; 0: the cold start.
    pub fn judging(&self) -> BTreeMap<TopicPartition, ModelVersion> {
        self.partitions
            .iter()
            .map(|(at, partition)| (at.clone(), state::version(partition.model.as_ref())))
            .collect()
    }

    /// Partitions that are still replaying.
    pub fn replaying(&self) -> usize {
        self.partitions.values().filter(|p| p.replaying()).count()
    }
}

impl PartitionState {
    fn apply(&mut self, delta: Delta) {
        if delta.snapshot {
            // What was dirty has just been saved; what the batch touched is dirty again below.
            #[expect(clippy::iter_over_hash_type, reason = "each is set alike")]
            for entry in self.keys.values_mut() {
                entry.dirty = false;
            }
            self.forgotten.clear();
            self.changed = 0;
            self.abandoned.0.clear();
            self.unsaved = false;
        }
        if delta.emitted {
            self.skipped = 0;
        }
        for _ in 0..delta.due_taken {
            self.due.pop_first();
        }
        self.due.extend(delta.due_added);
        self.head = delta.head;
        self.names = delta.names;
        self.model = delta.model;
        self.params = delta.params;
        for slot in delta.slots {
            if slot.evicted {
                self.changed += tombstone(&slot.key);
                self.keys.remove(&slot.key);
                self.forgotten.insert(slot.key);
                continue;
            }
            let weight = delta.weight.key(&slot.key);
            let entry = KeyEntry {
                state: slot.state,
                dirty: true,
            };
            let before = self.keys.insert(slot.key, entry);
            if !before.is_some_and(|before| before.dirty) {
                self.changed += weight;
            }
        }
        let noted_anew = !delta.quarantine.is_empty();
        for (id, quarantined) in delta.quarantine {
            match quarantined {
                Some(quarantined) => self.quarantine.insert(id, quarantined),
                None => self.quarantine.remove(&id),
            };
        }
        if noted_anew && !self.dismissed.is_empty() {
            self.remember_dismissed();
        }
        if self.looking_back && !self.replaying() {
            self.begin_live();
        }
    }
}

#[cfg(test)]
mod absence_tests;
#[cfg(test)]
mod bound_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod dismissed_tests;
#[cfg(test)]
mod drift_tests;
#[cfg(test)]
mod law_tests;
#[cfg(test)]
mod lookback_tests;
#[cfg(test)]
mod memory_tests;
#[cfg(test)]
mod reload_tests;
#[cfg(test)]
mod season_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod time_tests;
#[cfg(test)]
mod watch_tests;
