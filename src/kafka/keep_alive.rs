//! A member of the group that reads something else than its partitions: it is polled all the while, or the group would drop it.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;

use super::context::MemberContext;
use super::start_offset;
use super::watchdog::Watchdog;
use super::{CALL_MAX, KafkaFailure, code, is_final, passes};
use crate::stream::TopicPartition;
use crate::time::Clock;

/// Between two polls ...
const POLL_EVERY: Duration = Duration::from_millis(200);
/// ... and how much is taken at each.
const POLLS_MAX: usize = 100;

/// Polls a member whose partitions are paused.
pub(super) struct KeepAlive<'a> {
    pub(super) consumer: &'a BaseConsumer<MemberContext>,
    clock: &'a dyn Clock,
    watchdog: &'a Watchdog,
    polled: Duration,
    /// Partitions that a record came from nonetheless: it has to be read again.
    pub(super) strayed: BTreeSet<TopicPartition>,
    /// A partition's fetch position is not in the log any more.
    pub(super) out_of_range: bool,
}

impl<'a> KeepAlive<'a> {
    pub(super) fn new(
        consumer: &'a BaseConsumer<MemberContext>,
        clock: &'a dyn Clock,
        watchdog: &'a Watchdog,
    ) -> Self {
        Self {
            consumer,
            clock,
            watchdog,
            polled: clock.monotonic(),
            strayed: BTreeSet::new(),
            out_of_range: false,
        }
    }

    /// Polls if it is time to; an error if the group divides its partitions anew.
    pub(super) fn go_on(&mut self) -> Result<(), KafkaFailure> {
        let now = self.clock.monotonic();
        if POLL_EVERY <= now.saturating_sub(self.polled) {
            self.polled = now;
            let _guard = self.watchdog.guard("poll", CALL_MAX);
            let polled = std::iter::from_fn(|| self.consumer.poll(Duration::ZERO));
            for message in polled.take(POLLS_MAX) {
                match message {
                    Ok(message) => {
                        let at = TopicPartition::new(message.topic(), message.partition());
                        self.strayed.insert(at);
                    }
                    Err(error) if start_offset::is_out_of_range(&error) => self.out_of_range = true,
                    Err(error) => tolerate(error)?,
                }
            }
        }
        if self.consumer.context().waiting() {
            return Err(KafkaFailure::Rebalanced);
        }
        Ok(())
    }
}

/// Whether an error says that a topic, it does not say which, is not there.
pub(super) fn is_no_topic(error: &KafkaError) -> bool {
    matches!(
        code(error),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)
    )
}

/// Errors of a poll: librdkafka goes on by itself after all but those that say that we may not, or are no longer who we were.
pub(super) fn tolerate(error: KafkaError) -> Result<(), KafkaFailure> {
    // Fatal is the client, and a new one may go on; what is final will be so for that one too.
    let hopeless = matches!(error, KafkaError::MessageConsumptionFatal(_))
        || is_final(&error)
        || matches!(
            code(&error),
            Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::FencedInstanceId)
        );
    if hopeless {
        return Err(KafkaFailure::call("reading the input")(error));
    }
    // Which topic it is, and whether it is gone, is looked for.
    if passes(&error) || is_no_topic(&error) {
        tracing::debug!(%error, "reading the input");
    } else {
        tracing::warn!(%error, "reading the input: going on");
    }
    Ok(())
}
