//! One row in the making: where both ways of reading put what they find, so that a value means the same however it was read.

use super::schema::{KEY_FIELDS_MAX, Node, Schema, Use};
use super::{DecodeError, Missing, number, timestamp};
use crate::time::Timestamp;

/// A JSON value without parts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar<'t> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number: its value (infinite if out of range) and how it was written.
    Number(f64, &'t str),
    /// A string, unescaped.
    Text(&'t str),
}

impl Scalar<'_> {
    fn described(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool(value) => value.to_string(),
            Self::Number(_, text) => format!("the number {}", timestamp::shortened(text)),
            Self::Text(text) => format!("the text `{}`", timestamp::shortened(text)),
        }
    }
}

/// Parts of the key and the time, found so far; kept from record to record for its memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    /// Each part of the key: whether it was found, and its text.
    key: Vec<(bool, String)>,
    time: Option<Timestamp>,
}

impl Parts {
    /// The key: its parts joined by `/`. With several parts, a `/` or backslash within one is escaped, so that no two keys coincide.
    pub fn key<'s>(&self, scratch: &'s mut String) -> &'s str {
        scratch.clear();
        let single = self.key.len() == 1;
        for (at, (_, part)) in self.key.iter().enumerate() {
            if at > 0 {
                scratch.push('/');
            }
            if single || !part.contains(['/', '\\']) {
                scratch.push_str(part);
            } else {
                for character in part.chars() {
                    if matches!(character, '/' | '\\') {
                        scratch.push('\\');
                    }
                    scratch.push(character);
                }
            }
        }
        scratch
    }

    /// The event time, if the schema takes it from a field.
    pub fn time(&self) -> Option<Timestamp> {
        self.time
    }
}

/// What is known of a record before it is read, by what is around it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Given<'a> {
    /// Parts of the key.
    pub key: [Option<&'a str>; KEY_FIELDS_MAX],
    /// The event time.
    pub time: Option<Timestamp>,
}

/// The row of one record while it is read.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub schema: &'a Schema,
    values: &'a mut [f64],
    parts: &'a mut Parts,
    given: Given<'a>,
    observed: usize,
}

impl<'a> Row<'a> {
    /// An empty row of all features; the column of the calendar is not among them.
    pub fn new(
        schema: &'a Schema,
        values: &'a mut [f64],
        parts: &'a mut Parts,
        given: Given<'a>,
    ) -> Self {
        let mut row = Self {
            schema,
            values,
            parts,
            given,
            observed: 0,
        };
        row.clear();
        row
    }

    /// How many features there are.
    pub fn features(&self) -> usize {
        self.values.len()
    }

    /// Forgets what was found, but not what was given.
    pub fn clear(&mut self) {
        self.values.fill(f64::NAN);
        self.observed = 0;
        self.parts.time = self.given.time;
        self.parts
            .key
            .resize_with(self.schema.key.len(), Default::default);
        for ((found, text), given) in self.parts.key.iter_mut().zip(self.given.key) {
            *found = given.is_some();
            text.clear();
            text.push_str(given.unwrap_or_default());
        }
    }

    /// Puts a number into a column; one that is not finite counts as missing.
    #[inline]
    pub fn number(&mut self, column: usize, value: f64) {
        if value.is_finite() {
            self.values[column] = value;
            self.observed += 1;
        }
    }

    /// Puts a text that is a number into a column; one that is blank counts as missing, as a number that is not finite does. Says whether it was
    /// either.
    pub fn text(&mut self, column: usize, text: &str) -> bool {
        match number::written(text) {
            Some(value) => self.number(column, value),
            None => return text.trim().is_empty(),
        }
        true
    }

    /// Takes the value of a field.
    pub fn take(&mut self, node: &Node, value: Scalar<'_>) -> Result<(), DecodeError> {
        if !node.children.is_empty() && !matches!(value, Scalar::Null) {
            return Err(wrong(
                node,
                format!("must be an object, but is {}", value.described()),
            ));
        }
        for &what in &node.uses {
            self.take_as(what, node, value)?;
        }
        Ok(())
    }

    /// Takes a time: as it is where it is the event time, and else as the number and its text that come with it.
    pub fn take_instant(
        &mut self,
        node: &Node,
        time: Timestamp,
        (value, text): (f64, &str),
    ) -> Result<(), DecodeError> {
        for &what in &node.uses {
            match what {
                Use::Time => self.parts.time = Some(time),
                other => self.take_as(other, node, Scalar::Number(value, text))?,
            }
        }
        Ok(())
    }

    fn take_as(&mut self, what: Use, node: &Node, value: Scalar<'_>) -> Result<(), DecodeError> {
        match what {
            Use::Column(column) => self.take_number(node, column, value),
            Use::Category(category) => {
                self.take_category(category, value);
                Ok(())
            }
            Use::Array(..) if matches!(value, Scalar::Null) => Ok(()),
            Use::Array(..) => {
                let problem = format!("must be an array, but is {}", value.described());
                Err(wrong(node, problem))
            }
            Use::Key(part) => self.take_key(node, part, value),
            Use::Time => self.take_time(node, value),
        }
    }

    /// Takes a number, a boolean, null or a text that is a number into a column.
    pub fn take_number(
        &mut self,
        node: &Node,
        column: usize,
        value: Scalar<'_>,
    ) -> Result<(), DecodeError> {
        match value {
            Scalar::Null => {}
            Scalar::Bool(value) => self.number(column, f64::from(u8::from(value))),
            Scalar::Number(value, _) => self.number(column, value),
            Scalar::Text(text) => {
                if !self.text(column, text) {
                    let problem = format!("must be a number, but is {}", value.described());
                    return Err(wrong(node, problem));
                }
            }
        }
        Ok(())
    }

    /// A listed value is 1 in its column and 0 in the others; one that is not listed is 0 everywhere: seen, and none of these.
    fn take_category(&mut self, category: usize, value: Scalar<'_>) {
        let text = match value {
            Scalar::Null => return,
            Scalar::Bool(true) => "true",
            Scalar::Bool(false) => "false",
            Scalar::Number(_, text) | Scalar::Text(text) => text,
        };
        let category = &self.schema.categories[category];
        for (at, listed) in category.values.iter().enumerate() {
            self.number(category.first + at, f64::from(u8::from(listed == text)));
        }
    }

    fn take_key(&mut self, node: &Node, part: usize, value: Scalar<'_>) -> Result<(), DecodeError> {
        let text = match value {
            Scalar::Number(_, text) | Scalar::Text(text) => text,
            Scalar::Null | Scalar::Bool(_) => {
                let problem = format!(
                    "is part of the key and must be text or a number, but is {}",
                    value.described()
                );
                return Err(wrong(node, problem));
            }
        };
        let (found, kept) = &mut self.parts.key[part];
        *found = true;
        kept.push_str(text);
        Ok(())
    }

    fn take_time(&mut self, node: &Node, value: Scalar<'_>) -> Result<(), DecodeError> {
        let time = match value {
            Scalar::Text(text) => timestamp::from_text(text),
            Scalar::Number(value, text) => timestamp::from_number(text, value),
            Scalar::Null | Scalar::Bool(_) => Err(format!(
                "is the event time and must be text or a number, but is {}",
                value.described()
            )),
        };
        self.parts.time = Some(time.map_err(|problem| wrong(node, problem))?);
        Ok(())
    }

    /// After the last field: is everything there that must be? Fills what is missing and has a constant.
    pub fn finish(&mut self) -> Result<(), DecodeError> {
        for (path, (found, _)) in self.schema.key.iter().zip(&self.parts.key) {
            if !found {
                return Err(absent(path, "is missing, but is part of the key"));
            }
        }
        if let Some(path) = &self.schema.timestamp
            && self.parts.time.is_none()
        {
            return Err(absent(path, "is missing, but is the event time"));
        }
        if self.observed == 0 {
            return Err(DecodeError::NothingObserved {
                columns: self.values.len(),
            });
        }
        if self.observed < self.values.len() {
            self.fill()?;
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<(), DecodeError> {
        for (column, value) in self.values.iter_mut().enumerate() {
            if value.is_nan() {
                match self.schema.missing()[column] {
                    Missing::Mask | Missing::Last => {}
                    Missing::Constant(constant) => *value = constant,
                    Missing::DeadLetter => {
                        let problem = "is missing, null or out of range";
                        return Err(absent(&self.schema.columns()[column], problem));
                    }
                }
            }
        }
        Ok(())
    }
}

/// A field with an unusable value.
pub(super) fn wrong(node: &Node, problem: String) -> DecodeError {
    DecodeError::Field {
        field: node.path.clone(),
        problem,
    }
}

fn absent(path: &str, problem: &str) -> DecodeError {
    DecodeError::Field {
        field: path.to_owned(),
        problem: problem.to_owned(),
    }
}
