//! The ids of topics, where brokers have ids: one that was deleted and made anew under the same name is another one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::Client;
use rdkafka::error::KafkaError;

use super::context::MemberContext;
use super::watchdog::Watchdog;
use super::{KafkaFailure, passes, retry};
use crate::stream::TopicPartition;

/// How often it is looked at whether the topics are those that they were.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Ids by topic.
pub(super) type Ids = BTreeMap<Arc<str>, Arc<str>>;

/// The ids of the topics that a member was assigned partitions of.
#[derive(Debug, Default)]
pub(super) struct TopicIds {
    known: Ids,
    /// When they are looked at again.
    due: Duration,
}

impl TopicIds {
    /// Asks for those of the partitions' topics, and knows them from then on.
    pub(super) fn learn(
        &mut self,
        client: &Client<MemberContext>,
        partitions: &[TopicPartition],
        watchdog: &Watchdog,
    ) -> Result<Ids, KafkaFailure> {
        let topics: BTreeSet<&str> = partitions.iter().map(|at| &*at.topic).collect();
        let topics: Vec<&str> = topics.into_iter().collect();
        let found = retry(watchdog, "topic ids", |limit| {
            match anomalyd_librdkafka::topic_ids(client, &topics, limit) {
                Err(code) if passes(&KafkaError::MetadataFetch(code)) => {
                    Err(KafkaError::MetadataFetch(code))
                }
                // Old brokers have none.
                found => Ok(found.unwrap_or_default()),
            }
        })?;
        let shared = |(topic, id): (String, String)| (Arc::from(topic), Arc::from(id));
        let found: Ids = found.into_iter().map(shared).collect();
        self.known.extend(found.clone());
        Ok(found)
    }

    /// Now and then: whether the topics are those that they were. librdkafka would read on in the midst of a new one.
    pub(super) fn check(
        &mut self,
        client: &Client<MemberContext>,
        now: Duration,
        watchdog: &Watchdog,
    ) -> Result<(), KafkaFailure> {
        if now < self.due {
            return Ok(());
        }
        self.due = now + LOOK_EVERY;
        let topics: Vec<&str> = self.known.keys().map(|topic| &**topic).collect();
        if topics.is_empty() {
            return Ok(());
        }
        let limit = watchdog.limits().call;
        let _guard = watchdog.call("topic ids", limit);
        // What is not answered is asked again next time.
        let found = anomalyd_librdkafka::topic_ids(client, &topics, limit).unwrap_or_default();
        let another = found.iter().find(|(topic, id)| {
            let known = self.known.get(topic.as_str());
            known.is_some_and(|known| **known != **id)
        });
        match another {
            Some((topic, _)) => Err(KafkaFailure::OtherLog(format!(
                "topic `{topic}` was deleted and made anew"
            ))),
            None => Ok(()),
        }
    }
}
