//! Faults that last are not learnt.

use super::world::{Fault, machines};
use super::{MINUTE, lived};
use crate::backtest::evaluate::Outcome;
use crate::seed::Seed;

/// A record every five minutes.
const STEP: i64 = 5 * MINUTE;
const DAY: usize = 288;
const KEYS: usize = 4;
/// Days of history before the fault begins.
const BEFORE: usize = 4;

/// Share of key 0's records of a day in an episode.
fn covered(outcome: &Outcome, day: usize) -> f64 {
    let rows = (day * DAY..(day + 1) * DAY).map(|i| i * KEYS);
    rows.filter(|&row| outcome.lines[row].alert).count() as f64 / DAY as f64
}

/// Mean surprise −ln p, by the model alone, of the records of a key on a day: about 1 where nothing is wrong.
fn surprise(outcome: &Outcome, key: usize, day: usize) -> f64 {
    let rows = (day * DAY..(day + 1) * DAY).map(|i| i * KEYS + key);
    let p = rows.filter_map(|row| outcome.lines[row].by_model);
    p.map(crate::stats::evidence::surprise).sum::<f64>() / DAY as f64
}

/// Whether a fault of seven days is open on its seventh, with a training a day.
fn open_on_day_seven(set: &[&str], fault: Fault, seed: Seed) -> bool {
    let records = (BEFORE + 7) * DAY;
    let table = machines(KEYS, (records, STEP), (fault, BEFORE * DAY..records), seed);
    let set = [&["training.interval=1d"], set].concat();
    let outcome = lived(&set, &table, (BEFORE - 1) * DAY * KEYS);
    let days = BEFORE..BEFORE + 7;
    let covered: Vec<f64> = days.clone().map(|day| covered(&outcome, day)).collect();
    let struck: Vec<f64> = days.clone().map(|day| surprise(&outcome, 0, day)).collect();
    let others = surprise(&outcome, 1, BEFORE);
    println!(
        "{fault:?} {set:?}: covered by day {covered:.2?}; mean surprise by day {struck:.2?}, of another key {others:.2}"
    );
    covered[6] > 0.0
}

/// How many of three are open on the seventh day, for each of [`Fault::LASTING`].
fn open_of_three(set: &[&str]) -> [usize; Fault::LASTING.len()] {
    Fault::LASTING.map(|fault| {
        let open = (0..3).filter(|&seed| open_on_day_seven(set, fault, Seed(seed)));
        let open = open.count();
        println!("{fault:?}: {open} of 3 open on the seventh day");
        open
    })
}

#[test]
fn proof_noise_of_seven_days_is_open_on_the_seventh() {
    let set = ["model.kind=pca", "model.window=5"];
    assert!(open_on_day_seven(&set, Fault::Noise(1.0), Seed(0)));
}

/// Wanted: 3 of 3 each. What does not hold yet is printed, and stands in docs/learning.md.
#[test]
#[ignore = "minutes: make proofs"]
fn proof_weak_faults_of_seven_days_are_open_on_the_seventh() {
    let [offset, small, stuck, noise] = open_of_three(&[]);
    assert_eq!([offset, stuck, noise], [3, 3, 3]);
    assert!(small >= 2, "{small}");
}
