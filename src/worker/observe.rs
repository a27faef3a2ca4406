//! What others are told of a worker: for metrics, logs and status pages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::detect::Params;
use crate::model::card::ModelVersion;
use crate::model::trained::TrainedModel;
use crate::pipeline::{
    Assigned, ColumnsDiffer, Discarded, OpenEpisode, Outbox, Tally, Watched, WrongClock,
    WrongClocks,
};
use crate::stream::TopicPartition;
use crate::time::Timestamp;

/// A batch that was committed.
#[derive(Clone, Copy, Debug)]
pub struct Committed<'a> {
    /// What it came to.
    pub tally: &'a Tally,
    /// Records taken from the input, by their offsets: counted apart from what became of them.
    pub consumed: u64,
    /// Alerts, scores, dead letters, late records and state entries that went out.
    pub outbox: &'a Outbox,
    /// Bytes of keys and values read.
    pub bytes: u64,
    /// Time to read the records.
    pub decode: Duration,
    /// Time to work them out.
    pub stage: Duration,
    /// Time to publish and commit.
    pub publish: Duration,
    /// For each alert, the time from the record's Kafka timestamp to the commit.
    pub alert_latencies: &'a [Duration],
    /// A sample of what was judged, for people who watch.
    pub watched: &'a [Watched],
    /// Keys whose clocks were found to be wrong, each once.
    pub wrong_clocks: &'a [WrongClock],
}

/// When the steps of a batch ended, on the monotonic clock: each begins where the one before ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// It was asked for.
    pub asked: Duration,
    /// It was there.
    pub fetched: Duration,
    /// Its records were read.
    pub decoded: Duration,
    /// What comes of them was worked out.
    pub staged: Duration,
    /// It was published and committed, or not.
    pub published: Duration,
}

impl Steps {
    /// Of what begins now, with records that are read already.
    pub(super) fn from(now: Duration) -> Self {
        Self {
            asked: now,
            fetched: now,
            decoded: now,
            staged: now,
            published: now,
        }
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the log.
    Committed,
    /// It was aborted, and is read again.
    Aborted,
    /// The session was lost with it.
    Lost,
    /// It only brought state up to date: nothing was published.
    Replayed,
}

impl Outcome {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Aborted => "aborted",
            Self::Lost => "lost",
            Self::Replayed => "replayed",
        }
    }
}

/// A batch that was worked in, whatever became of it; one that is several transactions is several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When.
    pub steps: Steps,
    /// What became of it.
    pub outcome: Outcome,
    /// Records that were worked in, those replayed among them.
    pub records: u64,
    /// Alerts that came of them.
    pub alerts: usize,
}

/// Numbers looked at now and then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gauges {
    /// Episodes and silences that go on.
    pub episodes_open: u64,
    /// The newest of them, and storms.
    pub open: Vec<OpenEpisode>,
    /// Keys remembered.
    pub keys: u64,
    /// Those whose clocks are wrong.
    pub wrong_clocks: WrongClocks,
    /// Partitions that replay.
    pub replaying: usize,
    /// The model judging each partition held; 0: the cold start.
    pub judging: BTreeMap<TopicPartition, ModelVersion>,
    /// Records ahead, by partition.
    pub lag: BTreeMap<TopicPartition, u64>,
}

/// Is told what a worker did: for metrics, logs and status pages. It only observes: without it everything goes on as with it. Every method does nothing
/// unless said otherwise.
pub trait Observer {
    /// The loop is about to wait for input: the worker is alive. A session that waits for long says so by itself.
    fn stepped(&mut self, _at: Timestamp) {}
    /// A batch went through.
    fn committed(&mut self, _batch: &Committed<'_>) {}
    /// A batch was worked in, and this became of it. What changes numbers is told by the others.
    fn attempted(&mut self, _attempt: &Attempt) {}
    /// A transaction aborted after `took`; its batch will be read again.
    fn aborted(&mut self, _took: Duration) {}
    /// A batch of nothing but replay changed state.
    fn replayed(&mut self, _records: u64) {}
    /// A partition was assigned.
    fn assigned(&mut self, _at: &TopicPartition, _assigned: &Assigned) {}
    /// Partitions without a record carried a snapshot to the state topic.
    fn idle_snapshots_flushed(&mut self, _tally: &Tally) {}
    /// State was discarded while it was being brought up to date.
    fn discarded(&mut self, _at: &TopicPartition, _why: Discarded) {}
    /// Partitions were revoked.
    fn revoked(&mut self, _partitions: &[TopicPartition]) {}
    /// What is held changed.
    fn holds(&mut self, _partitions: usize) {}
    /// A new champion judges from here on, where there is nothing to replay.
    fn promoted(&mut self, _model: &TrainedModel) {}
    /// Alerts are due by other parameters from here on, where there is nothing to replay.
    fn judges_by(&mut self, _params: &Arc<Params>, _model: Option<&TrainedModel>) {}
    /// A champion could not be taken up.
    fn refused(&mut self, _why: &ColumnsDiffer) {}
    /// Numbers looked at now and then.
    fn gauges(&mut self, _gauges: &Gauges) {}
}

/// An observer that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}
