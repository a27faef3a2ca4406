//! What the worker, the trainer and the follower need from outside, as traits. Kafka implements them in `kafka`, a simulation in `tests/sim`,
//! files in `tools`. Only types of the core appear here.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::card::{Card, Exclusion, Maintenance, ModelVersion, Said};
use crate::model::trained::TrainedModel;
use crate::pipeline::{Outbox, PartitionAssignment};
use crate::record::RecordBatch;
use crate::stream::{Positions, Span, TopicPartition};
use crate::time::Timestamp;

/// What the outside has for a worker.
#[derive(Debug)]
pub enum Input {
    /// Records, at least one.
    Batch(RecordBatch),
    /// Partitions that are ours from now on. Nothing of them is delivered before the worker has called [`Session::rewind`] for them.
    Assigned(Vec<PartitionAssignment>),
    /// Partitions that are no longer ours. Nothing of them may be published any more.
    Revoked(Vec<TopicPartition>),
    /// Retention deleted records before they were read: the oldest that are left. The worker answers with [`Session::rewind`].
    OffsetOutOfRange(Positions),
    /// Nothing came in time.
    Idle,
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Published {
    /// It is in the log, whole.
    Committed,
    /// None of it is: rewind and go on.
    Aborted,
    /// That is not known, for the session is lost: all partitions are given back next, and come back with what was committed.
    Lost,
}

/// One member of the consumer group with its transactional producer.
pub trait Session {
    /// What cannot be tried again: fenced, unknown outcome, no broker within the limit.
    type Fatal: std::error::Error + Send + Sync + 'static;

    /// Waits for input until `until`.
    fn next(&mut self, until: Timestamp) -> Result<Input, Self::Fatal>;
    /// Publishes everything in `outbox` and commits its positions, in one transaction (or, at least once: acknowledges, then commits).
    fn publish(&mut self, outbox: &Outbox) -> Result<Published, Self::Fatal>;
    /// Reads on from `to`: after an abort, and at the beginning of an assignment.
    fn rewind(&mut self, to: &Positions) -> Result<(), Self::Fatal>;
    /// Takes a batch back that nobody needs any more, so that the next one finds its memory.
    fn recycle(&mut self, _batch: RecordBatch) {}
    /// Records that lie ahead of what was read, for each partition held, as far as they are known.
    fn lag(&mut self) -> BTreeMap<TopicPartition, u64> {
        BTreeMap::new()
    }
}

/// Where models are kept. Versions are immutable; the champion is a pointer that moves.
pub trait ModelStore: Send {
    /// What failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Makes this the one store that may write: what another process writes from now on under the same identity is refused.
    /// Called when this process becomes the one that trains.
    fn claim(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
    /// Stores a model's bytes under its card's version, whole or not at all, and makes it champion if `promote`.
    fn save(&mut self, model: &TrainedModel, promote: bool) -> Result<(), Self::Error>;
    /// Reads a version back and checks its sha256; `None` if it is not there.
    fn load(&mut self, version: ModelVersion) -> Result<Option<Arc<TrainedModel>>, Self::Error>;
    /// The champion's version, if there is one.
    fn champion(&mut self) -> Result<Option<ModelVersion>, Self::Error>;
    /// Makes a stored version champion: promotion by hand, and rollback.
    fn promote(&mut self, version: ModelVersion) -> Result<(), Self::Error>;
    /// The cards of all stored versions, oldest first.
    fn list(&mut self) -> Result<Vec<Card>, Self::Error>;
}

/// What training must know of the ledger of episodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quarantine {
    /// Flagged stretches, with what somebody said of them.
    pub exclusions: Vec<Exclusion>,
    /// What somebody said: suspects of an earlier training are in no ledger.
    pub feedback: Said,
    /// Stretches of time that somebody said to leave out.
    pub maintenance: Vec<Maintenance>,
}

/// The log as training reads it.
pub trait History: Send {
    /// What failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// For each partition of the input, the offsets that lie within `since` .. committed.
    fn available(&mut self, since: Timestamp) -> Result<Vec<Span>, Self::Error>;
    /// The records of one span, in offset order.
    fn read(&mut self, span: &Span) -> Result<RecordBatch, Self::Error>;
    /// What must be kept out: episodes that nobody let in, with their records' places.
    fn quarantine(&mut self) -> Result<Quarantine, Self::Error>;
}

/// A log that can be read by time: what commands on a stretch of a topic need.
pub trait Ranges: History {
    /// For each partition of the input, the offsets of records with Kafka timestamps in `from .. to`; without `to`, up to the end as it is now.
    /// Partitions without any are left out.
    fn between(&mut self, from: Timestamp, to: Option<Timestamp>)
    -> Result<Vec<Span>, Self::Error>;
}
