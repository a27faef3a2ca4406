//! JSON by serde_json: the way that takes every record, and says what is wrong with the bad ones.
//!
//! A visitor hands each named field's text straight to the row; no tree is built. What counts as JSON is serde_json's judgement alone, but that [`nonfinite`] numbers are null;
//! beyond that: a field that the schema names may appear only once (a second value would be a guess), and nothing may nest
//! deeper than [`DEPTH_MAX`]. A syntax error anywhere is reported before any unusable field.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::row::{Row, Scalar, wrong};
use super::schema::{Node, Schema, Use};
use super::{DecodeError, nonfinite, number};

/// Objects and arrays within each other at most, as in serde_json itself.
pub(super) const DEPTH_MAX: usize = 128;

/// Which fields of the current record have been seen: `seen[node] == record`.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    record: u64,
    nodes: Vec<u64>,
}

impl Seen {
    /// Marks a field; false if it was marked before.
    fn mark(&mut self, node: usize) -> bool {
        let first = self.nodes[node] != self.record;
        self.nodes[node] = self.record;
        first
    }
}

/// Reads one record into an empty row.
pub(super) fn read(value: &[u8], row: &mut Row<'_>, seen: &mut Seen) -> Result<(), DecodeError> {
    let read = read_json(value, row, seen);
    if let Err(DecodeError::Syntax(_)) = read
        && let Some(value) = nonfinite::as_null(value)
    {
        row.clear();
        return read_json(&value, row, seen);
    }
    read
}

fn read_json(value: &[u8], row: &mut Row<'_>, seen: &mut Seen) -> Result<(), DecodeError> {
    let text = std::str::from_utf8(value).map_err(|error| {
        syntax(format_args!(
            "invalid UTF-8 after byte {}",
            error.valid_up_to()
        ))
    })?;
    seen.record += 1;
    seen.nodes.resize(row.schema.nodes.len(), 0);
    let mut reader = Reader {
        schema: row.schema,
        row,
        seen,
        problem: None,
    };
    reader
        .object(text, 0)
        .map_err(|error| syntax(format_args!("{error}")))?;
    match reader.problem {
        Some(problem) => Err(problem),
        None => row.finish(),
    }
}

fn syntax(problem: fmt::Arguments<'_>) -> DecodeError {
    DecodeError::Syntax(format!("value is not a JSON object: {problem}"))
}

/// Where a record's fields go while it is read, and the first unusable one.
struct Reader<'r, 'a> {
    schema: &'a Schema,
    row: &'r mut Row<'a>,
    seen: &'r mut Seen,
    problem: Option<DecodeError>,
}

impl Reader<'_, '_> {
    /// Reads `text`, which is the object at `node`.
    fn object(&mut self, text: &str, node: usize) -> serde_json::Result<()> {
        let mut json = serde_json::Deserializer::from_str(text);
        json.deserialize_map(Fields { reader: self, node })?;
        json.end()
    }

    /// Takes the text of the field at `node`, which is valid JSON.
    fn field(&mut self, text: &str, node: usize) -> serde_json::Result<()> {
        let schema = self.schema;
        let field = &schema.nodes[node];
        if !self.seen.mark(node) {
            self.note(Err(wrong(field, "appears twice".into())));
            return Ok(());
        }
        match (text.as_bytes().first(), field.uses.first()) {
            (Some(b'{'), _) if !field.children.is_empty() => return self.object(text, node),
            (Some(b'{'), _) => {
                self.note(Err(wrong(field, "must not be an object".into())));
            }
            (Some(b'['), Some(&Use::Array(first, len))) if field.uses.len() == 1 => {
                let taken = self.array(text.as_bytes(), field, first, len);
                self.note(taken);
            }
            (Some(b'['), _) => {
                self.note(Err(wrong(field, "must not be an array".into())));
            }
            _ => {
                let taken = self.scalar(text, field);
                self.note(taken);
            }
        }
        Ok(())
    }

    fn scalar(&mut self, text: &str, field: &Node) -> Result<(), DecodeError> {
        let owned;
        let value = match text.as_bytes() {
            b"null" => Scalar::Null,
            b"true" => Scalar::Bool(true),
            b"false" => Scalar::Bool(false),
            [b'"', inner @ .., b'"'] => {
                owned = unescaped(text, inner.len())
                    .ok_or_else(|| wrong(field, "has an escape that is no character".into()))?;
                Scalar::Text(&owned)
            }
            digits => match number::scan(digits, 0) {
                Some((value, _)) => Scalar::Number(value, text),
                None => return Err(wrong(field, "is no number".into())),
            },
        };
        self.row.take(field, value)
    }

    /// Takes an array of numbers: valid JSON that begins with `[`.
    fn array(
        &mut self,
        text: &[u8],
        field: &Node,
        first: usize,
        len: usize,
    ) -> Result<(), DecodeError> {
        let mut count = 0;
        let mut at = 1;
        loop {
            let value = match text.get(at) {
                None | Some(b']') => break,
                Some(b',' | b' ' | b'\t' | b'\r' | b'\n') => {
                    at += 1;
                    continue;
                }
                Some(b'n') => (Scalar::Null, at + 4),
                Some(b't') => (Scalar::Bool(true), at + 4),
                Some(b'f') => (Scalar::Bool(false), at + 5),
                Some(_) => {
                    let Some((value, end)) = number::scan(text, at) else {
                        let problem = format!("element {count} must be a number");
                        return Err(wrong(field, problem));
                    };
                    (Scalar::Number(value, ""), end)
                }
            };
            if count < len {
                self.row.take_number(field, first + count, value.0)?;
            }
            at = value.1;
            count += 1;
        }
        if count == len {
            Ok(())
        } else {
            let problem = format!("must have {len} elements, but has {count}");
            Err(wrong(field, problem))
        }
    }

    /// Keeps the first problem.
    fn note(&mut self, outcome: Result<(), DecodeError>) {
        if let Err(problem) = outcome {
            self.problem.get_or_insert(problem);
        }
    }
}

/// What a JSON string with `inner` bytes between its quotes says.
fn unescaped(text: &str, inner: usize) -> Option<Cow<'_, str>> {
    let plain = text.get(1..=inner)?;
    if plain.contains('\\') {
        serde_json::from_str(text).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(plain))
    }
}

/// Visits the fields of the object at `node`.
struct Fields<'f, 'r, 'a> {
    reader: &'f mut Reader<'r, 'a>,
    node: usize,
}

impl<'de> Visitor<'de> for Fields<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let schema = self.reader.schema;
        let name = Name(&schema.nodes[self.node]);
        while let Some(child) = map.next_key_seed(name)? {
            let text = map.next_value::<&'de RawValue>()?.get();
            if depth_exceeds(text.as_bytes(), DEPTH_MAX - 1) {
                let problem = format_args!("nested deeper than {DEPTH_MAX} levels");
                return Err(M::Error::custom(problem));
            }
            if let Some(child) = child {
                self.reader.field(text, child).map_err(M::Error::custom)?;
            }
        }
        Ok(())
    }
}

/// Finds the field that a name means below a node.
#[derive(Clone, Copy)]
struct Name<'s>(&'s Node);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.children.get(name).copied())
    }
}

/// Whether valid JSON nests deeper than `max`.
fn depth_exceeds(text: &[u8], max: usize) -> bool {
    if !matches!(text.first(), Some(b'{' | b'[')) || text.len() <= 2 * max {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    false
}
