//! What must come from Kafka before the threads can start, for however long Kafka lets us wait.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::error::ServiceError;
use super::models::{AnyStore, AnyStoreError, SharedStore};
use super::schema::{self, Waiting};
use super::status::Status;
use crate::config::Config;
use crate::kafka::feedback::FeedbackTopic;
use crate::kafka::forms::Forms;
use crate::kafka::history::KafkaHistory;
use crate::kafka::watchdog::{Limits, Watchdog};
use crate::kafka::{KafkaFailure, admin, registration};
use crate::model::card::ModelVersion;
use crate::model::trained::TrainedModel;
use crate::port::ModelStore;
use crate::record::schema::Schema;
use crate::time::Clock;
use crate::worker::BoxError;

/// How long Kafka is asked before it is said that it is away, and how long until it is asked again.
const BRIEF: Duration = Duration::from_secs(5);
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What is needed of Kafka before the threads start.
pub(super) struct Prepared {
    pub(super) history: KafkaHistory,
    /// Read to its end.
    pub(super) feedback: FeedbackTopic,
    /// What the workers and the follower share.
    pub(super) shared: AnyStore,
    /// What the trainer has to itself.
    pub(super) training: AnyStore,
    pub(super) schema: Arc<Schema>,
    pub(super) champion: Option<Arc<TrainedModel>>,
    /// How what is emitted is written.
    pub(super) forms: Forms,
}

/// Prepares as soon as Kafka lets us: brokers that are away at the start are waited for, for as long as it takes.
pub(super) fn patiently(
    config: &Config,
    (clock, watchdog): (&Arc<dyn Clock>, &Watchdog),
    status: &Status,
    waiting: &Waiting<'_>,
) -> Result<Prepared, ServiceError> {
    let since = clock.now().rfc3339();
    loop {
        match prepare(config, (clock, watchdog), waiting) {
            Err(error) if error.passes() && !watchdog.stopped() => {
                let brokers = &config.kafka.brokers;
                tracing::warn!(%error, brokers, "Kafka, or what it needs, is away: waiting for it");
                let for_what = match &error {
                    ServiceError::Kafka(KafkaFailure::Registry { .. }) => String::new(),
                    _ => format!("Kafka at `{brokers}` "),
                };
                status.waits(Some(format!(
                    "waiting for {for_what}since {since}: {error}"
                )));
                // A timeout is what is expected here; a closed channel means stop, which the next attempt sees.
                waiting.wake.recv_timeout(AGAIN_AFTER).unwrap_or_default();
            }
            outcome => {
                status.waits(None);
                return outcome;
            }
        }
    }
}

fn prepare(
    config: &Config,
    (clock, watchdog): (&Arc<dyn Clock>, &Watchdog),
    waiting: &Waiting<'_>,
) -> Result<Prepared, ServiceError> {
    let connection = config.connection();
    let brief = briefly(watchdog);
    let store = |watchdog: &Watchdog| {
        AnyStore::open(config, &connection, Arc::clone(clock), watchdog.clone())
    };
    let history = |watchdog: &Watchdog| {
        let waits = (Arc::clone(clock), watchdog.clone());
        KafkaHistory::new(&connection, config.history_topics(), waits)
    };
    let mut shared = store(&brief)?;
    look_at_topics(config)?;
    let topics = config.output_topics();
    let (registry, wanted) = config.registration(&topics);
    let forms = registration::settle(registry, wanted, &brief)?;
    let mut feedback = FeedbackTopic::new(
        &connection,
        (&config.feedback, &config.name),
        (Arc::clone(clock), brief.clone()),
    )?;
    feedback.look()?;
    let schema = schema::settle(config, &mut shared, &mut history(&brief)?, waiting)?;
    let champion = match shared.champion()? {
        Some(version) => whole(version, shared.load(version))?,
        None => None,
    };
    Ok(Prepared {
        history: history(watchdog)?,
        feedback,
        shared,
        training: store(watchdog)?,
        schema: Arc::new(schema),
        champion,
        forms,
    })
}

/// Waits only for a short time, so that it is soon said what is waited for, and so that no worker waits long for who holds the store.
pub(super) fn briefly(watchdog: &Watchdog) -> Watchdog {
    watchdog.clone().with_limits(Limits {
        retry: BRIEF,
        ..watchdog.limits()
    })
}

/// Topics that must keep the latest record of each key do.
fn look_at_topics(config: &Config) -> Result<(), KafkaFailure> {
    let connection = config.connection();
    let state = config.output_topics().state;
    let models = &config.models;
    let in_kafka = models.in_kafka();
    let kept = [&state, &config.feedback];
    for topic in kept.into_iter().chain(in_kafka.then_some(&models.topic)) {
        if let Some(failure) = admin::forgets(&connection, topic) {
            return Err(failure);
        }
        if let Some(beware) = admin::too_few_replicas(&connection, topic) {
            tracing::warn!("{beware}");
        }
    }
    Ok(())
}

/// A stored model, waited for while Kafka is away: a worker cannot judge by another one.
pub(super) fn load(
    store: &SharedStore,
    version: ModelVersion,
    watchdog: &Watchdog,
) -> Result<Option<Arc<TrainedModel>>, BoxError> {
    loop {
        let found = {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            store.load(version)
        };
        match found {
            Err(error) if error.kafka().is_some_and(KafkaFailure::passes) => {
                tracing::warn!(%error, %version, "a model cannot be loaded: trying on");
                watchdog.pause(AGAIN_AFTER)?;
            }
            found => return Ok(whole(version, found)?),
        }
    }
}

/// A model that was looked up; none, with a word, where what is stored is no model: a process that waited for another one would never start.
fn whole(
    version: ModelVersion,
    found: Result<Option<Arc<TrainedModel>>, AnyStoreError>,
) -> Result<Option<Arc<TrainedModel>>, AnyStoreError> {
    match found {
        Err(error) if error.is_content() => {
            tracing::error!(%error, %version, "a stored model cannot be used: going on without it");
            Ok(None)
        }
        found => found,
    }
}
