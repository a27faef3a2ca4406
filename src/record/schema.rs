//! Which fields of a record are its key, its time and its features: [`SchemaSpec`] as users write it, [`Schema`] once checked.
//!
//! A field is named by its path: names joined by dots reach into nested objects (`motor.bearing.temp`); a backslash before a dot or a
//! backslash makes it part of a name. Next: `auto` finds the features of a record that nobody has listed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Missing;
use super::avro_schema::Writer;
use super::calendar::{self, Calendar, CalendarSpec};
use super::csv_spec::{CsvSpec, Layout};
use super::envelope::{Attribute, Envelope, FromEvent};
pub use super::fields::STAND_IN;
pub use super::fields::join_path;
use super::fields::split_path;
pub(super) use super::fields::{Node, Use};
use super::problem::SchemaProblem;
use super::protobuf_schema::{ProtobufSpec, Root};

/// Feature columns a record may have at most.
pub const COLUMNS_MAX: usize = 4_096;

/// Fields that may form the key together at most.
pub const KEY_FIELDS_MAX: usize = 8;

/// How a record's bytes are to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object.
    #[default]
    Json,
    /// One 32-bit float for each feature, little end first, and nothing else: the key and the time are Kafka's.
    F32,
    /// One line of CSV.
    Csv,
    /// A record in Avro, by one schema for all, or with the id of its own.
    Avro,
    /// A message of Protobuf, by one schema for all, or with the id of its own.
    Protobuf,
}

/// The features, as users list them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "\"auto\", a list of field paths, or { array = \"path\", len = N }"
)]
pub enum Features {
    /// `auto`: every numeric or boolean field, found by looking at records; see [`SchemaSpec::resolve`].
    Auto(Auto),
    /// Paths of single fields.
    List(Vec<String>),
    /// One field that is an array of numbers.
    Array {
        /// Its path.
        array: String,
        /// How many numbers it has, always.
        len: usize,
    },
}

/// The word `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Auto {
    /// `auto`.
    Auto,
}

impl Default for Features {
    fn default() -> Self {
        Self::Auto(Auto::Auto)
    }
}

/// What users say of their records; unchecked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SchemaSpec {
    /// How the bytes are read.
    pub format: Format,
    /// What is around a record.
    #[serde(skip_serializing_if = "Envelope::is_none")]
    pub envelope: Envelope,
    /// What a line has, with [`Format::Csv`].
    #[serde(skip_serializing_if = "CsvSpec::is_default")]
    pub csv: CsvSpec,
    /// The schema that all records were written by, as JSON, with [`Format::Avro`]; empty: each value begins with the id of its own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub avro: String,
    /// The schema that all records were written by, with [`Format::Protobuf`].
    #[serde(skip_serializing_if = "ProtobufSpec::is_default")]
    pub protobuf: ProtobufSpec,
    /// The fields that form the key; none: Kafka's key.
    pub key: Vec<String>,
    /// The field that has the event time; empty: Kafka's timestamp.
    pub timestamp: String,
    /// The features.
    pub features: Features,
    /// Fields that take one of a few values, and the values: each becomes a column `field=value` of zeros and ones.
    pub categories: BTreeMap<String, Vec<String>>,
    /// Time of day and day of the week as context, in a column after all others; `None`, or no offset: not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calendar: Option<CalendarSpec>,
    /// What to do with a feature that is absent, null or out of range.
    pub missing: Missing,
    /// The same, for single features (or for all elements of the array, by its path).
    pub missing_for: BTreeMap<String, Missing>,
}

/// The longest key that is taken, in bytes of its text: a key is in its state, and twice in each alert and score.
pub const KEY_MAX: usize = 4096;

/// A field that is one-hot encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Category {
    /// The listed values; each has a column.
    pub values: Vec<String>,
    /// The column of the first value.
    pub first: usize,
}

/// A checked schema: columns and policies, and where each field goes.
#[derive(Clone, Debug)]
pub struct Schema {
    format: Format,
    envelope: Envelope,
    pub(super) from_event: FromEvent,
    pub(super) csv: Layout,
    pub(super) writer: Option<Arc<Writer>>,
    pub(super) message: Option<Root>,
    columns: Vec<String>,
    missing: Vec<Missing>,
    /// The root, at index 0, is the record's object.
    pub(super) nodes: Vec<Node>,
    pub(super) categories: Vec<Category>,
    pub(super) key: Vec<String>,
    pub(super) timestamp: Option<String>,
    calendar: Option<Calendar>,
    context: ContextColumns,
}

/// Which columns are context: they say by what the others are judged, and are never judged themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextColumns {
    /// For each categorical field, its columns.
    pub fields: Vec<Vec<usize>>,
    /// The column of the calendar.
    pub calendar: Option<usize>,
}

impl ContextColumns {
    /// All of them, in no order.
    pub fn all(&self) -> impl Iterator<Item = usize> {
        let fields = self.fields.iter().flatten();
        fields.copied().chain(self.calendar)
    }

    /// Whether a column is context.
    pub fn has(&self, column: usize) -> bool {
        self.all().any(|context| context == column)
    }

    /// Whether there is no context.
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }
}

impl Schema {
    /// How the bytes are read.
    pub fn format(&self) -> Format {
        self.format
    }

    /// What is around a record.
    pub fn envelope(&self) -> Envelope {
        self.envelope
    }

    /// The columns that are context.
    pub fn context(&self) -> &ContextColumns {
        &self.context
    }

    /// The calendar, which has the last column.
    pub fn calendar(&self) -> Option<&Calendar> {
        self.calendar.as_ref()
    }

    /// The names of the D columns, in order: a field's path, `path[3]` in an array, `path=value` for a category, `calendar`.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The policy of each column. [`Missing::Constant`] and [`Missing::DeadLetter`] are done when decoding; a missing value under
    /// [`Missing::Mask`] or [`Missing::Last`] is NaN in the row.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }
}

impl SchemaSpec {
    /// Where the context is among `columns`. None where there are no others: then they are all there is to judge.
    pub fn context_columns(&self, columns: &[String]) -> ContextColumns {
        let fields = self.categories.iter().map(|(path, values)| {
            let names: Vec<String> = values
                .iter()
                .map(|value| format!("{path}={value}"))
                .collect();
            let places = columns
                .iter()
                .enumerate()
                .filter(|(_, name)| names.contains(name));
            places.map(|(at, _)| at).collect()
        });
        let context = ContextColumns {
            fields: fields
                .filter(|places: &Vec<usize>| !places.is_empty())
                .collect(),
            calendar: self
                .has_calendar()
                .then(|| columns.iter().rposition(|name| name == calendar::COLUMN))
                .flatten(),
        };
        if context.all().count() < columns.len() {
            context
        } else {
            ContextColumns::default()
        }
    }

    /// Whether there is a column of the calendar.
    pub fn has_calendar(&self) -> bool {
        let offset = self.calendar.as_ref().map(|spec| &spec.utc_offset);
        offset.is_some_and(|offset| !offset.is_empty())
    }

    /// The attribute of an event that a name means, where there are events.
    fn attribute(&self, name: &str) -> Option<Attribute> {
        match self.envelope {
            Envelope::None => None,
            Envelope::CloudEvents => Attribute::named(name),
        }
    }

    /// Checks everything and says all that is wrong at once.
    pub fn check(&self) -> Result<Schema, Vec<SchemaProblem>> {
        let mut builder = Builder::default();
        builder.nodes.push(Node::default());
        builder.features(self);
        builder.from_event.time = self.attribute(&self.timestamp);
        if builder.from_event.time.is_none() {
            builder.place("timestamp", &self.timestamp, Use::Time);
        }
        if self.key.len() > KEY_FIELDS_MAX {
            let problem = format!(
                "at most {KEY_FIELDS_MAX} fields may form the key, but there are {}",
                self.key.len()
            );
            builder.problem("key", problem);
        }
        for (part, path) in self.key.iter().enumerate() {
            if path.is_empty() {
                builder.problem(
                    &format!("key[{part}]"),
                    "a field path must not be empty".into(),
                );
            }
            let attribute = self.attribute(path);
            builder.from_event.key.push(attribute);
            if attribute.is_none() {
                builder.place(&format!("key[{part}]"), path, Use::Key(part));
            }
        }
        builder.policies(self);
        let calendar = builder.calendar(self);
        let mut csv = Layout::default();
        match self.format {
            Format::Json | Format::Avro | Format::Protobuf => {}
            Format::F32 => builder.floats(self),
            Format::Csv => csv = builder.csv(self),
        }
        if self.format != Format::Csv && !self.csv.is_default() {
            let problem = "is of use where `format` is \"csv\" only".to_owned();
            builder.problem("csv", problem);
        }
        let writer = builder.writer(self);
        let message = builder.message(self);
        if builder.problems.is_empty() {
            Ok(Schema {
                context: self.context_columns(&builder.columns),
                format: self.format,
                envelope: self.envelope,
                from_event: builder.from_event,
                csv,
                writer,
                message,
                columns: builder.columns,
                missing: builder.missing,
                nodes: builder.nodes,
                categories: builder.categories,
                key: self.key.clone(),
                timestamp: Some(self.timestamp.clone()).filter(|path| !path.is_empty()),
                calendar,
            })
        } else {
            Err(builder.problems)
        }
    }
}

/// A schema in the making, with what is wrong so far.
#[derive(Default)]
struct Builder {
    columns: Vec<String>,
    /// The path that each column comes from: what `missing_for` names.
    owners: Vec<String>,
    missing: Vec<Missing>,
    nodes: Vec<Node>,
    categories: Vec<Category>,
    from_event: FromEvent,
    problems: Vec<SchemaProblem>,
}

impl Builder {
    fn problem(&mut self, key: &str, problem: String) {
        self.problems.push(SchemaProblem {
            key: key.to_owned(),
            problem,
        });
    }

    /// Columns: the listed features in their order, categories in place where listed, else at the end by name.
    fn features(&mut self, spec: &SchemaSpec) {
        let mut unlisted: Vec<&String> = spec.categories.keys().collect();
        match &spec.features {
            Features::Auto(_) => {
                let problem = "`auto` must be resolved before it is used".to_owned();
                self.problem("features", problem);
            }
            Features::List(paths) => {
                for (at, path) in paths.iter().enumerate() {
                    let key = format!("features[{at}]");
                    if path.is_empty() {
                        self.problem(&key, "a field path must not be empty".into());
                    } else if let Some(values) = spec.categories.get(path) {
                        unlisted.retain(|field| *field != path);
                        self.category(&key, path, values);
                    } else {
                        self.place(&key, path, Use::Column(self.columns.len()));
                        self.column(path, path.clone());
                    }
                }
            }
            Features::Array { array, len } => {
                if array.is_empty() {
                    self.problem("features.array", "a field path must not be empty".into());
                }
                if !(1..=COLUMNS_MAX).contains(len) {
                    let problem = format!("must be from 1 to {COLUMNS_MAX}, but is {len}");
                    self.problem("features.len", problem);
                    return;
                }
                self.place("features.array", array, Use::Array(0, *len));
                for element in 0..*len {
                    self.column(array, format!("{array}[{element}]"));
                }
            }
        }
        for path in unlisted {
            let key = format!("categories.{path}");
            self.category(&key, path, &spec.categories[path]);
        }
        let resolved = !matches!(spec.features, Features::Auto(_));
        if resolved && !(1..=COLUMNS_MAX).contains(&self.columns.len()) {
            let problem = format!(
                "there must be from 1 to {COLUMNS_MAX} columns, but there are {}",
                self.columns.len()
            );
            self.problem("features", problem);
        }
    }

    /// The column of the calendar, which is always observed.
    fn calendar(&mut self, spec: &SchemaSpec) -> Option<Calendar> {
        let found = spec.calendar.as_ref()?.check();
        let calendar = match found {
            Ok(calendar) => calendar?,
            Err(problems) => {
                self.problems.extend(problems);
                return None;
            }
        };
        if self.columns.iter().any(|name| name == calendar::COLUMN) {
            let problem = "there is a feature of this name already".to_owned();
            self.problem(calendar::COLUMN, problem);
        }
        self.column(calendar::COLUMN, calendar::COLUMN.to_owned());
        self.missing.push(Missing::Mask);
        Some(calendar)
    }

    fn column(&mut self, owner: &str, name: String) {
        self.owners.push(owner.to_owned());
        self.columns.push(name);
    }

    fn category(&mut self, key: &str, path: &str, values: &[String]) {
        if values.is_empty() {
            self.problem(key, "a category needs at least one value".into());
        }
        for (at, value) in values.iter().enumerate() {
            if values[..at].contains(value) {
                self.problem(key, format!("the value `{value}` is listed twice"));
            }
        }
        self.place(key, path, Use::Category(self.categories.len()));
        self.categories.push(Category {
            values: values.to_vec(),
            first: self.columns.len(),
        });
        for value in values {
            self.column(path, format!("{path}={value}"));
        }
    }

    /// Puts a use at the end of a path. An empty path is no field.
    fn place(&mut self, key: &str, path: &str, what: Use) {
        if path.is_empty() {
            return;
        }
        let Some(names) = split_path(path) else {
            let problem = format!(
                "`{path}` is not a path: names joined by dots, a backslash only before a dot or a backslash"
            );
            self.problem(key, problem);
            return;
        };
        let mut node = 0;
        for name in &names {
            if !self.nodes[node].uses.is_empty() {
                let problem = format!(
                    "`{path}` reaches into `{}`, which is itself used as a value",
                    self.nodes[node].path
                );
                self.problem(key, problem);
                return;
            }
            node = self.child(node, name);
        }
        if !self.nodes[node].children.is_empty() {
            let problem = format!("`{path}` is used as a value, but other fields lie within it");
            self.problem(key, problem);
            return;
        }
        let twice = self.nodes[node].uses.iter().any(|used| {
            // One key part or time beside one feature is fine; the same kind of use twice is a slip.
            matches!(
                (used, what),
                (Use::Key(_), Use::Key(_))
                    | (
                        Use::Column(_) | Use::Category(_) | Use::Array(..),
                        Use::Column(_) | Use::Category(_) | Use::Array(..)
                    )
            )
        });
        if twice {
            self.problem(key, format!("`{path}` is listed twice"));
            return;
        }
        self.nodes[node].uses.push(what);
    }

    fn child(&mut self, parent: usize, name: &str) -> usize {
        if let Some(&child) = self.nodes[parent].children.get(name) {
            return child;
        }
        let child = self.nodes.len();
        let path = join_path(&self.nodes[parent].path, name);
        self.nodes.push(Node {
            path,
            ..Node::default()
        });
        self.nodes[parent].children.insert(name.into(), child);
        child
    }

    /// The schema that all records were written by, if there is one.
    fn writer(&mut self, spec: &SchemaSpec) -> Option<Arc<Writer>> {
        if spec.avro.is_empty() {
            return None;
        }
        if spec.format != Format::Avro {
            let problem = "is of use where `format` is \"avro\" only".to_owned();
            self.problem("avro", problem);
        }
        let writer = Writer::parse(&spec.avro);
        writer
            .map_err(|problem| self.problem("avro", problem))
            .ok()
            .map(Arc::new)
    }

    /// The message that all records are, if there is one.
    fn message(&mut self, spec: &SchemaSpec) -> Option<Root> {
        if !spec.protobuf.is_default() && spec.format != Format::Protobuf {
            let problem = "is of use where `format` is \"protobuf\" only".to_owned();
            self.problem("protobuf", problem);
        }
        let found = spec.protobuf.check();
        found.unwrap_or_else(|(key, problem)| {
            self.problem(key, problem);
            None
        })
    }

    /// Which field each cell of a line is.
    fn csv(&mut self, spec: &SchemaSpec) -> Layout {
        if let Features::Array { .. } = spec.features {
            let problem = "a line of CSV has no array: list the columns".to_owned();
            self.problem("features.array", problem);
        }
        let (layout, problems) = Layout::new(&spec.csv, &self.nodes);
        self.problems.extend(problems);
        layout
    }

    /// An array of floats has neither key nor time nor words.
    fn floats(&mut self, spec: &SchemaSpec) {
        for (key, used) in [
            ("key", !spec.key.is_empty()),
            ("timestamp", !spec.timestamp.is_empty()),
            ("categories", !spec.categories.is_empty()),
        ] {
            if used {
                let problem = "must be empty: a value of format `f32` has only numbers".to_owned();
                self.problem(key, problem);
            }
        }
    }

    fn policies(&mut self, spec: &SchemaSpec) {
        for (path, missing) in spec
            .missing_for
            .iter()
            .map(|(path, missing)| (Some(path), missing))
            .chain([(None, &spec.missing)])
        {
            let key = path.map_or("missing".into(), |path| format!("missing_for.{path}"));
            if let Missing::Constant(value) = missing
                && !value.is_finite()
            {
                self.problem(&key, format!("the constant must be finite, but is {value}"));
            }
            if let Some(path) = path
                && !self.owners.contains(path)
            {
                self.problem(&key, format!("`{path}` is not a feature"));
            }
        }
        self.missing = self
            .owners
            .iter()
            .map(|owner| *spec.missing_for.get(owner).unwrap_or(&spec.missing))
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> SchemaSpec {
        serde_json::from_str(json).expect(json)
    }

    fn columns(json: &str) -> Vec<String> {
        spec(json).check().expect(json).columns().to_vec()
    }

    /// The keys that have problems.
    fn problems(json: &str) -> Vec<String> {
        let problems = spec(json).check().expect_err(json);
        problems.into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn columns_are_named_after_their_fields() {
        assert_eq!(columns(r#"{"features":["b","a.x"]}"#), ["b", "a.x"]);
        assert_eq!(
            columns(r#"{"features":{"array":"v","len":2}}"#),
            ["v[0]", "v[1]"]
        );
        assert_eq!(
            columns(r#"{"features":["mode","t"],"categories":{"mode":["on","off"],"band":["a"]}}"#),
            ["mode=on", "mode=off", "t", "band=a"]
        );
        assert_eq!(columns(r#"{"features":["a\\.b"]}"#), ["a\\.b"]);
    }

    #[test]
    fn policies_go_to_the_columns_of_their_feature() {
        let schema = spec(
            r#"{"features":["a","mode"],"categories":{"mode":["x","y"]},"missing":"last","missing_for":{"mode":0.0}}"#,
        )
        .check()
        .expect("valid");
        let zero = Missing::Constant(0.0);
        assert_eq!(schema.missing(), [Missing::Last, zero, zero]);
    }

    #[test]
    fn all_problems_come_at_once_with_their_keys() {
        assert_eq!(problems("{}"), ["features"]);
        assert_eq!(problems(r#"{"features":[]}"#), ["features"]);
        assert_eq!(
            problems(r#"{"features":["a","","a","a.b","c..d","e\\f"],"key":["k","k",""]}"#),
            [
                "features[1]",
                "features[2]",
                "features[3]",
                "features[4]",
                "features[5]",
                "key[1]",
                "key[2]"
            ]
        );
        assert_eq!(
            problems(r#"{"features":{"array":"","len":0},"missing_for":{"z":"mask"}}"#),
            ["features.array", "features.len", "missing_for.z"]
        );
        assert_eq!(
            problems(r#"{"features":["a"],"categories":{"m":[],"n":["x","x"]}}"#),
            ["categories.m", "categories.n"]
        );
        assert_eq!(
            problems(r#"{"features":["a.b"],"timestamp":"a"}"#),
            ["timestamp"]
        );
        let many: Vec<String> = (0..9).map(|part| format!("k{part}")).collect();
        let many = serde_json::to_string(&many).expect("text");
        assert_eq!(
            problems(&format!(r#"{{"features":["a"],"key":{many}}}"#)),
            ["key"]
        );
        assert_eq!(
            problems(r#"{"format":"f32","features":["a"],"key":["k"],"timestamp":"t"}"#),
            ["key", "timestamp"]
        );
        let infinite = SchemaSpec {
            features: Features::List(vec!["a".into()]),
            missing: Missing::Constant(f64::INFINITY),
            ..SchemaSpec::default()
        };
        assert_eq!(infinite.check().expect_err("refused")[0].key, "missing");
    }

    #[test]
    fn the_calendar_has_a_column_after_all_others() {
        let json = r#"{"features":["a","m"],"categories":{"m":["x","y"]},"missing":"dead_letter","calendar":{"utc_offset":"Z"}}"#;
        let schema = spec(json).check().expect("valid");
        assert_eq!(schema.columns(), ["a", "m=x", "m=y", "calendar"]);
        assert_eq!(schema.missing()[3], Missing::Mask);
        assert_eq!(schema.context().all().collect::<Vec<_>>(), [1, 2, 3]);
        let mut auto = spec(r#"{"calendar":{"utc_offset":"Z"}}"#);
        auto.resolve_from_columns(&["a".into(), "calendar".into()]);
        assert_eq!(auto.features, Features::List(vec!["a".into()]));
        assert!(
            spec(r#"{"features":["calendar"],"calendar":{}}"#)
                .check()
                .is_ok()
        );
        assert_eq!(
            problems(r#"{"features":["calendar"],"calendar":{"utc_offset":"Z"}}"#),
            ["calendar"]
        );
        assert_eq!(
            problems(r#"{"features":["a"],"calendar":{"utc_offset":"1"}}"#),
            ["calendar.utc_offset"]
        );
        // The hour is none of the floats.
        let floats = spec(r#"{"format":"f32","features":["a"],"calendar":{"utc_offset":"Z"}}"#);
        let schema = std::sync::Arc::new(floats.check().expect("valid"));
        let mut decoder = super::super::decode::Decoder::new(schema);
        let (mut row, time) = ([0.0; 2], crate::time::Timestamp(7_200_000));
        decoder
            .decode_one(None, Some(&1.5_f32.to_le_bytes()), time, &mut row)
            .expect("four bytes");
        assert_eq!(row.map(f64::to_bits), [1.5_f64, 2.0].map(f64::to_bits));
    }

    #[test]
    fn one_field_may_be_key_time_and_feature() {
        let json = r#"{"features":["a"],"key":["a"],"timestamp":"a"}"#;
        assert_eq!(columns(json), ["a"]);
    }

    #[test]
    fn settings_are_written_as_in_the_manual() {
        let written =
            spec(r#"{"features":"auto","missing":"dead_letter","missing_for":{"a":1.5}}"#);
        assert_eq!(written.features, Features::default());
        assert_eq!(written.missing, Missing::DeadLetter);
        assert_eq!(written.missing_for["a"], Missing::Constant(1.5));
        assert!(serde_json::from_str::<SchemaSpec>(r#"{"features":"all"}"#).is_err());
        assert!(serde_json::from_str::<SchemaSpec>(r#"{"missing":"never"}"#).is_err());
    }
}
