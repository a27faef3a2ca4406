//! A value as its schema describes it, as a tree: for what is read seldom and whole, as alerts are. Records of the input are walked instead.
//!
//! Serde reads it, so that a type has one way to be read from JSON, Avro and Protobuf: fields by their names, what it does not know left out, what is missing
//! by its default. Numbers stay as they were written, also those that JSON has not.

use std::borrow::Cow;

use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::time::Timestamp;

/// A value. Texts are of the bytes and of the schema that it was read by.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree<'a> {
    /// Nothing.
    Null,
    /// True or false.
    Flag(bool),
    /// A whole number.
    Whole(i64),
    /// A whole number that is not negative, and may be larger than the others.
    Count(u64),
    /// A number.
    Number(f64),
    /// A text, or the name of a value of an enum.
    Text(Cow<'a, str>),
    /// A time, which serde sees in RFC 3339.
    Time(Timestamp),
    /// Several values.
    List(Vec<Self>),
    /// Fields of a record or a message, or entries of a map.
    Fields(Vec<(Cow<'a, str>, Self)>),
}

impl Tree<'_> {
    /// What it is of a type.
    ///
    /// # Errors
    /// Why it is no such thing, in words.
    pub fn into<T: DeserializeOwned>(self) -> Result<T, String> {
        T::deserialize(self).map_err(|error| error.to_string())
    }
}

impl<'de> Deserializer<'de> for Tree<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Null => visitor.visit_unit(),
            Self::Flag(flag) => visitor.visit_bool(flag),
            Self::Whole(number) => visitor.visit_i64(number),
            Self::Count(number) => visitor.visit_u64(number),
            Self::Number(number) => visitor.visit_f64(number),
            Self::Text(text) => visitor.visit_str(&text),
            Self::Time(time) => visitor.visit_string(time.rfc3339()),
            Self::List(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter())),
            Self::Fields(fields) => visitor.visit_map(MapDeserializer::new(fields.into_iter())),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Null => visitor.visit_none(),
            some => visitor.visit_some(some),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self {
            Self::Text(text) => {
                let text: serde::de::value::CowStrDeserializer<'_, Error> =
                    text.into_deserializer();
                text.deserialize_enum(name, names, visitor)
            }
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

impl IntoDeserializer<'_, Error> for Tree<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        Open,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        at: u64,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Outer {
        word: Word,
        number: f64,
        #[serde(with = "crate::time::rfc3339")]
        time: Timestamp,
        some: Option<f64>,
        none: Option<f64>,
        #[serde(default)]
        later: bool,
        list: Vec<f32>,
        map: BTreeMap<String, u8>,
        #[serde(flatten)]
        inner: Inner,
    }

    fn fields() -> Vec<(Cow<'static, str>, Tree<'static>)> {
        let number = |number: f64| Tree::Number(number);
        let one = vec![(Cow::Borrowed("a"), Tree::Whole(7))];
        let all = [
            ("word", Tree::Text("open".into())),
            ("number", number(f64::INFINITY)),
            ("time", Tree::Time(Timestamp(i64::MIN))),
            ("some", number(-0.0)),
            ("none", Tree::Null),
            ("list", Tree::List(vec![number(0.1_f32.into())])),
            ("map", Tree::Fields(one)),
            ("at", Tree::Count(u64::MAX)),
            ("unknown", Tree::List(vec![Tree::Flag(true)])),
        ];
        let named = all.into_iter();
        named
            .map(|(name, value)| (Cow::Borrowed(name), value))
            .collect()
    }

    #[test]
    fn a_type_is_read_from_it_as_from_json() {
        let read: Outer = Tree::Fields(fields()).into().unwrap();
        let wanted = Outer {
            word: Word::Open,
            number: f64::INFINITY,
            time: Timestamp(i64::MIN),
            some: Some(-0.0),
            none: None,
            later: false,
            list: vec![0.1],
            map: BTreeMap::from([("a".to_owned(), 7)]),
            inner: Inner { at: u64::MAX },
        };
        assert_eq!(read, wanted);
    }

    #[test]
    fn what_is_missing_or_of_another_kind_says_so() {
        for (name, value, part) in [
            ("number", None, "missing field `number`"),
            ("number", Some(Tree::Null), "invalid type"),
            (
                "word",
                Some(Tree::Text("shut".into())),
                "unknown variant `shut`",
            ),
            ("word", Some(Tree::Whole(0)), "invalid type"),
            ("at", Some(Tree::Whole(-1)), "invalid value"),
        ] {
            let mut fields = fields();
            fields.retain(|(known, _)| known != name);
            fields.extend(value.map(|value| (Cow::Borrowed(name), value)));
            let problem = Tree::Fields(fields).into::<Outer>().unwrap_err();
            assert!(problem.contains(part), "{name}: {problem}");
        }
    }
}
