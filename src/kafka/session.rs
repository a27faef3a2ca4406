//! [`Session`] over librdkafka: one member of the group, on one thread.
//!
//! Invariants: a granted partition is fetched only after [`Session::rewind`] has said from where (the assignment is answered there, with the
//! offsets); a partition is given back only between batches; no transaction is open while polling.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

use super::context::{self, MemberContext, Rebalance};
use super::publish::{Delivery, OutputTopics, Publisher, state_partition};
use super::restore::{TopicReader, group_offsets};
use super::retention;
use super::settings::Connection;
use super::watchdog::Watchdog;
use super::{CALL_MAX, KafkaFailure, RETRY_MAX, bare, code, list, passes};
use crate::pipeline::{self, Grant, Outbox, StateEntry};
use crate::port::{Input, Published, Session};
use crate::record::{Header, RecordBatch};
use crate::stream::{Offset, Positions, TopicPartition};
use crate::time::{Clock, Timestamp};

/// Where a group begins that has committed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// At the oldest record there is.
    Earliest,
    /// After the newest: history is for training only.
    Latest,
}

/// How large a batch may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Records.
    pub records_max: usize,
    /// Bytes of keys and values.
    pub bytes_max: usize,
    /// How long the first record waits for more.
    pub wait: Duration,
}

/// What a session is told about a detector.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// The detector's name: the state topic may hold several.
    pub detector: String,
    /// How to reach Kafka.
    pub connection: Connection,
    /// Input topics.
    pub inputs: Vec<String>,
    /// Output topics.
    pub topics: OutputTopics,
    /// Where a new group begins.
    pub start: Start,
    /// What delivery promises.
    pub delivery: Delivery,
    /// How large a batch may grow.
    pub batch: BatchLimits,
    /// The name of this process, unique in the group; the same after a restart if the restart should end the old one's transactions at once.
    pub instance: String,
    /// The number of the worker within the process.
    pub worker: usize,
}

/// One member of the consumer group with its producer.
pub struct KafkaSession {
    settings: SessionSettings,
    consumer: Option<BaseConsumer<MemberContext>>,
    publisher: Publisher,
    reader: TopicReader,
    state_partitions: i32,
    /// Granted, not yet fetched: where to begin, once that is known.
    pending: BTreeMap<TopicPartition, (Offset, Option<Offset>)>,
    /// Fetched: the offset after the last record handed out.
    active: Positions,
    /// A partition's fetch position is not in the log any more.
    lost: bool,
    /// To seek to as soon as no rebalance waits for its answer: librdkafka pauses everything until then.
    seeks: Positions,
    /// Names of the input topics' partitions, so that a record does not allocate one.
    names: BTreeMap<String, Arc<str>>,
    /// The end of each partition, as far as statistics told.
    ends: BTreeMap<TopicPartition, Offset>,
    /// The last batch's memory.
    spare: RecordBatch,
    clock: Arc<dyn Clock>,
    watchdog: Watchdog,
}

impl std::fmt::Debug for KafkaSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSession")
            .field("worker", &self.settings.worker)
            .field("active", &self.active)
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

impl KafkaSession {
    /// Connects, ends what this worker's predecessor left open, and joins the group.
    pub fn join(
        settings: SessionSettings,
        clock: Arc<dyn Clock>,
        watchdog: Watchdog,
    ) -> Result<Self, KafkaFailure> {
        let reader = TopicReader::new(&settings.connection, Arc::clone(&clock), watchdog.clone())?;
        for topic in &settings.inputs {
            reader.partitions(topic)?;
        }
        let state_partitions = reader.partitions(&settings.topics.state)?;
        let id = match settings.delivery {
            Delivery::ExactlyOnce => Some(format!(
                "{}-{}-{}",
                settings.connection.group, settings.instance, settings.worker
            )),
            Delivery::AtLeastOnce => None,
        };
        let publisher = Publisher::new(
            &settings.connection,
            settings.topics.clone(),
            state_partitions,
            id,
            (Arc::clone(&clock), watchdog.clone()),
        )?;
        let consumer: BaseConsumer<MemberContext> = settings
            .connection
            .member(settings.worker)
            .create_with_context(MemberContext::default())
            .map_err(KafkaFailure::Client)?;
        let inputs: Vec<&str> = settings.inputs.iter().map(String::as_str).collect();
        consumer
            .subscribe(&inputs)
            .map_err(KafkaFailure::call("subscribe"))?;
        let names = settings
            .inputs
            .iter()
            .map(|topic| (topic.clone(), Arc::from(topic.as_str())))
            .collect();
        Ok(Self {
            settings,
            consumer: Some(consumer),
            publisher,
            reader,
            state_partitions,
            pending: BTreeMap::new(),
            active: Positions::new(),
            lost: false,
            seeks: Positions::new(),
            names,
            ends: BTreeMap::new(),
            spare: RecordBatch::default(),
            clock,
            watchdog,
        })
    }

    fn consumer(&self) -> Result<&BaseConsumer<MemberContext>, KafkaFailure> {
        self.consumer
            .as_ref()
            .ok_or(KafkaFailure::Client(KafkaError::Canceled))
    }

    /// Acts on a rebalance, or reads a batch.
    fn poll(&mut self, until: Timestamp) -> Result<Input, KafkaFailure> {
        if !self.pending.is_empty() {
            // The worker said nothing about them: begin where the group stands.
            self.begin_pending()?;
        }
        let waiting = self.consumer()?.context().take();
        match waiting {
            Some(Rebalance::Assign(partitions)) => {
                return Ok(Input::Assigned(self.grant(partitions)?));
            }
            Some(Rebalance::Revoke(partitions)) => {
                self.let_go(&partitions)?;
                return Ok(Input::Revoked(partitions));
            }
            None => {}
        }
        if std::mem::take(&mut self.lost) {
            return self.overtaken();
        }
        self.seek_due()?;
        let batch = self.read_batch(until)?;
        Ok(if batch.is_empty() {
            self.spare = batch;
            Input::Idle
        } else {
            Input::Batch(batch)
        })
    }

    fn read_batch(&mut self, until: Timestamp) -> Result<RecordBatch, KafkaFailure> {
        let limits = self.settings.batch;
        let mut deadline = self.clock.monotonic() + until.since(self.clock.now());
        let consumer = self
            .consumer
            .as_ref()
            .ok_or(KafkaFailure::Client(KafkaError::Canceled))?;
        let mut intake = Intake {
            batch: std::mem::take(&mut self.spare),
            active: &mut self.active,
            names: &self.names,
            run: None,
        };
        let _guard = self.watchdog.guard(
            "poll",
            until.since(self.clock.now()) + limits.wait + CALL_MAX * 2,
        );
        let mut failed = None;
        while intake.batch.len() < limits.records_max && intake.batch.bytes_len() < limits.bytes_max
        {
            // What is queued is taken without a look at the clock, which would cost more than the record does.
            let mut polled = consumer.poll(Duration::ZERO);
            if polled.is_none() {
                let left = deadline.saturating_sub(self.clock.monotonic());
                if left.is_zero() {
                    break;
                }
                polled = consumer.poll(left);
            }
            match polled {
                Some(Ok(message)) => {
                    let first = intake.batch.is_empty();
                    intake.take(&message);
                    if first && !intake.batch.is_empty() {
                        deadline = self.clock.monotonic() + limits.wait;
                    }
                }
                Some(Err(error)) if retention::lost(&error) => self.lost = true,
                Some(Err(error)) => {
                    failed = tolerate(error).err();
                    if failed.is_some() {
                        break;
                    }
                }
                None => {}
            }
            if self.lost || consumer.context().waiting() {
                break;
            }
        }
        let batch = intake.finish();
        failed.map_or(Ok(batch), Err)
    }

    /// Retention has deleted what some partition was to read next. librdkafka has stopped it, and seeks nothing that it has stopped: the
    /// assignment is made again, each partition from where it stands, or from the oldest record that it has.
    fn overtaken(&mut self) -> Result<Input, KafkaFailure> {
        let oldest = retention::oldest(&self.reader, &self.active)?;
        self.active.extend(oldest.clone());
        self.seeks.clear();
        let assignment = list(&self.active).map_err(KafkaFailure::call("assign"))?;
        let _guard = self.watchdog.guard("assign", CALL_MAX * 2);
        let consumer = self.consumer()?;
        context::give_back(consumer, &bare(self.active.keys()))
            .and_then(|()| context::take(consumer, &assignment))
            .map_err(KafkaFailure::call("reading on behind what was deleted"))?;
        Ok(if oldest.is_empty() {
            Input::Idle
        } else {
            Input::Overtaken(oldest)
        })
    }

    /// What the worker needs to take over: the committed offset, and the state as it was committed with it.
    fn grant(&mut self, partitions: Vec<TopicPartition>) -> Result<Vec<Grant>, KafkaFailure> {
        let committed = self.committed(&partitions)?;
        let mut state = self.restore(&partitions)?;
        Ok(partitions
            .into_iter()
            .map(|at| {
                let (committed, fresh, first) = committed.get(&at).copied().unwrap_or_default();
                self.pending.insert(at.clone(), (committed, None));
                let state = state.remove(&at).unwrap_or_default();
                tracing::info!(%at, %committed, entries = state.len(), "partition granted");
                Grant {
                    at,
                    committed,
                    fresh,
                    first,
                    state,
                }
            })
            .collect())
    }

    /// The group's offsets; where there is none, the configured start, and that it is fresh. And the oldest record there is.
    fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, (Offset, bool, Offset)>, KafkaFailure> {
        let found = group_offsets(self.consumer()?, &*self.clock, &self.watchdog, partitions)?;
        let mut positions = BTreeMap::new();
        for (at, offset) in found {
            let (first, end) = self.reader.ends(&at)?;
            let (position, fresh) =
                retention::begin(&at, offset, (first, end), self.settings.start);
            positions.insert(at, (position, fresh, first));
        }
        Ok(positions)
    }

    /// The state topic's entries of some partitions, latest per key.
    fn restore(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Vec<StateEntry>>, KafkaFailure> {
        let topic = &self.settings.topics.state;
        let wanted: BTreeSet<&TopicPartition> = partitions.iter().collect();
        let mut from = Positions::new();
        for at in partitions {
            let number = state_partition(at, self.state_partitions);
            let place = TopicPartition::new(topic, number);
            let (first, _) = self.reader.ends(&place)?;
            from.insert(place, first);
        }
        let mut latest: BTreeMap<TopicPartition, BTreeMap<Vec<u8>, Vec<u8>>> = BTreeMap::new();
        self.reader.read_on(&from, &mut |message| {
            if let Some(key) = message.key()
                && let Some(at) = pipeline::owner(&self.settings.detector, key)
                && wanted.contains(&at)
            {
                let entries = latest.entry(at).or_default();
                match message.payload() {
                    Some(value) => entries.insert(key.to_vec(), value.to_vec()),
                    None => entries.remove(key),
                };
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(latest
            .into_iter()
            .map(|(at, entries)| {
                let entries = entries
                    .into_iter()
                    .map(|(key, value)| StateEntry {
                        at: at.clone(),
                        key,
                        value: Some(value),
                    })
                    .collect();
                (at, entries)
            })
            .collect())
    }

    fn let_go(&mut self, partitions: &[TopicPartition]) -> Result<(), KafkaFailure> {
        for at in partitions {
            self.active.remove(at);
            self.seeks.remove(at);
            self.ends.remove(at);
            tracing::info!(%at, "partition given back");
        }
        let _guard = self.watchdog.guard("giving partitions back", CALL_MAX);
        context::give_back(self.consumer()?, &bare(partitions))
            .map_err(KafkaFailure::call("giving partitions back"))
    }

    /// Answers the assignment: fetching begins at the offsets named, or where the group stands.
    fn begin_pending(&mut self) -> Result<(), KafkaFailure> {
        let starts: Positions = std::mem::take(&mut self.pending)
            .into_iter()
            .map(|(at, (committed, start))| (at, start.unwrap_or(committed)))
            .collect();
        let assignment = list(&starts).map_err(KafkaFailure::call("assign"))?;
        {
            let _guard = self.watchdog.guard("assign", CALL_MAX);
            context::take(self.consumer()?, &assignment).map_err(KafkaFailure::call("assign"))?;
        }
        self.active.extend(starts);
        Ok(())
    }

    /// Goes back where an abort wants it. A failed seek is tried again: a partition that has just been assigned may not be ready for it.
    fn seek_due(&mut self) -> Result<(), KafkaFailure> {
        if self.seeks.is_empty() {
            return Ok(());
        }
        let due = std::mem::take(&mut self.seeks);
        let consumer = self.consumer()?;
        let _guard = self.watchdog.guard("seek", RETRY_MAX + CALL_MAX * 2);
        let deadline = self.clock.monotonic() + CALL_MAX;
        loop {
            let sought = list(&due)
                .and_then(|list| consumer.seek_partitions(list, CALL_MAX))
                .and_then(|list| {
                    list.elements()
                        .iter()
                        .try_for_each(rdkafka::topic_partition_list::TopicPartitionListElem::error)
                });
            match sought {
                Ok(()) => break,
                Err(error) if deadline < self.clock.monotonic() => {
                    return Err(KafkaFailure::call("seek")(error));
                }
                Err(error) => {
                    tracing::debug!(%error, "seek failed, trying again");
                    std::thread::park_timeout(Duration::from_millis(20));
                }
            }
        }
        self.active.extend(due);
        Ok(())
    }
}

impl Session for KafkaSession {
    type Fatal = KafkaFailure;

    fn next(&mut self, until: Timestamp) -> Result<Input, KafkaFailure> {
        self.poll(until)
    }

    fn publish(&mut self, outbox: &Outbox) -> Result<Published, KafkaFailure> {
        let consumer = self
            .consumer
            .as_ref()
            .ok_or(KafkaFailure::Client(KafkaError::Canceled))?;
        self.publisher.publish(outbox, consumer)
    }

    fn recycle(&mut self, mut batch: RecordBatch) {
        batch.clear();
        self.spare = batch;
    }

    fn lag(&mut self) -> BTreeMap<TopicPartition, u64> {
        if let Ok(consumer) = self.consumer() {
            let told = consumer.context().ends();
            self.ends.extend(told);
        }
        self.active
            .iter()
            .filter_map(|(at, next)| {
                let end = self.ends.get(at)?;
                let ahead = u64::try_from(end.0.saturating_sub(next.0)).unwrap_or(0);
                Some((at.clone(), ahead))
            })
            .collect()
    }

    fn rewind(&mut self, to: &Positions) -> Result<(), KafkaFailure> {
        let mut answered = false;
        for (at, offset) in to {
            if let Some((_, start)) = self.pending.get_mut(at) {
                *start = Some(*offset);
                answered = true;
            } else if self.active.get(at).is_some_and(|next| next != offset) {
                self.seeks.insert(at.clone(), *offset);
            }
        }
        if answered && self.pending.values().all(|(_, start)| start.is_some()) {
            self.begin_pending()?;
        }
        Ok(())
    }
}

impl Drop for KafkaSession {
    /// Leaves the group. librdkafka closes only after every rebalance has its answer.
    fn drop(&mut self) {
        let _guard = self.watchdog.guard("leaving the group", CALL_MAX);
        let Some(consumer) = self.consumer.take() else {
            return;
        };
        let waiting = consumer.context().close();
        let unanswered: Vec<&TopicPartition> = self.pending.keys().collect();
        let mut answers = Vec::new();
        if !unanswered.is_empty() {
            answers.push(context::take(&consumer, &bare(unanswered)));
        }
        for rebalance in waiting {
            answers.push(match rebalance {
                Rebalance::Assign(partitions) => context::take(&consumer, &bare(&partitions)),
                Rebalance::Revoke(partitions) => context::give_back(&consumer, &bare(&partitions)),
            });
        }
        for error in answers.into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "answering a rebalance while leaving");
        }
        drop(consumer);
    }
}

/// Takes messages into a batch. Messages come in runs of one partition: what is known of it is looked up once a run, not once a message.
struct Intake<'a> {
    batch: RecordBatch,
    active: &'a mut Positions,
    names: &'a BTreeMap<String, Arc<str>>,
    run: Option<Run>,
}

/// A run of messages of one partition.
struct Run {
    at: TopicPartition,
    /// The partition's place in the batch, once a message of it was taken.
    source: Option<usize>,
    /// The offset after the last message taken.
    next: Offset,
}

impl Intake<'_> {
    /// Adds a message, unless it comes from a partition that is not being read (any more) or from before the place we went to.
    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let (topic, partition) = (message.topic(), message.partition());
        let goes_on = self
            .run
            .as_ref()
            .is_some_and(|run| run.at.partition.0 == partition && *run.at.topic == *topic);
        if !goes_on {
            self.end_run();
            self.begin_run(topic, partition);
        }
        let Some(run) = self.run.as_mut() else { return };
        let offset = Offset(message.offset());
        if offset < run.next {
            return;
        }
        run.next = offset.next();
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers
                .iter()
                .map(|header| Header {
                    name: header.key.into(),
                    value: header.value.map(Into::into),
                })
                .collect()
        });
        let timestamp = Timestamp(message.timestamp().to_millis().unwrap_or(0));
        let source = *run.source.get_or_insert_with(|| self.batch.source(&run.at));
        let place = (source, offset, timestamp);
        self.batch
            .push_from(place, message.key(), message.payload(), headers);
    }

    fn begin_run(&mut self, topic: &str, partition: i32) {
        let Some(name) = self.names.get(topic) else {
            return;
        };
        let at = TopicPartition {
            topic: Arc::clone(name),
            partition: crate::stream::Partition(partition),
        };
        let Some(&next) = self.active.get(&at) else {
            return;
        };
        self.run = Some(Run {
            at,
            source: None,
            next,
        });
    }

    fn end_run(&mut self) {
        if let Some(run) = self.run.take() {
            self.active.insert(run.at, run.next);
        }
    }

    /// The batch; what was read of each partition is noted.
    fn finish(mut self) -> RecordBatch {
        self.end_run();
        self.batch
    }
}

/// Errors of a poll: librdkafka goes on by itself after all but those that say that we may not, or are no longer who we were.
fn tolerate(error: KafkaError) -> Result<(), KafkaFailure> {
    let hopeless = matches!(error, KafkaError::MessageConsumptionFatal(_))
        || matches!(
            code(&error),
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::GroupAuthorizationFailed
                    | RDKafkaErrorCode::ClusterAuthorizationFailed
                    | RDKafkaErrorCode::Authentication
                    | RDKafkaErrorCode::SaslAuthenticationFailed
                    | RDKafkaErrorCode::Fatal
                    | RDKafkaErrorCode::FencedInstanceId
                    | RDKafkaErrorCode::UnsupportedVersion
                    | RDKafkaErrorCode::UnsupportedFeature
            )
        );
    if hopeless {
        return Err(KafkaFailure::call("reading the input")(error));
    }
    if passes(&error) {
        tracing::debug!(%error, "reading the input");
    } else {
        tracing::warn!(%error, "reading the input: going on");
    }
    Ok(())
}
