//! The alerts topic, read back: for people who look at it on a terminal.

use std::ops::ControlFlow;
use std::sync::Arc;

use rdkafka::message::Message as _;

use super::KafkaFailure;
use super::alert_reader::AlertReader;
use super::settings::Connection;
use super::topic_reader::TopicReader;
use super::watchdog::Watchdog;
use crate::alert::Alert;
use crate::stream::{Positions, Span};
use crate::time::Clock;

/// The alerts topic, from some place on.
#[derive(Debug)]
pub struct AlertLog {
    reader: TopicReader,
    alerts: AlertReader,
    next: Positions,
    watchdog: Watchdog,
}

impl AlertLog {
    /// Begins so many messages before the end of each partition.
    ///
    /// # Errors
    /// Where Kafka cannot be asked, or there is no such topic.
    pub fn open(
        connection: &Connection,
        (topic, last): (&str, i64),
        (clock, watchdog): (Arc<dyn Clock>, Watchdog),
    ) -> Result<Self, KafkaFailure> {
        let reader = TopicReader::new(connection, clock, watchdog.clone())?;
        let spans = reader.last(topic, last)?.into_iter();
        let next = spans.map(|span| (span.at, span.from)).collect();
        Ok(Self {
            reader,
            alerts: AlertReader::new(connection.schemas.clone()),
            next,
            watchdog,
        })
    }

    /// What came since, in the order of the records that caused it; what is no alert is passed over.
    ///
    /// # Errors
    /// Where Kafka cannot be asked, or the registry for the schema of a message.
    pub fn more(&mut self) -> Result<Vec<Alert>, KafkaFailure> {
        let mut alerts: Vec<Alert> = Vec::new();
        for (at, next) in &mut self.next {
            let (first, end) = self.reader.ends(at)?;
            let span = Span {
                at: at.clone(),
                from: (*next).max(first),
                to: end,
            };
            if span.to <= span.from {
                continue;
            }
            self.reader.read_spans(&[span], &mut |message| {
                let read = self.alerts.read(message.payload(), &self.watchdog)?;
                alerts.extend(read.ok());
                Ok(ControlFlow::Continue(()))
            })?;
            *next = end;
        }
        alerts.sort_by_key(|alert| alert.data_time);
        Ok(alerts)
    }
}
