//! The adapter: the ports of layer 7 over librdkafka, and nothing that decides what a record means.
//!
//! A worker's [`session::KafkaSession`] is one member of the consumer group with one producer; callbacks run inside its own polls, on its own
//! thread, and no transaction is open while it polls. What librdkafka says falls into three classes: try again (within a limit), abort
//! ([`crate::port::Published::Aborted`], a value), and fatal (the process ends, and is started again). The outcome of a transaction is
//! never guessed: where a call's answer is missing, the committed offsets decide (see [`publish`]).
//!
//! Next: [`settings`] (which properties, and which are refused), [`session`], [`publish`] (transactions) with [`outcome`] (what an error means), [`restore`] (reading compacted
//! topics whole), [`history`] (what training reads), [`models`] (the model store), [`admin`] (topics), [`watchdog`].

pub mod admin;
mod context;
pub mod history;
pub mod models;
mod outcome;
pub mod publish;
pub mod restore;
mod retention;
pub mod session;
pub mod settings;
pub mod watchdog;

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset as RawOffset, TopicPartitionList};

use crate::stream::{Offset, Positions, TopicPartition};

/// How long one call into librdkafka may take before it counts as failed.
pub(crate) const CALL_MAX: Duration = Duration::from_secs(30);

/// How long a call that fails in a way that may pass is tried again.
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(90);

/// What cannot be tried again.
#[derive(Debug, thiserror::Error)]
pub enum KafkaFailure {
    /// The settings do not make a client.
    #[error("cannot create a Kafka client: {0}")]
    Client(#[source] KafkaError),
    /// A call failed, and trying it again will not help, or has not helped within the limit.
    #[error("Kafka: {what}: {error}")]
    Call {
        /// What was tried.
        what: &'static str,
        /// What librdkafka said.
        error: KafkaError,
    },
    /// Another process has taken over this producer or this member.
    #[error("another process uses the same identity and has taken over: {0}")]
    Fenced(#[source] KafkaError),
    /// After a lost answer the committed offsets are neither those before the transaction nor those after it.
    #[error("the outcome of a transaction is unknown: {0}")]
    UnknownOutcome(String),
    /// A topic that must exist does not.
    #[error(
        "topic `{0}` does not exist: `anomalyd topics create` makes the daemon's own topics, and with --input-partitions N the input too"
    )]
    NoTopic(String),
    /// Something did not come to pass in time.
    #[error("Kafka: {what} took longer than {} s", .limit.as_secs())]
    TooSlow {
        /// What was waited for.
        what: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The content of a topic is not what was written.
    #[error("topic `{topic}`: {problem}")]
    Content {
        /// Where.
        topic: String,
        /// What is wrong.
        problem: String,
    },
}

impl KafkaFailure {
    /// Names a call that failed.
    pub(crate) fn call(what: &'static str) -> impl FnOnce(KafkaError) -> Self {
        move |error| match code(&error) {
            Some(
                RDKafkaErrorCode::Fenced
                | RDKafkaErrorCode::ProducerFenced
                | RDKafkaErrorCode::FencedInstanceId,
            ) => Self::Fenced(error),
            _ => Self::Call { what, error },
        }
    }
}

/// librdkafka's code of an error, transactions included.
pub(crate) fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::Transaction(error) => Some(error.code()),
        error => error.rdkafka_error_code(),
    }
}

/// Whether a failed query may succeed when it is made again.
pub(crate) fn passes(error: &KafkaError) -> bool {
    if let KafkaError::Transaction(error) = error
        && error.is_retriable()
    {
        return true;
    }
    matches!(
        code(error),
        Some(
            RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::NetworkException
                | RDKafkaErrorCode::NotEnoughReplicas
                | RDKafkaErrorCode::ConcurrentTransactions
                | RDKafkaErrorCode::UnstableOffsetCommit
                | RDKafkaErrorCode::WaitingForCoordinator
                | RDKafkaErrorCode::InProgress
                | RDKafkaErrorCode::PreviousInProgress
        )
    )
}

/// Tries `call` again while it fails in a way that may pass, for at most [`RETRY_MAX`].
pub(crate) fn retry<T>(
    clock: &dyn crate::time::Clock,
    what: &'static str,
    mut call: impl FnMut() -> Result<T, KafkaError>,
) -> Result<T, KafkaFailure> {
    let deadline = clock.monotonic() + RETRY_MAX;
    loop {
        match call() {
            Ok(value) => return Ok(value),
            Err(error) if passes(&error) && clock.monotonic() < deadline => {
                tracing::debug!(%error, what, "trying again");
                std::thread::park_timeout(Duration::from_millis(50));
            }
            Err(error) => return Err(KafkaFailure::call(what)(error)),
        }
    }
}

/// Positions as librdkafka takes them.
pub(crate) fn list(positions: &Positions) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for (at, offset) in positions {
        list.add_partition_offset(&at.topic, at.partition.0, RawOffset::Offset(offset.0))?;
    }
    Ok(list)
}

/// Partitions as librdkafka takes them, without offsets.
pub(crate) fn bare<'a>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for at in partitions {
        list.add_partition(&at.topic, at.partition.0);
    }
    list
}

/// The partitions of a list, with the offset where it has one.
pub(crate) fn places(list: &TopicPartitionList) -> Vec<(TopicPartition, Option<Offset>)> {
    list.elements()
        .iter()
        .map(|element| {
            let offset = match element.offset() {
                RawOffset::Offset(offset) if offset >= 0 => Some(Offset(offset)),
                _ => None,
            };
            (
                TopicPartition::new(element.topic(), element.partition()),
                offset,
            )
        })
        .collect()
}
