//! What the parts of the daemon are given of the configuration.

use super::status::ProcessInfo;
use crate::config::Config;
use crate::kafka::forms::Forms;
use crate::kafka::session::{BatchLimits, SessionSettings};
use crate::kafka::topics::OutputTopics;
use crate::record::schema::Schema;
use crate::stream::TopicPartition;
use crate::time::Clock;
use crate::trainer::Plan;

/// Bytes of a batch at most, which every worker holds; small records reach `batch.records_max` first.
const BATCH_BYTES: usize = 16 << 20;

/// Share of the interval by which each training is moved at random, so that many detectors do not train at once.
const JITTER: f64 = 0.1;

/// What `/status` says of the process.
pub fn process_info(config: &Config, clock: &dyn Clock) -> ProcessInfo {
    ProcessInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        detector: config.name.clone(),
        config_digest: config.digest(),
        started: clock.now().rfc3339(),
        workers: config.workers,
        delivery: config.delivery,
        topics: config.input.topics.clone(),
        seasonal: config.detect.seasonal,
    }
}

/// How worker number `worker` joins the group.
pub fn session_settings(
    config: &Config,
    forms: Forms,
    (instance, worker): (String, usize),
) -> SessionSettings {
    SessionSettings {
        detector: config.name.clone(),
        connection: config.connection(),
        inputs: config.input.topics.clone(),
        topics: OutputTopics {
            forms,
            ..config.output_topics()
        },
        start: config.input.start,
        delivery: config.delivery,
        batch: BatchLimits {
            records_max: config.batch.records_max,
            bytes_max: BATCH_BYTES,
            wait: config.batch.wait,
        },
        instance,
        worker,
    }
}

/// What to train, when, and on what, as configured.
pub fn plan(config: &Config) -> Plan {
    let training = &config.training;
    Plan {
        settings: config.train_settings(),
        interval: training.interval,
        jitter: JITTER,
        on_drift: training.on_drift,
        history: training.history,
    }
}

/// The partition whose holder trains: partition 0 of the topic that comes first.
pub fn first_partition(config: &Config) -> TopicPartition {
    let first = config.input.topics.iter().min().map_or("", String::as_str);
    TopicPartition::new(first, 0)
}

/// Says that all is at work.
pub fn log_start(config: &Config, schema: &Schema) {
    tracing::info!(
        workers = config.workers,
        columns = schema.columns().len(),
        false_alarms = %format_args!("at most {}", config.detect.budget),
        "started"
    );
}
