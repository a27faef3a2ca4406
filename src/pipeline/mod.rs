//! All the state there is, and the two steps that change it.
//!
//! [`Pipeline::stage`] works a batch out in full and changes nothing; its result is published in one transaction; only then does
//! [`Pipeline::apply`] make it state. If the transaction aborts there is nothing to undo: rewind and go on.
//!
//! Invariants: a snapshot is never ahead of the committed offset; a change of model always travels with a snapshot that names it; a record
//! below a partition's `emit_from` changes state and emits nothing (replay); every record ends as scored, warming up, late, or dead letter.

//! Next: `state` (what is remembered), `gather` (the half of staging that needs no scores), `windows` (what is scored), `verdict` (the half that does), `message`
//! (what goes out), `snapshot` (state to bytes and back).

mod gather;
mod message;
mod snapshot;
mod state;
mod verdict;
mod windows;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use snapshot::{model_version, owner, quarantine};

use crate::detect::Params;
use crate::model::card::ModelVersion;
use crate::model::trained::TrainedModel;
use crate::record::{DecodedBatch, Header, Key, Missing, RecordBatch};
use crate::stream::{Offset, Positions, TopicPartition};
use crate::time::Timestamp;
use gather::{Gathered, Rules, Slot, Work};
use state::{Head, Kept, PartitionState, Quarantined};
use verdict::Telling;

/// A message to produce.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Kafka key.
    pub key: Option<Vec<u8>>,
    /// Kafka value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers.
    pub headers: Vec<Header>,
    /// Kafka timestamp: min(event time, now), because brokers refuse the future.
    pub timestamp: Timestamp,
    /// The input partition that caused it.
    pub cause: TopicPartition,
}

/// One entry of the compacted state topic: a key and a value, both versioned bytes; `None` forgets the key.
#[derive(Clone, Debug, PartialEq)]
pub struct StateEntry {
    /// The input partition that it belongs to; it is written to a partition of the state topic chosen by it alone.
    pub at: TopicPartition,
    /// Its name: unique within the state topic.
    pub key: Vec<u8>,
    /// Its content.
    pub value: Option<Vec<u8>>,
}

/// A partition given to a worker.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Which.
    pub at: TopicPartition,
    /// Where to begin: the group's committed offset, or the configured start where there is none.
    pub committed: Offset,
    /// Nothing was committed yet: `committed` is the configured start, which the worker commits at once, so that a crash before the first
    /// batch does not move it.
    pub fresh: bool,
    /// The partition's entries of the state topic, latest per key, all transactions before the grant resolved.
    pub state: Vec<StateEntry>,
}

/// All that one transaction carries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outbox {
    /// To the alerts topic.
    pub alerts: Vec<Message>,
    /// To the scores topic, if there is one.
    pub scores: Vec<Message>,
    /// To the dead-letter topic.
    pub dead_letters: Vec<Message>,
    /// To the late topic, or the dead-letter topic where there is none.
    pub late: Vec<Message>,
    /// To the state topic.
    pub state: Vec<StateEntry>,
    /// What to commit: the next offset to read of each partition in the batch.
    pub positions: Positions,
}

/// What a batch came to, counted. Added to the metrics only after the commit, so that replays and aborts are not counted twice.
///
/// `consumed = scored + warming_up + late + dead_lettered`, always.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records taken from the input, replayed ones not counted.
    pub consumed: u64,
    /// Records that got a score by a full window (or a warm cold start).
    pub scored: u64,
    /// Records whose window or cold start is still filling.
    pub warming_up: u64,
    /// Records later than the bound.
    pub late: u64,
    /// Records that could not be read, by reason.
    pub dead_lettered: BTreeMap<&'static str, u64>,
    /// Records below `emit_from`: they changed state again and emitted nothing.
    pub replayed: u64,
    /// Episodes opened, reopened ones included.
    pub opened: u64,
    /// Episodes closed.
    pub closed: u64,
    /// Alerts held back by cooldown or a rate limit.
    pub suppressed: u64,
}

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
    /// A sample of what was judged, for people who watch: the first few records, and all that counted as anomalous.
    pub watched: Vec<Watched>,
    deltas: Vec<Delta>,
}

/// A judged record, for people who watch.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    /// Whose.
    pub key: Key,
    /// Event time.
    pub time: Timestamp,
    /// The probability that a normal record scores as high.
    pub p_value: f64,
    /// Whether the record lies in an open episode.
    pub alert: bool,
    /// Its place in the batch.
    pub record: usize,
    /// How strange it is.
    pub score: f64,
    /// What judged it; 0: the cold start.
    pub model: ModelVersion,
    /// The window that was judged, `W · D` values, NaN where missing. Empty unless every judged record is watched.
    pub window: Vec<f64>,
}

/// A feature column, as the schema resolved it.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The feature's name, as models and alerts know it.
    pub name: String,
    /// What to do where it was not observed. `Constant` and `DeadLetter` are decoding's business; here only `Last` acts.
    pub missing: Missing,
}

/// What an assignment came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// Where to read on: at or before the committed offset.
    pub read_from: Offset,
    /// Offsets to replay before anything is emitted.
    pub replay: u64,
    /// State there was, and why it could not be used; the partition begins anew.
    pub discarded: Option<&'static str>,
}

/// State that was written by something this program does not understand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "state entry `{entry}` of {at} is unreadable: {problem}; if no newer program wrote it, delete the state topic"
)]
pub struct RestoreError {
    /// The partition.
    pub at: TopicPartition,
    /// The entry's key.
    pub entry: String,
    /// What is wrong.
    pub problem: String,
}

/// A model that was made for other features than this pipeline has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("model {version} was made for {theirs} columns that are not this detector's {ours}")]
pub struct ColumnsDiffer {
    /// The model.
    pub version: ModelVersion,
    /// Its columns.
    pub theirs: usize,
    /// Ours.
    pub ours: usize,
}

/// The state of all partitions that a worker holds.
#[derive(Debug)]
pub struct Pipeline {
    params: Arc<Params>,
    columns: Arc<[Column]>,
    /// The champion: what partitions are judged by as soon as they may change.
    current: Option<Arc<TrainedModel>>,
    partitions: BTreeMap<TopicPartition, PartitionState>,
    /// [`Staged::watched`] has every record that was judged.
    watch_all: bool,
}

/// What a staged batch makes of one partition.
#[derive(Debug)]
struct Delta {
    at: TopicPartition,
    /// Where the batch began: the state that it was worked out from.
    from: Offset,
    head: Head,
    model: Option<Arc<TrainedModel>>,
    slots: Vec<Slot>,
    quarantine: BTreeMap<String, Option<Quarantined>>,
    snapshot: bool,
}

impl Pipeline {
    /// No partitions yet. Records have `columns`, in this order.
    pub fn new(params: Arc<Params>, columns: Arc<[Column]>) -> Self {
        Self {
            params,
            columns,
            current: None,
            partitions: BTreeMap::new(),
            watch_all: false,
        }
    }

    /// The same, with every judged record in [`Staged::watched`]: for files, where each line gets its score.
    #[must_use]
    pub fn watching_all(mut self) -> Self {
        self.watch_all = true;
        self
    }

    /// Takes over a partition: restores its state and answers where to read on. `judging` is the model that the state names (see
    /// [`model_version`]), `None` for version 0; where there is no state, or none that can be used, the champion judges.
    pub fn assign(
        &mut self,
        grant: &Grant,
        judging: Option<Arc<TrainedModel>>,
    ) -> Result<Assigned, RestoreError> {
        let fits = judging.as_ref().is_none_or(|model| self.fits(model));
        let (mut partition, discarded) = snapshot::restore(grant, &self.columns, fits)?;
        partition.model = if partition.unsaved {
            self.current.clone()
        } else {
            judging
        };
        let read_from = partition.head.position;
        self.partitions.insert(grant.at.clone(), partition);
        Ok(Assigned {
            read_from,
            replay: u64::try_from(grant.committed.0 - read_from.0).unwrap_or(0),
            discarded,
        })
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
        self.current = Some(model);
        Ok(())
    }

    fn fits(&self, model: &TrainedModel) -> bool {
        let ours = self.columns.iter().map(|column| &column.name);
        model.card.columns.iter().eq(ours)
    }

    /// The champion, if there is one.
    pub fn current(&self) -> Option<&Arc<TrainedModel>> {
        self.current.as_ref()
    }

    /// Works out a batch. Changes nothing. `now` only bounds the timestamps of what is written.
    ///
    /// # Panics
    /// If `decoded` is not of `batch` or has other columns, or if a record would end as more or less than one of four (P2): mistakes in this
    /// program.
    pub fn stage(&self, batch: &RecordBatch, decoded: &DecodedBatch, now: Timestamp) -> Staged {
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
        let mut gathered = Gathered::default();
        let mut place = Vec::with_capacity(batch.sources().len());
        for at in batch.sources() {
            let partition = self.partitions.get(at);
            place.push(partition.map(|partition| {
                let work = Work::begin(partition, self.current.as_ref(), &self.params);
                gathered.add(work, rules)
            }));
        }
        gathered.walk(batch, decoded, &place, rules);
        let mut telling = Telling {
            params: &self.params,
            columns: &self.columns,
            batch,
            decoded,
            now,
            outbox: Outbox::default(),
            tally: Tally::default(),
            alerted: Vec::new(),
            watched: Vec::new(),
            watch_all: self.watch_all,
        };
        telling.tell_all(&mut gathered);
        let Telling {
            mut outbox,
            tally,
            alerted,
            watched,
            ..
        } = telling;
        assert!(
            tally.adds_up(),
            "every record ends as exactly one of four: {tally:?}"
        );
        let deltas = gathered
            .works
            .into_iter()
            .map(|work| self.finish(work, &mut outbox))
            .collect();
        Staged {
            outbox,
            tally,
            alerted,
            watched,
            deltas,
        }
    }

    /// Adds what a partition's part of the batch writes to the state topic, and its position.
    fn finish(&self, mut work: Work<'_>, outbox: &mut Outbox) -> Delta {
        let (base, detector) = (work.base, &self.params.detector);
        if work.snapshot {
            let model = state::version(work.model.as_ref());
            outbox
                .state
                .extend(snapshot::take(detector, base, model, &self.columns));
            let horizon = base.head.stream_time.minus(self.params.quarantine_keep);
            for (id, noted) in &base.quarantine {
                if noted.to_time.is_some_and(|to| to < horizon) {
                    work.quarantine.entry(id.clone()).or_insert(None);
                } else if base.unsaved {
                    let noted = Some(noted.clone());
                    work.quarantine.entry(id.clone()).or_insert(noted);
                }
            }
        }
        let caught_up = work.head.position > base.emit_from;
        if caught_up {
            for (id, noted) in &work.quarantine {
                let entry = snapshot::quarantine_entry(detector, &base.at, id, noted.as_ref());
                outbox.state.push(entry);
            }
            outbox.positions.insert(base.at.clone(), work.head.position);
        }
        Delta {
            at: base.at.clone(),
            from: base.head.position,
            head: work.head,
            model: work.model,
            slots: work.slots,
            quarantine: work.quarantine,
            snapshot: work.snapshot,
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
            for kept in self.keys.values_mut() {
                kept.dirty = false;
            }
            self.forgotten.clear();
            self.unsaved = false;
        }
        self.head = delta.head;
        self.model = delta.model;
        for slot in delta.slots {
            if slot.evicted {
                self.keys.remove(&slot.key);
                self.forgotten.insert(slot.key);
            } else {
                let kept = Kept {
                    state: slot.state,
                    dirty: true,
                };
                self.keys.insert(slot.key, kept);
            }
        }
        for (id, noted) in delta.quarantine {
            match noted {
                Some(noted) => self.quarantine.insert(id, noted),
                None => self.quarantine.remove(&id),
            };
        }
    }
}

impl Tally {
    /// P2: `consumed = scored + warming_up + late + dead_lettered`.
    pub fn adds_up(&self) -> bool {
        let dead: u64 = self.dead_lettered.values().sum();
        self.consumed == self.scored + self.warming_up + self.late + dead
    }
}

impl Outbox {
    /// Whether there is nothing to publish: the batch was all replay.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty() && self.state.is_empty()
    }
}

#[cfg(test)]
mod season_tests;
#[cfg(test)]
mod tests;
