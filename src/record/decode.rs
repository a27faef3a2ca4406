//! From the bytes of messages to rows of numbers: total, never a panic, the same whatever was decoded before.
//!
//! A [`Decoder`] owns memory (interned keys, learnt templates) that makes it fast; no result depends on it. Next: `json`, `json_template`.

use std::fmt::Write as _;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::avro;
use super::csv;
use super::envelope::Envelope;
use super::event::{self, Event};
use super::floats;
use super::json::{self, Seen};
use super::json_template::JsonTemplates;
use super::protobuf;
use super::row::{Given, Parts, Row};
use super::schema::{Format, KEY_MAX, Schema};
use super::wire;
use super::writers::Writers;
use super::{DecodeError, Decoded, DecodedBatch, Header, Key, RecordBatch};
use crate::time::Timestamp;

/// Keys remembered at most; beyond, all are forgotten and learnt again.
const KEYS_MAX: usize = 65_536;

/// Keys longer than this are not remembered.
const KEY_BYTES_MAX: usize = 256;

/// Decodes records by one schema. One for each thread.
#[derive(Clone, Debug)]
pub struct Decoder {
    schema: Arc<Schema>,
    keys: FxHashSet<Key>,
    readers: Readers,
    parts: Parts,
    text: String,
}

/// What is remembered for each format.
#[derive(Clone, Debug, Default)]
struct Readers {
    templates: Option<JsonTemplates>,
    seen: Seen,
    line: csv::Line,
    known: avro::Known,
    messages: protobuf::Known,
    /// What the batch knows of the schemas of its records.
    writers: Option<Arc<Writers>>,
}

impl Readers {
    /// Reads a value, with the headers about it, into an empty row.
    fn read(
        &mut self,
        (value, headers): (&[u8], &[Header]),
        row: &mut Row<'_>,
    ) -> Result<(), DecodeError> {
        let schema = row.schema;
        let writers = self.writers.as_deref();
        match (schema.format(), &mut self.templates) {
            (Format::F32, _) => floats::read(value, row),
            (Format::Avro, _) => avro::read((value, headers), row, &mut self.known, writers),
            (Format::Protobuf, _) => {
                protobuf::read((value, headers), row, &mut self.messages, writers)
            }
            (Format::Csv, _) => csv::read(value, row, &schema.csv, &mut self.line),
            (Format::Json, None) => json::read(wire::json(value), row, &mut self.seen),
            (Format::Json, Some(templates)) => {
                let value = wire::json(value);
                if !templates.read(value, row) {
                    json::read(value, row, &mut self.seen)?;
                    templates.learn(value, schema);
                }
                Ok(())
            }
        }
    }
}

impl Decoder {
    /// A decoder that has seen nothing.
    pub fn new(schema: Arc<Schema>) -> Self {
        let mut decoder = Self::without_templates(schema);
        decoder.readers.templates = Some(JsonTemplates::default());
        decoder
    }

    /// A decoder that reads every record by serde_json: same results, for comparison.
    pub fn without_templates(schema: Arc<Schema>) -> Self {
        Self {
            schema,
            keys: FxHashSet::default(),
            readers: Readers::default(),
            parts: Parts::default(),
            text: String::new(),
        }
    }

    /// The schema it decodes by.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Decodes all records of a batch.
    pub fn decode(&mut self, batch: &RecordBatch) -> DecodedBatch {
        let mut decoded = DecodedBatch::default();
        self.decode_into(batch, &mut decoded);
        decoded
    }

    /// Decodes all records of a batch into memory that was used before; what was there is forgotten.
    pub fn decode_into(&mut self, batch: &RecordBatch, decoded: &mut DecodedBatch) {
        let columns = self.schema.columns().len();
        decoded.columns = columns;
        decoded.values.resize(batch.len() * columns, f64::NAN);
        self.readers.writers = batch.writers().cloned();
        decoded.outcomes.clear();
        decoded.outcomes.reserve(batch.len());
        for (record, row) in batch
            .records()
            .iter()
            .zip(decoded.values.chunks_exact_mut(columns))
        {
            let message = (batch.key(record), batch.value(record), &*record.headers);
            let outcome = self.decode_message(message, record.timestamp, row);
            decoded.outcomes.push(outcome);
        }
    }

    /// Decodes one message without headers, as [`Self::decode_message`].
    pub fn decode_one(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: Timestamp,
        row: &mut [f64],
    ) -> Result<Decoded, DecodeError> {
        self.decode_message((key, value, &[]), timestamp, row)
    }

    /// Decodes one message, its key, value and headers, into `row`, which has a place for each column. The row of a message that cannot be read is all NaN.
    pub fn decode_message(
        &mut self,
        (key, value, headers): (Option<&[u8]>, Option<&[u8]>, &[Header]),
        timestamp: Timestamp,
        row: &mut [f64],
    ) -> Result<Decoded, DecodeError> {
        let outcome = self.read((key, value, headers), timestamp, row);
        if outcome.is_err() {
            row.fill(f64::NAN);
        }
        outcome
    }

    fn read(
        &mut self,
        (key, value, headers): (Option<&[u8]>, Option<&[u8]>, &[Header]),
        timestamp: Timestamp,
        row: &mut [f64],
    ) -> Result<Decoded, DecodeError> {
        let Self {
            schema,
            keys,
            readers,
            parts,
            text,
        } = self;
        let value = value.ok_or(DecodeError::NullValue)?;
        let event;
        let (value, given) = match schema.envelope() {
            Envelope::None => (value, Given::default()),
            Envelope::CloudEvents => {
                event = Event::open(value, headers)?;
                (event.data()?, event.given(&schema.from_event)?)
            }
        };
        let features = row.len() - usize::from(schema.calendar().is_some());
        let (row, of_calendar) = row.split_at_mut(features);
        let mut row = Row::new(schema, row, parts, given);
        let about = event::headers(schema.envelope(), headers);
        readers.read((value, about), &mut row)?;
        let time = parts.time().unwrap_or(timestamp);
        if time < Timestamp(0) {
            return Err(DecodeError::Field {
                field: "timestamp".into(),
                problem: format!("Kafka's timestamp is {}: there is none", time.0),
            });
        }
        if let (Some(calendar), [hour]) = (schema.calendar(), of_calendar) {
            *hour = calendar.value(time);
        }
        let key = if schema.key.is_empty() {
            kafka_key(key.unwrap_or_default(), text)
        } else {
            parts.key(text)
        };
        if KEY_MAX < key.len() {
            return Err(DecodeError::KeyLength {
                bytes: key.len(),
                max: KEY_MAX,
            });
        }
        Ok(Decoded {
            key: interned(keys, key),
            time,
        })
    }
}

/// Kafka's key as text: as it is if it is UTF-8, else hexadecimal after `0x`. Records without a key share the empty one: they are one
/// series in each partition.
fn kafka_key<'a>(key: &'a [u8], scratch: &'a mut String) -> &'a str {
    if let Ok(text) = std::str::from_utf8(key) {
        return text;
    }
    scratch.clear();
    scratch.push_str("0x");
    for byte in key {
        // Writing to a string cannot fail.
        let _written = write!(scratch, "{byte:02x}");
    }
    scratch
}

/// The one `Key` for this text, as long as it is remembered.
fn interned(keys: &mut FxHashSet<Key>, text: &str) -> Key {
    if let Some(key) = keys.get(text) {
        return key.clone();
    }
    let key = Key(Arc::from(text));
    if text.len() <= KEY_BYTES_MAX {
        if keys.len() >= KEYS_MAX {
            keys.clear();
        }
        keys.insert(key.clone());
    }
    key
}

#[cfg(test)]
mod tests {
    use super::super::schema::SchemaSpec;
    use super::*;
    use crate::stream::{Offset, TopicPartition};

    /// A decoder for a schema written in JSON.
    fn decoder(spec: &str) -> Decoder {
        let spec: SchemaSpec = serde_json::from_str(spec).expect(spec);
        Decoder::new(Arc::new(spec.check().expect("a valid schema")))
    }

    /// Decodes one value, by serde_json and then, learnt, by its template; both must say the same.
    fn decode(spec: &str, value: &[u8]) -> Result<(Decoded, Vec<f64>), DecodeError> {
        let mut decoder = decoder(spec);
        let mut row = vec![0.5; decoder.schema().columns().len()];
        let time = Timestamp(1_000);
        let first = decoder.decode_one(Some(b"k"), Some(value), time, &mut row);
        let bits: Vec<u64> = row.iter().map(|value| value.to_bits()).collect();
        let second = decoder.decode_one(Some(b"k"), Some(value), time, &mut row);
        assert_eq!(first, second);
        assert_eq!(
            bits,
            row.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
        );
        first.map(|decoded| (decoded, row))
    }

    fn row(spec: &str, value: &str) -> Vec<f64> {
        decode(spec, value.as_bytes()).expect(value).1
    }

    fn error(spec: &str, value: &[u8]) -> DecodeError {
        decode(spec, value).expect_err("refused")
    }

    /// Equal, NaN to NaN.
    fn assert_row(spec: &str, value: &str, expected: &[f64]) {
        let row = row(spec, value);
        let same = row.len() == expected.len()
            && row
                .iter()
                .zip(expected)
                .all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()));
        assert!(same, "{value}: {row:?}, not {expected:?}");
    }

    #[test]
    fn a_key_that_is_too_long_is_refused_however_it_is_made() {
        let mut decoder = decoder(r#"{"features":["a"]}"#);
        let mut row = [0.5];
        let mut ask = |key: &[u8]| {
            decoder
                .decode_one(Some(key), Some(br#"{"a":1}"#), Timestamp(1), &mut row)
                .map(|decoded| decoded.key.0.len())
        };
        let too_long = |bytes| DecodeError::KeyLength { bytes, max: 4096 };
        assert_eq!(ask(&[b'k'; 4096]), Ok(4096));
        assert_eq!(ask(&[b'k'; 4097]), Err(too_long(4097)));
        // As text it is longer than it came.
        assert!(matches!(ask(&[0xff; 2048]), Err(error) if error.reason() == "key_length"));
        assert_eq!(ask(&vec![b'k'; 600_000]), Err(too_long(600_000)));
        let fields = r#"{"features":["a"],"key":["x","y"]}"#;
        let half = "k".repeat(2048);
        let value = format!(r#"{{"a":1,"x":"{half}","y":"{half}"}}"#);
        assert_eq!(error(fields, value.as_bytes()), too_long(4097));
        let standard = r#"{"features":["a"],"key":["x"]}"#;
        let of = |length: usize| format!("{{\"a\":1,\"x\":\"{}\"}}", "k".repeat(length));
        assert!(decode(standard, of(4096).as_bytes()).is_ok());
        assert_eq!(
            error(standard, of(4097).as_bytes()),
            DecodeError::KeyLength {
                bytes: 4097,
                max: 4096
            }
        );
    }

    const AB: &str = r#"{"features":["a","b.c"]}"#;

    #[test]
    fn fields_go_to_their_columns_in_any_order_and_depth() {
        assert_row(AB, r#"{"a":1,"b":{"c":2}}"#, &[1.0, 2.0]);
        assert_row(
            AB,
            r#" { "x":[{"a":9}], "b":{"d":3,"c":-2e1} ,"a":0.5 } "#,
            &[0.5, -20.0],
        );
        assert_row(AB, r#"{"\u0061":1,"b":{"c":true}}"#, &[1.0, 1.0]);
        assert_row(
            AB,
            r#"{"a":-0,"b":{"c":18446744073709551617}}"#,
            &[-0.0, 18_446_744_073_709_551_617.0],
        );
        assert_row(r#"{"features":["a\\.b"]}"#, r#"{"a.b":3}"#, &[3.0]);
    }

    #[test]
    fn missing_null_and_out_of_range_values_follow_the_policy() {
        let nan = f64::NAN;
        assert_row(AB, r#"{"a":1}"#, &[1.0, nan]);
        assert_row(AB, r#"{"a":1,"b":null}"#, &[1.0, nan]);
        assert_row(AB, r#"{"a":1,"b":{}}"#, &[1.0, nan]);
        assert_row(AB, r#"{"a":null,"b":{"c":2}}"#, &[nan, 2.0]);
        assert_row(AB, r#"{"a":1e999,"b":{"c":2}}"#, &[nan, 2.0]);
        assert_row(
            r#"{"features":["a","b","c"],"missing":"last","missing_for":{"b":7}}"#,
            r#"{"a":1}"#,
            &[1.0, 7.0, nan],
        );
        let strict = r#"{"features":["a","b"],"missing":"dead_letter"}"#;
        assert_eq!(
            error(strict, br#"{"a":1,"b":null}"#).to_string(),
            "field `b`: is missing, null or out of range"
        );
        assert_eq!(
            error(AB, b"{}"),
            DecodeError::NothingObserved { columns: 2 }
        );
        assert_eq!(error(AB, br#"{"a":null}"#).reason(), "nothing_observed");
    }

    #[test]
    fn python_s_nan_and_infinity_are_missing_values() {
        let nan = f64::NAN;
        assert_row(AB, r#"{"a":1,"b":{"c":NaN},"x":[NaN]}"#, &[1.0, nan]);
        assert_row(AB, r#"{"a":-Infinity,"b":{"c":2}}"#, &[nan, 2.0]);
        assert_row(AB, r#"{"a": Infinity, "b": {"c": 2}}"#, &[nan, 2.0]);
        let array = r#"{"features":{"array":"v","len":3},"missing":7}"#;
        assert_row(array, r#"{"v":[NaN,-Infinity,3]}"#, &[7.0, 7.0, 3.0]);
        let strict = r#"{"features":["a","b"],"missing":"dead_letter"}"#;
        assert_eq!(
            error(strict, br#"{"a":1,"b":NaN}"#).to_string(),
            "field `b`: is missing, null or out of range"
        );
        assert_eq!(error(AB, br#"{"a":NaN}"#).reason(), "nothing_observed");
        // As texts they were missing before; within others they are letters.
        let keyed = r#"{"features":["a"],"key":["k"]}"#;
        let (decoded, _) = decode(keyed, br#"{"a":1,"k":"-Infinity","x":NaN}"#).unwrap();
        assert_eq!(&*decoded.key.0, "-Infinity");
    }

    #[test]
    fn categories_and_booleans_become_zeros_and_ones() {
        let spec = r#"{"features":["on"],"categories":{"mode":["idle","1","true"]}}"#;
        assert_row(spec, r#"{"on":true,"mode":"idle"}"#, &[1.0, 1.0, 0.0, 0.0]);
        assert_row(spec, r#"{"on":false,"mode":1}"#, &[0.0, 0.0, 1.0, 0.0]);
        assert_row(spec, r#"{"on":false,"mode":true}"#, &[0.0, 0.0, 0.0, 1.0]);
        assert_row(
            spec,
            r#"{"on":false,"mode":"other"}"#,
            &[0.0, 0.0, 0.0, 0.0],
        );
        let nan = f64::NAN;
        assert_row(spec, r#"{"on":false,"mode":null}"#, &[0.0, nan, nan, nan]);
    }

    #[test]
    fn an_array_has_its_length() {
        let spec = r#"{"features":{"array":"d.v","len":3}}"#;
        assert_row(spec, r#"{"d":{"v":[1,2.5,-3]}}"#, &[1.0, 2.5, -3.0]);
        assert_row(
            spec,
            r#"{"d":{"v":[ 1 ,null, true ]}}"#,
            &[1.0, f64::NAN, 1.0],
        );
        let problem = |value: &str| error(spec, value.as_bytes()).to_string();
        assert_eq!(
            problem(r#"{"d":{"v":[1,2]}}"#),
            "field `d.v`: must have 3 elements, but has 2"
        );
        assert_eq!(
            problem(r#"{"d":{"v":[1,2,3,4]}}"#),
            "field `d.v`: must have 3 elements, but has 4"
        );
        assert_eq!(
            problem(r#"{"d":{"v":[1,[2],3]}}"#),
            "field `d.v`: element 1 must be a number"
        );
        assert_eq!(
            problem(r#"{"d":{"v":7}}"#),
            "field `d.v`: must be an array, but is the number 7"
        );
        assert_eq!(
            error(spec, br#"{"d":{"v":null}}"#).reason(),
            "nothing_observed"
        );
    }

    #[test]
    fn keys_come_from_kafka_or_from_fields() {
        let key = |spec: &str, value: &str| {
            let (decoded, _) = decode(spec, value.as_bytes()).expect(value);
            decoded.key.0.to_string()
        };
        assert_eq!(key(r#"{"features":["a"]}"#, r#"{"a":1}"#), "k");
        let spec = r#"{"features":["a"],"key":["id"]}"#;
        assert_eq!(key(spec, r#"{"a":1,"id":"m/1"}"#), "m/1");
        assert_eq!(key(spec, r#"{"a":1,"id":17}"#), "17");
        assert_eq!(key(spec, r#"{"a":1,"id":"\u00e9"}"#), "é");
        let spec = r#"{"features":["a"],"key":["site","id"]}"#;
        assert_eq!(key(spec, r#"{"a":1,"id":"7","site":"x"}"#), "x/7");
        assert_eq!(key(spec, r#"{"a":1,"id":"7","site":"x/y"}"#), "x\\/y/7");
        assert_eq!(
            error(spec, br#"{"a":1,"id":"7"}"#).to_string(),
            "field `site`: is missing, but is part of the key"
        );
        assert_eq!(
            error(spec, br#"{"a":1,"id":null,"site":"x"}"#).reason(),
            "field"
        );

        let mut decoder = decoder(r#"{"features":["a"]}"#);
        let mut decode = |key: Option<&[u8]>| {
            let decoded = decoder.decode_one(key, Some(br#"{"a":1}"#), Timestamp(0), &mut [0.0]);
            decoded.expect("valid").key.0.to_string()
        };
        assert_eq!(decode(None), "");
        assert_eq!(decode(Some(&[0xff, 0x01])), "0xff01");
    }

    #[test]
    fn the_time_comes_from_kafka_or_from_a_field() {
        let time = |spec: &str, value: &str| {
            let (decoded, _) = decode(spec, value.as_bytes()).expect(value);
            decoded.time.0
        };
        assert_eq!(time(AB, r#"{"a":1}"#), 1_000);
        let spec = r#"{"features":["a"],"timestamp":"t.at"}"#;
        assert_eq!(
            time(spec, r#"{"a":1,"t":{"at":"2023-11-14T22:13:20.5Z"}}"#),
            1_700_000_000_500
        );
        assert_eq!(
            time(spec, r#"{"a":1,"t":{"at":1700000000}}"#),
            1_700_000_000_000
        );
        assert_eq!(
            time(spec, r#"{"a":1,"t":{"at":"1700000000123"}}"#),
            1_700_000_000_123
        );
        for bad in [
            r#"{"a":1}"#,
            r#"{"a":1,"t":{"at":null}}"#,
            r#"{"a":1,"t":{"at":NaN}}"#,
            r#"{"a":1,"t":{"at":"170000000"}}"#,
            r#"{"a":1,"t":{"at":"soon"}}"#,
            r#"{"a":1,"t":{"at":-5}}"#,
            r#"{"a":1,"t":{"at":1e400}}"#,
        ] {
            let problem = error(spec, bad.as_bytes()).to_string();
            assert!(problem.starts_with("field `t.at`: "), "{problem}");
        }
        let mut decoder = decoder(AB);
        let none = decoder.decode_one(None, Some(br#"{"a":1}"#), Timestamp(-1), &mut [0.0; 2]);
        assert_eq!(none.expect_err("refused").reason(), "field");
    }

    #[test]
    fn what_is_no_object_is_a_syntax_error() {
        let deep = format!(
            "{{\"a\":1,\"x\":{}{}}}",
            "[".repeat(10_000),
            "]".repeat(10_000)
        );
        let open = format!("{{\"a\":{}", "{\"a\":".repeat(10_000));
        let large = format!("{{\"a\":1,\"x\":\"{}\"", "y".repeat(1 << 20));
        for bad in [
            &b""[..],
            b" ",
            b"{",
            b"{\"a\":1",
            b"{\"a\":1}}",
            b"{\"a\":1} x",
            b"{\"a\":01}",
            b"{\"a\":+1}",
            b"{\"a\":1.}",
            b"{\"a\":.5}",
            b"{\"a\":nan}",
            b"{\"a\":NaN,}",
            b"{\"a\":inf}",
            b"{\"a\":1,}",
            b"{'a':1}",
            b"{\"a\":1,\"b\":\"\xff\"}",
            b"\xef\xbb\xbf{\"a\":1}",
            b"{\"a\":1,\"x\":\"\n\"}",
            b"[1]",
            b"1",
            b"null",
            b"\"a\"",
            b"[[[[[[[[",
            deep.as_bytes(),
            open.as_bytes(),
            large.as_bytes(),
        ] {
            let error = error(AB, bad);
            let start = String::from_utf8_lossy(&bad[..bad.len().min(40)]);
            assert_eq!(error.reason(), "syntax", "{start}: {error}");
        }
        let large = format!("{large}}}");
        assert_row(AB, &large, &[1.0, f64::NAN]);
        let deep = format!("{{\"a\":1,\"x\":{}{}}}", "[".repeat(127), "]".repeat(127));
        assert_row(AB, &deep, &[1.0, f64::NAN]);
    }

    #[test]
    fn floats_are_the_row_itself() {
        let spec = r#"{"format":"f32","features":["a","b","c"],"missing_for":{"c":9}}"#;
        let bytes = |numbers: &[f32]| -> Vec<u8> {
            numbers
                .iter()
                .flat_map(|number| number.to_le_bytes())
                .collect()
        };
        let (decoded, row) = decode(spec, &bytes(&[1.5, f32::NAN, f32::INFINITY])).expect("good");
        assert_eq!((&*decoded.key.0, decoded.time), ("k", Timestamp(1_000)));
        assert!(row[1].is_nan());
        assert_eq!(
            [row[0], row[2]].map(f64::to_bits),
            [1.5, 9.0].map(f64::to_bits)
        );
        let short = error(spec, &bytes(&[1.5, 2.0]));
        assert_eq!(short.to_string(), "value has 8 bytes, but must have 12");
        assert_eq!(short.reason(), "length");
        assert_eq!(error(spec, &[0xff; 12]).reason(), "nothing_observed");
    }

    #[test]
    fn texts_that_are_numbers_count_as_numbers() {
        for (text, wanted) in [("12.5", 12.5), (" -3e2 ", -300.0), ("+.5", 0.5)] {
            let record = format!(r#"{{"a":"{text}","b":{{"c":"1"}}}}"#);
            assert_row(AB, &record, &[wanted, 1.0]);
        }
        for missing in ["", "  ", "NaN", "+Inf", "1e999"] {
            let record = format!(r#"{{"a":"{missing}","b":{{"c":2}}}}"#);
            assert_row(AB, &record, &[f64::NAN, 2.0]);
        }
    }

    #[test]
    fn unusable_fields_are_named() {
        let problem = |value: &str| error(AB, value.as_bytes()).to_string();
        assert_eq!(
            problem(r#"{"a":"12 °C","b":{"c":1}}"#),
            "field `a`: must be a number, but is the text `12 °C`"
        );
        assert_eq!(problem(r#"{"a":[1]}"#), "field `a`: must not be an array");
        assert_eq!(problem(r#"{"a":{}}"#), "field `a`: must not be an object");
        assert_eq!(
            problem(r#"{"b":5}"#),
            "field `b`: must be an object, but is the number 5"
        );
        assert_eq!(problem(r#"{"a":1,"a":1}"#), "field `a`: appears twice");
        assert_eq!(
            problem(r#"{"a":1,"b":{},"b":{}}"#),
            "field `b`: appears twice"
        );
        assert_eq!(
            problem(r#"{"a":"\ud800"}"#),
            "field `a`: has an escape that is no character"
        );
        // A syntax error comes before an unusable field.
        assert_eq!(error(AB, br#"{"a":"12","#).reason(), "syntax");
        // What the schema does not name may be anything, twice.
        assert_row(AB, r#"{"a":1,"x":1e999,"x":"\ud800"}"#, &[1.0, f64::NAN]);
    }

    #[test]
    fn a_batch_has_one_outcome_and_one_row_a_record() {
        let mut batch = RecordBatch::default();
        let at = TopicPartition::new("t", 0);
        let values: [Option<&[u8]>; 4] =
            [Some(br#"{"a":1}"#), None, Some(b"{"), Some(br#"{"a":2}"#)];
        for (offset, value) in values.into_iter().enumerate() {
            let place = (Offset(offset as i64), Timestamp(5));
            batch.push(&at, place, Some(b"k"), value, Vec::new());
        }
        let mut decoder = decoder(AB);
        let decoded = decoder.decode(&batch);
        assert_eq!(decoded.outcomes.len(), 4);
        assert_eq!(decoded.outcomes[1], Err(DecodeError::NullValue));
        assert!(
            decoded
                .row(1)
                .iter()
                .chain(decoded.row(2))
                .all(|value| value.is_nan())
        );
        assert_eq!(decoded.row(3)[0].to_bits(), 2.0_f64.to_bits());
        // Memory used before leaves no trace.
        let mut again = decoded.clone();
        decoder.decode_into(&batch, &mut again);
        assert_eq!(decoded.outcomes, again.outcomes);
        batch.clear();
        decoder.decode_into(&batch, &mut again);
        assert!(again.outcomes.is_empty() && again.values.is_empty());
    }

    #[test]
    fn remembered_keys_are_bounded() {
        let mut keys = FxHashSet::default();
        for n in 0..=KEYS_MAX {
            assert_eq!(&*interned(&mut keys, &n.to_string()).0, n.to_string());
        }
        assert_eq!(keys.len(), 1);
        interned(&mut keys, &"x".repeat(KEY_BYTES_MAX + 1));
        assert_eq!(keys.len(), 1);
    }
}
