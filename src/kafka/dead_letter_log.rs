//! The dead-letter topic, read back: for people who look at it on a terminal.

use std::ops::ControlFlow;
use std::sync::Arc;

use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use serde::Serialize;

use super::KafkaFailure;
use super::settings::Connection;
use super::topic_reader::TopicReader;
use super::watchdog::Watchdog;
use crate::record::dead_letter::PREFIX;
use crate::time::Clock;

/// A dead letter, as its headers tell of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Letter {
    /// Its own Kafka timestamp, milliseconds.
    pub timestamp: i64,
    /// Where it came from.
    pub topic: String,
    /// Its partition there.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// A short name of why it was refused.
    pub reason: String,
    /// Why, in words.
    pub message: String,
    /// Its key, as text.
    pub key: Option<String>,
    /// Its value, as text.
    pub value: Option<String>,
}

/// The last letters of each partition of the topic, at most so many of each, in the order of their timestamps.
///
/// # Errors
/// Where Kafka cannot be asked, or there is no such topic.
pub fn last(
    connection: &Connection,
    (topic, most): (&str, i64),
    (clock, watchdog): (Arc<dyn Clock>, Watchdog),
) -> Result<Vec<Letter>, KafkaFailure> {
    let reader = TopicReader::new(connection, clock, watchdog)?;
    let mut letters = Vec::new();
    for span in reader.last(topic, most)? {
        reader.read_spans(&[span], &mut |message| {
            letters.push(letter(message));
            Ok(ControlFlow::Continue(()))
        })?;
    }
    letters.sort_by_key(|letter| letter.timestamp);
    Ok(letters)
}

/// What headers do not say stays as the message has it: somebody else may write to the topic.
fn letter(message: &BorrowedMessage<'_>) -> Letter {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let header = |wanted: &str| {
        let all = message.headers()?;
        let found = all
            .iter()
            .find(|header| header.key.strip_prefix(PREFIX) == Some(wanted));
        found.and_then(|header| header.value).map(text)
    };
    let class = header("exception.class.name").unwrap_or_default();
    Letter {
        timestamp: message.timestamp().to_millis().unwrap_or_default(),
        topic: header("topic").unwrap_or_else(|| message.topic().to_owned()),
        partition: header("partition")
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| message.partition()),
        offset: header("offset")
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| message.offset()),
        reason: class.strip_prefix("anomalyd.").unwrap_or(&class).to_owned(),
        message: header("exception.message").unwrap_or_default(),
        key: message.key().map(text),
        value: message.payload().map(text),
    }
}
