//! A group that begins at the end of a log with days of history: one feature, judged by what its keys do at each time of day.

use anomalyd::seed::Seed;
use anomalyd::time::{Clock, SystemClock};
use rand::Rng;

use crate::binary::{self, NO_TRAINING, PARTITIONS};
use crate::cluster::{self, Record};
use crate::daemon::Site;

/// Five minutes between two records of a key, in milliseconds; so many are a day.
const STEP: i64 = 300_000;
const DAY: i64 = 288;
/// Records of each key that lie in the log when the group begins, and those of the fault that follows.
const HISTORY: i64 = 4 * DAY;
const FAULT: std::ops::Range<i64> = HISTORY + 10..HISTORY + 70;

/// The loads of a key on each partition: high at noon, noisy. That of partition 1 is 40 lower for five hours.
fn records(began: i64, rows: std::ops::Range<i64>) -> Vec<Record> {
    let record = |row: i64, partition: i32| {
        let turn = std::f64::consts::TAU * row as f64 / DAY as f64;
        let seed = Seed(5).nth(partition as u64).nth(row as u64);
        let fault = if partition == 1 && FAULT.contains(&row) {
            40.0
        } else {
            0.0
        };
        let load = 100.0 - 10.0 * turn.cos() + seed.rng().gen_range(-1.0..1.0) - fault;
        (
            Some(partition),
            Some(format!("pump-{partition}").into_bytes()),
            Some(format!(r#"{{"load":{load}}}"#).into_bytes()),
            Some(began + row * STEP),
        )
    };
    rows.flat_map(|row| (0..PARTITIONS).map(move |partition| record(row, partition)))
        .collect()
}

#[test]
fn a_new_group_knows_the_seasons_of_the_history() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let site = Site::new(brokers, "seasons", PARTITIONS, &["load"]);
    let set = [
        NO_TRAINING,
        "input.start=latest",
        "model.kind=auto",
        "alerts.false_alarm_rate=1/day",
    ];
    let start = binary::start("g", &set);
    site.create_topics(start);
    let began = SystemClock::default().now().0 - (HISTORY + DAY) * STEP;
    // The marker of the transaction is the last offset before the beginning: no record comes there.
    let history = records(began, 0..HISTORY);
    cluster::produce_in_transaction(brokers, &site.input(), history, true);
    let mut daemon = site.run(start);
    // Once it has learnt.
    daemon.wait_until_ready();
    let learnt = (HISTORY * i64::from(PARTITIONS)) as u64;
    assert_eq!(daemon.metric("anomalyd_records_replayed_total"), learnt);
    assert_eq!(daemon.metric("anomalyd_records_consumed_total"), 0);
    assert!(daemon.log().contains("learns what its keys do"));
    // It dies before anything was saved but where it begins.
    daemon.kill();
    binary::feed(&site, records(began, HISTORY..HISTORY + 40));
    let mut daemon = site.run(start);
    // One more than there are records: the marker.
    let behind = |row: i64| (row + 1) as usize * PARTITIONS as usize;
    binary::wait_until_consumed(&site, "g", behind(HISTORY + 40), &mut [&mut daemon]);
    daemon.kill();
    binary::feed(&site, records(began, HISTORY + 40..HISTORY + 120));
    let mut daemon = site.run(start);
    binary::wait_until_consumed(&site, "g", behind(HISTORY + 120), &mut [&mut daemon]);
    assert!(daemon.terminate().0.success());

    let row = |alert: &serde_json::Value| alert["input"]["offset"].as_i64().unwrap() - 1;
    let alerts: Vec<serde_json::Value> =
        cluster::read_committed(brokers, &site.output("g", "alerts"))
            .iter()
            .map(|seen| serde_json::from_str(&seen.text()).unwrap())
            .filter(|alert: &serde_json::Value| alert["event"] != "update")
            .collect();
    let [opened, closed] = &alerts[..] else {
        panic!("{alerts:?}");
    };
    assert_eq!(opened["key"], "pump-1");
    assert_eq!(
        (&opened["event"], row(opened)),
        (&"open".into(), FAULT.start)
    );
    assert_eq!(closed["event"], "close");
    assert!(row(closed) >= FAULT.end, "{closed}");
    let scores = cluster::read_committed(brokers, &site.output("g", "scores"));
    assert_eq!(scores.len(), 120 * PARTITIONS as usize, "each once");
}
