//! A single feature, whose cycle is none of the day's: its season knows nothing of it, the model of windows does.

use super::lived;
use crate::alert::AlertEvent;
use crate::backtest::tests::table;
use crate::seed::Seed;
use crate::tools::table::{Roles, Table};

/// Records, a second apart, of which the first half is the history of the first model; the faults begin at [`FAULT`] and last for [`LENGTH`].
const RECORDS: usize = 8000;
const FAULT: usize = 6000;
const LENGTH: usize = 200;

/// A cycle of 37 records with noise, and what `fault` makes of each value, the one that it began with, and chance.
fn cycle(seed: Seed, fault: fn(f64, f64, f64) -> f64) -> Table {
    let mut rng = seed.rng();
    let mut text = "value\n".to_owned();
    let mut first = None;
    for i in 0..RECORDS {
        let turn = std::f64::consts::TAU * i as f64 / 37.0;
        let mut value = 50.0 + 10.0 * turn.sin() + super::world::normal(&mut rng);
        if (FAULT..FAULT + LENGTH).contains(&i) {
            let held = *first.get_or_insert(value);
            value = fault(value, held, super::world::normal(&mut rng));
        }
        text.push_str(&format!("{value}\n"));
    }
    table(&text, &Roles::default())
}

/// Share of the fault's records in an episode, how many episodes opened before, and for how many records what opened it stood still.
fn told(seed: Seed, fault: fn(f64, f64, f64) -> f64) -> (f64, usize, Option<u32>) {
    let table = cycle(seed, fault);
    let outcome = lived(&["training.interval=1d"], &table, RECORDS / 2);
    let rows = FAULT..FAULT + LENGTH;
    let covered = rows.clone().filter(|&row| outcome.lines[row].alert).count();
    let opened = |from: usize, to: usize| {
        let opened = outcome.alerts.iter();
        opened
            .filter(move |(row, alert)| (from..to).contains(row) && alert.event == AlertEvent::Open)
    };
    let still =
        opened(FAULT, FAULT + LENGTH).find_map(|(_, alert)| alert.relevant_attribution[0].still);
    (
        covered as f64 / LENGTH as f64,
        opened(0, FAULT).count(),
        still,
    )
}

#[test]
fn proof_a_single_feature_that_stands_still_is_told_though_its_season_sees_nothing() {
    let (covered, before, still) = told(Seed(1), |_, held, _| held);
    println!("stands still: {covered:.2} covered, {before} opened before");
    assert!(covered > 0.8 && before == 0, "{covered} {before}");
    assert!(still.is_some_and(|records| records >= 3), "{still:?}");
}

#[test]
fn proof_noise_on_a_single_feature_is_told_though_its_season_sees_nothing() {
    let (covered, before, _) = told(Seed(2), |value, _, chance| value + 5.0 * chance);
    println!("wild: {covered:.2} covered, {before} opened before");
    assert!(covered > 0.8 && before == 0, "{covered} {before}");
}
