//! The card: what a model was made from, and what the gate said of it. Enough to make the model again, bit for bit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::gate_report::GateReport;
use super::spec::ModelSpec;
use crate::record::feedback::Says;
use crate::record::schema::SchemaSpec;
use crate::seed::Seed;
use crate::stream::{EpisodeId, Offset, Span, TopicPartition};
use crate::time::Timestamp;

/// The format of model files that this program writes.
pub const FORMAT: u32 = 1;

/// The number of a model of a detector; a later one is larger. 0 stands for "no model yet": the cold start.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ModelVersion(pub u64);

impl std::fmt::Display for ModelVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Records of one key in a day where nothing is known of it: one a second.
pub const RECORDS_PER_KEY_DAY: f64 = 86_400.0;

/// What somebody said of an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feedback {
    /// Nothing was wrong: its records may be learnt.
    FalsePositive,
    /// It was a fault: its records are kept out for good.
    TruePositive,
    /// It was another thing, but it is how things are from now on: its records may be learnt.
    NewNormal,
}

/// What somebody said of episodes and suspects, by id: all of it. Ids name detector, topic, partition and offset, so no two are the same.
pub type Said = BTreeMap<EpisodeId, Feedback>;

impl Feedback {
    /// Of which episode a statement is, and what it calls it; `None` takes back what was said. No episode of maintenance.
    #[must_use]
    pub fn of(says: &Says) -> Option<(&EpisodeId, Option<Self>)> {
        match says {
            Says::FalsePositive(id) => Some((id, Some(Self::FalsePositive))),
            Says::TruePositive(id) => Some((id, Some(Self::TruePositive))),
            Says::NewNormal(id) => Some((id, Some(Self::NewNormal))),
            Says::Undo(id) => Some((id, None)),
            Says::Maintenance { .. } => None,
        }
    }

    /// The statement that calls the episode of this id so.
    #[must_use]
    pub fn says(self, id: EpisodeId) -> Says {
        match self {
            Self::FalsePositive => Says::FalsePositive(id),
            Self::TruePositive => Says::TruePositive(id),
            Self::NewNormal => Says::NewNormal(id),
        }
    }

    /// Whether anything is called the new normal that was not before.
    #[must_use]
    pub fn newly_normal(before: &Said, said: &Said) -> bool {
        let news = |(id, called): (&EpisodeId, &Self)| before.get(id) != Some(called);
        said.iter()
            .any(|said| *said.1 == Self::NewNormal && news(said))
    }

    /// All there are.
    pub const ALL: [Self; 3] = [Self::FalsePositive, Self::TruePositive, Self::NewNormal];

    /// A short name, as it is written: the label of the metric.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FalsePositive => "false_positive",
            Self::TruePositive => "true_positive",
            Self::NewNormal => "new_normal",
        }
    }

    /// Whether training may have the episode's records.
    #[must_use]
    pub fn lets_in(self) -> bool {
        self != Self::TruePositive
    }
}

/// Records of one key that were flagged: kept out of training with a guard band, unless somebody let them in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Exclusion {
    /// The partition.
    pub at: TopicPartition,
    /// The key.
    pub key: String,
    /// The first offset kept out.
    pub from: Offset,
    /// The offset after the last kept out; `None` while the episode is open.
    pub to: Option<Offset>,
    /// The episode's id, or the maintenance window's: why.
    pub because: EpisodeId,
    /// What somebody said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<Feedback>,
}

impl Exclusion {
    /// Whether somebody let its records into training.
    #[must_use]
    pub fn let_in(&self) -> bool {
        self.feedback.is_some_and(Feedback::lets_in)
    }

    /// Whether somebody said that it was a fault.
    #[must_use]
    pub fn confirmed(&self) -> bool {
        self.feedback == Some(Feedback::TruePositive)
    }
}

/// A stretch of the log that was read for a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Where it lies.
    #[serde(flatten)]
    pub span: Span,
    /// The keys whose records were kept; without: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeySample>,
}

impl From<Span> for Stretch {
    /// All records of the span.
    fn from(span: Span) -> Self {
        Self { span, keys: None }
    }
}

/// Which keys' records were kept of a stretch that many keys share. Together with the card's seed it says of each record whether it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySample {
    /// From here on, the records of frequent keys were kept, too.
    pub near: Offset,
    /// Records from there on that make a key a frequent one.
    pub often: u64,
    /// Of the other keys, one in so many was kept, by a hash: a power of two.
    pub one_in: u64,
    /// What was kept of every key beside, for levels alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<LevelSample>,
}

/// The few records of a stretch that were kept of every key, so that what is usual for it is known: those with the least hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelSample {
    /// Records of each key, at most.
    pub each: u64,
    /// One key in so many, by a hash: a power of two.
    pub one_in: u64,
}

/// Records that stand out in a history that no model had judged: kept out of training like an episode's, unless somebody lets them in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suspect {
    /// Which records, and the id that feedback names them by.
    #[serde(flatten)]
    pub exclusion: Exclusion,
    /// Event time of the first.
    pub from_time: Timestamp,
    /// Event time of the last.
    pub to_time: Timestamp,
    /// By how many spreads the logarithm of their score lies above what is usual, on average.
    pub excess: f64,
    /// The features that stand out most, each with its share.
    pub features: Vec<(String, f64)>,
}

/// A stretch of time whose records training leaves out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// The key; without: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Event time from which ...
    pub from: Timestamp,
    /// ... and before which records are left out.
    pub to: Timestamp,
}

impl Maintenance {
    /// Whether a record of the key at this time is left out.
    #[must_use]
    pub fn has(&self, key: &str, time: Timestamp) -> bool {
        self.key.as_deref().is_none_or(|only| only == key) && self.from <= time && time < self.to
    }
}

/// What a model was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// The format of this card.
    pub format: u32,
    /// The model's number.
    pub version: ModelVersion,
    /// The detector it belongs to.
    pub detector: String,
    /// When training began. Not an input of training; the gate reckons by it how long a change has lasted.
    pub created: Timestamp,
    /// Names of the D feature columns, in order.
    pub columns: Vec<String>,
    /// Those of them that none of the records that were read had: they are not judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unobserved: Vec<String>,
    /// Those of them that count ([`super::scale::changes`]): what they count from one record to the next is judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counters: Vec<String>,
    /// Those of them that went one way all the time: how they change from one record to the next is judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trends: Vec<String>,
    /// Those of them that the hour of the day tells, as days showed that were left out: they are judged by it where there is a calendar.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hourly: Vec<String>,
    /// The checked model settings, complete with defaults.
    pub spec: ModelSpec,
    /// The kind that was asked for, where the baseline took its place: `spec` names what was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// How records were read: key, event time, categories, what stood in for missing values. Its `auto` features are the `columns`. Cards of
    /// older programs lack it; then the configuration at hand is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaSpec>,
    /// The seed of this training run.
    pub seed: Seed,
    /// The records that were read, or empty for a model trained on a file.
    pub spans: Vec<Stretch>,
    /// For a model trained on a file: its name and sha256.
    pub source: Option<String>,
    /// What was flagged, and kept out unless it says that somebody let it in.
    pub exclusions: Vec<Exclusion>,
    /// What was kept out because it stands out in a history that nobody had judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspects: Vec<Suspect>,
    /// What was kept out because the configuration says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maintenance: Vec<Maintenance>,
    /// What was flagged before there was a model was learnt from all the same: it was too much, or would have left too little.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waived: bool,
    /// What was flagged in the first days and is learnt all the same: it is more of a key's records than a fault may be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<EpisodeId>,
    /// When the first records happened that a model of this detector learnt from, and the last of this one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<(Timestamp, Timestamp)>,
    /// Where each partition's records begin that some model of this detector judged when they came: after those of the first model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub judged_from: Vec<(TopicPartition, Offset)>,
    /// Keys of which nothing was left to learn from.
    #[serde(default, skip_serializing_if = "Unlearnt::is_none")]
    pub unlearnt: Unlearnt,
    /// Rows: fitted on, validated on, calibrated on, gated on; and rows excluded.
    pub rows: BTreeMap<String, u64>,
    /// How training used its rows. Cards of older programs lack it; then the configuration at hand is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Records of one key in a day, as the training data had them: turns "alerts per day and key" into a probability.
    pub records_per_key_day: f64,
    /// The time scales of evidence, in records, that what opens an episode was calibrated for ...
    pub time_scales: Vec<u32>,
    /// ... and how sure it had to be that a fault is over.
    pub close_evidence: f64,
    /// Mean losses after each epoch: (training, validation).
    pub losses: Vec<(f64, f64)>,
    /// What a kind that is made of others consists of, as `model.ensemble.members` would have it. Cards of older programs lack it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// Types of keys that have a model of their own, by the features that they send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<TypeOfKeys>,
    /// The same as `losses` for the members of a kind that is made of others: their names, as `model.ensemble.members` has them, and their losses. Of members
    /// that have more than one epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub member_losses: Vec<(String, Vec<(f64, f64)>)>,
    /// What the gate measured, by name.
    pub measures: BTreeMap<String, f64>,
    /// What the gate said of it.
    pub gate: GateReport,
    /// The program that made it.
    pub program: String,
}

impl Card {
    /// Its columns without that of a calendar.
    #[must_use]
    pub fn features(&self) -> &[String] {
        &self.columns[..self.columns.len() - usize::from(self.has_calendar())]
    }

    /// Which features a calendar would judge by the hour, in words, if there are some and it has none.
    #[must_use]
    pub fn without_hour(&self) -> Option<String> {
        let follow = match self.hourly.len() {
            1 => "follows",
            _ => "follow",
        };
        (!self.hourly.is_empty() && !self.has_calendar()).then(|| {
            format!(
                "{} {follow} the hour of the day: with `input.calendar.utc_offset` features are judged by it",
                self.hourly.join(", ")
            )
        })
    }

    /// Whether its last column is that of a calendar.
    #[must_use]
    pub fn has_calendar(&self) -> bool {
        self.schema.as_ref().is_some_and(SchemaSpec::has_calendar)
    }

    /// A card that says nothing yet, of the current format.
    pub fn blank() -> Self {
        Self {
            format: FORMAT,
            version: ModelVersion(0),
            detector: "anomalyd".to_owned(),
            created: Timestamp(0),
            columns: Vec::new(),
            unobserved: Vec::new(),
            counters: Vec::new(),
            trends: Vec::new(),
            hourly: Vec::new(),
            spec: ModelSpec::default(),
            schema: None,
            seed: Seed(1),
            spans: Vec::new(),
            source: None,
            asked: None,
            exclusions: Vec::new(),
            suspects: Vec::new(),
            maintenance: Vec::new(),
            waived: false,
            accepted: Vec::new(),
            known: None,
            judged_from: Vec::new(),
            unlearnt: Unlearnt::default(),
            rows: BTreeMap::new(),
            usage: None,
            records_per_key_day: RECORDS_PER_KEY_DAY,
            time_scales: Vec::new(),
            close_evidence: 0.0,
            losses: Vec::new(),
            members: Vec::new(),
            types: Vec::new(),
            member_losses: Vec::new(),
            measures: BTreeMap::new(),
            gate: GateReport::default(),
            program: concat!("anomalyd ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// How many rows, or keys, were used as `name` says; 0 where that is not known.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.rows.get(name).copied().unwrap_or(0)
    }
}

/// Keys that send the same features, and have a model of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeOfKeys {
    /// The columns, in order.
    pub features: Vec<String>,
    /// How many keys there were.
    pub keys: u64,
    /// Windows that its model was fitted on.
    pub windows: u64,
}

/// Keys all of whose records were kept out as flagged: the model has nothing of their own to judge them by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlearnt {
    /// How many.
    pub keys: u64,
    /// Some of them by name.
    pub named: Vec<String>,
}

impl Unlearnt {
    /// Something was left of each key.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.keys == 0
    }
}

/// How training used its rows: all that decides which row goes where.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Windows that were used at most.
    pub rows_max: u64,
    /// Records of a key that were kept out before and after an episode.
    pub guard: u64,
    /// Share of the windows that only calibrated.
    pub calibrate_share: f64,
    /// Share of the windows that the gate tried.
    pub gate_share: f64,
    /// Folds whose out-of-fold scores calibrated; 0: none, held-out windows did.
    pub folds: u64,
    /// Milliseconds by which a record could be older than the newest of its key; older ones were left out. `None`: none were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_after_ms: Option<u64>,
}
