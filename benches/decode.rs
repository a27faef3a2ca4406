//! Decoding, one thread: the learnt template against the serde_json visitor, on the same records in the same run.
//!
//! Budget: a worker should spend less time on decoding than on everything else, so 1.2 M records/s for flat records of 38 numbers (561 bytes):
//! 0.8 µs a record, 21 ns a number with its name, 0.67 GB/s.

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use anomalyd::record::avro_schema;
use anomalyd::record::decode::Decoder;
use anomalyd::record::protobuf_schema::Files;
use anomalyd::record::schema::{Schema, SchemaSpec};
use anomalyd::record::writers::{SchemaId, Writer, Writers};
use anomalyd::record::{DecodedBatch, RecordBatch};
use anomalyd::seed::Seed;
use anomalyd::stream::{Offset, TopicPartition};
use anomalyd::time::Timestamp;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::Rng;

/// Records a batch.
const RECORDS: usize = 1_000;

/// Numbers a record.
const NUMBERS: usize = 38;

fn schema(spec: &str) -> Arc<Schema> {
    match serde_json::from_str::<SchemaSpec>(spec).map(|spec| spec.check()) {
        Ok(Ok(schema)) => Arc::new(schema),
        other => unreachable!("the schema is good: {other:?}"),
    }
}

/// A batch of records, made one after the other from seeded numbers of six decimals.
fn batch<V: AsRef<[u8]>>(write: impl Fn(usize, &[String]) -> V) -> RecordBatch {
    let mut rng = Seed(1).child("decode").rng();
    let at = TopicPartition::new("records", 0);
    let mut batch = RecordBatch::default();
    for record in 0..RECORDS {
        let numbers: Vec<String> = (0..NUMBERS)
            .map(|_| format!("{:.6}", rng.gen_range(0.0..1.0)))
            .collect();
        let value = write(record, &numbers);
        let place = (
            Offset(record as i64),
            Timestamp(1_700_000_000_000 + record as i64),
        );
        let key = format!("machine-{}", record % 28);
        batch.push(
            &at,
            place,
            Some(key.as_bytes()),
            Some(value.as_ref()),
            Vec::new(),
        );
    }
    batch
}

/// `{"f00":0.123456,…}`.
fn flat(_: usize, numbers: &[String]) -> String {
    let mut text = String::from("{");
    for (at, number) in numbers.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let _written = write!(text, "{comma}\"f{at:02}\":{number}");
    }
    text + "}"
}

/// `{"ts":"…","machine":"…","f00":…}`: key and time from fields.
fn flat_keyed(record: usize, numbers: &[String]) -> String {
    let seconds = record % 60;
    let machine = record % 28;
    let fields = flat(record, numbers);
    format!(
        "{{\"ts\":\"2026-11-24T00:04:{seconds:02}.123Z\",\"machine\":\"machine-{machine}\",{}",
        &fields[1..]
    )
}

/// `{"key":"…","values":[…]}`.
fn array(record: usize, numbers: &[String]) -> String {
    let machine = record % 28;
    format!(
        "{{\"key\":\"machine-{machine}\",\"values\":[{}]}}",
        numbers.join(",")
    )
}

/// The same numbers as doubles of an Avro record, after its key and time.
fn avro(record: usize, numbers: &[String]) -> Vec<u8> {
    let machine = format!("machine-{}", record % 28);
    let mut value = vec![0, 0, 0, 0, 7, machine.len() as u8 * 2];
    value.extend(machine.as_bytes());
    let mut rest = (1_700_000_000_000 + record as u64) * 2;
    while rest > 0x7f {
        value.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    value.push(rest as u8);
    for number in numbers {
        let number = number.parse::<f64>().unwrap_or(f64::NAN);
        value.extend(number.to_le_bytes());
    }
    value
}

/// A batch of them, which has their schema.
fn avro_batch() -> RecordBatch {
    let fields: Vec<String> = (0..NUMBERS)
        .map(|at| format!("{{\"name\":\"f{at:02}\",\"type\":\"double\"}}"))
        .collect();
    let schema = format!(
        "{{\"type\":\"record\",\"name\":\"R\",\"fields\":[{{\"name\":\"machine\",\"type\":\"string\"}},{{\"name\":\"ts\",\"type\":\"long\"}},{}]}}",
        fields.join(",")
    );
    let mut made = batch(avro);
    let writer = avro_schema::Writer::parse(&schema);
    let writer = writer.map(|writer| Writer::Avro(Arc::new(writer)));
    made.set_writers(Arc::new(Writers([(SchemaId::Number(7), writer)].into())));
    made
}

/// The same numbers as doubles of a Protobuf message, after its key and time.
fn protobuf(record: usize, numbers: &[String]) -> Vec<u8> {
    let machine = format!("machine-{}", record % 28);
    let mut value = vec![0, 0, 0, 0, 7, 0, 1 << 3 | 2, machine.len() as u8];
    value.extend(machine.as_bytes());
    let varint = |value: &mut Vec<u8>, mut rest: u64| {
        while rest > 0x7f {
            value.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        value.push(rest as u8);
    };
    value.push(2 << 3);
    varint(&mut value, 1_700_000_000_000 + record as u64);
    for (at, number) in numbers.iter().enumerate() {
        varint(&mut value, (at as u64 + 3) << 3 | 1);
        let number = number.parse::<f64>().unwrap_or(f64::NAN);
        value.extend(number.to_le_bytes());
    }
    value
}

/// A batch of them, which has their schema.
fn protobuf_batch() -> RecordBatch {
    let fields: Vec<String> = (0..NUMBERS)
        .map(|at| format!("double f{at:02} = {};", at + 3))
        .collect();
    let schema = format!(
        "syntax = \"proto3\"; message R {{ string machine = 1; int64 ts = 2; {} }}",
        fields.join(" ")
    );
    let mut made = batch(protobuf);
    let files = Files::parse(&schema).map(|files| Writer::Protobuf(Arc::new(files)));
    made.set_writers(Arc::new(Writers([(SchemaId::Number(7), files)].into())));
    made
}

/// The same numbers as 32-bit floats, little end first.
fn floats(_: usize, numbers: &[String]) -> Vec<u8> {
    let number = |text: &String| text.parse::<f32>().unwrap_or(f32::NAN);
    numbers
        .iter()
        .flat_map(|text| number(text).to_le_bytes())
        .collect()
}

/// `machine-3,2026-11-24T…,0.123456,…`.
fn csv(record: usize, numbers: &[String]) -> String {
    let (machine, seconds) = (record % 28, record % 60);
    let numbers = numbers.join(",");
    format!("machine-{machine},2026-11-24T00:04:{seconds:02}.123Z,{numbers}")
}

/// The flat record as a CloudEvent in structured mode, with key and time.
fn event(record: usize, numbers: &[String]) -> String {
    let (machine, seconds) = (record % 28, record % 60);
    let data = flat(record, numbers);
    format!(
        "{{\"specversion\":\"1.0\",\"id\":\"{record}\",\"source\":\"/plant\",\"type\":\"reading\",\"subject\":\"machine-{machine}\",\"time\":\"2026-11-24T00:04:{seconds:02}.123Z\",\"data\":{data}}}"
    )
}

/// Names, schemas and records.
fn cases() -> Vec<(&'static str, String, RecordBatch)> {
    let names: Vec<String> = (0..NUMBERS).map(|at| format!("\"f{at:02}\"")).collect();
    let names = names.join(",");
    vec![
        (
            "flat_38",
            format!("{{\"features\":[{names}]}}"),
            batch(flat),
        ),
        (
            "flat_38_key_and_time",
            format!("{{\"features\":[{names}],\"key\":[\"machine\"],\"timestamp\":\"ts\"}}"),
            batch(flat_keyed),
        ),
        (
            "array_38",
            format!(
                "{{\"features\":{{\"array\":\"values\",\"len\":{NUMBERS}}},\"key\":[\"key\"]}}"
            ),
            batch(array),
        ),
        (
            "csv_38_key_and_time",
            format!(
                "{{\"format\":\"csv\",\"csv\":{{\"columns\":[\"machine\",\"ts\",{names}]}},\"features\":[{names}],\"key\":[\"machine\"],\"timestamp\":\"ts\"}}"
            ),
            batch(csv),
        ),
        (
            "avro_38_key_and_time",
            format!(
                "{{\"format\":\"avro\",\"features\":[{names}],\"key\":[\"machine\"],\"timestamp\":\"ts\"}}"
            ),
            avro_batch(),
        ),
        (
            "protobuf_38_key_and_time",
            format!(
                "{{\"format\":\"protobuf\",\"features\":[{names}],\"key\":[\"machine\"],\"timestamp\":\"ts\"}}"
            ),
            protobuf_batch(),
        ),
        (
            "cloudevents_38_key_and_time",
            format!(
                "{{\"envelope\":\"cloudevents\",\"features\":[{names}],\"key\":[\"ce_subject\"],\"timestamp\":\"ce_time\"}}"
            ),
            batch(event),
        ),
        (
            "f32_38",
            format!("{{\"format\":\"f32\",\"features\":[{names}]}}"),
            batch(floats),
        ),
    ]
}

fn decode(c: &mut Criterion) {
    let cases = cases();
    let mut group = c.benchmark_group("decode");
    group.sample_size(30);
    group.throughput(Throughput::Elements(RECORDS as u64));
    for (name, spec, batch) in &cases {
        let name = format!("{name}/{}_bytes", batch.bytes_len() / RECORDS);
        let ways = [
            ("template", Decoder::new(schema(spec))),
            ("serde", Decoder::without_templates(schema(spec))),
        ];
        // Only JSON has a template to learn.
        let json = !spec.contains("\"format\"");
        let ways = ways.into_iter().take(if json { 2 } else { 1 });
        for (way, mut decoder) in ways {
            let mut decoded = DecodedBatch::default();
            group.bench_with_input(BenchmarkId::new(way, &name), batch, |bencher, batch| {
                bencher.iter(|| decoder.decode_into(black_box(batch), &mut decoded));
            });
            assert!(decoded.outcomes.iter().all(Result::is_ok));
        }
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
