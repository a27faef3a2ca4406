//! A JSON Schema of the configuration, for editors. Keys, defaults and descriptions are those of config/default.toml; which types a key takes is found out by
//! trying: the same serde that reads files says what it takes.

use serde_json::{Map, Value, json};
use toml::Table;

use super::detectors::{KEY, OF_THE_PROCESS};
use super::raw::Raw;

/// Every key, with its default and a comment: a test holds it to the code.
const DEFAULTS: &str = include_str!("../../config/default.toml");

/// Values that a key is tried with, by the name of their type.
const SAMPLES: [(&str, &str); 15] = [
    ("boolean", "true"),
    ("integer", "1"),
    ("integer", "1000"),
    ("number", "0.5"),
    ("number", "1.5"),
    ("string", "\"x\""),
    ("string", "\"\""),
    ("string", "\"1h\""),
    ("string", "\"1/week\""),
    ("string", "\"UTC\""),
    ("array", "[]"),
    ("array", "[\"x\"]"),
    ("array", "[1]"),
    ("object", "{}"),
    ("object", "{ array = \"x\", len = 1 }"),
];

/// The schema, as JSON Schema of 2020-12 has it.
#[must_use]
pub fn schema() -> Value {
    let mut root = section(
        "",
        "The configuration of anomalyd: a file needs only the keys that it changes.",
    );
    let (mut path, mut comment) = (String::new(), Vec::new());
    for line in DEFAULTS.lines() {
        if let Some(words) = line.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        let words = std::mem::take(&mut comment).join(" ");
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            name.clone_into(&mut path);
            put(&mut root, name, section(name, &words));
        } else if let Some((key, default)) = line.split_once(" = ") {
            let full = if path.is_empty() {
                key.to_owned()
            } else {
                format!("{path}.{key}")
            };
            put(&mut root, &full, property(&full, default, &words));
        }
    }
    root["properties"][KEY] = several(&root);
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("anomalyd");
    root
}

/// The tables of several detectors: each has what the file may have, but for what is the process's.
fn several(root: &Value) -> Value {
    let mut one = root.clone();
    if let Some(properties) = one["properties"].as_object_mut() {
        properties.retain(|key, _| !OF_THE_PROCESS.contains(&key.as_str()));
    }
    one["description"] = json!("What one of several detectors has of its own.");
    one["required"] = json!(["name"]);
    json!({
        "type": "array",
        "items": one,
        "description": "Several detectors in one process: each table overrides the rest of the file for one of them.",
    })
}

/// A table; keys of any name are allowed where the reader takes them.
fn section(path: &str, description: &str) -> Value {
    let unknown = if path.is_empty() {
        "nobody_calls_it_so = \"x\"".to_owned()
    } else {
        format!("[{path}]\nnobody_calls_it_so = \"x\"")
    };
    let mut schema = json!({"type": "object", "properties": {}});
    if !description.is_empty() {
        schema["description"] = json!(description);
    }
    if let Err(problem) = tried(&unknown)
        && problem.contains("unknown field")
    {
        schema["additionalProperties"] = json!(false);
    }
    schema
}

fn property(path: &str, default: &str, description: &str) -> Value {
    let value = |text: &str| {
        let table: Table = format!("v = {text}").parse().ok()?;
        serde_json::to_value(table.get("v")?).ok()
    };
    let mut schema = json!({"description": description});
    let default = value(default).unwrap_or(Value::Null);
    let mut types: Vec<&str> = vec![kind(&default)];
    for (name, sample) in SAMPLES {
        if !types.contains(&name) && tried(&assignment(path, sample)).is_ok() {
            types.push(name);
        }
    }
    // Every integer is a number.
    if types.contains(&"number") {
        types.retain(|name| *name != "integer");
    }
    schema["type"] = match types[..] {
        [only] => json!(only),
        _ => json!(types),
    };
    if let ["string"] = types[..]
        && let Err(problem) = tried(&assignment(path, "\"nobody calls it so\""))
        && let Some(names) = variants(&problem)
    {
        schema["enum"] = json!(names);
    }
    schema["default"] = default;
    schema
}

/// The names that a reader lists in place of one it does not know.
fn variants(problem: &str) -> Option<Vec<&str>> {
    let (_, listed) = problem.split_once("unknown variant")?;
    let (_, listed) = listed.split_once("expected")?;
    Some(listed.split('`').skip(1).step_by(2).collect())
}

fn assignment(path: &str, value: &str) -> String {
    match path.rsplit_once('.') {
        Some((section, key)) => format!("[{section}]\n{key} = {value}"),
        None => format!("{path} = {value}"),
    }
}

/// Whether the reader takes a file; else what it says.
fn tried(text: &str) -> Result<(), String> {
    let read = toml::from_str::<Raw>(text);
    read.map(|_| ()).map_err(|error| error.message().to_owned())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::String(_) | Value::Null => "string",
    }
}

/// Puts a schema in its place, by dotted path.
fn put(root: &mut Value, path: &str, schema: Value) {
    let mut at = root;
    for part in path.split('.') {
        let properties = at.as_object_mut().map(|table| {
            table
                .entry("properties")
                .or_insert_with(|| Value::Object(Map::new()))
        });
        let Some(Value::Object(properties)) = properties else {
            return;
        };
        at = properties
            .entry(part)
            .or_insert_with(|| json!({"type": "object", "properties": {}}));
    }
    *at = schema;
}
