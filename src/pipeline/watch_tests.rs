//! What people who watch are shown.

use super::tests::{CALM, Row, WILD, assignment, model, params, pipeline, stage};
use super::*;

fn watching(watching: Watching) -> Pipeline {
    let mut pipeline = pipeline(params(), Missing::Mask).watching(watching);
    pipeline.promote(model(1, 1)).unwrap();
    pipeline.assign(&assignment(0, Vec::new()), None).unwrap();
    pipeline
}

/// So many records of ten keys in turn.
fn records(n: i64, keys: &[String]) -> Vec<Row<'_>> {
    let key = |i: i64| keys[usize::try_from(i % 10).unwrap()].as_str();
    (0..n).map(|i| (i, key(i), 1000 * i, CALM)).collect()
}

#[test]
fn the_sample_comes_from_all_over_the_batch_and_some_of_it_is_explained() {
    let keys: Vec<String> = (0..10).map(|key| format!("k{key}")).collect();
    let staged = stage(&watching(Watching::Explained), &records(1000, &keys));
    let places: Vec<usize> = staged.watched.iter().map(|seen| seen.record).collect();
    assert!((25..=32).contains(&places.len()), "{places:?}");
    assert!(places[0] < 40 && 960 <= *places.last().unwrap());
    let explained: Vec<&Watched> = staged
        .watched
        .iter()
        .filter(|w| !w.row.is_empty())
        .collect();
    assert!((4..=8).contains(&explained.len()), "{}", explained.len());
    for seen in explained {
        assert_eq!(seen.row, CALM);
        // The model of the tests expects nothing but zeros.
        assert_eq!(
            seen.expected,
            model(1, 1).explain_of("k0", CALM, 0).expected
        );
    }
    // Of few records all are.
    let staged = stage(&watching(Watching::Explained), &records(8, &keys));
    assert!(staged.watched.iter().all(|seen| seen.expected.len() == 2));
    assert_eq!(staged.watched.len(), 8);
}

#[test]
fn what_lies_in_an_episode_is_always_shown_and_what_is_not_asked_for_is_not_worked_out() {
    let keys: Vec<String> = (0..10).map(|key| format!("k{key}")).collect();
    let mut rows = records(1000, &keys);
    for row in rows.iter_mut().skip(500).filter(|row| row.1 == "k3") {
        row.3 = WILD;
    }
    let staged = stage(&watching(Watching::Sample), &rows);
    let alerting = staged.watched.iter().filter(|seen| seen.alert).count();
    assert_eq!(alerting, 50);
    // Evidence and what opens an episode are told of each.
    for seen in &staged.watched {
        let opens = seen.evidence_threshold;
        assert!(opens > 1.0, "{seen:?}");
        assert!(seen.alert || seen.evidence < opens, "{seen:?}");
    }
    let strongest = |seen: &&Watched| seen.alert && seen.evidence >= seen.evidence_threshold;
    assert!(staged.watched.iter().any(|seen| strongest(&seen)));
    assert!(
        staged
            .watched
            .iter()
            .all(|seen| seen.row.is_empty() && seen.expected.is_empty())
    );
    let all = stage(&watching(Watching::All), &rows);
    assert_eq!(all.watched.len(), 1000);
    assert!(
        all.watched
            .iter()
            .all(|seen| seen.window.len() == 2 && seen.row.is_empty())
    );
}

#[test]
fn without_a_model_the_key_s_own_past_is_what_was_expected() {
    let mut pipeline = pipeline(params(), Missing::Mask).watching(Watching::Explained);
    pipeline.assign(&assignment(0, Vec::new()), None).unwrap();
    let keys: Vec<String> = (0..10).map(|_| "k".to_owned()).collect();
    for row in records(60, &keys) {
        let staged = stage(&pipeline, &[row]);
        pipeline.apply(staged);
    }
    let staged = stage(&pipeline, &[(60, "k", 60_000, CALM)]);
    assert_eq!(staged.watched[0].expected, CALM);
}
