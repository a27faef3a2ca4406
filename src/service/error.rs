//! Why the daemon ends other than by a signal.

use super::models::AnyStoreError;
use super::schema::SchemaError;
use crate::kafka::KafkaFailure;
use crate::pipeline::RestoreError;
use crate::worker::WorkerError;

/// Why the daemon could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Kafka.
    #[error(transparent)]
    Kafka(#[from] KafkaFailure),
    /// The model store.
    #[error(transparent)]
    Store(#[from] AnyStoreError),
    /// The features.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A thread or a port.
    #[error("{what}: {error}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
    /// Two metrics of one name: a mistake in this program.
    #[error("the metrics do not fit together: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A worker could not go on.
    #[error("worker {worker}: {error}")]
    Worker {
        /// Which.
        worker: usize,
        /// Why.
        error: WorkerError<KafkaFailure>,
    },
    /// An endpoint of `[[notify]]` cannot be used.
    #[error("notify endpoint `{name}`: {problem}")]
    Endpoint {
        /// Which.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Telemetry cannot begin.
    #[error("telemetry: {0}")]
    Telemetry(String),
    /// There is nobody to tell.
    #[error("there is no [[notify]] in the configuration: nobody to tell of alerts")]
    Nobody,
    /// A thread panicked: a mistake in this program.
    #[error("worker {0} panicked")]
    Panicked(usize),
    /// A thread beside the workers ended before it was told to: a mistake in this program.
    #[error("the {0} thread ended, which it must not: the process would go on without new models")]
    Helper(&'static str),
    /// Threads that did not stop in time.
    #[error("not stopped in time: {0} of the workers still busy")]
    Slow(usize),
}

impl ServiceError {
    /// Whether it comes from Kafka.
    fn kafka(&self) -> Option<&KafkaFailure> {
        match self {
            Self::Kafka(failure)
            | Self::Schema(SchemaError::Kafka(failure))
            | Self::Worker {
                error: WorkerError::Session(failure),
                ..
            } => Some(failure),
            Self::Store(error) | Self::Schema(SchemaError::Store(error)) => error.kafka(),
            _ => None,
        }
    }

    /// Whether waiting may help.
    pub(super) fn passes(&self) -> bool {
        self.kafka().is_some_and(KafkaFailure::passes)
    }

    /// Whether it may pass without a change of settings: beginning anew may help, also once somebody made a topic, or gave a right.
    pub(super) fn may_pass(&self) -> bool {
        !matches!(
            self,
            Self::Metrics(_)
                | Self::Schema(SchemaError::Problems(_) | SchemaError::TooWide(_))
                | Self::Worker {
                    error: WorkerError::Restore(_) | WorkerError::DeadLetters(_),
                    ..
                }
        )
    }

    /// Whether settings, topics or rights must change before it can work.
    pub fn is_configuration(&self) -> bool {
        self.kafka().is_some_and(KafkaFailure::is_configuration)
            || matches!(
                self,
                Self::Endpoint { .. }
                    | Self::Telemetry(_)
                    | Self::Nobody
                    | Self::Schema(SchemaError::Problems(_) | SchemaError::TooWide(_))
                    | Self::Worker {
                        error: WorkerError::Restore(RestoreError::Foreign { .. }),
                        ..
                    }
            )
    }
}
