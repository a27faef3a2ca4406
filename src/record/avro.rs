//! Avro: values are read by the schema that they were written by, one for all of them, or the one whose id each has (`wire`).
//!
//! What a schema lacks of the fields that are asked for is missing, what it has beside them is skipped: so schemas may change. No tree of values is
//! built. A value is not trusted: how deep it nests and how many parts it has is bounded, whatever it says.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::avro_logical::{Scale, write_uuid};
use super::avro_schema::{Type, TypeId, Writer};
use super::remembered::{Remembered, of_another, syntax};
use super::row::{Row, Scalar, wrong};
use super::schema::{Node, Schema, Use};
use super::varint;
use super::wire;
use super::writers::{self, SchemaId, Writers};
use super::{DecodeError, Header};
use crate::time::Timestamp;

/// Types within each other at most, in a value.
const DEPTH_MAX: usize = 128;
/// Parts of a value beyond what its length allows: those that take no bytes.
const PARTS_MAX: usize = 100_000;
/// Milliseconds of a day.
const DAY: i64 = 86_400_000;
/// Places in writers' schemas that one of ours leads to at most.
const STEPS_MAX: usize = 200_000;

/// What to do with what is written at a place.
#[derive(Clone, Debug)]
enum Step {
    Skip(TypeId),
    /// A value for the field at this node; whether its text matters.
    Scalar(TypeId, usize, bool),
    Union(Vec<Step>),
    Record(Vec<Step>),
    /// For each name that is asked for, and for the others.
    Map(FxHashMap<Box<str>, Step>, TypeId),
    /// Numbers for the array at this node: the first column, and how many.
    Array(TypeId, usize, (usize, usize)),
    /// The field at this node cannot be this.
    Wrong(TypeId, usize, &'static str),
}

/// A writer's schema, with where its fields go.
#[derive(Clone, Debug)]
struct Bound {
    writer: Arc<Writer>,
    root: Step,
}

impl Bound {
    fn new(writer: &Arc<Writer>, schema: &Schema) -> Result<Self, String> {
        let mut binder = Binder {
            writer,
            schema,
            steps: 0,
        };
        let root = binder.step(writer.root, Some(0))?;
        Ok(Self {
            writer: Arc::clone(writer),
            root,
        })
    }
}

struct Binder<'a> {
    writer: &'a Writer,
    schema: &'a Schema,
    steps: usize,
}

impl Binder<'_> {
    /// Ends, for fields within each other are as deep as our own schema's.
    fn step(&mut self, id: TypeId, node: Option<usize>) -> Result<Step, String> {
        self.steps += 1;
        if STEPS_MAX < self.steps {
            return Err("has too many places for the fields that are asked for".to_owned());
        }
        let Some(node) = node else {
            return Ok(Step::Skip(id));
        };
        let field = &self.schema.nodes[node];
        Ok(match &self.writer.types[id] {
            Type::Union(branches) => {
                let of = branches.iter().map(|branch| self.step(*branch, Some(node)));
                Step::Union(of.collect::<Result<_, _>>()?)
            }
            Type::Record(fields) if !field.children.is_empty() => {
                let child = |name: &str| field.children.get(name).copied();
                let of = fields.iter().map(|(name, of)| self.step(*of, child(name)));
                Step::Record(of.collect::<Result<_, _>>()?)
            }
            Type::Map(values) if !field.children.is_empty() => {
                let of = field.children.iter().map(|(name, child)| {
                    let step = self.step(*values, Some(*child))?;
                    Ok::<_, String>((name.clone(), step))
                });
                Step::Map(of.collect::<Result<_, _>>()?, *values)
            }
            Type::Array(items) => match field.uses[..] {
                [Use::Array(first, len)] => Step::Array(*items, node, (first, len)),
                _ => Step::Wrong(id, node, "must not be an array"),
            },
            Type::Record(_) => Step::Wrong(id, node, "must not be a record"),
            Type::Map(_) => Step::Wrong(id, node, "must not be a map"),
            _ => {
                let text = |used: &Use| !matches!(used, Use::Column(_) | Use::Array(..));
                Step::Scalar(id, node, field.uses.iter().any(text))
            }
        })
    }
}

/// What a decoder knows of schemas.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    bound: Remembered<SchemaId, Bound>,
    text: String,
}

/// Reads one record into an empty row. `headers` are those about the record.
pub(super) fn read(
    (value, headers): (&[u8], &[Header]),
    row: &mut Row<'_>,
    known: &mut Known,
    writers: Option<&Writers>,
) -> Result<(), DecodeError> {
    let schema = row.schema;
    let (bound, value) = match &schema.writer {
        Some(writer) => (known.bound.plain(|| Bound::new(writer, schema))?, value),
        None => {
            let framed = wire::framed(value, headers, "Avro")?;
            let id = framed.id;
            let writers::Writer::Avro(writer) = wire::writer(writers, id)? else {
                return Err(of_another(id, "Avro"));
            };
            let new = || Bound::new(writer, schema);
            (known.bound.named(id, new)?, framed.body)
        }
    };
    let mut reader = Reader {
        types: &bound.writer.types,
        schema,
        row,
        text: &mut known.text,
        bytes: value,
        at: 0,
        parts: PARTS_MAX.saturating_add(value.len()),
        problem: None,
    };
    let mut read = reader.walk(&bound.root);
    if read.is_ok() && reader.at < value.len() {
        read = Err("goes on");
    }
    let at = reader.at;
    match (read, reader.problem) {
        (Err(problem), _) => Err(syntax(&format!(
            "is not what its Avro schema says: after {at} bytes it {problem}"
        ))),
        (Ok(()), Some(problem)) => Err(problem),
        (Ok(()), None) => row.finish(),
    }
}

/// Why the bytes are not what the schema says.
type Broken = &'static str;

/// A value without parts.
enum Read<'b> {
    Null,
    Bool(bool),
    Whole(i64),
    Number(f64),
    /// Days since 1970.
    Date(i64),
    /// Milliseconds since 1970.
    Time(i64),
    Decimal(&'b [u8], Scale),
    /// A text, and whether the schema calls it bytes.
    Bytes(&'b [u8], bool),
    Uuid(&'b [u8]),
    Text(&'b str),
}

/// A value while it is read, and the first unusable field.
struct Reader<'b, 'r, 'a> {
    types: &'b [Type],
    schema: &'a Schema,
    row: &'r mut Row<'a>,
    text: &'r mut String,
    bytes: &'b [u8],
    at: usize,
    /// Parts that may still come.
    parts: usize,
    problem: Option<DecodeError>,
}

impl<'b> Reader<'b, '_, '_> {
    fn part(&mut self) -> Result<(), Broken> {
        self.parts = self.parts.checked_sub(1).ok_or("has too many parts")?;
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], Broken> {
        let end = self.at.checked_add(length).ok_or("ends too early")?;
        let taken = self.bytes.get(self.at..end).ok_or("ends too early")?;
        self.at = end;
        Ok(taken)
    }

    /// A number of variable length, in zigzag.
    fn long(&mut self) -> Result<i64, Broken> {
        varint::read(|| Ok(self.take(1)?[0])).map(varint::zigzag)
    }

    fn length(&mut self) -> Result<usize, Broken> {
        usize::try_from(self.long()?).map_err(|_| "has a length below zero")
    }

    fn branch<T>(&mut self, of: &'b [T]) -> Result<&'b T, Broken> {
        let place = self.length()?;
        of.get(place)
            .ok_or("names a branch or a symbol that there is not")
    }

    /// The items of the next block, and its length in bytes, if it says so.
    fn block(&mut self) -> Result<(u64, Option<usize>), Broken> {
        let count = self.long()?;
        let size = if count < 0 {
            Some(self.length()?)
        } else {
            None
        };
        Ok((count.unsigned_abs(), size))
    }

    fn walk(&mut self, step: &'b Step) -> Result<(), Broken> {
        self.part()?;
        match step {
            Step::Skip(id) => self.skip(*id, 0),
            Step::Scalar(id, node, texts) => {
                let read = self.scalar(*id)?;
                let read = read.ok_or("has parts where it should have none")?;
                self.give(read, *node, *texts);
                Ok(())
            }
            Step::Union(branches) => {
                let branch = self.branch(branches)?;
                self.walk(branch)
            }
            Step::Record(fields) => fields.iter().try_for_each(|field| self.walk(field)),
            Step::Map(of, others) => self.map(of, *others),
            Step::Array(items, node, (first, len)) => self.array(*items, *node, (*first, *len)),
            Step::Wrong(id, node, problem) => {
                let field = &self.schema.nodes[*node];
                self.note(Err(wrong(field, (*problem).to_owned())));
                self.skip(*id, 0)
            }
        }
    }

    fn map(&mut self, of: &'b FxHashMap<Box<str>, Step>, others: TypeId) -> Result<(), Broken> {
        let mut seen: BTreeSet<&[u8]> = BTreeSet::new();
        loop {
            let (count, _) = self.block()?;
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count {
                self.part()?;
                let length = self.length()?;
                let name = self.take(length)?;
                let step = std::str::from_utf8(name).ok().and_then(|name| of.get(name));
                match step {
                    Some(step) if seen.insert(name) => self.walk(step)?,
                    Some(_) => return Err("has a name twice in a map"),
                    None => self.skip(others, 0)?,
                }
            }
        }
    }

    fn array(
        &mut self,
        items: TypeId,
        node: usize,
        (first, len): (usize, usize),
    ) -> Result<(), Broken> {
        let schema = self.schema;
        let field = &schema.nodes[node];
        let mut taken = 0;
        loop {
            let (count, _) = self.block()?;
            if count == 0 {
                break;
            }
            for _ in 0..count {
                self.part()?;
                let value = match self.scalar(items)? {
                    Some(Read::Null) => Ok(Scalar::Null),
                    Some(Read::Bool(value)) => Ok(Scalar::Bool(value)),
                    Some(Read::Whole(value) | Read::Time(value) | Read::Date(value)) => {
                        Ok(Scalar::Number(value as f64, ""))
                    }
                    Some(Read::Number(value)) => Ok(Scalar::Number(value, "")),
                    Some(Read::Decimal(bytes, scale)) => {
                        Ok(Scalar::Number(scale.read(bytes, None), ""))
                    }
                    _ => Err(wrong(field, format!("element {taken} must be a number"))),
                };
                if taken < len {
                    let outcome =
                        value.and_then(|value| self.row.take_number(field, first + taken, value));
                    self.note(outcome);
                }
                taken += 1;
            }
        }
        if taken != len {
            let problem = format!("must have {len} elements, but has {taken}");
            self.note(Err(wrong(field, problem)));
        }
        Ok(())
    }

    /// A value without parts; of one that has some, nothing, and it is skipped.
    fn scalar(&mut self, id: TypeId) -> Result<Option<Read<'b>>, Broken> {
        let types = self.types;
        Ok(Some(match &types[id] {
            Type::Null => Read::Null,
            Type::Boolean => match self.take(1)?[0] {
                0 => Read::Bool(false),
                1 => Read::Bool(true),
                _ => return Err("has a boolean that is neither"),
            },
            Type::Int | Type::Long => Read::Whole(self.long()?),
            Type::Time(by) => Read::Time(self.long()?.div_euclid(*by)),
            Type::Date => Read::Date(self.long()?),
            Type::Float => {
                let bytes = self.take(4)?.first_chunk().copied().unwrap_or_default();
                Read::Number(f64::from(f32::from_le_bytes(bytes)))
            }
            Type::Double => {
                let bytes = self.take(8)?.first_chunk().copied().unwrap_or_default();
                Read::Number(f64::from_le_bytes(bytes))
            }
            kind @ (Type::Bytes | Type::String) => {
                let length = self.length()?;
                Read::Bytes(self.take(length)?, *kind == Type::Bytes)
            }
            Type::Fixed(size) => Read::Bytes(self.take(*size)?, true),
            Type::Decimal(size, scale) => {
                let length = size.map_or_else(|| self.length(), Ok)?;
                Read::Decimal(self.take(length)?, *scale)
            }
            Type::Uuid => Read::Uuid(self.take(16)?),
            Type::Enum(symbols) => Read::Text(self.branch(symbols)?),
            Type::Union(branches) => {
                let branch = *self.branch(branches)?;
                if matches!(types[branch], Type::Union(_)) {
                    return Err("has a union within a union");
                }
                return self.scalar(branch);
            }
            Type::Array(_) | Type::Map(_) | Type::Record(_) => {
                self.skip(id, 0)?;
                return Ok(None);
            }
        }))
    }

    /// Hands a value to the row; `texts`: how it is written matters.
    fn give(&mut self, read: Read<'b>, node: usize, texts: bool) {
        let schema = self.schema;
        let field = &schema.nodes[node];
        self.text.clear();
        let outcome = match read {
            Read::Null => self.row.take(field, Scalar::Null),
            Read::Bool(value) => self.row.take(field, Scalar::Bool(value)),
            Read::Text(text) => self.row.take(field, Scalar::Text(text)),
            Read::Whole(value) => {
                write_if(texts, self.text, value);
                let value = Scalar::Number(value as f64, self.text);
                self.row.take(field, value)
            }
            Read::Number(value) => {
                write_if(texts, self.text, value);
                self.row.take(field, Scalar::Number(value, self.text))
            }
            Read::Decimal(bytes, scale) => {
                let value = scale.read(bytes, texts.then_some(&mut *self.text));
                self.row.take(field, Scalar::Number(value, self.text))
            }
            Read::Uuid(bytes) => {
                write_uuid(self.text, bytes);
                self.row.take(field, Scalar::Text(self.text))
            }
            Read::Time(time) => self.instant(field, texts, (time, time)),
            Read::Date(days) => self.instant(field, texts, (days.saturating_mul(DAY), days)),
            Read::Bytes(bytes, any) => {
                as_text(field, bytes, any).and_then(|text| self.row.take(field, Scalar::Text(text)))
            }
        };
        self.note(outcome);
    }

    /// A time in milliseconds since 1970, and the number that it is where it is no event time.
    fn instant(
        &mut self,
        field: &Node,
        texts: bool,
        (time, value): (i64, i64),
    ) -> Result<(), DecodeError> {
        write_if(texts, self.text, value);
        if time < 0 && field.uses.contains(&Use::Time) {
            return Err(wrong(field, format!("{value} is before 1970")));
        }
        let number = (value as f64, self.text.as_str());
        self.row.take_instant(field, Timestamp(time), number)
    }

    fn skip(&mut self, id: TypeId, depth: usize) -> Result<(), Broken> {
        self.part()?;
        if DEPTH_MAX < depth {
            return Err("nests too deep");
        }
        let types = self.types;
        match &types[id] {
            Type::Union(branches) => {
                let branch = *self.branch(branches)?;
                self.skip(branch, depth + 1)
            }
            Type::Record(fields) => {
                let mut fields = fields.iter();
                fields.try_for_each(|(_, of)| self.skip(*of, depth + 1))
            }
            Type::Array(of) | Type::Map(of) => loop {
                match self.block()? {
                    (0, _) => return Ok(()),
                    (_, Some(size)) => {
                        self.take(size)?;
                    }
                    (count, None) => {
                        for _ in 0..count {
                            if matches!(types[id], Type::Map(_)) {
                                let length = self.length()?;
                                self.take(length)?;
                            }
                            self.skip(*of, depth + 1)?;
                        }
                    }
                }
            },
            _ => self.scalar(id).map(drop),
        }
    }

    /// Keeps the first problem.
    fn note(&mut self, outcome: Result<(), DecodeError>) {
        if let Err(problem) = outcome {
            self.problem.get_or_insert(problem);
        }
    }
}

fn write_if(wanted: bool, text: &mut String, value: impl std::fmt::Display) {
    if wanted {
        // Writing to a string cannot fail.
        let _written = write!(text, "{value}");
    }
}

/// What is written as text; `any`: the schema says that it may be any bytes. They name things, and are never a number, for digits among them are chance.
fn as_text<'b>(field: &Node, bytes: &'b [u8], any: bool) -> Result<&'b str, DecodeError> {
    let names = |used: &Use| matches!(used, Use::Key(_) | Use::Category(_));
    if any && !field.uses.iter().all(names) {
        let problem = "is bytes without a logical type, and so no number";
        return Err(wrong(field, problem.to_owned()));
    }
    let text = std::str::from_utf8(bytes);
    text.map_err(|_| wrong(field, "is bytes that are no text".to_owned()))
}

#[cfg(test)]
#[path = "avro_tests.rs"]
mod tests;
