//! No transaction carries much more than `state.snapshot_bytes`, however many keys there are and whatever happens to them at once.

use std::collections::BTreeMap;
use std::time::Duration;

use super::tests::{assignment, at, batch, model, params, pipeline};
use super::*;

const BOUND: u64 = 64 << 10;
const WINDOW: usize = 10;
/// Keys that a record may make fall silent: written out, so that nobody raises it unseen.
const AT_ONCE: u64 = 1000;

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
    scores: Vec<crate::alert::Score>,
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
    pipeline
        .assign(&assignment(committed, state), judging)
        .unwrap();
    pipeline
}

/// Works a batch in, in as many transactions as it takes.
fn work(pipeline: &mut Pipeline, log: &mut Log, (batch, decoded): &(RecordBatch, DecodedBatch)) {
    loop {
        let staged = pipeline.stage(batch, decoded);
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
    let mut successor = holding(bounded(BOUND), 12_000, log.state());
    let from = successor.positions()[&at()].0;
    assert!(from > 11_000, "{from}");
    let mut none = Log::default();
    work(
        &mut successor,
        &mut none,
        &round_robin(&keys, from, (12_000 - from) as usize),
    );
    assert_eq!((successor.replaying(), none.transactions), (0, 0));
    let next = round_robin(&keys, 12_000, 2000);
    work(&mut pipeline, &mut log, &next);
    work(&mut successor, &mut none, &next);
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
    assert!(silent.iter().all(|new| *new <= AT_ONCE), "{silent:?}");
    assert!(pipeline.episodes_open() >= 4990, "{silent:?}");
    let most = BOUND * 2 + AT_ONCE * 1024;
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
        let assignment = PartitionAssignment {
            at: at.clone(),
            ..assignment(0, Vec::new())
        };
        pipeline.assign(&assignment, None).unwrap();
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
    while let Some(staged) = pipeline.flush_idle_snapshots(&Positions::new()) {
        log.publish(&staged.outbox);
        pipeline.apply(staged);
    }
    assert!(log.transactions > 1, "one after another");
    assert!(log.largest <= 2 * BOUND, "{}", log.largest);
    assert!(pipeline.judging().values().all(|version| version.0 == 2));
}

#[test]
fn long_names_leave_room_for_fewer_keys_however_they_come() {
    let params = |bytes_max| Params {
        bytes_max,
        ..bounded(u64::MAX)
    };
    let long = |n: usize| format!("{n:0>3000}");
    let keys: Vec<String> = (0..600).map(long).collect();
    let run = |part: usize, bytes_max| {
        let (mut pipeline, mut log) = (holding(params(bytes_max), 0, Vec::new()), Log::default());
        for from in (0..1800_i64).step_by(part) {
            work(&mut pipeline, &mut log, &round_robin(&keys, from, part));
        }
        (pipeline.keys(), log)
    };
    assert_eq!(run(600, 1 << 30).0, 600);
    let (kept, log) = run(600, 1 << 20);
    assert!((200..300).contains(&kept), "{kept}");
    // In batches of any size the same keys are forgotten at the same records.
    let (same, other) = run(6, 1 << 20);
    assert_eq!(same, kept);
    assert!(other.scores == log.scores, "the same scores");
}
