//! From librdkafka's messages to a batch of records.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

use super::partition::AssignedPartitions;
use crate::record::{Header, RecordBatch};
use crate::stream::{Offset, Partition, TopicPartition};
use crate::time::Timestamp;

/// A message's timestamp; 1970 where it has none.
pub(super) fn timestamp(message: &BorrowedMessage<'_>) -> Timestamp {
    Timestamp(message.timestamp().to_millis().unwrap_or(0))
}

/// A message's headers.
pub(super) fn headers(message: &BorrowedMessage<'_>) -> Vec<Header> {
    message.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .map(|header| Header {
                name: header.key.into(),
                value: header.value.map(Into::into),
            })
            .collect()
    })
}

/// Takes messages into a batch. Messages come in runs of one partition: what is known of it is looked up once a run, not once a message.
pub(super) struct FetchedBatch<'a> {
    pub(super) batch: RecordBatch,
    pub(super) partitions: &'a mut AssignedPartitions,
    pub(super) names: &'a BTreeMap<String, Arc<str>>,
    pub(super) run: Option<Run>,
}

/// A run of messages of one partition.
pub(super) struct Run {
    at: TopicPartition,
    /// The partition's place in the batch, once a message of it was taken.
    source: Option<usize>,
    /// The offset after the last message taken.
    next: Offset,
}

impl FetchedBatch<'_> {
    /// Adds a message, unless it comes from a partition that is not being read (any more) or from before the place we went to.
    pub(super) fn take(&mut self, message: &BorrowedMessage<'_>) {
        let partition = message.partition();
        // A single topic is looked at once a run too: it can be no other.
        let single = self.names.len() == 1;
        let goes_on = self.run.as_ref().is_some_and(|run| {
            run.at.partition.0 == partition && (single || *run.at.topic == *message.topic())
        });
        if !goes_on {
            self.end_run();
            self.begin_run(message.topic(), partition);
        }
        let Some(run) = self.run.as_mut() else { return };
        let offset = Offset(message.offset());
        if offset < run.next {
            return;
        }
        run.next = offset.next();
        let source = *run.source.get_or_insert_with(|| self.batch.source(&run.at));
        let place = (source, offset, timestamp(message));
        self.batch
            .push_from(place, message.key(), message.payload(), headers(message));
    }

    fn begin_run(&mut self, topic: &str, partition: i32) {
        let Some(name) = self.names.get(topic) else {
            return;
        };
        let at = TopicPartition {
            topic: Arc::clone(name),
            partition: Partition(partition),
        };
        let Some(next) = self.partitions.next(&at) else {
            return;
        };
        self.run = Some(Run {
            at,
            source: None,
            next,
        });
    }

    fn end_run(&mut self) {
        if let Some(run) = self.run.take() {
            self.partitions.handed_out(&run.at, run.next);
        }
    }

    /// The batch; what was read of each partition is noted.
    pub(super) fn finish(mut self) -> RecordBatch {
        self.end_run();
        self.batch
    }
}
