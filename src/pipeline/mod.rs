//! All the state there is, and the two steps that change it.
//!
//! [`Pipeline::stage`] works a batch out in full and changes nothing; its result is published in one transaction; only then does
//! [`Pipeline::apply`] make it state. If the transaction aborts there is nothing to undo: rewind and go on.
//!
//! Invariants: a snapshot is never ahead of the committed offset; a change of model always travels with a snapshot that names it; a record
//! below a partition's `emit_from` changes state and emits nothing (replay); every record ends as scored, warming up, late, or dead letter.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::detect::Params;
use crate::model::card::{Exclusion, ModelVersion};
use crate::model::trained::TrainedModel;
use crate::record::{DecodedBatch, Header, Missing, RecordBatch};
use crate::stream::{Offset, Positions, TopicPartition};
use crate::time::Timestamp;

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
}

impl Pipeline {
    /// No partitions yet. Records have `columns`, in this order.
    pub fn new(params: Arc<Params>, columns: Arc<[Column]>) -> Self {
        Self { params, columns }
    }

    /// Takes over a partition: restores its state and answers where to read on. `judging` is the model that the state names (see
    /// [`model_version`]), or the champion where there is no state.
    pub fn assign(
        &mut self,
        grant: &Grant,
        judging: Option<Arc<TrainedModel>>,
    ) -> Result<Assigned, RestoreError> {
        let _ = (&self.params, &self.columns, judging);
        Ok(Assigned {
            read_from: grant.committed,
            replay: 0,
            discarded: None,
        })
    }

    /// Lets go of a partition.
    pub fn revoke(&mut self, at: &TopicPartition) {
        let _ = at;
    }

    /// The model to judge by from now on: each partition takes it up at its next batch, when it is not replaying.
    pub fn promote(&mut self, model: Arc<TrainedModel>) -> Result<(), ColumnsDiffer> {
        let _ = model;
        Ok(())
    }

    /// Works out a batch. Changes nothing. `now` only bounds the timestamps of what is written.
    pub fn stage(&self, batch: &RecordBatch, decoded: &DecodedBatch, now: Timestamp) -> Staged {
        let _ = (batch, decoded, now);
        unimplemented!("being written")
    }

    /// Makes a published batch state.
    pub fn apply(&mut self, staged: Staged) {
        drop(staged);
    }

    /// The next offset to read of each partition held.
    pub fn positions(&self) -> Positions {
        Positions::new()
    }
}

/// The model that the state of a partition names: the one that must judge its replay. `None`: there is no state. Version 0 is the cold start.
pub fn model_version(state: &[StateEntry]) -> Result<Option<ModelVersion>, RestoreError> {
    let _ = state;
    Ok(None)
}

/// The partition that an entry of the state topic belongs to, from its key; `None` if the key is not ours.
pub fn owner(detector: &str, key: &[u8]) -> Option<TopicPartition> {
    let _ = (detector, key);
    None
}

/// What the state topic keeps out of training: open and closed episodes, without guard bands.
pub fn quarantine(state: &[StateEntry]) -> Vec<Exclusion> {
    let _ = state;
    Vec::new()
}
