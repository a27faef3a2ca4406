//! The configuration as it is written: what serde reads, and the default of every key, in one place.
//!
//! Types belong to what they configure, further down; what a type cannot hold `check` says. A checked [`super::Config`] has the same sections.
//! `config/default.toml` says what each key means to the user, and a test proves that it has the same keys and the same defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::exclude;
use super::notify::Notify;
use super::telemetry::Telemetry;
use super::units::{one_or_many, optional_text, optional_time, time, with_commas};
use crate::detect::Params;
use crate::kafka::forms::OutputFormat;
use crate::kafka::publish::Delivery;
use crate::kafka::start_offset::Start;
use crate::model::card::Maintenance;
use crate::model::spec::ModelSpec;
use crate::record::Missing;
use crate::record::calendar::CalendarSpec;
use crate::record::csv_spec::CsvSpec;
use crate::record::envelope::Envelope;
use crate::record::protobuf_schema::ProtobufSpec;
use crate::record::schema::{Features, Format, SchemaSpec};

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// The detector's name.
    pub name: String,
    /// This process's name among those of the group; empty: made up at start.
    #[serde(with = "optional_text")]
    pub instance: Option<String>,
    /// Threads that consume, score and produce.
    pub workers: usize,
    /// What a crash may cost.
    pub delivery: Delivery,
    /// The root of all randomness.
    pub seed: u64,
    /// `[[notify]]`
    pub notify: Vec<Notify>,
    /// `[kafka]`
    pub kafka: Kafka,
    /// `[registry]`
    pub registry: Registry,
    /// `[input]`
    pub input: Input,
    /// `[output]`
    pub output: Output,
    /// `[model]`
    pub model: ModelSpec,
    /// `[training]`
    pub training: Training,
    /// `[gate]`
    pub gate: Gate,
    /// `[models]`
    pub models: Models,
    /// `[feedback]`
    pub feedback: Feedback,
    /// `[alerts]`
    pub alerts: Alerts,
    /// `[batch]`
    pub batch: Batch,
    /// `[state]`
    pub state: State,
    /// `[http]`
    pub http: Http,
    /// `[log]`
    pub log: Log,
    /// `[telemetry]`
    pub telemetry: Telemetry,
}

/// Records that a detector judges together unless told otherwise: what a stream shows over a few records is most of what a model can know of it
/// (docs/quality.md), while a table of unrelated rows, for which [`ModelSpec`] has its own default, has no window.
pub const MODEL_WINDOW: usize = 10;

impl Default for Raw {
    fn default() -> Self {
        Self {
            name: "anomalyd".to_owned(),
            instance: None,
            workers: 1,
            delivery: Delivery::ExactlyOnce,
            seed: 1,
            notify: Vec::new(),
            kafka: Kafka::default(),
            registry: Registry::default(),
            input: Input::default(),
            output: Output::default(),
            model: ModelSpec {
                window: MODEL_WINDOW,
                ..ModelSpec::default()
            },
            training: Training::default(),
            gate: Gate::default(),
            models: Models::default(),
            feedback: Feedback::default(),
            alerts: Alerts::default(),
            batch: Batch::default(),
            state: State::default(),
            http: Http::default(),
            log: Log::default(),
            telemetry: Telemetry::default(),
        }
    }
}

/// Where Kafka is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    /// `host:port`, several with commas, or a list.
    #[serde(deserialize_with = "with_commas")]
    pub brokers: String,
    /// librdkafka's own properties.
    pub properties: Properties,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            brokers: "localhost:9092".to_owned(),
            properties: Properties::default(),
        }
    }
}

impl Kafka {
    /// The properties by their names as librdkafka has them.
    pub fn lowercase_properties(&self) -> BTreeMap<String, String> {
        let each = self.properties.0.iter();
        each.map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
            .collect()
    }
}

/// librdkafka properties by name: text, but nobody should have to quote a number. Its `Debug` has the names alone: values may be secrets under any name.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Properties(pub BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "text, a whole number, true or false")]
        enum Scalar {
            Flag(bool),
            Number(i64),
            Text(String),
        }
        let properties = BTreeMap::<String, Scalar>::deserialize(from)?.into_iter();
        let text = |value| match value {
            Scalar::Flag(flag) => flag.to_string(),
            Scalar::Number(number) => number.to_string(),
            Scalar::Text(text) => text,
        };
        Ok(Self(
            properties
                .map(|(name, value)| (name, text(value)))
                .collect(),
        ))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What is read, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Input {
    /// Topics, or one.
    #[serde(deserialize_with = "one_or_many")]
    pub topics: Vec<String>,
    /// The consumer group.
    pub group: String,
    /// Where to begin without committed offsets.
    pub start: Start,
    /// How a value is encoded.
    pub format: Format,
    /// What is around a record.
    pub envelope: Envelope,
    /// What a line of CSV has.
    pub csv: CsvSpec,
    /// `[input.avro]`
    pub avro: Avro,
    /// `[input.protobuf]`
    pub protobuf: ProtobufSpec,
    /// Field paths that make the key, or one; empty: Kafka's key.
    #[serde(deserialize_with = "one_or_many")]
    pub key: Vec<String>,
    /// Field path of the event time; empty: Kafka's timestamp.
    pub timestamp: String,
    /// Which fields are features.
    pub features: Features,
    /// Values of categorical fields: context by which features are judged, never judged themselves.
    pub categories: BTreeMap<String, Vec<String>>,
    /// Time of day and day of the week as context.
    pub calendar: CalendarSpec,
    /// What to do without a value.
    pub missing: Missing,
    /// The same, for single features.
    pub missing_for: BTreeMap<String, Missing>,
    /// How far behind its key's newest a record may be.
    #[serde(with = "optional_time")]
    pub late_after: Option<Duration>,
    /// Dead letters among 10,000 records beyond which the daemon stops.
    pub dead_letters_max: u32,
}

impl Default for Input {
    fn default() -> Self {
        Self {
            topics: vec!["records".to_owned()],
            group: "anomalyd".to_owned(),
            start: Start::Latest,
            format: Format::Json,
            envelope: Envelope::None,
            csv: CsvSpec::default(),
            avro: Avro::default(),
            protobuf: ProtobufSpec::default(),
            key: Vec::new(),
            timestamp: String::new(),
            features: Features::default(),
            categories: BTreeMap::new(),
            calendar: CalendarSpec::default(),
            missing: Missing::Mask,
            missing_for: BTreeMap::new(),
            late_after: None,
            dead_letters_max: 5_000,
        }
    }
}

/// Records in Avro.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Avro {
    /// The schema of all records; empty: each value begins with the id of its own.
    pub schema: String,
}

/// Where schemas are that values have the ids of.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registry {
    /// Its address; empty: there is none.
    pub url: String,
    /// Who asks; empty: nobody.
    pub user: String,
    /// The password.
    pub password: String,
    /// Certificates, PEM, of who may vouch for it; empty: those of the machine.
    pub ca_file: String,
}

impl fmt::Debug for Registry {
    /// Leaves the password out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Models {
    /// Whether they are kept in the topic, and not in a directory.
    pub fn in_kafka(&self) -> bool {
        self.directory.as_os_str().is_empty()
    }
}

impl Input {
    /// What concerns single records, as decoding takes it; `auto` features are not resolved yet.
    pub fn schema(&self) -> SchemaSpec {
        SchemaSpec {
            format: self.format,
            envelope: self.envelope,
            csv: self.csv.clone(),
            avro: self.avro.schema.clone(),
            protobuf: self.protobuf.clone(),
            key: self.key.clone(),
            timestamp: self.timestamp.clone(),
            features: self.features.clone(),
            categories: self.categories.clone(),
            calendar: Some(self.calendar.clone()).filter(|spec| *spec != CalendarSpec::default()),
            missing: self.missing,
            missing_for: self.missing_for.clone(),
        }
    }
}

/// What is written, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Output {
    /// Topic of alerts.
    pub alerts: String,
    /// Topic of every record's score; empty: none.
    #[serde(with = "optional_text")]
    pub scores: Option<String>,
    /// Topic of records that cannot be read.
    pub dead_letters: String,
    /// Topic of records that come too late; empty: that of the dead letters.
    #[serde(with = "optional_text")]
    pub late: Option<String>,
    /// Topic of keys that begin or cease to drift; empty: none.
    #[serde(with = "optional_text")]
    pub drift: Option<String>,
    /// Topic of the state.
    pub state: String,
    /// What alerts, scores and drift are written as.
    pub format: OutputFormat,
    /// Whether their schemas are registered.
    pub register_schemas: bool,
    /// Whether scores carry the model's code.
    pub emit_code: bool,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            alerts: "anomalyd.alerts".to_owned(),
            scores: None,
            dead_letters: "anomalyd.dead_letters".to_owned(),
            late: None,
            drift: Some("anomalyd.drift".to_owned()),
            state: "anomalyd.state".to_owned(),
            format: OutputFormat::Json,
            register_schemas: true,
            emit_code: false,
        }
    }
}

/// When and on what the model is trained again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Training {
    /// Time between two trainings.
    #[serde(with = "time")]
    pub interval: Duration,
    /// How far back training reads.
    #[serde(with = "time")]
    pub history: Duration,
    /// Windows that training learns from at most; up to four times as many records are read.
    pub rows_max: usize,
    /// Rows without which no training begins.
    pub rows_min: usize,
    /// Records of the key kept out before and after an episode.
    pub guard: u64,
    /// Stretches of time that are kept out, such as maintenance.
    #[serde(with = "exclude")]
    pub exclude: Vec<Maintenance>,
    /// Whether drift makes the next training come sooner.
    pub on_drift: bool,
    /// Which windows calibrate a model.
    pub calibration: Calibration,
    /// In a backtest: records between two trainings; 0: by `interval`.
    pub every_records: usize,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(3600),
            history: Duration::from_secs(7 * 86_400),
            rows_max: 20_000,
            rows_min: 500,
            guard: 20,
            exclude: Vec::new(),
            on_drift: true,
            calibration: Calibration::Auto,
            every_records: 0,
        }
    }
}

/// Which windows calibrate a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Calibration {
    /// Held-out ones in the daemon; on files, out-of-fold ones where there are few.
    Auto,
    /// Windows that are held back.
    HeldOut,
    /// Every window, by a model fitted on others.
    Cross,
}

/// What a new model must show before it may replace the one in use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gate {
    /// How much of the champion's or the baseline's recall of injected faults a challenger may lack.
    pub recall_tolerance: f64,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            recall_tolerance: 0.05,
        }
    }
}

/// Where people and programs say what episodes were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Feedback {
    /// The compacted topic.
    pub topic: String,
}

impl Default for Feedback {
    fn default() -> Self {
        Self {
            topic: "anomalyd.feedback".to_owned(),
        }
    }
}

/// Where models are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Models {
    /// The compacted topic.
    pub topic: String,
    /// The directory; empty: in the topic.
    pub directory: PathBuf,
}

impl Default for Models {
    fn default() -> Self {
        Self {
            topic: "anomalyd.models".to_owned(),
            directory: PathBuf::new(),
        }
    }
}

/// When an alert is due.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// The budget.
    pub false_alarm_rate: Rate,
    /// Time after a close in which another episode of the key needs more calm to close.
    #[serde(with = "time")]
    pub cooldown: Duration,
    /// How many times its longest gap a key may be silent; 0: for ever.
    pub silence_factor: f64,
    /// Episodes of a partition that may open within the storm window; 0: any number.
    pub storm_opens_max: u32,
}

impl Default for Alerts {
    fn default() -> Self {
        let params = Params::default();
        Self {
            false_alarm_rate: Rate::PerTime("1/week".to_owned()),
            cooldown: params.cooldown,
            silence_factor: params.silence_factor,
            storm_opens_max: params.storm_opens_max,
        }
    }
}

/// The budget of false alarms: a probability per record, or so many episodes in a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "episodes per key and time such as \"1/week\", for all keys together such as \"1/day/fleet\", or a probability per record such as 0.0001"
)]
pub enum Rate {
    /// A probability.
    PerRecord(f64),
    /// `"N/hour"`, `"N/day"`, `"N/week"` or `"N/month"`, with `/fleet` behind or not.
    PerTime(String),
}

/// How records are taken together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Batch {
    /// Records of a batch at most.
    pub records_max: usize,
    /// Time that the first record of a batch waits for others.
    #[serde(with = "time")]
    pub wait: Duration,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            records_max: 10_000,
            wait: Duration::from_millis(20),
        }
    }
}

/// What is remembered of keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct State {
    /// Records of a partition between two snapshots.
    pub snapshot_records: u64,
    /// Keys of a partition at most.
    pub keys_max: usize,
}

impl Default for State {
    fn default() -> Self {
        let params = Params::default();
        Self {
            snapshot_records: params.snapshot_records,
            keys_max: params.keys_max,
        }
    }
}

/// The HTTP server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address and port; empty: none.
    pub listen: String,
    /// What who wants to change something must know; empty: nothing can be changed by HTTP.
    pub token: String,
    /// The address by which people reach the page; empty: alerts name none.
    pub public_url: String,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9464".to_owned(),
            token: String::new(),
            public_url: String::new(),
        }
    }
}

/// The log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or tracing-subscriber's filter syntax.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Auto,
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}
