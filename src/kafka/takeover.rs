//! What a worker needs to take a partition over: where its group stands, and the state as it was committed with that.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message as _;

use super::KafkaFailure;
use super::context::MemberContext;
use super::publish::state_partition;
use super::restore::{TopicReader, group_offsets};
use super::retention;
use super::session::Start;
use super::watchdog::Watchdog;
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
    watchdog: &Watchdog,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, (Offset, bool, Offset)>, KafkaFailure> {
    let found = group_offsets(consumer, watchdog, partitions)?;
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
    let mut from = Positions::new();
    for at in partitions {
        let number = state_partition(at, topic.partitions);
        let place = TopicPartition::new(topic.name, number);
        let (first, _) = reader.ends(&place)?;
        from.insert(place, first);
    }
    let mut latest: BTreeMap<TopicPartition, BTreeMap<Vec<u8>, Vec<u8>>> = BTreeMap::new();
    reader.read_on(&from, &mut |message| {
        if let Some(key) = message.key()
            && let Some(at) = pipeline::owner(topic.detector, key)
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
