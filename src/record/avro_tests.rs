//! Avro by hand: what the specification says of bytes, and what no value may do.

use proptest::prelude::*;

use super::super::RecordBatch;
use super::super::decode::Decoder;
use super::super::envelope::Envelope;
use super::super::schema::SchemaSpec;
use super::*;
use crate::stream::{Offset, TopicPartition};
use crate::time::Timestamp;

const WRITER: &str = r#"{"type":"record","name":"Reading","namespace":"plant","fields":[
    {"name":"pump","type":"string"},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
    {"name":"motor","type":["null",{"type":"record","name":"Motor","fields":[
        {"name":"temp","type":"double"},{"name":"note","type":"bytes"},{"name":"amps","type":"float"}]}]},
    {"name":"mode","type":{"type":"enum","name":"Mode","symbols":["idle","on"]}},
    {"name":"flow","type":["null","int","double"]},
    {"name":"tags","type":{"type":"map","values":"long"}},
    {"name":"more","type":{"type":"array","items":{"type":"fixed","name":"Two","size":2}}},
    {"name":"ok","type":"boolean"},
    {"name":"next","type":["null","Reading"]}]}"#;

const OURS: &str = r#"{"format":"avro","features":["motor.temp","motor.amps","flow","tags.rpm","ok","gone"],
    "categories":{"mode":["on","idle"]},"key":["pump"],"timestamp":"at"}"#;

/// Zigzag, seven bits a byte.
fn long(value: i64, to: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest > 0x7f {
        to.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.push(rest as u8);
}

fn text(value: &str, to: &mut Vec<u8>) {
    long(value.len() as i64, to);
    to.extend(value.as_bytes());
}

/// A reading as WRITER has it.
fn reading() -> Vec<u8> {
    let mut to = Vec::new();
    text("P-1", &mut to);
    long(1_700_000_000_123_456, &mut to);
    long(1, &mut to);
    to.extend(61.5_f64.to_le_bytes());
    text("\u{0}x", &mut to);
    to.extend((-2.5_f32).to_le_bytes());
    long(1, &mut to);
    long(1, &mut to);
    long(-300, &mut to);
    // A map in two blocks, the second with its size.
    long(1, &mut to);
    text("other", &mut to);
    long(5, &mut to);
    long(-1, &mut to);
    let mut block = Vec::new();
    text("rpm", &mut block);
    long(1_500, &mut block);
    long(block.len() as i64, &mut to);
    to.extend(block);
    long(0, &mut to);
    long(2, &mut to);
    to.extend([1, 2, 3, 4]);
    long(0, &mut to);
    to.push(1);
    long(0, &mut to);
    to
}

fn spec(ours: &str, plain: Option<&str>) -> SchemaSpec {
    let mut spec: SchemaSpec = serde_json::from_str(ours).expect(ours);
    spec.avro = plain.unwrap_or_default().to_owned();
    spec
}

fn decoder(ours: &str, plain: Option<&str>) -> Decoder {
    Decoder::new(Arc::new(spec(ours, plain).check().expect("a valid schema")))
}

/// Key, time and row of a value by one schema for all.
fn plain(ours: &str, writer: &str, value: &[u8]) -> Result<(String, i64, Vec<f64>), DecodeError> {
    let mut decoder = decoder(ours, Some(writer));
    let mut row = vec![0.5; decoder.schema().columns().len()];
    let decoded = decoder.decode_one(Some(b"k"), Some(value), Timestamp(7), &mut row)?;
    Ok((decoded.key.0.to_string(), decoded.time.0, row))
}

#[test]
fn the_examples_of_the_specification_are_read() {
    let writer = r#"{"type":"record","name":"test","fields":[{"name":"a","type":"long"},{"name":"b","type":"string"}]}"#;
    let ours = r#"{"format":"avro","features":["a"],"key":["b"]}"#;
    let read = plain(ours, writer, &[0x36, 0x06, 0x66, 0x6f, 0x6f]).unwrap();
    assert_eq!(read, ("foo".to_owned(), 7, vec![27.0]));
    let array = r#"{"type":"record","name":"t","fields":[{"name":"v","type":{"type":"array","items":"long"}}]}"#;
    let ours = r#"{"format":"avro","features":{"array":"v","len":2}}"#;
    let read = plain(ours, array, &[0x04, 0x06, 0x36, 0x00]).unwrap();
    assert_eq!(read.2, [3.0, 27.0]);
    let problem = plain(ours, array, &[0x02, 0x06, 0x00])
        .unwrap_err()
        .to_string();
    assert_eq!(problem, "field `v`: must have 2 elements, but has 1");
}

#[test]
fn fields_go_to_their_columns_and_what_the_schema_lacks_is_missing() {
    let (key, time, row) = plain(OURS, WRITER, &reading()).unwrap();
    assert_eq!((key.as_str(), time), ("P-1", 1_700_000_000_123));
    assert_eq!(row[..5], [61.5, -2.5, -300.0, 1500.0, 1.0]);
    assert!(row[5].is_nan(), "`gone` is in no schema any more");
    assert_eq!(row[6..], [1.0, 0.0]);
    let key = r#"{"format":"avro","features":["ok"],"key":["flow","at"]}"#;
    let (key, ..) = plain(key, WRITER, &reading()).unwrap();
    assert_eq!(key, "-300/1700000000123");
}

#[test]
fn logical_types_are_what_they_mean_and_bytes_are_no_number() {
    let of = |field: &str, value: &[u8], ours: &str| {
        let writer = format!(
            r#"{{"type":"record","name":"R","fields":[{{"name":"a","type":{field}}},{{"name":"x","type":"int"}}]}}"#
        );
        let ours = format!(r#"{{"format":"avro",{ours}}}"#);
        plain(&ours, &writer, &[value, &[2]].concat()).map_err(|problem| problem.to_string())
    };
    let number = |field: &str, value: &[u8]| {
        of(field, value, r#""features":["a"]"#).map(|(_, _, row)| row[0])
    };
    let fixed = |size: usize, logical: &str| {
        format!(r#"{{"type":"fixed","name":"F","size":{size},"logicalType":{logical}}}"#)
    };
    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":10,"scale":3}"#;
    assert_eq!(number(decimal, &[4, 0x0c, 0x36]), Ok(3.126));
    // Bytes that are digits, too.
    assert_eq!(number(decimal, &[4, b'3', b'6']), Ok(13.11));
    let maybe = format!(r#"["null",{decimal}]"#);
    assert_eq!(number(&maybe, &[2, 2, 0xff]), Ok(-0.001));
    let four = fixed(4, r#""decimal","precision":9,"scale":2"#);
    assert_eq!(number(&four, &[0, 0, 1, 0]), Ok(2.56));
    let list = format!(r#"{{"type":"array","items":{decimal}}}"#);
    let array = of(
        &list,
        &[2, 4, 0x0c, 0x36, 0],
        r#""features":{"array":"a","len":1}"#,
    );
    assert_eq!(array.unwrap().2, [3.126]);
    for (field, value) in [
        (r#""bytes""#.to_owned(), &b"\x046."[..]),
        (fixed(2, r#""none""#), b"36"),
        (fixed(12, r#""duration""#), b"000000000001"),
    ] {
        let problem = "field `a`: is bytes without a logical type, and so no number";
        assert_eq!(number(&field, value), Err(problem.to_owned()), "{field}");
    }
    let key = |field: &str, value: &[u8]| {
        let read = of(field, value, r#""features":["x"],"key":["a"]"#);
        read.map(|(key, ..)| key)
    };
    assert_eq!(key(decimal, &[4, 0x0c, 0x30]), Ok("3.120".to_owned()));
    assert_eq!(key(r#""bytes""#, &[4, b'P', b'1']), Ok("P1".to_owned()));
    let uuid = key(&fixed(16, r#""uuid""#), b"0123456789abcdef").unwrap();
    assert_eq!(uuid, "30313233-3435-3637-3839-616263646566");
    let time = |field: &str, value: i64| {
        let mut bytes = Vec::new();
        long(value, &mut bytes);
        let field = format!(r#"{{"type":{field}}}"#);
        let ours = r#""features":["a"],"timestamp":"a""#;
        of(&field, &bytes, ours).map(|(_, time, row)| (time, row[0]))
    };
    let day = r#""int","logicalType":"date""#;
    assert_eq!(time(day, 2), Ok((172_800_000, 2.0)));
    assert!(time(day, -1).unwrap_err().contains("-1 is before 1970"));
    for (unit, value) in [("millis", 5_000), ("micros", 5_000_000)] {
        for kind in ["timestamp", "local-timestamp"] {
            let field = format!(r#""long","logicalType":"{kind}-{unit}""#);
            assert_eq!(time(&field, value), Ok((5_000, 5_000.0)), "{field}");
        }
    }
    let of_day = r#"{"type":"int","logicalType":"time-millis"}"#;
    assert_eq!(number(of_day, &[0xd0, 0x0f]), Ok(1_000.0));
}

#[test]
fn unusable_fields_are_named() {
    for (ours, problem) in [
        (
            r#"{"format":"avro","features":["pump"]}"#,
            "field `pump`: must be a number, but is the text `P-1`",
        ),
        (
            r#"{"format":"avro","features":["motor"]}"#,
            "field `motor`: must not be a record",
        ),
        (
            r#"{"format":"avro","features":["tags"]}"#,
            "field `tags`: must not be a map",
        ),
        (
            r#"{"format":"avro","features":["more"]}"#,
            "field `more`: must not be an array",
        ),
        (
            r#"{"format":"avro","features":["ok.x"]}"#,
            "field `ok`: must be an object, but is true",
        ),
        (
            r#"{"format":"avro","features":["ok"],"key":["gone"]}"#,
            "field `gone`: is missing, but is part of the key",
        ),
        (
            r#"{"format":"avro","features":{"array":"more","len":2}}"#,
            "field `more`: element 0 must be a number",
        ),
        (
            r#"{"format":"avro","features":["gone"]}"#,
            "none of the 1 features was observed",
        ),
    ] {
        let found = plain(ours, WRITER, &reading()).unwrap_err();
        assert_eq!(found.to_string(), problem, "{ours}");
    }
}

/// A batch of these values, and what is known of schemas by id.
fn batch(values: &[Vec<u8>], known: &[(u32, Result<&str, &str>)]) -> RecordBatch {
    let mut batch = RecordBatch::default();
    let at = TopicPartition::new("t", 0);
    for (offset, value) in values.iter().enumerate() {
        let place = (Offset(offset as i64), Timestamp(7));
        batch.push(&at, place, Some(b"k"), Some(value), Vec::new());
    }
    let each = known.iter().map(|(id, schema)| {
        let schema = schema.map(|text| Arc::new(Writer::parse(text).unwrap()));
        let schema = schema.map(writers::Writer::Avro);
        (SchemaId::Number(*id), schema.map_err(str::to_owned))
    });
    batch.set_writers(Arc::new(Writers(each.collect())));
    batch
}

#[test]
fn each_value_is_read_by_the_schema_whose_id_it_has() {
    let with_id = |id: u32, value: &[u8]| [&[0], &id.to_be_bytes()[..], value].concat();
    let later = r#"{"type":"record","name":"R","fields":[{"name":"gone","type":"int"},{"name":"pump","type":"string"},{"name":"at","type":"long"}]}"#;
    let mut value = Vec::new();
    long(9, &mut value);
    text("P-2", &mut value);
    long(1_700_000_000, &mut value);
    let values = [
        with_id(7, &reading()),
        with_id(8, &value),
        with_id(9, &value),
        with_id(10, &value),
        b"{}".to_vec(),
        with_id(7, &reading()),
    ];
    let known = [
        (7, Ok(WRITER)),
        (8, Ok(later)),
        (9, Err("the registry does not know it")),
    ];
    let batch = batch(&values, &known);
    let ids = wire::ids(&batch, Envelope::None);
    assert_eq!(ids, [7, 8, 9, 10].map(SchemaId::Number).into());
    let mut decoder = decoder(OURS, None);
    let decoded = decoder.decode(&batch);
    let key = |record: usize| {
        decoded.outcomes[record]
            .as_ref()
            .map(|read| read.key.0.to_string())
    };
    assert_eq!(key(0), Ok("P-1".to_owned()));
    assert_eq!((key(1), decoded.row(1)[5]), (Ok("P-2".to_owned()), 9.0));
    assert!(decoded.row(1)[..5].iter().all(|value| value.is_nan()));
    let problem = |record: usize| decoded.outcomes[record].as_ref().unwrap_err().to_string();
    assert_eq!(
        problem(2),
        "value has the schema 9: the registry does not know it"
    );
    assert_eq!(
        problem(3),
        "value has the schema 10, which nobody looked up"
    );
    assert!(problem(4).contains("a zero byte"), "{}", problem(4));
    let bits = |record: usize| {
        decoded
            .row(record)
            .iter()
            .map(|value| value.to_bits())
            .collect::<Vec<_>>()
    };
    assert_eq!(bits(5), bits(0));
}

#[test]
fn a_value_that_lies_is_a_dead_letter_and_takes_no_time() {
    let part = |fields: &str, value: &[u8], problem: &str| {
        let writer = format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#);
        let ours = r#"{"format":"avro","features":["z"]}"#;
        let found = plain(ours, &writer, value).unwrap_err();
        assert!(
            found.reason() == "syntax" && found.to_string().contains(problem),
            "{fields}: {found}"
        );
    };
    let mut huge = Vec::new();
    long(i64::MAX, &mut huge);
    part(r#"{"name":"a","type":"string"}"#, &huge, "ends too early");
    part(
        r#"{"name":"a","type":"string"}"#,
        &[1],
        "a length below zero",
    );
    part(
        r#"{"name":"a","type":"int"}"#,
        &[0xff; 12],
        "more than ten bytes",
    );
    part(r#"{"name":"a","type":"boolean"}"#, &[7], "neither");
    part(r#"{"name":"a","type":["null"]}"#, &[4], "branch");
    part(r#"{"name":"a","type":"int"}"#, &[2, 2], "goes on");
    part(
        r#"{"name":"a","type":{"type":"array","items":"null"}}"#,
        &huge,
        "too many parts",
    );
    // Itself within itself, for ever.
    part(
        r#"{"name":"a","type":["null","R"]}"#,
        &vec![2; 100_000],
        "nests too deep",
    );
    part(r#"{"name":"a","type":"R"}"#, &[], "nests too deep");
}

#[test]
fn what_cannot_be_asked_for_is_said_before() {
    let problems = |ours: &str, avro: &str| {
        let found = spec(ours, Some(avro)).check().expect_err("it is wrong");
        found
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    };
    assert!(problems(OURS, "{").contains("avro: the schema is no JSON"));
    assert!(problems(r#"{"features":["a"]}"#, WRITER).contains("avro: is of use"));
}

proptest! {
    #[test]
    fn any_bytes_are_a_row_or_a_dead_letter(value in proptest::collection::vec(any::<u8>(), 0..120)) {
        let mut decoder = decoder(OURS, Some(WRITER));
        let mut row = [0.5; 8];
        let outcome = decoder.decode_one(None, Some(&value), Timestamp(7), &mut row);
        prop_assert!(outcome.is_ok() || row.iter().all(|value| value.is_nan()));
    }

    #[test]
    fn a_damaged_reading_is_a_row_or_a_dead_letter(at in 0_usize..60, byte in any::<u8>(), cut in 0_usize..60) {
        let mut value = reading();
        let places = value.len();
        value[at % places] = byte;
        value.truncate(places - cut % places);
        let mut decoder = decoder(OURS, Some(WRITER));
        let mut row = [0.5; 8];
        let outcome = decoder.decode_one(None, Some(&value), Timestamp(7), &mut row);
        prop_assert!(outcome.is_ok() || row.iter().all(|value| value.is_nan()));
    }
}
