//! What people and programs say of episodes, in a compacted topic: [`Statement`]s, keyed by the episode's id.
//!
//! Several detectors may share the topic, for ids begin with a detector's name; so must the key of a statement on maintenance, which is of no
//! episode. The latest of a key holds, and one without a value takes back what was said. One partition, so that all is in order. What cannot be
//! read is passed over and counted, and said once: whoever writes there must not be able to stop anything.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::KafkaFailure;
use super::context::PlainContext;
use super::settings::Connection;
use super::tokens::Authenticated;
use super::topic_reader::TopicReader;
use super::watchdog::Watchdog;
use crate::model::card::{Feedback, Maintenance, Said};
use crate::record::feedback::{Says, Statement};
use crate::stream::{Offset, Span, TopicPartition};
use crate::time::Clock;

/// How long a statement may take to be acknowledged.
const FLUSH_MAX: Duration = Duration::from_secs(30);

/// What is known of the topic, as far as it was read.
#[derive(Debug)]
pub(super) struct Tail {
    at: TopicPartition,
    next: Offset,
    heard: Heard,
}

/// What was said of one detector's episodes.
#[derive(Debug)]
pub(super) struct Heard {
    /// A detector's name and `/`.
    prefix: String,
    pub(super) said: Arc<Said>,
    /// By key.
    pub(super) maintenance: BTreeMap<String, Maintenance>,
    /// Records that could not be read.
    unreadable: u64,
}

impl Tail {
    /// Nothing has been read.
    pub(super) fn new(topic: &str, detector: &str) -> Self {
        Self {
            at: TopicPartition::new(topic, 0),
            next: Offset(0),
            heard: Heard::new(detector),
        }
    }

    /// What was said, as far as it was read.
    pub(super) fn heard(&self) -> &Heard {
        &self.heard
    }

    /// Reads what is new and decided; transactions that are still open are not waited for. Answers whether anything else was said.
    pub(super) fn look(&mut self, reader: &TopicReader) -> Result<bool, KafkaFailure> {
        if self.next == Offset(0) {
            one_partition(reader, &self.at.topic)?;
        }
        let (first, end) = reader.ends(&self.at)?;
        let mut news = false;
        if end < self.next {
            // The topic was made anew.
            news = self.heard.forget();
            self.next = Offset(0);
        }
        let span = Span {
            at: self.at.clone(),
            from: self.next.max(first),
            to: end,
        };
        let Self { heard, next, .. } = self;
        let mut visit = |message: &BorrowedMessage<'_>| {
            let offset = Offset(message.offset());
            news |= heard.take_in(offset, message.key(), message.payload());
            *next = offset.next();
            Ok(ControlFlow::Continue(()))
        };
        reader.read_spans(&[span], &mut visit)?;
        self.next = end;
        Ok(news)
    }
}

impl Heard {
    fn new(detector: &str) -> Self {
        Self {
            prefix: format!("{detector}/"),
            said: Arc::default(),
            maintenance: BTreeMap::new(),
            unreadable: 0,
        }
    }

    /// Forgets all that was said. Answers whether there was anything.
    fn forget(&mut self) -> bool {
        let anything = !(self.said.is_empty() && self.maintenance.is_empty());
        self.said = Arc::default();
        self.maintenance.clear();
        anything
    }

    /// Takes in a record. Answers whether something else was said by it than before.
    fn take_in(&mut self, offset: Offset, key: Option<&[u8]>, value: Option<&[u8]>) -> bool {
        let key = key.and_then(|key| std::str::from_utf8(key).ok());
        let key = key.unwrap_or_default();
        let statement = value.map(read).transpose();
        let before = self.of(key);
        match self.place(key, statement) {
            Ok(()) => {}
            Err(problem) => {
                self.unreadable += 1;
                tracing::warn!(%offset, key, problem, "a record of the feedback topic cannot be read: passed over");
            }
        }
        before != self.of(key)
    }

    /// What holds under a key.
    fn of(&self, key: &str) -> (Option<Feedback>, Option<Maintenance>) {
        let called = self.said.get(key).copied();
        (called, self.maintenance.get(key).cloned())
    }

    /// Lets a statement hold in the place of what was said under its key before. What another detector is told is passed over.
    fn place(
        &mut self,
        key: &str,
        statement: Result<Option<Statement>, String>,
    ) -> Result<(), String> {
        let ours = key.starts_with(&self.prefix);
        if ours {
            // As a reader finds it who comes after compaction: the latest record alone counts, whether it can be read or not.
            if self.said.contains_key(key) {
                Arc::make_mut(&mut self.said).remove(key);
            }
            self.maintenance.remove(key);
        }
        let statement = match statement {
            Ok(Some(statement)) => statement,
            Err(problem) if ours => return Err(problem),
            Ok(None) | Err(_) => return Ok(()),
        };
        match (Feedback::of(&statement.says), &statement.says) {
            (Some((id, _)), _) if id != key => {
                let of_ours = ours || id.as_str().starts_with(&self.prefix);
                let problem = || format!("its key is not the id of its episode, `{id}`");
                return if of_ours { Err(problem()) } else { Ok(()) };
            }
            (Some((id, Some(called))), _) if ours => {
                Arc::make_mut(&mut self.said).insert(id.clone(), called);
            }
            (None, Says::Maintenance { key: of, from, to }) if ours => {
                let maintenance = Maintenance {
                    key: of.clone(),
                    from: *from,
                    to: *to,
                };
                self.maintenance.insert(key.to_owned(), maintenance);
            }
            _ => {}
        }
        Ok(())
    }
}

fn read(value: &[u8]) -> Result<Statement, String> {
    let text = std::str::from_utf8(value).map_err(|error| error.to_string())?;
    Statement::read(text)
}

/// The topic must have one partition: with more, what was said last of an episode would not be known.
fn one_partition(reader: &TopicReader, topic: &str) -> Result<(), KafkaFailure> {
    match reader.partitions(topic)? {
        1 => Ok(()),
        partitions => Err(KafkaFailure::Divided {
            topic: topic.to_owned(),
            partitions,
        }),
    }
}

/// The topic, followed.
#[derive(Debug)]
pub struct FeedbackTopic {
    reader: TopicReader,
    tail: Tail,
}

impl FeedbackTopic {
    /// What is said of a detector's episodes in `topic`, of which nothing has been read.
    ///
    /// # Errors
    /// For settings that make no client.
    pub fn new(
        connection: &Connection,
        (topic, detector): (&str, &str),
        (clock, watchdog): (Arc<dyn Clock>, Watchdog),
    ) -> Result<Self, KafkaFailure> {
        Ok(Self {
            reader: TopicReader::new(connection, clock, watchdog)?,
            tail: Tail::new(topic, detector),
        })
    }

    /// Reads what is new. Answers whether anything else was said.
    ///
    /// # Errors
    /// Where Kafka cannot be asked, and where the topic is missing or has more than one partition.
    pub fn look(&mut self) -> Result<bool, KafkaFailure> {
        self.tail.look(&self.reader)
    }

    /// What was said of episodes, as far as it was read.
    #[must_use]
    pub fn said(&self) -> &Arc<Said> {
        &self.tail.heard.said
    }

    /// Records that could not be read so far.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.tail.heard.unreadable
    }
}

/// Writes what somebody said of an episode; without a statement, that nothing is said of it any more.
pub(super) fn say(
    (connection, reader): (&Connection, &TopicReader),
    topic: &str,
    (id, statement): (&str, Option<&Statement>),
) -> Result<(), KafkaFailure> {
    one_partition(reader, topic)?;
    let producer: Authenticated<BaseProducer<PlainContext>> =
        connection.client(&connection.idempotent(), PlainContext::default(), None)?;
    let value = statement.map(Statement::write);
    let mut record: BaseRecord<'_, str, str> = BaseRecord::to(topic).partition(0).key(id);
    record.payload = value.as_deref();
    let failed = KafkaFailure::call("writing feedback");
    if let Err((error, _)) = producer.send(record) {
        return Err(failed(error));
    }
    let flushed = producer.flush(FLUSH_MAX);
    let undelivered = || producer.context().take_failure().map(|lost| lost.error);
    match flushed.err().or_else(undelivered) {
        Some(error) => Err(failed(error)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "d/t/0/7";

    fn word(feedback: &str, id: &str) -> String {
        format!(r#"{{"feedback":"{feedback}","episode":"{id}"}}"#)
    }

    /// What is heard of records by key and value; after the last: whether anything else was said, what was, and what could not be read.
    fn hear(records: &[(&str, Option<&str>)]) -> (bool, Said, u64) {
        let mut heard = Heard::new("d");
        let mut news = false;
        for (offset, (key, value)) in (0..).zip(records) {
            let value = value.map(str::as_bytes);
            news = heard.take_in(Offset(offset), Some(key.as_bytes()), value);
        }
        (news, (*heard.said).clone(), heard.unreadable)
    }

    #[test]
    fn the_latest_of_a_key_holds() {
        let (nothing, fault) = (word("false_positive", ID), word("true_positive", ID));
        let called = |feedback| Said::from([(ID.into(), feedback)]);
        let one = (ID, Some(nothing.as_str()));
        let known = called(Feedback::FalsePositive);
        assert_eq!(hear(&[one]), (true, known.clone(), 0));
        assert_eq!(hear(&[one, one]), (false, known, 0));
        let found = hear(&[one, (ID, Some(&fault))]);
        assert_eq!(found, (true, called(Feedback::TruePositive), 0));
        for back in [None, Some(word("undo", ID))] {
            let back = (ID, back.as_deref());
            assert_eq!(hear(&[one, back]), (true, Said::new(), 0));
            assert_eq!(hear(&[back]), (false, Said::new(), 0));
        }
        // As after compaction, which leaves the latest only.
        assert_eq!(hear(&[one, (ID, Some("rubbish"))]), (true, Said::new(), 1));
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_what_others_are_told_is_not() {
        let ours = word("undo", ID);
        for (key, value, unreadable) in [
            (ID, "rubbish", 1),
            (ID, "{}", 1),
            // A wrong key would never be taken back.
            ("pump 7", &*ours, 1),
            ("d/t/0/8", &ours, 1),
            ("e/t/0/7", "rubbish", 0),
            ("e/t/0/7", &word("undo", "e/t/0/7"), 0),
            ("dd/t/0/7", &word("false_positive", "dd/t/0/7"), 0),
            ("x", &word("false_positive", "y"), 0),
        ] {
            let found = hear(&[(key, Some(value))]);
            assert_eq!(found, (false, Said::new(), unreadable), "{key} {value}");
        }
        let mut heard = Heard::new("d");
        assert!(!heard.take_in(Offset(0), None, Some(ours.as_bytes())));
        assert!(!heard.take_in(Offset(1), Some(b"\xff"), Some(b"\xff")));
        assert!(!heard.take_in(Offset(2), Some(ID.as_bytes()), Some(b"\xff")));
        assert_eq!(heard.unreadable, 2);
    }

    #[test]
    fn maintenance_is_kept_by_its_key_until_it_is_taken_back() {
        let mut heard = Heard::new("d");
        let text = r#"{"feedback":"maintenance","from":"1970-01-01T00:00:01Z","to":"1970-01-01T00:00:02Z"}"#;
        let mut told = |key: &str, value: Option<&str>| {
            heard.take_in(Offset(0), Some(key.as_bytes()), value.map(str::as_bytes))
        };
        assert!(told("d/oil", Some(text)) && !told("d/oil", Some(text)));
        assert!(!told("e/oil", Some(text)));
        let from: Vec<i64> = heard.maintenance.values().map(|m| m.from.0).collect();
        assert_eq!(from, [1000]);
        assert!(heard.take_in(Offset(1), Some(b"d/oil"), None));
        assert!(heard.maintenance.is_empty() && !heard.forget());
    }
}
