//! `features = "auto"`: finds the numeric fields of sample records, or takes the columns of a model that exists.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::calendar;
use super::csv;
use super::nonfinite;
use super::number;
use super::schema::{Features, Format, SchemaSpec, join_path};
use super::wire;

/// What one field was in the samples.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// A number or a boolean, or null.
    Number,
    /// An array of so many numbers.
    Array(usize),
    /// A text that is a number.
    Text,
    /// Other text, or now this and now that.
    Other,
}

/// The paths of all numeric and boolean leaves of a JSON object, sorted. Empty if it is not one. Arrays are not entered.
pub fn numeric_leaves(value: &[u8]) -> Vec<String> {
    let mut fields = BTreeMap::new();
    look(wire::json(value), &mut fields);
    all(&Seen::Number, &fields)
}

impl SchemaSpec {
    /// Whether the features are still to be found.
    pub fn is_auto(&self) -> bool {
        matches!(self.features, Features::Auto(_))
    }

    /// Replaces `auto` by what the samples have in common: every field that is always a number, a boolean or null, and is neither
    /// key nor timestamp nor a category; or, where there is none, the one array of numbers of constant length; or every field that is always a text
    /// which is a number. Says whether there was anything to find; samples that are no JSON objects are passed over. Does nothing to a spec that is not `auto`.
    pub fn resolve<'a>(&mut self, samples: impl IntoIterator<Item = &'a [u8]>) -> bool {
        if !self.is_auto() {
            return true;
        }
        let mut fields = BTreeMap::new();
        for sample in samples {
            match self.format {
                Format::Csv => look_at_line(sample, self, &mut fields),
                Format::Json => look(wire::json(sample), &mut fields),
                Format::F32 | Format::Avro | Format::Protobuf => look(sample, &mut fields),
            }
        }
        let taken: BTreeSet<&String> = self
            .key
            .iter()
            .chain([&self.timestamp])
            .chain(self.categories.keys())
            .collect();
        fields.retain(|path, _| !taken.contains(path));
        let paths = all(&Seen::Number, &fields);
        let texts = all(&Seen::Text, &fields);
        let arrays: Vec<(&String, usize)> = fields
            .iter()
            .filter_map(|(path, seen)| match seen {
                Seen::Array(len) if *len > 0 => Some((path, *len)),
                _ => None,
            })
            .collect();
        self.features = match (paths.is_empty(), arrays.as_slice()) {
            (false, _) => Features::List(paths),
            (true, [(path, len)]) => Features::Array {
                array: (*path).clone(),
                len: *len,
            },
            _ if !texts.is_empty() => Features::List(texts),
            _ => return false,
        };
        true
    }

    /// Replaces `auto` by the columns that a model has (see [`super::schema::Schema::columns`]), so that it goes on being fed what it was trained
    /// on. Does nothing to a spec that is not `auto`.
    pub fn resolve_from_columns(&mut self, columns: &[String]) {
        if !self.is_auto() {
            return;
        }
        let mut paths: Vec<String> = Vec::new();
        let calendar = self.has_calendar();
        let features = columns
            .iter()
            .filter(|name| !(calendar && *name == calendar::COLUMN));
        for column in features {
            let category = self.categories.iter().find(|(field, values)| {
                column
                    .strip_prefix(field.as_str())
                    .and_then(|rest| rest.strip_prefix('='))
                    .is_some_and(|value| values.iter().any(|listed| listed == value))
            });
            let path = category.map_or(column, |(field, _)| field);
            if paths.last() != Some(path) {
                paths.push(path.clone());
            }
        }
        self.features = match array_of(&paths, &self.categories) {
            Some((array, len)) => Features::Array { array, len },
            None => Features::List(paths),
        };
    }
}

/// The array that `path[0]`, `path[1]` … come from.
fn array_of(
    paths: &[String],
    categories: &BTreeMap<String, Vec<String>>,
) -> Option<(String, usize)> {
    let elements: Vec<&String> = paths
        .iter()
        .filter(|path| !categories.contains_key(*path))
        .collect();
    let array = elements.first()?.strip_suffix("[0]")?;
    elements
        .iter()
        .enumerate()
        .all(|(at, path)| **path == format!("{array}[{at}]"))
        .then(|| (array.to_owned(), elements.len()))
}

fn all(wanted: &Seen, fields: &BTreeMap<String, Seen>) -> Vec<String> {
    fields
        .iter()
        .filter(|(_, seen)| *seen == wanted)
        .map(|(path, _)| path.clone())
        .collect()
}

/// Adds what one line of CSV shows.
fn look_at_line(value: &[u8], spec: &SchemaSpec, fields: &mut BTreeMap<String, Seen>) {
    for (column, number) in spec.csv.columns.iter().zip(csv::look(value, &spec.csv)) {
        let seen = match number {
            None => continue,
            Some(true) => Seen::Number,
            Some(false) => Seen::Other,
        };
        let before = fields.entry(column.clone()).or_insert_with(|| seen.clone());
        if *before != seen {
            *before = Seen::Other;
        }
    }
}

/// Adds what one record shows. serde_json's own depth limit bounds the recursion.
fn look(value: &[u8], fields: &mut BTreeMap<String, Seen>) {
    if let Ok(Value::Object(object)) = nonfinite::parse(value) {
        look_into("", &object, fields);
    }
}

fn look_into(
    parent: &str,
    object: &serde_json::Map<String, Value>,
    fields: &mut BTreeMap<String, Seen>,
) {
    for (name, value) in object {
        if name.is_empty() {
            continue;
        }
        let path = join_path(parent, name);
        let seen = match value {
            Value::Null => continue,
            Value::Object(inner) => {
                look_into(&path, inner, fields);
                Seen::Other
            }
            Value::Number(_) | Value::Bool(_) => Seen::Number,
            Value::Array(elements)
                if elements
                    .iter()
                    .all(|element| element.is_number() || element.is_null()) =>
            {
                Seen::Array(elements.len())
            }
            Value::String(text) if number::written(text).is_some() => Seen::Text,
            Value::Array(_) | Value::String(_) => Seen::Other,
        };
        let before = fields.entry(path).or_insert_with(|| seen.clone());
        if *before != seen {
            *before = Seen::Other;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(mut spec: SchemaSpec, samples: &[&str]) -> Option<Features> {
        let found = spec.resolve(samples.iter().map(|sample| sample.as_bytes()));
        found.then_some(spec.features)
    }

    #[test]
    fn texts_that_are_numbers_are_features_where_nothing_else_is() {
        let adapter = [
            r#"{"labels":{"instance":"a:9100"},"name":"up","timestamp":"2026-03-01T12:00:00Z","value":"1.5"}"#,
            r#"{"labels":{"instance":"a:9100"},"name":"up","timestamp":"2026-03-01T12:01:00Z","value":"NaN"}"#,
        ];
        let found = resolved(SchemaSpec::default(), &adapter);
        assert_eq!(found, Some(list(&["value"])));
        // A postcode is none beside a number.
        let found = resolved(SchemaSpec::default(), &[r#"{"zip":"10115","amount":3}"#]);
        assert_eq!(found, Some(list(&["amount"])));
    }

    fn list(paths: &[&str]) -> Features {
        Features::List(paths.iter().map(|path| (*path).to_owned()).collect())
    }

    #[test]
    fn numeric_and_boolean_leaves_are_found_at_any_depth() {
        let found = numeric_leaves(
            br#"{"z":1,"a":{"b":{"c":2.5},"s":"x"},"on":true,"n":null,"v":[1,2],"d.e":3,"":4}"#,
        );
        assert_eq!(found, ["a.b.c", "d\\.e", "on", "z"]);
        assert!(numeric_leaves(b"[1]").is_empty());
        assert!(numeric_leaves(b"{\"a\":").is_empty());
    }

    #[test]
    fn samples_are_joined_and_key_and_time_left_out() {
        let spec = SchemaSpec {
            key: vec!["id".into()],
            timestamp: "ts".into(),
            categories: [("mode".to_owned(), vec!["1".to_owned()])].into(),
            ..SchemaSpec::default()
        };
        let samples = [
            r#"{"id":7,"ts":1700000000,"mode":1,"a":1,"text":"x","mixed":1}"#,
            r#"{"id":8,"ts":1700000001,"mode":2,"a":null,"b":2,"mixed":"no"}"#,
            "no json",
        ];
        assert_eq!(resolved(spec, &samples), Some(list(&["a", "b"])));
    }

    #[test]
    fn one_array_of_constant_length_is_found_where_there_are_no_numbers() {
        let array = Features::Array {
            array: "v".into(),
            len: 2,
        };
        let auto = SchemaSpec::default;
        let samples = [r#"{"k":"a","v":[1,2]}"#, r#"{"k":"b","v":[3,null]}"#];
        assert_eq!(resolved(auto(), &samples), Some(array));
        let samples = [r#"{"v":[1,2]}"#, r#"{"v":[3]}"#];
        assert_eq!(resolved(auto(), &samples), None);
        assert_eq!(resolved(auto(), &[]), None);
    }

    #[test]
    fn a_model_s_columns_give_back_the_features() {
        let check = |features: Features| {
            let categories: BTreeMap<String, Vec<String>> =
                [("mode".to_owned(), vec!["on".to_owned(), "off".to_owned()])].into();
            let mut spec = SchemaSpec {
                features,
                categories,
                ..SchemaSpec::default()
            };
            let columns = spec.check().expect("valid").columns().to_vec();
            spec.features = Features::default();
            spec.resolve_from_columns(&columns);
            assert_eq!(spec.check().expect("valid").columns(), columns);
            spec.features
        };
        check(list(&["a", "mode", "b.c"]));
        check(list(&["a[1]", "b"]));
        let array = check(Features::Array {
            array: "v".into(),
            len: 3,
        });
        assert!(matches!(array, Features::Array { len: 3, .. }), "{array:?}");
    }
}
