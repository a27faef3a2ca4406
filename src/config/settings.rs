//! The checked configuration, and what lower layers take from it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::raw::{self, Delivery, Format, Start, Store};
use crate::detect::Params;
use crate::kafka::admin::SharedTopics;
use crate::kafka::history::HistoryTopics;
use crate::kafka::settings::Connection;
use crate::kafka::tokens::TokenSource;
use crate::kafka::topics::OutputTopics;
use crate::model::card::Maintenance;
use crate::model::spec::ModelSpec;
use crate::record::Missing;
use crate::record::schema::SchemaSpec;
use crate::seed::Seed;
use crate::train;

/// The checked configuration: every value can be used as it stands.
#[derive(Clone, Debug)]
pub struct Config {
    /// The detector's name.
    pub name: String,
    /// This process's name, if it was given one.
    pub instance: Option<String>,
    /// Threads that consume, score and produce.
    pub workers: usize,
    /// What a crash may cost.
    pub delivery: Delivery,
    /// The root of all randomness.
    pub seed: Seed,
    /// Where Kafka is.
    pub kafka: KafkaSettings,
    /// What is read.
    pub input: InputSettings,
    /// What is written.
    pub output: OutputSettings,
    /// What the model is.
    pub model: ModelSpec,
    /// When it is trained, and on what.
    pub training: TrainingSettings,
    /// What a challenger must show.
    pub gate: raw::Gate,
    /// Where models are kept.
    pub models: ModelsSettings,
    /// The topic of what people say of episodes.
    pub feedback: String,
    /// When an alert is due.
    pub detect: Arc<Params>,
    /// How records are taken together.
    pub batch: BatchSettings,
    /// Where HTTP listens; `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// The log.
    pub log: raw::Log,
    /// The effective settings as TOML, secrets hidden.
    pub shown: String,
}

impl Config {
    /// How to reach Kafka.
    pub fn connection(&self) -> Connection {
        Connection {
            brokers: self.kafka.brokers.clone(),
            group: self.input.group.clone(),
            properties: self.kafka.properties.clone(),
            tokens: self.kafka.tokens.clone(),
        }
    }

    /// How training uses its rows, and what the gate asks for.
    pub fn training_params(&self) -> train::Params {
        let training = &self.training;
        train::Params {
            rows_min: training.rows_min,
            rows_max: training.rows_max,
            guard: training.guard,
            cross_below: match training.calibration {
                raw::Calibration::Auto | raw::Calibration::HeldOut => 0,
                raw::Calibration::Cross => usize::MAX,
            },
            recall_tolerance: self.gate.recall_tolerance,
            alert_rate_factor: self.gate.alert_rate_factor,
            ..train::Params::default()
        }
    }

    /// The topics that are written.
    pub fn output_topics(&self) -> OutputTopics {
        OutputTopics {
            alerts: self.output.alerts.clone(),
            scores: self.output.scores.clone(),
            dead_letters: self.output.dead_letters.clone(),
            late: Some(self.output.late.clone()),
            drift: self.output.drift.clone(),
            state: self.output.state.clone(),
        }
    }

    /// The topics that training reads.
    pub fn history_topics(&self) -> HistoryTopics {
        HistoryTopics {
            detector: self.name.clone(),
            inputs: self.input.topics.clone(),
            state: self.output.state.clone(),
            feedback: self.feedback.clone(),
        }
    }

    /// The topics beside those that workers write.
    pub fn shared_topics(&self) -> SharedTopics<'_> {
        SharedTopics {
            models: (self.models.store == Store::Kafka).then_some(self.models.topic.as_str()),
            feedback: &self.feedback,
        }
    }

    /// The first 12 hexadecimal digits of the sha256 of the effective settings, secrets hidden: whether two processes run alike.
    pub fn digest(&self) -> String {
        Sha256::digest(self.shown.as_bytes())
            .iter()
            .take(6)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// Where Kafka is.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `host:port`, several with commas.
    pub brokers: String,
    /// librdkafka's own properties, none of those that a promise rests on.
    pub properties: BTreeMap<String, String>,
    /// Where tokens come from, with OAUTHBEARER.
    pub tokens: Option<TokenSource>,
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets under any name; names suffice to see what was set.
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("properties", &self.properties.keys())
            .field("tokens", &self.tokens)
            .finish()
    }
}

/// What is read, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct InputSettings {
    /// Topics.
    pub topics: Vec<String>,
    /// The consumer group.
    pub group: String,
    /// Where to begin without committed offsets.
    pub start: Start,
    /// How a value is encoded.
    pub format: Format,
    /// Field paths that make the key; empty: Kafka's key.
    pub key: Vec<String>,
    /// Field path of the event time; `None`: Kafka's timestamp.
    pub timestamp: Option<String>,
    /// Which fields are features.
    pub features: raw::Features,
    /// Values of categorical fields.
    pub categories: BTreeMap<String, Vec<String>>,
    /// What to do without a value.
    pub missing: Missing,
    /// The same, for single features.
    pub missing_for: BTreeMap<String, Missing>,
    /// All of that as decoding takes it; `auto` features are not resolved yet.
    pub schema: SchemaSpec,
    /// Dead letters among 10,000 records beyond which the daemon stops.
    pub dead_letters_max: u32,
}

/// Topics that are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSettings {
    /// Alerts.
    pub alerts: String,
    /// Every record's score, if wanted.
    pub scores: Option<String>,
    /// Records that cannot be read.
    pub dead_letters: String,
    /// Records that come too late.
    pub late: String,
    /// Keys that drift, if wanted.
    pub drift: Option<String>,
    /// The state.
    pub state: String,
}

/// When the model is trained, and on what.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingSettings {
    /// Time between two trainings.
    pub interval: Duration,
    /// Share of the interval by which a training is moved at random, in [0, 1).
    pub jitter: f64,
    /// How far back training reads.
    pub history: Duration,
    /// Rows that training takes at most.
    pub rows_max: usize,
    /// Rows without which no training begins.
    pub rows_min: usize,
    /// Records of the key kept out before and after an episode.
    pub guard: u64,
    /// Whether drift makes the next training come sooner.
    pub on_drift: bool,
    /// Which windows calibrate a model.
    pub calibration: raw::Calibration,
    /// What is left out.
    pub exclude: Vec<Maintenance>,
    /// In a backtest: records between two trainings; 0: by `interval`.
    pub every_records: usize,
}

/// Where models are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelsSettings {
    /// In Kafka, or in a directory.
    pub store: Store,
    /// The compacted topic.
    pub topic: String,
    /// The directory.
    pub directory: PathBuf,
    /// Versions kept for rollback.
    pub keep: usize,
}

/// How records are taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSettings {
    /// Records at most.
    pub records_max: usize,
    /// Bytes at most.
    pub bytes_max: usize,
    /// Time that the first record waits for others.
    pub wait: Duration,
}
