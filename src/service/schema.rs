//! Which features there are, settled once before any worker starts: all instances, and every model to come, see the same columns.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::models::{AnyStore, AnyStoreError};
use super::status::Status;
use crate::config::Config;
use crate::config::check::{features_max, too_wide};
use crate::kafka::KafkaFailure;
use crate::kafka::history::KafkaHistory;
use crate::model::card::ModelVersion;
use crate::port::ModelStore;
use crate::record::event;
use crate::record::problem::{self, SchemaProblem};
use crate::record::schema::{Features, Schema, SchemaSpec};

/// Records of each partition that `auto` looks at.
const PEEK: i64 = 200;
/// Between two looks at an input that is still empty.
const PEEK_EVERY: Duration = Duration::from_millis(500);

/// Why the features could not be settled.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The model store failed.
    #[error("the features kept in the model store cannot be read: {0}")]
    Store(#[from] AnyStoreError),
    /// The input cannot be read.
    #[error("the input cannot be read to find its features: {0}")]
    Kafka(#[from] KafkaFailure),
    /// What the store keeps is not what this program wrote.
    #[error("the features kept in the model store are unreadable: {0}")]
    Kept(#[from] serde_json::Error),
    /// The specification has problems.
    #[error("{}", problem::listed(.0))]
    Problems(Vec<SchemaProblem>),
    /// The features that were found are too many for the window.
    #[error("model.window {0}")]
    TooWide(String),
    /// Stopped while waiting for a first record.
    #[error("stopped before the input had a record to find features in")]
    Stopped,
}

/// What is known of the process while it waits.
#[derive(Debug)]
pub struct Waiting<'a> {
    /// Ends the wait.
    pub stop: &'a AtomicBool,
    /// Never sends: waiting on it is a sleep that a stop may cut short.
    pub wake: &'a Receiver<()>,
    /// Is told what it waits for.
    pub status: &'a Status,
}

/// The schema: as configured; with `auto`, as the champion has it, as the store keeps it, or as the input's newest records show it.
/// Waits for a first record where there is none.
pub fn settle(
    config: &Config,
    store: &mut AnyStore,
    history: &mut KafkaHistory,
    waiting: &Waiting<'_>,
) -> Result<Schema, SchemaError> {
    let mut spec = config.input.schema();
    let mut found = false;
    if spec.is_auto() {
        if let Some(kept) = store.schema()? {
            spec.features = serde_json::from_str::<Features>(&kept)?;
        } else if let Some(columns) = champion_columns(store)? {
            spec.resolve_from_columns(&columns);
        } else {
            peek(&mut spec, (history, &config.input.topics), waiting)?;
            // Another process may have seen other records, and been quicker.
            let kept = store.keep_schema(&serde_json::to_string(&spec.features)?)?;
            spec.features = serde_json::from_str::<Features>(&kept)?;
            found = true;
        }
    }
    let schema = spec.check().map_err(SchemaError::Problems)?;
    if found {
        let features = schema.columns().join(", ");
        tracing::info!(
            features,
            "found the input's features; they are fixed from now on"
        );
    }
    let (columns, most) = (schema.columns().len(), features_max(config.model.window));
    if most < columns {
        return Err(SchemaError::TooWide(too_wide(
            config.model.window,
            columns,
            most,
        )));
    }
    Ok(schema)
}

fn champion_columns(store: &mut AnyStore) -> Result<Option<Vec<String>>, AnyStoreError> {
    let Some(version) = store
        .champion()?
        .filter(|version| *version != ModelVersion(0))
    else {
        return Ok(None);
    };
    Ok(store.load(version)?.map(|model| model.card.columns.clone()))
}

fn peek(
    spec: &mut SchemaSpec,
    (history, topics): (&mut KafkaHistory, &[String]),
    waiting: &Waiting<'_>,
) -> Result<(), SchemaError> {
    let mut said = false;
    while !waiting.stop.load(Ordering::Relaxed) {
        let batch = history.newest(PEEK)?;
        let envelope = spec.envelope;
        let samples: Vec<_> = batch
            .records()
            .iter()
            .filter_map(|record| event::record(envelope, batch.value(record)?, &record.headers))
            .collect();
        if spec.resolve(samples.iter().map(|sample| &**sample)) {
            return Ok(());
        }
        if !said {
            let topics = topics.join("`, `");
            let what = format!("waiting for a first record in `{topics}` to find the features in");
            tracing::info!("{what}");
            waiting.status.waits(Some(what));
            said = true;
        }
        // A timeout is what is expected here; a closed channel means stop, which the loop sees.
        waiting.wake.recv_timeout(PEEK_EVERY).unwrap_or_default();
    }
    Err(SchemaError::Stopped)
}
