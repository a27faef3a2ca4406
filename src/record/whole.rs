//! Records with all that they have, by path: for who looks at some of them before anybody has said what matters. Records of the input are read by `decode`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::avro_schema;
use super::avro_tree;
use super::csv;
use super::csv_spec::CsvSpec;
use super::envelope::Envelope;
use super::event;
use super::fields::join_path;
use super::nonfinite;
use super::protobuf_schema::Root;
use super::protobuf_tree;
use super::schema::{Format, SchemaSpec};
use super::tree::Tree;
use super::wire;
use super::writers::Writer;
use super::{Header, RecordBatch};

/// A record as its leaves, by path.
pub type Leaves = BTreeMap<String, Value>;

/// The leaves of a JSON object, by path as a schema names them; `None` of anything else. What has no name no path leads to.
#[must_use]
pub fn leaves(record: &Value) -> Option<Leaves> {
    let mut leaves = Leaves::new();
    descend(record.as_object()?, "", &mut leaves);
    Some(leaves)
}

fn descend(object: &serde_json::Map<String, Value>, prefix: &str, into: &mut Leaves) {
    for (name, value) in object.iter().filter(|(name, _)| !name.is_empty()) {
        let path = join_path(prefix, name);
        match value {
            Value::Object(inner) => descend(inner, &path, into),
            value => {
                into.insert(path, value.clone());
            }
        }
    }
}

/// Each record of a batch that is read as `spec` says it is written, and why the first of the others is not.
#[must_use]
pub fn all(spec: &SchemaSpec, batch: &RecordBatch) -> (Vec<Leaves>, Option<String>) {
    let reader = match Reader::new(spec) {
        Ok(reader) => reader,
        Err(problem) => return (Vec::new(), Some(problem)),
    };
    let mut problem = None;
    let read = batch.records().iter().filter_map(|record| {
        let value = batch.value(record)?;
        match reader.read(value, &record.headers, batch) {
            Ok(read) => Some(read),
            Err(why) => {
                problem.get_or_insert(why);
                None
            }
        }
    });
    (read.collect(), problem)
}

/// How records are written.
struct Reader<'s> {
    envelope: Envelope,
    format: Format,
    csv: &'s CsvSpec,
    avro: Option<Arc<avro_schema::Writer>>,
    protobuf: Option<Root>,
}

impl<'s> Reader<'s> {
    fn new(spec: &'s SchemaSpec) -> Result<Self, String> {
        let avro = Some(&spec.avro).filter(|_| spec.format == Format::Avro);
        let avro = avro.filter(|text| !text.is_empty());
        let avro = avro.map(|text| avro_schema::Writer::parse(text));
        let avro = avro
            .transpose()
            .map_err(|why| format!("avro.schema: {why}"))?;
        let protobuf = match spec.format {
            Format::Protobuf => spec.protobuf.check(),
            _ => Ok(None),
        };
        Ok(Self {
            envelope: spec.envelope,
            format: spec.format,
            csv: &spec.csv,
            avro: avro.map(Arc::new),
            protobuf: protobuf.map_err(|(key, why)| format!("{key}: {why}"))?,
        })
    }

    fn read(
        &self,
        value: &[u8],
        headers: &[Header],
        batch: &RecordBatch,
    ) -> Result<Leaves, String> {
        let value = event::record(self.envelope, value, headers).ok_or("is no CloudEvent")?;
        let headers = event::headers(self.envelope, headers);
        let object = |value: &Value| leaves(value).ok_or("is no object".to_owned());
        let of_tree = |tree: Tree<'_>| object(&tree.into()?);
        match (self.format, &self.avro, &self.protobuf) {
            (Format::Json, ..) => {
                let json = nonfinite::parse(wire::json(&value));
                object(&json.map_err(|error| format!("is no JSON: {error}"))?)
            }
            (Format::Csv, ..) => {
                let cells = csv::cells(&value, self.csv).map_err(|error| error.to_string())?;
                let names = self.csv.columns.iter().cloned();
                Ok(names.zip(cells.iter().map(|text| cell(text))).collect())
            }
            (Format::F32, ..) => Err("is numbers without names".to_owned()),
            (_, Some(writer), _) => of_tree(avro_tree::read(&value, writer)?),
            (_, _, Some(root)) => of_tree(protobuf_tree::read_as(&value, root)?),
            (format, None, None) => {
                let name = if format == Format::Avro {
                    "Avro"
                } else {
                    "Protobuf"
                };
                let said = |error: super::DecodeError| error.to_string();
                let framed = wire::framed(&value, headers, name).map_err(said)?;
                match wire::writer(batch.writers().map(AsRef::as_ref), framed.id).map_err(said)? {
                    Writer::Avro(writer) => of_tree(avro_tree::read(framed.body, writer)?),
                    Writer::Protobuf(files) => {
                        let body = match framed.header {
                            Some(place) => Cow::Owned([place, framed.body].concat()),
                            None => Cow::Borrowed(framed.body),
                        };
                        of_tree(protobuf_tree::read(&body, files)?)
                    }
                }
            }
        }
    }
}

/// A cell as JSON would have it.
#[must_use]
pub fn cell(text: &str) -> Value {
    let text = text.trim();
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Value::from(number),
        _ if text.is_empty() => Value::Null,
        _ => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::protobuf_schema::ProtobufSpec;
    use super::super::writers::{SchemaId, Writers};
    use super::*;
    use crate::stream::{Offset, TopicPartition};
    use crate::time::Timestamp;

    fn batch(values: &[&[u8]]) -> RecordBatch {
        let mut batch = RecordBatch::default();
        let at = TopicPartition::new("t", 0);
        for value in values {
            let place = (Offset(batch.len() as i64), Timestamp(0));
            batch.push(&at, place, None, Some(value), Vec::new());
        }
        batch
    }

    fn of(spec: &SchemaSpec, value: &[u8]) -> Value {
        let (read, why) = all(spec, &batch(&[value]));
        assert_eq!((read.len(), why), (1, None));
        json!(read[0])
    }

    const AVRO: &str = r#"{"type":"record","name":"R","fields":[
        {"name":"pump","type":"string"},{"name":"motor","type":{"type":"record","name":"M","fields":[{"name":"temp","type":"double"}]}}]}"#;
    const PROTO: &str = "syntax = \"proto3\"; message Other { string a = 1; } message Reading { string pump = 1; uint32 rpm = 2; }";

    #[test]
    fn every_format_that_names_its_fields_is_read() {
        let json = SchemaSpec::default();
        let value = br#"{"a.b": 1, "c": {"d": "x"}}"#;
        assert_eq!(of(&json, value), json!({r"a\.b": 1, "c.d": "x"}));
        let with_id = [&[0, 0, 0, 0, 7][..], value].concat();
        assert_eq!(of(&json, &with_id), of(&json, value));
        let csv = SchemaSpec {
            format: Format::Csv,
            csv: CsvSpec {
                columns: vec!["pump".to_owned(), "x".to_owned(), "y".to_owned()],
                ..CsvSpec::default()
            },
            ..SchemaSpec::default()
        };
        let wanted = json!({"pump": "P,1", "x": 2.5, "y": null});
        assert_eq!(of(&csv, b"\"P,1\", 2.5,\r\n"), wanted);
        let avro = SchemaSpec {
            format: Format::Avro,
            avro: AVRO.to_owned(),
            ..SchemaSpec::default()
        };
        let pump = [&b"\x04P1"[..], &1.5_f64.to_le_bytes()].concat();
        let wanted = json!({"pump": "P1", "motor.temp": 1.5});
        assert_eq!(of(&avro, &pump), wanted);
        let protobuf = SchemaSpec {
            format: Format::Protobuf,
            protobuf: ProtobufSpec {
                schema: PROTO.to_owned(),
                message: "Reading".to_owned(),
            },
            ..SchemaSpec::default()
        };
        let wanted = json!({"pump": "P1", "rpm": 7});
        assert_eq!(of(&protobuf, b"\x0a\x02P1\x10\x07"), wanted);
    }

    #[test]
    fn records_that_name_their_schemas_are_read_by_those() {
        let avro = avro_schema::Writer::parse(AVRO).unwrap();
        let files = super::super::protobuf_schema::Files::parse(PROTO).unwrap();
        let writers = [
            (SchemaId::Number(7), Ok(Writer::Avro(avro.into()))),
            (SchemaId::Number(8), Ok(Writer::Protobuf(files.into()))),
        ];
        let pump = [&b"\0\0\0\0\x07\x04P1"[..], &1.5_f64.to_le_bytes()].concat();
        let message = b"\0\0\0\0\x08\x02\x02\x0a\x02P1\x10\x07";
        let mut batch = batch(&[&pump, message, b"{}"]);
        batch.set_writers(Arc::new(Writers(writers.into())));
        for format in [Format::Avro, Format::Protobuf] {
            let spec = SchemaSpec {
                format,
                ..SchemaSpec::default()
            };
            let (read, why) = all(&spec, &batch);
            let wanted = [
                json!({"pump": "P1", "motor.temp": 1.5}),
                json!({"pump": "P1", "rpm": 7}),
            ];
            assert_eq!(json!(read), json!(wanted));
            assert!(why.unwrap().contains("in the wire format"));
        }
    }
}
