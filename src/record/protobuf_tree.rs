//! Protobuf read as a [`Tree`], by the schema that it was written by. A value is not trusted: how deep it nests and how many parts it has
//! is bounded.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::protobuf_schema::{Field, Files, Kind, Meaning, MessageId, Root, Scalar};
use super::protobuf_wire::{EIGHT, END, FOUR, LENGTH, MISMATCH, START, VARINT, wire_type};
use super::tree::Tree;
use super::varint::{self, zigzag};
use crate::time::Timestamp;

/// Messages and groups within each other at most, in a value and in what says which message it is.
const DEPTH_MAX: usize = 64;
/// Parts of a value beyond what its length allows: those that are not written, for they are 0.
const PARTS_MAX: usize = 10_000;

/// Reads a value, before which it stands which of the schema's messages it is (zigzag numbers: how many places there are, then each; a zero stands for the
/// first message).
///
/// # Errors
/// Where the bytes are not what the schema says, in words.
pub fn read<'s>(value: &[u8], files: &'s Files) -> Result<Tree<'s>, String> {
    let mut cursor = Cursor(value);
    let said = |problem: &str| format!("is not what its Protobuf schema says: it {problem}");
    let places = cursor.places().map_err(said)?;
    let id = files.at(&places).map_err(|problem| said(&problem))?;
    let parts = PARTS_MAX.saturating_add(value.len());
    let mut reader = Reader { files, parts };
    reader.message(id, cursor.0, 0).map_err(said)
}

/// Reads a value that says nothing of which message it is.
///
/// # Errors
/// Where the bytes are not what the schema says, in words.
pub(super) fn read_as<'s>(value: &[u8], root: &'s Root) -> Result<Tree<'s>, String> {
    let parts = PARTS_MAX.saturating_add(value.len());
    let files = &*root.files;
    let read = Reader { files, parts }.message(root.message, value, 0);
    read.map_err(|problem| format!("is not what its Protobuf schema says: it {problem}"))
}

/// Why the bytes are not what the schema says.
type Broken = &'static str;

/// What is still to be read.
struct Cursor<'b>(&'b [u8]);

impl<'b> Cursor<'b> {
    fn take(&mut self, length: usize) -> Result<&'b [u8], Broken> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or("ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let (taken, rest) = self.0.split_first_chunk().ok_or("ends too early")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn varint(&mut self) -> Result<u64, Broken> {
        varint::read(|| self.chunk().map(|[byte]| byte))
    }

    /// What says its length first.
    fn delimited(&mut self) -> Result<&'b [u8], Broken> {
        let length = self.varint()?;
        self.take(usize::try_from(length).map_err(|_| "ends too early")?)
    }

    /// The places of a message: of the file, of the messages within that one, and so on.
    fn places(&mut self) -> Result<Vec<usize>, Broken> {
        let wrong = |_| "names no message";
        let count = usize::try_from(zigzag(self.varint()?)).map_err(wrong)?;
        if DEPTH_MAX < count {
            return Err("names a message too deep");
        }
        if count == 0 {
            return Ok(vec![0]);
        }
        let each = (0..count).map(|_| usize::try_from(zigzag(self.varint()?)).map_err(wrong));
        each.collect()
    }

    /// Passes over a field's value.
    fn skip(&mut self, (number, wire): (u64, u64), depth: usize) -> Result<(), Broken> {
        match wire {
            VARINT => self.varint().map(drop),
            EIGHT => self.take(8).map(drop),
            LENGTH => self.delimited().map(drop),
            FOUR => self.take(4).map(drop),
            START if depth < DEPTH_MAX => loop {
                let tag = self.varint()?;
                let (inner, wire) = (tag >> 3, tag & 7);
                if wire == END {
                    return if inner == number {
                        Ok(())
                    } else {
                        Err("ends a group that is another")
                    };
                }
                self.skip((inner, wire), depth + 1)?;
            },
            START => Err("nests too deep"),
            _ => Err("has a field of no known kind"),
        }
    }

    fn scalar<'s>(&mut self, kind: Scalar, files: &'s Files) -> Result<Tree<'s>, Broken> {
        Ok(match kind {
            Scalar::Double => Tree::Number(f64::from_le_bytes(self.chunk()?)),
            Scalar::Float => Tree::Number(f32::from_le_bytes(self.chunk()?).into()),
            Scalar::Fixed64 => Tree::Count(u64::from_le_bytes(self.chunk()?)),
            Scalar::Sfixed64 => Tree::Whole(i64::from_le_bytes(self.chunk()?)),
            Scalar::Fixed32 => Tree::Count(u32::from_le_bytes(self.chunk()?).into()),
            Scalar::Sfixed32 => Tree::Whole(i32::from_le_bytes(self.chunk()?).into()),
            Scalar::Int(false) => Tree::Whole(self.varint()? as i64),
            Scalar::Int(true) => Tree::Whole((self.varint()? as i32).into()),
            Scalar::Uint(false) => Tree::Count(self.varint()?),
            Scalar::Uint(true) => Tree::Count((self.varint()? as u32).into()),
            Scalar::Sint => Tree::Whole(zigzag(self.varint()?)),
            Scalar::Bool => Tree::Flag(self.varint()? != 0),
            Scalar::Bytes => {
                let text = String::from_utf8_lossy(self.delimited()?);
                Tree::Text(Cow::Owned(text.into_owned()))
            }
            Scalar::Enum(of) => name(files, of, self.varint()? as i32),
        })
    }
}

/// A value of an enum: its name, or its number, if the schema has no name for it.
fn name(files: &Files, of: usize, number: i32) -> Tree<'_> {
    let name = files.enums.get(of).and_then(|names| names.get(&number));
    name.map_or(Tree::Whole(number.into()), |name| {
        Tree::Text(Cow::Borrowed(name))
    })
}

/// What a scalar is that is not written, where nothing tells it from one that was not set.
fn zero(kind: Scalar, files: &Files) -> Tree<'_> {
    match kind {
        Scalar::Double | Scalar::Float => Tree::Number(0.0),
        Scalar::Bool => Tree::Flag(false),
        Scalar::Bytes => Tree::Text(Cow::Borrowed("")),
        Scalar::Enum(of) => name(files, of, 0),
        _ => Tree::Whole(0),
    }
}

/// What was found of a field.
enum Found<'b, 's> {
    Nothing,
    One(Tree<'s>),
    Several(Vec<Tree<'s>>),
    /// The bytes of a message; those of several are merged, which is to read them as one.
    Message(Cow<'b, [u8]>),
}

/// A value while it is read.
struct Reader<'s> {
    files: &'s Files,
    /// Parts that may still come.
    parts: usize,
}

impl<'s> Reader<'s> {
    fn part(&mut self) -> Result<(), Broken> {
        self.parts = self.parts.checked_sub(1).ok_or("has too many parts")?;
        Ok(())
    }

    fn message(&mut self, id: MessageId, bytes: &[u8], depth: usize) -> Result<Tree<'s>, Broken> {
        if DEPTH_MAX < depth {
            return Err("nests too deep");
        }
        let files = self.files;
        let of = files.messages.get(id);
        let of = of.ok_or("has a message that there is not")?;
        let places = of.fields.iter().enumerate();
        let places: BTreeMap<u64, usize> = places
            .map(|(place, field)| (field.number.into(), place))
            .collect();
        let mut found: Vec<Found<'_, 's>> = of.fields.iter().map(|_| Found::Nothing).collect();
        let mut cursor = Cursor(bytes);
        while !cursor.0.is_empty() {
            let tag = cursor.varint()?;
            let (number, wire) = (tag >> 3, tag & 7);
            let place = places.get(&number).copied();
            let known = place.and_then(|place| of.fields.get(place).zip(found.get_mut(place)));
            match known {
                Some((field, found)) => {
                    self.field(field, (&mut cursor, (number, wire)), found, depth)?;
                }
                None => cursor.skip((number, wire), depth)?,
            }
        }
        let mut fields = Vec::new();
        for (field, found) in of.fields.iter().zip(found) {
            let value = match (found, field.kind) {
                (Found::One(value), _) => value,
                (Found::Several(items), Kind::Message(of)) => several(files, of, items),
                (Found::Several(items), _) => Tree::List(items),
                (Found::Message(bytes), Kind::Message(of)) => {
                    self.message(of, &bytes, depth + 1)?
                }
                (Found::Nothing, Kind::Scalar(kind)) if !field.repeated && !field.presence => {
                    zero(kind, files)
                }
                (Found::Nothing | Found::Message(_), _) => continue,
            };
            self.part()?;
            fields.push((Cow::Borrowed(&*field.name), value));
        }
        Ok(meant(of.meaning, fields))
    }

    /// Reads what is written of one field.
    fn field<'b>(
        &mut self,
        field: &Field,
        (cursor, (number, wire)): (&mut Cursor<'b>, (u64, u64)),
        found: &mut Found<'b, 's>,
        depth: usize,
    ) -> Result<(), Broken> {
        let files = self.files;
        let mut items = Vec::new();
        match field.kind {
            Kind::Group => return cursor.skip((number, wire), depth),
            Kind::Message(_) if wire != LENGTH => return Err(MISMATCH),
            Kind::Message(of) if field.repeated => {
                self.part()?;
                items.push(self.message(of, cursor.delimited()?, depth + 1)?);
            }
            Kind::Message(_) => {
                let bytes = cursor.delimited()?;
                *found = Found::Message(match std::mem::replace(found, Found::Nothing) {
                    Found::Message(before) => Cow::Owned([&before, bytes].concat()),
                    _ => Cow::Borrowed(bytes),
                });
                return Ok(());
            }
            Kind::Scalar(kind) if wire == wire_type(kind) => {
                self.part()?;
                items.push(cursor.scalar(kind, files)?);
            }
            Kind::Scalar(kind) if field.repeated && wire == LENGTH => {
                let mut packed = Cursor(cursor.delimited()?);
                while !packed.0.is_empty() {
                    self.part()?;
                    items.push(packed.scalar(kind, files)?);
                }
            }
            Kind::Scalar(_) => return Err(MISMATCH),
        }
        match found {
            Found::Several(before) => before.append(&mut items),
            _ if field.repeated => *found = Found::Several(items),
            // Of several the last one counts.
            _ => *found = items.pop().map_or(Found::Nothing, Found::One),
        }
        Ok(())
    }
}

/// Messages one after another: the fields of a map, where they are entries of one.
fn several<'s>(files: &'s Files, of: MessageId, items: Vec<Tree<'s>>) -> Tree<'s> {
    let meaning = files.messages.get(of).map(|of| of.meaning);
    if meaning != Some(Meaning::Entry) {
        return Tree::List(items);
    }
    let entries = items.into_iter().filter_map(|entry| {
        let Tree::Fields(parts) = entry else {
            return None;
        };
        let mut parts = parts.into_iter().map(|(_, value)| value);
        let key = match parts.next()? {
            Tree::Text(text) => text,
            Tree::Flag(flag) => flag.to_string().into(),
            Tree::Whole(number) => number.to_string().into(),
            Tree::Count(number) => number.to_string().into(),
            _ => return None,
        };
        Some((key, parts.next().unwrap_or(Tree::Null)))
    });
    Tree::Fields(entries.collect())
}

/// What the fields of a message mean together.
fn meant<'s>(meaning: Meaning, fields: Vec<(Cow<'s, str>, Tree<'s>)>) -> Tree<'s> {
    match meaning {
        Meaning::Timestamp => {
            let part = |place: usize| match fields.get(place) {
                Some((_, Tree::Whole(number))) => *number,
                _ => 0,
            };
            let milliseconds = part(0).saturating_mul(1_000);
            Tree::Time(Timestamp(
                milliseconds.saturating_add(part(1).div_euclid(1_000_000)),
            ))
        }
        Meaning::Wrapper(_) => {
            let value = fields.into_iter().next();
            value.map_or(Tree::Null, |(_, value)| value)
        }
        Meaning::Plain | Meaning::Entry | Meaning::Duration => Tree::Fields(fields),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: &str = r#"syntax = "proto3"; package p; import "google/protobuf/timestamp.proto"; import "google/protobuf/wrappers.proto";
        message A { enum E { Z = 0; Y = 5; }
            double d = 1; float f = 2; int32 i = 3; sint64 s = 4; uint64 u = 5; fixed32 x = 6; sfixed64 y = 7; bool b = 8; string t = 9; E e = 10;
            optional double maybe = 11; repeated int64 list = 12; A inner = 13; map<string, double> map = 14;
            google.protobuf.Timestamp at = 15; google.protobuf.DoubleValue wrapped = 16; repeated A many = 17; sfixed32 z = 18; fixed64 w = 19;
            uint32 v = 20; int64 l = 21; }
        message B { message C { string c = 2; } }"#;

    fn files() -> Files {
        Files::compile(ALL, BTreeMap::new()).unwrap()
    }

    /// Seven bits a byte.
    fn varint(mut rest: u64) -> Vec<u8> {
        let mut to = Vec::new();
        while rest > 0x7f {
            to.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        to.push(rest as u8);
        to
    }

    /// A message by its parts: the number of a field, its wire type, its bytes, before which their length stands where the type says so.
    fn written(parts: &[(u64, u64, &[u8])]) -> Vec<u8> {
        let each = parts.iter().map(|(number, wire, value)| {
            let length = if *wire == LENGTH {
                varint(value.len() as u64)
            } else {
                Vec::new()
            };
            [&varint(number << 3 | wire), &length, *value].concat()
        });
        each.collect::<Vec<_>>().concat()
    }

    fn first(message: &[u8]) -> Vec<u8> {
        [&[0], message].concat()
    }

    fn fields<'t, 's>(tree: &'t Tree<'s>) -> BTreeMap<&'t str, &'t Tree<'s>> {
        let Tree::Fields(fields) = tree else {
            panic!("fields: {tree:?}");
        };
        let named = fields.iter();
        named.map(|(name, value)| (&**name, value)).collect()
    }

    /// Minus one, as a number of 64 bits.
    const MINUS: [u8; 10] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];

    /// A message with every field, some of them twice.
    fn all() -> Vec<u8> {
        let at = written(&[(1, VARINT, &MINUS), (2, VARINT, &varint(7_000_000))]);
        written(&[
            (1, EIGHT, &f64::INFINITY.to_le_bytes()),
            (2, FOUR, &0.1_f32.to_le_bytes()),
            (3, VARINT, &MINUS),
            (4, VARINT, &[3]),
            (5, VARINT, &varint(u64::MAX)),
            (6, FOUR, &[0xff; 4]),
            (7, EIGHT, &[0xff; 8]),
            (8, VARINT, &[1]),
            (9, LENGTH, b"text"),
            (10, VARINT, &[5]),
            (11, EIGHT, &[0; 8]),
            (12, LENGTH, &[1, 2]),
            (12, VARINT, &[3]),
            (
                13,
                LENGTH,
                &written(&[(8, VARINT, &[1]), (9, LENGTH, b"x")]),
            ),
            (13, LENGTH, &written(&[(9, LENGTH, b"merged")])),
            (
                14,
                LENGTH,
                &written(&[(1, LENGTH, b"k"), (2, EIGHT, &[0; 8])]),
            ),
            (15, LENGTH, &at),
            (16, LENGTH, &[]),
            (17, LENGTH, &[]),
            (99, START, &[]),
            (7, VARINT, &[1]),
            (99, END, &[]),
        ])
    }

    #[test]
    fn every_type_is_read() {
        let files = files();
        let bytes = first(&all());
        let tree = read(&bytes, &files).unwrap();
        let found = fields(&tree);
        let text = |text: &'static str| Tree::Text(text.into());
        for (name, wanted) in [
            ("d", Tree::Number(f64::INFINITY)),
            ("f", Tree::Number(0.1_f32.into())),
            ("i", Tree::Whole(-1)),
            ("s", Tree::Whole(-2)),
            ("u", Tree::Count(u64::MAX)),
            ("x", Tree::Count(u32::MAX.into())),
            ("y", Tree::Whole(-1)),
            ("b", Tree::Flag(true)),
            ("t", text("text")),
            ("e", text("Y")),
            ("maybe", Tree::Number(0.0)),
            ("list", Tree::List([1, 2, 3].map(Tree::Whole).to_vec())),
            ("map", Tree::Fields(vec![("k".into(), Tree::Number(0.0))])),
            ("at", Tree::Time(Timestamp(-993))),
            ("wrapped", Tree::Number(0.0)),
        ] {
            assert_eq!(found[name], &wanted, "{name}");
        }
        let inner = fields(found["inner"]);
        assert_eq!(
            (inner["b"], inner["t"]),
            (&Tree::Flag(true), &text("merged"))
        );
    }

    #[test]
    fn what_is_not_written_is_zero_or_not_there() {
        let files = files();
        let tree = read(&[0], &files).unwrap();
        let found = fields(&tree);
        let text = |text: &'static str| Tree::Text(text.into());
        assert_eq!((found["t"], found["e"]), (&text(""), &text("Z")));
        assert_eq!(
            (found["d"], found["l"]),
            (&Tree::Number(0.0), &Tree::Whole(0))
        );
        for absent in ["maybe", "list", "inner", "map", "at", "wrapped", "many"] {
            assert!(!found.contains_key(absent), "{absent}");
        }
        // Of the second message the first one within.
        let other = [&[4, 2, 0][..], &written(&[(2, LENGTH, b"c")])].concat();
        let tree = read(&other, &files).unwrap();
        assert_eq!(fields(&tree)["c"], &text("c"));
    }

    #[test]
    fn what_is_not_as_the_schema_says_says_why() {
        let files = files();
        let mut deep = Vec::new();
        for _ in 0..100 {
            deep = written(&[(13, LENGTH, &deep)]);
        }
        let groups = [varint(99 << 3 | START), varint(99 << 3 | START)].concat();
        for (bytes, part) in [
            (vec![], "ends too early"),
            (vec![2, 8], "names a message"),
            (vec![1], "names no message"),
            (vec![0xfe, 1], "too deep"),
            (
                first(&written(&[(1, VARINT, &[0])])),
                "no field of its kind",
            ),
            (
                first(&written(&[(13, VARINT, &[0])])),
                "no field of its kind",
            ),
            (first(&[9, 0]), "ends too early"),
            (first(&[0xff; 12]), "more than ten bytes"),
            (first(&varint(99 << 3 | 7)), "no known kind"),
            (first(&deep), "nests too deep"),
            (first(&groups.repeat(100)), "nests too deep"),
            (
                first(&[&groups[..], &varint(98 << 3 | END)].concat()),
                "another",
            ),
            (
                first(&written(&[(17, LENGTH, &[])]).repeat(5_000)),
                "too many parts",
            ),
        ] {
            let problem = read(&bytes, &files).unwrap_err();
            assert!(problem.contains(part), "{part}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            thread_local! {
                static FILES: Files = files();
            }
            FILES.with(|files| {
                let _read = read(&bytes, files);
                let _read = read(&first(&bytes), files);
            });
        }
    }
}
