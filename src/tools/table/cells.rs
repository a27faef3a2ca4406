//! A file's cells while it is read, and the table that they become.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::super::ToolError;
use super::{Roles, Table, head};
use crate::record::calendar::{self, Calendar};
use crate::record::schema::join_path;
use crate::record::{Key, Missing, nonfinite, problem, timestamp};
use crate::time::Timestamp;

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

/// Rows of `columns` numbers each, and the calendar's after them.
pub fn with_hours(
    values: &[f64],
    columns: usize,
    times: &[Timestamp],
    calendar: &Calendar,
) -> Vec<f64> {
    let rows = values.chunks_exact(columns).zip(times);
    rows.flat_map(|(row, time)| row.iter().copied().chain([calendar.value(*time)]))
        .collect()
}

/// A file's cells, column by column.
#[derive(Debug)]
pub(super) struct Cells<'a> {
    path: &'a str,
    roles: &'a Roles,
    columns: Vec<Column>,
    index: BTreeMap<String, usize>,
    /// The line of each row.
    lines: Vec<u64>,
    /// What was found out by itself.
    pub(super) notes: Vec<String>,
}

impl<'a> Cells<'a> {
    pub(super) fn new(path: &'a str, roles: &'a Roles) -> Self {
        Self {
            path,
            roles,
            columns: Vec::new(),
            index: BTreeMap::new(),
            lines: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn table(&self, problem: String) -> ToolError {
        ToolError::Table {
            path: self.path.to_owned(),
            problem,
        }
    }

    fn line(&self, line: u64, problem: String) -> ToolError {
        ToolError::Line {
            path: self.path.to_owned(),
            line,
            problem,
        }
    }

    /// The column of this name; a new one is empty in all rows so far.
    pub(super) fn column(&mut self, name: &str) -> usize {
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

    pub(super) fn csv(&mut self, content: &[u8]) -> Result<(), ToolError> {
        let separator = head::separator(content);
        match separator {
            b';' => self.notes.push("cells parted by `;`".to_owned()),
            b'\t' => self.notes.push("cells parted by tabs".to_owned()),
            _ => {}
        }
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(separator)
            .trim(csv::Trim::All)
            .from_reader(content);
        let wrong = |error: csv::Error| {
            let line = error.position().map_or(1, csv::Position::line);
            ToolError::Line {
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

    pub(super) fn json_lines(&mut self, content: &[u8]) -> Result<(), ToolError> {
        for (at, text) in content.split(|&byte| byte == b'\n').enumerate() {
            let line = at as u64 + 1;
            if text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match nonfinite::parse(text) {
                Ok(Value::Object(fields)) => {
                    for (name, value) in &fields {
                        self.json(&self.name("", name), value, line);
                    }
                    self.end_row(line);
                }
                Ok(_) => return Err(self.line(line, "is not a JSON object".to_owned())),
                Err(error) => return Err(self.line(line, format!("is not JSON: {error}"))),
            }
        }
        Ok(())
    }

    /// What a field of an object is called: as a schema calls it, but where it was asked for by its plain name, so.
    fn name(&self, parent: &str, name: &str) -> String {
        let plain = match parent {
            "" => name.to_owned(),
            parent => format!("{parent}.{name}"),
        };
        if self.roles.names(&plain) {
            plain
        } else {
            join_path(parent, name)
        }
    }

    fn json(&mut self, name: &str, value: &Value, line: u64) {
        match value {
            Value::Null => {
                self.column(name);
            }
            Value::Object(fields) => {
                for (inner, value) in fields {
                    self.json(&self.name(name, inner), value, line);
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
    pub(super) fn put(&mut self, column: usize, line: u64, text: &str) {
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

    pub(super) fn end_row(&mut self, line: u64) {
        self.lines.push(line);
    }

    /// Puts columns to their uses.
    pub(super) fn finish(mut self, sha256: String) -> Result<Table, ToolError> {
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
        let calendar = self.calendar()?;
        let (features, ignored) = self.features(calendar.is_some())?;
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
        let (mut columns, mut missing, mut values) = (columns, missing, values);
        let (keys, times) = (self.keys()?, self.times()?);
        if let Some(calendar) = calendar {
            values = with_hours(&values, columns.len(), &times, &calendar);
            columns.push(calendar::COLUMN.to_owned());
            missing.push(Missing::Mask);
        }
        Ok(Table {
            path: self.path.to_owned(),
            sha256,
            schema: self.roles.schema(),
            keys,
            times,
            labels: self.labels()?,
            columns,
            missing,
            values,
            empty,
            ignored,
            notes: self.notes,
            places: None,
        })
    }

    /// The features' names and numbers; and the names of columns that have no numbers.
    #[expect(clippy::type_complexity, reason = "taken apart at its only use")]
    fn features(
        &self,
        calendar: bool,
    ) -> Result<(Vec<(String, Vec<f64>)>, Vec<String>), ToolError> {
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
            } else if self.is_one_hot(name) || calendar && name == calendar::COLUMN {
                // A model's column `field=value`, made below, or that of the calendar.
            } else {
                features.push((name.to_owned(), self.numbers(name)?));
            }
        }
        for name in unlisted {
            self.category(name, &self.roles.categories[name], &mut features)?;
        }
        if features.is_empty() {
            return Err(self.table(format!(
                "has no column with numbers to learn from: its columns are {}. Is another file meant, or does --ignore, --key or --timestamp name too many?",
                self.names()
            )));
        }
        Ok((features, ignored))
    }

    /// The calendar, if there is one, and times that it goes by.
    fn calendar(&self) -> Result<Option<Calendar>, ToolError> {
        let Some(spec) = &self.roles.calendar else {
            return Ok(None);
        };
        let calendar = spec.check().map_err(|problems| {
            self.table(format!("cannot be read: {}", problem::listed(&problems)))
        })?;
        if calendar.is_some() && self.roles.timestamp.is_none() {
            let problem = "has rows without times, but `input.calendar` goes by them: name their column with --timestamp";
            return Err(self.table(problem.to_owned()));
        }
        if calendar.is_some() && self.index.contains_key(calendar::COLUMN) {
            let problem = "has a column `calendar`, which is the name of the column that `input.calendar` makes";
            return Err(self.table(problem.to_owned()));
        }
        Ok(calendar)
    }

    fn is_one_hot(&self, name: &str) -> bool {
        !self.index.contains_key(name)
            && name
                .split_once('=')
                .is_some_and(|(field, _)| self.roles.categories.contains_key(field))
    }

    fn numbers(&self, name: &str) -> Result<Vec<f64>, ToolError> {
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
    ) -> Result<(), ToolError> {
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

    fn find(&self, name: &str, what: &str) -> Result<&Column, ToolError> {
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

    fn texts(&self, name: &str, what: &str) -> Result<&[String], ToolError> {
        let column = self.find(name, what)?;
        Ok(column.texts.as_deref().unwrap_or(&[]))
    }

    /// Keys, several columns joined as the daemon joins them.
    fn keys(&self) -> Result<Vec<Key>, ToolError> {
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

    fn times(&self) -> Result<Vec<Timestamp>, ToolError> {
        let Some(name) = &self.roles.timestamp else {
            return Ok((0..self.lines.len() as i64)
                .map(|row| Timestamp(row * 1000))
                .collect());
        };
        let mut times = Vec::with_capacity(self.lines.len());
        for (row, text) in self.texts(name, "timestamp")?.iter().enumerate() {
            times.push(timestamp::read(text).map_err(|problem| {
                self.line(self.lines[row], format!("column `{name}`: {problem}"))
            })?);
        }
        Ok(times)
    }

    fn labels(&self) -> Result<Option<Vec<bool>>, ToolError> {
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
