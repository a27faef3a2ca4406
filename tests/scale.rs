//! What a partition with many keys costs. Figures of docs/reliability.md.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anomalyd::detect::Params;
use anomalyd::model::trained::TrainedModel;
use anomalyd::pipeline::{Column, Grant, Outbox, Pipeline, StateEntry};
use anomalyd::record::{DecodedBatch, Key, Missing, RecordBatch};
use anomalyd::stream::{Offset, TopicPartition};
use anomalyd::time::Timestamp;

const NOW: Timestamp = Timestamp(1_000_000);
const WINDOW: usize = 10;

/// What the state topic keeps of a transaction; answers the bytes of it.
fn keep(entries: &mut BTreeMap<Vec<u8>, StateEntry>, outbox: &Outbox) -> usize {
    let mut bytes = 0;
    for entry in &outbox.state {
        bytes += entry.key.len() + entry.value.as_ref().map_or(0, Vec::len);
        if entry.value.is_some() {
            entries.insert(entry.key.clone(), entry.clone());
        } else {
            entries.remove(&entry.key);
        }
    }
    bytes
}

/// Memory of this process in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

/// Figures of docs/reliability.md.
#[test]
#[ignore = "a measurement: `make measure`"]
fn measure_a_hundred_thousand_keys_of_eight_features() {
    let at = TopicPartition::new("in", 0);
    let grant = |committed, state| Grant {
        at: at.clone(),
        committed: Offset(committed),
        fresh: false,
        first: Offset(0),
        topic_id: None,
        state,
    };
    const KEYS: usize = 100_000;
    const COLUMNS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let params = || {
        Arc::new(Params {
            emit_scores: false,
            window: WINDOW,
            ..Params::default()
        })
    };
    let columns = || -> Arc<[Column]> {
        let column = |name: &&str| Column {
            name: (*name).to_owned(),
            missing: Missing::Mask,
        };
        COLUMNS.iter().map(column).collect()
    };
    let calibration = anomalyd::stats::calibration::Calibration::fit(
        &(0..1000).map(|i| f64::from(i) / 1000.0).collect::<Vec<_>>(),
    );
    let model = Arc::new(TrainedModel::simple(1, &COLUMNS, WINDOW, calibration));
    let before = resident();
    let mut pipeline = Pipeline::new(params(), columns());
    pipeline.promote(Arc::clone(&model)).unwrap();
    pipeline.assign(&grant(0, Vec::new()), None).unwrap();
    let keys: Vec<Key> = (0..KEYS)
        .map(|n| Key(Arc::from(format!("machine-{n:06}"))))
        .collect();
    let mut entries = BTreeMap::new();
    let (mut largest, mut transactions) = (0, 0);
    let (mut stage, mut publish) = (Duration::ZERO, Duration::ZERO);
    for part in 0..120_i64 {
        let (mut records, mut decoded) = (RecordBatch::default(), DecodedBatch::default());
        decoded.columns = 8;
        for offset in part * 10_000..(part + 1) * 10_000 {
            let time = Timestamp(offset / 10);
            records.push(&at, (Offset(offset), time), None, None, Vec::new());
            let level = f64::from((offset % 97) as u32) / 97.0;
            decoded.values.extend([level; 8]);
            let key = keys[offset as usize % KEYS].clone();
            decoded
                .outcomes
                .push(Ok(anomalyd::record::Decoded { key, time }));
        }
        loop {
            let begun = Instant::now();
            let staged = pipeline.stage(&records, &decoded, NOW);
            stage += begun.elapsed();
            let begun = Instant::now();
            largest = largest.max(keep(&mut entries, &staged.outbox));
            transactions += 1;
            publish = publish.max(begun.elapsed());
            let whole = staged.whole;
            pipeline.apply(staged);
            if whole {
                break;
            }
        }
    }
    let state: Vec<StateEntry> = entries.into_values().collect();
    let bytes: usize = state
        .iter()
        .map(|e| e.value.as_ref().map_or(0, Vec::len))
        .sum();
    println!(
        "keys {}, state topic when compacted {} MiB",
        pipeline.keys(),
        bytes >> 20
    );
    println!(
        "largest transaction {} MiB of state, {} transactions",
        largest >> 20,
        transactions
    );
    println!(
        "staging 10,000 records {:?} on average, snapshots included",
        stage / 120
    );
    let with = resident();
    println!(
        "memory {} MiB with the state's entries beside it, {before} MiB before",
        with
    );
    drop(pipeline);
    let mut heir = Pipeline::new(params(), columns());
    heir.promote(Arc::clone(&model)).unwrap();
    let begun = Instant::now();
    let assigned = heir.assign(&grant(1_200_000, state), Some(model)).unwrap();
    println!(
        "restoring {:?}, {} records to replay",
        begun.elapsed(),
        assigned.replay
    );
    println!("memory {} MiB of the heir alone", resident());
    assert_eq!(heir.keys(), KEYS as u64);
    assert!(assigned.replay <= 20_000, "{}", assigned.replay);
}
