//! What librdkafka says, by what is to be done about it.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::stream::TopicPartition;

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
    #[error(
        "another process uses the same identity and has taken over: {0}; give each process of the group an `instance` of its own (and a `group.instance.id`, where it is set)"
    )]
    Fenced(#[source] KafkaError),
    /// After a lost answer the group's offsets bear neither the mark of the transaction nor that of the one before it.
    #[error("the outcome of a transaction is unknown: {0}")]
    UnknownOutcome(String),
    /// The endpoint that gives tokens gave none.
    #[error("no token for SASL OAUTHBEARER from `{endpoint}`: {problem}")]
    NoToken {
        /// Its address.
        endpoint: String,
        /// What it said, or what came of asking it.
        problem: String,
        /// Whether a setting must change, here or there.
        refused: bool,
    },
    /// The schema registry refuses us, or says nothing.
    #[error("schema registry `{url}`: {problem}")]
    Registry {
        /// Its address.
        url: String,
        /// What it said, or what is wrong with a setting.
        problem: String,
        /// Whether a setting must change, here or there.
        refused: bool,
    },
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
    /// Nobody answers at the address.
    #[error("kafka.brokers: no answer from `{brokers}` within {} s{why}: --brokers, or kafka.brokers, names another address", .limit.as_secs())]
    Away {
        /// The address.
        brokers: String,
        /// How long it was waited for.
        limit: Duration,
        /// What went wrong last, in brackets, if anything is known.
        why: String,
    },
    /// A transaction holds something back for longer than any should last.
    #[error(
        "Kafka: a transaction that is neither committed nor aborted has held back {what} for {} s: `An undecided transaction` in the runbook says how to end it",
        .limit.as_secs()
    )]
    Undecided {
        /// What cannot be read.
        what: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// A right is missing, or credentials are wrong.
    #[error(
        "Kafka refuses {what}: {error}: see its ACLs and credentials; `anomalyd validate --connect` names all that is missing"
    )]
    Refused {
        /// What was tried, with the topic where it is one.
        what: String,
        /// What it said.
        error: KafkaError,
    },
    /// A topic takes no messages of the size that must be written.
    #[error(
        "topic `{topic}` does not take a message of {bytes} bytes: raise its `max.message.bytes` (`anomalyd topics create` sets it for topics that it makes)"
    )]
    TooLarge {
        /// Which.
        topic: String,
        /// Key, value and headers.
        bytes: usize,
    },
    /// A topic that must keep the latest record of each key deletes records by age or size.
    #[error(
        "topic `{topic}` has cleanup.policy `{policy}`, but must have `compact` alone: it would forget what a restart needs. Set it (`kafka-configs.sh --alter --topic {topic} --add-config cleanup.policy=compact`), or let `anomalyd topics create` make another topic"
    )]
    Forgets {
        /// Which.
        topic: String,
        /// What it has.
        policy: String,
    },
    /// The models are another consumer group's.
    #[error(
        "the models of detector `{detector}` in topic `{topic}` belong to the consumer group `{theirs}`, but this is `{ours}`: give this detector another `name`, or another `models.topic`; if `{theirs}` is gone for good, delete the topic"
    )]
    ForeignModels {
        /// The models topic.
        topic: String,
        /// Whose models.
        detector: String,
        /// The group that wrote them.
        theirs: String,
        /// This process's group.
        ours: String,
    },
    /// Partitions were added to the state topic.
    #[error(
        "topic `{topic}` has {partitions} partitions, but the state of {at} was written when it had another number: make it anew with that one, or name another topic in output.state, where windows and episodes begin anew"
    )]
    Resized {
        /// The state topic.
        topic: String,
        /// How many partitions it has.
        partitions: i32,
        /// An input partition whose state lies in a wrong place.
        at: TopicPartition,
    },
    /// A log is not the one that was being read: its topic was deleted and made anew, or it lost its end with its leader.
    #[error("{0}: reading on from what is committed")]
    OtherLog(String),
    /// The feedback topic has more than one partition.
    #[error(
        "topic `{topic}` has {partitions} partitions, but must have one, so that what is said of an episode stays in order: make it anew (`anomalyd topics create`), or name another topic in feedback.topic"
    )]
    Divided {
        /// Which.
        topic: String,
        /// How many it has.
        partitions: i32,
    },
    /// The group wants its partitions divided anew before it is known where they begin.
    #[error("the group divides its partitions anew")]
    Rebalanced,
    /// The process is to end.
    #[error("stopped while waiting for Kafka")]
    Stopped,
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
            _ if refused(&error) => Self::Refused {
                what: what.to_owned(),
                error,
            },
            _ => Self::Call { what, error },
        }
    }

    /// Whether it may pass, so that a new client may go on where this one could not: brokers that are away come back.
    pub fn passes(&self) -> bool {
        match self {
            Self::Call { error, .. } => !is_final(error),
            Self::NoToken { refused, .. } | Self::Registry { refused, .. } => !refused,
            Self::UnknownOutcome(_)
            | Self::OtherLog(_)
            | Self::Rebalanced
            | Self::TooSlow { .. }
            | Self::Away { .. }
            | Self::Undecided { .. } => true,
            Self::Client(_)
            | Self::Refused { .. }
            | Self::TooLarge { .. }
            | Self::Stopped
            | Self::Fenced(_)
            | Self::NoTopic(_)
            | Self::Forgets { .. }
            | Self::ForeignModels { .. }
            | Self::Resized { .. }
            | Self::Divided { .. }
            | Self::Content { .. } => false,
        }
    }

    /// Whether a broker, or the endpoint for tokens, did not accept who we say we are. One that has just started may not know yet; all that say so for
    /// long are right.
    pub(crate) fn is_authentication(&self) -> bool {
        if let Self::NoToken { refused, .. } = self {
            return *refused;
        }
        let (Self::Call { error, .. } | Self::Refused { error, .. }) = self else {
            return false;
        };
        matches!(
            code(error),
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed)
        )
    }

    /// Whether someone must change settings, topics or rights: starting the process again does not help.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Client(_)
            | Self::Fenced(_)
            | Self::Refused { .. }
            | Self::TooLarge { .. }
            | Self::NoTopic(_)
            | Self::Forgets { .. }
            | Self::ForeignModels { .. }
            | Self::Resized { .. }
            | Self::Divided { .. } => true,
            Self::Call { error, .. } => is_final(error),
            Self::NoToken { refused, .. } | Self::Registry { refused, .. } => *refused,
            _ => false,
        }
    }
}

/// Whether a right is missing, or credentials are wrong.
pub(crate) fn refused(error: &KafkaError) -> bool {
    matches!(
        code(error),
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
        )
    )
}

/// Whether only a change of settings, topics or rights can mend it.
pub(crate) fn is_final(error: &KafkaError) -> bool {
    refused(error)
        || matches!(
            code(error),
            Some(
                RDKafkaErrorCode::UnsupportedVersion
                    | RDKafkaErrorCode::UnsupportedFeature
                    | RDKafkaErrorCode::UnsupportedSASLMechanism
                    | RDKafkaErrorCode::InvalidArgument
                    | RDKafkaErrorCode::InvalidConfig
                    | RDKafkaErrorCode::InvalidGroupId
                    | RDKafkaErrorCode::InvalidSessionTimeout
                    | RDKafkaErrorCode::InvalidTransactionTimeout
                    | RDKafkaErrorCode::InconsistentGroupProtocol
            )
        )
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
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::ReplicaNotAvailable
                | RDKafkaErrorCode::KafkaStorageError
                | RDKafkaErrorCode::FencedLeaderEpoch
                | RDKafkaErrorCode::UnknownLeaderEpoch
                | RDKafkaErrorCode::NotEnoughReplicas
                | RDKafkaErrorCode::ConcurrentTransactions
                | RDKafkaErrorCode::UnstableOffsetCommit
                | RDKafkaErrorCode::WaitingForCoordinator
                | RDKafkaErrorCode::InProgress
                | RDKafkaErrorCode::PreviousInProgress
        )
    )
}
