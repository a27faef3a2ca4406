//! [`Session`] over librdkafka: one member of the group, on one thread.
//!
//! Invariants: an assigned partition is fetched only after [`Session::rewind`] has said from where; a partition is given back only between
//! batches; no transaction is open while polling.
//!
//! An assignment is answered at once, with nothing: its partitions are assigned when their state has been read, which may take longer than
//! a member may be silent. Meanwhile fetching pauses and polling goes on, and a rebalance ends the reading, which then begins anew with what
//! is left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anomalyd_librdkafka::topic_ids;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::context::{self, MemberContext, Rebalance};
use super::fetch::FetchedBatch;
use super::publish::{Delivery, Publisher};
use super::restore::{self, StateTopic};
use super::settings::Connection;
use super::start_offset::{self, Known, Start};
use super::tokens::Authenticated;
use super::topic_reader::TopicReader;
use super::topics::OutputTopics;
use super::watchdog::Watchdog;
use super::{CALL_MAX, KafkaFailure, bare, code, is_final, joined, list, passes, retry};
use crate::pipeline::{self, Outbox, PartitionAssignment, StateEntry};
use crate::port::{Input, Published, Session};
use crate::record::RecordBatch;
use crate::stream::{Offset, Positions, TopicPartition};
use crate::time::{Clock, Timestamp};

/// How long a topic may be unknown before it counts as missing.
const NO_TOPIC_MAX: Duration = Duration::from_secs(3);
const NO_TOPIC_STEP: Duration = Duration::from_millis(200);

/// How often it is looked at whether the topics are those that they were.
const IDS_EVERY: Duration = Duration::from_secs(30);

/// Between two polls of a member that reads something else ...
const POLL_EVERY: Duration = Duration::from_millis(200);
/// ... and how much is taken at each.
const POLLS_MAX: usize = 100;

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

/// One member of the consumer group with its producer.
pub struct KafkaSession {
    settings: SessionSettings,
    consumer: Option<Authenticated<BaseConsumer<MemberContext>>>,
    publisher: Publisher,
    reader: TopicReader,
    state_partitions: i32,
    /// Assigned by the group, state not read yet.
    given: BTreeSet<TopicPartition>,
    /// Assigned, not yet fetched: where to begin, once that is known.
    pending: BTreeMap<TopicPartition, (Offset, Option<Offset>)>,
    /// Fetched: the offset after the last record handed out.
    active: Positions,
    /// A partition's fetch position is not in the log any more.
    out_of_range: bool,
    /// Ids of the topics of what was assigned, and when they are looked at again.
    ids: BTreeMap<Arc<str>, Arc<str>>,
    look_at: Duration,
    /// To seek to as soon as no rebalance waits for its answer: librdkafka pauses everything until then.
    seeks: Positions,
    /// Names of the input topics' partitions, so that a record does not allocate one.
    names: BTreeMap<String, Arc<str>>,
    /// The end of each partition, as of the latest statistics.
    ends: BTreeMap<TopicPartition, Offset>,
    /// Up to where each partition was fetched, as of the latest statistics: past the markers of transactions, which are no records.
    fetched: BTreeMap<TopicPartition, Offset>,
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
        let state_partitions = known_topics(&reader, &settings, &watchdog)?;
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
            given: BTreeSet::new(),
            pending: BTreeMap::new(),
            active: Positions::new(),
            out_of_range: false,
            ids: BTreeMap::new(),
            look_at: Duration::ZERO,
            seeks: Positions::new(),
            names,
            ends: BTreeMap::new(),
            fetched: BTreeMap::new(),
            spare: RecordBatch::default(),
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
        if !self.pending.is_empty() {
            // The worker said nothing about them: begin where the group stands.
            self.begin_pending()?;
        }
        let waiting = self.consumer()?.context().take();
        match waiting {
            Some(Rebalance::Assign(partitions)) => {
                let nothing = TopicPartitionList::new();
                context::take(self.consumer()?, &nothing).map_err(KafkaFailure::call("assign"))?;
                self.given.extend(partitions);
            }
            Some(Rebalance::Revoke(partitions)) => {
                self.on_revoked(&partitions)?;
                return Ok(Input::Revoked(partitions));
            }
            None => {}
        }
        if !self.given.is_empty() {
            return self.on_assigned();
        }
        if std::mem::take(&mut self.out_of_range) {
            return self.offset_out_of_range();
        }
        self.look_at_ids()?;
        self.seek_due()?;
        let batch = self.read_batch(until)?;
        self.note_fetched(&batch);
        Ok(if batch.is_empty() {
            self.spare = batch;
            Input::Idle
        } else {
            Input::Batch(batch)
        })
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
        for (at, of_this) in statistics {
            self.ends.insert(at.clone(), of_this.end);
            if drained {
                self.fetched.insert(at, of_this.fetched);
            }
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
            active: &mut self.active,
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
        let oldest = start_offset::oldest(&self.reader, &self.active)?;
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
            Input::OffsetOutOfRange(oldest)
        })
    }

    /// Reads the state of the partitions that the group has assigned; nothing comes of it if a rebalance begins meanwhile.
    fn on_assigned(&mut self) -> Result<Input, KafkaFailure> {
        self.hold(BaseConsumer::pause)?;
        let partitions: Vec<TopicPartition> = self.given.iter().cloned().collect();
        let assignments = self.read_assignments(partitions);
        self.hold(BaseConsumer::resume)?;
        match assignments {
            Err(KafkaFailure::Rebalanced) => Ok(Input::Idle),
            assignments => {
                let assignments = assignments?;
                self.given.clear();
                Ok(Input::Assigned(assignments))
            }
        }
    }

    /// Pauses or resumes fetching.
    fn hold(
        &self,
        how: impl Fn(&BaseConsumer<MemberContext>, &TopicPartitionList) -> Result<(), KafkaError>,
    ) -> Result<(), KafkaFailure> {
        if self.active.is_empty() {
            return Ok(());
        }
        let _guard = self.watchdog.guard("pause", CALL_MAX);
        how(self.consumer()?, &bare(self.active.keys()))
            .map_err(KafkaFailure::call("pausing what is read"))
    }

    /// What the worker needs of assigned partitions: the committed offset, and the state as it was committed with it.
    fn read_assignments(
        &mut self,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<PartitionAssignment>, KafkaFailure> {
        let mut alive = Alive {
            consumer: self.consumer()?,
            clock: &*self.clock,
            watchdog: &self.watchdog,
            polled: self.clock.monotonic(),
            strayed: BTreeSet::new(),
            out_of_range: false,
        };
        let state_topic = StateTopic {
            name: &self.settings.topics.state,
            partitions: self.state_partitions,
            detector: &self.settings.detector,
        };
        let consumer = (alive.consumer, &self.reader);
        let found =
            restore::known(consumer, &partitions, &mut || alive.go_on()).and_then(|found| {
                let go_on = &mut || alive.go_on();
                let state = restore::entries(&self.reader, &state_topic, &partitions, go_on)?;
                Ok((found, state))
            });
        let (strayed, out_of_range) = (alive.strayed, alive.out_of_range);
        self.out_of_range |= out_of_range;
        for at in strayed {
            if let Some(next) = self.active.get(&at) {
                self.seeks.insert(at, *next);
            }
        }
        let ((known, began_with), state) = found?;
        self.publisher.began_with(began_with);
        let ids = self.topic_ids(&partitions)?;
        self.ids.extend(ids.clone());
        Ok(self.make_assignments(partitions, (known, state), &ids))
    }

    fn make_assignments(
        &mut self,
        partitions: Vec<TopicPartition>,
        (mut known, mut state): (
            BTreeMap<TopicPartition, Known>,
            BTreeMap<TopicPartition, Vec<StateEntry>>,
        ),
        ids: &BTreeMap<Arc<str>, Arc<str>>,
    ) -> Vec<PartitionAssignment> {
        partitions
            .into_iter()
            .map(|at| {
                let mut known = known.remove(&at).unwrap_or_default();
                let state = state.remove(&at).unwrap_or_default();
                let topic_id = ids.get(&at.topic).cloned();
                // What cannot be read the pipeline refuses.
                if let Ok(Some(as_of)) = pipeline::as_of(&state) {
                    known.as_of = Some(as_of.offset);
                    known.anew = as_of.topic_id.is_some()
                        && topic_id.is_some()
                        && as_of.topic_id != topic_id;
                }
                let (committed, fresh) = start_offset::begin(&at, known, self.settings.start);
                self.pending.insert(at.clone(), (committed, None));
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

    /// The ids of the partitions' topics, where brokers have ids.
    fn topic_ids(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<Arc<str>, Arc<str>>, KafkaFailure> {
        let client = self.consumer()?.client();
        let topics: BTreeSet<&str> = partitions.iter().map(|at| &*at.topic).collect();
        let topics: Vec<&str> = topics.into_iter().collect();
        let found = retry(&self.watchdog, "topic ids", |limit| {
            match topic_ids(client, &topics, limit) {
                Err(code) if passes(&KafkaError::MetadataFetch(code)) => {
                    Err(KafkaError::MetadataFetch(code))
                }
                // Old brokers have none.
                found => Ok(found.unwrap_or_default()),
            }
        })?;
        let shared = |(topic, id): (String, String)| (Arc::from(topic), Arc::from(id));
        Ok(found.into_iter().map(shared).collect())
    }

    /// Now and then: whether the topics are those that they were. librdkafka would read on in the midst of a new one.
    fn look_at_ids(&mut self) -> Result<(), KafkaFailure> {
        let now = self.clock.monotonic();
        if now < self.look_at {
            return Ok(());
        }
        self.look_at = now + IDS_EVERY;
        let topics: Vec<&str> = self.ids.keys().map(|topic| &**topic).collect();
        if topics.is_empty() {
            return Ok(());
        }
        let limit = self.watchdog.limits().call;
        let _guard = self.watchdog.call("topic ids", limit);
        // What is not answered is asked again next time.
        let found = topic_ids(self.consumer()?.client(), &topics, limit).unwrap_or_default();
        let another = found.iter().find(|(topic, id)| {
            self.ids
                .get(topic.as_str())
                .is_some_and(|known| **known != **id)
        });
        match another {
            Some((topic, _)) => Err(KafkaFailure::OtherLog(format!(
                "topic `{topic}` was deleted and made anew"
            ))),
            None => Ok(()),
        }
    }

    fn on_revoked(&mut self, partitions: &[TopicPartition]) -> Result<(), KafkaFailure> {
        self.publisher.forget(partitions);
        // Only what is being read was assigned.
        let assigned: Vec<&TopicPartition> = partitions
            .iter()
            .filter(|at| self.active.contains_key(*at))
            .collect();
        let assigned = bare(assigned);
        for at in partitions {
            self.given.remove(at);
            self.pending.remove(at);
            self.active.remove(at);
            self.seeks.remove(at);
            self.ends.remove(at);
            self.fetched.remove(at);
            tracing::info!(%at, "partition given back");
        }
        let _guard = self.watchdog.guard("giving partitions back", CALL_MAX);
        context::give_back(self.consumer()?, &assigned)
            .map_err(KafkaFailure::call("giving partitions back"))
    }

    /// Begins to fetch what was assigned, at the offsets named, or where the group stands.
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
        self.fetched.retain(|at, _| !due.contains_key(at));
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
            .as_deref()
            .ok_or(KafkaFailure::Client(KafkaError::Canceled))?;
        self.publisher.publish(outbox, consumer)
    }

    fn recycle(&mut self, mut batch: RecordBatch) {
        batch.clear();
        self.spare = batch;
    }

    fn lag(&mut self) -> BTreeMap<TopicPartition, u64> {
        self.active
            .iter()
            .filter_map(|(at, next)| {
                let end = self.ends.get(at)?;
                let next = self.fetched.get(at).max(Some(next))?;
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
        let Some(consumer) = self.consumer.take() else {
            return;
        };
        let waiting = consumer.context().close();
        let mut answers = Vec::new();
        for rebalance in waiting {
            answers.push(match rebalance {
                Rebalance::Assign(partitions) => context::take(&consumer, &bare(&partitions)),
                Rebalance::Revoke(partitions) => context::give_back(&consumer, &bare(&partitions)),
            });
        }
        for error in answers.into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "answering a rebalance while leaving");
        }
        self.watchdog.close("leaving the group", consumer);
    }
}

/// A member that reads something else than its partitions, which are paused: it is polled all the while, or the group would drop it.
struct Alive<'a> {
    consumer: &'a BaseConsumer<MemberContext>,
    clock: &'a dyn Clock,
    watchdog: &'a Watchdog,
    polled: Duration,
    /// Partitions that a record came from nonetheless: it has to be read again.
    strayed: BTreeSet<TopicPartition>,
    /// As of the session.
    out_of_range: bool,
}

impl Alive<'_> {
    /// Polls if it is time to; an error if the group divides its partitions anew.
    fn go_on(&mut self) -> Result<(), KafkaFailure> {
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

/// All topics are there, and may be looked at; answers how many partitions the state topic has. That a topic is missing is believed only
/// after a while: one that was just made, or a broker that just started, is not known everywhere at once.
fn known_topics(
    reader: &TopicReader,
    settings: &SessionSettings,
    watchdog: &Watchdog,
) -> Result<i32, KafkaFailure> {
    let topics = &settings.topics;
    let written = [&topics.alerts, &topics.dead_letters, &topics.state];
    let optional = topics
        .scores
        .iter()
        .chain(&topics.late)
        .chain(&topics.drift);
    let mut patience = NO_TOPIC_MAX;
    for topic in settings.inputs.iter().chain(written).chain(optional) {
        loop {
            match reader.partitions(topic) {
                Err(KafkaFailure::NoTopic(_)) if !patience.is_zero() => {
                    patience = patience.saturating_sub(NO_TOPIC_STEP);
                    watchdog.pause(NO_TOPIC_STEP)?;
                }
                Err(failure) => return Err(failure),
                Ok(_) => break,
            }
        }
    }
    reader.partitions(&topics.state)
}

/// Errors of a poll: librdkafka goes on by itself after all but those that say that we may not, or are no longer who we were.
fn tolerate(error: KafkaError) -> Result<(), KafkaFailure> {
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
    if passes(&error) {
        tracing::debug!(%error, "reading the input");
    } else {
        tracing::warn!(%error, "reading the input: going on");
    }
    Ok(())
}
