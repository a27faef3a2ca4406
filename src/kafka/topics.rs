//! The topics that are written, and where in the state topic the state of an input partition lies.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataTopic;

use super::KafkaFailure;
use super::context::MemberContext;
use super::forms::Forms;
use super::topic_reader::TopicReader;
use super::watchdog::Watchdog;
use crate::stream::TopicPartition;

/// How long a topic may be unknown before it counts as missing.
const NO_TOPIC_MAX: Duration = Duration::from_secs(3);
const NO_TOPIC_STEP: Duration = Duration::from_millis(200);

/// The topics written to: their names, and how values are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputTopics {
    /// Alerts.
    pub alerts: String,
    /// Every record's score; `None` leaves them out.
    pub scores: Option<String>,
    /// What could not be read.
    pub dead_letters: String,
    /// What came too late; `None`: to the dead letters.
    pub late: Option<String>,
    /// Keys that drift; `None` leaves them out.
    pub drift: Option<String>,
    /// Snapshots and the episode log, compacted.
    pub state: String,
    /// How alerts, scores and drift are written.
    pub forms: Forms,
}

/// All topics are there, those that are read and those that are written, and may be looked at; answers how many partitions the state topic has.
/// That a topic is missing is believed only after a while: one that was just made, or a broker that just started, is not known everywhere at
/// once.
pub(super) fn await_topics(
    reader: &TopicReader,
    (inputs, topics): (&[String], &OutputTopics),
    watchdog: &Watchdog,
) -> Result<i32, KafkaFailure> {
    let written = [&topics.alerts, &topics.dead_letters, &topics.state];
    let optional = topics
        .scores
        .iter()
        .chain(&topics.late)
        .chain(&topics.drift);
    let mut patience = NO_TOPIC_MAX;
    for topic in inputs.iter().chain(written).chain(optional) {
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

/// Those of `topics` that do not exist; `None`: nobody answers that.
pub(super) fn missing(
    consumer: &BaseConsumer<MemberContext>,
    topics: &[String],
    watchdog: &Watchdog,
) -> Option<Vec<String>> {
    let limit = watchdog.limits().call;
    let mut found = Vec::new();
    for topic in topics {
        let _guard = watchdog.call("metadata", limit);
        let metadata = consumer.fetch_metadata(Some(topic), limit).ok()?;
        let is = metadata.topics().iter().find(|is| is.name() == topic);
        let error = is
            .and_then(MetadataTopic::error)
            .map(RDKafkaErrorCode::from);
        if error == Some(RDKafkaErrorCode::UnknownTopicOrPartition) {
            found.push(topic.clone());
        }
    }
    Some(found)
}

/// The partition of the state topic in which an input partition's entries lie. It depends on the number of its partitions,
/// which therefore must never change.
pub(super) fn state_partition(at: &TopicPartition, of: i32) -> i32 {
    let hash = at.topic.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let of = u32::try_from(of.max(1)).unwrap_or(1);
    let number = u32::try_from(at.partition.0).unwrap_or(0);
    i32::try_from((hash % of + number % of) % of).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_one_topic_spread_over_the_state_topic() {
        let mut used: Vec<i32> = (0..6)
            .map(|partition| state_partition(&TopicPartition::new("records", partition), 6))
            .collect();
        used.sort_unstable();
        assert_eq!(used, [0, 1, 2, 3, 4, 5]);
        assert_eq!(state_partition(&TopicPartition::new("records", 5), 1), 0);
    }
}
