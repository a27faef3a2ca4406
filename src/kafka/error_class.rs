//! What it means that a call of a producer failed: one of librdkafka's hundred codes becomes one of a few classes.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::context::Undelivered;
use super::{KafkaFailure, code, is_final};

/// What is refused when a transaction is.
pub(super) const TRANSACTION: &str = "a transaction";

/// How an attempt ended that did not succeed.
pub(super) enum Failed {
    /// The transaction must be aborted; nothing of it is in the log.
    Abort(KafkaError),
    /// As `Abort`, because of the size of a record or a batch of them.
    TooLarge { topic: String, error: KafkaError },
    /// A call's answer was lost: whether it was committed is unknown if `committing`.
    Lost { error: KafkaError, committing: bool },
    /// The coordinator knows a newer epoch of this producer: another process uses its id, or this producer fenced itself.
    Fenced { error: KafkaError, committing: bool },
    /// Nothing can be done.
    Fatal(KafkaFailure),
}

pub(super) fn timed_out(error: &KafkaError) -> bool {
    matches!(
        code(error),
        Some(RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::RequestTimedOut)
    )
}

pub(super) fn too_large(error: &KafkaError) -> bool {
    matches!(
        code(error),
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize)
    )
}

/// What an error of a transaction call comes to. librdkafka calls many things fatal: fatal is the producer, and a new one may go on.
pub(super) fn classify(error: KafkaError, committing: bool) -> Failed {
    let KafkaError::Transaction(inner) = &error else {
        return Failed::Lost { error, committing };
    };
    if is_final(&error) {
        return Failed::Fatal(KafkaFailure::call(TRANSACTION)(error));
    }
    if inner.txn_requires_abort() && !inner.is_fatal() {
        return Failed::Abort(error);
    }
    match inner.code() {
        RDKafkaErrorCode::Fenced
        | RDKafkaErrorCode::ProducerFenced
        | RDKafkaErrorCode::InvalidProducerEpoch => Failed::Fenced { error, committing },
        _ => Failed::Lost { error, committing },
    }
}

/// Which of the classes the error of a record belongs to that librdkafka did not take.
pub(super) fn classify_send(error: KafkaError) -> Failed {
    match code(&error) {
        Some(RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced) => Failed::Fenced {
            error,
            committing: false,
        },
        Some(RDKafkaErrorCode::Fatal) => Failed::Lost {
            error,
            committing: false,
        },
        _ => Failed::Abort(error),
    }
}

/// What a message that was not delivered says by itself; `None` where the transaction's next call says more.
pub(super) fn undelivered(Undelivered { topic, error }: Undelivered) -> Option<Failed> {
    match code(&error)? {
        RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize => {
            Some(Failed::TooLarge { topic, error })
        }
        RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition => {
            Some(Failed::Fatal(KafkaFailure::NoTopic(topic)))
        }
        RDKafkaErrorCode::TopicAuthorizationFailed => Some(Failed::Fatal(KafkaFailure::Refused {
            what: format!("writing to topic `{topic}`"),
            error,
        })),
        _ => None,
    }
}

/// Whether a commit found everything committed already.
pub(super) fn nothing_new(error: &KafkaError) -> bool {
    code(error) == Some(RDKafkaErrorCode::NoOffset)
}

/// Commits that cannot succeed because a rebalance is under way: the next batch carries them, or the partition's next owner reads again.
pub(super) fn commit_comes_later(error: &KafkaError) -> bool {
    matches!(
        code(error),
        Some(
            RDKafkaErrorCode::RebalanceInProgress
                | RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::UnknownMemberId
                | RDKafkaErrorCode::StaleMemberEpoch
                | RDKafkaErrorCode::AssignmentLost
        )
    )
}
