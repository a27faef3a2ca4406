//! However records are cut into batches, and wherever another worker takes over, the same comes out.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::tests::{Row, assignment, at, model, params, pipeline, stage};
use super::*;

/// What lies in the topics: what was emitted, the state by key, and what is committed.
#[derive(Default)]
struct Topics {
    emitted: Outbox,
    state: BTreeMap<Vec<u8>, StateEntry>,
    committed: i64,
}

impl Topics {
    fn publish(&mut self, outbox: Outbox) {
        self.emitted.alerts.extend(outbox.alerts);
        self.emitted.scores.extend(outbox.scores);
        self.emitted.dead_letters.extend(outbox.dead_letters);
        self.emitted.late.extend(outbox.late);
        self.emitted.drift.extend(outbox.drift);
        for entry in outbox.state {
            self.state.insert(entry.key.clone(), entry);
        }
        if let Some(next) = outbox.positions.get(&at()) {
            self.committed = next.0;
        }
    }
}

/// A worker that takes the partition over as it lies in the topics.
fn worker(topics: &Topics) -> Pipeline {
    let params = Params {
        silence_factor: 1.2,
        silence_min: Duration::from_millis(300),
        late_after: Some(Duration::from_millis(500)),
        keys_max: 4,
        storm_opens_max: 1,
        storm_window: Duration::from_secs(1),
        snapshot_records: 20,
        window: 3,
        ..params()
    };
    let mut pipeline = pipeline(params, Missing::Mask);
    pipeline.promote(model(1, 3)).unwrap();
    let judging = pipeline.current().cloned();
    let state = topics.state.values();
    let state = state.filter(|entry| entry.value.is_some()).cloned();
    let assigned = assignment(topics.committed, state.collect());
    pipeline.assign(&assigned, judging).unwrap();
    pipeline
}

/// Works in the records from where the worker stands, in batches of these sizes in turn.
fn run(pipeline: &mut Pipeline, topics: &mut Topics, rows: &[Row<'_>], sizes: &[usize]) {
    let from = pipeline.positions()[&at()].0;
    let mut rest = &rows[rows.partition_point(|row| row.0 < from)..];
    for &size in sizes.iter().cycle() {
        if rest.is_empty() {
            return;
        }
        let (part, later) = rest.split_at(size.min(rest.len()));
        let mut whole = false;
        while !whole {
            let staged = stage(pipeline, part);
            whole = staged.whole;
            topics.publish(staged.outbox.clone());
            pipeline.apply(staged);
        }
        rest = later;
    }
}

/// What a record may say; nothing: it cannot be read.
const VALUES: [&[f64]; 7] = [
    &[0.1, 0.2],
    &[-0.4, 0.3],
    &[0.6, -0.7],
    &[9.0, 0.2],
    &[0.1, -5.0],
    &[f64::NAN, 0.2],
    &[],
];

proptest! {
    #[test]
    fn batches_and_takeovers_change_nothing(
        records in proptest::collection::vec((0_usize..5, 0_i64..250, 0_i64..900, 0_usize..12), 1..120),
        sizes in proptest::collection::vec(1_usize..40, 1..5),
        takeovers in proptest::collection::vec(0_usize..120, 0..4),
    ) {
        let keys = ["a", "b", "c", "d", "e"];
        let mut clock = 0;
        let mut rows: Vec<Row<'_>> = Vec::new();
        for (&(key, step, behind, value), i) in records.iter().zip(0_i64..) {
            clock += step;
            // Now and then a record is late; most are ordinary.
            let time = if behind < 100 { clock - 8 * behind } else { clock };
            rows.push((2 * i, keys[key], time, VALUES[value.min(6) * usize::from(value < 7)]));
        }
        let mut calm = Topics::default();
        run(&mut worker(&Topics::default()), &mut calm, &rows, &[rows.len()]);

        let mut topics = Topics::default();
        let mut ends: Vec<usize> = takeovers.into_iter().map(|end| end.min(rows.len())).collect();
        ends.sort_unstable();
        for end in ends.into_iter().chain([rows.len()]) {
            let mut worker = worker(&topics);
            run(&mut worker, &mut topics, &rows[..end], &sizes);
        }
        prop_assert_eq!(topics.committed, calm.committed);
        prop_assert_eq!(topics.emitted, calm.emitted);
    }
}
