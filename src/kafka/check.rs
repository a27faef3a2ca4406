//! Whether Kafka is ready: brokers, topics, and the rights to read, commit and write, found by doing each without leaving anything behind.
//!
//! Reading is tried by fetching, writing and committing in transactions that are aborted. Without the right to transactions, or where delivery
//! does without them, a record could not be taken back: then writing is not tried, and a note says so.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset as RawOffset, TopicPartitionList};

use super::admin::{TopicPlan, client, settings_of};
use super::context::PlainContext;
use super::publish::Delivery;
use super::settings::Connection;
use super::tokens::Authenticated;
use super::topic_reader::{group_commits, partitions};
use super::watchdog::Watchdog;
use super::{CALL_MAX, KafkaFailure, code, joined, passes, refused, retry};
use crate::stream::TopicPartition;
use crate::time::Clock;

/// How long brokers, a fetch or a delivery are waited for.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What would keep the daemon from working. Empty when all is well.
    pub problems: Vec<String>,
    /// What could not be tried.
    pub notes: Vec<String>,
    /// Topics whose records may be lost with one broker, and in how many replicas they are at least.
    pub in_sync: Vec<(String, u32)>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Topics read.
    pub inputs: &'a [String],
    /// Topics beside them.
    pub plans: &'a [TopicPlan],
    /// How they are written.
    pub delivery: Delivery,
}

/// Everything that would keep the daemon from working, at once.
pub fn check(
    connection: &Connection,
    wanted: Wanted<'_>,
    (clock, watchdog): (&Arc<dyn Clock>, &Watchdog),
) -> Result<Findings, KafkaFailure> {
    let _guard = watchdog.guard("checking Kafka", CALL_MAX * 20);
    let mut findings = Findings::default();
    let client = match client(connection) {
        Err(failure @ KafkaFailure::NoToken { .. }) => {
            findings
                .problems
                .push(format!("kafka.properties: {failure}"));
            return Ok(findings);
        }
        client => client?,
    };
    if let Err(error) = client.fetch_metadata(None, ANSWER_MAX) {
        findings.problems.push(format!(
            "kafka.brokers: no answer from `{}`: {error}",
            connection.brokers
        ));
        return Ok(findings);
    }
    let mut checking = Checking {
        connection,
        client,
        clock,
        watchdog,
        findings,
    };
    let inputs = checking.inputs(wanted.inputs);
    let written = checking.outputs(wanted.plans);
    checking.writing(&inputs, &written, wanted.delivery);
    Ok(checking.findings)
}

struct Checking<'a> {
    connection: &'a Connection,
    client: Authenticated<BaseConsumer<PlainContext>>,
    clock: &'a Arc<dyn Clock>,
    watchdog: &'a Watchdog,
    findings: Findings,
}

impl Checking<'_> {
    fn problem(&mut self, problem: String) {
        self.findings.problems.push(problem);
    }

    /// Inputs that are there. They are read, and their offsets asked for.
    fn inputs(&mut self, topics: &[String]) -> Vec<TopicPartition> {
        let mut there = Vec::new();
        for topic in topics {
            match partitions(&self.client, self.watchdog, topic) {
                Ok(_) => {
                    let at = TopicPartition::new(topic, 0);
                    if let Err(error) = self.read(&at) {
                        self.problem(format!(
                            "input.topics: topic `{topic}` cannot be read: {error}"
                        ));
                    }
                    there.push(at);
                }
                Err(KafkaFailure::NoTopic(_)) => {
                    self.problem(format!("input.topics: topic `{topic}` does not exist"));
                }
                Err(error) => self.problem(format!("input.topics: topic `{topic}`: {error}")),
            }
        }
        if let Err(error) = group_commits(&self.client, self.watchdog, &there) {
            let group = &self.connection.group;
            self.problem(format!(
                "input.group: offsets of group `{group}` cannot be read: {error}"
            ));
        }
        there
    }

    /// Fetches the newest record, or learns that there is none.
    fn read(&self, at: &TopicPartition) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&at.topic, at.partition.0, RawOffset::OffsetTail(1))?;
        self.client.assign(&list)?;
        let deadline = self.clock.monotonic() + ANSWER_MAX;
        let mut read = Err(KafkaError::Canceled);
        while read.is_err() && self.clock.monotonic() < deadline {
            match self.client.poll(Duration::from_millis(100)) {
                Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => read = Ok(()),
                Some(Err(error)) if refused(&error) || !passes(&error) => {
                    read = Err(error);
                    break;
                }
                Some(Err(error)) => read = Err(error),
                None => {}
            }
        }
        self.client.unassign()?;
        read
    }

    /// Topics that are there, set as they must be: answers those that are written. The others are read.
    fn outputs(&mut self, plans: &[TopicPlan]) -> Vec<String> {
        let mut there = Vec::new();
        for plan in plans {
            match partitions(&self.client, self.watchdog, &plan.name) {
                Ok(_) => {
                    if plan.written {
                        there.push(plan.name.clone());
                    } else if let Err(error) = self.read(&TopicPartition::new(&plan.name, 0)) {
                        self.problem(format!("topic `{}` cannot be read: {error}", plan.name));
                    }
                    let (wrong, beware) = settings_of(self.connection, plan);
                    let wrong = wrong.map(|wrong| wrong.to_string());
                    self.findings.problems.extend(wrong);
                    let topic = |least| (plan.name.clone(), least);
                    self.findings.in_sync.extend(beware.map(topic));
                }
                Err(KafkaFailure::NoTopic(_)) => self.problem(format!(
                    "topic `{}` does not exist: `anomalyd topics create` makes it",
                    plan.name
                )),
                Err(error) => self.problem(format!("topic `{}`: {error}", plan.name)),
            }
        }
        there
    }

    /// Writes to each output and commits for the group, in transactions that are aborted.
    fn writing(&mut self, inputs: &[TopicPartition], outputs: &[String], delivery: Delivery) {
        let id = joined(&[&self.connection.group, "validate"]);
        let config = self.connection.transactional(&id);
        let made = (self.connection).client(&config, PlainContext::default(), Some(self.watchdog));
        let producer: Authenticated<BaseProducer<PlainContext>> = match made {
            Ok(producer) => producer,
            Err(error) => return self.problem(format!("kafka.properties: {error}")),
        };
        let begun = retry(self.watchdog, "init_transactions", |limit| {
            producer.init_transactions(limit)
        });
        match (begun, delivery) {
            (Ok(()), _) => {}
            (Err(error), Delivery::ExactlyOnce) => {
                return self.problem(format!(
                    "delivery: transactions cannot be used with transactional ids that begin with `{}/`: {error}",
                    self.connection.group
                ));
            }
            (Err(error), Delivery::AtLeastOnce) => {
                self.findings.notes.push(format!(
                    "not checked: the rights to write to the outputs and to commit offsets, for what is tried can be taken back only in a transaction ({error})"
                ));
                return;
            }
        }
        for topic in outputs {
            if let Err(error) = within_aborted(&producer, || write(&producer, topic)) {
                self.problem(format!("topic `{topic}` cannot be written: {error}"));
            }
        }
        if let Err(error) = within_aborted(&producer, || self.commit(&producer, inputs)) {
            // That an input may not be read was found by reading it.
            if code(&error) == Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
                return;
            }
            self.problem(format!(
                "input.group: offsets of group `{}` cannot be committed: {error}",
                self.connection.group
            ));
        }
    }

    fn commit(
        &self,
        producer: &BaseProducer<PlainContext>,
        inputs: &[TopicPartition],
    ) -> Result<(), KafkaError> {
        let Some(group) = self.client.group_metadata() else {
            return Ok(());
        };
        let mut offsets = TopicPartitionList::new();
        for at in inputs {
            offsets.add_partition_offset(&at.topic, at.partition.0, RawOffset::Offset(0))?;
        }
        producer.send_offsets_to_transaction(&offsets, &group, ANSWER_MAX)
    }
}

/// Tries something in a transaction and aborts that.
fn within_aborted(
    producer: &BaseProducer<PlainContext>,
    attempt: impl FnOnce() -> Result<(), KafkaError>,
) -> Result<(), KafkaError> {
    producer.begin_transaction()?;
    let tried = attempt();
    let aborted = producer.abort_transaction(ANSWER_MAX);
    tried.and(aborted)
}

/// Writes a record and waits until it is in the log, or until that cannot be any more.
fn write(producer: &BaseProducer<PlainContext>, topic: &str) -> Result<(), KafkaError> {
    producer.context().take_failure();
    let record: BaseRecord<'_, str, [u8]> = BaseRecord::to(topic).partition(0).key("validate");
    producer.send(record).map_err(|(error, _)| error)?;
    // Messages time out by themselves, so this ends.
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::from_millis(20));
        // Not begun: the transaction is open. But one that can only be aborted says why.
        if let Err(KafkaError::Transaction(error)) = producer.begin_transaction()
            && error.txn_requires_abort()
        {
            return Err(KafkaError::Transaction(error));
        }
    }
    match producer.context().take_failure() {
        Some(failure) => Err(failure.error),
        None => Ok(()),
    }
}
