//! Tables: CSV with a header, or JSON lines, gzipped or not; or Parquet. Numbers become features, one row a record, in the file's order.

mod cells;
pub mod head;
mod parquet;
mod read;

use std::collections::BTreeMap;

use crate::config::Input;
use crate::record::calendar::CalendarSpec;
use crate::record::schema::{Features, SchemaSpec};
use crate::record::{Key, Missing};
use crate::stream::{Offset, Span, TopicPartition};
use crate::time::Timestamp;
#[cfg(test)]
pub use cells::with_hours;
pub use read::hex_sha256;

/// What the columns of a file are.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    /// Columns that make the key; none: all rows have one key.
    pub key: Vec<String>,
    /// The column with the event time; none: a row a second, from 1970 on.
    pub timestamp: Option<String>,
    /// Whether to look for the column with the event time where none is named.
    pub find_time: bool,
    /// The column with labels.
    pub labels: Option<String>,
    /// Columns to leave out.
    pub ignore: Vec<String>,
    /// The features; none: every other column that has numbers.
    pub features: Option<Vec<String>>,
    /// Columns with categories, and their values.
    pub categories: BTreeMap<String, Vec<String>>,
    /// The calendar, if there is one.
    pub calendar: Option<CalendarSpec>,
    /// What to do without a value.
    pub missing: Missing,
    /// The same, for single features.
    pub missing_for: BTreeMap<String, Missing>,
}

impl Roles {
    /// As `[input]` says.
    pub fn of_input(input: &Input) -> Self {
        let features = match &input.features {
            Features::Auto(_) => None,
            Features::List(paths) => Some(paths.clone()),
            Features::Array { array, len } => {
                let elements = (0..*len).map(|element| format!("{array}[{element}]"));
                Some(elements.collect())
            }
        };
        Self {
            features,
            ..Self::of_schema(&input.schema(), &[])
        }
    }

    /// As a card says that its records were read; the features are those of the model.
    pub fn of_schema(schema: &SchemaSpec, columns: &[String]) -> Self {
        Self {
            key: schema.key.clone(),
            timestamp: Some(schema.timestamp.clone()).filter(|path| !path.is_empty()),
            find_time: false,
            labels: None,
            ignore: Vec::new(),
            features: Some(columns.to_vec()),
            categories: schema.categories.clone(),
            calendar: schema.calendar.clone(),
            missing: schema.missing,
            missing_for: schema.missing_for.clone(),
        }
    }

    /// The same for a card: what [`Self::of_schema`] reads back.
    fn schema(&self) -> SchemaSpec {
        SchemaSpec {
            key: self.key.clone(),
            timestamp: self.timestamp.clone().unwrap_or_default(),
            categories: self.categories.clone(),
            calendar: self.calendar.clone(),
            missing: self.missing,
            missing_for: self.missing_for.clone(),
            ..SchemaSpec::default()
        }
    }

    fn is_text(&self, name: &str) -> bool {
        self.key.iter().any(|key| key == name)
            || self.timestamp.as_deref() == Some(name)
            || self.labels.as_deref() == Some(name)
            || self.categories.contains_key(name)
    }

    /// Whether a column was asked for by this name.
    fn names(&self, name: &str) -> bool {
        let mut listed = self.features.iter().flatten().chain(&self.ignore);
        self.is_text(name) || listed.any(|other| other == name)
    }
}

/// A file's records.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The file, as it was named.
    pub path: String,
    /// sha256 of the file's bytes, in hexadecimal.
    pub sha256: String,
    /// Names of the D features.
    pub columns: Vec<String>,
    /// What is done where a feature was not observed, D of them. Constants are filled in already.
    pub missing: Vec<Missing>,
    /// n keys.
    pub keys: Vec<Key>,
    /// n event times.
    pub times: Vec<Timestamp>,
    /// `n × D`, row-major, NaN where not observed.
    pub values: Vec<f64>,
    /// n of them: whether nothing at all was observed. Such a row is a dead letter to the daemon, and gets no score here.
    pub empty: Vec<bool>,
    /// n of them, if there is a column with labels.
    pub labels: Option<Vec<bool>>,
    /// Columns without a single number, which are therefore no features.
    pub ignored: Vec<String>,
    /// What was found out by itself, in words.
    pub notes: Vec<String>,
    /// How rows were read, but for features: for the card.
    pub schema: SchemaSpec,
    /// Where rows that come from a topic are; `None`: rows of a file, which stand in a partition of their own.
    pub places: Option<Places>,
}

/// Places of rows in a log.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// What was read.
    pub spans: Vec<Span>,
    /// The partitions, in order.
    pub parts: Vec<TopicPartition>,
    /// By row: which of the partitions, and the offset. Within a partition, offsets ascend.
    pub rows: Vec<(usize, Offset)>,
}

impl Places {
    /// The spans that the rows `from..to` take up.
    pub fn spans(&self, from: usize, to: usize) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for span in &self.spans {
            let offsets = self.rows[from..to]
                .iter()
                .filter(|(part, offset)| self.parts[*part] == span.at && span.contains(*offset))
                .map(|(_, offset)| *offset);
            if let (Some(first), Some(last)) = (offsets.clone().min(), offsets.max()) {
                spans.push(Span {
                    at: span.at.clone(),
                    from: first,
                    to: last.next(),
                });
            }
        }
        spans
    }
}

impl Table {
    /// Rows.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The features of row `index`.
    pub fn row(&self, index: usize) -> &[f64] {
        let columns = self.columns.len();
        &self.values[index * columns..(index + 1) * columns]
    }

    /// Where row `index` is; rows of a file are in the partition `file`.
    pub fn place<'a>(
        &'a self,
        index: usize,
        file: &'a TopicPartition,
    ) -> (&'a TopicPartition, Offset) {
        match &self.places {
            None => (file, Offset(index as i64)),
            Some(places) => {
                let (part, offset) = places.rows[index];
                (&places.parts[part], offset)
            }
        }
    }

    /// Columns whose missing values take the key's last one.
    pub fn fill_last(&self) -> Vec<usize> {
        crate::record::filled_with_last(&self.missing)
    }
}

#[cfg(test)]
mod tests;
