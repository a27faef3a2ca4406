//! The log in Kafka.

use std::time::Duration;

use super::read::Log;
use crate::kafka::KafkaFailure;
use crate::kafka::history::KafkaHistory;
use crate::record::RecordBatch;
use crate::stream::{Offset, Span, TopicPartition};

impl Log for KafkaHistory {
    type Error = KafkaFailure;

    fn places(&self) -> Result<Vec<TopicPartition>, Self::Error> {
        self.partitions()
    }

    fn ends(&self, at: &TopicPartition) -> Result<(Offset, Offset), Self::Error> {
        Self::ends(self, at)
    }

    fn read_within(
        &mut self,
        span: &Span,
        bytes: usize,
        until: Duration,
    ) -> Result<Option<RecordBatch>, Self::Error> {
        Self::read_within(self, span, bytes, until)
    }
}
