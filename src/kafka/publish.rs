//! Publishing an [`Outbox`]: in one transaction with the input's offsets, or at least once.
//!
//! librdkafka has no KIP-890: when a transaction call times out its outcome is unknown, and a delayed `EndTxn` could end the *next* transaction.
//! So after any lost answer the producer is thrown away and made again under the same transactional id (which decides what was pending),
//! and the group's committed offsets, which moved with the transaction or not at all, say what became of it.
//!
//! A producer that is fenced was succeeded by another process with the same identity, and this process ends. But requests that were given up
//! still lie in a broker that stalled, and when it goes on they can fence the producer that sent them. So one that has seen a
//! failed or slow call is made again, once, before being fenced is final. Exactly-once does not rest on this: the group's generation, which
//! goes with the offsets, keeps out a process that was succeeded.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header as RawHeader, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::context::{MemberContext, PlainContext};
use super::outcome::{Failed, classify, classify_send, commit_comes_later, timed_out, too_large};
use super::restore::group_offsets;
use super::settings::Connection;
use super::watchdog::Watchdog;
use super::{CALL_MAX, KafkaFailure, RETRY_MAX, code, passes, retry};
use crate::pipeline::{Message, Outbox, StateEntry};
use crate::port::Published;
use crate::stream::{Positions, TopicPartition};
use crate::time::Clock;

/// Steps in which the producer is polled: `flush` would wait in steps of 100 ms.
const POLL_STEP: Duration = Duration::from_micros(400);

/// How much longer than the transaction itself may last its calls are waited for.
const ANSWER_MARGIN: Duration = Duration::from_secs(3);

/// Longer than this no transaction call takes on a healthy cluster. One that did may have been made again inside librdkafka, and the first
/// request may still reach the coordinator.
const CALM_MAX: Duration = Duration::from_secs(1);

/// The header of a dead letter whose value was too large even for the dead-letter topic, and was left out.
const TRUNCATED: &str = "anomalyd.value.omitted";

/// What delivery promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Output, state and offsets in one transaction.
    ExactlyOnce,
    /// Output first, then offsets: after a crash some output comes again, with the same ids.
    AtLeastOnce,
}

/// The names of the topics written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputTopics {
    /// Alerts.
    pub alerts: String,
    /// Every record's score; `None` leaves them out.
    pub scores: Option<String>,
    /// What could not be read.
    pub dead_letters: String,
    /// What came too late; `None`: to the dead letters.
    pub late: Option<String>,
    /// Snapshots and the quarantine ledger, compacted.
    pub state: String,
}

/// A producer and how it publishes.
pub(super) struct Publisher {
    connection: Connection,
    topics: OutputTopics,
    state_partitions: i32,
    /// The transactional id; `None` for at least once.
    id: Option<String>,
    /// `None` only while it is being made again.
    producer: Option<BaseProducer<PlainContext>>,
    clock: Arc<dyn Clock>,
    watchdog: Watchdog,
    /// How long a transaction call waits for its answer.
    answer_max: Duration,
    omit_large: bool,
    /// Whether a call of this producer failed or was slow. Then a request of its own may still be under way, and may fence it: a delayed
    /// `InitProducerId` raises the epoch, and a delayed `AddPartitionsToTxn` opens a transaction that the coordinator will give up.
    disturbed: bool,
}

impl Publisher {
    /// Makes the producer; a transactional one also ends what its predecessor left open.
    pub(super) fn new(
        connection: &Connection,
        topics: OutputTopics,
        state_partitions: i32,
        id: Option<String>,
        (clock, watchdog): (Arc<dyn Clock>, Watchdog),
    ) -> Result<Self, KafkaFailure> {
        let mut publisher = Self {
            // Later than this the coordinator has given the transaction up: no answer will come that says otherwise.
            answer_max: connection.transaction_timeout() + ANSWER_MARGIN,
            connection: connection.clone(),
            topics,
            state_partitions,
            id,
            producer: None,
            clock,
            watchdog,
            omit_large: false,
            disturbed: false,
        };
        publisher.renew()?;
        Ok(publisher)
    }

    /// Publishes, and commits the outbox's positions for `consumer`'s group.
    pub(super) fn publish(
        &mut self,
        outbox: &Outbox,
        consumer: &BaseConsumer<MemberContext>,
    ) -> Result<Published, KafkaFailure> {
        let begun = self.clock.monotonic();
        let attempt = if self.id.is_some() {
            self.transact(outbox, consumer)
        } else {
            self.acknowledge(outbox, consumer)
        };
        let lasted = self.clock.monotonic().saturating_sub(begun);
        let attempt = match attempt {
            // When the transaction outlasted its timeout it was the coordinator that fenced the producer, to abort it.
            Err(Failed::Fenced { error, committing }) if self.disturbed || CALM_MAX < lasted => {
                Err(Failed::Lost { error, committing })
            }
            attempt => attempt,
        };
        self.disturbed |= attempt.is_err() || CALM_MAX < lasted;
        match attempt {
            Ok(()) => {
                self.omit_large = false;
                Ok(Published::Committed)
            }
            Err(Failed::Fatal(failure)) => Err(failure),
            Err(Failed::Fenced { error, .. }) => Err(KafkaFailure::Fenced(error)),
            Err(Failed::Abort(error)) => {
                tracing::warn!(%error, "a batch could not be published: reading it again");
                self.omit_large |= too_large(&error);
                self.abort()?;
                Ok(Published::Aborted)
            }
            Err(Failed::Lost { error, committing }) => {
                tracing::warn!(%error, committing, "the answer to a transaction call was lost: asking the log");
                self.renew()?;
                if committing {
                    self.resolve(&outbox.positions, consumer)
                } else {
                    Ok(Published::Aborted)
                }
            }
        }
    }

    /// One transaction, from begin to commit.
    fn transact(
        &self,
        outbox: &Outbox,
        consumer: &BaseConsumer<MemberContext>,
    ) -> Result<(), Failed> {
        let producer = self.producer()?;
        let lost = |error| classify(error, false);
        producer.begin_transaction().map_err(lost)?;
        self.send_all(producer, outbox)?;
        self.drain(producer)?;
        let positions = super::list(&outbox.positions).map_err(lost)?;
        let _guard = self
            .watchdog
            .guard("transaction", self.answer_max * 3 + CALL_MAX * 2);
        if !outbox.positions.is_empty() {
            // Fresh for each commit: it carries the generation that fences a member that was expelled (KIP-447).
            let Some(group) = consumer.group_metadata() else {
                return Err(Failed::Abort(KafkaError::Canceled));
            };
            self.again(|| {
                producer.send_offsets_to_transaction(&positions, &group, self.answer_max)
            })
            .map_err(lost)?;
        }
        self.again(|| producer.commit_transaction(self.answer_max))
            .map_err(|error| classify(error, true))
    }

    /// At least once: everything acknowledged, then the offsets.
    fn acknowledge(
        &self,
        outbox: &Outbox,
        consumer: &BaseConsumer<MemberContext>,
    ) -> Result<(), Failed> {
        let producer = self.producer()?;
        self.send_all(producer, outbox)?;
        self.drain(producer)?;
        if let Some(error) = producer.context().take_failure() {
            return Err(Failed::Abort(error));
        }
        if outbox.positions.is_empty() {
            return Ok(());
        }
        let positions = super::list(&outbox.positions).map_err(Failed::Abort)?;
        let _guard = self.watchdog.guard("commit", RETRY_MAX * 2);
        let committed = retry(&*self.clock, "commit", || {
            match consumer.commit(&positions, CommitMode::Sync) {
                Err(error) if commit_comes_later(&error) => {
                    tracing::debug!(%error, "offsets not committed: they go with the next batch");
                    Ok(())
                }
                result => result,
            }
        });
        committed.map_err(Failed::Fatal)
    }

    /// Calls again while librdkafka says that the call can be made again and it was not for want of time.
    fn again(&self, mut call: impl FnMut() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
        let deadline = self.clock.monotonic() + CALL_MAX;
        loop {
            match call() {
                Err(error)
                    if passes(&error)
                        && !timed_out(&error)
                        && self.clock.monotonic() < deadline =>
                {
                    std::thread::park_timeout(Duration::from_millis(10));
                }
                result => return result,
            }
        }
    }

    fn send_all(
        &self,
        producer: &BaseProducer<PlainContext>,
        outbox: &Outbox,
    ) -> Result<(), Failed> {
        let late = self.topics.late.as_ref();
        let scores = self
            .topics
            .scores
            .as_deref()
            .map(|topic| (topic, &outbox.scores));
        let routes = [
            (&*self.topics.alerts, &outbox.alerts),
            (&*self.topics.dead_letters, &outbox.dead_letters),
            (&**late.unwrap_or(&self.topics.dead_letters), &outbox.late),
        ];
        for (topic, messages) in scores.into_iter().chain(routes) {
            for message in messages {
                self.send_message(producer, topic, message)?;
            }
        }
        for entry in &outbox.state {
            self.send_state(producer, entry)?;
        }
        Ok(())
    }

    fn send_message(
        &self,
        producer: &BaseProducer<PlainContext>,
        topic: &str,
        message: &Message,
    ) -> Result<(), Failed> {
        let value = message.value.as_deref();
        let large = value.is_some_and(|value| LARGE < value.len());
        let omit = self.omit_large && large;
        let mut record: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to(topic).timestamp(message.timestamp.0.max(0));
        record.key = message.key.as_deref();
        record.payload = if omit { None } else { value };
        if omit || !message.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(message.headers.len() + 1);
            for header in &message.headers {
                headers = headers.insert(RawHeader {
                    key: &header.name,
                    value: header.value.as_deref(),
                });
            }
            if omit {
                let length = value.map_or(0, <[u8]>::len).to_string();
                headers = headers.insert(RawHeader {
                    key: TRUNCATED,
                    value: Some(&length),
                });
            }
            record = record.headers(headers);
        }
        self.send(producer, record)
    }

    fn send_state(
        &self,
        producer: &BaseProducer<PlainContext>,
        entry: &StateEntry,
    ) -> Result<(), Failed> {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topics.state)
            .partition(state_partition(&entry.at, self.state_partitions))
            .key(&entry.key);
        record.payload = entry.value.as_deref();
        self.send(producer, record)
    }

    /// Hands one record to librdkafka, making room in its queue when it is full.
    fn send(
        &self,
        producer: &BaseProducer<PlainContext>,
        mut record: BaseRecord<'_, [u8], [u8]>,
    ) -> Result<(), Failed> {
        let deadline = self.clock.monotonic() + CALL_MAX;
        loop {
            match producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, back))
                    if code(&error) == Some(RDKafkaErrorCode::QueueFull)
                        && self.clock.monotonic() < deadline =>
                {
                    record = back;
                    producer.poll(Duration::ZERO);
                    std::thread::park_timeout(POLL_STEP);
                }
                Err((error, _)) => return Err(classify_send(error)),
            }
        }
    }

    /// Polls until nothing is in flight. Messages time out by themselves, so this ends.
    fn drain(&self, producer: &BaseProducer<PlainContext>) -> Result<(), Failed> {
        let deadline = self.clock.monotonic() + CALL_MAX * 3;
        while producer.in_flight_count() > 0 {
            // Not `poll(step)`: below a millisecond librdkafka does not wait, and rust-rdkafka calls it again and again.
            producer.poll(Duration::ZERO);
            std::thread::park_timeout(POLL_STEP);
            if deadline < self.clock.monotonic() {
                return Err(Failed::Abort(KafkaError::Flush(
                    RDKafkaErrorCode::OperationTimedOut,
                )));
            }
        }
        Ok(())
    }

    fn abort(&mut self) -> Result<(), KafkaFailure> {
        if self.id.is_none() {
            return Ok(());
        }
        let aborted = {
            let _guard = self.watchdog.guard("abort", self.answer_max + CALL_MAX * 2);
            match self.producer.as_ref() {
                Some(producer) => self.again(|| producer.abort_transaction(self.answer_max)),
                None => Ok(()),
            }
        };
        match aborted {
            Ok(()) => Ok(()),
            // Nothing was committed: making the producer again aborts what is left. That also fences whoever has the same id,
            // but then the failure that led here was not the first to say so.
            Err(error) => {
                tracing::warn!(%error, "abort failed: making the producer again");
                self.renew()
            }
        }
    }

    /// Throws the producer away and makes a new one under the same transactional id: when `init_transactions` returns,
    /// nothing of the old one is pending.
    fn renew(&mut self) -> Result<(), KafkaFailure> {
        {
            let _guard = self.watchdog.guard("closing a producer", CALL_MAX * 2);
            self.producer = None;
        }
        let config = match &self.id {
            Some(id) => self.connection.transactional(id),
            None => self.connection.idempotent(),
        };
        let producer: BaseProducer<PlainContext> = config
            .create_with_context(PlainContext::default())
            .map_err(KafkaFailure::Client)?;
        let begun = self.clock.monotonic();
        if self.id.is_some() {
            let _guard = self
                .watchdog
                .guard("init_transactions", RETRY_MAX + CALL_MAX * 2);
            // The first call against a cold or wounded cluster can time out.
            retry(&*self.clock, "init_transactions", || {
                producer.init_transactions(CALL_MAX)
            })?;
        }
        self.disturbed = CALM_MAX < self.clock.monotonic().saturating_sub(begun);
        self.producer = Some(producer);
        Ok(())
    }

    /// What became of a transaction whose commit was not answered: the offsets moved with it, or not at all.
    fn resolve(
        &self,
        positions: &Positions,
        consumer: &BaseConsumer<MemberContext>,
    ) -> Result<Published, KafkaFailure> {
        let partitions: Vec<TopicPartition> = positions.keys().cloned().collect();
        let found = group_offsets(consumer, &*self.clock, &self.watchdog, &partitions)?;
        let reached =
            |at: &TopicPartition| found.get(at).copied().flatten() >= positions.get(at).copied();
        let committed = partitions.iter().filter(|at| reached(at)).count();
        match committed {
            0 => Ok(Published::Aborted),
            n if n == partitions.len() => Ok(Published::Committed),
            n => Err(KafkaFailure::UnknownOutcome(format!(
                "{n} of {} partitions are committed",
                partitions.len()
            ))),
        }
    }

    fn producer(&self) -> Result<&BaseProducer<PlainContext>, Failed> {
        self.producer
            .as_ref()
            .ok_or(Failed::Abort(KafkaError::Canceled))
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _guard = self.watchdog.guard("closing a producer", CALL_MAX);
        self.producer = None;
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Values above this are left out of a dead letter that the broker refused as too large.
const LARGE: usize = 512 * 1024;

/// The partition of the state topic in which an input partition's entries lie. It depends on the number of its partitions,
/// which therefore must never change.
pub(super) fn state_partition(at: &TopicPartition, of: i32) -> i32 {
    let hash = at.topic.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let of = u32::try_from(of.max(1)).unwrap_or(1);
    let number = u32::try_from(at.partition.0).unwrap_or(0);
    i32::try_from((hash % of + number % of) % of).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_one_topic_spread_over_the_state_topic() {
        let mut used: Vec<i32> = (0..6)
            .map(|partition| state_partition(&TopicPartition::new("records", partition), 6))
            .collect();
        used.sort_unstable();
        assert_eq!(used, [0, 1, 2, 3, 4, 5]);
        assert_eq!(state_partition(&TopicPartition::new("records", 5), 1), 0);
    }
}
