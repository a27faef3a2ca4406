//! Features that records cease to have are told, each once, and what is remembered of them survives a takeover.

use super::tests::{assignment, events, model, params, ready, work};
use super::*;
use crate::alert::{AlertEvent, AlertKind};
use std::time::Duration;

const WHOLE: &[f64] = &[0.1, 0.2];
const GONE: &[f64] = &[0.1, f64::NAN];

fn watching() -> Params {
    Params {
        silence_factor: 5.0,
        silence_min: Duration::from_secs(3),
        emit_scores: false,
        ..params()
    }
}

fn rows(
    from: i64,
    to: i64,
    values: &'static [f64],
) -> Vec<(i64, &'static str, i64, &'static [f64])> {
    (from..to).map(|at| (at, "k", 1000 * at, values)).collect()
}

#[test]
fn a_feature_that_goes_is_told_and_that_it_is_back() {
    let mut pipeline = ready(watching(), 1);
    assert_eq!(events(&work(&mut pipeline, &rows(0, 100, WHOLE)).0), []);
    let (outbox, tally) = work(&mut pipeline, &rows(100, 120, GONE));
    let id = "test/in/3/100-absence".to_owned();
    assert_eq!(events(&outbox), [(id.clone(), AlertEvent::Open)]);
    assert_eq!((tally.opened, tally.scored), (1, 20));
    let alert = &outbox.alerts[0];
    assert_eq!((alert.kind, alert.records), (AlertKind::Silence, 6));
    let blamed = &alert.relevant_attribution[0];
    assert_eq!((blamed.feature.as_str(), blamed.actual), ("y", None));
    assert!((blamed.share - 1.0).abs() < 1e-12);
    let open = pipeline.open(10);
    assert_eq!((open.len(), open[0].id.to_string()), (1, id.clone()));

    let (outbox, tally) = work(&mut pipeline, &rows(120, 140, WHOLE));
    assert_eq!(events(&outbox), [(id, AlertEvent::Close)]);
    assert_eq!(tally.closed, 1);
    // For as long as that it may be gone again.
    assert_eq!(events(&work(&mut pipeline, &rows(140, 190, GONE)).0), []);
}

#[test]
fn what_is_told_of_a_feature_is_not_told_again_by_who_takes_over() {
    let mut calm = ready(watching(), 1);
    let all: Vec<_> = rows(0, 100, WHOLE)
        .into_iter()
        .chain(rows(100, 120, GONE))
        .collect();
    let mut told = events(&work(&mut calm, &all).0);
    told.extend(events(&work(&mut calm, &rows(120, 125, WHOLE)).0));

    let saving = Params {
        snapshot_records: 1,
        ..watching()
    };
    let mut first = ready(saving.clone(), 1);
    let mut entries = std::collections::BTreeMap::new();
    let mut found = Vec::new();
    for part in all.chunks(7) {
        let (outbox, _) = work(&mut first, part);
        found.extend(events(&outbox));
        entries.extend(
            outbox
                .state
                .into_iter()
                .map(|entry| (entry.key.clone(), entry)),
        );
    }
    let mut second = ready(saving, 1);
    second.revoke(&super::tests::at());
    let entries: Vec<_> = entries.into_values().collect();
    let assigned = second
        .assign(&assignment(120, entries), Some(model(1, 1)))
        .unwrap();
    assert_eq!(assigned.discarded, None);
    // What was not saved yet is read again, and told nothing of.
    let again = &all[assigned.read_from.0 as usize..];
    found.extend(events(&work(&mut second, again).0));
    assert_eq!(second.open(10).len(), 1);
    found.extend(events(&work(&mut second, &rows(120, 125, WHOLE)).0));
    assert_eq!(found, told);
}

#[test]
fn how_sure_that_is_does_not_depend_on_how_the_stream_was_cut() {
    let all: Vec<_> = rows(0, 100, WHOLE)
        .into_iter()
        .chain(rows(100, 120, GONE))
        .collect();
    let told = |size: usize| {
        let mut pipeline = ready(watching(), 1);
        let parts = all
            .chunks(size)
            .flat_map(|part| work(&mut pipeline, part).0.alerts);
        parts.collect::<Vec<_>>()
    };
    let whole = told(120);
    assert!((whole[0].p_value - 1.0 / 101.0).abs() < 1e-12);
    for size in [1, 7, 50] {
        assert_eq!(told(size), whole, "in parts of {size}");
    }
}

#[test]
fn a_storm_of_absences_is_one_alert() {
    let few = Params {
        storm_opens_max: 2,
        ..watching()
    };
    let mut pipeline = ready(few, 1);
    let names = ["a", "b", "c", "d", "e"];
    let all = |from: i64, to: i64, values: &'static [f64]| -> Vec<_> {
        (from..to)
            .flat_map(|at| {
                (0..5).map(move |key| (5 * at + key as i64, names[key], 1000 * at, values))
            })
            .collect()
    };
    work(&mut pipeline, &all(0, 100, WHOLE));
    let (outbox, _) = work(&mut pipeline, &all(100, 120, GONE));
    let kinds: Vec<AlertKind> = outbox.alerts.iter().map(|alert| alert.kind).collect();
    assert_eq!(
        kinds,
        [AlertKind::Silence, AlertKind::Silence, AlertKind::Storm]
    );
    // Those that were not told to have gone are not told to be back.
    let (outbox, _) = work(&mut pipeline, &all(120, 122, WHOLE));
    let back = outbox
        .alerts
        .iter()
        .filter(|alert| alert.event == AlertEvent::Close);
    assert_eq!(
        back.filter(|alert| alert.kind == AlertKind::Silence)
            .count(),
        2
    );
}
