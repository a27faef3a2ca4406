//! Protobuf by hand: what the specification says of bytes, and what no value may do.

use proptest::prelude::*;

use super::super::RecordBatch;
use super::super::decode::Decoder;
use super::super::schema::SchemaSpec;
use super::*;
use crate::stream::{Offset, TopicPartition};
use crate::time::Timestamp;

const WRITER: &str = r#"syntax = "proto3"; package plant;
    import "google/protobuf/timestamp.proto"; import "google/protobuf/duration.proto"; import "google/protobuf/wrappers.proto";
    enum Mode { IDLE = 0; ON = 1; }
    message Motor { double temp = 1; optional float amps = 2; bytes note = 3; Motor next = 4; }
    message Pump {
        string pump = 1; google.protobuf.Timestamp at = 2; Motor motor = 3; Mode mode = 4;
        oneof flow { sint32 slow = 5; fixed64 fast = 6; Motor other = 17; }
        map<string, int64> tags = 7; map<uint32, Motor> motors = 8; repeated double v = 9; repeated sint64 w = 10 [packed = false];
        google.protobuf.DoubleValue level = 11; google.protobuf.StringValue site = 12; google.protobuf.Duration lasts = 13;
        bool ok = 14; repeated Motor all = 15; optional int32 rpm = 16;
    }"#;

const OURS: &str = r#"{"format":"protobuf","features":["motor.temp","motor.amps","slow","fast","tags.rpm","motors.3.temp","level","lasts","ok","rpm","gone"],
    "categories":{"mode":["ON","IDLE"]},"key":["pump"],"timestamp":"at"}"#;

/// Seven bits a byte.
fn varint(mut rest: u64) -> Vec<u8> {
    let mut to = Vec::new();
    while rest > 0x7f {
        to.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.push(rest as u8);
    to
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// A field that is a number of variable length.
fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn double(field: u64, value: f64) -> Vec<u8> {
    [varint(field << 3 | 1), value.to_le_bytes().into()].concat()
}

fn float(field: u64, value: f32) -> Vec<u8> {
    [varint(field << 3 | 5), value.to_le_bytes().into()].concat()
}

/// A field with its length before it.
fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    let length = varint(value.len() as u64);
    [varint(field << 3 | 2), length, value.into()].concat()
}

fn entry(field: u64, parts: &[Vec<u8>]) -> Vec<u8> {
    bytes(field, &parts.concat())
}

const AT: i64 = 1_700_000_000;

/// The parts of a reading as WRITER has it.
fn reading() -> Vec<Vec<u8>> {
    vec![
        bytes(1, b"P-1"),
        entry(2, &[number(1, AT as u64), number(2, 123_456_789)]),
        entry(3, &[double(1, 61.5), float(2, -2.5), bytes(3, b"\xff")]),
        number(4, 1),
        number(5, zigzag(-300)),
        entry(7, &[bytes(1, b"other"), number(2, 5)]),
        entry(7, &[number(2, 1_500), bytes(1, b"rpm")]),
        entry(8, &[number(1, 3), entry(2, &[double(1, 9.5)])]),
        entry(11, &[double(1, 0.5)]),
        entry(13, &[number(1, 2), number(2, 500_000_000)]),
        number(14, 1),
        number(16, u64::MAX),
        // A later schema has more.
        bytes(99, b"what is this?"),
    ]
}

fn spec(ours: &str, schema: &str, message: &str) -> SchemaSpec {
    let mut spec: SchemaSpec = serde_json::from_str(ours).expect(ours);
    spec.protobuf.schema = schema.to_owned();
    spec.protobuf.message = message.to_owned();
    spec
}

/// Key, time and row of a value by one schema for all.
fn plain(
    ours: &str,
    (schema, message): (&str, &str),
    value: &[u8],
) -> Result<(String, i64, Vec<f64>), DecodeError> {
    let schema = spec(ours, schema, message).check().expect("a valid schema");
    let mut decoder = Decoder::new(Arc::new(schema));
    let mut row = vec![0.5; decoder.schema().columns().len()];
    let decoded = decoder.decode_one(Some(b"k"), Some(value), Timestamp(7), &mut row)?;
    Ok((decoded.key.0.to_string(), decoded.time.0, row))
}

fn pump(ours: &str, value: &[u8]) -> Result<(String, i64, Vec<f64>), DecodeError> {
    plain(ours, (WRITER, "plant.Pump"), value)
}

/// The row of these features.
fn row(features: &str, value: &[Vec<u8>]) -> Vec<f64> {
    let ours = format!(r#"{{"format":"protobuf","features":{features}}}"#);
    pump(&ours, &value.concat()).expect(features).2
}

fn problem(ours: &str, value: &[Vec<u8>]) -> String {
    let found = pump(ours, &value.concat()).expect_err(ours);
    found.to_string()
}

/// Equal, NaN to NaN.
fn assert_same(found: &[f64], expected: &[f64]) {
    let bits = |row: &[f64]| row.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(found), bits(expected), "{found:?}, not {expected:?}");
}

const NAN: f64 = f64::NAN;

#[test]
fn the_examples_of_the_specification_are_read() {
    let schema = r#"syntax = "proto2"; message Test1 { optional int32 a = 1; } message Test2 { optional string b = 2; }
        message Test3 { optional Test1 c = 3; } message Test5 { repeated int32 f = 6 [packed = true]; }"#;
    let ours = |features: &str| format!(r#"{{"format":"protobuf","features":{features}}}"#);
    let a = plain(&ours(r#"["a"]"#), (schema, ""), &[0x08, 0x96, 0x01]).unwrap();
    assert_eq!(a, ("k".to_owned(), 7, vec![150.0]));
    let c = [0x1a, 0x03, 0x08, 0x96, 0x01];
    let c = plain(&ours(r#"["c.a"]"#), (schema, "Test3"), &c).unwrap();
    assert_eq!(c.2, [150.0]);
    let f = [0x32, 0x06, 0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05];
    let f = plain(&ours(r#"{"array":"f","len":3}"#), (schema, "Test5"), &f).unwrap();
    assert_eq!(f.2, [3.0, 270.0, 86_942.0]);
    let key = r#"{"format":"protobuf","features":["a"],"key":["b"]}"#;
    let both = "message Test { optional int32 a = 1; optional string b = 2; }";
    let value = [&[0x08, 0x01, 0x12, 0x07][..], b"testing"].concat();
    let read = plain(key, (both, ""), &value).unwrap();
    assert_eq!((read.0.as_str(), read.2), ("testing", vec![1.0]));
}

#[test]
fn fields_go_to_their_columns_and_what_the_schema_lacks_is_missing() {
    let (key, time, row) = pump(OURS, &reading().concat()).unwrap();
    assert_eq!((key.as_str(), time), ("P-1", AT * 1_000 + 123));
    let expected = [
        61.5, -2.5, -300.0, NAN, 1_500.0, 9.5, 0.5, 2.5, 1.0, -1.0, NAN,
    ];
    assert_same(&row[..11], &expected);
    assert_eq!(row[11..], [1.0, 0.0], "the mode");
    let key =
        r#"{"format":"protobuf","features":["ok"],"key":["mode","rpm","at","motor.amps","site"]}"#;
    let site = entry(12, &[bytes(1, b"north")]);
    let value = [reading().concat(), site].concat();
    assert_eq!(
        pump(key, &value).unwrap().0,
        "ON/-1/1700000000123/-2.5/north"
    );
    let unknown = [reading().concat(), number(4, 77)].concat();
    let key = r#"{"format":"protobuf","features":["ok"],"key":["mode"]}"#;
    assert_eq!(pump(key, &unknown).unwrap().0, "77", "a newer one");
}

#[test]
fn what_was_not_written_is_zero_or_missing_as_its_schema_says() {
    let features = r#"["motor.temp","motor.amps","slow","tags.rpm","level","ok","rpm"]"#;
    let nothing = [NAN, NAN, NAN, NAN, NAN, 0.0, NAN];
    assert_same(&row(features, &[]), &nothing);
    // A message that is there has zeros, an entry of a map and a wrapper without a value are 0.
    let empty = [bytes(3, b""), entry(7, &[bytes(1, b"rpm")]), bytes(11, b"")];
    assert_same(&row(features, &empty), &[0.0, NAN, NAN, 0.0, 0.0, 0.0, NAN]);
    let proto2 = "message A { optional int32 a = 1 [default = 5]; required int32 b = 2; }";
    let ours = r#"{"format":"protobuf","features":["a","b"]}"#;
    let found = plain(ours, (proto2, ""), &number(2, 0)).unwrap();
    assert_same(&found.2, &[NAN, 0.0]);
    let ours = r#"{"format":"protobuf","features":["rpm"]}"#;
    assert_eq!(problem(ours, &[]), "none of the 1 features was observed");
    let ours = r#"{"format":"protobuf","features":["ok"],"key":["rpm"]}"#;
    assert_eq!(
        problem(ours, &[]),
        "field `rpm`: is missing, but is part of the key"
    );
}

#[test]
fn what_comes_twice_is_as_the_specification_says() {
    let features = r#"["motor.temp","motor.amps","slow","fast","tags.rpm","ok"]"#;
    let fast = [varint(6 << 3 | 1), 7_u64.to_le_bytes().into()].concat();
    let value = [
        entry(3, &[double(1, 1.0), float(2, 2.0)]),
        entry(3, &[double(1, 3.0)]),
        number(5, zigzag(5)),
        fast.clone(),
        entry(7, &[bytes(1, b"rpm"), number(2, 1)]),
        entry(7, &[bytes(1, b"rpm"), number(2, 2)]),
        number(14, 1),
        number(14, 0),
    ];
    // Messages are merged, of values and of keys the last one counts, and of a `oneof`.
    assert_same(&row(features, &value), &[3.0, 2.0, NAN, 7.0, 2.0, 0.0]);
    // The other one counts although nobody asks for it.
    let value = [number(5, 2), bytes(17, b"")];
    assert_same(&row(r#"["slow","ok"]"#, &value), &[NAN, 0.0]);
    // A message of a `oneof` begins anew.
    let value = [
        entry(17, &[double(1, 4.0), float(2, 4.0)]),
        fast,
        entry(17, &[float(2, 5.0)]),
    ];
    let features = r#"["other.temp","other.amps","fast"]"#;
    assert_same(&row(features, &value), &[0.0, 5.0, NAN]);
}

#[test]
fn repeated_numbers_are_an_array_packed_or_not() {
    let v = r#"{"array":"v","len":3}"#;
    let packed = [1.0, 2.5, -3.0].map(f64::to_le_bytes).concat();
    assert_eq!(row(v, &[bytes(9, &packed)]), [1.0, 2.5, -3.0]);
    let mixed = [double(9, 1.0), bytes(9, &packed[8..])];
    assert_eq!(row(v, &mixed), [1.0, 2.5, -3.0]);
    let w = r#"{"array":"w","len":2}"#;
    let each = [number(10, zigzag(-9)), number(10, zigzag(4))];
    assert_eq!(row(w, &each), [-9.0, 4.0]);
    let packed = [varint(zigzag(-9)), varint(zigzag(4))].concat();
    assert_eq!(row(w, &[bytes(10, &packed)]), [-9.0, 4.0]);
    let ours = |features: &str| format!(r#"{{"format":"protobuf","features":{features}}}"#);
    let found = problem(&ours(w), &[number(10, 1)]);
    assert_eq!(found, "field `w`: must have 2 elements, but has 1");
    // One without elements is as one that was not written.
    assert_eq!(
        problem(&ours(w), &[]),
        "none of the 2 features was observed"
    );
    let long = vec![number(10, 1); 5];
    assert!(problem(&ours(w), &long).contains("but has 5"));
}

#[test]
fn unusable_fields_are_named() {
    for (features, said) in [
        (
            r#"["pump"]"#,
            "field `pump`: must be a number, but is the text `P-1`",
        ),
        (
            r#"["mode"]"#,
            "field `mode`: must be a number, but is the text `ON`",
        ),
        (r#"["motor"]"#, "field `motor`: must not be a message"),
        (r#"["tags"]"#, "field `tags`: must not be a map"),
        (r#"["w"]"#, "field `w`: must not be an array"),
        (r#"["all"]"#, "field `all`: must not be an array"),
        (r#"["ok.x"]"#, "field `ok`: must be an object, but is true"),
        (
            r#"{"array":"ok","len":2}"#,
            "field `ok`: must be an array, but is true",
        ),
        (
            r#"["motor.note"]"#,
            "field `motor.note`: is bytes that are no text",
        ),
    ] {
        let ours = format!(r#"{{"format":"protobuf","features":{features}}}"#);
        let more = [number(10, 1), bytes(15, b"")].concat();
        let value = [reading(), vec![more]].concat();
        assert_eq!(problem(&ours, &value), said, "{features}");
    }
    let ours = r#"{"format":"protobuf","features":["ok"],"timestamp":"at"}"#;
    let at =
        |seconds: i64, nanos: u64| vec![entry(2, &[number(1, seconds as u64), number(2, nanos)])];
    assert!(problem(ours, &at(-5, 0)).contains("before 1970"));
    assert!(problem(ours, &at(i64::MAX, 0)).contains("are no time"));
    assert!(problem(ours, &at(5, 1_000_000_000)).contains("are no time"));
    // Early times are times, too, and are not read as another unit.
    assert_eq!(pump(ours, &at(86_400, 0).concat()).unwrap().1, 86_400_000);
}

#[test]
fn a_value_that_lies_is_a_dead_letter_and_takes_no_time() {
    let ours = r#"{"format":"protobuf","features":["motor.temp","ok","other.temp"]}"#;
    let said = |value: &[u8], part: &str| {
        let found = pump(ours, value).expect_err(part);
        let text = found.to_string();
        assert!(found.reason() == "syntax" && text.contains(part), "{text}");
    };
    said(&[0xff; 11], "more than ten bytes");
    said(&[0x80], "ends too early");
    said(&bytes(99, b"abc")[..4], "ends too early");
    said(
        &[varint(3 << 3 | 2), varint(u64::MAX)].concat(),
        "ends too early",
    );
    said(&entry(3, &[vec![1 << 3 | 1, 0, 0]]), "ends too early");
    said(&[0x00, 0x01], "whose number there cannot be");
    said(&[0x0e], "a wire type that there is not");
    said(&number(3, 1), "no field of its kind");
    said(&double(14, 1.0), "no field of its kind");
    said(&varint(99 << 3 | 4), "that it did not begin");
    said(
        &[varint(99 << 3 | 3), varint(98 << 3 | 4)].concat(),
        "another group",
    );
    said(&varint(99 << 3 | 3).repeat(100_000), "nests too deep");
    let group = [varint(99 << 3 | 3), number(1, 5), varint(99 << 3 | 4)];
    assert!(pump(ours, &group.concat()).is_ok());
    // Again and again: what is forgotten is counted.
    let wide: Vec<String> = (0..2_000)
        .map(|at| format!("double f{at} = {};", at + 1))
        .collect();
    let schema = format!(
        r#"syntax = "proto3"; message A {{ oneof x {{ W w = 1; bool b = 2; }} }} message W {{ {} }}"#,
        wide.join(" ")
    );
    let names: Vec<String> = (0..2_000).map(|at| format!("\"w.f{at}\"")).collect();
    let ours = format!(
        r#"{{"format":"protobuf","features":[{}]}}"#,
        names.join(",")
    );
    let value = [bytes(1, b""), number(2, 1)].concat().repeat(100_000);
    let found = plain(&ours, (&schema, ""), &value).unwrap_err().to_string();
    assert!(found.contains("says too much twice"), "{found}");
}

/// A batch of these values with headers, and the schema 7.
fn batch(values: &[(Vec<u8>, Vec<Header>)]) -> RecordBatch {
    let mut batch = RecordBatch::default();
    let at = TopicPartition::new("t", 0);
    for (offset, (value, headers)) in values.iter().enumerate() {
        let place = (Offset(offset as i64), Timestamp(7));
        batch.push(&at, place, Some(b"k"), Some(value), headers.clone());
    }
    let files = Files::compile(WRITER, std::collections::BTreeMap::new());
    let writer = files.map(|files| Writer::Protobuf(Arc::new(files)));
    let guid = SchemaId::Guid([9; 16]);
    let known = [(SchemaId::Number(7), writer.clone()), (guid, writer)];
    batch.set_writers(Arc::new(Writers(known.into())));
    batch
}

#[test]
fn each_record_says_its_schema_and_which_message_of_it_it_is() {
    let ours = r#"{"format":"protobuf","features":["motor.temp","temp"]}"#;
    let spec: SchemaSpec = serde_json::from_str(ours).unwrap();
    let pump = entry(3, &[double(1, 2.5)]);
    let motor = double(1, 1.5);
    let before =
        |places: &[u8], value: &[u8]| ([&[0, 0, 0, 0, 7], places, value].concat(), Vec::new());
    let header = |id: &[u8], value: &[u8]| {
        let header = Header {
            name: wire::HEADER.into(),
            value: Some(id.into()),
        };
        (value.to_vec(), vec![header])
    };
    let values = [
        // The messages of the file are Motor and Pump: [0] is written as a zero, [1] as a length and a place, in zigzag.
        before(&[0], &motor),
        before(&[2, 2], &pump),
        header(&[&[1][..], &[9; 16], &[2, 2]].concat(), &pump),
        header(&[0, 0, 0, 0, 7, 0], &motor),
        before(&[2, 4], &pump),
        before(&[4, 2, 2], &pump),
        before(&[1], &pump),
        before(&[0xfe, 1], &pump),
        before(&[], &[]),
        (pump.clone(), Vec::new()),
        header(&[0, 0, 0, 0, 8, 0], &motor),
    ];
    let decoded = Decoder::new(Arc::new(spec.check().unwrap())).decode(&batch(&values));
    assert_same(decoded.row(0), &[NAN, 1.5]);
    assert_same(decoded.row(1), &[2.5, NAN]);
    assert_same(decoded.row(2), &[2.5, NAN]);
    assert_same(decoded.row(3), &[NAN, 1.5]);
    for (record, part) in [
        (4, "it names a message that its schema has not"),
        (5, "it names a message that its schema has not"),
        (6, "it names a message below zero"),
        (7, "it names a message in 64 others"),
        (8, "ends too early"),
        (9, "is not Protobuf in the wire format"),
        (10, "has the schema 8, which nobody looked up"),
    ] {
        let problem = decoded.outcomes[record].as_ref().unwrap_err().to_string();
        assert!(problem.contains(part), "{record}: {problem}");
    }
}

#[test]
fn what_cannot_be_asked_for_is_said_before() {
    let problems = |ours: &str, schema: &str, message: &str| {
        let found = spec(ours, schema, message)
            .check()
            .expect_err("it is wrong");
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        texts.join("; ")
    };
    assert!(problems(OURS, "{", "").contains("protobuf.schema: the schema is no .proto file"));
    assert!(problems(OURS, WRITER, "Pump").contains("it has plant.Motor, plant.Pump"));
    assert!(problems(r#"{"features":["a"]}"#, WRITER, "").contains("protobuf: is of use"));
}

/// A pump's fields in any order, beside ones that nobody knows.
fn parts() -> impl Strategy<Value = (f64, i64, u64, Vec<f64>, Vec<u64>)> {
    let number = -1e9..1e9_f64;
    let array = proptest::collection::vec(-1e9..1e9_f64, 3);
    let order = proptest::collection::vec(any::<u64>(), 6);
    (
        number,
        any::<i32>().prop_map(i64::from),
        any::<u64>(),
        array,
        order,
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_in_any_order((temp, slow, fast, v, order) in parts()) {
        let mut fields = vec![
            entry(3, &[double(1, temp), bytes(77, b"x")]),
            entry(7, &[bytes(1, b"rpm"), number(2, fast >> 12)]),
            bytes(9, &v.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>()),
            number(5, zigzag(slow)),
            float(1_000, 1.0),
            entry(11, &[double(1, temp)]),
        ];
        let mut keyed: Vec<(u64, Vec<u8>)> = order.into_iter().zip(fields.drain(..)).collect();
        keyed.sort();
        let value: Vec<u8> = keyed.into_iter().flat_map(|(_, field)| field).collect();
        let ours = r#"{"format":"protobuf","features":["motor.temp","tags.rpm","slow","level"]}"#;
        prop_assert_eq!(pump(ours, &value).unwrap().2, vec![temp, (fast >> 12) as f64, slow as f64, temp]);
        let array = r#"{"format":"protobuf","features":{"array":"v","len":3}}"#;
        prop_assert_eq!(pump(array, &value).unwrap().2, v);
    }

    #[test]
    fn any_bytes_are_a_row_or_a_dead_letter(value in proptest::collection::vec(any::<u8>(), 0..120)) {
        let outcome = pump(OURS, &value);
        prop_assert!(outcome.is_err() || outcome.unwrap().2.len() == 13);
    }

    #[test]
    fn a_damaged_reading_is_a_row_or_a_dead_letter(at in 0_usize..200, byte in any::<u8>(), cut in 0_usize..200) {
        let mut value = reading().concat();
        let places = value.len();
        value[at % places] = byte;
        value.truncate(places - cut % places);
        let outcome = pump(OURS, &value);
        prop_assert!(outcome.is_err() || outcome.unwrap().2.len() == 13);
    }
}
