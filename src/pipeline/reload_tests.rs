//! Parameters that change while records are judged: from a snapshot on that names them, in replay as live.

use std::collections::BTreeMap;

use super::tests::{CALM, Row, assignment, model, params, pipeline, ready, stage, work};
use super::*;
use crate::alert::AlertEvent;
use crate::detect::Budget;

/// A window with a p-value of about 0.002 under the tests' models.
const ODD: &[f64] = &[0.999, 0.999];

/// What the state topic has after these entries.
fn compacted(written: &[StateEntry]) -> Vec<StateEntry> {
    let latest: BTreeMap<_, _> = written.iter().map(|e| (e.key.clone(), e.clone())).collect();
    latest.into_values().filter(|e| e.value.is_some()).collect()
}

fn stricter() -> AlertParams {
    AlertParams {
        budget: Budget::PerRecord(1e-6),
        ..params().alerts()
    }
}

/// One process to the end, which is told of a stricter budget after the first record; and the state topic after three.
fn told() -> (Pipeline, Vec<StateEntry>) {
    let mut pipeline = ready(params(), 1);
    let mut written = work(&mut pipeline, &[(0, "a", 0, CALM)]).0.state;
    pipeline.judge_by(stricter());
    for row in [(1, "a", 10, CALM), (2, "a", 20, ODD)] {
        let (outbox, _) = work(&mut pipeline, &[row]);
        assert!(outbox.alerts.is_empty(), "{row:?}: {:?}", outbox.alerts);
        written.extend(outbox.state);
    }
    (pipeline, compacted(&written))
}

#[test]
fn without_a_change_the_odd_record_opens() {
    let mut pipeline = ready(params(), 1);
    let (outbox, _) = work(&mut pipeline, &[(0, "a", 0, CALM), (1, "a", 10, ODD)]);
    assert_eq!(outbox.alerts[0].event, AlertEvent::Open);
}

#[test]
fn a_change_travels_with_a_snapshot_and_nothing_else_does() {
    let mut pipeline = ready(params(), 1);
    work(&mut pipeline, &[(0, "a", 0, CALM)]);
    assert!(
        work(&mut pipeline, &[(1, "a", 10, CALM)])
            .0
            .state
            .is_empty()
    );
    pipeline.judge_by(params().alerts());
    let (same, _) = work(&mut pipeline, &[(2, "a", 20, CALM)]);
    assert!(same.state.is_empty(), "the same is no change");
    pipeline.judge_by(stricter());
    let idle = pipeline.flush_idle_snapshots(&Positions::new()).unwrap();
    assert!(!idle.outbox.state.is_empty(), "without a record, too");
    let (changed, _) = work(&mut pipeline, &[(3, "a", 30, CALM)]);
    assert!(!changed.state.is_empty());
    assert!(
        work(&mut pipeline, &[(4, "a", 40, CALM)])
            .0
            .state
            .is_empty()
    );
}

#[test]
fn replay_goes_by_what_judged_then_whatever_is_configured_now() {
    let (mut calm, state) = told();
    let rest: &[Row<'_>] = &[(3, "a", 30, ODD), (4, "a", 40, CALM)];
    for now in [params(), params().with_alerts(stricter())] {
        let mut again = pipeline(now, Missing::Mask);
        again.promote(model(1, 1)).unwrap();
        let found = again.assign(&assignment(3, state.clone()), Some(model(1, 1)));
        assert_eq!(found.unwrap().read_from, Offset(1));
        // The first was the calm record: were the second judged by the budget of before, it would have opened, and would close now.
        again.apply(stage(&again, &[(1, "a", 10, CALM), (2, "a", 20, ODD)]));
        assert_eq!((again.episodes_open(), again.replaying()), (0, 0));
        again.judge_by(stricter());
        assert_eq!(
            work(&mut again, rest).0.alerts,
            stage(&calm, rest).outbox.alerts
        );
    }
    work(&mut calm, rest);
}

#[test]
fn after_the_replay_what_is_configured_now_judges_from_a_snapshot_on() {
    let (_, state) = told();
    let mut again = ready(params(), 1);
    again
        .assign(&assignment(3, state), Some(model(1, 1)))
        .unwrap();
    again.apply(stage(&again, &[(1, "a", 10, CALM), (2, "a", 20, ODD)]));
    let (outbox, _) = work(&mut again, &[(3, "a", 30, ODD)]);
    assert_eq!(outbox.alerts[0].event, AlertEvent::Open);
    assert!(outbox.state.iter().any(|e| e.key.ends_with(b"/head")));
}

#[test]
fn keys_fall_silent_by_the_factor_of_now() {
    let quiet = params();
    let mut pipeline = ready(quiet.clone(), 1);
    let spoken: Vec<Row<'_>> = (0..40)
        .map(|i| (i, if i < 20 { "a" } else { "b" }, i * 10_000, CALM))
        .collect();
    let (outbox, _) = work(&mut pipeline, &spoken);
    assert!(outbox.alerts.is_empty(), "silence is off");
    let on = |silence_factor| AlertParams {
        silence_factor,
        ..quiet.alerts()
    };
    pipeline.judge_by(on(3.0));
    let staged = stage(&pipeline, &[(40, "b", 400_000, CALM)]);
    let of: Vec<_> = staged
        .outbox
        .alerts
        .iter()
        .map(|a| (&*a.key.0, a.threshold))
        .collect();
    assert_eq!(
        of,
        [("a", 3.0)],
        "its last was 210 s ago, its gaps are 10 s"
    );
    // Aborted: nothing was changed. And with a factor that is too large for it, nothing is told, now or with the record after.
    pipeline.judge_by(on(50.0));
    for row in [(40, "b", 400_000, CALM), (41, "b", 410_000, CALM)] {
        let (outbox, _) = work(&mut pipeline, &[row]);
        assert!(outbox.alerts.is_empty(), "{:?}", outbox.alerts);
    }
    pipeline.judge_by(on(3.0));
    let (outbox, _) = work(&mut pipeline, &[(42, "b", 420_000, CALM)]);
    assert_eq!(outbox.alerts.len(), 1);
    pipeline.judge_by(on(0.0));
    let (outbox, _) = work(&mut pipeline, &[(43, "a", 430_000, CALM)]);
    assert_eq!(
        outbox.alerts[0].event,
        AlertEvent::Close,
        "what is silent is so until it speaks"
    );
}
