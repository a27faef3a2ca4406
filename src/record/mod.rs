//! Records: from the bytes of a Kafka message to a row of numbers.
//!
//! Pure: no I/O, no clock. What cannot be read is a [`DecodeError`], which becomes a dead letter; never a panic, never a silent drop.
//! Next: `schema` (which fields are features), `envelope` and `event` (what is around a record), `calendar` (the hour as context), `decode` (bytes into rows), `json` (by serde_json), `nonfinite` (numbers that JSON has not), `json_template` (by the learnt bytes between
//! the values, much faster, same results), `csv`, `floats`, `avro` and `protobuf` (by schemas that `avro_schema` and `protobuf_schema` read, which `wire` finds the ids of), `dead_letter` and `limit` (what becomes of the rest).

pub mod auto;
pub mod avro;
mod avro_logical;
pub mod avro_schema;
pub mod avro_tree;
pub mod calendar;
mod csv;
pub mod csv_spec;
pub mod dead_letter;
pub mod decode;
pub mod envelope;
pub mod event;
pub mod feedback;
mod fields;
mod floats;
mod json;
mod json_template;
pub mod limit;
pub mod nonfinite;
pub(crate) mod number;
pub mod problem;
mod protobuf;
mod protobuf_bind;
mod protobuf_row;
pub mod protobuf_schema;
pub mod protobuf_tree;
pub mod protobuf_wire;
mod remembered;
mod row;
pub mod schema;
pub mod timestamp;
pub mod tree;
mod varint;
pub mod whole;
pub mod wire;
pub mod writers;

use std::borrow::Borrow;
use std::ops::Range;
use std::sync::Arc;

use crate::stream::{Offset, TopicPartition};
use crate::time::Timestamp;

/// What a record belongs to: a machine, a sensor, a meter. Bytes that are not UTF-8 are written in hexadecimal after `0x`.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Key(pub Arc<str>);

impl Key {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What people are shown of it: the empty one, of records without a key, in a word.
    #[must_use]
    pub fn shown(&self) -> &str {
        if self.0.is_empty() {
            "(empty)"
        } else {
            &self.0
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A header of a Kafka message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name; Kafka allows duplicates.
    pub name: Box<str>,
    /// The value; `None` is Kafka's null.
    pub value: Option<Box<[u8]>>,
}

/// One message as it came, its bytes lying in the batch's arena.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRecord {
    /// Which of the batch's sources it came from.
    pub source: usize,
    /// Its own offset.
    pub offset: Offset,
    /// Kafka's timestamp.
    pub timestamp: Timestamp,
    /// Where its key lies in the arena.
    pub key: Option<Range<usize>>,
    /// Where its value lies in the arena; `None` is a tombstone.
    pub value: Option<Range<usize>>,
    /// Its headers, kept for the dead-letter topic.
    pub headers: Vec<Header>,
}

/// Messages of one poll, in the order in which they came; those of one partition are in offset order.
///
/// One arena for all bytes: a batch costs a few allocations, not a few per record, and is cleared and used again.
#[derive(Clone, Debug, Default)]
pub struct RecordBatch {
    sources: Vec<TopicPartition>,
    bytes: Vec<u8>,
    records: Vec<RawRecord>,
    header_bytes: usize,
    writers: Option<Arc<writers::Writers>>,
}

impl RecordBatch {
    /// Says what is known of the schemas that its records were written by. Whoever makes a batch looks them up, for reading it is to depend on nothing else.
    pub fn set_writers(&mut self, writers: Arc<writers::Writers>) {
        self.writers = Some(writers);
    }

    /// What is known of the schemas that its records were written by.
    pub fn writers(&self) -> Option<&Arc<writers::Writers>> {
        self.writers.as_ref()
    }

    /// Adds a message.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of a message, as Kafka has them"
    )]
    pub fn push(
        &mut self,
        at: &TopicPartition,
        place: (Offset, Timestamp),
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Vec<Header>,
    ) {
        let (offset, timestamp) = place;
        let source = self.source(at);
        self.push_from((source, offset, timestamp), key, value, headers);
    }

    /// The number of a source, for [`Self::push_from`].
    pub fn source(&mut self, at: &TopicPartition) -> usize {
        // The last source is nearly always the same one: Kafka hands out runs of a partition.
        let found = self.sources.iter().rposition(|source| source == at);
        found.unwrap_or_else(|| {
            self.sources.push(at.clone());
            self.sources.len() - 1
        })
    }

    /// Adds a message of a source whose number is known, with its offset and Kafka's timestamp.
    pub fn push_from(
        &mut self,
        (source, offset, timestamp): (usize, Offset, Timestamp),
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Vec<Header>,
    ) {
        let key = key.map(|bytes| self.store(bytes));
        let value = value.map(|bytes| self.store(bytes));
        self.header_bytes += headers
            .iter()
            .map(|header| header.name.len() + header.value.as_ref().map_or(0, |value| value.len()))
            .sum::<usize>();
        self.records.push(RawRecord {
            source,
            offset,
            timestamp,
            key,
            value,
            headers,
        });
    }

    fn store(&mut self, bytes: &[u8]) -> Range<usize> {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        from..self.bytes.len()
    }

    /// The messages.
    pub fn records(&self) -> &[RawRecord] {
        &self.records
    }

    /// The partitions that the messages came from; [`RawRecord::source`] counts in it.
    pub fn sources(&self) -> &[TopicPartition] {
        &self.sources
    }

    /// The key of `record`, as it came.
    pub fn key(&self, record: &RawRecord) -> Option<&[u8]> {
        record.key.clone().map(|range| &self.bytes[range])
    }

    /// The value of `record`, as it came.
    pub fn value(&self, record: &RawRecord) -> Option<&[u8]> {
        record.value.clone().map(|range| &self.bytes[range])
    }

    /// Bytes of keys, values and headers held.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len() + self.header_bytes
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Forgets the messages and keeps the memory.
    pub fn clear(&mut self) {
        self.sources.clear();
        self.bytes.clear();
        self.records.clear();
        self.header_bytes = 0;
        self.writers = None;
    }
}

/// What is known of a record that could be read; its numbers are its row in [`DecodedBatch::values`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// What it belongs to.
    pub key: Key,
    /// When it happened: event time.
    pub time: Timestamp,
}

/// A batch after decoding: `values` is `len × columns`, row-major, NaN where a feature was not observed.
#[derive(Clone, Debug, Default)]
pub struct DecodedBatch {
    /// D, the number of feature columns.
    pub columns: usize,
    /// One row of D numbers a record, finite or NaN (missing, under a policy other than `dead_letter`); rows of failed records are NaN.
    pub values: Vec<f64>,
    /// One outcome a record, in the batch's order.
    pub outcomes: Vec<Result<Decoded, DecodeError>>,
}

impl DecodedBatch {
    /// The row of record `index`.
    pub fn row(&self, index: usize) -> &[f64] {
        &self.values[index * self.columns..(index + 1) * self.columns]
    }
}

/// Why a record cannot be read. It becomes a dead letter with this as its reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The value is null: a tombstone says nothing to score.
    #[error("value is null")]
    NullValue,
    /// The value is not what its format asks for: one JSON object in UTF-8, a line of CSV, Avro or Protobuf by its schema.
    #[error("{0}")]
    Syntax(String),
    /// A field that must be there is not, or has an unusable value.
    #[error("field `{field}`: {problem}")]
    Field {
        /// The field's path.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The value of a format of fixed length has another length.
    #[error("value has {bytes} bytes, but must have {expected}")]
    Length {
        /// How many it has.
        bytes: usize,
        /// How many it must have.
        expected: usize,
    },
    /// The key is longer than is allowed: it would be in the state, and twice in each alert and score.
    #[error("the key has {bytes} bytes, but at most {max} are allowed")]
    KeyLength {
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        max: usize,
    },
    /// None of the features has a value.
    #[error("none of the {columns} features was observed")]
    NothingObserved {
        /// How many feature columns there are.
        columns: usize,
    },
}

impl DecodeError {
    /// All that [`Self::reason`] says.
    pub const REASONS: [&str; 6] = [
        "null_value",
        "syntax",
        "field",
        "length",
        "key_length",
        "nothing_observed",
    ];

    /// A short name of the kind of failure: the label of the metric, so of low cardinality.
    pub fn reason(&self) -> &'static str {
        let [
            null_value,
            syntax,
            field,
            length,
            key_length,
            nothing_observed,
        ] = Self::REASONS;
        match self {
            Self::NullValue => null_value,
            Self::Syntax(_) => syntax,
            Self::Field { .. } => field,
            Self::Length { .. } => length,
            Self::KeyLength { .. } => key_length,
            Self::NothingObserved { .. } => nothing_observed,
        }
    }
}

/// What to do with a feature that is absent, null, not finite or out of range. Written `"mask"`, `"last"`, `"dead_letter"`, or a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(from = "MissingText", into = "MissingText")]
pub enum Missing {
    /// Score the record by the features that were observed.
    #[default]
    Mask,
    /// Take the last value that this key had.
    Last,
    /// Take this number.
    Constant(f64),
    /// Send the record to the dead-letter topic.
    DeadLetter,
}

/// The columns of those with these policies that take a key's last value where one is missing.
#[must_use]
pub fn filled_with_last(missing: &[Missing]) -> Vec<usize> {
    (0..missing.len())
        .filter(|&column| missing[column] == Missing::Last)
        .collect()
}

/// [`Missing`] as it is written in settings.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(
    untagged,
    expecting = "\"mask\", \"last\", \"dead_letter\" or a number"
)]
enum MissingText {
    Word(MissingWord),
    Constant(f64),
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum MissingWord {
    Mask,
    Last,
    DeadLetter,
}

impl From<MissingText> for Missing {
    fn from(text: MissingText) -> Self {
        match text {
            MissingText::Word(MissingWord::Mask) => Self::Mask,
            MissingText::Word(MissingWord::Last) => Self::Last,
            MissingText::Word(MissingWord::DeadLetter) => Self::DeadLetter,
            MissingText::Constant(value) => Self::Constant(value),
        }
    }
}

impl From<Missing> for MissingText {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Mask => Self::Word(MissingWord::Mask),
            Missing::Last => Self::Word(MissingWord::Last),
            Missing::DeadLetter => Self::Word(MissingWord::DeadLetter),
            Missing::Constant(value) => Self::Constant(value),
        }
    }
}
