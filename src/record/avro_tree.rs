//! Avro read as a [`Tree`], by the schema that it was written by. A value is not trusted: how deep it nests and how many parts it has is bounded.

use std::borrow::Cow;

use super::avro_logical;
use super::avro_schema::{Type, TypeId, Writer};
use super::tree::Tree;
use super::varint;
use crate::time::Timestamp;

/// Values within each other at most.
const DEPTH_MAX: usize = 64;
/// Parts of a value beyond what its length allows: those that take no bytes.
const PARTS_MAX: usize = 10_000;

/// Reads a value.
///
/// # Errors
/// Where the bytes are not what the schema says, in words.
pub fn read<'a>(value: &'a [u8], writer: &'a Writer) -> Result<Tree<'a>, String> {
    let mut reader = Reader {
        types: &writer.types,
        rest: value,
        parts: PARTS_MAX.saturating_add(value.len()),
    };
    let read = reader.value(writer.root, 0);
    let read = match read {
        Ok(_) if !reader.rest.is_empty() => Err("goes on"),
        read => read,
    };
    let at = value.len() - reader.rest.len();
    read.map_err(|problem| {
        format!("is not what its Avro schema says: after {at} bytes it {problem}")
    })
}

/// Why the bytes are not what the schema says.
type Broken = &'static str;

struct Reader<'a> {
    types: &'a [Type],
    rest: &'a [u8],
    /// Parts that may still come.
    parts: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or("ends too early")?;
        self.rest = rest;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or("ends too early")?;
        self.rest = rest;
        Ok(*taken)
    }

    /// A number of variable length, in zigzag.
    fn long(&mut self) -> Result<i64, Broken> {
        varint::read(|| self.chunk().map(|[byte]| byte)).map(varint::zigzag)
    }

    fn length(&mut self) -> Result<usize, Broken> {
        usize::try_from(self.long()?).map_err(|_| "has a length below zero")
    }

    /// Which of a union's branches or an enum's symbols it is.
    fn which<T>(&mut self, of: &'a [T]) -> Result<&'a T, Broken> {
        let place = self.length()?;
        of.get(place)
            .ok_or("names a branch or a symbol that there is not")
    }

    /// Text; what is none is shown as far as it is.
    fn text(&mut self, length: usize) -> Result<Cow<'a, str>, Broken> {
        self.take(length).map(String::from_utf8_lossy)
    }

    fn value(&mut self, id: TypeId, depth: usize) -> Result<Tree<'a>, Broken> {
        self.parts = self.parts.checked_sub(1).ok_or("has too many parts")?;
        if DEPTH_MAX < depth {
            return Err("nests too deep");
        }
        let of = self.types.get(id).ok_or("has a type that there is not")?;
        Ok(match of {
            Type::Null => Tree::Null,
            Type::Boolean => match self.chunk()? {
                [0] => Tree::Flag(false),
                [1] => Tree::Flag(true),
                [_] => return Err("has a boolean that is neither"),
            },
            Type::Int | Type::Long | Type::Date => Tree::Whole(self.long()?),
            Type::Time(by) => Tree::Time(Timestamp(self.long()?.div_euclid(*by))),
            Type::Decimal(size, scale) => {
                let length = size.map_or_else(|| self.length(), Ok)?;
                Tree::Number(scale.read(self.take(length)?, None))
            }
            Type::Float => Tree::Number(f32::from_le_bytes(self.chunk()?).into()),
            Type::Double => Tree::Number(f64::from_le_bytes(self.chunk()?)),
            Type::Bytes | Type::String => {
                let length = self.length()?;
                Tree::Text(self.text(length)?)
            }
            Type::Fixed(size) => Tree::Text(self.text(*size)?),
            Type::Uuid => {
                let mut text = String::new();
                avro_logical::write_uuid(&mut text, self.take(16)?);
                Tree::Text(text.into())
            }
            Type::Enum(symbols) => Tree::Text(Cow::Borrowed(self.which(symbols)?)),
            Type::Union(branches) => {
                let branch = *self.which(branches)?;
                self.value(branch, depth + 1)?
            }
            Type::Record(fields) => {
                let each = fields.iter().map(|(name, of)| {
                    let value = self.value(*of, depth + 1)?;
                    Ok((Cow::Borrowed(&**name), value))
                });
                Tree::Fields(each.collect::<Result<_, Broken>>()?)
            }
            Type::Array(items) => {
                let mut list = Vec::new();
                self.blocks(|reader| {
                    list.push(reader.value(*items, depth + 1)?);
                    Ok(())
                })?;
                Tree::List(list)
            }
            Type::Map(values) => {
                let mut fields = Vec::new();
                self.blocks(|reader| {
                    let length = reader.length()?;
                    let name = reader.text(length)?;
                    fields.push((name, reader.value(*values, depth + 1)?));
                    Ok(())
                })?;
                Tree::Fields(fields)
            }
        })
    }

    /// Each item of the blocks of an array or a map.
    fn blocks(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        loop {
            let count = self.long()?;
            if count < 0 {
                // How long the block is, for those who pass it over.
                self.length()?;
            }
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count.unsigned_abs() {
                item(self)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: &str = r#"{"type":"record","name":"R","fields":[
        {"name":"flag","type":"boolean"},
        {"name":"int","type":"int"},
        {"name":"time","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"float","type":"float"},
        {"name":"double","type":"double"},
        {"name":"bytes","type":"bytes"},
        {"name":"fixed","type":{"type":"fixed","name":"F","size":2}},
        {"name":"word","type":{"type":"enum","name":"E","symbols":["a","b"]}},
        {"name":"maybe","type":["null","R"]},
        {"name":"list","type":{"type":"array","items":"null"}},
        {"name":"map","type":{"type":"map","values":"long"}},
        {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":3}},
        {"name":"day","type":{"type":"int","logicalType":"date"}},
        {"name":"id","type":{"type":"fixed","name":"I","size":16,"logicalType":"uuid"}}]}"#;

    /// One value, with `maybe` and the list as they are given.
    fn value(maybe: &[u8], list: &[u8]) -> Vec<u8> {
        let mut value = vec![1, 3, 5];
        value.extend(0.5_f32.to_le_bytes());
        value.extend(f64::NEG_INFINITY.to_le_bytes());
        value.extend([4, b'h', 0xff, b'o', b'k', 2]);
        value.extend(maybe);
        value.extend(list);
        // A block of one entry that says how long it is.
        value.extend([1, 6, 2, b'k', 14, 0]);
        value.extend([4, 0x0c, 0x36, 2]);
        value.extend(*b"0123456789abcdef");
        value
    }

    #[test]
    fn every_type_is_read() {
        let writer = Writer::parse(ALL).unwrap();
        let bytes = value(&[0], &[4, 0]);
        let Tree::Fields(fields) = read(&bytes, &writer).unwrap() else {
            panic!("a record");
        };
        let text = |text: &'static str| Tree::Text(text.into());
        let wanted = [
            ("flag", Tree::Flag(true)),
            ("int", Tree::Whole(-2)),
            ("time", Tree::Time(Timestamp(-3))),
            ("float", Tree::Number(0.5)),
            ("double", Tree::Number(f64::NEG_INFINITY)),
            ("bytes", text("h\u{fffd}")),
            ("fixed", text("ok")),
            ("word", text("b")),
            ("maybe", Tree::Null),
            ("list", Tree::List(vec![Tree::Null; 2])),
            ("map", Tree::Fields(vec![("k".into(), Tree::Whole(7))])),
            ("price", Tree::Number(3.126)),
            ("day", Tree::Whole(1)),
            ("id", text("30313233-3435-3637-3839-616263646566")),
        ];
        let wanted = wanted.map(|(name, value)| (Cow::Borrowed(name), value));
        assert_eq!(fields, wanted);
    }

    #[test]
    fn what_is_not_as_the_schema_says_says_why() {
        let writer = Writer::parse(ALL).unwrap();
        let deep = vec![value(&[2], &[0])[..22].to_vec(); 200].concat();
        for (bytes, part) in [
            (vec![2], "neither"),
            (vec![1, 0xff], "ends too early"),
            (vec![1; 10], "ends too early"),
            ([&[1][..], &[0xff; 11]].concat(), "more than ten bytes"),
            (value(&[4], &[0]), "a branch or a symbol"),
            ([value(&[0], &[0]), vec![0]].concat(), "goes on"),
            (
                value(&[0], &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
                "too many parts",
            ),
            (deep, "nests too deep"),
        ] {
            let problem = read(&bytes, &writer).unwrap_err();
            assert!(problem.contains(part), "{part}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let writer = Writer::parse(ALL).unwrap();
            let _read = read(&bytes, &writer);
            // The same, behind a good beginning.
            let _read = read(&value(&[0], &bytes), &writer);
        }
    }
}
