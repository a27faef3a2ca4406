//! What a worker needs to take a partition over: where its group stands, and the state as it was committed with that.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use rdkafka::consumer::BaseConsumer;
use rdkafka::message::{BorrowedMessage, Message as _};

use super::KafkaFailure;
use super::context::MemberContext;
use super::mark;
use super::start_offset::Known;
use super::topic_reader::{Between, TopicReader};
use super::topics::state_partition;
use crate::pipeline::{self, StateEntry};
use crate::stream::{Partition, Positions, TopicPartition};

/// Where state lies.
pub(super) struct StateTopic<'a> {
    pub(super) name: &'a str,
    pub(super) partitions: i32,
    /// Whose: the topic may hold several detectors'.
    pub(super) detector: &'a str,
}

/// What is known of partitions, and how many each topic had when the group began to read it.
type Found = (BTreeMap<TopicPartition, Known>, BTreeMap<Arc<str>, i32>);

/// What is known of some partitions without their state, and how many partitions each of their topics had when the group began to read it.
pub(super) fn known(
    (consumer, reader): (&BaseConsumer<MemberContext>, &TopicReader),
    partitions: &[TopicPartition],
    between: &mut Between<'_>,
) -> Result<Found, KafkaFailure> {
    let mut began_with = BTreeMap::new();
    let mut known = BTreeMap::new();
    let topics: BTreeSet<Arc<str>> = partitions.iter().map(|at| Arc::clone(&at.topic)).collect();
    for topic in topics {
        let count = reader.partitions(&topic)?;
        let all: Vec<TopicPartition> = (0..count)
            .map(|number| TopicPartition {
                topic: Arc::clone(&topic),
                partition: Partition(number),
            })
            .collect();
        let commits = reader.commits(consumer, &all)?;
        let began = mark::began(commits.values().flatten(), count);
        for at in partitions.iter().filter(|at| at.topic == topic) {
            between()?;
            let (first, end) = reader.ends(at)?;
            let commit = commits.get(at).and_then(Option::as_ref);
            let of_this = Known {
                committed: commit.map(|commit| commit.offset),
                first,
                end,
                added: began <= at.partition.0,
                ..Known::default()
            };
            known.insert(at.clone(), of_this);
        }
        began_with.insert(topic, began);
    }
    Ok((known, began_with))
}

/// The state topic's entries of some partitions, latest per key.
///
/// Where they lie depends on the topic's number of partitions. Those that have none there are looked for everywhere.
///
/// # Errors
/// As [`latest`].
pub(super) fn entries(
    reader: &TopicReader,
    topic: &StateTopic<'_>,
    partitions: &[TopicPartition],
    between: &mut Between<'_>,
) -> Result<BTreeMap<TopicPartition, Vec<StateEntry>>, KafkaFailure> {
    let place = |at: &&TopicPartition| state_partition(at, topic.partitions);
    let mut wanted: BTreeSet<&TopicPartition> = partitions.iter().collect();
    let mut restored: BTreeMap<TopicPartition, Vec<StateEntry>> = BTreeMap::new();
    let found = latest(
        reader,
        topic,
        wanted.iter().map(place),
        |at| wanted.contains(at),
        between,
    )?;
    for entry in found {
        restored.entry(entry.at.clone()).or_default().push(entry);
    }
    wanted.retain(|at| !restored.contains_key(*at));
    if wanted.is_empty() {
        return Ok(restored);
    }
    // Whatever is found now lies astray.
    let everywhere = 0..topic.partitions;
    latest(reader, topic, everywhere, |at| wanted.contains(at), between)?;
    Ok(restored)
}

/// What some partitions of the state topic hold of the detector's `wanted` input partitions: entries, latest per key, in order of keys.
///
/// # Errors
/// [`KafkaFailure::Resized`] if some lie where they would with another number of partitions: to go on without would lose them silently, and
/// beside newer ones they would pass for these.
pub(super) fn latest(
    reader: &TopicReader,
    topic: &StateTopic<'_>,
    places: impl Iterator<Item = i32>,
    wanted: impl Fn(&TopicPartition) -> bool,
    between: &mut Between<'_>,
) -> Result<Vec<StateEntry>, KafkaFailure> {
    let mut from = Positions::new();
    for number in places {
        let place = TopicPartition::new(topic.name, number);
        between()?;
        let (first, _) = reader.ends(&place)?;
        from.insert(place, first);
    }
    let mut latest: BTreeMap<Vec<u8>, StateEntry> = BTreeMap::new();
    let mut astray: BTreeMap<Vec<u8>, TopicPartition> = BTreeMap::new();
    let mut visit = |message: &BorrowedMessage<'_>| {
        if let Some(key) = message.key()
            && let Some(at) = pipeline::owner(topic.detector, key)
            && wanted(&at)
        {
            let (key, value) = (key.to_vec(), message.payload().map(<[u8]>::to_vec));
            let home = message.partition() == state_partition(&at, topic.partitions);
            match (home, value) {
                (true, None) => drop(latest.remove(&key)),
                (true, value) => drop(latest.insert(key.clone(), StateEntry { at, key, value })),
                (false, None) => drop(astray.remove(&key)),
                (false, Some(_)) => drop(astray.insert(key, at)),
            }
        }
        Ok(ControlFlow::Continue(()))
    };
    reader.read_on(&from, &mut visit, between)?;
    if let Some(at) = astray.into_values().next() {
        return Err(KafkaFailure::Resized {
            topic: topic.name.to_owned(),
            partitions: topic.partitions,
            at,
        });
    }
    Ok(latest.into_values().collect())
}
