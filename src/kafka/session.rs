//! [`Session`] over librdkafka: one member of the group, on one thread.
//!
//! Invariants: an assigned partition is fetched only after [`Session::rewind`] has said from where; a partition is given back only between
//! batches; no transaction is open while polling.
//!
//! An assignment is answered at once, with nothing: its partitions are assigned when their state has been read, which may take longer than
//! a member may be silent. Meanwhile fetching pauses and polling goes on, and a rebalance ends the reading, which then begins anew with what
//! is left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::context::{self, MemberContext, Rebalance};
use super::fetch::FetchedBatch;
use super::keep_alive::{KeepAlive, is_no_topic, tolerate};
use super::partition::AssignedPartitions;
use super::publish::{Delivery, Publisher};
use super::restore::{self, StateTopic};
use super::settings::Connection;
use super::start_offset::{self, Known, Start};
use super::tokens::Authenticated;
use super::topic_ids::{Ids, TopicIds};
use super::topic_reader::{TopicReader, nothing};
use super::topics::{self, OutputTopics};
use super::trouble::{News, Trouble};
use super::watchdog::Watchdog;
use super::{CALL_MAX, KafkaFailure, bare, joined, list};
use crate::pipeline::{self, Outbox, PartitionAssignment, StateEntry};
use crate::port::{Input, Published, Session};
use crate::record::RecordBatch;
use crate::stream::{Positions, TopicPartition};
use crate::time::{Clock, Timestamp};

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

/// The settings of a session.
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

/// What was found of assigned partitions.
struct Restored {
    known: BTreeMap<TopicPartition, Known>,
    state: BTreeMap<TopicPartition, Vec<StateEntry>>,
    ids: Ids,
}

/// One member of the consumer group with its producer.
pub struct KafkaSession {
    settings: SessionSettings,
    consumer: Option<Authenticated<BaseConsumer<MemberContext>>>,
    publisher: Publisher,
    reader: TopicReader,
    state_partitions: i32,
    partitions: AssignedPartitions,
    /// A partition's fetch position is not in the log any more.
    out_of_range: bool,
    /// Ids of the topics of what was assigned.
    ids: TopicIds,
    /// Names of the input topics' partitions, so that a record does not allocate one.
    names: BTreeMap<String, Arc<str>>,
    /// The last batch's memory.
    spare: RecordBatch,
    trouble: Trouble,
    clock: Arc<dyn Clock>,
    watchdog: Watchdog,
}

impl std::fmt::Debug for KafkaSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSession")
            .field("worker", &self.settings.worker)
            .field("partitions", &self.partitions)
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
        let topics = (settings.inputs.as_slice(), &settings.topics);
        let state_partitions = topics::await_topics(&reader, topics, &watchdog)?;
        let id = match settings.delivery {
            Delivery::ExactlyOnce => Some(joined(&[
                &settings.connection.group,
                &settings.instance,
                &settings.worker.to_string(),
            ])),
            Delivery::AtLeastOnce => None,
        };
        let publisher = Publisher::new(
            &settings.connection,
            settings.topics.clone(),
            state_partitions,
            id,
            (Arc::clone(&clock), watchdog.clone()),
        )?;
        let connection = &settings.connection;
        let config = connection.member(settings.worker);
        let consumer: Authenticated<BaseConsumer<MemberContext>> =
            connection.client(&config, MemberContext::default(), Some(&watchdog))?;
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
            partitions: AssignedPartitions::default(),
            out_of_range: false,
            ids: TopicIds::default(),
            names,
            spare: RecordBatch::default(),
            trouble: Trouble::default(),
            clock,
            watchdog,
        })
    }

    fn consumer(&self) -> Result<&BaseConsumer<MemberContext>, KafkaFailure> {
        self.consumer
            .as_deref()
            .ok_or(KafkaFailure::Client(KafkaError::Canceled))
    }

    /// Acts on a rebalance, or reads a batch.
    fn poll(&mut self, until: Timestamp) -> Result<Input, KafkaFailure> {
        // Where the worker said nothing: where the group stands.
        self.begin()?;
        let waiting = self.consumer()?.context().take();
        match waiting {
            Some(Rebalance::Assign(partitions)) => {
                let nothing = TopicPartitionList::new();
                context::take(self.consumer()?, &nothing).map_err(KafkaFailure::call("assign"))?;
                self.partitions.assign(partitions);
            }
            Some(Rebalance::Revoke(partitions)) => {
                self.on_revoked(&partitions)?;
                return Ok(Input::Revoked(partitions));
            }
            None => {}
        }
        let assigned = self.partitions.assigned();
        if !assigned.is_empty() {
            return self.on_assigned(assigned);
        }
        if std::mem::take(&mut self.out_of_range) {
            return self.offset_out_of_range();
        }
        let client = self.consumer.as_deref().map(Consumer::client);
        if let Some(client) = client {
            let now = self.clock.monotonic();
            self.ids.check(client, now, &self.watchdog)?;
        }
        self.seek_due()?;
        let mut batch = self.read_batch(until)?;
        self.note_fetched(&batch);
        self.mind_trouble();
        self.find_schemas(&mut batch)?;
        Ok(if batch.is_empty() {
            self.spare = batch;
            Input::Idle
        } else {
            Input::Batch(batch)
        })
    }

    /// Finds the schemas that records were written by. While the registry is away the member is polled, so that the group does not drop it; a rebalance
    /// waits, for what was read has no other way than on.
    fn find_schemas(&mut self, batch: &mut RecordBatch) -> Result<(), KafkaFailure> {
        let Some(schemas) = self.settings.connection.schemas.clone() else {
            return Ok(());
        };
        if schemas.lacks(batch, &self.watchdog).is_empty() {
            return schemas.complete(batch, &self.watchdog, &mut nothing);
        }
        self.hold(BaseConsumer::pause)?;
        let mut alive = KeepAlive::new(self.consumer()?, &*self.clock, &self.watchdog);
        let found = schemas.complete(batch, &self.watchdog, &mut || match alive.go_on() {
            Err(KafkaFailure::Rebalanced) => Ok(()),
            gone_on => gone_on,
        });
        let (strayed, out_of_range) = (alive.strayed, alive.out_of_range);
        self.out_of_range |= out_of_range;
        for at in &strayed {
            self.partitions.fetch_again(at);
        }
        found?;
        self.hold(BaseConsumer::resume)
    }

    /// Statistics come through the same queue as records do. So when a batch ended because the queue was empty, all that was fetched before
    /// them has been handed out, and what was fetched without being a record was a marker.
    fn note_fetched(&mut self, batch: &RecordBatch) {
        let limits = self.settings.batch;
        let Ok(consumer) = self.consumer() else {
            return;
        };
        let drained = !consumer.context().waiting()
            && batch.len() < limits.records_max
            && batch.bytes_len() < limits.bytes_max;
        let statistics = consumer.context().take_statistics();
        self.partitions.note(statistics, drained);
    }

    /// Says what keeps the member from its records, when that changes.
    fn mind_trouble(&mut self) {
        let Some(consumer) = self.consumer.as_deref() else {
            return;
        };
        let now = self.clock.monotonic();
        if let Some(answered) = consumer.context().take_answered() {
            self.trouble.answered(answered, (now, self.clock.now()));
        }
        if self.trouble.should_look(now) {
            let missing = topics::missing(consumer, &self.settings.inputs, &self.watchdog);
            self.trouble.looked(missing, now);
        }
        let worker = self.settings.worker;
        match self.trouble.news(&self.settings.connection.brokers, now) {
            Some(News::Waits(what)) => {
                tracing::warn!(worker, "no record can be read: {what}");
                self.watchdog.waits(Some(what));
            }
            Some(News::Over) => {
                tracing::info!(worker, "records can be read again");
                self.watchdog.waits(None);
            }
            None => {}
        }
    }

    fn read_batch(&mut self, until: Timestamp) -> Result<RecordBatch, KafkaFailure> {
        let limits = self.settings.batch;
        let mut deadline = self.clock.monotonic() + until.since(self.clock.now());
        let consumer = self
            .consumer
            .as_deref()
            .ok_or(KafkaFailure::Client(KafkaError::Canceled))?;
        let mut fetched = FetchedBatch {
            batch: std::mem::take(&mut self.spare),
            partitions: &mut self.partitions,
            names: &self.names,
            run: None,
        };
        let _guard = self.watchdog.guard(
            "poll",
            until.since(self.clock.now()) + limits.wait + CALL_MAX * 2,
        );
        let mut failed = None;
        while fetched.batch.len() < limits.records_max
            && fetched.batch.bytes_len() < limits.bytes_max
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
                    let first = fetched.batch.is_empty();
                    fetched.take(&message);
                    if first && !fetched.batch.is_empty() {
                        deadline = self.clock.monotonic() + limits.wait;
                    }
                }
                Some(Err(error)) if start_offset::is_out_of_range(&error) => {
                    self.out_of_range = true;
                }
                Some(Err(error)) => {
                    if is_no_topic(&error) {
                        self.trouble.suspect(self.clock.monotonic());
                    }
                    failed = tolerate(error).err();
                    if failed.is_some() {
                        break;
                    }
                }
                None => {}
            }
            if self.out_of_range || consumer.context().waiting() {
                break;
            }
        }
        let batch = fetched.finish();
        failed.map_or(Ok(batch), Err)
    }

    /// Retention has deleted what some partition was to read next. librdkafka has stopped it, and seeks nothing that it has stopped: the
    /// assignment is made again, each partition from where it stands, or from the oldest record that it has.
    fn offset_out_of_range(&mut self) -> Result<Input, KafkaFailure> {
        let mut positions = self.partitions.positions();
        let oldest = start_offset::oldest(&self.reader, &positions)?;
        positions.extend(oldest.clone());
        let assignment = list(&positions).map_err(KafkaFailure::call("assign"))?;
        let _guard = self.watchdog.guard("assign", CALL_MAX * 2);
        let consumer = self.consumer()?;
        context::give_back(consumer, &bare(positions.keys()))
            .and_then(|()| context::take(consumer, &assignment))
            .map_err(KafkaFailure::call("reading on behind what was deleted"))?;
        self.partitions.go_on(&positions);
        Ok(if oldest.is_empty() {
            Input::Idle
        } else {
            Input::OffsetOutOfRange(oldest)
        })
    }

    /// Reads the state of the partitions that the group has assigned; nothing comes of it if a rebalance begins meanwhile.
    fn on_assigned(&mut self, assigned: Vec<TopicPartition>) -> Result<Input, KafkaFailure> {
        self.hold(BaseConsumer::pause)?;
        let restored = self.restore(&assigned);
        self.hold(BaseConsumer::resume)?;
        match restored {
            Err(KafkaFailure::Rebalanced) => Ok(Input::Idle),
            // From here on nothing fails: the worker hears of what it is said to hold.
            restored => {
                self.trouble.say_again();
                Ok(Input::Assigned(self.hand_over(assigned, restored?)))
            }
        }
    }

    /// Pauses or resumes fetching.
    fn hold(
        &self,
        how: impl Fn(&BaseConsumer<MemberContext>, &TopicPartitionList) -> Result<(), KafkaError>,
    ) -> Result<(), KafkaFailure> {
        let live = bare(self.partitions.fetched());
        if live.count() == 0 {
            return Ok(());
        }
        let _guard = self.watchdog.guard("pause", CALL_MAX);
        how(self.consumer()?, &live).map_err(KafkaFailure::call("pausing what is read"))
    }

    /// What is needed of assigned partitions: the committed offset, the state as it was committed with it, and the topics' ids.
    fn restore(&mut self, partitions: &[TopicPartition]) -> Result<Restored, KafkaFailure> {
        let mut alive = KeepAlive::new(self.consumer()?, &*self.clock, &self.watchdog);
        let state_topic = StateTopic {
            name: &self.settings.topics.state,
            partitions: self.state_partitions,
            detector: &self.settings.detector,
        };
        let consumer = (alive.consumer, &self.reader);
        let found = restore::known(consumer, partitions, &mut || alive.go_on()).and_then(|found| {
            let go_on = &mut || alive.go_on();
            let state = restore::entries(&self.reader, &state_topic, partitions, go_on)?;
            Ok((found, state))
        });
        let (strayed, out_of_range) = (alive.strayed, alive.out_of_range);
        self.out_of_range |= out_of_range;
        for at in &strayed {
            self.partitions.fetch_again(at);
        }
        let ((known, began_with), state) = found?;
        self.publisher.began_with(began_with);
        let client = self
            .consumer
            .as_deref()
            .ok_or(KafkaFailure::Client(KafkaError::Canceled))?
            .client();
        let ids = self.ids.learn(client, partitions, &self.watchdog)?;
        Ok(Restored { known, state, ids })
    }

    /// Hands partitions to the worker, with their state and where the group stands.
    fn hand_over(
        &mut self,
        partitions: Vec<TopicPartition>,
        mut restored: Restored,
    ) -> Vec<PartitionAssignment> {
        partitions
            .into_iter()
            .map(|at| {
                let mut known = restored.known.remove(&at).unwrap_or_default();
                let state = restored.state.remove(&at).unwrap_or_default();
                let topic_id = restored.ids.get(&at.topic).cloned();
                // What cannot be read the pipeline refuses.
                if let Ok(Some(as_of)) = pipeline::as_of(&state) {
                    known.as_of = Some(as_of.offset);
                    known.anew = as_of.topic_id.is_some()
                        && topic_id.is_some()
                        && as_of.topic_id != topic_id;
                }
                let (committed, fresh) = start_offset::begin(&at, known, self.settings.start);
                self.partitions.restore(&at, committed);
                tracing::info!(%at, %committed, entries = state.len(), "partition assigned");
                PartitionAssignment {
                    at,
                    committed,
                    fresh,
                    first: known.first,
                    topic_id,
                    state,
                }
            })
            .collect()
    }

    fn on_revoked(&mut self, partitions: &[TopicPartition]) -> Result<(), KafkaFailure> {
        self.publisher.forget(partitions);
        // Only what is fetched was assigned to the client.
        let live = self.partitions.fetched();
        let live = bare(live.filter(|at| partitions.contains(at)));
        let _guard = self.watchdog.guard("giving partitions back", CALL_MAX);
        context::give_back(self.consumer()?, &live)
            .map_err(KafkaFailure::call("giving partitions back"))?;
        self.partitions.revoke(partitions);
        for at in partitions {
            tracing::info!(%at, "partition given back");
        }
        Ok(())
    }

    /// Begins to fetch what was assigned, at the offsets named, or where the group stands.
    fn begin(&mut self) -> Result<(), KafkaFailure> {
        let starts = self.partitions.starts();
        if starts.is_empty() {
            return Ok(());
        }
        let assignment = list(&starts).map_err(KafkaFailure::call("assign"))?;
        {
            let _guard = self.watchdog.guard("assign", CALL_MAX);
            context::take(self.consumer()?, &assignment).map_err(KafkaFailure::call("assign"))?;
        }
        self.partitions.begin(starts);
        Ok(())
    }

    /// The partitions that the worker knows of.
    pub(super) fn handed_over(&self) -> Vec<TopicPartition> {
        self.partitions.handed_over()
    }

    /// Goes back where an abort wants it. A failed seek is tried again: a partition that has just been assigned may not be ready for it.
    fn seek_due(&mut self) -> Result<(), KafkaFailure> {
        let due = self.partitions.seeks();
        if due.is_empty() {
            return Ok(());
        }
        let consumer = self.consumer()?;
        let limits = self.watchdog.limits();
        let deadline = self.clock.monotonic() + limits.retry;
        loop {
            let guard = self.watchdog.call("seek", limits.call);
            let sought = list(&due)
                .and_then(|list| consumer.seek_partitions(list, limits.call))
                .and_then(|list| {
                    list.elements()
                        .iter()
                        .try_for_each(rdkafka::topic_partition_list::TopicPartitionListElem::error)
                });
            drop(guard);
            match sought {
                Ok(()) => break,
                Err(error) if deadline < self.clock.monotonic() => {
                    return Err(KafkaFailure::call("seek")(error));
                }
                Err(error) => {
                    tracing::debug!(%error, "seek failed, trying again");
                    self.watchdog.pause(Duration::from_millis(20))?;
                }
            }
        }
        self.partitions.sought(&due);
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
            .as_deref()
            .ok_or(KafkaFailure::Client(KafkaError::Canceled))?;
        self.publisher.publish(outbox, consumer)
    }

    fn recycle(&mut self, mut batch: RecordBatch) {
        batch.clear();
        self.spare = batch;
    }

    fn lag(&mut self) -> BTreeMap<TopicPartition, u64> {
        self.partitions.lag()
    }

    fn rewind(&mut self, to: &Positions) -> Result<(), KafkaFailure> {
        if self.partitions.rewind(to) {
            self.begin()?;
        }
        Ok(())
    }
}

impl Drop for KafkaSession {
    /// Leaves the group. librdkafka closes only after every rebalance has its answer.
    fn drop(&mut self) {
        let Some(consumer) = self.consumer.take() else {
            return;
        };
        context::answer_all(&consumer);
        self.watchdog.close("leaving the group", consumer);
    }
}
