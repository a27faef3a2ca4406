//! The log as training reads it: by place and time, outside the group, only what is committed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::message::Message as _;

use super::KafkaFailure;
use super::feedback::{self, Tail};
use super::fetch::{headers, timestamp};
use super::restore::{self, StateTopic};
use super::schemas::SchemaSource;
use super::settings::Connection;
use super::topic_reader::{TopicReader, nothing};
use super::watchdog::Watchdog;
use crate::model::card::{Feedback, Said};
use crate::pipeline::{self, EpisodeRecord, StateEntry};
use crate::port::{History, Quarantine, Ranges};
use crate::record::RecordBatch;
use crate::record::feedback::Statement;
use crate::stream::{Offset, Span, TopicPartition};
use crate::time::{Clock, Timestamp};

/// What is read, for which detector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryTopics {
    /// The detector's name: the state topic may hold several.
    pub detector: String,
    /// The input.
    pub inputs: Vec<String>,
    /// The state topic, for the quarantine.
    pub state: String,
    /// The topic of what people say of episodes.
    pub feedback: String,
}

/// [`History`] over the input and state topics.
#[derive(Debug)]
pub struct KafkaHistory {
    reader: TopicReader,
    topics: HistoryTopics,
    feedback: Tail,
    schemas: Option<SchemaSource>,
    clock: Arc<dyn Clock>,
    watchdog: Watchdog,
}

impl KafkaHistory {
    /// Connects lazily: this fails only for settings that make no client.
    pub fn new(
        connection: &Connection,
        topics: HistoryTopics,
        (clock, watchdog): (Arc<dyn Clock>, Watchdog),
    ) -> Result<Self, KafkaFailure> {
        Ok(Self {
            reader: TopicReader::new(connection, Arc::clone(&clock), watchdog.clone())?,
            clock,
            schemas: connection.schemas.clone(),
            watchdog,
            feedback: Tail::new(&topics.feedback, &topics.detector),
            topics,
        })
    }

    /// All partitions of the input.
    pub fn partitions(&self) -> Result<Vec<TopicPartition>, KafkaFailure> {
        let mut all = Vec::new();
        for topic in &self.topics.inputs {
            let count = self.reader.partitions(topic)?;
            all.extend((0..count).map(|number| TopicPartition::new(topic, number)));
        }
        Ok(all)
    }

    /// The newest records of each partition, at most `each`: what `auto` features are taken from.
    pub fn newest(&mut self, each: i64) -> Result<RecordBatch, KafkaFailure> {
        let mut batch = RecordBatch::default();
        for at in self.partitions()? {
            let (first, end) = self.reader.ends(&at)?;
            let from = Offset(first.0.max(end.0 - each));
            let span = Span { at, from, to: end };
            self.read_into(&span, &mut batch)?;
        }
        Ok(batch)
    }

    /// The newest messages of each partition, at most `each` offsets of it, with the schemas that they were written by.
    ///
    /// # Errors
    /// Where Kafka or the registry cannot be asked.
    pub fn sample(&mut self, each: i64) -> Result<RecordBatch, KafkaFailure> {
        let mut batch = RecordBatch::default();
        for topic in &self.topics.inputs {
            let spans = self.reader.last(topic, each)?;
            self.reader.read_spans(&spans, &mut |message| {
                let at = TopicPartition::new(topic, message.partition());
                let place = (Offset(message.offset()), timestamp(message));
                let (key, value) = (message.key(), message.payload());
                batch.push(&at, place, key, value, headers(message));
                Ok(ControlFlow::Continue(()))
            })?;
        }
        if let Some(schemas) = &self.schemas {
            schemas.complete(&mut batch, &self.watchdog, &mut nothing)?;
        }
        Ok(batch)
    }

    fn read_into(&self, span: &Span, batch: &mut RecordBatch) -> Result<(), KafkaFailure> {
        self.reader
            .read_spans(std::slice::from_ref(span), &mut |message| {
                let place = (Offset(message.offset()), timestamp(message));
                let (key, value) = (message.key(), message.payload());
                batch.push(&span.at, place, key, value, headers(message));
                Ok(ControlFlow::Continue(()))
            })
    }

    /// The first offset of a partition, and the end of what is decided.
    pub fn ends(&self, at: &TopicPartition) -> Result<(Offset, Offset), KafkaFailure> {
        self.reader.ends(at)
    }

    /// The records of a span, in offset order, if they have at most `bytes` and are read by `until`, a time of the monotonic clock; `None` if not.
    pub fn read_within(
        &mut self,
        span: &Span,
        bytes: usize,
        until: Duration,
    ) -> Result<Option<RecordBatch>, KafkaFailure> {
        let (mut batch, mut whole) = (RecordBatch::default(), true);
        self.reader
            .read_spans(std::slice::from_ref(span), &mut |message| {
                let place = (Offset(message.offset()), timestamp(message));
                let (key, value) = (message.key(), message.payload());
                batch.push(&span.at, place, key, value, headers(message));
                whole = batch.bytes_len() <= bytes && self.clock.monotonic() < until;
                Ok(if whole {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            })?;
        if !whole {
            return Ok(None);
        }
        if let Some(schemas) = &self.schemas {
            schemas.complete(&mut batch, &self.watchdog, &mut nothing)?;
        }
        Ok(Some(batch))
    }

    /// The first record of a span: its offset and time.
    fn probe(&self, span: &Span) -> Result<Option<(Offset, Timestamp)>, KafkaFailure> {
        let mut found = None;
        self.reader
            .read_spans(std::slice::from_ref(span), &mut |message| {
                found = Some((Offset(message.offset()), timestamp(message)));
                Ok(ControlFlow::Break(()))
            })?;
        Ok(found)
    }

    /// Where records since `since` begin: by the broker's time index, or, where it has none, by bisection over record timestamps.
    fn starts(
        &self,
        partitions: &[TopicPartition],
        since: Timestamp,
    ) -> Result<BTreeMap<TopicPartition, Option<Offset>>, KafkaFailure> {
        let found = match self.reader.offsets_at(partitions, since) {
            Ok(found) => found,
            Err(error) => {
                tracing::info!(%error, "the broker does not look up offsets by time: bisecting by record timestamps");
                BTreeMap::new()
            }
        };
        let mut starts = BTreeMap::new();
        for at in partitions {
            // A broker that cannot look up by time may also say that there is nothing, without an error: ask the records.
            let start = match found.get(at).copied().flatten() {
                Some(start) => Some(start),
                None => self.bisected(at, since)?,
            };
            starts.insert(at.clone(), start);
        }
        Ok(starts)
    }

    /// Where records of one partition since `since` begin, by their own timestamps.
    fn bisected(
        &self,
        at: &TopicPartition,
        since: Timestamp,
    ) -> Result<Option<Offset>, KafkaFailure> {
        let (first, end) = self.reader.ends(at)?;
        let probe = |from| {
            self.probe(&Span {
                at: at.clone(),
                from,
                to: end,
            })
        };
        search(first, end, since, &mut |from| probe(from))
    }

    /// The episodes that the state topic remembers, by when they began.
    pub fn episodes(&mut self) -> Result<Vec<EpisodeRecord>, KafkaFailure> {
        let said = self.said()?;
        let mut episodes = pipeline::episode_log(&self.state()?, &said);
        episodes.sort_by(|a, b| (a.from_time, &a.exclusion).cmp(&(b.from_time, &b.exclusion)));
        Ok(episodes)
    }

    /// What somebody said of episodes and suspects.
    pub fn said(&mut self) -> Result<Arc<Said>, KafkaFailure> {
        self.feedback.look(&self.reader)?;
        Ok(Arc::clone(&self.feedback.heard().said))
    }

    /// Says at a time what the episode of this id was, or without `called` takes back what was said: workers hear it at once, training with its
    /// next run.
    pub fn say(
        &self,
        connection: &Connection,
        (id, called): (&str, Option<Feedback>),
        at: Timestamp,
    ) -> Result<(), KafkaFailure> {
        let statement = called.map(|called| Statement {
            says: called.says(id.into()),
            at: Some(at),
        });
        let outside = (connection, &self.reader);
        feedback::say(outside, &self.topics.feedback, (id, statement.as_ref()))
    }

    /// The detector's entries of the state topic, latest per key.
    fn state(&self) -> Result<Vec<StateEntry>, KafkaFailure> {
        let topic = StateTopic {
            name: &self.topics.state,
            partitions: self.reader.partitions(&self.topics.state)?,
            detector: &self.topics.detector,
        };
        restore::latest(
            &self.reader,
            &topic,
            0..topic.partitions,
            |_| true,
            &mut nothing,
        )
    }
}

impl History for KafkaHistory {
    type Error = KafkaFailure;

    fn available(&mut self, since: Timestamp) -> Result<Vec<Span>, KafkaFailure> {
        let partitions = self.partitions()?;
        let committed = self.reader.group_offsets(&partitions)?;
        let starts = self.starts(&partitions, since)?;
        let mut spans = Vec::new();
        for at in partitions {
            let from = starts.get(&at).copied().flatten();
            let to = committed.get(&at).copied().flatten();
            if let (Some(from), Some(to)) = (from, to) {
                let (first, _) = self.reader.ends(&at)?;
                let from = from.max(first);
                if from < to {
                    spans.push(Span { at, from, to });
                }
            }
        }
        Ok(spans)
    }

    fn read(&mut self, span: &Span) -> Result<RecordBatch, KafkaFailure> {
        let mut batch = RecordBatch::default();
        self.read_into(span, &mut batch)?;
        if let Some(schemas) = &self.schemas {
            schemas.complete(&mut batch, &self.watchdog, &mut nothing)?;
        }
        Ok(batch)
    }

    fn quarantine(&mut self) -> Result<Quarantine, KafkaFailure> {
        let said = self.said()?;
        let mut exclusions = pipeline::quarantine(&self.state()?, &said);
        exclusions.sort();
        let maintenance = self.feedback.heard().maintenance.values();
        Ok(Quarantine {
            exclusions,
            maintenance: maintenance.cloned().collect(),
            feedback: Arc::unwrap_or_clone(said),
        })
    }
}

impl Ranges for KafkaHistory {
    fn between(
        &mut self,
        from: Timestamp,
        to: Option<Timestamp>,
    ) -> Result<Vec<Span>, KafkaFailure> {
        let partitions = self.partitions()?;
        let starts = self.starts(&partitions, from)?;
        let ends = match to {
            Some(to) => self.starts(&partitions, to)?,
            None => BTreeMap::new(),
        };
        let mut spans = Vec::new();
        for at in partitions {
            let (first, end) = self.reader.ends(&at)?;
            let Some(from) = starts.get(&at).copied().flatten() else {
                continue;
            };
            // No record is as late as `to`: all that there are come before.
            let to = ends.get(&at).copied().flatten().unwrap_or(end).min(end);
            let from = from.max(first);
            if from < to {
                spans.push(Span { at, from, to });
            }
        }
        Ok(spans)
    }
}

/// As [`bisect`], but asks the newest record first: often all are older. What lies last may be no record but a transaction's marker, so the
/// newest record is looked for backwards, in growing steps.
fn search<E>(
    first: Offset,
    end: Offset,
    since: Timestamp,
    probe: &mut dyn FnMut(Offset) -> Result<Option<(Offset, Timestamp)>, E>,
) -> Result<Option<Offset>, E> {
    if end <= first {
        return Ok(None);
    }
    let mut step = 1;
    loop {
        let from = Offset((end.0 - step).max(first.0));
        match probe(from)? {
            // Between this one and the end there may be more, if the step was more than one.
            Some((at, time)) if time < since => return bisect(at.next(), end, since, probe),
            Some(_) => return bisect(first, end, since, probe),
            None if from == first => return Ok(None),
            None => step *= 2,
        }
    }
}

/// The first offset in `first..end` whose record is not older than `since`; `None` if all are older. `probe` answers the first record
/// at or after an offset. Assumes that timestamps do not fall, as they do not for log-append time and nearly do not otherwise.
fn bisect<E>(
    first: Offset,
    end: Offset,
    since: Timestamp,
    probe: &mut dyn FnMut(Offset) -> Result<Option<(Offset, Timestamp)>, E>,
) -> Result<Option<Offset>, E> {
    let (mut low, mut high) = (first.0, end.0);
    let mut found = None;
    while low < high {
        let middle = low + (high - low) / 2;
        match probe(Offset(middle))? {
            Some((at, time)) if time < since => low = at.0 + 1,
            Some((at, _)) => {
                found = Some(at);
                high = middle;
            }
            None => high = middle,
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bisection_finds_the_first_record_that_is_young_enough() {
        // Offset 10·i at time i: a log with gaps, as transactions and compaction leave them.
        let records: Vec<(i64, i64)> = (0..20).map(|i| (10 * i, i)).collect();
        let mut probes = 0;
        let mut find = |since| {
            bisect::<()>(Offset(0), Offset(195), Timestamp(since), &mut |from| {
                probes += 1;
                let found = records.iter().find(|(offset, _)| from.0 <= *offset);
                Ok(found.map(|&(offset, time)| (Offset(offset), Timestamp(time))))
            })
            .unwrap()
        };
        assert_eq!(find(7), Some(Offset(70)));
        assert_eq!(find(0), Some(Offset(0)));
        assert_eq!(find(19), Some(Offset(190)));
        assert_eq!(find(20), None);
        assert!(probes < 40, "{probes}");
    }

    #[test]
    fn what_lies_after_the_last_record_hides_no_record() {
        // Two records, then markers of transactions, which no reader sees.
        let records = [(0, 1), (2, 5)];
        for end in 3..12 {
            let mut probes = 0;
            let mut find = |since| {
                search::<()>(Offset(0), Offset(end), Timestamp(since), &mut |from| {
                    probes += 1;
                    let found = records.iter().find(|(offset, _)| from.0 <= *offset);
                    Ok(found.map(|&(offset, time)| (Offset(offset), Timestamp(time))))
                })
                .unwrap()
            };
            let found = [0, 1, 2, 5, 6].map(&mut find);
            let [first, last] = [Some(Offset(0)), Some(Offset(2))];
            assert_eq!(found, [first, first, last, last, None], "end {end}");
            assert!(probes < 50, "{probes}");
        }
        let empty = search::<()>(Offset(4), Offset(4), Timestamp(0), &mut |_| Ok(None));
        assert_eq!(empty, Ok(None));
        let only_markers = search::<()>(Offset(4), Offset(9), Timestamp(0), &mut |_| Ok(None));
        assert_eq!(only_markers, Ok(None));
    }
}
