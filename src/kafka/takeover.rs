//! What a worker needs to take a partition over: where its group stands, and the state as it was committed with that.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message as _;

use super::KafkaFailure;
use super::context::MemberContext;
use super::publish::state_partition;
use super::restore::TopicReader;
use super::retention;
use super::session::Start;
use crate::pipeline::{self, StateEntry};
use crate::stream::{Offset, Positions, TopicPartition};

/// Where state lies.
pub(super) struct StateTopic<'a> {
    pub(super) name: &'a str,
    pub(super) partitions: i32,
    /// Whose: the topic may hold several detectors'.
    pub(super) detector: &'a str,
}

/// The group's offsets; where there is none, the configured start, and that it is fresh. And the oldest record there is.
pub(super) fn committed(
    (consumer, reader): (&BaseConsumer<MemberContext>, &TopicReader),
    start: Start,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, (Offset, bool, Offset)>, KafkaFailure> {
    let found = reader.offsets(consumer, partitions)?;
    let mut positions = BTreeMap::new();
    for (at, offset) in found {
        let (first, end) = reader.ends(&at)?;
        let (position, fresh) = retention::begin(&at, offset, (first, end), start);
        positions.insert(at, (position, fresh, first));
    }
    Ok(positions)
}

/// The state topic's entries of some partitions, latest per key.
///
/// Where they lie depends on the topic's number of partitions. Those that are not `fresh`, and yet have none there, are looked for
/// everywhere.
///
/// # Errors
/// As [`latest`].
pub(super) fn restore(
    reader: &TopicReader,
    topic: &StateTopic<'_>,
    (partitions, fresh): (&[TopicPartition], impl Fn(&TopicPartition) -> bool),
) -> Result<BTreeMap<TopicPartition, Vec<StateEntry>>, KafkaFailure> {
    let place = |at: &&TopicPartition| state_partition(at, topic.partitions);
    let mut wanted: BTreeSet<&TopicPartition> = partitions.iter().collect();
    let mut restored: BTreeMap<TopicPartition, Vec<StateEntry>> = BTreeMap::new();
    for entry in latest(reader, topic, wanted.iter().map(place), |at| {
        wanted.contains(at)
    })? {
        restored.entry(entry.at.clone()).or_default().push(entry);
    }
    wanted.retain(|at| !fresh(at) && !restored.contains_key(*at));
    if wanted.is_empty() {
        return Ok(restored);
    }
    // Whatever is found now lies astray.
    latest(reader, topic, 0..topic.partitions, |at| wanted.contains(at))?;
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
) -> Result<Vec<StateEntry>, KafkaFailure> {
    let mut from = Positions::new();
    for number in places {
        let place = TopicPartition::new(topic.name, number);
        let (first, _) = reader.ends(&place)?;
        from.insert(place, first);
    }
    let mut latest: BTreeMap<Vec<u8>, StateEntry> = BTreeMap::new();
    let mut astray: BTreeMap<Vec<u8>, TopicPartition> = BTreeMap::new();
    reader.read_on(&from, &mut |message| {
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
    })?;
    if let Some(at) = astray.into_values().next() {
        return Err(KafkaFailure::Resized {
            topic: topic.name.to_owned(),
            partitions: topic.partitions,
            at,
        });
    }
    Ok(latest.into_values().collect())
}
