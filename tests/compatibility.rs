//! The schemas of docs/schemas against those that were released, which lie in tests/compatibility by the version of their format: whoever reads by a released
//! schema goes on reading, and what was written by one can be read by today's. No field goes away or becomes another, what is new has a default, and numbers
//! of Protobuf keep their meaning.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's helpers"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use prost_reflect::{DescriptorPool, FieldDescriptor, MessageDescriptor};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use serde_json::{Value, json};

const NAMES: [&str; 3] = ["alert", "score", "drift"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Released and today's texts of all schemas with this ending, by their names.
fn pairs(ending: &str) -> Vec<(String, String, String)> {
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let released = fs::read_dir(root().join("tests/compatibility")).unwrap();
    let mut pairs = Vec::new();
    for version in released {
        let folder = version.unwrap().path();
        for name in NAMES {
            let file = format!("{name}.{ending}");
            let today = read(&root().join("docs/schemas").join(&file));
            let name = format!("{}/{file}", folder.file_name().unwrap().display());
            pairs.push((name, read(&folder.join(&file)), today));
        }
    }
    assert!(NAMES.len() <= pairs.len());
    pairs
}

/// The fields of all records of a schema in Avro, by the names of the records; types that are defined in place stand as their names.
type Records = BTreeMap<String, Vec<(String, Value, bool)>>;

/// Gathers the records of a type; answers it with names in their place.
fn gather(of: &Value, into: &mut Records) -> Value {
    match of {
        Value::Array(branches) => branches.iter().map(|of| gather(of, into)).collect(),
        Value::Object(object) if object.contains_key("fields") => {
            let name = object["name"].as_str().unwrap().to_owned();
            let fields = object["fields"].as_array().unwrap().iter().map(|field| {
                let of = gather(&field["type"], into);
                let name = field["name"].as_str().unwrap().to_owned();
                (name, of, field.get("default").is_some())
            });
            let fields = fields.collect();
            into.insert(name.clone(), fields);
            json!(name)
        }
        Value::Object(object) => {
            let parts = object.iter().map(|(key, value)| {
                let value = match key.as_str() {
                    "items" | "values" | "type" => gather(value, into),
                    _ => value.clone(),
                };
                (key.clone(), value)
            });
            Value::Object(parts.collect())
        }
        other => other.clone(),
    }
}

/// What is wrong with a schema in Avro that takes the place of a released one.
fn avro_problems(released: &str, today: &str) -> Vec<String> {
    let gathered = |text: &str| {
        let json: Value = serde_json::from_str(text).unwrap();
        let mut records = Records::new();
        let name = gather(&json, &mut records);
        (json["namespace"].clone(), name, records)
    };
    let (space, name, before) = gathered(released);
    let (space_now, name_now, now) = gathered(today);
    let mut found = Vec::new();
    if (&space, &name) != (&space_now, &name_now) {
        found.push(format!("{name} is now {name_now}"));
    }
    for (record, fields) in &before {
        let Some(fields_now) = now.get(record) else {
            found.push(format!("{record} is gone"));
            continue;
        };
        for (field, of, defaulted) in fields {
            match fields_now.iter().find(|(name, ..)| name == field) {
                None => found.push(format!("{record}.{field} is gone")),
                Some((_, now, _)) if now != of => found.push(format!("{record}.{field} is {now}")),
                Some((.., false)) if *defaulted => {
                    found.push(format!("{record}.{field} lost its default"));
                }
                Some(_) => {}
            }
        }
        let known = |name: &str| fields.iter().any(|(field, ..)| field == name);
        for (field, _, defaulted) in fields_now {
            if !known(field) && !defaulted {
                found.push(format!("{record}.{field} is new and has no default"));
            }
        }
    }
    found
}

struct Text(String);

impl FileResolver for Text {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match name {
            "schema.proto" => File::from_source(name, &self.0),
            _ => Err(protox::Error::file_not_found(name)),
        }
    }
}

fn compiled(text: &str) -> DescriptorPool {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Text(text.to_owned()));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.open_file("schema.proto").unwrap();
    compiler.descriptor_pool()
}

/// What a field of Protobuf is, by which its bytes are read.
fn kind(field: &FieldDescriptor) -> String {
    let (name, of) = (field.name(), field.kind());
    let label = (field.cardinality(), field.supports_presence());
    format!("{name}: {of:?} {label:?}")
}

/// What is wrong with a schema in Protobuf that takes the place of a released one.
fn protobuf_problems(released: &str, today: &str) -> Vec<String> {
    let (before, now) = (compiled(released), compiled(today));
    let first = |pool: &DescriptorPool| {
        let file = pool.get_file_by_name("schema.proto").unwrap();
        file.messages().next().unwrap().full_name().to_owned()
    };
    let mut found = Vec::new();
    if first(&before) != first(&now) {
        // Values say which message of the file they are by its place.
        found.push(format!("the first message is {}", first(&now)));
    }
    let ours = |message: &MessageDescriptor| !message.full_name().starts_with("google.");
    for message in before.all_messages().filter(ours) {
        let name = message.full_name();
        let Some(message_now) = now.get_message_by_name(name) else {
            found.push(format!("{name} is gone"));
            continue;
        };
        for field in message.fields() {
            let number = field.number();
            match message_now.get_field(number) {
                None => found.push(format!("{name} has no {number}")),
                Some(now) if kind(&now) != kind(&field) => {
                    found.push(format!("{name} {number} is {}", kind(&now)));
                }
                Some(_) => {}
            }
        }
    }
    found
}

#[test]
fn who_reads_by_a_released_schema_goes_on_reading() {
    for (name, released, today) in pairs("avsc") {
        assert_eq!(avro_problems(&released, &today), [""; 0], "{name}");
    }
    for (name, released, today) in pairs("proto") {
        assert_eq!(protobuf_problems(&released, &today), [""; 0], "{name}");
    }
}

#[test]
fn a_change_of_avro_that_breaks_readers_is_found() {
    let schema = |fields: &str| {
        format!(
            r#"{{"type":"record","name":"A","namespace":"n","fields":[{fields},{{"name":"in","type":{{"type":"record","name":"I","fields":[{{"name":"x","type":"int"}}]}}}}]}}"#
        )
    };
    let released = schema(
        r#"{"name":"a","type":"long"},{"name":"b","type":["null","double"],"default":null}"#,
    );
    assert_eq!(avro_problems(&released, &released), [""; 0]);
    let more = released.replace(
        r#"{"name":"a""#,
        r#"{"name":"c","type":"int","default":0},{"name":"a""#,
    );
    assert_eq!(avro_problems(&released, &more), [""; 0]);
    for (from, to, problem) in [
        (r#"{"name":"a","type":"long"},"#, "", "A.a is gone"),
        (
            r#""a","type":"long""#,
            r#""a","type":"int""#,
            "A.a is \"int\"",
        ),
        (r#""name":"a","#, r#""name":"c","#, "A.a is gone"),
        (
            r#"["null","double"]"#,
            r#"["double","null"]"#,
            "A.b is [\"double\",\"null\"]",
        ),
        (r#","default":null"#, "", "A.b lost its default"),
        (
            r#"{"name":"a""#,
            r#"{"name":"c","type":"int"},{"name":"a""#,
            "A.c is new and has no default",
        ),
        (
            r#""x","type":"int""#,
            r#""x","type":"string""#,
            "I.x is \"string\"",
        ),
        (r#""name":"I""#, r#""name":"J""#, "A.in is \"J\""),
        (
            r#""namespace":"n""#,
            r#""namespace":"m""#,
            "\"A\" is now \"A\"",
        ),
    ] {
        let today = released.replacen(from, to, 1);
        assert_ne!(today, released, "{from}");
        let found = avro_problems(&released, &today);
        assert!(
            found.iter().any(|found| found == problem),
            "{problem}: {found:?}"
        );
    }
}

#[test]
fn a_change_of_protobuf_that_breaks_readers_is_found() {
    let released = r#"syntax = "proto3"; package p; message A { message I { int32 x = 1; } double a = 1; optional uint64 b = 2; I in = 3; repeated float c = 4; }"#;
    assert_eq!(protobuf_problems(released, released), [""; 0]);
    let more = released.replace("double a", "string d = 5; double a");
    assert_eq!(protobuf_problems(released, &more), [""; 0]);
    for (from, to, problem) in [
        ("double a = 1;", "", "p.A has no 1"),
        ("double a = 1", "double a = 7", "p.A has no 1"),
        ("double a = 1", "float a = 1", "p.A 1 is a: "),
        ("double a = 1", "double d = 1", "p.A 1 is d: "),
        ("optional uint64", "uint64", "p.A 2 is b: "),
        ("repeated float", "float", "p.A 4 is c: "),
        ("int32 x", "int64 x", "p.A.I 1 is x: "),
        (
            "message A",
            "message Z {} message A",
            "the first message is p.Z",
        ),
        ("package p", "package q", "p.A is gone"),
    ] {
        let today = released.replacen(from, to, 1);
        assert_ne!(today, released, "{from}");
        let found = protobuf_problems(released, &today);
        let named = found.iter().any(|found| found.starts_with(problem));
        assert!(named, "{problem}: {found:?}");
    }
}
