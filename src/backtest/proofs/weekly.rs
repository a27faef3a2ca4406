//! What a week does by the clock is no fault, and what it fails to do is.

use super::world::{FEATURES, Machine, Rows, timed};
use super::{MINUTE, lived};
use crate::seed::Seed;
use crate::time::Timestamp;
use crate::tools::table::Table;

const KEYS: usize = 2;
/// 2026-06-01, a Monday, at midnight.
const MONDAY: i64 = 1_780_272_000_000;
const DAY: i64 = 1440 * MINUTE;
/// Weeks of history, and all; the last Monday's start is missing.
const WEEKS: (i64, i64) = (4, 7);
/// Hours from and to which work is done from Monday to Friday.
const WORK: (i64, i64) = (6, 18);
/// What work adds to each feature, in its spreads.
const LEVELS: [f64; FEATURES] = [8.0, -6.0, 5.0, 10.0, -4.0, 6.0];

/// Whether there is work at `time`.
fn at_work(time: i64) -> bool {
    let (day, hour) = ((time - MONDAY) / DAY, (time - MONDAY) % DAY / (60 * MINUTE));
    day % 7 < 5 && (WORK.0..WORK.1).contains(&hour)
}

/// Whether `time` lies in the three hours after a Monday's start, and in which week.
fn monday_start(time: i64) -> Option<i64> {
    let (week, of_week) = ((time - MONDAY) / (7 * DAY), (time - MONDAY) % (7 * DAY));
    let hour = of_week / (60 * MINUTE);
    (WORK.0..WORK.0 + 3).contains(&hour).then_some(week)
}

/// Machines that work by the clock, a record every `step`; key 0 does not on the last Monday.
fn week_after_week(step: i64, seed: Seed) -> Table {
    let mut machines: Vec<Machine> = (0..KEYS as u64)
        .map(|key| Machine::new(seed.child("machine").nth(key)))
        .collect();
    let mut rows = Rows::new(FEATURES);
    for i in 0..WEEKS.1 * 7 * DAY / step {
        let time = MONDAY + i * step;
        let last_monday = time - MONDAY >= (WEEKS.1 - 1) * 7 * DAY
            && time - MONDAY < ((WEEKS.1 - 1) * 7 + 1) * DAY;
        for (key, machine) in machines.iter_mut().enumerate() {
            let mut record = machine.next();
            if at_work(time) && !(key == 0 && last_monday) {
                for (value, level) in record.iter_mut().zip(LEVELS) {
                    *value += level;
                }
            }
            rows.push(&format!("m{key}"), time + key as i64, &record);
        }
    }
    rows.table
}

/// Of ordinary starts of a week, those in episodes and all; and whether the missing one is.
fn starts(table: &Table, step: i64, set: &[&str]) -> (usize, usize, bool) {
    let history = (WEEKS.0 * 7 * DAY / step) as usize * KEYS;
    let whole = ["training.history=28d", "training.interval=7d"];
    let outcome = lived(&[&whole, set].concat(), table, history);
    for trained in outcome.models.iter().filter(|trained| !trained.promoted) {
        println!("not promoted: {}", trained.verdict);
    }
    let alerts = |key: usize, week: i64| {
        (history..table.len())
            .filter(|row| row % KEYS == key && monday_start(table.times[*row].0) == Some(week))
            .any(|row| outcome.lines[row].alert)
    };
    let ordinary: Vec<(usize, i64)> = (0..KEYS)
        .flat_map(|key| (WEEKS.0..WEEKS.1).map(move |week| (key, week)))
        .filter(|start| *start != (0, WEEKS.1 - 1))
        .collect();
    let alerted = ordinary.iter().filter(|(key, week)| alerts(*key, *week));
    (alerted.count(), ordinary.len(), alerts(0, WEEKS.1 - 1))
}

/// Ordinary starts in episodes, all, and missing ones found, over `seeds`.
fn over_seeds(step: i64, seeds: u64, calendar: bool, set: &[&str]) -> (usize, usize, usize) {
    let (mut alerted, mut all, mut found) = (0, 0, 0);
    for seed in 0..seeds {
        let table = week_after_week(step, Seed(seed));
        let table = if calendar { timed(table) } else { table };
        let (a, b, c) = starts(&table, step, set);
        (alerted, all, found) = (alerted + a, all + b, found + usize::from(c));
    }
    println!(
        "a record every {} min, calendar {calendar}, {set:?}: {alerted} of {all} ordinary starts of a week in episodes, {found} of {seeds} missing ones found",
        step / MINUTE
    );
    (alerted, all, found)
}

/// Worlds that the plain defaults are tried in.
const SEEDS: u64 = 10;

#[test]
fn proof_a_week_that_begins_is_no_fault_and_one_that_does_not_is() {
    let set = ["model.kind=pca", "model.window=1"];
    let (alerted, _, found) = over_seeds(60 * MINUTE, 1, true, &set);
    assert_eq!((alerted, found), (0, 1));
    // Without the calendar the missing one looks like any night.
    assert_eq!(over_seeds(60 * MINUTE, 1, false, &set).2, 0);
}

/// The budget alone, an opening a week, lets expect an episode in one of sixty of these stretches of three hours.
#[test]
#[ignore = "minutes: make proofs"]
fn proof_weeks_begin_and_do_not_under_plain_defaults() {
    for step in [10 * MINUTE, 60 * MINUTE] {
        over_seeds(step, SEEDS, false, &[]);
        let (alerted, all, found) = over_seeds(step, SEEDS, true, &[]);
        // What does not hold yet (docs/learning.md): of hourly records a window of ten spans the night before, and 6 of 50 starts alert.
        let share = if step == 10 * MINUTE { 10 } else { 5 };
        assert!(
            share * alerted <= all && found == SEEDS as usize,
            "{step} {alerted} {found}"
        );
    }
}

#[test]
fn the_first_day_is_a_monday() {
    let calendar = super::world::utc();
    let hour = crate::record::calendar::Hour::of(calendar.value(Timestamp(MONDAY))).unwrap();
    assert_eq!((hour.weekday, hour.hour), (0, 0));
}
