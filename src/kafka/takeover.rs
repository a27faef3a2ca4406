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
pub(super) fn restore(
    reader: &TopicReader,
    topic: &StateTopic<'_>,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, Vec<StateEntry>>, KafkaFailure> {
    let wanted: BTreeSet<&TopicPartition> = partitions.iter().collect();
    let places = wanted
        .iter()
        .map(|at| state_partition(at, topic.partitions));
    let mut restored: BTreeMap<TopicPartition, Vec<StateEntry>> = BTreeMap::new();
    for entry in latest(reader, topic, places, |at| wanted.contains(at))? {
        restored.entry(entry.at.clone()).or_default().push(entry);
    }
    Ok(restored)
}

/// What some partitions of the state topic hold of the detector's `wanted` input partitions: entries, latest per key, in order of keys.
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
    reader.read_on(&from, &mut |message| {
        if let Some(key) = message.key()
            && let Some(at) = pipeline::owner(topic.detector, key)
            && wanted(&at)
        {
            match message.payload() {
                Some(value) => {
                    let (key, value) = (key.to_vec(), Some(value.to_vec()));
                    latest.insert(key.clone(), StateEntry { at, key, value })
                }
                None => latest.remove(key),
            };
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(latest.into_values().collect())
}
