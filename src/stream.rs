//! Places in a Kafka log, and the ids of episodes, which are made of such places. One convention throughout: an [`Offset`] is the next record to read, a
//! [`Span`] is half-open.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The place of the next record to read in a partition.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Offset(pub i64);

impl Offset {
    /// The offset after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a partition within its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub i32);

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: Partition,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    #[must_use]
    pub fn new(topic: &str, partition: i32) -> Self {
        Self {
            topic: Arc::from(topic),
            partition: Partition(partition),
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition.0)
    }
}

/// The records of one partition from `from` up to, but not including, `to`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// Where.
    pub at: TopicPartition,
    /// The first record.
    pub from: Offset,
    /// The record after the last.
    pub to: Offset,
}

impl Span {
    /// How many offsets the span covers (compacted or aborted ones included).
    #[must_use]
    pub fn len(&self) -> u64 {
        u64::try_from(self.to.0 - self.from.0).unwrap_or(0)
    }

    /// Whether the span covers nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `offset` lies in the span.
    #[must_use]
    pub fn contains(&self, offset: Offset) -> bool {
        self.from <= offset && offset < self.to
    }
}

/// The next offset to read, for each partition held.
pub type Positions = BTreeMap<TopicPartition, Offset>;

/// The id of an episode: the same from open to close and in every run over the same records, because it is made of detector, topic, partition and the
/// offset of the first record. Names of detectors and topics have no `/`, so no two episodes have the same. What somebody says of an episode names it
/// by this.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EpisodeId(Arc<str>);

impl EpisodeId {
    /// Of what began with the record at `onset`.
    #[must_use]
    pub fn new(detector: &str, at: &TopicPartition, onset: Offset) -> Self {
        Self::made(detector, at, onset, "")
    }

    fn made(detector: &str, at: &TopicPartition, place: Offset, what: &str) -> Self {
        let TopicPartition { topic, partition } = at;
        let partition = partition.0;
        Self::from(format!("{detector}/{topic}/{partition}/{place}{what}"))
    }

    /// Of the silence of a key whose last record lies at `after`.
    #[must_use]
    pub fn of_silence(detector: &str, at: &TopicPartition, after: Offset) -> Self {
        Self::made(detector, at, after, "-silence")
    }

    /// Of the absence of features that the records of a key lack from `after` on.
    #[must_use]
    pub fn of_absence(detector: &str, at: &TopicPartition, after: Offset) -> Self {
        Self::made(detector, at, after, "-absence")
    }

    /// Whether it is of features that records lack.
    #[must_use]
    pub fn is_of_absence(&self) -> bool {
        self.0.ends_with("-absence")
    }

    /// Of the storm that began with the record at `onset`.
    #[must_use]
    pub fn of_storm(detector: &str, at: &TopicPartition, onset: Offset) -> Self {
        Self::made(detector, at, onset, "-storm")
    }

    /// Of the drift of a key that began with the record at `onset`.
    #[must_use]
    pub fn of_drift(detector: &str, at: &TopicPartition, onset: Offset) -> Self {
        Self::made(detector, at, onset, "-drift")
    }

    /// The offset that it names; `None` of one that was not made here.
    #[must_use]
    pub fn onset(&self) -> Option<Offset> {
        let last = self.0.rsplit('/').next()?;
        let number = last.split_once('-').map_or(last, |(number, _)| number);
        number.parse().ok().map(Offset)
    }

    /// The partition and the offset that it names; `None` of one that was not made here.
    #[must_use]
    pub fn place(&self) -> Option<(TopicPartition, Offset)> {
        let mut parts = self.0.rsplit('/').skip(1);
        let (partition, topic) = (parts.next()?.parse().ok()?, parts.next()?);
        Some((TopicPartition::new(topic, partition), self.onset()?))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EpisodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Borrow<str> for EpisodeId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for EpisodeId {
    /// As somebody names it.
    fn from(text: &str) -> Self {
        Self(Arc::from(text))
    }
}

impl From<String> for EpisodeId {
    fn from(text: String) -> Self {
        Self(Arc::from(text))
    }
}

impl PartialEq<str> for EpisodeId {
    fn eq(&self, text: &str) -> bool {
        &*self.0 == text
    }
}

impl PartialEq<&str> for EpisodeId {
    fn eq(&self, text: &&str) -> bool {
        &*self.0 == *text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_s_id_names_its_place() {
        let (at, onset) = (TopicPartition::new("plant.records", 7), Offset(42));
        let made = [
            (EpisodeId::new("pumps", &at, onset), ""),
            (EpisodeId::of_silence("pumps", &at, onset), "-silence"),
            (EpisodeId::of_absence("pumps", &at, onset), "-absence"),
            (EpisodeId::of_storm("pumps", &at, onset), "-storm"),
            (EpisodeId::of_drift("pumps", &at, onset), "-drift"),
        ];
        for (id, what) in made {
            assert_eq!(id, format!("pumps/plant.records/7/42{what}").as_str());
            assert_eq!(id.onset(), Some(onset));
            assert_eq!(id.is_of_absence(), what == "-absence");
        }
        assert_eq!(EpisodeId::from("anything").onset(), None);
    }
}
