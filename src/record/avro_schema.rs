//! Avro's schemas (specification 1.12), as far as it takes to read what was written by them: the names are looked up, all else is left out.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::avro_logical::Scale;

/// Types that a schema may have at most.
const TYPES_MAX: usize = 10_000;

/// The number of a type within its schema.
pub(super) type TypeId = usize;

/// What a value is written as.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Type {
    Null,
    Boolean,
    Int,
    Long,
    /// A time, and by how much it is divided to be in milliseconds.
    Time(i64),
    /// Days since 1970.
    Date,
    /// A number of so many bytes, or of as many as it says.
    Decimal(Option<usize>, Scale),
    /// 16 bytes.
    Uuid,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<Box<str>>),
    Array(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
    Record(Vec<(Box<str>, TypeId)>),
}

/// A schema that records were written by.
#[derive(Clone, Debug, PartialEq)]
pub struct Writer {
    pub(super) types: Vec<Type>,
    pub(super) root: TypeId,
}

impl Writer {
    /// Reads a schema as JSON.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_with(text, &[])
    }

    /// Reads a schema that has names of others, each before those that have names of it.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse_with(text: &str, others: &[&str]) -> Result<Self, String> {
        let mut parser = Parser::default();
        let mut root = 0;
        for text in others.iter().copied().chain([text]) {
            let json: Value = serde_json::from_str(text)
                .map_err(|error| format!("the schema is no JSON: {error}"))?;
            root = parser.schema(&json, "")?;
        }
        match parser.types[root] {
            Type::Record(_) => Ok(Self {
                types: parser.types,
                root,
            }),
            _ => Err("the schema is not that of a record".to_owned()),
        }
    }
}

#[derive(Default)]
struct Parser {
    types: Vec<Type>,
    named: BTreeMap<String, TypeId>,
}

impl Parser {
    fn add(&mut self, what: Type) -> Result<TypeId, String> {
        if TYPES_MAX <= self.types.len() {
            return Err(format!("the schema has more than {TYPES_MAX} types"));
        }
        self.types.push(what);
        Ok(self.types.len() - 1)
    }

    /// `space` is the namespace around it. serde_json's own limit bounds the recursion.
    fn schema(&mut self, json: &Value, space: &str) -> Result<TypeId, String> {
        match json {
            Value::String(name) => self.by_name(name, space),
            Value::Array(branches) => {
                let of = branches.iter().map(|branch| self.schema(branch, space));
                let of = of.collect::<Result<_, _>>()?;
                self.add(Type::Union(of))
            }
            Value::Object(object) => self.object(object, space),
            other => Err(format!("{other} is no type")),
        }
    }

    fn by_name(&mut self, name: &str, space: &str) -> Result<TypeId, String> {
        let primitive = match name {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "int" => Type::Int,
            "long" => Type::Long,
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes,
            "string" => Type::String,
            _ => {
                let known = self.named.get(&full(name, space));
                let known = known.or_else(|| self.named.get(name)).copied();
                return known.ok_or_else(|| format!("the type `{name}` is not defined"));
            }
        };
        self.add(primitive)
    }

    fn object(&mut self, object: &Map<String, Value>, space: &str) -> Result<TypeId, String> {
        let kind = object.get("type").ok_or("a type is left out")?;
        let Value::String(kind) = kind else {
            return self.schema(kind, space);
        };
        let of = |name: &str| {
            let found = object.get(name);
            found.ok_or_else(|| format!("a type `{kind}` lacks `{name}`"))
        };
        match kind.as_str() {
            "array" => {
                let items = self.schema(of("items")?, space)?;
                self.add(Type::Array(items))
            }
            "map" => {
                let values = self.schema(of("values")?, space)?;
                self.add(Type::Map(values))
            }
            "fixed" => {
                let size = of("size")?
                    .as_u64()
                    .and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or("the size of a `fixed` is no number")?;
                let what = match logical(object) {
                    Some("decimal") => Type::Decimal(Some(size), scale(object)?),
                    Some("uuid") if size == 16 => Type::Uuid,
                    _ => Type::Fixed(size),
                };
                let id = self.add(what)?;
                self.name(object, space, id)?;
                Ok(id)
            }
            "enum" => {
                let symbols = of("symbols")?.as_array().ok_or("symbols are no list")?;
                let symbols = symbols.iter().map(|symbol| symbol.as_str().map(Box::from));
                let symbols = symbols
                    .collect::<Option<_>>()
                    .ok_or("a symbol is no text")?;
                let id = self.add(Type::Enum(symbols))?;
                self.name(object, space, id)?;
                Ok(id)
            }
            "record" | "error" => self.record(object, of("fields")?, space),
            "long" => self.add(match logical(object) {
                Some("timestamp-millis" | "local-timestamp-millis") => Type::Time(1),
                Some("timestamp-micros" | "local-timestamp-micros") => Type::Time(1_000),
                Some("timestamp-nanos" | "local-timestamp-nanos") => Type::Time(1_000_000),
                _ => Type::Long,
            }),
            "int" if logical(object) == Some("date") => self.add(Type::Date),
            "bytes" if logical(object) == Some("decimal") => {
                self.add(Type::Decimal(None, scale(object)?))
            }
            name => self.by_name(name, space),
        }
    }

    fn record(
        &mut self,
        object: &Map<String, Value>,
        fields: &Value,
        space: &str,
    ) -> Result<TypeId, String> {
        let id = self.add(Type::Record(Vec::new()))?;
        // It may hold itself.
        let space = self.name(object, space, id)?;
        let mut found = Vec::new();
        for field in fields.as_array().ok_or("fields are no list")? {
            let name = field.get("name").and_then(Value::as_str);
            let name = name.ok_or("a field has no name")?;
            let of = field.get("type");
            let of = of.ok_or_else(|| format!("the field `{name}` has no type"))?;
            let of = self
                .schema(of, &space)
                .map_err(|problem| format!("`{name}`: {problem}"))?;
            found.push((Box::from(name), of));
        }
        self.types[id] = Type::Record(found);
        Ok(id)
    }

    /// Names a type; answers the namespace within it.
    fn name(
        &mut self,
        object: &Map<String, Value>,
        space: &str,
        id: TypeId,
    ) -> Result<String, String> {
        let text = |key: &str| object.get(key).and_then(Value::as_str);
        let name = text("name").ok_or("a type that must have a name has none")?;
        let name = full(name, text("namespace").unwrap_or(space));
        if self.named.insert(name.clone(), id).is_some() {
            return Err(format!("the type `{name}` is defined twice"));
        }
        let space = name.rsplit_once('.').map_or("", |(space, _)| space);
        Ok(space.to_owned())
    }
}

/// What a type means beyond how it is written.
fn logical(object: &Map<String, Value>) -> Option<&str> {
    object.get("logicalType").and_then(Value::as_str)
}

fn scale(object: &Map<String, Value>) -> Result<Scale, String> {
    let scale = Scale::new(object.get("scale"));
    scale.ok_or_else(|| "the scale of a `decimal` is no number from -300 to 300".to_owned())
}

/// A name with its namespace.
fn full(name: &str, space: &str) -> String {
    if space.is_empty() || name.contains('.') {
        name.to_owned()
    } else {
        format!("{space}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_as_the_specification_says() {
        let writer = Writer::parse(
            r#"{"type":"record","name":"Reading","namespace":"plant","fields":[
                {"name":"mode","type":{"type":"enum","name":"Mode","symbols":["ON","OFF"]}},
                {"name":"last","type":["null","Mode","plant.Mode"]},
                {"name":"next","type":["null","Reading"],"default":null},
                {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
                {"name":"inner","type":{"type":"record","name":"other.Inner","fields":[{"name":"m","type":"plant.Mode"}]}}]}"#,
        )
        .unwrap();
        let Type::Record(fields) = &writer.types[writer.root] else {
            panic!("a record");
        };
        let of = |field: usize| &writer.types[fields[field].1];
        assert_eq!(
            of(1),
            &Type::Union(vec![fields[0].1 + 1, fields[0].1, fields[0].1])
        );
        let Type::Union(next) = of(2) else {
            panic!("a union");
        };
        assert_eq!((next[1], of(3)), (writer.root, &Type::Time(1_000)));
    }

    #[test]
    fn what_is_no_schema_says_why() {
        let deep = format!("{}\"int\"{}", "[".repeat(10_000), "]".repeat(10_000));
        for (text, part) in [
            ("{", "no JSON"),
            (deep.as_str(), "no JSON"),
            ("\"int\"", "not that of a record"),
            (r#"{"type":"record","name":"R"}"#, "lacks `fields`"),
            (r#"{"type":"record","fields":[]}"#, "has none"),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":"X"}]}"#,
                "`a`: the type `X` is not defined",
            ),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a"}]}"#,
                "`a` has no type",
            ),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"fixed","name":"R","size":1}}]}"#,
                "defined twice",
            ),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array"}}]}"#,
                "lacks `items`",
            ),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"bytes","logicalType":"decimal","scale":"3"}}]}"#,
                "`a`: the scale of a `decimal` is no number",
            ),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":7}]}"#,
                "7 is no type",
            ),
        ] {
            let problem = Writer::parse(text).unwrap_err();
            assert!(problem.contains(part), "{part}: {problem}");
        }
    }
}
