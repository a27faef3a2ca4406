//! Protobuf: values are read by the schema that they were written by, one for all of them, or the one whose id each has (`wire`), with the place of its
//! message in that schema (zigzag numbers: how many there are, then each; a zero stands for the first message).
//!
//! What a schema lacks of the fields that are asked for is missing, what it has beside them is skipped: so schemas may change. Nothing is built for the
//! parts of a value but the slots of `protobuf_bind`, and its length bounds the work.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::protobuf_bind::{Bound, Parts, Slot, Target, What, zero};
use super::protobuf_row::hand;
use super::protobuf_schema::{Files, MessageId, Root, Scalar};
use super::protobuf_wire::{EIGHT, END, FOUR, LENGTH, MISMATCH, START, VARINT, wire_type};
use super::remembered::{Remembered, of_another, syntax};
use super::row::Row;
use super::varint;
use super::wire;
use super::writers::{SchemaId, Writer, Writers};
use super::{DecodeError, Header};

/// Groups within each other at most.
const DEPTH_MAX: usize = 128;
/// Slots that a value may have forgotten and set to 0, beyond its length.
const WORK_MAX: usize = 100_000;
/// Messages within each other at most, where a record says which one it is.
const PLACES_MAX: usize = 64;

/// What a decoder knows of schemas.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    bound: Remembered<(SchemaId, MessageId), Bound>,
    slots: Vec<Slot>,
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
    let (bound, value) = match &schema.message {
        Some(root) => (known.bound.plain(|| Bound::new(root, schema))?, value),
        None => {
            let framed = wire::framed(value, headers, "Protobuf")?;
            let id = framed.id;
            let Writer::Protobuf(files) = wire::writer(writers, id)? else {
                return Err(of_another(id, "Protobuf"));
            };
            let mut reader = Reader::new(framed.header.unwrap_or(framed.body), &mut known.slots);
            let message = reader.which(files);
            let message = message
                .map_err(|problem| syntax(&format!("has the schema {id}, but {problem}")))?;
            let at = reader.at;
            let body = match framed.header {
                Some(_) => framed.body,
                None => &framed.body[at..],
            };
            let new = || {
                let files = Arc::clone(files);
                Bound::new(&Root { files, message }, schema)
            };
            (known.bound.named((id, message), new)?, body)
        }
    };
    let mut reader = Reader::new(value, &mut known.slots);
    reader.slots.clear();
    reader.slots.resize(bound.slots, Slot::Missing);
    let read = reader.message(&bound.root);
    let at = reader.at;
    read.map_err(|problem| {
        syntax(&format!(
            "is not what its Protobuf schema says: after {at} bytes it {problem}"
        ))
    })?;
    for (slot, give) in &bound.gives {
        hand(
            row,
            (bound, value),
            (&known.slots[*slot..], give),
            &mut known.text,
        )?;
    }
    row.finish()
}

/// Why the bytes are not what the schema says.
type Broken = &'static str;

/// A value while it is read.
struct Reader<'b, 's> {
    bytes: &'b [u8],
    at: usize,
    /// Where the message ends that is read.
    end: usize,
    slots: &'s mut Vec<Slot>,
    /// Slots that may still be forgotten and set to 0.
    work: usize,
}

impl<'b, 's> Reader<'b, 's> {
    fn new(bytes: &'b [u8], slots: &'s mut Vec<Slot>) -> Self {
        Self {
            bytes,
            at: 0,
            end: bytes.len(),
            slots,
            work: WORK_MAX.saturating_add(bytes.len()),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], Broken> {
        let end = self.at.checked_add(length).ok_or("ends too early")?;
        if self.end < end {
            return Err("ends too early");
        }
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// A number of variable length.
    fn varint(&mut self) -> Result<u64, Broken> {
        varint::read(|| Ok(self.take(1)?[0]))
    }

    fn zigzag(&mut self) -> Result<i64, Broken> {
        self.varint().map(varint::zigzag)
    }

    fn four(&mut self) -> Result<[u8; 4], Broken> {
        Ok(self.take(4)?.first_chunk().copied().unwrap_or_default())
    }

    fn eight(&mut self) -> Result<[u8; 8], Broken> {
        Ok(self.take(8)?.first_chunk().copied().unwrap_or_default())
    }

    /// Which message of a file it is.
    fn which(&mut self, files: &Files) -> Result<MessageId, String> {
        let place = |reader: &mut Self| {
            let number = reader
                .zigzag()
                .map_err(|problem| format!("what says which of its messages it is {problem}"))?;
            usize::try_from(number).map_err(|_| "it names a message below zero".to_owned())
        };
        let count = place(self)?;
        if PLACES_MAX < count {
            return Err(format!(
                "it names a message in {PLACES_MAX} others and more"
            ));
        }
        let mut places = Vec::new();
        for _ in 0..count {
            places.push(place(self)?);
        }
        if places.is_empty() {
            places.push(0);
        }
        files.at(&places).map_err(|problem| format!("it {problem}"))
    }

    /// The number and the wire type of the next field; `None` at the end.
    fn tag(&mut self) -> Result<Option<(u32, u64)>, Broken> {
        if self.at == self.end {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).unwrap_or_default();
        if number == 0 || 0x1fff_ffff < number {
            return Err("has a field whose number there cannot be");
        }
        Ok(Some((number, tag & 7)))
    }

    /// Reads on within what has a length before it; answers where the message around it ends, for [`Self::leave`].
    fn within(&mut self) -> Result<usize, Broken> {
        let length = self.varint()?;
        let length = usize::try_from(length).map_err(|_| "ends too early")?;
        let end = self.at.checked_add(length).ok_or("ends too early")?;
        if self.end < end {
            return Err("ends too early");
        }
        Ok(std::mem::replace(&mut self.end, end))
    }

    fn leave(&mut self, around: usize) {
        self.at = self.end;
        self.end = around;
    }

    fn skip(&mut self, number: u32, wire: u64, depth: usize) -> Result<(), Broken> {
        match wire {
            VARINT => self.varint().map(drop),
            EIGHT => self.take(8).map(drop),
            FOUR => self.take(4).map(drop),
            LENGTH => {
                let around = self.within()?;
                self.leave(around);
                Ok(())
            }
            START if DEPTH_MAX <= depth => Err("nests too deep"),
            START => loop {
                match self.tag()?.ok_or("ends too early")? {
                    (ended, END) if ended == number => return Ok(()),
                    (_, END) => return Err("ends another group than it began"),
                    (inner, wire) => self.skip(inner, wire, depth + 1)?,
                }
            },
            END => Err("ends a group that it did not begin"),
            _ => Err("has a wire type that there is not"),
        }
    }

    fn charge(&mut self, slots: usize) -> Result<(), Broken> {
        self.work = self.work.checked_sub(slots).ok_or("says too much twice")?;
        Ok(())
    }

    fn forget(&mut self, slots: std::ops::Range<usize>) -> Result<(), Broken> {
        self.charge(slots.len())?;
        self.slots[slots].fill(Slot::Missing);
        Ok(())
    }

    /// A message that is there: its fields that are not written are 0.
    fn enter(&mut self, parts: &Parts) -> Result<(), Broken> {
        self.charge(parts.zeros.len())?;
        for (slot, zero) in &parts.zeros {
            let slot = &mut self.slots[*slot];
            if *slot == Slot::Missing {
                *slot = *zero;
            }
        }
        Ok(())
    }

    /// Reads a message up to its end.
    fn message(&mut self, parts: &Parts) -> Result<(), Broken> {
        self.enter(parts)?;
        while let Some((number, wire)) = self.tag()? {
            match parts.fields.get(&number) {
                Some(target) => self.field(target, number, wire)?,
                None => self.skip(number, wire, 0)?,
            }
        }
        Ok(())
    }

    fn field(&mut self, target: &Target, number: u32, wire: u64) -> Result<(), Broken> {
        for others in &target.others {
            self.forget(others.clone())?;
        }
        let slot = target.slots.start;
        match &target.what {
            What::Nothing => self.skip(number, wire, 0),
            What::Wrong => {
                self.slots[slot] = Slot::Wrong;
                self.skip(number, wire, 0)
            }
            What::Scalar(kind) => {
                self.slots[slot] = self.scalar(*kind, wire)?;
                Ok(())
            }
            What::Array(kind, len) if wire == LENGTH => {
                let around = self.within()?;
                while self.at < self.end {
                    self.element(*kind, (slot, *len))?;
                }
                self.leave(around);
                Ok(())
            }
            What::Array(kind, _) if wire != wire_type(*kind) => Err(MISMATCH),
            What::Array(kind, len) => self.element(*kind, (slot, *len)),
            _ if wire != LENGTH => Err(MISMATCH),
            within => {
                let around = self.within()?;
                match within {
                    What::Message(parts) => self.message(parts)?,
                    What::Map(key, targets) => self.entry(*key, targets)?,
                    _ => self.value(target)?,
                }
                self.leave(around);
                Ok(())
            }
        }
    }

    fn element(&mut self, kind: Scalar, (slot, len): (usize, usize)) -> Result<(), Broken> {
        let value = self.scalar(kind, wire_type(kind))?;
        let count = match self.slots[slot] {
            Slot::Count(count) => count as usize,
            _ => 0,
        };
        if count < len {
            self.slots[slot + 1 + count] = value;
        }
        self.slots[slot] = Slot::Count(count.saturating_add(1) as u32);
        Ok(())
    }

    /// What is there without having been written.
    fn zero(&mut self, target: &Target) -> Result<(), Broken> {
        let slot = target.slots.start;
        self.slots[slot] = match &target.what {
            What::Scalar(kind) | What::Wrapper(kind) => zero(*kind),
            What::Timestamp => Slot::Time(0, 0),
            What::Duration => Slot::Duration(0, 0),
            What::Wrong => Slot::Wrong,
            What::Message(parts) => return self.enter(parts),
            What::Nothing | What::Array(..) | What::Map(..) => return Ok(()),
        };
        Ok(())
    }

    /// Reads a message that is a value up to its end.
    fn value(&mut self, target: &Target) -> Result<(), Broken> {
        let slot = target.slots.start;
        if self.slots[slot] == Slot::Missing {
            self.zero(target)?;
        }
        while let Some((number, wire)) = self.tag()? {
            let (first, second) = (number == 1, number == 2);
            let read = match (self.slots[slot], &target.what) {
                (_, What::Wrapper(kind)) if first => self.scalar(*kind, wire)?,
                (Slot::Time(seconds, nanos), _) if first || second => {
                    let (seconds, nanos) = self.time(first, wire, (seconds, nanos))?;
                    Slot::Time(seconds, nanos)
                }
                (Slot::Duration(seconds, nanos), _) if first || second => {
                    let (seconds, nanos) = self.time(first, wire, (seconds, nanos))?;
                    Slot::Duration(seconds, nanos)
                }
                (kept, _) => {
                    self.skip(number, wire, 0)?;
                    kept
                }
            };
            self.slots[slot] = read;
        }
        Ok(())
    }

    fn time(
        &mut self,
        first: bool,
        wire: u64,
        (seconds, nanos): (i64, i32),
    ) -> Result<(i64, i32), Broken> {
        if wire != VARINT {
            return Err(MISMATCH);
        }
        let number = self.varint()? as i64;
        Ok(if first {
            (number, nanos)
        } else {
            (seconds, number as i32)
        })
    }

    /// Reads an entry of a map up to its end.
    fn entry(&mut self, key: Scalar, targets: &FxHashMap<Box<str>, Target>) -> Result<(), Broken> {
        let start = self.at;
        let mut found = zero(key);
        while let Some((number, wire)) = self.tag()? {
            if number == 1 {
                found = self.scalar(key, wire)?;
            } else {
                self.skip(number, wire, 0)?;
            }
        }
        let target = match found {
            Slot::Bytes(from, to) => {
                let name = std::str::from_utf8(&self.bytes[from as usize..to as usize]);
                name.ok().and_then(|name| targets.get(name))
            }
            Slot::Whole(number) => targets.get(&*number.to_string()),
            Slot::Unsigned(number) => targets.get(&*number.to_string()),
            Slot::Bool(value) => targets.get(if value { "true" } else { "false" }),
            _ => None,
        };
        let Some(target) = target else {
            return Ok(());
        };
        // Of two entries with one key the last one counts.
        self.forget(target.slots.clone())?;
        self.zero(target)?;
        self.at = start;
        while let Some((number, wire)) = self.tag()? {
            if number == 2 {
                self.field(target, number, wire)?;
            } else {
                self.skip(number, wire, 0)?;
            }
        }
        Ok(())
    }

    fn scalar(&mut self, kind: Scalar, wire: u64) -> Result<Slot, Broken> {
        if wire != wire_type(kind) {
            return Err(MISMATCH);
        }
        Ok(match kind {
            Scalar::Double => Slot::Double(f64::from_le_bytes(self.eight()?)),
            Scalar::Float => Slot::Float(f32::from_le_bytes(self.four()?)),
            Scalar::Int(true) => Slot::Whole(i64::from(self.varint()? as i32)),
            Scalar::Int(false) => Slot::Whole(self.varint()? as i64),
            Scalar::Uint(true) => Slot::Unsigned(u64::from(self.varint()? as u32)),
            Scalar::Uint(false) => Slot::Unsigned(self.varint()?),
            Scalar::Sint => Slot::Whole(self.zigzag()?),
            Scalar::Fixed32 => Slot::Unsigned(u64::from(u32::from_le_bytes(self.four()?))),
            Scalar::Fixed64 => Slot::Unsigned(u64::from_le_bytes(self.eight()?)),
            Scalar::Sfixed32 => Slot::Whole(i64::from(i32::from_le_bytes(self.four()?))),
            Scalar::Sfixed64 => Slot::Whole(i64::from_le_bytes(self.eight()?)),
            Scalar::Bool => Slot::Bool(self.varint()? != 0),
            Scalar::Enum(of) => Slot::Name(of as u32, self.varint()? as i32),
            Scalar::Bytes => {
                let around = self.within()?;
                let slot = Slot::Bytes(self.at as u32, self.end as u32);
                self.leave(around);
                slot
            }
        })
    }
}

#[cfg(test)]
#[path = "protobuf_tests.rs"]
mod tests;
