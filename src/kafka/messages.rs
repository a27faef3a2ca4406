//! An [`Outbox`] as records of a producer, and what becomes of records that are too large.
//!
//! A broker refuses a batch of records above the topic's `max.message.bytes`. The limit is asked for only after a refusal: then the
//! producer is made again with batches that fit, and where a dead letter alone does not fit its value is left out, and at last its headers; so
//! one huge record of the input cannot block its partition. Nothing may be left out of alerts, scores and state: there the process ends
//! and says which topic needs a higher limit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header as RawHeader, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord};

use super::busy_wait::{BusyWait, POLL_STEP};
use super::context::PlainContext;
use super::encode::{Encode, Message};
use super::error_class::{Failed, classify_send, too_large};
use super::forms::Form;
use super::topics::{OutputTopics, state_partition};
use super::watchdog::Watchdog;
use super::{CALL_MAX, KafkaFailure, code};
use crate::pipeline::{Outbox, StateEntry};
use crate::record::dead_letter::DeadLetter;
use crate::time::Clock;

/// The header of a dead letter whose value was too large even for the dead-letter topic, and was left out.
pub(super) const TRUNCATED: &str = "anomalyd.value.omitted";

/// What a batch of one record has beside the record's parts, at most.
const FRAME: usize = 128;
/// What a header has beside its name and value, at most.
const HEADER_FRAME: usize = 10;

/// A topic's limit where it cannot be asked for: Kafka's default.
const DEFAULT_MAX: usize = 1_048_588;

/// A topic that takes less than this takes nothing.
const LEAST_MAX: usize = 512;

/// What topics take at most, as far as brokers have refused more.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    limits: BTreeMap<String, usize>,
    /// Whether what does not fit is left out: only of a batch that was refused.
    omit: bool,
}

impl Sizes {
    /// Everything fits again: the batch that did not is published.
    pub(super) fn fit(&mut self) {
        self.omit = false;
    }

    /// A topic refused a record or a batch: answers what it is taken to accept from now on, or that it cannot go on.
    pub(super) fn refused(
        &mut self,
        topic: &str,
        outbox: &Outbox,
        topics: &OutputTopics,
        ask: impl FnOnce() -> Option<usize>,
    ) -> Result<usize, KafkaFailure> {
        let known = self.limits.get(topic).copied();
        let lossy = topic == topics.dead_letters || topics.late.as_deref() == Some(topic);
        let asked = ask();
        let limit = match (known, asked) {
            (None, Some(asked)) => asked,
            (Some(known), Some(asked)) if asked < known => asked,
            // It refuses although all that is sent fits, as far as we know.
            (Some(known), _) if lossy => known / 2,
            (None, None) => DEFAULT_MAX / 2,
            (Some(_), _) => 0,
        };
        if limit < LEAST_MAX {
            return Err(KafkaFailure::TooLarge {
                topic: topic.to_owned(),
                bytes: largest(topic, outbox, topics),
            });
        }
        self.limits.insert(topic.to_owned(), limit);
        self.omit = true;
        Ok(limit)
    }

    /// Lets a producer send together only what the narrowest topic takes together.
    pub(super) fn bound(&self, config: &mut ClientConfig) {
        if let Some(least) = self.limits.values().min() {
            config.set("batch.size", least.to_string());
        }
    }

    /// What a topic takes at most, where something must be left out to fit.
    fn limit(&self, topic: &str) -> Option<usize> {
        self.limits.get(topic).copied().filter(|_| self.omit)
    }
}

/// The size of the largest record of an outbox that goes to `topic`.
fn largest(topic: &str, outbox: &Outbox, topics: &OutputTopics) -> usize {
    let state = outbox
        .state
        .iter()
        .filter(|_| topic == topics.state)
        .map(|entry| entry.key.len() + entry.value.as_ref().map_or(0, Vec::len));
    routes(outbox, topics)
        .filter(|route| route.topic == topic)
        .flat_map(|route| {
            let form = route.form;
            let items = route.items.into_iter();
            items.map(move |item| size(&item.encode(form)))
        })
        .chain(state)
        .max()
        .unwrap_or(0)
}

/// A record's size in the log, uncompressed, at most.
fn size(message: &Message<'_>) -> usize {
    let key = message.key.map_or(0, <[u8]>::len);
    FRAME + key + value_size(message) + headers_size(message)
}

fn value_size(message: &Message<'_>) -> usize {
    message.value.as_deref().map_or(0, <[u8]>::len)
}

fn headers_size(message: &Message<'_>) -> usize {
    message
        .headers
        .iter()
        .map(|header| {
            HEADER_FRAME + header.name.len() + header.value.as_ref().map_or(0, |value| value.len())
        })
        .sum()
}

/// What of a message is sent: as much as fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SentParts {
    key: bool,
    headers: bool,
    value: bool,
}

impl SentParts {
    /// Leaves out the value, then the headers, then the key, until what is left fits, a header that says so included.
    fn within(limit: Option<usize>, message: &Message<'_>) -> Self {
        let limit = limit.unwrap_or(usize::MAX);
        let all = size(message);
        let value = all <= limit;
        let without = all - value_size(message) + HEADER_FRAME + TRUNCATED.len() + 20;
        let headers = value || without <= limit;
        let key = headers || without - headers_size(message) <= limit;
        Self {
            key,
            headers,
            value,
        }
    }
}

/// What goes to a topic.
struct Route<'a> {
    topic: &'a str,
    /// Of what does not fit something may be left out.
    lossy: bool,
    form: Form,
    items: Vec<&'a dyn Encode>,
}

impl<'a> Route<'a> {
    /// What is emitted, in the form of its topic.
    fn new<T: Encode>(topic: &'a str, form: Form, items: &'a [T]) -> Self {
        Self {
            topic,
            lossy: false,
            form,
            items: items.iter().map(|item| item as &dyn Encode).collect(),
        }
    }

    /// Records of the input that are sent on.
    fn as_it_came(topic: &'a str, items: &'a [DeadLetter]) -> Self {
        Self {
            lossy: true,
            ..Self::new(topic, Form::Json, items)
        }
    }
}

/// Which part of an outbox goes to which topic.
fn routes<'a>(outbox: &'a Outbox, topics: &'a OutputTopics) -> impl Iterator<Item = Route<'a>> {
    let scores = topics.scores.as_deref();
    let late = topics.late.as_ref().unwrap_or(&topics.dead_letters);
    let drift = topics.drift.as_deref();
    let forms = topics.forms;
    let optional = [
        scores.map(|topic| Route::new(topic, forms.scores, &outbox.scores)),
        drift.map(|topic| Route::new(topic, forms.drift, &outbox.drift)),
    ];
    optional.into_iter().flatten().chain([
        Route::new(&topics.alerts, forms.alerts, &outbox.alerts),
        Route::as_it_came(&topics.dead_letters, &outbox.dead_letters),
        Route::as_it_came(late, &outbox.late),
    ])
}

/// The topics that an outbox is written to.
pub(super) fn written(outbox: &Outbox, topics: &OutputTopics) -> String {
    let state = (!outbox.state.is_empty()).then_some(&*topics.state);
    let names: BTreeSet<&str> = routes(outbox, topics)
        .filter(|route| !route.items.is_empty())
        .map(|route| route.topic)
        .chain(state)
        .collect();
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// One outbox on its way into a producer.
pub(super) struct Sending<'a> {
    pub(super) producer: &'a BaseProducer<PlainContext>,
    pub(super) topics: &'a OutputTopics,
    pub(super) state_partitions: i32,
    pub(super) sizes: &'a Sizes,
    pub(super) clock: &'a dyn Clock,
    pub(super) watchdog: &'a Watchdog,
}

impl Sending<'_> {
    pub(super) fn all(&self, outbox: &Outbox) -> Result<(), Failed> {
        for route in routes(outbox, self.topics) {
            for item in route.items {
                self.message(route.topic, route.lossy, &item.encode(route.form))?;
            }
        }
        for entry in &outbox.state {
            self.state(entry)?;
        }
        Ok(())
    }

    /// Sends a message, of which something may be left out if it is `lossy`. Its timestamp is that of sending: a broker may refuse old ones
    /// (`message.timestamp.before.max.ms`), and retention would delete at once what is told of an old record.
    fn message(&self, topic: &str, lossy: bool, message: &Message<'_>) -> Result<(), Failed> {
        let value = message.value.as_deref();
        let limit = self.sizes.limit(topic).filter(|_| lossy);
        let SentParts {
            key,
            headers,
            value: whole,
        } = SentParts::within(limit, message);
        let (bare, omit) = (!headers, !whole);
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
        record.key = message.key.filter(|_| key);
        record.payload = if omit { None } else { value };
        if omit || !message.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(message.headers.len() + 1);
            for header in message.headers.iter().filter(|_| !bare) {
                headers = headers.insert(RawHeader {
                    key: &header.name,
                    value: header.value.as_deref(),
                });
            }
            if omit {
                let length = value.map_or(0, <[u8]>::len).to_string();
                headers = headers.insert(RawHeader {
                    key: TRUNCATED,
                    value: Some(&length),
                });
            }
            record = record.headers(headers);
        }
        self.send(record)
    }

    fn state(&self, entry: &StateEntry) -> Result<(), Failed> {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topics.state)
            .partition(state_partition(&entry.at, self.state_partitions))
            .key(&entry.key);
        record.payload = entry.value.as_deref();
        self.send(record)
    }

    /// Hands one record to librdkafka, making room in its queue when it is full.
    fn send(&self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<(), Failed> {
        let deadline = self.clock.monotonic() + CALL_MAX;
        let mut wait = BusyWait::default();
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, back))
                    if code(&error) == Some(RDKafkaErrorCode::QueueFull)
                        && self.clock.monotonic() < deadline =>
                {
                    record = back;
                    wait.check(self.watchdog)?;
                    self.producer.poll(Duration::ZERO);
                    std::thread::park_timeout(POLL_STEP);
                }
                Err((error, back)) if too_large(&error) => {
                    return Err(Failed::TooLarge {
                        topic: back.topic.to_owned(),
                        error,
                    });
                }
                Err((error, _)) => return Err(classify_send(error)),
            }
        }
    }
}
