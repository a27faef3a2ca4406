//! The checked configuration, and what lower layers take from it.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::load::Loaded;
use super::{raw, secret};
use crate::detect::Params;
use crate::kafka::admin::SharedTopics;
use crate::kafka::forms::Forms;
use crate::kafka::history::HistoryTopics;
use crate::kafka::oauth;
use crate::kafka::publish::Delivery;
use crate::kafka::registration::Wanted;
use crate::kafka::registry::RegistrySettings;
use crate::kafka::schemas::SchemaSource;
use crate::kafka::settings::Connection;
use crate::kafka::tokens::TokenSource;
use crate::kafka::topics::OutputTopics;
use crate::model::spec::ModelSpec;
use crate::notify::endpoint::Endpoint;
use crate::seed::Seed;
use crate::telemetry;
use crate::train::evidence::EpisodeSettings;
use crate::train::{self, TrainSettings};

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
    pub kafka: raw::Kafka,
    /// Where tokens come from, with OAUTHBEARER.
    pub tokens: Option<TokenSource>,
    /// Whom `anomalyd notify` tells of alerts.
    pub notify: Vec<Endpoint>,
    /// Where the schemas of records are.
    pub schemas: Option<SchemaSource>,
    /// What is read.
    pub input: raw::Input,
    /// What is written.
    pub output: raw::Output,
    /// What the model is.
    pub model: ModelSpec,
    /// When it is trained, and on what.
    pub training: raw::Training,
    /// What a challenger must show.
    pub gate: raw::Gate,
    /// Where models are kept.
    pub models: raw::Models,
    /// The topic of what people say of episodes.
    pub feedback: String,
    /// When an alert is due.
    pub detect: Arc<Params>,
    /// How records are taken together.
    pub batch: raw::Batch,
    /// Where HTTP listens; `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// What who wants to change something by HTTP must know; `None`: nobody can.
    pub http_token: Option<TokenDigest>,
    /// The log.
    pub log: raw::Log,
    /// Where traces and metrics go; `None`: nowhere.
    pub telemetry: Option<telemetry::Settings>,
    /// The effective settings as TOML, secrets hidden.
    pub shown: String,
    /// What it was checked from.
    pub(super) loaded: Arc<Loaded>,
}

/// What a digest in a token's place begins with.
const DIGEST: &str = "sha256:";

/// The sha256 of a token: enough to know it again, and nothing to be read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Of a token.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// As it stands in a token's place.
    pub(super) fn written(&self) -> String {
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{DIGEST}{hex}")
    }

    /// What stands in a token's place; `None`: a token.
    pub(super) fn read(text: &str) -> Option<Self> {
        let hex = text.strip_prefix(DIGEST).filter(|hex| hex.len() == 64)?;
        let mut digest = [0; 32];
        for (number, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(hex.get(2 * number..2 * number + 2)?, 16).ok()?;
        }
        Some(Self(digest))
    }

    /// Whether `token` is the one. Digests are compared: how long that takes says nothing of the token.
    pub fn is_of(&self, token: &str) -> bool {
        *self == Self::of(token)
    }
}

/// A setting in effect, as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its key.
    pub key: String,
    /// Its value as TOML has it, `***` for a secret.
    pub value: String,
    /// Where it comes from: `default`, a file, a variable of the environment, or `--set`.
    pub origin: String,
}

impl Config {
    /// All settings in effect, secrets hidden, with where each comes from.
    pub fn settings(&self) -> Vec<Setting> {
        let table: toml::Table = self.shown.parse().unwrap_or_default();
        let mut flat = Vec::new();
        flatten(&table, "", &mut flat);
        let each = flat.into_iter();
        each.map(|(key, value)| Setting {
            origin: self.origin(&key),
            key,
            value,
        })
        .collect()
    }

    /// The reference that a setting was given as on the command line, if it was.
    #[must_use]
    pub fn reference(&self, key: &str) -> Option<&str> {
        let given = self.loaded.sources.set.iter().rev();
        given
            .filter_map(|given| given.split_once('='))
            .find(|(of, _)| *of == key)
            .map(|(_, value)| value)
            .filter(|value| secret::is_reference(value))
    }

    /// Where a setting comes from; one of a table that somebody gave as a whole comes from there.
    fn origin(&self, key: &str) -> String {
        let ends = key.char_indices().filter(|(_, letter)| *letter == '.');
        let mut parts: Vec<&str> = ends.map(|(end, _)| &key[..end]).collect();
        parts.push(key);
        let origin = parts
            .into_iter()
            .rev()
            .find_map(|part| self.loaded.origins.get(part));
        origin.map_or_else(|| "default".to_owned(), Clone::clone)
    }

    /// How to reach Kafka.
    pub fn connection(&self) -> Connection {
        let mut properties = self.kafka.lowercase_properties();
        // They are the token source's.
        properties.retain(|name, _| !oauth::is_setting(name));
        Connection {
            brokers: self.kafka.brokers.clone(),
            group: self.input.group.clone(),
            properties,
            tokens: self.tokens.clone(),
            schemas: self.schemas.clone(),
        }
    }

    /// How to reach Kafka as the group that reads alerts for `endpoint`.
    pub fn notify_connection(&self, endpoint: &Endpoint) -> Connection {
        Connection {
            group: endpoint.group(&self.input.group),
            ..self.connection()
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
            late_after: self.input.late_after,
            ..train::Params::default()
        }
    }

    /// How models are trained.
    pub fn train_settings(&self) -> TrainSettings {
        TrainSettings {
            detector: self.name.clone(),
            spec: self.model.clone(),
            schema: Some(self.input.schema()),
            maintenance: self.training.exclude.clone(),
            budget: self.detect.budget,
            episodes: EpisodeSettings::of(&self.detect),
            params: self.training_params(),
            seed: self.seed,
        }
    }

    /// The topics that are written, as JSON until the ids of schemas are known.
    pub fn output_topics(&self) -> OutputTopics {
        OutputTopics {
            alerts: self.output.alerts.clone(),
            scores: self.output.scores.clone(),
            dead_letters: self.output.dead_letters.clone(),
            late: self.output.late.clone(),
            drift: self.output.drift.clone(),
            state: self.output.state.clone(),
            forms: Forms::default(),
        }
    }

    /// The registry, and what is asked of it for what goes to `topics`.
    pub fn registration<'a>(
        &'a self,
        topics: &'a OutputTopics,
    ) -> (Option<&'a RegistrySettings>, Wanted<'a>) {
        let wanted = Wanted {
            format: self.output.format,
            register: self.output.register_schemas,
            topics,
        };
        (self.schemas.as_ref().map(SchemaSource::registry), wanted)
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
            models: self.models.in_kafka().then_some(self.models.topic.as_str()),
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

/// All values of a table by their whole keys.
pub(super) fn flatten(table: &toml::Table, prefix: &str, into: &mut Vec<(String, String)>) {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        match value {
            toml::Value::Table(inner) => flatten(inner, &format!("{key}."), into),
            value => into.push((key, value.to_string())),
        }
    }
}
