//! Reading topics outside the group: compacted ones whole (state, models), the input by spans (training).
//!
//! A killed worker's transaction may still be open when its successor reads the state topic. So the end is taken as an uncommitted reader sees
//! it, and the reader waits until everything before it is decided: the coordinator aborts what nobody ends, after the transaction timeout.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::metadata::MetadataTopic;
use rdkafka::topic_partition_list::{Offset as RawOffset, TopicPartitionList};

use super::context::PlainContext;
use super::error_class::timed_out;
use super::mark::Commit;
use super::settings::{Connection, Isolation};
use super::tokens::Authenticated;
use super::watchdog::Watchdog;
use super::{CALL_MAX, KafkaFailure, SAY_AFTER, bare, passes, places, refused, retry};
use crate::stream::{Offset, Positions, Span, TopicPartition};
use crate::time::Clock;

/// How long a poll waits before limits are looked at again.
const POLL_STEP: Duration = Duration::from_millis(100);

/// Errors that a client that is not polled may have heaped up, as far as they are looked through.
const ERRORS_MAX: usize = 100;

/// What is done with each record read; it may stop the reading.
pub(super) type Visit<'a> =
    dyn FnMut(&BorrowedMessage<'_>) -> Result<ControlFlow<()>, KafkaFailure> + 'a;

/// What is done between the steps of a reading that may last; its error ends the reading. A member of the group stays one by it.
pub(super) type Between<'a> = dyn FnMut() -> Result<(), KafkaFailure> + 'a;

/// Nothing is done between the steps.
#[expect(clippy::unnecessary_wraps, reason = "it is a `Between`")]
pub(super) fn nothing() -> Result<(), KafkaFailure> {
    Ok(())
}

/// Reads topics by place. Not a member of the group.
pub struct TopicReader {
    committed: Authenticated<BaseConsumer<PlainContext>>,
    uncommitted: Authenticated<BaseConsumer<PlainContext>>,
    clock: Arc<dyn Clock>,
    watchdog: Watchdog,
    transaction_max: Duration,
}

impl std::fmt::Debug for TopicReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicReader").finish_non_exhaustive()
    }
}

impl TopicReader {
    /// Connects lazily: this fails only for settings that make no client.
    pub fn new(
        connection: &Connection,
        clock: Arc<dyn Clock>,
        watchdog: Watchdog,
    ) -> Result<Self, KafkaFailure> {
        let create = |isolation| {
            let config = connection.reader(isolation);
            connection.client(&config, PlainContext::default(), Some(&watchdog))
        };
        Ok(Self {
            committed: create(Isolation::Committed)?,
            uncommitted: create(Isolation::Uncommitted)?,
            transaction_max: connection.transaction_timeout(),
            clock,
            watchdog,
        })
    }

    /// How many partitions `topic` has.
    pub fn partitions(&self, topic: &str) -> Result<i32, KafkaFailure> {
        partitions(&self.committed, &self.watchdog, topic)
    }

    /// The first offset of a partition, and the end of what is decided.
    pub fn ends(&self, at: &TopicPartition) -> Result<(Offset, Offset), KafkaFailure> {
        self.watermarks(&self.committed, at)
    }

    /// The last `most` messages of each partition of a topic, or as many as there are.
    pub fn last(&self, topic: &str, most: i64) -> Result<Vec<Span>, KafkaFailure> {
        let span = |partition| {
            let at = TopicPartition::new(topic, partition);
            let (first, end) = self.ends(&at)?;
            Ok(Span {
                at,
                from: Offset(first.0.max(end.0.saturating_sub(most))),
                to: end,
            })
        };
        (0..self.partitions(topic)?).map(span).collect()
    }

    /// The group's committed offsets, once no transaction can change them any more; `None` where there is none.
    pub fn group_offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Option<Offset>>, KafkaFailure> {
        let commits = self.commits(&self.committed, partitions)?;
        let offset = |commit: Option<Commit>| commit.map(|commit| commit.offset);
        Ok(commits.into_iter().map(|(at, c)| (at, offset(c))).collect())
    }

    /// What the group has committed, asked by the `read_committed` client of a member.
    pub(super) fn commits<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Option<Commit>>, KafkaFailure> {
        match group_commits(consumer, &self.watchdog, partitions) {
            Err(KafkaFailure::Call { error, .. })
                if timed_out(&error) && self.answers_what_is_pending(partitions) =>
            {
                Err(KafkaFailure::Undecided {
                    what: "the group's offsets (`__consumer_offsets`)".to_owned(),
                    limit: self.watchdog.limits().retry,
                })
            }
            found => found,
        }
    }

    /// Whether the group's coordinator answers whoever does not mind that a transaction may still change its offsets: then it is not away.
    fn answers_what_is_pending(&self, partitions: &[TopicPartition]) -> bool {
        let limit = self.watchdog.limits().call;
        let _guard = self.watchdog.call("committed offsets", limit);
        self.uncommitted
            .committed_offsets(bare(partitions), limit)
            .is_ok()
    }

    /// Where the first record at or after `since` lies, by the broker's index; the end where there is none.
    pub fn offsets_at(
        &self,
        partitions: &[TopicPartition],
        since: crate::time::Timestamp,
    ) -> Result<BTreeMap<TopicPartition, Option<Offset>>, KafkaFailure> {
        let found = retry(&self.watchdog, "offsets for times", |limit| {
            let mut list = TopicPartitionList::new();
            for at in partitions {
                list.add_partition_offset(
                    &at.topic,
                    at.partition.0,
                    RawOffset::Offset(since.0.max(0)),
                )?;
            }
            self.committed.offsets_for_times(list, limit)
        })?;
        Ok(places(&found).into_iter().collect())
    }

    /// The end of `at` as it is now, after everything before it has been committed or aborted.
    fn decided_end(
        &self,
        at: &TopicPartition,
        between: &mut Between<'_>,
    ) -> Result<Offset, KafkaFailure> {
        let (_, end) = self.watermarks(&self.uncommitted, at)?;
        // The coordinator aborts what nobody ends after the transaction timeout, which may be longer than our own patience.
        let limit = self.watchdog.limits().retry + self.transaction_max;
        let begun = self.clock.monotonic();
        let mut said = false;
        loop {
            let (_, stable) = self.watermarks(&self.committed, at)?;
            if end <= stable {
                return Ok(end);
            }
            let lasted = self.clock.monotonic().saturating_sub(begun);
            let what = || format!("`{at}` from offset {stable} on");
            if limit < lasted {
                return Err(KafkaFailure::Undecided {
                    what: what(),
                    limit,
                });
            }
            if SAY_AFTER < lasted && !said {
                said = true;
                tracing::warn!(%at, %stable, %end, "waiting for a transaction to be committed or aborted");
                self.watchdog.waits(Some(format!(
                    "a transaction that holds back {} is neither committed nor aborted",
                    what()
                )));
            }
            self.watchdog.pause(Duration::from_millis(20))?;
            between()?;
        }
    }

    /// All committed records of some partitions of one topic from `from` to the end as it is now, in offset order within each partition.
    /// Answers where to read on.
    pub(super) fn read_on(
        &self,
        from: &Positions,
        visit: &mut Visit<'_>,
        between: &mut Between<'_>,
    ) -> Result<Positions, KafkaFailure> {
        let mut spans = Vec::with_capacity(from.len());
        let mut next = from.clone();
        for (at, from) in from {
            between()?;
            let to = self.decided_end(at, between)?;
            if *from < to {
                next.insert(at.clone(), to);
                spans.push(Span {
                    at: at.clone(),
                    from: *from,
                    to,
                });
            }
        }
        self.read_between(&spans, visit, between)?;
        Ok(next)
    }

    /// The committed records of spans of different partitions of one topic.
    pub fn read_spans(&self, spans: &[Span], visit: &mut Visit<'_>) -> Result<(), KafkaFailure> {
        self.read_between(spans, visit, &mut nothing)
    }

    fn read_between(
        &self,
        spans: &[Span],
        visit: &mut Visit<'_>,
        between: &mut Between<'_>,
    ) -> Result<(), KafkaFailure> {
        let mut open: BTreeMap<i32, Offset> = spans
            .iter()
            .filter(|span| !span.is_empty())
            .map(|span| (span.at.partition.0, span.to))
            .collect();
        let Some(topic) = spans.first().map(|span| Arc::clone(&span.at.topic)) else {
            return Ok(());
        };
        if open.is_empty() {
            return Ok(());
        }
        let starts: Positions = spans
            .iter()
            .filter(|span| !span.is_empty())
            .map(|span| (span.at.clone(), span.from))
            .collect();
        let list = super::list(&starts).map_err(KafkaFailure::call("assign"))?;
        self.committed
            .assign(&list)
            .map_err(KafkaFailure::call("assign"))?;
        let read = self.read_open(&topic, &mut open, visit, between);
        let left = self.committed.unassign();
        read?;
        left.map_err(KafkaFailure::call("unassign"))
    }

    fn read_open(
        &self,
        topic: &str,
        open: &mut BTreeMap<i32, Offset>,
        visit: &mut Visit<'_>,
        between: &mut Between<'_>,
    ) -> Result<(), KafkaFailure> {
        // Reading that brings nothing new for that long has failed.
        let patience = self.watchdog.limits().retry;
        let mut stalled_at = self.clock.monotonic() + patience;
        while !open.is_empty() {
            between()?;
            let polled = {
                let _guard = self.watchdog.guard("poll", CALL_MAX);
                self.committed.poll(POLL_STEP)
            };
            match polled {
                Some(Ok(message)) => {
                    stalled_at = self.clock.monotonic() + patience;
                    let Some(to) = open.get(&message.partition()).copied() else {
                        continue;
                    };
                    if message.offset() < to.0 && visit(&message)?.is_break() {
                        return Ok(());
                    }
                    if to.0 <= message.offset() + 1 {
                        open.remove(&message.partition());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.drop_reached(open)?;
                    self.drop_deleted(open, topic, partition)?;
                }
                Some(Err(error)) if passes(&error) => {}
                Some(Err(error)) => return Err(KafkaFailure::call("reading a topic")(error)),
                None => {
                    self.drop_reached(open)?;
                    self.watchdog.pause(Duration::ZERO)?;
                }
            }
            if stalled_at < self.clock.monotonic() {
                return Err(KafkaFailure::TooSlow {
                    what: "reading a topic",
                    limit: patience,
                });
            }
        }
        Ok(())
    }

    /// Takes out of `open` what has been read up to its end. That a replica has nothing more says little: it may lag behind the one that was asked
    /// for the end. Positions go past the markers of transactions, which nobody sees.
    fn drop_reached(&self, open: &mut BTreeMap<i32, Offset>) -> Result<(), KafkaFailure> {
        let positions = self
            .committed
            .position()
            .map_err(KafkaFailure::call("position"))?;
        for (at, position) in places(&positions) {
            let partition = at.partition.0;
            if open.get(&partition).is_some_and(|to| Some(*to) <= position) {
                open.remove(&partition);
            }
        }
        Ok(())
    }

    /// Takes out of `open` the partition of that number if all that was to be read of it has been deleted meanwhile.
    fn drop_deleted(
        &self,
        open: &mut BTreeMap<i32, Offset>,
        topic: &str,
        partition: i32,
    ) -> Result<(), KafkaFailure> {
        if let Some(to) = open.get(&partition).copied()
            && to <= self.ends(&TopicPartition::new(topic, partition))?.0
        {
            open.remove(&partition);
        }
        Ok(())
    }

    fn watermarks(
        &self,
        consumer: &BaseConsumer<PlainContext>,
        at: &TopicPartition,
    ) -> Result<(Offset, Offset), KafkaFailure> {
        let (low, high) = retry(&self.watchdog, "watermarks", |limit| {
            consumer.fetch_watermarks(&at.topic, at.partition.0, limit)
        })?;
        Ok((Offset(low), Offset(high)))
    }
}

/// How many partitions `topic` has, as `consumer`'s broker knows it.
pub(super) fn partitions(
    consumer: &BaseConsumer<PlainContext>,
    watchdog: &Watchdog,
    topic: &str,
) -> Result<i32, KafkaFailure> {
    let metadata = retry(watchdog, "metadata", |limit| {
        consumer
            .fetch_metadata(Some(topic), limit)
            .map_err(|error| {
                // A client whose credentials are refused only looks as if no broker answered; why, it says when it is polled.
                std::iter::from_fn(|| consumer.poll(Duration::ZERO))
                    .take(ERRORS_MAX)
                    .filter_map(Result::err)
                    .find(refused)
                    .unwrap_or(error)
            })
    })?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let error = found
        .and_then(MetadataTopic::error)
        .map(RDKafkaErrorCode::from);
    match (found, error) {
        (_, Some(error @ RDKafkaErrorCode::TopicAuthorizationFailed)) => {
            Err(KafkaFailure::Refused {
                what: format!("a look at topic `{topic}`"),
                error: KafkaError::MetadataFetch(error),
            })
        }
        (Some(found), None) if !found.partitions().is_empty() => {
            Ok(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX))
        }
        _ => Err(KafkaFailure::NoTopic(topic.to_owned())),
    }
}

/// What the group has committed, once no transaction can change it: a `read_committed` consumer is made to wait while one that may is open.
pub(super) fn group_commits<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    watchdog: &Watchdog,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, Option<Commit>>, KafkaFailure> {
    let found = retry(watchdog, "committed offsets", |limit| {
        let list = consumer.committed_offsets(bare(partitions), limit)?;
        for element in list.elements() {
            element.error()?;
        }
        Ok(list)
    })?;
    let commits = found.elements().into_iter().map(|element| {
        let at = TopicPartition::new(element.topic(), element.partition());
        let commit = match element.offset() {
            RawOffset::Offset(offset) if offset >= 0 => Some(Commit {
                offset: Offset(offset),
                metadata: element.metadata().to_owned(),
            }),
            _ => None,
        };
        (at, commit)
    });
    Ok(commits.collect())
}
