//! What somebody dismissed is held back, the same after a restart and in batches of any size.

use super::tests::*;
use super::*;
use crate::alert::AlertEvent;
use crate::model::card::{Feedback, Said};
use std::time::Duration;

const DISMISSED: &str = "test/in/3/2";

fn said() -> Arc<Said> {
    Arc::new(Said::from([(DISMISSED.into(), Feedback::FalsePositive)]))
}

/// Saved after each batch.
fn params() -> Params {
    Params {
        snapshot_records: 1,
        ..super::tests::params()
    }
}

/// Calm records with these at some offsets, from one record a second.
fn stream<'a>(from: i64, to: i64, strange: &[(i64, &'a [f64])]) -> Vec<Row<'a>> {
    let row = |offset| {
        let values = strange.iter().find(|(at, _)| *at == offset);
        (offset, "k", offset * 1000, values.map_or(CALM, |(_, v)| *v))
    };
    (from..to).map(row).collect()
}

/// A pipeline that heard that the episode at record 2 was a false alarm, after ten records.
fn with_dismissal(state: &mut BTreeMap<Vec<u8>, StateEntry>) -> Pipeline {
    let mut pipeline = ready(params(), 1);
    let (outbox, tally) = work(&mut pipeline, &stream(0, 10, &[(2, &[2.0, 0.2])]));
    keep(state, outbox);
    assert_eq!((tally.opened, tally.held_back), (1, 0));
    pipeline.hear(said());
    pipeline
}

fn keep(state: &mut BTreeMap<Vec<u8>, StateEntry>, outbox: Outbox) {
    state.extend(outbox.state.into_iter().map(|e| (e.key.clone(), e)));
}

fn opened(outbox: &Outbox) -> Vec<String> {
    let opened = events(outbox).into_iter();
    let opened = opened.filter(|(_, event)| *event == AlertEvent::Open);
    opened.map(|(id, _)| id).collect()
}

const SAME: &[f64] = &[1.6, 0.2];
const OTHER: &[f64] = &[-1.5, 0.2];
const SECOND: &[f64] = &[0.2, 1.5];
const WORSE: &[f64] = &[900.0, 0.2];

#[test]
fn what_is_like_a_dismissed_episode_is_held_back_and_nothing_else() {
    for size in [1, 7, 100] {
        let mut pipeline = with_dismissal(&mut BTreeMap::new());
        let strange = [
            (20, SAME),
            (40, OTHER),
            (60, SECOND),
            (80, SAME),
            (100, WORSE),
        ];
        let rows = stream(10, 120, &strange);
        let (mut found, mut held) = (Vec::new(), 0);
        for part in rows.chunks(size) {
            let (outbox, tally) = work(&mut pipeline, part);
            found.extend(events(&outbox));
            held += tally.held_back;
        }
        let emitted: Vec<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
        // Each opens and closes; nothing is heard of those held back.
        let [a, b, c] = ["test/in/3/40", "test/in/3/60", "test/in/3/100"];
        assert_eq!((emitted, held), (vec![a, a, b, b, c, c], 2));
    }
}

#[test]
fn what_is_held_back_is_told_once_it_is_worse_looks_otherwise_or_was_taken_back() {
    for (values, news) in [(WORSE, true), (SECOND, true), (SAME, false)] {
        let mut pipeline = with_dismissal(&mut BTreeMap::new());
        let (outbox, tally) = work(&mut pipeline, &stream(10, 21, &[(20, SAME)]));
        assert_eq!((opened(&outbox).len(), tally.held_back), (0, 1));
        let suppressed = |pipeline: &Pipeline| pipeline.open(1)[0].suppressed;
        assert_eq!(suppressed(&pipeline), Some(Suppressed::Dismissed));
        let (outbox, _) = work(&mut pipeline, &stream(21, 22, &[(21, values)]));
        let emitted = opened(&outbox);
        assert_eq!(
            emitted,
            vec!["test/in/3/20"; usize::from(news)],
            "{values:?}"
        );
        assert_eq!(suppressed(&pipeline).is_none(), news);
        // Emitted once; then as any other.
        let (outbox, _) = work(&mut pipeline, &stream(22, 40, &[(22, values)]));
        assert!(opened(&outbox).is_empty());
        assert_eq!(events(&outbox).len(), usize::from(news));
    }
    let mut pipeline = with_dismissal(&mut BTreeMap::new());
    work(&mut pipeline, &stream(10, 21, &[(20, SAME)]));
    pipeline.hear(Arc::default());
    let (outbox, _) = work(&mut pipeline, &stream(21, 22, &[(21, SAME)]));
    assert_eq!(opened(&outbox), ["test/in/3/20"]);
}

/// The last windows of what is held back end in normal rows, on the other side of what a window with a strange one lets expect.
#[test]
fn what_leaves_the_window_is_no_news() {
    let windows = Params {
        window: 3,
        ..params()
    };
    let mut pipeline = ready(windows, 3);
    let (low, lively): (&[f64], &[f64]) = (&[-3.0, 0.2], &[0.9, 0.2]);
    let (outbox, _) = work(
        &mut pipeline,
        &stream(0, 20, &[(3, lively), (4, lively), (5, low)]),
    );
    assert_eq!(opened(&outbox), ["test/in/3/5"]);
    let of_first = Said::from([("test/in/3/5".into(), Feedback::FalsePositive)]);
    pipeline.hear(Arc::new(of_first));
    let (outbox, tally) = work(
        &mut pipeline,
        &stream(20, 50, &[(28, lively), (29, lively), (30, low)]),
    );
    assert_eq!((opened(&outbox).len(), tally.held_back), (0, 1));
    // Another feature is, and so is the other direction where it is as strange.
    for (at, values) in [(60, &[0.2, 3.0]), (80, &[3.0, 0.2])] {
        let (before, after) = (at - 10, at + 10);
        let rows = stream(before, after, &[(at - 1, low), (at, values)]);
        let (outbox, tally) = work(&mut pipeline, &rows);
        assert_eq!((opened(&outbox).len(), tally.held_back), (1, 1), "{at}");
    }
}

#[test]
fn a_restart_holds_back_what_the_uninterrupted_run_does() {
    let mut state = BTreeMap::new();
    let mut pipeline = with_dismissal(&mut state);
    let (outbox, _) = work(&mut pipeline, &stream(10, 30, &[(20, SAME)]));
    keep(&mut state, outbox);
    // What was said is in the snapshot that went with these records: they are replayed by it.
    let mut successor = pipeline_of(&state, 30);
    let replayed = successor.positions()[&at()];
    assert_eq!(replayed, Offset(10));
    let (outbox, _) = work(&mut successor, &stream(10, 30, &[(20, SAME)]));
    assert!(events(&outbox).is_empty());
    let rest = stream(30, 60, &[(40, SAME), (50, OTHER)]);
    let (one, other) = (work(&mut pipeline, &rest), work(&mut successor, &rest));
    assert_eq!(events(&one.0), events(&other.0));
    assert_eq!((one.1.held_back, other.1.held_back), (1, 1));
    // Training takes what is held back for what the dismissed one was said to be.
    let entries: Vec<StateEntry> = state.values().cloned().collect();
    let held: Vec<EpisodeRecord> = episode_log(&entries, &said())
        .into_iter()
        .filter(|n| n.held)
        .collect();
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].exclusion.feedback, Some(Feedback::FalsePositive));
    // Who joins later hears it, but not before it has replayed.
    let mut late = BTreeMap::new();
    let mut first = ready(params(), 1);
    keep(
        &mut late,
        work(&mut first, &stream(0, 10, &[(2, &[2.0, 0.2])])).0,
    );
    let mut successor = pipeline_of(&late, 10);
    successor.hear(said());
    assert_eq!(successor.replaying(), 1);
    work(&mut successor, &stream(0, 10, &[(2, &[2.0, 0.2])]));
    let (_, tally) = work(&mut successor, &stream(10, 30, &[(20, SAME)]));
    assert_eq!((tally.opened, tally.held_back), (1, 1));
}

/// What is heard before a partition comes is heard of it, too; and a partition that comes to somebody who has heard nothing is left as it is.
#[test]
fn who_takes_over_goes_by_what_was_heard_before() {
    let mut state = BTreeMap::new();
    let mut first = ready(params(), 1);
    keep(
        &mut state,
        work(&mut first, &stream(0, 10, &[(2, &[2.0, 0.2])])).0,
    );
    keep(&mut state, work(&mut first, &stream(10, 11, &[])).0);
    let held =
        |state: &BTreeMap<Vec<u8>, StateEntry>, said: Option<Arc<Said>>, rows: &[Row<'_>]| {
            let mut successor = pipeline(params(), Missing::Mask);
            successor.promote(model(1, 1)).unwrap();
            if let Some(said) = said {
                successor.hear(said);
            }
            let from = rows[0].0;
            let assignment = assignment(from, state.values().cloned().collect());
            successor.assign(&assignment, Some(model(1, 1))).unwrap();
            work(&mut successor, &stream(10, from, &[]));
            let (outbox, tally) = work(&mut successor, rows);
            (outbox, tally.held_back)
        };
    let rows = stream(11, 21, &[(20, SAME)]);
    assert_eq!(held(&state, None, &rows).1, 0);
    let (outbox, held_back) = held(&state, Some(said()), &rows);
    assert_eq!(held_back, 1);
    keep(&mut state, outbox);
    let more = stream(21, 41, &[(40, SAME)]);
    assert_eq!(held(&state, None, &more).1, 1);
    assert_eq!(held(&state, Some(Arc::default()), &more).1, 0);
}

fn pipeline_of(state: &BTreeMap<Vec<u8>, StateEntry>, committed: i64) -> Pipeline {
    let mut successor = pipeline(params(), Missing::Mask);
    successor.promote(model(1, 1)).unwrap();
    let assignment = assignment(committed, state.values().cloned().collect());
    successor.assign(&assignment, Some(model(1, 1))).unwrap();
    successor
}

#[test]
fn what_is_held_back_outlives_what_training_remembers() {
    let brief = Params {
        quarantine_keep: Duration::from_secs(20),
        ..params()
    };
    let mut pipeline = ready(brief, 1);
    work(&mut pipeline, &stream(0, 10, &[(2, &[2.0, 0.2])]));
    pipeline.hear(said());
    let mut rows = stream(10, 210, &[(200, SAME)]);
    let rest = rows.split_off(100);
    work(&mut pipeline, &rows);
    let (outbox, tally) = work(&mut pipeline, &rest);
    assert_eq!(tally.held_back, 1);
    assert!(outbox.state.iter().all(|entry| entry.value.is_some()));
    // Taken back, it is forgotten as any other.
    pipeline.hear(Arc::default());
    let (outbox, _) = work(&mut pipeline, &stream(210, 211, &[]));
    assert!(outbox.state.iter().any(|entry| entry.value.is_none()));
}
