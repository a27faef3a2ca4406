//! How fast a batch is worked out, apart from decoding and from the model.
//!
//! Budget: windows of one record, 20 keys, 38 features: one hash and one look at the key's state a record, 304 bytes copied to the window
//! matrix; above 1 M records/s. The model here (robust z) scales and squares each number, and is measured with it; `cold` is the cold start.
//! Run: `cargo bench --bench stage`.
#![expect(clippy::unwrap_used, reason = "a bench")]

use std::sync::Arc;

use anomalyd::detect::Params;
use anomalyd::model::trained::TrainedModel;
use anomalyd::pipeline::{Column, PartitionAssignment, Pipeline};
use anomalyd::record::{Decoded, DecodedBatch, Key, Missing, RecordBatch};
use anomalyd::seed::Seed;
use anomalyd::stats::calibration::Calibration;
use anomalyd::stream::{Offset, TopicPartition};
use anomalyd::time::Timestamp;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::Rng;

const RECORDS: usize = 4000;
const COLUMNS: usize = 38;

fn names() -> Vec<String> {
    (0..COLUMNS).map(|i| format!("f{i}")).collect()
}

fn batch(keys: usize) -> (RecordBatch, DecodedBatch) {
    let mut rng = Seed(1).rng();
    let at = TopicPartition::new("in", 0);
    let all: Vec<Key> = (0..keys)
        .map(|key| Key(Arc::from(format!("pump-{key}"))))
        .collect();
    let (mut batch, mut decoded) = (RecordBatch::default(), DecodedBatch::default());
    decoded.columns = COLUMNS;
    for (record, offset) in (0..RECORDS).zip(0_i64..) {
        let time = Timestamp(offset * 10);
        batch.push(&at, (Offset(offset), time), None, Some(b"{}"), Vec::new());
        decoded
            .values
            .extend((0..COLUMNS).map(|_| rng.gen_range(-1.0..1.0)));
        let key = all[record % keys].clone();
        decoded.outcomes.push(Ok(Decoded { key, time }));
    }
    (batch, decoded)
}

fn pipeline(model: bool, window: usize, emit_scores: bool) -> Pipeline {
    let params = Params {
        window,
        emit_scores,
        ..Params::default()
    };
    let names = names();
    let column = |name: &String| Column {
        name: name.clone(),
        missing: Missing::Mask,
        context: false,
    };
    let mut pipeline = Pipeline::new(Arc::new(params), names.iter().map(column).collect());
    if model {
        let scores: Vec<f64> = (0..5000).map(f64::from).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let model = TrainedModel::simple(1, &names, window, Calibration::fit(&scores));
        pipeline.promote(Arc::new(model)).unwrap();
    }
    let assignment = PartitionAssignment::fresh(TopicPartition::new("in", 0), Offset(0));
    pipeline.assign(&assignment, None).unwrap();
    pipeline
}

fn stage(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stage");
    group.throughput(Throughput::Elements(RECORDS as u64));
    let cases = [
        ("model_w1_keys20", true, 1, 20, false),
        ("model_w1_keys2000", true, 1, 2000, false),
        ("model_w1_keys20_scores_out", true, 1, 20, true),
        ("model_w16_keys20", true, 16, 20, false),
        ("cold_w1_keys20", false, 1, 20, false),
    ];
    for (name, model, window, keys, scores) in cases {
        let pipeline = pipeline(model, window, scores);
        let (batch, decoded) = batch(keys);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| pipeline.stage(&batch, &decoded));
        });
    }
    let (_, decoded) = batch(20);
    let names = names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let model = TrainedModel::simple(1, &names, 1, Calibration::fit(&[1.0; 1000]));
    let seeds = vec![Seed(0); RECORDS];
    let rows = ndarray::ArrayView2::from_shape((RECORDS, COLUMNS), &decoded.values).unwrap();
    group.bench_function("the_model_alone_w1", |bencher| {
        bencher.iter(|| model.judge(rows, &seeds));
    });
    group.finish();
}

criterion_group!(benches, stage);
criterion_main!(benches);
