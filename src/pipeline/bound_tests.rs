//! No transaction carries much more than `state.snapshot_bytes`, however many keys there are and whatever happens to them at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::gather::SILENCES_MAX;
use super::tests::{NOW, at, batch, grant, model, params, pipeline};
use super::*;

const BOUND: u64 = 64 << 10;
const WINDOW: usize = 10;

fn bounded(snapshot_bytes: u64) -> Params {
    Params {
        snapshot_bytes,
        window: WINDOW,
        snapshot_records: 2500,
        storm_opens_max: 1,
        silence_min: Duration::from_secs(1),
        ..params()
    }
}

/// What lies in the state topic, and what was written to it on the way.
#[derive(Default)]
struct Log {
    entries: BTreeMap<Vec<u8>, StateEntry>,
    largest: u64,
    transactions: u64,
    scores: Vec<Message>,
}

impl Log {
    fn publish(&mut self, outbox: &Outbox) {
        let bytes: usize = outbox
            .state
            .iter()
            .map(|entry| entry.key.len() + entry.value.as_ref().map_or(0, Vec::len))
            .sum();
        self.largest = self.largest.max(bytes as u64);
        self.transactions += 1;
        for entry in &outbox.state {
            if entry.value.is_some() {
                self.entries.insert(entry.key.clone(), entry.clone());
            } else {
                self.entries.remove(&entry.key);
            }
        }
        self.scores.extend(outbox.scores.iter().cloned());
    }

    fn state(&self) -> Vec<StateEntry> {
        self.entries.values().cloned().collect()
    }
}

fn holding(params: Params, committed: i64, state: Vec<StateEntry>) -> Pipeline {
    let mut pipeline = pipeline(params, Missing::Mask);
    pipeline.promote(model(1, WINDOW)).unwrap();
    let judging = pipeline.current().cloned();
    pipeline.assign(&grant(committed, state), judging).unwrap();
    pipeline
}

/// Works a batch in, in as many transactions as it takes.
fn work(pipeline: &mut Pipeline, log: &mut Log, (batch, decoded): &(RecordBatch, DecodedBatch)) {
    loop {
        let staged = pipeline.stage(batch, decoded, NOW);
        if !staged.outbox.is_empty() {
            log.publish(&staged.outbox);
        }
        let whole = staged.whole;
        pipeline.apply(staged);
        if whole {
            break;
        }
    }
}

/// A record of each of `keys`, in order, again and again.
fn round_robin(keys: &[String], from: i64, rows: usize) -> (RecordBatch, DecodedBatch) {
    let rows: Vec<_> = (from..)
        .take(rows)
        .map(|offset| {
            let key = keys[offset as usize % keys.len()].as_str();
            (offset, key, offset, &[0.1, 0.2][..])
        })
        .collect();
    batch(&rows)
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("pump-{number}")).collect()
}

#[test]
fn many_keys_are_saved_by_and_by_and_come_back_the_same() {
    let keys = names(1000);
    let run = |bound| {
        let (mut pipeline, mut log) = (holding(bounded(bound), 0, Vec::new()), Log::default());
        for part in 0..4 {
            let records = round_robin(&keys, part * 3000, 3000);
            work(&mut pipeline, &mut log, &records);
        }
        (pipeline, log)
    };
    let (_, free) = run(u64::MAX);
    assert!(free.largest > 8 * BOUND, "{}", free.largest);
    let (mut pipeline, mut log) = run(BOUND);
    assert!(log.largest <= 2 * BOUND, "{}", log.largest);
    assert!(log.transactions > 4, "a batch is several transactions");
    // The same scores, however a batch was divided.
    assert_eq!(log.scores, free.scores);
    // Nor does one that takes over after a crash see a difference: it replays what came after the last snapshot.
    let mut heir = holding(bounded(BOUND), 12_000, log.state());
    let from = heir.positions()[&at()].0;
    assert!(from > 11_000, "{from}");
    let mut none = Log::default();
    work(
        &mut heir,
        &mut none,
        &round_robin(&keys, from, (12_000 - from) as usize),
    );
    assert_eq!((heir.replaying(), none.transactions), (0, 0));
    let next = round_robin(&keys, 12_000, 2000);
    work(&mut pipeline, &mut log, &next);
    work(&mut heir, &mut none, &next);
    assert_eq!(none.scores, log.scores[log.scores.len() - 2000..]);
}

#[test]
fn keys_that_all_fall_silent_at_once_do_so_in_turns() {
    let keys = names(5000);
    let params = Params {
        silence_factor: 2.0,
        ..bounded(BOUND)
    };
    let (mut pipeline, mut log) = (holding(params, 0, Vec::new()), Log::default());
    for part in 0..8 {
        work(
            &mut pipeline,
            &mut log,
            &round_robin(&keys, part * 10_000, 10_000),
        );
    }
    assert_eq!(pipeline.episodes_open(), 0);
    log.largest = 0;
    // From here on a few keys speak, and time goes on.
    let mut silent = Vec::new();
    for offset in 80_000..80_040_i64 {
        let time = 80_000 + (offset - 79_999) * 40_000;
        let few = keys[offset as usize % 3].as_str();
        let record = batch(&[(offset, few, time, &[0.1, 0.2])]);
        let before = pipeline.episodes_open();
        work(&mut pipeline, &mut log, &record);
        silent.push(pipeline.episodes_open().saturating_sub(before));
    }
    assert!(
        silent.iter().all(|new| *new <= SILENCES_MAX as u64),
        "{silent:?}"
    );
    assert!(pipeline.episodes_open() >= 4990, "{silent:?}");
    let most = BOUND * 2 + (SILENCES_MAX * 1024) as u64;
    assert!(log.largest <= most, "{} > {most}", log.largest);
}

#[test]
fn a_new_model_waits_where_all_partitions_would_save_at_once() {
    let mut pipeline = pipeline(bounded(BOUND), Missing::Mask);
    pipeline.promote(model(1, WINDOW)).unwrap();
    let partitions: Vec<TopicPartition> = (0..4)
        .map(|number| TopicPartition::new("in", number))
        .collect();
    let keys = names(60);
    for at in &partitions {
        let grant = Grant {
            at: at.clone(),
            ..grant(0, Vec::new())
        };
        pipeline.assign(&grant, None).unwrap();
    }
    let mut decoded = DecodedBatch {
        columns: 2,
        ..DecodedBatch::default()
    };
    let mut records = RecordBatch::default();
    let (_, one) = round_robin(&keys, 0, 60);
    for at in &partitions {
        for offset in 0..60 {
            records.push(
                at,
                (Offset(offset), Timestamp(offset)),
                None,
                None,
                Vec::new(),
            );
        }
        decoded.values.extend(&one.values);
        decoded.outcomes.extend(one.outcomes.iter().cloned());
    }
    work(&mut pipeline, &mut Log::default(), &(records, decoded));
    pipeline.promote(model(2, WINDOW)).unwrap();
    let mut log = Log::default();
    while let Some(staged) = pipeline.settle(&Positions::new()) {
        log.publish(&staged.outbox);
        pipeline.apply(staged);
    }
    assert!(log.transactions > 1, "one after another");
    assert!(log.largest <= 2 * BOUND, "{}", log.largest);
    assert!(pipeline.judging().values().all(|version| version.0 == 2));
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
    let calibration = crate::stats::calibration::Calibration::fit(
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
    let mut log = Log::default();
    let (mut stage, mut publish) = (Duration::ZERO, Duration::ZERO);
    for part in 0..120_i64 {
        let (mut records, mut decoded) = (RecordBatch::default(), DecodedBatch::default());
        decoded.columns = 8;
        for offset in part * 10_000..(part + 1) * 10_000 {
            let time = Timestamp(offset / 10);
            records.push(&at(), (Offset(offset), time), None, None, Vec::new());
            let level = f64::from((offset % 97) as u32) / 97.0;
            decoded.values.extend([level; 8]);
            let key = keys[offset as usize % KEYS].clone();
            decoded
                .outcomes
                .push(Ok(crate::record::Decoded { key, time }));
        }
        loop {
            let begun = Instant::now();
            let staged = pipeline.stage(&records, &decoded, NOW);
            stage += begun.elapsed();
            let begun = Instant::now();
            log.publish(&staged.outbox);
            publish = publish.max(begun.elapsed());
            let whole = staged.whole;
            pipeline.apply(staged);
            if whole {
                break;
            }
        }
    }
    let state = log.state();
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
        log.largest >> 20,
        log.transactions
    );
    println!(
        "staging 10,000 records {:?} on average, snapshots included",
        stage / 120
    );
    drop(log);
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
