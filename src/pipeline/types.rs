//! What the pipeline takes in and gives out: the words that it shares with those who call it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::alert::{Alert, AlertKind, Drift, InputRef, Score, ScoredBy, Severity};
use crate::model::card::ModelVersion;
use crate::record::dead_letter::DeadLetter;
use crate::record::schema::ContextColumns;
use crate::record::{Key, Missing};
use crate::stream::{EpisodeId, Offset, Positions, TopicPartition};
use crate::time::Timestamp;

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
pub struct PartitionAssignment {
    /// Which.
    pub at: TopicPartition,
    /// Where to begin: the group's committed offset, or where there is none what takes its place. What was deleted from there on is skipped.
    pub committed: Offset,
    /// Nothing was committed: the worker commits where it begins at once, so that a crash before the first batch does not move it.
    pub fresh: bool,
    /// The oldest record that the log still has: retention deleted what lies before.
    pub first: Offset,
    /// The id that brokers give to the topic, where they do: state of another id is another topic's that had the same name.
    pub topic_id: Option<Arc<str>>,
    /// The partition's entries of the state topic, latest per key, all transactions before the assignment resolved.
    pub state: Vec<StateEntry>,
}

impl PartitionAssignment {
    /// A partition that nobody has read yet and whose log begins at `from`.
    pub fn fresh(at: TopicPartition, from: Offset) -> Self {
        Self {
            at,
            committed: from,
            fresh: true,
            first: from,
            topic_id: None,
            state: Vec::new(),
        }
    }
}

/// All that one transaction carries, as values: whoever publishes it writes them down.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outbox {
    /// To the alerts topic.
    pub alerts: Vec<Alert>,
    /// To the scores topic, if there is one.
    pub scores: Vec<Score>,
    /// To the dead-letter topic.
    pub dead_letters: Vec<DeadLetter>,
    /// To the late topic, or the dead-letter topic where there is none.
    pub late: Vec<DeadLetter>,
    /// To the drift topic, if there is one.
    pub drift: Vec<Drift>,
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
    /// Those of them whose p-value was at most 0.01: a hundredth of normal ones.
    pub rare: u64,
    /// Those whose p-value was at most 0.001.
    pub very_rare: u64,
    /// Records whose window or cold start is still filling.
    pub warming_up: u64,
    /// Records later than the bound.
    pub late: u64,
    /// Records that could not be read, by reason.
    pub dead_lettered: BTreeMap<&'static str, u64>,
    /// Records that retention deleted before they were read: they are not among those consumed.
    pub skipped: u64,
    /// Records below `emit_from`: they changed state again and emitted nothing.
    pub replayed: u64,
    /// Episodes opened.
    pub opened: u64,
    /// Episodes closed.
    pub closed: u64,
    /// Keys that began to drift.
    pub drift_began: u64,
    /// Keys that drift no more.
    pub drift_ended: u64,
    /// Episodes that were not emitted at once, because they were too many.
    pub suppressed: u64,
    /// Episodes that are held back, because somebody dismissed one like them.
    pub held_back: u64,
}

/// What people who watch are shown of the records that were judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watching {
    /// A sample, and all that lie in an episode.
    #[default]
    Sample,
    /// The same, and of some of the sample what they were and what was expected: for the live page.
    Explained,
    /// All, with their windows: for files, where each line gets its score.
    All,
    /// All, with what they were and what was expected of them: for records that are read again.
    Each,
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
    /// How strong the evidence of the key's last records is, in nats; 0 where it was too early to judge ...
    pub evidence: f64,
    /// ... and what opens an episode, or opened the open one.
    pub evidence_threshold: f64,
    /// Whether the record lies in an open episode.
    pub alert: bool,
    /// The p-value by the model alone, before what is usual for the key; `None` where what judged is the key's own.
    pub by_model: Option<f64>,
    /// Whether it was too early to judge: such a record opens nothing.
    pub warming_up: bool,
    /// Its place in the batch.
    pub record: usize,
    /// Where it lies in the log.
    pub input: InputRef,
    /// How strange it is.
    pub score: f64,
    /// What the score is by.
    pub scored_by: ScoredBy,
    /// The window that was judged, `W · D` values, NaN where missing. Empty unless every judged record is watched.
    pub window: Vec<f64>,
    /// Its D values, NaN where missing. Empty unless it was explained.
    pub row: Vec<f64>,
    /// What was expected of it, D values, NaN where that is not known. Empty unless it was explained, or every record is watched and the season of its key judged it.
    pub expected: Vec<f64>,
}

/// A feature column, as the schema resolved it.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The feature's name, as models and alerts know it.
    pub name: String,
    /// What to do where it was not observed. `Constant` and `DeadLetter` are decoding's business; here only `Last` acts.
    pub missing: Missing,
    /// Whether it says by what the others are judged, instead of being judged.
    pub context: bool,
}

impl Column {
    /// All columns of a schema, in order.
    pub fn list(names: &[String], missing: &[Missing], context: &ContextColumns) -> Arc<[Self]> {
        let each = names.iter().zip(missing).enumerate();
        each.map(|(at, (name, &missing))| Self {
            name: name.clone(),
            missing,
            context: context.has(at),
        })
        .collect()
    }
}

/// What an assignment came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// Where to read on: at or before the committed offset, unless records behind it were deleted.
    pub read_from: Offset,
    /// Offsets to replay before anything is emitted.
    pub replay: u64,
    /// Offsets before its beginning to learn from first, because it has no state.
    pub lookback: u64,
    /// Records behind the committed offset that retention deleted before they were read.
    pub skipped: u64,
    /// State there was, and why it could not be used; the partition begins anew.
    pub discarded: Option<Discarded>,
}

/// Why a partition's state cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// There are keys, but nothing that says as of when.
    NoHead,
    /// The group's offset was set back below it.
    Ahead,
    /// It, or its model, is of other features.
    OtherFeatures,
    /// Records that must be replayed on it were deleted by retention.
    RecordsDeleted,
    /// The model that must judge the replay is not in the store any more.
    ModelGone,
    /// It is of another topic, which had the same name.
    OtherTopic,
    /// An entry of it is not as it was written.
    Damaged,
}

impl Discarded {
    /// All there are.
    pub const ALL: [Self; 7] = [
        Self::NoHead,
        Self::Ahead,
        Self::OtherFeatures,
        Self::RecordsDeleted,
        Self::ModelGone,
        Self::OtherTopic,
        Self::Damaged,
    ];

    /// A short name, of low cardinality: the label of the metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoHead => "no_head",
            Self::Ahead => "ahead",
            Self::OtherFeatures => "other_features",
            Self::RecordsDeleted => "records_deleted",
            Self::ModelGone => "model_gone",
            Self::OtherTopic => "other_topic",
            Self::Damaged => "damaged",
        }
    }
}

impl std::fmt::Display for Discarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoHead => "there is no head",
            Self::Ahead => "it is ahead of the committed offset",
            Self::OtherFeatures => "it has other features",
            Self::RecordsDeleted => "records to be replayed on it were deleted by retention",
            Self::ModelGone => "the model that must judge its replay is not in the store any more",
            Self::Damaged => "an entry of it is not as it was written",
            Self::OtherTopic => "it is of another topic, which had the same name",
        })
    }
}

/// State that must be left alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// It was written by something this program does not understand.
    #[error(
        "state entry `{entry}` of {at} is unreadable: {problem}; if no newer program wrote it, delete the state topic"
    )]
    Unreadable {
        /// The partition.
        at: TopicPartition,
        /// The entry's key.
        entry: String,
        /// What is wrong.
        problem: String,
    },
    /// It belongs to another consumer group: the two would destroy each other's.
    #[error(
        "the state of {at} belongs to the consumer group `{theirs}`, but this is `{ours}`: give this detector another `name`, or another `output.state` and another `models.topic`; if `{theirs}` is gone for good, delete the state topic"
    )]
    Foreign {
        /// The partition.
        at: TopicPartition,
        /// The group that wrote it.
        theirs: String,
        /// This process's group.
        ours: String,
    },
}

/// Why no alert was emitted when an episode opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suppressed {
    /// Too many opened at once: one summary alert stands for them.
    Storm,
    /// Somebody dismissed one like it.
    Dismissed,
}

impl Suppressed {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Storm, Self::Dismissed];

    /// A short name: the label of the metric.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Storm => "storm",
            Self::Dismissed => "dismissed",
        }
    }
}

/// An episode or silence that goes on, for people who watch.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenEpisode {
    /// The partition.
    pub at: TopicPartition,
    /// As in its alerts.
    pub id: EpisodeId,
    /// Whose; `*` for a storm.
    pub key: String,
    /// What kind.
    pub kind: AlertKind,
    /// How bad, so far.
    pub severity: Severity,
    /// When it probably began.
    pub since: Timestamp,
    /// The largest score so far; of a silence, its length by stream time as a multiple of the longest gap before.
    pub peak: f64,
    /// The records of its key since it began; `None` where they are not counted: of a silence, a storm, or one that only the episode log knows.
    pub records: Option<u64>,
    /// Why no alert of it was emitted; `None`: one was.
    pub suppressed: Option<Suppressed>,
}

/// A key whose clock is not that of most others of its partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongClock {
    /// The partition.
    pub at: TopicPartition,
    /// Whose.
    pub key: Key,
    /// Its time minus stream time, in milliseconds: above 0 it is ahead, below it is behind (or its records take that long to come).
    pub ahead_ms: i64,
}

/// All keys with wrong clocks, for people who watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WrongClocks {
    /// How many are ahead.
    pub ahead: u64,
    /// The largest lead in milliseconds; 0: none.
    pub most_ahead_ms: u64,
    /// How many are behind.
    pub behind: u64,
    /// The largest lag in milliseconds; 0: none.
    pub most_behind_ms: u64,
    /// The worst of them.
    pub worst: Vec<WrongClock>,
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

impl Tally {
    /// Counts a record that got a score, by its p-value.
    pub(super) fn count_scored(&mut self, p: f64) {
        self.scored += 1;
        self.rare += u64::from(p <= 0.01);
        self.very_rare += u64::from(p <= 0.001);
    }

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
