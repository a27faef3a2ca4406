//! What a partition with many keys costs. Figures of docs/reliability.md.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement shows its figures, and reads the clock"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anomalyd::detect::Params;
use anomalyd::model::trained::TrainedModel;
use anomalyd::pipeline::{Column, Outbox, PartitionAssignment, Pipeline, StateEntry};
use anomalyd::record::{Decoded, DecodedBatch, Key, Missing, RecordBatch};
use anomalyd::stats::calibration::Calibration;
use anomalyd::stream::{Offset, TopicPartition};
use anomalyd::time::Timestamp;

const WINDOW: usize = 10;
const KEYS: usize = 100_000;
const COLUMNS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
const BATCH: i64 = 10_000;

fn at() -> TopicPartition {
    TopicPartition::new("in", 0)
}

fn assignment(committed: i64, state: Vec<StateEntry>) -> PartitionAssignment {
    PartitionAssignment {
        at: at(),
        committed: Offset(committed),
        fresh: false,
        first: Offset(0),
        topic_id: None,
        state,
    }
}

/// A pipeline that holds nothing yet.
fn pipeline(model: &Arc<TrainedModel>) -> Pipeline {
    let params = Params {
        window: WINDOW,
        ..Params::default()
    };
    let column = |name: &&str| Column {
        name: (*name).to_owned(),
        missing: Missing::Mask,
        context: false,
    };
    let mut pipeline = Pipeline::new(Arc::new(params), COLUMNS.iter().map(column).collect());
    assert_eq!(pipeline.promote(Arc::clone(model)), Ok(()));
    pipeline
}

/// Records of all keys in turn, ten a millisecond.
fn records(keys: &[Key], from: i64) -> (RecordBatch, DecodedBatch) {
    let (mut batch, mut decoded) = (RecordBatch::default(), DecodedBatch::default());
    decoded.columns = COLUMNS.len();
    for offset in from..from + BATCH {
        let time = Timestamp(offset / 10);
        batch.push(&at(), (Offset(offset), time), None, None, Vec::new());
        let level = f64::from((offset % 97) as u32) / 97.0;
        decoded.values.extend([level; COLUMNS.len()]);
        let key = keys[offset as usize % keys.len()].clone();
        decoded.outcomes.push(Ok(Decoded { key, time }));
    }
    (batch, decoded)
}

/// What was published so far.
#[derive(Debug, Default)]
struct Log {
    entries: BTreeMap<Vec<u8>, StateEntry>,
    transactions: usize,
    largest: usize,
}

impl Log {
    fn publish(&mut self, outbox: &Outbox) {
        let mut bytes = 0;
        for entry in &outbox.state {
            bytes += entry.key.len() + entry.value.as_ref().map_or(0, Vec::len);
            if entry.value.is_some() {
                self.entries.insert(entry.key.clone(), entry.clone());
            } else {
                self.entries.remove(&entry.key);
            }
        }
        self.transactions += 1;
        self.largest = self.largest.max(bytes);
    }
}

/// Works a batch in; answers how long staging took.
fn work(
    pipeline: &mut Pipeline,
    log: &mut Log,
    (batch, decoded): &(RecordBatch, DecodedBatch),
) -> Duration {
    let mut took = Duration::ZERO;
    loop {
        let begun = Instant::now();
        let staged = pipeline.stage(batch, decoded);
        took += begun.elapsed();
        log.publish(&staged.outbox);
        let whole = staged.whole;
        pipeline.apply(staged);
        if whole {
            return took;
        }
    }
}

/// Memory of this process in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

#[test]
#[ignore = "a measurement: `make measure`"]
fn measure_a_hundred_thousand_keys_of_eight_features() {
    let scores: Vec<f64> = (0..1000).map(|i| f64::from(i) / 1000.0).collect();
    let calibration = Calibration::fit(&scores);
    let model = Arc::new(TrainedModel::simple(1, &COLUMNS, WINDOW, calibration));
    let keys: Vec<Key> = (0..KEYS)
        .map(|n| Key(Arc::from(format!("machine-{n:06}"))))
        .collect();
    let (mut holding, mut log) = (pipeline(&model), Log::default());
    assert!(holding.assign(&assignment(0, Vec::new()), None).is_ok());
    let batches = 120;
    let staging: Duration = (0..batches)
        .map(|part| work(&mut holding, &mut log, &records(&keys, part * BATCH)))
        .sum();
    println!(
        "staging {BATCH} records with their snapshots: {:?}",
        staging / batches as u32
    );
    println!(
        "{} transactions, the largest with {} MiB of state",
        log.transactions,
        log.largest >> 20
    );
    let state: Vec<StateEntry> = log.entries.into_values().collect();
    let value = |entry: &StateEntry| entry.value.as_ref().map_or(0, Vec::len);
    let bytes: usize = state.iter().map(value).sum();
    println!("state topic when compacted: {} MiB", bytes >> 20);
    println!("memory with these entries: {} MiB", resident());
    drop(holding);
    let mut successor = pipeline(&model);
    let begun = Instant::now();
    let assigned = successor.assign(&assignment(batches * BATCH, state), Some(model));
    let took = begun.elapsed();
    let replay = assigned.map(|assigned| assigned.replay);
    println!("restoring: {took:?}; to replay: {replay:?}");
    assert_eq!(successor.keys(), KEYS as u64);
    assert!(replay.is_ok_and(|replay| replay <= 20_000));
}
