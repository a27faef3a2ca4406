//! A partition without state, judged by seasons, learns from the records before its beginning and tells nothing of them.

use super::season_tests::{DAY, STEP, assignment, load, pipeline, pipeline_with};
use super::*;
use crate::alert::{AlertEvent, ScoredBy};
use crate::record::Decoded;

/// Where the group begins: after ten days.
const BEGIN: i64 = 10 * DAY;

/// One record: its offset, its key and its value.
type Row = (i64, String, f64);

/// The load of one key; it is broken from one record to another.
fn records(from: i64, to: i64, broken: std::ops::Range<i64>) -> Vec<Row> {
    (from..to)
        .map(|i| (i, "k".to_owned(), load(i, broken.contains(&i))))
        .collect()
}

/// Works these in, `size` at a time.
fn feed(pipeline: &mut Pipeline, rows: &[Row], size: usize) -> (Outbox, Tally) {
    let (mut all, mut sum) = (Outbox::default(), Tally::default());
    let at = TopicPartition::new("in", 0);
    for rows in rows.chunks(size) {
        let mut batch = RecordBatch::default();
        let mut decoded = DecodedBatch {
            columns: 1,
            ..DecodedBatch::default()
        };
        for (offset, key, value) in rows {
            let time = Timestamp(offset * STEP);
            batch.push(&at, (Offset(*offset), time), None, Some(b"v"), Vec::new());
            decoded.values.push(*value);
            decoded.outcomes.push(Ok(Decoded {
                key: Key(Arc::from(key.as_str())),
                time,
            }));
        }
        loop {
            let staged = pipeline.stage(&batch, &decoded);
            let (outbox, tally, whole) =
                (staged.outbox.clone(), staged.tally.clone(), staged.whole);
            all.alerts.extend(outbox.alerts);
            all.scores.extend(outbox.scores);
            all.state.extend(outbox.state);
            all.drift.extend(outbox.drift);
            all.positions.extend(outbox.positions);
            sum.opened += tally.opened;
            sum.closed += tally.closed;
            sum.consumed += tally.consumed;
            sum.replayed += tally.replayed;
            pipeline.apply(staged);
            if whole {
                break;
            }
        }
    }
    (all, sum)
}

/// A group that begins at [`BEGIN`], of which nothing is known.
fn begun() -> Pipeline {
    let mut pipeline = pipeline();
    let assigned = pipeline
        .assign(&assignment(Offset(BEGIN), Vec::new()), None)
        .unwrap();
    assert_eq!(assigned.read_from, Offset(0));
    assert_eq!((assigned.lookback, assigned.replay), (BEGIN as u64, 0));
    pipeline
}

fn events(outbox: &Outbox) -> Vec<AlertEvent> {
    outbox.alerts.iter().map(|alert| alert.event).collect()
}

#[test]
fn a_fault_soon_after_the_beginning_stays_open_for_as_long_as_it_lasts() {
    let mut pipeline = begun();
    let (history, learnt) = feed(&mut pipeline, &records(0, BEGIN, 0..0), 500);
    assert!(history.is_empty(), "nothing of it is told");
    assert_eq!((learnt.consumed, learnt.replayed), (0, BEGIN as u64));
    let fault = BEGIN + 10..BEGIN + 10 + DAY;
    let live = records(BEGIN, BEGIN + 2 * DAY, fault.clone());
    let (outbox, tally) = feed(&mut pipeline, &live, 500);
    assert_eq!(events(&outbox), [AlertEvent::Open, AlertEvent::Close]);
    assert_eq!(tally.consumed, live.len() as u64);
    let open = &outbox.alerts[0];
    assert_eq!(open.scored_by, ScoredBy::Seasonal);
    assert!(open.input.offset.0 <= fault.start + 1);
    assert!(outbox.alerts[1].input.offset.0 >= fault.end);
}

#[test]
fn what_was_over_before_the_beginning_is_told_to_nobody() {
    let mut pipeline = begun();
    let all = records(0, BEGIN + DAY, 8 * DAY..8 * DAY + 100);
    let (outbox, tally) = feed(&mut pipeline, &all, 500);
    assert_eq!(events(&outbox), []);
    assert_eq!((tally.opened, tally.closed), (0, 0));
    assert!(
        outbox
            .scores
            .iter()
            .all(|score| score.input.offset.0 >= BEGIN)
    );
    let noted = outbox.state.iter();
    let noted = noted.filter(|entry| String::from_utf8_lossy(&entry.key).contains("/episode/"));
    assert_eq!(noted.count(), 0, "training judges its history itself");
}

#[test]
fn what_goes_on_at_the_beginning_is_told_there() {
    let mut pipeline = begun();
    let all = records(0, BEGIN + DAY, BEGIN - 100..BEGIN + 50);
    let (outbox, tally) = feed(&mut pipeline, &all, 500);
    assert_eq!(events(&outbox), [AlertEvent::Open, AlertEvent::Close]);
    assert_eq!((tally.opened, tally.closed), (1, 1));
    assert_eq!(outbox.alerts[0].input.offset, Offset(BEGIN));
}

#[test]
fn a_key_that_was_silent_at_the_beginning_is_told_neither_silent_nor_back() {
    let params = Params {
        silence_factor: 5.0,
        ..pipeline().params().as_ref().clone()
    };
    let silent = |from: i64, to: i64| {
        let mut rows = records(0, BEGIN + DAY, 0..0);
        let gone = |i: i64| (from..to).contains(&i);
        for (i, key, _) in &mut rows {
            if *i % 2 == 1 && !gone(*i) {
                *key = "other".to_owned();
            }
        }
        rows
    };
    let told = |from, to| {
        let mut pipeline = pipeline_with(params.clone());
        pipeline
            .assign(&assignment(Offset(BEGIN), Vec::new()), None)
            .unwrap();
        let (outbox, tally) = feed(&mut pipeline, &silent(from, to), 500);
        let kinds = outbox
            .alerts
            .iter()
            .map(|a| (&*a.key.0 == "other", a.event));
        (kinds.collect::<Vec<_>>(), tally.opened, tally.closed)
    };
    assert_eq!(told(BEGIN - 100, BEGIN + 100), (vec![], 0, 0));
    let other = vec![(true, AlertEvent::Open), (true, AlertEvent::Close)];
    assert_eq!(told(BEGIN + 50, BEGIN + 200), (other, 1, 1));
}

#[test]
fn it_does_not_matter_how_records_came_in_batches_nor_that_somebody_began_before() {
    let all = records(0, BEGIN + DAY, BEGIN - 30..BEGIN + 40);
    let mut expected = begun();
    let (expected, _) = feed(&mut expected, &all, 1);
    assert!(!expected.alerts.is_empty());
    for size in [7, 1000, 100_000] {
        let mut died = begun();
        let _ = feed(&mut died, &all[..2000], size);
        let mut pipeline = begun();
        let (found, _) = feed(&mut pipeline, &all, size);
        assert_eq!(found.alerts, expected.alerts, "{size} at a time");
        assert_eq!(found.scores, expected.scores, "{size} at a time");
    }
}

#[test]
fn what_it_learnt_is_saved_with_the_first_record_that_counts() {
    let mut calm = begun();
    let all = records(0, BEGIN + DAY, BEGIN + 150..BEGIN + 200);
    let begin = BEGIN as usize;
    let (history, _) = feed(&mut calm, &all[..begin], 500);
    assert!(history.state.is_empty() && history.positions.is_empty());
    let (first, _) = feed(&mut calm, &all[begin..=begin], 500);
    let state = first.state;
    let (expected, _) = feed(&mut calm, &all[begin + 1..], 500);

    let mut next = pipeline();
    let assigned = next
        .assign(&assignment(Offset(BEGIN + 1), state), None)
        .unwrap();
    assert_eq!((assigned.lookback, assigned.replay), (0, 1));
    let (found, _) = feed(&mut next, &all[begin..], 500);
    assert_eq!(found.alerts, expected.alerts);
    assert_eq!(found.scores, expected.scores);
}

#[test]
fn markers_before_the_beginning_keep_nobody_waiting() {
    let mut pipeline = begun();
    let _ = feed(&mut pipeline, &records(0, BEGIN - 2, 0..0), 500);
    assert_eq!(
        (pipeline.replaying(), pipeline.looking_back().count()),
        (1, 1)
    );
    pipeline.end_lookback(&TopicPartition::new("in", 0));
    assert_eq!(
        (pipeline.replaying(), pipeline.looking_back().count()),
        (0, 0)
    );
    let (outbox, tally) = feed(&mut pipeline, &records(BEGIN, BEGIN + 1, 0..0), 500);
    assert_eq!((outbox.scores.len(), tally.consumed), (1, 1));
    assert!(outbox.scores[0].p_value < 1.0, "it is judged");
}

#[test]
fn what_is_deleted_while_it_is_learnt_from_is_no_loss() {
    let at = TopicPartition::new("in", 0);
    let mut pipeline = begun();
    let _ = feed(&mut pipeline, &records(0, DAY, 0..0), 500);
    let to = |offset: i64| Positions::from([(at.clone(), Offset(offset))]);
    assert!(pipeline.skip(&to(3 * DAY)).is_empty());
    assert_eq!(pipeline.positions(), to(3 * DAY));
    assert_eq!(pipeline.looking_back().count(), 1);
    // What counts was deleted, too: that is a loss.
    assert!(pipeline.skip(&to(BEGIN + 5)).is_empty());
    assert_eq!(pipeline.looking_back().count(), 0);
    let live = records(BEGIN + 5, BEGIN + 6, 0..0);
    let (outbox, _) = feed(&mut pipeline, &live, 500);
    assert_eq!(outbox.positions, to(BEGIN + 6));
    assert!(outbox.scores[0].p_value < 1.0, "what was learnt is kept");
}

#[test]
fn as_many_keys_learn_as_one_transaction_can_save() {
    let params = Params {
        snapshot_bytes: 100_000,
        ..pipeline().params().as_ref().clone()
    };
    let mut pipeline = pipeline_with(params);
    pipeline
        .assign(&assignment(Offset(BEGIN), Vec::new()), None)
        .unwrap();
    let key = |i: i64| format!("key {}", i % 40);
    let all: Vec<Row> = (0..=BEGIN).map(|i| (i, key(i), load(i, false))).collect();
    let _ = feed(&mut pipeline, &all[..BEGIN as usize], 500);
    let learnt = pipeline.keys();
    assert!((2..20).contains(&learnt), "{learnt} keys");
    let (first, _) = feed(&mut pipeline, &all[BEGIN as usize..], 500);
    let bytes: usize = first
        .state
        .iter()
        .filter_map(|e| Some(e.value.as_ref()?.len()))
        .sum();
    assert!(bytes < 2 * 100_000, "{bytes}");
}

#[test]
fn who_has_a_model_or_a_state_does_not_learn_from_before() {
    // Two features are judged by the model.
    let mut two = super::tests::pipeline(
        Params {
            seasonal: true,
            ..super::tests::params()
        },
        crate::record::Missing::Mask,
    );
    let assigned = two.assign(&super::tests::assignment(9, Vec::new()), None);
    assert_eq!(assigned.unwrap().read_from, Offset(9));
    // A log that begins there.
    let mut pipeline = pipeline();
    let fresh = PartitionAssignment::fresh(TopicPartition::new("in", 0), Offset(7));
    let assigned = pipeline.assign(&fresh, None).unwrap();
    assert_eq!((assigned.read_from, assigned.lookback), (Offset(7), 0));
    // The oldest of many records.
    let far = assignment(Offset(1_000_000), Vec::new());
    assert_eq!(
        pipeline.assign(&far, None).unwrap().read_from,
        Offset(800_000)
    );
}
