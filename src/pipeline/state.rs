//! What is remembered of a partition and of its keys between batches.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::detect::Params;
use crate::detect::cold::ColdStart;
use crate::detect::episode::EpisodeState;
use crate::detect::seasonal::Season;
use crate::detect::silence::Rhythm;
use crate::model::card::ModelVersion;
use crate::model::trained::TrainedModel;
use crate::record::Key;
use crate::stream::{Offset, TopicPartition};
use crate::time::Timestamp;

/// What is remembered of a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KeyState {
    /// Event time of its newest record.
    pub newest: Timestamp,
    /// Its last record. No two keys share it, so it orders keys by when they were last seen.
    pub last_offset: Offset,
    /// How often it speaks.
    pub rhythm: Rhythm,
    /// It is silent at present.
    pub silence: Option<Silence>,
    /// Nobody was told of the present silence: it began in a storm.
    pub silence_muted: bool,
    /// Its last rows, oldest first, D numbers each: none if windows are one record long.
    pub rows: VecDeque<f64>,
    /// The last observed value of each column; empty unless a column's policy asks for it.
    pub last_values: Vec<f64>,
    /// Its episodes.
    pub episodes: EpisodeState,
    /// What it looked like before there was a model; empty under a model.
    pub cold: ColdStart,
    /// What it does at which time; `None` unless records are judged by it.
    pub season: Option<Box<Season>>,
}

impl KeyState {
    /// A key seen for the first time.
    pub fn begin(heard: Timestamp, offset: Offset) -> Self {
        Self {
            newest: Timestamp::MIN,
            last_offset: offset,
            rhythm: Rhythm::begin(heard),
            silence: None,
            silence_muted: false,
            rows: VecDeque::new(),
            last_values: Vec::new(),
            episodes: EpisodeState::default(),
            cold: ColdStart::default(),
            season: None,
        }
    }
}

/// A silence that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    /// The last record before it: names the episode.
    pub after: Offset,
    /// Stream time of that record.
    pub since: Timestamp,
}

/// How many episodes opened lately, and what became of those that were too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Storm {
    /// The number of the present stretch of stream time.
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
    /// The largest, over its records, of the earlier of event time and Kafka's timestamp.
    pub stream_time: Timestamp,
    /// Records since the last snapshot.
    pub since_snapshot: u64,
    /// No key falls silent before the stream time passes this. A bound, not remembered across restarts.
    pub silence_bound: Timestamp,
    /// The limit on openings.
    pub storm: Storm,
}

impl Head {
    pub fn at(position: Offset) -> Self {
        Self {
            position,
            stream_time: Timestamp::MIN,
            since_snapshot: 0,
            silence_bound: Timestamp::MIN,
            storm: Storm::default(),
        }
    }
}

/// An episode as the state topic remembers it, for training to leave its records out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Quarantined {
    /// Version of this format: 1.
    pub v: u32,
    /// The key.
    pub key: String,
    /// The first record of the episode.
    pub from: Offset,
    /// The record after the last; null while it is open.
    pub to: Option<Offset>,
    /// Event time of the first.
    pub from_time: Timestamp,
    /// Event time of the last.
    pub to_time: Option<Timestamp>,
}

/// A key in memory.
#[derive(Clone, Debug)]
pub(super) struct Kept {
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
    /// The model that judges it; none: the cold start.
    pub model: Option<Arc<TrainedModel>>,
    pub head: Head,
    pub keys: FxHashMap<Key, Kept>,
    /// Keys whose entries the next snapshot deletes, unless they are back.
    pub forgotten: BTreeSet<Key>,
    /// By id.
    pub quarantine: BTreeMap<String, Quarantined>,
    /// The state topic does not know it yet: the next batch carries a snapshot.
    pub unsaved: bool,
}

impl PartitionState {
    /// A partition of which nothing is known.
    pub fn new(at: TopicPartition, from: Offset, model: Option<Arc<TrainedModel>>) -> Self {
        Self {
            at,
            emit_from: from,
            model,
            head: Head::at(from),
            keys: FxHashMap::default(),
            forgotten: BTreeSet::new(),
            quarantine: BTreeMap::new(),
            unsaved: true,
        }
    }

    /// Whether what comes next was emitted before.
    pub fn replaying(&self) -> bool {
        self.head.position < self.emit_from
    }

    /// Episodes and silences that go on.
    pub fn episodes_open(&self) -> u64 {
        let open = |kept: &Kept| {
            u64::from(kept.state.episodes.open.is_some()) + u64::from(kept.state.silence.is_some())
        };
        // A sum: the order cannot reach it.
        #[expect(clippy::iter_over_hash_type, reason = "a sum has no order")]
        {
            let mut sum = 0;
            for kept in self.keys.values() {
                sum += open(kept);
            }
            sum
        }
    }
}

/// The version of a model, or 0 for the cold start.
pub(super) fn version(model: Option<&Arc<TrainedModel>>) -> ModelVersion {
    model.map_or(ModelVersion(0), |model| model.card.version)
}

/// The id of an episode that began with the record at `onset`.
pub(super) fn episode_id(params: &Params, at: &TopicPartition, onset: Offset) -> String {
    format!(
        "{}-{}-{}-{}",
        params.detector, at.topic, at.partition.0, onset
    )
}
