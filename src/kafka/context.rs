//! What librdkafka calls back: rebalances, delivery failures, statistics, logs. Callbacks only note; the session acts between polls.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::util::Timeout;
use tracing::Level;

use super::{bare, places};
use crate::stream::{Offset, TopicPartition};

/// What the group coordinator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rebalance {
    /// Take these. Nothing is fetched until they are assigned with the offsets to begin at.
    Assign(Vec<TopicPartition>),
    /// Give these back.
    Revoke(Vec<TopicPartition>),
}

/// The statistics of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartitionStatistics {
    /// The end of what is decided.
    pub(super) end: Offset,
    /// Up to where it was fetched, markers of transactions included.
    pub(super) fetched: Offset,
}

/// The consumer's side.
#[derive(Debug, Default)]
pub(super) struct MemberContext {
    rebalances: Mutex<VecDeque<Rebalance>>,
    statistics: Mutex<BTreeMap<TopicPartition, PartitionStatistics>>,
    /// Whether any broker was connected, by the newest statistics.
    answered: Mutex<Option<bool>>,
    closing: AtomicBool,
}

impl MemberContext {
    /// The next rebalance that has not been acted on.
    pub(super) fn take(&self) -> Option<Rebalance> {
        lock(&self.rebalances).pop_front()
    }

    /// Whether a rebalance waits.
    pub(super) fn waiting(&self) -> bool {
        !lock(&self.rebalances).is_empty()
    }

    /// The statistics that came since this was last called.
    pub(super) fn take_statistics(&self) -> BTreeMap<TopicPartition, PartitionStatistics> {
        std::mem::take(&mut *lock(&self.statistics))
    }

    /// Whether any broker was connected, if statistics came since this was last called.
    pub(super) fn take_answered(&self) -> Option<bool> {
        lock(&self.answered).take()
    }

    /// From now on rebalances are answered at once. Returns those that still wait for an answer.
    pub(super) fn close(&self) -> VecDeque<Rebalance> {
        self.closing.store(true, Ordering::SeqCst);
        std::mem::take(&mut *lock(&self.rebalances))
    }
}

impl ClientContext for MemberContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log((level, Polled::Steadily), facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        let up = statistics
            .brokers
            .values()
            .any(|broker| broker.state == "UP");
        *lock(&self.answered) = Some(up);
        let mut latest = lock(&self.statistics);
        #[expect(clippy::iter_over_hash_type, reason = "collected into an ordered map")]
        for (topic, of_topic) in &statistics.topics {
            for (number, partition) in &of_topic.partitions {
                if *number >= 0 && partition.ls_offset >= 0 {
                    latest.insert(
                        TopicPartition::new(topic, *number),
                        PartitionStatistics {
                            end: Offset(partition.ls_offset),
                            fetched: Offset(partition.next_offset),
                        },
                    );
                }
            }
        }
    }
}

impl ConsumerContext for MemberContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let partitions: Vec<TopicPartition> = places(list).into_iter().map(|(at, _)| at).collect();
        let assign = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::SeqCst) || partitions.is_empty() {
            // Nothing to prepare: answer here, so that the group does not wait.
            let answered = if assign {
                take(consumer, list)
            } else {
                give_back(consumer, list)
            };
            if let Err(error) = answered {
                tracing::warn!(%error, "answering a rebalance failed");
            }
            return;
        }
        lock(&self.rebalances).push_back(if assign {
            Rebalance::Assign(partitions)
        } else {
            Rebalance::Revoke(partitions)
        });
    }

    fn main_queue_min_poll_interval(&self) -> Timeout {
        Timeout::After(Duration::from_millis(100))
    }
}

/// Begins to fetch the partitions of `list` at its offsets.
pub(super) fn take<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    list: &TopicPartitionList,
) -> Result<(), KafkaError> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(list),
    }
}

/// Stops fetching the partitions of `list`; under the eager protocol that is all there are.
pub(super) fn give_back<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    list: &TopicPartitionList,
) -> Result<(), KafkaError> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    }
}

/// Answers what waits for an answer; from now on rebalances are answered as they come. Only then a member can leave.
pub(super) fn answer_all(consumer: &BaseConsumer<MemberContext>) {
    let mut answers = Vec::new();
    for rebalance in consumer.context().close() {
        answers.push(match rebalance {
            Rebalance::Assign(partitions) => take(consumer, &bare(&partitions)),
            Rebalance::Revoke(partitions) => give_back(consumer, &bare(&partitions)),
        });
    }
    for error in answers.into_iter().filter_map(Result::err) {
        tracing::debug!(%error, "answering a rebalance while leaving");
    }
}

/// The producer's side, and that of plain readers.
#[derive(Debug, Default)]
pub(super) struct PlainContext {
    failed: Mutex<Option<Undelivered>>,
}

/// A message that was not delivered.
#[derive(Clone, Debug)]
pub(super) struct Undelivered {
    pub(super) topic: String,
    pub(super) error: KafkaError,
}

impl PlainContext {
    /// The first delivery that failed since this was last asked.
    pub(super) fn take_failure(&self) -> Option<Undelivered> {
        lock(&self.failed).take()
    }
}

impl ClientContext for PlainContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log((level, Polled::WhenUsed), facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }

    fn stats(&self, _: Statistics) {}
}

impl ConsumerContext for PlainContext {}

impl ProducerContext for PlainContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            // What was purged failed because of another: the first one says why.
            lock(&self.failed).get_or_insert_with(|| Undelivered {
                topic: message.topic().to_owned(),
                error: error.clone(),
            });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When a client's lines come, for polls hand them on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Polled {
    /// At once.
    Steadily,
    /// Minutes or hours later, if nobody needs it before.
    WhenUsed,
}

/// What librdkafka calls a connection that failed or was closed.
const CONNECTION: &str = "FAIL";

/// How much a line matters. That a connection failed is told by members of the group when it happens; a client that is polled when it is used would tell of
/// an outage that is over, as if it were now.
fn weight((level, polled): (RDKafkaLogLevel, Polled), facility: &str) -> Level {
    match level {
        _ if facility == CONNECTION && polled == Polled::WhenUsed => Level::DEBUG,
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => Level::WARN,
        RDKafkaLogLevel::Warning => Level::INFO,
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => Level::DEBUG,
    }
}

fn log(said: (RDKafkaLogLevel, Polled), facility: &str, message: &str) {
    match weight(said, facility) {
        Level::WARN => tracing::warn!(target: "librdkafka", facility, "{message}"),
        Level::INFO => tracing::info!(target: "librdkafka", facility, "{message}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

/// librdkafka goes on by itself after all but fatal errors, and those also come back from a call: a line is enough.
fn log_error(error: &KafkaError, reason: &str) {
    tracing::debug!(target: "librdkafka", %error, "{reason}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_by_those_that_tell_of_it_when_it_happens() {
        let weight = |polled, facility| weight((RDKafkaLogLevel::Error, polled), facility);
        assert_eq!(weight(Polled::Steadily, "FAIL"), Level::WARN);
        assert_eq!(weight(Polled::WhenUsed, "FAIL"), Level::DEBUG);
        // Nobody else tells of a transaction.
        assert_eq!(weight(Polled::WhenUsed, "TXNERR"), Level::WARN);
    }
}
