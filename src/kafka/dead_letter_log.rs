//! The dead-letter topic, read back: for people who look at it on a terminal, and who send records again once their producer or the configuration is mended.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde::Serialize;

use super::KafkaFailure;
use super::context::PlainContext;
use super::messages::TRUNCATED as OMITTED;
use super::settings::Connection;
use super::tokens::Authenticated;
use super::topic_reader::TopicReader;
use super::watchdog::Watchdog;
use crate::record::dead_letter::PREFIX;
use crate::stream::{Offset, Span, TopicPartition};
use crate::time::Clock;

/// The header of a record that was sent again: topic, partition and offset that it first had.
const REPLAYED: &str = "anomalyd.replayed";
/// Offsets that are read together at least.
const STEP_MIN: i64 = 100;
/// Records that are sent before it is waited for them, and how long that may take.
const TOGETHER: usize = 1000;
const FLUSH_MAX: Duration = Duration::from_secs(30);

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

/// A record as it was before it was refused, with its letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Original {
    /// What is told of it.
    pub letter: Letter,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its own headers, by name.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Its own Kafka timestamp, milliseconds.
    pub timestamp: Option<i64>,
    /// Its value was too large for the dead-letter topic, and was left out.
    pub omitted: bool,
}

impl Original {
    /// Whether it was sent again before.
    #[must_use]
    pub fn was_replayed(&self) -> bool {
        self.headers.iter().any(|(name, _)| name == REPLAYED)
    }
}

/// What is made of a message of the topic: a [`Letter`], or an [`Original`], which is all that it takes to send it again.
pub trait Refused: Sized {
    /// Of a message.
    fn of(message: &BorrowedMessage<'_>) -> Self;
    /// Its letter.
    fn letter(&self) -> &Letter;
}

impl Refused for Letter {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        letter(message)
    }

    fn letter(&self) -> &Letter {
        self
    }
}

impl Refused for Original {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        original(message)
    }

    fn letter(&self) -> &Letter {
        &self.letter
    }
}

/// What was found of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found<T> {
    /// In the order of their timestamps.
    pub letters: Vec<T>,
    /// Letters that were not wanted, among those that were looked at.
    pub others: usize,
}

/// The last ones of each partition of the topic that are `wanted`, at most so many of each. It is read back until they are found, to its beginning if need
/// be: markers of transactions and what is not wanted have offsets, too.
///
/// # Errors
/// Where Kafka cannot be asked, or there is no such topic.
pub fn last<T: Refused>(
    connection: &Connection,
    (topic, most): (&str, usize),
    wanted: impl Fn(&Letter) -> bool,
    (clock, watchdog): (Arc<dyn Clock>, Watchdog),
) -> Result<Found<T>, KafkaFailure> {
    let reader = TopicReader::new(connection, clock, watchdog)?;
    let (mut letters, mut others) = (Vec::new(), 0);
    for partition in 0..reader.partitions(topic)? {
        let at = TopicPartition::new(topic, partition);
        let (first, mut to) = reader.ends(&at)?;
        let mut step = i64::try_from(most).unwrap_or(i64::MAX).max(STEP_MIN);
        let mut kept: VecDeque<T> = VecDeque::new();
        while kept.len() < most && first < to {
            let from = Offset(first.0.max(to.0.saturating_sub(step)));
            let mut older = VecDeque::new();
            let at = at.clone();
            reader.read_spans(&[Span { at, from, to }], &mut |message| {
                let one = T::of(message);
                if wanted(one.letter()) {
                    older.push_back(one);
                } else {
                    others += 1;
                }
                if kept.len() + older.len() > most {
                    older.pop_front();
                }
                Ok(ControlFlow::Continue(()))
            })?;
            older.append(&mut kept);
            kept = older;
            (to, step) = (from, step.saturating_mul(2));
        }
        letters.extend(kept);
    }
    letters.sort_by_key(|one: &T| one.letter().timestamp);
    Ok(Found { letters, others })
}

/// Sends records again: to the topic and partition that they came from, or to another topic. They go as they were, with a header that says so.
///
/// # Errors
/// Where Kafka refuses one, or does not answer: those before it may have been sent.
pub fn send(
    connection: &Connection,
    originals: &[&Original],
    to: Option<&str>,
) -> Result<(), KafkaFailure> {
    let mut config = connection.idempotent();
    // As Kafka's own clients choose partitions.
    config.set("partitioner", "murmur2_random");
    let producer: Authenticated<BaseProducer<PlainContext>> =
        connection.client(&config, PlainContext::default(), None)?;
    let failed = KafkaFailure::call("sending dead letters again");
    for together in originals.chunks(TOGETHER) {
        for original in together {
            let letter = &original.letter;
            let place = format!("{}/{}/{}", letter.topic, letter.partition, letter.offset);
            let mut headers = OwnedHeaders::new();
            let own = original.headers.iter().filter(|(name, _)| name != REPLAYED);
            for (key, value) in own {
                let value = value.as_deref();
                headers = headers.insert(Header { key, value });
            }
            let value = Some(place.as_bytes());
            headers = headers.insert(Header {
                key: REPLAYED,
                value,
            });
            let mut record: BaseRecord<'_, [u8], [u8]> =
                BaseRecord::to(to.unwrap_or(&letter.topic)).headers(headers);
            record.key = original.key.as_deref();
            record.payload = original.value.as_deref();
            record.timestamp = original.timestamp;
            record.partition = to.is_none().then_some(letter.partition);
            if let Err((error, _)) = producer.send(record) {
                return Err(failed(error));
            }
        }
        let flushed = producer.flush(FLUSH_MAX);
        let undelivered = || producer.context().take_failure().map(|lost| lost.error);
        if let Some(error) = flushed.err().or_else(undelivered) {
            return Err(failed(error));
        }
    }
    Ok(())
}

/// The record of a letter: what was added to it is taken off.
fn original(message: &BorrowedMessage<'_>) -> Original {
    let mut headers: Vec<(String, Option<Vec<u8>>)> = message
        .headers()
        .iter()
        .flat_map(|headers| headers.iter())
        .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
        .collect();
    let omitted = headers.iter().any(|(name, _)| name == OMITTED);
    // Its own come first, and may look the same.
    let added = headers
        .iter()
        .rposition(|(name, _)| name.strip_prefix(PREFIX) == Some("topic"));
    let timestamp = headers
        .iter()
        .rfind(|(name, _)| name.strip_prefix(PREFIX) == Some("timestamp"))
        .and_then(|(_, value)| std::str::from_utf8(value.as_deref()?).ok()?.parse().ok());
    headers.truncate(added.unwrap_or(headers.len()));
    headers.retain(|(name, _)| name != OMITTED);
    Original {
        letter: letter(message),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
        timestamp,
        omitted,
    }
}

/// What headers do not say stays as the message has it: somebody else may write to the topic.
fn letter(message: &BorrowedMessage<'_>) -> Letter {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let header = |wanted: &str| {
        let all = message.headers()?;
        // A record that was somebody else's dead letter has such headers of its own, before ours.
        let found = all
            .iter()
            .filter(|header| header.key.strip_prefix(PREFIX) == Some(wanted))
            .last();
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
