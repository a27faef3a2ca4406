//! Publishing an [`Outbox`]: in one transaction with the input's offsets, or at least once.
//!
//! librdkafka has no KIP-890: when a transaction call times out its outcome is unknown, and a delayed `EndTxn` could end the *next* transaction.
//! So after any lost answer the producer is thrown away and made again under the same transactional id (which decides what was pending),
//! and the mark that each transaction leaves beside the group's offsets (see [`mark`]) says what became of it. Where it does not, the outcome
//! is unknown, and the session begins anew.
//!
//! [`mark`]: super::mark
//!
//! A producer that is fenced was succeeded by another process with the same identity, and this process ends. But requests that were given up
//! still lie in a broker that stalled, and when it goes on they can fence the producer that sent them. So one that has seen a
//! failed or slow call is made again, once, before being fenced is final. Exactly-once does not rest on this: the group's generation, which
//! goes with the offsets, keeps out a process that was succeeded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::busy_wait::{BusyWait, POLL_STEP};
use super::context::{MemberContext, PlainContext};
use super::error_class::{
    Failed, TRANSACTION, classify, commit_comes_later, nothing_new, timed_out, undelivered,
};
use super::mark::{self, Marks, Outcome};
use super::messages::{Sending, Sizes, written};
use super::settings::Connection;
use super::tokens::Authenticated;
use super::topic_reader::group_commits;
use super::topics::OutputTopics;
use super::watchdog::Watchdog;
use super::{CALL_MAX, KafkaFailure, code, passes, retry};
use crate::pipeline::Outbox;
use crate::port::Published;
use crate::stream::{Positions, TopicPartition};
use crate::time::Clock;

/// How long a transaction's calls are waited for beyond the timeout of the transaction itself.
const ANSWER_MARGIN: Duration = Duration::from_secs(3);

/// No transaction call takes longer than this on a healthy cluster. One that did may have been made again inside librdkafka, and the first
/// request may still reach the coordinator.
const CALM_MAX: Duration = Duration::from_secs(1);

/// `send_offsets_to_transaction`, which cannot be resumed, is not waited for longer than this.
const OFFSETS_MAX: Duration = Duration::from_secs(10);

/// Between two attempts at a call that the coordinator is not ready for.
const AGAIN_STEP: Duration = Duration::from_millis(10);

/// What delivery promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Output, state and offsets in one transaction.
    #[default]
    ExactlyOnce,
    /// Output first, then offsets: after a crash some output comes again, with the same ids.
    AtLeastOnce,
}

/// A producer and how it publishes.
pub(super) struct Publisher {
    connection: Connection,
    topics: OutputTopics,
    state_partitions: i32,
    /// The transactional id; `None` for at least once.
    id: Option<String>,
    /// `None` only while it is being made again.
    producer: Option<Authenticated<BaseProducer<PlainContext>>>,
    clock: Arc<dyn Clock>,
    watchdog: Watchdog,
    /// How long a transaction call waits for its answer.
    answer_max: Duration,
    sizes: Sizes,
    /// At least once: positions whose output is out, but whose commit a rebalance refused.
    pending_commits: Positions,
    marks: Marks,
    /// How many partitions each topic had when the group began to read it.
    began_with: BTreeMap<Arc<str>, i32>,
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
            sizes: Sizes::default(),
            pending_commits: Positions::new(),
            marks: Marks::new(uuid::Uuid::new_v4().to_string()),
            began_with: BTreeMap::new(),
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
        let mark = self.marks.next();
        let attempt = if self.id.is_some() {
            self.transact(outbox, &mark, consumer)
        } else {
            self.acknowledge(outbox, &mark, consumer)
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
                self.sizes.fit();
                self.marks.committed(&outbox.positions, &mark);
                Ok(Published::Committed)
            }
            // A transaction does not say which of its topics it was.
            Err(Failed::Fatal(KafkaFailure::Refused { what, error }))
                if what == TRANSACTION
                    && code(&error) == Some(RDKafkaErrorCode::TopicAuthorizationFailed) =>
            {
                let topics = written(outbox, &self.topics);
                let what = format!("to write to one of {topics}, or to commit for the input");
                Err(KafkaFailure::Refused { what, error })
            }
            Err(Failed::Fatal(failure)) => Err(failure),
            Err(Failed::Fenced { error, .. }) => Err(KafkaFailure::Fenced(error)),
            Err(Failed::Abort(error)) => {
                tracing::warn!(%error, "a batch could not be published: reading it again");
                self.abort()?;
                Ok(Published::Aborted)
            }
            Err(Failed::TooLarge { topic, error }) => {
                let limit = self.sizes.refused(&topic, outbox, &self.topics, || {
                    super::admin::message_max(&self.connection, &topic)
                })?;
                tracing::warn!(%error, topic, limit, "a message or a batch of messages is too large: reading the batch again");
                self.abort()?;
                // What is sent together must fit together, and that is fixed when a producer is made.
                self.renew()?;
                Ok(Published::Aborted)
            }
            Err(Failed::Lost { error, committing }) => {
                tracing::warn!(%error, committing, "the answer to a transaction call was lost: asking the log");
                if self.watchdog.stopped() {
                    return Err(KafkaFailure::Stopped);
                }
                self.renew()?;
                if committing {
                    self.resolve(&outbox.positions, &mark, consumer)
                } else {
                    Ok(Published::Aborted)
                }
            }
        }
    }

    /// Forgets the pending commits of partitions that came or went: their next owner reads again.
    pub(super) fn forget(&mut self, partitions: &[TopicPartition]) {
        self.pending_commits
            .retain(|at, _| !partitions.contains(at));
        self.marks.forget(partitions);
    }

    /// Topics had so many partitions when the group began to read them: that is written beside each offset.
    pub(super) fn began_with(&mut self, partitions: BTreeMap<Arc<str>, i32>) {
        self.began_with.extend(partitions);
    }

    /// Positions as they are committed, with what is known of them.
    fn marked(&self, positions: &Positions, mark: &str) -> Result<TopicPartitionList, KafkaError> {
        let list = super::list(positions)?;
        for at in positions.keys() {
            let began_with = self.began_with.get(&at.topic).copied().unwrap_or(0);
            if let Some(mut element) = list.find_partition(&at.topic, at.partition.0) {
                element.set_metadata(mark::metadata(mark, began_with));
            }
        }
        Ok(list)
    }

    /// One transaction, from begin to commit.
    fn transact(
        &self,
        outbox: &Outbox,
        mark: &str,
        consumer: &BaseConsumer<MemberContext>,
    ) -> Result<(), Failed> {
        let producer = self.producer()?;
        let lost = |error| classify(error, false);
        // What was purged with the last transaction says nothing of this one.
        producer.context().take_failure();
        producer.begin_transaction().map_err(lost)?;
        self.sending(producer).all(outbox)?;
        self.drain(producer)?;
        if let Some(failed) = producer.context().take_failure().and_then(undelivered) {
            return Err(failed);
        }
        if !outbox.positions.is_empty() {
            let positions = self.marked(&outbox.positions, mark).map_err(lost)?;
            self.send_offsets(producer, &positions, consumer)?;
        }
        self.again("commit_transaction", |limit| {
            producer.commit_transaction(limit)
        })
        .map_err(|error| classify(error, true))
    }

    fn send_offsets(
        &self,
        producer: &BaseProducer<PlainContext>,
        positions: &TopicPartitionList,
        consumer: &BaseConsumer<MemberContext>,
    ) -> Result<(), Failed> {
        let lost = |error| classify(error, false);
        // Fresh for each commit: it carries the generation that fences a member that was expelled (KIP-447).
        let Some(group) = consumer.group_metadata() else {
            return Err(Failed::Abort(KafkaError::Canceled));
        };
        // It is never that of a later generation than the one that the batch was read in and in which its partitions were lost: a member joins
        // again only when a loss has been answered, and the session answers between batches. But a member that was expelled can have
        // forgotten its generation and then its id, and what comes without either the broker takes for a producer without a group and fences
        // nobody. So it is asked after they were taken: the assignment is marked as lost in the same breath.
        if consumer.assignment_lost() {
            let error = RDKafkaErrorCode::AssignmentLost;
            return Err(Failed::Abort(KafkaError::ConsumerCommit(error)));
        }
        let limit = self.answer_max.min(OFFSETS_MAX);
        let begun = self.clock.monotonic();
        loop {
            let sent = {
                let _guard = self.watchdog.call("send_offsets_to_transaction", limit);
                producer.send_offsets_to_transaction(positions, &group, limit)
            };
            match sent {
                Err(error)
                    if passes(&error)
                        && !timed_out(&error)
                        && self.clock.monotonic().saturating_sub(begun) < limit =>
                {
                    self.watchdog.pause(AGAIN_STEP).map_err(Failed::Fatal)?;
                }
                sent => return sent.map_err(lost),
            }
        }
    }

    /// At least once: everything acknowledged, then the offsets. A snapshot is of the offset that the batch before it committed, so pending
    /// commits come before anything is sent: a snapshot ahead of the committed offset would be of no use after a crash.
    fn acknowledge(
        &mut self,
        outbox: &Outbox,
        mark: &str,
        consumer: &BaseConsumer<MemberContext>,
    ) -> Result<(), Failed> {
        let pending: Positions = outbox
            .positions
            .keys()
            .filter_map(|at| Some((at.clone(), *self.pending_commits.get(at)?)))
            .collect();
        if let Some(error) = self.commit(&pending, mark, consumer)? {
            return Err(Failed::Abort(error));
        }
        self.pending_commits
            .retain(|at, _| !pending.contains_key(at));
        let producer = self.producer()?;
        self.sending(producer).all(outbox)?;
        self.drain(producer)?;
        if let Some(failure) = producer.context().take_failure() {
            let error = failure.error.clone();
            return Err(undelivered(failure).unwrap_or(Failed::Abort(error)));
        }
        if let Some(error) = self.commit(&outbox.positions, mark, consumer)? {
            tracing::info!(%error, "offsets not committed: before the next batch, or the partition's next owner reads again");
            self.pending_commits.extend(outbox.positions.clone());
        }
        Ok(())
    }

    /// Commits offsets; answers why not, where a rebalance is in the way.
    fn commit(
        &self,
        positions: &Positions,
        mark: &str,
        consumer: &BaseConsumer<MemberContext>,
    ) -> Result<Option<KafkaError>, Failed> {
        if positions.is_empty() {
            return Ok(None);
        }
        let positions = self.marked(positions, mark).map_err(Failed::Abort)?;
        retry(&self.watchdog, "commit", |_| {
            match consumer.commit(&positions, CommitMode::Sync) {
                Err(error) if nothing_new(&error) => Ok(None),
                Err(error) if commit_comes_later(&error) => Ok(Some(error)),
                result => result.map(|()| None),
            }
        })
        .map_err(Failed::Fatal)
    }

    /// Calls again while librdkafka says that the call can be taken up again, for as long as the coordinator may still answer.
    fn again(
        &self,
        what: &'static str,
        mut call: impl FnMut(Duration) -> Result<(), KafkaError>,
    ) -> Result<(), KafkaError> {
        let deadline = self.clock.monotonic() + self.answer_max;
        let limit = self.watchdog.limits().call.min(self.answer_max);
        loop {
            let result = {
                let _guard = self.watchdog.call(what, limit);
                call(limit)
            };
            match result {
                Err(error)
                    if passes(&error)
                        && self.clock.monotonic() < deadline
                        && self.watchdog.pause(AGAIN_STEP).is_ok() => {}
                result => return result,
            }
        }
    }

    fn sending<'a>(&'a self, producer: &'a BaseProducer<PlainContext>) -> Sending<'a> {
        Sending {
            producer,
            topics: &self.topics,
            state_partitions: self.state_partitions,
            sizes: &self.sizes,
            clock: &*self.clock,
            watchdog: &self.watchdog,
        }
    }

    /// Polls until nothing is in flight. Messages time out by themselves, so this ends.
    fn drain(&self, producer: &BaseProducer<PlainContext>) -> Result<(), Failed> {
        let deadline = self.clock.monotonic() + CALL_MAX * 3;
        let mut wait = BusyWait::default();
        while producer.in_flight_count() > 0 {
            wait.check(&self.watchdog)?;
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
        let aborted = match self.producer.as_ref() {
            Some(producer) => self.again("abort_transaction", |limit| {
                producer.abort_transaction(limit)
            }),
            None => Ok(()),
        };
        match aborted {
            Ok(()) => Ok(()),
            // Nothing was committed: making the producer again aborts what is left. That also fences whoever has the same id,
            // but then the failure that led here was not the first to say so.
            Err(error) => {
                tracing::warn!(%error, "abort failed: making the producer again");
                if self.watchdog.stopped() {
                    return Err(KafkaFailure::Stopped);
                }
                self.renew()
            }
        }
    }

    /// Throws the producer away and makes a new one under the same transactional id: when `init_transactions` returns,
    /// nothing of the old one is pending.
    fn renew(&mut self) -> Result<(), KafkaFailure> {
        if let Some(producer) = self.producer.take() {
            self.watchdog.close("closing a producer", producer);
        }
        let mut config = match &self.id {
            Some(id) => self.connection.transactional(id),
            None => self.connection.idempotent(),
        };
        self.sizes.bound(&mut config);
        let producer: Authenticated<BaseProducer<PlainContext>> =
            (self.connection).client(&config, PlainContext::default(), Some(&self.watchdog))?;
        let begun = self.clock.monotonic();
        if self.id.is_some() {
            // The first call against a cold or wounded cluster can time out.
            retry(&self.watchdog, "init_transactions", |limit| {
                producer.init_transactions(limit)
            })?;
        }
        self.disturbed = CALM_MAX < self.clock.monotonic().saturating_sub(begun);
        self.producer = Some(producer);
        Ok(())
    }

    /// What became of the transaction of `mark`, whose commit was not answered.
    fn resolve(
        &mut self,
        positions: &Positions,
        mark: &str,
        consumer: &BaseConsumer<MemberContext>,
    ) -> Result<Published, KafkaFailure> {
        let partitions: Vec<TopicPartition> = positions.keys().cloned().collect();
        let found = group_commits(consumer, &self.watchdog, &partitions)?;
        let outcome = self.marks.outcome(positions, mark, &found);
        tracing::info!(?outcome, "what became of the transaction");
        match outcome {
            Outcome::Committed => {
                self.marks.committed(positions, mark);
                Ok(Published::Committed)
            }
            Outcome::Aborted => Ok(Published::Aborted),
            Outcome::Unknown => Err(KafkaFailure::UnknownOutcome(
                "the group's offsets were committed by another transaction".to_owned(),
            )),
        }
    }

    fn producer(&self) -> Result<&BaseProducer<PlainContext>, Failed> {
        self.producer
            .as_deref()
            .ok_or(Failed::Abort(KafkaError::Canceled))
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if let Some(producer) = self.producer.take() {
            self.watchdog.close("closing a producer", producer);
        }
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
