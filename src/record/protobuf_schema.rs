//! Protobuf's schemas, as far as it takes to read what was written by them: messages and their fields by number. protox compiles the text of .proto files.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind as Described, MessageDescriptor};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use serde::{Deserialize, Serialize};

/// Messages and enums that a schema may have at most, with those that it imports.
const TYPES_MAX: usize = 10_000;
/// Braces and brackets within each other at most, in the text of a schema.
const DEPTH_MAX: usize = 64;

/// What is said of records in Protobuf; unchecked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProtobufSpec {
    /// The schema of all records, as the text of a .proto file or a FileDescriptorSet in base64; empty: each record has the id of its own.
    pub schema: String,
    /// The full name of the records' message in it; empty: the first one.
    pub message: String,
}

impl ProtobufSpec {
    /// Whether nothing was said.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The message that all records are; `None` if each names its own. A problem comes with the key that it is of.
    pub(super) fn check(&self) -> Result<Option<Root>, (&'static str, String)> {
        if self.schema.is_empty() {
            return if self.message.is_empty() {
                Ok(None)
            } else {
                let problem = "is of use beside `schema` only: with a registry each record says which message it is";
                Err(("protobuf.message", problem.to_owned()))
            };
        }
        let files = Files::parse(&self.schema).map_err(|problem| ("protobuf.schema", problem))?;
        let message = if self.message.is_empty() {
            files.at(&[0])
        } else {
            files.named(&self.message)
        };
        let message = message.map_err(|problem| ("protobuf.message", problem))?;
        Ok(Some(Root {
            files: Arc::new(files),
            message,
        }))
    }
}

/// The number of a message within its [`Files`].
pub(super) type MessageId = usize;

/// How a value without parts is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Double,
    Float,
    /// `int32` and `int64`, whether it has 32 bits.
    Int(bool),
    /// `uint32` and `uint64`, whether it has 32 bits.
    Uint(bool),
    /// `sint32` and `sint64`.
    Sint,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    /// Text or bytes.
    Bytes,
    /// One of the names of the enum of this number.
    Enum(usize),
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Scalar(Scalar),
    Message(MessageId),
    /// A message between a start and an end, as proto2 had them.
    Group,
}

/// A field of a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    pub name: Box<str>,
    pub number: u32,
    pub kind: Kind,
    /// Whether there may be several.
    pub repeated: bool,
    /// Whether one that was not set is told from one that is 0.
    pub presence: bool,
    /// The `oneof` that it is in.
    pub one_of: Option<usize>,
}

/// What a message means beyond its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Plain,
    /// An entry of a map: 1 is the key, 2 the value.
    Entry,
    /// `google.protobuf.Timestamp`.
    Timestamp,
    /// `google.protobuf.Duration`.
    Duration,
    /// `google.protobuf.DoubleValue` and its like.
    Wrapper(Scalar),
}

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    pub name: Box<str>,
    pub fields: Vec<Field>,
    pub meaning: Meaning,
    /// Those within it, in order.
    within: Vec<MessageId>,
}

/// A .proto file with all that it imports.
#[derive(Clone, Debug, PartialEq)]
pub struct Files {
    pub(super) messages: Vec<Message>,
    /// Of each enum the names by number.
    pub(super) enums: Vec<BTreeMap<i32, Box<str>>>,
    /// The file's own messages, in order.
    top: Vec<MessageId>,
}

/// The message that records are.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Root {
    pub files: Arc<Files>,
    pub message: MessageId,
}

/// Files by the names that they are imported by.
struct Texts(BTreeMap<String, String>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.get(name) {
            Some(text) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

impl Files {
    /// Reads a schema as it stands in settings: the text of a .proto file that imports nothing but google.protobuf, or a FileDescriptorSet in base64, whose last
    /// file has the message.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let packed: String = text.split_ascii_whitespace().collect();
        match STANDARD.decode(&packed) {
            Ok(bytes) => {
                let pool = DescriptorPool::decode(&bytes[..])
                    .map_err(|error| format!("the schema is no FileDescriptorSet: {error}"))?;
                let last = pool.files().last().map(|file| file.name().to_owned());
                Self::of_pool(&pool, &last.ok_or("the FileDescriptorSet has no file")?)
            }
            Err(_) => Self::compile(text, BTreeMap::new()),
        }
    }

    /// Compiles the text of a .proto file. `imports` are the texts of files by the names that they are imported by; those of google.protobuf are known.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn compile(text: &str, mut imports: BTreeMap<String, String>) -> Result<Self, String> {
        for text in imports.values().map(String::as_str).chain([text]) {
            bounded(text)?;
        }
        // A name that nobody imports.
        let mut name = "schema.proto".to_owned();
        while imports.contains_key(&name) {
            name.insert(0, '_');
        }
        imports.insert(name.clone(), text.to_owned());
        let mut resolver = ChainFileResolver::new();
        resolver.add(Texts(imports));
        resolver.add(GoogleFileResolver::new());
        let mut compiler = Compiler::with_file_resolver(resolver);
        compiler
            .open_file(&name)
            .map_err(|error| format!("the schema is no .proto file: {error:?}"))?;
        Self::of_pool(&compiler.descriptor_pool(), &name)
    }

    fn of_pool(pool: &DescriptorPool, main: &str) -> Result<Self, String> {
        let all: Vec<MessageDescriptor> = pool.all_messages().collect();
        let names: Vec<String> = pool
            .all_enums()
            .map(|each| each.full_name().to_owned())
            .collect();
        if TYPES_MAX < all.len() + names.len() {
            return Err(format!("the schema has more than {TYPES_MAX} types"));
        }
        let found = |names: &BTreeMap<&str, usize>, name: &str| {
            let found = names.get(name).copied();
            found.ok_or_else(|| format!("the type `{name}` is not defined"))
        };
        let messages = all.iter().enumerate();
        let messages: BTreeMap<&str, MessageId> =
            messages.map(|(at, of)| (of.full_name(), at)).collect();
        let enums = names.iter().enumerate();
        let enums: BTreeMap<&str, usize> = enums.map(|(at, of)| (&**of, at)).collect();
        let kind = |field: &FieldDescriptor| {
            Ok::<_, String>(match field.kind() {
                Described::Message(_) if field.is_group() => Kind::Group,
                Described::Message(of) => Kind::Message(found(&messages, of.full_name())?),
                Described::Enum(of) => Kind::Scalar(Scalar::Enum(found(&enums, of.full_name())?)),
                plain => Kind::Scalar(scalar(&plain)),
            })
        };
        let message = |of: &MessageDescriptor| {
            let fields = of.fields().map(|field| {
                let one_of = field.containing_oneof();
                let one_of = one_of.filter(|one_of| !one_of.is_synthetic());
                let place = |name: &str| of.oneofs().position(|each| each.name() == name);
                Ok::<_, String>(Field {
                    name: field.name().into(),
                    number: field.number(),
                    kind: kind(&field)?,
                    repeated: field.is_list() || field.is_map(),
                    presence: field.supports_presence(),
                    one_of: one_of.and_then(|one_of| place(one_of.name())),
                })
            });
            // As Confluent's serializer for Java counts: entries of maps are no messages of the text.
            let within = of.child_messages().filter(|child| !child.is_map_entry());
            let within = within.map(|child| found(&messages, child.full_name()));
            Ok::<_, String>(Message {
                name: of.full_name().into(),
                fields: fields.collect::<Result<_, _>>()?,
                meaning: meaning(of),
                within: within.collect::<Result<_, _>>()?,
            })
        };
        let main = pool.get_file_by_name(main);
        let main = main.ok_or("the schema has no file")?;
        let top = main.messages().map(|of| found(&messages, of.full_name()));
        let values = pool.all_enums().map(|of| {
            // Of two names for a number the first one counts.
            let mut named = BTreeMap::new();
            for value in &of.enum_descriptor_proto().value {
                named
                    .entry(value.number())
                    .or_insert_with(|| Box::from(value.name()));
            }
            named
        });
        Ok(Self {
            top: top.collect::<Result<_, _>>()?,
            messages: all.iter().map(message).collect::<Result<_, _>>()?,
            enums: values.collect(),
        })
    }

    /// The message of this full name.
    pub(super) fn named(&self, name: &str) -> Result<MessageId, String> {
        let found = self.messages.iter().position(|of| &*of.name == name);
        found.ok_or_else(|| {
            let top = self.top.iter().map(|id| &*self.messages[*id].name);
            let top: Vec<&str> = top.take(20).collect();
            format!(
                "is \"{name}\", which the schema has not: it has {}",
                top.join(", ")
            )
        })
    }

    /// The message at these places: of the file, of the messages within that one, and so on.
    pub(super) fn at(&self, places: &[usize]) -> Result<MessageId, String> {
        let mut among = &self.top;
        let mut found = None;
        for place in places {
            let id = among.get(*place).copied();
            let id = id.ok_or("names a message that its schema has not")?;
            found = Some(id);
            among = &self.messages[id].within;
        }
        found.ok_or_else(|| "names no message".to_owned())
    }
}

/// Refuses a text that nests too deep to be compiled on any stack.
fn bounded(text: &str) -> Result<(), String> {
    let mut depth = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'{' | b'[' | b'<' | b'(' => depth += 1,
            b'}' | b']' | b'>' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if DEPTH_MAX < depth {
            return Err(format!(
                "the schema nests more than {DEPTH_MAX} braces or brackets"
            ));
        }
    }
    Ok(())
}

fn scalar(kind: &Described) -> Scalar {
    match kind {
        Described::Double => Scalar::Double,
        Described::Float => Scalar::Float,
        Described::Int32 => Scalar::Int(true),
        Described::Int64 => Scalar::Int(false),
        Described::Uint32 => Scalar::Uint(true),
        Described::Uint64 => Scalar::Uint(false),
        Described::Sint32 | Described::Sint64 => Scalar::Sint,
        Described::Fixed32 => Scalar::Fixed32,
        Described::Fixed64 => Scalar::Fixed64,
        Described::Sfixed32 => Scalar::Sfixed32,
        Described::Sfixed64 => Scalar::Sfixed64,
        Described::Bool => Scalar::Bool,
        // Messages and enums are told apart before.
        Described::String | Described::Bytes | Described::Message(_) | Described::Enum(_) => {
            Scalar::Bytes
        }
    }
}

fn meaning(of: &MessageDescriptor) -> Meaning {
    if of.is_map_entry() {
        return Meaning::Entry;
    }
    match of.full_name() {
        "google.protobuf.Timestamp" => Meaning::Timestamp,
        "google.protobuf.Duration" => Meaning::Duration,
        "google.protobuf.DoubleValue"
        | "google.protobuf.FloatValue"
        | "google.protobuf.Int64Value"
        | "google.protobuf.UInt64Value"
        | "google.protobuf.Int32Value"
        | "google.protobuf.UInt32Value"
        | "google.protobuf.BoolValue"
        | "google.protobuf.StringValue"
        | "google.protobuf.BytesValue" => {
            let value = of.get_field(1).map(|field| scalar(&field.kind()));
            value.map_or(Meaning::Plain, Meaning::Wrapper)
        }
        _ => Meaning::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUMP: &str = r#"syntax = "proto3";
        package plant;
        import "google/protobuf/timestamp.proto";
        import "common/mode.proto";
        message Other { message Inner { int32 a = 1; } message Second { message Third {} } }
        message Pump { google.protobuf.Timestamp at = 1; optional sint64 flow = 2; Mode mode = 3; oneof x { bool on = 4; float off = 5; } map<string, double> tags = 6; }"#;
    const MODE: &str = r#"syntax = "proto3"; package plant; enum Mode { option allow_alias = true; IDLE = 0; ON = 7; RUNNING = 7; }"#;

    fn compiled() -> Files {
        let imports = [("common/mode.proto".to_owned(), MODE.to_owned())];
        Files::compile(PUMP, imports.into()).unwrap()
    }

    #[test]
    fn a_file_is_compiled_with_what_it_imports() {
        let files = compiled();
        let pump = files.named("plant.Pump").unwrap();
        assert_eq!(files.at(&[1]), Ok(pump));
        let third = files.at(&[0, 1, 0]).unwrap();
        assert_eq!(&*files.messages[third].name, "plant.Other.Second.Third");
        assert!(files.at(&[2]).unwrap_err().contains("has not"));
        assert!(files.at(&[0, 1, 1]).is_err() && files.at(&[]).is_err());
        let fields = &files.messages[pump].fields;
        let Kind::Message(at) = fields[0].kind else {
            panic!("a message");
        };
        assert_eq!(files.messages[at].meaning, Meaning::Timestamp);
        assert!(fields[1].presence && !fields[2].presence && fields[3].presence);
        assert_eq!((fields[1].one_of, fields[3].one_of), (None, Some(0)));
        let Kind::Scalar(Scalar::Enum(mode)) = fields[2].kind else {
            panic!("an enum");
        };
        assert_eq!(
            files.enums[mode],
            [(0, "IDLE".into()), (7, "ON".into())].into()
        );
        assert!(fields[5].repeated);
    }

    #[test]
    fn a_set_of_descriptors_is_read_as_base64() {
        let mut compiler = {
            let mut resolver = ChainFileResolver::new();
            let texts = [("a.proto", PUMP), ("common/mode.proto", MODE)];
            let texts = texts.map(|(name, text)| (name.to_owned(), text.to_owned()));
            resolver.add(Texts(texts.into()));
            resolver.add(GoogleFileResolver::new());
            Compiler::with_file_resolver(resolver)
        };
        compiler.open_file("a.proto").unwrap();
        compiler.include_imports(true);
        let text = STANDARD.encode(compiler.encode_file_descriptor_set());
        let files = Files::parse(&format!("{}\n{}\n", &text[..40], &text[40..])).unwrap();
        assert_eq!(files.at(&[1]), files.named("plant.Pump"));
        assert!(
            Files::parse("AAAA")
                .unwrap_err()
                .contains("FileDescriptorSet")
        );
        assert!(Files::parse("").is_err());
    }

    #[test]
    fn what_is_no_schema_says_why() {
        let deep = format!("message A {{ {}", "message B {".repeat(100_000));
        for (text, part) in [
            ("message {", "no .proto file"),
            (PUMP, "common/mode.proto"),
            ("syntax = \"proto3\"; message A { B b = 1; }", "B"),
            (&deep, "nests"),
        ] {
            let problem = Files::compile(text, BTreeMap::new()).unwrap_err();
            assert!(problem.contains(part), "{part}: {problem}");
        }
        let spec = |schema: &str, message: &str| ProtobufSpec {
            schema: schema.to_owned(),
            message: message.to_owned(),
        };
        let (key, problem) = spec(MODE, "x.Y").check().unwrap_err();
        assert_eq!(key, "protobuf.message");
        assert!(problem.contains("\"x.Y\""), "{problem}");
        assert!(spec(MODE, "").check().is_err(), "it has no message");
        assert_eq!(spec("", "A").check().unwrap_err().0, "protobuf.message");
        assert_eq!(spec("", "").check(), Ok(None));
    }
}
