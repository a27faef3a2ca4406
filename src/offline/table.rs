//! Tables: CSV with a header, or JSON lines; gzipped or not. Numbers become features, one row a record, in the file's order.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::OfflineError;
use crate::config::InputSettings;
use crate::config::raw::Features;
use crate::record::schema::SchemaSpec;
use crate::record::{Key, Missing, moment};
use crate::stream::{Offset, Span, TopicPartition};
use crate::time::Timestamp;

/// What the columns of a file are.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    /// Columns that make the key; none: all rows have one key.
    pub key: Vec<String>,
    /// The column with the event time; none: a row a second, from 1970 on.
    pub timestamp: Option<String>,
    /// The column with labels.
    pub labels: Option<String>,
    /// Columns to leave out.
    pub ignore: Vec<String>,
    /// The features; none: every other column that has numbers.
    pub features: Option<Vec<String>>,
    /// Columns with categories, and their values.
    pub categories: BTreeMap<String, Vec<String>>,
    /// What to do without a value.
    pub missing: Missing,
    /// The same, for single features.
    pub missing_for: BTreeMap<String, Missing>,
}

impl Roles {
    /// As `[input]` says.
    pub fn of_input(input: &InputSettings) -> Self {
        Self {
            key: input.key.clone(),
            timestamp: input.timestamp.clone(),
            labels: None,
            ignore: Vec::new(),
            features: match &input.features {
                Features::Auto(_) => None,
                Features::Paths(paths) => Some(paths.clone()),
                Features::Array(field) => Some(
                    (0..field.len)
                        .map(|element| format!("{}[{element}]", field.array))
                        .collect(),
                ),
            },
            categories: input.categories.clone(),
            missing: input.missing,
            missing_for: input.missing_for.clone(),
        }
    }

    /// As a card says that its records were read; the features are those of the model.
    pub fn of_schema(schema: &SchemaSpec, columns: &[String]) -> Self {
        Self {
            key: schema.key.clone(),
            timestamp: Some(schema.timestamp.clone()).filter(|path| !path.is_empty()),
            labels: None,
            ignore: Vec::new(),
            features: Some(columns.to_vec()),
            categories: schema.categories.clone(),
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
    /// Reads a file.
    pub fn read(path: &Path, roles: &Roles) -> Result<Self, OfflineError> {
        let file = |error| OfflineError::File {
            path: path.to_owned(),
            error,
        };
        let bytes = std::fs::read(path).map_err(file)?;
        let name = path.display().to_string();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut content = Vec::new();
            let mut decoder = MultiGzDecoder::new(bytes.as_slice());
            decoder.read_to_end(&mut content).map_err(file)?;
            Self::parse(&name, hex_sha256(&bytes), &content, roles)
        } else {
            Self::parse(&name, hex_sha256(&bytes), &bytes, roles)
        }
    }

    /// Reads a file's content; a first character `{` means JSON lines.
    pub fn parse(
        path: &str,
        sha256: String,
        content: &[u8],
        roles: &Roles,
    ) -> Result<Self, OfflineError> {
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        let mut cells = Cells::new(path, roles);
        let first = content.iter().find(|byte| !byte.is_ascii_whitespace());
        match first {
            Some(b'{') => cells.json_lines(content)?,
            Some(_) => cells.csv(content)?,
            None => return Err(cells.table("is empty".to_owned())),
        }
        cells.finish(sha256)
    }

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
        (0..self.missing.len())
            .filter(|&column| self.missing[column] == Missing::Last)
            .collect()
    }
}

/// sha256 in hexadecimal.
pub fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A column while it is read.
#[derive(Debug, Default)]
struct Column {
    name: String,
    /// NaN where missing; for features.
    numbers: Vec<f64>,
    /// For key, time, labels, categories.
    texts: Option<Vec<String>>,
    /// How many numbers there are.
    numeric: usize,
    /// The first cell that is no number: its line and value.
    bad: Option<(u64, String)>,
}

/// A file's cells, column by column.
#[derive(Debug)]
struct Cells<'a> {
    path: &'a str,
    roles: &'a Roles,
    columns: Vec<Column>,
    index: BTreeMap<String, usize>,
    /// The line of each row.
    lines: Vec<u64>,
}

impl<'a> Cells<'a> {
    fn new(path: &'a str, roles: &'a Roles) -> Self {
        Self {
            path,
            roles,
            columns: Vec::new(),
            index: BTreeMap::new(),
            lines: Vec::new(),
        }
    }

    fn table(&self, problem: String) -> OfflineError {
        OfflineError::Table {
            path: self.path.to_owned(),
            problem,
        }
    }

    fn line(&self, line: u64, problem: String) -> OfflineError {
        OfflineError::Line {
            path: self.path.to_owned(),
            line,
            problem,
        }
    }

    /// The column of this name; a new one is empty in all rows so far.
    fn column(&mut self, name: &str) -> usize {
        if let Some(&column) = self.index.get(name) {
            return column;
        }
        let text = self.roles.is_text(name);
        self.columns.push(Column {
            name: name.to_owned(),
            texts: text.then(Vec::new),
            ..Column::default()
        });
        self.index.insert(name.to_owned(), self.columns.len() - 1);
        self.columns.len() - 1
    }

    fn csv(&mut self, content: &[u8]) -> Result<(), OfflineError> {
        let head = content.split(|&byte| byte == b'\n').next().unwrap_or(b"");
        let separator = [b',', b';', b'\t']
            .into_iter()
            .max_by_key(|&byte| (head.split(|&b| b == byte).count(), byte == b','))
            .unwrap_or(b',');
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(separator)
            .trim(csv::Trim::All)
            .from_reader(content);
        let wrong = |error: csv::Error| {
            let line = error.position().map_or(1, csv::Position::line);
            OfflineError::Line {
                path: self.path.to_owned(),
                line,
                problem: error.to_string(),
            }
        };
        let header = reader.headers().map_err(wrong)?.clone();
        let names: Vec<String> = header.iter().map(str::to_owned).collect();
        for (at, name) in names.iter().enumerate() {
            if names[..at].contains(name) {
                return Err(self.line(1, format!("column `{name}` appears twice")));
            }
            self.column(name);
        }
        let mut record = csv::StringRecord::new();
        loop {
            let more = reader.read_record(&mut record).map_err(|error| {
                let line = error.position().map_or(1, csv::Position::line);
                self.line(line, error.to_string())
            })?;
            if !more {
                return Ok(());
            }
            let line = record.position().map_or(0, csv::Position::line);
            for (column, cell) in record.iter().enumerate() {
                self.put(column, line, cell);
            }
            self.end_row(line);
        }
    }

    fn json_lines(&mut self, content: &[u8]) -> Result<(), OfflineError> {
        for (at, text) in content.split(|&byte| byte == b'\n').enumerate() {
            let line = at as u64 + 1;
            if text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match serde_json::from_slice(text) {
                Ok(Value::Object(fields)) => {
                    for (name, value) in &fields {
                        self.json(name, value, line);
                    }
                    self.end_row(line);
                }
                Ok(_) => return Err(self.line(line, "is not a JSON object".to_owned())),
                Err(error) => return Err(self.line(line, format!("is not JSON: {error}"))),
            }
        }
        Ok(())
    }

    fn json(&mut self, name: &str, value: &Value, line: u64) {
        match value {
            Value::Null => {
                self.column(name);
            }
            Value::Object(fields) => {
                for (inner, value) in fields {
                    self.json(&format!("{name}.{inner}"), value, line);
                }
            }
            Value::Array(elements) => {
                for (element, value) in elements.iter().enumerate() {
                    self.json(&format!("{name}[{element}]"), value, line);
                }
            }
            Value::String(text) => {
                let column = self.column(name);
                self.put(column, line, text);
            }
            Value::Bool(_) | Value::Number(_) => {
                let column = self.column(name);
                self.put(column, line, &value.to_string());
            }
        }
    }

    /// Puts a cell into the row that is being read.
    fn put(&mut self, column: usize, line: u64, text: &str) {
        let rows = self.lines.len();
        let column = &mut self.columns[column];
        if let Some(texts) = &mut column.texts {
            texts.resize(rows, String::new());
            texts.push(text.to_owned());
            return;
        }
        column.numbers.resize(rows, f64::NAN);
        match number(text) {
            Some(value) => {
                column.numeric += usize::from(!value.is_nan());
                column.numbers.push(value);
            }
            None if column.bad.is_none() => column.bad = Some((line, text.to_owned())),
            None => {}
        }
    }

    fn end_row(&mut self, line: u64) {
        self.lines.push(line);
    }

    /// Puts columns to their uses.
    fn finish(mut self, sha256: String) -> Result<Table, OfflineError> {
        let rows = self.lines.len();
        if rows == 0 {
            return Err(self.table("has no rows".to_owned()));
        }
        for column in &mut self.columns {
            match &mut column.texts {
                Some(texts) => texts.resize(rows, String::new()),
                None => column.numbers.resize(rows, f64::NAN),
            }
        }
        let (features, ignored) = self.features()?;
        let columns: Vec<String> = features.iter().map(|feature| feature.0.clone()).collect();
        let missing: Vec<Missing> = columns
            .iter()
            .map(|name| {
                let own = self.roles.missing_for.get(name);
                own.copied().unwrap_or(self.roles.missing)
            })
            .collect();
        let mut values = vec![f64::NAN; rows * columns.len()];
        for (at, (_, numbers)) in features.iter().enumerate() {
            for (row, value) in numbers.iter().enumerate() {
                values[row * columns.len() + at] = *value;
            }
        }
        let mut empty = Vec::with_capacity(rows);
        for (row, cells) in values.chunks_exact_mut(columns.len()).enumerate() {
            empty.push(cells.iter().all(|value| value.is_nan()));
            for (at, value) in cells.iter_mut().enumerate().filter(|(_, v)| v.is_nan()) {
                match missing[at] {
                    Missing::Constant(constant) => *value = constant,
                    Missing::DeadLetter => {
                        let problem = format!(
                            "column `{}` has no value, and input.missing is dead_letter",
                            columns[at]
                        );
                        return Err(self.line(self.lines[row], problem));
                    }
                    Missing::Mask | Missing::Last => {}
                }
            }
        }
        Ok(Table {
            path: self.path.to_owned(),
            sha256,
            schema: self.roles.schema(),
            keys: self.keys()?,
            times: self.times()?,
            labels: self.labels()?,
            columns,
            missing,
            values,
            empty,
            ignored,
            places: None,
        })
    }

    /// The features' names and numbers; and the names of columns that have no numbers.
    #[expect(clippy::type_complexity, reason = "taken apart at its only use")]
    fn features(&self) -> Result<(Vec<(String, Vec<f64>)>, Vec<String>), OfflineError> {
        let mut ignored = Vec::new();
        let mut features = Vec::new();
        let mut unlisted: Vec<&String> = self.roles.categories.keys().collect();
        let names: Vec<&str> = match &self.roles.features {
            Some(names) => names.iter().map(String::as_str).collect(),
            None => {
                let free = |column: &&Column| {
                    column.texts.is_none() && !self.roles.ignore.contains(&column.name)
                };
                let mut names = Vec::new();
                for column in self.columns.iter().filter(free) {
                    if column.numeric > 0 {
                        names.push(column.name.as_str());
                    } else {
                        ignored.push(column.name.clone());
                    }
                }
                names
            }
        };
        for name in names {
            if let Some(values) = self.roles.categories.get(name) {
                unlisted.retain(|other| *other != name);
                self.category(name, values, &mut features)?;
            } else if self.is_one_hot(name) {
                // A model's column `field=value`, made below.
            } else {
                features.push((name.to_owned(), self.numbers(name)?));
            }
        }
        for name in unlisted {
            self.category(name, &self.roles.categories[name], &mut features)?;
        }
        if features.is_empty() {
            return Err(self.table(format!(
                "has no column with numbers to learn from; its columns are {}",
                self.names()
            )));
        }
        Ok((features, ignored))
    }

    fn is_one_hot(&self, name: &str) -> bool {
        !self.index.contains_key(name)
            && name
                .split_once('=')
                .is_some_and(|(field, _)| self.roles.categories.contains_key(field))
    }

    fn numbers(&self, name: &str) -> Result<Vec<f64>, OfflineError> {
        let column = self.find(name, "feature")?;
        if let Some((line, value)) = &column.bad {
            return Err(self.line(
                *line,
                format!(
                    "column `{name}` has `{value}`, which is not a number; `--ignore {name}` leaves the column out"
                ),
            ));
        }
        Ok(column.numbers.clone())
    }

    /// One column a value: 1 where the cell has it, else 0; NaN where the cell is empty.
    fn category(
        &self,
        name: &str,
        values: &[String],
        into: &mut Vec<(String, Vec<f64>)>,
    ) -> Result<(), OfflineError> {
        let texts = self.texts(name, "category")?;
        for value in values {
            let numbers = texts
                .iter()
                .map(|text| {
                    if text.is_empty() {
                        f64::NAN
                    } else {
                        f64::from(u8::from(text == value))
                    }
                })
                .collect();
            into.push((format!("{name}={value}"), numbers));
        }
        Ok(())
    }

    fn find(&self, name: &str, what: &str) -> Result<&Column, OfflineError> {
        let column = self.index.get(name).map(|&column| &self.columns[column]);
        column.ok_or_else(|| {
            self.table(format!(
                "has no column `{name}` ({what}); its columns are {}",
                self.names()
            ))
        })
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|c| c.name.as_str()).collect();
        match names.get(..20) {
            Some(some) if names.len() > 20 => {
                format!("{} and {} more", some.join(", "), names.len() - 20)
            }
            _ => names.join(", "),
        }
    }

    fn texts(&self, name: &str, what: &str) -> Result<&[String], OfflineError> {
        let column = self.find(name, what)?;
        Ok(column.texts.as_deref().unwrap_or(&[]))
    }

    /// Keys, several columns joined as the daemon joins them.
    fn keys(&self) -> Result<Vec<Key>, OfflineError> {
        let rows = self.lines.len();
        if self.roles.key.is_empty() {
            let key = Key(Arc::from(""));
            return Ok(vec![key; rows]);
        }
        let mut parts = Vec::new();
        for name in &self.roles.key {
            parts.push(self.texts(name, "key")?);
        }
        let mut known: BTreeMap<String, Key> = BTreeMap::new();
        let mut keys = Vec::with_capacity(rows);
        for row in 0..rows {
            let text = match parts.as_slice() {
                [only] => only[row].clone(),
                many => many
                    .iter()
                    .map(|part| part[row].replace('\\', "\\\\").replace('/', "\\/"))
                    .collect::<Vec<_>>()
                    .join("/"),
            };
            if let Some(key) = known.get(&text) {
                keys.push(key.clone());
            } else {
                let key = Key(Arc::from(text.as_str()));
                known.insert(text, key.clone());
                keys.push(key);
            }
        }
        Ok(keys)
    }

    fn times(&self) -> Result<Vec<Timestamp>, OfflineError> {
        let Some(name) = &self.roles.timestamp else {
            return Ok((0..self.lines.len() as i64)
                .map(|row| Timestamp(row * 1000))
                .collect());
        };
        let mut times = Vec::with_capacity(self.lines.len());
        for (row, text) in self.texts(name, "timestamp")?.iter().enumerate() {
            times.push(moment::read(text).map_err(|problem| {
                self.line(self.lines[row], format!("column `{name}`: {problem}"))
            })?);
        }
        Ok(times)
    }

    fn labels(&self) -> Result<Option<Vec<bool>>, OfflineError> {
        let Some(name) = &self.roles.labels else {
            return Ok(None);
        };
        let mut labels = Vec::with_capacity(self.lines.len());
        for (row, text) in self.texts(name, "labels")?.iter().enumerate() {
            let value = number(text).ok_or_else(|| {
                let problem =
                    format!("column `{name}` has `{text}`; a label is 0 or 1, true or false");
                self.line(self.lines[row], problem)
            })?;
            labels.push(value > 0.0);
        }
        Ok(Some(labels))
    }
}

/// A cell's number: NaN if it is missing or infinite, `None` if it is something else.
fn number(text: &str) -> Option<f64> {
    match text {
        "" | "NA" | "N/A" | "null" | "NULL" | "None" => Some(f64::NAN),
        "true" | "True" | "TRUE" => Some(1.0),
        "false" | "False" | "FALSE" => Some(0.0),
        _ => {
            let value: f64 = text.parse().ok()?;
            Some(if value.is_finite() { value } else { f64::NAN })
        }
    }
}

#[cfg(test)]
mod tests;
