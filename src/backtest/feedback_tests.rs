//! What feedback is worth, by simulation.

#![expect(clippy::print_stdout, reason = "a proof shows its figures")]

use rand::Rng as _;
use rand_distr::StandardNormal;

use super::evaluate::{Outcome, Warmup, backtest_with};
use super::feedback::Script;
use super::tests::{config, table};
use crate::alert::AlertEvent;
use crate::tools::table::{Roles, Table};

/// Rows between two things that happen, and how many rows they last.
const EVERY: usize = 900;
const LASTS: usize = 8;
const WARMUP: usize = 1200;
const EVENTS: usize = 60;

/// What happens: `true` is the harmless pattern, `false` one of several faults.
fn is_harmless(event: usize) -> bool {
    event.is_multiple_of(3)
}

/// Four features of one cause, noise of 0.3 each. Every so often the first is high for a while, which is harmless; else some other deviation.
fn simulated(seed: u64) -> Table {
    let mut random = crate::seed::Seed(seed).rng();
    let mut noise = || random.sample::<f64, _>(StandardNormal);
    let mut text = String::from("a,b,c,d\n");
    for row in 0..WARMUP + EVENTS * EVERY {
        let cause = noise();
        let mut values = [(); 4].map(|()| cause + 0.3 * noise());
        if let Some(since) = row.checked_sub(WARMUP)
            && since % EVERY >= EVERY - LASTS
        {
            let event = since / EVERY;
            if is_harmless(event) {
                values[0] += 3.0;
            } else {
                // Also the same feature in the other direction, and the same with another.
                match event % 5 {
                    0 => values[0] -= 3.0,
                    1 => values[1] += 3.0,
                    2 => values[2] -= 3.0,
                    3 => (values[0], values[3]) = (values[0] + 3.0, values[3] - 3.0),
                    _ => values[0] += 6.0,
                }
            }
        }
        text += &format!("{},{},{},{}\n", values[0], values[1], values[2], values[3]);
    }
    table(&text, &Roles::default())
}

fn run(table: &Table, set: &[&str], feedback: &str) -> Outcome {
    let mut all = vec!["training.every_records=1000000", "model.window=1"];
    all.extend(set);
    let mut watch = super::evaluate::Watch {
        rows: &|_| {},
        monitor: &mut crate::model::Unwatched,
    };
    let script = Script::parse("feedback.jsonl", feedback, table).unwrap();
    let warmup = Warmup::from(WARMUP);
    backtest_with(&config(&all), table, (warmup, script), &mut watch).unwrap()
}

/// Events in which somebody was told of something: harmless ones after the first, and faults.
fn told(outcome: &Outcome) -> (usize, usize) {
    let told_of = |event: usize| {
        let first = WARMUP + event * EVERY + EVERY - LASTS;
        outcome.alerts.iter().any(|(row, alert)| {
            alert.event == AlertEvent::Open && (first..first + LASTS).contains(row)
        })
    };
    let of = |harmless: bool| {
        let events = (1..EVENTS).filter(|&event| is_harmless(event) == harmless);
        events.filter(|&event| told_of(event)).count()
    };
    (of(true), of(false))
}

fn dismiss(outcome: &Outcome, table: &Table) -> String {
    let (_, first) = outcome
        .alerts
        .iter()
        .find(|(row, _)| *row >= WARMUP + EVERY - LASTS)
        .unwrap();
    let at = table.times[WARMUP + EVERY + 20].rfc3339();
    format!(
        "{{\"feedback\":\"false_positive\",\"episode\":\"{}\",\"at\":\"{at}\"}}\n",
        first.id
    )
}

#[test]
fn proof_one_dismissal_holds_repeats_back_and_costs_no_other_fault() {
    let (mut before, mut after) = ((0, 0), (0, 0));
    for seed in 1..=3 {
        let table = simulated(seed);
        let plain = run(&table, &[], "");
        let script = dismiss(&plain, &table);
        let with = run(&table, &[], &script);
        assert_eq!((with.feedback.statements, with.feedback.unknown), (1, 0));
        // The same in batches of any size.
        let small = run(&table, &["batch.records_max=7"], &script);
        assert!(small.alerts == with.alerts && small.feedback == with.feedback);
        let add = |sum: &mut (usize, usize), more: (usize, usize)| {
            *sum = (sum.0 + more.0, sum.1 + more.1);
        };
        add(&mut before, told(&plain));
        add(&mut after, told(&with));
    }
    let count = |harmless| {
        3 * (1..EVENTS)
            .filter(|&event| is_harmless(event) == harmless)
            .count()
    };
    let (repeats, faults) = (count(true), count(false));
    println!(
        "harmless repeats (of {repeats}) and faults (of {faults}) told of: {before:?}, after one dismissal a stream {after:?}"
    );
    assert!(before.0 * 10 >= 9 * repeats, "{before:?}");
    assert!(after.0 * 10 <= before.0, "{before:?} {after:?}");
    assert!(before.1 * 20 >= 17 * faults, "{before:?}");
    assert!(
        before.1.saturating_sub(after.1) * 100 <= faults,
        "{before:?} {after:?}"
    );
}

#[test]
fn what_is_taken_back_is_told_again_and_what_is_unknown_is_counted() {
    let table = simulated(4);
    let plain = run(&table, &[], "");
    let script = dismiss(&plain, &table);
    let half = table.times[WARMUP + EVENTS / 2 * EVERY].rfc3339();
    let undone = script.replace("false_positive", "undo");
    let at = script.find("\"at\"").unwrap();
    let undone = format!(
        "{}\"at\":\"{half}\"}}\n",
        &undone[..undone.find("\"at\"").unwrap()]
    );
    let all = run(&table, &[], &script);
    let some = run(&table, &[], &format!("{script}{undone}"));
    assert!(
        some.feedback.held_back > 0 && some.feedback.held_back * 3 < all.feedback.held_back * 2
    );
    let unknown = run(
        &table,
        &[],
        &format!("{}\"at\":\"{half}\"}}", &script[..at].replace('/', "-")),
    );
    assert_eq!(
        (unknown.feedback.unknown, unknown.feedback.held_back),
        (1, 0)
    );
    assert_eq!(unknown.alerts, plain.alerts);
    // Without its time nobody knows when it was said.
    let error =
        Script::parse("f", &format!("\n{}\"at\":null}}", &script[..at]), &table).unwrap_err();
    assert!(
        error.to_string().contains("f, line 2: `at` is missing"),
        "{error}"
    );
}

/// A release at this row moves the first of [`simulated`]'s features for good; later there is a fault.
const RELEASE: usize = WARMUP + 500;
const FAULT: usize = RELEASE + 1500;

fn released() -> Table {
    let mut random = crate::seed::Seed(9).rng();
    let mut noise = || random.sample::<f64, _>(StandardNormal);
    let mut text = String::from("a,b,c,d\n");
    for row in 0..FAULT + 500 {
        let cause = noise();
        let mut values = [(); 4].map(|()| cause + 0.3 * noise());
        values[0] += if row >= RELEASE { 6.0 } else { 0.0 };
        // As before the release, for a while.
        values[0] -= if (FAULT..FAULT + LASTS).contains(&row) {
            6.0
        } else {
            0.0
        };
        text += &format!("{},{},{},{}\n", values[0], values[1], values[2], values[3]);
    }
    table(&text, &Roles::default())
}

#[test]
fn what_is_normal_from_now_on_is_learnt_at_once_and_the_episode_is_over() {
    let table = released();
    let opened_at = |outcome: &Outcome| -> Vec<usize> {
        let opened = |(row, alert): &&(usize, crate::alert::Alert)| {
            *row >= RELEASE && alert.event == AlertEvent::Open && alert.within.is_none()
        };
        outcome
            .alerts
            .iter()
            .filter(opened)
            .map(|(row, _)| *row)
            .collect()
    };
    let plain = run(&table, &[], "");
    let lasts = |outcome: &Outcome| {
        (RELEASE..FAULT)
            .filter(|&row| outcome.lines[row].alert)
            .count()
    };
    let before = opened_at(&plain).iter().filter(|row| **row < FAULT).count();
    assert_eq!((plain.models.len(), before), (1, 1));
    assert!(lasts(&plain) > 1450, "{}", lasts(&plain));
    let (_, first) = plain
        .alerts
        .iter()
        .find(|(row, _)| *row >= RELEASE)
        .unwrap();
    let said = RELEASE + 100;
    let at = table.times[said - 1].rfc3339();
    let script = format!(
        "{{\"feedback\":\"new_normal\",\"episode\":\"{}\",\"at\":\"{at}\"}}\n",
        first.id
    );
    for size in ["batch.records_max=7", "batch.records_max=500"] {
        let found = run(&table, &[size], &script);
        let rows: Vec<usize> = found.models.iter().map(|model| model.row).collect();
        assert_eq!(rows, [WARMUP, said]);
        assert!(found.models[1].promoted, "{}", found.models[1].verdict);
        assert!(lasts(&found) < 140, "{}", lasts(&found));
        // What was normal before is a fault now.
        let opened = opened_at(&found);
        let faulty = |row: &usize| (FAULT..FAULT + LASTS).contains(row);
        assert_eq!(opened.into_iter().filter(faulty).count(), 1);
    }
}
